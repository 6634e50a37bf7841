"""The search finds pages by the words of readers: other spellings, other names; and every page says what it is about."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from html import unescape

import pytest
from playwright.sync_api import Page
from site_checks import listen

from conftest import SITE

ROOT = SITE.parents[1]
sys.path.append(str(ROOT / "book" / "_ext"))
import anabook_search  # noqa: E402

FIRST = 5
"""Results that a reader looks at."""

FOUND = {
    "fake quantization": "glossary.html#term-fake-quantisation",
    "fake quantisation": "glossary.html#term-fake-quantisation",
    "quantization-aware training": "09-algorithm-1.html",
    "quantization aware training": "your-network.html",
    "QAT": "your-network.html",
    "quantizer": "01-quantisers.html",
    "quantizers": "01-quantisers.html",
    "surrogate gradient": "04-zoo.html",
    "spiking": "04-zoo.html",
    "straight through": "01-quantisers.html",
    "straight-through estimator": "16-which-estimator.html",
    "binarized": "04-zoo.html",
    "learned step size": "16-which-estimator.html",
    "learned step size quantization": "16-which-estimator.html",
    "dithering": "02-noise.html",
    "quantize": "your-network.html",
    "regularization": "03-regularisations.html",
    "convolved regularizations": "03-regularisations.html",
    "stochastic rounding": "05-strategies.html",
    "int8": "15-integers.html",
}


def results(tab: Page, site: str, query: str) -> list[str]:
    """The addresses of the results, in order, relative to the folder of the pages."""
    tab.goto(f"{site}/search.html?q={query}", wait_until="load")
    tab.wait_for_selector("#search-results .search-summary", timeout=20_000)
    tab.wait_for_function("() => /found|did not match/i.test(document.querySelector('.search-summary').textContent)")
    links = tab.eval_on_selector_all("#search-results li > a:first-of-type", "all => all.map(a => a.getAttribute('href'))")
    return [re.sub(r"^book/|\?.*?(?=#|$)", "", link) for link in links]


def index() -> dict:
    text = (SITE / "searchindex.js").read_text(encoding="utf-8")
    return json.loads(re.fullmatch(r"Search\.setIndex\((.*)\)\s*", text, flags=re.S)[1])


def pages_of(found: dict, stem: str) -> set[int]:
    there = found["terms"].get(stem, [])
    return {there} if isinstance(there, int) else set(there)


@pytest.mark.parametrize("query", FOUND)
def test_a_search_in_the_readers_words_finds_the_page(profiles, site, query):
    tab = profiles["desktop"].new_page()
    problems = listen(tab, site)
    try:
        assert FOUND[query] in results(tab, site, query)[:FIRST]
    finally:
        tab.close()
    assert problems == []


@pytest.mark.parametrize(
    "british, american",
    [
        ("quantis", "quantiz"),
        ("regularis", "regular"),
        ("colour", "color"),
        ("neighbour", "neighbor"),
        ("grei", "grai"),
        ("normalis", "normal"),
    ],
)
def test_the_stem_of_an_american_spelling_is_on_every_page_of_the_british_one(british, american):
    found = index()
    assert pages_of(found, british) and pages_of(found, british) <= pages_of(found, american)


def test_every_synonym_leads_to_a_page_and_a_place_that_is_there():
    found = index()
    for phrase, page, place in anabook_search.entries(str(ROOT)):
        number = found["docnames"].index(page)
        assert [number, place, True] in found["indexentries"][phrase], (phrase, page)
        assert not place or f'id="{place}"' in (SITE / f"{page}.html").read_text(encoding="utf-8"), (page, place)


def test_no_page_shows_the_words_that_the_index_alone_has():
    text = "".join(path.read_text(encoding="utf-8") for path in (SITE / "book").glob("*.html"))
    assert not re.search(r"simulated quantization|learnable step size|nomenclature", text)


def test_every_page_has_a_title_and_a_description_of_its_own():
    said = {}
    for path in sorted([*(SITE / "book").glob("*.html"), SITE / "genindex.html", SITE / "search.html"]):
        head = path.read_text(encoding="utf-8").partition("</head>")[0]
        (title,) = re.findall(r"<title>(.*?)</title>", head, flags=re.S)
        (description,) = re.findall(r'<meta name="description" content="([^"]*)">', head)
        assert 40 <= len(unescape(description)) <= 155, path.name
        said[path.stem] = (unescape(title).strip(), unescape(description))
    assert len({title for title, _ in said.values()}) == len({text for _, text in said.values()}) == len(said)
    pages = tomllib.loads((ROOT / "book" / "pages.toml").read_text(encoding="utf-8"))["pages"]
    for name, page in pages.items():
        assert said[name][1] == page["summary"]
        assert said[name][0].startswith(page.get("title", f"{page['number']}. "))
