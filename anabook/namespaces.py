"""Namespaces of elementary functions, all with the same names: what the formulas of `anabook.laws` are written in.

NumPy's arrays, single floats, SymPy's expressions and mpmath's numbers are here; torch's is
`anabook.training._ops.TORCH_OPS`. SymPy and mpmath are loaded when they are asked for.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy import special

# A density jumps at the ends of its support, and t = (x − θ − α)/β is rounded: so many roundings of a half-width may
# lie between t and the end. So the densities of two thresholds whose supports touch meet exactly, up to 8-bit
# quantisers: neither twice the height there nor a gap.
SLACK = 1024


def teeth(pieces: Any, spacing: Any) -> Any:
    """The distance from the first end to the last of `pieces` unit boxes with centres `spacing` apart."""
    return (pieces - 1) * spacing + 1


def arrays_namespace(where: Callable, eps: Callable, floor: Callable, **functions: Any) -> SimpleNamespace:
    """A namespace for arrays of numbers: `functions`, and what follows from them.

    Args:
        where, floor: of arrays.
        eps: an array ↦ the rounding unit of its type.
        functions: all other names.
    """

    def inside(t: Any, half_width: Any, value: Any, otherwise: Any = 0.0) -> Any:
        slack = SLACK * half_width * eps(t)
        return where((t >= -half_width - slack) & (t < half_width - slack), value, otherwise)

    def on_teeth(t: Any, pieces: Any, spacing: Any) -> Any:
        from_end = t + teeth(pieces, spacing) / 2
        within = (from_end >= 0) & (from_end < teeth(pieces, spacing))
        return within & (from_end - spacing * floor(from_end / spacing) < 1)

    return SimpleNamespace(
        where=where,
        eps=eps,
        floor=floor,
        inside=inside,
        on_teeth=on_teeth,
        number=_unchanged,
        one=1.0,
        pi=math.pi,
        inf=math.inf,
        root=math.sqrt,
        **functions,
    )


def _unchanged(value: Any) -> Any:
    return value


NUMPY = arrays_namespace(
    abs=np.abs,
    bump=lambda t: special.expit(t) * special.expit(-t),
    clip=np.clip,
    cos=np.cos,
    eps=lambda t: np.finfo(t.dtype).eps,
    exp=np.exp,
    expit=special.expit,
    floor=np.floor,
    full_like=np.full_like,
    half_turn=lambda t: np.arctan2(1.0, -t),
    log=np.log,
    log1p=np.log1p,
    maximum=np.maximum,
    minimum=np.minimum,
    ndtr=special.ndtr,
    ndtri=special.ndtri,
    ramp=lambda t: np.clip(t, 0.0, math.inf),
    sin=np.sin,
    sqrt=np.sqrt,
    tanh=np.tanh,
    where=np.where,
)
"""What formulas are written in, for arrays. Beside functions of the usual names: `one`, `pi` and `root(n)` = √n are
constants, exact in SymPy; `number` makes a shape's parameter one of the namespace's numbers; `bump(t)` is the slope of
`expit`; `ramp(t)` is t where it is positive, else 0; `half_turn(t)` is
π/2 + arctan t; `inside(t, b, value, otherwise)` tells −b ≤ t < b from elsewhere, up to roundings; `on_teeth(t, n, s)` says
whether t is on one of n unit boxes s apart; `ndtr` and `ndtri` are the normal distribution function and its inverse."""


def _two_ways(condition: Any, yes: Any, no: Any) -> Any:
    return yes if condition else no


def _scalars_namespace(**functions: Any) -> SimpleNamespace:
    def on_teeth(t: Any, pieces: Any, spacing: Any) -> bool:
        from_end = t + teeth(pieces, spacing) / 2
        return 0 <= from_end < teeth(pieces, spacing) and from_end - spacing * functions["floor"](from_end / spacing) < 1

    return SimpleNamespace(
        abs=abs,
        eps=lambda t: 0,
        full_like=lambda t, value: value,
        maximum=max,
        minimum=min,
        on_teeth=on_teeth,
        clip=lambda t, low, high: min(max(t, low), high),
        ramp=lambda t: max(t, 0),
        inside=lambda t, half_width, value, otherwise=0: value if -half_width <= t < half_width else otherwise,
        where=_two_ways,
        **functions,
    )


def _float_expit(t: float) -> float:
    return 1 / (1 + math.exp(-t)) if t > -700 else 0.0


FLOATS = _scalars_namespace(
    bump=lambda t: _float_expit(t) * _float_expit(-t),
    cos=math.cos,
    exp=math.exp,
    expit=_float_expit,
    floor=math.floor,
    half_turn=lambda t: math.atan2(1.0, -t),
    inf=math.inf,
    log=math.log,
    log1p=math.log1p,
    ndtr=lambda t: math.erfc(-t * math.sqrt(0.5)) / 2,
    ndtri=lambda u: float(special.ndtri(u)),
    number=_unchanged,
    one=1.0,
    pi=math.pi,
    root=math.sqrt,
    sin=math.sin,
    sqrt=math.sqrt,
    tanh=math.tanh,
)
"""The same for single floats: a root search asks for one value at a time, which costs NumPy ten times as much."""


@functools.lru_cache(maxsize=1)
def sympy_namespace() -> SimpleNamespace:
    """The same for SymPy's expressions. Densities are written on their support: `inside` and `ramp` change nothing."""
    import sympy as sp

    def where(condition: Any, yes: Any, no: Any) -> Any:
        return sp.Piecewise((yes, condition), (no, True))

    def inside(t: Any, half_width: Any, value: Any, otherwise: Any = 0) -> Any:
        return value if otherwise == 0 else where(sp.Abs(t) < half_width, value, otherwise)

    def on_teeth(t: Any, pieces: Any, spacing: Any) -> Any:
        half = teeth(pieces, spacing) / 2
        return (sp.Abs(t) < half) & (sp.Mod(t + half, spacing) < 1)

    return SimpleNamespace(
        abs=sp.Abs,
        bump=lambda t: sp.exp(-t) / (1 + sp.exp(-t)) ** 2,
        clip=lambda t, low, high: sp.Min(sp.Max(t, low), high),
        cos=sp.cos,
        eps=lambda t: 0,
        exp=sp.exp,
        expit=lambda t: 1 / (1 + sp.exp(-t)),
        floor=sp.floor,
        full_like=lambda t, value: value,
        half_turn=lambda t: sp.pi / 2 + sp.atan(t),
        inf=sp.oo,
        inside=inside,
        log=sp.log,
        log1p=lambda t: sp.log(1 + t),
        maximum=sp.Max,
        minimum=sp.Min,
        ndtr=lambda t: sp.erfc(-t / sp.sqrt(2)) / 2,
        ndtri=lambda u: sp.sqrt(2) * sp.erfinv(2 * u - 1),
        number=_unchanged,
        on_teeth=on_teeth,
        one=sp.Integer(1),
        pi=sp.pi,
        ramp=lambda t: t,
        root=sp.sqrt,
        sin=sp.sin,
        sqrt=sp.sqrt,
        tanh=sp.tanh,
        where=where,
    )


