"""SymPy on a leash: every call ends, and its own errors stay inside.

SymPy's integrals, limits and simplifications may run for hours, and what they cannot do they report by errors of many
kinds. Here a call gets a number of seconds of the processor; where it needs more, or fails, the caller goes another
way, which is always a numerical one. Both ways agree within a few roundings, so a slow machine changes at most these.

A thread cannot be ended from outside, and signals reach the main thread only. But CPython raises an exception in
another thread when it is asked to: at that thread's next step, so that loops in pure Python, which all of SymPy is, end.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sympy as sp


class _TimeIsUp(BaseException):
    """Not an `Exception`: SymPy must not take it for an error of its own."""


class _Local(threading.local):
    running = False
    deadline: float | None = None


_local = _Local()
_ATTEMPT = 2.0  # seconds for one call, where the caller says nothing else


@contextmanager
def allowance(seconds: float) -> Iterator[None]:
    """All calls of `attempt` inside share so many seconds of this thread's time; when they are spent, none is made."""
    outer, now = _local.deadline, time.thread_time()
    _local.deadline = now + seconds if outer is None else min(outer, now + seconds)
    try:
        yield
    finally:
        _local.deadline = outer


def attempt(function: Callable[..., Any], *arguments: Any, default: Any = None, seconds: float = _ATTEMPT) -> Any:
    """What a function of SymPy's returns, or `default` if it fails or takes longer than that.

    Args:
        function: what to call. It may be ended at any step, so it must leave nothing half done.
        default: the answer that means "not known".
        seconds: of this thread's processor time.
    """
    if _local.running:
        # The call around this one is being watched already.
        try:
            return function(*arguments)
        except Exception:
            return default
    if _local.deadline is not None:
        seconds = min(seconds, _local.deadline - time.thread_time())
        if seconds <= 0:
            return default
    watch = _Watch(seconds)
    _local.running = True
    try:
        try:
            result = function(*arguments)
        except Exception:
            result = default
        watch.end()
        return result
    except _TimeIsUp:
        # Interrupted deductions leave "unknown" behind in what SymPy remembers of its expressions.
        _until_done(watch.end)
        sp.core.cache.clear_cache()
        return default
    finally:
        _until_done(watch.end)
        _local.running = False


def _until_done(step: Callable[[], None]) -> None:
    while True:
        try:
            return step()
        except _TimeIsUp:
            continue


class _Watch:
    """Raises `_TimeIsUp` in the thread that made it, once so much of that thread's processor time has passed."""

    def __init__(self, seconds: float) -> None:
        self._thread = threading.get_ident()
        self._clock = _clock_of(self._thread)
        self._deadline = self._clock() + seconds
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._raised = False
        threading.Thread(target=self._wait, daemon=True).start()

    def end(self) -> None:
        """From here on nothing is raised any more."""
        with self._lock:
            self._ended.set()
        if self._raised:
            # One may be on its way still. Taking it back would leave the interpreter waiting for it, and under a profiler
            # for good; so one more is asked for, in place of that, and awaited.
            try:
                _raise_in(self._thread, _TimeIsUp)
                while True:
                    pass
            except _TimeIsUp:
                self._raised = False

    def _wait(self) -> None:
        while not self._ended.wait(max(self._deadline - self._clock(), 0.05)):
            with self._lock:
                if not self._ended.is_set() and self._clock() >= self._deadline:
                    # Again and again, in case a bare `except` swallows it.
                    self._raised = True
                    _raise_in(self._thread, _TimeIsUp)


def _clock_of(thread: int) -> Callable[[], float]:
    """A thread's processor time; where the system keeps none, the time on the wall."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return time.monotonic
    clock = time.pthread_getcpuclockid(thread)
    return lambda: time.clock_gettime(clock)


def _raise_in(thread: int, kind: type[BaseException]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind))
