"""The estimators of the comparison: each makes a quantised network of a float one, with the same levels where it can.

Weights have the levels −1, 0, 1 or −8 … 7 and features 0, 1, 2 or 0 … 15, times a quantum a layer. Features are not negative,
since the float networks' activation is a ReLU and most published methods know no other. All layers but the last are
quantised, the first one too, weights and features both; batch normalisation stays in float. That holds for every method, also
for those whose authors leave the first layer alone.

What is not here because it is here already, by name of what it coincides with on these quantisers (tests hold it):

* the clipped identity (1 between the lowest and the highest level, else 0) is static uniform noise that spans half a quantum,
  with the mode;
* the hard tanh is the clipped identity: on ternary weights as it stands, on other levels moved and stretched to their ends;
* LSQ with its quanta held is the clipped identity.

A formula that is published for 2^k levels is used for three with 2 steps in place of 2^k − 1.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from anabook import Noise, Quantiser, Schedule, training
from anabook.variants import VARIANTS

Quanta = Mapping[str, float]
"""By the name of a weighted module or an activation."""


@dataclass(frozen=True)
class Levels:
    """What weights and features may be, in units of the quantum.

    Attributes:
        weights, features: as the package has them.
        bits: of a method that counts in bits.
    """

    weights: Quantiser
    features: Quantiser
    bits: int


LEVELS: dict[str, Levels] = {
    "ternary": Levels(Quantiser.ternary(), Quantiser([0, 1, 2], [0.5, 1.5]), 2),
    "4 bits": Levels(
        Quantiser.linear(4, signed=True, rounding="nearest"), Quantiser.linear(4, signed=False, rounding="nearest"), 4
    ),
}
"""The two sorts of networks, by name."""


# --- written here from their formulas -----------------------------------------------------------------------------------


def rounded(x: Tensor) -> Tensor:
    """The next whole number, halves upwards; the gradient is the identity's."""
    return torch.floor(x.detach() + 0.5) + (x - x.detach())


class Identity(nn.Module):
    """The plain straight-through estimator: the stair forwards, the identity backwards, everywhere.

    Args:
        quantiser: with levels one apart and thresholds halfway.
        quantum: by which it is stretched.
    """

    def __init__(self, quantiser: Quantiser, quantum: float) -> None:
        super().__init__()
        self.low, self.high, self.quantum = float(quantiser.levels[0]), float(quantiser.levels[-1]), float(quantum)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.floor(x.detach() / self.quantum + 0.5).clamp(self.low, self.high) * self.quantum
        return y + (x - x.detach())

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight


class DoReFaWeights(nn.Module):
    """2·round(n·(tanh w/(2 max|tanh w|) + 1/2))/n − 1 (Zhou et al. 2016, eq. 9), with the gradient of all but the rounding.

    Args:
        steps: n, one less than there are levels.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, weight: Tensor) -> Tensor:
        t = torch.tanh(weight)
        return 2 * rounded(self.steps * (t / (2 * t.abs().max()) + 0.5)) / self.steps - 1

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight


class DoReFaFeatures(nn.Module):
    """round(n·clip(x, 0, 1))/n (Zhou et al. 2016, section 2.4).

    Args:
        steps: n, one less than there are levels.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        return rounded(self.steps * x.clamp(0, 1)) / self.steps


Layer = Callable[[str], nn.Module]


def exchanged(net: nn.Module, weights: Layer, features: Layer) -> nn.Module:
    """A copy of a sequential network with a module on each weight but the last, and in place of each activation.

    Args:
        net: the float network.
        weights, features: make the module for the name of a weighted module, or of an activation.
    """
    net = copy.deepcopy(net)
    for name, module in list(net.named_children()):
        if isinstance(module, nn.ReLU):
            setattr(net, name, features(name))
        elif isinstance(module, (nn.Conv2d, nn.Linear)) and name != "last":
            parametrize.register_parametrization(module, "weight", weights(name), unsafe=True)
    return net


def identity(net: nn.Module, levels: Levels, quanta: Quanta) -> nn.Module:
    """Plain straight-through estimators, never clipped."""
    return exchanged(
        net,
        lambda name: Identity(levels.weights, quanta[name]),
        lambda name: Identity(levels.features, quanta[name]),
    )


def dorefa(net: nn.Module, levels: Levels, quanta: Quanta) -> nn.Module:
    """DoReFa: the largest weight of a layer is 1, features end at 1; the quanta are its own."""
    return exchanged(
        net,
        lambda name: DoReFaWeights(levels.weights.n_levels - 1),
        lambda name: DoReFaFeatures(levels.features.n_levels - 1),
    )


# --- from elsewhere -----------------------------------------------------------------------------------------------------


