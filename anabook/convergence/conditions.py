"""Theorem 2, decided: do regularised networks converge to the quantised one, for given families and schedules?

A layer's noise has mean α(λ) = −a(λ) and standard deviation β(λ), and λ → 0+. Write F0, T0, Q0 and h0 for the
standardised law's distribution function, upper tail, quantile and half-width of support. A Heaviside layer becomes
σ(s) = F0((s + a)/β), with the generalised inverse σ⁻¹(u) = inf{s : σ(s) ≥ u} = −a + β·Q0(u). The conditions, for
rates r_ℓ(λ) and every ε > 0 (numbered as in the paper, (11) and (14) as we read it)::

    (11) a, β → 0: the layer converges off its threshold.    (12) σ(0) → 1: and on it.
    (13) σ is continuous and non-decreasing.                 (14) r_ℓ > 0 and r_ℓ → 0.
    (15) σ⁻¹(ε r_ℓ) → 0.    (16) σ⁻¹(1 − ε r_ℓ) → 0.         (17) σ⁻¹(1 − ε r_ℓ) < 0 for small λ.
    (18) r_{ℓ−1} = O(−σ⁻¹(1 − ε r_ℓ)) from the second layer on.

Whether *some* rates exist is decided backwards. A layer whose output may err by o(B) tolerates on its threshold an
input that errs by less than its margin::

    uniform (a − √3β)₊ + β·B,  triangular (a − √6β)₊ + β·√B,  normal (β²/a)·ln(B/τ),  logistic β·ln(B/τ),

up to constants, τ = T0(a/β) being its own error there. So B = 1 in the last layer, and the margin of each layer is the
bound B of the one before. Rates exist if and only if every layer errs by o(B), on its threshold and off it; and this is
so if and only if the regularised networks converge for all weights, biases and inputs.

Quantisers with K levels need no conditions of their own: a unit with K levels is an affine combination of K − 1
Heaviside units with the same weights and other biases, so verdict and rates are the same for any levels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import sympy as sp

from anabook._validate import choice, integer, real
from anabook.convergence._limits import Limit, eventual_sign, exact, leading, limit, show
from anabook.convergence._orders import LAMBDA, compare
from anabook.noise import FAMILIES, Noise
from anabook.schedules import INTERVALS, POWER_LAWS, Schedule

__all__ = [
    "CONDITIONS", "LAMBDA", "Finding", "PaperRow", "Verdict", "as_formulas", "check", "log_margin",
    "log_margin_converges", "paper_table", "power_law", "two_layers",
]

CONDITIONS = tuple(f"({number})" for number in range(11, 19))
"""The theorem's conditions."""

READINGS = ("time", "lambda")

DIRAC = "dirac"

_HALF_WIDTH = {"uniform": sp.sqrt(3), "triangular": sp.sqrt(6), "normal": sp.oo, "logistic": sp.oo}
_LOGISTIC_RATE = sp.pi / sp.sqrt(3)
_ZERO, _ONE = sp.Integer(0), sp.Integer(1)


# Answers


@dataclass(frozen=True)
class Finding:
    """What became of one condition in one layer.

    Attributes:
        condition: "(11)" … "(18)".
        layer: counted from 0 at the input.
        holds: True or False where it is derived; None where it is not.
        reason: one sentence.
        limit: the limit that decides, a SymPy number; None if none was needed or found.
        evidence: True or False where only numbers at small λ speak, else None.
        weights: whether this is about the layer's weight noise.
    """

    condition: str
    layer: int
    holds: bool | None
    reason: str
    limit: Any = None
    evidence: bool | None = None
    weights: bool = False

    @property
    def numerical(self) -> bool:
        """Whether this rests on numbers at small λ and not on a derivation."""
        return self.evidence is not None

    @property
    def status(self) -> str:
        """"holds", "fails", "numerical" or "undecided"."""
        return _status(self.holds, self.evidence)

    def __str__(self) -> str:
        part = " (weights)" if self.weights else ""
        return f"{self.condition} in layer {self.layer}{part} {_WORDS[self.status]}: {self.reason}"


_WORDS = {"holds": "holds", "fails": "fails", "numerical": "is not decided", "undecided": "is not decided"}
_MARKS = {"holds": "yes", "fails": "NO", "numerical": "num.", "undecided": "?"}


