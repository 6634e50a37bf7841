"""Arrays of integers: those that a user hands over, checked; the narrowest type that holds numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np


def integers(value: Any, that: str, hint: str = "") -> np.ndarray:
    """An array of integers.

    Args:
        value: an array, a tensor of torch, or nested lists.
        that: how the sentence begins: who takes an array of integers.
        hint: the sentence's end.

    Raises:
        TypeError: it is none.

    Example:
        >>> integers([[1, 2], [3]], "x must be an array of integers")
        Traceback (most recent call last):
            ...
        TypeError: x must be an array of integers, not of rows that differ in length.
    """
    if callable(getattr(value, "detach", None)):  # a tensor, which may have a gradient, or no form in NumPy
        try:
            value = value.detach().cpu().numpy()
        except (TypeError, RuntimeError):
            raise TypeError(f"{that}, not a tensor of {value.dtype} on {value.device}{hint}.") from None
    try:
        array = np.asarray(value)
    except ValueError:
        raise TypeError(f"{that}, not of rows that differ in length{hint}.") from None
    if not array.size and not isinstance(value, np.ndarray):
        return array.astype(np.int64)  # an empty list says nothing of its numbers
    if array.dtype.kind not in "iu":
        kind = type(value).__name__ if array.dtype == object and not array.ndim else array.dtype
        raise TypeError(f"{that}, not of {kind}{hint}.")
    return array


def narrowest(low: int, high: int, kinds: Iterable[Any]) -> np.dtype | None:
    """The first of some integer types that holds all numbers from `low` to `high`; None where none does.

    Example:
        >>> narrowest(0, 200, (np.int8, np.uint8)), narrowest(-1, 200, (np.int8, np.uint8))
        (dtype('uint8'), None)
    """
    fits = (kind for kind in kinds if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    return next(map(np.dtype, fits), None)
