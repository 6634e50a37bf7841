"""Notebooks for students: the exercises stay, the solutions go, and nothing else changes."""

import importlib.util
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "book").glob("*.ipynb"))

spec = importlib.util.spec_from_file_location("student", ROOT / "tools" / "student.py")
student = importlib.util.module_from_spec(spec)
spec.loader.exec_module(student)

EXERCISE = ":::{exercise} Add\n:label: ex-a\n\nWhat is 1 + 1?\n:::"


def notebook(*cells):
    return new_notebook(cells=list(cells))


def sources(derived):
    return [cell.source for cell in derived.cells]


def test_a_solution_with_code_becomes_one_answer_cell():
    derived = student.derive(
        notebook(
            new_markdown_cell(EXERCISE + "\n\n:::{solution-start} ex-a\n:class: dropdown\n:::\n\nEasy."),
            new_code_cell("print(1 + 1)"),
            new_markdown_cell("Done.\n\n:::{solution-end}\n:::\n\nOn we go."),
        )
    )
    assert sources(derived) == [EXERCISE, "# Your answer to ex-a", "On we go."]


@pytest.mark.parametrize("fence", [":::", "::::", "```"])
def test_a_solution_in_the_text_becomes_one_answer_cell(fence):
    inner = ":::{note}\nTwo.\n:::\n" if fence == "::::" else "Two.\n"
    block = f"{fence}{{solution}} ex-a\n:class: dropdown\n\n{inner}{fence}"
    derived = student.derive(notebook(new_markdown_cell(f"{EXERCISE}\n\n{block}\n\nOn we go.")))
    assert sources(derived) == [EXERCISE, "# Your answer to ex-a", "On we go."]


def test_an_answer_on_file_is_asked_for():
    derived = student.derive(notebook(new_markdown_cell(":::{solution} ex-noise-1\n\nIt is so.\n:::")))
    assert 'check("ex-noise-1", ...)' in derived.cells[0].source


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
    derived = student.derive(original)
    nbformat.validate(derived)
    before, after = ("\n".join(cell.source for cell in nb.cells) for nb in (original, derived))
    assert "{solution" not in after
    assert after.count("{exercise}") == before.count("{exercise}")
    assert after.count("# Your answer to ") == before.count("{solution-start}") + before.count("{solution} ")
    assert nbformat.read(path, as_version=4) == original


def test_the_command_writes_elsewhere_and_never_over_a_chapter(tmp_path, capsys):
    chapter = CHAPTERS[1]
    assert student.main(["--out", str(tmp_path), str(chapter)]) == 0
    assert (tmp_path / chapter.name).is_file()
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
