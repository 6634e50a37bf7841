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


class Ratio(Estimate):
    """How many times as much one thing scatters over the folds as another, with an interval of confidence.

    The mean is the ratio of the two standard deviations. In the place of a standard deviation stands √(1 − r²), r
    being the correlation of the two over the folds: how much of their scatter they do not share.

    Example:
        >>> print(Ratio(1.5, 0.5, 4.0, 0.9, 5))
        1.50 times [0.50, 4.00]
    """

    __slots__ = ()

    def __str__(self) -> str:
        if math.isnan(self.low):
            return f"{self.mean:.2f} times"
        return f"{self.mean:.2f} times [{self.low:.2f}, {self.high:.2f}]"


def ratio(first: Sequence[float], second: Sequence[float], level: float = 0.95) -> Ratio:
    """The ratio of two standard deviations over the same folds, by Pitman's and Morgan's interval.

    What suits one unit of a fold often suits the other, and an F test would take the two for independent. The interval is
    exact for pairs from a normal law, whatever their correlation. With few folds it is wide: with five that are
    uncorrelated it reaches from a quarter of the ratio to four times as much.

    Args:
        first, second: one value for each fold, in the same order.
        level: of confidence.

    Returns:
        The ratio; its ends are NaN for fewer than three folds.

    Raises:
        ValueError: lists of different lengths, or nothing to compare with, because the second does not scatter at all.

    Example:
        >>> print(ratio([1.0, 3.0, 2.0, 4.0], [1.0, 1.5, 1.4, 2.1]))
        2.84 times [1.37, 5.87]
    """
    level = check_level(level)
    values = [np.asarray(each, np.float64) for each in (first, second)]
    if any(each.ndim != 1 for each in values) or len(values[0]) != len(values[1]) or len(values[0]) < 2:
        raise ValueError(
            f"first and second must be flat lists of the same length, two or more, not of shapes "
            f"{values[0].shape} and {values[1].shape}."
        )
    n, stds = len(values[0]), [float(each.std(ddof=1)) for each in values]
    if not stds[1] > 0:
        raise ValueError("there is no ratio to what does not scatter: the values of second are all the same.")
    found = stds[0] / stds[1]
    if n < 3 or found == 0:
        return Ratio(found, math.nan, math.nan, math.nan, n)
    unshared = max(0.0, 1 - float(np.corrcoef(*values)[0, 1]) ** 2)
    k = 1 + 2 * unshared * float(special.stdtrit(n - 2, (1 + level) / 2)) ** 2 / (n - 2)
    factor = math.sqrt(k + math.sqrt(k * k - 1))
    return Ratio(found, found / factor, found * factor, math.sqrt(unshared), n)


def corrected(effect: Estimate, held_out: float = 0.2) -> Estimate:
    """Student's interval made wider, as Nadeau and Bengio propose for runs that share training examples.

    The variance of the mean over n folds is taken for 1/n + q/(1 − q) times that of one, where q is the share that is
    held out, in place of 1/n times.

    Args:
        effect: with Student's interval.
        held_out: the share of the examples that each fold holds out.

    Returns:
        The same mean; interval and standard deviation are wider by the same factor.

    Example:
        >>> print(interval([0.80, 0.82, 0.81]), corrected(interval([0.80, 0.82, 0.81])))
        81.0 [78.5, 83.5] 81.0 [77.7, 84.3]
    """
    held_out = real(held_out, "held_out", above=0.0)
    if held_out >= 1:
        raise ValueError(f"held_out must lie between 0 and 1, not {held_out!r}.")
    if isinstance(effect, Ratio):
        raise TypeError("the correction is one of a mean's interval, not of a ratio's.")
    wider = math.sqrt(1 + effect.n * held_out / (1 - held_out))
    half = wider * (effect.high - effect.mean)
    return effect._replace(low=effect.mean - half, high=effect.mean + half, std=wider * effect.std)
