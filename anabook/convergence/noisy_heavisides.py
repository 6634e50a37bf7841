"""A Heaviside unit with noise, as λ → 0: how much it errs on its threshold and off it, and what errors it tolerates.

These are the conditions that concern one layer alone and no rates, (11) to (14), and the sizes that the others compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sympy as sp

from anabook.convergence.answers import Answer, both, tends_to
from anabook.convergence.formulas import families_of
from anabook.convergence.limits import LimitPoints, eventual_sign, leading, limit, show
from anabook.convergence.tails import DIRAC, half_width, law_of, name_of, tail_of
from anabook.convergence.verdicts import Finding
from anabook.laws import Decay, Edge
from anabook.namespaces import sympy_namespace
from anabook.noise import Noise

_ZERO, _ONE = sp.Integer(0), sp.Integer(1)


@dataclass(frozen=True)
class NoisyHeaviside:
    """A Heaviside unit with noise of offset a = −mean and standard deviation b."""

    family: Any
    a: sp.Expr
    b: sp.Expr

    @cached_property
    def tail(self) -> Edge | Decay | None:
        """How the noise's tail ends; None if there is no noise."""
        return None if isinstance(self.family, str) and self.family == DIRAC else tail_of(self.family)

    @property
    def bounded(self) -> bool:
        """Whether the noise has ends, or is gone."""
        return not isinstance(self.tail, Decay)

    @cached_property
    def half_width(self) -> sp.Expr:
        """Half the length of the standardised support: h0, ∞ for unbounded noise."""
        if self.tail is None:
            return _ZERO
        return half_width(self.family, sympy_namespace()) if isinstance(self.tail, Edge) else sp.oo

    @cached_property
    def ratio(self) -> sp.Expr:
        """a/β: the offset in standard deviations."""
        return sp.expand(self.a / self.b)

    @cached_property
    def edge(self) -> sp.Expr:
        """a − h: how far the threshold is outside the noise; for bounded noise."""
        return sp.expand(self.a if self.tail is None else self.a - self.half_width * self.b)

    @cached_property
    def beyond(self) -> tuple[int | None, bool]:
        """The sign of `edge`, and whether numbers only tell."""
        return eventual_sign(self.edge)

    @cached_property
    def toward(self) -> int | None:
        """The sign of the offset for small λ."""
        return eventual_sign(self.a)[0]

    @cached_property
    def error(self) -> sp.Expr:
        """T0(a/β), up to a constant, where it vanishes (else 1): the error on the threshold."""
        if self.bounded and (self.beyond[0] or 0) >= 0:
            return _ZERO
        if self.toward != 1:
            return _ONE
        if isinstance(self.tail, Edge):
            return self._depth**self.tail.order
        return sp.exp(-self.exponent) * self.ratio**self.tail.power

    @cached_property
    def _depth(self) -> sp.Expr:
        """How far a/β is inside the edge, in half-widths; a broken power is taken of the leading term alone."""
        depth = sp.expand(1 - self.ratio / self.half_width)
        return depth if self.tail.order.is_Integer else leading(depth)

    @cached_property
    def exponent(self) -> sp.Expr:
        """−ln T0(a/β) but for terms of a smaller order; for unbounded noise."""
        return sp.expand(self.tail.rate * self.ratio**self.tail.exponent)

    def log_gap(self, bound: sp.Expr) -> sp.Expr:
        """ln(bound/error) for unbounded noise, up to a constant."""
        return self.exponent - self.tail.power * sp.log(self.ratio) + sp.log(bound)

    def errs_less_on_threshold(self, bound: sp.Expr) -> Answer:
        """Whether the error on the threshold is o(bound); or 0 for small λ, if the bound is 0."""
        if self.bounded:
            sign, numerical = self.beyond
            if sign is None:
                return Answer(None)
            if sign >= 0:
                return Answer(True, numerical)
            return Answer(False, numerical) if bound == 0 else tends_to(self.error / bound, 0)
        if bound == 0 or self.toward != 1:
            return Answer(None if self.toward is None else False)
        return tends_to(self.log_gap(bound), sp.oo)

    def errs_less_off_threshold(self, bound: sp.Expr) -> Answer:
        """Whether the error at every other pre-activation is o(bound), given a, β → 0."""
        if self.bounded:
            return Answer(True)
        if bound == 0:
            return Answer(False)
        return tends_to(self.b**self.tail.exponent * -sp.log(bound), 0)

    def margin(self, bound: sp.Expr) -> sp.Expr:
        """−σ⁻¹(1 − ε·bound) up to constants, where the error on the threshold is o(bound)."""
        if self.tail is None:
            return leading(self.a)
        if isinstance(self.tail, Decay):
            gap, gamma = leading(self.log_gap(bound)), self.tail.exponent
            return leading(self.b**gamma * gap / self.a ** (gamma - 1))
        rest = self.b * bound ** (1 / self.tail.order)
        return leading(rest + self.edge if self.beyond[0] == 1 else rest)


