"""A quantiser with a quantum of its own, for a layer or for each channel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Scaled(nn.Module):
    """s·q(x/s): a stochastic quantiser with a quantum of its own, for a layer or for each channel.

    The noise's mean and standard deviation are in units of the quantum, so one schedule serves layers of any scale.

    Args:
        quantise: a `Quantise` for the quantum 1.
        scale: s > 0, a number or a tensor that broadcasts with the input; it is saved with the network.

    Example:
        >>> from anabook import Quantiser
        >>> from anabook.training import Quantise
        >>> act = Scaled(Quantise(Quantiser.ternary()), scale=0.5).eval()
        >>> act(torch.tensor([-0.3, 0.2, 0.9]))
        tensor([-0.5000,  0.0000,  0.5000])
    """

    scale: Tensor

    def __init__(self, quantise: nn.Module, scale: Tensor | float) -> None:
        super().__init__()
        self.quantise = quantise
        self.register_buffer("scale", checked_scale(scale))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.scale.to(x.dtype)
        return self.quantise(x / scale) * scale

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The latent weight to store when a quantised one is assigned: the value itself."""
        return weight


def quantiser_in(module: Any) -> Any:
    """The `Quantise` of a step: itself, or the one that a quantum of its own is around.

    Example:
        >>> from anabook import Quantiser
        >>> from anabook.training import Quantise
        >>> step = Quantise(Quantiser.ternary())
        >>> quantiser_in(Scaled(step, 0.5)) is quantiser_in(step) is step
        True
    """
    return module.quantise if isinstance(module, Scaled) else module


def checked_scale(scale: Any, dtype: torch.dtype = torch.float32) -> Tensor:
    """A copy of the scale as a tensor.

    Raises:
        TypeError: no numbers.
        ValueError: not finite, or not greater than 0.
    """
    try:
        scale = torch.as_tensor(scale, dtype=dtype).detach().clone()
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"scale must be a number or a tensor of numbers, not {scale!r}.") from None
    if not (scale.isfinite().all() and (scale > 0).all()):
        raise ValueError(f"scale must be finite and greater than 0 everywhere, not {scale.tolist()}.")
    return scale
