"""Variants as a table."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from anabook._table import aligned
from anabook._validate import did_you_mean
from anabook.variants.variant import GREEK, Variant


@dataclass(frozen=True)
class VariantTable:
    """Variants as a table: HTML with formulas in a notebook, names and kinds in a terminal.

    Example:
        >>> from anabook.variants import VARIANTS, table
        >>> print(table([VARIANTS["fast_sigmoid"]]))
        fast_sigmoid  finite  mass 0.08
    """

    variants: tuple[Variant, ...]
    columns: tuple[str, ...] = ("density", "kind", "mass", "mean", "std", "levels", "source")
    beside: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return aligned([(v.name, v.kind, f"mass {v.mass:.4g}", *more) for v, more in zip(self.variants, self._more())])

    def _more(self) -> list[list[str]]:
        """For each variant, what stands beside it."""
        return [[str(column[variant.name]) for column in self.beside.values()] for variant in self.variants]

    def _repr_html_(self) -> str:
        own = {
            html.escape(title): [html.escape(str(column[v.name])) for v in self.variants]
            for title, column in self.beside.items()
        }
        titles = dict.fromkeys([*(title if title in COLUMNS else html.escape(title) for title in self.columns), *own])
        columns = {title: own.get(title) or [COLUMNS[title](variant) for variant in self.variants] for title in titles}
        common = {
            title: cells[0] for title, cells in columns.items() if len(set(cells)) == 1 < len(cells) and title not in own
        }
        shown = [title for title in columns if title not in common]
        head = "".join(f'<th scope="col" style="{_CELL}">{title}</th>' for title in ("variant", *shown))
        body = "".join(_row(variant, [columns[title][i] for title in shown]) for i, variant in enumerate(self.variants))
        caption = "; ".join(f"{title} {cell}" for title, cell in common.items())
        note = f'<caption style="caption-side: top">In all rows: {caption}.</caption>' if common else ""
        label = html.escape(f"Variants from {self.variants[0].name} to {self.variants[-1].name}")
        return (
            f'<div class="tex2jax_process" style="overflow-x: auto" tabindex="0" role="region" '
            f'aria-label="{label}">'
            f"<table>{note}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )


def table(
    variants: Iterable[Variant],
    columns: Iterable[str] = VariantTable.columns,
    beside: Mapping[str, Mapping[str, str]] | None = None,
) -> VariantTable:
    """The variants as a `VariantTable`: density, mass, kind, moments and source, all computed or looked up.

    Parameters stay symbols in the density; the numbers are those of the present parameters. What is the same in
    all rows is said once, in the caption.

    Args:
        variants: one row each.
        columns: which of "density", "shape" (the density drawn from −2 to 2, each as high as its own peak), "kind",
            "mass", "kind and mass" in one, "mean", "std", "levels" and "source" the HTML has, in this order.
        beside: more columns by their titles, of the reader's own: a text for the name of each variant. They come last, but
            for those whose titles `columns` has.

    Raises:
        ValueError: no variants, an unknown column, a variant that has no text in a column of one's own.
        TypeError: what is no variant, no title or no mapping.

    Example:
        >>> from anabook.variants import VARIANTS, table
        >>> print(table([VARIANTS["fast_sigmoid"]]))
        fast_sigmoid  finite  mass 0.08
        >>> print(table([VARIANTS["fast_sigmoid"]], beside={"accuracy": {"fast_sigmoid": "90 %"}}))
        fast_sigmoid  finite  mass 0.08  90 %
    """
    if isinstance(variants, Variant) or not isinstance(variants, Iterable):
        raise TypeError(f"variants must be a collection of variants, not {variants!r}.")
    variants = tuple(variants.values() if isinstance(variants, Mapping) else variants)
    for variant in variants:
        if not isinstance(variant, Variant):
            raise TypeError(f"a table is made of variants, such as VARIANTS['atan'], not of {variant!r}.")
    if not variants:
        raise ValueError("a table needs at least one variant, not none.")
    if not isinstance(columns, Iterable):
        raise TypeError(f"columns must be titles, not {columns!r}.")
    columns = (columns,) if isinstance(columns, str) else tuple(dict.fromkeys(map(str, columns)))
    beside = {} if beside is None else beside
    if not isinstance(beside, Mapping) or not all(isinstance(column, Mapping) for column in beside.values()):
        raise TypeError(f"beside must give for each title a mapping from the variants' names to texts, not {beside!r}.")
    beside = {str(title): dict(column) for title, column in beside.items()}
    for title in columns:
        if title not in COLUMNS and title not in beside:
            raise ValueError(
                f"there is no column {title!r}{did_you_mean(str(title), COLUMNS)}; there are {', '.join(COLUMNS)}."
            )
    for title, column in beside.items():
        missing = [variant.name for variant in variants if variant.name not in column]
        if missing:
            raise ValueError(f"the column {title!r} has no text for {', '.join(missing)}.")
    return VariantTable(variants, columns, beside)


_CELL = "text-align: left; padding: 0.3em 0.8em 0.3em 0"


def _row(variant: Variant, cells: list[str]) -> str:
    settings = ", ".join(f"{GREEK.get(name, name)} = {value:g}" for name, value in variant.settings.items())
    name = html.escape(variant.name).replace("_", "_<wbr>")
    if settings:
        name += f'<br><small style="font-weight: normal">{settings}</small>'
    data = "".join(f'<td style="{_CELL}">{cell}</td>' for cell in cells)
    return f'<tr><th scope="row" style="{_CELL}">{name}</th>{data}</tr>'


def _density_cell(variant: Variant) -> str:
    if variant.law == "comb":
        return f"a comb of {len(variant.kinks) // 2} boxes"
    return rf"\({variant.latex()}\)".replace("<", "&lt;").replace(">", "&gt;")


_DRAWN, _WIDTH, _HEIGHT = 2.0, 100, 28


def _shape_cell(variant: Variant) -> str:
    """The density from −2 to 2 as a line, scaled to its own peak, with the place of the threshold."""
    x = np.linspace(-_DRAWN, _DRAWN, 101)
    inside = [kink for kink in variant.kinks if abs(kink) < _DRAWN]
    x = np.unique(np.concatenate([x, inside, np.array(inside) - 1e-9, np.array(inside) + 1e-9]))
    density = np.broadcast_to(variant.pdf(x), x.shape)
    top, bottom = max(density.max(), 0.0), min(density.min(), 0.0)
    across = (x + _DRAWN) / (2 * _DRAWN) * _WIDTH
    down = 1 + (top - density) / (top - bottom) * (_HEIGHT - 2)
    points = [f"{u:.4g},{v:.1f}" for u, v in zip(across, down)]
    heights = [point.partition(",")[2] for point in points]
    # Of a level stretch, its two ends are enough.
    line = " ".join(p for p, *level in zip(points, heights, ["", *heights], [*heights[1:], ""]) if len(set(level)) > 1)
    zero = 1 + top / (top - bottom) * (_HEIGHT - 2)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img" '
        f'aria-label="density of {html.escape(variant.name)}" style="display: block; overflow: visible">'
        f'<path d="M0 {zero:.1f}H{_WIDTH}M{_WIDTH / 2:g} 0V{_HEIGHT}" stroke="currentColor" stroke-opacity="0.35" '
        f'stroke-width="1" fill="none"/><polyline points="{line}" stroke="currentColor" stroke-width="1.5" fill="none"/></svg>'
    )


def _levels_cell(variant: Variant) -> str:
    levels = variant.quantiser.levels
    return "{" + ", ".join(map(_number, levels)) + "}" if len(levels) < 4 else f"{len(levels)} levels"


def _number(value: float) -> str:
    if math.isnan(value):
        return "–"
    return "∞" if math.isinf(value) else f"{value:.4g}".replace("-", "−")


COLUMNS: Mapping[str, Callable[[Variant], str]] = MappingProxyType(
    {
        "density": _density_cell,
        "shape": _shape_cell,
        "kind": lambda variant: variant.kind,
        "kind and mass": lambda variant: f"{variant.kind}<br>mass {_number(variant.mass)}",
        "mass": lambda variant: _number(variant.mass),
        "mean": lambda variant: _number(variant.mean),
        "std": lambda variant: _number(variant.std),
        "levels": _levels_cell,
        "source": lambda variant: variant.reference.text if variant.reference else "–",
    }
)
