"""torch.fx's tracer as this package needs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import fx, nn


class Tracer(fx.Tracer):
    """Reads programs that use modules made in the forward pass, too, such as a slice of a Sequential: what is inside counts."""

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
        """The proxy of a module's output; a module that is no part of the network is gone through."""
        try:
            self.path_of_module(m)
        except NameError:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)
