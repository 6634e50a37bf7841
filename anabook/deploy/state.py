"""What is known while a network is read: its program, the steps so far, what each tensor is."""

from __future__ import annotations

import numpy as np
from torch import fx

from anabook.deploy.programs import Program
from anabook.deploy.running import Extent, extent
from anabook.deploy.steps import INPUT, Input, Step
from anabook.deploy.wires import Wire


class State:
    """A network that is being read.

    Args:
        read: the network's program.
        given: what comes in.

    Attributes:
        program, input: as given.
        steps: so far.
        extents: of the steps so far.
        wires: what each node gives.
        floats: what a last layer in float takes, and its weights.
    """

    def __init__(self, read: Program, given: Input) -> None:
        self.program, self.input = read, given
        self.steps: list[Step] = []
        self.extents: dict[str, Extent] = {INPUT: Extent(given.shape, given.low, given.high)}
        self.wires: dict[fx.Node, Wire] = {}
        self.floats: tuple[str, np.ndarray] | None = None

    def add(self, step: Step) -> str:
        """Take a step up, and check its bounds.

        Returns:
            Its name.
        """
        self.extents[step.name] = extent(step, [self.extents[name] for name in step.inputs])
        self.steps.append(step)
        return step.name
