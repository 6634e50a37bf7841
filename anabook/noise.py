"""Noise families: four laws written once in standardised form, with a mean and a standard deviation around them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy import special

from anabook._arrays import elementwise
from anabook._validate import choice, generator, real

NUMPY_OPS = SimpleNamespace(
    abs=np.abs,
    clip=np.clip,
    eps=lambda t: np.finfo(t.dtype).eps,
    exp=np.exp,
    expit=special.expit,
    full_like=np.full_like,
    log=np.log,
    log1p=np.log1p,
    ndtr=special.ndtr,
    ndtri=special.ndtri,
    sqrt=np.sqrt,
    where=np.where,
)
"""The functions that the families' formulas are written in; `anabook.training` brings a torch twin."""

_SQRT3 = math.sqrt(3.0)
_SQRT6 = math.sqrt(6.0)
_RATE = math.pi / _SQRT3  # of the logistic law of standard deviation 1
_PEAK = 1 / math.sqrt(2 * math.pi)


@dataclass(frozen=True)
class Family:
    """A standardised law: mean 0, standard deviation 1, symmetric and unimodal.

    Each function takes an array (of NumPy, or of whatever `ops` works on) and the namespace `ops`
    of elementary functions, so that NumPy and torch share one formula.

    Attributes:
        name: the family's name.
        half_width: half the length of the support, in standard deviations; inf if unbounded.
        pdf: t ↦ f0(t), right-continuous where it jumps.
        cdf: t ↦ F0(t). The upper tail is T0(t) = F0(−t), by symmetry and without cancellation.
        icdf_lower: u ↦ Q0(u), accurate for u ≤ 1/2. The upper half is −Q0(1 − u).
        far: t ↦ the mass beyond t on its side of the mean, where that is less work than F0(−abs(t)).
    """

    name: str
    half_width: float
    pdf: Callable[[Any, Any], Any]
    cdf: Callable[[Any, Any], Any]
    icdf_lower: Callable[[Any, Any], Any]
    far: Callable[[Any, Any], Any] | None = None

    def sf(self, t: Any, ops: Any = NUMPY_OPS) -> Any:
        """T0(t) = 1 − F0(t), accurate in the upper tail."""
        return self.cdf(-t, ops)

    def tail(self, t: Any, ops: Any = NUMPY_OPS) -> Any:
        """The mass beyond t, on its side of the mean: T0(abs(t))."""
        return self.cdf(-ops.abs(t), ops) if self.far is None else self.far(t, ops)

    def icdf(self, u: Any, ops: Any = NUMPY_OPS) -> Any:
        """Q0(u) for u in [0, 1]; ∓∞ at the ends of unbounded laws."""
        lower = self.icdf_lower(ops.where(u <= 0.5, u, 1 - u), ops)
        return ops.where(u <= 0.5, lower, -lower)

    def isf(self, u: Any, ops: Any = NUMPY_OPS) -> Any:
        """Inverse of the upper tail: the t with T0(t) = u, accurate for tiny u."""
        return -self.icdf(u, ops)


def _uniform_pdf(t: Any, ops: Any) -> Any:
    # Right-continuous, as the bins are. The slack covers the roundings of (x − θ − α)/β, up to those of
    # 8-bit quantisers, so that the densities of two thresholds whose supports touch meet exactly:
    # neither twice the height there nor a gap.
    slack = 1024 * _SQRT3 * ops.eps(t)
    inside = (t >= -_SQRT3 - slack) & (t < _SQRT3 - slack)
    return ops.where(inside, ops.full_like(t, 1 / (2 * _SQRT3)), 0.0)


def _uniform_cdf(t: Any, ops: Any) -> Any:
    return ops.clip((t + _SQRT3) / (2 * _SQRT3), 0.0, 1.0)


def _uniform_icdf(u: Any, ops: Any) -> Any:
    return _SQRT3 * (2 * u - 1)


def _triangular_pdf(t: Any, ops: Any) -> Any:
    return ops.clip(_SQRT6 - ops.abs(t), 0.0, math.inf) / 6


def _triangular_tail(t: Any, ops: Any) -> Any:
    return ops.clip(_SQRT6 - ops.abs(t), 0.0, math.inf) ** 2 / 12


def _triangular_cdf(t: Any, ops: Any) -> Any:
    tail = _triangular_tail(t, ops)
    return ops.where(t <= 0, tail, 1 - tail)


def _triangular_icdf(u: Any, ops: Any) -> Any:
    return ops.sqrt(12 * u) - _SQRT6


def _normal_pdf(t: Any, ops: Any) -> Any:
    return _PEAK * ops.exp(-t * t / 2)


def _normal_cdf(t: Any, ops: Any) -> Any:
    return ops.ndtr(t)


def _normal_icdf(u: Any, ops: Any) -> Any:
    return ops.ndtri(u)


def _logistic_pdf(t: Any, ops: Any) -> Any:
    return _RATE * (ops.expit(_RATE * t) * ops.expit(-_RATE * t))


def _logistic_cdf(t: Any, ops: Any) -> Any:
    return ops.expit(_RATE * t)


def _logistic_icdf(u: Any, ops: Any) -> Any:
    return (ops.log(u) - ops.log1p(-u)) / _RATE


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("uniform", _SQRT3, _uniform_pdf, _uniform_cdf, _uniform_icdf),
        Family("triangular", _SQRT6, _triangular_pdf, _triangular_cdf, _triangular_icdf, _triangular_tail),
        Family("normal", math.inf, _normal_pdf, _normal_cdf, _normal_icdf),
        Family("logistic", math.inf, _logistic_pdf, _logistic_cdf, _logistic_icdf),
    )
}
"""The four noise families by name."""


