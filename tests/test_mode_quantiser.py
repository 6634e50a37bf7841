"""The mode as a quantiser of its own: thresholds found once per noise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anabook import Noise, Quantiser, Regularisation, symbolic
from anabook.noise import FAMILIES


@st.composite
def regularisations(draw):
    n = draw(st.integers(2, 7))
    if draw(st.booleans()):
        quantiser = Quantiser.linear(
            draw(st.integers(1, 4)), quantum=draw(st.floats(0.05, 2.0)), rounding=draw(st.sampled_from(["floor", "nearest"]))
        )
    else:
        steps = draw(st.lists(st.floats(0.1, 3.0), min_size=n, max_size=n))
        gaps = draw(st.lists(st.floats(0.2, 3.0), min_size=n - 1, max_size=n - 1))
        quantiser = Quantiser(np.cumsum(steps), np.cumsum(gaps))
    width = np.diff(quantiser.thresholds).mean() if quantiser.n_levels > 2 else 1.0
    std = float(width * np.exp(draw(st.floats(-3.0, 2.0))))
    return Regularisation(quantiser, Noise(draw(st.sampled_from(sorted(FAMILIES))), draw(st.floats(-2.0, 2.0)), std))


@settings(max_examples=150)
@given(regularisations())
def test_mode_quantiser_is_the_mode(regularisation):
    t, q = regularisation.quantiser.thresholds, regularisation.mode_quantiser()
    x = np.concatenate([np.linspace(t[0] - 5, t[-1] + 5, 300), q.thresholds - 1e-7, q.thresholds + 1e-7])
    np.testing.assert_array_equal(q(x), regularisation.mode(x, ties="higher"))


@pytest.mark.parametrize("family", FAMILIES)
def test_levels_that_are_never_most_probable_are_left_out_and_the_outer_ones_stay(family):
    q = Regularisation(Quantiser.linear(4), Noise(family, 0.25, 3.0)).mode_quantiser()
    assert 2 <= q.n_levels < 16 and (q.levels[0], q.levels[-1]) == (-8.0, 7.0)
    starts = Regularisation(Quantiser.linear(4), Noise(family, 0.25, 3.0)).mode_thresholds()
    assert len(starts) == 15 and (np.diff(starts) >= 0).all() and (np.diff(starts) == 0).any()


def test_plateaus_of_ties_under_wide_uniform_noise_go_to_the_higher_level():
    # Half-width 2 over bins of width 1: wherever several bins lie inside the support, the highest of them wins.
    r = Regularisation(Quantiser.linear(3), Noise("uniform", 0.0, 2 / 3**0.5))
    x = np.linspace(-1.9, 0.9, 57)
    assert r.is_tie(x).all()
    np.testing.assert_array_equal(r.mode_quantiser()(x), r.mode(x))


@pytest.mark.parametrize("noise", [Noise("normal", 0.3, 0.0), Noise("uniform", 0.3, 0.5 / 3**0.5)])
def test_narrow_noise_leaves_the_shifted_quantiser(noise):
    q = Quantiser.ternary()
    assert Regularisation(q, noise).mode_quantiser() == Quantiser(q.levels, q.thresholds + 0.3)


def test_other_noises_are_refused():
    with pytest.raises(TypeError, match="four families"):
        Regularisation(Quantiser.ternary(), symbolic.family("normal").noise(0.0, 0.3)).mode_quantiser()
