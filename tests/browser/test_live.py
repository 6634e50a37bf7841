"""Python in the page: the cells of chapters give their stored outputs, and readers can change, run, stop and reset them."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

import nbformat
import pytest
from playwright.sync_api import Browser, Locator, Page
from site_checks import FADED, PREPARE, SETTLED, THEMES, accessibility, context_of, listen, overflow, turn_to

from conftest import SITE

ROOT = SITE.parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import live_pack  # noqa: E402

LIVE = SITE / "_static" / "live"
PAGES = live_pack.settings()["pages"]
PATIENCE_MS = 200_000  # on a machine that does much else, too
COMPARED = ("text/plain", "text/latex", "text/markdown", "text/html")

RECORD = """() => {
    window.outputs = {};
    const append = anabookLive.append;
    anabookLive.append = (box, output, ...more) => {
        const cell = anabookLive.page.session.running.cell;
        (outputs[cell] ||= []).push(output);
        append(box, output, ...more);
    };
}"""

# Another chapter's cells, in the Python that runs already: its variables begin afresh.
RUN_CELLS = """async cells => {
    const session = anabookLive.page.session, found = {};
    const forget = 'for name in [each for each in globals() if each[0] != "_" and each != "display"]: del globals()[name]';
    let end;
    const all = new Promise(done => { end = done; });
    const job = (cell, source, last) => ({
        cell, source, label: cell, figures: 'png', scale: 1, begin() { found[cell] = []; }, show: output => found[cell].push(output),
        end: how => { if (last || how !== 'done') end(); },
    });
    session.run([job(-1, forget, false), ...cells.map((each, at) => job(each.index, each.source, at === cells.length - 1))]);
    await all;
    return found;
}"""

LIKE_STORED = """() => [...document.querySelectorAll('article .live-output')].map(live => {
    const text = box => [...box.querySelectorAll('pre, .math, p, td, th, figcaption')].map(each => each.innerText.trim()).join('\\n');
    const stored = live.previousElementSibling;
    const pictures = [...live.querySelectorAll('img')];
    if (!stored.matches('.cell_output')) return live.childElementCount ? 'an output where the book has none' : '';
    stored.hidden = false;
    const difference = text(stored).replace(text(live), '').trim();
    stored.hidden = true;
    if (pictures.some(each => !each.complete || !each.naturalWidth || each.alt.length < 40)) return 'a picture is missing or has no text';
    return pictures.length || !difference ? '' : difference.slice(0, 200);
}).filter(Boolean)"""

SAME_WORDS = """() => {
    const cells = anabookLive.page.cells.filter(each => !each.hidden), wrong = [];
    const kinds = (parts, strip) => parts.flatMap(([kind, text]) => [...text].map(letter => [letter.trim() ? kind : '', letter]));
    for (const cell of cells) {
        const shown = [];
        const lines = [...cell.input.querySelector('pre').childNodes];
        for (const node of lines.flatMap(each => each.matches?.('.long-line') ? [...each.childNodes] : [each])) {
            if (node.nodeType === 3) shown.push(['', node.data]);
            else if (!node.matches('button')) shown.push([node.className, node.textContent]);
        }
        const stored = kinds(shown), own = kinds(anabookLive.words(cell.source + '\\n'));
        for (let at = 0; at < Math.max(own.length, stored.length); at++) {
            if (String(own[at]) === String(stored[at])) continue;
            const near = own.slice(Math.max(0, at - 20), at + 20).map(each => each[1]).join('');
            wrong.push(`cell ${cell.label}: ${own[at]} in place of ${stored[at]} in ${JSON.stringify(near)}`);
            break;
        }
    }
    return [cells.length, wrong];
}"""


@pytest.fixture(autouse=True)
def _site_has_python(site: str) -> None:
    if not (LIVE / live_pack.MANIFEST).is_file():
        reason = "the site was built without Python in its pages: `make site` without LIVE=0 builds it with"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@pytest.fixture
def opened(request: pytest.FixtureRequest, browser: Browser, site: str) -> Iterator[tuple[Page, list[str], list[str]]]:
    """The second chapter's page, what goes wrong on it, and the addresses that it asks for."""
    with context_of(browser, getattr(request, "param", "desktop"), site) as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        problems, asked = listen(page, site), []
        context.on("request", lambda each: asked.append(each.url.removeprefix(site)))
        page.goto(f"{site}/book/02-noise.html", wait_until="load")
        page.evaluate(SETTLED)
        yield page, problems, asked


