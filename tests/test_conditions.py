"""Statements about `anabook.convergence.conditions`: the theorem's hypothesis, decided."""

from fractions import Fraction

import mpmath
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

import anabook as ab
from anabook.convergence import (
    CONDITIONS,
    LAMBDA,
    as_formulas,
    check,
    log_margin,
    log_margin_converges,
    paper_table,
    power_law,
    two_layers,
)
from anabook.convergence.constants import approximate
from anabook.convergence.layer_noises import _digits_of
from anabook.convergence.limits import leading, limit
from anabook.convergence.noisy_heavisides import alone, noisy_units
from anabook.noise import FAMILIES
from anabook.schedules import INTERVALS, POWER_LAWS

LOG = sp.log(1 / LAMBDA)
EDGE = {"uniform": sp.sqrt(3), "triangular": sp.sqrt(6)}
families = st.sampled_from(tuple(FAMILIES))
exponents = st.fractions(Fraction(1, 4), 4, max_denominator=4).map(sp.Rational)
constants = st.sampled_from([sp.Rational(1, 3), sp.Integer(1), sp.sqrt(3), sp.sqrt(6), sp.Integer(4)])
laws = st.tuples(families, exponents, exponents, constants, constants, st.sampled_from([1, 1, 1, 0, -1]))
margins = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 8)), min_size=1, max_size=5)


def vanishes(expression):
    return limit(sp.sympify(expression)).is_equal(0)


@given(st.lists(laws, min_size=1, max_size=4))
def test_power_laws_are_accepted_iff_each_layer_is_right_on_its_threshold_in_any_order(layers):
    def right(family, k, p, a, b, sign):
        return sign > 0 and (k < p or (k == p and family in EDGE and a >= EDGE[family] * b))

    verdict = check([f for f, *_ in layers], [power_law(k, p, sign * a, b) for _, k, p, a, b, sign in layers])
    assert verdict.holds is all(right(*layer) for layer in layers)
    assert verdict.conditions["(12)"] is verdict.holds
    if verdict.holds:
        assert all(verdict.conditions[c] for c in CONDITIONS if c != "(18)" or len(layers) > 1)


@given(families, margins)
def test_log_margins_are_accepted_iff_the_closed_criterion_says_so(family, steps):
    verdict = check(family, [log_margin(family, p, k) for p, k in steps])
    assert verdict.holds is log_margin_converges(family, *zip(*steps))
    if not verdict.holds:
        assert verdict.conditions["(12)"] is True and verdict.conditions["(18)"] is False
        assert verdict.rates is None


@given(families, margins.filter(lambda steps: len(steps) > 1))
def test_rates_that_are_found_pass_as_given_rates_and_lie_below_the_bounds(family, steps):
    schedules = [log_margin(family, p, k) for p, k in steps]
    found = check(family, schedules)
    if found.holds:
        assert check(family, schedules, rates=found.rates).holds
        assert all(vanishes(rate / bound) for rate, bound in zip(found.rates[-1:], found.bounds[-1:]))
        assert all(limit(rate / bound).is_equal(sp.oo) is False for rate, bound in zip(found.rates, found.bounds))
        # An error may not be asked to be smaller than it is.
        greedy = [*found.rates[:-1], leading(LAMBDA ** steps[-1][1])]
        assert not check(family, schedules, rates=greedy).holds or family == "normal"


def test_digits_that_nothing_is_decided_by_are_found_where_proven_ones_are_not():
    x = sp.Symbol("x")
    for constant in (sp.sqrt(10**1200 + 1) - 10**600, sp.Integral(sp.exp(-(x**2)), (x, 0, 1))):
        assert approximate(constant) is None and _digits_of(constant) > 0
    assert mpmath.almosteq(_digits_of(sp.pi - sp.Rational(22, 7)), approximate(sp.pi - sp.Rational(22, 7)), 1e-9)


