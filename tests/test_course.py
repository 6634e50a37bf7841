"""A course in an archive: what is in it, and that a notebook of it runs with the package of it alone."""

import ast
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest

from anabook import datasets

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import course  # noqa: E402

CHAPTERS = [str(ROOT / "book" / name) for name in ("02-noise.ipynb", "12-svhn.ipynb")]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    place = tmp_path_factory.mktemp("course")
    assert course.main([*CHAPTERS, "--out", str(place / "course.zip")]) == 0
    with zipfile.ZipFile(place / "course.zip") as archive:
        archive.extractall(place)
    return place / "course"


def test_notebooks_the_package_and_how_to_begin_are_in_it(unpacked):
    assert [path.name for path in sorted(unpacked.iterdir()) if path.suffix != ".whl"] == [
        "02-noise.ipynb",
        "12-svhn.ipynb",
        "README.md",
        "check.py",
    ]
    (wheel,) = unpacked.glob("anabook-*.whl")
    text = (unpacked / "README.md").read_text()
    assert f'.venv/bin/pip install "./{wheel.name}[experiments,training]" jupyterlab mlxtend' in text
    assert "* 12-svhn.ipynb" in text and "{solution" not in (unpacked / "02-noise.ipynb").read_text()


def test_a_notebook_runs_with_the_package_of_the_archive_alone(unpacked, tmp_path):
    """The wheel unpacked, a folder far from the repository, and the notebook graded there by the archive's own package."""
    (wheel,) = unpacked.glob("anabook-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "package")
    (tmp_path / "handed-in").mkdir()
    notebook = nbformat.read(unpacked / "02-noise.ipynb", as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(f"assert ab.__file__.startswith({str(tmp_path)!r}), ab.__file__"))
    nbformat.write(notebook, tmp_path / "handed-in" / "quentin.ipynb")
    script = (
        "from anabook.check import grade; (one,) = grade('handed-in'); print(sorted(one.marks.values()), repr(one.note))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "package")},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "['blank', 'blank', 'blank', 'blank'] ''\n", done.stdout + done.stderr


def test_the_folder_says_whether_all_is_there(unpacked, tmp_path):
    """With the wheel of the archive alone; and without the package, what is missing and for which notebook."""
    (wheel,) = unpacked.glob("anabook-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "package")

    def said(*options, **more):
        environment = {**os.environ, **more}
        arguments = [sys.executable, *options, str(unpacked / "check.py")]
        return subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True)

    done = said(PYTHONPATH=str(tmp_path / "package"))
    assert done.returncode == 0 and done.stdout.endswith(" answers on file, 2 notebooks: ready.\n"), (
        done.stdout + done.stderr
    )
    done = said("-I", "-S")  # of what is installed, nothing is found
    assert done.returncode == 1 and "missing: anabook, for 02-noise.ipynb, 12-svhn.ipynb\n" in done.stdout
    assert done.stderr == "Install as README.md says, with the Python of this folder's .venv.\n"


def test_data_sets_and_pages_are_packed_where_they_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(course, "build_wheel", lambda folder: folder / "anabook-1-py3-none-any.whl")
    monkeypatch.setattr(course, "SITE", tmp_path / "html")
    monkeypatch.setenv("ANABOOK_DATA", str(tmp_path / "store"))
    datasets.store.save(datasets.digits())
    (tmp_path / "html" / "_static").mkdir(parents=True)
    for name in ("index.html", "_static/style.css"):
        (tmp_path / "html" / name).write_text(name)
    arguments = [CHAPTERS[0], "--pages", "--data", "digits", "--out", str(tmp_path / "c.zip")]
    assert course.main(arguments) == 0
    with zipfile.ZipFile(tmp_path / "c.zip") as archive:
        archive.extractall(tmp_path)
    text = (tmp_path / "course" / "README.md").read_text()
    assert "open `book/index.html` in a browser" in text and "where the notebooks find them: digits." in text
    assert (tmp_path / "course" / "book" / "_static" / "style.css").read_text() == "_static/style.css"
    monkeypatch.delenv("ANABOOK_DATA")
    monkeypatch.chdir(tmp_path / "course")
    assert datasets.store.names() == ["digits"] and len(datasets.store.load("digits").x_test) == 359


def test_a_data_set_that_is_not_prepared_and_pages_that_are_not_built_are_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ANABOOK_DATA", str(tmp_path / "store"))
    monkeypatch.setattr(course, "SITE", tmp_path / "html")
    for option, sentence in (
        (["--data", "digits"], "'digits'"),
        (["--pages"], "--pages needs the built pages: run `make site`"),
    ):
        assert course.main([CHAPTERS[0], *option, "--out", str(tmp_path / "c.zip")]) == 2
        said = capsys.readouterr().err
        assert said.startswith("course: ") and sentence in said and said.count("\n") == 1
    assert not (tmp_path / "c.zip").exists()


def test_with_dependencies_pip_is_asked_for_all_of_them(tmp_path, monkeypatch):
    """Without the network: what pip is asked for, and what the students are told."""
    asked = []
    monkeypatch.setattr(course, "build_wheel", lambda folder: folder / "anabook-1-py3-none-any.whl")
    monkeypatch.setattr(course, "_pip", lambda *arguments: asked.append(list(map(str, arguments))))
    assert course.main(["--with-dependencies", CHAPTERS[1], "--out", str(tmp_path / "c.zip")]) == 0
    ((what, to, wheels, *packages),) = asked
    assert (what, to, Path(wheels).name) == ("download", "--dest", "wheels")
    assert packages[0].endswith("anabook-1-py3-none-any.whl[experiments,training]") and packages[1:] == [
        "jupyterlab",
        "mlxtend",
    ]
    with zipfile.ZipFile(tmp_path / "c.zip") as archive:
        text = archive.read("course/README.md").decode()
    assert '--no-index --find-links wheels "./anabook-1-py3-none-any.whl[experiments,training]" jupyterlab mlxtend' in text


def test_the_folder_in_the_archive_has_the_name_that_is_asked_for(tmp_path, monkeypatch):
    """Two courses are unpacked side by side."""
    monkeypatch.setattr(course, "build_wheel", lambda folder: folder / "anabook-1-py3-none-any.whl")
    for name in ("week-1", "week-2"):
        assert course.main([CHAPTERS[0], "--name", name, "--out", str(tmp_path / "c.zip")]) == 0
        with zipfile.ZipFile(tmp_path / "c.zip") as archive:
            assert archive.namelist() == [f"{name}/02-noise.ipynb", f"{name}/README.md", f"{name}/check.py"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["none.ipynb"], "'none.ipynb' is not a notebook."),
        ([CHAPTERS[0], "--out", "course.tar"], "--out must be a file that ends in .zip, not 'course.tar'."),
        (
            [CHAPTERS[0], "--name", "../week"],
            "--name must be a folder's name of letters, digits, '.', '_' and '-', not '../week'.",
        ),
        ([CHAPTERS[0], "--name", ".."], "--name must be a folder's name of letters, digits, '.', '_' and '-', not '..'."),
    ],
)
def test_bad_arguments_are_one_sentence_and_code_2(arguments, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert course.main(arguments) == 2
    assert capsys.readouterr().err == f"course: {sentence}\n" and not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["essay", "[]", "{}", '{"nbformat": 4}', '{"nbformat": 9, "cells": []}'])
