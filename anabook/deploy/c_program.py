"""The C text of an integer network, put together step by step."""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import prod
from string import Template
from typing import Any

import numpy as np

from anabook.deploy import c_helpers as helpers
from anabook.deploy.memory import plan
from anabook.deploy.running import Extent
from anabook.deploy.steps import INPUT, Add, Concat, Flatten, Head, MaxPool, Step, SumPool, Threshold, Weighted

LINEARS = {"ternary": helpers.LINEAR_TERNARY, "int8": helpers.LINEAR_INT8, "real": helpers.LINEAR_REAL}
CONVOLUTIONS = {"ternary": helpers.CONVOLVE_TERNARY, "int8": helpers.CONVOLVE_INT8}
TEMPLATES = {"header": Template(helpers.HEADER), "source": Template(helpers.SOURCE), "real": Template(helpers.REAL)}
SHORT = {"uint8": "u8", "int8": "s8", "int16": "s16", "int32": "s32"}


def pack(weights: np.ndarray) -> np.ndarray:
    """Weights of −1, 0 and 1, five to a byte, so that they come out by additions and shifts alone.

    Five digits d = weight + 1 in base 3, the first one the most significant, are a number v < 243. The byte is v/243 as a
    fraction of 256, rounded up. Three times the byte then has the first digit above its eighth bit and the rest, a
    fraction again, below. Two bits a weight take a quarter more and are read about as fast; a number in base 3 as it stands
    would need divisions, or a table.

    Args:
        weights: integers in {−1, 0, 1} of any shape, read in the order of rows; zeros fill up the last byte.

    Example:
        >>> pack(np.array([-1, 0, 1, 1, -1, 0]))
        array([ 54, 128], dtype=uint8)
    """
    digits = np.append(np.ravel(weights).astype(np.int64) + 1, np.ones(-np.size(weights) % 5, np.int64)).reshape(-1, 5)
    value = digits @ 3 ** np.arange(4, -1, -1)
    return ((value * 256 + 242) // 243).astype(np.uint8)


def numbers(values: Iterable[Any], indent: str = "    ") -> str:
    """Values of a table in lines of at most a hundred characters."""
    lines, line = [], indent
    for value in values:
        if len(line) + len(str(value)) > 98:
            lines.append(line.rstrip())
            line = indent
        line += f"{value}, "
    return "\n".join([*lines, line.rstrip().rstrip(",")])


def words(values: Iterable[Any]) -> str:
    """A shape as it is written: 3×8×8, in the letters that C knows."""
    return " x ".join(map(str, values))


def plain(name: str) -> str:
    """A step's name as it may stand in a comment of C."""
    return re.sub(r"[^\w .:-]", "_", name, flags=re.ASCII)


def thresholds(step: Threshold, shape: tuple[int, ...], given: Any) -> tuple[np.ndarray, np.ndarray]:
    """Thresholds as C wants them, none further out than what comes in can reach: (channels, kinds of places, thresholds).

    And for each place of a channel its kind: places that share their thresholds in all channels are of one kind.
    """
    table = step.thresholds.astype(np.int64)
    low, high = given.channels(step.name, step.signs)
    ends = [bound.reshape(-1, *[1] * (len(shape) - 1)) for bound in (low, high + 1)]
    table = np.clip(table, *ends)
    if prod(table.shape[2:]) > 1:
        table = np.broadcast_to(table, (len(table), *shape))
    table = table.reshape(len(table), shape[0], -1).transpose(2, 1, 0)
    kinds, places = np.unique(table, axis=0, return_inverse=True)
    return kinds.transpose(1, 0, 2), places.ravel()


class Code:
    """The C text of a network, put together step by step.

    Attributes:
        plan: where the tensors lie.
        comes: for each step's name the type of its output and an expression for where it lies.
        tables: of the header.
        functions: those that the steps call, by name, each after those that it calls.
        copies: those that only `NAME_features` calls.
        windows: sizes of convolutions and pools.
        body: lines of the function that runs the network.
        starts: where each step's output begins among all that `NAME_features` gives.
        n_kept: how many integers these are.
    """

    def __init__(self, network: Any, name: str) -> None:
        self.network = network
        self.name = name
        self.plan = plan(network)
        self.tables: list[str] = []
        self.functions: dict[str, str] = {}
        self.copies: dict[str, str] = {}
        self.windows: list[str] = []
        self.body: list[str] = []
        self.starts: dict[str, int] = {}
        self.n_kept = 0
        self.numbers = {step.name: number for number, step in enumerate(network.steps)}
        self.comes = {INPUT: (network.extents[INPUT].dtype.name, "input")}
        for step in network.steps:
            self.place(step)
        for number, step in enumerate(network.steps):
            emit = getattr(self, f"emit_{type(step).__name__.lower()}", None)
            if emit is None:
                raise ValueError(f"step {step.name!r} is a {type(step).__name__}, which has no form in C.")
            emit(number, step)
        self.emit_output()

    # What steps share

    def place(self, step: Step) -> None:
        if isinstance(step, Flatten):
            self.comes[step.name] = self.comes[step.inputs[0]]
        elif step.name in self.plan.places:
            place = self.plan.places[step.name]
            offset = f" + {place.offset}" if place.offset else ""
            self.comes[step.name] = (place.kind, f"memory_{SHORT[place.kind]}{offset}")
        if not isinstance(step, Head):
            self.starts[step.name] = self.n_kept
            self.n_kept += self.size(step.name)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.network.extents[name].shape)

    def size(self, name: str) -> int:
        return prod(self.shape(name))

    def table(self, kind: str, what: str, step: Step, values: Any, comment: str = "") -> None:
        """Put a table into the header, with the number of its step in its name."""
        listed = np.ravel(values).tolist() or [0]
        name = f"{what}_{self.numbers[step.name]}"
        about = f"/* {plain(step.name)}{comment} */\n"
        self.tables.append(f"{about}static const {kind} {name}[{len(listed)}] = {{\n{numbers(listed)}\n}};")

    def function(self, name: str, template: str, among: dict[str, str] | None = None, **fields: str) -> str:
        """The name of a function, which is written the first time that it is asked for."""
        kinds = {letter: fields[letter] for letter in "abc" if letter in fields}
        fields |= {letter: SHORT[kind] for letter, kind in kinds.items()}
        fields |= {letter.upper(): f"{kind}_t" for letter, kind in kinds.items()}
        name = Template(name).substitute(fields)
        text = Template(Template(template).safe_substitute(fields)).substitute(fields)  # a field may hold another one
        (self.functions if among is None else among).setdefault(name, text)
        return name

    def shifted(self, verb: str, a: str, b: str) -> str:
        """A function that goes through the places of a window with one corner of it."""
        self.functions.setdefault("window", helpers.WINDOW)
        return self.function("${verb}_${a}_${b}", helpers.SHIFTED, a=a, b=b, verb=verb, **helpers.SHIFTS[verb])

    def window(self, step: Any, channels: int, kernel: tuple[int, int]) -> str:
        """A constant with the sizes of a convolution or a pool."""
        _, height, width = self.shape(step.inputs[0])
        _, out_height, out_width = self.shape(step.name)
        (sy, sx), (py, px), (dy, dx) = step.stride, step.padding, getattr(step, "dilation", (1, 1))
        fields = [channels, height, width, height * width, out_height, out_width, out_height * out_width, *kernel]
        fields += [sy, sx, dy, dx, py, px, sy * width, dy * width, py * width]
        name = f"window_{self.numbers[step.name]}"
        self.windows.append(f"static const window {name} = {{{', '.join(map(str, fields))}}};")
        return name

    def note(self, step: Step, text: str) -> None:
        names = [plain(name) for name in (step.name, *step.inputs)]
        self.body.append(f"\n    /* step {self.numbers[step.name]}, {names[0]}: {text} of {' and '.join(names[1:])} */")

    def lines(self, indent: int, *lines: str) -> None:
        self.body += [f"{' ' * indent}{line}" for line in lines]

    def keep(self, step: Step, indent: int = 4, where: str = "", part: str = "") -> None:
        """A line that copies a step's output for `NAME_features`: the whole of it, or the channel that lies at `where`."""
        kind, whole = ("int32", where) if where else self.comes[step.name]
        copy = self.function("copy_${a}", helpers.COPY, self.copies, a=kind)
        size = prod(self.shape(step.name)[1:]) if where else self.size(step.name)
        at = f"{self.starts[step.name]} + {size} * {part}" if where else f"{self.starts[step.name]}"
        self.lines(indent, f"KEEP({copy}, {whole}, {size}, {at});")

    def sums(self, step: Weighted, declare: Iterable[str], target: str, after: Iterable[str]) -> None:
        """A loop over the channels of a layer, each of which is summed at `target`, and then treated as `after` says."""
        kind, where = self.comes[step.inputs[0]]
        weights, form = self.weights(step)
        if step.weights.ndim == 2:
            call = self.function(f"linear_{form}_${{a}}", LINEARS[form], a=kind)
            work = f"{target}[0] = {call}({weights}, in, {step.weights.shape[1]});"
        else:
            for verb in ("plus", "minus") if form == "ternary" else ("times",):
                self.shifted(verb, kind, "int32")
            call = self.function(f"convolve_{form}_${{a}}", CONVOLUTIONS[form], a=kind)
            window = self.window(step, step.weights.shape[1], step.weights.shape[2:])
            work = f"{call}({weights}, in, {target}, &{window});"
        number = self.numbers[step.name]
        reader = (
            f"weights w = weights_at(weights_{number});" if form == "ternary" else f"const int8_t *w = weights_{number};"
        )
        self.lines(4, "{")
        self.lines(8, reader, f"const {kind}_t *in = {where};", *declare)
        after = [*([f"w += {step.weights[0].size};"] if form == "int8" else []), *after]
        if step.groups > 1:
            each, onward = len(step.weights) // step.groups, self.size(step.inputs[0]) // step.groups
            self.lines(8, "int in_group = 0;")
            after += [f"if (++in_group == {each}) {{", f"    in += {onward};", "    in_group = 0;", "}"]
        self.lines(8, f"for (int i = 0; i < {len(step.weights)}; i++) {{")
        self.lines(12, work)
        self.keep(step, 12, target, "i")
        self.lines(12, *after)
        self.lines(8, "}")
        self.lines(4, "}")

    def weights(self, step: Weighted | Head) -> tuple[str, str]:
        """Put a layer's weights into the header; how a function is handed them, and what they are."""
        comment = f": weights, {words(step.weights.shape)}"
        if not np.issubdtype(step.weights.dtype, np.integer):
            self.table(f"{self.name.upper()}_REAL", "weights", step, step.weights.astype(np.float64), comment)
            return "w", "real"
        if np.abs(step.weights.astype(np.int64)).max(initial=0) > 1:
            self.table("int8_t", "weights", step, step.weights, comment)
            return "w", "int8"
        self.functions.setdefault("weights_at", helpers.READER)
        self.table("uint8_t", "weights", step, pack(step.weights), f"{comment}, five to a byte")
        return "&w", "ternary"

    # The steps

    def emit_weighted(self, number: int, step: Weighted) -> None:
        if step.name not in self.plan.joined:
            self.note(step, f"the sums, {words(self.shape(step.name))},")
            self.sums(
                step, [f"int32_t *out = {self.comes[step.name][1]};"], "out", [f"out += {prod(self.shape(step.name)[1:])};"]
            )

    def emit_threshold(self, number: int, step: Threshold) -> None:
        kind, out = self.comes[step.name]
        (source,) = step.inputs
        channels, size = self.shape(step.name)[0], prod(self.shape(step.name)[1:])
        joined = source in self.plan.joined
        a = "int32" if joined else self.comes[source][0]
        table, places = thresholds(step, self.shape(step.name), self.network.extents[source])
        c = Extent((), table.min(initial=-1), table.max(initial=0)).dtype.name
        self.table(f"{c}_t", "thresholds", step, table, f": thresholds, {words(table.shape)}")
        self.table(f"{kind}_t", "levels", step, step.levels, ": levels")
        steps, more, among = len(step.levels) - 1, "", ""
        if table.shape[1] > 1:
            among = "uint16" if table[0].size < 2**16 else "uint32"
            self.table(f"{among}_t", "places", step, places * steps, ": where the thresholds of each place begin")
            more = f", places_{number}"
        form = helpers.quantise(among, step.signs is not None)
        call = self.function("${verb}_${a}_${b}_${c}", helpers.QUANTISE, a=a, b=kind, c=c, **form)
        declare = [f"{kind}_t *out = {out};", f"const {c}_t *t = thresholds_{number};"]
        if step.signs is not None:
            self.table("int8_t", "signs", step, step.signs, ": signs of what comes in")
            declare.append(f"const int8_t *sign = signs_{number};")
            more += ", *sign++"
        ready = f"{call}({'sums' if joined else 'in'}, out, {size}, t, {steps}, levels_{number}{more});"
        after = [ready, f"out += {size};", f"t += {table[0].size};"]
        self.note(step, f"{len(step.levels)} levels, {words(self.shape(step.name))},")
        if joined:
            self.sums(self.network.steps[self.numbers[source]], declare, "sums", after)
        else:
            self.lines(4, "{")
            self.lines(
                8, f"const {a}_t *in = {self.comes[source][1]};", *declare, f"for (int i = 0; i < {channels}; i++) {{"
            )
            self.lines(12, after[0], f"in += {size};", *after[1:])
            self.lines(8, "}")
            self.lines(4, "}")
        self.keep(step)

    def emit_maxpool(self, number: int, step: MaxPool) -> None:
        self.pool(step, "greatest", "0" if (kind := self.comes[step.name][0]) == "uint8" else f"{kind.upper()}_MIN")

    def emit_sumpool(self, number: int, step: SumPool) -> None:
        self.pool(step, "plus", "0")

    def pool(self, step: MaxPool | SumPool, verb: str, start: str) -> None:
        (kind, where), (to, out) = self.comes[step.inputs[0]], self.comes[step.name]
        inner = self.shifted(verb, kind, to)
        what = {"greatest": "greatest", "plus": "sum"}[verb]
        call = self.function(f"{what}_of_${{a}}_${{b}}", helpers.POOL, a=kind, b=to, what=what, start=start, inner=inner)
        window = self.window(step, self.shape(step.name)[0], step.kernel)
        self.note(step, f"the {what} of each window, {words(self.shape(step.name))},")
        self.lines(4, f"{call}({where}, {out}, &{window});")
        self.keep(step)

    def emit_add(self, number: int, step: Add) -> None:
        (a, one), (b, other), (c, out) = (self.comes[name] for name in (*step.inputs, step.name))
        call = self.function("add_${a}_${b}_${c}", helpers.ADD, a=a, b=b, c=c)
        self.note(step, f"the sum, {words(self.shape(step.name))},")
        self.lines(4, f"{call}({one}, {other}, {out}, {self.size(step.name)});")
        self.keep(step)

    def emit_concat(self, number: int, step: Concat) -> None:
        to, out = self.comes[step.name]
        self.note(step, f"the channels, one after the other, {words(self.shape(step.name))},")
        at = 0
        for name in step.inputs:
            kind, where = self.comes[name]
            call = self.function("join_${a}_${b}", helpers.JOIN, a=kind, b=to)
            self.lines(4, f"{call}({where}, {out}{f' + {at}' if at else ''}, {self.size(name)});")
            at += self.size(name)
        self.keep(step)

    def emit_flatten(self, number: int, step: Flatten) -> None:
        self.note(step, f"as one row, {words(self.shape(step.name))}: nothing to do. The row")
        self.keep(step)

    def emit_head(self, number: int, step: Head) -> None:
        kind, where = self.comes[step.inputs[0]]
        real = f"{self.name.upper()}_REAL"
        weights, form = self.weights(step)
        call = self.function(f"linear_{form}_${{a}}", LINEARS[form].replace("NETWORK_REAL", real), a=kind)
        self.table(real, "scale", step, step.scale, ": what the sums are multiplied by")
        self.table(real, "bias", step, step.bias, ": what is added then")
        outputs, inputs = step.weights.shape
        self.note(step, f"the outputs, {outputs}, scaled sums")
        self.lines(4, "{")
        kinds = {"ternary": "weights w = weights_at(", "int8": "const int8_t *w = (", "real": f"const {real} *w = ("}
        self.lines(8, f"{kinds[form]}weights_{number});", f"for (int i = 0; i < {outputs}; i++) {{")
        self.lines(12, f"{real} product = scale_{number}[i] * ({real}){call}({weights}, {where}, {inputs});")
        self.lines(12, f"output[i] = product + bias_{number}[i];", *([f"w += {inputs};"] if form != "ternary" else []))
        self.lines(8, "}")
        self.lines(4, "}")

    def emit_output(self) -> None:
        last = self.network.steps[-1]
        if not isinstance(last, Head):
            kind, where = self.comes[last.name]
            copy = self.function("copy_${a}", helpers.COPY, a=kind)
            self.copies.pop(copy, None)
            self.lines(0, "", f"    {copy}({where}, output, {self.size(last.name)});")

    # The two files

    @property
    def result(self) -> str:
        return f"{self.name.upper()}_REAL" if isinstance(self.network.steps[-1], Head) else "int32_t"

    @property
    def input(self) -> str:
        return f"{self.comes[INPUT][0]}_t"

    @property
    def outputs(self) -> int:
        last = self.network.steps[-1]
        return len(last.weights) if isinstance(last, Head) else self.size(last.name)

    def header(self) -> str:
        """The text of the header."""
        upper, given = self.name.upper(), self.network.input
        head = isinstance(self.network.steps[-1], Head)
        return TEMPLATES["header"].substitute(
            name=self.name,
            NAME=upper,
            shape=words(given.shape),
            low=given.low,
            high=given.high,
            inputs=prod(given.shape),
            outputs=self.outputs,
            kept=self.n_kept,
            input=self.input,
            result=self.result,
            real=TEMPLATES["real"].substitute(NAME=upper) if head else "",
            tables="\n\n".join(self.tables),
        )

    def source(self) -> str:
        """The text of the C file."""
        buffers = [f"static {kind}_t memory_{SHORT[kind]}[{size}];" for kind, size in self.plan.buffers.items()]
        if self.plan.channel:
            buffers.append(f"static int32_t sums[{self.plan.channel}];")
        return TEMPLATES["source"].substitute(
            name=self.name,
            NAME=self.name.upper(),
            functions="\n".join(self.functions.values()),
            windows="\n".join([*self.windows, ""] if self.windows else []),
            buffers="\n".join(buffers),
            peak=self.plan.peak,
            copies="\n".join(self.copies.values()),
            input=self.input,
            result=self.result,
            body="\n".join(self.body).strip("\n"),
        )
