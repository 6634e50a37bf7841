"""From a float network to a quantised one, and on to the deployed one."""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from anabook._validate import choice, integer
from anabook.quantisers import Quantiser
from anabook.training.modules import Quantise

if TYPE_CHECKING:
    from anabook.symbolic import Density

ACTIVATIONS: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Softsign,
    nn.Hardtanh, nn.Tanh, nn.Hardsigmoid, nn.Sigmoid, nn.Hardswish, nn.Tanhshrink,
)
"""The activation modules that `quantise` swaps by default. PReLU (it has a weight of its own), Softmax and Identity
are not among them."""

_WEIGHTED = (nn.Linear, nn.modules.conv._ConvNd)


class Layer(NamedTuple):
    """The quantisers that share one schedule: a weight's, and those of the activations that follow it.

    Attributes:
        weight: of the layer's weight; None where the weight stays in float.
        activations: in the order of the forward pass; empty where none follows, or all stay in float.
    """

    weight: Quantise | None
    activations: tuple[Quantise, ...]


class Scaled(nn.Module):
    """s·q(x/s): a stochastic quantiser with a quantum of its own, for a layer or for each channel.

    The noise's mean and standard deviation are in units of the quantum, so one schedule serves layers of any scale.

    Args:
        quantise: a `Quantise` for the quantum 1.
        scale: s > 0, a number or a tensor that broadcasts with the input; it is saved with the network.
    """

    scale: Tensor

    def __init__(self, quantise: Quantise, scale: Tensor | float) -> None:
        super().__init__()
        scale = torch.as_tensor(scale, dtype=torch.float32).detach().clone()
        if not (scale.isfinite().all() and (scale > 0).all()):
            raise ValueError(f"scale must be finite and greater than 0 everywhere, not {scale.tolist()}.")
        self.quantise = quantise
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.scale.to(x.dtype)
        return self.quantise(x / scale) * scale

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The latent weight to store when a quantised one is assigned: the value itself."""
        return weight


@dataclass
class _Group:
    """Names of a weighted module and of the activations after it."""

    weight: str
    activations: list[str] = field(default_factory=list)


def quantise(
    net: nn.Module,
    weights: Quantiser | None = None,
    activations: Quantiser | None = None,
    *,
    noise: str | Density = "uniform",
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
    The order is that of registration, which is the order of the forward pass in a `Sequential`; for any other network
    hand over an `example` input.

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
            them for a pretrained network; those without one keep the quantum of the quantiser. See `Scaled`.

    Returns:
        The quantised copy, each part in the training or evaluation mode of the original.

    Raises:
        ValueError: nothing to quantise, an unknown name in `keep`, an activation module used at several places, an
            order of registration that cannot be that of the forward pass, a network quantised already.
        TypeError: arguments of a wrong type.
    """
    _check_arguments(net, weights, activations, swap)
    net = copy.deepcopy(net)
    groups = _groups(net, swap, example, need_activations=activations is not None)
    kept = _kept(net, groups, keep)
    scales = dict(scales or {})
    for name in scales:
        if not any(name in (group.weight, *group.activations) for group in groups):
            raise ValueError(f"scales names {name!r}, but the network has no such weighted module or activation.")
    number = 0
    for group in groups:
        put = []
        if weights is not None and group.weight not in kept:
            module = Quantise(weights, noise, strategy)
            put.append(_quantise_weight(net.get_submodule(group.weight), module, scales.get(group.weight)))
        for name in group.activations:
            if activations is not None and name not in kept:
                put.append(_swap(net, name, Quantise(activations, noise, strategy), scales.get(name)))
        for module in put:
            module.layer = number
        number += bool(put)
    if number == 0:
        raise ValueError(f"nothing is left to quantise: keep={tuple(_names(keep))!r} covers the whole network.")
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
        if weights is not None and isinstance(module, _WEIGHTED):
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
    generator = torch.Generator().manual_seed(integer(seed, "seed", minimum=0))
    found = _weight_quantisers(net)
    if not found:
        raise ValueError("no weight of this network is quantised: convert it with training.quantise first.")
    with torch.no_grad():
        for _, layer, step, quantiser in found:
            latent = layer.parametrizations.weight.original
            spread = 1 / math.sqrt(latent[0].numel())
            thresholds = torch.tensor(quantiser.quantiser.thresholds)
            which = torch.randint(len(thresholds), latent.shape, generator=generator)
            offset = (2 * torch.rand(latent.shape, generator=generator, dtype=torch.float64) - 1) * spread
            near = thresholds[which] + quantiser.mean
            if isinstance(step, Scaled):
                near = near * step.scale.cpu()
            latent.copy_(near + offset)


