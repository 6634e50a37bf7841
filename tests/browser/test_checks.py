"""The checks of the site can fail: each finds the fault that is planted for it, and nothing on a page without faults."""

from __future__ import annotations

from pathlib import Path

import pytest
from printing import served
from site_checks import THEMES, accessibility, context_of, inspect

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>A page</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<style>body {{ background: #fff; color: #111 }} html[data-theme=dark] body {{ background: #111; color: #eee }}</style>
<script>
const dark = matchMedia('(prefers-color-scheme: dark)');
const apply = () => {{ document.documentElement.dataset.theme = {theme}; }};
dark.addEventListener('change', apply); apply();
</script></head>
<body><article><h1>A heading</h1><p>Some text and <code>\\begin{{code}} $$</code>.</p>{body}</article></body></html>
"""
AUTO = "dark.matches ? 'dark' : 'light'"
PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"

FAULTS = {
    "a console error": ("<script>console.error('planted')</script>", "console error: planted"),
    "a script that throws": ("<script>throw new Error('planted')</script>", "script error: planted"),
    "a file that is missing": ("<script src='nowhere.js'></script>", "failed request"),
    "a request to another host": (
        "<script src='https://example.org/x.js'></script>",
        "external request: https://example.org",
    ),
    "a request made later": ("<script>fetch('https://example.org/y').catch(() => 0)</script>", "external request"),
    "a formula that is not rendered": ("<span class='math'>(x)</span>", "maths not rendered: (x)"),
    "a formula with an error": ("<mjx-container><mjx-merror>Misplaced &amp;</mjx-merror></mjx-container>", "maths error"),
    "an unknown TeX command": ("<mjx-container><mjx-mtext style='color: red;'>x</mjx-mtext></mjx-container>", "maths error"),
    "raw display TeX": ("<p>$$ x^2 $$</p>", "raw markup"),
    "raw inline TeX": ("<p>where $x^2$ is</p>", "raw markup"),
    "raw TeX delimiters": ("<p>where \\(x\\) is</p>", "raw markup"),
    "a raw environment": ("<p>\\begin{align} x \\end{align}</p>", "raw markup"),
    "the rest of a role": ("<p>see {ref}ch-noise</p>", "raw markup"),
    "the rest of a directive": ("<p>:::{exercise}</p>", "raw markup"),
    "raw TeX in a folded box": ("<details><summary>More</summary><p>$$ x $$</p></details>", "raw markup"),
    "a picture without alternative text": (f"<img src='{PIXEL}'>", "has no alternative text"),
    "a file name as alternative text": (f"<img src='{PIXEL}' alt='_images/plot-noise.png'>", "has a file name"),
    "a drawing without a label": ("<svg width='9' height='9'></svg>", "has no label"),
    "an empty figure": ("<figure><figcaption>Nothing</figcaption></figure>", "a figure without a picture"),
    "content wider than a phone": ("<div style='width: 1400px'>wide</div>", "overflow: the page is 14"),
    "content that is cut off": (
        "<div style='overflow: hidden'><div style='width: 1400px'>wide</div></div>",
        "overflow: div reaches",
    ),
    "text that is too faint": ("<p style='color: #999; background: #fff'>faint</p>", "axe: color-contrast"),
    "text too faint in the dark": ("<p style='color: #595959'>faint</p>", "[dark]"),
    "a button without a name": ("<button></button>", "axe: button-name"),
}


def problems_of(
    body: str,
    browser,
    folder: Path,
    device: str = "desktop",
    theme: str = AUTO,
    axe: tuple[str, ...] = THEMES,
    fits: str | None = None,
) -> list[str]:
    (folder / "page.html").write_text(PAGE.format(body=body, theme=theme), encoding="utf-8")
    with served(folder) as address, context_of(browser, device, address) as context:
        return inspect(context, address, "page.html", axe=axe, fits=fits)


def test_a_page_without_the_formulas_of_its_source_is_found(browser, tmp_path):
    (tmp_path / "page.html").write_text(PAGE.format(body="<p>No formula.</p>", theme=AUTO), encoding="utf-8")
    with served(tmp_path) as address, context_of(browser, "desktop", address) as context:
        assert any("no formula is shown" in each for each in inspect(context, address, "page.html", formulas=True))


@pytest.mark.parametrize("device", ["desktop", "phone"])
def test_a_page_without_faults_has_no_problem(browser, tmp_path, device):
    body = f"<p>Prices in $ are fine.</p><img src='{PIXEL}' alt='A single black point'>"
    assert problems_of(body, browser, tmp_path, device) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(browser, tmp_path, fault):
    body, expected = FAULTS[fault]
    assert any(expected in problem for problem in problems_of(body, browser, tmp_path))


FAINT = "<span style='color: #999'>{}</span>"
PLAIN = "<p>More <span>words</span></p>"
WORDS = "<span style='color: #111'>word</span> " * 20


@pytest.mark.parametrize(
    "code, count",
    [
        (FAINT.format("faint"), 1),
        (FAINT.format("(") + FAINT.format("faint"), 1),
        (FAINT.format("twice") + FAINT.format("faint"), 1),
        (f"<b style='background: #ddd'>{FAINT.format('faint')}</b>" + FAINT.format("faint"), 2),
        ("<i style='opacity: 0.4'><span style='color: #111'>faint</span></i>", 1),
        ("<b style='background: #222'><span style='color: #111'>faint</span></b>", 1),
        ("<span style='color: #111; font-size: 1.1em; opacity: 0.4'>faint</span>", 1),
        (
            f"<i style='margin-left: 3000px'>{FAINT.format('away')}</i>\n"
            f"<i style='margin-left: 9px'>{FAINT.format('faint')}</i>",
            1,
        ),
        (
            f"<b style='position: absolute; top: 9px; background: #fff'>over</b>{FAINT.format('under it')}\n\n"
            + FAINT.format("faint"),
            1,
        ),
    ],
)
def test_code_that_is_too_faint_is_found_among_many_words(browser, tmp_path, code, count):
    body = f"<pre style='position: relative; overflow-x: auto' tabindex='0'>{WORDS}\n\n{code}</pre>"
    (found,) = problems_of(body, browser, tmp_path, axe=("light",))
    assert found.startswith(f"axe: color-contrast: {count} times")


@pytest.mark.parametrize("box", ["<dl><dt>{}</dt><dd>what it does</dd></dl>", "<p><code>{}</code></p>"])
def test_a_faint_word_of_a_signature_is_found(browser, tmp_path, box):
    (found,) = problems_of(box.format(WORDS + FAINT.format("faint") + WORDS), browser, tmp_path, axe=("light",))
    assert found.startswith("axe: color-contrast: 1 times")


@pytest.mark.parametrize(
    "body, count",
    [
        (f"<p>{WORDS}</p><p>{FAINT.format('faint')}</p>", 1),
        (f"<p>{FAINT.format('(')}</p><p>{FAINT.format('faint')}</p><p>{FAINT.format('again')}</p>", 1),
        (f"<p>some <span>words</span></p><div style='background: #333'><p>some <span>words</span></p>{PLAIN}</div>", 2),
        ("<ul>" + "<li>an <em>word</em></li>" * 9 + "<li style='color: #999'>an <em>word</em></li></ul>", 2),
        (f"<table><tr><td>{FAINT.format('a')}<b style='color: #999'>bc</b></td></tr></table>", 1),
        (
            f"<div style='width: 99px; height: 9px; overflow: hidden'><p>{WORDS}</p>{FAINT.format('away')}</div>{FAINT.format('seen')}",
            1,
        ),
    ],
)
def test_prose_that_is_too_faint_is_found_among_many_words(browser, tmp_path, body, count):
    found = [each for each in problems_of(body, browser, tmp_path, axe=("light",)) if "contrast" in each]
    assert len(found) == 1 and found[0].startswith(f"axe: color-contrast: {count} times"), found


def test_contrast_is_computed_once_for_words_that_look_the_same(browser, tmp_path):
    (tmp_path / "page.html").write_text(PAGE.format(body=f"<pre>{WORDS}</pre>", theme=AUTO), encoding="utf-8")
    with served(tmp_path) as address, context_of(browser, "desktop", address) as context:
        page = context.new_page()
        page.goto(f"{address}/page.html")
        assert accessibility(page) == []
        computed = "async () => (await axe.run('pre')).passes.find(rule => rule.id === 'color-contrast').nodes.length"
        assert page.evaluate(computed) == 1


def test_what_fits_a_desktop_may_overflow_a_phone(browser, tmp_path):
    body = "<div style='width: 600px'>as wide as a small book</div>"
    assert problems_of(body, browser, tmp_path, "desktop") == []
    assert any("overflow" in problem for problem in problems_of(body, browser, tmp_path, "phone"))


def test_a_wide_table_in_a_box_that_scrolls_is_no_overflow(browser, tmp_path):
    body = "<div style='overflow-x: auto' tabindex='0' role='group' aria-label='Table'><div style='width: 1400px'>wide</div></div>"
    assert problems_of(body, browser, tmp_path, "phone") == []


def test_a_page_that_stays_light_in_the_dark_is_found(browser, tmp_path):
    assert any("theme: light instead of dark" in problem for problem in problems_of("", browser, tmp_path, theme="'light'"))


@pytest.mark.parametrize("theme, expected", [("light", ["button-name"]), ("dark", ["button-name", "color-contrast"])])
def test_a_page_is_put_to_axe_in_the_themes_that_are_named(browser, tmp_path, theme, expected):
    body = FAULTS["text too faint in the dark"][0] + FAULTS["a button without a name"][0]
    found = problems_of(body, browser, tmp_path, axe=(theme,))
    assert sorted(each.split(":")[1].strip() for each in found) == expected and all(f"[{theme}]" in each for each in found)


WIDE = "<div style='width: 1400px'>wide</div>"
SCROLLS = "style='overflow-x: auto' tabindex='0'"


@pytest.mark.parametrize(
    "box",
    [
        f"<pre {SCROLLS}>{'word ' * 400}</pre>",
        f"<div class='output' {SCROLLS}>{WIDE}</div>",
        f"<div {SCROLLS}><table><tr><td>{WIDE}</td></tr></table></div>",
        f"<figure {SCROLLS}>{WIDE}<svg aria-label='a line'></svg></figure>",
        f"<div class='math' {SCROLLS}><mjx-container>{WIDE}</mjx-container></div>",
        f"<pre style='overflow-x: hidden'>{'word ' * 400}</pre>",
    ],
)
@pytest.mark.parametrize("device", ["desktop", "phone"])
def test_what_must_be_scrolled_sideways_is_found(browser, tmp_path, box, device):
    assert any(each.startswith("sideways: ") for each in problems_of(box, browser, tmp_path, device, axe=(), fits=device))
    assert not any(each.startswith("sideways: ") for each in problems_of(box, browser, tmp_path, device, axe=()))


def test_a_figure_may_scroll_on_a_phone_only_if_it_is_named(browser, tmp_path):
    for name, device, count in (("fig-zoo-others", "phone", 0), ("fig-zoo-others", "desktop", 1), ("fig-else", "phone", 1)):
        box = f"<figure id='{name}' {SCROLLS}>{WIDE}<svg aria-label='a line'></svg></figure>"
        assert len(problems_of(box, browser, tmp_path, device, axe=(), fits=device)) == count, (name, device)


@pytest.mark.parametrize(
    "kind, words, found",
    [
        ("cell_input", "word ", ["of 199 letters "]),
        ("cell_output", "word   ", ["of 277 letters "]),
        ("cell_output", "word ", []),
    ],
)
def test_a_line_of_code_or_columns_that_wraps_on_a_desktop_is_found(browser, tmp_path, kind, words, found):
    style = "width: 600px; font: 10px monospace; white-space: pre-wrap"
    cell = f"<div class='cell'><div class='{kind}'><pre style='{style}'>{{}}\nshort</pre></div></div>"
    assert problems_of(cell.format(words * 12), browser, tmp_path, axe=(), fits="desktop") == []
    problems = problems_of(cell.format(words * 40), browser, tmp_path, axe=(), fits="desktop")
    assert len(problems) == len(found) and all(
        problem.startswith(f"wrapped: {each}") for problem, each in zip(problems, found)
    )
