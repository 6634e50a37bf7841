"""The lecture's slides in a browser: each fits its screen, formulas and figures are there, and nothing comes from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from bs4 import BeautifulSoup, Tag
from pdf_checks import Printed, squeezed
from playwright.sync_api import Browser, Page
from printing import served
from site_checks import context_of, listen

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import slides  # noqa: E402

READY = """async () => {
    await MathJax.startup.promise;
    await document.fonts.ready;
    Reveal.layout();
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
}"""

# What reaches beyond the screen, or is so low that nobody reads it. A picture is looked at as a whole.
WRONG = r"""async number => {
    Reveal.slide(number);
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    const slide = Reveal.getCurrentSlide(), found = [];
    const inside = 'svg, mjx-assistive-mml, .fk-spoken, .fk-still, .notes';
    for (const element of slide.querySelectorAll('*')) {
        if (!element.checkVisibility() || element.parentElement.closest(inside) || element.matches('.fk-spoken')) continue;
        const box = element.getBoundingClientRect();
        if (box.left < -1 || box.top < -1 || box.right > 1281 || box.bottom > 721)
            found.push(`${element.tagName} reaches from ${Math.round(box.left)}, ${Math.round(box.top)} to `
                + `${Math.round(box.right)}, ${Math.round(box.bottom)}: ${element.textContent.trim().slice(0, 40)}`);
    }
    const parts = [...slide.children].filter(each => each.checkVisibility()).map(each => each.getBoundingClientRect());
    parts.slice(1).forEach((part, k) => { if (part.top < parts[k].bottom - 1) found.push(`part ${k + 1} lies over the one above`); });
    for (const drawing of slide.querySelectorAll('.drawn svg'))
        if (drawing.getBoundingClientRect().height < 250) found.push('a figure is lower than 250 px');
    const wrong = '[data-mml-node="merror"], [data-mjx-error], [data-mml-node="mtext"][fill="red"]';
    for (const error of slide.querySelectorAll(wrong)) found.push('formula: ' + error.closest('svg').innerHTML.slice(0, 80));
    const says = [...slide.children].filter(each => !each.matches('.notes, pre, .drawn')).map(each => each.innerText || '').join(' ');
    if (/\\[()[\]a-z]|\$/.test(says)) found.push('raw TeX: ' + says.slice(0, 80));
    return found.map(each => `slide ${number + 1} (${slide.querySelector('h2').textContent}): ${each}`);
}"""


@pytest.fixture(scope="module")
def deck(tmp_path_factory) -> Path:
    """A folder with the deck and nothing else."""
    folder = tmp_path_factory.mktemp("slides")
    command = [sys.executable, str(ROOT / "tools" / "slides.py"), "--to", str(folder / "lecture.html")]
    subprocess.run(command, check=True, cwd=folder)
    return folder


FAULTS = {
    "too long": ("- a line\n" * 30, "reaches from"),
    "too wide": ("$$" + "x + " * 60 + "x$$", "svg reaches from"),
    "a formula with an error": (r"$x^2^2$", "formula: "),
    "a command that there is not": (r"$\nosuch$", "formula: "),
    "raw TeX": ("one $$ and no more", "raw TeX"),
}


def opened(tab: Page, address: str) -> None:
    tab.set_viewport_size({"width": 1280, "height": 720})
    tab.goto(address, wait_until="load")
    tab.evaluate(READY)


def test_every_slide_fits_the_screen(browser: Browser, deck: Path) -> None:
    with served(deck) as address, context_of(browser, "desktop", address) as context:
        tab = context.new_page()
        problems = listen(tab, address)
        opened(tab, f"{address}/lecture.html")
        total = tab.evaluate("() => Reveal.getTotalSlides()")
        assert total >= 30
        assert tab.locator(".slides mjx-container").count() >= 10
        for number in range(total):
            problems += tab.evaluate(WRONG, number)
        assert problems == []


def test_the_deck_opens_from_a_file_and_may_not_ask_another_host(browser: Browser, deck: Path) -> None:
    context = browser.new_context()
    try:
        tab = context.new_page()
        requests: list[str] = []
        errors: list[str] = []
        tab.on("request", lambda request: requests.append(request.url))
        tab.on("pageerror", lambda error: errors.append(str(error)))
        opened(tab, (deck / "lecture.html").as_uri())
        tab.keyboard.press("ArrowRight")
        assert tab.evaluate("() => Reveal.getIndices().h") == 1
        assert [each for each in requests if not each.startswith(("file:", "data:", "blob:"))] == []
        assert errors == []
        refused = tab.evaluate(
            """() => new Promise(done => {
                document.addEventListener('securitypolicyviolation', event => done(event.effectiveDirective));
                fetch('https://example.org/').catch(() => null);
            })"""
        )
        assert refused == "connect-src"
    finally:
        context.close()


def test_the_stair_can_be_shaken_and_the_speaker_has_notes(browser: Browser, deck: Path) -> None:
    with served(deck) as address, context_of(browser, "desktop", address) as context:
        tab = context.new_page()
        problems = listen(tab, address)
        opened(tab, f"{address}/lecture.html")
        figure = tab.locator(".shake-figure[data-ready]")
        here = "() => [...document.querySelectorAll('.slides > section')].findIndex(each => each.querySelector('.shake-figure'))"
        tab.evaluate("number => Reveal.slide(number)", tab.evaluate(here))
        assert figure.locator(".fk-read").inner_text().startswith("No draw yet")
        figure.get_by_role("button", name="100 draws").click()
        assert figure.locator(".fk-read").inner_text().startswith("100 draws: average ")
        tab.locator("body").click(position={"x": 5, "y": 5})
        with context.expect_page() as speaker:
            tab.keyboard.press("s")
        notes = speaker.value.locator(".speaker-controls-notes .value")
        notes.get_by_text("Say: operate the figure.").wait_for(timeout=10_000)
        assert problems == []


def made(*arguments: object) -> None:
    """Runs the tool."""
    command = [sys.executable, str(ROOT / "tools" / "slides.py"), *map(str, arguments)]
    subprocess.run(command, check=True)


@pytest.fixture(scope="module")
def papers(deck: Path) -> dict[str, Printed]:
    """The deck printed, without notes and with them."""
    made("--to", deck / "lecture.html", "--pdf", "both")
    names = {"slides": "lecture.pdf", "notes": "lecture-notes.pdf"}
    return {kind: Printed((deck / name).read_bytes(), foot=0) for kind, name in names.items()}


def said(slide: Tag) -> list[str]:
    """The words of a slide that stand outside formulas and figures, line by line."""
    for each in slide.select(".drawn, .fk-figure, .notes"):
        each.decompose()
    lines = [line.get_text() for line in slide.select("h2, p, li, th, td, pre")]
    return [squeezed(words) for line in lines for words in re.split(r"\\\(.*?\\\)|\\\[.*?\\\]", line, flags=re.S)]


def test_printed_it_has_a_page_for_each_slide_with_all_that_it_says(deck: Path, papers: dict[str, Printed]) -> None:
    page = BeautifulSoup((deck / "lecture.html").read_text(encoding="utf-8"), "html.parser")
    notes = [squeezed(aside.get_text()) for aside in page.select(".slides > section > .notes")]
    shown = [said(slide) for slide in page.select(".slides > section")]
    alone, both = ([squeezed(text) for text in papers[kind].texts()] for kind in ("slides", "notes"))
    assert len(alone) == len(shown) >= 30 and len(both) == 2 * len(shown)
    for number, (words, note) in enumerate(zip(shown, notes)):
        for texts in (alone[number], both[2 * number]):
            assert [each for each in words if each not in texts] == [], number + 1
        assert note in both[2 * number + 1], number + 1
        assert note not in alone[number]
    titles = [squeezed(title) for _, title, _ in papers["slides"].bookmarks()]
    assert titles == [squeezed(slide.title) for slide in slides.read_deck()]


@pytest.mark.parametrize("kind", slides.PDFS["both"])
def test_nothing_printed_reaches_beyond_its_page(papers: dict[str, Printed], kind: str) -> None:
    drawn = papers[kind].drawn
    sizes = {page.get_size() for page in drawn}
    assert sizes == {(slides.WIDTH * 0.75, slides.HEIGHT * 0.75)}
    assert papers[kind].outside() == []


def test_the_check_finds_a_slide_that_is_too_long_on_paper(tmp_path: Path) -> None:
    (tmp_path / "deck.md").write_text(
        "# A title\nminutes: 1\n\n" + "- a line\n" * 30 + "\nNote:\n\nSay: x\n", encoding="utf-8"
    )
    made(tmp_path / "deck.md", "--to", tmp_path / "deck.html", "--pdf", "slides")
    paper = Printed((tmp_path / "deck.pdf").read_bytes(), foot=0)
    assert paper.outside() or squeezed(paper.texts()[0]).count("aline") < 30


@pytest.mark.parametrize("fault", FAULTS)
def test_the_check_of_a_slide_finds_what_is_planted(browser: Browser, tmp_path: Path, fault: str) -> None:
    text, finding = FAULTS[fault]
    (tmp_path / "deck.md").write_text(f"# A title\nminutes: 1\n\n{text}\n\nNote:\n\nSay: x\n", encoding="utf-8")
    command = [
        sys.executable,
        str(ROOT / "tools" / "slides.py"),
        str(tmp_path / "deck.md"),
        "--to",
        str(tmp_path / "deck.html"),
    ]
    subprocess.run(command, check=True, cwd=tmp_path)
    with served(tmp_path) as address, context_of(browser, "desktop", address) as context:
        tab = context.new_page()
        opened(tab, f"{address}/deck.html")
        found = tab.evaluate(WRONG, 0)
        assert any(finding in each for each in found), found
