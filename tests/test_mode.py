"""The most probable level of a noisy quantiser: when it is the quantiser, by how much not, and what it is instead."""

import math

import mpmath
import numpy as np
import pytest
import sympy
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import integrate, optimize

from anabook import Noise, Quantiser, Regularisation
from anabook.noise import FAMILIES

TERNARY = Quantiser.ternary()
COMPACT = [name for name, family in FAMILIES.items() if math.isfinite(family.half_width)]
UNBOUNDED = [name for name in FAMILIES if name not in COMPACT]
families = st.sampled_from(sorted(FAMILIES))


@st.composite
def quantisers(draw, min_levels=2, max_levels=6, widths=(0.2, 3.0)):
    """Any levels, any thresholds: bins as unequal as the bounds on their widths allow."""
    n = draw(st.integers(min_levels, max_levels))
    gaps = draw(st.lists(st.floats(*widths), min_size=n - 2, max_size=n - 2))
    steps = draw(st.lists(st.floats(0.1, 5.0), min_size=n - 1, max_size=n - 1))
    first = draw(st.floats(-2.0, 2.0))
    low = draw(st.floats(-2.0, 2.0))
    return Quantiser(low + np.cumsum([0.0, *steps]), first + np.cumsum([0.0, *gaps]))


def narrowest(quantiser):
    """The width of the narrowest bounded bin; infinite when there is none."""
    return float(np.diff(quantiser.thresholds).min(initial=math.inf))


def inside(quantiser, u, margin=1e-6):
    """A point of every bin, at the fraction u of it and not too near its ends."""
    t = quantiser.thresholds
    outer = 0.01 + 4 * u
    return np.concatenate([[t[0] - outer], t[:-1] + np.diff(t) * (margin + (1 - 2 * margin) * u), [t[-1] + outer]])


def crossing(noise, width):
    """The upper mode threshold of a ternary quantiser with middle bin ±width/2, where F(τ + w/2) = 2 F(τ − w/2)."""

    def excess(tau):
        return float(noise.cdf(tau + width / 2) - 2 * noise.cdf(tau - width / 2))

    return optimize.brentq(excess, 0.0, width / 2, xtol=1e-15)


@given(quantisers(min_levels=3), st.sampled_from(COMPACT), st.floats(0.01, 1.0), st.floats(0.0, 1.0), st.floats(-3, 3))
def test_mode_equals_shifted_quantiser_when_support_fits_narrowest_bin(quantiser, family, fraction, u, mean):
    std = fraction * narrowest(quantiser) / FAMILIES[family].half_width
    r = Regularisation(quantiser, Noise(family, mean, std))
    x = inside(quantiser, u)
    np.testing.assert_array_equal(r.mode(x + mean), quantiser(x))


@given(quantisers(min_levels=3), st.sampled_from(COMPACT), st.floats(0.05, 1.0), st.floats(1e-3, 1.0 - 1e-3))
def test_the_winners_lead_is_at_least_the_distance_to_the_threshold_over_the_support(quantiser, family, fraction, u):
    noise = Noise(family, std=fraction * narrowest(quantiser) / FAMILIES[family].half_width)
    x = inside(quantiser, u)
    p = np.sort(Regularisation(quantiser, noise).probabilities(x), axis=-1)
    distance = np.abs(x[:, None] - quantiser.thresholds).min(axis=1)
    bound = np.minimum(distance / (2 * noise.half_width), 0.5)
    assert np.all(p[:, -1] - p[:, -2] >= bound - 1e-12)


@given(quantisers(min_levels=3), families, st.floats(1.01, 6.0))
def test_mode_differs_from_quantiser_beside_a_narrowest_bin_when_support_does_not_fit(quantiser, family, factor):
    width = narrowest(quantiser)
    half_width = FAMILIES[family].half_width
    std = factor * width / (half_width if math.isfinite(half_width) else 3.0)
    r = Regularisation(quantiser, Noise(family, std=std))
    gaps = np.diff(quantiser.thresholds)
    first = int(np.argmax(gaps <= width))  # leftmost narrowest bin: its lower neighbour is wider, or unbounded
    lower = gaps[first - 1] if first else math.inf
    # The lower neighbour leads by T(w) − T(lower) at the threshold; ask for a lead that doubles can resolve.
    lead = r.noise.sf(width) - (r.noise.sf(lower) if math.isfinite(lower) else 0.0)
    assume(lead > 1e-9)
    x = quantiser.thresholds[first] + 1e-12
    assert quantiser(x) == quantiser.levels[first + 1]
    assert r.mode(x) != quantiser(x)


