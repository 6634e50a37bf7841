"""The statistics behind verdicts: p values, their correction, ratios of scatter, the sharpest measure; and all of it done again."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from anabook.experiments import claims, make, results, significance, tables
from anabook.experiments.claim import Claim, Contrast
from anabook.experiments.intervals import Ratio, corrected, interval, ratio
from anabook.experiments.measures import of_record
from anabook.experiments.significance import Chances

ROOT = Path(__file__).resolve().parents[1]
RECORDED = ("cifar10", "svhn-stand-in", "gsc12")


def again():
    """The script that knows nothing of the package."""
    spec = importlib.util.spec_from_file_location("claims_again", ROOT / "tools" / "claims_again.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def recorded():
    return results.load(ROOT / "data" / "results")


# --- the same numbers by another way -------------------------------------------------------------------------------------


def test_the_script_imports_nothing_of_the_package():
    text = (ROOT / "tools" / "claims_again.py").read_text(encoding="utf-8")
    imports = [line for line in text.splitlines() if line.startswith(("import ", "from ")) or " import " in line.strip()]
    assert imports == [
        "from __future__ import annotations",
        "import json",
        "import math",
        "import sys",
        "from functools import cache",
        "from pathlib import Path",
        "import pandas as pd",
    ]


def test_the_script_knows_every_claim_and_the_data_that_it_is_about():
    script = again()
    assert list(script.CLAIMS) == [claim.name for claim in claims.CLAIMS]
    for claim in claims.CLAIMS:
        about = script.CLAIMS[claim.name][1]
        assert {task for task in RECORDED if claim.is_about(task)} == set([about] if isinstance(about, str) else about)


@pytest.mark.parametrize("task", RECORDED)
def test_every_number_of_the_table_of_claims_is_found_again_from_the_lines_alone(recorded, task):
    found = again().claims(ROOT / "data" / "results", task)
    judged = claims.judge_all(recorded, task)
    assert list(dict.fromkeys(found["claim"])) == [v.claim.name for v in judged]
    for v in judged:
        rows = found[found["claim"] == v.claim.name]
        assert len(rows) == len(v.findings)
        assert set(rows["alone"]) == {v.alone} and set(rows["verdict"]) == {v.verdict}
        for ours, name in ((v.p, "p"), (v.adjusted, "adjusted")):
            assert rows[name].iloc[0] == pytest.approx(ours, abs=1e-9, nan_ok=True)
        for finding, (_, row) in zip(v.findings, rows.iterrows()):
            if finding.effect is None:
                assert row["n"] == 0
                continue
            assert row["n"] == finding.effect.n
            pairs = [(finding.effect.mean, "effect"), (finding.effect.low, "low"), (finding.effect.high, "high")]
            pairs += [(finding.chances.against, "against"), (finding.chances.for_it, "for_it")]
            for ours, name in pairs:
                assert row[name] == pytest.approx(ours, abs=1e-9, nan_ok=True), (v.claim.name, finding.contrast.name, name)


def test_the_scripts_own_law_of_student_is_scipys():
    script = again()
    for freedom, t in itertools.product(range(1, 12), (-40.0, -2.5, -0.3, 0.0, 0.7, 2.9, 3.1, 12.0, 300.0)):
        assert script.upper_tail(t, freedom) == pytest.approx(stats.t.sf(t, freedom), abs=1e-12, rel=1e-7)
        assert script.quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-10)


# --- p values and their correction ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["above", "by", "level"])
def test_a_p_value_is_below_two_and_a_half_per_cent_iff_the_interval_lies_on_that_side(kind):
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(400):
        effect = interval(rng.normal(rng.choice([-0.05, -0.02, 0.0, 0.01, 0.03]), 0.01, rng.integers(2, 7)))
        found = significance.of_effect(effect, kind, 0.02)
        bound = 0.0 if kind == "above" else 0.02
        if kind == "level":
            holds, fails = -bound < effect.low and effect.high < bound, effect.low > bound or effect.high < -bound
        else:
            holds, fails = effect.low > bound, effect.high < bound
        assert (found.against < 0.025, found.for_it < 0.025) == (holds, fails)
        seen.add((holds, fails))
    assert seen == {(True, False), (False, True), (False, False)}


def test_p_values_are_those_of_the_t_test():
    rng = np.random.default_rng(1)
    for n in range(2, 7):
        values = rng.normal(0.01, 0.02, n)
        for side, place in (("greater", 0), ("less", 1)):
            for kind, bound in (("above", 0.0), ("by", 0.02)):
                found = significance.of_effect(interval(values), kind, 0.02)[place]
                assert found == pytest.approx(stats.ttest_1samp(values, bound, alternative=side).pvalue)


def test_effects_without_scatter_or_interval_have_the_p_values_of_what_is_known():
    same = interval([0.05, 0.05, 0.05])
    assert significance.of_effect(same, "above") == pytest.approx((0.0, 1.0))
    assert significance.of_effect(same, "level", 0.02) == pytest.approx((1.0, 0.0))
    assert significance.of_effect(interval([0.02, 0.02]), "by", 0.02) == (0.5, 0.5)
    assert significance.of_effect(interval([0.05]), "above") == significance.UNKNOWN == (1.0, 1.0)
    with pytest.raises(TypeError, match="a claim of kind 'varies more' is not decided by estimate"):
        significance.of_effect(same, "varies more")
    with pytest.raises(TypeError, match="a claim of kind 'above' is not decided by ratio"):
        significance.of_effect(ratio([0.1, 0.3, 0.2], [0.1, 0.2, 0.3]), "above")


def by_hand(values):
    """Holm's rule as it is told: from the smallest on, stop at the first that fails."""
    called, order = set(), np.argsort(values, kind="stable")
    for rank, place in enumerate(order):
        if values[place] > 0.05 / (len(values) - rank):
            break
        called.add(int(place))
    return called


