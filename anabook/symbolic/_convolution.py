"""The four families, and the convolution of a quantiser with a density (paper, Proposition 1 (i))."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import sympy as sp

from anabook._validate import choice
from anabook.laws import FAMILIES, Law
from anabook.namespaces import sympy_namespace
from anabook.noise import Noise
from anabook.quantisers import Quantiser
from anabook.symbolic._bounded import allowance
from anabook.symbolic._density import Density
from anabook.symbolic._density_noise import DensityLaw
from anabook.symbolic._expressions import exact_constant, shortest, simplified
from anabook.symbolic._symbols import alpha, beta, x

_STEPS = 1_200_000  # what SymPy may take to make the branches of one result short


@cache
def family(name: str | Law) -> Density:
    """A law as a density: one of the four noise families, of mean 0 and standard deviation 1, or a `Law` of one's own.

    Args:
        name: "uniform", "triangular", "normal" or "logistic", or a `Law`; `.located()` brings in `alpha` and `beta`.
    """
    law = name if isinstance(name, Law) else FAMILIES[choice(name, FAMILIES, "family")]
    if isinstance(law, DensityLaw):
        return law.exact
    m = sympy_namespace()
    formula = law.bound(**{name: sp.nsimplify(value) for name, value in law.shape})
    density = Density(formula.pdf(x, m), x, tuple(sp.nsimplify(end) for end in law.bounds(m)))
    # That a law is standardised is not computed again: SymPy leaves the logistic law's second moment an integral. The
    # tests compute all moments.
    if (law.origin, law.unit, law.get("std")) == (0, 1, 1):
        density._set(mean=sp.Integer(0), std=sp.Integer(1))
    return density


def regularise(quantiser: Any, law: Any, mean: Any = None, std: Any = None) -> sp.Expr:
    """E[σ(x − ν)] as an exact expression in `x`: the convolution of a quantiser with a noise (Proposition 1 (i)).

    The expectation is q_0 + Σ_k Δ_k ∫_{−∞}^{x − θ_k} f(t) dt, with the integrals found by SymPy. Where the
    order of all breakpoints is known (numbers, or one threshold) the result is a single Piecewise, else
    a sum of one Piecewise for each threshold. Floats are read as the simplest fraction that they stand for.

    Args:
        quantiser: a `Quantiser`, or a pair (levels, thresholds) of numbers or expressions.
        law: a family's name, a `Noise`, a `Density`, a variant of the zoo that is a probability, or a `Law`.
        mean: α for a family or a density; by default `alpha` for a family, the density's own otherwise.
        std: β likewise, by default `beta`; 0 gives the shifted quantiser.

    Example:
        >>> regularise(Quantiser.heaviside(), "uniform", mean=0, std=1 / (2 * sp.sqrt(3)))
        Piecewise((0, x < -1/2), (x + 1/2, x < 1/2), (1, True))
    """
    levels, thresholds = exact_stair(quantiser)
    law, shift = _law(law, mean, std)
    if law is None:
        return _stair_expression(levels, tuple(threshold + shift for threshold in thresholds))
    with allowance(_STEPS):
        return _convolution(levels, thresholds, law)


def derivative(quantiser: Any, law: Any, mean: Any = None, std: Any = None) -> sp.Expr:
    """d/dx E[σ(x − ν)]: `regularise`'s result differentiated, branch by branch.

    At a breakpoint it is the right-hand derivative, which is the derivative wherever there is one.

    Args:
        quantiser, law, mean, std: as for `regularise`.

    Example:
        >>> derivative(Quantiser.heaviside(), "uniform", mean=0, std=1)
        Piecewise((0, x < -sqrt(3)), (sqrt(3)/6, x < sqrt(3)), (0, True))
    """
    expression = regularise(quantiser, law, mean, std)
    slope = sp.diff(expression, x)
    symbols = slope.free_symbols
    with allowance(_STEPS):
        return slope.replace(
            lambda e: isinstance(e, sp.Piecewise),
            lambda e: sp.Piecewise(*((shortest(value) if symbols <= {x} else value, c) for value, c in e.args)),
        )


@lru_cache(maxsize=256)
def _convolution(levels: tuple[sp.Expr, ...], thresholds: tuple[sp.Expr, ...], law: Density) -> sp.Expr:
    ends = [threshold + edge for threshold in thresholds for edge, _, _ in law._edges()]
    single = _sorted_exactly(ends)
    steps = [high - low for low, high in zip(levels, levels[1:])]
    if not ends or single is None:
        terms = (step * law._spread("cdf", 0, 1, threshold) for step, threshold in zip(steps, thresholds))
        return sp.Add(levels[0], *terms)
    branches: list[tuple[sp.Expr, Any]] = []
    for high in [*single, sp.oo]:
        terms = (step * _cdf_below(law, high, threshold) for step, threshold in zip(steps, thresholds))
        value = shortest(sp.Add(levels[0], *terms))
        if branches and value == branches[-1][0]:
            branches.pop()
        branches.append((value, x < high if high != sp.oo else True))
    return sp.Piecewise(*branches)


def _cdf_below(law: Density, high: sp.Expr, threshold: sp.Expr) -> sp.Expr:
    """F(x − θ) for x between the breakpoint `high` and the one before it."""
    if high != sp.oo and law.support[0] != -sp.oo and not (high - law.support[0] - threshold).is_extended_positive:
        return sp.Integer(0)
    for piece in law._pieces:
        if piece.hi == sp.oo or (high != sp.oo and not (high - piece.hi - threshold).is_extended_positive):
            return piece.cdf.subs(x, x - threshold)
    return sp.Integer(1)


def _sorted_exactly(values: list[sp.Expr]) -> list[sp.Expr] | None:
    """The values in order and without repetitions, or None if SymPy cannot decide the order."""
    ordered: list[sp.Expr] = []
    for value in values:
        differences = [simplified(value - other) for other in ordered]
        if any(d.is_zero for d in differences):
            continue
        if not all(d.is_positive or d.is_negative for d in differences):
            return None
        ordered.insert(sum(bool(d.is_positive) for d in differences), value)
    return ordered


def _stair_expression(levels: tuple[sp.Expr, ...], thresholds: tuple[sp.Expr, ...]) -> sp.Expr:
    return sp.Piecewise(*((level, x < end) for level, end in zip(levels, thresholds)), (levels[-1], True))


def exact_stair(quantiser: Any) -> tuple[tuple[sp.Expr, ...], tuple[sp.Expr, ...]]:
    """Exact levels and thresholds."""
    if isinstance(quantiser, Quantiser):
        levels, thresholds = quantiser.levels.tolist(), quantiser.thresholds.tolist()
    else:
        try:
            levels, thresholds = map(list, quantiser)
        except (TypeError, ValueError):
            message = f"quantiser must be a Quantiser or a pair (levels, thresholds), not {quantiser!r}."
            raise TypeError(message) from None
        if len(levels) < 2 or len(thresholds) != len(levels) - 1:
            raise ValueError(
                f"{len(levels)} levels need {len(levels) - 1} thresholds (and at least 2 levels), "
                f"not {len(thresholds)} thresholds."
            )
    levels, thresholds = (
        tuple(exact_constant(v, name) for v in values) for values, name in ((levels, "levels"), (thresholds, "thresholds"))
    )
    for values, name in ((levels, "levels"), (thresholds, "thresholds")):
        for low, high in zip(values, values[1:]):
            if simplified(high - low).is_positive is False:
                raise ValueError(f"{name} must be strictly increasing, but {low} is followed by {high}.")
    return levels, thresholds


def _law(law: Any, mean: Any, std: Any) -> tuple[Density | None, sp.Expr]:
    """The density of a noise given in any of the allowed ways, or None for a Dirac; and the mean."""
    if isinstance(law, Noise):
        if mean is not None or std is not None:
            raise ValueError("a Noise has its mean and std already; give them for a family's name or a Density.")
        own = getattr(law.law, "exact", None)
        if own is not None and not law.law.is_movable:
            return own, sp.Integer(0)
        law, mean, std = own or law.law, law.mean, law.std
    if hasattr(law, "as_density"):
        law = law.as_density()
    if isinstance(law, Density):
        if mean is None and std is None:
            return law, sp.Integer(0)
        density, default = law, (law.mean, law.std)
    elif isinstance(law, (str, Law)):
        density, default = family(law), (alpha, beta)
    else:
        raise TypeError(f"law must be a family's name, a Noise or a Density, not {law!r}.")
    mean = default[0] if mean is None else exact_constant(mean, "mean")
    std = default[1] if std is None else exact_constant(std, "std")
    if std == 0:
        return None, mean
    return density.located(mean, std), mean
