"""What a reference refers to, for the preview that hovering or focusing it shows: one file of data for each page.

Terms, equations, theorems and their like, exercises, figures, tables and citations are taken from the finished page, without
links and names, so that a preview has nothing to click and repeats no name. The file is a script, not JSON: pages that are read
from a disk may load scripts. The browser's part is book/_static/previews.js.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from anabook_figures import standalone
from bs4 import BeautifulSoup, Tag
from docutils import nodes
from sphinx.application import Sphinx

FOLDER = "_static/previews"
PICTURES = "_images/figures"
TARGETS = "dl.glossary dt[id], div.math[id], div.proof[id], div.exercise[id], figure[id], table[id], div.citation[id]"
HINT = re.compile(r'class="[^"]*\b(?:glossary|proof|exercise|citation)\b|id="equation-|<(?:figure|table)\b[^>]*\bid=')
LOST = "a.headerlink, script, button, .figure-parts"
NAMES = ("id", "name", "tabindex", "role", "aria-label", "aria-labelledby", "aria-describedby")


def keep_drawings(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Write each labelled drawing of a page to a file of its own, before the page takes it in."""
    if app.builder.format != "html":
        return
    for figure in doctree.findall(nodes.figure):
        image = next(iter(figure.findall(nodes.image)), None)
        if not figure["ids"] or image is None or not image["uri"].endswith(".svg"):
            continue
        text = (Path(app.srcdir) / image["uri"]).read_text(encoding="utf-8")
        caption = next((each.astext() for each in figure.findall(nodes.caption)), "")
        label = figure["ids"][0]
        folder = Path(app.outdir) / PICTURES
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{label}.svg").write_text(standalone(text, label, caption, image.get("alt", "")), encoding="utf-8")


def plain_copy(element: Tag) -> str:
    """The markup of an element with nothing in it to click, to fold or to refer to."""
    soup = BeautifulSoup(str(element), "html.parser")
    for lost in soup.select(LOST):
        lost.decompose()
    for link in soup.find_all("a"):
        link.unwrap()
    for inside in soup.find_all(True):
        for name in NAMES:
            del inside[name]
        if inside.name == "img":
            inside["src"] = re.sub(r"^(?:\.\./)+", "", inside["src"])
            inside["loading"] = "eager"
        for formula in inside.find_all(string=re.compile(r"\\label\{")):
            formula.replace_with(re.sub(r"\\label\{[^}]*\}", "", formula))
    return str(soup).strip()


def preview_of(target: Tag, folder: Path) -> str | None:
    """What is shown for a target; none for a proof, which is too long."""
    if target.name == "dt":
        meaning = target.find_next_sibling("dd")
        name = target.get_text().removesuffix("#").strip()
        return f"<p><strong>{name}</strong></p>{plain_copy(meaning)[4:-5]}" if meaning else None
    classes = target.get("class", [])
    if "proof" in classes and classes[:2] == ["proof", "admonition"]:
        return None
    if target.name == "figure" and (drawn := target.select_one(".drawn")):
        if not (folder / f"{target['id']}.svg").is_file():
            return None
        image = BeautifulSoup("", "html.parser").new_tag("img", src=f"{PICTURES}/{target['id']}.svg")
        image["alt"] = drawn.svg["aria-label"] if drawn.svg else ""
        drawn.replace_with(image)
    return plain_copy(target)


def previews(body: str, folder: Path) -> dict[str, str]:
    """What the references to places on a page show, by the names of the places.

    Args:
        body: the page's HTML.
        folder: where its drawings are.
    """
    if not HINT.search(body):  # the package's pages are long, and have none
        return {}
    # Drawings are most of a page, and only what stands in their first tag is wanted.
    body = re.sub(r'(<svg class="figure-whole"[^>]*>).*?</svg>(?=</span>|<span)', r"\1</svg>", body, flags=re.S)
    found = {}
    for target in BeautifulSoup(body, "html.parser").select(TARGETS):
        shown = preview_of(target, folder)
        if shown:
            found[str(target["id"])] = shown
    return found


def write_previews(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Write a page's file, and put the script into the page."""
    if doctree is None or app.builder.format != "html":
        return
    app.add_js_file("previews.js", loading_method="defer")
    app.add_css_file("previews.css")
    file = Path(app.outdir) / FOLDER / f"{pagename}.js"
    file.parent.mkdir(parents=True, exist_ok=True)
    found = json.dumps(previews(context["body"], Path(app.outdir) / PICTURES), ensure_ascii=False, indent=0)
    file.write_text(f"anabookPreviews[{json.dumps(pagename)}] = {found};\n", encoding="utf-8")


def write_maths(app: Sphinx, exception: Exception | None) -> None:
    """Write what sets formulas of previews on pages that have none of their own."""
    if exception is None and app.builder.format == "html":
        file = Path(app.outdir) / FOLDER / "maths.js"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"window.MathJax = {json.dumps(app.config.mathjax3_config)};\n", encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the handlers above."""
    app.connect("doctree-resolved", keep_drawings, priority=400)
    app.connect("html-page-context", write_previews, priority=850)
    app.connect("build-finished", write_maths)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
