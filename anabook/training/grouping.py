"""Which modules of a float network make up a layer: a weighted one, and the activations that follow it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from anabook.training.assignment import WEIGHTED_KINDS, Assignment, Quantisers, assigned, check_quantisers, quantises_any
from anabook.training.flows import QUANTISABLE, is_weight, owner_of, parameters_of
from anabook.training.layers import check_module
from anabook.training.modules import Quantise

ACTIVATIONS: tuple[type[nn.Module], ...] = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.CELU,
    nn.SELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Softplus,
    nn.Softsign,
    nn.Hardtanh,
    nn.Tanh,
    nn.Hardsigmoid,
    nn.Sigmoid,
    nn.Hardswish,
    nn.Tanhshrink,
)
"""The activation modules that `quantise` swaps by default. PReLU (it has a weight of its own), Softmax and Identity
are not among them."""


@dataclass
class Group:
    """Names of a weight (its module's, if that has no other) and of the activations after it, each once."""

    weight: str
    activations: list[str] = field(default_factory=list)


def groups_of(
    net: nn.Module, order: list[str], need_activations: bool, unread: Mapping[str, str] = MappingProxyType({})
) -> list[Group]:
    """The layers' modules, in the order of the forward pass; a weight that is used again goes on with its layer.

    `unread` are the modules whose programs cannot be read, with the reasons, for the message where no activation is found.
    """
    groups: dict[str, Group] = {}
    current, early = None, Group("")
    for name in order:
        if is_weight(net, name):
            current = groups.setdefault(name, Group(name, early.activations if not groups else []))
        elif name not in (current or early).activations:
            (current or early).activations.append(name)
    if not groups:
        raise ValueError(
            f"nothing to quantise: this {type(net).__name__} has no {WEIGHTED_KINDS}"
            f"{' that its forward pass uses' if any(isinstance(m, QUANTISABLE) for m in net.modules()) else ''}."
        )
    if need_activations and not any(group.activations for group in groups.values()):
        name, why = next(iter(unread.items()), ("", ""))
        what = f"that of {name!r}" if name else "its program"
        raise ValueError(
            f"this {type(net).__name__} has no activation to swap, neither a module nor a function in a program that can be read"
            f"{f' ({what} cannot: {why})' if why else ''}: use modules such as torch.nn.ReLU, or pass activations=None."
        )
    return list(groups.values())


def place_in(groups: list[Group], name: str, group: Group) -> str:
    """The name of a quantiser: its activation's, or, where that is used in several layers, that of the place in this one."""
    using = [each for each in groups if name in each.activations]
    return name if len(using) == 1 else f"{name}.quantisers.{using.index(group)}"


def ends_of(net: nn.Module, groups: list[Group]) -> dict[str, list[Group]]:
    """The groups of the "first" and of the "last" weighted module: of an attention or a recurrent layer, of all its weights."""
    owners = [_module_of(net, group.weight) for group in groups]
    return {
        end: [group for group, owner in zip(groups, owners) if owner == owners[at]]
        for end, at in (("first", 0), ("last", -1))
    }


def _module_of(net: nn.Module, weight: str) -> str:
    """The name of the module that applies a weight; the linear layer at the end of an attention is a part of it."""
    _, parameter = owner_of(net, weight)
    name = weight if parameter == "weight" else weight.removesuffix(parameter).removesuffix(".")
    above = name.rpartition(".")[0]
    return above if isinstance(net.get_submodule(above), nn.MultiheadAttention) else name


def assignments(net: nn.Module, groups: list[Group], weights: Quantisers, activations: Quantisers) -> list[Assignment]:
    """What each weight gets, by the name of its module, and what each activation gets, by its place as `place_in` names it."""
    of_weights = {group.weight: group.weight for group in groups}
    places = {place_in(groups, name, group): name for group in groups for name in group.activations}
    ends = ends_of(net, groups)
    return [
        assigned(net, "weights", weights, of_weights, {end: {group.weight for group in each} for end, each in ends.items()}),
        assigned(
            net,
            "activations",
            activations,
            places,
            {
                end: {place_in(groups, name, group) for group in each for name in group.activations}
                for end, each in ends.items()
            },
        ),
    ]


def check_arguments(net: Any, weights: Any, activations: Any, swap: Any) -> None:
    """Refuse what can be neither quantised nor calibrated."""
    check_module(net)
    if hasattr(net, "_orig_mod"):
        raise ValueError("the network is compiled: hand over the one that torch.compile was given, and compile the result.")
    for what, value in (("weights", weights), ("activations", activations)):
        check_quantisers(what, value)
    if not quantises_any(weights) and not quantises_any(activations):
        raise ValueError("nothing to quantise: give a Quantiser as weights, activations or both.")
    if not isinstance(swap, tuple) or not all(isinstance(t, type) and issubclass(t, nn.Module) for t in swap):
        raise TypeError(f"swap must be a tuple of torch.nn.Module classes, not {swap!r}.")
    if any(isinstance(module, Quantise) for module in net.modules()):
        raise ValueError("the network has Quantise modules already: convert the float network instead.")


def copied(net: nn.Module) -> nn.Module:
    """A copy to convert, if every weight is a parameter."""
    for name, module in net.named_modules():
        made = isinstance(module, QUANTISABLE) and [
            p for p in parameters_of(module) if isinstance(vars(module).get(p), Tensor)
        ]
        if made:
            raise ValueError(
                f"the {made[0]} of {name!r} is no parameter but is made by a hook, as by "
                "torch.nn.utils.weight_norm or pruning: remove the hook, or use torch.nn.utils.parametrizations "
                "in its place."
            )
    return copy.deepcopy(net)


def part_activations(net: nn.Module, swap: tuple) -> None:
    """Give each place its own module where one activation module stands at several places of the network."""
    seen: set[int] = set()
    for name, module in list(net.named_modules(remove_duplicate=False)):
        if isinstance(module, swap) and name:
            if id(module) in seen:
                net.set_submodule(name, copy.deepcopy(module))
            seen.add(id(module))
