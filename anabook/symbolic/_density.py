"""Noise densities as SymPy expressions; distribution functions and moments follow by integration."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import sympy as sp

from anabook.laws import Law
from anabook.noise import Noise
from anabook.symbolic._bounded import allowance, attempt
from anabook.symbolic._density_checks import check_values
from anabook.symbolic._density_noise import law_of
from anabook.symbolic._expressions import (
    checked_expression,
    exact_constant,
    exact_number,
    exact_value,
    is_finite,
    shortest,
    simplified,
)
from anabook.symbolic._integrals import integrated, moment
from anabook.symbolic._pieces import Piece, edge_value, smooth_pieces
from anabook.symbolic._symbols import alpha, beta, x

# Steps that SymPy may take to build a density, and for each moment.
_STEPS, _MOMENT = 700_000, 350_000


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
            smooth = smooth_pieces(self.expression, *support)
            check_values(self, smooth)
            self._set(_pieces=integrated(self, smooth))

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
            return moment(self, x)

    @cached_property
    def std(self) -> sp.Expr:
        """The standard deviation: exact where SymPy finds it, else a Float; oo or nan where there is none."""
        if not is_finite(self.mean):
            return sp.nan if self.mean is sp.nan else sp.oo
        with allowance(_MOMENT):
            return shortest(sp.sqrt(moment(self, (x - self.mean) ** 2)))

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
            expression=self.expression.subs(x, (x - location) / scale) / scale,
            variable=x,
            support=(pieces[0].lo, pieces[-1].hi),
            parameters=(*self.parameters, *symbols),
            _ranges=(*self._ranges, *_parameters(symbols)[1]),
            _pieces=pieces,
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
