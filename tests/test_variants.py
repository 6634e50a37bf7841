"""The zoo: each density against its library, its own primitive, its mass and its paper."""

import copy
import dataclasses
import math
import pickle
import re
import types
import warnings
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

import anabook as ab
from anabook.noise import FAMILIES, Noise
from anabook.variants import KINDS, LAWS, REFERENCES, VARIANTS, UnknownVariant, Variant, VariantNoise, clipped_identity

NAMES = tuple(VARIANTS)
PROBABILITIES = tuple(name for name, variant in VARIANTS.items() if variant.is_probability)
FINITE = tuple(name for name, variant in VARIANTS.items() if math.isfinite(variant.mass))
BIBLIOGRAPHY = Path(__file__).parent.parent / "book" / "references.bib"


def other_parameters(variant, seed=0):
    """The variant at other parameters than its defaults, where it has any."""
    rng = np.random.default_rng(seed)
    if variant.name == "ste_tern":  # its two parameters are tied to each other
        return variant.with_parameters(threshold=0.125, clip=1.5)
    values = {}
    for name, parameter in variant.parameters.items():
        lowest = parameter.above if parameter.above is not None else parameter.minimum
        # Eighths are exact in single precision too, in which some libraries keep their parameters.
        values[name] = int(lowest + rng.integers(1, 4)) if parameter.is_integer else lowest + rng.integers(3, 17) / 8
    return variant.with_parameters(**values)


BOTH = [pytest.param(VARIANTS[name], id=name) for name in NAMES]
BOTH += [
    pytest.param(other_parameters(variant), id=f"{name}-other") for name, variant in VARIANTS.items() if variant.parameters
]


def points(variant, n=400, seed=1):
    """Positions across the variant's window and beyond, away from the gradient's kinks."""
    low, high = variant.window
    x = np.random.default_rng(seed).uniform(low - (high - low) / 2, high + (high - low) / 2, n)
    kinks = np.add.outer(variant.quantiser.thresholds, [*variant.kinks, 0.0]).ravel()
    return x[np.abs(np.subtract.outer(x, kinks)).min(axis=1) > 1e-6 * (high - low)]


def integral(function, variant):
    """∫ function over the line, split where the density is not smooth."""
    low, high = variant.support
    edges = sorted({low, high, variant.centre, *variant.kinks})
    return sum(quad(function, a, b, limit=200, epsabs=1e-11, epsrel=1e-10)[0] for a, b in zip(edges[:-1], edges[1:]))


def variable_and_numbers(variant, exact):
    """The formula's variable, and the parameters' values to put in for its other symbols."""
    symbols = variant.symbols()
    return symbols.pop("x"), {symbol: exact(variant.settings[name]) for name, symbol in symbols.items()}


# --- against the libraries --------------------------------------------------------------------------------------------

IMPLEMENTED = [
    (name, library)
    for name, variant in VARIANTS.items()
    for library in variant.libraries
    if not library.path.startswith("larq.")
]


SINGLE_PRECISION = (".LSO", ".triangular")  # these two multiply their parameter by a spike of type float32


def really_computed(library, variant, x):
    """The gradient that the library computes at x: by autograd, in double precision."""
    torch = pytest.importorskip("torch")
    module, _, function = library.path.rpartition(".")
    arguments = {key: variant.settings.get(value, value) for key, value in library.arguments.items()}
    t = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    if library.path.endswith("LSO"):
        return leaky_spike_operator(t, arguments["slope"]).numpy()
    if module == "brevitas.core.quant":
        forward = brevitas_binary(function, **arguments)
    else:
        forward = getattr(import_module(module), function)(**arguments)
    forward(t).sum().backward()
    return t.grad.numpy()


def leaky_spike_operator(t, slope):
    """snnTorch's class, called as autograd would: its public function calls another class."""
    import torch
    from snntorch import surrogate

    context = types.SimpleNamespace(saved_tensors=((t > 0).float(),), slope=slope)
    return surrogate.LeakySpikeOperator.backward(context, torch.ones_like(t)).detach()


def brevitas_binary(name, scale=1.0):
    """Brevitas' binary quantiser brought to levels ±1; its clip is its scale."""
    from brevitas.core import quant, scaling

    module = getattr(quant, name)(scaling.ConstScaling(scale))
    return lambda t: module(t)[0] / scale


def adjustable(library):
    return [value for value in library.arguments.values() if isinstance(value, str)]


