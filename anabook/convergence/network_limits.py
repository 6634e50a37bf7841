"""Where a regularised network goes as λ → 0: computed where the noise is bounded, else judged from far down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import mpmath
import numpy as np

from anabook._validate import choice, integer, real
from anabook.convergence.exact_arithmetic import DOUBLE
from anabook.convergence.exact_stairs import rationals
from anabook.convergence.formulas import listed
from anabook.convergence.layer_noises import by_layer, noises_at, pair_of
from anabook.convergence.power_sums import PowerSum, edge_step, from_sympy
from anabook.convergence.quantised_networks import Network, exact_input, subset
from anabook.convergence.tails import BOUNDED, family_of, half_width, law_of
from anabook.namespaces import sympy_namespace
from anabook.quantisers import Quantiser

RIGHT, WRONG, UNDECIDED = "right", "wrong", "undecided"
_NOTHING = 1e-6  # what is smaller than this part of the tolerance may be rounding, which need not fall
FLOAT_LAMBDAS = (1e-4, 1e-5, 1e-6)
FAR_LAMBDAS = tuple(mpmath.mpf(f"1e-{exponent}") for exponent in (100, 1000, 10000))
NEAR_LAMBDAS = tuple(mpmath.mpf(f"1e-{exponent}") for exponent in (10, 20, 40))


def exact_limit(network: Network, x: Any, families: Any, schedules: Sequence[Any]) -> list[float]:
    """The limit of a regularised network's outputs as λ → 0, computed and not estimated.

    For bounded noise only. Near λ = 0 every value in the network is a finite sum of powers of λ, and all
    comparisons are decided by leading coefficients (see `anabook.convergence.power_sums`).

    Args:
        network: a single network, without weight quantisers.
        x: its input.
        families: "uniform" or "triangular", or one of them a layer.
        schedules: pairs of SymPy expressions or numbers: finite sums of powers of λ, the std a single one or 0.

    Returns:
        One limit for each output.

    Raises:
        ValueError: another family, a batch of networks, quantised weights, or schedules of another form.

    Example:
        >>> from anabook.convergence import Network, power_law
        >>> net = Network(weights=[[[1]], [[1]]], biases=[[0], [-1]])
        >>> exact_limit(net, [0], "uniform", [power_law(2, 2), power_law(1, 1)])
        [0.0]
    """
    return [value.limit() for value in _exact_outputs(network, x, families, schedules)]


def _exact_outputs(network: Network, x: Any, families: Any, schedules: Sequence[Any]) -> list[PowerSum]:
    """The outputs near λ = 0."""
    _checked(network)
    if len(network.layers[0].weights.shape) != 2 or any(layer.weight_quantiser for layer in network.layers):
        raise ValueError("exact limits are for a single network whose weights are given, not quantised.")
    noises = _noises_as_sums(families, schedules)
    if len(noises) != network.n_noisy:
        raise ValueError(f"the network has {network.n_noisy} quantised layers, but {len(noises)} schedules are given.")
    values = [PowerSum.of(v) for v in exact_input(network, x).fractions()]
    for i, layer in enumerate(network.layers):
        rows = zip(layer.weights.fractions(), layer.biases.fractions())
        values = [sum((v * PowerSum.of(w) for w, v in zip(row, values) if w), PowerSum.of(b)) for row, b in rows]
        if layer.quantiser is not None:
            values = _exact_layer(layer.quantiser, values, *noises[i])
    return values


def _noises_as_sums(families: Any, schedules: Sequence[Any]) -> list[tuple[str, PowerSum, PowerSum]]:
    """Family, mean and half-width of each layer, exactly."""
    families, schedules = by_layer(families, schedules)
    noises = []
    for i, (family, pair) in enumerate(zip(families, schedules)):
        mean, std = from_sympy(pair_of(i, pair)[0]), from_sympy(pair_of(i, pair)[1])
        family = family_of(family, "the family", gone=not std.terms)
        if not isinstance(family, str):
            raise ValueError(f"exact limits are computed for {' and '.join(BOUNDED)} noise only, not for {family!r}.")
        choice(family, BOUNDED, "the family")
        if len(std.terms) > 1 or std.sign() < 0:
            raise ValueError(f"the std of layer {i} must be a single positive power of lambda or 0, not {pair[1]}.")
        noises.append((family, mean, std.times_root(half_width(family, sympy_namespace()) ** 2)))
    return noises


def _exact_layer(
    quantiser: Quantiser, values: list[PowerSum], family: str, mean: PowerSum, half_width: PowerSum
) -> list[PowerSum]:
    levels, thresholds = rationals(quantiser)
    jumps = [(PowerSum.of(high - low), PowerSum.of(t)) for low, high, t in zip(levels, levels[1:], thresholds)]

    def rise(offset: PowerSum) -> PowerSum:
        if not half_width.terms:
            return PowerSum.of(int(offset.sign() >= 0))
        return edge_step(law_of(family).upper_tail().order, offset.over(half_width))

    return [sum((rise(value - t - mean) * size for size, t in jumps), PowerSum.of(levels[0])) for value in values]


def _checked(network: Any) -> None:
    if not isinstance(network, Network):
        raise TypeError(f"network must be a Network, not {network!r}.")


@dataclass(frozen=True)
class Limit:
    """Where regularised networks go as λ → 0.

    Attributes:
        verdicts: "right", "wrong" or "undecided" for each network of the batch (shape () for a single one).
        lambdas: the λ that decided; (0,) if the limit was computed exactly.
        deviations: for each of these λ the outputs' deviations from the quantised network's, shape
            (len(lambdas), …, outputs).
    """

    verdicts: np.ndarray
    lambdas: tuple[Any, ...] = field(repr=False)  # numbers whose exponents may fill pages
    deviations: np.ndarray = field(repr=False)

    @property
    def exact(self) -> bool:
        """Whether the limit was computed, not judged from a sequence."""
        return self.lambdas == (0,)

    @property
    def verdict(self) -> str:
        """The verdict on a single network."""
        return str(self.verdicts[()]) if self.verdicts.shape == () else ", ".join(sorted(set(self.verdicts.flat)))


def limit(
    network: Network,
    x: Any,
    families: Any,
    schedules: Sequence[Any],
    lambdas: Sequence[Any] | None = None,
    digits: int | None = None,
    tolerance: float = 0.01,
) -> Limit:
    """Decide whether the regularised network tends to the quantised one.

    *Exactly*, by `exact_limit`, for bounded noise whose mean and std are sums of powers of λ (and given weights).

    Otherwise from a sequence of λ. A deviation is "right" if it is within the tolerance and at least halved by the last
    step, or below a millionth of the tolerance; "wrong" if it is neither and has settled, changing by less than a tenth
    of itself in the last step; otherwise undecided. This is evidence, not proof, but evidence from far down: by default
    λ is 10⁻¹⁰⁰, 10⁻¹⁰⁰⁰ and 10⁻¹⁰⁰⁰⁰, where a power of λ is negligible beside any weight and the logarithm grows
    tenfold at each step. Schedules given as functions, whose formulas are out of sight, are judged down to 10⁻⁴⁰ in
    more digits.

    Args:
        network: one network or a batch.
        x: its inputs.
        families, schedules: as for `noises_at`.
        lambdas: at least two decreasing λ, to judge from these.
        digits: decimal digits; 60 by default, or 460 for schedules given as functions. 0 means doubles.
        tolerance: in units of the output.

    Example:
        >>> from anabook.convergence import Network, power_law
        >>> net = Network(weights=[[[1]], [[1]]], biases=[[0], [-1]])
        >>> limit(net, [0], "uniform", [power_law(2, 2), power_law(1, 1)]).verdicts
        array('wrong', dtype='<U5')
    """
    _checked(network)
    tolerance = real(tolerance, "tolerance", above=0.0)
    if digits is not None:
        integer(digits, "digits", minimum=0)
    families, schedules = by_layer(families, schedules)
    schedules = [pair_of(i, pair) for i, pair in enumerate(schedules)]
    if lambdas is None:
        found = _limit_if_exact(network, x, families, schedules)
        if found is not None:
            return found
    formulas = not any(callable(part) and not hasattr(part, "free_symbols") for pair in schedules for part in pair)
    if lambdas is None:
        lambdas = FAR_LAMBDAS if formulas else NEAR_LAMBDAS
    lambdas = tuple(listed(lambdas, "lambdas must be at least two decreasing numbers"))
    if len(lambdas) < 2 or any(not low < high for high, low in zip(lambdas, lambdas[1:])):
        raise ValueError(f"lambdas must hold at least two decreasing values, not {lambdas!r}.")
    if digits is None:
        digits = 60 if formulas else 460
    deviations = [
        network.regularised(x, noises_at(families, schedules, lam, digits or None), digits=digits or None).deviation
        for lam in lambdas
    ]
    return Limit(judge(deviations, tolerance), lambdas, np.stack(deviations))


def _limit_if_exact(network: Network, x: Any, families: Any, schedules: Sequence[Any]) -> Limit | None:
    """The exact limits of a network or of each network of a batch, or None where there is no exact method."""
    try:
        _noises_as_sums(families, schedules)
    except (TypeError, ValueError):
        return None
    if any(layer.weight_quantiser for layer in network.layers):
        return None
    x = exact_input(network, x)
    many = network.trace(x).outputs[-1].numbers(DOUBLE).shape
    deviations = np.empty((1, *many))
    for index in np.ndindex(*many[:-1]):
        single = subset(network, index) if len(network.layers[0].weights.shape) > 2 else network
        point = x[index] if len(x.shape) > 1 else x
        right = (PowerSum.of(v) for v in single.trace(point).outputs[-1].fractions())
        # The difference first and then the limit: a float beside 1 has no room for 10^−30.
        pairs = zip(_exact_outputs(single, point, families, schedules), right)
        deviations[(0, *index)] = [(value - exact).limit() for value, exact in pairs]
    return Limit(np.where((deviations[0] != 0).any(axis=-1), WRONG, RIGHT), (0,), deviations)


def judge(deviations: list[np.ndarray], tolerance: float) -> np.ndarray:
    last, before = np.abs(deviations[-1]), np.abs(deviations[-2])
    change = np.abs(deviations[-1] - deviations[-2])
    nothing = (last <= tolerance * _NOTHING).astype(bool)
    right = nothing | ((last <= tolerance) & (last <= before / 2)).astype(bool)
    wrong = ~nothing & (change <= last / 10).astype(bool)
    return np.where(wrong.any(axis=-1), WRONG, np.where(right.all(axis=-1), RIGHT, UNDECIDED))
