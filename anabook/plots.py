"""Pictures: one style for the whole book, and the few drawings that chapters share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from anabook._validate import choice, integer, real
from anabook.noise import Noise
from anabook.quantisers import Quantiser
from anabook.regularisation import Regularisation
from anabook.schedules import Schedule
from anabook.variants import Variant

COLOURS: dict[str, str] = {
    "uniform": "#0072b2",
    "triangular": "#d55e00",
    "normal": "#00795c",
    "logistic": "#a3457f",
    "quantiser": "#222222",
    "grey": "#6e6e6e",
}
"""A colour for each noise family and for the quantiser (dark shades of Okabe and Ito's colour-blind-safe set)."""

DASHES: dict[str, Any] = {
    "uniform": "-",
    "triangular": (0, (6, 2)),
    "normal": (0, (1.5, 1.5)),
    "logistic": (0, (6, 2, 1.5, 2)),
    "quantiser": "-",
}
"""A line style for each noise family, so that no picture depends on colour."""

CYCLE = ["#0072b2", "#d55e00", "#00795c", "#a3457f", "#7a6000", "#3d85b8", "#222222"]


def use_style() -> None:
    """Set matplotlib's defaults to the book's style: white ground, quiet axes, readable on a phone."""
    plt.rcParams.update(
        {
            "figure.figsize": (6.4, 3.6),
            "figure.dpi": 110,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "savefig.facecolor": "white",
            "font.size": 11,
            "axes.titlesize": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#e4e4e4",
            "grid.linewidth": 0.8,
            "lines.linewidth": 2.0,
            "legend.frameon": False,
            "axes.prop_cycle": plt.cycler(color=CYCLE),
        }
    )


def line_of(family: str) -> dict[str, Any]:
    """Colour and dashes of a noise family, as keyword arguments of `Axes.plot`."""
    return {"color": COLOURS[family], "linestyle": DASHES[family]}


def staircase(quantiser: Quantiser, x: Any, ax: Any = None, **line: Any) -> Any:
    """Draw a quantiser over the range of `x` as it is: flat treads, open and closed ends, no false risers.

    Args:
        quantiser: what to draw.
        x: positions; only the smallest and largest matter.
        ax: matplotlib axes; the current ones by default.
        **line: passed on to `Axes.plot`.

    Returns:
        The axes.
    """
    ax = plt.gca() if ax is None else ax
    line = {"color": COLOURS["quantiser"], **line}
    label = line.pop("label", None)
    low, high = float(np.min(x)), float(np.max(x))
    for (left, right), level in zip(quantiser.bins, quantiser.levels):
        if right <= low or left > high:
            continue
        ax.plot([max(left, low), min(right, high)], [level, level], label=label, solid_capstyle="butt", **line)
        label = None
    inside = (quantiser.thresholds >= low) & (quantiser.thresholds <= high)
    if inside.sum() <= 12:
        marker = {"linestyle": "none", "marker": "o", "markersize": 5, "color": line["color"], "zorder": 3}
        ax.plot(quantiser.thresholds[inside], quantiser.levels[1:][inside], **marker)
        ax.plot(quantiser.thresholds[inside], quantiser.levels[:-1][inside], markerfacecolor="white", **marker)
    return ax


def regularisations(
    quantiser: Quantiser, noises: Iterable[Noise], x: Any, axes: Any = None, derivative: bool = True
) -> Any:
    """Draw a quantiser with its regularisations by several noises and, beside it, their derivatives.

    Args:
        quantiser: the stair function.
        noises: one curve each; families are told apart by colour and dashes.
        x: positions of shape (n,).
        axes: two axes (one without `derivative`); a new figure by default.
        derivative: whether to draw the derivatives.

    Returns:
        The axes.
    """
    if axes is None:
        _, axes = plt.subplots(1, 1 + derivative, figsize=(8.4, 3.4) if derivative else None, squeeze=False)
        axes = axes[0]
    axes = np.atleast_1d(axes)
    staircase(quantiser, x, axes[0], linewidth=1.2, label="quantiser")
    for noise in noises:
        regularisation = Regularisation(quantiser, noise)
        axes[0].plot(x, regularisation(x), label=noise.family, **line_of(noise.family))
        if derivative:
            axes[1].plot(x, regularisation.derivative(x), label=noise.family, **line_of(noise.family))
    axes[0].set(xlabel="$x$", ylabel="expectation")
    axes[0].legend()
    if derivative:
        axes[1].set(xlabel="$x$", ylabel="derivative")
    return axes


def grid(low: float, high: float, n: int = 801) -> np.ndarray:
    """`n` evenly spaced positions from `low` to `high`, both included."""
    low = real(low, "low")
    return np.linspace(low, real(high, "high", above=low), integer(n, "n", minimum=2))


def schedule(schedule: Schedule, times: Any = None, axes: Any = None) -> Any:
    """Draw every layer's mean and standard deviation against time, layers told apart by colour and by dashes.

    Args:
        schedule: what to draw.
        times: increasing times of shape (n,); by default from a little before the first interval to a little after
            the last one. A schedule made from a callable needs them.
        axes: two axes, for the means and for the standard deviations; a new figure by default.

    Returns:
        The two axes.
    """
    if times is None:
        first, last = min(start for start, _ in schedule.intervals), max(end for _, end in schedule.intervals)
        times = np.linspace(first - 0.03 * (last - first), last + 0.03 * (last - first), 601)
    if axes is None:
        _, axes = plt.subplots(1, 2, figsize=(8.4, 3.4))
    styles = [DASHES[family] for family in ("uniform", "triangular", "normal", "logistic")]
    for ax, values, name in zip(axes, schedule.values(times), (r"mean $\alpha$", r"standard deviation $\beta$")):
        for layer, curve in enumerate(values.T):
            line = {"color": CYCLE[layer % len(CYCLE)], "linestyle": styles[layer % len(styles)]}
            ax.plot(times, curve, label=f"layer {layer}", **line)
        ax.set(xlabel="time $t$", ylabel=name)
    axes[1].legend(fontsize="small")
    return axes


def zoo(variants: Iterable[Variant], columns: int = 4) -> Any:
    """Small multiples of straight-through estimators: quantiser, surrogate and gradient of each in a panel.

    The surrogate is drawn to scale with the quantiser. The gradient is a shaded area scaled to the panel's height;
    its largest value is written beside it.

    Args:
        variants: what to draw, one panel each, in reading order.
        columns: panels in a row.

    Returns:
        The figure.
    """
    variants = list(variants)
    rows = -(-len(variants) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.35 * columns, 1.95 * rows), squeeze=False)
    for ax in axes.ravel()[len(variants):]:
        ax.set_axis_off()
    for ax, variant in zip(axes.ravel(), variants):
        x = np.linspace(*variant.window, 1001)
        low, high = variant.quantiser.levels[[0, -1]]
        gradient = variant.gradient(x)
        peak = float(np.abs(gradient).max())
        floor = low if gradient.min() >= 0 else (low + high) / 2
        ax.fill_between(x, floor, floor + (high - floor) * gradient / peak, color="#9ecae9", linewidth=0)
        staircase(variant.quantiser, x, ax, linewidth=1.0)
        ax.plot(x, variant.surrogate(x), color=CYCLE[1], linestyle="-", linewidth=1.8)
        margin = 0.35 * (high - low)
        ax.set(xlim=variant.window, ylim=(low - margin, high + margin))
        ax.set_title(variant.name.replace("_", " "), fontsize=9)
        ax.text(0.03, 0.94, f"peak {peak:.3g}", transform=ax.transAxes, fontsize=7.5, verticalalignment="top")
        ax.tick_params(labelsize=7)
        ax.locator_params(nbins=4)
        ax.grid(False)
    return figure


