"""The steps of the proofs in full, one by one: identities exactly, inequalities on many cases, limits far down."""

import itertools
import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import sympy as sp
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rational_densities import histograms

from anabook import Noise, Quantiser, Regularisation
from anabook.convergence import LAMBDA, check, log_margin, log_margin_converges, networks, power_law, two_layers
from anabook.noise import FAMILIES

UNBOUNDED = [name for name, law in FAMILIES.items() if not math.isfinite(law.half_width)]
families = st.sampled_from(sorted(FAMILIES))
fractions = st.fractions(-3, 3, max_denominator=12)


@st.composite
def stairs(draw):
    """A quantiser in rational numbers: (levels, thresholds)."""
    thresholds = sorted(draw(st.sets(fractions, min_size=1, max_size=4)))
    levels = sorted(draw(st.sets(fractions, min_size=len(thresholds) + 1, max_size=len(thresholds) + 1)))
    return levels, thresholds


def cumulative(histogram, t):
    edges, heights = histogram
    return sum(h * max(min(t, b) - a, 0) for h, a, b in zip(heights, edges, edges[1:]))


def value(stair, t):
    levels, thresholds = stair
    return levels[sum(t >= theta for theta in thresholds)]


def smoothed(stair, histogram, t):
    levels, thresholds = stair
    steps = [b - a for a, b in zip(levels, levels[1:])]
    return levels[0] + sum(step * cumulative(histogram, t - theta) for step, theta in zip(steps, thresholds))


def jumps(histogram):
    edges, heights = histogram
    return list(zip(edges, (b - a for a, b in zip([Fraction(0), *heights], [*heights, Fraction(0)]))))


@settings(max_examples=40)
@given(stairs(), histograms(fractions))
def test_one_sided_derivatives_are_the_stair_integrated_against_the_densitys_derivative(stair, histogram):
    edges, points = histogram[0], {theta + e for theta in stair[1] for e in histogram[0]}
    tiny = Fraction(1, 10**6)  # less than the distance of any two of the points, whose denominators are at most 12
    for x in points:
        right = (smoothed(stair, histogram, x + tiny) - smoothed(stair, histogram, x)) / tiny
        left = (smoothed(stair, histogram, x) - smoothed(stair, histogram, x - tiny)) / tiny
        assert right == sum(jump * value(stair, x - e) for e, jump in jumps(histogram))
        assert left == sum(jump * value(stair, x - tiny - e) for e, jump in jumps(histogram))
    assert sum(jump for _, jump in jumps(histogram)) == 0 and len(edges) >= 3


@settings(max_examples=40)
@given(stairs(), histograms(fractions))
def test_slope_is_at_most_half_the_range_times_the_variation_and_uniform_noise_attains_it(stair, histogram):
    levels, thresholds = stair
    bound = (levels[-1] - levels[0]) * sum(abs(jump) for _, jump in jumps(histogram)) / 2
    points = sorted({theta + e for theta in thresholds for e in histogram[0]})
    slopes = [(smoothed(stair, histogram, b) - smoothed(stair, histogram, a)) / (b - a) for a, b in zip(points, points[1:])]
    assert max(slopes) <= bound
    box = ([Fraction(-1), Fraction(0), Fraction(1)], [Fraction(1, 2)] * 2)
    step = ([levels[0], levels[-1]], thresholds[:1])
    steepest = smoothed(step, box, thresholds[0] + 1) - smoothed(step, box, thresholds[0])
    assert steepest == (levels[-1] - levels[0]) * sum(abs(jump) for _, jump in jumps(box)) / 2


@pytest.mark.parametrize("family", ["triangular", "normal", "logistic"])
def test_sobolev_densities_move_the_derivative_to_the_density(family):
    noise, quantiser = Noise(family, 0.25, 0.5), Quantiser([-1, 0.5, 2], [-0.5, 1.0])
    r, slope = Regularisation(quantiser, noise), 1e-5
    for x in (-1.1, 0.05, 0.8):
        ends = noise.support if math.isfinite(noise.half_width) else (-20, 20)
        cuts = sorted({*ends, 0.25, *(c for c in x - quantiser.thresholds if ends[0] < c < ends[1])})
        by_parts = mpmath.quad(
            lambda t: (
                float(quantiser(x - float(t))) * (noise.pdf(float(t) + slope) - noise.pdf(float(t) - slope)) / (2 * slope)
            ),
            cuts,
        )
        assert float(by_parts) == pytest.approx(r.derivative(x), abs=2e-4)


