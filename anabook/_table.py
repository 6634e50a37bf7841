"""Tables of text: columns in line in a terminal, HTML in a notebook."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

_CELL = "text-align: left; padding: 0.2em 0.8em 0.2em 0; vertical-align: top"
_WHOLE = "; white-space: nowrap"  # an interval is not broken over lines


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells as text: each column as wide as its widest cell, two spaces between them, no spaces at the ends."""
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


@dataclass(frozen=True)
class Table:
    """Text in rows and columns; a notebook shows it as HTML.

    Attributes:
        caption: what is in it, and of which runs.
        header: the columns' titles.
        rows: one tuple of texts each; the first entry names the row.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        return f"{self.caption}\n{aligned([self.header, *self.rows])}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col" style="{_CELL}">{html.escape(cell)}</th>' for cell in self.header)
        body = "".join(
            f'<tr><th scope="row" style="{_CELL}; font-weight: normal">{html.escape(first)}</th>'
            + "".join(f'<td style="{_CELL}{_WHOLE * ("[" in cell)}">{html.escape(cell)}</td>' for cell in rest)
            + "</tr>"
            for first, *rest in self.rows
        )
        caption = html.escape(self.caption)
        label = html.escape(self.caption, quote=True)
        return (
            f'<div style="overflow-x: auto" tabindex="0" role="group" aria-label="{label}">'
            f'<table><caption style="caption-side: top; text-align: left">{caption}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )
