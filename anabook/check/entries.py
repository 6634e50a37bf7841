"""Exercises as data: what is kept of an answer, and the TOML files in which the book and its teachers keep it."""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

from anabook._carried import carried
from anabook._validate import choice, did_you_mean
from anabook._validate import path as path_at

MAX_DECIMALS = 12
"""Doubles have no more that can be relied upon."""


@dataclass(frozen=True)
class Exercise:
    """What is needed to recognise the answer to one exercise.

    Attributes:
        digests: hashes of the rounded values, one for each; see `exercise`.
        hint: one sentence for a reader whose answer is not right.
        shape: () for a number, else the shape of the array.
        decimals: decimals that count; None for whole numbers, which must be exact.
        options: the words to choose from, where the answer is a word.
        points: where to evaluate, one tuple of arguments each, where the answer is a function.
        slips: hash of a well-known wrong number → the sentence that helps.

    Example:
        >>> from anabook.check import exercise
        >>> exercise("ex-mine-1", 4, "count the bins, not the thresholds.").hint
        'count the bins, not the thresholds.'
    """

    digests: tuple[str, ...]
    hint: str
    shape: tuple[int, ...] = ()
    decimals: int | None = None
    options: tuple[str, ...] = ()
    points: tuple[tuple[float, ...], ...] = ()
    slips: Mapping[str, str] = field(default_factory=dict)


_EFFORT = ("minutes", "difficulty")
DIFFICULTIES = ("easy", "medium", "hard")


@dataclass(frozen=True)
class Effort:
    """What an exercise asks of a student: `minutes`, and a `difficulty` of "easy", "medium" or "hard"."""

    minutes: int
    difficulty: str

    def __str__(self) -> str:
        return f"{self.minutes} minutes · {self.difficulty}"


@cache
def of_the_book() -> dict[str, Exercise]:
    """The book's exercises by label: of the repository's `book/exercises.toml`, or of the copy that comes with the package.

    Raises:
        FileNotFoundError: this copy of the package came without them.
    """
    return read(carried("exercises.toml", "book/exercises.toml", "exercises"))


def efforts_of_the_book() -> dict[str, Effort]:
    """What each of the book's exercises asks of a student, by label; those without an answer on file, too."""
    return efforts(carried("exercises.toml", "book/exercises.toml", "exercises"))


def efforts(path: str | os.PathLike) -> dict[str, Effort]:
    """The minutes and the difficulty of the exercises of a TOML file, by label, of those that say both."""
    found = {}
    for label, table in _tables(path).items():
        minutes, difficulty = _effort(label, table)
        if minutes is not None and difficulty is not None:
            found[label] = Effort(minutes, difficulty)
    return found


def read(path: str | os.PathLike) -> dict[str, Exercise]:
    """The exercises of a TOML file, by label: a table each, as `as_toml` writes it.

    A table may also say `minutes` and `difficulty`; one that says nothing else is of an exercise that a person marks, and is
    left out.

    Args:
        path: of the file; `~` is the home folder.

    Raises:
        ValueError: no such file, no TOML, or an entry that is none, with its label.

    Example:
        >>> from pathlib import Path
        >>> from anabook.check import as_toml, check, exercise
        >>> n = Path("mine.toml").write_text(as_toml("ex-mine-1", exercise("ex-mine-1", 4, "count the bins.")))
        >>> check("ex-mine-1", 4, read("mine.toml"))
        Right.
    """
    entries = {}
    for label, table in _tables(path).items():
        _effort(label, table)
        if not (isinstance(table, dict) and table and set(table) <= set(_EFFORT)):
            entries[label] = _entry(label, table)
    return entries


def _tables(path: str | os.PathLike) -> dict[str, Any]:
    path = path_at(path, "the file of exercises")
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # editors of some systems begin with a byte order mark
    except OSError as error:
        raise ValueError(f"cannot read the exercises {str(path)!r}: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise ValueError(f"the exercises {str(path)!r} are not a text file in UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"the exercises {str(path)!r} are not TOML: {error}.") from None
    return tables


