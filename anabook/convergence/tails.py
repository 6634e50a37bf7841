"""The tails of the noise laws: all that the theory of convergence knows of a law beyond its name.

Whether a network converges depends on how the upper tail T0 of each standardised law (mean 0, standard deviation 1,
symmetric) ends: at an `Edge`, or with a `Decay` for ever. `tail_of` tells which by the law's name. The functions behind it
give the numbers that networks are computed with, in doubles or in any precision. Nothing else in this package looks a
law up, and a law that has no entry here is refused, never taken for another.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np

from anabook._validate import choice
from anabook.convergence.exact_arithmetic import DOUBLE, Precision
from anabook.noise import FAMILIES, NUMPY_OPS


@dataclass(frozen=True)
class Edge:
    """The tail of a bounded law: T0(h0·(1 − u)) = c·u^m for 0 ≤ u ≤ 1, so that c is ½.

    Attributes:
        half_width_squared: h0², a whole number.
        order: m.
        centre: an mpmath number x in [−1, 1] ↦ F0(h0·x) − ½, without cancellation near x = 0.
        customary_std: the standard deviation of the law at the width 1 of its customary formula, in `of`'s numbers.
        coefficient: c.
    """

    half_width_squared: int
    order: int
    centre: Callable[[Any], Any]
    customary_std: Callable[[Any], Any]
    coefficient: Fraction = Fraction(1, 2)

    def half_width(self, of: Any) -> Any:
        """h0, in the numbers of `of`: the module `mpmath` or `sympy`."""
        return of.sqrt(self.half_width_squared)

    def tail(self, depth: Any) -> Any:
        """The tail beyond a point of the support, `depth` half-widths (from 0 to 1) inside its edge.

        Seen from the edge a tail keeps its digits; 1 − F0(t) near t = h0 has lost them.
        """
        return depth**self.order * self.coefficient.numerator / self.coefficient.denominator


@dataclass(frozen=True)
class Decay:
    """The tail of an unbounded law: T0(t) ~ t^power·exp(−rate·t^exponent) as t → ∞, up to a constant factor.

    Attributes:
        exponent: γ, 1 or more.
        rate: c, in the numbers of `of`: the module `mpmath` or `sympy`.
        power: the exponent of t before the exponential.
        in_words: the exponential at the distance s from the mean, for messages.
        tail: an mpmath number t ≥ 0 ↦ T0(t), with full relative accuracy.
        centre: an mpmath number t ↦ F0(t) − ½, without cancellation near t = 0.
        customary_std: as for `Edge`.
    """

    exponent: int
    rate: Callable[[Any], Any]
    power: int
    in_words: str
    tail: Callable[[Any], Any]
    centre: Callable[[Any], Any]
    customary_std: Callable[[Any], Any]


# mpmath's erfc gives up on arguments of astronomical size. There the leading term of Mills' ratio has a relative error
# below 1e-100. Farther out a tail is smaller than exp(-10^25000), less than anything it is ever compared with.
_MILLS_BEYOND = mpmath.mpf("1e50")
_NOTHING_BEYOND = mpmath.mpf("1e25000")
_POWER_OF_TWO_BEYOND = mpmath.mpf("1e40")


def _normal_tail(t: Any) -> Any:
    if t > _NOTHING_BEYOND:
        return mpmath.mpf(0)
    if t > _MILLS_BEYOND:
        return _decay(t * t / 2) / (t * mpmath.sqrt(2 * mpmath.pi))
    return mpmath.erfc(t / mpmath.sqrt(2)) / 2


def _logistic_tail(t: Any) -> Any:
    if t > _NOTHING_BEYOND:
        return mpmath.mpf(0)
    odds = _decay(mpmath.pi * t / mpmath.sqrt(3))
    return odds / (1 + odds)


def _decay(x: Any) -> Any:
    """exp(−x) for x ≥ 0.

    When x has more digits before the point than the working precision, only the logarithm of exp(−x) is known; then it
    is rounded to a power of two, which is what decides between numbers of that size and costs nothing.
    """
    return mpmath.ldexp(mpmath.mpf(1), -int(x / mpmath.ln2)) if x > _POWER_OF_TWO_BEYOND else mpmath.exp(-x)


# The laws once more, since the constants of `anabook.noise` are doubles and a comparison with 1e-200 needs more digits.
_TAILS: dict[str, Edge | Decay] = {
    "uniform": Edge(
        half_width_squared=3, order=1,
        centre=lambda x: x / mpmath.mpf(2),
        customary_std=lambda of: 1 / (2 * of.sqrt(3)),
    ),
    "triangular": Edge(
        half_width_squared=6, order=2,
        centre=lambda x: x - x * abs(x) / mpmath.mpf(2),
        customary_std=lambda of: 1 / of.sqrt(6),
    ),
    "normal": Decay(
        exponent=2, rate=lambda of: of.sqrt(1) / 2, power=-1, in_words="exp(−s²/(2·std²))",
        tail=_normal_tail,
        centre=lambda t: mpmath.erf(t / mpmath.sqrt(2)) / 2,
        customary_std=lambda of: of.sqrt(1),
    ),
    "logistic": Decay(
        exponent=1, rate=lambda of: of.pi / of.sqrt(3), power=0, in_words="exp(−π·s/(√3·std))",
        tail=_logistic_tail,
        centre=lambda t: mpmath.tanh(mpmath.pi * t / (2 * mpmath.sqrt(3))) / 2,
        customary_std=lambda of: of.pi / of.sqrt(3),
    ),
}

DIRAC = "dirac"
"""What a layer's law is called where its noise is gone."""