def noisy_units(names: Sequence[Any], pairs: Sequence[tuple[sp.Expr, sp.Expr]], whose: str) -> list[NoisyHeaviside]:
    """One unit a layer, from the laws and the pairs (mean, std)."""
    units = []
    for i, (name, (mean, std)) in enumerate(zip(names, pairs)):
        if std == 0:
            units.append(NoisyHeaviside(DIRAC, -mean, _ZERO))
            continue
        if isinstance(name, str) and name == DIRAC:
            raise ValueError(f"the noise of {whose} {i} is called 'dirac', so its std must be 0, not {show(std)}.")
        sign, _ = eventual_sign(std)
        if sign != 1:
            what = "is negative" if sign == -1 else "is not seen to be positive"
            raise ValueError(
                f"the std of {whose} {i} must be positive for all small λ (or 0 throughout), and {show(std)} {what}."
            )
        units.append(NoisyHeaviside(name, -mean, std))
    return units


def noisy_weights(families: Any, weights: list[Any]) -> list[NoisyHeaviside | None]:
    """One unit a layer for the noise of its weights; None where these have none."""
    names = families_of(families, len(weights))
    noisy = [(_ZERO, _ZERO) if pair is None else pair for pair in weights]
    return [None if pair is None else u for pair, u in zip(weights, noisy_units(names, noisy, "the weights of layer"))]


def vanishing(i: int, unit: NoisyHeaviside) -> Finding:
    """(11): whether mean and standard deviation vanish."""
    mean, std = tends_to(unit.a, 0), tends_to(unit.b, 0)
    answer = both(mean, std)
    name, culprit = ("mean", mean) if mean.value is not True else ("std", std)
    found = culprit.limit
    where = "" if found is None else f" (its limit: {show(-found.low if name == 'mean' else found.low)})"
    bad = f"the {name} does not vanish{where}, so the layer does not converge off its threshold."
    return answer.finding("(11)", i, "mean and std vanish.", bad)


def right_on_threshold(i: int, unit: NoisyHeaviside) -> Finding:
    """(12): whether the layer tends to 1 on its threshold."""
    if unit.tail is None:
        sign, numerical = unit.beyond
        answer = Answer(None if sign is None else sign >= 0, numerical)
        good, bad = "there is no noise left, and no positive mean.", "the mean is positive and there is no noise."
        return answer.finding("(12)", i, good, bad)
    found = limit(unit.ratio)
    half_width = unit.half_width
    if found is None:
        answer = Answer(None)
    else:
        value = found.is_at_least(half_width) if unit.bounded else found.is_equal(sp.oo)
        answer = Answer(value, found.numerical, found)
    needed = f"at least {show(half_width)}" if unit.bounded else "∞"
    bad = f"offset/std → {found}, and {name_of(unit.family)} noise needs {needed}: "
    bad += f"on its threshold the layer tends to {_value_at(unit.family, found)}, not to 1." if found else ""
    return answer.finding("(12)", i, f"offset/std → {found}, and {name_of(unit.family)} noise needs {needed}.", bad)


def _value_at(family: Any, found: LimitPoints) -> str:
    ends = [float(Noise(law_of(family), 0.0, 1.0).cdf(float(v))) for v in (found.low, found.high)]
    return f"{ends[0]:.4g}" if ends[0] == ends[1] else f"something between {ends[0]:.4g} and {ends[1]:.4g}"


def monotone(i: int, unit: NoisyHeaviside) -> Finding:
    """(13), which every law here meets."""
    if unit.tail is None:
        reason = "a shifted stair: non-decreasing and continuous from the right, enough for the generalised inverse."
    elif unit.bounded:
        reason = (
            "continuous and non-decreasing, which is all that is needed; it is not strictly increasing, since the "
            "noise is bounded."
        )
    else:
        reason = "continuous and strictly increasing."
    return Finding("(13)", i, True, reason)


def between_zero_and_one(i: int, unit: NoisyHeaviside) -> Finding:
    """(14), which an average of zeros and ones cannot miss."""
    return Finding("(14)", i, True, "an average of zeros and ones lies between them.")
