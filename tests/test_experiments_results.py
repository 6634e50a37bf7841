"""Recorded runs: files that stay whole, tables, intervals, paired differences, and verdicts computed from them."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from anabook.experiments import claims, design, make, records, results


def line(unit, fold, accuracy, data="cifar10", title=None, status="done", **settings):
    """A record as `run` writes it, of a made-up result."""
    c = make(data, unit, fold, **settings)
    curve = [round(accuracy * (i + 1) / c.epochs, 4) for i in range(c.epochs)]
    record = {"record": "run", "key": c.key, "status": status, "config": c.as_dict(), "size": c.size, "seconds": 10.0,
              "provenance": {"title": title or c.data, "kind": "official"}}
    if status == "failed":
        return record | {"error": "ValueError: no"}
    return record | {"measured_on": "test" if fold is None else "validation", "accuracy": accuracy, "loss": 1.0,
                     "curves": {"accuracy": curve, "train_loss": curve, "train_accuracy": curve, "loss": curve}}


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
        file.write('{"half": \n' + json.dumps(first) + "\n" + json.dumps(incomplete) + '\n[1, 2]\n{"another": "measurement"}\n\n')
    folder(second)
    found = records.read([path])
    assert [r["accuracy"] for r in found.records.values()] == [0.5, 0.6]
    assert [sentence.split(" is ")[0].split(" repeats ")[0] for sentence in found.set_aside] == [
        "made-up.jsonl, line 2", "made-up.jsonl, line 3", "made-up.jsonl, line 4"]
    with pytest.warns(UserWarning, match="line 2 is not JSON"):
        frame = results.load(path.parent)
    assert len(frame) == 2 and len(frame.attrs["set_aside"]) == 3


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
    monkeypatch.setattr(records.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
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
        "normal", "expectation", "static", "dynamic", "same_end", "progressive", "same-end-progressive", 1]
    c = make("cifar10", "float")
    end = c.drop
    curve = [round(0.3 * (i + 1) / c.epochs, 4) for i in range(c.epochs)]
    assert row["before_drop"] == pytest.approx(np.mean(curve[end - c.period : end]))
    assert (row["accuracy"], row["best"], row["train_accuracy"]) == (0.3, 0.3, 0.3)
    assert frame.iloc[1]["unit"] == "float" and frame["noise"].isna()[1]


def test_sizes_data_sets_and_provenances_are_not_mixed(folder):
    runs = [line("float", 0, 0.5), line("float", 1, 0.5, lr=0.1), line("float", 2, 0.5, data="svhn"),
            line("float", 3, 0.5, title="cifar10 (differs from the official archive)"), line("float", None, 0.5)]
    frame = results.load(folder(*runs))
    for other, what in ((1, "size"), (2, "data"), (3, "data"), (4, "measured_on")):
        chosen = frame[frame["key"].isin([runs[0]["key"], runs[other]["key"]])]
        with pytest.raises(ValueError, match=f"different {what} are not averaged"):
            results.summary(chosen)
        with pytest.raises(ValueError, match=f"different {what} are not averaged"):
            results.paired(chosen, "float", "float")
    assert len(results.select(frame[frame["data"] == "cifar10"], "cifar10")) == 1


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_students_interval_is_scipys(values):
    found = results.interval(values)
    low, high = np.mean(values) + np.array(stats.t.interval(0.95, len(values) - 1)) * np.std(values, ddof=1) / math.sqrt(len(values))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_the_bootstrap_of_few_values_enumerates_all_resamples():
    # Means of (0,0), (0,1), (1,0), (1,1): 0, ½, ½, 1.
    assert results.interval([0.0, 1.0], "bootstrap")[:3] == (0.5, pytest.approx(np.quantile([0, 0.5, 0.5, 1], 0.025)),
                                                            pytest.approx(np.quantile([0, 0.5, 0.5, 1], 0.975)))
    many = results.interval(np.linspace(0, 1, 50), "bootstrap")
    assert many == results.interval(np.linspace(0, 1, 50), "bootstrap") and 0.4 < many.low < 0.45


def test_one_fold_has_no_interval():
    found = results.interval([0.5])
    assert found.n == 1 and math.isnan(found.low) and str(found) == "50.0"


def test_paired_differences_use_folds_that_both_sides_have_in_full(folder):
    a, b, c = "uniform-mode-static", "float", "ste"
    frame = results.load(folder(*[line(a, i, 0.5 + 0.01 * i) for i in range(4)], *[line(b, i, 0.6 + 0.02 * i) for i in range(1, 5)],
                                *[line(c, i, 0.4) for i in (0, 1, 3)]))
    found = results.paired(frame, b, a)
    assert found.n == 3 and found.mean == pytest.approx(np.mean([0.62 - 0.51, 0.64 - 0.52, 0.66 - 0.53]))
    assert results.paired(frame, b, [a, c]).n == 2  # fold 2 has no ste
    assert results.paired(frame, results.where(unit=[a]), a).mean == 0
    with pytest.raises(ValueError, match="no run of 'identity'"):
        results.paired(frame, "identity", a)


def test_summaries_average_units_within_folds_first(folder):
    frame = results.load(folder(*[line(f"{noise}-mode-static", i, 0.5 + 0.1 * (noise == "normal") + 0.01 * i)
                                  for noise in ("normal", "uniform") for i in range(3)]))
    table = results.summary(frame, by="strategy")
    assert list(table["n"]) == [3] and table["mean"][0] == pytest.approx(0.56) and table["std"][0] == pytest.approx(0.01)


def test_curves_of_different_lengths_are_refused(folder):
    frame = results.load(folder(line("float", 0, 0.5), line("float", 1, 0.5, period=1)))
    with pytest.raises(ValueError, match="different numbers of epochs"):
        results.curves(frame)
    assert results.curves(frame.iloc[:1]).shape[0] == 1


def made_up(effects, folds=3, jitter=0.001):
    """Accuracy of every unit of CIFAR-10's figures by a rule."""
    rng = np.random.default_rng(0)
    return [line(u.name, fold, round(0.5 + 0.05 * fold + effects(u) + jitter * rng.standard_normal(), 6))
            for u in design.figure_units("cifar10") for fold in range(folds)]


