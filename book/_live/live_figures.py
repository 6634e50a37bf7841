"""The backend of matplotlib in the page: draws as Agg does, and `plt.show()` shows the figures under the cell."""

from __future__ import annotations

from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg, FigureManagerBase

FigureCanvas = FigureCanvasAgg
FigureManager = FigureManagerBase


def show(*arguments: Any, **options: Any) -> None:
    """Show and close every figure that is open."""
    import live_kernel

    live_kernel.show_figures()
