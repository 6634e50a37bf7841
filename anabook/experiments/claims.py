"""What recorded runs say of empirical claims: a verdict on each, computed, with the chance of error over all of them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from anabook._validate import choice
from anabook.experiments import results, significance
from anabook.experiments.claim import KINDS as KINDS
from anabook.experiments.claim import Claim as Claim
from anabook.experiments.claim import Contrast as Contrast
from anabook.experiments.claim_list import CLAIMS as CLAIMS
from anabook.experiments.intervals import Estimate, Ratio, check_level, corrected, interval, ratio
from anabook.experiments.measures import resolved
from anabook.experiments.significance import UNKNOWN, Chances
from anabook.experiments.tasks import TASKS

if TYPE_CHECKING:
    import pandas as pd

VERDICTS = ("supported", "contradicted", "undecided", "no data")
"""What can be said of a claim about its data: the runs speak for it, or against it; they do not tell; there are none."""

NOT_CLAIMED = "not claimed"
"""What is said of a claim on data that it is not made about."""

INTERVALS = ("t", "nadeau-bengio")
"""The intervals that a claim can be judged by: Student's, or wider ones for folds that share training examples."""


class Finding(NamedTuple):
    """One contrast with its effect and what that says by itself; the effect is None where runs are missing.

    Attributes:
        contrast: what is compared.
        effect: the difference or ratio with its interval.
        verdict: of this contrast alone, by its interval.
        chances: one-sided p values for and against.
        measure: the column that was compared.

    Example:
        >>> from anabook.experiments import results
        >>> verdict = judge(CLAIMS[0], results.select(results.load(), "cifar10"))
        >>> verdict.findings[0].verdict
        'supported'
    """

    contrast: Contrast
    effect: Estimate | None
    verdict: str
    chances: Chances = UNKNOWN
    measure: str = ""


@dataclass(frozen=True)
class Judgement:
    """What the recorded runs say of a claim.

    Attributes:
        claim: the claim.
        verdict: one of `VERDICTS`, or `NOT_CLAIMED`.
        findings: one for each contrast.
        data: the data set as it must be shown.
        size: of the runs.
        p: how surprising the runs are if the verdict that they speak for is wrong; two-sided, for this claim by itself.
            NaN where nothing was compared.
        adjusted: the same for a list of claims, by Holm's rule; p itself for a claim that was judged by itself.
        alone: the verdict of this claim by itself.
    """

    claim: Claim
    verdict: str
    findings: tuple[Finding, ...]
    data: str
    size: str
    p: float = math.nan
    adjusted: float = math.nan
    alone: str = ""

    @property
    def deciding(self) -> Finding | None:
        """The contrast that decides: the strongest against the claim if it is contradicted, else the weakest in its favour."""
        measured = [finding for finding in self.findings if finding.effect is not None]
        if not measured or "no data" in (self.verdict, self.alone):
            return None
        if "contradicted" in (self.verdict, self.alone):
            return min(measured, key=lambda f: f.chances.for_it)
        return max(measured, key=lambda f: f.chances.against)

    @property
    def effect(self) -> Estimate | None:
        """The effect that decides."""
        return None if self.deciding is None else self.deciding.effect

    def __str__(self) -> str:
        effect = "" if self.effect is None else f" ({points(self.effect)})"
        alone = "" if self.verdict == self.alone or not self.alone else f", alone {self.alone}"
        return f"{self.claim.name}: {self.verdict}{alone}{effect}"


def judge(claim: Claim, frame: pd.DataFrame, level: float = 0.95, method: str = "t") -> Judgement:
    """Compare what a claim says with recorded runs.

    Each contrast gets an interval over the folds that all of its sides have. The claim is supported if every interval lies
    on its side: no correction is needed, since a false claim has a contrast that is false, and that one must pass too. It is
    contradicted if one of its n intervals lies on the other side at a level of confidence that is corrected for n (Bonferroni:
    95 % becomes 1 - 0.05 / n). Else there is "no data" if a contrast lacks runs, and it is undecided if none does.

    Args:
        claim: one of `CLAIMS`, or your own.
        frame: of `results.load`, restricted to one data set and size (`results.select`).
        level: of confidence, for this claim by itself.
        method: one of `INTERVALS`; a ratio of standard deviations has its own interval under both.

    Returns:
        The judgement, with the verdict `NOT_CLAIMED` and without findings if the claim is about other data.

    Raises:
        ValueError: a contrast names what is no unit of the design, no baseline and no schedule of one's own among these runs
            (with the nearest); a level that is not between 0 and 1; runs that cannot be compared.

    Example:
        >>> from anabook.experiments import results
        >>> print(judge(CLAIMS[0], results.select(results.load(), "cifar10")).verdict)
        supported
    """
    results.comparable(frame)
    check_level(level)
    choice(method, INTERVALS, "method")
    for contrast in claim.contrasts:
        for side in contrast.sides:
            results.named_units(side, frame)
    task, data, size = (str(frame[name].iloc[0]) for name in ("task", "data", "size"))
    if (TASKS[task].original if task in TASKS else task) not in claim.tasks:
        return Judgement(claim, NOT_CLAIMED, (), data, size)
    findings = tuple(_finding(claim, contrast, frame, level, method) for contrast in claim.contrasts)
    chances = significance.of_claim([finding.chances for finding in findings])
    p = chances.two_sided if any(finding.effect is not None for finding in findings) else math.nan
    verdict = _verdict(chances, findings, p, level)
    return Judgement(claim, verdict, findings, data, size, p, p, verdict)


