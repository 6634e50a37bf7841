"""Questions about limits of formulas, answered: yes, no, or not told; and whether numbers only tell."""

from __future__ import annotations

from typing import Any, NamedTuple

import sympy as sp

from anabook.convergence.limits import LimitPoints, limit
from anabook.convergence.verdicts import Finding, all_hold


class Answer(NamedTuple):
    """A decision, with the limit that decided it."""

    value: bool | None
    numerical: bool = False
    limit: LimitPoints | None = None

    def finding(self, condition: str, layer: int, good: str, bad: str, weights: bool = False) -> Finding:
        """This answer as a finding: `good` says what holds, `bad` what does not."""
        text = good if self.value else bad
        derived = None if self.numerical else self.value
        if self.value is None:
            text = f"no limit was found that would show: {good}"
        elif self.numerical:
            text = f"numbers down to λ = 10^−256 suggest, without proof: {text}"
        at = self.limit.low if self.limit is not None and self.limit.low == self.limit.high else None
        return Finding(condition, layer, derived, text, at, self.value if self.numerical else None, weights)


def both(*answers: Answer) -> Answer:
    """Whether all of them hold."""
    value = all_hold(a.value for a in answers)
    deciding = next((a for a in answers if a.value is value), answers[0])
    numerical = deciding.numerical if value is False else any(a.numerical for a in answers)
    return Answer(value, numerical, deciding.limit)


def tends_to(expression: sp.Expr, value: Any) -> Answer:
    """Whether a formula tends to the value."""
    found = limit(expression)
    return Answer(None) if found is None else Answer(found.is_equal(value), found.numerical, found)


def stays_bounded(expression: sp.Expr) -> Answer:
    """Whether a formula stays bounded."""
    found = limit(expression)
    if found is None:
        return Answer(None)
    if found.low == found.high:
        return Answer(bool(found.low.is_finite), found.numerical, found)
    return Answer(True if found.high.is_finite and found.low.is_finite else None, found.numerical, found)
