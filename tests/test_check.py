"""The reader's answers: what passes, what does not, and what a reader is told."""

import math
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import nbformat
import numpy as np
import pytest
import sympy
import torch
from hypothesis import given
from hypothesis import strategies as st

from anabook.check import EXERCISES, Exercise, as_toml, check, exercise, read

BOOK = Path(__file__).resolve().parent.parent / "book"
CALL = re.compile(r"""^check\(\s*["'](?P<label>[^"']+)["']""", re.MULTILINE)

numbers = st.floats(-1e4, 1e4)
decimals = st.integers(0, 6)

OWN = {
    "ex-number": exercise("ex-number", 0.36276, "think of the scale.", decimals=4, slips={0.2: "0.2 is the scale."}),
    "ex-count": exercise("ex-count", 4, "count again."),
    "ex-row": exercise("ex-row", [0.0, 0.5, 1.0], "sort first.", decimals=3),
    "ex-table": exercise("ex-table", [[1, 0], [0, 1]], "which is the identity?"),
    "ex-word": exercise("ex-word", "floor", "compare the thresholds.", options=("floor", "nearest")),
    "ex-truth": exercise("ex-truth", False, "try x = 0.", options=("true", "false")),
    "ex-function": exercise("ex-function", math.tanh, "odd and bounded.", decimals=6, points=[(-1,), (0,), (0.5,), (2,)]),
    "ex-two": exercise("ex-two", lambda a, b: a / b, "which divides which?", decimals=6, points=[(1, 2), (3, 4)]),
}


def own(label, answer):
    return check(label, answer, OWN)


@given(numbers, decimals, st.floats(-0.5, 0.5))
def test_every_answer_within_half_a_unit_of_the_truth_is_right(truth, places, off):
    task = {"ex-a": exercise("ex-a", truth, "no.", decimals=places)}
    assert check("ex-a", truth + off * 10.0**-places, task)


@given(numbers, decimals)
def test_the_truth_rounded_in_any_usual_way_is_right(truth, places):
    task = {"ex-a": exercise("ex-a", truth, "no.", decimals=places)}
    scaled = Fraction(truth) * 10**places
    halves = (math.floor(scaled + Fraction(1, 2)), math.ceil(scaled - Fraction(1, 2)), round(scaled))
    assert all(check("ex-a", n / 10**places, task) for n in halves)


@given(numbers, decimals, st.floats(1.51, 1e6), st.sampled_from([-1, 1]))
def test_no_answer_farther_than_one_and_a_half_units_is_right(truth, places, off, side):
    task = {"ex-a": exercise("ex-a", truth, "no.", decimals=places)}
    assert not check("ex-a", truth + side * off * 10.0**-places, task)


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_whole_numbers_must_be_exact(truth, answer):
    task = {"ex-a": exercise("ex-a", truth, "no.")}
    assert bool(check("ex-a", answer, task)) == (answer == truth)
    assert not check("ex-a", truth + 0.5, task)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=6), st.data())
def test_wrong_entries_of_an_array_are_named(truth, data):
    task = {"ex-a": exercise("ex-a", truth, "no.")}
    place = data.draw(st.integers(0, len(truth) - 1))
    wrong = [*truth]
    wrong[place] += 1
    verdict = check("ex-a", wrong, task)
    assert not verdict
    assert (f"[{place}] is not right" in verdict.message) or len(truth) == 1


@pytest.mark.parametrize(
    "answer",
    [
        0.3628,
        np.float64(0.36276),
        np.array(0.36276),
        torch.tensor(0.36276),
        Fraction(36276, 100000),
        sympy.Rational(36276, 100000),
    ],
)
def test_numbers_of_every_kind_are_read(answer):
    assert own("ex-number", answer)


@pytest.mark.parametrize(
    "answer",
    [
        [0, 0.5, 1],
        (0.0, 0.5, 1.0),
        np.array([0, 0.5, 1], np.float32),
        torch.tensor([0, 0.5, 1], requires_grad=True),
    ],
)
def test_arrays_of_every_kind_are_read(answer):
    assert own("ex-row", answer)


