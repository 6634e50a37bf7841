"""Laws: what a noise looks like at mean 0 and standard deviation 1, each formula written once.

A law is one object. Its formulas are functions of a number t and of a namespace `m` of elementary functions, so that
NumPy, torch, SymPy and mpmath share them (`anabook.namespaces`).

A law of one's own is a `Law` and nothing else: it need not be registered anywhere::

    laplace = Law(
        "laplace",
        density=lambda t, m: m.exp(-m.root(2) * m.abs(t)) / m.root(2),
        distribution=lambda t, m: symmetric(t, m, m.exp(-m.root(2) * m.abs(t)) / 2),
        ends=lambda m: Decay(exponent=1, rate=m.root(2), coefficient=m.one / 2),
        log_concave=True,
    )

Not every law is a probability's: those behind some straight-through estimators have another mass, an infinite one, or
are negative in places (`anabook.variants.LAWS`).
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize

from anabook._validate import choice
from anabook.namespaces import FLOATS, NUMPY


class Edge(NamedTuple):
    """The tail vanishes at an end h of the support: the mass beyond h − d is c·d^m, up to a factor that tends to 1.

    Attributes:
        order: m > 0; 1 where the density jumps, 2 where it has a kink.
        coefficient: c > 0.

    Example:
        >>> FAMILIES["uniform"].upper_tail()
        Edge(order=1, coefficient=0.2886751345948129)
    """

    order: Any
    coefficient: Any


class Decay(NamedTuple):
    """The tail decays like an exponential: the mass beyond t is c·t^p·exp(−r·t^γ), up to a factor that tends to 1.

    Attributes:
        exponent: γ > 0; 2 for the normal law, 1 for the logistic one.
        rate: r > 0.
        power: p.
        coefficient: c > 0.

    Example:
        >>> FAMILIES["logistic"].upper_tail().exponent
        1
    """

    exponent: Any
    rate: Any
    power: Any = 0
    coefficient: Any = 1


class Power(NamedTuple):
    """The tail decays like a power: the mass beyond t is c·t^−m, up to a factor that tends to 1.

    Attributes:
        order: m > 0.
        coefficient: c > 0.

    Example:
        >>> Power(order=1, coefficient=0.3)
        Power(order=1, coefficient=0.3)
    """

    order: Any
    coefficient: Any = 1


Tail = Edge | Decay | Power
"""What is left of a law's mass near the end of its support, or far out."""


