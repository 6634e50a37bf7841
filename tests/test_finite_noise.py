"""Finite noise: what is out of reach stays as it is, and the bounds are never exceeded and sometimes attained."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import sympy as sp
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import integrate

from anabook import Noise, Quantiser, Regularisation
from anabook.convergence import finite_noise, networks
from anabook.convergence.finite_noise import (
    PASSES,
    NoisyLayer,
    change_probability,
    closeness,
    disagreement_bound,
    exposure,
    mean_magnitude,
    reach,
    within_reach,
)
from anabook.laws import FAMILIES, Law
from anabook.variants import LAWS

TERNARY, HEAVISIDE = Quantiser.ternary(), Quantiser.heaviside()
BOUNDED = ("uniform", "triangular")

families = st.sampled_from(tuple(FAMILIES))
means, stds = st.floats(-0.4, 0.4), st.floats(0.01, 0.4)
stairs = st.sampled_from([HEAVISIDE, TERNARY, Quantiser([-2, 0, 1, 5], [-1.0, 0.25, 2.0]), Quantiser.linear(3)])


def lopsided() -> Law:
    """A density that rises on [−1, 1]: mean 1/3, variance 2/9."""
    return Law(
        "ramp",
        density=lambda t, m: m.where((t >= -1) & (t < 1), (1 + t) / 2, 0.0 * t),
        distribution=lambda t, m: m.clip((1 + t), 0, 2) ** 2 / 4,
        survival=lambda t, m: 1 - m.clip((1 + t), 0, 2) ** 2 / 4,
        support=(-1.0, 1.0),
        mean=1 / 3,
        std=math.sqrt(2) / 3,
        symmetric=False,
    )


# --- one unit -----------------------------------------------------------------------------------------------------------


@given(stairs, st.sampled_from(BOUNDED), means, stds, st.floats(-4, 4), st.integers(0, 2**31))
@settings(max_examples=300)
def test_out_of_reach_every_strategy_gives_the_level(quantiser, family, mean, std, s, seed):
    noise = Noise(family, mean, std)
    assume(not within_reach(quantiser, noise, s))
    regularised, level = Regularisation(quantiser, noise), quantiser(s)
    assert regularised(s) == level and regularised.mode(s) == level
    assert (regularised.sample(np.full(50, s), seed) == level).all()
    for strategy in PASSES:
        assert change_probability(quantiser, noise, s, strategy) == 0


@given(stairs, st.sampled_from(BOUNDED), means, stds)
def test_the_ends_of_the_reach_are_closed_on_the_left_and_open_on_the_right(quantiser, family, mean, std):
    noise = Noise(family, mean, std)
    low, high = (Fraction(end) for end in noise.support)
    far = Fraction(1, 10**14) * (abs(low) + abs(high) + Fraction(abs(mean)))

    def reached(s: float, slack: Fraction) -> bool:
        down, up = min(low - slack, 0), max(high + slack, 0)
        return any(Fraction(t) + down <= Fraction(s) < Fraction(t) + up for t in quantiser.thresholds)

    for threshold in quantiser.thresholds:
        for end in (min(low, 0), max(high, 0), 0):
            place = float(Fraction(threshold) + end)
            for s in (np.nextafter(place, -math.inf), place, np.nextafter(place, math.inf)):
                found = within_reach(quantiser, noise, s)
                assert found or not reached(s, Fraction(0))  # never too few
                assert not found or reached(s, far + 4 * Fraction(np.spacing(abs(place) + 1)))  # and hardly too many
        others = [t for t in quantiser.thresholds if t != threshold and reached(threshold, far)]
        assert within_reach(quantiser, noise, threshold) == (high > 0) or others


@given(stairs, st.sampled_from(BOUNDED), st.floats(-16, 0), st.sampled_from([0.0, 1.0, -1.0, -math.sqrt(3), 5.0]))
@settings(max_examples=150)
def test_next_to_the_ends_of_the_reach_no_rounding_gives_another_level(quantiser, family, size, mean):
    noise = Noise(family, mean * 10**size, 10**size)
    regularised = Regularisation(quantiser, noise)
    for threshold in quantiser.thresholds:
        for end in (*noise.support, 0.0):
            s = threshold + end + np.arange(-4, 5) * np.spacing(abs(threshold + end))
            free = ~within_reach(quantiser, noise, s)
            for strategy in PASSES:
                assert not change_probability(quantiser, noise, s[free], strategy).any()
            assert (regularised(s[free]) == quantiser(s[free])).all()


@pytest.mark.parametrize("std", [1e-16, 1e-17, 1e-300])
@pytest.mark.parametrize(("stair", "threshold"), [(TERNARY, 0.5), (Quantiser([0, 1], [3.0]), 3.0), (HEAVISIDE, 0.0)])
def test_noise_smaller_than_the_roundings_of_a_threshold_reaches_it_from_where_it_is_hit(stair, threshold, std):
    noise = Noise("uniform", 0.0, std)
    assert threshold + noise.half_width == threshold or threshold == 0 or std == 1e-16
    assert within_reach(stair, noise, threshold) and Regularisation(stair, noise)(threshold) != stair(threshold)
    layer = NoisyLayer(1, stair, noise, density=0.0, hits=1.0)
    assert [disagreement_bound([layer], strategy) for strategy in PASSES] == [1.0, 0.0, 0.5, 1.0]
    assert not within_reach(stair, Noise("uniform", 0.0, 0.0), threshold)


def test_an_average_that_leaves_its_level_by_less_than_a_rounding_leaves_it():
    noise = Noise("triangular", -(1 - 1e-9) * math.sqrt(6), 1.0)  # 5e-19 of its mass is above 0
    assert 0 < noise.sf(0.0) < 1e-18 and Regularisation(HEAVISIDE, noise)(0.0) == 1
    assert disagreement_bound([NoisyLayer(1, HEAVISIDE, noise, density=0.0, hits=1.0)], "expectation") == 1


def test_one_sided_laws_reach_one_way():
    waiting = Law(
        "waiting",
        density=lambda t, m: m.where(t >= 0, m.exp(-abs(t)), 0.0 * t),
        distribution=lambda t, m: m.where(t > 0, 1 - m.exp(-abs(t)), 0.0 * t),
        survival=lambda t, m: m.where(t > 0, m.exp(-abs(t)), 1 + 0.0 * t),
        support=(0.0, math.inf),
        mean=1.0,
        symmetric=False,
    )
    noise = Noise(waiting, 1.0, 1.0)
    assert within_reach(HEAVISIDE, noise, [-0.5, 0.0, 5.0, 50.0]).tolist() == [False, True, True, True]
    assert within_reach(HEAVISIDE, noise, [-0.5, 0.0, 5.0, 50.0], miss=1e-4).tolist() == [False, True, True, False]


def test_closeness_keeps_its_digits_beside_a_large_mean():
    layer = NoisyLayer(1, HEAVISIDE, Noise("normal", 2.0**20, 1e-10), density=0.0)
    (error,) = closeness([layer], [2.0**20 + 2.0**-32])[1]
    assert error == pytest.approx(float(Noise("normal", std=1.0).sf(2.0**-32 / 1e-10)), rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_no_network_differs_more_often_than_the_bound(seed):
    """One to three layers of units on a threshold with probability π, else uniform; noise of any width and mean."""
    rng, n = np.random.default_rng(seed), 20_000
    for _ in range(8):
        strategy, layers, places = PASSES[rng.integers(3)], [], []
        for _ in range(rng.integers(1, 4)):
            k, width = int(rng.integers(2, 9)), int(rng.integers(1, 4))
            thresholds = np.sort(rng.choice(np.arange(-20, 21), k - 1, replace=False)) * rng.choice([0.1, 0.05, 0.3])
            stair = Quantiser(np.sort(rng.choice(np.arange(-9, 10), k, replace=False)) * 0.25, thresholds)
            laws = {"expectation": (*BOUNDED, lopsided()), "mode": tuple(FAMILIES), "random": (*FAMILIES, lopsided())}[
                strategy
            ]
            std = float(10 ** rng.uniform(-4, 0.3) * (rng.random() < 0.9))
            mean = float(rng.choice([0, 1, -1, 5, -math.sqrt(3)]) * std if rng.random() < 0.5 else rng.normal())
            half, hits = float(10 ** rng.uniform(-0.5, 2)), float(rng.choice([0, 0.05, 0.5]))
            noise = Noise(laws[rng.integers(len(laws))], mean, std)
            layers.append(NoisyLayer(width, stair, noise, density=(1 - hits) / (2 * half), hits=hits))
            places.append(half)
        exact = noisy = np.zeros((n, 1))
        differs, reached = np.zeros(n, bool), np.zeros(n, bool)
        for layer, half in zip(layers, places):
            shape, stair, regularised = (n, layer.units), layer.quantiser, Regularisation(layer.quantiser, layer.noise)
            hit = stair.thresholds[rng.integers(len(stair.thresholds), size=shape)]
            s = np.where(rng.random(shape) < layer.hits, hit, rng.uniform(-half, half, shape))
            shift = (noisy - exact) @ rng.normal(size=(exact.shape[1], layer.units))
            shaken = np.where((noisy == exact).all(1)[:, None], s, s + shift)
            reached |= within_reach(stair, layer.noise, s, 0.0 if math.isfinite(layer.noise.support[0]) else 1e-12).any(1)
            exact = stair(s)
            if strategy == "random":
                noisy = regularised.sample(shaken, rng)
            else:
                noisy = regularised(shaken) if strategy == "expectation" else regularised.mode(shaken)
            differs |= (noisy != exact).any(1)
        assert not (differs & ~reached).any()
        share = differs.mean()
        assert share <= disagreement_bound(layers, strategy) + 5 * math.sqrt(max(share * (1 - share), 1e-4) / n)


def test_a_value_within_reach_can_change_and_one_next_to_it_cannot():
    noise = Noise("uniform", 0.0, 0.1)
    h = noise.half_width
    inside, outside = [0.5 - 0.999 * h, 0.5 + 0.999 * h], [0.5 - 1.001 * h, 0.5 + 1.001 * h]
    assert (change_probability(TERNARY, noise, inside) > 0).all() and not change_probability(TERNARY, noise, outside).any()
    assert within_reach(TERNARY, noise, inside).all() and not within_reach(TERNARY, noise, outside).any()


def test_without_noise_nothing_is_within_reach_and_a_shift_reaches_as_far_as_it_goes():
    s = np.array([-0.5, 0.3, 0.4, 0.5, 0.6])
    assert not within_reach(TERNARY, Noise("normal", 0.0, 0.0), s).any()
    assert within_reach(TERNARY, Noise("normal", -0.15, 0.0), s).tolist() == [False, False, True, False, False]
    assert within_reach(TERNARY, Noise("normal", 0.15, 0.0), s).tolist() == [True, False, False, True, True]
    assert change_probability(TERNARY, Noise("normal", 0.15, 0.0), s).tolist() == [1, 0, 0, 1, 1]


@given(stairs, families, means, stds, st.floats(-4, 4))
@settings(max_examples=200)
def test_the_probability_of_a_change_is_one_minus_that_of_the_level(quantiser, family, mean, std, s):
    noise = Noise(family, mean, std)
    levels = Regularisation(quantiser, noise).probabilities(s)
    expected = 1 - levels[list(quantiser.levels).index(quantiser(s))]
    assert change_probability(quantiser, noise, s) == pytest.approx(expected, abs=1e-14)


def test_the_probability_of_a_change_has_no_cancellation_in_the_tail():
    noise = Noise("normal", 0.0, 1.0)
    assert change_probability(HEAVISIDE, noise, [20.0, -20.0]) == pytest.approx([2.75362e-89] * 2, rel=1e-5)


# --- E abs(ν) -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_the_mean_magnitude_is_what_sympy_integrates(name):
    t = sp.symbols("t", positive=True)
    half = {
        "uniform": sp.integrate(t / (2 * sp.sqrt(3)), (t, 0, sp.sqrt(3))),
        "triangular": sp.integrate(t * (sp.sqrt(6) - t) / 6, (t, 0, sp.sqrt(6))),
        "normal": sp.integrate(t * sp.exp(-(t**2) / 2) / sp.sqrt(2 * sp.pi), (t, 0, sp.oo)),
        "logistic": sp.sqrt(3) * sp.log(2) / sp.pi,
    }[name]
    exact = float(2 * half)
    assert mean_magnitude(Noise(name, std=1.0)) == pytest.approx(exact, rel=1e-11)
    assert mean_magnitude(Noise(name, std=1e-6)) == pytest.approx(exact * 1e-6, rel=1e-11)
    by_density = integrate.quad(lambda v: abs(v) * float(Noise(name, 0.3, 1.0).pdf(v)), -40, 40, points=[0, 0.3], limit=400)[
        0
    ]
    assert mean_magnitude(Noise(name, 0.3, 1.0)) == pytest.approx(by_density, rel=1e-7)


@given(families, st.floats(-3, 3), st.floats(1e-3, 3))
@settings(max_examples=60)
def test_the_mean_magnitude_lies_between_the_mean_and_the_ends(family, mean, std):
    found = mean_magnitude(Noise(family, mean, std))
    assert abs(mean) * (1 - 1e-9) <= found <= math.hypot(mean, std) * (1 + 1e-9)
    if family in BOUNDED:
        assert found <= abs(mean) + Noise(family, mean, std).half_width


def test_the_mean_magnitude_of_other_laws():
    assert mean_magnitude(Noise("uniform", -0.4, 0.0)) == 0.4
    ramp = Noise(lopsided(), 1 / 3, math.sqrt(2) / 3)
    assert mean_magnitude(ramp) == pytest.approx(0.5, rel=1e-9)  # ∫ abs(t) (1 + t)/2 over [−1, 1]
    assert mean_magnitude(Noise(LAWS["cauchy"], 0.0, 1.0)) == math.inf


# --- the length that the noise makes uncertain ----------------------------------------------------------------------------


@given(stairs, families, st.floats(-0.2, 0.2), st.floats(0.01, 0.05))
@settings(max_examples=40, deadline=None)
def test_the_exposure_to_random_draws_is_the_integral_of_the_chance(quantiser, family, mean, std):
    noise, total = Noise(family, mean, std), 0.0
    edges = [quantiser.thresholds[0] - 1.5, *quantiser.thresholds, quantiser.thresholds[-1] + 1.5]
    for left, right in zip(edges, edges[1:]):
        places = np.linspace(left, right, 40)
        for a, b in zip(places, places[1:]):
            total += integrate.quad(lambda s: float(change_probability(quantiser, noise, s)), a, b, epsabs=1e-10)[0]
    assert total == pytest.approx(exposure(quantiser, noise, "random"), rel=1e-6)


@given(stairs, st.sampled_from(BOUNDED), st.floats(-0.2, 0.2), st.floats(0.01, 0.05), st.sampled_from(PASSES))
@settings(max_examples=80)
def test_the_exposure_is_the_measure_of_what_changes(quantiser, family, mean, std, strategy):
    noise = Noise(family, mean, std)
    s = np.linspace(quantiser.thresholds[0] - 1, quantiser.thresholds[-1] + 1, 40_001) + 1e-9
    covered = change_probability(quantiser, noise, s, strategy).mean() * (s[-1] - s[0])
    assert covered == pytest.approx(exposure(quantiser, noise, strategy), abs=4e-4 * len(quantiser.thresholds))


@given(stairs, st.sampled_from(BOUNDED), means, stds)
def test_the_exposure_is_at_most_twice_mean_and_half_width(quantiser, family, mean, std):
    noise, n = Noise(family, mean, std), quantiser.n_levels - 1
    ceiling = 2 * n * (abs(mean) + noise.half_width)
    lengths = {strategy: exposure(quantiser, noise, strategy) for strategy in PASSES}
    slack = 1 + 1e-9
    assert lengths["random"] <= lengths["any"] * slack and lengths["any"] <= ceiling * slack
    h = noise.half_width
    assert lengths["any"] == pytest.approx(n * (h + max(h, abs(mean))))


def test_the_mode_of_narrow_noise_is_exposed_by_its_mean_alone():
    assert exposure(TERNARY, Noise("triangular", -0.1, 0.05), "mode") == pytest.approx(0.2)
    assert exposure(TERNARY, Noise("uniform", 0.0, 0.3), "mode") == 0
    assert exposure(TERNARY, Noise("uniform", 0.0, 0.7), "mode") > 0  # wider than the narrowest bin


# --- the bound ------------------------------------------------------------------------------------------------------------


def random_network(seed: int, quantiser: Quantiser, depth: int = 3, width: int = 3):
    rng = np.random.default_rng(seed)
    sizes = [2, *[width] * depth]
    weights = [rng.normal(size=(m, n)).round(3) for n, m in zip(sizes, sizes[1:])]
    return networks.Network(weights, [rng.normal(size=m).round(3) for m in sizes[1:]], quantiser)


def forward(net, x, step):
    """Every layer's outputs, with `step(layer number, pre-activations)` for the stairs."""
    found = []
    for i, layer in enumerate(net.layers):
        w = np.array(layer.weights.fractions(), dtype=float).reshape(layer.weights.shape)
        b = np.array(layer.biases.fractions(), dtype=float)
        x = step(i, x @ w.T + b)
        found.append(x)
    return found