@dataclass(frozen=True)
class Verdict:
    """Whether the theorem's hypothesis is satisfied, and why.

    Attributes:
        families: one name a layer; "dirac" for a layer whose noise is gone already.
        schedules: one pair (mean, std) a layer, SymPy expressions in `LAMBDA`.
        findings: one `Finding` for each condition and layer that was examined. Where no rates exist, the conditions
            about rates are left out, but for the one that no rates can satisfy.
        rates: rates that satisfy the hypothesis, one a layer, or those that were given; None if there are none. A rate
            of 0 stands for a layer that is exact for all small λ, which a layer after it needs.
        bounds: B of each layer, up to constants: rates exist if and only if each layer errs by o(B). None where it
            could not be computed.
        given: whether the rates were given.
    """

    families: tuple[str, ...]
    schedules: tuple[tuple[sp.Expr, sp.Expr], ...]
    findings: tuple[Finding, ...] = field(repr=False)
    rates: tuple[sp.Expr, ...] | None
    bounds: tuple[sp.Expr | None, ...] = field(repr=False)
    given: bool = False

    @property
    def holds(self) -> bool | None:
        """True: rates exist (or the given ones do), and every such network converges. False: not. None: not decided.

        Without given rates, False means more: some network with these schedules has a wrong limit
        (`networks.witness` builds one).
        """
        return _all(finding.holds for finding in self.findings)

    @property
    def evidence(self) -> bool | None:
        """What numbers at small λ suggest where `holds` is None; None if they do not."""
        if self.holds is not None:
            return None
        return _all(f.holds if f.holds is not None else f.evidence for f in self.findings)

    @property
    def status(self) -> str:
        """"holds", "fails", "numerical" (numbers suggest an answer) or "undecided"."""
        return _status(self.holds, self.evidence)

    @property
    def conditions(self) -> dict[str, bool | None]:
        """For each condition whether it holds in all layers; None also if it was not examined, for want of rates."""
        found = {c: [f.holds for f in self.findings if f.condition == c] for c in CONDITIONS}
        return {c: _all(answers) if answers else None for c, answers in found.items()}

    def explain(self) -> str:
        """The verdict in words: a headline, then what decides it, layer by layer."""
        lines = [_headline(self)]
        shown = [f for f in self.findings if f.status != "holds"]
        lines += [f"  {finding}" for finding in shown or self._margins()]
        if self.rates is not None and self.holds:
            lines += [f"  rates: {', '.join(f'r_{i} = {show(r)}' for i, r in enumerate(self.rates))}"]
        return "\n".join(lines)

    def table(self) -> str:
        """A plain table, a line a condition, a column a layer: "yes", "NO", "num." (numerical), "?", "–" (not examined)."""
        head = ["condition", *(f"layer {i}" for i in range(len(self.families)))]
        rows = [["family", *self.families], ["mean", *(show(m) for m, _ in self.schedules)],
                ["std", *(show(s) for _, s in self.schedules)]]
        for condition in CONDITIONS:
            rows.append([condition, *(self._mark(condition, i) for i in range(len(self.families)))])
        if self.rates is not None:
            rows.append(["rate", *map(show, self.rates)])
        widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
        return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in [head, *rows])

    def _mark(self, condition: str, layer: int) -> str:
        found = [f for f in self.findings if f.condition == condition and f.layer == layer]
        order = ("fails", "undecided", "numerical", "holds")
        return _MARKS[min((f.status for f in found), key=order.index)] if found else "–"

    def _margins(self) -> list[Finding]:
        return [f for f in self.findings if f.condition in ("(17)", "(18)")]


def _headline(verdict: Verdict) -> str:
    what = "These rates satisfy" if verdict.given else "Rates exist that satisfy"
    return {
        "holds": f"{what} the hypothesis: the networks converge, whatever weights, biases and input.",
        "fails": "These rates do not satisfy the hypothesis." if verdict.given else
                 "No rates satisfy the hypothesis: some network has a wrong limit.",
        "numerical": f"Not decided; numbers at small λ suggest that the hypothesis "
                     f"{'holds' if verdict.evidence else 'fails'}.",
        "undecided": "Not decided.",
    }[verdict.status]


def _all(answers: Iterable[bool | None]) -> bool | None:
    answers = list(answers)
    return False if False in answers else (None if None in answers else True)


def _status(holds: bool | None, evidence: bool | None) -> str:
    if holds is not None:
        return "holds" if holds else "fails"
    return "undecided" if evidence is None else "numerical"


class _Answer(NamedTuple):
    """A decision, with the limit that decided it."""

    value: bool | None
    numerical: bool = False
    limit: Limit | None = None

    def finding(self, condition: str, layer: int, good: str, bad: str, weights: bool = False) -> Finding:
        text = good if self.value else bad
        derived = None if self.numerical else self.value
        if self.value is None:
            text = f"no limit was found that would show: {good}"
        elif self.numerical:
            text = f"numbers down to λ = 10^−256 suggest, without proof: {text}"
        at = self.limit.low if self.limit is not None and self.limit.low == self.limit.high else None
        return Finding(condition, layer, derived, text, at, self.value if self.numerical else None, weights)


def _both(*answers: _Answer) -> _Answer:
    value = _all(a.value for a in answers)
    deciding = next((a for a in answers if a.value is value), answers[0])
    numerical = deciding.numerical if value is False else any(a.numerical for a in answers)
    return _Answer(value, numerical, deciding.limit)


def _tends_to(expression: sp.Expr, value: Any) -> _Answer:
    found = limit(expression)
    return _Answer(None) if found is None else _Answer(found.is_equal(value), found.numerical, found)


# One layer


