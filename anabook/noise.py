"""Noise: a law with a mean and a standard deviation around it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from anabook._arrays import elementwise
from anabook._validate import choice, generator, real
from anabook.laws import FAMILIES, NUMPY, Law

__all__ = ["FAMILIES", "Family", "NUMPY_OPS", "Noise"]


Family = Law
NUMPY_OPS = NUMPY


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
