"""The figure pack: every labelled figure of the book, fit to be used elsewhere, with all that is said of it."""

from __future__ import annotations

import csv
import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import figure_pack  # noqa: E402
import plain  # noqa: E402

pypdf = pytest.importorskip("pypdf")

CHAPTERS = sorted((ROOT / "book").glob("*.ipynb"))
HREF = "{http://www.w3.org/1999/xlink}href"


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    """A folder with the pack, where one of a figure that the book no longer has lay before."""
    folder = tmp_path_factory.mktemp("pack")
    (folder / "figures.json").write_text('[{"label": "fig-gone"}]', encoding="utf-8")
    (folder / "fig-gone.svg").write_text("<svg/>", encoding="utf-8")
    assert figure_pack.main(["--to", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def rows(pack):
    return json.loads((pack / "figures.json").read_text(encoding="utf-8"))


def labelled():
    """The labels of figures in the chapters' cells, read from the text of the files."""
    return [label for path in CHAPTERS for label in re.findall(r'"name": "(fig-[\w-]+)"', path.read_text(encoding="utf-8"))]


def test_every_labelled_figure_is_in_the_pack_once_and_nothing_that_is_gone(pack, rows):
    labels = [row["label"] for row in rows]
    assert len(labels) == len(set(labels)) > 80
    assert {label for label in labels if label.startswith("fig-")} == set(labelled())
    expected = {f"{label}.{kind}" for label in labels for kind in ("svg", "pdf")}
    assert {path.name for path in pack.iterdir()} == expected | {"figures.csv", "figures.json", "index.html", "LICENSE.txt"}


def test_stills_of_the_figures_to_operate_are_in_it_too(rows):
    stills = {path.name.removesuffix("-still.svg") for path in (ROOT / "book" / "_static").glob("*-still.svg")}
    assert {row["label"].removeprefix("still-") for row in rows if not row["number"]} == stills


def test_numbers_captions_and_alternative_texts_are_those_of_the_book(rows):
    numbers = plain.of_the_book()
    for row in rows:
        assert len(row["alternative"]) >= 40 and not re.search(r"\.(svg|png)$", row["alternative"]), row["label"]
        assert len(row["caption"]) >= 20 and "{" not in re.sub(r"\$.*?\$", "", row["caption"]), row["label"]
        if row["label"].startswith("fig-"):
            assert row["number"] == numbers[row["label"]] and re.fullmatch(r"Figure \w+\.\d+", row["number"])
            assert row["number"].startswith(f"Figure {plain.page_number(row['page'])}.")


def test_the_table_says_the_same_as_the_json(pack, rows):
    with (pack / "figures.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == rows


def test_a_drawing_has_no_script_no_address_and_names_of_its_own(pack, rows):
    everywhere = Counter()
    for row in rows:
        root = ElementTree.parse(pack / f"{row['label']}.svg").getroot()
        names = [element.get("id") for element in root.iter() if element.get("id")]
        everywhere.update(names)
        assert all(name.startswith(f"{row['label']}-") for name in names), row["label"]
        for element in root.iter():
            kind = element.tag.rpartition("}")[2]
            assert kind not in ("script", "style", "foreignObject"), row["label"]
            assert not [name for name in element.attrib if name.rpartition("}")[2].startswith("on")], row["label"]
            for link in filter(None, (element.get(HREF), element.get("href"))):
                assert link[1:] in names or link.startswith("data:image/png;base64,"), (row["label"], link[:40])
            used = re.findall(r"url\(#([^)]*)\)", " ".join(element.attrib.values()))
            assert set(used) <= set(names), row["label"]
        assert root.find("{*}desc").text == row["alternative"] and root.get("role") == "img"
    assert max(everywhere.values()) == 1


def test_a_pdf_is_one_page_of_the_drawings_size_with_the_same_words(pack, rows):
    for row in rows:
        document = pypdf.PdfReader(pack / f"{row['label']}.pdf", strict=True)
        (page,) = document.pages
        head = (pack / f"{row['label']}.svg").read_text(encoding="utf-8").partition(">")[0]
        size = [
            float(value) * (1 if unit else 0.75) for value, unit in re.findall(r' (?:width|height)="([\d.]+)(pt)?"', head)
        ]
        assert [float(page.mediabox.width), float(page.mediabox.height)] == pytest.approx(size, abs=0.1), row["label"]
        assert document.metadata.subject == row["alternative"] and row["caption"] in document.metadata.title
        assert bytes(page.get_contents().get_data())
        stands = list(page.images) if row["kind"] == "pixels" else []
        assert len(stands) == (row["kind"] == "pixels"), row["label"]


def test_drawings_stay_drawings_and_pixels_are_said_to_be_pixels(pack, rows):
    for row in rows:
        svg = (pack / f"{row['label']}.svg").read_text(encoding="utf-8")
        assert ("<path" in svg or "<rect" in svg or "<text" in svg) == (row["kind"] == "drawing"), row["label"]


def test_the_contact_sheet_shows_all_with_their_texts_and_links(pack, rows):
    class Sheet(HTMLParser):
        images, links = {}, set()

        def handle_starttag(self, tag, attributes):
            said = dict(attributes)
            if tag == "img":
                self.images[said["src"]] = said["alt"]
            elif tag == "a":
                self.links.add(said["href"])

    sheet = Sheet()
    sheet.feed((pack / "index.html").read_text(encoding="utf-8"))
    assert sheet.images == {f"{row['label']}.svg": row["alternative"] for row in rows}
    assert {path.name for path in pack.iterdir()} - {"index.html"} == sheet.links


def test_pictures_of_others_name_their_licence(rows):
    """Cells that show a photograph, digits or sounds that the book did not make."""
    licences = {row["label"]: row["licence"] for row in rows}
    for path in CHAPTERS:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            label = cell["metadata"].get("mystnb", {}).get("figure", {}).get("name")
            if label and re.search(r"china|load_sample_image|imshow\(digits\.|x_test\[|mnist", "".join(cell["source"])):
                assert licences[label] != figure_pack.OURS, label
    assert "CC BY 2.0" in licences["fig-strategies-photo"] and "CC BY 2.0" in licences["still-strategies"]


def test_the_same_book_gives_the_same_bytes(pack):
    first = figure_pack.figures()[0]
    assert figure_pack.pdf(pack / f"{first.label}.svg", first) == (pack / f"{first.label}.pdf").read_bytes()


@pytest.mark.parametrize(
    "svg, says",
    [
        ("<html>", "must be an svg element"),
        ('<svg viewBox="0 0 1 1"><script>0</script></svg>', "<script"),
        ('<svg viewBox="0 0 1 1"><image href="http://example.org/a.png"/></svg>', "example.org"),
        ('<svg viewBox="0 0 1 1"><g onclick="0"/></svg>', "onclick"),
        ('<svg viewBox="0 0 1 1"><g style="fill: url(https://example.org/x)"/></svg>', "example.org"),
    ],
)
def test_what_is_not_fit_for_the_pack_is_refused(svg, says):
    with pytest.raises(ValueError, match="fig-x") as refusal:
        figure_pack.standalone(svg, "fig-x", "title", "words")
    assert says in str(refusal.value)


def test_a_folder_that_cannot_be_written_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert figure_pack.main(["--to", str(tmp_path / "file" / "pack")]) == 2
    assert "file" in capsys.readouterr().err
