"""Grading a folder of students' notebooks: each is run in a process of its own, and what it hands to `check` is judged here."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anabook import _validate
from anabook._files import write_text
from anabook._table import Table
from anabook.check import checker
from anabook.check.entries import Exercise, of_the_book, read

_LARGEST_NOTEBOOK = 50 * 2**20
_LARGEST_FILES = 200 * 2**20  # of what else a student handed in beside a notebook
_LONGEST_REPORT = 4 * 2**20
_MANY = 20  # calls of `check` for one exercise from which on a lecturer may want to know
_KEPT = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "ANABOOK_DATA", "ANABOOK_RESULTS")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_START = "import sys, json; sys.path[:] = json.loads(sys.argv[1])['path']; from anabook.check import runner; runner.main()"
_SPREADSHEET = ("=", "+", "-", "@", "\t", "\r")  # how a formula begins


@dataclass(frozen=True)
class Graded:
    """What came of one notebook.

    Attributes:
        student: the name of the student's folder, or of the notebook where it lies directly in the folder that is graded.
        notebook: its path in that folder; "" where there is none.
        marks: "right", "wrong" or "blank" for each exercise that it checks, by label; the last call counts.
        note: what kept it from being run, or what a lecturer should know of it; "" if nothing.
        held: what the operating system itself refused while it ran: "network", "files", or fewer.
    """

    student: str
    notebook: str
    marks: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    held: tuple[str, ...] = ()

    def labels(self, mark: str) -> list[str]:
        """The exercises with this mark."""
        return [label for label, found in self.marks.items() if found == mark]


def grade(
    folder: str | os.PathLike,
    *,
    seconds: float = 300,
    memory: float = 4,
    exercises: str | os.PathLike | None = None,
    report: Callable[[Graded], None] | None = None,
) -> list[Graded]:
    """Run the notebooks in a folder, and judge what they hand to `check`.

    A notebook directly in the folder is a student's own, named after the student; one in a folder of its own is that of the
    student after whom the folder is named. Each is copied, and the copy is run in a process of its own: cell by cell, on
    after cells that fail, without a network, without other programs, without writing outside the copy, without the
    environment's variables. `anabook.check.fences` says how far that holds. Nothing in the folder is changed.

    Args:
        folder: with the notebooks, or with a folder for each student.
        seconds: that a notebook may take.
        memory: that it may fill with data, in GiB.
        exercises: a file of exercises of your own, besides the book's; see `read`.
        report: called with each notebook's result as soon as it is there.

    Raises:
        ValueError: no such folder, nothing in it, or a bad limit.

    Example:
        >>> import json
        >>> from pathlib import Path
        >>> from anabook.check import grade
        >>> Path("handed-in").mkdir()
        >>> cell = {"cell_type": "code", "source": "from anabook.check import check; check('ex-start-2', 39)"}
        >>> n = Path("handed-in/anna.ipynb").write_text(json.dumps({"cells": [cell], "nbformat": 4}))
        >>> [(one.student, one.marks) for one in grade("handed-in")]
        [('anna', {'ex-start-2': 'wrong'})]
    """
    place = _validate.path(folder, "the folder to grade")
    if not place.is_dir():
        raise ValueError(f"the folder to grade must be a folder with notebooks, not {str(folder)!r}.")
    seconds = _validate.real(seconds, "seconds", above=0)
    memory = _validate.real(memory, "memory", minimum=0.5)
    own = None if exercises is None else _validate.path(exercises, "the file of exercises").resolve()
    known = {**of_the_book(), **(read(own) if own else {})}
    found = list(_handed_in(place))
    if not found:
        raise ValueError(f"the folder {str(folder)!r} has no notebook (.ipynb) in it, and no folder with one.")
    results = []
    for student, path in found:
        name = path.relative_to(place).as_posix()
        if refusal := _refusal(path):
            one = Graded(student, name, note=refusal)
        else:
            one = _grade_one(student, path, place, name, seconds, memory, own, known)
        results.append(one)
        if report is not None:
            report(one)
    return results


def table(results: Sequence[Graded]) -> Table:
    """What `grade` found, a row for each notebook: how many exercises are right, which are not, and the note."""
    rows = tuple(
        (
            _plain(one.student),
            str(len(one.labels("right"))),
            ", ".join(one.labels("wrong")) or "–",
            ", ".join(one.labels("blank")) or "–",
            _plain(one.note),
        )
        for one in results
    )
    caption = f"{len(results)} notebook{'s' * (len(results) != 1)}"
    return Table(caption, ("student", "right", "wrong", "without an answer", "note"), rows)


def as_csv(results: Sequence[Graded]) -> str:
    """What `grade` found as comma-separated values: a row for each notebook, a column for each exercise of any of them.

    Texts that a spreadsheet would take for a formula begin with an apostrophe.
    """
    labels = list(dict.fromkeys(label for label in of_the_book() if any(label in one.marks for one in results)))
    labels += sorted({label for one in results for label in one.marks} - set(labels))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["student", "notebook", "right", "wrong", "blank", *labels, "note"])
    for one in results:
        counts = [len(one.labels(mark)) for mark in ("right", "wrong", "blank")]
        marks = [one.marks.get(label, "") for label in labels]
        writer.writerow([_cell(one.student), _cell(one.notebook), *counts, *marks, _cell(one.note)])
    return text.getvalue()


def write_csv(results: Sequence[Graded], path: Path) -> None:
    """Write `as_csv` to a file that a spreadsheet opens as UTF-8."""
    write_text(path, "\ufeff" + as_csv(results), 0o644)


def check_target(path: Path, folder: Path) -> None:
    """Refuse a CSV file inside the folder that is graded, or in the place of a file that is none of ours.

    Raises:
        ValueError: it is such a file, or in a folder that is not there.
    """
    where = path.resolve()
    if where.is_relative_to(folder.resolve()):
        raise ValueError(
            f"the CSV file {str(path)!r} would be written into the folder that is graded: choose another place."
        )
    if where.is_dir() or not where.parent.is_dir():
        raise ValueError(f"the CSV file must be a file in a folder that exists, not {str(path)!r}.")
    if where.exists():
        with open(where, "rb") as file:
            begin = file.read(40).removeprefix(b"\xef\xbb\xbf")
        if not begin.startswith(b"student,notebook,"):
            raise ValueError(f"{str(path)!r} exists and was not written by this command: choose another file.")


def _handed_in(folder: Path) -> Iterator[tuple[str, Path]]:
    """Students and their notebooks; for a student without one, what is there instead."""
    for entry in sorted(folder.iterdir(), key=lambda path: path.name.casefold()):
        if _hidden(entry.name):
            continue
        if entry.is_dir() and not entry.is_symlink():
            notebooks = []
            for where, folders, files in os.walk(entry):
                folders[:] = sorted(name for name in folders if not _hidden(name))
                notebooks += [Path(where, name) for name in sorted(files) if _is_notebook(name)]
            yield from ((entry.name, path) for path in notebooks or [entry])
        else:
            yield entry.stem, entry


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _is_notebook(name: str) -> bool:
    return name.casefold().endswith(".ipynb") and not _hidden(name)


def _refusal(path: Path) -> str:
    """Why a path is not even opened; "" if it is."""
    try:
        status = os.lstat(path)
    except OSError as error:
        return f"this cannot be read: {error.strerror}."
    if stat.S_ISDIR(status.st_mode):
        return "there is no notebook (.ipynb) in this folder."
    if not _is_notebook(path.name):
        return "this is not a notebook (.ipynb)."
    if not stat.S_ISREG(status.st_mode):
        return "this is a link or a device, not a file."
    if status.st_size > _LARGEST_NOTEBOOK:
        return f"this file has {status.st_size / 2**20:.0f} MB; more than {_LARGEST_NOTEBOOK // 2**20} are not opened."
    return ""


def _grade_one(
    student: str,
    path: Path,
    folder: Path,
    name: str,
    seconds: float,
    memory: float,
    own: Path | None,
    known: Mapping[str, Exercise],
) -> Graded:
    with tempfile.TemporaryDirectory(prefix="anabook-grade-", ignore_cleanup_errors=True) as temporary:
        work = Path(temporary, "notebook")
        work.mkdir()
        try:
            _copy(path, work, beside=path.parent != folder)
        except OSError as error:
            return Graded(student, name, note=f"this cannot be read: {error.strerror}.")
        for folder_of in ("home", "matplotlib"):
            (work / f".{folder_of}").mkdir()
        _copy_fonts(work / ".matplotlib")
        path_of_modules = _search_path(folder)
        order = {
            "notebook": str(work / path.name),
            "folder": str(work),
            "secret": str(folder.resolve()),
            "readable": [*path_of_modules, sys.prefix, sys.base_prefix],
            "exercises": None if own is None else str(own),
            "seconds": seconds,
            "memory": memory,
            "path": path_of_modules,
        }
        lines, ending = _run(order, _environment(work), work, seconds)
    return _read(student, name, lines, ending, known)


def _copy(path: Path, work: Path, *, beside: bool) -> None:
    """Copy a notebook, and the files that lie beside it where the folder is the student's own."""
    shutil.copyfile(path, work / path.name, follow_symlinks=False)
    left = _LARGEST_FILES
    for other in sorted(path.parent.iterdir()) if beside else ():
        status = os.lstat(other)
        if stat.S_ISREG(status.st_mode) and other != path and not _is_notebook(other.name) and not _hidden(other.name):
            left -= status.st_size
            if left >= 0:
                shutil.copyfile(other, work / other.name, follow_symlinks=False)


