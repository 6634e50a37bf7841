"""What the kernels cost, as ratios taken side by side in one process; writes RESULTS.md next to this file.

    python benchmarks/run.py [--repeats 25] [--output benchmarks/RESULTS.md]

Measured are calls on 64 numbers, kernels on tensors that fill the memory's bandwidth, noise that reaches many
thresholds, memory, training steps plain and compiled, and how long compiling takes. "fake_quantize" is
`torch.fake_quantize_per_tensor_affine`, the nearest that torch has: a quantiser with a straight-through gradient.
Where there is a GPU that CUDA can use, `gpu.py` writes a table of its own for it.

Every contender of a row takes its turn in every round, so that whatever else the machine does hits all alike; a ratio
is the median over the rounds of the ratio within a round.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from anabook import Quantiser
from anabook.models import vgg
from anabook.training import Quantise, Scaled, quantise
from anabook.training.captured import OPTIONS
from anabook.training.kernels import compiling

THREADS = 2
SHAPE = (32, 128, 32, 32)
TERNARY = Quantiser.ternary()
HERE = Path(__file__).parent


class Ratio(NamedTuple):
    """The median over the rounds, and the ratio of the two fastest runs."""

    median: float
    fastest: float


class Row(NamedTuple):
    """One line of the table: a figure, and the bar it is held against."""

    what: str
    value: float
    bar: float
    at_least: bool = False
    unit: str = ""
    fastest: float | None = None

    def __str__(self) -> str:
        met = self.value >= self.bar if self.at_least else self.value <= self.bar
        sign = "≥" if self.at_least else "≤"
        fastest = "" if self.fastest is None else f"{self.fastest:.2f}"
        bar, verdict = ("", "") if math.isnan(self.bar) else (f"{sign} {self.bar:g}{self.unit}", "yes" if met else "no")
        return f"| {self.what} | {self.value:.2f}{self.unit} | {fastest} | {bar} | {verdict} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=25, help="rounds of each comparison")
    parser.add_argument("--output", type=Path, default=HERE / "RESULTS.md")
    parser.add_argument("--compile-only", action="store_true", help="time the first training step of a VGG, and stop")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    if arguments.compile_only:
        print(first_use())
        return
    load = os.getloadavg()[0]
    rows = [
        *calls(arguments.repeats),
        *kernels(arguments.repeats),
        *floor(arguments.repeats),
        *own_density(arguments.repeats),
        *levels(arguments.repeats),
        *wide(max(5, arguments.repeats // 5)),
        *learned(arguments.repeats),
        memory(),
        brevitas(arguments.repeats),
        step(max(5, arguments.repeats // 3)),
        *compiled_steps(max(5, arguments.repeats // 3)),
        *compilation(),
    ]
    report(arguments.output, rows, arguments.repeats, (load, os.getloadavg()[0]))
    if torch.cuda.is_available():
        import gpu

        gpu.main(arguments.repeats)


def both_passes(op: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor) -> Callable[[], None]:
    def once() -> None:
        x.grad = None
        op(x).backward(grad)

    return once


def on_clock(once: Callable[[], None], times: int = 1) -> float:
    """The seconds that it takes."""
    start = time.perf_counter()
    for _ in range(times):
        once()
    return time.perf_counter() - start


def ratios(
    contenders: dict[str, Callable[[], None]],
    reference: str,
    repeats: int,
    measure: Callable[[Callable[[], None]], float] = on_clock,
) -> dict[str, Ratio]:
    """Each contender's time in units of the reference's."""
    for once in contenders.values():
        measure(once)
        measure(once)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, once in contenders.items():
            seconds[name].append(measure(once))
    return {
        name: Ratio(
            statistics.median(a / b for a, b in zip(times, seconds[reference])), min(times) / min(seconds[reference])
        )
        for name, times in seconds.items()
    }


def tensors() -> tuple[Tensor, Tensor]:
    return torch.randn(SHAPE, requires_grad=True), torch.randn(SHAPE)


def fake_quantise(x: Tensor) -> Tensor:
    return torch.fake_quantize_per_tensor_affine(x, 1.0, 0, -1, 1)


def calls(repeats: int) -> list[Row]:
    """What a call costs where the tensor costs nothing: 64 numbers, compiled and not."""
    x, grad = torch.randn(64, requires_grad=True), torch.randn(64)
    rows = []
    for compiled, bar in ((1, 3.0), (None, math.nan)):
        with compiling(compiled):
            contenders = {"ReLU": both_passes(torch.relu, x, grad)}
            for strategy in ("expectation", "mode", "random"):
                for family in ("uniform", "triangular", "normal", "logistic"):
                    contenders[f"{strategy}, {family}"] = both_passes(Quantise(TERNARY, family, strategy), x, grad)
            found = ratios(contenders, "ReLU", repeats, functools.partial(on_clock, times=100))
        for name, ratio in found.items():
            if name != "ReLU":
                what = f"call on 64 numbers, {name}, {'compiled' if compiled else 'not compiled'} / ReLU"
                rows.append(Row(what, ratio.median, bar, fastest=ratio.fastest))
    return rows


def kernels(repeats: int) -> list[Row]:
    """Every family and strategy on a ternary quantiser, at the noise of the start of the experiments."""
    bars = {
        ("expectation", "uniform"): 0.3,
        ("expectation", "triangular"): 0.3,
        ("expectation", "normal"): 0.9,
        ("expectation", "logistic"): 0.9,
        ("mode", "uniform"): 0.3,
        ("mode", "triangular"): 0.3,
        ("mode", "normal"): 0.6,
        ("mode", "logistic"): 0.6,
        ("random", "logistic"): 1.0,
    }
    x, grad = tensors()
    rows = []
    for strategy in ("expectation", "mode", "random"):
        for family in ("uniform", "triangular", "normal", "logistic"):
            ours = both_passes(Quantise(TERNARY, family, strategy), x, grad)
            ratio = ratios({"ours": ours, "fake": both_passes(fake_quantise, x, grad)}, "fake", repeats)["ours"]
            what = f"{strategy}, {family}, ternary / fake_quantize"
            rows.append(Row(what, ratio.median, bars.get((strategy, family), 1.2), fastest=ratio.fastest))
    relu = ratios({"relu": both_passes(torch.relu, x, grad), "fake": both_passes(fake_quantise, x, grad)}, "fake", repeats)
    rows.append(Row("for orientation: ReLU / fake_quantize", relu["relu"].median, math.nan, fastest=relu["relu"].fastest))
    return rows


class _Floor(torch.autograd.Function):
    """What no quantiser with an input to keep can do without: read x and write; read x and the gradient, and write."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return _one_pass(x.detach())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _one_pass(grad, ctx.saved_tensors[0].detach())


