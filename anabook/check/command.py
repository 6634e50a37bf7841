"""`anabook grade FOLDER`: the part of the command line that belongs to courses."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from anabook import _validate
from anabook.check import grading


def add(commands: argparse._SubParsersAction) -> None:
    """Add the command to those of `anabook`."""
    parser = commands.add_parser(
        "grade",
        help="run a folder of students' notebooks, and say which answers are right",
        description="Run each notebook in FOLDER in a process of its own, without a network, and judge what it hands to check. "
        "FOLDER holds a notebook for each student (anna.ipynb), or a folder (anna/02-noise.ipynb); nothing in it is changed.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="with the notebooks that were handed in")
    parser.add_argument("--csv", default="grades.csv", metavar="FILE", help="where to write marks (%(default)s)")
    parser.add_argument("--seconds", type=float, default=300, help="that a notebook may take (%(default)g)")
    parser.add_argument("--memory", type=float, default=4, metavar="GIB", help="that it may fill with data (%(default)g)")
    parser.add_argument("--exercises", metavar="FILE", help="a TOML file of exercises of your own, besides the book's")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Grade, print the table and write the CSV file; returns the exit code."""
    folder, target = _validate.path(arguments.folder, "FOLDER"), _validate.path(arguments.csv, "--csv")
    if folder.is_dir():
        grading.check_target(target, folder)
    results = grading.grade(
        folder, seconds=arguments.seconds, memory=arguments.memory, exercises=arguments.exercises, report=_progress
    )
    grading.write_csv(results, target)
    print(grading.table(results))
    print(fences_held(results))
    print(f"{target}: a row for each notebook, a column for each exercise")
    return 0


def fences_held(results: list[grading.Graded]) -> str:
    """What the notebooks that ran were kept from, and by whom."""
    held = [set(one.held) for one in results if one.marks or one.held]
    by_system = set.intersection(*held) if held else set()
    names = {"network": "no network", "files": "no writing outside a copy, no other programs"}
    strong = [what for name, what in names.items() if name in by_system]
    weak = [what for name, what in names.items() if name not in by_system]
    parts = [f"{', '.join(strong)} (refused by the system)"] if strong else []
    parts += [f"{', '.join(weak)} (refused by Python, which code that sets out to can get around)"] if weak else []
    return f"Each notebook had {'; '.join(parts)}."


def _progress(one: grading.Graded) -> None:
    if sys.stderr.isatty():
        print(f"{Path(one.notebook).name}: {len(one.labels('right'))} right", file=sys.stderr)
