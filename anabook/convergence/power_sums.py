"""Finite sums of c·λ^e near λ = 0, with exact coefficients, compared by their leading terms: limits under bounded noise.

Uniform and triangular distribution functions are piecewise polynomial. If means and half-widths are finite sums of powers
of λ, and half-widths single powers, then near λ = 0 every value in a regularised network is such a sum as well, and which
piece applies is decided by the sign of a leading coefficient. So the limit of the network is computed, not estimated.
Coefficients are numbers a + b√2 + c√3 + d√6 with rational a, b, c, d: closed under all operations that occur.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

_ROOTS = (1, 2, 3, 6)
_ZERO = (Fraction(0),) * 4


def _product_table() -> dict[tuple[int, int], tuple[int, int]]:
    """(i, j) ↦ (k, n) with √r_i·√r_j = n·√r_k."""
    table = {}
    for i, r in enumerate(_ROOTS):
        for j, s in enumerate(_ROOTS):
            common = math.gcd(r, s)
            table[i, j] = _ROOTS.index(r * s // common**2), common
    return table


_TIMES = _product_table()


@dataclass(frozen=True)
class Surd:
    """a + b√2 + c√3 + d√6, exactly."""

    parts: tuple[Fraction, ...] = _ZERO

    @classmethod
    def of(cls, value: Any, root: int = 1) -> Surd:
        """value·√root for a rational value and a root 1, 2, 3 or 6.

        Raises:
            ValueError: another root.
        """
        if root not in _ROOTS:
            raise ValueError(f"coefficients may hold the roots of 1, 2, 3 and 6, not of {root}.")
        return cls(tuple(Fraction(value) if r == root else Fraction(0) for r in _ROOTS))

    def __add__(self, other: Surd) -> Surd:
        return Surd(tuple(a + b for a, b in zip(self.parts, other.parts)))

    def __mul__(self, other: Surd) -> Surd:
        parts = list(_ZERO)
        for i, a in enumerate(self.parts):
            for j, b in enumerate(other.parts):
                if a and b:
                    k, n = _TIMES[i, j]
                    parts[k] += n * a * b
        return Surd(tuple(parts))

    def inverse(self) -> Surd:
        """1/self, for a number with a single part."""
        ((i, a),) = [(i, a) for i, a in enumerate(self.parts) if a]
        return Surd.of(1 / (a * _ROOTS[i]), _ROOTS[i])

    def sign(self) -> int:
        """−1, 0 or 1. 1, √2, √3, √6 are independent over the rationals, so only zero parts make zero."""
        if not any(self.parts):
            return 0
        denominator = math.lcm(*(a.denominator for a in self.parts))
        bits = 64
        while True:
            total, error = 0, 0
            for a, r in zip(self.parts, _ROOTS):
                whole = int(a * denominator)
                total += whole * math.isqrt(r << 2 * bits)
                error += abs(whole)
            if abs(total) > error:
                return 1 if total > 0 else -1
            bits *= 2

    def __float__(self) -> float:
        return float(sum(float(a) * math.sqrt(r) for a, r in zip(self.parts, _ROOTS)))


@dataclass(frozen=True)
class PowerSum:
    """Σ c·λ^e: pairs (e, c) with increasing rational exponents and coefficients that are not zero."""

    terms: tuple[tuple[Fraction, Surd], ...] = ()

    @classmethod
    def of(cls, value: Any) -> PowerSum:
        """A constant."""
        return cls(((Fraction(0), Surd.of(value)),)) if value else cls()

    @classmethod
    def collect(cls, terms: Any) -> PowerSum:
        """The sum of the given (exponent, coefficient) pairs."""
        total: dict[Fraction, Surd] = {}
        for exponent, coefficient in terms:
            total[exponent] = total[exponent] + coefficient if exponent in total else coefficient
        return cls(tuple(sorted(((e, c) for e, c in total.items() if any(c.parts)), key=lambda pair: pair[0])))

    def __add__(self, other: PowerSum) -> PowerSum:
        return PowerSum.collect((*self.terms, *other.terms))

    def __sub__(self, other: PowerSum) -> PowerSum:
        return self + other * PowerSum.of(-1)

    def __mul__(self, other: PowerSum) -> PowerSum:
        return PowerSum.collect((e + f, c * d) for e, c in self.terms for f, d in other.terms)

    def times_root(self, root: int) -> PowerSum:
        """self·√root, for a root 2, 3 or 6."""
        return self * PowerSum(((Fraction(0), Surd.of(1, root)),))

    def over(self, monomial: PowerSum) -> PowerSum:
        """self/monomial, for a single term with a single part in its coefficient."""
        ((exponent, coefficient),) = monomial.terms
        inverse = coefficient.inverse()
        return PowerSum(tuple((e - exponent, c * inverse) for e, c in self.terms))

    def sign(self) -> int:
        """The sign for all sufficiently small λ > 0."""
        return self.terms[0][1].sign() if self.terms else 0

    def limit(self) -> float:
        """The limit as λ → 0; ±inf for negative exponents."""
        if not self.terms or self.terms[0][0] > 0:
            return 0.0
        return float(self.terms[0][1]) if self.terms[0][0] == 0 else math.inf * self.sign()


_HALF, _ONE = PowerSum.of(Fraction(1, 2)), PowerSum.of(1)


def edge_step(order: int, depth: PowerSum) -> PowerSum:
    """F0 at `depth` half-widths above the mean, near λ = 0, of a bounded law with an edge of that order (`tails.Edge`)."""
    if (depth - _ONE).sign() >= 0:
        return _ONE
    if (depth + _ONE).sign() <= 0:
        return PowerSum()
    below = depth.sign() <= 0
    tail = _HALF
    for _ in range(order):
        tail = tail * (_ONE + depth if below else _ONE - depth)
    return tail if below else _ONE - tail


@functools.lru_cache(maxsize=1024)
def from_sympy(expression: Any) -> PowerSum:
    """A SymPy expression that is a finite sum of powers of one positive symbol.

    Raises:
        ValueError: the expression is not of that form, or its coefficients are not rational multiples of 1, √2, √3, √6.
    """
    import sympy

    expression = sympy.sympify(expression)
    if not isinstance(expression, sympy.Expr) or len(expression.free_symbols) > 1:
        raise ValueError(f"{expression} is not an expression in one symbol.")
    symbols = list(expression.free_symbols) or [sympy.Symbol("lambda", positive=True)]
    terms = []
    for term in sympy.Add.make_args(sympy.expand(sympy.powdenest(expression, force=True))):
        coefficient, exponent = term.as_coeff_exponent(symbols[0])
        parts = [(coefficient / sympy.sqrt(r), r) for r in _ROOTS]
        rational = [(value, r) for value, r in ((sympy.simplify(q), r) for q, r in parts) if value.is_Rational]
        if not rational or not exponent.is_Rational:
            raise ValueError(f"{expression} is not a finite sum of powers of λ with simple coefficients.")
        value, root = rational[0]
        terms.append((Fraction(exponent.p, exponent.q), Surd.of(Fraction(value.p, value.q), root)))
    return PowerSum.collect(terms)
