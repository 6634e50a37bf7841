"""Statements about `anabook.schedules`."""

import dataclasses
import math

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from anabook import Noise, Quantiser, Regularisation
from anabook.convergence import LAMBDA, as_formulas
from anabook.schedules import INTERVALS, POWER_LAWS, Schedule

DYNAMIC = [(interval, law) for interval in INTERVALS for law in POWER_LAWS]
named = st.builds(
    Schedule,
    n_layers=st.integers(1, 9),
    interval=st.sampled_from(INTERVALS),
    power_law=st.sampled_from(POWER_LAWS),
    start=st.floats(-50, 50),
    end=st.floats(60, 500),
    mean0=st.floats(-2, 2),
    std0=st.floats(0, 2),
    static_mean=st.booleans(),
    static_std=st.booleans(),
)


def test_the_fixed_signature_of_the_package_gives_the_papers_vgg_setting():
    s = Schedule(
        n_layers=7,
        interval="partition",
        power_law="homogeneous",
        start=0,
        end=350,
        mean0=0.0,
        std0=0.2887,
        static_mean=True,
        static_std=False,
    )
    assert s == Schedule()
    assert s(0, 0) == (0.0, 0.2887)
    assert s(0, 50) == (0.0, 0.0)
    assert s(3, 175) == (0.0, 0.2887 * 0.25)


def test_periodic_intervals_are_the_four_of_the_experiments():
    n, p = 7, 50
    expected = {
        "partition": [(i * p, (i + 1) * p) for i in range(n)],
        "same_start": [(0, (i + 1) * p) for i in range(n)],
        "same_end": [((n - 1 - i) * p, n * p) for i in range(n)],
        "overlapped": [(0, n * p)] * n,
    }
    for interval, windows in expected.items():
        assert list(Schedule.periodic(n, p, interval).intervals) == windows


def test_homogeneous_and_progressive_exponents_double_for_the_std():
    assert Schedule(n_layers=3).exponents == ((1, 2),) * 3
    assert Schedule(n_layers=3, power_law="progressive").exponents == ((3, 6), (2, 4), (1, 2))
    assert Schedule(n_layers=2, power_law=(1, 3), std_exponents=(5, 0.5)).exponents == ((1, 5), (3, 0.5))


@settings(deadline=None)
@given(named, st.floats(-100, 600))
def test_equations_20_and_21_written_out_again_agree(s, t):
    n, length = s.n_layers, s.end - s.start
    for layer in range(n):
        first = {"partition": layer, "same_start": 0, "same_end": n - 1 - layer, "overlapped": 0}[s.interval]
        last = {"partition": layer + 1, "same_start": layer + 1, "same_end": n, "overlapped": n}[s.interval]
        begin, finish = s.start + first * length / n, s.start + last * length / n
        fading = min(max((finish - t) / (finish - begin), 0.0), 1.0)
        d = 1 if s.power_law == "homogeneous" else n - layer
        mean, std = s(layer, t)
        assert mean == pytest.approx(s.mean0 if s.static_mean else s.mean0 * fading**d, rel=1e-9, abs=1e-12)
        assert std == pytest.approx(s.std0 if s.static_std else s.std0 * fading ** (2 * d), rel=1e-9, abs=1e-12)


@settings(deadline=None)
@given(named)
def test_noise_never_grows_and_is_gone_exactly_at_the_end_of_the_interval(s):
    times = np.linspace(s.start - 10, s.end + 10, 97)
    means, stds = s.values(times)
    assert (np.diff(np.abs(means), axis=0) <= 1e-15).all() and (np.diff(stds, axis=0) <= 1e-15).all()
    for layer, (begin, finish) in enumerate(s.intervals):
        assert s.decay(layer, begin) == 1.0 and s.decay(layer, finish) == 0.0
        assert s(layer, finish) == (s.mean0 if s.static_mean else 0.0, s.std0 if s.static_std else 0.0)


@settings(deadline=None)
@given(named, st.lists(st.floats(-100, 600), min_size=1, max_size=5))
def test_an_array_of_times_gives_the_values_of_its_entries(s, times):
    for layer in range(s.n_layers):
        mean, std = s(layer, np.array(times))
        assert mean.shape == std.shape == (len(times),)
        # NumPy's vectorised powers may differ from its scalar ones in the last digit.
        assert np.stack([mean, std], axis=-1) == pytest.approx(np.array([s(layer, t) for t in times]), rel=1e-13)


def test_layers_end_in_order_for_partition_and_same_start_and_together_otherwise():
    ends = {interval: [e for _, e in Schedule(interval=interval).intervals] for interval in INTERVALS}
    for interval in ("partition", "same_start"):
        assert ends[interval] == sorted(set(ends[interval]))
    for interval in ("same_end", "overlapped"):
        assert set(ends[interval]) == {350.0}


