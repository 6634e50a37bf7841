"""What a network quantises, and what it leaves in float."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.utils import parametrize

from anabook._table import aligned
from anabook.quantisers import Quantiser
from anabook.training.flows import INPUT, Flow, parameters_of, weight_names
from anabook.training.learned import Learned
from anabook.training.modules import Quantise
from anabook.training.order import applications
from anabook.training.places import Scaled
from anabook.training.scaled import quantiser_in

_UNUSED = "not used in evaluation"


@dataclass(frozen=True)
class Operation:
    """A weight and what it is applied to.

    Attributes:
        name: of the module, or of the parameter where a module has several or none stands for it.
        kind: the module's class, or "Parameter".
        layer: its number in a schedule; None where the weight stays in float.
        weight: the quantiser of the weight; None for float.
        weight_scaled: whether the weight has a quantum of its own (see `Scaled`).
        weight_learned: whether that quantum is learned (see `Learned`).
        inputs: the quantisers that the input's levels come from; empty where it holds other numbers.
        combined: whether the input holds sums or averages of levels.
        source: where an input in float comes from, and what hides an input that is not known.
        known: whether it is known what the input holds.

    Example:
        >>> from anabook import Quantiser, models
        >>> from anabook.training import quantise, report
        >>> report(quantise(models.mlp(8, (6,)), weights=Quantiser.ternary()))[0].weight
        Quantiser(levels=[-1, 0, 1], thresholds=[-0.5, 0.5])
    """

    name: str
    kind: str
    layer: int | None
    weight: Quantiser | None
    weight_scaled: bool
    inputs: tuple[Quantiser, ...]
    combined: bool
    source: str
    known: bool
    weight_learned: bool = False

    @property
    def weight_bits(self) -> int | None:
        """How many bits an entry of the weight takes; None for float."""
        return None if self.weight is None else self.weight.bits

    @property
    def input_bits(self) -> int | None:
        """How many bits a level of the input takes, the most where it has several quantisers; None where it holds others."""
        return max((quantiser.bits for quantiser in self.inputs), default=None)

    @property
    def weight_is_float(self) -> bool:
        """Whether the weight stays in float."""
        return self.weight is None

    @property
    def input_is_float(self) -> bool:
        """Whether the input is known to hold other numbers than levels, their sums and averages."""
        return self.known and not self.inputs

    @property
    def unused(self) -> bool:
        """Whether the forward pass in evaluation mode does without it."""
        return self.source == _UNUSED

    @property
    def takes_the_networks_input(self) -> bool:
        """Whether the input is that of the network."""
        return self.source == INPUT


class Report(tuple[Operation, ...]):
    """All weighted operations of a network, in the order of the forward pass; printed, a table."""

    @property
    def floats(self) -> tuple[Operation, ...]:
        """The operations whose weight or input is in float."""
        return tuple(each for each in self if each.weight_is_float or each.input_is_float)

    def __str__(self) -> str:
        rows = [("layer", "operation", "weight", "input")]
        rows += [
            ("-" if o.layer is None else str(o.layer), f"{o.name} ({o.kind})" if o.name else o.kind, _weight(o), _input(o))
            for o in self
        ]
        return aligned(rows)

    __repr__ = __str__


def report(net: nn.Module, example: Any = None) -> Report:
    """Every weighted operation of a network with the quantisers of its weight and of its input, floats marked.

    Weighted operations are linear layers, convolutions, recurrent layers, attentions, embeddings, and products with a
    parameter. An input counts as quantised if it holds the levels of activations that `quantise` has put in, or sums
    and averages of such levels (behind a residual addition or an average pooling, for example).

    Args:
        net: a network made by `quantise`, or any other.
        example: an input, or a tuple of inputs, for one forward pass in evaluation mode. Without it the network's
            program is read; inputs that neither shows are marked as not known.

    Returns:
        A `Report`: a tuple of `Operation`, whose text is a table.

    Example:
        >>> from anabook.training import quantise
        >>> ternary = Quantiser.ternary()
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> print(report(quantise(net, weights=ternary, activations=ternary)))
        layer  operation   weight      input
        0      0 (Linear)  {-1, 0, 1}  float: the network's input
        1      2 (Linear)  {-1, 0, 1}  {-1, 0, 1}
        -      4 (Linear)  float       {-1, 0, 1}
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module, not {net!r}.")
    modules = dict(net.named_modules())
    flows: dict[str, list[Flow]] = {}
    try:
        for name, flow in applications(net, example):
            flows.setdefault(name, []).append(flow)
    except ValueError:
        if example is not None:
            raise
    weighted = dict(_weighted(net))
    used = [name for name in flows if name in weighted or name not in modules]
    unused = Flow("unknown", (_UNUSED,) if flows else ("hand over an example",))
    names = [*used, *(name for name in weighted if name not in flows)]
    return Report(
        _operation(name, *weighted.get(name, (None, "")), _joined(flows.get(name, [unused])), modules) for name in names
    )