def as_toml(label: str, entry: Exercise) -> str:
    """An entry as a table of a TOML file, to be pasted into one; `read` gives the entry back.

    >>> from anabook.check import exercise
    >>> entry = exercise("ex-mine-1", 12, "count the corners, too.", slips={8: "those are the corners."})
    >>> print(as_toml("ex-mine-1", entry))
    [ex-mine-1]
    hint = "count the corners, too."
    digests = ["c41765ca152e"]
    <BLANKLINE>
    [ex-mine-1.slips]
    b96c998b08ac = "those are the corners."
    <BLANKLINE>
    """
    name = label if re.fullmatch(r"[\w-]+", label, flags=re.ASCII) else _text(label)
    lines = [f"[{name}]", f"hint = {_text(entry.hint)}"]
    lines += [] if entry.decimals is None else [f"decimals = {entry.decimals}"]
    for what in ("shape", "options", "points", "digests"):
        if value := getattr(entry, what):
            lines.append(f"{what} = {_text(value)}")
    if entry.slips:
        lines += ["", f"[{name}.slips]", *(f"{digest} = {_text(sentence)}" for digest, sentence in entry.slips.items())]
    return "\n".join(lines) + "\n"


def _text(value: Any) -> str:
    """A string, or a list of strings and numbers: TOML writes them as JSON does."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # the one character that only TOML escapes


def _entry(label: str, table: Any) -> Exercise:
    """The entry of a table, each value of the kind that it must be."""
    where = f"the exercise {label!r}"
    if not isinstance(table, dict):
        raise ValueError(f"{where} must be a table with a hint and digests, not {table!r}.")
    known = [each.name for each in fields(Exercise)] + [*_EFFORT]
    for name in table:
        if name not in known:
            raise ValueError(
                f"{where} has the unknown key {name!r}{did_you_mean(name, known)}; allowed are {', '.join(known)}."
            )
    hint, decimals, slips = table.get("hint"), table.get("decimals"), table.get("slips", {})
    if not isinstance(hint, str) or not hint.strip():
        raise ValueError(f"{where} must have a hint, one sentence, not {hint!r}.")
    if decimals is not None and (type(decimals) is not int or not 0 <= decimals <= MAX_DECIMALS):
        raise ValueError(
            f"decimals of {where} must be an integer from 0 to {MAX_DECIMALS}, or left out for whole numbers, "
            f"not {decimals!r}."
        )
    digests = _row(table.get("digests"), _is_digest, f"digests of {where}", "a list of hashes of 12 hexadecimal digits")
    shape = _row(table.get("shape", []), _is_length, f"shape of {where}", "a list of whole numbers from 1 on")
    options = _row(table.get("options", []), _is_word, f"options of {where}", "a list of words")
    points = _row(table.get("points", []), _is_point, f"points of {where}", "a list of lists of numbers")
    if not isinstance(slips, dict) or not all(map(_is_digest, slips)) or not all(map(_is_word, slips.values())):
        raise ValueError(
            f"slips of {where} must be a table with hashes of 12 hexadecimal digits and a sentence each, not {slips!r}."
        )
    if len(digests) != math.prod(shape) or (points and shape != (len(points),)):
        raise ValueError(f"{where} has {len(digests)} digests and {len(points)} points, which do not fit its shape {shape}.")
    options = tuple(word.casefold() for word in options)
    return Exercise(digests, hint, shape, decimals, options, tuple(tuple(map(float, point)) for point in points), slips)


def _effort(label: str, table: Any) -> tuple[int | None, str | None]:
    """What a table says of minutes and difficulty, if it does."""
    if not isinstance(table, dict):
        return None, None
    minutes, difficulty = (table.get(name) for name in _EFFORT)
    if minutes is not None and (type(minutes) is not int or minutes < 1):
        raise ValueError(f"minutes of the exercise {label!r} must be a whole number from 1 on, not {minutes!r}.")
    if difficulty is not None:
        choice(difficulty, DIFFICULTIES, f"difficulty of the exercise {label!r}")
    return minutes, difficulty


def _row(values: Any, is_one: Callable[[Any], bool], what: str, kind: str) -> tuple[Any, ...]:
    if not isinstance(values, list) or not all(map(is_one, values)):
        raise ValueError(f"{what} must be {kind}, not {values!r}.")
    return tuple(values)


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{12}", value) is not None


def _is_word(value: Any) -> bool:
    return isinstance(value, str)


def _is_length(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(each) in (int, float) for each in value)
