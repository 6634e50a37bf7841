"""Empirical statements, the paper's and our own, as data, each with a verdict that is computed from recorded runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from anabook._validate import choice, real
from anabook.experiments import design, results
from anabook.experiments.intervals import check_level
from anabook.experiments.results import Estimate
from anabook.experiments.tasks import TASKS

if TYPE_CHECKING:
    import pandas as pd

VERDICTS = ("supported", "contradicted", "undecided", "no data")
"""What can be said of a claim: its intervals lie on its side, or on the other; they do not tell; there are no runs."""

KINDS: dict[str, str] = {
    "above": "every difference is greater than 0",
    "level": "every difference is smaller than the margin, in either direction",
    "by": "every difference is at least the margin",
}
"""What a claim says of its differences."""


class Contrast(NamedTuple):
    """Two sets of runs to be compared on the same folds.

    Attributes:
        name: what the difference is between, in words.
        first, second: a unit's name, or the names of several, all of which must have been run: else one side might be
            the mean of other schedules than the other. The effect is first minus second.
        measure: a key of `results.MEASURES`.

    Example:
        >>> CLAIMS[0].contrasts[0]
        Contrast(name='uniform: mode − random', first='uniform-mode-static', second='uniform-random-static', measure='accuracy')
    """

    name: str
    first: str | tuple[str, ...]
    second: str | tuple[str, ...]
    measure: str = "accuracy"


@dataclass(frozen=True)
class Claim:
    """An empirical statement, the paper's or one's own.

    Attributes:
        name: short, with hyphens.
        statement: in our words.
        section: where the paper says it, as far as we know; empty for a claim that is not the paper's.
        tasks: the data sets it is about; a stand-in may be judged in its place, and is named.
        kind: what it says of the differences: see `KINDS`.
        contrasts: the differences. A claim holds if all of them do.
        margin: in accuracy, for the kinds that need one; what counts as negligible or as "well above" is ours to say.
        paper: the paper's own figures, in words, where it gives some.

    Example:
        >>> CLAIMS[0].statement
        'With static noise, the mode gives higher accuracy than random sampling.'
    """

    name: str
    statement: str
    section: str
    tasks: tuple[str, ...]
    kind: str
    contrasts: tuple[Contrast, ...]
    margin: float = 0.0
    paper: str = ""

    @property
    def source(self) -> str:
        """Who says it and where, with the paper's own figures."""
        if not self.section:
            return "Ours"
        return f"Paper, {self.section}" + (f": {self.paper}" if self.paper else "")

    def __post_init__(self) -> None:
        choice(self.kind, KINDS, "kind")
        for name, entries in (("tasks", self.tasks), ("contrasts", self.contrasts)):
            if not isinstance(entries, tuple) or not entries:
                raise TypeError(
                    f"{name} of the claim {self.name!r} must be a tuple with at least one entry, not {entries!r}."
                )
        for task in self.tasks:
            choice(task, TASKS, f"a data set of the claim {self.name!r}")
        for contrast in self.contrasts:
            if not isinstance(contrast, Contrast):
                raise TypeError(f"each of the contrasts of the claim {self.name!r} must be a Contrast, not {contrast!r}.")
            choice(contrast.measure, results.MEASURES, f"the measure of {contrast.name!r}")
        real(self.margin, "margin", minimum=0.0)


class Finding(NamedTuple):
    """One contrast with its effect and its own verdict; the effect is None where runs are missing.

    Example:
        >>> from anabook.experiments import results
        >>> verdict = judge(CLAIMS[0], results.select(results.load(), "cifar10"))
        >>> verdict.findings[0].verdict
        'supported'
    """

    contrast: Contrast
    effect: Estimate | None
    verdict: str


@dataclass(frozen=True)
class Judgement:
    """What the recorded runs say of a claim.

    Attributes:
        claim: the claim.
        verdict: one of `VERDICTS`.
        findings: one for each contrast.
        data: the data set as it must be shown.
        size: of the runs.
    """

    claim: Claim
    verdict: str
    findings: tuple[Finding, ...]
    data: str
    size: str

    @property
    def effect(self) -> Estimate | None:
        """The effect that decides: of the contrasts that are as bad as the verdict, the one nearest to failing."""
        measured = [f for f in self.findings if f.effect is not None and f.verdict == self.verdict]
        if not measured:
            return None
        if self.claim.kind == "level":
            return max((f.effect for f in measured), key=lambda e: abs(e.mean))
        return min((f.effect for f in measured), key=lambda e: e.mean)

    def __str__(self) -> str:
        effect = "" if self.effect is None else f" ({points(self.effect)})"
        return f"{self.claim.name}: {self.verdict}{effect}"


