"""Limits as λ → 0+ of formulas in one symbol: exact where they can be derived, high-precision evidence where not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import mpmath
import sympy as sp

from anabook.convergence.orders import LAMBDA, NotOfThisForm, Sum, compare, parse

LOG = sp.log(1 / LAMBDA)
"""ln(1/λ), positive for λ < 1."""

_DIGITS_OF_LAMBDA = tuple(2**j for j in range(2, 9))
_TAIL = 5


@dataclass(frozen=True)
class LimitPoints:
    """Where a formula goes as λ → 0+: its limit points lie in [low, high].

    Attributes:
        low, high: extended real numbers; equal where a limit exists.
        numerical: whether this rests on numbers at small λ (down to 10^−256) and not on a derivation.
    """

    low: sp.Expr
    high: sp.Expr
    numerical: bool = False

    def is_at_least(self, bound: Any) -> bool | None:
        """Whether every limit point is ≥ bound; None if [low, high] does not tell."""
        if compare(self.low, bound) >= 0:
            return True
        return False if compare(self.high, bound) < 0 else None

    def is_equal(self, value: Any) -> bool | None:
        """Whether the limit exists and is `value`; None if [low, high] does not tell."""
        if compare(self.low, value) > 0 or compare(self.high, value) < 0:
            return False
        return True if compare(self.low, value) == compare(self.high, value) == 0 else None

    def __str__(self) -> str:
        if self.low == self.high:
            return show(self.low)
        return f"between {show(self.low)} and {show(self.high)}"


@lru_cache(maxsize=8192)
def limit(expression: sp.Expr) -> LimitPoints | None:
    """The limit as λ → 0+, or None if neither derivations nor the numbers tell."""
    try:
        value = parse(expression).limit()
        return LimitPoints(value, value)
    except NotOfThisForm:
        found = _derived(expression)
        return found if found is not None else _observed(expression)


@lru_cache(maxsize=4096)
def eventual_sign(expression: sp.Expr) -> tuple[int | None, bool]:
    """The sign for all small λ, and whether only λ = 10^−4 … 10^−256 show it; a sign of None if they do not show one."""
    try:
        return parse(expression).sign(), False
    except NotOfThisForm:
        pass
    found = _derived(expression)
    if found is not None and 0 not in (compare(found.low, 0), compare(found.high, 0)):
        if compare(found.low, 0) == compare(found.high, 0):
            return compare(found.low, 0), False
    values = _sample(expression)
    signs = {int(mpmath.sign(v)) for v in values or ()}
    return (signs.pop() if len(signs) == 1 else None), True


@lru_cache(maxsize=4096)
def leading(expression: sp.Expr) -> sp.Expr:
    """A simpler positive formula of the same order if one is found, else the formula itself."""
    try:
        terms = parse(expression).terms
        return Sum(((sp.Integer(1), terms[0][1]),)).expression() if terms else sp.Integer(0)
    except NotOfThisForm:
        return _leading_by_limits(expression)


def _leading_by_limits(expression: sp.Expr) -> sp.Expr:
    rest, simple = expression, sp.Integer(1)
    for scale in (LAMBDA, LOG, sp.log(LOG)):
        order = limit(sp.log(rest) / sp.log(scale))
        if order is None or order.numerical or order.low != order.high or not order.low.is_finite:
            return expression
        rest, simple = rest / scale**order.low, simple * scale**order.low
        left = limit(rest)
        if left is not None and not left.numerical and left.high.is_finite and compare(left.low, 0) > 0:
            return simple
    return expression


def exact(expression: sp.Expr) -> sp.Expr:
    """The formula with its decimal numbers read as the fractions that they show (0.3 as 3/10)."""
    return expression.replace(lambda e: e.is_Float, lambda e: sp.Rational(str(e)))


def show(expression: Any) -> str:
    """A formula as text: λ for the symbol, ^ for powers, short decimals for unwieldy numbers."""
    expression = sp.sympify(expression)
    if expression.is_number and expression.is_real:
        return str(expression) if expression.is_Rational and expression.q < 1000 else f"{float(expression):.4g}"
    text = sp.sstr(expression.xreplace({sp.log(LAMBDA): -sp.Symbol("LOG"), LOG: sp.Symbol("LOG")}))
    text = re.sub(r"\blambda\b", "λ", text).replace("**", "^").replace("*", "·")
    return text.replace("LOG", "ln(1/λ)").replace("log(", "ln(").replace("oo", "∞")


_TRACTABLE = (sp.exp, sp.log, sp.sin, sp.cos, sp.tan, sp.atan, sp.sinh, sp.cosh, sp.tanh, sp.Abs, sp.erf, sp.erfc)
_MAX_OPERATIONS = 40


def _derived(expression: sp.Expr) -> LimitPoints | None:
    # SymPy has no time limit: special functions and long formulas can keep it busy for ever.
    known = all(isinstance(f, _TRACTABLE) for f in expression.atoms(sp.Function))
    if not known or expression.count_ops() > _MAX_OPERATIONS:
        return None
    try:
        value = sp.limit(expression, LAMBDA, 0, "+")
    except Exception:  # SymPy gives up with many kinds of error; all of them mean "not found"
        return None
    if isinstance(value, sp.AccumBounds):
        return LimitPoints(value.min, value.max)
    usable = value.is_number and not value.has(sp.nan, sp.zoo, sp.Limit, sp.AccumBounds) and value.is_extended_real
    return LimitPoints(value, value) if usable else None


def _observed(expression: sp.Expr) -> LimitPoints | None:
    values = _sample(expression)
    if values is None:
        return None
    tail = values[-_TAIL - 1 :]
    tiny = mpmath.mpf(10) ** -50
    if all(abs(v) < tiny for v in tail):
        return _seen(0)
    if any(v == 0 for v in tail):
        return None
    ratios = [after / before for before, after in zip(tail, tail[1:])]
    # λ is squared from one value to the next, so even powers of ln(1/λ) change by a factor.
    if all(abs(r) <= 0.75 for r in ratios):
        return _seen(0)
    if all(r >= 1.33 for r in ratios):
        return _seen(sp.oo if tail[-1] > 0 else -sp.oo)
    steps = [after - before for before, after in zip(tail, tail[1:])]
    if all(abs(s) < tiny for s in steps) or _shrinking(steps):
        return _seen(_settled(tail))
    return None


def _seen(value: Any) -> LimitPoints:
    return LimitPoints(sp.sympify(value), sp.sympify(value), True)


def _shrinking(steps: list[Any]) -> bool:
    return all(before != 0 and abs(after / before) <= 0.75 for before, after in zip(steps, steps[1:]))


def _settled(tail: list[Any]) -> sp.Expr:
    a, b, c = tail[-3:]
    bend = c - 2 * b + a
    value = c if bend == 0 else c - (c - b) ** 2 / bend  # Aitken: exact for a geometric approach
    return sp.Float(mpmath.nstr(value, 10), 10)


def _sample(expression: sp.Expr) -> list[Any] | None:
    function, values = sp.lambdify(LAMBDA, expression, "mpmath"), []
    for k in _DIGITS_OF_LAMBDA:
        # Differences of nearly equal terms may cost as many digits as λ has zeros, twice over.
        with mpmath.workdps(60 + 2 * k):
            try:
                value = mpmath.mpmathify(function(mpmath.mpf(10) ** -k))
            except Exception:  # an unknown function, an overflow, a division by zero: no evidence
                return None
            if isinstance(value, mpmath.mpc):
                if abs(value.imag) > mpmath.mpf(10) ** -40 * (1 + abs(value.real)):
                    return None
                value = value.real
            if not mpmath.isfinite(value):
                return None
            values.append(+value)
    return values
