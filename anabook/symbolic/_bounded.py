"""SymPy on a leash: every call ends, and its own errors stay inside.

SymPy's integrals, limits and simplifications may run for hours, and what they cannot do they report by errors of many
kinds. Here a call gets a number of steps; where it needs more, or fails, the caller goes another way, which is always a
numerical one.

A step is one call of a function that SymPy caches, which is about everything it does to an expression. Unlike a second
it is the same amount of work on a slow machine and on a busy one, so that all of them print the same forms. Work that
SymPy does without its cache is ended by a number of seconds, which no call comes near that makes its steps.

A thread cannot be ended from outside, and signals reach the main thread only. But CPython raises an exception in
another thread when it is asked to: at that thread's next step, so that loops in pure Python, which all of SymPy is, end.
Where there are no threads, as for Python in a web page, the call is ended from within (`_alone`).
"""

from __future__ import annotations

import ctypes
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sympy.core.cache import CACHE, clear_cache

from anabook.symbolic._alone import Within


class _Ended(BaseException):
    """Not an `Exception`: SymPy must not take it for an error of its own."""


class _Local(threading.local):
    running = False
    deadline: _Deadline | None = None
    until: _Deadline | None = None


_ATTEMPT = 250_000  # steps for one call, where the caller says nothing else
_STEPS_A_SECOND = 5_000  # fewer than any machine makes: 13,000 to 176,000 were measured on one slow machine
_LOOK = 0.05  # seconds between two looks at how far a call has come
_HAS_THREADS = sys.platform not in ("emscripten", "wasi")


class _Steps:
    """How many functions with a cache SymPy has called so far, in all threads; emptied caches do not set it back."""

    def __init__(self) -> None:
        self._lock, self._counted, self._last = threading.Lock(), 0, 0

    def __call__(self) -> int:
        with self._lock:
            total = 0
            for function in CACHE:
                if hasattr(function, "cache_info"):
                    hits, misses, *_ = function.cache_info()
                    total += hits + misses
            self._counted += total - self._last if total >= self._last else total
            self._last = total
            return self._counted


_local, _steps = _Local(), _Steps()


class _Deadline:
    """So many steps from now on, or so much of this thread's processor time as would be far too much for them.

    A caller who has promised an answer by some time gives the seconds until then, too: these pass for everybody.
    """

    def __init__(self, steps: int, seconds: float = math.inf) -> None:
        self._clock = _clock_of(threading.get_ident())
        self._steps, self._seconds = _steps() + steps, self._clock() + steps / _STEPS_A_SECOND
        self._end = time.monotonic() + seconds

    def seconds_left(self) -> float:
        """Of the time that the caller has promised an answer in."""
        return self._end - time.monotonic()

    def left(self) -> int:
        """Steps until then, as far as the time allows them; 0 or less afterwards."""
        seconds = min(self._seconds - self._clock(), self._end - time.monotonic())
        return min(self._steps - _steps(), int(seconds * _STEPS_A_SECOND))


@contextmanager
def allowance(steps: int) -> Iterator[None]:
    """All calls of `attempt` inside share so many steps; when they are spent, none is made."""
    outer, inner = _local.deadline, _Deadline(steps)
    _local.deadline = inner if outer is None or inner.left() < outer.left() else outer
    try:
        yield
    finally:
        _local.deadline = outer


def in_time(function: Callable[..., Any], *arguments: Any, seconds: float) -> Any:
    """What a function returns that makes calls of `attempt`, each with steps of its own; all it does ends after so many seconds.

    What it keeps for later calls must be kept when it is known, and not before: it may be ended at any step.

    Raises:
        TimeoutError: the seconds are over.
    """
    if _local.running or _local.until is not None or math.isinf(seconds):
        return function(*arguments)
    if seconds <= 0:
        raise TimeoutError
    watch = _Watch(sys.maxsize, seconds) if _HAS_THREADS else None
    try:
        _local.until = _Deadline(sys.maxsize, seconds)
        if watch is not None:
            watch.start()
        result = function(*arguments)
        if watch is not None:
            watch.end()
        return result
    except _Ended:
        _until_done(watch.end if watch is not None else lambda: None)
        _steps()
        clear_cache()
        raise TimeoutError from None
    finally:
        try:
            if watch is not None:
                _until_done(watch.end)
        finally:
            _local.until = None


