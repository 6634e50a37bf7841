"""The site's search finds pages by words that they do not use: other spellings, and other names, from book/search.toml.

The words go into the search index alone, as the words of a page and as entries like those of an index; no page shows them.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import ConfigError
from sphinx.search import IndexBuilder

FOLDER = "book/"
ENDINGS = ("e", "ed", "er", "ers", "es", "ing", "ation", "ations")
PLAIN_ENDINGS = ("", "s", "ed", "ing")


@cache
def settings(source: str) -> dict[str, Any]:
    """What book/search.toml says."""
    return tomllib.loads((Path(source) / FOLDER / "search.toml").read_text(encoding="utf-8"))


@cache
def american(source: str) -> dict[str, str]:
    """The American form of each British word, inflected forms included."""
    said = settings(source)["spelling"]
    forms = dict(said["words"])
    for word in said["ise"]:
        forms |= {word[:-1] + end: word[:-2] + "z" + end for end in ENDINGS}
    for word in said["our"]:
        forms |= {word + end: word.removesuffix("our") + "or" + end for end in PLAIN_ENDINGS}
    return forms


def spellings(phrase: str, forms: dict[str, str]) -> list[str]:
    """A phrase in lower case, as it is and in American spelling."""
    other = re.sub(r"[a-z]+", lambda word: forms.get(word[0], word[0]), phrase.lower())
    return list(dict.fromkeys((phrase.lower(), other)))


def entries(source: str) -> Iterator[tuple[str, str, str]]:
    """Every synonym in every spelling: the phrase, the page, and the place on it or ""."""
    for row in settings(source)["synonyms"]:
        for phrase in row["phrases"]:
            for page in row["pages"]:
                name, _, place = page.partition("#")
                for spelt in spellings(phrase, american(source)):
                    yield spelt, FOLDER + name, place


def add_words(indexer: IndexBuilder, source: str, known: set[str]) -> None:
    """Put other spellings and synonyms into the index of a site.

    Args:
        indexer: Sphinx's, which has read all pages.
        source: the folder of the book's repository.
        known: the pages.
    """
    stem = indexer.lang.stem
    for british, spelt in american(source).items():
        for mapping in (indexer._mapping, indexer._title_mapping):
            for one, other in ((stem(british), stem(spelt)), (british, spelt)):
                if one in mapping:
                    mapping.setdefault(other, set()).update(mapping[one])
    added: dict[str, set[tuple[str, str, str]]] = {}
    for phrase, page, place in entries(source):
        if page not in known:
            raise ConfigError(f"book/search.toml names the page {page.removeprefix(FOLDER)!r}, which is not in _toc.yml")
        added.setdefault(page, set()).add((phrase, place, "main"))
        for word in indexer.lang.split(phrase):
            if indexer.lang.word_filter(word):
                indexer._mapping.setdefault(stem(word), set()).add(page)
    for page, more in added.items():
        indexer._index_entries[page] = sorted({*map(tuple, indexer._index_entries.get(page, [])), *more})


def extend_index(app: Sphinx) -> list[Any]:
    """Before the index is written, when all pages are in it; adds no page."""
    if getattr(app.builder, "search", False) and app.builder.indexer is not None:
        add_words(app.builder.indexer, str(app.srcdir), set(app.env.found_docs))
    return []


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the handler above."""
    app.connect("html-collect-pages", extend_index)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
