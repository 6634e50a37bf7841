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

Autograd's graph does not show everything: a part under reentrant gradient checkpointing (`use_reentrant=True`), or any
`torch.autograd.Function` that builds a graph of its own in its backward pass, hides the parameters inside, and takes
part in the backward pass only if its input asks for a gradient, which a cut input does not. So for any network that is
not a chain of torch's own modules, the first step after a quantiser has become Dirac is computed in full, and proves
the two facts on which a cut rests: every gradient that reached a parameter came through the graph, and the gradients of
those that end in cuts alone are exactly 0. If one of them does not hold, nothing is stopped from then on. Nothing is stopped
either where backward passes have an effect of their own: for hooks on gradients, and for parts that are distributed or
compiled.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as _modules

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

    The weights are the same whatever the network does. Where that cannot be proven, nothing is stopped: with reentrant
    gradient checkpointing, hooks on gradients (those of a logger, too), and parts that are distributed or compiled.

    Example:
        >>> Stopping(still=True)
        Stopping(still=True, cache=False, same_path=False)
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
        ValueError: features are to be cached, but the network is no chain of modules; parameters are to be kept still
            where gradients have hooks.

    Example:
        >>> from anabook import Quantiser, models
        >>> from anabook.training import quantise
        >>> net = quantise(models.mlp(8, (6,)), weights=Quantiser.ternary(), activations=Quantiser.ternary())
        >>> stopper = Stopper(net, inputs=torch.ones(4, 8))
    """

    def __init__(self, net: nn.Module, rule: Stopping = Stopping(), inputs: Tensor | None = None) -> None:
        self.net, self.rule, self.inputs = net, rule, inputs
        self.resting: list[nn.Parameter] = []
        known = _same_path(net)
        self._static = rule.same_path or known
        self._frozen: list[nn.Parameter] = []
        self._quantisers = [m for m in net.modules() if isinstance(m, Quantise)]
        self._chain = _chain(net) if rule.cache else []
        self._state: tuple = ()
        self._graph: tuple | None = None
        self._below: set[nn.Parameter] = set()
        self._zeros: dict[nn.Parameter, Tensor] = {}
        self._depth, self._codes = 0, None
        self._candidates: list[nn.Parameter] = []
        # What is not known to be a chain of torch's own modules has to prove itself; see the module's text.
        self._known, self._off = known, False
        self._proven: set[Quantise] = set()  # Dirac quantisers of which a full step was seen
        self._proof: tuple[set[nn.Parameter], set[nn.Parameter], list[nn.Parameter]] | None = None
        self._arrivals: dict[nn.Parameter, int] = {}
        self._counters: list[Any] = []
        self._proving = False
        self._in_step, self._was_cut = True, False
        self._without_graph: set[Quantise] = set()  # quantisers called where no graph is made, in this step
        self._exempt: set[Quantise] = set()  # those of a full step that passed: they are never cut
        self._roots: list[Any] = []  # where a full step's graph would be cut
        self._hook()

    def renew(self) -> None:
        """Look at the noise: forget what was stopped if other quantisers than before are Dirac."""
        state = tuple((m.std == 0.0, m.mean if m.std == 0.0 else None) for m in self._quantisers)
        if state == self._state:
            return
        self._thaw()
        self._state, self._graph = state, None
        if not self._off and _backward_has_effects(self.net):
            self._give_up(ValueError, "gradients have hooks, or a part is distributed or compiled")
        dirac = {m for m, (at_rest, _) in zip(self._quantisers, state) if at_rest}
        self._proving = not (self._known or self._off or dirac <= self._proven)
        if self.rule.cache:
            self._cache()
            self._without_graph = set()

    def forward(self, rows: Tensor) -> Tensor:
        """The network's outputs for these rows of the training inputs, from cached features where there are any."""
        if self._codes is None:
            return self.net(self.inputs[rows])
        x = self._values[self._codes[rows].long()]
        for module in self._chain[self._depth :]:
            x = module(x)
        return x

    def watch(self, loss: Tensor) -> None:
        """Find what cannot have a gradient, on the first step; check that it stays so on the others.

        The gradients are to be None, as after `zero_grad`.

        Raises:
            RuntimeError: the graph has changed although the path was to be the same; a part began to hide its graph.
        """
        self._candidates, self._below = [*self._frozen, *self._below], set()
        if self._off:
            return
        if self._without_graph - self._exempt and not self._proving:
            if self._was_cut or self._frozen:
                raise RuntimeError(
                    "a part of the network began to run without a graph (is it checkpointed with "
                    "use_reentrant=True?), so it cannot be known which gradients are 0: pass stop=False."
                )
            self._proving = True
        if self._proving:
            everything, seen = _walk(loss.grad_fn)[1], _walk(loss.grad_fn, self._roots)[1]
            without = [p for p in self.net.parameters() if p.requires_grad and p.grad is None]
            self._proof = everything, everything - seen, without
            # One backward pass adds to a parameter's gradient once; a pass inside it, of a hidden graph, does it again.
            self._arrivals = dict.fromkeys(without, 0)
            self._counters = [p.register_hook(functools.partial(self._count, p)) for p in without]
            return
        if not self._static or not any(dirac for dirac, _ in self._state):
            return
        graph, reached = _walk(loss.grad_fn)
        if self._graph is None:
            self._freeze(p for p in self._candidates if p not in reached)
            self._graph = graph
        elif graph != self._graph and self._frozen:
            raise RuntimeError(
                "the network took another path for this batch than for the one before, so it cannot be "
                "known which gradients are 0: train it without same_path=True."
            )

    def settle(self) -> None:
        """Give the optimiser the gradients that were not computed: exact zeros, or none for a rule that is `still`."""
        if self._proof is not None:
            self._judge(*self._proof)
        # Parts that the backward pass computed anew were cut anew, too.
        self._below, self._roots, self._without_graph = set(), [], set()
        self._give_zeros(self._candidates)

    @property
    def known(self) -> bool:
        """Whether the network is a chain of torch's own modules, and nothing else is to be heeded."""
        return self._known and not self._off

    @property
    def proving(self) -> bool:
        """Whether the next step is to be computed in full."""
        return self._proving

    @property
    def state(self) -> tuple:
        """What a step with this stopper depends on."""
        return self._state, self._off, self._static

    def turn_off(self) -> None:
        """Stop nothing from here on."""
        self._off = True

    def rest(self) -> None:
        """What `settle` does, after a step of a `known` network that was cut by somebody else."""
        self._give_zeros(p for p in self.net.parameters() if p.requires_grad)

    def _give_zeros(self, parameters: Iterable[nn.Parameter]) -> None:
        self.resting = [p for p in parameters if p.grad is None]
        for p in () if self.rule.still else self.resting:
            p.grad = self._zero(p)

    def close(self) -> None:
        """Leave the network as it was."""
        for hook in self._hooks:
            hook.remove()
        self._stop_counting()
        self._thaw()

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """The network as it was, for somebody who looks at it or copies it; afterwards stopping goes on where it was."""
        for hook in self._hooks:
            hook.remove()
        for p in self._frozen:
            p.requires_grad_(True)
        try:
            yield
        finally:
            for p in self._frozen:
                p.requires_grad_(False)
            self._hook()

    def _hook(self) -> None:
        self._hooks = [m.register_forward_hook(self._cut) for m in self._quantisers]
        if not self._known:
            self._hooks.append(self.net.register_forward_pre_hook(self._begin))

    def _begin(self, module: nn.Module, inputs: tuple) -> None:
        """A forward pass of the whole network; between the steps of training there may be some without a graph."""
        self._in_step, self._was_cut = torch.is_grad_enabled(), False
        if self._in_step:
            self._below, self._roots, self._without_graph = set(), [], set()

    def _judge(self, everything: set[nn.Parameter], behind: set[nn.Parameter], without: list[nn.Parameter]) -> None:
        """After a full step: whether nothing was hidden, and what a cut would have left out is exactly 0."""
        self._proof, self._proving = None, False
        self._stop_counting()
        hidden = any(self._arrivals[p] > (p in everything) or p.grad is not None and p not in everything for p in without)
        if hidden or any(p in behind and p.grad is not None and bool((p.grad != 0).any()) for p in without):
            self._give_up(RuntimeError, "a part hides its graph (is it checkpointed with use_reentrant=True?)")
            return
        self._proven |= {m for m, (dirac, _) in zip(self._quantisers, self._state) if dirac}
        self._exempt |= self._without_graph
        if self.rule.still:
            for p in without:
                if p in behind:
                    p.grad = None

    def _count(self, p: nn.Parameter, grad: Tensor) -> None:
        self._arrivals[p] += 1

    def _stop_counting(self) -> None:
        for hook in self._counters:
            hook.remove()
        self._counters = []

    def _give_up(self, error: type[Exception], why: str) -> None:
        """Nothing is stopped from here on; the algorithm is then the plain one."""
        if self.rule.still:
            raise error(
                f"still=True cannot be kept here: {why}, so it cannot be known which gradients are 0: pass stop=True."
            )
        self._off = True

    def _cut(self, module: Quantise, inputs: tuple, output: Tensor) -> Tensor:
        if self._off or not module.training:
            return output
        if not output.requires_grad:
            if self._in_step and not (self._known or torch.is_grad_enabled()):
                self._without_graph.add(module)
            return output
        if module.std != 0.0 or module in self._exempt:
            return output
        if self._proving:
            self._roots.append(output.grad_fn)
            return output
        self._was_cut = True
        # Walked now and not kept: what was saved for the backward pass below the cut is free from here on.
        self._below |= _walk(inputs[0] if inputs[0].grad_fn is None else inputs[0].grad_fn)[1]
        return output.detach()

    _cut.without_noise = True  # it does nothing to a quantiser that has noise

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
        levels = _levels(self.net, self._chain[depth - 1], quantiser, self.inputs)
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


