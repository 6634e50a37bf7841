"""The torch twin of `anabook.namespaces.NUMPY`: the laws' formulas run on tensors with it, unchanged."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import torch
from torch import Tensor

from anabook.namespaces import arrays_namespace

# erfcx(a/√2)/2 = Φ(−a)·exp(a²/2) for a ≥ 0 as a polynomial in w = 1/(1 + 0.36·a), powers 9 to 1: a least-squares fit
# reweighted towards the smallest largest relative error, 6.5e-8.
_MILLS_SCALE = 0.36
_MILLS = (
    -0.029653251604384104,
    0.13643875122798388,
    -0.21686036858885213,
    0.09930569735368731,
    0.005343677990026753,
    0.09357197048173559,
    0.12463379450282767,
    0.14359736465843792,
    0.14362233148348855,
)

# Two polynomials for erf⁻¹(x)/x in single precision: M. Giles, "Approximating the erfinv function", GPU Computing Gems
# Jade Edition (2011), pp. 109-116.
_GILES_CENTRE = (
    2.81022636e-08,
    3.43273939e-07,
    -3.5233877e-06,
    -4.39150654e-06,
    0.00021858087,
    -0.00125372503,
    -0.00417768164,
    0.246640727,
    1.50140941,
)
_GILES_TAIL = (
    -0.000200214257,
    0.000100950558,
    0.00134934322,
    -0.00367342844,
    0.00573950773,
    -0.0076224613,
    0.00943887047,
    1.00167406,
    2.83297682,
)


FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""The float types that a `Quantise` takes."""

_here = threading.local()


@contextlib.contextmanager
def fusing() -> Iterator[None]:
    """Within it, on this thread, what is computed is traced to be compiled."""
    before, _here.fusing = is_fused(), True
    try:
        yield
    finally:
        _here.fusing = before


def is_fused() -> bool:
    """Whether operations are traced to become one compiled kernel."""
    return torch.compiler.is_compiling() or getattr(_here, "fusing", False)


def ndtr(t: Tensor) -> Tensor:
    """Φ(t), accurate in the lower tail.

    In a compiled kernel single precision gets a formula of its own: the library's is computed one number at a time.
    """
    if not is_fused():
        return torch.special.ndtr(t)
    if t.dtype != torch.float32:
        return torch.erfc(-t * math.sqrt(0.5)) / 2
    return fused_ndtr(t)


def far_ndtr(t: Tensor) -> Tensor:
    """Φ(t) with a small relative error as far out as floats reach, where torch's own has only a small absolute one."""
    if t.dtype == torch.float32 and is_fused():
        return fused_ndtr(t)
    return torch.erfc(-t * math.sqrt(0.5)) / 2


def far_log1p(u: Tensor) -> Tensor:
    """log(1 + u) for u ≥ 0, in a compiled kernel with a small absolute error only.

    The library's computes with squares of u, and arithmetic with subnormal numbers is slow.
    """
    if u.dtype == torch.float32 and is_fused():
        return torch.log(1 + u)
    return torch.log1p(u)


def ndtri(u: Tensor) -> Tensor:
    """Φ⁻¹(u). In a compiled kernel single precision gets a formula of its own, as for `ndtr`."""
    if u.dtype == torch.float32 and is_fused():
        return fused_ndtri(u)
    return torch.special.ndtri(u)


def fused_ndtr(t: Tensor) -> Tensor:
    """Φ(t) by elementary operations, to single precision: a relative error of at most 1e-6 down to 1e-8."""
    a = torch.abs(t)
    w = 1 / (1 + _MILLS_SCALE * a)
    tail = torch.exp(a * a * -0.5) * (polynomial(_MILLS, w) * w)
    return torch.where(t <= 0, tail, 1 - tail)


def fused_ndtri(u: Tensor) -> Tensor:
    """Φ⁻¹(u) for 0 < u < 1 by elementary operations, to single precision."""
    # 1 − (2u − 1)² = 4u(1 − u), without the cancellation.
    w = -torch.log(4 * u * (1 - u))
    centre = polynomial(_GILES_CENTRE, w - 2.5)
    tail = polynomial(_GILES_TAIL, torch.sqrt(w) - 3)
    return math.sqrt(2) * torch.where(w < 5, centre, tail) * (2 * u - 1)


def polynomial(coefficients: Sequence[float] | Sequence[Tensor], x: Tensor) -> Tensor:
    """Horner's rule, highest power first; coefficients may be 0-d tensors."""
    first, *others = coefficients
    value = torch.full_like(x, first) if isinstance(first, float) else first.expand(x.shape)
    for coefficient in others:
        value = value * x + coefficient
    return value


TORCH_OPS = arrays_namespace(
    abs=torch.abs,
    bump=lambda t: torch.sigmoid(t) * torch.sigmoid(-t),
    clip=torch.clamp,
    cos=torch.cos,
    eps=lambda t: torch.finfo(t.dtype).eps,
    exp=torch.exp,
    expit=torch.sigmoid,
    floor=torch.floor,
    full_like=torch.full_like,
    half_turn=lambda t: torch.atan2(torch.ones_like(t), -t),
    log=torch.log,
    log1p=torch.log1p,
    maximum=lambda t, low: torch.clamp(t, min=low),
    minimum=lambda t, high: torch.clamp(t, max=high),
    ndtr=ndtr,
    ndtri=ndtri,
    ramp=lambda t: torch.clamp(t, min=0.0),
    sin=torch.sin,
    sqrt=torch.sqrt,
    tanh=torch.tanh,
    where=torch.where,
)
"""The elementary functions that the laws' formulas are written in, for tensors of any device and float type."""

FAR_OPS = SimpleNamespace(**{**vars(TORCH_OPS), "ndtr": far_ndtr, "log1p": far_log1p})
"""The same for sums whose tails count by themselves, however far out."""


def on_grid(k: Tensor, offset: Tensor, g: dict[str, Tensor]) -> Tensor:
    """(k + offset)·ε to the last bit: the product with ε's leading digits is exact, the rest is one rounding.

    Args:
        k, offset: multiples of a quarter.
        g: the constants of a grid (`layouts.GRID`).
    """
    z = k + offset
    return z * g["high"] + z * g["low"]


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type to compute in: float32 for the 16-bit types, whose rounding would swamp the noise, else `dtype`."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def as_type(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x in a float type; x itself where it has it.

    No call for nothing: it would give x under a second name, and where such a tensor leaves an `autograd.Function`, a
    program compiled by torch 2.11 loses its gradient.
    """
    return x if x.dtype == dtype else x.to(dtype)
