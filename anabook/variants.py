"""The zoo: published straight-through estimators and surrogate gradients, as data.

A straight-through estimator (STE) quantises in the forward pass and multiplies by some function g in the backward
pass. It is a choice of noise: g(x) = Σ_k Δ_k f(x − θ_k), with the quantiser's steps Δ_k and thresholds θ_k and the
density f of a measure. That operation is written once, in `Variant.gradient` and `Variant.surrogate`. What differs from
paper to paper is data: a name, a density, a reference. Densities that differ by shift, scale and mass share one
`anabook.laws.Law`.

Not every density is a probability's: some have another total mass, some are negative in places, some have infinite
mass.
"""

from __future__ import annotations

import difflib
import functools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np

from anabook._arrays import elementwise
from anabook._validate import choice, generator, integer, real
from anabook.laws import (FAMILIES, Decay, Edge, Law, Power, bell, bisected, box, box_mass, sech2, symmetric, tent,
                          tent_tail)
from anabook.namespaces import NUMPY, sympy_namespace, teeth
from anabook.noise import Noise
from anabook.quantisers import Quantiser

KINDS = ("probability", "finite", "signed", "infinite")
"""What a density can be the density of: a probability; a positive measure of another finite mass; a signed measure
(negative somewhere); a positive measure of infinite mass."""

NUMPY_OPS = NUMPY


def _readable_namespace(distance: Any = None, scale: Any = 1) -> SimpleNamespace:
    """SymPy's namespace for formulas on the whole line.

    `distance` is scale·t in its simplest form, for conditions that read well.
    """
    import sympy as sp

    def inside(_t: Any, half_width: Any, value: Any, otherwise: Any = sp.Integer(0)) -> Any:
        return sp.Piecewise((value, sp.Abs(distance) < sp.expand(half_width * scale)), (otherwise, True))

    def on_teeth(_t: Any, pieces: Any, spacing: Any) -> Any:
        half = sp.expand(teeth(pieces, spacing) * scale / 2)
        return (sp.Abs(distance) < half) & (sp.Mod(distance + half, spacing * scale) < scale)

    m = sympy_namespace()
    return SimpleNamespace(**{**vars(m), "inside": inside, "on_teeth": on_teeth, "ramp": lambda t: sp.Max(t, 0),
                              "bump": lambda t: m.expit(t) * m.expit(-t)})


# ----------------------------------------------------------------------------------------------------------------------
# Laws: densities in natural units


def _comb(t: Any, m: Any, pieces: Any, spacing: Any) -> Any:
    return m.where(m.on_teeth(t, pieces, spacing), m.full_like(t, m.one / pieces), 0 * m.one)


def _comb_primitive(t: Any, m: Any, pieces: Any, spacing: Any) -> Any:
    length = teeth(pieces, spacing)
    u = m.minimum(m.maximum(t + length / 2, 0), length)
    whole = m.floor(u / spacing)
    return (whole + m.minimum(u - spacing * whole, 1)) / pieces


def _comb_kinks(pieces: float, spacing: float) -> tuple[float, ...]:
    centres = (np.arange(round(pieces)) - (pieces - 1) / 2) * spacing
    return tuple(np.sort(np.concatenate([centres - 0.5, centres + 0.5])).tolist())


def _cut_pareto_std(cut: float) -> float:
    return math.sqrt((cut - 2 * math.log1p(cut) + cut / (1 + cut)) / (cut / (1 + cut)))


def _cut_pareto_primitive(t: Any, m: Any, cut: Any) -> Any:
    gone = m.minimum(m.abs(t), cut)
    half, part = cut / (1 + cut), gone / (1 + gone)
    return m.where(t < 0, half - part, half + part)


def _pareto_std(exponent: float) -> float:
    return math.sqrt(2 / ((exponent - 1) * (exponent - 2))) if exponent > 2 else math.inf


def _mexican_hat(t: Any, m: Any, dip: Any, spread: Any, bell: Callable[[Any, Any], Any], power: int) -> Any:
    """(1 + dip)·bell − dip·(two wider bells at ±1); `power` 1 for densities, 0 for primitives."""
    factor = dip / spread**power
    return (1 + dip) * bell(t, m) - factor * bell((t - 1) / spread, m) - factor * bell((t + 1) / spread, m)


def _harmonics(t: Any, m: Any, terms: int, wave: Callable[[Any], Any], power: int) -> Any:
    return sum(wave((2 * i - 1) * 2 * m.pi * t) / (2 * i - 1) ** power for i in range(1, terms))


def _normal_mass(t: Any, m: Any) -> Any:
    return m.ndtr(t)


def _laplace_tail(t: Any, m: Any) -> Any:
    return m.exp(-m.abs(t)) / 2


def _pareto_tail(t: Any, m: Any, exponent: Any) -> Any:
    return (1 + m.abs(t)) ** (-exponent) / 2


def _beyond_cut(t: Any, m: Any, cut: Any) -> Any:
    return 1 / (1 + m.abs(t)) - 1 / (1 + cut)


def _steps(t: Any, m: Any, left: Any, right: Any) -> Any:
    return m.where(t < 0, m.full_like(t, left * m.one), right * m.one)


def _signed_log(t: Any, m: Any, size: Any) -> Any:
    return m.where(t < 0, -m.log1p(size), m.log1p(size))


