"""Noise: the four families, their tails, and the Dirac limit."""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

import anabook as ab
from anabook.noise import FAMILIES

families = pytest.mark.parametrize("family", FAMILIES)
means = st.floats(-5, 5)
stds = st.floats(1e-3, 10)

SCIPY = {
    "uniform": stats.uniform(-math.sqrt(3), 2 * math.sqrt(3)),
    "triangular": stats.triang(0.5, -math.sqrt(6), 2 * math.sqrt(6)),
    "normal": stats.norm(),
    "logistic": stats.logistic(scale=math.sqrt(3) / math.pi),
}


def exact_cdf(family, t):
    """F0 in high precision, by other formulas than the package's."""
    t = mpmath.mpf(t)
    if family == "uniform":
        return min(max((t + mpmath.sqrt(3)) / (2 * mpmath.sqrt(3)), mpmath.mpf(0)), mpmath.mpf(1))
    if family == "triangular":
        h = mpmath.sqrt(6)
        return mpmath.mpf(0) if t < -h else (t + h) ** 2 / 12 if t <= 0 else 1 - max(h - t, mpmath.mpf(0)) ** 2 / 12
    if family == "normal":
        return mpmath.erfc(-t / mpmath.sqrt(2)) / 2
    return (1 + mpmath.tanh(mpmath.pi * t / (2 * mpmath.sqrt(3)))) / 2