def test_of_a_layer_alone_only_what_is_asked_for_is_worked_out():
    (unit,) = noisy_units(["normal"], [(-LAMBDA, LAMBDA**2)], "layer")
    assert [finding.condition for finding in alone(0, unit)] == ["(11)", "(12)", "(13)", "(14)"]
    assert alone(0, unit, ("(12)", "(11)")) == [alone(0, unit)[1], alone(0, unit)[0]]


@given(families, margins.filter(lambda steps: len(steps) == 2))
def test_the_sharp_two_layer_criterion_agrees_with_the_backward_bounds(family, steps):
    schedules = [log_margin(family, p, k) for p, k in steps]
    one, two = two_layers(family, schedules)
    assert one.holds is True
    assert two.holds is check(family, schedules).holds


@pytest.mark.parametrize("family", FAMILIES)
def test_network_as_schedules_are_accepted_in_one_order_and_rejected_in_the_other(family):
    good = [log_margin(family, 2, 2), log_margin(family, 1, 1)]
    assert check(family, good).holds is True
    swapped = check(family, good[::-1])
    assert swapped.holds is False
    assert [(f.condition, f.layer) for f in swapped.findings if f.holds is False] == [("(18)", 1)]


@pytest.mark.parametrize("family", FAMILIES)
def test_zero_mean_is_rejected_by_12_and_17_and_nothing_else(family):
    verdict = check(family, [(0, LAMBDA), (0, LAMBDA**2)])
    assert {f.condition for f in verdict.findings if f.holds is False} == {"(12)", "(17)"}
    assert all("0.5" in f.reason for f in verdict.findings if f.condition == "(12)")
    assert verdict.findings[1].limit == 0


@pytest.mark.parametrize(("family", "gain"), [("uniform", 1), ("triangular", Fraction(1, 2))])
def test_on_the_compact_edge_rates_must_fall_by_the_width_times_a_power_of_the_next_rate(family, gain):
    edge = [power_law(p, p, EDGE[family], 1) for p in (3, 2)]
    assert check(family, edge).holds
    for slack, holds in ((Fraction(0), True), (Fraction(1, 10), True), (Fraction(-1, 10), False)):
        q = 2 + 3 * Fraction(gain) + slack
        verdict = check(family, edge, rates=[LAMBDA ** sp.Rational(q), LAMBDA**3])
        assert verdict.holds is holds and verdict.conditions["(18)"] is holds


@given(st.fractions(Fraction(1, 4), 5, max_denominator=4), st.integers(1, 3), families)
def test_inside_the_edge_given_power_rates_satisfy_18_iff_they_fall_like_the_next_offset(q, k, family):
    verdict = check(family, [power_law(1, 2), power_law(k, k + 1)], rates=[LAMBDA ** sp.Rational(q), LAMBDA])
    assert verdict.holds is (q >= k)


def test_exponentially_fast_layers_may_come_first_but_not_last_behind_unbounded_noise():
    snail = (-1 / LOG, LAMBDA)
    rocket = (-sp.exp(-1 / LAMBDA**2), sp.exp(-2 / LAMBDA**2))
    for family in FAMILIES:
        assert check(family, [rocket, snail]).holds is True
        assert check(family, [snail, rocket]).holds is (family in EDGE)


def test_15_limits_how_small_a_rate_may_be():
    verdict = check("normal", [power_law(1, 2)], rates=[sp.exp(-1 / LAMBDA**5)])
    assert verdict.conditions["(15)"] is False and verdict.conditions["(14)"] is True
    assert check("uniform", [power_law(1, 2)], rates=[sp.exp(-1 / LAMBDA**5)]).holds is True


def test_a_later_layer_without_noise_needs_exact_layers_before_it():
    assert check("uniform", [power_law(1, 1, 2, 1), (0, 0)]).holds is True
    assert check("uniform", [log_margin("uniform", 1, 1), (0, 0)]).holds is False
    assert check("normal", [power_law(1, 2), (0, 0)]).holds is False
    assert check("normal", [power_law(1, 2), (-LAMBDA, 0)]).holds is True
    assert check("normal", [(0, 0), (0, 0)]).rates == (0, LAMBDA)
    assert check("normal", [(0, 0)]).families == ("dirac",)


