"""A chapter's MyST as plain Markdown, which every viewer of notebooks shows as it is meant.

Numbers of exercises, figures, equations and theorems are those of the site: the page's number in book/pages.toml, and the place
among those of its kind on the page. What this file does not know (a new role, a new directive) is refused, never passed on.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import nbformat
from pybtex.database import Person, parse_file
from pybtex.richtext import Text

BOOK = Path(__file__).resolve().parent.parent / "book"

BLOCK = re.compile(
    r"^(?P<fence>:{3,}|`{3,})\{(?P<kind>[\w:-]+)\}[ \t]*(?P<title>[^\n]*)\n(?P<body>.*?)^(?P=fence)[ \t]*$\n?",
    re.MULTILINE | re.DOTALL,
)
OPTION = re.compile(r"\A[ \t]*:(?P<name>[\w-]+):[ \t]*(?P<value>[^\n]*)\n")
ROLE = re.compile(r"\{(?P<role>[a-z]+(?::[a-z]+)?)\}`(?P<text>[^`]+)`")
TARGET = re.compile(r"^\((?P<label>[\w-]+)\)=[ \t]*\n(?:\s*\n)*(?=(?P<next>[^\n]*))", re.MULTILINE)
EQUATION = re.compile(r"\n?\$\$[ \t]*\((?P<label>eq-[\w-]+)\)")
CODE = re.compile(r"^(?P<fence>`{3,})(?!\{)[^\n]*\n.*?^(?P=fence)[ \t]*$", re.MULTILINE | re.DOTALL)


class NotPlain(ValueError):
    """A text that holds something for which there is no plain form here."""


@dataclass
class Labels:
    """What labels stand for: "Exercise 2.1", "(2.3)", "*Noise* (chapter 2)"."""

    names: dict[str, str] = field(default_factory=dict)

    def add(self, notebook: nbformat.NotebookNode, number: str) -> None:
        """Number what a page holds, in order."""
        prefix, counts = f"{number}." if number else "", Counter[str]()
        for cell in notebook.cells:
            figure = cell.metadata.get("mystnb", {}).get("figure")
            if cell.cell_type == "code" and figure:
                counts["figure"] += 1
                self.names[figure.get("name", "")] = f"Figure {prefix}{counts['figure']}"
            if cell.cell_type != "markdown":
                continue
            for block in BLOCK.finditer(cell.source):
                kind = block["kind"].removeprefix("prf:")
                options, _ = _options(block["body"])
                if kind == "exercise" or (block["kind"] != kind and kind != "proof"):
                    counts[kind] += 1
                    self.names[options.get("label", "")] = f"{kind.capitalize()} {prefix}{counts[kind]}"
                elif kind == "list-table":
                    counts[kind] += 1
                    self.names[options.get("name", "")] = f"Table {prefix}{counts[kind]}"
            for match in EQUATION.finditer(cell.source):
                counts["equation"] += 1
                self.names[match["label"]] = f"({prefix}{counts['equation']})"
            for match in TARGET.finditer(cell.source):
                title = match["next"].lstrip("# ").strip()
                self.names[match["label"]] = f"*{title}*" + (f" ({_page(number)})" if number else "")

    def __getitem__(self, label: str) -> str:
        if label not in self.names:
            raise NotPlain(f"nothing has the label {label!r}")
        return self.names[label]


def page_number(name: str) -> str:
    """The number of a page of the book, by the name of its file without suffix; "" for any other."""
    return _pages().get(name, {}).get("number", "")


@cache
def _pages() -> dict[str, dict[str, str]]:
    return tomllib.loads((BOOK / "pages.toml").read_text(encoding="utf-8"))["pages"]


@cache
def of_the_book() -> Labels:
    """The labels of all pages."""
    labels = Labels()
    for path in sorted(BOOK.iterdir()):
        if path.name.startswith(".") or path.suffix not in (".ipynb", ".md"):
            continue
        if path.suffix == ".ipynb":
            notebook = nbformat.read(path, as_version=4)
        else:
            text = path.read_text(encoding="utf-8")
            notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
        labels.add(notebook, page_number(path.stem))
    return labels


def labels_for(notebook: nbformat.NotebookNode, name: str) -> Labels:
    """The labels of the book, and those of a notebook that may be no page of it."""
    labels = Labels(dict(of_the_book().names))
    labels.add(notebook, page_number(name))
    return labels


def plain(text: str, labels: Labels, efforts: dict[str, str] | None = None) -> str:
    """A Markdown cell's text without MyST.

    Args:
        text: the cell's source.
        labels: what references stand for.
        efforts: what to say under the heading of an exercise, by label.

    Raises:
        NotPlain: a directive, role or reference that is not known here.
    """
    kept: list[str] = []

    def keep(match: re.Match) -> str:
        kept.append(match[0])
        return f"\0{len(kept) - 1}\0"

    text = _without_myst(CODE.sub(keep, text), labels, efforts or {})
    return re.sub("\0(\\d+)\0", lambda match: kept[int(match[1])], text)


def _without_myst(text: str, labels: Labels, efforts: dict[str, str]) -> str:
    """The same for a text whose code has been put aside, or a part of it."""
    text = TARGET.sub("", text)
    text = BLOCK.sub(lambda match: _block(match, labels, efforts), text)
    text = EQUATION.sub(lambda match: f" \\tag{{{labels[match['label']][1:-1]}}}\n$$", text)
    text = ROLE.sub(lambda match: _role(match["role"], match["text"], labels), text)
    text = re.sub(r"\((\*[^*\n]+\*) \(((?:chapter|appendix) \w+)\)\)", r"(\1, \2)", text)  # no brackets in brackets
    text = re.sub(r"^%.*\n?|^\+\+\+.*\n?", "", text, flags=re.MULTILINE)
    for sign in (r"^:{3,}", r"^`{3,}\{", r"\{[a-z:]+\}`"):
        if found := re.search(sign + ".{0,40}", text, re.MULTILINE):
            raise NotPlain(f"there is no plain form for {found[0]!r}")
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n")


def cited(text: str) -> list[str]:
    """The keys of works that a text cites."""
    return [
        key.strip() for match in ROLE.finditer(text) if match["role"].startswith("cite") for key in match["text"].split(",")
    ]


def reference(key: str) -> str:
    """One line for a list of references."""
    entry = _bibliography()[key]
    where = next(
        (entry.fields[name] for name in ("journal", "booktitle", "publisher", "howpublished") if name in entry.fields), ""
    )
    doi, eprint, url = (entry.fields.get(name, "") for name in ("doi", "eprint", "url"))
    link = f"https://doi.org/{doi}" if doi else f"https://arxiv.org/abs/{eprint}" if eprint else url
    parts = [f"{_authors(key, most=6)} ({entry.fields.get('year', 'n.d.')}). *{_tex(entry.fields['title'])}*."]
    parts += [f"{_tex(where)}."] if where else []
    return " ".join([*parts, *([f"<{link}>"] if link else [])])


def exercise_name(label: str, labels: Labels) -> str:
    """Number and label of an exercise: "Exercise 2.1 (ex-noise-1)"."""
    return f"{labels[label]} ({label})" if label in labels.names else f"Exercise ({label})"


def _block(match: re.Match, labels: Labels, efforts: dict[str, str]) -> str:
    kind, title = match["kind"], match["title"].strip()
    options, body = _options(match["body"])
    inner = _without_myst(body, labels, efforts)
    label = options.get("label", "")
    if kind == "exercise":
        effort = f"*{efforts[label]}*\n\n" if label in efforts else ""
        return f"### {exercise_name(label, labels)}: {title}\n\n{effort}{inner}\n"
    if kind == "prf:proof":
        return f"*Proof{' of ' + title if title else ''}.* {inner} ∎\n"
    if kind.startswith("prf:"):
        return f"**{labels[label]}{' (' + title + ')' if title else ''}.** {inner}\n"
    if kind in ("admonition", "note", "tip", "warning"):
        return f"**{title or kind.capitalize()}**\n\n{inner}\n"
    if kind == "raw":
        return "*The page of this chapter has an interactive figure here.*\n"
    if kind == "list-table":
        return f"**{labels.names.get(options.get('name', ''), 'Table')}.** {title}\n\n{_table(inner)}\n"
    raise NotPlain(f"there is no plain form for the directive {{{kind}}}")


def _table(text: str) -> str:
    """A list of lists as a table with bars; its first row is the heading."""
    rows = [
        [" ".join(cell.split()) for cell in re.split(r"^\s*-(?=\s|$)", row, flags=re.MULTILINE)[1:]]
        for row in re.split(r"^\*", text, flags=re.MULTILINE)[1:]
    ]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _options(body: str) -> tuple[dict[str, str], str]:
    options = {}
    while match := OPTION.match(body):
        options[match["name"]] = match["value"].strip()
        body = body[match.end() :]
    return options, body.strip("\n")


def _role(role: str, text: str, labels: Labels) -> str:
    shown = re.fullmatch(r"(?P<shown>.*?)\s*<(?P<label>[^>]*)>", text, re.DOTALL)
    label = shown["label"] if shown else text.strip()
    if role == "term":
        return shown["shown"] if shown else text
    if role == "eq":
        return labels[label]
    if role in ("ref", "prf:ref", "numref"):
        name = labels[label]
        return shown["shown"].replace("{number}", name.rpartition(" ")[2]) if shown else name
    if role in ("cite", "cite:p", "cite:t"):
        works = [(_authors(key.strip()), _year(key.strip())) for key in text.split(",")]
        if role == "cite:t":
            return " and ".join(f"{authors} ({year})" for authors, year in works)
        return "(" + "; ".join(f"{authors}, {year}" for authors, year in works) + ")"
    raise NotPlain(f"there is no plain form for the role {{{role}}}")


def _page(number: str) -> str:
    return f"chapter {number}" if number[0].isdigit() else f"appendix {number}"


@cache
def _bibliography() -> dict:
    return dict(parse_file(str(BOOK / "references.bib")).entries)


def _year(key: str) -> str:
    if key not in _bibliography():
        raise NotPlain(f"the bibliography has no {key!r}")
    return _bibliography()[key].fields.get("year", "n.d.")


def _authors(key: str, most: int = 2) -> str:
    if key not in _bibliography():
        raise NotPlain(f"the bibliography has no {key!r}")
    people = _bibliography()[key].persons
    names = [_last(person) for person in people.get("author", people.get("editor", []))]
    if len(names) > most:
        return f"{names[0]} et al."
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else key


def _last(person: Person) -> str:
    return _tex(" ".join([*person.prelast_names, *person.last_names]))


def _tex(text: str) -> str:
    return str(Text.from_latex(text)).replace("\xa0", " ")
