"""Pictures of noise that has not vanished: what it may change, and what it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from anabook._validate import choice
from anabook.convergence import finite_noise
from anabook.plots.style import COLOURS, CYCLE, line_of
from anabook.plots.theory import grid

_AGREEMENT: dict[str, dict[str, Any]] = {
    "measured": {"color": COLOURS["quantiser"], "linestyle": "-"},
    "certified by intervals": {"color": CYCLE[0], "linestyle": (0, (6, 2))},
    "no unit within reach": {"color": CYCLE[1], "linestyle": (0, (1.5, 1.5))},
    "1 − bound": {"color": CYCLE[2], "linestyle": (0, (6, 2, 1.5, 2))},
}
"""What is drawn of an epoch, from the largest to the smallest."""


def agreement_curves(records: Sequence[Mapping[str, Any]], ax: Any = None) -> Any:
    """The share of predictions that the present noise leaves as they are, epoch by epoch: measured, certified, bounded.

    A line is the mean over the records, its band goes from the worst to the best. Thin vertical lines are where a layer's
    noise is gone.

    Args:
        records: of the study `finite`, of one unit on one data set.
        ax: an axes; a new figure by default.

    Returns:
        The axes.

    Raises:
        ValueError: no record, or records of different units.

    Example:
        >>> from anabook.experiments import shipped
        >>> import json
        >>> lines = shipped.path("results/finite.jsonl").read_text().splitlines()
        >>> ax = agreement_curves([json.loads(lines[0])])
        >>> len(ax.get_legend_handles_labels()[1])
        4
    """
    kinds = sorted({(record["config"]["data"], record["config"]["unit"]) for record in records})
    if len(kinds) != 1:
        raise ValueError(f"records must be of one unit on one data set, not of {len(kinds)}: {kinds!r}.")
    ax = plt.subplots()[1] if ax is None else ax
    for label, line in _AGREEMENT.items():
        values = 100 * np.array([agreement(record, label) for record in records])
        epochs = np.arange(1, values.shape[1] + 1)
        ax.fill_between(epochs, values.min(0), values.max(0), color=line["color"], alpha=0.15, linewidth=0)
        ax.plot(epochs, values.mean(0), label=label, linewidth=1.6, **line)
    stds = np.array(records[0]["epochs"]["std"])
    for end in sorted({int(np.argmax(layer == 0)) for layer in stds.T if (layer == 0).any()}):
        ax.axvline(end + 1, color=COLOURS["grey"], linewidth=0.8, zorder=0)
    ax.set(xlabel="epoch", ylim=(-3, 103))
    return ax


def agreement(record: Mapping[str, Any], label: str) -> np.ndarray:
    """One of the four shares of each epoch of a record.

    Example:
        >>> record = {"epochs": {"disagreement": [0.25, 0.0], "certified": [0.5, 1.0], "unreached": [0, 1], "bound": [1, 0]}}
        >>> agreement(record, "measured").tolist()
        [0.75, 1.0]
    """
    epochs = record["epochs"]
    shares = {
        "measured": 1 - np.array(epochs["disagreement"]),
        "certified by intervals": np.array(epochs["certified"]),
        "no unit within reach": np.array(epochs["unreached"]),
        "1 − bound": 1 - np.array(epochs["bound"]),
    }
    return shares[choice(label, _AGREEMENT, "label")]


def shape_curves(record: Mapping[str, Any], ax: Any = None) -> Any:
    """The share of predictions that random draws change, over the mean size of the noise, a line for each law.

    Args:
        record: of the study `finite`.
        ax: an axes; a new figure by default.

    Returns:
        The axes.

    Example:
        >>> record = {"magnitudes": [0.01, 0.1], "shapes": {"uniform": [0.001, 0.02], "normal": [0.001, 0.02]}}
        >>> [line.get_label() for line in shape_curves(record).lines]
        ['uniform', 'normal']
    """
    ax = plt.subplots()[1] if ax is None else ax
    widths = np.linspace(6, 1.4, len(record["shapes"]))  # lines that lie on top of each other are all seen
    for (law, shares), width in zip(record["shapes"].items(), widths):
        ax.plot(record["magnitudes"], 100 * np.array(shares), label=law, linewidth=width, **line_of(law))
    ax.set(xscale="log", yscale="log", xlabel=r"mean size of the noise, $\mathbb{E}|\nu|$")
    ax.set_ylabel("predictions that\ndiffer, in %")
    return ax


def reaches(quantiser: Any, noise: Any, span: float, ax: Any = None) -> Any:
    """A stair with what its noise reaches shaded, and the chance of another level over it, for random draws.

    Args:
        quantiser: a `Quantiser`.
        noise: a bounded `Noise`.
        span: the picture goes from −span to span.
        ax: an axes; a new figure by default.

    Returns:
        The axes.

    Example:
        >>> from anabook import Noise, Quantiser
        >>> ax = reaches(Quantiser.ternary(), Noise("uniform", std=0.1), 1.5)
        >>> len(ax.patches)
        2
    """
    ax = plt.subplots()[1] if ax is None else ax
    s = grid(-span, span, 2001)
    low, high = finite_noise.reach(noise)
    for i, threshold in enumerate(quantiser.thresholds):
        ends = threshold + min(low, 0.0), threshold + max(high, 0.0)
        ax.axvspan(*ends, color=COLOURS["grey"], alpha=0.2, linewidth=0, label="within reach" if i == 0 else None)
    ax.plot(s, quantiser(s), color=COLOURS["quantiser"], label="quantiser")
    chance = finite_noise.change_probability(quantiser, noise, s)
    ax.plot(s, chance, color=CYCLE[1], linestyle=(0, (6, 2)), label="chance of another level")
    ax.set(xlabel="pre-activation $s$")
    return ax
