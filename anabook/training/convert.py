"""From a float network to a quantised one, and on to the deployed one."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from anabook._validate import choice, did_you_mean, integer, nearest
from anabook.quantisers import Quantiser
from anabook.training.modules import Quantise
from anabook.training.order import WEIGHTED, calls, run_once
from anabook.training.places import Beginning, Ending, PerCall, Scaled
from anabook.training.report import report
from anabook.training.sources import as_inputs

if TYPE_CHECKING:
    from anabook.laws import Law
    from anabook.noise import Noise
    from anabook.symbolic import Density
    from anabook.variants import Variant

ACTIVATIONS: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Softsign,
    nn.Hardtanh, nn.Tanh, nn.Hardsigmoid, nn.Sigmoid, nn.Hardswish, nn.Tanhshrink,
)
"""The activation modules that `quantise` swaps by default. PReLU (it has a weight of its own), Softmax and Identity
are not among them."""

_REMEMBERED = {"activation_relu_or_gelu": 0}
"""Attributes in which torch's modules note what their activation is, for a shortcut that does not call it, and what
turns the shortcut off."""


class Layer(NamedTuple):
    """The quantisers that share one schedule: a weight's, and those of the activations that follow it.

    Attributes:
        weight: of the layer's weight; None where the weight stays in float.
        activations: in the order of the forward pass; empty where none follows, or all stay in float.
    """

    weight: Quantise | None
    activations: tuple[Quantise, ...]


@dataclass
class _Group:
    """Names of a weighted module and of the activations after it, each once."""

    weight: str
    activations: list[str] = field(default_factory=list)


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
) -> nn.Module:
    """A copy of a float network with stochastic quantisers on its weights and in place of its activations.

    * The `weight` of every linear and (transposed) convolution layer gets a `Quantise` through
      `torch.nn.utils.parametrize`; its present value becomes the latent weight, and a saved state dict is plain torch.
      Biases, normalisation layers and parameters of other names stay in float.
    * Every activation module of a type in `swap` is replaced by a `Quantise`; functions such as
      `torch.nn.functional.relu` cannot be seen and are left alone.

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

    Returns:
        The quantised copy, each part in the training or evaluation mode of the original.

    Raises:
        ValueError: nothing to quantise, an unknown name in `keep`, an order that cannot be read without an example, an
            activation that the forward pass does not call where it was put, a network quantised already.
        TypeError: arguments of a wrong type.
    """
    _check_arguments(net, weights, activations, swap)
    net = _copied(net)
    _part_activations(net, swap)
    order = calls(net, (*WEIGHTED, *swap), example)
    groups = _groups(net, order, need_activations=activations is not None)
    kept = _kept(net, groups, keep)
    scales = _scales(net, groups, scales)
    number = 0
    places: dict[str, dict[str, nn.Module]] = {}
    for group in groups:
        put = []
        if weights is not None and group.weight not in kept:
            module = Quantise(weights, noise, strategy)
            put.append(_quantise_weight(net, group.weight, module, scales.get(group.weight)))
        for name in group.activations if activations is not None else ():
            if group is groups[-1] and group.weight in kept:
                # What shapes the output stays, also where the same module shapes features.
                places.setdefault(name, {})[group.weight] = net.get_submodule(name)
            elif name not in kept:
                put.append(Quantise(activations, noise, strategy))
                scale = scales.get(_place(groups, name, group), scales.get(name))
                places.setdefault(name, {})[group.weight] = put[-1] if scale is None else Scaled(put[-1], scale)
        for module in put:
            module.layer = number
        number += bool(put)
    if number == 0:
        raise ValueError(f"nothing is left to quantise: keep={tuple(_names(keep))!r} covers the whole network.")
    places = {name: each for name, each in places.items() if any(map(_quantises, each.values()))}
    _swap(net, order, groups, places)
    _check_swapped(net, places, example)
    net.register_load_state_dict_pre_hook(_take_float_names)
    _warn_of_floats(net, groups[0].weight, {*kept, *_names(keep)}, weights is not None, activations is not None, example)
    return net


def calibrate(
    net: nn.Module,
    inputs: Any = None,
    weights: Quantiser | None = None,
    activations: Quantiser | None = None,
    *,
    per: str = "layer",
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
        swap: as for `quantise`.

    Returns:
        The scales by the names of the modules.

    Raises:
        ValueError, TypeError: nothing to calibrate, no inputs for activations, arguments of a wrong type.
    """
    _check_arguments(net, weights, activations, swap)
    choice(per, ("layer", "channel"), "per")
    scales = {}
    for name, module in net.named_modules():
        if weights is not None and isinstance(module, WEIGHTED):
            w = module.weight.detach()
            rows = w.reshape(len(w), -1) if per == "channel" else w.reshape(1, -1)
            found = _best_scale(rows.double(), rows.double(), weights)
            scales[name] = found.reshape(-1, *[1] * (w.dim() - 1)) if per == "channel" else found.reshape(())
    if activations is not None:
        if inputs is None:
            raise ValueError("inputs are needed to calibrate activations: hand over a batch of typical ones.")
        for name, (x, y) in _features(net, inputs, swap).items():
            scales[name] = _best_scale(x, y, activations).reshape(())
    if not scales:
        raise ValueError(f"nothing to calibrate: this {type(net).__name__} has no weighted module or activation.")
    return scales


