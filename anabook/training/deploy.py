"""From a trained network to the deployed one: rounded weights, no noise, no parametrisations."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils import parametrize

from anabook.training.layers import layers, quantised_weight_modules
from anabook.training.modules import Quantise
from anabook.training.places import Beginning, Scaled, with_fixed_quanta
from anabook.training.state_dicts import OnlyLevels, unmark


def deploy(net: nn.Module) -> nn.Module:
    """A noise-free copy in evaluation mode whose weights are plain tensors of quantised values.

    The parametrisations are gone; each swapped activation stays a `Quantise` whose noise is removed for good, at one stroke
    where some is left, so the copy computes what `net.eval()` computes, in either mode. Learned quanta are constants. Weights
    that share a parameter go on sharing one where they come out equal. A state dict with weights that are not rounded is
    refused.

    Example:
        >>> from anabook import Quantiser, models
        >>> from anabook.training import quantise
        >>> small = deploy(quantise(models.mlp(8, (6,)), weights=Quantiser.ternary()))
        >>> set(small.fc1.weight.flatten().tolist()) <= {-1.0, 0.0, 1.0}
        True
    """
    layers(net)
    net = with_fixed_quanta(copy.deepcopy(net).eval())
    for module in list(net.modules()):
        if isinstance(module, Quantise):
            module.set_noise(0.0, 0.0)
    found = quantised_weight_modules(net)
    with torch.no_grad():
        values = [getattr(weight.layer, weight.parameter).clone() for weight in found]
    shared: dict[int, list[nn.Parameter]] = {}
    for weight, value in zip(found, values):
        originals = next(weight.parametrisations.parameters())
        known = shared.setdefault(id(originals), [])
        same = next((p for p in known if torch.equal(p, value)), None)
        if same is None:
            same = nn.Parameter(value, requires_grad=originals.requires_grad)
            known.append(same)
        plain_weight(weight.layer, weight.parameter)
        setattr(weight.layer, weight.parameter, same)
    _join_calls(net)
    unmark(net)
    n_levels = {weight.full_name: weight.quantise.quantiser.n_levels for weight in found}
    net.register_load_state_dict_pre_hook(OnlyLevels(n_levels))
    return net


def plain_weight(layer: nn.Module, parameter: str = "weight") -> None:
    """Make the weight of a parametrised layer a parameter again, in place.

    Whatever else has the same latent parameter, or is a copy of the layer, is left alone.

    Example:
        >>> from anabook import Quantiser, models
        >>> from anabook.training import quantise
        >>> net = quantise(models.mlp(8, (6,)), weights=Quantiser.ternary())
        >>> plain_weight(net.fc1)
        >>> type(net.fc1).__name__, net.fc1.weight.is_leaf
        ('Linear', True)
    """
    parametrisations = layer.parametrizations[parameter]
    for name, latent in list(parametrisations._parameters.items()):
        setattr(parametrisations, name, nn.Parameter(latent.detach().clone(), latent.requires_grad))
    # Copies of a parametrised module share its class, and removing a parametrisation changes the class.
    shared = type(layer)
    own = {name: value for name, value in vars(shared).items() if name not in ("__dict__", "__weakref__")}
    layer.__class__ = type(shared.__name__, shared.__bases__, own)
    parametrize.remove_parametrizations(layer, parameter, leave_parametrized=True)
    if isinstance(layer, nn.RNNBase) and not parametrize.is_parametrized(layer):
        layer._init_flat_weights()


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
