"""Quantisers: eq. (1) and its named forms."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import anabook as ab

finite = st.floats(-1e6, 1e6)
increasing = st.lists(finite, min_size=1, max_size=7, unique=True).map(sorted)


@st.composite
def quantisers(draw):
    thresholds = draw(increasing)
    n = len(thresholds) + 1
    levels = sorted(draw(st.lists(finite, min_size=n, max_size=n, unique=True)))
    return ab.Quantiser(levels, thresholds)


@given(quantisers(), st.lists(finite, min_size=1, max_size=20))
def test_every_value_maps_to_the_level_of_the_bin_that_holds_it(q, x):
    for value in x:
        (k,) = [k for k, (low, high) in enumerate(q.bins) if low <= value < high]
        assert q(value) == q.levels[k]
        assert q.index(value) == k


@given(quantisers())
def test_bins_are_closed_on_the_left(q):
    assert np.array_equal(q(q.thresholds), q.levels[1:])
    assert np.array_equal(q(np.nextafter(q.thresholds, -np.inf)), q.levels[:-1])


@given(quantisers(), hnp.arrays(np.float64, hnp.array_shapes(max_dims=3, max_side=4), elements=finite))
def test_a_quantiser_is_a_sum_of_heaviside_steps(q, x):
    steps = sum(
        (step * ab.Quantiser.heaviside(threshold)(x) for step, threshold in zip(q.steps, q.thresholds)),
        np.zeros_like(x),
    )
    np.testing.assert_allclose(q(x), q.levels[0] + steps, atol=1e-8, rtol=1e-12)


@given(quantisers(), st.lists(finite, min_size=2, max_size=20).map(sorted))
def test_a_quantiser_never_decreases(q, x):
    assert (np.diff(q(np.array(x))) >= 0).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 3, 4)])
def test_arrays_keep_their_shape_and_float_type(dtype, shape):
    x = np.random.default_rng(0).normal(size=shape).astype(dtype)
    y = ab.Quantiser.ternary(0.5)(x)
    assert y.shape == shape and y.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 3, 4)])
def test_tensors_come_back_as_tensors_of_the_same_shape_and_type(dtype, shape):
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64).to(dtype)
    q = ab.Quantiser.linear(3, quantum=0.25, rounding="nearest")
    y = q(x)
    assert isinstance(y, torch.Tensor) and y.shape == x.shape and y.dtype == dtype
    assert np.array_equal(y.double().numpy(), q(x.double().numpy()))


def test_tensors_that_are_not_contiguous_give_the_same_values():
    x = torch.linspace(-2, 2, 24).reshape(4, 6)
    q = ab.Quantiser.ternary()
    assert torch.equal(q(x.t()), q(x.t().contiguous()))


def test_a_threshold_stored_in_single_precision_is_hit_exactly():
    q = ab.Quantiser.linear(4, signed=False, quantum=0.1)
    assert np.array_equal(q(q.thresholds.astype(np.float32)), q.levels[1:].astype(np.float32))
    assert np.array_equal(q(torch.tensor(q.thresholds, dtype=torch.float32)), q.levels[1:].astype(np.float32))


@pytest.mark.parametrize("quantum", [0.1, 0.07, 0.01, 0.3, 1.1])
def test_decimals_fall_into_their_own_bins(quantum):
    q = ab.Quantiser.linear(8, signed=False, quantum=quantum)
    k = np.arange(256)
    decimals = np.array([float(f"{n * round(quantum * 100)}e-2") for n in k])
    assert np.array_equal(q.index(decimals), k) and np.array_equal(q(decimals), decimals)


def test_values_are_compared_with_thresholds_and_never_divided():
    q = ab.Quantiser.linear(4, signed=False, quantum=0.1)
    assert q(np.array([0.3, 0.6, 0.7])).tolist() == [0.3, 0.6, 0.7]
    assert np.floor(np.array([0.3, 0.6, 0.7]) / 0.1).tolist() == [2, 5, 6]


def test_nan_stays_nan_and_has_no_bin():
    q = ab.Quantiser.ternary()
    assert np.isnan(q(np.nan)) and torch.isnan(q(torch.tensor(float("nan"))))
    for nan in (np.nan, torch.tensor(float("nan"))):
        with pytest.raises(ValueError, match="NaN falls into no bin"):
            q.index(nan)


def test_infinities_fall_into_the_outer_bins():
    assert np.array_equal(ab.Quantiser.ternary()([-np.inf, np.inf]), [-1.0, 1.0])


def test_named_forms_have_the_levels_and_thresholds_of_the_paper():
    assert ab.Quantiser.heaviside() == ab.Quantiser([0, 1], [0])
    assert ab.Quantiser.ternary(2.0) == ab.Quantiser([-2, 0, 2], [-1, 1])
    floor = ab.Quantiser.linear(2, quantum=0.5)
    assert floor == ab.Quantiser([-1, -0.5, 0, 0.5], [-0.5, 0, 0.5])
    nearest = ab.Quantiser.linear(2, quantum=0.5, rounding="nearest")
    assert nearest == ab.Quantiser([-1, -0.5, 0, 0.5], [-0.75, -0.25, 0.25])
    assert ab.Quantiser.linear(2, signed=False).levels.tolist() == [0, 1, 2, 3]
    assert ab.Quantiser.linear(2, balanced=True, rounding="nearest") == ab.Quantiser.ternary()


@given(st.integers(2, 8), st.sampled_from(["floor", "nearest"]), st.floats(1e-3, 1e3))
def test_linear_quantisers_fix_their_own_levels_and_err_by_a_quantum_at_most(bits, rounding, quantum):
    q = ab.Quantiser.linear(bits, quantum=quantum, rounding=rounding)
    assert q.n_levels == 2**bits
    assert np.array_equal(q(q.levels), q.levels)
    x = np.linspace(q.levels[0], q.levels[-1], 1001)
    error = x - q(x)
    reach = (0, quantum) if rounding == "floor" else (-quantum / 2, quantum / 2)
    assert (error >= reach[0] - 1e-9 * quantum).all() and (error <= reach[1] + 1e-9 * quantum).all()


def test_quantisers_are_immutable_values():
    q = ab.Quantiser.ternary()
    assert {q: 1}[ab.Quantiser([-1, 0, 1], [-0.5, 0.5])] == 1
    assert pickle.loads(pickle.dumps(q)) == q == copy.deepcopy(q)
    assert q != ab.Quantiser.heaviside() and q != "ternary"
    with pytest.raises(AttributeError, match="immutable"):
        q.levels_ = 1
    with pytest.raises(ValueError, match="read-only"):
        q.levels[0] = 3
    levels = np.array([0.0, 1.0])
    own = ab.Quantiser(levels, [0.5])
    levels[0] = -9
    assert own.levels[0] == 0


def test_repr_names_levels_and_shortens_long_lists():
    assert repr(ab.Quantiser.ternary()) == "Quantiser(levels=[-1, 0, 1], thresholds=[-0.5, 0.5])"
    assert "…" in repr(ab.Quantiser.linear(8))


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: ab.Quantiser([1, 0], [0]), ValueError, "levels must be strictly increasing, but 1 is followed by 0"),
        (lambda: ab.Quantiser([0, 0], [0]), ValueError, "levels must be strictly increasing, but 0 is followed by 0"),
        (lambda: ab.Quantiser([0, 1, 2], [1, 0]), ValueError, "thresholds must be strictly increasing"),
        (lambda: ab.Quantiser([0, 1, 2], [1, 1]), ValueError, "thresholds must be strictly increasing"),
        (lambda: ab.Quantiser([0, np.inf], [0]), ValueError, "levels must be finite, not inf"),
        (lambda: ab.Quantiser([0, 1], [np.nan]), ValueError, "thresholds must be finite, not nan"),
        (lambda: ab.Quantiser([0], []), ValueError, "at least 2 levels, not 1"),
        (lambda: ab.Quantiser([], []), ValueError, "at least 2 levels, not 0"),
        (lambda: ab.Quantiser([0, 1, 2], [0]), ValueError, "3 levels need 2 thresholds, one between each pair, not 1"),
        (lambda: ab.Quantiser("ab", [0]), TypeError, "levels must be a list of real numbers, not 'ab'"),
        (lambda: ab.Quantiser([0, 1j], [0]), TypeError, "levels must be a list of real numbers"),
        (lambda: ab.Quantiser([[0, 1]], [0]), TypeError, "levels must be a list of real numbers"),
        (lambda: ab.Quantiser([[0], [1, 2]], [0]), TypeError, "levels must be a list of real numbers"),
        (lambda: ab.Quantiser.heaviside(np.nan), ValueError, "threshold must be finite, not nan"),
        (lambda: ab.Quantiser.ternary(0), ValueError, "quantum must be finite and greater than 0, not 0.0"),
        (lambda: ab.Quantiser.ternary("1"), TypeError, "quantum must be a real number, not '1'"),
        (lambda: ab.Quantiser.linear(0), ValueError, "bits must be an integer from 1 to 16, not 0"),
        (lambda: ab.Quantiser.linear(2.5), TypeError, "bits must be an integer from 1 to 16, not 2.5"),
        (lambda: ab.Quantiser.linear(4, signed=1), TypeError, "signed must be True or False, not 1"),
        (lambda: ab.Quantiser.linear(4, rounding="neares"), ValueError, "Did you mean 'nearest'"),
        (lambda: ab.Quantiser.linear(4, rounding=None), TypeError, "rounding must be one of 'floor', 'nearest'"),
        (lambda: ab.Quantiser.linear(1, balanced=True), ValueError, "bits of at least 2, not 1"),
        (lambda: ab.Quantiser.linear(2, signed=False, balanced=True), ValueError, "needs signed=True"),
        (lambda: ab.Quantiser.ternary()(np.array([1, 2])), TypeError, "floating-point type, not int64"),
        (lambda: ab.Quantiser.ternary()(np.array([True])), TypeError, "floating-point type, not bool"),
        (lambda: ab.Quantiser.ternary()(np.array([1j])), TypeError, "floating-point type, not complex128"),
        (lambda: ab.Quantiser.ternary()(torch.tensor([1])), TypeError, "floating-point type, not torch.int64"),
        (lambda: ab.Quantiser.ternary()(torch.tensor([1j])), TypeError, "floating-point type, not torch.complex64"),
        (lambda: ab.Quantiser.ternary()("1.0"), TypeError, "an array of floats, not '1.0'"),
        (lambda: ab.Quantiser.ternary()([[1.0], [1.0, 2.0]]), TypeError, "an array of floats, not"),
    ],
)
def test_bad_input_gets_one_sentence(make, error, says):
    with pytest.raises(error) as caught:
        make()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
