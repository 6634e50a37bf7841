"""Statements of the paper that no other test is about: steps of its proofs, formulas as printed, settings as printed."""

from __future__ import annotations

import inspect
import json
import math
from fractions import Fraction
from pathlib import Path

import mpmath
import numpy as np
import pytest
import sympy as sp
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from rational_densities import histograms

from anabook import Noise, Quantiser, Regularisation, Schedule
from anabook.convergence import LAMBDA, log_margin, networks, power_law
from anabook.convergence.exact_arithmetic import DOUBLE
from anabook.convergence.networks import HEAVISIDE, Network
from anabook.experiments import make
from anabook.experiments.tasks import TASKS
from anabook.noise import FAMILIES

ROOT = Path(__file__).parents[1]
families = st.sampled_from(sorted(FAMILIES))
integers = st.integers(-9, 9)
fractions = st.fractions(-5, 5, max_denominator=12)


@st.composite
def affine_maps(draw):
    """Weights, biases and two inputs of one layer, exact."""
    inputs, outputs = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    row = st.lists(integers, min_size=inputs, max_size=inputs)
    weights = draw(st.lists(row, min_size=outputs, max_size=outputs))
    biases = draw(st.lists(integers, min_size=outputs, max_size=outputs))
    vector = st.lists(fractions, min_size=inputs, max_size=inputs)
    return weights, biases, draw(vector), draw(vector)


# --- equations ------------------------------------------------------------------------------------------------------


@given(st.integers(1, 6), st.booleans(), st.integers(-4, 3), st.integers(-400, 400))
def test_the_printed_linear_quantiser_is_the_one_that_rounds_down(bits, signed, exponent, steps):
    quantum, z = Fraction(2) ** exponent, -(2 ** (bits - 1)) if signed else 0
    x = steps * quantum / 7
    printed = quantum * min(max(math.floor(x / quantum), z), z + 2**bits - 1)
    ours = Quantiser.linear(bits, signed=signed, quantum=float(quantum))
    assert Fraction(float(ours(float(x)))) == printed  # rounding x never carries it over a threshold: sevenths are far off
    assert np.array_equal(ours.levels[1:], ours.thresholds) and len(ours.levels) == 2**bits


@pytest.mark.parametrize(
    ("mean", "limit"), [("0", "1/2"), ("-1/2", "3/4"), ("-1", "1"), ("-2", "1"), ("1/2", "1/4"), ("1", "0")]
)
def test_the_ramp_of_3_on_its_threshold_tends_to_what_mean_over_width_tends_to(mean, limit):
    # Uniform noise of half-width λ and mean `mean`·λ: both vanish, the value at 0 does not move.
    std = LAMBDA / sp.sqrt(3)
    found = networks.limit(networks.chain(1), [0], "uniform", [(sp.Rational(mean) * LAMBDA, std)])
    assert 1 + found.deviations[-1][0] == pytest.approx(float(sp.Rational(limit)), abs=1e-15)
    for lam in (0.5, 1e-3, 1e-9):
        ramp = Regularisation(Quantiser.heaviside(), Noise("uniform", float(sp.Rational(mean)) * lam, lam / math.sqrt(3)))
        a, b = (float(sp.Rational(mean)) + sign for sign in (-1, 1))
        assert float(ramp(0.0)) == pytest.approx(min(max(-a / (b - a), 0), 1), abs=1e-12)


@given(affine_maps())
def test_the_map_of_26_is_affine_and_its_differences_are_linear(case):
    weights, biases, x, y = case
    affine, linear = Network([weights], [biases], [None]), Network([weights], [[0] * len(biases)], [None])
    difference = [a - b for a, b in zip(x, y)]
    moved = np.subtract(affine(x), affine(y))
    assert np.allclose(moved, linear(difference), rtol=1e-12, atol=1e-12)
    of_the_difference = np.asarray(affine(difference), dtype=float)
    assert np.allclose(of_the_difference - moved, np.asarray(biases, dtype=float), rtol=1e-12, atol=1e-9)


def test_19_at_an_affine_last_layer_asks_that_its_rate_be_no_smaller_than_the_one_before():
    network = Network([[[1]], [[-3]]], [[0], [5]], [HEAVISIDE, None])
    schedule, rate_before = [log_margin("uniform", 1, 2)], 1.5  # the first layer errs by λ², which is o(λ^1.5)
    ratios = {1.0: [], 1.5: [], 2.0: [], 3.0: []}
    for exponent in (10, 20, 40):
        lam = mpmath.mpf(10) ** -exponent
        found = network.regularised([0], networks.noises_at("uniform", schedule, lam, 100), digits=100)
        first, last = (abs(d[0]) for d in found.deviations)
        assert first / lam**rate_before < mpmath.mpf(10) ** (-exponent / 2 + 1)
        for power, found_ratios in ratios.items():
            found_ratios.append(float(mpmath.log10(last / lam**power)))
    assert all(b < a - 1 for power in (1.0, 1.5) for a, b in zip(ratios[power], ratios[power][1:]))
    assert all(abs(b - a) < 0.01 for a, b in zip(ratios[2.0], ratios[2.0][1:]))
    assert all(b > a + 1 for a, b in zip(ratios[3.0], ratios[3.0][1:]))


