"""What can be compared of a run: numbers between 0 and 1, taken from its record, and how sharp they are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from anabook._validate import choice, integer, real

if TYPE_CHECKING:
    import pandas as pd

FINAL = "final"
"""Asks for the sharpest measure of the trained network that all runs of a table, or of a comparison, have: see `sharpest`."""

MEASURES: dict[str, str] = {
    FINAL: "after the last epoch, without noise: on examples in no fold if all runs have that, else on the fold",
    "accuracy": "after the last epoch, without noise",
    "unused_accuracy": "after the last epoch, without noise, on training examples that are in no fold",
    "early": "mean over the first period, without noise",
    "before_drop": "mean over the last period before the learning rate drops, without noise",
    "drop_gain": "mean over the last period less before_drop: what the lower learning rate brings, without noise",
    "best": "the best epoch's, without noise",
    "noisy_accuracy": "after the last epoch, with what noise is left",
    "train_accuracy": "on the training examples, over the last epoch",
}
"""What can be compared, in shares of 1; on the held-out fold unless it says otherwise."""

COLUMNS = tuple(name for name in MEASURES if name != FINAL)
"""The measures that a run has by itself, which are columns of a table of runs."""


def of_record(record: dict[str, Any]) -> dict[str, float]:
    """All measures of one recorded run; NaN for what it lacks.

    Example:
        >>> found = of_record({"accuracy": 0.5, "curves": {"accuracy": [0.1] * 8 + [0.5] * 2}, "config": {"period": 1}})
        >>> found["accuracy"], found["before_drop"], found["drop_gain"], found["unused_accuracy"]
        (0.5, 0.1, 0.4, nan)
    """
    curves, period = record.get("curves", {}), record["config"]["period"]
    last = {name: curves[name][-1] if curves.get(name) else math.nan for name in ("noisy_accuracy", "train_accuracy")}
    accuracy = np.asarray(curves.get("accuracy", ()), float)
    drop = len(accuracy) - 2 * period  # the learning rate drops two periods before the end
    before = _mean(accuracy[max(0, drop - period) : max(0, drop)])
    return {
        "accuracy": record.get("accuracy", math.nan),
        "unused_accuracy": record.get("unused", {}).get("accuracy", math.nan),
        "early": _mean(accuracy[:period]),
        "before_drop": before,
        "drop_gain": _mean(accuracy[-period:]) - before,
        "best": float(accuracy.max()) if len(accuracy) else math.nan,
        **last,
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan


def sharpest(frame: pd.DataFrame) -> str:
    """The measure of the trained network with the most examples behind it that all runs of a table have.

    Runs that are measured on the official test set are about that set.

    Example:
        >>> import pandas as pd
        >>> sharpest(pd.DataFrame({"measured_on": "validation", "accuracy": [0.5, 0.6], "unused_accuracy": [0.52, 0.58]}))
        'unused_accuracy'
        >>> sharpest(pd.DataFrame({"measured_on": "validation", "accuracy": [0.5, 0.6], "unused_accuracy": [0.52, None]}))
        'accuracy'
    """
    sharp = len(frame) and (frame["measured_on"] == "validation").all() and frame["unused_accuracy"].notna().all()
    return "unused_accuracy" if sharp else "accuracy"


def resolved(measure: str, frame: pd.DataFrame) -> str:
    """A measure's column: `FINAL` is what `sharpest` says of the table.

    Raises:
        ValueError: no measure has this name (with the nearest that there is).

    Example:
        >>> resolved("early", None)
        'early'
    """
    choice(measure, MEASURES, "measure")
    return sharpest(frame) if measure == FINAL else measure


class Behind(NamedTuple):
    """What stands behind the final accuracies of a table of runs.

    Attributes:
        measure: a column, as `sharpest` says.
        low, high: on how many examples the runs were measured, the fewest and the most; 0 where records do not say.
        where: in words.

    Example:
        >>> Behind("accuracy", 1000, 1000, "on the held-out fold").where
        'on the held-out fold'
    """

    measure: str
    low: int
    high: int
    where: str

    def __str__(self) -> str:
        count = f"{self.low:,}" if self.low == self.high else f"{self.low:,} to {self.high:,}"
        return f"{self.measure.replace('_', ' ')}: {self.where}, {count} examples a run"


def behind(frame: pd.DataFrame) -> Behind:
    """Which measure "after training" means for these runs, and on how many examples it was taken.

    Raises:
        ValueError: there is no run.

    Example:
        >>> from anabook.experiments import results
        >>> print(behind(results.select(results.load(), "gsc12")))
        accuracy: on the held-out fold, 977 to 980 examples a run
    """
    if not len(frame):
        raise ValueError("there is no run to summarise.")
    measure = sharpest(frame)
    unused = measure == "unused_accuracy"
    counts = frame["unused_examples" if unused else "examples"]
    part = "unused" if unused else frame["measured_on"].iloc[0]
    where = {
        "unused": "on training examples that are in no fold, the same for all runs",
        "validation": "on the held-out fold",
        "test": "on the official test set",
    }[part]
    return Behind(measure, int(counts.min()), int(counts.max()), where)


def largest_error(first: float, second: float, examples: int) -> float:
    """The standard error that the choice of examples can give a difference of two accuracies on the same examples, at most.

    On one example the two networks differ by -1, 0 or 1. They can be right one without the other on a share of at most
    min(p + q, 2 − p − q) of all examples, and the variance of the difference is that share less (p − q)². How often
    they really are, the recorded accuracies p and q do not tell, so this is a bound; a mean over folds, taken on the
    same examples, obeys it too.

    Args:
        first, second: the two accuracies, between 0 and 1.
        examples: how many.

    Example:
        >>> round(largest_error(0.44, 0.39, 10_000), 4)
        0.0091
    """
    for value in (first, second):
        if not 0 <= real(value, "an accuracy") <= 1:
            raise ValueError(f"an accuracy must lie between 0 and 1, not {value!r}.")
    share = min(first + second, 2 - first - second)
    return math.sqrt(max(0.0, share - (first - second) ** 2) / integer(examples, "examples", minimum=1))
