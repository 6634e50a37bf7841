"""What is said of the theorem's conditions: a finding for each condition and layer, and the verdict that they make."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import sympy as sp

from anabook._table import aligned
from anabook.convergence.formula_text import show

CONDITIONS = tuple(f"({number})" for number in range(11, 19))
"""The theorem's conditions."""


@dataclass(frozen=True)
class Finding:
    """What became of one condition in one layer.

    Attributes:
        condition: "(11)" … "(18)".
        layer: counted from 0 at the input.
        holds: True or False where it is derived; None where it is not.
        reason: one sentence.
        limit: the limit that decides, a SymPy number; None if none was needed or found.
        evidence: True or False where only numbers at small λ speak, else None.
        weights: whether this is about the layer's weight noise.

    Example:
        >>> from anabook.convergence import LAMBDA, check
        >>> check("uniform", [(0, LAMBDA)]).findings[0].condition
        '(11)'
    """

    condition: str
    layer: int
    holds: bool | None
    reason: str
    limit: Any = None
    evidence: bool | None = None
    weights: bool = False

    @property
    def numerical(self) -> bool:
        """Whether this rests on numbers at small λ and not on a derivation."""
        return self.evidence is not None

    @property
    def status(self) -> str:
        """ "holds", "fails", "numerical" or "undecided"."""
        return status_of(self.holds, self.evidence)

    def doubted(self, looked: str) -> Finding:
        """The same as evidence only, since something that it rests on is only seen in numbers."""
        if self.holds is None:
            return self
        reason = f"{looked}, suggest without proof: {self.reason}"
        return Finding(self.condition, self.layer, None, reason, self.limit, self.holds, self.weights)

    def __str__(self) -> str:
        part = " (weights)" if self.weights else ""
        return f"{self.condition} in layer {self.layer}{part} {_WORDS[self.status]}: {self.reason}"


_WORDS = {"holds": "holds", "fails": "fails", "numerical": "is not decided", "undecided": "is not decided"}
_MARKS = {"holds": "yes", "fails": "NO", "numerical": "num.", "undecided": "?"}


