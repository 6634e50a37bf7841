"""Notebooks without solutions, for teaching; and their solutions, for those who teach.

    python tools/student.py                             every chapter with exercises, into _build/student/
    python tools/student.py --out DIR book/02-noise.ipynb …
    python tools/student.py --solutions                 the exercises with their solutions, into _build/solutions/

Both are plain Markdown, without MyST, so that they read well in JupyterLab, Colab and elsewhere. Each exercise has the number
that it has on the site, its label, and what it asks of a student. In the place of its solution stand a cell for words and a cell
for code, with a call of `check` where an answer is on file. Outputs outside the solutions stay. The first cell installs the
package: from the repository that ANABOOK_REPOSITORY or --package names, or from a wheel beside the notebook. The chapters
themselves are not touched.

Exit codes: 0 all written, 1 a chapter cannot be derived (the reason is printed), 2 a path is not a notebook.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import copy
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import plain

from anabook._validate import path, reason, refused
from anabook.check import EXERCISES
from anabook.check.entries import efforts_of_the_book

BOOK = Path(__file__).resolve().parent.parent / "book"
BLOCK = re.compile(
    r"^(?P<fence>:{3,}|`{3,})\{(?P<kind>solution(?:-start|-end)?)\}(?:[ \t]+(?P<label>\S+))?[ \t]*\n"
    r"(?P<body>.*?)^(?P=fence)[ \t]*$\n?",
    re.MULTILINE | re.DOTALL,
)
EXTRAS = {
    "training": r"\b(torch|sklearn|training|datasets|models|experiments|deploy)\b",
    "experiments": r"\b(pandas|experiments)\b",
    "speech": r"\b(librosa|speech)\b",
    "deploy": r"\b(onnx|onnxruntime|deploy)\b",
}
ALSO = ("mlxtend", "tensorboard")
WITH_SOURCE = """\
# This notebook needs the package anabook (Python 3.11 or later), and nothing else of the book's repository.
import importlib.util

if importlib.util.find_spec("anabook") is None:
    %pip install "anabook{extras} @ {source}"{also}"""
WITH_WHEEL = """\
# This notebook needs the package anabook (Python 3.11 or later), and nothing else of the book's repository.
# It comes as a file, anabook-….whl, which belongs into the folder of this notebook. With a folder "wheels" beside it, in which
# everything else is, no network is needed.
import importlib.util
from pathlib import Path

