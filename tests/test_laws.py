"""Every law keeps the same promises: the four families, the whole zoo, and one that these tests define themselves."""

import copy
import math
import pickle
import subprocess
import sys

import mpmath
import numpy as np
import pytest
import sympy as sp
import torch
from scipy import integrate

import anabook as ab
from anabook import symbolic
from anabook.laws import FAMILIES, Decay, Edge, Law, Power, placed, symmetric
from anabook.namespaces import FLOATS, NUMPY, mpmath_namespace, sympy_namespace
from anabook.training import Quantise, kernels
from anabook.training._ops import TORCH_OPS
from anabook.variants import VARIANTS

LAPLACE = Law(
    "my Laplace",
    density=lambda t, m: m.exp(-m.root(2) * m.abs(t)) / m.root(2),
    distribution=lambda t, m: symmetric(t, m, m.exp(-m.root(2) * m.abs(t)) / 2),
    ends=lambda m: Decay(exponent=1, rate=m.root(2), coefficient=m.one / 2),
    kinks=(0.0,),
    log_concave=True,
)

ALL = {**FAMILIES, "my Laplace": LAPLACE, **{f"zoo: {name}": variant.placed_law()[0] for name, variant in VARIANTS.items()}}
PROBABILITIES = [name for name, law in ALL.items() if law.is_probability]
FINITE = [name for name, law in ALL.items() if math.isfinite(law.total_mass)]
OWN = [*FAMILIES, "my Laplace"]
every_law, every_probability = pytest.mark.parametrize("name", ALL), pytest.mark.parametrize("name", PROBABILITIES)
TERNARY = ab.Quantiser.ternary()
UNEVEN = ab.Quantiser([-1.0, 0.0, 0.3, 2.0], [-0.5, 0.1, 0.9])


def inner(law, n=41):
    """Points inside the support and beyond it, not on kinks."""
    reach = min(float(law.half_width) * 1.2, 6 * law.unit + abs(law.offset))
    t = np.linspace(-reach, reach, n) + 0.000123
    kinks = np.array([*law.get("kinks"), *(end for end in map(float, law.bounds()) if math.isfinite(end))]) + law.offset
    return t[(np.abs(t[:, np.newaxis] - kinks) > 1e-6).all(axis=1)] if len(kinks) else t


# Formulas -----------------------------------------------------------------------------------------------------------


@every_law
def test_the_density_is_the_slope_of_the_distribution_function(name):
    law, step = ALL[name], 1e-6
    t = inner(law)
    slope = (law.cdf(t + step) - law.cdf(t - step)) / (2 * step)
    np.testing.assert_allclose(law.pdf(t), slope, rtol=1e-6, atol=1e-7 * max(1.0, np.abs(slope).max()))


