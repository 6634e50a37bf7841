"""Distribution functions that have no closed form: integrals of a density as polynomials on panels.

A variable u takes the place of x, in which both ends of the interval lie at infinity: poles at the ends become
exponential tails, and panels of a few units are enough. In each panel the integrand is a Legendre series, found at the
nodes of Gauß, and its integral from either end is another one. Panels are halved until their series have converged.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import sympy as sp
from numpy.polynomial import chebyshev, legendre

from anabook.symbolic._expressions import as_numpy, is_elementary, places_of_mass, real_values

_DEGREE = 23
_NODES, _WEIGHTS = legendre.leggauss(_DEGREE + 1)
# Values at the nodes to coefficients: c_n = (n + 1/2) Σ w_i P_n(x_i) f(x_i).
_TO_SERIES = ((np.arange(_DEGREE + 1) + 0.5) * legendre.legvander(_NODES, _DEGREE) * _WEIGHTS[:, None]).T
_REACH = 100.0  # in units of u: e^−100 of a unit next to an end, e^100 units out
_PANELS = 400
_NEGLIGIBLE = 1e-21  # shares of the whole that are not worth a closer look
_CONVERGED = 1e-14


class CumulativeTable:
    """∫ f from the lower end to x, and from x to the upper end, for arrays, within a few roundings of the whole.

    Args:
        f: an expression in `x` that is smooth inside the interval.
        low, high: the ends, numbers or ∓oo.

    Attributes:
        total: the integral over the whole interval.
    """

    def __init__(self, f: sp.Expr, low: sp.Expr, high: sp.Expr) -> None:
        self._low, self._high = float(low), float(high)
        panels = self._panels(f, low, high)
        self._starts = np.array([start for start, _, _ in panels])
        self._stops = np.array([stop for _, stop, _ in panels])
        half = (self._stops - self._starts) / 2
        series = np.array([coefficients for _, _, coefficients in panels])
        masses = 2 * half * series[:, 0]
        integrated = legendre.legint(series, axis=1) * half[:, None]
        # Each from its own end, so that small values keep their digits.
        self._from_low = integrated.copy()
        self._from_low[:, 0] -= _at(integrated.T, -1.0)
        self._to_high = -integrated
        self._to_high[:, 0] += _at(integrated.T, 1.0)
        self._below = np.concatenate([[0.0], np.cumsum(masses)[:-1]])
        self._above = np.concatenate([np.cumsum(masses[::-1])[::-1][1:], [0.0]])
        self.total = math.fsum(masses)

    def below(self, v: np.ndarray) -> np.ndarray:
        """∫ from the lower end to v, for v in the interval."""
        index, t = self._located(v)
        return np.clip(self._below[index] + _at(self._from_low[index].T, t), 0.0, None)

    def above(self, v: np.ndarray) -> np.ndarray:
        """∫ from v to the upper end, for v in the interval."""
        index, t = self._located(v)
        return np.clip(self._above[index] + _at(self._to_high[index].T, t), 0.0, None)

    def _located(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        u = np.clip(self._mapped(np.asarray(v, dtype=np.float64)), self._starts[0], self._stops[-1])
        index = np.clip(np.searchsorted(self._starts, u, side="right") - 1, 0, len(self._starts) - 1)
        start, stop = self._starts[index], self._stops[index]
        return index, np.clip((2 * u - start - stop) / (stop - start), -1.0, 1.0)

    def _mapped(self, v: np.ndarray) -> np.ndarray:
        """x to u."""
        with np.errstate(divide="ignore", invalid="ignore"):
            if math.isfinite(self._low) and math.isfinite(self._high):
                return np.log(np.maximum(v - self._low, 0.0)) - np.log(np.maximum(self._high - v, 0.0))
            if math.isfinite(self._low):
                return np.log(np.maximum(v - self._low, 0.0))
            return -np.log(np.maximum(self._high - v, 0.0)) if math.isfinite(self._high) else np.arcsinh(v)

    def _panels(self, f: sp.Expr, low: sp.Expr, high: sp.Expr) -> list[tuple[float, float, np.ndarray]]:
        integrand = _in_u(real_values(f) if is_elementary(f) else _in_doubles(f), low, high)

        def panel(start: float, stop: float) -> tuple[float, float, np.ndarray]:
            values = [integrand(start + (stop - start) * (1 + node) / 2) for node in _NODES]
            return start, stop, _TO_SERIES @ np.array(values)

        def weight(panel: tuple[float, float, np.ndarray]) -> float:
            return (panel[1] - panel[0]) * float(np.abs(panel[2]).max())

        starts = [np.linspace(-_REACH, _REACH, 51), self._mapped(places_of_mass(f, low, high))]
        peak = max(integrand(float(u)) for u in np.concatenate(starts))
        for sign in (-1.0, 1.0):
            if integrand(sign * _REACH) > 1e-18 * peak:
                # A pole that is hardly integrable, or a tail without moments.
                starts.append(sign * np.linspace(_REACH, 7 * _REACH, 31))
        edges = np.unique(np.concatenate(starts))
        open_ones = [panel(a, b) for a, b in zip(edges[:-1].tolist(), edges[1:].tolist())]
        done: list[tuple[float, float, np.ndarray]] = []
        while open_ones:
            whole = sum(map(weight, open_ones)) + sum(map(weight, done))
            next_ones = []
            for one in open_ones:
                start, stop, series = one
                unsettled = float(np.abs(series[-4:]).max()) * (stop - start)
                settled = unsettled <= max(_CONVERGED * weight(one), _NEGLIGIBLE * whole)
                if settled or stop - start < 1e-9 or len(done) + len(open_ones) + len(next_ones) > _PANELS:
                    done.append(one)
                else:
                    middle = (start + stop) / 2
                    next_ones += [panel(start, middle), panel(middle, stop)]
            open_ones = next_ones
        return sorted(done, key=lambda one: one[0])


def _in_doubles(f: sp.Expr) -> Callable[..., Any]:
    """Special functions are slow with many digits; SciPy's are not."""
    rough, precise = as_numpy(f), real_values(f)

    def value(v: Any, toward: Any) -> Any:
        found = float(rough(float(v)))
        return mpmath.mpf(found) if math.isfinite(found) else precise(v, toward)

    return value


