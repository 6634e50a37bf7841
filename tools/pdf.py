"""Print the site: one PDF for each page of the book, and one of the whole book, with bookmarks and page numbers.

    python tools/pdf.py                              every page, and the book, into _build/pdf/
    python tools/pdf.py --chapters 02-noise 04-zoo   these pages only, and no book
    python tools/pdf.py --solutions shown --to FOLDER

The site has to be built (`make site`); it is opened in Chromium or Chrome, without a network. Code that is folded on the pages is
printed; solutions of exercises are printed if you ask for them. The book has a title page and a table of contents in front, its
pages are numbered through, and links between chapters lead to their places in it. In the file of one chapter they lead into the
files of the others, which lie beside it.

Exit codes: 0 all was written, 2 something is missing, and a sentence says what.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections import defaultdict
from collections.abc import Collection, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from pdf_joining import BOOKMARK, Book, Part, outline, part_of  # noqa: E402
from printing import NotPrinted, opened, printed, profile, served, started  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

SITE = ROOT / "_build" / "html"
OUT = ROOT / "_build" / "pdf"
TITLE = "Additive Noise Annealing"
SUBTITLE = "Straight-through estimators are averages under noise: explained, corrected, implemented"
SOLUTIONS = ("hidden", "shown")

# Browsers keep the places that a link of the same page leads to: give them one to each place that other pages lead to.
NAME_PLACES = """names => {
    const links = document.createElement('div');
    links.hidden = true;
    for (const name of names) links.append(Object.assign(document.createElement('a'), { href: '#' + name }));
    document.body.append(links);
}"""

HEADINGS = """() => [...document.querySelectorAll('article :is(h1, h2, h3, h4, h5, h6)')].map(heading => {
    const copy = heading.cloneNode(true);
    copy.querySelectorAll('.headerlink').forEach(each => each.remove());
    return copy.textContent;
})"""

FRONT = """
@page { margin: 24mm 22mm; }
body { color: #000; font: 10.5pt/1.4 "Liberation Sans", "DejaVu Sans", Arial, sans-serif; margin: 0; }
.title { break-after: page; padding-top: 70mm; }
.title h1 { font-size: 32pt; line-height: 1.15; margin: 0 0 8mm; }
.title p { font-size: 13pt; margin: 0 0 4mm; }
.title .small { font-size: 10.5pt; margin-top: 90mm; }
h2 { font-size: 20pt; margin: 0 0 6mm; }
h3 { break-after: avoid; font-size: 12pt; margin: 6mm 0 2mm; }
a { color: inherit; display: flex; gap: 4mm; justify-content: space-between; text-decoration: none; }
.chapter { break-after: avoid; font-weight: 700; margin: 2.5mm 0 0.5mm; }
.section { padding-left: 6mm; }
"""


def pages_in_order() -> list[tuple[str, list[str]]]:
    """The parts of the book as _toc.yml has them: a caption, which is empty for the first page, and names of pages."""
    settings = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))

    def name(file: str) -> str:
        return file.rsplit("/", 1)[-1]

    parts = [("", [name(settings["root"])])]
    return parts + [(part["caption"], [name(each["file"]) for each in part["chapters"]]) for part in settings["parts"]]


def chosen(names: Sequence[str], known: Sequence[str]) -> list[str]:
    """The pages that were asked for, all if none was."""
    found = []
    for name in names:
        name = Path(name).stem
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"the pages are {', '.join(known)}"
            raise ValueError(f"the book has no page {name!r}; {hint}")
        found.append(name)
    return list(dict.fromkeys(found)) or list(known)


def places_linked_to(site: Path) -> dict[str, set[str]]:
    """For each page the names of its places that another page leads to."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted((site / "book").glob("*.html")):
        for target, place in re.findall(r'href="(?:\.\./book/)?([\w.-]+)\.html#([^"]+)"', path.read_text(encoding="utf-8")):
            found[target].add(unquote(place))
    return found


def print_page(page: Page, name: str, places: Collection[str]) -> Part:
    """An opened page of the book as the browser prints it, with names for its ``places``."""
    page.evaluate(NAME_PLACES, sorted(places))
    return part_of(name, printed(page), page.evaluate(HEADINGS))


def print_front(context: BrowserContext, text: str) -> Part:
    """The title page and the table of contents as the browser prints them."""
    page = context.new_page()
    try:
        page.set_content(text)
        return part_of("contents", printed(page), [], front=True)
    finally:
        page.close()


def contents(parts: Sequence[tuple[str, Sequence[Part]]], address: str) -> str:
    """The title page and the table of contents as HTML; links lead to the bookmarks of ``Book``.

    Args:
        parts: captions, each with its printed pages.
        address: where the printed site was served.
    """
    about = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    rows, first = [], 1
    for caption, pages in parts:
        rows.append(f"<h3>{escape(caption)}</h3>" if caption else "")
        for part in pages:
            for number, heading in enumerate(outline(part)):
                if heading.depth > 1:
                    continue
                kind = "section" if heading.depth else "chapter"
                rows.append(
                    f'<div class="{kind}"><a href="{address}/book/{part.name}.html#{BOOKMARK}{number}">'
                    f"<span>{escape(heading.title)}</span><span>{first + heading.page}</span></a></div>"
                )
            first += len(part.document.pages)
    return (
        f'<!doctype html><html lang="en-GB"><head><meta charset="utf-8"><title>{TITLE}</title><style>{FRONT}</style></head>'
        f'<body><div class="title"><h1>{TITLE}</h1><p>{SUBTITLE}</p><p class="small">{escape(about["title"])}, '
        f"version {about['version']}, by {escape(about['authors'][0]['name'])}.<br>Printed from the book's pages. Text, figures "
        f"and code are under the Apache License 2.0.</p></div><h2>Contents</h2>{''.join(rows)}</body></html>"
    )


def write(path: Path, book: Book, title: str) -> str:
    """Write a document; what it is, in words."""
    data = book.bytes(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return f"pdf: {path} ({len(book.writer.pages)} pages, {len(data) / 1e6:.1f} MB)"


def print_book(names: Sequence[str], whole: bool, solutions: str, folder: Path, site: Path = SITE) -> None:
    """Print pages, and the book that they make if it is to be ``whole``, into a folder.

    Raises:
        NotPrinted: the site is not built, there is no browser, or a page fails in it.
    """
    missing = next((name for name in names if not (site / "book" / f"{name}.html").is_file()), None)
    if missing:
        raise NotPrinted(f"{site / 'book' / missing}.html is not there: run `make site` first")
    places = places_linked_to(site)
    parts: dict[str, Part] = {}
    with started() as browser, served(site) as address, profile(browser, address) as context:
        for name in names:
            with opened(context, address, f"book/{name}.html?solutions={solutions}") as page:
                part = parts[name] = print_page(page, name, places[name])
            chapter = Book(address, elsewhere=names)
            chapter.add(part)
            print(write(folder / f"{name}.pdf", chapter, next((each.title for each in outline(part)), name)), flush=True)
        if whole:
            listed = [(caption, [parts[name] for name in pages]) for caption, pages in pages_in_order()]
            book = Book(address)
            for part in (print_front(context, contents(listed, address)), *parts.values()):
                book.add(part)
            print(write(folder / "anabook.pdf", book, TITLE))


def main(arguments: list[str] | None = None) -> int:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--chapters", nargs="+", default=[], metavar="NAME", help="only these pages, by their names, and no book"
    )
    parser.add_argument("--solutions", choices=SOLUTIONS, default="hidden", help="of exercises (hidden)")
    parser.add_argument("--to", type=Path, default=OUT, metavar="FOLDER", help="where to (_build/pdf)")
    options = parser.parse_args(arguments)
    try:
        names = chosen(options.chapters, [name for _, pages in pages_in_order() for name in pages])
        print_book(names, not options.chapters, options.solutions, options.to)
    except (ValueError, OSError) as error:
        print(f"pdf: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