@pytest.mark.parametrize(
    "name, library, others",
    [
        pytest.param(name, library, others, id=f"{name}-{library.path.rpartition('.')[2]}{'-other' if others else ''}")
        for name, library in IMPLEMENTED
        for others in ([False, True] if adjustable(library) else [False])
    ],
)
def test_density_times_step_is_the_gradient_that_the_library_computes(name, library, others):
    pytest.importorskip(library.path.partition(".")[0])
    variant = VARIANTS[name]
    if others:
        settings = other_parameters(variant).settings
        variant = variant.with_parameters(**{parameter: settings[parameter] for parameter in adjustable(library)})
    x = points(variant)
    expected = really_computed(library, variant, x)
    assert np.isfinite(expected).all() and len(x) > 300
    rtol = 1e-7 if library.path.endswith(SINGLE_PRECISION) else 1e-12
    np.testing.assert_allclose(variant.gradient(x), expected, rtol=rtol, atol=1e-13)


def test_the_libraries_are_really_compared():
    compared = {library.path.partition(".")[0] for _, library in IMPLEMENTED}
    assert compared == {"snntorch", "spikingjelly", "brevitas"}
    assert len(IMPLEMENTED) >= 30


@pytest.mark.parametrize("name", [name for name, library in IMPLEMENTED if "spikingjelly" in library.path])
def test_surrogate_is_spikingjellys_primitive_up_to_a_constant(name):
    torch = pytest.importorskip("torch")
    module = pytest.importorskip("spikingjelly.activation_based.surrogate")
    variant = VARIANTS[name]
    library = next(library for library in variant.libraries if "spikingjelly" in library.path)
    arguments = {key: variant.settings.get(value, value) for key, value in library.arguments.items()}
    smooth = getattr(module, library.path.rpartition(".")[2])(
        **arguments, **({} if name == "fake_numerical_gradient" else {"spiking": False})
    )
    x = points(variant)
    try:
        expected = smooth(torch.tensor(x)).numpy()
    except NotImplementedError:
        assert name == "super_spike"
        return
    if name == "fake_numerical_gradient":  # it has no primitive: it spikes always
        assert set(np.unique(expected)) == {0.0, 1.0}
        return
    difference = variant.surrogate(x) - expected
    # SpikingJelly's S2NN adds 1e-5 inside a logarithm, against its singularity.
    np.testing.assert_allclose(difference, difference[0], atol=2e-5 if name == "s2nn" else 1e-12)


def test_every_library_named_exists_where_it_is_installed():
    for name, library in IMPLEMENTED:
        module, _, function = library.path.rpartition(".")
        assert hasattr(pytest.importorskip(module), function), (name, library.path)


@pytest.mark.parametrize(
    "name, gradient",
    [
        ("hard_tanh", lambda x: 1.0 * (abs(x) <= 1)),
        ("ste_heaviside", lambda x: 1.0 * (abs(x) <= 1)),
        ("ste_tern", lambda x: 1.0 * (abs(x) <= 1)),
        ("ternary_hard_tanh", lambda x: 1.0 * (abs(x) <= 1)),
        ("bi_real", lambda x: np.maximum(2 - 2 * abs(x), 0)),
        ("swish_sign", lambda x: 5 * (2 - 5 * x * np.tanh(2.5 * x)) / (1 + np.cosh(5 * x))),
        ("dorefa", lambda x: 1.0 * ((x >= 0) & (x <= 1))),
        ("pact", lambda x: 1.0 * ((x >= 0) & (x <= 6))),
        ("floor_identity", lambda x: 1.0 * ((x >= -8) & (x <= 7))),
        ("hard_sigmoid", lambda x: 1.0 * (abs(x) <= 0.5)),
        ("clipped_relu", lambda x: 1.0 * ((x >= 0) & (x <= 1))),
        ("sigmoid", lambda x: np.exp(x) / (1 + np.exp(x)) ** 2),
        ("gaussian", lambda x: np.exp(-x * x / 2) / math.sqrt(2 * math.pi)),
        ("dampened_triangular", lambda x: 0.3 * np.maximum(1 - abs(x), 0)),
        ("error_decay", lambda x: 1 - np.tanh(x) ** 2),
        ("sparse_fast_sigmoid", lambda x: (abs(x) < 1) / (1 + 25 * abs(x)) ** 2),
        ("multi_gauss", lambda x: 0.5 * (1.15 * bell(x, 0, 0.5) - 0.15 * (bell(x, 0.5, 3) + bell(x, -0.5, 3)))),
    ],
)
def test_gradients_without_a_library_here_are_those_of_the_papers(name, gradient):
    variant = VARIANTS[name]
    np.testing.assert_allclose(variant.gradient(points(variant)), gradient(points(variant)), rtol=1e-11, atol=1e-13)


def bell(x, mean, std):
    return np.exp(-(((x - mean) / std) ** 2) / 2) / (math.sqrt(2 * math.pi) * std)


