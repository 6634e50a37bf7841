"""The noise of each layer of a network at one λ: what schedules give, with the ends of its support kept apart."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, NamedTuple

import mpmath
import sympy

from anabook._validate import integer
from anabook.convergence.answers import stopped
from anabook.convergence.constants import NotOfThisForm, sign
from anabook.convergence.enclosures import sign_of
from anabook.convergence.evaluation import as_function, real_value, steady_value
from anabook.convergence.exact_arithmetic import PRECISE
from anabook.convergence.formula_text import show
from anabook.convergence.formulas import given_families, listed, renamed
from anabook.convergence.leash import GIVES_UP, bounded
from anabook.convergence.orders import parse
from anabook.convergence.tails import family_of, half_width, is_one, law_of, lower_end, support
from anabook.namespaces import sympy_namespace
from anabook.noise import Noise

_MOST_BITS, _ALL_BITS = 2000, 2**16
_SWINGING = (sympy.sin, sympy.cos, sympy.tan, sympy.floor, sympy.ceiling, sympy.frac)
_ELEMENTARY = (
    sympy.exp,
    sympy.log,
    sympy.sin,
    sympy.cos,
    sympy.tan,
    sympy.atan,
    sympy.sinh,
    sympy.cosh,
    sympy.tanh,
    sympy.Abs,
)
_ELEMENTARY += (sympy.floor, sympy.ceiling, sympy.Max, sympy.Min, sympy.Heaviside, sympy.sign)


class LayerNoise(NamedTuple):
    """One layer's noise at one λ: family (its name, or a `Law`), mean α, standard deviation β and the ends of the support.

    The ends stand apart from α ∓ h because, where they nearly meet 0, a difference of rounded numbers
    would not say how nearly. They are infinite for unbounded families, and both α where β = 0.
    """

    family: Any
    mean: Any
    std: Any
    lower: Any
    upper: Any


def layer_noises(noises: Sequence[Any], needed: int) -> list[LayerNoise]:
    """One noise for each of the layers that need one; errors count the layers from 0."""
    noises = list(noises)
    if len(noises) != needed:
        missing = f" (layer {len(noises)} has none)" if len(noises) < needed else ""
        raise ValueError(
            f"the network has {needed} quantised layer{'s' * (needed > 1)}, "
            f"so it needs {needed} noise{'s' * (needed > 1)}, not {len(noises)}{missing}."
        )
    return [layer_noise(i, noise) for i, noise in enumerate(noises)]


def layer_noise(i: int, noise: Any) -> LayerNoise:
    """The noise of layer i, from a `Noise` or a triple (law, mean, std)."""
    if isinstance(noise, LayerNoise):
        given = noise.family
        return noise if isinstance(given, str) else noise._replace(family=family_of(given, f"the family of layer {i}"))
    if isinstance(noise, Noise):
        return LayerNoise(family_of(noise, f"the noise of layer {i}"), noise.mean, noise.std, *noise.support)
    try:
        family, mean, std = noise
    except (TypeError, ValueError):
        raise TypeError(f"the noise of layer {i} must be a Noise or (family, mean, std), not {noise!r}.") from None
    family = _checked(i, family, std)
    return LayerNoise(family, mean, std, *support(family, mean, std))


def _checked(i: int, family: Any, std: Any) -> Any:
    if not std >= 0:
        raise ValueError(f"the std of layer {i} must be at least 0, not {float(std):g}.")
    return family_of(family, f"the family of layer {i}", gone=std == 0)


def noises_at(families: Any, schedules: Sequence[Any], lam: Any, digits: int | None = None) -> list[LayerNoise]:
    """The noise of every layer at one λ, for `Network.regularised`.

    Args:
        families: a law for all layers, or one a layer: a family's name, a `Law`, or a `Noise`, `Density` or `Variant` of
            one, whose own mean and standard deviation do not count.
        schedules: one pair (mean, std) a layer, each a number, a SymPy expression in one symbol, or a function of λ
            (it gets an mpmath number).
        lam: λ > 0.
        digits: None for floats, or the decimal digits of the mpmath numbers that come back.

    Returns:
        One `LayerNoise` a layer. Floats are rounded once, from 50 digits; the ends of a support come from
        the formulas, simplified by SymPy where they are expressions.

    Raises:
        ValueError: an unknown family, lists of different lengths, a negative std, λ not positive, an std
            too small for a float.

    Example:
        >>> from anabook.convergence import power_law
        >>> noises_at("uniform", [power_law(1, 1)], 0.5)
        [LayerNoise(family='uniform', mean=-0.5, std=0.5, lower=-1.3660254037844386, upper=0.36602540378443865)]
    """
    families, schedules = by_layer(families, schedules)
    if not (isinstance(lam, (Real, mpmath.mpf)) and not isinstance(lam, bool)):
        raise TypeError(f"lambda must be a positive number, not {lam!r}.")
    if not (lam > 0 and mpmath.isfinite(lam)):
        raise ValueError(f"lambda must be positive, not {lam!r}.")
    if digits is not None:
        integer(digits, "digits", minimum=15)
    with mpmath.workdps(digits or 50):
        lam = lam if isinstance(lam, mpmath.mpf) else PRECISE.number(lam)  # one with more digits keeps them
        noises = [_noise_at(i, family, pair, lam) for i, (family, pair) in enumerate(zip(families, schedules))]
        if digits is not None:
            return noises
        for i, noise in enumerate(noises):
            if noise.std > 0 and float(noise.std) == 0:
                size = mpmath.nstr(noise.std, 3)
                raise ValueError(f"the std of layer {i} is {size}, too small for a float; pass digits.")
        return [LayerNoise(noise.family, *map(float, noise[1:])) for noise in noises]


def _noise_at(i: int, family: Any, pair: Any, lam: Any) -> LayerNoise:
    mean, std = pair_of(i, pair)
    numbers = _at(mean, lam), _at(std, lam)
    family = _checked(i, family, numbers[1])
    symbolic = hasattr(mean, "free_symbols") and hasattr(std, "free_symbols")
    if not symbolic or numbers[1] == 0 or not math.isfinite(law_of(family).half_width):
        return layer_noise(i, (family, *numbers))
    return LayerNoise(family, *numbers, *(_at(end, lam) for end in _ends(family, mean, std)))


def by_layer(families: Any, schedules: Any) -> tuple[list[Any], list[Any]]:
    """Families and schedules, one of each a layer.

    Raises:
        TypeError, ValueError: they are no lists, or not equally long.
    """
    schedules = listed(schedules, "schedules must be one pair (mean, std) a layer")
    families = given_families(families)
    families = [families] * len(schedules) if is_one(families) else families
    if len(families) != len(schedules):
        raise ValueError(f"{len(schedules)} schedules need {len(schedules)} families, not {len(families)}.")
    return families, schedules


def pair_of(i: int, pair: Any) -> tuple[Any, Any]:
    """The mean and the standard deviation that a layer's schedule gives."""
    try:
        mean, std = pair
    except (TypeError, ValueError):
        raise TypeError(f"the schedule of layer {i} must be a pair (mean, std), not {pair!r}.") from None
    return mean, std


