"""Sums over evenly spaced thresholds in closed form: against adding them up, quadrature, exact bounds, and the kernels' rules."""

import math
import warnings

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import integrate
from torch._dynamo.utils import counters

from anabook import Noise, Quantiser, Regularisation, combs
from anabook.laws import FAMILIES
from anabook.namespaces import NUMPY, mpmath_namespace
from anabook.training import Quantise, kernels, wide

EIGHT_BITS = Quantiser.linear(8, quantum=1.0, rounding="nearest")
TENTHS = Quantiser.linear(8, quantum=0.1, rounding="floor")
RELU = Quantiser.linear(5, False, 0.3, rounding="nearest")
SIXTEEN_BITS = Quantiser.linear(16, quantum=0.01, rounding="nearest")
every_family = pytest.mark.parametrize("family", FAMILIES)
both_types = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
M = mpmath_namespace()


def layout(q, family, std, mean=0.0, dtype=torch.float64):
    found, values = kernels.layout_of(q.levels, q.thresholds, dtype, family, std, mean)
    return found, torch.tensor(values).to(dtype)


def one_by_one(q, family, std, mean, x):
    """The expectation and its slope, thresholds added up one by one in the type of x."""
    constants = torch.tensor(np.concatenate([[mean, std], q.levels, q.thresholds])).to(x.dtype)
    every, ones = kernels.Loop(len(q.thresholds)), torch.ones_like(x)
    return kernels.expected(x, constants, every, family), kernels.slope(ones, x, constants, every, family)


def in_closed_form(q, family, std, mean, x):
    found, constants = layout(q, family, std, mean, x.dtype)
    assert isinstance(found, kernels.Wide), found
    ones = torch.ones_like(x)
    return kernels.expected(x, constants, found, family), kernels.slope(ones, x, constants, found, family)


