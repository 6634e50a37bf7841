"""Noise densities as SymPy expressions; distribution functions and moments follow by integration."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any

import mpmath
import numpy as np
import sympy as sp
from scipy import integrate

from anabook.noise import Noise
from anabook.symbolic._bounded import allowance, attempt
from anabook.symbolic._expressions import (
    Unknown,
    affine_end,
    alpha,
    as_numpy,
    beta,
    checked_expression,
    evaluator,
    exact_constant,
    exact_number,
    exact_value,
    gaussian_antiderivative,
    integral_of,
    is_even,
    is_finite,
    known_integral,
    probe_points,
    real_values,
    search_grid,
    shortest,
    sign_of,
    simplified,
    value_at,
    x,
)

if TYPE_CHECKING:
    from anabook.laws import Law

_MASS_TOLERANCE = 1e-12
# Steps that SymPy may take to build a density, for one antiderivative in it, and for each moment.
_STEPS, _ANTIDERIVATIVE, _MOMENT = 700_000, 250_000, 350_000


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
            affine_end(self.lo, location, scale), affine_end(self.hi, location, scale), moved(self.pdf) / scale,
            moved(self.antiderivative), moved(self.cdf), moved(self.sf),
        )


@dataclass(frozen=True)
class Density:
    """A noise density given as a SymPy expression, with everything that follows from it.

    Args:
        expression: the density f on its support; outside it is taken as 0. Piecewise, Abs, Min, Max, sign
            and Heaviside of the variable are allowed. A float stands for the simplest fraction near it, or else for
            its shortest decimal; where such numbers leave a total mass that is 1 up to roundings (1e-12), the density
            is divided by it. A continuous random variable of `sympy.stats` brings its variable and support along.
        variable: the symbol in `expression` that stands for the noise's value. It is read as real, and all
            results are in `anabook.symbolic.x`.
        support: the ends (lo, hi), real or ∓oo, lo < hi.
        parameters: further symbols of the expression, declared real or positive as they are meant; or a
            mapping from symbol to the (low, high) that its value must lie in. For a density with parameters
            the sign and, if SymPy cannot decide it, the total mass are checked at a few values of them.

    What SymPy does not find in a few seconds is found by numbers: the distribution function then stays an integral
    that is tabulated for use, and moments are Floats.

    Raises:
        TypeError: an expression, variable or parameter of another kind.
        ValueError: symbols that are not declared, a support that is not an interval, a negative value,
            a total mass other than 1; parameters, where SymPy finds no integral.

    Example:
        >>> d = Density(sp.Rational(3, 4) * (1 - x**2), x, (-1, 1))
        >>> d.std
        sqrt(5)/5
    """

    expression: sp.Expr
    variable: sp.Symbol | None = None
    support: tuple[sp.Expr, sp.Expr] = (-sp.oo, sp.oo)
    parameters: tuple[sp.Symbol, ...] = ()
    _ranges: tuple[tuple[float, float], ...] = field(default=(), init=False, repr=False, compare=False)
    _pieces: tuple[Piece, ...] = field(default=(), init=False, repr=False, compare=False)
    _rounded: bool = field(default=False, init=False, repr=False, compare=False)  # whether floats came in
    _by_numbers: bool = field(default=False, init=False, repr=False, compare=False)  # whether the mean did

    def __post_init__(self) -> None:
        if _is_random(self.expression):
            self._set(**_of_random_variable(self))
        variable, (parameters, ranges) = self.variable, _parameters(self.parameters)
        if not isinstance(variable, sp.Symbol):
            raise TypeError(f"variable must be a SymPy symbol, not {variable!r}.")
        if variable in parameters or x in parameters:
            name = variable if variable in parameters else x
            raise ValueError(f"{name} is the variable, so it cannot be a parameter too.")
        expression = checked_expression(self.expression, "the density")
        support = _interval(self.support, parameters)
        foreign = sorted((expression.free_symbols - {variable, *parameters}), key=str)
        if foreign:
            raise ValueError(
                f"the density contains {', '.join(map(str, foreign))}, which is neither its variable {variable} "
                f"nor among its parameters ({', '.join(map(str, parameters)) or 'none declared'})."
            )
        if expression.has(sp.DiracDelta):
            raise ValueError(f"a density has no point masses, but {expression} contains a DiracDelta.")
        if expression.has(sp.oo, -sp.oo, sp.zoo, sp.nan):
            raise ValueError(f"the density must be a finite expression, not {expression}.")
        rounded = isinstance(self.expression, (float, np.floating)) or sp.sympify(self.expression).has(sp.Float)
        self._set(expression=expression.subs(variable, x), variable=x, support=support, parameters=parameters)
        self._set(_ranges=ranges, _rounded=rounded)
        with allowance(_STEPS):
            smooth = _smooth_pieces(self.expression, *support)
            _check_values(self, smooth)
            self._set(_pieces=_integrated(self, smooth))

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def pdf(self) -> sp.Expr:
        """The density as an expression in `x` on the whole line. At a jump it has its right-hand value."""
        return self._spread("pdf", sp.Integer(0), sp.Integer(0))

    @property
    def cdf(self) -> sp.Expr:
        """P(ν ≤ x), the integral of the density from the left end of its support."""
        return self._spread("cdf", sp.Integer(0), sp.Integer(1))

    @property
    def sf(self) -> sp.Expr:
        """P(ν > x), the integral of the density up to the right end of its support."""
        return self._spread("sf", sp.Integer(1), sp.Integer(0))

    @cached_property
    def mean(self) -> sp.Expr:
        """∫ t f(t) dt: exact where SymPy finds it, else a Float; oo or −oo; nan where it does not exist."""
        with allowance(_MOMENT):
            return _moment(self, x)

    @cached_property
    def std(self) -> sp.Expr:
        """The standard deviation: exact where SymPy finds it, else a Float; oo or nan where there is none."""
        if not is_finite(self.mean):
            return sp.nan if self.mean is sp.nan else sp.oo
        with allowance(_MOMENT):
            return shortest(sp.sqrt(_moment(self, (x - self.mean) ** 2)))

    @property
    def jumps(self) -> tuple[tuple[sp.Expr, sp.Expr], ...]:
        """Where the density jumps: pairs (position, right-hand minus left-hand value), inner and outer edges."""
        found = []
        for edge, left, right in self._edges():
            below = sp.Integer(0) if left is None else edge_value(left, edge, "-")
            above = sp.Integer(0) if right is None else edge_value(right, edge, "+")
            height = simplified(above - below)
            if height != 0 and not (height.is_Float and abs(height) < 1e-20):
                found.append((edge, height))
        return tuple(found)

    def subs(self, values: Mapping[sp.Symbol, Any]) -> Density:
        """The density with some of its parameters replaced by numbers.

        Raises:
            ValueError: a symbol that is not a parameter, or a value outside its range.
        """
        exact: dict[sp.Symbol, sp.Expr] = {}
        for symbol, value in values.items():
            if symbol not in self.parameters:
                allowed = ", ".join(map(str, self.parameters)) or "none"
                raise ValueError(f"{symbol} is not a parameter of this density (it has {allowed}).")
            low, high = self._ranges[self.parameters.index(symbol)]
            exact[symbol] = exact_number(value, str(symbol))
            if not low <= float(exact[symbol]) <= high:
                raise ValueError(f"{symbol} must lie in [{low:g}, {high:g}], not {value!r}.")
        left = {s: r for s, r in zip(self.parameters, self._ranges) if s not in exact}
        return Density(self.expression.subs(exact), x, tuple(end.subs(exact) for end in self.support), left)

    def located(self, mean: Any = alpha, std: Any = beta) -> Density:
        """The density of the same shape with another mean and standard deviation.

        Args:
            mean: a number or an expression.
            std: a positive number or an expression that is positive by its symbols' assumptions.

        Raises:
            ValueError: this density has no finite mean and standard deviation.
        """
        if not (is_finite(self.mean) and is_finite(self.std)):
            raise ValueError(
                f"a density with mean {self.mean} and standard deviation {self.std} cannot be given others; "
                "shift and scale its expression instead."
            )
        mean, std = exact_constant(mean, "mean"), exact_constant(std, "std")
        if not std.is_positive:
            raise ValueError(f"std must be positive, or a symbol declared positive, not {std}.")
        scale = std / self.std
        moved = self._affine_image(mean - scale * self.mean, scale)
        moved._set(mean=mean, std=std)
        return moved

    def placed_law(self) -> tuple[Law, float, float]:
        """The density as a law, with its mean and its standard deviation, as floats; NaN or inf where there are none.

        Raises:
            ValueError: parameters without values.
        """
        from anabook.symbolic._density_noise import law_of

        law = law_of(self)
        return law, law.mean, law.std

    def noise(self, mean: Any = None, std: Any = None) -> Noise:
        """The density as a noise that computes with arrays, for `Regularisation`.

        Args:
            mean: the mean α wanted; None keeps the density's own.
            std: the standard deviation β ≥ 0 wanted (0 is the Dirac limit); None keeps the density's own.

        Raises:
            ValueError: parameters without values; a mean or std asked of a density that has none.
        """
        return Noise(self, mean, std)

    def _affine_image(self, location: sp.Expr, scale: sp.Expr) -> Density:
        image = object.__new__(Density)
        pieces = tuple(piece.mapped(location, scale) for piece in self._pieces)
        symbols = sorted((location.free_symbols | scale.free_symbols) - set(self.parameters), key=str)
        image._set(
            expression=self.expression.subs(x, (x - location) / scale) / scale, variable=x,
            support=(pieces[0].lo, pieces[-1].hi), parameters=(*self.parameters, *symbols),
            _ranges=(*self._ranges, *_parameters(symbols)[1]), _pieces=pieces,
        )
        return image

    def _edges(self) -> Iterator[tuple[sp.Expr, Piece | None, Piece | None]]:
        """The finite ends of the pieces in order, each with the piece to its left and to its right."""
        neighbours = [None, *self._pieces, None]
        for left, right in zip(neighbours[:-1], neighbours[1:]):
            edge = left.hi if right is None else right.lo
            if edge.is_finite is not False:
                yield edge, left, right

    def _spread(self, what: str, before: sp.Expr, after: sp.Expr, shift: sp.Expr = sp.Integer(0)) -> sp.Expr:
        """One of the pieces' functions on the whole line, its graph moved to the right by `shift`."""
        branches = [] if self._pieces[0].lo == -sp.oo else [(before, x < self._pieces[0].lo + shift)]
        for piece in self._pieces:
            value = getattr(piece, what).subs(x, x - shift)
            branches.append((value, sp.true if piece.hi == sp.oo else x < piece.hi + shift))
        return sp.Piecewise(*branches, (after, True))


