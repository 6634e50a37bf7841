"""Integer networks: what the steps compute, held to plain integers, and bounds that hold."""

from __future__ import annotations

import dataclasses
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from deploy_networks import random_inputs, random_network

from anabook.deploy.network import IntegerNetwork
from anabook.deploy.running import INT32, Extent, carrier, extent, run
from anabook.deploy.steps import INPUT, Add, Concat, Flatten, Head, Input, MaxPool, SumPool, Threshold, Weighted

SEEDS = range(60)


def plain(step, inputs):
    """What a step gives for one example, element by element, in Python's integers."""
    x = inputs[0].tolist()
    if isinstance(step, Flatten):
        return np.array(inputs[0]).ravel().astype(object)
    if isinstance(step, Add):
        return inputs[0].astype(object) + inputs[1].astype(object)
    if isinstance(step, Concat):
        return np.array([plane for each in inputs for plane in each.tolist()], object)
    if isinstance(step, (Weighted, Head)) and step.weights.ndim == 2:
        return np.array([sum(int(w) * z for w, z in zip(row, x)) for row in step.weights.tolist()], object)
    shape = inputs[0].shape
    if isinstance(step, Threshold):
        found = np.empty(shape, object)
        for at in np.ndindex(shape):
            z = inputs[0][at].item() * (1 if step.signs is None else int(step.signs[at[0]]))
            grid = tuple(0 if i and n == 1 else a for i, (a, n) in enumerate(zip(at, step.thresholds.shape[1:])))
            found[at] = int(step.levels[sum(z >= int(t) for t in step.thresholds[(slice(None), *grid)])])
        return found
    kernel = step.weights.shape[2:] if isinstance(step, Weighted) else step.kernel
    dilation = (1, 1) if isinstance(step, SumPool) else step.dilation
    sizes = []
    for n, k, s, p, d in zip(shape[1:], kernel, step.stride, step.padding, dilation):
        starts = range(-p, n + p, s)
        fits = [a for a in starts if a + (k - 1) * d < n + p]
        if getattr(step, "ceil_mode", False) and len(fits) < len(starts) and fits[-1] + (k - 1) * d < n + p - 1:
            fits += [a for a in starts[len(fits) : len(fits) + 1] if a < n]  # begins before the padding on the right
        sizes.append(fits)
    outputs = len(step.weights) if isinstance(step, Weighted) else shape[0]
    found = np.empty((outputs, *map(len, sizes)), object)
    for o, (i, top), (j, left) in (
        (o, a, b) for o in range(outputs) for a in enumerate(sizes[0]) for b in enumerate(sizes[1])
    ):
        places = [(a, b, top + a * dilation[0], left + b * dilation[1]) for a in range(kernel[0]) for b in range(kernel[1])]
        places = [p for p in places if 0 <= p[2] < shape[1] and 0 <= p[3] < shape[2]]
        if isinstance(step, Weighted):
            fan = step.weights.shape[1]
            first = o // (outputs // step.groups) * fan
            found[o, i, j] = sum(
                int(step.weights[o, c, a, b]) * x[first + c][r][q] for c in range(fan) for a, b, r, q in places
            )
        elif isinstance(step, SumPool):
            found[o, i, j] = sum(x[o][r][q] for _, _, r, q in places)
        else:
            found[o, i, j] = max(x[o][r][q] for _, _, r, q in places)
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_every_step_is_what_plain_integers_give(seed):
    network = random_network(seed)
    x = random_inputs(network, 2, seed)
    found = network.features(x)
    for step in network.steps:
        given = network.extents[step.name]
        assert found[step.name].dtype == given.dtype and found[step.name].shape == (2, *given.shape)
        for i in range(2):
            expected = plain(step, [found[name][i] for name in step.inputs])
            if isinstance(step, Head) and step.weights.dtype == np.int8:
                expected = step.scale * expected.astype(np.float64) + step.bias
            if isinstance(step, Head):
                np.testing.assert_allclose(
                    found[step.name][i],
                    expected if step.weights.dtype == np.int8 else _float(step, found[step.inputs[0]][i]),
                    rtol=1e-13,
                    atol=1e-9,
                )
            else:
                assert found[step.name][i].tolist() == expected.tolist(), step.name


