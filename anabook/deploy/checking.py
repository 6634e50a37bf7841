"""What of a network will have no place among integers, found before it is trained: all of it at once."""

from __future__ import annotations

import copy
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import fx, nn
from torch.nn.utils import parametrize

from anabook import training
from anabook._table import Table
from anabook._validate import reason
from anabook.deploy.kinds import CONCATENATING, NOTHING, operation
from anabook.deploy.layers import Levels
from anabook.deploy.programs import bounds_of, input_of, integers, program, shape_of, standardisation, unfit
from anabook.deploy.reading import PLACES, Reader
from anabook.deploy.running import Extent
from anabook.deploy.wires import Wire
from anabook.training.modules import Quantise
from anabook.training.places import Beginning

_JOINING = ("add", "iadd", *CONCATENATING)


class Refusal(NamedTuple):
    """What will be refused.

    Attributes:
        name: of the module, or of the operation in the network's program; empty for the network as a whole.
        kind: the module's class or the function's name.
        reason: the sentence with which it will be refused.
        remedy: what to change, where the reason does not say it.
    """

    name: str
    kind: str
    reason: str
    remedy: str


class Check:
    """What `check` has found; a table for people.

    Attributes:
        network: the class of the network.
        operations: how many operations of its program were looked at.
        refusals: one `Refusal` for each that will be refused, in the order of the program.
    """

    def __init__(self, network: str, operations: int, refusals: list[Refusal]) -> None:
        self.network, self.operations, self.refusals = network, operations, tuple(refusals)

    @property
    def ok(self) -> bool:
        """Whether nothing will be refused."""
        return not self.refusals

    def _table(self) -> Table:
        if self.ok:
            return Table(
                f"This {self.network} can become integers: all its {self.operations} operations are read.", ("refused",), ()
            )
        n, hint = len(self.refusals), f": {PLACES}"
        rows = tuple((e.name or "the network", e.kind, e.reason.replace(hint, ""), e.remedy) for e in self.refusals)
        of = f" of the {self.operations} operations" if self.operations else ""
        caption = f"training.deploy or deploy.to_integer will refuse {n}{of} of this {self.network}."
        if any(hint in each.reason for each in self.refusals):
            caption += f" For integers {PLACES}."
        return Table(caption, ("what", "kind", "reason", "what to change"), rows)

    def __repr__(self) -> str:
        table = self._table()
        return table.caption if self.ok else str(table)

    def _repr_html_(self) -> str:
        table = self._table()
        return f"<p>{table.caption}</p>" if self.ok else table._repr_html_()


