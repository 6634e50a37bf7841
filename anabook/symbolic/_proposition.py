"""Proposition 1 of the paper, checked by SymPy for a given density and quantiser."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import sympy as sp

from anabook._validate import choice
from anabook.symbolic._convolution import exact_stair, family
from anabook.symbolic._density import Density, Piece, smallest_value
from anabook.symbolic._expressions import alpha, beta, is_finite, is_zero, shortest, value_at, x


@dataclass(frozen=True)
class Check:
    """One checked statement.

    Attributes:
        name: a short name, with the part of Proposition 1 that it belongs to.
        statement: what was checked, in words.
        holds: whether SymPy found it true.
    """

    name: str
    statement: str
    holds: bool


@dataclass(frozen=True)
class Verification:
    """What `verify_proposition` found: named checks, and the facts about the density that they rest on.

    Attributes:
        checks: the checks.
        cells: number of orderings of breakpoints that part (i) and (iii) were proved in, one by one.
        peak: sup f, for mean α and standard deviation β.
        lipschitz: (q_{K−1} − q_0)·sup f, a Lipschitz constant of the regularisation.
        variation: the total variation of the density, jumps included.
        jumps: (position, height) of the density's jumps; none if f is in W^{1,1}.
    """

    checks: tuple[Check, ...]
    cells: int
    peak: sp.Expr
    lipschitz: sp.Expr
    variation: sp.Expr
    jumps: tuple[tuple[sp.Expr, sp.Expr], ...]

    def __iter__(self) -> Iterator[Check]:
        return iter(self.checks)

    def __bool__(self) -> bool:
        return all(check.holds for check in self.checks)

    def __getitem__(self, name: str) -> Check:
        names = [check.name for check in self.checks]
        return self.checks[names.index(choice(name, names, "check"))]

    def __str__(self) -> str:
        width = max(len(check.name) for check in self.checks)
        return "\n".join(f"{'holds' if c.holds else 'FAILS'}  {c.name:<{width}}  {c.statement}" for c in self.checks)


def verify_proposition(law: Any, quantiser: Any) -> Verification:
    """Check Proposition 1 of the paper, parts (i) to (iii), and the limit of vanishing noise, with SymPy.

    Mean `alpha` and standard deviation `beta` stay symbols (location and scale for a density without
    moments). How the noise's breakpoints interleave with the thresholds depends on x and β; the half-plane of
    (x, β) falls into finitely many cells in which the order is fixed, and the identities are proved in each.

    Args:
        law: a family's name, or a `Density` without free parameters.
        quantiser: a `Quantiser` or a pair (levels, thresholds) of numbers.

    Returns:
        A `Verification`, true if all checks hold.
    """
    density = family(law) if isinstance(law, str) else law
    if not isinstance(density, Density):
        raise TypeError(f"law must be a family's name or a Density, not {law!r}.")
    if density.parameters:
        listing = ", ".join(map(str, density.parameters))
        raise ValueError(f"the density has parameters without values ({listing}); give them by subs first.")
    levels, thresholds = exact_stair(quantiser)
    if any(value.free_symbols for value in (*levels, *thresholds)):
        raise ValueError("verify_proposition needs a quantiser with numbers as levels and thresholds.")
    return _verified(density, levels, thresholds)


@lru_cache(maxsize=64)
def _verified(density: Density, levels: tuple[sp.Expr, ...], thresholds: tuple[sp.Expr, ...]) -> Verification:
    if is_finite(density.mean) and is_finite(density.std):
        base = density.located(sp.Integer(0), sp.Integer(1)) if (density.mean, density.std) != (0, 1) else density
    else:
        base = density
    law = base._affine_image(alpha, beta)
    cells = list(_cells(base, thresholds))
    spread = levels[-1] - levels[0]
    peak, variation = _peak_and_variation(base)
    checks = (
        Check("(i) convolution",
              f"the integral of σ(x − t) f(t) over t equals q_0 + Σ Δ_k F(x − θ_k) in all {len(cells)} cells",
              all(is_zero(_convolved(law, levels, thresholds, c) - _branch(law, "cdf", levels, thresholds, c))
                  for c in cells)),
        Check("(ii) continuity", "F has no jump where its pieces meet, and runs from 0 to 1",
              _is_continuous_cdf(base)),
        Check("(ii) monotonicity", "f is nonnegative, so no step of E[σ(x − ν)] goes down",
              smallest_value(base) >= 0 and all((high - low).is_positive for low, high in zip(levels, levels[1:]))),
        Check("(ii) Lipschitz", f"the slope is at most (q_(K-1) − q_0) sup f = {sp.sstr(spread * peak / beta)}",
              bool(peak.is_finite)),
        Check("(iii) derivative", "F' = f inside every piece, hence the slope is Σ Δ_k f(x − θ_k)",
              all(is_zero(sp.diff(p.cdf, x) - p.pdf) for p in law._pieces)),
        Check("(iii) Dσ * f = σ * Df",
              f"Σ Δ_k f(x − θ_k) equals the integral of σ(x − t) Df(dt) in all {len(cells)} cells",
              all(is_zero(_convolved_with_derivative(law, levels, thresholds, c)
                        - _branch(law, "pdf", levels, thresholds, c)) for c in cells)),
        Check("(iii) one-sided",
              f"at the edges of f's pieces (here {len(list(base._edges()))}) the difference quotients of F tend to "
              "the one-sided limits of f", _one_sided_derivatives(base)),
        Check("(iii) total rise", "the slope integrates to q_(K-1) − q_0",
              is_zero(spread * sum(p.integral(p.lo, p.hi) for p in base._pieces) - spread)),
        Check("limit", "as β → 0, F((x − θ − α)/β) tends to H(x − θ − α) wherever x ≠ θ + α",
              _vanishing_noise(base)),
    )
    jumps = tuple((alpha + beta * edge, height / beta) for edge, height in base.jumps)
    return Verification(checks, len(cells), peak / beta, spread * peak / beta, variation / beta, jumps)


@dataclass(frozen=True)
class _Cell:
    """A set of (x, β), given by a point of it, in which the breakpoints keep their order."""

    x: sp.Expr
    beta: sp.Expr

    def value(self, expression: sp.Expr) -> sp.Expr:
        return expression.subs({alpha: 0, beta: self.beta, x: self.x})

    def order(self, expression: sp.Expr) -> float:
        return float(self.value(expression))


def _cells(base: Density, thresholds: tuple[sp.Expr, ...]) -> Iterator[_Cell]:
    edges = [edge for edge, _, _ in base._edges()]
    if not edges:
        yield _Cell(sp.Rational(1, 3), sp.Integer(1))
        return
    critical = {(b - a) / (d - c)
                for a, b in itertools.combinations(thresholds, 2) for c, d in itertools.combinations(edges, 2)}
    for width in _between(critical, low=sp.Integer(0)):
        for place in _between({threshold + edge * width for threshold in thresholds for edge in edges}):
            yield _Cell(place, width)


def _between(values: Iterable[sp.Expr], low: sp.Expr | None = None) -> list[sp.Expr]:
    """One rational number in each gap between the values, and one beyond either end."""
    ordered: list[sp.Expr] = []
    for value in sorted(values, key=float):
        if not ordered or not is_zero(value - ordered[-1]):
            ordered.append(value)
    if not ordered:
        return [sp.Integer(1)]
    inner = [sp.Rational(Fraction(float(a + b) / 2).limit_denominator(10**6)) for a, b in zip(ordered, ordered[1:])]
    first = sp.floor(ordered[0]) - 1 if low is None else sp.Rational(Fraction(float(ordered[0]) / 2))
    return [first, *inner, sp.floor(ordered[-1]) + 2]


def _stretches(
    law: Density, levels: tuple[sp.Expr, ...], thresholds: tuple[sp.Expr, ...], cell: _Cell
) -> Iterator[tuple[Piece, sp.Expr, sp.Expr, sp.Expr]]:
    """The t-axis, cut where f changes its piece and where σ(x − t) changes its level: (piece, level, from, to)."""
    cuts = [x - threshold for threshold in thresholds]
    for piece in law._pieces:
        low = -math.inf if piece.lo == -sp.oo else cell.order(piece.lo)
        high = math.inf if piece.hi == sp.oo else cell.order(piece.hi)
        inside = sorted((c for c in cuts if low < cell.order(c) < high), key=cell.order)
        points = [piece.lo, *inside, piece.hi]
        for start, stop in zip(points, points[1:]):
            beyond = sum(cell.order(c) <= (low if start is piece.lo else cell.order(start)) for c in cuts)
            yield piece, levels[len(levels) - 1 - beyond], start, stop


def _convolved(law: Density, levels: Any, thresholds: Any, cell: _Cell) -> sp.Expr:
    return sp.Add(*(p.integral(a, b, level) for p, level, a, b in _stretches(law, levels, thresholds, cell)))


def _convolved_with_derivative(law: Density, levels: Any, thresholds: Any, cell: _Cell) -> sp.Expr:
    """∫ σ(x − t) Df(dt): the smooth part f′(t) dt of the measure Df, and its point masses at the jumps of f."""
    smooth = sp.Add(*(level * (value_at(p.pdf, b, "-") - value_at(p.pdf, a, "+"))
                      for p, level, a, b in _stretches(law, levels, thresholds, cell)))
    atoms = []
    for edge, height in law.jumps:
        above = sum(cell.order(x - threshold) >= cell.order(edge) for threshold in thresholds)
        atoms.append(levels[above] * height)
    return smooth + sp.Add(*atoms)


def _branch(law: Density, what: str, levels: Any, thresholds: Any, cell: _Cell) -> sp.Expr:
    """q_0 + Σ Δ_k F(x − θ_k), or Σ Δ_k f(x − θ_k), with each term's expression in the cell."""
    total = levels[0] if what == "cdf" else sp.Integer(0)
    for low, high, threshold in zip(levels, levels[1:], thresholds):
        place = cell.order(x - threshold)
        term = sp.Integer(1 if what == "cdf" and law.support[1] != sp.oo
                          and place >= cell.order(law.support[1]) else 0)
        for piece in law._pieces:
            if ((piece.lo == -sp.oo or cell.order(piece.lo) <= place)
                    and (piece.hi == sp.oo or place < cell.order(piece.hi))):
                term = getattr(piece, what).subs(x, x - threshold)
        total += (high - low) * term
    return total