@dataclass(frozen=True)
class Law:
    """A density with everything that is known about it, in units of its own: those of its standard deviation, as a rule.

    Fields are written once and asked through methods. A field with `m` in its signature is a function of a namespace;
    every field may also be the plain value instead. A law with a shape takes its shape's parameters as keywords in
    each function, and `bound` gives them values.

    Args:
        name: the law's name.
        density: `(t, m)` ↦ f(t) with t an array or a number; right-continuous where it jumps, 0 outside the support.
        distribution: `(t, m)` ↦ F(t), accurate in the lower tail; for an infinite mass any primitive of f.
        lower_quantile: `(u, m)` ↦ Q(u), accurate for u ≤ 1/2; None for a search by bisection.
        far: `(t, m)` ↦ the mass beyond t on its side of 0, where that is less work than F(−abs(t)); for symmetric laws.
        survival: `(t, m)` ↦ 1 − F(t), accurate in the upper tail, for laws that are not symmetric.
        support: `(m)` ↦ the ends of the smallest interval outside which f is 0.
        ends: `(m)` ↦ an `Edge`, a `Decay` or a `Power`, what the upper tail comes to, and the lower one too; or a pair, the
            lower and the upper one. None where nobody has said.
        mass: the total mass; inf if infinite, NaN if positive and negative parts are both infinite.
        mean, std: of f divided by its mass; NaN where they do not exist, inf where infinite. Noise is given a mean and a
            standard deviation by shifting and scaling; for a law without them 0 and 1 take their place.
        kinks: where f is not smooth.
        symmetric: whether f(−t) = f(t).
        signed: whether f is negative somewhere.
        unbounded: whether the mass to the left of 0 is infinite, so that F has no natural constant.
        log_concave: whether log f is concave on the support, so that the mode of a quantiser never falls.
        peaked: whether f falls strictly on either side of 0.
        is_movable: whether a noise of this law can be given another mean and standard deviation.
        reach: pictures show [−reach, reach].
        shape: the shape's parameters with their values, by name.
        weight: what f is multiplied by; the mass grows with it.
        offset: how far f is moved to the right, for laws that are no probability's, which a mean does not move.

    Example:
        >>> FAMILIES["triangular"].half_width
        2.449489742783178
        >>> FAMILIES["normal"].upper_tail()
        Decay(exponent=2, rate=0.5, power=-1, coefficient=0.3989422804014327)
    """

    name: str
    density: Callable[..., Any]
    distribution: Callable[..., Any]
    lower_quantile: Callable[..., Any] | None = None
    far: Callable[..., Any] | None = None
    survival: Callable[..., Any] | None = None
    support: Any = (-math.inf, math.inf)
    ends: Any = None
    mass: Any = 1.0
    mean: Any = 0.0
    std: Any = 1.0
    kinks: Any = ()
    symmetric: bool = True
    signed: Any = False
    unbounded: Any = False
    log_concave: bool = False
    peaked: bool = True
    is_movable: bool = True
    reach: Any = 4.0
    shape: tuple[tuple[str, Any], ...] = ()
    weight: Any = 1.0
    offset: float = 0.0

    def __str__(self) -> str:
        """A word that tells laws apart: its name, with a hash where there is more to it."""
        if FAMILIES.get(self.name) is self:
            return self.name
        more = hashlib.sha256(repr((self.shape, self.weight, self.offset, self.density)).encode()).hexdigest()[:8]
        return "".join(c if c.isalnum() else "_" for c in self.name) + more

    def __repr__(self) -> str:
        shape = "".join(f", {name}={value}" for name, value in self.shape)
        weight = "" if self.weight == 1 else f", weight={self.weight}"
        return f"<law {self.name}{shape}{weight}>"

    def __hash__(self) -> int:
        return hash((self.name, self.density, self.shape, self.weight, self.offset))

    def bound(self, **shape: Any) -> Law:
        """The law at one value of its shape's parameters."""
        return replace(self, shape=tuple(shape.items())) if shape else self

    def changed(self, weight: float = 1.0, offset: float = 0.0) -> Law:
        """The law multiplied by a weight and moved to the right, in its units."""
        if (weight, offset) == (1.0, 0.0):
            return self
        return replace(self, weight=self.weight * weight, offset=self.offset + offset)

    def get(self, field: str, m: Any = None) -> Any:
        """A field's value at the shape that the law has; `m` for those that are functions of a namespace."""
        value = getattr(self, field)
        if not callable(value):
            return value
        return value(**dict(self.shape)) if m is None else value(m, **self._shape(m))

    def _shape(self, m: Any) -> dict[str, Any]:
        return {name: m.number(value) for name, value in self.shape}

    # Values ---------------------------------------------------------------------------------------------------------

    def pdf(self, t: Any, m: Any = NUMPY) -> Any:
        """The density f(t)."""
        return self._asked(self.density, t - self.offset if self.offset else t, m)

    def cdf(self, t: Any, m: Any = NUMPY) -> Any:
        """F(t), the mass up to t wherever that is finite, accurate in the lower tail."""
        return self._asked(self.distribution, t - self.offset if self.offset else t, m)

    def sf(self, t: Any, m: Any = NUMPY) -> Any:
        """T(t), the mass beyond t, accurate in the upper tail of a symmetric law and where there is a formula for it."""
        t = t - self.offset if self.offset else t
        if self.symmetric:
            return self._asked(self.distribution, -t, m)
        if self.survival is not None:
            return self._asked(self.survival, t, m)
        return self.total_mass - self._asked(self.distribution, t, m)

    def tail(self, t: Any, m: Any = NUMPY) -> Any:
        """The mass beyond t, on its side of 0."""
        if not self.symmetric or self.offset:
            return m.where(t > 0, self.sf(t, m), self.cdf(t, m))
        return self.cdf(-m.abs(t), m) if self.far is None else self._asked(self.far, t, m)

    def beyond(self, t: Any, above: Any, m: Any = NUMPY) -> Any:
        """The mass beyond t where `above` says that t counts as 0 or more, the mass up to t elsewhere."""
        if not self.symmetric or self.offset:
            return m.where(above, self.sf(t, m), self.cdf(t, m))
        return self.tail(t, m)

    def icdf(self, u: Any, m: Any = NUMPY) -> Any:
        """Q(u), the smallest t with F(t) ≥ u, for u in [0, 1]; ∓∞ at the ends of unbounded laws. Of probabilities only."""
        if self.lower_quantile is None:
            return self._searched(u, upper=False)
        lower = self.lower_quantile(m.where(u <= 0.5, u, 1 - u), m, **self._shape(m))
        return m.where(u <= 0.5, lower, -lower)

    def isf(self, u: Any, m: Any = NUMPY) -> Any:
        """Inverse of the upper tail: the t with T(t) = u, accurate for tiny u."""
        return -self.icdf(u, m) if self.symmetric else self._searched(u, upper=True)

    def in_floats(self) -> tuple[Callable[[float], float], Callable[[float], float]]:
        """F and T as functions of single floats, for searches that ask for thousands of values."""
        if self.shape or self.weight != 1 or self.offset or not self.symmetric:
            return functools.partial(self.cdf, m=FLOATS), functools.partial(self.sf, m=FLOATS)
        distribution = self.distribution
        return (lambda t: distribution(t, FLOATS)), (lambda t: distribution(-t, FLOATS))

    # Facts ----------------------------------------------------------------------------------------------------------

    @property
    def total_mass(self) -> float:
        """∫ f."""
        return self.weight * self.get("mass")

    @property
    def is_probability(self) -> bool:
        """Whether f is nowhere negative and its mass is 1: whether there is a noise behind it."""
        return not self.get("signed") and math.isclose(self.total_mass, 1.0, rel_tol=1e-12)

    @property
    def why_no_noise(self) -> str:
        """Words for what keeps a law from being a noise's."""
        if self.get("signed"):
            what = "negative in places"
        else:
            what = "infinite" if math.isinf(self.total_mass) else "positive, of a mass other than 1"
        return f"its measure is {what} (mass {self.total_mass:g})"

    @property
    def origin(self) -> float:
        """What a noise's mean is the place of: the law's mean, or 0 where it has none or is no probability."""
        mean = self.get("mean")
        return float(mean) if math.isfinite(mean) and self.is_probability else 0.0

    @property
    def unit(self) -> float:
        """What a noise's standard deviation is the size of: the law's, or 1 where it has none."""
        std = self.get("std")
        return float(std) if math.isfinite(std) and std > 0 else 1.0

    @property
    def half_width(self) -> float:
        """The largest distance from 0 within the support; inf if unbounded."""
        low, high = self.bounds()
        return float(max(-low, high))

    def bounds(self, m: Any = NUMPY) -> tuple[Any, Any]:
        """The ends of the support, exact where the namespace is."""
        try:
            low, high = self.get("support", m) if callable(self.support) else self.support
        except TypeError:
            raise TypeError(
                f"the support of {self.name} must be a pair of ends, or a function of a namespace that gives one."
            ) from None
        return (-m.inf if low == -math.inf else low + self.offset), (m.inf if high == math.inf else high + self.offset)

    def lower_tail(self, m: Any = NUMPY) -> Tail | None:
        """What the mass below t comes to towards the lower end; None where nobody has said."""
        return self._end(0, m)

    def upper_tail(self, m: Any = NUMPY) -> Tail | None:
        """What the mass beyond t comes to towards the upper end; None where nobody has said."""
        return self._end(1, m)

    def covering(self, half_width: float, mass: float = 0.95) -> float:
        """The standard deviation with which the noise reaches `half_width` from its mean: see `Noise.covering`.

        A law of infinite or signed mass reaches one of its units.
        """
        low, high = (end - self.origin for end in self.bounds())
        reach = float(max(-low, high))
        if not math.isfinite(reach):
            reach = self._holding(mass)
        return half_width / (reach / self.unit)

    def _holding(self, mass: float) -> float:
        """Half the length of the interval around the origin that holds so much of the mass."""
        total = self.total_mass
        if self.get("signed") or not math.isfinite(total):
            return self.unit
        if self.symmetric and self.is_probability:
            return float(self.isf(np.float64((1 - mass) / 2)))

        def missing(width: float) -> float:
            outside = self.sf(np.float64(self.origin + width)) + self.cdf(np.float64(self.origin - width))
            return float(outside) / total - (1 - mass)

        high = 1.0
        while missing(high) > 0:
            high *= 2
        return optimize.brentq(missing, 0.0, high)

    def _asked(self, formula: Callable[..., Any], t: Any, m: Any) -> Any:
        value = formula(t, m, **self._shape(m)) if self.shape else formula(t, m)
        return value if self.weight == 1 else self.weight * value

    def _end(self, side: int, m: Any) -> Tail | None:
        found = self.get("ends", m) if callable(self.ends) else self.ends
        tail = found if isinstance(found, (Edge, Decay, Power)) or found is None else found[side]
        if tail is None or self.weight == 1:
            return tail
        return tail._replace(coefficient=self.weight * tail.coefficient)

    def _searched(self, u: Any, upper: bool) -> np.ndarray:
        u = np.asarray(u, dtype=np.float64)
        if self.symmetric:
            far = u > 0.5
            found = bisected(self.cdf, np.where(far, 1 - u, u))
            found = np.where(far, -found, found)
            return -found if upper else found
        low, high = (float(end) for end in self.bounds())
        if upper:
            found = -bisected(lambda t: self.sf(-t), u)
            return np.where(u <= 0, high, found)
        return np.where(u >= 1, high, np.where(u <= 0, low, bisected(self.cdf, u)))


