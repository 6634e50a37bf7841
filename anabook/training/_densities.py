"""A density of the reader's own, written in SymPy, as something that the kernels compute with.

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
from torch import Tensor

from anabook.namespaces import SLACK
from anabook.symbolic import Density, x
from anabook.symbolic._bounded import allowance, attempt
from anabook.symbolic._expressions import is_even, is_finite, is_long_sum, probe_points, real_values
from anabook.symbolic._table import chebyshev_panels


def _like(value: Any, other: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.full_like(other, value)


_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "Abs": torch.abs,
    "acos": torch.acos,
    "acosh": torch.acosh,
    "asin": torch.asin,
    "asinh": torch.asinh,
    "atan": torch.atan,
    "atan2": lambda a, b: torch.atan2(_like(a, b), _like(b, a)),
    "atanh": torch.atanh,
    "cos": torch.cos,
    "cosh": torch.cosh,
    "cot": lambda u: 1 / torch.tan(u),
    "coth": lambda u: 1 / torch.tanh(u),
    "csc": lambda u: 1 / torch.sin(u),
    "csch": lambda u: 1 / torch.sinh(u),
    "erf": torch.erf,
    "erfc": torch.erfc,
    "erfinv": torch.erfinv,
    "exp": torch.exp,
    "exp2": torch.exp2,
    "expm1": torch.expm1,
    "log": torch.log,
    "log10": torch.log10,
    "log1p": torch.log1p,
    "log2": torch.log2,
    "loggamma": torch.lgamma,
    "sec": lambda u: 1 / torch.cos(u),
    "sech": lambda u: 1 / torch.cosh(u),
    "sign": torch.sign,
    "sin": torch.sin,
    "sinc": lambda u: torch.sinc(u / math.pi),
    "sinh": torch.sinh,
    "sqrt": torch.sqrt,
    "tan": torch.tan,
    "tanh": torch.tanh,
}
"""What SymPy's functions are called with tensors. Constants are numbers by then: only what depends on x comes here."""

_FLOATS = (torch.float32, torch.float64)


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


class TorchDensity:
    """A density standardised to mean 0 and standard deviation 1, with the functions that the kernels ask a law for.

    A law's formulas are given, and torch computes with them as they stand. Those of a density SymPy finds, so that for
    torch they have to be written anew, each in the form that is best in single precision.

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
            raise ValueError(
                "noise to be annealed needs a finite mean and a finite standard deviation, but those of this "
                f"density are {density.mean} and {density.std}."
            )
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

    def pdf(self, t: Tensor, m: Any = None) -> Tensor:
        """f0(t), right-continuous where it jumps."""
        return _chosen(torch.abs(t) if self._mirrored else t, self._pieces["pdf"][t.dtype])

    def beyond(self, t: Tensor, above: Tensor, m: Any = None) -> Tensor:
        """P(T > t) where `above` says that t counts as 0 or more, P(T ≤ t) elsewhere."""
        if self._mirrored:
            return torch.clamp(_chosen(torch.abs(t), self._pieces["upper"][t.dtype]), 0.0, 1.0)
        upper = _chosen(torch.clamp(t, min=0.0), self._pieces["upper"][t.dtype])
        lower = _chosen(torch.clamp(t, max=0.0), self._pieces["lower"][t.dtype])
        return torch.clamp(torch.where(above, upper, lower), 0.0, 1.0)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TorchDensity) and self.density == other.density

    def __hash__(self) -> int:
        return hash(self.label)

    def __str__(self) -> str:
        return self.label

    def _slack(self, dtype: torch.dtype) -> float:
        if not self._jumps:
            return 0.0
        ends = [1.0, *(abs(end) for end in self._noise.support if math.isfinite(end))]
        return SLACK * torch.finfo(dtype).eps * max(ends)

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
def torch_density(density: Density) -> TorchDensity:
    """The functions of a density; the same object for equal ones."""
    return TorchDensity(density)


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
