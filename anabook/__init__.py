"""anabook: quantisers, noise and the regularisations that come of them; the package of the book of that name.

`import anabook` brings the numerical core, which needs NumPy and SciPy only.
The submodules load when they are first used: `symbolic` and `convergence` bring SymPy, `plots` brings
matplotlib, `training` brings torch.
"""

from __future__ import annotations

import importlib
from typing import Any

from anabook.noise import Noise
from anabook.quantisers import Quantiser
from anabook.regularisation import Regularisation
from anabook.schedules import Schedule

__version__ = "0.1.0"

__all__ = ["Noise", "Quantiser", "Regularisation", "Schedule"]

_SUBMODULES = (
    "check",
    "convergence",
    "datasets",
    "deploy",
    "experiments",
    "laws",
    "models",
    "namespaces",
    "noise",
    "plots",
    "quantisers",
    "regularisation",
    "schedules",
    "symbolic",
    "training",
    "variants",
)


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"anabook.{name}")
    raise AttributeError(f"module 'anabook' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBMODULES})
