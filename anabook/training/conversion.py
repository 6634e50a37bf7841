"""A float network that is ready for it becomes a quantised one: the quantisers are made, tied, numbered and put in."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from anabook._validate import did_you_mean, nearest
from anabook.quantisers import Quantiser
from anabook.training.assignment import Assignment, Quantisers, quantises_any
from anabook.training.flows import QUANTISABLE, owner_of
from anabook.training.grouping import Group, assignments, ends_of, groups_of, place_in
from anabook.training.learned import Learned
from anabook.training.modules import Quantise
from anabook.training.order import calls
from anabook.training.places import Beginning, Ending, PerCall, Place, Scaled, copy_hooks, quantises
from anabook.training.recurrences import follow_parametrisations
from anabook.training.scaled import checked_scale, quantiser_in
from anabook.training.state_dicts import mark

_REMEMBERED = {"activation_relu_or_gelu": 0}
"""Attributes in which torch's modules note what their activation is, for a shortcut that does not call it, and what
turns the shortcut off."""


@dataclass(frozen=True)
class Plan:
    """The places of a float network that get quantisers of their own.

    Attributes:
        quantisers: by the names of the places.
        tied: names of quantisers, those of places and of activations, whose levels are added up, a set for each such sum.
        unread: the modules whose programs cannot be read, with the reasons.
    """

    quantisers: dict[str, Quantiser] = field(default_factory=dict)
    tied: list[set[str]] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Converted:
    """A quantised network, and what came of its parts.

    Attributes:
        net: the network.
        weights: names of the weights that are quantised.
        kept: names of what stays in float since that was asked for.
        first: names of the first layer's weights.
    """

    net: nn.Module
    weights: set[str]
    kept: set[str]
    first: set[str]


def converted(
    net: nn.Module,
    weights: Quantisers,
    activations: Quantisers,
    *,
    noise: Any = "uniform",
    strategy: str = "mode",
    keep: Iterable[str],
    swap: tuple[type[nn.Module], ...],
    example: Any,
    scales: Any = None,
    quanta: tuple[dict[str, Any] | None, dict[str, Any] | None] = (None, None),
    plan: Plan = Plan(),
    unread: Mapping[str, str] = MappingProxyType({}),
) -> Converted:
    """A float network whose activations are modules and whose places are put, in place, with quantisers.

    The arguments are those of `quantise`, `quanta` as `settings_of` gives them.
    """
    of_weights, of_activations = quanta
    order = calls(net, (*QUANTISABLE, *swap, Place), example)
    groups = groups_of(net, order, need_activations=quantises_any(activations), unread=unread)
    on_weights, on_activations = assignments(net, groups, weights, activations)
    kept = _kept(net, groups, keep, on_weights)
    scales = _scales(net, groups, scales)
    number, rounded = 0, set[str]()
    places: dict[str, dict[str, nn.Module]] = {}
    steps: dict[str, nn.Module] = {}
    for group in groups:
        put, kind = [], getattr(*owner_of(net, group.weight)).dtype
        quantiser = on_weights.quantisers.get(group.weight)
        if quantiser is not None and group.weight not in kept:
            module = Quantise(quantiser, noise, strategy)
            rounded.add(group.weight)
            put.append(_quantise_weight(net, group.weight, module, scales.get(group.weight), of_weights, kind))
        for name in group.activations:
            place = place_in(groups, name, group)
            is_place = isinstance(net.get_submodule(name), Place)
            quantiser = plan.quantisers.get(name) if is_place else on_activations.quantisers.get(place)
            # What shapes the output stays, also where the same module shapes features.
            stays = name in kept or (group is groups[-1] and group.weight in kept)
            if quantiser is None or (stays and (is_place or place not in on_activations.named)):
                places.setdefault(name, {})[group.weight] = net.get_submodule(name)
            else:
                put.append(Quantise(quantiser, noise, strategy))
                scale = scales.get(place, scales.get(name))
                step = _with_quantum(put[-1], scale, of_activations, place, kind)
                places.setdefault(name, {})[group.weight] = steps[place] = step
        for module in put:
            module.layer = number
        number += bool(put)
    if number == 0:
        also = (
            " with what the mappings leave in float" if any(isinstance(q, Mapping) for q in (weights, activations)) else ""
        )
        raise ValueError(f"nothing is left to quantise: keep={tuple(_names(keep))!r}{also} covers the whole network.")
    for names in plan.tied:
        _tie({name: steps[name] for name in sorted(names & steps.keys())})
    places = {name: each for name, each in places.items() if any(map(quantises, each.values()))}
    _swap(net, order, groups, places)
    _check_swapped(net, places, example)
    mark(net)
    asked = {*kept, *_names(keep), *_left_in_float(groups, on_activations)}
    return Converted(net, rounded, asked, {group.weight for group in ends_of(net, groups)["first"]})


def _names(keep: Any) -> list[str]:
    names = [keep] if isinstance(keep, str) else list(keep) if isinstance(keep, Iterable) else None
    if names is None or not all(isinstance(name, str) for name in names):
        raise TypeError(f"keep must be a collection of module names, not {keep!r}.")
    return names


def _left_in_float(groups: list[Group], on_activations: Assignment) -> set[str]:
    """The activations that a mapping leaves in float: places, and the names of those that it does so everywhere."""
    places: dict[str, set[str]] = {}
    for group in groups:
        for name in group.activations:
            places.setdefault(name, set()).add(place_in(groups, name, group))
    floats = on_activations.floats
    return floats | {name for name, each in places.items() if each <= floats}


def _kept(net: nn.Module, groups: list[Group], keep: Any, on_weights: Assignment) -> set[str]:
    """The names of the modules, among those in `groups`, that stay in float by `keep` or by what is said of weights."""
    candidates = [name for group in groups for name in (group.weight, *group.activations)]
    allowed = list(dict.fromkeys((*(name for name, _ in net.named_modules() if name), *candidates)))
    ends = {end: {group.weight for group in each} for end, each in ends_of(net, groups).items()}
    kept: set[str] = set()
    for name in _names(keep):
        if name in ends:
            kept |= ends[name]
        elif name in allowed:
            kept.update(c for c in candidates if c == name or c.startswith(f"{name}."))
        else:
            raise ValueError(_unknown(name, [*ends, *allowed]))
    return (kept - on_weights.named) | on_weights.floats


def _unknown(name: str, allowed: list[str]) -> str:
    near = nearest(name, allowed)
    hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(map(repr, allowed))}."
    return f"keep names {name!r}, but the network has no such module. {hint}"


def _scales(net: nn.Module, groups: list[Group], scales: Any) -> dict[str, Any]:
    if scales is not None and not isinstance(scales, Mapping):
        raise TypeError(f"scales must map names of modules to numbers or tensors, not {type(scales).__name__}.")
    shapes: dict[str, tuple[int, ...]] = {}
    for group in groups:
        weight = getattr(*owner_of(net, group.weight))
        shapes[group.weight] = () if isinstance(weight, nn.parameter.UninitializedParameter) else tuple(weight.shape)
        for name in group.activations:
            shapes[name] = shapes[place_in(groups, name, group)] = ()
    for name, scale in (scales or {}).items():
        if name not in shapes:
            raise ValueError(
                f"scales names {name!r}, but the network has no such weighted module or activation"
                f"{did_you_mean(str(name), shapes)}."
            )
        given = tuple(getattr(scale, "shape", ()))
        if shapes[name] and math.prod(given) > 1 and not _broadcasts(given, shapes[name]):
            raise ValueError(
                f"the scale of {name!r} must be one number or fit to a weight of shape {shapes[name]}, as one "
                f"for each channel of shape {(shapes[name][0], *[1] * (len(shapes[name]) - 1))} does, not have "
                f"the shape {given}."
            )
    return dict(scales or {})


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    try:
        return torch.broadcast_shapes(shape, to) == to
    except RuntimeError:
        return False


def _with_quantum(
    module: Quantise,
    scale: Tensor | None,
    learned: dict[str, Any] | None,
    name: str,
    kind: torch.dtype,
    batched: bool = True,
) -> nn.Module:
    """The quantiser with the quantum that it is to have, if any; a learned one in float64 where the weights are."""
    if learned is None:
        return module if scale is None else Scaled(module, scale)
    start: Any = 1.0 if scale is None else scale
    if kind == torch.float64:
        start = checked_scale(start, torch.float64)
    what = repr(name) if batched else f"the weight of {name!r}"
    return Learned(module, start, **learned, batched=batched, name=what)


def _tie(steps: dict[str, nn.Module]) -> None:
    """One quantum for quantisers whose levels are added up: where it is learned, one parameter of them all."""
    first, *others = steps or [""]
    for other in others:
        units = [float(quantiser_in(steps[name]).quantiser.steps.min()) for name in (first, other)]
        if units[0] != units[1]:
            raise ValueError(
                f"the levels of {first!r} and {other!r} are added up, so that their quantisers must have the same quantum, "
                f"not {units[0]:g} and {units[1]:g}."
            )
        one, two = steps[first], steps[other]
        if isinstance(one, Learned) and isinstance(two, Learned):
            starts = one.scale.tolist(), two.scale.tolist()
            if starts[0] != starts[1]:
                raise ValueError(
                    f"the levels of {first!r} and {other!r} are added up, so that their learned quantum is one and must "
                    f"start from one scale, not from {starts[0]} and {starts[1]}."
                )
            two.scale = one.scale


def _quantise_weight(
    net: nn.Module, name: str, module: Quantise, scale: Tensor | None, learned: dict[str, Any] | None, kind: torch.dtype
) -> Quantise:
    layer, parameter = owner_of(net, name)
    weight = getattr(layer, parameter)
    if isinstance(weight, nn.parameter.UninitializedParameter):
        raise ValueError(f"a {type(layer).__name__} has no weight yet: run one batch through the network first.")
    step = _with_quantum(module, scale, learned, name, kind, batched=False).to(weight.device)
    # The check that "unsafe" leaves out would run the parametrisation, and so draw from the global generator.
    parametrize.register_parametrization(layer, parameter, step, unsafe=True)
    follow_parametrisations(layer)
    layer.parametrizations.train(layer.training)
    return module


def _swap(net: nn.Module, order: list[str], groups: list[Group], places: dict[str, dict[str, nn.Module]]) -> None:
    """Put the quantisers, of which each activation's name has one for each layer, where the activations were."""
    device = next((p.device for p in net.parameters()), torch.device("cpu"))
    weights = {group.weight for group in groups}
    used: dict[str, list[str]] = {}
    current = groups[0].weight
    for name in order:
        current = name if name in weights else current
        if name in places:
            used.setdefault(name, []).append(current)
    for name, by_layer in places.items():
        old, (parent, _, child) = net.get_submodule(name), name.rpartition(".")
        owner = net.get_submodule(parent)
        steps = list(by_layer.values())
        for each in filter(quantises, steps):
            copy_hooks(old, each)
        if len(steps) == 1:
            step = steps[0]
        else:
            step = PerCall(steps, [list(by_layer).index(weight) for weight in used[name]])
            owner.register_forward_pre_hook(Beginning(child))
            owner.register_forward_hook(Ending(child), always_call=False)
        net.set_submodule(name, step.to(device).train(old.training))
        for attribute, off in _REMEMBERED.items():
            if hasattr(owner, attribute):
                setattr(owner, attribute, off)


def _check_swapped(net: nn.Module, places: dict[str, dict[str, nn.Module]], example: Any) -> None:
    """Refuse a network that goes on using activations which it was to use no longer, or calls them in another order."""
    found = [name for name in calls(net, (Quantise, Scaled), example) if "parametrizations" not in name.split(".")]
    for name, by_layer in places.items():
        steps = list(by_layer.values())
        expected = (
            [name]
            if len(steps) == 1
            else [f"{name}.quantisers.{i}" for i in net.get_submodule(name).which if quantises(steps[i])]
        )
        called = [each for each in found if each in expected]
        if not called or (len(steps) > 1 and called != expected):
            what = "called in another order than before" if called else "not called any more"
            raise ValueError(
                f"the activation {name!r} is {what} once a quantiser has taken its place: the network keeps it "
                "elsewhere, or counts its calls; give each layer its own activation module."
            )
