"""A deployed network evaluated in exact arithmetic, without the integer network: float64 with a proven bound, else fractions.

Every tensor between two quantisers is computed in float64 beside a bound of what it is wrong by. Where a value lies nearer to a
threshold than its bound, or where numbers are so large or so small that floats may leave their range, it is computed once more
from the levels before it, in fractions, with a square root only ever compared by its square. Nothing of
`anabook.deploy.thresholds` is used, so that the two can be compared.
"""

from __future__ import annotations

import itertools
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from anabook.deploy import layers, pools
from anabook.deploy.kinds import CONCATENATING, FLATTENING, NOTHING, joined, operation
from anabook.deploy.programs import Program, shape_of
from anabook.training.modules import Quantise
from anabook.training.places import Scaled

_UNIT = 2.0**-53
"""Half the distance from 1 to the next float64: what a rounding is off by, relative to its result."""

_MORE = 1 + 2.0**-20
"""The bounds themselves are computed with roundings; so much more than covers these."""


_RANGE = (2.0**-300, 2.0**300)
"""What sizes of numbers the bounds hold for: a product of three of them, and a sum of such, is a float with all its digits."""


class Number(NamedTuple):
    """An exact number root / √radicand + rest."""

    root: Fraction
    radicand: Fraction
    rest: Fraction

    def reaches(self, place: Fraction) -> bool:
        """Whether it is `place` or more."""
        need = place - self.rest  # ≤ root / √radicand?
        if need <= 0:
            return self.root >= 0 or need * need * self.radicand >= self.root * self.root
        return self.root > 0 and self.root * self.root >= need * need * self.radicand


class Near(NamedTuple):
    """float64 numbers, and a bound of what each is wrong by; infinite where there is none."""

    value: Tensor
    error: Tensor