@given(families, st.floats(-4, 4), st.floats(0, 4), st.lists(st.floats(0.1, 2), min_size=2, max_size=5), st.floats(0.2, 2))
def test_higher_levels_gain_on_lower_ones_as_x_grows(family, x, further, gaps, std):
    r = Regularisation(Quantiser(np.arange(len(gaps) + 1), np.cumsum(gaps) - 2), Noise(family, std=std))
    here, there = r.probabilities(x), r.probabilities(x + further)
    for j, k in itertools.combinations(range(len(gaps) + 1), 2):
        assert here[j] * there[k] >= here[k] * there[j] - 1e-15


@given(families, st.floats(0, 2), st.floats(1e-3, 2), st.floats(0, 5))
def test_a_unit_errs_nowhere_more_than_on_its_threshold(family, a, std, s):
    unit = Regularisation(Quantiser.heaviside(), Noise(family, -a, std))
    on = abs(unit(0.0) - 1)
    assert abs(unit(s) - 1) <= on + 1e-15
    assert unit(-2 * a - s - 1e-12) <= on + 1e-9


def test_condition_15_follows_from_17_for_the_checker_too():
    """Log margins and power laws in all families: wherever (17) is found to hold, (15) is not found to fail."""
    seen = 0
    pairs = [log_margin(f, p, k) for f in FAMILIES for p, k in ((1, 1), (2, 1), (1, 3))]
    for family in FAMILIES:
        for pair in (*pairs, power_law(1, 2), power_law(2, 1)):
            found = {finding.condition: finding.holds for finding in check(family, [pair]).findings}
            if found.get("(17)") is True:
                seen += 1
                assert found.get("(15)", True) is not False
    assert seen >= 20


@given(families, st.floats(-3, 3), st.floats(1e-9, 1 - 1e-9), st.floats(-1, 1), st.floats(0.01, 1))
def test_value_reaches_u_exactly_where_x_reaches_the_generalised_inverse(family, s, u, mean, std):
    unit = Regularisation(Quantiser.heaviside(), Noise(family, mean, std))
    edge = float(unit.inverse(u))
    assume(abs(s - edge) > 1e-9 * (1 + abs(edge)))
    assert (unit(s) >= u) == (s >= edge) or abs(unit(s) - u) < 1e-14


@given(families, st.floats(-4, 0), st.floats(0.01, 0.99), st.floats(0.0, 0.999))
def test_margins_scale_with_the_accuracy_by_convexity_of_the_tail(family, exponent, epsilon, share):
    law, r = FAMILIES[family], 10.0**exponent
    tau = max(share * epsilon * r / 2, 1e-12 * r)
    t, z, nearer = (float(law.isf(np.float64(v))) for v in (tau, r / 2, epsilon * r / 2))
    assert t - nearer >= (1 - (1 - epsilon) / (1 - 2 * tau / r)) * (t - z) - 1e-10


@given(
    st.lists(st.tuples(st.floats(0, 0.3), st.floats(0.005, 0.3), families), min_size=1, max_size=5),
    st.sampled_from([1, 2, 7]),
)
def test_a_chain_errs_by_exactly_the_worst_case(layers, c):
    net = networks.chain(len(layers), weight=c)
    noises = [Noise(family, -a, std) for a, std, family in layers]
    worst = 0.0
    for deviation, noise in zip(net.regularised([0], noises).deviations, noises):
        worst = float(noise.sf(-c * worst))
        assert -deviation[0] == pytest.approx(worst, rel=1e-9, abs=1e-13)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_second_entry_of_the_worst_case_never_matters_in_the_end(family):
    schedules = [log_margin(family, p, kappa) for p, kappa in ((2, 3), (1, 2), (1, 1))]
    lam = mpmath.mpf(10) ** -40
    values = [networks.worst_case(family, schedules, lam, weight=3, gap=gap) for gap in (1e-3, 1e6)]
    assert values[0] == values[1]


