"""Forward and backward of the stochastic quantiser, as pure functions of flat tensors, and how they are run.

A kernel is a plain function, element by element: it keeps nothing, moves nothing between devices and waits for none.
`torch.compile` fuses it into one pass over memory; the same function runs as it stands on tensors too small to pay for
that, on tensors of a transformation (`torch.func`), inside a program that is being compiled already, and where no
compiler is found. All formulas come from `anabook.laws`, where they stand once; a density of the reader's own brings its
functions along (`_densities.TorchDensity`).

What changes while noise is annealed comes in as one tensor of constants, so that annealing never compiles again. What
is fixed is a `Layout`: which constants there are, and how the thresholds near a number are found (`layouts`).
"""

from __future__ import annotations

import contextlib
import functools
import math
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from anabook import laws
from anabook.laws import FAMILIES
from anabook.training._modes import forward_mode, transforming
from anabook.training._ops import TORCH_OPS, as_type
from anabook.training.layouts import GRID, MOST_SELECTS, Grid, Kind, Layout, Loop, Table, layout_of

if TYPE_CHECKING:
    from anabook.training._densities import TorchDensity

__all__ = [
    "DRAWING",
    "STRATEGIES",
    "Grid",
    "Kind",
    "Law",
    "Layout",
    "Loop",
    "Table",
    "compiling",
    "drawn",
    "expected",
    "layout_of",
    "quantised",
    "random",
    "run",
    "shifted",
    "slope",
    "uniforms",
]

STRATEGIES = ("expectation", "mode", "random")
DRAWING = ("drawn",)  # passes that take keys for random numbers


class Law(NamedTuple):
    """The noise of one call: a family's name, its mean α and its standard deviation β > 0 (floats or 0-d tensors)."""

    family: str
    mean: float | Tensor
    std: float | Tensor


_MOST_TERMS = 32  # in an unrolled sum: compiling takes longer the more there are
_PART = 2**18  # numbers at a time in a longer sum that is not compiled


# The quantiser ------------------------------------------------------------------------------------------------------


def shifted(x: Tensor, levels: Tensor, thresholds: Tensor, mean: float | Tensor) -> Tensor:
    """σ(x − α): the quantiser under the Dirac noise at α. NaN stays NaN."""
    v = x - mean
    if thresholds.shape[0] > MOST_SELECTS:
        value = levels[torch.searchsorted(thresholds, v, right=True)]
    else:
        value, *others = levels.unbind()
        for level, threshold in zip(others, thresholds.unbind()):
            value = torch.where(v >= threshold, level, value)
    return torch.where(_is_number(x), value, x)


def _is_number(x: Tensor) -> Tensor:
    """Where x is not NaN, by one comparison with a plain number.

    `isnan` has no vector instruction; and the mask `x != x` is what torch.compile would rather keep for the backward
    pass than compute again, in a pass over memory of its own.
    """
    return x >= -math.inf


def _on_grid(k: Tensor, offset: Tensor, g: dict[str, Tensor]) -> Tensor:
    """(k + offset)·ε to the last bit: the product with ε's leading digits is exact, the rest is one rounding."""
    z = k + offset
    return z * g["high"] + z * g["low"]


def _grid_shifted(v: Tensor, g: dict[str, Tensor]) -> Tensor:
    """σ(v) on a grid: the bin by division, then right whatever the roundings, by comparing with the bin's ends."""
    k = torch.minimum(torch.clamp(torch.floor(v * g["per_quantum"] - g["b"]), min=0.0), g["last"])
    k = torch.where(v >= _on_grid(k + 1, g["b"], g), k + 1, torch.where(v < _on_grid(k, g["b"], g), k - 1, k))
    value = _on_grid(torch.minimum(torch.clamp(k, min=0.0), g["last"]), g["a"], g)
    value = torch.where(v >= g["top"], g["highest"], value)
    return torch.where(v < g["bottom"], g["lowest"], value)


def _grid(c: Tensor) -> dict[str, Tensor]:
    return dict(zip(GRID, c.unbind()))


def _levels_and_thresholds(c: Tensor, layout: Loop | Table) -> tuple[Tensor, Tensor]:
    n = layout.n_thresholds
    return c[2 : n + 3], c[n + 3 :]


def quantised(x: Tensor, c: Tensor, layout: Layout) -> Tensor:
    """σ(x − α): without noise, and with the mode's thresholds the strategy "mode"."""
    wide = as_type(x, c.dtype)
    if isinstance(layout, Grid):
        return as_type(_grid_shifted(wide - c[0], _grid(c)), x.dtype)
    return as_type(shifted(wide, *_levels_and_thresholds(c, layout), c[0]), x.dtype)