@families
def test_each_family_agrees_with_scipy(family):
    noise, law = ab.Noise(family, std=1.0), SCIPY[family]
    x = np.linspace(-5, 5, 2001)
    u = np.linspace(0.001, 0.999, 999)
    kink = np.isclose(np.abs(x), FAMILIES[family].half_width)
    np.testing.assert_allclose(noise.pdf(x[~kink]), law.pdf(x[~kink]), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(noise.cdf(x), law.cdf(x), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(noise.icdf(u), law.ppf(u), rtol=1e-12, atol=1e-14)


@families
def test_mean_and_std_are_the_mean_and_the_standard_deviation(family):
    noise = ab.Noise(family, mean=0.7, std=0.3)
    reach = min(noise.half_width, 40 * noise.std)
    at = {"points": [noise.mean], "limit": 200, "epsabs": 1e-13}

    def moment(f):
        return integrate.quad(lambda x: f(x) * noise.pdf(x), noise.mean - reach, noise.mean + reach, **at)[0]

    assert moment(lambda x: 1.0) == pytest.approx(1, abs=1e-10)
    assert moment(lambda x: x) == pytest.approx(0.7, abs=1e-10)
    assert moment(lambda x: (x - 0.7) ** 2) == pytest.approx(0.09, abs=1e-10)


@pytest.mark.parametrize("family", ["normal", "logistic"])
def test_tails_of_unbounded_laws_are_relatively_accurate_down_to_1e_300(family):
    noise = ab.Noise(family, std=1.0)
    with mpmath.workdps(400):
        for t in np.linspace(0, {"normal": 37.0, "logistic": 380.0}[family], 75):
            lower = exact_cdf(family, -float(t))
            for value in (noise.cdf(-t), noise.sf(t)):
                assert abs(mpmath.mpf(float(value)) / lower - 1) < 1e-12, (family, t)
    assert noise.sf({"normal": 37.0, "logistic": 380.0}[family]) < 1e-298


@pytest.mark.parametrize("family", ["uniform", "triangular"])
def test_tails_of_bounded_laws_are_accurate_up_to_the_rounding_of_the_edge(family):
    noise = ab.Noise(family, std=1.0)
    edge = FAMILIES[family].half_width
    with mpmath.workdps(60):
        for gap in [1.0, 1e-3, 1e-6]:
            exact = exact_cdf(family, gap - edge)
            for value in (noise.cdf(gap - edge), noise.sf(edge - gap)):
                assert abs(mpmath.mpf(float(value)) / exact - 1) < 1e-12 + 1e-15 / gap


@pytest.mark.parametrize("family", FAMILIES)
@given(u=st.floats(1e-300, 0.5))
def test_quantiles_of_tiny_tails_round_trip(family, u):
    noise = ab.Noise(family, std=1.0)
    # The edge of a bounded support is rounded, so what sits within 1e-14 of it cannot come back.
    tolerance = 1e-11 * u + (1e-14 if math.isfinite(noise.half_width) else 0.0)
    assert abs(noise.cdf(noise.icdf(u)) - u) <= tolerance
    assert abs(noise.sf(noise.isf(u)) - u) <= tolerance
    assert noise.isf(u) == -noise.icdf(u)


@families
@given(mean=means, std=stds, x=st.floats(-20, 20))
def test_cdf_and_upper_tail_sum_to_one_and_mirror_each_other(family, mean, std, x):
    noise = ab.Noise(family, mean, std)
    assert noise.cdf(x) + noise.sf(x) == pytest.approx(1, abs=1e-15)
    centred = ab.Noise(family, 0.0, std)
    assert centred.sf(x) == centred.cdf(-x)
    if math.isinf(noise.half_width) or abs(abs(x) - noise.half_width) > 1e-9:
        assert centred.pdf(x) == centred.pdf(-x)


@families
@given(mean=means, std=stds)
def test_location_and_scale_move_the_standardised_law(family, mean, std):
    noise, standard = ab.Noise(family, mean, std), ab.Noise(family)
    u = np.array([0.01, 0.2, 0.5, 0.9])
    np.testing.assert_allclose(noise.icdf(u), mean + std * standard.icdf(u), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(noise.cdf(mean + std * np.array([-1.0, 0.3])), standard.cdf([-1.0, 0.3]), rtol=1e-8)


@families
def test_quantile_at_zero_and_one_is_the_support(family):
    noise = ab.Noise(family, mean=0.5, std=0.2)
    np.testing.assert_allclose([noise.icdf(0.0), noise.icdf(1.0)], noise.support, rtol=1e-15)
    np.testing.assert_allclose([noise.isf(1.0), noise.isf(0.0)], noise.support, rtol=1e-15)
    assert noise.icdf(0.5) == pytest.approx(0.5, abs=1e-16)


@families
def test_samples_are_seeded_and_follow_the_law(family):
    noise = ab.Noise(family, mean=-0.2, std=0.7)
    draws = noise.sample((100, 200), 7)
    assert draws.shape == (100, 200) and draws.dtype == np.float64
    assert np.array_equal(draws, noise.sample((100, 200), np.random.default_rng(7)))
    assert not np.array_equal(draws, noise.sample((100, 200), 8))
    # A wrong law fails this: the 0.1 % critical value of the Kolmogorov–Smirnov distance.
    assert stats.kstest(draws.ravel(), noise.cdf).statistic < 1.95 / math.sqrt(draws.size)


def test_covering_gives_the_stated_widths():
    std = {f: ab.Noise.covering(f, half_width=0.5).std for f in FAMILIES}
    assert std["uniform"] == pytest.approx(0.5 / math.sqrt(3), rel=1e-15)
    assert std["triangular"] == pytest.approx(0.5 / math.sqrt(6), rel=1e-15)
    assert std["normal"] == pytest.approx(0.5 / 1.959963984540054, rel=1e-14)
    assert std["logistic"] == pytest.approx(math.pi / math.sqrt(3) * 0.5 / math.log(39), rel=1e-14)


@families
@given(half_width=st.floats(0.01, 10), mass=st.floats(0.01, 0.999), mean=means)
def test_covering_puts_the_mass_within_the_half_width(family, half_width, mass, mean):
    noise = ab.Noise.covering(family, half_width, mass, mean)
    inside = 1 - 2 * noise.sf(mean + half_width)
    expected = 1.0 if math.isfinite(FAMILIES[family].half_width) else mass
    assert inside == pytest.approx(expected, abs=1e-9)
    assert noise.mean == mean


def test_std_zero_is_the_dirac_limit():
    dirac = ab.Noise("logistic", mean=0.25, std=0)
    assert dirac.is_dirac and dirac.support == (0.25, 0.25) and dirac.half_width == 0
    x = np.array([0.0, 0.25, 0.5])
    assert dirac.cdf(x).tolist() == [0, 1, 1]
    assert dirac.sf(x).tolist() == [1, 0, 0]
    assert dirac.pdf(x).tolist() == [0, math.inf, 0]
    assert dirac.icdf([0.0, 0.3, 1.0]).tolist() == [0.25] * 3
    assert dirac.sample(3, 0).tolist() == [0.25] * 3


@families
@pytest.mark.parametrize("std", [0.0, 0.3])
def test_nan_stays_nan(family, std):
    noise = ab.Noise(family, 0.1, std)
    for method in (noise.pdf, noise.cdf, noise.sf, noise.icdf, noise.isf):
        assert np.isnan(method(np.nan))


@families
def test_tensors_and_single_precision_come_back_as_they_were(family):
    noise = ab.Noise(family, 0.1, 0.3)
    x = torch.linspace(-1, 1, 5)
    assert noise.cdf(x).dtype == torch.float32
    np.testing.assert_allclose(noise.cdf(x).numpy(), noise.cdf(x.double().numpy()), atol=1e-7)
    assert noise.pdf(x.numpy()).dtype == np.float32
    assert noise.cdf(0.3).shape == ()


@pytest.mark.parametrize("quantum", [1.0, 0.1, 0.07, 1 / 3])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_touching_uniform_supports_add_up_to_a_flat_density(bits, quantum):
    q = ab.Quantiser.linear(bits, quantum=quantum, rounding="nearest")
    for mean in (0.0, 0.1, -quantum / 2):
        r = ab.Regularisation(q, ab.Noise.covering("uniform", quantum / 2, mean=mean))
        np.testing.assert_allclose(r.derivative(q.levels[1:-1] + mean), 1.0, rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: ab.Noise("gauss"), ValueError, "family must be one of 'uniform', 'triangular', 'normal', 'logistic'"),
        (lambda: ab.Noise("logistics"), ValueError, "Did you mean 'logistic'"),
        (lambda: ab.Noise("Normal"), ValueError, "Did you mean 'normal'"),
        (lambda: ab.Noise(3), TypeError, "family must be one of"),
        (lambda: ab.Noise("normal", 0, -0.1), ValueError, "std must be finite and at least 0, not -0.1"),
        (lambda: ab.Noise("normal", 0, math.nan), ValueError, "std must be finite and at least 0, not nan"),
        (lambda: ab.Noise("normal", math.inf, 1), ValueError, "mean must be finite, not inf"),
        (lambda: ab.Noise("normal", "0", 1), TypeError, "mean must be a real number, not '0'"),
        (lambda: ab.Noise("normal", 0, True), TypeError, "std must be a real number, not True"),
        (lambda: ab.Noise.covering("normal", -1), ValueError, "half_width must be finite and at least 0, not -1.0"),
        (lambda: ab.Noise.covering("normal", 1, mass=1), ValueError, "strictly between 0 and 1, not 1.0"),
        (lambda: ab.Noise.covering("norm", 1), ValueError, "Did you mean 'normal'"),
        (lambda: ab.Noise("normal").icdf([0.5, 1.2]), ValueError, "probabilities must lie in [0, 1], not 1.2"),
        (lambda: ab.Noise("normal").isf(-0.1), ValueError, "probabilities must lie in [0, 1], not -0.1"),
        (lambda: ab.Noise("normal", std=0).icdf(2.0), ValueError, "probabilities must lie in [0, 1], not 2.0"),
        (lambda: ab.Noise("normal").sample(3, None), TypeError, "integer seed, not None"),
        (lambda: ab.Noise("normal").sample(3, -1), TypeError, "non-negative integer seed, not -1"),
        (lambda: ab.Noise("normal").cdf(np.array([1])), TypeError, "floating-point type, not int64"),
        (lambda: ab.Noise("normal").cdf(torch.tensor([1])), TypeError, "floating-point type, not torch.int64"),
    ],
)
def test_bad_input_gets_one_sentence(make, error, says):
    with pytest.raises(error) as caught:
        make()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
