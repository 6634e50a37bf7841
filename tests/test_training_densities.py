"""Densities of the reader's own, from SymPy into the kernels: against the float64 regularisation, and in networks."""

import copy
import functools
import io
import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
import sympy as sp
import torch
from scipy import stats
from torch import nn

from anabook import Quantiser, Regularisation, Schedule, datasets, models, training
from anabook.symbolic import Density
from anabook.symbolic import family as symbolic_family
from anabook.training import Quantise, kernels
from anabook.training._mode_stair import mode_stair
from anabook.training.checkpoint import describe_network

t = sp.Symbol("t")
HALF = sp.Rational(1, 2)
EXPRESSIONS = {
    "laplace": (sp.exp(-sp.Abs(t)) / 2, -sp.oo, sp.oo),
    "raised_cosine": ((1 + sp.cos(sp.pi * t)) / 2, -1, 1),
    "lopsided": (12 * t * (1 - t) ** 2, 0, 1),
    "mixture": (
        sp.Piecewise(
            (sp.Rational(9, 40) * (1 - (t + 2) ** 2), t < -1), (0, t < 0), (sp.Rational(21, 40) * (1 - (t - 1) ** 2), True)
        ),
        -3,
        2,
    ),
    "humps": (sp.Rational(15, 4) * t**2 * (1 - t**2), -1, 1),
    "boxes": (sp.Piecewise((HALF, sp.Abs(t) > 1), (0, True)), -2, 2),
    "semicircle": (2 / sp.pi * sp.sqrt(1 - t**2), -1, 1),
    "torn": (sp.Piecewise((sp.exp(t) / 4, t < 0), (3 * sp.exp(-t) / 4, True)), -sp.oo, sp.oo),
    "exponential": (sp.exp(-t), 0, sp.oo),
    "gumbel": (sp.exp(-t - sp.exp(-t)), -sp.oo, sp.oo),
    "student": (sp.Rational(8, 3) / (sp.pi * sp.sqrt(5) * (1 + t**2 / 5) ** 3), -sp.oo, sp.oo),
}
MAIN = ("laplace", "raised_cosine", "lopsided", "mixture")
TERNARY = Quantiser.ternary()
QUANTISERS = {
    "ternary": TERNARY,
    "uneven": Quantiser([-2.0, -0.5, 0.0, 0.7, 3.0], [-1.1, -0.2, 0.3, 1.9]),
    "grid": Quantiser.linear(5, quantum=0.25, rounding="nearest"),
    "table": Quantiser(np.arange(31.0) ** 1.5, np.arange(30) ** 1.3),
}
TOLERANCE = {torch.bfloat16: 8e-3, torch.float16: 1e-3, torch.float32: 2e-6, torch.float64: 1e-13}
every_density = pytest.mark.parametrize("name", EXPRESSIONS)
every_strategy = pytest.mark.parametrize("strategy", kernels.STRATEGIES)


@functools.cache
def density(name):
    expression, low, high = EXPRESSIONS[name]
    return Density(expression, t, (low, high))


def points(quantiser, dtype, n=1500):
    low, high = quantiser.thresholds[[0, -1]]
    return torch.from_numpy(np.random.default_rng(0).uniform(low - 1, high + 1, n)).to(dtype)


def both(module, x):
    x = x.detach().clone().requires_grad_()
    out = module(x)
    out.backward(torch.ones_like(out))
    return out.detach(), x.grad


