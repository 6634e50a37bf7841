"""`IPython.display`, as far as a page can show it."""

from live_kernel import display

from IPython.core.display import HTML, SVG, DisplayObject, Latex, Markdown, Math

__all__ = ["HTML", "SVG", "DisplayObject", "Latex", "Markdown", "Math", "display"]
