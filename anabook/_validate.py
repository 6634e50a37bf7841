"""Checks at the door: each raises one sentence with the offending value and what is allowed."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from numbers import Real

import numpy as np


def choice(value: object, allowed: Iterable[str], what: str) -> str:
    """Return `value` if it is one of `allowed`; otherwise name the allowed ones and the nearest.

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
    near = difflib.get_close_matches(value.lower(), [name.lower() for name in allowed], n=1, cutoff=0.5)
    hint = ""
    if near:
        hint = f" Did you mean {next(name for name in allowed if name.lower() == near[0])!r}?"
    raise ValueError(f"{what} must be one of {listing}, not {value!r}.{hint}")


def real(value: object, what: str, *, minimum: float | None = None, above: float | None = None) -> float:
    """Return `value` as a finite float, at least `minimum` and greater than `above` where these are given."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (Real, np.integer, np.floating)):
        raise TypeError(f"{what} must be a real number, not {value!r}.")
    number = float(value)
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
        raise TypeError(f"{what} must be an integer {allowed}, not {value!r}.")
    number = int(value)
    if number < minimum or (maximum is not None and number > maximum):
        raise ValueError(f"{what} must be an integer {allowed}, not {number}.")
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
