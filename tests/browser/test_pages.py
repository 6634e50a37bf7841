"""Every page of the built site, in a browser without a network, at both widths and in both themes."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import urlopen

import nbformat
import pytest
import yaml
from site_checks import WIDTHS, context_of, inspect, listen

from conftest import SITE

ROOT = SITE.parents[1]
sys.path.append(str(ROOT / "book" / "_ext"))
from anabook_figures import smaller  # noqa: E402


def toc_pages() -> list[str]:
    """The documents of _toc.yml, the first page first."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    chapters = [chapter for part in toc["parts"] for chapter in part["chapters"]]
    return [toc["root"], *(page["file"] for chapter in chapters for page in (chapter, *chapter.get("sections", ())))]


PAGES = toc_pages()
CHAPTERS = [page for page in PAGES if (ROOT / f"{page}.ipynb").is_file()]
OTHER_PAGES = ["genindex", "search", *(["py-modindex"] if (SITE / "py-modindex.html").is_file() else [])]


def source_has_maths(page: str) -> bool:
    """Whether the source of ``page`` contains a formula, or an output that is one."""
    notebook = ROOT / f"{page}.ipynb"
    if not notebook.is_file():
        text = (ROOT / f"{page}.md").read_text(encoding="utf-8")
    else:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        if any("text/latex" in output.get("data", {}) for cell in cells for output in cell.get("outputs", [])):
            return True
        text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return bool(re.search(r"\$[^$\n]+\$|\\begin\{|\{math\}", text))


class _Links(HTMLParser):
    """Collects the ids and the local links of a page, and to which notebooks its button for downloads leads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.notebooks: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("id", "name") and value:
                self.ids.add(value)
            if tag == "a" and name == "href" and value:
                self.links.add(value)
                if "btn-download-source-button" in (dict(attributes).get("class") or "") and value.endswith(".ipynb"):
                    self.notebooks.add(value)


def _text_at(address: str) -> str:
    with urlopen(address) as answer:  # an error where there is nothing
        return answer.read().decode("utf-8")


AXE_IN = {"desktop": ("light",), "phone": ("dark",)}
"""Every page is put to axe-core at both widths and in both themes; a theme changes colours alone, and the same at every width."""


@pytest.mark.parametrize("device", WIDTHS)
@pytest.mark.parametrize("page", [*PAGES, *OTHER_PAGES])
def test_page_has_no_problem(profiles, site, page, device):
    formulas = page in PAGES and source_has_maths(page)
    problems = inspect(profiles[device], site, f"{page}.html", formulas, axe=AXE_IN[device], fits=device)
    assert not problems, "\n".join(["", *problems])


@pytest.mark.parametrize("page", CHAPTERS)
def test_chapter_offers_its_notebook_for_download(site, page):
    # The link stands in the page as it is served: no browser has to set the formulas for it.
    links = _Links(_text_at(f"{site}/{page}.html")).notebooks
    assert len(links) == 1, f"expected one link to a notebook, found {sorted(links)}"
    text = _text_at(urljoin(f"{site}/{page}.html", links.pop()))
    notebook, source = nbformat.reads(text, as_version=4), nbformat.read(ROOT / f"{page}.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells.pop(0)["id"] == "how-to-run"
    for one, other in zip(notebook.cells, source.cells, strict=True):
        for drawn, stored in zip(one.get("outputs", ()), other.get("outputs", ()), strict=True):
            if "image/svg+xml" in stored.get("data", {}):  # the same drawing in fewer bytes
                stored["data"]["image/svg+xml"] = smaller(stored["data"]["image/svg+xml"])
                assert drawn["data"]["image/svg+xml"].count("<path") == stored["data"]["image/svg+xml"].count("<path")
    assert notebook == source


@pytest.mark.parametrize("device", WIDTHS)
def test_search_finds_a_word_without_a_network(browser, site, device):
    with context_of(browser, device, site) as context:
        tab = context.new_page()
        problems = listen(tab, site)
        tab.goto(f"{site}/search.html?q=threshold", wait_until="load")
        tab.wait_for_selector("#search-results li a", timeout=20_000)
        assert tab.locator("#search-results li").count() >= 1
        assert problems == []
        tab.goto(f"{site}/search.html?q=xyzzyplugh", wait_until="load")
        tab.wait_for_selector("#search-results .search-summary", timeout=20_000)
        assert tab.locator("#search-results li").count() == 0


def test_first_address_leads_to_the_first_page(browser, site):
    with context_of(browser, "desktop", site) as context:
        tab = context.new_page()
        tab.goto(f"{site}/index.html", wait_until="load")
        tab.wait_for_url(f"{site}/{PAGES[0]}.html", timeout=10_000)


def test_the_readers_choice_of_theme_holds_on_the_next_page(browser, site):
    with context_of(browser, "desktop", site) as context:
        tab = context.new_page()
        tab.goto(f"{site}/{PAGES[0]}.html", wait_until="load")
        shown = lambda: tab.evaluate("() => [document.documentElement.dataset.mode, document.documentElement.dataset.theme]")  # noqa: E731
        assert shown() == ["auto", "light"]
        for _ in range(3):
            if shown()[0] == "dark":
                break
            tab.locator("button.theme-switch-button:visible").first.click()
        assert shown() == ["dark", "dark"]
        tab.goto(f"{site}/{PAGES[-1]}.html", wait_until="load")
        assert shown() == ["dark", "dark"]


def test_every_built_page_was_looked_at():
    built = {path.relative_to(SITE).with_suffix("").as_posix() for path in SITE.rglob("*.html")}
    built = {page for page in built if not page.startswith("_")}
    assert built == {*PAGES, *OTHER_PAGES, "index"}


def test_every_local_link_leads_somewhere():
    pages = {path.resolve(): _Links(path.read_text(encoding="utf-8")) for path in SITE.rglob("*.html")}
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not Path(target).is_file():
                broken.append(f"{path.relative_to(SITE)} → {link}")
            elif target in pages and parts.fragment and unquote(parts.fragment) not in pages[target].ids:
                broken.append(f"{path.relative_to(SITE)} → {link} (no such place)")
    assert not broken, "\n".join(["", *sorted(broken)])
