"""Decisions that end: each in a stated time, and each step of SymPy's within a number of steps.

SymPy's limits and simplifications may run for ever, and so may numbers with very many digits. A decision is made `within` a
number of seconds; inside, `bounded` makes single calls, which are ended when they have made their steps or when the
decision's time is up, whichever is first. Then the question that they were asked stays open: it is never answered by the
clock.

The steps are the same amount of work on every machine, so that a formula gets the same answer everywhere; the seconds are a
backstop. How a call is ended is told in `anabook.symbolic._bounded`: an exception that is raised in its thread. It is no
`Exception`, so nothing takes it for an error of SymPy's; and of SymPy's own errors only those are caught with which it gives
up. What comes from outside, a reader's Ctrl-C or an exception of a timer, passes through.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mpmath
import sympy as sp
from sympy.polys.polyerrors import BasePolynomialError
from sympy.series.gruntz import PoleError

from anabook._validate import real
from anabook.symbolic import _bounded

SECONDS = 20
"""What a decision may take, unless the caller says otherwise."""

GIVES_UP = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BasePolynomialError,
    LookupError,
    NameError,
    NotImplementedError,
    PoleError,
    RecursionError,
    TypeError,
    ValueError,
    mpmath.libmp.NoConvergence,
    sp.SympifyError,
)
"""The errors with which SymPy and mpmath say that they cannot do it."""

_STEPS = 250_000


class _Local(threading.local):
    end: float = math.inf
    seconds: float = math.inf


_local = _Local()


class Late(Exception):
    """The time of the decision is up: raised where an answer would be remembered that more time could better."""


@contextmanager
def within(seconds: Any, what: str = "seconds") -> Iterator[None]:
    """All calls of `bounded` inside share so many seconds; a decision within another one has the earlier end of the two.

    Raises:
        ValueError: not a positive number.
    """
    seconds = real(seconds, what)
    if not seconds > 0:
        raise ValueError(f"{what} must be a positive number, not {seconds!r}.")
    outer = _local.end, _local.seconds
    end = time.monotonic() + seconds
    if end < outer[0]:
        _local.end, _local.seconds = end, seconds
    try:
        yield
    finally:
        _local.end, _local.seconds = outer


def is_late() -> bool:
    """Whether the time of the decision is up."""
    return time.monotonic() >= _local.end


def seconds_allowed() -> float:
    """The seconds of the decision that this thread is making; infinite outside of all."""
    return _local.seconds


def bounded(function: Callable[..., Any], *arguments: Any, default: Any = None, steps: int = _STEPS) -> Any:
    """What a function of SymPy's or mpmath's returns, or `default` if it gives up, or takes more steps or time than it has.

    Example:
        >>> bounded(lambda: 1 / 0, default="not told")
        'not told'
    """
    seconds, precision = _local.end - time.monotonic(), mpmath.mp.prec
    try:
        return _bounded.attempt(function, *arguments, default=default, steps=steps, seconds=seconds, failures=GIVES_UP)
    finally:
        mpmath.mp.prec = precision  # a call that was ended may not have put it back


def in_time(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns that makes calls of `bounded` and others, all of it ended when the decision's time is up.

    Raises:
        TimeoutError: it is up.
    """
    precision = mpmath.mp.prec
    try:
        return _bounded.in_time(function, *arguments, seconds=_local.end - time.monotonic())
    finally:
        mpmath.mp.prec = precision