def test_weights_must_err_by_less_than_the_margin_of_their_layer():
    layer = log_margin("uniform", 2, 1)
    assert check("uniform", [layer]).holds is True
    assert check("uniform", [layer], weights=[log_margin("uniform", 1, 3)]).holds is True
    assert check("uniform", [layer], weights="same").holds is False
    assert check("normal", [power_law(1, 2)] * 3, weights="same").holds is True
    assert check("normal", [power_law(1, 2)], weights=[(0, LAMBDA)]).holds is False


def test_limits_that_only_numbers_show_are_called_numerical_and_decide_nothing():
    verdict = check("normal", [(-LAMBDA * sp.LambertW(1 / LAMBDA), LAMBDA)])
    assert verdict.holds is None and verdict.evidence is True and verdict.status == "numerical"
    assert any(f.numerical and "without proof" in f.reason for f in verdict.findings)
    assert "Not decided" in verdict.explain() and "num." in verdict.table()


def test_formulas_that_are_not_sums_of_powers_are_decided_by_limits():
    assert check("normal", [(-sp.sin(LAMBDA), LAMBDA**2)]).holds is True
    assert check("uniform", [(-LAMBDA * (2 + sp.sin(1 / LAMBDA)) / 4, LAMBDA)]).holds is False
    assert check("normal", [(-LAMBDA / (1 + LAMBDA), LAMBDA)]).holds is False


def test_any_one_symbol_serves_as_lambda_and_decimals_are_what_they_show():
    t = sp.Symbol("t")
    assert check("normal", [(-0.5 * t, 0.3 * t**2)]).schedules == ((-LAMBDA / 2, 3 * LAMBDA**2 / 10),)


@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.parametrize("law", POWER_LAWS)
def test_a_schedule_in_time_is_judged_by_what_still_moves_when_it_ends(interval, law):
    s = ab.Schedule.periodic(3, 10, interval, power_law=law, mean0=-0.5, static_mean=False)
    for (mean, std), layer in zip(as_formulas(s), range(3)):
        before_the_end = 30 - Fraction(1, 1000)
        values = [float(e.subs(LAMBDA, sp.Rational(1, 1000))) for e in (mean, std)]
        assert values == pytest.approx(s(layer, float(before_the_end)), rel=1e-6, abs=1e-15)
    moving = [std != 0 for _, std in as_formulas(s)]
    assert moving == ([False, False, True] if interval in ("partition", "same_start") else [True] * 3)


def test_the_papers_settings_hold_with_the_negative_start_and_fail_with_the_static_zero_mean():
    rows = paper_table()
    assert len(rows) == 64 == len({row[:4] for row in rows})
    for row in rows:
        assert row.holds is (row.mean0 == -0.5)
        where = "layer 6" if row.interval in ("partition", "same_start") else "layers 0–6"
        assert row.failing == ("" if row.holds else f"(12), (17) in {where}")
    in_lambda = paper_table(3, reading="lambda")
    assert all(row.holds is (row.mean0 == -0.5) for row in in_lambda)


def test_whetstone_and_soft_to_hard_fail_for_their_zero_mean():
    for schedule, family in ((ab.Schedule.whetstone(3), "uniform"), (ab.Schedule.soft_to_hard(3), "logistic")):
        verdict = check(family, schedule)
        assert verdict.holds is False and verdict.conditions["(11)"] is True and verdict.conditions["(12)"] is False
    static = check("normal", ab.Schedule.static(2))
    assert static.conditions["(11)"] is False
    assert static.conditions["(13)"] is static.conditions["(14)"] is True  # they are about the regularisation alone


