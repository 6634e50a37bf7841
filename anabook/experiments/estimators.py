"""The comparison of estimators as recorded: what each reached, by how much they differ, and which one to take.

The lines are those of the study "comparison": a network, the number of levels and the start make a table, and each estimator
has in it the learning rate that was the best on fold 0, and up to five folds at that rate. Of an estimator that was changed,
only the runs of its newest edition count; of those that start from a float network, those that start from the one trained
at the rate that was chosen for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from anabook._table import Table
from anabook._validate import choice
from anabook.experiments import shipped
from anabook.experiments.intervals import Estimate, check_level, interval

LABELS: dict[str, str] = {
    "float": "float",
    "static": "clipped identity (static noise, mode)",
    "identity": "plain identity",
    "lsq": "LSQ",
    "dorefa": "DoReFa",
    "pact": "PACT",
    "fast-sigmoid": "fast sigmoid",
    "arctangent": "arctangent",
    "brevitas": "Brevitas's defaults",
    "partition-mode": "annealed, mode",
    "partition-expectation": "annealed, expectation",
}
"""The estimators by name, with words for tables; after the network in float the simplest to write first."""

TABLES: dict[tuple[str, str, str], str] = {
    (task, levels, start): f"{network}, {levels}, {words}"
    for start, words in (("scratch", "from scratch"), ("float", "from a float checkpoint"))
    for task, network in (("cifar10", "VGG on CIFAR-10"), ("gsc12", "DSCNN on Speech Commands"))
    for levels in ("ternary", "4 bits")
}
"""Task, levels and start of each table, with words for it, in the order in which they are made."""

RATES = (0.001, 0.003, 0.01)
"""The learning rates that are tried on fold 0."""

BEYOND = (0.0003, 0.03)
"""What they are extended by where the least or the greatest of them is the best."""

ADVICE: dict[str, tuple[str, str, str, str]] = {
    "static": (
        "1 between the outermost levels, 0 beyond",
        "half a quantum to either side of each threshold",
        "fixed",
        "what lies beyond the outermost levels does not move: start within them",
    ),
    "identity": ("1 everywhere", "no end", "fixed", "latent weights wander off beyond the levels"),
    "lsq": (
        "1 between the outermost levels, 0 beyond",
        "half a quantum to either side of each threshold",
        "learned",
        "with Adam the quanta need a rate relative to their size",
    ),
    "dorefa": (
        "1 up to the ends of the range, through tanh for weights",
        "half a quantum to either side of each threshold",
        "none: the largest weight is 1, and so is the largest feature",
        "one large weight makes all others small",
    ),
    "pact": (
        "1 up to the ends of the range, through tanh for weights",
        "half a quantum to either side of each threshold",
        "learned for features",
        "one large weight makes all others small",
    ),
    "fast-sigmoid": ("1/(1 + 25|d|)², d quanta from a threshold", "a 25th of a quantum", "fixed", "little reaches far"),
    "arctangent": ("1/(1 + (πd)²), d quanta from a threshold", "a third of a quantum", "fixed", "its tails never end"),
    "brevitas": (
        "1 up to half a quantum beyond the outermost levels",
        "a quantum about each threshold",
        "the largest weight's; of features learned after a while",
        "one large weight makes all others small",
    ),
    "partition-mode": (
        "1 between the outermost levels, then fading",
        "half a quantum, then less",
        "fixed",
        "takes its time",
    ),
    "partition-expectation": ("the same", "half a quantum, then less", "fixed", "no quantised network before the end"),
}
"""For each estimator: the slope, its width, the quantum, what to look out for."""

_BY_ARGUMENT = (
    ("binary: −1 and 1", "static", "not measured: the clip is ±1, the hard tanh"),
    ("5 to 8 bits", "static", "not measured: the finer the stair, the less the slope can matter"),
    ("spiking: 0 and 1 over time", "arctangent", "not measured: a slope with tails is usual there"),
)


@dataclass(frozen=True)
class Entry:
    """An estimator in a table.

    Attributes:
        method: a key of `LABELS`.
        lr: the learning rate that was chosen on fold 0; None where not all rates are measured yet.
        rates: accuracy on fold 0 by the rates that were tried; 0 where training broke down.
        folds: by fold the accuracy at the chosen rate: on the unused images where there are some, else on the fold; 0 where
            training broke down.
    """

    method: str
    lr: float | None
    rates: Mapping[float, float]
    folds: Mapping[int, float]

    @property
    def estimate(self) -> Estimate:
        """Mean over folds with Student's interval."""
        return interval(list(self.folds.values()))

    @property
    def label(self) -> str:
        """In words."""
        return LABELS[self.method]

    def ahead_of(self, other: Entry, level: float = 0.95) -> Estimate:
        """The difference on the folds that both have, with Student's interval.

        Raises:
            ValueError: there is no such fold.
        """
        common = sorted(self.folds.keys() & other.folds.keys())
        if not common:
            raise ValueError(f"{self.method!r} and {other.method!r} have no fold in common.")
        return interval([self.folds[fold] - other.folds[fold] for fold in common], level=level)


