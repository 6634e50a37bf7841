"""Integer networks: a deployed network without a float between its input and its last layer.

Reading a network needs torch; running, saving and loading do not, and load none of it.
"""

from __future__ import annotations

import importlib
from typing import Any

from anabook.deploy.network import IntegerNetwork

__all__ = ["IntegerNetwork", "check", "compare", "load", "to_integer"]

load = IntegerNetwork.load

_WITH_TORCH = {
    "check": "anabook.deploy.checking",
    "to_integer": "anabook.deploy.reading",
    "compare": "anabook.deploy.comparing",
}


def __getattr__(name: str) -> Any:
    if name in _WITH_TORCH:
        return getattr(importlib.import_module(_WITH_TORCH[name]), name)
    raise AttributeError(f"module 'anabook.deploy' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_WITH_TORCH})
