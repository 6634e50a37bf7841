"""A network and a data set of one's own in experiments: from a dotted name and a folder of images to a recorded run."""

import hashlib
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anabook import Quantiser, cli, training
from anabook.datasets import store
from anabook.experiments import config, make, own_networks, results, tasks
from anabook.experiments.networks import StraightThrough, build, straight_through
from anabook.experiments.run import run
from anabook.experiments.weights import load as load_weights

ROOT = Path(__file__).resolve().parents[1]
SOURCE = '''
"""A small network with names in stages."""

from torch import nn


def net(n_classes, shape):
    stage = lambda n: nn.Sequential(nn.Conv2d(n, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
    return nn.Sequential(stage(shape[0]), stage(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, n_classes))


def staged(n_classes, shape):
    net = nn.Sequential()
    net.add_module("stem", nn.Conv2d(shape[0], 4, 1))
    net.add_module("layer1", nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1)))
    net.add_module("layer2", nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    net.add_module("fc", nn.Linear(4, n_classes))
    return net


class Wide(nn.Module):
    def __init__(self, n_classes, shape, width=1.0):
        super().__init__()
        hidden = round(8 * width)
        self.one, self.act, self.last = nn.Linear(shape[0] * shape[1] * shape[2], hidden), nn.ReLU(), nn.Linear(hidden, n_classes)

    def forward(self, x):
        x = x.flatten(1)
        if float(x.sum()) > 1e9:  # a program that cannot be read: the order is seen on an example
            return x
        return self.last(self.act(self.one(x)))


made = net(3, (1, 8, 8))
wrong = lambda: nn.Linear(3, 3)
text = lambda: "no network"
needs_more = lambda n_classes, depth: None


def refuses(n_classes):
    raise ValueError("the network is too small")
'''


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with a module of networks and a data set of three shades in the store."""
    monkeypatch.setenv("ANABOOK_DATA", str(tmp_path / "store"))
    monkeypatch.setenv("ANABOOK_RESULTS", str(tmp_path / "mine"))
    monkeypatch.chdir(tmp_path)
    name = "nets_" + hashlib.md5(str(tmp_path).encode()).hexdigest()[:8]  # a module is imported once a process
    (tmp_path / f"{name}.py").write_text(SOURCE)
    for i, label in enumerate(("dark", "middle", "light")):
        (tmp_path / "shades" / label).mkdir(parents=True)
        for j in range(5):
            Image.new("L", (8, 8), 20 + 100 * i + j).save(tmp_path / "shades" / label / f"{j}.png")
    assert cli.main(["data", "shades", "--from", "shades"]) == 0
    return name


def toml(place, **more):
    """A sweep's file of two units, as the README has it."""
    text = {"network": f'"{place}:net"', "units": '["uniform-mode-static", "float"]', **more}
    settings = "[settings]\nperiod = 1\nbatch_size = 4\nn_folds = 2\n"
    with open("own.toml", "w", encoding="utf-8") as file:
        file.write('data = "shades"\n' + "".join(f"{key} = {value}\n" for key, value in text.items()) + settings)
    return "own.toml"


def one(place, unit="uniform-mode-static", quantisation=None, network="net", **settings):
    """The config of one run."""
    values = {"data": "shades", "network": f"{place}:{network}", "units": [unit], "quantisation": quantisation or {}}
    file = config.read(toml(place))
    return config.expand({**file, **values, "settings": {"period": 1, "batch_size": 4, "n_folds": 2, **settings}})[0]


