"""Draw the figures of the recorded experiments from `data/results`.

    python tools/figures.py                                  every figure, to _build/experiments
    python tools/figures.py cifar10 gsc12 --to FOLDER        those of some data sets
    python tools/figures.py --results FOLDER --size paper    other runs

The files are DATA-NAME.png, with the names of `anabook.plots.EXPERIMENT_FIGURES`, and "order" and "sizes"; the chapters call the
same functions, and `tools/figure_pack.py` packs what the chapters have drawn. A figure none of whose units has been run is left
out, and named.

Exit codes: 0 figures were written, 2 there is nothing to draw, or a name is wrong.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from anabook import plots
from anabook._validate import choice
from anabook._validate import path as path_at
from anabook.experiments import results

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = "cifar10"  # with what the order of units on another data set is compared


def drawn(name: str, frame) -> bool:
    """Whether the runs contain what a figure shows."""
    annealed = frame[(frame["std"] == "dynamic")]
    return {
        "static": (frame["schedule"] == "static").any(),
        "strategies": (annealed["mean"] == "static").any(),
        "noises": annealed["noise"].nunique() > 1,
        "dynamic-mean": (annealed["mean"] == "dynamic").any(),
    }.get(name, True)


def draw(frame, task: str, size: str, to: Path) -> list[Path]:
    """All figures of one data set; returns the files."""
    runs = results.select(frame, task, size)
    written = []
    for name, figure in plots.EXPERIMENT_FIGURES.items():
        if not drawn(name, runs):
            print(f"{task}-{name}: not run")
            continue
        path = to / f"{task}-{name}.png"
        written.append(save(figure(runs), path))
    sizes = frame[frame["task"] == task]
    if sizes.loc[sizes["measured_on"] == "validation", "size"].nunique() > 1:
        written.append(save(plots.size_curves(sizes), to / f"{task}-sizes.png"))
    if task != REFERENCE and REFERENCE in set(frame.loc[frame["size"] == size, "task"]):
        written.append(save(plots.order(results.select(frame, REFERENCE, size), runs), to / f"{task}-order.png"))
    return written


def save(figure, path: Path) -> Path:
    """Write a figure and forget it."""
    figure.savefig(path, dpi=130, metadata={"Software": None})
    plt.close("all")
    return path


def main(words: list[str] | None = None) -> int:
    """Parse the command line and draw."""
    parser = argparse.ArgumentParser(description="Draw the figures of recorded experiments.")
    parser.add_argument("data", nargs="*", help="data sets (all that are recorded at this size)")
    parser.add_argument(
        "--to", default=ROOT / "_build" / "experiments", metavar="FOLDER", help="where to write (_build/experiments)"
    )
    parser.add_argument("--results", metavar="FOLDER", help="recorded runs (data/results, and those that come with anabook)")
    parser.add_argument("--size", default="scaled", help="of the runs (scaled)")
    arguments = parser.parse_args(words)
    try:
        to = path_at(arguments.to, "--to")
        frame = results.load(arguments.results)
        known = sorted(
            frame.loc[(frame["size"] == arguments.size) & (frame["measured_on"] == "validation"), "task"].unique()
        )
        tasks = arguments.data or known
        for task in tasks:
            choice(task, known, "the data set")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if not tasks:
        print(f"there are no runs of size {arguments.size!r} to draw.", file=sys.stderr)
        return 2
    plots.use_style()
    try:
        to.mkdir(parents=True, exist_ok=True)
        for task in tasks:
            for path in draw(frame, task, arguments.size, to):
                print(path)
    except (OSError, ValueError) as error:  # a folder that cannot be written; runs that must not be averaged
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
