"""An integer network as an ONNX model of standard integer operators, which other runtimes compute to the last bit.

What stands behind the choice of operators, as onnxruntime 1.32 on a CPU and onnx's reference evaluator 1.23 have them:

* `ConvInteger` and `MatMulInteger` take 8 bits. Wider numbers (sums of pools, inputs of 16 bits) are taken apart into bytes,
  each byte goes through the same weights, and what comes out is put together again: 256 · high + low, exactly.
* What comes first in a product should be unsigned: where it is signed, onnxruntime falls back to code that takes up to twenty
  times as long. First are the kernels in a convolution, and the features in a product with a matrix. So these are stored
  greater by a zero point, which is one of the operator's inputs and is taken off again, exactly.
* On x86 without VNNI, onnxruntime adds two products of a uint8 and an int8 in 16 bits, and saturates. Weights that could make
  that happen are split into two halves, whose products are added in 32 bits.
* `MaxPool` of integers fails in the reference evaluator where strides are 1, and knows only 8 bits in onnxruntime. The maximum
  of strided slices is the same, has no such limits, and is faster in both.
* Thresholds are comparisons, one for each step of the stair. Nothing is rounded anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from anabook import _files
from anabook._validate import flag
from anabook._validate import path as path_at
from anabook.deploy.arrays import narrowest
from anabook.deploy.steps import INPUT, Add, Concat, Flatten, Head, MaxPool, SumPool, Threshold, Weighted, beyond, positions

OPSET, IR_VERSION = 21, 10
"""Of ordinary models: what runtimes have known since 2024."""

PACKED_OPSET, PACKED_IR_VERSION = 25, 13
"""Of models with weights of 2 bits, a type that is younger."""

_PAIR = 2**15 - 1
"""What two products are added in, at worst."""

_LONG = 2**31 - 1


def to_onnx(network: Any, path: Any, features: bool = False, packed: bool = False) -> Path:
    """Write an integer network as an ONNX model, all or nothing.

    The model's input is called "input" and has integers of the network's input, in the narrowest type that holds them; the
    number of examples is free. Its output has the name of the last step: float64 from a head, else integers.

    Args:
        network: an `IntegerNetwork`.
        path: of the file, by custom with the ending .onnx.
        features: make the outputs of all steps outputs of the model, under the steps' names.
        packed: store weights in 2 or 4 bits where these hold them. The file is a quarter or half as large; it needs a
            runtime that knows version 25 of the operators. Runtimes unpack the weights when they load the model.

    Returns:
        The file's path.

    Raises:
        ModuleNotFoundError: onnx is not installed.
        TypeError: `features` or `packed` is neither True nor False.
        OSError: the file cannot be written.

    Example:
        >>> from anabook.deploy.network import IntegerNetwork
        >>> from anabook.deploy.steps import Input
        >>> weights = np.array([[1, -1, 0]], np.int8)
        >>> net = IntegerNetwork(Input((3,), 0, 255), [Weighted(name="sum", inputs=("input",), weights=weights)])
        >>> to_onnx(net, "sum.onnx").name
        'sum.onnx'
        >>> from onnxruntime import InferenceSession
        >>> InferenceSession("sum.onnx").run(None, {"input": np.array([[9, 2, 4]], np.uint8)})[0].tolist()
        [[7]]
    """
    path = path_at(path, "path")
    model = onnx_model(network, flag(features, "features"), flag(packed, "packed"))
    _files.write_bytes(path, model.SerializeToString(), mode=0o644)
    return path


def onnx_model(network: Any, features: bool = False, packed: bool = False) -> Any:
    """The same model as an object of onnx, checked by `onnx.checker` with its shapes and types.

    Example:
        >>> from anabook.deploy.network import IntegerNetwork
        >>> from anabook.deploy.steps import Input
        >>> net = IntegerNetwork(Input((2, 5, 5), 0, 9), [Flatten(name="flat", inputs=("input",))])
        >>> [node.op_type for node in onnx_model(net).graph.node]
        ['Flatten']
    """
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}; ONNX models need pip install 'anabook[deploy]'.", name=error.name) from None
    graph = _Graph(network, packed)
    for step in network.steps:
        graph.add(step)
    names = [step.name for step in network.steps] if features else [network.steps[-1].name]
    opset, ir = (PACKED_OPSET, PACKED_IR_VERSION) if packed else (OPSET, IR_VERSION)
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            "integer network",
            [graph.described(INPUT)],
            [graph.described(name) for name in names],
            list(graph.constants.values()),
        ),
        opset_imports=[onnx.helper.make_opsetid("", opset)],
        ir_version=ir,
        producer_name="anabook",
        doc_string="Integer weights, sums and comparisons; made by anabook.deploy.",
    )
    given = network.input
    onnx.helper.set_model_props(
        model,
        {
            "input": json.dumps(
                {"low": given.low, "high": given.high, "mean": _said(given.mean), "std": _said(given.std)}, sort_keys=True
            ),
            "quanta": json.dumps({s.name: _said(s.quantum) for s in network.steps if isinstance(s, Threshold)}),
        },
    )
    onnx.checker.check_model(model, full_check=True)
    return model


class _Plane(NamedTuple):
    """One byte of a tensor: its name, what it counts, its bounds, and what stands for 0 in it."""

    name: str
    factor: int
    low: int
    high: int
    zero: int


class _Graph:
    """Nodes and constants as they are added, with the type of each tensor.

    A step's tensors carry the step's name and a number after a slash; the last one has the step's name alone. No two are
    called alike, whatever the steps are called.
    """

    def __init__(self, network: Any, packed: bool) -> None:
        import onnx

        self.onnx = onnx
        self.extents = network.extents
        self.packed = packed
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.names: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self.types: dict[str, np.dtype] = {}
        self.wide: dict[str, str] = {}
        self.bytes: dict[tuple[str, bool], str] = {}
        self.step = INPUT
        low, high = self.extents[INPUT].bounds
        self.types[INPUT] = narrowest(low, high, (np.uint8, np.int8, np.uint16, np.int16)) or np.dtype(np.int32)

    def described(self, name: str) -> Any:
        """The type and the shape of a tensor; the number of examples is called n."""
        return self.onnx.helper.make_tensor_value_info(name, self.kind(self.types[name]), ["n", *self.extents[name].shape])

    def kind(self, dtype: Any) -> int:
        return self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))

    # Nodes and constants ----------------------------------------------------------------------------------------------

    def constant(self, value: Any, dtype: Any) -> str:
        """A constant; the same one for equal values."""
        array = np.asarray(value, dtype)
        known = str(array.dtype), array.shape, array.tobytes()
        if known not in self.names:
            name = self.names[known] = self.fresh(f":{len(self.names)}")
            self.constants[name] = self.onnx.numpy_helper.from_array(array, name)
            self.types[name] = array.dtype
        return self.names[known]

    def fresh(self, name: str) -> str:
        """The name, with strokes behind it until nothing else is called so."""
        while name in self.extents or name in self.types:
            name += "'"
        return name

    def node(self, operator: str, *inputs: str, dtype: Any = None, **attributes: Any) -> str:
        """What an operator gives; `dtype` is the type of it where it is not that of the first input."""
        name = self.fresh(f"{self.step}/{len(self.nodes)}")  # not ":", which names a module's second call
        self.nodes.append(self.onnx.helper.make_node(operator, list(inputs), [name], **attributes))
        self.types[name] = np.dtype(dtype or self.types[inputs[0]])
        return name

    def cast(self, name: str, dtype: Any) -> str:
        return name if self.types[name] == dtype else self.node("Cast", name, dtype=dtype, to=self.kind(dtype))

    def as_int32(self, name: str) -> str:
        """A step's output in 32 bits, cast once for all who take it."""
        if name not in self.wide:
            self.wide[name] = self.cast(name, np.int32)
        return self.wide[name]

    def add(self, step: Any) -> None:
        """The nodes of one step."""
        self.step, before = step.name, len(self.nodes)
        made = getattr(self, f"_{type(step).__name__}")(step, *step.inputs)
        if len(self.nodes) == before or self.nodes[-1].output[0] != made:
            made = self.node("Identity", made)
        self.nodes[-1].output[0] = self.nodes[-1].name = step.name
        self.types[step.name] = self.types.pop(made)
        self.wide.update({key: step.name for key, value in self.wide.items() if value == made})

    # Sums of products -------------------------------------------------------------------------------------------------

    def _Weighted(self, step: Weighted, x: str) -> str:
        if step.weights.ndim == 2:
            return self.linear(x, step.weights)
        return self.convolution(x, step.weights, step.stride, step.padding, step.dilation, step.groups)

    def _SumPool(self, step: SumPool, x: str) -> str:
        channels, *size = self.extents[x].shape
        if tuple(step.kernel) == tuple(size) and not any(step.padding):
            return self.node("ReduceSum", self.as_int32(x), self.constant([2, 3], np.int64), keepdims=1)
        ones = np.ones((channels, 1, *step.kernel), np.int8)
        return self.convolution(x, ones, step.stride, step.padding, (1, 1), channels)

    def linear(self, x: str, weights: np.ndarray) -> str:
        """Products with a matrix: features from 0 on, weights signed."""
        terms = []
        for plane in self.planes(x, unsigned=True):
            zeros = [self.constant(plane.zero, np.uint8)] if plane.zero else []
            for part in _halves(weights, int(np.abs(weights.astype(int)).max(initial=0)) * (plane.high + plane.zero)):
                stored = self.stored(part.T)
                terms.append((self.node("MatMulInteger", plane.name, stored, *zeros, dtype=np.int32), plane))
        return self.together(terms, np.abs(weights.astype(np.int64)).sum(1).max())

    def convolution(self, x: str, weights: np.ndarray, stride: tuple, padding: tuple, dilation: tuple, groups: int) -> str:
        """Products with kernels: weights from 0 on, features as they are."""
        terms = []
        for plane in self.planes(x, unsigned=False):
            kind = self.types[plane.name]
            mixed = (
                0 if kind == np.uint8 else (int(weights.max()) - min(0, int(weights.min()))) * max(-plane.low, plane.high)
            )
            for part in _halves(weights, mixed):
                zero = -min(0, int(part.min()))
                stored = self.stored((part.astype(np.int16) + zero).astype(np.uint8))
                zeros = [self.constant(0, kind), self.constant(zero, np.uint8)] if zero else []
                term = self.node(
                    "ConvInteger",
                    plane.name,
                    stored,
                    *zeros,
                    dtype=np.int32,
                    strides=stride,
                    pads=[*padding, *padding],
                    dilations=dilation,
                    group=groups,
                )
                terms.append((term, plane))
        return self.together(terms, np.abs(weights.astype(np.int64)).sum((1, 2, 3)).max())

    def together(self, terms: list[tuple[str, _Plane]], fan: int) -> str:
        """Sums over the bytes of a tensor and the halves of weights, each times what its byte counts."""
        if len(terms) == 1:
            return terms[0][0]
        planes = {plane for _, plane in terms}
        most = sum(plane.factor * max(-plane.low, plane.high) for plane in planes) * int(fan)
        exact = np.int32 if most <= _LONG else np.int64  # the whole fits into 32 bits, but its parts need not
        total = None
        for term, plane in terms:
            term = self.cast(term, exact)
            if plane.factor > 1:
                term = self.node("Mul", term, self.constant(plane.factor, exact))
            total = term if total is None else self.node("Add", total, term)
        return self.cast(total, np.int32)

    def planes(self, x: str, unsigned: bool) -> list[_Plane]:
        """The bytes of a tensor, lowest first; the highest as it is, or as uint8 with a zero point."""
        low, high = self.extents[x].bounds
        rest, factor, found = x, 1, []
        while high - min(low, 0) > 255 if unsigned else _byte(low, high) is None:
            rest = self.as_int32(rest)
            byte = self.node("Cast", rest, dtype=np.uint8, to=self.kind(np.uint8))  # keeps the lowest eight bits
            found.append(_Plane(byte, factor, 0, 255, 0))
            rest = self.node("Sub", rest, self.cast(byte, np.int32))
            rest = self.node("Div", rest, self.constant(256, np.int32))  # nothing is left over
            low, high, factor = low // 256, high // 256, factor * 256
        zero = -min(low, 0) if unsigned else 0
        if (rest, unsigned) not in self.bytes:
            made = rest
            if zero:
                made = rest if self.types[rest] == np.int8 and max(zero, high + zero) <= 127 else self.as_int32(rest)
                made = self.node("Add", made, self.constant(zero, self.types[made]))
            kept = self.types[rest] if self.types[rest].itemsize == 1 else _byte(low, high)
            self.bytes[rest, unsigned] = self.cast(made, np.uint8 if unsigned else kept)
        return [*found, _Plane(self.bytes[rest, unsigned], factor, low, high, zero)]

    def stored(self, values: np.ndarray) -> str:
        """Weights as int8 or uint8, stored in fewer bits where the model is packed."""
        dtype = values.dtype
        bits = _bits(values) if self.packed else 8
        if bits == 8:
            return self.constant(values, dtype)
        import ml_dtypes

        small = getattr(ml_dtypes, f"{dtype.name.rstrip('8')}{bits}")
        return self.node("Cast", self.constant(values, small), dtype=dtype, to=self.kind(dtype))

    # The rest ---------------------------------------------------------------------------------------------------------

    def _Threshold(self, step: Threshold, x: str) -> str:
        x = self.as_int32(x)
        if step.signs is not None and (step.signs < 0).any():
            signs = step.signs.reshape(-1, *[1] * (step.thresholds.ndim - 2))
            x = self.node("Mul", x, self.constant(signs, np.int32))
        steps = np.diff(step.levels.astype(np.int64))
        given = _byte(int(step.levels[0]), int(step.levels[-1]))
        # Partial sums lie between the first level and the last, but a single step may be wider than int8.
        dtype = given if steps.max() <= np.iinfo(given).max else np.dtype(np.int32)
        total = self.constant(step.levels[0], dtype) if step.levels[0] else None
        for threshold, up in zip(self.thresholds(step), steps):
            reached = self.node("GreaterOrEqual", x, threshold, dtype=bool)
            reached = self.node("Cast", reached, dtype=dtype, to=self.kind(dtype))
            if up != 1:
                reached = self.node("Mul", reached, self.constant(up, dtype))
            total = reached if total is None else self.node("Add", reached, total)
        return self.cast(total, given)

    def thresholds(self, step: Threshold) -> Iterator[str]:
        """The thresholds one after the other; those of positions, which differ near the borders alone, are stored once."""
        if prod(step.thresholds.shape[2:]) == 1:
            yield from (self.constant(threshold, np.int32) for threshold in step.thresholds)
            return
        places, index = positions(step.thresholds)
        index = self.constant(index, np.int64)
        for threshold in places:
            yield self.node("Gather", self.constant(threshold, np.int32), index, dtype=np.int32, axis=1)

    def _MaxPool(self, step: MaxPool, x: str) -> str:
        if self.types[x].itemsize == 2:
            x = self.as_int32(x)
        shape = list(self.extents[step.inputs[0]].shape)
        sizes = self.extents[step.name].shape[1:]
        windows = list(zip(sizes, step.kernel, step.stride, step.dilation))
        ends = list(map(beyond, shape[1:], sizes, step.kernel, step.stride, step.padding, step.dilation))
        if any(step.padding) or any(ends):
            least = np.iinfo(self.types[x]).min
            pads = self.constant([0, 0, *step.padding, 0, 0, *ends], np.int64)
            x = self.node("Pad", x, pads, self.constant(least, self.types[x]))
            shape[1:] = [n + padding + end for n, padding, end in zip(shape[1:], step.padding, ends)]
        for axis, (size, kernel, stride, dilation) in enumerate(windows, 2):
            if size == 1 and dilation == 1 and kernel == shape[axis - 1]:
                x = self.node("ReduceMax", x, self.constant([axis], np.int64), keepdims=1)
                continue
            parts = [self.slice(x, axis, i * dilation, size, stride, shape[axis - 1]) for i in range(kernel)]
            x = self.node("Max", *parts) if kernel > 1 else parts[0]
        return x

    def slice(self, x: str, axis: int, start: int, size: int, stride: int, n: int) -> str:
        """Every `stride`-th of an axis of length n from `start` on, `size` of them."""
        if start == 0 and stride == 1 and size == n:
            return x
        end = start + (size - 1) * stride + 1
        return self.node("Slice", x, *(self.constant([value], np.int64) for value in (start, end, axis, stride)))

    def _Add(self, step: Add, a: str, b: str) -> str:
        types = {self.types[a], self.types[b], _byte(*self.extents[step.name].bounds)}
        if len(types) > 1:  # else the sum, too, has room in the eight bits of both
            a, b = self.as_int32(a), self.as_int32(b)
        return self.node("Add", a, b)

    def _Concat(self, step: Concat, *parts: str) -> str:
        kinds = {self.types[each] for each in parts}
        kind = _byte(*self.extents[step.name].bounds) if len(kinds) > 1 else next(iter(kinds))
        tensors = [self.as_int32(each) if kind is None else self.cast(each, kind) for each in parts]
        return self.node("Concat", *tensors, axis=1)

    def _Flatten(self, step: Flatten, x: str) -> str:
        return self.node("Flatten", x, axis=1)

    def _Head(self, step: Head, x: str) -> str:
        if step.weights.dtype == np.int8:
            sums = self.cast(self.linear(x, step.weights), np.float64)
        else:
            weights = self.cast(self.constant(step.weights.T, np.float32), np.float64)
            sums = self.node("MatMul", self.cast(x, np.float64), weights)
        scaled = self.node("Mul", sums, self.constant(step.scale, np.float64))
        return self.node("Add", scaled, self.constant(step.bias, np.float64))


def _said(quantum: Any) -> str | list[str]:
    """A quantum as text, or one for each channel."""
    return [str(each) for each in quantum] if isinstance(quantum, tuple) else str(quantum)


def _byte(low: int, high: int) -> np.dtype | None:
    """int8 or uint8, whichever holds these numbers, or neither."""
    return narrowest(low, high, (np.int8, np.uint8))


def _halves(weights: np.ndarray, product: int) -> list[np.ndarray]:
    """The weights, or two that add up to them, where two products as great as this one do not fit into 16 bits."""
    if 2 * product <= _PAIR:
        return [weights]
    half = weights >> 1
    return [half, weights - half]


def _bits(weights: np.ndarray) -> int:
    """2, 4 or 8: what holds them, in a type of their sign."""
    low, high = int(weights.min(initial=0)), int(weights.max(initial=0))
    for bits in (2, 4):
        least, most = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if weights.dtype == np.int8 else (0, 2**bits - 1)
        if least <= low and high <= most:
            return bits
    return 8
