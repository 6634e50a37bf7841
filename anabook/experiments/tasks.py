"""The tasks: one row for each network and one for each data set that experiments can be run on.

To add a data set is to add its row here; what puts it into the store is its recipe in `anabook.datasets.recipes`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from anabook.quantisers import Quantiser

if TYPE_CHECKING:
    from torch import nn

Quantisers = Quantiser | Mapping[str, Quantiser | None] | None
"""What `training.quantise` takes for weights, and for activations."""

SIZES: dict[str, str] = {
    "paper": "as in the paper's experiments; where the paper prints no number, as in its authors' code",
    "scaled": "for a machine with few cores",
}
"""The named sizes; what each means for a data set is said in its row of `TASKS`."""


@dataclass(frozen=True)
class Network:
    """A network of the experiments.

    Attributes:
        name: short.
        n_layers: how many of its layers are quantised.
        quantum: of weights and features.
        weights, activations: the quantisers.
        build: (width, shape of one input, number of classes) → the network in float; needs torch.
        shrinks: by what its inputs may be made smaller.
        keep: what of it stays in float, as `training.quantise` takes it.
        turns: the turn of each layer in a schedule; none where each has one of its own.
        traced: whether the order of its layers can be read off its program, so that no example is needed.

    Example:
        >>> NETWORKS["dscnn"].n_layers
        9
    """

    name: str
    n_layers: int
    quantum: float
    weights: Quantisers
    activations: Quantisers
    build: Callable[[float, tuple[int, ...], int], nn.Module]
    shrinks: tuple[int, ...] = (1,)
    keep: tuple[str, ...] = ("last",)
    turns: tuple[int, ...] = ()
    traced: bool = True

    @property
    def n_turns(self) -> int:
        """How many turns its layers take in a schedule."""
        return max(self.turns) + 1 if self.turns else self.n_layers


@dataclass(frozen=True)
class Task:
    """A data set with all that experiments on it depend on.

    Attributes:
        name: in the store.
        network: that is trained on it.
        classes: how many.
        shape: of one input.
        augmentation: what suits it, a key of `datasets.store.AUGMENTATIONS`.
        sizes: what each of `SIZES` means: width, shrink, n_train, period, batch_size, lr (see `Config`), augmentation
            where a size needs another one, and unused where one has examples to spare.
        all_noises_drawn: whether the paper's figures show all noises under expectation, or the uniform one only.
        stands_for: the data set in whose place a stand-in is; None for the others.

    Example:
        >>> TASKS["svhn"].shape, TASKS["svhn"].augmentation
        ((3, 32, 32), 'crop')
    """

    name: str
    network: Network
    classes: int
    shape: tuple[int, ...]
    augmentation: str
    sizes: Mapping[str, Mapping[str, Any]]
    all_noises_drawn: bool = False
    stands_for: str | None = None

    @property
    def original(self) -> str:
        """The data set that claims are about: the one that a stand-in stands for, else its own name."""
        return self.stands_for or self.name

    def size(self, name: str) -> dict[str, Any]:
        """The settings of a named size."""
        return {"augmentation": self.augmentation, **self.sizes[name]}

    def shape_at(self, shrink: int) -> tuple[int, ...]:
        """The shape of one input made smaller by `shrink`."""
        channels, *sides = self.shape
        return channels, *(side // shrink for side in sides)

    def build(self, width: float, shrink: int) -> nn.Module:
        """The network in float, for inputs made smaller by `shrink`, with weights from torch's global generator."""
        return self.network.build(width, self.shape_at(shrink), self.classes)

    def stand_in(self, name: str) -> Task:
        """The row of a stand-in: the same in everything but its name."""
        return replace(self, name=name, stands_for=self.name)


def _vgg(width: float, shape: tuple[int, ...], classes: int) -> nn.Module:
    from anabook import models  # torch, only where a network is made

    return models.vgg(width, n_classes=classes, in_channels=shape[0], size=shape[1])


def _dscnn(width: float, shape: tuple[int, ...], classes: int) -> nn.Module:
    from anabook import models  # torch, only where a network is made

    return models.dscnn(n_classes=classes, channels=max(1, round(64 * width)))


_TERNARY = Quantiser.ternary()
_SPEECH_QUANTUM = 0.07

VGG = Network("vgg", n_layers=7, quantum=1.0, weights=_TERNARY, activations=_TERNARY, build=_vgg, shrinks=(1, 2, 4))
"""Ternary; its three halvings leave whole numbers of pixels if images of 32 by 32 are shrunk by 1, 2 or 4."""

DSCNN = Network(
    "dscnn",
    n_layers=9,
    quantum=_SPEECH_QUANTUM,
    build=_dscnn,
    weights=Quantiser.linear(bits=4, signed=True, quantum=_SPEECH_QUANTUM, rounding="nearest"),
    activations=Quantiser.linear(bits=4, signed=False, quantum=_SPEECH_QUANTUM, rounding="nearest"),
)
"""Four bits."""

NETWORKS: dict[str, Network] = {network.name: network for network in (VGG, DSCNN)}
"""The networks by name."""

_VGG_PAPER = {"width": 1.0, "shrink": 1, "n_train": 0, "period": 50, "batch_size": 256, "lr": 1e-3}
_VGG_SIZES = {
    "paper": _VGG_PAPER,
    "scaled": {
        "width": 0.125,
        "shrink": 2,
        "n_train": 5000,
        "period": 3,
        "batch_size": 256,
        "lr": 1e-2,
        "unused": 10_000,
    },
}
# On house numbers a network stays at chance for a while: the ink may be darker or lighter than the ground. At the size of
# the other pictures that lasts longer than the layers have before they are quantised, so these have all their pixels, more
# pictures, no shifts, and half the channels.
_SVHN_SIZES = {
    "paper": _VGG_PAPER,
    "scaled": {
        "width": 0.0625,
        "shrink": 1,
        "n_train": 10_000,
        "period": 3,
        "batch_size": 256,
        "lr": 1e-2,
        "augmentation": "none",
    },
}
_DSCNN_SIZES = {
    "paper": {"width": 1.0, "shrink": 1, "n_train": 0, "period": 10, "batch_size": 256, "lr": 1e-3},
    "scaled": {"width": 0.5, "shrink": 1, "n_train": 0, "period": 2, "batch_size": 256, "lr": 1e-2},
}

# Photographs are cropped and flipped, as in the authors' code. House numbers are cropped only: a mirrored 2 is no 2.
_CIFAR10 = Task("cifar10", VGG, 10, (3, 32, 32), "crop and flip", _VGG_SIZES, all_noises_drawn=True)
_SVHN = Task("svhn", VGG, 10, (3, 32, 32), "crop", _SVHN_SIZES)
_GSC = Task("gsc", DSCNN, 12, (1, 49, 10), "none", _DSCNN_SIZES)
_GSC12 = Task("gsc12", DSCNN, 12, (1, 49, 10), "none", _DSCNN_SIZES)

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        _CIFAR10,
        _SVHN,
        _CIFAR10.stand_in("cifar10-stand-in"),
        _SVHN.stand_in("svhn-stand-in"),
        _GSC,
        _GSC12,
        _GSC.stand_in("gsc-stand-in"),
    )
}
"""The data sets that experiments can be run on, by their names in the store."""
