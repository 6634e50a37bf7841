"""Make the lecture's slides: one HTML file with speaker notes that needs no network, and PDFs of it.

    python tools/slides.py                       book/slides/lecture.md to _build/slides/lecture.html
    python tools/slides.py --to FILE MY.md       another deck
    python tools/slides.py --pdf both            lecture.pdf, too, and lecture-notes.pdf, with a page of notes behind each slide

Slides are Markdown, with three dashes between two of them. Each begins with a title and a few lines about itself:

    # A title
    minutes: 2
    from: ch-noise
    figure: fig-noise-dither

What follows is shown, up to a line "Note:"; the rest is for the speaker. Figures are the stored outputs of the chapters, by their
labels; "interactive: shake" puts the front page's figure on the slide. reveal.js comes from the package sphinx-revealjs and
MathJax from sphinx-mathjax-offline. A policy in the file forbids the browser to load anything from elsewhere.

For a PDF the deck is opened in Chromium or Chrome.

Exit codes: 0 all was written, 2 a slide is wrong or no browser was found, and a sentence says so.
"""

from __future__ import annotations

import argparse
import base64
import functools
import json
import re
import sys
from collections.abc import Iterator, Sequence
from html import escape
from importlib import metadata, util
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
STATIC = BOOK / "_static"
DECK = BOOK / "slides" / "lecture.md"
OUT = ROOT / "_build" / "slides" / "lecture.html"
WIDTH, HEIGHT = 1280, 720
MINUTES = 75
KEYS = ("minutes", "from", "figure", "interactive")
INTERACTIVE = ("shake",)
PDFS = {"slides": ("slides",), "notes": ("notes",), "both": ("slides", "notes")}

sys.path[:0] = [str(BOOK / "_ext"), str(ROOT / "tools")]
from anabook_figures import inlined  # noqa: E402
from printing import opened, printed, profile, served, started  # noqa: E402

# Formulas are set, and reveal.js has made a page of each slide; those after the first it hides from screen readers.
PAGED = """async () => {
    await MathJax.startup.promise;
    await document.fonts.ready;
    for (let wait = 0; wait < 100 && !document.querySelector('.pdf-page'); wait++) await new Promise(r => setTimeout(r, 50));
    for (const slide of document.querySelectorAll('.pdf-page section')) {
        slide.removeAttribute('aria-hidden');
        slide.removeAttribute('hidden');
    }
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
}"""

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; font-src data:; "
    "frame-src 'self' file:; base-uri 'none'; form-action 'none'"
)


class Slide(NamedTuple):
    """A slide: its title, the minutes it takes, the chapter's label, a figure or none, what is shown, what is said."""

    title: str
    minutes: int
    chapter: str
    figure: str
    interactive: str
    text: str
    notes: str


def words(slide: Slide) -> int:
    """The words that the audience reads: title and text, a formula counting for none."""
    text = re.sub(r"\$\$.*?\$\$|\$[^$]*\$|```.*?```", " ", f"{slide.title} {slide.text}", flags=re.S)
    return len(re.findall(r"\w[\w’'.,-]*", text))


def slide_of(text: str, number: int) -> Slide:
    """The slide that a part of the deck describes."""
    shown, _, notes = text.strip().partition("\nNote:\n")
    lines = shown.splitlines()
    if not lines or not lines[0].startswith("# "):
        raise ValueError(f"slide {number} must begin with a line '# title', and begins with {(lines or [''])[0]!r}")
    title = lines.pop(0)[2:].strip()
    said: dict[str, str] = {}
    while lines and (found := re.fullmatch(r"([a-z]+): *(\S.*)", lines[0])):
        if found[1] not in KEYS:
            raise ValueError(f"slide {number} ({title}) says {found[1]!r}; allowed are {', '.join(KEYS)}")
        said[found[1]] = found[2].strip()
        lines.pop(0)
    if not re.fullmatch(r"[1-9]\d*", said.get("minutes", "")):
        raise ValueError(f"slide {number} ({title}) needs a line 'minutes: n', and has {said.get('minutes')!r}")
    if said.get("interactive", INTERACTIVE[0]) not in INTERACTIVE:
        raise ValueError(
            f"slide {number} ({title}) asks for the interactive figure {said['interactive']!r}; "
            f"allowed are {', '.join(INTERACTIVE)}"
        )
    if not notes.strip():
        raise ValueError(f"slide {number} ({title}) has no notes: put them below a line 'Note:'")
    return Slide(
        title,
        int(said["minutes"]),
        said.get("from", ""),
        said.get("figure", ""),
        said.get("interactive", ""),
        "\n".join(lines).strip(),
        notes.strip(),
    )


