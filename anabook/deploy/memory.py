"""Where a network's tensors lie while it runs: each in a buffer that others use before and after it."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from anabook.deploy.steps import INPUT, Flatten, Head, Threshold, Weighted

WIDTHS = {"uint8": 1, "int8": 1, "int16": 2, "int32": 4}
"""The types that tensors are held in, with their bytes."""


@dataclass(frozen=True)
class Place:
    """Where a tensor lies.

    Attributes:
        kind: its type, int32 for sums of products, else the narrowest that holds it; there is a buffer for each.
        offset: of its first element in the buffer, in elements.
        size: its number of elements.
        first, last: the numbers of the steps that write it and that read it last.

    Example:
        >>> Place("int8", offset=256, size=128, first=3, last=5).offset
        256
    """

    kind: str
    offset: int
    size: int
    first: int
    last: int


@dataclass(frozen=True)
class Plan:
    """Where every tensor of a network lies.

    Attributes:
        places: a `Place` by the name of the step; without the input, which is the caller's, without the head's output, and
            without what `joined` names. A flattened tensor has the place of the one that it flattens.
        joined: names of weighted layers that a threshold alone reads, which takes each channel as soon as it is summed:
            no more than one channel of their sums is ever held.
        channel: the elements of the largest such channel, int32.
        buffers: elements of each type's buffer.
        peak: bytes of all of it.
    """

    places: dict[str, Place]
    joined: frozenset[str]
    channel: int
    buffers: dict[str, int]
    peak: int


def plan(network: Any) -> Plan:
    """Lay out the tensors of an `IntegerNetwork`.

    Two share memory where one is read for the last time before the other is written. The largest is
    placed first, each at the lowest place that is free during its life.

    Example:
        >>> import numpy as np
        >>> from anabook.deploy.network import IntegerNetwork
        >>> from anabook.deploy.steps import Input, MaxPool
        >>> pool = dict(kernel=(2, 2), stride=(2, 2))
        >>> steps = [
        ...     Weighted(name="conv", inputs=("input",), weights=np.ones((4, 1, 1, 1), np.int8)),
        ...     MaxPool(name="halved", inputs=("conv",), **pool),
        ...     MaxPool(name="quartered", inputs=("halved",), **pool),
        ... ]
        >>> found = plan(IntegerNetwork(Input((1, 8, 8), 0, 255), steps))
        >>> found.peak, found.places["quartered"].offset  # where the convolution's sums were
        (1280, 0)
    """
    steps = network.steps
    readers: dict[str, list[int]] = {}
    for number, step in enumerate(steps):
        for name in step.inputs:
            readers.setdefault(name, []).append(number)
    joined = {
        step.name
        for step in steps[:-1]
        if isinstance(step, Weighted)
        and len(found := readers.get(step.name, [])) == 1
        and isinstance(steps[found[0]], Threshold)
    }
    same = {INPUT: INPUT}  # the tensor that holds a step's output: a flattened one is the one that it flattens
    for step in steps:
        same[step.name] = same[step.inputs[0]] if isinstance(step, Flatten) else step.name
    lives: dict[str, list[int]] = {}
    for number, step in enumerate(steps):
        if not isinstance(step, Head) and step.name not in joined and same[step.name] != INPUT:
            lives.setdefault(same[step.name], [number, number])
        for name in step.inputs:
            for held in steps[number_of(steps, name)].inputs if name in joined else (name,):
                if same[held] != INPUT:
                    lives[same[held]][1] = number
    last = same[steps[-1].name]
    if last in lives:
        lives[last][1] = len(steps)  # the output is read after the last step
    wanted = {}
    for name, (first, end) in lives.items():
        wanted[name] = Place(network.extents[name].dtype.name, 0, prod(network.extents[name].shape), first, end)
    placed: dict[str, Place] = {}
    for name, place in sorted(wanted.items(), key=lambda each: (-each[1].size, each[1].first)):
        neighbours = [
            (other.offset, other.offset + other.size)
            for other in placed.values()
            if other.kind == place.kind and place.first <= other.last and other.first <= place.last
        ]
        offset = 0
        for begin, end in sorted(neighbours):
            if offset + place.size <= begin:
                break
            offset = max(offset, end)
        placed[name] = Place(place.kind, offset, place.size, place.first, place.last)
    buffers = {
        kind: max((each.offset + each.size for each in placed.values() if each.kind == kind), default=0) for kind in WIDTHS
    }
    channel = max((prod(network.extents[name].shape[1:]) for name in joined), default=0)
    places = {step.name: placed[same[step.name]] for step in steps if same[step.name] in placed}
    peak = sum(WIDTHS[kind] * size for kind, size in buffers.items()) + WIDTHS["int32"] * channel
    return Plan(places, frozenset(joined), channel, {kind: size for kind, size in buffers.items() if size}, peak)


def number_of(steps: tuple[Any, ...], name: str) -> int:
    """The number of the step of that name."""
    return next(number for number, step in enumerate(steps) if step.name == name)