def sheet(inputs: Any, labels: Any, classes: Iterable[str], per_class: int = 8) -> Any:
    """A sheet of pictures, one class in a row, its name beside it.

    Args:
        inputs: shape (n, channels, height, width) with one or three channels, or (n, height, width); bytes, or floats in [0, 1].
        labels: shape (n,).
        classes: the classes' names, in the order of their labels.
        per_class: pictures in a row; the first ones of each class are shown.

    Returns:
        The figure.
    """
    classes, labels = list(classes), np.asarray(labels)
    per_class = integer(per_class, "per_class", minimum=1)
    figure, axes = plt.subplots(len(classes), 1, figsize=(0.72 * per_class + 1.4, 0.72 * len(classes)), squeeze=False)
    for label, (ax, name) in enumerate(zip(axes[:, 0], classes)):
        rows = np.flatnonzero(labels == label)[:per_class]
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        ax.grid(False)
        ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        if len(rows):
            ax.imshow(_strip(np.asarray(inputs[rows]), per_class), cmap="gray_r", vmin=0, interpolation="nearest")
    return figure


def _strip(pictures: np.ndarray, n: int) -> np.ndarray:
    """Pictures side by side with a white line between them, padded to `n`."""
    if pictures.ndim == 3:
        pictures = pictures[:, np.newaxis]
    # Pictures with one channel count ink: their white is 0.
    white = 0 if pictures.shape[1] == 1 else 255 if pictures.dtype == np.uint8 else 1.0
    framed = np.pad(pictures, ((0, n - len(pictures)), (0, 0), (0, 0), (0, 2)), constant_values=white)
    strip = framed.transpose(2, 0, 3, 1).reshape(framed.shape[2], -1, framed.shape[1])
    return strip if strip.shape[2] == 3 else strip[..., 0]