@given(st.integers(0, 10**6), stairs, st.lists(st.tuples(st.sampled_from(BOUNDED), means, stds), min_size=3, max_size=3))
@settings(max_examples=60, deadline=None)
def test_noise_changes_no_more_inputs_than_are_within_reach_somewhere(seed, quantiser, noises):
    net, noises = random_network(seed, quantiser), [Noise(*each) for each in noises]
    x = np.random.default_rng(seed + 1).normal(size=(300, 2))
    regular = [Regularisation(quantiser, noise) for noise in noises]
    reached, chances = np.zeros(len(x), bool), np.zeros(len(x))

    def quantised(i, s):
        nonlocal reached, chances
        reached = reached | within_reach(quantiser, noises[i], s).any(1)
        chances = chances + change_probability(quantiser, noises[i], s).sum(1)
        return quantiser(s)

    exact = forward(net, x, quantised)
    rng = np.random.default_rng(seed + 2)
    for step in (lambda i, s: regular[i](s), lambda i, s: regular[i].mode(s), lambda i, s: regular[i].sample(s, rng)):
        noisy = forward(net, x, step)
        differs = np.any([(a != b).any(1) for a, b in zip(noisy, exact)], axis=0)
        assert not differs[~reached].any()
    # Random draws differ with a chance of at most the sum over units: five standard deviations of slack.
    draws = np.mean([np.any([(a != b).any(1) for a, b in zip(forward(net, x, step), exact)], 0) for _ in range(30)], 0)
    assert draws.mean() <= np.minimum(chances, 1).mean() + 5 * 0.5 / math.sqrt(30 * len(x))


