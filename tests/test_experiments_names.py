"""Names that are wrong are refused with the right one, wherever results are asked for; "no data" is said of missing runs alone."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_experiments_results import as_the_paper_says, line, made_up

from anabook import cli, plots
from anabook._validate import SYNONYMS, choice, nearest, path, reason
from anabook.datasets import standins, store
from anabook.experiments import claims, config, design, records, results, sweep, tables
from anabook.experiments import run as runs
from anabook.noise import FAMILIES, Noise
from anabook.training import devices

ROOT = Path(__file__).resolve().parents[1]
MODE, RANDOM = "uniform-mode-static", "uniform-random-static"


@pytest.fixture(scope="module")
def frame(tmp_path_factory):
    """Made-up runs of the units of the figures on three folds, without baselines."""
    folder = tmp_path_factory.mktemp("results")
    lines = "\n".join(json.dumps(run) for run in made_up(as_the_paper_says))
    (folder / "cifar10-scaled.jsonl").write_text(lines)
    return results.select(results.load(folder), "cifar10")


def claim(first=MODE, second=RANDOM, measure="accuracy", **changes):
    entries = {
        "name": "mine",
        "statement": "…",
        "section": "–",
        "tasks": ("cifar10",),
        "kind": "above",
        "contrasts": (claims.Contrast("a − b", first, second, measure),),
        **changes,
    }
    return claims.Claim(**entries)


# --- claims ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong", [{"first": "uniform-mode-statc"}, {"second": "uniform-mode-statc"}, {"first": (RANDOM, "uniform-mode-statc")}]
)
def test_a_misspelt_unit_in_a_claim_is_refused_and_never_called_no_data(frame, wrong):
    with pytest.raises(ValueError, match="there is no unit 'uniform-mode-statc', .* .did you mean 'uniform-mode-static'"):
        claims.judge(claim(**wrong), frame)


def test_a_misspelt_unit_is_refused_though_another_contrast_has_no_data(frame):
    contrasts = (claims.Contrast("a", "float", MODE), claims.Contrast("b", MODE, "flaot"))
    with pytest.raises(ValueError, match="there is no unit 'flaot'.*'float'"):
        claims.judge(claim(contrasts=contrasts), frame)


def test_units_that_were_not_run_are_still_no_data(frame):
    assert claims.judge(claim("float"), frame).verdict == "no data"
    assert claims.judge(claim("uniform-mode-partition-homogeneous-dynamic-mean"), frame).verdict == "no data"
    one_fold = frame[(frame["unit"] != MODE) | (frame["fold"] == 0)]
    apart = one_fold[(one_fold["unit"] == MODE) | (one_fold["fold"] != 0)]
    assert claims.judge(claim(), apart.reset_index(drop=True)).verdict == "no data"


def test_schedules_of_ones_own_are_units_where_they_were_run(tmp_path):
    for fold in range(3):
        records.append(tmp_path / "x.jsonl", line("mine", fold, 0.6 + fold / 100, own={"noise": "normal"}))
        records.append(tmp_path / "x.jsonl", line(MODE, fold, 0.5))
    frame = results.load(tmp_path)
    assert claims.judge(claim("mine", MODE), frame).verdict == "supported"
    with pytest.raises(
        ValueError, match="there is no unit 'mien', neither in the design nor among these runs .did you mean 'mine'"
    ):
        claims.judge(claim("mien", MODE), frame)


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"measure": "acuracy"}, ValueError, "the measure of 'a − b' must be one of .* Did you mean 'accuracy'"),
        ({"kind": "abvoe"}, ValueError, "kind must be one of .* Did you mean 'above'"),
        ({"tasks": ("cifar",)}, ValueError, "a data set of the claim 'mine' must be one of .* Did you mean 'cifar10'"),
        (
            {"tasks": "cifar10"},
            TypeError,
            "tasks of the claim 'mine' must be a tuple with at least one entry, not 'cifar10'",
        ),
        ({"contrasts": ()}, TypeError, r"contrasts of the claim 'mine' must be a tuple with at least one entry, not \(\)"),
        ({"contrasts": (("a", MODE, RANDOM),)}, TypeError, "must be a Contrast"),
        ({"margin": -0.1}, ValueError, "margin must be finite and at least 0"),
    ],
)
def test_a_claim_that_cannot_be_judged_is_refused_when_it_is_made(wrong, error, says):
    with pytest.raises(error, match=says):
        claim(**wrong)
    assert replace(claim(), margin=0.02).margin == 0.02


@pytest.mark.parametrize("level", [0.0, 1.0, 95])
def test_a_level_out_of_bounds_is_refused_and_never_called_no_data(frame, level):
    for asked in (
        lambda: claims.judge(claim(), frame, level),
        lambda: claims.judge(claim("float"), frame, level),
        lambda: claims.judge_all(frame, "cifar10", level=level),
    ):
        with pytest.raises(ValueError, match="level must"):
            asked()


# --- everything else that takes names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (
            lambda f: results.paired(f, "uniform-mode-statc", MODE),
            "there is no unit 'uniform-mode-statc'.*did you mean 'uniform-mode-static'",
        ),
        (lambda f: results.paired(f, "gaussian-mode-static", MODE), "did you mean 'normal-mode-static'"),
        (lambda f: results.paired(f, [], MODE), "there must be at least one unit's name"),
        (
            lambda f: results.paired(f, results.where(noize="uniform"), MODE),
            "the column must be one of .* Did you mean 'noise'",
        ),
        (
            lambda f: results.paired(f, results.where(noise="gaussian"), MODE),
            "noise must be one of .* Did you mean 'normal'",
        ),
        (
            lambda f: results.paired(f, results.where(unit=["float", "flaot"]), MODE),
            "unit must be one of .* Did you mean 'float'",
        ),
        (
            lambda f: results.paired(f, results.where(mean="dynamic"), MODE),
            "there is no run among these results for mean='dynamic'",
        ),
        (lambda f: results.summary(f, "nois"), "by must be one of .* Did you mean 'noise'"),
        (lambda f: results.summary(f, measure="acc"), "measure must be one of .* Did you mean 'accuracy'"),
        (lambda f: results.curves(f, "acuracy"), "quantity must be one of .* Did you mean 'accuracy'"),
        (lambda f: results.select(f, "cifar"), "the data set must be one of .* Did you mean 'cifar10'"),
        (lambda f: results.select(f, "cifar10", "scalled"), "of size 'scalled' .did you mean 'scaled'"),
        (
            lambda f: results.select(f, "cifar10", measured_on="val"),
            "measured_on must be one of .* Did you mean 'validation'",
        ),
        (lambda f: tables.accuracies(f, "schedul"), "rows must be one of .* Did you mean 'schedule'"),
        (lambda f: tables.accuracies(f, measure="bst"), "measure must be one of .* Did you mean 'best'"),
        (lambda f: plots.strategy_curves(f, noise="gaussian"), "noise must be one of .* Did you mean 'normal'"),
        (lambda f: plots.strategy_curves(f, mean="moving"), "mean must be one of 'static', 'dynamic', not 'moving'"),
        (
            lambda f: plots.strategy_curves(f, mean="dynamic"),
            "there is no run with annealed uniform noise and a dynamic mean to draw",
        ),
        (lambda f: plots.noise_curves(f, "stochastic"), "strategy must be one of .* Did you mean 'random'"),
        (lambda f: plots.final_accuracies(f, noise="unifrom"), "noise must be one of .* Did you mean 'uniform'"),
        (lambda f: plots.final_accuracies(f, measure="bst"), "measure must be one of .* Did you mean 'best'"),
        (lambda f: plots.order(f, f, noise="tri"), "noise must be one of .* Did you mean 'triangular'"),
        (lambda f: plots.static_curves(f[f["schedule"] != "static"]), "there is no run with static noise to draw"),
        (lambda f: plots.effects([claims.judge(claim("float"), f)]), "there is no difference to draw"),
        (lambda f: design.select(["gaussian-mode-static"], "cifar10"), "did you mean 'normal-mode-static'"),
        (lambda f: design.unit("uniform-stochastic-static"), "did you mean 'uniform-random-static'"),
    ],
)
def test_a_wrong_name_is_refused_with_the_right_one(frame, ask, says):
    with pytest.raises(ValueError, match=says) as caught:
        ask(frame)
    assert "\n" not in str(caught.value)


def test_values_that_can_be_but_were_not_run_are_no_mistakes(frame):
    assert not results.where(mean="dynamic", unit=["float", MODE], measured_on="test", fold=9)(frame).any()
    assert not results.where(sha256="0123", data="another title", kind="unverified", interval="same_end")(frame).any()
    assert results.where(noise="uniform", strategy=("mode", "random"))(frame).sum() > 0
    with pytest.raises(results.NoRuns, match="recorded: 'scaled' on 'validation'"):
        results.select(frame, "cifar10", "paper")


# --- other words -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "allowed", "meant"),
    [
        ("gaussian", FAMILIES, "normal"),
        ("Gauss", FAMILIES, "normal"),
        ("rectangular", FAMILIES, "uniform"),
        ("tri", FAMILIES, "triangular"),
        ("STE", design.Strategy, "mode"),
        ("straight-through", design.Strategy, "mode"),
        ("stochastic", design.Strategy, "random"),
        ("mean", design.Strategy, "expectation"),
        ("Expected", design.Strategy, "expectation"),
        ("deterministic", design.Strategy, "mode"),
        ("val", store.SPLITS, "validation"),
        ("training", store.SPLITS, "train"),
        ("speech_commands", config.TASKS, "gsc12"),
        ("exp", design.Strategy, "expectation"),
        ("unifrom", FAMILIES, "uniform"),
        ("MODE", design.Strategy, "mode"),
    ],
)
def test_another_word_leads_to_the_name_of_this_package(word, allowed, meant):
    with pytest.raises(ValueError, match=rf"not '{word}'\. Did you mean '{meant}'\?$"):
        choice(word, list(map(str, allowed)), "the name")


def test_a_word_is_suggested_only_where_its_meaning_is_allowed():
    assert nearest("gaussian", ["crop", "flip"]) == [] and nearest("mean", ["static", "dynamic"]) == []
    assert nearest("zzz", FAMILIES) == [] == nearest("", FAMILIES)


def test_no_word_means_two_things_or_is_a_name_itself():
    words = [word for group in SYNONYMS.values() for word in group]
    assert len(words) == len(set(words)) and not set(words) & set(SYNONYMS) and all(word == word.lower() for word in words)
    known = {
        *FAMILIES,
        *map(str, design.Strategy),
        *map(str, design.Interval),
        *map(str, design.PowerLaw),
        *store.SPLITS,
        *results.MEASURES,
        *config.TASKS,
    }
    assert set(SYNONYMS) <= known


@pytest.mark.parametrize(
    "ask",
    [
        lambda: Noise("gaussian", std=1.0),
        lambda: design.Unit("gaussian", "mode"),
        lambda: standins.house_numbers(1, 1, inks="gaussian"),
    ],
)
def test_every_door_that_names_noise_knows_the_other_words(ask):
    with pytest.raises(ValueError, match="not 'gaussian'") as caught:
        ask()
    assert ("Did you mean 'normal'?" in str(caught.value)) == ("normal" in str(caught.value))


def test_a_schedules_noise_knows_the_other_words_and_the_zoos_names():
    with pytest.raises(ValueError, match="not 'gauss' .did you mean 'normal'"):
        config.noise_of("gauss")
    assert config.noise_of("gaussian").as_noise().family == "normal"


def test_what_an_exception_says_is_one_line_and_never_nothing():
    assert (reason(ValueError("one\ntwo")), reason(EOFError()), reason(KeyError(""))) == ("one", "EOFError", "''")


# --- files: homes and byte order marks -----------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home with a small stand-in for SVHN in its store, and a working folder in which nothing may appear."""
    for name in ("home", "elsewhere"):
        (tmp_path / name).mkdir()
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("ANABOOK_DATA", "~/store")
    monkeypatch.delenv("ANABOOK_RESULTS", raising=False)
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.save(standins.house_numbers(200, 50))
    yield tmp_path / "home"
    assert list((tmp_path / "elsewhere").iterdir()) == []


