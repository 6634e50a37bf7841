"""What a PDF of a page lacks of it: each check returns sentences, none if all is well."""

from __future__ import annotations

import io
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pypdfium2
from bs4 import BeautifulSoup, Tag
from pypdf import PdfReader
from pypdfium2 import raw

# Of print.css, in points: the paper's margins at the left and at the right; the foot's height.
LEFT, RIGHT = 18 / 25.4 * 72, 16 / 25.4 * 72
FOOT = 40
RAW_TEX = r"\$\$|\\[()\[\]]|\\(?:frac|sum|mathbb|sigma|theta|nu|begin|operatorname)\b"

# How many letters the formulas have that are printed; spaces are none.
LETTERS = """solutions => [...document.querySelectorAll('article mjx-c:not(.mjx-c20, .mjx-cA0)')].filter(each =>
    (solutions === 'shown' || !each.closest('.solution'))).length"""


class Source(NamedTuple):
    """What a page has: lines of code and text, cells of tables, headings, figures, pictures' texts, numbers of equations."""

    lines: list[str]
    cells: list[str]
    headings: list[str]
    figures: int
    pictures: list[str]
    equations: list[str]
    prose: str


def squeezed(text: str) -> str:
    """Text as it can be compared: no white space, ligatures as their letters, a hyphen at the end of a line as one."""
    text = text.replace("\ufffe", "-").replace("\x02", "-").replace("\u00ad", "")
    return re.sub(r"[\s\u200b]+", "", unicodedata.normalize("NFKC", text))


def source_of(path: Path, solutions: str = "hidden") -> Source:
    """What the built page in ``path`` has, with solutions or without."""
    article = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser").select_one("article")
    assert isinstance(article, Tag)
    for each in article.select("script, .headerlink, .on-a-card" + (", .solution" if solutions == "hidden" else "")):
        each.decompose()
    shown = article.select("pre")
    lines = [line.rstrip() for box in shown for line in box.get_text().split("\n") if line.strip()]
    cells = [
        cell.get_text() for cell in article.select("td, th") if not cell.select(".math") and r"\(" not in cell.get_text()
    ]
    pictures = [str(image["alt"]) for image in article.select("img[alt]")]
    pictures += [str(drawing["aria-label"]) for drawing in article.select("svg[role=img]")]
    equations = [number.get_text() for number in article.select(".eqno")]
    headings = [heading.get_text() for heading in article.select("h1, h2, h3") if not heading.select(".math")]
    for each in article.select("pre, code, .math"):
        each.decompose()
    return Source(lines, cells, headings, len(article.select("figure")), pictures, equations, article.get_text())


class Piece(NamedTuple):
    """Text that is drawn at once: its page from 1, its edges in points, its font's name, which MathJax's have not."""

    page: int
    left: float
    right: float
    font: str
    text: str