def clip(samples: Any, features: Any, mel: Any, rate: int = 16_000) -> Any:
    """A clip three times over: its waveform, its mel spectrogram and the features that the network sees.

    Args:
        samples: shape (n,), amplitudes in [−1, 1].
        features: shape (49, 10), bytes.
        mel: log mel spectrogram, shape (filters, frames).
        rate: samples a second.

    Returns:
        The figure.
    """
    figure, axes = plt.subplots(1, 3, figsize=(9.2, 2.8))
    seconds = np.arange(len(samples)) / rate
    axes[0].plot(seconds, samples, linewidth=0.5, color=CYCLE[0])
    axes[0].set(title="waveform", xlabel="time in s", ylabel="amplitude")
    end = len(samples) / rate
    axes[1].imshow(mel, origin="lower", aspect="auto", extent=(0, end, 0, len(mel)), cmap="viridis")
    axes[1].set(title="log mel spectrogram", xlabel="time in s", ylabel="filter")
    # The first coefficient is the loudness and would leave the others without contrast.
    image = axes[2].imshow(np.asarray(features).T[1:], origin="lower", aspect="auto", extent=(0, end, 0.5, 9.5), cmap="viridis")
    axes[2].set(title="coefficients 1 to 9, as bytes", xlabel="time in s", ylabel="coefficient")
    figure.colorbar(image, ax=axes[2])
    for ax in axes[1:]:
        ax.grid(False)
    return figure


def class_counts(counts: dict[str, dict[str, int]]) -> Any:
    """Bars of how many examples each class has, one colour and hatch for each part.

    Args:
        counts: part → class → number, as `Dataset.counts` gives them.

    Returns:
        The axes.
    """
    _, ax = plt.subplots()
    left = np.zeros(len(next(iter(counts.values()))))
    for (part, numbers), colour, hatch in zip(counts.items(), CYCLE, ("", "//", "..")):
        ax.barh(list(numbers), list(numbers.values()), left=left, color=colour, edgecolor="white", hatch=hatch, label=part)
        left = left + np.array(list(numbers.values()))
    ax.invert_yaxis()
    ax.set(xlabel="examples")
    ax.grid(axis="y", visible=False)
    if len(counts) > 1:
        ax.legend()
    return ax


