"""Notebooks without solutions, for teaching.

    python tools/student.py                             every chapter with exercises, into _build/student/
    python tools/student.py --out DIR book/02-noise.ipynb …

Each exercise keeps its text. In the place of its solution stands an empty cell, with a call of `check` where an answer
is on file. Outputs outside the solutions stay. The chapters themselves are not touched.

Exit codes: 0 all written, 1 a chapter cannot be derived (the reason is printed), 2 a path is not a notebook.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import copy
import re
import sys
from pathlib import Path

import nbformat

from anabook._validate import path
from anabook.check import EXERCISES

BOOK = Path(__file__).resolve().parent.parent / "book"
BLOCK = re.compile(
    r"^(?P<fence>:{3,}|`{3,})\{(?P<kind>solution(?:-start|-end)?)\}(?:[ \t]+(?P<label>\S+))?[ \t]*\n"
    r".*?^(?P=fence)[ \t]*$\n?",
    re.MULTILINE | re.DOTALL,
)


class NotDerivable(ValueError):
    """A chapter whose solutions cannot be taken out."""


def derive(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy of ``notebook`` with an answer cell in the place of each solution.

    Raises:
        NotDerivable: a solution that is not closed, or code outside the solutions that needs a name from inside.
    """
    cells: list[nbformat.NotebookNode] = []
    dropped: list[str] = []
    inside = None
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            if inside is None:
                cells.append(copy.deepcopy(cell))
            elif cell.cell_type == "code":
                dropped.append(cell.source)
            continue
        for kind, text in _pieces(cell.source):
            if kind == "text" and inside is None:
                cells += [_markdown(text)] if text.strip() else []
            elif kind == "solution" and inside is None:
                cells.append(_answer(text))
            elif kind == "solution-start" and inside is None:
                inside = text
                cells.append(_answer(text))
            elif kind == "solution-end" and inside is not None:
                inside = None
            elif kind != "text":
                raise NotDerivable(f"{{{kind}}} {text} where the solution of {inside or 'nothing'} is open")
    if inside is not None:
        raise NotDerivable(f"the solution of {inside} is not closed")
    missing = missing_names([c.source for c in cells if c.cell_type == "code"], dropped)
    if missing:
        raise NotDerivable(f"code outside the solutions uses names defined inside: {', '.join(missing)}")
    derived = nbformat.v4.new_notebook(cells=cells, metadata=copy.deepcopy(notebook.metadata))
    for number, cell in enumerate(derived.cells):
        cell["id"] = f"cell-{number}"
    return derived


def missing_names(kept: list[str], dropped: list[str]) -> list[str]:
    """Names that the kept cells read, none of them binds, and a dropped cell does."""
    bound, read = _names(kept)
    lost, _ = _names(dropped)
    return sorted((read - bound - set(dir(builtins))) & lost)


def _pieces(source: str) -> list[tuple[str, str]]:
    """The text cut at the solution blocks, as pairs: ("text", text) or (kind of block, label)."""
    pieces, position = [], 0
    for match in BLOCK.finditer(source):
        pieces.append(("text", source[position : match.start()]))
        pieces.append((match["kind"], match["label"] or ""))
        position = match.end()
    return [*pieces, ("text", source[position:])]


def _markdown(text: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_markdown_cell(text.strip("\n"))


def _answer(label: str) -> nbformat.NotebookNode:
    lines = [f"# Your answer to {label}"]
    if label in EXERCISES:
        lines += ["from anabook.check import check", "", f'check("{label}", ...)']
    return nbformat.v4.new_code_cell("\n".join(lines))


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


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Derive notebooks without solutions.")
    parser.add_argument("paths", nargs="*", type=at_home, metavar="NOTEBOOK", help="default: every book/*.ipynb")
    parser.add_argument(
        "--out", type=at_home, default=Path("_build/student"), metavar="DIR", help="where to write (%(default)s)"
    )
    options = parser.parse_args(arguments)
    paths = options.paths or sorted(found for found in BOOK.glob("*.ipynb") if not found.name.startswith("."))
    for notebook in paths:
        if notebook.suffix != ".ipynb" or not notebook.is_file():
            print(f"student: {notebook} is not a notebook", file=sys.stderr)
            return 2
    options.out.mkdir(parents=True, exist_ok=True)
    failed = False
    for notebook in paths:
        if (options.out / notebook.name).resolve() == notebook.resolve():
            print(f"student: {notebook} would be overwritten; choose another --out", file=sys.stderr)
            return 2
        try:
            derived = derive(nbformat.read(notebook, as_version=4))
        except NotDerivable as error:
            print(f"student: {notebook.name}: {error}", file=sys.stderr)
            failed = True
            continue
        nbformat.write(derived, options.out / notebook.name)
        print(f"student: {options.out / notebook.name}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