TINY = 'data = "svhn-stand-in"\nunits = ["float"]\n[settings]\nwidth = 0.03125\nshrink = 4\nn_train = 60\nperiod = 1\nbatch_size = 32\n'


def test_every_path_of_the_command_line_may_begin_with_the_home_folder(home, capsys):
    (home / "mine.toml").write_text(TINY)
    assert cli.main(["train", "~/mine.toml", "--results=~/runs", "--checkpoint=~/points/one.pt"]) == 0
    assert len(records.files(home / "runs")) == 1 and list((home / "points").iterdir()) == []
    assert cli.main(["train", "~/mine.toml", "--results=~/runs"]) == 0 and "recorded already" in capsys.readouterr().out
    assert cli.main(["sweep", "~/mine.toml", "--results=~/runs", "--checkpoints=~/points", "folds=[0]"]) == 0
    assert cli.main(["results", "--results=~/runs"]) == 0
    assert "1 units, 1 runs" in capsys.readouterr().out


def test_paths_of_functions_and_variables_may_begin_with_the_home_folder(home, monkeypatch):
    (home / "mine.toml").write_text(TINY)
    (one,) = config.expand(config.read("~/mine.toml"))
    record = runs.run(one, checkpoint="~/points.pt")
    monkeypatch.setenv("ANABOOK_RESULTS", "~/mine")
    records.append(sweep.results_file(one, results.folder()), record)
    assert len(results.load("~/mine")) == 1 and results.folder() == home / "mine"
    assert sweep.sweep([one], "~/mine", checkpoints="~/points", report=lambda _: None) == (0, 0)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("~nobody-of-this-name", "the home folder that '~nobody-of-this-name' begins with is not known"),
        ("", "not empty, not ''"),
    ],
)
def test_a_path_that_is_none_gets_one_sentence_at_the_command_line(home, capsys, value, says):
    (home / "mine.toml").write_text(TINY)
    for words in (
        ["train", "~/mine.toml", f"--results={value}"],
        ["train", "~/mine.toml", "--results=~/runs", f"--checkpoint={value}"],
        ["sweep", "~/mine.toml", "--results=~/runs", f"--checkpoints={value}"],
        ["results", f"--results={value}"],
        ["data", "svhn", f"--from={value}"],
        ["train", value],
    ):
        assert cli.main(words) == 2, words
        said = capsys.readouterr().err
        assert says in said and said.count("\n") == 1
    assert not (home / "runs").exists()