def test_a_sweep_goes_from_a_folder_of_images_and_a_dotted_name_to_recorded_runs(place, capsys):
    words = ["sweep", toml(place), "--workers", "1"]
    assert cli.main([*words, "--dry-run"]) == 0 and "2 runs to do" in capsys.readouterr().out
    assert cli.main(words) == 0
    capsys.readouterr()
    assert cli.main(words) == 0
    again = capsys.readouterr()
    assert "all 2 runs are recorded already" in again.err
    frame = results.load(results.folder())
    assert sorted(frame["unit"]) == ["float", "uniform-mode-static"] and set(frame["kind"]) == {"unverified"}
    assert set(frame["data"]) == {"shades (local files, not verified)"} and len(set(frame["size"])) == 1
    assert frame["overrides"].iloc[0].startswith(f"size=scaled network={place}:net period=1")
    lines = [
        json.loads(line) for file in results.folder().glob("shades-custom-*.jsonl") for line in file.read_text().splitlines()
    ]
    source = Path(f"{place}.py").read_bytes()
    for line in lines:
        assert line["status"] == "done" and line["examples"] == {"training": 6, "held_out": 6}
        assert line["network"] == {
            "name": f"{place}:net",
            "module": place,
            "file": f"{place}.py",
            "sha256": hashlib.sha256(source).hexdigest(),
        }
        assert line["provenance"]["sha256"] == store.describe("shades")["sha256"]["inputs"][:16]
        assert line["config"]["own_network"]["turns"] == [0, 1, 2, 3] and len(line["curves"]["accuracy"]) == 7
        assert config.Config.from_dict(line["config"]).key == line["key"]
    quantised = next(line for line in lines if line["config"]["unit"] == "uniform-mode-static")
    net = load_weights(config.Config.from_dict(quantised["config"]), store.directory() / "weights")
    assert set(np.unique(net[0][0].weight.detach().numpy())) <= {-1.0, 0.0, 1.0}


def test_bits_for_each_layer_blocks_and_what_stays_come_from_the_file(place):
    how = {
        "weights": {"first": "8 bits", "1.*": "4 bits", "*": "ternary"},
        "activations": {"0.1": "float", "*": "4 bits unsigned"},
        "keep": [],
        "quantum": 0.5,
        "blocks": ["0.*", "1.*"],
    }
    c = one(place, "uniform-mode-partition-homogeneous", how, period=2)
    net = build(c)
    assert [layer.bits for layer in training.layers(net)] == [(8, ()), (2, (4,)), (4, (4,)), (4, (4,)), (2, ())]
    assert (c.n_layers, c.n_turns, c.epochs, c.drop) == (5, 3, 12, 8)
    schedule = c.schedule()
    assert schedule.turns == (0, 0, 1, 1, 2) and schedule.end == 6
    assert schedule.std0 == pytest.approx(training.layers(net)[0].weight.covering_std())
    with open("bare.toml", "w", encoding="utf-8") as file:
        file.write(f'data = "shades"\nunits = ["{c.unit}"]\n')
    assert c.overrides.startswith(f"size=scaled network={place}:net 'quantisation.weights={{")
    assert config.expand(config.read("bare.toml", shlex.split(c.overrides))) == [c]
    again = config.Config.from_dict(json.loads(json.dumps(c.as_dict(), sort_keys=True)))
    assert again == c and again.key == c.key and again.size == c.size
    assert run(c)["status"] == "done"


def test_the_example_of_the_readme_is_a_sweep(place):
    blocks = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.S)
    (block,) = (each for each in blocks if "network = " in each)
    with open("readme.toml", "w", encoding="utf-8") as file:
        file.write(block.replace('"flowers"', '"shades"').replace("mypackage:net", f"{place}:staged"))
    runs = config.expand(config.read("readme.toml", ["n_folds=2"]))
    assert [c.unit for c in runs] == ["uniform-mode-static", "uniform-mode-partition-homogeneous", "float", "ste"]
    assert (runs[1].n_layers, runs[1].schedule().turns, runs[1].epochs) == (4, (0, 1, 1, 2), 30)
    assert [layer.bits for layer in training.layers(build(runs[0]))] == [(8, (4,)), (4, (4,)), (4, (4,)), (4, (4,))]


def test_a_schedule_of_ones_own_has_an_entry_for_each_block(place):
    values = config.read(toml(place))
    mine = {"interval": [[0, 1], [0, 2]], "noise": "normal"}
    values |= {"units": ["mine"], "schedules": {"mine": mine}, "quantisation": {"blocks": 2}}
    assert config.expand(values)[0].schedule().intervals == ((0, 1), (0, 1), (0, 2), (0, 2))


def test_straight_through_baselines_round_with_each_layers_own_quantiser(place):
    net = build(one(place, "ste", {"weights": {"first": "8 bits", "*": "ternary"}, "activations": "2 bits unsigned"}))
    steps = [m for m in net.modules() if isinstance(m, StraightThrough)]
    assert sorted(len(step.levels) for step in steps) == [3, 3, 3, 4, 4, 4, 4, 256]