class Evaluation:
    """The levels of every quantiser of a program for a batch, in exact arithmetic.

    Args:
        read: the network's program.
        x: integers, shape (n, …).
        mean, std: the network takes (x − mean) / std; tuples have one number for each channel.
        weights: where what is read of the weights is kept for the next batch.

    Attributes:
        indices: for each quantiser's name the numbers of its levels, from 0, int64 of the tensor's shape.
        decided: for each quantiser's name how many of these were too near to a threshold for float64.
        output: what the network gives, near enough.
    """

    def __init__(
        self,
        read: Program,
        x: np.ndarray,
        mean: Fraction | tuple[Fraction, ...],
        std: Fraction | tuple[Fraction, ...],
        weights: dict[fx.Node, tuple[np.ndarray, list[Fraction]] | None] | None = None,
    ) -> None:
        self.program, self.x, self.mean, self.std = read, x, mean, std
        self.near: dict[fx.Node, Near] = {}
        self.indices: dict[str, np.ndarray] = {}
        self.decided: dict[str, int] = {}
        self._levels: dict[fx.Node, tuple[np.ndarray, list[list[Fraction]]]] = {}
        self._exact: dict[tuple, Number] = {}
        self._read: dict[fx.Node, tuple[np.ndarray, list[Fraction]] | None] = {} if weights is None else weights
        self._weights: dict[fx.Node, list[list[tuple[tuple[int, ...], Fraction]]]] = {}
        self.output: Near | None = None
        with torch.no_grad():
            for node in read.nodes:
                if node.op == "output":
                    self.output = self.near[node.args[0]]
                else:
                    self.near[node] = self._through(node)

    # float64 with bounds ---------------------------------------------------------------------------------------------

    def _through(self, node: fx.Node) -> Near:
        if node.op == "placeholder":
            whole = torch.from_numpy(self.x.astype(np.float64))
            mean, std = (_by_channel(part, whole) for part in (self.mean, self.std))
            value = (whole - mean) / std
            return _near(value, (whole.abs() + mean.abs()) / std * (6 * _UNIT), mean, std)
        module, kind, before = self._call(node)
        value, error = self.near[before]
        if kind in NOTHING:
            return self.near[before]
        if kind in FLATTENING:
            shape = (len(value), *shape_of(node))
            return Near(value.reshape(shape), error.reshape(shape))
        if isinstance(module, (Quantise, Scaled)):
            return self._quantised(node, module, value, error)
        if kind in layers.NORMS:
            return _normed(module, value, error)
        if kind in (nn.Linear, nn.Conv2d):
            return self._applied(node, module, value, error)
        if kind in ("add", "iadd"):
            a, b = (self.near[each] for each in node.args)
            total = a.value + b.value
            return _near(total, (a.error + b.error + 2 * _UNIT * total.abs()) * _MORE)
        if kind in CONCATENATING:
            return Near(*(torch.cat([self.near[each][i] for each in joined(node)], 1) for i in (0, 1)))
        return self._pooled(node, module, kind, value, error)

    def _call(self, node: fx.Node) -> tuple[nn.Module | None, Any, fx.Node]:
        module = self.program.module(node)
        return module, type(module) if module is not None else operation(node), node.all_input_nodes[0]

    def _applied(self, node: fx.Node, module: nn.Linear | nn.Conv2d, value: Tensor, error: Tensor) -> Near:
        """A sum of products, in whatever order it is added: see Higham, Accuracy and Stability, section 3.1."""
        found = self._whole(node)
        weight, bias = module.weight.double(), None if module.bias is None else module.bias.double()
        if found is not None:
            whole, quanta = found
            quantum = torch.tensor(list(map(_float, quanta)), dtype=torch.float64)
            weight = torch.from_numpy(whole.astype(np.float64)) * quantum.reshape(-1, *[1] * (whole.ndim - 1))
        terms = weight[0].numel() + 6
        given = _sum(module, weight, value, bias)
        size = _sum(module, weight.abs(), value.abs() * (terms * _UNIT) + error * 2, None)
        wrong = (size + 4 * _UNIT * given.abs() + _bias(bias, given)) * _MORE
        return _near(given, wrong, weight, *(() if bias is None else (bias,)))

    def _pooled(self, node: fx.Node, module: nn.Module | None, kind: Any, value: Tensor, error: Tensor) -> Near:
        w = pools.windows(self.program.names[node], node, module, kind, tuple(value.shape[1:]))
        if w.most:
            most = partial(F.max_pool2d, kernel_size=w.kernel, stride=w.stride, padding=w.padding, dilation=w.dilation)
            return Near(most(value, ceil_mode=w.ceil_mode), most(error, ceil_mode=w.ceil_mode))
        count = w.kernel[0] * w.kernel[1]

        def pool(t: Tensor) -> Tensor:
            found = F.avg_pool2d(t, w.kernel, w.stride, w.padding) * float(w.factor * count)
            return found.flatten(1) if w.is_flat else found

        return _near(pool(value), pool(error + (count + 6) * _UNIT * value.abs()) * _MORE)

    def _quantised(self, node: fx.Node, module: Quantise | Scaled, value: Tensor, error: Tensor) -> Near:
        name = self.program.names[node]
        table = layers.levels_of(name, module, shape_of(node), self.program.dtype)
        scales = np.broadcast_to(table.scale, (value.shape[1], *[1] * (value.ndim - 2))).ravel()
        places = [[place * scale for place in table.places] for scale in scales]
        most = max((abs(place) for each in places for place in each), default=Fraction(0))
        band = (error + 4 * _UNIT * (value.abs() + _float(most))) * _MORE
        if not all(_is_held(_float(place)) for each in places for place in each):
            band = torch.full_like(band, torch.inf)
        sure, least = (_counted(end, places) for end in (value - band, value + band))
        index, unsure = sure.numpy(), ((sure != least) | ~torch.isfinite(band)).numpy()
        before = node.all_input_nodes[0]
        for at in map(tuple, np.argwhere(unsure)):
            number = self._number(before, *map(int, at))
            index[at] = sum(number.reaches(place) for place in places[at[1]])
        self.indices[name], self.decided[name] = index, int(unsure.sum())
        levels = [[z * table.quantum * scale for z in table.integers] for scale in scales]
        self._levels[node] = index, levels
        floats = torch.tensor([list(map(_float, each)) for each in levels], dtype=torch.float64)
        channel = torch.arange(value.shape[1]).reshape(-1, *[1] * (value.ndim - 2))
        given = floats[channel.expand(value.shape[1:]), torch.from_numpy(index)]
        return _near(given, given.abs() * (2 * _UNIT))

    # Fractions -------------------------------------------------------------------------------------------------------

    def _number(self, node: fx.Node, *at: int) -> Number:
        """One element of what a node gives."""
        key = (node, *at)
        if key not in self._exact:
            self._exact[key] = self._computed(node, *at)
        return self._exact[key]

    def _computed(self, node: fx.Node, *at: int) -> Number:
        if node.op == "placeholder":
            mean, std = (part[at[1]] if isinstance(part, tuple) else part for part in (self.mean, self.std))
            return _plain((int(self.x[at]) - mean) / std)
        if node in self._levels:
            index, levels = self._levels[node]
            return _plain(levels[at[1]][index[at]])
        module, kind, before = self._call(node)
        if kind in NOTHING:
            return self._number(before, *at)
        if kind in FLATTENING:
            return self._number(before, at[0], *map(int, _unravelled(at[1:], shape_of(node), shape_of(before))))
        if kind in layers.NORMS:
            return _exactly_normed(module, self._number(before, *at), at[1])
        if kind in ("add", "iadd"):
            a, b = (self._number(each, *at) for each in node.args)
            return _plain(a.rest + b.rest)
        if kind in CONCATENATING:
            channel = at[1]
            for part in joined(node):
                if channel < shape_of(part)[0]:
                    return self._number(part, at[0], channel, *at[2:])
                channel -= shape_of(part)[0]
        if kind is nn.Linear:
            return self._exactly_applied(node, module, at, lambda where: (at[0], *where))
        if kind is nn.Conv2d:
            group = at[1] // (module.out_channels // module.groups) * (module.in_channels // module.groups)
            padding = _padding(module)

            def place(where: tuple[int, ...]) -> tuple[int, ...]:
                c, *taps = where
                moved = (i * s - p + k * d for i, s, p, k, d in zip(at[2:], module.stride, padding, taps, module.dilation))
                return (at[0], group + c, *moved)

            return self._exactly_applied(node, module, at, place)
        return self._exactly_pooled(node, module, kind, before, at)

    def _exactly_applied(self, node: fx.Node, module: nn.Module, at: tuple[int, ...], place: Any) -> Number:
        before = node.all_input_nodes[0]
        sizes = shape_of(before)[1:]
        total = Fraction(0) if module.bias is None else Fraction(module.bias[at[1]].item())
        for where, weight in self._taps(node, at[1]):
            here = place(where)
            if all(0 <= i < n for i, n in zip(here[2:], sizes)):
                total += weight * self._number(before, *here).rest
        return _plain(total)

    def _taps(self, node: fx.Node, output: int) -> list[tuple[tuple[int, ...], Fraction]]:
        """The weights of one output that are not 0, exactly, each with its place."""
        if node not in self._weights:
            whole, quanta = self._whole(node)
            self._weights[node] = [
                [(where, z * quantum) for where, z in np.ndenumerate(row.astype(object)) if z]
                for row, quantum in zip(whole, quanta)
            ]
        return self._weights[node][output]

    def _whole(self, node: fx.Node) -> tuple[np.ndarray, list[Fraction]] | None:
        """The weights as integers with a quantum for each output; None where they are floats."""
        if node not in self._read:
            self._read[node] = self._read_weights(node)
        return self._read[node]

    def _read_weights(self, node: fx.Node) -> tuple[np.ndarray, list[Fraction]] | None:
        weight = self.program.module(node).weight
        stored = weight.detach().double().numpy()
        found = layers.whole_weights(stored, weight.dtype)
        if found is not None:
            most = 2 * torch.finfo(weight.dtype).eps  # two floats next to the stored one, at most
            for row, whole, quantum in zip(stored, *found):
                distinct, first = np.unique(whole, return_index=True)
                again = zip(distinct.tolist(), row.ravel()[first].tolist())
                if any(abs(z * quantum - Fraction(each)) > abs(Fraction(each)) * Fraction(most) for z, each in again):
                    name = self.program.names[node]
                    raise ArithmeticError(f"{name!r} has weights that were read wrongly, as integers times {quantum}.")
        return found

    def _exactly_pooled(
        self, node: fx.Node, module: nn.Module | None, kind: Any, before: fx.Node, at: tuple[int, ...]
    ) -> Number:
        sizes = shape_of(before)
        w = pools.windows(self.program.names[node], node, module, kind, sizes)
        place = (*at[2:], 0, 0)[:2]
        taps = itertools.product(*map(range, w.kernel))
        found = []
        for tap in taps:
            here = tuple(i * s - p + k * d for i, s, p, k, d in zip(place, w.stride, w.padding, tap, w.dilation))
            if all(0 <= i < n for i, n in zip(here, sizes[1:])):
                found.append(self._number(before, at[0], at[1], *here))
        if w.most:
            most = found[0]
            for each in found[1:]:
                # root / √radicand + rest ≥ 0 of the difference; the radicand is the channel's.
                if Number(each.root - most.root, each.radicand, each.rest - most.rest).reaches(Fraction(0)):
                    most = each
            return most
        radicand = found[0].radicand if found else Fraction(1)
        root, rest = (sum((part[i] for part in found), Fraction(0)) * w.factor for i in (0, 2))
        return Number(root, radicand, rest)


