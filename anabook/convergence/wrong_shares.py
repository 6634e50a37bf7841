"""How many of many networks have a wrong limit, with intervals of confidence for a share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from anabook._validate import integer, real
from anabook.convergence.network_limits import FLOAT_LAMBDAS, UNDECIDED, WRONG, limit
from anabook.convergence.quantised_networks import Network, exact_input, rows, subset


@dataclass(frozen=True)
class Share:
    """How many of many networks have a wrong limit, with a confidence interval for the share.

    Attributes:
        wrong: networks whose limit is wrong.
        undecided: networks whose limit the numbers do not settle.
        total: all networks.
        low, high: Wilson's interval for the probability of a wrong limit, undecided ones counted as right
            in `low` and as wrong in `high`.
    """

    wrong: int
    undecided: int
    total: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """wrong / total."""
        return self.wrong / self.total

    def __str__(self) -> str:
        undecided = f", {self.undecided} undecided" if self.undecided else ""
        interval = f"95 % interval {self.low:.1%} to {self.high:.1%}"
        return f"{self.wrong} of {self.total} ({self.share:.1%}; {interval}{undecided})"


def wrong_share(network: Network, x: Any, families: Any, schedules: Sequence[Any]) -> Share:
    """The share of a batch of networks whose regularisation tends to a wrong output.

    All networks are judged in doubles at λ = 10⁻⁴, 10⁻⁵, 10⁻⁶; those that this leaves open are decided by `limit`.

    Example:
        >>> from anabook.convergence import power_law, random_ternary
        >>> networks, x = random_ternary(100, [4, 3, 1], rng=0)
        >>> share = wrong_share(networks, x, "uniform", [power_law(2, 2), power_law(1, 1)])
        >>> share.wrong, share.total
        (33, 100)
    """
    verdicts = np.array(limit(network, x, families, schedules, FLOAT_LAMBDAS, digits=0).verdicts, ndmin=1)
    open_ones = verdicts == UNDECIDED
    if open_ones.any():
        rest = limit(subset(network, open_ones), rows(exact_input(network, x), open_ones), families, schedules)
        verdicts[open_ones] = rest.verdicts
    wrong, undecided, total = (verdicts == WRONG).sum(), (verdicts == UNDECIDED).sum(), verdicts.size
    return Share(int(wrong), int(undecided), int(total), wilson(wrong, total)[0], wilson(wrong + undecided, total)[1])


def wilson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a probability (Wilson, 1927): the p whose distance from p̂ is at most z √(p(1 − p)/n).

    Example:
        >>> low, high = wilson(3, 10)
        >>> round(low, 4), round(high, 4)
        (0.1078, 0.6032)
    """
    successes, trials = _counts(successes, trials)
    z = float(special.ndtri((1 + _confidence(confidence)) / 2))
    p, spread = successes / trials, z * z / trials
    centre = (p + spread / 2) / (1 + spread)
    half = math.sqrt(spread * p * (1 - p) + spread * spread / 4) / (1 + spread)
    low = 0.0 if successes == 0 else centre - half
    return low, 1.0 if successes == trials else centre + half


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact (conservative) interval for a probability, by inverting binomial tails.

    Example:
        >>> low, high = clopper_pearson(3, 10)
        >>> round(low, 4), round(high, 4)
        (0.0667, 0.6525)
    """
    successes, trials = _counts(successes, trials)
    tail = (1 - _confidence(confidence)) / 2
    low = 0.0 if successes == 0 else float(special.betaincinv(successes, trials - successes + 1, tail))
    high = 1.0 if successes == trials else float(special.betaincinv(successes + 1, trials - successes, 1 - tail))
    return low, high


def _counts(successes: Any, trials: Any) -> tuple[int, int]:
    trials = integer(trials, "trials", minimum=1)
    return integer(successes, "successes", minimum=0, maximum=trials), trials


def _confidence(value: Any) -> float:
    value = real(value, "confidence")
    if not 0 < value < 1:
        raise ValueError(f"confidence must lie strictly between 0 and 1, not {value!r}.")
    return value
