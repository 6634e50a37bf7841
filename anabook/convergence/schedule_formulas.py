"""Schedules as formulas in λ: power laws, log margins with their closed criterion, and `Schedule` read as a limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sympy as sp

from anabook._validate import choice
from anabook.convergence.formulas import decimal, formula, listed, positive, sign_of_constant
from anabook.convergence.orders import LAMBDA
from anabook.convergence.tails import KNOWN, family_of, half_width, tail_of
from anabook.laws import Edge
from anabook.namespaces import sympy_namespace
from anabook.schedules import Schedule

READINGS = ("time", "lambda")


def power_law(k: Any, p: Any, offset: Any = 1, std: Any = 1) -> tuple[sp.Expr, sp.Expr]:
    """Mean −offset·λ^k and standard deviation std·λ^p, in `LAMBDA`.

    With power laws in every layer the theorem's hypothesis is met if and only if k < p in each layer with a positive
    offset, or k = p and offset ≥ h0·std where the noise is bounded: the order of the layers does not matter.

    Example:
        >>> power_law(1, 2)
        (-lambda, lambda**2)
    """
    k, p = formula(k, "k"), formula(p, "p")
    return -formula(offset, "offset") * LAMBDA**k, formula(std, "std") * LAMBDA**p


def log_margin(family: Any, p: Any, kappa: Any) -> tuple[sp.Expr, sp.Expr]:
    """Mean and standard deviation, in `LAMBDA`, of a schedule that errs by about λ^κ on its threshold.

    With u = λ^p and L = ln(1/λ): uniform noise of width u and offset (u/2)(1 − 2λ^κ), an error of λ^κ exactly;
    triangular noise of half-width u and offset u(1 − √(2λ^κ)), the same; normal noise of std u and offset u√(2κL),
    about λ^κ/√(4πκL); logistic noise of scale u and offset κuL, 1/(1 + λ^−κ).

    Args:
        family: one of the four; or another law as for `check`, of standard deviation u. Then the error is λ^κ up to
            terms of a smaller order at an edge, and up to a power of L without one.
        p: exponent of the width, positive.
        kappa: exponent of the error, positive.

    Example:
        >>> log_margin("logistic", 1, 2)
        (-2*lambda*log(1/lambda), sqrt(3)*pi*lambda/3)
    """
    family = family_of(family, "family")
    p, kappa = positive(p, "p"), positive(kappa, "kappa")
    tail = tail_of(family)
    std = LAMBDA**p * _customary_std(family)
    if isinstance(tail, Edge):
        reach = half_width(family, sympy_namespace())
        depth = (LAMBDA**kappa / sp.simplify(tail.coefficient * reach**tail.order)) ** (1 / tail.order)
        return -std * reach * (1 - depth), std
    return -std * (kappa * sp.log(1 / LAMBDA) / tail.rate) ** (1 / tail.exponent), std


def _customary_std(family: Any) -> sp.Expr:
    """The standard deviation at the width 1 of a law's customary formula: a support of 1, a half of it, std or scale."""
    if family in KNOWN:
        reach = half_width(family, sympy_namespace())
        customary = {"uniform": 1 / (2 * reach), "triangular": 1 / reach, "logistic": tail_of("logistic").rate}
        return customary.get(family, sp.Integer(1))
    return sp.Integer(1)


def log_margin_converges(family: str, ps: Sequence[Any], kappas: Sequence[Any]) -> bool:
    """Whether layers with log margins (p, κ) converge for every network: the closed criterion.

    κ_{ℓ−1} ≥ p_ℓ (normal, logistic); κ_i > Σ_{j>i} p_j (uniform); κ_i > Σ_{j>i} p_j·2^{−(j−i−1)} (triangular).

    Args:
        family: one of the four, for all layers.
        ps, kappas: exponents of each quantised layer, from the input on.

    Example:
        >>> log_margin_converges("normal", [2, 1], [2, 1]), log_margin_converges("normal", [1, 2], [1, 2])
        (True, False)
    """
    if not isinstance(family, str):
        raise ValueError(
            f"the closed criterion is proved for {', '.join(KNOWN[:-1])} and {KNOWN[-1]} noise only, not for "
            f"{family!r}; `check` decides on other laws."
        )
    choice(family, KNOWN, "family")
    ps = [positive(p, "p") for p in listed(ps, "ps must be exponents, one a layer")]
    kappas = [positive(k, "kappa") for k in listed(kappas, "kappas must be exponents, one a layer")]
    if not ps or len(ps) != len(kappas):
        raise ValueError(f"there must be as many p as kappa, and at least one, not {len(ps)} and {len(kappas)}.")
    tail = tail_of(family)
    if not isinstance(tail, Edge):
        return all(sign_of_constant(kappa - p, "kappa − p") >= 0 for kappa, p in zip(kappas, ps[1:]))
    part = 1 / tail.order
    needed = [sum((p * part**j for j, p in enumerate(ps[i + 1 :])), sp.Integer(0)) for i in range(len(ps))]
    return all(sign_of_constant(kappa - bound, "kappa minus its bound") > 0 for kappa, bound in zip(kappas[:-1], needed))


def as_formulas(schedule: Schedule, reading: str = "time") -> tuple[tuple[sp.Expr, sp.Expr], ...]:
    """The means and standard deviations of a schedule as functions of λ → 0+.

    A schedule speaks of time, the theorem of λ → 0, so one has to say which limit is meant.

    "time": λ is the time left until the last interval ends at T, t = T − λ. A layer whose interval ends at T has
    λ_ℓ = λ/(its interval's length), hence mean c_α·λ_ℓ^d and std c_β·λ_ℓ^(2d). A layer that finished earlier has no noise
    left: mean 0 (or its static mean), std 0. What stays static does not vanish.

    "lambda": all layers share one λ, mean c_α·λ^d and std c_β·λ^(2d). Only the exponents are left of a schedule.

    With exponential decay (`growth` g) there is no end in the formula: λ = g^−(t − s), the same in all layers.

    Args:
        schedule: with intervals and exponents, not one made from a callable.
        reading: "time" or "lambda".

    Returns:
        One pair (mean, std) a layer, in `LAMBDA`.

    Raises:
        ValueError: a schedule from a callable, which has no formula; another reading.

    Example:
        >>> from anabook import Schedule
        >>> as_formulas(Schedule.periodic(n_layers=1, period=10))
        ((0, 2887*lambda**2/1000000),)
    """
    choice(reading, READINGS, "reading")
    if not isinstance(schedule, Schedule):
        raise TypeError(f"schedule must be a Schedule, not {schedule!r}.")
    if schedule.rule is not None:
        raise ValueError("a schedule made from a callable has no formula in λ; give one pair (mean, std) a layer instead.")
    last, pairs = max(end for _, end in schedule.intervals), []
    for (start, end), (d_mean, d_std), (mean0, std0) in zip(schedule.intervals, schedule.exponents, schedule.initial):
        shared = reading == "lambda" or schedule.growth is not None
        over = not shared and end < last
        fading = LAMBDA if shared else LAMBDA / decimal(end - start)
        mean = decimal(mean0) * (1 if schedule.static_mean else 0 if over else fading ** decimal(d_mean))
        std = decimal(std0) * (1 if schedule.static_std else 0 if over else fading ** decimal(d_std))
        pairs.append((sp.sympify(mean), sp.sympify(std)))
    return tuple(pairs)