@dataclass(frozen=True)
class Noise:
    """An additive noise ν: one of four symmetric families with a mean α and a standard deviation β.

    β is the standard deviation for every family. (The paper's printed logistic density uses the scale,
    which is β·√3/π; a uniform noise of half-width w has β = w/√3, a triangular one w/√6.)
    β = 0 is the Dirac limit: all mass at α.

    Args:
        family: "uniform", "triangular", "normal" or "logistic".
        mean: α, any finite number.
        std: β ≥ 0.

    Raises:
        ValueError: unknown family, negative or non-finite parameters.
        TypeError: parameters that are not real numbers.

    Example:
        >>> float(Noise("uniform", std=0.5).pdf(0.0))
        0.5773502691896258
    """

    family: str
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        choice(self.family, FAMILIES, "family")
        object.__setattr__(self, "mean", real(self.mean, "mean"))
        object.__setattr__(self, "std", real(self.std, "std", minimum=0.0))

    @classmethod
    def covering(cls, family: str, half_width: float, mass: float = 0.95, mean: float = 0.0) -> Noise:
        """The noise that stands for a compact one of the given half-width.

        A bounded family gets exactly that half-width of support. An unbounded one gets the standard
        deviation that puts `mass` of its probability within `half_width` of the mean.

        Args:
            family: a family's name.
            half_width: w > 0 (0 gives the Dirac limit).
            mass: probability inside, strictly between 0 and 1; ignored by bounded families.
            mean: α.
        """
        law = FAMILIES[choice(family, FAMILIES, "family")]
        half_width = real(half_width, "half_width", minimum=0.0)
        mass = real(mass, "mass")
        if not 0 < mass < 1:
            raise ValueError(f"mass must lie strictly between 0 and 1, not {mass!r}.")
        standard = law.half_width if math.isfinite(law.half_width) else float(law.isf((1 - mass) / 2))
        return cls(family, mean, half_width / standard)

    @property
    def is_dirac(self) -> bool:
        """Whether all mass sits at the mean (std = 0)."""
        return self.std == 0.0

    @property
    def half_width(self) -> float:
        """Half the length of the support: h = h0·β, 0 for a Dirac, inf for unbounded families."""
        return 0.0 if self.is_dirac else FAMILIES[self.family].half_width * self.std

    @property
    def support(self) -> tuple[float, float]:
        """The ends (α − h, α + h) of the support."""
        return self.mean - self.half_width, self.mean + self.half_width

    def pdf(self, x: Any) -> Any:
        """Density f at x (unit: 1/unit of x). A Dirac has +inf at its mean and 0 elsewhere.

        Args:
            x: a number, an array or a tensor of floats, of any shape; the same kind comes back
                (so for all methods of this class).
        """
        if self.is_dirac:
            return elementwise(lambda v: _keep_nan(v, np.where(v == self.mean, math.inf, 0.0)), x)
        return elementwise(lambda v: self._law("pdf", v) / self.std, x)

    def cdf(self, x: Any) -> Any:
        """P(ν ≤ x), accurate in the lower tail."""
        if self.is_dirac:
            return elementwise(lambda v: _keep_nan(v, np.where(v >= self.mean, 1.0, 0.0)), x)
        return elementwise(lambda v: self._law("cdf", v), x)

    def sf(self, x: Any) -> Any:
        """P(ν > x) = 1 − cdf(x), accurate in the upper tail."""
        if self.is_dirac:
            return elementwise(lambda v: _keep_nan(v, np.where(v < self.mean, 1.0, 0.0)), x)
        return elementwise(lambda v: self._law("sf", v), x)

    def icdf(self, u: Any) -> Any:
        """The quantile inf{x : cdf(x) ≥ u} for u in (0, 1]; the support's lower end at u = 0.

        Raises:
            ValueError: a probability outside [0, 1].
        """
        return elementwise(lambda v: self._quantile("icdf", v), u, "u")

    def isf(self, u: Any) -> Any:
        """The x whose upper tail sf(x) is u: icdf(1 − u) without the subtraction."""
        return elementwise(lambda v: self._quantile("isf", v), u, "u")

    def sample(self, shape: int | tuple[int, ...], rng: np.random.Generator | int) -> np.ndarray:
        """Independent draws, by the quantile of uniform numbers.

        Args:
            shape: shape of the result.
            rng: a NumPy generator, or an integer seed.

        Returns:
            A float64 array of that shape.
        """
        rng = generator(rng)
        # 1 − u lies in (0, 1]; the logistic and normal quantiles are finite on the open interval only.
        uniform = np.clip(1.0 - rng.random(shape), None, 1 - 2.0**-53)
        return np.asarray(self.icdf(uniform))

    def _law(self, method: str, x: np.ndarray) -> np.ndarray:
        value = getattr(FAMILIES[self.family], method)((x - self.mean) / self.std, NUMPY_OPS)
        return _keep_nan(x, value)

    def _quantile(self, method: str, u: np.ndarray) -> np.ndarray:
        outside = (u < 0) | (u > 1)
        if outside.any():
            raise ValueError(f"probabilities must lie in [0, 1], not {float(u[outside].flat[0])!r}.")
        if self.is_dirac:
            return _keep_nan(u, self.mean)
        with np.errstate(divide="ignore"):
            return self.mean + self.std * getattr(FAMILIES[self.family], method)(u, NUMPY_OPS)


def _keep_nan(x: np.ndarray, value: Any) -> np.ndarray:
    return np.where(np.isnan(x), x, value)
