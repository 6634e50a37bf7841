"""Noise: a law with a mean and a standard deviation around it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from anabook._arrays import elementwise
from anabook._validate import generator, real
from anabook.laws import FAMILIES, Law, placed
from anabook.namespaces import NUMPY

__all__ = ["FAMILIES", "Family", "NUMPY_OPS", "Noise"]


Family = Law
NUMPY_OPS = NUMPY


@dataclass(frozen=True, init=False, repr=False)
class Noise:
    """An additive noise ν: a law with a mean α and a standard deviation β.

    β is the standard deviation for every law that has one. (The paper says so, too, but the logistic density that it prints
    uses the scale, which is β·√3/π; a uniform noise of half-width w has β = w/√3, a triangular one w/√6.) For a law
    without one, such as Cauchy's, it is the scale, and α the place of the law's 0.
    β = 0 is the Dirac limit: all mass at α.

    Args:
        law: "uniform", "triangular", "normal" or "logistic"; a `Law`; or what has one, with a mean and a standard
            deviation of its own: an `anabook.symbolic.Density`, a variant of the zoo that is a probability, a `Noise`.
        mean: α, any finite number; by default 0, or the mean that the law came with.
        std: β ≥ 0; by default 1, or the standard deviation that the law came with.

    Raises:
        ValueError: unknown family, a law that is no probability's, negative or non-finite parameters; others than its own
            for a density without a finite mean and standard deviation.
        TypeError: parameters that are not real numbers; no law.

    Example:
        >>> float(Noise("uniform", std=0.5).pdf(0.0))
        0.5773502691896258
    """

    law: Law
    mean: float
    std: float
    if TYPE_CHECKING:  # set by `__init__`, and no fields: they follow from the others
        _scale: float
        _shift: float
        _source: Any

    def __init__(
        self, law: Any = None, mean: float | None = None, std: float | None = None, *, family: str | None = None
    ) -> None:
        source = family if law is None else law
        law, own_mean, own_std = placed(source, "family")
        source = source._source if isinstance(source, Noise) else source
        if not law.is_probability:
            raise ValueError(f"{law.name} is no noise: {law.why_no_noise}.")
        if (mean is not None or std is not None) and not law.is_movable:
            raise ValueError(
                f"a {law.name} with mean {law.get('mean')} and standard deviation {law.get('std')} cannot be given others; "
                "shift and scale its expression instead."
            )
        mean = own_mean if mean is None else real(mean, "mean")
        std = own_std if std is None else real(std, "std", minimum=0.0)
        scale = 1.0 if std == law.unit or not math.isfinite(std) else std / law.unit
        shift = mean - scale * law.origin if math.isfinite(mean) else 0.0
        fields = {"law": law, "mean": mean, "std": std, "_scale": scale, "_shift": shift, "_source": source}
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @classmethod
    def covering(cls, law: Any, half_width: float, mass: float = 0.95, mean: float = 0.0) -> Noise:
        """The noise that stands for a compact one of the given half-width.

        A bounded law's support gets exactly that half-width (its wider side, where it is lopsided). An unbounded one gets
        the standard deviation that puts `mass` of its probability within `half_width` of the mean.

        Args:
            law: as for `Noise`.
            half_width: w > 0 (0 gives the Dirac limit).
            mass: probability inside, strictly between 0 and 1; ignored by bounded laws.
            mean: α.
        """
        shape = placed(law, "family")[0]
        half_width = real(half_width, "half_width", minimum=0.0)
        mass = real(mass, "mass")
        if not 0 < mass < 1:
            raise ValueError(f"mass must lie strictly between 0 and 1, not {mass!r}.")
        return cls(law, mean, shape.covering(half_width, mass))

    def placed_law(self) -> tuple[Law, float, float]:
        """The law, the mean and the standard deviation."""
        return self.law, self.mean, self.std

    @property
    def family(self) -> str:
        """The law's name."""
        return self.law.name

    @property
    def is_dirac(self) -> bool:
        """Whether all mass sits at the mean (std = 0)."""
        return self.std == 0.0

    @property
    def half_width(self) -> float:
        """The largest distance between a value and the mean: h = h0·β; 0 for a Dirac, inf for unbounded laws."""
        if self.is_dirac:
            return 0.0
        if self.law.symmetric:
            return self.law.half_width * self._scale
        low, high = self.support
        return max(high - self.mean, self.mean - low) if math.isfinite(self.mean) else math.inf

    @property
    def support(self) -> tuple[float, float]:
        """The ends of the support: (α − h, α + h) for a symmetric law."""
        if self.is_dirac:
            return self.mean, self.mean
        low, high = self.law.bounds()
        return self._shift + self._scale * float(low), self._shift + self._scale * float(high)

    def pdf(self, x: Any) -> Any:
        """Density f at x (unit: 1/unit of x). A Dirac has +inf at its mean and 0 elsewhere.

        Args:
            x: a number, an array or a tensor of floats, of any shape; the same kind comes back
                (so for all methods of this class).
        """
        if self.is_dirac:
            return elementwise(lambda v: _keep_nan(v, np.where(v == self.mean, math.inf, 0.0)), x)
        return elementwise(lambda v: self._value("pdf", v) / self._scale, x)

    def cdf(self, x: Any) -> Any:
        """P(ν ≤ x), accurate in the lower tail."""
        if self.is_dirac:
            return elementwise(lambda v: _keep_nan(v, np.where(v >= self.mean, 1.0, 0.0)), x)
        return elementwise(lambda v: self._value("cdf", v), x)

    def sf(self, x: Any) -> Any:
        """P(ν > x) = 1 − cdf(x), accurate in the upper tail."""
        if self.is_dirac:
            return elementwise(lambda v: _keep_nan(v, np.where(v < self.mean, 1.0, 0.0)), x)
        return elementwise(lambda v: self._value("sf", v), x)

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

    def __repr__(self) -> str:
        law = f"family={self.family!r}" if FAMILIES.get(self.family) is self.law else repr(self._source)
        return f"Noise({law}, mean={self.mean!r}, std={self.std!r})"

    def __reduce__(self) -> tuple:
        return Noise, (self._source, self.mean, self.std) if self.law.is_movable else (self._source,)

    def _value(self, method: str, x: np.ndarray) -> np.ndarray:
        t = (x - self._shift) / self._scale
        value = getattr(self.law, method)(t, NUMPY)
        if np.isinf(t).any():
            low, high = {"pdf": (0.0, 0.0), "cdf": (0.0, 1.0), "sf": (1.0, 0.0)}[method]
            value = np.where(t == -math.inf, low, np.where(t == math.inf, high, value))
        return _keep_nan(x, value)

    def _quantile(self, method: str, u: np.ndarray) -> np.ndarray:
        outside = (u < 0) | (u > 1)
        if outside.any():
            raise ValueError(f"probabilities must lie in [0, 1], not {float(u[outside].flat[0])!r}.")
        if self.is_dirac:
            return _keep_nan(u, self.mean)
        with np.errstate(divide="ignore"):
            return self._shift + self._scale * getattr(self.law, method)(u, NUMPY)


def _keep_nan(x: np.ndarray, value: Any) -> np.ndarray:
    return np.where(np.isnan(x), x, value)
