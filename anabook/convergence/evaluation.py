"""Formulas in λ as functions of mpmath's numbers, which refuse what would fill the memory.

mpmath's numbers have exponents of any length, so that exp(exp(1/λ)) far down is a number with more digits in its exponent
than there is memory for. Such arguments are refused by an `OverflowError`, before anything is computed with them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import mpmath
import sympy as sp

from anabook.convergence.constants import NotOfThisForm

_BITS = 2**17
"""Of an exponent; exp(−1/λ²) at λ = 10^−10000 has half as many. Of the angle of a wave as well, which takes as many of π."""


_LONG = 14_000
"""Bits of a whole number that Python still writes out: the functions are made of text."""


def _guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(*arguments: Any) -> Any:
        if any(mpmath.mag(x) > _BITS for x in arguments):
            raise OverflowError(f"a function of a number with more than {_BITS} binary digits before the point")
        return function(*arguments)

    return guarded


_exp = _guarded(mpmath.exp)
_power_of = sp.Function("power_of")


def _power(base: Any, exponent: Any) -> Any:
    if mpmath.mag(exponent) > _BITS:
        raise OverflowError(f"a power with an exponent of more than {_BITS} binary digits")
    if isinstance(exponent, (int, mpmath.mpf)) and base > 0 and exponent != int(exponent):
        return _exp(exponent * mpmath.log(base))
    return mpmath.mpmathify(base) ** exponent


_NAMES = (
    "sin cos tan atan sinh cosh tanh erf erfc gamma loggamma zeta lambertw besselj bessely besseli besselk airyai airybi "
    "si ci ei li expint fresnels fresnelc"
)
_NAMESPACE = {name: _guarded(getattr(mpmath, name)) for name in _NAMES.split()} | {"exp": _exp, "power_of": _power}


@lru_cache(maxsize=4096)
def as_function(expression: Any) -> Callable[[Any], Any]:
    """The formula, with at most one symbol, as a function of an mpmath number.

    The function raises OverflowError where numbers would become too large.

    Example:
        >>> as_function(sp.exp(-1 / sp.Symbol("t")))(mpmath.mpf("0.5"))
        mpf('0.1353352832366127')
    """
    symbols = sorted(expression.free_symbols, key=str)
    if len(symbols) > 1:
        raise ValueError(
            f"a schedule may depend on one symbol, lambda, but {expression} depends on {', '.join(map(str, symbols))}."
        )
    if any(max(q.p.bit_length(), q.q.bit_length()) > _LONG for q in expression.atoms(sp.Rational)):
        raise OverflowError("a number with too many digits to be written out")
    moving = expression.replace(lambda e: e.is_Pow and bool(e.exp.free_symbols), lambda e: _power_of(*e.args))
    return sp.lambdify(symbols or [sp.Dummy()], moving, [_NAMESPACE, "mpmath"])


def real_value(function: Callable[[Any], Any], at: Any) -> Any:
    """A finite real value.

    Raises:
        NotOfThisForm: it is infinite, no number, or complex by more than roundings.
    """
    value = mpmath.mpmathify(function(at))
    if isinstance(value, mpmath.mpc):
        if abs(value.imag) > mpmath.mpf(10) ** -40 * (1 + abs(value.real)):
            raise NotOfThisForm
        value = value.real
    if not mpmath.isfinite(value):
        raise NotOfThisForm
    return +value


def steady_value(function: Callable[[Any], Any], at: Any, value: Any = None) -> Any:
    """A finite real value, the first six digits of which stay where an eighth more digits are computed with.

    Of a difference of nearly equal numbers nothing may be left but roundings, which are others in more digits.

    Raises:
        NotOfThisForm: see `real_value`; or roundings are all there is.
    """
    value = real_value(function, at) if value is None else value
    with mpmath.workprec(mpmath.mp.prec + mpmath.mp.prec // 8 + 64):
        again = real_value(function, at)
    if abs(again - value) > abs(again) * mpmath.mpf("1e-6"):
        raise NotOfThisForm
    return value
