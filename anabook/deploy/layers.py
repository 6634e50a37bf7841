"""The layers with numbers of their own, read: linear ones and convolutions, batch normalisations, quantisers, the head."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import fx, nn

from anabook.deploy.quanta import multiples
from anabook.deploy.running import Extent, run
from anabook.deploy.state import State
from anabook.deploy.steps import INPUT, Add, Flatten, Head, Weighted
from anabook.deploy.wires import CannotConvert, Wire, fractions, kinds
from anabook.training.modules import Quantise
from anabook.training.places import Scaled
from anabook.training.scaled import quantiser_in

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
BETWEEN = "put a quantiser there: before=… and summands=… of training.quantise do it, and so does an activation"
"""What to change where floats come to a step that takes integers."""

_ADDING = ("add", "iadd")
_MOST_VALUES = 256


def read(state: State, name: str, node: fx.Node, module: nn.Module | None, kind: Any, wires: list[Wire]) -> Wire | None:
    """What one of these layers gives; None for what is none of them."""
    if kind in (nn.Linear, nn.Conv2d):
        return _weighted(state, name, module, *wires)
    if kind in NORMS:
        return _normed(name, module, *wires)
    if isinstance(kind, str) and kind in _ADDING:
        return _added(state, name, node, wires)
    return None


# Weights ------------------------------------------------------------------------------------------------------------


def _weighted(state: State, name: str, module: nn.Linear | nn.Conv2d, wire: Wire) -> Wire:
    _check_plain(name, wire)
    is_linear = isinstance(module, nn.Linear)
    if is_linear and len(wire.shape) != 1:
        raise CannotConvert(
            f"{name!r} is a linear layer on a tensor of shape {wire.shape}; steps take vectors, so flatten it.",
            "put an nn.Flatten before it, or an nn.Conv2d of size 1 in its place",
        )
    weights = numbers(name, "weight", module.weight)
    bias = np.zeros(len(weights)) if module.bias is None else numbers(name, "bias", module.bias)
    found = whole_weights(weights, module.weight.dtype)
    if found is None:
        count = len(np.unique(weights))
        why = (
            f"the weights of {name!r} take {count} values, which are not integers from -128 to 127 times a quantum"
            f"{'; only a last linear layer may stay in float' if is_linear else ''}."
        )
        remedy = "quantise these weights, too: see keep= and weights= of training.quantise, whose report lists them all"
        if is_linear:
            # It stays in float: a last layer may.
            zero, scale, each_offset = Fraction(0), _same_scale(state, name, wire), _offsets(name, wire).tolist()
            sums = [sum((o * Fraction(w) for o, w in zip(each_offset, row) if o), zero) for row in weights.tolist()]
            offsets = [Fraction(b) + each for b, each in zip(bias.tolist(), sums)]
            state.floats = (wire.step, weights)
            shape = (len(weights),)
            return Wire.plain(name, shape, scale, fractions(offsets, shape)).with_(floats=CannotConvert(why, remedy))
        raise CannotConvert(why, remedy)
    whole, quanta = found
    if is_linear:
        step = Weighted(name=name, inputs=(wire.step,), weights=whole)
        scales = [_same_scale(state, name, wire)] * len(whole)
    else:
        step = _convolution(name, module, wire, whole)
        scales = _scales_by_group(state, name, wire, module.groups, len(whole))
    shape = state.extents[state.add(step)].shape
    scales = [q * s for q, s in zip(quanta, scales)]
    given = Wire.plain(name, shape, fractions(scales, shape), fractions(bias.tolist(), shape))
    if (wire.offset != 0).any():
        given = given.with_(offset=_with_offset(step, wire, given.offset, quanta, _offsets(name, wire), shape))
    return given


def _offsets(name: str, wire: Wire) -> np.ndarray:
    """The offset of each channel that comes in."""
    if wire.is_padded_differently:
        raise CannotConvert(f"{name!r} takes sums that depend on the padding; a quantiser must come in between.", BETWEEN)
    return np.broadcast_to(wire.offset, (wire.shape[0], *[1] * (len(wire.shape) - 1))).ravel()


def _with_offset(
    step: Weighted,
    wire: Wire,
    bias: np.ndarray,
    quanta: list[Fraction],
    offsets: np.ndarray,
    shape: tuple[int, ...],
) -> np.ndarray:
    """The biases with what weights make of offsets of the input; where zeros are padded, the place counts."""
    values = sorted(set(offsets) - {0})
    size = int(np.abs(step.weights).astype(np.int64).reshape(len(step.weights), -1).sum(1).max())
    sums = []  # of the weights that meet the channels of each offset, inside the image
    for value in values:
        there = np.array([[each == value for each in offsets]], np.int8).reshape(1, -1, *[1] * (len(wire.shape) - 1))
        ones = np.broadcast_to(there, (1, *wire.shape))
        sums.append(run(step, [ones], Extent(shape, -size, size, np.int32))[0])
    inside = np.stack(sums, -1)
    if inside.ndim == 4 and (inside == inside[:, :1, :1]).all():
        inside = inside[:, :1, :1]
    found = np.empty(inside.shape[:-1], object)
    for channel, places in enumerate(inside):
        kinds_of, which = np.unique(places.reshape(-1, len(values)), axis=0, return_inverse=True)
        each = np.empty(len(kinds_of), object)
        for number, counts in enumerate(kinds_of.tolist()):
            total = sum((value * count for value, count in zip(values, counts)), Fraction(0))
            each[number] = bias.ravel()[channel % bias.size] + quanta[channel] * total
        found[channel] = each[which.ravel()].reshape(places.shape[:-1]) if places.ndim > 1 else each[0]
    return found


def _convolution(name: str, module: nn.Conv2d, wire: Wire, whole: np.ndarray) -> Weighted:
    if module.padding_mode != "zeros":
        raise CannotConvert(
            f"{name!r} pads with padding_mode={module.padding_mode!r}; steps pad with zeros.", "pad with zeros"
        )
    padding = module.padding
    if isinstance(padding, str):
        spans = [d * (k - 1) if padding == "same" else 0 for k, d in zip(module.kernel_size, module.dilation)]
        if any(span % 2 for span in spans):
            raise CannotConvert(
                f"{name!r} pads by padding='same' one row or column more on one side; steps pad alike on both."
            )
        padding = tuple(span // 2 for span in spans)
    return Weighted(
        name=name,
        inputs=(wire.step,),
        weights=whole,
        stride=tuple(module.stride),
        padding=tuple(padding),
        dilation=tuple(module.dilation),
        groups=module.groups,
    )


def whole_weights(weights: np.ndarray, dtype: torch.dtype) -> tuple[np.ndarray, list[Fraction]] | None:
    """Weights as int8 with a quantum for each output: one for all, unless smaller numbers come of one for each."""
    floats = {torch.float64: np.float64, torch.float16: np.float16}.get(dtype, np.float32)
    kind = floats, -128, 127, 2**16 if dtype == torch.bfloat16 else 1
    whole = _read(weights, kind)
    rows = [_read(row, kind) for row in weights] if weights.ndim > 1 else []
    if rows and all(row is not None for row in rows):
        most = max(np.abs(row[1].astype(int)).max() for row in rows)
        if whole is None or most < np.abs(whole[1].astype(int)).max():
            return np.stack([row[1] for row in rows]), [row[0] for row in rows]
    return None if whole is None else (whole[1], [whole[0]] * len(weights))


def _read(values: np.ndarray, kind: tuple) -> tuple[Fraction, np.ndarray] | None:
    distinct, places = np.unique(values, return_inverse=True)
    if len(distinct) > _MOST_VALUES:
        return None
    found = multiples(distinct.tolist(), *kind)
    return None if found is None else (found[0], np.array(found[1], np.int8)[places].reshape(values.shape))


def _same_scale(state: State, name: str, wire: Wire) -> Fraction:
    if wire.one_scale is None and _origin(state, wire.step) == INPUT:
        raise CannotConvert(
            f"{name!r} adds up channels of the input with standard deviations of their own ({_listed(1 / wire.scale)}).",
            "standardise with one std for all channels (means may differ), or put an activation first, whose quantiser rounds "
            "the input",
        )
    if wire.one_scale is None:
        raise CannotConvert(
            f"{name!r} adds up channels with quanta of their own ({_listed(wire.scale)}); only a convolution with a group for "
            "each channel can take them. What is concatenated has one quantum where calibrate and quantise were told summands=…",
            "pass summands=… to calibrate and to quantise, which gives one quantum to levels that are concatenated",
        )
    return wire.one_scale


def _origin(state: State, name: str) -> str:
    """The step whose numbers a flattened tensor has."""
    step = next((each for each in state.steps if each.name == name), None)
    return _origin(state, step.inputs[0]) if isinstance(step, Flatten) else name


def _scales_by_group(state: State, name: str, wire: Wire, groups: int, outputs: int) -> list[Fraction]:
    if wire.one_scale is not None:
        return [wire.one_scale] * outputs
    scales = np.broadcast_to(wire.scale, (wire.shape[0], 1, 1)).reshape(groups, -1)
    if any(len(set(group)) > 1 for group in scales.tolist()):
        _same_scale(state, name, wire)
    return [scales[o // (outputs // groups), 0] for o in range(outputs)]


def numbers(name: str, what: str, tensor: torch.Tensor) -> np.ndarray:
    """A module's numbers in float64, which holds those of every smaller type; finite."""
    array = tensor.detach().double().numpy()
    if not np.isfinite(array).all():
        raise CannotConvert(f"the {what} of {name!r} must be finite, but there is {array[~np.isfinite(array)][0]}.")
    return array


