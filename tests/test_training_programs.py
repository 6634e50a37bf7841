"""Compiled kernels as programs of their own: which there are, and that they compute what the kernels do."""

import threading
import warnings

import pytest
import torch
from torch._dynamo.utils import counters

from anabook import Quantiser
from anabook.training import Quantise, kernels, programs

TERNARY = Quantiser.ternary()


@pytest.fixture
def fresh(monkeypatch):
    """No program is there, and what is made is forgotten."""
    monkeypatch.setattr(programs, "_programs", {})
    return programs._programs


def passes(module, x, grad):
    x = x.detach().clone().requires_grad_()
    torch.manual_seed(0)
    out = module(x)
    out.backward(grad)
    return out.detach(), x.grad


def same(module, x, grad):
    """Whether compiled and plain kernels give the same numbers."""
    with kernels.compiling(1):
        fused = passes(module, x, grad)
    with kernels.compiling(None):
        return all(torch.equal(a, b) for a, b in zip(fused, passes(module, x, grad)))


@pytest.mark.parametrize("strategy", ["expectation", "random"])
def test_one_program_a_pass_serves_all_lengths_of_a_class(strategy, fresh):
    module = Quantise(TERNARY, "triangular", strategy)
    for n in (2, 3, 64, 1000, 2**15 - 1):
        assert same(module, torch.randn(n), torch.randn(n))
    assert len(fresh) == 2
    for n in (2**15, 2**15 + 1, 2**18 + 3):
        assert same(module, torch.randn(n), torch.randn(n))
    assert len(fresh) == 4


def test_a_single_number_is_not_compiled_for(fresh):
    module = Quantise(TERNARY, "uniform", "expectation")
    assert same(module, torch.tensor([0.3]), torch.ones(1)) and same(module, torch.tensor(0.3), torch.tensor(1.0))
    assert same(module, torch.zeros(0), torch.zeros(0)) and not fresh


def test_a_program_for_long_tensors_belongs_to_a_number_of_threads(fresh):
    module, threads = Quantise(TERNARY, "uniform", "mode"), torch.get_num_threads()
    try:
        for n, number in ((100, 1), (100, 2), (2**16, 1), (2**16, 2)):
            torch.set_num_threads(number)
            assert same(module, torch.randn(n), torch.randn(n))
    finally:
        torch.set_num_threads(threads)
    assert len(fresh) == 2 + 2 + 2


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.expand(7, 40),
        lambda t: t.expand(7, 40).t(),
        lambda t: t.expand(7, 40)[:, ::3],
        lambda t: t.repeat(2, 3, 1).transpose(0, 2),
        lambda t: t.repeat(2, 3, 5, 1).to(memory_format=torch.channels_last),
        lambda t: t[1:],
    ],
    ids=["expanded", "expanded and transposed", "strided", "transposed", "channels last", "a part"],
)
def test_any_order_of_memory_gives_the_same_numbers(change):
    x, ones = change(torch.randn(40)), change(torch.randn(40))
    for strategy in kernels.STRATEGIES:
        module = Quantise(TERNARY, "uniform", strategy)
        assert same(module, x, ones) and same(module, x, ones.contiguous()) and same(module, x.contiguous(), ones)


def test_a_sums_gradient_has_one_number_in_memory():
    x, module = torch.randn(6, 50), Quantise(TERNARY, "uniform", "expectation")
    assert same(module, x, torch.ones(()).expand(6, 50)) and same(module, x.flatten(), torch.ones(()).expand(300))


def test_calls_go_past_the_entry_of_torch_compile(fresh):
    torch._dynamo.reset()
    counters.clear()
    assert same(Quantise(TERNARY, "uniform", "mode"), torch.randn(500), torch.randn(500))
    assert len(fresh) == 2 and not counters["frames"] and "unique_graphs" not in counters["stats"]


def test_programs_are_made_once_however_many_threads_ask(fresh):
    module, x, found = Quantise(TERNARY, "uniform", "expectation"), torch.randn(300), []

    def ask():
        found.append(module(x))

    with kernels.compiling(1):
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 4 and len(fresh) == 1 and all(torch.equal(out, found[0]) for out in found)


def test_a_kernel_that_depends_on_the_length_is_refused(fresh):
    def kernel(x, c, layout):
        return x * 2 if x.shape[0] < 3000 else x * 3

    with pytest.raises(RuntimeError, match="is compiled for lengths with"):
        programs.program("wrong", kernel, 1, [torch.zeros(5000), torch.zeros(2)], (kernels.Loop(2),))
    assert not fresh


def test_what_goes_wrong_within_a_program_is_not_hidden(monkeypatch):
    def program(*_):
        raise RuntimeError("no such instruction")

    monkeypatch.setattr(kernels, "program", program)
    monkeypatch.setattr(kernels, "_broken", False)
    x = torch.randn(50)
    with (
        kernels.compiling(1),
        pytest.warns(RuntimeWarning, match="run uncompiled, several times slower: no such instruction"),
    ):
        out = Quantise(TERNARY, "uniform", "expectation")(x)
    assert kernels._broken and torch.equal(out, Quantise(TERNARY, "uniform", "expectation")(x))


def test_gradients_come_in_batches_too():
    module, x = Quantise(TERNARY, "normal", "expectation"), torch.randn(4, 6, requires_grad=True)
    many = torch.randn(3, 4, 6)
    each = torch.stack([torch.autograd.grad(module(x), x, grad)[0] for grad in many])
    with kernels.compiling(1), warnings.catch_warnings():
        warnings.simplefilter("error")
        at_once = torch.autograd.grad(module(x), x, many, is_grads_batched=True)[0]
    torch.testing.assert_close(at_once, each)
    assert not kernels._broken


@pytest.mark.parametrize("strategy", kernels.STRATEGIES)
@pytest.mark.parametrize("family", ["uniform", "triangular", "normal", "logistic"])
def test_nan_stays_nan_in_programs_wherever_it_stands(family, strategy):
    for quantiser, std in ((TERNARY, 0.3), (Quantiser.linear(4, quantum=0.1, rounding="nearest"), 0.02)):
        x = torch.linspace(-1, 1, 37)
        x[[5, 36]] = torch.nan  # within a vector and at the end
        with kernels.compiling(1):
            for values in passes(Quantise(quantiser, family, strategy, std=std), x, torch.ones(37)):
                assert values.isnan().nonzero().flatten().tolist() == [5, 36]
