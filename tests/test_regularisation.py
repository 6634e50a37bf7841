"""Regularisations: expectation, derivative, probabilities, mode, samples and the generalised inverse."""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import integrate

import anabook as ab
from anabook.noise import FAMILIES

families = pytest.mark.parametrize("family", FAMILIES)
positions = st.floats(-4, 4)


@st.composite
def stairs(draw, max_levels=6):
    """Quantisers with levels and thresholds a visible distance apart."""
    n = draw(st.integers(1, max_levels - 1))
    gaps = st.lists(st.floats(0.05, 1.0), min_size=n, max_size=n)
    thresholds = np.cumsum(draw(gaps)) + draw(st.floats(-3, 1))
    levels = np.concatenate([[draw(st.floats(-2, 2))], draw(gaps)]).cumsum()
    return ab.Quantiser(levels, thresholds)


noises = st.builds(ab.Noise, st.sampled_from(list(FAMILIES)), st.floats(-1, 1), st.floats(0.02, 2))


def edges(r):
    """Where the regularisation by bounded noise has kinks."""
    low, high = r.noise.support
    return np.concatenate([r.quantiser.thresholds + e for e in (low, r.noise.mean, high) if math.isfinite(e)])


@given(stairs(), noises, positions)
def test_expectation_is_the_integral_of_the_shifted_quantiser_against_the_density(q, noise, x):
    low, high = max(noise.support[0], noise.mean - 40 * noise.std), min(noise.support[1], noise.mean + 40 * noise.std)
    # The integrand x ↦ σ(x − t) f(t) jumps where x − t is a threshold and has a kink at the mean.
    cuts = np.unique(np.clip([low, high, noise.mean, *(x - q.thresholds)], low, high))
    total = sum(
        integrate.fixed_quad(lambda t: noise.pdf(t), a, b, n=60)[0] * q((2 * x - a - b) / 2)
        for left, right in zip(cuts[:-1], cuts[1:])
        for a, b in zip(np.linspace(left, right, 9)[:-1], np.linspace(left, right, 9)[1:])
    )
    assert ab.Regularisation(q, noise)(x) == pytest.approx(total, abs=1e-9)


@given(stairs(), noises, st.lists(positions, min_size=1, max_size=8))
def test_expectation_is_the_mean_of_the_levels_under_their_probabilities(q, noise, x):
    r = ab.Regularisation(q, noise)
    p = r.probabilities(np.array(x))
    assert p.shape == (len(x), q.n_levels)
    assert (p >= 0).all()
    np.testing.assert_allclose(p.sum(axis=-1), 1, atol=1e-14)
    np.testing.assert_allclose(p @ q.levels, r(np.array(x)), atol=1e-13)


@given(stairs(), noises, positions)
def test_derivative_is_the_slope_of_the_expectation(q, noise, x):
    r = ab.Regularisation(q, noise)
    step = 1e-5 * noise.std
    corners = edges(r)
    assume(corners.size == 0 or np.abs(corners - x).min() > 3 * step)
    slope = (r(x + step) - r(x - step)) / (2 * step)
    assert r.derivative(x) == pytest.approx(slope, abs=2e-5 * q.steps.sum() / noise.std)


@families
def test_derivative_is_one_sided_from_the_right_at_the_edges_of_a_uniform_noise(family):
    r = ab.Regularisation(ab.Quantiser.heaviside(), ab.Noise.covering(family, 0.5))
    if family == "uniform":
        assert r.derivative([-0.5, 0.5]).tolist() == [1.0, 0.0]
    else:
        assert r.derivative(-0.5) == pytest.approx(r.derivative(0.5), abs=1e-15)


@given(stairs(), noises, st.lists(positions, min_size=2, max_size=10).map(sorted))
def test_expectation_never_decreases_and_stays_within_the_levels(q, noise, x):
    y = ab.Regularisation(q, noise)(np.array(x))
    assert (np.diff(y) >= -1e-14).all()
    assert (y >= q.levels[0] - 1e-14).all() and (y <= q.levels[-1] + 1e-14).all()


@families
def test_total_change_is_the_range_of_the_levels(family):
    q = ab.Quantiser([-1.5, 0.0, 0.25, 2.0], [-0.7, 0.1, 0.9])
    r = ab.Regularisation(q, ab.Noise(family, 0.2, 0.3))
    parts = np.unique(np.concatenate([[-15.0, 15.0], edges(r), q.thresholds + 0.2]))
    total = sum(integrate.quad(r.derivative, a, b, epsabs=1e-12, limit=200)[0] for a, b in zip(parts[:-1], parts[1:]))
    assert total == pytest.approx(3.5, abs=1e-9)