def edge_value(piece: Piece, edge: sp.Expr, side: str) -> sp.Expr:
    """The density's limit at an edge of a piece, "-" from the left: by SymPy, or else a Float or oo."""
    try:
        return value_at(piece.pdf, edge, side)
    except Unknown:
        pass
    if not edge.is_number or piece.pdf.free_symbols > {x}:
        raise ValueError(f"SymPy does not find the limit of the density {piece.pdf} at {edge}; give its parameters values "
                         "by subs first.")
    with mpmath.workdps(40):
        if edge.is_finite is False:
            value = real_values(piece.pdf)(mpmath.sign(float(edge)) * mpmath.mpf(10) ** 8)
            return sp.Integer(0) if abs(value) < 1e-6 else sp.Float(value)
        inside = float(_inside(piece.lo, piece.hi))
        value = real_values(piece.pdf)(mpmath.mpf(sp.N(edge, 40)), inside)
    return sp.oo if value == mpmath.inf else sp.Float(value, 25)


def _is_random(value: Any) -> bool:
    random = sys.modules.get("sympy.stats.rv")  # without it there are none
    return random is not None and isinstance(value, sp.Expr) and value.has(random.RandomSymbol)


def _of_random_variable(density: Density) -> dict[str, Any]:
    """Expression, variable and support of a continuous random variable."""
    from sympy.stats.crv import SingleContinuousDistribution
    from sympy.stats.rv import RandomSymbol

    variable = density.expression
    if not isinstance(variable, RandomSymbol):
        raise ValueError(f"a density is made of a random variable itself or of a formula, not of {variable}.")
    law = getattr(variable.pspace, "distribution", None)
    if not isinstance(law, SingleContinuousDistribution):
        raise ValueError(f"{variable} is not a continuous random variable with a density of its own.")
    if density.support != (-sp.oo, sp.oo):
        raise ValueError(f"a random variable brings its own support, so leave out {density.support}.")
    law = law.func(*(exact_value(a) if isinstance(a, sp.Expr) else a for a in law.args))
    domain = law.set
    if not isinstance(domain, sp.Interval):
        raise ValueError(f"the values of {variable} must be an interval, not {domain}.")
    formula = attempt(lambda: law.pdf(x))
    if formula is None:
        raise ValueError(f"SymPy knows no density of {variable}.")
    # The formula holds on the interval, so that its own case distinction says nothing new.
    if isinstance(formula, sp.Piecewise) and len(formula.args) == 2 and formula.args[1][0] == 0:
        ends = {x - end for end in domain.args[:2]}
        relations = formula.args[0][1].atoms(sp.core.relational.Relational)
        if all(ends & {r.lhs - r.rhs, r.rhs - r.lhs} for r in relations):
            formula = formula.args[0][0]
    return {"expression": formula, "variable": x, "support": (domain.start, domain.end)}


