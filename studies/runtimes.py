"""How fast onnxruntime computes an integer network, beside the same network in floats.

Standard runtimes have no kernels for ternary weights: their integer operators multiply bytes. A record has, for one network
and one batch, the processor time of each of several rounds in milliseconds, in which every contender has its turn:

    float       the network before quantisation: convolutions with biases, rectifiers, maxima and averages over windows
    integers    the integer network, as `to_onnx` writes it
    products    its products alone, in the same operators: what is left when comparisons cost nothing
    numpy       the integer network by NumPy

and the bytes of the models, and the network's own counts. The weights are drawn: times do not depend on them. A ratio of two
contenders within a round says how they compare; whatever else the machine does hits both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import numpy as np
import torch

from anabook import deploy, models, training
from anabook.deploy.onnx_graph import IR_VERSION, OPSET, onnx_model
from anabook.deploy.steps import INPUT, Add, Flatten, Head, MaxPool, SumPool, Threshold, Weighted
from anabook.experiments.tasks import NETWORKS
from anabook.quantisers import Quantiser
from studies.loop import Config, Option, Study

SHAPES = {"mlp": (64,), "vgg": (3, 32, 32), "dscnn": (1, 49, 10)}
_LEAST = 0.02
"""Seconds that the calls of one turn take at least, so that the clock's grain does not show."""


def cases(
    networks: tuple[str, ...] = ("mlp", "dscnn", "vgg"),
    batches: tuple[int, ...] = (1, 16),
    rounds: int = 15,
    seed: int = 0,
) -> list[Config]:
    """Each network in the size of the paper, with one example at a time and with several."""
    return [
        {"network": name, "batch": batch, "rounds": rounds, "threads": 1, "seed": seed}
        for name in networks
        for batch in batches
    ]


def integer_network(config: Config) -> deploy.IntegerNetwork:
    """The network of a case, quantised as in the experiments, with weights drawn near thresholds."""
    torch.manual_seed(config["seed"])
    width = config.get("width", 1.0)
    if config["network"] == "mlp":
        net = models.mlp(64, (max(1, round(128 * width)),) * 2)
        weights = activations = Quantiser.ternary()
    else:
        row = NETWORKS[config["network"]]
        net = row.build(width, SHAPES[config["network"]], 12 if config["network"] == "dscnn" else 10)
        weights, activations = row.weights, row.activations
    net = training.quantise(net, weights, activations)
    training.initialise_near_thresholds(net, config["seed"])
    example = np.zeros((1, *SHAPES[config["network"]]), np.uint8)
    return deploy.to_integer(training.deploy(net), example, mean=127.5, std=64.0)


