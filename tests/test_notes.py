"""The numbers in the appendix "Notes on the paper", and that the tests which it names exist.

What the appendix takes from the chapters is tested with them: the mode in test_mode, networks in test_networks, schedules in
test_schedules, the models in test_models, the proposition in test_symbolic.
"""

import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import anabook as ab
from anabook.noise import FAMILIES
from anabook.schedules import INTERVALS, POWER_LAWS

ROOT = Path(__file__).parents[1]
TERNARY = ab.Quantiser.ternary()


def appendix() -> dict:
    """The notebook's cells executed, as one namespace."""
    nbformat = pytest.importorskip("nbformat")
    cells = nbformat.read(ROOT / "book/notes-on-the-paper.ipynb", 4).cells
    wanted = [c.source for c in cells if c.cell_type == "code" and ("def " in c.source or c.source.startswith("import"))]
    names: dict = {}
    for source in wanted:
        exec(compile(source, "notes-on-the-paper", "exec"), names)
    return names


@pytest.fixture(scope="module")
def notes() -> dict:
    return appendix()


def test_every_test_and_test_file_that_the_appendix_names_exists():
    nbformat = pytest.importorskip("nbformat")
    text = "\n".join(
        c.source for c in nbformat.read(ROOT / "book/notes-on-the-paper.ipynb", 4).cells if c.cell_type == "markdown"
    )
    files = {*re.findall(r"`tests/(test_\w+\.py)`", text)}
    named = {*re.findall(r"`(test_\w+)`", text)}
    assert len(files) >= 8 and len(named) >= 10
    defined = set()
    for path in (ROOT / "tests").glob("test_*.py"):
        defined |= {*re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.M)}
    assert not {name for name in files if not (ROOT / "tests" / name).is_file()}
    assert not named - defined


def test_every_note_is_in_the_summary_and_every_one_in_the_summary_is_a_note():
    nbformat = pytest.importorskip("nbformat")
    cells = nbformat.read(ROOT / "book/notes-on-the-paper.ipynb", 4).cells
    text = "\n".join(c.source for c in cells if c.cell_type == "markdown")
    notes_made = re.findall(r":label: (note-[\w-]+)", text)
    summary = text[text.index("## Summary") :]
    assert len(notes_made) == len(set(notes_made)) == 23
    assert re.findall(r"^\| \{prf:ref\}`(note-[\w-]+)`", summary, re.M) == notes_made


@given(mean=st.floats(-0.5, 0.5), std=st.floats(0.05, 1.0), x=st.floats(-2, 2), family=st.sampled_from(sorted(FAMILIES)))
def test_adding_and_subtracting_a_noise_are_shifted_by_twice_its_mean(mean, std, x, family):
    subtracted = ab.Regularisation(TERNARY, ab.Noise(family, mean, std))
    added = ab.Regularisation(TERNARY, ab.Noise(family, -mean, std))  # the law of σ(x + ν)
    levels = float(added.probabilities(x - 2 * mean) @ TERNARY.levels)
    assert float(subtracted(x)) == pytest.approx(levels, abs=1e-12 + 1e-14 / std)


def test_at_the_initial_mean_of_the_experiments_the_two_differ_by_a_whole_level():
    subtracted = ab.Regularisation(TERNARY, ab.Noise.covering("uniform", 0.5, mean=-0.5))
    added = ab.Regularisation(TERNARY, ab.Noise.covering("uniform", 0.5, mean=0.5))
    assert float(subtracted(0.0)) == pytest.approx(0.5, abs=1e-12)
    assert float(added.probabilities(0.0) @ TERNARY.levels) == pytest.approx(-0.5, abs=1e-12)


def test_a_logistic_std_is_1_8138_scales():
    from scipy import stats

    for scale in (0.1, 1.0, 7.0):
        assert stats.logistic(scale=scale).std() / scale == pytest.approx(1.8138, abs=5e-5)


def test_the_codes_four_sigmas_are_scipys_scales_of_the_covering_noises():
    """SciPy's `scale` of each law is what the reference code calls sigma: half-width (doubled for SciPy), std or scale."""
    from scipy import stats
    from scipy.special import erfinv

    normal = -0.5 * math.sqrt(2) / (2 * erfinv(-0.95))
    logistic = 1 / (2 * math.log((1 + 0.95) / (1 - 0.95)))
    laws = {
        "uniform": stats.uniform(-0.5, 1.0),
        "triangular": stats.triang(0.5, -0.5, 1.0),
        "normal": stats.norm(0, normal),
        "logistic": stats.logistic(0, logistic),
    }
    for family, law in laws.items():
        assert ab.Noise.covering(family, half_width=0.5, mass=0.95).std == pytest.approx(law.std(), rel=1e-12)
    assert (normal, logistic) == (pytest.approx(0.2551, abs=5e-5), pytest.approx(0.1365, abs=5e-5))


