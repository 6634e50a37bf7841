"""Limits as λ → 0+ of formulas in one symbol: exact where they can be derived, high-precision evidence where not.

A limit is derived by orders of growth (`orders`), between two of them (`enclosures`), along sequences on which an oscillation
stands still (`waves`), or by SymPy. Where none of these tells, numbers may suggest one (`samples`); that is never called more."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import mpmath
import sympy as sp

from anabook.convergence.constants import NotOfThisForm, compare
from anabook.convergence.enclosures import enclose, same_order, settled, sign_of
from anabook.convergence.formula_text import angle_text, show
from anabook.convergence.leash import Late, bounded, is_late
from anabook.convergence.orders import LAMBDA, Sum, parse
from anabook.convergence.samples import look
from anabook.convergence.waves import WAVES, Along, along_sequences, angles

_TAIL = 5


class Reached(NamedTuple):
    """A limit point that is derived, or seen: what it is, and along which λ → 0."""

    value: sp.Expr
    where: str


class LimitPoints(NamedTuple):
    """Where a formula goes as λ → 0+: its limit points lie in [low, high].

    Attributes:
        low, high: extended real numbers; equal where a limit exists.
        numerical: what was looked at, if this rests on numbers at small λ and not on a derivation; else "".
        reached: limit points that are known one by one, where there is no limit or none was found.
    """

    low: sp.Expr
    high: sp.Expr
    numerical: str = ""
    reached: tuple[Reached, ...] = ()

    def is_at_least(self, bound: Any) -> bool | None:
        """Whether every limit point is ≥ bound; None if what is known of them does not tell."""
        if any(_told(point.value, bound) == -1 and not self._is_seen_near(point.value, bound) for point in self.reached):
            return False
        if self._is_seen_near(self.low, bound) or self._is_seen_near(self.high, bound):
            return None
        low, high = _told(self.low, bound), _told(self.high, bound)
        if low in (0, 1):
            return True
        return False if high == -1 else None

    def _is_seen_near(self, point: sp.Expr, bound: Any) -> bool:
        """Whether numbers show the point so near the bound that they do not show on which side of it."""
        if not self.numerical or not point.is_finite:
            return False
        return bool(abs(sp.N(point - bound)) <= 1e-8 * (1 + abs(sp.N(bound))))

    def is_equal(self, value: Any) -> bool | None:
        """Whether the limit exists and is `value`; None if what is known does not tell."""
        if any(_told(point.value, value) in (-1, 1) for point in self.reached):
            return False
        low, high = _told(self.low, value), _told(self.high, value)
        if low == 1 or high == -1:
            return False
        return True if low == high == 0 else None

    def is_bounded(self) -> bool | None:
        """Whether the formula stays bounded."""
        if any(not point.value.is_finite for point in self.reached):
            return False
        if self.low.is_finite and self.high.is_finite:
            return True
        return False if self.low == self.high else None

    def negative(self) -> LimitPoints:
        """Of the formula with the other sign."""
        reached = tuple(Reached(-point.value, point.where) for point in self.reached)
        return LimitPoints(-self.high, -self.low, self.numerical, reached)

    def __str__(self) -> str:
        if self.low == self.high:
            return show(self.low)
        if self.reached:
            return " and ".join(f"{show(point.value)}{point.where}" for point in dict.fromkeys(self.reached))
        return f"between {show(self.low)} and {show(self.high)}"


def _told(x: Any, y: Any) -> int | None:
    try:
        return compare(x, y)
    except NotOfThisForm:
        return None


def limit(expression: sp.Expr) -> LimitPoints | None:
    """The limit points as λ → 0+, or None if neither derivations nor numbers tell anything."""
    found = derived_limit(expression)
    return found if found is not None else observed_limit(expression)


def derived_limit(expression: sp.Expr) -> LimitPoints | None:
    """What is derived of the limit points; None if that is nothing."""
    try:
        return _derived(expression)
    except Late:
        return None


@lru_cache(maxsize=8192)
def _derived(expression: sp.Expr) -> LimitPoints | None:
    low, high = -sp.oo, sp.oo
    for form in _forms(expression):
        ends = bounded(_ends, form)
        if ends is not None:
            low, high = (ends[0] if _told(ends[0], low) == 1 else low), (ends[1] if _told(ends[1], high) == -1 else high)
        if low == high:
            return LimitPoints(low, high)
    reached = bounded(_reached, expression, default=())
    if low == -sp.oo and high == sp.oo and not reached:
        value = _by_sympy(expression)
        if value is None and is_late():
            raise Late
        return None if value is None else LimitPoints(value, value)
    return LimitPoints(low, high, "", reached)


def _ends(expression: sp.Expr) -> tuple[sp.Expr, sp.Expr] | None:
    try:
        return enclose(expression).limits
    except NotOfThisForm:
        return None


def _forms(expression: sp.Expr) -> Iterator[sp.Expr]:
    """The formula, and others that say the same in a form in which oscillations may cancel."""
    yield expression
    if bounded(angles, expression):
        for other in (_factored, _collected):
            form = bounded(other, expression)
            if form is not None and form != expression:
                yield form


def _factored(expression: sp.Expr) -> sp.Expr:
    """The sum as one of its terms times what is left, where this frees what is left of waves; else with common factors out."""
    expression = sp.powsimp(sp.expand(expression, deep=False, power_exp=False))
    terms = sp.Add.make_args(expression)
    quotients = [sp.powsimp(term / terms[0]) for term in terms]
    if not any(quotient.has(*WAVES) for quotient in quotients):
        return terms[0] * sp.Add(*quotients)
    return sp.factor_terms(expression)


def _collected(expression: sp.Expr) -> sp.Expr:
    """The sum with the terms of each wave together, so that their coefficients are compared as one."""
    waves = sorted(expression.atoms(*WAVES), key=sp.default_sort_key)
    return sp.collect(sp.expand(expression, power_exp=False), [wave for wave in waves if wave.has(LAMBDA)])


def _reached(expression: sp.Expr) -> tuple[Reached, ...]:
    """The smallest and the largest of the limits along sequences where all waves stand still."""
    found: list[tuple[sp.Expr, Along]] = []
    for along in along_sequences(expression):
        ends = _ends(along.formula)
        if ends is not None and ends[0] == ends[1]:
            found.append((ends[0], along))
    if not found:
        return ()
    least = most = found[0]
    for each in found[1:]:
        if _told(each[0], least[0]) == -1:
            least = each
        if _told(each[0], most[0]) == 1:
            most = each
    return tuple(dict.fromkeys(Reached(value, _where(along)) for value, along in (least, most)))


def _where(along: Along) -> str:
    return f" (along the λ with {show(along.angle)} = {angle_text(along.phase)} modulo 2π)"


def signs_along(expression: sp.Expr) -> dict[int, str]:
    """The signs that a formula has along sequences where its waves stand still, and along which."""
    found: dict[int, str] = {}
    for along in bounded(along_sequences, expression, default=()):
        sign = bounded(sign_of, along.formula)
        if sign is not None:
            found.setdefault(sign, _where(along))
    return found


def eventual_sign(expression: sp.Expr) -> tuple[int | None, str]:
    """The sign for all small λ, and what was looked at if only numbers show it; a sign of None if nothing shows one."""
    try:
        return _eventual_sign(expression)
    except Late:
        return None, ""


@lru_cache(maxsize=4096)
def _eventual_sign(expression: sp.Expr) -> tuple[int | None, str]:
    for form in _forms(expression):
        sign = bounded(sign_of, form)
        if sign is not None:
            return sign, ""
    signs = signs_along(expression)
    if len(signs) > 1:
        return None, ""
    if not bounded(angles, expression, default=True):
        value = _by_sympy(expression)
        if value is not None and _told(value, 0) in (-1, 1):
            return _told(value, 0), ""
    seen = look(expression) if bounded(_seen_through, expression) and not bounded(_together_sign, expression) else None
    if seen is None:
        if is_late():
            raise Late
        return None, ""
    found = {int(mpmath.sign(value)) for each in seen.ranges for _, value in each} | set(signs)
    return (found.pop(), str(seen)) if len(found) == 1 else (None, str(seen))


def _together_sign(expression: sp.Expr) -> bool:
    """Whether waves of different angles, come together, could give the formula more than one sign."""
    growing = angles(expression)
    return len(growing) > 1 and not along_sequences(expression)


@lru_cache(maxsize=4096)
def _leading(expression: sp.Expr) -> sp.Expr | None:
    try:
        terms = parse(expression).terms
        return Sum(((sp.Integer(1), terms[0][1]),)).expression() if terms else sp.Integer(0)
    except NotOfThisForm:
        pass
    try:
        simple = same_order(expression)
        if simple is not None:
            return simple
    except NotOfThisForm:
        pass
    form = sp.powsimp(_factored(expression) if not expression.is_Mul else expression)
    if form != expression and not form.is_Add:
        return _leading(form) or form
    if not form.is_Mul or any(sign_of(part) != 1 for part in form.args if part.has(LAMBDA)):
        return None
    parts = [_leading(part) or part for part in form.args if part.has(LAMBDA)]
    return sp.Mul(*parts)


def leading(expression: sp.Expr) -> sp.Expr:
    """A simpler positive formula of the same order if one is found, else the formula itself."""
    found = bounded(_leading, expression)
    return expression if found is None else found


def envelope(expression: sp.Expr, side: int) -> sp.Expr:
    """A simple formula below (side −1) or above (side 1) a positive one, up to constants; the formula itself if none is found."""
    found = bounded(_envelope, expression, side)
    return expression if found is None else found


@lru_cache(maxsize=4096)
def _envelope(expression: sp.Expr, side: int) -> sp.Expr | None:
    try:
        low, high = enclose(expression)
        end = low if side < 0 else high
    except NotOfThisForm:
        return None
    if end.sign() <= 0:
        return None
    return Sum(((sp.Integer(1), end.terms[0][1]),)).expression()


def expanded(expression: sp.Expr) -> sp.Expr:
    """The formula with its products multiplied out; as it is where that takes too long."""
    waves = expression.has(*WAVES)  # λ^(2 + sin(1/λ)) is not to be torn apart
    return bounded(lambda: sp.expand(expression, power_exp=not waves), default=expression)


_ELEMENTARY = (sp.exp, sp.log, sp.sin, sp.cos, sp.tan, sp.atan, sp.sinh, sp.cosh, sp.tanh, sp.erf, sp.erfc)
_MAX_OPERATIONS, _STEPS = 40, 120_000


def _by_sympy(expression: sp.Expr) -> sp.Expr | None:
    """SymPy's limit, of elementary formulas that do not oscillate, unless numbers suggest another one."""
    known = all(isinstance(f, _ELEMENTARY) for f in expression.atoms(sp.Function))
    if not known or expression.count_ops() > _MAX_OPERATIONS or bounded(angles, expression, default=True):
        return None
    value = bounded(sp.limit, expression, LAMBDA, 0, "+", steps=_STEPS)
    if value is None or not value.is_number or value.has(sp.nan, sp.zoo, sp.Limit, sp.AccumBounds, sp.I):
        return None
    if not value.is_extended_real:
        return None
    seen = observed_limit(expression)
    if seen is None or value == seen.low == seen.high:
        return value
    close = value.is_finite and seen.low.is_finite and abs(sp.N(value - seen.low)) <= 1e-3 * (1 + abs(sp.N(value)))
    return value if close else None


