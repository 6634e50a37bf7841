"""Network maps (7)-(8), their limits, and every number that chapters 6 and 7 quote about them."""

import itertools
import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

import anabook as ab
from anabook.convergence import networks
from anabook.convergence.exact_arithmetic import DOUBLE, PRECISE, Exact
from anabook.convergence.networks import FLOOR_TERNARY, HEAVISIDE, Network
from anabook.convergence.power_sums import Surd
from anabook.convergence.tails import centre, half_width, tail_of, upper_tail
from anabook.laws import FAMILIES, Decay, Edge
from anabook.namespaces import mpmath_namespace

LAM = sympy.Symbol("lambda", positive=True)
LOG = sympy.log(1 / LAM)
BOUNDED = ("uniform", "triangular")
UNBOUNDED = ("normal", "logistic")
GOOD, BAD = ((2, 2), (1, 1)), ((1, 1), (2, 2))


def log_margin(family, p, kappa):
    """(mean, std) of width λ^p whose error at its threshold is λ^κ, up to logarithms."""
    u = LAM ** sympy.Rational(p)
    kappa = sympy.Rational(kappa)
    return {
        "uniform": (-u / 2 * (1 - 2 * LAM**kappa), u / (2 * sympy.sqrt(3))),
        "triangular": (-u * (1 - sympy.sqrt(2 * LAM**kappa)), u / sympy.sqrt(6)),
        "normal": (-u * sympy.sqrt(2 * kappa * LOG), u),
        "logistic": (-kappa * u * LOG, u * sympy.pi / sympy.sqrt(3)),
    }[family]


def outputs(example, family, schedules, lam=0.01, **precision):
    noises = networks.noises_at(family, schedules, lam, **precision)
    return example.network.regularised(example.x, noises, **precision)


# Network A


@pytest.mark.parametrize("example", [networks.NETWORK_A, networks.TERNARY_ANALOGUE], ids=["A", "ternary"])
@pytest.mark.parametrize(
    ("family", "good", "bad"),
    [
        ("uniform", 0.98, 0.0),
        ("triangular", 0.988536, 0.0),
        ("normal", 0.998793, 4.94490e-15),
        ("logistic", 0.990001, 1.00126e-39),
    ],
)
def test_network_a_is_right_with_one_order_of_the_schedules_and_wrong_with_the_other(example, family, good, bad):
    for order, expected in ((GOOD, good), (BAD, bad)):
        schedules = [log_margin(family, *layer) for layer in order]
        assert outputs(example, family, schedules).output[0] == pytest.approx(expected, rel=1e-5)
        assert float(outputs(example, family, schedules, digits=60).output[0]) == pytest.approx(expected, rel=1e-5)
        verdict = networks.limit(example.network, example.x, family, schedules).verdict
        assert verdict == ("right" if order is GOOD else "wrong")
    assert example.network(example.x) == [1.0]
    assert all(hit.all() for hit in example.network.hits(example.x))