_ALL = ("cifar10", "svhn", "gsc12", "gsc")
_OTHERS = ("partition", "same_start", "overlapped")
_WORDS = {"partition": "partition", "same_start": "same start", "same_end": "same end", "overlapped": "overlapped"}


def _unit(strategy: str, interval: str, law: str = "homogeneous", noise: str = "uniform") -> str:
    if interval == "static":
        return design.Unit(noise, strategy, design.Mean.STATIC, design.Std.STATIC).name
    return design.Unit(noise, strategy, interval=interval, power_law=law).name


def _annealed(strategy: str, *intervals: str, law: str | None = None, noise: str = "uniform") -> tuple[str, ...]:
    """The annealed units with a static mean, with these intervals; with both power laws unless one is named."""
    return tuple(
        unit.name
        for unit in design.units()
        if (unit.noise, unit.strategy, unit.mean, unit.std) == (noise, strategy, "static", "dynamic")
        and unit.interval in intervals
        and law in (None, unit.power_law)
    )


def _worst(strategy: str, worst: str = "same_end") -> tuple[Contrast, ...]:
    return tuple(
        Contrast(f"{strategy}: {_WORDS[other]} − {_WORDS[worst]}", _annealed(strategy, other), _annealed(strategy, worst))
        for other in _OTHERS
    )


_NOISES = ("triangular", "normal", "logistic")

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "mode-above-random",
        "With static noise, the mode gives higher accuracy than random sampling.",
        "section 4",
        _ALL,
        "above",
        tuple(
            Contrast(f"{noise}: mode − random", _unit("mode", "static", noise=noise), _unit("random", "static", noise=noise))
            for noise in ("uniform", *_NOISES)
        ),
        paper="CIFAR-10: about 86 % against 82 %",
    ),
    Claim(
        "noise-negligible-mode",
        "With static noise and the mode, the type of noise hardly matters.",
        "section 4",
        _ALL,
        "level",
        tuple(
            Contrast(f"mode: {noise} − uniform", _unit("mode", "static", noise=noise), _unit("mode", "static"))
            for noise in _NOISES
        ),
        margin=0.02,
    ),
    Claim(
        "uniform-behind-when-random",
        "With static noise and random sampling, uniform noise is slightly worse than the others.",
        "section 4",
        _ALL,
        "above",
        tuple(
            Contrast(f"random: {noise} − uniform", _unit("random", "static", noise=noise), _unit("random", "static"))
            for noise in _NOISES
        ),
    ),
    Claim(
        "noise-negligible-expectation",
        "Under expectation, too, the type of noise hardly matters, whatever the schedule.",
        "section 4",
        ("cifar10",),
        "level",
        tuple(
            Contrast(
                f"expectation: {noise} − uniform",
                _annealed("expectation", *_WORDS, noise=noise),
                _annealed("expectation", *_WORDS),
            )
            for noise in _NOISES
        ),
        margin=0.02,
    ),
    Claim(
        "expectation-partition-or-same-start",
        "Under expectation, partition and same start are the best decay intervals.",
        "section 4",
        _ALL,
        "above",
        tuple(
            Contrast(
                f"expectation: {_WORDS[good]} − {_WORDS[bad]}", _annealed("expectation", good), _annealed("expectation", bad)
            )
            for good in ("partition", "same_start")
            for bad in ("same_end", "overlapped")
        ),
        paper="CIFAR-10: about 79 % for both",
    ),
    Claim(
        "homogeneous-above-progressive",
        "Under expectation, homogeneous decay is slightly better than progressive decay.",
        "section 4",
        _ALL,
        "above",
        (
            Contrast(
                "expectation: homogeneous − progressive",
                _annealed("expectation", "partition", "same_start", law="homogeneous"),
                _annealed("expectation", "partition", "same_start", law="progressive"),
            ),
        ),
    ),
    Claim(
        "same-end-worst-expectation",
        "Under expectation, same end is the worst decay interval.",
        "section 4",
        _ALL,
        "above",
        _worst("expectation"),
    ),
    Claim(
        "same-end-worst-random",
        "With random sampling, same end is the worst decay interval.",
        "section 4",
        _ALL,
        "above",
        _worst("random"),
    ),
    Claim(
        "same-end-worst-mode",
        "With the mode, same end is the worst decay interval.",
        "section 4",
        _ALL,
        "above",
        _worst("mode"),
    ),
    Claim(
        "random-partition-above-expectation",
        "Partition with random sampling is well above partition with expectation.",
        "section 4",
        _ALL,
        "by",
        (
            Contrast(
                "partition: random − expectation", _annealed("random", "partition"), _annealed("expectation", "partition")
            ),
        ),
        margin=0.02,
        paper="CIFAR-10: about 4 points",
    ),
    Claim(
        "mode-partition-level-with-static",
        "Before the learning rate drops, partition with the mode is level with static noise and the mode.",
        "section 4",
        _ALL,
        "level",
        (
            Contrast(
                "mode, before the drop: partition − static",
                _unit("mode", "partition"),
                _unit("mode", "static"),
                "before_drop",
            ),
        ),
        margin=0.02,
    ),
    Claim(
        "static-ahead-after-drop",
        "After the learning rate has dropped, static noise with the mode is ahead of every annealed unit.",
        "section 4",
        _ALL,
        "above",
        tuple(
            Contrast(f"static mode − {strategy} {_WORDS[interval]}", _unit("mode", "static"), _unit(strategy, interval))
            for strategy in ("expectation", "random", "mode")
            for interval in ("partition", "same_start")
        ),
        paper="CIFAR-10: about 86 % against 83 % at best",
    ),
    Claim(
        "ternary-below-float",
        "The float network of the same size is ahead of the quantised one.",
        "section 4",
        _ALL,
        "above",
        (Contrast("float − static mode", "float", _unit("mode", "static")),),
    ),
    Claim(
        "static-mode-is-ste",
        "Static uniform noise with the mode is the straight-through estimator with clipping.",
        "abstract",
        ("cifar10", "svhn"),
        "level",
        (Contrast("static mode − STE by hand", _unit("mode", "static"), "ste"),),
        margin=0.02,
    ),
)
"""The claims: the paper's in its order, then our own."""