@given(stairs(), noises, positions)
def test_beyond_the_reach_of_bounded_noise_the_expectation_is_the_level_exactly(q, noise, x):
    assume(math.isfinite(noise.half_width))
    gap = np.abs(x - noise.mean - q.thresholds).min()
    assume(gap > noise.half_width * (1 + 1e-9) + 1e-9)
    r = ab.Regularisation(q, noise)
    assert r(x) == q(x - noise.mean)
    assert r.residual(x) == 0 and r.derivative(x) == 0


@given(stairs(), noises, positions)
def test_residual_is_what_the_expectation_adds_to_the_shifted_quantiser(q, noise, x):
    r = ab.Regularisation(q, noise)
    assert r(x) == pytest.approx(q(x - noise.mean) + r.residual(x), abs=1e-14)


@pytest.mark.parametrize(("family", "x"), [("normal", 11.0), ("logistic", 100.0)])
def test_residual_keeps_its_digits_where_subtraction_loses_them(family, x):
    r = ab.Regularisation(ab.Quantiser.heaviside(), ab.Noise(family, 0.0, 0.3))
    assert r(x) == 1.0
    with mpmath.workdps(60):
        t = mpmath.mpf(x) / mpmath.mpf(0.3)
        tail = (
            mpmath.erfc(t / mpmath.sqrt(2)) / 2
            if family == "normal"
            else 1 / (1 + mpmath.exp(mpmath.pi * t / mpmath.sqrt(3)))
        )
        assert abs(-mpmath.mpf(float(r.residual(x))) / tail - 1) < 1e-12


@given(stairs(), st.sampled_from(list(FAMILIES)), st.floats(-1, 1), positions)
def test_dirac_noise_gives_the_shifted_quantiser(q, family, mean, x):
    r = ab.Regularisation(q, ab.Noise(family, mean, 0))
    level = q(x - mean)
    assert r(x) == r.mode(x) == r.sample(x, 0) == level
    assert r.derivative(x) == r.residual(x) == 0
    assert r.probabilities(x).tolist() == (q.levels == level).astype(float).tolist()


@families
@given(x=positions)
def test_shrinking_noise_approaches_the_dirac_limit_off_the_thresholds(family, x):
    q = ab.Quantiser.ternary()
    assume(np.abs(x - 0.1 - q.thresholds).min() > 0.01)
    errors = [abs(ab.Regularisation(q, ab.Noise(family, 0.1, std))(x) - q(x - 0.1)) for std in (1, 0.1, 0.01, 1e-3)]
    assert errors[-1] < 1e-6
    assert errors[-1] <= errors[0] + 1e-15


@given(stairs(), noises, positions)
def test_mode_is_a_most_probable_level_and_ties_can_be_told(q, noise, x):
    r = ab.Regularisation(q, noise)
    p = r.probabilities(x)
    high, low = r.mode(x), r.mode(x, ties="lower")
    assert low <= high
    assert p[q.levels.tolist().index(high)] >= p.max() - 1e-14
    assert p[q.levels.tolist().index(low)] >= p.max() - 1e-14
    assert r.is_tie(x) == (low != high)


@families
def test_at_a_tie_the_mode_is_the_higher_level(family):
    r = ab.Regularisation(ab.Quantiser.heaviside(), ab.Noise(family, 0.0, 0.4))
    assert (r.mode(0.0), r.mode(0.0, ties="lower")) == (1.0, 0.0)
    assert r.is_tie([0.0, 1e-6]).tolist() == [True, False]


def test_equally_probable_inner_levels_under_wide_uniform_noise_are_a_tie():
    q = ab.Quantiser([0, 1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4])
    r = ab.Regularisation(q, ab.Noise.covering("uniform", 0.17))
    np.testing.assert_allclose(r.probabilities(0.25)[1:4], 0.1 / 0.34, rtol=1e-12)
    assert (r.mode(0.25), r.mode(0.25, ties="lower")) == (3.0, 1.0)


@given(stairs(), noises, positions)
def test_samples_are_levels_and_appear_as_often_as_their_probabilities_say(q, noise, x):
    r = ab.Regularisation(q, noise)
    n = 2000
    draws = r.sample(np.full(n, x), 3)
    assert np.isin(draws, q.levels).all()
    p = r.probabilities(x)
    counts = np.array([(draws == level).mean() for level in q.levels])
    assert (np.abs(counts - p) <= 5 * np.sqrt(p * (1 - p) / n) + 5 / n).all()


@given(stairs(), noises, st.floats(0.001, 0.999))
def test_generalised_inverse_is_the_first_place_that_reaches_the_value(q, noise, share):
    r = ab.Regularisation(q, noise)
    y = q.levels[0] + share * (q.levels[-1] - q.levels[0])
    x = r.inverse(y)
    tolerance = 1e-12 * (1 + abs(x))
    assert r(x + tolerance) >= y - 1e-12
    assert r(x - 1e-7 * noise.std) <= y + 1e-12


