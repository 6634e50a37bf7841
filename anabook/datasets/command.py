"""What `anabook data` may be told of images of one's own."""

from __future__ import annotations

import argparse
from typing import Any

from anabook.datasets.folders import COLOURS

_OPTIONS = ("size", "colour", "test_fraction", "validation_fraction", "seed", "skip_broken")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options, which are arguments of `folders.from_folder`.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_options(parser)
        >>> given(parser.parse_args(["--size", "32x48", "--skip-broken"]))
        {'size': (32, 48), 'skip_broken': True}
    """
    own = parser.add_argument_group(
        "for images of your own, in a folder for each class, with or without train/ and test/ around"
    )
    own.add_argument("--size", type=_sides, metavar="N or HxW", help="make all images of this size (as they are)")
    own.add_argument("--colour", choices=COLOURS, help="make all images grey, or red, green and blue (as they are)")
    own.add_argument("--test-fraction", type=float, metavar="X", help="of each class, to test on (0.2; with train/ none)")
    own.add_argument("--validation-fraction", type=float, metavar="X", help="of each class, for a validation part (none)")
    own.add_argument("--seed", type=int, metavar="N", help="of the split (0)")
    own.add_argument("--skip-broken", action="store_const", const=True, help="leave out images that cannot be read")


def given(arguments: argparse.Namespace) -> dict[str, Any]:
    """Those options that were given."""
    return {name: value for name in _OPTIONS if (value := getattr(arguments, name)) is not None}


def _sides(text: str) -> int | tuple[int, int]:
    """A side, or height and width."""
    height, x, width = text.lower().replace("×", "x").partition("x")
    return (int(height), int(width)) if x else int(height)


_sides.__name__ = "size"  # argparse names it where a text is none
