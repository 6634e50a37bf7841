"""Recorded runs: files that stay whole, tables, intervals, paired differences, and verdicts computed from them."""

from __future__ import annotations

import json
import math
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from anabook.experiments import claims, design, make, records, results, sweep, tables


def line(unit, fold, accuracy, data="cifar10", title=None, status="done", **settings):
    """A record as `run` writes it, of a made-up result."""
    c = make(data, unit, fold, **settings)
    curve = [round(accuracy * (i + 1) / c.epochs, 4) for i in range(c.epochs)]
    record = {
        "record": "run",
        "key": c.key,
        "status": status,
        "config": c.as_dict(),
        "size": c.size,
        "seconds": 10.0,
        "provenance": {"title": title or c.data, "kind": "official"},
    }
    if status == "failed":
        return record | {"error": "ValueError: no"}
    return record | {
        "measured_on": "test" if fold is None else "validation",
        "accuracy": accuracy,
        "loss": 1.0,
        "curves": {"accuracy": curve, "train_loss": curve, "train_accuracy": curve, "loss": curve},
    }


@pytest.fixture
def folder(tmp_path):
    def put(*lines, name="made-up.jsonl"):
        for record in lines:
            records.append(tmp_path / name, record)
        return tmp_path

    put.path = tmp_path
    return put


def test_appended_runs_are_read_again(folder):
    runs = [line("float", i, 0.5 + i / 100) for i in range(3)]
    found = records.read([folder(*runs) / "made-up.jsonl"])
    assert list(found.records.values()) == runs and found.set_aside == []


def test_broken_and_repeated_lines_are_set_aside_by_name_and_the_rest_is_read(folder):
    first, second = line("float", 0, 0.5), line("float", 1, 0.6)
    path = folder(first) / "made-up.jsonl"
    incomplete = {k: v for k, v in line("float", 2, 0.7).items() if k != "size"}
    with path.open("a") as file:
        file.write(
            '{"half": \n' + json.dumps(first) + "\n" + json.dumps(incomplete) + '\n[1, 2]\n{"another": "measurement"}\n\n'
        )
    folder(second)
    found = records.read([path])
    assert [r["accuracy"] for r in found.records.values()] == [0.5, 0.6]
    assert [sentence.split(" is ")[0].split(" repeats ")[0] for sentence in found.set_aside] == [
        "made-up.jsonl, line 2",
        "made-up.jsonl, line 3",
        "made-up.jsonl, line 4",
    ]
    with pytest.warns(UserWarning, match="line 2 is not JSON"):
        frame = results.load(path.parent)
    assert len(frame) == 2 and len(frame.attrs["set_aside"]) == 3


def changed(record, **changes):
    return {**record, **changes}


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda r: {k: v for k, v in r.items() if k != "seconds"}, r"no complete run \(seconds missing\)"),
        (lambda r: {k: v for k, v in r.items() if k != "accuracy"}, r"no complete run \(accuracy missing\)"),
        (lambda r: changed(r, status="running"), "status 'running' is neither"),
        (lambda r: changed(r, config={}), "no run that is known here"),
        (lambda r: changed(r, config=changed(r["config"], unit="flaot")), "no unit 'flaot'"),
        (lambda r: changed(r, config=changed(r["config"], fold=1)), "no run of its config, which has the key"),
        (lambda r: changed(r, size="paper"), "no run of its config, which has the key '.*' and the size 'scaled'"),
        (lambda r: changed(r, curves=changed(r["curves"], accuracy=[])), "a curve is no list of 30 numbers"),
        (lambda r: changed(r, curves=changed(r["curves"], loss=["x"] * 30)), "a curve is no list of 30 numbers"),
    ],
)
def test_lines_whose_entries_do_not_fit_are_set_aside_by_name_and_the_rest_is_read(folder, wrong, message):
    path = folder(line("ste", 0, 0.4)) / "cifar10-scaled.jsonl"
    (path.parent / "made-up.jsonl").rename(path)
    with path.open("a") as file:
        file.write(json.dumps(wrong(line("float", 0, 0.5))) + "\n")
    with pytest.warns(UserWarning, match=f"cifar10-scaled.jsonl, line 2 is .*{message}.*: set aside"):
        assert list(results.load(path.parent)["unit"]) == ["ste"]
    plan = sweep.plan([make("cifar10", "float"), make("cifar10", "ste")], path.parent)
    assert (plan.done, len(plan.todo), len(plan.set_aside)) == (1, 1, 1)