def _float(step, z):
    return [
        float(Fraction(s) * sum(Fraction(float(w)) * int(v) for w, v in zip(row, z)) + Fraction(b))
        for row, s, b in zip(step.weights, step.scale.tolist(), step.bias.tolist())
    ]


def test_the_random_networks_have_all_kinds_of_steps():
    kinds, parts = Counter(), Counter()
    for seed in SEEDS:
        network = random_network(seed)
        for step in network.steps:
            kinds[type(step).__name__] += 1
            if isinstance(step, Weighted) and step.weights.ndim == 4:
                parts["stride"] += step.stride != (1, 1)
                parts["padding"] += step.padding != (0, 0)
                parts["dilation"] += step.dilation != (1, 1)
                parts["groups"] += step.groups > 1
            if isinstance(step, Threshold):
                parts["signs"] += step.signs is not None
                parts["places"] += np.prod(step.thresholds.shape[2:]) > 1
                parts["uneven"] += len(set(np.diff(step.levels))) > 1
                parts["searched"] += len(step.levels) > 16
            if isinstance(step, MaxPool):
                parts["ceil"] += step.ceil_mode and step.padding != (0, 0)
            if isinstance(step, Head):
                parts[str(step.weights.dtype)] += 1
    assert set(kinds) == {"Weighted", "Threshold", "MaxPool", "SumPool", "Add", "Concat", "Flatten", "Head"}
    assert min(kinds.values()) >= 8, kinds
    wanted = ("stride", "padding", "dilation", "groups", "signs", "places", "uneven", "ceil", "int8", "float32")
    assert min(parts[name] for name in wanted) >= 5, parts


@pytest.mark.parametrize("seed", SEEDS)
def test_bounds_hold_and_are_reached(seed):
    network = random_network(seed)
    found = network.features(random_inputs(network, 20, seed))
    for name, given in network.extents.items():
        low, high = given.bounds
        slack = 1e-9 if given.dtype.kind == "f" else 0
        assert low - slack <= found[name].min() and found[name].max() <= high + slack
    first = next((step for step in network.steps if isinstance(step, Weighted)), None)
    if (
        first is not None
        and first.weights.ndim == 2
        and first.inputs == (INPUT,)
        and network.input.low <= 0 <= network.input.high
    ):
        # The inputs that reach the bounds of each output.
        low, high = network.input.low, network.input.high
        given = network.extents[first.name]
        most = np.where(first.weights > 0, high, low)
        least = np.where(first.weights > 0, low, high)
        assert np.array_equal((first.weights.astype(int) * most).sum(1), given.high)
        assert np.array_equal((first.weights.astype(int) * least).sum(1), given.low)


def test_many_levels_are_searched_with_the_same_outcome():
    rng = np.random.default_rng(1)
    for shape, places in (((6,), ()), ((5, 4, 3), (1, 1)), ((5, 4, 3), (4, 3)), ((5, 4, 3), (4, 1))):
        levels = np.sort(rng.choice(np.arange(-128, 128), 40, replace=False))
        thresholds = np.sort(rng.integers(-50, 51, (39, shape[0], *places)), axis=0).astype(np.int32)
        signs = rng.choice(np.array([-1, 1], np.int8), shape[0])
        step = Threshold(name="a", inputs=(INPUT,), thresholds=thresholds, levels=levels, quantum=Fraction(1), signs=signs)
        given = extent(step, [Extent(shape, -60, 60)])
        z = rng.integers(-60, 61, (7, *shape)).astype(np.int8)
        assert run(step, [z], given).tolist() == [plain(step, [each]).tolist() for each in z]


@pytest.mark.parametrize("high, kind", [(2**24, np.float32), (2**24 + 1, np.float64)])
def test_floats_carry_only_sums_that_they_hold_exactly(high, kind):
    assert carrier(Extent((1,), -5, high, np.int32)) is kind
    weights = np.array([[127] * 128 + [1]], np.int8)
    top = 2**24 // (127 * 128)
    step = Weighted(name="w", inputs=(INPUT,), weights=weights)
    net = IntegerNetwork(Input((129,), 0, top * 16), (step,))
    assert carrier(net.extents["w"]) is np.float64
    x = np.full((1, 129), top * 16)
    x[0, -1] = 1
    assert net(x).tolist() == [[127 * 128 * top * 16 + 1]]


