"""Trained networks that come with the book: chapter 0's for digits, and those of two recorded runs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from anabook import deploy, training
from anabook._validate import choice
from anabook.experiments import exports, shipped, weights
from anabook.experiments.config import make
from anabook.quantisers import Quantiser

CONFIGS = {
    "cifar10": make("cifar10", "uniform-mode-static", fold=None),
    "gsc12": make("gsc12", "uniform-mode-partition-progressive", fold=0),
}
"""Of the runs that the networks for pictures and speech are from; data/README.md says how they were made."""

MEAN_AND_STD = {"cifar10": (120.949948828125, 61.905194754993154), "gsc12": (124.78856829688397, 13.377810035971759)}
"""Of the inputs that the two runs trained on, as `anabook export` takes them."""

NAMES = ("digits", *CONFIGS)

DIGITS = {"period": 20, "epochs": 75, "drop": 60, "batch_size": 64, "lr": 1e-2}
"""How chapter 0 trains its network: epochs for a layer and in all, the one from which the rate is a tenth, examples at a time."""


@dataclass(frozen=True)
class Stored:
    """A deployed network, and what its integers stand for.

    Attributes:
        net: as `training.deploy` gives it, on the CPU.
        shape: of one example.
        mean, std: the network takes (z − mean) / std for integers z.
        bounds: the least and the greatest z.

    Example:
        >>> found = stored("digits")
        >>> found.shape, found.bounds, found.integers.steps[1].weights.shape
        ((8, 8), (0, 16), (128, 64))
    """

    net: nn.Module
    shape: tuple[int, ...]
    mean: float
    std: float
    bounds: tuple[int, int]

    @property
    def integers(self) -> deploy.IntegerNetwork:
        """The integer network, converted anew."""
        example = torch.zeros(1, *self.shape, dtype=torch.int32)
        return deploy.to_integer(self.net, example, mean=self.mean, std=self.std, bounds=self.bounds)


def stored(name: str) -> Stored:
    """One of the trained networks that come with the book.

    Args:
        name: "digits", chapter 0's network for 8×8 digits, ternary in all layers, made by `python tools/digit_figure.py
            --train`; "cifar10", the VGG of the run `uniform-mode-static` on the scaled task, measured on the test set;
            "gsc12", the speech network of the run `uniform-mode-partition-progressive`, fold 0.

    Raises:
        ValueError: another name.
        FileNotFoundError: this copy of the package came without them.

    Example:
        >>> len(stored("gsc12").integers.layers)
        21
    """
    name = choice(name, NAMES, "name")
    if name == "digits":
        net = digits_network()
        weights.read_state(shipped.path("weights/digits.npz"), net)
        return Stored(net.eval(), (8, 8), 0.0, 16.0, (0, 16))
    config = CONFIGS[name]
    given = exports.integers(config, *MEAN_AND_STD[name])
    net = weights.load(config, shipped.path(f"weights/{config.key}.npz").parent)
    return Stored(net, given.shape, given.mean, given.std, (0, given.high))


def digits_network() -> nn.Module:
    """Chapter 0's network, quantised and deployed, with weights that are still to come.

    Example:
        >>> digits_network()[1].weight.shape
        torch.Size([128, 64])
    """
    return training.deploy(digits_in_training())


def digits_in_float(width: int = 128) -> nn.Sequential:
    """Chapter 0's network without quantisers, with weights from torch's global generator.

    Example:
        >>> digits_in_float()(torch.zeros(2, 8, 8)).shape
        torch.Size([2, 10])
    """
    return nn.Sequential(
        nn.Flatten(),
        *(nn.Linear(64, width, bias=False), nn.BatchNorm1d(width), nn.Tanh()),
        *(nn.Linear(width, width, bias=False), nn.BatchNorm1d(width), nn.Tanh()),
        *(nn.Linear(width, 10, bias=False), nn.BatchNorm1d(10)),
    )


def digits_in_training() -> nn.Module:
    """Chapter 0's network as it is trained: with latent weights and noise.

    Example:
        >>> len(training.layers(digits_in_training()))
        3
    """
    ternary = Quantiser.ternary()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return training.quantise(digits_in_float(), weights=ternary, activations=ternary, noise="uniform", keep=())
