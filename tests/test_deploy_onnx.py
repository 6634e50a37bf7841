"""Integer networks as ONNX models: onnxruntime and onnx's reference evaluator compute the same integers."""

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from deploy_networks import random_inputs, random_network

from anabook import Quantiser, datasets, deploy, models, training
from anabook.datasets import store
from anabook.deploy import onnx_graph
from anabook.deploy.network import IntegerNetwork
from anabook.deploy.onnx_graph import onnx_model, to_onnx
from anabook.deploy.steps import Add, Flatten, Head, Input, MaxPool, SumPool, Threshold, Weighted
from anabook.experiments.parts import parts
from anabook.experiments.stored import CONFIGS, stored

onnx = pytest.importorskip("onnx", reason="ONNX models need onnx: pip install 'anabook[deploy]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="these tests need onnxruntime: pip install 'anabook[deploy]'")
reference = pytest.importorskip("onnx.reference")

ROOT = Path(__file__).resolve().parents[1]
ONE = {"name": "one", "inputs": ("input",)}


def session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    data = model.SerializeToString() if hasattr(model, "SerializeToString") else str(model)
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def outputs(model, x):
    """What both runtimes give, by the outputs' names."""
    running = session(model)
    (given,) = running.get_inputs()
    wanted = onnx.helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type)
    assert given.name == "input" and given.shape[0] == "n"
    names = [each.name for each in running.get_outputs()]
    feed = {"input": x.astype(wanted)}
    assert (feed["input"] == x).all()
    return [dict(zip(names, f(None, feed))) for f in (running.run, reference.ReferenceEvaluator(model).run)]


def check(network, x, packed=False, features=True):
    """Every step of the network is the same in NumPy and in both runtimes."""
    model = onnx_model(network, features=features, packed=packed)
    expected = network.features(x)
    described = {each.name: each for each in model.graph.output}
    for found in outputs(model, x):
        assert list(found) == ([step.name for step in network.steps] if features else [network.steps[-1].name])
        for step in network.steps if features else network.steps[-1:]:
            value = found[step.name]
            kind = described[step.name].type.tensor_type
            assert value.dtype == onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
            assert [d.dim_param or d.dim_value for d in kind.shape.dim] == ["n", *value.shape[1:]]
            if isinstance(step, Head) and step.weights.dtype == np.float32:
                # Products of float weights may be added in another order: a few units in the last of float64's places.
                size = np.abs(step.scale) * np.abs(step.weights).sum(1) * np.abs(expected[step.inputs[0]]).max() + 1
                assert (np.abs(value - expected[step.name]) <= 1e-14 * size).all()
            else:
                assert value.shape == expected[step.name].shape
                assert (value == expected[step.name]).all(), step.name
    return model


@pytest.mark.parametrize("start", range(0, 400, 40))
def test_every_step_of_random_networks_is_the_same_in_three_runtimes(start):
    for seed in range(start, start + 40):
        network = random_network(seed)
        check(network, random_inputs(network, 4, seed), packed=seed % 2 == 1, features=seed % 5 > 0)


def test_the_batch_is_free():
    network = random_network(3)
    running = session(onnx_model(network))
    for n in (1, 2, 7):
        x = random_inputs(network, n)
        (found,) = running.run(None, {"input": x})
        assert np.allclose(found, network(x), rtol=1e-12) and len(found) == n


def test_only_integer_operators_stand_before_the_head():
    allowed = {
        *("ConvInteger", "MatMulInteger", "GreaterOrEqual", "Cast", "Add", "Sub", "Mul", "Div", "Max", "ReduceMax"),
        *("ReduceSum", "Slice", "Pad", "Flatten", "Identity", "Gather", "Concat"),
    }
    used = set()
    for seed in range(60):
        network = random_network(seed)
        model = onnx_model(network)
        kinds = {each.name: each.data_type for each in model.graph.initializer}
        floats = {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16}
        for node in model.graph.node:
            if not node.output[0].startswith("last"):
                used.add(node.op_type)
                assert not {kinds.get(name) for name in node.input} & floats
                assert not any(attribute.name == "to" and attribute.i in floats for attribute in node.attribute)
        assert {each.name for each in model.graph.initializer} <= {name for node in model.graph.node for name in node.input}
        domains = {(each.domain, each.version) for each in model.opset_import}
        assert domains == {("", 21)} and model.ir_version == 10
    assert {"ConvInteger", "MatMulInteger", "GreaterOrEqual", "Max", "Add"} <= used <= allowed