if importlib.util.find_spec("anabook") is None:
    wheels = sorted(Path().glob("anabook-*.whl"))
    if not wheels:
        raise ModuleNotFoundError("put the file anabook-….whl beside this notebook, and run this cell again.")
    source = "--no-index --find-links wheels" if Path("wheels").is_dir() else ""
    %pip install {{source}} "{{wheels[-1]}}{extras}"{also}"""


class NotDerivable(ValueError):
    """A chapter whose solutions cannot be taken out."""


def derive(notebook: nbformat.NotebookNode, name: str = "", package: str = "") -> nbformat.NotebookNode:
    """A copy of ``notebook`` in plain Markdown, with cells for an answer in the place of each solution.

    Args:
        notebook: a chapter.
        name: of its file, without suffix, from which the numbers come.
        package: what pip can install the package from; "" for a wheel beside the notebook.

    Raises:
        NotDerivable: a solution that is not closed, code outside the solutions that needs a name from inside, or MyST
            for which there is no plain form.
    """
    labels, efforts = plain.labels_for(notebook, name), _efforts()
    cells: list[nbformat.NotebookNode] = []
    dropped: list[str] = []
    works: list[str] = []
    for what, value, cell in _parts(notebook):
        if what == "text":
            works += plain.cited(value)
            cells += _markdown(value, labels, efforts)
        elif what == "answer":
            cells += _answer(value, labels)
        elif what == "cell":
            cells += _shown(cell, labels)
        elif what == "solution" and cell is not None and cell.cell_type == "code":
            dropped.append(cell.source)
    missing = missing_names([c.source for c in cells if c.cell_type == "code"], dropped)
    if missing:
        raise NotDerivable(f"code outside the solutions uses names defined inside: {', '.join(missing)}")
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    cells.insert(0, nbformat.v4.new_code_cell(_install(code, package)))
    if works:
        cells.append(nbformat.v4.new_markdown_cell(_references(works)))
    return _finished(cells, notebook)


def solutions(notebook: nbformat.NotebookNode, name: str = "") -> nbformat.NotebookNode:
    """The exercises of ``notebook`` with their solutions, in plain Markdown, code and outputs as they are in the chapter.

    Raises:
        NotDerivable: as for `derive`.
    """
    labels, efforts = plain.labels_for(notebook, name), _efforts()
    title = next((m[1] for c in notebook.cells if (m := re.search(r"^# (.*)", c.source, re.MULTILINE))), name)
    intro = f"# Solutions: {title}\n\nFor those who teach. The code needs what the chapter has defined before it."
    cells = [nbformat.v4.new_markdown_cell(intro)]
    for what, value, cell in _parts(notebook):
        if what == "text":
            exercises = [match[0] for match in plain.BLOCK.finditer(value) if match["kind"] == "exercise"]
            cells += _markdown("\n\n".join(exercises), labels, efforts)
        elif what == "answer":
            cells.append(nbformat.v4.new_markdown_cell(f"**Solution of {plain.exercise_name(value, labels)}.**"))
        elif what == "solution":
            cells += _markdown(value, labels, efforts) if cell is None else _shown(cell, labels)
    return _finished(cells, notebook)


def _finished(cells: list[nbformat.NotebookNode], notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    derived = nbformat.v4.new_notebook(cells=cells, metadata=copy.deepcopy(notebook.metadata))
    for number, cell in enumerate(derived.cells):
        cell["id"] = f"cell-{number}"
    return derived


def _parts(notebook: nbformat.NotebookNode) -> Iterator[tuple[str, str, nbformat.NotebookNode | None]]:
    """The notebook cut at its solutions.

    Triples: ("text", text, None) and ("cell", "", cell) outside them; ("answer", label, None) where one begins;
    ("solution", text, None) and ("solution", "", cell) inside.
    """
    inside = None
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            yield "cell" if inside is None else "solution", "", cell
            continue
        for kind, text, label in _pieces(cell.source):
            if kind == "text":
                if text.strip():
                    yield "text" if inside is None else "solution", text, None
            elif kind == "solution" and inside is None:
                yield "answer", label, None
                yield "solution", text, None
            elif kind == "solution-start" and inside is None:
                inside = label
                yield "answer", label, None
            elif kind == "solution-end" and inside is not None:
                inside = None
            else:
                raise NotDerivable(f"{{{kind}}} {label} where the solution of {inside or 'nothing'} is open")
    if inside is not None:
        raise NotDerivable(f"the solution of {inside} is not closed")


def missing_names(kept: list[str], dropped: list[str]) -> list[str]:
    """Names that the kept cells read, none of them binds, and a dropped cell does."""
    bound, read = _names(kept)
    lost, _ = _names(dropped)
    return sorted((read - bound - set(dir(builtins))) & lost)


def _pieces(source: str) -> list[tuple[str, str, str]]:
    """The text cut at the solution blocks, as triples: ("text", text, "") or (kind of block, its text, label)."""
    pieces, position = [], 0
    for match in BLOCK.finditer(source):
        pieces.append(("text", source[position : match.start()], ""))
        body = re.sub(r"\A([ \t]*:[\w-]+:[^\n]*\n)+", "", match["body"])
        pieces.append((match["kind"], body, match["label"] or ""))
        position = match.end()
    return [*pieces, ("text", source[position:], "")]


def _efforts() -> dict[str, str]:
    return {label: str(effort) for label, effort in efforts_of_the_book().items()}


def _markdown(text: str, labels: plain.Labels, efforts: dict[str, str]) -> list[nbformat.NotebookNode]:
    try:
        text = plain.plain(text, labels, efforts)
    except plain.NotPlain as error:
        raise NotDerivable(str(error)) from None
    return [nbformat.v4.new_markdown_cell(text)] if text.strip() else []


def _shown(cell: nbformat.NotebookNode, labels: plain.Labels) -> list[nbformat.NotebookNode]:
    """A cell as it is, its figure's caption below it, and its code folded away where the page folds it."""
    cell = copy.deepcopy(cell)
    figure = cell.metadata.pop("mystnb", {}).get("figure")
    if "hide-input" in cell.metadata.get("tags", []):
        cell.metadata["jupyter"] = {"source_hidden": True}
    if not figure:
        return [cell]
    number = labels.names.get(figure.get("name", ""), "Figure")
    return [cell, *_markdown(f"**{number}.** {figure.get('caption', '')}", labels, {})]


def _answer(label: str, labels: plain.Labels) -> list[nbformat.NotebookNode]:
    """A cell for words, and one for code."""
    name = plain.exercise_name(label, labels)
    lines = [f"# Your answer to {name}: code"]
    if label in EXERCISES:
        lines += ["from anabook.check import check", "", f'check("{label}", ...)']
    words = f"**Your answer to {name}:** *words and formulas, in the place of this sentence*"
    return [nbformat.v4.new_markdown_cell(words), nbformat.v4.new_code_cell("\n".join(lines))]