def test_a_folder_that_cannot_be_written_to_is_refused_before_anything_runs(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cannot write to the folder .*file"):
        records.check_writable(tmp_path / "file")
    records.check_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []


def test_a_finished_run_takes_the_place_of_a_failed_one(folder):
    failed, done, other = line("float", 0, 0.5, status="failed"), line("float", 0, 0.5), line("ste", 0, 0.4, status="failed")
    path = folder(failed, other) / "made-up.jsonl"
    assert len(results.load(path.parent)) == 0
    assert list(results.load(path.parent, failed=True)["status"]) == ["failed", "failed"]
    folder(done)
    assert len(path.read_text().splitlines()) == 2
    assert list(results.load(path.parent)["unit"]) == ["float"]


def test_appending_leaves_the_old_file_when_it_cannot_finish(folder, monkeypatch):
    path = folder(line("float", 0, 0.5)) / "made-up.jsonl"
    before = path.read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        records.append(path, line("float", 1, 0.5))
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir() if not p.name.endswith(".lock")] == ["made-up.jsonl"]


def test_processes_that_append_at_once_lose_nothing(tmp_path):
    from concurrent.futures import ProcessPoolExecutor

    lines = [line(unit, fold, 0.5) for unit in ("float", "ste", "identity", "uniform-mode-static") for fold in range(5)]
    with ProcessPoolExecutor(4) as pool:
        list(pool.map(records.append, [tmp_path / "x.jsonl"] * len(lines), lines))
    assert len(records.read([tmp_path / "x.jsonl"]).records) == len(lines)


def test_tables_have_the_degrees_of_freedom_and_measures(folder):
    frame = results.load(folder(line("float", 0, 0.5), line("normal-expectation-same-end-progressive", 1, 0.3)))
    row = frame.iloc[0]
    assert [row[name] for name in ("noise", "strategy", "mean", "std", "interval", "power_law", "schedule", "fold")] == [
        "normal",
        "expectation",
        "static",
        "dynamic",
        "same_end",
        "progressive",
        "same-end-progressive",
        1,
    ]
    c = make("cifar10", "float")
    end = c.drop
    curve = [round(0.3 * (i + 1) / c.epochs, 4) for i in range(c.epochs)]
    assert row["before_drop"] == pytest.approx(np.mean(curve[end - c.period : end]))
    assert (row["accuracy"], row["best"], row["train_accuracy"]) == (0.3, 0.3, 0.3)
    assert frame.iloc[1]["unit"] == "float" and frame["noise"].isna()[1]


def test_sizes_data_sets_and_provenances_are_not_mixed(folder):
    runs = [
        line("float", 0, 0.5),
        line("float", 1, 0.5, lr=0.1),
        line("float", 2, 0.5, data="svhn"),
        line("float", 3, 0.5, title="cifar10 (differs from the official archive)"),
        line("float", None, 0.5),
    ]
    frame = results.load(folder(*runs))
    for other, what in ((1, "size"), (2, "data"), (3, "data"), (4, "measured_on")):
        chosen = frame[frame["key"].isin([runs[0]["key"], runs[other]["key"]])]
        with pytest.raises(ValueError, match=f"different {what} are not averaged"):
            results.summary(chosen)
        with pytest.raises(ValueError, match=f"different {what} are not averaged"):
            results.paired(chosen, "float", "float")
    assert len(results.select(frame[frame["data"] == "cifar10"], "cifar10")) == 1


def test_schedules_that_share_a_name_are_not_averaged(folder):
    one, other = ({"interval": name} for name in ("same_start", "overlapped"))
    frame = results.load(folder(line("mine", 0, 0.5, own=one), line("mine", 0, 0.7, own=other)))
    for ask in (lambda: results.summary(frame), lambda: results.paired(frame, "mine", "mine")):
        with pytest.raises(ValueError, match="different runs with the name 'mine', fold 0 and seed 0 are not averaged"):
            ask()


