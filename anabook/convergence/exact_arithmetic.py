"""Exact rational arrays, and the numbers of one precision or another to which they are rounded.

Whether a pre-activation lies on a threshold is a question of equality, which floating point cannot answer.
So levels, weights, biases and thresholds are kept as integers over one common denominator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np

_INT64_SAFE = 2**62


@dataclass(frozen=True)
class Exact:
    """An array of rational numbers: integer numerators (int64 where they fit, else Python's) over one denominator."""

    numerators: np.ndarray
    denominator: int = 1

    @classmethod
    def of(cls, values: Any, what: str) -> Exact:
        """The exact values of nested lists or an array of integers, fractions or floats (taken bit for bit).

        Raises:
            TypeError: entries that are not rational numbers.
            ValueError: ragged nesting, infinities or NaN.
        """
        if isinstance(values, Exact):
            return values
        try:
            array = np.array(values, dtype=None if isinstance(values, np.ndarray) else object)
        except ValueError:
            raise ValueError(f"{what} must be a rectangular array of numbers, not {values!r}.") from None
        if array.dtype == object and any(isinstance(v, (list, tuple, np.ndarray)) for v in array.flat):
            raise ValueError(f"{what} must be a rectangular array of numbers, not {values!r}.")
        if array.dtype.kind == "i":
            return cls(_narrow(array.astype(object)))
        fractions = np.array([_fraction(v, what) for v in array.flat], dtype=object).reshape(array.shape)
        denominator = math.lcm(*(f.denominator for f in fractions.flat)) if fractions.size else 1
        numerators = np.array([f.numerator * (denominator // f.denominator) for f in fractions.flat], dtype=object).reshape(
            array.shape
        )
        return cls(_narrow(numerators), denominator)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.numerators.shape

    def __getitem__(self, item: Any) -> Exact:
        return Exact(self.numerators[item], self.denominator)

    def __add__(self, other: Exact) -> Exact:
        common = math.lcm(self.denominator, other.denominator)
        left, right = self._over(common), other._over(common)
        if left.dtype != object and _peak(left) + _peak(right) >= _INT64_SAFE:
            left = left.astype(object)
        return Exact(_narrow(left + right), common)

    def __neg__(self) -> Exact:
        return Exact(-self.numerators, self.denominator)

    def __sub__(self, other: Exact) -> Exact:
        return self + -other

    def apply(self, vector: Exact) -> Exact:
        """The product of matrices (…, m, n) with vectors (…, n), broadcast over the leading axes: (…, m)."""
        left, right = self.numerators, vector.numerators
        if _peak(left) * _peak(right) * max(1, left.shape[-1]) >= _INT64_SAFE:
            left, right = left.astype(object), right.astype(object)
        product = np.matmul(left, right[..., np.newaxis])[..., 0]
        return Exact(_narrow(product), self.denominator * vector.denominator)

    def sign(self) -> np.ndarray:
        """−1, 0 or 1, exactly."""
        return (self.numerators > 0).astype(int) - (self.numerators < 0).astype(int)

    def smallest(self) -> Fraction:
        """The smallest absolute value of all entries."""
        return Fraction(min(abs(int(v)) for v in self.numerators.flat), self.denominator)

    def fractions(self) -> Any:
        """Nested lists of Fractions."""
        return np.frompyfunc(lambda v: Fraction(int(v), self.denominator), 1, 1)(self.numerators).tolist()

    def numbers(self, precision: Precision) -> np.ndarray:
        """The values rounded to numbers of that precision."""
        return precision.quotient(self.numerators, self.denominator)

    def _over(self, denominator: int) -> np.ndarray:
        factor = denominator // self.denominator
        if factor == 1:
            return self.numerators
        if max(1, _peak(self.numerators)) * factor >= _INT64_SAFE:
            return self.numerators.astype(object) * factor
        return self.numerators * factor


def _fraction(value: Any, what: str) -> Fraction:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, Fraction, np.integer, np.floating)):
        raise TypeError(f"{what} must hold integers, fractions or floats, not {value!r}.")
    if isinstance(value, (float, np.floating)) and not math.isfinite(value):
        raise ValueError(f"{what} must be finite, not {value!r}.")
    return Fraction(int(value)) if isinstance(value, np.integer) else Fraction(value)


def _peak(array: np.ndarray) -> int:
    return max(int(array.max()), -int(array.min())) if array.size else 0


def _narrow(array: np.ndarray) -> np.ndarray:
    return array.astype(np.int64) if _peak(array) < _INT64_SAFE else array.astype(object)


@dataclass(frozen=True)
class Precision:
    """Numbers of one precision.

    Attributes:
        quotient: integer arrays and a denominator ↦ their quotients.
        number: a Python, Fraction or mpmath number ↦ one of these numbers.
    """

    quotient: Callable[[np.ndarray, int], np.ndarray]
    number: Callable[[Any], Any]


def _double_quotient(numerators: np.ndarray, denominator: int) -> np.ndarray:
    if numerators.dtype != object and _peak(numerators) < 2**53 and denominator < 2**53:
        return numerators / denominator
    return np.frompyfunc(lambda v: int(v) / denominator, 1, 1)(numerators).astype(np.float64)


def _precise_number(value: Any) -> Any:
    return mpmath.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else mpmath.mpf(value)


DOUBLE = Precision(_double_quotient, float)
"""IEEE doubles: fast, and good for numbers down to 1e-308."""

PRECISE = Precision(
    quotient=lambda v, d: np.frompyfunc(lambda n: mpmath.mpf(int(n)) / d, 1, 1)(v),
    number=_precise_number,
)
"""mpmath numbers of the current working precision; their exponents are unbounded, so no tail underflows."""
