"""State dicts under the names of the float network: what a quantised network gives and loads, and a deployed one refuses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from anabook.training.layers import layers
from anabook.training.places import Scaled, quantises

MARK = "for_a_float_network_use_training_float_state_dict"
"""A buffer of every quantised network, without a use but its name: a float network that is to load the quantised one's
state dict refuses it in torch's own words, and those list the names that it does not know."""


def mark(net: nn.Module) -> None:
    """Let a network load the state dicts of float networks, and its own, where a float network has other names, say so."""
    for module in net.modules():  # parts that were deployed before are quantised again
        for key, hook in list(module._load_state_dict_pre_hooks.items()):
            if isinstance(getattr(hook, "hook", hook), OnlyLevels):
                del module._load_state_dict_pre_hooks[key]
    if hasattr(net, MARK):
        raise ValueError(
            f"the network has a {MARK!r} of its own, a name that a quantised network needs: give it another one."
        )
    if _renamed(net) or _quanta(net):
        net.register_buffer(MARK, torch.tensor(1, device=next((p.device for p in net.parameters()), None)))
    net.register_load_state_dict_pre_hook(take_float_names)


def unmark(net: nn.Module) -> None:
    """Take the marks of a network's quantised parts away, since its weights have the float network's names again."""
    for module in net.modules():
        module._buffers.pop(MARK, None)


def float_state_dict(net: nn.Module) -> dict[str, Tensor]:
    """A quantised network's state dict with the names of the float network that it was made from.

    Weights are the latent ones, before noise and rounding. `load_state_dict` of the float network takes it; the other
    way round, a quantised network loads the state dict of a float one as it is.

    Args:
        net: a network made by `quantise`.

    Returns:
        The tensors by name, those of the network itself, not copies.

    Example:
        >>> from anabook import Quantiser, models
        >>> from anabook.training import quantise
        >>> net = models.mlp(8, (6,))
        >>> float_state_dict(quantise(net, weights=Quantiser.ternary())).keys() == net.state_dict().keys()
        True
    """
    layers(net)
    state = net.state_dict()
    for old, new in _renamed(net).items():
        state[old] = state.pop(new)
    quanta = _quanta(net)
    return {name: tensor for name, tensor in state.items() if name not in quanta and not is_mark(name)}


def is_mark(name: str) -> bool:
    """Whether an entry of a state dict is the mark of a quantised network or of a part that is one."""
    return name.rpartition(".")[2] == MARK


def _quanta(net: nn.Module) -> dict[str, Tensor]:
    """The quanta that `calibrate` has found or training has learned, by their names in the quantised network's state dict."""
    modules = net.named_modules(remove_duplicate=False)
    return {f"{name}.scale": module.scale.detach() for name, module in modules if isinstance(module, Scaled)}


def _renamed(net: nn.Module) -> dict[str, str]:
    """The names of latent weights in the float network's state dict and in the quantised one's."""
    names = {}
    for name, module in net.named_modules(remove_duplicate=False):
        if parametrize.is_parametrized(module, "weight") and len(module.parametrizations.weight) == 1:
            if quantises(module.parametrizations.weight[0]):
                start = f"{name}." if name else ""
                names[f"{start}weight"] = f"{start}parametrizations.weight.original"
    return names


def take_float_names(net: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Let a quantised network load the state dict of the float one: its weights become the latent weights."""
    renamed = False
    for old, new in _renamed(net).items():
        if prefix + old in state and prefix + new not in state:
            state[prefix + new] = state.pop(prefix + old)
            renamed = True
    if renamed:  # a quantum that `calibrate` has found is no part of a float network
        for name, scale in _quanta(net).items():
            state.setdefault(prefix + name, scale)
    # Neither a float network's state dict has the mark, nor one that was saved before there was one.
    own = net._buffers.get(MARK)
    if own is None:
        state.pop(prefix + MARK, None)
    else:
        state.setdefault(prefix + MARK, torch.tensor(1))


class OnlyLevels:
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
            rows = weight if isinstance(weight, Tensor) and weight.dim() else ()
            if latent in state or any(len(row.unique()) > n_levels for row in rows):
                raise ValueError(
                    f"{name!r} is not rounded to {n_levels} levels in this state dict, and a deployed network "
                    "has no quantisers of weights: load it into the quantised network, and deploy that."
                )