def test_different_preparations_of_a_data_set_are_not_averaged(folder):
    runs = [line("float", fold, 0.5) for fold in range(2)]
    for run, sha256 in zip(runs, ("aa", "bb")):
        run["provenance"]["sha256"] = sha256
    with pytest.raises(ValueError, match="different preparations of 'cifar10' are not averaged .*aa, bb"):
        results.summary(results.load(folder(*runs)))


def test_a_folder_without_runs_is_a_table_without_rows_that_nothing_is_selected_from(tmp_path):
    frame = results.load(tmp_path)
    assert not len(frame)
    with pytest.raises(ValueError, match="no run on 'cifar10' of size 'scaled' .*; recorded: nothing on this data set"):
        results.select(frame, "cifar10")


def test_a_selection_that_is_not_there_says_what_is(folder):
    with pytest.raises(ValueError, match="no run on 'cifar10' of size 'paper' .*; recorded: 'scaled' on 'validation'"):
        results.select(results.load(folder(line("float", 0, 0.5))), "cifar10", "paper")


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_students_interval_is_scipys(values):
    found = results.interval(values)
    low, high = np.mean(values) + np.array(stats.t.interval(0.95, len(values) - 1)) * np.std(values, ddof=1) / math.sqrt(
        len(values)
    )
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_the_bootstrap_of_few_values_enumerates_all_resamples():
    # Means of (0,0), (0,1), (1,0), (1,1): 0, ½, ½, 1.
    assert results.interval([0.0, 1.0], "bootstrap")[:3] == (
        0.5,
        pytest.approx(np.quantile([0, 0.5, 0.5, 1], 0.025)),
        pytest.approx(np.quantile([0, 0.5, 0.5, 1], 0.975)),
    )
    many = results.interval(np.linspace(0, 1, 50), "bootstrap")
    assert many == results.interval(np.linspace(0, 1, 50), "bootstrap") and 0.4 < many.low < 0.45


def test_one_fold_has_no_interval():
    found = results.interval([0.5])
    assert found.n == 1 and math.isnan(found.low) and str(found) == "50.0"


def test_paired_differences_use_folds_that_both_sides_have_in_full(folder):
    a, b, c = "uniform-mode-static", "float", "ste"
    frame = results.load(
        folder(
            *[line(a, i, 0.5 + 0.01 * i) for i in range(4)],
            *[line(b, i, 0.6 + 0.02 * i) for i in range(1, 5)],
            *[line(c, i, 0.4) for i in (0, 1, 3)],
        )
    )
    found = results.paired(frame, b, a)
    assert found.n == 3 and found.mean == pytest.approx(np.mean([0.62 - 0.51, 0.64 - 0.52, 0.66 - 0.53]))
    assert results.paired(frame, b, [a, c]).n == 2  # fold 2 has no ste
    assert results.paired(frame, results.where(unit=[a]), a).mean == 0
    for missing in ("identity", [a, "identity"]):
        with pytest.raises(ValueError, match="no run of 'identity'"):
            results.paired(frame, missing, a)


def test_summaries_average_units_within_folds_first(folder):
    frame = results.load(
        folder(
            *[
                line(f"{noise}-mode-static", i, 0.5 + 0.1 * (noise == "normal") + 0.01 * i)
                for noise in ("normal", "uniform")
                for i in range(3)
            ]
        )
    )
    table = results.summary(frame, by="strategy")
    assert list(table["n"]) == [3] and table["mean"][0] == pytest.approx(0.56) and table["std"][0] == pytest.approx(0.01)


def test_summaries_count_only_folds_that_all_units_of_a_group_have(folder):
    frame = results.load(
        folder(
            *[line("uniform-mode-static", i, 0.5) for i in range(4)], *[line("normal-mode-static", i, 0.7) for i in range(2)]
        )
    )
    table = results.summary(frame, by="strategy")
    assert (list(table["n"]), table["mean"][0], table["std"][0]) == ([2], pytest.approx(0.6), pytest.approx(0))
    with pytest.raises(ValueError, match="have no fold in common"):
        results.summary(frame[(frame["fold"] > 1) | (frame["unit"] == "normal-mode-static")], by="strategy")


