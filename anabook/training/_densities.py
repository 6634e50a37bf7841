"""A density of the reader's own, written in SymPy, as a law that the kernels compute with.

`anabook.symbolic` derives everything; here its expressions, standardised to mean 0 and standard deviation 1, become
functions of tensors. Nothing of this is imported for the four families.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import mpmath
import numpy as np
import sympy as sp
import torch
from scipy import optimize
from torch import Tensor

from anabook.quantisers import Quantiser
from anabook.regularisation import Regularisation
from anabook.symbolic import Density, x
from anabook.symbolic._bounded import allowance, attempt
from anabook.symbolic._expressions import is_even, is_finite, is_long_sum, probe_points, real_values
from anabook.symbolic._table import chebyshev_panels


def _like(value: Any, other: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.full_like(other, value)


_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "Abs": torch.abs, "acos": torch.acos, "acosh": torch.acosh, "asin": torch.asin, "asinh": torch.asinh,
    "atan": torch.atan, "atan2": lambda a, b: torch.atan2(_like(a, b), _like(b, a)),
    "atanh": torch.atanh, "cos": torch.cos, "cosh": torch.cosh, "cot": lambda u: 1 / torch.tan(u),
    "coth": lambda u: 1 / torch.tanh(u), "csc": lambda u: 1 / torch.sin(u), "csch": lambda u: 1 / torch.sinh(u),
    "erf": torch.erf, "erfc": torch.erfc, "erfinv": torch.erfinv, "exp": torch.exp, "exp2": torch.exp2,
    "expm1": torch.expm1, "log": torch.log, "log10": torch.log10, "log1p": torch.log1p, "log2": torch.log2,
    "loggamma": torch.lgamma, "sec": lambda u: 1 / torch.cos(u), "sech": lambda u: 1 / torch.cosh(u),
    "sign": torch.sign, "sin": torch.sin, "sinc": lambda u: torch.sinc(u / math.pi), "sinh": torch.sinh,
    "sqrt": torch.sqrt, "tan": torch.tan, "tanh": torch.tanh,
}
"""What SymPy's functions are called with tensors. Constants are numbers by then: only what depends on x comes here."""

_FLOATS = (torch.float32, torch.float64)
_SLACK = 1024  # roundings of (x − θ − α)/β at which a density that jumps may take the value on the other side


class _Piece(NamedTuple):
    """One smooth function: which t it is for, [low, high), and where it is computed, [first, last].

    `inside` is a harmless place between these, for all t that it is not for.
    """

    low: float
    high: float
    first: float
    last: float
    inside: float
    function: Callable[[Tensor], Any]


