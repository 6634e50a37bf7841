"""Random numbers as a hash of where they are used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

_FACTORS = 0x21F0AAAD, 0xD35A2D97
_SIGNED = _FACTORS[0], _FACTORS[1] - 2**32
_UNSIGNED = tuple(np.array(factor, np.uint32) for factor in _FACTORS)
_BITS = {bits: np.array(bits, np.uint32) for bits in (5, 6, 8, 15, 16)}  # NumPy takes arrays twice as fast as plain numbers


def uniforms(n: int, keys: Tensor, dtype: torch.dtype) -> Tensor:
    """n numbers in [0, 1), independent for all purposes here: a hash of the element's number and of the keys.

    The same on every device and however they are computed, eagerly or fused, and far cheaper than a generator that has
    to go through its states one by one. Multiples of 2⁻²⁴ in float32, of 2⁻⁵³ in float64.

    Args:
        n: how many.
        keys: three int32, from a generator of random numbers; new ones for every call.
        dtype: float32 or float64.
    """
    if n < 2**31:
        number = torch.arange(n, dtype=torch.int32, device=keys.device)
    else:
        number = torch.arange(n, dtype=torch.int64, device=keys.device)
        number = (number ^ (number >> 31) * 0x2545F491) % 2**32 - 2**31
        number = number.to(torch.int32)
    word = _scrambled(_scrambled(number + keys[0]) ^ keys[1])
    if dtype == torch.float32:
        return _shifted_right(word, 8).to(dtype) * 2.0**-24
    second = _scrambled(word + keys[2])
    return _shifted_right(word, 5).to(dtype) * 2.0**-27 + _shifted_right(second, 6).to(dtype) * 2.0**-53


def uniforms_of(numbers: np.ndarray, keys: tuple[np.ndarray, np.ndarray, np.ndarray], kind: np.dtype) -> np.ndarray:
    """The same numbers as an array.

    Args:
        numbers: of the elements, 0, 1, …, as uint32.
        keys: three uint32, each an array of no axes; those of `uniforms` without their signs.
        kind: float32 or float64.
    """
    first, second, third = keys
    word = _scrambled(_scrambled(numbers + first, _shifted, _UNSIGNED) ^ second, _shifted, _UNSIGNED)
    if kind == np.float32:
        return _shifted(word, 8).astype(kind) * np.array(2.0**-24, kind)
    more = _scrambled(word + third, _shifted, _UNSIGNED)
    return _shifted(word, 5).astype(kind) * 2.0**-27 + _shifted(more, 6).astype(kind) * 2.0**-53


def _shifted_right(h: Tensor, bits: int) -> Tensor:
    # int32 shifts its sign in; the mask takes it out again.
    return (h >> bits) & ((1 << (32 - bits)) - 1)


def _shifted(h: np.ndarray, bits: int) -> np.ndarray:
    return h >> _BITS[bits]


def _scrambled(h: Any, shifted: Callable[[Any, int], Any] = _shifted_right, factors: Sequence[Any] = _SIGNED) -> Any:
    """A bijection of 32-bit numbers in which every bit depends on every other: C. Wellons' "lowbias32" of 2018."""
    h = (h ^ shifted(h, 16)) * factors[0]
    h = (h ^ shifted(h, 15)) * factors[1]
    return h ^ shifted(h, 15)