def test_straight_through_takes_weights_of_every_kind_and_fixed_quanta_but_no_learned_ones():
    class Mixed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.act, self.last = torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)
            self.attention, self.lstm = torch.nn.MultiheadAttention(4, 2, batch_first=True), torch.nn.LSTM(4, 4)

        def forward(self, x):
            x = self.act(self.fc(x))
            return self.last(self.lstm(self.attention(x, x, x)[0])[0])

    four, x = Quantiser.linear(4, rounding="nearest"), torch.randn(2, 3, 4)
    torch.manual_seed(0)
    scales = training.calibrate(Mixed(), x, four, four)
    net = straight_through(Mixed(), four, four, clip=True, keep=(), example=x, scales=scales)
    steps = [m for m in net.modules() if isinstance(m, StraightThrough)]
    assert len(steps) == 7 and not any(isinstance(m, training.Quantise) for m in net.modules())
    assert torch.equal(net.act.scale, scales["act"])
    weight = net.lstm.weight_hh_l0.detach() / scales["lstm.weight_hh_l0"]
    torch.testing.assert_close(weight, weight.round())
    net(x).square().sum().backward()
    for name, parametrised in (("lstm", "weight_ih_l0"), ("attention", "in_proj_weight"), ("fc", "weight")):
        assert net.get_submodule(name).parametrizations[parametrised].original.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="the straight-through baseline has fixed quanta, and that of .* is learned"):
        straight_through(Mixed(), four, four, clip=True, keep=(), example=x, quantum="learned")


def test_a_network_whose_program_cannot_be_read_gets_its_width_and_is_seen_on_an_example(place):
    c = one(place, network="Wide", width=2.0)
    assert build(c).one.out_features == 16 and c.n_layers == 1 and run(c)["status"] == "done"


def test_the_networks_of_the_book_take_data_of_ones_own_and_those_of_ones_own_take_the_books(place):
    values = config.read(toml(place))
    c = config.expand({**values, "network": "vgg", "settings": {"n_folds": 2, "width": 0.05}})[0]
    assert c.n_layers == 7 and build(c)[0].in_channels == 1 and "source" not in dict(c.own_network)
    with pytest.raises(ValueError, match="the network 'dscnn' gives|the network 'dscnn' cannot take inputs of shape"):
        config.expand({**values, "network": "dscnn", "data": "cifar10", "settings": {}})
    c = config.expand({**values, "network": f"{place}:net", "data": "cifar10", "settings": {}})[0]
    assert c.task.shape_at(c.shrink) == (3, 16, 16) and c.width == 0.125 and "data" not in dict(c.own_network)


def test_a_run_reads_the_file_of_its_network_once_and_passes_on_what_the_function_says(place, monkeypatch):
    c, loads, load = one(place), [], own_networks.load
    monkeypatch.setattr(own_networks, "load", lambda name: loads.append(name) or load(name))
    c.task.build(c.width, c.shrink)
    assert loads == [f"{place}:net"]
    with pytest.raises(
        ValueError, match=r"cannot be made \(ValueError: the network is too small\): it gets those of n_classes"
    ):
        own_networks.build(f"{place}:refuses", 1.0, (1, 8, 8), 3)


def test_the_speech_network_is_quantised_in_words_as_it_is_in_its_row():
    said = own_networks._defaults_of("dscnn")
    for what in ("weights", "activations"):
        assert own_networks._quantisers(what, said[what], said["quantum"]) == getattr(tasks.DSCNN, what)
    usual = own_networks.QUANTISATION
    for what in ("weights", "activations"):
        assert own_networks._quantisers(what, usual[what], usual["quantum"]) == getattr(tasks.VGG, what)


def test_what_is_planned_depends_on_the_source_and_on_the_images(place):
    before = one(place)
    with open(f"{place}.py", "a", encoding="utf-8") as file:
        file.write("# changed\n")
    with pytest.raises(ValueError, match=rf"'{place}:net' is written otherwise than when .* plan new runs"):
        build(before)
    after = one(place)
    assert after.key != before.key and after.size != before.size
    Image.new("L", (8, 8), 7).save("shades/dark/0.png")
    assert cli.main(["data", "shades", "--from", "shades"]) == 0
    assert one(place).key not in (before.key, after.key)


def test_a_record_that_says_too_little_of_its_network_is_refused(place):
    values = one(place).as_dict()
    del values["own_network"]["turns"]
    with pytest.raises(ValueError, match="own_network lacks turns"):
        config.Config.from_dict(values)


