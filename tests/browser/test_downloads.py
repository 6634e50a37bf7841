"""What readers take from the site: notebooks that say how they are run, and the package that they need."""

from __future__ import annotations

import re
import sys
import zipfile
from html import unescape
from pathlib import Path

import nbformat
import pytest

from conftest import SITE

ROOT = SITE.parents[1]
sys.path.append(str(ROOT / "book" / "_ext"))
import anabook_downloads as downloads  # noqa: E402
from sphinx.errors import ConfigError  # noqa: E402

NOTEBOOKS = sorted((SITE / "_sources" / "book").glob("*.ipynb"))


def test_the_wheel_has_the_package_with_its_results_and_exercises():
    with zipfile.ZipFile(SITE / "downloads" / downloads.wheel_name()) as wheel:
        names = set(wheel.namelist())
    for path in [*(ROOT / "data" / "results").glob("[!.]*.jsonl"), ROOT / "data" / "ledger.toml"]:
        assert f"anabook/_data/{path.relative_to(ROOT / 'data').as_posix()}" in names
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "anabook").rglob("*.py") if "_data" not in path.parts}
    assert modules <= names and "anabook/_data/exercises.toml" in names


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_page_and_notebook_say_the_same_command_and_the_page_has_what_it_needs(path):
    notebook = nbformat.read(path, as_version=4)
    first = notebook.cells[0]
    (said,) = re.findall(r"^pip install .*$", first.source, flags=re.M)
    page = (SITE / "book" / f"{path.stem}.html").read_text(encoding="utf-8")
    (line,) = re.findall(r'</h1>\s*<p class="how-to-run">(.*?)</p>', page, flags=re.S)
    assert said in unescape(re.sub(r"<[^>]+>", "", line))
    (offered, package) = re.findall(r'<a href="([^"]*)" download>', line)
    assert (SITE / "book" / offered).resolve() == path and (SITE / "book" / package).resolve().is_file()
    assert said.startswith(f'pip install "./{Path(package).name}') and first.cell_type == "markdown"
    code = downloads.code_of(notebook)
    assert ("training" in said) == bool(re.search(r"\b(torch|sklearn|training|datasets|models|experiments|deploy)\b", code))
    assert ("mlxtend" in said) == ("mlxtend" in code)


def test_every_notebook_of_the_book_is_offered():
    assert {path.name for path in NOTEBOOKS} == {path.name for path in (ROOT / "book").glob("[!.]*.ipynb")}


@pytest.mark.parametrize(
    "variables, expected",
    [
        (
            {"ANABOOK_SITE": "https://example.org/ana/"},
            'pip install "anabook[training] @ https://example.org/ana/downloads/{wheel}"',
        ),
        (
            {"ANABOOK_REPOSITORY": "https://github.com/o/n", "ANABOOK_BRANCH": "v1"},
            'pip install "anabook[training] @ git+https://github.com/o/n@v1"',
        ),
        ({}, 'pip install "./{wheel}[training]"'),
    ],
)
def test_where_an_address_is_known_notebooks_install_from_there(monkeypatch, variables, expected):
    for name in ("ANABOOK_SITE", "ANABOOK_REPOSITORY", "ANABOOK_BRANCH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    said = downloads.command("import torch")
    assert said.text == expected.format(wheel=downloads.wheel_name()) + " jupyterlab"
    assert said.from_file == (not variables)
    assert (downloads.wheel_name() in downloads.in_the_notebook(said)) == ("ANABOOK_REPOSITORY" not in variables)


def test_an_address_that_is_none_is_refused(monkeypatch):
    monkeypatch.setenv("ANABOOK_SITE", "example.org")
    with pytest.raises(ConfigError, match=r"ANABOOK_SITE is 'example\.org'; expected the address"):
        downloads.site_address()