def shift_by_mean(net: nn.Module) -> None:
    """Add the mean of their noise to the latent weights, in place.

    Noise is subtracted, so with mean α the quantiser sees w − α. After the shift it sees the weights that were
    there before, those of a pretrained network for instance. To be done once, at the noise that training begins with;
    `initialise_near_thresholds` has it built in.
    """
    _check_module(net)
    found = _weight_quantisers(net)
    if not found:
        raise ValueError("no weight of this network is quantised: convert it with training.quantise first.")
    with torch.no_grad():
        for _, layer, step, quantiser in found:
            by = quantiser.mean * step.scale if isinstance(step, Scaled) else quantiser.mean
            layer.parametrizations.weight.original.add_(by)


def quantised_weights(net: nn.Module) -> dict[str, Tensor]:
    """The weights that the network uses once deployed: σ(latent weight), without noise, by parameter name."""
    _check_module(net)
    result = {}
    for name, layer, step, _ in _weight_quantisers(net):
        latent = layer.parametrizations.weight.original.detach()
        result[f"{name}.weight" if name else "weight"] = _noiseless(step)(latent)
    return result


def deploy(net: nn.Module) -> nn.Module:
    """A noise-free copy in evaluation mode whose weights are plain tensors of quantised values.

    The parametrisations are gone; each swapped activation stays a `Quantise` whose noise is removed for good, so the
    copy computes what `net.eval()` computes, in either mode.
    """
    layers(net)
    net = copy.deepcopy(net).eval()
    for module in list(net.modules()):
        if isinstance(module, Quantise):
            module.set_noise(0.0, 0.0)
    for _, layer, _, _ in _weight_quantisers(net):
        # Copies of a parametrised module share its class, and removing a parametrisation changes the class.
        shared = type(layer)
        own = {name: value for name, value in vars(shared).items() if name not in ("__dict__", "__weakref__")}
        layer.__class__ = type(shared.__name__, shared.__bases__, own)
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    return net


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
    """Inputs and outputs of each activation, in one row; at most 2^18 of them, evenly spaced."""
    found: dict[str, tuple[Tensor, Tensor]] = {}

    def note(name: str, x: Tensor, y: Tensor) -> None:
        x, y = (t.detach().double().reshape(1, -1) for t in (x, y))
        every = -(-x.shape[1] // 2**18)
        found[name] = x[:, ::every], y[:, ::every]

    # The copy also keeps an activation that works in place from changing what is seen.
    net = copy.deepcopy(net).eval()
    for name, module in net.named_modules():
        if isinstance(module, swap):
            if getattr(module, "inplace", False):
                module.inplace = False
            module.register_forward_hook(lambda _m, x, y, name=name: note(name, x[0], y))
    parameter = next(net.parameters())
    with torch.no_grad():
        net(torch.as_tensor(inputs).to(device=parameter.device, dtype=parameter.dtype))
    return found


def _noiseless(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module).eval()


def _check_module(net: object) -> None:
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module, not {net!r}.")


def _check_arguments(net: Any, weights: Any, activations: Any, swap: Any) -> None:
    _check_module(net)
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


def _groups(net: nn.Module, swap: tuple, example: Any, need_activations: bool) -> list[_Group]:
    """The layers' modules, in the order of the forward pass."""
    kinds = (*_WEIGHTED, *swap)
    names = [name for name, module in net.named_modules() if isinstance(module, kinds)]
    shared = _shared_activation(net, swap)
    if shared:
        raise ValueError(f"{shared[0]!r} and {shared[1]!r} are one activation module: give each layer its own.")
    if example is not None:
        names = _order_of_calls(net, names, swap, example)
    groups: list[_Group] = []
    early = []
    for name in names:
        if isinstance(net.get_submodule(name), _WEIGHTED):
            groups.append(_Group(name, early))
            early = []
        elif groups:
            groups[-1].activations.append(name)
        else:
            early.append(name)
    if not groups:
        raise ValueError(f"nothing to quantise: this {type(net).__name__} has no linear or convolution layer.")
    if need_activations and not any(group.activations for group in groups):
        raise ValueError(
            f"this {type(net).__name__} has no activation module to swap (functions such as F.relu cannot be seen): "
            "use modules such as torch.nn.ReLU, or pass activations=None."
        )
    if need_activations and example is None:
        _check_registration(groups)
    return groups


def _check_registration(groups: list[_Group]) -> None:
    """Refuse an order in which one layer has several activations and another, hidden, has none."""
    several = [g.weight for g in groups if len(g.activations) > 1]
    none = [g.weight for g in groups[:-1] if not g.activations]
    if several and none:
        raise ValueError(
            f"in the order of registration {several[0]!r} is followed by several activations and {none[0]!r} by none: "
            "hand over an example input, example=x, so that the order of the forward pass is known."
        )


def _shared_activation(net: nn.Module, swap: tuple) -> tuple[str, str] | None:
    seen: dict[int, str] = {}
    for name, module in net.named_modules(remove_duplicate=False):
        if isinstance(module, swap):
            if id(module) in seen:
                return seen[id(module)], name
            seen[id(module)] = name
    return None


def _order_of_calls(net: nn.Module, names: list[str], swap: tuple, example: Any) -> list[str]:
    calls: list[str] = []
    hooks = [net.get_submodule(name).register_forward_pre_hook(lambda _m, _x, name=name: calls.append(name))
             for name in names]
    modes = [(module, module.training) for module in net.modules()]
    try:
        net.eval()
        with torch.no_grad():
            net(*(example if isinstance(example, tuple) else (example,)))
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes:
            module.training = training
    for name in names:
        if name not in calls:
            raise ValueError(f"the example never reaches {name!r}: remove the module, or name it in keep without an "
                             "example.")
        if calls.count(name) > 1 and isinstance(net.get_submodule(name), swap):
            raise ValueError(f"{name!r} is called {calls.count(name)} times in one forward pass: give each layer its "
                             "own activation module.")
    return list(dict.fromkeys(calls))


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
    if groups[-1].weight in kept:
        kept.update(groups[-1].activations)
    return kept


def _unknown(name: str, allowed: list[str]) -> str:
    near = difflib.get_close_matches(name, allowed, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else f" There are {', '.join(map(repr, allowed))}."
    return f"keep names {name!r}, but the network has no such module.{hint}"


def _quantise_weight(layer: nn.Module, module: Quantise, scale: Tensor | None) -> Quantise:
    if isinstance(layer.weight, nn.parameter.UninitializedParameter):
        raise ValueError(f"a {type(layer).__name__} has no weight yet: run one batch through the network first.")
    step = (module if scale is None else Scaled(module, scale)).to(layer.weight.device)
    # The check that "unsafe" leaves out would run the parametrisation, and so draw from the global generator.
    parametrize.register_parametrization(layer, "weight", step, unsafe=True)
    layer.parametrizations.train(layer.training)
    return module


def _swap(net: nn.Module, name: str, module: Quantise, scale: Tensor | None) -> Quantise:
    parent, _, child = name.rpartition(".")
    old = net.get_submodule(name)
    device = next((p.device for p in net.parameters()), torch.device("cpu"))
    step = module if scale is None else Scaled(module, scale)
    setattr(net.get_submodule(parent), child, step.to(device).train(old.training))
    return module