LAWS: Mapping[str, Law] = MappingProxyType({law.name: law for law in (
    Law("uniform", lambda t, m: box(t, m, m.one), lambda t, m: box_mass(t, m, m.one),
        lower_quantile=lambda u, m: 2 * u - 1, std=1 / math.sqrt(3), support=(-1, 1), ends=Edge(1, 0.5), kinks=(-1, 1),
        reach=1.6, log_concave=True, peaked=False),
    Law("triangular", lambda t, m: tent(t, m, 1, 1), lambda t, m: symmetric(t, m, tent_tail(t, m, 1, 1)),
        lower_quantile=lambda u, m: m.sqrt(2 * u) - 1, far=lambda t, m: tent_tail(t, m, 1, 1),
        std=1 / math.sqrt(6), support=(-1, 1), ends=Edge(2, 0.5), kinks=(-1, 0, 1), reach=1.6, log_concave=True),
    FAMILIES["normal"],
    Law("logistic", sech2, lambda t, m: m.expit(t), lower_quantile=lambda u, m: m.log(u) - m.log1p(-u),
        ends=Decay(1, 1), std=math.pi / math.sqrt(3), reach=6, log_concave=True),
    Law("laplace", lambda t, m: m.exp(-m.abs(t)) / 2, lambda t, m: symmetric(t, m, _laplace_tail(t, m)),
        lower_quantile=lambda u, m: m.log(2 * u), far=_laplace_tail, ends=lambda m: Decay(1, 1, 0, m.one / 2),
        std=math.sqrt(2), kinks=(0,), reach=5, log_concave=True),
    Law("cauchy", lambda t, m: 1 / (m.pi * (1 + t * t)), lambda t, m: m.half_turn(t) / m.pi,
        ends=lambda m: Power(1, 1 / m.pi), mean=math.nan, std=math.nan, reach=6),
    Law("two-sided Pareto", lambda t, m, exponent: exponent / (2 * (1 + m.abs(t)) ** (exponent + 1)),
        lambda t, m, exponent: symmetric(t, m, _pareto_tail(t, m, exponent)),
        lower_quantile=lambda u, m, exponent: 1 - (2 * u) ** (-1 / exponent), far=_pareto_tail,
        ends=lambda m, exponent: Power(exponent, m.one / 2),
        mean=lambda exponent: 0.0 if exponent > 1 else math.nan,
        std=lambda exponent: _pareto_std(exponent) if exponent > 1 else math.nan, kinks=(0,), reach=6),
    Law("cut Pareto", lambda t, m, cut: m.inside(t, cut, (1 + m.abs(t)) ** -2, 0 * m.one), _cut_pareto_primitive,
        far=lambda t, m, cut: m.ramp(_beyond_cut(t, m, cut)), ends=lambda m, cut: Edge(1, (1 + cut) ** -2),
        mass=lambda cut: 2 * cut / (1 + cut), std=_cut_pareto_std,
        support=lambda m, cut: (-cut, cut), kinks=lambda cut: (-cut, 0, cut), reach=lambda cut: 1.3 * cut),
    Law("one-sided Pareto", lambda t, m, start: m.where(t > start, (1 + m.abs(t)) ** -2, 0 * m.one),
        lambda t, m, start: m.where(t > start, 1 / (1 + start) - 1 / (1 + m.abs(t)), 0 * m.one),
        survival=lambda t, m, start: 1 / (1 + m.maximum(t, start)),
        ends=lambda m, start: (Edge(1, (1 + start) ** -2), Power(1)),
        mass=lambda start: 1 / (1 + start), mean=math.inf, std=math.nan, support=lambda m, start: (start, math.inf),
        kinks=lambda start: (start,), symmetric=False, reach=lambda start: 3 * start + 3),
    Law("comb", _comb, _comb_primitive, ends=lambda m, pieces, spacing: Edge(1, m.one / pieces),
        std=lambda pieces, spacing: math.sqrt((1 + spacing**2 * (pieces**2 - 1)) / 12),
        support=lambda m, pieces, spacing: (-teeth(pieces, spacing) / 2, teeth(pieces, spacing) / 2),
        kinks=_comb_kinks, peaked=False, reach=lambda pieces, spacing: 0.6 * teeth(pieces, spacing)),
    Law("swish", lambda t, m: sech2(t, m) * (2 - t * m.tanh(t / 2)),
        lambda t, m: m.expit(t) * (1 + t * m.expit(-t)), mean=math.nan, std=math.nan, signed=True, reach=8),
    Law("hat", lambda t, m, dip, spread: _mexican_hat(t, m, dip, spread, bell, 1),
        lambda t, m, dip, spread: _mexican_hat(t, m, dip, spread, _normal_mass, 0),
        mass=lambda dip, spread: 1 - dip, mean=math.nan, std=math.nan, signed=lambda dip, spread: dip > 0,
        reach=lambda dip, spread: 2.5 * spread),
    Law("square wave", lambda t, m, terms: 4 * _harmonics(t, m, terms, m.cos, 0),
        lambda t, m, terms: m.one / 2 + 2 / m.pi * _harmonics(t, m, terms, m.sin, 1),
        mass=math.nan, mean=math.nan, std=math.nan, signed=True, unbounded=True, reach=1.0),
    Law("constant", lambda t, m: m.full_like(t, m.one), lambda t, m: t, mass=math.inf, mean=math.nan, std=math.nan,
        unbounded=True, reach=1.5),
    Law("two slopes", _steps, lambda t, m, left, right: m.where(t < 0, left * t, right * t),
        mass=lambda left, right: math.nan if left * right < 0 else math.copysign(math.inf, left + right),
        mean=math.nan, std=math.nan, kinks=(0,), symmetric=False, signed=lambda left, right: min(left, right) < 0,
        unbounded=lambda left, right: left != 0, reach=1.5),
    Law("plateau", lambda t, m, leak: m.inside(t, 1, m.full_like(t, m.one / 2), leak * m.one),
        lambda t, m, leak: m.one / 2 + m.maximum(m.minimum(t, 1), -1) / 2
        + leak * (m.maximum(t - 1, 0) + m.minimum(t + 1, 0)),
        mass=lambda leak: math.inf if leak > 0 else 1.0, mean=lambda leak: math.nan if leak > 0 else 0.0,
        std=lambda leak: math.nan if leak > 0 else 1 / math.sqrt(3), kinks=(-1, 1),
        unbounded=lambda leak: leak > 0, reach=2.5),
    Law("reciprocal", lambda t, m: 1 / (1 + m.abs(t)), lambda t, m: _signed_log(t, m, m.abs(t)),
        mass=math.inf, mean=math.nan, std=math.nan, kinks=(0,), unbounded=True, reach=6),
    Law("capped reciprocal", lambda t, m: 1 / m.maximum(m.abs(t), 1),
        lambda t, m: m.maximum(m.minimum(t, 1), -1)
        + m.where(t < 0, m.full_like(t, -m.one), m.one) * m.log1p(m.maximum(m.abs(t), 1) - 1),
        mass=math.inf, mean=math.nan, std=math.nan, kinks=(-1, 1), unbounded=True, reach=4),
    Law("logarithmic tail", lambda t, m, leak: m.where(t < 0, leak * m.one, 1 / m.maximum(t, 1)),
        lambda t, m, leak: leak * m.minimum(t, 0) + m.maximum(m.minimum(t, 1), 0) + m.log1p(m.maximum(t, 1) - 1),
        mass=math.inf, mean=math.nan, std=math.nan, kinks=(0, 1), symmetric=False, unbounded=lambda leak: leak > 0, reach=4),
    Law("sigmoid and reciprocal", lambda t, m, alpha, beta: m.where(t < 0, sech2(t, m, alpha), beta / (1 + m.abs(t))),
        lambda t, m, alpha, beta: m.where(t < 0, m.expit(alpha * t), m.one / 2 + beta * m.log1p(m.abs(t))),
        mass=math.inf, mean=math.nan, std=math.nan, kinks=(0,), symmetric=False, reach=3),
)})
"""The laws of the zoo by name, in natural units: variants are made of them by shift, scale and weight."""


# ----------------------------------------------------------------------------------------------------------------------
# Variants


@dataclass(frozen=True)
class Parameter:
    """A variant's adjustable number: its default, and what else is allowed."""

    default: float
    above: float | None = None
    minimum: float | None = None
    is_integer: bool = False
    is_symbolic: bool = True

    def checked(self, value: Any, name: str) -> float:
        """`value` if it is allowed, as a float or an int."""
        if self.is_integer:
            return integer(value, name, minimum=int(self.minimum or 1))
        return real(value, name, minimum=self.minimum, above=self.above)


