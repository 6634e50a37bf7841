"""How the tails of a density end, found by SymPy from its expression: at an edge, like an exponential or like a power."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import mpmath
import sympy as sp

from anabook.laws import Decay, Edge, Power, Tail
from anabook.namespaces import mpmath_namespace, sympy_namespace
from anabook.symbolic._bounded import allowance, attempt
from anabook.symbolic._expressions import is_finite
from anabook.symbolic._symbols import x

_STEPS = 50_000  # what SymPy may take for both tails: a second or two, where it finds nothing
_t = sp.Symbol("t", positive=True)


def tails_of(density: Any, m: Any) -> tuple[Tail | None, Tail | None]:
    """What the lower and the upper tail of a `Density` come to, in a namespace's numbers; None where SymPy does not find it.

    Unbounded tails are counted from the density's mean, if it has one, else from 0.
    """
    if m is sympy_namespace():
        return _tails(density)
    number = _precise if m is mpmath_namespace() else float
    return tuple(tail if tail is None else type(tail)(*map(number, tail)) for tail in _tails(density))


def _precise(value: sp.Expr) -> Any:
    return mpmath.mpf(sp.N(value, mpmath.mp.dps + 5))


@lru_cache(maxsize=64)
def _tails(density: Any) -> tuple[Tail | None, Tail | None]:
    middle = density.mean if is_finite(density.mean) else sp.Integer(0)
    (low, high), pieces = density.support, density._pieces
    with allowance(_STEPS):
        return _tail(pieces[0].pdf, low, -1, middle), _tail(pieces[-1].pdf, high, 1, middle)


def _tail(pdf: sp.Expr, end: sp.Expr, side: int, middle: sp.Expr) -> Tail | None:
    if pdf.has(sp.Float):
        pdf = pdf.replace(lambda e: e.is_Float, lambda e: sp.Rational(str(e)))
    if end.is_finite is not False:
        return attempt(_edge, pdf.subs(x, end - side * _t), default=None)
    return attempt(_far, pdf.subs(x, middle + side * _t), default=None)


def _edge(f: sp.Expr) -> Edge | None:
    """Of the density f at the distance t from the end: k·t^e makes an edge of order e + 1."""
    first = sp.simplify(sp.simplify(f).as_leading_term(_t))
    coefficient, exponent = first.as_coeff_exponent(_t)
    fits = not coefficient.has(_t) and _is_positive(coefficient) and exponent.is_number and _is_positive(exponent + 1)
    if not fits or sp.limit(f / first, _t, 0, "+") != 1:
        return None
    return Edge(exponent + 1, sp.simplify(coefficient / (exponent + 1)))


def _dominant(f: sp.Expr) -> sp.Expr:
    """What a rational function of exp(−a·t) comes to far out, which spares SymPy its limits; other functions as they are."""
    rewritten = sp.expand(f.rewrite(sp.exp), power_exp=False)
    speeds = {exponential: sp.cancel(exponential.exp / _t) for exponential in rewritten.atoms(sp.exp)}
    if not speeds or any(not a.is_number or a == 0 for a in speeds.values()):
        return f
    slowest = min((abs(a) for a in speeds.values()), key=lambda a: a.evalf())
    powers = {exponential: sp.simplify(-a / slowest) for exponential, a in speeds.items()}
    if not all(power.is_Integer for power in powers.values()):
        return f
    small = sp.Symbol("E", positive=True)
    first = sp.cancel(rewritten.xreplace({e: small**power for e, power in powers.items()})).as_leading_term(small)
    return first.subs(small, sp.exp(-slowest * _t))


def _far(f: sp.Expr) -> Decay | Power | None:
    """Of the density f at the distance t from the middle, by the relative speed −f'/f of its decay."""
    f = _dominant(f)
    speed = sp.simplify(-sp.diff(f, _t) / f)
    power = sp.limit(_t * speed, _t, sp.oo)
    if power.is_number and power.is_finite:
        coefficient = sp.simplify(sp.limit(f * _t**power, _t, sp.oo))
        known = _is_positive(coefficient) and _is_positive(power - 1)
        return Power(power - 1, coefficient / (power - 1)) if known else None
    gamma = 1 + sp.limit(_t * sp.diff(speed, _t) / speed, _t, sp.oo)
    if not (gamma.is_number and _is_positive(gamma)):
        return None
    rate = sp.simplify(sp.limit(speed / _t ** (gamma - 1), _t, sp.oo) / gamma)
    if not _is_positive(rate):
        return None
    exponent = -sp.limit(_t * sp.simplify(speed - gamma * rate * _t ** (gamma - 1)), _t, sp.oo)
    if not (exponent.is_number and exponent.is_finite):
        return None
    rest = sp.simplify(f * sp.exp(rate * _t**gamma) / _t**exponent)
    coefficient = sp.simplify(sp.limit(rest, _t, sp.oo))
    if not _is_positive(coefficient):
        return None
    return Decay(gamma, rate, exponent - gamma + 1, sp.simplify(coefficient / (gamma * rate)))


def _is_positive(value: sp.Expr) -> bool:
    return bool(value.is_number and value.is_finite and value.is_extended_real and value.evalf() > 0)
