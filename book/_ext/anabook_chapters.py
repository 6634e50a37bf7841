"""Numbers and descriptions of pages, from book/pages.toml.

* The heading of a page, its entry in every table of contents, and its figures, equations, theorems and exercises carry the
  page's number: chapter 5 has Figure 5.1. The number is that of the page's file, so it does not move when a page is added.
* `chapter-list` is the table of contents of the front page, with one sentence under each title.
* The same sentence is the page's description for search engines and previews; its `title`, if it has one, is the page's
  title there.
"""

from __future__ import annotations

import tomllib
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.environment.collectors.toctree import TocTreeCollector
from sphinx.errors import ConfigError
from sphinx.util.docutils import SphinxDirective
from sphinx_external_toc.collectors import TocTreeCollectorWithStyles

FOLDER = "book/"


@cache
def described(source: str) -> dict[str, dict[str, dict[str, str]]]:
    """The file book/pages.toml."""
    return tomllib.loads((Path(source) / FOLDER / "pages.toml").read_text(encoding="utf-8"))


def pages(source: str) -> dict[str, dict[str, str]]:
    """What book/pages.toml says of each page with a number, by its name in Sphinx."""
    return {FOLDER + name: page for name, page in described(source)["pages"].items()}


def others(source: str) -> dict[str, dict[str, str]]:
    """What it says of the other pages."""
    return described(source)["others"]


def check_pages(app: Sphinx, env: BuildEnvironment) -> None:
    """Refuse to build a site one of whose pages has no number or no sentence."""
    wanted = set(env.found_docs) - {env.config.root_doc}
    if wrong := sorted(wanted ^ set(pages(str(app.srcdir)))):
        raise ConfigError(f"book/pages.toml and _toc.yml must name the same pages, and do not for: {', '.join(wrong)}.")


def assign_numbers(self: TocTreeCollector, env: BuildEnvironment) -> list[str]:
    """Give each page its number from book/pages.toml; the pages whose number is not the one they were written with."""
    old = env.toc_secnumbers
    env.toc_secnumbers = {}
    for name, page in pages(str(env.srcdir)).items():
        if name not in env.tocs:
            continue
        number = (page["number"],)
        anchors: dict[str, Any] = {}
        for reference in env.tocs[name].findall(nodes.reference):
            anchor = reference["anchorname"]
            anchors[anchor] = () if anchor else number
            reference["secnumber"] = anchors[anchor] or None
        env.toc_secnumbers[name] = anchors
        if name in env.titles:
            env.titles[name]["secnumber"] = number
    return [name for name, numbers in env.toc_secnumbers.items() if numbers != old.get(name)]


class ChapterList(SphinxDirective):
    """The pages by part, each with its number, its title and its sentence."""

    def run(self) -> list[nodes.Node]:
        """A placeholder: titles are known when all pages have been read."""
        return [chapter_list("")]


class chapter_list(nodes.General, nodes.Element):
    """Stands where the list will be."""


def fill_lists(app: Sphinx, doctree: nodes.document, name: str) -> None:
    """Put the list of chapters where the directive is."""
    found = list(doctree.findall(chapter_list))
    if not found:
        return
    env, rows_of = app.env, pages(str(app.srcdir))
    made: list[nodes.Node] = []
    for part in app.env.external_site_map.root.subtrees:
        made.append(nodes.rubric("", part.caption or ""))
        rows = nodes.definition_list(classes=["chapter-list"])
        for file in part.files():
            title = f"{rows_of[file]['number']}. {env.titles[file].astext()}"
            address = app.builder.get_relative_uri(name, file)
            link = nodes.reference("", "", nodes.Text(title), internal=True, refuri=address)
            entry = nodes.definition("", nodes.paragraph("", rows_of[file]["summary"]))
            rows += nodes.definition_list_item("", nodes.term("", "", link), entry)
        made.append(rows)
    for node in found:
        node.replace_self(made)


def describe(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Say in the page's head what the page is about."""
    if page := {**others(str(app.srcdir)), **pages(str(app.srcdir))}.get(pagename):
        sentence = escape(page["summary"], quote=True)
        context["metatags"] = f'{context.get("metatags", "")}\n<meta name="description" content="{sentence}">'
        if "title" in page:
            context["title"] = escape(page["title"], quote=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the handlers above."""
    for collector in (TocTreeCollector, TocTreeCollectorWithStyles):
        collector.assign_section_numbers = assign_numbers  # type: ignore[method-assign]
    app.add_node(chapter_list)
    app.add_directive("chapter-list", ChapterList)
    app.connect("env-check-consistency", lambda app, env: check_pages(app, env))
    app.connect("doctree-resolved", fill_lists)
    app.connect("html-page-context", describe)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
