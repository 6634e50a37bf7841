"""Small tensors that nothing is compiled for: both passes of a call once more, on NumPy's arrays.

On 64 numbers an operation takes torch a microsecond or more, nearly all of which goes into calling it, and NumPy a third of
that. So here the kernels' arithmetic is done on arrays, with the laws' own formulas. Levels, draws and all that is made
of sums, products and comparisons alone come out as in `kernels` to the last bit. Exp, Φ and the like are NumPy's and
SciPy's, so that expectations and slopes differ by a few roundings.

This is for the four families in float32 and float64 on the CPU, where few thresholds count. All else is left to `kernels`.
"""

from __future__ import annotations

import contextvars
import math
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from anabook.laws import FAMILIES, Law
from anabook.namespaces import NUMPY
from anabook.training._modes import undisturbed
from anabook.training._ops import on_grid
from anabook.training.draws import uniforms_of
from anabook.training.layouts import GRID, Grid, Layout, Loop, Wide, ends_of

if TYPE_CHECKING:
    from anabook.training._plans import Plan

MOST = 2**11
"""Tensors of at most this many elements are small: all that is here is at least 1.3 times as fast as `kernels` on them, and
from four times as many on some of it is not."""

Array = np.ndarray
Function = Callable[[Array], Array]
Keys = tuple[Array, Array, Array]

_MOST_TERMS = 32
_NUMBERS = np.arange(MOST, dtype=np.uint32)
_TORCH = {np.dtype(np.float32): torch.float32, np.dtype(np.float64): torch.float64}
_EPS = {kind: float(np.finfo(kind).eps) for kind in _TORCH}
# Plain numbers, as torch's namespace has them: they take the type of the array that they meet.
_OPS = SimpleNamespace(**{**vars(NUMPY), "eps": lambda t: _EPS[t.dtype], "full_like": lambda t, value: t.dtype.type(value)})


class _Own(threading.local):
    """What each thread has of its own.

    Attributes:
        run: runs a function so that NumPy, as torch, says nothing about infinities. What NumPy is to say it keeps in a
            context variable, so that this is set once in a context of its own: `np.errstate` costs four times as much.
        keys: memory for those of a call.
        arrays: the same memory as three arrays.
    """

    def __init__(self) -> None:
        context = contextvars.Context()
        context.run(np.seterr, all="ignore")
        self.run = context.run
        self.keys = undisturbed(lambda: torch.zeros(3, dtype=torch.int32, device="cpu"))
        self.arrays = tuple(_number(self.keys.numpy().view(np.uint32), place) for place in range(3))


def _number(c: Array, place: int) -> Array:
    """One of the constants, as an array: NumPy takes twice as long over plain numbers."""
    return c[place : place + 1].reshape(())


_own = _Own()


def keys(generator: torch.Generator | None) -> Keys:
    """Random integers that fix the draws of the next call on this thread, the same as `Quantise.keys` gives."""
    _own.keys.random_(-(2**31), 2**31, generator=generator)
    return _own.arrays


class Passes(NamedTuple):
    """Both passes of a plan.

    Attributes:
        value: flat x, and the keys of the draws where there are any ↦ the output.
        slope: flat x ↦ the derivative of the expectation; None where it is 0.
    """

    value: Callable[[Array, Keys | None], Array]
    slope: Function | None

    def forwards(self, x: Tensor, keys: Keys | None) -> Tensor:
        """The output."""
        a = x.numpy(force=True)
        if a.ndim == 1:
            return torch.from_numpy(_own.run(self.value, a, keys))
        return torch.from_numpy(_own.run(self.value, a.reshape(-1), keys).reshape(a.shape))

    def backwards(self, grad: Tensor, x: Tensor) -> Tensor:
        """The gradient with respect to x, by the one with respect to the output."""
        a, g = x.numpy(force=True), grad.numpy(force=True)
        if a.ndim == 1:
            return torch.from_numpy(_own.run(self._product, a, g))
        return torch.from_numpy(_own.run(self._product, a.reshape(-1), g.reshape(-1)).reshape(a.shape))

    def _product(self, a: Array, g: Array) -> Array:
        return self.slope(a) * g


def passes(plan: Plan) -> Passes | None:
    """What a plan comes to for small tensors; None where that is for `kernels`."""
    if plan.constants.device.type != "cpu":
        return None
    return _own.run(_passes, plan, plan.constants.numpy())


def _passes(plan: Plan, c: Array) -> Passes | None:
    # A mean of 0 is left out.
    mean = None if plan.centred[0] else _number(c, 0)
    stair = _stair(plan.static[0], c)
    if plan.backward is None:
        return Passes(_quantised(stair, mean), None)
    layout, law = plan.slope
    if not (isinstance(law, str) and _is_short(layout)):
        return None
    family, near = FAMILIES[law], _near(layout, plan.backward.numpy(), plan.centred[1])
    if plan.kernel == "quantised":
        value = _quantised(stair, mean)
    elif plan.kernel == "drawn":
        value = _drawn(stair, mean, near.std, family)
    else:
        value = _expected(stair, mean, near, family)
    return Passes(value, _slope(near, family))


# Constants ----------------------------------------------------------------------------------------------------------