def test_a_file_that_is_no_notebook_is_one_sentence_and_code_2(text, capsys, tmp_path):
    (tmp_path / "a.ipynb").write_text(text)
    for main, name in ((course.main, "course"), (course.student.main, "student")):
        assert main([str(tmp_path / "a.ipynb"), "--out", str(tmp_path / "c.zip")]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"{name}: {str(tmp_path / 'a.ipynb')!r} is no notebook that can be read (")
        assert said.count("\n") == 1 and not (tmp_path / "c.zip").exists()


def test_a_place_that_cannot_be_written_to_is_one_sentence_and_code_2(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(course, "build_wheel", lambda folder: folder / "anabook-1-py3-none-any.whl")
    (tmp_path / "file").write_text("notes")
    for main, name, out in (
        (course.main, "course", tmp_path / "file" / "c.zip"),
        (course.student.main, "student", tmp_path / "file"),
    ):
        assert main([CHAPTERS[0], "--out", str(out)]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"{name}: ") and str(tmp_path / "file") in said and said.count("\n") == 1
    if os.name == "posix" and os.geteuid():  # root may read everything
        (tmp_path / "a.ipynb").touch(mode=0)
        assert course.main([str(tmp_path / "a.ipynb")]) == 2
        assert capsys.readouterr().err == f"course: Permission denied: {str(tmp_path / 'a.ipynb')!r}.\n"


def test_the_wheel_is_built_from_all_that_it_carries(tmp_path, monkeypatch):
    """In the copy that pip builds, setup.py finds what it finds in the repository."""
    seen = {}

    def building(*arguments):
        copy = Path(arguments[-1])
        tree = ast.parse((copy / "setup.py").read_text(encoding="utf-8"))
        (found,) = [node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "SHIPPED"]
        for place in (copy, ROOT):
            names = {path.relative_to(place).as_posix() for each in ast.literal_eval(found) for path in place.glob(each)}
            seen[place == ROOT] = {name for name in names if not Path(name).name.startswith(".")}
        (tmp_path / "anabook-1-py3-none-any.whl").touch()

    monkeypatch.setattr(course, "_pip", building)
    course.build_wheel(tmp_path)
    assert seen[False] == seen[True] and {"data/ledger.toml", "book/exercises.toml"} < seen[True]


def test_what_pip_says_is_passed_on(tmp_path, monkeypatch, capsys):
    def failing(*_):
        raise subprocess.CalledProcessError(1, "pip", stderr="ERROR: No matching distribution found for anabook\nmore")

    monkeypatch.setattr(course, "_pip", failing)
    assert course.main([CHAPTERS[0], "--out", str(tmp_path / "c.zip")]) == 1
    assert capsys.readouterr().err == "course: pip failed: ERROR: No matching distribution found for anabook\n"
    assert not (tmp_path / "c.zip").exists()
