"""The laboratory briefs: what they promise, and that everything in them runs, from the course's folder to the marks."""

import csv
import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from scipy import stats

from anabook import Noise, cli
from anabook.check import EXERCISES
from anabook.convergence import mean_magnitude

ROOT = Path(__file__).resolve().parents[1]
PAGES = {1: ROOT / "book" / "laboratory-1.md", 2: ROOT / "book" / "laboratory-2.md"}
SECTIONS = ["Goals", "What is given", "Steps", "What is handed in, and how it is marked", "What goes wrong"]

sys.path.insert(0, str(ROOT / "tools"))
import course  # noqa: E402

by_page = pytest.mark.parametrize("number", PAGES)


def text(number: int) -> str:
    return PAGES[number].read_text(encoding="utf-8")


def blocks(number: int, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text(number), flags=re.M | re.S)


def labels(number: int) -> list[str]:
    """The exercises that count, as the section on marks names them."""
    marks = text(number).split("count, two points each:")[1].split(".")[0]
    return re.findall(r"`(ex-[\w-]+)`", marks)


@by_page
def test_a_brief_says_what_a_session_needs(number):
    assert re.findall(r"^## (.*)", text(number), flags=re.M) == SECTIONS
    steps = text(number).split("## Steps")[1].split("## ")[0]
    minutes = [int(each) for each in re.findall(r"^\| (\d+) \|", steps, flags=re.M)]
    assert sum(minutes) == 90 and len(minutes) >= 5
    asked = re.findall(r"\{ref\}`(ex-[\w-]+)`", steps)
    assert asked == labels(number) and set(asked) <= set(EXERCISES)
    times = tomllib.loads((ROOT / "book" / "exercises.toml").read_text(encoding="utf-8"))
    assert sum(times[label]["minutes"] for label in asked) <= 70


def test_the_counts_of_the_first_step():
    """What the exact way gives, and the slips that the brief names."""
    k, single, quantum = np.arange(128), np.float32, 0.07
    product, decimals = k * quantum, np.array([float(f"{each * 0.07:.2f}") for each in k])
    ratios = {
        "double": product / quantum,
        "single": k.astype(single) * single(quantum) / single(quantum),
        "decimals": decimals / quantum,
        "product in single, of singles": (k.astype(single) * single(quantum)).astype(float) / quantum,
        "product in single": product.astype(single).astype(float) / quantum,
    }
    low = {name: np.flatnonzero(np.floor(ratio) != k).tolist() for name, ratio in ratios.items()}
    assert low["double"] == [63, 119, 125, 126] and "$k$ = 63, 119, 125 and 126" in text(1)
    assert [len(each) for each in low.values()] == [4, 8, 77, 58, 67]
    for said in ("it is 8; with 77", "58 and 67"):
        assert said in text(1)
    assert not (np.floor(k / 16 / (1 / 16)) != k).any()


def test_the_model_answer_of_the_six_sentences():
    noises = [Noise.covering(family, half_width=0.5) for family in ("uniform", "triangular", "normal", "logistic")]
    stds, means = [noise.std for noise in noises], [mean_magnitude(noise) for noise in noises]
    assert "{:.3f} (uniform), {:.3f} (triangular), {:.3f} (normal) and {:.3f} (logistic)".format(*stds) in text(1)
    assert "{:.3f}, {:.3f}, {:.3f} and {:.3f}".format(*means) in text(1) and means[0] == pytest.approx(1.5 * means[1])


def test_students_factors():
    factors = [stats.t.ppf(1 - each / 2, 4) for each in (0.05 / 3, 0.05)]
    assert "factor is {:.2f} in place of {:.2f}".format(*factors) in text(2)


@by_page
def test_the_points_add_up(number):
    by_hand = sum(int(each) for each in re.findall(r"^\| (\d) \| ", text(number).split("read by a person")[1], flags=re.M))
    words = {12: "twelve", 14: "fourteen"}
    assert f"That is {words[2 * len(labels(number)) + by_hand]} points." in text(number)