def test_sums_that_32_bits_do_not_hold_are_refused():
    weights = np.full((2, 300), 127, np.int8)
    weights[0] = 0
    fits = INT32[1] // (127 * 300)
    step = Weighted(name="fc", inputs=(INPUT,), weights=weights)
    assert IntegerNetwork(Input((300,), 0, fits), (step,)).extents["fc"].bits == 32
    with pytest.raises(ValueError, match="sums of 'fc' reach from 0 to 2147506500 and need 33 bits; there are 32"):
        IntegerNetwork(Input((300,), 0, fits + 1), (step,))


def test_a_network_takes_one_example_or_many_or_none():
    network = random_network(3)
    x = random_inputs(network, 5, 1)
    assert np.array_equal(network(x)[2], network(x[2]))
    assert network(x[:0]).shape == (0, *network.extents[network.steps[-1].name].shape)
    for name, value in network.features(x[1]).items():
        assert np.array_equal(value, network.features(x)[name][1])
    many = np.repeat(x, 120, axis=0)  # more than go through at a time
    assert np.array_equal(network(many), np.repeat(network(x), 120, axis=0))
    assert np.array_equal(network(x.astype(np.int64).tolist()), network(x))


def test_what_does_not_fit_is_refused_in_a_sentence():
    network = random_network(3)
    shape = tuple(network.input.shape)
    x = random_inputs(network, 2)
    with pytest.raises(TypeError, match="an integer network takes an array of integers, not of float64"):
        network(x * 1.0)
    with pytest.raises(TypeError, match="not of bool"):
        network(x > 0)
    with pytest.raises(ValueError, match=r"must have the shape \(n, .*\), not \(2, 1\)\."):
        network(np.zeros((2, 1), int))
    with pytest.raises(ValueError, match=f"must lie from {network.input.low} to {network.input.high}, but there is 70000"):
        network(np.full(shape, 70000))
    with pytest.raises(ValueError, match="but there is -70000"):
        network(np.full(shape, -70000))


def _threshold(**changes):
    fields = dict(
        name="act",
        inputs=("fc",),
        thresholds=np.array([[0, 1], [2, 2]], np.int32),
        levels=np.array([-1, 0, 1]),
        quantum=Fraction(1),
    )
    return Threshold(**{**fields, **changes})


@pytest.mark.parametrize(
    "step, sentence",
    [
        (_threshold(levels=np.array([-1, 0, 300])), "features are int8 or uint8, so they must lie"),
        (_threshold(levels=np.array([1, 0, -1])), "must be at least two, and increase"),
        (_threshold(levels=np.array([0.0, 1.0, 2.0])), "must be an array of signed integers"),
        (_threshold(levels=np.array([0, 1])), r"have the shape \(2, 2\); 2 levels of \(2,\) need \(1, 2\)"),
        (_threshold(thresholds=np.array([[0, 3], [2, 2]], np.int32)), "must not decrease"),
        (_threshold(thresholds=np.array([[0, 3], [2, 2]])), "must be an array of int32"),
        (_threshold(signs=np.array([1, 0], np.int8)), "must be -1 and 1"),
        (_threshold(signs=np.array([1], np.int8)), r"must be an array of int8 of shape \(2,\)"),
        (_threshold(quantum=Fraction(0)), "the quantum of 'act' must be greater than 0"),
        (_threshold(name="fc"), "two steps have the name 'fc'"),
        (_threshold(inputs=("gone",)), "'act' takes 'gone', which is no step"),
        (_threshold(inputs=("act",)), "'act' takes 'act', which comes later"),
        (_threshold(inputs=("fc", "fc")), "'act' takes 1 tensor, not 2"),
        (Add(name="sum", inputs=("fc", INPUT)), r"adds tensors of the shapes \(2,\) and \(3,\)"),
        (MaxPool(name="pool", inputs=("fc",), kernel=(2, 2), stride=(2, 2)), "takes images of shape"),
        (Weighted(name="w", inputs=("fc",), weights=np.zeros((2, 3), np.int8)), r"takes 3 numbers, but 'fc' gives \(2,\)"),
        (Weighted(name="w", inputs=("fc",), weights=np.zeros((2, 2))), "must be an array of int8, not float64"),
        (Weighted(name="w", inputs=("fc",), weights=np.zeros((2, 1, 3, 3), np.int8)), "do not fit to"),
        (
            Head(name="h", inputs=("fc",), weights=np.full((1, 2), np.nan, np.float32), scale=np.ones(1), bias=np.ones(1)),
            "the weights of 'h' must be finite",
        ),
        (
            Head(name="h", inputs=("fc",), weights=np.zeros((1, 2), np.int8), scale=np.ones(2), bias=np.ones(1)),
            r"the scale of 'h' must be an array of float64 of shape \(1,\), not float64 of shape \(2,\)",
        ),
    ],
)
def test_steps_that_do_not_fit_are_refused(step, sentence):
    first = Weighted(name="fc", inputs=(INPUT,), weights=np.ones((2, 3), np.int8))
    with pytest.raises(ValueError, match=sentence):
        IntegerNetwork(Input((3,), 0, 15), (first, step))


