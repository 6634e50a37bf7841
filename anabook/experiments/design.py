"""The design of the paper's experiments: six degrees of freedom, 384 points, 264 units, and which of them are drawn.

The paper prints the 384 and the three cuts (12 of 96 static points stay; 32 and 4 points go), not the 264 that remain.
"""

from __future__ import annotations

import fnmatch
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, NamedTuple

from anabook._files import digest
from anabook._validate import choice, did_you_mean
from anabook.experiments.tasks import TASKS


class Family(StrEnum):
    """The law of the noise.

    Example:
        >>> [str(family) for family in Family]
        ['uniform', 'triangular', 'normal', 'logistic']
    """

    UNIFORM = "uniform"
    TRIANGULAR = "triangular"
    NORMAL = "normal"
    LOGISTIC = "logistic"


class Strategy(StrEnum):
    """What the forward pass makes of the stochastic quantiser.

    Example:
        >>> [str(strategy) for strategy in Strategy]
        ['expectation', 'mode', 'random']
    """

    EXPECTATION = "expectation"
    MODE = "mode"
    RANDOM = "random"


class Mean(StrEnum):
    """Whether the noise's mean stays at 0, or starts at half a quantum below it (the authors' code) and decays.

    Example:
        >>> [str(mean) for mean in Mean]
        ['static', 'dynamic']
    """

    STATIC = "static"
    DYNAMIC = "dynamic"


class Std(StrEnum):
    """Whether the noise's standard deviation stays, or decays to 0.

    Example:
        >>> [str(std) for std in Std]
        ['static', 'dynamic']
    """

    STATIC = "static"
    DYNAMIC = "dynamic"


class Interval(StrEnum):
    """When each layer's noise decays.

    Example:
        >>> [str(interval) for interval in Interval]
        ['partition', 'same_start', 'same_end', 'overlapped']
    """

    PARTITION = "partition"
    SAME_START = "same_start"
    SAME_END = "same_end"
    OVERLAPPED = "overlapped"


class PowerLaw(StrEnum):
    """How: with one exponent for all layers, or with larger ones nearer to the input.

    Example:
        >>> [str(law) for law in PowerLaw]
        ['homogeneous', 'progressive']
    """

    HOMOGENEOUS = "homogeneous"
    PROGRESSIVE = "progressive"


class Point(NamedTuple):
    """One point of the full grid.

    Example:
        >>> Point(Family.UNIFORM, Strategy.MODE, Mean.STATIC, Std.DYNAMIC, Interval.PARTITION, PowerLaw.HOMOGENEOUS).interval
        <Interval.PARTITION: 'partition'>
    """

    noise: Family
    strategy: Strategy
    mean: Mean
    std: Std
    interval: Interval
    power_law: PowerLaw


