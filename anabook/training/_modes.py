"""What torch has switched on around a call, and how to make constants as if nothing were.

`torch.func`, `FakeTensorMode`, `inference_mode` and tracers change what any call of torch gives back. A constant made
under one of them is wrapped, fake or unfit for training, and must not outlive it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.autograd import forward_ad

_Made = TypeVar("_Made")


def transforming() -> bool:
    """Whether something watches, traces or transforms what torch computes on this thread."""
    return (
        torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._get_tracing_state() is not None
    )


def rewriting() -> bool:
    """Whether something changes what torch computes on this thread, or writes a program of it, and does not only watch."""
    keys = torch._C._TorchDispatchModeKey
    return (
        torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._get_tracing_state() is not None
        or any(torch._C._get_dispatch_mode(key) is not None for key in (keys.FAKE, keys.PROXY, keys.FUNCTIONAL))
    )


def forward_mode() -> bool:
    """Whether derivatives may be computed along with values: within `torch.func.jvp` or a level of dual numbers."""
    return forward_ad._current_level >= 0


def undisturbed(make: Callable[[], _Made]) -> _Made:
    """What `make` returns where no mode of torch is on.

    Modes belong to a thread each, so where one is on, another thread does the work: this needs none of their names.
    """
    if not (transforming() or torch.is_inference_mode_enabled()):
        return make()
    made: list[Any] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            made.append(make())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]
