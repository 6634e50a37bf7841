"""From a float network to a quantised one."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from anabook._validate import choice, did_you_mean, nearest
from anabook.quantisers import Quantiser
from anabook.training.flows import WEIGHTED
from anabook.training.grouping import ACTIVATIONS, Group, check_arguments, copied, groups_of, part_activations, place_in
from anabook.training.learned import Learned, check_settings
from anabook.training.modules import Quantise
from anabook.training.order import calls
from anabook.training.places import Beginning, Ending, PerCall, Scaled, copy_hooks, quantises
from anabook.training.report import report
from anabook.training.scaled import checked_scale
from anabook.training.state_dicts import mark

if TYPE_CHECKING:
    from anabook.laws import Law
    from anabook.noise import Noise
    from anabook.symbolic import Density
    from anabook.variants import Variant

_REMEMBERED = {"activation_relu_or_gelu": 0}
"""Attributes in which torch's modules note what their activation is, for a shortcut that does not call it, and what
turns the shortcut off."""


def quantise(
    net: nn.Module,
    weights: Quantiser | None = None,
    activations: Quantiser | None = None,
    *,
    noise: str | Law | Noise | Density | Variant = "uniform",
    strategy: str = "mode",
    keep: Iterable[str] = ("last",),
    swap: tuple[type[nn.Module], ...] = ACTIVATIONS,
    example: Any = None,
    scales: Mapping[str, Tensor] | None = None,
    quantum: str | Mapping[str, str] | None = None,
    quantum_gradient: str | Mapping[str, str] = "value",
    gradient_scale: Any = None,
) -> nn.Module:
    """A copy of a float network with stochastic quantisers on its weights and in place of its activations.

    * The `weight` of every linear and (transposed) convolution layer gets a `Quantise` through
      `torch.nn.utils.parametrize`; its present value becomes the latent weight, and a saved state dict is plain torch.
      Biases, normalisation layers and parameters of other names stay in float.
    * Every activation module of a type in `swap` is replaced by a `Quantise`, which takes over its forward and backward
      hooks; functions such as `torch.nn.functional.relu` cannot be seen and are left alone.

    Layers are numbered from 0 at the input: each weighted module opens a layer, the activations up to the next one
    belong to it, and what comes before the first joins layer 0. Layers in which nothing is quantised get no number.
    The order is that of the forward pass, read off the network's program (by `torch.fx`) or off one pass on an
    `example` input; a program that cannot be read needs one. Modules that evaluation does not use stay in float.

    An activation module that is used at several places gets a quantiser for each layer in which it is used (see
    `PerCall`). What stays in float although it was to be quantised is named in a warning; `report` lists all.

    Args:
        net: the float network; it is not changed.
        weights: quantiser of the weights; None leaves them in float.
        activations: quantiser of the features; None leaves the activations as they are.
        noise, strategy: as for `Quantise`, which chooses the initial std too.
        keep: names of modules to leave in float (as in `net.named_modules()`; a container stands for all inside), or
            "first" and "last" for the first and last weighted module. An activation that follows a kept last module
            stays as well: it shapes the network's output, not a feature.
        swap: the activation types to replace.
        example: an input (or a tuple of inputs) for one forward pass in evaluation mode, which finds the order.
        scales: a factor of the quantum for each weighted module and activation by its name, as `calibrate` finds
            them for a pretrained network; those without one keep the quantum of the quantiser. See `Scaled`. For an
            activation that several layers share, "NAME.quantisers.0" and so on are its places, NAME is all of them.
        quantum: "learned" makes the quanta parameters, which start from `scales` or from 1 (see `Learned`): one for each
            activation, and for each weight one for the layer, or for each channel where its scale is so. With a mapping
            such as {"activations": "learned"} those of the weights, or of the activations, alone. None leaves all fixed.
        quantum_gradient, gradient_scale: of learned quanta, as for `Learned`; each also as a mapping from "weights" and
            "activations".

    LSQ is uniform noise, the mode, and learned quanta, with the start and the gradient scale of its authors::

        scales = calibrate(net, x, fine, unsigned, rule="lsq")
        net = quantise(net, fine, unsigned, scales=scales, quantum="learned", gradient_scale="lsq")
        fit(net, data, schedule=None, epochs=…)  # the noise stays as it is, at half a quantum to either side

    Returns:
        The quantised copy, each part in the training or evaluation mode of the original.

    Raises:
        ValueError: nothing to quantise, an unknown name in `keep`, an order that cannot be read without an example, an
            activation that the forward pass does not call where it was put, a network quantised already.
        TypeError: arguments of a wrong type.

    Example:
        >>> from anabook import Quantiser, models
        >>> net = quantise(models.mlp(8, (6, 6)), weights=Quantiser.ternary(), activations=Quantiser.ternary())
        >>> net.fc1_act.quantiser, net.fc1_act.layer
        (Quantiser(levels=[-1, 0, 1], thresholds=[-0.5, 0.5]), 0)
    """
    check_arguments(net, weights, activations, swap)
    of_weights, of_activations = _quanta(quantum, quantum_gradient, gradient_scale)
    net = copied(net)
    part_activations(net, swap)
    order = calls(net, (*WEIGHTED, *swap), example)
    groups = groups_of(net, order, need_activations=activations is not None)
    kept = _kept(net, groups, keep)
    scales = _scales(net, groups, scales)
    number = 0
    places: dict[str, dict[str, nn.Module]] = {}
    for group in groups:
        put = []
        if weights is not None and group.weight not in kept:
            module = Quantise(weights, noise, strategy)
            put.append(_quantise_weight(net, group.weight, module, scales.get(group.weight), of_weights))
        for name in group.activations if activations is not None else ():
            if group is groups[-1] and group.weight in kept:
                # What shapes the output stays, also where the same module shapes features.
                places.setdefault(name, {})[group.weight] = net.get_submodule(name)
            elif name not in kept:
                put.append(Quantise(activations, noise, strategy))
                place = place_in(groups, name, group)
                scale = scales.get(place, scales.get(name))
                step = _with_quantum(put[-1], scale, of_activations, place, net.get_submodule(group.weight).weight)
                places.setdefault(name, {})[group.weight] = step
        for module in put:
            module.layer = number
        number += bool(put)
    if number == 0:
        raise ValueError(f"nothing is left to quantise: keep={tuple(_names(keep))!r} covers the whole network.")
    places = {name: each for name, each in places.items() if any(map(quantises, each.values()))}
    _swap(net, order, groups, places)
    _check_swapped(net, places, example)
    mark(net)
    _warn_of_floats(net, groups[0].weight, {*kept, *_names(keep)}, weights is not None, activations is not None, example)
    return net


def _names(keep: Any) -> list[str]:
    names = [keep] if isinstance(keep, str) else list(keep) if isinstance(keep, Iterable) else None
    if names is None or not all(isinstance(name, str) for name in names):
        raise TypeError(f"keep must be a collection of module names, not {keep!r}.")
    return names


def _kept(net: nn.Module, groups: list[Group], keep: Any) -> set[str]:
    """The names of the modules, among those in `groups`, that stay in float."""
    candidates = [name for group in groups for name in (group.weight, *group.activations)]
    allowed = [name for name, _ in net.named_modules() if name]
    ends = {"first": groups[0].weight, "last": groups[-1].weight}
    kept = set()
    for name in _names(keep):
        if name in ends:
            kept.add(ends[name])
        elif name in allowed:
            kept.update(c for c in candidates if c == name or c.startswith(f"{name}."))
        else:
            raise ValueError(_unknown(name, [*ends, *allowed]))
    return kept


def _unknown(name: str, allowed: list[str]) -> str:
    near = nearest(name, allowed)
    hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(map(repr, allowed))}."
    return f"keep names {name!r}, but the network has no such module. {hint}"


def _scales(net: nn.Module, groups: list[Group], scales: Any) -> dict[str, Any]:
    if scales is not None and not isinstance(scales, Mapping):
        raise TypeError(f"scales must map names of modules to numbers or tensors, not {type(scales).__name__}.")
    shapes: dict[str, tuple[int, ...]] = {}
    for group in groups:
        weight = net.get_submodule(group.weight).weight
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


def _quanta(*given: Any) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The settings of the learned quanta of weights, and of activations; None where quanta are fixed."""
    names, parts = ("quantum", "quantum_gradient", "gradient_scale"), ("weights", "activations")
    each: list[dict[str, Any]] = [{}, {}]
    for name, value in zip(names, given):
        if isinstance(value, Mapping):
            for part in value:
                choice(part, parts, f"each name in {name}")
        for settings, part in zip(each, parts):
            settings[name] = value.get(part) if isinstance(value, Mapping) else value
    for settings in each:
        if settings["quantum"] is not None:
            choice(settings["quantum"], ("learned",), "quantum")
        if settings["quantum_gradient"] is None:
            settings["quantum_gradient"] = "value"
        check_settings(settings["quantum_gradient"], settings["gradient_scale"])
    weights, activations = (s if s.pop("quantum") is not None else None for s in each)
    if weights is activations is None and given[1:] != ("value", None):
        raise ValueError(
            "quantum_gradient and gradient_scale are for learned quanta: pass quantum='learned', or leave them out."
        )
    return weights, activations


