"""A reader's answers, checked offline: right, or not yet and a hint.

    >>> from anabook.check import check
    >>> check("ex-quantisers-1", [-0.5, 0.0, 0.25])
    Not yet: 4 values are asked for, in one row (shape (4,)), not shape (3,).

Answers are kept as hashes of rounded values: out of sight, so that nobody reads the solution by accident,
though not out of reach of somebody who wants it. A teacher can check exercises of their own: `exercise`
makes an entry from the true answer, and `check` takes a dictionary of such entries.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from anabook._validate import did_you_mean_after

_SLACK = 1e-6  # in units of the last decimal: what the scaling by a power of ten may lose
_CLOSE = 20  # in the same units: how far off an answer may be to be called close


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
    """

    digests: tuple[str, ...]
    hint: str
    shape: tuple[int, ...] = ()
    decimals: int | None = None
    options: tuple[str, ...] = ()
    points: tuple[tuple[float, ...], ...] = ()
    slips: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is right, and what to tell the reader. True in a condition if right."""

    right: bool
    message: str

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return "Right." if self.right else f"Not yet: {self.message}"


class _Unusable(ValueError):
    """An answer of a wrong kind; the message is for the reader."""


def check(label: str, answer: Any, exercises: Mapping[str, Exercise] | None = None) -> Verdict:
    """Compare an answer with the one on file.

    A number is right within one unit of the last decimal asked for: every value closer than half a unit to
    the truth passes, and none farther than one and a half. Whole numbers and words must be exact. A function
    (of plain floats) or a SymPy expression is right when its values are, at points fixed in advance.

    Args:
        label: the exercise's label, as printed in its text, such as "ex-noise-2".
        answer: a number, an array of any kind, a word, True or False, a function or a SymPy expression.
        exercises: where to look the label up; the book's own exercises by default.

    Returns:
        A `Verdict`, which prints as one sentence. Answers that are no answer (of the wrong type or shape,
        NaN) get a sentence too, not an exception.

    Raises:
        ValueError: there is no such exercise.
        TypeError: the label is not a string.
    """
    task = _look_up(label, EXERCISES if exercises is None else exercises)
    if answer is ...:
        return Verdict(False, "put your answer in the place of the dots.")
    try:
        if task.options:
            return _judge_word(label, task, answer)
        values = _values_at(answer, task.points) if task.points else _numbers(answer, task.shape)
    except _Unusable as problem:
        return Verdict(False, str(problem))
    return _judge_numbers(label, task, values)


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
    """The entry for an exercise whose true answer is known. Its repr can be pasted into a dictionary.

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
    """
    if decimals is not None and decimals not in range(13):
        raise ValueError(f"decimals must be None or an integer from 0 to 12, not {decimals!r}.")
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
    if decimals is None:
        reach = 0
    return range(math.ceil(scaled - reach - _SLACK), math.floor(scaled + reach + _SLACK) + 1)


def _judge_word(label: str, task: Exercise, answer: Any) -> Verdict:
    right = _digest(label, 0, _word(answer, task.options)) in task.digests
    return Verdict(right, "" if right else task.hint)


def _judge_numbers(label: str, task: Exercise, values: list[float]) -> Verdict:
    def matches(i: int, value: float, reach: float = 1) -> bool:
        return any(_digest(label, i, n) == task.digests[i] for n in _near(value, task.decimals, reach))

    wrong = [i for i, value in enumerate(values) if not matches(i, value)]
    if not wrong:
        return Verdict(True, "")
    if task.shape:
        return Verdict(False, f"{_places(wrong, task)} {task.hint}")
    (value,) = values
    for n in _near(value, task.decimals, 1):
        if (digest := _digest(label, 0, n)) in task.slips:
            return Verdict(False, task.slips[digest])
    if value and matches(0, -value):
        return Verdict(False, f"the sign is the other one. {task.hint}")
    if task.decimals is not None and matches(0, value, _CLOSE):
        return Verdict(False, f"close, but {task.decimals} decimals are asked for. {task.hint}")
    return Verdict(False, task.hint)


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
        raise _Unusable(f"the answer is one of {listing}, not {_shown(answer)}.")
    return word


def _numbers(answer: Any, shape: tuple[int, ...]) -> list[float]:
    """The answer's values in a row, if it is made of finite real numbers and has the shape."""
    wanted = "a number" if shape == () else f"an array of numbers of shape {shape}"
    if hasattr(answer, "detach"):
        answer = answer.detach().cpu()
    if answer is None:
        raise _Unusable(f"the answer is {wanted}, not None.")
    try:
        array = np.asarray(answer)
        if array.dtype == object:  # fractions, SymPy numbers
            array = array.astype(float)
    except (TypeError, ValueError):
        raise _Unusable(f"the answer is {wanted}, not {_shown(answer)}.") from None
    if array.dtype.kind not in "iuf":
        raise _Unusable(f"the answer is {wanted}, not {_shown(answer)}.")
    if array.shape != shape:
        if len(shape) == 1:
            raise _Unusable(
                f"{shape[0]} values are asked for, in one row (shape {shape}), not "
                + ("a single number." if array.shape == () else f"shape {array.shape}.")
            )
        raise _Unusable(f"the answer is {wanted}, not an array of shape {array.shape}.")
    values = array.astype(float).ravel().tolist()
    bad = next((v for v in values if not math.isfinite(v)), None)
    if bad is not None:
        raise _Unusable(f"a finite value is asked for, and there is {'NaN' if math.isnan(bad) else bad} in yours.")
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
            raise _Unusable(f"your function raised {type(error).__name__} at {where}: {error}") from error
        try:
            values += _numbers(value, ())
        except _Unusable:
            raise _Unusable(f"at {where} your function gives {_shown(value)}, not a finite number.") from None
    return values


