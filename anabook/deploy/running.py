"""What each step computes, and within which bounds: NumPy integers, with products by BLAS only where they cannot round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch
from itertools import product
from math import prod
from typing import Any

import numpy as np

from anabook.deploy.arrays import narrowest
from anabook.deploy.steps import Add, Concat, Flatten, Head, MaxPool, Step, SumPool, Threshold, Weighted, beyond, out_size

INT32 = (-(2**31) + 2, 2**31 - 2)
"""What an accumulator may be: with its sign turned, too, and so that a threshold above every accumulator is an int32."""

_FLOATS = ((2**24, np.float32), (2**53, np.float64))
"""Up to which size every whole number is a float of this type."""

_MOST_COMPARED = 15  # thresholds; more are searched


@dataclass(frozen=True)
class Extent:
    """What a tensor of the network holds: its shape without the batch, its least and its greatest possible number.

    Attributes:
        shape: without the batch.
        low, high: one number, or an array with one for each channel. For what is summed they hold for every partial sum in
            any order as well, so that low ≤ 0 ≤ high.
        dtype: of the array that holds it: int32 for accumulators, the narrowest of int8, uint8, int16 and int32 for the
            rest, float64 for what a `Head` gives.

    Example:
        >>> Extent((3, 8, 8), 0, 255).dtype, Extent((16,), -300, 20, np.int32).bits
        (dtype('uint8'), 10)
    """

    shape: tuple[int, ...]
    low: Any
    high: Any
    dtype: Any = None

    def __post_init__(self) -> None:
        low, high = self.bounds
        dtype = self.dtype
        if dtype is None:
            dtype = narrowest(low, high, (np.int8, np.uint8, np.int16, np.int32)) or np.int64
        object.__setattr__(self, "dtype", np.dtype(dtype))

    @property
    def bounds(self) -> tuple[Any, Any]:
        """The least and the greatest number of all channels."""
        return np.min(self.low).item(), np.max(self.high).item()

    @property
    def bits(self) -> int:
        """Of the narrowest signed integers that hold every number within the bounds."""
        low, high = self.bounds
        return max((-int(low) - 1).bit_length() if low < 0 else 0, int(high).bit_length() if high > 0 else 0) + 1

    def channels(self, name: str, signs: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The bounds with one int64 for each channel, times its sign; `name` is of the step that asks."""
        if not self.shape:
            raise ValueError(f"{name!r} takes a tensor without channels.")
        low, high = (np.broadcast_to(np.asarray(b, np.int64), self.shape[:1]) for b in (self.low, self.high))
        return (low, high) if signs is None else (np.where(signs > 0, low, -high), np.where(signs > 0, high, -low))


# Bounds -------------------------------------------------------------------------------------------------------------


@singledispatch
def extent(step: Step, inputs: Sequence[Extent]) -> Extent:
    """The shape and the bounds of what a step gives, from those of what it takes.

    Raises:
        ValueError: the step does not fit what it takes, or its sums need more than 32 bits.
    """
    raise TypeError(f"a step must be one of anabook.deploy.steps, not {type(step).__name__}.")


@extent.register
def _(step: Weighted, inputs: Sequence[Extent]) -> Extent:
    (x,) = _taken(step, inputs, 1)
    weights = step.weights
    _array(step, "weights", weights, np.int8, None)
    if weights.ndim not in (2, 4):
        raise ValueError(f"the weights of {step.name!r} must have 2 or 4 axes, not the shape {weights.shape}.")
    if weights.ndim == 2:
        if x.shape != weights.shape[1:]:
            raise ValueError(f"{step.name!r} takes {weights.shape[1]} numbers, but {step.inputs[0]!r} gives {x.shape}.")
        low, high = _sums(step.name, weights[:, np.newaxis], x, 1)
        return Extent(weights.shape[:1], low, high, np.int32)
    outputs, fan, *kernel = weights.shape
    if len(x.shape) != 3 or x.shape[0] != fan * step.groups or outputs % step.groups:
        raise ValueError(
            f"{step.name!r} has weights of shape {weights.shape} in {step.groups} groups, which do not fit to {x.shape}."
        )
    shape = _windows(step, x.shape, tuple(kernel), step.stride, step.padding, step.dilation)
    low, high = _sums(step.name, weights.reshape(outputs, fan, -1).transpose(0, 2, 1), x, step.groups)
    return Extent((outputs, *shape), low, high, np.int32)


