"""Proposition 1 of the paper, checked by SymPy for a given density and quantiser."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import mpmath
import numpy as np
import sympy as sp
from scipy import optimize

from anabook._validate import choice
from anabook.symbolic._bounded import allowance, attempt
from anabook.symbolic._convolution import exact_stair, family
from anabook.symbolic._density import Density
from anabook.symbolic._density_checks import smallest_value
from anabook.symbolic._expressions import (
    Unknown,
    as_numpy,
    difference_from_zero,
    integral_of,
    is_finite,
    is_zero,
    limit,
    probe_points,
    real_values,
    search_grid,
    shortest,
    value_at,
)
from anabook.symbolic._pieces import Piece, edge_value
from anabook.symbolic._symbols import alpha, beta, x

_WORDS = {True: "holds", False: "FAILS", None: "undecided"}


@dataclass(frozen=True)
class Check:
    """One checked statement.

    Attributes:
        name: a short name, with the part of the proposition that it belongs to, numbered as in the book's chapter 3.
        statement: what was checked, in words.
        holds: whether SymPy found it true (True) or false (False); None where it decides neither.
        evidence: where `holds` is None, what numbers of high precision say, in words; else empty.

    Example:
        >>> from anabook import Quantiser
        >>> verify_proposition("uniform", Quantiser.ternary()).checks[0].holds
        True
    """

    name: str
    statement: str
    holds: bool | None
    evidence: str = ""

    @property
    def status(self) -> str:
        """ "holds", "FAILS" or "undecided"."""
        return _WORDS[self.holds]


@dataclass(frozen=True)
class Verification:
    """What `verify_proposition` found: named checks, and the facts about the density that they rest on.

    It is true if all checks hold; `holds` tells a statement that fails from one that is not decided.

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

    @property
    def holds(self) -> bool | None:
        """True: all checks hold. False: one fails. None: none fails, but SymPy cannot decide all."""
        found = {check.holds for check in self.checks}
        return False if False in found else None if None in found else True

    def __iter__(self) -> Iterator[Check]:
        return iter(self.checks)

    def __bool__(self) -> bool:
        return self.holds is True

    def __getitem__(self, name: str) -> Check:
        names = [check.name for check in self.checks]
        return self.checks[names.index(choice(name, names, "check"))]

    def __str__(self) -> str:
        width, word = (
            max(len(text) for text in column) for column in ([c.name for c in self.checks], [c.status for c in self.checks])
        )
        return "\n".join(
            f"{c.status:<{word}}  {c.name:<{width}}  {c.statement}{f' ({c.evidence})' if c.evidence else ''}"
            for c in self.checks
        )


