"""Theorem 2: when a network of regularised layers converges to its quantised self.

`conditions` decides the theorem's hypothesis from formulas in λ and says why; `networks` computes the
networks themselves, exactly and in the tails. Every public name of both can be used from here, as in
`ab.convergence.check(...)`; each module loads when one of its names is first used.
"""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = ("conditions", "networks")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if not name.startswith("_"):
        for module in map(importlib.import_module, (f"{__name__}.{part}" for part in _MODULES)):
            if name in module.__all__:
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    public = (importlib.import_module(f"{__name__}.{part}").__all__ for part in _MODULES)
    return sorted({*globals(), *_MODULES, *(name for names in public for name in names)})
