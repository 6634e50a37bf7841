"""Figures in notebooks as SVG: sharp at any size, the same bytes each time, and with what a page needs to lay them out.

A page may want to put panels that stand side by side one below the other. `svg` says where they are: the attribute
`data-panels` of the picture holds the left and right end of each column of axes, in the picture's own units.
"""

from __future__ import annotations

import io
import re
import sys
from typing import Any
from weakref import WeakKeyDictionary

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

LARGEST = 300_000
"""Characters of a picture beyond which it is stored as pixels: one with a hundred thousand points."""

_PAD = 0.1
_NARROWEST = 0.2


def _rounded(number: re.Match[str]) -> str:
    """A coordinate to a hundredth of a point."""
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def panels(figure: Figure) -> list[tuple[float, float]]:
    """The columns of axes that stand side by side, as parts of the picture's width; none if it is not made of columns.

    Axes that lie over each other from left to right make one column. There are none where something belongs to the whole
    figure (a legend, a title), or where a column is so narrow that it is a colour bar.

    Args:
        figure: drawn or not.

    Returns:
        Left and right end of each column from 0 to 1, which lie side by side.

    Example:
        >>> figure, axes = plt.subplots(1, 2)
        >>> [(left, middle), (same, right)] = panels(figure)
        >>> left, middle == same, right
        (0.0, True, 1.0)
    """
    figure.draw_without_rendering()
    above = (*figure.legends, *figure.texts, *figure.subfigs)
    boxes = [box for each in figure.axes if each.get_visible() and (box := each.get_tightbbox()) is not None]
    if above or len(boxes) < 2:
        return []
    columns: list[list[float]] = []
    for left, right in sorted((float(box.x0), float(box.x1)) for box in boxes):
        if columns and left < columns[-1][1]:
            columns[-1][1] = max(columns[-1][1], right)
        else:
            columns.append([left, right])
    if len(columns) < 2:
        return []
    whole = figure.get_tightbbox()
    start = (float(whole.x0) - _PAD) * figure.dpi
    width = (float(whole.width) + 2 * _PAD) * figure.dpi
    between = [(one[1] + two[0]) / 2 for one, two in zip(columns, columns[1:])]
    cuts = [0.0, *((cut - start) / width for cut in between), 1.0]
    ends = list(zip(cuts, cuts[1:]))
    return ends if min(right - left for left, right in ends) >= _NARROWEST else []


def svg(figure: Figure) -> str:
    """The figure as an SVG element, cut to what is drawn: the same text for the same drawing.

    Args:
        figure: any.

    Example:
        >>> figure, axes = plt.subplots()
        >>> svg(figure).startswith("<svg "), svg(figure) == svg(figure)
        (True, True)
    """
    cuts = panels(figure)
    file = io.StringIO()
    with plt.rc_context({"svg.hashsalt": "anabook", "svg.fonttype": "path"}):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", bbox_inches="tight", pad_inches=_PAD, metadata=nothing)
    text = file.getvalue()
    text = text[text.index("<svg ") :].rstrip()
    text = re.sub(r'(?<= d=")[^"]*', lambda path: re.sub(r"-?\d+\.\d{3,}", _rounded, path[0]), text)
    if cuts:
        ends = " ".join(f"{left:.4f},{right:.4f}" for left, right in cuts)
        text = text.replace("<svg ", f'<svg data-panels="{ends}" ', 1)
    return text


def show_as_svg() -> bool:
    """In a notebook, show every figure as SVG from now on; elsewhere do nothing. Says which.

    Pictures of more than `LARGEST` characters stay PNG.

    Example:
        >>> show_as_svg()  # not in a notebook
        False
    """
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    shell: Any = get_ipython()  # type: ignore[no-untyped-call]
    if shell is None or not hasattr(shell, "kernel"):
        return False
    import matplotlib_inline.backend_inline  # noqa: F401 - chooses PNG when it is first loaded
    from IPython.core.pylabtools import print_figure

    is_large: WeakKeyDictionary[Figure, bool] = WeakKeyDictionary()  # as told by the first that is asked, to draw once

    def small(figure: Figure) -> str | None:
        text = svg(figure)
        is_large[figure] = len(text) > LARGEST
        return None if is_large[figure] else text

    def large(figure: Figure) -> Any:
        if figure not in is_large:
            small(figure)
        return print_figure(figure, fmt="png", base64=True) if is_large.pop(figure) else None

    formatters = shell.display_formatter.formatters
    formatters["image/svg+xml"].for_type(Figure, small)
    formatters["image/png"].for_type(Figure, large)
    return True
