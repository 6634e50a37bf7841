"""Figures as SVG: what a notebook stores, and what the site makes of it."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from anabook import plots
from anabook.plots import inline

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "book" / "_ext"))

import anabook_figures as site  # noqa: E402


@pytest.fixture(autouse=True)
def style():
    with plt.rc_context():
        plots.use_style()
        yield
    plt.close("all")


def two_panels():
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
    left.plot([0, 1], [0, 1], label="a line")
    right.plot([0, 1], [1, 0], color="#d55e00")
    right.set_ylabel("slope")
    return figure


def test_the_same_drawing_gives_the_same_text():
    one, two = two_panels(), two_panels()
    assert inline.svg(one) == inline.svg(two) == inline.svg(one)
    assert re.search(r"\d{4}-\d\d-\d\dT", inline.svg(one)) is None


def test_panels_side_by_side_are_told_and_nothing_else():
    (start, cut), (again, end) = inline.panels(two_panels())
    assert start == 0 and end == 1 and cut == again and 0.4 < cut < 0.6
    rows, _ = plt.subplots(2, 1)
    assert inline.panels(rows) == []
    grid, _ = plt.subplots(2, 2)
    assert len(inline.panels(grid)) == 2
    barred, axes = plt.subplots()
    barred.colorbar(axes.imshow(np.eye(3)))
    assert inline.panels(barred) == []
    legend = two_panels()
    legend.legend(loc="outside upper center")
    assert inline.panels(legend) == []


def test_no_ink_lies_across_a_cut():
    """Every number of a path in the left panel's axes is left of the cut, every one of the right panel's is right of it."""
    figure = two_panels()
    text = inline.svg(figure)
    width = float(re.search(r'viewBox="0 0 ([\d.]+)', text)[1])
    cut = width * inline.panels(figure)[0][1]
    parts = re.split(r'<g id="axes_\d">', text)[1:]
    for part, side in zip(parts, (lambda x: x <= cut, lambda x: x >= cut), strict=True):
        lines = re.findall(r'<path d="M ([\d.]+) [\d.]+ *\n?L ([\d.]+)', part)
        assert lines and all(side(float(x)) for pair in lines for x in pair)


def test_a_notebook_stores_svg_and_pixels_only_for_what_is_too_large(monkeypatch):
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel chooses its own
    code = (
        "import matplotlib.pyplot as plt\nimport numpy as np\nfrom anabook import plots\nplots.use_style()",
        "plt.subplots(1, 2)\nplt.show()",
        "plt.plot(np.random.default_rng(0).random(30_000), '.')\nplt.show()",
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in code])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    small, large = (cell.outputs[-1]["data"] for cell in notebook.cells[1:])
    assert small["image/svg+xml"].startswith("<svg data-panels=") and "image/png" not in small
    assert "image/svg+xml" not in large and len(large["image/png"]) > 1000


def test_names_are_the_figures_own_and_no_style_leaks_into_the_page():
    text = inline.svg(two_panels())
    made = site.inlined(text, "f7-", 'two "panels"')
    assert "<style" not in made and 'aria-label="two &quot;panels&quot;"' in made
    assert made.count('role="img"') == 1 and made.count('class="figure-part"') == 2 and made.count("<svg") == 3
    names = set(re.findall(r'\bid="([^"]*)"', made))
    assert names and all(name.startswith("f7-") for name in names)
    used = set(re.findall(r'href="#([^"]*)"', made)) | set(re.findall(r"url\(#([^)]*)\)", made))
    assert used and used <= names


def test_a_smaller_drawing_is_the_same_drawing():
    text = inline.svg(two_panels())
    less = site.smaller(text)
    assert len(less) < 0.95 * len(text) and site.smaller(less) == less and "<!--" not in less

    def parts(drawing):
        elements = ElementTree.fromstring(drawing).iter()
        return [
            (each.tag, {name: " ".join(value.split()) for name, value in each.attrib.items()}, (each.text or "").strip())
            for each in elements
        ]

    assert parts(less) == parts(text)


def test_every_line_stands_out_in_the_dark_and_greys_turn_round():
    assert site.in_the_dark("#ffffff") == site.PAPER and site.in_the_dark("#000000") == site.INK
    for colour in {*plots.COLOURS.values(), *plots.CYCLE, *plots.PAPER.values()}:
        assert site.contrast(site.in_the_dark(colour), site.PAPER) >= 4.3, colour
    pale = site.in_the_dark("#e8f1fb")
    assert site.contrast(pale, site.INK) >= 4.5  # text on a pale ground stays readable


def test_both_colours_are_written_and_pixels_keep_their_paper():
    made = site.inlined(inline.svg(two_panels()), "f1-", "lines")
    assert "stroke: #d55e00; stroke: light-dark(#d55e00, #" in made and "on-paper" not in made
    figure, axes = plt.subplots()
    axes.imshow(np.eye(3))
    made = site.inlined(inline.svg(figure), "f1-", "pixels")
    assert "light-dark" not in made and "on-paper" in made


def test_what_is_no_svg_is_refused():
    with pytest.raises(ValueError, match="must be an svg element with a viewBox, and one begins with '<html>'"):
        site.inlined("<html>", "f1-", "")
