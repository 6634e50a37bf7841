"""The symbolic side: what SymPy derives, against the numerical package, against itself, and against bad input."""

import dataclasses
import math

import mpmath
import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import anabook as ab
from anabook import symbolic
from anabook.noise import FAMILIES
from anabook.symbolic import Density, alpha, as_numpy, beta, x

t = sp.Symbol("t")
NAMES = tuple(FAMILIES)
HEAVISIDE, TERNARY = ab.Quantiser.heaviside(), ab.Quantiser.ternary()
UNEVEN = ab.Quantiser([-2.0, -0.5, 0.25, 3.0], [-1.0, -0.7, 1.25])
EPANECHNIKOV = Density(sp.Rational(3, 4) * (1 - t**2), t, (-1, 1))
LAPLACE = Density(sp.exp(-sp.Abs(t)) / 2, t)
CAUCHY = Density(1 / (sp.pi * (1 + t**2)), t)
SKEWED = Density(12 * t * (1 - t) ** 2, t, (0, 1))
EXPONENTIAL = Density(sp.exp(-t), t, (0, sp.oo))
BOXES = Density(sp.Piecewise((sp.Rational(1, 2), sp.Abs(t) > 1), (0, True)), t, (-2, 2))
SCIPY = {
    LAPLACE: stats.laplace(),
    CAUCHY: stats.cauchy(),
    SKEWED: stats.beta(2, 3),
    EXPONENTIAL: stats.expon(),
    EPANECHNIKOV: stats.beta(2, 2, loc=-1, scale=2),
}


def same(left, right):
    return sp.simplify(left - right) == 0


# --- the four families ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_family_is_standardised(name):
    law = symbolic.family(name)
    mass, first, second = (
        mpmath.quad(
            lambda v: v**k * sp.lambdify(x, law.pdf, "mpmath")(v),
            [-mpmath.inf, -math.sqrt(6), -math.sqrt(3), 0, math.sqrt(3), math.sqrt(6), mpmath.inf],
        )
        for k in range(3)
    )
    assert abs(mass - 1) < 1e-12 and abs(first) < 1e-12 and abs(second - 1) < 1e-10
    assert (law.mean, law.std) == (0, 1)


def test_logistic_variance_is_one_by_its_quantile():
    u = sp.Symbol("u", positive=True)
    (quantile,) = sp.solve(sp.Eq(symbolic.family("logistic").cdf, u), x)
    odds = sp.log(u) - sp.log(1 - u)
    rate = sp.pi / sp.sqrt(3)
    assert float(quantile.subs(u, 0.3)) == pytest.approx(float((odds / rate).subs(u, 0.3)), abs=1e-15)
    assert same(sp.integrate(sp.expand(odds**2), (u, 0, 1)) / rate**2, 1)