# Recorded experiments -------------------------------------------------------------------------------------------------

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

    A line is the mean over folds, its band goes from the worst fold to the best. The dotted vertical line is where the learning
    rate drops.

    Args:
        frame: runs on one data set and size, of `experiments.results.select`.
        axes: two axes; a new figure by default.

    Returns:
        The figure.
    """
    frame = _some(frame[frame["schedule"] == "static"], "static noise")
    figure, axes = _panels(axes, 2)
    for ax, strategy in zip(axes, ("mode", "random")):
        for family, marker in _FAMILY_MARKERS.items():
            line = {**line_of(family), "marker": marker, "label": family}
            _curve(ax, frame, f"{family}-{strategy}-static", line)
        _finish_panel(ax, frame, strategy)
    return _finish_figure(figure, axes, frame)


def strategy_curves(
    frame: Any, noise: str = "uniform", mean: str = "static", axes: Any = None, quantity: str = "accuracy"
) -> Any:
    """Accuracy over epochs while the noise fades: a panel for each strategy, a line for each schedule.

    The interval is told by colour and marker, the power law by dashes and by the marker's filling. The black dotted curve
    is the same strategy without annealing, on the folds of the schedules; under expectation, which has none, it is the mode's.
    Bands and the vertical line are those of `static_curves`.

    Args:
        frame: as for `static_curves`.
        noise: which family.
        mean: "static" or "dynamic".
        axes: three axes; a new figure by default.
        quantity: "accuracy", without noise, or "noisy_accuracy", with the epoch's. To take away noise with a mean moves the
            thresholds, so what is measured without it is not the network that is being trained.

    Returns:
        The figure.
    """
    choice(quantity, _AXES, "quantity")
    choice(noise, _FAMILY_MARKERS, "noise")
    choice(mean, ("static", "dynamic"), "mean")
    annealed = _some(frame[(frame["noise"] == noise) & (frame["mean"] == mean) & (frame["std"] == "dynamic")],
                     f"annealed {noise} noise and a {mean} mean")
    figure, axes = _panels(axes, 3)
    same_folds = frame[frame["fold"].isin(annealed["fold"])]
    for ax, strategy in zip(axes, STRATEGY_LINES):
        reference = "mode" if strategy == "expectation" else strategy
        _curve(ax, same_folds, f"{noise}-{reference}-static", {**_STATIC_LINE, "label": "static noise"}, quantity)
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
    """
    choice(strategy, STRATEGY_LINES, "strategy")
    frame = _some(frame[(frame["strategy"] == strategy) & (frame["mean"] == "static") & (frame["std"] == "dynamic")],
                  f"annealed noise, the strategy {strategy} and a static mean")
    figure, axes = _panels(axes, 4)
    for ax, family in zip(axes, _FAMILY_MARKERS):
        _annealed_lines(ax, frame, family, strategy, "static")
        _finish_panel(ax, frame, f"{family} noise")
    return _finish_figure(figure, axes, frame)


