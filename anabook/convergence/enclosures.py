"""Formulas near λ = 0+ between two others whose order is known: interval arithmetic with orders of growth.

The sums of `orders` are totally ordered near 0, so that they can be the ends of intervals. An oscillating sine lies in
[−1, 1], ⌊x⌋ in [x − 1, x], and a function of something that tends to c lies between its Taylor polynomial at c minus and plus
a multiple of the first term left out. What comes out holds for all small λ: where both ends have the same limit, that is the
limit; where both are positive, so is the formula.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import sympy as sp

from anabook.convergence.constants import compare
from anabook.convergence.orders import LAMBDA, ONE, NotOfThisForm, Sum, constant, parse

_TERMS = 8  # of a sum; the rest goes into the distance of the ends
_ORDER = 5  # of Taylor polynomials
_HALF = sp.Rational(1, 2)


@dataclass(frozen=True)
class Enclosure:
    """low ≤ formula ≤ high for all small λ."""

    low: Sum
    high: Sum

    def __iter__(self) -> Iterator[Sum]:
        return iter((self.low, self.high))

    @property
    def limits(self) -> tuple[sp.Expr, sp.Expr]:
        """Of its ends."""
        return self.low.limit(), self.high.limit()

    def sign(self) -> int | None:
        """The formula's sign for all small λ; None if the ends do not tell."""
        signs = self.low.sign(), self.high.sign()
        return signs[0] if signs[0] == signs[1] else None

    def __add__(self, other: Enclosure) -> Enclosure:
        return _cut(self.low + other.low, self.high + other.high)

    def __neg__(self) -> Enclosure:
        return Enclosure(self.high.scaled(-ONE), self.low.scaled(-ONE))

    def __mul__(self, other: Enclosure) -> Enclosure:
        ends = [a * b for a in dict.fromkeys(self) for b in dict.fromkeys(other)]
        return _cut(min_of(ends), max_of(ends))


def min_of(sums: list[Sum]) -> Sum:
    """The one that is smallest for all small λ."""
    least = sums[0]
    for each in sums[1:]:
        if (each + least.scaled(-ONE)).sign() < 0:
            least = each
    return least


def max_of(sums: list[Sum]) -> Sum:
    """The one that is largest for all small λ."""
    return min_of([each.scaled(-ONE) for each in sums]).scaled(-ONE)


def number(value: sp.Expr) -> Enclosure:
    """A constant."""
    return Enclosure(constant(value), constant(value))


def between(low: sp.Expr, high: sp.Expr) -> Enclosure:
    """Anything between two constants."""
    return Enclosure(constant(sp.sympify(low)), constant(sp.sympify(high)))


def _cut(low: Sum, high: Sum) -> Enclosure:
    """Short sums: beyond some terms the rest is less than twice its first one, either way."""

    def shorter(s: Sum, side: sp.Expr) -> Sum:
        if len(s.terms) <= _TERMS:
            return s
        c, size = s.terms[_TERMS]
        return Sum.collect((*s.terms[:_TERMS], (2 * side * sp.Abs(c), size)))

    return Enclosure(shorter(low, -ONE), shorter(high, ONE))


@lru_cache(maxsize=4096)
def enclose(expression: sp.Expr) -> Enclosure:
    """Two sums between which the formula is for all small λ.

    Raises:
        NotOfThisForm: none are found.

    Example:
        >>> from anabook.convergence.orders import LAMBDA
        >>> enclose(LAMBDA * (2 + sp.sin(1 / LAMBDA))).high.expression()
        3*lambda
    """
    try:
        exact = parse(expression)
        return _cut(exact, exact)
    except NotOfThisForm:
        return _of_parts(expression)