@pytest.mark.parametrize(
    "given, sentence",
    [
        (Input((3,), 5, 5), "bounds must increase"),
        (Input((), 0, 5), "must have at least one axis"),
        (Input((3, 0), 0, 5), "none of length 0"),
        (Input((3,), 0, 5, std=Fraction(0)), "std must be greater than 0"),
        (Input((3,), 0, 2**31), "fit into 32 bits"),
    ],
)
def test_inputs_that_cannot_be_are_refused(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        IntegerNetwork(given, (Flatten(name="flat", inputs=(INPUT,)),))


def test_networks_are_equal_where_everything_is():
    for seed in range(10):
        network, again = random_network(seed), random_network(seed)
        assert network == again and network != random_network(seed + 100) and network != "network"
        weighted = next((step for step in network.steps if isinstance(step, Weighted)), None)
        if weighted is None:
            continue
        changed = weighted.weights.copy()
        changed.flat[0] = changed.flat[0] - 1 if changed.flat[0] > 0 else changed.flat[0] + 1
        steps = [dataclasses.replace(s, weights=changed) if s is weighted else s for s in network.steps]
        assert IntegerNetwork(network.input, steps) != network
    with pytest.raises(TypeError, match="unhashable"):
        hash(network)


def test_the_table_has_a_row_for_each_step():
    network = random_network(4)
    lines = repr(network).splitlines()
    assert len(lines) == 2 + len(network.steps) and lines[0].startswith("IntegerNetwork of ")
    assert [line.split()[0] for line in lines[2:]] == [layer.name for layer in network.layers]
    assert "<table>" in network._repr_html_()
    for layer, step in zip(network.layers, network.steps):
        assert (layer.bits is None) == isinstance(step, Head)
        if layer.bits is not None and layer.bits > 1:
            half = 2 ** (layer.bits - 2)
            assert -2 * half <= layer.low and layer.high < 2 * half
            assert layer.low < -half or layer.high >= half, layer


@pytest.mark.parametrize(
    "size, dilation, ceil_mode", [((1, 1), 2, False), ((2, 2), 3, False), ((5, 1), 2, False), ((1, 1), 2, True)]
)
def test_a_maximum_of_nothing_is_refused(size, dilation, ceil_mode):
    """All places of a window may lie in the padding where they are apart: torch gives -inf for it."""
    pool = MaxPool(
        name="pool",
        inputs=(INPUT,),
        kernel=(2, 2),
        stride=(1, 1),
        padding=(1, 1),
        dilation=(dilation, dilation),
        ceil_mode=ceil_mode,
    )
    with pytest.raises(ValueError, match="'pool' has a window that lies in the padding with all its places"):
        IntegerNetwork(Input((1, *size), 0, 9), [pool])
    near = dataclasses.replace(pool, dilation=(1, 1))
    assert IntegerNetwork(Input((1, *size), 0, 9), [near])(np.ones((1, *size), int)).min() == 1


@pytest.mark.parametrize(
    "field, value, allowed",
    [
        ("stride", "ab", "a tuple of two integers"),
        ("stride", (1.0, 1), "a tuple of two integers"),
        ("padding", 1, "a tuple of two integers"),
        ("dilation", (True, True), "a tuple of two integers"),
        ("dilation", (1, 1, 1), "a tuple of two integers"),
        ("groups", 1.5, "an integer greater than 0"),
        ("groups", 0, "an integer greater than 0"),
        ("name", 3, "text that is not empty"),
        ("inputs", "input", "a tuple of names"),
        ("inputs", (3,), "a tuple of names"),
    ],
)
def test_a_field_of_a_wrong_type_is_named(field, value, allowed):
    step = Weighted(name="conv", inputs=(INPUT,), weights=np.ones((1, 1, 2, 2), np.int8))
    IntegerNetwork(Input((1, 4, 4), 0, 9), [step])
    with pytest.raises(TypeError, match=f"the {field} of .* must be {allowed}, not "):
        IntegerNetwork(Input((1, 4, 4), 0, 9), [dataclasses.replace(step, **{field: value})])


def test_other_fields_of_a_wrong_type_are_named():
    at = np.array([[0]], np.int32)
    act = Threshold(name="act", inputs=(INPUT,), thresholds=at, levels=np.array([0, 1]), quantum=Fraction(1))
    pool = MaxPool(name="pool", inputs=(INPUT,), kernel=(1, 1), stride=(1, 1))
    for step, shape, field, value in (
        (act, (1,), "quantum", 0.5),
        (act, (1,), "quantum", ()),
        (act, (1,), "quantum", ("1",)),
        (pool, (1, 2, 2), "ceil_mode", 1),
        (pool, (1, 2, 2), "kernel", None),
    ):
        IntegerNetwork(Input(shape, 0, 9), [step])
        with pytest.raises(TypeError, match=f"the {field} of '{step.name}' must be "):
            IntegerNetwork(Input(shape, 0, 9), [dataclasses.replace(step, **{field: value})])
    with pytest.raises(TypeError, match="a step must be one of anabook.deploy.steps, not dict"):
        IntegerNetwork(Input((1,), 0, 9), [{"name": "act"}])


@pytest.mark.parametrize("call", ["__call__", "features"])
def test_rows_that_differ_in_length_are_refused(call):
    network = random_network(0)
    with pytest.raises(TypeError, match="takes an array of integers, not of rows that differ in length"):
        getattr(network, call)([[1, 2], [3]])


def test_what_is_no_input_and_no_steps_is_refused():
    given, step = Input((2,), 0, 9), Flatten(name="flat", inputs=(INPUT,))
    for input, steps, sentence in (
        (None, [step], "input must be an Input of anabook.deploy.steps, not NoneType"),
        (given, None, "steps must be several steps of anabook.deploy.steps, not NoneType"),
        (Input(2, 0, 9), [step], "the input's shape and bounds must be integers"),
        (given, [Flatten(name="", inputs=(INPUT,))], "the name of '' must be text that is not empty"),
    ):
        with pytest.raises(TypeError, match=sentence):
            IntegerNetwork(input, steps)
    for much in ({"mean": Fraction(10) ** 400}, {"std": Fraction(1, 10**400)}):
        with pytest.raises(ValueError, match="must be 0 or from 1e-300 to 1e300 in size, not about 1e-?400"):
            IntegerNetwork(Input((2,), 0, 9, **much), [step])
    for std in (Fraction(10) ** 5000, -(Fraction(10) ** 5000), Fraction(-1, 10**5000)):  # more digits than Python prints
        with pytest.raises(
            ValueError, match="the input's std must be 0 or from 1e-300 to 1e300 in size, not about 1e-?5000"
        ):
            IntegerNetwork(Input((2,), 0, 9, std=std), [step])
    with pytest.raises(ValueError, match="the input's std must be greater than 0, not -0.5"):
        IntegerNetwork(Input((2,), 0, 9, std=Fraction(-(10**5000), 2 * 10**5000 + 1)), [step])