def test_a_static_schedule_never_changes():
    s = Schedule.static(n_layers=3, mean=-0.25, std=0.4)
    assert {s(layer, t) for layer in range(3) for t in (-1, 0, 175, 1e6)} == {(-0.25, 0.4)}


def test_a_schedule_from_a_callable_says_what_the_callable_says():
    s = Schedule.from_callable(2, lambda layer, t: (-1.0 / (1 + t), layer + 0.5))
    assert s(1, 3) == (-0.25, 1.5)
    means, stds = s.values([0, 1])
    assert means.tolist() == [[-1.0, -1.0], [-0.5, -0.5]] and stds.tolist() == [[0.5, 1.5]] * 2
    with pytest.raises(ValueError, match="made from a callable has no decay intervals"):
        s.intervals  # noqa: B018
    with pytest.raises(ValueError, match="the std of layer 0 at t = 2 must be finite and at least 0, not -1.0"):
        Schedule.from_callable(1, lambda layer, t: (0.0, 1.0 - t))(0, 2)
    with pytest.raises(TypeError, match=r"must return \(mean, std\)"):
        Schedule.from_callable(1, lambda layer, t: 0.3)(0, 2)
    with pytest.raises(TypeError, match="rule must be a function"):
        Schedule.from_callable(1, 0.3)


@pytest.mark.parametrize("sharpness", [0.0, 0.3, 0.9])
def test_whetstones_bounded_relu_and_sigmoid_are_regularisations_under_its_schedule(sharpness):
    width, x = 1 - sharpness, np.linspace(-1, 2, 301)
    uniform = Schedule.whetstone(2, start=5, duration=10)
    assert uniform.intervals == ((5, 15), (15, 25))
    ramp = Regularisation(Quantiser.heaviside(0.5), Noise("uniform", *uniform(0, 5 + 10 * sharpness)))
    assert np.allclose(ramp(x), np.clip((x - 0.5) / width + 0.5, 0, 1), atol=1e-12)
    logistic = Schedule.whetstone(2, start=5, duration=10, family="logistic", bottom_up=False, intermission=3)
    assert logistic.intervals == ((5, 15), (5, 15))
    sigmoid = Regularisation(Quantiser.heaviside(), Noise("logistic", *logistic(1, 5 + 10 * sharpness)))
    k = 4 * math.log(2 + math.sqrt(3)) / width
    assert np.allclose(sigmoid(x), 1 / (1 + np.exp(-k * x)), atol=1e-12)


def test_whetstones_pause_lies_between_the_layers():
    assert Schedule.whetstone(3, start=1, duration=4, intermission=2).intervals == ((1, 5), (7, 11), (13, 17))


@pytest.mark.parametrize("t", [0, 10, 60])
def test_soft_assignment_to_two_centres_is_a_logistic_regularisation(t):
    s, z = Schedule.soft_to_hard(3, inverse_temperature=0.7, growth=1.04, gap=2.0, end=200), np.linspace(-3, 5, 201)
    sigma = 0.7 * 1.04**t
    weights = np.exp(-sigma * (z[:, None] - np.array([0.0, 2.0])) ** 2)
    soft = 2.0 * weights[:, 1] / weights.sum(axis=1)
    hard = Quantiser(levels=[0, 2], thresholds=[1.0])
    assert np.allclose(Regularisation(hard, Noise("logistic", *s(2, t)))(z), soft, atol=1e-12)
    assert s(0, 200) == (0.0, 0.0)


def test_soft_assignment_to_three_centres_is_not_exactly_a_regularisation_but_tends_to_it():
    z, centres = np.linspace(-2, 2, 401), np.array([-1.0, 0.0, 1.0])
    gaps = []
    for sigma in (1.0, 4.0, 16.0):
        weights = np.exp(-sigma * (z[:, None] - centres) ** 2)
        std = Schedule.soft_to_hard(1, inverse_temperature=sigma)(0, 0)[1]
        law = Regularisation(Quantiser.ternary(), Noise("logistic", 0.0, std))
        gaps.append(np.abs(weights @ centres / weights.sum(axis=1) - law(z)).max())
    assert gaps[0] > 0.01 and gaps[2] < 1e-6 and gaps[0] > gaps[1] > gaps[2]