def bisected(cdf: Callable[[np.ndarray], np.ndarray], u: np.ndarray, centre: float = 0.0, scale: float = 1.0) -> np.ndarray:
    """The smallest doubles x with cdf(x) ≥ u; ∓∞ where the tails never get there.

    Args:
        cdf: a function that never falls.
        u: where.
        centre, scale: where the search begins, and how wide its first interval is.
    """
    low, high = np.full(u.shape, -1.0), np.full(u.shape, 1.0)
    for _ in range(1023):  # the doublings from 1 to the largest double
        short, long = cdf(centre + scale * high) < u, cdf(centre + scale * low) >= u
        if not (short | long).any():
            break
        high, low = np.where(short, 2 * high, high), np.where(long, 2 * low, low)
    low, high = centre + scale * low, centre + scale * high
    while True:
        middle = low / 2 + high / 2
        active = (low < middle) & (middle < high)
        if not active.any():
            return np.where(u <= 0, -math.inf, high)
        reached = cdf(middle) >= u
        high, low = np.where(active & reached, middle, high), np.where(active & ~reached, middle, low)


# Formulas that several laws share -----------------------------------------------------------------------------------


def symmetric(t: Any, m: Any, tail: Any) -> Any:
    """A symmetric probability's distribution function from `tail`, the mass beyond t on its side of 0; accurate on the left.

    Example:
        >>> symmetric(1.0, FLOATS, 0.1)
        0.9
    """
    return m.where(t <= 0, tail, 1 - tail)