@functools.lru_cache(maxsize=1024)
def _ends(family: Any, mean: Any, std: Any) -> tuple[Any, Any]:
    m = sympy_namespace()
    return sympy.expand(mean + lower_end(family, m) * std), sympy.expand(mean + half_width(family, m) * std)


def _at(part: Any, lam: Any) -> Any:
    if hasattr(part, "free_symbols"):
        return _formula_at(_without_zeros(part), lam, mpmath.mp.prec)
    value = part(lam) if callable(part) else part
    if isinstance(value, bool) or not isinstance(value, (Real, mpmath.mpf)) or not mpmath.isfinite(value):
        where = f", at λ = {mpmath.nstr(lam, 3)}" if callable(part) else ""
        raise ValueError(f"means and stds must be finite real numbers, not {value!r}{where}.")
    return PRECISE.number(value)


@functools.lru_cache(maxsize=4096)
def _formula_at(expression: Any, lam: Any, precision: int) -> Any:
    """The value at λ; kept, with the precision as part of the key, since exp(−1/λ²) far down is slow.

    Raises:
        ValueError: it is no finite real number, has too many digits to be computed, or a sign that is not told.
    """
    plain = _plain(expression)
    if plain is not None:
        try:
            with mpmath.workprec(precision + 64 + _cancelled_bits(plain)):
                value = _value(plain, lam, steady=False)
            return +value
        except ValueError:  # said below, of the formula as it was given
            pass
    bits = precision + _extra_bits(expression, lam)
    most = max(bits, _MOST_BITS if _is_slow(expression) else _ALL_BITS)
    while True:
        with mpmath.workprec(bits):
            value = _value(expression, lam)
        if value is not None:
            return +value
        if bits >= most:
            raise _not_computed(expression, lam, "its terms cancel, and roundings are what is left of them")
        bits = min(2 * bits, most)


