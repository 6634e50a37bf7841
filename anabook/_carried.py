"""Files that come with the package: in a checkout of the repository where they are kept, in an installed package as copies.

Building puts the copies into `anabook/_data`: see setup.py.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def carried(copy: str, kept: str, what: str) -> Path:
    """Where a file or folder is that comes with the package.

    Args:
        copy: its name in `anabook/_data`.
        kept: its name in the repository.
        what: in words, for the message.

    Raises:
        FileNotFoundError: this copy of the package came without it.
    """
    checkout = _PACKAGE.parent
    places = [_PACKAGE / "_data" / copy, *([checkout / kept] if (checkout / "pyproject.toml").is_file() else [])]
    for place in places:
        if place.exists():
            return place
    raise FileNotFoundError(
        f"the {what} that come with anabook are missing from this copy of the package: install it again with pip, from the "
        "repository or from a wheel."
    )
