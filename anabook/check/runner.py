"""The process that runs one notebook for `grade`: cell by cell, behind fences, telling what is checked as it goes.

It writes one JSON object a line to what was its standard output: the fences that hold, the cell that begins, the answers
that were handed to `check`, the first error. Answers go out as plain data and are judged by the process that grades, so that
a notebook that changes `check` only loses its marks.
"""

from __future__ import annotations

import builtins
import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from anabook.check import checker, fences
from anabook.check.entries import Exercise, of_the_book, read

_LONGEST = 300  # characters of a sentence
_MAGIC = re.compile(r"^\s*(%%\w+|[%!?]|\w.*\?\s*$)")
_RUNS_ITS_CELL = ("%%time", "%%timeit", "%%capture", "%%prun")


def main() -> None:
    """Run the notebook that the JSON object in the first argument describes."""
    order = json.loads(sys.argv[1])
    channel = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def tell(**message: Any) -> None:
        os.write(channel, json.dumps(message).encode() + b"\n")

    folder = Path(order["folder"])
    os.chdir(folder)
    known = {**of_the_book(), **(read(order["exercises"]) if order["exercises"] else {})}
    tell(held=fences.put_up(folder, order["seconds"], order["memory"], Path(order["secret"]), order["readable"]))
    try:
        cells = code_cells(Path(order["notebook"]))
    except ValueError as error:
        tell(broken=str(error))
    else:
        run(cells, recording(known, tell), tell)
        tell(done=True)
    os._exit(0)  # whatever threads the notebook has left behind


def code_cells(path: Path) -> list[tuple[int, str]]:
    """The code cells of a notebook with their numbers, counted from 1 among all cells.

    Raises:
        ValueError: it is no notebook, in one sentence.
    """
    try:
        content = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise ValueError("this is not a notebook: it is not JSON.") from None
    except MemoryError:
        raise ValueError("this is not a notebook: it does not fit into the memory that is allowed.") from None
    cells = content.get("cells") if isinstance(content, dict) else None
    if not isinstance(cells, list):
        old = isinstance(content, dict) and "worksheets" in content
        raise ValueError(
            "this notebook has a format older than 4: open it in Jupyter and save it again."
            if old
            else "this is not a notebook: it has no list of cells."
        )
    found = []
    for number, cell in enumerate(cells, start=1):
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            source = cell.get("source", "")
            lines = source if isinstance(source, list) else [source]
            if not all(isinstance(line, str) for line in lines):
                raise ValueError(f"this is not a notebook: the source of cell {number} is not text.")
            found.append((number, "".join(lines)))
    return found


def recording(known: Mapping[str, Exercise], tell: Callable[..., None]) -> Callable[..., checker.Reply]:
    """A `check` that also tells what was answered."""
    judge = checker.check

    def check(label: str, answer: Any, exercises: Mapping[str, Exercise] | None = None) -> checker.Reply:
        if label in known:
            if answer is ...:
                tell(label=label, blank=True)
            else:
                try:
                    tell(label=label, said=checker.stated(known[label], answer))
                except checker.Unusable as problem:
                    tell(label=label, problem=_short(problem))
        return judge(label, answer, known if exercises is None else exercises)

    return check


def run(cells: list[tuple[int, str]], check: Callable[..., checker.Reply], tell: Callable[..., None]) -> None:
    """Run cells one after the other in one module; one that fails does not stop those after it."""
    for place in (sys.modules["anabook.check"], checker):
        vars(place)["check"] = check
    vars(builtins)["display"] = lambda *_, **__: None
    module = ModuleType("__main__")
    sys.modules["__main__"] = module
    sys.path.append(os.getcwd())
    failed = False
    for number, source in cells:
        tell(cell=number)
        try:
            exec(_compiled(source, f"<cell {number}>"), module.__dict__)
        except BaseException as error:  # sys.exit and the like are not the end of the others
            if not failed:
                failed = True
                tell(error=_sentence(error))


def _compiled(source: str, name: str) -> Any:
    """The code of a cell; lines for Jupyter, such as %matplotlib or !pip, are left out where they are no Python."""
    try:
        return compile(source, name, "exec", dont_inherit=True)
    except SyntaxError:
        lines = source.splitlines()
        first = lines[0].split()[0] if lines and lines[0].split() else ""
        if first.startswith("%%") and first not in _RUNS_ITS_CELL:
            return compile("", name, "exec")
        kept = [line[: len(line) - len(line.lstrip())] + "pass" if _MAGIC.match(line) else line for line in lines]
        if kept == lines:
            raise
        return compile("\n".join(kept), name, "exec", dont_inherit=True)


def _sentence(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return _short(f"is not Python (line {error.lineno}: {error.msg})")
    text = ""
    with contextlib.suppress(BaseException):  # an exception's own text can raise, too
        text = str(error)
    return _short(f"raised {type(error).__name__}" + (f": {text}" if text.strip() else ""))


def _short(text: object) -> str:
    words = " ".join(str(text).split())
    return words if len(words) <= _LONGEST else words[: _LONGEST - 1] + "…"
