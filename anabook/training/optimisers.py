"""The optimiser and the learning rates of a run: made, or refused in a sentence."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from anabook._validate import real
from anabook.training._arguments import brief


def check_makers(optimiser: Any, scheduler: Any, lr: Any) -> None:
    """Refuse optimisers and schedulers that are made already, where something is wanted that makes them."""
    if isinstance(optimiser, torch.optim.Optimizer) or not callable(optimiser):
        raise TypeError("optimiser must be a class or a function of the parameters and lr=…, such as torch.optim.SGD or "
                        f"functools.partial(torch.optim.SGD, momentum=0.9), not {_made(optimiser)}.")
    if scheduler is not None and (hasattr(scheduler, "optimizer") or not callable(scheduler)):
        raise TypeError("scheduler must be a function of the optimiser, such as functools.partial(torch.optim."
                        f"lr_scheduler.StepLR, step_size=10), not {_made(scheduler)}.")
    if scheduler is not None and callable(lr):
        raise ValueError("lr must be a number where a scheduler is given, not a function of the epoch.")


def _made(value: Any) -> str:
    of_torch = isinstance(value, torch.optim.Optimizer) or hasattr(value, "optimizer")
    return f"a {type(value).__name__} that is made already" if of_torch else brief(value)


def make_optimiser(optimiser: Callable[..., Any], net: nn.Module, lr: float) -> torch.optim.Optimizer:
    parameters = [p for p in net.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError(f"this {type(net).__name__} has no parameter that requires a gradient: there is nothing to train.")
    step = optimiser(parameters, lr=lr)
    if not isinstance(step, torch.optim.Optimizer):
        raise TypeError(f"optimiser must give one of torch's optimisers, not {brief(step)}.")
    closure = inspect.signature(step.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ValueError(f"{type(step).__name__} computes the loss several times in a step, which fit does not do: "
                         "choose another optimiser.")
    return step


def rate_in(rate: Callable[[int], float], epoch: int) -> float:
    return real(rate(epoch), "lr", minimum=0.0)
