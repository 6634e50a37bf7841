"""Quantisers where they stand in a network: one for each place of a shared activation, and the hooks that go with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, fx, nn

from anabook.training.learned import Learned
from anabook.training.modules import Quantise
from anabook.training.scaled import Scaled


class PerCall(nn.Module):
    """An activation that its owner calls several times in a forward pass: each call goes to the quantiser of its layer.

    The calls are counted from the beginning of the owner's forward pass to its end (see `Beginning` and `Ending`).

    Args:
        quantisers: `Quantise` or `Scaled` modules, one for each layer.
        which: for each call the index of its quantiser.

    Example:
        >>> from anabook import Quantiser
        >>> from anabook.training import Quantise
        >>> act = PerCall([Quantise(Quantiser.ternary()), Quantise(Quantiser.heaviside())], which=[0, 1, 1])
        >>> len(act.quantisers)
        2
    """

    def __init__(self, quantisers: Sequence[nn.Module], which: Sequence[int]) -> None:
        super().__init__()
        self.quantisers = nn.ModuleList(quantisers)
        self.which = tuple(which)
        self.call: int | None = None  # None outside of the owner's forward pass
        self.trace: Any = None

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, fx.Proxy) and self.trace is not x.tracer:  # a tracer runs no hooks of the root
            self.trace, self.call = x.tracer, 0
        if self.call is None or self.call >= len(self.which):
            where = "outside of its module's own pass" if self.call is None else "once more"
            raise RuntimeError(
                f"an activation that was called {len(self.which)} times in a forward pass when the network was quantised is "
                f"called {where}: call modules, not their forward methods, checkpoint whole blocks, not parts, or give "
                "each layer its own activation module."
            )
        quantiser = self.quantisers[self.which[self.call]]
        self.call += 1
        return quantiser(x)

    def extra_repr(self) -> str:
        return f"which={self.which}"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "call": None, "trace": None}


class Beginning:
    """A forward pre-hook of the module that owns a `PerCall`: its calls are counted from here.

    Args:
        child: the owner's name for it.
    """

    def __init__(self, child: str) -> None:
        self.child = child

    def __call__(self, owner: nn.Module, inputs: Any) -> None:
        getattr(owner, self.child).call = 0


class Ending(Beginning):
    """A forward hook of the same module: there must have been as many calls as there were to be."""

    def __call__(self, owner: nn.Module, inputs: Any, output: Any = None) -> None:
        activation = getattr(owner, self.child)
        call, activation.call = activation.call, None
        if call != len(activation.which):
            raise RuntimeError(
                f"the activation {self.child!r} was called {len(activation.which)} times in a forward pass when the network was "
                f"quantised, and {call} times in this one, so it cannot be known which layers they belong to: give each layer "
                "its own activation module."
            )


_HOOKS = (
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_backward_pre_hooks",
    "_backward_hooks",
)
"""Where torch keeps the hooks of a module, in the order of their calls."""


def copy_hooks(old: nn.Module, new: nn.Module) -> None:
    """Give the hooks of a module to one that takes its place."""
    for name in _HOOKS:
        getattr(new, name).update(getattr(old, name))
    new._is_full_backward_hook = old._is_full_backward_hook


def quantises(module: nn.Module) -> bool:
    """Whether a module is a quantiser, with a quantum of its own or without."""
    return isinstance(module, (Quantise, Scaled))


def with_fixed_quanta(net: nn.Module) -> nn.Module:
    """The network, in place, with the learned quanta as they are now: constants from here on."""
    if isinstance(net, Learned):
        return net.fixed()
    made: dict[int, Scaled] = {}
    for name, module in list(net.named_modules(remove_duplicate=False)):
        if isinstance(module, Learned):
            fixed = made.get(id(module))
            if fixed is None:
                fixed = made[id(module)] = module.fixed()
                copy_hooks(module, fixed)
            net.set_submodule(name, fixed)
    return net
