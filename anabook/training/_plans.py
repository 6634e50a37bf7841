"""What one call of a `Quantise` comes to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor


class Plan(NamedTuple):
    """What one call comes to: a kernel for the forward pass, and the constants of both passes.

    `backward` is None for the Dirac limit, whose gradient is 0. The constants are tensors, or still arrays of float64.
    """

    kernel: str
    static: tuple
    constants: Tensor | np.ndarray
    slope: tuple
    backward: Tensor | np.ndarray | None

    @property
    def structure(self) -> tuple:
        """All but the values of the constants; the kinds of layouts are named, as some of them compare equal."""
        kinds = tuple(type(part).__name__ for part in (*self.static, *self.slope))
        return self.kernel, self.static, self.slope, kinds, len(self.constants), self.backward is None

    def written_to(self, old: Plan | None) -> Plan:
        """The old plan with the values of this one in its tensors, where it is of the same structure."""
        if old is None or old.structure != self.structure:
            return self
        old.constants.copy_(self.constants)
        if self.backward is not None:
            old.backward.copy_(self.backward)
        return old

    def with_constants(self, change: Callable[[Any], Tensor]) -> Plan:
        backward = None if self.backward is None else change(self.backward)
        return self._replace(constants=change(self.constants), backward=backward)