def test_irnets_gradient_has_the_factor_of_the_paper_at_every_temperature():
    x = np.linspace(-3, 3, 61)
    for t in (0.1, 0.5, 1.0, 3.0, 10.0):
        expected = max(1 / t, 1) * t / np.cosh(t * x) ** 2
        gradient = VARIANTS["error_decay"].with_parameters(t=t).gradient(x)
        np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-15)


def test_every_variant_is_compared_with_a_library_or_a_paper():
    marks = test_gradients_without_a_library_here_are_those_of_the_papers.pytestmark
    papers = {name for name, _ in marks[0].args[1]}
    assert set(NAMES) == papers | {name for name, _ in IMPLEMENTED}


# --- what the notes say about the libraries ---------------------------------------------------------------------------


def test_snntorchs_lso_cannot_be_called_and_its_triangular_is_the_slope_of_a_triangle():
    torch = pytest.importorskip("torch")
    surrogate = pytest.importorskip("snntorch.surrogate")
    with pytest.raises(TypeError):
        surrogate.LSO()(torch.zeros(1, requires_grad=True))
    x = torch.tensor([-50.0, 50.0], requires_grad=True)
    surrogate.triangular()(x).sum().backward()
    assert x.grad.tolist() == [1.0, -1.0]


def test_snntorchs_sigmoid_is_nan_far_below_the_threshold():
    torch = pytest.importorskip("torch")
    surrogate = pytest.importorskip("snntorch.surrogate")
    x = torch.tensor([-4.0], requires_grad=True)  # single precision: exp(100) overflows
    surrogate.sigmoid()(x).sum().backward()
    assert x.grad.isnan().all()
    assert 0 < VARIANTS["scaled_sigmoid"].gradient(-4.0) < 1e-40


def test_brevitas_integers_round_before_they_clip_so_their_gradient_is_no_finite_measure():
    torch = pytest.importorskip("torch")
    quant = pytest.importorskip("brevitas.core.quant")
    from brevitas.core.function_wrapper import Identity

    module = quant.IntQuant(narrow_range=False, signed=True, input_view_impl=Identity())
    t = torch.linspace(-11.03, 11.07, 2001, dtype=torch.float64, requires_grad=True)
    one = torch.tensor(1.0, dtype=torch.float64)
    module(one, 0 * one, 4 * one, t).sum().backward()
    x = t.detach().numpy()
    np.testing.assert_array_equal(t.grad.numpy(), ((x > -8.5) & (x < 7.5)).astype(float))
    quantiser = ab.Quantiser.linear(4, rounding="nearest")
    with pytest.raises(ValueError, match="no finite measure"):
        clipped_identity(quantiser, -8.5, 7.5)
    inner = (x > -8) & (x < 7)
    np.testing.assert_allclose(clipped_identity(quantiser, -8, 7).gradient(x), inner.astype(float), atol=1e-12)


def test_brevitas_ternary_has_zero_gradient_in_the_middle_bin():
    torch = pytest.importorskip("torch")
    quant = pytest.importorskip("brevitas.core.quant")
    from brevitas.core.scaling import ConstScaling

    t = torch.tensor([-3.0, -0.51, -0.49, 0.1, 0.49, 0.51, 9.0], requires_grad=True)
    quant.TernaryQuant(ConstScaling(1.0), 0.5)(t)[0].sum().backward()
    assert t.grad.tolist() == [1, 1, 0, 0, 0, 1, 1]


# --- density, primitive, mass -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", BOTH)
def test_primitive_differentiates_to_the_density_in_exact_arithmetic(variant):
    x, numbers = variable_and_numbers(variant, lambda value: sp.Float(value, 40))
    density, primitive = (f.subs(numbers) for f in (variant.formula, variant.primitive_formula))
    if variant.law == "comb":  # SymPy knows no derivative of floor; between its jumps the primitive is linear
        step = sp.Rational(1, 10**9)
        slope = (primitive.subs(x, x + step) - primitive.subs(x, x - step)) / (2 * step)
    else:
        slope = sp.diff(primitive, x)
    thresholds = variant.quantiser.thresholds
    for point in points(variant, 12, seed=2) - thresholds[0]:
        if min((abs(point - kink) for kink in (*variant.kinks, 0.0)), default=1) < 1e-6:
            continue
        at = {x: sp.Float(point, 40)}
        assert abs((slope.subs(at) - density.subs(at)).evalf(30)) < 1e-20 * (1 + abs(density.subs(at).evalf(30)))