GOOD = power_law(1, 2)
BAD = {
    "unknown family": (("gaussian", [GOOD]), {}, ValueError, "gaussian"),
    "no layers": (("normal", []), {}, ValueError, "at least one layer"),
    "a layer without noise": (("normal", [GOOD, None]), {}, ValueError, "layer 1 has no noise"),
    "not a pair": (("normal", [3]), {}, TypeError, r"pair \(mean, std\), not 3"),
    "negative std": (("normal", [(-LAMBDA, -LAMBDA)]), {}, ValueError, "-λ is negative"),
    "std of no sign": (("normal", [(-LAMBDA, sp.sin(1 / LAMBDA))]), {}, ValueError, "is negative again and again"),
    "std that is 0 at times": (("normal", [(-LAMBDA, 1 + sp.sin(1 / LAMBDA))]), {}, ValueError, "is 0 again and again"),
    "two symbols": (("normal", [(-LAMBDA, sp.Symbol("x"))]), {}, ValueError, "one symbol only"),
    "families of another number": ((["normal"] * 3, [GOOD]), {}, ValueError, "not 3"),
    "rates of another number": (("normal", [GOOD], [LAMBDA] * 2), {}, ValueError, "1 layer needs 1 rate, not 2"),
    "a rate that is negative": (("normal", [GOOD], [-LAMBDA]), {}, ValueError, "rate of layer 0 must be positive"),
    "a rate that stays": (("normal", [GOOD], [sp.Rational(1, 2)]), {}, ValueError, "rate of layer 0 must tend to 0"),
    "a text as mean": (("normal", [("x", 1)]), {}, TypeError, "mean of layer 0"),
    "complex": (("normal", [(sp.I, 1)]), {}, ValueError, "finite and real"),
    "a callable schedule": (("normal", ab.Schedule.from_callable(1, lambda i, t: (0, 1))), {}, ValueError, "no formula"),
    "another reading": (("normal", ab.Schedule()), {"reading": "space"}, ValueError, "space"),
    "weights of another number": (("normal", [GOOD]), {"weights": []}, ValueError, "weights must have one entry"),
    "dirac with noise": (("dirac", [GOOD]), {}, ValueError, "dirac"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_sentence(case):
    args, options, error, words = BAD[case]
    with pytest.raises(error, match=words) as caught:
        check(*args, **options)
    assert str(caught.value).count("\n") == 0 and str(caught.value).endswith((".", "?"))


def test_a_std_of_no_known_sign_leaves_its_layer_undecided():
    verdict = check("normal", [GOOD, (-LAMBDA, sp.airyai(-1 / LAMBDA))])
    assert verdict.status == "undecided" and verdict.rates is None
    assert [f.reason for f in verdict.findings if f.layer == 1] == [
        "the std, airyai(-1/λ), is not seen to be positive for all small λ."
    ]


def test_other_functions_check_their_arguments_too():
    for call in (
        lambda: log_margin("normal", 0, 1),
        lambda: log_margin_converges("normal", [1], []),
        lambda: two_layers("normal", [GOOD]),
    ):
        with pytest.raises(ValueError):  # noqa: PT011
            call()


def test_an_edge_that_oscillates_is_decided_between_its_extremes():
    layer = (-LAMBDA * (sp.sqrt(3) + LAMBDA * sp.sin(1 / LAMBDA)), LAMBDA)
    verdict = check("uniform", [layer])
    assert verdict.conditions["(12)"] is verdict.holds is verdict.rising is True
    # It errs by about λ at times, which the exact layer behind it does not tolerate.
    assert check("uniform", [layer, (0, 0)]).holds is not True


def test_an_edge_with_two_waves_that_may_come_together_is_left_undecided():
    waves = 2 + sp.sin(1 / LAMBDA) + sp.sin(sp.sqrt(2) / LAMBDA)
    verdict = check("normal", [(-LAMBDA * waves, LAMBDA**2)])
    assert verdict.holds is verdict.evidence is verdict.rates is None and "more is not told" in verdict.explain()