@dataclass(frozen=True)
class Verdict:
    """Whether the theorem's hypothesis is satisfied, and why.

    Attributes:
        families: one a layer: a family's name, or another `Law` itself; "dirac" for a layer whose noise is gone already.
        schedules: one pair (mean, std) a layer, SymPy expressions in `LAMBDA`.
        findings: one `Finding` for each condition and layer that was examined. Where no rates exist, the conditions
            about rates are left out, but for the one that no rates can satisfy.
        rates: rates that satisfy the hypothesis, one a layer, or those that were given; None if there are none. A rate
            of 0 stands for a layer that is exact for all small λ, which a layer after it needs.
        bounds: B of each layer, up to constants: rates exist if and only if each layer errs by o(B). None where it
            could not be computed.
        given: whether the rates were given.
        rising: whether the rates are non-decreasing for small λ, as the paper's are; None if that is not told, or if there
            are none. For every network to converge, positive rates are enough, and are necessary; non-decreasing ones are
            not (`networks.OSCILLATING`).
    """

    families: tuple[Any, ...]
    schedules: tuple[tuple[sp.Expr, sp.Expr], ...]
    findings: tuple[Finding, ...] = field(repr=False)
    rates: tuple[sp.Expr, ...] | None
    bounds: tuple[sp.Expr | None, ...] = field(repr=False)
    given: bool = False
    rising: bool | None = None

    @property
    def holds(self) -> bool | None:
        """True: rates exist (or the given ones do), and every such network converges. False: not. None: not decided.

        Without given rates, False means more: there are no positive rates at all, and some network with these schedules
        has a wrong limit, or none (`networks.witness` builds one where it can).
        """
        return all_hold(finding.holds for finding in self.findings)

    @property
    def evidence(self) -> bool | None:
        """What numbers at small λ suggest where `holds` is None; None if they do not."""
        if self.holds is not None:
            return None
        return all_hold(f.holds if f.holds is not None else f.evidence for f in self.findings)

    @property
    def status(self) -> str:
        """ "holds", "fails", "numerical" (numbers suggest an answer) or "undecided"."""
        return status_of(self.holds, self.evidence)

    @property
    def conditions(self) -> dict[str, bool | None]:
        """For each condition whether it holds in all layers; None also if it was not examined, for want of rates."""
        found = {c: [f.holds for f in self.findings if f.condition == c] for c in CONDITIONS}
        return {c: all_hold(answers) if answers else None for c, answers in found.items()}

    def explain(self) -> str:
        """The verdict in words: a headline, then what decides it, layer by layer."""
        lines = [_headline(self)]
        shown = [f for f in self.findings if f.status != "holds"]
        lines += [f"  {finding}" for finding in shown or self._margins()]
        if self.rates is not None and self.holds:
            lines += [f"  rates: {', '.join(f'r_{i} = {show(r)}' for i, r in enumerate(self.rates))}"]
        return "\n".join(lines)

    def table(self) -> str:
        """A plain table, a line a condition, a column a layer: "yes", "NO", "num." (numerical), "?", "–" (not examined)."""
        head = ["condition", *(f"layer {i}" for i in range(len(self.families)))]
        names = [f if isinstance(f, str) else getattr(f, "name", type(f).__name__.lower()) for f in self.families]
        rows = [
            ["family", *names],
            ["mean", *(show(m) for m, _ in self.schedules)],
            ["std", *(show(s) for _, s in self.schedules)],
        ]
        for condition in CONDITIONS:
            rows.append([condition, *(self._mark(condition, i) for i in range(len(self.families)))])
        if self.rates is not None:
            rows.append(["rate", *map(show, self.rates)])
        return aligned([head, *rows])

    def _mark(self, condition: str, layer: int) -> str:
        found = [f for f in self.findings if f.condition == condition and f.layer == layer]
        order = ("fails", "undecided", "numerical", "holds")
        return _MARKS[min((f.status for f in found), key=order.index)] if found else "–"

    def _margins(self) -> list[Finding]:
        return [f for f in self.findings if f.condition in ("(17)", "(18)")]


def _headline(verdict: Verdict) -> str:
    converge = "the networks converge, whatever weights, biases and input."
    if verdict.given:
        exact = ", and 0 where a layer is exact" if verdict.rates is not None and 0 in verdict.rates else ""
        what = f"These rates, positive and non-decreasing as the paper's{exact}, satisfy the hypothesis"
        no_rates = "These rates do not satisfy the hypothesis."
    else:
        no_rates = (
            "No positive rates satisfy the hypothesis, non-decreasing or not: some network has a wrong limit, or none."
        )
        what = {
            True: "Rates exist that satisfy the hypothesis, positive and non-decreasing as the paper's",
            False: "Positive rates exist that satisfy the hypothesis (the paper's are non-decreasing, and those found are not)",
            None: "Positive rates exist that satisfy the hypothesis (the paper's are non-decreasing; whether these are is open)",
        }[verdict.rising]
    return {
        "holds": f"{what}: {converge}",
        "fails": no_rates,
        "numerical": f"Not decided; numbers at small λ suggest that the hypothesis "
        f"{'holds' if verdict.evidence else 'fails'}.",
        "undecided": "Not decided.",
    }[verdict.status]


def all_hold(answers: Iterable[bool | None]) -> bool | None:
    """False if one fails, else None if one is not told, else True."""
    answers = list(answers)
    return False if False in answers else (None if None in answers else True)


def status_of(holds: bool | None, evidence: bool | None) -> str:
    """The word for it: "holds", "fails", "numerical" or "undecided"."""
    if holds is not None:
        return "holds" if holds else "fails"
    return "undecided" if evidence is None else "numerical"
