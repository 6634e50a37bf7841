"""From a float network to a quantised one."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from anabook._validate import did_you_mean, nearest
from anabook.quantisers import Quantiser
from anabook.training.assignment import Assignment, Quantisers, quantises_any
from anabook.training.flows import INPUT, QUANTISABLE, Flow, owner_of
from anabook.training.grouping import (
    ACTIVATIONS,
    Group,
    assignments,
    check_arguments,
    copied,
    groups_of,
    part_activations,
    place_in,
)
from anabook.training.learned import Learned, settings_of
from anabook.training.modules import Quantise
from anabook.training.order import applications, calls
from anabook.training.places import Beginning, Ending, PerCall, Place, Scaled, copy_hooks, quantises
from anabook.training.recurrences import follow_parametrisations
from anabook.training.report import report
from anabook.training.scaled import checked_scale
from anabook.training.sites import functions_as_modules, put_places
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
    weights: Quantisers = None,
    activations: Quantisers = None,
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
    before: Quantiser | None = None,
    summands: Quantiser | None = None,
) -> nn.Module:
    """A copy of a float network with stochastic quantisers on its weights and in place of its activations.

    * Each weight of a linear, (transposed) convolution, attention or recurrent layer gets a `Quantise` through
      `torch.nn.utils.parametrize`; its present value becomes the latent weight, and a saved state dict is plain torch.
      Biases, normalisation layers, embeddings and parameters of your own stay in float.
    * Every activation of a type in `swap` is replaced by a `Quantise`, which takes over the forward and backward hooks of
      a module. A function such as `torch.nn.functional.relu` or a method such as `x.relu()` becomes a module first: the
      program of the module that calls it is read (by `torch.fx`), changed and put back.
    * With `before`, what else comes to quantised weights gets a quantiser, too: behind a bottleneck or a LayerNorm, for
      example. With `summands`, so does what is added to levels or to other sums, so that a residual addition adds levels.

    Layers are numbered from 0 at the input: each weighted module opens a layer, the activations up to the next one
    belong to it, and what comes before the first joins layer 0. Layers in which nothing is quantised get no number.
    The order is that of the forward pass, read off the network's program (by `torch.fx`) or off one pass on an
    `example` input; a program that cannot be read needs one. Modules that evaluation does not use stay in float.

    An activation module that is used at several places gets a quantiser for each layer in which it is used (see
    `PerCall`). What stays in float although it was to be quantised is named in a warning; `report` lists all.

    **Bits per layer.** A mapping as `weights` or `activations` gives each module a quantiser by its name. Its keys are, in
    any mixture: a name (as in `net.named_modules()`; a container stands for all inside); a pattern of whole names with
    `*`, `?` and `[…]` as in `fnmatch`, where `*` matches dots too, so that "layer1.*" is all inside `layer1`; "first" and
    "last", the first and the last weighted module and the activations that follow it. Its values are quantisers, or None
    or "float" for what stays in float. The first key that matches decides, so special cases come first and "*" last; a
    key that can decide nothing is refused. What no key matches stays in float, with the warning above.

    Args:
        net: the float network; it is not changed.
        weights: quantiser of the weights, or a mapping; None leaves them in float.
        activations: quantiser of the features, or a mapping; None leaves the activations as they are.
        noise, strategy: as for `Quantise`, which chooses the initial std too.
        keep: names of modules to leave in float (as in `net.named_modules()`; a container stands for all inside), of weights
            such as "attention.in_proj_weight" where a module has several, or
            "first" and "last" for the first and last weighted module. An activation that follows a kept last module
            stays as well: it shapes the network's output, not a feature. What a mapping says of a name without
            wildcards, or of "first" and "last", counts more.
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
        before: quantiser for what comes to a quantised weight and holds other numbers than levels, their sums and averages;
            not for the network's own input. It needs levels of both signs, as what it rounds has.
        summands: quantiser for each summand of an addition of two tensors that holds other numbers. With the quantum of
            `activations`, and `scales` from `calibrate` with the same `summands`, all that is added has one quantum,
            which an integer network needs.

    LSQ is uniform noise, the mode, and learned quanta, with the start and the gradient scale of its authors::

        scales = calibrate(net, x, fine, unsigned, rule="lsq")
        net = quantise(net, fine, unsigned, scales=scales, quantum="learned", gradient_scale="lsq")
        fit(net, data, schedule=None, epochs=…)  # the noise stays as it is, at half a quantum to either side

    Returns:
        The quantised copy, each part in the training or evaluation mode of the original.

    Raises:
        ValueError: nothing to quantise, an unknown name in `keep`, a key that matches nothing, an order that cannot be
            read without an example, an activation that the forward pass does not call where it was put, a network
            quantised already.
        TypeError: arguments of a wrong type.

    Example:
        >>> from anabook import Quantiser, models
        >>> net = quantise(models.mlp(8, (6, 6)), weights=Quantiser.ternary(), activations=Quantiser.ternary())
        >>> net.fc1_act.quantiser, net.fc1_act.layer
        (Quantiser(levels=[-1, 0, 1], thresholds=[-0.5, 0.5]), 0)

        Eight bits in the first and in the last layer, ternary weights and four bits elsewhere:

        >>> eight, four = (Quantiser.linear(bits, rounding="nearest") for bits in (8, 4))
        >>> net = quantise(
        ...     models.mlp(8, (6, 6)),
        ...     weights={"first": eight, "last": eight, "*": Quantiser.ternary()},
        ...     activations={"fc1_act": eight, "*": four},
        ... )
        >>> print(report(net))
        layer  operation      weight                       input
        0      fc1 (Linear)   8 bits {-128, -127, …, 127}  float: the network's input
        1      fc2 (Linear)   {-1, 0, 1}                   8 bits {-128, -127, …, 127}
        2      last (Linear)  8 bits {-128, -127, …, 127}  4 bits {-8, -7, …, 7}
    """
    check_arguments(net, weights, activations, swap)
    of_weights, of_activations = settings_of(quantum, quantum_gradient, gradient_scale)
    _check_places(activations, before, summands)
    net = copied(net)
    part_activations(net, swap)
    unread = functions_as_modules(net, swap) if quantises_any(activations) else {}
    own: dict[str, Quantiser] = {}
    if before is not None or summands is not None:
        plan = plan_places(net, weights, activations, before, summands, keep=keep, swap=swap, example=example)
        own, unread = plan.quantisers, {**plan.unread, **unread}
        put_places(net, before is not None, summands is not None, only=own)
    order = calls(net, (*QUANTISABLE, *swap, Place), example)
    groups = groups_of(net, order, need_activations=quantises_any(activations), unread=unread)
    on_weights, on_activations = assignments(net, groups, weights, activations)
    kept = _kept(net, groups, keep, on_weights)
    scales = _scales(net, groups, scales)
    number = 0
    places: dict[str, dict[str, nn.Module]] = {}
    for group in groups:
        put, kind = [], getattr(*owner_of(net, group.weight)).dtype
        quantiser = on_weights.quantisers.get(group.weight)
        if quantiser is not None and group.weight not in kept:
            module = Quantise(quantiser, noise, strategy)
            put.append(_quantise_weight(net, group.weight, module, scales.get(group.weight), of_weights, kind))
        for name in group.activations:
            place = place_in(groups, name, group)
            is_place = isinstance(net.get_submodule(name), Place)
            quantiser = own.get(name) if is_place else on_activations.quantisers.get(place)
            # What shapes the output stays, also where the same module shapes features.
            stays = name in kept or (group is groups[-1] and group.weight in kept)
            if quantiser is None or (stays and (is_place or place not in on_activations.named)):
                places.setdefault(name, {})[group.weight] = net.get_submodule(name)
            else:
                put.append(Quantise(quantiser, noise, strategy))
                scale = scales.get(place, scales.get(name))
                step = _with_quantum(put[-1], scale, of_activations, place, kind)
                places.setdefault(name, {})[group.weight] = step
        for module in put:
            module.layer = number
        number += bool(put)
    if number == 0:
        also = (
            " with what the mappings leave in float" if any(isinstance(q, Mapping) for q in (weights, activations)) else ""
        )
        raise ValueError(f"nothing is left to quantise: keep={tuple(_names(keep))!r}{also} covers the whole network.")
    places = {name: each for name, each in places.items() if any(map(quantises, each.values()))}
    _swap(net, order, groups, places)
    _check_swapped(net, places, example)
    mark(net)
    asked = {*kept, *_names(keep), *_left_in_float(groups, on_activations)}
    _warn_of_floats(net, groups[0].weight, asked, quantises_any(weights), quantises_any(activations), example, unread)
    return net


@dataclass(frozen=True)
class Plan:
    """The places of a float network that get quantisers of their own.

    Attributes:
        quantisers: by the names of the places.
        tied: names of quantisers, those of places and of activations, whose levels are added up, a set for each such sum.
        unread: the modules whose programs cannot be read, with the reasons.
    """

    quantisers: dict[str, Quantiser]
    tied: list[set[str]]
    unread: dict[str, str]


def plan_places(
    net: nn.Module,
    weights: Quantisers,
    activations: Quantisers,
    before: Quantiser | None,
    summands: Quantiser | None,
    *,
    keep: Iterable[str],
    swap: tuple[type[nn.Module], ...],
    example: Any,
) -> Plan:
    """Where `before` and `summands` put quantisers: every place is tried, and those stay to which other numbers come.

    The arguments are those of `quantise`.
    """
    probe = copied(net)
    groups = groups_of(probe, calls(probe, QUANTISABLE, example), need_activations=False)
    kept = _kept(probe, groups, keep, assignments(probe, groups, weights, None)[0])
    uses, unread = put_places(probe, before is not None, summands is not None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        probe = quantise(probe, weights, activations, keep=keep, swap=swap, example=example)
    flows: dict[str, list[Flow]] = {}
    for name, flow in applications(probe, example, places=True):
        flows.setdefault(name, []).append(flow)
    quantisers = {}
    for name, use in uses.items():
        given = [flow for flow in flows.get(name, ()) if flow.kind in ("float", "unknown")]
        if use != "summand" and (use in kept or all(flow.sources == (INPUT,) for flow in given)):
            continue
        if given:
            quantisers[name] = summands if use == "summand" else before
    return Plan(quantisers, _tied([name for name, use in uses.items() if use == "summand"], flows), unread)


def _tied(summands: list[str], flows: dict[str, list[Flow]]) -> list[set[str]]:
    tied: list[set[str]] = []
    for left, right in zip(summands[::2], summands[1::2]):
        together = set()
        for name in (left, right):
            for flow in flows.get(name, ()):
                together |= {name} if flow.kind in ("float", "unknown") else set(flow.sources)
        for other in [each for each in tied if each & together]:
            together |= other
            tied.remove(other)
        tied.append(together)
    return [each for each in tied if len(each) > 1]


def _check_places(activations: Quantiser | None, before: Any, summands: Any) -> None:
    for what, value in (("before", before), ("summands", summands)):
        if value is not None and not isinstance(value, Quantiser):
            raise TypeError(f"{what} must be a Quantiser or None, not {value!r}.")
    if isinstance(activations, Quantiser) and summands is not None:
        quantum, wanted = float(summands.steps.min()), float(activations.steps.min())
        if quantum != wanted:
            raise ValueError(
                f"summands must have the quantum of activations, {wanted:g}, not {quantum:g}, since their levels are added up."
            )


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
    ends = {"first": groups[0].weight, "last": groups[-1].weight}
    kept = set()
    for name in _names(keep):
        if name in ends:
            kept.add(ends[name])
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


def _warn_of_floats(
    net: nn.Module, first: str, kept: set[str], weights: bool, activations: bool, example: Any, unread: dict[str, str]
) -> None:
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
    if unread and in_input:
        name, why = next(iter(unread.items()))
        what = f"{name!r}" if name else f"this {type(net).__name__}"
        said.append(
            f"the program of {what}{f' (and {len(unread) - 1} more)' if len(unread) > 1 else ''} cannot be rewritten ({why}), so "
            "functions and additions in it stay what they are"
        )
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