class DensityLaw:
    """A density standardised to mean 0 and standard deviation 1, with the functions that the kernels ask for.

    Two laws of equal densities are equal. Beyond `ends`, the support or what matters of it in a float type, all
    functions are 0.

    Args:
        density: a density without parameters, with a finite standard deviation.

    Raises:
        ValueError: parameters without values, no finite mean and standard deviation, a function that torch lacks.
    """

    def __init__(self, density: Density) -> None:
        if density.parameters:
            listing = ", ".join(map(str, density.parameters))
            raise ValueError(f"the density has parameters without values ({listing}); give them by subs first.")
        if not (is_finite(density.mean) and is_finite(density.std)):
            raise ValueError("noise to be annealed needs a finite mean and a finite standard deviation, but those of this "
                             f"density are {density.mean} and {density.std}.")
        self.density = density
        self.label = "density" + hashlib.sha256(str(density).encode()).hexdigest()[:12]
        self._standard = density.located(0, 1)
        self._noise = density.noise(0.0, 1.0)
        # Where it does not jump, half of an even density is enough.
        self._jumps = bool(self._standard.jumps)
        self._mirrored = not self._jumps and is_even(self._standard)
        self._ends = {dtype: _ends(self._noise, dtype) for dtype in _FLOATS}
        self._pieces = {"pdf": self._compiled("pdf")}

    def prepare_tails(self) -> None:
        """Make the tails ready, which only some strategies need.

        Raises:
            ValueError: the distribution function cannot be computed with torch.
        """
        for name in ("upper",) if self._mirrored else ("lower", "upper"):
            if name not in self._pieces:
                self._pieces[name] = self._compiled(name)

    def ends(self, dtype: torch.dtype) -> tuple[float, float]:
        """[low, high): where the law counts in float32 or float64, in standard deviations from the mean."""
        (low, high), slack = self._ends[dtype], self._slack(dtype)
        return low - slack, high - slack

    def pdf(self, t: Tensor) -> Tensor:
        """f0(t), right-continuous where it jumps."""
        return _chosen(torch.abs(t) if self._mirrored else t, self._pieces["pdf"][t.dtype])

    def tail(self, t: Tensor, above: Tensor) -> Tensor:
        """P(T > t) where `above` says that t counts as 0 or more, P(T ≤ t) elsewhere."""
        if self._mirrored:
            return torch.clamp(_chosen(torch.abs(t), self._pieces["upper"][t.dtype]), 0.0, 1.0)
        upper = _chosen(torch.clamp(t, min=0.0), self._pieces["upper"][t.dtype])
        lower = _chosen(torch.clamp(t, max=0.0), self._pieces["lower"][t.dtype])
        return torch.clamp(torch.where(above, upper, lower), 0.0, 1.0)

    def covering(self, half_width: float, mass: float = 0.95) -> float:
        """The standard deviation as in `Noise.covering`: a bounded support just fits, else `mass` lies inside."""
        low, high = self._noise.support
        if math.isfinite(low) and math.isfinite(high):
            return half_width / max(-low, high)

        def missing(width: float) -> float:
            return float(self._noise.sf(width) + self._noise.cdf(-width)) - (1 - mass)

        # Chebyshev's inequality gives the upper end.
        return half_width / optimize.brentq(missing, 0.0, 1.01 / math.sqrt(1 - mass))

    def mode_stair(self, quantiser: Quantiser, std: float) -> tuple[np.ndarray, np.ndarray, float]:
        """The most probable level under noise of mean 0, ties going to the higher one; it need not be monotone.

        Returns:
            The levels from left to right, the places from which on each but the first holds, and what is to be added
            to the places. Their number comes in few sizes: at the end the last level may start at infinity again. The
            levels and the places are the quantiser's own, where a common offset is all that the mode differs by.
        """
        return _mode_stair(self, quantiser, std)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DensityLaw) and self.density == other.density

    def __hash__(self) -> int:
        return hash(self.label)

    def __str__(self) -> str:
        return self.label

    def _slack(self, dtype: torch.dtype) -> float:
        if not self._jumps:
            return 0.0
        ends = [1.0, *(abs(end) for end in self._noise.support if math.isfinite(end))]
        return _SLACK * torch.finfo(dtype).eps * max(ends)

    def _compiled(self, name: str) -> dict[torch.dtype, tuple[_Piece, ...]]:
        """The pieces of one function in each float type: of the density, or of a tail on its side of the mean."""
        attribute = {"pdf": "pdf", "lower": "cdf", "upper": "sf"}[name]
        side = (0.0 if name == "upper" or self._mirrored else -math.inf, 0.0 if name == "lower" else math.inf)
        found: dict[torch.dtype, list[_Piece]] = {dtype: [] for dtype in _FLOATS}
        for piece in self._standard._pieces:
            ends = {}
            for dtype, (low, high) in self._ends.items():
                start, stop = max(float(piece.lo), side[0], low), min(float(piece.hi), side[1], high)
                if start < stop:
                    ends[dtype] = start, stop
            if ends:
                expression = getattr(piece, attribute)
                if name != "pdf" and (expression.has(sp.Integral) or _lacking(expression)):
                    function = _table({"cdf": self._noise.cdf, "sf": self._noise.sf}[attribute], ends)
                else:
                    function = _as_torch(expression, ends)
                for dtype, (start, stop) in ends.items():
                    slack = self._slack(dtype) if name == "pdf" else 0.0
                    # The mean itself may come in on either side.
                    high = math.inf if name == "lower" and stop == 0 else stop - slack
                    first, last = _inside(start, stop, dtype)
                    if name == "pdf":
                        first, last = _off_poles_at_zero(piece.pdf, first, last, dtype)
                    found[dtype].append(_Piece(start - slack, high, first, last, (start + stop) / 2, function))
        return {dtype: tuple(pieces) for dtype, pieces in found.items()}


