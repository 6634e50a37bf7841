"""How a kernel finds the thresholds near a number, and the constants that it needs for it.

* `Loop`: all thresholds, where they are few or all count.
* `Grid`: evenly spaced levels and thresholds, computed instead of looked up. Only the thresholds that the noise can
  reach count, so three levels cost what 256 do.
* `Wide`: the same levels and thresholds under a noise that reaches many of them, whose sum has a closed form.
* `Table`: many thresholds without such a rule, found by bisection; again only those within reach count.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from anabook import laws
from anabook.laws import FAMILIES
from anabook.namespaces import SLACK
from anabook.training.wide import Terms, constants

if TYPE_CHECKING:
    from anabook.training._densities import TorchDensity  # noqa: F401  named in `Kind`


class Loop(NamedTuple):
    """Constants: α, β, the levels, the thresholds."""

    n_thresholds: int


class Grid(NamedTuple):
    """Levels (k + a)·ε and thresholds (k + b)·ε. Constants: as in `GRID`."""

    window: int


class Wide(NamedTuple):
    """Levels and thresholds as on a `Grid`. Constants: as in `GRID`, then those of `wide.constants`."""

    terms: Terms


class Table(NamedTuple):
    """Constants: α, β, the levels, the thresholds. The window counts those within reach on one side."""

    n_thresholds: int
    window: int


Layout = Loop | Grid | Wide | Table
Kind = "str | laws.Law | TorchDensity"
"""A law, as programs are kept apart by it: a family's name, another law, or a density of the reader's own. The unit is the
law's own, so α and β are the place of its 0 and the size of its 1."""

GRID = (
    "mean",
    "std",
    "a",
    "b",
    "high",
    "low",
    "per_quantum",
    "quantum",
    "shift",
    "last_start",
    "last",
    "bottom",
    "top",
    "lowest",
    "highest",
)
MOST_SELECTS = 16  # thresholds from which on bisection beats one comparison each


def layout_of(
    levels: np.ndarray,
    thresholds: np.ndarray,
    dtype: torch.dtype,
    law: Kind | None = None,
    std: float = 0.0,
    mean: float = 0.0,
) -> tuple[Layout, np.ndarray]:
    """How to find the thresholds of a quantiser in a float type, and the constants for it, all but exact in float64.

    Args:
        levels: float64, increasing; without a law in any order.
        thresholds: float64, not decreasing: two are equal where the level between them is skipped.
        dtype: float32 or float64, the type to compute in.
        law: of the noise that makes neighbours count; None if none does.
        std, mean: the size of the law's unit and the place of its 0.
    """
    n = len(thresholds)
    low, high = (0.0, 0.0) if law is None else (std * end for end in _ends(law, dtype))
    grid = None if n <= 3 or math.isinf(high - low) else _evenly_spaced(levels.tobytes(), thresholds.tobytes(), dtype)
    if grid is not None:
        quantum = grid["quantum"]
        found = (
            None
            if law is None or grid["skips"]
            else constants(law, dtype, std, (low / quantum, high / quantum), {**grid, "n": n})
        )
        if found is not None:
            terms, more = found
            values = {**grid, "mean": mean, "std": std, "shift": 0.0, "last_start": 0.0}
            return Wide(terms), np.array([*(values[name] for name in GRID), *more])
        # An interval that is closed on the left and m quanta long holds m thresholds.
        window = _bucket(math.ceil((high - low) / quantum - 1e-6), 3 if law in ("normal", "logistic") else 1)
        if window <= n and (law is None or not grid["skips"]):
            shift = 1 - window / 2 - (low + high) / (2 * quantum)
            values = {**grid, "mean": mean, "std": std, "shift": shift, "last_start": n + 1 - window}
            return Grid(window), np.array([values[name] for name in GRID])
    layout: Layout = Loop(n)
    if n > MOST_SELECTS:
        reach = max(-low, high)
        window = _bucket(int((np.arange(1, n + 1) - np.searchsorted(thresholds, thresholds - reach)).max()), 1)
        if 2 * window <= n:
            layout = Table(n, window)
    return layout, np.concatenate([[mean, std], levels, thresholds])


def _bucket(count: int, first: int) -> int:
    """The smallest first·2^i that holds `count`: few sizes, so that a shrinking noise meets few kernels."""
    return first * 2 ** max(0, math.ceil(math.log2(max(count, 1) / first)))


@functools.lru_cache(maxsize=64)
def _ends(law: Kind, dtype: torch.dtype) -> tuple[float, float]:
    """[low, high): where a law counts in a float type, in standard deviations from its mean."""
    if not isinstance(law, (str, laws.Law)):
        return law.ends(dtype)
    if not isinstance(law, str):
        return _ends_of_law(law, torch.finfo(dtype).eps)
    family = FAMILIES[law]
    if math.isfinite(family.half_width):
        low = _first_inside(family, dtype)
        return low, low + 2 * family.half_width
    resolution = torch.finfo(dtype).eps / 8
    t = np.linspace(0.0, 40.0, 4001)
    faded = (family.sf(t) < resolution) & (family.pdf(t) < resolution * family.pdf(np.zeros(1)))
    reach = float(t[np.argmax(faded)])
    return -reach, reach


