"""The hypothesis of Theorem 2, decided, for any number of layers; and the sharp criterion for two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sympy as sp

from anabook._validate import choice
from anabook.convergence.answers import both
from anabook.convergence.formula_text import show
from anabook.convergence.formulas import families_of, given_families, read
from anabook.convergence.leash import SECONDS, within
from anabook.convergence.limits import leading
from anabook.convergence.noisy_heavisides import alone, noisy_units, noisy_weights
from anabook.convergence.rates import doubted, judge_rates, look_for_rates, refuse_unless_rate, rises
from anabook.convergence.schedule_formulas import READINGS, as_formulas
from anabook.convergence.tails import is_one, too_slow, work_out
from anabook.convergence.verdicts import Finding, Verdict, all_hold
from anabook.schedules import Schedule


def check(
    families: Any,
    schedules: Any,
    rates: Sequence[Any] | None = None,
    *,
    weights: Any = None,
    reading: str = "time",
    seconds: float = SECONDS,
) -> Verdict:
    """Decide the hypothesis of Theorem 2, (11)–(18), layer by layer, and say why.

    Args:
        families: a law for all layers, or one a layer: "uniform", "triangular", "normal", "logistic", a `Law`, or a `Noise`
            or `Density`, whose own mean and standard deviation do not count. What decides is how its tail ends, at an edge
            of some order or like exp(−c·t^γ); for a density SymPy finds that. The law must be symmetric about its mean and
            fall on either side of it, which is looked at in numbers where the law does not say so.
        schedules: one pair (mean, std) a layer, from the input on, each a number or a SymPy expression in one symbol,
            the same everywhere, that tends to 0 from above. Or a `Schedule`: see `as_formulas` for what is judged then.
        rates: None to look for rates; or one a layer, to check these. They must be positive, continuous and non-decreasing
            for small λ, as the paper's are, and tend to 0; or 0 for a layer that is exact for all small λ.
        weights: None if the weights have no noise. "same" if each layer's weights have its activations' noise, as in the
            code of the paper's authors. Or one pair (mean, std) or None a layer. A layer's weight error must then vanish faster
            than its margin: r_{ℓ−1} + ρ_ℓ = O(−σ_ℓ⁻¹(1 − ε r_ℓ)) in place of (18), and also in the first layer.
        reading: "time" or "lambda", for a `Schedule`: see `as_formulas`.
        seconds: what the decision may take. What is not decided by then stays undecided, and says so. The mean, std and tails
            of a density, which SymPy works out once, are part of it.

    Returns:
        A `Verdict`. Where no rates are given, it is about positive rates; `Verdict.rising` says whether those that are
        found are non-decreasing too.

    Raises:
        ValueError: no layers, a layer without noise, lists of different lengths, an unknown family, a law of another kind or
            whose tail is not known, a std that is derived not to be positive (or 0 for all small λ, but not given as 0), more
            than one symbol, or one that may not stand for every small positive number, an unknown function, a rate
            that is not positive, falls as λ grows, or does not tend to 0.
        TypeError: a mean or std that is neither a number nor a SymPy expression.

    Example:
        >>> from anabook.convergence import LAMBDA
        >>> check("normal", [(-LAMBDA, LAMBDA**2), (-LAMBDA**3, LAMBDA**4)]).holds
        True
        >>> print(check("normal", [(0, LAMBDA)]).explain())
        No positive rates satisfy the hypothesis, non-decreasing or not: some network has a wrong limit, or none.
          (12) in layer 0 fails: offset/std → 0, and normal noise needs ∞: on its threshold the layer tends to 0.5, not to 1.
          (17) in layer 0 fails: it asks that the layer be right on its threshold, hence for (12).
    """
    choice(reading, READINGS, "reading")
    families = given_families(families)
    with within(seconds):
        late = work_out(families)
        if isinstance(schedules, Schedule):
            schedules = as_formulas(schedules, reading)
        pairs, rates, weights = read(schedules, rates, weights)
        if late:
            return _unknown_laws(families, pairs, rates)
        units = noisy_units(families_of(families, len(pairs)), pairs, "layer")
        noises = noisy_weights(families, weights)
        findings = [finding for i, unit in enumerate(units) for finding in alone(i, unit)]
        unread = [Finding("(18)", i, None, unit.open, weights=True) for i, unit in enumerate(noises) if unit and unit.open]
        readable = not unread and not any(unit.open for unit in units)
        findings += unread
        given = rates is not None
        bounds: tuple[sp.Expr | None, ...] = (None,) * len(units)
        rising: bool | None = None
        if given:
            doubts = {i: doubt for i, rate in enumerate(rates) if (doubt := refuse_unless_rate(i, rate))}
            findings += doubted(judge_rates(units, rates, noises), doubts) if readable else []
            rising = True
        elif all((f.holds if f.evidence is None else f.evidence) is True for f in findings):
            more, rates, bounds = look_for_rates(units, noises)
            findings += more
            rising = None if rates is None else all_hold(map(rises, rates))
        else:
            findings += [_needs_right(f) for f in findings if f.condition == "(12)" and f.holds is not True]
        return Verdict(
            tuple(u.family for u in units),
            tuple((-u.a, u.b) for u in units),
            tuple(sorted(findings, key=lambda f: (f.layer, f.condition, f.weights))),
            rates,
            bounds,
            given,
            rising,
        )


def _unknown_laws(families: Any, pairs: Sequence[Any], rates: Any) -> Verdict:
    """The verdict where there was no time to find how the noise's tails end."""
    names = tuple([families] * len(pairs) if is_one(families) else families)
    if len(names) != len(pairs):
        families_of(["uniform"] * len(names), len(pairs))  # says so
    findings = tuple(Finding("(11)", i, None, f"{too_slow()}.") for i, name in enumerate(names) if not isinstance(name, str))
    return Verdict(names, tuple(pairs), findings, rates, (None,) * len(pairs), rates is not None)


