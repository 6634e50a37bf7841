"""What a density must be: real, not negative, and of mass 1; checked at a few values of its parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import sympy as sp

from anabook.symbolic._bounded import attempt
from anabook.symbolic._expressions import as_numpy, evaluator, integral_of, real_values, search_grid

_MASS_TOLERANCE = 1e-12


def parameter_samples(density: Any) -> list[dict[sp.Symbol, sp.Expr]]:
    """A few values of the parameters, inside their ranges; one empty choice if there are none."""
    if not density.parameters:
        return [{}]
    samples = []
    for fraction in (0.25, 0.5, 0.8):
        values = {}
        for number, (symbol, (low, high)) in enumerate(zip(density.parameters, density._ranges)):
            share = fraction + 0.03 * number
            if math.isinf(low) and math.isinf(high):
                value = math.tan(math.pi * (share - 0.45))
            elif math.isinf(high):
                value = low + share / (1 - share)
            else:
                value = high - (1 - share) / share if math.isinf(low) else low + share * (high - low)
            rational = sp.Rational(Fraction(value).limit_denominator(50))
            values[symbol] = sp.Max(1, sp.floor(rational)) if symbol.is_integer else rational
        samples.append(values)
    return samples


def check_values(density: Any, smooth: list[tuple[sp.Expr, sp.Expr, sp.Expr]]) -> None:
    for values in parameter_samples(density):
        for low, high, f in smooth:
            point, value = _lowest(f.subs(values), low.subs(values), high.subs(values))
            where = "".join(f", {s} = {v}" for s, v in values.items())
            if value is None:
                raise ValueError(f"a density must be a real number on its support, but is not at {point:.6g}{where}.")
            if value < 0:
                raise ValueError(f"a density must not be negative, but this one is {value:.6g} at {point:.6g}{where}.")


def _lowest(f: sp.Expr, low: sp.Expr, high: sp.Expr) -> tuple[float, float | None]:
    """Where a numerical search finds the smallest value of f, and that value (0 if only rounding makes it negative)."""
    points = search_grid(float(low), float(high))
    values = as_numpy(f)(points)
    exact = real_values(f)
    with np.errstate(all="ignore"):
        bad = np.flatnonzero(~np.isfinite(values))
    for i in bad:
        # A pole is allowed, as long as the mass is finite; doubles may also have overflowed.
        value = exact(points[i])
        if mpmath.isnan(value) or value == -mpmath.inf:
            return float(points[i]), None
        values[i] = float(value)
    usable = np.where(np.isfinite(values), values, math.inf)
    i = int(np.argmin(usable))
    if usable[i] >= -1e-12 * np.max(np.abs(usable[np.isfinite(usable)]), initial=1e-300):
        i, value = _refined(exact, points, usable)
        return value if value[1] < -1e-12 else (float(points[i]), 0.0)
    return float(points[i]), float(exact(points[i]))


def _refined(exact: Callable, points: np.ndarray, values: np.ndarray) -> tuple[int, tuple[float, float]]:
    """A closer look around the smallest values of the grid: a golden-section search between its neighbours."""
    i = int(np.clip(np.argmin(values), 1, len(values) - 2))
    a, b = float(points[i - 1]), float(points[i + 1])
    for _ in range(40):
        c, d = b - 0.6180339887 * (b - a), a + 0.6180339887 * (b - a)
        if exact(c) < exact(d):
            b = d
        else:
            a = c
    return i, ((a + b) / 2, float(exact((a + b) / 2)))


def check_mass(mass: sp.Expr, density: Any, smooth: list[tuple[sp.Expr, sp.Expr, sp.Expr]]) -> bool:
    """Whether the mass is only nearly 1.

    Raises:
        ValueError: it is not even nearly 1.
    """
    if attempt(lambda: sp.simplify(mass - 1)) == 0:
        return False
    total = 1
    for values in parameter_samples(density):
        total = _number(mass, values)
        if total is None:
            total = sum(integral_of(f.subs(values), low.subs(values), high.subs(values)) for low, high, f in smooth)
        where = "".join(f" at {s} = {v}" for s, v in values.items())
        if mass.has(sp.oo, sp.nan) or not abs(total - 1) < _MASS_TOLERANCE:
            exact = mass.is_number and not density._rounded and not mass.has(sp.Float, sp.Function) and len(str(mass)) < 20
            shown = mass if exact else _decimal(total)
            shown = "infinity" if mass.has(sp.oo, sp.nan) or mpmath.isinf(total) else shown
            raise ValueError(f"a density must integrate to 1 over its support, but its total mass is {shown}{where}.")
    return not density.parameters and abs(total - 1) > 1e-22


def _number(mass: sp.Expr, values: dict[sp.Symbol, sp.Expr]) -> Any:
    """The mass with 50 digits, or None where it has no closed form (or is not real)."""
    if mass.has(sp.Integral, sp.oo, sp.nan):
        return None
    with mpmath.workdps(50):
        number = evaluator(mass.subs(values))(0)
        return number if isinstance(number, mpmath.mpf) and mpmath.isfinite(number) else None


def _decimal(number: Any) -> str:
    """Ten digits, or as many as it takes to tell the number from 1."""
    return next(text for digits in range(10, 31) if float(text := mpmath.nstr(number, digits)) != 1 or digits == 30)


def smallest_value(base: Any) -> float:
    return min(_lowest(p.pdf, p.lo, p.hi)[1] or 0.0 for p in base._pieces)