def _smooth_pieces(expression: sp.Expr, low: sp.Expr, high: sp.Expr) -> list[tuple[sp.Expr, sp.Expr, sp.Expr]]:
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
    pieces = [(a, b, _resolved(expression, _inside(a, b))) for a, b in zip(ends, ends[1:])]
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
            raise ValueError(f"SymPy does not find all places where {expression} changes its form (one is near "
                             f"{grid[np.flatnonzero(far)[0]]:.6g}); write it as a Piecewise.")


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


def _inside(low: sp.Expr, high: sp.Expr) -> sp.Expr:
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


def _integrated(density: Density, smooth: list[tuple[sp.Expr, sp.Expr, sp.Expr]]) -> tuple[Piece, ...]:
    """Integrate piece by piece; check the total mass; assemble distribution function and upper tail."""
    found = [_antiderivative(f, low, high, density) for low, high, f in smooth]
    masses = [_definite(f, g, low, high) for (low, high, f), g in zip(smooth, found)]
    total = sp.Add(*masses)
    if _check_mass(total, density, smooth):
        # Numbers that were rounded once, 1/√(2π) for example: without this the distribution function would not end at 1.
        total = sp.Rational(str(total)) if total.has(sp.Float) else total
        density._set(expression=_divided(density.expression, total))
        smooth = [(low, high, _divided(f, total)) for low, high, f in smooth]
        found = [_divided_antiderivative(g, total, piece, density) for g, piece in zip(found, smooth)]
        masses = [simplified(mass / total) for mass in masses] if len(masses) > 1 else [sp.Integer(1)]
    pieces = []
    for number, ((low, high, f), g) in enumerate(zip(smooth, found)):
        below, above = sp.Add(*masses[:number]), sp.Add(*masses[number + 1:])
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
    g: _Antiderivative | None, total: sp.Expr, piece: tuple[sp.Expr, sp.Expr, sp.Expr], density: Density
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


