"""Exams from a seed: the key is right, the sheets do not give it away, and marking knows it."""

import csv
import itertools
import math
import re
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from scipy import stats

from anabook.check import check, grade, read

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import exam  # noqa: E402


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("exam")
    assert exam.main(["--seed", "11", "--variants", "3", "--out", str(out)]) == 0
    return out


def numbers(text):
    return [float(found) for found in re.findall(r"-?\d+(?:\.\d+)?", text)]


def question(name, seed):
    (found,) = exam.make(seed, "a", [name])
    return found, numbers(found.text)


SEEDS = range(12)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_answers_follow_from_the_texts_by_formulas_of_the_tests_own(seed):
    """From the numbers in the text alone, without the package's laws, quantisers and schedules."""
    found, given = question("stair", seed)
    levels, thresholds, points = given[:4], given[4:7], given[7:11]
    assert list(found.answer) == [levels[sum(t <= x for t in thresholds)] for x in points]

    found, given = question("average", seed)
    h, x = given[1], given[-2]

    def uniform(t):
        return min(max((t + h) / (2 * h), 0), 1)

    assert found.answer == pytest.approx(uniform(x - 0.5) + uniform(x + 0.5) - 1)

    found, given = question("slope", seed)
    h, x = given[1], given[-2]

    def tent(t):
        return max(0, 1 - abs(t) / h) / h

    assert found.answer == pytest.approx(tent(x - 0.5) + tent(x + 0.5))

    found, given = question("strength", seed)
    assert found.answer == pytest.approx(stats.logistic(scale=given[0]).std())

    found, given = question("coverage", seed)
    inside = stats.norm(scale=found.answer)
    assert inside.cdf(given[2]) - inside.cdf(-given[2]) == pytest.approx(given[1] / 100)

    found, given = question("mean", seed)
    assert stats.norm(found.answer, given[0]).cdf(0) == pytest.approx(given[1])

    found, given = question("width", seed)
    largest = given[0] * given[1] * given[2]
    assert -(2 ** (found.answer - 1)) <= -largest and largest <= 2 ** (found.answer - 1) - 1
    assert largest > 2 ** (found.answer - 2) - 1

    found, given = question("clock", seed)
    period, layer, t = given[1], given[-3], given[-2]
    assert found.answer == pytest.approx(0.5 * (1 - (t - layer * period) / period) ** 2)


def test_hits_are_counted():
    for seed in itertools.count():
        found, given = question("hits", seed)
        n, target = int(given[-3]), int(given[-2])
        if n == 3:
            break
    one = [a * b for a in (-1, 0, 1) for b in (-1, 0, 1)]
    assert found.answer == pytest.approx(np.mean([sum(sums) == target for sums in itertools.product(one, repeat=3)]))


def test_the_key_passes_and_the_sheets_do_not_show_it(made):
    answers = read(made / "answers.toml")
    with open(made / "key.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(answers) == 3 * len(exam.QUESTIONS)
    for row in rows:
        values = [float(value) for value in row["answer"].split()]
        assert check(row["label"], values if row["about"] == "stair" else values[0], answers)
        text = (made / f"exam-{row['variant'].lower()}.ipynb").read_text()
        assert row["label"] in text and "digests" not in text and str(answers[row["label"]].digests[0]) not in text
    sheets = [(made / f"exam-{variant}.ipynb").read_text() for variant in "abc"]
    assert len(set(sheets)) == 3
    assert len({row["answer"] for row in rows if row["about"] == "mean"}) == 3


def test_a_seed_gives_the_same_exam_and_another_seed_another(made, tmp_path):
    for seed, same in (("11", True), ("12", False)):
        assert exam.main(["--seed", seed, "--variants", "1", "--questions", "mean", "hits", "--out", str(tmp_path)]) == 0
        whole = dict(zip(exam.QUESTIONS, exam.make(11, "a", list(exam.QUESTIONS))))
        text = "\n".join(cell.source for cell in nbformat.read(tmp_path / "exam-a.ipynb", as_version=4).cells)
        assert (whole["mean"].text in text and whole["hits"].text in text) is same


def test_a_sheet_is_marked(made, tmp_path):
    text = (made / "exam-b.ipynb").read_text()
    with open(made / "key.csv", newline="") as file:
        key = {row["label"]: row["answer"] for row in csv.DictReader(file)}
    for label, answer in {"ex-exam-b2": key["ex-exam-b2"], "ex-exam-b4": "9"}.items():
        call = f'hand_in(\\"{label}\\", ...)'
        assert call in text
        text = text.replace(call, call.replace("...", answer))
    (tmp_path / "paul.ipynb").write_text(text)
    (one,) = grade(tmp_path, exercises=made / "answers.toml", seconds=120)
    assert one.labels("right") == ["ex-exam-b2"] and one.labels("wrong") == ["ex-exam-b4"] and one.note == ""
    assert len(one.labels("blank")) == len(exam.QUESTIONS) - 2


def test_a_folder_that_cannot_be_made_is_one_sentence_and_code_2(tmp_path, capsys):
    (tmp_path / "file").write_text("notes")
    for out in (tmp_path / "file", tmp_path / "file" / "deeper"):
        assert exam.main(["--seed", "1", "--out", str(out)]) == 2
        said = capsys.readouterr().err
        assert said.startswith("exam: ") and said.endswith(f": {str(out)!r}.\n") and said.count("\n") == 1
    (tmp_path / "out" / "key.csv").mkdir(parents=True)
    assert exam.main(["--seed", "1", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"exam: Is a directory: {str(tmp_path / 'out' / 'key.csv')!r}.\n"


def test_students_see_that_an_answer_is_noted_and_nothing_else(capsys):
    names = {}
    exec(exam.FIRST, names)
    names["hand_in"]("ex-exam-a1", math.pi)
    assert capsys.readouterr().out == f"noted for ex-exam-a1: {math.pi!r}\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--seed", "-1"], "--seed must be an integer at least 0, not -1."),
        (["--seed", "1", "--variants", "27"], "--variants must be an integer from 1 to 26, not 27."),
        (["--seed", "1", "--questions", "stairs"], "a question must be one of 'stair', "),
        (["--seed", "1", "--out", ""], "--out must be a path "),
    ],
)
def test_bad_arguments_are_one_sentence_and_code_2(arguments, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert exam.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"exam: {sentence}") and said.count("\n") == 1 and not list(tmp_path.iterdir())