@by_page
def test_the_teaching_page_leads_to_it(number):
    assert f"{{ref}}`lab-{number}`" in (ROOT / "book" / "teaching.md").read_text(encoding="utf-8")


@by_page
def test_the_cells_of_a_brief_run_one_after_the_other(number):
    code = "\n".join(blocks(number, "python"))
    if number == 2:
        assert code.count("range(5)") == 1
        code = code.replace("range(5)", "range(2)")  # thirty networks are for the laboratory
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and not done.stderr, done.stderr
    if number == 1:
        assert done.stdout.startswith("[0.07 0.14 0.21]")
        assert [f"{float(row.split()[1]):.2f}" for row in done.stdout.splitlines()[-4:]] == ["0.29", "0.20", "0.26", "0.25"]
    else:
        rows = re.findall(r"^(uniform|normal|logistic) +(?:expectation|mode) +(\d+\.\d)", done.stdout, flags=re.M)
        assert len(rows) == 6 and all(float(mean) > 70 for _, mean in rows)
        pairs = re.findall(r"^(?:normal|logistic) − (?:uniform|normal) +-?\d.*\] +-?\d.*\]$", done.stdout, flags=re.M)
        assert len(pairs) == 6, "three pairs of families under each of two strategies"


@by_page
def test_the_lecturers_command_makes_the_folder(number, tmp_path, monkeypatch):
    (command,) = [each for each in blocks(number, "bash") if "course.py" in each]
    python, tool, *arguments = shlex.split(command)
    assert (python, tool) == (".venv/bin/python", "tools/course.py")
    monkeypatch.chdir(ROOT)
    place = arguments.index("--out") + 1
    assert arguments[place] == f"_build/laboratory-{number}.zip"
    arguments[place] = str(tmp_path / "course.zip")
    monkeypatch.setattr(
        course, "build_wheel", lambda folder: folder / "anabook-1-py3-none-any.whl"
    )  # held by test_course.py
    assert course.main(arguments) == 0
    with zipfile.ZipFile(tmp_path / "course.zip") as archive:
        assert {Path(name).parts[0] for name in archive.namelist()} == {f"laboratory-{number}"}
        names = {Path(name).name for name in archive.namelist()}
    assert {Path(each).name for each in arguments if each.endswith(".ipynb")} < names


ANSWERS = {
    "ex-quantisers-6": "4",
    "ex-noise-1": "0.2 * 3.14159265 / 3**0.5",
    "ex-noise-3": "[0.5 / 2.575829, 0.5 * 3.14159265 / 3**0.5 / 5.293305]",
    "ex-noise-5": "[8.3, 20.3]",
    "ex-start-1": "0.7",
    "ex-cifar10-2": "5",
    "ex-which-3": "[0.1199, -0.5317]",
}


@by_page
def test_the_command_for_marks_gives_the_columns_that_count(number, tmp_path, monkeypatch, capsys):
    """Two students: one has all answers right, the other one slipped in the first and has no others."""
    (command,) = [each for each in blocks(number, "bash") if "grade" in each]
    program, *arguments = shlex.split(command)
    assert program == ".venv/bin/anabook"
    first, *others = labels(number)
    for name, answers in (("anna", {each: ANSWERS[each] for each in (first, *others)}), ("ben", {first: "0.2"})):
        (tmp_path / "handed-in" / name).mkdir(parents=True)
        lines = ["from anabook.check import check", *(f'print(check("{each}", {given}))' for each, given in answers.items())]
        nbformat.write(
            new_notebook(cells=[new_code_cell("\n".join(lines))]), tmp_path / "handed-in" / name / "laboratory.ipynb"
        )
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 0
    with open("marks.csv", encoding="utf-8") as file:
        anna, ben = csv.DictReader(file)
    assert [anna[each] for each in labels(number)] == ["right"] * len(labels(number)), (anna, capsys.readouterr().out)
    assert ben[first] == "wrong" and all(ben[each] in ("", "open", "blank") for each in others)
