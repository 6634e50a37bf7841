"""The learned quanta of a network: found, checked, kept positive by an optimiser and spared from its weight decay."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from anabook.training.learned import Learned

LEAST_SHARE = 0.5
"""What is left of a quantum, at least, after a step of an optimiser that is watched."""


def learned_quanta(net: nn.Module) -> dict[str, nn.Parameter]:
    """The learned quanta of a network, by the names of their parameters: for a group of the optimiser's own, or to look at.

    One that several quantisers share, since their levels are added up, comes once, by the first name.

    Example:
        >>> from anabook import Quantiser, models
        >>> from anabook.training import quantise
        >>> net = quantise(models.mlp(8, (6,)), weights=Quantiser.ternary(), quantum="learned")
        >>> learned_quanta(net).keys()
        dict_keys(['fc1.parametrizations.weight.0.scale'])
    """
    found: dict[int, tuple[str, nn.Parameter]] = {}
    for name, module in _learned(net):
        found.setdefault(id(module.scale), (f"{name}.scale" if name else "scale", module.scale))
    return dict(found.values())


def check_quanta(net: nn.Module) -> None:
    """Refuse a learned quantum that is not positive and finite, naming its layer; waits for the device once for all.

    Raises:
        FloatingPointError: there is one.
    """
    modules = [module for _, module in _learned(net)]
    if not modules:
        return
    device = modules[0].scale.device
    if not torch.stack([module.sound().to(device) for module in modules]).all().item():
        for module in modules:
            module.check()


def keep_positive(optimiser: torch.optim.Optimizer, net: nn.Module) -> None:
    """Let no step of an optimiser take away more than half of a learned quantum, so that it stays positive.

    `fit` does this by itself. In a loop of your own, call it once, when the optimiser is made. Steps that are smaller are
    left as they are.

    Example:
        >>> from anabook import Quantiser, models
        >>> from anabook.training import quantise
        >>> net = quantise(models.mlp(8, (6,)), weights=Quantiser.ternary(), quantum="learned")
        >>> optimiser = torch.optim.SGD(net.parameters(), lr=10.0)
        >>> keep_positive(optimiser, net)
        >>> net.fc1.weight.sum().backward()
        >>> optimiser.step()
        >>> bool(net.fc1.parametrizations.weight[0].scale > 0)
        True
    """
    own = {id(p) for group in optimiser.param_groups for p in group["params"]}
    quanta = [p for p in learned_quanta(net).values() if id(p) in own]
    if not quanta:
        return
    floors: list[Tensor] = []

    @torch.no_grad()
    def before(*_: Any) -> None:
        floors[:] = torch._foreach_mul([p.detach() for p in quanta], LEAST_SHARE)

    @torch.no_grad()
    def after(*_: Any) -> None:
        torch._foreach_maximum_([p.detach() for p in quanta], floors)
        floors.clear()

    optimiser.register_step_pre_hook(before)
    optimiser.register_step_post_hook(after)


def spare_from_decay(optimiser: torch.optim.Optimizer, net: nn.Module) -> None:
    """Take learned quanta out of an optimiser's weight decay, in a group of their own with the same settings.

    Decay shrinks a quantum whatever the data say. Where the optimiser was given groups, they are left as they are.
    """
    quanta = {id(p) for p in learned_quanta(net).values()}
    if len(optimiser.param_groups) != 1 or not optimiser.param_groups[0].get("weight_decay"):
        return
    group = optimiser.param_groups[0]
    spared = [p for p in group["params"] if id(p) in quanta]
    if spared:
        group["params"] = [p for p in group["params"] if id(p) not in quanta]
        settings = {key: value for key, value in group.items() if key != "params"}
        optimiser.add_param_group({**settings, "weight_decay": 0.0, "params": spared})


def _learned(net: nn.Module) -> Iterator[tuple[str, Learned]]:
    return ((name, module) for name, module in net.named_modules() if isinstance(module, Learned))
