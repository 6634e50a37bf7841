"""Concept questions with feedback for every option, from book/questions.toml.

`concept-questions` takes the name of a part of the book and shows its questions: fields with options to choose from, and below
them a folded list of all answers. That much is plain HTML, which can be read without a script and on paper. A script
(book/_static/questions.js) lets a reader check an answer on the spot, and a lecturer show a question to a class and count hands.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

FILE = "book/questions.toml"
LETTERS = "ABCD"
EXPECTED = "(Of the wrong answers, we expect this one most often.)"


@dataclass(frozen=True)
class Option:
    """What can be chosen, and what is said to who chooses it; both in Markdown."""

    text: str
    why: str


@dataclass(frozen=True)
class Question:
    """A question, its options in their order, the letter of the right one and that of the likeliest mistake."""

    label: str
    part: str
    chapter: str
    text: str
    options: tuple[Option, ...]
    right: str
    tempting: str

    @property
    def lettered(self) -> Iterable[tuple[str, Option]]:
        """The options with their letters."""
        return zip(LETTERS, self.options)


def read(path: Path) -> list[Question]:
    """The questions of a file, in its order.

    Raises:
        ValueError: an entry that is none, in a sentence with its label.
    """
    tables = tomllib.loads(path.read_text(encoding="utf-8")).get("questions", [])
    found = [_question(table, f"question {table.get('label', number)!r}") for number, table in enumerate(tables, start=1)]
    labels = [question.label for question in found]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(f"{path.name}: the label {label!r} is given to {labels.count(label)} questions; expected one.")
    return found


def _question(table: dict[str, Any], where: str) -> Question:
    names = [each.name for each in fields(Question)]
    if set(table) != set(names):
        raise ValueError(f"{where} has the keys {', '.join(sorted(table))}; expected {', '.join(names)}.")
    options = table["options"]
    if not isinstance(options, list) or not 3 <= len(options) <= len(LETTERS):
        raise ValueError(f"{where} must have three or four options, not {options!r}.")
    for option in options:
        if set(option) != {"text", "why"} or not all(isinstance(each, str) and each.strip() for each in option.values()):
            raise ValueError(f"each option of {where} must be a text and a why, not {option!r}.")
    letters = LETTERS[: len(options)]
    for name in ("right", "tempting"):
        if table[name] not in tuple(letters):
            raise ValueError(f"{name} of {where} must be one of {', '.join(letters)}, not {table[name]!r}.")
    if table["right"] == table["tempting"]:
        raise ValueError(f"the tempting answer of {where} must be a wrong one, not {table['right']!r}, which is right.")
    return Question(**{**table, "options": tuple(Option(**option) for option in options)})


class html_box(nodes.General, nodes.Element):
    """An element of HTML that holds others: its name in `tag`, what stands in its start tag in `given`."""


class html_line(nodes.General, nodes.TextElement):
    """An element of HTML that holds text, in the same form."""


BOXES = ("div", "fieldset", "details", "ul")


def element(tag: str, *children: nodes.Node, **given: str) -> html_box | html_line:
    """An element with attributes; an underscore at the end of a name is dropped, others become hyphens."""
    attributes = {name.rstrip("_").replace("_", "-"): text for name, text in given.items()}
    if tag in BOXES:
        return html_box("", *children, tag=tag, given=attributes)
    return html_line("", "", *children, tag=tag, given=attributes)


def visit(self: Any, node: html_box | html_line) -> None:
    """Write the start tag."""
    attributes = "".join(f' {name}="{escape(text, quote=True)}"' for name, text in node["given"].items())
    self.body.append(f"<{node['tag']}{attributes}>")


def depart(self: Any, node: html_box | html_line) -> None:
    """Write the end tag, of elements that have one."""
    if node["tag"] != "input":
        self.body.append(f"</{node['tag']}>\n")


class ConceptQuestions(SphinxDirective):
    """The questions of one part, and their answers."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """The fields, then the folded list."""
        path = Path(self.env.srcdir) / FILE
        self.env.note_dependency(str(path))
        try:
            questions = read(path)
        except (ValueError, OSError) as error:
            raise self.error(str(error)) from error
        part = self.arguments[0]
        parts = list(dict.fromkeys(question.part for question in questions))
        if part not in parts:
            raise self.error(f"there are no questions on {part!r}; there are on {', '.join(parts)}.")
        chosen = [question for question in questions if question.part == part]
        numbered = [(f"{parts.index(part) + 1}.{place}", question) for place, question in enumerate(chosen, start=1)]
        summary = element("summary", nodes.Text(f"Answers to the ten questions on “{part}”"))
        answers = element("details", summary, *(self.answer(*each) for each in numbered), class_="cq-answers")
        return [*(self.field(*each) for each in numbered), answers]

    def inline(self, text: str) -> list[nodes.Node]:
        """A line of Markdown."""
        found, messages = self.state.inline_text(text, self.lineno)
        return [*found, *messages]

    def field(self, number: str, question: Question) -> nodes.Node:
        """A question with its options; other pages refer to it by its label."""
        standard = self.env.get_domain("std")
        standard.data["labels"][question.label] = self.env.docname, question.label, f"question {number}"
        standard.data["anonlabels"][question.label] = self.env.docname, question.label
        name = element("span", nodes.Text(number), class_="cq-number")
        legend = element("legend", name, nodes.Text(" "), *self.inline(question.text))
        rows = []
        for letter, option in question.lettered:
            radio = element("input", type="radio", name=question.label, value=letter)
            sign = element("span", nodes.Text(letter), class_="cq-letter")
            words = element("span", *self.inline(option.text), class_="cq-words")
            option_ = element("label", radio, nodes.Text(" "), sign, nodes.Text(" "), words, class_="cq-option")
            rows.append(element("div", option_, class_="cq-row"))
        source = element("p", nodes.Text("See "), *self.inline(f"{{ref}}`{question.chapter}`"), class_="cq-source")
        return element("div", element("fieldset", legend, *rows), source, class_="cq", id=question.label, data_number=number)

    def answer(self, number: str, question: Question) -> nodes.Node:
        """What is said to each of the options."""
        rows = []
        for letter, option in question.lettered:
            is_right = letter == question.right
            verdict = element("strong", nodes.Text("Right." if is_right else "No."))
            said = [element("span", nodes.Text(f"{letter}:"), class_="cq-letter"), nodes.Text(" "), verdict, nodes.Text(" ")]
            said += self.inline(option.why)
            said += [nodes.Text(f" {EXPECTED}")] if letter == question.tempting else []
            rows.append(element("li", *said, data_letter=letter, data_verdict="right" if is_right else "wrong"))
        title = element("p", nodes.Text(f"{number}: {question.right}"), class_="cq-number")
        return element("div", title, element("ul", *rows), class_="cq-answer", data_of=question.label)


def add_files(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Give the pages that have questions the script and the style sheet."""
    if doctree is not None and any(node["tag"] == "fieldset" for node in doctree.findall(html_box)):
        app.add_js_file("questions.js", loading_method="defer")
        app.add_css_file("questions.css")


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive and its nodes."""
    for kind in (html_box, html_line):
        app.add_node(kind, html=(visit, depart))
    app.add_directive("concept-questions", ConceptQuestions)
    app.connect("html-page-context", add_files, priority=800)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
