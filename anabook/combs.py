"""A law summed over evenly spaced places, in closed form: a stair of equal steps under noise that is wider than a step.

Lengths are in units of the spacing. The places are 1, 2, …, n, and the sums are S(y) = Σ_k F((y − k)/s) for a law of
standard deviation s, and its slope Σ_k f((y − k)/s)/s.

**Piecewise laws.** Within reach F is a polynomial of the distance, and so its sum is one of the number of places and of their
mean, without a remainder: `box_excess`, `squares`.

**Smooth laws.** Euler and Maclaurin's formula, in the form of midpoints, for g(k) = F((y − k)/s) on [½, n + ½]:

    S(y) = s·(G(t₁) − G(t₂)) + Σ_{m<M} r_m·(f^(2m)(t₁) − f^(2m)(t₂))/s^(2m+1) + ρ,    r_m = B_{2m+2}(½)/(2m + 2)!,

where t₁ = (y − ½)/s, t₂ = (y − n − ½)/s, G is the integral of F, and f^(2m) is the density's derivative. What is to be
computed does not depend on how wide the noise is or how many places there are: `ends`. For the remainder

    |ρ| ≤ |B_{2M}|/(2M)!·∫ |g^(2M)(k)| dk ≤ 2ζ(2M)·s·(2πs)^(−2M)·∫ |f^(2M−1)(t)| dt,

as the periodic Bernoulli functions are nowhere larger than |B_{2M}| (`remainder`). It falls with s. For the normal law the
last integral is at most √((2M − 1)!): that is the root of the mean square of the Hermite polynomial of order 2M − 1.

Under noise wider than twice the stair the two ends nearly cancel. Then Taylor's formula about the middle is the better one,
S(y) = Σ_m μ_2m·F^(2m)(t)/((2m)!·s^(2m)), with the moments μ of the places: `middle`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.polynomial import Polynomial
from scipy import special

from anabook.laws import bell

PIECEWISE = ("uniform", "triangular")
"""The families with a density that is a polynomial in pieces."""

_ROWS = 18  # derivatives that are kept ready: more than any sum takes


# Piecewise laws -----------------------------------------------------------------------------------------------------


def box_excess(count: Any, offset: Any, half_width: Any) -> Any:
    """What the sum of the uniform F is more than half of the places within reach and all of those below.

    Args:
        count: the number of places within reach.
        offset: how far y is to the right of their mean.
        half_width: of the support.

    Example:
        >>> box_excess(2, 0.25, 1.5)  # places at −0.75 and 0.25 from y: F is 0.75 and 0.4166…
        0.16666666666666666
    """
    return count * (1 / (2 * half_width)) * offset


def squares(count: Any, mean: Any) -> Any:
    """The sum of the squares of numbers that are 1 apart: that of their mean, and their mean square about it.

    All terms are positive. Beyond a place at the depth d inside the support [−h, h] the triangular law has the mass d²/2h², and
    there its density is d/h², so its sums are this one and count times mean.

    Args:
        count: how many numbers.
        mean: of the numbers.

    Example:
        >>> squares(2, 1.5)  # 1² + 2²
        5.0
    """
    return count * (mean * mean + (count * count - 1) * (1 / 12))


# Smooth laws --------------------------------------------------------------------------------------------------------


class Smooth(NamedTuple):
    """How the derivatives of a smooth law's density f follow from each other: all are f times a polynomial in one w(t).

    Attributes:
        integral: `(t, m)` ↦ ∫ F up to t, for t ≤ 0; its error is small beside f(t).
        argument: `(t, m)` ↦ w.
        odd: `(t, m)` ↦ o, an odd function.
        once: P ↦ Q with (f·P(w))′ = f·o·Q(w).
        twice: P ↦ Q with (f·P(w))″ = f·Q(w).
        steepens: whether f falls the faster the farther out: its tails are not those of one exponential.
    """

    integral: Callable[..., Any]
    argument: Callable[..., Any]
    odd: Callable[..., Any]
    once: Callable[[Polynomial], Polynomial]
    twice: Callable[[Polynomial], Polynomial]
    steepens: bool


_W = Polynomial([0.0, 1.0])
_RATE = math.pi / math.sqrt(3)


def _normal_once(p: Polynomial) -> Polynomial:
    return 2 * p.deriv() - p


def _normal_twice(p: Polynomial) -> Polynomial:
    return _normal_once(p) + 2 * _W * _normal_once(p).deriv() - _W * _normal_once(p)


def _logistic_once(p: Polynomial) -> Polynomial:
    return -_RATE * (p + _W * p.deriv())


def _logistic_twice(p: Polynomial) -> Polynomial:
    first, second = p + _W * p.deriv(), 2 * p.deriv() + _W * p.deriv(2)
    return _RATE**2 * (first * (1 - 6 * _W) + second * _W * (1 - 4 * _W))


SMOOTH: dict[str, Smooth] = {
    "normal": Smooth(
        integral=lambda t, m: bell(t, m) + t * m.ndtr(t),
        argument=lambda t, m: t * t,
        odd=lambda t, m: t,
        once=_normal_once,
        twice=_normal_twice,
        steepens=True,
    ),
    "logistic": Smooth(
        integral=lambda t, m: m.log1p(m.exp(_rate(m) * t)) / _rate(m),
        argument=lambda t, m: m.bump(_rate(m) * t),
        odd=lambda t, m: 2 * m.expit(_rate(m) * t) - 1,
        once=_logistic_once,
        twice=_logistic_twice,
        steepens=False,
    ),
}
"""The other families. In the logistic law's w = p·(1 − p) with p = F(t) its density is π/√3·w, and w′ = π/√3·w·(1 − 2p)."""


