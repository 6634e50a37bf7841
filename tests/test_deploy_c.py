"""Integer networks as C: what the compiled program gives is what NumPy gives, at every step."""

from __future__ import annotations

import ctypes
import dataclasses
import itertools
import re
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from deploy_networks import random_inputs, random_network

from anabook import datasets
from anabook.deploy import c_code
from anabook.deploy.c_program import pack
from anabook.deploy.memory import WIDTHS, plan
from anabook.deploy.network import IntegerNetwork
from anabook.deploy.steps import INPUT, Add, Flatten, Head, Input, Step, Threshold, Weighted
from anabook.experiments.stored import CONFIGS, stored

ROOT = Path(__file__).resolve().parents[1]
COMPILER = next(filter(None, map(shutil.which, c_code.COMPILERS)), None)
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
SEEDS = range(60)
needs_compiler = pytest.mark.skipif(
    COMPILER is None, reason="there is no C compiler (cc, gcc or clang), so no C was compiled"
)


def compile_with(*arguments):
    done = subprocess.run([COMPILER, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def as_c(network, folder, name="network", flags=("-O2",)):
    """The compiled network as a function of a batch: what comes out, and what every step gives."""
    _, source = network.to_c(folder, name)
    upper = name.upper()
    library = folder / f"{name}.so"
    compile_with(*STRICT, *flags, "-shared", "-fPIC", f"-D{upper}_FEATURES", f"-D{upper}_REAL=double", source, "-o", library)
    return running(network, getattr(ctypes.CDLL(str(library)), f"{name}_features"))


def running(network, call):
    steps = [step for step in network.steps if not isinstance(step, Head)]
    sizes = [int(np.prod(network.extents[step.name].shape)) for step in steps]
    last = network.extents[network.steps[-1].name]
    given = network.extents[INPUT].dtype
    call.restype = None

    def run(x):
        x = np.ascontiguousarray(x, given)
        out = np.zeros((len(x), *last.shape), np.float64 if isinstance(network.steps[-1], Head) else np.int32)
        flat = np.full((len(x), sum(sizes) + 1), 2**31 - 1, np.int32)
        for one, result, features in zip(x, out, flat):
            call(one.ctypes, result.ctypes, features.ctypes)
        assert (flat[:, -1] == 2**31 - 1).all(), "more was written than there is room for"
        parts = np.split(flat[:, :-1], np.cumsum(sizes)[:-1], axis=1) if sizes else []
        return out, {step.name: part for step, part in zip(steps, parts)}

    return run


def check(network, run, x):
    """Every integer equal; the head equal to the last bit where its weights are integers."""
    out, features = run(x)
    expected = network.features(x)
    for name, found in features.items():
        np.testing.assert_array_equal(found, expected[name].reshape(len(x), -1), err_msg=name)
    last = network.steps[-1]
    if isinstance(last, Head) and last.weights.dtype != np.int8:
        np.testing.assert_allclose(out, expected[last.name], rtol=1e-10, atol=1e-10)  # sums of floats, in another order
    else:
        np.testing.assert_array_equal(out, expected[last.name])


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """All random networks in one library: each file keeps its functions and memory to itself."""
    folder = tmp_path_factory.mktemp("c")
    sources, flags = [], []
    for seed in SEEDS:
        sources.append(random_network(seed).to_c(folder, f"net{seed}")[1])
        flags += [f"-DNET{seed}_FEATURES", f"-DNET{seed}_REAL=double"]
    compile_with(*STRICT, "-O1", "-shared", "-fPIC", *flags, *sources, "-o", folder / "all.so")
    return ctypes.CDLL(str(folder / "all.so"))


@needs_compiler
@pytest.mark.parametrize("seed", SEEDS)
def test_c_gives_what_numpy_gives_at_every_step(library, seed):
    network = random_network(seed)
    check(network, running(network, getattr(library, f"net{seed}_features")), random_inputs(network, 20, seed))


def test_the_random_networks_have_every_kind_of_step():
    kinds = {type(step) for seed in SEEDS for step in random_network(seed).steps}
    assert kinds == set(Step.__subclasses__())


# The book's networks


@needs_compiler
def test_the_digits_network_is_equal_on_every_test_image(tmp_path):
    network = stored("digits").integers
    digits = datasets.digits()
    x = np.rint(digits.x_test * 16).astype(np.uint8)
    assert len(x) == 359
    check(network, as_c(network, tmp_path), x)
    # As a reader would compile it, with floats for the scores: another rounding, the same readings.
    scores = program(network, tmp_path, "-Os")(x)
    assert (scores.argmax(1) == network(x).argmax(1)).all() and (scores.argmax(1) == digits.y_test).mean() > 0.93


@needs_compiler
@pytest.mark.parametrize("name", CONFIGS)
def test_pictures_and_speech_are_equal_on_drawn_inputs(tmp_path, name):
    network = stored(name).integers
    check(network, as_c(network, tmp_path), random_inputs(network, 20))


@needs_compiler
@pytest.mark.parametrize("name", CONFIGS)
def test_pictures_and_speech_are_equal_on_the_whole_of_their_data(tmp_path, name):
    from anabook.datasets import store
    from anabook.experiments.parts import parts

    config = CONFIGS[name]
    if not store.path_of(config.data).is_file():
        pytest.skip(f"{config.data} is not in the store: anabook data {config.data} prepares it")
    x = np.rint(parts(config).held_out.inputs.numpy().astype(np.float64) * config.shrink**2).astype(np.int64)
    network = stored(name).integers
    run = as_c(network, tmp_path)
    assert len(x) > 900
    for begin in range(0, len(x), 250):
        check(network, run, x[begin : begin + 250])


# Memory


@pytest.mark.parametrize("seed", SEEDS)
def test_tensors_that_are_needed_at_the_same_time_lie_apart(seed):
    network = random_network(seed)
    found = plan(network)
    reads = {}
    for number, step in enumerate(network.steps):
        for name in step.inputs:
            reads[name] = number
    held = {id(place): place for place in found.places.values()}
    for one, other in itertools.combinations(held.values(), 2):
        if one.kind == other.kind and one.first <= other.last and other.first <= one.last:
            assert one.offset + one.size <= other.offset or other.offset + other.size <= one.offset
    for number, step in enumerate(network.steps):
        if step.name in found.joined or isinstance(step, Head):
            assert step.name not in found.places
            continue
        if step.name in found.places:
            place = found.places[step.name]
            assert place.first <= number and place.last >= reads.get(step.name, number)
            assert place.offset + place.size <= found.buffers[place.kind]
    # A layer that a threshold alone reads is computed when the threshold is: what it takes must live until then.
    for step in network.steps:
        for name in step.inputs:
            if name in found.joined:
                (source,) = next(each.inputs for each in network.steps if each.name == name)
                if source in found.places:
                    assert found.places[source].last >= found.places[step.name].first
    busiest = {
        kind: max(
            sum(place.size for place in held.values() if place.kind == kind and place.first <= number <= place.last)
            for number in range(len(network.steps))
        )
        for kind in WIDTHS
    }
    assert {kind: size for kind, size in busiest.items() if size}.keys() == found.buffers.keys()
    for kind, size in found.buffers.items():
        assert busiest[kind] <= size
    total = sum(WIDTHS[kind] * size for kind, size in found.buffers.items()) + 4 * found.channel
    assert found.peak == total


def ternary(rng, *shape):
    return rng.integers(-1, 2, shape).astype(np.int8)


def levels(name, source, channels, rng, low=-4, high=4):
    thresholds = np.sort(rng.integers(low, high, (2, channels, 1, 1)), axis=0).astype(np.int32)
    return Threshold(name=name, inputs=(source,), thresholds=thresholds, levels=np.array([-1, 0, 1]), quantum=Fraction(1))


def residual(rng):
    """a, then two convolutions, then a added: a must wait."""

    def conv(name, source):
        return Weighted(name=name, inputs=(source,), weights=ternary(rng, 4, 4, 3, 3), padding=(1, 1))

    first = Weighted(name="c0", inputs=(INPUT,), weights=ternary(rng, 4, 1, 3, 3), padding=(1, 1))
    steps = [first, levels("a", "c0", 4, rng, -200, 200)]
    steps += [conv("c1", "a"), levels("b", "c1", 4, rng), conv("c2", "b"), levels("c", "c2", 4, rng)]
    steps += [Add(name="sum", inputs=("a", "c")), Flatten(name="flat", inputs=("sum",))]
    last = Head(name="last", inputs=("flat",), weights=ternary(rng, 10, 400), scale=np.full(10, 0.1), bias=np.zeros(10))
    return IntegerNetwork(Input((1, 10, 10), 0, 255), [*steps, last])


def test_a_residual_waits_and_nothing_else_does():
    found = plan(residual(np.random.default_rng(0)))
    # a with b, then a, b and c; then a and c with their sum, where b was: three of 400 bytes. One channel of sums: 100.
    assert (found.buffers, found.channel, found.peak) == ({"int8": 1200}, 100, 1600)
    assert (
        found.places["flat"]
        == found.places["sum"]
        == found.places["b"].__class__(
            "int8", found.places["b"].offset, 400, found.places["sum"].first, found.places["sum"].last
        )
    )


def test_a_chain_needs_two_neighbours_at_a_time():
    rng = np.random.default_rng(1)
    steps, source, width = [], INPUT, 30
    for number, units in enumerate((64, 100, 20, 50)):
        steps.append(Weighted(name=f"l{number}", inputs=(source,), weights=ternary(rng, units, width)))
        act = levels(f"a{number}", f"l{number}", units, rng)
        steps.append(dataclasses.replace(act, thresholds=act.thresholds[:, :, 0, 0]))
        source, width = f"a{number}", units
    found = plan(IntegerNetwork(Input((30,), 0, 16), steps))
    assert (found.buffers, found.channel, found.peak) == ({"int8": 164}, 1, 168)


# The text


@pytest.mark.parametrize("seed", range(5))
def test_weights_come_out_of_their_bytes_by_additions(seed):
    if seed == 0:
        weights = np.array(list(itertools.product((-1, 0, 1), repeat=5)))  # every byte that there is
    else:
        weights = np.random.default_rng(seed).integers(-1, 2, 5 * seed + seed)
    found = []
    for byte in pack(weights).tolist():
        for _ in range(5):
            three_times = byte + byte + byte
            byte, digit = three_times & 255, three_times >> 8
            found.append(digit - 1)
    count = weights.size
    assert found[:count] == weights.ravel().tolist() and found[count:] == [0] * (-count % 5)
    assert len(pack(weights)) == -(-count // 5)


def code_of(path):
    """The C file as the compiler sees it, without its header's tables, comments and the lines for tests."""
    done = subprocess.run([COMPILER, "-std=c99", "-E", "-P", str(path)], capture_output=True, text=True, check=True)
    text = done.stdout
    return text[text.index("static weights weights_at") :]


@needs_compiler
def test_a_ternary_network_multiplies_nowhere_but_in_the_head(tmp_path):
    network = residual(np.random.default_rng(2))
    code = code_of(network.to_c(tmp_path)[1])
    products = re.findall(r".* \* .*|.*\*=.*", code)
    assert [line.strip() for line in products] == [
        "float product = scale_8[i] * (float)linear_ternary_s8(&w, memory_s8 + 400, 400);"
    ]
    assert "/" not in code and "%" not in code and "double" not in code
    wider = dataclasses.replace(network.steps[2], weights=2 * network.steps[2].weights)
    network = IntegerNetwork(network.input, [*network.steps[:2], wider, *network.steps[3:]])
    assert "(int32_t)weight * plane[from]" in code_of(network.to_c(tmp_path)[1])


@pytest.mark.parametrize("seed", range(12))
def test_the_files_are_plain(tmp_path, seed):
    header, source = (path.read_text(encoding="ascii") for path in random_network(seed).to_c(tmp_path, "tiny_net"))
    assert re.findall(r"#include .*", header + source) == ["#include <stdint.h>", '#include "tiny_net.h"']
    assert not re.search(r"\b(malloc|free|printf|memcpy|memset|goto)\b", source)
    assert max(map(len, (header + source).splitlines())) <= 121
    assert "KEEP" in source and "\t" not in header + source
    again = [path.read_text(encoding="ascii") for path in random_network(seed).to_c(tmp_path / "again", "tiny_net")]
    assert again == [header, source]


def test_thresholds_of_places_that_are_alike_stand_once(tmp_path):
    network = stored("gsc12").integers  # its input's mean is no integer: thresholds are others where the padding begins
    header = network.to_c(tmp_path)[0].read_text()
    step = network.steps[1]
    assert step.thresholds.shape == (15, 32, 25, 5)
    kinds = len(np.unique(step.thresholds.reshape(15 * 32, -1), axis=1).T)
    assert kinds == (3 + 1 + 2) * (1 + 1 + 1)  # three rows above, two below, a column to each side
    assert f"thresholds_1[{32 * kinds * 15}]" in header and "places_1[125]" in header and "places_3" not in header


@needs_compiler
def test_a_step_may_have_any_name(tmp_path):
    network = residual(np.random.default_rng(3))
    steps = [
        dataclasses.replace(
            step, name=f"{step.name}*/ é\n\\", inputs=tuple(n if n == INPUT else f"{n}*/ é\n\\" for n in step.inputs)
        )
        for step in network.steps
    ]
    odd = IntegerNetwork(network.input, steps)
    check(odd, as_c(odd, tmp_path), random_inputs(odd, 5))


MAIN = """
#include "network.h"
#include <stdio.h>
int main(void)
{
    static INPUT_TYPE input[NETWORK_INPUTS];
    static OUTPUT_TYPE output[NETWORK_OUTPUTS];
    while (fread(input, sizeof input, 1, stdin) == 1) {
        network_run(input, output);
        fwrite(output, sizeof output, 1, stdout);
    }
    return 0;
}
"""


def program(network, folder, *flags):
    """The network in a program that reads inputs and writes outputs: what somebody would do with it."""
    header, source = network.to_c(folder)
    declared = re.search(r"void network_run\(const (\w+) \*input, (\w+) \*output\);", header.read_text())
    types = [f"-DINPUT_TYPE={declared[1]}", f"-DOUTPUT_TYPE={declared[2]}"]
    (folder / "main.c").write_text(MAIN)
    compile_with(*STRICT, *flags, *types, source, folder / "main.c", "-o", folder / "program")

    def run(x):
        data = np.ascontiguousarray(x, network.extents[INPUT].dtype).tobytes()
        done = subprocess.run([folder / "program"], input=data, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()[:2000]
        given = np.float32 if declared[2] == "NETWORK_REAL" else np.int32
        return np.frombuffer(done.stdout, given).reshape(len(x), *network.extents[network.steps[-1].name].shape)

    return run


@needs_compiler
@pytest.mark.parametrize("seed", [*range(60, 72), None])
def test_no_step_reads_or_writes_outside_or_overflows(tmp_path, seed):
    """A program of its own, with floats for the outputs, watched by the sanitizers where the compiler has them."""
    sanitize = ("-fsanitize=undefined,address", "-fno-sanitize-recover=all", "-g")
    (tmp_path / "empty.c").write_text("int main(void) { return 0; }\n")
    done = subprocess.run(
        [COMPILER, *sanitize, str(tmp_path / "empty.c"), "-o", str(tmp_path / "empty")], capture_output=True
    )
    if done.returncode or subprocess.run([tmp_path / "empty"], capture_output=True).returncode:
        pytest.skip(f"{COMPILER} has no sanitizers that work here, so the C was not watched")
    network = residual(np.random.default_rng(4)) if seed is None else random_network(seed)
    x = random_inputs(network, 10)
    found = program(network, tmp_path, "-O1", *sanitize)(x)
    expected = network(x)
    if expected.dtype.kind == "f":
        reach = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * reach + 1e-5)
    else:
        np.testing.assert_array_equal(found, expected)


# Sizes and refusals


@needs_compiler
@pytest.mark.skipif(shutil.which("size") is None, reason="there is no program size, so the object file was not measured")
def test_sizes_of_the_compiled_network(tmp_path):
    network = residual(np.random.default_rng(5))
    network.to_c(tmp_path, "small")
    found = c_code.sizes(tmp_path, "small")
    ternary_bytes = sum(-(-step.weights.size // 5) for step in network.steps if hasattr(step, "weights"))
    assert ternary_bytes < found.tables < ternary_bytes + 600
    assert plan(network).peak <= found.memory <= plan(network).peak + 64
    assert 300 < found.code < 4000
    assert c_code.sizes(tmp_path, "small", flags=("-O0",)).code > found.code


def test_sizes_say_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no network\.c in .*; to_c writes it"):
        c_code.sizes(tmp_path)
    residual(np.random.default_rng(6)).to_c(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no C compiler no-such-cc on this machine"):
        c_code.sizes(tmp_path, compiler="no-such-cc")
    if COMPILER:
        (tmp_path / "network.c").write_text("this is not C\n")
        with pytest.raises(ValueError, match=r"does not compile .*network\.c"):
            c_code.sizes(tmp_path)


@pytest.mark.parametrize("name", ["", "7th", "a-b", "a b", "_x", "é", "stdint", "../x", "x" * 25, "a\n"])
def test_a_name_that_c_does_not_take_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"^name must be a C identifier: .* not '.*'\.$"):
        random_network(0).to_c(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_other_refusals(tmp_path):
    network = random_network(0)
    with pytest.raises(TypeError, match=r"^name must be text, not 3\.$"):
        network.to_c(tmp_path, 3)
    (tmp_path / "file").write_text("here")
    with pytest.raises(ValueError, match="folder must be a folder or not be there yet"):
        network.to_c(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "here"


def test_files_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    header, source = random_network(1).to_c(tmp_path)
    before = header.read_text(), source.read_text()
    monkeypatch.setattr("anabook.deploy.c_program.Code.source", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        random_network(2).to_c(tmp_path)
    assert (header.read_text(), source.read_text()) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["network.c", "network.h"]


@needs_compiler
def test_the_readme_says_how_to_compile_and_call_it(tmp_path):
    """Its program and its command, word for word, on the book's network for digits."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```c\n(.*?)```", text, flags=re.S)
    (command,) = re.findall(r"^cc .*$", text, flags=re.M)
    network = stored("digits").integers
    network.to_c(tmp_path / "digits")
    (tmp_path / "main.c").write_text(program)
    words = command.replace("cc ", f"{COMPILER} {' '.join(STRICT)} ", 1)
    done = subprocess.run(words, shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    image = np.zeros(64, np.uint8)
    first = list(map(int, re.search(r"\{([\d, ]+)\};", program)[1].split(",")))
    image[: len(first)] = first
    expected = network(image.reshape(network.input.shape)[np.newaxis])[0]
    found = dict(line.split(": ") for line in done.stdout.splitlines())
    assert list(found) == [str(i) for i in range(10)]
    np.testing.assert_allclose([float(value) for value in found.values()], expected, atol=0.0006)


@pytest.mark.parametrize("ending", ["h", "c"])
def test_a_folder_in_place_of_one_file_leaves_the_other_as_it_was(tmp_path, ending):
    other = tmp_path / f"network.{'ch'[ending == 'c']}"
    (tmp_path / f"network.{ending}").mkdir()
    other.write_text("as it was")
    with pytest.raises(IsADirectoryError):
        random_network(0).to_c(tmp_path)
    assert other.read_text() == "as it was" and len(list(tmp_path.iterdir())) == 2