@dataclass(frozen=True)
class _Unit:
    """A Heaviside unit with noise of offset a = −mean and standard deviation b."""

    family: str
    a: sp.Expr
    b: sp.Expr

    @property
    def bounded(self) -> bool:
        return self.family == DIRAC or _HALF_WIDTH[self.family].is_finite

    @cached_property
    def ratio(self) -> sp.Expr:
        return sp.expand(self.a / self.b)

    @cached_property
    def edge(self) -> sp.Expr:
        """a − h: how far the threshold is outside the noise; for bounded noise."""
        return sp.expand(self.a if self.family == DIRAC else self.a - _HALF_WIDTH[self.family] * self.b)

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
        t = self.ratio
        return {
            "uniform": lambda: sp.expand(1 - t / sp.sqrt(3)),
            "triangular": lambda: sp.expand(1 - t / sp.sqrt(6)) ** 2,
            "normal": lambda: sp.exp(-sp.expand(t**2) / 2) / t,
            "logistic": lambda: sp.exp(-sp.expand(_LOGISTIC_RATE * t)),
        }[self.family]()

    def log_gap(self, bound: sp.Expr) -> sp.Expr:
        """ln(bound/error) for unbounded noise, up to a constant."""
        t, log_bound = self.ratio, sp.log(bound)
        if self.family == "normal":
            return sp.expand(t**2) / 2 + sp.log(t) + log_bound
        return sp.expand(_LOGISTIC_RATE * t) + log_bound

    def errs_less_on_threshold(self, bound: sp.Expr) -> _Answer:
        """Whether the error on the threshold is o(bound); or 0 for small λ, if the bound is 0."""
        if self.bounded:
            sign, numerical = self.beyond
            if sign is None:
                return _Answer(None)
            if sign >= 0:
                return _Answer(True, numerical)
            return _Answer(False, numerical) if bound == 0 else _tends_to(self.error / bound, 0)
        if bound == 0 or self.toward != 1:
            return _Answer(None if self.toward is None else False)
        return _tends_to(self.log_gap(bound), sp.oo)

    def errs_less_off_threshold(self, bound: sp.Expr) -> _Answer:
        """Whether the error at every other pre-activation is o(bound), given a, β → 0."""
        if self.bounded:
            return _Answer(True)
        if bound == 0:
            return _Answer(False)
        power = 2 if self.family == "normal" else 1
        return _tends_to(self.b**power * -sp.log(bound), 0)

    def margin(self, bound: sp.Expr) -> sp.Expr:
        """−σ⁻¹(1 − ε·bound) up to constants, where the error on the threshold is o(bound)."""
        if self.family == DIRAC:
            return leading(self.a)
        if not self.bounded:
            gap = leading(self.log_gap(bound))
            return leading(self.b**2 * gap / self.a if self.family == "normal" else self.b * gap)
        rest = self.b * (bound if self.family == "uniform" else sp.sqrt(bound))
        return leading(rest + self.edge if self.beyond[0] == 1 else rest)


def _vanishing(i: int, unit: _Unit) -> Finding:
    mean, std = _tends_to(unit.a, 0), _tends_to(unit.b, 0)
    answer = _both(mean, std)
    name, culprit = ("mean", mean) if mean.value is not True else ("std", std)
    found = culprit.limit
    where = "" if found is None else f" (its limit: {show(-found.low if name == 'mean' else found.low)})"
    bad = f"the {name} does not vanish{where}, so the layer does not converge off its threshold."
    return answer.finding("(11)", i, "mean and std vanish.", bad)


def _right_on_threshold(i: int, unit: _Unit) -> Finding:
    if unit.family == DIRAC:
        sign, numerical = unit.beyond
        answer = _Answer(None if sign is None else sign >= 0, numerical)
        good, bad = "there is no noise left, and no positive mean.", "the mean is positive and there is no noise."
        return answer.finding("(12)", i, good, bad)
    found = limit(unit.ratio)
    half_width = _HALF_WIDTH[unit.family]
    if found is None:
        answer = _Answer(None)
    else:
        value = found.is_at_least(half_width) if unit.bounded else found.is_equal(sp.oo)
        answer = _Answer(value, found.numerical, found)
    needed = f"at least {show(half_width)}" if unit.bounded else "∞"
    bad = f"offset/std → {found}, and {unit.family} noise needs {needed}: "
    bad += f"on its threshold the layer tends to {_value_at(unit.family, found)}, not to 1." if found else ""
    return answer.finding("(12)", i, f"offset/std → {found}, and {unit.family} noise needs {needed}.", bad)


def _value_at(family: str, found: Limit) -> str:
    ends = [float(Noise(family, std=1.0).cdf(float(v))) for v in (found.low, found.high)]
    return f"{ends[0]:.4g}" if ends[0] == ends[1] else f"something between {ends[0]:.4g} and {ends[1]:.4g}"


def _monotone(i: int, unit: _Unit) -> Finding:
    if unit.family == DIRAC:
        reason = "a shifted stair: non-decreasing and continuous from the right, enough for the generalised inverse."
    elif unit.bounded:
        reason = ("continuous and non-decreasing, which is all that is needed; it is not strictly increasing, since the "
                  "noise is bounded.")
    else:
        reason = "continuous and strictly increasing."
    return Finding("(13)", i, True, reason)


