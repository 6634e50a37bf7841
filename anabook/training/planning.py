"""Where quantisers are to come between the operations of a float network, before weights and on what is added up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from torch import nn

from anabook.quantisers import Quantiser
from anabook.training.assignment import Quantisers
from anabook.training.conversion import Plan, converted
from anabook.training.flows import INPUT, Flow, weight_names
from anabook.training.grouping import copied
from anabook.training.order import applications
from anabook.training.sites import put_places


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
    unread: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    """Where `before` and `summands` put quantisers: every place is tried, and those stay to which other numbers come.

    The arguments are those of `quantise`; `unread` are the modules whose functions could not become modules, with the reasons.
    """
    probe = copied(net)
    uses, unplaced = put_places(probe, before is not None, summands is not None)
    done = converted(probe, weights, activations, keep=keep, swap=swap, example=example, unread=unread)
    modules = dict(net.named_modules())
    flows: dict[str, list[Flow]] = {}
    for name, flow in applications(done.net, example, places=True):
        flows.setdefault(name, []).append(flow)
    quantisers = {}
    for name, use in uses.items():
        given = [flow for flow in flows.get(name, ()) if flow.kind in ("float", "unknown")]
        if use == "summand" or done.weights.intersection(weight_names(use, modules[use])):
            wanted = bool(given) if use == "summand" else any(flow.sources != (INPUT,) for flow in given)
            if wanted:
                quantisers[name] = summands if use == "summand" else before
    tied = [] if summands is None else _tied([name for name, use in uses.items() if use == "summand"], flows)
    return Plan(quantisers, tied, unplaced)


def _tied(summands: list[str], flows: dict[str, list[Flow]]) -> list[set[str]]:
    """What has one quantum: levels that are added to each other, and those that a weight adds up, behind a concatenation."""
    wanted: list[set[str]] = []
    for left, right in zip(summands[::2], summands[1::2]):
        together = set()
        for name in (left, right):
            for flow in flows.get(name, ()):
                together |= {name} if flow.kind in ("float", "unknown") else set(flow.sources)
        wanted.append(together)
    every = [flow for name, found in flows.items() if name not in summands for flow in found]
    wanted += [set(flow.sources) for flow in every if flow.kind in ("levels", "combined")]
    tied: list[set[str]] = []
    for together in wanted:
        for other in [each for each in tied if each & together]:
            together |= other
            tied.remove(other)
        tied.append(together)
    return [each for each in tied if len(each) > 1]