def _check_plain(name: str, wire: Wire, hint: str = "") -> None:
    if wire.normed is not None:
        raise CannotConvert(
            f"{name!r} takes the floats that {wire.normed!r} gives; a quantiser must come in between{hint}.", BETWEEN
        )
    if wire.later:
        raise CannotConvert(
            f"{name!r} takes the maxima {wire.later[-1].name!r} of floats; a quantiser must come in between{hint}.", BETWEEN
        )


# Batch normalisation, addition --------------------------------------------------------------------------------------


def _normed(name: str, module: nn.BatchNorm1d | nn.BatchNorm2d, wire: Wire) -> Wire:
    if wire.normed is not None:
        raise CannotConvert(f"{name!r} normalises what {wire.normed!r} has normalised; one of the two can be read.")
    _check_plain(name, wire)
    if module.running_mean is None:
        raise CannotConvert(
            f"{name!r} has no running mean and variance: it normalises each batch by itself.",
            "make it with track_running_stats=True",
        )
    mean, variance = (numbers(name, what, getattr(module, what)).tolist() for what in ("running_mean", "running_var"))
    radicand = [Fraction(v) + Fraction(module.eps) for v in variance]
    if min(radicand) <= 0:
        raise CannotConvert(f"the variance of {name!r} must be greater than -eps, but there is {min(variance):g}.")
    one, zero = [1] * len(mean), [0] * len(mean)
    gamma = one if module.weight is None else numbers(name, "weight", module.weight).tolist()
    shift = zero if module.bias is None else numbers(name, "bias", module.bias).tolist()
    parts = {"gamma": gamma, "radicand": radicand, "shift": shift}
    means = fractions(mean, wire.shape)
    return wire.with_(
        normed=name,
        offset=_minus(wire.offset, means),
        **{what: fractions(values, wire.shape) for what, values in parts.items()},
    )