# Rates


def _judge_rates(units: Sequence[_Unit], rates: Sequence[sp.Expr], weights: Sequence[_Unit | None]) -> list[Finding]:
    findings = []
    for i, (unit, rate) in enumerate(zip(units, rates)):
        if rate == 0:
            findings += [Finding(c, i, True, "the layer is exact for all small λ.") for c in CONDITIONS[3:7]]
        else:
            findings += _judge_rate(i, unit, rate)
        small = findings[-1]
        if i > 0 or weights[i] is not None:
            findings += _judge_margin(i, unit, rates, weights[i], small)
    return findings


def _judge_rate(i: int, unit: _Unit, rate: sp.Expr) -> list[Finding]:
    r = show(rate)
    vanishing = _tends_to(rate, 0).finding("(14)", i, f"r = {r} vanishes.", f"r = {r} does not vanish.")
    off = unit.errs_less_off_threshold(rate)
    power = {"normal": "std²", "logistic": "std"}.get(unit.family)
    if power is None:
        good = bad = "off its threshold the layer is exact for small λ, since the noise is bounded."
    else:
        good = f"{power}·ln(1/r) → 0, so the layer errs by o(r) off its threshold."
        bad = f"{power}·ln(1/r) does not vanish, so the layer does not err by o(r) off its threshold."
    on = unit.errs_less_on_threshold(rate)
    if unit.error == 0:
        here = "the layer is exact on its threshold, which the noise does not reach."
    else:
        here = f"on its threshold the layer errs by about {show(leading(unit.error))}, and that is o(r), r = {r}."
    return [
        vanishing,
        off.finding("(15)", i, good, bad),
        off.finding("(16)", i, "as (15), the laws being symmetric.", "as (15), the laws being symmetric."),
        on.finding("(17)", i, here, here.replace("and that is o(r)", "which is not o(r)")),
    ]


def _judge_margin(
    i: int, unit: _Unit, rates: Sequence[sp.Expr], weight: _Unit | None, small: Finding
) -> list[Finding]:
    if (small.holds if small.evidence is None else small.evidence) is not True:
        holds = None if small.holds is None else False
        return [Finding("(18)", i, holds, "it asks for a positive margin, hence for (17).", evidence=small.evidence)]
    margin, findings = unit.margin(rates[i]), []
    size = show(margin) if margin != 0 else "nothing"
    if i > 0:
        before = rates[i - 1]
        answer = _Answer(before == 0) if margin == 0 or before == 0 else _bounded(before / margin)
        good = f"the layer before errs by o({show(before)}), and this one tolerates about {size}."
        if before == 0:
            answer, good = _Answer(True), "the layer before is exact for small λ."
        bad = f"this layer tolerates about {size}, and the layer before may err by nearly {show(before)}."
        findings.append(answer.finding("(18)", i, good, bad))
    if weight is not None:
        answer = _both(weight.errs_less_on_threshold(margin), weight.errs_less_off_threshold(margin))
        good = f"the weights err by less than the margin, {size}."
        findings.append(answer.finding("(18)", i, good, good.replace("err", "do not err"), weights=True))
    return findings


def _bounded(expression: sp.Expr) -> _Answer:
    found = limit(expression)
    if found is None:
        return _Answer(None)
    if found.low == found.high:
        return _Answer(bool(found.low.is_finite), found.numerical, found)
    return _Answer(True if found.high.is_finite and found.low.is_finite else None, found.numerical, found)


def _look_for_rates(
    units: Sequence[_Unit], weights: Sequence[_Unit | None]
) -> tuple[list[Finding], tuple[sp.Expr, ...] | None, tuple[sp.Expr | None, ...]]:
    """Backwards from the last layer: (findings, rates or None, bounds)."""
    n = len(units)
    bounds: list[sp.Expr | None] = [None] * n
    bound, doubts = _ONE, []
    for i in reversed(range(n)):
        bounds[i] = bound
        on, off = units[i].errs_less_on_threshold(bound), units[i].errs_less_off_threshold(bound)
        answer = _both(on, off)
        if answer.value is not True:
            return [_no_rate(i, units[i], bound, on, off)], None, tuple(bounds)
        margin = units[i].margin(bound)
        if weights[i] is not None:
            mine = _both(weights[i].errs_less_on_threshold(margin), weights[i].errs_less_off_threshold(margin))
            if mine.value is not True:
                bad = f"the weights do not err by less than the layer's margin, {show(margin)}."
                good = f"the weights err by less than {show(margin)}."
                return [mine.finding("(18)", i, good, bad, weights=True)], None, tuple(bounds)
            answer = _both(answer, mine)
        if answer.numerical:
            doubts.append(i)
        bound = margin
    rates = _rates(units, weights, bounds)
    findings = _judge_rates(units, rates, weights)
    judged = [_doubted(f) if f.layer in doubts and f.condition in ("(17)", "(18)") else f for f in findings]
    return judged, rates, tuple(bounds)


