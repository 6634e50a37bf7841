"""Learned quanta: the gradient of a quantum, and the two published methods that are special cases of it."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import sympy as sp
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.utils.checkpoint import checkpoint

from anabook import Noise, Quantiser, Regularisation, laws, symbolic, variants
from anabook.noise import FAMILIES
from anabook.training import Learned, Quantise, Scaled, kernels

TERNARY = Quantiser.ternary()
SIGNED = Quantiser.linear(4, rounding="nearest")
UNSIGNED = Quantiser.linear(4, signed=False, rounding="nearest")
EIGHT_BITS = Quantiser.linear(8, rounding="nearest")
UNEVEN = Quantiser([-2.0, -1.0, 0.0, 1.5, 4.0], [-1.2, -0.3, 0.4, 2.0])


def laplace_density(t, m):
    return m.exp(-m.root(2) * m.abs(t)) / m.root(2)


def laplace_distribution(t, m):
    return laws.symmetric(t, m, m.exp(-m.root(2) * m.abs(t)) / 2)


def laplace_end(m):
    return laws.Decay(exponent=1, rate=m.root(2), coefficient=m.one / 2)


LAPLACE = laws.Law(
    "a Laplace law",
    density=laplace_density,
    distribution=laplace_distribution,
    ends=laplace_end,
    kinks=(0.0,),
    log_concave=True,
)
every_family = pytest.mark.parametrize("family", FAMILIES)
every_gradient = pytest.mark.parametrize("quantum_gradient", ["value", "expectation"])


def numbers(*shape, spread=2.0, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(0, spread, shape))


def learned(quantiser, noise="uniform", strategy="mode", scale=0.37, mean=0.0, std=None, **settings):
    """In float64."""
    scale = torch.as_tensor(scale, dtype=torch.float64)
    return Quantise(quantiser, noise, strategy, mean, std, quantum="learned", scale=scale, **settings)


def both(module, x, weights, seed=0, plainly=False):
    """Output, and the gradients of the input and of the quantum."""
    x = x.detach().clone().requires_grad_()
    module.scale.grad = None
    torch.manual_seed(seed)
    out = module._composed(x) if plainly else module(x)
    out.backward(weights)
    return out.detach(), x.grad, module.scale.grad.clone()


# LSQ and PACT -------------------------------------------------------------------------------------------------------


def lsq(v, s, low, high):
    """Learned step sizes from the published formulas: v̂, ∂v̂/∂v and ∂v̂/∂s."""
    u = v / s
    value = torch.round(torch.clamp(u, -low, high)) * s
    inside = (-low < u) & (u < high)
    of_s = torch.where(
        inside, torch.round(u) - u, torch.where(u <= -low, -low * torch.ones_like(u), high * torch.ones_like(u))
    )
    return value, inside.to(u.dtype), of_s


@pytest.mark.parametrize("quantiser, low, high", [(SIGNED, 8, 7), (UNSIGNED, 0, 15), (TERNARY, 1, 1)])
@pytest.mark.parametrize("what", ["features", "weights", "channels"])
def test_lsq_is_uniform_noise_and_the_mode(quantiser, low, high, what):
    v, weights = numbers(6, 5, 40), numbers(6, 5, 40, seed=1)
    s = torch.tensor(0.31, dtype=torch.float64) if what != "channels" else numbers(6, 1, 1, seed=2).abs() / 3 + 0.1
    value, of_v, of_s = lsq(v, s, low, high)
    n = {"features": 5 * 40, "weights": 6 * 5 * 40, "channels": 5 * 40}[what]
    module = Learned(Quantise(quantiser), s, gradient_scale="lsq", batched=what == "features")
    out, grad, of_quantum = both(module, v, weights)
    expected = (weights * of_s).sum_to_size(s.shape) / (n * high) ** 0.5
    torch.testing.assert_close(out, value, rtol=0, atol=1e-12)
    torch.testing.assert_close(grad, weights * of_v, rtol=0, atol=1e-12)
    torch.testing.assert_close(of_quantum, expected, rtol=1e-12, atol=1e-12)
    assert 0.05 < of_v.mean() < 1  # both parts of the formula are met


def pact(x, alpha, bits):
    """A parametrised clipping activation from the published formulas: y, ∂y/∂x and ∂y/∂α."""
    steps = 2**bits - 1
    clipped = 0.5 * (x.abs() - (x - alpha).abs() + alpha)
    return (
        torch.round(clipped * steps / alpha) * alpha / steps,
        ((x >= 0) & (x < alpha)).to(x.dtype),
        (x >= alpha).to(x.dtype),
    )


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_pact_is_the_learned_upper_end(bits):
    x, weights = numbers(50, 40), numbers(50, 40, seed=1)
    alpha, n = torch.tensor(1.7, dtype=torch.float64), 2**bits - 1
    quantiser = Quantiser.linear(bits, signed=False, rounding="nearest")
    module = learned(quantiser, scale=alpha / n, quantum_gradient="expectation")
    value, of_x, of_alpha = pact(x, alpha, bits)
    out, grad, of_quantum = both(module, x, weights)
    torch.testing.assert_close(out, value, rtol=0, atol=1e-12)
    torch.testing.assert_close(grad, weights * of_x, rtol=0, atol=1e-12)
    torch.testing.assert_close(of_quantum / n, (weights * of_alpha).sum(), rtol=1e-12, atol=1e-12)


def test_lsq_has_the_rounding_error_more_than_pact_and_nothing_else():
    x, s, ones = numbers(50, 40), 0.2, torch.ones(50, 40, dtype=torch.float64)
    of_lsq, of_pact = (
        both(learned(UNSIGNED, scale=s, quantum_gradient=name), x, ones)[2] for name in ("value", "expectation")
    )
    u = x / s
    error = torch.where((u > 0) & (u < 15), torch.round(u) - u, torch.zeros_like(u)).sum()
    torch.testing.assert_close(of_lsq - of_pact, error, rtol=0, atol=1e-10)
    assert error.abs() > 0.1


# The derivative -----------------------------------------------------------------------------------------------------


def expectation(quantiser, noise, x, scale):
    """ε·E[σ(x/ε − ν)] by NumPy."""
    return scale * Regularisation(quantiser, noise)(x / scale)


@every_family
@every_gradient
@pytest.mark.parametrize("quantiser, std", [(TERNARY, 0.3), (UNEVEN, 0.5), (EIGHT_BITS, 6.0)])
def test_gradient_of_the_expectation_is_its_derivative(family, quantum_gradient, quantiser, std):
    """By differences of the average as NumPy has it, whose third derivatives bound what they are wrong by."""
    x, weights, s, h = numbers(400, spread=1.5), numbers(400, seed=1), 0.6, 1e-5
    if quantiser is EIGHT_BITS:
        x = x * 20
    noise = Noise(family, 0.1, std)
    high, low = (expectation(quantiser, noise, x.numpy(), s + d) for d in (h, -h))
    module = learned(quantiser, family, "expectation", s, 0.1, std, quantum_gradient=quantum_gradient)
    out, _, _ = both(module, x, torch.ones_like(x))
    np.testing.assert_allclose(out, expectation(quantiser, noise, x.numpy(), s), rtol=0, atol=1e-10)
    each = both(
        learned(quantiser, family, "expectation", torch.full((400,), s, dtype=torch.float64), 0.1, std),
        x,
        torch.ones_like(x),
    )[2].numpy()
    # Where a density jumps or bends within the difference, it has no derivative to compare with.
    wide = (high - low) / (2 * h)
    assert (np.abs(each - wide) < 1e-6 * np.maximum(np.abs(wide), 1)).mean() > 0.99
    total = both(module, x, weights)[2].item()
    np.testing.assert_allclose(total, (weights.numpy() * each).sum(), rtol=1e-10)


@pytest.mark.parametrize("noise", ["normal", "logistic", LAPLACE, variants.VARIANTS["sigmoid"]])
def test_gradcheck_of_input_and_quantum(noise):
    x = numbers(3, 8).requires_grad_()
    module = learned(UNEVEN, noise, "expectation", numbers(3, 1, seed=4).abs() + 0.3, std=0.4)

    def call(x, scale):
        module.scale.data.copy_(scale.data)
        return torch.func.functional_call(module, {"scale": scale}, (x,))

    scale = module.scale.detach().clone().requires_grad_()
    assert gradcheck(call, (x, scale))
    assert gradgradcheck(call, (x, scale))


@pytest.mark.parametrize("noise", [*FAMILIES, LAPLACE])
@pytest.mark.parametrize("strategy", ["mode", "random", "expectation"])
@pytest.mark.parametrize("std", [0.25, 3.0])
def test_the_identity_holds_for_every_strategy(noise, strategy, std):
    """∂y/∂ε = y/ε − (x/ε)·m′(x/ε) with the output that was given and the slope of the input's gradient."""
    x, s = numbers(30, 20), 0.45
    for quantiser in (TERNARY, UNEVEN, EIGHT_BITS):
        module = learned(quantiser, noise, strategy, s, 0.1, std)
        out, slope, _ = both(module, x, torch.ones_like(x))
        inner = Quantise(quantiser, noise, strategy, 0.1, std)
        u = (x / s).requires_grad_()
        torch.manual_seed(0)
        value = inner(u)
        value.sum().backward()
        torch.testing.assert_close(out, value.detach() * s, rtol=1e-14, atol=0)
        torch.testing.assert_close(slope, u.grad, rtol=1e-12, atol=1e-12)
        weights = numbers(30, 20, seed=5)
        total = both(module, x, weights)[2]
        torch.testing.assert_close(total, (weights * (out / s - x / s * slope)).sum(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["fast_sigmoid", "super_spike", "identity", "multi_gauss"])
def test_variants_of_the_zoo_that_are_no_noise_have_their_own_slope(name):
    x = numbers(200)
    module = learned(TERNARY, variants.VARIANTS[name], "mode", 0.5)
    out, grad, total = both(module, x, torch.ones_like(x))
    u = (x / 0.5).requires_grad_()
    Quantise(TERNARY, variants.VARIANTS[name]).forward(u).sum().backward()
    torch.testing.assert_close(grad, u.grad, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(total, (out / 0.5 - u.detach() * u.grad).sum(), rtol=1e-12, atol=1e-12)


RAISED_COSINE = symbolic.Density((1 + sp.cos(sp.pi * symbolic.x)) / 2, symbolic.x, (-1, 1))


@pytest.mark.parametrize(
    "noise", [*FAMILIES, LAPLACE, RAISED_COSINE], ids=lambda noise: noise if isinstance(noise, str) else type(noise).__name__
)
@pytest.mark.parametrize("strategy", ["mode", "random"])
def test_the_gradient_of_the_expectation_goes_with_any_strategy(noise, strategy):
    x, weights = numbers(60, 20), numbers(60, 20, seed=1)
    own, average = (
        learned(UNEVEN, noise, name, 0.5, 0.1, 0.3, quantum_gradient=gradient)
        for name, gradient in ((strategy, "expectation"), ("expectation", "value"))
    )
    for module in (own, pickle.loads(pickle.dumps(own)), copy.deepcopy(own)):
        out, grad, total = both(module, x, weights)
        _, same_grad, expected = both(average, x, weights)
        torch.testing.assert_close(grad, same_grad, rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(total, expected, rtol=1e-12, atol=1e-12)
        assert torch.isin((out / 0.5).round(decimals=9), torch.tensor(UNEVEN.levels)).all()  # not the average
    plainly = both(own, x, weights, plainly=True)
    assert torch.equal(plainly[0], out)
    torch.testing.assert_close(plainly[2], total, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("strategy", ["expectation", "mode", "random"])
@every_gradient
def test_without_noise_the_gradient_is_the_level(strategy, quantum_gradient):
    x, weights = numbers(50, 20), numbers(50, 20, seed=1)
    module = learned(UNEVEN, "normal", strategy, 0.5, std=0.3, quantum_gradient=quantum_gradient)
    level = torch.from_numpy(UNEVEN((x / 0.5).numpy()))
    for silence in (lambda: module.quantise.set_noise(0.0, 0.0), module.eval):
        silence()
        out, grad, total = both(module, x, weights)
        torch.testing.assert_close(out, 0.5 * level, rtol=0, atol=0)
        assert not grad.any()
        torch.testing.assert_close(total, (weights * level).sum(), rtol=1e-12, atol=1e-12)


# Sums, types and ways to compute ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape, axes", [((), (0, 1, 2)), ((6, 1, 1), (1, 2)), ((1, 5, 1), (0, 2)), ((7,), (0, 1)), ((6, 5, 7), ())]
)
@pytest.mark.parametrize("strategy", ["mode", "random"])
def test_gradient_is_added_up_over_the_elements_that_share_a_quantum(shape, axes, strategy):
    x, weights = numbers(6, 5, 7), numbers(6, 5, 7, seed=1)
    scale = numbers(*shape, seed=2).abs() + 0.2
    out, grad, total = both(learned(SIGNED, "normal", strategy, scale, 0.1, 0.4), x, weights)
    each = learned(SIGNED, "normal", strategy, scale.expand(6, 5, 7).contiguous(), 0.1, 0.4)
    same, same_grad, parts = both(each, x, weights)
    assert torch.equal(out, same) and torch.equal(grad, same_grad) and total.shape == shape
    parts = parts.sum(axes, keepdim=True) if axes else parts
    torch.testing.assert_close(total, parts.reshape(shape), rtol=1e-12, atol=1e-12)


@every_family
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [torch.tensor(0.3), torch.tensor([[0.3], [0.5], [0.2]])], ids=["one", "three"])
def test_one_pass_gives_what_single_operations_do(family, dtype, scale):
    wide = torch.promote_types(dtype, torch.float32)
    x, weights = numbers(3, 300).to(dtype), numbers(3, 300, seed=1).to(dtype)
    for strategy in kernels.STRATEGIES:
        for quantiser, std in ((TERNARY, 0.3), (EIGHT_BITS, 5.0)):
            module = Quantise(quantiser, family, strategy, 0.1, std, quantum="learned", scale=scale.to(wide))
            passes, plain = both(module, x, weights), both(module, x, weights, plainly=True)
            terms = (weights.double() * x.double() / scale).abs().sum().item()  # of the quantum's gradient, which cancel
            for a, b, size in zip(passes, plain, (1.0, 1.0, terms)):
                eps = torch.finfo(torch.promote_types(a.dtype, torch.float32)).eps
                torch.testing.assert_close(a, b, rtol=4 * torch.finfo(a.dtype).eps, atol=4 * eps * size)
            assert [t.dtype for t in passes] == [dtype, dtype, module.scale.dtype]


@pytest.mark.parametrize("settings", [("uniform", "mode", 0.2887, ()), ("uniform", "random", 0.4, (8, 1))])
def test_compiled_passes_give_what_eager_ones_do_and_the_same_each_time(settings):
    family, strategy, std, shape = settings
    x, weights = numbers(8, 300).float(), numbers(8, 300, seed=1).float()
    module = Quantise(TERNARY, family, strategy, 0.0, std, quantum="learned", scale=torch.full(shape, 0.4))
    with kernels.compiling(None):
        eager = both(module, x, weights)
    with kernels.compiling(1), warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # a fallback must not go unnoticed
        compiled, again = both(module, x, weights), both(module, x, weights)
    for a, b, c in zip(eager, compiled, again):
        assert torch.equal(b, c)
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-4)


def test_layouts_of_memory_and_a_graph_of_its_own_make_no_difference():
    x, weights = numbers(4, 3, 5, 6), numbers(4, 3, 5, 6, seed=1)
    for scale in (torch.tensor(0.4), numbers(1, 3, 1, 1).abs() + 0.2):
        module = learned(SIGNED, "normal", "random", scale, std=0.3)
        expected = both(module, x, weights)
        views = (x.contiguous(memory_format=torch.channels_last), x.permute(3, 0, 1, 2).contiguous().permute(1, 2, 3, 0))
        for view in views:
            for a, b in zip(both(module, view, weights), expected):
                torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_under_torchs_transformations_the_gradients_are_the_same():
    x, weights = numbers(5, 8), numbers(5, 8, seed=1)
    module = learned(SIGNED, "logistic", "mode", torch.tensor(0.4), std=0.3, gradient_scale=0.25)
    _, grad, total = both(module, x, weights)

    def loss(scale, x, weights):
        return (torch.func.functional_call(module, {"scale": scale}, (x,)) * weights).sum()

    scale = module.scale.detach()
    of_scale, of_x = torch.func.grad(loss, argnums=(0, 1))(scale, x, weights)
    torch.testing.assert_close((of_scale, of_x), (total, grad))
    rows = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(scale, x, weights)
    torch.testing.assert_close(rows.sum(), total)
    _, tangent = torch.func.jvp(lambda s: loss(s, x, weights), (scale,), (torch.ones_like(scale),))
    torch.testing.assert_close(tangent, total)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(both(module, x, weights), (compiled(x).detach(), grad, total))
    module.scale.grad = None
    compiled(x).backward(weights)
    torch.testing.assert_close(module.scale.grad, total)


def test_the_output_can_be_changed_in_place_and_an_infinite_input_leaves_the_quantum_finite():
    module = learned(SIGNED, scale=0.5)
    x = torch.tensor([0.7, -torch.inf, torch.inf], dtype=torch.float64, requires_grad=True)
    out = module(x)
    out += 1.0
    out.sum().backward()
    assert out.tolist() == [1.5, -3.0, 4.5] and x.grad.tolist() == [1.0, 0.0, 0.0]
    assert module.scale.grad.item() == pytest.approx(1 - 1.4 - 8 + 7)
    module(torch.tensor([torch.nan], dtype=torch.float64)).sum().backward()
    assert module.scale.grad.isnan()


@pytest.mark.parametrize("quantum_gradient", ["value", "expectation"])
@pytest.mark.parametrize("shape", [(), (2, 1)], ids=["layer", "channel"])
@pytest.mark.parametrize("way", ["eager", "create_graph", "composed", "compiled"])
@pytest.mark.parametrize("strategy", kernels.STRATEGIES)
def test_infinite_inputs_add_their_level_to_the_gradient_of_the_quantum_on_every_way(strategy, way, shape, quantum_gradient):
    scale = torch.full(shape, 0.5, dtype=torch.float64)
    module = learned(SIGNED, "uniform", strategy, scale=scale, quantum_gradient=quantum_gradient)
    x = torch.tensor([[-torch.inf, torch.inf, 9.0], [torch.inf, -torch.inf, -9.0]], dtype=torch.float64, requires_grad=True)
    if way == "create_graph":
        of_x, of_scale = torch.autograd.grad(module(x).sum(), (x, module.scale), create_graph=True)
        assert of_scale.requires_grad
        again = torch.autograd.grad(of_scale.sum() + of_x.sum(), (x, module.scale), allow_unused=True)
        assert all(each is None or not each.isnan().any() for each in again)
    else:
        call = {"eager": module, "composed": module._composed}.get(way) or torch.compile(module, backend="aot_eager")
        of_x, of_scale = torch.autograd.grad(call(x).sum(), (x, module.scale))
    assert torch.equal(of_x, torch.zeros_like(x))
    expected = torch.tensor([[-8.0 + 7 + 7], [7.0 - 8 - 8]], dtype=torch.float64)
    torch.testing.assert_close(of_scale, expected if shape else expected.sum())


def test_gradient_scale_counts_the_elements_that_share_a_quantum():
    x, weights = numbers(6, 5, 7), numbers(6, 5, 7, seed=1)
    for quantiser, highest in ((SIGNED, 7), (UNSIGNED, 15), (TERNARY, 1), (Quantiser.linear(4, quantum=0.25), 7)):
        for batched, shape, n in ((True, (), 35), (False, (), 210), (False, (6, 1, 1), 35)):
            scale = torch.full(shape, 0.4, dtype=torch.float64)
            inner = Quantise(quantiser, "normal", "mode")
            whole = both(Learned(inner, scale), x, weights)
            part = both(Learned(inner, scale, gradient_scale="lsq", batched=batched), x, weights)
            assert torch.equal(whole[0], part[0]) and torch.equal(whole[1], part[1])
            torch.testing.assert_close(part[2], whole[2] / (n * highest) ** 0.5, rtol=1e-14, atol=0)
            plain = both(Learned(inner, scale, gradient_scale="lsq", batched=batched), x, weights, plainly=True)
            torch.testing.assert_close(plain[2], part[2], rtol=1e-12, atol=1e-12)


# A module -----------------------------------------------------------------------------------------------------------


def test_quantise_with_a_learned_quantum_is_a_scaled_quantiser_with_a_parameter():
    module = Quantise(TERNARY, "normal", "mode", std=0.2, quantum="learned", scale=0.5)
    assert type(module) is Learned and isinstance(module, Scaled) and type(Quantise(TERNARY, quantum=None)) is Quantise
    assert [name for name, _ in module.named_parameters()] == ["scale"] and module.state_dict().keys() == {"scale"}
    fixed = Scaled(Quantise(TERNARY, "normal", "mode", std=0.2), 0.25)
    module.load_state_dict(fixed.state_dict())
    assert module.scale.item() == 0.25 and module.scale.requires_grad
    x = numbers(100).float()
    assert torch.equal(module.eval()(x), fixed.eval()(x)) and torch.equal(module.fixed()(x), fixed(x))
    assert not module.fixed().scale.requires_grad and not module.fixed().training
    assert "quantum=0.25" in repr(module)
    assert module.double().scale.dtype == torch.float64 and torch.equal(module(x.double()), fixed.double()(x.double()))
    assert module.bfloat16()(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "make, error, message",
    [
        (
            lambda: Quantise(TERNARY, quantum="learnt"),
            ValueError,
            "quantum must be one of 'learned', not 'learnt'. Did you mean",
        ),
        (lambda: Quantise(TERNARY, quantum=1.0), TypeError, "quantum must be one of 'learned', not 1.0"),
        (
            lambda: Quantise(TERNARY, "uniform", "mode", 0.0, 0.1, None, "learned"),
            TypeError,
            "takes from 2 to 7 positional arguments but 8 were given",
        ),
        (lambda: Quantise(TERNARY, scale=2.0), ValueError, "scale is for a learned quantum: pass quantum='learned'"),
        (lambda: learned(TERNARY, scale=0.0), ValueError, "scale must be finite and greater than 0 everywhere, not 0.0"),
        (lambda: learned(TERNARY, scale=-1.0), ValueError, "greater than 0 everywhere, not -1.0"),
        (lambda: learned(TERNARY, scale=torch.nan), ValueError, "scale must be finite"),
        (lambda: learned(TERNARY, scale=[1.0, torch.inf]), ValueError, r"not \[1.0, inf\]"),
        (lambda: Learned(Quantise(TERNARY), "a"), TypeError, "scale must be a number or a tensor of numbers, not 'a'"),
        (lambda: Learned(nn.ReLU()), TypeError, "a learned quantum needs a Quantise, not ReLU"),
        (lambda: Learned(learned(TERNARY)), TypeError, "a learned quantum needs a Quantise, not Learned"),
        (
            lambda: learned(TERNARY, quantum_gradient="ends"),
            ValueError,
            "quantum_gradient must be one of 'value', 'expectation'",
        ),
        (lambda: learned(TERNARY, gradient_scale="LSQ"), ValueError, "gradient_scale must be one of 'lsq', not 'LSQ'"),
        (lambda: learned(TERNARY, gradient_scale=0), ValueError, "gradient_scale must be .*greater than 0.*, not 0"),
        (
            lambda: learned(TERNARY, variants.VARIANTS["identity"], quantum_gradient="expectation"),
            ValueError,
            "quantum_gradient for identity must be 'value', not 'expectation', which needs a noise",
        ),
    ],
)
def test_what_a_learned_quantum_cannot_have_is_refused_in_one_sentence(make, error, message):
    with pytest.raises(error, match=message) as caught:
        make()
    assert str(caught.value).count("\n") == 0


def test_numbers_that_are_no_floats_are_refused():
    for x in (torch.ones(2, dtype=torch.int64), torch.ones(2, dtype=torch.complex64), [1.0]):
        with pytest.raises(TypeError, match="Quantise works on tensors of float16, bfloat16, float32 or float64, not on"):
            learned(TERNARY)(x)


def test_checkpointing_and_gradients_of_a_batch():
    x = numbers(4, 6).requires_grad_()
    weights = numbers(3, 4, 6, seed=1)
    for scale in (torch.tensor(0.4), torch.full((4, 1), 0.4)):
        module = learned(SIGNED, "normal", "random", scale, std=0.3)
        torch.manual_seed(0)
        out = module(x)
        each = [torch.autograd.grad(out, [x, module.scale], part, retain_graph=True) for part in weights]
        of_x, of_scale = torch.autograd.grad(out, [x, module.scale], weights, is_grads_batched=True, retain_graph=True)
        torch.testing.assert_close((of_x, of_scale), tuple(map(torch.stack, zip(*each))))
        for reentrant in (True, False):
            torch.manual_seed(0)
            again = checkpoint(module, x, use_reentrant=reentrant)
            x.grad = module.scale.grad = None
            again.backward(weights[0])
            assert torch.equal(again, out)
            torch.testing.assert_close((x.grad, module.scale.grad), each[0])
        with torch.inference_mode():
            torch.manual_seed(0)
            assert torch.equal(module(x), out)


@pytest.mark.parametrize("value", [0.0, -0.5, torch.nan, torch.inf])
def test_a_quantum_that_stops_being_positive_or_finite_is_refused_by_name(value):
    module = Learned(Quantise(TERNARY), torch.ones(3, 1), name="the weight of 'fc1'")
    with torch.no_grad():
        module.scale[1] = value
    with pytest.raises(
        FloatingPointError, match=f"the learned quantum of the weight of 'fc1' became {value:g}, and it must stay"
    ):
        module(torch.ones(3, 2))