@given(quantisers(min_levels=2, max_levels=2), families, st.floats(0.01, 50.0), st.floats(1e-6, 10.0), st.booleans())
def test_mode_of_two_levels_equals_quantiser_off_the_threshold_for_any_noise_width(quantiser, family, std, distance, up):
    r = Regularisation(quantiser, Noise(family, std=std))
    x = quantiser.thresholds[0] + (distance if up else -distance)
    assert r.mode(x) == quantiser(x)


@given(quantisers(), st.sampled_from(COMPACT), st.floats(0.05, 1.0))
def test_at_a_threshold_two_levels_tie_and_the_higher_one_is_the_quantisers(quantiser, family, fraction):
    width = min(narrowest(quantiser), 10.0)
    r = Regularisation(quantiser, Noise(family, std=fraction * width / FAMILIES[family].half_width))
    x = quantiser.thresholds
    assert np.all(r.is_tie(x))
    np.testing.assert_array_equal(r.mode(x), quantiser(x))
    np.testing.assert_array_equal(r.mode(x, ties="lower"), quantiser.levels[:-1])


@pytest.mark.parametrize("family", UNBOUNDED)
@pytest.mark.parametrize("std", [0.05, 0.1, 0.25, 0.5, 1.0, 4.0])
def test_unbounded_noise_never_leaves_the_ternary_mode_equal_to_the_quantiser(family, std):
    noise = Noise(family, std=std)
    with mpmath.workdps(400):  # the leads at small widths are far below a double's resolution
        scale = mpmath.mpf(std) * (mpmath.sqrt(3) / mpmath.pi if family == "logistic" else 1)
        tail = (
            (lambda t: 1 / (1 + mpmath.exp(t / scale)))
            if family == "logistic"
            else (lambda t: mpmath.erfc(t / scale / mpmath.sqrt(2)) / 2)
        )
        x = -mpmath.mpf(1) / 2 + tail(1) * mpmath.mpf(std) / 1000
        lower, middle = tail(x + mpmath.mpf(1) / 2), 1 - tail(x + mpmath.mpf(1) / 2) - tail(mpmath.mpf(1) / 2 - x)
        assert lower > middle
        assert float(tail(2)) == pytest.approx(float(noise.sf(2.0)), rel=1e-12)


def test_ternary_counterexample_has_the_printed_probabilities():
    r = Regularisation(TERNARY, Noise("uniform", std=0.6))
    np.testing.assert_allclose(r.probabilities(-0.499), [0.4995, 0.4811, 0.0194], atol=5e-5)
    assert r.mode(-0.499) == -1 and TERNARY(-0.499) == 0


@pytest.mark.parametrize("family,bound", [("uniform", 1 / math.sqrt(3)), ("triangular", 1 / math.sqrt(6))])
@given(width=st.floats(0.1, 10.0))
def test_largest_admissible_std_is_the_width_over_root_three_or_root_six(family, bound, width):
    quantiser = Quantiser([-1, 0, 1], [-width / 2, width / 2])
    x = -width / 2 * (1 - 1e-4)
    assert Regularisation(quantiser, Noise(family, std=bound * width)).mode(x) == 0
    assert Regularisation(quantiser, Noise(family, std=bound * width * 1.05)).mode(x) == -1


@pytest.mark.parametrize(
    "family,exact,printed",
    [
        ("uniform", sympy.sqrt(3) / 2, 0.866),
        ("triangular", 1 / (2 * (sympy.sqrt(6) - 2)), 1.112),
        ("normal", 1 / (2 * sympy.sqrt(2) * sympy.erfinv(sympy.Rational(1, 3))), 1.161),
        ("logistic", sympy.pi / (2 * sympy.sqrt(3) * sympy.log(2)), 1.308),
    ],
)
def test_middle_ternary_level_is_never_the_mode_from_the_printed_std_on(family, exact, printed):
    critical = float(exact)
    assert critical == pytest.approx(printed, abs=5e-4)
    assert critical == pytest.approx(1 / (2 * float(FAMILIES[family].icdf(np.float64(2 / 3)))), rel=1e-12)
    x = np.linspace(-3, 3, 6001)
    for factor, ever in [(0.999, True), (1.0, False), (1.001, False), (3.0, False)]:
        assert (0 in Regularisation(TERNARY, Noise(family, std=factor * critical)).mode(x)) is ever


