"""What users give, read: means, standard deviations and rates as exact formulas in λ, and the names of laws."""

from __future__ import annotations

from typing import Any

import sympy as sp

from anabook._validate import choice, real
from anabook.convergence.limits import exact, show
from anabook.convergence.orders import LAMBDA, compare
from anabook.convergence.tails import DIRAC, family_of, is_one


def families_of(families: Any, n: int) -> list[Any]:
    """One law a layer: a family's name, or a `Law` that is no family's."""
    names = [families] * n if is_one(families) else list(families)
    if len(names) != n:
        raise ValueError(
            f"{n} schedule{'s' * (n > 1)} need{'s' * (n == 1)} {n} famil{'ies' if n > 1 else 'y'} or one for "
            f"all, not {len(names)}."
        )
    return [
        family if isinstance(family, str) and family == DIRAC else family_of(family, f"the family of layer {i}")
        for i, family in enumerate(names)
    ]


def read(
    schedules: Any, rates: Any, weights: Any
) -> tuple[list[tuple[sp.Expr, sp.Expr]], tuple[sp.Expr, ...] | None, list[tuple[sp.Expr, sp.Expr] | None]]:
    """All formulas, with λ in place of their symbol."""
    pairs = [_pair(i, pair, "layer") for i, pair in enumerate(schedules)]
    n = len(pairs)
    if n == 0:
        raise ValueError("there must be at least one layer; schedules is empty.")
    if rates is not None:
        rates = tuple(formula(rate, f"the rate of layer {i}") for i, rate in enumerate(rates))
        if len(rates) != n:
            raise ValueError(f"{n} layer{'s' * (n > 1)} need{'s' * (n == 1)} {n} rate{'s' * (n > 1)}, not {len(rates)}.")
    weights = _weight_pairs(weights, pairs)
    formulas = [*(part for pair in pairs for part in pair), *(rates or ()), *(p for pair in weights if pair for p in pair)]
    symbols = sorted({s for formula in formulas for s in formula.free_symbols}, key=str)
    if len(symbols) > 1:
        raise ValueError(
            f"means, stds and rates may depend on one symbol only, λ, and these depend on {', '.join(map(str, symbols))}."
        )
    put = {symbols[0]: LAMBDA} if symbols else {}
    renamed = [tuple(part.xreplace(put) for part in pair) for pair in pairs]
    renamed_weights = [None if pair is None else tuple(part.xreplace(put) for part in pair) for pair in weights]
    return renamed, None if rates is None else tuple(r.xreplace(put) for r in rates), renamed_weights


def _weight_pairs(weights: Any, pairs: list[Any]) -> list[Any]:
    if weights is None:
        return [None] * len(pairs)
    if isinstance(weights, str):
        choice(weights, ("same",), "weights")
        return list(pairs)
    weights = list(weights)
    if len(weights) != len(pairs):
        raise ValueError(f"weights must have one entry for each of the {len(pairs)} layers, not {len(weights)}.")
    return [None if pair is None else _pair(i, pair, "weights of layer") for i, pair in enumerate(weights)]


def _pair(i: int, pair: Any, whose: str) -> tuple[sp.Expr, sp.Expr]:
    if pair is None:
        raise ValueError(f"{whose} {i} has no noise; give it a pair (mean, std), or (0, 0) if its noise is gone.")
    try:
        mean, std = pair
    except (TypeError, ValueError):
        raise TypeError(f"the schedule of {whose} {i} must be a pair (mean, std), not {pair!r}.") from None
    return formula(mean, f"the mean of {whose} {i}"), formula(std, f"the std of {whose} {i}")


def formula(value: Any, what: str) -> sp.Expr:
    """The number or expression, exact, finite and real."""
    if not isinstance(value, sp.Expr):
        value = sp.sympify(real(value, what) if not isinstance(value, int) or isinstance(value, bool) else value)
    if value.has(sp.nan, sp.oo, sp.zoo, sp.I):
        raise ValueError(f"{what} must be finite and real, not {show(value)}.")
    return exact(value)


def positive(value: Any, what: str) -> sp.Expr:
    """The same for a positive constant."""
    value = formula(value, what)
    if not value.is_number or compare(value, 0) <= 0:
        raise ValueError(f"{what} must be a positive number, not {show(value)}.")
    return value


def decimal(value: float) -> sp.Rational:
    """The fraction that a number shows: 0.3 as 3/10."""
    return sp.Rational(str(value))
