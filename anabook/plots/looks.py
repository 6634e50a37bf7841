"""How recorded runs look: a colour and a marker for each interval, strategy and law; means, intervals and folds as dots."""

from __future__ import annotations

from typing import Any

import numpy as np

from anabook.experiments import results, tables
from anabook.plots.style import COLOURS, CYCLE, PAPER

INTERVAL_LINES: dict[str, dict[str, Any]] = {
    "partition": {"color": PAPER["yellow"], "marker": "o"},
    "same_start": {"color": PAPER["green"], "marker": "^"},
    "same_end": {"color": PAPER["red"], "marker": "v"},
    "overlapped": {"color": PAPER["blue"], "marker": "s"},
}
"""A colour, the paper's, and a marker for each decay interval."""

POWER_LINES: dict[str, dict[str, Any]] = {
    "homogeneous": {"linestyle": "-"},
    "progressive": {"linestyle": (0, (1.4, 1.2)), "markerfacecolor": "white"},
}
"""Dashes for each power law (progressive is dotted, as in the paper), and whether its markers are hollow."""

STRATEGY_LINES: dict[str, dict[str, Any]] = {
    "expectation": {"color": CYCLE[0], "marker": "o"},
    "random": {"color": CYCLE[1], "marker": "^"},
    "mode": {"color": CYCLE[2], "marker": "s"},
}
"""A colour and a marker for each strategy."""

FAMILY_MARKERS = dict(zip(("uniform", "triangular", "normal", "logistic"), "o^vs"))
"""A marker for each family of noise."""


def look(run: Any) -> dict[str, Any]:
    """A unit's colour and marker: its interval's and its strategy's.

    Example:
        >>> frame = results.select(results.load(), "cifar10")
        >>> look(frame[frame["unit"] == "uniform-mode-static"].iloc[0])
        {'color': '#222222', 'marker': 's'}
    """
    interval = INTERVAL_LINES.get(run["interval"], {"color": COLOURS["quantiser"]})
    return {"color": interval["color"], "marker": STRATEGY_LINES.get(run["strategy"], {"marker": "D"})["marker"]}


def data_line(frame: Any) -> str:
    """Data set with its provenance, size and number of folds, to stand on every figure.

    Example:
        >>> data_line(results.select(results.load(), "cifar10"))
        'cifar10 (differs from the official archive), scaled, 3 to 5 folds'
    """
    return f"{frame['data'].iloc[0]}, {frame['size'].iloc[0]}, {tables.folds_in_words(frame)}"


def dots(ax: Any, frame: Any, shown: list[tuple[float, str]], measure: str, line: dict[str, Any]) -> None:
    """Units at their places: each fold a dot, the mean a marker, a bar for the interval.

    Example:
        >>> import matplotlib.pyplot as plt
        >>> figure, ax = plt.subplots()
        >>> frame = results.select(results.load(), "cifar10")
        >>> dots(ax, frame, [(0, "float")], "accuracy", {"color": "black", "marker": "D"})
    """
    for place, unit in shown:
        values = frame.loc[frame["unit"] == unit, measure].to_numpy()
        if not len(values):
            continue
        ax.plot(100 * values, np.full(len(values), place), ".", color=line["color"], markersize=3, alpha=0.7)
        interval_line(ax, place, results.interval(values), line)
        line = {**line, "label": None}


def interval_line(ax: Any, place: float, effect: Any, line: dict[str, Any]) -> None:
    """A mean as a marker with a bar for its interval, if it has one.

    Example:
        >>> import matplotlib.pyplot as plt
        >>> figure, ax = plt.subplots()
        >>> interval_line(ax, 0, results.interval([0.1, 0.2]), {"color": "black", "marker": "D"})
    """
    if effect.n > 1 and effect.low < effect.high:
        ax.plot([100 * effect.low, 100 * effect.high], [place, place], "-", color=line["color"], linewidth=1.2)
    ax.plot([100 * effect.mean], [place], linestyle="none", markersize=5.5, zorder=3, **line)
