"""Functions of constants in interval arithmetic: each value is an interval that holds the function's, and that is proven.

mpmath has intervals of exponentials, logarithms, sines and angles. From these the elementary functions follow by their
definitions, and others by series of which a bound for what is left out is known. A function that is not here has no interval,
and what depends on its value stays undecided.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import sympy as sp

_MAGNITUDE = 4000  # bits before the point in what an exponential is taken of
_TERMS = 6000  # of a series
_FAR = 2000  # beyond which a series in powers is not begun


def function_of(constant: sp.Expr, inside: list[Any], iv: Any) -> Any:
    """An interval that holds the function's value, given intervals that hold its arguments.

    Raises:
        ValueError: none is known of this function there.
        OverflowError: its numbers would be too long.
    """
    rule = _RULES.get(type(constant))
    if rule is None:
        raise ValueError("no interval arithmetic is known for this function.")
    try:
        return rule(iv, *inside)
    except TypeError:
        raise ValueError("no interval arithmetic is known for these arguments.") from None


def ends(values: Any) -> tuple[Any, Any]:
    """Both ends of an interval as mpmath numbers."""
    low, high = values._mpi_
    return mpmath.mp.make_mpf(low), mpmath.mp.make_mpf(high)


def exponential(iv: Any, x: Any) -> Any:
    """e^x; of a large x that cannot be written out, that it is large."""
    low, high = ends(x)
    if max(mpmath.mag(low), mpmath.mag(high)) <= _MAGNITUDE:
        return iv.exp(x)
    if low > 1:
        return iv.mpf([iv.exp(iv.mpf(min(low, 2**12))).a, iv.inf])
    raise OverflowError("an exponential of a number that is too long")


def _log(iv: Any, x: Any) -> Any:
    if not x.a > 0:
        raise ValueError("the logarithm of what may be negative.")
    return iv.log(x)


def _sinh(iv: Any, x: Any) -> Any:
    return (exponential(iv, x) - exponential(iv, -x)) / 2


def _cosh(iv: Any, x: Any) -> Any:
    return (exponential(iv, x) + exponential(iv, -x)) / 2


def _tanh(iv: Any, x: Any) -> Any:
    if x.a >= 0:
        return 1 - 2 / (exponential(iv, 2 * x) + 1)
    if x.b <= 0:
        return 2 / (exponential(iv, -2 * x) + 1) - 1
    return _rising(_tanh)(iv, x)


def _asinh(iv: Any, x: Any) -> Any:
    if x.a >= 0:
        return iv.log(x + iv.sqrt(x * x + 1))
    return -_asinh(iv, -x) if x.b <= 0 else _rising(_asinh)(iv, x)


def _acosh(iv: Any, x: Any) -> Any:
    if not x.a >= 1:
        raise ValueError("acosh of what may be smaller than 1.")
    return iv.log(x + iv.sqrt((x - 1) * (x + 1)))


def _atanh(iv: Any, x: Any) -> Any:
    if not (x.a > -1 and x.b < 1):
        raise ValueError("atanh of what may not lie between −1 and 1.")
    return iv.log((1 + x) / (1 - x)) / 2


def _asin(iv: Any, x: Any) -> Any:
    if not (x.a > -1 and x.b < 1):
        raise ValueError("asin of what may not lie between −1 and 1.")
    return iv.atan2(x, iv.sqrt((1 - x) * (1 + x)))


def _acos(iv: Any, x: Any) -> Any:
    return +iv.pi / 2 - _asin(iv, x)


def _acot(iv: Any, x: Any) -> Any:
    if not (x.a > 0 or x.b < 0):
        raise ValueError("acot of what may be 0.")
    return _atan(iv, 1 / x)


def _atan(iv: Any, x: Any) -> Any:
    return iv.atan2(x, iv.mpf(1))


def _rising(rule: Callable[..., Any]) -> Callable[..., Any]:
    """A rule for a function that rises, by its values at both ends."""

    def by_ends(iv: Any, x: Any) -> Any:
        return iv.mpf([rule(iv, iv.mpf(x.a)).a, rule(iv, iv.mpf(x.b)).b])

    return by_ends


def _series(iv: Any, first: Any, ratio: Callable[[int], Any]) -> Any:
    """Σ t_k with t_0 = first and t_{k+1} = ratio(k)·t_k, where abs(ratio) falls as k grows, or stays below ½ once it is."""
    term = total = first
    small = mpmath.mpf(10) ** (-iv.dps - 5)
    for k in range(_TERMS):
        factor = ratio(k)
        term = term * factor
        total = total + term
        size = abs(term).b
        if abs(factor).b <= 0.5 and size <= small * max(abs(total).a, small):
            return total + iv.mpf([-2 * size, 2 * size])
    raise ValueError("the series does not come to an end.")


def _near(x: Any) -> Any:
    if not abs(x).b <= _FAR:
        raise ValueError("a series of powers of a number that is too large.")
    return x


def _erf(iv: Any, x: Any) -> Any:
    """2/√π·exp(−x²)·Σ 2^k x^(2k+1)/(2k+1)!!, whose terms have one sign."""
    if x.a < 0:
        return -_erf(iv, -x) if x.b <= 0 else _rising(_erf)(iv, x)
    if x.a * x.a > 3 * iv.dps:
        return 1 - _erfc(iv, x)
    square = _near(x) * x
    total = _series(iv, x, lambda k: 2 * square / (2 * k + 3))
    return 2 / iv.sqrt(+iv.pi) * iv.exp(-square) * total


def _erfc(iv: Any, x: Any) -> Any:
    """1 − erf; far out exp(−x²)/(x·√π) times something between 1 − 1/(2x²) and 1."""
    if x.a > 0 and x.a * x.a > 3 * iv.dps:
        square = x * x
        return exponential(iv, -square) / (x * iv.sqrt(+iv.pi)) * (1 + iv.mpf([-1, 0]) / (2 * square))
    return 1 - _erf(iv, x)


def _erfi(iv: Any, x: Any) -> Any:
    square = _near(x) * x
    total = _series(iv, x, lambda k: square * (2 * k + 1) / ((k + 1) * (2 * k + 3)))
    return 2 / iv.sqrt(+iv.pi) * total


def _bessel(sign: int) -> Callable[..., Any]:
    """(x/2)^n/n!·Σ (±x²/4)^k·n!/(k!·(n + k)!) for whole n ≥ 0; + for I, − for J, which has another series far out."""

    def rule(iv: Any, order: Any, x: Any) -> Any:
        n = int(order.a)
        if not (order.a == order.b == n and 0 <= n <= _FAR):
            raise ValueError("a Bessel function of another order.")
        if sign < 0 and x.a > max(_FAR, n * n):
            return _far_bessel(iv, n, x)
        quarter = sign * _near(x) * x / 4
        return _series(iv, (x / 2) ** n / iv.factorial(iv.mpf(n)), lambda k: quarter / ((k + 1) * (n + k + 1)))

    return rule


def _far_bessel(iv: Any, n: int, x: Any) -> Any:
    """Hankel's expansion √(2/(πx))·(P·cos χ − Q·sin χ) with χ = x − (n/2 + 1/4)π.

    Once more than n/2 terms of P and of Q are taken, each is wrong by less than the first term left out (DLMF 10.17(iii)).
    """
    term, sums, small = iv.mpf(1), [iv.mpf(0), iv.mpf(0)], mpmath.mpf(10) ** (-iv.dps - 5)
    for k in range(_TERMS):
        if k > n + 2 and abs(term).b <= small:
            break
        sums[k % 2] = sums[k % 2] + (-1) ** (k // 2) * term
        term = term * (4 * n * n - (2 * k + 1) ** 2) / (8 * (k + 1) * x)
    else:
        raise ValueError("the series does not come to an end.")
    rest, angle = iv.mpf([-1, 1]) * abs(term).b, x - (2 * n + 1) * iv.pi / 4
    return iv.sqrt(2 / (iv.pi * x)) * ((sums[0] + rest) * iv.cos(angle) - (sums[1] + rest) * iv.sin(angle))


def _polylog(iv: Any, s: Any, z: Any) -> Any:
    """Σ z^k/k^s for abs(z) < 9/10 and s ≥ 0."""
    if not (s.a >= 0 and abs(z).b <= 0.9):
        raise ValueError("a polylogarithm elsewhere.")
    total, power, size = iv.mpf(0), iv.mpf(1), abs(z).b
    small = mpmath.mpf(10) ** (-iv.dps - 5)
    for k in range(1, _TERMS * 5):
        power = power * z
        total = total + power * iv.exp(-s * iv.log(iv.mpf(k)))
        rest = abs(power).b * size / (1 - size)
        if rest <= small * max(abs(total).a, small):
            return total + iv.mpf([-rest, rest])
    raise ValueError("the series does not come to an end.")


def _si(iv: Any, x: Any) -> Any:
    square = -_near(x) * x
    return _series(iv, x, lambda k: square * (2 * k + 1) / ((2 * k + 2) * (2 * k + 3) ** 2))


def _ci(iv: Any, x: Any) -> Any:
    square = -_near(x) * x
    rest = _series(iv, square / 4, lambda k: square * (2 * k + 2) / ((2 * k + 3) * (2 * k + 4) ** 2))
    return +iv.euler + _log(iv, x) + rest


def _ei(iv: Any, x: Any) -> Any:
    rest = _series(iv, _near(x), lambda k: x * (k + 1) / iv.mpf(k + 2) ** 2)
    return +iv.euler + iv.log(abs(x)) + rest


def _loggamma(iv: Any, x: Any) -> Any:
    """Stirling's series far enough to the right; for real x > 0 its error is less than the first term left out."""
    if not x.a > 0:
        raise ValueError("ln Γ of what may be negative.")
    product, moved = iv.mpf(1), x
    while moved.a < iv.dps + 10:
        product, moved = product * moved, moved + 1
    total = (moved - iv.mpf(1) / 2) * iv.log(moved) - moved + iv.log(2 * iv.pi) / 2
    power, small = 1 / moved, mpmath.mpf(10) ** (-iv.dps - 5)
    for k in range(1, _TERMS):
        p, q = mpmath.bernfrac(2 * k)
        term = iv.mpf(int(p)) / int(q) / (2 * k * (2 * k - 1)) * power
        if abs(term).b <= small:
            return total + iv.mpf([-abs(term).b, abs(term).b]) - iv.log(product)
        total, power = total + term, power / (moved * moved)
    raise ValueError("the series does not come to an end.")


