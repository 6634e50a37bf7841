"""Recorded runs summarised: which of them can be compared, means with intervals, paired differences on the same folds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from anabook._validate import choice, did_you_mean
from anabook.datasets import store
from anabook.experiments import design
from anabook.experiments.intervals import Estimate as Estimate
from anabook.experiments.intervals import interval
from anabook.experiments.loading import DEGREES
from anabook.experiments.loading import folder as folder
from anabook.experiments.loading import load as load
from anabook.experiments.loading import others as others
from anabook.experiments.measures import FINAL, resolved
from anabook.experiments.measures import MEASURES as MEASURES
from anabook.experiments.measures import behind as behind
from anabook.experiments.measures import largest_error as largest_error
from anabook.experiments.measures import sharpest as sharpest
from anabook.experiments.tasks import SIZES, TASKS

if TYPE_CHECKING:
    import pandas as pd

PARTS = ("validation", "test")
"""What a run may be measured on: a held-out fold, or the official test set."""


class NoRuns(ValueError):
    """What was asked for is named rightly, but has not been run."""


_MUST_AGREE = ("data", "size", "measured_on")


def comparable(frame: pd.DataFrame) -> pd.DataFrame:
    """The table itself, if all its runs can be compared.

    Raises:
        ValueError: no runs at all; runs of several data sets, provenances, sizes, or measured on different parts; or of
            several schedules under one name.

    Example:
        >>> len(comparable(select(load(), "cifar10"))) > 100
        True
    """
    if not len(frame):
        raise ValueError("there is no run to summarise.")
    for column in _MUST_AGREE:
        values = sorted(frame[column].unique())
        if len(values) > 1:
            raise ValueError(
                f"runs of different {column} are not averaged: {', '.join(map(repr, values))}; select one of them."
            )
    prepared = sorted(set(frame["sha256"]) - {""})
    if len(prepared) > 1:
        raise ValueError(
            f"runs on different preparations of {frame['data'].iloc[0]!r} are not averaged (SHA-256 of the "
            f"inputs: {', '.join(prepared)}); select one of them by the column sha256."
        )
    again = frame[frame.duplicated(["unit", "seed", "fold"])]
    if len(again):
        unit, seed, fold = again.iloc[0][["unit", "seed", "fold"]]
        keys = frame.loc[(frame["unit"] == unit) & (frame["seed"] == seed) & (frame["fold"] == fold), "key"]
        raise ValueError(
            f"different runs with the name {unit!r}, fold {fold} and seed {seed} are not averaged (keys "
            f"{', '.join(keys)}): give schedules of your own names of their own, or select one."
        )
    return frame


def summary(
    frame: pd.DataFrame, by: str | Sequence[str] = "unit", measure: str = FINAL, method: str = "t", level: float = 0.95
) -> pd.DataFrame:
    """Mean, standard deviation and interval over folds for each group of units.

    Where a group holds several units or seeds, each fold's values are averaged first: folds are what is independent. Only
    folds that all units of the group were run on count, so that units are not mixed in other shares on some folds. The
    test set has no folds; there, each seed gives one value.

    Args:
        frame: of `load`, restricted to one data set and size.
        by: one or several columns.
        measure: a key of `MEASURES`; "final" is what `sharpest` says of the whole table.
        method, level: as for `interval`.

    Returns:
        A table with the columns of `by`, and n, mean, std, low, high; accuracies between 0 and 1.

    Raises:
        ValueError: runs that cannot be compared (see `comparable`), or a group whose units have no fold in common.

    Example:
        >>> frame = select(load(), "cifar10")
        >>> summary(frame[frame["unit"].isin(["float", "uniform-mode-static"])])[["unit", "n"]].to_dict("records")
        [{'unit': 'uniform-mode-static', 'n': 5}, {'unit': 'float', 'n': 5}]
    """
    import pandas as pd

    measure = resolved(measure, frame)
    by = [choice(column, frame.columns, "by") for column in ([by] if isinstance(by, str) else by)]
    rows = []
    for names, group in comparable(frame).groupby(by, sort=False, dropna=False):
        values = over_folds(_means(group, measure))
        if not len(values):
            named = ", ".join(map(str, names))
            raise ValueError(
                f"the {group['unit'].nunique()} units of {named!r} have no fold in common: take fewer of them, "
                "or other columns."
            )
        found = interval(values, method, level)
        rows.append(
            {
                **dict(zip(by, names)),
                "n": found.n,
                "mean": found.mean,
                "std": found.std,
                "low": found.low,
                "high": found.high,
            }
        )
    return pd.DataFrame(rows)


def paired(
    frame: pd.DataFrame, first: Any, second: Any, measure: str = FINAL, method: str = "t", level: float = 0.95
) -> Estimate:
    """The mean difference, first minus second, over the folds that both have.

    Args:
        frame: as for `summary`.
        first, second: a unit's name, a list of names, or a function that says for a table which rows belong. Several units
            are averaged within each fold that has them all: all in the list, or all that the function finds anywhere.
        measure: a key of `MEASURES`; "final" is what `sharpest` says of the runs of the two.
        method, level: as for `summary`.

    Raises:
        NoRuns: a unit of the two has no run, or they have no fold in common.
        ValueError: a name that is no unit's (with the nearest), or runs that cannot be compared.

    Example:
        >>> frame = select(load(), "cifar10")
        >>> paired(frame, "uniform-mode-static", "uniform-random-static").mean > 0
        True
    """
    for which in (first, second):
        if not callable(which):
            named_units(which, frame)
    measure = resolved(measure, frame[_mask(frame, first) | _mask(frame, second)])
    values = [by_fold(frame, which, measure) for which in (first, second)]
    common = values[0].index.intersection(values[1].index)
    if not len(common):
        raise NoRuns(f"{_in_words(first)} and {_in_words(second)} have no fold in common with all their units.")
    return interval(over_folds(values[0][common] - values[1][common]), method, level)


def by_fold(frame: pd.DataFrame, which: Any, measure: str = FINAL) -> pd.Series:
    """One value for each seed and fold: the mean over the units, where all of them were run.

    Args:
        frame, which, measure: as for `paired`.

    Raises:
        NoRuns: a unit has no run.
        ValueError: as for `paired`.

    Example:
        >>> by_fold(select(load(), "cifar10"), ["float", "ste"]).index.names
        FrozenList(['seed', 'fold'])
    """
    named = [] if callable(which) else named_units(which, frame)
    rows = comparable(frame)[_mask(frame, which)]
    if missing := sorted(set(named) - set(rows["unit"])):
        raise NoRuns(f"there is no run of {missing[0]!r} among these results.")
    if not len(rows):
        raise NoRuns(f"there is no run among these results for {_in_words(which)}.")
    return _means(rows, resolved(measure, rows)).dropna()


def named_units(which: str | Iterable[str], frame: pd.DataFrame) -> list[str]:
    """One unit's name or several as a list: of the design, baselines', or of schedules of one's own among these runs.

    Raises:
        TypeError: not text, or a list with something else in it.
        ValueError: no names, or one that is no unit's (with the nearest).

    Example:
        >>> named_units("uniform-mode-static", load())
        ['uniform-mode-static']
    """
    names = [which] if isinstance(which, str) else list(which) if isinstance(which, Iterable) else [which]
    own = set(frame["unit"])
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"a unit must be given by its name, not {name!r}.")
        if name not in own and name not in design.BASELINES:
            known = [*(unit.name for unit in design.units()), *design.BASELINES]
            if name not in known:
                raise ValueError(
                    f"there is no unit {name!r}, neither in the design nor among these runs"
                    f"{did_you_mean(name, [*known, *sorted(own)])}."
                )
    if not names:
        raise ValueError("there must be at least one unit's name.")
    return names


def _in_words(which: Any) -> str:
    return (which.__doc__ or "what the function finds") if callable(which) else repr(which)


def _means(rows: pd.DataFrame, measure: str) -> pd.Series:
    """The mean over units for each seed and fold that all of them were run on; NaN where a unit lacks the measure."""
    groups = rows.groupby(["seed", "fold"])
    means = groups[measure].mean().where(groups[measure].count() == groups.size())
    return means[groups["unit"].nunique() == rows["unit"].nunique()]


def over_folds(values: pd.Series) -> np.ndarray:
    """What is independent: one value for each fold, the mean over its seeds; on the test set one for each seed.

    Example:
        >>> len(over_folds(by_fold(select(load(), "cifar10"), "float")))
        5
    """
    return values.groupby(level=repeats(values.index.get_level_values("fold"))).mean().to_numpy()


def repeats(folds: Any) -> str:
    """What a unit's runs repeat: "fold"; or "seed" on the test part, which has no folds and therefore -1 for all of them.

    Example:
        >>> repeats([0, 1, 2]), repeats([-1, -1])
        ('fold', 'seed')
    """
    return "seed" if (np.asarray(folds) == -1).all() else "fold"


def picked(frame: pd.DataFrame) -> tuple[str, str]:
    """What validation picks to be measured on the test part: the best unit with static noise, and the best annealed one.

    Best on the held-out folds, by which it was picked, whatever else the runs were measured on since.

    Args:
        frame: as for `summary`; baselines do not compete.

    Raises:
        ValueError: one of the two kinds has no run.

    Example:
        >>> picked(select(load(), "cifar10"))
        ('uniform-mode-static', 'uniform-mode-partition-progressive')
    """
    noisy = frame[frame["noise"].notna()]
    kinds = (noisy[noisy["schedule"] == "static"], noisy[noisy["schedule"] != "static"])
    best = [
        summary(kind, measure="accuracy").sort_values("mean", ascending=False, kind="stable")["unit"].iloc[0]
        for kind in kinds
    ]
    return best[0], best[1]


def _mask(frame: pd.DataFrame, which: Any) -> Any:
    if callable(which):
        return which(frame)
    return frame["unit"].isin([which] if isinstance(which, str) else list(which))


def where(**columns: Any) -> Callable[[pd.DataFrame], Any]:
    """A function for `paired`: the rows whose columns have these values, or one of these in a list.

    Raises:
        ValueError: (of the function) a column that the table lacks; or a name that neither the table nor the design knows.

    Example:
        >>> frame = select(load(), "cifar10")
        >>> int(where(strategy="mode", unit="uniform-mode-static")(frame).sum())
        5
    """

    def chosen(frame: pd.DataFrame) -> Any:
        mask = np.ones(len(frame), bool)
        for name, value in columns.items():
            choice(name, frame.columns, "the column")
            values = list(value) if isinstance(value, (list, tuple, set)) else [value]
            if known := _values(name):
                known += [each for each in frame[name].unique() if isinstance(each, str)]
                for each in values:
                    if isinstance(each, str):
                        choice(each, dict.fromkeys(known), name)
            mask &= frame[name].isin(values).to_numpy()
        return mask

    chosen.__doc__ = ", ".join(f"{name}={value!r}" for name, value in columns.items())
    return chosen


def _values(column: str) -> list[str]:
    """What may stand in a column of names, whether it has been run or not; nothing for other columns."""
    if column in DEGREES or column in ("schedule", "unit"):
        found = [unit.name if column == "unit" else getattr(unit, column) for unit in design.units()]
        return [
            *dict.fromkeys(str(value) for value in found if value is not None),
            *(design.BASELINES if column != "noise" else ()),
        ]
    return {
        "task": list(TASKS),
        "size": list(SIZES),
        "measured_on": list(PARTS),
        "status": ["done", "failed"],
        "kind": list(store.KINDS),
    }.get(column, [])


def curves(frame: pd.DataFrame, quantity: str = "accuracy") -> np.ndarray:
    """The curves of all rows, shape (number of runs, number of epochs).

    Raises:
        ValueError: no runs, runs of different lengths, or a quantity that a run has no curve of.

    Example:
        >>> curves(select(load(), "cifar10").head(3)).shape
        (3, 30)
    """
    if not len(frame):
        raise ValueError("there is no run to take curves from.")
    for row in frame["curves"]:
        choice(quantity, row, "quantity")
    rows = [row[quantity] for row in frame["curves"]]
    if len({len(row) for row in rows}) != 1:
        raise ValueError(f"the runs have different numbers of epochs: {sorted({len(row) for row in rows})}.")
    return np.array(rows)


def select(frame: pd.DataFrame, task: str, size: str = "scaled", measured_on: str = "validation") -> pd.DataFrame:
    """The runs on one data set, by its name in the store, at one size, measured on one part.

    Raises:
        ValueError: there is none; the message says what is recorded, and what a misspelt name was likely meant to be.

    Example:
        >>> sorted(select(load(), "gsc12")["measured_on"].unique())
        ['validation']
    """
    choice(measured_on, PARTS, "measured_on")
    known_tasks = list(dict.fromkeys([*frame["task"].unique(), *TASKS]))
    choice(task, known_tasks, "the data set")
    chosen = frame[(frame["task"] == task) & (frame["size"] == size) & (frame["measured_on"] == measured_on)]
    if not len(chosen):
        known = frame.loc[frame["task"] == task, ["size", "measured_on"]].drop_duplicates().itertuples(index=False)
        there = ", ".join(f"{known_size!r} on {part!r}" for known_size, part in known) or "nothing on this data set"
        sizes = [*SIZES, *sorted(frame["size"].unique())]
        hint = "" if size in sizes else did_you_mean(str(size), sizes)
        raise NoRuns(f"there is no run on {task!r} of size {size!r}{hint} measured on {measured_on!r}; recorded: {there}.")
    return chosen.reset_index(drop=True)
