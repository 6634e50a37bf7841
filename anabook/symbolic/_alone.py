"""Ends a call from within its own thread, where there is no other: Python in a web page has none.

The interpreter tells, each time when a function written in Python begins, and every so many times it is asked how far the
call has come. That costs a quarter more time (Python 3.12 or later; older ones take twice the time), so threads are used
wherever there are some.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

_TOOL = 4  # of the six names for tools in Python 3.12 and later one that no kind of tool has reserved
_EVERY = 256  # functions begun between two looks


class Within:
    """Raises an exception in the running call once its steps are spent: from `start` on until `end`.

    Example:
        >>> class TooLong(BaseException):
        ...     pass
        >>> watch = Within(lambda: 0, TooLong)
        >>> watch.start()
        >>> try:
        ...     while True:
        ...         str.join("", sorted(map(lambda c: c, "cab")))
        ... except TooLong:
        ...     watch.end()
        ...     print("ended")
        ended
    """

    def __init__(self, left: Callable[[], int], kind: type[BaseException]) -> None:
        self._left, self._kind = left, kind
        self._begun, self._late, self._before = 0, False, None

    def start(self) -> None:
        """Begin to watch."""
        if hasattr(sys, "monitoring"):
            sys.monitoring.use_tool_id(_TOOL, "anabook")
            sys.monitoring.register_callback(_TOOL, sys.monitoring.events.PY_START, self._look)
            sys.monitoring.set_events(_TOOL, sys.monitoring.events.PY_START)
        else:
            self._before = sys.gettrace()
            sys.settrace(self._look)

    def end(self) -> None:
        """From here on nothing is raised any more; it may be asked for twice."""
        if hasattr(sys, "monitoring"):
            if sys.monitoring.get_tool(_TOOL) == "anabook":
                sys.monitoring.set_events(_TOOL, 0)
                sys.monitoring.free_tool_id(_TOOL)
        else:
            sys.settrace(self._before)

    def _look(self, *_: Any) -> None:
        self._begun += 1
        # Once it is late, again at every function, in case a bare `except` has swallowed the exception.
        if self._late or self._begun % _EVERY == 0:
            self._late = self._late or self._left() <= 0
            if self._late:
                raise self._kind