@given(st.integers(0, 10**6), stairs, st.floats(0.001, 0.02))
@settings(max_examples=25, deadline=None)
def test_exact_networks_out_of_reach_have_no_deviation(seed, quantiser, std):
    net, x = random_network(seed, quantiser), np.random.default_rng(seed).normal(size=2).round(3)
    noises = [Noise("uniform", (-1) ** i * std, std) for i in range(3)]
    assume(float(net.margin(x)) >= std + noises[0].half_width)
    assert all((deviation == 0).all() for deviation in net.regularised(x, noises).deviations)


@pytest.mark.parametrize("strategy", PASSES)
@pytest.mark.parametrize("family", BOUNDED)
@pytest.mark.parametrize("mean", [0.0, -0.003, 0.02])
def test_the_bound_is_attained_by_units_with_distant_thresholds(strategy, family, mean):
    # An input uniform on [0, 1] and ten units x − c: their pre-activations have density 1, their windows do not meet.
    noise, n = Noise(family, mean, 0.004), 10
    centres = (np.arange(n) + 0.5) / n
    x = (np.arange(200_000) + 0.5) / 200_000
    chances = change_probability(HEAVISIDE, noise, x[:, None] - centres, strategy)
    assert ((chances > 0).sum(1) <= 1).all()  # so the chance that any unit differs is the sum
    exact = chances.sum(1).mean()
    bound = disagreement_bound([NoisyLayer(n, HEAVISIDE, noise, density=1.0)], strategy)
    assert exact == pytest.approx(bound, rel=2e-3) and (bound == 0) == (strategy == "mode" and mean == 0)


