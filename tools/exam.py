"""Exams whose numbers come from a seed that only the lecturer knows: one sheet a variant, a key, and a file for `anabook grade`.

    python tools/exam.py --seed 20261128 --variants 3           into _build/exam/
    python tools/exam.py --seed 20261128 --questions stair average --out DIR

A sheet (exam-a.ipynb, exam-b.ipynb, …) has the same questions with numbers of its own, and no hint whether an answer is right.
`key.csv` has the answers, `answers.toml` is for marking: anabook grade FOLDER --exercises answers.toml. Neither is for students.
The same seed gives the same exam.

Exit codes: 0 written, 2 bad arguments.
"""

from __future__ import annotations

import argparse
import csv
import math
import string
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import numpy as np

from anabook import Noise, Quantiser, Regularisation, Schedule, _validate
from anabook.check import as_toml, exercise

FIRST = """\
# Your answers are noted, and judged when the exam is marked. The last call for a question counts.
import anabook.check


def hand_in(label, answer):
    try:
        anabook.check.check(label, answer)
    except ValueError:  # the answers are not in your package
        print(f"noted for {label}: {answer!r}")"""


@dataclass(frozen=True)
class Question:
    """A question with its numbers put in, and its true answer."""

    text: str
    answer: Any
    decimals: int | None
    minutes: int


def stair(rng: np.random.Generator) -> Question:
    """Read a stair's values off its levels and thresholds."""
    levels = np.sort(rng.choice(np.arange(-5, 6), 4, replace=False))
    thresholds = np.sort(rng.choice(np.arange(-7, 8), 3, replace=False)) / 4
    x = [float(thresholds[1]), float(thresholds[0]) - 0.1, float(thresholds[2]) + 0.1, float(thresholds[1]) - 0.01]
    text = (
        f"A quantiser has the levels {_list(levels)} and the thresholds {_list(thresholds)}. A threshold belongs to the bin "
        f"above it. What are its values at {_list(x)}, in this order?"
    )
    return Question(text, Quantiser(levels, thresholds)(np.array(x)), None, 5)


def average(rng: np.random.Generator) -> Question:
    """The expectation of a ternary unit under uniform noise."""
    half_width, x = rng.choice([0.3, 0.4, 0.5, 0.6, 0.8]), rng.integers(-9, 10) / 10
    found = Regularisation(Quantiser.ternary(), Noise.covering("uniform", half_width=float(half_width)))(x)
    text = (
        f"Uniform noise with mean 0 and half-width {half_width:g} is subtracted from the input of the ternary quantiser (levels "
        f"$-1, 0, 1$, thresholds $\\pm\\frac12$). What is the average output at $x = {x:g}$? (4 decimals)"
    )
    return Question(text, float(found), 4, 10)


def slope(rng: np.random.Generator) -> Question:
    """The slope of the expectation under triangular noise."""
    half_width, x = rng.choice([0.4, 0.5, 0.75, 0.8]), rng.integers(30, 71) / 100
    noise = Noise.covering("triangular", half_width=float(half_width))
    found = Regularisation(Quantiser.ternary(), noise).derivative(x)
    text = (
        f"The noise is triangular with mean 0 and half-width {half_width:g}, the quantiser ternary with thresholds "
        f"$\\pm\\frac12$. What is the derivative of the average output at $x = {x:g}$? (4 decimals)"
    )
    return Question(text, float(found), 4, 15)


def strength(rng: np.random.Generator) -> Question:
    """From the scale of a logistic law to its standard deviation."""
    scale = rng.integers(5, 60) / 100
    text = (
        f"A program draws its noise as ${scale:g} \\ln\\frac{{u}}{{1 - u}}$ with uniform $u$. What is its standard deviation? "
        "(4 decimals)"
    )
    return Question(text, scale * math.pi / math.sqrt(3), 4, 5)


def coverage(rng: np.random.Generator) -> Question:
    """Normal noise that has a given mass within a half-width."""
    percent, half_width = int(rng.choice([80, 90, 98, 99])), rng.integers(1, 9) / 4
    found = Noise.covering("normal", half_width=half_width, mass=percent / 100).std
    text = (
        f"Which standard deviation has normal noise with mean 0 and {percent} % of its mass within $\\pm {half_width:g}$? "
        "(4 decimals)"
    )
    return Question(text, float(found), 4, 10)


def mean(rng: np.random.Generator) -> Question:
    """The mean of a noise that lifts the value at a threshold."""
    std, percent = rng.integers(1, 9) / 10, int(rng.choice([60, 70, 75, 80, 95]))
    found = -std * float(Noise("normal").icdf(percent / 100))
    text = (
        f"Normal noise with standard deviation {std:g} is subtracted from the input of a Heaviside function. Which mean of the "
        f"noise lifts the average at the threshold to {percent / 100:g}? (4 decimals)"
    )
    return Question(text, found, 4, 10)


def hits(rng: np.random.Generator) -> Question:
    """How often a sum of ternary products hits an integer."""
    n, target = int(rng.integers(3, 9)), int(rng.integers(0, 3))
    one = np.array([2, 5, 2]) / 9  # a product of two uniform ternary numbers
    law = np.array([1.0])
    for _ in range(n):
        law = np.convolve(law, one)
    text = (
        f"Weights and inputs are independent and uniform on $\\{{-1, 0, 1\\}}$. A unit adds up {n} products of a weight and an "
        f"input. With which probability is the sum exactly {target}? (4 decimals)"
    )
    return Question(text, float(law[n + target]), 4, 15)


