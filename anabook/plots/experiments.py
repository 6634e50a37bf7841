"""Pictures of recorded experiments: accuracies over epochs and at the end, comparisons of data sets and sizes, claims."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from anabook._validate import choice
from anabook.experiments import claims, design, results, tables
from anabook.plots.style import COLOURS, CYCLE, line_of

INTERVAL_LINES: dict[str, dict[str, Any]] = {
    "partition": {"color": CYCLE[0], "marker": "o"},
    "same_start": {"color": CYCLE[1], "marker": "^"},
    "same_end": {"color": CYCLE[2], "marker": "v"},
    "overlapped": {"color": CYCLE[3], "marker": "s"},
}
"""A colour and a marker for each decay interval."""

POWER_LINES: dict[str, dict[str, Any]] = {
    "homogeneous": {"linestyle": "-"},
    "progressive": {"linestyle": (0, (4, 1.6)), "markerfacecolor": "white"},
}
"""Dashes for each power law, and whether its markers are hollow."""

STRATEGY_LINES: dict[str, dict[str, Any]] = {
    "expectation": {"color": CYCLE[0], "marker": "o"},
    "random": {"color": CYCLE[1], "marker": "^"},
    "mode": {"color": CYCLE[2], "marker": "s"},
}
"""A colour and a marker for each strategy."""

_AXES = {"accuracy": "validation accuracy in %", "noisy_accuracy": "validation accuracy\nwith noise, in %"}
_STATIC_LINE = {"color": COLOURS["quantiser"], "linestyle": (0, (1.2, 1.2))}
_FAMILY_MARKERS = dict(zip(("uniform", "triangular", "normal", "logistic"), "o^vs"))


def static_curves(frame: Any, axes: Any = None) -> Any:
    """Accuracy over epochs with noise that never changes: the mode beside random sampling, one line for each noise.

    A line is the mean over folds, its band goes from the worst fold to the best. The dotted vertical line is where the
    learning rate drops.

    Args:
        frame: runs on one data set and size, of `experiments.results.select`.
        axes: two axes; a new figure by default.

    Returns:
        The figure.

    Example:
        >>> from anabook.experiments import results
        >>> axes = static_curves(results.select(results.load(), "cifar10"))
    """
    frame = _not_empty(frame[frame["schedule"] == "static"], "static noise")
    figure, axes = _panels(axes, 2)
    for ax, strategy in zip(axes, ("mode", "random")):
        for family, marker in _FAMILY_MARKERS.items():
            line = {**line_of(family), "marker": marker, "label": family}
            _curve(ax, frame, _static_unit(family, strategy), line)
        _finish_panel(ax, frame, strategy)
    return _finish_figure(figure, axes, frame)


def strategy_curves(
    frame: Any, noise: str = "uniform", mean: str = "static", axes: Any = None, quantity: str = "accuracy"
) -> Any:
    """Accuracy over epochs while the noise fades: a panel for each strategy, a line for each schedule.

    The interval is told by colour and marker, the power law by dashes and by the marker's filling. The black dotted curve
    is the same strategy without annealing, on the folds of the schedules; under expectation, which has none, it is the
    mode's. Bands and the vertical line are those of `static_curves`.

    Args:
        frame: as for `static_curves`.
        noise: which family.
        mean: "static" or "dynamic".
        axes: three axes; a new figure by default.
        quantity: "accuracy", without noise, or "noisy_accuracy", with the epoch's. To take away noise with a mean moves the
            thresholds, so what is measured without it is not the network that is being trained.

    Returns:
        The figure.

    Example:
        >>> from anabook.experiments import results
        >>> axes = strategy_curves(results.select(results.load(), "cifar10"))
    """
    choice(quantity, _AXES, "quantity")
    choice(noise, _FAMILY_MARKERS, "noise")
    choice(mean, ("static", "dynamic"), "mean")
    annealed = _not_empty(
        frame[(frame["noise"] == noise) & (frame["mean"] == mean) & (frame["std"] == "dynamic")],
        f"annealed {noise} noise and a {mean} mean",
    )
    figure, axes = _panels(axes, 3)
    same_folds = frame[frame["fold"].isin(annealed["fold"])]
    for ax, strategy in zip(axes, STRATEGY_LINES):
        reference = "mode" if strategy == "expectation" else strategy
        _curve(ax, same_folds, _static_unit(noise, reference), {**_STATIC_LINE, "label": "static noise"}, quantity)
        _annealed_lines(ax, frame, noise, strategy, mean, quantity)
        _finish_panel(ax, frame, strategy)
    return _finish_figure(figure, axes, annealed, quantity)


def noise_curves(frame: Any, strategy: str = "expectation", axes: Any = None) -> Any:
    """Accuracy over epochs while the noise fades, for one strategy: a panel for each noise, lines as in `strategy_curves`.

    Args:
        frame: as for `static_curves`.
        strategy: which one.
        axes: four axes; a new figure by default.

    Returns:
        The figure.

    Example:
        >>> from anabook.experiments import results
        >>> axes = noise_curves(results.select(results.load(), "cifar10"))
    """
    choice(strategy, STRATEGY_LINES, "strategy")
    chosen = (frame["strategy"] == strategy) & (frame["mean"] == "static") & (frame["std"] == "dynamic")
    frame = _not_empty(frame[chosen], f"annealed noise, the strategy {strategy} and a static mean")
    figure, axes = _panels(axes, 4)
    for ax, family in zip(axes, _FAMILY_MARKERS):
        _annealed_lines(ax, frame, family, strategy, "static")
        _finish_panel(ax, frame, f"{family} noise")
    return _finish_figure(figure, axes, frame)


def final_accuracies(frame: Any, noise: str = "uniform", measure: str = "accuracy", ax: Any = None) -> Any:
    """Accuracy at the end for each schedule and strategy, and for the baselines: mean, 95 % interval, each fold as a dot.

    Args:
        frame: as for `static_curves`; units with a static mean are shown.
        noise: which family.
        measure: a key of `experiments.results.MEASURES`.
        ax: an axes; a new figure by default.

    Returns:
        The figure.

    Example:
        >>> from anabook.experiments import results
        >>> ax = final_accuracies(results.select(results.load(), "cifar10"))
    """
    choice(noise, _FAMILY_MARKERS, "noise")
    choice(measure, results.MEASURES, "measure")
    units = {strategy: _units_by_schedule(noise, strategy) for strategy in STRATEGY_LINES}
    rows = {name: i for i, name in enumerate([*units["mode"], *design.BASELINES])}
    drawn = {name for names in units.values() for name in names.values()} | set(design.BASELINES)
    frame = _not_empty(frame[frame["unit"].isin(drawn)], f"{noise} noise and a static mean, and no baseline")
    ax = plt.subplots(figsize=(7.2, 5.4))[1] if ax is None else ax
    for place, (strategy, line) in enumerate(STRATEGY_LINES.items()):
        shown = [(rows[schedule] + 0.24 * (place - 1), unit) for schedule, unit in units[strategy].items()]
        _dots(ax, frame, shown, measure, {**line, "label": strategy})
    _dots(
        ax,
        frame,
        [(rows[name], name) for name in design.BASELINES],
        measure,
        {"color": COLOURS["quantiser"], "marker": "D", "label": "baselines"},
    )
    ax.set_yticks(
        range(len(rows)),
        [
            name.replace("-homogeneous", ", homogeneous").replace("-progressive", ", progressive").replace("-", " ")
            for name in rows
        ],
    )
    ax.set(xlabel="accuracy in %", ylim=(len(rows) - 0.4, -0.6))
    values = 100 * frame[measure]
    ax.set_xlim(max(0, values.min() - 8), min(100, values.max() + 8))  # two folds may have an interval wider than the axis
    ax.set_title(_data_line(frame), fontsize=10)
    ax.figure.legend(loc="outside lower center", ncols=4, fontsize="small")
    return ax.figure


def order(first: Any, second: Any, noise: str = "uniform", measure: str = "accuracy", ax: Any = None) -> Any:
    """Each unit's accuracy on one data set against its accuracy on another: does the order carry over?

    One marker for each strategy, means over folds; noise that never changes has hollow markers.

    Args:
        first, second: as for `static_curves`, each of its own data set; units with a static mean that both have are shown.
        noise: which family.
        measure: a key of `experiments.results.MEASURES`.
        ax: an axes; a new figure by default.

    Returns:
        The figure.

    Raises:
        ValueError: the two have no such unit in common.

    Example:
        >>> from anabook.experiments import results
        >>> runs = results.load()
        >>> ax = order(results.select(runs, "cifar10"), results.select(runs, "gsc12"))
    """
    choice(noise, _FAMILY_MARKERS, "noise")
    choice(measure, results.MEASURES, "measure")
    ax = plt.subplots(figsize=(6.4, 4.8))[1] if ax is None else ax
    chosen = [frame[(frame["noise"] == noise) & (frame["mean"] == "static")] for frame in (first, second)]
    common = set(chosen[0]["unit"]) & set(chosen[1]["unit"])
    if not common:
        raise ValueError(f"the two have no unit with {noise} noise and a static mean in common.")
    means = (results.summary(frame[frame["unit"].isin(common)], measure=measure) for frame in chosen)
    x, y = (100 * each.set_index("unit")["mean"] for each in means)
    for strategy, line in STRATEGY_LINES.items():
        runs = chosen[0][(chosen[0]["strategy"] == strategy) & chosen[0]["unit"].isin(common)]
        hollow = {"label": f"{strategy}, static noise", "markerfacecolor": "white"}
        for static, extra in ((False, {"label": strategy}), (True, hollow)):
            shown = sorted(set(runs.loc[(runs["schedule"] == "static") == static, "unit"]))
            if shown:
                ax.plot(x[shown], y[shown], linestyle="none", markersize=6, **{**line, **extra})
    x_line, y_line = (_data_line(frame[frame["unit"].isin(common)]) for frame in (first, second))
    ax.set(xlabel=f"{x_line}:\naccuracy in %", ylabel=f"{y_line}:\naccuracy in %")
    ax.figure.legend(loc="outside lower center", ncols=3, fontsize="small")
    return ax.figure


def size_curves(frame: Any, titles: dict[str, str] | None = None, axes: Any = None) -> Any:
    """The same units at different sizes: accuracy over time, a panel for each size.

    Time is counted in periods, so that runs of different lengths can be compared. Lines, bands and the vertical line are
    those of `static_curves`.

    Args:
        frame: runs on one data set at several sizes; the units that all sizes have are shown, measured by cross-validation.
        titles: of the panels, by the size's name, in the order of the panels; the names themselves by default.
        axes: as many axes as sizes; a new figure by default.

    Returns:
        The figure.

    Raises:
        ValueError: fewer than two sizes, or no unit that all have.

    Example:
        >>> from anabook.experiments import results
        >>> frame = results.load()
        >>> axes = size_curves(frame[frame["task"] == "cifar10"])
    """
    frame = frame[frame["measured_on"] == "validation"]
    titles = titles or {size: size for size in frame["size"].unique()}
    parts = {size: results.comparable(frame[frame["size"] == size]) for size in titles}
    common = set.intersection(*(set(part["unit"]) for part in parts.values()))
    if len(parts) < 2 or not common:
        raise ValueError("there must be runs of the same units at two sizes or more.")
    if axes is None:
        figure, axes = plt.subplots(1, len(parts), figsize=(8.4, 4.4), sharey=True)
    figure = axes[0].figure
    units = [unit for unit in frame["unit"].unique() if unit in common]
    for ax, (size, part) in zip(axes, parts.items()):
        for unit, colour, marker in zip(units, CYCLE, "os^vDP*"):
            values = 100 * results.curves(part[part["unit"] == unit])
            epochs = np.arange(1, values.shape[1] + 1) / part["period"].iloc[0]
            ax.plot(
                epochs,
                values.mean(0),
                color=colour,
                marker=marker,
                markersize=4,
                linewidth=1.4,
                label=unit.replace("-", " "),
                markevery=(len(ax.lines) % 4, max(1, len(epochs) // 7)),
            )
            if len(values) > 1:
                ax.fill_between(epochs, values.min(0), values.max(0), color=colour, alpha=0.12, linewidth=0)
        ax.axvline(part["epochs"].iloc[0] / part["period"].iloc[0] - 2, color=COLOURS["grey"], linestyle=":", linewidth=1.2)
        ax.set_title(f"{titles[size]}\n{tables.folds_in_words(part[part['unit'].isin(units)])}", fontsize=9)
        ax.set_xlabel("periods")
    axes[0].set_ylabel("validation accuracy in %")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize="small")
    figure.suptitle(str(frame["data"].iloc[0]), fontsize=10)
    return figure


VERDICT_MARKERS: dict[str, dict[str, Any]] = {
    "supported": {"color": CYCLE[0], "marker": "o"},
    "contradicted": {"color": CYCLE[1], "marker": "X"},
    "undecided": {"color": COLOURS["grey"], "marker": "o", "markerfacecolor": "white"},
}
"""A colour and a marker for each verdict."""


def effects(verdicts: Iterable[Any], ax: Any = None) -> Any:
    """The differences that decide claims, with 95 % intervals; what a claim asks for is shaded.

    Args:
        verdicts: of `experiments.claims.judge_all`.
        ax: an axes; a new figure by default.

    Returns:
        The figure.

    Example:
        >>> from anabook.experiments import claims, results
        >>> ax = effects(claims.judge_all(results.load(), "cifar10"))
    """
    verdicts = list(verdicts)
    rows = [(verdict.claim, finding) for verdict in verdicts for finding in verdict.findings if finding.effect is not None]
    if not rows:
        raise ValueError("there is no difference to draw: no claim has the runs that it needs.")
    ax = plt.subplots(figsize=(7.6, 0.27 * len(rows) + 1.4))[1] if ax is None else ax
    reach = 1.15 * max(abs(100 * f.effect.mean) for _, f in rows)
    seen: set[str] = set()
    for row, (claim, finding) in enumerate(rows):
        low, high = {"above": (0, reach), "by": (claim.margin, reach), "level": (-claim.margin, claim.margin)}[claim.kind]
        scale = (1 if claim.kind == "above" else 100, 1 if claim.kind != "level" else 100)
        ax.barh(row, high * scale[1] - low * scale[0], left=low * scale[0], height=0.96, color="#dcefe3", zorder=0)
        label = None if finding.verdict in seen else finding.verdict
        seen.add(finding.verdict)
        _interval(ax, row, finding.effect, {**VERDICT_MARKERS[finding.verdict], "label": label})
    ax.axvline(0, color=COLOURS["grey"], linewidth=0.8)
    ax.set_yticks(range(len(rows)), [finding.contrast.name for _, finding in rows], fontsize=8)
    ax.set(xlabel="difference in percentage points", ylim=(len(rows) - 0.4, -0.6), xlim=(-reach, reach))
    most = max(finding.effect.n for _, finding in rows)
    ax.set_title(f"{verdicts[0].data}, {verdicts[0].size}, up to {most} fold" + "s" * (most > 1), fontsize=10)
    ax.figure.legend(loc="outside lower center", ncols=3, fontsize="small")
    return ax.figure


def _claims(frame: Any) -> Any:
    return effects(claims.judge_all(frame, frame["task"].iloc[0], frame["size"].iloc[0]))


EXPERIMENT_FIGURES: dict[str, Any] = {
    "static": static_curves,
    "strategies": strategy_curves,
    "noises": noise_curves,
    "dynamic-mean": lambda frame: strategy_curves(frame, mean="dynamic", quantity="noisy_accuracy"),
    "final": final_accuracies,
    "claims": _claims,
}
"""The figures of recorded runs by name, each a function of the runs on one data set."""


def _not_empty(frame: Any, what: str) -> Any:
    """The runs, unless there are none."""
    if not len(frame):
        raise ValueError(f"there is no run with {what} to draw.")
    return frame


def _static_unit(noise: str, strategy: str) -> str:
    """The name of the unit whose noise never changes."""
    return design.Unit(noise, strategy, design.Mean.STATIC, design.Std.STATIC).name


def _units_by_schedule(noise: str, strategy: str) -> dict[str, str]:
    """The units with a static mean by the names of their schedules: first static noise, then the annealed ones."""
    annealed = (
        design.Unit(noise, strategy, interval=interval, power_law=law) for interval in INTERVAL_LINES for law in POWER_LINES
    )
    return {"static": _static_unit(noise, strategy), **{unit.schedule: unit.name for unit in annealed}}


def _panels(axes: Any, n: int) -> tuple[Any, np.ndarray]:
    if axes is not None:
        axes = np.ravel(axes)
        return axes[0].figure, axes
    rows = 1 if n == 2 else 2
    figure, grid = plt.subplots(rows, 2, figsize=(8.4, 3.5 * rows + 0.5), sharex=True, sharey=True)
    for ax in grid.ravel()[n:]:
        ax.set_axis_off()
    return figure, grid.ravel()[:n]


def _curve(ax: Any, frame: Any, unit: str, line: dict[str, Any], quantity: str = "accuracy") -> None:
    runs = frame[frame["unit"] == unit]
    if not len(runs):
        return
    values = 100 * results.curves(runs, quantity)
    epochs = np.arange(1, values.shape[1] + 1)
    # Markers of different lines stand at different epochs, or they would hide each other.
    every = (len(ax.lines) % 4, max(1, len(epochs) // 7))
    style = {"linewidth": 1.4, "markersize": 4, "markevery": every, **line}
    ax.plot(epochs, values.mean(0), **style)
    if len(values) > 1:
        ax.fill_between(epochs, values.min(0), values.max(0), color=line["color"], alpha=0.12, linewidth=0)


def _annealed_lines(ax: Any, frame: Any, noise: str, strategy: str, mean: str, quantity: str = "accuracy") -> None:
    for interval, line in INTERVAL_LINES.items():
        for law, dashes in POWER_LINES.items():
            unit = design.Unit(noise, strategy, mean, design.Std.DYNAMIC, interval, law)
            _curve(ax, frame, unit.name, {**line, **dashes, "label": f"{interval.replace('_', ' ')}, {law}"}, quantity)


def _finish_panel(ax: Any, frame: Any, title: str) -> None:
    period, epochs = (int(frame[name].iloc[0]) for name in ("period", "epochs"))
    ax.axvline(epochs - 2 * period, color=COLOURS["grey"], linestyle=":", linewidth=1.2)
    ax.set_title(title)


def _finish_figure(figure: Any, axes: np.ndarray, frame: Any, quantity: str = "accuracy") -> Any:
    for ax in axes:
        ax.set_xlabel("epoch")
        ax.tick_params(labelbottom=True)
    for ax in axes[::2]:
        ax.set_ylabel(_AXES[quantity])
    drop = axes[0].lines[-1].get_xdata()[0]
    axes[0].annotate(
        "learning rate ÷ 10 →",
        (drop, 0.03),
        (-2, 0),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color="#444444",
    )
    drawn = {label: line for ax in axes for line, label in zip(*ax.get_legend_handles_labels())}
    if len(axes) == 3:
        figure.legend(drawn.values(), drawn, loc="center", bbox_to_anchor=(0.76, 0.24), fontsize="small")
    else:
        figure.legend(drawn.values(), drawn, loc="outside lower center", ncols=4 if len(drawn) == 4 else 3, fontsize="small")
    figure.suptitle(_data_line(frame), fontsize=10)
    return figure


def _data_line(frame: Any) -> str:
    """Data set with its provenance, size and number of folds, to stand on every figure."""
    return f"{frame['data'].iloc[0]}, {frame['size'].iloc[0]}, {tables.folds_in_words(frame)}"


def _dots(ax: Any, frame: Any, shown: list[tuple[float, str]], measure: str, line: dict[str, Any]) -> None:
    for place, unit in shown:
        values = frame.loc[frame["unit"] == unit, measure].to_numpy()
        if not len(values):
            continue
        ax.plot(100 * values, np.full(len(values), place), ".", color=line["color"], markersize=3, alpha=0.7)
        _interval(ax, place, results.interval(values), line)
        line = {**line, "label": None}


def _interval(ax: Any, place: float, effect: Any, line: dict[str, Any]) -> None:
    if effect.n > 1:
        ax.plot([100 * effect.low, 100 * effect.high], [place, place], "-", color=line["color"], linewidth=1.2)
    ax.plot([100 * effect.mean], [place], linestyle="none", markersize=5.5, zorder=3, **line)