def judge_all(
    frame: pd.DataFrame, task: str, size: str = "scaled", level: float = 0.95, method: str = "t"
) -> list[Judgement]:
    """The verdicts on all claims about a data set; a stand-in is asked what is said of what it stands for.

    Each claim is judged by `judge`. Then Holm's rule turns into *undecided* what many claims together may bring about by
    luck: with 95 % probability none of the verdicts "supported" and "contradicted" of the whole list is wrong, for this data
    set by itself. (That is so as far as Student's interval holds: see chapter 10.) What a claim would be by itself stands in
    its `alone`.

    Example:
        >>> from anabook.experiments import results
        >>> [verdict.alone for verdict in judge_all(results.load(), "cifar10")][:2]
        ['supported', 'undecided']
    """
    runs = results.select(frame, task, size)
    return together([judge(claim, runs, level, method) for claim in CLAIMS if claim.is_about(task)], level)


def together(judged: Iterable[Judgement], level: float = 0.95) -> list[Judgement]:
    """The same judgements as one list, with Holm's rule for their number.

    Args:
        judged: each by itself, of `judge`.
        level: that with this probability all verdicts "supported" and "contradicted" are right.

    Example:
        >>> from anabook.experiments import results
        >>> one = judge(CLAIMS[0], results.select(results.load(), "cifar10"))
        >>> together([one])[0].adjusted == one.p
        True
    """
    judged = list(judged)
    alpha = 1 - check_level(level)
    tested = [j for j in judged if not math.isnan(j.p)]
    adjusted = dict(zip(map(id, tested), significance.holm([j.p for j in tested])))
    found = []
    for j in judged:
        p = adjusted.get(id(j), math.nan)
        keeps = j.alone not in ("supported", "contradicted") or p <= alpha
        found.append(replace(j, adjusted=p, verdict=j.alone or j.verdict if keeps else "undecided"))
    return found


def _finding(claim: Claim, contrast: Contrast, frame: pd.DataFrame, level: float, method: str) -> Finding:
    units = {unit for side in contrast.sides for unit in results.named_units(side, frame)}
    measure = resolved(contrast.measure, frame[frame["unit"].isin(units)])
    try:
        effect = _effect(claim, contrast, frame, measure, level)
    except results.NoRuns:
        return Finding(contrast, None, "no data", UNKNOWN, measure)
    if method == "nadeau-bengio" and not isinstance(effect, Ratio):
        effect = corrected(effect)
    chances = significance.of_effect(effect, claim.kind, claim.margin)
    half = (1 - level) / 2
    verdict = "supported" if chances.against <= half else "contradicted" if chances.for_it <= half else "undecided"
    return Finding(contrast, effect, verdict, chances, measure)


def _effect(claim: Claim, contrast: Contrast, frame: pd.DataFrame, measure: str, level: float) -> Estimate:
    sides = [results.by_fold(frame, side, measure) for side in contrast.sides]
    common = sides[0].index
    for side in sides[1:]:
        common = common.intersection(side.index)
    if not len(common):
        raise results.NoRuns(f"the sides of {contrast.name!r} have no fold in common with all their units.")
    first, second, *beyond = (side[common] for side in sides)
    if claim.kind == "varies more":
        values = [results.over_folds(side) for side in (first, second)]
        if len(values[0]) < 2 or np.ptp(values[1]) == 0:
            return Ratio(math.nan, math.nan, math.nan, math.nan, len(values[0]))
        return ratio(*values, level=level)
    difference = first - second - (beyond[0] - beyond[1] if beyond else 0.0)
    return interval(results.over_folds(difference), level=level)


def _verdict(chances: Chances, findings: tuple[Finding, ...], p: float, level: float) -> str:
    """By the p values of the whole claim; missing runs leave room for a contradiction alone."""
    if chances.for_it < chances.against and p <= 1 - level:
        return "contradicted"
    if any(finding.effect is None for finding in findings):
        return "no data"
    return "supported" if p <= 1 - level else "undecided"


def points(effect: Estimate) -> str:
    """An effect with its interval: a difference in percentage points, or a ratio of standard deviations.

    Example:
        >>> from anabook.experiments.results import interval
        >>> points(interval([0.03, 0.04, 0.05]))
        '+4.0 points, +1.5 to +6.5'
        >>> points(ratio([1.0, 3.0, 2.0, 4.0], [1.0, 1.5, 1.4, 2.1]))
        '2.84 times, 1.37 to 5.87'
    """
    few = f", {effect.n} fold{'s' * (effect.n > 1)}" if math.isnan(effect.low) else ""
    if isinstance(effect, Ratio):
        return f"{effect.mean:.2f} times" + (few or f", {effect.low:.2f} to {effect.high:.2f}")
    few = few.replace(", 1 fold", ", one fold")
    return f"{100 * effect.mean:+.1f} points" + (few or f", {100 * effect.low:+.1f} to {100 * effect.high:+.1f}")