def width(rng: np.random.Generator) -> Question:
    """Bits of an accumulator."""
    channels, size = int(rng.choice([48, 96, 160, 200, 384, 700])), int(rng.choice([1, 3, 5]))
    largest = channels * size * size
    text = (
        f"A ternary {size} × {size} convolution takes {channels} channels of ternary features. How many bits, sign included, "
        "does a two's complement accumulator need that can hold every possible sum?"
    )
    return Question(text, largest.bit_length() + 1, None, 5)


def clock(rng: np.random.Generator) -> Question:
    """The noise of one layer of a partition at one epoch."""
    n, period = int(rng.integers(3, 8)), int(rng.choice([5, 10, 20]))
    layer, into = int(rng.integers(0, n)), int(rng.integers(1, period))
    schedule = Schedule.periodic(n, period, "partition", power_law="homogeneous", std0=0.5)
    t = layer * period + into
    text = (
        f"A network has {n} layers. Under *partition* with period {period} and the homogeneous power law, layer $\\ell$ (from 0) "
        f"has noise of standard deviation $\\frac12\\lambda^2$, where $\\lambda$ falls evenly from 1 to 0 between epochs "
        f"${period}\\ell$ and ${period}(\\ell + 1)$. What is the standard deviation of layer {layer} at epoch {t}? (5 decimals)"
    )
    return Question(text, float(schedule(layer, t)[1]), 5, 5)


QUESTIONS: dict[str, Callable[[np.random.Generator], Question]] = {
    each.__name__: each for each in (stair, average, slope, strength, coverage, mean, hits, width, clock)
}


def label(variant: str, place: int) -> str:
    """An exam's exercises have the variant in their labels, so that one file has them all."""
    return f"ex-exam-{variant}{place}"


def make(seed: int, variant: str, names: Sequence[str]) -> list[Question]:
    """The questions of one variant; each depends on the seed, the variant and its own name only."""
    return [QUESTIONS[name](np.random.default_rng([seed, *variant.encode(), *name.encode()])) for name in names]


def sheet(variant: str, questions: Sequence[Question]) -> nbformat.NotebookNode:
    """What a student gets."""
    total = sum(question.minutes for question in questions)
    new_text, new_code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    cells = [new_text(f"# Exam, variant {variant.upper()}\n\n{len(questions)} questions, {total} minutes."), new_code(FIRST)]
    for place, question in enumerate(questions, start=1):
        cells.append(new_text(f"## Question {place}\n\n*{question.minutes} minutes*\n\n{question.text}"))
        cells.append(new_text("**How you found it:** *words and formulas, in the place of this sentence*"))
        cells.append(new_code(f'hand_in("{label(variant, place)}", ...)'))
    notebook = nbformat.v4.new_notebook(cells=cells)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
    return notebook


def _list(values: Sequence[Any]) -> str:
    return "$" + ",\\ ".join(f"{value:g}" for value in values) + "$"


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Make an exam from a seed.")
    parser.add_argument("--seed", type=int, required=True, help="a whole number from 0 on that students cannot guess")
    parser.add_argument("--variants", type=int, default=2, help="how many sheets, 1 to 26 (%(default)s)")
    parser.add_argument("--questions", nargs="+", default=list(QUESTIONS), metavar="NAME", help=", ".join(QUESTIONS))
    parser.add_argument("--out", default="_build/exam", metavar="DIR", help="where to write (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        _validate.integer(options.seed, "--seed", minimum=0)
        _validate.integer(options.variants, "--variants", minimum=1, maximum=26)
        names = [_validate.choice(name, QUESTIONS, "a question") for name in options.questions]
        out = _validate.path(options.out, "--out")
        write(out, options.seed, options.variants, names)
    except ValueError as error:
        print(f"exam: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"exam: {_validate.refused(error)}", file=sys.stderr)
        return 2
    print(f"exam: {options.variants} sheet{'s' * (options.variants != 1)}, key.csv and answers.toml in {Path(out)}")
    return 0


def write(out: Path, seed: int, variants: int, names: Sequence[str]) -> None:
    """Write the sheets, the key and the answers into a folder.

    Raises:
        OSError: it cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows, entries = [["variant", "question", "label", "about", "answer"]], []
    for variant in string.ascii_lowercase[:variants]:
        questions = make(seed, variant, names)
        nbformat.write(sheet(variant, questions), out / f"exam-{variant}.ipynb")
        for place, (name, question) in enumerate(zip(names, questions), start=1):
            where = label(variant, place)
            rows.append([variant.upper(), str(place), where, name, _shown(question)])
            entries.append(as_toml(where, exercise(where, question.answer, "see the key.", decimals=question.decimals)))
    with open(out / "key.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    (out / "answers.toml").write_text("\n".join(entries), encoding="utf-8")


def _shown(question: Question) -> str:
    digits = 0 if question.decimals is None else question.decimals
    return " ".join(f"{value:.{digits}f}" for value in np.atleast_1d(question.answer))


if __name__ == "__main__":
    sys.exit(main())
