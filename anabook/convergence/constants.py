"""Constants compared exactly, or not at all.

A constant that is not zero is told from zero by an interval around it that leaves zero out: the interval is computed in
more and more digits, with outward rounding. A constant that is zero is told by algebra: its minimal polynomial, or a
simplification. What neither tells stays open, however small the constant looks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import mpmath
import sympy as sp

from anabook.convergence.constant_functions import ends, exponential, function_of
from anabook.convergence.leash import GIVES_UP, Late, bounded, is_late

_DIGITS = (20, 60, 200, 600)
_STEPS = 40_000
_SIGHT = 200  # bits
_BITS = 4000  # of a fraction; algebra with longer ones makes single steps that nothing can end


class NotOfThisForm(Exception):
    """The formula is not of the kind asked for, or something about it that matters cannot be told."""


class Untold(NotOfThisForm):
    """Two constants that could not be told apart, nor shown to be equal."""


def compare(x: Any, y: Any) -> int:
    """−1, 0 or 1 as x <, =, > y, for extended real numbers.

    Raises:
        Untold: neither an interval tells them apart nor algebra shows that they are equal.
    """
    x, y = sp.sympify(x), sp.sympify(y)
    if x == y:
        return 0
    if x in (sp.oo, -sp.oo) or y in (sp.oo, -sp.oo):
        return 1 if x == sp.oo or y == -sp.oo else -1
    return sign(x - y)


def sign(constant: sp.Expr) -> int:
    """The sign of a real constant.

    Raises:
        Untold: see `compare`.
    """
    try:
        found = _sign(constant)
    except Late:
        found = None
    if found is None:
        raise Untold("the sign of a constant is not told.")  # its text might take as long as its value
    return found


@lru_cache(maxsize=8192)
def _sign(constant: sp.Expr) -> int | None:
    if constant.is_Rational:
        return (constant.p > 0) - (constant.p < 0)
    for digits in _DIGITS[:3]:
        found = _sign_by_digits(constant, digits)
        if found is not None:
            return found
    if isinstance(constant, sp.exp) and constant.args[0].is_real:
        return 1
    if constant.is_Mul:
        signs = [_sign(part) for part in constant.args]
        return None if None in signs else math.prod(signs)  # type: ignore[arg-type]
    short = all(q.p.bit_length() + q.q.bit_length() < _BITS for q in constant.atoms(sp.Rational))
    if short and bounded(_is_zero, constant, steps=4 * _STEPS):
        return 0
    for digits in _DIGITS[3:]:
        found = _sign_by_digits(constant, digits)
        if found is not None:
            return found
    if is_late():
        raise Late
    return None


def _sign_by_digits(constant: sp.Expr, digits: int) -> int | None:
    """The sign, if an interval of so many digits leaves zero out."""
    context = mpmath.ctx_iv.MPIntervalContext()
    context.dps = digits
    try:
        value = bounded(_interval, constant, context, steps=_STEPS)
        if value is None:
            return None
        return 1 if value.a > 0 else -1 if value.b < 0 else None
    except GIVES_UP:
        return None


@lru_cache(maxsize=1024)
def approximate(constant: sp.Expr) -> Any:
    """A real constant as an mpmath number with ten digits that are right, for messages; None if they are not found."""
    for digits in _DIGITS:
        found = bounded(_approximate, constant, digits, steps=_STEPS)
        if found is not None:
            return found
    return None


def are_in_sight(expression: sp.Expr) -> bool:
    """Whether all constants in a formula are known, and of a size that numbers at small λ can tell from 0 and from ∞."""
    for constant in _constants_in(expression):
        size = approximate(constant)
        if size is None or (size != 0 and abs(mpmath.mag(size)) > _SIGHT):
            return False
    return True


def _constants_in(expression: sp.Basic) -> Iterator[sp.Expr]:
    """The parts without a symbol, each as large as may be: of a sum, all such terms together."""
    if not isinstance(expression, sp.Basic) or not expression.args:
        if isinstance(expression, sp.Expr) and not expression.free_symbols:
            yield expression
        return
    left = expression.args
    if isinstance(expression, sp.Expr):
        if not expression.free_symbols:
            yield expression
            return
        if expression.is_Add or expression.is_Mul:
            fixed = [part for part in left if not part.free_symbols]
            left = [part for part in left if part.free_symbols]
            if fixed:
                yield expression.func(*fixed)
    for part in left:
        yield from _constants_in(part)


def _approximate(constant: sp.Expr, digits: int) -> Any:
    context = mpmath.ctx_iv.MPIntervalContext()
    context.dps = digits
    low, high = ends(_interval(constant, context))
    with mpmath.workdps(digits):
        known = (
            mpmath.isfinite(low) and mpmath.isfinite(high) and high - low <= min(abs(low), abs(high)) * mpmath.mpf("1e-10")
        )
        return (low + high) / 2 if known else None


def _interval(constant: sp.Expr, iv: Any) -> Any:
    """An interval that holds the constant, by interval arithmetic.

    Raises:
        ValueError, OverflowError: none is found in so many digits, or none is known.
    """
    if constant.is_Integer:
        return iv.mpf(int(constant))
    if constant.is_Rational:
        return iv.mpf(int(constant.p)) / int(constant.q)
    if constant.is_Float:
        return _interval(sp.Rational(constant), iv)
    if constant is sp.pi:
        return +iv.pi
    if constant is sp.E:
        return iv.exp(iv.mpf(1))
    if constant.is_Add:
        return sum((_interval(part, iv) for part in constant.args), iv.mpf(0))
    if constant.is_Mul:
        product = iv.mpf(1)
        for part in constant.args:
            product *= _interval(part, iv)
        return product
    if constant.is_Pow:
        base, exponent = constant.args
        return _power(base, exponent, iv)
    if isinstance(constant, sp.Abs):
        return abs(_interval(constant.args[0], iv))
    if isinstance(constant, (sp.Max, sp.Min)):
        parts, choose = [_interval(part, iv) for part in constant.args], max if isinstance(constant, sp.Max) else min
        return iv.mpf([choose(part.a for part in parts), choose(part.b for part in parts)])
    if isinstance(constant, sp.Function):
        return _function(constant, iv)
    if isinstance(constant, sp.NumberSymbol):
        return _around(constant.evalf(iv.dps + 10), iv)
    if isinstance(constant, sp.CRootOf) and constant.is_real:
        error = sp.Rational(1, 10 ** (iv.dps + 5))
        near = constant.eval_rational(dx=error)
        return _interval(near, iv) + _interval(error, iv) * iv.mpf([-1, 1])
    raise ValueError("no interval arithmetic is known for this constant.")


def _function(constant: sp.Expr, iv: Any) -> Any:
    """A function's values where its arguments may be. SymPy's own estimates leave out what the arguments are wrong by."""
    inside = [_interval(part, iv) for part in constant.args]
    if isinstance(constant, (sp.floor, sp.ceiling)):
        down = isinstance(constant, sp.floor)
        whole = {int(end) - (end < int(end)) if down else int(end) + (end > int(end)) for end in ends(inside[0])}
        if len(whole) > 1:
            raise ValueError("which whole number it is, is not told.")
        return iv.mpf(whole.pop())
    return function_of(constant, inside, iv)


def _around(value: sp.Expr, iv: Any) -> Any:
    """An interval around one of mpmath's own constants, whose digits are right but for the last ones."""
    with mpmath.workdps(iv.dps + 10):
        number = mpmath.mpf(value._mpf_)
        error = abs(number) * mpmath.mpf(10) ** (-iv.dps - 5)
        return iv.mpf([number - error, number + error])


def _power(base: sp.Expr, exponent: sp.Expr, iv: Any) -> Any:
    inside = _interval(base, iv)
    if exponent.is_Integer:
        if abs(int(exponent)) > 10**6:
            raise OverflowError
        return inside ** int(exponent)
    if not inside.a > 0:
        raise ValueError("a broken power of what may be negative.")
    if exponent == sp.Rational(1, 2):
        return iv.sqrt(inside)
    return exponential(iv, _interval(exponent, iv) * iv.log(inside))


def _is_zero(constant: sp.Expr) -> bool:
    """Whether algebra shows that it is zero; False also where it does not tell."""
    if constant.is_zero:
        return True
    if constant.is_algebraic:
        t = sp.Dummy("t")
        if bounded(lambda: sp.minimal_polynomial(constant, t), steps=_STEPS) == t:
            return True
    return any(bounded(form, constant, steps=_STEPS) == 0 for form in (sp.simplify, sp.radsimp, sp.expand))
