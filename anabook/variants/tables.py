"""Variants as a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from anabook.variants.variant import GREEK, Variant


@dataclass(frozen=True)
class Table:
    """Variants as a table: HTML with formulas in a notebook, names and kinds in a terminal.

    Example:
        >>> from anabook.variants import VARIANTS, table
        >>> print(table([VARIANTS["fast_sigmoid"]]))
        fast_sigmoid             finite       mass 0.08
    """

    variants: tuple[Variant, ...]

    def __repr__(self) -> str:
        return "\n".join(f"{v.name:24} {v.kind:12} mass {v.mass:.4g}" for v in self.variants)

    def _repr_html_(self) -> str:
        columns = {title: [cell(variant) for variant in self.variants] for title, cell in _COLUMNS.items()}
        common = {title: cells[0] for title, cells in columns.items() if len(set(cells)) == 1 < len(cells)}
        shown = [title for title in columns if title not in common]
        head = "".join(f'<th scope="col" style="{_CELL}">{title}</th>' for title in ("variant", *shown))
        body = "".join(_row(variant, [columns[title][i] for title in shown]) for i, variant in enumerate(self.variants))
        caption = "; ".join(f"{title} {cell}" for title, cell in common.items())
        note = f'<caption style="caption-side: top">In all rows: {caption}.</caption>' if common else ""
        label = f"Variants from {self.variants[0].name} to {self.variants[-1].name}"
        return (
            f'<div class="tex2jax_process" style="overflow-x: auto" tabindex="0" role="region" '
            f'aria-label="{label}">'
            f"<table>{note}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )


def table(variants: Iterable[Variant]) -> Table:
    """The variants as a `Table`: density, mass, kind, moments and source, all computed or looked up.

    Parameters stay symbols in the density; the numbers are those of the present parameters. What is the same in
    all rows is said once, in the caption.

    Raises:
        ValueError: no variants.

    Example:
        >>> from anabook.variants import VARIANTS, table
        >>> print(table([VARIANTS["fast_sigmoid"]]))
        fast_sigmoid             finite       mass 0.08
    """
    variants = tuple(variants)
    if not variants:
        raise ValueError("a table needs at least one variant, not none.")
    return Table(variants)


_CELL = "text-align: left; padding: 0.3em 0.8em 0.3em 0"


def _row(variant: Variant, cells: list[str]) -> str:
    settings = ", ".join(f"{GREEK.get(name, name)} = {value:g}" for name, value in variant.settings.items())
    name = variant.name.replace("_", "_<wbr>")
    if settings:
        name += f'<br><small style="font-weight: normal">{settings}</small>'
    data = "".join(f'<td style="{_CELL}">{cell}</td>' for cell in cells)
    return f'<tr><th scope="row" style="{_CELL}">{name}</th>{data}</tr>'


def _density_cell(variant: Variant) -> str:
    if variant.law == "comb":
        return f"a comb of {len(variant.kinks) // 2} boxes"
    return rf"\({variant.latex()}\)".replace("<", "&lt;").replace(">", "&gt;")


def _levels_cell(variant: Variant) -> str:
    levels = variant.quantiser.levels
    return "{" + ", ".join(map(_number, levels)) + "}" if len(levels) < 4 else f"{len(levels)} levels"


def _number(value: float) -> str:
    if math.isnan(value):
        return "–"
    return "∞" if math.isinf(value) else f"{value:.4g}".replace("-", "−")


_COLUMNS: Mapping[str, Callable[[Variant], str]] = MappingProxyType(
    {
        "density": _density_cell,
        "kind": lambda variant: variant.kind,
        "mass": lambda variant: _number(variant.mass),
        "mean": lambda variant: _number(variant.mean),
        "std": lambda variant: _number(variant.std),
        "levels": _levels_cell,
        "source": lambda variant: variant.reference.text if variant.reference else "–",
    }
)
