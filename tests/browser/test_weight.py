"""What a page weighs: nothing of it is heavier than a reader on a slow line can bear."""

from __future__ import annotations

import re

import pytest
from site_checks import context_of

from conftest import SITE

OWN = 1_500_000
"""Bytes of a page with its pictures and its notebook's download, each; without compression."""

SHARED = 2_300_000
"""Bytes that all pages share and the browser keeps: the theme, its fonts, MathJax; without compression."""

PAGES = sorted((SITE / "book").glob("*.html"))
WEIGHED = ("book/11-cifar10", "book/the-data", "book/05-strategies", "book/api-experiments", "book/glossary", "book/index")


def test_no_page_is_too_heavy():
    weights = {}
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        pictures = set(re.findall(r'(?:src|href)="\.\./(_images/[^"]+)"', text))
        weights[path.stem] = path.stat().st_size + sum((SITE / name).stat().st_size for name in pictures)
    assert len(weights) > 30 and {page: weight for page, weight in weights.items() if weight > OWN} == {}


def test_no_download_of_a_notebook_is_too_heavy():
    weights = {path.name: path.stat().st_size for path in (SITE / "_sources").rglob("*.ipynb")}
    assert len(weights) > 20 and {page: weight for page, weight in weights.items() if weight > OWN} == {}


@pytest.mark.parametrize("page", WEIGHED)
def test_a_first_visit_loads_no_more_than_that_without_python_in_the_page(browser, site, page):
    with context_of(browser, "desktop", site) as context:
        tab = context.new_page()
        loaded: dict[str, int] = {}
        tab.on("requestfinished", lambda request: loaded.update({request.url: len(request.response().body())}))
        tab.goto(f"{site}/{page}.html", wait_until="networkidle")
        tab.wait_for_timeout(500)
    own = sum(size for url, size in loaded.items() if f"{page}.html" in url or "/_images/" in url)
    shared = sum(size for url, size in loaded.items() if not url.endswith(".wasm.gz")) - own
    assert 0 < own <= OWN and 0 < shared <= SHARED
    assert not [url for url in loaded if "fontawesome.js" in url]


def test_the_icons_are_there_without_their_script(browser, site):
    with context_of(browser, "desktop", site) as context:
        tab = context.new_page()
        tab.goto(f"{site}/book/11-cifar10.html", wait_until="load")
        tab.evaluate("() => document.fonts.ready")
        icons = tab.eval_on_selector_all(
            "i[class*='fa-']",
            """all => all.filter(i => i.checkVisibility()).map(i => [getComputedStyle(i, '::before').content,
                getComputedStyle(i).fontFamily, i.getBoundingClientRect().width])""",
        )
    assert len(icons) >= 3
    for content, family, width in icons:
        assert len(content) >= 3 and content != "none" and "Font Awesome" in family and width > 5
