"""Questions about limits of formulas, answered: yes, no, or not told; and whether numbers only tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import sympy as sp

from anabook.convergence.leash import is_late, seconds_allowed
from anabook.convergence.limits import LimitPoints, derived_limit, observed_limit
from anabook.convergence.verdicts import Finding, all_hold


class Answer(NamedTuple):
    """A decision, with the limit that decided it."""

    value: bool | None
    numerical: str = ""
    """What was looked at, if only numbers tell; else ""."""
    limit: LimitPoints | None = None

    def finding(self, condition: str, layer: int, good: str, bad: str, weights: bool = False) -> Finding:
        """This answer as a finding: `good` says what holds, `bad` what does not."""
        text = good if self.value else bad
        derived = None if self.numerical else self.value
        if self.value is None:
            text = f"no limit was found{stopped()} that would show: {good}"
        elif self.numerical:
            text = f"{self.numerical}, suggest without proof: {text}"
        at = self.limit.low if self.limit is not None and self.limit.low == self.limit.high else None
        return Finding(condition, layer, derived, text, at, self.value if self.numerical else None, weights)


def stopped() -> str:
    """A clause for reasons: that the time was up; empty while there is time."""
    return f" in the {seconds_allowed():g} s that the decision may take" if is_late() else ""


def both(*answers: Answer) -> Answer:
    """Whether all of them hold."""
    value = all_hold(a.value for a in answers)
    if value is False:
        # A derived failure counts for more than one that numbers suggest.
        deciding = min((a for a in answers if a.value is False), key=lambda a: bool(a.numerical))
        return Answer(False, deciding.numerical, deciding.limit)
    deciding = next((a for a in answers if a.value is value), answers[0])
    return Answer(value, next((a.numerical for a in answers if a.numerical), ""), deciding.limit)


def tends_to(expression: sp.Expr, value: Any) -> Answer:
    """Whether a formula tends to the value."""
    return ask(expression, lambda found: found.is_equal(value))


def stays_bounded(expression: sp.Expr) -> Answer:
    """Whether a formula stays bounded."""
    return ask(expression, LimitPoints.is_bounded)


def ask(expression: sp.Expr, question: Callable[[LimitPoints], bool | None]) -> Answer:
    """A question about a formula's limit points: answered by what is derived, else by what numbers suggest."""
    derived = derived_limit(expression)
    if derived is not None and (told := question(derived)) is not None:
        return Answer(told, "", derived)
    seen = observed_limit(expression)
    if seen is not None and (told := question(seen)) is not None:
        return Answer(told, seen.numerical, seen)
    return Answer(None, "", derived)