def _needs_right(finding: Finding) -> Finding:
    return Finding(
        "(17)",
        finding.layer,
        finding.holds,
        "it asks that the layer be right on its threshold, hence for (12).",
        evidence=finding.evidence,
    )


def two_layers(families: Any, schedules: Any, seconds: float = SECONDS) -> tuple[Finding, Finding]:
    """The sharp criterion for two layers, as it is stated: for every network to converge it is necessary and sufficient

    (i) that in both layers mean and std vanish and the offset is at least h0·std in the limit, and
    (ii) that the first layer's error at every pre-activation is o(offset of the second).

    Args:
        families, schedules, seconds: as for `check`, two layers.

    Returns:
        Two findings, (i) and (ii). (ii) is None where (i) fails.

    Example:
        >>> from anabook.convergence import power_law
        >>> for finding in two_layers("uniform", [power_law(2, 2), power_law(1, 1)]):
        ...     print(finding.condition, finding.holds)
        ...
        (i) False
        (ii) None
    """
    families = given_families(families)
    with within(seconds):
        late = work_out(families)
        if isinstance(schedules, Schedule):
            schedules = as_formulas(schedules)
        pairs, _, _ = read(schedules, None, None)
        if len(pairs) != 2:
            raise ValueError(f"this criterion is for two layers, not for {len(pairs)}.")
        if late:
            return tuple(Finding(part, 0, None, f"{too_slow()}.") for part in ("(i)", "(ii)"))
        units = noisy_units(families_of(families, 2), pairs, "layer")
        singles = [finding for i, unit in enumerate(units) for finding in alone(i, unit, ("(11)", "(12)"))]
        first = all_hold(f.holds for f in singles)
        worst = next((f for f in singles if f.holds is not True), singles[-1])
        reason = worst.reason if first is not True else "both layers converge, each by itself."
        evidence = None if first is not None else all_hold(f.holds if f.holds is not None else f.evidence for f in singles)
        singly = Finding("(i)", worst.layer, first, reason, evidence=evidence)
        if first is not True:
            return singly, Finding("(ii)", 0, None, "not examined, since (i) is not established.")
        offset = units[1].a
        answer = both(units[0].errs_less_on_threshold(offset), units[0].errs_less_off_threshold(offset))
        good = f"the first layer errs by o({show(leading(offset))}), the second layer's offset."
        return singly, answer.finding("(ii)", 0, good, good.replace("errs", "does not err"))
