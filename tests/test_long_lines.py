"""Boxes of code on the site: every long line has an element of its own, and not a letter is changed."""

from __future__ import annotations

import re
import sys
from html import unescape
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

sys.path.append(str(Path(__file__).resolve().parents[1] / "book" / "_ext"))

from anabook_lines import DEEPER, SHORT, in_lines


def boxed(code: str) -> str:
    """As Sphinx has it."""
    return highlight(code, PythonLexer(), HtmlFormatter())


def text(markup: str) -> str:
    return unescape(re.sub(r"<[^>]*>", "", markup))


CODE = '''def f(x):
    """Over

    several lines, of which this one is long."""
    return [each & 1 for each in x if each < 2 and each > 1]
'''


def test_long_lines_go_on_further_in_than_they_begin():
    found = in_lines(boxed(CODE))
    lines = re.findall(r'<span class="long-line" style="--in: (\d+)">(.*?)</span>\n', found, flags=re.S)
    assert [(int(deep), text(line).rstrip("\n")) for deep, line in lines] == [
        (4 + DEEPER, CODE.splitlines()[3]),
        (4 + DEEPER, CODE.splitlines()[4]),
    ]
    assert f'<pre style="--letters: {len(CODE.splitlines()[4])}">' in found


def test_a_prompt_belongs_to_the_indentation():
    found = in_lines('<div class="highlight"><pre><span class="gp">&gt;&gt;&gt; </span>' + "word " * 20 + "\n</pre></div>")
    assert f"--in: {4 + DEEPER}" in found


@pytest.mark.parametrize("page", [f"<p>{'long ' * 20}</p>", f"<pre>{'long ' * 20}</pre>", boxed("x = 1\n" * 9)])
def test_what_is_no_box_or_has_no_long_line_stays_as_it_is(page):
    assert in_lines(page) == page


@given(st.lists(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=3 * SHORT), max_size=6))
def test_no_letter_is_changed_and_elements_are_nested(lines):
    box = boxed("\n".join(lines))
    found = in_lines(box)
    assert text(found) == text(box)
    depth = 0
    for tag in re.findall(r"</?span|<pre", found):
        depth += {"<span": 1, "</span": -1, "<pre": 0}[tag]
        assert depth >= 0
    assert depth == 0
    for line in re.findall(r'<span class="long-line"[^>]*>(.*?)</span>\n', found, flags=re.S):
        assert line.count("<span") == line.count("</span") and len(text(line)) > SHORT