@torch.compile(dynamic=True)
def _one_pass(x: Tensor, y: Tensor | None = None) -> Tensor:
    return x * 2 if y is None else x * y


def floor(repeats: int) -> list[Row]:
    """How far the bars can be met at all: against compiled kernels of the same traffic that compute next to nothing."""
    from brevitas.core.quant import TernaryQuant
    from brevitas.core.scaling import ConstScaling

    x, grad = tensors()
    theirs = TernaryQuant(ConstScaling(1.0), threshold=0.5)
    contenders = {
        "the floor": both_passes(_Floor.apply, x, grad),
        "fake_quantize": both_passes(fake_quantise, x, grad),
        "Brevitas's ternary activation": both_passes(lambda t: theirs(t)[0], x, grad),
        **{
            f"{strategy}, {family}, ternary": both_passes(Quantise(TERNARY, family, strategy), x, grad)
            for strategy in ("expectation", "mode")
            for family in ("uniform", "triangular")
        },
    }
    found = ratios(contenders, "the floor", repeats)
    return [
        Row(
            f"for orientation: {name} / the floor (same traffic, one multiplication)",
            ratio.median,
            math.nan,
            fastest=ratio.fastest,
        )
        for name, ratio in found.items()
        if name != "the floor"
    ]


def own_density(repeats: int) -> list[Row]:
    """A density of the user's own, from its SymPy expression: a raised cosine."""
    import sympy as sp

    from anabook.symbolic import Density

    t = sp.Symbol("t")
    density = Density((1 + sp.cos(sp.pi * t)) / 2, t, (-1, 1))
    x, grad = tensors()
    rows = []
    for strategy in ("expectation", "mode", "random"):
        ours = both_passes(Quantise(TERNARY, density, strategy), x, grad)
        ratio = ratios({"ours": ours, "fake": both_passes(fake_quantise, x, grad)}, "fake", repeats)["ours"]
        rows.append(
            Row(
                f"{strategy}, raised cosine in SymPy, ternary / fake_quantize", ratio.median, math.nan, fastest=ratio.fastest
            )
        )
    return rows