def rank(record: Mapping[str, Any]) -> tuple[float, float]:
    """By which rates are compared: accuracy on the fold, then loss; what broke down comes last.

    Example:
        >>> rank({"accuracy": 0.5, "loss": 1.0}) > rank({"accuracy": 0.5, "loss": 1.1}) > rank({"diverged": "the loss is NaN"})
        True
    """
    return (-1.0, 0.0) if "diverged" in record else (record["accuracy"], -record["loss"])


def choose_rate(run: Callable[[float], Mapping[str, Any] | None]) -> tuple[tuple[float, ...], float | None]:
    """The rates to try on fold 0, and the best of them once each has its run: three, a fourth where an end of them is best.

    Args:
        run: a rate ↦ its record on fold 0, None where there is none yet.

    Example:
        >>> runs = {lr: {"accuracy": lr, "loss": 1.0} for lr in RATES}
        >>> choose_rate(runs.get)
        ((0.001, 0.003, 0.01, 0.03), None)
        >>> choose_rate({**runs, 0.03: {"diverged": "the loss is NaN"}}.get)
        ((0.001, 0.003, 0.01, 0.03), 0.01)
    """
    best = _best_of(RATES, run)
    beyond = dict(zip((RATES[0], RATES[-1]), BEYOND)).get(best) if best is not None else None
    if beyond is None:
        return RATES, best
    tried = (*RATES, beyond)
    return tried, _best_of(tried, run)


def _best_of(tried: Sequence[float], run: Callable[[float], Mapping[str, Any] | None]) -> float | None:
    ranked = [(rank(record), lr) for lr in tried if (record := run(lr)) is not None]
    return max(ranked)[1] if len(ranked) == len(tried) else None


def lines(path: Path | None = None) -> list[dict[str, Any]]:
    """The recorded lines, in the order of their making.

    Args:
        path: of the file; None for the one that comes with the package.

    Example:
        >>> lines()[0]["study"]
        'comparison'
    """
    return _read("comparison", path)


def entries(records: Iterable[Mapping[str, Any]], task: str, levels: str, start: str) -> list[Entry]:
    """What is there of a table, the estimators in the order of `LABELS`.

    Args:
        records: lines of the study.
        task, levels, start: which table, a key of `TABLES`.

    Raises:
        ValueError: there is no such table.

    Example:
        >>> [entry.method for entry in entries(lines(), "cifar10", "ternary", "scratch")][:2]
        ['float', 'static']
    """
    _check(task, levels, start)
    return [_entry(method, each) for method, each in _by_method(list(records), task, levels, start).items()]


def _by_method(
    records: Sequence[Mapping[str, Any]], task: str, levels: str, start: str
) -> dict[str, list[Mapping[str, Any]]]:
    """The records of a table that count, in the order of `LABELS`."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        config = record["config"]
        if config["task"] == task and config["start"] == start and config["levels"] in (levels, "float"):
            found.setdefault(config["method"], []).append(record)
    found = {method: _newest(found[method]) for method in LABELS if method in found}
    if start == "float":
        rate = _chosen(_by_method(records, task, levels, "scratch").get("float", []))
        found = {method: [r for r in each if r["config"]["checkpoint_lr"] == rate] for method, each in found.items()}
    return {method: each for method, each in found.items() if each}


def _newest(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those of the newest edition of a method."""
    edition = max(record["config"]["edition"] for record in records)
    return [record for record in records if record["config"]["edition"] == edition]


