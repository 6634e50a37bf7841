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
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor

from anabook import laws
from anabook._validate import integer
from anabook.laws import FAMILIES
from anabook.training import wide as wide_noise
from anabook.training._modes import forward_mode, transforming
from anabook.training._ops import TORCH_OPS, as_type, is_fused, on_grid
from anabook.training.draws import uniforms
from anabook.training.layouts import GRID, MOST_SELECTS, Grid, Kind, Layout, Loop, Table, Wide, layout_of
from anabook.training.programs import program

if TYPE_CHECKING:
    from anabook.training._densities import TorchDensity

__all__ = [
    "DRAWING",
    "STRATEGIES",
    "Grid",
    "Kind",
    "Layout",
    "Loop",
    "Table",
    "Wide",
    "compiling",
    "drawn",
    "expected",
    "layout_of",
    "quantised",
    "drawn_with",
    "run",
    "run_plainly",
    "slope",
    "uniforms",
]

STRATEGIES = ("expectation", "mode", "random")
DRAWING = ("drawn",)  # passes that take keys for random numbers


_MOST_TERMS = 32  # in an unrolled sum: compiling takes longer the more there are
_PART = 2**18  # numbers at a time in a longer sum that is not compiled
_MOST_STACKED = 2**13  # terms that are computed as one tensor: a call for each of them costs more than they do
_NAN_FOR_NAN = ("triangular", "normal", "logistic")  # whose densities are
_STACKED = ("uniform", "triangular", "normal")  # not the logistic law: torch's sigmoid depends on a number's place


# The quantiser ------------------------------------------------------------------------------------------------------


class Parts(NamedTuple):
    """The constants of a call by their names: tensors of one number each, but for those that are said to be more.

    Attributes:
        dtype: the type to compute in.
        mean, std: α and β; the mean is None where it is known to be 0.
        grid: those of a `Grid`, else empty.
        each_level, each_threshold, each_step: those of the other layouts; empty for a `Grid`.
        levels, thresholds, steps: the same, a tensor each.
        more: what a `Wide` has beside the grid's.
        is_known: whether they were taken apart before the call.
    """

    dtype: torch.dtype
    mean: Tensor | None
    std: Tensor
    grid: dict[str, Tensor]
    each_level: tuple[Tensor, ...] = ()
    each_threshold: tuple[Tensor, ...] = ()
    each_step: tuple[Tensor, ...] = ()
    levels: Tensor | None = None
    thresholds: Tensor | None = None
    steps: Tensor | None = None
    more: Tensor | None = None
    is_known: bool = False


Constants = Tensor | Parts


def taken_apart(c: Constants, layout: Layout, ahead: bool = False, centred: bool = False) -> Parts:
    """The constants by their names, unless they are so already.

    Args:
        c: all in one tensor.
        layout: which they are.
        ahead: for calls to come, and not as a part of one.
        centred: whether the mean is known to be 0.
    """
    if isinstance(c, Parts):
        return c
    if isinstance(layout, (Grid, Wide)):
        grid = dict(zip(GRID, c[: len(GRID)].unbind()))
        return Parts(c.dtype, None if centred else grid["mean"], grid["std"], grid, more=c[len(GRID) :], is_known=ahead)
    n = layout.n_thresholds
    levels, thresholds = c[2 : n + 3], c[n + 3 :]
    steps = torch.diff(levels)
    few = n <= _MOST_TERMS
    each = (t.unbind() if few else () for t in (levels, thresholds, steps))
    return Parts(c.dtype, None if centred else c[0], c[1], {}, *each, levels, thresholds, steps, is_known=ahead)


def _centred(x: Tensor, p: Parts) -> Tensor:
    return x if p.mean is None else x - p.mean


def _or_nan(x: Tensor, value: Tensor) -> Tensor:
    """The value, or NaN where x is that, told by one comparison with a plain number.

    `isnan` has no vector instruction; and a mask `x != x` is what torch.compile would rather keep for the backward pass
    than compute again, in a pass over memory of its own.
    """
    return torch.where(x >= -math.inf, value, x)


def _stair(v: Tensor, p: Parts) -> Tensor:
    """σ(v), the highest level for NaN."""
    if p.thresholds.shape[0] > MOST_SELECTS:
        return p.levels[torch.searchsorted(p.thresholds, v, right=True)]
    value, *others = p.each_level
    if not others:
        return value.expand(v.shape)
    for level, threshold in zip(others, p.each_threshold):
        value = torch.where(v >= threshold, level, value)
    return value