def test_in_depth_the_bound_is_attained_to_first_order_in_any_order_of_the_layers():
    # Two units in a row whose biases are uniform: the second's pre-activation has density 1 whatever the first gives.
    noises = [Noise("uniform", 0.0, 0.01), Noise("triangular", 0.0, 0.002)]
    rng = np.random.default_rng(0)
    b1, b2 = rng.uniform(-0.5, 0.5, (2, 2_000_000))
    for order in (noises, noises[::-1]):
        first, second = (Regularisation(HEAVISIDE, noise) for noise in order)
        x1, x2 = HEAVISIDE(b1), HEAVISIDE(0.25 * HEAVISIDE(b1) + b2 - 0.125)
        y1 = first.sample(b1, rng)
        y2 = second.sample(0.25 * y1 + b2 - 0.125, rng)
        measured = ((y1 != x1) | (y2 != x2)).mean()
        bound = disagreement_bound([NoisyLayer(1, HEAVISIDE, noise, density=1.0) for noise in order], "random")
        assert bound == pytest.approx(mean_magnitude(noises[0]) + mean_magnitude(noises[1]))
        assert measured == pytest.approx(bound, rel=0.04)


@pytest.mark.parametrize(
    "law",
    [("uniform", 3.0, 1.0), ("uniform", -3.0, 1.0), ("triangular", 0.4, 1.0), ("normal", -0.7, 1.0), ("ramp", 0.0, 1.0)],
)
@pytest.mark.parametrize("where", [(1, 0), (0, 1), (1, 1)])
def test_to_first_order_every_law_changes_outputs_through_its_mean_size_alone(law, where):
    # A ternary unit of density ½ pushes another, of density 1, by −0.2, −0.1 or 0.2: its steps get through with 0.1 and 0.3.
    family, mean, std = law
    noises = [Noise(lopsided() if family == "ramp" else family, mean * 0.02 * on, std * 0.02 * on) for on in where]
    if abs(mean) == 3:
        low, high = noises[where.index(1)].support
        assert low * high > 0  # of one sign
    n, rng = 500_000 if family == "ramp" else 2_000_000, np.random.default_rng(4)
    b1, b2 = rng.uniform(-1, 1, n), rng.uniform(-0.5, 0.5, n)
    pushes = np.array([-0.2, -0.1, 0.2])

    def output(first, second):
        return second(pushes[first(b1).astype(int) + 1] + b2)

    exact = output(TERNARY, HEAVISIDE)
    units = [Regularisation(q, noise) for q, noise in zip((TERNARY, HEAVISIDE), noises)]
    noisy = output(*(lambda s, unit=unit: unit.sample(s, rng) for unit in units))
    sizes = [mean_magnitude(noise) for noise in noises]
    assert (noisy != exact).mean() == pytest.approx(0.5 * (0.1 + 0.3) * sizes[0] + sizes[1], rel=0.04)


