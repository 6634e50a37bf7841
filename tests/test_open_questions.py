"""The open question at the end of each chapter: one form, said honestly, with a start that runs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = [path for path in sorted((ROOT / "book").glob("[0-9][0-9]-*.ipynb")) if not path.name.startswith("00")]
BOX = re.compile(
    r"^::::\{admonition\} An open question\n:class: open-question\n\n(?P<text>.*?)\n\n```python\n(?P<code>.*?)```\n::::",
    re.M | re.S,
)

by_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)


def box(path: Path) -> re.Match:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    assert sum(text.count("An open question") for text in texts) == 1
    found = BOX.match(texts[-1])
    assert found and cells[-1]["cell_type"] == "markdown", "it is the last thing of the chapter"
    return found


def test_every_chapter_from_1_to_17_is_asked():
    assert [int(path.name[:2]) for path in CHAPTERS] == list(range(1, 18))


@by_chapter
def test_a_question_is_one_paragraph_that_says_what_this_book_does_not_know(path):
    text = box(path)["text"]
    assert "\n" not in text and 80 <= len(text.split()) <= 140
    assert re.search(r"[Tt]his book (does not know|has no|has not tried)", text)
    assert "?" in text and not re.search(r"open in the field|nobody (has|knows)|never been", text)


@by_chapter
def test_the_start_that_a_question_gives_runs_anywhere_and_prints(path, tmp_path):
    code = box(path)["code"]
    assert len(code.splitlines()) <= 12 and max(map(len, code.splitlines())) <= 88
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0 and done.stdout.strip() and not done.stderr, done.stderr
