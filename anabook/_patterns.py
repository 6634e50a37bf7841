"""Names of modules and patterns of them: what a key that somebody writes matches."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from anabook._validate import did_you_mean

_WILDCARDS = "*?["


def is_name(key: str) -> bool:
    """Whether a key is a name, without wildcards.

    Example:
        >>> is_name("layer1.0"), is_name("layer1.*")
        (True, False)
    """
    return not any(sign in key for sign in _WILDCARDS)


def matches(key: str, name: str) -> bool:
    """Whether a key matches the name of a module: a name stands for all inside too, a pattern matches whole names.

    Example:
        >>> [matches(key, "layer1.0.conv") for key in ("layer1", "layer", "*.conv", "layer?")]
        [True, False, True, False]
    """
    return name == key or name.startswith(f"{key}.") if is_name(key) else fnmatchcase(name, key)


def hint(key: str, names: Iterable[str]) -> str:
    """What may have been meant by a key that matches none of the names, for the middle of a sentence.

    Example:
        >>> print(hint("layr1.*", ["layer1.0", "layer2.0"]))
         (did you mean 'layer1.0'?)
        >>> print(hint("layer?", ["layer1.0"]))
         (it matches 'layer1', and 'layer?.*' matches what is inside)
    """
    names = list(names)
    around = containers(names)
    inside = [name for name in around if not is_name(key) and fnmatchcase(name, key)]
    if inside:
        return f" (it matches {inside[0]!r}, and {key + '.*'!r} matches what is inside)"
    return did_you_mean(key, [*around, *names])


def containers(names: Iterable[str]) -> list[str]:
    """The names of all modules that these ones are in.

    Example:
        >>> containers(["stem", "layer1.0.conv"])
        ['layer1', 'layer1.0']
    """
    parts = [name.split(".") for name in names]
    return list(dict.fromkeys(".".join(each[:i]) for each in parts for i in range(1, len(each))))