KNOWN = tuple(_TAILS)
"""The laws whose tails are known."""

BOUNDED = tuple(name for name, tail in _TAILS.items() if isinstance(tail, Edge))
"""Those of them that have an edge."""


def family_name(name: Any, what: str, gone: bool = False) -> str:
    """The name of a noise family, whether its tail is known or not: networks in doubles need no more.

    Noise that is `gone` may be called `DIRAC`; any bounded law of no width is the same.

    Raises:
        ValueError, TypeError: another name, or no name at all.
    """
    return BOUNDED[0] if gone and name == DIRAC else choice(name, FAMILIES, what)


def tail_of(family: str) -> Edge | Decay:
    """How a law's tail ends.

    Raises:
        ValueError: a law whose tail is not known.
    """
    if family not in _TAILS:
        raise ValueError(f"the tail of {family!r} noise is not known to more digits than a double has; those of "
                         f"{', '.join(map(repr, KNOWN[:-1]))} and {KNOWN[-1]!r} are.")
    return _TAILS[family]


def edge_of(family: str) -> Edge | None:
    """The edge of a law; None if it has none that is known."""
    tail = _TAILS.get(family)
    return tail if isinstance(tail, Edge) else None


def half_width(family: str, std: Any) -> Any:
    """Half the length of the support, in mpmath numbers where the standard deviation is one; infinite if there is no end.

    Raises:
        ValueError: digits are asked of a bounded law whose tail is not known.
    """
    if std == 0:
        return 0
    standard = FAMILIES[family].half_width
    if isinstance(std, mpmath.mpf) and math.isfinite(standard):
        return std * tail_of(family).half_width(mpmath)
    return standard * std


def upper_tail(family: str, t: np.ndarray, of: Precision) -> np.ndarray:
    """T0(t) for t ≥ 0, with full relative accuracy for unbounded laws; for bounded ones `Edge.tail` keeps more digits.

    Raises:
        ValueError: more digits than a double has are asked of a law whose tail is not known.
    """
    if of is DOUBLE:
        return FAMILIES[family].sf(t)
    tail = tail_of(family)
    if isinstance(tail, Edge):
        width = tail.half_width(mpmath)
        return np.frompyfunc(lambda v: tail.tail(max(0, 1 - v / width)), 1, 1)(t)
    return np.frompyfunc(tail.tail, 1, 1)(t)


def centre(family: str, t: np.ndarray, of: Precision) -> np.ndarray:
    """F0(t) − ½, with full relative accuracy near t = 0.

    Raises:
        ValueError: as for `upper_tail`.
    """
    if of is DOUBLE:
        law = FAMILIES[family]
        # F0(t) − ½ by subtraction has lost all digits when |t| < 1e-16; the tangent has lost none.
        return np.where(np.abs(t) < 1e-8, t * law.pdf(np.zeros_like(t), NUMPY_OPS), law.cdf(t, NUMPY_OPS) - 0.5)
    tail = tail_of(family)
    if isinstance(tail, Edge):
        width = tail.half_width(mpmath)
        return np.frompyfunc(lambda v: tail.centre(max(-1, min(1, v / width))), 1, 1)(t)
    return np.frompyfunc(tail.centre, 1, 1)(t)
