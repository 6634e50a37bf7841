"""Whether the integer networks of the book are equal in every program, feature by feature, on the whole of their test data.

The networks are those that come with the book (`anabook.experiments.stored`): digits on the test images of chapter 0, the VGG
on CIFAR-10's official test set, the speech network on its held-out fold. A record counts, over all examples and all features,

    wrong       by program: how many integers differ from the levels in exact arithmetic (NumPy), and how many of all steps'
                integers from NumPy's (onnxruntime, the reference evaluator of ONNX, C)
    floats      how many levels PyTorch gets wrong in its own float type, layer by layer from exact levels
    through     the same from the input on
    answers     in how many examples another class wins than in PyTorch
    decided     how many levels were so near to a threshold that fractions had to decide

and the accuracy, the digest of the data, and bytes: of the ONNX model, of the file for NumPy, of the compiled C. CIFAR-10 and
the speech commands are needed where `anabook data` puts them. About ten minutes, most of them for the reference evaluator.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from anabook import datasets, deploy
from anabook._files import digest_bytes
from anabook.deploy import c_code
from anabook.deploy.onnx_graph import onnx_model
from anabook.deploy.steps import INPUT, Head
from anabook.experiments.parts import parts
from anabook.experiments.stored import CONFIGS, NAMES, stored
from studies.loop import Config, Option, Study
from studies.runtimes import session_of

PARTS = {
    "digits": "the 359 test images of chapter 0",
    "cifar10": "the official test set, 16×16 sums of four pixels",
    "gsc12": "the held-out fold 0 of the twelve-class test archive",
}
_AT_ONCE = 100

Program = Callable[[np.ndarray], dict[str, np.ndarray]]


def cases(networks: tuple[str, ...] = NAMES) -> list[Config]:
    """One case a network."""
    return [{"network": name, "data": PARTS[name], "seed": 0} for name in networks]


def data(name: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Integers, labels, and a title of the data."""
    if name == "digits":
        digits = datasets.digits()
        return np.rint(digits.x_test * 16).astype(np.uint8), digits.y_test, "digits"
    config = CONFIGS[name]
    held_out, times = parts(config).held_out, config.shrink**2
    whole = held_out.inputs.numpy().astype(np.float64) * times
    if not np.array_equal(whole, np.rint(whole)):
        raise ValueError(f"the inputs of {name} are not whole numbers.")
    return whole.astype(np.uint16 if times > 1 else np.uint8), held_out.labels.numpy(), name


def onnx_programs(network: deploy.IntegerNetwork) -> Iterator[tuple[str, Program]]:
    """The network in onnxruntime and in the reference evaluator; each gives the output of every step."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    model = onnx_model(network, features=True)
    session = session_of(model)
    names = [output.name for output in session.get_outputs()]
    kind = helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type)
    for program, runner in (("onnxruntime", session), ("ONNX reference", ReferenceEvaluator(model))):
        yield program, lambda x, runner=runner: dict(zip(names, runner.run(names, {INPUT: x.astype(kind)})))


def c_program(network: deploy.IntegerNetwork, folder: Path) -> Program:
    """The network compiled from C; gives the output of every step but the head."""
    _, source = network.to_c(folder, "net")
    library = folder / "net.so"
    flags = ["-std=c99", "-O2", "-shared", "-fPIC", "-DNET_FEATURES", "-DNET_REAL=double"]
    subprocess.run([c_code.find_compiler(), *flags, str(source), "-o", str(library)], check=True, capture_output=True)
    call = ctypes.CDLL(str(library)).net_features
    call.restype = None
    steps = [step.name for step in network.steps if not isinstance(step, Head)]
    shapes = [network.extents[name].shape for name in steps]
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    answers = int(np.prod(network.extents[network.steps[-1].name].shape))

    def run(x: np.ndarray) -> dict[str, np.ndarray]:
        x = np.ascontiguousarray(x, network.extents[INPUT].dtype)
        out, flat = np.zeros(answers), np.zeros((len(x), ends[-1]), np.int32)
        for one, features in zip(x, flat):
            call(one.ctypes, out.ctypes, features.ctypes)
        found = np.split(flat, ends[:-1], axis=1)
        return {name: part.reshape(len(x), *shape) for name, part, shape in zip(steps, found, shapes)}

    return run


def measure(config: Config) -> dict[str, Any]:
    """All counts of one network."""
    name = config["network"]
    known, (x, labels, title) = stored(name), data(name)
    network = known.integers
    x = x.astype(network.extents[INPUT].dtype)
    compared = deploy.compare(known.net, network, x)
    wrong = {"NumPy": sum(each.wrong for each in compared.quantisers)}
    integers = 0
    with tempfile.TemporaryDirectory() as folder:
        programs = dict(onnx_programs(network)) | {"C": c_program(network, Path(folder))}
        wrong |= dict.fromkeys(programs, 0)
        for start in range(0, len(x), _AT_ONCE):
            batch = x[start : start + _AT_ONCE]
            ours = network.features(batch)
            whole = {step.name for step in network.steps if not isinstance(step, Head)}
            integers += sum(ours[each].size for each in whole)
            for program, run in programs.items():
                found = run(batch)
                missing = {step for step in whole if step not in found}
                if missing:
                    raise ValueError(f"{program} gives nothing for {', '.join(sorted(missing))}.")
                wrong[program] += sum(int((found[each] != ours[each]).sum()) for each in whole)
        sizes = c_code.sizes(folder, "net")
        packed = network.save(Path(folder) / "network.npz").stat().st_size
        model = len(onnx_model(network).SerializeToString())
    return {
        "title": title,
        "examples": len(x),
        "sha256": digest_bytes(np.ascontiguousarray(x).tobytes()),
        "levels": compared.elements,
        "integers": integers,
        "wrong": wrong,
        "floats": compared.floats,
        "through": sum(each.through for each in compared.quantisers),
        "decided": sum(each.decided for each in compared.quantisers),
        "answers": compared.answers,
        "accuracy": float((network(x).argmax(1) == labels).mean()),
        "bytes": {"onnx": model, "npz": packed, "c_code": sizes.code, "c_tables": sizes.tables, "c_memory": sizes.memory},
    }


def told(record: dict, found: object) -> str:
    """How many integers of which program are wrong."""
    wrong = ", ".join(f"{program} {count}" for program, count in record["wrong"].items())
    return f"{record['config']['network']}: {record['examples']:,} examples, {record['integers']:,} integers, wrong: {wrong}"


STUDY = Study(
    "integers",
    cases,
    measure,
    packages=("onnx", "onnxruntime"),
    told=told,
    options={"networks": Option(NAMES, "which networks", str, NAMES)},
)