def _backward_has_effects(net: nn.Module) -> bool:
    """Whether a backward pass does more than to compute gradients, or how it does it cannot be seen."""

    def hooked(module: nn.Module) -> bool:
        return (
            bool(module._backward_hooks or module._backward_pre_hooks)
            or hasattr(module, "_orig_mod")
            or isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel))
        )

    return (
        bool(_modules._global_backward_hooks or _modules._global_backward_pre_hooks)
        or any(map(hooked, net.modules()))
        or any(p._backward_hooks or getattr(p, "_post_accumulate_grad_hooks", None) for p in net.parameters())
    )


def _walk(root: Any, ends: Iterable[Any] = ()) -> tuple[tuple, set[nn.Parameter]]:
    """The shape of the autograd graph from this node on, and the leaves that it ends in; nothing behind `ends`."""
    ends = set(ends)
    number: dict[Any, int] = {}
    shape, leaves = [], set()
    stack = [] if root is None else [root]
    while stack:
        node = stack.pop()
        if node in ends:
            continue
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
        shape.append(_step(node, following))
        stack.extend(fn for fn in reversed(following) if fn is not None)
    return tuple(shape), leaves


def _step(node: Any, following: list) -> tuple:
    """What a node of the graph does, and which of its inputs have a gradient."""
    name = getattr(getattr(node, "_forward_cls", None), "step", None)
    if name is not None:  # a quantiser's, which takes its constants with it or not
        return name, sum(fn is not None for fn in following)
    return node.name(), tuple(fn is None for fn in following)


def _chain(net: nn.Module) -> list[nn.Module]:
    """The modules of a `Sequential`, those of nested ones in place."""
    if not isinstance(net, nn.Sequential) or type(net).forward is not nn.Sequential.forward:
        raise ValueError(
            f"features can be cached in a torch.nn.Sequential only, not in a {type(net).__name__}: pass stop=True."
        )
    chain: list[nn.Module] = []
    for module in net:
        nested = isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward
        chain.extend(_chain(module) if nested else [module])
    return chain


def _ends_in_quantiser(module: nn.Module) -> bool:
    return isinstance(module, Quantise) or isinstance(getattr(module, "quantise", None), Quantise)


def _levels(net: nn.Module, module: nn.Module, quantiser: Quantise, inputs: Tensor) -> Tensor:
    # The inputs may be whole numbers, those of tokens; features have the network's float type.
    dtype = (
        inputs.dtype
        if inputs.is_floating_point()
        else next((p.dtype for p in net.parameters() if p.is_floating_point()), torch.get_default_dtype())
    )
    levels = torch.tensor(quantiser.quantiser.levels, dtype=dtype, device=inputs.device)
    scale = None if module is quantiser else module.scale.detach()
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
