"""Arguments of public functions: misspelt names get a hint, values in messages stay short."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np
from torch import Tensor

from anabook._validate import nearest

P = ParamSpec("P")
R = TypeVar("R")

_ELSEWHERE = {
    "optimizer": "optimiser",
    "opt": "optimiser",
    "optim": "optimiser",
    "initialize": "initialise",
    "learning_rate": "lr",
    "criterion": "loss",
    "loss_fn": "loss",
    "loss_function": "loss",
    "callbacks": "callback",
    "val": "test",
    "validation": "test",
    "validation_data": "test",
    "lr_scheduler": "scheduler",
    "amp": "precision",
    "dtype": "precision",
    "random_state": "seed",
    "verbose": "progress",
    "num_epochs": "epochs",
    "n_epochs": "epochs",
    "resume": "checkpoint",
}
"""What other libraries call the arguments, American spellings among them.

They are not among `SYNONYMS`, whose words stand for values: there "validation" is a name itself, here it means `test`.
"""


def spelt(function: Callable[P, R]) -> Callable[P, R]:
    """The function, which answers a keyword that it does not have with one sentence and the nearest name."""
    allowed = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in allowed:
                near = [_ELSEWHERE[name]] if _ELSEWHERE.get(name) in allowed else nearest(name, allowed)
                hint = f" Did you mean {near[0]!r}?" if near else f" There are {', '.join(allowed)}."
                raise TypeError(f"{function.__name__} has no argument {name!r}.{hint}")
        return function(*args, **kwargs)

    return checked


def brief(value: Any) -> str:
    """A value for a message: arrays by type and shape, anything else by a text of at most 80 characters."""
    if isinstance(value, (Tensor, np.ndarray)):
        return f"{_a(type(value).__name__)} of shape {tuple(value.shape)}"
    parts = value.values() if isinstance(value, dict) else value
    if isinstance(value, (tuple, list, dict)) and any(isinstance(v, (Tensor, np.ndarray)) for v in parts):
        return f"{_a(type(value).__name__)} of {len(value)} arrays"
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{_a(type(value).__name__)} {text[:60]}…"


def _a(name: str) -> str:
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
