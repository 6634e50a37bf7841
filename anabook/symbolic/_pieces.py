"""Pieces: the stretches of a support on which a density is one smooth expression, and how they are found."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import mpmath
import numpy as np
import sympy as sp

from anabook.symbolic._bounded import attempt
from anabook.symbolic._expressions import (
    Unknown,
    affine_end,
    as_numpy,
    real_values,
    search_grid,
    sign_of,
    simplified,
    value_at,
)
from anabook.symbolic._symbols import x


@dataclass(frozen=True)
class Piece:
    """A stretch [lo, hi) of a density's support on which it is one smooth expression of `x`."""

    lo: sp.Expr
    hi: sp.Expr
    pdf: sp.Expr
    antiderivative: sp.Expr
    cdf: sp.Expr
    sf: sp.Expr

    def integral(self, a: sp.Expr, b: sp.Expr, weight: sp.Expr = sp.Integer(1)) -> sp.Expr:
        """weight · ∫_a^b of the density, for a ≤ b within the piece."""
        return weight * (value_at(self.antiderivative, b, "-") - value_at(self.antiderivative, a, "+"))

    def mapped(self, location: sp.Expr, scale: sp.Expr) -> Piece:
        """The piece of location + scale·T where this is a piece of T: the substitution rule, scale > 0."""
        inner = (x - location) / scale

        def moved(expression: sp.Expr) -> sp.Expr:
            return expression.subs(x, inner)

        return Piece(
            affine_end(self.lo, location, scale),
            affine_end(self.hi, location, scale),
            moved(self.pdf) / scale,
            moved(self.antiderivative),
            moved(self.cdf),
            moved(self.sf),
        )


def edge_value(piece: Piece, edge: sp.Expr, side: str) -> sp.Expr:
    """The density's limit at an edge of a piece, "-" from the left: by SymPy, or else a Float or oo."""
    try:
        return value_at(piece.pdf, edge, side)
    except Unknown:
        pass
    if not edge.is_number or piece.pdf.free_symbols > {x}:
        raise ValueError(
            f"SymPy does not find the limit of the density {piece.pdf} at {edge}; give its parameters values by subs first."
        )
    with mpmath.workdps(40):
        if edge.is_finite is False:
            value = real_values(piece.pdf)(mpmath.sign(float(edge)) * mpmath.mpf(10) ** 8)
            return sp.Integer(0) if abs(value) < 1e-6 else sp.Float(value)
        inside = float(point_inside(piece.lo, piece.hi))
        value = real_values(piece.pdf)(mpmath.mpf(sp.N(edge, 40)), inside)
    return sp.oo if value == mpmath.inf else sp.Float(value, 25)


def smooth_pieces(expression: sp.Expr, low: sp.Expr, high: sp.Expr) -> list[tuple[sp.Expr, sp.Expr, sp.Expr]]:
    """Cut the support where the expression changes its form; on each part, the expression without case distinctions."""
    breaks: list[sp.Expr] = []
    for candidate in _break_candidates(expression, low, high):
        if sign_of(candidate - low, candidate) <= 0 or sign_of(high - candidate, candidate) <= 0:
            continue
        if not any(sign_of(candidate - b, candidate) == 0 for b in breaks):
            breaks.append(candidate)
    ordered: list[sp.Expr] = []
    for candidate in breaks:
        place = sum(sign_of(candidate - b, candidate) > 0 for b in ordered)
        ordered.insert(place, candidate)
    ends = [low, *ordered, high]
    pieces = [(a, b, _resolved(expression, point_inside(a, b))) for a, b in zip(ends, ends[1:])]
    _check_pieces(expression, pieces)
    return pieces


def _check_pieces(expression: sp.Expr, pieces: list[tuple[sp.Expr, sp.Expr, sp.Expr]]) -> None:
    """Numbers tell whether every change of form has been found."""
    if expression.free_symbols > {x} or len(pieces) == 1 and pieces[0][2] == expression:
        return
    whole = as_numpy(expression)
    for low, high, f in pieces:
        grid = search_grid(float(low), float(high))
        expected, found = whole(grid), as_numpy(f)(grid)
        far = np.isfinite(expected) & np.isfinite(found) & (np.abs(expected - found) > 1e-9 * (1 + np.abs(expected)))
        if far.any():
            raise ValueError(
                f"SymPy does not find all places where {expression} changes its form (one is near "
                f"{grid[np.flatnonzero(far)[0]]:.6g}); write it as a Piecewise."
            )


