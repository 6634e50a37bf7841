"""The picture of the comparison of estimators: a panel for each table, a row for each estimator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import matplotlib.pyplot as plt

from anabook.experiments.estimators import LABELS, TABLES, entries
from anabook.plots.looks import interval_line
from anabook.plots.style import COLOURS, CYCLE

_GROUPS = {"float": COLOURS["grey"], "static": CYCLE[0], "partition-mode": CYCLE[1], "partition-expectation": CYCLE[1]}


def estimator_accuracies(records: Iterable[Mapping[str, Any]], tables: Iterable[tuple[str, str, str]] | None = None) -> Any:
    """Accuracy of each estimator after training: each fold a dot, the mean a marker, a bar for the 95 % interval.

    Blue is the clipped identity, the second colour what is annealed, grey the network in float; what has no run at its rate
    yet has an empty row.

    Args:
        records: lines of the study "comparison".
        tables: keys of `experiments.estimators.TABLES`; by default those that have a run of a quantised network at its rate.

    Returns:
        The figure.

    Raises:
        ValueError: there is nothing to show.

    Example:
        >>> from anabook.experiments.estimators import lines
        >>> figure = estimator_accuracies(lines(), [("cifar10", "ternary", "scratch")])
        >>> figure.axes[0].get_xlabel()
        'accuracy in %'
    """
    records = list(records)
    found = {key: entries(records, *key) for key in (TABLES if tables is None else tables)}
    if tables is None:
        found = {key: each for key, each in found.items() if any(e.folds and e.method != "float" for e in each)}
    if not found:
        raise ValueError("there is no table to show: no estimator has a run at its chosen learning rate.")
    rows = {method: row for row, method in enumerate(LABELS)}
    columns = min(2, len(found))
    lines = -(-len(found) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(1.8 + 3.7 * columns, 0.5 + 3.2 * lines), sharey=True, squeeze=False)
    for ax in axes.flat[len(found) :]:
        ax.set_visible(False)
    for ax, (key, each) in zip(axes.flat, found.items()):
        for entry in each:
            if entry.folds:
                row, colour = rows[entry.method], _GROUPS.get(entry.method, "black")
                values = [100 * accuracy for accuracy in entry.folds.values()]
                ax.plot(values, [row] * len(values), ".", color=colour, alpha=0.4, markersize=5)
                marker = "D" if entry.method == "float" else "o"
                interval_line(ax, row, entry.estimate, {"color": colour, "marker": marker})
        ax.set_title(TABLES[key], fontsize=9)
        ax.set(xlabel="accuracy in %", ylim=(len(LABELS) - 0.4, -0.6))
        ax.grid(axis="x", linewidth=0.4, alpha=0.5)
    axes[0][0].set_yticks(range(len(LABELS)), list(LABELS.values()), fontsize=8)
    return figure
