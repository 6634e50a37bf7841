"""A reader's answers, checked offline: right, or not yet and a hint.

    >>> from anabook.check import check
    >>> check("ex-quantisers-1", [-0.5, 0.0, 0.25])
    Not yet: 4 values are asked for, in one row (shape (4,)), not shape (3,).

Answers are kept as hashes of rounded values: out of sight, so that nobody reads the solution by accident,
though not out of reach of somebody who wants it. Those of the book are data, in `book/exercises.toml`; `EXERCISES` has
them by label. A teacher can check exercises of their own: `exercise` makes an entry from the true answer, `as_toml` writes
it for such a file, `read` reads one, and `check` takes a dictionary of entries. `grade` runs a folder of students' notebooks
and says which of their answers are right. `below` says how far apart numbers are that should be equal.
"""

from __future__ import annotations

from typing import Any

from anabook.check.checker import Reply, check, exercise
from anabook.check.differences import below
from anabook.check.entries import Exercise, as_toml, of_the_book, read

__all__ = ["EXERCISES", "Exercise", "Graded", "Reply", "as_toml", "below", "check", "exercise", "grade", "read"]

_OF_LECTURERS = ("Graded", "grade")


def __getattr__(name: str) -> Any:
    if name == "EXERCISES":  # read when it is first asked for
        return of_the_book()
    if name in _OF_LECTURERS:
        from anabook.check import grading

        return getattr(grading, name)
    raise AttributeError(f"module 'anabook.check' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), "EXERCISES", *_OF_LECTURERS})