@functools.lru_cache(maxsize=64)
def law_of(density: Density) -> DensityLaw:
    """The law of a density; the same object for equal ones."""
    return DensityLaw(density)


def _chosen(t: Tensor, pieces: tuple[_Piece, ...]) -> Tensor:
    """Each piece's function where it is for, 0 elsewhere."""
    total = torch.zeros_like(t)
    for low, high, first, last, inside, function in pieces:
        here = (t >= low) & (t < high)
        # What is not chosen must bring neither NaN nor infinity, into gradients neither.
        value = function(torch.clamp(torch.where(here, t, inside), first, last))
        total = torch.where(here, value, total)
    return total


def _inside(low: float, high: float, dtype: torch.dtype) -> tuple[float, float]:
    """A few roundings inside the ends, where a root of the distance to one of them is real."""
    inset = 8 * torch.finfo(dtype).eps
    return low + inset * abs(low), high - inset * abs(high)


def _off_poles_at_zero(pdf: sp.Expr, first: float, last: float, dtype: torch.dtype) -> tuple[float, float]:
    """The ends, or a rounding of the interval beside one that is 0 and a pole: no gradient is to be infinite."""
    if 0.0 in (first, last) and real_values(pdf)(0.0, (first + last) / 2) == math.inf:
        inset = 8 * torch.finfo(dtype).eps * (last - first)
        return (first + inset, last) if first == 0 else (first, last - inset)
    return first, last


def _ends(noise: Any, dtype: torch.dtype) -> tuple[float, float]:
    """The support; where it is unbounded, as far as tail and density are more than a rounding."""
    low, high = noise.support
    resolution = torch.finfo(dtype).eps / 8
    t = np.geomspace(0.05, 1e7, 400)
    peak = np.max(noise.pdf(np.concatenate([-t, [0.0], t])), initial=0.0, where=np.isfinite)
    ends = []
    for sign, end, tail in ((-1, low, noise.cdf), (1, high, noise.sf)):
        if math.isinf(end):
            counts = (tail(sign * t) >= resolution) | (noise.pdf(sign * t) >= resolution * peak)
            end = sign * float(t[min(np.flatnonzero(counts).max(initial=0) + 1, len(t) - 1)])
        ends.append(end)
    return ends[0], ends[1]


# Expressions --------------------------------------------------------------------------------------------------------


_STEPS = 500_000  # what SymPy may take for the algebraically equal forms of a function
_DEGREE, _TABLE_ERROR = 9, 2e-16


def _lacking(expression: sp.Expr) -> list[str]:
    """The functions of x that torch has not."""
    return sorted({node.func.__name__ for node in expression.atoms(sp.Function) if node.has(x)} - _FUNCTIONS.keys())


def _table(function: Callable[[np.ndarray], np.ndarray], ends: dict) -> Callable[[Tensor], Tensor]:
    """A distribution function that torch has no formula for, as polynomials on panels."""
    low, high = min(start for start, _ in ends.values()), max(stop for _, stop in ends.values())
    edges, rows = chebyshev_panels(function, low, high, _DEGREE, _TABLE_ERROR)
    edges, rows = edges.tolist(), rows.T.tolist()

    def polynomials(t: Tensor) -> Tensor:
        # Constants of the call: they are on whatever device it is on, and under every transformation.
        panel = torch.bucketize(t.detach(), torch.tensor(edges, dtype=t.dtype, device=t.device), right=True)
        middle, slope, *powers = (torch.tensor(row, dtype=t.dtype, device=t.device)[panel] for row in rows)
        u = (t - middle) * slope
        value = powers[-1]
        for coefficient in reversed(powers[:-1]):
            value = value * u + coefficient
        return value

    return polynomials