def _of_parts(expression: sp.Expr) -> Enclosure:
    if expression.is_Add or expression.is_Mul:
        parts = [enclose(part) for part in expression.args]
        result = parts[0]
        for part in parts[1:]:
            result = result + part if expression.is_Add else result * part
        return result
    if expression.is_Pow:
        base, exponent = expression.args
        if not exponent.has(LAMBDA):
            return power(enclose(base), exponent)
        return exponential(enclose(exponent) * logarithm(enclose(base)))
    if isinstance(expression, (sp.Max, sp.Min)):
        ends = [enclose(part) for part in expression.args]
        choose = max_of if isinstance(expression, sp.Max) else min_of
        return Enclosure(choose([e.low for e in ends]), choose([e.high for e in ends]))
    if isinstance(expression, sp.Piecewise):
        ends = [enclose(part) for part, _ in expression.args]
        if expression.args[-1][1] != sp.true:
            raise NotOfThisForm
        return Enclosure(min_of([e.low for e in ends]), max_of([e.high for e in ends]))
    if isinstance(expression, sp.Heaviside):
        at_zero = enclose(expression.args[1])
        return Enclosure(min_of([Sum(), at_zero.low]), max_of([constant(ONE), at_zero.high]))
    rule = _RULES.get(type(expression))
    if rule is None or len(expression.args) != 1:
        raise NotOfThisForm
    return rule(enclose(expression.args[0]))


# Powers, exponentials, logarithms -------------------------------------------------------------------------------------


def power(base: Enclosure, exponent: sp.Expr) -> Enclosure:
    """base^exponent with a constant exponent."""
    if exponent.is_Integer and exponent > 0 and base.low.sign() * base.high.sign() <= 0:
        low, high = (_end_to(end, exponent) for end in base)
        if exponent % 2 == 0:
            return Enclosure(Sum(), max_of([low.high, high.high]))
        return Enclosure(low.low, high.high)
    if exponent.is_Integer and 0 <= exponent <= 8:
        result = number(ONE)
        for _ in range(int(exponent)):
            result = result * base
        return result
    if base.high.sign() < 0 and exponent.is_Integer:
        result = power(-base, exponent)
        return -result if exponent % 2 else result
    rises = compare(exponent, 0) > 0
    if rises and not base.low.terms:
        return Enclosure(Sum(), _end_power(base.high, exponent).high if base.high.terms else Sum())
    if base.low.sign() <= 0:
        raise NotOfThisForm
    low, high = (base.low, base.high) if rises else (base.high, base.low)
    return Enclosure(_end_power(low, exponent).low, _end_power(high, exponent).high)


def inverse(value: Enclosure) -> Enclosure:
    """1/value."""
    return power(value, -ONE)


def _end_to(end: Sum, exponent: sp.Expr) -> Enclosure:
    """An end of any sign to a whole power."""
    if not end.terms:
        return Enclosure(Sum(), Sum())
    if end.sign() > 0:
        return _end_power(end, exponent)
    result = _end_power(end.scaled(-ONE), exponent)
    return -result if exponent % 2 else result


def _end_power(end: Sum, exponent: sp.Expr) -> Enclosure:
    main, rest = _split(end)
    main = main.power(exponent)
    coefficients = [sp.ff(exponent, k) / sp.factorial(k) for k in range(_ORDER + 1)]
    return Enclosure(main, main) * _polynomial(coefficients, rest)


def logarithm(value: Enclosure) -> Enclosure:
    """ln(value)."""
    if value.low.sign() <= 0:
        raise NotOfThisForm
    return Enclosure(_end_log(value.low).low, _end_log(value.high).high)


def _end_log(end: Sum) -> Enclosure:
    main, rest = _split(end)
    coefficients = [sp.Integer(0), *((-ONE) ** (k + 1) / k for k in range(1, _ORDER + 1))]
    return Enclosure(main.log(), main.log()) + _polynomial(coefficients, rest)


def exponential(value: Enclosure) -> Enclosure:
    """exp(value)."""
    return Enclosure(_end_exp(value.low).low, _end_exp(value.high).high)