def _ends_of_law(law: laws.Law, eps: float) -> tuple[float, float]:
    """The support, with slack; where it is unbounded, as far as tail and density are more than a rounding."""
    low, high = map(float, law.bounds())
    t = np.geomspace(0.05, 1e7, 400)
    with np.errstate(over="ignore", invalid="ignore"):
        both = np.abs(law.pdf(np.concatenate([-t, [0.0], t])))
        peak = np.max(both, initial=0.0, where=np.isfinite(both))
        found = []
        for sign, end in ((-1, low), (1, high)):
            slack = SLACK * eps * max(1.0, abs(end))
            if math.isfinite(end):
                found.append(end + sign * slack)
                continue
            counts = ~(np.abs(law.pdf(sign * t)) < eps / 8 * peak)
            if law.is_probability:
                counts |= ~((law.sf if sign > 0 else law.cdf)(sign * t) < eps / 8)
            last = np.flatnonzero(counts).max(initial=-1) + 1
            found.append(sign * (float(t[last]) if last < len(t) else math.inf))
    return found[0], found[1]


def _first_inside(family: laws.Law, dtype: torch.dtype) -> float:
    """Where the support begins according to the density's formula in a float type, slack included."""
    low, high = -2 * family.half_width, 0.0
    kind = np.float32 if dtype == torch.float32 else np.float64
    for _ in range(60):
        middle = (low + high) / 2
        if family.pdf(np.full(1, middle, kind))[0] > 0:
            high = middle
        else:
            low = middle
    return high


@functools.lru_cache(maxsize=256)
def _evenly_spaced(levels: bytes, thresholds: bytes, dtype: torch.dtype) -> dict[str, float] | None:
    """A grid that gives every level and threshold to the last bit of the float type; None if there is none.

    The first and the last thresholds may be out of line, as the mode's are.
    """
    levels, thresholds = np.frombuffer(levels), np.frombuffer(thresholds)
    if (np.diff(levels) <= 0).any() or not np.isfinite(thresholds).all():
        return None
    kind = np.float32 if dtype == torch.float32 else np.float64
    n = len(thresholds)
    spacing = (levels[-1] - levels[0]) / n
    a = round(4 * levels[0] / spacing) / 4
    b = round(4 * (thresholds[n // 2] / spacing - (n // 2 + 1))) / 4
    bits = math.frexp(4 * (max(abs(a), abs(b)) + n + 1))[1]
    if bits > 20:
        return None
    leading = (24 if kind is np.float32 else 53) - bits
    for exact in dict.fromkeys((*_quanta(levels, a), Fraction(spacing))):
        quantum = float(exact)
        mantissa, exponent = math.frexp(quantum)
        high = math.ldexp(round(math.ldexp(mantissa, leading)), exponent - leading)
        low = float(kind(float(exact - Fraction(high))))
        if not _gives(levels.astype(kind), np.arange(n + 1) + a, high, low).all():
            continue
        straight = _gives(thresholds.astype(kind), np.arange(1, n + 1) + b, high, low)
        ends = _bent_ends(thresholds, np.arange(1, n + 1) + b, straight, quantum)
        if ends is not None:
            return {
                "a": a,
                "b": b,
                "high": high,
                "low": low,
                "per_quantum": 1 / quantum,
                "quantum": quantum,
                "last": float(n),
                "bottom": ends[0],
                "top": ends[1],
                "lowest": levels[0],
                "highest": levels[-1],
                "skips": not straight.all(),
            }
    return None


def _quanta(levels: np.ndarray, a: float) -> Iterator[Fraction]:
    """What the quantum may have been: the shortest decimal of a level's, as `Quantiser.linear` reads it, or its float."""
    z = np.arange(len(levels)) + a
    for k in np.argsort(np.abs(z), kind="stable")[:4]:
        if z[k]:
            quantum = float(levels[k] / z[k])
            yield from (Fraction(repr(quantum)), Fraction(quantum))


def _gives(wanted: np.ndarray, z: np.ndarray, high: float, low: float) -> np.ndarray:
    """Where z·high + z·low is the wanted number, whether or not the second product is rounded by itself."""
    kind = wanted.dtype.type
    apart = (z * high).astype(kind) + (z * low).astype(kind)
    return (apart == wanted) & ((z * high + z * low).astype(kind) == wanted)


def _bent_ends(thresholds: np.ndarray, z: np.ndarray, straight: np.ndarray, quantum: float) -> tuple[float, float] | None:
    """What replaces the thresholds out of line at either end; ∓inf where none is, None if others are out of line."""
    if straight.all():
        return -math.inf, math.inf
    inside = np.flatnonzero(straight)
    if len(inside) == 0:
        return None
    first, last = inside[0], inside[-1]
    bottom, top = thresholds[:first], thresholds[last + 1 :]
    if not straight[first : last + 1].all() or len(set(bottom)) > 1 or len(set(top)) > 1:
        return None
    # The first ones may only move inwards, the last ones too: then the rest need not know.
    if len(bottom) and bottom[0] < z[first - 1] * quantum or len(top) and top[0] > z[last + 1] * quantum:
        return None
    return float(bottom[0]) if len(bottom) else -math.inf, float(top[0]) if len(top) else math.inf
