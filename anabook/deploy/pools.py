"""Windows, read: maxima, and averages as sums whose division waits for the next threshold."""

from __future__ import annotations

from fractions import Fraction
from math import prod
from typing import Any

from torch import fx, nn

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


def read(state: State, name: str, node: fx.Node, module: nn.Module | None, kind: Any, wires: list[Wire]) -> Wire | None:
    """What windows give; None for what has none."""
    function = _MODULES.get(kind, kind)
    function = "max_pool2d" if function == "boolean_dispatch" or function == "_max_pool2d" else function
    if not isinstance(function, str) or function not in _ARGUMENTS or len(wires) != 1:
        return None
    (wire,) = wires
    if module is not None:
        given = {key: getattr(module, key) for key in _ARGUMENTS[function][1:] if hasattr(module, key)}
    else:
        given = {**dict(zip(_ARGUMENTS[function], node.args)), **node.kwargs}
    if given.get("return_indices"):
        raise CannotConvert(f"{name!r} gives indices beside the maxima, which no step does.")
    if len(wire.shape) != 3:
        raise CannotConvert(f"{name!r} takes images of shape (channels, height, width), not {wire.shape}.")
    if function == "mean":
        dim = given.get("dim", ())
        axes = sorted(axis % 4 for axis in (dim if isinstance(dim, (tuple, list)) else (dim,)))
        if axes != [2, 3]:
            raise CannotConvert(f"{name!r} takes the mean over other axes than the last two.")
        pooled = _averaged(state, name, wire, wire.shape[1:], wire.shape[1:], (0, 0), Fraction(1, prod(wire.shape[1:])))
        if shape_of(node) == pooled.shape:
            return pooled
        return pooled.flat(state.add(Flatten(name=f"{name}:flat", inputs=(pooled.step,))), pooled.shape[0])
    if function.startswith("adaptive"):
        kernel = stride = _divided(name, wire.shape[1:], shape_of(node)[1:])
        padding, dilation, ceil_mode = (0, 0), (1, 1), False
    else:
        kernel = _pair(given["kernel_size"])
        stride = kernel if given.get("stride") in (None, []) else _pair(given["stride"])
        padding, dilation = _pair(given.get("padding", 0)), _pair(given.get("dilation", 1))
        ceil_mode = bool(given.get("ceil_mode", False))
    if "max" in function:
        pool = MaxPool(
            name=name,
            inputs=(wire.step,),
            kernel=kernel,
            stride=stride,
            padding=padding,
            dilation=dilation,
            ceil_mode=ceil_mode,
        )
        if wire.normed is not None or wire.later or wire.is_padded_differently:
            return wire.with_(later=(*wire.later, pool))
        step = state.add(pool)
        return wire.with_(step=step, shape=state.extents[step].shape)
    divisor = given.get("divisor_override") or prod(kernel)
    if any(padding) and not given.get("count_include_pad", True):
        raise CannotConvert(
            f"{name!r} divides by the number of places inside (count_include_pad=False), which differs at the edge."
        )
    if ceil_mode and any((n + 2 * p - k) % s for n, p, k, s in zip(wire.shape[1:], padding, kernel, stride)):
        raise CannotConvert(f"{name!r} averages over windows that reach beyond the edge (ceil_mode=True).")
    return _averaged(state, name, wire, kernel, stride, padding, Fraction(1, divisor))


def _averaged(
    state: State,
    name: str,
    wire: Wire,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    factor: Fraction,
) -> Wire:
    if wire.later:
        raise CannotConvert(
            f"{name!r} takes the maxima {wire.later[-1].name!r} of floats; a quantiser must come in between."
        )
    if wire.is_padded_differently:
        raise CannotConvert(
            f"{name!r} averages what has zeros padded to data whose mean is no 0; a quantiser must come in between."
        )
    if any(padding) and (wire.normed is not None or (wire.offset != 0).any()):
        raise CannotConvert(f"{name!r} pads with zeros what is 0 for no integer; a quantiser must come in between.")
    if wire.normed is not None and factor * prod(kernel) != 1:
        raise CannotConvert(f"{name!r} multiplies what {wire.normed!r} has normalised by a factor (divisor_override).")
    step = state.add(SumPool(name=name, inputs=(wire.step,), kernel=kernel, stride=stride, padding=padding))
    return wire.with_(
        step=step, shape=state.extents[step].shape, scale=wire.scale * factor, offset=wire.offset * factor * prod(kernel)
    )


def _divided(name: str, before: tuple[int, ...], after: tuple[int, ...]) -> tuple[int, int]:
    if any(n % m for n, m in zip(before, after)):
        raise CannotConvert(
            f"{name!r} takes {before} to {after}, which does not divide it: its windows are of several sizes."
        )
    return tuple(n // m for n, m in zip(before, after))


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)
