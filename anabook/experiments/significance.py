"""How surprising an effect would be by luck alone, and how often a list of verdicts may be wrong.

A claim with several contrasts makes two kinds of error possible, and they need two kinds of care. To call it *supported*, every
contrast has to pass its own test, so a false claim passes no more often than the one contrast that is false: nothing is to be
corrected (an intersection-union test). To call it *contradicted*, one contrast is enough, so each of m gets an m-th of the
chance of error (Bonferroni). Over a list of claims, Holm's rule keeps the chance that any verdict is false.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from scipy import special

from anabook._validate import choice, real
from anabook.experiments.claim import KINDS
from anabook.experiments.intervals import Estimate, Ratio


class Chances(NamedTuple):
    """One-sided p values of one contrast, or of one claim.

    Attributes:
        against: how likely an effect this favourable would be at the worst place where the statement is false; small
            values support it.
        for_it: how likely one this unfavourable would be at the worst place where it is true; small values contradict it.

    Example:
        >>> Chances(0.01, 0.99).two_sided
        0.02
    """

    against: float
    for_it: float

    @property
    def two_sided(self) -> float:
        """For either verdict, whichever the runs speak for."""
        return min(1.0, 2 * min(self))


UNKNOWN = Chances(1.0, 1.0)
"""What a contrast without an interval tells."""


def of_effect(effect: Estimate, kind: str, margin: float = 0.0) -> Chances:
    """The one-sided p values of one contrast, by Student's t for differences and by Pitman's and Morgan's for ratios.

    They say the same as the effect's interval: below 2.5 % if and only if the 95 % interval lies on that side.

    Args:
        effect: a difference with its standard deviation over folds, or a ratio of two standard deviations.
        kind, margin: of the claim.

    Example:
        >>> from anabook.experiments.intervals import interval
        >>> round(of_effect(interval([0.01, 0.02, 0.03]), "above").against, 4)
        0.0371
    """
    choice(kind, KINDS, "kind")
    margin = real(margin, "margin", minimum=0.0)
    if effect.n < 2 or math.isnan(effect.low):
        return UNKNOWN
    if (kind == "varies more") != isinstance(effect, Ratio):
        raise TypeError(f"a claim of kind {kind!r} is not decided by {type(effect).__name__.lower()} {effect}.")
    if isinstance(effect, Ratio):
        below, above = _tails(pitman_morgan(effect), effect.n - 2)
        return Chances(above, below)
    if kind == "level":
        high, low = (_tails(_student(effect, end), effect.n - 1) for end in (margin, -margin))
        return Chances(max(high[0], low[1]), min(high[1], low[0]))
    below, above = _tails(_student(effect, 0.0 if kind == "above" else margin), effect.n - 1)
    return Chances(above, below)


def pitman_morgan(effect: Ratio) -> float:
    """Student's t, with n − 2 degrees of freedom, for "the two scatter alike".

    Example:
        >>> from anabook.experiments.intervals import ratio
        >>> round(pitman_morgan(ratio([1.0, 3.0, 2.0, 4.0], [1.0, 1.5, 1.4, 2.1])), 2)
        6.76
    """
    variances = effect.mean**2
    return _quotient(variances - 1, 2 * effect.mean * effect.std / math.sqrt(effect.n - 2))


def of_claim(chances: Sequence[Chances]) -> Chances:
    """The p values of a claim with several contrasts: the largest in its favour, the smallest against it times their number.

    Example:
        >>> of_claim([Chances(0.01, 0.99), Chances(0.02, 0.98)])
        Chances(against=0.02, for_it=1.0)
    """
    if not chances:
        raise ValueError("there must be at least one contrast.")
    return Chances(max(c.against for c in chances), min(1.0, len(chances) * min(c.for_it for c in chances)))


def holm(values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values: those below 5 % may be called, and with 95 % probability none of the calls is wrong.

    The smallest of n is multiplied by n, the next by n − 1, and so on; none may fall below the one before.

    Raises:
        ValueError: a value that is no probability.

    Example:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    for p in values:
        if not 0 <= real(p, "a p value") <= 1:
            raise ValueError(f"a p value must lie between 0 and 1, not {p!r}.")
    adjusted, last = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        last = adjusted[place] = max(last, min(1.0, (len(values) - rank) * values[place]))
    return adjusted


def _student(effect: Estimate, bound: float) -> float:
    """How many standard errors the mean lies above a bound; the standard error is what the interval was made of."""
    return _quotient(effect.mean - bound, effect.std / math.sqrt(effect.n))


def _quotient(distance: float, error: float) -> float:
    if error > 0:
        return distance / error
    return 0.0 if distance == 0 else math.copysign(math.inf, distance)


def _tails(t: float, freedom: int) -> tuple[float, float]:
    """The probabilities of a smaller and of a larger t."""
    if math.isinf(t):
        return (1.0, 0.0) if t > 0 else (0.0, 1.0)
    return float(special.stdtr(freedom, t)), float(special.stdtr(freedom, -t))
