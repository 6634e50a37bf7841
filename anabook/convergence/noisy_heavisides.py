"""A Heaviside unit with noise, as λ → 0: how much it errs on its threshold and off it, and what errors it tolerates.

These are the conditions that concern one layer alone and no rates, (11) to (14), and the sizes that the others compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sympy as sp

from anabook.convergence.answers import Answer, ask, both, stopped, tends_to
from anabook.convergence.constants import approximate
from anabook.convergence.formula_text import show
from anabook.convergence.formulas import families_of
from anabook.convergence.leash import bounded
from anabook.convergence.limits import LimitPoints, eventual_sign, expanded, leading, signs_along
from anabook.convergence.tails import DIRAC, half_width, law_of, name_of, tail_of
from anabook.convergence.verdicts import Finding
from anabook.convergence.waves import WAVES
from anabook.laws import Decay, Edge
from anabook.namespaces import sympy_namespace
from anabook.noise import Noise

_STEPS = 40_000  # to simplify a formula
_ZERO, _ONE = sp.Integer(0), sp.Integer(1)


@dataclass(frozen=True)
class NoisyHeaviside:
    """A Heaviside unit with noise of offset a = −mean and standard deviation b.

    `doubt` says what was looked at, where only numbers show that b is positive; `open` what is not told of the unit, where
    nothing can be decided for that.
    """

    family: Any
    a: sp.Expr
    b: sp.Expr
    doubt: str = ""
    open: str = ""

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
        return expanded(self.a / self.b)

    @cached_property
    def edge(self) -> sp.Expr:
        """a − h: how far the threshold is outside the noise; for bounded noise."""
        return expanded(self.a if self.tail is None else self.a - self.half_width * self.b)

    @cached_property
    def beyond(self) -> tuple[int | None, str]:
        """The sign of `edge`, and what was looked at if numbers only tell."""
        return eventual_sign(self.edge)

    @cached_property
    def toward(self) -> tuple[int | None, str]:
        """The sign of the offset for small λ, and what was looked at if numbers only tell."""
        return eventual_sign(self.a)

    @cached_property
    def error(self) -> sp.Expr:
        """T0(a/β), up to a constant, where it vanishes (else 1): the error on the threshold."""
        if self.bounded and self.beyond[0] in (0, 1):
            return _ZERO
        if self.toward[0] != 1:  # or not told: then `errs_less_on_threshold` does not tell either
            return _ONE
        if isinstance(self.tail, Edge):
            return self._depth**self.tail.order
        return sp.exp(-self.exponent) * self.ratio**self.tail.power

    @cached_property
    def _depth(self) -> sp.Expr:
        """How far a/β is inside the edge, in half-widths; a broken power is taken of the leading term alone."""
        depth = expanded(1 - self.ratio / self.half_width)
        if self.beyond[0] is None:
            inside = _positive_part(depth)
            return depth if inside is None else inside
        return depth if self.tail.order.is_Integer else leading(depth)

    @cached_property
    def exponent(self) -> sp.Expr:
        """−ln T0(a/β) but for terms of a smaller order; for unbounded noise."""
        # A square of waves is larger than what its terms, multiplied out, are seen to be.
        exponent = self.tail.rate * self.ratio**self.tail.exponent
        return exponent if self.ratio.has(*WAVES) else expanded(exponent)

    def log_gap(self, bound: sp.Expr) -> sp.Expr:
        """ln(bound/error) for unbounded noise, up to a constant."""
        return self.exponent - self.tail.power * sp.log(self.ratio) + sp.log(bound)

    def errs_less_on_threshold(self, bound: sp.Expr) -> Answer:
        """Whether the error on the threshold is o(bound); or 0 for small λ, if the bound is 0."""
        if self.bounded:
            sign, numerical = self.beyond
            if sign in (0, 1):
                return Answer(True, numerical)
            if bound == 0:
                return Answer(None if sign is None else False, numerical)
            if self.tail is None:
                return Answer(None if sign is None else False, numerical)
            if self.toward[0] is None or (sign is None and _positive_part(self.edge) is None):
                return Answer(None, numerical)
            return tends_to(self.error / bound, 0)
        sign, numerical = self.toward
        if sign != 1:
            return Answer(None if sign is None else False, numerical)
        if bound == 0:
            return Answer(False, numerical)
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
        known = self.beyond[0]
        beyond = _positive_part(self.edge) if known is None else self.edge if known == 1 else _ZERO
        return leading(rest if beyond is None else rest + beyond)


def _positive_part(expression: sp.Expr) -> sp.Expr | None:
    """max(0, x); None of constants that SymPy cannot compare with 0."""
    try:
        return sp.Max(_ZERO, expression)
    except ValueError:
        return None


def noisy_units(names: Sequence[Any], pairs: Sequence[tuple[sp.Expr, sp.Expr]], whose: str) -> list[NoisyHeaviside]:
    """One unit a layer, from the laws and the pairs (mean, std)."""
    units = []
    for i, (name, (mean, std)) in enumerate(zip(names, pairs)):
        if std == 0:
            units.append(NoisyHeaviside(DIRAC, -mean, _ZERO))
            continue
        if isinstance(name, str) and name == DIRAC:
            raise ValueError(f"the noise of {whose} {i} is called 'dirac', so its std must be 0, not {show(std)}.")
        sign, doubt = eventual_sign(std)
        if sign is None and bounded(sp.simplify, std, steps=_STEPS) == 0:  # sin² + cos² − 1
            sign, doubt = 0, ""
        if sign == 1:
            units.append(NoisyHeaviside(name, -mean, std, doubt))
            continue
        bad = "" if doubt else _not_positive(std, sign)
        if bad:
            raise ValueError(f"the std of {whose} {i}{bad}")
        seen = "" if sign is None else f"; {doubt}, suggest that it is {'0' if sign == 0 else 'negative'}"
        open = f"the std, {show(std)}, is not seen to be positive for all small λ{stopped()}{seen}."
        units.append(NoisyHeaviside(name, -mean, std, doubt, open))
    return units


def _not_positive(std: sp.Expr, sign: int | None) -> str:
    """The rest of a sentence on a standard deviation that is derived not to be positive for all small λ; else empty."""
    if sign == 0:
        return f" is identically 0 for all small λ: {show(std)} leaves no noise, so the layer is silent; give it the std 0."
    how = "is negative" if sign == -1 else ""
    if sign is None:
        along = signs_along(std)
        for bad, word in ((-1, "negative"), (0, "0")):
            if bad in along:
                how = f"is {word} again and again{along[bad]}"
                break
    return f" must be positive for all small λ (or 0 throughout), and {show(std)} {how}." if how else ""


def noisy_weights(families: Any, weights: list[Any]) -> list[NoisyHeaviside | None]:
    """One unit a layer for the noise of its weights; None where these have none."""
    names = families_of(families, len(weights))
    noisy = [(_ZERO, _ZERO) if pair is None else pair for pair in weights]
    return [None if pair is None else u for pair, u in zip(weights, noisy_units(names, noisy, "the weights of layer"))]


def alone(i: int, unit: NoisyHeaviside, which: Sequence[str] = ("(11)", "(12)", "(13)", "(14)")) -> list[Finding]:
    """What is found of the conditions that concern one layer alone, or of those of them that are asked for."""
    if unit.open:
        return [Finding("(11)", i, None, unit.open)]
    return [_ALONE[condition](i, unit) for condition in which]


def vanishing(i: int, unit: NoisyHeaviside) -> Finding:
    """(11): whether mean and standard deviation vanish."""
    mean, std = tends_to(unit.a, 0), tends_to(unit.b, 0)
    answer = both(mean, std, Answer(True, unit.doubt))
    name, culprit = ("mean", mean) if mean.value is not True else ("std", std)
    found = culprit.limit
    where = "" if found is None else f" (its limit: {found.negative() if name == 'mean' else found})"
    bad = f"the {name} does not vanish{where}, so the layer does not converge off its threshold."
    return answer.finding("(11)", i, "mean and std vanish.", bad)


def right_on_threshold(i: int, unit: NoisyHeaviside) -> Finding:
    """(12): whether the layer tends to 1 on its threshold."""
    if unit.tail is None:
        sign, numerical = unit.beyond
        answer = Answer(None if sign is None else sign >= 0, numerical)
        good, bad = "there is no noise left, and no positive mean.", "the mean is positive and there is no noise."
        return answer.finding("(12)", i, good, bad)
    half_width = unit.half_width
    if unit.bounded:
        answer = ask(unit.ratio, lambda points: points.is_at_least(half_width))
    else:
        answer = ask(unit.ratio, lambda points: points.is_equal(sp.oo))
    needed = f"at least {show(half_width)}" if unit.bounded else "∞"
    what = f"{name_of(unit.family)} noise needs {needed}"
    found = answer.limit
    if found is None:
        return answer.finding("(12)", i, f"offset/std tends to what {name_of(unit.family)} noise needs, {needed}.", "")
    goes = "→" if found.low == found.high or found.reached else "stays"
    good = f"offset/std {goes} {found}, and {what}"
    if answer.value is None:
        return Finding("(12)", i, None, f"{good}: more is not told{stopped()}.")
    if answer.value is False and str(found) == show(half_width):
        good = f"offset/std → {found}, which is {show(half_width - found.low)} less than {name_of(unit.family)} noise needs"
    elif answer.value is False and found.reached and show(found.reached[0].value) == show(half_width):
        least = found.reached[0]
        missing = f"{show(half_width - least.value)} less than {name_of(unit.family)} noise needs"
        good = f"offset/std → {show(least.value)}{least.where}, which is {missing}"
    values = _values_at(unit.family, found) if answer.value is False else ""
    return answer.finding("(12)", i, f"{good}.", f"{good}: on its threshold the layer {values}.")


def _values_at(family: Any, found: LimitPoints) -> str:
    """Where a layer goes on its threshold: to which limit, or to which at some λ and which at others."""
    points = [point.value for point in found.reached] if found.low != found.high else []
    places = [v if v in (sp.oo, -sp.oo) else approximate(v) for v in points or (found.low, found.high)]
    if None in places:
        return "does not tend to 1"
    ends = [float(Noise(law_of(family), 0.0, 1.0).cdf(float(place))) for place in places]
    texts = list(dict.fromkeys(f"{end:.4g}" for end in ends))
    if texts == ["1"]:
        return "tends to a little less than 1"
    if len(texts) == 1 and not points:
        return f"tends to {texts[0]}, not to 1"
    if points:
        return f"comes near {' and '.join(texts)} again and again, and does not tend to 1"
    return f"stays between {texts[0]} and {texts[1]}, and does not tend to 1"


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


_ALONE = {"(11)": vanishing, "(12)": right_on_threshold, "(13)": monotone, "(14)": between_zero_and_one}
