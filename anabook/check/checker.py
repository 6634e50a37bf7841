"""The checker: an answer against the hashes on file, and a sentence for the reader."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from anabook._validate import did_you_mean_after
from anabook.check.entries import MAX_DECIMALS, Exercise, of_the_book

_SLACK = 1e-6  # in units of the last decimal: what the scaling by a power of ten may lose
_CLOSE = 20  # in the same units: how far off an answer may be to be called close


@dataclass(frozen=True)
class Reply:
    """Whether an answer is right, and what to tell the reader. True in a condition if right."""

    right: bool
    message: str

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return "Right." if self.right else f"Not yet: {self.message}"


class Unusable(ValueError):
    """An answer of a wrong kind; the message is for the reader."""


def check(label: str, answer: Any, exercises: Mapping[str, Exercise] | None = None) -> Reply:
    """Compare an answer with the one on file.

    A number is right within one unit of the last decimal asked for: every value closer than half a unit to
    the truth passes, and none farther than one and a half. Whole numbers and words must be exact. A function
    (of plain floats) or a SymPy expression is right when its values are, at points fixed in advance.

    Args:
        label: the exercise's label, as printed in its text, such as "ex-noise-2".
        answer: a number, an array of any kind, a word, True or False, a function or a SymPy expression.
        exercises: where to look the label up; the book's own exercises by default.

    Returns:
        A `Reply`, which prints as one sentence. Answers that are no answer (of the wrong type or shape,
        NaN) get a sentence too, not an exception.

    Raises:
        ValueError: there is no such exercise.
        TypeError: the label is not a string.

    Example:
        >>> check("ex-quantisers-1", [1, 2])
        Not yet: 4 values are asked for, in one row (shape (4,)), not shape (2,).
    """
    task = _look_up(label, of_the_book() if exercises is None else exercises)
    if answer is ...:
        return Reply(False, "put your answer in the place of the dots.")
    try:
        return judge(label, task, stated(task, answer))
    except Unusable as problem:
        return Reply(False, str(problem))


def stated(task: Exercise, answer: Any) -> str | list[float]:
    """What an answer says, as plain data: the word, or the values in a row; a function's at the exercise's points.

    Raises:
        Unusable: the answer is of a wrong kind.
    """
    if task.options:
        return _word(answer, task.options)
    return _values_at(answer, task.points) if task.points else _numbers(answer, task.shape)


def judge(label: str, task: Exercise, said: str | list[float]) -> Reply:
    """Compare what `stated` made of an answer with the hashes on file."""
    if isinstance(said, str):
        right = _digest(label, 0, said) in task.digests
        return Reply(right, "" if right else task.hint)
    return _judge_numbers(label, task, said)


def exercise(
    label: str,
    answer: Any,
    hint: str,
    *,
    decimals: int | None = None,
    options: Iterable[str] = (),
    points: Iterable[Iterable[float]] = (),
    slips: Mapping[float, str] | None = None,
) -> Exercise:
    """The entry for an exercise whose true answer is known.

    Its repr can be pasted into a dictionary, and what `as_toml` makes of it into a file.

    Args:
        label: the exercise's label; it enters the hashes.
        answer: as for `check`.
        hint: one sentence, without the answer.
        decimals: 0 to 12 decimals that count; None where the values are whole numbers.
        options: the words to choose from, if the answer is one of them.
        points: tuples of arguments, if the answer is a function.
        slips: wrong numbers that readers find, each with the sentence that helps.

    Raises:
        ValueError: an answer that cannot be one, such as NaN, or a word that is not among the options.

    Example:
        >>> entry = exercise("ex-mine-1", 0.36276, "think of the scale.", decimals=4, slips={0.2: "0.2 is the scale."})
        >>> check("ex-mine-1", 0.36, {"ex-mine-1": entry})
        Not yet: think of the scale.
        >>> check("ex-mine-1", 0.3628, {"ex-mine-1": entry})
        Right.
    """
    if decimals is not None and decimals not in range(MAX_DECIMALS + 1):
        raise ValueError(f"decimals must be None or an integer from 0 to {MAX_DECIMALS}, not {decimals!r}.")
    options = tuple(word.casefold() for word in options)
    points = tuple(tuple(map(float, point)) for point in points)
    if options:
        return Exercise((_digest(label, 0, _word(answer, options)),), hint, options=options)
    shape = (len(points),) if points else np.shape(answer)
    values = _values_at(answer, points) if points else _numbers(answer, shape)
    digests = tuple(_digest(label, i, round(_scaled(v, decimals))) for i, v in enumerate(values))
    wrong = {_digest(label, 0, round(_scaled(v, decimals))): text for v, text in (slips or {}).items()}
    task = Exercise(digests, hint, shape, decimals, points=points, slips=wrong)
    verdict = _judge_numbers(label, task, values)
    if not verdict:  # a true answer that is no whole number where whole numbers are asked for
        raise ValueError(f"the answer {answer!r} does not pass its own check: {verdict.message}")
    return task


def _look_up(label: str, exercises: Mapping[str, Exercise]) -> Exercise:
    if not isinstance(label, str):
        raise TypeError(f'the exercise must be named by its label, such as "ex-noise-2", not {label!r}.')
    if label in exercises:
        return exercises[label]
    raise ValueError(f"no answer is on file for {label!r}.{did_you_mean_after(label, exercises)}")


def _digest(label: str, position: int, value: int | str) -> str:
    return hashlib.sha256(f"{label}|{position}|{value}".encode()).hexdigest()[:12]


def _scaled(value: float, decimals: int | None) -> float:
    return value * 10 ** (decimals or 0)


def _near(value: float, decimals: int | None, reach: float) -> range:
    """The whole numbers within `reach` units of the last decimal; the nearest alone where values are whole."""
    scaled = _scaled(value, decimals)
    if not math.isfinite(scaled):
        return range(0)
    if decimals is None:
        reach = 0
    return range(math.ceil(scaled - reach - _SLACK), math.floor(scaled + reach + _SLACK) + 1)


def _judge_numbers(label: str, task: Exercise, values: list[float]) -> Reply:
    def matches(i: int, value: float, reach: float = 1) -> bool:
        return any(_digest(label, i, n) == task.digests[i] for n in _near(value, task.decimals, reach))

    wrong = [i for i, value in enumerate(values) if not matches(i, value)]
    if not wrong:
        return Reply(True, "")
    if task.shape:
        return Reply(False, f"{_places(wrong, task)} {task.hint}")
    (value,) = values
    for n in _near(value, task.decimals, 1):
        if (digest := _digest(label, 0, n)) in task.slips:
            return Reply(False, task.slips[digest])
    if value and matches(0, -value):
        return Reply(False, f"the sign is the other one. {task.hint}")
    if task.decimals is not None and matches(0, value, _CLOSE):
        return Reply(False, f"close, but {task.decimals} decimals are asked for. {task.hint}")
    return Reply(False, task.hint)


def _places(wrong: list[int], task: Exercise) -> str:
    if task.points:
        where = ", ".join(f"{v:g}" for v in task.points[wrong[0]])
        return f"the value at {where} is not right ({len(wrong)} of {len(task.points)} points are not)."
    if len(wrong) == math.prod(task.shape):
        return "none of the values is right."
    indices = [np.unravel_index(i, task.shape) for i in wrong]
    named = ", ".join("[" + ", ".join(map(str, map(int, index))) + "]" for index in indices[:4])
    more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
    return f"{named}{more} {'is' if len(wrong) == 1 else 'are'} not right (counting from 0)."


def _word(answer: Any, options: tuple[str, ...]) -> str:
    word = str(answer).strip().casefold() if isinstance(answer, (str, bool, np.bool_)) else None
    if word not in options:
        listing = ", ".join(map(repr, options))
        raise Unusable(f"the answer is one of {listing}, not {_shown(answer)}.")
    return word


def _numbers(answer: Any, shape: tuple[int, ...]) -> list[float]:
    """The answer's values in a row, if it is made of finite real numbers and has the shape."""
    wanted = "a number" if shape == () else f"an array of numbers of shape {shape}"
    if hasattr(answer, "detach"):
        answer = answer.detach().cpu()
    if answer is None:
        raise Unusable(f"the answer is {wanted}, not None.")
    try:
        array = np.asarray(answer)
        if array.dtype == object:  # fractions, SymPy numbers
            array = array.astype(float)
    except (TypeError, ValueError, OverflowError):
        raise Unusable(f"the answer is {wanted}, not {_shown(answer)}.") from None
    if array.dtype.kind not in "iuf":
        raise Unusable(f"the answer is {wanted}, not {_shown(answer)}.")
    if array.shape != shape:
        if len(shape) == 1:
            raise Unusable(
                f"{shape[0]} values are asked for, in one row (shape {shape}), not "
                + ("a single number." if array.shape == () else f"shape {array.shape}.")
            )
        raise Unusable(f"the answer is {wanted}, not an array of shape {array.shape}.")
    values = array.astype(float).ravel().tolist()
    bad = next((v for v in values if not math.isfinite(v)), None)
    if bad is not None:
        raise Unusable(f"a finite value is asked for, and there is {'NaN' if math.isnan(bad) else bad} in yours.")
    return values