def _near(value: Tensor, error: Tensor, *numbers: Tensor) -> Near:
    """Numbers with their bounds, which do not hold where these, or the numbers that they were computed with, leave the range."""
    if not all(_is_held(part).all() for part in numbers):
        return Near(value, torch.full_like(value, torch.inf))
    return Near(value, error if (held := _is_held(value)).all() else torch.where(held, error, torch.inf))


def _is_held(number: Any) -> Any:
    """Whether numbers are 0 or within the range, each; what is no number is not."""
    size = abs(number)
    return (number == 0) | ((size >= _RANGE[0]) & (size <= _RANGE[1]))


def _float(number: Fraction) -> float:
    """The float64 nearest to a fraction; infinite beyond them."""
    try:
        return float(number)
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")


def _counted(value: Tensor, places: list[list[Fraction]]) -> Tensor:
    """How many of a channel's thresholds each number reaches."""
    if all(each == places[0] for each in places[1:]):
        at = torch.tensor(list(map(_float, places[0])), dtype=torch.float64)
        return torch.bucketize(value, at, right=True)
    by_channel = [_counted(value[:, i].contiguous(), [each]) for i, each in enumerate(places)]
    return torch.stack(by_channel, 1)


def _by_channel(part: Fraction | tuple[Fraction, ...], like: Tensor) -> Tensor:
    """One number for all, or one for each channel, as float64 that broadcast with a batch."""
    values = part if isinstance(part, tuple) else (part,)
    return torch.tensor(list(map(float, values)), dtype=torch.float64).reshape(-1, *[1] * (like.ndim - 2))


