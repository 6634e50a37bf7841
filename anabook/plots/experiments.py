"""Pictures of recorded experiments on one data set: accuracies over epochs and at the end."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from anabook._validate import choice
from anabook.experiments import claims, design, results
from anabook.experiments.measures import resolved
from anabook.plots.comparisons import effects
from anabook.plots.looks import FAMILY_MARKERS, INTERVAL_LINES, POWER_LINES, STRATEGY_LINES, data_line, dots
from anabook.plots.style import COLOURS, line_of

_AXES = {"accuracy": "validation accuracy in %", "noisy_accuracy": "validation accuracy\nwith noise, in %"}
_STATIC_LINE = {"color": COLOURS["quantiser"], "linestyle": (0, (7, 2))}
_MEASURE_WORDS = {"accuracy": "accuracy", "unused_accuracy": "accuracy on images in no fold"}


def static_curves(frame: Any, axes: Any = None) -> Any:
    """Accuracy over epochs with noise that never changes: random sampling beside the mode, one line for each noise.

    Panels and colours are in the order of the paper's figures 1, 4 and 6.

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
    for ax, strategy in zip(axes, ("random", "mode")):
        for family, marker in FAMILY_MARKERS.items():
            line = {**line_of(family), "marker": marker, "label": family}
            _curve(ax, frame, _static_unit(family, strategy), line)
        _finish_panel(ax, frame, strategy)
    return _finish_figure(figure, axes, frame)


def strategy_curves(
    frame: Any, noise: str = "uniform", mean: str = "static", axes: Any = None, quantity: str = "accuracy"
) -> Any:
    """Accuracy over epochs while the noise fades: a panel for each strategy, a line for each schedule.

    The interval is told by colour and marker, the power law by dots and by the marker's filling; colours and the order of
    the panels are those of the paper's figures 3, 5 and 7. The black dashed curve is the same strategy without annealing,
    on the folds of the schedules; under expectation, which has none, it is the mode's. Bands and the vertical line are
    those of `static_curves`.

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
    choice(noise, FAMILY_MARKERS, "noise")
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

    The order of the panels is that of the paper's figure 2.

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
    for ax, family in zip(axes, FAMILY_MARKERS):
        _annealed_lines(ax, frame, family, strategy, "static")
        _finish_panel(ax, frame, f"{family} noise")
    return _finish_figure(figure, axes, frame)


def final_accuracies(frame: Any, noise: str = "uniform", measure: str = results.FINAL, ax: Any = None) -> Any:
    """Accuracy at the end for each schedule and strategy, and for the baselines: mean, 95 % interval, each fold as a dot.

    Args:
        frame: as for `static_curves`; units with a static mean are shown.
        noise: which family.
        measure: a key of `experiments.results.MEASURES`; the sharpest that all runs shown have by default. The axis names it.
        ax: an axes; a new figure by default.

    Returns:
        The figure.

    Example:
        >>> from anabook.experiments import results
        >>> ax = final_accuracies(results.select(results.load(), "cifar10"))
    """
    choice(noise, FAMILY_MARKERS, "noise")
    units = {strategy: _units_by_schedule(noise, strategy) for strategy in STRATEGY_LINES}
    rows = {name: i for i, name in enumerate([*units["mode"], *design.BASELINES])}
    drawn = {name for names in units.values() for name in names.values()} | set(design.BASELINES)
    frame = _not_empty(frame[frame["unit"].isin(drawn)], f"{noise} noise and a static mean, and no baseline")
    measure = resolved(measure, frame)
    ax = plt.subplots(figsize=(7.2, 5.4))[1] if ax is None else ax
    for place, (strategy, line) in enumerate(STRATEGY_LINES.items()):
        shown = [(rows[schedule] + 0.24 * (place - 1), unit) for schedule, unit in units[strategy].items()]
        dots(ax, frame, shown, measure, {**line, "label": strategy})
    dots(
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
    ax.set(xlabel=f"{_MEASURE_WORDS.get(measure, measure.replace('_', ' '))} in %", ylim=(len(rows) - 0.4, -0.6))
    values = 100 * frame[measure]
    ax.set_xlim(max(0, values.min() - 8), min(100, values.max() + 8))  # two folds may have an interval wider than the axis
    ax.set_title(data_line(frame), fontsize=10)
    ax.figure.legend(loc="outside lower center", ncols=4, fontsize="small")
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
    figure.suptitle(data_line(frame), fontsize=10)
    return figure
