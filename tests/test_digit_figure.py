"""The interactive figure of chapter 15: its JavaScript computes what the package computes, and readers of all kinds can use it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import figure_helpers
import nbformat
import numpy as np
import pytest
from figure_helpers import NODE, STATIC, THEMES, find_browser, page_with, still_of, style_of

from anabook import datasets, deploy
from anabook.deploy.steps import Threshold

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = (STATIC / "digit-network.js", STATIC / "digit.js")
NAMED = dict(zip(("network", "api"), SCRIPTS))

spec = importlib.util.spec_from_file_location("digit_figure", ROOT / "tools" / "digit_figure.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


def in_node(body, data):
    return figure_helpers.in_node(body, data, NAMED)


def in_browser(body, data):
    return figure_helpers.in_browser(body, data, NAMED, ("anabookDigitNetwork", "anabookDigits"))


ENGINES = [
    pytest.param(in_node, marks=pytest.mark.skipif(NODE is None, reason="node was not found"), id="node"),
    pytest.param(
        in_browser, marks=pytest.mark.skipif(find_browser() is None, reason="no Chromium or Chrome was found"), id="browser"
    ),
]


@pytest.fixture(scope="module")
def network():
    return tool.stored("digits").integers


@pytest.fixture(scope="module")
def digits():
    return datasets.digits()


# What it computes


@pytest.mark.parametrize("evaluate", ENGINES)
def test_features_and_scores_of_every_test_digit_are_the_packages(evaluate, network, digits):
    counts = tool.counts(digits.x_test)
    body = """const ready = api.prepare(network);
        return data.map(counts => { const { features, scores } = api.run(ready, counts);
            return [...features.map(layer => Array.from(layer)), scores]; });"""
    found = evaluate(body, counts.reshape(-1, 64).tolist())
    assert len(found) == 359
    expected = network.features(counts)
    hidden = [step.name for step in network.steps if isinstance(step, Threshold)]
    assert len(hidden) == 2
    for layer, name in enumerate(hidden):
        np.testing.assert_array_equal([each[layer] for each in found], expected[name])
    np.testing.assert_array_equal([each[2] for each in found], network(counts))  # to the last bit


@pytest.mark.parametrize("evaluate", ENGINES)
def test_counts_are_those_of_blocks_of_dots(evaluate):
    rng = np.random.default_rng(0)
    bitmaps = (rng.random((20, 32, 32)) < rng.random((20, 1, 1))).astype(int)
    found = evaluate("return data.map(dots => Array.from(api.counts(dots)));", bitmaps.reshape(20, -1).tolist())
    expected = bitmaps.reshape(20, 8, 4, 8, 4).sum((2, 4)).reshape(20, 64)
    np.testing.assert_array_equal(found, expected)


def test_the_files_are_those_that_the_tool_writes(network):
    assert SCRIPTS[0].read_text(encoding="utf-8") == tool.script(network)
    document, text = tool.still(network, tool.chosen(network)[3])
    assert (STATIC / "digit-still.svg").read_text(encoding="utf-8") == document
    cells = nbformat.read(ROOT / "book" / "15-integers.ipynb", 4).cells
    (source,) = [cell.source for cell in cells if "digit-figure" in cell.source]
    assert f'src="../_static/digit-still.svg" alt="{text}"' in source
    for name in ("figure-kit.css", "digit.css", "digit-network.js", "digit.js"):
        assert f"../_static/{name}" in source


def test_the_stored_digits_are_the_first_of_each_class_and_two_that_are_misread(network, digits):
    rows = tool.chosen(network)
    assert digits.y_test[rows[:10]].tolist() == list(range(10)) and len(set(rows)) == 12
    assert all(digit not in digits.y_test[:row] for digit, row in enumerate(rows[:10]))
    read = network(tool.counts(digits.x_test)).argmax(1)
    assert (read[rows[10:]] != digits.y_test[rows[10:]]).all()
    assert (read == digits.y_test).mean() > 0.93


def test_the_tool_refuses_another_kind_of_network(network):
    shorter = deploy.IntegerNetwork(network.input, network.steps[:3])
    with pytest.raises(ValueError, match="the figure shows"):
        tool.script(shorter)


def test_the_figure_is_small_and_asks_for_nothing_from_elsewhere():
    assert SCRIPTS[1].stat().st_size < 20_000 and SCRIPTS[0].stat().st_size < 12_000
    files = [*SCRIPTS, STATIC / "digit.css", STATIC / "digit-still.svg"]
    source = "".join(path.read_text(encoding="utf-8") for path in files)
    assert {word for word in source.split('"') if "://" in word} == {"http://www.w3.org/2000/svg"}
    assert not any(call in source for call in ("fetch(", "XMLHttpRequest", "import(", "@import", "url(", "innerHTML"))


# From strokes to counts


def arc(x, y, across, down, start, end):
    angles = np.radians(np.linspace(start, end, 25))
    return np.stack([x + across * np.cos(angles), y - down * np.sin(angles)], 1).tolist()


DRAWN = {
    0: [arc(100, 100, 50, 80, 90, 450)],
    1: [[[80, 60], [110, 30], [110, 180]]],
    2: [arc(100, 70, 45, 45, 160, -40) + [[60, 180], [150, 180]]],
    3: [arc(95, 65, 40, 38, 150, -90) + arc(95, 142, 45, 40, 90, -150)],
    4: [[[120, 20], [60, 120], [150, 120]], [[125, 80], [125, 180]]],
    5: [[[145, 25], [75, 25], [70, 90]] + arc(100, 130, 45, 48, 120, -140)],
    6: [[[130, 20], [85, 80]] + arc(100, 135, 42, 42, 160, -220)],
    7: [[[55, 30], [150, 30], [95, 180]]],
    8: [arc(100, 62, 35, 38, -90, 270) + arc(100, 145, 42, 42, 90, 450)],
    9: [arc(100, 70, 42, 42, 0, 360) + [[140, 75], [125, 180]]],
}
READ = """const ready = api.prepare(network);
    return data.map(strokes => { const dots = api.dots(strokes); const counts = api.counts(dots);
        return { dots: Array.from(dots), counts: Array.from(counts), best: api.ranking(api.run(ready, counts).scores)[0] }; });"""


@pytest.mark.parametrize("evaluate", ENGINES[:1] if NODE else ENGINES[1:])
def test_drawn_digits_lie_as_the_datas_do_and_most_are_read(evaluate, digits):
    found = evaluate(READ, list(DRAWN.values()))
    ink = np.array([sum(each["dots"]) for each in found])
    usual = np.percentile(tool.counts(digits.x_train).reshape(-1, 64).sum(1), [5, 50, 95])
    assert f"const INK = {usual[1]:.0f};" in SCRIPTS[1].read_text(encoding="utf-8")
    assert f"between {usual[0]:.0f} and {usual[2]:.0f} inked dots" in SCRIPTS[1].read_text(encoding="utf-8")
    assert ((ink >= usual[0]) & (ink <= usual[2])).all()
    for each in found:
        rows, columns = np.nonzero(np.array(each["dots"]).reshape(32, 32))
        assert rows.min() <= 1 and rows.max() >= 30  # the whole height, as in the data
        assert columns.min() >= 3 and columns.max() <= 28
        assert abs(columns.min() + columns.max() - 31) <= 1  # in the middle
    assert sum(each["best"] == digit for digit, each in zip(DRAWN, found)) >= 9


@pytest.mark.parametrize("evaluate", ENGINES[:1] if NODE else ENGINES[1:])
def test_where_and_how_large_one_draws_makes_no_difference(evaluate):
    strokes = DRAWN[4]
    moved = [[[0.5 * x + 7, 0.5 * y + 90] for x, y in stroke] for stroke in strokes]
    one, other = evaluate(READ, [strokes, moved])
    assert one == other


@pytest.mark.parametrize("evaluate", ENGINES[:1] if NODE else ENGINES[1:])
def test_a_point_a_line_and_nothing_have_counts_too(evaluate):
    nothing, point, level = evaluate(READ, [[], [[[3, 4]]], [[[0, 5], [100, 5]]]])
    assert sum(nothing["dots"]) == 0 and nothing["counts"] == [0] * 64
    assert 60 < sum(point["dots"]) < 100  # a dot as thick as the thickest pen
    assert sum(point["counts"][i] for i in (27, 28, 35, 36)) == 4 * 16 > 0.7 * sum(point["counts"])
    columns = np.nonzero(np.array(level["dots"]).reshape(32, 32))[1]
    assert columns.max() - columns.min() < 26


# What a reader's browser makes of it

FIGURE = '<div class="fk-figure digit-figure" role="group" aria-label="Interactive figure"><img src="{still}" alt="A digit, read."></div>'


@pytest.fixture
def page(page):
    show(page, "light")
    return page


def show(page, theme, scripts=True):
    still, style = still_of("digit"), style_of("figure-kit", "digit")
    page.set_content(page_with(theme, "Digits", style, FIGURE.format(still=still)))
    for script in SCRIPTS if scripts else ():
        page.add_script_tag(path=script)


def shown_counts(page):
    cells = page.eval_on_selector_all(".df-cell", "all => all.map(cell => 16 * Number(cell.getAttribute('fill-opacity')))")
    assert len(cells) == 64
    return np.array(cells).round().astype(np.uint8)


def check_shown(page, network):
    """Everything on the page is what the package makes of the counts on the page."""
    counts = shown_counts(page).reshape(8, 8)
    values = network.features(counts)
    names = [step.name for step in network.steps if isinstance(step, Threshold)]
    for picture, name in zip(page.locator(".df-features").all(), names):
        marks = picture.locator("path").evaluate_all("all => all.map(mark => mark.getAttribute('class'))")
        assert [["df-minus", "df-zero", "df-plus"].index(mark) - 1 for mark in marks] == values[name].tolist()
        minus, zeros, plus = (int((values[name] == level).sum()) for level in (-1, 0, 1))
        label = f"{minus} features are −1, {zeros} are 0, {plus} are 1"
        assert picture.get_attribute("aria-label").endswith(label)
    scores = network(counts)
    texts = page.locator(".df-scores text").all_text_contents()
    assert texts[::2] == [str(digit) for digit in range(10)]
    assert [float(text.replace("−", "-")) for text in texts[1::2]] == pytest.approx(scores.tolist(), abs=0.0501)
    best, second = np.argsort(-scores, kind="stable")[:2]
    bars = page.locator(".df-scores rect").evaluate_all("all => all.map(bar => bar.getAttribute('class'))")
    assert bars.index("df-best") == best and bars.count("df-best") == 1
    if counts.any():
        assert page.locator(".df-read").inner_text().startswith(f"The network reads {best}; its second choice is {second}.")
    else:
        assert page.locator(".df-read").inner_text() == "Nothing is drawn yet."
    return int(best)


def places(page, stroke):
    box = page.locator(".df-pad").bounding_box()
    return [(box["x"] + x / 200 * box["width"], box["y"] + y / 200 * box["height"]) for x, y in stroke]


def test_a_digit_drawn_with_the_mouse_is_read(page, network):
    check_shown(page, network)
    for digit in (2, 4):
        for stroke in DRAWN[digit]:
            first, *rest = places(page, stroke)
            page.mouse.move(*first)
            page.mouse.down()
            for point in rest:
                page.mouse.move(*point, steps=3)
            page.mouse.up()
        assert check_shown(page, network) == digit
        page.get_by_role("button", name="Clear").click()
        assert not shown_counts(page).any()
        check_shown(page, network)


def test_a_digit_drawn_with_a_finger_is_read_and_the_page_stays(page, network):
    """Touches as the browser gets them from a screen: it would scroll, were that not forbidden in the drawing area."""
    page.evaluate("document.body.style.paddingBottom = '2000px'")
    session = page.context.new_cdp_session(page)
    for stroke in DRAWN[2]:
        first, *rest = places(page, stroke)
        session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": first[0], "y": first[1]}]})
        for x, y in rest:
            session.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": x, "y": y}]})
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert check_shown(page, network) == 2
    assert page.evaluate("scrollY") == 0


def test_the_keyboard_paints_cells(page, network, digits):
    grid = page.get_by_role("application")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert grid.evaluate("grid => grid === document.activeElement")
    image = tool.counts(digits.x_test[tool.chosen(tool.stored("digits").integers)[7]]) // 2 * 2
    for key in ("ArrowLeft", "ArrowUp"):
        for _ in range(9):  # to the corner, and not beyond it
            page.keyboard.press(key)
    for row in range(8):
        for column in range(8):
            page.keyboard.press(str(image[row, column] // 2))
            if column < 7:
                page.keyboard.press("ArrowRight")
        assert page.locator(".df-spoken").inner_text() == f"Row {row + 1}, column 8: {image[row, 7]}"
        page.keyboard.press("ArrowDown")
        for _ in range(7):
            page.keyboard.press("ArrowLeft")
    np.testing.assert_array_equal(shown_counts(page).reshape(8, 8), image)
    assert check_shown(page, network) == 7
    page.keyboard.press(" ")
    assert shown_counts(page)[56] == 16
    page.keyboard.press(" ")
    assert shown_counts(page)[56] == 0
    page.keyboard.press("Control+5")
    assert shown_counts(page)[56] == 0
    check_shown(page, network)


def test_the_button_shows_a_dozen_test_digits_one_after_the_other(page, network, digits):
    button = page.get_by_role("button", name="Show me a test digit")
    rows = tool.chosen(network)
    for row in [*rows, rows[0]]:
        button.press("Enter")
        np.testing.assert_array_equal(shown_counts(page).reshape(8, 8), tool.counts(digits.x_test[row]))
        check_shown(page, network)
        assert page.locator(".df-read").inner_text().endswith(f"It is test digit {row}, labelled {digits.y_test[row]}.")
    x, y = places(page, [[100, 100]])[0]
    page.mouse.click(x, y)  # who draws now begins anew
    assert shown_counts(page).sum() < 100
    assert "labelled" not in page.locator(".df-read").inner_text()


@pytest.mark.parametrize("theme", THEMES)
def test_the_figure_fits_and_breaks_no_rule_of_accessibility(page, theme):
    from axe_playwright_python.sync_playwright import Axe

    show(page, theme)
    page.get_by_role("button", name="Show me a test digit").click()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator(".df-read[role=status]").count() == 1
    sizes = page.eval_on_selector_all(".df-buttons button", "all => all.map(b => b.getBoundingClientRect().height)")
    assert min(sizes) >= 24
    assert page.evaluate("document.getAnimations().length") == 0
    assert [(v["id"], v["nodes"][0]["html"][:80]) for v in Axe().run(page).response["violations"]] == []


def test_paper_and_readers_without_javascript_get_the_still(page):
    assert not page.locator(".digit-figure img").is_visible() and page.locator(".df-live").is_visible()
    page.emulate_media(media="print")
    assert page.locator(".df-still").is_visible() and not page.locator(".df-live").is_visible()
    page.emulate_media(media="screen")
    show(page, "light", scripts=False)
    assert page.locator(".digit-figure > img").evaluate("image => getComputedStyle(image).display") != "none"
