"""The claims ledger: what it names exists, nothing that the book mentions is missing, its verdicts are those of the records."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import tomllib
import warnings
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("pandas")

from anabook.convergence import conditions
from anabook.experiments import claims, results
from anabook.experiments.tasks import TASKS

ROOT = Path(__file__).parents[1]
LEDGER = tomllib.loads((ROOT / "data" / "ledger.toml").read_text(encoding="utf-8"))
OF_THE_PAPER = ("equation", "theorem", "statement", "number")
ROWS = [pytest.param(kind, row, id=f"{kind}-{number}") for kind in LEDGER for number, row in enumerate(LEDGER[kind], 1)]
VERDICTS = {"holds", "holds with a correction", "too strong", "not checked here"}
HOW = {"proved", "derived", "computed", "read", "cited"}

each_row = pytest.mark.parametrize(("kind", "row"), ROWS)


@cache
def page(name: str) -> str:
    """A page's text; of a notebook, the sources of its cells."""
    path = ROOT / "book" / name
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    return "\n\n".join("".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"])


@cache
def pages() -> dict[str, str]:
    return {p.name: page(p.name) for p in sorted((ROOT / "book").glob("*")) if p.suffix in (".md", ".ipynb")}


@cache
def labels() -> frozenset[str]:
    found = re.findall(r"^:label: ([\w-]+)|^\(([\w-]+)\)=|\$\$ \((eq-[\w-]+)\)", "\n".join(pages().values()), flags=re.M)
    return frozenset("".join(each) for each in found)


@cache
def defined(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def ledger_outputs() -> str:
    """What the ledger's cells gave when the page was stored."""
    cells = json.loads((ROOT / "book" / "claims-ledger.ipynb").read_text(encoding="utf-8"))["cells"]
    shown = [
        output.get("data", {}).get("text/markdown", output.get("text", ""))
        for cell in cells
        for output in cell.get("outputs", [])
    ]
    return "\n\n".join("".join(each) for each in shown)


@each_row
def test_a_row_says_what_it_says_where_how_and_with_what_outcome(kind, row):
    wanted = {"says", "book", "tests", "how"} | ({"paper", "verdict", "note"} if kind in OF_THE_PAPER else set())
    assert set(row) - {"numbers"} == wanted and ("numbers" in row) == (kind == "equation")
    assert row["says"].endswith(".") and row["book"] and row["how"] in HOW
    if kind in OF_THE_PAPER:
        assert row["verdict"] in VERDICTS
        assert row["note"] or row["verdict"] == "holds", "what is not simply true needs a reason"


@each_row
def test_every_label_that_the_ledger_names_exists_in_the_book(kind, row):
    assert set(row["book"]) <= labels()


@each_row
def test_every_test_that_the_ledger_names_exists(kind, row):
    for test in row["tests"]:
        file, name = test.split("::")
        assert name in defined(file), test


@each_row
def test_what_is_said_to_be_checked_has_a_test(kind, row):
    assert bool(row["tests"]) == (row.get("verdict") != "not checked here")


def test_every_equation_number_that_the_book_mentions_has_one_row():
    rows = [number for row in LEDGER["equation"] for number in row["numbers"]]
    assert len(rows) == len(set(rows)) and set(rows) >= set(range(1, 22))
    assert {int(condition.strip("()")) for condition in conditions.CONDITIONS} <= set(rows)
    mentioned = set()
    for text in (text for name, text in pages().items() if name != "claims-ledger.ipynb"):
        for sentence in re.findall(r"[^.]*\bpaper\b[^.]*\.?[^.]*", text):
            mentioned |= {int(n) for n in re.findall(r"(?<![\w$\\{(])\((\d{1,2})\)(?!\$)", sentence)}
    assert {1, 3, 7, 8, 12, 15, 17, 18, 19, 20, 21} <= mentioned, "the search finds what is known to be there"
    assert mentioned <= set(rows)


def test_every_note_on_the_paper_is_in_the_ledger():
    notes = set(re.findall(r":label: (note-[\w-]+)", pages()["notes-on-the-paper.ipynb"]))
    named = {label for kind in LEDGER for row in LEDGER[kind] for label in row["book"]}
    assert len(notes) >= 22 and notes <= named


def test_every_theorem_lemma_and_proposition_of_the_book_is_in_the_ledger_or_serves_another():
    serving = {
        "prop-heavisides",
        "prop-zero-gradient",
        "prop-inverse-sampling",
        "prop-dither",
        "prop-mass-multiplies",
        "lem-ratio",
        "lem-worst-place",
        "prop-two-layer-laws",
        "thm-margins",
        "lem-margin-scale",
        "prop-generic-numbers",
    }
    stated = {label for label in labels() if label.split("-")[0] in ("thm", "lem", "prop", "cor", "alg")}
    named = {label for kind in LEDGER for row in LEDGER[kind] for label in row["book"]}
    assert stated - serving <= named


def test_the_stored_page_shows_every_row_with_its_verdict():
    shown = ledger_outputs()
    for kind in OF_THE_PAPER:
        for row in LEDGER[kind]:
            line = next(line for line in shown.splitlines() if row["says"] in line)
            assert (
                line.startswith("| ")
                and f"**{row['verdict']}**, {row['how']} |" in line
                and (not row["note"] or row["note"] in line)
            )


def test_empirical_verdicts_on_the_stored_page_are_those_of_the_recorded_runs():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame = results.load(ROOT / "data" / "results")
    scaled = frame[(frame["size"] == "scaled") & (frame["measured_on"] == "validation")]
    shown = [line for line in ledger_outputs().splitlines() if re.match(r"\| C\d+ \|", line)]
    assert len(shown) == len(claims.CLAIMS)
    columns = [task for task in sorted(TASKS, key=lambda t: TASKS[t].original != t) if task in set(scaled["task"])]
    assert "cifar10" in columns
    for column, task in enumerate(columns):
        found = {v.claim.name: v for v in claims.judge_all(frame, task)}
        for claim, line in zip(claims.CLAIMS, shown):
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            if claim.name not in found:
                assert cells[2 + column].strip(" |") == "–"
                continue
            verdict = found[claim.name]
            assert claim.statement in cells[1] and claim.source in cells[1]
            assert cells[2 + column].startswith(f"**{verdict.verdict}**")
            assert verdict.effect is None or claims.points(verdict.effect) in cells[2 + column]


def test_a_claim_of_ones_own_is_not_told_as_the_papers():
    first = claims.CLAIMS[0]
    assert first.source.startswith(f"Paper, {first.section}")
    assert dataclasses.replace(first, section="").source == "Ours"


def test_the_page_speaks_of_the_abstracts_claim_by_the_right_numbers():
    names = [claim.name for claim in claims.CLAIMS]
    assert "C2, C4 and C5 to C9 together" in page("claims-ledger.ipynb")
    assert [names[i - 1] for i in (2, 4)] == ["noise-negligible-mode", "noise-negligible-expectation"]
    assert all("same" in name or "partition" in name or "homogeneous" in name for name in names[4:9])
