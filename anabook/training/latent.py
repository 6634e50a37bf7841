"""The latent weights of a quantised network, set before training begins: drawn anew, or shifted."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from anabook._validate import integer
from anabook.training.layers import QuantisedWeight, check_module, noiseless, quantised_weight_modules
from anabook.training.places import Scaled


def initialise_near_thresholds(net: nn.Module, seed: int) -> None:
    """Draw the latent weights anew, in place, each near a random threshold of its quantiser, where gradients are large.

    w = θ + α + U(−1/√fan_in, 1/√fan_in) with θ uniform among the thresholds and α the noise's present mean: the start
    in the code of the paper's authors. (With a scale s of the quantum, s·(θ + α) in place of θ + α.) Kept layers and biases are
    left alone.

    Args:
        net: a network made by `quantise`.
        seed: of the draws, which do not touch torch's global generator.

    Example:
        >>> from anabook import Quantiser, models
        >>> from anabook.training import quantise
        >>> net = quantise(models.mlp(8, (6,)), weights=Quantiser.ternary())
        >>> initialise_near_thresholds(net, seed=0)
    """
    check_module(net)
    generator = torch.Generator().manual_seed(integer(seed, "seed", minimum=0, maximum=2**63 - 1))

    def near(weight: QuantisedWeight, latent: Tensor) -> Tensor:
        spread = 1 / math.sqrt(latent[0].numel())
        thresholds = torch.tensor(weight.quantise.quantiser.thresholds)
        which = torch.randint(len(thresholds), latent.shape, generator=generator)
        offset = (2 * torch.rand(latent.shape, generator=generator, dtype=torch.float64) - 1) * spread
        places = thresholds[which] + weight.quantise.mean
        if isinstance(weight.step, Scaled):
            places = places * weight.step.scale.cpu()
        return places + offset

    _change_latent(net, near)


def shift_by_mean(net: nn.Module) -> None:
    """Add the mean of their noise to the latent weights, in place.

    Noise is subtracted, so with mean α the quantiser sees w − α. After the shift it sees the weights that were
    there before, those of a pretrained network for instance. To be done once, at the noise that training begins with;
    `initialise_near_thresholds` has it built in.

    Example:
        >>> from anabook import Quantiser, models
        >>> from anabook.training import quantise
        >>> net = quantise(models.mlp(8, (6,)), weights=Quantiser.ternary())
        >>> shift_by_mean(net)
    """
    check_module(net)

    done: dict[int, Any] = {}

    def shifted(weight: QuantisedWeight, latent: Tensor) -> Tensor:
        mean = weight.quantise.mean
        by = mean * weight.step.scale if isinstance(weight.step, Scaled) else mean
        if id(latent) in done:  # a parameter that layers share
            if not bool(torch.all(torch.as_tensor(by == done[id(latent)]))):
                raise ValueError(
                    f"the layer {weight.name!r} shares its weight with another one whose noise has another "
                    "mean, so it cannot be shifted for both."
                )
            return latent.clone()
        done[id(latent)] = by
        return latent + by

    _change_latent(net, shifted)


def _change_latent(net: nn.Module, change: Callable[[QuantisedWeight, Tensor], Tensor]) -> None:
    """Replace what comes into the quantiser of each weight by a function of it: all of them, or none if one cannot be.

    Raises:
        ValueError: no quantised weight, or one behind a parametrisation that cannot give every value.
    """
    found = quantised_weight_modules(net)
    if not found:
        raise ValueError("no weight of this network is quantised: convert it with training.quantise first.")
    before = [[p.detach().clone() for p in weight.parametrisations.parameters()] for weight in found]
    try:
        with torch.no_grad():
            for weight in found:
                _set_latent(weight, change(weight, _latent(weight)))
    except Exception:
        with torch.no_grad():
            for weight, values in zip(found, before):
                for p, value in zip(weight.parametrisations.parameters(), values):
                    p.copy_(value)
        raise


def _latent(weight: QuantisedWeight) -> Tensor:
    """What comes into the quantiser of a weight: the parameter, or what other parametrisations make of it."""
    parametrisations = weight.parametrisations
    earlier = list(parametrisations).index(weight.step)
    if earlier == 0:
        return parametrisations.original
    own = noiseless(parametrisations)
    originals = [own.original] if own.is_tensor else [getattr(own, f"original{i}") for i in range(own.ntensors)]
    value = own[0](*originals)
    for step in list(own)[1:earlier]:
        value = step(value)
    return value


def _set_latent(weight: QuantisedWeight, value: Tensor) -> None:
    parametrisations = weight.parametrisations
    steps = list(parametrisations)
    earlier = steps[: steps.index(weight.step)]
    originals: Any = value.to(_latent(weight))
    if not earlier:
        parametrisations.original.copy_(originals)
        return
    wanted = originals
    if all(hasattr(step, "right_inverse") for step in earlier):
        for step in reversed(earlier):
            originals = step.right_inverse(originals)
        originals = [originals] if parametrisations.is_tensor else originals
        names = ["original"] if parametrisations.is_tensor else [f"original{i}" for i in range(parametrisations.ntensors)]
        for name, original in zip(names, originals):
            getattr(parametrisations, name).copy_(original)
    reached = _latent(weight)
    if not torch.allclose(reached, wanted, rtol=1e-3, atol=1e-5):
        kind = type(earlier[-1]).__name__.strip("_")
        raise ValueError(
            f"the latent weight of {weight.name!r} cannot be set behind its parametrisation {kind}, which does "
            "not give every value: initialise it yourself, or remove the parametrisation."
        )
