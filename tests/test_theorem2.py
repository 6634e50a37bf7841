"""The checker of Theorem 2 against networks: what it accepts converges, what it rejects fails on a built network."""

from fractions import Fraction

import mpmath
import numpy as np
import pytest
import sympy
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import anabook as ab
from anabook.convergence import LAMBDA, check, log_margin, networks
from anabook.noise import FAMILIES

exponents = st.sampled_from([Fraction(1, 2), Fraction(1), Fraction(3, 2), Fraction(2), Fraction(3)]).map(sympy.Rational)
constants = st.sampled_from([sympy.Rational(1, 2), sympy.Integer(1), sympy.sqrt(3), sympy.Integer(3)])


@st.composite
def power_laws(draw, family):
    """Mean and std as powers of λ, of any sign of the mean and either order of the exponents."""
    sign = draw(st.sampled_from([-1, -1, -1, -1, 0, 1]))
    return sign * draw(constants) * LAMBDA ** draw(exponents), draw(constants) * LAMBDA ** draw(exponents)


@st.composite
def log_margins(draw, family):
    return log_margin(family, p=draw(st.integers(1, 3)), kappa=draw(st.integers(1, 6)))


@st.composite
def exponentials(draw, family):
    rate = draw(st.sampled_from([1, 2]))
    return -sympy.exp(-1 / LAMBDA**rate), sympy.exp(-2 / LAMBDA**rate)


@st.composite
def cases(draw, kinds, max_layers=3):
    n = draw(st.integers(1, max_layers))
    families = [draw(st.sampled_from(tuple(FAMILIES))) for _ in range(n)]
    return families, [draw(draw(st.sampled_from(kinds))(family)) for family in families]


POWERS, ALL = (power_laws,), (power_laws, log_margins, log_margins, exponentials)


def networks_with_hits(n_layers, count=8, seed=0):
    return networks.random_ternary(count, (5,) + (5,) * n_layers, rng=seed, planned=0.6)


@settings(max_examples=150)
@given(cases(POWERS))
def test_power_laws_are_decided_and_each_answer_has_its_network(case):
    families, schedules = case
    verdict = check(families, schedules)
    found = networks.witness(families, schedules, ask=False)
    assert verdict.holds is (found is None) is (networks.witness(verdict) is None)
    if verdict.holds:
        batch, x = networks_with_hits(len(families))
        assert all(hits.any() for hits in batch.hits(x))
        assert (networks.limit(batch, x, families, schedules).verdicts == "right").all()


@settings(max_examples=100)
@given(cases(ALL), st.integers(0, 99))
def test_schedules_that_the_checker_accepts_converge_on_random_networks_with_exact_hits(case, seed):
    families, schedules = case
    assume(check(families, schedules).holds)
    batch, x = networks_with_hits(len(families), seed=seed)
    assert (networks.limit(batch, x, families, schedules).verdicts != "wrong").all()
    assert networks.witness(families, schedules) is networks.witness(families, schedules, ask=False) is None


@settings(max_examples=100)
@given(cases(ALL))
def test_schedules_that_the_checker_rejects_have_a_network_with_a_wrong_limit(case):
    families, schedules = case
    verdict = check(families, schedules)
    assert verdict.holds is not None
    assume(not verdict.holds)
    found = networks.witness(verdict)
    assert found is not None
    assert networks.limit(found.network, found.x, families, schedules).verdict == "wrong"


@settings(max_examples=60)
@given(cases(ALL))
def test_the_rates_that_the_checker_finds_beat_the_errors_of_every_layer(case):
    families, schedules = case
    verdict = check(families, schedules)
    assume(verdict.holds)
    for weight in (1, 5):
        network = networks.chain(len(families), weight=weight)
        ratios = []
        for exponent in (100, 1000, 10000):
            lam = mpmath.mpf(10) ** -exponent
            found = network.regularised([0], networks.noises_at(families, schedules, lam, 60), digits=60)
            rates = [sympy.lambdify(LAMBDA, rate, "mpmath")(lam) for rate in verdict.rates]
            ratios.append([abs(d[0]) / r for d, r in zip(found.deviations, rates)])
            assert all(r > 0 for r in rates)
        for first, last in zip(ratios[0], ratios[-1]):
            assert last <= first / 2 or last < mpmath.mpf("1e-6")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shape", [(6, 6, 6, 3), (16, 4, 4)])
