"""Pages on paper: nothing of a page is cut or missing in its PDF, and PDFs make a book that one can find one's way in."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from pdf_checks import LETTERS, Printed, missing, source_of, squeezed
from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "_build" / "html"
sys.path.insert(0, str(ROOT / "tools"))
import pdf  # noqa: E402
from pdf_joining import Book, Part, outline  # noqa: E402
from printing import opened, printed, profile  # noqa: E402


def widest_line(path: Path) -> int:
    """The longest line of code or text that a chapter shows."""
    lines = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            kinds = [{"text/plain": output.get("text", "")} | output.get("data", {}) for output in cell["outputs"]]
            texts = [kind["text/plain"] for kind in kinds if set(kind) == {"text/plain"}]
            lines += [line for text in [cell["source"], *texts] for line in "".join(text).split("\n")]
    return max(map(len, lines), default=0)


CHAPTERS = [path for path in (ROOT / "book").glob("*.ipynb") if path.stem != "claims-ledger"]
WIDEST = [path.stem for path in sorted(CHAPTERS, key=widest_line)][-2:]
"""The chapters with the widest code and outputs; without the ledger, which is as wide and takes as long as both."""

WITH_SOLUTIONS = "your-network"
CUT = "@media print { #main-content pre, #main-content pre * { white-space: pre !important; } }"


class OnPaper(NamedTuple):
    """A printed page, and how many letters its formulas have."""

    part: Part
    document: bytes
    letters: int


@pytest.fixture(scope="module")
def paper(browser: Browser, site: str):
    """Prints a page as tools/pdf.py does, once for all tests."""
    places = pdf.places_linked_to(SITE)
    with profile(browser, site) as context:

        @functools.cache
        def on_paper(name: str, solutions: str = "hidden", style: str = "") -> OnPaper:
            with opened(context, site, f"book/{name}.html?solutions={solutions}") as page:
                if style:
                    page.add_style_tag(content=style)
                letters = page.evaluate(LETTERS, solutions)
                part = pdf.print_page(page, name, places[name])
            chapter = Book(site, elsewhere=WIDEST)
            chapter.add(part)
            return OnPaper(part, chapter.bytes(name), letters)

        yield on_paper


@pytest.mark.parametrize("name", WIDEST)
def test_nothing_of_a_page_is_missing_or_cut(paper, name: str) -> None:
    page = paper(name)
    source = source_of(SITE / "book" / f"{name}.html")
    assert len(source.lines) > 50
    assert missing(Printed(page.document), source, page.letters) == []


def test_solutions_are_printed_when_asked_for(paper) -> None:
    path = SITE / "book" / f"{WITH_SOLUTIONS}.html"
    without, whole = source_of(path), source_of(path, "shown")
    assert len(whole.lines) > len(without.lines)
    page = paper(WITH_SOLUTIONS, "shown")
    assert missing(Printed(page.document), whole, page.letters) == []
    text = squeezed("".join(Printed(paper(WITH_SOLUTIONS).document).texts()))
    assert "Solution" not in text and "Exercise" in text


def test_the_check_finds_code_that_is_cut_and_what_is_not_there(paper) -> None:
    source = source_of(SITE / "book" / f"{WITH_SOLUTIONS}.html")
    found = missing(Printed(paper(WITH_SOLUTIONS, "hidden", CUT).document), source, 0)
    assert any("encoder_layer_0" in each and "is not in the text" in each for each in found), found
    more = source._replace(
        lines=[*source.lines, "nosuchline = 1"],
        cells=["nosuchcell"],
        headings=["No such heading"],
        figures=source.figures + 99,
        pictures=["No such picture"],
        equations=["(99.1)"],
    )
    found = missing(Printed(paper(WITH_SOLUTIONS).document), more, 10**6)
    for wanted in (
        "the line 'nosuchline",
        "the cell",
        "the heading",
        "figures",
        "no picture",
        "equation",
        "letters",
        "no bookmark",
    ):
        assert any(wanted in each for each in found), (wanted, found)


def test_a_dark_page_is_light_on_paper_and_dark_again_afterwards(browser: Browser, site: str) -> None:
    state = "() => [document.documentElement.dataset.theme, document.querySelectorAll('article details[open]').length]"
    with profile(browser, site) as context, opened(context, site, "book/08-schedules.html") as page:
        page.emulate_media(color_scheme="dark")
        page.wait_for_function("() => document.documentElement.dataset.theme === 'dark'")
        before = page.evaluate(state)
        light = Printed(printed(page))
        assert page.evaluate(state) == before == ["dark", 0]
    for number in range(4):
        shades = sorted(light.drawn[number].render(scale=0.3).to_pil().convert("L").tobytes())
        assert shades[len(shades) // 2] >= 240, number + 1
    assert "one moment of it" in "".join(light.texts())


def test_interactive_figures_show_their_still_with_its_text(browser: Browser, site: str) -> None:
    with profile(browser, site) as context, opened(context, site, "book/index.html") as page:
        words = page.locator(".shake-figure .fk-still img").get_attribute("alt")
        page.emulate_media(media="print")
        assert page.locator(".shake-figure .fk-still img").is_visible()
        assert not page.locator(".shake-figure button").first.is_visible()
        text = squeezed("".join(Printed(printed(page)).texts()))
    assert squeezed(words) in text
    assert "100draws</" not in text and "Searchthebook" not in text


def test_chapters_make_a_book_with_contents_bookmarks_and_links(paper, browser: Browser, site: str) -> None:
    parts = [paper(name).part for name in (WIDEST[0], WIDEST[-1])]
    with profile(browser, site) as context:
        front = pdf.print_front(context, pdf.contents([("A part", parts)], site))
    book = Book(site)
    for part in (front, *parts):
        book.add(part)
    whole = Printed(book.bytes("A book"))
    fronts, starts = len(front.document.pages), [0, len(parts[0].document.pages)]
    assert len(whole.drawn) == fronts + sum(len(part.document.pages) for part in parts)
    assert [whole.drawn.get_page_label(number) for number in (0, fronts, fronts + 1)] == ["i", "1", "2"]

    wanted = [
        (heading.depth, heading.title, fronts + start + heading.page)
        for part, start in zip(parts, starts)
        for heading in outline(part)
        if heading.depth < 3
    ]
    assert whole.bookmarks() == wanted
    texts = [squeezed(text) for text in whole.texts()]
    contents = "".join(texts[:fronts])
    for depth, title, page in wanted:
        assert squeezed(title) in texts[page]
        if depth < 2:
            assert squeezed(f"{title}{page - fronts + 1}") in contents

    reader = whole.reader
    numbers = {page.indirect_reference.idnum: number for number, page in enumerate(reader.pages)}
    links = [link.get_object() for page in reader.pages for link in page.get("/Annots", ())]
    addresses = [link["/A"]["/URI"] for link in links if "/A" in link]
    assert [each for each in addresses if each.startswith("http://127.0.0.1")] == []
    led = [numbers[link["/Dest"][0].idnum] for link in reader.pages[1]["/Annots"] for link in [link.get_object()]]
    assert led == sorted(led) and led[0] == fronts
    within = [numbers[link["/Dest"][0].idnum] for link in links if "/Dest" in link]
    assert max(within) >= fronts + starts[1] and whole.elements()["/Part"] == 3