# Numbers --------------------------------------------------------------------------------------------------------------


def observed_limit(expression: sp.Expr) -> LimitPoints | None:
    """What numbers at small λ suggest: a limit, or two limit points that differ; None if they suggest nothing."""
    seen = look(expression)
    if seen is None or not bounded(_seen_through, expression, default=False):
        return None
    ends = [_trend(values[-_TAIL - 1 :]) for values in seen.extremes()]
    if None in ends:
        return None
    low, high = ends
    if low == high and any(_told(value, low) in (-1, 1) for value in bounded(_together, expression, default=())):
        return None
    points = () if low == high else (Reached(low, ""), Reached(high, ""))
    return LimitPoints(low, high, str(seen), points)


_SMOOTH = (
    *(sp.exp, sp.log, sp.atan, sp.sinh, sp.cosh, sp.tanh, sp.erf, sp.erfc, sp.gamma, sp.loggamma, sp.factorial, sp.zeta),
    *(sp.LambertW, sp.Abs, sp.Max, sp.Min, sp.floor, sp.ceiling, sp.frac, sp.sign, sp.Heaviside, sp.Piecewise),
)


def _seen_through(expression: sp.Expr) -> bool:
    """Whether it is known where the formula may oscillate. Of other functions, numbers at some λ say nothing of those between."""
    return all(isinstance(f, (*_SMOOTH, *WAVES)) for f in expression.atoms(sp.Function))


