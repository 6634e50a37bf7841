"""Whether the fields of steps have the types that their classes say, so that what is computed from them may rely on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from fractions import Fraction
from math import log10
from typing import Any

import numpy as np

from anabook.deploy.steps import Input, Step

_LEAST, _GREATEST = 1e-300, 1e300


def is_whole(value: Any) -> bool:
    """Whether it is an integer, of Python's or of NumPy's.

    Example:
        >>> is_whole(3), is_whole(np.int8(3)), is_whole(True), is_whole(3.0)
        (True, True, False, False)
    """
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def check_size(what: str, value: Fraction | int) -> None:
    """Refuse a mean or a std that floats of 64 bits do not hold with all their digits, and with room for what is made of it.

    Raises:
        ValueError: it is one.

    Example:
        >>> check_size("the std", Fraction(1, 10**301))
        Traceback (most recent call last):
            ...
        ValueError: the std must be 0 or from 1e-300 to 1e300 in size, not about 1e-301.
    """
    size = abs(Fraction(value))
    if size and not _LEAST <= size <= _GREATEST:
        power = round(log10(size.numerator) - log10(size.denominator))
        raise ValueError(f"{what} must be 0 or from 1e-300 to 1e300 in size, not about 1e{power}.")


def check_channels(what: str, value: Any, shape: Any) -> None:
    """Refuse a mean or a std that has not one number for each channel of what comes in, nor one for all.

    Raises:
        ValueError: it is one.

    Example:
        >>> check_channels("mean", (Fraction(1), Fraction(2)), (3, 32, 32))
        Traceback (most recent call last):
            ...
        ValueError: mean must be one number, or one for each of the 3 channels, not 2.
    """
    if isinstance(value, tuple) and len(value) != shape[0]:
        raise ValueError(f"{what} must be one number, or one for each of the {shape[0]} channels, not {len(value)}.")


def _pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(is_whole, value))


def _names(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(name, str) for name in value)


def _quantum(value: Any) -> bool:
    quanta = value if isinstance(value, tuple) else (value,)
    return bool(quanta) and all(isinstance(each, Fraction) or is_whole(each) for each in quanta)


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (lambda value: isinstance(value, str) and value != "", "text that is not empty"),
    "inputs": (_names, "a tuple of names"),
    "groups": (lambda value: is_whole(value) and value > 0, "an integer greater than 0"),
    "ceil_mode": (lambda value: isinstance(value, bool), "True or False"),
    "quantum": (_quantum, "a fraction, or a tuple with one for each channel"),
    **dict.fromkeys(("kernel", "stride", "padding", "dilation"), (_pair, "a tuple of two integers")),
}
"""For each field whose value is no array whether it is right, and what it must be; arrays are checked with their shapes."""


def check(step: Any) -> None:
    """Refuse a step with a field of a wrong type.

    Raises:
        TypeError: there is one, or no step at all.

    Example:
        >>> from anabook.deploy.steps import MaxPool
        >>> check(MaxPool(name="pool", inputs=("input",), kernel=2, stride=(2, 2)))
        Traceback (most recent call last):
            ...
        TypeError: the kernel of 'pool' must be a tuple of two integers, not 2.
    """
    if not isinstance(step, Step):
        raise TypeError(f"a step must be one of anabook.deploy.steps, not {type(step).__name__}.")
    for field in fields(step):
        if field.name in _RULES:
            value, (is_right, allowed) = getattr(step, field.name), _RULES[field.name]
            if not is_right(value):
                raise TypeError(f"the {field.name} of {step.name!r} must be {allowed}, not {value!r}.")


def check_input(given: Any) -> None:
    """Refuse what comes in where a field is of a wrong type.

    Raises:
        TypeError: there is one, or it is no `Input` at all.

    Example:
        >>> check_input(Input((8, 8), 0, 16, std=0.5))
        Traceback (most recent call last):
            ...
        TypeError: the input's shape and bounds must be integers, its mean and std fractions, not those of Input(shape=(8, 8), \
low=0, high=16, mean=Fraction(0, 1), std=0.5).
    """
    if not isinstance(given, Input):
        raise TypeError(f"input must be an Input of anabook.deploy.steps, not {type(given).__name__}.")
    whole = isinstance(given.shape, (tuple, list)) and all(map(is_whole, (given.low, given.high, *given.shape)))
    numbers = [n for part in (given.mean, given.std) for n in (part if isinstance(part, tuple) else (part,))]
    if not whole or not all(isinstance(n, (int, Fraction)) for n in numbers):
        raise TypeError(f"the input's shape and bounds must be integers, its mean and std fractions, not those of {given}.")