@pytest.mark.parametrize(
    ("label", "answer", "sentence"),
    [
        ("ex-number", ..., "put your answer in the place of the dots."),
        ("ex-number", math.nan, "a finite value is asked for, and there is NaN in yours."),
        ("ex-number", math.inf, "a finite value is asked for, and there is inf in yours."),
        ("ex-number", "0.36", "the answer is a number, not '0.36'."),
        ("ex-number", True, "the answer is a number, not True."),
        ("ex-number", None, "the answer is a number, not None."),
        ("ex-number", 1j, "the answer is a number, not 1j."),
        ("ex-number", sympy.Symbol("x"), "the answer is a number, not x."),
        ("ex-number", [0.36276], "the answer is a number, not an array of shape (1,)."),
        ("ex-number", 0.2, "0.2 is the scale."),
        ("ex-number", -0.3628, "the sign is the other one. think of the scale."),
        ("ex-number", 0.363, "close, but 4 decimals are asked for. think of the scale."),
        ("ex-number", 7.0, "think of the scale."),
        ("ex-row", 0.5, "3 values are asked for, in one row (shape (3,)), not a single number."),
        ("ex-row", [0.0, 0.5], "3 values are asked for, in one row (shape (3,)), not shape (2,)."),
        ("ex-row", [[0.0], [0.5, 1.0]], "the answer is an array of numbers of shape (3,), not [[0.0], [0.5, 1.0]]."),
        ("ex-row", [0.0, math.nan, 1.0], "a finite value is asked for, and there is NaN in yours."),
        ("ex-row", [2.0, 2.0, 2.0], "none of the values is right. sort first."),
        ("ex-row", [0.0, 2.0, 2.0], "[1], [2] are not right (counting from 0). sort first."),
        ("ex-table", [1, 0], "the answer is an array of numbers of shape (2, 2), not an array of shape (2,)."),
        ("ex-table", [[1, 0], [0, 0]], "[1, 1] is not right (counting from 0). which is the identity?"),
        ("ex-word", "ceil", "the answer is one of 'floor', 'nearest', not 'ceil'."),
        ("ex-word", 3, "the answer is one of 'floor', 'nearest', not 3."),
        ("ex-word", "nearest", "compare the thresholds."),
        ("ex-truth", True, "try x = 0."),
        ("ex-function", 1.0, "the answer is a function or an expression, not 1.0."),
        ("ex-function", lambda x: 1 / x, "your function raised ZeroDivisionError at 0: float division by zero"),
        ("ex-function", lambda x: None, "at -1 your function gives None, not a finite number."),
        ("ex-function", lambda x: x, "the value at -1 is not right (3 of 4 points are not). odd and bounded."),
        ("ex-function", sympy.Symbol("a") * sympy.Symbol("b"), "the answer depends on 1 symbol(s), yours on a, b."),
        ("ex-two", sympy.Symbol("a"), "the answer depends on 2 symbols; yours lacks some. Give a function instead."),
    ],
)
def test_an_answer_that_is_not_right_gets_its_sentence(label, answer, sentence):
    verdict = own(label, answer)
    assert not verdict.right
    assert verdict.message == sentence
    assert repr(verdict) == f"Not yet: {sentence}"


def test_words_truths_functions_and_expressions_are_recognised():
    x, a, b = sympy.symbols("x a b")
    assert own("ex-word", " Floor ")
    assert own("ex-truth", np.False_)
    assert own("ex-function", np.tanh)
    assert own("ex-function", (sympy.exp(x) - sympy.exp(-x)) / (sympy.exp(x) + sympy.exp(-x)))
    assert own("ex-two", lambda p, q: p / q)
    assert own("ex-two", a / b)
    assert repr(own("ex-count", 4)) == "Right."


def test_a_constant_function_can_be_given_as_an_expression_without_symbols():
    task = {"ex-a": exercise("ex-a", lambda x: 2.0, "no.", decimals=3, points=[(0,), (1,)])}
    assert check("ex-a", sympy.Integer(2), task)


@pytest.mark.parametrize("answer", [1e308, -1e308, 10**400])
def test_a_huge_answer_is_wrong_and_no_error(answer):
    for label in ("ex-number", "ex-count"):
        assert not own(label, answer)