@given(quantisers(), families, st.floats(0.02, 5.0), st.floats(-2.0, 2.0))
def test_mode_is_itself_a_quantiser_with_the_outer_levels(quantiser, family, std, mean):
    r = Regularisation(quantiser, Noise(family, mean, std))
    reach = 8 * std + 5
    x = np.linspace(quantiser.thresholds[0] + mean - reach, quantiser.thresholds[-1] + mean + reach, 2001)
    mode = r.mode(x)
    assert np.all(np.diff(mode) >= 0)
    assert mode[0] == quantiser.levels[0] and mode[-1] == quantiser.levels[-1]
    assert set(mode) <= set(quantiser.levels)


@pytest.mark.parametrize("std", [0.3, 1 / math.sqrt(3), 0.6, 0.8])
def test_uniform_ternary_mode_threshold_is_three_halves_minus_the_half_width(std):
    expected = min(0.5, 1.5 - std * math.sqrt(3))
    r = Regularisation(TERNARY, Noise("uniform", std=std))
    assert r.mode(expected + 1e-9) == 1 and r.mode(expected - 1e-9) == 0
    assert r.mode(-expected + 1e-9) == 0 and r.mode(-expected - 1e-9) == -1


@given(st.floats(0.15, 1.2), st.floats(0.2, 4.0))
def test_logistic_ternary_mode_threshold_has_a_closed_form(ratio, width):
    noise = Noise("logistic", std=ratio * width)
    scale = noise.std * math.sqrt(3) / math.pi
    c = width / (2 * scale)
    closed = scale * math.log(math.exp(c) - 2 * math.exp(-c))
    assert closed == pytest.approx(crossing(noise, width), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    "family,strip", [("uniform", 0.0), ("triangular", 0.0), ("normal", 1.416e-5), ("logistic", 1.796e-4)]
)
def test_strip_of_disagreement_at_the_experiments_width(family, strip):
    noise = Noise.covering(family, half_width=0.5)
    if strip == 0:
        assert noise.half_width <= 1
        x = np.linspace(-3, 3, 60_001)
        np.testing.assert_array_equal(Regularisation(TERNARY, noise).mode(x), TERNARY(x))
        return
    measured = 0.5 - crossing(noise, 1.0)
    assert measured == pytest.approx(strip, rel=1e-3)
    first_order = float(noise.sf(1.0) / (2 * noise.pdf(0.0)))  # from T(w) = 2 f(0) δ + O(δ²)
    assert measured == pytest.approx(first_order, rel=2e-3)


def test_share_of_disagreeing_points_depends_on_the_population():
    """Two strips of 1.8e-4 quanta: 0.007 % of a uniform population on ±2.5, 0.013 % of a standard normal one."""
    strip = 0.5 - crossing(Noise.covering("logistic", half_width=0.5), 1.0)
    assert 2 * strip / 5 == pytest.approx(7.2e-5, rel=0.01)
    law = Noise("normal")
    assert 2 * float(law.cdf(0.5) - law.cdf(0.5 - strip)) == pytest.approx(1.26e-4, rel=0.01)
    assert 2 * strip * float(law.pdf(0.0)) < 1.5e-4


def test_wide_uniform_noise_ties_on_an_open_interval():
    quantiser = Quantiser([0, 1, 2, 3], [0.5, 1.5, 2.5])
    r = Regularisation(quantiser, Noise("uniform", std=1.25 / math.sqrt(3)))
    x = np.linspace(1.2501, 1.7499, 50)  # both bounded bins lie inside [x − 1.25, x + 1.25]
    assert np.all(r.is_tie(x))
    np.testing.assert_array_equal(r.mode(x), 2.0)
    np.testing.assert_array_equal(r.mode(x, ties="lower"), 1.0)
    assert not np.any(Regularisation(quantiser, Noise("normal", std=1.25 / math.sqrt(3))).is_tie(np.delete(x, 25)))


def _exponential_mode(x):
    """Heaviside under ν = E − 1, E exponential of mean 1: zero mean, unimodal, not symmetric."""
    return float(1 - math.exp(-max(x + 1, 0.0)) >= 0.5)