def layers(net: nn.Module) -> list[Layer]:
    """The quantised layers, in the order of their numbers.

    Raises:
        ValueError: a network that `quantise` did not make (a `Quantise` without a layer number, or none at all).
    """
    _check_module(net)
    weights = {id(w.quantise) for w in _weight_quantisers(net)}
    found: dict[int, tuple[list[Quantise], list[Quantise]]] = {}
    for name, module in net.named_modules():
        if isinstance(module, Quantise):
            if module.layer is None:
                raise ValueError(f"the Quantise at {name!r} has no layer number: make the network with "
                                 "training.quantise, or set its attribute `layer`.")
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


def initialise_near_thresholds(net: nn.Module, seed: int) -> None:
    """Draw the latent weights anew, in place, each near a random threshold of its quantiser, where gradients are large.

    w = θ + α + U(−1/√fan_in, 1/√fan_in) with θ uniform among the thresholds and α the noise's present mean: the start
    of the paper's experiments. (With a scale s of the quantum, s·(θ + α) in place of θ + α.) Kept layers and biases are left alone.

    Args:
        net: a network made by `quantise`.
        seed: of the draws, which do not touch torch's global generator.
    """
    _check_module(net)
    generator = torch.Generator().manual_seed(integer(seed, "seed", minimum=0, maximum=2**63 - 1))

    def near(weight: _Weight, latent: Tensor) -> Tensor:
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
    """
    _check_module(net)

    done: dict[int, Any] = {}

    def shifted(weight: _Weight, latent: Tensor) -> Tensor:
        mean = weight.quantise.mean
        by = mean * weight.step.scale if isinstance(weight.step, Scaled) else mean
        if id(latent) in done:  # a parameter that layers share
            if not bool(torch.all(torch.as_tensor(by == done[id(latent)]))):
                raise ValueError(f"the layer {weight.name!r} shares its weight with another one whose noise has another mean, so "
                                 "it cannot be shifted for both.")
            return latent.clone()
        done[id(latent)] = by
        return latent + by

    _change_latent(net, shifted)


def quantised_weights(net: nn.Module) -> dict[str, Tensor]:
    """The weights that the network uses once deployed: σ(latent weight), without noise, by parameter name.

    Other parametrisations of a weight, such as weight normalisation, are applied as well.
    """
    _check_module(net)
    with torch.no_grad():
        return {f"{name}.weight" if name else "weight": _noiseless(layer.parametrizations.weight)()
                for name, layer, _, _ in _weight_quantisers(net)}


def float_state_dict(net: nn.Module) -> dict[str, Tensor]:
    """A quantised network's state dict with the names of the float network that it was made from.

    Weights are the latent ones, before noise and rounding. `load_state_dict` of the float network takes it; the other
    way round, a quantised network loads the state dict of a float one as it is.

    Args:
        net: a network made by `quantise`.

    Returns:
        The tensors by name, those of the network itself, not copies.
    """
    layers(net)
    state = net.state_dict()
    for old, new in _renamed(net).items():
        state[old] = state.pop(new)
    quanta = [f"{name}.scale" for name, module in net.named_modules(remove_duplicate=False) if isinstance(module, Scaled)]
    return {name: tensor for name, tensor in state.items() if name not in quanta}


def deploy(net: nn.Module) -> nn.Module:
    """A noise-free copy in evaluation mode whose weights are plain tensors of quantised values.

    The parametrisations are gone; each swapped activation stays a `Quantise` whose noise is removed for good, so the
    copy computes what `net.eval()` computes, in either mode. Weights that share a parameter go on sharing one where
    they come out equal. A state dict with weights that are not rounded is refused.
    """
    layers(net)
    net = copy.deepcopy(net).eval()
    for module in list(net.modules()):
        if isinstance(module, Quantise):
            module.set_noise(0.0, 0.0)
    found = _weight_quantisers(net)
    with torch.no_grad():
        values = [layer.weight.clone() for _, layer, _, _ in found]
    shared: dict[int, list[nn.Parameter]] = {}
    for (_, layer, _, _), value in zip(found, values):
        originals = next(layer.parametrizations.weight.parameters())
        known = shared.setdefault(id(originals), [])
        same = next((p for p in known if torch.equal(p, value)), None)
        if same is None:
            same = nn.Parameter(value, requires_grad=originals.requires_grad)
            known.append(same)
        _remove_parametrisations(layer)
        layer.weight = same
    _join_calls(net)
    n_levels = {f"{name}.weight" if name else "weight": quantise.quantiser.n_levels for name, _, _, quantise in found}
    net.register_load_state_dict_pre_hook(_OnlyLevels(n_levels))
    return net


def _remove_parametrisations(layer: nn.Module) -> None:
    """Make the weight a parameter again, and leave alone whatever else has the same latent parameter."""
    parametrisations = layer.parametrizations.weight
    for name, parameter in list(parametrisations._parameters.items()):
        setattr(parametrisations, name, nn.Parameter(parameter.detach().clone(), parameter.requires_grad))
    # Copies of a parametrised module share its class, and removing a parametrisation changes the class.
    shared = type(layer)
    own = {name: value for name, value in vars(shared).items() if name not in ("__dict__", "__weakref__")}
    layer.__class__ = type(shared.__name__, shared.__bases__, own)
    parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)


def _join_calls(net: nn.Module) -> None:
    """One quantiser for all calls of an activation again, where they differ in nothing but their noise."""
    for owner in list(net.modules()):
        for hooks in (owner._forward_pre_hooks, owner._forward_hooks):
            for key, hook in list(hooks.items()):
                if isinstance(hook, Beginning):
                    steps = getattr(getattr(owner, hook.child), "quantisers", None)
                    if steps is not None and not all(_alike(step, steps[0]) for step in steps):
                        continue
                    if steps is not None:
                        setattr(owner, hook.child, steps[0])
                    del hooks[key]
                    owner._forward_hooks_always_called.pop(key, None)


def _alike(a: nn.Module, b: nn.Module) -> bool:
    if isinstance(a, Scaled) and isinstance(b, Scaled):
        return torch.equal(a.scale, b.scale) and _alike(a.quantise, b.quantise)
    return isinstance(a, Quantise) and isinstance(b, Quantise) and a.quantiser == b.quantiser


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


def _features(net: nn.Module, inputs: Any, swap: tuple) -> dict[str, tuple[Tensor, Tensor]]:
    """Inputs and outputs of each activation in each of its layers, in one row; at most 2^18 of a call, evenly spaced."""
    found: dict[str, tuple[Tensor, Tensor]] = {}

    def note(place: str, x: Tensor, y: Tensor) -> None:
        x, y = (t.detach().double().reshape(1, -1) for t in (x, y))
        every = -(-x.shape[1] // 2**18)
        pair = x[:, ::every], y[:, ::every]
        found[place] = tuple(torch.cat(parts, 1) for parts in zip(found[place], pair)) if place in found else pair

    # The copy also keeps an activation that works in place from changing what is seen.
    net = _copied(net)
    _part_activations(net, swap)
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
    """For each activation the places of its calls, as `_place` names them."""
    if not any(isinstance(net.get_submodule(name), WEIGHTED) for name in order):
        return {name: [name] * order.count(name) for name in order}
    groups = _groups(net, order, need_activations=False)
    by_weight = {group.weight: group for group in groups}
    current, places = groups[0], {}
    for name in order:
        current = by_weight.get(name, current)
        if name not in by_weight:
            places.setdefault(name, []).append(_place(groups, name, current))
    return places


def _copied(net: nn.Module) -> nn.Module:
    for name, module in net.named_modules():
        if isinstance(module, WEIGHTED) and isinstance(vars(module).get("weight"), Tensor):
            raise ValueError(f"the weight of {name!r} is no parameter but is made by a hook, as by torch.nn.utils.weight_norm "
                             "or pruning: remove the hook, or use torch.nn.utils.parametrizations in its place.")
    return copy.deepcopy(net)


def _noiseless(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module).eval()


def _check_module(net: object) -> None:
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module, not {net!r}.")


def _check_arguments(net: Any, weights: Any, activations: Any, swap: Any) -> None:
    _check_module(net)
    if hasattr(net, "_orig_mod"):
        raise ValueError("the network is compiled: hand over the one that torch.compile was given, and compile the result.")
    for what, value in (("weights", weights), ("activations", activations)):
        if value is not None and not isinstance(value, Quantiser):
            raise TypeError(f"{what} must be a Quantiser or None, not {value!r}.")
    if weights is None and activations is None:
        raise ValueError("nothing to quantise: give a Quantiser as weights, activations or both.")
    if not isinstance(swap, tuple) or not all(isinstance(t, type) and issubclass(t, nn.Module) for t in swap):
        raise TypeError(f"swap must be a tuple of torch.nn.Module classes, not {swap!r}.")
    if any(isinstance(module, Quantise) for module in net.modules()):
        raise ValueError("the network has Quantise modules already: convert the float network instead.")


class _Weight(NamedTuple):
    """A module with a quantised weight: its name, itself, the parametrisation and the quantiser in it."""

    name: str
    layer: nn.Module
    step: nn.Module
    quantise: Quantise


def _weight_quantisers(net: nn.Module) -> list[_Weight]:
    found = []
    for name, module in net.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            for step in module.parametrizations.weight:
                quantise = step.quantise if isinstance(step, Scaled) else step
                if isinstance(quantise, Quantise):
                    found.append(_Weight(name, module, step, quantise))
    return found


def _part_activations(net: nn.Module, swap: tuple) -> None:
    """Give each place its own module where one activation module stands at several places of the network."""
    seen: set[int] = set()
    for name, module in list(net.named_modules(remove_duplicate=False)):
        if isinstance(module, swap) and name:
            if id(module) in seen:
                _set_submodule(net, name, copy.deepcopy(module))
            seen.add(id(module))


def _change_latent(net: nn.Module, change: Callable[[_Weight, Tensor], Tensor]) -> None:
    """Replace what comes into the quantiser of each weight by a function of it: all of them, or none if one cannot be.

    Raises:
        ValueError: no quantised weight, or one behind a parametrisation that cannot give every value.
    """
    found = _weight_quantisers(net)
    if not found:
        raise ValueError("no weight of this network is quantised: convert it with training.quantise first.")
    before = [[p.detach().clone() for p in weight.layer.parametrizations.weight.parameters()] for weight in found]
    try:
        with torch.no_grad():
            for weight in found:
                _set_latent(weight, change(weight, _latent(weight)))
    except Exception:
        with torch.no_grad():
            for weight, values in zip(found, before):
                for p, value in zip(weight.layer.parametrizations.weight.parameters(), values):
                    p.copy_(value)
        raise


def _latent(weight: _Weight) -> Tensor:
    """What comes into the quantiser of a weight: the parameter, or what other parametrisations make of it."""
    parametrisations = weight.layer.parametrizations.weight
    earlier = list(parametrisations).index(weight.step)
    if earlier == 0:
        return parametrisations.original
    own = _noiseless(parametrisations)
    originals = [own.original] if own.is_tensor else [getattr(own, f"original{i}") for i in range(own.ntensors)]
    value = own[0](*originals)
    for step in list(own)[1:earlier]:
        value = step(value)
    return value


def _set_latent(weight: _Weight, value: Tensor) -> None:
    parametrisations = weight.layer.parametrizations.weight
    steps = list(parametrisations)
    earlier = steps[:steps.index(weight.step)]
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
        raise ValueError(f"the latent weight of {weight.name!r} cannot be set behind its parametrisation {kind}, which does "
                         "not give every value: initialise it yourself, or remove the parametrisation.")


def _groups(net: nn.Module, order: list[str], need_activations: bool) -> list[_Group]:
    """The layers' modules, in the order of the forward pass; a weight that is used again goes on with its layer."""
    groups: dict[str, _Group] = {}
    current, early = None, _Group("")
    for name in order:
        if isinstance(net.get_submodule(name), WEIGHTED):
            current = groups.setdefault(name, _Group(name, early.activations if not groups else []))
        elif name not in (current or early).activations:
            (current or early).activations.append(name)
    if not groups:
        raise ValueError(f"nothing to quantise: this {type(net).__name__} has no linear or convolution layer"
                         f"{' that its forward pass uses' if any(isinstance(m, WEIGHTED) for m in net.modules()) else ''}.")
    if need_activations and not any(group.activations for group in groups.values()):
        raise ValueError(
            f"this {type(net).__name__} has no activation module to swap (functions such as F.relu cannot be seen): "
            "use modules such as torch.nn.ReLU, or pass activations=None."
        )
    return list(groups.values())