def _as_torch(expression: sp.Expr, ends: dict[torch.dtype, tuple[float, float]]) -> Callable[[Tensor], Any]:
    """The form of an expression in x that torch computes best between the ends, in both float types.

    Raises:
        ValueError: there is none.
    """
    lacking = _lacking(expression)
    if lacking:
        raise ValueError(f"torch has no {' and no '.join(lacking)}, which this density needs: {expression}.")
    with allowance(_STEPS):
        changes = () if is_long_sum(expression) else (sp.expand, sp.factor, sp.together)
        forms = [expression, *(attempt(change, expression, default=expression) for change in changes)]
        if expression.is_polynomial(x):
            forms.append(attempt(sp.horner, expression, x, default=expression))
    points, exact = _probes(expression, ends)
    candidates = []
    for form in dict.fromkeys(forms):
        function = sp.lambdify(x, _with_floats(form), modules=[_FUNCTIONS], cse=True)
        candidates.append((_error(function, points, exact), sp.count_ops(form), len(candidates), function))
    least = min(candidates)[0]
    if math.isinf(least):
        raise ValueError(f"this density cannot be computed with numbers of single precision: {expression}.")
    # Among equally good ones the shortest.
    return min(candidates, key=lambda c: (c[0] > 4 * least + 1, c[1], c[2]))[3]


def _with_floats(expression: sp.Expr) -> sp.Expr:
    """Everything that does not depend on x as a number, but for integers and exponents."""
    if not expression.has(x):
        return expression if expression.is_Integer else sp.N(expression, 20)
    if not expression.args:
        return expression
    if expression.is_Pow and expression.exp.is_Rational:
        return sp.Pow(_with_floats(expression.base), expression.exp)
    return expression.func(*map(_with_floats, expression.args))


def _probes(expression: sp.Expr, ends: dict[torch.dtype, tuple[float, float]]) -> tuple[dict, dict]:
    """Points of each float type between the ends, and the expression there."""
    precise = real_values(expression)
    points, exact = {}, {}
    for dtype, (low, high) in ends.items():
        at = torch.tensor([low + (high - low) * share for share in probe_points(0.0, 1.0)], dtype=dtype)
        at = torch.clamp(at, *_inside(low, high, dtype)).unique()
        with mpmath.workdps(60):
            exact[dtype] = torch.tensor([float(precise(float(v))) for v in at], dtype=torch.float64)
        points[dtype] = at
    return points, exact


def _error(function: Callable[[Tensor], Any], points: dict, exact: dict) -> float:
    """The largest error, relative where values are large, in roundings."""
    worst = 0.0
    for dtype, at in points.items():
        values = torch.as_tensor(function(at), dtype=dtype).double().expand(at.shape)
        wrong = (values - exact[dtype]).abs() / (1 + exact[dtype].abs()) / torch.finfo(dtype).eps
        worst = max(worst, float(torch.nan_to_num(wrong, nan=math.inf).max()))
    return worst


# The mode -----------------------------------------------------------------------------------------------------------

_SHARES = 16  # into how many parts the places between two knots are divided in the search for changes of the mode
_KNOTS = (1e-16, 1e-12, 1e-9, 1e-6, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5)