@dataclass(frozen=True, order=True)
class Unit:
    """One experimental unit: a way of annealing, to be trained on each fold.

    Strings are taken for the types' members. Where neither moment moves, interval and power law mean nothing, so
    they are None whatever was given.

    Raises:
        ValueError, TypeError: a name that is not allowed (with the nearest one that is).

    Example:
        >>> str(Unit(Family.NORMAL, Strategy.RANDOM, interval=Interval.SAME_END))
        'normal-random-same-end-homogeneous'
    """

    noise: Family
    strategy: Strategy
    mean: Mean = Mean.STATIC
    std: Std = Std.DYNAMIC
    interval: Interval | None = Interval.PARTITION
    power_law: PowerLaw | None = PowerLaw.HOMOGENEOUS

    def __post_init__(self) -> None:
        fix = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731
        for name, kind in (("noise", Family), ("strategy", Strategy), ("mean", Mean), ("std", Std)):
            fix(name, kind(choice(getattr(self, name), list(map(str, kind)), name)))
        if self.is_static:
            fix("interval", None)
            fix("power_law", None)
        else:
            fix("interval", Interval(choice(self.interval, list(map(str, Interval)), "interval")))
            fix("power_law", PowerLaw(choice(self.power_law, list(map(str, PowerLaw)), "power_law")))

    @property
    def is_static(self) -> bool:
        """Whether the noise never changes."""
        return self.mean == Mean.STATIC and self.std == Std.STATIC

    @property
    def schedule(self) -> str:
        """The name without noise and strategy: "static", or for example "same-end-progressive"."""
        if self.is_static:
            return "static"
        name = f"{self.interval.replace('_', '-')}-{self.power_law}"
        return (
            name
            + {
                ("static", "dynamic"): "",
                ("dynamic", "dynamic"): "-dynamic-mean",
                ("dynamic", "static"): "-dynamic-mean-only",
            }[self.mean, self.std]
        )

    @property
    def name(self) -> str:
        """For example "uniform-mode-static" or "normal-expectation-same-end-progressive"."""
        return f"{self.noise}-{self.strategy}-{self.schedule}"

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that depend on the six degrees of freedom only, not on names or versions."""
        values = [
            None if value is None else str(value)
            for value in (self.noise, self.strategy, self.mean, self.std, self.interval, self.power_law)
        ]
        return digest(values)[:12]

    def __str__(self) -> str:
        return self.name


class Rule(NamedTuple):
    """Why some points of the grid are not trained.

    Attributes:
        reason: in words.
        applies: to a point.
        keeps: the point that stands for all those that differ from it in interval and power law; None if all go.

    Example:
        >>> RULES[0].reason
        'nothing moves, so interval and power law mean nothing: eight points are one'
    """

    reason: str
    applies: Callable[[Point], bool]
    keeps: Callable[[Point], Point] | None


RULES: tuple[Rule, ...] = (
    Rule(
        "nothing moves, so interval and power law mean nothing: eight points are one",
        lambda p: p.mean == Mean.STATIC and p.std == Std.STATIC,
        lambda p: p._replace(interval=Interval.PARTITION, power_law=PowerLaw.HOMOGENEOUS),
    ),
    Rule(
        "expectation, and only the mean decays: the network is never quantised",
        lambda p: p.strategy == Strategy.EXPECTATION and p.mean == Mean.DYNAMIC and p.std == Std.STATIC,
        None,
    ),
    Rule(
        "expectation, and nothing decays: the network is never quantised",
        lambda p: p.strategy == Strategy.EXPECTATION and p.mean == Mean.STATIC and p.std == Std.STATIC,
        None,
    ),
)
"""What takes 384 points to 264 units, in this order: 84, 32 and 4 points go."""


def grid() -> tuple[Point, ...]:
    """The full factorial design: 4 · 3 · 2 · 2 · 4 · 2 = 384 points.

    Example:
        >>> len(grid())
        384
    """
    return tuple(Point(*values) for values in itertools.product(Family, Strategy, Mean, Std, Interval, PowerLaw))


def prune(points: Iterable[Point]) -> tuple[list[Point], list[int]]:
    """Apply `RULES` one after the other: the points that are left, and how many each rule removed.

    Example:
        >>> left, removed = prune(grid())
        >>> len(left), removed
        (264, [84, 32, 4])
    """
    points, removed = list(points), []
    for rule in RULES:
        kept = [p for p in points if not rule.applies(p) or (rule.keeps is not None and rule.keeps(p) == p)]
        removed.append(len(points) - len(kept))
        points = kept
    return points, removed


@cache
def units() -> tuple[Unit, ...]:
    """The 264 units: 66 for each noise; 64 by expectation, 100 by mode, 100 by random sampling.

    Example:
        >>> len(units())
        264
    """
    return tuple(Unit(*point) for point in prune(grid())[0])


@cache
def figure_units(task: str | None) -> tuple[Unit, ...]:
    """The units of the paper's figures: 56 for CIFAR-10, 32 for SVHN and speech.

    Counted from the captions. All have a static mean; those of figures 2 and 3 do not say so, and are read so here. For
    CIFAR-10: the static ones of all noises (8), expectation with all noises (32), random
    and mode with uniform noise (8 + 8). For the others, expectation with uniform noise only; so for None, which stands for
    data that the paper has not.

    Raises:
        ValueError: there is no such task (with the nearest name).

    Example:
        >>> len(figure_units("cifar10")), len(figure_units("svhn"))
        (56, 32)
    """
    all_noises = task is not None and TASKS[choice(task, TASKS, "task")].all_noises_drawn
    return tuple(
        unit
        for unit in units()
        if unit.mean == Mean.STATIC
        and (unit.is_static or unit.noise == Family.UNIFORM or (all_noises and unit.strategy == Strategy.EXPECTATION))
    )


BASELINES: dict[str, str] = {
    "float": "the network in float, with ReLU",
    "ste": "the straight-through estimator written out by hand: quantised forwards, a clipped identity backwards",
    "identity": "the same with the plain identity backwards, never clipped",
}
"""Networks to compare with, by name; they have no noise."""

GROUPS: dict[str, Callable[[str | None], Iterable[str]]] = {
    "all": lambda task: (u.name for u in units()),
    "figures": lambda task: (u.name for u in figure_units(task)),
    "static": lambda task: (u.name for u in units() if u.is_static),
    "uniform": lambda task: (u.name for u in figure_units(task) if u.noise == Family.UNIFORM),
    "dynamic-mean": lambda task: (
        u.name for u in units() if u.noise == Family.UNIFORM and u.mean == Mean.DYNAMIC and u.std == Std.DYNAMIC
    ),
    "baselines": lambda task: BASELINES,
}
"""Names for sets of units; some depend on the data set."""


@cache
def _by_name() -> dict[str, Unit]:
    return {unit.name: unit for unit in units()}


def unit(name: str) -> Unit:
    """The unit of this name.

    Raises:
        ValueError: there is none (with the nearest ones).

    Example:
        >>> unit("uniform-mode-partition-homogeneous").interval
        <Interval.PARTITION: 'partition'>
    """
    known = _by_name()
    if name in known:
        return known[name]
    raise ValueError(f"there is no unit {name!r}{did_you_mean(name, known, 2)}; `anabook sweep --list` lists all.")


def select(patterns: Iterable[str], task: str | None) -> tuple[str, ...]:
    """The names that groups, names and patterns with `*` stand for, each once, in the design's order.

    Args:
        patterns: for example "figures", "uniform-mode-static", "*-expectation-partition-*"; with a leading "-" to
            take some out again.
        task: the data set's name, which "figures" depends on; None for one of your own.

    Raises:
        ValueError: something that stands for no unit at all, or nothing is left.

    Example:
        >>> select(["static", "-*-mode-*", "-normal-*"], "cifar10")
        ('uniform-random-static', 'triangular-random-static', 'logistic-random-static')
    """
    order = [*_by_name(), *BASELINES]
    chosen: set[str] = set()
    patterns = list(patterns)
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"units must be names, patterns or groups, not {pattern!r}.")
        bare = pattern.removeprefix("-")
        found = set(GROUPS[bare](task)) if bare in GROUPS else {name for name in order if fnmatch.fnmatchcase(name, bare)}
        if not found:
            raise ValueError(
                f"there is no unit {bare!r}{did_you_mean(bare, [*order, *GROUPS], 2)}; `anabook sweep --list` lists all."
            )
        chosen = chosen - found if pattern.startswith("-") else chosen | found
    if not chosen:
        raise ValueError(f"units = {patterns!r} leaves no unit.")
    return tuple(name for name in order if name in chosen)


def as_dict(unit: Unit) -> dict[str, Any]:
    """The six degrees of freedom as plain text, None where they mean nothing.

    Example:
        >>> as_dict(unit("uniform-mode-static"))
        {'noise': 'uniform', 'strategy': 'mode', 'mean': 'static', 'std': 'static', 'interval': None, 'power_law': None}
    """
    return {
        name: None if (value := getattr(unit, name)) is None else str(value)
        for name in ("noise", "strategy", "mean", "std", "interval", "power_law")
    }
