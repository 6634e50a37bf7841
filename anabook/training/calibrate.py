"""The quanta of a pretrained network: for each weight and activation the scale that loses least by rounding."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from anabook._validate import choice
from anabook.quantisers import Quantiser
from anabook.training.assignment import Quantisers, quantises_any
from anabook.training.flows import QUANTISABLE, is_weight, parameters_of, weight_names
from anabook.training.grouping import (
    ACTIVATIONS,
    assignments,
    check_arguments,
    copied,
    groups_of,
    part_activations,
    place_in,
)
from anabook.training.learned import highest
from anabook.training.order import calls, run_once
from anabook.training.places import Place
from anabook.training.planning import plan_places
from anabook.training.sites import functions_as_modules, put_places
from anabook.training.sources import as_inputs


def calibrate(
    net: nn.Module,
    inputs: Any = None,
    weights: Quantisers = None,
    activations: Quantisers = None,
    *,
    per: str = "layer",
    rule: str = "error",
    swap: tuple[type[nn.Module], ...] = ACTIVATIONS,
    before: Quantiser | None = None,
    summands: Quantiser | None = None,
    keep: Iterable[str] = ("last",),
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
        weights, activations: the quantisers to come, for the quantum 1; None leaves weights or activations out. Mappings
            are read as by `quantise`; what they leave in float gets no scale.
        per: one scale for each "layer", or for each "channel" (the first axis) of a weight. Features have one a layer.
        rule: "error" is the least squared error, as above; "lsq" is s = 2·E|v|/√q for the numbers v to be rounded and the
            highest level q in quanta, where learned step sizes start (Esser et al. 2020).
        swap, before, summands, keep: as for `quantise`. For what is added, one scale is fitted to all summands together,
            those that are levels of activations included, and with `summands` to all levels that are concatenated and then
            summed by one weight; they share one tensor.

    Returns:
        The scales by the names of the modules.

    Raises:
        ValueError, TypeError: nothing to calibrate, no inputs for activations, a mapping's key that matches nothing,
            arguments of a wrong type.

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
    pick = _picker(net, inputs, weights, activations, swap)
    best = RULES[choice(rule, RULES, "rule")]
    scales = {}
    for name, module in net.named_modules():
        for label, parameter in zip(weight_names(name, module), parameters_of(module)):
            if isinstance(module, QUANTISABLE) and (quantiser := pick("weights", label)) is not None:
                w = getattr(module, parameter).detach()
                rows = w.reshape(len(w), -1) if per == "channel" else w.reshape(1, -1)
                found = best((rows.double(), rows.double(), quantiser))
                scales[label] = found.reshape(-1, *[1] * (w.dim() - 1)) if per == "channel" else found.reshape(())
    if quantises_any(activations) or before is not None or summands is not None:
        if inputs is None:
            raise ValueError("inputs are needed to calibrate activations: hand over a batch of typical ones.")
        features = _of_features(net, inputs, weights, activations, before, summands, pick, best, keep=keep, swap=swap)
        scales |= features
    if not scales:
        raise ValueError(f"nothing to calibrate: this {type(net).__name__} has no weighted module or activation.")
    return scales


def _picker(
    net: nn.Module, inputs: Any, weights: Quantisers, activations: Quantisers, swap: tuple
) -> Callable[[str, str], Quantiser | None]:
    """A function of "weights" or "activations" and a place: its quantiser. The order is only read for mappings."""
    given = {"weights": weights, "activations": activations}
    found: dict[str, dict[str, Quantiser | None]] = {}
    if any(isinstance(each, Mapping) for each in given.values()):
        net = copied(net)
        part_activations(net, swap)
        if quantises_any(activations):
            functions_as_modules(net, swap)
        order = calls(net, (*QUANTISABLE, *swap), None if inputs is None else as_inputs(net, inputs))
        groups = groups_of(net, order, need_activations=quantises_any(activations))
        both = assignments(net, groups, weights, activations)
        found = {what: each.quantisers for what, each in zip(given, both) if isinstance(given[what], Mapping)}

    def pick(what: str, place: str) -> Quantiser | None:
        return found[what].get(place) if what in found else given[what]

    return pick


def _of_features(
    net: nn.Module,
    inputs: Any,
    weights: Quantisers,
    activations: Quantisers,
    before: Quantiser | None,
    summands: Quantiser | None,
    pick: Callable[[str, str], Quantiser | None],
    best: Callable[..., Tensor],
    *,
    keep: Iterable[str],
    swap: tuple[type[nn.Module], ...],
) -> dict[str, Tensor]:
    """The scales of activations and of places, what is added up together."""
    # The copy also keeps an activation that works in place from changing what is seen.
    net = copied(net)
    part_activations(net, swap)
    if quantises_any(activations):
        functions_as_modules(net, swap)
    example = as_inputs(net, inputs)
    own: dict[str, Quantiser] = {}
    tied: list[set[str]] = []
    if before is not None or summands is not None:
        plan = plan_places(net, weights, activations, before, summands, keep=keep, swap=swap, example=example)
        own, tied = plan.quantisers, plan.tied
        put_places(net, before is not None, summands is not None, only=own)
    found = _features(net, example, (*(swap if quantises_any(activations) else ()), Place))
    quantisers = {name: own[name] if name in own else pick("activations", name) for name in found}
    cases = {name: (*pair, quantiser) for name, pair in found.items() if (quantiser := quantisers[name]) is not None}
    scales = {}
    for names in [*(each & cases.keys() for each in tied), *({name} for name in cases)]:
        if names and not names & scales.keys():
            scales |= dict.fromkeys(sorted(names), best(*(cases[name] for name in sorted(names))).reshape(()))
    return scales


def _best_scale(*cases: tuple[Tensor, Tensor, Quantiser]) -> Tensor:
    """For each row, the scale with the least mean squared error: the best of a grid, then of a finer one around it.

    Each row is sorted once. What a scale loses then takes two numbers of each bin: how many inputs fall into it, which is where
    its ends lie among the sorted ones, and the sum of what these are to become, from sums added up in that order.

    Args:
        cases: inputs, what they are to become, and the quantiser; the errors of several are added up.
    """
    device = cases[0][0].device
    reach = torch.stack([y.abs().amax(1) / max(abs(q.levels[0]), abs(q.levels[-1])) for _, y, q in cases]).amax(0)
    reach = torch.where(reach > 0, reach, torch.ones_like(reach))  # nothing but zeros: any scale does
    lost = [_lost(*case) for case in cases]

    def best(scales: Tensor) -> Tensor:
        found = torch.stack([torch.stack([each(scale) for each in lost]).sum(0) for scale in scales])
        return scales.gather(0, found.argmin(0, keepdim=True))[0]

    step = 2 ** (1 / 8)
    coarse = torch.tensor([step**k for k in range(-40, 17)], device=device, dtype=torch.float64)
    fine = torch.tensor([step ** (k / 16) for k in range(-16, 17)], device=device, dtype=torch.float64)
    found = best(coarse[:, None] * reach)
    return best(fine[:, None] * found).float()


def _lost(x: Tensor, y: Tensor, quantiser: Quantiser) -> Callable[[Tensor], Tensor]:
    """A function of one scale s for each row that gives the mean of (y − s·σ(x/s))² over the row."""
    levels, thresholds = (torch.tensor(v, device=x.device, dtype=x.dtype) for v in (quantiser.levels, quantiser.thresholds))
    given, order = x.sort(1)
    sums = torch.cat([y.new_zeros(len(y), 1), y.gather(1, order).cumsum(1)], 1)
    squares, n = y.square().sum(1), x.shape[1]

    def lost(scale: Tensor) -> Tensor:
        s = scale[:, None]
        ends = torch.searchsorted(given, s * thresholds)  # the first that reaches each threshold
        ends = torch.cat([torch.zeros_like(ends[:, :1]), ends, torch.full_like(ends[:, :1], n)], 1)
        rounded = s * levels
        of_bins = sums.gather(1, ends).diff(dim=1)
        return (squares + (rounded * (rounded * ends.diff(dim=1) - 2 * of_bins)).sum(1)) / n

    return lost


def _lsq_scale(*cases: tuple[Tensor, Tensor, Quantiser]) -> Tensor:
    """For each row, where learned step sizes start; of several inputs, the mean of their starts, by their counts."""
    starts, numbers = [], sum(y.shape[1] for _, y, _ in cases)
    for _, y, quantiser in cases:
        unit = float(quantiser.steps.min())  # LSQ's levels are multiples of 1
        starts.append(2 * y.abs().mean(1) / math.sqrt(highest(quantiser)) / unit * (y.shape[1] / numbers))
    found = torch.stack(starts).sum(0)
    return torch.where(found > 0, found, torch.ones_like(found)).float()


RULES = {"error": _best_scale, "lsq": _lsq_scale}
"""How `calibrate` finds the scales of rows of numbers."""


def _features(net: nn.Module, example: Any, swap: tuple) -> dict[str, tuple[Tensor, Tensor]]:
    """Inputs and outputs of each activation in each of its layers, in one row; at most 2^18 of a call, evenly spaced."""
    found: dict[str, tuple[Tensor, Tensor]] = {}

    def note(place: str, x: Tensor, y: Tensor) -> None:
        x, y = (t.detach().double().reshape(1, -1) for t in (x, y))
        every = -(-x.shape[1] // 2**18)
        pair = x[:, ::every], y[:, ::every]
        found[place] = tuple(torch.cat(parts, 1) for parts in zip(found[place], pair)) if place in found else pair

    places = _places_of_calls(net, calls(net, (*QUANTISABLE, *swap), example))
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
    if not any(is_weight(net, name) for name in order):
        return {name: [name] * order.count(name) for name in order}
    groups = groups_of(net, order, need_activations=False)
    by_weight = {group.weight: group for group in groups}
    current, places = groups[0], {}
    for name in order:
        current = by_weight.get(name, current)
        if name not in by_weight:
            places.setdefault(name, []).append(place_in(groups, name, current))
    return places
