"""Integrals of a density: its distribution function piece by piece, and its moments, by SymPy or by numbers."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import sympy as sp
from scipy import integrate

from anabook.symbolic._bounded import attempt
from anabook.symbolic._density_checks import check_mass, parameter_samples
from anabook.symbolic._expressions import (
    Unknown,
    as_numpy,
    evaluator,
    integral_of,
    is_even,
    is_finite,
    probe_points,
    shortest,
    simplified,
    value_at,
)
from anabook.symbolic._known_integrals import gaussian_antiderivative, known_integral
from anabook.symbolic._pieces import Piece
from anabook.symbolic._symbols import x

_ANTIDERIVATIVE = 250_000  # steps that SymPy may take for one antiderivative


def integrated(density: Any, smooth: list[tuple[sp.Expr, sp.Expr, sp.Expr]]) -> tuple[Piece, ...]:
    """Integrate piece by piece; check the total mass; assemble distribution function and upper tail."""
    found = [_antiderivative(f, low, high, density) for low, high, f in smooth]
    masses = [_definite(f, g, low, high) for (low, high, f), g in zip(smooth, found)]
    total = sp.Add(*masses)
    if check_mass(total, density, smooth):
        # Numbers that were rounded once, 1/√(2π) for example: without this the distribution function would not end at 1.
        total = sp.Rational(str(total)) if total.has(sp.Float) else total
        density._set(expression=_divided(density.expression, total))
        smooth = [(low, high, _divided(f, total)) for low, high, f in smooth]
        found = [_divided_antiderivative(g, total, piece, density) for g, piece in zip(found, smooth)]
        masses = [simplified(mass / total) for mass in masses] if len(masses) > 1 else [sp.Integer(1)]
    pieces = []
    for number, ((low, high, f), g) in enumerate(zip(smooth, found)):
        below, above = sp.Add(*masses[:number]), sp.Add(*masses[number + 1 :])
        if g is None:
            s = sp.Dummy("s", real=True)
            up = below + sp.Integral(f.subs(x, s), (s, low, x))
            down = above + sp.Integral(f.subs(x, s), (s, x, high))
            whole = sp.Integral(f.subs(x, s), (s, low, x))
        else:
            whole, at_low, at_high = g
            up = shortest(below + whole - at_low)
            down = shortest(above + at_high - whole)
            if sp.Add(*masses) == 1:
                up, down = shortest(up, 1 - down), shortest(down, 1 - up)
        pieces.append(Piece(low, high, f, whole, up, down))
    return tuple(pieces)


_Antiderivative = tuple[sp.Expr, sp.Expr, sp.Expr]  # and its limits at the two ends


def _divided_antiderivative(
    g: _Antiderivative | None, total: sp.Expr, piece: tuple[sp.Expr, sp.Expr, sp.Expr], density: Any
) -> _Antiderivative | None:
    if g is None:
        return None
    low, high, f = piece
    # Found anew it is shorter than divided, where there is time.
    anew = _antiderivative(f, low, high, density)
    return anew or tuple(_divided(value, total) for value in g)


def _divided(expression: sp.Expr, total: sp.Expr) -> sp.Expr:
    if isinstance(expression, sp.Piecewise):
        return sp.Piecewise(*((_divided(value, total), condition) for value, condition in expression.args))
    if expression.is_Add:
        return sp.Add(*(_divided(term, total) for term in expression.args))
    return expression / total


_NO_CLOSED_FORM = (sp.Integral, sp.Piecewise, sp.meijerg, sp.hyper, sp.exp_polar, sp.polar_lift, sp.nan, sp.zoo, sp.oo)


def _integrated_by_sympy(f: sp.Expr, variable: sp.Symbol) -> sp.Expr | None:
    g = gaussian_antiderivative(f) if variable == x else None
    if g is None:
        g = attempt(sp.integrate, f, variable, steps=_ANTIDERIVATIVE)
    if g is not None and g.has(sp.exp_polar, sp.polar_lift):
        g = attempt(sp.unpolarify, g)
    return None if g is None or g.has(*_NO_CLOSED_FORM) else g


def _antiderivative(f: sp.Expr, low: sp.Expr, high: sp.Expr, density: Any) -> _Antiderivative | None:
    """SymPy's antiderivative and its limits, if it is one without jumps; None if there is none to be had."""
    g = _integrated_by_sympy(f, x)
    if g is None and (low.is_nonnegative or high.is_nonpositive):
        # Of a positive variable SymPy knows more: its roots and logarithms are real.
        sign, positive = 1 if low.is_nonnegative else -1, sp.Dummy("u", positive=True)
        g = _integrated_by_sympy(sign * f.subs(x, sign * positive), positive)
        g = None if g is None else g.subs(positive, sign * x)
    if g is None:
        return None
    try:
        ends = value_at(g, low, "+"), value_at(g, high, "-")
    except Unknown:
        if not density.parameters:
            return None
        listing = ", ".join(map(str, density.parameters))
        raise ValueError(
            f"SymPy cannot integrate {f} up to its ends without knowing more about {listing}; "
            "declare the parameters positive if they are."
        ) from None
    for values in parameter_samples(density):
        a, b = (float(end.subs(values)) for end in (low, high))
        points = probe_points(a, b)
        middle = [points[len(points) // 4], points[len(points) // 2], points[3 * len(points) // 4]]
        function, whole = as_numpy(f.subs(values)), evaluator(g.subs(values))
        for start, stop in zip(middle, middle[1:]):
            expected = integrate.quad(function, start, stop, limit=200)[0]
            found = complex(whole(stop) - whole(start))
            if not abs(found - expected) < 1e-6 * max(1.0, abs(expected)):
                return None
    return g, *ends


def _definite(f: sp.Expr, g: _Antiderivative | None, low: sp.Expr, high: sp.Expr) -> sp.Expr:
    if g is not None:
        value = simplified(g[2] - g[1])
        if not value.has(sp.nan, sp.zoo):
            return value
    known = known_integral(f, low, high)
    if known is not None:
        return simplified(known)
    if (f.free_symbols | low.free_symbols | high.free_symbols) <= {x}:
        return sp.Float(integral_of(f, low, high), 30)
    return sp.Integral(f, (x, low, high))


def moment(density: Any, weight: sp.Expr) -> sp.Expr:
    """∫ weight·f, with the parts to the left and right of 0 kept apart: both infinite means that it does not exist."""
    halves = {-1: sp.Integer(0), 1: sp.Integer(0)}
    for piece in density._pieces:
        integrand = weight * piece.pdf
        known = known_integral(integrand, piece.lo, piece.hi)
        if known is not None:
            halves[1] += known
            continue
        for low, high in _split_at_zero(piece.lo, piece.hi):
            halves[1 if high == sp.oo or low == 0 else -1] += _part_of_moment(integrand, low, high, density._by_numbers)
    if all(not is_finite(half) for half in halves.values()):
        return sp.oo if halves[-1] == halves[1] == sp.oo else sp.nan
    total = halves[-1] + halves[1]
    if not total.has(sp.Float):
        return shortest(simplified(total))
    density._set(_by_numbers=True)
    # What an even density has instead of a mean of 0 is noise.
    return sp.Integer(0) if weight == x and is_even(density) else sp.N(total, 25)


def _split_at_zero(low: sp.Expr, high: sp.Expr) -> list[tuple[sp.Expr, sp.Expr]]:
    if low == -sp.oo and high == sp.oo:
        return [(low, sp.Integer(0)), (sp.Integer(0), high)]
    return [(low, high)]


def _part_of_moment(integrand: sp.Expr, low: sp.Expr, high: sp.Expr, by_numbers: bool) -> sp.Expr:
    known = known_integral(integrand, low, high)
    if known is not None:
        return known
    g = None if by_numbers else attempt(lambda: sp.integrate(sp.expand(integrand), x))
    if g is not None and not g.has(*_NO_CLOSED_FORM):
        try:
            value = simplified(value_at(g, high, "-") - value_at(g, low, "+"))
        except Unknown:
            value = sp.nan
        if not value.has(sp.nan, sp.zoo, sp.Limit) and _is_real(value):
            return value
    if integrand.free_symbols <= {x}:
        infinite = _infinite_part(integrand, low, high)
        return sp.Float(integral_of(integrand, low, high), 25) if infinite is None else infinite
    value = attempt(sp.integrate, integrand, (x, low, high))
    if value is None:
        raise ValueError(
            f"SymPy does not find the integral of {integrand} from {low} to {high}; give the parameters values "
            "by subs first."
        )
    return value


def _is_real(value: sp.Expr) -> bool:
    if value.free_symbols or not is_finite(value):
        return value.is_extended_real is not False
    with mpmath.workdps(30):
        number = evaluator(value)(0)
        return abs(mpmath.im(number)) <= 1e-20 * (1 + abs(number)) and not value.has(sp.I)


def _infinite_part(integrand: sp.Expr, low: sp.Expr, high: sp.Expr) -> sp.Expr | None:
    """∞ with its sign where the integrand decays no faster than 1/x, as its values far out tell."""
    function = as_numpy(integrand)
    for end, sign in ((low, -1.0), (high, 1.0)):
        if end.is_finite is False:
            near, far = function(sign * np.array([1e8, 1e12]))
            if far != 0 and near / far > 0 and math.log(abs(far / near)) >= -(1 + 1e-6) * math.log(1e4):
                return sp.oo * int(np.sign(far))
    return None