@settings(max_examples=50)
@given(st.integers(0, 10**6), families, st.floats(0.01, 1), st.floats(-1, 1))
def test_a_layers_error_is_at_most_root_n_times_its_largest_component(seed, family, std, mean):
    batch, x = networks.random_ternary(1, (6, 7, 5), rng=seed)
    found = batch.regularised(x, [Noise(family, mean, std)] * 2)
    for deviation in found.deviations:
        error = np.linalg.norm(deviation, axis=-1)
        assert (error <= math.sqrt(deviation.shape[-1]) * np.abs(deviation).max(axis=-1) * (1 + 1e-12)).all()
        assert (np.abs(deviation).max(axis=-1) <= error * (1 + 1e-12)).all()


@settings(max_examples=50)
@given(st.integers(0, 10**6), families, st.floats(0.01, 1), st.floats(-1, 1))
def test_on_a_threshold_the_pre_activation_errs_by_at_most_the_product_of_the_norms(seed, family, std, mean):
    batch, x = networks.random_ternary(1, (6, 8, 4), rng=seed)
    layer, hits = batch.layers[1], batch.hits(x)[1][0].astype(bool)
    weights, biases = layer.weights.numbers(DOUBLE)[0], layer.biases.numbers(DOUBLE)[0]
    found = batch.regularised(x, [Noise(family, mean, std)] * 2)
    features, error = np.ravel(found.values[0]), np.ravel(found.deviations[0])
    assert np.array_equal(hits, np.abs(weights @ (features - error) + biases) < 1e-9)
    arrived = np.abs(weights @ features + biases)[hits]
    assert (arrived <= (np.linalg.norm(weights, axis=1) * np.linalg.norm(error))[hits] + 1e-9).all()
    event(f"{hits.any()}: some unit is on its threshold")


# --- the proofs -----------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(histograms(fractions), st.sets(fractions, min_size=1, max_size=4), st.data())
def test_a_convolved_stair_keeps_the_bounds_of_22_and_of_proposition_1(density, thresholds, data):
    edges, heights = density
    thresholds = sorted(thresholds)
    n = len(thresholds) + 1
    levels = sorted(data.draw(st.sets(fractions, min_size=n, max_size=n)))

    def below(t):
        return sum(h * max(min(t, b) - a, 0) for h, a, b in zip(heights, edges, edges[1:]))

    def convolved(x):
        return levels[0] + sum((b - a) * below(x - theta) for a, b, theta in zip(levels, levels[1:], thresholds))

    largest = max(abs(level) for level in levels)
    around = [Fraction(0), *heights, Fraction(0)]
    variation = sum(abs(b - a) for a, b in zip(around, around[1:]))
    points = sorted({theta + e for theta in thresholds for e in edges})
    values = [convolved(x) for x in points]
    assert all(abs(v) <= largest for v in values)
    slopes = [(b - a) / (y - x) for a, b, x, y in zip(values, values[1:], points, points[1:])]
    assert all(abs(slope) <= largest * variation for slope in slopes)
    # The book's bound, half the range of the levels times the variation, is never the larger one.
    assert max(slopes) <= (levels[-1] - levels[0]) * variation / 2 <= largest * variation


def test_15_does_not_bound_the_error_above_the_threshold():
    # A regularisation that is exact below its threshold and slow above it: σ(s) = 1 − exp(−s/β) for s ≥ 0, with the rate
    # exp(−1/β²). The place where it reaches ε·r tends to 0, which is (15); the one where it reaches 1 − ε·r does not, and at
    # s = 1 the error is no multiple of the rate.
    low, high, error = [], [], []
    for exponent in (1, 2, 3):
        beta = mpmath.mpf(10) ** -exponent
        rate = mpmath.exp(-1 / beta**2)
        low.append(-beta * mpmath.log1p(-rate / 2))
        high.append(-beta * mpmath.log(rate / 2))
        error.append(mpmath.log(mpmath.exp(-1 / beta) / rate))
    assert low[0] > low[1] > low[2] and low[-1] < mpmath.mpf(10) ** -1000
    assert 9 < high[0] < high[1] < high[2] and 80 < error[0] < error[1] < error[2]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_unit_without_weights_is_right_whatever_arrives(family):
    # The layers before have mean zero and stay wrong; the last unit gets nothing from them and has a mean of its own.
    schedules = [(0, LAMBDA), (0, LAMBDA), power_law(1, 2)]
    for weight, verdict in ((0, "right"), (1, "wrong")):
        network = Network([[[1]], [[1]], [[weight]]], [[0], [-1], [-weight]])
        assert network.hits([0])[2].all()
        assert networks.limit(network, [0], family, schedules).verdict == verdict


