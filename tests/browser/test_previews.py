"""Previews of what references refer to: with the pointer, with the keyboard, and never in the way of a finger."""

from __future__ import annotations

import json
import re
from urllib.parse import unquote

import pytest
from bs4 import BeautifulSoup
from playwright.sync_api import Page, expect
from site_checks import AXE, FADED, SETTLED, THEMES, context_of, listen, turn_to

from conftest import SITE

DATA = SITE / "_static" / "previews"
KINDS = {
    "term": ("book/06-composing-layers", "glossary.html#term-", "log-margin schedule"),
    "equation": ("book/03-regularisations", "#equation-eq-derivative", "(3.5)"),
    "theorem": ("book/07-counterexamples", "#thm-", "Theorem 6.1"),
    "figure": ("book/00-start-here", "#fig-start-noise", "Fig. 0.2"),
    "exercise": ("book/teaching", "#ex-quantisers-3", "Exercise 1.3"),
    "citation": ("book/06-composing-layers", "bibliography.html#id", "Embrechts"),
    "term without formulas on the page": ("book/13-speech", "#term-quantum", "ε"),
}


def data_of(page):
    text = (DATA / f"{page}.js").read_text(encoding="utf-8")
    return json.loads(re.fullmatch(r"anabookPreviews\[\"[^\"]+\"\] = (.*);\n", text, flags=re.S)[1])


def link(tab: Page, kind: str):
    return tab.locator(f"article a.reference.internal[href*='{KINDS[kind][1]}']:not(.headerlink)").first


def pointed_at(tab: Page, kind: str):
    """The preview after the pointer has come to the first link of a kind."""
    there = link(tab, kind)
    there.scroll_into_view_if_needed()
    there.hover()
    box = tab.locator(".preview-shown")
    box.wait_for(timeout=20_000)
    return box


@pytest.fixture
def tab(profiles, site):
    page = profiles["desktop"].new_page()
    page.problems = listen(page, site)
    yield page
    assert page.problems == []
    page.close()


@pytest.mark.parametrize("kind", KINDS)
def test_the_pointer_shows_what_is_referred_to(tab, site, kind):
    tab.goto(f"{site}/{KINDS[kind][0]}.html", wait_until="load")
    tab.evaluate(SETTLED)
    box = pointed_at(tab, kind)
    where = box.evaluate("b => { const r = b.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; }")
    width, height = tab.viewport_size["width"], tab.viewport_size["height"]
    assert where[0] >= 0 and where[1] >= 0 and where[2] <= width and where[3] <= height
    words = box.evaluate(
        "b => [b.innerText, ...[...b.querySelectorAll('mjx-assistive-mml')].map(m => m.textContent)].join(' ')"
    )
    assert KINDS[kind][2] in words.replace("𝜀", "ε")
    assert box.locator("a, button, [id], [tabindex='0']").count() == 0
    assert box.locator(".math").count() == box.locator(".math:has(mjx-container)").count()
    assert box.evaluate("b => [...b.querySelectorAll('img')].every(i => i.naturalWidth > 100 && i.alt.length > 10)")
    assert link(tab, kind).get_attribute("aria-describedby") == "preview" and box.get_attribute("role") == "tooltip"
    assert not link(tab, kind).get_attribute("title")
    tab.keyboard.press("Escape")
    expect(box).to_have_count(0)
    assert link(tab, kind).get_attribute("aria-describedby") is None


def test_axe_finds_nothing_in_an_open_preview(tab, site):
    for kind in ("equation", "term", "figure", "citation"):
        tab.goto(f"{site}/{KINDS[kind][0]}.html", wait_until="load")
        tab.evaluate(SETTLED)
        for theme in THEMES:
            assert turn_to(tab, theme) == []
            tab.mouse.move(0, 0)
            pointed_at(tab, kind)
            tab.evaluate(FADED)
            tab.evaluate(AXE)
            found = tab.evaluate(
                "async sure => (await axe.run({ include: [['.preview'], sure] }, { resultTypes: ['violations'], preload: false })).violations"
                ".map(v => v.id + ': ' + v.nodes.map(n => n.html.slice(0, 120)).join(' | '))",
                ["a[aria-describedby='preview']"],
            )
            assert found == [], (kind, theme)
            tab.keyboard.press("Escape")


def test_a_preview_has_the_colours_of_the_theme(tab, site):
    tab.goto(f"{site}/{KINDS['citation'][0]}.html", wait_until="load")
    tab.evaluate(SETTLED)
    grounds = []
    for theme in THEMES:
        turn_to(tab, theme)
        grounds.append(pointed_at(tab, "citation").evaluate("b => getComputedStyle(b).backgroundColor"))
        tab.keyboard.press("Escape")
        tab.mouse.move(0, 0)
    assert grounds[0] != grounds[1]