def best(found: Sequence[Entry]) -> Entry:
    """The estimator with the highest mean, of those that have as many folds as any; the float network does not count.

    Raises:
        ValueError: none has two folds.

    Example:
        >>> two = [Entry(name, 0.01, {}, {0: 0.5, 1: high}) for name, high in (("static", 0.6), ("lsq", 0.7))]
        >>> best(two).method
        'lsq'
    """
    complete = _complete(found)
    return max(complete, key=lambda entry: entry.estimate.mean)


def level_with(found: Sequence[Entry], level: float = 0.95) -> list[Entry]:
    """The best and those that the folds do not tell from it, in the order of `LABELS`.

    An estimator is told from the best if Student's interval of their differences lies beyond 0, at a level that is right for
    all of these comparisons together (Bonferroni's).

    Example:
        >>> two = [Entry(name, 0.01, {}, {0: 0.5, 1: high}) for name, high in (("static", 0.6), ("lsq", 0.7))]
        >>> [entry.method for entry in level_with(two)]
        ['static', 'lsq']
    """
    complete, first = _complete(found), best(found)
    at = 1 - (1 - check_level(level)) / max(1, len(complete) - 1)
    return [entry for entry in complete if entry is first or not first.ahead_of(entry, at).low > 0]


def recommended(found: Sequence[Entry], level: float = 0.95) -> Entry:
    """The simplest estimator that is not told from the best: what to try first.

    Example:
        >>> def entry(method, *accuracies):
        ...     return Entry(method, 0.01, {}, dict(enumerate(accuracies)))
        >>> alike = entry("static", 0.50, 0.53, 0.51), entry("lsq", 0.52, 0.51, 0.52)
        >>> recommended(alike).method
        'static'
        >>> recommended([*alike, entry("pact", 0.70, 0.73, 0.71)]).method
        'pact'
    """
    return level_with(found, level)[0]


def costs(path: Path | None = None) -> dict[tuple[str, str], dict[str, float]]:
    """By task and levels, how long a training step takes with each estimator, the float network's being 1.

    Processor time, and the median over rounds of the ratio within a round, from the lines of the study "costs".

    Args:
        path: of the file; None for the one that comes with the package.

    Example:
        >>> costs()["cifar10", "ternary"]["float"]
        1.0
    """
    return {(record["config"]["task"], record["config"]["levels"]): ratios(record) for record in _read("costs", path)}


def ratios(record: Mapping[str, Any]) -> dict[str, float]:
    """Of one line of the study "costs": by method the median over rounds of its step's time over that of the float network.

    Example:
        >>> ratios({"milliseconds": {"float": [10, 20], "static": [15, 40]}})
        {'float': 1.0, 'static': 1.75}
    """
    took = record["milliseconds"]
    return {method: median(a / b for a, b in zip(each, took["float"])) for method, each in took.items()}


def table(
    records: Iterable[Mapping[str, Any]],
    task: str,
    levels: str,
    start: str,
    cost: Mapping[tuple[str, str], Mapping[str, float]] | None = None,
) -> Table:
    """Accuracies with intervals, differences from the clipped identity, learning rates and cost of a step.

    Args:
        records: lines of the study.
        task, levels, start: which table, a key of `TABLES`.
        cost: as `costs` gives it; None for what comes with the package.

    Example:
        >>> print(str(table(lines(), "cifar10", "ternary", "scratch")).splitlines()[0].partition(":")[0])
        VGG on CIFAR-10, ternary, from scratch
    """
    records = list(records)
    found = entries(records, task, levels, start)
    by_name = {entry.method: entry for entry in found}
    base, rows = by_name.get("static"), []
    times = (costs() if cost is None else cost).get((task, levels), {})
    for entry in found:
        if entry.lr is None or not entry.folds:
            rows.append((entry.label, "–", "–", f"{len(entry.rates)} tried", "–", "–"))
            continue
        versus = "–"
        if base is not None and entry is not base and len(base.folds.keys() & entry.folds.keys()) > 1:
            versus = _points(entry.ahead_of(base))
        took = f"{times[entry.method]:.1f}" if entry.method in times else "–"
        rows.append((entry.label, str(entry.estimate), versus, f"{entry.lr:g}", str(len(entry.folds)), took))
    unused = {r["config"]["unused"] for each in _by_method(records, task, levels, start).values() for r in each}
    measured = f"on {' or '.join(f'{n:,}' for n in sorted(unused))} unused images" if any(unused) else "on the held-out fold"
    header = ("estimator", "accuracy in %", "− clipped identity, points", "rate", "folds", "time of a step")
    return Table(f"{TABLES[task, levels, start]}: {measured}, means with 95 % intervals", header, tuple(rows))


