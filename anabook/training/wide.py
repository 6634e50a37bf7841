"""Kernels for evenly spaced thresholds under noise that reaches many: sums in closed form, whatever the noise's width.

The formulas, with what they may be wrong by, stand in `anabook.combs`. Here they are made exact where floats would not be:
numbers of thresholds are integers, and distances are measured from the nearest one.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from anabook import combs
from anabook.laws import FAMILIES
from anabook.training._ops import FAR_OPS, on_grid, polynomial


class Terms(NamedTuple):
    """What a program is made for: the numbers of coefficients for the value and for the slope, 0 for piecewise laws.

    `about_middle` tells noise wider than twice the stair.
    """

    value: int = 0
    slope: int = 0
    about_middle: bool = False


class _Accuracy(NamedTuple):
    """From which standard deviation on, in quanta, so many coefficients are enough for a float type."""

    least: float
    value: int
    slope: int
    middle: int


_ACCURACY = {
    ("normal", torch.float32): _Accuracy(2.0, 5, 6, 6),
    ("normal", torch.float64): _Accuracy(4.0, 9, 12, 16),
    ("logistic", torch.float32): _Accuracy(2.5, 6, 6, 6),
    ("logistic", torch.float64): _Accuracy(5.0, 11, 11, 10),
}
"""The remainders (`combs.remainder`) are less than half a rounding unit of one quantum: see the tests."""

_FEW = 8  # thresholds up to which they are added up one by one

_PIECEWISE = ("half", "below", "above", "most")
"""Constants beside the grid's, in quanta: half the support; how far beyond a threshold the density begins and ends, its slack
included; and more than what the noise reaches."""

_SMOOTH = ("start", "end", "middle", "offset", "most")
"""Constants beside the grid's: half a quantum before the first threshold, half a one behind the last, between them, what is
added to a number to get the level near it, and how many standard deviations out nothing is left."""


# Constants ----------------------------------------------------------------------------------------------------------


def constants(
    law: Any, dtype: torch.dtype, std: float, ends: tuple[float, float], grid: dict[str, float]
) -> tuple[Terms, list[float]] | None:
    """The constants that a wide noise needs beside the grid's; None if this is none, or none of the four families.

    Args:
        law: a family's name, or something else.
        dtype: float32 or float64.
        std: the standard deviation.
        ends: [low, high), where the noise counts in this float type, in quanta.
        grid: the constants of the grid, and "n", the number of thresholds.
    """
    n, quantum = int(grid["n"]), grid["quantum"]
    s = std / quantum
    if not isinstance(law, str) or min(n, ends[1] - ends[0]) <= _FEW:
        return None
    if law in combs.PIECEWISE:
        half = s * FAMILIES[law].half_width
        if half > torch.finfo(dtype).max ** 0.25:  # its square would be no number
            return None
        return Terms(), [half, -ends[0], -ends[1], n + 2 * half + 2]
    accuracy = _ACCURACY[law, dtype]
    if s < accuracy.least:
        return None
    start, end = (grid["b"] + 0.5) * quantum, (n + grid["b"] + 0.5) * quantum
    more = [start, end, (start + end) / 2, (grid["a"] - grid["b"] - 0.5) * quantum, _nothing_beyond(law, dtype)]
    if s >= 2 * n:
        terms = Terms(accuracy.middle, accuracy.middle, about_middle=True)
        value, slope = combs.middle(law, s, n, accuracy.middle)
    else:
        terms = Terms(accuracy.value, accuracy.slope)
        value, slope = combs.ends(law, s, accuracy.value, accuracy.slope)
    coefficients = np.concatenate([value[::-1], slope[::-1]])
    coefficients[np.abs(coefficients) < torch.finfo(dtype).tiny ** 0.8] = 0.0
    coefficients[: len(value)] *= quantum
    return terms, [*more, *coefficients]


@functools.lru_cache(maxsize=8)
def _nothing_beyond(law: str, dtype: torch.dtype) -> float:
    """How many standard deviations out a density is as good as 0.

    That is before differences of its tails are subnormal in the float type, and arithmetic with them ten times as slow.
    """
    smallest = 1e6 * torch.finfo(dtype).tiny
    t = np.arange(0.0, 1000.0, 0.125)
    return float(t[np.argmax(FAMILIES[law].pdf(t) < smallest)])


# Kernels ------------------------------------------------------------------------------------------------------------


def expected(v: Tensor, g: dict[str, Tensor], more: Tensor, terms: Terms, law: str) -> Tensor:
    """E[σ(v − ν)] under noise of mean 0.

    Args:
        v: the input less the noise's mean.
        g: the grid's constants.
        more: those of `constants`.
        terms: theirs too.
        law: the family's name.
    """
    if law == "uniform":
        k, r, own = _placed(v, g, more)
        reached, passed = _up_to(k, r + own["half"], g), _up_to(k, r - own["half"], g)
        both = reached + passed
        excess = combs.box_excess(reached - passed, r + (k - (both + 1) / 2), own["half"])
        return on_grid(both / 2, g["a"], g) + g["quantum"] * excess
    if law == "triangular":
        k, r, own = _placed(v, g, more)
        above, below = (combs.squares(count, depth) for count, depth in _sides(k, r, own["half"], g))
        return on_grid(k, g["a"], g) + ((above - below) * (0.5 / (own["half"] * own["half"]))) * g["quantum"]
    own, coefficients = _named(_SMOOTH, more), more[len(_SMOOTH) : len(_SMOOTH) + terms.value].unbind()
    noise, smooth = FAMILIES[law], combs.SMOOTH[law]

    def series(t: Tensor) -> Tensor:
        return noise.pdf(t, FAR_OPS) * polynomial(coefficients, smooth.argument(t, FAR_OPS))

    if terms.about_middle:
        t = _standardised(v - own["middle"], g, own)
        tail = (g["last"] * g["quantum"]) * noise.tail(t, FAR_OPS)
        inner = torch.where(t > 0, -tail, tail) + smooth.odd(t, FAR_OPS) * series(t)
        level = torch.where(t > 0, g["highest"], g["lowest"])
        return level + torch.where(torch.abs(t) < own["most"], inner, 0.0)
    parts = []
    for end in ("start", "end"):
        t = _standardised(v - own[end], g, own)
        parts.append(g["std"] * smooth.integral(-torch.abs(t), FAR_OPS) + series(t))
    return torch.minimum(torch.maximum(v + own["offset"], g["lowest"]), g["highest"]) + (parts[0] - parts[1])


def slope(v: Tensor, g: dict[str, Tensor], more: Tensor, terms: Terms, law: str) -> Tensor:
    """The derivative of `expected`, written out, with the conventions that the density has at its edges."""
    noise = FAMILIES[law]
    if law == "uniform":
        k, r, own = _placed(v, g, more)
        count = _up_to(k, r + own["below"], g) - _up_to(k, r + own["above"], g)
        return count * (noise.pdf(torch.zeros_like(r), FAR_OPS) * g["quantum"] / g["std"])
    if law == "triangular":
        k, r, own = _placed(v, g, more)
        above, below = (count * depth for count, depth in _sides(k, r, own["half"], g))
        return (above + below) * (1 / (own["half"] * own["half"]))
    own, coefficients = _named(_SMOOTH, more), more[len(_SMOOTH) + terms.value :].unbind()
    smooth = combs.SMOOTH[law]

    def series(t: Tensor) -> Tensor:
        return noise.pdf(t, FAR_OPS) * polynomial(coefficients, smooth.argument(t, FAR_OPS))

    if terms.about_middle:
        t = _standardised(v - own["middle"], g, own)
        return torch.where(torch.abs(t) < own["most"], series(t), 0.0)
    # Seen from the nearer end and from the other one, so that both are lower tails where v is far outside.
    first, last = v - own["start"], own["end"] - v
    parts = []
    for distance in (torch.minimum(first, last), -torch.maximum(first, last)):
        t = _standardised(distance, g, own)
        correction = smooth.odd(t, FAR_OPS) * series(t)
        if smooth.steepens:
            near = 1 + smooth.argument(t, FAR_OPS) * combs.pole(g["std"] * g["per_quantum"])
            correction = correction / (near * near * near)
        parts.append(noise.cdf(t, FAR_OPS) + correction)
    return parts[0] - parts[1]


def _placed(v: Tensor, g: dict[str, Tensor], more: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """How many thresholds are passed, how many quanta v is beyond the last of these, and the constants by name.

    Before the first threshold the place is that of the one before it.
    """
    own = _named(_PIECEWISE, more)
    k = torch.minimum(torch.clamp(torch.floor(v * g["per_quantum"] - g["b"]), min=0.0), g["last"])
    r = (v - on_grid(k, g["b"], g)) * g["per_quantum"]
    return k, torch.minimum(torch.maximum(r, -own["most"]), own["most"]), own


def _up_to(k: Tensor, distance: Tensor, g: dict[str, Tensor]) -> Tensor:
    """How many thresholds there are up to a distance beyond the place of the k-th."""
    return torch.minimum(torch.clamp(k + torch.floor(distance), min=0.0), g["last"])


def _sides(k: Tensor, r: Tensor, half: Tensor, g: dict[str, Tensor]) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """How many thresholds are within reach above v and below it, and how far inside the support they are on average."""
    above = torch.minimum(torch.clamp(torch.floor(half + r), min=0.0), g["last"] - k)
    below = torch.minimum(torch.clamp(torch.ceil(half - r), min=0.0), k)
    return (above, (half + (r - 0.5)) - above * 0.5), (below, (half - (r - 0.5)) - below * 0.5)


def _standardised(distance: Tensor, g: dict[str, Tensor], own: dict[str, Tensor]) -> Tensor:
    """A distance in standard deviations, no farther out than anything is left: there what two ends add cancels exactly."""
    t = distance / g["std"]
    return torch.minimum(torch.maximum(t, -own["most"]), own["most"])


def _named(names: tuple[str, ...], more: Tensor) -> dict[str, Tensor]:
    return dict(zip(names, more.unbind()))