@pytest.mark.parametrize("name", NAMES)
def test_densities_and_distribution_functions_agree_with_the_numerical_families(name):
    points = np.linspace(-6, 6, 1001)
    law, noise = symbolic.family(name), ab.Noise(name, 0.0, 1.0)
    for what in ("pdf", "cdf", "sf"):
        assert np.allclose(as_numpy(getattr(law, what))(points), getattr(noise, what)(points), rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_change_of_variables_equals_integration_with_alpha_and_beta(name):
    law = symbolic.family(name).located(alpha, beta)
    for piece in law._pieces:
        direct = sp.integrate(piece.pdf, x)
        assert same(sp.diff(direct - piece.cdf, x), 0) and same(piece.cdf + piece.sf, 1)
        for end in (piece.lo, piece.hi):
            assert end in (sp.oo, -sp.oo) or same(
                (direct - piece.cdf).subs(x, end), (direct - piece.cdf).subs(x, piece.hi if piece.hi != sp.oo else piece.lo)
            )


# --- regularisations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "quantiser",
    [HEAVISIDE, TERNARY, UNEVEN, ab.Quantiser.linear(4, quantum=0.07)],
    ids=["heaviside", "ternary", "uneven", "int4"],
)
def test_expressions_agree_with_regularisation_to_1e_12(name, quantiser):
    rng = np.random.default_rng(1)
    value = as_numpy(symbolic.regularise(quantiser, name), x, alpha, beta)
    slope = as_numpy(symbolic.derivative(quantiser, name), x, alpha, beta)
    for mean, std in [(0.0, 0.5), (-0.3, 0.05), (1.7, 4.0)]:
        points = rng.uniform(-4, 4, 400)
        regularisation = ab.Regularisation(quantiser, ab.Noise(name, mean, std))
        assert np.abs(value(points, mean, std) - regularisation(points)).max() < 1e-12
        assert np.allclose(slope(points, mean, std), regularisation.derivative(points), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@given(mean=st.floats(-2, 2), std=st.floats(0.01, 5), place=st.floats(-5, 5))
@settings(max_examples=60)
def test_symbols_and_numbers_give_the_same_regularisation(name, mean, std, place):
    symbols = as_numpy(symbolic.regularise(UNEVEN, name), x, alpha, beta)
    assert symbols(place, mean, std) == pytest.approx(ab.Regularisation(UNEVEN, ab.Noise(name, mean, std))(place), abs=1e-12)


@pytest.mark.parametrize("name", ["uniform", "triangular"])
def test_numbers_give_one_piecewise_without_overlap(name):
    expression = symbolic.regularise(UNEVEN, name, mean=sp.Rational(1, 7), std=sp.Rational(2, 3))
    assert isinstance(expression, sp.Piecewise)
    ends = [condition.rhs for _, condition in expression.args[:-1]]
    assert all(sp.simplify(b - a).is_positive for a, b in zip(ends, ends[1:]))
    for end, (left, _), (right, _) in zip(ends, expression.args, expression.args[1:]):
        assert same(left.subs(x, end), right.subs(x, end))
    points = np.random.default_rng(2).uniform(-5, 5, 300)
    expected = ab.Regularisation(UNEVEN, ab.Noise(name, 1 / 7, 2 / 3))(points)
    assert np.abs(as_numpy(expression)(points) - expected).max() < 1e-12


def test_floats_are_read_as_the_fractions_they_stand_for():
    quantiser = ab.Quantiser([0.0, 0.1 + 0.2], [1 / 3])
    expression = symbolic.regularise(quantiser, "uniform", 0, 1 / (2 * sp.sqrt(3)))
    assert same(expression.args[1][0], sp.Rational(3, 10) * (x + sp.Rational(1, 6)))
    awkward = 0.1234567890123
    assert symbolic._expressions.exact_value(awkward) == sp.Rational("0.1234567890123")


def test_symbolic_levels_and_thresholds():
    low, high, threshold = sp.symbols("q0 q1 theta", real=True)
    expression = symbolic.regularise(([low, high], [threshold]), "logistic")
    at_threshold = expression.subs(x, threshold + alpha)
    assert same(at_threshold, (low + high) / 2)


def test_known_special_cases():
    std = 1 / (2 * sp.sqrt(3))
    half = sp.Rational(1, 2)
    hard_sigmoid = symbolic.regularise(HEAVISIDE, "uniform", 0, std)
    assert hard_sigmoid == sp.Piecewise((0, x < -half), (x + half, x < half), (1, True))
    assert symbolic.regularise(HEAVISIDE, "uniform", half, std) == sp.Piecewise((0, x < 0), (x, x < 1), (1, True))
    assert symbolic.regularise(TERNARY, "uniform", 0, std) == sp.Piecewise((-1, x < -1), (x, x < 1), (1, True))
    quantum = sp.Rational(7, 100)
    clipped = symbolic.regularise(ab.Quantiser.linear(4, quantum=0.07), "uniform", -quantum / 2, quantum * std)
    assert clipped == sp.Piecewise((-8 * quantum, x < -8 * quantum), (x, x < 7 * quantum), (7 * quantum, True))


def test_noise_object_and_zero_std():
    assert symbolic.regularise(TERNARY, ab.Noise("normal", 0.25, 0.5)) == symbolic.regularise(
        TERNARY, "normal", sp.Rational(1, 4), sp.Rational(1, 2)
    )
    shifted = sp.Piecewise((0, x < sp.Rational(1, 4)), (1, True))
    assert symbolic.regularise(HEAVISIDE, ab.Noise("normal", 0.25, 0.0)) == shifted
    assert symbolic.regularise(HEAVISIDE, EPANECHNIKOV, mean=sp.Rational(1, 4), std=0) == shifted


# --- Proposition 1 -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quantiser", [HEAVISIDE, TERNARY, UNEVEN], ids=["heaviside", "ternary", "uneven"])
@pytest.mark.parametrize("name", NAMES)
def test_proposition_1_holds_for_every_family(name, quantiser):
    found = symbolic.verify_proposition(name, quantiser)
    assert found and all(check.holds for check in found), str(found)
    largest = ab.Noise(name).pdf(0.0) * (quantiser.levels[-1] - quantiser.levels[0])
    assert float(found.lipschitz.subs(beta, 1)) == pytest.approx(largest, abs=1e-15)
    assert same(found.variation, 2 * found.peak)
    assert len(found.jumps) == (2 if name == "uniform" else 0)


@pytest.mark.parametrize(
    "law",
    [EPANECHNIKOV, LAPLACE, CAUCHY, SKEWED, EXPONENTIAL, BOXES],
    ids=["epanechnikov", "laplace", "cauchy", "skewed", "exponential", "boxes"],
)
def test_proposition_1_holds_for_densities_of_a_user(law):
    found = symbolic.verify_proposition(law, TERNARY)
    assert found, str(found)


def test_unbounded_density_fails_the_bounded_variation_parts_only():
    arcsine = Density(1 / (sp.pi * sp.sqrt(1 - t**2)), t, (-1, 1))
    found = symbolic.verify_proposition(arcsine, HEAVISIDE)
    assert not found
    assert found["(i) convolution"].holds and found["(ii) continuity"].holds and found["(iii) derivative"].holds
    assert not found["(ii) Lipschitz"].holds and found.peak == sp.oo


def corrupted(law, **changes):
    """A copy of a density whose last piece is wrong."""
    copy = object.__new__(Density)
    copy.__dict__.update(law.__dict__)
    pieces = (*law._pieces[:-1], dataclasses.replace(law._pieces[-1], **changes))
    copy._set(_pieces=pieces, expression=law.expression + 0 * x, variable=sp.Dummy("another"))
    copy._set(mean=sp.Integer(0), std=sp.Integer(1))
    return copy


@pytest.mark.parametrize("name", NAMES)
def test_verification_notices_a_wrong_distribution_function(name):
    law = symbolic.family(name)
    piece = law._pieces[-1]
    shifted = symbolic.verify_proposition(corrupted(law, cdf=piece.cdf + sp.Rational(1, 10**6)), TERNARY)
    assert not shifted["(i) convolution"].holds and not shifted["(ii) continuity"].holds
    bent = symbolic.verify_proposition(corrupted(law, cdf=piece.cdf**2), TERNARY)
    assert not bent["(iii) derivative"].holds


@pytest.mark.parametrize("name", NAMES)
def test_verification_notices_a_wrong_density(name):
    law = symbolic.family(name)
    piece = law._pieces[-1]
    wrong = symbolic.verify_proposition(corrupted(law, pdf=piece.pdf * sp.Rational(101, 100)), HEAVISIDE)
    assert not wrong["(iii) derivative"].holds
    negative = symbolic.verify_proposition(corrupted(law, pdf=piece.pdf - sp.Rational(1, 2)), HEAVISIDE)
    assert not negative["(ii) monotonicity"].holds
    heavier = symbolic.verify_proposition(corrupted(law, antiderivative=2 * piece.antiderivative), HEAVISIDE)
    assert not heavier["(iii) total rise"].holds and not heavier["(i) convolution"].holds
    if name in ("uniform", "triangular"):
        kinked = symbolic.verify_proposition(corrupted(law, cdf=piece.cdf**2), HEAVISIDE)
        assert not kinked["(iii) one-sided"].holds
    else:
        stuck = symbolic.verify_proposition(corrupted(law, cdf=piece.cdf / 2), HEAVISIDE)
        assert not stuck["limit"].holds


def test_uniform_derivative_is_one_sided_at_the_edges_of_the_support():
    expression = symbolic.regularise(HEAVISIDE, "uniform", 0, 1)
    step = sp.Symbol("h", positive=True)
    edge = sp.sqrt(3)
    (before, _), (after, _) = expression.args[1], expression.args[2]
    here = before.subs(x, edge)
    left = sp.limit((here - before.subs(x, edge - step)) / step, step, 0)
    right = sp.limit((after.subs(x, edge + step) - here) / step, step, 0)
    assert same(left, 1 / (2 * sp.sqrt(3))) and right == 0


def test_jumps_of_neighbouring_boxes_cancel():
    quantiser = ab.Quantiser([0.0, 1.0, 2.0], [1.0, 2.0])
    slope = symbolic.derivative(quantiser, "uniform", 0, 1 / (2 * sp.sqrt(3)))
    assert [slope.subs(x, v) for v in (0, 1, sp.Rational(3, 2), 2, 3)] == [0, 1, 1, 1, 0]
    numbers = ab.Regularisation(ab.Quantiser.linear(4, quantum=0.1), symbolic.family("uniform").noise(-0.05, 0.1 / 12**0.5))
    joints = np.arange(-8, 7) * 0.1
    assert np.allclose(numbers.derivative(joints), 1.0, rtol=1e-12)
    assert numbers.derivative(0.7) == 0.0 and numbers.derivative(-0.8001) == 0.0


@pytest.mark.parametrize("name", NAMES)
def test_slope_integrates_to_the_range_of_the_levels(name):
    slope = symbolic.derivative(UNEVEN, name, 0, sp.Rational(1, 3))
    breaks = [-mpmath.inf, *np.linspace(-3, 4, 60), mpmath.inf]
    if isinstance(slope, sp.Piecewise):
        breaks = sorted({*breaks, *(float(c.rhs) for _, c in slope.args[:-1])})
    total = mpmath.quad(sp.lambdify(x, slope, "mpmath"), breaks)
    assert float(total) == pytest.approx(5.0, abs=1e-10)


# --- a user's density ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", SCIPY, ids=lambda d: str(d.expression))
def test_numbers_of_a_users_density_agree_with_scipy_in_the_tails_too(law):
    reference, noise = SCIPY[law], law.noise()
    levels = np.array([1e-12, 1e-6, 0.01, 0.3, 0.5, 0.8, 0.999])
    low, high = reference.ppf(levels), reference.isf(levels)
    assert np.allclose(noise.cdf(low), levels, rtol=2e-10) and np.allclose(noise.sf(high), levels, rtol=2e-10)
    assert np.allclose(noise.icdf(levels), low, rtol=1e-9) and np.allclose(noise.isf(levels), high, rtol=1e-9)
    points = np.concatenate([low, high, [-50.0, 50.0]])
    assert np.allclose(noise.pdf(points), reference.pdf(points), rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize("name", NAMES)
def test_families_given_as_densities_reach_the_precision_of_the_numerical_ones(name):
    density_noise, noise = symbolic.family(name).noise(mean=0.3, std=0.7), ab.Noise(name, 0.3, 0.7)
    points = np.linspace(-20, 20, 801)
    for what in ("pdf", "cdf", "sf"):
        got, expected = getattr(density_noise, what)(points), getattr(noise, what)(points)
        assert np.allclose(got, expected, rtol=1e-11, atol=1e-300)
    levels = np.array([0.0, 1e-15, 1e-3, 0.5, 0.9, 1.0])
    assert np.allclose(density_noise.icdf(levels), noise.icdf(levels), rtol=1e-12)
    assert np.allclose(density_noise.isf(levels), noise.isf(levels), rtol=1e-12)
    assert density_noise.support == pytest.approx(noise.support) and density_noise.half_width == pytest.approx(
        noise.half_width
    )


@pytest.mark.parametrize(
    "law", [EPANECHNIKOV, LAPLACE, SKEWED, CAUCHY, BOXES], ids=["epanechnikov", "laplace", "skewed", "cauchy", "boxes"]
)
def test_users_density_regularises_a_quantiser_in_both_worlds(law):
    numbers = ab.Regularisation(UNEVEN, law.noise())
    points = np.random.default_rng(3).uniform(-4, 4, 200)
    assert np.abs(as_numpy(symbolic.regularise(UNEVEN, law))(points) - numbers(points)).max() < 1e-12
    assert np.allclose(as_numpy(symbolic.derivative(UNEVEN, law))(points), numbers.derivative(points), atol=1e-12)
    assert np.allclose(numbers.probabilities(points) @ UNEVEN.levels, numbers(points), atol=1e-12)
    inner = np.array([-1.5, 0.0, 2.5])
    assert np.allclose(numbers(numbers.inverse(inner)), inner, atol=1e-9)
    assert set(np.unique(numbers.sample(points, 0))) <= set(UNEVEN.levels)


def test_users_density_takes_another_mean_and_standard_deviation():
    noise = SKEWED.noise(mean=1.0, std=0.5)
    draws = noise.sample(100_000, 7)
    assert draws.mean() == pytest.approx(1.0, abs=0.01) and draws.std() == pytest.approx(0.5, abs=0.01)
    points = np.linspace(-1, 4, 101)
    located = symbolic.regularise(HEAVISIDE, SKEWED, mean=1, std=sp.Rational(1, 2))
    assert np.abs(as_numpy(located)(points) - ab.Regularisation(HEAVISIDE, noise)(points)).max() < 1e-12
    dirac = EPANECHNIKOV.noise(mean=0.2, std=0.0)
    assert dirac.is_dirac and ab.Regularisation(HEAVISIDE, dirac)([0.1, 0.2]).tolist() == [0.0, 1.0]


def test_moments():
    scale = sp.Symbol("b", positive=True)
    laplace = Density(sp.exp(-sp.Abs(t) / scale) / (2 * scale), t, parameters=scale)
    assert laplace.mean == 0 and same(laplace.std, sp.sqrt(2) * scale)
    assert (SKEWED.mean, SKEWED.std) == (sp.Rational(2, 5), sp.Rational(1, 5))
    assert CAUCHY.mean is sp.nan and CAUCHY.std is sp.nan
    pareto = Density(sp.Rational(3, 2) / t ** sp.Rational(5, 2), t, (1, sp.oo))
    assert pareto.mean == 3 and pareto.std == sp.oo


def test_density_without_a_closed_integral_is_integrated_numerically():
    law = Density(sp.exp(-(t**4)) / (2 * sp.gamma(sp.Rational(5, 4))), t)
    reference = stats.gennorm(4)
    points = np.array([-30.0, -3.0, -1.0, 0.0, 0.4, 2.0, 30.0])
    assert np.allclose(law.noise().cdf(points), reference.cdf(points), rtol=1e-9, atol=1e-300)
    assert float(law.std) == pytest.approx(reference.std(), rel=1e-12)
    assert np.allclose(law.noise().icdf([0.01, 0.5, 0.9]), reference.ppf([0.01, 0.5, 0.9]), atol=1e-9)


def test_parameters_get_their_values_later():
    skew = sp.Symbol("c", real=True)
    law = Density((1 + skew * t) / 2, t, (-1, 1), parameters={skew: (-1, 1)})
    assert same(law.mean, skew / 3)
    fixed = law.subs({skew: 0.5})
    assert fixed.parameters == () and fixed.mean == sp.Rational(1, 6)
    assert symbolic.verify_proposition(fixed, TERNARY)
    assert same(
        symbolic.regularise(HEAVISIDE, law).subs({skew: sp.Rational(1, 2), x: 0}),
        symbolic.regularise(HEAVISIDE, fixed).subs(x, 0),
    )


def test_arrays_tensors_and_numbers_come_back_as_they_went_in():
    noise = EPANECHNIKOV.noise()
    assert isinstance(noise.cdf(0.0), float) and noise.cdf(np.zeros((2, 3))).shape == (2, 3)
    assert noise.pdf(np.float32([0.0])).dtype == np.float32
    assert np.isnan(noise.cdf(np.nan)) and noise.cdf(math.inf) == 1.0 and noise.cdf(-math.inf) == 0.0


# --- bad input -----------------------------------------------------------------------------------------------------

u, rate = sp.Symbol("u"), sp.Symbol("r", positive=True)
ILL_FORMED = {
    "its total mass is 4/3": lambda: Density(1 - t**2, t, (-1, 1)),
    "its total mass is pi": lambda: Density(1 / (1 + t**2), t),
    "its total mass is infinity": lambda: Density(1 / (1 + sp.Abs(t)), t),
    "its total mass is 1.812804954": lambda: Density(sp.exp(-(t**4)), t),
    "must not be negative, but this one is -": lambda: Density(sp.Rational(3, 4) * (1 - t**2), t, (-1, 2)),
    "contains u, which is neither its variable t nor among its parameters (none declared)": lambda: Density(
        u * sp.exp(-sp.Abs(t)), t
    ),
    "real ends with lo < hi, not (2, -2)": lambda: Density(t / 2, t, (2, -2)),
    "real ends with lo < hi, not (1, 1)": lambda: Density(t / 2, t, (1, 1)),
    "real ends with lo < hi, not (0, I)": lambda: Density(2 * t, t, (0, sp.I)),
    "real ends with lo < hi, not (0, u)": lambda: Density(2 * t, t, (0, u)),
    "real ends with lo < hi, not 5": lambda: Density(2 * t, t, 5),
    "contains a DiracDelta": lambda: Density(sp.DiracDelta(t), t),
    "must be a real number on its support": lambda: Density(sp.Rational(3, 4) * sp.sqrt(t), t, (-1, 1)),
    "t is the variable, so it cannot be a parameter too": lambda: Density(2 * t, t, (0, 1), parameters=[t]),
    "c = ": lambda: Density((1 + sp.Symbol("c") * t) / 2, t, (-1, 1), parameters={sp.Symbol("c"): (0, 2)}),
    "must be one of 'uniform', 'triangular', 'normal', 'logistic', not 'norml'. Did you mean 'normal'?": lambda: (
        symbolic.regularise(HEAVISIDE, "norml")
    ),
    "std must be positive": lambda: symbolic.regularise(HEAVISIDE, "normal", std=-1.0),
    "std must be positive, or a symbol declared positive, not u": lambda: symbolic.regularise(HEAVISIDE, "normal", std=u),
    "an expression without x": lambda: symbolic.regularise(HEAVISIDE, "normal", mean=x),
    "has its mean and std already": lambda: symbolic.regularise(HEAVISIDE, ab.Noise("normal"), mean=0),
    "levels must be strictly increasing": lambda: symbolic.regularise(([2, 1], [0]), "normal"),
    "need 1 thresholds": lambda: symbolic.regularise(([1, 2], [0, 1]), "normal"),
    "cannot be given others": lambda: CAUCHY.located(),
    "mean nan and standard deviation nan": lambda: CAUCHY.noise(std=1.0),
    "probabilities must lie in [0, 1], not 1.5": lambda: EPANECHNIKOV.noise().icdf(1.5),
    "also depends on alpha, beta": lambda: as_numpy(symbolic.regularise(HEAVISIDE, "normal")),
    "give them by subs first": lambda: Density(rate * sp.exp(-rate * t), t, (0, sp.oo), parameters=rate).noise(),
    "without knowing more about u": lambda: Density(u * sp.exp(-u * t), t, (0, sp.oo), parameters={u: (0, 9)}),
}


@pytest.mark.parametrize("sentence", ILL_FORMED)
def test_bad_values_are_refused_in_one_sentence(sentence):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        ILL_FORMED[sentence]()
    message = str(caught.value)
    assert sentence in message and "\n" not in message and message.endswith((".", "?"))


@pytest.mark.parametrize(
    "call",
    [
        lambda: Density("1/2", t, (-1, 1)),
        lambda: Density(sp.Rational(1, 2), "t", (-1, 1)),
        lambda: Density(sp.Rational(1, 2), t, (-1, 1), parameters=["c"]),
        lambda: symbolic.regularise(HEAVISIDE, 3),
        lambda: symbolic.regularise(7, "normal"),
        lambda: symbolic.verify_proposition(ab.Noise("normal"), HEAVISIDE),
        lambda: symbolic.family(None),
    ],
)
def test_wrong_kinds_are_type_errors(call):
    with pytest.raises(TypeError) as caught:
        call()
    assert str(caught.value).count(". ") == 0
