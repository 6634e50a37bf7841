"""Regularisations: what a quantiser becomes, on average, when noise is subtracted from its input."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize

from anabook._arrays import as_floats, elementwise, to_float64, torch_of
from anabook._validate import choice, generator
from anabook.laws import Law
from anabook.noise import Noise
from anabook.quantisers import Quantiser

TIES = ("higher", "lower")

# Level probabilities are differences of numbers up to 1, each a few roundings wrong: closer than this is a tie.
_TIE = 8 * np.finfo(np.float64).eps

# In standard deviations: the tails of the unbounded families are below this there.
_FAR, _NOTHING = 22.0, 1e-17


@dataclass(frozen=True)
class Regularisation:
    """The stochastic quantiser σ_ν(x) = σ(x − ν) and its expectation (paper, Proposition 1).

    The noise is subtracted. With levels q_k, thresholds θ_k, steps Δ_k, and a noise of distribution
    function F and density f:

    * expectation: E[σ(x − ν)] = q_0 + Σ_k Δ_k F(x − θ_k);
    * derivative: Σ_k Δ_k f(x − θ_k);
    * probabilities: P(level ≥ k) = F(x − θ_k).

    A Dirac noise gives the shifted quantiser σ(x − α), with derivative 0 by convention.

    Args:
        quantiser: a `Quantiser`.
        noise: a `Noise`, or what makes one: an `anabook.symbolic.Density`, a variant of the zoo that is a probability, a
            `Law`. Or any object with a noise's methods `cdf`, `sf`, `pdf`, `icdf`, `sample` and attributes `mean`,
            `is_dirac`.

    Example:
        >>> r = Regularisation(Quantiser.heaviside(), Noise("uniform", std=12 ** -0.5))
        >>> r([-1.0, 0.0, 0.25, 1.0])
        array([0.  , 0.5 , 0.75, 1.  ])
    """

    quantiser: Quantiser
    noise: Noise

    def __post_init__(self) -> None:
        if not isinstance(self.quantiser, Quantiser):
            raise TypeError(f"quantiser must be a Quantiser, not {self.quantiser!r}.")
        if not isinstance(self.noise, (Noise, str)) and (isinstance(self.noise, Law) or hasattr(self.noise, "placed_law")):
            object.__setattr__(self, "noise", Noise(self.noise))
        missing = [
            name for name in ("cdf", "sf", "pdf", "icdf", "sample", "mean", "is_dirac") if not hasattr(self.noise, name)
        ]
        if missing:
            raise TypeError(f"noise must be a Noise, not {self.noise!r}: it has no {missing[0]!r}.")

    def __call__(self, x: Any) -> Any:
        """The expectation E[σ(x − ν)].

        Computed as a level plus tails, so it equals the level exactly wherever the noise is out of reach.

        Args:
            x: a number, an array or a tensor of floats, of any shape; the same kind comes back
                (so for all methods of this class).
        """
        if self.noise.is_dirac:
            return self._shifted(x)
        return elementwise(self._expectation, x)

    def residual(self, x: Any) -> Any:
        """E[σ(x − ν)] − σ(x − α): how far the average is from the shifted quantiser.

        A sum of tails without cancellation, so it stays accurate down to the smallest doubles.
        """
        return elementwise(lambda v: self._anchored(v)[1], x)

    def derivative(self, x: Any) -> Any:
        """d/dx E[σ(x − ν)] = Σ_k Δ_k f(x − θ_k) (unit: levels per unit of x); 0 for a Dirac noise."""

        def slope(v: np.ndarray) -> np.ndarray:
            total = np.where(np.isnan(v), v, 0.0)
            if not self.noise.is_dirac:
                for step, threshold in self._jumps():
                    total = total + step * self.noise.pdf(v - threshold)
            return total

        return elementwise(slope, x)

    def probabilities(self, x: Any) -> Any:
        """P(σ(x − ν) = q_k) for each level.

        Returns:
            x's shape with a last axis of length K, in level order; the entries sum to 1.
        """
        return elementwise(self._probabilities, x)

    def mode(self, x: Any, ties: str = "higher") -> Any:
        """The most probable level.

        Args:
            x: where.
            ties: which level to take where several are most probable, "higher" or "lower".
                The higher one agrees with bins that are closed on the left.
        """
        choice(ties, TIES, "ties")
        if self.noise.is_dirac:
            return self._shifted(x)

        def most_probable(v: np.ndarray) -> np.ndarray:
            best = self._is_most_probable(v)
            if ties == "higher":
                index = self.quantiser.n_levels - 1 - np.argmax(best[..., ::-1], axis=-1)
            else:
                index = np.argmax(best, axis=-1)
            return np.where(np.isnan(v), v, self.quantiser.levels[index])

        return elementwise(most_probable, x)

    def mode_thresholds(self) -> np.ndarray:
        """The K − 1 places from which on the mode is at least the level q_1, …, q_{K−1}, ties going to the higher level.

        The four families, and other laws that say so, have log-concave densities, so the mode never falls as x grows. The
        places never fall either; two are equal where the level between them is never the mode.

        Returns:
            A float64 array of length K − 1.

        Raises:
            TypeError: a noise whose law is not log-concave: its mode need not be monotone.
        """
        if not isinstance(self.noise, Noise) or not self.noise.law.log_concave:
            raise TypeError(
                "thresholds of the mode are known for the four families of Noise and other log-concave laws, "
                f"not for {self.noise!r}."
            )
        thresholds, noise = self.quantiser.thresholds, self.noise
        if noise.is_dirac or self.quantiser.n_levels == 2 or _reach(noise.law, noise.std) <= np.diff(thresholds).min():
            # At most two levels are possible, and one has at least half the probability.
            return thresholds + (noise.mean if noise.law.symmetric else float(noise.icdf(0.5)))
        return np.array(_mode_thresholds(thresholds.tolist(), noise.law, noise.std)) + noise.mean

    def mode_quantiser(self) -> Quantiser:
        """The quantiser that the mode is (ties to the higher level): levels that are never most probable are left out.

        Raises:
            TypeError: a noise whose law is not log-concave: its mode need not be a quantiser.

        Example:
            >>> mode = Regularisation(Quantiser.ternary(), Noise("uniform", std=1.0)).mode_quantiser()
            >>> mode.levels, mode.thresholds.round(9) + 0.0
            (array([-1.,  1.]), array([0.]))
        """
        starts = self.mode_thresholds()
        kept = np.append(np.diff(starts) > 0, True)
        return Quantiser(np.append(self.quantiser.levels[0], self.quantiser.levels[1:][kept]), starts[kept])

    def is_tie(self, x: Any) -> Any:
        """Whether more than one level is most probable at x (within a few roundings).

        Returns:
            A boolean array of x's shape.
        """
        return (self._is_most_probable(to_float64(x)).sum(axis=-1) > 1)[()]

    def sample(self, x: Any, rng: np.random.Generator | int) -> Any:
        """One draw of σ(x − ν) for each element, with independent noise.

        Args:
            x: where.
            rng: a NumPy generator, or an integer seed.
        """
        rng = generator(rng)
        return elementwise(lambda v: self.quantiser(v - self.noise.sample(v.shape, rng)), x)

    def inverse(self, y: Any) -> Any:
        """The generalised inverse inf{x : E[σ(x − ν)] ≥ y}.

        Bounded noise makes the expectation flat in places, where no ordinary inverse exists.
        For y ≤ q_0 every x qualifies and the answer is −inf. For y > q_{K−1} none does and it is +inf.
        At y = q_{K−1} it is where the expectation reaches the top level: +inf for unbounded noise.

        Args:
            y: values, of any shape.
        """
        return elementwise(self._inverse, y, "y")

    def _shifted(self, x: Any) -> Any:
        """σ(x − α), compared in x's own float type."""
        return self.quantiser((as_floats(x) if torch_of(x) is None else x) - self.noise.mean)

    def _jumps(self) -> list[tuple[float, float]]:
        return list(zip(self.quantiser.steps.tolist(), self.quantiser.thresholds.tolist()))

    def _anchored(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """σ(v − α) and the expectation's distance from it, the latter by tails alone."""
        shifted = v - self.noise.mean
        residual = np.where(np.isnan(v), v, 0.0)
        if not self.noise.is_dirac:
            for step, threshold in self._jumps():
                above = shifted >= threshold
                t = v - threshold
                residual = residual + step * np.where(above, -self.noise.sf(t), self.noise.cdf(t))
        return self.quantiser(shifted), residual

    def _expectation(self, v: np.ndarray) -> np.ndarray:
        if not math.isfinite(self.noise.mean):
            # A law without a mean has no σ(x − α) to start from.
            return self.quantiser.levels[0] + sum(step * self.noise.cdf(v - t) for step, t in self._jumps())
        level, residual = self._anchored(v)
        return level + residual

    def _probabilities(self, v: np.ndarray) -> np.ndarray:
        if self.noise.is_dirac:
            level = self.quantiser(v - self.noise.mean)[..., np.newaxis]
            return np.where(np.isnan(level), level, level == self.quantiser.levels)
        t = v[..., np.newaxis] - self.quantiser.thresholds
        p = between_tails(self.noise.cdf(t), self.noise.sf(t), np)
        return np.where(np.isnan(v)[..., np.newaxis], math.nan, np.maximum(p, 0.0))

    def _is_most_probable(self, v: np.ndarray) -> np.ndarray:
        p = self._probabilities(v)
        return p >= p.max(axis=-1, keepdims=True) - _TIE

    def _inverse(self, y: np.ndarray) -> np.ndarray:
        levels, thresholds = self.quantiser.levels, self.quantiser.thresholds
        result = np.where(y > levels[-1], math.inf, -math.inf)
        result = np.where(np.isnan(y), y, result)
        inside = (y > levels[0]) & (y <= levels[-1])
        if not inside.any():
            return result
        target = y[inside]
        if self.noise.is_dirac:
            index = np.searchsorted(levels, target, side="left")
            result[inside] = thresholds[index - 1] + self.noise.mean
            return result
        # q_0 + R·F(x − θ_last) ≤ E[σ(x − ν)] ≤ q_0 + R·F(x − θ_first), with R the range, brackets the answer.
        quantile = self.noise.icdf((target - levels[0]) / (levels[-1] - levels[0]))
        low, high = quantile + thresholds[0], quantile + thresholds[-1]
        if self.quantiser.n_levels > 2:
            low, high = self._bisect(target, low, high)
        result[inside] = high
        return result

    def _bisect(self, target: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shrink [low, high] to neighbouring doubles around the first x that reaches the target."""
        low = np.nextafter(low, -math.inf)
        while True:
            with np.errstate(invalid="ignore"):
                middle = low / 2 + high / 2
            active = (low < middle) & (middle < high) & np.isfinite(middle)
            if not active.any():
                return low, high
            reached = self._expectation(np.where(active, middle, 0.0)) >= target
            high = np.where(active & reached, middle, high)
            low = np.where(active & ~reached, middle, low)


def between_tails(up: Any, down: Any, m: Any) -> Any:
    """The probability of each level, given those of being at level k or above and below it, k = 1, …, K − 1.

    Args:
        up: P(level ≥ k), of shape (…, K − 1).
        down: P(level < k), of the same shape.
        m: the module that they are arrays of, numpy or torch.

    Returns:
        The probabilities, of shape (…, K).

    Example:
        >>> between_tails(np.array([0.875, 0.25]), np.array([0.125, 0.75]), np)
        array([0.125, 0.625, 0.25 ])
    """
    one, none = m.ones_like(up[..., :1]), m.zeros_like(up[..., :1])
    up, down = m.concatenate([one, up, none], -1), m.concatenate([none, down, one], -1)
    # Both differences are the same number; take the one between the smaller terms.
    return m.where(up[..., :-1] <= 0.5, up[..., :-1] - up[..., 1:], down[..., 1:] - down[..., :-1])


def _reach(law: Law, std: float) -> float:
    """How far from its mean a noise may be: to the end of its support, or as far as tails count."""
    return std * _standard_reach(law)


@functools.lru_cache(maxsize=64)
def _standard_reach(law: Law) -> float:
    low, high = (float(end) - law.origin for end in law.bounds())
    if math.isfinite(low) and math.isfinite(high):
        return max(-low, high) / law.unit
    far = max(law.origin - float(law.icdf(np.float64(_NOTHING))), float(law.isf(np.float64(_NOTHING))) - law.origin)
    return max(_FAR, far / law.unit)


def _mode_thresholds(thresholds: list[float], law: Law, std: float) -> list[float]:
    """`Regularisation.mode_thresholds` for a noise of mean 0 that is wider than the narrowest bin.

    Since the densities are log-concave, a level that has caught up with a lower one stays ahead of it. So the modes are
    an upper envelope, found level by level: a new level takes over from the last one where it catches up, and wipes it
    out if it is ahead from the start.
    """
    std, origin, reach = std / law.unit, law.origin, _reach(law, std)
    edges = [-math.inf, *thresholds, math.inf]
    cdf, sf = law.in_floats()

    def probability(k: int, v: float) -> float:
        low, high = origin + (v - edges[k + 1]) / std, origin + (v - edges[k]) / std
        # Both differences are the same number; the one between the smaller terms is the accurate one.
        if high <= -low:
            return cdf(high) - cdf(low)
        return sf(low) - sf(high)

    def lead(v: float, k: int, other: int) -> float:
        return probability(k, v) - probability(other, v) + _TIE

    def takes_over(k: int, last: int, since: float) -> float:
        """Where level k catches up with `last`, the mode since `since`; -inf if it is ahead there already."""
        edge = edges[k]
        if last == k - 1 and law.symmetric and law.peaked and last > 0 and math.isfinite(edges[k + 1]):
            width = edges[k + 1] - edge
            if since < edge and abs(width - (edge - edges[last])) <= 1e-12 * width:
                return edge  # bins of one width: by symmetry, and the density is strictly unimodal
        start = max(edge - reach, since)
        if lead(start, k, last) >= 0:
            return -math.inf
        return optimize.brentq(lead, start, edge + reach, args=(k, last), xtol=1e-17 * std, rtol=1e-15)

    modes = [(0, -math.inf)]
    for k in range(1, len(thresholds) + 1):
        while (since := takes_over(k, *modes[-1])) == -math.inf:
            modes.pop()
        modes.append((k, since))
    starts, remaining = [], iter(modes[1:])
    level, since = next(remaining)
    for k in range(1, len(thresholds) + 1):
        while level < k:
            level, since = next(remaining)
        starts.append(since)
    return starts
