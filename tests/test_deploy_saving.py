"""Integer networks in files: equal when they are read back, small, and refused when anything is wrong with them."""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from fractions import Fraction

import numpy as np
import pytest
from deploy_networks import random_inputs, random_network

import anabook as ab
from anabook.deploy import IntegerNetwork, packing, saving
from anabook.deploy.steps import INPUT, Head, Input, Threshold, Weighted
from anabook.experiments import weights as of_runs


@pytest.mark.parametrize("seed", range(40))
def test_a_network_comes_back_equal(seed, tmp_path):
    network = random_network(seed)
    path = network.save(tmp_path / "deep" / "net.npz")
    again = ab.deploy.load(str(path))
    assert again == network and repr(again) == repr(network)
    x = random_inputs(network, 4, seed)
    for name, value in network.features(x).items():
        assert np.array_equal(again.features(x)[name], value)
    with np.load(path, allow_pickle=False) as archive:
        assert not any(archive[name].dtype.hasobject for name in archive.files)


def _one(low, high, n=1000):
    weights = np.random.default_rng(0).integers(low, high + 1, (10, n)).astype(np.int8)
    weights.flat[:2] = low, high
    return IntegerNetwork(Input((n,), 0, 1), [Weighted(name="fc", inputs=(INPUT,), weights=weights)])


@pytest.mark.parametrize(
    "low, high, a_byte", [(-1, 1, 5), (0, 1, 8), (-2, 1, 4), (-8, 7, 2), (0, 15, 2), (-8, 8, 1), (-128, 127, 1)]
)
def test_weights_are_packed(low, high, a_byte, tmp_path):
    network = _one(low, high)
    with np.load(network.save(tmp_path / "net.npz")) as archive:
        assert archive["0:weights"].nbytes == 10_000 // a_byte
    assert ab.deploy.load(tmp_path / "net.npz") == network


def test_quanta_for_each_channel_come_back_as_fractions(tmp_path):
    act = Threshold(
        name="act",
        inputs=(INPUT,),
        thresholds=np.array([[0, 5]], np.int32),
        levels=np.array([-1, 200 - 100]),
        quantum=(Fraction(1, 3), Fraction(10**30, 7)),
        signs=np.array([1, -1], np.int8),
    )
    network = IntegerNetwork(Input((2,), 0, 9, Fraction(483.7997953125), Fraction(1, 3)), [act])
    again = ab.deploy.load(network.save(tmp_path / "net.npz"))
    assert again == network and again.steps[0].quantum == act.quantum and again.input.mean == Fraction(483.7997953125)
    assert again != IntegerNetwork(network.input, [dataclasses.replace(act, quantum=(Fraction(1, 3), Fraction(1, 7)))])


def test_the_same_network_makes_the_same_bytes(tmp_path):
    one, two = (random_network(5).save(tmp_path / name).read_bytes() for name in ("a.npz", "b.npz"))
    assert one == two


