"""The small tools that exact expressions are handled with."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from numbers import Real
from typing import Any

import mpmath
import numpy as np
import sympy as sp

from anabook._validate import real
from anabook.symbolic._bounded import attempt
from anabook.symbolic._known_integrals import known_integral
from anabook.symbolic._symbols import x

_SEARCH_POINTS = 801


class Unknown(Exception):
    """SymPy finds no answer in the time that it has; never leaves this package."""


def as_numpy(expression: sp.Expr, *symbols: sp.Symbol) -> Callable[..., np.ndarray]:
    """A NumPy function of the given symbols (by default `x`) that evaluates an expression in float64.

    Where the value is no real number, it is nan. Functions that SciPy lacks, and integrals without a closed form, are
    computed by mpmath, point by point.

    Raises:
        ValueError: the expression has symbols that are not among `symbols`.

    Example:
        >>> as_numpy(x**2 + 1)([0.0, 2.0])
        array([1., 5.])
    """
    symbols = symbols or (x,)
    missing = sorted(expression.free_symbols - set(symbols), key=str)
    if missing:
        raise ValueError(
            f"the expression also depends on {', '.join(map(str, missing))}, which is not among the arguments "
            f"({', '.join(map(str, symbols))})."
        )
    compiled = None if expression.has(sp.Integral) else _lambdified(symbols, expression, ["scipy", "numpy"])

    def function(*values: Any) -> np.ndarray:
        arrays = np.broadcast_arrays(*(np.asarray(v, dtype=np.float64) for v in values))
        with np.errstate(all="ignore"):
            try:
                found = np.asarray(compiled(*arrays))
            except Exception:  # a function that SciPy lacks, by whatever error it says so
                found = _pointwise(expression, symbols, arrays)
            return np.broadcast_to(_real_part(found), arrays[0].shape).copy()[()]

    return function


def _lambdified(symbols: tuple[sp.Symbol, ...], expression: sp.Expr, modules: Any) -> Callable[..., Any] | None:
    try:
        return sp.lambdify(symbols, expression, modules=modules)
    except Exception:
        return None


def _pointwise(expression: sp.Expr, symbols: tuple[sp.Symbol, ...], arrays: list[np.ndarray]) -> np.ndarray:
    value = evaluator(expression, *symbols)
    with mpmath.workdps(20):
        values = [complex(value(*map(float, point))) for point in zip(*(array.ravel() for array in arrays))]
    return np.array(values, dtype=complex).reshape(arrays[0].shape)


def _real_part(values: np.ndarray) -> np.ndarray:
    if not np.iscomplexobj(values):
        return values.astype(np.float64)
    return np.where(np.abs(values.imag) <= 1e-12 * (1 + np.abs(values.real)), values.real, math.nan)


_FAR = mpmath.mpf(10) ** 30


def _exp(v: Any) -> Any:
    """e^v, but 0 or ∞ where the number of its digits alone would not fit into a machine's memory."""
    if isinstance(v, mpmath.mpf) and not -_FAR < v < _FAR:
        return mpmath.nan if mpmath.isnan(v) else mpmath.inf if v > 0 else mpmath.mpf(0)
    return mpmath.exp(v)


def _wave(function: Callable) -> Callable:
    """A sine or the like, which has no value to be had where the argument's digits are as many as that."""

    def value(v: Any) -> Any:
        return mpmath.mpf(mpmath.nan) if isinstance(v, mpmath.mpf) and not -(_FAR**30) < v < _FAR**30 else function(v)

    return value


_MPMATH = (
    {"exp": _exp, "sin": _wave(mpmath.sin), "cos": _wave(mpmath.cos), "tan": _wave(mpmath.tan)},
    "mpmath",
)