def _plain(value: Fraction) -> Number:
    return Number(Fraction(0), Fraction(1), value)


def _exactly_normed(module: nn.Module, number: Number, channel: int) -> Number:
    mean, variance, gamma, shift = (
        Fraction(default) if part is None else Fraction(part[channel].item())
        for part, default in ((module.running_mean, 0), (module.running_var, 1), (module.weight, 1), (module.bias, 0))
    )
    return Number(gamma * (number.rest - mean), variance + Fraction(module.eps), shift)


def _normed(module: nn.Module, value: Tensor, error: Tensor) -> Near:
    shape = (-1, *[1] * (value.ndim - 2))
    mean, variance = (part.double().reshape(shape) for part in (module.running_mean, module.running_var))
    gamma = torch.ones_like(mean) if module.weight is None else module.weight.double().reshape(shape)
    shift = torch.zeros_like(mean) if module.bias is None else module.bias.double().reshape(shape)
    factor = gamma / (variance + module.eps).sqrt()
    given = (value - mean) * factor + shift
    wrong = factor.abs() * (error + 12 * _UNIT * (value.abs() + mean.abs())) + 8 * _UNIT * (shift.abs() + given.abs())
    wrong = torch.where(variance < 0, torch.inf, wrong * _MORE)  # variance + eps may cancel
    return _near(given, wrong, mean, variance + module.eps, gamma, shift)


def _sum(module: nn.Linear | nn.Conv2d, weight: Tensor, x: Tensor, bias: Tensor | None) -> Tensor:
    """The layer with other numbers, as products of matrices: no algorithm that multiplies less is let in."""
    if isinstance(module, nn.Linear):
        return F.linear(x, weight, bias)
    rows, columns = _padding(module)
    columns_of = F.unfold(F.pad(x, (columns, columns, rows, rows)), module.kernel_size, module.dilation, 0, module.stride)
    n, groups = len(x), module.groups
    found = weight.reshape(groups, len(weight) // groups, -1) @ columns_of.reshape(n, groups, -1, columns_of.shape[-1])
    sizes = [
        (m + 2 * p - d * (k - 1) - 1) // s + 1
        for m, p, d, k, s in zip(x.shape[2:], (rows, columns), module.dilation, module.kernel_size, module.stride)
    ]
    found = found.reshape(n, len(weight), *sizes)
    return found if bias is None else found + bias.reshape(-1, 1, 1)


def _bias(bias: Tensor | None, like: Tensor) -> Tensor | float:
    return 0.0 if bias is None else (4 * _UNIT * bias.abs()).reshape(-1, *[1] * (like.ndim - 2))


def _padding(module: nn.Conv2d) -> tuple[int, int]:
    if isinstance(module.padding, str):
        spans = [d * (k - 1) // 2 for k, d in zip(module.kernel_size, module.dilation)]
        return tuple(spans) if module.padding == "same" else (0, 0)
    return tuple(module.padding)


def _unravelled(at: tuple[int, ...], shape: tuple[int, ...], before: tuple[int, ...]) -> tuple[int, ...]:
    return np.unravel_index(np.ravel_multi_index(at, shape), before)