def _positive(default: float) -> Parameter:
    return Parameter(default, above=0.0)


def _non_negative(default: float) -> Parameter:
    return Parameter(default, minimum=0.0)


@dataclass(frozen=True)
class Placement:
    """How a variant's density comes from its law: f(x) = weight/scale · g((x − centre)/scale)."""

    weight: Any = 1
    centre: Any = 0
    scale: Any = 1
    shape: Mapping[str, Any] = field(default_factory=dict)


def _place(weight: Any = 1, centre: Any = 0, scale: Any = 1, **shape: Any) -> Placement:
    return Placement(weight, centre, scale, shape)


@dataclass(frozen=True)
class Reference:
    """Where a variant comes from: the key in the book's bibliography, and the same in words."""

    key: str
    text: str


@dataclass(frozen=True)
class Library:
    """Where a variant is implemented.

    Attributes:
        path: dotted name of the function or class.
        arguments: its arguments, each a number or the name of the variant's parameter to be passed.
    """

    path: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Variant:
    """A straight-through estimator as data: the density of its noise, the quantiser it is for, a reference.

    Variants are immutable; `with_parameters` makes others. Array arguments may be numbers, arrays or tensors of
    floats, of any shape, and the same kind comes back.

    Attributes:
        name: as in `VARIANTS`.
        law: name of the density in natural units, a key of `LAWS`.
        place: `(ops, **parameters)` ↦ the `Placement` of that law.
        stair: the quantiser, or a function of the parameters that gives it.
        key: citation key, None for a variant of one's own.
        parameters: the adjustable numbers with their defaults.
        values: those that differ from the default.
        aliases: other names.
        libraries: where it is implemented.
        note: where an implementation, its documentation and the paper disagree, or what else to know.
        condition: function of the parameters that says in words what is wrong with them, or gives None.
    """

    name: str
    law: str
    place: Callable[..., Placement]
    stair: Quantiser | Callable[..., Quantiser]
    key: str | None = None
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    libraries: tuple[Library, ...] = ()
    note: str = ""
    condition: Callable[..., str | None] | None = None
    scaling: float = 1.0

    def __post_init__(self) -> None:
        choice(self.law, LAWS, "law")
        values = {}
        for name, value in self.values.items():
            if not self.parameters:
                raise ValueError(f"{self.name} has no parameters, so {name}={value!r} is not allowed.")
            parameter = self.parameters[choice(name, self.parameters, f"parameter of {self.name}")]
            values[name] = parameter.checked(value, name)
        object.__setattr__(self, "values", MappingProxyType(values))
        problem = self.condition(**self.settings) if self.condition else None
        if problem:
            raise ValueError(problem)

    def __hash__(self) -> int:
        return hash((self.name, self.law, tuple(self.settings.items()), self.scaling))

    def __reduce__(self) -> tuple:
        return _rebuild, (self.name, dict(self.values), self.scaling)

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value:g}" for name, value in self.settings.items())
        return f"<variant {self.name}({settings}): {self.kind}>"

    @property
    def settings(self) -> dict[str, float]:
        """All parameters with their present values."""
        return {name: self.values.get(name, parameter.default) for name, parameter in self.parameters.items()}

    def with_parameters(self, **values: float) -> Variant:
        """The same variant with other parameters.

        Raises:
            ValueError: an unknown parameter, or a value that is not allowed.

        Example:
            >>> VARIANTS["fast_sigmoid"].with_parameters(k=2).mass
            1.0
        """
        return replace(self, values={**self.values, **values})

    def normalised(self) -> Variant:
        """The same density divided by its mass.

        Raises:
            ValueError: the mass is infinite, undefined or zero.
        """
        if not math.isfinite(self.mass) or self.mass == 0:
            raise ValueError(f"{self.name} has mass {self.mass:g}, so it cannot be normalised.")
        return replace(self, scaling=self.scaling / self.mass)

    @property
    def quantiser(self) -> Quantiser:
        """The quantiser whose straight-through estimator this is."""
        return self.stair if isinstance(self.stair, Quantiser) else self.stair(**self.settings)

    @property
    def reference(self) -> Reference | None:
        """Citation key and authors with year."""
        return Reference(self.key, REFERENCES[self.key]) if self.key else None

    @property
    def mass(self) -> float:
        """Total mass of the density. By it the gradient differs from that of a noise: 1 for a probability."""
        placement = self._placement
        return float(self.scaling * placement.weight * self.natural.get("mass"))

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        if self.natural.get("signed"):
            return "signed"
        if math.isinf(self.mass):
            return "infinite"
        return "probability" if math.isclose(self.mass, 1.0, rel_tol=1e-12) else "finite"

    @property
    def is_probability(self) -> bool:
        """Whether the density is non-negative with mass 1: whether there is a noise behind the variant."""
        return self.kind == "probability"

    @property
    def family(self) -> str | None:
        """The noise family (`anabook.noise.FAMILIES`) that the law belongs to, if it does."""
        return self.law if self.law in FAMILIES else None

    @property
    def mean(self) -> float:
        """Mean of the normalised density; NaN where there is none."""
        placement = self._placement
        return placement.centre + placement.scale * self.natural.get("mean")

    @property
    def centre(self) -> float:
        """Where the law's natural zero lies: the centre of symmetry of a symmetric density."""
        return float(self._placement.centre)

    @property
    def std(self) -> float:
        """Standard deviation of the normalised density; inf or NaN where there is none."""
        placement = self._placement
        return placement.scale * self.natural.get("std")

    @property
    def support(self) -> tuple[float, float]:
        """The smallest interval outside which the density is zero."""
        low, high = self._from_natural(self.natural.bounds())
        return low, high

    @property
    def kinks(self) -> tuple[float, ...]:
        """Where the density is not smooth."""
        return self._from_natural(self.natural.get("kinks"))

    @property
    def window(self) -> tuple[float, float]:
        """An interval of x that shows the gradient's shape."""
        placement = self._placement
        reach = placement.scale * self.natural.get("reach")
        thresholds = self.quantiser.thresholds
        return float(thresholds[0] + placement.centre - reach), float(thresholds[-1] + placement.centre + reach)

    def pdf(self, x: Any) -> Any:
        """The density f at x."""
        placement = self._placement
        factor = self.scaling * placement.weight / placement.scale
        return elementwise(lambda v: factor * self._at("pdf", v), x)

    def cdf(self, x: Any) -> Any:
        """A primitive F of the density: the mass up to x wherever that is finite, accurate in the lower tail."""
        return elementwise(lambda v: self.scaling * self._placement.weight * self._at("cdf", v), x)

    def sf(self, x: Any) -> Any:
        """The mass above x (of a density of finite mass), accurate in the upper tail of symmetric laws."""
        if not math.isfinite(self.mass):
            raise ValueError(f"{self.name} has mass {self.mass:g}, so there is no mass above x to speak of.")
        if self.natural.symmetric:
            return self.cdf(2 * self._placement.centre - x)
        return self.mass - self.cdf(x)

    def icdf(self, u: Any) -> Any:
        """The quantile inf{x : F(x) ≥ u} of a probability, by bisection to neighbouring doubles.

        Raises:
            ValueError: the variant is no probability, or u lies outside [0, 1].
        """
        self._require_probability()
        return elementwise(self._quantile, u, "u")

    def sample(self, shape: int | tuple[int, ...], rng: np.random.Generator | int) -> np.ndarray:
        """Independent draws of the noise, by the quantile of uniform numbers (probabilities only)."""
        rng = generator(rng)
        return np.asarray(self.icdf(np.clip(1.0 - rng.random(shape), None, 1 - 2.0**-53)))

    def placed_law(self) -> tuple[Law, float, float]:
        """The variant's law, with the mean and the standard deviation at which its density is the variant's.

        A law without a mean has the centre in its place, one without a standard deviation the scale. What is no noise's law
        is not moved, so its mean is 0.
        """
        return _placed_law(self)

    def as_noise(self) -> Noise:
        """The noise behind a probability.

        Raises:
            ValueError: the variant is no probability.
        """
        self._require_probability()
        return Noise(self)

    def as_density(self) -> Any:
        """The noise behind a probability as an exact `anabook.symbolic.Density`, at the present parameters.

        Raises:
            ValueError: the variant is no probability.
        """
        import sympy as sp

        from anabook.symbolic import Density

        self._require_probability()
        ends = [sp.nsimplify(end) if math.isfinite(end) else end * sp.oo for end in self.support]
        variable = self.symbols()["x"]
        if self.law == "comb":
            edges = [sp.nsimplify(kink) for kink in self.kinks]
            teeth = sp.Or(*((variable >= a) & (variable < b) for a, b in zip(edges[::2], edges[1::2])))
            height = 1 / sum(b - a for a, b in zip(edges[::2], edges[1::2]))
            return Density(sp.Piecewise((height, teeth), (0, True)), variable, tuple(ends))
        numbers = {symbol: sp.nsimplify(self.settings[name]) for name, symbol in self.symbols().items() if name != "x"}
        return Density(self.formula.subs(numbers), variable, tuple(ends))

    def gradient(self, x: Any) -> Any:
        """What the variant multiplies by in the backward pass: Σ_k Δ_k f(x − θ_k)."""
        return elementwise(lambda v: self._over_jumps(self.pdf, v), x)

    def surrogate(self, x: Any) -> Any:
        """The function that the backward pass differentiates: q_0 + Σ_k Δ_k F(x − θ_k).

        Where the mass on the left is infinite, the constant q_0 means nothing. Another one then puts the surrogate
        half-way between the outermost levels at the middle of the thresholds.
        """
        quantiser = self.quantiser
        start = quantiser.levels[0]
        if self.natural.get("unbounded"):
            middle = quantiser.thresholds[[0, -1]].mean()
            start = quantiser.levels[[0, -1]].mean() - self._over_jumps(self.cdf, middle)
        return elementwise(lambda v: start + self._over_jumps(self.cdf, v), x)

    @property
    def formula(self) -> Any:
        """The density as a SymPy expression in the symbol x and symbols named after the parameters."""
        return self._symbolic("pdf")

    @property
    def primitive_formula(self) -> Any:
        """The primitive as a SymPy expression."""
        return self._symbolic("cdf")

    def latex(self) -> str:
        """The density in LaTeX, parameters of several letters in upright type."""
        import sympy as sp

        names = {symbol: rf"\mathrm{{{name}}}" for name, symbol in self.symbols().items()
                 if len(name) > 1 and name not in _GREEK}
        formula = sp.simplify(self.formula) if self.law == "two-sided Pareto" else self.formula
        return sp.latex(formula.replace(sp.Piecewise, _with_readable_conditions), symbol_names=names)

    def symbols(self) -> dict[str, Any]:
        """The SymPy symbols of `formula`: "x", and each parameter that the formula keeps open."""
        import sympy as sp

        table = {"x": sp.Symbol("x", real=True)}
        for name, parameter in self.parameters.items():
            if parameter.is_symbolic:
                positive = parameter.above is not None or parameter.is_integer
                table[name] = sp.Symbol(name, positive=True) if positive else sp.Symbol(name, nonnegative=True)
        return table

    @property
    def natural(self) -> Law:
        """The law in natural units, with the shape that it has at the present parameters."""
        return LAWS[self.law].bound(**self._placement.shape)

    @property
    def _placement(self) -> Placement:
        return self.place(NUMPY_OPS, **self.settings)

    def _from_natural(self, points: Iterable[float]) -> tuple[float, ...]:
        placement = self._placement
        return tuple(float(placement.centre + placement.scale * t) for t in points)

    def _at(self, method: str, x: np.ndarray) -> np.ndarray:
        placement, law = self._placement, self.natural
        t = (x - placement.centre) / placement.scale
        with np.errstate(invalid="ignore", over="ignore"):  # at ±∞, which are set apart below
            value = getattr(law, method)(t)
        if method == "cdf" and math.isfinite(self.mass):
            value = np.where(t == math.inf, law.total_mass, np.where(t == -math.inf, 0.0, value))
        return np.where(np.isnan(t), t, value)

    def _over_jumps(self, function: Callable[[np.ndarray], np.ndarray], v: np.ndarray) -> np.ndarray:
        quantiser = self.quantiser
        return sum(step * function(v - threshold) for step, threshold in zip(quantiser.steps, quantiser.thresholds))

    def _require_probability(self) -> None:
        if not self.is_probability:
            raise ValueError(f"{self.name} is no noise: {self.placed_law()[0].why_no_noise}.")

    def _quantile(self, u: np.ndarray) -> np.ndarray:
        outside = (u < 0) | (u > 1)
        if outside.any():
            raise ValueError(f"probabilities must lie in [0, 1], not {float(u[outside].flat[0])!r}.")
        upper = (u > 0.5) & self.natural.symmetric
        x = bisected(self.cdf, np.where(upper, 1 - u, u), self._placement.centre, self._placement.scale)
        return np.where(upper, 2 * self._placement.centre - x, x)

    def _symbolic(self, method: str) -> Any:
        import sympy as sp

        symbols = self.symbols()
        settings = {name: symbols.get(name, sp.nsimplify(value)) for name, value in self.settings.items()}
        placement = self.place(sympy_namespace(), **settings)
        distance = symbols["x"] - placement.centre
        m, law = _readable_namespace(distance, placement.scale), LAWS[self.law].bound(**placement.shape)
        value = getattr(law, method)(distance / placement.scale, m)
        factor = sp.nsimplify(self.scaling) * placement.weight / (1 if method == "cdf" else placement.scale)
        return sp.piecewise_fold(sp.factor(factor) * value)


