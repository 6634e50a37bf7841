"""Formulas that oscillate without end, along sequences on which they do not.

Where g grows beyond all bounds and is continuous, the angle g takes every value, modulo 2π, at some λ as small as one likes.
So sin(g) may be replaced by −1 along one sequence λ → 0, by 0 along another, and the formula that is left has no wave in it:
what it tends to is a limit point of the first formula, derived and not estimated.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import sympy as sp

from anabook.convergence.constants import NotOfThisForm
from anabook.convergence.enclosures import enclose
from anabook.convergence.orders import LAMBDA

_BROKEN = (sp.Piecewise, sp.Max, sp.Min, sp.Abs, sp.Heaviside, sp.sign, sp.floor, sp.ceiling, sp.frac)
WAVES = (sp.sin, sp.cos, sp.tan)
_PHASES = tuple(sp.pi * k / 12 for k in sorted(range(24), key=lambda k: (k % 6 > 0, k % 3 > 0, k)))


class Along(NamedTuple):
    """What a formula is along one sequence λ → 0: where `angle` is `phase`, modulo 2π."""

    formula: sp.Expr
    angle: sp.Expr
    phase: sp.Expr


def grows(angle: sp.Expr) -> bool:
    """Whether it is continuous and grows beyond all bounds, in either direction."""
    try:
        low, high = enclose(angle).limits
    except NotOfThisForm:
        return False
    return low == high and low in (sp.oo, -sp.oo) and not angle.has(*_BROKEN)


def angles(expression: sp.Expr) -> list[sp.Expr]:
    """The angles of the formula's waves that grow beyond all bounds."""
    found = {wave.args[0] for wave in expression.atoms(*WAVES) if wave.has(LAMBDA)}
    return [angle for angle in sorted(found, key=sp.default_sort_key) if grows(angle)]


@lru_cache(maxsize=1024)
def along_sequences(expression: sp.Expr) -> tuple[Along, ...]:
    """The formulas that are left of this one along sequences where its waves stand still; none if it has no common angle."""
    growing = angles(expression)
    if not growing:
        return ()
    ratios = [sp.simplify(angle / growing[0]) for angle in growing]
    if not all(ratio.is_Rational for ratio in ratios):
        return ()
    turns = sp.ilcm(*(ratio.q for ratio in ratios)) if len(ratios) > 1 else ratios[0].q
    base = growing[0] / turns
    multiples = {angle: ratio * turns for angle, ratio in zip(growing, ratios)}
    return tuple(_standing(expression, base, multiples))


def _standing(expression: sp.Expr, base: sp.Expr, multiples: dict[sp.Expr, sp.Expr]) -> Iterator[Along]:
    seen = set()
    for phase in _PHASES:
        put = {wave(angle): wave(k * phase) for angle, k in multiples.items() for wave in WAVES}
        formula = expression.xreplace(put)
        if formula not in seen and not formula.has(sp.zoo, sp.nan, sp.oo):
            seen.add(formula)
            yield Along(formula, base, phase)