@pytest.mark.parametrize("family,ok", [("normal", ((2, 3), (1, 2), (1, 1))), ("logistic", ((1, 1), (1, 1), (1, 2)))])
def test_rates_are_built_from_vanishing_worst_cases(family, ok):
    """The construction of the converse: rates above k worst cases, and below the margin even with o in place of O."""
    with mpmath.workdps(60):
        previous = None
        for exponent in (5, 50, 500, 5000):
            lam = mpmath.mpf(10) ** -exponent
            c = 1 + mpmath.log(1 + mpmath.log(1 / lam)) / 2
            k = mpmath.sqrt(c)
            schedules = [log_margin(family, *pair) for pair in ok]
            worst = networks.worst_case(family, schedules, lam, weight=c, gap=1, digits=60)
            noises = networks.noises_at(family, schedules, lam, digits=60)
            rates = [k * worst[-1] + lam]
            for noise in noises[:0:-1]:
                margin = -noise.mean - noise.std * _upper_quantile(family, rates[0] / mpmath.sqrt(k))
                rates.insert(0, margin / mpmath.sqrt(k))
            ratios = [e / r for e, r in zip(worst, rates)]
            assert all(r > 0 for r in rates) and max(ratios) <= 1 / k
            if previous is not None:
                assert max(ratios) < max(previous)
            previous = ratios


def _upper_quantile(family, u):
    """The z with T0(z) = u, in mpmath."""
    if family == "logistic":
        return mpmath.sqrt(3) / mpmath.pi * mpmath.log((1 - u) / u)
    start = mpmath.sqrt(2 * mpmath.log(1 / u))
    return mpmath.findroot(lambda z: mpmath.log(mpmath.erfc(z / mpmath.sqrt(2)) / 2) - mpmath.log(u), start)


@given(
    st.lists(st.fractions(Fraction(1, 4), 2, max_denominator=4), min_size=2, max_size=6),
    st.lists(st.fractions(Fraction(1, 4), 6, max_denominator=4), min_size=6, max_size=6),
    st.sampled_from([("uniform", 1), ("triangular", 2)]),
)
def test_log_margin_criteria_of_bounded_noise_solve_the_recursion_of_exponents(ps, kappas, kind):
    family, factor = kind
    kappas, exponent, converges = kappas[: len(ps)], kappas[0], True
    for p, kappa in zip(ps[1:], kappas[1:]):
        exponent = min(kappa, factor * (exponent - p))
        if exponent <= 0:
            converges = False
            break
    assert log_margin_converges(family, ps, kappas) is converges


@pytest.mark.parametrize("family", UNBOUNDED)
@pytest.mark.parametrize("c,first,second", [(1, 1, 1), (2, 1, 2), (3, 2, 1)])
def test_equality_case_of_unbounded_log_margins_multiplies_the_error_by_the_constant_of_the_proof(family, c, first, second):
    constant = math.exp(c * math.sqrt(second / (2 * math.pi * first))) if family == "normal" else math.exp(c)
    schedules = [log_margin(family, 1, first), log_margin(family, first, second)]
    with mpmath.workdps(60):
        factors = []
        for exponent in (100, 10000):
            lam = mpmath.mpf(10) ** -exponent
            disturbed = networks.worst_case(family, schedules, lam, weight=c, gap=1, digits=60)[1]
            alone = networks.worst_case(family, schedules[1:], lam, weight=c, gap=1, digits=60)[0]
            factors.append(float(disturbed / alone))
    assert factors[1] == pytest.approx(constant, rel=2e-3)
    assert abs(factors[1] - constant) <= abs(factors[0] - constant) + 1e-9


@pytest.mark.parametrize("family", UNBOUNDED)
@pytest.mark.parametrize("shift", [-0.25, 0.25])
def test_off_equality_log_margins_of_unbounded_noise_decide_by_the_sign_of_kappa_minus_p(family, shift):
    schedules = [log_margin(family, 1, Fraction(2) + Fraction(shift)), log_margin(family, 2, 1)]
    with mpmath.workdps(60):
        far = networks.worst_case(family, schedules, mpmath.mpf(10) ** -400, weight=2, gap=1, digits=60)[1]
    assert (far < 0.5) is (shift > 0) is log_margin_converges(family, (1, 2), (2 + shift, 1))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_two_layer_condition_off_the_threshold_is_implied_by_the_one_on_it(family):
    """(ii) is decided by T0(a_1/β_1) = o(a_2) alone, against an offset as small as exp(−1/λ²)."""
    rocket = (-sp.exp(-1 / LAMBDA**2), sp.exp(-2 / LAMBDA**2))
    firsts = {
        "slow": (-1 / sp.log(1 / LAMBDA), LAMBDA),
        "plain": (-2 * LAMBDA, LAMBDA**2),
        "quick": (-LAMBDA, LAMBDA**4),
    }
    holds = {name: all(f.holds is True for f in two_layers(family, [pair, rocket])) for name, pair in firsts.items()}
    # ln T0(a/β) against −1/λ²: normal −a²/2β², logistic −(π/√3) a/β; bounded noise is exact
    expected = {
        "normal": {"slow": False, "plain": True, "quick": True},
        "logistic": {"slow": False, "plain": False, "quick": True},
    }.get(family, dict.fromkeys(firsts, True))
    assert holds == expected