def _as_function(answer: Any, n_arguments: int) -> Callable[..., Any]:
    symbols = getattr(answer, "free_symbols", None)
    if symbols is not None:  # a SymPy expression; its symbols in alphabetical order are the arguments
        names = sorted(symbols, key=str)
        if len(names) > n_arguments:
            raise _Unusable(f"the answer depends on {n_arguments} symbol(s), yours on {', '.join(map(str, names))}.")
        if n_arguments > 1 and len(names) < n_arguments:
            raise _Unusable(f"the answer depends on {n_arguments} symbols; yours lacks some. Give a function instead.")
        return lambda *point: answer.subs(dict(zip(names, point))).evalf()
    if callable(answer):
        return answer
    raise _Unusable(f"the answer is a function or an expression, not {_shown(answer)}.")


def _shown(answer: Any) -> str:
    text = " ".join(repr(answer).split())
    return text if len(text) <= 60 else text[:57] + "…"


EXERCISES: dict[str, Exercise] = {
    "ex-start-1": Exercise(
        digests=("30d71141bb4e",),
        hint="weigh the two levels with their probabilities.",
        decimals=3,
        slips={
            "f2ac63b81382": "that is the value without noise, and the likelier one; the average is asked for.",
        },
    ),
    "ex-start-2": Exercise(
        digests=("e1bc6d671804",),
        hint="find the largest n for which 3**n is at most 2**64.",
        slips={
            "991ba36ac766": "that many digits need more than 64 bits.",
            "41d94501b1aa": "that gives each digit two bits; base 3 does better.",
        },
    ),
    "ex-quantisers-1": Exercise(
        digests=("c41ea0e966b3", "5fddcabd428e", "5b98a395e726", "275574a3cfcf"),
        hint="a threshold belongs to the bin above it; the levels need not lie in their bins.",
        shape=(4,),
    ),
    "ex-quantisers-2": Exercise(
        digests=("d2e8507aded6", "8511ad732dfe", "4b862f14ebfd", "3ef15127eaf6"),
        hint="sort the thresholds first, then add up the steps from the lowest level on.",
        shape=(4,),
        decimals=3,
    ),
    "ex-quantisers-3": Exercise(
        digests=("6bcf43a6ce91",),
        hint="write the error as an integral over the two bins in [0, 1] and set its derivative to zero.",
        decimals=4,
        slips={
            "beb5028ffd93": "that rounds to the nearest of -1, 0, 1; a smaller quantum makes the bins more even.",
        },
    ),
    "ex-quantisers-4": Exercise(
        digests=("8b1105d0d268",),
        hint="count the thresholds within h of x and divide their steps by 2h.",
        decimals=4,
        slips={
            "6b0f974f12de": "divide by 2h, not by h.",
            "45ac67543fc4": "that is the slope for h = 1/2.",
        },
    ),
    "ex-quantisers-6": Exercise(
        digests=("a5aca653205e",),
        hint="compute k * 0.07 for all k at once and compare floor(x / 0.07) with k.",
        slips={
            "3f09e08ac1cd": "compute in double precision: k * 0.07 divided by 0.07 is not always k.",
        },
    ),
    "ex-noise-1": Exercise(
        digests=("e40e4f1c5bce",),
        hint="find the standard deviation of the logistic law with the quantile s ln(u / (1 - u)).",
        decimals=4,
        slips={
            "c8cc01e63517": "0.2 is the scale; the standard deviation is another multiple of it.",
            "5b62338e6c93": "the factor is upside down.",
        },
    ),
    "ex-noise-2": Exercise(
        digests=("a15ee7d275cd",),
        hint="variances of independent variables add.",
        decimals=4,
        slips={
            "05ad8e0ce739": "that is the variance; take the root.",
        },
    ),
    "ex-noise-3": Exercise(
        digests=("5f7447336066", "696cf5c8f8b3"),
        hint="put half of one per cent into either tail.",
        shape=(2,),
        decimals=4,
    ),
    "ex-noise-5": Exercise(
        digests=("aaebdf313011", "392603b05e46"),
        hint="a tail is lost when it falls below half the spacing of doubles, next to 1 from below and from above.",
        shape=(2,),
        decimals=1,
    ),
    "ex-data-2": Exercise(
        digests=("2e46e262293f", "9b37f9f33e50"),
        hint="count the centres of the frames for the first, the places where a whole window fits for the second.",
        shape=(2,),
    ),
    "ex-composing-1": Exercise(
        digests=("e23e9d5d17ee", "5b164a0fc148", "f820d7852562", "0bee0c70c3da"),
        hint="the value is the standardised distribution function at 1, whatever λ is.",
        shape=(4,),
        decimals=4,
    ),
    "ex-composing-2": Exercise(
        digests=("3edaefb0cdc0",),
        hint="two integers are hits, and a unit has 9 · 128 inputs.",
        decimals=4,
        slips={
            "4d594ecfe8f1": "that is one threshold; there are two.",
            "3cedfabd443e": "a unit of a 3 × 3 convolution sees 9 positions of each channel.",
        },
    ),
    "ex-composing-4": Exercise(
        digests=("ee773485468f",),
        hint="the mean plus the half-width of the support must not exceed the margin.",
        decimals=4,
        slips={
            "da4100be37fe": "the half-width is √3 times the standard deviation.",
        },
    ),
    "ex-counterexamples-1": Exercise(
        digests=("619cc7c16000", "be79ac473bcc", "1779a6c24671"),
        hint="look at the distance of the second pre-activation from the edge of the support, in half-widths.",
        shape=(3,),
        decimals=9,
        points=((0.01,), (0.04,), (0.1,)),
    ),
    "ex-counterexamples-2": Exercise(
        digests=("f43de760e0eb", "af9fc495c7d0", "19cd885884f8"),
        hint="add the later p, with the weights that the family asks for.",
        shape=(3,),
        decimals=4,
    ),
    "ex-counterexamples-4": Exercise(
        digests=("15433e4d691b",),
        hint="the probability of no failure in 1000 is (1 - p) to the power 1000.",
        decimals=5,
        slips={
            "66e9dd78f45d": "that is for 5 %; a two-sided 95 % interval leaves 2.5 % on either side.",
        },
    ),
    "ex-schedules-1": Exercise(
        digests=("f8162b2b4535", "be1c19696d96"),
        hint="find λ of each layer first; the standard deviation has twice the mean's exponent.",
        shape=(2,),
        decimals=7,
    ),
    "ex-schedules-2": Exercise(
        digests=("6f9f4d9b3080", "0d9305e4665a"),
        hint="the offset divided by the standard deviation must be at least the half-width of the standardised law.",
        shape=(2,),
        decimals=4,
    ),
    "ex-schedules-3": Exercise(
        digests=("1de0132d5d2b",),
        hint="compare the offset with the half-width of the ramp as λ vanishes.",
        slips={
            "38907de04a04": "then the offset vanishes faster than the ramp's half-width.",
            "99a960843e45": "then the mean does not vanish.",
        },
    ),
    "ex-zoo-1": Exercise(
        digests=("3394ecfdad1a",),
        hint="divide by the step, then integrate the square.",
        decimals=4,
        slips={
            "939ebdfe78c0": "that is the variance; take the root.",
            "a481e29b9ef2": "divide the gradient by the step, which is 2, before you integrate.",
        },
    ),
    "ex-zoo-2": Exercise(
        digests=("f49731faa2a7", "4fc03ca53958"),
        hint="the mass is 2/k; half of the noise lies where the distribution function is between 1/4 and 3/4.",
        shape=(2,),
        decimals=4,
    ),
    "ex-zoo-4": Exercise(
        digests=("c452f151a7b3",),
        hint="the interval's length must be a whole multiple of four thresholds.",
        slips={
            "ce7b17892bed": "with three levels the length is measured in twice the distance of the thresholds.",
        },
    ),
    "ex-zoo-5": Exercise(
        digests=("945a80aeaeba",),
        hint="the surrogate turns where its derivative, the gradient, is zero.",
        decimals=4,
    ),
    "ex-regularisations-1": Exercise(
        digests=("5f606d27a242", "4cb6849e1f67", "a6aa1d9ca6e1", "553bd1b3f65d"),
        hint="the slope at the threshold is the density's height at its mean, at standard deviation 1.",
        shape=(4,),
        decimals=4,
    ),
    "ex-regularisations-2": Exercise(
        digests=("377634840b44", "cf3ea2152ce4", "d50882d1f90a", "3fe8daa22ebe", "5048d0faf1b3"),
        hint="integrate the density up to x, for negative x first; the variance is 2 b squared.",
        shape=(5,),
        decimals=6,
        points=((-2.0,), (-0.5,), (0.0,), (0.3,), (1.5,)),
    ),
    "ex-regularisations-3": Exercise(
        digests=("b50d8167ea55",),
        hint="the expectation at the threshold is the distribution function at minus alpha over beta.",
        decimals=4,
        slips={"4419840af0c4": "that mean pushes down: the noise is subtracted."},
    ),
    "ex-regularisations-4": Exercise(
        digests=("4285f20282aa", "ce000cbb313c"),
        hint="count the thresholds that fit into the window, and divide by its width.",
        shape=(2,),
        decimals=4,
    ),
    "ex-regularisations-5": Exercise(
        digests=("126a096fe63f", "c744ddd00850", "d4aa1120f557", "866f837e4279"),
        hint="by symmetry it is twice the area under the upper tail from 0 on.",
        shape=(4,),
        decimals=4,
    ),
    "ex-algorithm-1": Exercise(
        digests=("a53eeffb4220", "0c06c500c319"),
        hint="the ends are the mean plus and minus the half-width; find the minimum of one, and set the other to -1/2.",
        shape=(2,),
        decimals=4,
    ),
    "ex-experiment-1": Exercise(
        digests=("aa1f50e1869f", "ea55fea308fc"),
        hint="count the ways to decay first; the expectation strategy has no unit with a static standard deviation.",
        shape=(2,),
    ),
    "ex-experiment-2": Exercise(
        digests=("2a03185af3a6", "7b28123d2cb7"),
        hint="set period times steps times learning rate equal to that of the paper; quanta cancel.",
        shape=(2,),
    ),
    "ex-experiment-3": Exercise(
        digests=("9124a64b9c16",),
        hint="one of three intervals must lie entirely below 0, and each does so with half of 5 per cent.",
        decimals=3,
        slips={
            "c405879295ce": "that is for 5 % each; an interval fails on either side with half of that.",
            "4d1cdc45aa59": "that is the probability that none of them does.",
        },
    ),
    "ex-svhn-2": Exercise(
        digests=("68cf7c6416d1", "f68ce994851c"),
        hint="for the second, divide Student's quantile at 1 - 0.05/34/2 with two degrees of freedom by the usual one.",
        shape=(2,),
        decimals=1,
    ),
}
"""The book's exercises by label."""