def wide(repeats: int) -> list[Row]:
    """Noise that reaches many of the 255 thresholds of an 8-bit quantiser."""
    quantiser = Quantiser.linear(8, quantum=1.0, rounding="nearest")
    x, grad = (torch.rand(SHAPE) - 0.5) * 260, torch.randn(SHAPE)
    rows = []
    for family, bar in (("uniform", 1.5), ("triangular", 1.5), ("normal", 2.5), ("logistic", 2.5)):
        contenders = {
            str(std): both_passes(Quantise(quantiser, family, "expectation", std=std), x.requires_grad_(), grad)
            for std in (0.2, 10.0)
        }
        ratio = ratios(contenders, "0.2", repeats)["10.0"]
        rows.append(
            Row(
                f"256 levels, expectation, {family}: std 10 quanta / 0.2 quanta",
                ratio.median,
                bar,
                fastest=ratio.fastest,
            )
        )
    return rows


def levels(repeats: int) -> list[Row]:
    """What 256 levels cost over 3, with a noise of 0.2 quanta and inputs that use all levels."""
    rows = []
    grad = torch.randn(SHAPE)
    for family, bar in (("uniform", 1.3), ("normal", 2.0)):
        contenders = {}
        for bits, balanced in ((2, True), (8, False)):
            quantiser = Quantiser.linear(bits, quantum=1.0, rounding="nearest", balanced=balanced)
            x = (torch.rand(SHAPE) - 0.5) * (quantiser.n_levels + 1)
            module = Quantise(quantiser, family, "expectation", std=0.2)
            contenders[str(quantiser.n_levels)] = both_passes(module, x.requires_grad_(), grad)
        ratio = ratios(contenders, "3", repeats)["256"]
        rows.append(
            Row(f"256 levels / 3 levels, expectation, {family}, std 0.2 quanta", ratio.median, bar, fastest=ratio.fastest)
        )
    return rows


def learned(repeats: int) -> list[Row]:
    """A quantum that is a parameter, beside one that is fixed and beside none: in one pass each way, or in three."""
    x, grad = tensors()
    rows = []
    for strategy, family in (("mode", "uniform"), ("expectation", "normal")):
        contenders = {
            "learned": both_passes(Quantise(TERNARY, family, strategy, quantum="learned"), x, grad),
            "fixed": both_passes(Scaled(Quantise(TERNARY, family, strategy), 1.0), x, grad),
            "none": both_passes(Quantise(TERNARY, family, strategy), x, grad),
        }
        for reference, name in (("fixed", "a fixed one"), ("none", "none")):
            ratio = ratios(contenders, reference, repeats)["learned"]
            what = f"a learned quantum / {name}, {strategy}, {family}, ternary"
            rows.append(Row(what, ratio.median, math.nan, fastest=ratio.fastest))
    return rows


def memory() -> Row:
    """The largest amount of memory allocated over both passes, beyond the input and the incoming gradient."""
    x, grad = tensors()
    worst = 0.0
    for family in ("uniform", "triangular", "normal", "logistic"):
        for strategy in ("expectation", "mode", "random"):
            once = both_passes(Quantise(TERNARY, family, strategy), x, grad)
            once()
            x.grad = None
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
                once()
            held = peak = 0
            for event in profile.profiler.kineto_results.events():
                if event.name() == "[memory]":
                    held += event.nbytes()
                    peak = max(peak, held)
            worst = max(worst, peak / (x.numel() * x.element_size()))
    return Row("extra memory, any family and strategy, in tensors of the input's size", worst, 2.001)


def brevitas(repeats: int) -> Row:
    from brevitas.core.quant import TernaryQuant
    from brevitas.core.scaling import ConstScaling

    x, grad = tensors()
    theirs = TernaryQuant(ConstScaling(1.0), threshold=0.5)
    contenders = {
        "theirs": both_passes(lambda t: theirs(t)[0], x, grad),
        "ours": both_passes(Quantise(TERNARY, "uniform", "mode"), x, grad),
    }
    ratio = ratios(contenders, "ours", repeats)["theirs"]
    return Row(
        "Brevitas's ternary activation / ours (uniform, mode)", ratio.median, 5.0, at_least=True, fastest=ratio.fastest
    )


