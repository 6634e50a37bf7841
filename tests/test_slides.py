"""The lecture's slides: their time, their notes, their figures, and that the deck needs nobody else."""

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import anabook as ab
from anabook.convergence import log_margin_converges
from anabook.variants import VARIANTS

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import slides  # noqa: E402

DECK = slides.read_deck()
NAMES = [f"{number}-{slide.title}" for number, slide in enumerate(DECK, 1)]


@pytest.fixture(scope="module")
def deck(tmp_path_factory):
    file = tmp_path_factory.mktemp("slides") / "lecture.html"
    assert slides.main(["--to", str(file)]) == 0
    return file.read_text(encoding="utf-8")


class Tags(HTMLParser):
    """The tags of a page, with their attributes; what stands in scripts and styles is not looked at."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def test_the_lecture_takes_75_minutes_of_90():
    assert sum(slide.minutes for slide in DECK) == slides.MINUTES == 75


def test_the_plan_on_the_page_for_teachers_has_the_same_minutes():
    page = (ROOT / "book" / "teaching.md").read_text(encoding="utf-8")
    lecture = page.split("## One lecture")[1].split("\n## ")[0]
    rows = [int(found) for found in re.findall(r"^\| (\d+) \|", lecture, flags=re.M)]
    assert sum(rows) == 90
    assert sum(rows[:-1]) == sum(slide.minutes for slide in DECK)
    # The slides fill the rows of the plan one after the other.
    ends = {sum(slide.minutes for slide in DECK[: k + 1]) for k in range(len(DECK))}
    assert {sum(rows[: k + 1]) for k in range(len(rows) - 1)} <= ends


@pytest.mark.parametrize("slide", DECK, ids=NAMES)
def test_a_slide_is_short_and_has_notes_that_say_and_ask(slide):
    assert 1 <= slide.minutes <= 4
    assert slides.words(slide) <= 40
    assert re.search(r"^Say: \S", slide.notes, flags=re.M)
    (asked,) = re.findall(r"^Ask: (\S.*)", slide.notes, flags=re.M)
    assert re.search(r"^Answer: \S", slide.notes, flags=re.M) or asked.endswith(")"), "a question without its answer"


@pytest.mark.parametrize("slide", [each for each in DECK if each.figure], ids=lambda slide: slide.figure)
def test_a_figure_is_the_stored_output_of_a_chapter(slide):
    drawing, alternative, notebook = slides.figures()[slide.figure]
    assert drawing.startswith("<svg") and len(alternative) > 40
    assert slide.figure in (ROOT / "book" / notebook).read_text(encoding="utf-8")


def test_labels_of_chapters_exist():
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "book").glob("*.ipynb"))
    for slide in DECK:
        assert f"({slide.chapter})=" in pages, slide.title


def notes_of(title):
    (slide,) = [slide for slide in DECK if slide.title == title]
    return slide.notes


def test_numbers_in_the_notes():
    ternary = ab.Quantiser.ternary()
    slope = {
        (x, std): ab.Regularisation(ternary, ab.Noise("normal", std=std)).derivative(x)
        for x in (0, 0.5)
        for std in (0.2, 0.06)
    }
    assert slope[0, 0.06] < 1e-9
    for place, said in {(0, 0.2): "0.18", (0.5, 0.2): "1.99", (0.5, 0.06): "6.6"}.items():
        assert float(said) == pytest.approx(slope[place], abs=0.006 if len(said) == 4 else 0.06)
        assert said in notes_of("Shake the stair")
    # The slopes of three losses of a ternary weight at 0.2, under uniform noise of half-width ½.
    average = ab.Regularisation(ternary, ab.Noise.covering("uniform", 0.5))
    losses, w, h = (ternary.levels - 1) ** 2, 0.2, 1e-4
    expected = [float(average.probabilities(at) @ losses) for at in (w - h, w + h)]
    slopes = (2 * (ternary(w) - 1), 2 * (average(w) - 1) * average.derivative(w), (expected[1] - expected[0]) / (2 * h))
    assert [round(float(each), 6) for each in slopes] == [-2, -1.6, -1]
    for number in ("−2,", "−1.6,", "slope −1."):
        assert number in notes_of("The answer")
    # One bit of a ramp, without noise and with it.
    ramp = np.linspace(0, 1, 100_001)
    noise = ab.Noise.covering("uniform", 0.5).sample(ramp.shape, rng=0)
    plain, shaken = (np.abs((at >= 0.5) - ramp) for at in (ramp, ramp - noise))
    assert not (shaken < plain).any() and abs((shaken > plain).mean() - 0.25) < 0.01
    assert f"from {plain.mean():.2f} to {shaken.mean():.2f}" in notes_of("Grey through one bit")
    noisy = sum(variant.is_probability for variant in VARIANTS.values())
    assert f"Of the {len(VARIANTS)} published variants collected here {noisy} have" in notes_of("And those with none")
    comb = VARIANTS["ste_tern"]
    assert not comb.pdf(np.linspace(-0.049, 0.049, 99)).any(), "at x = 0 no draw leaves the input on the middle level"
    assert [log_margin_converges(family, (2, 1), (1, 1)) for family in ("normal", "logistic", "uniform", "triangular")] == [
        True,
        True,
        False,
        False,
    ], "notes of 'Swap the schedules'"


def bare(formula):
    """A formula without its spaces, and without the commas and words between its parts."""
    return re.sub(r"\\text\{[^{}]*\}|\\q?quad|\\[,!]|[\s,.]", "", formula)


def test_formulas_are_the_chapters():
    sources = [
        "".join(cell["source"])
        for path in sorted((ROOT / "book").glob("*.ipynb"))
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
    ]
    pages = bare("\n".join(sources))
    shown = [found for slide in DECK for found in re.findall(r"\$\$(.*?)\$\$", slide.text, flags=re.S)]
    # A slide may put two formulas on one line.
    parts = [part for formula in shown for part in formula.split(r"\qquad")]
    assert len(shown) >= 9
    assert [part for part in parts if bare(part) not in pages] == []


def test_every_slide_is_in_the_deck(deck):
    tags = Tags(deck).found
    assert sum(tag == "section" for tag, _ in tags) == len(DECK)
    assert sum(tag == "aside" for tag, _ in tags) == len(DECK)
    drawings = [each for tag, each in tags if tag == "svg" and "figure-whole" in each.get("class", "")]
    assert len(drawings) == sum(bool(slide.figure) for slide in DECK) >= 15
    assert sum("shake-figure" in (each.get("class") or "") for _, each in tags) == 1
    names = [each["id"] for _, each in tags if "id" in each]
    assert len(names) == len(set(names))


def test_nothing_points_to_another_host(deck):
    for tag, attributes in Tags(deck).found:
        for name, value in attributes.items():
            if not name.startswith("xmlns"):
                assert not re.match(r"\s*(?:[a-z+]+:)?//", value or "", flags=re.I), (tag, name, value[:80])
        if "src" in attributes or tag == "link":
            assert (attributes.get("src") or attributes.get("href")).startswith("data:")
    styles = "".join(re.findall(r"<style.*?</style>", deck, flags=re.S))
    assert "@import" not in styles
    assert not re.search(r"url\(\s*['\"]?(?!data:|#)", styles)
    # In scripts stand names of formats, and where their authors are found; no server that something could come from.
    hosts = set(re.findall(r"https?://([\w.-]+)", deck))
    assert hosts <= {
        "www.w3.org",
        "www.mathjax.org",
        "revealjs.com",
        "hakim.se",
        "meyerweb.com",
        "github.com",
        "marked.js.org",
    }
    policy = next(each["content"] for _, each in Tags(deck).found if each.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert not re.search(r"https?:|\*", policy)


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("No title", "slide 1 must begin with a line '# title', and begins with 'No title'"),
        ("# T\nminutes: two\n\nNote:\n\nx", "slide 1 (T) needs a line 'minutes: n', and has 'two'"),
        ("# T\nminutes: 2\ncolour: red\n\nNote:\n\nx", "slide 1 (T) says 'colour'; allowed are minutes"),
        ("# T\nminutes: 2\n\nwords", "slide 1 (T) has no notes"),
        (
            "# T\nminutes: 2\nfigure: fig-nowhere\n\nNote:\n\nx",
            "no chapter has a stored drawing with the label 'fig-nowhere'",
        ),
        ("# T\nminutes: 2\ninteractive: dance\n\nNote:\n\nx", "the interactive figure 'dance'; allowed are shake"),
    ],
)
def test_a_wrong_deck_gets_a_sentence(tmp_path, capsys, text, sentence):
    (tmp_path / "deck.md").write_text(text, encoding="utf-8")
    assert slides.main([str(tmp_path / "deck.md"), "--to", str(tmp_path / "deck.html")]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "deck.html").exists()
