"""The tails of the noise laws: all that the theory of convergence asks a `Law`, in the numbers that it needs.

Whether a network converges depends on how the upper tail T0 of each standardised law (mean 0, standard deviation 1) ends:
at an `Edge`, or with a `Decay` for ever. `tail_of` says which. The functions behind it give the probabilities that
networks are computed with, in doubles or in any precision. All of it is the law's own: no formula stands here.

A "family" is the name of one of the `FAMILIES`, or the `Law` itself.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np

from anabook._validate import choice
from anabook.convergence.exact_arithmetic import DOUBLE, Precision
from anabook.convergence.leash import in_time, seconds_allowed
from anabook.laws import FAMILIES, Decay, Edge, Law, Power, Tail, placed
from anabook.namespaces import NUMPY, mpmath_namespace, sympy_namespace

DIRAC = "dirac"
"""What a layer's law is called where its noise is gone."""

KNOWN = ("uniform", "triangular", "normal", "logistic")
"""The four families: what is proved by name is proved for these, whatever other laws come to have a name."""

BOUNDED = tuple(name for name in KNOWN if isinstance(FAMILIES[name].upper_tail(), Edge))
"""Those of them that have an edge. Their tails are c·d^m not only near the edge, but as far as the mean."""


# Which law ----------------------------------------------------------------------------------------------------------


def is_one(families: Any) -> bool:
    """Whether one law is given for all layers, and not a list of them."""
    return isinstance(families, (str, Law)) or callable(getattr(families, "placed_law", None))


def family_of(given: Any, what: str, gone: bool = False) -> Any:
    """The family of a name, of a `Law` or of whatever has one (a `Noise`, a `Density`, a `Variant`): only the shape counts.

    Noise that is `gone` may be called `DIRAC`; any bounded law of no width is the same.

    Raises:
        ValueError: another name, a law that is no noise's.
        TypeError: no law at all.
    """
    if gone and given == DIRAC:
        return BOUNDED[0]
    if isinstance(given, str) or not is_one(given):
        return choice(given, FAMILIES, what)
    law = placed(given, what)[0]
    if not law.is_probability:
        raise ValueError(f"{what} must be a probability's law, and that of {law.name} is none: {law.why_no_noise}.")
    return law.name if FAMILIES.get(law.name) is law else law


def work_out(families: Any) -> bool:
    """Let the moments and tails of laws be found that are not known yet, and say whether the time of the decision was too short.

    What is found is kept; where the time was up nothing is, and the next decision begins with it anew.
    """
    for given in [families] if is_one(families) else families:
        if not isinstance(given, str):
            try:
                in_time(_found_tail, given)
            except TimeoutError:
                return True
            except (TypeError, ValueError):  # to be refused, or not needed, where it is read
                continue
    return False


def _found_tail(given: Any) -> None:
    tail_of(family_of(given, "the family"))


def too_slow() -> str:
    """Words for that, the beginning of a sentence."""
    return f"how the noise's tails end is not known after the {seconds_allowed():g} s that the decision may take"


def law_of(family: Any) -> Law:
    """The law of a family."""
    return FAMILIES[family] if isinstance(family, str) else family


def name_of(family: Any) -> str:
    """What a family is called in messages."""
    return family if isinstance(family, str) else family.name


# How it ends --------------------------------------------------------------------------------------------------------


def tail_of(family: Any) -> Edge | Decay:
    """How a standardised law's upper tail ends, in SymPy's numbers.

    Raises:
        ValueError: a law for which the theorem is not proved, or whose tail is not known: see `_tail`.
    """
    return _tail(law_of(family))


@functools.lru_cache(maxsize=256)
def _tail(law: Law) -> Edge | Decay:
    import sympy as sp

    tail = law.upper_tail(sympy_namespace())
    if isinstance(tail, Power):
        raise ValueError(
            f"the tail of {law.name} noise decays like a power, t^−{tail.order}, and the conditions are worked "
            "out for tails with an edge or an exponential decay only."
        )
    if tail is None:
        raise ValueError(
            f"how the tail of {law.name} noise ends is not known: it is not seen to vanish like a power at an "
            "edge, nor to decay like exp(−c·t^γ)."
        )
    if not _falls_on_both_sides(law):
        raise ValueError(
            f"the conditions are proved for laws that are symmetric about their mean and fall on either side "
            f"of it, and {law.name} noise is not of that kind."
        )
    unit, numbers = _unit(law), [_exact(value) for value in tail]
    if isinstance(tail, Edge):
        order, coefficient = numbers
        return Edge(order, coefficient * unit**order)
    exponent, rate, power, coefficient = numbers
    return Decay(exponent, sp.sympify(rate * unit**exponent), power, coefficient * unit**power)


