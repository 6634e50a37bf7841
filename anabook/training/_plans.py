"""What one call of a `Quantise` comes to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from anabook.training import kernels
from anabook.training._modes import undisturbed


class Plan(NamedTuple):
    """What one call comes to: a kernel for the forward pass, and the constants of both passes.

    `backward` is None for the Dirac limit, whose gradient is 0. The constants are tensors, or still arrays of float64.
    `centred` says of which it is known that their mean is 0; `parts` are those that were taken apart, by the pass.
    """

    kernel: str
    static: tuple
    constants: Tensor | np.ndarray
    slope: tuple
    backward: Tensor | np.ndarray | None
    centred: tuple[bool, bool] = (False, False)
    parts: Any = None

    @property
    def structure(self) -> tuple:
        """All but the values of the constants; the kinds of layouts are named, as some of them compare equal."""
        kinds = tuple(type(part).__name__ for part in (*self.static, *self.slope))
        return self.kernel, self.static, self.slope, kinds, len(self.constants), self.backward is None, self.centred

    def written_to(self, old: Plan | None) -> Plan:
        """The old plan with the values of this one in its tensors, where it is of the same structure.

        Its parts share their memory with them, but for the quantiser's steps, which no noise changes.
        """
        if old is None or old.structure != self.structure:
            return self
        old.constants.copy_(self.constants)
        if self.backward is not None:
            old.backward.copy_(self.backward)
        return old

    def with_constants(self, change: Callable[[Any], Tensor]) -> Plan:
        """The same plan with its constants changed: to tensors, or to tensors elsewhere."""
        backward = None if self.backward is None else change(self.backward)
        return self._replace(constants=change(self.constants), backward=backward, parts={})

    @property
    def average(self) -> Plan:
        """That of the expectation under the same noise, of which there has to be some."""
        if "average" not in self.parts:
            both = (self.centred[1], self.centred[1])
            self.parts["average"] = Plan("expected", self.slope, self.backward, self.slope, self.backward, both, {})
        return self.parts["average"]

    def forwards(self, x: Tensor, keys: Tensor | None) -> Tensor:
        """The forward pass of a call that nothing watches or transforms."""
        others = (self.constants,) if keys is None else (self.constants, keys)
        return kernels.run_plainly(self.kernel, x, *others, static=self.static, parts=lambda: (self.apart(0),))

    def backwards(self, grad: Tensor, x: Tensor, constants: Tensor) -> Tensor:
        """The backward pass of any call; the constants are this plan's, as autograd has kept them."""
        return kernels.run("slope", grad, x, constants, static=self.slope, parts=lambda: (self.apart(1),))

    def apart(self, which: int) -> kernels.Parts:
        """The constants of the forward pass, 0, or of the backward pass, 1, taken apart once."""
        if which not in self.parts:
            constants, static = ((self.constants, self.static), (self.backward, self.slope))[which]

            def take() -> kernels.Parts:
                return kernels.taken_apart(constants, static[0], ahead=True, centred=self.centred[which])

            self.parts[which] = undisturbed(take)
        return self.parts[which]