@pytest.mark.parametrize("strategy", PASSES)
def test_a_hit_of_one_threshold_counts_where_the_noise_reaches_another(strategy):
    stair, noise = Quantiser([0, 1, 2], [0, 1]), Noise("uniform", -1.5, 0.1 / math.sqrt(3))
    assert change_probability(stair, noise, 0.0, strategy) == 1  # from level 1, on its threshold, to level 2
    assert disagreement_bound([NoisyLayer(1, stair, noise, density=0.0, hits=1.0)], strategy) == 1
    # As a mass inside the interval [0, 1), which ends at the other threshold, it is a density of 1.
    assert disagreement_bound([NoisyLayer(1, stair, noise, density=1.0)], strategy) == 1


@pytest.mark.parametrize("strategy", ["random", "mode"])
def test_normal_noise_of_mean_zero_keeps_the_bound_on_and_off_the_threshold(strategy):
    noise, s = Noise("normal", 0.0, 0.05), np.linspace(-1, 1, 200_001)
    off, on = (change_probability(HEAVISIDE, noise, v, strategy) for v in (s, 0.0))
    bound = disagreement_bound([NoisyLayer(1, HEAVISIDE, noise, density=0.35, hits=0.3)], strategy)
    chance = 0.7 * off.mean() + 0.3 * on
    assert bound == pytest.approx(chance, rel=1e-4) and (bound == 0) == (strategy == "mode")