def verify_proposition(law: Any, quantiser: Any) -> Verification:
    """Check Proposition 1 of the paper, and the limit of vanishing noise, with SymPy.

    The parts are numbered as in the book: (i) the expectation is the convolution, as in the paper; (ii) how regular it is;
    (iii) its derivative. The paper's (ii) and (iii) are both of these, for densities in W^{1,1} and of bounded variation.

    Mean `alpha` and standard deviation `beta` stay symbols (location and scale for a density without
    moments). How the noise's breakpoints interleave with the thresholds depends on x and β; the half-plane of
    (x, β) falls into finitely many cells in which the order is fixed, and the identities are proved in each.

    Args:
        law: a family's name, or a `Density` without free parameters.
        quantiser: a `Quantiser` or a pair (levels, thresholds) of numbers.

    What SymPy does not decide in a few seconds is *undecided*, and comes with the largest difference that numbers of
    high precision show.

    Returns:
        A `Verification`, true if all checks hold.

    Example:
        >>> from anabook import Quantiser
        >>> found = verify_proposition("uniform", Quantiser.ternary())
        >>> all(check.holds for check in found.checks)
        True
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
    unit = sp.Integer(1)  # what a standard deviation is in units of the base's own
    if density.mean.has(sp.Float) or density.std.has(sp.Float):
        # Moments that only numbers tell would make numbers of everything: the base keeps its own place and scale.
        base, unit = density, density.std
    elif is_finite(density.mean) and is_finite(density.std):
        base = density.located(sp.Integer(0), sp.Integer(1)) if (density.mean, density.std) != (0, 1) else density
    else:
        base = density
    law = base._affine_image(alpha, beta)
    cells = list(_cells(base, thresholds))
    with allowance(_STEPS + len(cells) * _STEPS_A_CELL):
        spread = levels[-1] - levels[0]
        peak, variation = (unit * size for size in _peak_and_variation(base))
        checks = (
            _check(
                "(i) convolution",
                f"the integral of σ(x − t) f(t) over t equals q_0 + Σ Δ_k F(x − θ_k) in all {len(cells)} cells",
                lambda: _in_cells(
                    cells, lambda c: _convolved(law, levels, thresholds, c) - _branch(law, "cdf", levels, thresholds, c)
                ),
            ),
            _check(
                "(ii) continuity", "F has no jump where its pieces meet, and runs from 0 to 1", lambda: _gaps_of_cdf(base)
            ),
            Check(
                "(ii) monotonicity",
                "f is nonnegative, so no step of E[σ(x − ν)] goes down",
                smallest_value(base) >= 0 and all((high - low).is_positive for low, high in zip(levels, levels[1:])),
            ),
            Check(
                "(ii) Lipschitz",
                f"the slope is at most (q_(K-1) − q_0) sup f = {sp.sstr(spread * peak / beta)}",
                peak.is_finite is not False,
            ),
            _check(
                "(iii) derivative",
                "F' = f inside every piece, hence the slope is Σ Δ_k f(x − θ_k)",
                lambda: ((sp.diff(p.cdf, x) - p.pdf, _places_in(p)) for p in law._pieces),
            ),
            _check(
                "(iii) Dσ * f = σ * Df",
                f"Σ Δ_k f(x − θ_k) equals the integral of σ(x − t) Df(dt) in all {len(cells)} cells",
                lambda: _in_cells(
                    cells,
                    lambda c: (
                        _convolved_with_derivative(law, levels, thresholds, c) - _branch(law, "pdf", levels, thresholds, c)
                    ),
                ),
            ),
            _check(
                "(iii) one-sided",
                f"at the edges of f's pieces (here {len(list(base._edges()))}) the difference quotients of F tend to "
                "the one-sided limits of f",
                lambda: _one_sided_derivatives(base),
            ),
            _check(
                "(iii) total rise", "the slope integrates to q_(K-1) − q_0", lambda: [(_mass(base) * spread - spread, ())]
            ),
            _check(
                "limit",
                "as β → 0, F((x − θ − α)/β) tends to H(x − θ − α) wherever x ≠ θ + α",
                lambda: _vanishing_noise(base),
            ),
        )
        middle = sp.Integer(0) if unit == 1 else density.mean
        jumps = tuple((alpha + beta * (edge - middle) / unit, unit * height / beta) for edge, height in base.jumps)
    return Verification(checks, len(cells), peak / beta, spread * peak / beta, variation / beta, jumps)


_Differences = Iterable[tuple[sp.Expr | Any | None, tuple[dict[sp.Symbol, Any], ...]]]
_STEPS, _STEPS_A_CELL = 1_200_000, 15_000  # what SymPy may take to decide all statements
_ENOUGH = 4  # differences of one statement that SymPy does not decide: after these the rest is left


def _in_cells(cells: list[_Cell], difference: Callable[[_Cell], sp.Expr]) -> _Differences:
    for cell in cells:
        try:
            yield difference(cell), cell.places
        except Unknown:
            yield None, ()


def _check(name: str, statement: str, differences: Callable[[], _Differences]) -> Check:
    """A statement that holds where all differences are 0; each comes with places at which numbers may look at it.

    A number of mpmath's in place of an expression is a difference that only numbers were found for; None is one that
    not even these were found for.
    """
    numbers, undecided = [], 0
    for difference, places in differences():
        if isinstance(difference, sp.Expr):
            zero = is_zero(difference, *places)
            if zero is None:
                numbers.append(difference_from_zero(difference, *places))
        else:
            # A limit that was read off at a place nearby.
            numbers += [] if difference is None else [float(abs(difference))]
            zero = False if difference is not None and abs(difference) > 1e-8 else None
        if zero is False:
            return Check(name, statement, False)
        undecided += zero is None
        if undecided == _ENOUGH:
            break
    if not undecided:
        return Check(name, statement, True)
    told = f"; numbers of high precision differ by at most {max(numbers):.1e}" if numbers else ""
    return Check(name, statement, None, f"SymPy does not decide it{told}")


@dataclass(frozen=True)
class _Cell:
    """A set of (x, β), given by a point of it, in which the breakpoints keep their order."""

    x: sp.Expr
    beta: sp.Expr

    @property
    def places(self) -> tuple[dict[sp.Symbol, Any], ...]:
        return ({alpha: sp.Integer(0), beta: self.beta, x: self.x},)

    def value(self, expression: sp.Expr) -> sp.Expr:
        return expression.subs({alpha: 0, beta: self.beta, x: self.x})

    def order(self, expression: sp.Expr) -> float:
        return float(self.value(expression))


def _cells(base: Density, thresholds: tuple[sp.Expr, ...]) -> Iterator[_Cell]:
    edges = [edge for edge, _, _ in base._edges()]
    if not edges:
        yield _Cell(sp.Rational(1, 3), sp.Integer(1))
        return
    critical = {
        (b - a) / (d - c) for a, b in itertools.combinations(thresholds, 2) for c, d in itertools.combinations(edges, 2)
    }
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
    smooth = sp.Add(
        *(
            level * (value_at(p.pdf, b, "-") - value_at(p.pdf, a, "+"))
            for p, level, a, b in _stretches(law, levels, thresholds, cell)
        )
    )
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
        term = sp.Integer(1 if what == "cdf" and law.support[1] != sp.oo and place >= cell.order(law.support[1]) else 0)
        for piece in law._pieces:
            if (piece.lo == -sp.oo or cell.order(piece.lo) <= place) and (piece.hi == sp.oo or place < cell.order(piece.hi)):
                term = getattr(piece, what).subs(x, x - threshold)
        total += (high - low) * term
    return total


def _places_in(piece: Piece) -> tuple[dict[sp.Symbol, Any], ...]:
    """Where the standardised law's piece is, for α = 0 and β = 1."""
    low, high = (end.subs({alpha: 0, beta: 1}) for end in (piece.lo, piece.hi))
    points = probe_points(float(low), float(high))
    chosen = {points[len(points) // 3], points[len(points) // 2], points[2 * len(points) // 3]}
    return tuple({alpha: sp.Integer(0), beta: sp.Integer(1), x: sp.Rational(Fraction(v))} for v in sorted(chosen))


def _mass(base: Density) -> sp.Expr:
    try:
        return sp.Add(*(p.integral(p.lo, p.hi) for p in base._pieces))
    except Unknown:
        return sp.Float(sum(integral_of(p.pdf, p.lo, p.hi) for p in base._pieces), 25)


def _cdf_at(piece: Piece, point: sp.Expr, side: str) -> sp.Expr | Any:
    """The limit of the distribution function at an end of a piece: an expression, or a number of mpmath's."""
    try:
        return value_at(piece.cdf, point, side)
    except Unknown:
        return _cdf_by_numbers(piece, point)


def _cdf_by_numbers(piece: Piece, point: sp.Expr) -> Any:
    with mpmath.workdps(40):
        if point.is_finite is False:
            return real_values(piece.cdf)(mpmath.sign(float(point)) * mpmath.mpf(10) ** 12)
        inside = probe_points(float(piece.lo), float(piece.hi))
        return real_values(piece.cdf)(mpmath.mpf(sp.N(point, 40)), inside[len(inside) // 2])


def _gaps_of_cdf(base: Density) -> _Differences:
    for edge, left, right in base._edges():
        below = sp.Integer(0) if left is None else _cdf_at(left, edge, "-")
        above = sp.Integer(1) if right is None else _cdf_at(right, edge, "+")
        yield above - below, ()
    first, last = base._pieces[0], base._pieces[-1]
    yield _cdf_at(first, first.lo, "+"), ()
    yield _cdf_at(last, last.hi, "-") - 1, ()


def _one_sided_derivatives(base: Density) -> _Differences:
    step = sp.Symbol("h", positive=True)
    for edge, left, right in base._edges():
        here = sp.Integer(0) if left is None else _cdf_at(left, edge, "-")
        for piece, sign, side in ((right, 1, "+"), (left, -1, "-")):
            if piece is None:
                yield here - (1 if sign > 0 else 0), ()
                continue
            slope = edge_value(piece, edge, side)
            if slope.is_finite is False:
                yield sp.oo, ()
            there = piece.cdf.subs(x, edge + sign * step)
            try:
                if there.has(sp.Integral):
                    raise Unknown
                yield limit(sign * (there - here) / step, step, sp.Integer(0), "+") - slope, ()
            except Unknown:
                yield _quotient(piece, edge, sign) - mpmath.mpf(sp.N(slope, 25)), ()


def _quotient(piece: Piece, edge: sp.Expr, sign: int) -> Any:
    """A difference quotient of F next to an edge: the mean of f over a short way, by its values there."""
    with mpmath.workdps(60):
        place, step = mpmath.mpf(sp.N(edge, 60)), mpmath.mpf(10) ** -30
        return mpmath.quad(real_values(piece.pdf), [place, place + sign * step]) / (sign * step)


def _vanishing_noise(base: Density) -> _Differences:
    distance = sp.Symbol("d", positive=True)
    first, last = base._pieces[0], base._pieces[-1]
    for piece, end, sign, goal in ((first, first.lo, -1, 0), (last, last.hi, 1, 1)):
        if end.is_finite is False:
            try:
                if piece.cdf.has(sp.Integral):
                    yield value_at(piece.cdf, end, "") - goal, ()
                else:
                    yield limit(piece.cdf.subs(x, sign * distance / beta), beta, sp.Integer(0), "+") - goal, ()
            except Unknown:
                yield _cdf_by_numbers(piece, end) - goal, ()


def _peak_and_variation(base: Density) -> tuple[sp.Expr, sp.Expr]:
    """sup f and |Df|(ℝ): f is followed from one stationary point or edge to the next, jumps included."""
    heights: list[sp.Expr] = [sp.Integer(0)]
    for piece in base._pieces:
        heights.append(edge_value(piece, piece.lo, "+"))
        heights += _heights_between(piece)
        heights.append(edge_value(piece, piece.hi, "-"))
    heights.append(sp.Integer(0))
    peak = shortest(max(heights, key=lambda h: float(h) if h.is_finite is not False else math.inf))
    return peak, shortest(sp.Add(*(sp.Abs(b - a) for a, b in zip(heights, heights[1:]))))


def _heights_between(piece: Piece) -> list[sp.Expr]:
    """The values at the stationary points: exact, if as many are found as numbers show; else Floats."""
    points = attempt(_stationary_points, piece)
    numbers = _turning_heights(piece)
    if points is not None:
        exact = [piece.pdf.subs(x, point) for point in points]
        largest = attempt(lambda: max((float(h) for h in exact), default=-math.inf))
        if largest is not None and (not numbers or largest >= max(numbers) * (1 - 1e-6)):
            return exact
    return [sp.Float(height, 15) for height in numbers]


def _turning_heights(piece: Piece) -> list[float]:
    """The values at the turning points inside a piece, by a fine grid."""
    grid = np.sort(search_grid(float(piece.lo), float(piece.hi), 4001))
    values = as_numpy(piece.pdf)(grid)
    if not np.isfinite(values).all():
        return []
    turns = np.flatnonzero((values[1:-1] - values[:-2]) * (values[2:] - values[1:-1]) < 0) + 1
    turns = [i for i in turns if abs(values[i]) > 1e-12 * np.abs(values).max()]
    heights = []
    for i in turns:
        sign = 1 if values[i] > values[i - 1] else -1
        found = optimize.minimize_scalar(
            lambda v: -sign * float(as_numpy(piece.pdf)(v)),
            bounds=(grid[i - 1], grid[i + 1]),
            method="bounded",
            options={"xatol": 1e-12},
        )
        heights.append(-sign * found.fun)
    return heights


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
