"""What the kernels and a training step cost on a GPU; writes RESULTS-<card>.md next to this file. See `run.py`.

python benchmarks/gpu.py
"""

from __future__ import annotations

import functools
import math
import platform
import re
import statistics
import time
from collections.abc import Callable

import torch
from run import HERE, TERNARY, Row, _Floor, both_passes, fake_quantise, ratios, training_step
from torch import Tensor, nn

from anabook import Quantiser, Schedule, training
from anabook.models import vgg
from anabook.training import Quantise, quantise
from anabook.training.kernels import compiling

SHAPE = (256, 128, 32, 32)
BATCH = 256
FAMILIES = {"uniform": 1.3, "triangular": 1.3, "normal": 1.6, "logistic": 1.6}


def main(repeats: int = 25) -> None:
    """Measure everything and write the table."""
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False), compiling(2**14):
        rows = [*kernels(repeats), *wide(repeats), *steps(repeats), *fits()]
    report(rows, repeats)


def on_events(once: Callable[[], None], times: int = 1) -> float:
    """The milliseconds between two events on the GPU, waiting before and after."""
    torch.cuda.synchronize()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(times):
        once()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end)


def kernels(repeats: int) -> list[Row]:
    """Every family and strategy on 33 million numbers, against compiled kernels that compute next to nothing."""
    x, grad = torch.randn(SHAPE, device="cuda", requires_grad=True), torch.randn(SHAPE, device="cuda")
    contenders = {"the floor": both_passes(_Floor.apply, x, grad), "fake_quantize": both_passes(fake_quantise, x, grad)}
    for strategy in ("expectation", "mode", "random"):
        for family in FAMILIES:
            contenders[f"{strategy}, {family}, ternary"] = both_passes(Quantise(TERNARY, family, strategy).cuda(), x, grad)
    rows = []
    for name, ratio in ratios(contenders, "the floor", repeats, functools.partial(on_events, times=10)).items():
        strategy, _, family = name.partition(", ")
        bar = 1.6 if strategy == "random" else FAMILIES.get(family.partition(",")[0], math.nan)
        if name != "the floor":
            rows.append(
                Row(f"{name} / the floor (same traffic, one multiplication)", ratio.median, bar, fastest=ratio.fastest)
            )
    return rows


def wide(repeats: int) -> list[Row]:
    """Noise that reaches many of the 255 thresholds of an 8-bit quantiser."""
    quantiser = Quantiser.linear(8, quantum=1.0, rounding="nearest")
    x, grad = (torch.rand(SHAPE, device="cuda") - 0.5) * 260, torch.randn(SHAPE, device="cuda")
    rows = []
    for family, bar in zip(FAMILIES, (1.5, 1.5, 2.5, 2.5)):
        contenders = {
            str(std): both_passes(Quantise(quantiser, family, "expectation", std=std).cuda(), x.requires_grad_(), grad)
            for std in (0.2, 10.0)
        }
        ratio = ratios(contenders, "0.2", repeats, functools.partial(on_events, times=5))["10.0"]
        what = f"256 levels, expectation, {family}: std 10 quanta / 0.2 quanta"
        rows.append(Row(what, ratio.median, bar, fastest=ratio.fastest))
    return rows


def nets() -> dict[str, nn.Module]:
    """The float VGG of width 1, and the same quantised under each strategy."""
    made = {"float": vgg()}
    for strategy in ("mode", "expectation", "random"):
        made[strategy] = quantise(vgg(), TERNARY, TERNARY, noise="uniform", strategy=strategy)
    return made


def steps(repeats: int) -> list[Row]:
    """One training step of the VGG of width 1, step by step."""
    rows = []
    for precision in (None, torch.bfloat16):
        contenders = {
            name: training_step(net.cuda(), autocast(net, precision), BATCH, "cuda") for name, net in nets().items()
        }
        found = ratios(contenders, "float", repeats, functools.partial(on_events, times=5))
        kind = "bfloat16" if precision else "float32"
        for strategy in ("mode", "expectation", "random"):
            what = f"training step of the VGG (width 1, batch {BATCH}, {kind}), eager, {strategy}, ours / float"
            rows.append(Row(what, found[strategy].median, 1.25, fastest=found[strategy].fastest))
    return rows


def autocast(net: nn.Module, precision: torch.dtype | None) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        with torch.autocast("cuda", precision, enabled=precision is not None):
            return net(x)

    return run


def fits() -> list[Row]:
    """The step as `fit(compile=True)` captures it, for ours and for float, with everything that goes with it."""
    rows = []
    for precision, channels_last, bar in ((None, False, 5.0), ("bfloat16", True, 3.0)):
        kind = f"{precision or 'float32'}{', channels-last' if channels_last else ''}"
        taken = {name: fitted(net, precision, channels_last) for name, net in nets().items()}
        for strategy in ("mode", "expectation", "random"):
            ratio = taken[strategy] / taken["float"]
            what = f"the same, captured, {kind}, {strategy}, both through fit, ours / float"
            rows.append(Row(what, ratio, 1.1))
            rows.append(Row(f"captured step, {kind}, {strategy}", taken[strategy], bar, unit=" ms"))
        rows.append(Row(f"captured step, {kind}, float network", taken["float"], math.nan, unit=" ms"))
    return rows


def fitted(net: nn.Module, precision: str | None, channels_last: bool, epochs: int = 6, n_steps: int = 40) -> float:
    """Milliseconds a step, the median over the epochs after the first two."""
    data = torch.randn(BATCH * n_steps, 3, 32, 32, device="cuda"), torch.randint(10, (BATCH * n_steps,), device="cuda")
    quantised = any(isinstance(module, Quantise) for module in net.modules())
    schedule = Schedule.static(len(training.layers(net)), std=0.2887) if quantised else None
    torch.cuda.synchronize()
    marks = []

    def mark(*_: object) -> None:
        torch.cuda.synchronize()
        marks.append(time.perf_counter())

    training.fit(
        net,
        data,
        schedule,
        epochs=epochs,
        batch_size=BATCH,
        device="cuda",
        precision=precision,
        channels_last=channels_last,
        compile=True,
        initialise="near_thresholds" if quantised else None,
        callback=mark,
        progress=False,
    )
    return 1e3 * statistics.median(b - a for a, b in zip(marks[1:], marks[2:])) / n_steps


def report(rows: list[Row], repeats: int) -> None:
    """Write the table to a file with the card's name."""
    card = torch.cuda.get_device_name(0)
    path = HERE / f"RESULTS-{re.sub(r'[^A-Za-z0-9]+', '-', card).strip('-')}.md"
    lines = [
        f"# What the kernels and a training step cost on an {card}",
        "",
        f"Written by `make bench`. Forward and backward in training mode on {'×'.join(map(str, SHAPE))} numbers of float32 "
        f"unless said otherwise. A ratio is the median over {repeats} rounds in which the contenders take turns; a time is "
        "the median over epochs.",
        "",
        f"Machine: {card}; {platform.system()}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"CUDA {torch.version.cuda}.",
        "",
        "| | median | fastest | bar | met |",
        "|---|---|---|---|---|",
        *map(str, rows),
        "",
    ]
    path.write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