def _names(keep: Any) -> list[str]:
    names = [keep] if isinstance(keep, str) else list(keep) if isinstance(keep, Iterable) else None
    if names is None or not all(isinstance(name, str) for name in names):
        raise TypeError(f"keep must be a collection of module names, not {keep!r}.")
    return names


def _kept(net: nn.Module, groups: list[_Group], keep: Any) -> set[str]:
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


def _place(groups: list[_Group], name: str, group: _Group) -> str:
    """The name of a quantiser: its activation's, or, where that is used in several layers, that of the place in this one."""
    using = [each for each in groups if name in each.activations]
    return name if len(using) == 1 else f"{name}.quantisers.{using.index(group)}"


def _scales(net: nn.Module, groups: list[_Group], scales: Any) -> dict[str, Any]:
    if scales is not None and not isinstance(scales, Mapping):
        raise TypeError(f"scales must map names of modules to numbers or tensors, not {type(scales).__name__}.")
    shapes: dict[str, tuple[int, ...]] = {}
    for group in groups:
        weight = net.get_submodule(group.weight).weight
        shapes[group.weight] = () if isinstance(weight, nn.parameter.UninitializedParameter) else tuple(weight.shape)
        for name in group.activations:
            shapes[name] = shapes[_place(groups, name, group)] = ()
    for name, scale in (scales or {}).items():
        if name not in shapes:
            raise ValueError(f"scales names {name!r}, but the network has no such weighted module or activation"
                             f"{did_you_mean(str(name), shapes)}.")
        given = tuple(getattr(scale, "shape", ()))
        if shapes[name] and math.prod(given) > 1 and not _broadcasts(given, shapes[name]):
            raise ValueError(f"the scale of {name!r} must be one number or fit to a weight of shape {shapes[name]}, as one for "
                             f"each channel of shape {(shapes[name][0], *[1] * (len(shapes[name]) - 1))} does, not have the "
                             f"shape {given}.")
    return dict(scales or {})


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    try:
        return torch.broadcast_shapes(shape, to) == to
    except RuntimeError:
        return False


