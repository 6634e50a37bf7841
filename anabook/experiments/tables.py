"""Tables of recorded runs, as pages show them: each cell the same text that `anabook results` prints."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from anabook._table import Table
from anabook._validate import choice
from anabook.experiments import claims, design, results
from anabook.experiments.intervals import Estimate
from anabook.experiments.measures import resolved

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "NOT_RUN",
    "Table",
    "accuracies",
    "folds",
    "folds_in_words",
    "sizes",
    "verdict_in_words",
    "verdicts",
    "verdicts_by_data",
    "wider_intervals",
]

NOT_RUN = "–"
"""What stands in a cell without a run."""

_ORDER: dict[str, list[str]] = {
    "noise": list(map(str, design.Family)),
    "strategy": list(map(str, design.Strategy)),
    "schedule": ["static", *dict.fromkeys(unit.schedule for unit in design.units() if not unit.is_static)],
    "unit": [*(unit.name for unit in design.units()), *design.BASELINES],
}


def accuracies(
    frame: pd.DataFrame, rows: str = "schedule", columns: str = "strategy", measure: str = results.FINAL, method: str = "t"
) -> Table:
    """Mean and 95 % interval over folds, in per cent, one unit in a cell.

    Args:
        frame: runs on one data set and size, of `results.select`, perhaps fewer.
        rows, columns: two of "noise", "strategy", "schedule", "unit"; or for the columns "n", which gives one column with
            the number of folds beside it.
        measure, method: as for `results.summary`; the caption names the measure.

    Raises:
        ValueError: two units would share a cell; runs that cannot be compared.

    Example:
        >>> from anabook.experiments import results
        >>> frame = results.select(results.load(), "cifar10")
        >>> accuracies(frame[frame["mean"] == "static"].query("noise == 'uniform'")).header
        ('schedule', 'expectation', 'mode', 'random')
    """
    choice(rows, _ORDER, "rows")
    choice(columns, [*_ORDER, "n"], "columns")
    by = ["unit", *dict.fromkeys(name for name in (rows, columns) if name not in ("unit", "n"))]
    measure = resolved(measure, frame)
    found = results.summary(frame, by, measure, method)
    caption = f"{_runs(frame)}: {measure.replace('_', ' ')} in %, mean and 95 % interval"
    place = [rows] if columns == "n" else [rows, columns]
    found = found.dropna(subset=place)
    if found.duplicated(place).any():
        raise ValueError(f"several units share {' and '.join(place)}: take fewer runs, or other columns.")
    if columns == "n":
        cells = [(row[rows].replace("-", " "), str(_interval(row)), str(row["n"])) for row in _sorted(found, rows)]
        return Table(caption, (rows, measure.replace("_", " "), f"{_word(frame)}s"), tuple(cells))
    titles = _names(found, columns)
    texts = {(row[rows], row[columns]): str(_interval(row)) for _, row in found.iterrows()}
    cells = [
        (name.replace("-", " "), *(texts.get((name, title), NOT_RUN) for title in titles)) for name in _names(found, rows)
    ]
    return Table(caption, (rows, *titles), tuple(cells))


def verdicts(found: Iterable[claims.Judgement]) -> Table:
    """Claims with the contrast that decides each, its interval, the p value and the verdict.

    The p value allows for the number of claims (Holm). Where that turns a verdict into "undecided", the table says what the
    claim would be alone.

    Args:
        found: of `claims.judge_all`.

    Example:
        >>> from anabook.experiments import results
        >>> verdicts(claims.judge_all(results.load(), "cifar10")).header
        ('claim', 'deciding contrast', 'effect', 'p', 'verdict')
    """
    found = list(found)
    if not found:
        raise ValueError("there is no verdict to show.")
    caption = f"{_judged(found)}: what is claimed, and what the runs say"
    rows = tuple(
        (
            v.claim.statement,
            NOT_RUN if v.deciding is None else v.deciding.contrast.name,
            NOT_RUN if v.effect is None else claims.points(v.effect),
            _probability(v.adjusted),
            verdict_in_words(v),
        )
        for v in found
    )
    return Table(caption, ("claim", "deciding contrast", "effect", "p", "verdict"), rows)


def verdict_in_words(found: claims.Judgement) -> str:
    """For example "supported", or "undecided (alone: supported)".

    Example:
        >>> from anabook.experiments import results
        >>> verdict_in_words(claims.judge_all(results.load(), "cifar10")[0])
        'supported'
    """
    return found.verdict + (f" (alone: {found.alone})" if found.alone not in ("", found.verdict) else "")


def verdicts_by_data(frame: pd.DataFrame, tasks: Sequence[str], size: str = "scaled") -> Table:
    """The verdict on every claim for several data sets; "not claimed" where the claim is not about a data set.

    Args:
        frame: of `results.load`.
        tasks: names in the store, all of which have runs of this size.
        size: of the runs.

    Example:
        >>> from anabook.experiments import results
        >>> verdicts_by_data(results.load(), ["cifar10", "gsc12"]).rows[0][1:]
        ('supported', 'not claimed')
    """
    if isinstance(tasks, str) or not tasks:
        raise TypeError(f"tasks must be a list with at least one data set, not {tasks!r}.")
    judged = {task: {v.claim.name: v for v in claims.judge_all(frame, task, size)} for task in tasks}
    rows = []
    for claim in claims.CLAIMS:
        cells = [found.get(claim.name) for found in judged.values()]
        rows.append((claim.statement, *(claims.NOT_CLAIMED if v is None else verdict_in_words(v) for v in cells)))
    titles = [results.select(frame, task, size)["data"].iloc[0] for task in tasks]
    return Table(f"{size} runs: each claim on the data that it is made about", ("claim", *titles), tuple(rows))


def wider_intervals(frame: pd.DataFrame, task: str, size: str = "scaled") -> Table:
    """Each claim about differences, by itself, once by Student's interval and once by Nadeau and Bengio's.

    The contrast is the one that decides by Student's.

    Example:
        >>> from anabook.experiments import results
        >>> wider_intervals(results.load(), "cifar10").header[1:]
        ('Student', 'alone', 'Nadeau and Bengio', 'alone')
    """
    rows = []
    for student, wide in zip(*(claims.judge_all(frame, task, size, method=method) for method in claims.INTERVALS)):
        if student.deciding is None or student.claim.kind == "varies more":
            continue
        (same,) = [f for f in wide.findings if f.contrast is student.deciding.contrast]
        name = f"{student.claim.name} ({student.deciding.contrast.name})"
        rows.append((name, claims.points(student.effect), student.alone, claims.points(same.effect), wide.alone))
    runs = results.select(frame, task, size)
    if not rows:
        raise results.NoRuns(f"no claim about differences has the runs on {task!r} of size {size!r} that it needs.")
    caption = f"{runs['data'].iloc[0]}, {size}: the same differences by two intervals, each claim by itself"
    return Table(caption, ("claim", "Student", "alone", "Nadeau and Bengio", "alone"), tuple(rows))


def _judged(found: Sequence[claims.Judgement]) -> str:
    most = max((finding.effect.n for v in found for finding in v.findings if finding.effect is not None), default=0)
    return f"{found[0].data}, {found[0].size}, up to {most} fold{'s' * (most != 1)}"


def _probability(p: float) -> str:
    if math.isnan(p):
        return NOT_RUN
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def sizes(frame: pd.DataFrame, titles: dict[str, str]) -> Table:
    """The units that several sizes have side by side, in the order of the last: accuracy on the held-out fold in per cent.

    Args:
        frame: runs on one data set at several sizes.
        titles: of the columns, by the size's name.

    Raises:
        ValueError: fewer than two sizes, one without runs, or no unit that all have.

    Example:
        >>> from anabook.experiments import results
        >>> frame = results.load().query("task == 'cifar10'")
        >>> sizes(frame, {"scaled": "scaled", "custom-f741af": "full width"}).header
        ('unit', 'scaled', 'full width')
    """
    if len(titles) < 2:
        raise ValueError(f"there must be at least two sizes, not {list(titles)!r}.")
    parts = {size: frame[(frame["size"] == size) & (frame["measured_on"] == "validation")] for size in titles}
    means = {size: results.summary(part, measure="accuracy").set_index("unit") for size, part in parts.items()}
    last = list(means.values())[-1].sort_values("mean", ascending=False, kind="stable").index
    units = [unit for unit in last if all(unit in found.index for found in means.values())]
    if not units:
        raise ValueError(f"no unit was run at all of the sizes {list(titles)!r}.")
    rows = [(unit.replace("-", " "), *(str(_interval(found.loc[unit])) for found in means.values())) for unit in units]
    how_many = "both" if len(titles) == 2 else "several"
    caption = f"{frame['data'].iloc[0]}: {how_many} sizes, accuracy on the held-out fold in per cent, with 95 % intervals"
    return Table(caption, ("unit", *titles.values()), tuple(rows))


def folds(frame: pd.DataFrame) -> tuple[int, int]:
    """The smallest and the largest number of folds that a unit was run on; of seeds on the test part, which has no folds.

    Example:
        >>> from anabook.experiments import results
        >>> folds(results.select(results.load(), "gsc12"))
        (5, 5)
    """
    counts = results.comparable(frame).groupby("unit")[results.repeats(frame["fold"])].nunique()
    return int(counts.min()), int(counts.max())


def folds_in_words(frame: pd.DataFrame) -> str:
    """For example "3 folds", or "1 to 3 folds"; "1 run" for the test part.

    Example:
        >>> from anabook.experiments import results
        >>> folds_in_words(results.select(results.load(), "gsc12"))
        '5 folds'
    """
    (low, high), word = folds(frame), _word(frame)
    return f"{high} {word}{'s' * (high != 1)}" if low == high else f"{low} to {high} {word}s"


def _word(frame: pd.DataFrame) -> str:
    return {"fold": "fold", "seed": "run"}[results.repeats(frame["fold"])]


def _runs(frame: pd.DataFrame) -> str:
    return f"{frame['data'].iloc[0]}, {frame['size'].iloc[0]}, {frame['measured_on'].iloc[0]}, {folds_in_words(frame)}"


def _interval(row: Any) -> Estimate:
    return Estimate(row["mean"], row["low"], row["high"], row["std"], int(row["n"]))


def _names(found: pd.DataFrame, column: str) -> list[str]:
    """What stands in a column, in the design's order; after that schedules of one's own."""
    there = list(dict.fromkeys(found[column]))
    return [name for name in _ORDER[column] if name in there] + [name for name in there if name not in _ORDER[column]]


def _sorted(found: pd.DataFrame, by: str) -> Sequence[Any]:
    order = {name: i for i, name in enumerate(_ORDER[by])}
    return sorted((row for _, row in found.iterrows()), key=lambda row: order.get(row[by], len(order)))
