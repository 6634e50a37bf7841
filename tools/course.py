"""A course as one archive that students unpack and work with, without a network: notebooks, the package, how to begin.

    python tools/course.py book/01-quantisers.ipynb book/02-noise.ipynb      into _build/course.zip
    python tools/course.py --with-dependencies book/02-noise.ipynb

The archive has a folder with the students' notebooks (tools/student.py), the package as a wheel beside them, and README.md. With
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

ROOT = Path(__file__).resolve().parent.parent
README = """\
# Course

You need Python 3.11 or later. In a terminal, in this folder:

    python3 -m venv .venv
    {install}
    .venv/bin/jupyter lab

On Windows it is `python` and `.venv\\Scripts\\` in the place of `.venv/bin/`. {network}

Every exercise has a cell for words and one for code. Notebooks:

{notebooks}
"""


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
    parser.add_argument(
        "--out", type=student.at_home, default=Path("_build/course.zip"), metavar="FILE", help="(%(default)s)"
    )
    options = parser.parse_args(arguments)
    try:
        chapters = {path.name: _chapter(path) for path in options.paths}
        target = _target(options.out)
    except ValueError as error:
        print(f"course: {error}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "course")
        folder.mkdir()
        for name, notebook in chapters.items():
            nbformat.write(notebook, folder / name)
        extras, also = needs("\n".join(notebook.cells[0].source for notebook in chapters.values()))
        try:
            wheel = build_wheel(folder)
            if options.with_dependencies:
                _pip("download", "--dest", folder / "wheels", f"{wheel}{extras}", "jupyterlab", *also)
        except subprocess.CalledProcessError as error:
            print(f"course: pip failed: {_validate.reason(ValueError(error.stderr))}", file=sys.stderr)
            return 1
        (folder / "README.md").write_text(
            readme(chapters, wheel.name + extras, also, options.with_dependencies), encoding="utf-8"
        )
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


def readme(chapters: dict[str, nbformat.NotebookNode], package: str, also: list[str], offline: bool) -> str:
    """What the students read first."""
    source = "--no-index --find-links wheels " if offline else ""
    install = " ".join([f'.venv/bin/pip install {source}"./{package}"', "jupyterlab", *also])
    network = "No network is needed." if offline else "The second line needs a network; nothing after it does."
    return README.format(install=install, network=network, notebooks="\n".join(f"* {name}" for name in chapters))


def pack(folder: Path, target: Path) -> None:
    """Write a folder into an archive; wheels are compressed already."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                kind = zipfile.ZIP_STORED if path.suffix == ".whl" else zipfile.ZIP_DEFLATED
                archive.write(path, Path("course", path.relative_to(folder)), kind)


def _chapter(path: Path) -> nbformat.NotebookNode:
    return student.derive(student.read(path), path.stem)


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
