"""Pictures: one style for the whole book, and the few drawings that chapters share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from anabook._validate import integer, real
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
