"""Small tensors over NumPy: the same as the kernels, wherever they are for it."""

import copy
import threading
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from anabook import Quantiser
from anabook.training import Quantise, Scaled, kernels, small
from anabook.training.draws import uniforms, uniforms_of

FAMILIES = ("uniform", "triangular", "normal", "logistic")
QUANTISERS = {
    "ternary": Quantiser.ternary(),
    "sign": Quantiser([-1.0, 1.0], [0.0]),
    "uneven": Quantiser([-1.0, 0.3, 0.4, 2.0], [-0.7, 0.1, 1.0]),
    "4 bits": Quantiser.linear(4, quantum=0.3, rounding="nearest"),
    "8 bits": Quantiser.linear(8, quantum=0.1, rounding="nearest"),
}
NOISES = ((0.0, None), (0.0, 0.05), (0.2, 0.04))


@pytest.fixture(autouse=True)
def _nothing_compiled():
    with kernels.compiling(None):
        yield


@pytest.fixture
def general(monkeypatch):
    """Calls a function with no tensor small."""

    def call(function, *args):
        with monkeypatch.context() as patch:
            patch.setattr(small, "MOST", -1)
            return function(*args)

    return call


def points(quantiser, dtype, n=300, seed=0):
    """Numbers around the thresholds, the thresholds and levels themselves, zeros of both signs, infinities, NaN, huge ones."""
    generator = torch.Generator().manual_seed(seed)
    spread = float(quantiser.levels[-1] - quantiser.levels[0])
    x = (torch.rand(n, generator=generator, dtype=torch.float64) - 0.5) * 2 * spread
    special = torch.tensor(
        [0.0, -0.0, torch.nan, torch.inf, -torch.inf, 1e30, -3e38, 1e-40, *quantiser.levels, *quantiser.thresholds]
    )
    return torch.cat([x, special]).to(dtype)


def passes(module, x, grad):
    torch.manual_seed(1)
    x = x.detach().requires_grad_()
    y = module(x)
    return y.detach(), torch.autograd.grad(y, x, grad)[0]