def _quantise_weight(net: nn.Module, name: str, module: Quantise, scale: Tensor | None) -> Quantise:
    layer = net.get_submodule(name)
    if isinstance(getattr(layer, "weight", None), nn.parameter.UninitializedParameter):
        raise ValueError(f"a {type(layer).__name__} has no weight yet: run one batch through the network first.")
    step = (module if scale is None else Scaled(module, scale)).to(layer.weight.device)
    # The check that "unsafe" leaves out would run the parametrisation, and so draw from the global generator.
    parametrize.register_parametrization(layer, "weight", step, unsafe=True)
    layer.parametrizations.train(layer.training)
    return module


def _swap(net: nn.Module, order: list[str], groups: list[_Group], places: dict[str, dict[str, nn.Module]]) -> None:
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
        if len(steps) == 1:
            step = steps[0]
        else:
            step = PerCall(steps, [list(by_layer).index(weight) for weight in used[name]])
            owner.register_forward_pre_hook(Beginning(child))
            owner.register_forward_hook(Ending(child), always_call=False)
        _set_submodule(net, name, step.to(device).train(old.training))
        for attribute, off in _REMEMBERED.items():
            if hasattr(owner, attribute):
                setattr(owner, attribute, off)


def _set_submodule(net: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(net.get_submodule(parent), child, module)


def _check_swapped(net: nn.Module, places: dict[str, dict[str, nn.Module]], example: Any) -> None:
    """Refuse a network that goes on using activations which it was to use no longer, or calls them in another order."""
    found = [name for name in calls(net, (Quantise, Scaled), example) if "parametrizations" not in name.split(".")]
    for name, by_layer in places.items():
        steps = list(by_layer.values())
        expected = [name] if len(steps) == 1 else [f"{name}.quantisers.{i}" for i in net.get_submodule(name).which
                                                   if _quantises(steps[i])]
        called = [each for each in found if each in expected]
        if not called or (len(steps) > 1 and called != expected):
            what = "called in another order than before" if called else "not called any more"
            raise ValueError(f"the activation {name!r} is {what} once a quantiser has taken its place: the network keeps it "
                             "elsewhere, or counts its calls; give each layer its own activation module.")


def _quantises(module: nn.Module) -> bool:
    return isinstance(module, (Quantise, Scaled))


def _warn_of_floats(net: nn.Module, first: str, kept: set[str], weights: bool, activations: bool, example: Any) -> None:
    """Name what stays in float though neither `keep` nor the network's input says so."""

    def asked_for(name: str) -> bool:
        return any(name == each or name.startswith(f"{each}.") for each in kept)

    everything = report(net, example)
    floats = [o for o in everything.floats if not asked_for(o.name)]
    in_weight = [o.name for o in floats if weights and o.weight_is_float]
    in_input = [o.name for o in floats if activations and o.input_is_float and o.name != first
                and not (o.takes_the_networks_input or asked_for(o.source))]
    parts = [f"the {what}{'s' if len(names) > 1 else ''} of {_listing(names)}"
             for what, names in (("weight", in_weight), ("input", in_input)) if names]
    verb = "stays" if len(in_weight) + len(in_input) == 1 else "stay"
    said = [f"{' and '.join(parts)} {verb} in float"] if parts else []
    if example is None and activations:
        hidden = [o.name for o in everything if not o.known and not o.unused and not asked_for(o.name)]
        if hidden:
            said.append(f"what {_listing(hidden)} {'is' if len(hidden) == 1 else 'are'} applied to is not known without "
                        "example=x")
    if said:
        warnings.warn(f"{'; '.join(said)}; training.report(net) lists every weighted operation.", UserWarning, stacklevel=3)


def _listing(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(repr, names[:3])) + more


def _renamed(net: nn.Module) -> dict[str, str]:
    """The names of latent weights in the float network's state dict and in the quantised one's."""
    names = {}
    for name, module in net.named_modules(remove_duplicate=False):
        if parametrize.is_parametrized(module, "weight") and len(module.parametrizations.weight) == 1:
            if _quantises(module.parametrizations.weight[0]):
                start = f"{name}." if name else ""
                names[f"{start}weight"] = f"{start}parametrizations.weight.original"
    return names


def _take_float_names(net: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Let a quantised network load the state dict of the float one: its weights become the latent weights."""
    renamed = False
    for old, new in _renamed(net).items():
        if prefix + old in state and prefix + new not in state:
            state[prefix + new] = state.pop(prefix + old)
            renamed = True
    if renamed:  # a quantum that `calibrate` has found is no part of a float network
        for name, module in net.named_modules(remove_duplicate=False):
            if isinstance(module, Scaled):
                state.setdefault(f"{prefix}{name}.scale", module.scale)


class _OnlyLevels:
    """A hook of a deployed network that refuses to load weights which are not rounded.

    Args:
        n_levels: of the quantiser of each weight, by the parameter's name.
    """

    def __init__(self, n_levels: dict[str, int]) -> None:
        self.n_levels = n_levels

    def __call__(self, net: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
        for name, n_levels in self.n_levels.items():
            latent = f"{prefix}{name.removesuffix('weight')}parametrizations.weight.original"
            weight = state.get(prefix + name)
            if latent in state or isinstance(weight, Tensor) and weight.dim() and any(len(row.unique()) > n_levels for row in weight):
                raise ValueError(f"{name!r} is not rounded to {n_levels} levels in this state dict, and a deployed network has no "
                                 "quantisers of weights: load it into the quantised network, and deploy that.")