def _doubted(finding: Finding) -> Finding:
    if finding.holds is None:
        return finding
    reason = f"numbers down to λ = 10^−256 suggest, without proof: {finding.reason}"
    return Finding(finding.condition, finding.layer, None, reason, finding.limit, finding.holds, finding.weights)


def _no_rate(i: int, unit: _Unit, bound: sp.Expr, on: _Answer, off: _Answer) -> Finding:
    """Why no rate fits between what layer i errs by and what the layers behind it tolerate."""
    tolerated = f"o({show(bound)})" if bound != 0 else "nothing"
    if on.value is not True:
        answer = on
        mine = f"on its threshold layer {i} errs by about {show(leading(unit.error))}"
    else:
        answer = off
        tail = "exp(−s²/(2·std²))" if unit.family == "normal" else "exp(−π·s/(√3·std))"
        mine = f"off its threshold layer {i} errs by about {tail}, std = {show(unit.b)}"
    good = f"{mine}, and the layers behind it tolerate {tolerated}."
    bad = f"{mine}, but the layers behind it tolerate {tolerated} only: no rate lies between."
    return answer.finding("(18)", i + 1, good, bad)


def _rates(
    units: Sequence[_Unit], weights: Sequence[_Unit | None], bounds: Sequence[sp.Expr]
) -> tuple[sp.Expr, ...]:
    """Rates that meet (18) with equality up to constants: as large as they may be, but for one factor that vanishes."""
    noisy = [u for u in (*units, *weights) if u is not None and not u.bounded]
    slow = [u for u in noisy if u.errs_less_off_threshold(LAMBDA).value is not True]
    factor = leading(LAMBDA)
    for unit in slow:
        factor = _larger(factor, leading(unit.b))
    for unit, weight, bound in zip(units, weights, bounds):
        if unit.error != 0:
            factor = _larger(factor, leading(sp.sqrt(leading(unit.error) / bound)))
        if weight is not None and weight.error != 0:
            factor = _larger(factor, leading(sp.sqrt(leading(weight.error) / unit.margin(bound))))
    rates = [factor]
    for unit in reversed(units[1:]):
        rates.append(unit.margin(rates[-1]))
    return tuple(reversed(rates))


def _larger(x: sp.Expr, y: sp.Expr) -> sp.Expr:
    found = limit(x / y)
    if found is None or found.low != found.high:
        return x + y
    return y if found.low == 0 else x


# The door


def check(
    families: Any,
    schedules: Any,
    rates: Sequence[Any] | None = None,
    *,
    weights: Any = None,
    reading: str = "time",
) -> Verdict:
    """Decide the hypothesis of Theorem 2, (11)–(18), layer by layer, and say why.

    Args:
        families: "uniform", "triangular", "normal" or "logistic", for all layers, or one name a layer.
        schedules: one pair (mean, std) a layer, from the input on, each a number or a SymPy expression in one symbol,
            the same everywhere, that tends to 0 from above. Or a `Schedule`: see `as_formulas` for what is judged then.
        rates: None to look for rates; or one a layer, to check these.
        weights: None if the weights have no noise. "same" if each layer's weights have its activations' noise, as in the
            paper's experiments. Or one pair (mean, std) or None a layer. A layer's weight error must then vanish faster
            than its margin: r_{ℓ−1} + ρ_ℓ = O(−σ_ℓ⁻¹(1 − ε r_ℓ)) in place of (18), and also in the first layer.
        reading: "time" or "lambda", for a `Schedule`: see `as_formulas`.

    Returns:
        A `Verdict`.

    Raises:
        ValueError: no layers, a layer without noise, lists of different lengths, an unknown family, a negative std, more
            than one symbol, a rate that is not positive.
        TypeError: a mean or std that is neither a number nor a SymPy expression.

    Example:
        >>> check("normal", [(-LAMBDA, LAMBDA**2), (-LAMBDA**3, LAMBDA**4)]).holds
        True
        >>> print(check("normal", [(0, LAMBDA)]).explain())
        No rates satisfy the hypothesis: some network has a wrong limit.
          (12) in layer 0 fails: offset/std → 0, and normal noise needs ∞: on its threshold the layer tends to 0.5, not to 1.
          (17) in layer 0 fails: it asks that the layer be right on its threshold, hence for (12).
    """
    if isinstance(schedules, Schedule):
        schedules = as_formulas(schedules, reading)
    pairs, rates, weights = _read(schedules, rates, weights)
    units = _units(_names(families, len(pairs)), pairs, "layer")
    noises = _weight_units(families, weights)
    singly = (_vanishing, _right_on_threshold, _monotone)
    findings = [condition(i, unit) for i, unit in enumerate(units) for condition in singly]
    given = rates is not None
    bounds: tuple[sp.Expr | None, ...] = (None,) * len(units)
    if given:
        for i, rate in enumerate(rates):
            if eventual_sign(rate)[0] != 1:
                raise ValueError(f"the rate of layer {i} must be positive for all small λ, not {show(rate)}.")
        findings += _judge_rates(units, rates, noises)
    elif all((f.holds if f.evidence is None else f.evidence) is True for f in findings):
        more, rates, bounds = _look_for_rates(units, noises)
        findings += more
    else:
        findings += [_needs_right(f) for f in findings if f.condition == "(12)" and f.holds is not True]
    return Verdict(
        tuple(u.family for u in units), tuple((-u.a, u.b) for u in units),
        tuple(sorted(findings, key=lambda f: (f.layer, f.condition, f.weights))), rates, bounds, given,
    )


