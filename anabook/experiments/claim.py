"""What an empirical claim is: a statement, the data that it is about, and the differences between runs that decide it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from anabook._validate import choice, real
from anabook.experiments.measures import FINAL, MEASURES
from anabook.experiments.tasks import TASKS

KINDS: dict[str, str] = {
    "above": "every difference is greater than 0",
    "level": "every difference is smaller than the margin, in either direction",
    "by": "every difference is at least the margin",
    "varies more": "in every pair, the first scatters more over the folds than the second",
}
"""What a claim says of its contrasts."""

Side = str | tuple[str, ...]
"""A unit's name, or the names of several, all of which must have been run."""


class Contrast(NamedTuple):
    """Two sets of runs to be compared on the same folds.

    Attributes:
        name: what the difference is between, in words.
        first, second: a unit's name, or the names of several, all of which must have been run: else one side might be
            the mean of other schedules than the other. The effect is first minus second; where a claim is about scatter,
            the ratio of the two standard deviations over the folds.
        measure: a key of `results.MEASURES`; "final", the sharpest that all runs of its sides have, by default.
        beyond: two more sides, whose difference is taken away from the first.

    Example:
        >>> from anabook.experiments.claims import CLAIMS
        >>> CLAIMS[0].contrasts[0][:4]
        ('uniform: mode − random', 'uniform-mode-static', 'uniform-random-static', 'final')
    """

    name: str
    first: Side
    second: Side
    measure: str = FINAL
    beyond: tuple[Side, Side] | None = None

    @property
    def sides(self) -> tuple[Side, ...]:
        """Whatever is compared: two sides, or four."""
        return (self.first, self.second, *(self.beyond or ()))


@dataclass(frozen=True)
class Claim:
    """An empirical statement, the paper's or one's own.

    Attributes:
        name: short, with hyphens.
        statement: in our words.
        section: where the paper says it; empty for a claim that is not the paper's.
        tasks: the data sets that it is made about. A stand-in is judged in the place of what it stands for, and is named.
        kind: what it says of the contrasts: see `KINDS`.
        contrasts: what is compared. A claim holds if all of them do.
        margin: in accuracy, for the kinds that need one; what counts as negligible or as "well above" is ours to say.
        paper: the paper's own figures, in words, where it gives some.

    Example:
        >>> from anabook.experiments.claims import CLAIMS
        >>> CLAIMS[0].statement
        'With static noise, the mode gives somewhat higher accuracy than random sampling.'
    """

    name: str
    statement: str
    section: str
    tasks: tuple[str, ...]
    kind: str
    contrasts: tuple[Contrast, ...]
    margin: float = 0.0
    paper: str = ""

    @property
    def source(self) -> str:
        """Who says it and where, with the paper's own figures."""
        if not self.section:
            return "Ours"
        return f"Paper, {self.section}" + (f": {self.paper}" if self.paper else "")

    def is_about(self, task: str) -> bool:
        """Whether the claim is made about a data set, or about what that stands for.

        Example:
            >>> from anabook.experiments.claims import CLAIMS
            >>> CLAIMS[0].is_about("cifar10"), CLAIMS[0].is_about("gsc12")
            (True, False)
        """
        return TASKS[choice(task, TASKS, "the data set")].original in self.tasks

    def __post_init__(self) -> None:
        choice(self.kind, KINDS, "kind")
        for name, entries in (("tasks", self.tasks), ("contrasts", self.contrasts)):
            if not isinstance(entries, tuple) or not entries:
                raise TypeError(
                    f"{name} of the claim {self.name!r} must be a tuple with at least one entry, not {entries!r}."
                )
        for task in self.tasks:
            choice(task, TASKS, f"a data set of the claim {self.name!r}")
        for contrast in self.contrasts:
            if not isinstance(contrast, Contrast):
                raise TypeError(f"each of the contrasts of the claim {self.name!r} must be a Contrast, not {contrast!r}.")
            choice(contrast.measure, MEASURES, f"the measure of {contrast.name!r}")
            if contrast.beyond is not None and (
                self.kind == "varies more" or not isinstance(contrast.beyond, tuple) or len(contrast.beyond) != 2
            ):
                raise TypeError(
                    f"beyond of {contrast.name!r} must be two sides, in a claim about differences, not {contrast.beyond!r}."
                )
        real(self.margin, "margin", minimum=0.0)
