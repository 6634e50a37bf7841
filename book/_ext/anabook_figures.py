"""The chapters' figures inside their pages: drawings that follow light and dark, with panels that stack on a phone.

The notebooks hold them as SVG (`anabook.plots.inline`). A picture in an <img> element knows nothing of the page's theme, so
it is put into the page itself, and each of its colours gets a second one for the dark. Pictures with pixels in them keep
their white paper: what is written on the pixels would change its colour, and they would not.
"""

from __future__ import annotations

import colorsys
import re
from html import escape
from itertools import count
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

INK, PAPER = "#e6e9ee", "#14181e"  # on dark pages: text, and the ground of the theme
ON_DARK = 4.5  # the contrast of what stood out from white, on PAPER


def rgb(colour: str) -> tuple[float, float, float]:
    """Red, green and blue of #rrggbb, from 0 to 1."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


def luminance(colour: str) -> float:
    """The relative luminance of WCAG 2."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, two: str) -> float:
    """The contrast of two colours, from 1 to 21."""
    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)


def in_the_dark(colour: str) -> str:
    """The colour that does on dark ground what this one does on white.

    Greys go from INK to PAPER as they went from black to white. A colour keeps its hue and turns its lightness round; if it
    stood out from white as a line does, it is lightened until it stands out from PAPER.
    """
    hue, light, saturation = colorsys.rgb_to_hls(*rgb(colour))
    if saturation < 0.12 or light in (0.0, 1.0):
        parts = [light * paper + (1 - light) * ink for ink, paper in zip(rgb(INK), rgb(PAPER))]
        return "#" + "".join(f"{round(255 * part):02x}" for part in parts)
    line = contrast(colour, "#ffffff") >= 2.5
    light = 1 - light
    while True:
        turned = "#" + "".join(f"{round(255 * part):02x}" for part in colorsys.hls_to_rgb(hue, light, saturation))
        if not line or contrast(turned, PAPER) >= ON_DARK or light >= 1:
            return turned
        light = min(light + 0.01, 1.0)


def two_colours(text: str) -> str:
    """Each fill and stroke once for light pages and once for dark ones; the first alone for browsers that know no other."""

    def both(found: re.Match[str]) -> str:
        what, colour = found[1], found[2].lower()
        return f"{what}: {colour}; {what}: light-dark({colour}, {in_the_dark(colour)})"

    return re.sub(r"\b(fill|stroke|stop-color): (#[0-9a-fA-F]{6})\b", both, text)


def smaller(text: str) -> str:
    """A drawing without comments and without the white space between and in its tags; the same picture."""
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    return re.sub(r' +(?="|/>)', "", re.sub(r"\s*\n\s*", " ", re.sub(r">\s+<", "><", text))).strip()


def inlined(text: str, key: str, words: str) -> str:
    """The markup of a figure.

    Args:
        text: the SVG element.
        key: what the names in it begin with; no other figure of the page may have the same.
        words: what is to be seen, for those who do not see it.
    """
    text = re.sub(r"<style.*?</style>", "", text, flags=re.S)  # it would hold for the whole page
    text = smaller(re.sub(r"<(title|metadata)\b.*?</\1>", "", text, flags=re.S))
    for pattern in (r'\bid="', r'xlink:href="#', r"url\(#"):
        text = re.sub(pattern, lambda found: found[0] + key, text)
    paper = "<image" in text
    if not paper:
        text = two_colours(text)
    head = re.match(r"<svg ([^>]*)>", text)
    box = re.search(r'viewBox="([^"]*)"', head[1]) if head else None
    if head is None or box is None:
        raise ValueError(f"a figure must be an svg element with a viewBox, and one begins with {text[:60]!r}")
    left, top, width, height = (float(number) for number in box[1].split())
    whole = (
        f'<svg class="figure-whole" role="img" aria-label="{escape(words, quote=True)}" viewBox="{box[1]}" '
        f'style="max-width: {width * 96 / 72:.0f}px" xmlns:xlink="http://www.w3.org/1999/xlink">'
        f'<g id="{key}all">{text[head.end() : text.rindex("</svg>")]}</g></svg>'
    )
    columns = re.search(r'data-panels="([^"]*)"', head[1])
    parts = ""
    for place in columns[1].split() if columns else ():
        start, end = (float(number) for number in place.split(","))
        part = f"{left + start * width:.2f} {top:.2f} {(end - start) * width:.2f} {height:.2f}"
        parts += f'<svg class="figure-part" viewBox="{part}"><use href="#{key}all"/></svg>'
    kind = " on-paper" if paper else ""
    rest = f'<span class="figure-parts" aria-hidden="true">{parts}</span>' if parts else ""
    return f'<span class="drawn{" in-parts" if parts else ""}{kind}">{whole}{rest}</span>'


def standalone(svg: str, label: str, title: str, words: str) -> str:
    """A drawing that can stand alone, and beside others in one document: its names begin with its label, it has no style sheet.

    Raises:
        ValueError: no SVG, or one with a script or an address in it.
    """
    head = re.match(r"<svg ([^>]*)>", svg.strip())
    if head is None:
        raise ValueError(f"{label} must be an svg element, and begins with {svg.strip()[:40]!r}")
    if wrong := re.search(
        r"<script|\son\w+=|<foreignObject|href=\"(?!#|data:image/)[^\"]*\"|url\((?!#)[^)]*\)", svg, flags=re.I
    ):
        raise ValueError(f"{label} has {wrong[0]!r} in it: a figure of the pack may have no script and no address")
    attributes = re.sub(r'\s*\b(?:data-panels|role|aria-label|xmlns(?::xlink)?)="[^"]*"', "", head[1])
    body = svg.strip()[head.end() : svg.strip().rindex("</svg>")]
    joins = ' stroke-linejoin="round" stroke-linecap="butt"' if "<style" in body else ""
    body = re.sub(r"<style.*?</style>|<(title|metadata)\b.*?</\1>|<defs>\s*</defs>", "", body, flags=re.S)
    for pattern in (r'\bid="', r'href="#', r"url\(#"):
        body = re.sub(pattern, lambda found: f"{found[0]}{label}-", body)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'{attributes.strip()}{joins} role="img" aria-labelledby="{label}-title {label}-desc">\n'
        f'<title id="{label}-title">{escape(title)}</title>\n'
        f'<desc id="{label}-desc">{escape(words)}</desc>\n{body.strip()}\n</svg>\n'
    )


def inline_figures(app: Sphinx, doctree: nodes.document, name: str) -> None:
    """Put the notebooks' SVG pictures into their page."""
    if app.builder.format != "html":
        return
    number = count(1)
    for image in list(doctree.findall(nodes.image)):
        uri = image["uri"]
        if uri.endswith(".svg") and "jupyter_execute" in uri:
            text = (Path(app.srcdir) / uri).read_text(encoding="utf-8")
            drawn = inlined(text, f"f{next(number)}-", image.get("alt", ""))
            image.replace_self(nodes.raw("", drawn, format="html"))


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the handler above."""
    app.connect("doctree-resolved", inline_figures)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
