"""What chapters use of IPython, for Python in the page: `display` and what it shows. The rest of IPython is not here."""

from __future__ import annotations

version_info = (9, 0, 0, "")
"""The version whose behaviour this follows: matplotlib asks for it."""


def get_ipython() -> None:
    """None, as where IPython does not run."""
