"""Concept questions: what every part has, what a question must say, and what a reader gets of it."""

import re
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from scipy import optimize, stats

import anabook as ab

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_ext"))
import anabook_questions as questions  # noqa: E402

ASKED = questions.read(ROOT / "book" / "questions.toml")
PARTS = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))["parts"]
CAPTIONS = [part["caption"] for part in PARTS if part["caption"] != "Appendices"]
BY_LABEL = {question.label: question for question in ASKED}

by_question = pytest.mark.parametrize("question", ASKED, ids=lambda question: question.label)


def pages_of(caption: str) -> list[Path]:
    (part,) = [part for part in PARTS if part["caption"] == caption]
    return [ROOT / f"{chapter['file']}.ipynb" for chapter in part["chapters"]]


def test_each_part_of_the_book_has_ten_in_the_order_of_the_book():
    assert [question.part for question in ASKED] == [caption for caption in CAPTIONS for _ in range(10)]


@pytest.mark.parametrize("caption", CAPTIONS)
def test_the_questions_of_a_part_are_about_its_chapters_in_their_order(caption):
    labels = [re.search(r"\(([\w-]+)\)=", path.read_text(encoding="utf-8"))[1] for path in pages_of(caption)]
    asked = [question.chapter for question in ASKED if question.part == caption]
    assert set(asked) <= set(labels) and asked == sorted(asked, key=labels.index)
    assert len(set(asked)) >= len(labels) - 1, "but for one, every chapter has a question"


@by_question
def test_a_question_has_one_right_answer_and_a_reason_for_each(question):
    letters = questions.LETTERS[: len(question.options)]
    assert question.right in letters and question.tempting in letters and question.right != question.tempting
    texts = [option.text for option in question.options]
    reasons = [option.why for option in question.options]
    assert len(set(texts)) == len(set(reasons)) == len(letters)
    assert all(40 <= len(why) <= 320 for why in reasons) and question.text.endswith(("?", "."))


@by_question
def test_the_length_of_an_option_does_not_give_it_away(question):
    lengths = [len(option.text) for option in question.options]
    assert max(lengths) <= 1.6 * min(lengths)


def test_the_right_answers_are_spread_over_the_letters_and_are_not_the_longest():
    counts = Counter(question.right for question in ASKED)
    assert set(counts) == set(questions.LETTERS) and max(counts.values()) <= 0.3 * len(ASKED)
    longest = sum(max(q.lettered, key=lambda each: len(each[1].text))[0] == q.right for q in ASKED)
    assert longest <= 0.4 * len(ASKED)
    runs = "".join(question.right for question in ASKED)
    assert not re.search(r"(.)\1\1", runs)


def test_the_page_shows_every_part_and_the_last_chapter_of_each_leads_to_it():
    page = (ROOT / "book" / "questions.md").read_text(encoding="utf-8")
    assert re.findall(r"\{concept-questions\} (.*)", page) == re.findall(r"^## (.*)", page, flags=re.M) == CAPTIONS
    labels = re.findall(r"\((sec-questions-\w+)\)=", page)
    for caption, label in zip(CAPTIONS, labels, strict=True):
        assert f"<{label}>`" in pages_of(caption)[-1].read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"right": "E"}, "right of question 'q-a' must be one of A, B, C, not 'E'."),
        ({"right": "AB"}, "right of question 'q-a' must be one of A, B, C, not 'AB'."),
        ({"tempting": "A"}, "the tempting answer of question 'q-a' must be a wrong one, not 'A', which is right."),
        ({"options": []}, "question 'q-a' must have three or four options, not []."),
        ({"options": [{"text": "yes"}] * 3}, "each option of question 'q-a' must be a text and a why, not {'text': 'yes'}."),
        ({"hint": "no"}, "question 'q-a' has the keys chapter, hint, label, options, part, "),
    ],
)
def test_a_question_that_is_none_is_refused_by_label(tmp_path, changed, sentence):
    option = {"text": "yes", "why": "so"}
    good = {
        "label": "q-a",
        "part": "P",
        "chapter": "ch-a",
        "text": "?",
        "options": [option] * 3,
        "right": "A",
        "tempting": "B",
    }

    def written(table):
        def value(each):
            if isinstance(each, dict):
                return "{" + ", ".join(f'{name} = "{text}"' for name, text in each.items()) + "}"
            return f"[{', '.join(map(value, each))}]" if isinstance(each, list) else f'"{each}"'

        return "[[questions]]\n" + "".join(f"{name} = {value(each)}\n" for name, each in table.items())

    path = tmp_path / "questions.toml"
    path.write_text(written(good), encoding="utf-8")
    assert [question.label for question in questions.read(path)] == ["q-a"]
    path.write_text(written({**good, **changed}), encoding="utf-8")
    with pytest.raises(ValueError, match="^" + re.escape(sentence)):
        questions.read(path)
    path.write_text(written(good) * 2, encoding="utf-8")
    with pytest.raises(ValueError, match=r"the label 'q-a' is given to 2 questions; expected one\."):
        questions.read(path)