def test_the_digits_network_of_the_first_page_has_few_nodes():
    """Two comparisons, two casts and two additions for a ternary layer, and one product."""
    rng = np.random.default_rng(0)
    steps = [
        Weighted(**ONE, weights=rng.integers(-1, 2, (128, 64)).astype(np.int8)),
        Threshold(
            name="act",
            inputs=("one",),
            thresholds=np.sort(rng.integers(-300, 300, (2, 128)), 0).astype(np.int32),
            levels=np.array([-1, 0, 1]),
            quantum=Fraction(1),
        ),
    ]
    network = IntegerNetwork(Input((64,), 0, 16), steps)
    model = check(network, random_inputs(network, 300))
    ternary = ["GreaterOrEqual", "Cast", "Add", "GreaterOrEqual", "Cast", "Add"]
    assert [node.op_type for node in model.graph.node] == ["MatMulInteger", *ternary]
    second = Weighted(name="two", inputs=("act",), weights=steps[0].weights.T.copy())
    network = IntegerNetwork(network.input, [*steps, second])
    model = check(network, random_inputs(network, 300), packed=True)
    after = [node.op_type for node in model.graph.node][-4:]
    assert after == ["Add", "Cast", "Cast", "MatMulInteger"]  # features from 0 on; weights unpacked


@pytest.mark.parametrize("low, high", [(0, 65535), (-32768, 32767), (-(2**20), 2**20), (-129, 127), (0, 256), (250, 600)])
@pytest.mark.parametrize("kernel", [None, (3, 2)])
def test_inputs_wider_than_a_byte_are_taken_apart_exactly(low, high, kernel):
    rng = np.random.default_rng(1)
    shape = (7,) if kernel is None else (3, 6, 5)
    weights = rng.integers(-3, 4, (4, *((7,) if kernel is None else (3, *kernel)))).astype(np.int8)
    step = Weighted(**ONE, weights=weights, padding=(0, 0) if kernel is None else (1, 1))
    network = IntegerNetwork(Input(shape, low, high), [step])
    x = rng.integers(low, high + 1, (20, *shape))
    x[0], x[1] = low, high
    check(network, x)


def test_parts_of_a_sum_that_need_more_than_32_bits_are_added_in_64():
    """The sum of 16 numbers below 2^27 fits, and the products of their bytes with a wide bound are still right."""
    weights = np.full((1, 15), 1, np.int8)
    network = IntegerNetwork(Input((15,), 0, 2**27), [Weighted(**ONE, weights=weights)])
    x = np.full((3, 15), 2**27)
    x[1] = np.arange(15) * 8_900_001 % 2**27
    model = check(network, x)
    assert int(network(x)[0, 0]) == 15 * 2**27
    assert onnx.TensorProto.INT64 in {a.i for node in model.graph.node for a in node.attribute if a.name == "to"}


def worst_pair(model, x):
    """What two products of a uint8 and an int8 can add up to in a model, and the weights of all products.

    Read from the model and from the features that it computes for x. What comes first is uint8 everywhere, which is what
    onnxruntime is fast with.
    """
    stored = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in ("ConvInteger", "MatMulInteger")]
    taken = [node.input[0] for node in nodes]
    seen = onnx.ModelProto.FromString(model.SerializeToString())
    del seen.graph.output[:]
    seen.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(taken))
    kind = onnx.helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type)
    found = dict(zip(dict.fromkeys(taken), reference.ReferenceEvaluator(seen).run(None, {"input": x.astype(kind)})))
    pairs, parts = [0], []
    for node in nodes:
        weights, features = stored[node.input[1]], found[node.input[0]]
        parts.append(weights.astype(int) - (int(stored[node.input[3]]) if len(node.input) == 4 else 0))
        first, second = (weights, features) if node.op_type == "ConvInteger" else (features, weights)
        assert first.dtype == np.uint8
        if second.dtype == np.int8:
            pairs += [2 * int(first.max()) * int(end) for end in (second.min(), second.max())]
    return (min(pairs), max(pairs)), parts


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
@pytest.mark.parametrize("shape", [(16,), (2, 2, 4)])
def test_weights_that_would_saturate_sixteen_bits_are_split(kind, shape):
    """Two products of 255 and 127 are more than 2^15 - 1, which older processors clip at."""
    limits = np.iinfo(kind)
    wide, narrow = (np.array([[m, -m, m, m - 1] * 4, [-m - 1] * 16], np.int8).reshape(2, *shape) for m in (127, 63))
    for weights, count in ((wide, 2 - (kind == np.uint8 and len(shape) == 3)), (narrow, 1)):
        network = IntegerNetwork(Input(shape, int(limits.min), int(limits.max)), [Weighted(**ONE, weights=weights)])
        x = np.concatenate([random_inputs(network, 9), *(np.full((1, *shape), each) for each in (limits.max, limits.min))])
        (low, high), parts = worst_pair(check(network, x), x)
        assert -(2**15) <= low and high < 2**15 and len(parts) == count
        assert (sum(parts) == (weights if len(shape) == 3 else weights.T)).all()


