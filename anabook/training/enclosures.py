"""What a noisy network can give: intervals that hold every value, from the input to the outputs.

The noise of a quantiser lies between two ends, so its output lies between two levels, whatever the strategy; and what
follows is carried on by interval arithmetic, an affine map as centre and radius.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from anabook.training.flows import WEIGHTED
from anabook.training.modules import Quantise
from anabook.training.order import program
from anabook.training.places import Scaled
from anabook.training.scaled import quantiser_in

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_RISING = (
    *(nn.Identity, nn.Flatten, nn.Unflatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.ReLU, nn.ReLU6, nn.Hardtanh),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.Sigmoid, nn.Tanh),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.LeakyReLU, nn.ELU, nn.Hardsigmoid),
)
"""Modules none of whose outputs falls where an input rises: the ends of an interval go to the ends."""

_RISING_FUNCTIONS = {
    *(operator.add, torch.add, torch.flatten, torch.cat, torch.relu, functional.relu, functional.hardtanh),
    *(functional.max_pool2d, functional.avg_pool2d, functional.adaptive_avg_pool2d, functional.dropout, torch.mean),
}
_RISING_METHODS = {"flatten", "view", "reshape", "mean", "add", "contiguous", "permute", "transpose", "squeeze", "unsqueeze"}

ROUNDING = 4 * torch.finfo(torch.float32).eps
"""What a network's own float type may have rounded away, in units of the numbers."""


class Ends(NamedTuple):
    """The ends of a noise, and how probably it lies below and above them.

    Example:
        >>> Ends(-0.5, 0.5)
        Ends(low=-0.5, high=0.5, below=0.0, above=0.0)
    """

    low: float
    high: float
    below: float = 0.0
    above: float = 0.0


class Enclosure(NamedTuple):
    """Lower and upper ends of tensors, element by element.

    Example:
        >>> Enclosure(torch.zeros(2), torch.ones(2)).high
        tensor([1., 1.])
    """

    low: Tensor
    high: Tensor