def _copy_fonts(target: Path) -> None:
    """Matplotlib's list of fonts, which takes it seconds to make."""
    with contextlib.suppress(Exception):  # what is missing is made again
        import matplotlib

        for path in Path(matplotlib.get_cachedir()).glob("fontlist*.json"):
            shutil.copyfile(path, target / path.name)


def _search_path(folder: Path) -> list[str]:
    """Where this process finds modules, and so the other one, too; not in the folder that it stands in or that is graded."""
    places = [Path(place).resolve() for place in sys.path if place]
    return [str(place) for place in places if place != folder.resolve()]


def _environment(work: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    own = {"HOME": str(work / ".home"), "TMPDIR": str(work), "TEMP": str(work), "TMP": str(work)}
    quiet = {"MPLBACKEND": "agg", "MPLCONFIGDIR": str(work / ".matplotlib"), "TORCH_COMPILE_DISABLE": "1"}
    return {**kept, **own, "USERPROFILE": own["HOME"], **quiet, **dict.fromkeys(_THREADS, "1")}


def _run(order: dict[str, Any], environment: dict[str, str], work: Path, seconds: float) -> tuple[list[Any], str]:
    """What the process told, and how it ended where it did not end well."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-B", "-c", _START, json.dumps(order)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=work,
        env=environment,
        start_new_session=True,
    )
    told = bytearray()

    def listen() -> None:
        assert process.stdout is not None
        while chunk := os.read(process.stdout.fileno(), 2**16):
            told.extend(chunk[: _LONGEST_REPORT - len(told)])
            if len(told) >= _LONGEST_REPORT:
                return _end(process)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    ending = ""
    try:
        code = process.wait(timeout=seconds)
        if code:
            ending = f"it ended by signal {-code}" if code < 0 else f"it ended itself with exit code {code}"
    except subprocess.TimeoutExpired:
        ending = f"it did not end within {seconds:g} seconds"
    finally:
        _end(process)
        process.wait()
        listener.join(5)  # not for ever: a process that got away may hold the other end
    if len(told) >= _LONGEST_REPORT:
        ending = "it called check so often that it was stopped"
    messages = []
    for line in bytes(told).split(b"\n"):
        with contextlib.suppress(ValueError, RecursionError):  # half a line at the end, or what a notebook wrote itself
            messages.append(json.loads(line))
    return [message for message in messages if isinstance(message, dict)], ending


def _end(process: subprocess.Popen) -> None:
    """Kill a process and those of its group."""
    with contextlib.suppress(OSError):
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def _read(student: str, name: str, messages: list[Any], ending: str, known: Mapping[str, Exercise]) -> Graded:
    """Judge what a process told. It may have told anything: only an answer that is right counts as right."""
    if not messages or not isinstance(messages[0].get("held"), list):
        return Graded(student, name, note=f"it could not be started: {ending or 'it ended itself'}.")
    held = tuple(what for what in ("network", "files") if what in messages[0]["held"])
    marks: dict[str, str] = {}
    calls: dict[str, int] = {}
    notes, cell = [], None
    for message in messages[1:]:
        if isinstance(broken := message.get("broken"), str):
            return Graded(student, name, note=_plain(broken), held=held)
        if isinstance(message.get("cell"), int):
            cell = message["cell"]
        elif isinstance(message.get("error"), str):
            notes.append(f"cell {cell} {message['error'].rstrip('.')}.")
        elif isinstance(label := message.get("label"), str) and label in known:
            marks[label] = "blank" if message.get("blank") is True else _mark(label, known[label], message.get("said"))
            calls[label] = calls.get(label, 0) + 1
    if not ending and not any(message.get("done") is True for message in messages):
        ending = "it ended itself"
    if ending:
        notes.insert(0, ending + (f", in cell {cell}." if cell is not None else ", before its first cell."))
    notes += [f"{label} was checked {count} times." for label, count in calls.items() if count > _MANY]
    return Graded(student, name, marks, _plain(" ".join(notes)), held)


def _mark(label: str, task: Exercise, said: Any) -> str:
    if task.options:
        right = isinstance(said, str) and said in task.options and checker.judge(label, task, said)
    else:
        right = _is_row(said, len(task.digests)) and checker.judge(label, task, [float(value) for value in said])
    return "right" if right else "wrong"


def _is_row(said: Any, length: int) -> bool:
    """Finite numbers that fit into a double, as many as there should be."""
    if not isinstance(said, list) or len(said) != length:
        return False
    return all(type(v) in (int, float) and abs(v) <= sys.float_info.max and math.isfinite(v) for v in said)


def _plain(text: str) -> str:
    """In one line, without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _cell(text: str) -> str:
    text = _plain(text)
    return f"'{text}" if text.startswith(_SPREADSHEET) else text
