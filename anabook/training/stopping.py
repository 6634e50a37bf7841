"""Stopping the backward pass where the noise is gone: the same weights for less work.

The derivative of a quantiser whose noise is Dirac is 0. So nothing that reaches the loss through such quantisers alone
has a gradient: parameters below an activation's, and the latent weight of a weight's own. While a network trains
with a `Stopper`,

1. the output of every Dirac quantiser is detached, which cuts those paths and no other. This is exact for any network: a
   path that by-passes the quantiser (a skip connection, a tied weight, a value put aside for later) keeps its gradient.
   What was computed below the cut is forgotten at once, and no backward pass goes there;
2. where the network takes the same path for every batch, not even a graph is made below the deepest cut. On the first
   step after a quantiser has become Dirac, autograd's graph is walked; parameters that were found below a cut and
   cannot be reached from the loss stop requiring gradients. That the path is the same is certain for a `Sequential` of
   torch's own modules; for any other network its author can say so (`Stopping(same_path=True)`).

Normal and logistic noise has no exact zeros before its standard deviation is 0, so nothing is stopped earlier.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from anabook._validate import flag
from anabook.training.modules import Quantise

_CHUNK = 256  # examples; fixed, so that features are the same whenever they are computed


@dataclass(frozen=True)
class Stopping:
    """What becomes of parameters whose gradient is exactly 0.

    Attributes:
        still: False, the default, is the plain algorithm: the optimiser gets gradients that are exactly 0, so momentum
            runs out and weight decay goes on. True leaves the parameters out of the optimiser's step: they stay where
            they are.
        cache: compute the features at the deepest quantiser of the finished part once per example, and train the rest
            on them. Parameters and batch-norm statistics of that part stay as they are (this implies `still`, and the
            part normalises with its running statistics, not with the batch's). For data given as arrays, and for
            networks that are a `Sequential`; a part counts as finished when all its quantisers are Dirac.
        same_path: the promise that every batch takes the same path through the network, so that finished layers can
            be run without a graph. It needs no saying for a `Sequential` of torch's own modules.
    """

    still: bool = False
    cache: bool = False
    same_path: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "same_path", flag(self.same_path, "same_path"))
        object.__setattr__(self, "cache", flag(self.cache, "cache"))
        object.__setattr__(self, "still", flag(self.still, "still") or self.cache)


class Stopper:
    """Stops the backward pass of a network in training; `fit` makes one.

    Call `renew` whenever noise was set, `watch(loss)` between forward and backward pass, `settle` between backward pass
    and the optimiser's step, and `close` at the end.

    Args:
        net: any network with `Quantise` modules.
        rule: what the optimiser does with parameters at rest.
        inputs: the training inputs, for a rule that caches features.

    Attributes:
        resting: the parameters whose gradient was not computed in the last step, because it is 0.

    Raises:
        ValueError: features are to be cached, but the network is no chain of modules.
    """

    def __init__(self, net: nn.Module, rule: Stopping = Stopping(), inputs: Tensor | None = None) -> None:
        self.net, self.rule, self.inputs = net, rule, inputs
        self.resting: list[nn.Parameter] = []
        self._static = rule.same_path or _same_path(net)
        self._frozen: list[nn.Parameter] = []
        self._quantisers = [m for m in net.modules() if isinstance(m, Quantise)]
        self._chain = _chain(net) if rule.cache else []
        self._state: tuple = ()
        self._graph: tuple | None = None
        self._below: set[nn.Parameter] = set()
        self._zeros: dict[nn.Parameter, Tensor] = {}
        self._depth, self._codes = 0, None
        self._candidates: list[nn.Parameter] = []
        self._hooks = [m.register_forward_hook(self._cut) for m in self._quantisers]

    def renew(self) -> None:
        """Look at the noise: forget what was stopped if other quantisers than before are Dirac."""
        state = tuple((m.std == 0.0, m.mean if m.std == 0.0 else None) for m in self._quantisers)
        if state == self._state:
            return
        self._thaw()
        self._state, self._graph = state, None
        if self.rule.cache:
            self._cache()

    def forward(self, rows: Tensor) -> Tensor:
        """The network's outputs for these rows of the training inputs, from cached features where there are any."""
        if self._codes is None:
            return self.net(self.inputs[rows])
        x = self._values[self._codes[rows].long()]
        for module in self._chain[self._depth:]:
            x = module(x)
        return x

    def watch(self, loss: Tensor) -> None:
        """Find what cannot have a gradient, on the first step; check that it stays so on the others.

        Raises:
            RuntimeError: the graph has changed although the path was to be the same.
        """
        self._candidates, self._below = [*self._frozen, *self._below], set()
        if not self._static or not any(dirac for dirac, _ in self._state):
            return
        graph, reached = _walk(loss.grad_fn)
        if self._graph is None:
            self._freeze(p for p in self._candidates if p not in reached)
            self._graph = graph
        elif graph != self._graph and self._frozen:
            raise RuntimeError("the network took another path for this batch than for the one before, so it cannot be "
                               "known which gradients are 0: train it without same_path=True.")

    def settle(self) -> None:
        """Give the optimiser the gradients that were not computed: exact zeros, or none for a rule that is `still`."""
        self.resting = [p for p in self._candidates if p.grad is None]
        for p in () if self.rule.still else self.resting:
            p.grad = self._zero(p)

    def close(self) -> None:
        """Leave the network as it was."""
        for hook in self._hooks:
            hook.remove()
        self._thaw()

    def _cut(self, module: Quantise, inputs: tuple, output: Tensor) -> Tensor:
        if not (module.training and module.std == 0.0 and output.requires_grad):
            return output
        # Walked now and not kept: what was saved for the backward pass below the cut is free from here on.
        self._below |= _walk(inputs[0] if inputs[0].grad_fn is None else inputs[0].grad_fn)[1]
        return output.detach()

    def _freeze(self, parameters: Iterable[nn.Parameter]) -> None:
        for p in parameters:
            if p.requires_grad:
                p.requires_grad_(False)
                self._frozen.append(p)

    def _thaw(self) -> None:
        for p in self._frozen:
            p.requires_grad_(True)
        self._frozen, self._candidates, self.resting = [], [], []
        self._below, self._codes, self._depth = set(), None, 0

    def _zero(self, p: nn.Parameter) -> Tensor:
        # Kept from step to step, and zeroed anew because an optimiser may work in place.
        if p not in self._zeros:
            self._zeros[p] = torch.zeros_like(p)
        return self._zeros[p].zero_()

    def _cache(self) -> None:
        """Features of all training inputs at the deepest quantiser whose part of the chain is finished."""
        depth = 0
        for i, module in enumerate(self._chain):
            inside = [m for m in module.modules() if isinstance(m, Quantise)]
            if any(m.std != 0.0 for m in inside):
                break
            if inside and _ends_in_quantiser(module):
                depth = i + 1
        later = {p for module in self._chain[depth:] for p in module.parameters()}
        earlier = list(dict.fromkeys(p for module in self._chain[:depth] for p in module.parameters()))
        if depth == 0 or any(p in later for p in earlier):
            return
        quantiser = [m for m in self._chain[depth - 1].modules() if isinstance(m, Quantise)][-1]
        levels = _levels(self._chain[depth - 1], quantiser, self.inputs)
        self._values, self._codes = levels, _codes(self._chain[:depth], self.inputs, levels)
        self._depth = depth
        self._freeze(earlier)


def _same_path(net: nn.Module) -> bool:
    """Whether only torch's own modules and quantisers, one after the other, decide what is computed."""
    def known(module: nn.Module) -> bool:
        # All bases: the class of a parametrised module is always torch's own.
        ours = (c.__module__.startswith(("torch.nn.", __package__)) for c in type(module).__mro__ if c is not object)
        return all(ours) and not module._forward_hooks and not module._forward_pre_hooks

    return isinstance(net, nn.Sequential) and all(map(known, net.modules()))


def _walk(root: Any) -> tuple[tuple, set[nn.Parameter]]:
    """The shape of the autograd graph from this node on, and the leaves that it ends in."""
    number: dict[Any, int] = {}
    shape, leaves = [], set()
    stack = [] if root is None else [root]
    while stack:
        node = stack.pop()
        if node in number:
            shape.append(number[node])
            continue
        number[node] = len(number)
        if isinstance(node, Tensor):
            leaves.add(node)
            continue
        if hasattr(node, "variable"):
            leaves.add(node.variable)
        following = [fn for fn, _ in node.next_functions]
        shape.append((node.name(), tuple(fn is None for fn in following)))
        stack.extend(fn for fn in reversed(following) if fn is not None)
    return tuple(shape), leaves


def _chain(net: nn.Module) -> list[nn.Module]:
    """The modules of a `Sequential`, those of nested ones in place."""
    if not isinstance(net, nn.Sequential) or type(net).forward is not nn.Sequential.forward:
        raise ValueError(f"features can be cached in a torch.nn.Sequential only, not in a {type(net).__name__}: pass "
                         "stop=True.")
    chain: list[nn.Module] = []
    for module in net:
        nested = isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward
        chain.extend(_chain(module) if nested else [module])
    return chain


def _ends_in_quantiser(module: nn.Module) -> bool:
    return isinstance(module, Quantise) or isinstance(getattr(module, "quantise", None), Quantise)


def _levels(module: nn.Module, quantiser: Quantise, inputs: Tensor) -> Tensor:
    levels = quantiser.levels.to(device=inputs.device, dtype=inputs.dtype)
    scale = None if module is quantiser else module.scale
    if scale is not None and scale.numel() != 1:
        raise ValueError("features with a scale for each channel cannot be cached: pass stop=True.")
    return levels if scale is None else levels * scale.to(levels).reshape(())


@torch.no_grad()
def _codes(part: list[nn.Module], inputs: Tensor, levels: Tensor) -> Tensor:
    """The index of each feature's level, in one byte where that is enough; quantisers keep their Dirac noise."""
    modes = [(m, m.training) for module in part for m in module.modules()]
    for module, _ in modes:
        module.training = isinstance(module, Quantise)
    middles = (levels[1:] + levels[:-1]) / 2
    kind = torch.uint8 if len(levels) <= 256 else torch.int32
    try:
        codes = []
        for x in inputs.split(_CHUNK):
            for module in part:
                x = module(x)
            codes.append(torch.searchsorted(middles, x.contiguous(), right=True).to(kind))
        return torch.cat(codes)
    finally:
        for module, training in modes:
            module.training = training
