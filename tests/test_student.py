"""Notebooks for students: the exercises stay, the solutions go, MyST becomes plain Markdown, and nothing else changes."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from anabook.check import EXERCISES, grade
from anabook.check.entries import efforts, efforts_of_the_book, read

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "book").glob("*.ipynb"))

sys.path.insert(0, str(ROOT / "tools"))
import plain  # noqa: E402
import student  # noqa: E402

EXERCISE = ":::{exercise} Add\n:label: ex-a\n\nWhat is 1 + 1?\n:::"
SHOWN = "### Exercise 1 (ex-a): Add\n\nWhat is 1 + 1?"
ANSWERS = [
    "**Your answer to Exercise 1 (ex-a):** *words and formulas, in the place of this sentence*",
    "# Your answer to Exercise 1 (ex-a): code",
]
MYST = re.compile(r"^(:{3,}|`{3,}\{|\([\w-]+\)=|%|\+\+\+)|\{[a-z:]+\}`|\$\$ *\(eq-", re.MULTILINE)


def notebook(*cells):
    return new_notebook(cells=list(cells))


def sources(derived):
    """Of all cells but the first, which installs the package."""
    assert "anabook" in derived.cells[0].source
    return [cell.source for cell in derived.cells[1:]]


def test_a_solution_with_code_becomes_one_answer_cell():
    derived = student.derive(
        notebook(
            new_markdown_cell(EXERCISE + "\n\n:::{solution-start} ex-a\n:class: dropdown\n:::\n\nEasy."),
            new_code_cell("print(1 + 1)"),
            new_markdown_cell("Done.\n\n:::{solution-end}\n:::\n\nOn we go."),
        )
    )
    assert sources(derived) == [SHOWN, *ANSWERS, "On we go."]


@pytest.mark.parametrize("fence", [":::", "::::", "```"])
def test_a_solution_in_the_text_becomes_one_answer_cell(fence):
    inner = ":::{note}\nTwo.\n:::\n" if fence == "::::" else "Two.\n"
    block = f"{fence}{{solution}} ex-a\n:class: dropdown\n\n{inner}{fence}"
    derived = student.derive(notebook(new_markdown_cell(f"{EXERCISE}\n\n{block}\n\nOn we go.")))
    assert sources(derived) == [SHOWN, *ANSWERS, "On we go."]


def test_an_answer_on_file_is_asked_for():
    derived = student.derive(notebook(new_markdown_cell(":::{solution} ex-noise-1\n\nIt is so.\n:::")))
    words, code = sources(derived)
    assert 'check("ex-noise-1", ...)' in code and "Exercise 2.1 (ex-noise-1)" in words


def test_every_exercise_says_what_it_asks_of_a_student():
    cells = (cell.source for path in CHAPTERS for cell in nbformat.read(path, as_version=4).cells)
    labels = re.findall(r"^:label: (ex-[\w-]+)$", "\n".join(cells), re.MULTILINE)
    found = efforts_of_the_book()
    assert sorted(found) == sorted(labels) and set(EXERCISES) < set(found)
    assert all(5 <= effort.minutes <= 60 for effort in found.values())
    assert {effort.difficulty for effort in found.values()} == {"easy", "medium", "hard"}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("minutes = 0", "minutes of the exercise 'ex-a' must be a whole number from 1 on, not 0."),
        ("minutes = true", "minutes of the exercise 'ex-a' must be a whole number from 1 on, not True."),
        (
            "difficulty = 'hardly'",
            "difficulty of the exercise 'ex-a' must be one of 'easy', 'medium', 'hard', not 'hardly'.",
        ),
    ],
)
def test_an_effort_that_is_none_is_refused(tmp_path, line, sentence):
    path = tmp_path / "mine.toml"
    path.write_text(f"[ex-a]\n{line}\n")
    for reader in (read, efforts):
        with pytest.raises(ValueError, match="^" + re.escape(sentence)):
            reader(path)


@pytest.mark.parametrize(
    ("myst", "shown"),
    [
        ("(ch-a)=\n# A\n\nSee {ref}`ch-noise` and {ref}`there <sec-ste>`.", "# A\n\nSee *Noise* (chapter 2) and there."),
        ("($x$) ({ref}`ch-noise`)", "($x$) (*Noise*, chapter 2)"),
        (
            "By {prf:ref}`def-noise`, {eq}`eq-noisy` and {numref}`fig-noise-dither`",
            "By Definition 2.1, (2.1) and Figure 2.4",
        ),
        ("{numref}`exercise {number} <ex-noise-2>`, {ref}`ex-noise-2`", "exercise 2.2, Exercise 2.2"),
        ("{term}`dithering`, {term}`latent weights <latent weight>`", "dithering, latent weights"),
        ("{cite:t}`gray1993dithered` {cite}`roberts1962picture`", "Gray and Stockham (1993) (Roberts, 1962)"),
        ("$$\nx = y\n$$ (eq-noisy)", "$$\nx = y \\tag{2.1}\n$$"),
        (":::{prf:proof}\nEasy.\n:::\n\n:::{note}\nSo.\n:::", "*Proof.* Easy. ∎\n\n**Note**\n\nSo."),
        ("```{raw} html\n<script></script>\n```", "*The page of this chapter has an interactive figure here.*"),
        (
            ":::{list-table} T\n:name: n\n* - a\n  - b|c\n* - d\n  -\n:::",
            "**Table.** T\n\n| a | b\\|c |\n|---|---|\n| d |  |",
        ),
        ("```toml\n:::{note}\n```", "```toml\n:::{note}\n```"),
        (
            "```sh\n:::\n```\n\n::::{note}\nRun {ref}`there <sec-ste>`\n\n```python\n:::{note}\n\n\n\n1\n```\n::::",
            "```sh\n:::\n```\n\n**Note**\n\nRun there\n\n```python\n:::{note}\n\n\n\n1\n```",
        ),
    ],
)
def test_myst_becomes_plain(myst, shown):
    assert plain.plain(myst, plain.of_the_book()) == shown


@pytest.mark.parametrize(
    "myst", ["{doc}`a`", "{ref}`nothing-of-the-kind`", "{cite}`nobody1900`", ":::{figure} a.png\n:::", "::::{note}\na"]
)
def test_what_has_no_plain_form_is_refused_and_not_passed_on(myst):
    with pytest.raises(student.NotDerivable, match="plain form|nothing has the label|the bibliography has no"):
        student.derive(notebook(new_markdown_cell(myst)))


def test_a_caption_stands_below_its_figure_and_folded_code_is_folded():
    figure = {"caption": "As in {eq}`eq-noisy`.", "name": "fig-a"}
    cell = new_code_cell("1", metadata={"mystnb": {"figure": figure}, "tags": ["hide-input"]})
    derived = student.derive(notebook(cell))
    assert derived.cells[1].metadata["jupyter"] == {"source_hidden": True}
    assert sources(derived) == ["1", "**Figure 1.** As in (2.1)."]


def test_the_first_cell_says_how_to_get_what_the_notebook_needs():
    nb = notebook(new_code_cell("import torch\nimport mlxtend"))
    from_there = student.derive(nb, package="git+https://example.org/book").cells[0].source
    assert '%pip install "anabook[training] @ git+https://example.org/book" mlxtend' in from_there
    from_a_wheel = student.derive(notebook(new_code_cell("import anabook"))).cells[0].source
    assert '%pip install {source} "{wheels[-1]}"' in from_a_wheel and "belongs into the folder" in from_a_wheel
    assert 'source = "--no-index --find-links wheels" if Path("wheels").is_dir() else ""' in from_a_wheel
    compile(from_a_wheel.replace("%pip", "pass #"), "first cell", "exec")
    with pytest.raises(SystemExit, match="2"):
        student.main(["--package", 'git+https://example.org/"; rm'])


def test_a_students_notebook_runs_elsewhere_and_is_graded(tmp_path):
    """From the command line to the marks: the second chapter, three answers filled in, run in a folder far from the book."""
    tool = [
        sys.executable,
        str(ROOT / "tools" / "student.py"),
        "--out",
        str(tmp_path),
        str(ROOT / "book" / "02-noise.ipynb"),
    ]
    subprocess.run(tool, check=True, env={"PYTHONPATH": str(ROOT), "PATH": ""}, stdout=subprocess.DEVNULL)
    path = tmp_path / "02-noise.ipynb"
    text = path.read_text()
    for label, answer in {"ex-noise-1": "0.36276", "ex-noise-2": "0.5"}.items():
        call = f'check(\\"{label}\\", ...)"'
        assert call in text
        text = text.replace(call, call.replace("...", answer))
    path.write_text(text)
    (one,) = grade(tmp_path, seconds=300)
    assert one.marks == {"ex-noise-1": "right", "ex-noise-2": "wrong", "ex-noise-3": "blank", "ex-noise-5": "blank"}
    assert one.note == ""


def test_code_that_needs_a_solution_is_refused():
    cells = (
        new_markdown_cell(":::{solution-start} ex-a\n:::"),
        new_code_cell("two = 1 + 1"),
        new_markdown_cell(":::{solution-end}\n:::"),
        new_code_cell("print(two)"),
    )
    with pytest.raises(student.NotDerivable, match="names defined inside: two"):
        student.derive(notebook(*cells))


@pytest.mark.parametrize(
    "text",
    [
        ":::{solution-start} ex-a\n:::",
        ":::{solution-end}\n:::",
        ":::{solution-start} ex-a\n:::\n:::{solution} ex-b\n:::",
    ],
)
def test_unbalanced_solutions_are_refused(text):
    with pytest.raises(student.NotDerivable):
        student.derive(notebook(new_markdown_cell(text)))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_chapter_has_a_student_version(path):
    original = nbformat.read(path, as_version=4)
    derived, key = student.derive(original, path.stem), student.solutions(original, path.stem)
    number = plain.page_number(path.stem)
    for made in (derived, key):
        nbformat.validate(made)
        text = "\n\n".join(cell.source for cell in made.cells if cell.cell_type == "markdown")
        assert MYST.findall(text) == [] and "mystnb" not in str([cell.metadata for cell in made.cells])
        headings = re.findall(r"^### (.*)\n\n\*(\d+) minutes · (?:easy|medium|hard)\*$", text, re.MULTILINE)
        labels = re.findall(r"^:label: (ex-[\w-]+)$", "\n".join(cell.source for cell in original.cells), re.MULTILINE)
        assert [heading.partition("): ")[0] for heading, _ in headings] == [
            f"Exercise {number}.{place} ({label}" for place, label in enumerate(labels, start=1)
        ]
    before, after, solved = ("\n".join(cell.source for cell in nb.cells) for nb in (original, derived, key))
    solutions = before.count("{solution-start}") + before.count("{solution} ")
    assert after.count("# Your answer to ") == after.count("**Your answer to ") == solutions
    assert solved.count("**Solution of ") == solutions and "Your answer" not in solved
    assert nbformat.read(path, as_version=4) == original
    kept = [cell for cell in original.cells if cell.cell_type == "code" and cell.source in after]
    outputs = [cell.outputs for cell in derived.cells if cell.cell_type == "code" and cell.outputs]
    assert outputs == [cell.outputs for cell in kept if cell.outputs]


def test_the_command_writes_elsewhere_and_never_over_a_chapter(tmp_path, capsys):
    chapter = CHAPTERS[1]
    assert student.main(["--out", str(tmp_path), str(chapter)]) == 0
    assert (tmp_path / chapter.name).is_file()
    assert (
        student.main(["--solutions", "--out", str(tmp_path / "key"), str(chapter), str(ROOT / "book" / "proofs.ipynb")]) == 0
    )
    assert [path.name for path in (tmp_path / "key").iterdir()] == [chapter.name]  # proofs have no exercises
    assert student.main(["--out", str(chapter.parent), str(chapter)]) == 2
    assert student.main([str(tmp_path / "none.ipynb")]) == 2
    assert "not a notebook" in capsys.readouterr().err


def test_hidden_files_beside_the_chapters_are_no_notebooks_and_homes_are_found(tmp_path, monkeypatch, capsys):
    (tmp_path / "book").mkdir()
    nbformat.write(notebook(new_markdown_cell("text")), tmp_path / "book" / "a.ipynb")
    (tmp_path / "book" / "._a.ipynb").write_bytes(b"\x00\x05\x16\x07")
    monkeypatch.setattr(student, "BOOK", tmp_path / "book")
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert student.main(["--out=~/students"]) == 0
    assert [path.name for path in (tmp_path / "home" / "students").iterdir()] == ["a.ipynb"] and not (
        tmp_path / "~"
    ).exists()
    with pytest.raises(SystemExit, match="2"):
        student.main(["--out=~nobody-of-this-name/students"])
    assert "begins with is not known" in capsys.readouterr().err