def _end_exp(end: Sum) -> Enclosure:
    large = Sum(tuple((c, size) for c, size in end.terms if size.direction() >= 0)).exp()
    small = Sum(tuple((c, size) for c, size in end.terms if size.direction() < 0))
    coefficients = [1 / sp.factorial(k) for k in range(_ORDER + 1)]
    return Enclosure(large, large) * _polynomial(coefficients, Enclosure(small, small))


def _split(end: Sum) -> tuple[Sum, Enclosure]:
    """m and δ with end = m·(1 + δ), m its largest term."""
    c, size = end.terms[0]
    inverse_main = Sum(((1 / c, size.power(-ONE)),))
    rest = Sum(end.terms[1:]) * inverse_main
    return Sum(((c, size),)), Enclosure(rest, rest)


def _polynomial(coefficients: list[sp.Expr], small: Enclosure) -> Enclosure:
    """Σ a_k δ^k of a function's Taylor coefficients, the last of which bounds what is left out; δ → 0."""
    bound = _magnitude(small)
    result = number(sp.Integer(0))
    for a in reversed(coefficients[:-1]):
        result = result * small + number(a)
    if not bound.terms:
        return result
    factor = 2 * sp.Abs(coefficients[-1]) + ONE  # a coefficient may be 0 and not look it
    missing = bound.power(sp.Integer(len(coefficients) - 1)).scaled(factor)
    return _cut(result.low + missing.scaled(-ONE), result.high + missing)


def _magnitude(value: Enclosure) -> Sum:
    """A single term that is larger than |value|."""
    terms = [Sum(((2 * sp.Abs(end.terms[0][0]), end.terms[0][1]),)) for end in value if end.terms]
    return max_of(terms) if terms else Sum()


# Functions ------------------------------------------------------------------------------------------------------------


def _centre(value: Enclosure) -> sp.Expr | None:
    """What the formula tends to, a number or ±∞; None if its ends do not agree."""
    low, high = value.limits
    return low if compare(low, high) == 0 else None


def _taylor(function: Callable[[sp.Expr], sp.Expr], value: Enclosure, centre: sp.Expr) -> Enclosure:
    t = sp.Dummy("t")
    derivatives = [function(t)]
    for _ in range(_ORDER):
        derivatives.append(sp.diff(derivatives[-1], t))
    coefficients = [d.subs(t, centre) / sp.factorial(k) for k, d in enumerate(derivatives)]
    if not all(c.is_number and c.is_real and c.is_finite and not c.has(sp.Subs, sp.Derivative) for c in coefficients):
        raise NotOfThisForm
    return _polynomial(coefficients, value + number(-centre))


def _analytic(function: Callable[[sp.Expr], sp.Expr], far: Callable[[Enclosure, int], Enclosure], rises: bool) -> Callable:
    """A rule for a function that is analytic on the real line: by Taylor's formula, and by `far` where the argument → ±∞."""

    def rule(value: Enclosure) -> Enclosure:
        centre = _centre(value)
        if centre is None:
            if not rises:
                return far(value, 0)
            low, high = rule(Enclosure(value.low, value.low)), rule(Enclosure(value.high, value.high))
            return Enclosure(low.low, high.high)
        if centre.is_finite:
            return _taylor(function, value, centre)
        return far(value, 1 if centre == sp.oo else -1)

    return rule


def _wave(value: Enclosure, side: int) -> Enclosure:
    return between(-1, 1)


def _no_limit(value: Enclosure, side: int) -> Enclosure:
    raise NotOfThisForm


def _far_atan(value: Enclosure, side: int) -> Enclosure:
    return number(side * sp.pi / 2) + -_RULES[sp.atan](inverse(value))


def _far_tanh(value: Enclosure, side: int) -> Enclosure:
    decay = exponential(number(sp.Integer(-2 * side)) * value)
    return number(sp.Integer(side)) * (number(ONE) + -(number(sp.Integer(2)) * decay) * inverse(number(ONE) + decay))