def box(t: Any, m: Any, half_width: Any) -> Any:
    """The uniform density on [−h, h)."""
    return m.inside(t, half_width, m.full_like(t, m.one / (2 * half_width)))


def box_mass(t: Any, m: Any, half_width: Any) -> Any:
    """The mass of `box` up to t."""
    return m.clip((t + half_width) / (2 * half_width), 0, 1)


def tent(t: Any, m: Any, half_width: Any, square: Any) -> Any:
    """The triangular density on [−h, h], of which `square` is h²."""
    return m.ramp(half_width - m.abs(t)) / square


def tent_tail(t: Any, m: Any, half_width: Any, square: Any) -> Any:
    """The mass of `tent` beyond t on its side of 0."""
    return m.ramp(half_width - m.abs(t)) ** 2 / (2 * square)


def bell(t: Any, m: Any) -> Any:
    """The normal density of standard deviation 1."""
    return 1 / m.root(2 * m.pi) * m.exp(-t * t / 2)


def sech2(t: Any, m: Any, rate: Any = 1) -> Any:
    """The logistic density r·e^(−rt)/(1 + e^(−rt))²."""
    return rate * m.bump(rate * t)


def _rate(m: Any) -> Any:
    """Of the logistic law of standard deviation 1."""
    return m.pi / m.root(3)