def evaluator(expression: sp.Expr, *symbols: sp.Symbol) -> Callable[..., Any]:
    """A function that evaluates an expression with mpmath, at its precision of the moment; nan where there is no value."""
    symbols = symbols or (x,)
    compiled = _lambdified(symbols, expression, _MPMATH)

    def value(*values: Any) -> Any:
        values = tuple(map(mpmath.mpf, values))
        try:
            return mpmath.mpmathify(compiled(*values))
        except (ArithmeticError, ValueError, mpmath.libmp.NoConvergence):
            return mpmath.mpf(mpmath.nan)
        except Exception:  # a function that mpmath lacks, by whatever error it says so
            numbers = {symbol: sp.Float(v, mpmath.mp.dps + 5) for symbol, v in zip(symbols, values)}
            found = attempt(lambda: expression.evalf(mpmath.mp.dps, subs=numbers))
            try:
                return mpmath.mpmathify(found)
            except (TypeError, ValueError):
                return mpmath.mpf(mpmath.nan)

    return value


_ELEMENTARY = (
    sp.functions.elementary.trigonometric.TrigonometricFunction,
    sp.functions.elementary.hyperbolic.HyperbolicFunction,
    sp.functions.elementary.trigonometric.InverseTrigonometricFunction,
    sp.exp,
    sp.log,
    sp.Abs,
    sp.sign,
    sp.erf,
    sp.erfc,
)


def is_elementary(expression: sp.Expr) -> bool:
    """Whether all functions of x in it are quick to compute with many digits."""
    return all(isinstance(node, _ELEMENTARY) for node in expression.atoms(sp.Function) if node.has(x))


def is_long_sum(expression: sp.Expr) -> bool:
    """Whether it is a multiple of a sum of several transcendental terms: bringing it together helps nobody, and takes long."""
    total = expression.as_independent(x, as_Add=False)[1]
    return total.is_Add and len(total.atoms(sp.exp, sp.erf, sp.erfc)) > 1


_STEPS = (mpmath.mpf(10) ** -15, mpmath.mpf(10) ** -30, mpmath.mpf(10) ** -60)


def real_values(expression: sp.Expr) -> Callable[..., Any]:
    """A function of x that evaluates an expression with mpmath where it is real, and nan elsewhere.

    Where a formula has no value (0/0, a pole), it is what the values nearby tend to, ∞ included. They are looked for in
    the direction of `toward`, or to the right.
    """
    value = evaluator(expression)

    def real(v: Any) -> Any:
        found = value(v)
        if isinstance(found, mpmath.mpc):
            found = found.real if abs(found.imag) <= 1e-12 * (1 + abs(found)) else mpmath.mpf(mpmath.nan)
        return found

    def function(v: Any, toward: Any = None) -> Any:
        v = mpmath.mpf(v)
        found = real(v)
        if mpmath.isfinite(found) or mpmath.isinf(v):
            return found
        reach = mpmath.mpf(1) if toward is None else mpmath.mpf(toward) - v
        reach = reach if mpmath.isfinite(reach) else mpmath.sign(reach)
        with mpmath.workdps(mpmath.mp.dps + 300):
            near = [real(v + reach * step) for step in _STEPS]
        if not all(map(mpmath.isfinite, near)):  # ∞ all around is a number too large to write down
            return found if all(other == found for other in near) else mpmath.mpf(mpmath.nan)
        grows = abs(near[2]) > 1.2 * abs(near[1]) > 1.44 * abs(near[0])
        return +near[2] if not grows else mpmath.sign(near[2]) * mpmath.inf

    return function


def exact_value(value: Any) -> sp.Expr:
    """A number as an exact SymPy number: a float as the simplest fraction it stands for; expressions as they are.

    "Stands for" means within 4 units in the last place and a denominator of at most 10 000 (0.1 is 1/10, and
    so is 0.30000000000000004 3/10); a float of another kind becomes its shortest decimal.
    """
    if isinstance(value, sp.Expr) and not isinstance(value, sp.Float):
        return with_exact_numbers(value)
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return sp.Integer(int(value))
    if isinstance(value, sp.Float) and value.is_finite and value._prec > 53:
        return sp.Rational(str(value))
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


