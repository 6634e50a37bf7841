"""The numbers in students' notebooks are those of the site."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "_build" / "html" / "book"

sys.path.insert(0, str(ROOT / "tools"))
import plain  # noqa: E402

NUMBERED = (
    r'<div class="(?:exercise|proof) [^"]*" id="([\w-]+)">\s*<p[^>]*><span class="caption-number">([^<]*?) ?</span>',
    r'id="equation-(eq-[\w-]+)">\s*<span class="eqno">(\([^<)]*\)?)',
    r'<figure[^>]*id="(fig-(?!index)[\w-]+)".*?<span class="caption-number">([^<]*?) ?</span>',
)


def test_exercises_theorems_figures_and_equations_have_the_same_numbers():
    labels, compared = plain.of_the_book(), 0
    for path in sorted(PAGES.glob("*.html")):
        text = path.read_text(encoding="utf-8")
        for pattern in NUMBERED:
            for label, number in re.findall(pattern, text, re.DOTALL):
                assert labels[label] == number.replace("Fig.", "Figure"), (path.name, label)
                compared += 1
    assert compared > 300
