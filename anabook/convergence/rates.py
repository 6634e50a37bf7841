"""Rates between the errors of one layer and the margins of the next: conditions (15) to (18), judged or met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import sympy as sp

from anabook.convergence.answers import Answer, both, stays_bounded, stopped, tends_to
from anabook.convergence.formula_text import show
from anabook.convergence.leash import bounded
from anabook.convergence.limits import derived_limit, envelope, eventual_sign, leading, signs_along
from anabook.convergence.noisy_heavisides import NoisyHeaviside
from anabook.convergence.orders import LAMBDA
from anabook.convergence.tails import decay_in_words, power_in_words
from anabook.convergence.verdicts import CONDITIONS, Finding

STEPPED = (sp.Piecewise, sp.Heaviside, sp.sign, sp.floor, sp.ceiling, sp.frac)
"""Functions that may jump again and again."""


def judge_rates(
    units: Sequence[NoisyHeaviside], rates: Sequence[sp.Expr], weights: Sequence[NoisyHeaviside | None]
) -> list[Finding]:
    """(15) to (18) for given rates, in every layer."""
    findings = []
    for i, (unit, rate) in enumerate(zip(units, rates)):
        findings += _judge_zero(i, unit) if rate == 0 else _judge_rate(i, unit, rate)
        small = findings[-1]
        if i > 0 or weights[i] is not None:
            findings += _judge_margin(i, unit, rates, weights[i], small)
    return findings


def _judge_zero(i: int, unit: NoisyHeaviside) -> list[Finding]:
    """A rate of 0, which stands for a layer that is exact for all small λ."""
    good, bad = "the layer is exact for all small λ.", "the layer errs, and a rate of 0 is for layers that are exact."
    off, on = unit.errs_less_off_threshold(sp.Integer(0)), unit.errs_less_on_threshold(sp.Integer(0))
    return [answer.finding(c, i, good, bad) for c, answer in zip(CONDITIONS[4:7], (off, off, on))]


def _judge_rate(i: int, unit: NoisyHeaviside, rate: sp.Expr) -> list[Finding]:
    r = show(rate)
    off = unit.errs_less_off_threshold(rate)
    if unit.bounded:
        good = bad = "off its threshold the layer is exact for small λ, since the noise is bounded."
    else:
        power = power_in_words("std", unit.tail.exponent)
        good = f"{power}·ln(1/r) → 0, so the layer errs by o(r) off its threshold."
        bad = f"{power}·ln(1/r) does not vanish, so the layer does not err by o(r) off its threshold."
    on = both(unit.errs_less_on_threshold(rate), tends_to(rate, 0))
    if unit.error == 0:
        here = "the layer is exact on its threshold, which the noise does not reach."
    else:
        here = f"on its threshold the layer errs by about {show(leading(unit.error))}, and that is o(r), r = {r}."
    return [
        off.finding("(15)", i, good, bad),
        off.finding("(16)", i, "as (15), the laws being symmetric.", "as (15), the laws being symmetric."),
        on.finding("(17)", i, here, here.replace("and that is o(r)", "which is not o(r)")),
    ]


def _judge_margin(
    i: int, unit: NoisyHeaviside, rates: Sequence[sp.Expr], weight: NoisyHeaviside | None, small: Finding
) -> list[Finding]:
    if (small.holds if small.evidence is None else small.evidence) is not True:
        holds = None if small.holds is None else False
        return [Finding("(18)", i, holds, "it asks for a positive margin, hence for (17).", evidence=small.evidence)]
    margin, findings = unit.margin(rates[i]), []
    size = show(margin) if margin != 0 else "nothing"
    if i > 0:
        before = rates[i - 1]
        answer = Answer(before == 0) if margin == 0 or before == 0 else stays_bounded(before / margin)
        good = f"the layer before errs by o({show(before)}), and this one tolerates about {size}."
        if before == 0:
            answer, good = Answer(True), "the layer before is exact for small λ."
        bad = f"this layer tolerates about {size}, and the layer before may err by nearly {show(before)}."
        findings.append(answer.finding("(18)", i, good, bad))
    if weight is not None:
        answer = both(weight.errs_less_on_threshold(margin), weight.errs_less_off_threshold(margin))
        good = f"the weights err by less than the margin, {size}."
        findings.append(answer.finding("(18)", i, good, good.replace("err", "do not err"), weights=True))
    return findings


def refuse_unless_rate(i: int, rate: sp.Expr) -> str:
    """What was looked at if only numbers show that this is a rate as the paper has them, or 0; "" if derived.

    Raises:
        ValueError: it is not positive, does not tend to 0, or falls somewhere however small λ is.
    """
    what = f"the rate of layer {i}"
    if rate == 0:
        return ""
    sign, looked = eventual_sign(rate)
    if sign != 1:
        raise ValueError(f"{what} must be positive for all small λ, not {show(rate)}.")
    vanishes = tends_to(rate, 0)
    if vanishes.value is False:
        raise ValueError(f"{what} must tend to 0 as λ does, which {show(rate)} does not.")
    if rate.has(sp.Piecewise):
        raise ValueError(f"{what} must be continuous, and the branches of {show(rate)} alternate for ever.")
    slope = _slope(rate)
    sign, seen = eventual_sign(slope)
    if sign in (0, 1):
        return looked or vanishes.numerical or seen
    falls = signs_along(slope).get(-1, "") if sign is None else ""
    if sign == -1:
        how = "falls as λ grows"
    elif falls:
        how = f"falls again and again{falls}"
    else:
        how = f"is not seen to be so{stopped()}"
    raise ValueError(f"{what} must be non-decreasing for small λ, as the paper's rates are, and {show(rate)} {how}.")


def rises(rate: sp.Expr) -> bool | None:
    """Whether it is derived that a rate is non-decreasing for small λ, or that it is not; else None."""
    if rate.has(*STEPPED):  # the slope says nothing of jumps
        return None
    slope = _slope(rate)
    sign, seen = eventual_sign(slope)
    if sign is None:
        return False if -1 in signs_along(slope) else None
    return None if seen else sign >= 0


def _slope(rate: sp.Expr) -> sp.Expr:
    return bounded(sp.diff, rate, LAMBDA, default=sp.Derivative(rate, LAMBDA))


def look_for_rates(
    units: Sequence[NoisyHeaviside], weights: Sequence[NoisyHeaviside | None]
) -> tuple[list[Finding], tuple[sp.Expr, ...] | None, tuple[sp.Expr | None, ...]]:
    """Backwards from the last layer: (findings, rates or None, bounds)."""
    # Below a bound that oscillates there may be one that does not, and still is enough for the layer. Then all layers before
    # are asked for more than is needed: so that way may prove that there are rates, and not that there are none.
    found = _backwards(units, weights, steady=True)
    if found.missing is not None:
        found = _backwards(units, weights, steady=False)
    bounds = tuple(found.bounds)
    if found.missing is not None:
        return [found.missing], None, bounds
    for steady in (True, False):
        rates = _rates(units, weights, bounds, steady)
        findings = judge_rates(units, rates, weights)
        if all(f.holds for f in findings):
            break
    return doubted([_tried(f) for f in findings], found.doubts), rates, bounds


class _Backwards(NamedTuple):
    """What each layer may err by, from the last one on: the bounds, doubts by layer, and why there are none, if so."""

    bounds: list[sp.Expr | None]
    doubts: dict[int, str]
    missing: Finding | None


def _backwards(units: Sequence[NoisyHeaviside], weights: Sequence[NoisyHeaviside | None], steady: bool) -> _Backwards:
    bounds: list[sp.Expr | None] = [None] * len(units)
    doubts: dict[int, str] = {}
    bound = sp.Integer(1)
    for i in reversed(range(len(units))):
        if steady:
            below = envelope(bound, -1)
            answer = both(*_errs_less(units[i], below))
            bound = below if answer.value is True and not answer.numerical else bound
        bounds[i] = bound
        on, off = _errs_less(units[i], bound)
        answer = both(on, off)
        if answer.value is not True:
            return _Backwards(bounds, doubts, _no_rate(i, units, bound, on, off))
        margin = units[i].margin(bound)
        if weights[i] is not None:
            mine = both(*_errs_less(weights[i], margin))
            if mine.value is not True:
                bad = f"the weights do not err by less than the layer's margin, {show(margin)}."
                good = f"the weights err by less than {show(margin)}."
                return _Backwards(bounds, doubts, mine.finding("(18)", i, good, bad, weights=True))
            answer = both(answer, mine)
        if answer.numerical:
            doubts[i] = answer.numerical
        bound = margin
    return _Backwards(bounds, doubts, None)


def _tried(finding: Finding) -> Finding:
    """A finding on rates of our own choice: others may do better, so where these fail nothing is decided."""
    if finding.holds is not False:
        return finding
    return replace(finding, holds=None, reason=f"of the rates that were tried: {finding.reason}")


def _errs_less(unit: NoisyHeaviside, bound: sp.Expr) -> tuple[Answer, Answer]:
    return unit.errs_less_on_threshold(bound), unit.errs_less_off_threshold(bound)


def doubted(findings: Sequence[Finding], doubts: Mapping[int, str]) -> list[Finding]:
    """The findings, with those on rates weakened in layers where something they rest on is only seen in numbers."""
    return [f.doubted(doubts[f.layer]) if f.layer in doubts and f.condition in ("(17)", "(18)") else f for f in findings]


def _no_rate(i: int, units: Sequence[NoisyHeaviside], bound: sp.Expr, on: Answer, off: Answer) -> Finding:
    """Why no rate fits between what layer i errs by and what the layers behind it tolerate."""
    unit = units[i]
    tolerated = f"o({show(bound)})" if bound != 0 else "nothing"
    if on.value is None and unit.error == 1:
        condition, layer = ("(17)", i) if i + 1 == len(units) else ("(18)", i + 1)
        return Finding(condition, layer, None, f"how much layer {i} errs on its threshold is not told{stopped()}.")
    if on.value is not True:
        answer = on
        mine = f"on its threshold layer {i} errs by about {show(leading(unit.error))}"
    else:
        answer = off
        mine = f"off its threshold layer {i} errs by about {decay_in_words(unit.tail)}, std = {show(unit.b)}"
    if i + 1 == len(units):
        return answer.finding("(17)", i, f"{mine}, which vanishes.", f"{mine}, which does not vanish.")
    good = f"{mine}, and the layers behind it tolerate {tolerated}."
    bad = f"{mine}, but the layers behind it tolerate {tolerated} only: no rate lies between."
    return answer.finding("(18)", i + 1, good, bad)


def _rates(
    units: Sequence[NoisyHeaviside],
    weights: Sequence[NoisyHeaviside | None],
    bounds: Sequence[sp.Expr],
    steady: bool,
) -> tuple[sp.Expr, ...]:
    """Rates that meet (18) with equality up to constants: as large as they may be, but for one factor that vanishes.

    Steady ones lie below margins that oscillate, and above errors that do; that may be asked too much.
    """

    def above(formula: sp.Expr) -> sp.Expr:
        return envelope(formula, 1) if steady else leading(formula)

    def below(formula: sp.Expr) -> sp.Expr:
        return envelope(formula, -1) if steady else formula

    noisy = [u for u in (*units, *weights) if u is not None and not u.bounded]
    slow = [u for u in noisy if u.errs_less_off_threshold(LAMBDA).value is not True]
    factor = leading(LAMBDA)
    for unit in slow:
        factor = _larger(factor, above(unit.b))
    for unit, weight, bound in zip(units, weights, bounds):
        if unit.error != 0:
            factor = _larger(factor, _root(above(unit.error / bound)))
        if weight is not None and weight.error != 0:
            factor = _larger(factor, _root(above(weight.error / unit.margin(bound))))
    rates = [factor]
    for unit in reversed(units[1:]):
        rates.append(below(unit.margin(rates[-1])))
    return tuple(reversed(rates))


def _root(formula: sp.Expr) -> sp.Expr:
    """The square root, in whatever form; SymPy may take for ever to look for a better one."""
    return bounded(sp.sqrt, formula, default=sp.Pow(formula, sp.Rational(1, 2), evaluate=False))


def _larger(x: sp.Expr, y: sp.Expr) -> sp.Expr:
    found = derived_limit(x / y)
    if found is None or found.low != found.high:
        return x + y
    return y if found.low == 0 else x