VariantNoise = Noise


# ----------------------------------------------------------------------------------------------------------------------
# The data

REFERENCES: Mapping[str, str] = MappingProxyType({
    "bellec2018lsnn": "Bellec et al. (2018)",
    "bengio2013ste": "Bengio, Léonard and Courville (2013)",
    "brevitas": "Pappalardo (Brevitas)",
    "cai2017hwgq": "Cai et al. (2017)",
    "choi2018pact": "Choi et al. (2018)",
    "courbariaux2016bnn": "Courbariaux et al. (2016)",
    "darabi2018bnnplus": "Darabi et al. (2018)",
    "eshraghian2023snntorch": "Eshraghian et al. (2023)",
    "esser2016convolutional": "Esser et al. (2016)",
    "fang2021plif": "Fang et al. (2021)",
    "fang2023spikingjelly": "Fang et al. (2023)",
    "geiger2020larq": "Geiger et al. (2020)",
    "gerstner2002spiking": "Gerstner and Kistler (2002)",
    "herranz2022surrogate": "Herranz-Celotti and Rouat (2022)",
    "hinton2012lectures": "Hinton (2012)",
    "li2016twn": "Li, Zhang and Liu (2016)",
    "liu2018bireal": "Liu et al. (2018)",
    "pereznieves2021sparse": "Perez-Nieves and Goodman (2021)",
    "qin2020irnet": "Qin et al. (2020)",
    "shrestha2018slayer": "Shrestha and Orchard (2018)",
    "spallanzani2022ana": "Spallanzani, Leonardi and Benini (2022)",
    "suetake2022s3nn": "Suetake et al. (2022)",
    "wu2018stbp": "Wu et al. (2018)",
    "yin2019understanding": "Yin et al. (2019)",
    "yin2021accurate": "Yin, Corradi and Bohté (2021)",
    "zenke2018superspike": "Zenke and Ganguli (2018)",
    "zhou2016dorefa": "Zhou et al. (2016)",
})
"""Citation keys of the book's bibliography, in words."""