def _sums(name: str, weights: np.ndarray, x: Extent, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of every partial sum for each output; weights of shape (outputs, …, inputs / groups)."""
    low, high = (bound.reshape(groups, 1, 1, -1) for bound in x.channels(name))
    terms = weights.astype(np.int64).reshape(groups, -1, *weights.shape[1:])
    ends = terms * low, terms * high
    least = np.minimum(np.minimum(*ends), 0).sum((2, 3)).ravel()
    most = np.maximum(np.maximum(*ends), 0).sum((2, 3)).ravel()
    return _held(name, least, most)


def _held(name: str, low: Any, high: Any) -> tuple[Any, Any]:
    if np.min(low) < INT32[0] or np.max(high) > INT32[1]:
        bits = Extent((), np.min(low), np.max(high), np.int64).bits
        raise ValueError(
            f"the sums of {name!r} reach from {np.min(low)} to {np.max(high)} and need {bits} bits; there are 32, of which the "
            "ends are not used."
        )
    return low, high


@extent.register
def _(step: Threshold, inputs: Sequence[Extent]) -> Extent:
    (x,) = _taken(step, inputs, 1)
    levels, thresholds = step.levels, step.thresholds
    for what, array in (("levels", levels), ("thresholds", thresholds)):
        if not isinstance(array, np.ndarray) or array.dtype.kind != "i":
            raise ValueError(f"the {what} of {step.name!r} must be an array of signed integers.")
    if levels.ndim != 1 or len(levels) < 2 or (np.diff(levels.astype(np.int64)) <= 0).any():
        raise ValueError(f"the levels of {step.name!r} must be at least two, and increase, not {levels.tolist()}.")
    given = Extent(x.shape, int(levels[0]), int(levels[-1]))
    if given.dtype.itemsize > 1:
        raise ValueError(
            f"the levels of {step.name!r} reach from {levels[0]} to {levels[-1]}; features are int8 or uint8, so they must lie "
            "from -128 to 127 or from 0 to 255."
        )
    _array(step, "thresholds", thresholds, np.int32, None)
    wanted = (len(levels) - 1, x.shape[0], *thresholds.shape[2:]) if x.shape else ()
    places = zip(thresholds.shape[2:], x.shape[1:])
    if thresholds.shape != wanted or thresholds.ndim != 1 + len(x.shape) or not all(n in (1, m) for n, m in places):
        raise ValueError(
            f"the thresholds of {step.name!r} have the shape {thresholds.shape}; {len(levels)} levels of {x.shape} need "
            f"{(len(levels) - 1, *x.shape)}, or ones after the channels."
        )
    if (np.diff(thresholds.astype(np.int64), axis=0) < 0).any():
        raise ValueError(f"the thresholds of {step.name!r} must not decrease.")
    if step.signs is not None:
        _array(step, "signs", step.signs, np.int8, x.shape[:1])
        if (np.abs(step.signs) != 1).any():
            raise ValueError(f"the signs of {step.name!r} must be -1 and 1, not {np.unique(step.signs).tolist()}.")
    quanta = step.quantum if isinstance(step.quantum, tuple) else (step.quantum,) * x.shape[0]
    if len(quanta) != x.shape[0] or min(quanta) <= 0:
        raise ValueError(
            f"the quantum of {step.name!r} must be greater than 0, one or one for each channel, not {step.quantum}."
        )
    return given


@extent.register
def _(step: MaxPool, inputs: Sequence[Extent]) -> Extent:
    (x,) = _taken(step, inputs, 1)
    if any(2 * p > k for p, k in zip(step.padding, step.kernel)):
        raise ValueError(f"{step.name!r} is padded by {step.padding}, more than half its windows of {step.kernel}.")
    shape = _windows(step, x.shape, step.kernel, step.stride, step.padding, step.dilation, step.ceil_mode)
    for n, m, kernel, stride, padding, dilation in zip(
        x.shape[1:], shape, step.kernel, step.stride, step.padding, step.dilation
    ):
        places = np.arange(m)[:, np.newaxis] * stride - padding + np.arange(kernel) * dilation
        if not ((places >= 0) & (places < n)).any(1).all():
            raise ValueError(f"{step.name!r} has a window that lies in the padding with all its places: it has no maximum.")
    return Extent((x.shape[0], *shape), x.low, x.high, x.dtype)


@extent.register
def _(step: SumPool, inputs: Sequence[Extent]) -> Extent:
    (x,) = _taken(step, inputs, 1)
    shape = _windows(step, x.shape, step.kernel, step.stride, step.padding)
    low, high = (bound.astype(np.int64) * prod(step.kernel) for bound in map(np.asarray, (x.low, x.high)))
    return Extent((x.shape[0], *shape), *_held(step.name, np.minimum(low, 0), np.maximum(high, 0)))


@extent.register
def _(step: Add, inputs: Sequence[Extent]) -> Extent:
    a, b = _taken(step, inputs, 2)
    if a.shape != b.shape:
        raise ValueError(f"{step.name!r} adds tensors of the shapes {a.shape} and {b.shape}, which must be equal.")
    low, high = (np.asarray(p, np.int64) + np.asarray(q, np.int64) for p, q in ((a.low, b.low), (a.high, b.high)))
    return Extent(a.shape, *_held(step.name, low, high))


@extent.register
def _(step: Concat, inputs: Sequence[Extent]) -> Extent:
    if len(inputs) < 2:
        raise ValueError(f"{step.name!r} takes 2 tensors or more, not {len(inputs)}.")
    shapes = {each.shape[1:] for each in inputs}
    if len(shapes) > 1 or not all(each.shape for each in inputs):
        raise ValueError(
            f"{step.name!r} puts the channels of tensors of the shapes {', '.join(str(each.shape) for each in inputs)} one "
            "after the other; but for the channels they must be equal."
        )
    low, high = (np.concatenate(ends) for ends in zip(*(each.channels(step.name) for each in inputs)))
    return Extent((len(low), *inputs[0].shape[1:]), low, high)


@extent.register
def _(step: Flatten, inputs: Sequence[Extent]) -> Extent:
    (x,) = _taken(step, inputs, 1)
    low, high = (b if np.ndim(b) == 0 else np.repeat(b, prod(x.shape[1:])) for b in (x.low, x.high))
    return Extent((prod(x.shape),), low, high, x.dtype)


@extent.register
def _(step: Head, inputs: Sequence[Extent]) -> Extent:
    (x,) = _taken(step, inputs, 1)
    integers = isinstance(step.weights, np.ndarray) and step.weights.dtype == np.int8
    _array(step, "weights", step.weights, np.int8 if integers else np.float32, None)
    if step.weights.ndim != 2 or x.shape != step.weights.shape[1:]:
        raise ValueError(f"{step.name!r} has weights of shape {step.weights.shape}, but {step.inputs[0]!r} gives {x.shape}.")
    for what, array in (("scale", step.scale), ("bias", step.bias)):
        _array(step, what, array, np.float64, step.weights.shape[:1])
    if integers:
        low, high = _sums(step.name, step.weights[:, np.newaxis], x, 1)
    else:
        ends = [step.weights.astype(np.float64) * bound for bound in x.channels(step.name)]
        low, high = np.minimum(*ends).sum(1), np.maximum(*ends).sum(1)
        _within_float32(step.name, "sums", np.maximum(*np.abs(ends)).sum(1))
    with np.errstate(over="ignore"):
        products = np.maximum(np.abs(step.scale * low), np.abs(step.scale * high))
        _within_float32(step.name, "outputs", products + np.abs(step.bias))
    small = (step.scale != 0) & (np.abs(step.scale) < np.finfo(np.float32).tiny)
    if small.any():
        raise ValueError(
            f"the scale of {step.name!r} must be within what 32-bit floats hold, but there is {step.scale[small][0]:g}."
        )
    ends = [step.scale * low + step.bias, step.scale * high + step.bias]
    return Extent(step.weights.shape[:1], np.minimum(*ends), np.maximum(*ends), np.float64)


def _within_float32(name: str, what: str, sizes: np.ndarray) -> None:
    """Refuse numbers that programs with floats of 32 bits, such as C by default, could not compute."""
    most = np.finfo(np.float32).max
    if not (sizes <= most).all():
        raise ValueError(
            f"the {what} of {name!r} can be as large as {sizes.max():.3g}; floats of 32 bits end at {most:.3g}."
        )


def _taken(step: Step, inputs: Sequence[Extent], count: int) -> Sequence[Extent]:
    if len(inputs) != count:
        raise ValueError(f"{step.name!r} takes {count} {'tensor' if count == 1 else 'tensors'}, not {len(inputs)}.")
    return inputs


def _array(step: Step, what: str, array: Any, dtype: Any, shape: tuple[int, ...] | None) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != dtype or (shape is not None and array.shape != shape):
        of = f" of shape {shape}" if shape is not None else ""
        got = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise ValueError(f"the {what} of {step.name!r} must be an array of {np.dtype(dtype)}{of}, not {got}.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"the {what} of {step.name!r} must be finite.")


def _windows(
    step: Step,
    shape: tuple[int, ...],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
    ceil_mode: bool = False,
) -> tuple[int, ...]:
    if len(shape) != 3:
        raise ValueError(f"{step.name!r} takes images of shape (channels, height, width), not {shape}.")
    pairs = (kernel, stride, dilation, padding)
    if any(len(pair) != 2 for pair in pairs) or min(*kernel, *stride, *dilation) < 1 or min(padding) < 0:
        raise ValueError(f"{step.name!r} has windows {kernel}, steps {stride}, dilation {dilation}, padding {padding}.")
    sizes = tuple(map(out_size, shape[1:], kernel, stride, padding, dilation, (ceil_mode,) * 2))
    if min(sizes) < 1:
        raise ValueError(f"{step.name!r} has windows of {kernel}, which do not fit into images of {shape[1:]}.")
    return sizes


# Running ------------------------------------------------------------------------------------------------------------


@singledispatch
def run(step: Step, inputs: Sequence[np.ndarray], given: Extent) -> np.ndarray:
    """What a step gives for a batch: integers, or the floats of a `Head`.

    Args:
        step: the step.
        inputs: arrays with the batch first, within the bounds that `given` was made from.
        given: the `extent` of what comes out.
    """
    raise TypeError(f"a step must be one of anabook.deploy.steps, not {type(step).__name__}.")


@run.register
def _(step: Weighted, inputs: Sequence[np.ndarray], given: Extent) -> np.ndarray:
    (x,) = inputs
    exact = carrier(given)
    if step.weights.ndim == 2:
        return (x.astype(exact) @ step.weights.T.astype(exact)).astype(np.int32)
    n, (outputs, fan, *kernel) = len(x), step.weights.shape
    windows = _patches(x, kernel, step.stride, step.padding, step.dilation, given.shape[1:], 0)
    if fan == 1:  # products with single numbers: nothing for BLAS to do
        times = outputs // step.groups
        sums = np.zeros((n, *given.shape), np.int32)
        for (i, j), patch in windows:
            patch = patch.astype(np.int32)
            sums += (patch if times == 1 else np.repeat(patch, times, 1)) * step.weights[:, 0, i, j, None, None].astype(
                np.int32
            )
        return sums
    size = prod(given.shape[1:])
    columns = np.empty((n, x.shape[1], *kernel, size), exact)
    for (i, j), patch in windows:
        columns[:, :, i, j] = patch.reshape(n, x.shape[1], size)
    columns = columns.reshape(n, step.groups, -1, size)
    weights = step.weights.astype(exact).reshape(step.groups, outputs // step.groups, -1)
    return np.matmul(weights, columns).reshape(n, *given.shape).astype(np.int32)


def carrier(given: Extent) -> type:
    """The float type in which every partial sum within the bounds is exact, so that BLAS may add in any order."""
    most = max(abs(bound) for bound in given.bounds)
    return next(kind for limit, kind in _FLOATS if most <= limit)


@run.register
def _(step: Threshold, inputs: Sequence[np.ndarray], given: Extent) -> np.ndarray:
    (z,) = inputs
    if step.signs is not None:
        z = z.astype(np.int32) * step.signs.astype(np.int32).reshape(-1, *[1] * (z.ndim - 2))
    table = step.levels.astype(given.dtype)
    if len(step.thresholds) <= _MOST_COMPARED:
        count = np.zeros(z.shape, np.uint8)
        for threshold in step.thresholds:
            count += (z >= threshold).view(np.uint8)
        return table[count]
    levels = np.empty(z.shape, given.dtype)
    grid = step.thresholds.shape[1:]
    for place in product(*map(range, grid)):
        here = (slice(None), *(slice(None) if n == 1 and i > 0 else at for i, (n, at) in enumerate(zip(grid, place))))
        levels[here] = table[np.searchsorted(step.thresholds[(slice(None), *place)], z[here], side="right")]
    return levels


@run.register
def _(step: MaxPool, inputs: Sequence[np.ndarray], given: Extent) -> np.ndarray:
    (x,) = inputs
    least = np.iinfo(x.dtype).min
    patches = _patches(x, step.kernel, step.stride, step.padding, step.dilation, given.shape[1:], least)
    most = np.full((len(x), *given.shape), least, x.dtype)
    for _, patch in patches:
        np.maximum(most, patch, out=most)
    return most.astype(given.dtype, copy=False)


@run.register
def _(step: SumPool, inputs: Sequence[np.ndarray], given: Extent) -> np.ndarray:
    (x,) = inputs
    sums = np.zeros((len(x), *given.shape), np.int32)
    for _, patch in _patches(x, step.kernel, step.stride, step.padding, (1, 1), given.shape[1:], 0):
        sums += patch
    return sums.astype(given.dtype, copy=False)


@run.register
def _(step: Add, inputs: Sequence[np.ndarray], given: Extent) -> np.ndarray:
    a, b = inputs
    return (a.astype(np.int32) + b.astype(np.int32)).astype(given.dtype, copy=False)


@run.register
def _(step: Concat, inputs: Sequence[np.ndarray], given: Extent) -> np.ndarray:
    return np.concatenate([each.astype(given.dtype, copy=False) for each in inputs], axis=1)


@run.register
def _(step: Flatten, inputs: Sequence[np.ndarray], given: Extent) -> np.ndarray:
    return inputs[0].reshape(len(inputs[0]), *given.shape)


@run.register
def _(step: Head, inputs: Sequence[np.ndarray], given: Extent) -> np.ndarray:
    # Float64 holds sums of int8 weights times integers exactly: they fit into 32 bits.
    return step.scale * (inputs[0].astype(np.float64) @ step.weights.T.astype(np.float64)) + step.bias


def _patches(
    x: np.ndarray,
    kernel: Sequence[int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    size: tuple[int, ...],
    fill: int,
) -> list[tuple[tuple[int, int], np.ndarray]]:
    """For each place (i, j) in a window, what all windows have there."""
    ends = list(map(beyond, x.shape[2:], size, kernel, stride, padding, dilation))
    if any(padding) or any(ends):
        pairs = [(0, 0), (0, 0), *zip(padding, ends)]
        x = np.pad(x, pairs, constant_values=fill)
    (rows, columns), (down, right) = size, stride
    return [
        (
            (i, j),
            x[
                :,
                :,
                i * dilation[0] : i * dilation[0] + (rows - 1) * down + 1 : down,
                j * dilation[1] : j * dilation[1] + (columns - 1) * right + 1 : right,
            ],
        )
        for i, j in product(range(kernel[0]), range(kernel[1]))
    ]
