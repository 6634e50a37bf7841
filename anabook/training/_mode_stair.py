"""The mode of a quantiser under noise whose law need not be log-concave, as a stair: found once, looked up ever after."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from anabook.laws import Law
from anabook.noise import Noise
from anabook.quantisers import Quantiser
from anabook.regularisation import Regularisation

_SHARES = 16  # into how many parts the places between two knots are divided in the search for changes of the mode
_KNOTS = (1e-16, 1e-12, 1e-9, 1e-6, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5)


@functools.lru_cache(maxsize=256)
def mode_stair(law: Law, quantiser: Quantiser, std: float) -> tuple[np.ndarray, np.ndarray, float]:
    """The most probable level under noise of mean 0, ties going to the higher one; it need not be monotone.

    Returns:
        The levels from left to right, the places from which on each but the first holds, and what is to be added to the
        places. Their number comes in few sizes: at the end the last level may start at infinity again. The levels and the
        places are the quantiser's own, where a common offset is all that the mode differs by.
    """
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


def _changes_of_mode(law: Law, quantiser: Quantiser, std: float) -> tuple[np.ndarray, np.ndarray]:
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
def _knots(law: Law) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places between which the standardised law is smooth and changes little: quantiles of both tails, and others."""
    shares = np.array(_KNOTS)
    ends = np.array([0.0, *((float(kink) - law.origin) / law.unit for kink in law.get("kinks"))])
    noise = Noise(law, 0.0, 1.0)
    return noise.icdf(shares), noise.isf(shares), ends


def _mode_index(quantiser: Quantiser, law: Law, std: float, v: np.ndarray) -> np.ndarray:
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
        result[part] = Regularisation(near, Noise(law, 0.0, std)).mode(v[part]).astype(np.intp)
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