class Enclosing:
    """A network that is given inputs and gives an enclosure of its outputs under noise.

    Args:
        net: a network whose program can be read, of the kinds of modules above; it is copied, in float64.
        ends: of the noise of each quantiser, by its name in the network; those that are not named have none.

    Raises:
        ValueError: a program that cannot be read.

    Example:
        >>> from anabook import Quantiser
        >>> net = nn.Sequential(nn.Linear(1, 1, bias=False), Quantise(Quantiser.heaviside()))
        >>> with torch.no_grad():
        ...     _ = net[0].weight.fill_(1.0)
        ...
        >>> enclosing = Enclosing(net, {"1": Ends(-0.2, 0.2)})
        >>> low, high = enclosing(torch.tensor([[-0.3], [0.1], [0.3]]))
        >>> low.flatten().tolist(), high.flatten().tolist()
        ([0.0, 0.0, 1.0], [0.0, 1.0, 1.0])
    """

    def __init__(self, net: nn.Module, ends: Mapping[str, Ends]) -> None:
        self.graph = program(net, (*WEIGHTED, Quantise, Scaled))
        names = {id(module): name for name, module in net.named_modules()}
        memo: dict[int, Any] = {}
        self.net = copy.deepcopy(net, memo).double().eval()
        copies = {name: memo[i] for i, name in names.items() if i in memo}
        self.ends = {id(copies[name]): each for name, each in ends.items()}

    def __call__(self, x: Tensor) -> Enclosure:
        """The enclosure of the outputs for inputs of a batch."""
        value = self._run(x, stop=None)
        return value if isinstance(value, Enclosure) else Enclosure(value, value)

    def settled(self, x: Tensor, winner: Tensor) -> Tensor:
        """For which inputs the output numbered `winner` is larger than all others, whatever the noise.

        Where the last operation is a linear layer, the differences of its outputs are enclosed, and not the outputs.
        """
        last = self._last_layer()
        if last is None:
            low, high = self(x)
            rivals = high.scatter(1, winner[:, None], -torch.inf).amax(1)
            slack = ROUNDING * torch.maximum(low.abs(), high.abs()).amax(1)
            return low.gather(1, winner[:, None])[:, 0] > rivals + slack
        module = self.net.get_submodule(str(last.target))
        inner = self._run(x, stop=last)
        low, high = inner if isinstance(inner, Enclosure) else (inner, inner)
        centre, radius = (low + high) / 2, (high - low) / 2
        weight = module.weight
        gaps = weight[winner][:, None, :] - weight[None, :, :]  # (examples, classes, inputs)
        slack = ROUNDING * (centre.abs() + radius)
        lead = (gaps @ centre[:, :, None] - gaps.abs() @ (radius + slack)[:, :, None])[..., 0]
        if module.bias is not None:
            lead = lead + module.bias[winner][:, None] - module.bias[None, :]
        return lead.scatter(1, winner[:, None], torch.inf).amin(1) > 0

    def _last_layer(self) -> fx.Node | None:
        output = next(node for node in self.graph.nodes if node.op == "output")
        last = output.args[0]
        if isinstance(last, fx.Node) and last.op == "call_module":
            module = self.net.get_submodule(str(last.target))
            if isinstance(module, nn.Linear) and not parametrize.is_parametrized(module):
                return last
        return None

    def _run(self, x: Tensor, stop: fx.Node | None) -> Any:
        """The value of the output; or, with `stop`, that of the input of a node."""
        values: dict[fx.Node, Any] = {}
        inputs = iter([x.double()])
        with torch.no_grad():
            for node in self.graph.nodes:
                args, kwargs = fx.map_arg((node.args, node.kwargs), values.__getitem__)  # type: ignore[misc]
                if node is stop:
                    return args[0]
                if node.op == "placeholder":
                    values[node] = next(inputs, node.args[0] if node.args else None)
                elif node.op == "get_attr":
                    values[node] = operator.attrgetter(str(node.target))(self.net)
                elif node.op == "output":
                    return args[0]
                else:
                    values[node] = self._value(node, args, kwargs)
        raise AssertionError("a program without an output")

    def _value(self, node: fx.Node, args: tuple, kwargs: dict[str, Any]) -> Any:
        if node.op == "call_module":
            module = self.net.get_submodule(str(node.target))
            if isinstance(module, (Quantise, Scaled)) and (isinstance(args[0], Enclosure) or self._noisy(module)):
                return self._quantised(module, _enclosure(args[0]))
            if isinstance(module, (nn.Linear, *_CONVOLUTIONS)):
                return self._affine(module, args[0])
            if not isinstance(args[0], Enclosure):
                return module(*args, **kwargs)
            if isinstance(module, _NORMS):
                return _normalised(module, args[0])
            if isinstance(module, _RISING) and _slope(module) >= 0:
                return _by_ends(module, args, kwargs)
            raise ValueError(
                f"intervals are not known to pass through the {type(module).__name__} at {node.target!r}: "
                "leave the certificate by intervals out, intervals=False."
            )
        if node.op == "call_method":
            name = str(node.target)
            if not isinstance(args[0], Enclosure) or name in ("size", "dim"):
                return getattr(args[0].low if isinstance(args[0], Enclosure) else args[0], name)(*args[1:], **kwargs)
            if name in _RISING_METHODS and kwargs.get("alpha", 1) >= 0:
                return _by_ends(lambda t, *rest, **more: getattr(t, name)(*rest, **more), args, kwargs)
        elif not _holds_enclosure((args, kwargs)) or (node.target in _RISING_FUNCTIONS and kwargs.get("alpha", 1) >= 0):
            return _by_ends(node.target, args, kwargs)  # type: ignore[arg-type]
        what = getattr(node.target, "__name__", node.target)
        raise ValueError(
            f"intervals are not known to pass through the operation {what!r} of the network: leave the certificate by "
            "intervals out, intervals=False."
        )

    def _noisy(self, module: nn.Module) -> bool:
        return id(quantiser_in(module)) in self.ends

    def _quantised(self, module: nn.Module, x: Enclosure) -> Enclosure:
        if isinstance(module, Scaled):
            scale = module.scale.detach()
            inner = self._quantised(module.quantise, Enclosure(x.low / scale, x.high / scale))
            return Enclosure(inner.low * scale, inner.high * scale)
        if not isinstance(module, Quantise):
            raise TypeError(f"{module!r} is no quantiser.")
        ends = self.ends.get(id(module), Ends(0.0, 0.0))
        levels, thresholds = module.levels.to(x.low.device), module.thresholds.to(x.low.device)
        span = float(levels[-1] - levels[0])
        # What the network's own float type may round away counts as within reach.
        slack = ROUNDING * max(float(x.low.abs().max()), float(x.high.abs().max()))
        up = ends.high + (slack if ends.high else 0.0)
        down = ends.low - (slack if ends.low else 0.0)
        low = levels[torch.searchsorted(thresholds + up, x.low.contiguous(), right=True)] - span * ends.above
        high = levels[torch.searchsorted(thresholds + down, x.high.contiguous(), right=True)] + span * ends.below
        return Enclosure(low.clamp(min=levels[0]), high.clamp(max=levels[-1]))

    def _weight(self, module: nn.Module) -> Any:
        """The weight, or its enclosure where its quantiser has noise."""
        if not parametrize.is_parametrized(module, "weight"):
            return module.weight
        steps = module.parametrizations.weight
        if not any(isinstance(step, (Quantise, Scaled)) and self._noisy(step) for step in steps):
            return module.weight
        value: Any = steps.original
        for step in steps:
            value = self._quantised(step, _enclosure(value)) if isinstance(step, (Quantise, Scaled)) else step(value)
        return value

    def _affine(self, module: nn.Module, x: Any) -> Any:
        def applied(t: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
            if isinstance(module, nn.Linear):
                return functional.linear(t, weight, bias)
            return module._conv_forward(t, weight, bias)  # type: ignore[operator]

        weight = self._weight(module)
        bias: Any = module.bias
        if not isinstance(x, Enclosure) and not isinstance(weight, Enclosure):
            return applied(x, weight, bias)
        (low, high), (w_low, w_high) = _enclosure(x), _enclosure(weight)
        centre, radius = (low + high) / 2, (high - low) / 2
        w, spread = (w_low + w_high) / 2, (w_high - w_low) / 2
        middle, off = applied(centre, w, bias), applied(radius, w.abs())
        if isinstance(weight, Enclosure):
            off = off + applied(centre.abs() + radius, spread)
        return Enclosure(middle - off, middle + off)


def _slope(module: nn.Module) -> float:
    """Below 0, as far as it has a parameter: with a negative one a leaky ReLU and an ELU fall there."""
    return float(getattr(module, "negative_slope", getattr(module, "alpha", 1.0)))


def _enclosure(value: Any) -> Enclosure:
    return value if isinstance(value, Enclosure) else Enclosure(value, value)


def _holds_enclosure(tree: Any) -> bool:
    if isinstance(tree, Enclosure):
        return True
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    return isinstance(tree, (tuple, list)) and any(map(_holds_enclosure, tree))


def _end(tree: Any, which: str) -> Any:
    if isinstance(tree, Enclosure):
        return getattr(tree, which)
    if isinstance(tree, dict):
        return {key: _end(value, which) for key, value in tree.items()}
    return type(tree)(_end(value, which) for value in tree) if type(tree) in (tuple, list) else tree


def _by_ends(function: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
    if not _holds_enclosure((args, kwargs)):
        return function(*args, **kwargs)
    low, high = (function(*_end(args, which), **_end(kwargs, which)) for which in ("low", "high"))
    return Enclosure(low, high)


def _normalised(norm: nn.Module, x: Enclosure) -> Enclosure:
    """Batch normalisation with its running statistics: an affine map of each channel."""
    centre, radius = (x.low + x.high) / 2, (x.high - x.low) / 2
    middle = norm(centre)
    variance: Any = norm.running_var
    if variance is None:
        raise ValueError("intervals cannot pass through a batch normalisation without running statistics.")
    scale = 1 / (variance + norm.eps).sqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.abs()
    off = radius * scale.reshape(1, -1, *[1] * (radius.dim() - 2))
    return Enclosure(middle - off, middle + off)