def notebook(name: str) -> nbformat.NotebookNode:
    """A chapter as it is stored."""
    return nbformat.read(ROOT / f"{name}.ipynb", as_version=4)


def comparable(outputs: list[dict[str, Any]]) -> dict[str, str]:
    """What nbval compares of a cell's outputs, the texts of each kind one after the other: everything but pictures."""
    found: dict[str, str] = {}
    for output in outputs:
        if output["output_type"] == "stream":
            found[output["name"]] = found.get(output["name"], "") + output["text"]
        elif output["output_type"] == "error":
            found["error"] = f"{output['ename']}: {output['evalue']}"
        else:
            for kind in COMPARED:
                if kind in output["data"]:
                    name = f"{output['output_type']} {kind}"
                    found[name] = found.get(name, "") + "".join(output["data"][kind]) + "\n"
    return found


def differences(name: str, outputs: dict[str, list[dict[str, Any]]], indices: list[int]) -> list[str]:
    """Where cells gave something else than is stored; cells whose stored output is not to be compared are left out."""
    wrong, cells = [], notebook(name).cells
    for index in indices:
        if {"nbval-ignore-output", "nbval-skip"} & set(cells[index].metadata.get("tags", [])):
            continue
        stored, own = comparable(cells[index].outputs), comparable(outputs.get(str(index), []))
        if stored != own:
            kind = next(kind for kind in [*stored, *own] if stored.get(kind) != own.get(kind))
            wrong.append(
                f"{name}, cell {index}, {kind}: {own.get(kind, '')[:300]!r} in place of {stored.get(kind, '')[:300]!r}"
            )
    return wrong


def facts(name: str) -> dict[str, Any]:
    """What a page tells its scripts."""
    text = (SITE / f"{name}.html").read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="live-page">(.*?)</script>', text, re.DOTALL)
    assert found, f"{name}.html has no cells to run"
    return json.loads(found[1])


def wait(page: Page, state: str) -> None:
    """Until the bar says so; an end of another kind fails at once."""
    ends = ["ready", "failed", "stopped", "lost"]
    page.wait_for_function("ends => ends.includes(anabookLive.page.shown?.dataset.state)", arg=ends)
    said = page.evaluate("() => [anabookLive.page.shown.dataset.state, anabookLive.page.said.textContent]")
    assert said[0] == state, said


def cell(page: Page, number: int) -> Locator:
    """A cell by the number that readers see."""
    return page.get_by_role("group", name=f"Cell {number}", exact=True)


def write(page: Page, number: int, code: str) -> Locator:
    """Put other code into a cell, by keyboard; the cell."""
    box = cell(page, number)
    edit = box.get_by_role("button", name="Edit")
    if edit.is_visible():
        edit.focus()
        page.keyboard.press("Enter")
    else:
        box.get_by_role("textbox").focus()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(code)
    return box


def run(page: Page, number: int, code: str, state: str = "ready") -> Locator:
    """Write code, run it by keyboard and wait; the cell's output."""
    box = write(page, number, code)
    page.evaluate("() => { if (anabookLive.page.shown) anabookLive.page.shown.dataset.state = ''; }")
    page.keyboard.press("Control+Enter")
    wait(page, state)
    return box.locator(".live-output")