def test_a_miss_of_most_of_the_noise_bounds_nothing():
    stair, noise = Quantiser([0, 1, 2], [0.0, 4.0]), Noise("normal", 0.0, 10.0)
    assert not within_reach(stair, noise, 2.0, miss=0.9) and change_probability(stair, noise, 2.0, "mode") == 1
    assert disagreement_bound([NoisyLayer(1, stair, noise, density=0.0)], miss=0.9) == 1
    assert disagreement_bound([NoisyLayer(1, stair, noise, density=0.0)], miss=0.5) == 0.5


def test_exact_hits_add_their_probability_times_the_chance_that_the_level_falls():
    n, rng = 24, np.random.default_rng(1)
    w, v = rng.integers(-1, 2, (2, 40_000, n))
    sums = (w * v).sum(1).astype(float)
    hits = float(networks.hit_probability(n))
    assert hits == pytest.approx(0.598 / math.sqrt(n), rel=0.01)
    for mean, chance in ((0.0, 0.5), (-0.2, 0.0), (0.2, 1.0), (-0.05, 0.25)):
        noise = Noise("uniform", mean, 0.1 / math.sqrt(3))  # half-width 0.1: between integers nothing else is near
        measured = change_probability(HEAVISIDE, noise, sums).mean()
        assert measured == pytest.approx(chance * (sums == 0).mean(), abs=1e-12)
        bound = disagreement_bound([NoisyLayer(1, HEAVISIDE, noise, density=0.0, hits=hits)], "random")
        assert bound == pytest.approx(chance * hits, abs=1e-12)
    aligned = Noise("uniform", -0.1, 0.1 / math.sqrt(3))
    assert aligned.support[1] <= 1e-12
    assert disagreement_bound([NoisyLayer(1, HEAVISIDE, Noise("uniform", -0.2, 0.05), 0.0, hits=hits)]) == 0