def _needs_right(finding: Finding) -> Finding:
    return Finding("(17)", finding.layer, finding.holds, "it asks that the layer be right on its threshold, hence for (12).",
                   evidence=finding.evidence)


def two_layers(families: Any, schedules: Any) -> tuple[Finding, Finding]:
    """The sharp criterion for two layers, as it is stated: for every network to converge it is necessary and sufficient

    (i) that in both layers mean and std vanish and the offset is at least h0·std in the limit, and
    (ii) that the first layer's error at every pre-activation is o(offset of the second).

    Args:
        families, schedules: as for `check`, two layers.

    Returns:
        Two findings, (i) and (ii). (ii) is None where (i) fails.
    """
    if isinstance(schedules, Schedule):
        schedules = as_formulas(schedules)
    pairs, _, _ = _read(schedules, None, None)
    if len(pairs) != 2:
        raise ValueError(f"this criterion is for two layers, not for {len(pairs)}.")
    units = _units(_names(families, 2), pairs, "layer")
    singles = [f for i, u in enumerate(units) for f in (_vanishing(i, u), _right_on_threshold(i, u))]
    first = _all(f.holds for f in singles)
    worst = next((f for f in singles if f.holds is not True), singles[-1])
    reason = worst.reason if first is not True else "both layers converge, each by itself."
    evidence = None if first is not None else _all(f.holds if f.holds is not None else f.evidence for f in singles)
    one = Finding("(i)", worst.layer, first, reason, evidence=evidence)
    if first is not True:
        return one, Finding("(ii)", 0, None, "not examined, since (i) is not established.")
    offset = units[1].a
    answer = _both(units[0].errs_less_on_threshold(offset), units[0].errs_less_off_threshold(offset))
    good = f"the first layer errs by o({show(leading(offset))}), the second layer's offset."
    return one, answer.finding("(ii)", 0, good, good.replace("errs", "does not err"))


def _names(families: Any, n: int) -> list[str]:
    names = [families] * n if isinstance(families, str) else list(families)
    if len(names) != n:
        raise ValueError(f"{n} schedule{'s' * (n > 1)} need{'s' * (n == 1)} {n} famil{'ies' if n > 1 else 'y'} or one for "
                         f"all, not {len(names)}.")
    return [name if name == DIRAC else choice(name, FAMILIES, f"the family of layer {i}") for i, name in enumerate(names)]


def _read(
    schedules: Any, rates: Any, weights: Any
) -> tuple[list[tuple[sp.Expr, sp.Expr]], tuple[sp.Expr, ...] | None, list[tuple[sp.Expr, sp.Expr] | None]]:
    """All formulas, with λ in place of their symbol."""
    pairs = [_pair(i, pair, "layer") for i, pair in enumerate(schedules)]
    n = len(pairs)
    if n == 0:
        raise ValueError("there must be at least one layer; schedules is empty.")
    if rates is not None:
        rates = tuple(_formula(rate, f"the rate of layer {i}") for i, rate in enumerate(rates))
        if len(rates) != n:
            raise ValueError(f"{n} layer{'s' * (n > 1)} need{'s' * (n == 1)} {n} rate{'s' * (n > 1)}, not {len(rates)}.")
    weights = _weight_pairs(weights, pairs)
    formulas = [*(part for pair in pairs for part in pair), *(rates or ()), *(p for pair in weights if pair for p in pair)]
    symbols = sorted({s for formula in formulas for s in formula.free_symbols}, key=str)
    if len(symbols) > 1:
        raise ValueError(f"means, stds and rates may depend on one symbol only, λ, and these depend on "
                         f"{', '.join(map(str, symbols))}.")
    put = {symbols[0]: LAMBDA} if symbols else {}
    renamed = [tuple(part.xreplace(put) for part in pair) for pair in pairs]
    renamed_weights = [None if pair is None else tuple(part.xreplace(put) for part in pair) for pair in weights]
    return renamed, None if rates is None else tuple(r.xreplace(put) for r in rates), renamed_weights


def _weight_pairs(weights: Any, pairs: list[Any]) -> list[Any]:
    if weights is None:
        return [None] * len(pairs)
    if isinstance(weights, str):
        choice(weights, ("same",), "weights")
        return list(pairs)
    weights = list(weights)
    if len(weights) != len(pairs):
        raise ValueError(f"weights must have one entry for each of the {len(pairs)} layers, not {len(weights)}.")
    return [None if pair is None else _pair(i, pair, "weights of layer") for i, pair in enumerate(weights)]