def test_without_symmetry_zero_mean_is_not_enough_even_for_two_levels():
    assert _exponential_mode(-0.2) == 1 and Quantiser.heaviside()(-0.2) == 0
    threshold = math.log(2) - 1
    assert _exponential_mode(threshold + 1e-9) == 1 and _exponential_mode(threshold - 1e-9) == 0


def test_without_unimodality_a_fitting_support_is_not_enough():
    # Half of the mass in each of ±[0.9, 1]: support half-width 1, middle bin of width 1.
    def cdf(t):
        return 0.5 * np.clip((t + 1) / 0.1, 0, 1) + 0.5 * np.clip((t - 0.9) / 0.1, 0, 1)

    middle = cdf(0.5) - cdf(-0.5)
    assert middle == 0 and cdf(-0.5) == pytest.approx(0.5)


def test_without_log_concavity_the_mode_can_fall():
    # 30 % of the mass within 0.02 of the mean, 70 % spread over ±10: symmetric and unimodal.
    def cdf(t):
        return 0.3 * np.clip(0.5 + t / 0.04, 0, 1) + 0.7 * np.clip(0.5 + t / 20, 0, 1)

    thresholds = np.array([0.0, 1.0, 1.1, 4.0, 7.0, 10.0])

    def mode(x):
        above = np.concatenate([[1.0], cdf(x - thresholds), [0.0]])
        return int(np.argmax(-np.diff(above)))

    assert mode(0.5) == 1 and mode(1.05) == 0


@given(quantisers(max_levels=4), families, st.floats(0.1, 2.0), st.floats(-1.0, 1.0), st.floats(-3.0, 3.0))
def test_expectation_is_the_mean_of_the_law_and_the_random_strategy_is_unbiased(quantiser, family, std, mean, x):
    r = Regularisation(quantiser, Noise(family, mean, std))
    p = r.probabilities(x)
    assert p @ quantiser.levels == pytest.approx(r(x), abs=1e-12)
    draws = r.sample(np.full(4000, x), np.random.default_rng(7))
    spread = math.sqrt(max(p @ quantiser.levels**2 - (p @ quantiser.levels) ** 2, 0.0) / draws.size)
    # Six standard errors, and one stray draw of a level too rare for the normal approximation.
    assert abs(draws.mean() - r(x)) <= 6 * spread + np.ptp(quantiser.levels) / 400


@given(families, st.floats(0.05, 0.5), st.floats(0.05, 0.5))
def test_mean_gradient_under_a_standard_normal_input_does_not_vanish_with_the_noise(family, mean_shift, std):
    law = Noise("normal")

    def mean_gradient(beta):
        r = Regularisation(TERNARY, Noise(family, mean_shift * beta, beta))
        points = sorted({t + s * min(r.noise.half_width, 9 * beta) + r.noise.mean for t in (-0.5, 0.5) for s in (-1, 0, 1)})
        pieces = zip(points[:-1], points[1:])
        return sum(integrate.quad(lambda v: r.derivative(v) * law.pdf(v), a, b, limit=200)[0] for a, b in pieces)

    limit = 2 * float(law.pdf(0.5))
    assert mean_gradient(1e-3) == pytest.approx(limit, rel=1e-2)
    assert mean_gradient(std * 1e-2) == pytest.approx(limit, rel=2e-2)


@pytest.mark.parametrize(
    "family,integral",
    [
        ("uniform", 1 / (2 * math.sqrt(3))),
        ("triangular", math.sqrt(6) / 9),
        ("normal", 1 / (2 * math.sqrt(math.pi))),
        ("logistic", math.pi / (6 * math.sqrt(3))),
    ],
)
def test_second_moment_of_the_gradient_grows_like_one_over_the_std(family, integral):
    law, beta = Noise("normal"), 1e-3
    r = Regularisation(TERNARY, Noise(family, std=beta))
    half = min(r.noise.half_width, 12 * beta)
    span = (0.5 - half, 0.5 + half)
    second = 2 * integrate.quad(lambda v: r.derivative(v) ** 2 * law.pdf(v), *span, limit=400, points=[0.5])[0]
    assert second * beta == pytest.approx(2 * float(law.pdf(0.5)) * integral, rel=1e-3)
