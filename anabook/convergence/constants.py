"""Constants compared exactly, or not at all.

A constant that is not zero is told from zero by an interval around it that leaves zero out: the interval is computed in
more and more digits, with outward rounding. A constant that is zero is told by algebra: its minimal polynomial, or a
simplification. What neither tells stays open, however small the constant looks.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import Any

import mpmath
import sympy as sp

from anabook.convergence.leash import GIVES_UP, bounded

_DIGITS = (20, 60, 200, 600)
_STEPS = 40_000
_MAGNITUDE = 4000  # bits before the point in what an exponential is taken of
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


@lru_cache(maxsize=8192)
def sign(constant: sp.Expr) -> int:
    """The sign of a real constant.

    Raises:
        Untold: see `compare`.
    """
    if constant.is_Rational:
        return (constant.p > 0) - (constant.p < 0)
    for digits in _DIGITS[:3]:
        found = _sign_by_digits(constant, digits)
        if found is not None:
            return found
    short = all(q.p.bit_length() + q.q.bit_length() < _BITS for q in constant.atoms(sp.Rational))
    if short and bounded(_is_zero, constant, steps=4 * _STEPS):
        return 0
    for digits in _DIGITS[3:]:
        found = _sign_by_digits(constant, digits)
        if found is not None:
            return found
    raise Untold("the sign of a constant is not told.")  # its text might take as long as its value


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


def _approximate(constant: sp.Expr, digits: int) -> Any:
    context = mpmath.ctx_iv.MPIntervalContext()
    context.dps = digits
    low, high = _ends(_interval(constant, context))
    with mpmath.workdps(digits):
        return (low + high) / 2 if high - low <= min(abs(low), abs(high)) * mpmath.mpf("1e-10") else None


def _interval(constant: sp.Expr, iv: Any) -> Any:
    """An interval that holds the constant.

    That is proven by interval arithmetic for numbers, sums, products, powers, and the functions that mpmath has intervals of.
    Of other functions it is a heuristic: see `_function`.

    Raises:
        ValueError, OverflowError: none is found in so many digits.
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
        digits = iv.dps + 10
        return _around([constant.evalf(digits)], digits, iv)
    raise ValueError("no interval arithmetic is known for this constant.")


def _function(constant: sp.Expr, iv: Any) -> Any:
    """A function's values where its arguments may be. SymPy's own estimates leave out what the arguments are wrong by.

    For exp, log, sin, cos, tan, floor and ceiling these are intervals of mpmath's. For others (erf, gamma, …) they are a
    heuristic: SymPy's values at the ends and in the middle of where the arguments may be, with as much again on either side,
    which holds the constant where the function is nearly straight on so short a way, and proves nothing.
    """
    inside = [_interval(part, iv) for part in constant.args]
    name = type(constant).__name__
    if name in ("exp", "sin", "cos", "log") and len(inside) == 1:
        if name == "exp" and max(mpmath.mag(inside[0].a), mpmath.mag(inside[0].b)) > _MAGNITUDE:
            raise OverflowError
        if name == "log" and not inside[0].a > 0:
            raise ValueError("the logarithm of what may be negative.")
        return getattr(iv, name)(inside[0])
    if name == "tan":
        return iv.sin(inside[0]) / iv.cos(inside[0])
    if name in ("floor", "ceiling"):
        down = name == "floor"
        whole = {int(end) - (end < int(end)) if down else int(end) + (end > int(end)) for end in _ends(inside[0])}
        if len(whole) > 1:
            raise ValueError("more than one whole number.")
        return iv.mpf(whole.pop())
    digits = iv.dps + 10
    corners: list[list[sp.Expr]] = []
    for part, values in zip(constant.args, inside):
        low, high = _ends(values)
        if high - low > mpmath.mpf(10) ** (-iv.dps // 2):
            raise ValueError("the arguments are known to too few digits.")
        with mpmath.workdps(4 * digits):
            points = (low, (low + high) / 2, high)
            corners.append([part] if part.is_Rational else [sp.Float(point, 4 * digits) for point in points])
    values = [constant.func(*corner).evalf(digits) for corner in itertools.product(*corners)]
    return _around(values, digits, iv)


def _ends(values: Any) -> tuple[Any, Any]:
    low, high = values._mpi_
    return mpmath.mp.make_mpf(low), mpmath.mp.make_mpf(high)


def _around(values: list[sp.Expr], digits: int, iv: Any) -> Any:
    """An interval with all of these and as much again on either side, and what they may be rounded by."""
    if not all(value.is_Float for value in values):
        raise ValueError("the constant has no real value.")
    with mpmath.workdps(2 * digits):
        numbers = [mpmath.mpf(value._mpf_) for value in values]
        spread = max(numbers) - min(numbers)
        error = spread + max(map(abs, numbers)) * mpmath.mpf(10) ** (3 - iv.dps)
        return iv.mpf([min(numbers) - error, max(numbers) + error])


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
    return iv.exp(_interval(exponent, iv) * iv.log(inside))


def _is_zero(constant: sp.Expr) -> bool:
    """Whether algebra shows that it is zero; False also where it does not tell."""
    if constant.is_zero:
        return True
    if constant.is_algebraic:
        t = sp.Dummy("t")
        if bounded(lambda: sp.minimal_polynomial(constant, t), steps=_STEPS) == t:
            return True
    return any(bounded(form, constant, steps=_STEPS) == 0 for form in (sp.simplify, sp.radsimp, sp.expand))