def places(q, family, std, mean, dtype, n=150):
    """Within the stair, at its ends and far outside; on thresholds, in the middle between them, on the edges of the noise."""
    rng, thresholds = np.random.default_rng(0), q.thresholds
    some = thresholds[np.unique(np.r_[0, 1, len(thresholds) // 2, -1, rng.integers(0, len(thresholds), 20)])]
    reach = std * min(FAMILIES[family].half_width, 6.0)
    ends = [end + offset * std for end in thresholds[[0, -1]] for offset in np.linspace(-6.5, 6.5, 27)]
    x = np.concatenate(
        [
            rng.uniform(thresholds[0], thresholds[-1], n),
            rng.uniform(thresholds[0] - 1.2 * reach, thresholds[-1] + 1.2 * reach, n),
            ends,
            some,
            some + (thresholds[1] - thresholds[0]) / 2,
            some - reach,
            some + reach,
        ]
    )
    x = torch.tensor(x + mean).to(dtype)
    return torch.cat([x, torch.nextafter(x, x - 1), torch.nextafter(x, x + 1)])


def jumps_nearby(q, family, std, mean, x):
    """Where a uniform density's edge is so near that roundings, or the slack in its formula, decide the side."""
    if family != "uniform":
        return torch.zeros_like(x, dtype=torch.bool)
    quantum = q.thresholds[1] - q.thresholds[0]
    slack = 2100 * torch.finfo(x.dtype).eps * math.sqrt(3) * std + 1e-6 * quantum * (x.dtype == torch.float32)
    near = torch.zeros_like(x, dtype=torch.bool)
    for sign in (-1, 1):
        distance = (x.double() - mean + sign * math.sqrt(3) * std - q.thresholds[0]) / quantum
        near |= (distance - distance.round()).abs() * quantum < slack
    return near


def check(q, family, std, mean, x, ulps=4.0):
    value, slope = (part.double() for part in in_closed_form(q, family, std, mean, x))
    expected, expected_slope = one_by_one(q, family, std, mean, x.double())
    eps, scale, quantum = torch.finfo(x.dtype).eps, np.abs(q.levels).max(), q.thresholds[1] - q.thresholds[0]
    torch.testing.assert_close(value, expected, rtol=0, atol=ulps * eps * scale)
    clear = ~jumps_nearby(q, family, std, mean, x)
    # The thresholds themselves are rounded; a distance is no better known than that.
    rounded = eps * (np.abs(q.thresholds).max() + abs(mean) + 8 * std) / std
    middle = torch.tensor([q.thresholds.mean() + mean], dtype=torch.float64)
    peak = one_by_one(q, family, std, mean, middle)[1][0]
    torch.testing.assert_close(
        slope[clear], expected_slope[clear], rtol=0, atol=float(peak) * (8 * eps + rounded + 8 * eps * scale / quantum / 60)
    )
    if family in combs.SMOOTH:  # far out, too, where t² and its roundings are large
        counts = expected_slope > (1e-9 if x.dtype == torch.float32 else 1e-25) * peak
        torch.testing.assert_close(slope[counts], expected_slope[counts], rtol=40 * eps + 50 * rounded, atol=0)


# Numbers ------------------------------------------------------------------------------------------------------------


@every_family
@both_types
@pytest.mark.parametrize("q", [EIGHT_BITS, TENTHS, RELU], ids=["units", "tenths", "relu"])
@pytest.mark.parametrize("wide_by", [5.3, 10.0, 47.0, 400.0, 3000.0])
@pytest.mark.parametrize("mean", [0.0, -0.37])
def test_closed_forms_are_the_sums_over_all_thresholds(family, dtype, q, wide_by, mean):
    std = wide_by * (q.thresholds[1] - q.thresholds[0])
    check(q, family, std, mean * std, places(q, family, std, mean * std, dtype))


@every_family
@both_types
def test_sixteen_bits_under_noise_a_thousand_quanta_wide(family, dtype):
    q, std = SIXTEEN_BITS, 12.34
    law, x = FAMILIES[family], places(q, family, std, 0.5, dtype, 30)[::31]
    value, slope = in_closed_form(q, family, std, 0.5, x)
    t = (x.double().numpy()[:, np.newaxis] - 0.5 - q.thresholds) / std
    eps, expected = torch.finfo(dtype).eps, q.levels[0] + 0.01 * law.cdf(t).sum(axis=1)
    np.testing.assert_allclose(value.double(), expected, rtol=0, atol=4 * eps * np.abs(q.levels).max())
    clear = ~jumps_nearby(q, family, std, 0.5, x)
    wanted = torch.tensor(0.01 / std * law.pdf(t).sum(axis=1))
    torch.testing.assert_close(slope.double()[clear], wanted[clear], rtol=0, atol=200 * eps)


@settings(max_examples=60)
@given(
    st.sampled_from(sorted(FAMILIES)),
    st.integers(4, 9),
    st.booleans(),
    st.floats(1e-3, 1e3),
    st.sampled_from(["floor", "nearest"]),
    st.floats(5.01, 300.0),
    st.floats(-3.0, 3.0),
    st.lists(st.floats(-1.5, 2.5), min_size=1, max_size=20),
)
@example("logistic", 4, True, 1.0, "floor", 30.0, 0.0, [0.5])  # as wide as twice the stair
def test_closed_forms_hold_for_any_stair_and_place(family, bits, signed, quantum, rounding, wide_by, mean, at):
    q, std = Quantiser.linear(bits, signed, quantum, rounding), wide_by * quantum
    x = q.thresholds[0] + np.array(at) * (q.thresholds[-1] - q.thresholds[0])
    for dtype in (torch.float32, torch.float64):
        check(q, family, std, mean * quantum, torch.tensor(x + mean * quantum).to(dtype))


@every_family
def test_values_are_the_average_by_quadrature(family):
    law, std, q = FAMILIES[family], 6.5, RELU
    x = np.array([-8.0, -1.0, 0.05, 4.4, 9.0, 14.0])
    value, _ = in_closed_form(q, family, std, 0.0, torch.tensor(x))
    low, high = max(law.bounds()[0], -9.0), min(law.bounds()[1], 9.0)
    for at, found in zip(x, value):
        cuts = [t for t in (at - q.thresholds) / std if low < t < high]
        pieces = sorted({low, high, 0.0, *cuts})
        mass = sum(
            float(q((a + b) / 2 * -std + at)) * integrate.quad(lambda t: float(law.pdf(np.float64(t))), a, b)[0]
            for a, b in zip(pieces, pieces[1:])
        )
        beyond = q.levels[-1] * float(law.cdf(np.float64(low)))
        assert float(found) == pytest.approx(mass + beyond, abs=1e-9)


@both_types
@pytest.mark.parametrize("q", [EIGHT_BITS, TENTHS, RELU], ids=["units", "tenths", "relu"])
@pytest.mark.parametrize("wide_by", [5.5, 700.0])
@every_family
def test_levels_come_out_exactly_where_the_noise_does_not_reach(q, family, dtype, wide_by):
    std = wide_by * (q.thresholds[1] - q.thresholds[0])
    reach = {"uniform": 1.7325, "triangular": 2.4495, "normal": 14.0, "logistic": 60.0}[family]
    if dtype == torch.float64:
        reach = {"normal": 40.0, "logistic": 420.0}.get(family, reach)
    x = torch.tensor([-math.inf, -1e30, q.thresholds[0] - reach * std, q.thresholds[-1] + reach * std, 1e30, math.inf])
    value, slope = in_closed_form(q, family, std, 0.0, x.to(dtype))
    low, high = torch.tensor(q.levels[[0, -1]]).to(dtype)
    assert torch.equal(value, torch.stack([low] * 3 + [high] * 3)) and (slope == 0).all()
    value, slope = in_closed_form(q, family, std, 0.0, torch.tensor([math.nan], dtype=dtype))
    assert value.isnan().all() and slope.isnan().all()


@both_types
@every_family
@pytest.mark.parametrize("wide_by", [5.3, 60.0, 800.0])
def test_values_never_fall_but_by_roundings(family, dtype, wide_by):
    x = torch.linspace(-128 - 5 * wide_by, 128 + 5 * wide_by, 20_001, dtype=dtype)
    value, slope = in_closed_form(EIGHT_BITS, family, wide_by, 0.0, x)
    assert value.diff().min() >= -4 * torch.finfo(dtype).eps * 128 and slope.min() >= 0
    assert value[0] < -100 and value[-1] > 100


@both_types
def test_thresholds_on_the_edges_of_uniform_noise_are_counted_as_the_density_counts_them(dtype):
    # Of the support [−h, h) the left end counts, and all within the slack of the formula with it.
    std = 12 / math.sqrt(3)
    x = torch.arange(-160.0, 160.0, dtype=dtype) + 0.5
    x = torch.cat([x, torch.nextafter(x, x - 1), torch.nextafter(x, x + 1)])
    slope = in_closed_form(EIGHT_BITS, "uniform", std, 0.0, x)[1]
    expected = one_by_one(EIGHT_BITS, "uniform", std, 0.0, x)[1]
    assert torch.equal((slope * 24).round(), (expected * 24).round())
    torch.testing.assert_close(slope * 24, (slope * 24).round(), rtol=1e-6, atol=0)


# What the series may be wrong by -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, dtype", wide._ACCURACY)
def test_the_proven_remainder_is_less_than_half_a_rounding_unit_of_a_quantum(name, dtype):
    accuracy = wide._ACCURACY[name, dtype]
    bounds = [combs.remainder(name, accuracy.least * factor, accuracy.value) for factor in (1.0, 1.5, 4.0, 100.0)]
    assert bounds[0] < torch.finfo(dtype).eps / 2 and bounds == sorted(bounds, reverse=True)
    assert combs.remainder(name, accuracy.least / 2, accuracy.value) > torch.finfo(dtype).eps / 2


def exact_sums(name, y, s, n):
    t = [(mpmath.mpf(y) - k) / s for k in range(1, n + 1)]
    return sum(FAMILIES[name].cdf(u, M) for u in t), sum(FAMILIES[name].pdf(u, M) for u in t) / s


def polynomial(coefficients, w):
    return sum(mpmath.mpf(float(c)) * w**i for i, c in enumerate(coefficients))


@pytest.mark.parametrize("name, dtype", wide._ACCURACY)
def test_sums_over_ends_are_exact_up_to_the_remainder(name, dtype):
    accuracy, law, smooth, n = wide._ACCURACY[name, dtype], FAMILIES[name], combs.SMOOTH[name], 20
    s, eps = accuracy.least, torch.finfo(dtype).eps
    value_terms, slope_terms = combs.ends(name, s, accuracy.value, accuracy.slope)
    with mpmath.workdps(40):
        for outside in (-1.3, 0.0, 0.4, 1.7, 4.0, 6.0):
            y = mpmath.mpf(0.5) - outside * s
            value = slope = mpmath.mpf(0)
            for sign, end in ((1, 0.5), (-1, n + 0.5)):
                t = (y - end) / s
                w, f = smooth.argument(t, M), law.pdf(t, M)
                value += sign * (s * (max(t, 0) + smooth.integral(-abs(t), M)) + f * polynomial(value_terms, w))
                odd = smooth.odd(t, M) * polynomial(slope_terms, w)
                slope += sign * (law.cdf(t, M) + f * odd / ((1 + w * combs.pole(s)) ** 3 if smooth.steepens else 1))
            expected, expected_slope = exact_sums(name, y, s, n)
            assert abs(value - expected) <= combs.remainder(name, s, accuracy.value) + 1e-17
            assert abs(slope / expected_slope - 1) < (20 if outside > 5 else 1) * eps


@pytest.mark.parametrize("name, dtype", wide._ACCURACY)
def test_sums_about_the_middle_are_exact_up_to_roundings(name, dtype):
    terms, law, smooth, n = wide._ACCURACY[name, dtype].middle, FAMILIES[name], combs.SMOOTH[name], 20
    value_terms, slope_terms = combs.middle(name, 2.0 * n, n, terms)
    with mpmath.workdps(40):
        for t in map(mpmath.mpf, (0.0, 0.7, -2.0, -4.0, -6.0)):
            w, f = smooth.argument(t, M), law.pdf(t, M)
            expected, expected_slope = exact_sums(name, t * 2 * n + mpmath.mpf(n + 1) / 2, 2 * n, n)
            value = n * law.cdf(t, M) + f * smooth.odd(t, M) * polynomial(value_terms, w)
            eps = torch.finfo(dtype).eps
            assert abs(value - expected) < n * eps / 2 and abs(f * polynomial(slope_terms, w) / expected_slope - 1) < eps


@pytest.mark.parametrize("name", combs.SMOOTH)
def test_derivatives_and_integrals_are_those_of_the_law(name):
    law, smooth = FAMILIES[name], combs.SMOOTH[name]
    even, odd = combs._derivatives(name)
    with mpmath.workdps(40):
        for t in map(mpmath.mpf, (-1.3, 0.4)):
            w, f = smooth.argument(t, M), law.pdf(t, M)
            for m in range(4):
                assert mpmath.almosteq(f * polynomial(even[m], w), mpmath.diff(lambda u: law.pdf(u, M), t, 2 * m), 1e-12)
                found = f * smooth.odd(t, M) * polynomial(odd[m], w)
                assert mpmath.almosteq(found, mpmath.diff(lambda u: law.pdf(u, M), t, 2 * m + 1), 1e-12)
        assert mpmath.almosteq(
            mpmath.quad(lambda u: law.cdf(u, M), [-60, -3, -1.3]), smooth.integral(mpmath.mpf(-1.3), M), 1e-15
        )
    t = np.linspace(-6, 0, 7)
    exact = [float(smooth.integral(mpmath.mpf(u), M)) for u in t]
    assert (np.abs(smooth.integral(t, NUMPY) - exact) < 1e-14 * law.pdf(t)).all()


# Where it begins ------------------------------------------------------------------------------------------------------


@every_family
@both_types
def test_noise_of_up_to_two_quanta_and_few_levels_are_left_as_they_were(family, dtype):
    for bits in (2, 3, 4, 8):
        q = Quantiser.linear(bits, quantum=0.1, rounding="nearest")
        for std in (0.02, 0.1, 0.15, 0.19):
            assert not isinstance(layout(q, family, std if bits > 3 else 50 * std, dtype=dtype)[0], kernels.Wide) or (
                family == "triangular" and std > 0.16 and bits > 3
            )


def test_what_is_no_family_or_no_even_stair_is_left_as_it_was():
    uneven = Quantiser(np.arange(40.0), np.arange(39.0) ** 1.1)
    for q, law in ((uneven, "normal"), (EIGHT_BITS, FAMILIES["normal"])):
        assert not isinstance(layout(q, law, 5.0)[0], kernels.Wide)
    levels, thresholds = np.arange(41.0), np.arange(40) + 0.5
    for first, expected in ((0.5, kernels.Wide), (2.5, kernels.Loop)):  # ends that are bent, as the mode's are
        found, _ = kernels.layout_of(levels, np.maximum(thresholds, first), torch.float64, "normal", 5.0)
        assert isinstance(found, expected)
        assert isinstance(kernels.layout_of(levels, np.maximum(thresholds, first), torch.float64)[0], kernels.Grid)


SWITCHES = {  # in quanta
    **{("uniform", dtype): (8 + 1e-6) / (2 * math.sqrt(3)) for dtype in (torch.float32, torch.float64)},
    **{("triangular", dtype): (8 + 1e-6) / (2 * math.sqrt(6)) for dtype in (torch.float32, torch.float64)},
    **{key: accuracy.least for key, accuracy in wide._ACCURACY.items()},
}


@every_family
@both_types
def test_annealing_crosses_the_switch_without_a_jump(family, dtype):
    widths = SWITCHES[family, dtype] * np.array([0.2, 0.9, 1 - 1e-6, 1.0, 1.1, 7.0])
    kinds = [isinstance(layout(EIGHT_BITS, family, std, dtype=dtype)[0], kernels.Wide) for std in widths]
    assert kinds == sorted(kinds) and kinds[-1] and not kinds[0]
    std = float(widths[kinds.index(True)])
    x = places(EIGHT_BITS, family, std, 0.0, dtype)
    clear, eps = ~jumps_nearby(EIGHT_BITS, family, std, 0.0, x), torch.finfo(dtype).eps
    value, slope = in_closed_form(EIGHT_BITS, family, std, 0.0, x)
    before, slope_before = one_by_one(EIGHT_BITS, family, std, 0.0, x)
    torch.testing.assert_close(value, before, rtol=0, atol=4 * eps * 128)
    torch.testing.assert_close(slope[clear], slope_before[clear], rtol=0, atol=16 * eps)
    narrower = std * (1 - 1e-6)
    found, constants = layout(EIGHT_BITS, family, narrower, dtype=dtype)
    assert not isinstance(found, kernels.Wide)
    torch.testing.assert_close(kernels.expected(x, constants, found, family), value, rtol=0, atol=128 * 1e-6)


# How it is run --------------------------------------------------------------------------------------------------------


@pytest.fixture
def compiled():
    with kernels.compiling(1), warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


def both(module, x):
    x = x.detach().clone().requires_grad_()
    out = module(x)
    out.backward(torch.ones_like(out))
    return out.detach(), x.grad


@every_family
def test_compiled_and_uncompiled_agree_and_other_widths_compile_nothing_new(family, compiled):
    module, x = Quantise(EIGHT_BITS, family, "expectation", 0.0, 40.0), places(EIGHT_BITS, family, 10.0, 0.0, torch.float32)
    both(module, x)
    before = counters["stats"]["unique_graphs"]
    for std in (200.0, 11.0, 3.0):
        module.set_noise(0.1, std)
        out, grad = both(module, x)
        with kernels.compiling(None):
            expected, expected_grad = both(module, x)
        torch.testing.assert_close(out, expected, rtol=0, atol=128 * 5e-7)
        clear = ~jumps_nearby(EIGHT_BITS, family, std, 0.1, x)
        torch.testing.assert_close(grad[clear], expected_grad[clear], rtol=1e-5, atol=1e-9)
    assert counters["stats"]["unique_graphs"] == before


@pytest.mark.parametrize("family", ["triangular", "logistic"])
def test_compiled_closed_forms_work_in_double_precision(family, compiled):
    x = places(EIGHT_BITS, family, 10.0, 0.0, torch.float64)
    out, grad = both(Quantise(EIGHT_BITS, family, "expectation", 0.0, 10.0), x)
    expected, expected_grad = one_by_one(EIGHT_BITS, family, 10.0, 0.0, x)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-13)
    torch.testing.assert_close(grad, expected_grad, rtol=0, atol=1e-14)


@every_family
@pytest.mark.parametrize("strategy", kernels.STRATEGIES)
def test_modules_follow_the_theory_with_every_strategy(family, strategy):
    q, std = RELU, 3.0
    r, x = Regularisation(q, Noise(family, 0.2, std)), places(q, family, std, 0.2, torch.float64)
    module = Quantise(q, family, strategy, 0.2, std)
    out, grad = both(module, x)
    clear = (~jumps_nearby(q, family, std, 0.2, x)).numpy()
    np.testing.assert_allclose(grad.numpy()[clear], r.derivative(x.numpy())[clear], rtol=0, atol=1e-12)
    if strategy == "expectation":
        np.testing.assert_allclose(out, r(x.numpy()), rtol=0, atol=1e-12)
    else:
        assert np.isin(out.numpy(), q.levels).all()
    if strategy == "random":
        at = torch.full((40_000,), 4.0, dtype=torch.float64)
        assert float(module(at).mean()) == pytest.approx(float(r(4.0)), abs=5 * 3.0 / 200)


@every_family
@pytest.mark.parametrize("std", [6.0, 90.0])
def test_first_and_second_derivatives_are_right(family, std):
    q = RELU
    found, constants = layout(q, family, std / 3)
    assert isinstance(found, kernels.Wide)
    x = torch.linspace(-4.0312, 13.0179, 40, dtype=torch.float64)
    step = 1e-5

    def value(at):
        return kernels.expected(at, constants, found, family)

    def slope(at):
        return kernels.slope(torch.ones_like(at), at, constants, found, family)

    numeric = (value(x + step) - value(x - step)) / (2 * step)
    torch.testing.assert_close(slope(x), numeric, rtol=0, atol=1e-8)
    second = torch.func.vmap(torch.func.grad(slope))(x)
    numeric = (slope(x + step) - slope(x - step)) / (2 * step)
    torch.testing.assert_close(second, numeric, rtol=0, atol=1e-7)
    if family != "uniform":
        assert second.abs().max() > 1e-6
        module = Quantise(q, family, "expectation", 0.0, std / 3)
        given_ = x[::5].clone().requires_grad_()
        assert torch.autograd.gradcheck(module, (given_,)) and torch.autograd.gradgradcheck(module, (given_,))


@pytest.mark.parametrize("family", ["uniform", "normal"])
def test_transformations_and_programs_around_a_module_take_it(family):
    module, x = Quantise(RELU, family, "expectation", 0.0, 3.0), torch.linspace(-5, 15, 60, dtype=torch.float64)
    out, grad = both(module, x)
    rows = torch.func.vmap(module)(x.view(6, 10))
    torch.testing.assert_close(rows.flatten(), out)
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(module))(x), grad)
    torch.testing.assert_close(torch.func.jvp(module, (x,), (torch.ones_like(x),))[1], grad)
    torch._dynamo.reset()
    program = torch.compile(module, backend="aot_eager", fullgraph=True)
    for found, expected in zip(both(program, x), (out, grad)):
        torch.testing.assert_close(found, expected)


