"""A course as one archive that students unpack and work with, without a network: notebooks, the package, how to begin.

    python tools/course.py book/01-quantisers.ipynb book/02-noise.ipynb      into _build/course.zip
    python tools/course.py --with-dependencies book/02-noise.ipynb
    python tools/course.py --pages --data cifar10 book/11-cifar10.ipynb
    python tools/course.py --name week-2 --out week-2.zip book/04-zoo.ipynb

The archive has one folder, called `course` or as --name says: the students' notebooks (tools/student.py), the package as a wheel
beside them, README.md, and check.py, which says whether all is there. Recorded runs and answers on file are in the wheel. Data
sets that `anabook data` has prepared are added by --data, the pages of the book, as `make site` has built them, by --pages. With
--with-dependencies, pip also fetches all that package and JupyterLab need, for the system and the Python that this runs on, and
the archive needs no network even to be installed. With PyTorch that is gigabytes.

Exit codes: 0 written, 1 pip failed, 2 bad arguments.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import nbformat
import student

from anabook import _validate
from anabook.datasets import store

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"
README = """\
# Course

You need Python 3.11 or later. In a terminal, in this folder:

    python3 -m venv .venv
    {install}
    .venv/bin/python check.py
    .venv/bin/jupyter lab

On Windows it is `python` and `.venv\\Scripts\\` in the place of `.venv/bin/`. {network} The third line says whether
everything that the notebooks need is there; run them in this folder.
{contents}
Every exercise has a cell for words and one for code. Notebooks:

{notebooks}
"""
PAGES = "\nThe book is in the folder `book`: open `book/index.html` in a browser.\n"
DATA = "\nData sets are in the folder `data`, where the notebooks find them: {names}.\n"


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    try:
        return _main(arguments)
    except OSError as error:
        print(f"course: {_validate.refused(error)}", file=sys.stderr)
        return 2


def _main(arguments: list[str] | None) -> int:
    parser = argparse.ArgumentParser(description="Pack a course into one archive.")
    parser.add_argument("paths", nargs="+", type=student.at_home, metavar="NOTEBOOK", help="the chapters")
    parser.add_argument("--with-dependencies", action="store_true", help="fetch what is to be installed, too")
    parser.add_argument("--pages", action="store_true", help="the book's pages, too, as `make site` built them")
    parser.add_argument("--data", action="append", default=[], metavar="NAME", help="a data set of the store, too")
    parser.add_argument(
        "--out", type=student.at_home, default=Path("_build/course.zip"), metavar="FILE", help="(%(default)s)"
    )
    parser.add_argument("--name", default="course", help="of the folder in the archive (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        chapters = {path.name: _chapter(path) for path in options.paths}
        data = [_prepared(name) for name in options.data]
        if options.pages and not (SITE / "index.html").is_file():
            raise ValueError("--pages needs the built pages: run `make site` first.")
        name = _folder(options.name)
        target = _target(options.out)
    except ValueError as error:
        print(f"course: {error}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, name)
        folder.mkdir()
        for file, notebook in chapters.items():
            nbformat.write(notebook, folder / file)
        extras, also = needs("\n".join(notebook.cells[0].source for notebook in chapters.values()))
        try:
            wheel = build_wheel(folder)
            if options.with_dependencies:
                _pip("download", "--dest", folder / "wheels", f"{wheel}{extras}", "jupyterlab", *also)
        except subprocess.CalledProcessError as error:
            print(f"course: pip failed: {_validate.reason(ValueError(error.stderr))}", file=sys.stderr)
            return 1
        contents = PAGES if options.pages else ""
        if options.pages:
            shutil.copytree(SITE, folder / "book", ignore=shutil.ignore_patterns(".*"))
        if data:
            (folder / "data" / "cache").mkdir(parents=True)
            contents += DATA.format(names=", ".join(path.stem for path in data))
        for path in data:
            shutil.copy(path, folder / "data" / "cache" / path.name)
        text = readme(chapters, wheel.name + extras, also, options.with_dependencies, contents)
        (folder / "README.md").write_text(text, encoding="utf-8")
        shutil.copy(ROOT / "tools" / "course_check.py", folder / "check.py")
        pack(folder, target)
    print(f"course: {target}, {target.stat().st_size / 2**20:.1f} MB")
    return 0


def needs(first_cells: str) -> tuple[str, list[str]]:
    """The extras of the package that notebooks ask for in their first cells, as pip writes them, and the other packages."""
    extras = sorted({extra for found in re.findall(r"\[([a-z,]+)\]\"", first_cells) for extra in found.split(",")})
    also = [name for name in student.ALSO if re.search(rf"%pip .*\b{name}\b", first_cells)]
    return f"[{','.join(extras)}]" if extras else "", also


def build_wheel(folder: Path) -> Path:
    """Build the package's wheel into a folder; the repository stays as it is."""
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary, "anabook")
        ignored = shutil.ignore_patterns("__pycache__", "_data", ".*")
        for part in ("anabook", "data"):
            shutil.copytree(ROOT / part, copy / part, ignore=ignored)
        (copy / "book").mkdir()
        for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "book/exercises.toml"):
            shutil.copy(ROOT / name, copy / name)
        _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, copy)
    (wheel,) = folder.glob("anabook-*.whl")
    return wheel


def readme(
    chapters: dict[str, nbformat.NotebookNode], package: str, also: list[str], offline: bool, contents: str = ""
) -> str:
    """What the students read first."""
    source = "--no-index --find-links wheels " if offline else ""
    install = " ".join([f'.venv/bin/pip install {source}"./{package}"', "jupyterlab", *also])
    network = "No network is needed." if offline else "The second line needs a network; nothing after it does."
    notebooks = "\n".join(f"* {name}" for name in chapters)
    return README.format(install=install, network=network, contents=contents, notebooks=notebooks)


def pack(folder: Path, target: Path) -> None:
    """Write a folder, under its own name, into an archive; wheels are compressed already."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                kind = zipfile.ZIP_STORED if path.suffix == ".whl" else zipfile.ZIP_DEFLATED
                archive.write(path, Path(folder.name, path.relative_to(folder)), kind)


def _chapter(path: Path) -> nbformat.NotebookNode:
    return student.derive(student.read(path), path.stem)


def _prepared(name: str) -> Path:
    """The file of a data set of the store.

    Raises:
        ValueError: it is not there; `DatasetError` is one.
    """
    store.describe(name)
    return store.path_of(name)


def _folder(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name) or name.endswith("."):
        raise ValueError(f"--name must be a folder's name of letters, digits, '.', '_' and '-', not {name!r}.")
    return name


def _target(path: Path) -> Path:
    if path.suffix != ".zip" or path.is_dir():
        raise ValueError(f"--out must be a file that ends in .zip, not {str(path)!r}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _pip(*arguments: object) -> None:
    command = [sys.executable, "-m", "pip", *map(str, arguments), "--disable-pip-version-check", "--quiet"]
    subprocess.run(command, check=True, capture_output=True, text=True)


if __name__ == "__main__":
    sys.exit(main())