def _with_quantum(
    module: Quantise, scale: Tensor | None, learned: dict[str, Any] | None, name: str, weight: Tensor, batched: bool = True
) -> nn.Module:
    """The quantiser with the quantum that it is to have, if any; a learned one in float64 where the weight is."""
    if learned is None:
        return module if scale is None else Scaled(module, scale)
    start: Any = 1.0 if scale is None else scale
    if weight.dtype == torch.float64:
        start = checked_scale(start, torch.float64)
    what = repr(name) if batched else f"the weight of {name!r}"
    return Learned(module, start, **learned, batched=batched, name=what)


def _quantise_weight(
    net: nn.Module, name: str, module: Quantise, scale: Tensor | None, learned: dict[str, Any] | None
) -> Quantise:
    layer = net.get_submodule(name)
    if isinstance(getattr(layer, "weight", None), nn.parameter.UninitializedParameter):
        raise ValueError(f"a {type(layer).__name__} has no weight yet: run one batch through the network first.")
    step = _with_quantum(module, scale, learned, name, layer.weight, batched=False).to(layer.weight.device)
    # The check that "unsafe" leaves out would run the parametrisation, and so draw from the global generator.
    parametrize.register_parametrization(layer, "weight", step, unsafe=True)
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


def _warn_of_floats(net: nn.Module, first: str, kept: set[str], weights: bool, activations: bool, example: Any) -> None:
    """Name what stays in float though neither `keep` nor the network's input says so."""

    def asked_for(name: str) -> bool:
        return any(name == each or name.startswith(f"{each}.") for each in kept)

    everything = report(net, example)
    floats = [o for o in everything.floats if not asked_for(o.name)]
    in_weight = [o.name for o in floats if weights and o.weight_is_float]
    in_input = [
        o.name
        for o in floats
        if activations and o.input_is_float and o.name != first and not (o.takes_the_networks_input or asked_for(o.source))
    ]
    parts = [
        f"the {what}{'s' if len(names) > 1 else ''} of {_listing(names)}"
        for what, names in (("weight", in_weight), ("input", in_input))
        if names
    ]
    verb = "stays" if len(in_weight) + len(in_input) == 1 else "stay"
    said = [f"{' and '.join(parts)} {verb} in float"] if parts else []
    if example is None and activations:
        hidden = [o.name for o in everything if not o.known and not o.unused and not asked_for(o.name)]
        if hidden:
            said.append(
                f"what {_listing(hidden)} {'is' if len(hidden) == 1 else 'are'} applied to is not known without example=x"
            )
    if said:
        warnings.warn(f"{'; '.join(said)}; training.report(net) lists every weighted operation.", UserWarning, stacklevel=3)


def _listing(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(repr, names[:3])) + more
