"""Noise densities as SymPy expressions; distribution functions and moments follow by integration."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any

import mpmath
import numpy as np
import sympy as sp
from scipy import integrate

from anabook.symbolic._expressions import (
    affine_end, alpha, as_numpy, beta, checked_expression, exact_constant, exact_number, exact_value, integral_of,
    is_finite, probe_points, search_grid, shortest, sign_of, value_at, x,
)

if TYPE_CHECKING:
    from anabook.symbolic._density_noise import DensityNoise

_MASS_TOLERANCE = 1e-12


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
            and Heaviside of the variable are allowed.
        variable: the symbol in `expression` that stands for the noise's value. It is read as real, and all
            results are in `anabook.symbolic.x`.
        support: the ends (lo, hi), real or ∓oo, lo < hi.
        parameters: further symbols of the expression, declared real or positive as they are meant; or a
            mapping from symbol to the (low, high) that its value must lie in. For a density with parameters
            the sign and, if SymPy cannot decide it, the total mass are checked at a few values of them.

    Raises:
        TypeError: an expression, variable or parameter of another kind.
        ValueError: symbols that are not declared, a support that is not an interval, a negative value,
            a total mass other than 1.

    Example:
        >>> d = Density(sp.Rational(3, 4) * (1 - x**2), x, (-1, 1))
        >>> d.std
        sqrt(5)/5
    """

    expression: sp.Expr
    variable: sp.Symbol
    support: tuple[sp.Expr, sp.Expr] = (-sp.oo, sp.oo)
    parameters: tuple[sp.Symbol, ...] = ()
    _ranges: tuple[tuple[float, float], ...] = field(default=(), init=False, repr=False, compare=False)
    _pieces: tuple[Piece, ...] = field(default=(), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
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
        self._set(expression=expression.subs(variable, x), variable=x, support=support, parameters=parameters)
        self._set(_ranges=ranges)
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
        return _moment(self, x)

    @cached_property
    def std(self) -> sp.Expr:
        """The standard deviation: exact where SymPy finds it, else a Float; oo or nan where there is none."""
        if not is_finite(self.mean):
            return sp.nan if self.mean is sp.nan else sp.oo
        return shortest(sp.sqrt(_moment(self, (x - self.mean) ** 2)))

    @property
    def jumps(self) -> tuple[tuple[sp.Expr, sp.Expr], ...]:
        """Where the density jumps: pairs (position, right-hand minus left-hand value), inner and outer edges."""
        found = []
        for edge, left, right in self._edges():
            below = sp.Integer(0) if left is None else value_at(left.pdf, edge, "-")
            above = sp.Integer(0) if right is None else value_at(right.pdf, edge, "+")
            height = sp.simplify(above - below)
            if height != 0:
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

    def noise(self, mean: Any = None, std: Any = None) -> DensityNoise:
        """The density as a noise that computes with arrays, for `Regularisation`.

        Args:
            mean: the mean α wanted; None keeps the density's own.
            std: the standard deviation β ≥ 0 wanted (0 is the Dirac limit); None keeps the density's own.

        Raises:
            ValueError: parameters without values; a mean or std asked of a density that has none.
        """
        from anabook.symbolic._density_noise import DensityNoise

        return DensityNoise(self, mean, std)

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


def _smooth_pieces(expression: sp.Expr, low: sp.Expr, high: sp.Expr) -> list[tuple[sp.Expr, sp.Expr, sp.Expr]]:
    """Cut the support where the expression changes its form; on each part, the expression without case distinctions."""
    breaks: list[sp.Expr] = []
    for candidate in _break_candidates(expression):
        if sign_of(candidate - low, candidate) <= 0 or sign_of(high - candidate, candidate) <= 0:
            continue
        if not any(sign_of(candidate - b, candidate) == 0 for b in breaks):
            breaks.append(candidate)
    ordered: list[sp.Expr] = []
    for candidate in breaks:
        place = sum(sign_of(candidate - b, candidate) > 0 for b in ordered)
        ordered.insert(place, candidate)
    ends = [low, *ordered, high]
    return [(a, b, _resolved(expression, _inside(a, b))) for a, b in zip(ends, ends[1:])]


def _break_candidates(expression: sp.Expr) -> list[sp.Expr]:
    zeros: list[sp.Expr] = []
    for node in expression.atoms(sp.core.relational.Relational):
        if isinstance(node, (sp.Eq, sp.Ne)):
            raise ValueError(f"the density treats single points apart ({node}), which carry no mass; use inequalities.")
        zeros.append(node.lhs - node.rhs)
    for node in expression.atoms(sp.Abs, sp.sign, sp.Heaviside):
        zeros.append(node.args[0])
    for node in expression.atoms(sp.Max, sp.Min):
        zeros += [a - b for a, b in itertools.combinations(node.args, 2)]
    found: list[sp.Expr] = []
    for zero in zeros:
        if zero.has(x):
            found += [s for s in sp.solve(zero, x) if s.is_real]
    return list(dict.fromkeys(found))


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
            if sp.simplify(condition.subs(x, point)) == sp.true:
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
    antiderivatives = [_antiderivative(f, low, high, density) for low, high, f in smooth]
    masses = [_definite(f, g, low, high) for (low, high, f), g in zip(smooth, antiderivatives)]
    _check_mass(sp.Add(*masses), density, smooth)
    pieces = []
    for number, ((low, high, f), g) in enumerate(zip(smooth, antiderivatives)):
        below, above = sp.Add(*masses[:number]), sp.Add(*masses[number + 1:])
        if g is None:
            s = sp.Dummy("s", real=True)
            up = below + sp.Integral(f.subs(x, s), (s, low, x))
            down = above + sp.Integral(f.subs(x, s), (s, x, high))
            g = sp.Integral(f.subs(x, s), (s, low, x))
        else:
            up = shortest(below + g - value_at(g, low, "+"))
            down = shortest(above + value_at(g, high, "-") - g)
            if sp.Add(*masses) == 1:
                up, down = shortest(up, 1 - down), shortest(down, 1 - up)
        pieces.append(Piece(low, high, f, g, up, down))
    return tuple(pieces)


def _antiderivative(f: sp.Expr, low: sp.Expr, high: sp.Expr, density: Density) -> sp.Expr | None:
    """SymPy's antiderivative, if it is one without jumps; None if there is none to be had."""
    g = sp.integrate(f, x)
    if g.has(sp.Integral, sp.Piecewise):
        return None
    try:
        value_at(g, low, "+"), value_at(g, high, "-")
    except NotImplementedError:
        if not density.parameters:
            return None
        listing = ", ".join(map(str, density.parameters))
        raise ValueError(f"SymPy cannot integrate {f} up to its ends without knowing more about {listing}; "
                         "declare the parameters positive if they are.") from None
    for values in _parameter_samples(density):
        a, b = (float(end.subs(values)) for end in (low, high))
        points = probe_points(a, b)
        middle = [points[len(points) // 4], points[len(points) // 2], points[3 * len(points) // 4]]
        function, whole = as_numpy(f.subs(values)), sp.lambdify(x, g.subs(values), modules="mpmath")
        for start, stop in zip(middle, middle[1:]):
            expected = integrate.quad(function, start, stop, limit=200)[0]
            found = complex(whole(mpmath.mpf(stop)) - whole(mpmath.mpf(start)))
            if not abs(found - expected) < 1e-6 * max(1.0, abs(expected)):
                return None
    return g


def _definite(f: sp.Expr, g: sp.Expr | None, low: sp.Expr, high: sp.Expr) -> sp.Expr:
    if g is not None:
        value = sp.simplify(value_at(g, high, "-") - value_at(g, low, "+"))
        if not value.has(sp.Limit, sp.nan, sp.zoo):
            return value
    if (f.free_symbols | low.free_symbols | high.free_symbols) <= {x}:
        return sp.Float(integral_of(f, low, high), 30)
    return sp.Integral(f, (x, low, high))


def _moment(density: Density, weight: sp.Expr) -> sp.Expr:
    """∫ weight·f, with the parts to the left and right of 0 kept apart: both infinite means that it does not exist."""
    halves = {-1: sp.Integer(0), 1: sp.Integer(0)}
    for piece in density._pieces:
        for low, high in _split_at_zero(piece.lo, piece.hi):
            halves[1 if high == sp.oo or low == 0 else -1] += _part_of_moment(weight * piece.pdf, low, high)
    if all(not is_finite(half) for half in halves.values()):
        return sp.oo if halves[-1] == halves[1] == sp.oo else sp.nan
    total = halves[-1] + halves[1]
    return sp.N(total, 25) if total.has(sp.Float) else shortest(sp.simplify(total))


def _split_at_zero(low: sp.Expr, high: sp.Expr) -> list[tuple[sp.Expr, sp.Expr]]:
    if low == -sp.oo and high == sp.oo:
        return [(low, sp.Integer(0)), (sp.Integer(0), high)]
    return [(low, high)]


def _part_of_moment(integrand: sp.Expr, low: sp.Expr, high: sp.Expr) -> sp.Expr:
    g = sp.integrate(sp.expand(integrand), x)
    if not g.has(sp.Integral, sp.Piecewise):
        try:
            value = sp.simplify(value_at(g, high, "-") - value_at(g, low, "+"))
        except NotImplementedError:
            value = sp.nan
        if not value.has(sp.nan, sp.zoo, sp.Limit) and value.is_extended_real is not False:
            return value
    if integrand.free_symbols <= {x}:
        return sp.Float(integral_of(integrand, low, high), 25)
    return sp.integrate(integrand, (x, low, high))


def _parameters(given: Any) -> tuple[tuple[sp.Symbol, ...], tuple[tuple[float, float], ...]]:
    if isinstance(given, sp.Symbol):
        given = (given,)
    ranges = dict(given) if isinstance(given, Mapping) else {symbol: None for symbol in given}
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
    ordered = sp.simplify(high - low).is_extended_positive
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
    compiled = sp.lambdify(x, f, modules=["scipy", "numpy"])
    with np.errstate(all="ignore"):
        values = np.broadcast_to(np.asarray(compiled(points)), points.shape)
    bad = np.flatnonzero(~np.isfinite(values) | (np.abs(np.imag(values)) > 0))
    exact = _precise_complex(f)
    for i in bad:
        value = exact(points[i])
        if not mpmath.isfinite(value) or abs(mpmath.im(value)) > 1e-12 * (1 + abs(value)):
            return float(points[i]), None
    usable = np.where(np.isfinite(values), np.real(values), math.inf).astype(float)
    i = int(np.argmin(usable))
    if usable[i] >= -1e-12 * np.max(np.abs(usable[np.isfinite(usable)]), initial=1e-300):
        i, value = _refined(exact, points, usable)
        return value if value[1] < -1e-12 else (float(points[i]), 0.0)
    return float(points[i]), float(mpmath.re(exact(points[i])))


def _refined(exact: Callable, points: np.ndarray, values: np.ndarray) -> tuple[int, tuple[float, float]]:
    """A closer look around the smallest values of the grid: a golden-section search between its neighbours."""
    i = int(np.clip(np.argmin(values), 1, len(values) - 2))
    a, b = float(points[i - 1]), float(points[i + 1])
    for _ in range(40):
        c, d = b - 0.6180339887 * (b - a), a + 0.6180339887 * (b - a)
        if mpmath.re(exact(c)) < mpmath.re(exact(d)):
            b = d
        else:
            a = c
    return i, ((a + b) / 2, float(mpmath.re(exact((a + b) / 2))))


def _precise_complex(f: sp.Expr) -> Callable[[float], Any]:
    function = sp.lambdify(x, f, modules="mpmath")

    def value(v: float) -> Any:
        try:
            return mpmath.mpc(function(mpmath.mpf(float(v))))
        except (ZeroDivisionError, ValueError):
            return mpmath.mpc(mpmath.nan)

    return value


def _check_mass(mass: sp.Expr, density: Density, smooth: list[tuple[sp.Expr, sp.Expr, sp.Expr]]) -> None:
    if sp.simplify(mass - 1) == 0:
        return
    for values in _parameter_samples(density):
        total = sum(integral_of(f.subs(values), low.subs(values), high.subs(values)) for low, high, f in smooth)
        where = "".join(f" at {s} = {v}" for s, v in values.items())
        if mass.has(sp.oo, sp.nan) or not abs(total - 1) < _MASS_TOLERANCE:
            shown = mass if mass.is_number and not mass.has(sp.Float) else mpmath.nstr(total, 10)
            shown = "infinity" if mass.has(sp.oo, sp.nan) else shown
            raise ValueError(f"a density must integrate to 1 over its support, but its total mass is {shown}{where}.")


def smallest_value(base: Density) -> float:
    return min(_lowest(p.pdf, p.lo, p.hi)[1] or 0.0 for p in base._pieces)
