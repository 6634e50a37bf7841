"""The figures that readers operate, on the built pages."""

from __future__ import annotations

import pytest
from site_checks import SETTLED, THEMES, WIDTHS, accessibility, context_of, listen, overflow, turn_to

PAGE = "book/15-integers.html"


@pytest.mark.parametrize("device", WIDTHS)
def test_a_digit_is_drawn_painted_and_shown(browser, site, device):
    with context_of(browser, device, site) as context:
        tab = context.new_page()
        problems = listen(tab, site)
        tab.goto(f"{site}/{PAGE}", wait_until="load")
        figure = tab.locator(".digit-figure[data-ready]")
        read = figure.locator(".df-read")
        assert read.inner_text() == "Nothing is drawn yet."
        pad = figure.locator(".df-pad")
        pad.scroll_into_view_if_needed()
        box = pad.bounding_box()
        x, top, bottom = box["x"] + box["width"] / 2, box["y"] + 0.1 * box["height"], box["y"] + 0.9 * box["height"]
        if device == "phone":
            before = tab.evaluate("scrollY")
            session = context.new_cdp_session(tab)
            for kind, y in (
                ("touchStart", top),
                ("touchMove", (top + bottom) / 2),
                ("touchMove", bottom),
                ("touchEnd", None),
            ):
                points = [] if y is None else [{"x": x, "y": y}]
                session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
            assert tab.evaluate("scrollY") == before
        else:
            tab.mouse.move(x, top)
            tab.mouse.down()
            tab.mouse.move(x, bottom, steps=5)
            tab.mouse.up()
        assert read.inner_text().startswith("The network reads 1;")
        figure.get_by_role("button", name="Clear").click()
        assert read.inner_text() == "Nothing is drawn yet."
        figure.get_by_role("application").focus()
        tab.keyboard.press("ArrowRight")
        tab.keyboard.press(" ")
        assert figure.locator(".df-spoken").inner_text() == "Row 4, column 5: 16"
        assert read.inner_text().startswith("The network reads ")
        figure.get_by_role("button", name="Show me a test digit").click()
        assert "labelled 0." in read.inner_text()
        for theme in THEMES:
            problems += turn_to(tab, theme)
            problems += overflow(tab) + accessibility(tab)
        assert problems == []


FIGURES = {
    "shake": ("book/index.html", "Input x", "No draw yet"),
    "window": ("book/03-regularisations.html", "Input x", "Mass of the window"),
    "zoo": ("book/04-zoo.html", "k", "Zenke and Ganguli"),
    "mass": ("book/04-zoo.html", "Quantisers", "With mass"),
    "strategies": ("book/05-strategies.html", "Half-width", "How far from the photograph"),
    "swap": ("book/07-counterexamples.html", "λ", "λ = "),
}
"""The page of each figure of figure-kit.js, one of its sliders, and how the sentence under it begins."""


@pytest.mark.parametrize("device", WIDTHS)
@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_answers_keys_and_breaks_no_rule(browser, site, name, device):
    """The page itself is looked at in test_pages.py; here, what the figure does on it, and its colours in both themes."""
    page, label, begins = FIGURES[name]
    with context_of(browser, device, site) as context:
        tab = context.new_page()
        problems = listen(tab, site)
        tab.goto(f"{site}/{page}", wait_until="load")
        figure = tab.locator(f".{name}-figure[data-ready]")
        read = figure.locator(".fk-read")
        before = read.inner_text()
        assert before.startswith(begins)
        slider = figure.get_by_label(label, exact=True)
        tab.evaluate(SETTLED)  # formulas above move the figure when they are set
        box = slider.bounding_box()
        place = {"x": 0.35 * box["width"], "y": box["height"] / 2}
        slider.tap(position=place) if device == "phone" else slider.click(position=place)
        touched = read.inner_text()
        assert touched != before and touched.startswith(begins)
        slider.focus()
        tab.keyboard.press("ArrowLeft")
        assert read.inner_text() != touched
        figure.locator("[role=status]", has_text=begins).wait_for(state="attached")
        assert not figure.locator(".fk-still").is_visible()
        wide = figure.evaluate("f => f.scrollWidth <= f.clientWidth")
        assert wide and overflow(tab) == []
        colours = []
        for theme in THEMES:
            problems += turn_to(tab, theme)
            colours.append(figure.locator(".fk-title").first.evaluate("t => getComputedStyle(t).color"))
        assert colours[0] != colours[1]
        assert problems == []


@pytest.mark.parametrize(
    "name, page", [("digit", PAGE), *((name, page) for name, (page, _, _) in FIGURES.items())], ids=["digit", *FIGURES]
)
def test_without_scripts_the_page_shows_the_still(browser, site, name, page):
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(f"{site}/{page}", wait_until="load")
    still = tab.locator(f".{name}-figure img")
    assert still.is_visible() and still.bounding_box()["width"] > 300
    context.close()