def _is_continuous_cdf(base: Density) -> bool:
    for edge, left, right in base._edges():
        below = sp.Integer(0) if left is None else value_at(left.cdf, edge, "-")
        above = sp.Integer(1) if right is None else value_at(right.cdf, edge, "+")
        if not is_zero(above - below):
            return False
    first, last = base._pieces[0], base._pieces[-1]
    return is_zero(value_at(first.cdf, first.lo, "+")) and is_zero(value_at(last.cdf, last.hi, "-") - 1)


def _one_sided_derivatives(base: Density) -> bool:
    step = sp.Symbol("h", positive=True)
    for edge, left, right in base._edges():
        here = sp.Integer(0) if left is None else value_at(left.cdf, edge, "-")
        after = sp.Integer(1) if right is None else right.cdf.subs(x, edge + step)
        before = sp.Integer(0) if left is None else left.cdf.subs(x, edge - step)
        f_after = sp.Integer(0) if right is None else value_at(right.pdf, edge, "+")
        f_before = sp.Integer(0) if left is None else value_at(left.pdf, edge, "-")
        if not is_zero(sp.limit((after - here) / step, step, 0, "+") - f_after):
            return False
        if not is_zero(sp.limit((here - before) / step, step, 0, "+") - f_before):
            return False
    return True