def _hyperbolic(sign: int) -> Callable[[Enclosure, int], Enclosure]:
    def far(value: Enclosure, side: int) -> Enclosure:
        if side == 0:
            raise NotOfThisForm
        up, down = exponential(value), exponential(-value)
        return number(_HALF) * (up + (down if sign > 0 else -down))

    return far


def _far_erfc(value: Enclosure, side: int) -> Enclosure:
    if side < 0:
        return number(sp.Integer(2)) + -_far_erfc(-value, 1)
    square = value * value
    main = exponential(-square) * inverse(value) * number(1 / sp.sqrt(sp.pi))
    return main * (number(ONE) + between(-_HALF, 0) * inverse(square))


def _far_erf(value: Enclosure, side: int) -> Enclosure:
    return number(ONE) + -_far_erfc(value, side)


def _loggamma(value: Enclosure) -> Enclosure:
    """Stirling's formula, the error of which lies in [0, 1/(12x)]."""
    if _centre(value) != sp.oo:
        raise NotOfThisForm
    main = (value + number(-_HALF)) * logarithm(value) + -value + number(sp.log(2 * sp.pi) / 2)
    return main + between(0, sp.Rational(1, 12)) * inverse(value)


def _gamma(value: Enclosure) -> Enclosure:
    centre = _centre(value)
    if centre == sp.oo:
        return exponential(_loggamma(value))
    if centre is None or not centre.is_finite:
        raise NotOfThisForm
    if centre.is_Integer and centre <= 0:
        result = _gamma(value + number(1 - centre))
        for k in range(int(1 - centre)):
            result = result * inverse(value + number(sp.Integer(k)))
        return result
    return _taylor(sp.gamma, value, centre)


def _zeta(value: Enclosure) -> Enclosure:
    centre = _centre(value)
    if centre == sp.oo:
        return number(ONE) + between(1, 3) * exponential(-value * number(sp.log(2)))
    if centre is None or compare(centre, 1) < 0:
        raise NotOfThisForm
    if compare(centre, 1) > 0:
        steepest = 2 / (centre - 1) ** 2 + 2  # |ζ′(s)| < 1/(s − 1)² + 1
        distance = _magnitude(value + number(-centre)).scaled(steepest)
        return number(sp.zeta(centre)) + Enclosure(distance.scaled(-ONE), distance)
    if (value + number(-ONE)).low.sign() <= 0:
        raise NotOfThisForm
    return inverse(value + number(-ONE)) + between(_HALF, sp.Rational(3, 5))  # 1/(s − 1) + γ + …, γ = 0.577


def _floor(value: Enclosure) -> Enclosure:
    return value + between(-1, 0)


def _abs(value: Enclosure) -> Enclosure:
    if value.low.sign() >= 0:
        return value
    if value.high.sign() <= 0:
        return -value
    return Enclosure(Sum(), max_of([value.low.scaled(-ONE), value.high]))


_RULES: dict[type, Callable[[Enclosure], Enclosure]] = {
    sp.exp: exponential,
    sp.log: logarithm,
    sp.sin: _analytic(sp.sin, _wave, False),
    sp.cos: _analytic(sp.cos, _wave, False),
    sp.tan: _analytic(sp.tan, _no_limit, False),
    sp.atan: _analytic(sp.atan, _far_atan, True),
    sp.tanh: _analytic(sp.tanh, _far_tanh, True),
    sp.sinh: _analytic(sp.sinh, _hyperbolic(-1), True),
    sp.cosh: _analytic(sp.cosh, _hyperbolic(1), False),
    sp.erf: _analytic(sp.erf, _far_erf, True),
    sp.erfc: lambda value: number(ONE) + -_RULES[sp.erf](value) if _centre(value) != sp.oo else _far_erfc(value, 1),
    sp.gamma: _gamma,
    sp.loggamma: _loggamma,
    sp.factorial: lambda value: _gamma(value + number(ONE)),
    sp.zeta: _zeta,
    sp.Abs: _abs,
    sp.floor: _floor,
    sp.ceiling: lambda value: value + between(0, 1),
    sp.frac: lambda value: between(0, 1),
    sp.sign: lambda value: between(-1, 1),
}