def _gamma(iv: Any, x: Any) -> Any:
    if x.a > 0:
        return exponential(iv, _loggamma(iv, x))
    return +iv.pi / (iv.sin(iv.pi * x) * _gamma(iv, 1 - x))


def _zeta(iv: Any, s: Any) -> Any:
    """By the alternating series, its convergence accelerated; the remainder is P. Borwein's bound for real s ≥ ½."""
    if not (s.a >= 0.5 and (s.a > 1 or s.b < 1)) or not s.b <= _FAR:
        raise ValueError("ζ elsewhere.")
    n = int(1.31 * (iv.dps + 10)) + 5
    sums, term, total = [], 1, 0  # d_k = n·Σ_{i ≤ k} (n + i − 1)!·4^i/((n − i)!·(2i)!), whole numbers
    for i in range(n + 1):
        total += term
        sums.append(total)
        term = term * 4 * (n + i) * (n - i) // ((2 * i + 1) * (2 * i + 2)) if i < n else 0
    last = sums[n]
    value = iv.mpf(0)
    for k in range(n):
        value = value + (-1) ** k * (iv.mpf(sums[k]) - last) * iv.exp(-s * iv.log(iv.mpf(k + 1)))
    factor = 1 - iv.exp((1 - s) * iv.log(iv.mpf(2)))
    error = 3 / ((3 + iv.sqrt(iv.mpf(8))) ** n * abs(factor) * iv.mpf("0.88"))  # Γ(s) > 0.88
    return -value / (last * factor) + iv.mpf([-error.b, error.b])