def needs(code: str) -> tuple[str, list[str]]:
    """The extras of the package that code needs, as pip writes them, and what else it needs."""
    extras = [extra for extra, pattern in EXTRAS.items() if re.search(pattern, code)]
    return f"[{','.join(extras)}]" if extras else "", [name for name in ALSO if re.search(rf"\b{name}\b", code)]


def _install(code: str, package: str) -> str:
    """The first cell, for code that needs some of the package's extras."""
    extras, also = needs(code)
    more = "".join(f" {name}" for name in also)
    return (WITH_SOURCE if package else WITH_WHEEL).format(extras=extras, also=more, source=package)


def _references(keys: list[str]) -> str:
    lines = sorted(plain.reference(key) for key in set(keys))
    return "## Works cited\n\n" + "\n".join(f"* {line}" for line in lines)


def _names(sources: list[str]) -> tuple[set[str], set[str]]:
    bound: set[str] = set()
    read: set[str] = set()
    for source in sources:
        code = "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines())
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Name):
                (read if isinstance(node.ctx, ast.Load) else bound).add(node.id)
            elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                bound.add(node.name)
            elif isinstance(node, ast.arg):
                bound.add(node.arg)
            elif isinstance(node, ast.alias):
                bound.add((node.asname or node.name).split(".")[0])
    return bound, read


def at_home(text: str) -> Path:
    """A path of the command line; not every shell expands a tilde after an equals sign."""
    try:
        return path(text, "a path")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def read(notebook: Path) -> nbformat.NotebookNode:
    """A notebook in the present format.

    Raises:
        ValueError: it is none, or cannot be read; in a sentence that names it.
    """
    if notebook.suffix != ".ipynb" or not notebook.is_file():
        raise ValueError(f"{str(notebook)!r} is not a notebook.")
    try:
        found = nbformat.read(notebook, as_version=4)
        nbformat.validate(found)
    except OSError as error:
        raise ValueError(refused(error)) from None
    except Exception as error:  # nbformat has no one kind of error for what is no notebook
        raise ValueError(f"{str(notebook)!r} is no notebook that can be read ({reason(error).rstrip('.')}).") from None
    return found


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    try:
        return _main(arguments)
    except OSError as error:
        print(f"student: {refused(error)}", file=sys.stderr)
        return 2


def _main(arguments: list[str] | None) -> int:
    parser = argparse.ArgumentParser(description="Derive notebooks without solutions.")
    parser.add_argument("paths", nargs="*", type=at_home, metavar="NOTEBOOK", help="default: every book/*.ipynb")
    parser.add_argument("--solutions", action="store_true", help="write the exercises with their solutions instead")
    parser.add_argument(
        "--out", type=at_home, metavar="DIR", help="where to write (_build/student; with --solutions, _build/solutions)"
    )
    repository = os.environ.get("ANABOOK_REPOSITORY", "").strip().rstrip("/")
    parser.add_argument(
        "--package",
        default=f"git+{repository}" if repository else "",
        metavar="SOURCE",
        help="what pip can install the package from, such as git+https://…; without it, a wheel beside the notebook "
        "(git+ANABOOK_REPOSITORY, if that is set)",
    )
    options = parser.parse_args(arguments)
    options.out = options.out or Path("_build", "solutions" if options.solutions else "student")
    if re.search(r"[\s\"'{}$]", options.package):
        parser.error(f"--package must be an address without spaces, quotes and braces, not {options.package!r}")
    paths = options.paths or sorted(found for found in BOOK.glob("*.ipynb") if not found.name.startswith("."))
    try:
        originals = {notebook: read(notebook) for notebook in paths}
    except ValueError as error:
        print(f"student: {error}", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    failed = False
    for notebook, original in originals.items():
        if (options.out / notebook.name).resolve() == notebook.resolve():
            print(f"student: {str(notebook)!r} would be overwritten: choose another --out.", file=sys.stderr)
            return 2
        name = notebook.stem
        try:
            if options.solutions and not any(what == "answer" for what, _, _ in _parts(original)):
                continue
            derived = solutions(original, name) if options.solutions else derive(original, name, options.package)
        except NotDerivable as error:
            print(f"student: {notebook.name}: {error}", file=sys.stderr)
            failed = True
            continue
        nbformat.write(derived, options.out / notebook.name)
        print(f"student: {options.out / notebook.name}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
