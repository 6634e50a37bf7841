"""The settings of the paper's experiments, as its authors' code has them, each with what the theorem says about it."""

from __future__ import annotations

from typing import NamedTuple

from anabook._validate import integer
from anabook.convergence.tails import KNOWN
from anabook.convergence.theorem_hypothesis import check
from anabook.convergence.verdicts import Verdict
from anabook.noise import Noise
from anabook.schedules import INTERVALS, POWER_LAWS, Schedule


class PaperRow(NamedTuple):
    """One of the paper's settings, with the code's numbers, and what the theorem says about it.

    Attributes:
        interval, power_law: of the dynamic schedule.
        mean0: 0 (static mean) or −½ (dynamic, as in the authors' code; the paper asks for a positive one, with added noise).
        family: of the noise.
        holds: whether rates exist.
        failing: which conditions fail where; empty if none.
    """

    interval: str
    power_law: str
    mean0: float
    family: str
    holds: bool | None
    failing: str


def paper_table(
    n_layers: int = 7, period: float = 50, half_width: float = 0.5, reading: str = "time"
) -> tuple[PaperRow, ...]:
    """The 8 dynamic schedules × 2 settings of the mean × 4 families of the paper's experiments, each decided.

    Exponents, periods and strengths are those of the authors' code.

    Args:
        n_layers: quantised layers (7 in the VGG, 9 in the DSCNN).
        period: epochs (50 and 10).
        half_width: all noise starts with at least 95 % of its mass within this half-width, in quanta.
        reading: "time" or "lambda", as for `as_formulas`.

    Returns:
        64 rows.

    Example:
        >>> rows = paper_table()
        >>> len(rows), rows[0].holds, rows[0].failing
        (64, False, '(12), (17) in layer 6')
    """
    n_layers, rows = integer(n_layers, "n_layers", minimum=1), []
    for interval in INTERVALS:
        for law in POWER_LAWS:
            for mean0 in (0.0, -0.5):
                for family in KNOWN:
                    std0 = Noise.covering(family, half_width).std
                    options = {"power_law": law, "mean0": mean0, "std0": std0, "static_mean": mean0 == 0}
                    s = Schedule.periodic(n_layers, period, interval, **options)
                    verdict = check(family, s, reading=reading)
                    rows.append(PaperRow(interval, law, mean0, family, verdict.holds, _failing(verdict)))
    return tuple(rows)


def _failing(verdict: Verdict) -> str:
    by_condition: dict[str, list[int]] = {}
    for finding in verdict.findings:
        if finding.holds is False:
            by_condition.setdefault(finding.condition, []).append(finding.layer)
    groups: dict[tuple[int, ...], list[str]] = {}
    for condition, layers in by_condition.items():
        groups.setdefault(tuple(layers), []).append(condition)
    return "; ".join(f"{', '.join(names)} in layer{'s' * (len(ls) > 1)} {_runs(ls)}" for ls, names in groups.items())


def _runs(layers: tuple[int, ...]) -> str:
    whole = len(layers) > 2 and layers == tuple(range(layers[0], layers[-1] + 1))
    return f"{layers[0]}–{layers[-1]}" if whole else ", ".join(map(str, layers))