def _lambertw(iv: Any, x: Any) -> Any:
    """The principal branch, by w·e^w, which rises for w > −1: ends that are guessed and then checked."""
    low, high = ends(x)
    with mpmath.workdps(iv.dps + 15):
        if not low > -mpmath.exp(-1):
            raise ValueError("W of what may be smaller than −1/e.")
        guesses = [mpmath.lambertw(end).real for end in (low, high)]
        slack = [abs(w) * mpmath.mpf(10) ** (2 - iv.dps) for w in guesses]
        found = iv.mpf([guesses[0] - slack[0], guesses[1] + slack[1]])
    first, last = iv.mpf(found.a), iv.mpf(found.b)
    if not (found.a > -1 and (first * exponential(iv, first)).b <= x.a and (last * exponential(iv, last)).a >= x.b):
        raise ValueError("W is not enclosed.")
    return found


_RULES: dict[type, Callable[..., Any]] = {
    sp.exp: exponential,
    sp.log: _log,
    sp.sin: lambda iv, x: iv.sin(x),
    sp.cos: lambda iv, x: iv.cos(x),
    sp.tan: lambda iv, x: iv.sin(x) / iv.cos(x),
    sp.cot: lambda iv, x: iv.cos(x) / iv.sin(x),
    sp.sec: lambda iv, x: 1 / iv.cos(x),
    sp.csc: lambda iv, x: 1 / iv.sin(x),
    sp.sinc: lambda iv, x: iv.sin(x) / x,
    sp.sinh: _sinh,
    sp.cosh: _cosh,
    sp.tanh: _tanh,
    sp.coth: lambda iv, x: 1 / _tanh(iv, x),
    sp.sech: lambda iv, x: 1 / _cosh(iv, x),
    sp.csch: lambda iv, x: 1 / _sinh(iv, x),
    sp.asin: _asin,
    sp.acos: _acos,
    sp.atan: _atan,
    sp.acot: _acot,
    sp.asinh: _asinh,
    sp.acosh: _acosh,
    sp.atanh: _atanh,
    sp.gamma: _gamma,
    sp.loggamma: _loggamma,
    sp.factorial: lambda iv, x: _gamma(iv, x + 1),
    sp.erf: _erf,
    sp.erfc: _erfc,
    sp.erfi: _erfi,
    sp.besselj: _bessel(-1),
    sp.besseli: _bessel(1),
    sp.polylog: _polylog,
    sp.Si: _si,
    sp.Ci: _ci,
    sp.Ei: _ei,
    sp.li: lambda iv, x: _ei(iv, _log(iv, x)),
    sp.zeta: _zeta,
    sp.LambertW: _lambertw,
}