def test_a_file_that_is_cut_off_anywhere_is_refused(tmp_path):
    path = random_network(6).save(tmp_path / "net.npz")
    whole = path.read_bytes()
    for length in (0, 1, 30, len(whole) // 3, len(whole) // 2, len(whole) - 30, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"the file '.*net.npz' holds no integer network that can be read \(.+\)\.$"):
            ab.deploy.load(path)


def test_a_file_with_a_changed_byte_is_refused_or_the_same(tmp_path):
    network = random_network(6)
    path = network.save(tmp_path / "net.npz")
    whole, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    for place in rng.integers(0, len(whole), 150):
        changed = bytearray(whole)
        changed[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        said = ""
        try:
            same = ab.deploy.load(path) == network
        except ValueError as error:
            said = str(error)
        refused += bool(said)
        # Nobody reads the dates in the archive, and some other fields.
        assert "holds no integer network that can be read" in said if said else same
    assert refused > 100


def _rewritten(path, table=None, **arrays):
    """The file with entries of its table and arrays replaced (None: left out), and a digest that fits."""
    with np.load(path) as archive:
        found = {name: archive[name] for name in archive.files}
    content = json.loads(found.pop("network").tobytes())
    content.pop("sha256")
    if table is not None:
        table(content)
    found = {name: array for name, array in {**found, **arrays}.items() if array is not None}
    content["sha256"] = saving._digest(content, found)
    np.savez(path, network=np.frombuffer(json.dumps(content).encode(), np.uint8), **found)


@pytest.mark.parametrize(
    "table, arrays, why",
    [
        (lambda t: t.update(format="something else"), {}, "its format is 'something else'"),
        (lambda t: t["steps"][0].update(kind="Shell"), {}, "it has no 'Shell'"),
        (lambda t: t["steps"][0].update(inputs=["gone"]), {}, "'fc' takes 'gone', which is no step"),
        (lambda t: t["steps"][0].pop("groups"), {}, "it has no 'groups'"),
        (lambda t: t["input"].update(high=-5), {}, "the input's bounds must increase"),
        (lambda t: t["input"].update(mean={"fraction": "1/0"}), {}, "Fraction"),
        (lambda t: t["input"].update(mean=0.5, std="one"), {}, "its mean and std fractions"),
        (lambda t: t["steps"][0]["weights"].update(shape=[10, 999]), {}, "do not hold"),
        (lambda t: t["steps"][0]["weights"].update(dtype="float32"), {}, "must be an array of int8"),
        (lambda t: t["steps"][0].update(weights=3), {"0:weights": None}, "must be an array of int8"),
        (lambda t: t["steps"].clear(), {"0:weights": None}, "at least one step"),
        (lambda t: t.update(steps=3), {}, "int"),
        (None, {"0:weights": np.full(2000, 255, np.uint8)}, "do not hold 10000 digits to the base 3"),
        (None, {"0:more": np.zeros(3)}, "it has '0:more', which belongs to no step"),
        (None, {"7:weights": np.zeros(3)}, "it has '7:weights', which belongs to no step"),
        (lambda t: t["steps"][0].update(more=3), {}, "a Weighted has no 'more'"),
        (lambda t: t["steps"][0]["weights"].update(least=255), {}, "the weights of step 0 are no numbers of int8"),
        (lambda t: t["steps"][0]["weights"].update(least=-257), {}, "the weights of step 0 are no numbers of int8"),
        (lambda t: t["steps"][0]["weights"].update(least=0.5), {}, "the weights of step 0 are no numbers of int8"),
        (lambda t: t["steps"][0]["weights"].update(base="3"), {}, "str"),
        (lambda t: t["steps"][0]["weights"].update(dtype="no type"), {}, "no type"),
        (lambda t: t["steps"][0].update(stride="ab"), {}, "the stride of 'fc' must be a tuple of two integers, not 'ab'"),
        (lambda t: t["steps"][0].update(stride=[1, 1.5]), {}, "the stride of 'fc' must be a tuple of two integers"),
        (lambda t: t["steps"][0].update(dilation=[1, None]), {}, "the dilation of 'fc' must be a tuple of two integers"),
        (lambda t: t["steps"][0].update(groups="1"), {}, "the groups of 'fc' must be an integer greater than 0, not '1'"),
        (lambda t: t["steps"][0].update(inputs="input"), {}, "the inputs of 'fc' must be a tuple of names"),
        (lambda t: t["steps"][0].update(name=["fc"]), {}, "the name of ('fc',) must be text"),
        (lambda t: t["input"].update(shape="ab"), {}, "the input's shape and bounds must be integers"),
        (lambda t: t["input"].update(shape=7), {}, "int"),
    ],
)
def test_a_file_that_was_tampered_with_is_refused_even_with_a_new_digest(table, arrays, why, tmp_path):
    path = _one(-1, 1).save(tmp_path / "net.npz")
    _rewritten(path)
    assert ab.deploy.load(path) == _one(-1, 1)
    _rewritten(path, table, **arrays)
    with pytest.raises(ValueError, match="holds no integer network that can be read") as caught:
        ab.deploy.load(path)
    assert why in str(caught.value)


def test_a_changed_weight_is_noticed(tmp_path):
    path = _one(-8, 8).save(tmp_path / "net.npz")
    with np.load(path) as archive:
        found = {name: archive[name].copy() for name in archive.files}
    found["0:weights"].flat[7] ^= 1
    np.savez(path, **found)
    with pytest.raises(ValueError, match="its digest is another one: it was changed or damaged"):
        ab.deploy.load(path)


def test_foreign_files_are_refused(tmp_path):
    path = tmp_path / "foreign.npz"
    np.savez(path, a=np.ones(3))
    with pytest.raises(ValueError, match="it has no 'network'"):
        ab.deploy.load(path)
    np.savez(path, network=np.array([{"format": 1}], object))
    with pytest.raises(ValueError, match=r"\(it is damaged: .*allow_pickle"):
        ab.deploy.load(path)
    np.savez(path, network=np.frombuffer(b"[1, 2]", np.uint8))
    with pytest.raises(ValueError, match="holds no integer network"):
        ab.deploy.load(path)
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("network.npy", b"\x93NUMPY nonsense")
    path.write_bytes(data.getvalue())
    with pytest.raises(ValueError, match="holds no integer network"):
        ab.deploy.load(path)
    with pytest.raises(ValueError, match="there is no file '.*nowhere.npz'"):
        ab.deploy.load(tmp_path / "nowhere.npz")
    with pytest.raises(TypeError, match="path must be a path"):
        ab.deploy.load(3)


READERS = {"network": ab.deploy.load, "run": of_runs.read, "state": lambda path: of_runs.read_state(path, None)}


@pytest.mark.parametrize("read", READERS)
def test_files_of_other_kinds_are_called_by_what_they_are(read, tmp_path):
    """One sentence for each kind, whoever reads."""
    np.save(tmp_path / "array.npy", np.ones(3))
    whole = random_network(6).save(tmp_path / "whole.npz").read_bytes()
    contents = {
        "text.npz": (b"no archive at all", "it is no archive of arrays, but something else"),
        "empty.npz": (b"", "it is empty"),
        "byte.npz": (whole[:1], "it is cut off: its end"),
        "half.npz": (whole[: len(whole) // 2], "it is cut off: its end"),
        "array.npy": (None, "it is a single array, as numpy.save writes it"),
        "folder.npz": (None, "it is a folder"),
    }
    (tmp_path / "folder.npz").mkdir()
    for name, (content, why) in contents.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ValueError, match="that can be read") as caught:
            READERS[read](path)
        said = str(caught.value)
        assert why in said and said.startswith(f"the file {str(path)!r} holds no ") and "pickle" not in said


def test_a_zip_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "notes.zip", "w") as archive:
        archive.writestr("network", "some text")
    with pytest.raises(ValueError, match="'network' in it is no array"):
        ab.deploy.load(tmp_path / "notes.zip")


def test_an_old_file_stays_when_writing_fails(tmp_path, monkeypatch):
    path = random_network(1).save(tmp_path / "net.npz")
    before = path.read_bytes()

    def fail(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="no space left"):
        random_network(2).save(path)
    assert path.read_bytes() == before and [each.name for each in tmp_path.iterdir()] == ["net.npz"]


def test_heads_come_back_to_the_last_bit(tmp_path):
    rng = np.random.default_rng(0)
    for weights in (rng.normal(size=(3, 7)).astype(np.float32), rng.integers(-1, 2, (3, 7)).astype(np.int8)):
        head = Head(name="last", inputs=(INPUT,), weights=weights, scale=rng.normal(size=3), bias=rng.normal(size=3))
        network = IntegerNetwork(Input((7,), -5, 9), [head])
        assert ab.deploy.load(network.save(tmp_path / "net.npz")) == network


def test_packing_is_one_and_the_same_for_runs():
    assert (of_runs.pack, of_runs.unpack, of_runs.per_byte) == (packing.pack, packing.unpack, packing.per_byte)


@pytest.mark.parametrize("base", [-3, 0, 1, 257])
def test_a_base_that_no_byte_holds_is_refused_at_once(base):
    for call in (
        packing.per_byte,
        lambda b: packing.unpack(np.zeros(4, np.uint8), b, 4),
        lambda b: packing.pack(np.zeros(4, int), b),
    ):
        with pytest.raises(ValueError, match="from 2 to 256"):
            call(base)


def test_a_folder_in_the_file_s_place_is_named_and_left_alone(tmp_path):
    (tmp_path / "net.npz").mkdir()
    with pytest.raises(IsADirectoryError, match="net.npz'$") as caught:
        _one(-1, 1).save(tmp_path / "net.npz")
    assert caught.value.filename == str(tmp_path / "net.npz") and [p.name for p in tmp_path.iterdir()] == ["net.npz"]


def test_a_name_that_no_file_can_have_is_no_file():
    with pytest.raises(ValueError, match="there is no file 'x{300}' \\("):
        ab.deploy.load("x" * 300)


@pytest.mark.parametrize("written", ["1e999999999", "1" * 5000, "0.5", " 1/2", "1/-2", "nan"])
def test_a_fraction_that_would_take_for_ever_or_is_none_is_refused_at_once(written, tmp_path):
    path = _one(-1, 1).save(tmp_path / "net.npz")
    _rewritten(path, lambda t: t["input"].update(mean={"fraction": written}))
    with pytest.raises(ValueError, match="is no fraction of two integers"):
        ab.deploy.load(path)


def test_a_table_nested_too_deeply_is_refused(tmp_path):
    path = tmp_path / "net.npz"
    np.savez(path, network=np.frombuffer(b"[" * 200_000, np.uint8))
    with pytest.raises(ValueError, match="holds no integer network that can be read"):
        ab.deploy.load(path)
