"""One style for the whole book: colours, dashes, and matplotlib's defaults."""

from __future__ import annotations

import zlib
from typing import Any

import matplotlib.pyplot as plt

from anabook.plots.inline import show_as_svg

PAPER: dict[str, str] = {"blue": "#0072b2", "green": "#009e73", "red": "#b2182b", "yellow": "#a87900"}
"""The colours of the paper's figures, in shades that differ in lightness too and stand out from a light ground (3:1)."""

COLOURS: dict[str, str] = {
    "uniform": PAPER["blue"],
    "triangular": PAPER["green"],
    "normal": PAPER["red"],
    "logistic": PAPER["yellow"],
    "quantiser": "#222222",
    "grey": "#6e6e6e",
}
"""A colour for each noise family, the paper's, and for the quantiser."""

DASHES: dict[str, Any] = {
    "uniform": "-",
    "triangular": (0, (6, 2)),
    "normal": (0, (1.5, 1.5)),
    "logistic": (0, (6, 2, 1.5, 2)),
    "quantiser": "-",
}
"""A line style for each noise family, so that no picture depends on colour."""

CYCLE = ["#0072b2", "#d55e00", "#00795c", "#a3457f", "#7a6000", "#3d85b8", "#222222"]
"""The colours of lines that follow one another."""


def use_style() -> None:
    """Set matplotlib's defaults to the book's style: white ground, quiet axes, readable on a phone; SVG in notebooks.

    Example:
        >>> use_style()
        >>> plt.rcParams["figure.facecolor"]
        'white'
    """
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
    show_as_svg()


def line_of(family: str) -> dict[str, Any]:
    """Colour and dashes of a noise law, as keyword arguments of `Axes.plot`.

    The four families have theirs in the whole book. Another law gets one by its name, the same each time; the colours of
    two such laws may agree.

    Args:
        family: a law's name.

    Example:
        >>> sorted(line_of("uniform"))
        ['color', 'linestyle']
    """
    if family in DASHES:
        return {"color": COLOURS[family], "linestyle": DASHES[family]}
    others = [colour for colour in CYCLE if colour not in COLOURS.values()]
    return {"color": others[zlib.crc32(family.encode()) % len(others)], "linestyle": (0, (6, 2, 1.5, 2, 1.5, 2))}