class Printed:
    """A PDF as viewers see it, without the ``foot`` of its pages, which is so many points high."""

    def __init__(self, data: bytes, foot: float = FOOT) -> None:
        self.drawn = pypdfium2.PdfDocument(data)
        self.reader = PdfReader(io.BytesIO(data))
        self.pieces = [piece for number, page in enumerate(self.drawn, 1) for piece in self._pieces(number, page, foot)]

    @staticmethod
    def _pieces(number: int, page: Any, foot: float) -> list[Piece]:
        """Pieces in the order in which they are drawn; pdfium's own order is a guess where a page has formulas in tables."""
        found, text = [], page.get_textpage()
        for each in page.get_objects(filter=[raw.FPDF_PAGEOBJ_TEXT], textpage=text):
            left, _, right, top = each.get_bounds()
            font = each.get_font().get_base_name()
            if each.level:  # MathJax cuts stretched brackets; a browser draws what is cut as a picture with edges of its own
                left = right = math.nan
            if top > foot:
                found.append(Piece(number, left, right, font, each.extract()))
        return found

    def texts(self) -> list[str]:
        """The text of each page."""
        texts = [""] * len(self.drawn)
        for piece in self.pieces:
            texts[piece.page - 1] += piece.text
        return texts

    def beyond(self) -> list[str]:
        """Text that reaches into the margins."""
        width = self.drawn[0].get_width()
        return [
            f"page {piece.page}: {piece.text[:60]!r} reaches from {piece.left:.0f} to {piece.right:.0f}"
            for piece in self.pieces
            if piece.left < LEFT - 1.5 or piece.right > width - RIGHT + 1.5
            if piece.text.strip()
        ]

    def outside(self) -> list[str]:
        """Text of which a part is not on its page."""
        found = []
        for number, page in enumerate(self.drawn, 1):
            width, height = page.get_size()
            for each in page.get_objects(filter=[raw.FPDF_PAGEOBJ_TEXT], textpage=page.get_textpage()):
                left, bottom, right, top = each.get_bounds()
                if not each.level and (left < 0 or bottom < 0 or right > width or top > height):
                    found.append(
                        f"page {number}: {each.extract()[:60]!r} reaches from {left:.0f}, {bottom:.0f} to {right:.0f}, {top:.0f}"
                    )
        return found

    def formula_letters(self) -> int:
        """How many letters of formulas are drawn."""
        return sum(not letter.isspace() for piece in self.pieces if not piece.font for letter in piece.text)

    def elements(self) -> Counter[str]:
        """How many elements of each kind the structure has, and how many pictures of each text."""
        found: Counter[str] = Counter()

        def walk(node: Any) -> None:
            found[node.get("/S", "")] += 1
            if "/Alt" in node:
                found[squeezed(str(node["/Alt"]))] += 1
            inside = node["/K"].get_object() if "/K" in node else []
            for child in inside if isinstance(inside, list) else [inside]:
                child = child.get_object()
                if isinstance(child, dict):
                    walk(child)

        walk(self.reader.root_object["/StructTreeRoot"])
        return found

    def bookmarks(self) -> list[tuple[int, str, int]]:
        """Bookmarks with their depths from 0 and the pages from 0 that they lead to."""

        def walk(items: list[Any], depth: int) -> list[tuple[int, str, int]]:
            found = []
            for item in items:
                if isinstance(item, list):
                    found += walk(item, depth + 1)
                else:
                    found.append((depth, item.title, self.reader.get_destination_page_number(item)))
            return found

        return walk(self.reader.outline, 0)


def stands_in(wanted: str, pages: Sequence[str]) -> bool:
    """Whether a text is on one of the pages, or begins on one and ends on the next."""
    if any(wanted in page for page in pages):
        return True
    cuts = [(wanted[:cut], wanted[cut:]) for cut in range(1, len(wanted))]
    return any(first in page and rest in after for page, after in zip(pages, pages[1:]) for first, rest in cuts)


def missing(printed: Printed, source: Source, letters: int) -> list[str]:
    """What a page has and its PDF lacks, and what the PDF has that no reader should see.

    Args:
        letters: how many the page's formulas have.
    """
    texts = printed.texts()
    pages = [squeezed(text) for text in texts]
    found = printed.beyond()
    for kind, wanted in (("line", source.lines), ("cell", source.cells), ("heading", source.headings)):
        found += [
            f"the {kind} {each.strip()[:80]!r} is not in the text" for each in wanted if not stands_in(squeezed(each), pages)
        ]
    found += [f"equation {number} is not in the text" for number in source.equations if not stands_in(number, pages)]
    if printed.formula_letters() < 0.99 * letters:  # pdfium passes over a few that lie on others
        found.append(f"{printed.formula_letters()} of {letters} letters of formulas are drawn")
    tex = len(re.findall(RAW_TEX, "".join(texts))) - sum(len(re.findall(RAW_TEX, line)) for line in source.lines)
    if tex > len(re.findall(RAW_TEX, source.prose)):
        found.append("raw TeX is in the text")
    elements = printed.elements()
    if elements["/Figure"] < source.figures + len(source.pictures):
        found.append(f"{elements['/Figure']} figures and pictures of {source.figures} and {len(source.pictures)}")
    found += [f"no picture says {text[:60]!r}" for text in source.pictures if not elements[squeezed(text)]]
    titles = [squeezed(title) for _, title, _ in printed.bookmarks()]
    found += [f"no bookmark for {heading!r}" for heading in source.headings if squeezed(heading) not in titles]
    return found