def read_deck(path: Path = DECK) -> list[Slide]:
    """All slides of a deck, in order."""
    parts = re.split(r"^---$", path.read_text(encoding="utf-8"), flags=re.M)
    return [slide_of(part, number) for number, part in enumerate(parts, 1)]


@functools.cache
def figures() -> dict[str, tuple[str, str, str]]:
    """The stored drawings of all chapters by their labels: SVG, what is to be seen in words, the chapter's file."""
    found = {}
    for path in sorted(BOOK.glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            about = cell["metadata"].get("mystnb", {})
            label = about.get("figure", {}).get("name")
            for output in cell.get("outputs", []) if label else []:
                drawing = output.get("data", {}).get("image/svg+xml")
                if drawing:
                    found[label] = ("".join(drawing), about.get("image", {}).get("alt", ""), path.name)
    return found


def drawn(label: str) -> str:
    """The markup of a chapter's figure."""
    if label not in figures():
        raise ValueError(f"no chapter has a stored drawing with the label {label!r}; labels begin like fig-noise-dither")
    text, alternative, _ = figures()[label]
    markup = inlined(text, f"{label}-", alternative)
    return re.sub(r'<span class="figure-parts".*?</span>', "", markup, flags=re.S)  # they are for phones


def operated(name: str) -> str:
    """The markup of an interactive figure, as the front page has it, with its still inside."""
    page = (BOOK / "index.md").read_text(encoding="utf-8")
    found = re.search(rf'^<div class="fk-figure {name}-figure".*</div>$', page, flags=re.M)
    if found is None:
        raise ValueError(f"book/index.md has no interactive figure {name!r}")

    def inside(source: re.Match[str]) -> str:
        still = base64.b64encode((STATIC / source[1]).read_bytes()).decode("ascii")
        return f'src="data:image/svg+xml;base64,{still}"'

    return re.sub(r'src="\.\./_static/([^"]*)"', inside, found[0]).replace("<div ", "<div data-prevent-swipe ", 1)


def markdown() -> MarkdownIt:
    """A renderer of slides, which leaves formulas to MathJax."""

    def formula(content: str, options: dict) -> str:
        text = escape(content.strip())
        return rf"\[{text}\]" if options["display_mode"] else rf"\({text}\)"

    return MarkdownIt("commonmark", {"html": False}).enable("table").use(dollarmath_plugin, renderer=formula)


def section(slide: Slide, render: MarkdownIt) -> str:
    """The markup of one slide."""
    picture = drawn(slide.figure) if slide.figure else operated(slide.interactive) if slide.interactive else ""
    source = f"Figure: {slide.figure} of {figures()[slide.figure][2]}\n\n" if slide.figure else ""
    about = f"{slide.minutes} min" + (f" · {slide.chapter}" if slide.chapter else "")
    return (
        f'<section class="{"picture" if picture else "plain"}" data-timing="{60 * slide.minutes}">'
        f"<h2>{escape(slide.title)}</h2>{picture}{render.render(slide.text)}"
        f'<aside class="notes">{render.render(f"**{about}**" + chr(10) * 2 + slide.notes + chr(10) * 2 + source)}</aside>'
        "</section>\n"
    )


def vendor(name: str, path: str) -> str:
    """A text file of an installed package of scripts."""
    try:
        if name == "sphinx-mathjax-offline":
            folder = Path(str(util.find_spec(name).origin)).parent / "static" / "mathjax"
        else:
            folder = Path(str(metadata.distribution(name).locate_file("sphinx_revealjs/_static/revealjs")))
        return (folder / path).read_text(encoding="utf-8")
    except (metadata.PackageNotFoundError, AttributeError, FileNotFoundError) as error:
        raise ValueError(f"{path} of the package {name} is not installed: run `make setup`") from error


def script(text: str) -> str:
    """A script inside a page: nothing in it may end it, and no address of a server that it would not reach is left."""
    text = re.sub(r"</(?=script)", r"<\\/", text, flags=re.I).replace("<!--", r"<\!--")
    return f"<script>{text.replace('https://cdn.jsdelivr.net/npm', '')}</script>\n"


STYLE = """
:root { color-scheme: light; }
.reveal { color: #1c2430; font: 30px/1.35 system-ui, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif; }
.reveal .slides { text-align: left; }
.reveal .slides section { box-sizing: border-box; height: 100%; padding: 34px 64px 40px; }
.reveal .slides section.present { display: flex !important; flex-direction: column; }
html.reveal-print body .reveal .slides .pdf-page section {
  display: flex !important; flex-direction: column; height: 719px !important; padding: 34px 64px 40px !important; }
.reveal h2 { color: #0065a4; font-size: 46px; line-height: 1.15; margin: 0 0 22px; }
.reveal p, .reveal ul, .reveal ol, .reveal table, .reveal pre { margin: 12px 0; }
.reveal ul, .reveal ol { padding-left: 1.2em; }
.reveal li { margin: 10px 0; }
.reveal table { border-collapse: collapse; }
.reveal th, .reveal td { border-bottom: 1px solid #ccd2da; padding: 8px 36px 8px 0; text-align: left; }
.reveal pre, .reveal code { background: #f2f4f7; border-radius: 4px; font-family: "DejaVu Sans Mono", monospace; }
.reveal pre { padding: 18px 24px; }
.reveal code { font-size: 0.9em; }
.reveal strong, .reveal th { font-weight: 700; }
.reveal em { font-style: italic; }
.reveal .plain { font-size: 38px; justify-content: center; }
.reveal .plain h2 { font-size: 54px; margin-bottom: 36px; }
.reveal .plain mjx-container[display="true"] { margin: 24px 0 !important; }
.reveal .slide-number { background: none; color: #5a6472; }
.reveal .drawn { display: block; flex: 1 1 0; min-height: 0; text-align: center; }
.reveal .drawn svg { height: 100%; max-width: 100% !important; width: 100%; }
.reveal .drawn ~ p { margin: 8px 0; text-align: center; }
.reveal mjx-container[display="true"] { margin: 6px 0 !important; }
.reveal .notes { display: none; }
html.reveal-print .reveal .speaker-notes-pdf[data-layout=separate-page] {
  box-sizing: border-box; font: 24px/1.4 system-ui, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif; padding: 34px 64px; }
html.reveal-print .reveal .speaker-notes-pdf[data-layout=separate-page]:last-child { page-break-after: avoid; }
.reveal .fk-figure { font-size: 22px; margin: 0; }
.reveal .fk-panel { max-width: none; }
.reveal .fk-still img { max-height: 520px; width: 100%; }
.reveal .fk-figure p { margin: 0; }
.reveal .fk-figure button { font: inherit; }
"""


def page(slides: list[Slide]) -> str:
    """The whole deck as one HTML document."""
    render = markdown()
    body = "".join(section(slide, render) for slide in slides)
    css = vendor("sphinx-revealjs", "dist/reset.css") + vendor("sphinx-revealjs", "dist/reveal.css")
    kit = (STATIC / "figure-kit.css").read_text(encoding="utf-8")
    licence = vendor("sphinx-revealjs", "LICENSE").replace("--", "- -")
    settings = (
        "window.MathJax = { tex: { inlineMath: [['\\\\(', '\\\\)']], displayMath: [['\\\\[', '\\\\]']] },"
        " svg: { fontCache: 'local' }, options: { enableMenu: false, renderActions: { assistiveMml: [] },"
        " ignoreHtmlClass: 'drawn|notes|fk-figure' } };"
    )
    start = (
        f"Reveal.initialize({{ width: {WIDTH}, height: {HEIGHT}, margin: 0, center: false, hash: true, transition: 'none',"
        f" slideNumber: 'c/t', pdfMaxPagesPerSlide: 1, totalTime: {60 * sum(slide.minutes for slide in slides)},"
        " plugins: [RevealNotes] });"
    )
    scripts = [
        settings,
        vendor("sphinx-mathjax-offline", "tex-svg.js"),
        vendor("sphinx-revealjs", "dist/reveal.js"),
        vendor("sphinx-revealjs", "plugin/notes/notes.js"),
    ]
    for name in ("figure-kit", *dict.fromkeys(slide.interactive for slide in slides if slide.interactive)):
        scripts.append((STATIC / f"{name}.js").read_text(encoding="utf-8"))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(slides[0].title)}</title>\n"
        f"<!-- Slides of anabook, Apache License 2.0. MathJax: Apache License 2.0. reveal.js:\n{licence}-->\n"
        f"<style>{css}{kit}{STYLE}</style>\n</head>\n<body>\n"
        f'<div class="reveal"><div class="slides">\n{body}</div></div>\n'
        f"{''.join(script(each) for each in scripts + [start])}</body>\n</html>\n"
    )


