"""From a deployed torch network to an integer network, in exact arithmetic."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from anabook.deploy import joins, layers, pools, thresholds
from anabook.deploy.kinds import FLATTENING, NOTHING, REMEDIES, WITHOUT_PLACE, operation
from anabook.deploy.network import IntegerNetwork
from anabook.deploy.programs import input_of, integers, program, shape_of
from anabook.deploy.state import State
from anabook.deploy.steps import INPUT, Concat, Flatten, MaxPool, Step, Threshold, Weighted
from anabook.deploy.wires import CannotConvert, Wire, fractions
from anabook.training.grouping import ACTIVATIONS
from anabook.training.modules import Quantise
from anabook.training.places import Scaled


def to_integer(
    net: nn.Module,
    example: Any,
    *,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    bounds: tuple[int, int] | None = None,
) -> IntegerNetwork:
    """The integer network of a deployed one: integer weights, thresholds for each channel, no float before the last layer.

    What the stored floats mean is kept exactly. Weights and levels are read as whole multiples of a quantum (see
    `quanta.multiples`: levels such as 0.1, 0.2, 0.3 as multiples of 1/10); biases, batch normalisations and the data's mean and
    standard deviation become thresholds, computed in fractions, with a square root only ever compared by its square. So the
    levels are those of the network in exact arithmetic. Where a sum in float32 rounds across a threshold, it is the float
    network that is off.

    Read are linear layers and convolutions in two dimensions, batch normalisation, maxima and averages over windows,
    additions of equal quanta, concatenations of channels, flattening, dropout, and the quantisers of this package, with a
    quantum for each channel, too.
    The last linear layer may be in float; then so is that step, and only that. Its weights are kept in 32 bits, and all that it
    gives must lie within what these hold, as programs in C compute it so.

    Args:
        net: what `training.deploy` gives.
        example: integers as the data holds them, a batch or one example; its type tells what may come in.
        mean, std: the network takes (z − mean) / std for integers z. Each is one number, or one for each channel. Means may
            differ wherever thresholds come later, with padding too: zeros that are padded are zeros of what the network takes.
            Where stds differ, a convolution that adds up the channels would need a weight for each of them that no integer is:
            a quantiser, or a convolution with a group for each channel, must come first.
        bounds: the least and the greatest integer that may come in, where the example's type says more or nothing.

    Returns:
        An `IntegerNetwork`. Its steps have the names of the modules that they come from.

    Raises:
        ValueError: the network is not deployed or has noise left; an example of a wrong shape; features beyond 8 bits, sums
            beyond 32, outputs beyond floats of 32 bits. As `CannotConvert`: a module that has no place in an integer network,
            with the reason.
        TypeError: arguments of a wrong type.

    Example:
        >>> import anabook as ab
        >>> from anabook import models, training
        >>> ternary = ab.Quantiser.ternary()
        >>> net = training.deploy(training.quantise(models.mlp(64, (16,)), weights=ternary, activations=ternary))
        >>> ints = to_integer(net, np.zeros((1, 8, 8), np.uint8), std=16, bounds=(0, 16))
        >>> [step.name for step in ints.steps]
        ['flatten', 'fc1', 'fc1_act', 'last']
    """
    read = program(net, example)
    return Reader(read, input_of(read, integers(example), mean, std, bounds)).network()


PLACES = (
    "there are linear and convolution layers, batch normalisation, quantisers, maximum and average pools, flattening, "
    "additions of equal quanta and concatenations of channels"
)
"""What an integer network is made of, for those who brought something else."""


class Reader(State):
    """Turns the nodes of a program into steps, one after the other."""

    def network(self) -> IntegerNetwork:
        self.refuse_without_place()
        with torch.no_grad():
            for node in self.program.nodes:
                if node.op == "output":
                    self.finish(node)
                    break
                self.wires[node] = self.wire(node)
        return IntegerNetwork(self.input, turned(self.steps))

    def refuse_without_place(self) -> None:
        for node in self.program.net.graph.nodes:
            if (error := self.without_place(node)) is not None:
                raise error

    def without_place(self, node: fx.Node) -> CannotConvert | None:
        """Why what a node calls is nothing for integers, where it is one of the modules of which that is known."""
        module = self.program.module(node)
        kind = next((kind for kind in WITHOUT_PLACE if isinstance(module, kind)), None)
        if kind is None:
            return None
        return CannotConvert(
            f"{node.target!r} is a {type(module).__name__}, which has no place in an integer network: {WITHOUT_PLACE[kind]}.",
            REMEDIES.get(kind, "networks with it compute in float; leave it out, or do without integers"),
        )

    def wire(self, node: fx.Node) -> Wire:
        if node.op == "placeholder":
            given, shape = self.input, self.input.shape
            if not isinstance(given.mean, tuple) and not isinstance(given.std, tuple):
                return Wire.plain(INPUT, shape, 1 / given.std, -given.mean / given.std)
            scales, offsets = [1 / std for std in given.stds], [-mean / std for mean, std in zip(given.means, given.stds)]
            return Wire.plain(INPUT, shape, fractions(scales, shape), fractions(offsets, shape))
        name, module = self.program.names[node], self.program.module(node)
        if node.op == "get_attr":
            raise CannotConvert(
                f"{name!r} is a tensor of the network's own that enters its program, which no step can take."
            )
        kind = type(module) if module is not None else operation(node)
        inputs = [self.wires[each] for each in node.all_input_nodes if each in self.wires]
        for wire in inputs:
            if wire.floats is not None and kind not in (*NOTHING, *layers.NORMS) and not self.comes_last(node):
                raise wire.floats
        if kind in NOTHING and len(inputs) == 1:
            if kind == "dropout" and {**dict(zip(("input", "p", "training"), node.args)), **node.kwargs}.get(
                "training", True
            ):
                raise CannotConvert(f"{name!r} drops features at random in evaluation, too (training=True).")
            return inputs[0]
        if isinstance(module, (Quantise, Scaled)):
            return self.quantised(name, module, *inputs)
        if kind in FLATTENING:
            return self.flattened(name, node, *inputs)
        for read in (layers.read, pools.read, joins.read):
            found = read(self, name, node, module, kind, inputs)
            if found is not None:
                return found
        label = kind if isinstance(kind, str) else kind.__name__
        hint = ": leave it out, and apply it to what the integer network gives" if self.comes_last(node) else f": {PLACES}"
        remedy = ""
        if isinstance(module, ACTIVATIONS) or label in {each.__name__.lower() for each in ACTIVATIONS}:
            remedy = "quantise it: activations=… of training.quantise puts a quantiser in its place"
        raise CannotConvert(f"{name!r} is a {label}, which has no place in an integer network{hint}.", remedy)

    def comes_last(self, node: fx.Node) -> bool:
        """Whether no layer and no quantiser comes at this node or after it, but one before: as with a softmax of scores."""
        nodes = self.program.nodes
        found = [isinstance(self.program.module(each), (nn.Linear, nn.Conv2d, Quantise, Scaled)) for each in nodes]
        at = nodes.index(node)
        return any(found[:at]) and not any(found[at:])

    def quantised(self, name: str, module: Quantise | Scaled, wire: Wire) -> Wire:
        """Thresholds for a quantiser with all that came since the integers before it."""
        table = layers.levels_of(name, module, wire.shape, self.program.dtype)
        signs = wire.sign
        scales = np.broadcast_to(table.scale, (wire.shape[0], *[1] * (len(wire.shape) - 1))).ravel()
        quanta = tuple(table.quantum * scale for scale in scales)
        step = Threshold(
            name=name,
            inputs=(wire.step,),
            thresholds=self.least_integers(wire, table, scales),
            levels=np.array(table.integers, np.int64),
            quantum=quanta[0] if len(set(quanta)) == 1 else quanta,
            signs=None if (signs > 0).all() else signs.copy(),
        )
        found = self.add(step)
        for pool in wire.later:
            found = self.add(dataclasses.replace(pool, inputs=(found,)))
        return Wire.plain(found, self.extents[found].shape, table.scale * table.quantum)

    def least_integers(self, wire: Wire, table: layers.Levels, scales: np.ndarray) -> np.ndarray:
        """For each threshold, channel and place the least integer that reaches it, as in `Threshold`."""
        given, signs = self.extents[wire.step], wire.sign
        cases, number = wire.affines()
        ends = given.channels(wire.step, signs)
        found = np.empty((len(table.places), *number.shape), np.int64)
        for channel in range(wire.shape[0]):
            places = [place * scales[channel] for place in table.places]
            least, most = int(ends[0][channel]), int(ends[1][channel])
            here = number[channel]
            for case in np.unique(here):
                least_of = thresholds.integers(places, cases[case], least, most)
                found[:, channel][:, here == case] = np.array(least_of, np.int64)[:, np.newaxis]
        return found.astype(np.int32)

    def flattened(self, name: str, node: fx.Node, *wires: Wire) -> Wire:
        (wire,) = wires
        before, after = wire.shape, shape_of(node)
        if after == before:
            return wire
        if after != (int(np.prod(before)),):
            raise CannotConvert(f"{name!r} takes {before} to {after}; steps can only put all axes but the batch in one.")
        if wire.later:
            raise CannotConvert(f"{name!r} comes between the maxima {wire.later[-1].name!r} and their quantiser.")
        return wire.flat(self.add(Flatten(name=name, inputs=(wire.step,))), after[0])

    def finish(self, node: fx.Node) -> None:
        """Make a last linear layer the head."""
        (out,) = node.args
        if not isinstance(out, fx.Node) or out not in self.wires:
            raise CannotConvert("the network gives more than one tensor, or none.")
        wire, name = self.wires[out], self.program.names[out]
        if layers.head(self, wire):
            return
        last = {step.name: step for step in self.steps}.get(wire.step)
        if not self.comes_from_levels(last) or wire.normed or wire.later or wire.one_offset != 0:
            raise CannotConvert(f"the network ends in {name!r}; it must end in a linear layer or in a quantiser.")
        if last is not self.steps[-1]:
            raise CannotConvert(
                f"the network gives what {last.name!r} gives, but goes on to compute {self.steps[-1].name!r}."
            )

    def comes_from_levels(self, step: Step | None) -> bool:
        if isinstance(step, (MaxPool, Flatten, Concat)):
            steps = {each.name: each for each in self.steps}
            return all(self.comes_from_levels(steps.get(name)) for name in step.inputs)
        return isinstance(step, Threshold)


def turned(steps: list[Step]) -> list[Step]:
    """The steps with the signs of falling channels in the weights, where nothing else takes what these give."""
    users: dict[str, int] = {}
    for step in steps:
        for name in step.inputs:
            users[name] = users.get(name, 0) + 1
    found = {step.name: step for step in steps}
    for step in steps:
        before = found.get(step.inputs[0])
        if (
            not isinstance(step, Threshold)
            or step.signs is None
            or not isinstance(before, Weighted)
            or users[before.name] > 1
        ):
            continue
        weights = before.weights.astype(np.int16) * step.signs.reshape(-1, *[1] * (before.weights.ndim - 1))
        if weights.max() < 128:
            found[before.name] = dataclasses.replace(before, weights=weights.astype(np.int8))
            found[step.name] = dataclasses.replace(step, signs=None)
    return list(found.values())