def _falls_on_both_sides(law: Law) -> bool:
    """Whether f is symmetric about the mean and nowhere rises away from it: as the law says, else by values of f."""
    if law.symmetric:
        return law.peaked or law.log_concave
    m = mpmath_namespace()
    with mpmath.workdps(30):
        middle, unit = _precise_place(law)
        if not _alike(law.lower_tail(m), law.upper_tail(m)):
            return False
        reach = min(12, (law.bounds(m)[1] - middle) / unit)
        steps = [unit * reach * (k + mpmath.mpf("0.37")) / 60 for k in range(60)]
        # Pieces may be farther out, or shorter, than those: so in each of them, too.
        ends = sorted({abs(mpmath.mpf(end) - middle) for end in law.kinks if math.isfinite(end)})
        steps = sorted([*steps, *(a + (b - a) * mpmath.mpf(k) / 8 for a, b in zip([0, *ends], ends) for k in (1, 3, 5, 7))])
        right, left = ([law.pdf(middle + side * step, m) for step in steps] for side in (1, -1))
        tiny = mpmath.mpf("1e-12")
        return all(abs(a - b) <= tiny * max(abs(a), abs(b)) for a, b in zip(left, right)) and all(
            near * (1 + tiny) >= far for near, far in zip(right, right[1:])
        )


def _alike(lower: Tail | None, upper: Tail | None) -> bool:
    """Whether two tails are the same up to roundings."""
    if lower is None or type(lower) is not type(upper):
        return False
    tiny = mpmath.mpf("1e-9")
    ends = zip(map(mpmath.mpmathify, lower), map(mpmath.mpmathify, upper))
    return all(abs(a - b) <= tiny * max(abs(a), abs(b)) for a, b in ends)


def _exact(value: Any) -> Any:
    import sympy as sp

    value = sp.sympify(value)
    return value.replace(lambda e: e.is_Float, lambda e: sp.Rational(str(e)))


@functools.lru_cache(maxsize=256)
def _unit(law: Law) -> Any:
    """The law's standard deviation (1 if it has none) in SymPy's numbers.

    A density's is exact where SymPy found it. A double stands for √q or π√q with a simple fraction q, if it is one up to
    roundings, else for itself.
    """
    import sympy as sp

    exact = getattr(law, "exact", None)
    if exact is not None and exact.std.is_finite and not exact.std.has(sp.Float):
        return _exact(exact.std)
    for factor, symbol in ((1.0, sp.Integer(1)), (math.pi, sp.pi)):
        square = (law.unit / factor) ** 2
        simple = Fraction(square).limit_denominator(1000)
        if simple and abs(square / simple - 1) < 1e-15:
            return symbol * sp.sqrt(sp.Rational(simple.numerator, simple.denominator))
    return sp.Rational(law.unit)


def _place(law: Law) -> tuple[Any, Any]:
    """Mean and standard deviation in the law's own units, in SymPy's numbers."""
    exact = getattr(law, "exact", None)
    mean = law.origin if exact is None or not exact.mean.is_finite or exact.mean.is_Float else exact.mean
    return _exact(mean), _unit(law)


def _precise_place(law: Law) -> tuple[Any, Any]:
    return _precise_place_at(law, mpmath.mp.prec)


@functools.lru_cache(maxsize=1024)
def _precise_place_at(law: Law, precision: int) -> tuple[Any, Any]:
    import sympy as sp

    return tuple(mpmath.mpf(sp.N(value, mpmath.mp.dps + 5)) for value in _place(law))


# Where it ends ------------------------------------------------------------------------------------------------------


def half_width(family: Any, m: Any = NUMPY) -> Any:
    """How far a standardised law's support goes upwards, in a namespace's numbers; infinite if there is no end."""
    law = law_of(family)
    high = law.bounds(m)[1]
    if law.unit == 1 and law.origin == 0:
        return high
    if m is NUMPY:
        return (high - law.origin) / law.unit
    origin, unit = _place(law) if m is sympy_namespace() else _precise_place(law)
    return (high - origin) / unit


