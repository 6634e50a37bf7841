"""Numbers as whole multiples of a quantum: how the floats of levels and weights are read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction

import numpy as np


def multiples(
    values: Iterable[float], dtype: type, low: int, high: int, coarser: int = 1
) -> tuple[Fraction, list[int]] | None:
    """The quantum q > 0 and whole numbers z from `low` to `high` with z·q equal to the values, but for the rounding of floats.

    The first of four readings that fits:

    1. The values as they are stored, where these are whole multiples of a number.
    2. The shortest decimals that stand for them: 0.1, 0.2, 0.3 are multiples of 1/10, though their floats are of none.
    3. The simplest fraction q for which every z·q rounds to its value: so are the floats nearest to z·s read, for a scale s.
    4. The simplest one for which every z·q comes within two floats of its value: so are levels that were rounded, times a scale.

    Args:
        values: finite floats of a type.
        dtype: NumPy's name of it.
        low, high: of the whole numbers.
        coarser: how many times as far apart the numbers of the type are as those of `dtype`: 2¹⁶ for bfloat16 in float32.

    Returns:
        None where none of them fits.

    Example:
        >>> multiples([-0.1, 0.0, 0.1, 0.30000001192092896], np.float32, -128, 127)
        (Fraction(1, 10), [-1, 0, 1, 3])
        >>> multiples([0.25, 0.375], np.float64, -128, 127)
        (Fraction(1, 8), [2, 3])
        >>> multiples([0.5, math.pi], np.float64, -128, 127) is None
        True
    """
    floats = [dtype(value) for value in values]
    for read in (lambda v: Fraction(float(v)), lambda v: Fraction(np.format_float_positional(v, trim="-"))):
        quantum, found = common([read(value) for value in floats])
        if all(low <= z <= high for z in found):
            return quantum, found
    return _nearest(floats, dtype, low, high, coarser) or _nearest(floats, dtype, low, high, 4 * coarser)


def common(values: Sequence[Fraction]) -> tuple[Fraction, list[int]]:
    """The greatest quantum of which all are whole multiples, and these; the quantum 1 where all are 0.

    Example:
        >>> common([Fraction(1, 2), Fraction(3, 4)])
        (Fraction(1, 4), [2, 3])
    """
    bottom = math.lcm(*(value.denominator for value in values))
    tops = [int(value * bottom) for value in values]
    divisor = math.gcd(*tops)
    return (Fraction(divisor, bottom), [top // divisor for top in tops]) if divisor else (Fraction(1), tops)


def _nearest(values: list, dtype: type, low: int, high: int, halves: int) -> tuple[Fraction, list[int]] | None:
    exact = [Fraction(float(value)) for value in values]
    least = min(abs(value) for value in exact if value)
    greatest = max(map(abs, exact))
    reach = [near(value, dtype, halves) for value in values]
    ratios = np.array(values, np.float64) / float(least)
    for n in range(1, max(-low, high) + 1):
        if greatest * n > least * (max(-low, high) + 1):
            return None
        if np.abs(ratios * n - np.rint(ratios * n)).max() > 0.1:
            continue
        found = [round(value * n / least) for value in exact]
        if not all(low <= z <= high for z in found):
            continue
        ends = [sorted((a / z, b / z)) for z, (a, b) in zip(found, reach) if z]
        bottom, top = max(a for a, _ in ends), min(b for _, b in ends)
        if bottom < top:
            divisor = math.gcd(*found)
            return simplest(bottom, top) * divisor, [z // divisor for z in found]
    return None


def near(value: float, dtype: type, halves: int) -> tuple[Fraction, Fraction]:
    """The ends of what lies within so many half distances between floats: within 1 all numbers round to the value."""
    gaps = (Fraction(float(np.nextafter(value, dtype(end)))) - Fraction(float(value)) for end in (-np.inf, np.inf))
    return tuple(Fraction(float(value)) + gap * halves / 2 for gap in gaps)


def simplest(low: Fraction, high: Fraction) -> Fraction:
    """The fraction of least denominator strictly between two numbers, 0 ≤ low < high.

    Example:
        >>> simplest(Fraction(3, 10), Fraction(34, 100))
        Fraction(1, 3)
    """
    whole = math.floor(low)
    if whole + 1 < high:
        return Fraction(whole + 1)
    # Both lie within [whole, whole + 1]: turn over what is left of them.
    rest_low, rest_high = low - whole, high - whole
    if rest_low == 0:
        return whole + Fraction(1, math.floor(1 / rest_high) + 1)
    return whole + 1 / simplest(1 / rest_high, 1 / rest_low)