@functools.lru_cache(maxsize=1024)
def _without_zeros(expression: Any) -> Any:
    """The formula without constants that are 0 and do not look it, which are roundings in numbers."""

    def total(sum_: Any) -> Any:
        parts = [part for part in sum_.args if not part.free_symbols]
        try:
            zero = len(parts) > 1 and sign(sympy.Add(*parts)) == 0
        except NotOfThisForm:
            return sum_
        return sympy.Add(*(part for part in sum_.args if part.free_symbols)) if zero else sum_

    return expression.replace(lambda e: e.is_Add, total)


@functools.lru_cache(maxsize=1024)
def _plain(expression: Any) -> Any:
    """A sum with its terms in order, of which none cancel another: then few digits will do. None if there is no such form."""
    if not expression.free_symbols or not expression.has(sympy.Add):
        return None
    try:
        return parse(renamed(expression)).expression()
    except NotOfThisForm:
        return None


def _value(expression: Any, lam: Any, steady: bool = True) -> Any:
    """The value in so many bits; None where it may be roundings alone, unless it is known to be steady."""
    digits = "the numbers on the way have too many digits"
    try:
        function = as_function(expression)  # whose ValueError says what is wrong with the formula
    except OverflowError:
        raise _not_computed(expression, lam, digits) from None
    try:
        if expression.has(sympy.Integral, sympy.Sum):
            found = bounded(real_value, function, lam)  # mpmath may take for ever over these
            if found is not None:
                return found
            why = f"mpmath finds no value{stopped()}"
        else:
            found = real_value(function, lam)
            return found if not steady or _is_steady(expression, function, lam, found) else None
    except NotOfThisForm:
        why = "it is no finite real number there"
    except OverflowError:
        why = digits
    except GIVES_UP:
        why = "mpmath finds no value for it there"
    raise _not_computed(expression, lam, why)


def _is_steady(expression: Any, function: Any, lam: Any, found: Any) -> bool:
    """Whether the value is more than roundings: those of sums are, if they stay in more digits."""
    if not expression.free_symbols or not expression.has(sympy.Add) or expression.has(*_SWINGING):
        return True
    if found == 0:  # in all these digits, which 1 − tanh(1/λ) is too
        return bounded(sign_of, renamed(expression)) in (0, None)
    try:
        steady_value(function, lam, found)
        return True
    except NotOfThisForm:
        return False


def _is_slow(expression: Any) -> bool:
    """Whether there are functions in it that take long in many digits."""
    return not all(isinstance(f, _ELEMENTARY) for f in expression.atoms(sympy.Function))


def _not_computed(expression: Any, lam: Any, why: str) -> ValueError:
    return ValueError(f"{show(expression)} cannot be computed at λ = {mpmath.nstr(lam, 3)}: {why}.")


def _extra_bits(expression: Any, lam: Any) -> int:
    """Bits that sums, waves and steps may cost: 1 + λ needs as many as λ has zeros before λ counts in it."""
    cancelled = _cancelled_bits(expression)
    cancelling = expression.atoms(sympy.Add, sympy.sin, sympy.cos, sympy.tan, sympy.floor, sympy.ceiling)
    if not any(part.free_symbols for part in cancelling):
        return cancelled
    bits = 64 + cancelled + 2 * abs(mpmath.mag(lam))
    if bits > _MOST_BITS and _is_slow(expression):
        raise ValueError(
            f"{show(expression)} cannot be computed at λ = {mpmath.nstr(lam, 3)}: it would take {bits} bits of a function "
            "that is slow in so many."
        )
    return bits


@functools.lru_cache(maxsize=1024)
def _cancelled_bits(expression: Any) -> int:
    """Bits that constants take from each other in sums: √(10⁹⁰ + 1) − 10⁴⁵ begins 91 digits behind its first term."""
    lost = 0
    for total in expression.atoms(sympy.Add):
        parts = [part for part in total.args if not part.free_symbols]
        if len(parts) < 2:
            continue
        try:
            sizes = [mpmath.mag(_digits_of(part)) for part in parts]
            lost += max(0, max(sizes) - mpmath.mag(_digits_of(sympy.Add(*parts))))
        except GIVES_UP as error:
            raise ValueError(
                f"what the constant {show(sympy.Add(*parts))} comes to is not told: it is too near 0."
            ) from error
    return int(lost)


def _digits_of(constant: Any) -> Any:
    """A few digits of a constant that is not zero, by as many more as it takes.

    Nothing is decided by them, so they need no proof: `constants.approximate` would find none of an integral, nor of what
    begins behind 600 digits that cancel.
    """
    value = constant.evalf(15, maxn=_MOST_BITS, strict=True)
    if not value.is_Float or value == 0:
        raise ValueError("no finite real number but zero.")
    return mpmath.mpf(value._mpf_)