def lower_end(family: Any, m: Any = NUMPY) -> Any:
    """The lower end of a standardised law's support: minus `half_width` if it is symmetric."""
    law = law_of(family)
    if law.symmetric:
        return -half_width(family, m)
    low = law.bounds(m)[0]
    if m is NUMPY:
        return (low - law.origin) / law.unit
    origin, unit = _place(law) if m is sympy_namespace() else _precise_place(law)
    return (low - origin) / unit


def support(family: Any, mean: Any, std: Any) -> tuple[Any, Any]:
    """The ends of a noise's support, in mpmath numbers where the standard deviation is one."""
    if std == 0:
        return mean, mean
    m = mpmath_namespace() if isinstance(std, mpmath.mpf) else NUMPY
    return mean + std * lower_end(family, m), mean + std * half_width(family, m)


# How much is beyond -------------------------------------------------------------------------------------------------

_DIGITS_END = 2**14
"""Bits. Where a law's formula loses more than so many to cancellation, what its tail comes to takes its place."""


def upper_tail(family: Any, t: np.ndarray, of: Precision) -> np.ndarray:
    """T0(t) for t ≥ 0, with full relative accuracy if the law is unbounded; see `beyond` where it has an edge."""
    return beyond(family, t, np.full(np.shape(t), True), np.full(np.shape(t), math.inf), of)


def beyond(family: Any, t: np.ndarray, above: np.ndarray, distance: np.ndarray, of: Precision, std: Any = 1) -> np.ndarray:
    """The mass of the standardised law beyond t: upwards where `above`, else downwards.

    Args:
        family: of the noise.
        t: where, in standard deviations from the mean.
        above: which side.
        distance: from there to the end on that side. Seen from the end a tail keeps its digits; 1 − F0(t) has lost them.
        of: doubles or mpmath's numbers.
        std: what the distance is counted in units of.
    """
    law = law_of(family)
    if family in BOUNDED:
        return _monomial(law, t, distance, of, std)
    from_edge = distance / std
    if of is DOUBLE:
        x = law.origin + law.unit * t if law.unit != 1 or law.origin else t
        if law.symmetric:
            found = law.sf(np.abs(x))
        else:
            found = np.where(above, law.sf(np.where(above, x, law.origin)), law.cdf(np.where(above, law.origin, x)))
        found = np.where(from_edge <= 0, 0.0, found)
        for index in zip(*np.nonzero((from_edge > 0) & (from_edge < 0.01))):
            found[index] = float(_mass(law, mpmath.mpf(t[index]), above[index], mpmath.mpf(from_edge[index])))
        return found
    return np.frompyfunc(lambda *place: _mass(law, *place), 3, 1)(t, above, from_edge)


def _monomial(law: Law, t: np.ndarray, distance: np.ndarray, of: Precision, std: Any) -> np.ndarray:
    """½·depth^m: the tail of a law in `BOUNDED`, with the depth in half-widths."""
    width = half_width(law, NUMPY if of is DOUBLE else mpmath_namespace()) * std
    from_mean = 1 - np.abs(t) * (std / width)
    depth = np.where((from_mean > 0.5) | ~(distance < math.inf).astype(bool), from_mean, distance / width)
    return np.clip(depth, 0, 1) ** law.upper_tail().order / 2


def _mass(law: Law, t: Any, above: bool, from_edge: Any) -> Any:
    if from_edge <= 0:
        return mpmath.mpf(0)
    m = mpmath_namespace()
    near = from_edge < 0.01
    value = law.sf if above else law.cdf

    def mass() -> Any:
        origin, unit = _precise_place(law)
        if near:
            end = law.bounds(m)[1 if above else 0]
            return value(end - unit * from_edge if above else end + unit * from_edge, m)
        return value(origin + unit * t, m)

    if not near and getattr(law, "exact", None) is None:
        return mass()
    _refuse_integrals(law)
    return _with_all_digits(mass, functools.partial(_leading, law, t, above, from_edge))