def test_holms_adjusted_p_values_call_what_holms_rule_calls():
    rng = np.random.default_rng(2)
    for _ in range(500):
        values = (rng.random(rng.integers(1, 12)) ** rng.integers(1, 6)).tolist()
        adjusted = significance.holm(values)
        assert {i for i, p in enumerate(adjusted) if p <= 0.05} == by_hand(np.array(values))
        assert all(p <= a <= 1 for p, a in zip(values, adjusted))
        assert [adjusted[i] for i in np.argsort(values)] == sorted(adjusted)
    assert significance.holm([]) == []


@pytest.mark.parametrize("wrong", [-0.1, 1.5])
def test_a_p_value_must_be_a_probability(wrong):
    with pytest.raises(ValueError, match=f"a p value must lie between 0 and 1, not {wrong}"):
        significance.holm([0.5, wrong])


@pytest.mark.parametrize("wrong", [math.nan, "0.5", None])
def test_what_is_no_number_is_no_p_value(wrong):
    with pytest.raises((ValueError, TypeError), match="a p value"):
        significance.holm([wrong])


def test_of_a_claim_the_worst_contrast_supports_and_the_best_contradicts_times_their_number():
    found = significance.of_claim([Chances(0.01, 0.9), Chances(0.2, 0.004), Chances(0.03, 0.5)])
    assert found == (0.2, pytest.approx(0.012)) and found.two_sided == pytest.approx(0.024)
    with pytest.raises(ValueError, match="at least one contrast"):
        significance.of_claim([])


def simulated(trials, shared, seed):
    """The share of lists of ten claims with a wrong verdict, with Holm's rule and without, where nothing has any effect."""
    rng, wrong = np.random.default_rng(seed), np.zeros(2)
    kinds = [("above", 0.0, 0.0), ("above", 0.0, 0.0), ("by", 0.02, 0.02), ("level", 0.02, 0.02), ("above", 0.0, 0.0)] * 2
    for _ in range(trials):
        values = []
        for kind, margin, truth in kinds:
            common = rng.normal(size=3) if shared else 0.0
            noise = 0.004 if kind == "level" else 1.0
            effects = [interval(truth + noise * (rng.normal(size=3) + common)) for _ in range(3)]
            of_each = [significance.of_effect(effect, kind, margin) for effect in effects]
            values.append(significance.of_claim(of_each).two_sided)
        wrong += [min(significance.holm(values)) <= 0.05, min(values) <= 0.05]
    return wrong / trials