def _minus(offset: np.ndarray, means: np.ndarray) -> np.ndarray:
    """offset − means, each different value once, so that equal ones stay one object."""
    if offset.size <= means.size:
        return offset - means
    found = np.empty(np.broadcast_shapes(offset.shape, means.shape), object)
    for channel in range(len(found)):
        values, which = kinds(offset[channel % offset.shape[0]])
        mean = means[channel % means.shape[0]].flat[0]
        for number, value in enumerate(values):
            found[channel, which == number] = value - mean
    return found


def _added(state: State, name: str, node: fx.Node, wires: list[Wire]) -> Wire:
    tensors = [each for each in node.args if isinstance(each, fx.Node)]
    if len(node.args) != 2 or node.kwargs or len(tensors) != 2:
        raise CannotConvert(f"{name!r} adds a number, or a multiple; steps add two tensors.")
    a, b = (state.wires[each] for each in tensors)
    for wire in (a, b):
        _check_plain(name, wire, " (training.quantise(..., summands=...) puts one there)")
    if a.shape != b.shape:
        raise CannotConvert(f"{name!r} adds tensors of the shapes {a.shape} and {b.shape}, which must be equal.")
    shape = np.broadcast_shapes(a.scale.shape, b.scale.shape)
    if (np.broadcast_to(a.scale, shape) != np.broadcast_to(b.scale, shape)).any():
        raise CannotConvert(
            f"{name!r} adds multiples of {_listed(a.scale)} ({a.step!r}) to multiples of {_listed(b.scale)} ({b.step!r}); their "
            "quanta must be equal.",
            "pass the same summands=… to calibrate and to quantise, which gives one quantum to all that is added",
        )
    step = state.add(Add(name=name, inputs=(a.step, b.step)))
    return Wire.plain(step, a.shape, a.scale, a.offset + b.offset)


def _listed(scale: np.ndarray) -> str:
    values = list(dict.fromkeys(f"{float(value):g}" for value in scale.ravel()))
    return ", ".join(values[:3]) + (" …" if len(values) > 3 else "")