def with_exact_numbers(expression: sp.Expr) -> sp.Expr:
    """An expression with every float in it as the number it stands for, and with Γ for the constants made of it.

    SymPy integrates and decides with exact numbers only, and it takes a beta function of numbers for a name.
    """
    expression = expression.xreplace({number: exact_value(number) for number in expression.atoms(sp.Float)})
    constants = [f for f in expression.atoms(*_MADE_OF_GAMMA) if not f.free_symbols]
    return expression.xreplace({f: sp.expand_func(f.rewrite(sp.gamma)) for f in constants})


_MADE_OF_GAMMA = (sp.beta, sp.binomial, sp.catalan, sp.factorial, sp.RisingFactorial, sp.FallingFactorial)


def checked_expression(given: Any, what: str) -> sp.Expr:
    if isinstance(given, (bool, np.bool_, str)) or not isinstance(given, (sp.Expr, Real)):
        raise TypeError(f"{what} must be a SymPy expression, not {given!r}.")
    try:
        return exact_value(given)
    except ValueError:
        raise ValueError(f"{what} must be a finite expression, not {given!r}.") from None


def sign_of(value: sp.Expr, where: Any) -> int:
    value = simplified(value)
    if value.is_zero:
        return 0
    if value.is_extended_positive:
        return 1
    if value.is_extended_negative:
        return -1
    if not value.free_symbols:
        # Numbers that differ from 0 show it, those that do not cannot.
        with mpmath.workdps(60):
            number = evaluator(value)(0)
        if isinstance(number, mpmath.mpf) and abs(number) > 1e-40:
            return int(mpmath.sign(number))
        raise ValueError(
            f"the sign of {value} decides where the density changes form, but SymPy cannot tell it "
            f"(at {where}); write it in a simpler way."
        )
    raise ValueError(
        f"the sign of {value} decides where the density changes form, but SymPy cannot tell it "
        f"(at {where}); declare the parameters positive."
    )


def simplified(expression: sp.Expr) -> sp.Expr:
    """A simpler form, or the expression itself where SymPy takes long."""
    return attempt(sp.simplify, expression, default=expression)


def is_zero(expression: sp.Expr, *places: dict[sp.Symbol, Any]) -> bool | None:
    """Whether an expression is 0 for all values of its symbols, decided by algebra; None if SymPy cannot tell.

    A value other than 0 at one of the places, in high precision, settles that it is not. There is one by default.
    """
    if expression == 0 or attempt(sp.expand, expression) == 0:
        return True
    if expression.replace(lambda e: isinstance(e, sp.Integral), lambda e: sp.Dummy()).has(sp.oo, -sp.oo, sp.zoo, sp.nan):
        return False
    if difference_from_zero(expression, *places) > 1e-15:
        return False
    # Integrals that SymPy did not find before are not looked for again: it would take long.
    for form in _SIMPLER:
        if attempt(form, expression) == 0:
            return True
    return None


_SIMPLER = (
    lambda e: sp.simplify(e, doit=False),
    lambda e: sp.simplify(sp.expand_func(e.rewrite(sp.gamma)), doit=False),
    sp.radsimp,
)


def difference_from_zero(expression: sp.Expr, *places: dict[sp.Symbol, Any]) -> float:
    """The largest absolute value at some places, by default one, where it has a value there (with 60 digits)."""
    symbols = sorted(expression.free_symbols, key=str)
    if not places:
        places = ({s: sp.Rational(k, k + 2) for k, s in enumerate(symbols, 1)},)
    with mpmath.workdps(60):
        found = [abs(evaluator(_with_numbers_for_integrals(expression.subs(place)))(0)) for place in places]
        return float(max((v for v in found if mpmath.isfinite(v)), default=mpmath.mpf(0)))


def _with_numbers_for_integrals(expression: sp.Expr) -> sp.Expr:
    def number(integral: sp.Integral) -> sp.Expr:
        ((variable, low, high),) = integral.limits
        f = integral.function.subs(variable, x)
        return sp.Float(integral_of(f, low, high), 30) if low <= high else -sp.Float(integral_of(f, high, low), 30)

    return expression.replace(lambda e: isinstance(e, sp.Integral), number)