def _antiderivative(f: sp.Expr, low: sp.Expr, high: sp.Expr, density: Density) -> _Antiderivative | None:
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
        raise ValueError(f"SymPy cannot integrate {f} up to its ends without knowing more about {listing}; "
                         "declare the parameters positive if they are.") from None
    for values in _parameter_samples(density):
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


def _moment(density: Density, weight: sp.Expr) -> sp.Expr:
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
        raise ValueError(f"SymPy does not find the integral of {integrand} from {low} to {high}; give the parameters values "
                         "by subs first.")
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


def _parameters(given: Any) -> tuple[tuple[sp.Symbol, ...], tuple[tuple[float, float], ...]]:
    if isinstance(given, sp.Symbol):
        given = (given,)
    ranges = dict(given) if isinstance(given, Mapping) else dict.fromkeys(given)
    for symbol in ranges:
        if not isinstance(symbol, sp.Symbol):
            raise TypeError(f"parameters must be SymPy symbols, not {symbol!r}.")
        if ranges[symbol] is None:
            low = 0.0 if symbol.is_nonnegative else -math.inf
            ranges[symbol] = (low, 0.0 if symbol.is_nonpositive else math.inf)
        low, high = map(float, ranges[symbol])
        if not low < high:
            raise ValueError(f"the range of {symbol} must be (low, high) with low < high, not {ranges[symbol]!r}.")
        ranges[symbol] = (low, high)
    return tuple(ranges), tuple(ranges.values())


def _interval(given: Any, parameters: tuple[sp.Symbol, ...]) -> tuple[sp.Expr, sp.Expr]:
    try:
        low, high = given
        low, high = exact_value(low), exact_value(high)
    except (TypeError, ValueError):
        raise ValueError(f"support must be a pair (lo, hi) of real ends with lo < hi, not {given!r}.") from None
    stray = (low.free_symbols | high.free_symbols) - set(parameters)
    ordered = simplified(high - low).is_extended_positive
    if stray or not ordered or not (low.is_extended_real and high.is_extended_real) or low == sp.oo or high == -sp.oo:
        raise ValueError(f"support must be a pair (lo, hi) of real ends with lo < hi, not ({low}, {high}).")
    return low, high


def _parameter_samples(density: Density) -> list[dict[sp.Symbol, sp.Expr]]:
    """A few values of the parameters, inside their ranges; one empty choice if there are none."""
    if not density.parameters:
        return [{}]
    samples = []
    for fraction in (0.25, 0.5, 0.8):
        values = {}
        for number, (symbol, (low, high)) in enumerate(zip(density.parameters, density._ranges)):
            share = fraction + 0.03 * number
            if math.isinf(low) and math.isinf(high):
                value = math.tan(math.pi * (share - 0.45))
            elif math.isinf(high):
                value = low + share / (1 - share)
            else:
                value = high - (1 - share) / share if math.isinf(low) else low + share * (high - low)
            rational = sp.Rational(Fraction(value).limit_denominator(50))
            values[symbol] = sp.Max(1, sp.floor(rational)) if symbol.is_integer else rational
        samples.append(values)
    return samples