# Expectation and derivative -----------------------------------------------------------------------------------------


def _summed(v: Tensor, c: Tensor, layout: Layout, term: Callable[[Tensor, Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """σ(v), and the sum of `term`(v, θ_k, Δ_k) over the thresholds that count at v."""
    if isinstance(layout, Grid):
        g = _grid(c)
        first = _window(v, g)
        # Thresholds before the window lie below v, those after it above.
        below, total = first - 1, torch.zeros_like(v)
        for w, k in _numbered(v, layout.window, first):
            threshold = _on_grid(k, g["b"], g)
            below = below + _over(w, v, torch.where(w >= threshold, 1.0, 0.0))
            total = total + _over(w, v, term(w, threshold, g["quantum"]))
        return _on_grid(below, g["a"], g), total
    levels, thresholds = _levels_and_thresholds(c, layout)
    steps = torch.diff(levels)
    total = torch.zeros_like(v)
    if isinstance(layout, Loop) and layout.n_thresholds <= _MOST_TERMS:
        for threshold, step in zip(thresholds.unbind(), steps.unbind()):
            total = total + term(v, threshold, step)
    else:
        first, window = _found(v, thresholds, layout)
        for w, k in _numbered(v, window, first):
            total = total + _over(w, v, term(w, thresholds[k], steps[k]))
    return shifted(v, levels, thresholds, 0.0), total


def _numbered(v: Tensor, count: int, first: Tensor | int) -> Iterator[tuple[Tensor, Tensor | int]]:
    """The numbers first, …, first + count − 1: one after the other where they are few; else along a last axis of v's.

    A compiler turns the axis into an inner loop, whatever its length. Otherwise it comes in parts, which bounds the memory.
    """
    if count <= _MOST_TERMS:
        yield from ((v, first + i) for i in range(count))
        return
    size = count if torch.compiler.is_compiling() else max(1, _PART // max(1, v.numel()))
    first = first.unsqueeze(-1) if isinstance(first, Tensor) else first
    for start in range(0, count, size):
        yield v.unsqueeze(-1), first + torch.arange(start, min(start + size, count), device=v.device)


def _over(w: Tensor, v: Tensor, values: Tensor) -> Tensor:
    return values if w is v else values.sum(-1)


def _window(v: Tensor, g: dict[str, Tensor]) -> Tensor:
    """The number of the first threshold within reach of v on a grid, counting from 1."""
    first = torch.floor(v * g["per_quantum"] - g["b"] + g["shift"])
    return torch.minimum(torch.clamp(first, min=1.0), g["last_start"])


def _found(v: Tensor, thresholds: Tensor, layout: Loop | Table) -> tuple[Tensor | int, int]:
    """The index of the first threshold that may be within reach of v, and how many there are from it on."""
    if isinstance(layout, Loop):
        return 0, layout.n_thresholds
    below = torch.searchsorted(thresholds, v, right=True)
    return torch.clamp(below - layout.window, 0, layout.n_thresholds - 2 * layout.window), 2 * layout.window


def _named(law: Kind) -> laws.Law | TorchDensity:
    return FAMILIES[law] if isinstance(law, str) else law


def expected(x: Tensor, c: Tensor, layout: Layout, law: Kind) -> Tensor:
    """E[σ(x − ν)] = q_0 + Σ_k Δ_k F0((x − θ_k − α)/β), as σ(x − α) plus tails (paper, eq. (3)).

    The tails vanish where the noise does not reach a threshold, so the levels come out exactly there.
    """
    wide = as_type(x, c.dtype)
    std = c[1]

    def term(v: Tensor, threshold: Tensor, step: Tensor) -> Tensor:
        above = v >= threshold
        tail = _named(law).beyond((v - threshold) / std, above, TORCH_OPS)
        return step * torch.where(above, -tail, tail)

    value, total = _summed(wide - c[0], c, layout, term)
    return as_type(torch.where(_is_number(wide), value + total, wide), x.dtype)


def slope(grad: Tensor, x: Tensor, c: Tensor, layout: Layout, law: Kind) -> Tensor:
    """`grad` times d/dx E[σ(x − ν)] = Σ_k (Δ_k/β) f0((x − θ_k − α)/β): the backward pass of every strategy."""
    wide = as_type(x, c.dtype)
    std = c[1]

    def term(v: Tensor, threshold: Tensor, step: Tensor) -> Tensor:
        return step * _named(law).pdf((v - threshold) / std, TORCH_OPS)

    total = _summed(wide - c[0], c, layout, term)[1]
    return as_type(torch.where(_is_number(wide), total / std, wide) * as_type(grad, c.dtype), x.dtype)


# Random -------------------------------------------------------------------------------------------------------------


def random(x: Tensor, levels: Tensor, thresholds: Tensor, law: Law, u: Tensor) -> Tensor:
    """σ(x − ν) for the draw ν = α + β·Q0(u), with one u in [0, 1) per element."""
    return torch.where(_is_number(x), shifted(_noisy(x, law, u), levels, thresholds, 0.0), x)


def _noisy(x: Tensor, law: Law, u: Tensor) -> Tensor:
    # u = 0 stands for half the smallest positive draw: the quantile is −∞ at 0 itself.
    u = torch.clamp(u, min=torch.finfo(u.dtype).eps / 4)
    return x - (law.mean + law.std * FAMILIES[law.family].icdf(u, TORCH_OPS))


def drawn(x: Tensor, c: Tensor, keys: Tensor, layout: Layout, law: Kind) -> Tensor:
    """σ(x − ν) with independent draws, which the keys fix."""
    wide = as_type(x, c.dtype)
    u = uniforms(x.numel(), keys, c.dtype).view(x.shape)
    if not isinstance(law, str):
        return as_type(torch.where(_is_number(wide), _compared(wide - c[0], c, layout, law, u), wide), x.dtype)
    law = Law(law, c[0], c[1])
    if isinstance(layout, Grid):
        value = _grid_shifted(_noisy(wide, law, u), _grid(c))
        return as_type(torch.where(_is_number(wide), value, wide), x.dtype)
    return as_type(random(wide, *_levels_and_thresholds(c, layout), law, u), x.dtype)


def _compared(v: Tensor, c: Tensor, layout: Layout, law: laws.Law | TorchDensity, u: Tensor) -> Tensor:
    """σ(v − ν) without a quantile: the draw ν = β·Q0(u) lies below v − θ where u < F0((v − θ)/β)."""

    def below(w: Tensor, threshold: Tensor) -> Tensor:
        above, draw = w >= threshold, u if w is v else u.unsqueeze(-1)
        tail = law.beyond((w - threshold) / c[1], above, TORCH_OPS)
        return torch.where(above, 1 - draw > tail, draw < tail)

    if isinstance(layout, Grid):
        g = _grid(c)
        first = _window(v, g)
        passed = first - 1
        for w, k in _numbered(v, layout.window, first):
            passed = passed + _over(w, v, torch.where(below(w, _on_grid(k, g["b"], g)), 1.0, 0.0))
        return _on_grid(passed, g["a"], g)
    levels, thresholds = _levels_and_thresholds(c, layout)
    if isinstance(layout, Loop) and layout.n_thresholds <= _MOST_TERMS:
        value, *others = levels.unbind()
        value = value.expand(v.shape)
        for level, threshold in zip(others, thresholds.unbind()):
            value = torch.where(below(v, threshold), level, value)
        return value
    first, window = _found(v, thresholds, layout)
    passed = torch.zeros_like(v, dtype=torch.int64) + first
    for w, k in _numbered(v, window, first):
        passed = passed + _over(w, v, below(w, thresholds[k]).long())
    return levels[passed]


def uniforms(n: int, keys: Tensor, dtype: torch.dtype) -> Tensor:
    """n numbers in [0, 1), independent for all purposes here: a hash of the element's number and of the keys.

    The same on every device and however they are computed, eagerly or fused, and far cheaper than a generator that has
    to go through its states one by one. Multiples of 2⁻²⁴ in float32, of 2⁻⁵³ in float64.

    Args:
        n: how many.
        keys: three int32, from a generator of random numbers; new ones for every call.
        dtype: float32 or float64.
    """
    if n < 2**31:
        number = torch.arange(n, dtype=torch.int32, device=keys.device)
    else:
        number = torch.arange(n, dtype=torch.int64, device=keys.device)
        number = (number ^ (number >> 31) * 0x2545F491) % 2**32 - 2**31
        number = number.to(torch.int32)
    word = _scrambled(_scrambled(number + keys[0]) ^ keys[1])
    if dtype == torch.float32:
        return _shifted_right(word, 8).to(dtype) * 2.0**-24
    second = _scrambled(word + keys[2])
    return _shifted_right(word, 5).to(dtype) * 2.0**-27 + _shifted_right(second, 6).to(dtype) * 2.0**-53


def _scrambled(h: Tensor) -> Tensor:
    """A bijection of 32-bit numbers in which every bit depends on every other: C. Wellons' "lowbias32" of 2018."""
    h = (h ^ _shifted_right(h, 16)) * 0x21F0AAAD
    h = (h ^ _shifted_right(h, 15)) * (0xD35A2D97 - 2**32)
    return h ^ _shifted_right(h, 15)


def _shifted_right(h: Tensor, bits: int) -> Tensor:
    # int32 shifts its sign in; the mask takes it out again.
    return (h >> bits) & ((1 << (32 - bits)) - 1)


# Running ------------------------------------------------------------------------------------------------------------

_KERNELS: dict[str, Callable[..., Tensor]] = {
    "quantised": quantised,
    "expected": expected,
    "drawn": drawn,
    "slope": slope,
}

compile_from: int | None = 2**18
"""Tensors of at least this many elements go through compiled kernels; None compiles nothing.

A compiled pass is faster from 2¹² elements on, and ten times as fast from 2¹⁵. But the first call takes seconds, which
short trainings of small networks do not get back: lower it for long ones, as `anabook.experiments` does.

It depends on nothing but the size, so a seed gives the same numbers whatever ran before.
"""

_broken = False
_shaped = torch.ops.aten._unsafe_view.default  # `view` without its mark


@contextlib.contextmanager
def compiling(size: int | None) -> Iterator[None]:
    """Within it, `compile_from` is `size`."""
    global compile_from
    previous, compile_from = compile_from, size
    try:
        yield
    finally:
        compile_from = previous


def run(name: str, x: Tensor, *others: Any, static: tuple) -> Tensor:
    """One kernel on x (and on `others`, those of x's shape first), compiled if that pays.

    Args:
        name: a key of `_KERNELS`.
        x: a tensor of any shape; for "slope" the gradient.
        others: tensors.
        static: what the kernel is compiled for.
    """
    kernel = _KERNELS[name]
    ordinary = all(type(t) in (Tensor, torch.nn.Parameter) for t in (x, *others))
    # What watches or transforms a call is to see the kernel itself: no compiler works under it.
    if not ordinary or torch.compiler.is_compiling() or transforming() or forward_mode():
        return kernel(x, *others, *static)
    if not _pays(x):
        # Not a view: what comes out of a function of autograd's own as a view cannot be changed in place.
        return _shaped(kernel(*(t.reshape(-1) if t.shape == x.shape else t for t in (x, *others)), *static), x.shape)
    # Draws are numbered in the order of the elements, not in that of memory.
    order = range(x.dim()) if name in DRAWING else _memory_order(others[0] if name == "slope" else x)
    # Detached, because programs are kept apart by whether their inputs are to be differentiated.
    tensors = [(t.permute(*order).reshape(-1) if t.shape == x.shape else t).detach() for t in (x, *others)]
    flat = _run_compiled(name, tensors, static)
    if order == range(x.dim()):
        return _shaped(flat, x.shape)
    inverse = sorted(range(len(order)), key=order.__getitem__)
    permuted = flat.view([x.shape[d] for d in order]).permute(inverse)
    return flat.new_empty(0).set_(flat.untyped_storage(), 0, permuted.shape, permuted.stride())


def _pays(x: Tensor) -> bool:
    """Whether to compile for a tensor."""
    if compile_from is None or _broken or x.dim() == 0 or x.numel() < compile_from:
        return False
    return x.device.type in ("cpu", "cuda")


def _run_compiled(name: str, tensors: list[Tensor], static: tuple) -> Tensor:
    global _broken
    try:
        # Programs are kept apart by these two settings; none of the kernels depends on them.
        with torch.no_grad(), torch.autocast(tensors[0].device.type, enabled=False):
            return _compiled(name, type(static[0]), static)(*tensors)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        out = _KERNELS[name](*tensors, *static)  # what is wrong with the arguments shows here
        _broken = True
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        warnings.warn(
            f"torch.compile failed, so anabook's kernels run uncompiled, several times slower: {reason}",
            RuntimeWarning,
            stacklevel=2,
        )
        return out


def _memory_order(x: Tensor) -> Sequence[int]:
    """The dimensions from the slowest to the fastest, if x fills its memory without gaps."""
    if not x.is_contiguous():
        order = sorted(range(x.dim()), key=lambda d: -x.stride(d))
        if x.permute(order).is_contiguous():
            return order
    return range(x.dim())


@functools.cache
def _compiled(name: str, layout: type, static: tuple) -> Callable[..., Tensor]:
    # `layout` is static's, and keeps apart what compares equal: Loop(2) and Grid(2) are the same tuple.
    kernel = _KERNELS[name]

    def fused(*tensors: Tensor) -> Tensor:
        return kernel(*tensors, *static)

    # torch.compile keeps its programs, and bounds their number, by code object: each kernel gets one of its own.
    label = "_".join([name, *(str(part).lower() for part in static)])
    own = types.FunctionType(fused.__code__.replace(co_name=label), globals(), label, None, fused.__closure__)
    return torch.compile(own, dynamic=True, fullgraph=True)
