"""The ledger of claims: what the paper says, row by row, with its place in the book, its tests and what came out.

The rows stand in `data/ledger.toml`, whose head says what each entry means. What recorded runs decide is in `claims`.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple

from anabook._validate import choice
from anabook.experiments import design, shipped

if TYPE_CHECKING:
    from anabook.experiments.claims import Claim


class Kind(NamedTuple):
    """What a row is about.

    Attributes:
        letter: that its number begins with.
        title: in the plural.

    Example:
        >>> KINDS["equation"].letter
        'E'
    """

    letter: str
    title: str


KINDS: dict[str, Kind] = {
    "equation": Kind("E", "Numbered equations"),
    "theorem": Kind("T", "Proposition 1, Theorem 2, Lemma 3"),
    "algorithm": Kind("L", "Algorithm 1, line by line"),
    "definition": Kind("D", "Definitions"),
    "statement": Kind("S", "Statements without a number"),
    "setting": Kind("N", "Settings of the experiments"),
    "code": Kind("R", "What only the authors' code says"),
    "figure": Kind("F", "Figures"),
    "addition": Kind("A", "What the book adds"),
}
"""The kinds of rows, in the order of the page."""

VERDICTS: dict[str, str] = {
    "holds": "as stated; of a definition or a setting, that the book or the package has it as printed",
    "holds with a correction": "true after a change of sign, range, condition or proof that is named",
    "too strong": "false as stated, with a counterexample in the book",
    "judged by runs": "for recorded runs to decide: the empirical claims below",
    "not printed": "not in the paper at all; the authors' code says it",
    "not checked here": "with the reason",
}
"""What can come out."""

_STATEMENTS = ("def", "prop", "lem", "thm", "cor", "obs", "alg", "note", "exa")
_ROLES = dict.fromkeys(_STATEMENTS, "prf:ref") | {"eq": "eq", "fig": "numref"}


@dataclass(frozen=True)
class Row:
    """A row of the ledger.

    Attributes:
        kind: one of `KINDS`.
        number: within its kind, from 1.
        says: the statement, in our words.
        book: labels of the book's pages.
        tests: file::name, under tests/.
        how: the outcome is known: "proved", "derived", "computed", "read" in the authors' code, or "cited".
        paper: the place in the paper; empty for what the book adds.
        covers: numbered things of the paper, and settings, that the row is about.
        verdict: one of `VERDICTS`; empty for what the book adds.
        note: the correction, the reason, or a remark.

    Example:
        >>> rows("equation")[0].name, rows("equation")[0].covers
        ('E1', ('(1)',))
    """

    kind: str
    number: int
    says: str
    book: tuple[str, ...]
    tests: tuple[str, ...]
    how: str
    paper: str = ""
    covers: tuple[str, ...] = ()
    verdict: str = ""
    note: str = ""

    @property
    def name(self) -> str:
        """The letter of the kind and the number."""
        return f"{KINDS[self.kind].letter}{self.number}"


def rows(kind: str | None = None) -> tuple[Row, ...]:
    """The rows of one kind, or of all kinds in their order.

    Raises:
        ValueError: an unknown kind (with the nearest).
        FileNotFoundError: this copy of the package came without the ledger.

    Example:
        >>> [row.paper for row in rows("figure")][:2]
        ['Figure 1, section 4.2', 'Figure 2, section 4.2']
    """
    if kind is not None:
        choice(kind, KINDS, "kind")
    found = tomllib.loads(shipped.path("ledger.toml").read_text(encoding="utf-8"))
    return tuple(
        Row(each, number, **{name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()})
        for each in (KINDS if kind is None else [kind])
        for number, entry in enumerate(found[each], 1)
    )


def reference(label: str) -> str:
    """A link to a label of the book, in MyST, by the role that its kind needs; equations are marked as ours.

    Example:
        >>> reference("note-sign"), reference("eq-schedule")
        ('{prf:ref}`note-sign`', 'our {eq}`eq-schedule`')
    """
    kind = label.partition("-")[0]
    return ("our " if kind == "eq" else "") + f"{{{_ROLES.get(kind, 'ref')}}}`{label}`"


def table(kind: str) -> str:
    """The rows of a kind as a table in MyST, on a phone a card each, and under it, folded, their tests.

    Raises:
        ValueError: an unknown kind (with the nearest).

    Example:
        >>> print(table("figure").splitlines()[1])
        | no., paper | what it says | in the book | what came out |
    """
    found = rows(kind)
    ours = kind == "addition"
    lines = ["| no. | what | in the book | how |" if ours else "| no., paper | what it says | in the book | what came out |"]
    lines.append("|---|---|---|---|")
    for row in found:
        place = row.name if ours else f"{row.name}: {row.paper}"
        says = row.says + (f" *{row.note}*" if row.note else "")
        outcome = row.how if ours else f"**{row.verdict}**, {row.how}"
        places = on_a_card("in the book") + ", ".join(map(reference, row.book))
        lines.append(f"| {place} | {says} | {places} | {outcome} |")
    tests = [f"* {row.name}: " + (", ".join(f"`{test}`" for test in row.tests) or "none") for row in found]
    folded = [f"::::{{dropdown}} The tests of {found[0].name} to {found[-1].name}", *tests, "::::"]
    return "\n".join([cards(lines), "", *folded])


def cards(lines: Iterable[str]) -> str:
    """A table in MyST that the site shows as a card a row where there is no room for columns.

    Example:
        >>> print(cards(["| a |", "|---|", "| 1 |"]))
        ::::{div} ledger
        | a |
        |---|
        | 1 |
        ::::
    """
    return "\n".join(["::::{div} ledger", *lines, "::::"])


def on_a_card(title: str) -> str:
    """What stands before the text of a cell where columns have no titles, on a card.

    Example:
        >>> on_a_card("in the book")
        '<span class="on-a-card">in the book: </span>'
    """
    return f'<span class="on-a-card">{title}: </span>'


def balance() -> str:
    """How many rows there are of each kind and with each verdict, as a table in MyST.

    Example:
        >>> print(balance().splitlines()[1])
        | kind | rows | what came out |
    """
    lines = ["| kind | rows | what came out |", "|---|---|---|"]
    for kind, (_, title) in KINDS.items():
        counted = _counted(rows(kind)) or "no claims of the paper"
        lines.append(f"| {title} | {on_a_card('rows')}{len(rows(kind))} | {counted} |")
    of_the_paper = [row for row in rows() if row.verdict]
    lines.append(f"| **all but what the book adds** | {on_a_card('rows')}{len(of_the_paper)} | {_counted(of_the_paper)} |")
    return cards(lines)


def _counted(found: Iterable[Row]) -> str:
    counts = Counter(row.verdict for row in found)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])


def compared(claim: Claim) -> frozenset[str]:
    """In which degrees of freedom the two sides of a claim's differences are not the same; empty for baselines.

    Example:
        >>> from anabook.experiments.claims import CLAIMS
        >>> sorted(compared(CLAIMS[0]))
        ['strategy']
    """
    found: set[str] = set()
    for contrast in claim.contrasts:
        try:
            sides = [
                [design.unit(name) for name in ((side,) if isinstance(side, str) else side)]
                for side in (contrast.first, contrast.second)
            ]
        except ValueError:  # a baseline, or a schedule of one's own
            return frozenset()
        for field in fields(design.Unit):
            first, second = ({getattr(unit, field.name) for unit in side} for side in sides)
            if first != second:
                found.add(field.name)
    return frozenset(found)
