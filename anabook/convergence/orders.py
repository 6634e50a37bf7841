"""Orders of growth near λ = 0+: finite sums of products of powers of λ, ln(1/λ), ln ln(1/λ), … and exponentials of these.

Power laws, log margins and exponential schedules are of this form, and so is all that Theorem 2 makes of them. The
products are totally ordered by size, hence a limit is read off the largest one: at once, where a general limit takes
SymPy seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sympy as sp

from anabook.convergence.constants import NotOfThisForm, approximate, compare

LAMBDA = sp.Symbol("lambda", positive=True)
"""The regularisation parameter λ → 0+ of the theorem."""

ONE = sp.Integer(1)


@dataclass(frozen=True)
class Size:
    """λ^p₀·ln(1/λ)^p₁·(ln ln(1/λ))^p₂·… · exp(exponent): a product without coefficient.

    `powers` has no trailing zeros; `exponent` holds the terms that a power of none of the scales absorbs.
    """

    powers: tuple[sp.Expr, ...] = ()
    exponent: Sum = None  # type: ignore[assignment]

    def times(self, other: Size) -> Size:
        a, b = _padded(self.powers, other.powers)
        return _size([x + y for x, y in zip(a, b)], _of(self.exponent) + _of(other.exponent))

    def power(self, e: sp.Expr) -> Size:
        return _size([p * e for p in self.powers], _of(self.exponent).scaled(e))

    def log(self) -> Sum:
        terms = [((-p if i == 0 else p), _scale(i + 1)) for i, p in enumerate(self.powers) if p != 0]
        return Sum.collect(terms) + _of(self.exponent)

    @lru_cache(maxsize=8192)  # noqa: B019
    def direction(self) -> int:
        """1 if it grows beyond all bounds, −1 if it vanishes, 0 if it is the constant 1."""
        if self.exponent is None:
            for i, p in enumerate(self.powers):
                if p != 0:
                    return compare(p, 0) * (-1 if i == 0 else 1)
            return 0
        log = self.log()
        return log.sign() if log.terms else 0

    def expression(self) -> sp.Expr:
        result, scale = ONE, LAMBDA
        for i, p in enumerate(self.powers):
            result *= scale**p
            scale = sp.log(1 / LAMBDA) if i == 0 else sp.log(scale)
        return result * sp.exp(_of(self.exponent).expression()) if self.exponent is not None else result


@dataclass(frozen=True)
class Sum:
    """Σ coefficient·size, the largest size first."""

    terms: tuple[tuple[sp.Expr, Size], ...] = ()

    @classmethod
    def collect(cls, terms: Any) -> Sum:
        total: dict[Size, sp.Expr] = {}
        for c, size in terms:
            total[size] = total[size] + c if size in total else c
        ordered: list[tuple[sp.Expr, Size]] = []
        for size, c in total.items():
            if compare(c, 0) != 0:
                _insert(ordered, c, size)
        return cls(tuple(ordered))

    def __add__(self, other: Sum) -> Sum:
        if not self.terms or not other.terms:
            return self if self.terms else other
        return Sum.collect((*self.terms, *other.terms))

    def __mul__(self, other: Sum) -> Sum:
        if len(self.terms) * len(other.terms) > 256:
            raise NotOfThisForm
        return Sum.collect((a * b, s.times(t)) for a, s in self.terms for b, t in other.terms)

    def scaled(self, c: sp.Expr) -> Sum:
        return Sum(tuple((c * b, s) for b, s in self.terms)) if c != 0 else Sum()

    def sign(self) -> int:
        return compare(self.terms[0][0], 0) if self.terms else 0

    def limit(self) -> sp.Expr:
        if not self.terms:
            return sp.Integer(0)
        c, size = self.terms[0]
        direction = size.direction()
        if direction < 0:
            return sp.Integer(0)
        return c if direction == 0 else sp.oo * compare(c, 0)

    def power(self, e: sp.Expr) -> Sum:
        if len(self.terms) == 1:
            c, size = self.terms[0]
            if not (e.is_Integer or compare(c, 0) > 0):
                raise NotOfThisForm
            return Sum(((c**e, size.power(e)),))
        if not (e.is_Integer and 0 <= e <= 8):
            raise NotOfThisForm
        result = constant(ONE)
        for _ in range(int(e)):
            result = result * self
        return result

    def log(self) -> Sum:
        if len(self.terms) != 1 or compare(self.terms[0][0], 0) <= 0:
            raise NotOfThisForm
        c, size = self.terms[0]
        return size.log() + constant(sp.log(c))

    def exp(self) -> Sum:
        coefficient, powers, rest = ONE, [], []
        for c, size in self.terms:
            direction = size.direction()
            if direction < 0:
                raise NotOfThisForm
            scale = _which_scale(size)
            if direction == 0:
                coefficient *= sp.exp(c)
            elif scale:
                powers += [sp.Integer(0)] * (scale - len(powers))
                powers[scale - 1] = -c if scale == 1 else c
            else:
                rest.append((c, size))
        return Sum(((coefficient, _size(powers, Sum(tuple(rest)))),))

    def expression(self) -> sp.Expr:
        return sp.Add(*(c * size.expression() for c, size in self.terms))


def constant(value: sp.Expr) -> Sum:
    return Sum(((value, Size()),)) if compare(value, 0) != 0 else Sum()


def _of(exponent: Sum | None) -> Sum:
    return Sum() if exponent is None else exponent


def _size(powers: list[sp.Expr], exponent: Sum) -> Size:
    """A size in normal form: logarithms in the exponent become powers, so that equal sizes are equal objects."""
    powers, rest = list(powers), []
    for c, size in exponent.terms:
        scale = _which_scale(size)
        if scale:
            powers += [sp.Integer(0)] * (scale - len(powers))
            powers[scale - 1] += -c if scale == 1 else c
        else:
            rest.append((c, size))
    powers = [sp.Integer(0) if compare(p, 0) == 0 else p for p in powers]
    while powers and powers[-1] == 0:
        powers.pop()
    return Size(tuple(powers), Sum(tuple(rest)) if rest else None)


def _scale(i: int) -> Size:
    return Size((sp.Integer(0),) * i + (ONE,))


def _which_scale(size: Size) -> int:
    """i ≥ 1 if the size is the i-fold logarithm of 1/λ, else 0."""
    i = len(size.powers) - 1
    return i if i >= 1 and size.exponent is None and size == _scale(i) else 0


def _padded(a: tuple[sp.Expr, ...], b: tuple[sp.Expr, ...]) -> tuple[list[sp.Expr], list[sp.Expr]]:
    n = max(len(a), len(b))
    return [*a, *[sp.Integer(0)] * (n - len(a))], [*b, *[sp.Integer(0)] * (n - len(b))]


def _insert(ordered: list[tuple[sp.Expr, Size]], c: sp.Expr, size: Size) -> None:
    """Put a term where it belongs. Sizes may be equal that are written differently: λ^(√2 + √3) and λ^√(5 + 2√6)."""
    for place, (other, at) in enumerate(ordered):
        direction = at.times(size.power(-ONE)).direction()
        if direction == 0:
            total = other + c
            ordered[place : place + 1] = [(total, at)] if compare(total, 0) != 0 else []
            return
        if direction < 0:
            ordered.insert(place, (c, size))
            return
    ordered.append((c, size))


@lru_cache(maxsize=8192)
def parse(expression: sp.Expr) -> Sum:
    """The formula as a sum of this kind.

    Raises:
        NotOfThisForm: it is not one, or not visibly.
    """
    if expression == LAMBDA:
        return Sum(((ONE, Size((ONE,))),))
    if not expression.has(LAMBDA):
        known = expression.is_real and expression.is_finite
        if known is None and expression.is_number:  # of J_1(2), say, SymPy does not know that it is real
            known = approximate(expression) is not None
        if not (expression.is_number and known):
            raise NotOfThisForm
        return constant(expression)
    if expression.is_Add:
        return Sum.collect(term for part in expression.args for term in parse(part).terms)
    if expression.is_Mul:
        result = constant(ONE)
        for part in expression.args:
            result = result * parse(part)
        return result
    if expression.is_Pow:
        base, exponent = expression.args
        if not exponent.has(LAMBDA):
            return parse(base).power(exponent)
        return (parse(exponent) * parse(base).log()).exp()
    if isinstance(expression, sp.exp):
        return parse(expression.args[0]).exp()
    if isinstance(expression, sp.log):
        return parse(expression.args[0]).log()
    raise NotOfThisForm
