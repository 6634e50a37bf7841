"""An integer network compared with the network that it comes from: in exact arithmetic, and as torch computes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, fx, nn

from anabook._table import Table
from anabook._validate import integer
from anabook.deploy.exact import Evaluation
from anabook.deploy.layers import levels_of
from anabook.deploy.network import IntegerNetwork
from anabook.deploy.programs import Program, program, shape_of
from anabook.deploy.steps import Head, MaxPool, Threshold
from anabook.training import kernels
from anabook.training.places import Scaled
from anabook.training.scaled import quantiser_in

_NOTHING = 2**40
"""More than any number of an integer network."""


class Compared(NamedTuple):
    """What one quantiser gives for all examples.

    Attributes:
        name: of the quantiser.
        elements: how many numbers it gave.
        wrong: how many of the integer network's levels differ from the exact ones.
        floats: how many of torch's differ from the exact ones, where it starts from exact levels before this layer.
        through: the same where torch computes the whole network from its input on.
        decided: how many were so near to a threshold that fractions decided.
    """

    name: str
    elements: int
    wrong: int
    floats: int
    through: int
    decided: int


class Comparison:
    """What `compare` has found; a table for people.

    Attributes:
        quantisers: one `Compared` for each.
        examples: how many went through.
        answers: in how many the greatest output of the integer network is another one than in torch's network; None where
            there is no head.
        off: the greatest difference of the head's outputs from the exact ones, as far as float64 tells; None without one.
    """

    def __init__(self, quantisers: list[Compared], examples: int, answers: int | None, off: float | None) -> None:
        self.quantisers, self.examples, self.answers, self.off = tuple(quantisers), examples, answers, off

    @property
    def equal(self) -> bool:
        """Whether every level of the integer network equals the exact one."""
        return all(each.wrong == 0 for each in self.quantisers)

    @property
    def floats(self) -> int:
        """How many levels in torch's arithmetic differ from the exact ones, layer by layer from exact levels."""
        return sum(each.floats for each in self.quantisers)

    @property
    def elements(self) -> int:
        """How many levels were compared."""
        return sum(each.elements for each in self.quantisers)

    def _table(self) -> Table:
        rows = tuple((each.name, *(f"{number:,}" for number in each[1:])) for each in self.quantisers)
        said = "equals the exact levels everywhere" if self.equal else "differs from the exact levels"
        answers = "" if self.answers is None else f"; {self.answers:,} answers are others than in float"
        header = ("quantiser", "levels", "integers ≠ exact", "float ≠ exact", "float from the input ≠ exact", "by fractions")
        return Table(
            f"The integer network {said}, for {self.examples:,} {'example' if self.examples == 1 else 'examples'}{answers}",
            header,
            rows,
        )

    def __repr__(self) -> str:
        return str(self._table())

    def _repr_html_(self) -> str:
        return self._table()._repr_html_()


def compare(net: nn.Module, ints: IntegerNetwork, x: Any, batch: int = 100) -> Comparison:
    """Hold an integer network to the network that it comes from, level by level.

    The exact levels are computed without the integer network and without its thresholds: see `anabook.deploy.exact`. What
    torch makes of the same inputs in its own float type is counted beside them, layer by layer (each from exact levels) and
    from the input to the output.

    Args:
        net: what `to_integer` was given.
        ints: what it made of it.
        x: integers, shape (n, …), one example at least.
        batch: how many go through at a time.

    Raises:
        TypeError: arguments of a wrong type.
        ValueError: inputs that the networks do not take, a `batch` less than 1, or an integer network whose quantisers have
            other names or shapes than those of `net`, or that ends in something else.

    Example:
        >>> import anabook as ab
        >>> from anabook import models, training
        >>> from anabook.deploy import to_integer
        >>> ternary = ab.Quantiser.ternary()
        >>> net = training.deploy(training.quantise(models.mlp(64, (16,)), weights=ternary, activations=ternary))
        >>> x = np.random.default_rng(0).integers(0, 17, (50, 64)).astype(np.uint8)
        >>> found = compare(net, to_integer(net, x, std=16, bounds=(0, 16)), x)
        >>> found.equal, found.elements
        (True, 800)
    """
    if not isinstance(ints, IntegerNetwork):
        raise TypeError(f"ints must be an IntegerNetwork, not {type(ints).__name__}.")
    batch = integer(batch, "batch", minimum=1)
    x, single = ints._checked(x)
    read = program(net, x)
    nodes = {read.names[node]: node for node in read.quantisers()}
    steps = {step.name: step for step in ints.steps if isinstance(step, Threshold)}
    if set(nodes) != set(steps):
        raise ValueError(
            f"the integer network has the quantisers {', '.join(steps) or 'none'}, and net {', '.join(nodes) or 'none'}."
        )
    given = {name: _given(name, read, ints) for name in nodes}
    _check_fit(read, ints, given)
    standing = {name: _standing(read, node, steps[name]) for name, node in nodes.items()}
    counts = {name: np.zeros(5, np.int64) for name in nodes}
    has_head = isinstance(ints.steps[-1], Head)
    answers, off, weights = 0, 0.0, {}
    for start in range(0, len(x), batch):
        part = x[start : start + batch]
        found = ints.features(part)
        exact = Evaluation(read, part, ints.input.mean, ints.input.std, weights)
        floats = _floats(part, ints, read.dtype)
        stored = {name: _stored(read, node, exact.indices[name]) for name, node in nodes.items()}
        through, alone = _Run(read, {}), _Run(read, stored)
        out = through.outcome(floats)
        alone.outcome(floats)
        for name in nodes:
            index = exact.indices[name]
            counts[name] += (
                index.size,
                (standing[name](index) != found[given[name]]).sum(),
                (alone.seen[name] != stored[name]).sum().item(),
                (through.seen[name] != stored[name]).sum().item(),
                exact.decided[name],
            )
        if has_head:
            mine = found[ints.steps[-1].name]
            answers += int((mine.argmax(1) != out.double().numpy().argmax(1)).sum())
            off = max(off, float(np.abs(mine - exact.output.value.numpy()).max(initial=0.0)))
    rows = [Compared(name, *map(int, counts[name])) for name in nodes]
    return Comparison(rows, len(x), answers if has_head else None, off if has_head else None)


