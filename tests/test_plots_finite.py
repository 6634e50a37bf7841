"""Pictures of finite noise: what their lines are, and where their strips stand."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from anabook import Noise, Quantiser, plots
from anabook.plots.finite import agreement


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def record(shift=0.0, unit="uniform-random-partition-homogeneous", data="digits"):
    epochs = {
        "std": [[0.3, 0.3], [0.0, 0.3], [0.0, 0.1], [0.0, 0.0]],
        "disagreement": [0.4 + shift, 0.2, 0.1, 0.0],
        "certified": [0.0, 0.1, 0.5 + shift, 1.0],
        "unreached": [0.0, 0.0, 0.2, 1.0],
        "bound": [1.0, 1.0, 0.7, 0.0],
    }
    shapes = {"uniform": [0.01, 0.02], "normal": [0.011, 0.021]}
    return {"config": {"data": data, "unit": unit}, "epochs": epochs, "magnitudes": [0.1, 0.2], "shapes": shapes}


def test_a_line_for_each_share_is_the_mean_of_the_runs_in_per_cent():
    ax = plots.agreement_curves([record(), record(0.1)])
    lines = {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}
    assert list(lines) == ["measured", "certified by intervals", "no unit within reach", "1 − bound"]
    assert lines["measured"].get_ydata() == pytest.approx([55, 80, 90, 100])
    assert lines["certified by intervals"].get_ydata() == pytest.approx([0, 10, 55, 100])
    assert lines["1 − bound"].get_ydata() == pytest.approx([0, 0, 30, 100])
    assert list(lines["measured"].get_xdata()) == [1, 2, 3, 4]
    assert len({str(line.get_linestyle()) for line in lines.values()}) >= 2
    low, high = (ax.collections[0].get_paths()[0].vertices[:, 1].min(), 100)
    assert low == pytest.approx(50) and high == 100


def test_a_vertical_line_stands_where_a_layer_has_lost_its_noise():
    ax = plots.agreement_curves([record()])
    places = [line.get_xdata()[0] for line in ax.lines if line.get_label().startswith("_")]
    assert places == [2, 4]


def test_shares_are_ordered_in_a_record_that_is_sound():
    shares = [agreement(record(), name) for name in ("no unit within reach", "certified by intervals", "measured")]
    assert all((a <= b).all() for a, b in zip(shares, shares[1:]))
    with pytest.raises(ValueError, match="label must be one of"):
        agreement(record(), "certain")


def test_records_of_different_units_are_not_drawn_as_one():
    with pytest.raises(ValueError, match="must be of one unit on one data set, not of 2"):
        plots.agreement_curves([record(), record(unit="uniform-random-same-end-homogeneous")])
    with pytest.raises(ValueError, match="not of 0"):
        plots.agreement_curves([])


def test_each_law_has_its_own_line_over_the_mean_size():
    ax = plots.shape_curves(record())
    assert [line.get_label() for line in ax.lines] == ["uniform", "normal"]
    assert ax.lines[1].get_ydata() == pytest.approx([1.1, 2.1]) and ax.get_xscale() == ax.get_yscale() == "log"
    assert ax.lines[0].get_linestyle() != ax.lines[1].get_linestyle()


@pytest.mark.parametrize(("mean", "ends"), [(0.0, (-0.2, 0.2)), (-0.3, (-0.5, 0.0)), (0.1, (-0.1, 0.3))])
def test_the_strips_are_what_is_within_reach(mean, ends):
    ax = plots.reaches(Quantiser.ternary(), Noise.covering("uniform", 0.2, mean=mean), 1.5)
    for patch, threshold in zip(ax.patches, (-0.5, 0.5), strict=True):
        assert [patch.get_x(), patch.get_x() + patch.get_width()] == pytest.approx([threshold + end for end in ends])
    chance = ax.lines[1].get_ydata()
    assert 0 <= chance.min() and chance.max() <= 1 and np.any(chance > 0.4)