@families
def test_generalised_inverse_undoes_a_heaviside_regularisation(family):
    r = ab.Regularisation(ab.Quantiser.heaviside(0.3), ab.Noise(family, -0.2, 0.5))
    y = np.array([1e-12, 0.01, 0.5, 0.9])
    np.testing.assert_allclose(r(r.inverse(y)), y, rtol=1e-9, atol=1e-15)


def test_generalised_inverse_takes_the_left_end_of_a_flat_stretch():
    r = ab.Regularisation(ab.Quantiser.ternary(), ab.Noise.covering("uniform", 0.25))
    assert r.inverse(0.0) == pytest.approx(-0.25, abs=1e-14)
    assert r.inverse(1.0) == pytest.approx(0.75, abs=1e-14)


@families
def test_generalised_inverse_outside_the_levels_follows_the_infimum(family):
    r = ab.Regularisation(ab.Quantiser.ternary(), ab.Noise(family, 0.1, 0.2))
    assert r.inverse([-2.0, -1.0]).tolist() == [-math.inf, -math.inf]
    assert r.inverse(1.5) == math.inf
    assert np.isnan(r.inverse(np.nan))
    top = r.inverse(1.0)
    assert top == (math.inf if math.isinf(r.noise.half_width) else pytest.approx(0.5 + r.noise.support[1]))


def test_generalised_inverse_of_the_dirac_limit_is_a_shifted_threshold():
    r = ab.Regularisation(ab.Quantiser.ternary(), ab.Noise("normal", 0.1, 0))
    np.testing.assert_allclose(r.inverse([-1.0, -0.5, 0.0, 1.0, 1.5]), [-math.inf, -0.4, -0.4, 0.6, math.inf])


def test_known_activations_are_expectations():
    x = np.linspace(-2, 2, 401)
    heaviside, half = ab.Quantiser.heaviside(), ab.Noise.covering("uniform", 0.5)
    np.testing.assert_allclose(ab.Regularisation(heaviside, half)(x), np.clip(x + 0.5, 0, 1), atol=1e-14)
    shifted = ab.Noise("uniform", 0.5, half.std)
    np.testing.assert_allclose(ab.Regularisation(heaviside, shifted)(x), np.clip(x, 0, 1), atol=1e-14)
    np.testing.assert_allclose(ab.Regularisation(ab.Quantiser.ternary(), half)(x), np.clip(x, -1, 1), atol=1e-14)
    floor = ab.Quantiser.linear(3, quantum=0.25)
    clipped = ab.Regularisation(floor, ab.Noise.covering("uniform", 0.125, mean=-0.125))
    np.testing.assert_allclose(clipped(x), np.clip(x, -1, 0.75), atol=1e-14)


@families
def test_results_keep_kind_shape_and_type(family):
    r = ab.Regularisation(ab.Quantiser.ternary(), ab.Noise(family, 0.1, 0.3))
    x = torch.linspace(-1, 1, 6).reshape(2, 3)
    for method in (r, r.derivative, r.mode, r.residual, lambda v: r.sample(v, 0)):
        y = method(x)
        assert y.shape == (2, 3) and y.dtype == torch.float32
        np.testing.assert_allclose(y.numpy(), method(x.numpy()), rtol=1e-6)
        assert method(x.numpy()).dtype == np.float32
    assert r.probabilities(x).shape == (2, 3, 3)
    assert r(0.2).shape == () and r.mode(np.zeros((0, 2))).shape == (0, 2)
    assert r.is_tie(x).shape == (2, 3)


@families
@pytest.mark.parametrize("std", [0.0, 0.3])
def test_nan_stays_nan(family, std):
    r = ab.Regularisation(ab.Quantiser.ternary(), ab.Noise(family, 0.1, std))
    for method in (r, r.derivative, r.mode, r.residual, r.inverse, lambda v: r.sample(v, 0)):
        assert np.isnan(method(np.nan))
    assert np.isnan(r.probabilities(np.nan)).all()


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda r: ab.Regularisation("ternary", r.noise), TypeError, "quantiser must be a Quantiser, not 'ternary'"),
        (lambda r: ab.Regularisation(r.quantiser, "normal"), TypeError, "noise must be a Noise, not 'normal'"),
        (lambda r: r.mode(0.0, ties="highest"), ValueError, "Did you mean 'higher'"),
        (lambda r: r.sample(0.0, None), TypeError, "rng must be"),
        (lambda r: r(np.array([1])), TypeError, "floating-point type, not int64"),
        (lambda r: r.derivative(torch.tensor([1])), TypeError, "floating-point type, not torch.int64"),
        (lambda r: r.is_tie(torch.tensor([1])), TypeError, "floating-point type, not torch.int64"),
        (lambda r: r.probabilities(1j), TypeError, "an array of floats, not 1j"),
    ],
)
def test_bad_input_gets_one_sentence(make, error, says):
    with pytest.raises(error) as caught:
        make(ab.Regularisation(ab.Quantiser.ternary(), ab.Noise("normal", 0, 0.3)))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