FAMILIES: dict[str, Law] = {
    law.name: law
    for law in (
        Law(
            "uniform",
            density=lambda t, m: box(t, m, m.root(3)),
            distribution=lambda t, m: box_mass(t, m, m.root(3)),
            lower_quantile=lambda u, m: m.root(3) * (2 * u - 1),
            support=lambda m: (-m.root(3), m.root(3)),
            ends=lambda m: Edge(1, 1 / (2 * m.root(3))),
            kinks=(-math.sqrt(3), math.sqrt(3)),
            log_concave=True,
            peaked=False,
        ),
        Law(
            "triangular",
            density=lambda t, m: tent(t, m, m.root(6), 6),
            distribution=lambda t, m: symmetric(t, m, tent_tail(t, m, m.root(6), 6)),
            lower_quantile=lambda u, m: m.sqrt(12 * u) - m.root(6),
            far=lambda t, m: tent_tail(t, m, m.root(6), 6),
            support=lambda m: (-m.root(6), m.root(6)),
            ends=lambda m: Edge(2, m.one / 12),
            kinks=(-math.sqrt(6), 0.0, math.sqrt(6)),
            log_concave=True,
        ),
        Law(
            "normal",
            density=bell,
            distribution=lambda t, m: m.ndtr(t),
            lower_quantile=lambda u, m: m.ndtri(u),
            ends=lambda m: Decay(2, m.one / 2, -1, 1 / m.root(2 * m.pi)),
            log_concave=True,
            reach=3.5,
        ),
        Law(
            "logistic",
            density=lambda t, m: sech2(t, m, _rate(m)),
            distribution=lambda t, m: m.expit(_rate(m) * t),
            lower_quantile=lambda u, m: (m.log(u) - m.log1p(-u)) / _rate(m),
            ends=lambda m: Decay(1, _rate(m)),
            log_concave=True,
        ),
    )
}
"""The four noise families by name."""


# Who has a law ------------------------------------------------------------------------------------------------------


def placed(noise: Any, what: str = "noise") -> tuple[Law, float, float]:
    """The law of a noise given in any of the allowed ways, with the mean and the standard deviation that it has.

    Args:
        noise: a family's name or a `Law`, which has mean 0 and standard deviation 1; or whatever has the method
            `placed_law`: a `Noise`, a `Density`, a `Variant`.
        what: what messages call it.

    Raises:
        TypeError: none of these.
        ValueError: a name that no family has.

    Example:
        >>> law, mean, std = placed("uniform")
        >>> law.name, mean, std
        ('uniform', 0.0, 1.0)
    """
    if isinstance(noise, Law):
        return noise, 0.0, 1.0
    if isinstance(noise, str):
        return FAMILIES[choice(noise, FAMILIES, what)], 0.0, 1.0
    if callable(getattr(noise, "placed_law", None)) and not isinstance(noise, type):
        return noise.placed_law()
    listing = ", ".join(map(repr, FAMILIES))
    raise TypeError(
        f"{what} must be one of {listing}, a Law, a Noise, a Variant, or an anabook.symbolic.Density, not {noise!r}."
    )
