"""A density given as an expression, as a law that computes with arrays."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import mpmath
import numpy as np
import sympy as sp
from scipy import integrate
from scipy.optimize import elementwise as roots
from sympy.codegen.rewriting import optimize, optims_numpy

from anabook.laws import Law
from anabook.namespaces import FLOATS, NUMPY, SLACK, mpmath_namespace, sympy_namespace
from anabook.symbolic._bounded import allowance, attempt
from anabook.symbolic._expressions import as_numpy, is_elementary, is_long_sum, probe_points, real_values
from anabook.symbolic._pieces import Piece
from anabook.symbolic._symbols import x
from anabook.symbolic._table import CumulativeTable
from anabook.symbolic._tails import tails_of

_EPS = np.finfo(np.float64).eps
_STEPS = 500_000  # what SymPy may take for the algebraically equal forms of each function
_TABULATED = 1e-17  # below such a tail probability, integrals are computed point by point


@dataclass(frozen=True, repr=False, eq=False)
class DensityLaw(Law):
    """A `Density` as a law, in units of its own: it stands wherever a family's may.

    Every piece is compiled in several algebraically equal forms and the one that agrees best with
    high-precision arithmetic is kept; a value that still overflows is computed with mpmath.
    """

    exact: Any = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DensityLaw) and self.exact == other.exact

    def __hash__(self) -> int:
        return hash(self.exact)

    def __str__(self) -> str:
        return "density" + hashlib.sha256(str(self.exact).encode()).hexdigest()[:12]

    def __reduce__(self) -> tuple:
        return law_of, (self.exact,)

    def icdf(self, u: Any, m: Any = NUMPY) -> Any:
        """The quantile, found numerically."""
        return self._quantile(u, upper=False)

    def isf(self, u: Any, m: Any = NUMPY) -> Any:
        """The t whose upper tail is u, found numerically."""
        return self._quantile(u, upper=True)

    def _quantile(self, u: Any, upper: bool) -> np.ndarray:
        flat = np.atleast_1d(np.asarray(u, dtype=np.float64)).ravel()
        return _quantiles(self.exact, flat, upper).reshape(np.shape(u))


@lru_cache(maxsize=64)
def law_of(density: Any) -> DensityLaw:
    """The law of a density; the same object for equal ones.

    Raises:
        ValueError: parameters without values.
    """
    if density.parameters:
        listing = ", ".join(map(str, density.parameters))
        raise ValueError(f"the density has parameters without values ({listing}); give them by subs first.")
    mean, std = float(density.mean), float(density.std)
    value = functools.partial(_value, density)
    return DensityLaw(
        "density",
        density=functools.partial(value, "pdf"),
        distribution=functools.partial(value, "cdf"),
        survival=functools.partial(value, "sf"),
        support=functools.partial(_ends, density),
        ends=functools.partial(tails_of, density),
        mean=mean,
        std=std,
        symmetric=False,
        kinks=tuple(float(end) for piece in density._pieces for end in (piece.lo, piece.hi)),
        is_movable=math.isfinite(mean) and math.isfinite(std),
        exact=density,
    )


def _ends(density: Any, m: Any) -> tuple[Any, Any]:
    if m is sympy_namespace():
        return density.support
    if m is mpmath_namespace():
        return tuple(map(_precise_end, density.support))
    return tuple(float(end) for end in density.support)


def _precise_end(end: sp.Expr) -> Any:
    return mpmath.mpf(float(end) if end.is_infinite else sp.N(end, mpmath.mp.dps + 5))


def _value(density: Any, what: str, t: Any, m: Any) -> Any:
    """pdf, cdf or sf in one of the namespaces."""
    if m is NUMPY:
        return _compiled(density)[what](t)
    if m is sympy_namespace():
        return getattr(density, what).subs(x, t)
    if m is FLOATS:
        return float(_compiled(density)[what](np.array([t]))[0])
    if m is mpmath_namespace():
        return _precise(density, what, t)
    raise TypeError("a density's functions are for NumPy, floats, SymPy and mpmath; torch's are made by anabook.training.")


def _precise(density: Any, what: str, t: Any) -> Any:
    before, after = {"pdf": (0, 0), "cdf": (0, 1), "sf": (1, 0)}[what]
    if t < _precise_end(density.support[0]):
        return mpmath.mpf(before)
    for piece in density._pieces:
        if t < _precise_end(piece.hi):
            return real_values(getattr(piece, what))(t)
    return mpmath.mpf(after)


def _quantiles(density: Any, u: np.ndarray, upper: bool) -> np.ndarray:
    """Quantiles of a one-dimensional array of probabilities, through the smaller of the two tails."""
    low, high = (float(end) for end in density.support)
    result = np.where(u <= 0, high if upper else low, np.where(u >= 1, low if upper else high, math.nan))
    inner = (u > 0) & (u < 1)
    if not inner.any():
        return result
    below, above = (1 - u[inner], u[inner]) if upper else (u[inner], 1 - u[inner])
    lower_tail = below <= 0.5
    tail = np.where(lower_tail, below, above)
    functions = _compiled(density)

    def excess(v: np.ndarray, tail: np.ndarray, lower_tail: np.ndarray) -> np.ndarray:
        lower_tail = lower_tail > 0.5
        return np.where(lower_tail, functions["cdf"](v) - tail, tail - functions["sf"](v))

    start, stop = _bracket(density, functions, tail.min())
    ends = np.full(tail.shape, start), np.full(tail.shape, stop)
    found = roots.find_root(
        excess,
        ends,
        args=(tail, lower_tail.astype(float)),
        maxiter=400,
        tolerances={"xatol": 0.0, "xrtol": 4e-16, "fatol": 0.0, "frtol": 0.0},
    )
    result[inner] = found.x
    return result


def _bracket(density: Any, functions: dict[str, Any], tail: float) -> tuple[float, float]:
    """Finite ends between which the quantiles of `tail` and 1 − `tail` lie."""
    low, high = (float(end) for end in density.support)
    anchor = low if math.isfinite(low) else high if math.isfinite(high) else 0.0
    reach = 1.0
    while math.isinf(low) and functions["cdf"](np.array([anchor - reach]))[0] > tail and reach < 1e300:
        reach *= 2
    start = anchor - reach if math.isinf(low) else low
    reach = 1.0
    while math.isinf(high) and functions["sf"](np.array([anchor + reach]))[0] > tail and reach < 1e300:
        reach *= 2
    return start, anchor + reach if math.isinf(high) else high


@lru_cache(maxsize=64)
def _compiled(density: Any) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """pdf, cdf and sf of a density without parameters, as functions of float64 arrays."""
    ends = [float(density.support[0]), *(float(piece.hi) for piece in density._pieces)]
    outer = {"pdf": (0.0, 0.0), "cdf": (0.0, 1.0), "sf": (1.0, 0.0)}
    return {
        what: _piecewise_function(
            ends, [_best_form(getattr(p, what), p) for p in density._pieces], *outer[what], what != "pdf"
        )
        for what in outer
    }


def _piecewise_function(
    ends: list[float], functions: list[Callable], before: float, after: float, is_probability: bool
) -> Callable[[np.ndarray], np.ndarray]:
    # A density may jump at an end, and rounding of (x − θ − α)/β must not put x on the wrong side of it:
    # the same slack as for the uniform law in `anabook.laws`. Probabilities do not jump.
    slack = [0.0 if is_probability or math.isinf(end) else SLACK * _EPS * max(1.0, abs(end)) for end in ends]
    # A pole is ∞ from either side: no slack there, and its place belongs to both pieces.
    poles = [False] * len(ends)
    if not is_probability:
        for number, (low, high, piece) in enumerate(zip(ends, ends[1:], functions)):
            for place, end in ((number, low), (number + 1, high)):
                if math.isfinite(end) and piece(np.array([end]))[0] == math.inf:
                    poles[place], slack[place] = True, 0.0

    def function(v: np.ndarray) -> np.ndarray:
        v = np.asarray(v, dtype=np.float64)
        result = np.where(np.isnan(v), v, np.where(v < ends[0], before, after))
        for low, high, early, late, piece in zip(ends, ends[1:], slack, slack[1:], functions):
            # An infinite argument is beyond every piece: the limit is known without evaluating.
            inside = (low - early <= v) & (v < high - late) & np.isfinite(v)
            if inside.any():
                result[inside] = piece(np.maximum(v[inside], low))
        for pole in (end for end, is_pole in zip(ends, poles) if is_pole):
            result = np.where(v == pole, math.inf, result)
        result = np.where(v == -math.inf, before, result)
        return np.clip(result, 0.0, 1.0) if is_probability else np.maximum(result, 0.0)

    return function


def _best_form(expression: sp.Expr, piece: Piece) -> Callable[[np.ndarray], np.ndarray]:
    """The compiled form of an expression that is closest to high-precision arithmetic on the piece."""
    if expression.has(sp.Integral):
        return _tabulated(expression, piece)
    points = np.array(probe_points(float(piece.lo), float(piece.hi)))
    middle = float(points[len(points) // 2])
    precise = real_values(expression)
    with mpmath.workdps(340 if is_elementary(expression) else 40), allowance(_STEPS):
        exact = [precise(point, middle) for point in points]
        # Below 1e-300 doubles lose digits of their own, and the precision above is used up.
        kept = [i for i, value in enumerate(exact) if mpmath.isfinite(value) and abs(value) > mpmath.mpf(10) ** -300]
        candidates = []
        for number, form in enumerate(_forms(expression)):
            function = as_numpy(form)
            values = function(points)
            errors = [abs(mpmath.mpf(float(values[i])) / exact[i] - 1) if math.isfinite(values[i]) else 2 for i in kept]
            candidates.append((float(max(errors, default=0)), number, function))
    best = min(candidates)[2]

    def evaluate(v: np.ndarray) -> np.ndarray:
        values = np.asarray(best(v))
        for i in np.flatnonzero(~np.isfinite(values)):
            with mpmath.workdps(50):
                value = precise(float(v[i]), middle if v[i] != middle else None)
                values[i] = float(value) if mpmath.isfinite(value) else math.inf
        return values

    return evaluate


def _forms(expression: sp.Expr) -> list[sp.Expr]:
    """Algebraically equal forms of an expression, which differ in rounding errors."""
    changes = () if is_long_sum(expression) else (sp.expand, sp.factor, sp.together, sp.simplify)
    forms = [expression, *(attempt(change, expression, default=expression) for change in changes)]
    # Each identity turns a constant plus a saturating function into one function that is small in a tail.
    for function, at_the_left, at_the_right in (
        # SymPy would turn erfc(−u) back into 2 − erfc(u) at once.
        (sp.erf, lambda u: sp.erfc(sp.UnevaluatedExpr(-u)) - 1, lambda u: 1 - sp.erfc(u)),
        (sp.atan, lambda u: sp.atan2(1, -u) - sp.pi / 2, lambda u: sp.pi / 2 - sp.atan2(1, u)),
        (sp.asin, lambda u: sp.acos(-u) - sp.pi / 2, lambda u: sp.pi / 2 - sp.acos(u)),
    ):
        if expression.has(function):
            forms += [
                attempt(sp.expand, expression.replace(function, other), default=expression)
                for other in (at_the_left, at_the_right)
            ]
    if changes:
        forms += [attempt(_divided_by_exponentials, form, default=form) for form in dict.fromkeys(forms)]
    if changes or _has_numpy_functions(expression):
        forms += [attempt(optimize, form, optims_numpy, default=form) for form in dict.fromkeys(forms)]
    return list(dict.fromkeys(forms))


def _has_numpy_functions(expression: sp.Expr) -> bool:
    """Whether there is what NumPy has functions of its own for: logarithms, sines, e^u or cos u beside a number."""
    return expression.has(sp.log, sp.sin) or any(
        node.has(sp.exp, sp.cos) and any(term.is_Number for term in node.args) for node in expression.atoms(sp.Add)
    )


def _divided_by_exponentials(expression: sp.Expr) -> sp.Expr:
    """e^u/(1 + e^u) written as 1/(e^{−u} + 1), for every exponential factor of the numerator."""
    numerator, denominator = sp.fraction(sp.together(sp.powsimp(expression)))
    for factor in sp.Mul.make_args(numerator):
        if isinstance(factor, sp.exp):
            numerator, denominator = numerator / factor, sp.expand(denominator / factor)
    return numerator / denominator


def _tabulated(expression: sp.Expr, piece: Piece) -> Callable[[np.ndarray], np.ndarray]:
    """A constant plus the integral of the piece below or above x: by a table, and far out point by point."""
    (integral,) = expression.atoms(sp.Integral)
    constant = float(expression - integral)
    from_below = integral.limits[0][2] == x
    table = table_of(piece.pdf, piece.lo, piece.hi)
    density, low, high = as_numpy(piece.pdf), float(piece.lo), float(piece.hi)

    def function(v: np.ndarray) -> np.ndarray:
        values = table.below(v) if from_below else table.above(v)
        for i in np.flatnonzero(values < _TABULATED):
            ends = (low, float(v[i])) if from_below else (float(v[i]), high)
            values[i] = integrate.quad(density, *ends, epsabs=0.0, epsrel=1e-13, limit=400)[0]
        return constant + values

    return function


@lru_cache(maxsize=64)
def table_of(f: sp.Expr, low: sp.Expr, high: sp.Expr) -> CumulativeTable:
    """The table of a piece; pdf, cdf and sf share it."""
    return CumulativeTable(f, low, high)
