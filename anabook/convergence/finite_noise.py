"""How far a network is from its limit at the noise that it has.

Theorem 2 says what happens as the noise vanishes. Here the noise stays. Take a network with any input distribution, and call
a pre-activation of the *quantised* network *within reach* if the noise can carry it over a threshold. If none is, every layer
of the noisy network gives what the quantised one gives, layer by layer, since each finds the same input. So the two differ at
most as often as some pre-activation is within reach, and the union bound adds the chances up::

    P(noisy ≠ quantised) ≤ Σ over units of E δ(s),    δ(s) the chance that the noise changes the level at s

whatever the order of the layers. Where pre-activations have densities of at most M beside the thresholds, a unit with K levels
adds at most (K − 1) M U, with a length U that depends on what the forward pass makes of the noise ν of mean α and half-width h::

    expectation   h + max(h, abs(α)), at most 2(abs(α) + h); bounded noise alone
    mode          abs(α), where h is at most the narrowest bin; in general how far its thresholds are moved
    random        E abs(ν), for every law, bounded or not

and where a threshold is hit exactly with probability π > 0, π times the largest δ(θ) is added. Under unbounded noise an
expectation is never exactly a level; `closeness` has what remains true.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import integrate

from anabook._arrays import elementwise, to_float64
from anabook._validate import choice, integer, real
from anabook.noise import Noise
from anabook.quantisers import Quantiser
from anabook.regularisation import Regularisation

__all__ = [
    "PASSES",
    "NoisyLayer",
    "change_probability",
    "closeness",
    "disagreement_bound",
    "exposure",
    "mean_magnitude",
    "reach",
    "within_reach",
]

PASSES = ("expectation", "mode", "random", "any")
"""What the forward pass makes of the noise; "any" is all three, and any other noise with the same ends."""

_ROUNDINGS = 8 * np.finfo(np.float64).eps
"""What an end of a noise may be wrong by, and what a unit in doubles may add, in units of the numbers that it is made of."""


def reach(noise: Any, miss: float = 0.0) -> tuple[float, float]:
    """The ends between which the noise lies, but for a probability `miss` under an unbounded law.

    Args:
        noise: a `Noise`, or what makes one.
        miss: in [0, 1), divided between both ends; bounded laws have their own ends, whatever it is.

    Example:
        >>> reach(Noise("triangular", mean=-0.5, std=0.0))
        (-0.5, -0.5)
        >>> [round(end, 2) for end in reach(Noise("normal", std=1.0), miss=0.05)]
        [-1.96, 1.96]
    """
    noise, miss = _noise(noise), _chance(miss, "miss")
    low, high = noise.support
    if math.isinf(low) and miss:
        low = float(noise.icdf(miss / 2))
    if math.isinf(high) and miss:
        high = float(noise.isf(miss / 2))
    return low, high


def within_reach(quantiser: Quantiser, noise: Any, s: Any, miss: float = 0.0) -> np.ndarray:
    """Which pre-activations the noise can carry over a threshold: those s with θ + min(low, 0) ≤ s < θ + max(high, 0).

    Outside of these every value between the ends of the noise leaves the level as it is, and so do expectation and mode. Ends
    and sums are rounded outwards, by a few units in the last place: what is said to be out of reach is so, also in doubles.

    Args:
        quantiser: a `Quantiser`.
        noise: a `Noise`, or what makes one.
        s: pre-activations of the quantised network, of any shape.
        miss: as for `reach`.

    Returns:
        A boolean array of the shape of s.

    Example:
        >>> within_reach(Quantiser.ternary(), Noise("uniform", std=0.1), [0.0, 0.4, 0.5, 0.7]).tolist()
        [False, True, True, False]
    """
    noise = _noise(noise)
    low, high = reach(noise, miss)
    s, thresholds = to_float64(s, "s"), _quantiser(quantiser).thresholds
    low, high = low - _slack(noise, low), high + _slack(noise, high)
    first = np.nextafter(thresholds + low, -math.inf) if low < 0 else thresholds
    behind = np.nextafter(thresholds + high, math.inf) if high > 0 else thresholds
    return np.searchsorted(first, s, side="right") > np.searchsorted(behind, s, side="right")


def _slack(noise: Noise, end: float) -> float:
    """What an end of the noise may be wrong by."""
    if noise.is_dirac or math.isinf(end):
        return 0.0
    mean = noise.mean if math.isfinite(noise.mean) else 0.0
    scale = noise.std / noise.law.unit if math.isfinite(noise.std) else 1.0
    return float(_ROUNDINGS * (abs(end) + abs(mean) + abs(scale * noise.law.origin)))


def change_probability(quantiser: Quantiser, noise: Any, s: Any, strategy: str = "random") -> Any:
    """δ(s): how probable it is that a unit with pre-activation s gives something else than σ(s).

    Args:
        quantiser: a `Quantiser`.
        noise: a `Noise`, or what makes one.
        s: of any shape; numbers on a threshold count as hits.
        strategy: one of `PASSES`. Expectation and mode are not random, so theirs is 0 or 1; so is that of "any", which asks
            whether the noise reaches a threshold from s.

    Returns:
        The probabilities, in the shape of s.

    Example:
        >>> change_probability(Quantiser.heaviside(), Noise("uniform", std=3 ** -0.5), [0.0, 0.5, 1.0])
        array([0.5 , 0.25, 0.  ])
        >>> change_probability(Quantiser.heaviside(), Noise("uniform", std=3 ** -0.5), [0.0, 0.5, 1.0], "expectation")
        array([1., 1., 0.])
    """
    quantiser, noise, strategy = _quantiser(quantiser), _noise(noise), choice(strategy, PASSES, "strategy")
    if strategy == "any":
        return within_reach(quantiser, noise, s).astype(np.float64)
    if strategy == "random":
        return elementwise(lambda v: _random_change(quantiser, noise, v), s)
    regularised = Regularisation(quantiser, noise)
    average = regularised if strategy == "expectation" else regularised.mode
    return elementwise(lambda v: np.where(average(v) == quantiser(v), 0.0, 1.0), s)


def mean_magnitude(noise: Any) -> float:
    """E abs(ν), the noise's mean distance from 0: all that random draws ask of a law to first order.

    Returns:
        Inf for a law without a mean.

    Example:
        >>> [round(mean_magnitude(Noise(law, std=1.0)), 4) for law in ("uniform", "triangular", "normal", "logistic")]
        [0.866, 0.8165, 0.7979, 0.7643]
    """
    noise = _noise(noise)
    if noise.is_dirac:
        return abs(noise.mean)
    if not math.isfinite(noise.law.get("mean")):
        return math.inf
    low, high = noise.support
    above = _integral(noise.sf, high, noise.std)
    return above + _integral(lambda x: noise.cdf(-x), -low, noise.std)


def exposure(quantiser: Quantiser, noise: Any, strategy: str = "any", miss: float = 0.0) -> float:
    """∫ δ(s) ds, an upper bound of it: how much of the line the noise makes uncertain, in units of the pre-activations.

    Times the density of a unit's pre-activation this is the chance that the unit gives another level. It is exact where the
    noise reaches no second threshold.

    Args:
        quantiser: a `Quantiser`.
        noise: a `Noise`, or what makes one.
        strategy: one of `PASSES`.
        miss: as for `reach`; "expectation" and "any" need it to be positive if the law is unbounded.

    Raises:
        ValueError: an unbounded law where a reach is needed and `miss` is 0.
        TypeError: the mode of a law that is not log-concave.

    Example:
        >>> noise = Noise("uniform", mean=0.0, std=0.1)
        >>> {strategy: round(exposure(Quantiser.ternary(), noise, strategy), 4) for strategy in PASSES}
        {'expectation': 0.6928, 'mode': 0.0, 'random': 0.1732, 'any': 0.6928}
    """
    quantiser, noise, strategy = _quantiser(quantiser), _noise(noise), choice(strategy, PASSES, "strategy")
    if strategy == "random":
        return (quantiser.n_levels - 1) * mean_magnitude(noise)
    if strategy == "mode":
        moved = Regularisation(quantiser, noise).mode_thresholds() - quantiser.thresholds
        return float(np.abs(moved).sum())
    low, high = reach(noise, miss)
    if math.isinf(low) or math.isinf(high):
        raise ValueError(f"{noise!r} is unbounded and reaches everything: miss must be greater than 0, not {miss!r}.")
    return (quantiser.n_levels - 1) * (max(high, 0.0) - min(low, 0.0))


@dataclass(frozen=True)
class NoisyLayer:
    """What the bounds ask of a layer.

    Attributes:
        units: how many there are.
        quantiser: theirs.
        noise: a `Noise`.
        density: M; hits aside, no unit's pre-activation lies in an interval J that ends at a threshold with a probability
            greater than M·abs(J), for any J that the noise reaches (unit: 1/pre-activation).
        hits: a bound of the probability that a unit's pre-activation is exactly on a threshold, whichever.
        row_sum: the largest sum of absolute weights of a unit; `closeness` alone asks for it.

    Example:
        >>> NoisyLayer(64, Quantiser.ternary(), Noise("uniform", std=0.01), density=0.35).units
        64
    """

    units: int
    quantiser: Quantiser
    noise: Noise
    density: float
    hits: float = 0.0
    row_sum: float = 1.0

    def __post_init__(self) -> None:
        integer(self.units, "units", minimum=1)
        _quantiser(self.quantiser)
        object.__setattr__(self, "noise", _noise(self.noise))
        real(self.density, "density", minimum=0.0)
        real(self.row_sum, "row_sum", minimum=0.0)
        if real(self.hits, "hits", minimum=0.0) > 1:
            raise ValueError(f"hits must be a probability, not {self.hits!r}.")


def disagreement_bound(layers: Iterable[NoisyLayer], strategy: str = "any", miss: float = 0.0) -> float:
    """A bound of P(noisy ≠ quantised), in any layer: 1 or the sum over units of chances of hits and of near hits.

    Args:
        layers: in any order.
        strategy: one of `PASSES`, the same in all layers.
        miss: for "any" under unbounded laws, the probability of a value out of reach: then the bound is for random draws and
            for the mode, and a miss of every unit is added. (From ⅔ on another level may be the mode out of reach: the
            bound is 1.)

    Raises:
        ValueError: no layer; the expectation of an unbounded law, which differs everywhere.

    Example:
        >>> layers = [NoisyLayer(64, Quantiser.ternary(), Noise("uniform", std=1e-4), density=0.35) for _ in range(3)]
        >>> round(disagreement_bound(layers), 4), round(disagreement_bound(layers, "random"), 4)
        (0.0466, 0.0116)
    """
    layers, miss = _layers(layers), _chance(miss, "miss")
    choice(strategy, PASSES, "strategy")
    total = 0.0
    for layer in layers:
        unbounded = not all(map(math.isfinite, layer.noise.support))
        if strategy == "expectation" and unbounded:
            raise ValueError(f"under {layer.noise!r} the expectation differs from every level; `closeness` says how little.")
        length = exposure(layer.quantiser, layer.noise, strategy, miss)
        if strategy in ("any", "expectation"):  # an average moves with whatever mass there is, be it lost in a double
            hit = float(within_reach(layer.quantiser, layer.noise, layer.quantiser.thresholds, miss).any())
        else:
            hit = float(np.max(change_probability(layer.quantiser, layer.noise, layer.quantiser.thresholds, strategy)))
        missed = 0.0
        if strategy == "any" and unbounded:  # out of reach each side has miss/2, and the level itself at least 1 − miss
            missed = miss if miss < 1 - miss / 2 else 1.0
        total += layer.units * (missed + layer.density * length + layer.hits * hit)
    return min(1.0, total)


def closeness(layers: Sequence[NoisyLayer], margins: Sequence[float]) -> tuple[float, tuple[float, ...]]:
    """For averages under unbounded noise: how probably every layer errs by at most so much.

    With probability at least the first number no pre-activation of the quantised network is nearer to a threshold than its
    layer's margin m_ℓ. Then no unit of layer ℓ errs by more than D_ℓ = R_ℓ T0((m_ℓ − abs(α_ℓ) − c_ℓ D_{ℓ−1})/β_ℓ), where R_ℓ is
    the range of its levels, c_ℓ the row sum and D_−1 = 0; and D_ℓ = R_ℓ where that argument is negative.

    Args:
        layers: from the input on, with symmetric laws; each takes the outputs of the one before, and nothing else.
        margins: m_ℓ > 0, one a layer.

    Raises:
        ValueError: another number of margins, or a law that is not symmetric.

    Example:
        >>> noise = Noise("normal", std=0.001)
        >>> layers = [NoisyLayer(8, Quantiser.ternary(), noise, density=0.35, row_sum=3.0) for _ in range(2)]
        >>> chance, errors = closeness(layers, [0.008, 0.008])
        >>> round(chance, 4), [f"{error:.1e}" for error in errors]
        (0.8208, ['1.2e-15', '1.2e-15'])
    """
    layers = _layers(layers)
    try:
        margins = list(margins)
    except TypeError:
        raise TypeError(f"margins must be numbers greater than 0, one a layer, not {margins!r}.") from None
    margins = [real(margin, "each margin", above=0.0) for margin in margins]
    if len(margins) != len(layers):
        raise ValueError(f"margins must be {len(layers)} numbers, one a layer, not {len(margins)}.")
    near, errors = 0.0, [0.0]
    for layer, margin in zip(layers, margins):
        noise, levels = layer.noise, layer.quantiser.levels
        if not noise.law.symmetric:
            raise ValueError(f"closeness is for symmetric laws, and {noise!r} is not.")
        near += layer.units * ((layer.quantiser.n_levels - 1) * layer.density * 2 * margin + layer.hits)
        arriving = 0.0 if len(errors) == 1 else layer.row_sum * errors[-1]
        left = margin - abs(noise.mean) - arriving
        span = float(levels[-1] - levels[0])
        enough = left > 0 if noise.is_dirac else left >= 0  # a mere shift by the whole margin may end on the threshold
        errors.append(
            span * float(Noise(noise.law, 0.0, noise.std).sf(left)) if enough else span
        )  # no digits lost to a mean
    return max(0.0, 1 - near), tuple(errors[1:])


def _random_change(quantiser: Quantiser, noise: Noise, s: np.ndarray) -> np.ndarray:
    """P(ν > s − θ_k) + P(ν ≤ s − θ_{k+1}) between the neighbouring thresholds, in tails."""
    edges = np.concatenate([[-np.inf], quantiser.thresholds, [np.inf]])
    index = np.searchsorted(quantiser.thresholds, s, side="right")
    return np.where(np.isnan(s), s, noise.sf(s - edges[index]) + noise.cdf(s - edges[index + 1]))


def _integral(tail: Any, end: float, unit: float) -> float:
    """∫ tail(x) dx from 0 to the end, in pieces that get longer, the first ones as long as the noise is wide."""
    if end <= 0:
        return 0.0
    total, left, right = 0.0, 0.0, unit / 4
    while left < end:
        piece = integrate.quad(tail, left, min(right, end), epsabs=0, epsrel=1e-12)[0] if tail(left) > 0 else 0.0
        total += piece
        if piece <= 1e-16 * total and left > 0 and tail(left) < 0.5:
            return total
        left, right = right, 2 * right
    return total


def _noise(noise: Any) -> Noise:
    return noise if isinstance(noise, Noise) else Noise(noise)


def _quantiser(quantiser: Any) -> Quantiser:
    if not isinstance(quantiser, Quantiser):
        raise TypeError(f"quantiser must be a Quantiser, not {quantiser!r}.")
    return quantiser


def _chance(value: Any, what: str) -> float:
    value = real(value, what, minimum=0.0)
    if value >= 1:
        raise ValueError(f"{what} must be a probability smaller than 1, not {value!r}.")
    return value


def _layers(layers: Iterable[NoisyLayer]) -> list[NoisyLayer]:
    try:
        layers = list(layers)
    except TypeError:
        raise TypeError(f"layers must be NoisyLayers, from the input on, not {layers!r}.") from None
    if not layers or not all(isinstance(layer, NoisyLayer) for layer in layers):
        raise ValueError(f"layers must hold at least one NoisyLayer and nothing else, not {layers!r}.")
    return layers