def _break_candidates(expression: sp.Expr, low: sp.Expr, high: sp.Expr) -> list[sp.Expr]:
    zeros: list[sp.Expr] = []
    for node in expression.atoms(sp.core.relational.Relational):
        if isinstance(node, sp.Ne):
            raise ValueError(f"the density treats single points apart ({node}), which carry no mass; use inequalities.")
        zeros.append(node.lhs - node.rhs)
    for node in expression.atoms(sp.Abs, sp.sign, sp.Heaviside):
        zeros.append(node.args[0])
    for node in expression.atoms(sp.Max, sp.Min):
        zeros += [a - b for a, b in itertools.combinations(node.args, 2)]
    found = [root for zero in zeros if zero.has(x) for root in _roots(zero, low, high)]
    return list(dict.fromkeys([*found, *_poles(expression, low, high)]))


def _roots(zero: sp.Expr, low: sp.Expr, high: sp.Expr) -> list[sp.Expr]:
    """Where an expression is 0, as far as SymPy finds it; in the interval, where there are infinitely many."""
    solved = attempt(sp.solve, zero, x)
    roots = [s for s in solved or [] if isinstance(s, sp.Expr) and s.is_real]
    if solved is None or zero.has(sp.functions.elementary.trigonometric.TrigonometricFunction):
        inside = attempt(lambda: sp.solveset(zero, x, sp.Interval(low, high)))
        roots += [s for s in inside if s.is_real] if isinstance(inside, sp.FiniteSet) else []
    return roots


def _poles(expression: sp.Expr, low: sp.Expr, high: sp.Expr) -> list[sp.Expr]:
    """Numbers inside the support where the formula has no value: zeros of denominators and of what logarithms are of."""
    if (expression.free_symbols | low.free_symbols | high.free_symbols) - {x}:
        return []
    zeros = {power.base for power in expression.atoms(sp.Pow) if power.base.has(x) and power.exp.is_negative}
    zeros |= {node.args[0] for node in expression.atoms(sp.log) if node.args[0].has(x)}
    grid = search_grid(float(low), float(high))
    found = []
    for zero in sorted(zeros, key=str):
        with np.errstate(all="ignore"):
            size = np.abs(as_numpy(zero)(grid))
        # Most denominators stay away from 0, and solving for their zeros takes SymPy long.
        typical = np.median(size[np.isfinite(size)]) if np.isfinite(size).any() else 0.0
        if not np.nanmin(size[1:-1], initial=math.inf) > 0.05 * min(typical, 1.0):
            found += [root for root in _roots(zero, low, high) if root.is_number]
    return found


def point_inside(low: sp.Expr, high: sp.Expr) -> sp.Expr:
    if low == -sp.oo:
        return sp.Integer(0) if high == sp.oo else high - 1
    return low + 1 if high == sp.oo else (low + high) / 2


def _resolved(expression: sp.Expr, point: sp.Expr) -> sp.Expr:
    """The expression with Piecewise, Abs, Min, Max, sign and Heaviside replaced by what they are at a point."""

    def at(value: sp.Expr) -> int:
        return sign_of(value.subs(x, point), value)

    def branch(node: sp.Piecewise) -> sp.Expr:
        for value, condition in node.args:
            if simplified(condition.subs(x, point)) == sp.true:
                return value
        return sp.Integer(0)

    return (
        expression.replace(lambda e: isinstance(e, sp.Piecewise), branch)
        .replace(sp.Abs, lambda u: u * at(u))
        .replace(sp.sign, lambda u: sp.Integer(at(u)))
        .replace(sp.Heaviside, lambda u, *_: sp.Integer(at(u) > 0))
        .replace(sp.Max, lambda *us: _extreme(us, point, 1))
        .replace(sp.Min, lambda *us: _extreme(us, point, -1))
    )


def _extreme(values: tuple[sp.Expr, ...], point: sp.Expr, direction: int) -> sp.Expr:
    best = values[0]
    for value in values[1:]:
        if direction * sign_of((value - best).subs(x, point), value) > 0:
            best = value
    return best
