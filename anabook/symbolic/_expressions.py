"""The symbols of all results, and the small tools that exact expressions are handled with."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import sympy as sp

from anabook._validate import real

x = sp.Symbol("x", real=True)
alpha = sp.Symbol("alpha", real=True)
beta = sp.Symbol("beta", positive=True)
_SEARCH_POINTS = 801


def as_numpy(expression: sp.Expr, *symbols: sp.Symbol) -> Callable[..., np.ndarray]:
    """A NumPy function of the given symbols (by default `x`) that evaluates an expression in float64.

    Raises:
        ValueError: the expression has symbols that are not among `symbols`.
    """
    symbols = symbols or (x,)
    missing = sorted(expression.free_symbols - set(symbols), key=str)
    if missing:
        raise ValueError(
            f"the expression also depends on {', '.join(map(str, missing))}, which is not among the arguments "
            f"({', '.join(map(str, symbols))})."
        )
    compiled = sp.lambdify(symbols, expression, modules=["scipy", "numpy"])

    def function(*values: Any) -> np.ndarray:
        arrays = np.broadcast_arrays(*(np.asarray(v, dtype=np.float64) for v in values))
        with np.errstate(all="ignore"):
            return np.broadcast_to(np.asarray(compiled(*arrays), dtype=np.float64), arrays[0].shape).copy()[()]

    return function


def exact_value(value: Any) -> sp.Expr:
    """A number as an exact SymPy number: a float as the simplest fraction it stands for; expressions as they are.

    "Stands for" means within 4 units in the last place and a denominator of at most 10 000 (0.1 is 1/10, and
    so is 0.30000000000000004 3/10); a float of another kind becomes its shortest decimal.
    """
    if isinstance(value, (sp.Expr, int, np.integer)) and not isinstance(value, (bool, sp.Float)):
        return sp.sympify(int(value) if isinstance(value, np.integer) else value)
    number = float(value)
    if math.isinf(number):
        return sp.oo if number > 0 else -sp.oo
    if math.isnan(number):
        raise ValueError("expected a number, not nan.")
    simple = Fraction(number).limit_denominator(10_000)
    if abs(float(simple) - number) <= 4 * math.ulp(number):
        return sp.Rational(simple.numerator, simple.denominator)
    return sp.Rational(repr(number))


def exact_number(value: Any, what: str) -> sp.Expr:
    exact = exact_value(value) if isinstance(value, sp.Expr) else exact_value(real(value, what))
    if exact.free_symbols or not exact.is_real:
        raise ValueError(f"{what} must be a real number, not {value!r}.")
    return exact


def exact_constant(value: Any, what: str) -> sp.Expr:
    """A number or an expression that does not depend on x."""
    exact = exact_value(value) if isinstance(value, sp.Expr) else exact_value(real(value, what))
    if x in exact.free_symbols or exact.is_real is False or exact.is_finite is False:
        raise ValueError(f"{what} must be a finite real number or an expression without x, not {value}.")
    return exact


def checked_expression(given: Any, what: str) -> sp.Expr:
    if isinstance(given, (bool, str)) or not isinstance(given, (sp.Expr, int, float)):
        raise TypeError(f"{what} must be a SymPy expression, not {given!r}.")
    return sp.sympify(given)


def sign_of(value: sp.Expr, where: Any) -> int:
    value = sp.simplify(value)
    if value.is_zero:
        return 0
    if value.is_extended_positive:
        return 1
    if value.is_extended_negative:
        return -1
    raise ValueError(f"the sign of {value} decides where the density changes form, but SymPy cannot tell it "
                     f"(at {where}); declare the parameters positive.")


def is_zero(expression: sp.Expr) -> bool:
    """Whether the expression is identically 0, decided by algebra; one value other than 0 settles that it is not."""
    if sp.expand(expression) == 0:
        return True
    symbols = sorted(expression.free_symbols, key=str)
    value = sp.N(expression.subs({s: sp.Rational(k, k + 2) for k, s in enumerate(symbols, 1)}), 30)
    if value.is_Float and abs(value) > sp.Float("1e-15"):
        return False
    return sp.simplify(expression) == 0


def is_finite(value: sp.Expr) -> bool:
    return value not in (sp.oo, -sp.oo, sp.zoo, sp.nan)


def shortest(expression: sp.Expr, *others: sp.Expr) -> sp.Expr:
    """The shortest of a few equal forms: of an expression, and of others that equal it as they stand."""
    forms = [expression, sp.expand(expression), sp.simplify(expression), *others]
    if expression.is_polynomial(x):
        forms.append(sp.factor(expression, extension=True))
    return min((f for f in forms if not f.has(sp.I)), key=lambda f: (sp.count_ops(f), len(str(f))))


def value_at(expression: sp.Expr, point: sp.Expr, side: str) -> sp.Expr:
    """The value at a point, or the limit from inside where there is no value."""
    if point.is_finite is not False:
        value = expression.subs(x, point)
        if not value.has(sp.nan, sp.zoo, sp.oo, -sp.oo):
            return value
    return sp.limit(expression, x, point) if point.is_finite is False else sp.limit(expression, x, point, side)


def affine_end(end: sp.Expr, location: sp.Expr, scale: sp.Expr) -> sp.Expr:
    return end if end in (sp.oo, -sp.oo) else sp.expand(location + scale * end)


def integral_of(f: sp.Expr, low: sp.Expr, high: sp.Expr) -> Any:
    """∫ f numerically, to about 30 digits."""
    rough, precise = sp.lambdify(x, f, modules=["scipy", "numpy"]), sp.lambdify(x, f, modules="mpmath")

    def integrand(v: Any) -> Any:
        # Far out, where doubles underflow, nothing is left to add, and exp(exp(…)) would never end.
        with np.errstate(all="ignore"):
            return mpmath.mpf(0) if rough(np.float64(float(v))) == 0 else precise(v)

    with mpmath.workdps(30):
        ends = [_mpf(low), _mpf(high)]
        if mpmath.isinf(ends[0]) and mpmath.isinf(ends[1]):
            ends.insert(1, mpmath.mpf(0))
        return mpmath.quad(integrand, ends)


def _mpf(end: sp.Expr) -> Any:
    return mpmath.mpf(float(end)) if end.is_finite is False else mpmath.mpf(sp.N(end, 40))


def probe_points(low: float, high: float) -> list[float]:
    steps = [10.0**k for k in range(-9, 0)]
    if math.isfinite(low) and math.isfinite(high):
        inner = [*steps, *np.linspace(0.15, 0.85, 8), *(1 - s for s in steps)]
        points = [low + (high - low) * s for s in inner]
    elif math.isinf(low) and math.isinf(high):
        ladder = [1e-3, 0.1, 0.5, 1, 2, 3, 5, 8, 12, 20, 30, 36, 100, 300]
        points = [-s for s in reversed(ladder)] + [0.0, *ladder]
    else:
        ladder = [*steps, 0.5, 1, 2, 3, 5, 8, 12, 20, 30, 36, 100, 300]
        points = [low + s for s in ladder] if math.isfinite(low) else [high - s for s in ladder]
    return [p for p in points if low < p < high]


def search_grid(low: float, high: float) -> np.ndarray:
    """Points of an interval, closer together towards its ends and spread to large values where it is unbounded."""
    share = (1 - np.cos(np.linspace(0, math.pi, _SEARCH_POINTS)))[1:-1] / 2
    if math.isfinite(low) and math.isfinite(high):
        return low + (high - low) * share
    if math.isinf(low) and math.isinf(high):
        return np.tan(math.pi * (share - 0.5))
    return low + share / (1 - share) if math.isfinite(low) else high - share / (1 - share)