def _together(expression: sp.Expr) -> tuple[sp.Expr, ...]:
    """What the formula would tend to if waves of different angles came together, as independent ones do as closely as one likes.

    How closely, no number of λ shows; so what is seen counts for nothing if these limits contradict it.
    """
    growing = angles(expression)
    if len(growing) < 2 or along_sequences(expression):
        return ()
    found = []
    for phases in itertools.islice(itertools.product(_CORNERS, repeat=len(growing)), _MOST_CORNERS):
        put = {wave(angle): wave(phase) for angle, phase in zip(growing, phases) for wave in WAVES}
        ends = _ends(settled(expression.xreplace(put)))
        if ends is None:
            return (sp.oo, -sp.oo)
        found += ends
    return tuple(dict.fromkeys(found))


_CORNERS, _MOST_CORNERS = tuple(sp.pi * k / 2 for k in range(4)), 64


def _trend(tail: list[Any]) -> sp.Expr | None:
    """Where the numbers of one range after the other seem to go."""
    tiny = mpmath.mpf(10) ** -50
    if all(abs(v) < tiny for v in tail):
        return sp.Integer(0)
    if any(v == 0 for v in tail):
        return None
    ratios = [after / before for before, after in zip(tail, tail[1:])]
    # λ is squared from one range to the next, so even powers of ln(1/λ) change by a factor.
    if all(abs(r) <= 0.75 for r in ratios):
        return sp.Integer(0)
    if all(r >= 1.33 for r in ratios):
        return sp.oo if tail[-1] > 0 else -sp.oo
    steps = [after - before for before, after in zip(tail, tail[1:])]
    if all(abs(s) < tiny for s in steps) or _shrinking(steps):
        return _settled(tail)
    return None


def _shrinking(steps: list[Any]) -> bool:
    return all(before != 0 and abs(after / before) <= 0.75 for before, after in zip(steps, steps[1:]))


def _settled(tail: list[Any]) -> sp.Expr:
    a, b, c = tail[-3:]
    bend = c - 2 * b + a
    value = c if bend == 0 else c - (c - b) ** 2 / bend  # Aitken: exact for a geometric approach
    return sp.Float(mpmath.nstr(value, 10), 10)