def _pair(i: int, pair: Any, whose: str) -> tuple[sp.Expr, sp.Expr]:
    if pair is None:
        raise ValueError(f"{whose} {i} has no noise; give it a pair (mean, std), or (0, 0) if its noise is gone.")
    try:
        mean, std = pair
    except (TypeError, ValueError):
        raise TypeError(f"the schedule of {whose} {i} must be a pair (mean, std), not {pair!r}.") from None
    return _formula(mean, f"the mean of {whose} {i}"), _formula(std, f"the std of {whose} {i}")


def _formula(value: Any, what: str) -> sp.Expr:
    if not isinstance(value, sp.Expr):
        value = sp.sympify(real(value, what) if not isinstance(value, int) or isinstance(value, bool) else value)
    if value.has(sp.nan, sp.oo, sp.zoo, sp.I):
        raise ValueError(f"{what} must be finite and real, not {show(value)}.")
    return exact(value)


def _units(names: Sequence[str], pairs: Sequence[tuple[sp.Expr, sp.Expr]], whose: str) -> list[_Unit]:
    units = []
    for i, (name, (mean, std)) in enumerate(zip(names, pairs)):
        if std == 0:
            units.append(_Unit(DIRAC, -mean, _ZERO))
            continue
        if name == DIRAC:
            raise ValueError(f"the noise of {whose} {i} is called 'dirac', so its std must be 0, not {show(std)}.")
        sign, _ = eventual_sign(std)
        if sign != 1:
            what = "is negative" if sign == -1 else "is not seen to be positive"
            raise ValueError(f"the std of {whose} {i} must be positive for all small λ (or 0 throughout), and "
                             f"{show(std)} {what}.")
        units.append(_Unit(name, -mean, std))
    return units


def _weight_units(families: Any, weights: list[Any]) -> list[_Unit | None]:
    names = [families] * len(weights) if isinstance(families, str) else list(families)
    noisy = [(_ZERO, _ZERO) if pair is None else pair for pair in weights]
    return [None if pair is None else u for pair, u in zip(weights, _units(names, noisy, "the weights of layer"))]


# Families of schedules


def power_law(k: Any, p: Any, offset: Any = 1, std: Any = 1) -> tuple[sp.Expr, sp.Expr]:
    """Mean −offset·λ^k and standard deviation std·λ^p, in `LAMBDA`.

    With power laws in every layer the theorem's hypothesis is met if and only if k < p in each layer with a positive
    offset, or k = p and offset ≥ h0·std where the noise is bounded: the order of the layers does not matter.
    """
    k, p = _formula(k, "k"), _formula(p, "p")
    return -_formula(offset, "offset") * LAMBDA**k, _formula(std, "std") * LAMBDA**p


def log_margin(family: str, p: Any, kappa: Any) -> tuple[sp.Expr, sp.Expr]:
    """Mean and standard deviation, in `LAMBDA`, of a schedule that errs by about λ^κ on its threshold.

    With u = λ^p and L = ln(1/λ): uniform noise of width u and offset (u/2)(1 − 2λ^κ), an error of λ^κ exactly;
    triangular noise of half-width u and offset u(1 − √(2λ^κ)), the same; normal noise of std u and offset u√(2κL),
    about λ^κ/√(4πκL); logistic noise of scale u and offset κuL, 1/(1 + λ^−κ).

    Args:
        family: one of the four.
        p: exponent of the width, positive.
        kappa: exponent of the error, positive.
    """
    choice(family, FAMILIES, "family")
    p, kappa = _positive(p, "p"), _positive(kappa, "kappa")
    u, log = LAMBDA**p, sp.log(1 / LAMBDA)
    return {
        "uniform": lambda: (-(u / 2) * (1 - 2 * LAMBDA**kappa), u / (2 * sp.sqrt(3))),
        "triangular": lambda: (-u * (1 - sp.sqrt(2) * LAMBDA ** (kappa / 2)), u / sp.sqrt(6)),
        "normal": lambda: (-u * sp.sqrt(2 * kappa) * sp.sqrt(log), u),
        "logistic": lambda: (-kappa * u * log, u * sp.pi / sp.sqrt(3)),
    }[family]()


def log_margin_converges(family: str, ps: Sequence[Any], kappas: Sequence[Any]) -> bool:
    """Whether layers with log margins (p, κ) converge for every network: the closed criterion.

    κ_{ℓ−1} ≥ p_ℓ (normal, logistic); κ_i > Σ_{j>i} p_j (uniform); κ_i > Σ_{j>i} p_j·2^{−(j−i−1)} (triangular).

    Args:
        family: one of the four, for all layers.
        ps, kappas: exponents of each quantised layer, from the input on.
    """
    choice(family, FAMILIES, "family")
    ps, kappas = [_positive(p, "p") for p in ps], [_positive(k, "kappa") for k in kappas]
    if not ps or len(ps) != len(kappas):
        raise ValueError(f"there must be as many p as kappa, and at least one, not {len(ps)} and {len(kappas)}.")
    if not _HALF_WIDTH[family].is_finite:
        return all(compare(kappa, p) >= 0 for kappa, p in zip(kappas, ps[1:]))
    half = _ONE if family == "uniform" else sp.Rational(1, 2)
    needed = [sum((p * half**j for j, p in enumerate(ps[i + 1 :])), _ZERO) for i in range(len(ps))]
    return all(compare(kappa, bound) > 0 for kappa, bound in zip(kappas[:-1], needed))


