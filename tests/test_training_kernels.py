"""The kernels, compiled and not: numbers, layouts, draws, transformations, and when something is compiled."""

import dataclasses
import math
import os
import socket
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
import torch.multiprocessing as multiprocessing
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._dynamo.utils import counters

from anabook import Noise, Quantiser, Regularisation
from anabook.noise import FAMILIES
from anabook.training import Quantise, _ops, kernels, programs

TERNARY = Quantiser.ternary()
LINEAR = Quantiser.linear(4, quantum=0.3)
EIGHT_BITS = Quantiser.linear(8, quantum=0.1, rounding="nearest")
MANY = Quantiser(np.arange(31.0) ** 1.5, np.arange(30) ** 1.3)
NARROW = {torch.float16: 1e-3, torch.bfloat16: 8e-3, torch.float32: 2e-6, torch.float64: 1e-13}
every_family = pytest.mark.parametrize("family", FAMILIES)
every_strategy = pytest.mark.parametrize("strategy", kernels.STRATEGIES)


def inputs(quantiser, dtype, n=3000):
    low, high = quantiser.thresholds[[0, -1]]
    x = np.random.default_rng(0).uniform(low - 1, high + 1, n)
    return torch.from_numpy(x).to(dtype)


def both(module, x):
    x = x.detach().clone().requires_grad_()
    out = module(x)
    out.backward(torch.ones_like(out))
    return out.detach(), x.grad


def check_against_regularisation(quantiser, family, strategy, dtype, mean=0.0625, std=None):
    """Forward and backward against float64; std in units of the smallest step."""
    std = 0.3 * quantiser.steps.min() if std is None else std
    module = Quantise(quantiser, family, strategy, mean, std)
    r, x = Regularisation(quantiser, Noise(family, mean, std)), inputs(quantiser, dtype)
    exact = x.double().numpy()
    torch.manual_seed(3)
    out, grad = both(module, x)
    scale = np.abs(quantiser.levels).max()
    if strategy == "expectation":
        np.testing.assert_allclose(out.double(), r(exact), rtol=0, atol=NARROW[dtype] * scale)
    else:
        if strategy == "mode":
            expected = r.mode(exact)
            near = np.abs(exact[:, None] - r.mode_thresholds()).min(axis=1)
        else:
            torch.manual_seed(3)
            keys = torch.randint(-(2**31), 2**31, (3,), dtype=torch.int32)
            u = kernels.uniforms(len(x), keys, _ops.compute_dtype(dtype)).double().numpy()
            v = exact - r.noise.icdf(np.maximum(u, 1e-9))
            expected, near = quantiser(v), np.abs(v[:, None] - quantiser.thresholds).min(axis=1)
        clear = near > 100 * torch.finfo(_ops.compute_dtype(dtype)).eps * (scale + 6 * std)
        if strategy == "mode":  # thresholds are rounded to x's own type
            clear &= near > torch.finfo(dtype).eps * scale
        assert clear.mean() > (0.9 if dtype in (torch.float32, torch.float64) else 0.05)
        wanted = torch.from_numpy(expected).to(dtype).double().numpy()
        np.testing.assert_array_equal(out.double().numpy()[clear], wanted[clear])
        assert torch.isin(out, torch.tensor(quantiser.levels).to(dtype)).all()
    # Where a density jumps, roundings decide the side.
    edges = (quantiser.thresholds + mean + np.array([[-1], [1]]) * min(r.noise.half_width, 1e9)).ravel()
    clear = np.abs(exact[:, None] - edges).min(axis=1) > 1e-3 * std + 1e-6 * scale
    slope = r.derivative(exact)
    tolerance = 20 * NARROW[dtype] if dtype in (torch.float32, torch.float64) else NARROW[dtype]
    np.testing.assert_allclose(grad.double()[clear], slope[clear], rtol=tolerance, atol=tolerance * slope.max())


@pytest.fixture
def compiled():
    with kernels.compiling(1), warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # a fallback must not go unnoticed
        yield


def made():
    return len(programs._programs)


def graphs():
    return counters["stats"]["unique_graphs"]


# Numbers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quantiser", [TERNARY, LINEAR, EIGHT_BITS, MANY], ids=["ternary", "linear", "8bits", "many"])
@every_family
@every_strategy
@pytest.mark.parametrize("dtype", NARROW)
def test_uncompiled_kernels_compute_the_regularisation(quantiser, family, strategy, dtype):
    check_against_regularisation(quantiser, family, strategy, dtype)