def test_an_unknown_exercise_is_refused_with_the_nearest_name():
    sentence = r"^no answer is on file for 'ex-quantizers-1'\. Did you mean 'ex-quantisers-1'\?$"
    with pytest.raises(ValueError, match=sentence):
        check("ex-quantizers-1", 1.0)
    with pytest.raises(ValueError, match=r"^no answer is on file for 'zzz'\.$"):
        check("zzz", 1.0)
    with pytest.raises(TypeError, match="must be named by its label"):
        check(1.0, "ex-noise-1")


def test_an_entry_cannot_be_made_from_an_answer_that_fails_its_own_check():
    with pytest.raises(ValueError, match="does not pass its own check"):
        exercise("ex-a", 0.3, "no.")
    with pytest.raises(ValueError, match="NaN"):
        exercise("ex-a", math.nan, "no.", decimals=2)
    with pytest.raises(ValueError, match="decimals must be"):
        exercise("ex-a", 1.0, "no.", decimals=13)
    with pytest.raises(ValueError, match="one of"):
        exercise("ex-a", "up", "no.", options=("floor", "nearest"))


@pytest.mark.parametrize("label", OWN)
def test_the_repr_of_an_entry_is_the_entry(label):
    assert eval(repr(OWN[label]), {"Exercise": Exercise}) == OWN[label]


def test_the_same_answer_has_different_hashes_in_different_exercises_and_places():
    a, b = (exercise(label, [1, 1], "no.").digests for label in ("ex-a", "ex-b"))
    assert len({*a, *b}) == 4


def test_checking_brings_neither_torch_nor_sympy():
    code = "import sys, anabook.check; sys.exit(int('torch' in sys.modules or 'sympy' in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# --- exercises in files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", OWN)
def test_a_file_gives_back_what_was_written_to_it(label, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("\n".join(as_toml(each, OWN[each]) for each in OWN), encoding="utf-8")
    found = read(path)
    assert list(found) == list(OWN) and found[label] == OWN[label]


@given(st.text(min_size=1), st.text(min_size=1).filter(str.strip))
def test_any_label_and_any_sentence_can_be_written(tmp_path_factory, label, sentence):
    path = tmp_path_factory.mktemp("exercises") / "mine.toml"
    entry = exercise(label, [1, 2], sentence)
    path.write_bytes(as_toml(label, entry).encode())
    assert read(path) == {label: entry}


def test_files_are_found_at_home_and_read_with_the_marks_of_some_editors(tmp_path, monkeypatch):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    text = as_toml("ex-word", OWN["ex-word"]).replace("floor", "Floor")
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8-sig")
    assert check("ex-word", "FLOOR", read("~/mine.toml"))


GOOD = "[ex-a]\nhint = 'no.'\ndigests = ['0123456789ab']\n"
HASHES = "must be a list of hashes of 12 hexadecimal digits, not"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("ex-a = 1", "the exercise 'ex-a' must be a table with a hint and digests, not 1."),
        ("[ex-a]\ndigests = ['0123456789ab']", "the exercise 'ex-a' must have a hint, one sentence, not None."),
        ("[ex-a]\nhint = 'no.'", f"digests of the exercise 'ex-a' {HASHES} None."),
        ("[ex-a]\nhint = 'no.'\ndigests = ['1']", f"digests of the exercise 'ex-a' {HASHES} ['1']."),
        (f"{GOOD}hints = 'b'", "the exercise 'ex-a' has the unknown key 'hints' (did you mean 'hint'?); "),
        (f"{GOOD}decimals = 13", "decimals of the exercise 'ex-a' must be an integer from 0 to 12, or left out "),
        (f"{GOOD}shape = [2]", "the exercise 'ex-a' has 1 digests and 0 points, which do not fit its shape (2,)."),
        (f"{GOOD}points = [[1.0]]", "the exercise 'ex-a' has 1 digests and 1 points, which do not fit its shape ()."),
        (f"{GOOD}points = [1.0]", "points of the exercise 'ex-a' must be a list of lists of numbers, not [1.0]."),
        (f"{GOOD}slips = {{a = 'b'}}", "slips of the exercise 'ex-a' must be a table with hashes of "),
        ("[ex-a", "are not TOML: "),
    ],
)
def test_a_file_with_a_mistake_is_refused_by_label(text, sentence, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(sentence)):
        read(path)