@pytest.mark.parametrize("quantiser", [networks.HEAVISIDE, networks.FLOOR_TERNARY, ab.Quantiser([-2, 0, 1, 5], [-1, 0, 2])])
def test_accepted_schedules_converge_on_a_hundred_networks_of_any_number_of_levels(family, shape, quantiser):
    n = len(shape) - 1
    accepted = [
        [(-(LAMBDA**k), LAMBDA ** (2 * k)) for k in (2, 1, 3)[:n]],
        [log_margin(family, p, kappa) for p, kappa in ((3, 5), (2, 3), (1, 1))[-n:]],
    ]
    batch, x = networks.random_ternary(100, shape, rng=4, quantiser=quantiser, planned=0.4)
    for schedules in accepted:
        assert check(family, schedules).holds
        share = networks.wrong_share(batch, x, family, schedules)
        assert (share.wrong, share.undecided) == (0, 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_rejected_schedules_go_wrong_on_random_networks_too(family):
    rejected = {
        "zero mean": [(0, LAMBDA)] * 3,
        "wrong sign": [(LAMBDA, LAMBDA**2)] * 3,
        "log margins in the bad order": [log_margin(family, p, kappa) for p, kappa in ((1, 1), (2, 3), (3, 4))],
    }
    batch, x = networks.random_ternary(300, (24, 24, 24, 8), rng=0)
    for schedules in rejected.values():
        assert check(family, schedules).holds is False
        assert networks.wrong_share(batch, x, family, schedules).low > 0.2


@settings(max_examples=60)
@given(cases(ALL, max_layers=2))
def test_the_worst_case_recursion_and_the_checker_say_the_same(case):
    families, schedules = case
    verdict = check(families, schedules)
    lam = mpmath.mpf("1e-5000")
    strain = ((3, 1), (100, Fraction(1, 100)))
    worst = [max(networks.worst_case(families, schedules, lam, weight, gap)) for weight, gap in strain]
    if verdict.holds:
        assert max(worst) < 0.01
    else:
        # An equality in the limit, as of a std that is a constant times the mean, leaves a small but fixed error.
        assert worst[-1] > 1e-9


def test_limits_of_networks_are_those_of_the_theorem_for_the_papers_power_law():
    # Mean λ^d and std λ^(2d) times the constants of the experiments, all orders of d = 1, 2, 3 and equal d.
    for powers in ((3, 2, 1), (1, 2, 3), (2, 3, 1), (1, 1, 1)):
        for family in FAMILIES:
            std = sympy.nsimplify(round(ab.Noise.covering(family, 0.5).std, 6))
            schedules = [(-(LAMBDA**d) / 2, std * LAMBDA ** (2 * d)) for d in powers]
            assert check(family, schedules).holds
            assert networks.witness(family, schedules, ask=False) is None
            static = [(0, pair[1]) for pair in schedules]
            assert check(family, static).holds is False
            assert networks.witness(family, static).limit.verdict == "wrong"


def test_random_networks_in_general_position_do_not_care():
    rng = np.random.default_rng(1)
    weights = [rng.normal(size=(50, 4, 4)) for _ in range(2)]
    network, x = networks.Network(weights), rng.normal(size=(50, 4))
    # Zero weights aside, a column of zeros cannot be excluded: x_1 may vanish, and then s_2 = 0 whatever the weights.
    quiet = ~np.any([hits.any(axis=-1) for hits in network.hits(x)], axis=0)
    assert quiet.sum() > 30
    for schedules in ([(LAMBDA, LAMBDA)] * 2, [(0, LAMBDA)] * 2, [(-LAMBDA, LAMBDA**2)] * 2):
        verdicts = networks.limit(network, x, "normal", schedules).verdicts
        assert (verdicts[quiet] == "right").all()