def is_even(density: Any) -> bool:
    pieces = density._pieces
    return all(
        left.lo == -right.hi and left.hi == -right.lo and is_zero(left.pdf.subs(x, -x) - right.pdf)
        for left, right in zip(pieces, reversed(pieces))
    )


def is_finite(value: sp.Expr) -> bool:
    return value not in (sp.oo, -sp.oo, sp.zoo, sp.nan)


def shortest(expression: sp.Expr, *others: sp.Expr) -> sp.Expr:
    """The shortest of a few equal forms: of an expression, and of others that equal it as they stand."""
    forms = [expression, *(attempt(form, expression, default=expression) for form in (sp.expand, sp.simplify)), *others]
    if expression.is_polynomial(x):
        forms.append(attempt(lambda e: sp.factor(e, extension=True), expression, default=expression))
    real_forms = [form for form in forms if not form.has(sp.I)]
    return min(real_forms or [expression], key=lambda f: (sp.count_ops(f), len(str(f))))


def value_at(expression: sp.Expr, point: sp.Expr, side: str) -> sp.Expr:
    """The value at a point, or the limit from inside where there is no value.

    Raises:
        Unknown: SymPy does not find the limit.
    """
    if expression.has(sp.Integral):
        # A distribution function without a closed form.
        there = {integral: _integral_at(integral, point) for integral in expression.atoms(sp.Integral)}
        names = {integral: sp.Dummy() for integral in there}
        return expression.xreplace(names).subs(x, point).xreplace({names[integral]: there[integral] for integral in there})
    if point.is_finite is not False:
        value = expression.subs(x, point)
        if not value.has(sp.nan, sp.zoo, sp.oo, -sp.oo):
            return value
        return limit(expression, x, point, side)
    return limit(expression, x, point)


def _integral_at(integral: sp.Integral, point: sp.Expr) -> sp.Expr:
    """An integral of which one end depends on x, at an x."""
    ((variable, *ends),) = integral.limits
    low, high = (sp.expand(end.subs(x, point)) for end in ends)
    if low == high:
        return sp.Integer(0)
    known = known_integral(integral.function.subs(variable, x), low, high)
    return sp.Integral(integral.function, (variable, low, high)) if known is None else known


def limit(expression: sp.Expr, variable: sp.Symbol, point: sp.Expr, side: str = "+") -> sp.Expr:
    """SymPy's limit.

    Raises:
        Unknown: SymPy does not find it.
    """
    found = None
    if expression.is_Add and len(expression.args) > 2:
        # Where all terms of a sum have limits, these are found much sooner than that of the sum.
        terms = [attempt(sp.limit, term, variable, point, side) for term in expression.args]
        if all(term is not None and term.is_finite for term in terms):
            found = sp.Add(*terms)
    if found is None:
        found = attempt(sp.limit, expression, variable, point, side)
    if found is None or found.has(sp.Limit, sp.AccumBounds, variable):
        raise Unknown
    return found


def affine_end(end: sp.Expr, location: sp.Expr, scale: sp.Expr) -> sp.Expr:
    return end if end in (sp.oo, -sp.oo) else sp.expand(location + scale * end)