def training_step(
    net: nn.Module, program: Callable[[Tensor], Tensor] | None = None, batch: int = 128, device: str = "cpu"
) -> Callable[[], None]:
    x, y = torch.randn(batch, 3, 32, 32, device=device), torch.randint(10, (batch,), device=device)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    run = net if program is None else program

    def once() -> None:
        optimiser.zero_grad()
        nn.functional.cross_entropy(run(x), y).backward()
        optimiser.step()

    return once


def step(repeats: int) -> Row:
    """One training step of the VGG (width 1/4, batch 128), weights and activations ternary."""
    float_net = vgg(width=0.25)
    net = quantise(float_net, TERNARY, TERNARY, noise="uniform", strategy="mode")
    ratio = ratios({"ours": training_step(net), "float": training_step(float_net)}, "float", repeats)["ours"]
    return Row(
        "training step of the VGG (width 1/4, 32×32, batch 128), ours / float with ReLU",
        ratio.median,
        1.05,
        fastest=ratio.fastest,
    )


def compiled_steps(repeats: int) -> list[Row]:
    """The same with networks that torch.compile made one program of, with the options of `fit(compile=True)`."""
    float_net = vgg(width=0.25)
    nets = {"float": float_net}
    for strategy in ("mode", "expectation", "random"):
        nets[strategy] = quantise(float_net, TERNARY, TERNARY, noise="uniform", strategy=strategy)
    contenders = {name: training_step(net, torch.compile(net, dynamic=False, options=OPTIONS)) for name, net in nets.items()}
    found = ratios(contenders, "float", repeats)
    return [
        Row(
            f"the same under torch.compile, {strategy}, ours / float",
            found[strategy].median,
            1.1 if strategy == "mode" else math.nan,
            fastest=found[strategy].fastest,
        )
        for strategy in ("mode", "expectation", "random")
    ]


def first_use() -> float:
    """Seconds that the first training step and evaluation of a VGG take over the second ones."""
    net = quantise(vgg(width=0.25), TERNARY, TERNARY, noise="uniform", strategy="mode")
    once = training_step(net)
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        once()
        net.eval()(torch.randn(128, 3, 32, 32))
        net.train()
        seconds.append(time.perf_counter() - start)
    return seconds[0] - seconds[1]


def compilation() -> list[Row]:
    """First use in a fresh process, with an empty cache and then with the one that this has filled."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache}
        cold, warm = (
            float(
                subprocess.run(
                    [sys.executable, __file__, "--compile-only"], env=environment, check=True, capture_output=True, text=True
                ).stdout.split()[-1]
            )
            for _ in range(2)
        )
    return [
        Row("compile time of all kernels of a VGG, first use", cold, 60, unit=" s"),
        Row("the same with a warm cache", warm, 10, unit=" s"),
    ]


def processor() -> str:
    try:
        return re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())[1]
    except (OSError, TypeError):
        return platform.processor() or platform.machine()


def report(path: Path, rows: list[Row], repeats: int, load: tuple[float, float]) -> None:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "brevitas", "numpy"))
    lines = [
        "# What the kernels cost",
        "",
        "Written by `make bench`. Forward and backward in training mode on a float32 tensor of "
        f"{'×'.join(map(str, SHAPE))} unless said otherwise, {THREADS} threads. A ratio is the median over {repeats} "
        "rounds (a third as many for training steps) in which the contenders take turns; the bar is for the median. "
        "Beside it stands the ratio of the two fastest runs: far apart, they say that other programs disturbed the row.",
        "",
        f"Machine: {processor()}, {os.cpu_count()} cores; {platform.system()}, Python {platform.python_version()}, "
        f"{versions}. Load average {load[0]:.1f} at the beginning and {load[1]:.1f} at the end, of which the benchmark "
        "itself makes up to 2.",
        "",
        "| | median | fastest | bar | met |",
        "|---|---|---|---|---|",
        *map(str, rows),
        "",
    ]
    path.write_text("\n".join(lines))
    print("\n".join(lines[6:]))


if __name__ == "__main__":
    main()
