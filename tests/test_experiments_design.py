"""The design: counts of the grid and its pruning, stable names and hashes, selections, configs and their files."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from anabook import Noise, Schedule
from anabook.experiments import Config, Unit, config, design, make, shipped, tasks


def test_the_grid_has_384_points():
    assert len(set(design.grid())) == len(design.grid()) == 384


def test_pruning_takes_away_84_then_32_then_4_points():
    points, removed = design.prune(design.grid())
    assert removed == [84, 32, 4]
    assert len(points) == 264


def test_units_are_66_for_each_noise_and_100_100_64_by_strategy():
    assert Counter(unit.noise for unit in design.units()) == dict.fromkeys(design.Family, 66)
    assert Counter(unit.strategy for unit in design.units()) == {"random": 100, "mode": 100, "expectation": 64}


def test_no_unit_under_expectation_keeps_its_noise():
    assert all(unit.std == "dynamic" for unit in design.units() if unit.strategy == "expectation")


def test_figures_show_56_units_for_cifar10_and_32_for_the_others():
    figures = design.figure_units("cifar10")
    static = [unit for unit in figures if unit.is_static]
    assert (len(figures), len(static)) == (56, 8)
    assert Counter(unit.strategy for unit in figures if not unit.is_static) == {"expectation": 32, "random": 8, "mode": 8}
    assert len(design.figure_units("svhn")) == len(design.figure_units("gsc12")) == 32
    assert all(unit.mean == "static" for unit in figures)


def test_names_and_hashes_are_distinct_and_names_lead_back_to_units():
    assert len({unit.hash for unit in design.units()}) == 264
    assert all(design.unit(unit.name) == unit for unit in design.units())


def test_hashes_never_change():
    # They name recorded runs; a change here makes all records unfindable.
    assert design.unit("uniform-mode-static").hash == "bfb0338e2a4a"
    assert design.unit("normal-expectation-same-end-progressive-dynamic-mean").hash == "e9b9b9745eac"
    assert make("cifar10", "uniform-mode-static", 0).key == "56cd7fcee9ddeb42"


def test_a_static_unit_has_no_interval_whatever_was_given():
    assert Unit("normal", "mode", "static", "static", "same_end", "progressive") == design.unit("normal-mode-static")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("gaussian", "mode"), "noise must be one of"),
        (("normal", "mod"), "Did you mean 'mode'"),
        (("normal", "mode", "still"), "mean must be one of"),
        (("normal", "mode", "static", "dynamic", "samestart"), "Did you mean 'same_start'"),
        (("normal", "mode", "static", "dynamic", None), "interval must be one of"),
    ],
)
def test_units_refuse_what_is_no_degree_of_freedom(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Unit(*arguments)


def test_selections_take_groups_patterns_and_exceptions():
    assert len(design.select(["figures"], "cifar10")) == 56
    assert len(design.select(["figures", "dynamic-mean", "baselines"], "cifar10")) == 56 + 24 + 3
    assert design.select(["static", "-*-random-*"], "svhn") == tuple(f"{f}-mode-static" for f in design.Family)
    assert design.select(["float", "uniform-mode-static", "float"], "svhn") == ("uniform-mode-static", "float")


@pytest.mark.parametrize(
    "patterns, message",
    [
        (["uniform-mode-statc"], "did you mean 'uniform-mode-static'"),
        (["figure"], "did you mean 'figures'"),
        (["float", "-float"], "leaves no unit"),
    ],
)
def test_selections_refuse_what_stands_for_nothing(patterns, message):
    with pytest.raises(ValueError, match=message):
        design.select(patterns, "cifar10")


@pytest.mark.parametrize("data, epochs, drop", [("cifar10", 500, 400), ("gsc", 120, 100)])
def test_the_paper_size_has_the_papers_epochs_and_drop(data, epochs, drop):
    paper = make(data, "uniform-mode-static", size="paper")
    assert (paper.epochs, paper.drop, paper.size, paper.width, paper.n_train) == (epochs, drop, "paper", 1.0, 0)


def test_a_change_to_a_size_gives_it_another_name():
    scaled = make("cifar10", "float")
    assert scaled.size == "scaled"
    changed = make("cifar10", "float", period=scaled.period + 1)
    assert changed.size.startswith("custom-") and changed.size != make("cifar10", "float", lr=0.5).size


def test_precision_and_channels_last_are_settings_that_leave_recorded_keys_alone():
    before, explicit = make("cifar10", "float", size="paper"), {"precision": "float32", "channels_last": False}
    assert make("cifar10", "float", size="paper", **explicit) == before
    assert before.key == "0cec248b636958d2" and not set(before.as_dict()) & set(explicit)
    changed = [
        make("cifar10", "float", size="paper", **changes)
        for changes in ({"precision": "bfloat16"}, {"channels_last": True}, {"precision": "bfloat16", "channels_last": True})
    ]
    assert len({c.key for c in (before, *changed)}) == len({c.size for c in (before, *changed)}) == 4
    assert [c.as_dict().get("precision") for c in changed] == ["bfloat16", None, "bfloat16"]
    assert all(Config.from_dict(json.loads(json.dumps(c.as_dict()))) == c for c in changed)
    assert changed[2].overrides == "size=paper precision=bfloat16 channels_last=true"


def test_the_precisions_are_those_of_training():
    from anabook.training import fit  # the function; its module has the names that it takes

    assert set(config.PRECISIONS) == {"float32", *sys.modules[fit.__module__]._PRECISIONS}


@pytest.mark.parametrize(
    "words", [["size=paper"], ["precision=bfloat16", "lr=0.5"], ["augmentation=none", "channels_last=true"]]
)
def test_a_size_is_told_in_the_words_that_make_it(tmp_path, words):
    path = write(tmp_path, "units = ['float']")
    (made,) = config.expand(config.read(path, words))
    assert config.expand(config.read(path, shlex.split(made.overrides))) == [made]
    assert set(words) <= set(shlex.split(made.overrides))


def test_schedules_of_configs_are_those_of_the_experiments():
    c = make("cifar10", "logistic-random-same-end-progressive-dynamic-mean", size="paper")
    assert c.schedule() == Schedule(
        7,
        "same_end",
        "progressive",
        start=0,
        end=350,
        mean0=-0.5,
        static_mean=False,
        std0=Noise.covering("logistic", half_width=0.5).std,
    )
    speech = make("gsc", "uniform-mode-static", size="paper").schedule()
    assert speech.n_layers == 9 and speech(8, 100) == (0.0, pytest.approx(0.035 / 3**0.5))
    assert make("cifar10", "float").schedule() is None


def test_runs_of_one_fold_start_alike_and_others_do_not():
    starts = [
        make("cifar10", unit, fold, seed=seed).start
        for unit in ("float", "uniform-mode-static")
        for fold in (0, 4, None)
        for seed in (0, 1)
    ]
    assert starts[:6] == starts[6:] and len(set(starts)) == 6


def test_keys_tell_all_settings_apart_and_survive_json():
    configs = [
        make("cifar10", "float"),
        make("cifar10", "float", 1),
        make("cifar10", "ste"),
        make("cifar10", "float", seed=1),
        make("cifar10", "float", lr=0.5),
        make("svhn", "float"),
        make("cifar10", "float", None),
    ]
    configs.append(make("cifar10", "mine", own={"interval": [[0, 2]] * 7, "noise": "normal", "strategy": "mode"}))
    assert len({c.key for c in configs}) == len(configs)
    assert all(Config.from_dict(c.as_dict()) == c for c in configs)


@dataclass(frozen=True)
class Later(Config):
    """A config with a field that was added after runs had been recorded."""

    warmup: int = 0


def test_every_recorded_run_is_found_by_its_config_also_after_a_field_is_added():
    files = sorted(shipped.path("results").glob("*.jsonl"))
    lines = [json.loads(line) for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    runs = [record for record in lines if record.get("record") == "run"]
    assert len(runs) > 700
    for kind in (Config, Later):
        found = [kind.from_dict(record["config"]) for record in runs]
        assert [(c.key, c.size) for c in found] == [(record["key"], record["size"]) for record in runs]
        assert [c.as_dict() for c in found] == [record["config"] for record in runs]


def test_a_field_that_is_added_counts_where_it_differs_from_its_default():
    as_before, other = (Later.from_dict({**make("cifar10", "float").as_dict(), **extra}) for extra in ({}, {"warmup": 2}))
    assert "warmup" not in as_before.as_dict() and other.as_dict()["warmup"] == 2
    assert as_before.key == make("cifar10", "float").key != other.key
    assert as_before.size == "scaled" and other.size.startswith("custom-")


def test_only_what_older_runs_do_not_hold_may_be_left_out_of_a_record():
    left_out = {f.name for f in fields(Config)} - set(make("cifar10", "float").as_dict())
    assert left_out == {"own", "own_network", "precision", "channels_last"}


def test_a_stand_in_has_the_row_of_what_it_stands_for():
    stand_ins = [task for task in tasks.TASKS.values() if task.stands_for is not None]
    assert {task.name: task.original for task in stand_ins} == {
        "cifar10-stand-in": "cifar10",
        "svhn-stand-in": "svhn",
        "gsc-stand-in": "gsc",
    }
    for task in stand_ins:
        row = tasks.TASKS[task.original]
        assert row.original == row.name and row.stand_in(task.name) == task
        assert design.figure_units(task.name) == design.figure_units(row.name)


@pytest.mark.parametrize("task", tasks.TASKS.values(), ids=lambda task: task.name)
def test_a_row_says_all_that_a_run_needs(task):
    assert set(task.sizes) == set(tasks.SIZES)
    for size in tasks.SIZES:
        c = make(task.name, "float", size=size)
        assert (c.size, c.n_layers, c.task) == (size, task.network.n_layers, task)
        assert {name: getattr(c, name) for name in task.size(size)} == task.size(size)


@pytest.mark.parametrize("task", tasks.TASKS.values(), ids=lambda task: task.name)
def test_a_row_makes_a_network_of_its_layers_and_classes_for_its_inputs(task):
    torch = pytest.importorskip("torch")
    from anabook import training

    for shrink in task.network.shrinks:
        channels, height, width = task.shape
        net = training.quantise(task.build(0.05, shrink), task.network.weights, task.network.activations)
        layers = {module.layer for module in net.modules() if isinstance(module, training.Quantise)}
        assert len(layers) == task.network.n_layers
        assert net.eval()(torch.zeros(2, channels, height // shrink, width // shrink)).shape == (2, task.classes)


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        (("cifar", "float"), {}, "Did you mean 'cifar10'"),
        (("cifar10", "uniform-mode"), {}, "did you mean 'uniform-mode-static'"),
        (("cifar10", "float", 5), {}, "fold must be an integer from 0 to 4, not 5"),
        (("cifar10", "float"), {"size": "small"}, "size must be one of"),
        (("cifar10", "float"), {"peroid": 3}, "did you mean 'period'"),
        (("cifar10", "float"), {"shrink": 3}, "shrink must be 1, 2 or 4"),
        (("gsc12", "float"), {"shrink": 2}, "shrink must be 1"),
        (("cifar10", "float"), {"width": 0}, "width must be finite and greater than 0"),
        (
            ("cifar10", "mine"),
            {"own": {"noise": "normal", "interval": [[0, 1]] * 9}},
            "9 entries, but the network has 7 quantised layers",
        ),
        (("cifar10", "mine"), {"own": {"nois": "normal"}}, "did you mean 'noise'"),
        (("cifar10", "float"), {"own": {"noise": "normal"}}, "that name is taken"),
        (
            ("cifar10", "mine"),
            {"own": {"noise": "gausian"}},
            "noise must be one of .* not 'gausian' .did you mean 'gaussian'",
        ),
        (("cifar10", "mine"), {"own": {"noise": "relu"}}, "noise 'relu' cannot be annealed"),
        (("cifar10", "mine"), {"own": {"noise": "atan"}}, "noise 'atan' cannot be annealed"),
        (("cifar10", "mine"), {"own": {"noise": "1 on [0, 2]"}}, "total mass"),
        (("cifar10", "mine"), {"own": {"noise": 3}}, "noise must be text, not 3"),
    ],
)
def test_configs_refuse_what_does_not_fit(arguments, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make(*arguments, **options)


def test_a_schedule_of_ones_own_need_say_nothing_but_what_is_new():
    config = make("cifar10", "mine", own={"interval": [[6 - i, 7 - i] for i in range(7)]})
    assert config.quantisation() == ("uniform", "mode")
    assert config.schedule().intervals[0] == (6, 7) and config.schedule().intervals[6] == (0, 1)


@pytest.mark.parametrize("noise", ["laplace", "bi_real", "3/4*(1 - t^2) on [-1, 1]"])
def test_a_schedule_of_ones_own_takes_a_variant_or_a_density(noise):
    config = make("cifar10", "mine", own={"noise": noise, "half_width": 1.0})
    kind, strategy = config.quantisation()
    assert strategy == "mode" and Config.from_dict(json.loads(json.dumps(config.as_dict()))) == config
    _, std = config.schedule()(0, 0)
    assert std == pytest.approx(Noise.covering(kind, half_width=config.task.network.quantum).std)


def write(tmp_path, text):
    path = tmp_path / "sweep.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("page", ["README.md", "book/10-the-experiment.ipynb"])
def test_the_sweep_with_a_schedule_of_ones_own_that_a_page_shows_is_one(page, tmp_path):
    text = (Path(__file__).parents[1] / page).read_text(encoding="utf-8")
    if page.endswith(".ipynb"):
        text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
    blocks = re.findall(r"```toml\n(.*?)```", text, flags=re.S)
    (block,) = (each for each in blocks if "[schedules." in each)
    ours, own = config.expand(config.read(write(tmp_path, block)))
    assert ours.unit == "uniform-mode-partition-homogeneous" and own.own is not None
    starts = [start for start, _ in own.schedule().intervals]
    assert starts == sorted(starts, reverse=True), "output first"


@pytest.mark.parametrize("data", ["cifar10", "gsc12"])
def test_the_sizes_differ_in_nothing_but_what_chapter_10_lists(data):
    paper, scaled = (make(data, "logistic-mode-same-end-progressive", 1, size) for size in ("paper", "scaled"))
    differ = {name for name, value in paper.as_dict().items() if scaled.as_dict()[name] != value}
    assert differ <= {"width", "shrink", "n_train", "period", "lr"}
    assert (
        paper.epochs * scaled.period == scaled.epochs * paper.period
        and paper.drop * scaled.period == scaled.drop * paper.period
    )
    for t in range(12 * scaled.period):
        for layer in range(paper.n_layers):
            ours, theirs = scaled.schedule()(layer, t), paper.schedule()(layer, t * paper.period / scaled.period)
            assert ours == pytest.approx(theirs, abs=1e-12)


def test_files_are_read_and_overridden(tmp_path):
    path = write(
        tmp_path,
        'data = "svhn-stand-in"\nunits = ["static", "mine"]\nfolds = [0, "test"]\n[settings]\nperiod = 2\n'
        '[schedules.mine]\nnoise = "normal"\nstrategy = "mode"\ninterval = "same_start"\n',
    )
    configs = config.expand(config.read(path, ["width=0.5", "settings.lr=0.1", "seeds=[0, 1]"]))
    assert len(configs) == 2 * 2 * 9
    assert {(c.period, c.width, c.lr) for c in configs} == {(2, 0.5, 0.1)}
    assert [c.fold for c in configs[::9]] == [0, None, 0, None]
    assert configs[8].unit == "mine" and configs[8].schedule().interval == "same_start"
    assert config.expand(config.read(path, ["data=svhn", 'units=["float"]']))[0].data == "svhn"


@pytest.mark.parametrize(
    "text, overrides, message",
    [
        ("units = 3", [], "units must be a list"),
        ("dat = 'x'", [], "did you mean 'data'"),
        ("data = ", [], "is not TOML"),
        ("data = 'mnist'", [], "data must be one of"),
        ("folds = ['tests']", [], "folds must be numbers"),
        ("folds = []", [], "folds must hold at least one entry"),
        ("units = []", [], "units must hold at least one entry"),
        ("", ["seeds=[]"], "seeds must hold at least one entry"),
        ("", ["peroid=2"], "did you mean 'period'"),
        ("", ["period"], "key=value"),
        ("", ["settings.peroid=2"], "did you mean 'period'"),
        (
            "",
            ["precision=bf16"],
            "precision must be one of 'float32', 'bfloat16', 'float16', not 'bf16'. Did you mean 'bfloat16'",
        ),
        ("[schedules]\nmine = 3", [], "schedules.mine must be a table"),
    ],
)
def test_files_refuse_what_they_do_not_know(tmp_path, text, overrides, message):
    with pytest.raises(ValueError, match=message):
        config.expand(config.read(write(tmp_path, text), overrides))


@pytest.mark.parametrize(
    "text, message",
    [
        ("[settings]\nchannels_last = 'True'", "channels_last must be true or false, not 'True'"),
        ("[settings]\nprecision = 16", "precision must be one of 'float32', 'bfloat16', 'float16', not 16"),
        ("units = [['float']]", "units must be names, patterns or groups, not ..float"),
        ("units = ['mine']\n[schedules.mine]\ninterval = 3", "the interval of 'mine' must be one of .*, not 3"),
        ("units = ['mine']\n[schedules.mine]\npower_law = true", "the power_law of 'mine' must be one of .*, not True"),
        ("units = ['mine']\n[schedules.mine]\ninterval = [1, 2, 3, 4, 5, 6, 7]", "pairs .start, end., not .1, 2"),
        (
            "units = ['mine']\n[schedules.mine]\ninterval = [[0, 1], [0, 1], [0, 1], [0, 1], [0, 1], [0, 1], [3, 1]]",
            "end of layer 6",
        ),
    ],
)
def test_entries_of_a_wrong_type_are_named_before_anything_runs(tmp_path, text, message):
    with pytest.raises((ValueError, TypeError), match=message):
        config.expand(config.read(write(tmp_path, text)))


def test_sweeps_have_all_units_of_a_fold_before_the_next_and_of_a_seed_before_the_next(tmp_path):
    configs = config.expand(config.read(write(tmp_path, "units = ['float', 'ste']\nfolds = [0, 1]\nseeds = [0, 1]")))
    assert [(c.seed, c.fold, c.unit) for c in configs[:5]] == [
        (0, 0, "float"),
        (0, 0, "ste"),
        (0, 1, "float"),
        (0, 1, "ste"),
        (1, 0, "float"),
    ]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="cannot read the config .*nowhere.toml"):
        config.read(tmp_path / "nowhere.toml")


def test_precisions_are_those_that_training_knows():
    from anabook.experiments.config import PRECISIONS
    from anabook.training.fit import _PRECISIONS

    assert set(PRECISIONS) == {"float32", *_PRECISIONS}