@pytest.mark.parametrize("shared", [False, True])
def test_of_ten_claims_without_any_effect_one_is_called_in_at_most_five_per_cent_of_all_lists(shared):
    trials = 600
    with_holm, without = simulated(trials, shared, seed=3)
    assert with_holm <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)
    assert without > 0.12, "each by itself would be called too often: the correction does something"


# --- ratios of scatter ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("correlation", [0.0, 0.8, -0.6])
def test_pitmans_interval_of_a_ratio_covers_it_nineteen_times_in_twenty(correlation):
    rng, trials = np.random.default_rng(4), 1500
    factor = np.linalg.cholesky([[4.0, 2 * correlation], [2 * correlation, 1.0]])
    found = [ratio(*(factor @ rng.normal(size=(2, 5)))) for _ in range(trials)]
    covered = np.mean([each.low <= 2.0 <= each.high for each in found])
    assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / trials)


def test_a_ratio_and_its_p_value_are_those_of_the_correlation_of_sums_and_differences():
    rng = np.random.default_rng(5)
    for n in (3, 4, 5, 9):
        first, second = rng.normal(0, 2, n), rng.normal(size=n)
        effect = ratio(first, second)
        assert effect.mean == pytest.approx(np.std(first) / np.std(second)) and effect.n == n
        test = stats.pearsonr(first + second, first - second, alternative="greater")
        assert significance.of_effect(effect, "varies more").against == pytest.approx(test.pvalue)
        assert (effect.low > 1) == (significance.of_effect(effect, "varies more").against < 0.025)
        back = ratio(second, first)
        assert (back.low, back.high) == (pytest.approx(1 / effect.high), pytest.approx(1 / effect.low))


def test_ratios_that_cannot_be_had_say_so():
    with pytest.raises(ValueError, match="no ratio to what does not scatter"):
        ratio([1.0, 2.0, 3.0], [0.5, 0.5, 0.5])
    with pytest.raises(ValueError, match=r"the same length, two or more, not of shapes \(2,\) and \(3,\)"):
        ratio([1.0, 2.0], [1.0, 2.0, 3.0])
    two = ratio([1.0, 2.0], [1.0, 1.5])
    assert two.mean == pytest.approx(2.0) and math.isnan(two.low) and claims.points(two) == "2.00 times, 2 folds"
    assert str(two) == "2.00 times" and significance.of_effect(two, "varies more") == significance.UNKNOWN
    same = ratio([1.0, 2.0, 4.0], [2.0, 4.0, 8.0])
    assert same.low == pytest.approx(0.5) == same.high, "fully correlated pairs leave nothing open"
    assert significance.of_effect(same, "varies more").for_it == pytest.approx(0.0, abs=1e-6)


def test_nadeau_and_bengios_interval_is_wider_by_their_factor():
    effect = interval([0.01, 0.03, 0.02, 0.05, 0.04])
    wide = corrected(effect)
    assert (wide.high - wide.low) / (effect.high - effect.low) == pytest.approx(math.sqrt(1 + 5 * 0.25))
    assert wide.mean == effect.mean and wide.n == 5
    p = significance.of_effect(wide, "above").against
    error = np.std([0.01, 0.03, 0.02, 0.05, 0.04], ddof=1) * math.sqrt(1 / 5 + 1 / 4)
    assert p == pytest.approx(stats.t.sf(0.03 / error, 4))
    with pytest.raises(ValueError, match="held_out must lie between 0 and 1, not 1.0"):
        corrected(effect, 1.0)
    with pytest.raises(TypeError, match="not of a ratio's"):
        corrected(Ratio(1.0, 0.5, 2.0, 0.9, 5))