@pytest.mark.parametrize("value", [3, b"x", None])
def test_what_is_no_path_is_refused_by_its_type(value):
    with pytest.raises(TypeError, match="where must be a path, as text or as a pathlib.Path, not "):
        path(value, "where")


def test_a_byte_order_mark_before_a_config_is_no_part_of_it(tmp_path):
    (tmp_path / "bom.toml").write_text(TINY, encoding="utf-8-sig")
    (tmp_path / "plain.toml").write_text(TINY, encoding="utf-8")
    assert config.read(tmp_path / "bom.toml") == config.read(tmp_path / "plain.toml")


def test_a_byte_order_mark_before_recorded_runs_is_no_part_of_them(tmp_path):
    (tmp_path / "x.jsonl").write_text(json.dumps(line("float", 0, 0.5)) + "\n", encoding="utf-8-sig")
    records.append(tmp_path / "x.jsonl", line("float", 1, 0.5))
    found = records.read([tmp_path / "x.jsonl"])
    assert len(found.records) == 2 and found.set_aside == []


# --- the command line: options that would be ignored, devices that are not there -------------------------------------------


def test_claims_without_a_data_set_are_judged_on_all_that_have_runs(tmp_path, capsys):
    for run in (
        line(MODE, 0, 0.5),
        line(RANDOM, 0, 0.4),
        line(MODE, 0, 0.5, data="gsc12"),
        line(MODE, 0, 0.4, data="svhn", period=9),
    ):
        records.append(tmp_path / "x.jsonl", run)
    assert cli.main(["results", "--claims", "--results", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert re.findall(r"^(\S.*):$", said, re.M) == ["cifar10, scaled", "gsc12, scaled"]
    assert said.count("mode-above-random") == 1, "it is not claimed of speech"
    told = [claim.name for task in ("cifar10", "gsc12") for claim in claims.CLAIMS if claim.is_about(task)]
    assert re.findall(r"^  ([\w-]+):", said, re.M) == told
    assert cli.main(["results", "--claims", "--size", "paper", "--results", str(tmp_path)]) == 2
    assert "no run of size 'paper' is recorded; the sizes are 'custom-" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["results", "--test"], "--test needs the NAME of a data set"),
        (["results", "--csv"], "--csv needs the NAME"),
        (["results", "--bootstrap"], "--bootstrap needs the NAME"),
        (["results", "--measure", "best"], "--measure needs the NAME"),
        (["results", "--size", "paper"], "--size needs the NAME"),
        (["results", "--claims", "--csv"], "leave out --csv"),
        (["data", "--note", "x"], "--note needs the NAME of a data set"),
        (["data", "--from", "x"], "--from needs the NAME"),
        (["data", "svhn", "--verify", "--from", "x"], "leave out --from"),
        (["data", "--verify", "--note", "x"], "leave out --note"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(words, says, capsys):
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1


ABSENT = [
    name
    for name, is_there in (
        ("mps", torch.backends.mps.is_available()),
        ("xpu", torch.xpu.is_available()),
        ("cuda", torch.cuda.is_available()),
        ("cuda:7", torch.cuda.device_count() > 7),
    )
    if not is_there
]


@pytest.fixture
def refusing(monkeypatch):
    """`find_device` as it is to be: a sentence for every device that the machine lacks, also where torch would only fail later."""
    real = devices.find_device

    def find(device):
        if str(device).partition(":")[0] in ("mps", "xpu"):
            raise ValueError(f"device {device} was asked for, but torch finds no such device here: use device='cpu'.")
        return real(device)

    monkeypatch.setattr(devices, "find_device", find)
    monkeypatch.setattr(runs, "find_device", find)


@pytest.mark.parametrize("device", ABSENT)
@pytest.mark.parametrize(
    "words",
    [
        ["train", "FILE", "--device", "DEVICE"],
        ["sweep", "FILE", "--devices", "DEVICE"],
        ["sweep", "FILE", "--devices", "cpu", "DEVICE", "--workers", "2"],
    ],
)
def test_a_device_that_is_not_there_ends_in_one_sentence_before_anything_is_made(home, refusing, capsys, words, device):
    (home / "mine.toml").write_text(TINY)
    words = [word.replace("FILE", "~/mine.toml").replace("DEVICE", device) for word in words]
    options = ["--checkpoint=~/points/x.pt"] if words[0] == "train" else ["--checkpoints=~/points"]
    assert cli.main([*words, "--results=~/runs", *options]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"anabook: device {device}") or f"{device} was asked for" in said
    assert said.count("\n") == 1 and "Traceback" not in said
    assert not (home / "runs").exists() and not (home / "points").exists()


@pytest.mark.parametrize("device", ["tpu9", "", "cuda:x", "gpu"])
def test_what_is_no_devices_name_ends_in_one_sentence(home, capsys, device):
    (home / "mine.toml").write_text(TINY)
    assert cli.main(["train", "~/mine.toml", "--device", device, "--results=~/runs"]) == 2
    said = capsys.readouterr().err
    assert "device must name one of torch's devices" in said and repr(device) in said and said.count("\n") == 1


@pytest.mark.parametrize(("device", "name"), [("cpu", "cpu"), ("cpu:0", "cpu"), ("mps", "mps"), ("xpu:1", "xpu")])
def test_a_record_names_the_device_it_was_made_on(device, name):
    assert runs.circumstances(device)["machine"]["device"] == name


def test_a_device_that_gives_up_ends_in_one_sentence_and_mistakes_of_ours_do_not(home, monkeypatch, capsys):
    (home / "mine.toml").write_text(TINY)
    monkeypatch.setattr(
        runs, "run", lambda *_, **__: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory. Tried\nmuch"))
    )
    assert cli.main(["train", "~/mine.toml", "--results=~/runs"]) == 2
    assert capsys.readouterr().err == "anabook: the device gave up (CUDA out of memory. Tried).\n"
    monkeypatch.setattr(runs, "run", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("shapes do not match")))
    with pytest.raises(RuntimeError, match="shapes"):
        cli.main(["train", "~/mine.toml", "--results=~/runs"])
