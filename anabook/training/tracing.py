"""torch.fx's tracer as this package needs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import fx, nn


class CannotRewrite(ValueError):
    """A module whose program cannot be read, or not be put back; the message is the reason."""


def called_name(node: fx.Node) -> str:
    """The name of what a node calls or reads: a function's own name, a method's, a module's or an attribute's.

    Example:
        >>> import torch
        >>> class Sum(nn.Module):
        ...     def forward(self, x):
        ...         return torch.relu(x).sum()
        >>> [called_name(node) for node in Tracer().trace(Sum()).nodes]
        ['x', 'relu', 'sum', 'output']
    """
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


class Tracer(fx.Tracer):
    """Reads programs that use modules made in the forward pass, too, such as a slice of a Sequential: what is inside counts."""

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
        """The proxy of a module's output; a module that is no part of the network is gone through."""
        try:
            self.path_of_module(m)
        except NameError:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)