def test_unbounded_laws_are_cut_where_asked_and_what_is_missed_is_added():
    noise = Noise("normal", 0.0, 0.01)
    assert reach(noise) == (-math.inf, math.inf)
    low, high = reach(noise, 0.01)
    assert (low, high) == pytest.approx((-0.025758293, 0.025758293))
    layer = NoisyLayer(10, HEAVISIDE, noise, density=0.4)
    assert disagreement_bound([layer], miss=0.001) == pytest.approx(10 * (0.001 + 0.4 * 2 * noise.isf(0.0005)))
    assert disagreement_bound([layer], "random") == pytest.approx(10 * 0.4 * math.sqrt(2 / math.pi) * 0.01)
    assert disagreement_bound([layer], "mode") == 0
    assert disagreement_bound([NoisyLayer(10**6, HEAVISIDE, noise, density=0.4)], "random") == 1


@given(st.integers(0, 10**6), st.sampled_from(("normal", "logistic")), st.floats(-0.01, 0.01), st.floats(0.002, 0.02))
@settings(max_examples=30, deadline=None)
def test_averages_under_unbounded_noise_err_by_no_more_than_is_said(seed, family, mean, std):
    net = random_network(seed, TERNARY)
    x = np.random.default_rng(seed + 1).normal(size=(200, 2))
    noises = [Noise(family, mean, std), Noise(family, mean / 2, std / 3), Noise(family, -mean, std / 2)]
    sums = [
        float(np.abs(np.array(layer.weights.fractions(), float).reshape(layer.weights.shape)).sum(1).max())
        for layer in net.layers
    ]
    margins = [abs(noise.mean) + 9 * noise.std for noise in noises]
    free = np.ones(len(x), bool)

    def quantised(i, s):
        nonlocal free
        free = free & (np.abs(s[..., None] - TERNARY.thresholds).min(-1) > margins[i]).all(1)
        return TERNARY(s)

    exact = forward(net, x, quantised)
    assume(free.any())
    layers = [NoisyLayer(3, TERNARY, noise, 1.0, row_sum=total) for noise, total in zip(noises, sums)]
    _, errors = closeness(layers, margins)
    noisy = forward(net, x, lambda i, s: Regularisation(TERNARY, noises[i])(s))
    for a, b, error in zip(noisy, exact, errors):
        assert np.abs(a - b)[free].max() <= error * (1 + 1e-6) + 1e-15


