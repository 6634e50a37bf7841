"""The pages of the book by number: what book/pages.toml says, and what may not be said by hand."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = tomllib.loads((ROOT / "book" / "pages.toml").read_text(encoding="utf-8"))["pages"]
TOC = re.findall(r"- file: book/(\S+)", (ROOT / "_toc.yml").read_text(encoding="utf-8"))
SOURCES = sorted([*(ROOT / "book").glob("*.ipynb"), *(ROOT / "book").glob("*.md")])


def test_every_page_has_a_number_of_its_own_and_a_sentence_in_the_order_of_the_contents():
    assert list(PAGES) == TOC
    numbers = [page["number"] for page in PAGES.values()]
    assert len(set(numbers)) == len(numbers)
    for page in PAGES.values():
        assert set(page) - {"title"} == {"number", "summary"}
        assert 40 <= len(page["summary"]) <= 155, page["summary"]  # what search engines show
        assert page["summary"].endswith(".")


def test_a_title_names_the_straight_through_estimator_where_the_page_is_about_it():
    titles = {name: page["title"] for name, page in PAGES.items() if "title" in page}
    for name in ("00-start-here", "01-quantisers", "04-zoo", "16-which-estimator"):
        assert re.search(r"straight-through estimators?\b", titles[name]), name
    assert "straight-through" in titles["05-strategies"]
    assert len(set(titles.values())) == len(titles) and all(30 <= len(title) <= 85 for title in titles.values())


@pytest.mark.parametrize("name", PAGES)
def test_a_chapter_has_the_number_of_its_file(name):
    if digits := re.match(r"(\d\d)-", name):
        assert PAGES[name]["number"] == str(int(digits[1]))
    else:
        assert re.fullmatch(r"\d+[a-z]|[A-Z]\d?", PAGES[name]["number"])


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_no_number_of_an_exercise_is_written_by_hand(source):
    """The site numbers exercises by page, so a number in a link's text goes stale."""
    assert re.findall(r"\{ref\}`[^`<]*\b\d+\b[^`<]*<ex-", source.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_no_line_that_opens_a_fence_holds_backticks(source):
    """Such a line opens nothing, and what was to close the fence then swallows the rest of the page."""
    assert re.findall(r"(?m)^```[^`\n]*\{[^`\n]*`.*$", source.read_text(encoding="utf-8")) == []