@pytest.mark.parametrize("variant", BOTH)
def test_formula_and_numbers_agree(variant):
    x, numbers = variable_and_numbers(variant, lambda value: sp.Float(value, 40))
    for symbolic, numeric in ((variant.formula, variant.pdf), (variant.primitive_formula, variant.cdf)):
        expression = symbolic.subs(numbers)
        for point in points(variant, 12, seed=3) - variant.quantiser.thresholds[0]:
            if min((abs(point - kink) for kink in variant.kinks), default=1) > 1e-6:
                exact = float(expression.subs(x, sp.Float(point, 40)).evalf(25))
                assert numeric(point) == pytest.approx(exact, rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_mass_is_the_limit_that_sympy_finds(name):
    variant = VARIANTS[name]
    if name == "squarewave_fourier":
        assert math.isnan(variant.mass)  # periodic: no limit
        return
    x, numbers = variable_and_numbers(variant, sp.nsimplify)
    primitive = variant.primitive_formula.subs(numbers)
    low, high = variant.support
    ends = [
        limit(beyond(primitive, x, sign), x, sign * sp.oo) if math.isinf(end) else primitive.subs(x, sign * 10**6)
        for sign, end in ((-1, low), (1, high))
    ]
    mass = sp.simplify(ends[1] - ends[0])
    if name == "snntorch_triangular":
        assert ends == [-sp.oo, -sp.oo] and math.isnan(variant.mass)
    elif mass.is_infinite:
        assert mass is sp.oo and variant.mass == math.inf
    else:
        assert variant.mass == pytest.approx(float(mass), rel=1e-14)


def limit(expression, x, end):
    """The limit at ±∞, term by term: of the sum of three erfc in "multi_gauss" SymPy 1.14 gets it wrong at −∞."""
    terms = expression.expand().args if expression.has(sp.erfc) else [expression]
    return sum(sp.limit(term, x, end) for term in terms)


def beyond(expression, x, sign):
    """The branch of a piecewise expression that holds far out, where SymPy's limits want no conditions."""
    if not expression.has(sp.Piecewise, sp.Max, sp.Min):
        return expression
    far = sp.Symbol("far", positive=True)
    return sp.piecewise_fold(expression.subs(x, sign * (far + 10**6))).subs(far, sign * x - 10**6)


@pytest.mark.parametrize("variant", BOTH)
def test_mass_is_the_integral_of_the_density(variant):
    if math.isfinite(variant.mass):
        assert integral(variant.pdf, variant) == pytest.approx(variant.mass, rel=1e-8)
    elif variant.kind == "infinite":
        masses = [variant.cdf(r) - variant.cdf(-r) for r in (1e3, 1e6, 1e9, 1e12)]
        assert np.all(np.diff(masses) > 1)


@pytest.mark.parametrize("variant", BOTH)
def test_density_is_the_slope_of_the_primitive(variant):
    low, high = variant.window
    x = points(variant, seed=5) - variant.quantiser.thresholds[0]
    step = 1e-5 * (high - low)
    smooth = np.array([min((abs(v - kink) for kink in variant.kinks), default=1.0) > 2 * step for v in x])
    slope = (variant.cdf(x + step) - variant.cdf(x - step)) / (2 * step)
    height = np.abs(variant.pdf(x)).max()
    np.testing.assert_allclose(slope[smooth], variant.pdf(x[smooth]), rtol=1e-5, atol=1e-6 * height)


@pytest.mark.parametrize("variant", BOTH)
def test_a_probability_is_a_non_negative_density_of_mass_one(variant):
    x = np.concatenate([points(variant), np.linspace(*variant.window, 2001)])
    non_negative = bool((variant.pdf(x) >= 0).all())
    normalised = math.isfinite(variant.mass) and integral(variant.pdf, variant) == pytest.approx(1.0, abs=1e-8)
    assert variant.is_probability == (non_negative and normalised)
    assert variant.kind in KINDS
    assert (variant.kind == "signed") == (not non_negative)


@pytest.mark.parametrize("variant", [v for v in BOTH if math.isfinite(v.values[0].mass)])
def test_primitive_of_a_finite_measure_runs_from_zero_to_the_mass(variant):
    assert variant.cdf(-math.inf) == 0
    assert variant.cdf(math.inf) == pytest.approx(variant.mass, rel=1e-15)
    x = points(variant, 50)
    np.testing.assert_allclose(variant.cdf(x) + variant.sf(x), variant.mass, rtol=1e-12)


@pytest.mark.parametrize("variant", [v for v in BOTH if v.values[0].kind in ("probability", "finite")])
def test_mean_and_standard_deviation_are_those_of_the_normalised_density(variant):
    if math.isfinite(variant.mean):
        mean = integral(lambda v: v * variant.pdf(v), variant) / variant.mass
        assert mean == pytest.approx(variant.mean, abs=1e-7 * (1 + abs(variant.mean)))
    if math.isfinite(variant.std):
        square = integral(lambda v: (v - variant.mean) ** 2 * variant.pdf(v), variant) / variant.mass
        assert math.sqrt(square) == pytest.approx(variant.std, rel=1e-6)
    else:  # the tails carry at least a logarithm's worth of second moment per decade
        reach = 10.0 ** np.arange(4, 8)
        growth = [quad(lambda v: v * v * variant.pdf(v), a, 10 * a)[0] for a in reach]
        assert min(growth) > 0.1 * growth[0] > 0


@pytest.mark.parametrize(
    "q, mean_exists, variance_exists", [(1.5, False, False), (2.0, False, False), (2.5, True, False), (3.5, True, True)]
)
def test_q_pseudo_spike_has_a_mean_above_two_and_a_variance_above_three(q, mean_exists, variance_exists):
    variant = VARIANTS["q_pseudo_spike"].with_parameters(q=q)
    assert variant.is_probability
    assert math.isfinite(variant.mean) == mean_exists
    assert math.isfinite(variant.std) == variance_exists
    if variance_exists:
        square = integral(lambda v: v * v * variant.pdf(v), variant)
        assert math.sqrt(square) == pytest.approx(variant.std, rel=1e-5)


def test_fast_sigmoid_is_a_probability_at_slope_two_only_and_is_then_softsign():
    fast, soft = VARIANTS["fast_sigmoid"], VARIANTS["soft_sign"]
    assert fast.mass == pytest.approx(0.08)
    assert not fast.is_probability and fast.with_parameters(k=2).is_probability
    x = np.linspace(-3, 3, 101)
    np.testing.assert_allclose(fast.with_parameters(k=2).pdf(x), soft.pdf(x), rtol=1e-14)
    np.testing.assert_allclose(fast.normalised().pdf(x), soft.with_parameters(alpha=25).pdf(x), rtol=1e-13)


def test_swish_sign_turns_negative_where_its_note_says():
    root = sp.nsolve(sp.sympify("t*tanh(t/2) - 2"), 2.4)
    assert float(root) == pytest.approx(2.3994, abs=5e-5)
    below, above = VARIANTS["swish_sign"].pdf([float(root) / 5 - 1e-6, float(root) / 5 + 1e-6])
    assert below > 0 > above


def test_a_surrogate_of_infinite_mass_on_the_left_passes_half_way_between_the_levels():
    for name in (
        "identity",
        "sign_identity",
        "leaky_relu",
        "piecewise_leaky_relu",
        "nonzero_sign_log_abs",
        "fake_numerical_gradient",
        "snntorch_triangular",
        "squarewave_fourier",
    ):
        variant = VARIANTS[name]
        assert variant.surrogate(0.0) == pytest.approx(variant.quantiser.levels.mean(), abs=1e-15)
    x = np.linspace(-3, 3, 13)
    np.testing.assert_allclose(VARIANTS["sign_identity"].surrogate(x), x)
    np.testing.assert_allclose(VARIANTS["relu"].surrogate(x), np.maximum(x, 0))


# --- as noise ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROBABILITIES)
def test_as_noise_in_a_regularisation_it_reproduces_surrogate_and_gradient(name):
    variant = VARIANTS[name]
    regularisation = ab.Regularisation(variant.quantiser, variant.as_noise())
    x = points(variant)
    np.testing.assert_allclose(regularisation(x), variant.surrogate(x), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(regularisation.derivative(x), variant.gradient(x), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", PROBABILITIES)
def test_draws_of_the_noise_average_to_the_surrogate(name):
    variant = VARIANTS[name]
    x = np.linspace(*variant.window, 7)
    draws = variant.sample((20_000, 1), np.random.default_rng(7))
    values = variant.quantiser(x - draws)
    allowed = 5 * values.std(axis=0) / math.sqrt(len(draws)) + 1e-3 * np.ptp(variant.quantiser.levels)
    assert (np.abs(values.mean(axis=0) - variant.surrogate(x)) <= allowed).all()


@pytest.mark.parametrize("name", PROBABILITIES)
def test_family_members_are_the_familys_noise(name):
    variant = VARIANTS[name]
    assert (variant.family is not None) == (variant.law in FAMILIES)
    noise = variant.as_noise()
    if variant.family is None:
        assert isinstance(noise, VariantNoise)
        return
    assert isinstance(noise, Noise) and noise.family == variant.law
    x = points(variant) - variant.quantiser.thresholds[0]
    np.testing.assert_allclose(noise.pdf(x), variant.pdf(x), rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(noise.cdf(x), variant.cdf(x), rtol=1e-11, atol=1e-14)
    u = np.random.default_rng(3).uniform(size=20)
    np.testing.assert_allclose(noise.icdf(u), variant.icdf(u), rtol=1e-9, atol=1e-9 * variant.std)


@given(name=st.sampled_from(PROBABILITIES), u=st.floats(1e-12, 1 - 1e-12))
def test_quantile_is_the_first_place_where_the_mass_below_reaches_u(name, u):
    variant = VARIANTS[name]
    x = float(variant.icdf(u))
    assert variant.cdf(x) == pytest.approx(u, rel=1e-9, abs=1e-14)


def test_heavy_tails_keep_their_relative_accuracy():
    soft, atan = VARIANTS["soft_sign"], VARIANTS["atan"]
    for x in (1e3, 1e9, 1e15):
        assert soft.cdf(-x) == soft.sf(x) == pytest.approx(1 / (2 * (1 + 2 * x)), rel=1e-12)
        exact = sp.atan2(1, sp.pi * sp.Integer(int(x))) / sp.pi
        assert atan.cdf(-x) == pytest.approx(float(exact.evalf(30)), rel=1e-12)
    assert VariantNoise(atan).mean == 0.0 and math.isnan(atan.mean)


@pytest.mark.parametrize("name", PROBABILITIES)
def test_the_symbolic_density_of_a_probability_has_its_moments_and_numbers(name):
    variant = VARIANTS[name]
    density = variant.as_density()
    if math.isfinite(variant.std):
        assert float(density.mean) == pytest.approx(variant.mean, abs=1e-12)
        assert float(density.std) == pytest.approx(variant.std, rel=1e-12)
    variable = density.variable
    for point in points(variant, 5, seed=8) - variant.quantiser.thresholds[0]:
        assert float(density.cdf.subs(variable, sp.Float(point, 30))) == pytest.approx(variant.cdf(point), abs=1e-12)


@pytest.mark.parametrize("name", [name for name in NAMES if not VARIANTS[name].is_probability])
def test_sympy_refuses_every_other_density_as_a_noise(name):
    variant = VARIANTS[name]
    x, numbers = variable_and_numbers(variant, sp.nsimplify)
    support = tuple(sp.nsimplify(end) if math.isfinite(end) else end * sp.oo for end in variant.support)
    with pytest.raises(ValueError, match="negative" if variant.kind == "signed" else "integrate to 1"):
        ab.symbolic.Density(variant.formula.subs(numbers), x, support)


# --- more than two levels ---------------------------------------------------------------------------------------------


@given(
    jumps=st.integers(2, 6),
    pieces=st.integers(1, 4),
    spacing=st.floats(0.1, 3),
    centre=st.floats(-2, 2),
    step=st.floats(0.1, 3),
)
def test_a_clipped_identity_over_a_whole_multiple_is_a_comb(jumps, pieces, spacing, centre, step):
    thresholds = spacing * np.arange(jumps)
    quantiser = ab.Quantiser(step * np.arange(jumps + 1), thresholds)
    half = pieces * jumps * spacing / 2
    middle = thresholds.mean() + centre
    variant = clipped_identity(quantiser, middle - half, middle + half)
    assert variant.is_probability
    x = middle + half * np.linspace(-1.3, 1.3, 261)
    x = x[np.abs(np.abs(x - middle) - half) > 1e-6 * half]
    expected = np.interp(x, [middle - half, middle + half], quantiser.levels[[0, -1]])
    np.testing.assert_allclose(variant.surrogate(x), expected, atol=1e-8 * np.ptp(quantiser.levels))


@given(jumps=st.integers(2, 6), spacing=st.floats(0.1, 3), ratio=st.floats(0.2, 5))
def test_for_other_lengths_the_fourier_transform_rules_every_finite_measure_out(jumps, spacing, ratio):
    quantiser = ab.Quantiser(np.arange(jumps + 1.0), spacing * np.arange(jumps))
    length = ratio * jumps * spacing
    frequency = 2 * math.pi / (jumps * spacing)
    stair = np.exp(-1j * frequency * quantiser.thresholds).sum()
    window = math.sin(frequency * length / 2) / (frequency * length / 2)
    assert abs(stair) < 1e-9  # whatever the finite measure, its regularisation has no such frequency
    if abs(ratio - round(ratio)) > 1e-6:
        assert abs(window) > 1e-9  # but the clipped identity's derivative has
        with pytest.raises(ValueError, match="no finite measure"):
            clipped_identity(quantiser, 0.0, length)


@pytest.mark.parametrize(
    "name", ["ternary_hard_tanh", "ste_tern", "dorefa", "pact", "spike_count", "floor_identity", "hard_tanh", "clipped_relu"]
)
def test_the_zoos_clipped_identities_are_instances_of_one_construction(name):
    variant = VARIANTS[name]
    levels, x = variant.quantiser.levels, points(variant)
    again = clipped_identity(variant.quantiser, levels[0], levels[-1])
    np.testing.assert_allclose(again.gradient(x), variant.gradient(x), rtol=1e-9, atol=1e-9)


# --- data and errors --------------------------------------------------------------------------------------------------


def test_the_zoo_is_large_and_every_reference_is_in_the_bibliography():
    keys = set(re.findall(r"^@\w+\{([^,]+),", BIBLIOGRAPHY.read_text(encoding="utf-8"), re.M))
    assert len(VARIANTS) >= 28
    for variant in VARIANTS.values():
        assert variant.reference.key in keys
        assert variant.reference.text == REFERENCES[variant.reference.key]
    assert {variant.key for variant in VARIANTS.values()} <= set(REFERENCES)
    assert set(REFERENCES) <= keys


def test_required_variants_and_their_library_names_are_there():
    for name in (
        "hard_sigmoid",
        "clipped_relu",
        "hard_tanh",
        "identity",
        "relu",
        "bi_real",
        "erf",
        "sigmoid",
        "scaled_sigmoid",
        "swish_sign",
        "dorefa",
        "SteSign",
        "ApproxSign",
        "SteTern",
        "SteHeaviside",
        "SwishSign",
        "DoReFa",
        "fast_sigmoid",
        "atan",
        "triangular",
        "rectangular",
        "gaussian",
        "laplace",
        "soft_sign",
        "LSO",
        "leaky_k_relu",
        "piecewise_leaky_relu",
        "quadratic",
        "piecewise_exp",
        "s2nn",
        "q_pseudo_spike",
        "multi_gauss",
        "squarewave_fourier",
    ):
        assert isinstance(VARIANTS[name], Variant)


def test_aliases_are_unambiguous():
    aliases = [alias for variant in VARIANTS.values() for alias in variant.aliases]
    assert len(set(aliases)) == len(aliases)
    assert not set(aliases) & set(VARIANTS)


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(UnknownVariant) as caught:
        VARIANTS["fast_sigmod"]
    assert str(caught.value) == "there is no variant called 'fast_sigmod'; did you mean 'fast_sigmoid'?"
    with pytest.raises(KeyError, match="keys of VARIANTS"):
        VARIANTS["xyzzy"]
    assert VARIANTS.get("xyzzy") is None


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: VARIANTS["atan"].with_parameters(alpah=1), "Did you mean 'alpha'"),
        (lambda: VARIANTS["atan"].with_parameters(alpha=0), "alpha must be finite and greater than 0, not 0.0"),
        (lambda: VARIANTS["q_pseudo_spike"].with_parameters(q=1), "greater than 1"),
        (lambda: VARIANTS["relu"].with_parameters(k=1), "relu has no parameters"),
        (lambda: VARIANTS["ste_tern"].with_parameters(threshold=0.3), "whole multiple of 2·threshold"),
        (lambda: VARIANTS["relu"].as_noise(), "relu is no noise: its measure is infinite"),
        (lambda: VARIANTS["swish_sign"].icdf(0.5), "negative in places"),
        (lambda: VARIANTS["fast_sigmoid"].sample(3, 0), "of a mass other than 1 \\(mass 0.08\\)"),
        (lambda: VARIANTS["identity"].normalised(), "cannot be normalised"),
        (lambda: VARIANTS["squarewave_fourier"].normalised(), "mass nan"),
        (lambda: VARIANTS["identity"].sf(0.0), "no mass above x"),
        (lambda: VARIANTS["atan"].icdf(1.5), "probabilities must lie in \\[0, 1\\], not 1.5"),
        (lambda: ab.variants.table([]), "at least one variant"),
        (lambda: ab.variants.table(VARIANTS.values(), ("shape", "mas")), "no column 'mas' .did you mean 'mass'"),
        (
            lambda: ab.variants.table([VARIANTS["relu"]], beside={"paper": {"atan": "x"}}),
            "column 'paper' has no text for relu",
        ),
        (lambda: clipped_identity(ab.Quantiser.ternary(), 1, -1), "high must be greater than low=1, not -1"),
        (lambda: clipped_identity(ab.Quantiser([0, 1, 3], [0, 1]), -1, 2), "equal steps"),
        (lambda: clipped_identity(ab.Quantiser.ternary(), -0.4, 0.4), "no finite measure"),
    ],
)
def test_bad_input_gets_one_clear_sentence(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_parameters_of_a_wrong_type_are_refused():
    with pytest.raises(TypeError, match="bits must be an integer"):
        VARIANTS["dorefa"].with_parameters(bits=2.5)
    with pytest.raises(TypeError, match="k must be a real number"):
        VARIANTS["fast_sigmoid"].with_parameters(k="25")


def test_variants_are_values_that_can_be_compared_hashed_copied_and_pickled():
    atan = VARIANTS["atan"].with_parameters(alpha=3)
    assert atan == VARIANTS["atan"].with_parameters(alpha=3) != VARIANTS["atan"]
    assert hash(atan) == hash(VARIANTS["atan"].with_parameters(alpha=3))
    for twin in (pickle.loads(pickle.dumps(atan)), copy.deepcopy(atan)):
        assert twin == atan and twin.mass == atan.mass
    assert repr(atan) == "<variant atan(alpha=3): probability>"
    assert pickle.loads(pickle.dumps(VARIANTS["fast_sigmoid"].normalised())).is_probability


def test_shapes_and_float_types_come_back_as_they_went_in():
    x = np.zeros((2, 3), dtype=np.float32)
    for variant in VARIANTS.values():
        for method in (variant.pdf, variant.cdf, variant.gradient, variant.surrogate):
            assert method(x).shape == (2, 3) and method(x).dtype == np.float32
            assert np.isnan(method(math.nan))
            assert method([0.5]).shape == (1,)


def test_formulas_are_short_enough_to_print():
    for variant in VARIANTS.values():
        latex = variant.latex()
        assert latex and "nan" not in latex and len(latex) < 600


def test_the_table_shows_every_variant_with_escaped_formulas():
    table = ab.variants.table(VARIANTS.values())
    page = table._repr_html_()
    assert page.count("<tr>") == page.count("</tr>") == len(VARIANTS) + 1
    assert all(f">{name}<" in page.replace("<wbr>", "") for name in NAMES)
    assert not re.search(r"<(?!/?(div|table|thead|tbody|tr|th|td|br|wbr|small)\b)", page)
    noises = ab.variants.table(VARIANTS[name] for name in PROBABILITIES)._repr_html_()
    assert "In all rows: kind probability; mass 1." in noises and "<td>probability" not in noises
    assert len(repr(table).splitlines()) == len(VARIANTS)


def test_the_table_draws_every_density_and_takes_columns_of_ones_own():
    beside = {"accuracy <%>": {name: f"{i} & more" for i, name in enumerate(NAMES)}}
    table = ab.variants.table(VARIANTS.values(), ("shape", "mass"), beside)
    page = table._repr_html_()
    titles = re.findall(r'<th scope="col"[^>]*>([^<]*)<', page)
    assert titles == ["variant", "shape", "mass", "accuracy &lt;%&gt;"] and "40 &amp; more</td></tr>" in page
    assert repr(table).splitlines()[0].split()[-4:] == ["1", "0", "&", "more"]
    second = ab.variants.table(VARIANTS.values(), ("shape", "accuracy <%>", "mass"), beside)._repr_html_()
    assert re.findall(r'<th scope="col"[^>]*>([^<]*)<', second) == ["variant", "shape", "accuracy &lt;%&gt;", "mass"]
    for variant, line in zip(VARIANTS.values(), re.findall(r'<polyline points="([^"]*)"', page), strict=True):
        across, down = np.array([point.split(",") for point in line.split()], dtype=float).T
        assert across[0] == 0 and across[-1] == 100 and (np.diff(across) >= 0).all()
        # Between the drawn points the density is a line to within the pen's width, but where it jumps or has a spike.
        x = np.linspace(-1.99, 1.99, 399)
        density = np.broadcast_to(variant.pdf(x), x.shape)
        top, bottom = max(density.max(), 0.0), min(density.min(), 0.0)
        there = bottom + (27 - np.interp(25 * (x + 2), across, down)) / 26 * (top - bottom)
        wrong = np.abs(there - density) / (top - bottom)
        assert np.median(wrong) < 0.01 and (wrong < 0.06).mean() > 0.9, variant.name


def test_a_table_is_made_of_variants_and_of_texts_by_name():
    assert repr(ab.variants.table(VARIANTS)) == repr(ab.variants.table(VARIANTS.values()))
    for wrong in ("laplace", ["laplace"], [None], VARIANTS["atan"], 3):
        with pytest.raises(TypeError, match="variants"):
            ab.variants.table(wrong)
    for beside in (["a"], {"a": "atan"}, {"a": None}):
        with pytest.raises(TypeError, match="beside must give for each title a mapping"):
            ab.variants.table([VARIANTS["atan"]], beside=beside)
    page = ab.variants.table([dataclasses.replace(VARIANTS["atan"], name='<b>"x')], ("shape", "mass"))._repr_html_()
    assert "<b>" not in page


@pytest.mark.parametrize("name", PROBABILITIES)
def test_quantiles_end_where_the_support_does_and_warn_of_nothing(name):
    variant = VARIANTS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = variant.icdf(np.array([0.0, 1e-323, 1e-300, 0.5, 1 - 2.0**-53, 1.0]))
    assert (found[0], found[-1]) == variant.support and (found[1:] >= found[:-1]).all()


def test_laws_are_used_and_shared():
    used = [variant.law for variant in VARIANTS.values()]
    assert set(used) == set(LAWS)
    assert len(LAWS) < len(VARIANTS) / 2 + 1