def assert_alike(found, expected, exact):
    """Equal, or apart by a few roundings of the largest number."""
    assert found.dtype == expected.dtype and found.shape == expected.shape and found.is_contiguous()
    if exact:
        assert torch.equal(found.nan_to_num(7.5, 8.5, 9.5), expected.nan_to_num(7.5, 8.5, 9.5))
    scale = expected[expected.isfinite()].abs().max().item()
    torch.testing.assert_close(found, expected, rtol=0, atol=32 * torch.finfo(found.dtype).eps * scale, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("strategy", kernels.STRATEGIES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", QUANTISERS)
def test_small_tensors_get_what_large_ones_get(name, family, strategy, dtype, general):
    quantiser = QUANTISERS[name]
    x = points(quantiser, dtype)
    grad = torch.randn(len(x), dtype=dtype)
    for mean, std in NOISES:
        module = Quantise(quantiser, family, strategy, mean=mean, std=std)
        assert module.plan(dtype, x.device).small(x) is not None
        (y, slope), (large_y, large_slope) = passes(module, x, grad), general(passes, module, x, grad)
        assert_alike(y, large_y, exact=family in ("uniform", "triangular") or strategy != "expectation")
        usual = x.abs() < 1e29  # the slope of an infinite number is 0, and no NaN
        assert torch.equal(slope[~usual].isnan(), x[~usual].isnan()) and not slope[~usual].nan_to_num(0.0).any()
        assert_alike(slope[usual], large_slope[usual], exact=family in ("uniform", "triangular"))
        assert torch.equal(slope.isnan(), large_slope.isnan())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("std", [0.0, 0.2])
def test_without_noise_the_gradient_is_zero(std, training, general):
    module = Quantise(QUANTISERS["uneven"], std=std, mean=0.1).train(training)
    x = points(QUANTISERS["uneven"], torch.float32)
    grad = torch.randn(len(x))
    for found, expected in zip(passes(module, x, grad), general(passes, module, x, grad)):
        assert_alike(found, expected, exact=True)
        assert training and std or not passes(module, x, grad)[1].any()


SHAPES = {
    "one number": lambda: torch.randn(()),
    "one element": lambda: torch.randn(1),
    "none": lambda: torch.randn(0),
    "none in three axes": lambda: torch.randn(2, 0, 3),
    "four axes": lambda: torch.randn(2, 3, 4, 5),
    "every other": lambda: torch.randn(60)[::2],
    "transposed": lambda: torch.randn(6, 7).T,
    "expanded": lambda: torch.randn(5, 1).expand(5, 4),
    "a part of a larger one": lambda: torch.randn(8, 8)[2:5, 1:6],
    "channels last": lambda: torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
    "a parameter": lambda: nn.Parameter(torch.randn(9)),
    "negative by a bit": lambda: torch.randn(12, dtype=torch.complex64).conj().imag,
}


@pytest.mark.parametrize("strategy", kernels.STRATEGIES)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_and_order_of_memory(shape, strategy, general):
    x = SHAPES[shape]()
    module = Quantise(QUANTISERS["ternary"], "uniform", strategy)
    for grad in (torch.randn(x.shape), torch.tensor(0.5).expand(x.shape)):
        for found, expected in zip(passes(module, x, grad), general(passes, module, x, grad), strict=True):
            assert torch.equal(found, expected) and (found.stride() == expected.stride() or not x.numel())


def test_results_are_tensors_of_their_own():
    module = Quantise(QUANTISERS["ternary"], "uniform", "expectation")
    x = torch.randn(50)
    with torch.no_grad():
        y = module(x.requires_grad_())
    assert not y.requires_grad and torch.equal(y, module(x).detach())
    before = y.clone()
    y.add_(1.0)
    assert torch.equal(module(x).detach(), before)
    with torch.inference_mode():
        assert module(x).is_inference()
    out = module(x)
    out *= 2  # in place, behind a step of autograd's graph
    out.sum().backward()
    assert torch.equal(x.grad, 2 * passes(module, x, torch.ones(50))[1])


def test_an_input_that_was_changed_in_between_is_refused():
    x = torch.randn(20, requires_grad=True)
    u = x * 1.0
    y = Quantise(QUANTISERS["ternary"])(u)
    u.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("family", FAMILIES[1:])
def test_second_derivatives(family, general):
    module = Quantise(QUANTISERS["ternary"], family, "expectation")
    x = torch.linspace(-1.4, 1.5, 37, dtype=torch.float64, requires_grad=True)

    def second():
        (first,) = torch.autograd.grad(module(x).sin().sum(), x, create_graph=True)
        return torch.autograd.grad(first.pow(2).sum(), x)[0]

    torch.testing.assert_close(second(), general(second), rtol=1e-12, atol=1e-12)
    assert second().abs().max() > 0.1


def test_transformations_of_the_backward_pass():
    module = Quantise(QUANTISERS["ternary"], "uniform", "mode")
    x = torch.linspace(-1.4, 1.5, 20, requires_grad=True)
    slope = passes(module, x, torch.ones(20))[1]
    directions = torch.randn(3, 20)
    (rows,) = torch.autograd.grad(module(x), x, directions, is_grads_batched=True)
    assert torch.equal(rows, directions * slope)
    y = module(x)
    (rows,) = torch.func.vmap(lambda d: torch.autograd.grad(y, x, d, retain_graph=True))(directions)
    assert torch.equal(rows, directions * slope)
    assert torch.equal(torch.func.jacrev(module)(x.detach()), torch.diag(slope))


def test_draws_are_the_same_and_take_the_same_from_the_generator():
    ours, theirs = (torch.Generator().manual_seed(5) for _ in range(2))
    module = Quantise(QUANTISERS["ternary"], strategy="random", generator=theirs)
    for _ in range(5):
        keys, drawn = small.keys(ours), module.keys(torch.device("cpu"))
        assert [int(key) for key in keys] == [key % 2**32 for key in drawn.tolist()]
        for dtype, kind in ((torch.float32, np.float32), (torch.float64, np.float64)):
            found = uniforms_of(np.arange(500, dtype=np.uint32), keys, np.dtype(kind))
            assert found.dtype == kind and np.array_equal(found, uniforms(500, drawn, dtype).numpy())
    assert torch.equal(ours.get_state(), theirs.get_state())


def test_threads_do_not_disturb_each_others_draws():
    x = torch.randn(64)

    def draw(seed):
        module = Quantise(QUANTISERS["ternary"], strategy="random", generator=torch.Generator().manual_seed(seed))
        return torch.stack([module(x) for _ in range(200)])

    expected, found = [draw(seed) for seed in range(4)], {}
    threads = [threading.Thread(target=lambda seed=seed: found.update({seed: draw(seed)})) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[seed], expected[seed]) for seed in range(4))


def test_a_thread_may_begin_in_inference_mode():
    failed = []

    def work():
        module = Quantise(QUANTISERS["ternary"], strategy="random")
        try:
            with torch.inference_mode():
                module(torch.randn(9))
            module(torch.randn(9, requires_grad=True)).sum().backward()
        except RuntimeError as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failed


def test_numpy_says_nothing_and_is_left_as_it_was():
    x = torch.tensor([torch.inf, -torch.inf, torch.nan, 3e38, 1e-45], requires_grad=True)
    for family in FAMILIES:
        for strategy in kernels.STRATEGIES:
            with warnings.catch_warnings(), np.errstate(all="raise", under="warn"):
                warnings.simplefilter("error")
                before = np.geterr()
                y = Quantise(QUANTISERS["ternary"], family, strategy, std=1e-6)(x)
                y.backward(torch.full((5,), torch.inf))
                assert np.geterr() == before


def test_what_is_not_small():
    module = Quantise(QUANTISERS["ternary"], strategy="random")
    cpu = torch.device("cpu")

    def passes_for(module, x):
        return module.plan(x.dtype, cpu).small(x)

    assert passes_for(module, torch.zeros(small.MOST)) is not None
    assert passes_for(module, torch.zeros(small.MOST + 1)) is None
    assert passes_for(module, torch.zeros(4, dtype=torch.float16)) is None
    assert passes_for(module, torch.zeros(4, dtype=torch.bfloat16)) is None
    with kernels.compiling(1):
        assert passes_for(module, torch.zeros(4)) is None
    wide = Quantise(QUANTISERS["8 bits"], "normal", "expectation", std=5.0)
    assert passes_for(wide, torch.zeros(4)) is None
    assert passes_for(wide.eval(), torch.zeros(4)) is not None


def test_noise_that_is_set_counts_from_the_next_call_on(general):
    x, grad = torch.linspace(-2, 2, 30), torch.ones(30)
    for held in (False, True):
        module = Quantise(QUANTISERS["ternary"], "triangular", "expectation")
        module.hold(held)
        for mean, std in ((0.0, 0.3), (0.1, 0.2), (0.0, 0.1), (0.0, 0.0)):
            module.set_noise(mean, std)
            for found, expected in zip(passes(module, x, grad), general(passes, module, x, grad)):
                assert_alike(found, expected, exact=False)
            assert torch.equal(copy.deepcopy(module)(x), module(x))


@pytest.mark.parametrize("strategy", kernels.STRATEGIES)
def test_quanta_fixed_and_learned_by_channel(strategy, general):
    x, grad = torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    quanta = torch.tensor([0.2, 0.5, 1.0, 1.7], dtype=torch.float64)
    for module in (
        Scaled(Quantise(QUANTISERS["ternary"], "uniform", strategy), quanta),
        Quantise(QUANTISERS["ternary"], "uniform", strategy, quantum="learned", scale=quanta),
    ):
        for found, expected in zip(passes(module, x, grad), general(passes, module, x, grad)):
            torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


def test_a_network_of_small_layers_trains_to_the_same_bit(general):
    def trained():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(8, 16), Quantise(QUANTISERS["ternary"], "uniform", "random"), nn.Linear(16, 1))
        optimiser, x = torch.optim.Adam(net.parameters(), lr=0.05), torch.randn(32, 8)
        for _ in range(20):
            optimiser.zero_grad()
            (net(x) - x[:, :1]).pow(2).mean().backward()
            optimiser.step()
        return net[0].weight.detach()

    assert torch.equal(trained(), general(trained))