def _check_values(density: Density, smooth: list[tuple[sp.Expr, sp.Expr, sp.Expr]]) -> None:
    for values in _parameter_samples(density):
        for low, high, f in smooth:
            point, value = _lowest(f.subs(values), low.subs(values), high.subs(values))
            where = "".join(f", {s} = {v}" for s, v in values.items())
            if value is None:
                raise ValueError(f"a density must be a real number on its support, but is not at {point:.6g}{where}.")
            if value < 0:
                raise ValueError(f"a density must not be negative, but this one is {value:.6g} at {point:.6g}{where}.")


def _lowest(f: sp.Expr, low: sp.Expr, high: sp.Expr) -> tuple[float, float | None]:
    """Where a numerical search finds the smallest value of f, and that value (0 if only rounding makes it negative)."""
    points = search_grid(float(low), float(high))
    values = as_numpy(f)(points)
    exact = real_values(f)
    with np.errstate(all="ignore"):
        bad = np.flatnonzero(~np.isfinite(values))
    for i in bad:
        # A pole is allowed, as long as the mass is finite; doubles may also have overflowed.
        value = exact(points[i])
        if mpmath.isnan(value) or value == -mpmath.inf:
            return float(points[i]), None
        values[i] = float(value)
    usable = np.where(np.isfinite(values), values, math.inf)
    i = int(np.argmin(usable))
    if usable[i] >= -1e-12 * np.max(np.abs(usable[np.isfinite(usable)]), initial=1e-300):
        i, value = _refined(exact, points, usable)
        return value if value[1] < -1e-12 else (float(points[i]), 0.0)
    return float(points[i]), float(exact(points[i]))


def _refined(exact: Callable, points: np.ndarray, values: np.ndarray) -> tuple[int, tuple[float, float]]:
    """A closer look around the smallest values of the grid: a golden-section search between its neighbours."""
    i = int(np.clip(np.argmin(values), 1, len(values) - 2))
    a, b = float(points[i - 1]), float(points[i + 1])
    for _ in range(40):
        c, d = b - 0.6180339887 * (b - a), a + 0.6180339887 * (b - a)
        if exact(c) < exact(d):
            b = d
        else:
            a = c
    return i, ((a + b) / 2, float(exact((a + b) / 2)))


def _check_mass(mass: sp.Expr, density: Density, smooth: list[tuple[sp.Expr, sp.Expr, sp.Expr]]) -> bool:
    """Whether the mass is only nearly 1.

    Raises:
        ValueError: it is not even nearly 1.
    """
    if attempt(lambda: sp.simplify(mass - 1)) == 0:
        return False
    total = 1
    for values in _parameter_samples(density):
        total = _number(mass, values)
        if total is None:
            total = sum(integral_of(f.subs(values), low.subs(values), high.subs(values)) for low, high, f in smooth)
        where = "".join(f" at {s} = {v}" for s, v in values.items())
        if mass.has(sp.oo, sp.nan) or not abs(total - 1) < _MASS_TOLERANCE:
            exact = mass.is_number and not density._rounded and not mass.has(sp.Float, sp.Function) and len(str(mass)) < 20
            shown = mass if exact else _decimal(total)
            shown = "infinity" if mass.has(sp.oo, sp.nan) or mpmath.isinf(total) else shown
            raise ValueError(f"a density must integrate to 1 over its support, but its total mass is {shown}{where}.")
    return not density.parameters and abs(total - 1) > 1e-22


def _number(mass: sp.Expr, values: dict[sp.Symbol, sp.Expr]) -> Any:
    """The mass with 50 digits, or None where it has no closed form (or is not real)."""
    if mass.has(sp.Integral, sp.oo, sp.nan):
        return None
    with mpmath.workdps(50):
        number = evaluator(mass.subs(values))(0)
        return number if isinstance(number, mpmath.mpf) and mpmath.isfinite(number) else None


def _decimal(number: Any) -> str:
    """Ten digits, or as many as it takes to tell the number from 1."""
    return next(text for digits in range(10, 31) if float(text := mpmath.nstr(number, digits)) != 1 or digits == 30)


def smallest_value(base: Density) -> float:
    return min(_lowest(p.pdf, p.lo, p.hi)[1] or 0.0 for p in base._pieces)
