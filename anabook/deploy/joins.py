"""Concatenations of channels, read: each channel keeps what its integers stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import fx, nn

from anabook.deploy.kinds import CONCATENATING, joined
from anabook.deploy.layers import BETWEEN
from anabook.deploy.state import State
from anabook.deploy.steps import Concat
from anabook.deploy.wires import CannotConvert, Wire


def read(state: State, name: str, node: fx.Node, module: nn.Module | None, kind: Any, wires: list[Wire]) -> Wire | None:
    """What a concatenation gives; None for what is none.

    Each channel has the quantum, the bias and the normalisation of the tensor that it comes from. Whoever adds up such channels
    asks whether their quanta are equal; quantisers, pools and depthwise convolutions need not.
    """
    if kind not in CONCATENATING or module is not None:
        return None
    parts = [state.wires[each] for each in joined(node)]
    if not parts:
        source = ", ".join(repr(each.name) for each in node.all_input_nodes)
        raise CannotConvert(f"{name!r} concatenates what {source} gives in one piece; steps take tensors that a list names.")
    _check_axis(name, node, parts[0].shape)
    if len(parts) == 1:
        return parts[0]
    for wire in parts:
        if wire.later:
            raise CannotConvert(
                f"{name!r} takes the maxima {wire.later[-1].name!r} of floats; a quantiser must come in between.", BETWEEN
            )
    step = state.add(Concat(name=name, inputs=tuple(wire.step for wire in parts)))
    shapes = [wire.shape for wire in parts]
    scale, offset, gamma, radicand, shift = (
        _one_after_the_other([getattr(wire, each) for wire in parts], shapes)
        for each in ("scale", "offset", "gamma", "radicand", "shift")
    )
    normed = next((wire.normed for wire in parts if wire.normed is not None), None)
    return Wire(step, state.extents[step].shape, scale, offset, gamma, radicand, shift, normed)


def _check_axis(name: str, node: fx.Node, shape: tuple[int, ...]) -> None:
    given = {**dict(zip(("tensors", "dim"), node.args)), **node.kwargs}
    axis = given.get("dim", given.get("axis", 0))
    if axis not in (1, -len(shape)):
        raise CannotConvert(
            f"{name!r} concatenates along axis {axis}; steps put channels one after the other, along axis 1."
        )


def _one_after_the_other(parts: list[np.ndarray], shapes: list[tuple[int, ...]]) -> np.ndarray:
    """What stands for each channel; one number for all of them where it is the same everywhere."""
    if all(part.size == 1 and part.flat[0] == parts[0].flat[0] for part in parts):
        return parts[0]
    places = np.broadcast_shapes(*(part.shape[1:] for part in parts))
    return np.concatenate([np.broadcast_to(part, (shape[0], *places)) for part, shape in zip(parts, shapes)])
