"""Pictures show what the package computes."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

import anabook as ab
from anabook import plots
from anabook.noise import FAMILIES
from anabook.variants import VARIANTS


@pytest.fixture(autouse=True)
def fresh_figures():
    with plt.rc_context():
        yield
    plt.close("all")


def test_every_family_has_its_own_colour_and_dashes():
    assert set(FAMILIES) <= set(plots.COLOURS) and set(FAMILIES) <= set(plots.DASHES)
    assert len({plots.COLOURS[f] for f in FAMILIES}) == len({str(plots.DASHES[f]) for f in FAMILIES}) == len(FAMILIES)


def contrast_with_white(colour):
    channels = np.array(plt.matplotlib.colors.to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return 1.05 / (0.05 + linear @ [0.2126, 0.7152, 0.0722])


def test_a_law_of_ones_own_is_drawn_like_no_family():
    laplace = ab.laws.Law(
        "laplace",
        density=lambda t, m: m.exp(-m.root(2) * m.abs(t)) / m.root(2),
        distribution=lambda t, m: m.where(t < 0, m.exp(-m.root(2) * m.abs(t)) / 2, 1 - m.exp(-m.root(2) * m.abs(t)) / 2),
    )
    axes = plots.regularisations(ab.Quantiser.ternary(), [ab.Noise(laplace), ab.Noise("normal")], plots.grid(-1, 1))
    mine, normal = axes[0].get_lines()[-2:]
    assert mine.get_label() == "laplace" and normal.get_label() == "normal"
    assert plots.line_of("laplace") == plots.line_of("laplace")
    styles = [plots.line_of(family) for family in FAMILIES]
    assert all(plots.line_of("laplace")[key] != style[key] for style in styles for key in ("color", "linestyle"))


@pytest.mark.parametrize("name", plots.COLOURS)
def test_colours_stand_out_from_the_white_ground(name):
    assert contrast_with_white(plots.COLOURS[name]) >= 3  # WCAG 2.1, non-text contrast


def test_staircase_draws_each_tread_at_its_level_and_marks_the_closed_ends():
    q = ab.Quantiser([-1, 0, 2], [-0.5, 0.25])
    ax = plots.staircase(q, [-2.0, 2.0], label="σ")
    treads, closed, opened = ax.lines[:3], ax.lines[3], ax.lines[4]
    assert [line.get_ydata()[0] for line in treads] == q.levels.tolist()
    assert [tuple(line.get_xdata()) for line in treads] == [(-2, -0.5), (-0.5, 0.25), (0.25, 2)]
    assert closed.get_ydata().tolist() == [0, 2] and opened.get_ydata().tolist() == [-1, 0]
    assert [line.get_label() for line in treads].count("σ") == 1


def test_staircase_leaves_out_treads_and_marks_beyond_the_range():
    ax = plots.staircase(ab.Quantiser.linear(4), [-0.5, 0.5])
    assert len(ax.lines) == 4
    assert ax.lines[2].get_xdata().tolist() == [0.0]


def test_regularisation_curves_are_the_values_of_the_package():
    x, q = plots.grid(-1.5, 1.5, 101), ab.Quantiser.ternary()
    noises = [ab.Noise.covering(family, 0.5) for family in FAMILIES]
    left, right = plots.regularisations(q, noises, x)
    for noise in noises:
        r = ab.Regularisation(q, noise)
        (value,) = [line for line in left.lines if line.get_label() == noise.family]
        (slope,) = [line for line in right.lines if line.get_label() == noise.family]
        assert np.array_equal(value.get_ydata(), r(x)) and np.array_equal(slope.get_ydata(), r.derivative(x))


def test_the_style_gives_a_white_ground():
    plots.use_style()
    assert plt.rcParams["figure.facecolor"] == plt.rcParams["savefig.facecolor"] == "white"


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ((1.0, 0.0), ValueError, "high must be finite and greater than 1, not 0.0"),
        ((0.0, 1.0, 1), ValueError, "n must be an integer at least 2, not 1"),
        (("a", 1.0), TypeError, "low must be a real number, not 'a'"),
    ],
)
def test_a_bad_grid_gets_one_sentence(arguments, error, says):
    with pytest.raises(error, match=says):
        plots.grid(*arguments)


def test_an_arriving_error_is_a_dot_on_the_units_step_in_units_of_its_offset():
    noise, error = ab.Noise("logistic", mean=-0.2, std=0.05), 0.3
    ax = plots.arrival(noise, error, label="here")
    step, dot = ax.lines
    x = step.get_xdata()
    assert np.allclose(step.get_ydata(), noise.cdf(0.2 * x), rtol=1e-12) and step.get_label() == "here"
    assert (dot.get_xdata()[0], dot.get_ydata()[0]) == (pytest.approx(-1.5), pytest.approx(noise.cdf(-0.3)))
    assert dot.get_color() == step.get_color() and ax.get_xlim() == (-3.2, 0.6)


@pytest.mark.parametrize(
    ("mean", "std", "error", "says"),
    [
        (0.0, 0.1, 0.1, "negative mean and a positive std, not 0 and 0.1"),
        (-0.1, 0.0, 0.1, "not -0.1 and 0"),
        (-0.1, 0.1, -0.2, "error must be at least 0, not -0.2"),
    ],
)
def test_an_arrival_needs_an_offset_noise_and_an_error(mean, std, error, says):
    with pytest.raises(ValueError, match=says):
        plots.arrival(ab.Noise("normal", mean, std), error)


def test_zoo_has_a_panel_for_each_variant_and_hides_the_rest():
    chosen = [VARIANTS[name] for name in ("hard_sigmoid", "ste_tern", "swish_sign", "identity", "fast_sigmoid")]
    figure = plots.zoo(chosen, columns=4)
    panels = [ax for ax in figure.axes if ax.axison]
    assert [ax.get_title() for ax in panels] == [variant.name.replace("_", " ") for variant in chosen]
    assert "peak 5" in [text.get_text() for text in panels[2].texts]
    assert min(panels[2].get_ylim()) < -1 and len(figure.axes) == 8


def test_a_sheet_shows_the_first_pictures_of_each_class_in_order():
    rng = np.random.default_rng(0)
    inputs, labels = rng.integers(0, 256, (12, 3, 5, 4), dtype=np.uint8), np.arange(12) % 3
    figure = plots.sheet(inputs, labels, ["a", "b", "c"], per_class=5)
    assert [ax.get_ylabel() for ax in figure.axes] == ["a", "b", "c"]
    strip = figure.axes[1].images[0].get_array()
    assert strip.shape == (5, 5 * 6, 3)
    assert np.array_equal(strip[:, 6:10], inputs[4].transpose(1, 2, 0))
    assert (strip[:, 4:6] == 255).all() and (strip[:, 24:] == 255).all()


def test_a_sheet_takes_grey_pictures_without_a_channel():
    figure = plots.sheet(np.zeros((4, 8, 8), np.float32), np.zeros(4, int), ["0"], per_class=4)
    assert figure.axes[0].images[0].get_array().shape == (8, 40)


def test_between_pictures_that_count_ink_the_sheet_is_blank():
    strip = plots.sheet(np.ones((2, 8, 8), np.float32), np.zeros(2, int), ["0"], per_class=3).axes[0].images[0].get_array()
    assert (strip[:, 8:10] == 0).all() and (strip[:, 18:] == 0).all() and (strip[:, :8] == 1).all()


def test_a_clip_is_drawn_as_waveform_spectrogram_and_features():
    samples, features, mel = np.sin(np.arange(16000)), np.arange(490).reshape(49, 10) % 256, np.zeros((40, 51))
    wave, spectrogram, coefficients = plots.clip(samples, features, mel).axes[:3]
    assert np.array_equal(wave.lines[0].get_ydata(), samples)
    assert np.array_equal(spectrogram.images[0].get_array(), mel)
    assert np.array_equal(coefficients.images[0].get_array(), features.T[1:])


def test_a_schedule_is_drawn_with_one_line_for_each_layer():
    axes = plots.schedule(ab.Schedule(n_layers=3, end=30))
    assert [len(ax.lines) for ax in axes] == [3, 3]
    assert np.allclose(axes[1].lines[1].get_ydata()[[0, -1]], [0.2887, 0.0])


def case(estimator, std, bias, below, spread):
    return {
        "config": {"testbed": "one", "estimator": estimator, "std": std},
        "bias": bias,
        "bias_below": below,
        "spread": spread,
    }


def test_biases_that_are_not_told_from_zero_are_drawn_open_and_at_their_bound():
    records = [case("mode", 0.1, 0.5, 0.5, 0.0), case("mode", 1.0, 0.2, 0.2, 0.0), case("reinforce", 0.1, 0.0, 0.3, 9.0)]
    bias, spread = plots.estimators(records).axes
    drawn = {line.get_label(): line for line in bias.lines}
    assert drawn["mode"].get_ydata().tolist() == [0.5, 0.2] and drawn["reinforce"].get_ydata().tolist() == [0.3]
    hollow = [line for line in bias.lines if line.get_markerfacecolor() == "white" and len(line.get_xdata())]
    assert [line.get_ydata().tolist() for line in hollow] == [[0.3]]
    assert [line.get_label() for line in spread.lines] == ["reinforce"]
    assert bias.get_yscale() == spread.get_yscale() == "log"


def test_eight_estimators_are_told_apart():
    figure = plots.estimators([case(f"e{i}", 0.1, 0.5, 0.5, 1.0) for i in range(8)])
    looks = {(line.get_color(), str(line.get_linestyle()), line.get_marker()) for line in figure.axes[1].lines}
    assert len(looks) == 8


def test_cosines_are_means_of_runs_and_end_where_no_gradient_arrives():
    def entry(value):
        return {"std": 0.1, "agreement": 0.9} | ({} if value is None else {"mode": {"cosine": value, "step": value / 2}})

    runs = [
        {"config": {"interval": "same_end"}, "epochs": [[entry(a), entry(0.8)], [entry(None), entry(0.6)]]}
        for a in (0.2, 0.6)
    ]
    figure = plots.cosines(runs)
    assert [ax.get_title() for ax in figure.axes] == ["same end, layer 0", "same end, layer 1"]
    line = next(line for line in figure.axes[0].lines if line.get_label() == "mode")
    np.testing.assert_allclose(line.get_ydata(), [0.4, np.nan])
    line = next(line for line in plots.cosines(runs, "step").axes[1].lines if line.get_label() == "mode")
    np.testing.assert_allclose(line.get_ydata(), [0.4, 0.3])


def test_the_picture_of_a_drift_marks_every_local_minimum():
    b = np.linspace(-2, 2, 401)
    ax = plots.drift(b, np.array([0.1, 1.0]), np.stack([(b**2 - 1) ** 2, (b - 0.5) ** 2]))
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[-1, 0.1], [1, 0.1], [0.5, 1.0]], atol=1e-9)
    assert ax.get_yscale() == "log"