@given(st.integers(0, 2**32 - 1), families)
def test_a_network_of_stairs_is_a_network_of_heaviside_units(seed, family):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 5, 2)
    quantisers = [Quantiser(np.cumsum(rng.integers(1, 4, n)) - 4, np.cumsum(rng.integers(1, 3, n - 1)) - 2) for n in sizes]
    weights = [rng.integers(-2, 3, (3, 2)), rng.integers(-2, 3, (2, 3))]
    net = networks.Network(weights, [rng.integers(-1, 2, 3), rng.integers(-1, 2, 2)], quantisers)
    form, x = net.heaviside_form(), rng.integers(-2, 3, 2)
    assert net.trace(x).outputs[-1].fractions() == form.trace(x).outputs[-1].fractions()
    noises = [Noise(family, float(rng.uniform(-0.3, 0.1)), float(rng.uniform(0.05, 0.4))) for _ in range(2)]
    np.testing.assert_allclose(net.regularised(x, noises).deviation, form.regularised(x, noises).deviation, atol=1e-12)


@pytest.mark.parametrize("weight_kappa,unit_p,right", [(2, 1, True), (1, 2, False), (3, 2, True), (1, 1, False)])
def test_a_quantised_weight_must_be_exact_before_its_units_margin_closes(weight_kappa, unit_p, right):
    """Uniform noise: the weight's error λ^κ against the unit's offset λ^p; at equality they stay comparable."""
    example = networks.WEIGHT_ON_THRESHOLD
    outputs = []
    for lam in (1e-3, 1e-5):
        unit = networks.noises_at("uniform", [log_margin("uniform", unit_p, 1)], lam)
        latent = networks.noises_at("uniform", [log_margin("uniform", 1, weight_kappa)], lam)
        outputs.append(1 + float(example.network.regularised(example.x, unit, weight_noises=latent).deviation[0]))
    assert (outputs[1] > 0.99) is right


@given(st.integers(0, 2**32 - 1), families, st.sampled_from(["uniform", "triangular"]))
def test_off_the_thresholds_fitting_noise_is_exact_and_other_noise_obeys_the_bound(seed, family, compact):
    rng = np.random.default_rng(seed)
    weights = [rng.normal(size=(3, 2)).round(2), rng.normal(size=(2, 3)).round(2)]
    net = networks.Network(weights, [rng.normal(size=3).round(2), rng.normal(size=2).round(2)], Quantiser.ternary())
    x = rng.normal(size=2).round(2)
    g = float(net.margin(x))
    assume(g > 0.02)
    means = rng.uniform(-0.4, 0.4, 2) * g
    fit = [Noise.covering(compact, g - abs(m) - 1e-12, mean=m) for m in means]
    assert all(np.all(d == 0) for d in net.regularised(x, fit).deviations)
    noises = [Noise(family, m, g * v) for m, v in zip(means, rng.uniform(0.02, 0.6, 2))]
    bound = 0.0
    for layer, (noise, deviation) in enumerate(zip(noises, net.regularised(x, noises).deviations)):
        arriving = np.abs(weights[layer]).sum(axis=1).max() * bound if layer else 0.0
        bound = 2 * float(noise.sf(noise.mean + g - abs(noise.mean) - arriving))
        assert np.abs(deviation).max() <= bound * (1 + 1e-9) + 1e-300


def swinging(lam):
    """Two layers of uniform noise: the error of the first on its threshold, the offset of the second, both noises."""
    error, offset = lam ** (3 + math.sin(1 / lam)), lam ** (2 + math.sin(1 / lam))
    first = Noise("uniform", -lam / 2 * (1 - 2 * error), lam / (2 * math.sqrt(3)))
    return error, offset, [first, Noise("uniform", -offset, lam * offset)]