def _vanishing_noise(base: Density) -> bool:
    distance = sp.Symbol("d", positive=True)
    first, last = base._pieces[0], base._pieces[-1]
    below = sp.Integer(0) if first.lo != -sp.oo else sp.limit(first.cdf.subs(x, -distance / beta), beta, 0, "+")
    above = sp.Integer(1) if last.hi != sp.oo else sp.limit(last.cdf.subs(x, distance / beta), beta, 0, "+")
    return is_zero(below) and is_zero(above - 1)


def _peak_and_variation(base: Density) -> tuple[sp.Expr, sp.Expr]:
    """sup f and |Df|(ℝ): f is followed from one stationary point or edge to the next, jumps included."""
    heights: list[sp.Expr] = [sp.Integer(0)]
    for piece in base._pieces:
        heights.append(value_at(piece.pdf, piece.lo, "+"))
        heights += [piece.pdf.subs(x, point) for point in _stationary_points(piece)]
        heights.append(value_at(piece.pdf, piece.hi, "-"))
    heights.append(sp.Integer(0))
    peak = shortest(max(heights, key=lambda h: float(h) if h.is_finite else math.inf))
    return peak, shortest(sp.Add(*(sp.Abs(b - a) for a, b in zip(heights, heights[1:]))))


def _stationary_points(piece: Piece) -> list[sp.Expr]:
    slope = sp.together(sp.diff(piece.pdf, x))
    if slope == 0:
        return []
    numerator = sp.factor(sp.numer(slope))
    domain = sp.Interval.open(piece.lo, piece.hi)
    found: set[sp.Expr] = set()
    for factor in sp.Mul.make_args(numerator):
        if not factor.has(x) or (isinstance(factor, sp.exp) or factor.is_positive):
            continue
        solution = sp.solveset(factor, x, domain)
        if not isinstance(solution, sp.FiniteSet):
            solution = sp.FiniteSet(*(s for s in sp.solve(factor, x) if s.is_real and s in domain))
        found |= set(solution)
    return sorted(found, key=float)
