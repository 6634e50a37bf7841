"""Numbers at small λ, at places chosen against the formula: evidence, with a note of how far it looked.

Powers of ten alone miss what happens between them, so each range of λ is searched: where the formula's waves have their
zeros and extremes, where its steps step, at random places, and from the smallest and the largest value found so far on to
smaller and larger ones.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import mpmath
import sympy as sp

from anabook.convergence.constants import NotOfThisForm, are_in_sight
from anabook.convergence.evaluation import as_function, real_value, steady_value
from anabook.convergence.leash import GIVES_UP, bounded
from anabook.convergence.orders import LAMBDA
from anabook.convergence.waves import WAVES

_EXPONENTS = (4, 8, 16, 32, 64, 128, 256)
_NEEDED = 5
_RANDOM, _PHASES, _ROUNDS = 8, 8, 3
_STEPS = 30_000
_FAILURES = (*GIVES_UP, NotOfThisForm)


class Seen(NamedTuple):
    """What a formula was seen to do.

    Attributes:
        ranges: for each range of λ, going down, the values that were found, with their λ.
        exponent: the smallest λ looked at is 10^−exponent or less.
        count: of all λ looked at.
    """

    ranges: tuple[tuple[tuple[Any, Any], ...], ...]
    exponent: int
    count: int

    def extremes(self) -> tuple[list[Any], list[Any]]:
        """The smallest and the largest value of each range."""
        values = [[value for _, value in each] for each in self.ranges]
        return [min(v) for v in values], [max(v) for v in values]

    def __str__(self) -> str:
        return f"numbers down to λ = 10^−{self.exponent}, at {self.count} places chosen against it"


@lru_cache(maxsize=1024)
def look(expression: sp.Expr) -> Seen | None:
    """Values of a formula at small λ; None if there are too few, or if they would say nothing.

    They say nothing of a constant that they cannot tell from 0 or ∞, and nothing where they are roundings.
    """
    if not bounded(are_in_sight, expression, default=False):
        return None
    return bounded(_look, expression, steps=_STEPS)


def _look(expression: sp.Expr) -> Seen | None:
    function = _sampled(expression)
    ranges = []
    for k in _EXPONENTS:
        # Differences of nearly equal terms may cost as many digits as λ has zeros, twice over.
        with mpmath.workdps(60 + 2 * k):
            try:
                ranges.append(_range(expression, function, k))
            except _FAILURES:  # an unknown function, an overflow, a division by zero: no evidence from here on
                break
    if len(ranges) < _NEEDED:
        return None
    return Seen(tuple(ranges), _EXPONENTS[len(ranges) - 1], sum(map(len, ranges)))


_STEPPING = (sp.floor, sp.ceiling, sp.frac, sp.Piecewise, sp.Max, sp.Min, sp.Heaviside, sp.sign, sp.Abs)


def _sampled(expression: sp.Expr) -> Callable[[Any], Any]:
    """Its values, as far as they are more than roundings. Where a wave is 0, roundings are what there is, and small."""
    function = as_function(expression)
    if expression.has(*WAVES, *_STEPPING):
        return lambda at: real_value(function, at)

    def value(at: Any) -> Any:
        found = steady_value(function, at)
        if found == 0 and expression.has(sp.Add):  # 1 − tanh(1/λ), where the hyperbolic tangent is 1 in all digits
            raise NotOfThisForm
        return found

    return value


def _range(expression: sp.Expr, value: Callable[[Any], Any], k: int) -> tuple[tuple[Any, Any], ...]:
    top = mpmath.mpf(10) ** -k
    dice = random.Random(k)
    found = [(top, value(top))]

    def add(places: Iterator[Any]) -> None:
        for place in places:
            if 0 < place <= top:
                try:
                    found.append((place, value(place)))
                except _FAILURES:  # a pole, or the end of a branch
                    continue

    add(top * mpmath.mpf(10) ** -dice.random() for _ in range(_RANDOM))
    for target in _targets(expression, top):
        add(iter([target]))
    if len({mpmath.sign(b - a) for (_, a), (_, b) in zip(sorted(found), sorted(found)[1:])}) > 1:
        for width in (0.1, 1e-3, 1e-6)[:_ROUNDS]:
            for place, _ in (min(found, key=lambda pair: pair[1]), max(found, key=lambda pair: pair[1])):
                add(place * (1 + width * (2 * dice.random() - 1)) for _ in range(_RANDOM // 2))
    return tuple(found)


def _targets(expression: sp.Expr, top: Any) -> Iterator[Any]:
    """Where waves have zeros and extremes and what lies between, and where steps step, next below `top`."""
    for wave in sorted(expression.atoms(*WAVES), key=sp.default_sort_key):
        if wave.has(LAMBDA):
            for j in range(_PHASES):
                yield from solutions(wave.args[0], top, 2 * mpmath.pi, j * mpmath.pi / (_PHASES // 2))
    for step in sorted(expression.atoms(sp.floor, sp.ceiling, sp.frac), key=sp.default_sort_key):
        if step.has(LAMBDA):
            for place in solutions(step.args[0], top, mpmath.mpf(1), mpmath.mpf(0)):
                yield from (place, place * (1 - mpmath.mpf(10) ** -40), place * (1 + mpmath.mpf(10) ** -40))


def solutions(inside: sp.Expr, top: Any, period: Any, phase: Any) -> Iterator[Any]:
    """A λ a little below `top` where the formula is `phase` modulo `period`."""
    function = as_function(inside)
    try:
        start = top * mpmath.mpf("0.9")
        here = real_value(function, start)
        if abs(here) < period:
            return
        target = period * mpmath.floor(here / period) + phase
        place = mpmath.findroot(
            lambda v: real_value(function, v) - target, (start, start * (1 - period / abs(here) / 8)), verify=False
        )
        if abs(real_value(function, place) - target) < mpmath.mpf(10) ** -20:
            yield place
    except _FAILURES:
        return
