"""Recurrent layers with parametrised weights: torch's own keep a list of their weights, which has to follow."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.utils import parametrize


def follow_parametrisations(layer: nn.Module) -> None:
    """Let a recurrent layer of torch's compute with what its parametrisations give; other modules do so by themselves.

    An `nn.LSTM` hands the list `_flat_weights` to its kernel, and fills it when a parameter is set. Here each forward pass
    asks the parametrisations once, so that it has the weights of that pass; at all other times the list has the latent
    weights, which can be copied and moved as what parametrisations give, no leaf of autograd's graph, cannot.

    Example:
        >>> import torch
        >>> lstm = nn.LSTM(2, 3)
        >>> _ = parametrize.register_parametrization(lstm, "weight_ih_l0", nn.Hardtanh(0.0, 1e-9))
        >>> follow_parametrisations(lstm)
        >>> one, other = (lstm(x)[0].detach() for x in (torch.zeros(5, 2), torch.ones(5, 2)))
        >>> torch.allclose(one, other)
        True
    """
    if not isinstance(layer, nn.RNNBase) or not parametrize.is_parametrized(layer):
        return
    # A parametrised module has a class of its own, which goes when the last parametrisation does.
    own: Any = type(layer)
    if "_flat_weights" in vars(own):
        return
    plain = own.__bases__[0]

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        self._in_this_pass = [getattr(self, name) for name in self._flat_weights_names]
        try:
            return plain.forward(self, *args, **kwargs)
        finally:
            self._in_this_pass = None

    vars(layer).pop("_flat_weights", None)
    own.forward = forward
    own._in_this_pass = None
    own._flat_weights = property(_weights, lambda self, weights: None)
    own._weights_have_changed = lambda self: False


def _weights(layer: Any) -> list[Any]:
    """Those of the present pass; between passes the parameters behind them."""
    if layer._in_this_pass is not None:
        return layer._in_this_pass
    changed = layer.parametrizations if parametrize.is_parametrized(layer) else {}
    return [changed[name].original if name in changed else getattr(layer, name) for name in layer._flat_weights_names]