def test_what_is_no_file_of_exercises_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot read the exercises .*: No such file"):
        read(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="not a text file in UTF-8"):
        read(tmp_path / "bytes.toml")


def test_the_books_exercises_are_read_when_they_are_first_asked_for():
    code = "import sys, anabook.check; from anabook.check.entries import of_the_book as f; sys.exit(f.cache_info().currsize)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert read(BOOK / "exercises.toml") == EXERCISES


def _calls():
    """(notebook, label, stored result) of every cell of the book that checks an answer."""
    found = []
    for path in sorted(BOOK.glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code" and (match := CALL.search(cell.source)):
                results = [o.data["text/plain"] for o in cell.outputs if o.output_type == "execute_result"]
                found.append((path.name, match["label"], results))
    return found


def test_every_solution_in_the_book_passes_its_check():
    calls = _calls()
    assert calls
    assert [call for call in calls if call[2] != ["Right."]] == []


def test_every_answer_on_file_is_used_by_a_solution_and_offered_by_its_exercise():
    notebooks = [nbformat.read(path, as_version=4) for path in BOOK.glob("*.ipynb")]
    text = "\n".join(cell.source for nb in notebooks for cell in nb.cells if cell.cell_type == "markdown")
    assert {label for _, label, _ in _calls()} == set(EXERCISES)
    for label in EXERCISES:
        assert f":label: {label}\n" in text
        assert f'`check("{label}", ' in text


@pytest.mark.parametrize("chapter", ["quantisers", "noise", "strategies", "cifar10", "speech", "stopping"])
def test_these_chapters_check_at_least_three_answers_each(chapter):
    assert sum(label.startswith(f"ex-{chapter}-") for label in EXERCISES) >= 3


@pytest.mark.parametrize(
    ("label", "answer", "sentence"),
    [
        ("ex-strategies-1", 1.1, "that is the half-width; the standard deviation is asked for."),
        ("ex-strategies-2", lambda s: 0.5, "(4 of 4 points are not). write the tie of the two upper levels"),
        ("ex-strategies-3", 0, "that is the mean of the noise;"),
        ("ex-strategies-4", [1, 2], "[1] is not right (counting from 0). write down all seven probabilities"),
        ("ex-strategies-5", [-0.25, -0.75, -1.25], "none of the values is right. among the levels that tie, the highest"),
        ("ex-strategies-6", [0.25, 0.25], "none of the values is right. at the distance u from a level"),
        ("ex-cifar10-1", [16.7, 21.9, 16.7, 21.9], "[2], [3] are not right (counting from 0)."),
        ("ex-cifar10-2", 3, "that takes 1.96 for the factor;"),
        ("ex-cifar10-3", [23, 92], "count the batches of 64"),
        ("ex-cifar10-4", math.sqrt(2 * math.log(30)), "that is a bound from above"),
        ("ex-speech-1", [0, 0.5, 0.75], "the answer is an array of numbers of shape (2, 3)"),
        ("ex-speech-2", math.sqrt(0.24 / 978), "in points, not as a fraction"),
        ("ex-speech-3", [0.79, 0.63], "none of the values is right. rank the mean accuracies"),
        ("ex-speech-4", "generalisation", "look at how well it does on the clips"),
        ("ex-stopping-1", [0.6, 1, 1, 1], "[1] is not right (counting from 0). for each interval ask"),
        ("ex-stopping-2", [1, 9.05], "none of the values is right. maximise m for a given v"),
        ("ex-stopping-3", 4, "the bias of fc1 has a path around both activations."),
        ("ex-stopping-4", [180, 1], "[1] is not right (counting from 0). the noise reaches 1/256"),
        ("ex-stopping-5", [1, 1 / 7], "none of the values is right. count the periods"),
    ],
)
def test_a_wrong_answer_to_an_exercise_of_the_book_gets_a_sentence_that_helps(label, answer, sentence):
    verdict = check(label, answer)
    assert not verdict and sentence in verdict.message
