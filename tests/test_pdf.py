"""Printed pages made into a book, without a browser: bookmarks, links, page numbers, structure; and what the tools refuse."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, DictionaryObject, Fit, FloatObject, NameObject, NumberObject, TextStringObject

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import pdf  # noqa: E402
from pdf_joining import ABOVE, BOOKMARK, Book, Heading, Part, destinations, outline, part_of  # noqa: E402

SITE = "http://127.0.0.1:4711"
ALICE = ["1. A title that breaks in  two", "First section", "Below it", "Deeper", "Second section"]


def named(**values):
    return DictionaryObject({NameObject(f"/{name}"): value for name, value in values.items()})


def link(writer, page, key, **where):
    """A link on a page, as a browser writes it."""
    made = named(Type=NameObject("/Annot"), Subtype=NameObject("/Link"), StructParent=NumberObject(key), **where)
    made[NameObject("/Rect")] = ArrayObject([FloatObject(each) for each in (50, 50, 90, 60)])
    writer.pages[page].setdefault(NameObject("/Annots"), ArrayObject()).append(writer._add_object(made))
    return made


def to(address):
    return named(S=NameObject("/URI"), URI=TextStringObject(address))


def printed(name, titles, links=(), places=()):
    """A document of three pages, such as a browser prints: titles are (depth, text, page, height), places (name, page, height)."""
    writer = PdfWriter()
    for _ in range(3):
        writer.add_blank_page(width=595, height=842)
    above = []
    for depth, text, page, top in titles:
        del above[depth:]
        parent = above[-1] if above else None
        above.append(writer.add_outline_item(title=text, page_number=page, parent=parent, fit=Fit.xyz(0, top, 0)))
    dests = DictionaryObject()
    for place, page, top in places:
        target = ArrayObject(
            [writer.pages[page].indirect_reference, NameObject("/XYZ"), NumberObject(0), FloatObject(top), NumberObject(0)]
        )
        dests[NameObject(f"/{place}")] = target
    writer.root_object[NameObject("/Dests")] = dests
    annotations = [link(writer, 0, key, **where) for key, where in enumerate(links, 1)]

    # A heading with a letter in a wrapper, a paragraph with a link, and a picture.
    first = writer.pages[0].indirect_reference
    element = lambda kind, *inside, **about: writer._add_object(  # noqa: E731
        named(Type=NameObject("/StructElem"), S=NameObject(f"/{kind}"), K=ArrayObject(inside), Pg=first, **about)
    )
    wrapped = element("NonStruct", NumberObject(0), NumberObject(2))
    linked = [named(Type=NameObject("/OBJR"), Obj=each.indirect_reference) for each in annotations]
    cell = element("TH", A=ArrayObject([named(O=NameObject("/Table"), Headers=ArrayObject([TextStringObject("n1")]))]))
    root = named(Type=NameObject("/StructTreeRoot"))
    inside = (
        element("H1", wrapped),
        element("P", NumberObject(1), *linked),
        element("Figure", Alt=TextStringObject(f"what {name} shows")),
    )
    root[NameObject("/K")] = element("Document", *inside, cell)
    writer.root_object[NameObject("/StructTreeRoot")] = writer._add_object(root)
    data = io.BytesIO()
    writer.write(data)
    return data.getvalue()


@pytest.fixture(scope="module")
def parts():
    alice = printed(
        "alice",
        [
            (0, "1. A title thatbreaks intwo", 0, 800),
            (1, "First section", 0, 500),
            (2, "Below it", 1, 700),
            (3, "Deeper", 1, 300),
            (1, "Second section", 2, 640),
        ],
        links=[
            {"Dest": NameObject("/near")},
            {"A": to(f"{SITE}/book/bob.html#far%20away")},
            {"A": to(f"{SITE}/book/bob.html?solutions=hidden")},
            {"A": to(f"{SITE}/book/carol.html#x")},
            {"A": to("https://example.org/book/bob.html")},
            {"A": to(f"{SITE}/book/bob.html#{BOOKMARK}1")},
        ],
        places=[("near", 2, 321.5)],
    )
    bob = printed("bob", [(0, "2. Bob", 0, 810), (1, "Only section", 2, 100)], places=[("far%20away", 1, 222)])
    return [part_of("alice", alice, ALICE), part_of("bob", bob, ["2. Bob", "Only section"])]


def joined(parts, **settings):
    book = Book(SITE, **settings)
    for part in parts:
        book.add(part)
    return PdfReader(io.BytesIO(book.bytes("A book")))


def led(reader, page=0):
    """Where the links of a page lead: a page from 0 and a height, an address, another file with a place, or nowhere."""
    numbers = {each.indirect_reference.idnum: number for number, each in enumerate(reader.pages)}
    found = []
    for reference in reader.pages[page]["/Annots"]:
        made = reference.get_object()
        assert made["/P"].get_object() == reader.pages[page].get_object()
        if "/Dest" in made:
            place = made["/Dest"]
            found.append((numbers[place[0].idnum], place[3] if place[1] == "/XYZ" else None))
        elif "/A" in made:
            action = made["/A"]
            found.append(action["/URI"] if action["/S"] == "/URI" else (action["/F"], action["/D"]))
        else:
            found.append(None)
    return found


def bookmarks(reader):
    def walk(items, depth):
        found = []
        for each in items:
            if isinstance(each, list):
                found += walk(each, depth + 1)
            else:
                found.append((depth, each.title, reader.get_destination_page_number(each), each.top))
        return found

    return walk(reader.outline, 0)


def test_headings_have_the_words_of_the_page_and_their_places(parts):
    assert outline(parts[0]) == [
        Heading(0, "1. A title that breaks in two", 0, 800),
        Heading(1, "First section", 0, 500),
        Heading(2, "Below it", 1, 700),
        Heading(3, "Deeper", 1, 300),
        Heading(1, "Second section", 2, 640),
    ]
    assert destinations(parts[1]) == {"far away": (1, 222)}


def test_bookmarks_of_a_book_lead_to_its_pages_and_end_at_the_third_level(parts):
    assert bookmarks(joined(parts)) == [
        (0, "1. A title that breaks in two", 0, 800 + ABOVE),
        (1, "First section", 0, 500 + ABOVE),
        (2, "Below it", 1, 700 + ABOVE),
        (1, "Second section", 2, 640 + ABOVE),
        (0, "2. Bob", 3, 810 + ABOVE),
        (1, "Only section", 5, 100 + ABOVE),
    ]


def test_links_lead_into_the_book_and_to_the_world_and_no_longer_to_the_site(parts):
    book = joined(parts)
    assert led(book) == [(2, 321.5), (4, 222), (3, None), None, "https://example.org/book/bob.html", (5, 100 + ABOVE)]


def test_links_of_a_chapter_lead_into_the_files_of_others(parts):
    chapter = joined(parts[:1], elsewhere=["alice", "bob"])
    assert led(chapter)[:5] == [
        (2, 321.5),
        ("bob.pdf", "/far%20away"),
        ("bob.pdf", [0, "/Fit"]),
        None,
        "https://example.org/book/bob.html",
    ]
    other = joined(parts[1:])
    assert other.root_object["/Dests"]["/far%20away"][3] == 222  # the place that the second link names


def test_pages_are_numbered_through_and_those_in_front_with_letters(parts):
    front = Part("contents", parts[1].document, [], front=True)
    book = joined([front, *parts])
    assert list(book.page_labels) == ["i", "ii", "iii", "1", "2", "3", "4", "5", "6"]
    texts = [page.extract_text().split("\n") for page in book.pages]
    assert texts[0] == [""]
    assert [text[-1].rsplit(" ", 1)[-1] for text in texts[3:]] == ["1", "2", "3", "4", "5", "6"]
    assert "A title that breaks in two" in " ".join(texts[3]) and "2. Bob" in " ".join(texts[6])


def test_structure_is_carried_over_without_wrappers_and_every_key_finds_its_owner(parts):
    book = joined(parts)
    root = book.root_object["/StructTreeRoot"]
    whole = root["/K"]
    assert whole["/S"] == "/Document" and [each.get_object()["/S"] for each in whole["/K"]] == ["/Part", "/Part"]
    rows = root["/ParentTree"]["/Nums"]
    owners = dict(zip(rows[::2], rows[1::2]))
    assert sorted(owners) == list(range(root["/ParentTreeNextKey"]))
    for part, first, name in zip(whole["/K"], (0, 3), ("alice", "bob")):
        heading, paragraph, picture, cell = (each.get_object() for each in part.get_object()["/K"])
        assert [each["/S"] for each in (heading, paragraph, picture, cell)] == ["/H1", "/P", "/Figure", "/TH"]
        assert picture["/Alt"] == f"what {name} shows"
        assert "/Headers" not in cell["/A"][0] and cell["/A"][0]["/O"] == "/Table"
        page = book.pages[first]
        assert [each["/MCID"] for each in heading["/K"]] == [0, 2]
        assert all(each["/Pg"].get_object() == page.get_object() for each in heading["/K"])
        marked = owners[page["/StructParents"]].get_object()
        assert [each.get_object()["/S"] for each in marked] == ["/H1", "/P", "/H1"]
        for reference in page.get("/Annots", ()):
            assert owners[reference.get_object()["/StructParent"]].get_object() == paragraph


def test_a_book_says_its_title_and_language(parts):
    book = joined(parts)
    assert book.metadata.title == "A book"
    root = book.root_object
    assert root["/Lang"] == "en-GB" and root["/MarkInfo"]["/Marked"] and root["/ViewerPreferences"]["/DisplayDocTitle"]


def test_contents_have_the_numbers_of_pages_and_links_to_bookmarks(parts):
    text = pdf.contents([("", parts[:1]), ("A & B", parts[1:])], SITE)
    assert "<h3>A &amp; B</h3>" in text
    assert f'<a href="{SITE}/book/alice.html#{BOOKMARK}4"><span>Second section</span><span>3</span></a>' in text
    assert f'<a href="{SITE}/book/bob.html#{BOOKMARK}1"><span>Only section</span><span>6</span></a>' in text
    assert "Below it" not in text


def test_the_book_has_the_pages_of_the_table_of_contents_in_their_order():
    text = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    names = [name for _, pages in pdf.pages_in_order() for name in pages]
    assert names[0] == "index" and len(names) == len(set(names)) == 1 + sum(len(part["chapters"]) for part in text["parts"])
    assert all(list((ROOT / "book").glob(f"{name}.*")) for name in names)


def test_places_are_those_that_other_pages_lead_to(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "a.html").write_text(
        '<a href="b.html#one%201">x</a> <a href="#here">y</a> <a href="../index.html#z">z</a>'
    )
    assert pdf.places_linked_to(tmp_path) == {"b": {"one 1"}}


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [([], ["02-noise", "04-zoo"]), (["04-zoo"], ["04-zoo"]), (["book/04-zoo.ipynb", "04-zoo"], ["04-zoo"])],
)
def test_chapters_are_chosen_by_name_or_file(asked, wanted):
    assert pdf.chosen(asked, ["02-noise", "04-zoo"]) == wanted


def run(tool, *arguments, browser=None):
    environment = {**os.environ, **({"ANABOOK_BROWSER": browser} if browser else {})}
    command = [sys.executable, str(ROOT / "tools" / tool), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def refused(done):
    """What a tool said that ended with exit code 2: one line."""
    assert done.returncode == 2 and len(done.stderr.strip().split("\n")) == 1, done.stderr
    return done.stderr.strip()


def test_a_page_that_there_is_not_is_refused_with_a_suggestion():
    assert refused(run("pdf.py", "--chapters", "04-zo")) == "pdf: the book has no page '04-zo'; did you mean '04-zoo'?"


def test_a_site_that_is_not_built_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"02-noise\.html is not there: run `make site` first"):
        pdf.print_book(["02-noise"], False, "hidden", tmp_path, site=tmp_path)


def test_without_a_browser_one_sentence_says_what_to_install(tmp_path):
    deck = tmp_path / "deck.html"
    said = refused(run("slides.py", "--to", deck, "--pdf", "both", browser="/nosuch/browser"))
    assert said.startswith("slides: no Chromium or Chrome was found") and "ANABOOK_BROWSER" in said
    assert deck.is_file() and not list(tmp_path.glob("*.pdf"))


def test_without_a_browser_nothing_is_printed(tmp_path, monkeypatch):
    monkeypatch.setenv("ANABOOK_BROWSER", "/nosuch/browser")
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "02-noise.html").write_text("<article></article>", encoding="utf-8")
    with pytest.raises(ValueError, match="no Chromium or Chrome was found"):
        pdf.print_book(["02-noise"], False, "hidden", tmp_path / "out", site=tmp_path)
    assert not (tmp_path / "out").exists()