def _positive(value: Any, what: str) -> sp.Expr:
    value = _formula(value, what)
    if not value.is_number or compare(value, 0) <= 0:
        raise ValueError(f"{what} must be a positive number, not {show(value)}.")
    return value


# Schedules in time


def as_formulas(schedule: Schedule, reading: str = "time") -> tuple[tuple[sp.Expr, sp.Expr], ...]:
    """The means and standard deviations of a schedule as functions of λ → 0+.

    A schedule speaks of time, the theorem of λ → 0, so one has to say which limit is meant.

    "time": λ is the time left until the last interval ends at T, t = T − λ. A layer whose interval ends at T has
    λ_ℓ = λ/(its interval's length), hence mean c_α·λ_ℓ^d and std c_β·λ_ℓ^(2d). A layer that finished earlier has no noise
    left: mean 0 (or its static mean), std 0. What stays static does not vanish.

    "lambda": all layers share one λ, mean c_α·λ^d and std c_β·λ^(2d). Only the exponents are left of a schedule.

    With exponential decay (`growth` g) there is no end in the formula: λ = g^−(t − s), the same in all layers.

    Args:
        schedule: with intervals and exponents, not one made from a callable.
        reading: "time" or "lambda".

    Returns:
        One pair (mean, std) a layer, in `LAMBDA`.

    Raises:
        ValueError: a schedule from a callable, which has no formula; another reading.
    """
    choice(reading, READINGS, "reading")
    if schedule.rule is not None:
        raise ValueError("a schedule made from a callable has no formula in λ; give one pair (mean, std) a layer instead.")
    last, pairs = max(end for _, end in schedule.intervals), []
    for (start, end), (d_mean, d_std) in zip(schedule.intervals, schedule.exponents):
        shared = reading == "lambda" or schedule.growth is not None
        over = not shared and end < last
        fading = LAMBDA if shared else LAMBDA / _decimal(end - start)
        mean = _decimal(schedule.mean0) * (1 if schedule.static_mean else 0 if over else fading ** _decimal(d_mean))
        std = _decimal(schedule.std0) * (1 if schedule.static_std else 0 if over else fading ** _decimal(d_std))
        pairs.append((sp.sympify(mean), sp.sympify(std)))
    return tuple(pairs)


def _decimal(value: float) -> sp.Rational:
    return sp.Rational(str(value))


class PaperRow(NamedTuple):
    """One of the paper's settings and what the theorem says about it.

    Attributes:
        interval, power_law: of the dynamic schedule.
        mean0: 0 (static mean) or −½ (dynamic, as in the authors' code).
        family: of the noise.
        holds: whether rates exist.
        failing: which conditions fail where; empty if none.
    """

    interval: str
    power_law: str
    mean0: float
    family: str
    holds: bool | None
    failing: str


def paper_table(
    n_layers: int = 7, period: float = 50, half_width: float = 0.5, reading: str = "time"
) -> tuple[PaperRow, ...]:
    """The 8 dynamic schedules × 2 settings of the mean × 4 families of the paper's experiments, each decided.

    Args:
        n_layers: quantised layers (7 in the VGG, 9 in the DSCNN).
        period: epochs (50 and 10).
        half_width: all noise starts with at least 95 % of its mass within this half-width, in quanta.
        reading: "time" or "lambda", as for `as_formulas`.

    Returns:
        64 rows.
    """
    n_layers, rows = integer(n_layers, "n_layers", minimum=1), []
    for interval in INTERVALS:
        for law in POWER_LAWS:
            for mean0 in (0.0, -0.5):
                for family in FAMILIES:
                    std0 = Noise.covering(family, half_width).std
                    options = {"power_law": law, "mean0": mean0, "std0": std0, "static_mean": mean0 == 0}
                    s = Schedule.periodic(n_layers, period, interval, **options)
                    verdict = check(family, s, reading=reading)
                    rows.append(PaperRow(interval, law, mean0, family, verdict.holds, _failing(verdict)))
    return tuple(rows)


def _failing(verdict: Verdict) -> str:
    by_condition: dict[str, list[int]] = {}
    for finding in verdict.findings:
        if finding.holds is False:
            by_condition.setdefault(finding.condition, []).append(finding.layer)
    groups: dict[tuple[int, ...], list[str]] = {}
    for condition, layers in by_condition.items():
        groups.setdefault(tuple(layers), []).append(condition)
    return "; ".join(f"{', '.join(names)} in layer{'s' * (len(ls) > 1)} {_runs(ls)}" for ls, names in groups.items())


def _runs(layers: tuple[int, ...]) -> str:
    whole = len(layers) > 2 and layers == tuple(range(layers[0], layers[-1] + 1))
    return f"{layers[0]}–{layers[-1]}" if whole else ", ".join(map(str, layers))
