"""Pictures of gradients: bias and spread of estimators, cosines along a schedule, and a loss that changes with its noise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from anabook.plots.looks import STRATEGY_LINES
from anabook.plots.style import COLOURS, CYCLE

_DASHES = ("-", (0, (6, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
_MARKERS = "osD^vPXd"
_INKS = [*CYCLE, COLOURS["grey"]]


def estimators(records: Iterable[Mapping[str, Any]]) -> Any:
    """Bias and spread of gradient estimators against the noise, a column for each testbed.

    Biases that are not told from 0 are drawn at the value they are surely below, with an open marker.

    Args:
        records: of the study "estimators", or of its form: `config` with `testbed`, `estimator` and `std`, and `bias`,
            `bias_below` and `spread`, in units of the reference gradient.

    Returns:
        The figure.

    Example:
        >>> case = {"config": {"testbed": "one", "estimator": "mode", "std": 0.5}}
        >>> figure = estimators([case | {"bias": 0.2, "bias_below": 0.2, "spread": 0.0}])
        >>> [ax.get_ylabel() for ax in figure.axes]
        ['bias', 'spread']
    """
    records = list(records)
    testbeds = list(dict.fromkeys(r["config"]["testbed"] for r in records))
    names = list(dict.fromkeys(r["config"]["estimator"] for r in records))
    figure, axes = plt.subplots(2, len(testbeds), figsize=(4.4 * len(testbeds), 6.4), sharex=True, squeeze=False)
    for column, testbed in zip(axes.T, testbeds):
        for name, dash, marker, colour in zip(names, cycle(_DASHES), cycle(_MARKERS), cycle(_INKS)):
            chosen = [r for r in records if (r["config"]["testbed"], r["config"]["estimator"]) == (testbed, name)]
            x = np.array([r["config"]["std"] for r in chosen])
            look = {"color": colour, "linestyle": dash, "linewidth": 1.6}
            sure = np.array([is_told_from_zero(r) for r in chosen])
            bias = np.array([r["bias"] if s else r["bias_below"] for r, s in zip(chosen, sure)])
            column[0].plot(x, bias, label=name, marker=marker, markersize=5, **look)
            column[0].plot(x[~sure], bias[~sure], marker, color=colour, markerfacecolor="white", markersize=5)
            spread = np.array([r["spread"] for r in chosen])
            if spread.any():
                column[1].plot(x, spread, label=name, marker=marker, markersize=5, **look)
        column[0].set(title=testbed, xscale="log", yscale="log")
        column[1].set(xlabel=r"noise $\beta/\epsilon$", yscale="log")
        ticks = (0.05, 0.1, 0.2, 0.5, 1.0)
        column[1].set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
        column[1].set_xticks([], minor=True)
        for ax in column:
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_minor_formatter(NullFormatter())
    axes[0, 0].set_ylabel("bias")
    axes[1, 0].set_ylabel("spread")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize="small")
    return figure


def is_told_from_zero(record: Mapping[str, Any]) -> bool:
    """Whether the squared bias of an estimator is greater than twice its standard error.

    Args:
        record: with `bias` and `bias_below`, the root of the squared bias plus two standard errors.

    Example:
        >>> is_told_from_zero({"bias": 0.3, "bias_below": 0.35}), is_told_from_zero({"bias": 0.1, "bias_below": 0.3})
        (True, False)
    """
    return record["bias_below"] ** 2 < 2 * record["bias"] ** 2 or record["bias"] == record["bias_below"]


def cosines(runs: Iterable[Mapping[str, Any]], measure: str = "cosine") -> Any:
    """Cosine between each strategy's gradient and the reference, a row for each schedule and a column for each layer.

    Lines are means over the runs of a schedule; the grey dotted line says how well two halves of the reference agree.
    Where no gradient arrives, the line ends.

    Args:
        runs: of the study "gradients", or of its form: `config` with `interval`, and `epochs`, a list over epochs of
            lists over layers.
        measure: "cosine" (all examples) or "step" (one draw on a small batch).

    Returns:
        The figure.

    Example:
        >>> layer = {"std": 0.1, "agreement": 0.9, "mode": {"cosine": 0.8}}
        >>> figure = cosines([{"config": {"interval": "partition"}, "epochs": [[layer]]}])
        >>> [ax.get_title() for ax in figure.axes]
        ['partition, layer 0']
    """
    runs = list(runs)
    intervals = list(dict.fromkeys(run["config"]["interval"] for run in runs))
    n_layers = len(runs[0]["epochs"][0])
    figure, axes = plt.subplots(
        len(intervals), n_layers, figsize=(3.1 * n_layers, 2.7 * len(intervals)), sharex=True, sharey=True, squeeze=False
    )
    for row, interval in zip(axes, intervals):
        chosen = [run["epochs"] for run in runs if run["config"]["interval"] == interval]
        for layer, ax in enumerate(row):
            ax.plot(_means(chosen, layer, lambda e: e["agreement"]), color=COLOURS["grey"], linestyle=":", label="reference")
            for strategy, look in STRATEGY_LINES.items():
                if any(strategy in epochs[0][layer] for epochs in chosen):
                    values = _means(chosen, layer, lambda e, s=strategy: e[s][measure] if s in e else None)
                    ax.plot(values, label=strategy, **look)
            ax.set_title(f"{interval.replace('_', ' ')}, layer {layer}")
            ax.set_ylim(-0.1, 1.05)
    for ax in axes[-1]:
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    for ax in axes[:, 0]:
        ax.set_ylabel("cosine")
    axes[0, 0].legend(fontsize="small", loc="lower left")
    return figure


def _means(runs: list[list[list[dict]]], layer: int, read: Any) -> np.ndarray:
    """Over runs, epoch by epoch; NaN where a run has none."""
    values = [[read(epoch[layer]) for epoch in epochs] for epochs in runs]
    return np.mean([[np.nan if value is None else value for value in row] for row in values], axis=0)


def drift(places: np.ndarray, stds: np.ndarray, losses: np.ndarray, ax: Any = None) -> Any:
    """A loss of one parameter as its noise shrinks: shades for the loss, dots for every local minimum.

    Each row is shaded by its own range.

    Args:
        places: values of the parameter, of shape (n,).
        stds: of the noise, of shape (m,), all positive.
        losses: of shape (m, n).
        ax: matplotlib axes; the current ones by default.

    Returns:
        The axes.

    Example:
        >>> b = np.linspace(-1, 1, 21)
        >>> ax = drift(b, np.array([0.1, 1.0]), np.stack([b**2, (b - 0.2) ** 2]))
        >>> ax.lines[0].get_xdata().round(3) + 0.0
        array([0. , 0.2])
    """
    ax = plt.gca() if ax is None else ax
    low, high = losses.min(axis=1, keepdims=True), losses.max(axis=1, keepdims=True)
    ax.pcolormesh(places, stds, (losses - low) / (high - low), cmap="Blues", shading="nearest", rasterized=True)
    inner = losses[:, 1:-1]
    rows, columns = np.nonzero((inner < losses[:, :-2]) & (inner <= losses[:, 2:]))
    ax.plot(places[columns + 1], stds[rows], ".", color=COLOURS["normal"], markersize=3.5, label="local minima")
    ax.set(yscale="log", ylabel=r"noise $\beta$")
    ax.grid(False)
    return ax
