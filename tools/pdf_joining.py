"""Printed pages joined into one PDF: bookmarks, links, page numbers, and the structure that screen readers follow.

A browser prints each page of the site into a document of its own, in which links to other pages lead to the site. A `Book` puts
such documents one behind the other. pypdf copies the pages; it leaves out what spans them, so this module carries that over:

* bookmarks, with the headings as the page has them;
* links: within a page, between pages of the book (to their place here, or in another file), and to the rest of the world;
* the tree of headings, paragraphs, lists, tables and figures. Elements that only wrap others are left out, which is most of them;
* a number and a running title at the foot of each page, and the numbers that viewers show.
"""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from pypdf import PageObject, PdfReader, PdfWriter
from pypdf.constants import PageLabelStyle
from pypdf.generic import (
    ArrayObject,
    BooleanObject,
    DecodedStreamObject,
    DictionaryObject,
    Fit,
    FloatObject,
    NameObject,
    NullObject,
    NumberObject,
    TextStringObject,
)

ABOVE = 8.0  # points that are shown above a heading
MARGIN = 51.0  # points: 18 mm, as in print.css
BOOKMARK = "bookmark-"  # and a heading's number from 0: the name of its place for links from a table of contents
LEVELS = 3  # of headings in the bookmarks: a page's title, its sections and theirs


class Part(NamedTuple):
    """A printed page: its name, the document, its headings in words, and whether its pages are numbered by i, ii, iii."""

    name: str
    document: PdfReader
    headings: Sequence[str]
    front: bool = False


class Heading(NamedTuple):
    """A heading of a printed page: its depth from 0, its words, its page from 0, and its height on the page in points."""

    depth: int
    title: str
    page: int
    top: float


def part_of(name: str, printed: bytes, headings: Sequence[str], front: bool = False) -> Part:
    """The part that a browser has printed."""
    return Part(name, PdfReader(io.BytesIO(printed)), headings, front)


def squeezed(text: str) -> str:
    """A text without white space: where a line breaks is no difference."""
    return re.sub(r"\s+", "", text)


def outline(part: Part) -> list[Heading]:
    """The headings of a part, in order; a browser loses the spaces at which they break, and the part has them."""
    words = {squeezed(title): " ".join(title.split()) for title in part.headings}

    def walk(items: list[Any], depth: int) -> Iterator[Heading]:
        for item in items:
            if isinstance(item, list):
                yield from walk(item, depth + 1)
                continue
            page = part.document.get_destination_page_number(item)
            title = words.get(squeezed(item.title), item.title.strip())
            yield Heading(depth, title, page or 0, float(item.get("/Top") or 0))

    return list(walk(part.document.outline, 0))


def destinations(part: Part) -> dict[str, tuple[int, float]]:
    """The places that have a name: page from 0 and height in points."""
    pages = {page.indirect_reference.idnum: number for number, page in enumerate(part.document.pages)}
    found = {}
    for name, place in (part.document.root_object.get("/Dests") or DictionaryObject()).get_object().items():
        page, _, _, top = place.get_object()[:4]
        found[unquote(name[1:])] = (pages[page.idnum], float(top))
    return found


