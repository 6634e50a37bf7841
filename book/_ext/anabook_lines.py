"""Lines of code and of outputs, each in an element of its own where it is long, so that nothing scrolls sideways.

Where a line does not fit, the style sheet makes the letters a little smaller, and then lets the line wrap. What wraps goes
on further in than the line began, so that a new line and the rest of an old one are told apart. The style sheet has to
know two numbers for that: how long the longest line of a box is, and how far in each line begins.
"""

from __future__ import annotations

import re
from html import unescape
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

SHORT = 28  # letters that fit into the narrowest box of a phone
DEEPER = 4  # how much further in the rest of a line is
BOX = re.compile(r'(<div class="highlight">)<pre>(.*?)</pre>', re.S)


def letters(line: str) -> str:
    """A line of highlighted text as it is read."""
    return unescape(re.sub(r"<[^>]*>", "", line))


def indent(line: str) -> int:
    """How far in a line begins, in letters; a prompt is part of that."""
    return len(re.match(r"(?:>>> |\.\.\. |\$ )? *", letters(line))[0])


def in_lines(text: str) -> str:
    """The markup of a page, its boxes of code with their long lines in elements of their own; no letter is changed."""

    def marked(found: re.Match[str]) -> str:
        lines = re.findall(r"[^\n]*\n|[^\n]+", found[2])
        longest = max((len(letters(line).rstrip("\n")) for line in lines), default=0)
        if longest <= SHORT:
            return found[0]
        for number, line in enumerate(lines):
            if len(letters(line)) > SHORT:
                # The line's end stays outside: within a box it would be copied twice.
                whole, end = re.fullmatch(r"(.*?)(\n?)", line, flags=re.S).groups()
                lines[number] = f'<span class="long-line" style="--in: {indent(line) + DEEPER}">{whole}</span>{end}'
        return f'{found[1]}<pre style="--letters: {longest}">{"".join(lines)}</pre>'

    return BOX.sub(marked, text)


def mark_lines(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Mark the lines of a page."""
    if "body" in context:
        context["body"] = in_lines(context["body"])


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the handler above."""
    app.connect("html-page-context", mark_lines)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