@both_types
@every_family
@pytest.mark.parametrize("wide_by", [1e3, 1e8, 1e19, 1e30])
def test_far_outside_of_a_noise_of_any_width_there_are_levels_without_slopes(wide_by, family, dtype):
    module = Quantise(EIGHT_BITS, family, "expectation", std=wide_by)
    x = torch.tensor([-math.inf, -1e3 * wide_by, 1e3 * wide_by, math.inf], dtype=dtype, requires_grad=True)
    out = module(x)
    out.sum().backward()
    assert out.tolist() == [-128.0, -128.0, 127.0, 127.0] and x.grad.tolist() == [0.0] * 4
    inside = torch.linspace(-2.0, 2.0, 9, dtype=dtype) * wide_by
    expected = Regularisation(EIGHT_BITS, Noise(family, 0.0, wide_by))(inside.double().numpy())
    np.testing.assert_allclose(module(inside).detach().double().numpy(), expected, rtol=0, atol=1e-3)


@every_family
@pytest.mark.parametrize("wide_by", [4.0, 33.0, 1e8])
def test_tiny_quanta_are_as_good_as_others(wide_by, family):
    quantum = 1e-30
    q = Quantiser.linear(4, quantum=quantum)
    x = torch.linspace(-1.5, 1.5, 13) * (wide_by + 8) * quantum
    expected = Regularisation(q, Noise(family, 0.0, wide_by * quantum))(x.double().numpy())
    out = Quantise(q, family, "expectation", std=wide_by * quantum)(x)
    np.testing.assert_allclose(out.double().numpy() / quantum, expected / quantum, rtol=0, atol=3e-4)