def test_seeds_of_one_fold_are_averaged_and_are_not_counted_as_folds(folder):
    frame = results.load(
        folder(
            *[
                line(unit, fold, 0.5 + 0.1 * fold + 0.02 * seed + 0.1 * (unit == "float"), seed=seed)
                for unit in ("float", "ste")
                for fold in (0, 1)
                for seed in (0, 1)
            ]
        )
    )
    table = results.summary(frame[frame["unit"] == "ste"])
    assert (list(table["n"]), table["mean"][0], table["std"][0]) == (
        [2],
        pytest.approx(0.56),
        pytest.approx(0.1 / math.sqrt(2)),
    )
    assert results.paired(frame, "float", "ste").n == 2
    runs = [line("float", None, 0.5 + 0.1 * seed, seed=seed) for seed in range(3)]
    tested = results.load(folder(*runs, name="tested.jsonl") / "tested.jsonl")
    assert list(results.summary(tested)["n"]) == [3]


def test_curves_of_different_lengths_are_refused(folder):
    frame = results.load(folder(line("float", 0, 0.5), line("float", 1, 0.5, period=1)))
    with pytest.raises(ValueError, match="different numbers of epochs"):
        results.curves(frame)
    assert results.curves(frame.iloc[:1]).shape[0] == 1


def made_up(effects, folds=3, jitter=0.0001):
    """Accuracy of every unit of CIFAR-10's figures by a rule."""
    rng = np.random.default_rng(0)
    return [
        line(u.name, fold, round(0.5 + 0.05 * fold + effects(u) + jitter * rng.standard_normal(), 6))
        for u in design.figure_units("cifar10")
        for fold in range(folds)
    ]


def as_the_paper_says(u):
    interval = {"partition": 0.0, "same_start": 0.0, "overlapped": -0.04, "same_end": -0.1, None: 0.1}[u.interval]
    law = -0.01 * (u.power_law == "progressive")
    noise = -0.005 if u.noise == "uniform" and u.strategy == "random" and u.is_static else 0.0
    # Random sampling is ahead of the expectation, and less sensitive to same end.
    random = -0.05 - 0.03 * u.is_static + 0.03 * (u.interval == "same_end")
    return interval + law + noise + {"expectation": -0.1, "random": random, "mode": 0.0}[u.strategy]


def test_results_as_the_paper_describes_them_support_its_claims(folder):
    frame = results.load(folder(*made_up(as_the_paper_says)))
    verdicts = {v.claim.name: v for v in claims.judge_all(frame, "cifar10")}
    assert {name for name, v in verdicts.items() if v.verdict == "no data"} == {"static-mode-is-ste"}
    assert verdicts["mode-partition-level-with-static"].verdict == "contradicted"  # the made-up curves differ by 10 points
    others = set(verdicts) - {"static-mode-is-ste", "mode-partition-level-with-static"}
    assert {name: verdicts[name].verdict for name in others} == dict.fromkeys(others, "supported")


def test_results_the_other_way_round_contradict_them(folder):
    frame = results.load(folder(*made_up(lambda u: -as_the_paper_says(u))))
    verdicts = {v.claim.name: v.verdict for v in claims.judge_all(frame, "cifar10")}
    for name in (
        "mode-above-random",
        "same-end-worst-expectation",
        "same-end-worst-random",
        "late-early-layers-cost-much",
        "homogeneous-above-progressive",
        "other-noises-partition-or-same-start",
        "other-noises-homogeneous",
        "other-noises-same-end-worst",
        "random-partition-above-expectation",
        "expectation-below-static",
        "other-noises-below-static",
        "random-mitigates-same-end",
        "mode-gains-more-at-drop",
        "static-ahead-after-drop",
    ):
        assert verdicts[name] == "contradicted"
    assert verdicts["noise-negligible-mode"] == "supported"


def test_results_without_effects_leave_claims_undecided(folder):
    frame = results.load(folder(*made_up(lambda u: 0.0, jitter=0.03)))
    verdicts = {v.claim.name: v.verdict for v in claims.judge_all(frame, "cifar10")}
    assert verdicts["homogeneous-above-progressive"] == "undecided"
    assert {"supported", "contradicted"}.isdisjoint(verdicts.values())