def float_model(network: deploy.IntegerNetwork, seed: int = 0) -> Any:
    """The same layers in floats of 32 bits as an ONNX model, with weights drawn at random."""
    from onnx import TensorProto, checker, helper, numpy_helper

    rng = np.random.default_rng(seed)
    nodes, constants = [], []

    def constant(name: str, array: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(array, name))
        return name

    def weighted(step: Weighted | Head) -> tuple[str, str]:
        weights = rng.normal(0, 0.1, step.weights.shape).astype(np.float32)
        if weights.ndim == 2:
            weights = np.ascontiguousarray(weights.T)
        bias = rng.normal(0, 0.1, step.weights.shape[0]).astype(np.float32)
        return constant(f"{step.name}.weight", weights), constant(f"{step.name}.bias", bias)

    for step in network.steps:
        inputs, given = list(step.inputs), {}
        if isinstance(step, Weighted | Head):
            operator = "Conv" if step.weights.ndim == 4 else "Gemm"
            inputs += weighted(step)
            if operator == "Conv":
                given = {"strides": step.stride, "pads": step.padding * 2, "dilations": step.dilation, "group": step.groups}
        elif isinstance(step, MaxPool | SumPool):
            operator = "MaxPool" if isinstance(step, MaxPool) else "AveragePool"
            given = {"kernel_shape": step.kernel, "strides": step.stride, "pads": step.padding * 2}
        else:
            operator = {Threshold: "Relu", Flatten: "Flatten", Add: "Add"}[type(step)]
        nodes.append(helper.make_node(operator, inputs, [step.name], **given))
    ends = []
    for name in (INPUT, network.steps[-1].name):
        ends.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *network.extents[name].shape]))
    graph = helper.make_graph(nodes, "float network", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    checker.check_model(model, full_check=True)
    return model


def products(model: Any) -> Any:
    """A model of the products of an integer one alone, each with an input of its own of the same type and shape."""
    from onnx import helper, shape_inference

    graph = shape_inference.infer_shapes(model).graph
    known = {each.name: each for each in (*graph.input, *graph.value_info, *graph.output)}
    nodes = [node for node in graph.node if node.op_type in ("ConvInteger", "MatMulInteger")]
    taken = dict.fromkeys(node.input[0] for node in nodes)
    weights = {name for node in nodes for name in node.input[1:]}
    inner = helper.make_graph(
        nodes,
        "products",
        [known[name] for name in taken],
        [helper.make_tensor_value_info(node.output[0], 6, None) for node in nodes],
        [each for each in graph.initializer if each.name in weights],
    )
    return helper.make_model(inner, opset_imports=model.opset_import, ir_version=model.ir_version)


def session_of(model: Any) -> Any:
    """A model in onnxruntime, on a CPU with one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def caller(model: Any, inputs: Mapping[str, np.ndarray] | None = None, batch: int = 1) -> Callable[[], Any]:
    """A call of a model in onnxruntime, with one thread; inputs that are not given are zeros."""
    from onnx import helper

    session = session_of(model)
    kinds = {each.name: helper.tensor_dtype_to_np_dtype(each.type.tensor_type.elem_type) for each in model.graph.input}
    given = {
        each.name: (inputs or {}).get(each.name, np.zeros((batch, *each.shape[1:]))).astype(kinds[each.name])
        for each in session.get_inputs()
    }
    return lambda: session.run(None, given)


def times(contenders: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Processor time of a call in milliseconds, of each contender in each round."""
    often = {}
    for name, call in contenders.items():
        call()
        start = time.process_time()
        call()
        often[name] = max(1, round(_LEAST / max(time.process_time() - start, 1e-6)))
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            start = time.process_time()
            for _ in range(often[name]):
                call()
            found[name].append(round((time.process_time() - start) / often[name] * 1e3, 5))
    return found


def measure(config: Config) -> dict[str, Any]:
    """The times of one network; that onnxruntime gives what NumPy gives is looked at, too."""
    network = integer_network(config)
    rng = np.random.default_rng(config["seed"])
    x = rng.integers(0, 256, (config["batch"], *network.input.shape)).astype(np.uint8)
    model, floats = onnx_model(network), float_model(network)
    call = caller(model, {INPUT: x})
    (found,) = call()
    off = float(np.abs(found - network(x)).max())
    contenders = {
        "float": caller(floats, {INPUT: x}),
        "integers": call,
        "products": caller(products(model), batch=config["batch"]),
        "numpy": lambda: network(x),
    }
    total = network.report().total
    return {
        "milliseconds": times(contenders, config["rounds"]),
        "bytes": {
            "float": len(floats.SerializeToString()),
            "integers": len(model.SerializeToString()),
            "packed": len(onnx_model(network, packed=True).SerializeToString()),
        },
        "multiply_accumulates": total.multiply_accumulates,
        "weights": total.weights,
        "off": off,
    }


def told(record: dict, found: Mapping[str, dict]) -> str:
    """Each contender's time, and its ratio to the floats' within the rounds."""
    config, took = record["config"], record["milliseconds"]
    ratios = {name: median(a / b for a, b in zip(took[name], took["float"])) for name in took}
    line = ", ".join(f"{name} {median(took[name]):.3g} ms ({ratio:.2f})" for name, ratio in ratios.items())
    return f"{config['network']}, batch {config['batch']}: {line}"


STUDY = Study(
    "runtimes",
    cases,
    measure,
    packages=("onnx", "onnxruntime"),
    told=told,
    options={
        "networks": Option(("mlp", "dscnn", "vgg"), "which networks", str, tuple(SHAPES)),
        "batches": Option((1, 16), "how many examples at a time"),
        "rounds": Option(15, "turns of each contender"),
        "seed": Option(0, "of the weights"),
    },
)
