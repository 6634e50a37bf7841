"""The layers of a quantised network, in their order: their noise, and the weights that they round to."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from anabook.training.modules import Quantise
from anabook.training.scaled import quantiser_in


class Layer(NamedTuple):
    """The quantisers that share one schedule: a weight's, and those of the activations that follow it.

    Attributes:
        weight: of the layer's weight; None where the weight stays in float.
        activations: in the order of the forward pass; empty where none follows, or all stay in float.
    """

    weight: Quantise | None
    activations: tuple[Quantise, ...]

    @property
    def bits(self) -> tuple[int | None, tuple[int, ...]]:
        """The bits of the weight (None for float) and those of each activation."""
        return None if self.weight is None else self.weight.quantiser.bits, tuple(a.quantiser.bits for a in self.activations)


class QuantisedWeight(NamedTuple):
    """A module with a quantised weight: its name, itself, the parametrisation and the quantiser in it, the weight's own name."""

    name: str
    layer: nn.Module
    step: nn.Module
    quantise: Quantise
    parameter: str = "weight"

    @property
    def full_name(self) -> str:
        """The weight's name in the network."""
        return f"{self.name}.{self.parameter}" if self.name else self.parameter

    @property
    def parametrisations(self) -> nn.Module:
        """All parametrisations of the weight."""
        return self.layer.parametrizations[self.parameter]


def layers(net: nn.Module) -> list[Layer]:
    """The quantised layers, in the order of their numbers.

    Raises:
        ValueError: a network that `quantise` did not make (a `Quantise` without a layer number, or none at all).

    Example:
        >>> from anabook import Quantiser, models
        >>> from anabook.training import quantise
        >>> net = quantise(models.mlp(8, (6, 6)), weights=Quantiser.ternary(), activations=Quantiser.ternary())
        >>> [len(layer.activations) for layer in layers(net)]
        [1, 1]
        >>> [layer.bits for layer in layers(net)]
        [(2, (2,)), (2, (2,))]
    """
    check_module(net)
    weights = {id(w.quantise) for w in quantised_weight_modules(net)}
    found: dict[int, tuple[list[Quantise], list[Quantise]]] = {}
    for name, module in net.named_modules():
        if isinstance(module, Quantise):
            if module.layer is None:
                raise ValueError(
                    f"the Quantise at {name!r} has no layer number: make the network with "
                    "training.quantise, or set its attribute `layer`."
                )
            found.setdefault(module.layer, ([], []))[id(module) not in weights].append(module)
    if not found:
        raise ValueError(f"this {type(net).__name__} has no quantised layer: convert it with training.quantise first.")
    for number, (weight, _) in found.items():
        if len(weight) > 1:
            raise ValueError(f"layer {number} has {len(weight)} quantised weights; each layer can have one.")
    return [Layer(weight[0] if weight else None, tuple(activations)) for _, (weight, activations) in sorted(found.items())]


def set_noise(net: nn.Module, schedule: Callable[[int, float], tuple[float, float]], t: float) -> None:
    """Set the noise of every layer to what the schedule says for step t.

    Args:
        net: a network made by `quantise`.
        schedule: a `Schedule`, or any (layer, t) ↦ (mean, std).
        t: the step: the epoch's number in `fit`.

    Raises:
        ValueError: the schedule is for another number of layers.

    Example:
        >>> from anabook import Quantiser, Schedule, models
        >>> from anabook.training import layers, quantise
        >>> net = quantise(models.mlp(8, (6,)), weights=Quantiser.ternary(), activations=Quantiser.ternary())
        >>> set_noise(net, Schedule.periodic(n_layers=1, period=10), t=10)
        >>> layers(net)[0].weight.std
        0.0
    """
    quantised = layers(net)
    check_schedule(schedule, len(quantised))
    for number, layer in enumerate(quantised):
        mean, std = schedule(number, t)
        for module in (layer.weight, *layer.activations):
            if module is not None:
                module.set_noise(mean, std)


def check_schedule(schedule: Any, n_layers: int) -> None:
    """Refuse a schedule that cannot be called, or that is for another number of layers."""
    if not callable(schedule):
        raise TypeError(f"schedule must be a Schedule or a function (layer, t) -> (mean, std), not {schedule!r}.")
    expected = getattr(schedule, "n_layers", n_layers)
    if expected is not None and expected != n_layers:
        raise ValueError(f"the schedule is for {expected} layers, but the network has {n_layers} quantised layers.")


def quantised_weights(net: nn.Module) -> dict[str, Tensor]:
    """The weights that the network uses once deployed: σ(latent weight), without noise, by parameter name.

    Other parametrisations of a weight, such as weight normalisation, are applied as well.

    Example:
        >>> from anabook import Quantiser, models
        >>> from anabook.training import quantise
        >>> net = quantise(models.mlp(8, (6,)), weights=Quantiser.ternary())
        >>> sorted(quantised_weights(net))
        ['fc1.weight']
    """
    check_module(net)
    with torch.no_grad():
        return {weight.full_name: noiseless(weight.parametrisations)() for weight in quantised_weight_modules(net)}


def quantised_weight_modules(net: nn.Module) -> list[QuantisedWeight]:
    """The modules with a quantised weight, in the order of their names in the network."""
    found = []
    for name, module in net.named_modules():
        if parametrize.is_parametrized(module):
            for parameter, steps in module.parametrizations.items():
                for step in steps:
                    quantise = quantiser_in(step)
                    if isinstance(quantise, Quantise):
                        found.append(QuantisedWeight(name, module, step, quantise, parameter))
    return found


def noiseless(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode, in which quantisers round."""
    return copy.deepcopy(module).eval()


def check_module(net: object) -> None:
    """Refuse anything but a torch module."""
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module, not {net!r}.")