def decisions(records: Iterable[Mapping[str, Any]]) -> Table:
    """Which estimator to try first, by levels and start: what is recommended in each table, and how well that is known.

    Args:
        records: lines of the study.

    Example:
        >>> [row[0] for row in decisions(lines()).rows][:2]
        ['ternary, from scratch', 'ternary, from a float checkpoint']
    """
    records, rows = list(records), []
    for levels in ("ternary", "4 bits"):
        for start, words in (("scratch", "from scratch"), ("float", "from a float checkpoint")):
            rows += _rows(f"{levels}, {words}", {task: entries(records, task, levels, start) for task in _NETWORKS})
    rows += [(name, LABELS[method], *ADVICE[method][:3], "–", ADVICE[method][3], why) for name, method, why in _BY_ARGUMENT]
    header = ("network", "try first", "slope", "width", "quantum", "rate of Adam", "caveat", "evidence")
    return Table("Which estimator to try first: the simplest that is not told from the best", header, tuple(rows))


_NETWORKS = {"cifar10": "VGG", "gsc12": "DSCNN"}


def _rows(name: str, found: Mapping[str, Sequence[Entry]]) -> list[tuple[str, ...]]:
    """A row for the networks that recommend the same, more where they differ."""
    chosen: dict[str, list[tuple[str, Entry, int, int]]] = {}
    for task, each in found.items():
        if sum(len(entry.folds) > 1 for entry in each if entry.method != "float") > 1:
            first = recommended(each)
            chosen.setdefault(first.method, []).append((_NETWORKS[task], first, len(level_with(each)), len(_complete(each))))
    if not chosen:
        why = "by argument; not measured on two folds yet"
        return [(name, LABELS["static"], *ADVICE["static"][:3], "–", ADVICE["static"][3], why)]
    return [
        (
            name,
            LABELS[method],
            *ADVICE[method][:3],
            ", ".join(f"{entry.lr:g} ({network})" for network, entry, *_ in each),
            ADVICE[method][3],
            "; ".join(
                f"{network}: {level} of {n} not told apart, {len(entry.folds)} folds" for network, entry, level, n in each
            ),
        )
        for method, each in chosen.items()
    ]


def _read(name: str, path: Path | None) -> list[dict[str, Any]]:
    text = (shipped.path(f"results/{name}.jsonl") if path is None else path).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def _check(task: str, levels: str, start: str) -> None:
    for value, place, what in ((task, 0, "task"), (levels, 1, "levels"), (start, 2, "start")):
        choice(value, dict.fromkeys(key[place] for key in TABLES), what)


def _entry(method: str, records: Sequence[Mapping[str, Any]]) -> Entry:
    first = [record for record in records if record["config"]["fold"] == 0]
    rates = {record["config"]["lr"]: record.get("accuracy", 0.0) for record in first}
    lr = _chosen(records)
    at = [record for record in records if record["config"]["lr"] == lr]
    folds = {record["config"]["fold"]: _accuracy(record) for record in at}
    return Entry(method, lr, rates, dict(sorted(folds.items())))


def _chosen(records: Sequence[Mapping[str, Any]]) -> float | None:
    """The rate that `choose_rate` finds in a method's records; None while runs are missing."""
    return choose_rate({r["config"]["lr"]: r for r in records if r["config"]["fold"] == 0}.get)[1]


def _accuracy(record: Mapping[str, Any]) -> float:
    return record.get("unused", record).get("accuracy", 0.0)


def _complete(found: Sequence[Entry]) -> list[Entry]:
    quantised = [entry for entry in found if entry.method != "float" and entry.lr is not None]
    most = max((len(entry.folds) for entry in quantised), default=0)
    if most < 2:
        raise ValueError("no estimator has two folds in this table yet, so none can be told from another.")
    return [entry for entry in quantised if len(entry.folds) == most]


def _points(effect: Estimate) -> str:
    return f"{100 * effect.mean:+.1f} [{100 * effect.low:+.1f}, {100 * effect.high:+.1f}]"
