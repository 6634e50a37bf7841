"""Pictures of the theory: quantisers, their regularisations, schedules, and the zoo of straight-through estimators."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from anabook._validate import integer, real
from anabook.noise import Noise
from anabook.plots.style import COLOURS, CYCLE, DASHES, line_of
from anabook.quantisers import Quantiser
from anabook.regularisation import Regularisation
from anabook.schedules import Schedule
from anabook.variants import Variant


def staircase(quantiser: Quantiser, x: Any, ax: Any = None, **line: Any) -> Any:
    """Draw a quantiser over the range of `x` as it is: flat treads, open and closed ends, no false risers.

    Args:
        quantiser: what to draw.
        x: positions; only the smallest and largest matter.
        ax: matplotlib axes; the current ones by default.
        **line: passed on to `Axes.plot`.

    Returns:
        The axes.

    Example:
        >>> ax = staircase(Quantiser.ternary(), grid(-1, 1))
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


def regularisations(quantiser: Quantiser, noises: Iterable[Noise], x: Any, axes: Any = None, derivative: bool = True) -> Any:
    """Draw a quantiser with its regularisations by several noises and, beside it, their derivatives.

    Args:
        quantiser: the stair function.
        noises: one curve each; families are told apart by colour and dashes.
        x: positions of shape (n,).
        axes: two axes (one without `derivative`); a new figure by default.
        derivative: whether to draw the derivatives.

    Returns:
        The axes.

    Example:
        >>> axes = regularisations(Quantiser.ternary(), [Noise("uniform", std=0.2)], grid(-1, 1))
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
    """`n` evenly spaced positions from `low` to `high`, both included.

    Example:
        >>> grid(-1, 1, 5)
        array([-1. , -0.5,  0. ,  0.5,  1. ])
    """
    low = real(low, "low")
    return np.linspace(low, real(high, "high", above=low), integer(n, "n", minimum=2))


def arrival(noise: Noise, error: float, ax: Any = None, **line: Any) -> Any:
    """Draw what a Heaviside unit that should be on its threshold makes of an error that arrives, as a dot on its step.

    Everything is measured in units of the unit's offset, which is minus the mean of its noise: the step rises at −1, and the
    dot is at minus the error.

    Args:
        noise: the unit's noise, with a negative mean and a positive standard deviation.
        error: by how much the pre-activation is too low; at least 0.
        ax: matplotlib axes; the current ones by default.
        **line: passed on to `Axes.plot`.

    Returns:
        The axes, which show pre-activations from −3.2 to 0.6.

    Raises:
        ValueError: a mean that is not negative, no noise, a negative error.

    Example:
        >>> ax = arrival(Noise("normal", mean=-0.2, std=0.1), error=0.1)
    """
    if not noise.mean < 0 or not noise.std > 0:
        raise ValueError(f"noise must have a negative mean and a positive std, not {noise.mean:g} and {noise.std:g}.")
    if not (error := real(error, "error")) >= 0:
        raise ValueError(f"error must be at least 0, not {error:g}.")
    ax = plt.gca() if ax is None else ax
    unit, offset = Regularisation(Quantiser.heaviside(), noise), -noise.mean
    x = grid(-3.2, 0.6, 1521)
    (curve,) = ax.plot(x, unit(offset * x), **line)
    ax.plot(-error / offset, unit(-error), "o", color=curve.get_color(), markersize=8, zorder=3)
    ax.set(xlim=(-3.2, 0.6), xlabel="pre-activation, in units of the offset", ylabel="output")
    return ax


def schedule(schedule: Schedule, times: Any = None, axes: Any = None) -> Any:
    """Draw every layer's mean and standard deviation against time, layers told apart by colour and by dashes.

    The layers of a block share a curve.

    Args:
        schedule: what to draw.
        times: increasing times of shape (n,); by default from a little before the first interval to a little after
            the last one. A schedule made from a callable needs them.
        axes: two axes, for the means and for the standard deviations; a new figure by default.

    Returns:
        The two axes.

    Example:
        >>> axes = schedule(Schedule.periodic(n_layers=3, period=10))
    """
    if times is None:
        first, last = min(start for start, _ in schedule.intervals), max(end for _, end in schedule.intervals)
        times = np.linspace(first - 0.03 * (last - first), last + 0.03 * (last - first), 601)
    if axes is None:
        _, axes = plt.subplots(1, 2, figsize=(8.4, 3.4))
    styles = [DASHES[family] for family in ("uniform", "triangular", "normal", "logistic")]
    for ax, values, name in zip(axes, schedule.values(times), (r"mean $\alpha$", r"standard deviation $\beta$")):
        for i, (label, layers) in enumerate(schedule.alike.items()):
            line = {"color": CYCLE[i % len(CYCLE)], "linestyle": styles[i % len(styles)]}
            ax.plot(times, values[:, layers[0]], label=label, **line)
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

    Example:
        >>> from anabook.variants import VARIANTS
        >>> figure = zoo([VARIANTS["fast_sigmoid"]])
    """
    variants = list(variants)
    rows = -(-len(variants) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.35 * columns, 1.95 * rows), squeeze=False)
    for ax in axes.ravel()[len(variants) :]:
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
