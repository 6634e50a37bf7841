"""A density given as an expression, as a noise that computes with arrays."""

from __future__ import annotations

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

from anabook._arrays import elementwise
from anabook._validate import generator, real
from anabook.symbolic._density import Density, Piece
from anabook.symbolic._bounded import allowance, attempt
from anabook.symbolic._expressions import as_numpy, is_elementary, is_long_sum, probe_points, real_values, x
from anabook.symbolic._table import CumulativeTable

_EPS = np.finfo(np.float64).eps
_STEPS = 500_000  # what SymPy may take for the algebraically equal forms of each function
_TABULATED = 1e-17  # below such a tail probability, integrals are computed point by point


@dataclass(frozen=True)
class DensityNoise:
    """A `Density` as a noise that computes with arrays: it stands wherever a `Noise` may.

    Every piece is compiled in several algebraically equal forms and the one that agrees best with
    high-precision arithmetic is kept; a value that still overflows is computed with mpmath.

    Args:
        density: a density without free parameters.
        mean: α; None for the density's own.
        std: β ≥ 0; None for the density's own.
    """

    density: Density
    mean: float | None = None
    std: float | None = None

    def __post_init__(self) -> None:
        density = self.density
        if not isinstance(density, Density):
            raise TypeError(f"density must be a Density, not {density!r}.")
        if density.parameters:
            listing = ", ".join(map(str, density.parameters))
            raise ValueError(f"the density has parameters without values ({listing}); give them by subs first.")
        own = float(density.mean), float(density.std)
        if (self.mean is not None or self.std is not None) and not all(map(math.isfinite, own)):
            raise ValueError(
                f"a density with mean {density.mean} and standard deviation {density.std} cannot be given others; "
                "shift and scale its expression instead."
            )
        mean = own[0] if self.mean is None else real(self.mean, "mean")
        std = own[1] if self.std is None else real(self.std, "std", minimum=0.0)
        scale = 1.0 if std == own[1] or not math.isfinite(own[1]) else std / own[1]
        shift = mean - scale * own[0] if math.isfinite(own[0]) else 0.0
        for name, value in (("mean", mean), ("std", std), ("_scale", scale), ("_shift", shift)):
            object.__setattr__(self, name, value)

    @property
    def family(self) -> str:
        """"density", where a `Noise` has its family's name."""
        return "density"

    @property
    def is_dirac(self) -> bool:
        """Whether all mass sits at the mean (std = 0)."""
        return self.std == 0.0

    @property
    def support(self) -> tuple[float, float]:
        """The ends of the support."""
        if self.is_dirac:
            return self.mean, self.mean
        low, high = (float(end) for end in self.density.support)
        return self._shift + self._scale * low, self._shift + self._scale * high

    @property
    def half_width(self) -> float:
        """The largest distance between a value and the mean; inf for unbounded supports."""
        low, high = self.support
        return max(high - self.mean, self.mean - low) if math.isfinite(self.mean) else math.inf

    def pdf(self, x: Any) -> Any:
        """Density at x; 0 outside the support, the right-hand value at a jump. A Dirac has +inf at its mean."""
        if self.is_dirac:
            return elementwise(lambda v: self._step(v, "pdf"), x)
        return elementwise(lambda v: _compiled(self.density)["pdf"](self._standard(v)) / self._scale, x)

    def cdf(self, x: Any) -> Any:
        """P(ν ≤ x), by a form that is accurate in the lower tail where one was found."""
        return elementwise(lambda v: self._law("cdf", v), x)

    def sf(self, x: Any) -> Any:
        """P(ν > x), by a form that is accurate in the upper tail where one was found."""
        return elementwise(lambda v: self._law("sf", v), x)

    def icdf(self, u: Any) -> Any:
        """The quantile inf{x : cdf(x) ≥ u}, found numerically.

        Raises:
            ValueError: a probability outside [0, 1].
        """
        return elementwise(lambda v: self._quantile(v, upper=False), u, "u")

    def isf(self, u: Any) -> Any:
        """The x whose upper tail sf(x) is u, found numerically."""
        return elementwise(lambda v: self._quantile(v, upper=True), u, "u")

    def sample(self, shape: int | tuple[int, ...], rng: np.random.Generator | int) -> np.ndarray:
        """Independent draws, by the quantile of uniform numbers.

        Args:
            shape: shape of the result.
            rng: a NumPy generator, or an integer seed.
        """
        uniform = np.clip(1.0 - generator(rng).random(shape), None, 1 - 2.0**-53)
        return np.asarray(self.icdf(uniform))

    def _standard(self, v: np.ndarray) -> np.ndarray:
        return (v - self._shift) / self._scale

    def _law(self, what: str, v: np.ndarray) -> np.ndarray:
        return self._step(v, what) if self.is_dirac else _compiled(self.density)[what](self._standard(v))

    def _step(self, v: np.ndarray, what: str) -> np.ndarray:
        value = {"pdf": np.where(v == self.mean, math.inf, 0.0), "cdf": np.where(v >= self.mean, 1.0, 0.0),
                 "sf": np.where(v < self.mean, 1.0, 0.0)}[what]
        return np.where(np.isnan(v), v, value)

    def _quantile(self, u: np.ndarray, upper: bool) -> np.ndarray:
        outside = (u < 0) | (u > 1)
        if outside.any():
            raise ValueError(f"probabilities must lie in [0, 1], not {float(u[outside].flat[0])!r}.")
        if self.is_dirac:
            return np.where(np.isnan(u), u, self.mean)
        flat = np.atleast_1d(u).ravel()
        values = _quantiles(self.density, flat, upper).reshape(np.shape(u))
        return self._shift + self._scale * values


def _quantiles(density: Density, u: np.ndarray, upper: bool) -> np.ndarray:
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
    found = roots.find_root(excess, ends, args=(tail, lower_tail.astype(float)), maxiter=400,
                            tolerances={"xatol": 0.0, "xrtol": 4e-16, "fatol": 0.0, "frtol": 0.0})
    result[inner] = found.x
    return result


def _bracket(density: Density, functions: dict[str, Any], tail: float) -> tuple[float, float]:
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
def _compiled(density: Density) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """pdf, cdf and sf of a density without parameters, as functions of float64 arrays."""
    ends = [float(density.support[0]), *(float(piece.hi) for piece in density._pieces)]
    outer = {"pdf": (0.0, 0.0), "cdf": (0.0, 1.0), "sf": (1.0, 0.0)}
    return {
        what: _piecewise_function(
            ends, [_best_form(getattr(p, what), p) for p in density._pieces], *outer[what], what != "pdf")
        for what in outer
    }


def _piecewise_function(
    ends: list[float], functions: list[Callable], before: float, after: float, is_probability: bool
) -> Callable[[np.ndarray], np.ndarray]:
    # A density may jump at an end, and rounding of (x − θ − α)/β must not put x on the wrong side of it:
    # the same slack as for the uniform family in `anabook.noise`. Probabilities do not jump.
    slack = [0.0 if is_probability or math.isinf(end) else 1024 * _EPS * max(1.0, abs(end)) for end in ends]
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
            errors = [abs(mpmath.mpf(float(values[i])) / exact[i] - 1) if math.isfinite(values[i]) else 2
                      for i in kept]
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
            forms += [attempt(sp.expand, expression.replace(function, other), default=expression)
                      for other in (at_the_left, at_the_right)]
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