def test_runs_of_the_book_keep_their_keys_and_records():
    c = make("cifar10", "uniform-mode-static")
    assert "own_network" not in c.as_dict() and c.n_turns == c.n_layers == 7 and c.schedule().blocks is None


@pytest.mark.parametrize(
    "more, message",
    [
        ({"network": '"nowhere_at_all:net"'}, "cannot be imported (ModuleNotFoundError: No module named 'nowhere_at_all')"),
        ({"network": '"{place}:nett"'}, "has no 'nett' (did you mean 'net'?)"),
        ({"network": '"{place}.net"'}, "network must read \"package.module:function\", or be one of 'vgg', 'dscnn', not"),
        ({"network": '"vg"'}, "(did you mean 'vgg'?)"),
        ({"network": '"{place}:made"'}, "must be a function or a class that makes one, not Sequential"),
        ({"network": '"{place}:wrong"'}, "cannot take inputs of shape (1, 8, 8)"),
        ({"network": '"{place}:text"'}, "must make a torch.nn.Module, not str"),
        ({"network": '"{place}:needs_more"'}, "it gets those of n_classes, shape and width that it has parameters for"),
        ({"network": '""'}, "is a data set of your own, so the config must name a network"),
        ({"data": '"shade"'}, "there is no data set 'shade' (did you mean 'shades'?)"),
        ({"quantisation": "{weigths = 'ternary'}"}, "quantisation has the unknown key 'weigths' (did you mean 'weights'?)"),
        ({"quantisation": "{weights = '4 bit s'}"}, "weights must be 'ternary', 'float', or 1 to 16 bits as in '4 bits'"),
        ({"quantisation": "{weights = '17 bits'}"}, "1 to 16 bits"),
        (
            {"quantisation": "{weights = {'9.*' = 'ternary'}}"},
            "weights names '9.*', which matches no linear, convolution, attention or recurrent layer",
        ),
        ({"quantisation": "{keep = 'last'}"}, "keep must be a list of names of modules, not 'last'"),
        ({"quantisation": "{quantum = 0}"}, "quantum must be finite and greater than 0"),
        ({"quantisation": "{blocks = ['7.*']}"}, "blocks names '7.*', which matches no quantised layer"),
        ({"folds": "[0, 1, 2]"}, "fold must be an integer from 0 to 1, not 2"),
    ],
)
def test_what_does_not_fit_is_one_sentence_and_exit_code_2(place, more, message, capsys):
    text = {key: value.replace("{place}", place) for key, value in more.items()}
    data = text.pop("data", None)
    file = toml(place, **text)
    capsys.readouterr()
    assert cli.main(["sweep", file, "--dry-run", *([f"data={data}"] if data else [])]) == 2
    said = capsys.readouterr().err
    assert message in said and said.startswith("anabook: ") and said.count("\n") == 1


def test_a_module_that_fails_is_named_with_its_error(place, capsys):
    with open("broken_module.py", "w", encoding="utf-8") as file:
        file.write("raise RuntimeError('not today')\n")
    assert cli.main(["sweep", toml(place, network='"broken_module:net"'), "--dry-run"]) == 2
    assert "'broken_module:net' cannot be imported (RuntimeError: not today)" in capsys.readouterr().err


def test_more_folds_than_images_of_a_class_are_refused(place):
    with pytest.raises(
        ValueError, match="the class 'dark' of 'shades' has 4 examples to train on, fewer than the 5 folds: say n_folds=4"
    ):
        one(place, n_folds=5)


def test_a_quantisation_without_a_network_is_refused():
    with pytest.raises(ValueError, match="quantisation is for a network of your own"):
        config.expand({**config.read("data/sweeps/cifar10.toml"), "quantisation": {"weights": "ternary"}})


def test_names_are_found_in_packages_too_with_the_file_that_they_are_written_in():
    loaded = own_networks.load("anabook.models:mlp")
    assert loaded.file == "models.py" and loaded.module == "anabook.models"


def test_planning_reads_the_file_of_a_network_once(place, monkeypatch):
    loads, load = [], own_networks.load
    monkeypatch.setattr(own_networks, "load", lambda name: loads.append(name) or load(name))
    one(place)
    assert loads == [f"{place}:net"]
