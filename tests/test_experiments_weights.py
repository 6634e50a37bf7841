"""The final weights of runs: packed, and computing what the run was measured with."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anabook import training
from anabook.cli import main
from anabook.datasets import standins, store
from anabook.experiments import make, run, weights
from anabook.experiments.networks import build
from anabook.experiments.parts import parts

UNITS = [
    "uniform-mode-static",
    "logistic-random-partition-homogeneous",
    "uniform-expectation-same-end-progressive-dynamic-mean",
    "float",
    "ste",
    "identity",
]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANABOOK_DATA", str(folder))
        store.save(standins.objects(n_train=160, n_test=30))
        yield folder


def tiny(unit, fold=0, **changes):
    settings = {"width": 1 / 16, "shrink": 4, "n_train": 100, "unused": 40, "period": 1, "batch_size": 32, **changes}
    return make("cifar10-stand-in", unit, fold, **settings)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("fold", [1, None])
def test_the_weights_of_a_run_give_its_accuracies_by_a_forward_pass(stored, tmp_path, unit, fold):
    config = tiny(unit, fold)
    record = run.run(config, weights=tmp_path)
    net, of = weights.load(config, tmp_path), parts(config)
    assert not net.training
    held_out, unused = training.evaluate(net, of.held_out), training.evaluate(net, of.unused)
    assert [round(held_out.accuracy, 6), round(unused.accuracy, 6)] == [record["accuracy"], record["unused"]["accuracy"]]
    assert unused.loss == pytest.approx(record["unused"]["loss"], abs=1e-5)
    assert record["examples"] == {"training": 80 if fold else 100, "held_out": 20 if fold else 30, "unused": 40}


def test_a_ternary_network_takes_a_fifth_of_a_byte_a_weight(tmp_path):
    config = make("cifar10", "uniform-mode-static")
    net = build(config)
    path = weights.save(net, config, tmp_path)
    quantised = sum(layer.weight.numel() for layer in net.modules() if hasattr(layer, "parametrizations"))
    rest = sum(p.numel() for p in net.parameters()) - quantised
    assert quantised > 100_000 and path.stat().st_size < quantised / 5 + 8 * rest + 40_000
    for name, value in training.deploy(net).state_dict().items():
        assert torch.equal(weights.load(config, tmp_path).state_dict()[name], value)


@given(st.integers(2, 256).flatmap(lambda b: st.tuples(st.just(b), st.lists(st.integers(0, b - 1), max_size=40))))
def test_packing_is_undone(case):
    base, digits = case
    packed = weights.pack(np.array(digits, int), base)
    assert packed.dtype == np.uint8 and len(packed) == -(-len(digits) // weights.per_byte(base))
    assert weights.unpack(packed, base, len(digits)).tolist() == digits


def test_bytes_that_are_no_digits_are_refused():
    for packed, base, n in (([243], 3, 1), ([1], 3, 6), ([1, 1], 3, 5)):
        with pytest.raises(ValueError, match="do not hold"):
            weights.unpack(np.array(packed, np.uint8), base, n)


def test_files_that_are_missing_damaged_or_anothers_are_refused(tmp_path):
    config, other = make("cifar10", "float", width=1 / 16), make("cifar10", "ste", width=1 / 16)
    with pytest.raises(ValueError, match=f"there are no weights of the run {config.key} .*cifar10 float fold 0"):
        weights.load(config, tmp_path)
    path = weights.save(build(config), config, tmp_path)
    whole = path.read_bytes()
    for damaged in (b"", b"nonsense", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="holds no weights that can be read"):
            weights.load(config, tmp_path)
    weights.path_in(tmp_path, other).write_bytes(whole)
    with pytest.raises(ValueError, match="holds the weights of another run: cifar10 float fold 0"):
        weights.load(other, tmp_path)
    with np.load(weights.path_in(tmp_path, other)) as archive:
        arrays = dict(archive)
    arrays["config"] = np.frombuffer(json.dumps(config.as_dict(), sort_keys=True).encode(), np.uint8)
    del arrays["conv1.weight" if "conv1.weight" in arrays else next(name for name in arrays if name.endswith("weight"))]
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="do not fit the network"):
        weights.load(config, tmp_path)
    assert {each.suffix for each in tmp_path.iterdir()} == {".npz"}  # nothing half-written


DAMAGED = {
    "one value, and digits for two": {"weight:values": np.zeros(1), "weight:digits": np.full(8, 255, np.uint8)},
    "values that are one number": {"weight:values": np.array(1.0)},
    "digits that are one number": {"weight:digits": np.array(3)},
    "no values": {"weight:values": None},
    "a shape without an end": {"weight:shape": np.array([np.inf, 2.0])},
    "text": {"bias": np.array(["zero", "zero", "zero"])},
}


@pytest.mark.parametrize("changed", DAMAGED.values(), ids=DAMAGED)
def test_arrays_that_are_no_tensors_are_refused_in_a_sentence(tmp_path, changed):
    net = torch.nn.Linear(20, 3)
    with torch.no_grad():
        net.weight.copy_(torch.arange(60).view(3, 20) % 2)
    with np.load(weights.save_state(net, tmp_path / "a.npz")) as archive:
        arrays = {name: value for name, value in ({**archive} | changed).items() if value is not None}
    config = np.frombuffer(json.dumps(make("cifar10", "float").as_dict()).encode(), np.uint8)
    np.savez(tmp_path / "a.npz", **arrays)
    np.savez(tmp_path / "b.npz", config=config, **arrays)
    for read, path in ((lambda path: weights.read_state(path, net), "a.npz"), (weights.read, "b.npz")):
        with pytest.raises(ValueError, match=r"holds no weights that can be read \([^\n]+\)\.$") as caught:
            read(tmp_path / path)
        assert changed != DAMAGED["no values"] or "it has no 'weight:values'" in str(caught.value)


WHOLE = make("cifar10", "float").as_dict()
CONFIGS = ["[1]", "null", "[" * 100_000, '{"data": "cifar10"}', *(json.dumps(WHOLE | {n: 1e400}) for n in ("unit", "fold"))]


@pytest.mark.parametrize("text", CONFIGS, ids=["list", "null", "deep", "short", "unit", "fold"])
def test_a_config_that_is_none_is_refused_in_a_sentence(tmp_path, text):
    np.savez(tmp_path / "a.npz", config=np.frombuffer(text.encode(), np.uint8))
    with pytest.raises(ValueError, match="holds no weights that can be read"):
        weights.read(tmp_path / "a.npz")


def test_the_command_line_keeps_weights_in_the_store_unless_told_otherwise(stored, tmp_path, capsys):
    sweep = tmp_path / "sweep.toml"
    sweep.write_text(
        'data = "cifar10-stand-in"\nunits = ["uniform-mode-static", "ste"]\n[settings]\nwidth = 0.0625\nshrink = 4\n'
        "n_train = 100\nunused = 0\nperiod = 1\nbatch_size = 32\n"
    )
    kept = store.directory() / "weights"
    one = make(
        "cifar10-stand-in", "uniform-mode-static", width=0.0625, shrink=4, n_train=100, unused=0, period=1, batch_size=32
    )
    before = set(kept.glob("*")) if kept.exists() else set()
    assert main(["train", str(sweep), "--results", str(tmp_path / "a"), "--no-weights"]) == 0
    assert (set(kept.glob("*")) if kept.exists() else set()) == before
    assert main(["train", str(sweep), "--results", str(tmp_path / "b")]) == 0
    assert weights.path_in(kept, one).is_file() and store.names() == ["cifar10-stand-in"]
    elsewhere = tmp_path / "weights"
    assert main(["sweep", str(sweep), "--results", str(tmp_path / "c"), "--weights", str(elsewhere), "--workers", "1"]) == 0
    assert len(list(elsewhere.iterdir())) == 2
    capsys.readouterr()
    assert main(["train", str(sweep), "--results", str(tmp_path / "d"), "--weights", "x", "--no-weights"]) == 2
    assert "contradict" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["sweep", str(sweep), "--results", str(tmp_path / "d"), "--weights", str(tmp_path / "file")]) == 2
    assert "cannot write to the folder" in capsys.readouterr().err