def test_every_cell_of_three_chapters_gives_its_stored_output(opened):
    page, problems, asked = opened
    assert not [each for each in asked if re.search(r"manifest|worker|\.(gz|zip|wasm)", each)], (
        "loaded before a button was pressed"
    )
    page.evaluate(PREPARE)  # solutions are opened, so that the last cell's buttons can be pressed
    page.evaluate(RECORD)
    first = facts("book/02-noise")
    assert f"{first['mb']} MB" in page.locator(".live-intro").inner_text()
    page.get_by_role("button", name="Run with all above").last.click()
    page.wait_for_function("anabookLive.page.shown?.dataset.state === 'loading'")
    assert f"{first['mb']} MB" in page.get_by_role("status").inner_text() and page.get_by_role("progressbar").is_visible()
    wait(page, "ready")
    indices = [each["index"] for each in first["cells"]]
    assert len(indices) > 20 and not any(each["needs"] for each in first["cells"])
    wrong = differences("book/02-noise", page.evaluate("outputs"), indices) + page.evaluate(LIKE_STORED)
    assert (
        page.locator("article figure img").count()
        == page.evaluate("document.querySelectorAll('article .live-output img').length")
        == 5
    )
    for name in ("book/06-composing-layers", "book/08-schedules"):
        cells = facts(name)["cells"]
        assert len(cells) >= 20 and not any(each["needs"] for each in cells)
        wrong += differences(name, page.evaluate(RUN_CELLS, cells), [each["index"] for each in cells])
    assert not wrong, "\n".join(wrong)
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("opened", ["desktop", "phone"], indirect=True)
def test_a_reader_changes_runs_stops_and_resets_by_keyboard(opened):
    page, problems, asked = opened
    before = page.evaluate("() => document.querySelector('article').innerText")
    assert run(page, 1, "x = 20\nprint('twenty')").inner_text().strip() == "twenty"
    assert run(page, 2, "x += 1\nx * 2").inner_text().strip() == "42"

    traceback = run(page, 2, "def f():\n    return 1 / 0\n\nf()", "failed").inner_text()
    assert "ZeroDivisionError" in traceback and '"<cell 2>", line 2' in traceback and "live_kernel" not in traceback
    unknown = run(page, 2, "print(nowhere)", "failed").inner_text()
    assert "NameError" in unknown and "Run with all above" in unknown
    absent = run(page, 2, "import torch", "failed").inner_text()
    assert absent.strip() == "PyTorch is not part of the Python in this page."
    much = run(page, 2, "for i in range(10**5): print(i)").inner_text()
    assert len(much) < 210_000 and "the rest is left out" in much

    # SymPy on a leash, without a thread: a call that takes too many steps is ended, and the next one is not.
    leash = (
        "import sympy as sp\nfrom anabook.symbolic._bounded import attempt\nt = sp.Symbol('t')\n"
        "hard = lambda: [sp.expand((t + n) ** 3) for n in range(1000)]\n"
        "def stubborn():\n    try: hard()\n    except: pass\n    hard()\n"
        "print(*[attempt(each, default='ended', steps=200) for each in (hard, stubborn)], attempt(sp.factor, t**2 - 1))"
    )
    assert run(page, 3, leash).inner_text().strip() == "ended ended (t - 1)*(t + 1)"
    formula = run(
        page, 3, "from IPython.display import Markdown, display\ndisplay(Markdown('**Half** of $t$'))\nsp.sqrt(t) / 2"
    )
    page.wait_for_selector(".live-output .text_latex mjx-container")
    assert formula.locator("strong").inner_text() == "Half" and formula.locator("p mjx-container").count() == 1

    # A loop without an end, stopped by the cell's own button; what was loaded is kept.
    write(page, 2, "while True: pass")
    page.keyboard.press("Control+Enter")
    stop = cell(page, 2).get_by_role("button", name="Stop")
    stop.wait_for()
    page.keyboard.press("Escape")
    assert page.evaluate("() => document.activeElement.textContent") == "Stop"
    page.keyboard.press("Enter")
    wait(page, "stopped")
    loaded = len(asked)
    assert "NameError" in run(page, 2, "x", "failed").inner_text()
    assert not [each for each in asked[loaded:] if re.search(r"\.(gz|zip|wasm)", each)]

    figure = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"
    drawn = run(page, 5, figure)
    assert drawn.locator("img").count() == 1
    found = overflow(page)
    for theme in THEMES:
        found += turn_to(page, theme)
        page.evaluate(FADED)
        found += [f"{each} [{theme}]" for each in overflow(page) + accessibility(page)]
    assert not found, "\n".join(found)

    page.get_by_role("button", name="Reset page").focus()
    page.keyboard.press("Enter")
    page.evaluate("() => document.querySelector('.live-bar').remove()")
    after = page.evaluate("() => document.querySelector('article').innerText")
    assert after == before and page.locator(".live-output, .live-editor").count() == 0
    assert not problems, "\n".join(problems)