def test_claims_about_several_units_have_no_data_until_all_are_run(folder):
    runs = [run for run in made_up(as_the_paper_says) if "normal-expectation-same-end" not in run["config"]["unit"]]
    verdicts = {v.claim.name: v for v in claims.judge_all(results.load(folder(*runs)), "cifar10")}
    found = verdicts["noise-negligible-expectation"]
    assert found.verdict == "no data" and [f.verdict for f in found.findings] == ["supported", "no data", "supported"]
    assert verdicts["same-end-worst-expectation"].verdict == "supported"


def test_a_higher_level_turns_narrow_verdicts_into_undecided_ones(folder):
    units = {
        f"{noise}-{strategy}-static": 0.5 if strategy == "mode" else 0.4
        for noise in ("uniform", "triangular", "normal", "logistic")
        for strategy in ("mode", "random")
    }
    runs = [line(unit, i, a + (0.01 * i if "mode" in unit else 0)) for unit, a in units.items() for i in range(3)]
    frame = results.load(folder(*runs))
    said = [claims.judge_all(frame, "cifar10", level=level)[0] for level in (0.95, 0.9999)]
    assert [v.claim.name for v in said] == 2 * ["mode-above-random"] and [v.verdict for v in said] == [
        "supported",
        "undecided",
    ]
    effect = said[1].findings[0].effect
    assert effect.high - effect.mean == pytest.approx(stats.t.ppf(1 - 0.0001 / 2, 2) * 0.01 / 3**0.5)


def test_validation_picks_the_best_static_and_the_best_annealed_unit_by_the_mean_over_folds(folder):
    accuracies = {
        "float": (0.9, 0.9),
        "uniform-mode-static": (0.5, 0.7),
        "normal-mode-static": (0.65, 0.5),
        "uniform-mode-partition-homogeneous": (0.4, 0.4),
        "uniform-mode-same-end-homogeneous": (0.45, 0.3),
    }
    frame = results.load(folder(*[line(unit, i, each[i]) for unit, each in accuracies.items() for i in range(2)]))
    assert results.picked(frame) == ("uniform-mode-static", "uniform-mode-partition-homogeneous")
    with pytest.raises(ValueError, match="no run to summarise"):
        results.picked(frame[frame["schedule"] != "static"])


def test_tables_of_the_test_part_count_runs_since_it_has_no_folds(folder):
    frame = results.load(folder(line("float", None, 0.5), line("ste", None, 0.4)))
    table = tables.accuracies(results.select(frame, "cifar10", measured_on="test"), "unit", "n")
    assert table.header[-1] == "runs" and ", scaled, test, 1 run:" in table.caption
    assert [row[1:] for row in table.rows] == [("50.0", "1"), ("40.0", "1")]


def test_tables_show_schedules_of_ones_own_after_the_designs(folder):
    frame = results.load(folder(line("uniform-mode-static", 0, 0.5), line("mine", 0, 0.6, own={"noise": "normal"})))
    assert [row[0] for row in tables.accuracies(frame).rows] == ["static", "mine"]
    with pytest.raises(ValueError, match="several units share strategy:"):
        tables.accuracies(frame, "strategy", "n")
    with pytest.raises(ValueError, match="no run to summarise"):
        tables.accuracies(frame[frame["unit"] == "float"])


def test_effects_are_the_differences_of_means(folder):
    frame = results.load(folder(*made_up(as_the_paper_says, jitter=0.0)))
    claim = next(c for c in claims.CLAIMS if c.name == "random-partition-above-expectation")
    effect = claims.judge(claim, frame).effect
    assert effect.mean == pytest.approx(0.05) and effect.n == 3
    assert str(claims.judge(claim, frame)) == "random-partition-above-expectation: supported (+5.0 points, +5.0 to +5.0)"


def test_every_claim_can_be_judged_on_its_task():
    names = [c.name for c in claims.CLAIMS]
    assert len(set(names)) == len(names) >= 28
    known = {u.name for u in design.units()} | set(design.BASELINES)
    for claim in claims.CLAIMS:
        for contrast in claim.contrasts:
            assert contrast.measure in results.MEASURES
            for side in contrast.sides:
                names = [side] if isinstance(side, str) else side
                assert names and set(names) <= known
        assert (claim.margin > 0) == (claim.kind in ("by", "level"))