class _Near(NamedTuple):
    """The thresholds that count at each x.

    Attributes:
        distances: flat x ↦ (x − θ_k − α)/β, along a first axis; not −0 where x = −0, which is not below a threshold of 0.
        steps: Δ_k, with such an axis or as one number.
        std: β.
        places: θ_k + α where all thresholds count everywhere.
    """

    distances: Function
    steps: Array
    std: Array
    places: Array | None


def _is_short(layout: Layout) -> bool:
    if isinstance(layout, Loop):
        return layout.n_thresholds <= _MOST_TERMS
    return isinstance(layout, Grid) and layout.window <= _MOST_TERMS


def _near(layout: Layout, c: Array, centred: bool) -> _Near:
    mean, std = None if centred else _number(c, 0), _number(c, 1)
    if isinstance(layout, Loop):
        n = layout.n_thresholds
        steps, thresholds = np.diff(c[2 : n + 3])[:, np.newaxis], c[n + 3 :, np.newaxis]
        thresholds = np.where(thresholds == 0, -0.0, thresholds).astype(c.dtype)
        if mean is None:
            return _Near(lambda x: (x - thresholds) / std, steps, std, thresholds)
        return _Near(lambda x: (x - mean - thresholds) / std, steps, std, thresholds + mean)
    g = {name: _number(c, place) for place, name in enumerate(GRID)}
    more = np.arange(layout.window, dtype=c.dtype)[:, np.newaxis]

    def distances(x: Array) -> Array:
        v = _centred(x, mean) + 0.0
        first = np.floor(v * g["per_quantum"] - g["b"] + g["shift"])
        first = np.minimum(np.maximum(first, 1), g["last_start"])
        return (v - on_grid(first + more, g["b"], g)) / std

    return _Near(distances, g["quantum"], std, None)


def _centred(x: Array, mean: Array | None) -> Array:
    return x if mean is None else x - mean


def _stair(layout: Layout, c: Array) -> Function:
    """σ, NaN for NaN."""
    if isinstance(layout, (Grid, Wide)):
        g = dict(zip(GRID, c))
        k = np.arange(g["last"] + 1, dtype=c.dtype)
        return _lookup(on_grid(k, g["a"], g), np.clip(on_grid(k[1:], g["b"], g), g["bottom"], g["top"]))
    n = layout.n_thresholds
    return _lookup(c[2 : n + 3], c[n + 3 :])


def _lookup(values: Array, starts: Array) -> Function:
    """The stair of these values, of which all but the first start somewhere."""
    # NaN comes last in NumPy's order, so that it starts a value of its own.
    nan = np.full(1, np.nan, values.dtype)
    values, starts = np.concatenate([values, nan]), np.concatenate([starts, nan])
    return lambda x: values.take(starts.searchsorted(x, "right"), mode="clip")


# Passes -------------------------------------------------------------------------------------------------------------


def _quantised(stair: Function, mean: Array | None) -> Callable[[Array, Any], Array]:
    return (lambda x, keys: stair(x)) if mean is None else (lambda x, keys: stair(x - mean))


def _expected(stair: Function, mean: Array | None, near: _Near, family: Law) -> Callable[[Array, Any], Array]:
    total, tail, copysign = _total(near.steps), family.tail, np.copysign

    def expected(x: Array, keys: Any) -> Array:
        t = near.distances(x)
        return stair(_centred(x, mean)) - total(copysign(tail(t, _OPS), t))

    return expected


def _drawn(stair: Function, mean: Array | None, std: Array, family: Law) -> Callable[[Array, Any], Array]:
    kind, quantile = std.dtype, _quantile(family, std.dtype)
    least = np.array(_EPS[kind] / 4, kind)

    def drawn(x: Array, keys: Keys) -> Array:
        noise = std * quantile(np.maximum(uniforms_of(_NUMBERS[: x.size], keys, kind), least))
        return stair(x - (noise if mean is None else mean + noise))

    return drawn


def _quantile(family: Law, kind: np.dtype) -> Function:
    """Q(u) for multiples u of half a rounding, of which 1 − u has all digits."""
    lower = family.lower_quantile
    if family.name != "triangular":
        return lambda u: lower(u, _OPS)  # no less accurate above 1/2
    half, one = np.array(0.5, kind), np.array(1.0, kind)
    return lambda u: np.copysign(lower(np.minimum(u, one - u), _OPS), u - half)


def _slope(near: _Near, family: Law) -> Function:
    total, density, kind = _total(near.steps), family.density, near.std.dtype

    def slope(x: Array) -> Array:
        return total(density(near.distances(x), _OPS)) / near.std

    if family.name != "uniform":
        return slope
    if near.places is None:
        return lambda x: np.where(np.isnan(x), x, slope(x))
    # The sum is constant between the ends of the supports.
    starts = np.sort((near.places + near.std * np.array(ends_of("uniform", _TORCH[kind]), kind)).ravel())
    return _lookup(slope(np.concatenate([[-math.inf], (starts[1:] + starts[:-1]) / 2, [math.inf]]).astype(kind)), starts)


def _total(steps: Array) -> Function:
    """The sum of the steps' multiples along the first axis."""
    add: Function = _sum_of_two if steps.size == 2 else lambda each: np.add.reduce(each, 0)
    return add if (steps == 1).all() else lambda each: add(steps * each)


def _sum_of_two(each: Array) -> Array:
    return each[0] + each[1]