def check(net: nn.Module, example: Any, *, mean: Any = 0.0, std: Any = 1.0, bounds: tuple[int, int] | None = None) -> Check:
    """What `training.deploy` and `to_integer` will refuse in this network, all of it, before anything is trained.

    The network is deployed with the weights that it has and read as `to_integer` reads it, without the thresholds, which take
    most of the time. Where something is refused, the reading goes on behind it as if a quantiser were there. What depends on
    weights that training will change is seen as it is now: how long sums are, and whether numbers are finite.

    Args:
        net: what `training.quantise` gives, trained or not. A network in float or a deployed one can be checked as well.
        example, mean, std, bounds: as for `to_integer`.

    Returns:
        A `Check`, whose `ok` says whether nothing will be refused.

    Raises:
        ValueError, TypeError: arguments that do not fit, as for `to_integer`.

    Example:
        >>> from anabook import Quantiser
        >>> ternary = Quantiser.ternary()
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 2))
        >>> found = check(training.quantise(net, ternary, ternary), np.zeros((1, 4), np.uint8))
        >>> found.ok, [(each.name, each.kind) for each in found.refusals]
        (False, [('1', 'LayerNorm')])
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module, not {type(net).__name__}.")
    array = integers(example)
    standardisation(mean, std)  # refused whatever the network is
    bounds_of(array, bounds)
    name, refusals = type(net).__name__, []
    try:
        net = _deployed(net)
    except (ValueError, TypeError) as error:
        return Check(name, 0, [_of_the_whole(name, error)])
    names = {module: label for label, module in net.named_modules()}
    for module, wrong in list(unfit(net)):
        refusals.append(Refusal(names[module], type(module).__name__, str(wrong), wrong.remedy))
        _make_readable(module)
    try:
        read = program(net, array)
    except (ValueError, TypeError) as error:
        return Check(name, 0, [*refusals, _of_the_whole(name, error)])
    reader = _Collector(read, input_of(read, array, mean, std, bounds))
    reader.collect()
    return Check(name, len(read.nodes), [*refusals, *reader.refusals])


def _deployed(net: nn.Module) -> nn.Module:
    """A deployed copy; of a network without noise and without parametrised weights, a copy."""
    noisy = any(isinstance(m, Quantise) and (m.mean, m.std) != (0.0, 0.0) for m in net.modules())
    if noisy or any(map(parametrize.is_parametrized, net.modules())):
        return training.deploy(net)
    return copy.deepcopy(net).eval()


def _of_the_whole(name: str, error: Exception) -> Refusal:
    return Refusal("", name, reason(error), getattr(error, "remedy", ""))


def _make_readable(module: nn.Module) -> None:
    """Take away what keeps the rest of a network from being read."""
    for hooks in (module._forward_pre_hooks, module._forward_hooks):
        for key, hook in list(hooks.items()):
            if not isinstance(hook, Beginning):
                del hooks[key]
    vars(module).pop("forward", None)
    for parameter in list(getattr(module, "parametrizations", ())):
        parametrize.remove_parametrizations(module, parameter)


class _Collector(Reader):
    """Reads on where a `Reader` stops, as if levels came out of what is refused.

    Attributes:
        refusals: so far.
        stand_ins: the nodes whose outputs are such levels, of a quantum that nobody knows.
    """

    def collect(self) -> None:
        self.refusals: list[Refusal] = []
        self.stand_ins: set[fx.Node] = set()
        with torch.no_grad():
            for node in self.program.net.graph.nodes:
                error = self.without_place(node)
                if error is not None:
                    self.refuse(node, error)
                    if node in self.program.names:
                        self.stand_in(node)
                elif node.op == "output":
                    self.end(node)
                elif node in self.program.names:
                    self.take(node)

    def take(self, node: fx.Node) -> None:
        unread = any(each not in self.wires for each in node.all_input_nodes)
        kind = operation(node) if self.program.module(node) is None else None
        made_up = self.stand_ins.intersection(node.all_input_nodes)
        alike = made_up and (kind in (*_JOINING, *NOTHING) or not any(map(shape_of, node.all_input_nodes)))
        if node.op != "placeholder" and (unread or alike):
            self.stand_in(node)
            return
        try:
            self.wires[node] = self.wire(node)
        except ValueError as error:
            self.refuse(node, error)
            floats = [each for each in node.all_input_nodes if self._is_float(each, error)]
            for each in floats or [node]:
                self.stand_in(each)
            if floats:
                self.take(node)

    def end(self, node: fx.Node) -> None:
        if not self.stand_ins.isdisjoint(node.all_input_nodes):
            return
        try:
            self.finish(node)
        except ValueError as error:
            self.refuse(node.all_input_nodes[0] if len(node.all_input_nodes) == 1 else node, error)

    def refuse(self, node: fx.Node, error: ValueError) -> None:
        before = next((self.wires[each].step for each in node.all_input_nodes if self._is_float(each, error)), None)
        name = before or self.program.names.get(node, str(node.target))
        modules = dict(self.program.net.named_modules())
        module = modules.get(name, self.program.module(node) if before is None else None)
        kind = {"output": "output", "get_attr": "tensor"}.get(node.op) or operation(node)
        kind = kind if module is None else type(module).__name__
        self.refusals.append(Refusal(name, kind, str(error), getattr(error, "remedy", "")))

    def _is_float(self, node: fx.Node, error: ValueError) -> bool:
        """Whether a node is the layer in float that is refused since something comes after it."""
        return node in self.wires and self.wires[node].floats is error

    def stand_in(self, node: fx.Node) -> None:
        name, shape = self.program.names[node], shape_of(node)
        self.stand_ins.add(node)
        self.extents[name] = Extent(shape, -1, 1)
        self.wires[node] = Wire.plain(name, shape, Fraction(1))

    def least_integers(self, wire: Wire, table: Levels, scales: np.ndarray) -> np.ndarray:
        return np.zeros((len(table.places), wire.shape[0], *[1] * (len(wire.shape) - 1)), np.int32)