def test_closeness_says_how_probable_it_is():
    layer = NoisyLayer(4, TERNARY, Noise("normal", 0.0, 0.001), density=0.3, hits=0.01, row_sum=2.0)
    chance, errors = closeness([layer, layer], [0.01, 0.02])
    assert chance == pytest.approx(1 - 4 * (2 * 0.3 * 0.02 + 0.01) - 4 * (2 * 0.3 * 0.04 + 0.01))
    assert errors[0] == pytest.approx(2 * float(Noise("normal", std=1.0).sf(10.0)))
    # Without noise but shifted, a unit as far below its threshold as the shift is long ends on it, and errs.
    shift = NoisyLayer(1, HEAVISIDE, Noise("normal", -0.5, 0.0), 0.0)
    assert Regularisation(HEAVISIDE, shift.noise)(-0.5) == 1 and closeness([shift], [0.5])[1] == (1,)
    assert closeness([shift], [0.6])[1] == (0,)
    assert closeness([layer], [0.5])[0] == 0 and closeness([NoisyLayer(1, TERNARY, Noise("normal", 0.3, 1), 1)], [0.1])[
        1
    ] == (2,)


# --- at the door ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: within_reach("ternary", Noise("uniform"), 0), TypeError, "quantiser must be a Quantiser, not 'ternary'"),
        (lambda: reach(Noise("normal"), 1.0), ValueError, "miss must be a probability smaller than 1, not 1.0"),
        (lambda: reach(Noise("normal"), -0.1), ValueError, "miss must be finite and at least 0, not -0.1"),
        (
            lambda: exposure(TERNARY, Noise("normal")),
            ValueError,
            "is unbounded and reaches everything: miss must be greater",
        ),
        (lambda: exposure(TERNARY, Noise("uniform"), "modal"), ValueError, "Did you mean 'mode'"),
        (lambda: change_probability(TERNARY, Noise("uniform"), 0, "sample"), ValueError, "Did you mean 'random'"),
        (lambda: NoisyLayer(0, TERNARY, Noise("uniform"), 1.0), ValueError, "units must be an integer at least 1, not 0"),
        (lambda: NoisyLayer(1, TERNARY, Noise("uniform"), -1.0), ValueError, "density must be finite and at least 0"),
        (lambda: NoisyLayer(1, TERNARY, Noise("uniform"), 1.0, hits=1.5), ValueError, "hits must be a probability, not 1.5"),
        (lambda: disagreement_bound([]), ValueError, "layers must hold at least one NoisyLayer and nothing else"),
        (
            lambda: disagreement_bound([NoisyLayer(1, TERNARY, Noise("logistic"), 1.0)], "expectation"),
            ValueError,
            "the expectation differs from every level; `closeness` says how little",
        ),
        (lambda: closeness([NoisyLayer(1, TERNARY, Noise("normal"), 1.0)], [1, 2]), ValueError, "margins must be 1 numbers"),
        (lambda: closeness([NoisyLayer(1, TERNARY, Noise(lopsided()), 1.0)], [1]), ValueError, "is for symmetric laws"),
        (lambda: closeness(5, [1]), TypeError, "layers must be NoisyLayers, from the input on, not 5"),
        (lambda: closeness([NoisyLayer(1, TERNARY, Noise("normal"), 1.0)], 5), TypeError, "margins must be numbers greater"),
        (lambda: disagreement_bound(5), TypeError, "layers must be NoisyLayers, from the input on, not 5"),
        (
            lambda: within_reach(TERNARY, Noise("uniform"), "a"),
            TypeError,
            "s must be a number or an array of floats, not 'a'",
        ),
        (lambda: within_reach(TERNARY, Noise("uniform"), 1j), TypeError, "s must be a number or an array of floats, not 1j"),
    ],
)
def test_wrong_arguments_are_refused_in_one_sentence(call, kind, words):
    with pytest.raises(kind) as caught:
        call()
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_every_name_can_be_used_from_the_room():
    from anabook import convergence

    assert all(getattr(convergence, name) is getattr(finite_noise, name) for name in finite_noise.__all__)
    assert set(finite_noise.__all__) <= set(dir(convergence))
