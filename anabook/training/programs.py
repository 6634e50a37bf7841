"""Kernels as compiled programs, which are called with nothing around them.

`torch.compile` puts guards, a search among programs and the dispatch of gradients in front of each call: 15 µs and more
where the program itself needs one. None of it is needed here: a kernel has no gradient of its own and changes nothing,
and what it depends on is the key that its program is kept under. So it is traced once, on a tensor whose length is left
open, and lowered by inductor, the compiler behind `torch.compile`.
"""

from __future__ import annotations

import math
import operator
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from anabook.training._modes import undisturbed
from anabook.training._ops import fusing

__all__ = ["program"]

_ALIGNED = 16  # bytes that GPUs load at a time: a tensor that starts between two such places is copied


class _Size(NamedTuple):
    """A class of lengths that share a program: up to `end`, compiled for `example`, on one thread or on all.

    Starting a second thread costs more than a short tensor takes, and elements are numbered by 32 bits as long as that does.
    """

    end: float
    example: int
    parallel: bool


_SIZES = (_Size(2**15, 2**12, False), _Size(2**31, 2**20, True), _Size(math.inf, 2**32, True))

_programs: dict[tuple, Callable[[list[Tensor]], Any]] = {}
_building = threading.RLock()


def program(name: str, kernel: Callable[..., Tensor], flat: int, tensors: list[Tensor], static: tuple) -> Callable:
    """The program for these tensors, made where there is none: a function of a list of them.

    Args:
        name, kernel: the kernel, a function of the tensors and of `static`.
        flat: how many of the tensors, from the first on, are flat and as long as the first; at least 2 elements each.
            The others have a shape that follows from `static`.
        tensors: contiguous, on one device.
        static: what the kernel is compiled for.
    """
    length, device = tensors[0].numel(), tensors[0].device
    size = _SIZES[0] if length < _SIZES[0].end else _SIZES[1] if length < _SIZES[1].end else _SIZES[2]
    threads = torch.get_num_threads() if size.parallel and device.type == "cpu" else 1
    # `static` starts with a layout, whose type keeps apart what compares equal: Loop(2) and Grid(2) are the same tuple.
    key = name, type(static[0]), static, *[t.dtype for t in tensors], device, size.example, threads
    made = _programs.get(key)
    if made is None:
        with _building:
            if key not in _programs:
                _programs[key] = undisturbed(lambda: _built(kernel, flat, tensors, static, size, threads))
        made = _programs[key]
    return made


def _built(kernel: Callable, flat: int, tensors: list[Tensor], static: tuple, size: _Size, threads: int) -> Callable:
    from torch._guards import TracingContext, tracing
    from torch._inductor import config
    from torch._inductor.compile_fx import compile_fx_inner
    from torch._inductor.decomposition import select_decomp_table
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    mode = FakeTensorMode(shape_env=ShapeEnv())
    device = tensors[0].device
    with torch.no_grad(), torch.autocast(device.type, enabled=False), mode:
        length = _open_length(mode.shape_env, size.example)
        fakes = [
            torch.empty((length,) if i < flat else t.shape, dtype=t.dtype, device=t.device) for i, t in enumerate(tensors)
        ]
        with fusing():
            traced = make_fx(lambda _, *ts: _as_tuple(kernel(*ts, *static)), decomposition_table=select_decomp_table())
            graph = traced(length, *fakes)  # inductor knows an open length by its own argument only
    graph.graph.eliminate_dead_code()
    graph.recompile()
    _check_open(mode.shape_env, size)
    with config.patch({"size_asserts": False, "cpp.threads": threads}), tracing(TracingContext(mode)):
        made = compile_fx_inner(graph, [length, *fakes])
    results = next(iter(graph.graph.find_nodes(op="output"))).args[0]
    given_back = operator.itemgetter(0) if len(results) == 1 else tuple
    if device.type == "cpu":
        return lambda given: given_back(made([given[0].numel(), *given]))
    return lambda given: given_back(
        made([given[0].numel(), *(t if t.data_ptr() % _ALIGNED == 0 else t.clone() for t in given)])
    )


def _as_tuple(out: Any) -> tuple:
    return out if isinstance(out, tuple) else (out,)


def _open_length(env: Any, example: int) -> torch.SymInt:
    from torch._dynamo.source import ConstantSource
    from torch.fx.experimental.symbolic_shapes import DimDynamic

    source = ConstantSource("length")
    symbol = env.create_symbol(example, source=source, dynamic_dim=DimDynamic.DYNAMIC)
    return env.create_symintnode(symbol, hint=example, source=source)


def _check_open(env: Any, size: _Size) -> None:
    """Refuse a program that was traced for some lengths of its class only.

    Raises:
        RuntimeError: a kernel took a path that depends on the length.
    """
    last = int(min(size.end, 2**40)) - 1
    for guard in env.guards:
        for length in (max(2, size.example // 2 - 1), size.example + 7, last):
            if not guard.expr.subs(dict.fromkeys(guard.expr.free_symbols, length)):
                raise RuntimeError(f"the kernel is compiled for lengths with {guard.expr} only.")
