"""What a second worker brings: the rate of a sweep with two processes against that of one, in one run.

    python benchmarks/workers.py

The same runs (the scaled VGG on the stand-in for SVHN, which is made up on the spot) are swept with one process and with two, in
turn, three times; each process has one thread. Each sweep's rate is counted after its processes have started and compiled
their kernels: from the end of the first run on with one process, of the second with two. Prints the ratio of the medians;
nothing is stored.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

from anabook.datasets import standins, store
from anabook.experiments import make
from anabook.experiments.sweep import sweep

RUNS = 6
N_TRAIN = 5000


def rate(workers: int, folder: Path) -> float:
    """Runs a second, once warm."""
    ends: list[float] = []
    configs = [make("svhn-stand-in", "uniform-mode-static", 0, seed=seed, period=1, n_train=N_TRAIN) for seed in range(RUNS)]
    _, failed = sweep(
        configs,
        folder,
        workers=workers,
        threads=1,
        report=lambda text: ends.append(time.perf_counter()) if text.startswith("[") else None,
    )
    if failed:
        raise RuntimeError(f"{failed} of {RUNS} runs failed, and failures are no measure of speed: see {folder}.")
    return (len(ends) - workers) / (ends[-1] - ends[workers - 1])


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        os.environ["ANABOOK_DATA"] = name
        store.save(standins.house_numbers(N_TRAIN, 100))
        rates: dict[int, list[float]] = {1: [], 2: []}
        for turn in range(3):
            for workers, found in rates.items():
                found.append(rate(workers, Path(name) / f"{turn}-{workers}"))
        one, two = (statistics.median(rates[n]) for n in (1, 2))
        print(f"one process: {one:.3f} runs/s; two: {two:.3f} runs/s; ratio {two / one:.2f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
