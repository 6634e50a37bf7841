"""Stair functions of exact pre-activations, and their expectations under a layer's noise.

Two habits make the answers trustworthy. Quantised values are exact rationals, so "on the threshold" is decided, not
estimated. A regularised value is an exact level plus a small signed residual, so 1 − 10⁻²⁰⁰ and 10⁻³⁹ keep their
digits.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from anabook.convergence.exact_arithmetic import Exact, Precision
from anabook.convergence.layer_noises import LayerNoise
from anabook.convergence.tails import beyond, centre
from anabook.quantisers import Quantiser


def rationals(quantiser: Quantiser) -> tuple[list[Fraction], list[Fraction]]:
    """A quantiser's levels and thresholds, exactly."""
    return [Fraction(v) for v in quantiser.levels.tolist()], [Fraction(v) for v in quantiser.thresholds.tolist()]


def offsets(s: Exact, quantiser: Quantiser) -> Exact:
    """s − θ_k, exactly, with a last axis for k."""
    return s[..., np.newaxis] - Exact.of(quantiser.thresholds, "thresholds")


def climb(quantiser: Quantiser, twice: np.ndarray) -> Exact:
    """q_0 + Σ_k Δ_k a_k for a_k in {0, ½, 1}, given as 2 a_k in a last axis."""
    levels = Exact.of(quantiser.levels, "levels")
    steps = np.diff(levels.numerators)
    return Exact(2 * levels.numerators[0] + (twice * steps).sum(axis=-1), 2 * levels.denominator)


def stairs(quantiser: Quantiser, s: Exact) -> Exact:
    """σ(s), exactly."""
    return climb(quantiser, 2 * (offsets(s, quantiser).sign() >= 0))


def expect(quantiser: Quantiser, s: Exact, shift: np.ndarray, noise: LayerNoise, of: Precision) -> tuple[Exact, np.ndarray]:
    """E[σ(s + shift − ν)] as an exact anchor and a residual.

    Each jump contributes Δ_k F0(t_k). F0 is written as 0, ½ or 1 plus what is missing, whichever is nearest:
    the levels keep tiny tails, and the halves keep what zero-mean noise makes of a threshold hit exactly.
    """
    mean, std = of.number(noise.mean), of.number(noise.std)
    offset = offsets(s, quantiser).numbers(of) + shift[..., np.newaxis]
    if std == 0:
        twice, missing = 2 * (offset >= mean).astype(int), offset * 0
    else:
        above = (offset > mean).astype(bool)
        with np.errstate(over="ignore"):
            t = (offset - mean) / std
            tail = tail_at(noise, offset, above, t, of)
        near = (tail > 0.25).astype(bool)
        twice = np.where(near, 1, 2 * above)
        missing = np.where(near, centre(noise.family, np.where(near, t, 0), of), np.where(above, -tail, tail))
    steps = np.diff(Exact.of(quantiser.levels, "levels").numbers(of))
    return climb(quantiser, twice), (missing * steps).sum(axis=-1)


def tail_at(noise: LayerNoise, offset: np.ndarray, above: np.ndarray, t: np.ndarray, of: Precision) -> np.ndarray:
    """T0(|t|): the probability that the noise puts an offset on the other side of its threshold, or half of ties."""
    # np.subtract, since mpf − array makes mpmath print the array before NumPy gets to see it.
    below_upper, above_lower = np.subtract(of.number(noise.upper), offset), offset - of.number(noise.lower)
    return beyond(noise.family, t, above, np.where(above, below_upper, above_lower), of, of.number(noise.std))