def check(name, quantiser, strategy, dtype, spread=0.3, mean=0.0625):
    """Forward and backward against float64; `spread` is the standard deviation in units of the smallest step."""
    std = spread * float(quantiser.steps.min())
    noise = density(name).noise(mean, std)
    r, x = Regularisation(quantiser, noise), points(quantiser, dtype)
    exact, wide = x.double().numpy(), torch.promote_types(dtype, torch.float32)
    torch.manual_seed(3)
    out, grad = both(Quantise(quantiser, density(name), strategy, mean, std), x)
    scale = np.abs(quantiser.levels).max()
    if strategy == "expectation":
        np.testing.assert_allclose(out.double(), r(exact), rtol=0, atol=TOLERANCE[dtype] * scale)
    else:
        near = 200 * torch.finfo(wide).eps * (scale + 10 * std)
        if strategy == "mode":
            (expected, below, above) = (r.mode(exact + d) for d in (0.0, -near, near))
            clear = (below == expected) & (above == expected)
        else:
            torch.manual_seed(3)
            keys = torch.randint(-(2**31), 2**31, (3,), dtype=torch.int32)
            u = kernels.uniforms(len(x), keys, wide).double().numpy()[:, None]
            passed = noise.cdf(exact[:, None] - quantiser.thresholds)
            expected = quantiser.levels[(u < passed).sum(axis=1)]
            clear = (np.abs(u - passed) > 1e-5).all(axis=1)
        assert clear.mean() > 0.95
        wanted = torch.from_numpy(expected).to(dtype)
        assert torch.equal(out[clear], wanted[clear])
        assert torch.isin(out, torch.tensor(quantiser.levels).to(dtype)).all()
    edges = np.array([float(at) for at, _ in density(name).jumps]) * noise._scale + noise._shift
    off = np.abs(exact[:, None, None] - quantiser.thresholds[:, None] - edges).min(axis=(1, 2), initial=math.inf)
    slope, clear = r.derivative(exact), off > 1e-3 * std + 1e-6 * scale
    # A density with a vertical tangent at its ends (the semicircle) loses half of the digits there.
    tolerance = TOLERANCE[dtype] ** (HALF if name == "semicircle" else 1) * 20
    np.testing.assert_allclose(
        grad.double()[clear], slope[clear], rtol=float(tolerance), atol=float(tolerance) * slope.max()
    )
    assert (grad == 0).sum() >= (slope[clear] == 0).sum() > 0 or math.isinf(noise.half_width) or spread > 1


@pytest.fixture
def compiled():
    with kernels.compiling(1), warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # a fallback must not go unnoticed
        yield


# Numbers ------------------------------------------------------------------------------------------------------------


@every_density
@every_strategy
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernels_of_a_density_compute_its_regularisation(name, strategy, dtype):
    check(name, TERNARY, strategy, dtype)


@pytest.mark.parametrize("name", MAIN)
@every_strategy
@pytest.mark.parametrize("quantiser", ["uneven", "grid", "table"])
@pytest.mark.parametrize("spread", [0.3, 1.5])
def test_every_layout_of_thresholds_takes_a_density(name, strategy, quantiser, spread):
    check(name, QUANTISERS[quantiser], strategy, torch.float64, spread)


@pytest.mark.parametrize("name", MAIN)
@every_strategy
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bit_types_are_computed_in_float32(name, strategy, dtype):
    x = points(TERNARY, dtype)
    results = []
    for given in (x, x.float()):
        torch.manual_seed(1)
        results.append(both(Quantise(TERNARY, density(name), strategy), given))
    (out, grad), (expected, expected_grad) = results
    assert torch.equal(out, expected.to(dtype)) and torch.equal(grad, expected_grad.to(dtype))


@pytest.mark.parametrize("name", MAIN)
@every_strategy
def test_compiled_kernels_compute_the_regularisation_of_a_density(name, strategy, compiled):
    check(name, TERNARY, strategy, torch.float32)


@pytest.mark.parametrize("strategy", ["expectation", "random"])
@pytest.mark.parametrize("quantiser", ["grid", "table"])
def test_compiled_windows_take_a_density(strategy, quantiser, compiled):
    check("lopsided", QUANTISERS[quantiser], strategy, torch.float32)


def test_a_family_written_as_a_density_is_the_family():
    x = points(TERNARY, torch.float64)
    for name in ("triangular", "normal", "logistic"):
        for strategy in ("expectation", "mode"):
            ours, theirs = (Quantise(TERNARY, noise, strategy, 0.1) for noise in (symbolic_family(name), name))
            assert ours.std == pytest.approx(theirs.std, rel=1e-9)
            theirs.set_noise(0.1, ours.std)
            for a, b in zip(both(ours, x), both(theirs, x)):
                torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["gumbel", "student"])
def test_smooth_densities_pass_gradcheck_twice(name):
    x = points(TERNARY, torch.float64, 15).requires_grad_()
    module = Quantise(QUANTISERS["uneven"], density(name), "expectation", -0.1, 0.5)
    assert torch.autograd.gradcheck(module, (x,)) and torch.autograd.gradgradcheck(module, (x,))