def attempt(
    function: Callable[..., Any],
    *arguments: Any,
    default: Any = None,
    steps: int = _ATTEMPT,
    seconds: float = math.inf,
    failures: type[Exception] | tuple[type[Exception], ...] = Exception,
) -> Any:
    """What a function of SymPy's returns, or `default` if it fails or takes more steps than that.

    Args:
        function: what to call. It may be ended at any step, so it must leave nothing half done.
        default: the answer that means "not known".
        steps: how many are allowed; fewer, where an `allowance` around the call is nearly spent.
        seconds: of time, for a caller who has promised an answer.
        failures: what counts as a failure of the function's; other errors pass through.
    """
    if _local.running:
        # The call around this one is being watched already.
        try:
            return function(*arguments)
        except failures:
            return default
    if _local.deadline is not None:
        steps = min(steps, _local.deadline.left())
    until = _local.until
    if until is not None:
        seconds = min(seconds, until.seconds_left())
        if seconds <= 0:
            raise _Ended
    if steps <= 0 or seconds <= 0:
        return default
    watch = _Watch(steps, seconds) if _HAS_THREADS else Within(_Deadline(steps, seconds).left, _Ended)
    try:
        _local.running = True
        watch.start()
        try:
            result = function(*arguments)
        except failures:
            result = default
        watch.end()
        return result
    except _Ended:
        _until_done(watch.end)
        # Interrupted deductions leave "unknown" behind in what SymPy remembers of its expressions.
        _steps()
        clear_cache()
        if until is not None and until.seconds_left() <= 0:
            raise  # what is around this call is to end as well
        return default
    finally:
        try:
            _until_done(watch.end)
        finally:
            _local.running = False


def _until_done(step: Callable[[], None]) -> None:
    """Make a step that may be made twice, whatever is raised meanwhile; a reader's Ctrl-C goes on when it is made."""
    other: BaseException | None = None
    while True:
        try:
            step()
            break
        except _Ended:
            continue
        except BaseException as error:
            other = error
    if other is not None:
        raise other


class _Watch:
    """Raises `_Ended` in the thread that made it, once so many steps have been made: from `start` on until `end`.

    Whoever starts it must see to it that it is ended, also where an exception comes between any two of its instructions; so
    it is started within the `try` that ends it.
    """

    def __init__(self, steps: int, seconds: float) -> None:
        self._thread = threading.get_ident()
        self._deadline = _Deadline(steps, seconds)
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._raised = False

    def start(self) -> None:
        """Begin to watch."""
        threading.Thread(target=self._wait, daemon=True).start()

    def end(self) -> None:
        """From here on nothing is raised any more."""
        with self._lock:
            self._ended.set()
        if self._raised:
            # One may be on its way still. Taking it back would leave the interpreter waiting for it, and under a profiler
            # for good; so one more is asked for, in place of that, and awaited.
            try:
                _raise_in(self._thread, _Ended)
                while True:
                    pass
            except _Ended:
                self._raised = False

    def _wait(self) -> None:
        while not self._ended.wait(_LOOK):
            with self._lock:
                if not self._ended.is_set() and self._deadline.left() <= 0:
                    # Again and again, in case a bare `except` swallows it.
                    self._raised = True
                    _raise_in(self._thread, _Ended)


def _clock_of(thread: int) -> Callable[[], float]:
    """A thread's processor time; where the system keeps none, the time on the wall."""
    try:
        clock = time.pthread_getcpuclockid(thread)
    except (AttributeError, OSError):
        return time.monotonic
    return lambda: time.clock_gettime(clock)


def _raise_in(thread: int, kind: type[BaseException]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind))
