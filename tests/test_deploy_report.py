"""What an integer network costs: every count found again by carrying the operations out one by one."""

import itertools
import shutil
from fractions import Fraction
from math import ceil, prod

import numpy as np
import pytest
from deploy_networks import random_inputs, random_network

from anabook._table import Table
from anabook.deploy import c_code
from anabook.deploy.network import IntegerNetwork
from anabook.deploy.report import PICOJOULES, Cost, packed_bytes, peak, report
from anabook.deploy.steps import Add, Flatten, Head, Input, MaxPool, SumPool, Threshold, Weighted

ONE = {"name": "one", "inputs": ("input",)}


def act(name, of, channels, k=2, places=(1, 1), **more):
    thresholds = np.arange(k, dtype=np.int32).reshape(k, 1, *[1] * len(places)).repeat(channels, 1)
    return Threshold(name=name, inputs=(of,), thresholds=thresholds, levels=np.arange(k + 1), quantum=Fraction(1), **more)


def counted(step, x, given):
    """Operations of one step on one example, counted as they are carried out: (products and sums, ±1, others, rest)."""
    macs = ones = others = additions = comparisons = 0
    if isinstance(step, Weighted) and step.weights.ndim == 4:
        fan = step.weights.shape[1]
        per = step.weights.shape[0] // step.groups
        padded = np.pad(x, [(0, 0), *[(p, p) for p in step.padding]])
        out = np.zeros(given.shape, int)
        for o, row, column in np.ndindex(*given.shape):
            for c, i, j in np.ndindex(*step.weights.shape[1:]):
                w = int(step.weights[o, c, i, j])
                r, s = row * step.stride[0] + i * step.dilation[0], column * step.stride[1] + j * step.dilation[1]
                macs, ones, others = macs + 1, ones + (abs(w) == 1), others + (abs(w) > 1)
                out[o, row, column] += w * int(padded[o // per * fan + c, r, s])
    elif isinstance(step, Weighted | Head):
        out = np.zeros(given.shape, float if isinstance(step, Head) else int)
        exact = step.weights.dtype == np.int8
        for o, i in np.ndindex(*step.weights.shape):
            w = step.weights[o, i].item()
            macs, ones = macs + 1, ones + (exact and abs(w) == 1)
            others += w != 0 if not exact else abs(w) > 1
            out[o] += w * x[i].item()
        if isinstance(step, Head):
            out = step.scale * out + step.bias
    elif isinstance(step, Threshold):
        out = np.zeros(given.shape, int)
        signs = np.ones(len(x), int) if step.signs is None else step.signs
        for place in np.ndindex(*given.shape):
            reached = 0
            for threshold in step.thresholds:
                at = tuple(i if n > 1 else 0 for i, n in zip(place, threshold.shape))
                comparisons += 1
                reached += int(x[place]) * int(signs[place[0]]) >= threshold[at]
            out[place] = step.levels[reached]
    elif isinstance(step, Add):
        additions = prod(given.shape)
        out = None
    elif isinstance(step, SumPool | MaxPool):
        windows = len(list(itertools.product(*map(range, step.kernel)))) * prod(given.shape)
        one = windows - prod(given.shape)
        additions, comparisons = (one, 0) if isinstance(step, SumPool) else (0, one)
        out = None
    else:
        out = None
    return (macs, ones, others, additions, comparisons), out


@pytest.mark.parametrize("start", range(0, 60, 20))
def test_operations_are_those_that_are_carried_out(start):
    for seed in range(start, start + 20):
        network = random_network(seed)
        values = {name: value[0] for name, value in network.features(random_inputs(network, 1, seed)).items()}
        sums = np.zeros(5, int)
        for step in network.steps:
            given = network.extents[step.name]
            found, out = counted(step, values[step.inputs[0]], given)
            if out is not None:
                assert np.allclose(out, values[step.name], rtol=1e-9, atol=1e-9)
            sums += found
        total = report(network).total
        macs, ones, others = total.multiply_accumulates, total.additions, total.products
        assert [macs, ones, others, total.other_additions, total.comparisons] == sums.tolist()
        assert total.weights == sum(s.weights.size for s in network.steps if hasattr(s, "weights"))
        assert total.zeros == sum((s.weights == 0).sum() for s in network.steps if hasattr(s, "weights"))


def test_bits_hold_the_greatest_and_the_least_sum_and_no_fewer_would():
    for weights in ([[1, -1, 1]], [[-1, -1, -1]], [[127, -128, 0]], [[1, 0, 0]]):
        network = IntegerNetwork(Input((3,), 0, 255), [Weighted(**ONE, weights=np.array(weights, np.int8))])
        sums = [int(np.dot(weights[0], corner)) for corner in itertools.product((0, 255), repeat=3)]
        bits = report(network).layers[0].bits
        assert -(2 ** (bits - 1)) <= min(sums) and max(sums) < 2 ** (bits - 1)
        assert not (-(2 ** (bits - 2)) <= min(sums) and max(sums) < 2 ** (bits - 2))
        head = Head(**ONE, weights=np.array(weights, np.int8), scale=np.ones(1), bias=np.zeros(1))
        assert report(IntegerNetwork(Input((3,), 0, 255), [head])).layers[0].bits == bits


def test_ternary_weights_take_a_fifth_of_a_byte_and_others_what_fits(tmp_path):
    assert packed_bytes(np.array([1, 0, -1, 1, 1, 0], np.int8)) == 2
    for low, high, count in (
        (0, 1, 8),
        (-1, 1, 5),
        (-2, 1, 4),
        (-2, 2, 3),
        (-8, 7, 2),
        (-9, 7, 1),
        (-128, 127, 1),
        (3, 3, 8),
    ):
        values = np.array([low, high] * 60, np.int8)
        assert packed_bytes(values) == ceil(120 / count)
        network = IntegerNetwork(Input((120,), -1, 1), [Weighted(**ONE, weights=values.reshape(1, -1))])
        with np.load(network.save(tmp_path / "net.npz")) as archive:
            stored = [archive[name].nbytes for name in archive.files if "weights" in name and archive[name].size > 3]
        assert stored == [packed_bytes(values)]
    assert packed_bytes(np.zeros(3, np.float32)) == 12


def residual():
    """Ternary features of 4×4×4 = 64 numbers; the first is needed until the addition."""
    weights = np.ones((4, 4, 3, 3), np.int8)
    weights[0], weights[1] = 0, -1
    first = np.ones((4, 2, 2, 2), np.int8)
    first[2] = -1
    return IntegerNetwork(
        Input((2, 8, 8), 0, 255),
        [
            Weighted(**ONE, weights=first, stride=(2, 2)),
            act("a", "one", 4),
            Weighted(name="two", inputs=("a",), weights=weights, padding=(1, 1)),
            act("b", "two", 4),
            Add(name="sum", inputs=("a", "b")),
            act("c", "sum", 4),
            SumPool(name="pool", inputs=("c",), kernel=(4, 4), stride=(4, 4)),
            Flatten(name="flat", inputs=("pool",)),
            Head(name="last", inputs=("flat",), weights=np.eye(4, dtype=np.float32), scale=np.ones(4), bias=np.ones(4)),
        ],
    )


def test_a_layer_is_a_step_with_weights_and_what_follows():
    found = report(residual())
    assert [layer.name for layer in found.layers] == ["one", "two", "last"]
    one, two, last = found.layers
    assert one == Cost("one", 32, 0, 7, 32, 32 * 16, 32 * 16, 0, 0, 2 * 64, 64, 12)
    assert two == Cost("two", 144, 36, 29, 64, 144 * 16, 108 * 16, 0, 64 + 15 * 4, 2 * 64 * 2, 128, 8)
    assert last == Cost("last", 16, 12, 64, 64, 16, 0, 4, 0, 0, 4, 0)
    assert found.total == Cost("total", 192, 48, 100, 160, 2832, 2240, 4, 124, 384, 196, 12)


def test_the_peak_of_features_is_what_is_there_at_one_time():
    """Input with a; a with b while two runs; a, b with c: the sum is compared at once, and so is never kept."""
    network = residual()
    found = report(network)
    assert found.peak_bytes == max(128 + 64, 64 + 64 + 64, 64 + 4) == 192
    ternary = {"input": 8, "a": 2, "b": 2, "c": 2, "pool": 6, "last": 32}
    assert found.kinds[-1].peak_bytes == peak(network, ternary) == 128 + 16
    assert [kind.peak_bytes for kind in found.kinds[:3]] == [4 * 192, 192, 128 + 32]
    with_sums = IntegerNetwork(
        network.input, [*network.steps[:1], MaxPool(name="m", inputs=("one",), kernel=(2, 2), stride=(2, 2))]
    )
    assert report(with_sums).peak_bytes == 128 + 4 * 64  # sums that are pooled are kept, in four bytes each


def test_a_network_that_begins_with_a_quantiser_has_a_layer_for_it():
    network = IntegerNetwork(Input((3,), -5, 5), [act("a", "input", 3, 4, places=())])
    (only,) = report(network).layers
    assert only == Cost("input", parameter_bytes=48, comparisons=12, features=3)


def test_thresholds_that_positions_share_count_once():
    thresholds = np.arange(2, dtype=np.int32).reshape(2, 1, 1, 1) + np.zeros((2, 3, 6, 5), np.int32)
    for changed, kinds, index in ((0, 1, 0), (1, 2, 30), (2, 3, 30)):
        thresholds[:, 1, -1, -changed:] -= 10 * (changed > 0)
        step = Threshold(**ONE, thresholds=thresholds.copy(), levels=np.arange(3), quantum=Fraction(1))
        found = report(IntegerNetwork(Input((3, 6, 5), 0, 9), [step])).total
        assert found.parameter_bytes == 4 * 2 * 3 * kinds + index
        assert found.comparisons == 2 * 90


def test_energies_are_operations_times_the_table():
    price = PICOJOULES
    assert price["int8 product"] == 0.2 and price["float32 product"] == 3.7 and price["float32 addition"] == 0.9
    assert price["int32 addition"] == 0.1 and price["64 bits of DRAM"] == 1300
    network = residual()
    floats, eight, four, own = report(network).kinds
    assert floats.arithmetic == pytest.approx(2832 * 4.6 + (124 + 196) * 0.9)
    assert eight.arithmetic == pytest.approx(2832 * 0.3 + 124 * 0.1 + 196 * 3.2)
    assert four.arithmetic == pytest.approx(2832 * 0.15 + 124 * 0.1 + 196 * 3.2)
    assert own.arithmetic == pytest.approx((2240 + 124 + 384) * 0.1 + 4 * 4.6)
    assert [kind.weight_bytes for kind in (floats, eight, four, own)] == [768, 192, 96, 100]
    assert [kind.parameter_bytes for kind in (floats, eight, four, own)] == [48, 96, 96, 160]
    # The numbers that move: input, a, b, c, pool, last.
    assert floats.sram == pytest.approx((768 + 48 + 2 * 4 * (128 + 64 * 3 + 4 + 4)) * 10 / 8)
    assert eight.sram == pytest.approx((192 + 96 + 2 * (128 + 64 * 3 + 4 + 4)) * 10 / 8)
    assert own.sram == pytest.approx((100 + 160 + 2 * (128 + 3 * 16 + 3 + 16)) * 10 / 8)
    assert own.dram == pytest.approx((100 + 160) * 1300 / 8)


def test_the_tables_say_it_in_a_terminal_and_in_a_notebook():
    found = residual().report()
    assert found == report(residual())
    layers, kinds = found.tables
    assert isinstance(layers, Table) and [row[0] for row in layers.rows] == ["one", "two", "last", "total"]
    assert layers.rows[1][1:8] == ("144", "25%", "29 B", "144 B", "576 B", "2,304", "1,728")
    assert [row[0] for row in kinds.rows] == ["float, 32 bits", "8 bits", "4 bits", "this network"]
    assert all(len(row) == len(table.header) for table in (layers, kinds) for row in table.rows)
    assert "estimates" in kinds.caption and "Horowitz" in kinds.caption and kinds.rows[0][6] == "13.3 nJ"
    assert str(layers) in repr(found) and str(kinds) in repr(found)
    assert found._repr_html_().count("<table>") == 2


@pytest.mark.skipif(
    not (any(map(shutil.which, c_code.COMPILERS)) and shutil.which("size")),
    reason="there is no C compiler, or no program size",
)
def test_code_and_data_of_the_compiled_network_are_in_the_report(tmp_path):
    network = residual()
    found = network.report(c=True)
    network.to_c(tmp_path)
    assert found.c == c_code.sizes(tmp_path) and network.report().c is None
    code, tables, memory = found.c
    assert found.tables[:2] == network.report().tables and len(found.tables) == 3
    assert found.tables[2].rows == (tuple(f"{n:,} B" for n in (code, tables, code + tables, memory)),)
    assert str(found.tables[2]) in repr(found) and found._repr_html_().count("<table>") == 3


def test_c_in_the_report_is_asked_for_by_true_or_false():
    with pytest.raises(TypeError, match="^c must be True or False, not 'gcc'.$"):
        residual().report(c="gcc")
    with pytest.raises(FileNotFoundError, match="^there is no C compiler no-such-cc on this machine.$"):
        residual().report(c=True, compiler="no-such-cc")
