"""The lecture's slides in a browser: each fits its screen, formulas and figures are there, and nothing comes from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page
from site_checks import context_of, listen, served

ROOT = Path(__file__).resolve().parents[2]

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


def test_printed_it_has_a_page_for_each_slide(browser: Browser, deck: Path) -> None:
    with served(deck) as address, context_of(browser, "desktop", address) as context:
        tab = context.new_page()
        tab.goto(f"{address}/lecture.html?print-pdf", wait_until="load")
        tab.evaluate("() => MathJax.startup.promise")
        tab.locator(".pdf-page").nth(29).wait_for()
        slides = tab.evaluate("() => Reveal.getTotalSlides()")
        printed = tab.pdf(prefer_css_page_size=True, print_background=True)
        assert len(re.findall(rb"/Type\s*/Page\b", printed)) == slides >= 30


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
