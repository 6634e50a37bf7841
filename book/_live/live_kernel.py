"""Runs the cells of a page: the part of Python in the page that is written in Python, the same for every engine.

The page's worker calls `run` with a cell and hands this module one function, or standard output, to write to. What a
cell prints, shows and raises leaves as lines of JSON in the form that notebooks store it in: streams, displays, results, errors.
It is Python's own `exec` with what chapters use of IPython: the last expression is the result, `display` shows rich
objects, and figures are shown at the end of the cell that draws them.
"""

from __future__ import annotations

import ast
import base64
import io
import json
import linecache
import sys
import time
import traceback
import types
from collections.abc import Callable
from typing import Any

MOST_TEXT = 200_000
"""How many characters of text a cell may print before the rest is left out."""

HELD_BACK_S = 0.1
"""How long printed text may wait for more to come."""

REPRESENTATIONS = {
    "text/html": "_repr_html_",
    "text/latex": "_repr_latex_",
    "text/markdown": "_repr_markdown_",
    "image/svg+xml": "_repr_svg_",
    "image/png": "_repr_png_",
}

namespace = types.ModuleType("__main__")
"""The variables of the page's cells."""


class _State:
    emit: Callable[[str], Any]
    cell = 0
    options: dict[str, Any] = {}
    absent: dict[str, str] = {}


class Printed(io.TextIOBase):
    """Standard output or error of the cells: text leaves in lumps, and no more of it than a page can show."""

    encoding = "utf-8"

    def __init__(self, name: str) -> None:
        self.stream = name
        self.begin()

    def begin(self) -> None:
        """A new cell."""
        self.waiting: list[str] = []
        self.since = time.monotonic()
        self.left = MOST_TEXT

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, text: str) -> int:
        """Take text."""
        if self.left > 0:
            taken = text[: self.left]
            self.left -= len(taken)
            self.waiting.append(taken)
            if self.left == 0:
                self.waiting.append(f"\n… the rest is left out: a cell shows {MOST_TEXT:,} characters at most\n")
            if self.left == 0 or ("\n" in taken and time.monotonic() - self.since > HELD_BACK_S):
                self.flush()
        return len(text)

    def flush(self) -> None:
        """Send what waits."""
        if self.waiting:
            _send({"output_type": "stream", "name": self.stream, "text": "".join(self.waiting)})
            self.waiting = []
        self.since = time.monotonic()


_streams = {"stdout": Printed("stdout"), "stderr": Printed("stderr")}


def _send(output: dict[str, Any]) -> None:
    _State.emit(json.dumps({"cell": _State.cell, "output": output}))


def _flush() -> None:
    for stream in _streams.values():
        stream.flush()


def plain(value: Any) -> str:
    """The text that IPython shows of a value."""
    from IPython.lib.pretty import pretty

    return pretty(value)


def bundle(value: Any) -> dict[str, Any]:
    """All forms in which a value can show itself, by their media types."""
    if type(value).__module__ == "matplotlib.figure" and hasattr(value, "savefig"):
        return picture(value)
    found: dict[str, Any] = {"text/plain": plain(value)}
    if isinstance(value, type):
        return found
    if callable(make := getattr(value, "_repr_mimebundle_", None)):
        made = make(include=None, exclude=None)
        found.update((made[0] if isinstance(made, tuple) else made) or {})
    for kind, method in REPRESENTATIONS.items():
        if kind not in found and callable(make := getattr(value, method, None)):
            made = make()
            if made is not None:
                found[kind] = base64.b64encode(made).decode() if isinstance(made, bytes) else made
    return found


def display(*values: Any) -> None:
    """Show values, as IPython's `display` does."""
    _flush()
    for value in values:
        if value is not None:
            _send({"output_type": "display_data", "data": bundle(value), "metadata": {}})