# Quantisers ---------------------------------------------------------------------------------------------------------


class Levels(NamedTuple):
    """A quantiser as fractions: its levels are quantum · integers, its thresholds `places`, all times a scale.

    Attributes:
        quantum, integers, places: of the quantiser.
        scale: object array that broadcasts with the tensor, one for each channel at most.
    """

    quantum: Fraction
    integers: list[int]
    places: list[Fraction]
    scale: np.ndarray


def levels_of(name: str, module: Quantise | Scaled, shape: tuple[int, ...], dtype: torch.dtype) -> Levels:
    """The levels and thresholds of a quantiser's module, the thresholds as it holds them in the network's float type."""
    quantiser = quantiser_in(module).quantiser
    found = multiples(quantiser.levels.tolist(), np.float64, -128, 255)
    if found is None or found[1][-1] - min(found[1][0], 0) > 255 or (found[1][0] < 0 and found[1][-1] > 127):
        raise CannotConvert(
            f"the {quantiser.n_levels} levels of {name!r} are not integers from -128 to 127, or from 0 to 255, times a quantum: "
            "features must fit into 8 bits.",
            "quantise these features with evenly spaced levels, 256 of them at most",
        )
    held = torch.tensor(quantiser.thresholds).to(dtype).double().tolist()
    return Levels(found[0], found[1], list(map(Fraction, held)), _scale_of(name, module, shape, dtype))


def _scale_of(name: str, module: Quantise | Scaled, shape: tuple[int, ...], dtype: torch.dtype) -> np.ndarray:
    one = fractions([1], shape)
    if not isinstance(module, Scaled):
        return one
    scale = numbers(name, "scale", module.scale.to(dtype))
    if (scale <= 0).any():
        raise CannotConvert(f"the scale of {name!r} must be greater than 0, but there is {scale.min():g}.")
    if scale.size == 1:
        return one * Fraction(scale.item())
    try:
        whole = np.broadcast_to(scale, (1, *shape))[0]
    except ValueError:
        raise CannotConvert(f"the quanta of {name!r} have the shape {scale.shape}, which does not fit to {shape}.") from None
    first = whole.reshape(shape[0], -1)
    if (first != first[:, :1]).any():
        raise CannotConvert(f"the quanta of {name!r} differ within a channel; one for each channel can be read.")
    return fractions(first[:, 0].tolist(), shape)


# The last layer -----------------------------------------------------------------------------------------------------


def head(state: State, wire: Wire) -> bool:
    """Put a head in place of a last linear layer; whether there is one."""
    last = state.steps[-1] if state.steps else None
    if wire.floats is not None:
        source, weights = state.floats
        inputs, name = (source,), wire.step
    elif isinstance(last, Weighted) and last.name == wire.step and last.weights.ndim == 2:
        inputs, name, weights = last.inputs, last.name, last.weights
        state.steps.pop()
        del state.extents[name]
    else:
        return False
    n = len(weights)
    _check_held(name, weights)
    scale, offset, gamma, radicand, shift = (
        np.broadcast_to(part, (n,)) for part in (wire.scale, wire.offset, wire.gamma, wire.radicand, wire.shift)
    )
    try:
        roots = [_root(value) for value in radicand]
        factor = [float(g * s) / root for g, s, root in zip(gamma, scale, roots)]
        bias = [float(g * o) / root + float(d) for g, o, root, d in zip(gamma, offset, roots, shift)]
    except OverflowError:
        raise CannotConvert(f"the outputs of {name!r} are computed with numbers too large for floats of 64 bits.") from None
    weights = weights.astype(np.int8 if weights.dtype == np.int8 else np.float32)
    state.add(Head(name=name, inputs=inputs, weights=weights, scale=np.array(factor), bias=np.array(bias)))
    return True


def _check_held(name: str, weights: np.ndarray) -> None:
    """Refuse weights that the float32 of a head does not hold: too large, or so small that most of their digits are lost."""
    size, kind = np.abs(weights.astype(np.float64)), np.finfo(np.float32)
    wrong = size > kind.max
    wrong |= (size < kind.tiny) & (size != np.where(wrong, 0, size).astype(np.float32))
    if wrong.any():
        raise CannotConvert(
            f"the last layer {name!r} has a weight of {weights[wrong][0]:g}; it is kept in floats of 32 bits, whose size is from "
            f"{kind.tiny:.2g} to {kind.max:.2g}."
        )


@lru_cache(maxsize=4096)
def _root(value: Fraction) -> float:
    return 1.0 if value == 1 else float(np.sqrt(float(value)))