def test_the_editor_indents_undoes_and_gives_the_book_s_code_back(opened):
    page, problems, asked = opened
    box = write(page, 2, "for i in range(3):")
    field = box.get_by_role("textbox", name="Code of cell 2")
    page.keyboard.press("Enter")
    page.keyboard.type("print(i)")
    assert field.input_value() == "for i in range(3):\n    print(i)"
    page.keyboard.press("Tab")
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.press("Tab")
    assert field.input_value().startswith("    for i in range(3):\n        print(i)")
    page.keyboard.press("Shift+Tab")
    assert field.input_value().startswith("for i in range(3):\n    print(i)")
    page.keyboard.press("ControlOrMeta+z")
    assert field.input_value().startswith("    for")
    colours = box.locator(".live-editor pre")
    assert colours.inner_text().strip("\n") == field.input_value().strip("\n")
    page.keyboard.press("Escape")
    assert page.evaluate("() => document.activeElement.textContent") == "Run"
    box.get_by_role("button", name="Book's code").click()
    source = [each for each in notebook("book/02-noise").cells if each.cell_type == "code"][1].source
    assert field.input_value() == source
    assert not box.get_by_role("button", name="Book's code").is_visible()
    assert not [each for each in asked if "manifest" in each], "editing alone loads nothing"
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("name", PAGES)
def test_cells_keep_their_colours_when_edited_and_say_what_they_need(name, profiles, site):
    page = profiles["desktop"].new_page()
    try:
        page.goto(f"{site}/{name}.html", wait_until="load")
        count, wrong = page.evaluate(SAME_WORDS)
        assert count > 10 and not wrong, "\n".join(wrong)
        needing = [each for each in facts(name)["cells"] if each["needs"]]
        said = page.locator(".live-state").filter(has_text="which Python in this page has not").all_inner_texts()
        assert len(said) == len(needing) < count / 5
        assert all(any(text.startswith(f"needs {' and '.join(each['needs'])},") for text in said) for each in needing)
        runs = page.get_by_role("button", name="Run", exact=True, include_hidden=True)
        assert runs.count() == count - len(needing)
    finally:
        page.close()


def test_pages_opened_as_files_say_how_to_serve_them(browser):
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto((SITE / "book" / "02-noise.html").as_uri(), wait_until="load")
        assert "python -m http.server" in page.locator(".live-intro").inner_text()
        assert page.get_by_role("button", name="Run", exact=True).count() == 0
    finally:
        context.close()


def test_the_manifest_is_what_lies_there():
    manifest = json.loads((LIVE / live_pack.MANIFEST).read_text(encoding="utf-8"))
    for row in manifest["files"].values():
        path = LIVE / row["file"]
        assert path.stat().st_size == row["bytes"] and live_pack.hash_of(path) == row["sha256"]
    packed = {path.name for path in LIVE.rglob("*") if path.suffix in (".gz", ".zip", ".whl", ".wasm")}
    assert packed == {row["file"].split("/")[-1] for row in manifest["files"].values()}
    assert manifest["bytes"] == sum(row["bytes"] for row in manifest["files"].values()) < 55e6