def test_the_good_order_of_network_a_with_uniform_noise_gives_exactly_one_minus_two_lambda():
    schedules = [log_margin("uniform", *layer) for layer in GOOD]
    for lam in (0.1, 0.01, 1e-5):
        assert outputs(networks.NETWORK_A, "uniform", schedules, lam).deviation[0] == pytest.approx(-2 * lam, rel=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("order", [GOOD, BAD])
def test_zero_mean_noise_leaves_one_half_where_a_threshold_is_hit_in_either_order(family, order):
    example = networks.ZERO_MEAN
    schedules = [(0, log_margin(family, *layer)[1]) for layer in order]
    found = networks.limit(example.network, example.x, family, schedules)
    assert found.verdict == "wrong"
    assert float(found.deviations[-1][0]) == pytest.approx(-0.5)
    assert [list(hits) for hits in example.network.hits(example.x)] == [[False], [True]]


# Which schedules work


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("order", list(itertools.permutations((1, 2, 3))))
def test_power_laws_converge_in_any_order_of_the_layers(family, order):
    schedules = [(-(LAM**k) / 2, LAM ** (2 * k)) for k in order]
    assert networks.witness(family, schedules) is None
    batch, x = networks.random_ternary(200, (6, 6, 6, 3), rng=5, planned=0.5)
    share = networks.wrong_share(batch, x, family, schedules)
    assert (share.wrong, share.undecided) == (0, 0)


def log_margins_converge(family, ps, kappas):
    if family in UNBOUNDED:
        return all(kappa >= p for kappa, p in zip(kappas, ps[1:]))
    shrink = 1 if family == "uniform" else Fraction(1, 2)
    return all(kappas[i] > sum(ps[j] * shrink ** (j - i - 1) for j in range(i + 1, len(ps))) for i in range(len(ps) - 1))


@settings(max_examples=60)
@given(
    family=st.sampled_from(tuple(FAMILIES)),
    ps=st.lists(st.integers(1, 3), min_size=2, max_size=3),
    kappas=st.lists(st.integers(1, 6), min_size=3, max_size=3),
)
def test_log_margins_converge_on_every_chain_iff_each_exponent_beats_the_widths_behind_it(family, ps, kappas):
    kappas = kappas[: len(ps)]
    schedules = [log_margin(family, p, kappa) for p, kappa in zip(ps, kappas)]
    found = networks.witness(family, schedules)
    assert (found is None) == log_margins_converge(family, ps, kappas)


def test_bounded_noise_needs_more_of_a_third_layer_than_of_a_second():
    ps, kappas = (3, 2, 1), (3, 2, 1)
    # Every neighbouring pair is fine on its own, yet 3 > 2 + 1 and 3 > 2 + 1/2 differ.
    for pair in ((0, 1), (1, 2)):
        schedules = [log_margin("uniform", ps[i], kappas[i]) for i in pair]
        assert networks.witness("uniform", schedules) is None
    found = {f: networks.witness(f, [log_margin(f, p, k) for p, k in zip(ps, kappas)]) for f in FAMILIES}
    assert found["uniform"] is not None and (found["uniform"].start, found["uniform"].stop) == (0, 2)
    assert [found[f] for f in ("triangular", "normal", "logistic")] == [None] * 3


@pytest.mark.parametrize(("family", "power"), [("normal", 2), ("logistic", 1)])
def test_speeds_exponentially_apart_break_the_order_that_powers_do_not(family, power):
    fast = (-sympy.exp(-1 / LAM**power), sympy.exp(-2 / LAM**power))
    slow = (-1 / LOG, LAM)
    unit_off_threshold = networks.chain(2, offset=Fraction(-1, 8))
    assert not unit_off_threshold.hits([0])[0].any()
    assert networks.limit(unit_off_threshold, [0], family, [slow, fast]).verdict == "wrong"
    assert networks.limit(unit_off_threshold, [0], family, [fast, slow]).verdict == "right"
    assert networks.witness(family, [fast, slow]) is None
    bounded = networks.limit(unit_off_threshold, [0], "uniform", [slow, fast])
    assert bounded.verdict == "right" and bounded.deviations[-1][0] == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_a_later_layer_without_noise_is_wrong_while_an_earlier_one_errs_at_all(family):
    early = log_margin(family, 1, 1)
    found = networks.limit(networks.NETWORK_A.network, (0,), family, [early, (0, 0)])
    assert found.verdict == "wrong" and float(found.deviations[-1][0]) == -1
    # With the mean kept, the Dirac layer is σ(s + a): right as soon as the first layer's error is below a.
    assert networks.limit(networks.NETWORK_A.network, (0,), family, [early, (-sympy.sqrt(LAM), 0)]).verdict == "right"
    reverse = networks.limit(networks.NETWORK_A.network, (0,), family, [(0, 0), early])
    assert reverse.verdict == "right"


@pytest.mark.parametrize("family", BOUNDED)
def test_bounded_noise_with_its_support_below_zero_lets_a_later_layer_be_dirac_first(family):
    early = (-2 * LAM, LAM / 3)
    found = networks.limit(networks.NETWORK_A.network, (0,), family, [early, (0, 0)])
    assert found.verdict == "right" and (found.deviations == 0).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_quantised_weights_need_the_weight_error_to_beat_the_same_layers_margin(family):
    example = networks.WEIGHT_ON_THRESHOLD
    plain = networks.chain(1)
    for (p, kappa), verdict in (((1, 2), "right"), ((2, 1), "wrong")):
        schedule = [log_margin(family, p, kappa)]
        assert networks.limit(plain, [0], family, schedule).verdict == "right"
        assert networks.limit(example.network, example.x, family, schedule).verdict == verdict


# Generic position


small_fractions = st.fractions(-3, 3, max_denominator=8)


@st.composite
def rational_networks(draw, quantisers=st.sampled_from([HEAVISIDE, FLOOR_TERNARY, ab.Quantiser.ternary()])):
    widths = draw(st.lists(st.integers(1, 3), min_size=2, max_size=4))
    chosen = [draw(quantisers) for _ in widths[1:]]
    weights = [
        [[draw(st.sampled_from([-1, 0, 1, Fraction(1, 2)])) for _ in range(n)] for _ in range(m)]
        for n, m in zip(widths, widths[1:])
    ]
    biases = [[draw(small_fractions) for _ in range(m)] for m in widths[1:]]
    x = [draw(small_fractions) for _ in range(widths[0])]
    return Network(weights, biases, chosen), x


@settings(max_examples=80)
@given(rational_networks(), st.sampled_from(BOUNDED), st.floats(0, 1), st.floats(-1, 1))
def test_bounded_noise_is_exact_once_mean_plus_half_width_fit_the_margin(case, family, part, sign):
    network, x = case
    margin = float(network.margin(x))
    half_width = part * margin * (1 - 1e-9)
    mean = sign * (margin - half_width) * 0.99  # room for the roundings of doubles
    noise = ab.Noise(family, mean, half_width / FAMILIES[family].half_width)
    found = network.regularised(x, [noise] * network.n_layers)
    if margin > 0:
        assert all((d == 0).all() for d in found.deviations)


@settings(max_examples=60)
@given(rational_networks(st.just(HEAVISIDE)), st.sampled_from(UNBOUNDED), st.floats(0.01, 0.2), st.floats(-0.05, 0.05))
def test_unbounded_noise_errs_by_at_most_the_tail_beyond_the_margin(case, family, std, mean):
    network, x = case
    margin = float(network.margin(x))
    found = network.regularised(x, [ab.Noise(family, mean, std)] * network.n_layers)
    error = 0.0
    for layer, deviation in zip(network.layers, found.deviations):
        reach = np.abs(layer.weights.numbers(DOUBLE)).sum(axis=-1).max() * error + abs(mean)
        if reach >= margin:
            return
        error = float(FAMILIES[family].sf(np.array((margin - reach) / std)))
        assert np.abs(deviation).max() <= error * (1 + 1e-9)


@settings(max_examples=40)
@given(rational_networks(), st.sampled_from(tuple(FAMILIES)), st.sampled_from([-1, 0, 1]))
def test_off_all_thresholds_every_vanishing_noise_has_the_right_limit(case, family, sign):
    network, x = case
    if network.margin(x) > 0:
        schedules = [(sign * LAM, LAM**2 if i % 2 else LAM) for i in range(network.n_layers)]
        assert networks.limit(network, x, family, schedules).verdict == "right"


# Exact limits


@pytest.mark.parametrize("family", BOUNDED)
@pytest.mark.parametrize(
    "layers",
    [((3, 4), (2, 3), (1, 1)), ((2, 3), (3, 4), (1, 1)), ((1, 1), (2, 3), (3, 4)), ((3, 3), (2, 2), (1, 1)), "zero", "up"],
    ids=str,
)
def test_exact_limits_are_where_the_network_is_at_a_small_lambda(family, layers):
    plain = {"zero": [(0, LAM)] * 3, "up": [(LAM, LAM**2)] * 3}
    schedules = plain[layers] if isinstance(layers, str) else [log_margin(family, *layer) for layer in layers]
    batch, x = networks.random_ternary(40, (9, 9, 9, 3), rng=8, planned=0.2)
    found = networks.limit(batch, x, family, schedules)
    assert found.exact
    near = batch.regularised(x, networks.noises_at(family, schedules, mpmath.mpf("1e-30"), 400), digits=400)
    np.testing.assert_allclose(found.deviations[0], near.deviation.astype(float), atol=1e-12)


def test_an_exact_limit_between_the_levels_is_found():
    # (12) fails by a constant: a = β, so uniform noise leaves (1 + 1/√3)/2 at the threshold.
    value = networks.exact_limit(networks.chain(1), [0], "uniform", [(-LAM, LAM)])
    assert value == [pytest.approx(0.5 + 1 / (2 * math.sqrt(3)), rel=1e-15)]
    assert networks.exact_limit(networks.chain(1), [0], "triangular", [(-sympy.sqrt(6) * LAM, LAM)]) == [1.0]
    # At equality in the log-margin condition the second layer keeps a constant part of its error.
    edge = [log_margin("uniform", 1, 2), log_margin("uniform", 2, 1)]
    assert networks.exact_limit(networks.chain(2, weight=Fraction(1, 3)), [0], "uniform", edge) == [pytest.approx(2 / 3)]


@given(st.lists(st.integers(-9, 9), min_size=4, max_size=4), st.lists(st.integers(-9, 9), min_size=4, max_size=4))
def test_numbers_with_roots_multiply_and_compare_as_numbers(first, second):
    a, b = Surd(tuple(map(Fraction, first))), Surd(tuple(map(Fraction, second)))
    assert float(a * b) == pytest.approx(float(a) * float(b), rel=1e-9, abs=1e-9)
    assert (a + b * Surd.of(-1)).sign() == (first != second and (1 if float(a) > float(b) else -1))


def test_surds_that_differ_beyond_doubles_are_told_apart():
    # 1393/985 is a convergent of √2, and its successors come closer than doubles can tell.
    p, q = 1, 1
    for _ in range(60):
        p, q = p + 2 * q, p + q
    assert (Surd.of(Fraction(p, q)) + Surd.of(-1, 2)).sign() == (1 if p * p > 2 * q * q else -1)
    assert Surd.of(3, 6).inverse() * Surd.of(3, 6) == Surd.of(1)
    with pytest.raises(ValueError, match="roots of 1, 2, 3 and 6, not of 5"):
        Surd.of(1, 5)


def test_schedules_without_an_exact_limit_are_refused_by_it():
    for schedule, message in (
        ((-LAM, sympy.exp(-1 / LAM)), "not a finite sum of powers"),
        ((-LAM, LAM + LAM**2), "single positive power"),
        ((-LAM, -LAM), "single positive power"),
        ((-LAM, LAM * sympy.Symbol("mu")), "one symbol"),
    ):
        with pytest.raises(ValueError, match=message):
            networks.exact_limit(networks.chain(1), [0], "uniform", [schedule])
    with pytest.raises(ValueError, match="must be one of 'uniform', 'triangular', not 'normal'"):
        networks.exact_limit(networks.chain(1), [0], "normal", [(-LAM, LAM**2)])
    with pytest.raises(ValueError, match="given, not quantised"):
        networks.exact_limit(networks.WEIGHT_ON_THRESHOLD.network, [1], "uniform", [(-LAM, LAM**2)])
    with pytest.raises(ValueError, match="1 quantised layers, but 2 schedules"):
        networks.exact_limit(networks.chain(1), [0], "uniform", [(-LAM, LAM**2)] * 2)


# The maps themselves


@settings(max_examples=80)
@given(rational_networks(), st.sampled_from(tuple(FAMILIES)), st.floats(-1, 1), st.floats(0.01, 1))
def test_the_regularised_network_is_the_composition_of_regularisations(case, family, mean, std):
    network, x = case
    found = network.regularised(x, [ab.Noise(family, mean, std)] * network.n_layers)
    v = np.array([float(f) for f in x])
    for layer, values in zip(network.layers, found.values):
        s = layer.weights.numbers(DOUBLE) @ v + layer.biases.numbers(DOUBLE)
        v = ab.Regularisation(layer.quantiser, ab.Noise(family, mean, std))(s)
        np.testing.assert_allclose(values, v, atol=1e-9)


@settings(max_examples=60)
@given(rational_networks(), st.sampled_from(tuple(FAMILIES)), st.integers(1, 60), st.integers(-2, 2))
def test_doubles_and_many_digits_agree_on_every_deviation(case, family, exponent, mean):
    network, x = case
    noise = (family, mpmath.mpf(mean) * mpmath.mpf(2) ** -(exponent // 2), mpmath.mpf(2) ** -exponent)
    plain = network.regularised(x, [(family, float(noise[1]), float(noise[2]))] * network.n_layers)
    fine = network.regularised(x, [noise] * network.n_layers, digits=60)
    for few, many in zip(plain.deviations, fine.deviations):
        np.testing.assert_allclose(few, many.astype(float), rtol=1e-6, atol=1e-13)


@settings(max_examples=60)
@given(rational_networks())
def test_the_heaviside_form_is_the_same_map_exactly_and_under_noise(case):
    network, x = case
    form = network.heaviside_form()
    assert form.trace(x).outputs[-1].fractions() == network.trace(x).outputs[-1].fractions()
    assert form.layers[-1].quantiser is None and form.n_noisy == network.n_layers
    noises = [ab.Noise("logistic", -0.01, 0.02)] * network.n_layers
    here, there = network.regularised(x, noises), form.regularised(x, noises)
    np.testing.assert_allclose(there.deviation, here.deviation, rtol=1e-9, atol=1e-14)


@settings(max_examples=40)
@given(rational_networks())
def test_a_quantised_network_agrees_with_fractions_done_by_hand(case):
    network, x = case
    for layer, s, out in zip(network.layers, network.trace(x).preactivations, network.trace(x).outputs):
        w, b = layer.weights.fractions(), layer.biases.fractions()
        x = [sum((p * q for p, q in zip(row, x)), Fraction(0)) + c for row, c in zip(w, b)]
        assert s.fractions() == x
        levels, thresholds = layer.quantiser.levels.tolist(), layer.quantiser.thresholds.tolist()
        x = [Fraction(levels[sum(v >= Fraction(t) for t in thresholds)]) for v in x]
        assert out.fractions() == x


def test_a_deviation_of_1e_minus_200_survives_next_to_one():
    noise = ab.Noise("normal", mean=-30.2, std=1.0)
    found = networks.chain(1).regularised([0], [noise])
    assert found.output[0] == 1.0
    assert found.deviation[0] == pytest.approx(-float(mpmath.erfc(30.2 / mpmath.sqrt(2)) / 2), rel=1e-9)
    assert 1e-201 < -found.deviation[0] < 1e-199


def test_floats_are_taken_bit_for_bit():
    # 3 · 0.1 is 0.30000000000000004 in doubles; exactly it lies between that and the double 0.3.
    exact = Network([[[3]]], [[0]], ab.Quantiser.heaviside(0.3))
    assert exact([0.1]) == [1.0] and not exact.hits([0.1])[0].any()
    assert exact.margin([0.1]) == 3 * Fraction(0.1) - Fraction(0.3)
    third = Network([[[3]]], [[0]], ab.Quantiser.heaviside(1.0))
    assert third.hits([Fraction(1, 3)])[0].all()


def test_an_affine_last_layer_passes_the_deviation_on():
    network = Network([[[0]], [[-3]]], [[0], [5]], [HEAVISIDE, None])
    noise = ab.Noise("logistic", -1.0, 0.2)
    found = network.regularised([7], [noise])
    assert network([7]) == [2.0] and network.n_noisy == 1
    assert found.deviation[0] == pytest.approx(3 * float(noise.sf(0.0)), rel=1e-12)


def test_a_batch_of_networks_gives_each_network_its_own_answer():
    batch, x = networks.random_ternary(30, (4, 5, 2), rng=1, planned=0.4)
    noises = [ab.Noise("triangular", -0.1, 0.3)] * 2
    together = batch.regularised(x, noises)
    for i in range(30):
        alone = Network([layer.weights[i] for layer in batch.layers], [layer.biases[i] for layer in batch.layers])
        np.testing.assert_array_equal(alone(x[i]), batch(x)[i])
        np.testing.assert_allclose(alone.regularised(x[i], noises).deviation, together.deviation[i], rtol=1e-12)
    one = Network([layer.weights[0] for layer in batch.layers], [layer.biases[0] for layer in batch.layers])
    assert one(x).shape == (30, 2)


def test_integers_too_large_for_machine_words_stay_exact():
    big = 2**61 + 1
    network = Network([[[big, -big]], [[1]]], [[Fraction(1, 3)], [-1]])
    assert network.trace([big, big]).preactivations[0].fractions() == [Fraction(1, 3)]
    assert network.trace([big, 0]).preactivations[0].fractions() == [big * big + Fraction(1, 3)]
    assert (Exact.of([2**62 - 1], "x") + Exact.of([2**62 - 1], "x")).fractions() == [2**63 - 2]


@settings(max_examples=100)
@given(st.sampled_from(tuple(FAMILIES)), st.floats(0, 30))
def test_the_precise_laws_are_the_laws_of_the_noise_module(family, t):
    law, value = FAMILIES[family], mpmath.mpf(t)
    edge = tail_of(family)
    assert isinstance(edge, Edge) == (family not in UNBOUNDED)
    if family not in UNBOUNDED:
        seen = edge.coefficient * max(0, half_width(family) - t) ** edge.order
        assert float(seen) == pytest.approx(float(law.sf(np.array(t))), rel=1e-11, abs=3e-16)
    tail = upper_tail(family, np.array([value]), PRECISE)[0]
    assert float(tail) == pytest.approx(float(law.sf(np.array(t))), rel=1e-11, abs=3e-16 if family in BOUNDED else 0)
    for signed in (t, -t):
        half = float(centre(family, np.array([mpmath.mpf(signed)]), PRECISE)[0])
        assert half == pytest.approx(float(law.cdf(np.array(signed), ab.noise.NUMPY_OPS)) - 0.5, abs=1e-12)
        assert float(centre(family, np.array([signed]), DOUBLE)[0]) == pytest.approx(half, rel=1e-7, abs=1e-16)


def test_tails_of_astronomical_arguments_are_ordered_and_positive_until_they_are_nothing():
    arguments = np.array([mpmath.mpf(10) ** k for k in (2, 49, 51, 400, 25001)], dtype=object)
    for family in UNBOUNDED:
        tails = upper_tail(family, arguments, PRECISE)
        assert all(high > low for high, low in zip(tails, tails[1:])) and tails[-1] == 0
    for t in map(mpmath.mpf, ("3e20", "0.9e50", "1.1e50", "7e300")):
        with mpmath.workdps(60):
            tail = upper_tail("normal", np.array([t]), PRECISE)[0]
            logarithm = mpmath.log(tail)
        with mpmath.workdps(700):
            mills = -t * t / 2 - mpmath.log(t * mpmath.sqrt(2 * mpmath.pi))
        assert abs(logarithm / mills - 1) < mpmath.mpf("1e-40")


@pytest.mark.parametrize("family", FAMILIES)
def test_tails_end_as_their_edge_or_decay_says(family):
    tail, far = tail_of(family), FAMILIES[family].half_width
    if isinstance(tail, Edge):
        assert float(half_width(family, mpmath_namespace())) == pytest.approx(far, rel=1e-15)
        for depth in (0.01, 0.3, 1.0):
            expected = float(FAMILIES[family].sf(np.array(far * (1 - depth))))
            assert float(tail.coefficient * (far * depth) ** tail.order) == pytest.approx(expected, rel=1e-10)
        return
    assert isinstance(tail, Decay) and far == math.inf
    with mpmath.workdps(50):
        rate, coefficient = (mpmath.mpf(sympy.N(value, 60)) for value in (tail.rate, tail.coefficient))
        shapes = [
            upper_tail(family, np.array([t]), PRECISE)[0] * mpmath.exp(rate * t ** int(tail.exponent)) / t ** int(tail.power)
            for t in map(mpmath.mpf, (100, 1000, 10000))
        ]
    assert abs(shapes[2] / coefficient - 1) < 1e-5 and abs(shapes[0] / coefficient - 1) < 1e-3


# Worst cases and witnesses


@pytest.mark.parametrize("family", FAMILIES)
def test_the_worst_case_recursion_is_attained_by_a_chain_and_bounds_every_network(family):
    schedules = [log_margin(family, *layer) for layer in ((3, 4), (2, 3), (1, 1))]
    lam = 0.01
    errors = networks.worst_case(family, schedules, lam, weight=2)
    fine = outputs(networks.Example(networks.chain(3, weight=2), (0,), ""), family, schedules, lam, digits=50)
    for error, deviation in zip(errors, fine.deviations):
        assert float(error) == pytest.approx(float(-deviation[0]), rel=1e-12)
    batch, x = networks.random_ternary(300, (4, 4, 4, 2), rng=3, planned=0.6)
    weight = max(np.abs(layer.weights.numerators).sum(axis=-1).max() for layer in batch.layers)
    bounds = networks.worst_case(family, schedules, lam, weight=int(weight), gap=Fraction(1, 2))
    found = batch.regularised(x, networks.noises_at(family, schedules, lam))
    for bound, deviation in zip(bounds, found.deviations):
        assert np.abs(deviation).max() <= float(bound) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("schedules", "where"),
    [
        ([(-LAM, LAM**2), (0, LAM), (-LAM, LAM**2)], (1, 1)),
        ([(-LAM, LAM**2), (LAM, LAM**2), (-LAM, LAM**2)], (1, 1)),
        ([(-LAM, LAM**2), (-LAM, LAM**2), (-LAM, sympy.Rational(1, 2) + LAM)], (2, 2)),
        ([(-sympy.Rational(1, 4), LAM), (-LAM, LAM**2), (-LAM, LAM**2)], (0, 0)),
        ([(sympy.Rational(1, 4), LAM), (-LAM, LAM**2), (-LAM, LAM**2)], (0, 0)),
    ],
    ids=["zero mean", "wrong sign", "std stays", "mean stays", "mean stays positive"],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_bad_layer_yields_a_witness_that_starts_and_stops_there(family, schedules, where):
    found = networks.witness(family, schedules)
    assert (found.start, found.stop) == where
    again = networks.limit(found.network, found.x, family, schedules)
    assert again.verdict == "wrong"
    assert "the output tends to" in str(found)


def test_the_chain_network_of_two_layers_is_network_a():
    a, c = networks.NETWORK_A, networks.chain(2)
    schedules = [log_margin("normal", *layer) for layer in BAD]
    noises = networks.noises_at("normal", schedules, 0.01)
    np.testing.assert_array_equal(a.network.regularised(a.x, noises).output, c.regularised([0], noises).output)


# Exact hits


def test_sums_of_ternary_products_are_counted_exactly():
    for n in (1, 2, 3):
        brute = [0] * (2 * n + 1)
        for values in itertools.product((-1, 0, 1), repeat=2 * n):
            brute[sum(w * x for w, x in zip(values[:n], values[n:])) + n] += 1
        assert networks.ternary_sum_counts(n) == brute
    for n in (7, 40):
        convolved = np.array([1], dtype=object)
        for _ in range(n):
            convolved = np.convolve(convolved, np.array([2, 5, 2], dtype=object))
        assert networks.ternary_sum_counts(n) == list(convolved)
        assert sum(convolved) == 9**n


def test_a_ternary_sum_is_a_difference_of_two_binomials():
    for n in (1, 5, 12):
        third = [Fraction(math.comb(n, k) * 2 ** (n - k), 3**n) for k in range(n + 1)]
        for target in range(-n, n + 1):
            expected = sum(third[k] * third[k - target] for k in range(n + 1) if 0 <= k - target <= n)
            assert networks.hit_probability(n, target) == expected
    assert networks.hit_probability(3, 4) == 0


def test_hit_probability_is_0_598_over_root_n():
    constant = 3 / (2 * math.sqrt(2 * math.pi))
    assert constant == pytest.approx(0.598, abs=5e-4)
    for n in (10, 100, 1000):
        exact = float(networks.hit_probability(n)) * math.sqrt(n)
        assert exact == pytest.approx(constant * (1 - 3 / (32 * n)), rel=0.2 / n**2)


@pytest.mark.parametrize(("quantiser", "factor"), [(HEAVISIDE, 1), (FLOOR_TERNARY, 2), (ab.Quantiser.ternary(), 0)])
def test_random_ternary_units_hit_as_often_as_counted(quantiser, factor):
    n, count = 16, 4000
    batch, x = networks.random_ternary(count, (n, 1), rng=11, quantiser=quantiser)
    hits = int(batch.hits(x)[0].sum())
    p = float(networks.hit_probability(n) + networks.hit_probability(n, 1) * (factor == 2)) * (factor > 0)
    low, high = networks.clopper_pearson(hits, count, 0.9999)
    assert low <= p <= high


def test_planned_hits_hit():
    batch, x = networks.random_ternary(50, (3, 4, 2), rng=0, quantiser=ab.Quantiser.ternary(), planned=1.0)
    assert all(hits.all() for hits in batch.hits(x)) and batch.margin(x) == 0


# Shares and intervals


@settings(max_examples=80)
@given(st.integers(1, 2000), st.floats(0, 1))
def test_intervals_contain_the_estimate_and_the_exact_one_is_wider_on_average(n, part):
    k = round(part * n)
    for low, high in (networks.wilson(k, n), networks.clopper_pearson(k, n)):
        assert 0 <= low <= k / n <= high <= 1


def test_intervals_agree_with_published_values():
    # Newcombe (1998), 81 of 263.
    assert networks.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert networks.clopper_pearson(81, 263) == pytest.approx((0.2527, 0.3676), abs=5e-5)
    assert networks.clopper_pearson(0, 1000)[1] == pytest.approx(1 - 0.025 ** (1 / 1000), rel=1e-9)


def test_shares_of_wrong_limits_follow_the_sign_of_the_mean():
    batch, x = networks.random_ternary(300, (8, 8, 4), rng=0)
    for family in FAMILIES:
        share = {sign: networks.wrong_share(batch, x, family, [(sign * LAM, LAM**2)] * 2) for sign in (-1, 0, 1)}
        assert share[-1].wrong == 0 < share[0].wrong and share[1].wrong > 0
        assert all(s.undecided == 0 and s.low <= s.share <= s.high for s in share.values())
    assert str(share[-1]).startswith("0 of 300 (0.0%")


def test_a_share_in_doubles_is_the_share_in_many_digits():
    batch, x = networks.random_ternary(40, (4, 4, 2), rng=2, planned=0.5)
    for family in FAMILIES:
        for order in (GOOD, BAD):
            schedules = [log_margin(family, *layer) for layer in order]
            share = networks.wrong_share(batch, x, family, schedules)
            fine = networks.limit(batch, x, family, schedules)
            assert share.wrong == (fine.verdicts == "wrong").sum() and share.undecided == 0


def test_a_small_error_that_stays_is_wrong_and_a_small_one_that_falls_is_right():
    stays = networks.limit(networks.chain(1), [0], "normal", [(-sympy.Rational(5, 2) * LAM, LAM)])
    assert stays.verdict == "wrong" and float(-stays.deviations[-1][0]) == pytest.approx(0.0062097, rel=1e-5)
    slow = -LAM * sympy.log(LOG) * sympy.sqrt(3) / sympy.pi
    falls = networks.limit(networks.chain(1), [0], "logistic", [(slow, LAM)])
    assert falls.verdict == "right"  # the error is 1/(1 + ln(1/λ))


def test_a_limit_that_has_not_settled_is_undecided():
    slow = [(-LAM * sympy.log(LOG), LAM)]
    found = networks.limit(networks.chain(1), [0], "logistic", slow, lambdas=[0.1, 0.05], digits=30)
    assert found.verdict == "undecided"


# At the door


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(weights=[]), "at least one layer"),
        (dict(weights=[[[1, 1]], [[1, 1]]]), r"layer 1 has weights of shape \(1, 2\), but layer 0 gives 1 output, .* be 1"),
        (dict(weights=[[1, 2]]), r"layer 0 has weights of shape \(2,\); a matrix"),
        (dict(weights=[[[1]]], biases=[[1, 2]]), r"layer 0 has biases of shape \(2,\), .* must be 1"),
        (dict(weights=[[[1]]], biases=[[1], [2]]), "1 weight matrices need 1 biases, one a layer, not 2"),
        (dict(weights=[[[1]], [[1]]], quantisers=[HEAVISIDE]), "2 weight matrices need 2 quantisers"),
        (dict(weights=[[[1]], [[1, 2], [3]]]), "rectangular"),
        (dict(weights=[[[math.inf]]]), "finite, not inf"),
        (dict(weights=[[[0]]], quantisers=[None], weight_quantisers=[HEAVISIDE]), "no noise for them"),
    ],
)
def test_networks_that_do_not_fit_are_refused_in_one_sentence(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        Network(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(weights=[[["one"]]]), "integers, fractions or floats, not 'one'"),
        (dict(weights=[[[True]]]), "not True"),
        (dict(weights=[[[1]], [[1]]], quantisers=[None, HEAVISIDE]), "layer 0 must be a Quantiser .only the last"),
        (dict(weights=[[[1]]], quantisers=["sign"]), "must be a Quantiser or None, not 'sign'"),
        (dict(weights=[[[1]]], weight_quantisers=["sign"]), "weight quantiser of layer 0"),
    ],
)
def test_things_of_a_wrong_kind_are_refused_in_one_sentence(arguments, message):
    with pytest.raises(TypeError, match=message):
        Network(**arguments)


