"""What an integer network costs: bytes, operations, the width of its sums, and an estimate of its energy."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from math import prod
from typing import Any

import numpy as np

from anabook._table import Table
from anabook._validate import flag
from anabook.deploy import c_code
from anabook.deploy.packing import per_byte
from anabook.deploy.steps import INPUT, Add, Concat, Flatten, Head, MaxPool, SumPool, Threshold, Weighted, positions

PICOJOULES = {
    "int8 addition": 0.03,
    "int32 addition": 0.1,
    "int8 product": 0.2,
    "int32 product": 3.1,
    "float32 addition": 0.9,
    "float32 product": 3.7,
    "64 bits of 8 kB SRAM": 10.0,
    "64 bits of DRAM": 1300.0,
}
"""Energies in 45 nm at 0.9 V: M. Horowitz, Computing's energy problem (and what we can do about it), ISSCC 2014, figure 1.1.9.

For DRAM the figure says 1.3 to 2.6 nJ; here is the lower end.
"""

_SOURCE = "45 nm, after Horowitz, ISSCC 2014"
_SRAM, _DRAM = (PICOJOULES[f"64 bits of {what}"] / 8 for what in ("8 kB SRAM", "DRAM"))  # for a byte
_PRODUCTS = {32: PICOJOULES["float32 product"], 8: PICOJOULES["int8 product"], 4: PICOJOULES["int8 product"] / 4}
"""By bits. The figure has none for 4 bits: a multiplier grows with the square of its width."""


@dataclass(frozen=True)
class Cost:
    """What one layer costs for one example: a step with weights, and the steps after it up to the next one.

    Attributes:
        name: of the step with weights, or "input" for what comes before the first one.
        weights, zeros: how many weights it has, and how many of them are 0.
        packed_bytes: of the weights: five to a byte where they are −1, 0 and 1; see `packed_bytes`.
        parameter_bytes: of the thresholds, of four bytes each, and signs; for a head, of scale and bias. Where thresholds
            differ by position, those of each kind of position count once, and a byte for each position says its kind.
        multiply_accumulates: one for each weight and each place that it is applied to, the padding included.
        additions: those of them with a weight of 1 or −1, which only add or subtract.
        products: those with any other weight but 0. The rest vanishes.
        other_additions: of pools that sum and of residual connections.
        comparisons: with thresholds, and in pools that take the maximum.
        features: numbers that come out of quantisers, or out of the head.
        bits: of a signed integer that holds all sums of the layer, whatever the input is; 0 where there are none.
    """

    name: str
    weights: int = 0
    zeros: int = 0
    packed_bytes: int = 0
    parameter_bytes: int = 0
    multiply_accumulates: int = 0
    additions: int = 0
    products: int = 0
    other_additions: int = 0
    comparisons: int = 0
    features: int = 0
    bits: int = 0

    def __add__(self, other: Cost) -> Cost:
        """Everything added, but for the bits, of which the greater is needed.

        Example:
            >>> (Cost("one", weights=10, bits=7) + Cost("two", weights=5, bits=9)).bits
            9
        """
        sums = {
            f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self) if f.name not in ("name", "bits")
        }
        return Cost(name=self.name, bits=max(self.bits, other.bits), **sums)


@dataclass(frozen=True)
class Kind:
    """What a network of these shapes costs for one example in one kind of arithmetic.

    Attributes:
        name: of the kind.
        weight_bytes, parameter_bytes: of the weights; of thresholds, or of scales and biases.
        peak_bytes: of the features that are kept at one time, at most.
        products, additions: how many.
        arithmetic: picojoules for products, additions, comparisons, and the rescaling between layers.
        sram: picojoules to read each parameter once, and to write and to read each feature once, in SRAM of 8 kB.
        dram: picojoules to read each parameter once from DRAM in place of that.

    Example:
        >>> Kind("ours", 2, 0, 7, products=0, additions=6, arithmetic=0.6, sram=20.0, dram=325.0).peak_bytes
        7
    """

    name: str
    weight_bytes: int
    parameter_bytes: int
    peak_bytes: int
    products: int
    additions: int
    arithmetic: float
    sram: float
    dram: float


@dataclass(frozen=True)
class Report:
    """The costs of an integer network for one example, layer by layer and beside other arithmetic.

    Attributes:
        layers: one `Cost` each.
        kinds: the same network in floats of 32 bits, in 8 bits, in 4 bits, and as it is.
        peak_bytes: of features as NumPy keeps them: a byte each, more where they need more.
        c: bytes of the network as compiled C, where that was asked for.

    Example:
        >>> from fractions import Fraction
        >>> from anabook.deploy.network import IntegerNetwork
        >>> from anabook.deploy.steps import Input
        >>> weights = np.array([[1, -1, 0, 0, 1], [0, 0, 0, 1, 3]], np.int8)
        >>> net = IntegerNetwork(Input((5,), 0, 15), [Weighted(name="sum", inputs=("input",), weights=weights)])
        >>> found = report(net).total
        >>> found.multiply_accumulates, found.additions, found.products, found.zeros, found.bits
        (10, 4, 1, 5, 7)
    """

    layers: tuple[Cost, ...]
    kinds: tuple[Kind, ...]
    peak_bytes: int
    c: c_code.Sizes | None = None

    @property
    def total(self) -> Cost:
        """All layers together."""
        found = Cost("total")
        for layer in self.layers:
            found += layer
        return found

    @property
    def tables(self) -> tuple[Table, ...]:
        """Layer by layer; beside other arithmetic; and the compiled C, where that was asked for."""
        header = (
            "layer",
            "weights",
            "zeros",
            "packed",
            "8 bits",
            "float",
            "multiply-adds",
            "that only add",
            "that multiply",
        )
        header += ("that vanish", "comparisons", "bits of sums")
        lines: tuple[tuple[str, ...], ...] = tuple(
            (
                each.name,
                f"{each.weights:,}",
                f"{each.zeros / each.weights:.0%}" if each.weights else "",
                _bytes(each.packed_bytes),
                _bytes(each.weights),
                _bytes(4 * each.weights),
                f"{each.multiply_accumulates:,}",
                f"{each.additions:,}",
                f"{each.products:,}",
                f"{each.multiply_accumulates - each.additions - each.products:,}",
                f"{each.comparisons:,}",
                str(each.bits or ""),
            )
            for each in (*self.layers, self.total)
        )
        first = Table("For one example: bytes of weights, and operations", header, lines)
        header = ("arithmetic", "weights", "other parameters", "features at once", "products", "additions")
        header += ("energy of arithmetic", "of SRAM", "of parameters from DRAM")
        lines = tuple(
            (
                each.name,
                _bytes(each.weight_bytes),
                _bytes(each.parameter_bytes),
                _bytes(each.peak_bytes),
                f"{each.products:,}",
                f"{each.additions:,}",
                *map(_joules, (each.arithmetic, each.sram, each.dram)),
            )
            for each in self.kinds
        )
        caption = (
            f"The same network in other arithmetic. Energies are estimates ({_SOURCE}): operations, and one access to each "
            "parameter and two to each feature; no control, no second reading, no leakage."
        )
        tables = first, Table(caption, header, lines)
        if self.c is None:
            return tables
        header = ("code", "weights and thresholds", "both, in flash", "memory")
        code, constants, memory = self.c
        caption = "As C, compiled for this machine to be small (-Os); memory is what lies in static buffers."
        return *tables, Table(caption, header, (tuple(map(_bytes, (code, constants, code + constants, memory))),))

    def __repr__(self) -> str:
        return "\n\n".join(map(str, self.tables))

    def _repr_html_(self) -> str:
        return "".join(table._repr_html_() for table in self.tables)


def report(network: Any, c: bool = False, compiler: str | None = None) -> Report:
    """What an `IntegerNetwork` costs for one example; see `Report`.

    Beside the network stand three that have the same shapes and dense weights: in floats, with one product, one addition
    and a bias for each output; and in 8 and in 4 bits, with sums in 32 bits and one product of 32 bits to rescale each
    output, which has a scale and a bias. In the network itself zero weights cost nothing, weights of ±1 an addition in 32
    bits, thresholds a comparison each, which is an addition in 32 bits as well; features take as many bits as their
    levels need.

    Args:
        network: an `IntegerNetwork`.
        c: whether to write the network as C, compile it and say how large it is; see `anabook.deploy.c_code.sizes`.
        compiler: a C compiler's command; None takes cc, gcc or clang, whichever there is.

    Raises:
        TypeError: c is neither True nor False.
        FileNotFoundError: c is asked for, and there is no compiler, or no program `size`.
        ValueError: the network cannot be written as C.

    Example:
        >>> from anabook.deploy.network import IntegerNetwork
        >>> from anabook.deploy.steps import Input
        >>> weights = np.array([[1, -1, 0, 0, 1]] * 2, np.int8)
        >>> net = IntegerNetwork(Input((5,), 0, 15), [Weighted(name="sum", inputs=("input",), weights=weights)])
        >>> [(kind.name, kind.weight_bytes, kind.products, kind.additions) for kind in report(net).kinds]
        [('float, 32 bits', 40, 10, 10), ('8 bits', 10, 10, 10), ('4 bits', 5, 10, 10), ('this network', 2, 0, 6)]
    """
    compiled = _compiled(network, compiler) if flag(c, "c") else None
    layers = tuple(_layers(network))
    total = Cost("total")
    for layer in layers:
        total += layer
    outputs = sum(prod(network.extents[s.name].shape[:1]) for s in network.steps if isinstance(s, Weighted | Head))
    moved = {name: prod(each.shape) for name, each in _kept(network).items()}
    kinds = []
    for bits, name in ((32, "float, 32 bits"), (8, "8 bits"), (4, "4 bits")):
        given = {n: 32 if bits == 32 else bits if n != INPUT else _feature_bits(network, n) for n in moved}
        adds, rescaled = PICOJOULES["float32 addition" if bits == 32 else "int32 addition"], total.features
        arithmetic = total.multiply_accumulates * (_PRODUCTS[bits] + adds)
        arithmetic += (total.other_additions + rescaled) * adds  # of a feature: its bias
        arithmetic += 0 if bits == 32 else rescaled * PICOJOULES["int32 product"]
        kinds.append(
            _kind(
                network,
                name,
                given,
                weight_bytes=-(-total.weights * bits // 8),
                parameter_bytes=outputs * (4 if bits == 32 else 8),
                products=total.multiply_accumulates + (0 if bits == 32 else rescaled),
                additions=total.multiply_accumulates + total.other_additions + rescaled,
                arithmetic=arithmetic,
            )
        )
    floats = sum(
        each.products for each, step in zip(layers[-1:], network.steps[-1:]) if isinstance(step, Head) and _is_float(step)
    )
    adds = PICOJOULES["int32 addition"]
    arithmetic = (total.additions + total.other_additions + total.comparisons) * adds
    arithmetic += (total.products - floats) * (PICOJOULES["int8 product"] + adds)
    arithmetic += floats * (PICOJOULES["float32 product"] + PICOJOULES["float32 addition"])
    kinds.append(
        _kind(
            network,
            "this network",
            {name: _feature_bits(network, name) for name in moved},
            weight_bytes=total.packed_bytes,
            parameter_bytes=total.parameter_bytes,
            products=total.products,
            additions=total.additions + total.products + total.other_additions + total.comparisons,
            arithmetic=arithmetic,
        )
    )
    most = peak(network, {name: 8 * network.extents[name].dtype.itemsize for name in moved})
    return Report(layers, tuple(kinds), most, compiled)


def _compiled(network: Any, compiler: str | None) -> c_code.Sizes:
    with tempfile.TemporaryDirectory() as folder:
        c_code.write(network, folder)
        return c_code.sizes(folder, compiler=compiler)


def _kind(network: Any, name: str, bits: dict[str, int], **given: Any) -> Kind:
    features = sum(-(-prod(network.extents[each].shape) * n // 8) for each, n in bits.items())
    parameters = given["weight_bytes"] + given["parameter_bytes"]
    sram = (parameters + 2 * features) * _SRAM
    return Kind(name=name, peak_bytes=peak(network, bits), sram=sram, dram=parameters * _DRAM, **given)


# Operations -----------------------------------------------------------------------------------------------------------


def _layers(network: Any) -> Iterator[Cost]:
    """Each step with weights, and those after it in one."""
    found = None
    for step in network.steps:
        cost = _cost(step, network.extents)
        if isinstance(step, Weighted | Head):
            if found is not None:
                yield found
            found = cost
        else:
            found = (found or Cost(INPUT)) + cost
    yield found


def _cost(step: Any, extents: dict[str, Any]) -> Cost:
    """Of one step."""
    given = extents[step.name]
    size = prod(given.shape)
    if isinstance(step, Weighted | Head):
        weights, places = step.weights, prod(given.shape[1:])
        zeros = int((weights == 0).sum())
        ones = 0 if _is_float(step) else int((np.abs(weights.astype(np.int16)) == 1).sum())
        return Cost(
            name=step.name,
            weights=weights.size,
            zeros=zeros,
            packed_bytes=packed_bytes(weights),
            parameter_bytes=step.scale.nbytes + step.bias.nbytes if isinstance(step, Head) else 0,
            multiply_accumulates=weights.size * places,
            additions=ones * places,
            products=(weights.size - zeros - ones) * places,
            features=size if isinstance(step, Head) else 0,
            bits=given.bits if isinstance(step, Weighted) else _head_bits(step, extents),
        )
    if isinstance(step, Threshold):
        signs = 0 if step.signs is None else step.signs.nbytes
        kinds, index = positions(step.thresholds)
        return Cost(
            name=step.name,
            parameter_bytes=signs + (4 * kinds.size + (index.size if kinds.shape[2] > 1 else 0)),
            comparisons=len(step.thresholds) * size,
            features=size,
        )
    if isinstance(step, MaxPool):
        return Cost(name=step.name, comparisons=(prod(step.kernel) - 1) * size)
    if isinstance(step, SumPool):
        return Cost(name=step.name, other_additions=(prod(step.kernel) - 1) * size, bits=given.bits)
    if isinstance(step, Add):
        return Cost(name=step.name, other_additions=size, bits=given.bits)
    return Cost(name=step.name)


def _is_float(step: Any) -> bool:
    return step.weights.dtype != np.int8


def _head_bits(step: Head, extents: dict[str, Any]) -> int:
    """Of the sums before they are scaled; 0 where they are floats."""
    if _is_float(step):
        return 0
    low, high = (np.broadcast_to(np.asarray(b, np.int64), step.weights.shape[1:]) for b in _bounds(extents[step.inputs[0]]))
    ends = step.weights * low, step.weights * high
    least = int(np.minimum(np.minimum(*ends), 0).sum(1).min())
    most = int(np.maximum(np.maximum(*ends), 0).sum(1).max())
    return max((-least - 1).bit_length() if least < 0 else 0, most.bit_length()) + 1


def _bounds(given: Any) -> tuple[Any, Any]:
    return given.low, given.high


def packed_bytes(weights: np.ndarray) -> int:
    """How many bytes weights take as `save` packs them: up to sixteen neighbouring integers as many to a byte as fit.

    Example:
        >>> [packed_bytes(np.array([-m, m] * 50, np.int8)) for m in (1, 7, 100)]
        [20, 50, 100]
    """
    base = int(weights.max()) - int(weights.min()) + 1
    if weights.dtype != np.int8 or base > 16:
        return weights.nbytes
    return -(-weights.size // per_byte(max(2, base)))


# Features -------------------------------------------------------------------------------------------------------------


def _fused(network: Any) -> set[str]:
    """Steps whose outputs are compared as soon as they are complete: only a quantiser takes them, and it comes next."""
    takers: dict[str, list[Any]] = {}
    for step in network.steps:
        for name in step.inputs:
            takers.setdefault(name, []).append(step)
    return {
        step.name
        for step, after in zip(network.steps, network.steps[1:])
        if isinstance(after, Threshold) and takers[step.name] == [after] and not isinstance(step, Flatten)
    }


def _kept(network: Any) -> dict[str, Any]:
    """The extents of the tensors that take room: not of sums that are compared at once, nor of what is only reshaped."""
    fused = _fused(network)
    flat = {step.name for step in network.steps if isinstance(step, Flatten)}
    return {name: each for name, each in network.extents.items() if name not in fused | flat}


def _feature_bits(network: Any, name: str) -> int:
    """What one number of a tensor needs: enough bits for the levels of a quantiser, else for everything within bounds."""
    step = next((each for each in network.steps if each.name == name), None)
    if isinstance(step, (MaxPool, Concat)):
        return max(_feature_bits(network, each) for each in step.inputs)
    if isinstance(step, Threshold):
        return max(1, (len(step.levels) - 1).bit_length())
    if isinstance(step, Head):
        return 32
    low, high = network.extents[name].bounds
    return max(1, (int(high) - int(low)).bit_length())


def peak(network: Any, bits: dict[str, int]) -> int:
    """The most bytes of tensors that are kept at one time, while the steps run one after the other.

    A step's inputs and its output are there together; what no later step takes is gone. Sums that a quantiser takes at
    once are never there as a whole.

    Args:
        network: an `IntegerNetwork`.
        bits: of each number, for "input" and for the steps whose outputs are kept.
    """
    fused = _fused(network)
    reads: dict[str, frozenset[str]] = {INPUT: frozenset({INPUT})}
    moments = []
    for step in network.steps:
        taken = frozenset().union(*(reads[name] for name in step.inputs))
        if step.name in fused or isinstance(step, Flatten):
            reads[step.name] = taken
        else:
            reads[step.name] = frozenset({step.name})
            moments.append(taken | {step.name})
    last = {name: i for i, names in enumerate(moments) for name in names}
    last |= dict.fromkeys(reads[network.steps[-1].name], len(moments))
    first = {INPUT: 0} | {name: i for i, names in reversed(list(enumerate(moments))) for name in names if name != INPUT}
    sizes = {name: -(-prod(network.extents[name].shape) * n // 8) for name, n in bits.items()}
    there = ({name for name in last if first[name] <= i <= last[name]} for i in range(max(1, len(moments))))
    return max(sum(sizes[name] for name in names) for names in there)


# Text -----------------------------------------------------------------------------------------------------------------


def _bytes(n: int) -> str:
    return f"{n:,} B"


def _joules(picojoules: float) -> str:
    """With three places that count and the unit that makes them readable."""
    for unit, size in (("mJ", 1e9), ("µJ", 1e6), ("nJ", 1e3)):
        if picojoules >= size:
            return f"{picojoules / size:.3g} {unit}"
    return f"{picojoules:.3g} pJ"
