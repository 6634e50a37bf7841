"""Pictures: one style for the whole book, and the drawings that chapters share.

`use_style` sets matplotlib's defaults. The other functions draw the theory (`theory`), gradients (`annealing`), data sets
(`data`), recorded experiments (`experiments`, `comparisons`), the choice of an estimator (`choosing`) and noise that has not
vanished (`finite`); all of them are here under `anabook.plots`.
"""

from anabook.plots.annealing import cosines, drift, estimators, is_told_from_zero
from anabook.plots.choosing import estimator_accuracies
from anabook.plots.comparisons import VERDICT_MARKERS, effects, order, size_curves, size_order
from anabook.plots.data import clip, sheet
from anabook.plots.experiments import (
    EXPERIMENT_FIGURES,
    final_accuracies,
    noise_curves,
    static_curves,
    strategy_curves,
)
from anabook.plots.finite import agreement_curves, reaches, shape_curves
from anabook.plots.looks import INTERVAL_LINES, POWER_LINES, STRATEGY_LINES
from anabook.plots.style import COLOURS, CYCLE, DASHES, PAPER, line_of, use_style
from anabook.plots.theory import arrival, grid, regularisations, schedule, staircase, zoo

__all__ = [
    "COLOURS",
    "CYCLE",
    "DASHES",
    "EXPERIMENT_FIGURES",
    "INTERVAL_LINES",
    "PAPER",
    "POWER_LINES",
    "STRATEGY_LINES",
    "VERDICT_MARKERS",
    "agreement_curves",
    "arrival",
    "clip",
    "cosines",
    "drift",
    "effects",
    "estimator_accuracies",
    "estimators",
    "final_accuracies",
    "grid",
    "is_told_from_zero",
    "line_of",
    "noise_curves",
    "order",
    "reaches",
    "regularisations",
    "schedule",
    "shape_curves",
    "sheet",
    "size_curves",
    "size_order",
    "staircase",
    "static_curves",
    "strategy_curves",
    "use_style",
    "zoo",
]