def _in_u(f: Callable[..., Any], low: sp.Expr, high: sp.Expr) -> Callable[[float], float]:
    """f(x) dx/du as a function of u, computed with more digits than doubles have."""
    bounded = (low.is_finite is not False, high.is_finite is not False)

    def integrand(u: float) -> float:
        with mpmath.workdps(40 + int(abs(u) / 2)):
            e = mpmath.exp(mpmath.mpf(u))
            if all(bounded):
                a, width = mpmath.mpf(sp.N(low, mpmath.mp.dps)), mpmath.mpf(sp.N(high - low, mpmath.mp.dps))
                v, slope, toward = a + width * e / (1 + e), width * e / (1 + e) ** 2, a + width / 2
            elif bounded[0]:
                a = mpmath.mpf(sp.N(low, mpmath.mp.dps))
                v, slope, toward = a + e, e, a + 1
            elif bounded[1]:
                b = mpmath.mpf(sp.N(high, mpmath.mp.dps))
                v, slope, toward = b - 1 / e, 1 / e, b - 1
            else:
                v, slope, toward = (e - 1 / e) / 2, (e + 1 / e) / 2, None
            value = f(v, toward) * slope
            return float(value) if mpmath.isfinite(value) else 0.0

    return integrand


def _at(series: np.ndarray, t: Any) -> np.ndarray:
    """Legendre series, each at its own t; the coefficients are along the first axis."""
    return legendre.legval(t, series, tensor=False)


def chebyshev_panels(
    function: Callable[[np.ndarray], np.ndarray], low: float, high: float, degree: int, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """A function of doubles on [low, high] as polynomials on panels.

    Returns:
        The inner edges of the panels; and for each panel its middle, the inverse of its half width, and the
        coefficients of the powers of (x − middle)/half width from the lowest to the highest.
    """
    nodes = chebyshev.chebpts1(degree + 1)
    to_series = np.linalg.inv(chebyshev.chebvander(nodes, degree))
    panels: list[tuple[float, float, np.ndarray]] = []
    open_ones = [(low, high)]
    while open_ones:
        start, stop = open_ones.pop()
        middle, half = start / 2 + stop / 2, (stop - start) / 2
        series = to_series @ function(np.clip(middle + half * nodes, low, high))
        narrow = half <= 8 * np.finfo(np.float64).eps * max(abs(start), abs(stop))
        if np.abs(series[-2:]).max() <= tolerance or narrow or len(panels) > 300:
            panels.append((middle, half, chebyshev.cheb2poly(series)))
        else:
            open_ones += [(middle, stop), (start, middle)]
    table = np.array([[middle, 1 / half, *np.pad(powers, (0, degree + 1 - len(powers)))] for middle, half, powers in panels])
    return table[1:, 0] - 1 / table[1:, 1], table
