"""Pictures: one style for the whole book, and the drawings that chapters share.

`use_style` sets matplotlib's defaults. The other functions draw the theory (`theory`), data sets (`data`) and recorded
experiments (`experiments`); all of them are here under `anabook.plots`.
"""

from anabook.plots.data import clip, sheet
from anabook.plots.experiments import (
    EXPERIMENT_FIGURES,
    INTERVAL_LINES,
    POWER_LINES,
    STRATEGY_LINES,
    VERDICT_MARKERS,
    effects,
    final_accuracies,
    noise_curves,
    order,
    size_curves,
    static_curves,
    strategy_curves,
)
from anabook.plots.style import COLOURS, CYCLE, DASHES, line_of, use_style
from anabook.plots.theory import grid, regularisations, schedule, staircase, zoo

__all__ = [
    "COLOURS",
    "CYCLE",
    "DASHES",
    "EXPERIMENT_FIGURES",
    "INTERVAL_LINES",
    "POWER_LINES",
    "STRATEGY_LINES",
    "VERDICT_MARKERS",
    "clip",
    "effects",
    "final_accuracies",
    "grid",
    "line_of",
    "noise_curves",
    "order",
    "regularisations",
    "schedule",
    "sheet",
    "size_curves",
    "staircase",
    "static_curves",
    "strategy_curves",
    "use_style",
    "zoo",
]