def _values_at(answer: Any, points: tuple[tuple[float, ...], ...]) -> list[float]:
    """The values of a function or an expression at the points."""
    function = _as_function(answer, len(points[0]))
    values = []
    for point in points:
        where = ", ".join(f"{v:g}" for v in point)
        try:
            value = function(*point)
        except Exception as error:  # whatever a reader's function raises is something to tell them
            raise Unusable(f"your function raised {type(error).__name__} at {where}: {error}") from error
        try:
            values += _numbers(value, ())
        except Unusable:
            raise Unusable(f"at {where} your function gives {_shown(value)}, not a finite number.") from None
    return values


def _as_function(answer: Any, n_arguments: int) -> Callable[..., Any]:
    symbols = getattr(answer, "free_symbols", None)
    if symbols is not None:  # a SymPy expression; its symbols in alphabetical order are the arguments
        names = sorted(symbols, key=str)
        if len(names) > n_arguments:
            raise Unusable(f"the answer depends on {n_arguments} symbol(s), yours on {', '.join(map(str, names))}.")
        if n_arguments > 1 and len(names) < n_arguments:
            raise Unusable(f"the answer depends on {n_arguments} symbols; yours lacks some. Give a function instead.")
        return lambda *point: answer.subs(dict(zip(names, point))).evalf()
    if callable(answer):
        return answer
    raise Unusable(f"the answer is a function or an expression, not {_shown(answer)}.")


def _shown(answer: Any) -> str:
    text = " ".join(repr(answer).split())
    return text if len(text) <= 60 else text[:57] + "…"