class Book:
    """A document that grows by parts.

    Args:
        address: where the printed site was served, with no slash at the end.
        elsewhere: names of pages that have a file of their own, NAME.pdf, beside this document.
    """

    def __init__(self, address: str, elsewhere: Collection[str] = ()) -> None:
        self.address = address
        self.elsewhere = elsewhere
        self.writer = PdfWriter()
        self.numbered = 0
        self.first: dict[str, int] = {}
        self.places: dict[str, dict[str, tuple[int, float]]] = {}
        self.links: list[tuple[str, DictionaryObject]] = []
        self.parents: list[Any] = []  # what marked content and links belong to, by the keys that pages and links have
        self.root = self.writer._add_object(_dictionary(Type="StructTreeRoot"))
        self.whole = self._element("Document", self.root)
        self.font = self.writer._add_object(
            _dictionary(Type="Font", Subtype="Type1", BaseFont="Helvetica", Encoding="WinAnsiEncoding")
        )

    def add(self, part: Part) -> None:
        """Put a part behind those that are there."""
        start = len(self.writer.pages)
        self.first[part.name] = start
        self.places[part.name] = destinations(part)
        pages: dict[int, tuple[PageObject, dict[int, Any]]] = {}
        links: dict[int, DictionaryObject] = {}
        for page in part.document.pages:
            copy = self.writer.add_page(page, excluded_keys=["/Annots", "/B"])
            pages[page.indirect_reference.idnum] = (copy, {})
            kept = ArrayObject()
            for reference in page.get("/Annots") or ():
                source = reference.get_object()
                link = DictionaryObject({key: value for key, value in source.items() if key not in ("/StructParent", "/P")})
                link = link.clone(self.writer, force_duplicate=True)
                link[NameObject("/P")] = copy.indirect_reference
                kept.append(self.writer._add_object(link))
                links[reference.idnum] = link
                self.links.append((part.name, link))
            if kept:
                copy[NameObject("/Annots")] = kept
        self._copy_structure(part, pages, links)
        headings = outline(part)
        for number, heading in enumerate(headings):
            self.places[part.name][f"{BOOKMARK}{number}"] = (heading.page, heading.top + ABOVE)
        self._number(part, start, headings[0].title if headings else part.name)
        if not part.front:
            self._bookmark(headings, start)

    def bytes(self, title: str, language: str = "en-GB") -> bytes:
        """The document, with its links led to their places."""
        for name, link in self.links:
            self._lead(name, link)
        rows = ArrayObject()
        for key, parent in enumerate(self.parents):
            rows.extend([NumberObject(key), parent])
        root = self.root.get_object()
        root[NameObject("/K")] = self.whole
        root[NameObject("/ParentTree")] = self.writer._add_object(DictionaryObject({NameObject("/Nums"): rows}))
        root[NameObject("/ParentTreeNextKey")] = NumberObject(len(self.parents))
        catalogue = self.writer.root_object
        catalogue[NameObject("/StructTreeRoot")] = self.root
        catalogue[NameObject("/MarkInfo")] = DictionaryObject({NameObject("/Marked"): BooleanObject(True)})
        catalogue[NameObject("/Lang")] = TextStringObject(language)
        catalogue[NameObject("/PageMode")] = NameObject("/UseOutlines")
        catalogue[NameObject("/ViewerPreferences")] = DictionaryObject({NameObject("/DisplayDocTitle"): BooleanObject(True)})
        if len(self.first) == 1:  # a file that others of the book lead into
            places = next(iter(self.places.values()))
            named = {NameObject("/" + quote(name)): self._place(page, top) for name, (page, top) in places.items() if name}
            catalogue[NameObject("/Dests")] = self.writer._add_object(DictionaryObject(named))
        self.writer.metadata = {"/Title": title, "/Author": "the anabook authors", "/Producer": "Chromium and pypdf"}
        written = io.BytesIO()
        self.writer.write(written)
        return written.getvalue()

    def _place(self, page: int, top: float | None) -> ArrayObject:
        """A place as PDF writes it: a page from 0, and a height in points or the whole page."""
        reference = self.writer.pages[page].indirect_reference
        if top is None:
            return ArrayObject([reference, NameObject("/Fit")])
        return ArrayObject([reference, NameObject("/XYZ"), NumberObject(0), FloatObject(round(top, 2)), NumberObject(0)])

    def _lead(self, name: str, link: DictionaryObject) -> None:
        """Let a link of the part ``name`` lead into this document or a file beside it, if it led to the site."""
        action = link.get("/A")
        if action is not None:
            address = str(action.get_object().get("/URI", ""))
            if not address.startswith(self.address + "/"):
                return
            parts = urlsplit(address)
            target, place = parts.path.rsplit("/", 1)[-1].removesuffix(".html"), unquote(parts.fragment)
            del link["/A"]
        elif "/Dest" in link:
            target, place = name, unquote(str(link["/Dest"])[1:])
            del link["/Dest"]
        else:
            return
        if target in self.first:
            page, top = self.places[target].get(place, (0, None))
            link[NameObject("/Dest")] = self._place(self.first[target] + page, top)
        elif target in self.elsewhere:
            where = NameObject("/" + quote(place)) if place else ArrayObject([NumberObject(0), NameObject("/Fit")])
            link[NameObject("/A")] = _dictionary(S="GoToR")
            link["/A"][NameObject("/F")] = TextStringObject(f"{target}.pdf")
            link["/A"][NameObject("/D")] = where

    def _bookmark(self, headings: Sequence[Heading], start: int) -> None:
        """Bookmarks of a part that begins at the page ``start``."""
        above: list[Any] = []
        for heading in headings:
            if heading.depth >= LEVELS:
                continue
            del above[heading.depth :]
            above.append(
                self.writer.add_outline_item(
                    title=heading.title,
                    page_number=start + heading.page,
                    parent=above[-1] if above else None,
                    fit=Fit.xyz(left=0, top=heading.top + ABOVE, zoom=0),
                    is_open=False,
                )
            )

    def _number(self, part: Part, start: int, title: str) -> None:
        """Say what viewers call the pages of a part, and write it at the foot of each with the title; not in front."""
        pages = self.writer.pages[start:]
        style, first = (PageLabelStyle.LOWERCASE_ROMAN, 1) if part.front else (PageLabelStyle.DECIMAL, self.numbered + 1)
        self.writer.set_page_label(start, start + len(pages) - 1, style=style, start=first)
        if part.front:
            return
        for page in pages:
            self.numbered += 1
            self._foot(page, title, str(self.numbered))

    def _foot(self, page: PageObject, title: str, number: str) -> None:
        """Write a title and a number below the text of a page, where screen readers pass over them."""
        width = float(page.mediabox.width)
        right = width - MARGIN - 9 * 0.556 * len(number)  # a digit of Helvetica is 0.556 of its size wide
        text = " ".join(title.split())
        text = text if len(text) < 90 else text[:88].rsplit(" ", 1)[0] + " …"
        shown = [(MARGIN, text), (right, number)]
        lines = [b"Q /Artifact BMC q BT /Foot 9 Tf 0.35 g"]
        for left, words in shown:
            lines.append(b"1 0 0 1 %.2f 26 Tm <%s> Tj" % (left, words.encode("cp1252", "replace").hex().encode()))
        lines.append(b"ET Q EMC")
        before, after = DecodedStreamObject(), DecodedStreamObject()
        before.set_data(b"q")
        after.set_data(b"\n".join(lines))
        drawn = page.raw_get("/Contents") if "/Contents" in page else ArrayObject()
        content = list(drawn.get_object()) if isinstance(drawn.get_object(), ArrayObject) else [drawn]
        page[NameObject("/Contents")] = ArrayObject(
            [self.writer._add_object(before), *content, self.writer._add_object(after)]
        )
        resources = DictionaryObject(page["/Resources"].get_object())
        fonts = DictionaryObject(resources["/Font"].get_object()) if "/Font" in resources else DictionaryObject()
        fonts[NameObject("/Foot")] = self.font
        resources[NameObject("/Font")] = fonts
        page[NameObject("/Resources")] = resources

    def _element(self, kind: str, parent: Any, source: DictionaryObject | None = None) -> Any:
        """A new element of the structure; what it says of itself comes from ``source``."""
        made = _dictionary(Type="StructElem", S=kind)
        made[NameObject("/P")] = parent
        made[NameObject("/K")] = ArrayObject()
        for name in ("/Alt", "/ActualText", "/Lang"):
            if source is not None and name in source:
                made[NameObject(name)] = TextStringObject(source[name])
        if source is not None and "/A" in source:
            # Headers name cells by keys that another part may have, too; scopes say the same.
            kept = [
                DictionaryObject({key: value for key, value in each.get_object().items() if key != "/Headers"})
                for each in _several(source["/A"])
            ]
            made[NameObject("/A")] = ArrayObject(kept).clone(self.writer)
        return self.writer._add_object(made)

    def _copy_structure(
        self, part: Part, pages: dict[int, tuple[PageObject, dict[int, Any]]], links: dict[int, DictionaryObject]
    ) -> None:
        """Carry the tree of a part over.

        Args:
            pages: for each page of the part, by its number as an object, the copy and what its marked content will belong to.
            links: for each link of the part, by its number as an object, the copy.
        """
        root = part.document.root_object.get("/StructTreeRoot")
        if root is None:
            return
        above = self._element("Part", self.whole)
        self.whole.get_object()["/K"].append(above)

        def marked(parent: Any, page: int, number: int) -> None:
            copy, owners = pages[page]
            owners[number] = parent
            content = _dictionary(Type="MCR")
            content[NameObject("/Pg")] = copy.indirect_reference
            content[NameObject("/MCID")] = NumberObject(number)
            parent.get_object()["/K"].append(content)

        def linked(parent: Any, link: DictionaryObject) -> None:
            link[NameObject("/StructParent")] = NumberObject(len(self.parents))
            self.parents.append(parent)
            content = _dictionary(Type="OBJR")
            content[NameObject("/Obj")] = link.indirect_reference
            parent.get_object()["/K"].append(content)

        def walk(node: DictionaryObject, parent: Any, page: int | None) -> None:
            page = node.raw_get("/Pg").idnum if "/Pg" in node else page
            for child in _several(node.get("/K", ArrayObject())):
                child = child.get_object()
                if isinstance(child, int):
                    marked(parent, page, int(child))
                elif child.get("/Type") == "/MCR":
                    marked(parent, child.raw_get("/Pg").idnum if "/Pg" in child else page, int(child["/MCID"]))
                elif child.get("/Type") == "/OBJR":
                    linked(parent, links[child.raw_get("/Obj").idnum])
                elif child["/S"] in ("/NonStruct", "/Document") and "/Alt" not in child and "/ActualText" not in child:
                    walk(child, parent, page)
                else:
                    made = self._element(child["/S"][1:], parent, child)
                    parent.get_object()["/K"].append(made)
                    walk(child, made, page)

        walk(root.get_object(), above, None)
        for copy, owners in pages.values():
            if owners:
                copy[NameObject("/StructParents")] = NumberObject(len(self.parents))
                copy[NameObject("/Tabs")] = NameObject("/S")
                row = ArrayObject(owners.get(number, NullObject()) for number in range(max(owners) + 1))
                self.parents.append(self.writer._add_object(row))


def _dictionary(**names: str) -> DictionaryObject:
    return DictionaryObject({NameObject("/" + key): NameObject("/" + value) for key, value in names.items()})


def _several(value: Any) -> list[Any]:
    """What an entry has that may be one thing or a list."""
    value = value.get_object()
    return list(value) if isinstance(value, list) else [value]