def _rate(m: Any) -> Any:
    return m.pi / m.root(3)


def ends(name: str, s: float, terms: int, slope_terms: int) -> tuple[np.ndarray, np.ndarray]:
    """What either end of the places adds to s·G(t) and to F(t), as polynomials in w.

    The sum is s·G(t) + f(t)·A(w), its slope F(t) + f(t)·o(t)·B(w)/(1 + w/(2πs)²)³, less the same at the other end; without the
    denominator unless the law `steepens`. There, t standard deviations outside, the places count less and less by a factor
    exp(−t/s) each, and the series in (t/2πs)² converges slowly, or not at all for t > 2πs: the functions that it stands for
    have poles at ±2πi, of orders 1, 3, …, of which the denominator takes the first two away.

    Args:
        name: the family's.
        s: the standard deviation.
        terms, slope_terms: how many coefficients of A and of B.
    """
    even, odd = _derivatives(name)
    weights = np.array([_midpoint(m) * s ** -(2.0 * m + 1) for m in range(_ROWS)])
    value = (weights[:terms] @ even[:terms])[:terms]
    if not SMOOTH[name].steepens:
        return value, (weights[:slope_terms] @ odd[:slope_terms])[:slope_terms] / s
    near = np.array([1.0, pole(s)])
    denominator = functools.reduce(np.convolve, [near, near, near])
    return value, np.convolve(weights @ odd / s, denominator)[:slope_terms]


def pole(s: Any) -> Any:
    """1/(2πs)²: what w is multiplied by in the denominator of `ends`."""
    return 1 / (4 * math.pi**2 * (s * s))


def middle(name: str, s: float, n: int, terms: int) -> tuple[np.ndarray, np.ndarray]:
    """Taylor's formula about the middle of n places: the sum is n·F(t) + f(t)·o(t)·A(w), its slope f(t)·B(w).

    Args:
        name: the family's.
        s: the standard deviation.
        n: the number of places.
        terms: how many coefficients of each.
    """
    even, odd = _derivatives(name)
    weights = np.array([moment / math.factorial(2 * m) for m, moment in enumerate(_moments(n))])
    weights = n * weights * (n / s) ** (2.0 * np.arange(_ROWS + 1))
    return (weights[1 : terms + 1] @ odd[:terms])[:terms], (weights[:terms] @ even[:terms])[:terms] / s


def remainder(name: str, s: float, terms: int) -> float:
    """A bound of ρ, what the sum with so many `ends` terms may be wrong by, in the law's whole mass.

    The integral of |f^(2M−1)| is the variation of f^(2M−2) = f·P(w): that between its extremes, where the polynomial of the
    next derivative vanishes.

    Example:
        >>> remainder("normal", 2.0, 5) < 3e-8
        True
    """
    if name == "normal":
        variation = math.sqrt(math.factorial(2 * terms - 1))
    else:
        # f = π/√3·w; both sides of the middle, where w = 1/4 is the largest.
        even, odd = (Polynomial(row) for row in (kind[terms - 1] for kind in _derivatives(name)))
        extremes = [float(w.real) for w in odd.roots() if abs(w.imag) < 1e-9 and 0 < w.real < 0.25]
        heights = [_RATE * w * even(w) for w in [0.0, *sorted(extremes), 0.25]]
        variation = 2 * float(np.abs(np.diff(heights)).sum())
    return 2 * float(special.zeta(2 * terms)) * s * (2 * math.pi * s) ** (-2 * terms) * variation


def _midpoint(m: int) -> float:
    """r_m = B_{2m+2}(½)/(2m + 2)!."""
    k = 2 * m + 2
    return (-1) ** (m + 1) * 2 * (1 - 2.0 ** (1 - k)) * float(special.zeta(k)) / (2 * math.pi) ** k


@functools.lru_cache(maxsize=8)
def _derivatives(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The polynomials in w of f, f″, f⁗, … over f, and of their derivatives over f·o: a row each, lowest power first."""
    smooth, p = SMOOTH[name], Polynomial([1.0])
    even, odd = np.zeros((2, _ROWS, _ROWS))
    for m in range(_ROWS):
        once = smooth.once(p).coef
        even[m, : len(p.coef)], odd[m, : len(once)] = p.coef, once
        p = smooth.twice(p)
    return even, odd


@functools.lru_cache(maxsize=64)
def _moments(n: int) -> np.ndarray:
    """The mean even powers of the places' distances from their middle, in units of n."""
    place = (np.arange(1, n + 1) - (n + 1) / 2) / n
    return np.array([float(np.mean(place ** (2 * m))) for m in range(_ROWS + 1)])
