"""Windows, read: maxima, and averages as sums whose division waits for the next threshold."""

from __future__ import annotations

from fractions import Fraction
from math import prod
from typing import Any, NamedTuple

from torch import fx, nn

from anabook.deploy.layers import BETWEEN
from anabook.deploy.programs import shape_of
from anabook.deploy.state import State
from anabook.deploy.steps import Flatten, MaxPool, SumPool
from anabook.deploy.wires import CannotConvert, Wire

_ARGUMENTS = {
    "max_pool2d": ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
    "avg_pool2d": ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
    "adaptive_avg_pool2d": ("input", "output_size"),
    "adaptive_max_pool2d": ("input", "output_size", "return_indices"),
    "mean": ("input", "dim", "keepdim"),
}
_MODULES = {
    nn.MaxPool2d: "max_pool2d",
    nn.AvgPool2d: "avg_pool2d",
    nn.AdaptiveAvgPool2d: "adaptive_avg_pool2d",
    nn.AdaptiveMaxPool2d: "adaptive_max_pool2d",
}


class Windows(NamedTuple):
    """Windows over images, as a module or a function is told of them.

    Attributes:
        most: whether the maximum is taken; else the sum times the factor.
        kernel, stride, padding, dilation: pairs, rows first.
        ceil_mode: of maxima.
        factor: 1 / the number of places, unless another divisor is given.
        is_flat: whether axes of length 1 are dropped.
    """

    most: bool
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    ceil_mode: bool = False
    factor: Fraction = Fraction(1)
    is_flat: bool = False


def windows(name: str, node: fx.Node, module: nn.Module | None, kind: Any, shape: tuple[int, ...]) -> Windows | None:
    """The windows of an operation on a tensor of this shape; None for what has none."""
    function = _MODULES.get(kind, kind)
    function = "max_pool2d" if function == "boolean_dispatch" else function
    if not isinstance(function, str) or function not in _ARGUMENTS:
        return None
    if module is not None:
        given = {key: getattr(module, key) for key in _ARGUMENTS[function][1:] if hasattr(module, key)}
    else:
        given = {**dict(zip(_ARGUMENTS[function], node.args)), **node.kwargs}
    if given.get("return_indices"):
        raise CannotConvert(f"{name!r} gives indices beside the maxima, which no step does.")
    if len(shape) != 3:
        raise CannotConvert(f"{name!r} takes images of shape (channels, height, width), not {shape}.")
    if function == "mean":
        dim = given.get("dim")
        if dim is None or sorted(axis % 4 for axis in (dim if isinstance(dim, (tuple, list)) else (dim,))) != [2, 3]:
            raise CannotConvert(f"{name!r} takes the mean over other axes than the last two.")
        return Windows(False, shape[1:], shape[1:], factor=Fraction(1, prod(shape[1:])), is_flat=len(shape_of(node)) == 1)
    if function.startswith("adaptive"):
        kernel = _divided(name, shape[1:], shape_of(node)[1:])
        return Windows("max" in function, kernel, kernel, factor=Fraction(1, prod(kernel)))
    kernel = _pair(given["kernel_size"])
    stride = kernel if given.get("stride") in (None, []) else _pair(given["stride"])
    padding, dilation = _pair(given.get("padding", 0)), _pair(given.get("dilation", 1))
    ceil_mode = bool(given.get("ceil_mode", False))
    if "max" in function:
        return Windows(True, kernel, stride, padding, dilation, ceil_mode)
    if any(padding) and not given.get("count_include_pad", True):
        raise CannotConvert(f"{name!r} divides by the places inside (count_include_pad=False), which are fewer at the edge.")
    if ceil_mode and any((n + 2 * p - k) % s for n, p, k, s in zip(shape[1:], padding, kernel, stride)):
        raise CannotConvert(f"{name!r} averages over windows that reach beyond the edge (ceil_mode=True).")
    divisor = given.get("divisor_override") or prod(kernel)
    if divisor < 0:
        raise CannotConvert(
            f"{name!r} divides by divisor_override={divisor}, which must be greater than 0: levels would fall."
        )
    return Windows(False, kernel, stride, padding, factor=Fraction(1, divisor))


def read(state: State, name: str, node: fx.Node, module: nn.Module | None, kind: Any, wires: list[Wire]) -> Wire | None:
    """What windows give; None for what has none."""
    if len(wires) != 1:
        return None
    (wire,) = wires
    found = windows(name, node, module, kind, wire.shape)
    if found is None:
        return None
    if found.most:
        pool = MaxPool(
            name=name,
            inputs=(wire.step,),
            kernel=found.kernel,
            stride=found.stride,
            padding=found.padding,
            dilation=found.dilation,
            ceil_mode=found.ceil_mode,
        )
        if wire.normed is not None or wire.later or wire.is_padded_differently:
            return wire.with_(later=(*wire.later, pool))
        step = state.add(pool)
        return wire.with_(step=step, shape=state.extents[step].shape)
    pooled = _averaged(state, name, wire, found)
    if not found.is_flat:
        return pooled
    return pooled.flat(state.add(Flatten(name=f"{name}:flat", inputs=(pooled.step,))), pooled.shape[0])


def _averaged(state: State, name: str, wire: Wire, given: Windows) -> Wire:
    if wire.later:
        raise CannotConvert(
            f"{name!r} takes the maxima {wire.later[-1].name!r} of floats; a quantiser must come in between.", BETWEEN
        )
    if wire.is_padded_differently:
        raise CannotConvert(f"{name!r} averages sums that depend on the padding; a quantiser must come in between.", BETWEEN)
    if any(given.padding) and (wire.normed is not None or (wire.offset != 0).any()):
        raise CannotConvert(f"{name!r} pads with zeros what is 0 for no integer; a quantiser must come in between.", BETWEEN)
    whole = given.factor * prod(given.kernel)
    if wire.normed is not None and whole != 1:
        raise CannotConvert(f"{name!r} multiplies what {wire.normed!r} has normalised by a factor (divisor_override).")
    pool = SumPool(name=name, inputs=(wire.step,), kernel=given.kernel, stride=given.stride, padding=given.padding)
    step = state.add(pool)
    shape = state.extents[step].shape
    return wire.with_(step=step, shape=shape, scale=wire.scale * given.factor, offset=wire.offset * whole)


def _divided(name: str, before: tuple[int, ...], after: tuple[int, ...]) -> tuple[int, int]:
    if any(n % m for n, m in zip(before, after)):
        raise CannotConvert(
            f"{name!r} takes {before} to {after}, which does not divide it: its windows are of several sizes."
        )
    return tuple(n // m for n, m in zip(before, after))


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)
