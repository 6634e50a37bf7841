"""Thresholds for integers, in exact arithmetic: from which integer on a layer's value reaches a level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple


class Affine(NamedTuple):
    """What an integer z stands for: gamma · (scale · z + offset) / √radicand + shift, with scale > 0 and radicand > 0.

    Attributes:
        scale, offset: quanta and biases.
        gamma, radicand, shift: of a batch normalisation, whose mean is in the offset; 1, 1 and 0 without one.
    """

    scale: Fraction
    offset: Fraction
    gamma: Fraction
    radicand: Fraction
    shift: Fraction

    @property
    def sign(self) -> int:
        """−1 where the value falls while z grows."""
        return -1 if self.gamma < 0 else 1


def integers(places: Sequence[Fraction], affine: Affine, low: int, high: int) -> list[int]:
    """For each threshold θ the least integer T with: the value of z is θ or more exactly where z · sign ≥ T.

    Args:
        places: the thresholds θ.
        affine: what z stands for.
        low, high: bounds of z · sign. A threshold below them is `low`, one above is `high` + 1.

    Example:
        >>> half = Fraction(1, 2)
        >>> integers([-half, half], Affine(Fraction(1, 3), Fraction(0), Fraction(1), Fraction(1), Fraction(0)), -9, 9)
        [-1, 2]
        >>> integers([-half, half], Affine(Fraction(1), Fraction(0), Fraction(-1), Fraction(2), Fraction(0)), -9, 9)
        [0, 1]
    """
    return [min(max(_least(place, affine, low, high), low), high + 1) for place in places]


def _least(place: Fraction, affine: Affine, low: int, high: int) -> int:
    scale, offset, gamma, radicand, shift = affine
    if gamma == 0:
        return low if shift >= place else high + 1
    # |γ|·scale·z′ + γ·offset ≥ (θ − shift)·√radicand with z′ = z · sign, so z′ + before ≥ root with root = ratio·√radicand.
    before = affine.sign * offset / scale
    ratio = (place - shift) / (abs(gamma) * scale)
    # Times the denominator of `before`: an integer ≥ ±√square, which is decided by whole numbers.
    square = ratio * ratio * radicand * before.denominator**2
    root = -math.isqrt(math.floor(square)) if ratio < 0 else _root_above(math.ceil(square))
    return -((before.numerator - root) // before.denominator)


def _root_above(n: int) -> int:
    """The least whole number whose square is n or more."""
    return math.isqrt(n - 1) + 1 if n > 0 else 0
