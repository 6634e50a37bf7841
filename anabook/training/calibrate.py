"""The quanta of a pretrained network: for each weight and activation the scale that loses least by rounding."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from anabook._validate import choice
from anabook.quantisers import Quantiser
from anabook.training.flows import WEIGHTED
from anabook.training.grouping import ACTIVATIONS, check_arguments, copied, groups_of, part_activations, place_in
from anabook.training.learned import highest
from anabook.training.order import calls, run_once
from anabook.training.sources import as_inputs


def calibrate(
    net: nn.Module,
    inputs: Any = None,
    weights: Quantiser | None = None,
    activations: Quantiser | None = None,
    *,
    per: str = "layer",
    rule: str = "error",
    swap: tuple[type[nn.Module], ...] = ACTIVATIONS,
) -> dict[str, Tensor]:
    """Quanta for a pretrained float network: the scales s that lose least, for `quantise(net, …, scales=…)`.

    For a weight w, s minimises the mean of (w − s·σ(w/s))²; for an activation function f with inputs x, the mean of
    (f(x) − s·σ(x/s))² over the given inputs. For example, from a pretrained network to one with ternary weights::

        scales = calibrate(net, x, weights=ternary, activations=unsigned, per="channel")
        net = quantise(net, weights=ternary, activations=unsigned, scales=scales)
        fit(net, data, schedule, epochs=…, initialise="shift")

    Args:
        net: the float network; it is not changed.
        inputs: a batch of typical inputs, needed for activations only.
        weights, activations: the quantisers to come, for the quantum 1; None leaves weights or activations out.
        per: one scale for each "layer", or for each "channel" (the first axis) of a weight. Features have one a layer.
        rule: "error" is the least squared error, as above; "lsq" is s = 2·E|v|/√q for the numbers v to be rounded and the
            highest level q in quanta, where learned step sizes start (Esser et al. 2020, section 2.1).
        swap: as for `quantise`.

    Returns:
        The scales by the names of the modules.

    Raises:
        ValueError, TypeError: nothing to calibrate, no inputs for activations, arguments of a wrong type.

    Example:
        >>> from anabook import Quantiser, models
        >>> from anabook.training import quantise
        >>> fine = Quantiser.linear(4, rounding="nearest")
        >>> net = models.mlp(8, (6, 6))
        >>> scales = calibrate(net, weights=fine)
        >>> quantised = quantise(net, weights=fine, scales=scales)
        >>> sorted(scales)
        ['fc1', 'fc2', 'last']
    """
    check_arguments(net, weights, activations, swap)
    choice(per, ("layer", "channel"), "per")
    best = RULES[choice(rule, RULES, "rule")]
    scales = {}
    for name, module in net.named_modules():
        if weights is not None and isinstance(module, WEIGHTED):
            w = module.weight.detach()
            rows = w.reshape(len(w), -1) if per == "channel" else w.reshape(1, -1)
            found = best(rows.double(), rows.double(), weights)
            scales[name] = found.reshape(-1, *[1] * (w.dim() - 1)) if per == "channel" else found.reshape(())
    if activations is not None:
        if inputs is None:
            raise ValueError("inputs are needed to calibrate activations: hand over a batch of typical ones.")
        for name, (x, y) in _features(net, inputs, swap).items():
            scales[name] = best(x, y, activations).reshape(())
    if not scales:
        raise ValueError(f"nothing to calibrate: this {type(net).__name__} has no weighted module or activation.")
    return scales


def _best_scale(x: Tensor, target: Tensor, quantiser: Quantiser) -> Tensor:
    """For each row, the scale with the least mean squared error: the best of a grid, then of a finer one around it."""
    levels, thresholds = (torch.tensor(values, device=x.device) for values in (quantiser.levels, quantiser.thresholds))
    reach = target.abs().amax(1) / max(abs(quantiser.levels[0]), abs(quantiser.levels[-1]))
    reach = torch.where(reach > 0, reach, torch.ones_like(reach))  # nothing but zeros: any scale does

    def errors(scale: Tensor) -> Tensor:
        s = scale[:, None]
        return (target - s * levels[torch.searchsorted(thresholds, (x / s).contiguous(), right=True)]).square().mean(1)

    def best(scales: Tensor) -> Tensor:
        lost = torch.stack([errors(scale) for scale in scales])
        return scales.gather(0, lost.argmin(0, keepdim=True))[0]

    step = 2 ** (1 / 8)
    coarse = torch.tensor([step**k for k in range(-40, 17)], device=x.device, dtype=x.dtype)
    fine = torch.tensor([step ** (k / 16) for k in range(-16, 17)], device=x.device, dtype=x.dtype)
    found = best(coarse[:, None] * reach)
    return best(fine[:, None] * found).float()


def _lsq_scale(x: Tensor, target: Tensor, quantiser: Quantiser) -> Tensor:
    """For each row, where learned step sizes start."""
    unit = float(quantiser.steps.min())  # LSQ's levels are multiples of 1
    found = 2 * target.abs().mean(1) / math.sqrt(highest(quantiser)) / unit
    return torch.where(found > 0, found, torch.ones_like(found)).float()


RULES = {"error": _best_scale, "lsq": _lsq_scale}
"""How `calibrate` finds the scales of rows of numbers."""


def _features(net: nn.Module, inputs: Any, swap: tuple) -> dict[str, tuple[Tensor, Tensor]]:
    """Inputs and outputs of each activation in each of its layers, in one row; at most 2^18 of a call, evenly spaced."""
    found: dict[str, tuple[Tensor, Tensor]] = {}

    def note(place: str, x: Tensor, y: Tensor) -> None:
        x, y = (t.detach().double().reshape(1, -1) for t in (x, y))
        every = -(-x.shape[1] // 2**18)
        pair = x[:, ::every], y[:, ::every]
        found[place] = tuple(torch.cat(parts, 1) for parts in zip(found[place], pair)) if place in found else pair

    # The copy also keeps an activation that works in place from changing what is seen.
    net = copied(net)
    part_activations(net, swap)
    example = as_inputs(net, inputs)
    places = _places_of_calls(net, calls(net, (*WEIGHTED, *swap), example))
    for name, module in net.named_modules():
        if isinstance(module, swap):
            if getattr(module, "inplace", False):
                module.inplace = False
            own = iter(places.get(name, ()))
            module.register_forward_hook(lambda _m, x, y, own=own: note(next(own), x[0], y))
    run_once(net, example)
    return found


def _places_of_calls(net: nn.Module, order: list[str]) -> dict[str, list[str]]:
    """For each activation the places of its calls, as `place_in` names them."""
    if not any(isinstance(net.get_submodule(name), WEIGHTED) for name in order):
        return {name: [name] * order.count(name) for name in order}
    groups = groups_of(net, order, need_activations=False)
    by_weight = {group.weight: group for group in groups}
    current, places = groups[0], {}
    for name in order:
        current = by_weight.get(name, current)
        if name not in by_weight:
            places.setdefault(name, []).append(place_in(groups, name, current))
    return places
