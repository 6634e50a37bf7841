"""Texts of one kind, which know how they are to be shown."""

from __future__ import annotations

from typing import Any


class DisplayObject:
    """A text of a kind that a page can show."""

    kind = "text/plain"

    def __init__(self, data: str) -> None:
        self.data = data

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__qualname__} object>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {self.kind: self.data}


class HTML(DisplayObject):
    """Hypertext."""

    kind = "text/html"


class Latex(DisplayObject):
    """LaTeX with its dollars."""

    kind = "text/latex"


class Math(Latex):
    """A formula without its dollars."""

    def __init__(self, data: str) -> None:
        super().__init__(rf"$\displaystyle {data.strip('$')}$")


class Markdown(DisplayObject):
    """Markdown: paragraphs, emphasis, code and formulas."""

    kind = "text/markdown"


class SVG(DisplayObject):
    """A drawing."""

    kind = "image/svg+xml"