_HEAVISIDE = Quantiser.heaviside()
_SIGN = Quantiser([-1.0, 1.0], [0.0])
_SNN = "snntorch.surrogate."
_JELLY = "spikingjelly.activation_based.surrogate."
_LARQ = "larq.quantizers."


def _levels_of(bits: Any) -> Any:
    return 2**bits - 1


def _ternary_at(threshold: float, **_: float) -> Quantiser:
    return Quantiser([-1.0, 0.0, 1.0], [-threshold, threshold])


def _comb_condition(threshold: float, clip: float) -> str | None:
    teeth = clip / (2 * threshold)
    if round(teeth) >= 1 and math.isclose(teeth, round(teeth), rel_tol=1e-9):
        return None
    return (f"clip must be a whole multiple of 2·threshold, not {teeth:g} times it: "
            f"no finite measure gives the clipped identity otherwise.")


_ZOO = (
    # --- boxes ---------------------------------------------------------------------------------------------------
    Variant("hard_sigmoid", "uniform", lambda m, k: _place(scale=1 / (2 * k)), _HEAVISIDE, "courbariaux2016bnn",
            {"k": _positive(1.0)},
            note="The binarised networks' clip((x + 1)/2, 0, 1) has k = 1/2; the ANA paper's has k = 1."),
    Variant("rectangular", "uniform", lambda m, alpha: _place(scale=1 / (2 * alpha)), _HEAVISIDE, "wu2018stbp",
            {"alpha": _positive(1.0)}, aliases=("rect", "boxcar"),
            libraries=(Library(_JELLY + "Rect", {"alpha": "alpha"}),),
            note="The hard sigmoid again, under the name of its derivative."),
    Variant("clipped_relu", "uniform", lambda m: _place(centre=m.one / 2, scale=m.one / 2), _HEAVISIDE,
            "yin2019understanding", note="A hard sigmoid whose noise has mean 1/2."),
    Variant("hard_tanh", "uniform", lambda m, clip: _place(weight=clip, scale=clip), _SIGN, "courbariaux2016bnn",
            {"clip": _positive(1.0)}, aliases=("ste_sign", "SteSign"),
            libraries=(Library(_LARQ + "SteSign", {"clip_value": "clip"}),
                       Library("brevitas.core.quant.ClampedBinaryQuant", {"scale": "clip"})),
            note="The derivative is 1 for |x| ≤ clip whatever the clip, so the mass equals the clip."),
    Variant("ternary_hard_tanh", "uniform", lambda m: _place(scale=m.one / 2), Quantiser.ternary(),
            "spallanzani2022ana", note="Thresholds ±1/2: the identity on [−1, 1] is exactly its regularisation."),
    Variant("ste_heaviside", "uniform", lambda m, clip: _place(weight=2 * clip, scale=clip), _HEAVISIDE,
            "geiger2020larq", {"clip": _positive(1.0)}, aliases=("SteHeaviside",),
            libraries=(Library(_LARQ + "SteHeaviside", {"clip_value": "clip"}),),
            note="Larq keeps its sign's derivative, 1 on [−clip, clip], though the step is 1, not 2: twice the mass."),
    Variant("ste_tern", "comb", lambda m, threshold, clip: _place(weight=clip, scale=2 * threshold, spacing=2,
                                                                  pieces=clip / (2 * threshold)),
            _ternary_at, "li2016twn", {"threshold": _positive(0.05), "clip": _positive(1.0)}, aliases=("SteTern",),
            libraries=(Library(_LARQ + "SteTern", {"threshold_value": "threshold", "clip_value": "clip"}),),
            condition=_comb_condition,
            note="With Larq's thresholds ±0.05 the noise behind the clipped identity is a comb of ten boxes."),
    Variant("dorefa", "uniform", lambda m, bits: _place(scale=m.one / (2 * _levels_of(bits))),
            lambda bits: Quantiser.linear(bits, signed=False, quantum=1 / _levels_of(bits), rounding="nearest"),
            "zhou2016dorefa", {"bits": Parameter(2, minimum=1, is_integer=True)}, aliases=("DoReFa",),
            libraries=(Library(_LARQ + "DoReFa", {"k_bit": "bits"}),),
            note="Activations. Inputs are clipped to [0, 1] before rounding; clipping after it would not be a noise."),
    Variant("pact", "uniform", lambda m, bits, clip: _place(scale=clip / (2 * _levels_of(bits))),
            lambda bits, clip: Quantiser.linear(bits, False, clip / _levels_of(bits), "nearest"),
            "choi2018pact", {"bits": Parameter(4, minimum=1, is_integer=True), "clip": _positive(6.0)},
            note="DoReFa's with a learnt clip, which is a parameter here."),
    Variant("spike_count", "uniform", lambda m, count: _place(scale=m.one / 2),
            lambda count: Quantiser(np.arange(count + 1.0), np.arange(count) + 0.5), "fang2023spikingjelly",
            {"count": Parameter(4, minimum=1, is_integer=True)},
            libraries=(Library(_JELLY + "MultiLevelSpikeCount", {"max_spike_count": "count"}),)),
    Variant("floor_identity", "uniform", lambda m, quantum, bits: _place(centre=-quantum / 2, scale=quantum / 2),
            lambda quantum, bits: Quantiser.linear(bits, quantum=quantum), "spallanzani2022ana",
            {"quantum": _positive(1.0), "bits": Parameter(4, minimum=1, is_integer=True)},
            note="The clipped identity for a quantiser that rounds down: its noise is half a quantum off centre."),
    # --- tents ---------------------------------------------------------------------------------------------------
    Variant("bi_real", "triangular", lambda m: _place(), _SIGN, "liu2018bireal",
            aliases=("approx_sign", "ApproxSign"), libraries=(Library(_LARQ + "ApproxSign"),),
            note="The surrogate is the piecewise polynomial 2x + x² for x < 0, 2x − x² for x ≥ 0, within [−1, 1]."),
    Variant("triangular", "triangular", lambda m, alpha: _place(scale=1 / alpha), _HEAVISIDE,
            "esser2016convolutional", {"alpha": _positive(1.0)}, aliases=("piecewise_quadratic", "quadratic"),
            libraries=(Library(_JELLY + "PiecewiseQuadratic", {"alpha": "alpha"}),),
            note="Named after its derivative here, after its surrogate (piecewise quadratic) in SpikingJelly."),
    Variant("dampened_triangular", "triangular", lambda m, gamma: _place(weight=gamma), _HEAVISIDE, "bellec2018lsnn",
            {"gamma": _positive(0.3)}, note="The factor γ dampens the gradient on its way back through time."),
    # --- bells ---------------------------------------------------------------------------------------------------
    Variant("sigmoid", "logistic", lambda m: _place(), _HEAVISIDE, "bengio2013ste", aliases=("logistic",)),
    Variant("scaled_sigmoid", "logistic", lambda m, k: _place(scale=1 / k), _HEAVISIDE, "wu2018stbp",
            {"k": _positive(25.0)},
            libraries=(Library(_SNN + "sigmoid", {"slope": "k"}), Library(_JELLY + "Sigmoid", {"alpha": "k"})),
            note="SpikingJelly's default is k = 4. snnTorch computes exp(−kx)/(1 + exp(−kx))² as it stands, "
                 "which is NaN once exp(−kx) overflows."),
    Variant("error_decay", "logistic", lambda m, t: _place(weight=m.maximum(1 / t, m.one), scale=1 / (2 * t)), _SIGN,
            "qin2020irnet", {"t": _positive(1.0)}, aliases=("ede", "irnet"),
            note="max(1/t, 1)·tanh(tx), with t rising from 0.1 to 10 during training: annealing by another name. "
                 "The mass is 1 only once t ≥ 1."),
    Variant("erf", "normal", lambda m, alpha: _place(scale=1 / (m.sqrt(2 * m.one) * alpha)), _HEAVISIDE,
            "fang2023spikingjelly", {"alpha": _positive(2.0)},
            libraries=(Library(_JELLY + "Erf", {"alpha": "alpha"}),)),
    Variant("gaussian", "normal", lambda m, sigma: _place(scale=sigma), _HEAVISIDE, "wu2018stbp",
            {"sigma": _positive(1.0)}, aliases=("gauss", "normal")),
    Variant("laplace", "laplace", lambda m, alpha: _place(scale=1 / alpha), _HEAVISIDE, "shrestha2018slayer",
            {"alpha": _positive(1.0)}, aliases=("piecewise_exp", "exponential", "slayer"),
            libraries=(Library(_JELLY + "PiecewiseExp", {"alpha": "alpha"}),)),
    Variant("spike_rate_escape", "laplace",
            lambda m, beta, k: _place(weight=2 * k / beta, centre=m.one, scale=1 / beta), _HEAVISIDE,
            "gerstner2002spiking", {"beta": _positive(1.0), "k": _positive(25.0)},
            libraries=(Library(_SNN + "spike_rate_escape", {"beta": "beta", "slope": "k"}),),
            note="snnTorch centres it at 1 although its input already has the threshold subtracted, "
                 "and the default slope gives mass 50."),
    # --- heavy tails ---------------------------------------------------------------------------------------------
    Variant("fast_sigmoid", "two-sided Pareto", lambda m, k: _place(weight=2 / k, scale=1 / k, exponent=1), _HEAVISIDE,
            "zenke2018superspike", {"k": _positive(25.0)},
            libraries=(Library(_SNN + "fast_sigmoid", {"slope": "k"}),),
            note="Height 1 at the threshold whatever the slope, so the mass is 2/k: a probability at k = 2 only."),
    Variant("soft_sign", "two-sided Pareto", lambda m, alpha: _place(scale=1 / alpha, exponent=1), _HEAVISIDE,
            "fang2023spikingjelly", {"alpha": _positive(2.0)}, aliases=("softsign",),
            libraries=(Library(_JELLY + "SoftSign", {"alpha": "alpha"}),),
            note="The fast sigmoid, normalised."),
    Variant("super_spike", "two-sided Pareto", lambda m, alpha: _place(weight=2 * alpha, exponent=1), _HEAVISIDE,
            "zenke2018superspike", {"alpha": _positive(1.0)},
            libraries=(Library(_JELLY + "SuperSpike", {"alpha": "alpha"}),),
            note="SpikingJelly's alpha multiplies the gradient; the paper's slope acts inside, as in fast_sigmoid."),
    Variant("q_pseudo_spike", "two-sided Pareto", lambda m, q: _place(scale=(q - 1) / 2, exponent=q - 1), _HEAVISIDE,
            "herranz2022surrogate", {"q": Parameter(2.0, above=1.0)},
            libraries=(Library(_JELLY + "QPseudoSpike", {"alpha": "q"}),),
            note="A probability for every q > 1; mean from q > 2, variance from q > 3."),
    Variant("sparse_fast_sigmoid", "cut Pareto",
            lambda m, k, bound: _place(scale=1 / k, weight=1 / k, cut=k * bound), _HEAVISIDE, "pereznieves2021sparse",
            {"k": _positive(25.0), "bound": _positive(1.0)},
            note="The fast sigmoid, cut to |x| < bound so that most neurons need no backward pass."),
    Variant("one_sided_fast_sigmoid", "one-sided Pareto",
            lambda m, k, bound: _place(scale=1 / k, weight=1 / k, start=k * bound), _HEAVISIDE,
            "eshraghian2023snntorch",
            {"k": _positive(25.0), "bound": _non_negative(1.0)}, aliases=("SFS",),
            libraries=(Library(_SNN + "SFS", {"slope": "k", "B": "bound"}),),
            note="snnTorch's form of the sparse fast sigmoid keeps x > bound instead of |x| < bound: the opposite set "
                 "of neurons, and no gradient at the threshold at all."),
    Variant("atan", "cauchy", lambda m, alpha: _place(scale=2 / (m.pi * alpha)), _HEAVISIDE, "fang2021plif",
            {"alpha": _positive(2.0)}, aliases=("arctan",),
            libraries=(Library(_SNN + "atan", {"alpha": "alpha"}), Library(_JELLY + "ATan", {"alpha": "alpha"})),
            note="Both libraries compute this density. snnTorch documents another one, without the factor πα/2."),
    # --- signed --------------------------------------------------------------------------------------------------
    Variant("swish_sign", "swish", lambda m, beta: _place(scale=1 / beta), _SIGN, "darabi2018bnnplus",
            {"beta": _positive(5.0)}, aliases=("SwishSign", "bnn_plus"),
            libraries=(Library(_LARQ + "SwishSign", {"beta": "beta"}),),
            note="The surrogate overshoots ±1, so its derivative turns negative where |βx| > 2.3994."),
    Variant("multi_gauss", "hat", lambda m, gamma, h, s, sigma: _place(weight=gamma, scale=sigma, dip=h, spread=s),
            _HEAVISIDE, "yin2021accurate",
            {"gamma": _positive(0.5), "h": _non_negative(0.15), "s": Parameter(6.0, above=1.0),
             "sigma": _positive(0.5)}, aliases=("multi_gaussian",),
            note="Mass γ(1 − h): two wide bells are subtracted from a narrow one."),
    Variant("squarewave_fourier", "square wave", lambda m, n, period: _place(scale=period, terms=n), _HEAVISIDE,
            "fang2023spikingjelly",
            {"n": Parameter(2, minimum=2, is_integer=True, is_symbolic=False), "period": _positive(8.0)},
            libraries=(Library(_JELLY + "SquarewaveFourierSeries", {"n": "n", "T_period": "period"}),),
            note="The sum has n − 1 terms, not n. Periodic: positive and negative parts are both infinite."),
    Variant("snntorch_triangular", "two slopes", lambda m, threshold: _place(left=threshold, right=-threshold),
            _HEAVISIDE, "eshraghian2023snntorch", {"threshold": _positive(1.0)},
            libraries=(Library(_SNN + "triangular", {"threshold": "threshold"}),),
            note="The slope of a triangle, not a triangle: above the threshold the gradient's sign is reversed, "
                 "and it never fades. Documented as it is computed."),
    # --- infinite ------------------------------------------------------------------------------------------------
    Variant("identity", "constant", lambda m: _place(), _HEAVISIDE, "hinton2012lectures", aliases=("ste",),
            libraries=(Library(_SNN + "straight_through_estimator"), Library(_JELLY + "DeterministicPass"))),
    Variant("sign_identity", "constant", lambda m: _place(weight=m.one / 2), _SIGN, "brevitas",
            libraries=(Library("brevitas.core.quant.BinaryQuant"),),
            note="Larq's SteSign with clip_value=None as well."),
    Variant("relu", "two slopes", lambda m: _place(left=0, right=1), _HEAVISIDE, "yin2019understanding",
            libraries=(Library(_SNN + "heaviside"), Library(_JELLY + "LeakyKReLU", {"leak": 0.0, "k": 1.0}))),
    Variant("leaky_relu", "two slopes", lambda m, leak, k: _place(left=leak, right=k), _HEAVISIDE,
            "eshraghian2023snntorch", {"leak": _non_negative(0.1), "k": _positive(1.0)},
            aliases=("LSO", "leaky_spike_operator", "leaky_k_relu"),
            libraries=(Library(_SNN + "LSO", {"slope": "leak"}),
                       Library(_JELLY + "LeakyKReLU", {"leak": "leak", "k": "k"})),
            note="In snnTorch 1.0.0 the function LSO calls another class and raises a TypeError; "
                 "the class LeakySpikeOperator holds the gradient. SpikingJelly's default leak is 0."),
    Variant("piecewise_leaky_relu", "plateau", lambda m, w, c: _place(scale=w, leak=c * w), _HEAVISIDE,
            "fang2023spikingjelly", {"w": _positive(1.0), "c": _non_negative(0.01)},
            libraries=(Library(_JELLY + "PiecewiseLeakyReLU", {"w": "w", "c": "c"}),),
            note="A probability at c = 0, where the leak is gone."),
    Variant("log_tailed_relu", "logarithmic tail", lambda m, alpha: _place(leak=alpha), _HEAVISIDE, "cai2017hwgq",
            {"alpha": _non_negative(0.0)}, libraries=(Library(_JELLY + "LogTailedReLU", {"alpha": "alpha"}),)),
    Variant("nonzero_sign_log_abs", "reciprocal", lambda m, alpha: _place(scale=1 / alpha), _HEAVISIDE,
            "fang2023spikingjelly", {"alpha": _positive(1.0)},
            libraries=(Library(_JELLY + "NonzeroSignLogAbs", {"alpha": "alpha"}),)),
    Variant("fake_numerical_gradient", "capped reciprocal", lambda m, alpha: _place(scale=1 / alpha), _HEAVISIDE,
            "fang2023spikingjelly", {"alpha": _positive(0.3)},
            libraries=(Library(_JELLY + "FakeNumericalGradient", {"alpha": "alpha"}),),
            note="min(1/|x|, α): one docstring says (2 − sign x)/x, the code and the other say sign(x)/x."),
    Variant("s2nn", "sigmoid and reciprocal", lambda m, alpha, beta: _place(alpha=alpha, beta=beta), _HEAVISIDE,
            "suetake2022s3nn", {"alpha": _positive(4.0), "beta": _positive(1.0)},
            libraries=(Library(_JELLY + "S2NN", {"alpha": "alpha", "beta": "beta"}),),
            note="SpikingJelly documents a surrogate that jumps by 1/2 at the threshold; its code has none."),
)