# --- section 4 ------------------------------------------------------------------------------------------------------


@given(st.floats(-2, 2), st.floats(0.05, 3), st.floats(-6, 6))
def test_the_four_printed_densities_are_ours_but_for_the_logistic_ones_scale(mean, std, t):
    x, root3, root6 = mean + t * std, math.sqrt(3) * std, math.sqrt(6) * std
    assume(min(abs(abs(x - mean) - root3), abs(abs(x - mean) - root6)) > 1e-6)
    printed = {
        "uniform": (abs(x - mean) <= root3) / (2 * root3),
        "triangular": max(0.0, root6 - abs(x - mean)) / (6 * std**2),
        "normal": math.exp(-((x - mean) ** 2) / (2 * std**2)) / (math.sqrt(2 * math.pi) * std),
    }
    for family, density in printed.items():
        assert float(Noise(family, mean, std).pdf(x)) == pytest.approx(density, rel=1e-9, abs=1e-15)
    e = math.exp(-(x - mean) / std)
    as_printed = e / (std * (1 + e) ** 2)
    assert float(Noise("logistic", mean, std * math.pi / math.sqrt(3)).pdf(x)) == pytest.approx(as_printed, rel=1e-9)
    assert float(Noise("logistic", mean, std).pdf(mean)) == pytest.approx(math.pi / math.sqrt(3) / (4 * std), rel=1e-9)


@pytest.mark.parametrize("n", [7, 8, 9])
def test_progressive_exponents_fall_in_equal_steps_and_not_like_one_over_the_depth(n):
    exponents = [d for d, _ in Schedule(n_layers=n, power_law="progressive").exponents]
    assert {a - b for a, b in zip(exponents, exponents[1:])} == {1} and exponents[-1] == 1
    assert len({d * depth for depth, d in enumerate(exponents, 1)}) > 1
    # Integers d, d/2, …, d/n: the smallest such d.
    assert (
        next(d for d in range(1, 3000) if all(d % depth == 0 for depth in range(1, n + 1))) == {7: 420, 8: 840, 9: 2520}[n]
    )


def test_four_folds_of_cifar10_are_40_000_images_and_one_is_10_000():
    lines = (ROOT / "data" / "results" / "cifar10-custom-f741af.jsonl").read_text(encoding="utf-8").splitlines()
    runs = [json.loads(line) for line in lines]
    assert runs and all(run["examples"] == {"training": 40_000, "held_out": 10_000} for run in runs)
    assert TASKS["cifar10"].classes == 10 and TASKS["cifar10"].shape == (3, 32, 32)


@pytest.mark.parametrize("data", ["cifar10", "svhn", "gsc"])
def test_the_paper_size_has_the_papers_batches_and_learning_rates(data):
    paper = make(data, "uniform-mode-static", size="paper")
    assert (paper.batch_size, paper.lr, paper.n_folds) == (256, 1e-3, 5)


@pytest.mark.parametrize("data", ["cifar10", "gsc"])
def test_runs_are_made_with_adam_and_the_cross_entropy(data, monkeypatch):
    torch = pytest.importorskip("torch")
    from anabook import training
    from anabook.experiments import run

    signature, calls = inspect.signature(training.fit), []
    monkeypatch.setattr(run.training, "fit", lambda *args, **named: calls.append(signature.bind(*args, **named)) or [])
    config = make(data, "uniform-mode-static", size="paper")
    run._fit(config, torch.nn.Linear(2, 2), None, None, device="cpu")
    (bound,) = calls
    bound.apply_defaults()
    assert bound.arguments["optimiser"] is torch.optim.Adam and bound.arguments["loss"] is None
    rates = [bound.arguments["lr"](epoch) for epoch in range(config.epochs)]
    assert set(rates[: config.drop]) == {1e-3} and set(rates[config.drop :]) == {1e-4}


def test_speech_has_signed_weights_and_unsigned_features_of_four_bits():
    for data in ("gsc", "gsc12"):
        network = TASKS[data].network
        assert np.round(network.weights.levels / 0.07).tolist() == list(range(-8, 8))
        assert np.round(network.activations.levels / 0.07).tolist() == list(range(16))
        assert np.allclose(network.weights.levels, 0.07 * np.arange(-8, 8)) and network.quantum == 0.07
