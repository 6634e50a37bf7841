"""Means over folds with intervals of confidence: Student's, or the bootstrap's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from anabook._validate import choice, integer, real


class Estimate(NamedTuple):
    """A mean over folds with an interval of confidence.

    Attributes:
        mean: of the values.
        low, high: the interval's ends; NaN for a single value.
        std: with n − 1 in the denominator.
        n: how many values.

    Example:
        >>> print(interval([0.80, 0.82, 0.81]))
        81.0 [78.5, 83.5]
    """

    mean: float
    low: float
    high: float
    std: float
    n: int

    def __str__(self) -> str:
        if self.n < 2:
            return f"{100 * self.mean:.1f}"
        return f"{100 * self.mean:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def interval(
    values: Sequence[float], method: str = "t", level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Estimate:
    """The mean of values from independent folds, with an interval of confidence.

    Args:
        values: one for each fold.
        method: "t", Student's interval; or "bootstrap", the percentiles of resampled means (too narrow for few folds).
        level: of confidence.
        resamples, seed: of the bootstrap. With up to seven values all resamples are enumerated instead.

    Example:
        >>> print(interval([0.80, 0.82, 0.81]))
        81.0 [78.5, 83.5]
        >>> round(interval([0.80, 0.82, 0.81], method="bootstrap").low, 3)
        0.802
    """
    choice(method, ("t", "bootstrap"), "method")
    level = check_level(level)
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"values must be a flat list of numbers, not of shape {values.shape}.")
    n, mean = len(values), float(values.mean())
    if n == 1:
        return Estimate(mean, math.nan, math.nan, math.nan, 1)
    std = float(values.std(ddof=1))
    if method == "t":
        half = float(special.stdtrit(n - 1, (1 + level) / 2)) * std / math.sqrt(n)
        return Estimate(mean, mean - half, mean + half, std, n)
    if n <= 7:
        rows = np.stack(np.meshgrid(*[np.arange(n)] * n), axis=-1).reshape(-1, n)
    else:
        rows = np.random.default_rng(integer(seed, "seed", minimum=0)).integers(0, n, (resamples, n))
    low, high = np.quantile(values[rows].mean(1), [(1 - level) / 2, (1 + level) / 2])
    return Estimate(mean, float(low), float(high), std, n)


def check_level(level: float) -> float:
    """A level of confidence, if it lies between 0 and 1.

    Example:
        >>> check_level(0.9)
        0.9
    """
    level = real(level, "level", above=0.0)
    if level >= 1:
        raise ValueError(f"level must lie between 0 and 1, not {level!r}.")
    return level