def test_no_pair_of_products_saturates_in_any_network_and_what_comes_first_is_unsigned():
    widest = 0
    for seed in range(200):
        network = random_network(seed)
        (low, high), _ = worst_pair(onnx_model(network), random_inputs(network, 10, seed))
        assert -(2**15) <= low and high < 2**15
        widest = max(widest, high)
    assert widest > 2**14


@pytest.mark.parametrize("low, high", [(-128, 127), (0, 255), (-5, 700)])
@pytest.mark.parametrize("kernel", [(1, 1), (2, 3), (7, 6)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
@pytest.mark.parametrize("padding", [(0, 0), (0, 1), (1, 1)])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_maxima_of_windows(low, high, kernel, stride, padding, ceil_mode):
    if any(2 * p > k for p, k in zip(padding, kernel)):
        padding = (0, 0)
    rng = np.random.default_rng(2)
    steps = [MaxPool(**ONE, kernel=kernel, stride=stride, padding=padding, ceil_mode=ceil_mode)]
    network = IntegerNetwork(Input((2, 7, 6), low, high), steps)
    x = rng.integers(low, high + 1, (4, 2, 7, 6))
    x[0] = low  # padding must not be greater than anything
    check(network, x)


def test_sums_of_windows_whole_or_not_and_what_follows_them():
    for kernel, padding in (((4, 5), (0, 0)), ((2, 3), (1, 1)), ((4, 5), (1, 0))):
        sums = SumPool(**ONE, kernel=kernel, stride=(2, 2), padding=padding)
        for low, high in ((-1, 1), (0, 255), (-128, 127), (0, 1020)):
            network = IntegerNetwork(Input((3, 4, 5), low, high), [sums])
            n, *size = network.extents["one"].shape
            weights = np.arange(-n * np.prod(size), n * np.prod(size) * 1, 2).reshape(1, -1).clip(-128, 127).astype(np.int8)
            head = Head(name="last", inputs=("flat",), weights=weights, scale=np.array([0.1]), bias=np.array([1 / 3]))
            network = IntegerNetwork(Input((3, 4, 5), low, high), [sums, Flatten(name="flat", inputs=("one",)), head])
            check(network, random_inputs(network, 6))


def test_residual_additions_stay_in_eight_bits_where_they_fit():
    rng = np.random.default_rng(0)
    weights = rng.integers(-1, 2, (3, 3, 3, 3)).astype(np.int8)
    steps = [
        Weighted(**ONE, weights=weights, padding=(1, 1)),
        Threshold(
            name="act",
            inputs=("one",),
            thresholds=np.array([-2, 2], np.int32).reshape(2, 1, 1, 1).repeat(3, 1),
            levels=np.array([-1, 0, 1]),
            quantum=Fraction(1),
        ),
        Add(name="sum", inputs=("act", "input")),
        Add(name="twice", inputs=("sum", "sum")),
        Weighted(name="two", inputs=("twice",), weights=weights),
    ]
    for high in (1, 126, 127):
        network = IntegerNetwork(Input((3, 5, 5), -high, high), steps)
        model = check(network, random_inputs(network, 5))
        kinds = {each.name: each.type.tensor_type.elem_type for each in model.graph.output}
        assert (kinds["sum"] == onnx.TensorProto.INT8) == (high < 127)
        assert (kinds["twice"] == onnx.TensorProto.INT8) == (high < 63)


def test_thresholds_of_positions_are_stored_once_for_each_kind_of_position():
    kinds = np.array([[[5, 9, 1], [0, 4, 4]], [[8, 9, 6], [1, 4, 2**31 - 1]]], np.int32)  # two thresholds, channels
    for place in (np.array([[0, 1, 1, 1, 2]] * 40), np.array([[0]] + [[2]] * 39), np.array([[1, 1, 1, 2, 0]])):
        sizes, thresholds = (2, 40, 5), kinds[:, :, place]
        step = Threshold(**ONE, thresholds=thresholds, levels=np.array([-1, 0, 1]), quantum=Fraction(1))
        network = IntegerNetwork(Input(sizes, 0, 10), [step])
        model = check(network, random_inputs(network, 9))
        assert [np.prod(e.dims) for e in model.graph.initializer if e.data_type == onnx.TensorProto.INT64] == [place.size]
        assert {tuple(each.dims) for each in model.graph.initializer if each.data_type == onnx.TensorProto.INT32} == {
            (2, len(np.unique(place)))
        }


def test_uneven_levels_wider_than_a_type_and_constant_channels():
    levels = np.array([-128, -127, 90, 127])
    for given in (levels, levels + 128):
        thresholds = np.array([[-(2**31)] * 3 + [-4, 2**31 - 1], [-4, 0, 9, -4, 2**31 - 1], [5, 0, 2**31 - 1, 9, 2**31 - 1]])
        for signs in (None, np.array([1, -1, 1, -1, 1], np.int8)):
            step = Threshold(
                **ONE, thresholds=thresholds.astype(np.int32), levels=given, quantum=Fraction(1, 3), signs=signs
            )
            network = IntegerNetwork(Input((5,), -10, 10), [step])
            check(network, np.arange(-10, 11)[:, None].repeat(5, 1))


def test_packed_weights_take_a_quarter_or_half_of_the_bytes(tmp_path):
    rng = np.random.default_rng(0)
    for most, part in ((1, 4), (7, 2), (100, 1)):
        weights = rng.integers(-most, most + 1, (64, 400)).astype(np.int8)
        network = IntegerNetwork(Input((400,), -20, 20), [Weighted(**ONE, weights=weights)])
        plain, packed = (to_onnx(network, tmp_path / f"{p}.onnx", packed=p).stat().st_size for p in (False, True))
        saved = weights.size - weights.size // part
        assert abs(plain - packed - saved) < 120
        model = check(network, random_inputs(network, 5), packed=True)
        assert [(each.domain, each.version) for each in model.opset_import] == [("", 25)]


def test_the_file_says_what_its_numbers_stand_for(tmp_path):
    network = IntegerNetwork(
        Input((1,), 0, 16, Fraction(5, 3), Fraction(1, 7)),
        [Threshold(**ONE, thresholds=np.array([[4], [9]], np.int32), levels=np.array([-1, 0, 1]), quantum=Fraction(3, 4))],
    )
    path = to_onnx(network, str(tmp_path / "new" / "net.onnx"))
    said = {each.key: json.loads(each.value) for each in onnx.load(path).metadata_props}
    assert said == {"input": {"low": 0, "high": 16, "mean": "5/3", "std": "1/7"}, "quanta": {"one": "3/4"}}
    (found,) = session(path).run(None, {"input": np.array([[3], [4], [9]], np.uint8)})
    assert found.tolist() == [[-1], [0], [1]]
    assert path.read_bytes() == to_onnx(network, tmp_path / "again.onnx").read_bytes()


def test_the_method_writes_the_same_file(tmp_path):
    network = random_network(5)
    for how in ({}, {"features": True}, {"packed": True}):
        assert (
            network.to_onnx(tmp_path / "a.onnx", **how).read_bytes()
            == to_onnx(network, tmp_path / "b.onnx", **how).read_bytes()
        )


def test_nothing_half_written_is_left_behind(tmp_path, monkeypatch):
    network = random_network(0)
    path = to_onnx(network, tmp_path / "net.onnx")
    before = path.read_bytes()

    def refused(*_, **__):
        raise OSError("the disk is full")

    monkeypatch.setattr(onnx_graph._files.os, "fsync", refused)
    with pytest.raises(OSError, match="full"):
        to_onnx(random_network(1), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_without_onnx_the_sentence_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'anabook\[deploy\]'"):
        to_onnx(random_network(0), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


# --- the book's networks ------------------------------------------------------------------------------------------------


def test_the_digits_are_equal_on_every_image():
    digits, ternary = datasets.digits(), Quantiser.ternary()
    net = training.quantise(models.mlp(64, (128, 128)), weights=ternary, activations=ternary, keep=("last",))
    training.fit(net, digits.train, None, epochs=3, lr=0.01, initialise="near_thresholds")
    x = np.rint(digits.inputs * 16).astype(np.uint8)
    ints = deploy.to_integer(training.deploy(net), x, std=16, bounds=(0, 16))
    assert len(x) == 1797 and (ints(x).argmax(1) == digits.labels).mean() > 0.8
    for packed in (False, True):
        check(ints, x, packed)


@pytest.mark.parametrize("name", CONFIGS)
def test_pictures_and_speech_are_equal_on_drawn_inputs(name):
    ints = stored(name).integers
    check(ints, random_inputs(ints, 8, seed=1, extreme=2), packed=True)


@pytest.mark.parametrize("name", CONFIGS)
def test_pictures_and_speech_are_equal_on_the_whole_of_their_data(name):
    config = CONFIGS[name]
    if not store.path_of(config.data).is_file():
        pytest.skip(f"{config.data} is not in the store: anabook data {config.data} prepares it")
    ints = stored(name).integers
    x = np.rint(parts(config).held_out.inputs.numpy().astype(np.float64) * config.shrink**2).astype(np.int64)
    for start in range(0, len(x), 500):
        check(ints, x[start : start + 500])


@pytest.mark.parametrize("line", (ROOT / "data/results/integers.jsonl").read_text().splitlines())
def test_the_models_of_the_book_are_as_large_as_recorded_and_copy_nothing(line):
    record = json.loads(line)
    model = onnx_model(stored(record["config"]["network"]).integers)
    assert "Identity" not in {node.op_type for node in model.graph.node}
    assert len(model.SerializeToString()) == record["bytes"]["onnx"]


def test_examples_are_skipped_where_there_is_no_onnx():
    hidden = "import sys, pytest; sys.modules['onnx'] = None; sys.exit(pytest.main(sys.argv[1:]))"
    words = ["--doctest-modules", "anabook/deploy/onnx_graph.py", "-q", "-rs", "-p", "no:cacheprovider"]
    done = subprocess.run([sys.executable, "-c", hidden, *words], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "2 skipped" in done.stdout and "anabook[deploy]" in done.stdout, done.stdout


def test_a_quantiser_that_is_called_twice_is_written():
    import torch
    from torch import nn

    torch.manual_seed(0)
    ternary = Quantiser.ternary()
    layers = nn.Sequential(nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 3))
    first, second, last = training.deploy(training.quantise(layers, weights=ternary))
    shared = training.Quantise(ternary, std=0.0)
    net = nn.Sequential(first, shared, second, shared, last).eval()
    network = deploy.to_integer(net, np.zeros((1, 5), np.int8))
    assert any(":2" in step.name for step in network.steps)
    x = np.random.default_rng(0).integers(-9, 10, (20, 5)).astype(np.int8)
    check(network, x)


@pytest.mark.parametrize("low, high", [(200, 255), (1, 255), (-128, -100), (700, 710)])
def test_features_far_from_zero_are_split_as_what_they_are(low, high):
    """What counts is how large the unsigned numbers are, not how far they spread."""
    network = IntegerNetwork(Input((8,), low, high), [Weighted(**ONE, weights=np.full((3, 8), 100, np.int8))])
    x = np.concatenate([random_inputs(network, 9), np.full((1, 8), high), np.full((1, 8), low)])
    (least, most), _ = worst_pair(check(network, x), x)
    assert -(2**15) <= least and most < 2**15


def test_steps_may_have_the_names_that_the_writer_would_give():
    """Constants are called :0, :1, …, and what lies between the steps fc/0, fc/1, …"""
    act = {"thresholds": np.array([[0, 5]], np.int32), "levels": np.array([0, 1]), "quantum": Fraction(1)}
    steps = [
        Weighted(name=":0", inputs=("input",), weights=np.array([[1, -1], [2, 1]], np.int8)),
        Threshold(name="a", inputs=(":0",), **act),
        Weighted(name="a/1", inputs=("a",), weights=np.array([[1, -1], [2, 1]], np.int8)),
        Threshold(name=":1", inputs=("a/1",), **act),
        Flatten(name=":1/3", inputs=(":1",)),
    ]
    network = IntegerNetwork(Input((2,), -9, 9), steps)
    check(network, random_inputs(network, 20))


@pytest.mark.parametrize("what", ["features", "packed"])
def test_switches_are_true_or_false(what, tmp_path):
    network = IntegerNetwork(Input((2,), 0, 9), [Flatten(name="flat", inputs=("input",))])
    with pytest.raises(TypeError, match=f"{what} must be True or False, not 'no'"):
        network.to_onnx(tmp_path / "net.onnx", **{what: "no"})
    assert not list(tmp_path.iterdir())