def final_accuracies(frame: Any, noise: str = "uniform", measure: str = "accuracy", ax: Any = None) -> Any:
    """Accuracy at the end for each schedule and strategy, and for the baselines: mean, 95 % interval, and each fold as a dot.

    Args:
        frame: as for `static_curves`; units with a static mean are shown.
        noise: which family.
        measure: a key of `experiments.results.MEASURES`.
        ax: an axes; a new figure by default.

    Returns:
        The figure.
    """
    from anabook.experiments import design, results

    choice(noise, _FAMILY_MARKERS, "noise")
    choice(measure, results.MEASURES, "measure")
    schedules = ["static", *(f"{interval.replace('_', '-')}-{law}" for interval in INTERVAL_LINES for law in POWER_LINES)]
    rows = {name: i for i, name in enumerate([*schedules, *design.BASELINES])}
    frame = _some(frame[frame["unit"].isin(_drawn_units(noise, schedules))], f"{noise} noise and a static mean, and no baseline")
    ax = plt.subplots(figsize=(7.2, 5.4))[1] if ax is None else ax
    for place, (strategy, line) in enumerate(STRATEGY_LINES.items()):
        shown = [(rows[s] + 0.24 * (place - 1), f"{noise}-{strategy}-{s}") for s in schedules]
        _dots(ax, frame, shown, measure, {**line, "label": strategy})
    _dots(ax, frame, [(rows[name], name) for name in design.BASELINES], measure,
          {"color": COLOURS["quantiser"], "marker": "D", "label": "baselines"})
    names = [name.replace("-homogeneous", ", homogeneous").replace("-progressive", ", progressive").replace("-", " ") for name in rows]
    ax.set_yticks(range(len(rows)), names)
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
    """
    from anabook.experiments import results

    choice(noise, _FAMILY_MARKERS, "noise")
    choice(measure, results.MEASURES, "measure")
    ax = plt.subplots(figsize=(6.4, 4.8))[1] if ax is None else ax
    chosen = [frame[(frame["noise"] == noise) & (frame["mean"] == "static")] for frame in (first, second)]
    common = set(chosen[0]["unit"]) & set(chosen[1]["unit"])
    if not common:
        raise ValueError(f"the two have no unit with {noise} noise and a static mean in common.")
    x, y = (100 * results.summary(frame[frame["unit"].isin(common)], measure=measure).set_index("unit")["mean"] for frame in chosen)
    for strategy, line in STRATEGY_LINES.items():
        units = sorted(unit for unit in common if unit.startswith(f"{noise}-{strategy}-"))
        for static, extra in ((False, {"label": strategy}), (True, {"label": f"{strategy}, static noise", "markerfacecolor": "white"})):
            shown = [unit for unit in units if unit.endswith("-static") == static]
            if shown:
                ax.plot(x[shown], y[shown], linestyle="none", markersize=6, **{**line, **extra})
    x_line, y_line = (_data_line(frame[frame["unit"].isin(common)]) for frame in (first, second))
    ax.set(xlabel=f"{x_line}:\naccuracy in %", ylabel=f"{y_line}:\naccuracy in %")
    ax.figure.legend(loc="outside lower center", ncols=3, fontsize="small")
    return ax.figure


def size_curves(frame: Any, titles: dict[str, str] | None = None, axes: Any = None) -> Any:
    """The same units at different sizes: accuracy over time, a panel for each size.

    Time is counted in periods, so that runs of different lengths can be compared. Lines, bands and the vertical line are those
    of `static_curves`.

    Args:
        frame: runs on one data set at several sizes; the units that all sizes have are shown, measured by cross-validation.
        titles: of the panels, by the size's name, in the order of the panels; the names themselves by default.
        axes: as many axes as sizes; a new figure by default.

    Returns:
        The figure.

    Raises:
        ValueError: fewer than two sizes, or no unit that all have.
    """
    from anabook.experiments import results, tables

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
            ax.plot(epochs, values.mean(0), color=colour, marker=marker, markersize=4, linewidth=1.4, label=unit.replace("-", " "),
                    markevery=(len(ax.lines) % 4, max(1, len(epochs) // 7)))
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
    from anabook.experiments import claims

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


def _some(frame: Any, what: str) -> Any:
    """The runs, unless there are none."""
    if not len(frame):
        raise ValueError(f"there is no run with {what} to draw.")
    return frame


def _drawn_units(noise: str, schedules: Iterable[str]) -> set[str]:
    from anabook.experiments import design

    return {f"{noise}-{strategy}-{schedule}" for strategy in STRATEGY_LINES for schedule in schedules} | set(design.BASELINES)


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
    from anabook.experiments import results

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
    ending = "" if mean == "static" else "-dynamic-mean"
    for interval, line in INTERVAL_LINES.items():
        for law, dashes in POWER_LINES.items():
            name = f"{interval.replace('_', '-')}-{law}"
            _curve(ax, frame, f"{noise}-{strategy}-{name}{ending}",
                   {**line, **dashes, "label": f"{interval.replace('_', ' ')}, {law}"}, quantity)


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
    axes[0].annotate("learning rate ÷ 10 →", (drop, 0.03), (-2, 0), xycoords=("data", "axes fraction"), textcoords="offset points",
                     ha="right", fontsize=8, color="#444444")
    drawn = {label: line for ax in axes for line, label in zip(*ax.get_legend_handles_labels())}
    if len(axes) == 3:
        figure.legend(drawn.values(), drawn, loc="center", bbox_to_anchor=(0.76, 0.24), fontsize="small")
    else:
        figure.legend(drawn.values(), drawn, loc="outside lower center", ncols=4 if len(drawn) == 4 else 3, fontsize="small")
    figure.suptitle(_data_line(frame), fontsize=10)
    return figure


def _data_line(frame: Any) -> str:
    """Data set with its provenance, size and number of folds, to stand on every figure."""
    from anabook.experiments import tables

    return f"{frame['data'].iloc[0]}, {frame['size'].iloc[0]}, {tables.folds_in_words(frame)}"


def _dots(ax: Any, frame: Any, shown: list[tuple[float, str]], measure: str, line: dict[str, Any]) -> None:
    from anabook.experiments import results

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
