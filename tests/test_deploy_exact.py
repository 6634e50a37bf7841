"""The exact evaluation that integer networks are held to: float64 with its bounds, and fractions, say the same."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from deploy_torch import Drawing
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import anabook as ab
from anabook import Quantiser
from anabook.deploy import exact, quanta, thresholds
from anabook.deploy.exact import Evaluation, Number
from anabook.deploy.programs import program, standardisation
from anabook.deploy.thresholds import Affine
from anabook.training import Quantise


@pytest.mark.parametrize("seed", range(12))
def test_fractions_alone_find_the_same_levels(seed, monkeypatch):
    """With a bound that is absurdly wide, every single level is decided by fractions."""
    drawn = Drawing(seed, n=1)
    read = program(drawn.net, drawn.x)
    mean, std = standardisation(drawn.mean, drawn.std)
    quick = Evaluation(read, drawn.x, mean, std)
    monkeypatch.setattr(exact, "_MORE", 1e30)
    monkeypatch.setattr(exact, "_UNIT", 1e30)
    slow = Evaluation(read, drawn.x, mean, std)
    elements = 0
    for name, index in slow.indices.items():
        assert np.array_equal(index, quick.indices[name]), name
        elements += index.size
    assert sum(slow.decided.values()) > 0.9 * elements > sum(quick.decided.values())


@pytest.mark.parametrize("seed", range(20))
def test_the_bounds_of_float64_hold(seed):
    """Elements chosen at random are computed in fractions, and lie within the bound of what float64 gives."""
    drawn = Drawing(seed, n=2)
    read = program(drawn.net, drawn.x)
    found = Evaluation(read, drawn.x, *standardisation(drawn.mean, drawn.std))
    rng, checked = np.random.default_rng(seed), 0
    for node, near in found.near.items():
        for _ in range(5):
            at = tuple(int(rng.integers(n)) for n in near.value.shape)
            if any(n == 0 for n in near.value.shape):
                continue
            try:
                number = found._number(node, *at)
            except TypeError:  # the float head has no integers
                assert found._whole(node) is None
                continue
            value, error = (Fraction(part[at].item()) for part in near)
            # root / √radicand + rest within the ends: by squares, as everywhere.
            assert number.reaches(value - error) and not (
                number.reaches(value + error) and error > 0 and not _is(number, value + error)
            )
            checked += 1
    assert checked >= 15


def _is(number, value):
    """Whether a number is exactly a fraction."""
    return Number(-number.root, number.radicand, -number.rest).reaches(-value) and number.reaches(value)


fractions = st.fractions(min_value=-50, max_value=50, max_denominator=200)
positive = st.fractions(min_value=Fraction(1, 200), max_value=50, max_denominator=200)


@given(fractions, fractions, fractions, positive, fractions, positive, st.integers(-300, 300))
def test_integer_thresholds_are_where_the_value_is_reached(place, offset, gamma, radicand, shift, scale, z):
    """thresholds.py against the comparison of exact.py, which share nothing."""
    affine = Affine(scale, offset, gamma, radicand, shift)
    (least,) = thresholds.integers([place], affine, -300, 300)
    number = Number(gamma * (scale * z + offset), radicand, shift)
    assert (z * affine.sign >= least) == number.reaches(place)


@given(st.integers(-200, 200), st.integers(1, 40), st.integers(-5, 5).filter(bool), st.integers(-9, 9), st.integers(1, 9))
def test_ties_are_reached(z, root, gamma, shift, scale):
    """A threshold put exactly on the value of an integer: that integer reaches it, the one before it does not."""
    affine = Affine(Fraction(scale), Fraction(0), Fraction(gamma), Fraction(root * root), Fraction(shift))
    place = Fraction(gamma * scale * z, root) + shift
    (least,) = thresholds.integers([place], affine, -1000, 1000)
    assert least == z * affine.sign


def test_numbers_are_compared_by_their_squares():
    two = Fraction(2)
    assert Number(Fraction(1), two, Fraction(0)).reaches(Fraction(7071067811865475, 10**16))
    assert not Number(Fraction(1), two, Fraction(0)).reaches(Fraction(7071067811865476, 10**16))
    assert Number(Fraction(-1), two, Fraction(0)).reaches(Fraction(-7071067811865476, 10**16))
    assert not Number(Fraction(-1), two, Fraction(0)).reaches(Fraction(-7071067811865475, 10**16))
    for root, place in ((2, 1), (-2, -1), (0, 0)):
        assert Number(Fraction(root), Fraction(4), Fraction(0)).reaches(Fraction(place))
        assert not Number(Fraction(root), Fraction(4), Fraction(-1, 10**40)).reaches(Fraction(place))


def test_what_the_output_does_not_depend_on_is_left_out():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.act, self.other = nn.Linear(3, 2), Quantise(Quantiser.ternary(), std=0.0), nn.Linear(3, 7)
            self.fc.weight.data = torch.ones(2, 3)

        def forward(self, x):
            self.other(x)
            return self.act(self.fc(x))

    ints = ab.deploy.to_integer(Net(), np.zeros((1, 3), np.int8))
    assert [step.name for step in ints.steps] == ["fc", "act"]


# Quanta -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("quantum", [1.0, 0.5, 0.1, 0.3, 0.007, 1 / 3, 2.0**-20, 1234.5])
@pytest.mark.parametrize(
    "integers", [[-1, 0, 1], [0, 1, 2, 3], [-7, -3, 2, 5], [2, 3], [-128, 127], list(range(-8, 8)), [0]]
)
def test_multiples_are_found_again(dtype, quantum, integers):
    with np.errstate(over="ignore"):
        values = [float(dtype(z * Fraction(quantum))) for z in integers]
    if not all(np.isfinite(dtype(v)) for v in values) or len({dtype(v) for v in values}) < len(values):
        pytest.skip("the type does not hold them apart")
    q, found = quanta.multiples(values, dtype, -128, 127)
    for z, value, own in zip(found, values, integers):
        assert abs(z * q - Fraction(value)) <= abs(Fraction(value)) * 2 * Fraction(float(np.finfo(dtype).eps))
        assert bool(z) == bool(own) and abs(z) <= abs(own)
    if dtype is np.float64:
        assert all(dtype(float(z * q)) == value for z, value in zip(found, values))


def test_levels_times_a_scale_are_found_again():
    rng = np.random.default_rng(0)
    for _ in range(200):
        scale = np.float32(rng.uniform(0.001, 5))
        levels = np.float32([float(Fraction(z, 100)) for z in range(-128, 128)])
        values = np.unique((levels * scale)[rng.integers(0, 256, 40)])
        found = quanta.multiples(values.tolist(), np.float32, -128, 127)
        assert found is not None
        q, integers = found
        assert max(abs(float(z * q) - v) / max(abs(v), 1e-9) for z, v in zip(integers, values.tolist())) < 2**-22


def test_numbers_without_a_quantum_have_none():
    rng = np.random.default_rng(0)
    for n in (5, 9, 200):
        assert quanta.multiples(rng.normal(size=n).astype(np.float32).tolist(), np.float32, -128, 127) is None
    assert quanta.multiples([1.0, 200.0], np.float32, -128, 127) is None
    assert quanta.multiples([1.0, 200.0], np.float32, -128, 255) == (1, [1, 200])


@given(st.fractions(0, 10), st.fractions(Fraction(1, 10**6), 3))
def test_the_simplest_fraction_lies_between_and_is_the_simplest(low, width):
    high = low + width
    found = quanta.simplest(low, high)
    assert low < found < high
    for denominator in range(1, min(found.denominator, 300)):
        least = (low * denominator).__floor__() + 1
        assert Fraction(least, denominator) >= high


@pytest.mark.parametrize("power", [-320, -310, -200, -100, 100, 160, 300])
def test_numbers_that_floats_lose_are_compared_in_fractions(power):
    """Products that underflow or overflow in float64, next to a threshold: the bound says so, and fractions decide."""
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), Quantise(Quantiser.ternary(), std=0.0)).double().eval()
    size = float(f"1e{power}")
    net[0].weight.data = torch.tensor([[1.0, -1], [1, 1], [0, 1]], dtype=torch.float64) * size
    net[0].bias.data = torch.tensor([0.0, -size, 0.0], dtype=torch.float64)
    net[1].eps = 0.0
    net[1].running_mean = torch.tensor([0.0, size, size], dtype=torch.float64)
    net[1].weight.data = torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64) * min(1e300, max(1e-300, 1 / (2 * size)))
    x = np.array([[a, b] for a in range(4) for b in range(4)], np.uint8)
    ints = ab.deploy.to_integer(net, x, bounds=(0, 3))
    quantum, factor = Fraction(size), Fraction(net[1].weight[0].item())
    sums = [(a - b, a + b - 2, b - 1) for a, b in x.tolist()]
    expected = [
        [
            (v >= Fraction(1, 2)) - (v < -Fraction(1, 2))
            for v in (factor * sign * quantum * z for z, sign in zip(row, (1, -1, 1)))
        ]
        for row in sums
    ]
    found = ab.deploy.compare(net, ints, x)
    assert ints(x).tolist() == expected and found.equal
    assert found.quantisers[0].decided > 0 or abs(power) < 90


def test_a_variance_below_zero_leaves_it_to_fractions():
    """With eps it cancels, so that float64 has few of its digits."""
    net = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1, eps=1e-5), Quantise(Quantiser.ternary(), std=0.0)).eval()
    net[0].weight.data[:], net[0].bias.data[:] = 1.0, 0.0
    net[1].running_var[:] = float(np.nextafter(np.float32(-1e-5), np.float32(0)))
    x = np.arange(-5, 6, dtype=np.int8)[:, np.newaxis]
    found = ab.deploy.compare(net, ab.deploy.to_integer(net, x), x)
    assert found.equal and found.quantisers[0].decided == len(x)
