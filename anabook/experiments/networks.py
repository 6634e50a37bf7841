"""The network of a config: quantised by noise, or by the straight-through baseline that owes the package nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from anabook import training
from anabook.experiments.config import Config
from anabook.experiments.tasks import Quantisers
from anabook.quantisers import Quantiser
from anabook.training.learned import Learned
from anabook.training.modules import Quantise


def build(config: Config) -> nn.Module:
    """The network of a config, quantised unless it is the float baseline, with weights from torch's global generator.

    Example:
        >>> from anabook.experiments import make
        >>> net = build(make("cifar10", "uniform-mode-static"))
        >>> net(torch.zeros(2, 3, 16, 16)).shape
        torch.Size([2, 10])
    """
    net, network = config.task.build(config.width, config.shrink), config.task.network
    kind = config.quantisation()
    example = None if network.traced else torch.zeros(1, *config.task.shape_at(config.shrink))
    how = {"keep": network.keep, "example": example}
    if kind is None:
        if config.unit == "float":
            return net
        return straight_through(net, network.weights, network.activations, clip=config.unit == "ste", **how)
    return training.quantise(net, network.weights, network.activations, noise=kind[0], strategy=kind[1], **how)


def has_noise(net: nn.Module) -> bool:
    """Whether it has quantisers with noise, so that latent weights are to be drawn near thresholds.

    Example:
        >>> from anabook.experiments import make
        >>> [has_noise(build(make("cifar10", unit))) for unit in ("uniform-mode-static", "float", "ste")]
        [True, False, False]
    """
    return any(isinstance(module, Quantise) for module in net.modules())


class StraightThrough(nn.Module):
    """σ forwards; backwards the identity, from half a quantum below the first threshold to half a quantum above the last.

    Written without noise and without the package's kernels, so that the baseline owes them nothing. With `clip=False`
    the gradient passes everywhere.

    Example:
        >>> ste = StraightThrough(Quantiser.ternary(), clip=True)
        >>> x = torch.tensor([-2.0, 0.3, 0.7], requires_grad=True)
        >>> y = ste(x)
        >>> y.sum().backward()
        >>> y.detach(), x.grad
        (tensor([-1.,  0.,  1.]), tensor([0., 1., 1.]))
    """

    def __init__(self, quantiser: Quantiser, clip: bool) -> None:
        super().__init__()
        thresholds, levels = quantiser.thresholds, quantiser.levels
        half = (levels[1] - levels[0]) / 2
        self.low, self.high = (float(thresholds[0] - half), float(thresholds[-1] + half)) if clip else (-np.inf, np.inf)
        self.register_buffer("levels", torch.tensor(levels, dtype=torch.float32), persistent=False)
        self.register_buffer("thresholds", torch.tensor(thresholds, dtype=torch.float32), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.levels[torch.bucketize(x.detach(), self.thresholds, right=True)]
        passed = torch.clamp(x, self.low, self.high)
        return y + (passed - passed.detach()) if self.training or x.requires_grad else y

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight


def straight_through(net: nn.Module, weights: Quantisers, activations: Quantisers, clip: bool, **how: Any) -> nn.Module:
    """The same conversion as `training.quantise`'s, with `StraightThrough` in place of noise; by default the last layer stays.

    Raises:
        ValueError: learned quanta, which the baseline does not have.

    Example:
        >>> from anabook import models
        >>> seed = torch.manual_seed(0)
        >>> net = straight_through(models.mlp(4, (3,)), Quantiser.ternary(), Quantiser.ternary(), clip=True)
        >>> type(net.fc1_act).__name__
        'StraightThrough'
    """
    net = training.quantise(net, weights, activations, **how)
    training.initialise_near_thresholds(net, torch.initial_seed() % 2**63)
    for name, module in list(net.named_modules()):
        if isinstance(module, Learned):
            raise ValueError(
                f"the straight-through baseline has fixed quanta, and that of {module.name or name!r} is learned: "
                "leave quantum='learned' out."
            )
        if isinstance(module, Quantise):  # of activations and of weights of every kind, with a quantum of its own or without
            net.set_submodule(name, StraightThrough(module.quantiser, clip).train(module.training))
    return net