def judge(claim: Claim, frame: pd.DataFrame, level: float = 0.95) -> Judgement:
    """Compare what a claim says with recorded runs.

    Each contrast gets Student's interval over the folds that both sides have. The claim is supported if all contrasts
    are, and contradicted if one is. Else there is "no data" if a contrast lacks runs, and it is undecided if none does.

    Args:
        claim: one of `CLAIMS`, or your own.
        frame: of `results.load`, restricted to one data set and size (`results.select`).
        level: of confidence, for each contrast by itself.

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
    for contrast in claim.contrasts:
        for side in (contrast.first, contrast.second):
            results.named_units(side, frame)
    findings = []
    for contrast in claim.contrasts:
        try:
            effect = results.paired(frame, contrast.first, contrast.second, contrast.measure, level=level)
        except results.NoRuns:
            findings.append(Finding(contrast, None, "no data"))
            continue
        findings.append(Finding(contrast, effect, _verdict(claim, effect)))
    said = {finding.verdict for finding in findings}
    verdict = next(v for v in ("contradicted", "no data", "undecided", "supported") if v in said)
    return Judgement(claim, verdict, tuple(findings), str(frame["data"].iloc[0]), str(frame["size"].iloc[0]))


def judge_all(frame: pd.DataFrame, task: str, size: str = "scaled", level: float = 0.95) -> list[Judgement]:
    """The verdicts on all claims about a data set; a stand-in is asked what is said of what it stands for.

    `level` is that of `judge`: with n differences in all, 1 - 0.05 / n corrects for their number by Bonferroni's rule.

    Example:
        >>> from anabook.experiments import results
        >>> [verdict.verdict for verdict in judge_all(results.load(), "cifar10")][:3]
        ['supported', 'undecided', 'undecided']
    """
    runs = results.select(frame, task, size)
    return [judge(claim, runs, level) for claim in CLAIMS if TASKS[task].original in claim.tasks]


def _verdict(claim: Claim, effect: Estimate) -> str:
    if effect.n < 2 or math.isnan(effect.low):
        return "undecided"
    if claim.kind == "level":
        if -claim.margin < effect.low and effect.high < claim.margin:
            return "supported"
        return "contradicted" if effect.low > claim.margin or effect.high < -claim.margin else "undecided"
    if effect.low > claim.margin:
        return "supported"
    return "contradicted" if effect.high < claim.margin else "undecided"


def points(effect: Estimate) -> str:
    """An effect in percentage points, with its interval.

    Example:
        >>> from anabook.experiments.results import interval
        >>> points(interval([0.03, 0.04, 0.05]))
        '+4.0 points, +1.5 to +6.5'
    """
    if effect.n < 2:
        return f"{100 * effect.mean:+.1f} points, one fold"
    return f"{100 * effect.mean:+.1f} points, {100 * effect.low:+.1f} to {100 * effect.high:+.1f}"