def as_the_paper_says(u):
    interval = {"partition": 0.0, "same_start": 0.0, "overlapped": -0.04, "same_end": -0.1, None: 0.1}[u.interval]
    law = -0.01 * (u.power_law == "progressive")
    noise = -0.005 if u.noise == "uniform" and u.strategy == "random" and u.is_static else 0.0
    return interval + law + noise + {"expectation": -0.1, "random": -0.05 - 0.03 * u.is_static, "mode": 0.0}[u.strategy]


def test_results_as_the_paper_describes_them_support_its_claims(folder):
    frame = results.load(folder(*made_up(as_the_paper_says)))
    verdicts = {v.claim.name: v for v in claims.judge_all(frame, "cifar10")}
    missing = {"ternary-below-float", "static-mode-is-ste"}
    assert {name for name, v in verdicts.items() if v.verdict == "no data"} == missing
    assert verdicts["mode-partition-level-with-static"].verdict == "contradicted"  # the made-up curves differ by 10 points
    others = set(verdicts) - missing - {"mode-partition-level-with-static"}
    assert {name: verdicts[name].verdict for name in others} == dict.fromkeys(others, "supported")


def test_results_the_other_way_round_contradict_them(folder):
    frame = results.load(folder(*made_up(lambda u: -as_the_paper_says(u))))
    verdicts = {v.claim.name: v.verdict for v in claims.judge_all(frame, "cifar10")}
    for name in ("mode-above-random", "same-end-worst-expectation", "same-end-worst-mode", "same-end-worst-random",
                 "homogeneous-above-progressive", "random-partition-above-expectation", "static-ahead-after-drop"):
        assert verdicts[name] == "contradicted"
    assert verdicts["noise-negligible-mode"] == "supported"


def test_results_without_effects_leave_claims_undecided(folder):
    frame = results.load(folder(*made_up(lambda u: 0.0, jitter=0.03)))
    verdicts = {v.claim.name: v.verdict for v in claims.judge_all(frame, "cifar10")}
    assert verdicts["homogeneous-above-progressive"] == "undecided"
    assert "supported" not in {verdicts[name] for name in verdicts if name.startswith("same-end")}


def test_effects_are_the_differences_of_means(folder):
    frame = results.load(folder(*made_up(as_the_paper_says, jitter=0.0)))
    claim = next(c for c in claims.CLAIMS if c.name == "random-partition-above-expectation")
    effect = claims.judge(claim, frame).effect
    assert effect.mean == pytest.approx(0.05) and effect.n == 3
    assert str(claims.judge(claim, frame)) == "random-partition-above-expectation: supported (+5.0 points, +5.0 to +5.0)"


def test_every_claim_can_be_judged_on_its_task():
    names = [c.name for c in claims.CLAIMS]
    assert len(set(names)) == len(names) >= 12
    known = {u.name for u in design.units()} | set(design.BASELINES)
    for claim in claims.CLAIMS:
        for contrast in claim.contrasts:
            assert contrast.measure in results.MEASURES
            for side in (contrast.first, contrast.second):
                assert callable(side) or side in known
        assert claim.kind == "above" or claim.margin > 0