def print_deck(deck: Path, kinds: Sequence[str]) -> Iterator[tuple[Path, bytes]]:
    """PDFs of a deck, beside it: of its "slides", a page each, or with a page of "notes" behind each.

    Raises:
        NotPrinted: no browser was found, or a script of the deck failed.
    """
    with started() as browser, served(deck.resolve().parent) as address, profile(browser, address) as context:
        for kind in kinds:
            notes = kind == "notes"
            path = f"{quote(deck.name)}?print-pdf{'&showNotes=separate-page' if notes else ''}"
            with opened(context, address, path, PAGED) as page:
                target = deck.with_name(f"{deck.stem}{'-notes' if notes else ''}.pdf")
                yield target, printed(page, prefer_css_page_size=True)


def told(slides: list[Slide]) -> Iterator[str]:
    """What a lecturer wants to know of the deck."""
    drawings = sum(bool(slide.figure) for slide in slides)
    yield f"{len(slides)} slides, {sum(slide.minutes for slide in slides)} minutes, {drawings} figures of the chapters"


def main(arguments: list[str] | None = None) -> int:
    """Write the deck."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("deck", nargs="?", type=Path, default=DECK, help="the slides, in Markdown")
    parser.add_argument("--to", type=Path, default=OUT, help="the HTML file to write")
    parser.add_argument("--pdf", choices=PDFS, help="PDFs beside it: of the slides, with notes, or both")
    options = parser.parse_args(arguments)
    try:
        slides = read_deck(options.deck)
        text = page(slides)
        options.to.parent.mkdir(parents=True, exist_ok=True)
        options.to.write_text(text, encoding="utf-8")
        print(f"slides: {options.to} ({len(text) / 1e6:.1f} MB): {'; '.join(told(slides))}")
        for path, data in print_deck(options.to, PDFS[options.pdf]) if options.pdf else ():
            path.write_bytes(data)
            print(f"slides: {path} ({len(data) / 1e6:.1f} MB)")
    except (ValueError, OSError) as error:
        print(f"slides: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