def picture(figure: Any) -> dict[str, Any]:
    """A figure of matplotlib as SVG or as PNG, as the cell's options ask for."""
    file = io.BytesIO()
    looks = {"bbox_inches": "tight", "facecolor": figure.get_facecolor(), "edgecolor": figure.get_edgecolor()}
    if _State.options.get("figures") == "svg":
        figure.savefig(file, format="svg", **looks)
        return {"text/plain": plain(figure), "image/svg+xml": file.getvalue().decode()}
    scale = _State.options.get("scale", 1)
    figure.savefig(file, format="png", dpi=figure.dpi * scale, **looks)
    return {"text/plain": plain(figure), "image/png": base64.b64encode(file.getvalue()).decode()}


def show_figures() -> None:
    """Show and close every figure that is open."""
    if "matplotlib.pyplot" not in sys.modules:
        return
    from matplotlib import pyplot

    try:
        for number in pyplot.get_fignums():
            display(pyplot.figure(number))
    finally:
        pyplot.close("all")


class _Absent:
    """Says in one sentence what is not in the page's Python; comes last, when nothing else has found a module."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        first = name.partition(".")[0]
        if first in _State.absent:
            raise ModuleNotFoundError(f"{_State.absent[first]} is not part of the Python in this page", name=first)


def begin(settings: str, emit: Callable[[str], Any] | None = None) -> None:
    """Prepare this Python for cells.

    Args:
        settings: JSON: `absent`, which top modules this Python is without, with their names for readers.
        emit: takes the lines of JSON; the default writes them to the standard output that there is.
    """
    if emit is None:
        out = sys.stdout

        def emit(line: str) -> None:
            out.write(line + "\n")
            out.flush()

    _State.emit = emit
    _State.absent = json.loads(settings).get("absent", {})
    sys.stdout, sys.stderr = _streams["stdout"], _streams["stderr"]
    sys.meta_path.append(_Absent())
    sys.modules["__main__"] = namespace
    namespace.__dict__.update(__builtins__=__builtins__, display=display)


def run(request: str) -> None:
    """Run one cell; what it shows leaves in between.

    Args:
        request: JSON: `cell`, its number; `source`; `figures`, "png" or "svg"; `scale`, pixels of PNG for one of the page.
    """
    _State.options = json.loads(request)
    _State.cell = _State.options["cell"]
    for stream in _streams.values():
        stream.begin()
    name = f"<cell {_State.options.get('label', _State.cell)}>"
    source = _State.options["source"]
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    try:
        _execute(source, name)
        show_figures()
    except BaseException as error:
        _flush()
        _send(failure(error, name))
        if "matplotlib.pyplot" in sys.modules:
            sys.modules["matplotlib.pyplot"].close("all")
    _flush()


def _execute(source: str, name: str) -> None:
    tree = ast.parse(source, name)
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr) and not _is_quiet(source):
        last = ast.Expression(tree.body.pop().value)
    exec(compile(tree, name, "exec"), namespace.__dict__)
    if last is not None:
        value = eval(compile(last, name, "eval"), namespace.__dict__)
        if value is not None:
            _flush()
            _send({"output_type": "execute_result", "data": bundle(value), "metadata": {}})


def _is_quiet(source: str) -> bool:
    """Whether the last statement ends with a semicolon, which asks for no result."""
    from tokenize import COMMENT, ENDMARKER, NEWLINE, NL, generate_tokens

    tokens = [t for t in generate_tokens(io.StringIO(source).readline) if t.type not in (COMMENT, ENDMARKER, NEWLINE, NL)]
    return bool(tokens) and tokens[-1].string == ";"


def failure(error: BaseException, name: str) -> dict[str, Any]:
    """An error as notebooks store it; the traceback begins with the cell's own lines."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename != name:
        frames = frames.tb_next
    lines = traceback.TracebackException(type(error), error, frames or None).format()
    output = {
        "output_type": "error",
        "ename": type(error).__name__,
        "evalue": str(error),
        "traceback": "".join(lines).rstrip("\n").split("\n"),
    }
    if isinstance(error, ModuleNotFoundError):
        output["absent"] = error.name
    if isinstance(error, NameError):
        output["undefined"] = error.name
    return output