def test_the_script_is_small():
    assert (ROOT / "book" / "_static" / "questions.js").stat().st_size < 6000


# --- what the answers say, computed ---------------------------------------------------------------------------------------


def right(label):
    question = BY_LABEL[label]
    return dict(question.lettered)[question.right]


def test_numbers_of_the_answers_on_foundations():
    heaviside, ternary = ab.Quantiser.heaviside(), ab.Quantiser.ternary()
    assert right("q-noise-sign").text.startswith("At $x = +0.1$")
    assert ab.Regularisation(heaviside, ab.Noise("normal", 0.1, 0.3))(0.1) == pytest.approx(0.5)
    stds = ab.Noise.covering("uniform", 0.5).std, stats.logistic(scale=0.5).std()
    assert [f"{std:.2f}" for std in stds] == ["0.29", "0.91"] and "0.29" in right("q-noise-strength").why
    wide = ab.Regularisation(ternary, ab.Noise.covering("uniform", 1.0))
    assert right("q-regularisations-sum").text.startswith("1,") and wide.derivative(0.0) == pytest.approx(1.0)
    for family in ("uniform", "triangular", "normal", "logistic"):
        assert ab.Regularisation(ternary, ab.Noise(family, std=1e-6))(0.5) == pytest.approx(0.5)
    assert "gives 0.34" in right("q-regularisations-limit").why
    assert f"{ab.Regularisation(ternary, ab.Noise('normal', std=1.0))(0.5):.2f}" == "0.34"
    strip = ab.Regularisation(ternary, ab.Noise("normal", std=0.3))
    width = optimize.brentq(lambda d: strip.probabilities(0.5 - d) @ [0, 1, -1], 1e-5, 1e-3)
    _, middle, outer = strip.probabilities(0.5 - width / 2)
    assert width < 1e-3 and f"it is {middle:.5f} against {outer:.5f}" in right("q-strategies-mode").why
    assert (strip.mode(0.5 - 1e-4), ternary(0.5 - 1e-4)) == (1, 0) and strip.mode(0.5 - 1e-3) == 0


def test_numbers_of_the_answers_on_composition_and_practice():
    second = ab.Quantiser([0, 1], [1.0])
    for ratio, value in ((1e-6, 0.5), (30.0, 0.0)):
        unit = ab.Regularisation(second, ab.Noise("normal", std=1e-3))
        assert unit(1 - ratio * 1e-3) == pytest.approx(value, abs=1e-5)
    weight = ab.Regularisation(ab.Quantiser.heaviside(), ab.Noise("logistic", std=1e-3))
    latent = ab.Noise("logistic", std=1e-3).icdf(0.3)
    assert weight(latent) == pytest.approx(0.3) and -0.01 < latent < 0, "beside the threshold, on its lower side"
    density = stats.norm.pdf(0.5)
    second_moment = [2 * density * (1 / (2 * h)) for h in (0.5 / 100, 0.5)]  # two thresholds, slope 1 / 2h on a width of 2h
    assert second_moment[0] / second_moment[1] == pytest.approx(100)


def test_numbers_of_the_answers_on_stopping():
    rho = 0.9 / 0.999**0.5
    assert f"{rho / (1 - rho):.2f}" in right("q-stopping-update").why