def test_schedules_are_values():
    s = Schedule(n_layers=3, interval=[(0, 1), (1, 2), (2, 3)], power_law=[1, 2, 3])
    assert s == Schedule(n_layers=3, interval=((0, 1), (1, 2), (2, 3)), power_law=(1, 2, 3))
    assert len({s, dataclasses.replace(s), dataclasses.replace(s, mean0=-0.5)}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        s.end = 3


def test_a_table_has_a_line_for_each_time_and_no_negative_zero():
    s = Schedule(n_layers=2, end=10, mean0=-0.5, static_mean=False)
    lines = s.table([0, 2.5, 10]).splitlines()
    assert len(lines) == 4 and lines[0].split("layer")[0].strip() == "t"
    assert lines[1].split() == ["0", "-0.5000,", "0.2887", "-0.5000,", "0.2887"]
    assert lines[2].split() == ["2.5", "-0.2500,", "0.0722", "-0.5000,", "0.2887"]
    assert "-0.0000" not in lines[3]


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"n_layers": 0}, ValueError, "n_layers must be an integer at least 1, not 0"),
        ({"n_layers": 2.0}, TypeError, "n_layers must be an integer"),
        ({"interval": "sameend"}, ValueError, "Did you mean 'same_end'"),
        ({"power_law": "homogenous"}, ValueError, "Did you mean 'homogeneous'"),
        ({"start": 10, "end": 10}, ValueError, "end must be finite and greater than 10, not 10"),
        ({"std0": -0.1}, ValueError, "std0 must be finite and at least 0, not -0.1"),
        ({"mean0": float("nan")}, ValueError, "mean0 must be finite"),
        ({"static_mean": 1}, TypeError, "static_mean must be True or False"),
        ({"n_layers": 2, "interval": [(0, 1)]}, ValueError, "each of the 2 layers, not 1"),
        ({"n_layers": 1, "interval": [(1, 0)]}, ValueError, "the end of layer 0's interval must be .* greater than 1"),
        ({"n_layers": 1, "interval": [(1, 2, 3)]}, ValueError, "must be a pair"),
        ({"n_layers": 1, "interval": 3}, TypeError, "interval must be one of"),
        ({"n_layers": 2, "power_law": (1,)}, ValueError, "one exponent for each of the 2 layers, not 1"),
        ({"n_layers": 1, "power_law": (0,)}, ValueError, "the exponent of layer 0 in power_law .* greater than 0"),
        ({"n_layers": 1, "std_exponents": 2}, TypeError, "a sequence of 1 positive exponents"),
        ({"growth": 1.0}, ValueError, "growth must be finite and greater than 1"),
    ],
)
def test_bad_input_is_refused_with_one_sentence(arguments, error, message):
    with pytest.raises(error, match=message) as caught:
        Schedule(**arguments)
    assert "\n" not in str(caught.value)


def test_layers_outside_the_network_and_odd_times_are_refused():
    with pytest.raises(ValueError, match="layer must be an integer from 0 to 6, not 7"):
        Schedule()(7, 0)
    with pytest.raises(TypeError, match="t must be a real number"):
        Schedule()(0, "now")
    with pytest.raises(ValueError, match="t must be finite"):
        Schedule()(0, math.inf)
    with pytest.raises(ValueError, match="period must be finite and greater than 0"):
        Schedule.periodic(3, 0)
    with pytest.raises(ValueError, match="family must be one of 'uniform', 'logistic'"):
        Schedule.whetstone(3, family="normal")


def test_each_layer_can_start_with_noise_of_its_own():
    s = Schedule.periodic(3, 10, "same_start", mean0=(-0.5, 0.0, 0.25), std0=[0.1, 0.2, 0.4], static_mean=False)
    assert s.initial == ((-0.5, 0.1), (0.0, 0.2), (0.25, 0.4)) and s.std0 == (0.1, 0.2, 0.4)
    for layer, (mean0, std0) in enumerate(s.initial):
        alone = Schedule(3, "same_start", end=30, mean0=mean0, std0=std0, static_mean=False)
        assert s(layer, 7.5) == alone(layer, 7.5) and s(layer, 0) == (mean0, std0)
    assert Schedule(2, std0=(0.3, 0.3)).initial == Schedule(2, std0=0.3).initial
    assert as_formulas(s)[2][1] == sp.Rational(4, 10) * (LAMBDA / 30) ** 2 and as_formulas(s)[0][1] == 0


@pytest.mark.parametrize(
    "options, message",
    [
        ({"std0": (0.1, 0.2)}, "std0 must be one number, or one for each of the 3 layers, not 2 numbers"),
        ({"mean0": ()}, "mean0 must be one number, or one for each of the 3 layers, not 0 numbers"),
        ({"std0": (0.1, -0.2, 0.3)}, r"std0 of layer 1 must be finite and at least 0, not -0\.2"),
        ({"mean0": (0, 0, math.nan)}, "mean0 of layer 2 must be finite, not nan"),
    ],
)
def test_initial_noises_that_do_not_fit_the_layers_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Schedule(3, **options)