# --- measures ------------------------------------------------------------------------------------------------------------


def record(unit, fold, accuracy, unused=None, curve=None, examples=(1000, 10_000)):
    c = make("cifar10", unit, fold)
    curve = [accuracy] * c.epochs if curve is None else curve
    return {
        "record": "run",
        "key": c.key,
        "status": "done",
        "config": c.as_dict(),
        "size": "scaled",
        "seconds": 1.0,
        "provenance": {"title": "cifar10", "kind": "differs"},
        "measured_on": "test" if fold is None else "validation",
        "accuracy": accuracy,
        "loss": 1.0,
        "curves": dict.fromkeys(("accuracy", "train_loss", "train_accuracy", "loss"), curve),
        "examples": {"training": 4000, "held_out": examples[0], "unused": examples[1]},
        **({} if unused is None else {"unused": {"accuracy": unused, "loss": 1.0}}),
    }


def table(folder, *records):
    (folder / "cifar10-scaled.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return results.load(folder)


def test_measures_along_a_curve_are_means_over_the_periods_that_they_name():
    curve = [0.1, 0.2, 0.3] + [0.3] * 18 + [0.4, 0.5, 0.6] + [0.7] * 3 + [0.8, 0.9, 1.0]
    found = of_record({"config": {"period": 3}, "curves": {"accuracy": curve}, "accuracy": 1.0})
    assert found["early"] == pytest.approx(0.2) and found["before_drop"] == pytest.approx(0.5)
    assert found["drop_gain"] == pytest.approx(0.4) and found["best"] == 1.0
    assert math.isnan(found["unused_accuracy"]) and math.isnan(found["noisy_accuracy"])
    broken = of_record({"config": {"period": 3}, "curves": {"accuracy": [0.1]}})
    assert broken["early"] == 0.1 and math.isnan(broken["before_drop"]) and math.isnan(broken["drop_gain"])
    assert all(math.isnan(value) for value in of_record({"config": {"period": 3}}).values())


def test_the_sharpest_measure_is_taken_only_if_all_runs_of_the_table_have_it(tmp_path):
    runs = [record("float", 0, 0.5, 0.52), record("float", 1, 0.6, 0.58), record("ste", 0, 0.4)]
    frame = table(tmp_path, *runs)
    assert results.sharpest(frame) == "accuracy" and results.sharpest(frame.iloc[:0]) == "accuracy"
    assert str(results.behind(frame)) == "accuracy: on the held-out fold, 1,000 examples a run"
    some = frame[frame["unit"] == "float"]
    assert results.sharpest(some) == "unused_accuracy"
    assert "in no fold, the same for all runs, 10,000 examples a run" in str(results.behind(some))
    assert (
        results.summary(some)["mean"][0]
        == pytest.approx(0.55)
        == results.summary(some, measure="unused_accuracy")["mean"][0]
    )
    assert results.summary(frame).set_index("unit")["mean"]["float"] == pytest.approx(0.55)
    assert tables.accuracies(some, "unit", "n").header == ("unit", "unused accuracy", "folds")
    with pytest.raises(ValueError, match="no run to summarise"):
        results.behind(frame.iloc[:0])


def test_the_official_test_set_is_never_replaced_by_images_in_no_fold(tmp_path):
    frame = table(tmp_path, record("float", None, 0.5, 0.9))
    assert results.sharpest(frame) == "accuracy" and results.summary(frame)["mean"][0] == 0.5
    assert "on the official test set" in str(results.behind(frame))


def test_claims_are_judged_by_the_sharpest_measure_and_validation_picks_by_the_fold(tmp_path):
    runs = []
    for fold in range(3):
        for noise, strategy in itertools.product(("uniform", "triangular", "normal", "logistic"), ("mode", "random")):
            fold_accuracy = (0.5 if strategy == "mode" else 0.4) + 0.01 * (noise == "normal")
            runs.append(record(f"{noise}-{strategy}-static", fold, fold_accuracy, 0.9 - fold_accuracy + 0.001 * fold))
        runs.append(record("uniform-mode-partition-homogeneous", fold, 0.3, 0.1))
    frame = table(tmp_path, *runs)
    found = claims.judge(claims.CLAIMS[0], results.select(frame, "cifar10"))
    assert found.verdict == "contradicted" and {f.measure for f in found.findings} == {"unused_accuracy"}
    on_folds = frame.assign(unused_accuracy=math.nan)
    assert claims.judge(claims.CLAIMS[0], results.select(on_folds, "cifar10")).verdict == "supported"
    assert results.picked(results.select(frame, "cifar10"))[0] == "normal-mode-static"


def test_the_largest_error_of_a_difference_is_reached_and_never_passed():
    rng = np.random.default_rng(6)
    for _ in range(300):
        both, first, second, neither = rng.dirichlet(np.ones(4))
        p, q = both + first, both + second
        variance = first + second - (first - second) ** 2
        assert math.sqrt(variance / 500) <= results.largest_error(p, q, 500) + 1e-12
    assert results.largest_error(0.4, 0.3, 100) == pytest.approx(math.sqrt((0.7 - 0.01) / 100))  # never both right
    assert results.largest_error(0.8, 0.9, 100) == pytest.approx(math.sqrt((0.3 - 0.01) / 100))  # never both wrong
    assert results.largest_error(1.0, 0.0, 100) == 0.0
    for wrong in ((1.2, 0.5, 10), (0.5, -0.1, 10), (0.5, math.nan, 10)):
        with pytest.raises(ValueError, match="an accuracy must"):
            results.largest_error(*wrong)
    with pytest.raises(ValueError, match="examples must"):
        results.largest_error(0.5, 0.5, 0)


# --- claims --------------------------------------------------------------------------------------------------------------


def test_each_claim_is_about_the_data_that_the_paper_makes_it_about():
    only = {name: [c.name for c in claims.CLAIMS if c.section and c.tasks == tasks] for name, tasks in (
        ("cifar10", ("cifar10",)), ("svhn", ("svhn",)), ("gsc", ("gsc12", "gsc")))}  # fmt: skip
    numbers = {c.name: i for i, c in enumerate(claims.CLAIMS, 1)}
    assert {1, 3, 6, 10, 11} <= {numbers[name] for name in only["cifar10"]}
    assert only["svhn"] == ["uniform-random-slow-early", "random-partition-or-same-start", "mode-partition-or-same-start"]
    coherent = [f"{strategy}-coherent-intervals" for strategy in ("expectation", "random", "mode")]
    assert only["gsc"] == ["triangular-varies-least", "uniform-varies-most", "partition-ends-level-with-static", *coherent]
    places = {"cifar10": ("section", "sections"), "svhn": "B.1", "gsc12": "B.2"}
    for claim in claims.CLAIMS:
        for task, place in places.items():
            if claim.section and claim.name != "static-mode-is-ste":
                told = claim.section.startswith(place) if task == "cifar10" else place in claim.section
                assert told == (task in claim.tasks), (claim.name, task)
    assert not any("float" in contrast.sides for claim in claims.CLAIMS for contrast in claim.contrasts)


def units_in(claim):
    sides = [side for contrast in claim.contrasts for side in contrast.sides]
    return {unit for side in sides for unit in ((side,) if isinstance(side, str) else side)}


def test_that_same_start_is_among_the_best_is_told_of_speech_as_our_reading_only():
    for claim in claims.CLAIMS:
        if claim.section and claim.tasks == ("gsc12", "gsc") and any("same-start" in unit for unit in units_in(claim)):
            assert "the paper names partition only" in claim.statement and claim.section.startswith("B.2")
        elif claim.section and "same start are the best" in claim.statement:
            assert not claim.is_about("gsc12")


def shown_in(panel):
    """The units of a panel of the paper's, by its captions: figures 1, 4 and 6 are static, 2, 3, 5 and 7 annealed."""
    figure, letter = panel
    if figure in "146":
        strategy = {"a": "random", "b": "mode"}[letter]
        return {f"{noise}-{strategy}-static" for noise in ("uniform", "triangular", "normal", "logistic")}
    noise, strategy = "uniform", {"a": "expectation", "b": "random", "c": "mode"}.get(letter, "")
    if figure == "2":
        noise, strategy = {"a": "uniform", "b": "triangular", "c": "normal", "d": "logistic"}[letter], "expectation"
    elif figure == "3":
        strategy = {"a": "random", "b": "mode"}[letter]
    intervals, laws = ("partition", "same-start", "same-end", "overlapped"), ("homogeneous", "progressive")
    return {f"{noise}-{strategy}-{interval}-{law}" for interval in intervals for law in laws}


def test_each_panel_that_a_claim_cites_shows_what_it_compares_on_the_data_that_it_is_about():
    cited = 0
    for claim in claims.CLAIMS:
        panels = re.findall(r"\d[a-d]", claim.section)
        for low, high in re.findall(r"\d([a-d]) to \d([a-d])", claim.section):
            panels += [f"2{letter}" for letter in "abcd" if low < letter < high]
        for panel in panels:
            assert shown_in(panel) & units_in(claim), (claim.name, panel)
            assert claim.is_about({"4": "svhn", "5": "svhn", "6": "gsc12", "7": "gsc12"}.get(panel[0], "cifar10"))
            cited += 1
    assert cited > 40


def test_on_other_data_a_claim_is_not_claimed_and_nothing_is_computed(recorded):
    claim = next(c for c in claims.CLAIMS if c.name == "uniform-behind-when-random")
    found = claims.judge(claim, results.select(recorded, "gsc12"))
    assert (found.verdict, found.findings, found.effect, found.deciding) == ("not claimed", (), None, None)
    assert math.isnan(found.p) and str(found) == "uniform-behind-when-random: not claimed"
    shown = tables.verdicts_by_data(recorded, list(RECORDED))
    assert shown.header[0] == "claim" and len(shown.rows) == len(claims.CLAIMS)
    for claim, (statement, *cells) in zip(claims.CLAIMS, shown.rows):
        assert statement == claim.statement
        assert [cell == "not claimed" for cell in cells] == [not claim.is_about(task) for task in RECORDED]
    with pytest.raises(TypeError, match="tasks must be a list"):
        tables.verdicts_by_data(recorded, "cifar10")


def made(folder, **effects):
    """Three folds of units of one's own: fold → accuracy, by name."""
    own = []
    for name, values in effects.items():
        for fold, value in enumerate(values):
            c = make("cifar10", name, fold, own={"noise": "normal"})
            own.append(record("float", fold, value) | {"key": c.key, "config": c.as_dict()})
    return results.select(table(folder, *own), "cifar10")


def mine(kind="above", *contrasts, **more):
    return Claim("mine", "…", "", ("cifar10",), kind, contrasts or (Contrast("a − b", "a", "b"),), **more)


def test_one_contrast_of_several_contradicts_only_at_the_corrected_level(tmp_path):
    against = [0.5 - 0.020, 0.5 - 0.030, 0.5 - 0.040]  # t = -5.2 on two degrees of freedom: p = 0.018 by itself
    frame = made(tmp_path, a=[0.5] * 3, b=[0.5 + 0.1] * 3, c=against, d=[0.5] * 3)
    alone = claims.judge(mine("above", Contrast("c − d", "c", "d")), frame)
    assert alone.verdict == "contradicted" and alone.p == pytest.approx(2 * stats.t.cdf(-3 * math.sqrt(3), 2))
    two = claims.judge(mine("above", Contrast("b − a", "b", "a"), Contrast("c − d", "c", "d")), frame)
    assert [f.verdict for f in two.findings] == ["supported", "contradicted"] and two.verdict == "undecided"
    assert two.deciding.contrast.name == "c − d" and two.p == pytest.approx(4 * stats.t.cdf(-3 * math.sqrt(3), 2))


def test_a_difference_beyond_another_is_the_difference_of_the_two(tmp_path):
    frame = made(tmp_path, a=[0.6, 0.7, 0.8], b=[0.5, 0.5, 0.5], c=[0.4, 0.4, 0.5], d=[0.4, 0.3, 0.4])
    found = claims.judge(mine("above", Contrast("x", "a", "b", beyond=("c", "d"))), frame)
    assert found.effect == pytest.approx(interval([0.1 - 0.0, 0.2 - 0.1, 0.3 - 0.1]))
    with pytest.raises(ValueError, match="there is no unit 'e'"):
        claims.judge(mine("above", Contrast("x", "a", "b", beyond=("c", "e"))), frame)
    with pytest.raises(TypeError, match="beyond of 'x' must be two sides, in a claim about differences"):
        mine("varies more", Contrast("x", "a", "b", beyond=("c", "d")))
    with pytest.raises(TypeError, match="beyond of 'x' must be two sides"):
        mine("above", Contrast("x", "a", "b", beyond=("c",)))


def test_a_claim_about_scatter_is_judged_by_ratios_and_left_out_of_pictures_of_differences(tmp_path):
    from anabook import plots

    frame = made(tmp_path, a=[0.1, 0.5, 0.9], b=[0.5, 0.51, 0.5], c=[0.5, 0.5, 0.5])
    found = claims.judge(mine("varies more"), frame)
    assert isinstance(found.effect, Ratio) and found.effect.mean == pytest.approx(0.4 / np.std([0.5, 0.51, 0.5], ddof=1))
    still = claims.judge(mine("varies more", Contrast("a ÷ c", "a", "c")), frame)
    assert still.verdict == "undecided" and math.isnan(still.effect.mean) and still.p == 1.0
    with pytest.raises(ValueError, match="no difference to draw"):
        plots.effects([found])


def test_holms_rule_leaves_alone_what_is_undecided_and_keeps_what_survives(recorded):
    judged = claims.judge_all(recorded, "gsc12")
    tested = [v for v in judged if not math.isnan(v.p)]
    assert [v.adjusted for v in tested] == significance.holm([v.p for v in tested])
    for v in judged:
        decided = v.alone in ("supported", "contradicted")
        assert v.verdict == (v.alone if not decided or v.adjusted <= 0.05 else "undecided")
        assert v.alone == claims.judge(v.claim, results.select(recorded, "gsc12")).verdict
    assert {v.verdict for v in judged if v.alone == "undecided"} == {"undecided"}
    assert claims.together([]) == []


def test_claims_without_runs_take_no_share_of_the_chance_of_error(tmp_path):
    values = [0.48, 0.47, 0.46]
    frame = made(tmp_path, a=values, b=[0.4, 0.4, 0.4])
    there, missing = claims.judge(mine(), frame), claims.judge(mine("above", Contrast("x", "float", "ste")), frame)
    assert missing.verdict == "no data" and math.isnan(missing.p)
    both = claims.together([missing, there])
    assert both[1].adjusted == there.p and both[0].verdict == "no data" and tables.verdicts(both).rows[0][1:] == (
        "–", "–", "–", "no data")  # fmt: skip


def test_the_wider_interval_can_only_take_verdicts_away(recorded):
    for task in RECORDED:
        runs = results.select(recorded, task)
        for claim in claims.CLAIMS:
            if claim.is_about(task):
                narrow, wide = (claims.judge(claim, runs, method=method) for method in claims.INTERVALS)
                assert wide.verdict in (narrow.verdict, "undecided") and wide.p >= narrow.p - 1e-12
    shown = tables.wider_intervals(recorded, "cifar10")
    assert [row[2] for row in shown.rows].count("supported") >= [row[4] for row in shown.rows].count("supported")
    with pytest.raises(ValueError, match="method must be one of 't', 'nadeau-bengio', not 'bootstrap'"):
        claims.judge(claims.CLAIMS[0], results.select(recorded, "cifar10"), method="bootstrap")