def _leading(law: Law, t: Any, above: bool, from_edge: Any) -> Any:
    """What the tail comes to at the end: None where that is not known."""
    m = mpmath_namespace()
    tail = law.upper_tail(m) if above else law.lower_tail(m)
    origin, unit = _precise_place(law)
    if isinstance(tail, Edge):
        return tail.coefficient * (unit * from_edge) ** mpmath.mpf(tail.order) if mpmath.isfinite(from_edge) else None
    # The densities' tails are counted from their means.
    far = unit * abs(t)
    if isinstance(tail, Decay) and far > 1:
        return tail.coefficient * far ** mpmath.mpf(tail.power) * m.exp(-tail.rate * far ** mpmath.mpf(tail.exponent))
    return tail.coefficient * far ** -mpmath.mpf(tail.order) if isinstance(tail, Power) and far > 1 else None


def _with_all_digits(value: Callable[[], Any], leading: Callable[[], Any]) -> Any:
    """A small number by a formula that may subtract large ones: in so many more bits that the working precision is left."""
    precision, extra = mpmath.mp.prec, 32
    last = leading()
    if last is not None and (last == 0 or -mpmath.mag(last) > _DIGITS_END):
        return last
    while True:
        with mpmath.workprec(precision + extra):
            found = value()
        if found > 0 and -mpmath.mag(found) + 16 <= extra:
            return +found
        if extra > _DIGITS_END:
            return mpmath.mpf(0) if last is None else last
        extra = 2 * extra


def _refuse_integrals(law: Law) -> None:
    exact = getattr(law, "exact", None)
    if exact is not None and _has_integrals(exact):
        raise ValueError(
            f"the tail of {law.name} noise is an integral that SymPy does not find, so it is known in doubles only."
        )


@functools.lru_cache(maxsize=64)
def _has_integrals(density: Any) -> bool:
    import sympy as sp

    return density.sf.has(sp.Integral)


def centre(family: Any, t: np.ndarray, of: Precision) -> np.ndarray:
    """F0(t) − ½, with full relative accuracy near t = 0 for symmetric laws."""
    law = law_of(family)
    if of is DOUBLE:
        x = law.origin + law.unit * t if law.unit != 1 or law.origin else t
        if not law.symmetric:
            return law.cdf(x) - 0.5
        # F0(t) − ½ by subtraction has lost all digits when |t| < 1e-16; the tangent has lost none.
        return np.where(np.abs(t) < 1e-8, x * law.pdf(np.zeros_like(t), NUMPY), law.cdf(x, NUMPY) - 0.5)
    _refuse_integrals(law)
    return np.frompyfunc(lambda v: _precise_centre(law, v), 1, 1)(t)


def _precise_centre(law: Law, t: Any) -> Any:
    if t == 0 and law.symmetric:
        return mpmath.mpf(0)
    m, precision = mpmath_namespace(), mpmath.mp.prec
    lost = max(0, -mpmath.mag(t)) if law.symmetric else 0
    if lost > 4 * precision + 40:
        # So near the middle a density is what it is there, even one with a root's cusp.
        unit, height = _precise_place(law)[1], law.pdf(mpmath.mpf(0), m)
        if mpmath.isfinite(height):
            return unit * t * height
    with mpmath.workprec(precision + lost + 16):
        origin, unit = _precise_place(law)
        found = law.cdf(origin + unit * t, m) - mpmath.mpf(1) / 2
    return +found


# In words -----------------------------------------------------------------------------------------------------------


def decay_in_words(tail: Decay) -> str:
    """The exponential of a tail at the distance s from the mean, for messages: exp(−s²/(2·std²)) for the normal law."""
    import sympy as sp

    rate = sp.sympify(tail.rate)
    forms = [sp.fraction(rate), tuple(reversed(sp.fraction(1 / rate)))]
    over, under = min(forms, key=lambda pair: len(_product(pair[0], "s")) + len(_product(pair[1], "std")))
    s, std = power_in_words("s", tail.exponent), power_in_words("std", tail.exponent)
    below = _product(under, std)
    return f"exp(−{_product(over, s)}/{f'({below})' if under != 1 else below})"


def power_in_words(base: str, exponent: Any) -> str:
    """A power of a word: std² for the exponent 2."""
    text = str(exponent) if exponent == int(exponent) else f"({exponent})"
    return {1: base, 2: f"{base}²"}.get(exponent, f"{base}^{text}")


def _product(factor: Any, word: str) -> str:
    import sympy as sp

    if factor == 1:
        return word
    parts = [
        f"√{part.base}" if part.is_Pow and part.exp == sp.Rational(1, 2) else sp.sstr(part).replace("pi", "π")
        for part in sp.Mul.make_args(factor)
    ]
    return "·".join([*parts, word])