@every_family
@every_strategy
def test_compiled_kernels_compute_the_regularisation(family, strategy, compiled):
    check_against_regularisation(TERNARY, family, strategy, torch.float32)


@pytest.mark.parametrize(
    "family, strategy, dtype",
    [("uniform", "expectation", torch.float16), ("normal", "mode", torch.bfloat16), ("logistic", "random", torch.float64)],
)
def test_compiled_kernels_work_in_every_float_type(family, strategy, dtype, compiled):
    check_against_regularisation(TERNARY, family, strategy, dtype)


@pytest.mark.parametrize("quantiser, family", [(EIGHT_BITS, "uniform"), (LINEAR, "normal"), (MANY, "triangular")])
def test_compiled_windows_compute_the_regularisation(quantiser, family, compiled):
    check_against_regularisation(quantiser, family, "expectation", torch.float32)


TENT = dataclasses.replace(FAMILIES["triangular"], name="my tent", lower_quantile=None)
SCATTERED = Quantiser(
    np.sort(np.random.default_rng(0).uniform(-9, 9, 101)), np.sort(np.random.default_rng(1).uniform(-9, 9, 100))
)


@pytest.mark.parametrize(
    "quantiser, std, layout",
    [
        (EIGHT_BITS, 0.7, kernels.Grid),
        (EIGHT_BITS, 6.0, kernels.Loop),
        (SCATTERED, 1.4, kernels.Table),
        (SCATTERED, 5.0, kernels.Loop),
    ],
)
@pytest.mark.parametrize("size", [None, 1])
def test_noise_that_reaches_many_thresholds_is_summed_along_an_axis(quantiser, std, layout, size, compiled):
    # A law of one's own, as those of the families have closed forms on grids.
    noise = TENT if quantiser is EIGHT_BITS else "triangular"
    found = kernels.layout_of(quantiser.levels, quantiser.thresholds, torch.float32, noise, std)[0]
    assert isinstance(found, layout) and getattr(found, "window", found[0]) * (1 + (layout is kernels.Table)) > 32
    with kernels.compiling(size):
        check_against_regularisation(quantiser, noise, "expectation", torch.float32, std=std)
        if noise == "triangular":  # the other draws without a quantile, and is tested in test_training_densities.py
            check_against_regularisation(quantiser, noise, "random", torch.float32, std=std)


def test_long_sums_keep_within_bounded_memory_uncompiled():
    seen, x = [], inputs(SCATTERED, torch.float32)

    class Watched:
        @staticmethod
        def pdf(t, m):
            seen.append(t.numel())
            return FAMILIES["normal"].pdf(t, m)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "_named", lambda law: Watched)
        for part in (x, x[:10]):
            both(Quantise(SCATTERED, "normal", "mode", std=5.0), part)
    assert max(seen) <= kernels._PART and seen[-1] == 10 * 100


def test_kernels_of_layouts_with_the_same_numbers_are_kept_apart(compiled):
    assert kernels.Loop(2) == kernels.Grid(2)  # as tuples
    for quantiser in (TERNARY, EIGHT_BITS, TERNARY):
        module, x = Quantise(quantiser, "uniform", "expectation", std=0.3 * quantiser.steps.min()), torch.zeros(50)
        assert kernels.layout_of(quantiser.levels, quantiser.thresholds, torch.float32, "uniform", module.std)[0] == (2,)
        assert module(x).abs().max() < 1e-6


def test_single_precision_normal_functions_agree_with_the_library():
    t = torch.linspace(-6.0, 6.0, 4001)
    reference = torch.special.ndtr(t.double())
    assert ((_ops.fused_ndtr(t) / reference - 1).abs()[t > -5.5] < 2e-6).all()
    u = reference.float().clamp(2.0**-25, 1 - 2.0**-24)
    difference = _ops.fused_ndtri(u) - torch.special.ndtri(u.double())
    assert (difference.abs() < 4e-6).all()


