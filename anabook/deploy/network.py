"""An integer network: its steps in order, run with NumPy integers, with bounds that prove that nothing overflows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from anabook._table import Table
from anabook._validate import reason
from anabook.deploy import fields as _fields
from anabook.deploy import saving
from anabook.deploy.arrays import integers
from anabook.deploy.report import Report, report
from anabook.deploy.running import INT32, Extent, extent, run
from anabook.deploy.steps import INPUT, Head, Input, Step, Weighted

_BATCH = 50
"""Examples that go through the network at a time: few enough for the caches of a CPU."""


class Layer(NamedTuple):
    """A step for people.

    Attributes:
        name, kind: of the step; the kind is its class's name.
        shape: of what it gives, without the batch.
        low, high: bounds of what it gives, for every possible input.
        bits: of a signed integer that holds all within the bounds; None where floats come out.
        weights, zeros: how many weights it has, and how many of these are 0.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    low: float
    high: float
    bits: int | None
    weights: int
    zeros: int


class IntegerNetwork:
    """A quantised network in integers: int8 weights, comparisons with integer thresholds, no float before the head.

    Made by `to_integer` or `load`. Called on a batch of integers (or on one example) it gives what its last step gives:
    the floats of a `Head`, or the integers z that stand for the levels of a last quantiser.

    Args:
        input: what comes in.
        steps: in an order in which each comes after those whose outputs it takes; the last one gives the output.

    Attributes:
        input, steps: as given.
        extents: for each step's name (and "input") its shape and its bounds.

    Raises:
        ValueError: an accumulator that 32 bits cannot hold for every input, or steps that do not fit together.
        TypeError: a field of a wrong type.

    Example:
        >>> from fractions import Fraction
        >>> from anabook.deploy.steps import Threshold
        >>> weights = np.array([[1, -1], [0, 1]], np.int8)
        >>> thresholds = np.array([[[-3], [2]], [[4], [6]]], np.int32)[..., 0]
        >>> net = IntegerNetwork(
        ...     Input((2,), 0, 15),
        ...     [
        ...         Weighted(name="sum", inputs=("input",), weights=weights),
        ...         Threshold(
        ...             name="act", inputs=("sum",), thresholds=thresholds, levels=np.array([-1, 0, 1]), quantum=Fraction(1)
        ...         ),
        ...     ],
        ... )
        >>> net(np.array([[9, 5], [0, 15]])).tolist()
        [[1, 0], [-1, 1]]
    """

    def __init__(self, input: Input, steps: Iterable[Step]) -> None:
        _check_input(input)
        if not isinstance(steps, Iterable):
            raise TypeError(f"steps must be several steps of anabook.deploy.steps, not {type(steps).__name__}.")
        self.input = input
        self.steps = tuple(steps)
        if not self.steps:
            raise ValueError("an integer network needs at least one step.")
        self.extents: dict[str, Extent] = {INPUT: Extent(tuple(input.shape), input.low, input.high)}
        for step in self.steps:
            _fields.check(step)
            _check_names(step, self.extents, self.steps)
            self.extents[step.name] = extent(step, [self.extents[name] for name in step.inputs])

    def __call__(self, x: Any) -> np.ndarray:
        """What the last step gives for integers of shape (n, *input.shape), or for one example without the n.

        Raises:
            TypeError: x holds no integers.
            ValueError: another shape, or integers out of the input's bounds.
        """
        x, single = self._checked(x)
        last = self.steps[-1].name
        parts = [self._values(x[i : i + _BATCH], keep=False)[last] for i in range(0, max(1, len(x)), _BATCH)]
        found = np.concatenate(parts)
        return found[0] if single else found

    def features(self, x: Any) -> dict[str, np.ndarray]:
        """The output of every step for a batch of integers, by name, the input included; what a `Head` gives is float64."""
        x, single = self._checked(x)
        parts = [self._values(x[i : i + _BATCH], keep=True) for i in range(0, max(1, len(x)), _BATCH)]
        found = {name: np.concatenate([part[name] for part in parts]) for name in self.extents}
        return {name: value[0] for name, value in found.items()} if single else found

    def _values(self, x: np.ndarray, keep: bool) -> dict[str, np.ndarray]:
        """What the steps give; where nothing is to be kept, what no later step takes is dropped under way."""
        values = {INPUT: x}
        last = {name: step.name for step in self.steps for name in step.inputs}
        for step in self.steps:
            values[step.name] = run(step, [values[name] for name in step.inputs], self.extents[step.name])
            for name in () if keep else set(step.inputs):
                if last[name] == step.name:
                    del values[name]
        return values

    def _checked(self, x: Any) -> tuple[np.ndarray, bool]:
        x, shape = integers(x, "an integer network takes an array of integers"), tuple(self.input.shape)
        single = x.shape == shape
        if not single and x.shape[1:] != shape:
            raise ValueError(f"the input must have the shape (n, {', '.join(map(str, shape))}), not {x.shape}.")
        low, high = self.input.low, self.input.high
        if x.size and (x.min() < low or x.max() > high):
            wrong = x.min() if x.min() < low else x.max()
            raise ValueError(f"the input must lie from {low} to {high}, but there is {wrong}.")
        x = x.astype(self.extents[INPUT].dtype, copy=False)
        return (x[np.newaxis] if single else x), single

    def save(self, path: str | Path) -> Path:
        """Write the network into one `.npz` file without pickles, all or nothing; small weights are packed.

        Returns:
            The file's path.

        Raises:
            OSError: it cannot be written.
        """
        return saving.save(self.input, self.steps, path)

    @classmethod
    def load(cls, path: str | Path) -> IntegerNetwork:
        """The network in a file that `save` has written; torch is not needed.

        Raises:
            ValueError: there is no such file, it is damaged or changed, or holds something else.

        Example:
            >>> try:
            ...     IntegerNetwork.load("nowhere.npz")
            ... except ValueError as error:
            ...     print(error)
            ...
            there is no file 'nowhere.npz'.
        """
        given, steps = saving.read(path)
        try:
            return cls(given, steps)
        except saving.WRONG as error:
            raise ValueError(saving.unreadable(path, reason(error).rstrip("."))) from None

    def to_onnx(self, path: Any, features: bool = False, packed: bool = False) -> Path:
        """Write the network as an ONNX model; see `anabook.deploy.onnx_graph.to_onnx`."""
        from anabook.deploy import onnx_graph  # onnx is an optional dependency

        return onnx_graph.to_onnx(self, path, features, packed)

    def report(self, c: bool = False, compiler: str | None = None) -> Report:
        """Bytes, operations, widths of sums and an estimate of energy, beside other arithmetic; see `anabook.deploy.report`.

        With `c`, also the bytes of code and data of the network as C, compiled on this machine.
        """
        return report(self, c, compiler)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The steps for people, one `Layer` each."""
        found = []
        for step in self.steps:
            given = self.extents[step.name]
            low, high = given.bounds
            bits = None if given.dtype.kind == "f" else given.bits
            weights = step.weights if isinstance(step, (Weighted, Head)) else np.zeros(0)
            zeros = int(weights.size - np.count_nonzero(weights))
            found.append(Layer(step.name, type(step).__name__, given.shape, low, high, bits, weights.size, zeros))
        return tuple(found)

    def _table(self) -> Table:
        rows = [
            (
                layer.name,
                layer.kind,
                "×".join(map(str, layer.shape)),
                f"{layer.low:.4g}…{layer.high:.4g}" if layer.bits is None else f"{layer.low}…{layer.high}",
                "float" if layer.bits is None else str(layer.bits),
                f"{layer.weights:,}" if layer.weights else "",
                f"{layer.zeros / layer.weights:.0%}" if layer.weights else "",
            )
            for layer in self.layers
        ]
        shape = "×".join(map(str, self.input.shape))
        standardised = (self.input.mean, self.input.std) != (0, 1)
        scale = f", standing for (z - {_said(self.input.mean)}) / {_said(self.input.std)}" if standardised else ""
        caption = f"IntegerNetwork of {shape} integers from {self.input.low} to {self.input.high}{scale}"
        return Table(caption, ("step", "kind", "shape", "bounds", "bits", "weights", "zeros"), tuple(rows))

    def __repr__(self) -> str:
        return str(self._table())

    def _repr_html_(self) -> str:
        return self._table()._repr_html_()

    def to_c(self, folder: Any, name: str = "network") -> tuple[Path, Path]:
        """Write the network as C for a microcontroller: NAME.h with its numbers, and NAME.c, C99, that runs it.

        `void NAME_run(const uint8_t *input, float *output)` takes and gives one example (the types are those of the
        network's input and of its last step). It adds, subtracts and compares integers; it multiplies where a weight is not
        −1, 0 or 1, and scales the outputs of a `Head`, in float or in what -DNAME_REAL= says. Memory is static, as little as
        `memory.plan` finds. With -DNAME_FEATURES, `NAME_features` gives what every step gives, for tests.

        Args:
            folder: for the two files; made if need be. They are written whole or not at all.
            name: of the files and of what they define; a C identifier.

        Returns:
            The paths of the header and of the C file.

        Raises:
            ValueError: a name that C does not take.
            OSError: the files cannot be written.

        Example:
            >>> import tempfile
            >>> from anabook.deploy.steps import Flatten
            >>> net = IntegerNetwork(Input((2, 3), 0, 255), [Flatten(name="row", inputs=("input",))])
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     header, source = net.to_c(folder, name="tiny")
            ...     print(next(line for line in header.read_text().splitlines() if line.startswith("void")))
            void tiny_run(const uint8_t *input, int32_t *output);
        """
        from anabook.deploy import c_code

        return c_code.write(self, folder, name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IntegerNetwork):
            return NotImplemented
        pairs = zip((self.input, *self.steps), (other.input, *other.steps))
        return len(self.steps) == len(other.steps) and all(same(a, b) for a, b in pairs)

    __hash__ = None


def same(a: Any, b: Any) -> bool:
    """Whether two steps or inputs are equal in everything, types of arrays included."""
    if type(a) is not type(b):
        return False
    for field in fields(a):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if isinstance(x, np.ndarray) or isinstance(y, np.ndarray):
            if type(x) is not type(y) or x.dtype != y.dtype or not np.array_equal(x, y):
                return False
        elif x != y:
            return False
    return True


def _check_input(input: Input) -> None:
    _fields.check_input(input)
    if not input.low < input.high or input.low < INT32[0] or input.high > INT32[1]:
        raise ValueError(f"the input's bounds must increase and fit into 32 bits, not be {input.low} and {input.high}.")
    if not input.shape or min(input.shape) < 1:
        raise ValueError(f"the input's shape must have at least one axis, and none of length 0, not {tuple(input.shape)}.")
    for what in ("mean", "std"):
        _fields.check_channels(f"the input's {what}", getattr(input, what), input.shape)
        for value in getattr(input, f"{what}s"):
            _fields.check_size(f"the input's {what}", value)
    if min(input.stds) <= 0:
        raise ValueError(f"the input's std must be greater than 0, not {float(min(input.stds)):g}.")


def _said(value: Fraction | tuple[Fraction, ...]) -> str:
    """A number, or one for each channel, the first few of them."""
    if not isinstance(value, tuple):
        return f"{float(value):g}"
    return f"({', '.join(f'{float(each):g}' for each in value[:4])}{', …' if len(value) > 4 else ''})"


def _check_names(step: Step, known: dict[str, Extent], steps: tuple[Step, ...]) -> None:
    if step.name in known:
        raise ValueError(f"two steps have the name {step.name!r}.")
    for name in step.inputs:
        if name not in known:
            later = any(each.name == name for each in steps)
            raise ValueError(f"{step.name!r} takes {name!r}, which {'comes later' if later else 'is no step'}.")
    if isinstance(step, Head) and step is not steps[-1]:
        raise ValueError(f"the head {step.name!r} must be the last step: floats come out of it.")