def test_at_a_tie_the_first_maximum_is_the_lower_level_and_the_last_the_quantisers():
    r = ab.Regularisation(TERNARY, ab.Noise.covering("uniform", 0.5))
    for threshold in TERNARY.thresholds:
        p = r.probabilities(threshold)
        assert (p == p.max()).sum() == 2
        first, last = np.argmax(p), len(p) - 1 - np.argmax(p[::-1])
        assert TERNARY.levels[last] == r.mode(threshold) == TERNARY(threshold)
        assert TERNARY.levels[first] == r.mode(threshold, ties="lower") < TERNARY(threshold)


def test_the_grid_of_384_points_holds_264_different_experiments(notes):
    """Counted another way: as distinct courses of the noise of a trained, eventually quantised network."""
    courses = set()
    for family, strategy, mean, std, interval, law in itertools.product(
        FAMILIES, ("expectation", "mode", "random"), ("static", "dynamic"), ("static", "dynamic"), INTERVALS, POWER_LAWS
    ):
        if strategy == "expectation" and std == "static":
            continue
        schedule = ab.Schedule.periodic(
            7,
            50,
            interval,
            power_law=law,
            mean0=-0.5 * (mean == "dynamic"),
            std0=0.25,
            static_mean=mean == "static",
            static_std=std == "static",
        )
        values = schedule.values(range(0, 351, 5))
        courses.add((family, strategy, *(np.round(v, 12).tobytes() for v in values)))
    assert len(courses) == len(notes["kept"]) == 264
    assert len(notes["grid"]) == 384 and sorted(map(notes["reasons"].count, {*notes["reasons"]})) == [4, 32, 84, 264]


def test_the_designs_of_the_other_two_tasks_hold_32_points_none_with_a_dynamic_mean(notes):
    assert len(notes["others"]) == 32
    assert all(mean == "static" for _, _, mean, *_ in notes["others"])


@pytest.mark.parametrize(("fan_in", "printed"), [(40, 0.077), (576, 0.092), (64, 0.080)])
def test_latent_weights_drawn_in_quanta_are_mostly_out_of_reach_for_a_quantum_of_0_07(notes, fan_in, printed):
    q = ab.Quantiser.linear(bits=4, signed=True, quantum=1.0, rounding="nearest")
    r = ab.Regularisation(q, ab.Noise.covering("uniform", 0.5))
    rng = np.random.default_rng(fan_in)
    drawn = rng.choice(q.thresholds, 200_000) + rng.uniform(-1, 1, 200_000) / math.sqrt(fan_in)
    share = (r.derivative(drawn / 0.07) > 0).mean()
    assert share == pytest.approx(notes["share_in_reach"](fan_in, 0.07), abs=4 * math.sqrt(0.25 / 200_000))
    assert notes["share_in_reach"](fan_in, 0.07) == pytest.approx(printed, abs=5e-4) and share < 0.1
    assert (r.derivative(drawn) > 0).all() and notes["share_in_reach"](fan_in, 1.0) == pytest.approx(1)


def test_unbounded_noise_gives_such_weights_no_gradient_in_single_precision_either():
    q = ab.Quantiser.linear(bits=4, signed=True, quantum=1.0, rounding="nearest")
    least = (1.5 - 1 / math.sqrt(40)) / 0.07  # the nearest that a weight from the third-innermost threshold can come
    for family in ("normal", "logistic"):
        slope = float(ab.Regularisation(q, ab.Noise.covering(family, 0.5)).derivative(least))
        assert slope < np.finfo(np.float32).tiny


def test_the_channels_mean_std_is_below_the_std_of_all_pixels_by_a_third_of_a_percent():
    means, stds = np.array([0.4914, 0.4822, 0.4465]), np.array([0.2470, 0.2430, 0.2610])
    rng = np.random.default_rng(0)
    channels = rng.standard_normal((3, 200_000))
    channels = (channels - channels.mean(axis=1, keepdims=True)) / channels.std(axis=1, keepdims=True)
    pixels = channels * stds[:, None] + means[:, None]
    assert 100 * (pixels.std() / stds.mean() - 1) == pytest.approx(0.35, abs=5e-3)


@pytest.mark.parametrize("length", [600, 9_000, 15_999])
def test_padding_by_a_second_leaves_the_49_frames_as_padding_to_a_second(length):
    pytest.importorskip("librosa")
    from anabook.datasets.speech import log_mel

    clip = np.random.default_rng(length).uniform(-1, 1, length)
    to = log_mel(np.pad(clip, (0, 16_000 - length))[np.newaxis])
    by = log_mel(np.pad(clip, (0, 16_000))[np.newaxis])
    np.testing.assert_array_equal(to[..., :49], by[..., :49])
    assert to.shape[-1] == 51 < by.shape[-1]