def _check_fit(read: Program, ints: IntegerNetwork, given: dict[str, str]) -> None:
    """Refuse an integer network whose tensors have other shapes, or that ends in something else."""
    nodes = {read.names[node]: node for node in read.quantisers()}
    pairs = [(f"the quantiser {name!r}", nodes[name], given[name]) for name in nodes]
    pairs.append(("the output", read.nodes[-1].args[0], ints.steps[-1].name))
    for what, node, step in pairs:
        mine, wanted = ints.extents[step].shape, shape_of(node)
        if mine != wanted:
            raise ValueError(f"{what} has the shape {mine} in the integer network, and {wanted} in net.")
    with_layer = any(isinstance(read.module(node), nn.Linear) for node in read.nodes[read.nodes.index(_last(read)) :])
    if isinstance(ints.steps[-1], Head) != with_layer:
        ends = ("in a quantiser", "in a linear layer")
        raise ValueError(f"the integer network ends {ends[not with_layer]}, and net {ends[with_layer]}.")


def _last(read: Program) -> fx.Node:
    """The last quantiser; where there is none, the input."""
    return [read.nodes[0], *read.quantisers()][-1]


def _standing(read: Program, node: fx.Node, step: Threshold) -> Callable[[np.ndarray], np.ndarray]:
    """What takes the numbers of exact levels to the step's integers for these levels; beyond all where it has none."""
    table = levels_of(step.name, read.module(node), shape_of(node), read.dtype)
    channels = shape_of(node)[0]
    quanta = step.quantum if isinstance(step.quantum, tuple) else (step.quantum,) * channels
    scales = np.broadcast_to(table.scale.ravel(), (channels,))
    found = np.full((channels, len(table.integers)), _NOTHING, np.int64)
    for channel, (quantum, scale) in enumerate(zip(quanta, scales)):
        for number, z in enumerate(table.integers):
            each = z * table.quantum * scale / quantum
            if each.denominator == 1 and abs(each) < _NOTHING:
                found[channel, number] = each
    return lambda index: found[np.arange(channels).reshape(-1, *[1] * (index.ndim - 2)), index]


def _given(name: str, read: Program, ints: IntegerNetwork) -> str:
    """The step that gives what a quantiser gives: its own, or maxima that are taken after it though they stand before it."""
    order = {each: place for place, each in enumerate(read.names.values())}
    while True:
        later = (step.name for step in ints.steps if isinstance(step, MaxPool) and step.inputs == (name,))
        moved = next((each for each in later if order[each] < order[name]), None)
        if moved is None:
            return name
        name, order[moved] = moved, order[name]


def _floats(x: np.ndarray, ints: IntegerNetwork, dtype: torch.dtype) -> Tensor:
    """The network's input as its data pipeline makes it: in the network's float type, standardised there."""
    whole = torch.from_numpy(x.astype(np.float64)).to(dtype)
    if not isinstance(ints.input.mean, tuple) and not isinstance(ints.input.std, tuple):
        return (whole - float(ints.input.mean)) / float(ints.input.std)
    mean, std = (
        torch.tensor(list(map(float, part)), dtype=torch.float64).to(dtype).reshape(-1, *[1] * (whole.ndim - 2))
        for part in (ints.input.means, ints.input.stds)
    )
    return (whole - mean) / std


def _stored(read: Program, node: fx.Node, index: np.ndarray) -> Tensor:
    """What the quantiser's module gives for these levels."""
    module = read.module(node)
    levels = torch.tensor(quantiser_in(module).quantiser.levels).to(read.dtype)[torch.from_numpy(index)]
    return levels * module.scale.to(read.dtype) if isinstance(module, Scaled) else levels


class _Run(fx.Interpreter):
    """The program in torch's arithmetic; what quantisers give is seen, and replaced where there is something to replace it."""

    def __init__(self, read: Program, instead: dict[str, Tensor]) -> None:
        super().__init__(read.net)
        self.names = {node.name: read.names[node] for node in read.quantisers()}
        self.instead = instead
        self.seen: dict[str, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        given = super().run_node(n)
        if n.name not in self.names:
            return given
        name = self.names[n.name]
        self.seen[name] = given
        return self.instead.get(name, given)

    def outcome(self, x: Tensor) -> Any:
        with torch.no_grad(), kernels.compiling(None):  # nothing is called often enough to be compiled
            return self.run(x)
