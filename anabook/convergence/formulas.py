"""What users give, read: means, standard deviations and rates as exact formulas in λ, and the names of laws."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Set
from numbers import Rational
from typing import Any

import mpmath
import numpy as np
import sympy as sp
from sympy.core.function import AppliedUndef

from anabook._validate import choice, real
from anabook.convergence.constants import NotOfThisForm, compare
from anabook.convergence.enclosures import settled
from anabook.convergence.formula_text import show
from anabook.convergence.leash import bounded
from anabook.convergence.orders import LAMBDA
from anabook.convergence.tails import DIRAC, family_of, is_one


def given_families(families: Any) -> Any:
    """One law for all layers as it is, or the list of them."""
    return families if is_one(families) else listed(families, "families must be a law or one a layer")


def families_of(families: Any, n: int) -> list[Any]:
    """One law a layer: a family's name, or a `Law` that is no family's."""
    given = given_families(families)
    names = [given] * n if is_one(given) else given
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
    schedules = listed(schedules, "schedules must be one pair (mean, std) a layer")
    pairs = [_pair(i, pair, "layer") for i, pair in enumerate(schedules)]
    n = len(pairs)
    if n == 0:
        raise ValueError("there must be at least one layer; schedules is empty.")
    if rates is not None:
        rates = listed(rates, "rates must be None or one a layer")
        rates = tuple(formula(rate, f"the rate of layer {i}") for i, rate in enumerate(rates))
        if len(rates) != n:
            raise ValueError(f"{n} layer{'s' * (n > 1)} need{'s' * (n == 1)} {n} rate{'s' * (n > 1)}, not {len(rates)}.")
    weights = _weight_pairs(weights, pairs)
    formulas = [*(part for pair in pairs for part in pair), *(rates or ()), *(p for pair in weights if pair for p in pair)]
    put = dict.fromkeys(_symbols(formulas), LAMBDA)

    def put_in(part: sp.Expr) -> sp.Expr:
        if LAMBDA not in part.free_symbols and part.has(
            LAMBDA
        ):  # as the index of a sum, say, which has nothing to do with it
            part = part.as_dummy()
        named = part.xreplace(put)
        if named.has(*_TO_DO):
            named = bounded(named.doit, default=named)
        named = bounded(settled, named, default=named)
        not_real = bounded(lambda: named.is_extended_real) is False
        if not_real or named.has(sp.nan, sp.zoo, sp.I) or _has_infinity(named):
            raise ValueError(f"means, stds and rates must be finite and real for small λ > 0, not {show(part)}.")
        return named

    put_pairs = [_settled_pair(i, pair, put_in, "layer") for i, pair in enumerate(pairs)]
    noisy = [
        None if pair is None else _settled_pair(i, pair, put_in, "the weights of layer") for i, pair in enumerate(weights)
    ]
    return put_pairs, None if rates is None else tuple(map(put_in, rates)), noisy


_TO_DO = (sp.Sum, sp.Product, sp.Limit)


def _symbols(formulas: Sequence[sp.Expr]) -> list[sp.Basic]:
    """The formulas' symbol, which may stand for every small positive number; none, if they have none.

    Raises:
        ValueError: there are more, or it may not.
    """
    symbols = sorted({s for formula in formulas for s in formula.free_symbols}, key=str)
    names = [show(s) for s in symbols]
    if len(symbols) > 1:
        alike = ": symbols of one name, but declared differently" if len(set(names)) == 1 else ""
        raise ValueError(
            f"means, stds and rates may depend on one symbol only, λ, and these depend on {' and '.join(names)}{alike}."
        )
    for symbol, name in zip(symbols, names):
        narrow = [symbol.is_positive is False, *(q is not None for q in (symbol.is_rational, symbol.is_algebraic))]
        if not isinstance(symbol, sp.Symbol) or any(narrow) or symbol.is_finite is False or not symbol.is_commutative:
            declared = sorted(getattr(symbol, "assumptions0", {}).items())
            told = ", ".join(f"{key}={value}" for key, value in getattr(symbol, "_assumptions_orig", dict(declared)).items())
            raise ValueError(
                f"the symbol of means, stds and rates must be able to stand for every small positive number, and {name} is "
                f"declared as {told or type(symbol).__name__}."
            )
    return symbols


def _has_infinity(value: sp.Expr) -> bool:
    """Whether ∞ stands in a formula elsewhere than as an end of a sum, a product or an integral."""
    infinities = (sp.oo, -sp.oo)
    if not value.has(*infinities):
        return False
    ended = (sp.Sum, sp.Product, sp.Integral)
    return value.replace(lambda e: isinstance(e, ended), lambda e: sp.Dummy()).has(*infinities)


def _settled_pair(i: int, pair: Any, put_in: Callable[[sp.Expr], sp.Expr], whose: str) -> tuple[sp.Expr, sp.Expr]:
    """Mean and std as they are for all small λ; a std that is 0 there must be given as 0."""
    mean, std = map(put_in, pair)
    if std == 0 and pair[1] != 0:
        raise ValueError(
            f"the std of {whose} {i} is identically 0 for all small λ: {show(pair[1])} leaves no noise, so the layer is "
            "silent; give it the std 0."
        )
    return mean, std


def _weight_pairs(weights: Any, pairs: list[Any]) -> list[Any]:
    if weights is None:
        return [None] * len(pairs)
    if isinstance(weights, str):
        choice(weights, ("same",), "weights")
        return list(pairs)
    weights = listed(weights, "weights must be None, 'same', or one pair (mean, std) or None a layer")
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
        value = _number(value, what)
    if isinstance(value, sp.Lambda) or (value.is_Matrix and not value.atoms(sp.MatrixSymbol)):
        raise TypeError(f"{what} must be a real number or a formula, not {value!r}.")
    if value.has(sp.nan, sp.zoo, sp.I) or _has_infinity(value):
        shown = "nan" if value is sp.nan else show(value)
        raise ValueError(f"{what} must be finite and real, not {shown}.")
    unknown = sorted({show(f.func) for f in value.atoms(AppliedUndef)})
    if unknown:
        raise ValueError(f"{what} must be a formula, and {show(value)} has an unknown function in it, {unknown[0]}.")
    if value.has(sp.Order):
        raise ValueError(f"{what} must be a formula, and {show(value)} leaves open what O(…) stands for.")
    if value.has(sp.AccumBounds):
        raise ValueError(f"{what} must be a formula, and {show(value)} leaves open which number of an interval it is.")
    return exact(bounded(value.doit, default=value) if value.has(sp.Derivative, sp.Subs) else value)


def _number(value: Any, what: str) -> sp.Expr:
    """A number, with all the digits that it has: a third stays a third."""
    if isinstance(value, (float, np.floating, mpmath.mpf)) and math.isinf(value):
        return sp.oo if value > 0 else -sp.oo  # to be refused, by the sign that all messages have for it
    checked = real(value, what)
    if isinstance(value, Rational):
        return sp.Rational(int(value.numerator), int(value.denominator))
    if isinstance(value, mpmath.mpf):
        with mpmath.workprec(max(53, value._mpf_[3])):  # the bits that it has, which may be more than are computed with now
            return sp.sympify(value)
    return sp.sympify(value) if isinstance(value, np.floating) else sp.sympify(checked)


def listed(values: Any, what: str) -> list[Any]:
    """The values as a list.

    Raises:
        TypeError: they are no list, with `what` they must be; or have no order.
    """
    if isinstance(values, (Mapping, Set, str, bytes)):
        raise TypeError(f"{what}, not {values!r}.")
    try:
        return list(values)
    except TypeError:
        raise TypeError(f"{what}, not {values!r}.") from None


def renamed(expression: sp.Expr) -> sp.Expr:
    """The formula with λ in place of its symbol, if it has one."""
    return expression.xreplace(dict.fromkeys(expression.free_symbols, LAMBDA))


def exact(expression: sp.Expr) -> sp.Expr:
    """The formula with its decimal numbers read as the fractions that they show (0.3 as 3/10).

    Of a double that is all the digits that tell it from its neighbours. SymPy shows two fewer, and so another number.
    """
    return expression.replace(lambda e: e.is_Float, lambda e: sp.Rational(repr(float(e)) if float(e) == e else str(e)))


def positive(value: Any, what: str) -> sp.Expr:
    """The same for a positive constant."""
    value = formula(value, what)
    if not value.is_number or sign_of_constant(value, what) <= 0:
        raise ValueError(f"{what} must be a positive number, not {show(value)}.")
    return value


def sign_of_constant(value: sp.Expr, what: str) -> int:
    """−1, 0 or 1.

    Raises:
        ValueError: the sign is not told, neither by intervals nor by algebra.
    """
    try:
        return compare(value, 0)
    except NotOfThisForm:
        raise ValueError(f"whether {what} is positive is not told: {show(value)} is too near 0, or too hard.") from None


def decimal(value: float) -> sp.Rational:
    """The fraction that a number shows: 0.3 as 3/10."""
    return sp.Rational(str(value))
