"""`IPython.display`, as far as a page can show it."""

from IPython.core.display import HTML, SVG, DisplayObject, Latex, Markdown, Math
from live_kernel import display

__all__ = ["HTML", "SVG", "DisplayObject", "Latex", "Markdown", "Math", "display"]