def test_a_wrong_input_or_a_layer_without_noise_is_refused():
    network = networks.NETWORK_A.network
    with pytest.raises(ValueError, match=r"input has shape \(2,\), but the network takes 1 input,"):
        network([1, 2])
    with pytest.raises(ValueError, match=r"2 quantised layers, so it needs 2 noises, not 1 \(layer 1 has none\)"):
        network.regularised([0], [ab.Noise("normal")])
    with pytest.raises(ValueError, match="needs 2 noises, not 3"):
        network.regularised([0], [ab.Noise("normal")] * 3)
    with pytest.raises(ValueError, match="std of layer 1 must be at least 0, not -0.5"):
        network.regularised([0], [("normal", 0, 1), ("normal", 0, -0.5)])
    with pytest.raises(ValueError, match="Did you mean 'normal'"):
        network.regularised([0], [("normal", 0, 1), ("norml", 0, 0.5)])
    with pytest.raises(TypeError, match="noise of layer 0 must be a Noise or"):
        network.regularised([0], [0.5, 0.5])


def test_schedules_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="std of layer 0 must be at least 0, not -0.1"):
        networks.noises_at("uniform", [(0, -LAM)], 0.1)
    with pytest.raises(ValueError, match="one symbol, lambda, but lambda\\*mu depends on lambda, mu"):
        networks.noises_at("uniform", [(0, LAM * sympy.Symbol("mu"))], 0.1)
    with pytest.raises(ValueError, match="2 schedules need 2 families, not 1"):
        networks.noises_at(["uniform"], [(0, LAM)] * 2, 0.1)
    with pytest.raises(ValueError, match="lambda must be positive"):
        networks.noises_at("uniform", [(0, LAM)], 0)
    with pytest.raises(TypeError, match=r"schedule of layer 0 must be a pair \(mean, std\)"):
        networks.noises_at("uniform", [LAM], 0.1)
    with pytest.raises(ValueError, match="too small for a float; pass digits"):
        networks.noises_at("uniform", [(0, LAM**40)], 1e-10)
    with pytest.raises(ValueError, match="two decreasing values"):
        networks.limit(networks.chain(1), [0], "uniform", [(0, LAM)], lambdas=[0.1, 0.2])
    with pytest.raises(ValueError, match="Did you mean 'ternary analogue'"):
        networks.named("ternary analog")