@pytest.mark.parametrize("name", FINITE)
def test_the_density_integrates_to_the_mass(name):
    law = ALL[name]
    low, high = (float(end) for end in law.bounds())
    kinks = sorted({float(kink) + law.offset for kink in law.get("kinks")} - {low, high})
    cuts = [low, *(k for k in kinks if low < k < high), high]
    if len(cuts) == 2 and math.isinf(low) and math.isinf(high):
        cuts = [low, 0.0, high]
    total = sum(integrate.quad(lambda t: float(law.pdf(np.float64(t))), a, b, limit=400)[0] for a, b in zip(cuts, cuts[1:]))
    assert total == pytest.approx(law.total_mass, rel=1e-8)
    with np.errstate(all="ignore"):
        far = np.array([-1e300 if math.isinf(low) else low, 1e300 if math.isinf(high) else high])
        np.testing.assert_allclose(law.cdf(far), [0.0, law.total_mass], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", FINITE)
def test_both_tails_add_up_and_both_ways_to_a_tail_agree(name):
    law = ALL[name]
    t = inner(law)
    np.testing.assert_allclose(law.cdf(t) + law.sf(t), law.total_mass, rtol=1e-12)
    np.testing.assert_allclose(law.tail(t), np.where(t > 0, law.sf(t), law.cdf(t)), rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(law.beyond(t, t > 0), law.tail(t), rtol=1e-15, atol=0)


@every_probability
def test_quantiles_invert_both_tails(name):
    law = ALL[name]
    u = np.array([1e-12, 1e-6, 0.01, 0.25, 0.5, 0.73, 0.99, 1 - 1e-9])
    np.testing.assert_allclose(law.cdf(law.icdf(u)), u, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(law.sf(law.isf(u)), u, rtol=1e-9, atol=1e-15)
    assert (np.diff(law.icdf(u)) >= 0).all()


@every_law
def test_every_namespace_gives_the_same_value_to_its_precision(name):
    law = ALL[name]
    t = inner(law, 9)
    functions = [law.pdf, law.cdf] + ([law.sf, law.tail] if name in FINITE else [])
    with mpmath.workdps(30):
        for function in functions:
            expected = np.array([float(function(mpmath.mpf(float(v)), mpmath_namespace())) for v in t])
            scale = max(1.0, float(np.abs(expected).max()))
            np.testing.assert_allclose(function(t), expected, rtol=1e-13, atol=2e-14 * scale)
            np.testing.assert_allclose([function(float(v), FLOATS) for v in t], expected, rtol=1e-13, atol=2e-14 * scale)
            double = function(torch.from_numpy(t), TORCH_OPS)
            assert double.dtype == torch.float64
            np.testing.assert_allclose(double, expected, rtol=1e-13, atol=2e-14 * scale)
            single = function(torch.from_numpy(t.astype(np.float32)), TORCH_OPS)
            assert single.dtype == torch.float32
            np.testing.assert_allclose(single, expected, rtol=2e-5, atol=4e-6 * scale)


@pytest.mark.parametrize("name", [*OWN, "zoo: fast_sigmoid", "zoo: atan", "zoo: s2nn", "zoo: multi_gauss", "zoo: relu"])
def test_sympy_computes_the_same_on_the_support(name):
    law, symbol, m = ALL[name], sp.Symbol("t", real=True), sympy_namespace()
    low, high = map(float, law.bounds())
    t = np.array([v for v in inner(law, 7) if low < v < high])
    density, distribution = law.pdf(symbol, m), law.cdf(symbol, m)
    for expression, function in ((density, law.pdf), (distribution, law.cdf)):
        expected = [float(expression.subs(symbol, sp.Float(v, 30)).evalf(20)) for v in t]
        np.testing.assert_allclose(function(t), expected, rtol=1e-13, atol=1e-15)


def test_namespaces_have_the_same_names():
    spaces = [NUMPY, FLOATS, sympy_namespace(), mpmath_namespace(), TORCH_OPS]
    assert all(vars(space).keys() == vars(NUMPY).keys() for space in spaces)


# Moments, ends, tails -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in PROBABILITIES if math.isfinite(ALL[name].get("std"))])
def test_mean_and_standard_deviation_are_those_of_the_density(name):
    law = ALL[name]
    low, high = (max(-60 * law.unit, min(60 * law.unit, float(end))) for end in law.bounds())
    points = sorted({low, high, 0.0, *(float(k) for k in law.get("kinks"))})

    def moment(power):
        parts = zip(points, points[1:])
        return sum(integrate.quad(lambda t: t**power * float(law.pdf(np.float64(t))), a, b, limit=200)[0] for a, b in parts)

    assert moment(1) == pytest.approx(law.get("mean"), abs=1e-8 * law.unit)
    assert math.sqrt(moment(2)) == pytest.approx(law.get("std"), rel=1e-7)


@pytest.mark.parametrize("name", [name for name in FINITE if ALL[name].upper_tail() is not None])
def test_tails_are_of_the_order_that_the_law_names(name):
    law, m = ALL[name], mpmath_namespace()
    with mpmath.workdps(60):
        low, high = law.bounds(m)
        for tail, mass, sign, end in ((law.upper_tail(m), law.sf, 1, high), (law.lower_tail(m), law.cdf, -1, low)):
            if isinstance(tail, Edge):
                d = mpmath.mpf(10) ** -12
                found, named = mass(end - sign * d, m), tail.coefficient * d**tail.order
            elif isinstance(tail, Decay):
                t = mpmath.mpf(10) ** 6
                found = mass(sign * t, m)
                named = (
                    tail.coefficient * t**tail.power * mpmath.exp(-tail.rate * abs(t - sign * law.offset) ** tail.exponent)
                )
            else:
                assert isinstance(tail, Power)
                t = mpmath.mpf(10) ** 12
                found, named = mass(sign * t, m), tail.coefficient * t**-tail.order
            assert abs(found / named - 1) < 1e-10


@every_probability
def test_tails_keep_their_digits(name):
    law = ALL[name]
    m = mpmath_namespace()
    with mpmath.workdps(50):
        for u in (1e-3, 1e-8, 1e-15):
            for t, mass in ((law.icdf(np.float64(u)), law.cdf), (law.isf(np.float64(u)), law.sf)):
                # Seen from 0 a point near an end of the support has lost what its distance from the end has.
                lost = abs(float(t)) * float(law.pdf(t)) / u * 4e-16
                assert float(mass(np.float64(t))) == pytest.approx(float(mass(mpmath.mpf(float(t)), m)), rel=1e-11 + lost)


def test_the_ends_of_the_families_are_exact():
    m = sympy_namespace()
    assert FAMILIES["uniform"].bounds(m) == (-sp.sqrt(3), sp.sqrt(3)) and FAMILIES["normal"].bounds(m) == (-sp.oo, sp.oo)
    assert FAMILIES["triangular"].upper_tail(m) == Edge(2, sp.Rational(1, 12))
    assert FAMILIES["logistic"].lower_tail(m).rate == sp.pi / sp.sqrt(3)


def test_high_precision_reaches_where_doubles_are_long_0():
    m = mpmath_namespace()
    with mpmath.workdps(30):
        assert FAMILIES["normal"].sf(mpmath.mpf("1e60"), m) > 0 and FAMILIES["logistic"].sf(mpmath.mpf("1e50"), m) > 0
        u, normal = mpmath.mpf("1e-40"), FAMILIES["normal"]
        assert mpmath.almosteq(normal.cdf(normal.icdf(u, m), m), u, 1e-20)


# Noise and regularisation -------------------------------------------------------------------------------------------


@every_probability
def test_samples_follow_the_law(name):
    noise = ab.Noise(ALL[name], 0.25, 2.0)
    draws = noise.sample(4000, 11)
    assert np.array_equal(draws, noise.sample(4000, 11))
    at = noise.icdf([0.1, 0.25, 0.5, 0.75, 0.9])
    expected = noise.cdf(at)
    assert np.abs((draws[:, np.newaxis] <= at).mean(axis=0) - expected).max() < 0.04


@every_probability
def test_regularisation_is_the_quantiser_averaged_by_quadrature(name):
    noise = ab.Noise(ALL[name], 0.1, 0.3)
    r = ab.Regularisation(UNEVEN, noise)
    u = (np.arange(20_000) + 0.5) / 20_000
    nodes = noise.icdf(u)
    for x in (-0.7, 0.05, 1.1):
        assert float(r(x)) == pytest.approx(UNEVEN(x - nodes).mean(), abs=3e-4)
    assert np.allclose(r.probabilities([-0.7, 0.05, 1.1]) @ UNEVEN.levels, r([-0.7, 0.05, 1.1]), atol=1e-12)


@pytest.mark.parametrize("name", [name for name in PROBABILITIES if ALL[name].log_concave])
def test_thresholds_of_the_mode_are_where_it_changes(name):
    r = ab.Regularisation(UNEVEN, ab.Noise(ALL[name], 0.1, 0.4))
    x = np.linspace(-2, 3, 1001)
    clear = ~r.is_tie(x)
    np.testing.assert_array_equal(r.mode_quantiser()(x)[clear], r.mode(x)[clear])


def test_a_law_of_ones_own_goes_wherever_a_family_does():
    noise = ab.Noise(LAPLACE, 0.1, 0.3)
    assert noise.family == "my Laplace" and noise == ab.Noise(LAPLACE, 0.1, 0.3) != ab.Noise("normal", 0.1, 0.3)
    assert ab.Noise.covering(LAPLACE, 0.5).std == pytest.approx(0.5 * math.sqrt(2) / math.log(20), rel=1e-12)
    x = np.linspace(-1.5, 1.5, 31)
    expected = ab.Regularisation(TERNARY, noise)(x)
    exact = symbolic.regularise(TERNARY, noise)
    np.testing.assert_allclose(symbolic.as_numpy(exact)(x), expected, rtol=1e-12, atol=1e-14)
    density = symbolic.Density(sp.exp(-sp.Abs(symbolic.x)) / 2, symbolic.x)
    np.testing.assert_allclose(ab.Regularisation(TERNARY, ab.Noise(density, 0.1, 0.3))(x), expected, rtol=1e-12)
    assert ab.Regularisation(TERNARY, density).noise == ab.Noise(density) == density.noise()


def test_noise_is_copied_and_pickled_with_its_law():
    density = symbolic.Density(sp.exp(-sp.Abs(symbolic.x)) / 2, symbolic.x)
    for noise in (ab.Noise("normal", 0.1, 0.2), ab.Noise(VARIANTS["soft_sign"]), ab.Noise(density, 0.0, 0.5)):
        assert pickle.loads(pickle.dumps(noise)) == noise == copy.deepcopy(noise)
    assert copy.deepcopy(ab.Noise(LAPLACE)) == ab.Noise(LAPLACE)
    assert repr(ab.Noise("normal")) == "Noise(family='normal', mean=0.0, std=1.0)"


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: ab.Noise(VARIANTS["identity"]), r"constant is no noise: its measure is infinite \(mass inf\)\."),
        (lambda: ab.Noise(VARIANTS["ste_heaviside"]), r"uniform is no noise: .* of a mass other than 1 \(mass 2\)\."),
        (lambda: placed(3), "noise must be one of 'uniform', .*, a Law, .*, or an anabook.symbolic.Density, not 3"),
        (lambda: ab.Noise("gauss"), "family must be one of .* Did you mean 'normal'"),
    ],
)
def test_what_is_no_noise_is_refused_in_one_sentence(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


# Training -----------------------------------------------------------------------------------------------------------


def points(quantiser, law, scale, n=301):
    reach = min(float(law.half_width) / law.unit, 6.0) * scale
    x = np.linspace(quantiser.thresholds[0] - reach, quantiser.thresholds[-1] + reach, n)
    return x + 1e-5 * scale


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_trains_with_its_published_gradient(name):
    variant = VARIANTS[name]
    module = Quantise(variant.quantiser, variant)
    x = points(variant.quantiser, variant.placed_law()[0], module.std)
    for dtype, rtol in ((torch.float64, 1e-12), (torch.float32, 1e-4)):
        t = torch.tensor(x, dtype=dtype, requires_grad=True)
        out = module(t)
        out.sum().backward()
        expected = variant.gradient(x)
        close = np.isclose(t.grad.numpy(), expected, rtol=rtol, atol=rtol * np.abs(expected).max())
        # Beside a jump single precision may be on either side.
        assert close.mean() >= (1 if dtype == torch.float64 else 0.97)
    if not variant.is_probability:
        assert np.array_equal(out.detach().double().numpy(), variant.quantiser(x.astype(np.float32).astype(float)))
    assert module.std > 0 and not any(module.parameters())


@every_probability
@pytest.mark.parametrize("strategy", kernels.STRATEGIES)
def test_modules_follow_the_theory_whatever_the_law(name, strategy):
    law, q = ALL[name], UNEVEN
    noise = ab.Noise(law, 0.1, 0.3)
    r, x = ab.Regularisation(q, noise), points(q, law, 0.3)
    module = Quantise(q, noise, strategy, generator=torch.Generator().manual_seed(1))
    assert (module.mean, module.std) == (0.1, 0.3)
    t = torch.tensor(x, requires_grad=True)
    out = module(t)
    out.sum().backward()
    np.testing.assert_allclose(t.grad, r.derivative(x), rtol=1e-9, atol=1e-9)
    out = out.detach().numpy()
    if strategy == "expectation":
        np.testing.assert_allclose(out, r(x), rtol=0, atol=1e-12)
    elif strategy == "mode":
        p = r.probabilities(x)
        chosen = p[np.arange(len(x)), np.searchsorted(q.levels, out)]
        assert (chosen >= p.max(axis=1) - 1e-12).all()
    else:
        at = torch.full((4000,), 0.07, dtype=torch.float64)
        assert float(module(at).mean()) == pytest.approx(float(r(0.07)), abs=0.07)


@pytest.mark.parametrize("name", [name for name, variant in VARIANTS.items() if not variant.is_probability])
def test_what_is_no_probability_trains_with_the_mode_only(name):
    for strategy in ("expectation", "random"):
        message = f"the strategy for {name} must be 'mode', not '{strategy}', which needs a noise: its measure is"
        with pytest.raises(ValueError, match=message):
            Quantise(TERNARY, VARIANTS[name], strategy)


def test_many_levels_and_annealing_take_a_variant():
    q = ab.Quantiser.linear(6, quantum=0.1)
    for name in ("atan", "laplace", "reciprocal"):
        variant = VARIANTS["nonzero_sign_log_abs" if name == "reciprocal" else name]
        module = Quantise(q, variant)
        law = variant.placed_law()[0]
        for scale in (module.std, 0.05, 1e-3):
            module.set_noise(0.02, scale)
            x = np.linspace(-4, 4, 301) + 1e-6
            t = torch.tensor(x, requires_grad=True)
            module(t).sum().backward()
            unit = scale / law.unit
            expected = sum(d * law.pdf((x - 0.02 - theta) / unit) / unit for d, theta in zip(q.steps, q.thresholds))
            np.testing.assert_allclose(t.grad, expected, rtol=1e-7, atol=1e-9 * expected.max())
    assert Quantise(q, VARIANTS["identity"]).covering_std(0.5) == 0.5


def test_a_variant_is_copied_with_its_module_and_compiled():
    module = Quantise(TERNARY, VARIANTS["fast_sigmoid"])
    x = torch.linspace(-2, 2, 101)
    other = pickle.loads(pickle.dumps(module))
    assert torch.equal(module(x), other(x)) and "fast_sigmoid" in repr(module)
    torch._dynamo.reset()
    program = torch.compile(module, backend="aot_eager", fullgraph=True)
    grads = []
    for function in (module, program):
        t = x.clone().requires_grad_()
        function(t).sum().backward()
        grads.append(t.grad)
    torch.testing.assert_close(*grads)


def test_laws_bring_no_heavy_library():
    program = """
import sys, anabook.laws, anabook.variants
from anabook import Noise
Noise(anabook.variants.VARIANTS["atan"]).cdf(0.3)
print(any(name in sys.modules for name in ("torch", "sympy", "mpmath")))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