class UnknownVariant(KeyError):
    """A name that is not in the zoo."""

    def __str__(self) -> str:
        return str(self.args[0])


class Zoo(dict):
    """The variants by name. Looking up an alias gives the variant; an unknown name suggests the nearest."""

    def __missing__(self, name: object) -> Variant:
        aliases = {alias: variant for variant in self.values() for alias in variant.aliases}
        if name in aliases:
            return aliases[name]
        near = difflib.get_close_matches(str(name), [*self, *aliases], n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"the {len(self)} names are the keys of VARIANTS."
        raise UnknownVariant(f"there is no variant called {name!r}; {hint}")


VARIANTS = Zoo((variant.name, variant) for variant in _ZOO)
"""The published variants by name."""


@functools.lru_cache(maxsize=256)
def _placed_law(variant: Variant) -> tuple[Law, float, float]:
    placement, law = variant._placement, variant.natural
    std = float(placement.scale * law.unit)
    law = FAMILIES.get(law.name, law)
    weight = float(variant.scaling * placement.weight)
    if not math.isclose(weight, 1.0, rel_tol=1e-12):
        law = law.changed(weight)
    if variant.is_probability:
        return law, float(variant.mean if math.isfinite(variant.mean) else placement.centre), std
    return law.changed(offset=float(placement.centre) * law.unit / std), 0.0, std


def _rebuild(name: str, values: dict[str, float], scaling: float) -> Variant:
    return replace(VARIANTS[name], values=values, scaling=scaling)


@dataclass(frozen=True)
class Table:
    """Variants as a table: HTML with formulas in a notebook, names and kinds in a terminal."""

    variants: tuple[Variant, ...]

    def __repr__(self) -> str:
        return "\n".join(f"{v.name:24} {v.kind:12} mass {v.mass:.4g}" for v in self.variants)

    def _repr_html_(self) -> str:
        columns = {title: [cell(variant) for variant in self.variants] for title, cell in _COLUMNS.items()}
        common = {title: cells[0] for title, cells in columns.items() if len(set(cells)) == 1 < len(cells)}
        shown = [title for title in columns if title not in common]
        head = "".join(f'<th scope="col" style="{_CELL}">{title}</th>' for title in ("variant", *shown))
        body = "".join(_row(variant, [columns[title][i] for title in shown]) for i, variant in enumerate(self.variants))
        caption = "; ".join(f"{title} {cell}" for title, cell in common.items())
        note = f'<caption style="caption-side: top">In all rows: {caption}.</caption>' if common else ""
        label = f"Variants from {self.variants[0].name} to {self.variants[-1].name}"
        return (f'<div class="tex2jax_process" style="overflow-x: auto" tabindex="0" role="region" '
                f'aria-label="{label}">'
                f"<table>{note}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>")


def table(variants: Iterable[Variant]) -> Table:
    """The variants as a `Table`: density, mass, kind, moments and source, all computed or looked up.

    Parameters stay symbols in the density; the numbers are those of the present parameters. What is the same in
    all rows is said once, in the caption.

    Raises:
        ValueError: no variants.
    """
    variants = tuple(variants)
    if not variants:
        raise ValueError("a table needs at least one variant, not none.")
    return Table(variants)


def _with_readable_conditions(*pieces: Any) -> Any:
    """The same piecewise function, its conditions with x on the left and without common factors: SymPy sorts by name."""
    import sympy as sp

    def readable(condition: Any) -> Any:
        if not isinstance(condition, sp.core.relational.Relational):
            return condition
        common = sp.gcd(condition.lhs, condition.rhs)
        if common.is_positive:
            condition = condition.func(condition.lhs / common, condition.rhs / common)
        return condition if any(symbol.name == "x" for symbol in condition.lhs.free_symbols) else condition.reversed

    return sp.Piecewise(*((value, readable(condition)) for value, condition in pieces), evaluate=False)


_CELL = "text-align: left; padding: 0.3em 0.8em 0.3em 0"


def _row(variant: Variant, cells: list[str]) -> str:
    settings = ", ".join(f"{_GREEK.get(name, name)} = {value:g}" for name, value in variant.settings.items())
    name = variant.name.replace("_", "_<wbr>")
    if settings:
        name += f'<br><small style="font-weight: normal">{settings}</small>'
    data = "".join(f'<td style="{_CELL}">{cell}</td>' for cell in cells)
    return f'<tr><th scope="row" style="{_CELL}">{name}</th>{data}</tr>'


def _density_cell(variant: Variant) -> str:
    if variant.law == "comb":
        return f"a comb of {len(variant.kinks) // 2} boxes"
    return rf"\({variant.latex()}\)".replace("<", "&lt;").replace(">", "&gt;")


def _levels_cell(variant: Variant) -> str:
    levels = variant.quantiser.levels
    return "{" + ", ".join(map(_number, levels)) + "}" if len(levels) < 4 else f"{len(levels)} levels"


def _number(value: float) -> str:
    if math.isnan(value):
        return "–"
    return "∞" if math.isinf(value) else f"{value:.4g}".replace("-", "−")


_GREEK = {"alpha": "α", "beta": "β", "gamma": "γ", "sigma": "σ"}
_COLUMNS: Mapping[str, Callable[[Variant], str]] = MappingProxyType({
    "density": _density_cell,
    "kind": lambda variant: variant.kind,
    "mass": lambda variant: _number(variant.mass),
    "mean": lambda variant: _number(variant.mean),
    "std": lambda variant: _number(variant.std),
    "levels": _levels_cell,
    "source": lambda variant: variant.reference.text if variant.reference else "–",
})


def clipped_identity(quantiser: Quantiser, low: float, high: float) -> Variant:
    """The measure behind a linear quantiser's most popular surrogate: a straight line on [low, high], flat outside.

    The line rises from the lowest level to the highest. Two levels leave the interval free. With more, equally spaced,
    a finite measure exists if and only if the interval's length is a whole multiple n of (K − 1)·ε, where ε is the
    distance between thresholds; it is a comb of n boxes of width ε (a single box, the uniform noise, for n = 1).

    Args:
        quantiser: a quantiser with equal steps and equally spaced thresholds.
        low, high: the ends of the interval.

    Returns:
        A variant without reference, of mass 1.

    Raises:
        ValueError: an uneven quantiser, an empty interval, or one for which there is no finite measure.
    """
    low, high = real(low, "low"), real(high, "high")
    if high <= low:
        raise ValueError(f"high must be greater than low={low:g}, not {high:g}.")
    jumps, length = quantiser.n_levels - 1, high - low
    centre = (low + high) / 2 - float(quantiser.thresholds.mean())
    if jumps == 1:
        return Variant("clipped_identity", "uniform", lambda m: _place(centre=centre, scale=length / 2), quantiser)
    gaps = np.diff(quantiser.thresholds)
    if np.ptp(gaps) > 1e-9 * gaps.mean() or np.ptp(quantiser.steps) > 1e-9 * quantiser.steps.mean():
        raise ValueError(f"the quantiser must have equal steps and equally spaced thresholds, unlike {quantiser!r}.")
    spacing = float(gaps.mean())
    pieces = length / (jumps * spacing)
    if round(pieces) < 1 or not math.isclose(pieces, round(pieces), rel_tol=1e-9):
        raise ValueError(
            f"no finite measure makes the identity clipped to [{low:g}, {high:g}] out of these {quantiser.n_levels} "
            f"levels: its length must be a whole multiple of {jumps * spacing:g}, not {pieces:g} times it."
        )
    placement = _place(centre=centre, scale=spacing, pieces=round(pieces), spacing=jumps)
    return Variant("clipped_identity", "comb", lambda m: placement, quantiser)