def _grid_shifted(v: Tensor, g: dict[str, Tensor]) -> Tensor:
    """σ(v) on a grid: the bin by division, then right whatever the roundings, by comparing with the bin's ends."""
    k = torch.minimum(torch.clamp(torch.floor(v * g["per_quantum"] - g["b"]), min=0.0), g["last"])
    k = torch.where(v >= on_grid(k + 1, g["b"], g), k + 1, torch.where(v < on_grid(k, g["b"], g), k - 1, k))
    value = on_grid(torch.minimum(torch.clamp(k, min=0.0), g["last"]), g["a"], g)
    value = torch.where(v >= g["top"], g["highest"], value)
    return torch.where(v < g["bottom"], g["lowest"], value)


def quantised(x: Tensor, c: Constants, layout: Layout) -> Tensor:
    """σ(x − α): without noise, and with the mode's thresholds the strategy "mode"."""
    p = taken_apart(c, layout)
    wide = as_type(x, p.dtype)
    v = _centred(wide, p)
    value = _grid_shifted(v, p.grid) if p.grid else _or_nan(wide, _stair(v, p))
    return as_type(value, x.dtype)


# Expectation and derivative -----------------------------------------------------------------------------------------


def _summed(v: Tensor, p: Parts, layout: Layout, law: Kind, term: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    """The sum of `term`(v, θ_k, Δ_k) over the thresholds that count at v."""
    if isinstance(layout, Grid):
        return _summed_on_grid(v, p.grid, layout, term)[1]
    if isinstance(layout, Loop) and p.each_step:
        if p.is_known and law in _STACKED and v.dim() == 1 and len(p.each_step) * len(v) <= _MOST_STACKED:
            each = term(v, p.thresholds.unsqueeze(1), p.steps.unsqueeze(1)).unbind()
        else:
            each = (term(v, threshold, step) for threshold, step in zip(p.each_threshold, p.each_step))
        return functools.reduce(torch.add, each)
    total = torch.zeros_like(v)
    first, window = _found(v, p.thresholds, layout)
    for w, k in _numbered(v, window, first):
        total = total + _over(w, v, term(w, p.thresholds[k], p.steps[k]))
    return total


def _summed_on_grid(v: Tensor, g: dict[str, Tensor], layout: Grid, term: Callable) -> tuple[Tensor, Tensor]:
    """σ(v), and the sum of `term`(v, θ_k, Δ_k) over the thresholds that count at v."""
    first = _window(v, g)
    # Thresholds before the window lie below v, those after it above.
    below, total = first - 1, torch.zeros_like(v)
    for w, k in _numbered(v, layout.window, first):
        threshold = on_grid(k, g["b"], g)
        below = below + _over(w, v, torch.where(w >= threshold, 1.0, 0.0))
        total = total + _over(w, v, term(w, threshold, g["quantum"]))
    return on_grid(below, g["a"], g), total


def _numbered(v: Tensor, count: int, first: Tensor | int) -> Iterator[tuple[Tensor, Tensor | int]]:
    """The numbers first, …, first + count − 1: one after the other where they are few; else along a last axis of v's.

    A compiler turns the axis into an inner loop, whatever its length. Otherwise it comes in parts, which bounds the memory.
    """
    if count <= _MOST_TERMS:
        yield from ((v, first + i) for i in range(count))
        return
    size = count if is_fused() else max(1, _PART // max(1, v.numel()))
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


def expected(x: Tensor, c: Constants, layout: Layout, law: Kind) -> Tensor:
    """E[σ(x − ν)] = q_0 + Σ_k Δ_k F0((x − θ_k − α)/β), as σ(x − α) plus tails (paper, Proposition 1 (i)).

    The tails vanish where the noise does not reach a threshold, so the levels come out exactly there.
    """
    p = taken_apart(c, layout)
    wide = as_type(x, p.dtype)
    v = _centred(wide, p)

    def term(v: Tensor, threshold: Tensor, step: Tensor) -> Tensor:
        above = v >= threshold
        tail = _named(law).beyond((v - threshold) / p.std, above, TORCH_OPS)
        return step * torch.where(above, -tail, tail)

    if isinstance(layout, Wide):
        value = wide_noise.expected(v, p.grid, p.more, layout.terms, cast(str, law))
    elif isinstance(layout, Grid):
        value = torch.add(*_summed_on_grid(v, p.grid, layout, term))
    else:
        value = _stair(v, p) + _summed(v, p, layout, law, term)
    # A family's tails are NaN for NaN.
    return as_type(value if law in FAMILIES and not isinstance(layout, Wide) else _or_nan(wide, value), x.dtype)


def slope(grad: Tensor, x: Tensor, c: Constants, layout: Layout, law: Kind) -> Tensor:
    """`grad` times d/dx E[σ(x − ν)] = Σ_k (Δ_k/β) f0((x − θ_k − α)/β): the backward pass of every strategy."""
    p = taken_apart(c, layout)
    wide = as_type(x, p.dtype)

    def term(v: Tensor, threshold: Tensor, step: Tensor) -> Tensor:
        return step * _named(law).pdf((v - threshold) / p.std, TORCH_OPS)

    v = _centred(wide, p)
    if isinstance(layout, Wide):
        value = wide_noise.slope(v, p.grid, p.more, layout.terms, cast(str, law))
    else:
        value = _summed(v, p, layout, law, term) / p.std
    if law not in _NAN_FOR_NAN or isinstance(layout, Wide):
        value = _or_nan(wide, value)
    return as_type(value * as_type(grad, p.dtype), x.dtype)


# Random -------------------------------------------------------------------------------------------------------------


def drawn(x: Tensor, c: Constants, keys: Tensor, layout: Layout, law: Kind) -> Tensor:
    """σ(x − ν) with independent draws, which the keys fix."""
    p = taken_apart(c, layout)
    return drawn_with(x, p, uniforms(x.numel(), keys, p.dtype).view(x.shape), layout, law)


def drawn_with(x: Tensor, c: Constants, u: Tensor, layout: Layout, law: Kind) -> Tensor:
    """σ(x − ν) for the draws ν = α + β·Q0(u), with one u in [0, 1) per element."""
    p = taken_apart(c, layout)
    wide = as_type(x, p.dtype)
    if not isinstance(law, str):
        return as_type(_or_nan(wide, _compared(_centred(wide, p), p, layout, law, u)), x.dtype)
    # u = 0 stands for half the smallest positive draw: the quantile is −∞ at 0 itself.
    u = torch.clamp(u, min=torch.finfo(u.dtype).eps / 4)
    noise = p.std * FAMILIES[law].icdf(u, TORCH_OPS)
    v = wide - (noise if p.mean is None else p.mean + noise)
    value = _grid_shifted(v, p.grid) if p.grid else _stair(v, p)
    return as_type(_or_nan(wide, value), x.dtype)


def _compared(v: Tensor, p: Parts, layout: Layout, law: laws.Law | TorchDensity, u: Tensor) -> Tensor:
    """σ(v − ν) without a quantile: the draw ν = β·Q0(u) lies below v − θ where u < F0((v − θ)/β)."""

    def below(w: Tensor, threshold: Tensor) -> Tensor:
        above, draw = w >= threshold, u if w is v else u.unsqueeze(-1)
        tail = law.beyond((w - threshold) / p.std, above, TORCH_OPS)
        return torch.where(above, 1 - draw > tail, draw < tail)

    if isinstance(layout, Grid):
        first = _window(v, p.grid)
        passed = first - 1
        for w, k in _numbered(v, layout.window, first):
            passed = passed + _over(w, v, torch.where(below(w, on_grid(k, p.grid["b"], p.grid)), 1.0, 0.0))
        return on_grid(passed, p.grid["a"], p.grid)
    if isinstance(layout, Loop) and p.each_step:
        value, *others = p.each_level
        value = value.expand(v.shape)
        for level, threshold in zip(others, p.each_threshold):
            value = torch.where(below(v, threshold), level, value)
        return value
    first, window = _found(v, p.thresholds, layout)
    passed = torch.zeros_like(v, dtype=torch.int64) + first
    for w, k in _numbered(v, window, first):
        passed = passed + _over(w, v, below(w, p.thresholds[k]).long())
    return p.levels[passed]


# Running ------------------------------------------------------------------------------------------------------------

_KERNELS: dict[str, Callable[..., Tensor]] = {
    "quantised": quantised,
    "expected": expected,
    "drawn": drawn,
    "slope": slope,
}
_LIKE = {"slope": 2}  # how many of a kernel's tensors, from the first on, have x's shape, where it is not one


def kernel_of(name: str) -> Callable[..., Any]:
    """The kernel of this name."""
    return _KERNELS[name]


def register(name: str, kernel: Callable[..., Any], like: int) -> None:
    """Let a kernel be run by its name, one that is made of those here.

    Args:
        name: what it is called.
        kernel: gives a tensor, or a tuple of flat ones and sums.
        like: how many of its tensors, from the first on, have one shape, x the last of them; the constants come next.
    """
    _KERNELS[name], _LIKE[name] = kernel, like


compile_from: int | None = 2**18
"""Tensors of at least this many elements go through compiled kernels; None compiles nothing.

A compiled pass is faster at any size, two to five times on 64 numbers (`benchmarks/RESULTS.md`). But the first call takes
seconds, which short trainings of small networks do not get back: lower it for long ones, as `anabook.experiments` does.

It depends on nothing but the size, so a seed gives the same numbers whatever ran before.
"""

_broken = False
_shaped = torch.ops.aten._unsafe_view.default  # `view` without its mark


@contextlib.contextmanager
def compiling(size: int | None) -> Iterator[None]:
    """Within it, tensors of at least `size` elements go through compiled kernels.

    Elsewhere those of at least `compile_from` do, 2¹⁸ unless you set it. A compiled call is faster at any size, but the
    first one of each kind takes seconds, which short trainings of small networks do not get back: lower it for long ones.

    Args:
        size: a number of elements; 1 compiles for all tensors of two elements or more, None for none.

    Raises:
        TypeError, ValueError: a size that is no positive integer.

    Example:
        >>> from anabook import Quantiser
        >>> from anabook.training import Quantise, kernels
        >>> quantise = Quantise(Quantiser.ternary())
        >>> with kernels.compiling(None):  # or kernels.compile_from = None, from there on
        ...     print(quantise(torch.tensor([-0.8, 0.3, 1.5])))
        ...
        tensor([-1.,  0.,  1.])
    """
    global compile_from
    previous, compile_from = compile_from, None if size is None else integer(size, "size", minimum=1)
    try:
        yield
    finally:
        compile_from = previous


def run(
    name: str, x: Tensor, *others: Any, static: tuple, parts: Callable[[], tuple] | None = None, drawing: bool = False
) -> Any:
    """One kernel on x (and on `others`, those of x's shape first), compiled if that pays.

    Args:
        name: a key of `_KERNELS`.
        x: a tensor of any shape; for "slope" the gradient.
        others: tensors.
        static: what the kernel is compiled for.
        parts: gives all constants among `others`, taken apart before.
        drawing: whether elements are numbered, as they are for draws.
    """
    # What watches or transforms a call is to see the kernel itself: no compiler works under it.
    if torch.compiler.is_compiling() or transforming() or forward_mode() or not _ordinary(x, others):
        return _KERNELS[name](x, *others, *static)
    return run_plainly(name, x, *others, static=static, parts=parts, drawing=drawing)


def run_plainly(
    name: str, x: Tensor, *others: Any, static: tuple, parts: Callable[[], tuple] | None = None, drawing: bool = False
) -> Any:
    """The same where nothing watches or transforms the call."""
    like = _LIKE.get(name, 1)
    if not _pays(x) or like > 1 and torch._C._functorch.is_legacy_batchedtensor(x):  # gradients of `is_grads_batched`
        if parts is not None:
            apart = parts()
            others = (*others[: like - 1], *apart, *others[like - 1 + len(apart) :])
        if x.dim() == 1:
            return _KERNELS[name](x, *others, *static)
        # Not a view: what comes out of a function of autograd's own as a view cannot be changed in place.
        flat = [t.reshape(-1) if i < like else t for i, t in enumerate((x, *others))]
        return _each(_KERNELS[name](*flat, *static), lambda out: _shaped(out, x.shape))
    if all(t.is_contiguous() for t in (x, *others[: like - 1])):
        if x.dim() == 1:
            return _run_program(name, [x, *others], static)
        flat = [t.view(-1) if i < like else t for i, t in enumerate((x, *others))]
        return _each(_run_program(name, flat, static), lambda out: _shaped(out, x.shape))
    # Draws are numbered in the order of the elements, not in that of memory.
    order = range(x.dim()) if drawing or name in DRAWING else _memory_order((x, *others)[like - 1])
    flat = [t.permute(*order).reshape(-1).contiguous() if i < like else t for i, t in enumerate((x, *others))]
    out = _run_program(name, flat, static)
    if order == range(x.dim()):
        return _each(out, lambda each: _shaped(each, x.shape))
    inverse = sorted(range(len(order)), key=order.__getitem__)

    def back(out: Tensor) -> Tensor:
        permuted = out.view([x.shape[d] for d in order]).permute(inverse)
        return out.new_empty(0).set_(out.untyped_storage(), 0, permuted.shape, permuted.stride())

    return _each(out, back)


def _each(out: Any, shape: Callable[[Tensor], Tensor]) -> Any:
    """What a kernel gives, in a shape; sums have one already."""
    return tuple(shape(t) if t.dim() else t for t in out) if isinstance(out, tuple) else shape(out)


def _ordinary(x: Tensor, others: tuple) -> bool:
    return not any([type(t) is not Tensor and type(t) is not torch.nn.Parameter for t in (x, *others)])  # noqa: C419


def _pays(x: Tensor) -> bool:
    """Whether to compile for a tensor: programs are for two elements or more."""
    if compile_from is None or x.numel() < max(compile_from, 2) or _broken:
        return False
    return x.device.type in ("cpu", "cuda")


def _run_program(name: str, tensors: list[Tensor], static: tuple) -> Any:
    global _broken
    try:
        return program(name, _KERNELS[name], _LIKE.get(name, 1), tensors, static)(tensors)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        out = _KERNELS[name](*tensors, *static)  # what is wrong with the arguments shows here
        _broken = True
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        warnings.warn(
            f"compiling failed, so anabook's kernels run uncompiled, several times slower: {reason}",
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
