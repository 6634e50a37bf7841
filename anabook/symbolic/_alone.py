"""Ends a call from within its own thread, where there is no other: Python in a web page has none.

The interpreter tells whenever a function written in Python begins (`sys.monitoring`, Python 3.12 or later), and every so many
times it is asked how far the call has come. That costs a quarter more time, so threads are used wherever there are some.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import CodeType
from typing import Any

_TOOL = 4  # of the six numbers for tools one that no kind of tool has reserved
_EVERY = 256  # functions begun between two looks
_monitoring: Any = getattr(sys, "monitoring", None)
_HERE = os.path.dirname(__file__)


class Within:
    """Raises an exception in the running call once its steps are spent: from `start` on until `end`.

    Functions of this folder begin undisturbed, so that whoever catches the exception can call `end`.
    """

    def __init__(self, left: Callable[[], int], kind: type[BaseException]) -> None:
        self._left, self._kind = left, kind
        self._begun, self._late = 0, False

    def start(self) -> None:
        """Begin to watch."""
        _monitoring.use_tool_id(_TOOL, "anabook")
        _monitoring.register_callback(_TOOL, _monitoring.events.PY_START, self._look)
        _monitoring.set_events(_TOOL, _monitoring.events.PY_START)

    def end(self) -> None:
        """From here on nothing is raised any more; it may be called twice."""
        if _monitoring.get_tool(_TOOL) == "anabook":
            _monitoring.set_events(_TOOL, 0)
            _monitoring.free_tool_id(_TOOL)

    def _look(self, code: CodeType, offset: int) -> None:
        self._begun += 1
        # Once it is late, again at every function, in case a bare `except` has swallowed the exception.
        if self._late or self._begun % _EVERY == 0:
            self._late = self._late or self._left() <= 0
            if self._late and not code.co_filename.startswith(_HERE):
                raise self._kind