def brevitas(net: nn.Module, levels: Levels, quanta: Quanta) -> nn.Module:
    """Brevitas's layers with the quantisers that it takes if it is told bits and nothing else; the quanta are its own.

    Two bits without the lowest level are −1, 0, 1, which is its default for weights anyway. For features it is told to do
    without the highest one of four where there are three levels.
    """
    from brevitas.nn import QuantConv2d, QuantLinear, QuantReLU  # of the tests' and studies' requirements

    net = copy.deepcopy(net)
    fewer = {"narrow_range": True} if levels.features.n_levels < 2**levels.bits else {}
    for name, module in list(net.named_children()):
        if isinstance(module, nn.ReLU):
            setattr(net, name, QuantReLU(bit_width=levels.bits, **fewer))
        elif isinstance(module, (nn.Conv2d, nn.Linear)) and name != "last":
            bias = module.bias is not None
            if isinstance(module, nn.Conv2d):
                made = QuantConv2d(
                    module.in_channels,
                    module.out_channels,
                    module.kernel_size,
                    stride=module.stride,
                    padding=module.padding,
                    groups=module.groups,
                    bias=bias,
                    weight_bit_width=levels.bits,
                )
            else:
                made = QuantLinear(module.in_features, module.out_features, bias=bias, weight_bit_width=levels.bits)
            made.load_state_dict(module.state_dict(), strict=False)
            setattr(net, name, made)
    return net


def packaged(noise: str = "uniform", strategy: str = "mode", **how: Any) -> Callable[[nn.Module, Levels, Quanta], nn.Module]:
    """The package's own conversion, with a law by name or a variant of the zoo, and what else `training.quantise` takes."""

    def made(net: nn.Module, levels: Levels, quanta: Quanta) -> nn.Module:
        law = VARIANTS.get(noise, noise)
        scales = {name: torch.tensor(quantum) for name, quantum in quanta.items()}
        return training.quantise(net, levels.weights, levels.features, noise=law, strategy=strategy, scales=scales, **how)

    return made


def pact(net: nn.Module, levels: Levels, quanta: Quanta) -> nn.Module:
    """PACT: features whose upper end is learned (Choi et al. 2018, eq. 3), on weights that are DoReFa's, as its authors have it.

    Without their penalty on the ends, since no method here has weight decay.
    """
    steps = levels.weights.n_levels - 1
    learned = {"quantum": "learned", "quantum_gradient": "expectation"}
    return exchanged(
        net,
        lambda name: DoReFaWeights(steps),
        lambda name: training.Quantise(levels.features, noise="uniform", strategy="mode", scale=quanta[name], **learned),
    )


# --- the list -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Method:
    """An estimator that takes part.

    Attributes:
        make: (float network, levels, quanta) → the quantised network, whose latent weights are the float ones.
        annealed: whether the noise fades, a layer after the other; else it stays as it is, or there is none.
        edition: counted up when the method changes, so that its runs are made again.
    """

    make: Callable[[nn.Module, Levels, Quanta], nn.Module]
    annealed: bool = False
    edition: int = 1


METHODS: dict[str, Method] = {
    "float": Method(lambda net, levels, quanta: copy.deepcopy(net)),
    "static": Method(packaged()),
    "identity": Method(identity),
    "partition-mode": Method(packaged(), annealed=True),
    "partition-expectation": Method(packaged(strategy="expectation"), annealed=True),
    "lsq": Method(packaged(quantum="learned")),
    "pact": Method(pact),
    "dorefa": Method(dorefa),
    "brevitas": Method(brevitas),
    "fast-sigmoid": Method(packaged("fast_sigmoid")),
    "arctangent": Method(packaged("atan")),
}
"""The estimators by name, in the order of tables."""


def adam(net: nn.Module) -> Callable[..., torch.optim.Adam]:
    """Adam with one rate, which for the package's learned quanta is relative: a step changes each by about that share.

    Adam's steps have the size of the rate whatever the gradient's, and quanta differ in size from layer to layer. Relative to
    what they begin with, it is the same whether a quantum is learned or the end of the range, n quanta.
    """
    learned = training.learned_quanta(net).values()

    def made(parameters: Any, lr: float) -> torch.optim.Adam:
        others = [p for p in parameters if not any(p is quantum for quantum in learned)]
        own = [{"params": [quantum], "lr": lr * float(quantum.detach().mean())} for quantum in learned]
        return torch.optim.Adam([{"params": others}, *own], lr=lr)

    return made


def schedule(method: Method, n_layers: int, period: int) -> Schedule | None:
    """How the noise fades, in units of the quantum; None where it does not."""
    if not method.annealed:
        return None
    std = Noise.covering("uniform", half_width=0.5).std
    return Schedule.periodic(n_layers, period, "partition", power_law="homogeneous", std0=std, static_mean=True)