def test_the_keyboard_shows_it_and_leaves_it_behind(tab, site):
    tab.goto(f"{site}/{KINDS['citation'][0]}.html", wait_until="load")
    tab.evaluate(SETTLED)
    there = link(tab, "citation")
    there.focus()
    tab.keyboard.press("Shift+Tab")
    tab.keyboard.press("Tab")
    box = tab.locator(".preview-shown")
    box.wait_for(timeout=20_000)
    assert (
        "Embrechts" in box.inner_text()
        and tab.evaluate("document.activeElement.getAttribute('aria-describedby')") == "preview"
    )
    tab.keyboard.press("Escape")
    expect(box).to_have_count(0)
    assert there.evaluate("a => a === document.activeElement")
    tab.keyboard.press("Shift+Tab")
    tab.keyboard.press("Tab")
    box.wait_for(timeout=20_000)
    tab.keyboard.press("Tab")
    tab.wait_for_function("() => !/Embrechts/.test(document.querySelector('.preview-shown')?.textContent || '')")
    there.focus()
    box.wait_for(timeout=20_000)
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/bibliography.html#id*")


def test_the_pointer_may_move_onto_a_preview_and_leaves_it_at_last(tab, site):
    tab.goto(f"{site}/{KINDS['equation'][0]}.html", wait_until="load")
    tab.evaluate(SETTLED)
    box = pointed_at(tab, "equation")
    box.hover(force=True)
    tab.wait_for_timeout(800)
    assert box.is_visible()
    tab.mouse.move(2, 2)
    expect(box).to_have_count(0)


def test_a_preview_follows_its_link_and_is_not_printed(tab, site):
    tab.goto(f"{site}/{KINDS['equation'][0]}.html", wait_until="load")
    tab.evaluate(SETTLED)
    box = pointed_at(tab, "equation")
    away = "() => document.querySelector('.preview').getBoundingClientRect().top - document.querySelector('[aria-describedby=preview]').getBoundingClientRect().bottom"
    before = tab.evaluate(away)
    tab.evaluate("() => scrollBy({ top: 40, behavior: 'instant' })")
    tab.wait_for_timeout(200)
    assert abs(tab.evaluate(away) - before) < 2
    tab.emulate_media(media="print")
    assert not box.is_visible()
    tab.emulate_media(media="screen")


@pytest.mark.parametrize("motion, seconds", [("reduce", "0s"), ("no-preference", "0.12s")])
def test_it_fades_in_only_where_motion_is_welcome(tab, site, motion, seconds):
    tab.emulate_media(reduced_motion=motion)
    tab.goto(f"{site}/{KINDS['citation'][0]}.html", wait_until="load")
    tab.evaluate(SETTLED)
    assert pointed_at(tab, "citation").evaluate("b => getComputedStyle(b).transitionDuration") == seconds


def test_a_finger_follows_the_link(browser, site):
    with context_of(browser, "phone", site) as context:
        tab = context.new_page()
        problems = listen(tab, site)
        tab.goto(f"{site}/{KINDS['equation'][0]}.html", wait_until="load")
        tab.evaluate(SETTLED)
        link(tab, "equation").scroll_into_view_if_needed()
        link(tab, "equation").tap()
        tab.wait_for_url("**#equation-eq-derivative")
        tab.wait_for_timeout(600)
        assert tab.locator(".preview").count() == 0
        tab.goto(f"{site}/{KINDS['citation'][0]}.html", wait_until="load")
        link(tab, "citation").tap()
        tab.wait_for_url("**/bibliography.html#id*")
        assert problems == []


def test_a_page_read_from_a_disk_has_previews_too(browser):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    for kind in ("term", "figure", "term without formulas on the page"):
        tab.goto(f"{SITE.as_uri()}/{KINDS[kind][0]}.html", wait_until="load")
        tab.evaluate(SETTLED)
        assert len(pointed_at(tab, kind).inner_text()) > 20
    context.close()


def test_every_reference_to_such_a_place_has_its_preview():
    """Terms, equations, theorems, exercises, figures and citations, on all pages; proofs have none."""
    missing, counted = [], 0
    for path in sorted((SITE / "book").glob("*.html")):
        soup = BeautifulSoup(re.sub(r"<svg.*?</svg>", "", path.read_text(encoding="utf-8"), flags=re.S), "html.parser")
        for each in soup.select("article a.reference.internal[href*='#']"):
            page, _, place = unquote(each["href"]).partition("#")
            page = page.removesuffix(".html") or path.stem
            if re.match(r"(term|equation|thm|prop|lem|cor|def|ex|fig|note)-", place) or (
                page == "bibliography" and place[:2] == "id"
            ):
                counted += 1
                if place not in data_of(f"book/{page}"):
                    missing.append(f"{path.stem} → {page}#{place}")
    assert counted > 800 and missing == []


def test_the_data_of_a_page_are_small_and_of_this_site():
    for path in DATA.rglob("*.js"):
        assert path.stat().st_size < 100_000, path
    for path in sorted((SITE / "book").glob("*.html")):
        for name, html in data_of(f"book/{path.stem}").items():
            assert not re.search(r"<(a|script|button|iframe)\b|\son\w+=|\sid=|\\label\{", html), (path.stem, name)
            for source in re.findall(r'src="([^"]*)"', html):
                assert (SITE / source).is_file(), (path.stem, name, source)
