"""Quantisers where they stand in a network: with a quantum of their own, or one for each place of a shared activation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from anabook.training.modules import Quantise


class Scaled(nn.Module):
    """s·q(x/s): a stochastic quantiser with a quantum of its own, for a layer or for each channel.

    The noise's mean and standard deviation are in units of the quantum, so one schedule serves layers of any scale.

    Args:
        quantise: a `Quantise` for the quantum 1.
        scale: s > 0, a number or a tensor that broadcasts with the input; it is saved with the network.
    """

    scale: Tensor

    def __init__(self, quantise: Quantise, scale: Tensor | float) -> None:
        super().__init__()
        scale = torch.as_tensor(scale, dtype=torch.float32).detach().clone()
        if not (scale.isfinite().all() and (scale > 0).all()):
            raise ValueError(f"scale must be finite and greater than 0 everywhere, not {scale.tolist()}.")
        self.quantise = quantise
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.scale.to(x.dtype)
        return self.quantise(x / scale) * scale

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The latent weight to store when a quantised one is assigned: the value itself."""
        return weight


class PerCall(nn.Module):
    """An activation that its owner calls several times in a forward pass: each call goes to the quantiser of its layer.

    The calls are counted from the beginning of the owner's forward pass (see `Beginning`).

    Args:
        quantisers: `Quantise` or `Scaled` modules, one for each layer.
        which: for each call the index of its quantiser.
    """

    def __init__(self, quantisers: Sequence[nn.Module], which: Sequence[int]) -> None:
        super().__init__()
        self.quantisers = nn.ModuleList(quantisers)
        self.which = tuple(which)
        self.call = 0

    def forward(self, x: Tensor) -> Tensor:
        if self.call >= len(self.which):
            raise RuntimeError(
                f"an activation that was called {len(self.which)} times in a forward pass when the network was quantised is "
                f"called once more: give each layer its own activation module (or checkpoint whole blocks, not parts)."
            )
        quantiser = self.quantisers[self.which[self.call]]
        self.call += 1
        return quantiser(x)

    def extra_repr(self) -> str:
        return f"which={self.which}"


class Beginning:
    """A forward pre-hook of the module that owns a `PerCall`: its calls are counted from here.

    Args:
        child: the owner's name for it.
    """

    def __init__(self, child: str) -> None:
        self.child = child

    def __call__(self, owner: nn.Module, inputs: Any) -> None:
        getattr(owner, self.child).call = 0
