"""What a variant is: a law's density, moved, scaled and weighted; a quantiser; a source."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np

from anabook._arrays import elementwise
from anabook._validate import choice, generator, integer, real
from anabook.laws import FAMILIES, Law, bisected
from anabook.namespaces import NUMPY, sympy_namespace, teeth
from anabook.noise import Noise
from anabook.quantisers import Quantiser
from anabook.variants.measures import LAWS
from anabook.variants.references import REFERENCES

KINDS = ("probability", "finite", "signed", "infinite")
"""What a density can be the density of: a probability; a positive measure of another finite mass; a signed measure
(negative somewhere); a positive measure of infinite mass."""

GREEK = {"alpha": "α", "beta": "β", "gamma": "γ", "sigma": "σ"}


@dataclass(frozen=True)
class Parameter:
    """A variant's adjustable number: its default, and what else is allowed.

    Example:
        >>> from anabook.variants import VARIANTS
        >>> VARIANTS["fast_sigmoid"].parameters["k"].default
        25.0
    """

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


@dataclass(frozen=True)
class Placement:
    """How a variant's density comes from its law: f(x) = weight/scale · g((x − centre)/scale).

    Example:
        >>> from anabook.variants import Placement
        >>> Placement(weight=2, centre=0.5)
        Placement(weight=2, centre=0.5, scale=1, shape={})
    """

    weight: Any = 1
    centre: Any = 0
    scale: Any = 1
    shape: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reference:
    """Where a variant comes from: the key in the book's bibliography, and the same in words.

    Example:
        >>> from anabook.variants import VARIANTS
        >>> VARIANTS["fast_sigmoid"].reference.key
        'zenke2018superspike'
    """

    key: str
    text: str


@dataclass(frozen=True)
class Library:
    """Where a variant is implemented.

    Attributes:
        path: dotted name of the function or class.
        arguments: its arguments, each a number or the name of the variant's parameter to be passed.

    Example:
        >>> from anabook.variants import VARIANTS
        >>> VARIANTS["fast_sigmoid"].libraries[0].path
        'snntorch.surrogate.fast_sigmoid'
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
            >>> from anabook.variants import VARIANTS
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

        names = {
            symbol: rf"\mathrm{{{name}}}" for name, symbol in self.symbols().items() if len(name) > 1 and name not in GREEK
        }
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
        return self.place(NUMPY, **self.settings)

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
        if self.natural.lower_quantile is not None and self.scaling * self._placement.weight == 1:
            with np.errstate(divide="ignore", over="ignore"):  # the ends of unbounded laws, and what is near them
                return self._placement.centre + self._placement.scale * self.natural.icdf(u)
        upper = (u > 0.5) & self.natural.symmetric
        x = bisected(self.cdf, np.where(upper, 1 - u, u), self._placement.centre, self._placement.scale)
        return np.clip(np.where(upper, 2 * self._placement.centre - x, x), *self.support)

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
    return SimpleNamespace(
        **{
            **vars(m),
            "inside": inside,
            "on_teeth": on_teeth,
            "ramp": lambda t: sp.Max(t, 0),
            "bump": lambda t: m.expit(t) * m.expit(-t),
        }
    )


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