@functools.lru_cache(maxsize=1)
def mpmath_namespace() -> SimpleNamespace:
    """The same for single numbers of mpmath, in its working precision at the time of a call."""
    import mpmath

    # mpmath's erfc gives up on arguments of astronomical size. There the leading term of Mills' ratio has a relative
    # error below 1e-100. Farther out a tail is smaller than exp(−10^25000), less than anything it is compared with.
    mills_beyond, nothing_beyond = mpmath.mpf("1e50"), mpmath.mpf("1e25000")
    power_of_two_beyond = mpmath.mpf("1e40")

    def exp(t: Any) -> Any:
        # With more digits before the point than the working precision only the logarithm of exp(t) is known; then it is
        # rounded to a power of two, which is what decides between numbers of that size and costs nothing.
        if t < -nothing_beyond:
            return mpmath.mpf(0)
        return mpmath.ldexp(mpmath.mpf(1), int(t / mpmath.ln2)) if t < -power_of_two_beyond else mpmath.exp(t)

    def expit(t: Any) -> Any:
        odds = exp(-abs(t))
        return odds / (1 + odds) if t < 0 else 1 / (1 + odds)

    def ndtr(t: Any) -> Any:
        if t < -nothing_beyond:
            return mpmath.mpf(0)
        if t < -mills_beyond:
            return exp(-t * t / 2) / (-t * mpmath.sqrt(2 * mpmath.pi))
        return mpmath.erfc(-t / mpmath.sqrt(2)) / 2

    def ndtri(u: Any) -> Any:
        if u in (0, 1):
            return mpmath.inf if u else -mpmath.inf
        with mpmath.workprec(mpmath.mp.prec + max(0, int(-mpmath.log(min(u, 1 - u), 2))) + 10):
            return mpmath.sqrt(2) * mpmath.erfinv(2 * mpmath.mpf(u) - 1)

    def half_turn(t: Any) -> Any:
        return mpmath.atan2(1, -t)

    def number(value: Any) -> Any:
        return mpmath.mpf(value) if isinstance(value, float) else value

    constants = {"one": mpmath.mpf(1), "inf": mpmath.inf, "pi": mpmath.pi}
    return _scalars_namespace(
        bump=lambda t: expit(t) * expit(-t),
        cos=mpmath.cos,
        exp=exp,
        expit=expit,
        floor=mpmath.floor,
        half_turn=half_turn,
        log=mpmath.log,
        log1p=mpmath.log1p,
        ndtr=ndtr,
        ndtri=ndtri,
        number=number,
        root=mpmath.sqrt,
        sin=mpmath.sin,
        sqrt=mpmath.sqrt,
        tanh=mpmath.tanh,
        **constants,
    )
