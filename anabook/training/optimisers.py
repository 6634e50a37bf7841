"""The optimiser and the learning rates of a run: made, or refused in a sentence."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler

from anabook._validate import real, reason
from anabook.training._arguments import brief


def check_makers(optimiser: Any, scheduler: Any, lr: Any) -> None:
    """Refuse optimisers and schedulers that are made already, where something is wanted that makes them."""
    if isinstance(optimiser, torch.optim.Optimizer) or not callable(optimiser):
        raise TypeError(
            "optimiser must be a class or a function of the parameters and lr=…, such as torch.optim.SGD or "
            f"functools.partial(torch.optim.SGD, momentum=0.9), not {_made(optimiser)}."
        )
    if scheduler is not None and (hasattr(scheduler, "optimizer") or not callable(scheduler)):
        raise TypeError(
            "scheduler must be a function of the optimiser, such as functools.partial(torch.optim."
            f"lr_scheduler.StepLR, step_size=10), not {_made(scheduler)}."
        )
    if scheduler is not None and callable(lr):
        raise ValueError("lr must be a number where a scheduler is given, not a function of the epoch.")


def _made(value: Any) -> str:
    of_torch = isinstance(value, torch.optim.Optimizer) or hasattr(value, "optimizer")
    return f"a {type(value).__name__} that is made already" if of_torch else brief(value)


def make_optimiser(optimiser: Callable[..., Any], net: nn.Module, lr: float) -> torch.optim.Optimizer:
    """The optimiser of all parameters that are trained, if it is one that takes a step at a time."""
    parameters = [p for p in net.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError(f"this {type(net).__name__} has no parameter that requires a gradient: there is nothing to train.")
    if not _takes(optimiser, parameters, lr=lr):
        raise TypeError(
            f"optimiser is called with the parameters and lr=…, which {_name(optimiser)} does not take: give a "
            "class, or for example lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.9)."
        )
    step = optimiser(parameters, lr=lr)
    if not isinstance(step, torch.optim.Optimizer):
        raise TypeError(f"optimiser must give one of torch's optimisers, not {brief(step)}.")
    closure = inspect.signature(step.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ValueError(
            f"{type(step).__name__} computes the loss several times in a step, which fit does not do: "
            "choose another optimiser."
        )
    return step


def make_scheduler(scheduler: Callable[..., Any], step: torch.optim.Optimizer, steps: int | None) -> Any:
    """The scheduler of the optimiser's learning rates.

    Args:
        scheduler: what makes it of the optimiser.
        step: the optimiser.
        steps: how many the scheduler is to take; None where that is not known.
    """
    if not _takes(scheduler, step):
        settings = [f"{name}=…" for name in _missing(scheduler, step)]
        settings += [f"{name}={value!r}" for name, value in getattr(scheduler, "keywords", {}).items()]
        name = _name(scheduler)
        if not settings:  # no argument is missing, there is one too many
            name, settings = "torch.optim.lr_scheduler.StepLR", ["step_size=…"]
        raise TypeError(
            f"scheduler is called with the optimiser alone, which {_name(scheduler)} does not allow: give "
            f"lambda optimiser: {name}(optimiser, {', '.join(settings)})."
        )
    made = scheduler(step)
    if not hasattr(made, "step"):
        raise TypeError(f"scheduler must give one of torch's learning-rate schedulers, not {brief(made)}.")
    if isinstance(made, lr_scheduler.OneCycleLR) and steps is not None and steps > made.total_steps:
        raise ValueError(
            f"the OneCycleLR ends after {made.total_steps} steps, and this run has {steps}: give it "
            f"total_steps={steps} from the beginning, as a cycle that has begun cannot be prolonged."
        )
    return made


def step_scheduler(scheduler: Any, loss: float | Tensor) -> None:
    """One step of the scheduler, which is told the training loss if it asks for it."""
    told = [float(loss)] if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau) else []
    try:
        scheduler.step(*told)
    except ValueError as error:
        raise ValueError(
            f"the {type(scheduler).__name__} cannot take another step ({reason(error).rstrip('.')}): let it "
            "have as many as the run."
        ) from error


def _takes(function: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
    """Whether a function can be called so, as far as its signature says."""
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        return False
    except ValueError:  # it has none, or is a partial with arguments that are not its own
        return True
    return True


def _missing(function: Callable[..., Any], *args: Any) -> list[str]:
    """The names of arguments that a call with these alone would lack."""
    signature = inspect.signature(function)
    try:
        given = signature.bind_partial(*args).arguments
    except TypeError:
        return []
    return [
        name
        for name, p in signature.parameters.items()
        if name not in given and p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]


def _name(function: Any) -> str:
    function = function.func if isinstance(function, functools.partial) else function
    return str(getattr(function, "__name__", type(function).__name__)).replace("<lambda>", "this lambda")


def rate_in(rate: Callable[[int], float], epoch: int) -> float:
    """The learning rate of an epoch, if it is one."""
    return real(rate(epoch), "lr", minimum=0.0)