# Which branch ---------------------------------------------------------------------------------------------------------


def sign_of(expression: sp.Expr) -> int | None:
    """The sign for all small λ; None if no enclosure tells."""
    try:
        return enclose(expression).sign()
    except NotOfThisForm:
        return None


def settled(expression: sp.Expr) -> sp.Expr:
    """The formula that this one is for all small λ: Piecewise, Max, Min, Abs, Heaviside, sign and ⌊·⌋ replaced by their branch.

    Example:
        >>> from anabook.convergence.orders import LAMBDA
        >>> settled(sp.Max(0, LAMBDA - 1) + sp.Abs(LAMBDA**2 - LAMBDA))
        -lambda**2 + lambda
    """
    if not expression.args or not expression.has(*_BRANCHING):
        return expression
    if isinstance(expression, sp.Piecewise):
        return _branch(expression)
    parts = [settled(part) for part in expression.args]
    expression = expression.func(*parts)
    if not isinstance(expression, _BRANCHING):
        return expression
    if isinstance(expression, (sp.Max, sp.Min)):
        return _extreme(expression)
    x = expression.args[0]
    if isinstance(expression, (sp.floor, sp.ceiling, sp.frac)):
        return _whole(expression, x)
    sign = sign_of(x)
    if sign is None:
        return expression
    if isinstance(expression, sp.Abs):
        return sp.expand(sign * x) if sign else sp.Integer(0)
    if isinstance(expression, sp.sign):
        return sp.Integer(sign)
    return expression.args[1] if sign == 0 else sp.Integer(sign > 0)


def _branch(expression: sp.Piecewise) -> sp.Expr:
    left = []
    for value, condition in expression.args:
        known = condition.replace(lambda e: isinstance(e, sp.core.relational.Relational), _truth)
        if known == sp.true and not left:
            return settled(value)
        if known != sp.false:
            left.append((settled(value), known))
    return sp.Piecewise(*left) if left else sp.nan


def _truth(relation: sp.Basic) -> sp.Basic:
    sign = sign_of(settled(relation.lhs - relation.rhs))
    return relation if sign is None else sp.sympify(relation.func(sign, 0))


def _extreme(expression: sp.Expr) -> sp.Expr:
    """Max or Min without the arguments that another one beats for all small λ."""
    wanted = 1 if isinstance(expression, sp.Max) else -1
    left: list[sp.Expr] = list(expression.args)
    for each in list(left):
        if any(other is not each and sign_of(other - each) in (wanted, 0) for other in left):
            left.remove(each)
    return expression.func(*left)


def _whole(expression: sp.Expr, x: sp.Expr) -> sp.Expr:
    """⌊x⌋, ⌈x⌉ or x − ⌊x⌋ where x tends to a number."""
    try:
        centre = _centre(enclose(x))
        if centre is None or not centre.is_finite:
            return expression
        whole = sp.floor(centre)
        above = compare(centre, whole)
    except NotOfThisForm:
        return expression
    side = 1 if above else sign_of(x - centre)
    if side is None or not whole.is_Integer:
        return expression
    down = whole if side >= 0 else whole - 1
    if isinstance(expression, sp.frac):
        return x - down
    return down if isinstance(expression, sp.floor) or side == 0 else down + 1


_BRANCHING = (sp.Piecewise, sp.Max, sp.Min, sp.Abs, sp.Heaviside, sp.sign, sp.floor, sp.ceiling, sp.frac)


def same_order(expression: sp.Expr) -> sp.Expr | None:
    """A product without coefficient whose quotient with the positive formula stays between two positive constants."""
    low, high = enclose(expression)
    if low.sign() <= 0 or low.terms[0][1] != high.terms[0][1]:
        return None
    return Sum(((ONE, low.terms[0][1]),)).expression()
