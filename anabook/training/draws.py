"""Random numbers as a hash of where they are used."""

from __future__ import annotations

import torch
from torch import Tensor


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


def _scrambled(h: Tensor) -> Tensor:
    """A bijection of 32-bit numbers in which every bit depends on every other: C. Wellons' "lowbias32" of 2018."""
    h = (h ^ _shifted_right(h, 16)) * 0x21F0AAAD
    h = (h ^ _shifted_right(h, 15)) * (0xD35A2D97 - 2**32)
    return h ^ _shifted_right(h, 15)


def _shifted_right(h: Tensor, bits: int) -> Tensor:
    # int32 shifts its sign in; the mask takes it out again.
    return (h >> bits) & ((1 << (32 - bits)) - 1)