# Layouts ------------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    st.integers(2, 9),
    st.booleans(),
    st.floats(1e-3, 1e3),
    st.sampled_from(["floor", "nearest"]),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_grids_give_every_level_and_threshold_to_the_last_bit(bits, signed, quantum, rounding, dtype):
    q = Quantiser.linear(bits, signed, quantum, rounding)
    layout, values = kernels.layout_of(q.levels, q.thresholds, dtype)
    assert isinstance(layout, kernels.Loop if bits == 2 else kernels.Grid)
    at = torch.tensor(q.thresholds, dtype=dtype)
    x = torch.cat(
        [
            at,
            torch.nextafter(at, at - 1),
            torch.nextafter(at, at + 1),
            at + at.diff()[0] / 2,
            torch.tensor([-math.inf, math.inf, math.nan], dtype=dtype),
        ]
    )
    out = kernels.quantised(x, torch.tensor(values, dtype=dtype), layout)
    assert torch.equal(out[:-1], q(x)[:-1]) and out[-1].isnan()


@every_family
@pytest.mark.parametrize("std", [0.01, 0.05, 0.2 * 0.1, 0.25, 1.0, 4.0])
def test_windows_of_thresholds_give_what_all_of_them_give(family, std):
    x = torch.cat([inputs(EIGHT_BITS, torch.float64), torch.tensor([-1e3, 1e3], dtype=torch.float64)])
    levels, thresholds = EIGHT_BITS.levels, EIGHT_BITS.thresholds
    layout, values = kernels.layout_of(levels, thresholds, torch.float64, family, std, 0.02)
    assert isinstance(layout, kernels.Grid if std <= 0.05 else kernels.Wide) or std == 0.25
    few = torch.tensor(values)
    every = torch.tensor(np.concatenate([[0.02, std], levels, thresholds]))
    whole = kernels.Loop(len(thresholds))
    torch.testing.assert_close(
        kernels.expected(x, few, layout, family), kernels.expected(x, every, whole, family), rtol=0, atol=1e-13
    )
    grad = torch.ones_like(x)
    torch.testing.assert_close(
        kernels.slope(grad, x, few, layout, family), kernels.slope(grad, x, every, whole, family), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("quantiser", [TERNARY, LINEAR, EIGHT_BITS])
def test_densities_of_touching_supports_meet_without_gap_or_overlap(dtype, quantiser):
    # The default uniform noise spans half a quantum: the expectation's slope is 1 from end to end.
    middle = torch.tensor((quantiser.thresholds[:-1] + quantiser.thresholds[1:]) / 2, dtype=dtype)
    x = torch.cat([middle, torch.nextafter(middle, middle - 1), torch.nextafter(middle, middle + 1)])
    _, grad = both(Quantise(quantiser, "uniform", "expectation"), x)
    torch.testing.assert_close(grad, torch.ones_like(grad), rtol=1e-5, atol=0)


@pytest.mark.parametrize("family", ["normal", "logistic"])
def test_windows_pass_gradcheck_twice(family):
    x = inputs(LINEAR, torch.float64, 20).requires_grad_()
    module = Quantise(LINEAR, family, "expectation", 0.1, 0.06)
    assert torch.autograd.gradcheck(module, (x,)) and torch.autograd.gradgradcheck(module, (x,))


# Draws --------------------------------------------------------------------------------------------------------------


def scrambled(h):
    h = (h ^ h >> 16) * np.uint32(0x21F0AAAD)
    h = (h ^ h >> 15) * np.uint32(0xD35A2D97)
    return h ^ h >> 15


def test_uniforms_are_the_hash_in_unsigned_arithmetic():
    keys = torch.tensor([-5, 123456789, 77], dtype=torch.int32)
    k = keys.numpy().view(np.uint32)
    word = scrambled(scrambled(np.arange(5000, dtype=np.uint32) + k[0]) ^ k[1])
    assert np.array_equal(kernels.uniforms(5000, keys, torch.float32).double(), (word >> 8) * 2.0**-24)
    second = scrambled(word + k[2])
    assert np.array_equal(kernels.uniforms(5000, keys, torch.float64), (word >> 5) * 2.0**-27 + (second >> 6) * 2.0**-53)


def test_uniforms_are_uniform_and_independent_within_and_across_keys():
    n, generator = 2**18, torch.Generator().manual_seed(1)
    rows = torch.stack(
        [
            kernels.uniforms(n, torch.randint(-(2**31), 2**31, (3,), dtype=torch.int32, generator=generator), torch.float32)
            for _ in range(8)
        ]
    ).double()
    assert 0 <= rows.min() and rows.max() < 1
    counts = torch.histc(rows, 1024, 0, 1)
    chi2 = ((counts - rows.numel() / 1024) ** 2 / (rows.numel() / 1024)).sum()
    assert abs(chi2 - 1023) < 6 * (2 * 1023) ** 0.5
    centred = (rows - 0.5) * 12**0.5
    for lag in (1, 2, 16, 1024, 4096):
        assert abs((centred[:, lag:] * centred[:, :-lag]).mean()) < 6 / (8 * n) ** 0.5
    across = (centred @ centred.T / n).fill_diagonal_(0)
    assert across.abs().max() < 6 / n**0.5
    for bit in range(24):  # low bits too
        ones = ((rows * 2**24).long() >> bit & 1).double().mean()
        assert abs(ones - 0.5) < 3 / (8 * n) ** 0.5


@every_family
@pytest.mark.parametrize("quantiser", [TERNARY, LINEAR, EIGHT_BITS])
@pytest.mark.parametrize("dtype", NARROW)
def test_no_draw_leaves_the_level_set(family, quantiser, dtype, monkeypatch):
    wide = _ops.compute_dtype(dtype)
    eps = torch.finfo(wide).eps
    u = torch.tensor([0.0, eps / 2, eps, 0.25, 0.5, 0.75, 1 - eps, 1 - eps / 2], dtype=wide)
    x = torch.tensor([-math.inf, -6e4, -1.0, 0.0, 0.4, 6e4, math.inf], dtype=dtype).repeat_interleave(len(u))
    monkeypatch.setattr(kernels, "uniforms", lambda n, keys, dtype: u.repeat(n // len(u)))
    for std in (0.7, 1e-30):
        out = Quantise(quantiser, family, "random", std=std)(x)
        assert torch.isin(out, torch.tensor(quantiser.levels).to(dtype)).all()
        assert out[0] == out.min() and out[-1] == out.max()


def test_compiled_draws_are_the_uncompiled_ones(compiled):
    module, x = Quantise(TERNARY, "triangular", "random"), inputs(TERNARY, torch.float32).reshape(2, 3, 20, 25)
    draws = []
    for size, given_ in [(1, x), (None, x), (1, x.to(memory_format=torch.channels_last)), (1, x)]:
        with kernels.compiling(size):
            if len(draws) < 3:
                torch.manual_seed(0)
            draws.append(module(given_))
    assert torch.equal(draws[0], draws[1]) and torch.equal(draws[0], draws[2]) and not torch.equal(draws[0], draws[3])


# When something is compiled -----------------------------------------------------------------------------------------


@every_strategy
def test_nothing_is_compiled_for_small_tensors(strategy):
    before = made(), graphs()
    both(Quantise(TERNARY, "normal", strategy), torch.zeros(1000))
    assert (made(), graphs()) == before


def test_annealing_other_sizes_modes_and_contexts_compile_nothing_new(compiled):
    module, x = Quantise(TERNARY, "logistic", "mode"), inputs(TERNARY, torch.float32)
    both(module, x)
    before = made(), graphs()
    for std in (1.0, 0.5, 0.1, 0.01, 0.0):
        module.set_noise(-std, std)
        both(module, x)
    both(module.eval(), x)
    module.train().set_noise(0.0, 0.3)
    both(module, x.reshape(3, 10, 100)[:, :7])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        both(module, x)
    with torch.no_grad():
        module(x)
    assert (made(), graphs()) == before and before[0] >= 2


def test_without_a_compiler_kernels_run_all_the_same_with_one_warning(tmp_path):
    program = """
import torch, warnings
from anabook import Quantiser
from anabook.training import Quantise, kernels
x = torch.linspace(-2, 2, 5000)
with warnings.catch_warnings(record=True) as caught, kernels.compiling(1):
    warnings.simplefilter("always")
    first, second = (Quantise(Quantiser.ternary(), family, "expectation")(x) for family in ("uniform", "normal"))
print(sum("run uncompiled" in str(w.message) for w in caught))
with kernels.compiling(None):
    print(torch.equal(second, Quantise(Quantiser.ternary(), "normal", "expectation")(x)))
"""
    environment = {**os.environ, "CXX": "/no/such/compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", "True"]


# Memory -------------------------------------------------------------------------------------------------------------


@every_family
@every_strategy
def test_the_input_alone_is_kept_for_the_backward_pass(family, strategy, compiled):
    saved, x = [], inputs(TERNARY, torch.float32).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        Quantise(TERNARY, family, strategy)(x)
    assert saved[0].data_ptr() == x.data_ptr() and [t.numel() for t in saved[1:]] == [7]


def test_compiled_kernels_keep_channels_last(compiled):
    x = inputs(TERNARY, torch.float32).reshape(2, 3, 20, 25).to(memory_format=torch.channels_last)
    out, grad = both(Quantise(TERNARY), x)
    assert out.is_contiguous(memory_format=torch.channels_last)
    expected, expected_grad = both(Quantise(TERNARY), x.contiguous())
    assert torch.equal(out, expected) and torch.equal(grad, expected_grad)


# Transformations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["expectation", "mode"])
@pytest.mark.parametrize("size", [1, None])
def test_vmap_gives_what_the_batch_gives(strategy, size):
    module, x = Quantise(TERNARY, "uniform", strategy), inputs(TERNARY, torch.float32).reshape(6, 5, 100)
    with kernels.compiling(size):
        assert torch.equal(torch.func.vmap(module)(x), module(x))
        assert torch.equal(torch.func.vmap(module, in_dims=1, out_dims=1)(x), module(x))
        slopes = torch.func.vmap(torch.func.grad(lambda v: module(v).sum()))(x)
    torch.testing.assert_close(slopes, both(module, x)[1])


def test_vmap_draws_as_its_randomness_says():
    module = Quantise(TERNARY, "uniform", "random", std=1.0)
    x = torch.zeros(4, 500)
    same = torch.func.vmap(module, randomness="same")(x)
    different = torch.func.vmap(module, randomness="different")(x)
    shared = torch.func.vmap(lambda _: module(x[0]), randomness="different")(x)
    assert (same == same[0]).all() and len(same.unique()) == 3
    assert not (different == different[0]).all() and not (shared == shared[0]).all()
    with pytest.raises(RuntimeError, match="random"):
        torch.func.vmap(module)(x)


@every_strategy
def test_autocast_keeps_the_type_and_the_numbers(strategy):
    module, x = Quantise(TERNARY, "normal", strategy), inputs(TERNARY, torch.float32)
    torch.manual_seed(0)
    expected = both(module, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.manual_seed(0)
        assert all(torch.equal(a, b) for a, b in zip(both(module, x), expected))
        out = module(torch.nn.Linear(3000, 3000)(x))
    assert out.dtype == torch.bfloat16


@every_strategy
def test_a_users_own_compilation_takes_the_quantiser_in_whole_and_never_again(strategy):
    torch._dynamo.reset()
    module = torch.nn.Sequential(Quantise(TERNARY, "logistic", strategy))
    program = torch.compile(module, backend="aot_eager", fullgraph=True)
    x = inputs(TERNARY, torch.float32)
    before = graphs()
    for mean, std in [(0.0, 0.3), (-0.25, 0.2), (0.1, 0.05)]:
        module[0].set_noise(mean, std)
        torch.manual_seed(2)
        out, grad = both(program, x)
        torch.manual_seed(2)
        expected, expected_grad = both(module, x)
        assert torch.equal(out, expected) or strategy == "expectation"
        torch.testing.assert_close(out, expected)
        torch.testing.assert_close(grad, expected_grad)
    assert graphs() == before + 1


def _ddp_worker(rank, port, folder):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    try:
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(6, 4), Quantise(TERNARY, "normal", "expectation"))
        x = torch.arange(24.0).reshape(4, 6).sin()
        parallel = torch.nn.parallel.DistributedDataParallel(net)
        parallel(x[2 * rank : 2 * rank + 2]).square().mean().backward()
        torch.save(net[0].weight.grad, folder / f"{rank}.pt")  # a manager would be a third process that loads torch
    finally:
        torch.distributed.destroy_process_group()


def test_two_processes_average_their_gradients(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(_ddp_worker, (port, tmp_path), nprocs=2)
    gradients = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 4), Quantise(TERNARY, "normal", "expectation"))
    net(torch.arange(24.0).reshape(4, 6).sin()).square().mean().backward()
    for gradient in gradients:
        torch.testing.assert_close(gradient, net[0].weight.grad)
