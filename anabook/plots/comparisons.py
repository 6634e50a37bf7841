"""Pictures that compare: data sets, sizes, and what is claimed with what was found."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from anabook._validate import choice
from anabook.experiments import results, tables
from anabook.experiments.intervals import Ratio
from anabook.experiments.measures import resolved
from anabook.plots.looks import FAMILY_MARKERS, STRATEGY_LINES, data_line, dots, interval_line, look
from anabook.plots.style import COLOURS, CYCLE


def order(first: Any, second: Any, noise: str = "uniform", measure: str = results.FINAL, ax: Any = None) -> Any:
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
    choice(noise, FAMILY_MARKERS, "noise")
    choice(measure, results.MEASURES, "measure")
    ax = plt.subplots(figsize=(6.4, 4.8))[1] if ax is None else ax
    chosen = [frame[(frame["noise"] == noise) & (frame["mean"] == "static")] for frame in (first, second)]
    common = set(chosen[0]["unit"]) & set(chosen[1]["unit"])
    if not common:
        raise ValueError(f"the two have no unit with {noise} noise and a static mean in common.")
    shared = [frame[frame["unit"].isin(common)] for frame in chosen]
    measures = [resolved(measure, frame) for frame in shared]
    means = (results.summary(frame, measure=name) for frame, name in zip(shared, measures))
    x, y = (100 * each.set_index("unit")["mean"] for each in means)
    for strategy, line in STRATEGY_LINES.items():
        runs = chosen[0][(chosen[0]["strategy"] == strategy) & chosen[0]["unit"].isin(common)]
        hollow = {"label": f"{strategy}, static noise", "markerfacecolor": "white"}
        for static, extra in ((False, {"label": strategy}), (True, hollow)):
            shown = sorted(set(runs.loc[(runs["schedule"] == "static") == static, "unit"]))
            if shown:
                ax.plot(x[shown], y[shown], linestyle="none", markersize=6, **{**line, **extra})
    x_line, y_line = (f"{data_line(frame)}:\n{name.replace('_', ' ')} in %" for frame, name in zip(shared, measures))
    ax.set(xlabel=x_line, ylabel=y_line)
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
    frame, titles, parts, common = _sizes(frame, titles)
    if axes is None:
        figure, axes = plt.subplots(1, len(parts), figsize=(8.4, 4.4), sharey=True)
    figure = axes[0].figure
    units = [unit for unit in frame["unit"].unique() if unit in common]
    looks = list(zip(CYCLE, "os^vDP*"))
    if len(units) > len(looks):
        raise ValueError(f"at most {len(looks)} units can be told apart, not {len(units)}: take fewer, or `size_order`.")
    for ax, (size, part) in zip(axes, parts.items()):
        for unit, (colour, marker) in zip(units, looks):
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


def size_order(frame: Any, titles: dict[str, str] | None = None, axes: Any = None) -> Any:
    """The same units at different sizes: accuracy after training, a panel with its own axis for each size.

    The rows are in the order of the last size, the best first. Colours are those of the decay intervals, markers those of
    the strategies; black is static noise, a diamond the float network. Bars are 95 % intervals where there are folds enough.

    Args:
        frame: runs on one data set at several sizes; the units that all sizes have are shown, measured on the held-out fold.
        titles: of the panels, by the size's name, in the order of the panels; the names themselves by default.
        axes: as many axes as sizes; a new figure by default.

    Returns:
        The figure.

    Raises:
        ValueError: fewer than two sizes, or no unit that all have.

    Example:
        >>> from anabook.experiments import results
        >>> frame = results.load()
        >>> sizes = {"scaled": "scaled", "custom-f741af": "full width"}
        >>> axes = size_order(frame[frame["task"] == "cifar10"], sizes)
    """
    frame, titles, parts, common = _sizes(frame, titles)
    last = list(parts.values())[-1]
    units = list(last[last["unit"].isin(common)].groupby("unit")["accuracy"].mean().sort_values(ascending=False).index)
    if axes is None:
        figure, axes = plt.subplots(1, len(parts), figsize=(8.4, 0.36 * len(units) + 1.5), sharey=True)
    for ax, (size, part) in zip(axes, parts.items()):
        for row, unit in enumerate(units):
            dots(ax, part, [(row, unit)], "accuracy", look(part[part["unit"] == unit].iloc[0]))
        ax.set_title(f"{titles[size]}\n{tables.folds_in_words(part[part['unit'].isin(units)])}", fontsize=9)
        ax.set(xlabel="validation accuracy in %", ylim=(len(units) - 0.4, -0.6))
    axes[0].set_yticks(range(len(units)), [unit.removeprefix("uniform-").replace("-", " ") for unit in units], fontsize=8)
    axes[0].figure.suptitle(str(frame["data"].iloc[0]), fontsize=10)
    return axes[0].figure


def _sizes(frame: Any, titles: dict[str, str] | None) -> tuple[Any, dict[str, str], dict[str, Any], set[str]]:
    """The cross-validated runs, titles and runs by size, and the units that all sizes have."""
    frame = frame[frame["measured_on"] == "validation"]
    titles = titles or {size: size for size in frame["size"].unique()}
    parts = {size: results.comparable(frame[frame["size"] == size]) for size in titles}
    common = set.intersection(*(set(part["unit"]) for part in parts.values()))
    if len(parts) < 2 or not common:
        raise ValueError("there must be runs of the same units at two sizes or more.")
    return frame, titles, parts, common


VERDICT_MARKERS: dict[str, dict[str, Any]] = {
    "supported": {"color": CYCLE[0], "marker": "o"},
    "supported alone": {"color": CYCLE[0], "marker": "o", "markerfacecolor": "white"},
    "contradicted": {"color": CYCLE[1], "marker": "X"},
    "contradicted alone": {"color": CYCLE[1], "marker": "X", "markerfacecolor": "white"},
    "undecided": {"color": COLOURS["grey"], "marker": "d", "markerfacecolor": "white"},
    "no data": {"color": COLOURS["grey"], "marker": "."},
}
"""A colour and a marker for each verdict; hollow where it holds for the claim alone, and not among so many."""


def effects(verdicts: Iterable[Any], ax: Any = None) -> Any:
    """The difference that decides each claim, with its 95 % interval; what the claim asks for is shaded.

    Claims about scatter, whose effects are ratios, are left out.

    Args:
        verdicts: of `experiments.claims.judge_all`.
        ax: an axes; a new figure by default.

    Returns:
        The figure.

    Raises:
        ValueError: none of the claims has a difference to show.

    Example:
        >>> from anabook.experiments import claims, results
        >>> ax = effects(claims.judge_all(results.load(), "cifar10"))
    """
    verdicts = list(verdicts)
    rows = [(v, v.deciding) for v in verdicts if v.deciding is not None and not isinstance(v.deciding.effect, Ratio)]
    if not rows:
        raise ValueError("there is no difference to draw: no claim has the runs that it needs.")
    ax = plt.subplots(figsize=(7.6, 0.3 * len(rows) + 1.5))[1] if ax is None else ax
    means = max(abs(100 * finding.effect.mean) for _, finding in rows)
    ends = [abs(100 * end) for _, finding in rows for end in (finding.effect.low, finding.effect.high)]
    reach = min(max(1.15 * means, 1.03 * np.nanmax([means, *ends])), 2 * means)  # two folds may have an endless interval
    seen: set[str] = set()
    for row, (verdict, finding) in enumerate(rows):
        kind, margin = verdict.claim.kind, 100 * verdict.claim.margin
        low, high = {"above": (0, reach), "by": (margin, reach), "level": (-margin, margin)}[kind]
        ax.barh(row, high - low, left=low, height=0.96, color="#dcefe3", zorder=0)
        said = verdict.verdict if verdict.alone in ("", verdict.verdict) else f"{verdict.alone} alone"
        label = None if said in seen else said
        seen.add(said)
        interval_line(ax, row, finding.effect, {**VERDICT_MARKERS[said], "label": label})
    ax.axvline(0, color=COLOURS["grey"], linewidth=0.8)
    ax.set_yticks(range(len(rows)), [finding.contrast.name for _, finding in rows], fontsize=8)
    ax.set(xlabel="difference in percentage points", ylim=(len(rows) - 0.4, -0.6), xlim=(-reach, reach))
    most = max(finding.effect.n for _, finding in rows)
    ax.figure.suptitle(f"{verdicts[0].data}, {verdicts[0].size}, up to {most} fold" + "s" * (most > 1), fontsize=10)
    ax.figure.legend(loc="outside lower center", ncols=3, fontsize="small")
    return ax.figure