@given(st.floats(1e-3, 0.02), st.sampled_from([1, 3, 10]))
def test_two_layers_that_swing_together_converge(lam, weight):
    error, offset, noises = swinging(lam)
    first, second = (float(-d[0]) for d in networks.chain(2, weight=weight).regularised([0], noises).deviations)
    assert first == pytest.approx(error, rel=1e-6)
    assert second == 0  # an arriving error of c λ offsets, against an offset of 1/λ ≥ 50 standard deviations
    assert offset / noises[1].std == pytest.approx(1 / lam)


def test_no_rate_that_never_falls_fits_two_layers_that_swing():
    """What the rate must exceed at one place is more and more times what it may be of the order of a little later."""
    ratios = []
    for n in (1, 10, 100, 1000):
        here, there = 1 / (2 * math.pi * n + 1.5 * math.pi), 1 / (2 * math.pi * n + 0.5 * math.pi)
        assert here < there
        ratios.append(swinging(here)[0] / swinging(there)[1])
        assert ratios[-1] == pytest.approx(here**2 / there**3, rel=1e-6)
    assert ratios[0] > 1 and all(later > 5 * earlier for earlier, later in itertools.pairwise(ratios))


@pytest.mark.parametrize(
    ("laws", "steps"),
    [
        (("logistic", "uniform", "triangular"), ((2, 4), (1, 2), (1, 1))),
        (("normal", "normal", "normal"), ((2, 3), (2, 2), (1, 1))),
        (("triangular", "logistic"), ((1, 2), (1, 2))),
    ],
)
def test_rates_that_never_fall_are_built_where_nothing_swings(laws, steps):
    """r_ℓ = η^(L−ℓ) B_ℓ with η = (λ + sup e/B)^(1/2L): monotone, above the errors, below the margins."""
    schedules, lams = [log_margin(f, *pk) for f, pk in zip(laws, steps)], np.geomspace(1e-6, 1e-2, 2000)
    assert check(laws, schedules).holds
    means, stds = ([sp.lambdify(LAMBDA, pair[i])(lams) for pair in schedules] for i in (0, 1))
    bounds, errors = [np.ones_like(lams)], []
    for name, mean, std in reversed(list(zip(laws, means, stds))):
        errors.insert(0, FAMILIES[name].sf(-mean / std))
        bounds.insert(0, -mean - std * FAMILIES[name].isf(bounds[0] / 2))
    worst = np.maximum.accumulate(np.max([e / b for e, b in zip(errors, bounds[1:])], axis=0))
    eta, n = (lams + worst) ** (1 / (2 * len(laws))), len(laws)
    rates = [eta ** (n - layer) * bound for layer, bound in enumerate(bounds[1:])]
    for layer, rate in enumerate(rates):
        assert (np.diff(rate) >= 0).all() and (rate > 0).all()
        assert (errors[layer] / rate <= eta**n * (1 + 1e-12)).all()
        if layer:
            for epsilon in (0.5, 0.05):
                margin = -means[layer] - stds[layer] * FAMILIES[laws[layer]].isf(epsilon * rate)
                small = (2 * epsilon * eta ** (n - layer) < 1) & (2 * eta ** (2 * n) <= epsilon * eta ** (n - layer))
                assert (margin[small] >= epsilon / eta[small] * rates[layer - 1][small] * (1 - 1e-9)).all() and small[0]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(families, st.floats(0, 0.3), st.sampled_from([0.0, 0.02, 0.1])), min_size=2, max_size=4),
    st.sampled_from([1, 3]),
)
def test_the_chain_attains_the_worst_cases_of_networks_with_silent_layers(layers, weight):
    noises, expected = [Noise(family, -a, b) for family, a, b in layers], []
    for noise in noises:
        arriving = weight * expected[-1] if expected else 0.0
        dirac = float(arriving > -noise.mean)
        expected.append(dirac if noise.std == 0 else float(noise.sf(-arriving)))
    found = [float(-d[0]) for d in networks.chain(len(layers), weight=weight).regularised([0], noises).deviations]
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("family", "offset", "verdict"),
    [("uniform", 2, "right"), ("triangular", sp.sqrt(6), "right"), ("triangular", 2, "wrong"), ("logistic", 9, "wrong")],
)
def test_the_layer_before_a_silent_one_must_make_no_error_at_all(family, offset, verdict):
    schedules = [(-offset * LAMBDA, LAMBDA), (0, 0)]
    assert networks.limit(networks.chain(2), [0], family, schedules).verdict == verdict
    assert check(family, schedules).holds is (verdict == "right")