@functools.lru_cache(maxsize=256)
def _mode_stair(law: DensityLaw, quantiser: Quantiser, std: float) -> tuple[np.ndarray, np.ndarray, float]:
    stair, starts = _changes_of_mode(law, quantiser, std)
    if np.array_equal(stair, quantiser.levels):
        apart = starts - quantiser.thresholds
        offset, rounding = float(np.median(apart)), 1e-12 * (np.abs(starts).max() + std)
        offset = offset if abs(offset) > rounding else 0.0
        return quantiser.levels, np.where(np.abs(apart - offset) <= rounding, quantiser.thresholds, starts - offset), offset
    size = quantiser.n_levels - 1
    while size < len(starts):
        size *= 2
    missing = size - len(starts)
    return np.pad(stair, (0, missing), mode="edge"), np.pad(starts, (0, missing), constant_values=math.inf), 0.0


def _changes_of_mode(law: DensityLaw, quantiser: Quantiser, std: float) -> tuple[np.ndarray, np.ndarray]:
    thresholds = quantiser.thresholds
    knots = np.concatenate(_knots(law))
    knots = std * np.unique(knots[np.isfinite(knots)])
    places = thresholds[:, np.newaxis] + knots
    # Outside, however narrow the noise: the lowest and the highest level.
    places = np.unique(np.concatenate([places.ravel(), np.nextafter([places.min(), places.max()], [-math.inf, math.inf])]))
    shares = np.arange(_SHARES) / _SHARES
    v = np.unique(np.append((places[:-1, np.newaxis] + np.diff(places)[:, np.newaxis] * shares).ravel(), places[-1]))
    mode = functools.partial(_mode_index, quantiser, law, std)
    index = mode(v)
    changes = np.flatnonzero(np.diff(index))
    left, right, before, after = v[changes], v[changes + 1], index[changes], index[changes + 1]
    starts, levels = [], []
    while len(left):
        left, right = _bisected(mode, left, right, before)
        reached = mode(right)
        starts.append(right)
        levels.append(reached)
        # On the way to the level on the right there may be a third one.
        more = reached != after
        left, right, before, after = right[more], v[changes + 1][more], reached[more], after[more]
        changes = changes[more]
    starts = np.concatenate([*starts, []])
    order = np.argsort(starts)
    stair = quantiser.levels[np.concatenate([[index[0]], np.concatenate([*levels, []])[order]]).astype(int)]
    return stair, starts[order]


@functools.lru_cache(maxsize=64)
def _knots(law: DensityLaw) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places between which the standardised law is smooth and changes little: quantiles of both tails, and others."""
    shares = np.array(_KNOTS)
    ends = np.array([0.0, *(float(end) for piece in law._standard._pieces for end in (piece.lo, piece.hi))])
    return law._noise.icdf(shares), law._noise.isf(shares), ends


def _mode_index(quantiser: Quantiser, law: DensityLaw, std: float, v: np.ndarray) -> np.ndarray:
    """The index of the most probable level at each of the ascending v."""
    thresholds = quantiser.thresholds
    # Some level has at least the mean probability, so those beyond places of smaller tails cannot be the mode.
    too_little = np.searchsorted(_KNOTS, 1 / (4 * quantiser.n_levels), side="right") - 1
    reach = [std * tail[too_little] for tail in _knots(law)[:2]]
    result = np.empty(len(v), dtype=np.intp)
    for part in np.array_split(np.arange(len(v)), min(-(-len(v) // 32), 400)):
        first = max(np.searchsorted(thresholds, v[part[0]] - reach[1]) - 1, 0)
        last = np.searchsorted(thresholds, v[part[-1]] - reach[0]) + 1
        near = Quantiser(first + np.arange(len(thresholds[first:last]) + 1.0), thresholds[first:last])
        result[part] = Regularisation(near, law.density.noise(0.0, std)).mode(v[part]).astype(np.intp)
    return result


def _bisected(mode: Callable, left: np.ndarray, right: np.ndarray, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Neighbouring doubles between which the mode first stops to be what it is at the left ends, by bisection."""
    while True:
        middle = left / 2 + right / 2
        active = (left < middle) & (middle < right)
        if not active.any():
            return left, right
        still = mode(np.where(active, middle, left)) == before
        left, right = np.where(active & still, middle, left), np.where(active & ~still, middle, right)