@every_density
def test_second_derivatives_bring_no_nan(name):
    module = Quantise(TERNARY, density(name), "expectation", std=0.4)
    x = torch.linspace(-3, 3, 4001, dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(module(x).sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x)
    assert slope.isfinite().all() and curvature.isfinite().all()


@every_density
@every_strategy
def test_far_out_and_at_nan_a_density_behaves_as_the_families_do(name, strategy):
    x = torch.tensor([math.nan, -math.inf, -1e30, 1e30, math.inf])
    for std in (1e-30, 0.3, 1e3):
        out, grad = both(Quantise(TERNARY, density(name), strategy, std=std), x)
        assert out[0].isnan() and grad[0].isnan() and grad[1:].tolist() == [0.0] * 4
        assert out[1:].tolist() == [-1.0, -1.0, 1.0, 1.0]


@every_density
@pytest.mark.parametrize("quantiser", ["ternary", "grid", "table"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_draw_under_a_density_leaves_the_level_set(name, quantiser, dtype, monkeypatch):
    q, eps = QUANTISERS[quantiser], torch.finfo(dtype).eps
    u = torch.tensor([0.0, eps / 2, eps, 0.25, 0.5, 0.75, 1 - eps, 1 - eps / 2], dtype=dtype)
    x = torch.tensor([-math.inf, -6e4, -1.0, 0.0, 0.4, 6e4, math.inf], dtype=dtype).repeat_interleave(len(u))
    monkeypatch.setattr(kernels, "uniforms", lambda n, keys, dtype: u.repeat(n // len(u)))
    out = Quantise(q, density(name), "random", std=0.2)(x)
    assert torch.isin(out, torch.tensor(q.levels).to(dtype)).all() and out[0] == out.min() and out[-1] == out.max()


@pytest.mark.parametrize("name", MAIN)
def test_frequencies_of_draws_are_the_level_probabilities(name):
    draws, x = 20_000, np.array([-1.3, -0.2, 0.05, 0.9])
    module = Quantise(QUANTISERS["uneven"], density(name), "random", -0.2, 0.6, torch.Generator().manual_seed(5))
    out = module(torch.from_numpy(np.tile(x, (draws, 1)))).numpy()
    counts = (out[..., np.newaxis] == QUANTISERS["uneven"].levels).sum(axis=0)
    r = Regularisation(QUANTISERS["uneven"], density(name).noise(-0.2, 0.6))
    low, high = stats.binom.interval(1 - 1e-6, draws, r.probabilities(x).clip(0, 1))
    assert ((counts >= low) & (counts <= high)).all()


# The mode -----------------------------------------------------------------------------------------------------------


@every_density
@pytest.mark.parametrize("quantiser", ["ternary", "uneven", "grid"])
@pytest.mark.parametrize("spread", [0.2, 1.0, 6.0])
def test_mode_under_a_density_is_a_most_probable_level(name, quantiser, spread):
    q, std = QUANTISERS[quantiser], spread * float(QUANTISERS[quantiser].steps.min())
    x = np.random.default_rng(2).uniform(q.thresholds[0] - 5 * std, q.thresholds[-1] + 5 * std, 1500)
    r = Regularisation(q, density(name).noise(0.3, std))
    p = r.probabilities(x)
    out = Quantise(q, density(name), "mode", 0.3, std)(torch.from_numpy(x)).numpy()
    chosen = p[np.arange(len(x)), np.searchsorted(q.levels, out)]
    assert (chosen >= p.max(axis=1) - 1e-12).all()


def test_mode_need_not_rise_with_x_and_is_followed_where_it_falls():
    # Two narrow humps, three bins apart: the level of one hump's bin, then of the other's, in turn.
    two = Density(
        sp.Piecewise((sp.Rational(11, 10), t < HALF), (0, t < sp.Rational(5, 2)), (sp.Rational(9, 10), True)), t, (0, 3)
    )
    q = Quantiser.linear(3, signed=False, quantum=1.0)
    std = float(two.std)
    r = Regularisation(q, two.noise(0.0, std))
    x = np.linspace(-2, 10, 3001)
    clear = ~r.is_tie(x)
    expected = r.mode(x)
    assert (np.diff(expected[clear]) < 0).any()
    out = Quantise(q, two, "mode", 0.0, std)(torch.from_numpy(x)).numpy()
    assert np.array_equal(out[clear], expected[clear])


def test_mode_of_an_even_density_has_the_quantisers_own_thresholds():
    q = QUANTISERS["grid"]
    for name in ("laplace", "raised_cosine", "lopsided"):
        levels, starts, offset = mode_stair(density(name).placed_law()[0], q, 0.05)
        straight = slice(1, -1) if name == "laplace" else slice(None)  # unbounded noise knows that the outer bins are wide
        assert np.array_equal(levels, q.levels) and np.array_equal(starts[straight], q.thresholds[straight])
        assert (offset == 0.0) == (name != "lopsided")


# Modules and networks -----------------------------------------------------------------------------------------------


def test_default_noise_of_a_density_spans_half_the_smallest_step():
    for name in ("raised_cosine", "lopsided"):
        module = Quantise(TERNARY, density(name))
        assert density(name).noise(0.0, module.std).half_width == pytest.approx(0.5, rel=1e-12)
    noise = density("exponential").noise(0.0, Quantise(TERNARY, density("exponential")).std)
    assert noise.cdf(0.5) - noise.cdf(-0.5) == pytest.approx(0.95, abs=1e-9)


def test_dirac_limit_and_evaluation_mode_know_no_density():
    x = points(TERNARY, torch.float32)
    for strategy in kernels.STRATEGIES:
        module = Quantise(TERNARY, density("lopsided"), strategy, 0.375, 0.0)
        out, grad = both(module, x)
        assert torch.equal(out, TERNARY(x - 0.375)) and not grad.any()
        module.set_noise(0.1, 0.2)
        out, grad = both(module.eval(), x)
        assert torch.equal(out, TERNARY(x)) and not grad.any()


def test_copies_and_pickles_keep_the_density():
    module = Quantise(TERNARY, density("mixture"), "expectation", 0.1, 0.2)
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    x = points(TERNARY, torch.float64)
    for other in (copy.deepcopy(module), torch.load(buffer, weights_only=False)):
        assert other.noise == module.noise and torch.equal(other(x), module(x))
    assert dict(module.state_dict()) == {}
    assert "noise=Density(expression=Piecewise(" in repr(module)


def test_networks_of_different_densities_are_described_apart_and_equal_ones_alike():
    def net(name):
        return training.quantise(
            nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), TERNARY, TERNARY, noise=density(name)
        )

    first, second = describe_network(net("laplace")), describe_network(net("lopsided"))
    assert first != second and first == describe_network(net("laplace"))
    assert describe_network(copy.deepcopy(net("laplace"))) == first
    program = """
import sympy as sp, torch
from torch import nn
from anabook import Quantiser, training
from anabook.symbolic import Density
from anabook.training.checkpoint import describe_network
t, q = sp.Symbol("t"), Quantiser.ternary()
net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
print(describe_network(training.quantise(net, q, q, noise=Density(sp.exp(-sp.Abs(t)) / 2, t))))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == first


def test_vmap_autocast_and_a_users_compilation_take_a_density():
    module, x = Quantise(TERNARY, density("raised_cosine"), "expectation"), points(TERNARY, torch.float32, 600)
    expected, slope = both(module, x)
    assert torch.equal(torch.func.vmap(module)(x.reshape(6, 100)).flatten(), expected)
    slopes = torch.func.vmap(torch.func.grad(lambda v: module(v).sum()))(x.reshape(6, 100))
    torch.testing.assert_close(slopes.flatten(), slope)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(module(x), expected)
    torch._dynamo.reset()
    program = torch.compile(module, backend="aot_eager", fullgraph=True)
    out, grad = both(program, x)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(grad, slope)


@every_strategy
def test_digits_are_learnt_with_a_density(strategy):
    digits = datasets.digits()
    torch.manual_seed(0)
    net = training.quantise(models.mlp(64, (64,)), TERNARY, TERNARY, noise=density("lopsided"), strategy=strategy)
    schedule = Schedule(
        n_layers=1,
        interval="same_end",
        power_law="homogeneous",
        start=0,
        end=12,
        mean0=0.0,
        std0=training.layers(net)[0].weight.std,
    )
    history = training.fit(
        net,
        digits.train,
        schedule,
        epochs=12,
        batch_size=64,
        lr=0.01,
        test=digits.test,
        initialise="near_thresholds",
        seed=1,
        progress=False,
    )
    assert history[-1].test.accuracy > 0.85


# Bad input ----------------------------------------------------------------------------------------------------------


def test_the_four_families_need_neither_sympy_nor_the_symbolic_package():
    program = """
import sys, torch
before = "sympy" in sys.modules
from anabook import Quantiser, training
net = training.quantise(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU()), Quantiser.ternary(),
                        Quantiser.ternary(), noise="logistic", strategy="random", keep=())
net(torch.ones(1, 2)).sum().backward()
print(("sympy" in sys.modules) == before, "anabook.symbolic" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-2:] == ["True", "False"]


@pytest.mark.parametrize(
    "expression, support, message",
    [
        (
            1 / (sp.pi * (1 + t**2)),
            (-sp.oo, sp.oo),
            r"needs a finite mean and a finite standard deviation, .* nan and nan\.",
        ),
        (2 / t**3, (1, sp.oo), r"finite standard deviation, but those of this density are 2 and oo\."),
    ],
)
def test_densities_without_a_standard_deviation_are_refused(expression, support, message):
    with pytest.raises(ValueError, match=message):
        Quantise(TERNARY, Density(expression, t, support))


def test_parameters_without_values_are_refused():
    a = sp.Symbol("a", positive=True)
    open_density = Density(a * sp.exp(-a * t), t, (0, sp.oo), (a,))
    with pytest.raises(ValueError, match=r"parameters without values \(a\); give them by subs first\."):
        Quantise(TERNARY, open_density)
    Quantise(TERNARY, open_density.subs({a: 2}))


@pytest.mark.parametrize(
    "expression, support",
    [
        (sp.exp(-(t**4)) / (2 * sp.gamma(sp.Rational(5, 4))), (-sp.oo, sp.oo)),
        (sp.exp(t**2) / (sp.sqrt(sp.pi) * sp.erfi(1)), (-1, 1)),  # ∫ exp(t²) is a function that torch lacks
        (1 / (sp.pi * sp.sqrt(t * (1 - t))), (0, 1)),
    ],
    ids=["quartic", "bathtub", "arcsine"],
)
def test_a_density_without_a_distribution_function_in_torch_trains_with_every_strategy(expression, support):
    law = Density(expression, t, support)
    r, x = Regularisation(TERNARY, law.noise(0.0, 0.3)), points(TERNARY, torch.float64, 400)
    for dtype in (torch.float32, torch.float64):
        for strategy in kernels.STRATEGIES:
            out, grad = both(Quantise(TERNARY, law, strategy, std=0.3), x.to(dtype))
            assert torch.isin(out, torch.tensor(TERNARY.levels).to(dtype)).all() or strategy == "expectation"
            np.testing.assert_allclose(grad.double(), r.derivative(x.to(dtype).double().numpy()), rtol=1e-3, atol=1e-4)
            if strategy == "expectation":
                np.testing.assert_allclose(
                    out.double(), r(x.to(dtype).double().numpy()), rtol=0, atol=1e-12 if dtype == torch.float64 else 2e-5
                )


def test_a_table_in_torch_takes_transformations_and_compilation():
    law = Density(sp.exp(-(t**4)) / (2 * sp.gamma(sp.Rational(5, 4))), t)
    module, x = Quantise(TERNARY, law, "expectation", std=0.3), points(TERNARY, torch.float32, 600)
    expected, slope = both(module, x)
    assert torch.equal(torch.func.vmap(module)(x.reshape(6, 100)).flatten(), expected)
    torch._dynamo.reset()
    program = torch.compile(module, backend="aot_eager", fullgraph=True)
    out, grad = both(program, x)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(grad, slope)


def test_functions_that_torch_lacks_are_named():
    bessel = Density(sp.besseli(0, t) / sp.integrate(sp.besseli(0, t), (t, 0, 1)), t, (0, 1))
    with pytest.raises(ValueError, match=r"^torch has no besseli, which this density needs: "):
        Quantise(TERNARY, bessel, "mode")


@pytest.mark.parametrize("noise", [3, None, sp.exp(-t), density, np.ones(3)])
def test_what_is_neither_a_family_nor_a_density_is_refused(noise):
    with pytest.raises(TypeError, match=r"^noise must be one of 'uniform', .*, or an anabook\.symbolic\.Density, not "):
        Quantise(TERNARY, noise)