def _weighted(net: nn.Module) -> Iterator[tuple[str, tuple[nn.Module, str]]]:
    """The names of the weights with their modules and what these call them."""
    for name, module in net.named_modules():
        for label, parameter in zip(weight_names(name, module), parameters_of(module)):
            yield label, (module, parameter)


def _operation(name: str, module: nn.Module | None, parameter: str, flow: Flow, modules: dict[str, nn.Module]) -> Operation:
    quantise, step = _quantiser_of_weight(module, parameter)
    sources = [quantiser_in(modules[s]) for s in flow.sources] if flow.kind in ("levels", "combined") else []
    kind = "Parameter" if module is None else type(module).__name__.removeprefix("Parametrized")
    return Operation(
        name=name,
        kind={"NonDynamicallyQuantizableLinear": "Linear"}.get(kind, kind),
        layer=None if quantise is None else quantise.layer,
        weight=None if quantise is None else quantise.quantiser,
        weight_scaled=isinstance(step, Scaled),
        inputs=tuple(dict.fromkeys(q.quantiser for q in sources)),
        combined=flow.kind == "combined",
        source=", ".join(flow.sources),
        known=flow.kind != "unknown",
        weight_learned=isinstance(step, Learned),
    )


def _quantiser_of_weight(module: nn.Module | None, parameter: str) -> tuple[Quantise | None, nn.Module | None]:
    """The quantiser that has the last word on a module's weight, and what it stands in, if it has a quantum of its own."""
    if module is None or not parametrize.is_parametrized(module, parameter):
        return None, None
    last = module.parametrizations[parameter][-1]
    quantise = quantiser_in(last)
    return (quantise, last) if isinstance(quantise, Quantise) else (None, None)


def _joined(flows: list[Flow]) -> Flow:
    """What inputs of several uses hold: what is least quantised decides."""
    for kind in ("float", "unknown"):
        for flow in flows:
            if flow.kind == kind:
                return flow
    sources = tuple(dict.fromkeys(source for flow in flows for source in flow.sources))
    return Flow("combined" if any(flow.kind == "combined" for flow in flows) else "levels", sources)


def _weight(operation: Operation) -> str:
    if operation.weight is None:
        return "float"
    return _levels(operation.weight) + (
        " · learned quantum" if operation.weight_learned else " · quantum" if operation.weight_scaled else ""
    )


def _input(operation: Operation) -> str:
    if not operation.known:
        return f"not known: {operation.source}"
    if not operation.inputs:
        return f"float: {operation.source}"
    return ("sums of " if operation.combined else "") + " and ".join(_levels(q) for q in operation.inputs)


def _levels(quantiser: Quantiser) -> str:
    levels = [f"{level:g}" for level in quantiser.levels]
    if len(levels) <= 5:
        return "{" + ", ".join(levels) + "}"
    return f"{quantiser.bits} bits {{{levels[0]}, {levels[1]}, …, {levels[-1]}}}"
