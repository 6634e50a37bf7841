"""An integer network: its steps in order, run with NumPy integers, with bounds that prove that nothing overflows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from anabook.deploy.steps import INPUT, Add, Flatten, Head, Input, MaxPool, Step, SumPool, Threshold, Weighted, out_size

INT32 = (-(2**31), 2**31 - 1)


@dataclass(frozen=True)
class Extent:
    """What a tensor of the network holds: its shape without the batch, its least and its greatest possible integer.

    `low` and `high` are arrays with one number a channel for accumulators, and single integers for the rest.
    """

    shape: tuple[int, ...]
    low: Any
    high: Any

    @property
    def bounds(self) -> tuple[int, int]:
        return int(np.min(self.low)), int(np.max(self.high))


class IntegerNetwork:
    """A quantised network in integers: int8 weights, comparisons with integer thresholds, no float before the head.

    Made by `to_integer` or `load`.

    Args:
        input: what comes in.
        steps: in an order in which each comes after those whose outputs it takes; the last one gives the output.

    Attributes:
        input, steps: as given.
        extents: for each step's name (and "input") its shape and its bounds.

    Raises:
        ValueError: an accumulator that 32 bits cannot hold for every input, or steps that do not fit together.
    """

    def __init__(self, input: Input, steps: tuple[Step, ...]) -> None:
        self.input = input
        self.steps = tuple(steps)
        self.extents: dict[str, Extent] = {INPUT: Extent(input.shape, input.low, input.high)}
        for step in self.steps:
            self.extents[step.name] = extent(step, [self.extents[name] for name in step.inputs])

    def features(self, x: Any) -> dict[str, np.ndarray]:
        """The output of every step for a batch of integer inputs, by name; what a `Head` gives is float64."""
        values: dict[str, np.ndarray] = {INPUT: np.asarray(x)}
        for step in self.steps:
            values[step.name] = run(step, [values[name] for name in step.inputs], self.extents[step.name])
        return values
