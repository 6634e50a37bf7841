"""Checks of what a user hands over: each raises one sentence with the offending value and what is allowed."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Iterable
from numbers import Real
from pathlib import Path

import numpy as np

SYNONYMS: dict[str, tuple[str, ...]] = {
    "normal": ("gaussian", "gauss", "bell"),
    "uniform": ("rectangular", "rectangle", "rect", "box", "boxcar", "flat"),
    "triangular": ("tri", "triangle", "tent", "hat"),
    "logistic": ("sigmoid", "logit", "sech2"),
    "expectation": ("expected", "mean", "average", "soft"),
    "mode": ("ste", "straight through", "straight through estimator", "deterministic", "argmax", "hard"),
    "random": ("stochastic", "sample", "sampled", "sampling", "bernoulli"),
    "validation": ("val", "valid", "dev", "held out"),
    "train": ("training",),
    "test": ("testing",),
    "accuracy": ("acc", "top1", "top 1"),
    "gsc12": ("speech", "speech commands", "google speech commands"),
    "partition": ("sequential", "layerwise", "layer by layer"),
    "homogeneous": ("constant", "equal"),
}
"""Other words for names of this package: no spelling leads from one to the other, so the nearest one cannot be guessed."""

_MEANT = {word: name for name, words in SYNONYMS.items() for word in words}


def choice(value: object, allowed: Iterable[str], what: str) -> str:
    """Return `value` if it is one of `allowed`; otherwise name the allowed ones and the one that was likely meant.

    Raises:
        TypeError: `value` is not a string.
        ValueError: `value` is a string that is not allowed.
    """
    allowed = tuple(allowed)
    listing = ", ".join(map(repr, allowed))
    if not isinstance(value, str):
        raise TypeError(f"{what} must be one of {listing}, not {value!r}.")
    if value in allowed:
        return value
    raise ValueError(f"{what} must be one of {listing}, not {value!r}.{did_you_mean_after(value, allowed)}")


def nearest(value: str, allowed: Iterable[str], n: int = 1) -> list[str]:
    """The names, at most `n`, that were likely meant by one that is not allowed: by its meaning, else by its spelling.

    Names are compared without regard to case, and a name with hyphens is also read word by word, so that
    "gaussian-mode-static" leads to "normal-mode-static".
    """
    spelt = {name.lower(): name for name in reversed(tuple(allowed))}
    plain = " ".join(value.lower().replace("_", " ").replace("-", " ").split())
    meant = [_MEANT.get(plain), "-".join(_MEANT.get(word, word) for word in value.lower().split("-"))]
    if found := [spelt[name] for name in meant if name in spelt and name != value]:
        return found[:1]
    close = difflib.get_close_matches(value.lower(), spelt, n=n, cutoff=0.5)
    begun = [name for name in spelt if plain and name.startswith(value.lower())]
    return [spelt[name] for name in close or begun[::-1][:n]]


def did_you_mean(value: str, allowed: Iterable[str], n: int = 1) -> str:
    """The same for the middle of a sentence: " (did you mean 'normal'?)", or nothing."""
    near = nearest(value, allowed, n)
    return f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""


def did_you_mean_after(value: str, allowed: Iterable[str]) -> str:
    """The same for the end of a sentence, as one of its own: " Did you mean 'normal'?", or nothing."""
    near = nearest(value, allowed)
    return f" Did you mean {near[0]!r}?" if near else ""


def path(value: object, what: str) -> Path:
    """Return `value` as a path, with a leading `~` expanded to the home folder.

    Raises:
        TypeError: `value` is neither text nor a path.
        ValueError: it is empty, holds a null character, or names the home of somebody who is not known here.
    """
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str):
        raise TypeError(f"{what} must be a path, as text or as a pathlib.Path, not {value!r}.")
    if not text or "\0" in text:
        raise ValueError(f"{what} must be a path without null characters and not empty, not {text!r}.")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError(f"{what} must be a path; the home folder that {text!r} begins with is not known.") from None


def refused(error: OSError) -> str:
    """What the operating system refused, in a sentence: "Permission denied: 'notes/a.txt'."."""
    return f"{error.strerror or error}" + (f": {str(error.filename)!r}." if error.filename else ".")


def reason(error: BaseException) -> str:
    """What an exception says, in one line; its type's name where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip() if lines else type(error).__name__


def shown(value: object) -> str:
    """`repr(value)`; of numbers with more digits than Python converts to text, how large they are.

    Example:
        >>> shown((2, 10**5000))
        '(2, an integer of 16610 bits)'
    """
    try:
        return repr(value)
    except ValueError:
        if isinstance(value, (tuple, list)):
            inner = ", ".join(map(shown, value))
            return f"[{inner}]" if isinstance(value, list) else f"({inner}{',' if len(value) == 1 else ''})"
        if isinstance(value, int):
            return f"an integer of {value.bit_length()} bits"
        return f"a {type(value).__name__} with too many digits to show"


def real(value: object, what: str, *, minimum: float | None = None, above: float | None = None) -> float:
    """Return `value` as a finite float, at least `minimum` and greater than `above` where these are given."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (Real, np.integer, np.floating)):
        raise TypeError(f"{what} must be a real number, not {shown(value)}.")
    try:
        number = float(value)
    except OverflowError:  # an integer or a fraction beyond the floats
        number = math.inf if value > 0 else -math.inf
    bound = ""
    if minimum is not None:
        bound = f" and at least {minimum:g}"
    if above is not None:
        bound = f" and greater than {above:g}"
    out_of_bounds = (minimum is not None and number < minimum) or (above is not None and number <= above)
    if not math.isfinite(number) or out_of_bounds:
        raise ValueError(f"{what} must be finite{bound}, not {number!r}.")
    return number


def integer(value: object, what: str, *, minimum: int, maximum: int | None = None) -> int:
    """Return `value` as an int within [minimum, maximum]."""
    allowed = f"at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{what} must be an integer {allowed}, not {shown(value)}.")
    number = int(value)
    if number < minimum or (maximum is not None and number > maximum):
        raise ValueError(f"{what} must be an integer {allowed}, not {shown(number)}.")
    return number


def flag(value: object, what: str) -> bool:
    """Return `value` if it is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{what} must be True or False, not {value!r}.")
    return bool(value)


def generator(rng: object) -> np.random.Generator:
    """Return a NumPy generator from a generator or an integer seed.

    Randomness always has a stated seed here, so None is refused.
    """
    if isinstance(rng, np.random.Generator):
        return rng
    if isinstance(rng, (int, np.integer)) and not isinstance(rng, bool) and rng >= 0:
        return np.random.default_rng(int(rng))
    raise TypeError(f"rng must be a numpy.random.Generator or a non-negative integer seed, not {rng!r}.")


def unknown(values: Iterable[str], known: Iterable[str], what: str) -> None:
    """Refuse a key that is not known, and suggest the nearest.

    Example:
        >>> try:
        ...     unknown(["fold"], ["folds", "units"], "entry")
        ... except ValueError as error:
        ...     print(error)
        ...
        entry has the unknown key 'fold' (did you mean 'folds'?); allowed are folds, units.
    """
    known = list(known)
    for name in values:
        if name not in known:
            raise ValueError(
                f"{what} has the unknown key {name!r}{did_you_mean(name, known)}; allowed are {', '.join(known)}."
            )