@lru_cache(maxsize=1024)
def integral_of(f: sp.Expr, low: sp.Expr, high: sp.Expr) -> Any:
    """∫ f numerically, to about 30 digits."""
    rough, precise = as_numpy(f), real_values(f)

    def at(v: Any) -> Any:
        # Far out, where doubles underflow, nothing is left to add, and exp(exp(…)) would never end.
        value = rough(float(v))
        beyond = value == 0 or (np.isnan(value) and abs(v) > 1e30)
        return mpmath.mpf(0) if beyond else precise(v, middle)

    for end in (low, high):
        if end.is_infinite and _does_not_fade(rough, 1 if end == sp.oo else -1):
            return mpmath.inf

    def next_to(end: Any, sign: int, width: Any) -> tuple[Any, Any]:
        """∫ over `width` next to a finite end: the distance from it counts, since a pole there needs all its digits."""

        def inside(distance: Any) -> Any:
            if not distance > mpmath.mpf(10) ** -900:
                return mpmath.mpf(0)
            with mpmath.workdps(40 + max(0, -int(mpmath.log10(distance)))):
                return at(end + sign * distance)

        if abs(inside(width * mpmath.mpf(10) ** -20)) < 100 * abs(inside(width / 2)):
            return mpmath.quad(inside, [0, width], error=True)
        # With the logarithm of the distance the pole becomes an exponential tail.
        return mpmath.quad(lambda w: inside(width * mpmath.exp(-w)) * width * mpmath.exp(-w), [0, mpmath.inf], error=True)

    def total(places: list[Any]) -> tuple[Any, Any]:
        result, uncertain = mpmath.mpf(0), mpmath.mpf(0)
        for a, b in zip(places, places[1:]):
            if a == ends[0] and mpmath.isfinite(a) and mpmath.isfinite(b):
                part, error = next_to(a, 1, b - a)
            elif b == ends[-1] and mpmath.isfinite(b) and mpmath.isfinite(a):
                part, error = next_to(b, -1, b - a)
            elif mpmath.isinf(a) and rough(-1e8) != 0 or mpmath.isinf(b) and rough(1e8) != 0:
                start, sign = (b, -1) if mpmath.isinf(a) else (a, 1)
                part, error = mpmath.quad(
                    lambda w: at(start + sign * mpmath.expm1(w)) * mpmath.exp(w), [0, mpmath.inf], error=True
                )
            else:
                part, error = mpmath.quad(at, [a, b], error=True)
            result, uncertain = result + part, uncertain + error
        return result, uncertain

    with mpmath.workdps(30):
        ends = [_mpf(low), _mpf(high)]
        if all(map(mpmath.isfinite, ends)):
            middle = (ends[0] + ends[1]) / 2
            ends.insert(1, middle)
        elif not any(map(mpmath.isfinite, ends)):
            middle = mpmath.mpf(0)
            ends.insert(1, middle)
        else:
            middle = ends[0] + 1 if mpmath.isfinite(ends[0]) else ends[1] - 1
            ends.insert(1, middle)
        value, error = total(ends)
        if error > 1e-20 * abs(value):
            # It oscillates, or its mass lies in a small part of the interval: cut it where the mass is.
            value, _ = total(sorted({*ends, *map(mpmath.mpf, places_of_mass(f, low, high).tolist())}))
        return value


def _does_not_fade(f: Callable, sign: int) -> bool:
    """Whether v·f(v) grows, or stays what it is, from 10^8 to 10^15, so that there is no finite integral."""
    near, far = ([abs(float(f(sign * v * some))) * v * some for some in (1, 1.3, 1.7)] for v in (1e8, 1e15))
    return math.inf in far or (min(far) >= max(near) * (1 - 1e-9) and min(near) > 1e-200)


def places_of_mass(f: sp.Expr, low: sp.Expr, high: sp.Expr) -> np.ndarray:
    """Places between which the integral of |f| is spread evenly, as far as a fine grid shows it."""
    grid = np.sort(search_grid(float(low), float(high), 4001))
    values = np.abs(as_numpy(f)(grid))
    values = np.where(np.isfinite(values), values, 0.0)
    mass = np.concatenate([[0.0], np.cumsum((values[1:] + values[:-1]) * np.diff(grid))])
    if not 0 < mass[-1] < math.inf:
        return np.array([])
    shares = np.searchsorted(mass, mass[-1] * np.array([0.01, 0.1, 0.25, 0.4, 0.6, 0.75, 0.9, 0.99]))
    return np.unique(grid[np.clip(shares, 1, len(grid) - 2)])


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


def search_grid(low: float, high: float, number: int = _SEARCH_POINTS) -> np.ndarray:
    """Points of an interval, closer together towards its ends and spread to large values where it is unbounded."""
    share = (1 - np.cos(np.linspace(0, math.pi, number)))[1:-1] / 2
    if math.isfinite(low) and math.isfinite(high):
        return low + (high - low) * share
    if math.isinf(low) and math.isinf(high):
        return np.tan(math.pi * (share - 0.5))
    return low + share / (1 - share) if math.isfinite(low) else high - share / (1 - share)