def test_functions_numbers_and_expressions_give_the_same_noise():
    by_formula = networks.noises_at("triangular", [(-LAM, LAM / 4)], 0.125)
    by_function = networks.noises_at("triangular", [(lambda v: -v, lambda v: v / 4)], 0.125)
    by_number = networks.noises_at("triangular", [(-0.125, Fraction(1, 32))], 0.125)
    np.testing.assert_allclose(by_formula[0][1:], by_function[0][1:])
    np.testing.assert_allclose(by_formula[0][1:], by_number[0][1:])
    edge = networks.noises_at("uniform", [(-sympy.sqrt(3) * LAM, LAM)], mpmath.mpf("1e-30"), digits=50)[0]
    assert edge.upper == 0


@pytest.mark.parametrize("name", networks.NAMES)
def test_every_named_network_runs(name):
    example = networks.named(name)
    noises = [ab.Noise("normal", -0.1, 0.02)] * example.network.n_noisy
    assert example.network.regularised(example.x, noises).deviation == pytest.approx([0], abs=1e-3)
    assert example.text


def test_zeros_beside_fine_fractions_stay_exact():
    fine = Exact.of([Fraction(1, 2**80)], "x")
    assert (Exact.of([0], "x") + fine).fractions() == [Fraction(1, 2**80)]
