"""The claims ledger: nothing that the paper states is missing, what it names exists, its verdicts are those of the records."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import tomllib
import warnings
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("pandas")

from anabook.convergence import conditions
from anabook.experiments import claims, ledger, results, tables
from anabook.experiments.tasks import TASKS

ROOT = Path(__file__).parents[1]
LEDGER = tomllib.loads((ROOT / "data" / "ledger.toml").read_text(encoding="utf-8"))
OF_THE_PAPER = tuple(kind for kind in ledger.KINDS if kind != "addition")
ROWS = [pytest.param(kind, row, id=f"{kind}-{number}") for kind in LEDGER for number, row in enumerate(LEDGER[kind], 1)]
HOW = {"proved", "derived", "computed", "read", "cited"}
COVERING = ("equation", "theorem", "algorithm", "setting", "code", "figure")

# What the paper has, counted on its pages.
EQUATIONS = {f"({number})" for number in range(1, 30)}
PARTS = {
    *(f"{where} ({part})" for where in ("Proposition 1", "Lemma 3") for part in ("i", "ii", "iii")),
    *(f"Theorem 2, {part}" for part in ("statement", "base step", "case A", "case B (i)", "case B (ii) a", "case B (ii) b")),
}
LINES = {f"Algorithm 1, {what}" for what in ("input", "output", "uses", *(f"line {number}" for number in range(1, 14)))}
PANELS = {f"Figure {number}{panel}" for number, n in enumerate((2, 4, 2, 2, 3, 2, 3), 1) for panel in "abcd"[:n]}
SETTINGS = {
    *(f"{data}: {what}" for data in ("CIFAR-10", "SVHN", "GSC") for what in ("data", "network", "quantisers")),
    *(f"{data}: {what}" for data in ("CIFAR-10", "SVHN", "GSC") for what in ("epochs", "batch size", "learning rate")),
    "GSC: classes",
    *("loss", "optimiser", "folds", "baseline", "further scenarios"),
    *("degrees of freedom", "noise types", "static mean", "static variance", "number of configurations"),
    "noise types beyond static schedules",
}
NOT_PRINTED = {
    *("code: thresholds", "code: strength", "code: schedule", "code: quantum of speech", "code: speech features"),
    *("code: image pre-processing", "code: parameters", "code: start", "code: evaluation"),
}

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
    return frozenset("".join(each) for each in found) | figures()


def figures() -> set[str]:
    """The labels of figures, which stand in the metadata of their cells."""
    notebooks = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "book").glob("*.ipynb"))]
    cells = [cell["metadata"].get("mystnb", {}).get("figure", {}) for notebook in notebooks for cell in notebook["cells"]]
    return {figure["name"] for figure in cells if "name" in figure}


def covered(*kinds: str) -> list[str]:
    return [thing for kind in kinds for row in LEDGER[kind] for thing in row.get("covers", [])]


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
    assert set(row) - {"covers"} == wanted and bool(row.get("covers")) == (kind in COVERING)
    assert row["says"].endswith(".") and row["book"] and row["how"] in HOW
    if kind in OF_THE_PAPER:
        assert row["verdict"] in ledger.VERDICTS and row["paper"]
        assert row["note"] or row["verdict"] == "holds", "what is not simply true needs a reason"
        assert (row["verdict"] == "not printed") == (kind == "code")


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


@pytest.mark.parametrize(
    "kind, wanted",
    [
        ("equation", EQUATIONS),
        ("theorem", PARTS),
        ("algorithm", LINES),
        ("figure", PANELS),
        ("setting", SETTINGS),
        ("code", NOT_PRINTED),
    ],
)
def test_all_that_the_paper_numbers_and_sets_has_exactly_one_row(kind, wanted):
    found = Counter(covered(kind))
    assert set(found) == wanted and set(found.values()) == {1}


def test_every_place_of_the_paper_is_one():
    # Its sections and what is numbered in them; each section has a row.
    sections = {"abstract", "1", "2.1", "2.2", "2.3", "2.4", "3", "4.1", "4.2", "5", "A", "B", "B.1", "B.2"}
    numbered = r"\(\d+\)( and \(\d+\))?|Figure \d|Proposition 1 \(i+\)|Lemma 3 \(i+\)|Theorem 2(, (base step|case [AB].*?))?"
    seen = set()
    for row in (row for kind in OF_THE_PAPER if kind != "code" for row in LEDGER[kind]):
        for part in re.split(r", (?!lines?|case|base|input|output|uses)|; ", row["paper"]):
            section = re.fullmatch(r"(?:section|appendix) (\S+)|(abstract)", part)
            seen |= {section[1] or section[2]} if section else set()
            assert section or re.fullmatch(rf"{numbered}|Algorithm 1, .+", part), part
    assert seen == sections
    assert {row["paper"] for row in LEDGER["code"]} == {"not in the paper"}


def test_every_equation_number_that_the_book_mentions_is_one_of_the_papers():
    assert set(conditions.CONDITIONS) <= set(covered("equation"))
    mentioned = set()
    for text in (text for name, text in pages().items() if name != "claims-ledger.ipynb"):
        for sentence in re.findall(r"[^.]*\bpaper\b[^.]*\.?[^.]*", text):
            mentioned |= set(re.findall(r"(?<![\w$\\{}(])\(\d{1,2}\)(?!\$)", sentence))
    assert {f"({n})" for n in (1, 3, 7, 8, 12, 15, 17, 18, 19, 20, 21)} <= mentioned, (
        "the search finds what is known to be there"
    )
    assert mentioned <= EQUATIONS


def test_the_slips_of_the_paper_are_told_where_they_are():
    notes = {thing: row for row in LEDGER["equation"] for thing in row["covers"]}
    for number in range(15, 20):
        row = notes[f"({number})"]
        assert row["verdict"] == "holds with a correction" and "Range" in row["note"]
    assert notes["(26)"]["verdict"] == "holds with a correction" and "affine" in notes["(26)"]["note"]


def test_nothing_is_said_of_the_paper_as_if_it_were_not_at_hand():
    told = json.dumps(LEDGER) + page("claims-ledger.ipynb")
    for phrase in (
        "could not be had",
        "our digest",
        "a digest",
        "as far as we know",
        "as we read it",
        "We do not know what",
        "not seen",
    ):
        assert phrase not in told


def test_estimators_without_noise_and_stopping_are_no_errors_of_the_paper():
    for word in ("the clipped ReLU and the ReLU", "gradient computation can stop"):
        (row,) = (row for row in LEDGER["statement"] if word in row["says"])
        assert row["verdict"] == "holds" and row["note"]


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


def test_rows_are_read_as_they_stand_in_the_file():
    assert list(LEDGER) == list(ledger.KINDS)
    for kind, entries in LEDGER.items():
        for number, (row, entry) in enumerate(zip(ledger.rows(kind), entries, strict=True), 1):
            assert row.name == f"{ledger.KINDS[kind].letter}{number}"
            given = {field.name: getattr(row, field.name) for field in dataclasses.fields(row) if field.name in entry}
            assert given == {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}
    assert ledger.rows() == tuple(row for kind in LEDGER for row in ledger.rows(kind))
    with pytest.raises(ValueError, match="Did you mean 'theorem'"):
        ledger.rows("theorm")


def test_the_stored_page_shows_every_row_with_its_verdict():
    shown = ledger_outputs()
    for kind, (letter, title) in ledger.KINDS.items():
        assert f"## {title}" in page("claims-ledger.ipynb")
        for number, row in enumerate(LEDGER[kind], 1):
            (line,) = (
                line for line in shown.splitlines() if line.startswith((f"| {letter}{number}: ", f"| {letter}{number} |"))
            )
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            assert len(cells) == 4
            assert cells[0].strip() == (f"{letter}{number}: {row['paper']}" if kind in OF_THE_PAPER else f"{letter}{number}")
            assert cells[1] == row["says"] + (f" *{row['note']}*" if row.get("note") else "")
            assert cells[2] == ledger.on_a_card("in the book") + ", ".join(ledger.reference(label) for label in row["book"])
            assert cells[3] == (f"**{row['verdict']}**, {row['how']}" if kind in OF_THE_PAPER else row["how"])
            (tests,) = (line for line in shown.splitlines() if line.startswith(f"* {letter}{number}: "))
            assert all(f"`{test}`" in tests for test in row["tests"])


def test_the_stored_page_counts_the_rows_by_kind_and_verdict():
    shown, all_counts = ledger_outputs(), Counter()
    for kind, (_, title) in ledger.KINDS.items():
        counts = Counter(row["verdict"] for row in LEDGER[kind] if "verdict" in row)
        all_counts += counts
        said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ledger.VERDICTS if verdict in counts)
        number = f"{ledger.on_a_card('rows')}{len(LEDGER[kind])}"
        assert f"| {title} | {number} | {said or 'no claims of the paper'} |" in shown
    said = ", ".join(f"{all_counts[verdict]} {verdict}" for verdict in ledger.VERDICTS if verdict in all_counts)
    assert f"| {ledger.on_a_card('rows')}{sum(all_counts.values())} | {said} |" in shown and sum(all_counts.values()) == sum(
        len(LEDGER[k]) for k in OF_THE_PAPER
    )


def test_every_table_of_the_stored_page_becomes_cards_on_a_phone():
    blocks, tables = re.findall(r"^::::\{div\} ledger\n(.*?)^::::$", ledger_outputs(), flags=re.M | re.S), []
    for block in blocks:
        tables += re.findall(r"^\|[-|]+\|$", block, flags=re.M)
    assert len(blocks) == len(tables) == len(re.findall(r"^\|[-|]+\|$", ledger_outputs(), flags=re.M)) == len(LEDGER) + 2


def test_empirical_verdicts_on_the_stored_page_are_those_of_the_recorded_runs():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame = results.load(ROOT / "data" / "results")
    scaled = frame[(frame["size"] == "scaled") & (frame["measured_on"] == "validation")]
    shown = [line for line in ledger_outputs().splitlines() if re.match(r"\| C\d+ \|", line)]
    assert len(shown) == len(claims.CLAIMS)
    columns = [task for task in TASKS if TASKS[task].stands_for is None and task in set(scaled["task"])]
    assert "cifar10" in columns
    for column, task in enumerate(columns):
        found = {v.claim.name: v for v in claims.judge_all(frame, task)}
        for claim, line in zip(claims.CLAIMS, shown):
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            assert len(cells) == 2 + len(columns)
            title, said = re.fullmatch(r'<span class="on-a-card">(.*): </span>(.*?) ?\|?', cells[2 + column]).groups()
            if claim.name not in found:
                assert said == "–"
                continue
            verdict = found[claim.name]
            assert title == verdict.data
            assert claim.statement in cells[1] and claim.source in cells[1]
            assert said.startswith(f"**{tables.verdict_in_words(verdict)}**")
            assert verdict.effect is None or claims.points(verdict.effect) in said


def test_the_stored_page_explains_holms_rule_and_counts_what_the_wider_interval_leaves():
    page = json.loads((ROOT / "book" / "claims-ledger.ipynb").read_text(encoding="utf-8"))
    prose = "".join("".join(cell["source"]) for cell in page["cells"] if cell["cell_type"] == "markdown")
    assert "**Holm's rule.**" in prose and "*Undecided (alone: supported)*" in prose and "for each column by itself" in prose
    frame = results.load(ROOT / "data" / "results")
    for task in ("cifar10", "gsc12"):
        for words, method in (
            (f"{task}:", "t"),
            (f"{task}, with the wider interval of Nadeau and Bengio:", "nadeau-bengio"),
        ):
            counts = Counter(v.verdict for v in claims.judge_all(frame, task, method=method))
            (line,) = re.findall(f"^{re.escape(words)} (.+)$", ledger_outputs(), flags=re.M)
            assert {word: int(n) for n, word in (part.split(" ", 1) for part in line.split(", "))} == counts


def test_a_claim_of_ones_own_is_not_told_as_the_papers():
    first = claims.CLAIMS[0]
    assert first.source.startswith(f"Paper, {first.section}")
    assert dataclasses.replace(first, section="").source == "Ours"


NOISE = r"\b(uniform|triangular|normal|logistic)(?=-)"


def test_the_abstracts_claim_is_put_together_of_the_right_claims():
    frame = results.load(ROOT / "data" / "results")
    found = {v.claim.name: tables.verdict_in_words(v) for v in claims.judge_all(frame, "cifar10")}
    parts = dict(re.findall(r"^(the shape of the noise|the synchronisation): (.+)$", ledger_outputs(), flags=re.M))
    said = {part: dict(re.findall(r"C(\d+) ([^,]+)", text)) for part, text in parts.items()}
    for number, claim in enumerate(claims.CLAIMS, 1):
        sides = [[str(side) for side in (contrast.first, contrast.second)] for contrast in claim.contrasts]
        of_the_noise = claim.kind == "level" and all(  # the same but for the first word of each unit's name
            first != second and re.sub(NOISE, "", first) == re.sub(NOISE, "", second) for first, second in sides
        )
        of_the_order = ledger.compared(claim) in ({"interval"}, {"power_law"}, {"interval", "power_law"})
        papers = bool(claim.section) and claim.name in found
        for part, belongs in (("the shape of the noise", of_the_noise), ("the synchronisation", of_the_order)):
            assert (str(number) in said[part]) == (papers and belongs), claim.name
            assert not (papers and belongs) or said[part][str(number)] == found[claim.name]
    assert all(len(numbers) >= 2 for numbers in said.values())


def test_what_a_claim_compares_is_read_off_its_units():
    def of(*sides):
        contrasts = (claims.Contrast("a − b", *sides),)
        return ledger.compared(claims.Claim("a", "A.", "", ("cifar10",), "above", contrasts))

    assert of("uniform-mode-static", "normal-mode-static") == {"noise"}
    assert of("uniform-mode-static", "float") == frozenset()
    both = tuple(f"uniform-random-{interval}-{law}" for interval in ["partition"] for law in ("homogeneous", "progressive"))
    assert of(both, tuple(name.replace("partition", "same-end") for name in both)) == {"interval"}
    assert of(both, both[0]) == {"power_law"}
