"""Networks of quantised layers, their regularisations, and what becomes of these as the noise vanishes.

The quantised network composes affine maps and stair functions (paper, eq. (7)); the regularised one replaces each stair
function by its expectation under that layer's noise (eq. (8)). Layers are counted from 0 at the input.

Two habits make the answers trustworthy. Quantised values are exact rationals, so "on the threshold" is decided, not
estimated. A regularised value is an exact level plus a small signed residual, so 1 − 10⁻²⁰⁰ and 10⁻³⁹ keep their
digits.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import mpmath
import numpy as np
from scipy import special

from anabook._validate import choice, generator, integer, real
from anabook.convergence._exact import DOUBLE, PRECISE, Backend, Exact, edge_tail
from anabook.convergence._germs import Germ, from_sympy, step
from anabook.noise import FAMILIES, Noise
from anabook.quantisers import Quantiser

__all__ = [
    "FLOOR_TERNARY", "HEAVISIDE", "NAMES", "NETWORK_A", "TERNARY_ANALOGUE", "ZERO_MEAN", "THREE_LAYERS", "GENERIC",
    "WEIGHT_ON_THRESHOLD", "Example", "Layer", "LayerNoise", "Limit", "Network", "Regularised", "Share", "Trace",
    "Witness", "chain", "clopper_pearson", "exact_limit", "hit_probability", "limit", "named", "noises_at", "random_ternary",
    "ternary_sum_counts", "wilson", "witness", "worst_case", "wrong_share",
]

HEAVISIDE = Quantiser.heaviside()
FLOOR_TERNARY = Quantiser(levels=[-1, 0, 1], thresholds=[0, 1])


# Network maps


@dataclass(frozen=True)
class Layer:
    """One layer x ↦ σ(W x + b).

    Attributes:
        weights: W, exact, shape (…, outputs, inputs); the latent weights if `weight_quantiser` is set.
        biases: b, exact, shape (…, outputs).
        quantiser: σ, or None for an affine last layer.
        weight_quantiser: what turns latent weights into weights, or None.
    """

    weights: Exact
    biases: Exact
    quantiser: Quantiser | None
    weight_quantiser: Quantiser | None = None


@dataclass(frozen=True)
class Trace:
    """What a quantised network computes, layer by layer and exactly.

    Attributes:
        preactivations: s = W x + b of each layer.
        outputs: σ(s) of each layer.
    """

    preactivations: tuple[Exact, ...]
    outputs: tuple[Exact, ...]


@dataclass(frozen=True)
class Regularised:
    """What a regularised network computes at one noise level.

    Attributes:
        values: each layer's outputs.
        deviations: each layer's outputs minus the quantised network's, computed without that subtraction.
    """

    values: tuple[np.ndarray, ...]
    deviations: tuple[np.ndarray, ...]

    @property
    def output(self) -> np.ndarray:
        """The last layer's values."""
        return self.values[-1]

    @property
    def deviation(self) -> np.ndarray:
        """The last layer's deviations."""
        return self.deviations[-1]


class Network:
    """A network of quantised layers, x ↦ σ_m(W_m … σ_1(W_1 x + b_1) … + b_m) (paper, eq. (7)).

    Args:
        weights: one matrix a layer, outputs × inputs. Leading axes, if any, make a batch of networks.
        biases: one vector a layer, as long as the layer has outputs; None for zeros.
        quantisers: one Quantiser a layer, or one for all. None in the last place leaves the last layer affine.
        weight_quantisers: None, or one Quantiser (or None) a layer: then `weights` are latent and quantised too.

    All numbers are integers, Fractions or floats; floats stand for their exact binary values.

    Raises:
        ValueError: no layers, shapes that do not fit, a wrong number of biases or quantisers.
        TypeError: entries that are not numbers, quantisers that are not Quantisers.

    Example:
        >>> net = Network(weights=[[[1]], [[1]]], biases=[[0], [-1]])
        >>> net([0])
        array([1.])
    """

    def __init__(
        self,
        weights: Sequence[Any],
        biases: Sequence[Any] | None = None,
        quantisers: Quantiser | Sequence[Quantiser | None] = HEAVISIDE,
        weight_quantisers: Sequence[Quantiser | None] | None = None,
    ) -> None:
        n = len(weights)
        if n == 0:
            raise ValueError("a network needs at least one layer; weights is empty.")
        quantisers = [quantisers] * n if isinstance(quantisers, Quantiser) else list(quantisers)
        weight_quantisers = [None] * n if weight_quantisers is None else list(weight_quantisers)
        biases = [None] * n if biases is None else list(biases)
        for given, what in ((biases, "biases"), (quantisers, "quantisers"), (weight_quantisers, "weight_quantisers")):
            if len(given) != n:
                raise ValueError(f"{n} weight matrices need {n} {what}, one a layer, not {len(given)}.")
        layers: list[Layer] = []
        for i, parts in enumerate(zip(weights, biases, quantisers, weight_quantisers)):
            inputs = layers[-1].weights.shape[-2] if layers else None
            layers.append(_layer(i, inputs, i == n - 1, *parts))
        self._layers = tuple(layers)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, from the input on."""
        return self._layers

    @property
    def n_layers(self) -> int:
        """How many layers there are."""
        return len(self._layers)

    @property
    def n_noisy(self) -> int:
        """How many layers have a quantiser, hence a noise."""
        return sum(layer.quantiser is not None for layer in self._layers)

    @property
    def widths(self) -> tuple[int, ...]:
        """The number of inputs, then of outputs of each layer."""
        return (self._layers[0].weights.shape[-1], *(layer.weights.shape[-2] for layer in self._layers))

    def __call__(self, x: Any) -> np.ndarray:
        """The quantised output at x, as floats.

        Args:
            x: shape (…, inputs); leading axes broadcast against the batch of networks.
        """
        return self.trace(x).outputs[-1].numbers(DOUBLE)

    def trace(self, x: Any) -> Trace:
        """The exact pre-activations and outputs of every layer of the quantised network."""
        x = self._input(x)
        preactivations, outputs = [], []
        for layer in self._layers:
            s = _quantised_weights(layer).apply(x) + layer.biases
            x = s if layer.quantiser is None else _stairs(layer.quantiser, s)
            preactivations.append(s)
            outputs.append(x)
        return Trace(tuple(preactivations), tuple(outputs))

    def hits(self, x: Any) -> tuple[np.ndarray, ...]:
        """For each quantised layer, which units' pre-activations lie exactly on a threshold."""
        return tuple((offsets.sign() == 0).any(axis=-1) for offsets in self._offsets(x))

    def margin(self, x: Any) -> Fraction:
        """The smallest distance of any pre-activation from any threshold of its layer, exactly."""
        return min(offsets.smallest() for offsets in self._offsets(x))

    def regularised(
        self,
        x: Any,
        noises: Sequence[Any],
        weight_noises: Sequence[Any] | None = None,
        digits: int | None = None,
    ) -> Regularised:
        """The regularised network at x (paper, eq. (8)): E[σ_ℓ(s − ν_ℓ)] in place of σ_ℓ(s), layer after layer.

        Args:
            x: shape (…, inputs), exact numbers.
            noises: one for each layer with a quantiser: a `Noise` or a triple (family, mean, std).
            weight_noises: noises of the weight quantisers, one a layer with a quantiser; by default each layer's own.
            digits: None for doubles, or the number of decimal digits to compute with (then mpmath numbers come back).

        Returns:
            values and deviations of every layer, arrays of shape (…, outputs).

        Raises:
            ValueError: a layer without noise, a noise too many, a negative std.
        """
        noises = _layer_noises(noises, self.n_noisy)
        weight_noises = noises if weight_noises is None else _layer_noises(weight_noises, self.n_noisy)
        if digits is None:
            return self._regularised(x, noises, weight_noises, DOUBLE)
        with mpmath.workdps(integer(digits, "digits", minimum=15)):
            return self._regularised(x, noises, weight_noises, PRECISE)

    def heaviside_form(self) -> Network:
        """The same map with Heaviside units only, plus an affine last layer.

        A unit with K levels is q_0 + Σ_k Δ_k H(s − θ_k): K − 1 Heaviside units with its row of weights
        and biases b − θ_k, read by the next layer with the weights Δ_k. Rates and conditions carry over.
        """
        if any(layer.weight_quantiser is not None for layer in self._layers):
            raise ValueError("the Heaviside form is for given weights, and this network quantises its weights.")
        if len(self._layers[0].weights.shape) != 2:
            raise ValueError("the Heaviside form is for one network, not for a batch.")
        weights, biases, quantisers = [], [], []
        spread, base = np.eye(self.widths[0], dtype=object) * Fraction(1), np.full(self.widths[0], Fraction(0))
        for layer in self._layers:
            w = np.array(layer.weights.fractions(), dtype=object).reshape(layer.weights.shape)
            b = np.array(layer.biases.fractions(), dtype=object) + w @ base
            w = w @ spread
            if layer.quantiser is None:
                return Network([*weights, w], [*biases, b], [*quantisers, None])
            levels, thresholds = _rationals(layer.quantiser)
            weights.append(np.repeat(w, len(thresholds), axis=0))
            biases.append(np.concatenate([[v - t for t in thresholds] for v in b]))
            quantisers.append(HEAVISIDE)
            steps = [high - low for low, high in zip(levels, levels[1:])]
            spread = np.kron(np.eye(len(b), dtype=object) * Fraction(1), np.array([steps], dtype=object))
            base = np.full(len(b), levels[0])
        return Network([*weights, spread], [*biases, base], [*quantisers, None])

    def _input(self, x: Any) -> Exact:
        exact = Exact.of(x, "the input")
        if not exact.shape or exact.shape[-1] != self.widths[0]:
            raise ValueError(f"the input has shape {exact.shape}, but the network takes {self.widths[0]} "
                             f"input{'s' * (self.widths[0] > 1)}, so its last axis must be {self.widths[0]}.")
        return exact

    def _offsets(self, x: Any) -> Iterator[Exact]:
        for layer, s in zip(self._layers, self.trace(x).preactivations):
            if layer.quantiser is not None:
                yield _offsets(s, layer.quantiser)

    def _regularised(
        self, x: Any, noises: list[LayerNoise], weight_noises: list[LayerNoise], of: Backend
    ) -> Regularised:
        x = self._input(x)
        residual = x.numbers(of) * 0
        values, deviations = [], []
        for i, (layer, exact) in enumerate(zip(self._layers, self.trace(x).outputs)):
            w, w_residual = layer.weights, None
            if layer.weight_quantiser is not None:
                w, w_residual = _expect(layer.weight_quantiser, w, w.numbers(of) * 0, weight_noises[i], of)
            s = w.apply(x) + layer.biases
            shift = _product(w.numbers(of), residual)
            if w_residual is not None:
                shift = shift + _product(w_residual, x.numbers(of) + residual)
            x, residual = (s, shift) if layer.quantiser is None else _expect(layer.quantiser, s, shift, noises[i], of)
            values.append(x.numbers(of) + residual)
            deviations.append((x - exact).numbers(of) + residual)
        return Regularised(tuple(values), tuple(deviations))


def _layer(
    i: int, inputs: int | None, last: bool, weights: Any, biases: Any, quantiser: Any, weight_quantiser: Any
) -> Layer:
    w = Exact.of(weights, f"the weights of layer {i}")
    if len(w.shape) < 2:
        raise ValueError(f"layer {i} has weights of shape {w.shape}; a matrix (outputs, inputs) is needed.")
    if inputs is not None and w.shape[-1] != inputs:
        raise ValueError(f"layer {i} has weights of shape {w.shape}, but layer {i - 1} gives {inputs} "
                         f"output{'s' * (inputs > 1)}, so their last axis must be {inputs}.")
    b = Exact.of([0] * w.shape[-2] if biases is None else biases, f"the biases of layer {i}")
    if not b.shape or b.shape[-1] != w.shape[-2]:
        raise ValueError(f"layer {i} has biases of shape {b.shape}, but weights of shape {w.shape}, "
                         f"so there must be {w.shape[-2]}.")
    if not isinstance(quantiser, Quantiser) and not (quantiser is None and last):
        raise TypeError(f"the quantiser of layer {i} must be a Quantiser"
                        f"{' or None' if last else ' (only the last layer may have None)'}, not {quantiser!r}.")
    if weight_quantiser is not None and not isinstance(weight_quantiser, Quantiser):
        raise TypeError(f"the weight quantiser of layer {i} must be a Quantiser or None, not {weight_quantiser!r}.")
    if weight_quantiser is not None and quantiser is None:
        raise ValueError(f"layer {i} quantises its weights but not its outputs, so it has no noise for them.")
    return Layer(w, b, quantiser, weight_quantiser)


def _rationals(quantiser: Quantiser) -> tuple[list[Fraction], list[Fraction]]:
    return [Fraction(v) for v in quantiser.levels.tolist()], [Fraction(v) for v in quantiser.thresholds.tolist()]


def _offsets(s: Exact, quantiser: Quantiser) -> Exact:
    """s − θ_k, exactly, with a last axis for k."""
    return s[..., np.newaxis] - Exact.of(quantiser.thresholds, "thresholds")


def _climb(quantiser: Quantiser, twice: np.ndarray) -> Exact:
    """q_0 + Σ_k Δ_k a_k for a_k in {0, ½, 1}, given as 2 a_k in a last axis."""
    levels = Exact.of(quantiser.levels, "levels")
    steps = np.diff(levels.numerators)
    return Exact(2 * levels.numerators[0] + (twice * steps).sum(axis=-1), 2 * levels.denominator)


def _stairs(quantiser: Quantiser, s: Exact) -> Exact:
    return _climb(quantiser, 2 * (_offsets(s, quantiser).sign() >= 0))


def _quantised_weights(layer: Layer) -> Exact:
    return layer.weights if layer.weight_quantiser is None else _stairs(layer.weight_quantiser, layer.weights)


def _product(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    return np.matmul(matrix, vector[..., np.newaxis])[..., 0]


class LayerNoise(NamedTuple):
    """One layer's noise at one λ: family, mean α, standard deviation β and the ends of the support.

    The ends stand apart from α ∓ h because, where they nearly meet 0, a difference of rounded numbers
    would not say how nearly. They are infinite for unbounded families, and both α where β = 0.
    """

    family: str
    mean: Any
    std: Any
    lower: Any
    upper: Any


def _expect(
    quantiser: Quantiser, s: Exact, shift: np.ndarray, noise: LayerNoise, of: Backend
) -> tuple[Exact, np.ndarray]:
    """E[σ(s + shift − ν)] as an exact anchor and a residual.

    Each jump contributes Δ_k F0(t_k). F0 is written as 0, ½ or 1 plus what is missing, whichever is nearest:
    the levels keep tiny tails, and the halves keep what zero-mean noise makes of a threshold hit exactly.
    """
    mean, std = of.number(noise.mean), of.number(noise.std)
    offset = _offsets(s, quantiser).numbers(of) + shift[..., np.newaxis]
    if std == 0:
        twice, missing = 2 * (offset >= mean).astype(int), offset * 0
    else:
        above = (offset > mean).astype(bool)
        with np.errstate(over="ignore"):
            t = (offset - mean) / std
            tail = _tail(noise, offset, above, t, of)
        near = (tail > 0.25).astype(bool)
        twice = np.where(near, 1, 2 * above)
        missing = np.where(near, of.centre(noise.family, np.where(near, t, 0)), np.where(above, -tail, tail))
    steps = np.diff(Exact.of(quantiser.levels, "levels").numbers(of))
    return _climb(quantiser, twice), (missing * steps).sum(axis=-1)


def _tail(noise: LayerNoise, offset: np.ndarray, above: np.ndarray, t: np.ndarray, of: Backend) -> np.ndarray:
    """T0(|t|): the probability that the noise puts an offset on the other side of its threshold, or half of ties."""
    if not math.isfinite(FAMILIES[noise.family].half_width):
        return of.unbounded_tail(noise.family, np.abs(t))
    half_width = of.number(_half_width(noise.family, of.number(noise.std)))
    # np.subtract, since mpf − array makes mpmath print the array before NumPy gets to see it.
    below_upper, above_lower = np.subtract(of.number(noise.upper), offset), offset - of.number(noise.lower)
    from_edge = np.where(above, below_upper, above_lower) / half_width
    from_mean = 1 - np.abs(t) * (of.number(noise.std) / half_width)
    return edge_tail(noise.family, np.clip(np.where(from_mean > 0.5, from_mean, from_edge), 0, 1))


def _layer_noises(noises: Sequence[Any], needed: int) -> list[LayerNoise]:
    noises = list(noises)
    if len(noises) != needed:
        missing = f" (layer {len(noises)} has none)" if len(noises) < needed else ""
        raise ValueError(f"the network has {needed} quantised layer{'s' * (needed > 1)}, "
                         f"so it needs {needed} noise{'s' * (needed > 1)}, not {len(noises)}{missing}.")
    return [_layer_noise(i, noise) for i, noise in enumerate(noises)]


def _layer_noise(i: int, noise: Any) -> LayerNoise:
    if isinstance(noise, LayerNoise):
        return noise
    if isinstance(noise, Noise):
        return LayerNoise(noise.family, noise.mean, noise.std, *noise.support)
    try:
        family, mean, std = noise
    except (TypeError, ValueError):
        raise TypeError(f"the noise of layer {i} must be a Noise or (family, mean, std), not {noise!r}.") from None
    family = _checked(i, family, std)
    half_width = _half_width(family, std)
    return LayerNoise(family, mean, std, mean - half_width, mean + half_width)


def _checked(i: int, family: Any, std: Any) -> str:
    if not std >= 0:
        raise ValueError(f"the std of layer {i} must be at least 0, not {float(std):g}.")
    if family == "dirac" and std == 0:  # what a verdict calls a layer whose noise is gone
        return "uniform"
    return choice(family, FAMILIES, f"the family of layer {i}")


def _half_width(family: str, std: Any) -> Any:
    if std == 0:
        return 0
    if isinstance(std, mpmath.mpf) and math.isfinite(FAMILIES[family].half_width):
        return std * mpmath.sqrt(_HALF_WIDTH_SQUARED[family])
    return FAMILIES[family].half_width * std


_HALF_WIDTH_SQUARED = {"uniform": 3, "triangular": 6}
BOUNDED = tuple(_HALF_WIDTH_SQUARED)


# Noise as a function of λ


def noises_at(families: Any, schedules: Sequence[Any], lam: Any, digits: int | None = None) -> list[LayerNoise]:
    """The noise of every layer at one λ, for `Network.regularised`.

    Args:
        families: a family's name, or one name a layer.
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
    """
    schedules = list(schedules)
    families = [families] * len(schedules) if isinstance(families, str) else list(families)
    if len(families) != len(schedules):
        raise ValueError(f"{len(schedules)} schedules need {len(schedules)} families, not {len(families)}.")
    if not lam > 0:
        raise ValueError(f"lambda must be positive, not {lam!r}.")
    with mpmath.workdps(digits or 50):
        lam = PRECISE.number(lam)
        noises = [_noise_at(i, family, pair, lam) for i, (family, pair) in enumerate(zip(families, schedules))]
        if digits is not None:
            return noises
        for i, noise in enumerate(noises):
            if noise.std > 0 and float(noise.std) == 0:
                size = mpmath.nstr(noise.std, 3)
                raise ValueError(f"the std of layer {i} is {size}, too small for a float; pass digits.")
        return [LayerNoise(noise.family, *map(float, noise[1:])) for noise in noises]


def _noise_at(i: int, family: Any, pair: Any, lam: Any) -> LayerNoise:
    mean, std = _pair(i, pair)
    numbers = _at(mean, lam), _at(std, lam)
    family = _checked(i, family, numbers[1])
    symbolic = hasattr(mean, "free_symbols") and hasattr(std, "free_symbols")
    if not symbolic or family not in _HALF_WIDTH_SQUARED or numbers[1] == 0:
        return _layer_noise(i, (family, *numbers))
    return LayerNoise(family, *numbers, *(_at(end, lam) for end in _ends(family, mean, std)))


def _pair(i: int, pair: Any) -> tuple[Any, Any]:
    try:
        mean, std = pair
    except (TypeError, ValueError):
        raise TypeError(f"the schedule of layer {i} must be a pair (mean, std), not {pair!r}.") from None
    return mean, std


@functools.lru_cache(maxsize=1024)
def _ends(family: str, mean: Any, std: Any) -> tuple[Any, Any]:
    import sympy

    half_width = sympy.sqrt(_HALF_WIDTH_SQUARED[family]) * std
    return sympy.expand(mean - half_width), sympy.expand(mean + half_width)


def _at(part: Any, lam: Any) -> Any:
    if hasattr(part, "free_symbols"):
        return _formula_at(part, lam, mpmath.mp.prec)
    return PRECISE.number(part(lam) if callable(part) else part)


@functools.lru_cache(maxsize=4096)
def _formula_at(expression: Any, lam: Any, precision: int) -> Any:
    """The value at λ; kept, with the precision as part of the key, since exp(−1/λ²) far down is slow."""
    return PRECISE.number(_function(expression)(lam))


@functools.lru_cache(maxsize=4096)
def _function(expression: Any) -> Any:
    import sympy

    symbols = sorted(expression.free_symbols, key=str)
    if len(symbols) > 1:
        raise ValueError(f"a schedule may depend on one symbol, lambda, but {expression} depends on "
                         f"{', '.join(map(str, symbols))}.")
    return sympy.lambdify(symbols or [sympy.Dummy()], expression, "mpmath")


# Limits


def exact_limit(network: Network, x: Any, families: Any, schedules: Sequence[Any]) -> list[float]:
    """The limit of a regularised network's outputs as λ → 0, computed and not estimated.

    For bounded noise only. Near λ = 0 every value in the network is a finite sum of powers of λ, and all
    comparisons are decided by leading coefficients (see `anabook.convergence._germs`).

    Args:
        network: a single network, without weight quantisers.
        x: its input.
        families: "uniform" or "triangular", or one of them a layer.
        schedules: pairs of SymPy expressions or numbers: finite sums of powers of λ, the std a single one or 0.

    Returns:
        One limit for each output.

    Raises:
        ValueError: another family, a batch of networks, quantised weights, or schedules of another form.
    """
    if len(network.layers[0].weights.shape) != 2 or any(layer.weight_quantiser for layer in network.layers):
        raise ValueError("exact limits are for a single network whose weights are given, not quantised.")
    noises = _noise_germs(families, schedules)
    if len(noises) != network.n_noisy:
        raise ValueError(f"the network has {network.n_noisy} quantised layers, but {len(noises)} schedules are given.")
    values = [Germ.of(v) for v in network._input(x).fractions()]
    for i, layer in enumerate(network.layers):
        rows = zip(layer.weights.fractions(), layer.biases.fractions())
        values = [sum((v * Germ.of(w) for w, v in zip(row, values) if w), Germ.of(b)) for row, b in rows]
        if layer.quantiser is not None:
            values = _exact_layer(layer.quantiser, values, *noises[i])
    return [value.limit() for value in values]


def _noise_germs(families: Any, schedules: Sequence[Any]) -> list[tuple[str, Germ, Germ]]:
    """Family, mean and half-width of each layer, exactly."""
    schedules = list(schedules)
    families = [families] * len(schedules) if isinstance(families, str) else list(families)
    noises = []
    for i, (family, pair) in enumerate(zip(families, schedules)):
        mean, std = from_sympy(_pair(i, pair)[0]), from_sympy(_pair(i, pair)[1])
        family = "uniform" if family == "dirac" and not std.terms else choice(family, BOUNDED, "the family")
        if len(std.terms) > 1 or std.sign() < 0:
            raise ValueError(f"the std of layer {i} must be a single positive power of lambda or 0, not {pair[1]}.")
        noises.append((family, mean, std.times_root(_HALF_WIDTH_SQUARED[family])))
    return noises


def _exact_layer(quantiser: Quantiser, values: list[Germ], family: str, mean: Germ, half_width: Germ) -> list[Germ]:
    levels, thresholds = _rationals(quantiser)
    jumps = [(Germ.of(high - low), Germ.of(t)) for low, high, t in zip(levels, levels[1:], thresholds)]

    def rise(offset: Germ) -> Germ:
        if not half_width.terms:
            return Germ.of(int(offset.sign() >= 0))
        return step(family, offset.over(half_width))

    return [sum((rise(value - t - mean) * size for size, t in jumps), Germ.of(levels[0])) for value in values]


RIGHT, WRONG, UNDECIDED = "right", "wrong", "undecided"
_NOTHING = 1e-6  # what is smaller than this part of the tolerance may be rounding, which need not fall
_FLOAT_LAMBDAS = (1e-4, 1e-5, 1e-6)
_FAR_LAMBDAS = tuple(mpmath.mpf(f"1e-{exponent}") for exponent in (100, 1000, 10000))
_NEAR_LAMBDAS = tuple(mpmath.mpf(f"1e-{exponent}") for exponent in (10, 20, 40))


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
    """
    if lambdas is None:
        found = _limit_if_exact(network, x, families, schedules)
        if found is not None:
            return found
    formulas = not any(callable(part) and not hasattr(part, "free_symbols") for pair in schedules for part in pair)
    if lambdas is None:
        lambdas = _FAR_LAMBDAS if formulas else _NEAR_LAMBDAS
    lambdas = tuple(lambdas)
    if len(lambdas) < 2 or any(not low < high for high, low in zip(lambdas, lambdas[1:])):
        raise ValueError(f"lambdas must hold at least two decreasing values, not {lambdas!r}.")
    if digits is None:
        digits = 60 if formulas else 460
    deviations = [
        network.regularised(x, noises_at(families, schedules, lam, digits or None), digits=digits or None).deviation
        for lam in lambdas
    ]
    return Limit(_judge(deviations, tolerance), lambdas, np.stack(deviations))


def _limit_if_exact(network: Network, x: Any, families: Any, schedules: Sequence[Any]) -> Limit | None:
    """The exact limits of a network or of each network of a batch, or None where there is no exact method."""
    try:
        _noise_germs(families, schedules)
    except (TypeError, ValueError):
        return None
    if any(layer.weight_quantiser for layer in network.layers):
        return None
    x = network._input(x)
    right = network.trace(x).outputs[-1].numbers(DOUBLE)
    many = right.shape[:-1]
    found = np.empty(right.shape)
    for index in np.ndindex(*many):
        one = _subset(network, index) if len(network.layers[0].weights.shape) > 2 else network
        found[index] = exact_limit(one, x[index] if len(x.shape) > 1 else x, families, schedules)
    deviations = found - right
    return Limit(np.where((deviations != 0).any(axis=-1), WRONG, RIGHT), (0,), deviations[np.newaxis])


def _judge(deviations: list[np.ndarray], tolerance: float) -> np.ndarray:
    last, before = np.abs(deviations[-1]), np.abs(deviations[-2])
    change = np.abs(deviations[-1] - deviations[-2])
    nothing = (last <= tolerance * _NOTHING).astype(bool)
    right = nothing | ((last <= tolerance) & (last <= before / 2)).astype(bool)
    wrong = ~nothing & (change <= last / 10).astype(bool)
    return np.where(wrong.any(axis=-1), WRONG, np.where(right.all(axis=-1), RIGHT, UNDECIDED))


@dataclass(frozen=True)
class Share:
    """How many of many networks have a wrong limit, with a confidence interval for the share.

    Attributes:
        wrong: networks whose limit is wrong.
        undecided: networks whose limit the numbers do not settle.
        total: all networks.
        low, high: Wilson's interval for the probability of a wrong limit, undecided ones counted as right
            in `low` and as wrong in `high`.
    """

    wrong: int
    undecided: int
    total: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """wrong / total."""
        return self.wrong / self.total

    def __str__(self) -> str:
        undecided = f", {self.undecided} undecided" if self.undecided else ""
        interval = f"95 % interval {self.low:.1%} to {self.high:.1%}"
        return f"{self.wrong} of {self.total} ({self.share:.1%}; {interval}{undecided})"


def wrong_share(network: Network, x: Any, families: Any, schedules: Sequence[Any]) -> Share:
    """The share of a batch of networks whose regularisation tends to a wrong output.

    All networks are judged in doubles at λ = 10⁻⁴, 10⁻⁵, 10⁻⁶; those that this leaves open are decided by `limit`.
    """
    verdicts = np.array(limit(network, x, families, schedules, _FLOAT_LAMBDAS, digits=0).verdicts, ndmin=1)
    open_ones = verdicts == UNDECIDED
    if open_ones.any():
        rest = limit(_subset(network, open_ones), _rows(network._input(x), open_ones), families, schedules)
        verdicts[open_ones] = rest.verdicts
    wrong, undecided, total = (verdicts == WRONG).sum(), (verdicts == UNDECIDED).sum(), verdicts.size
    return Share(int(wrong), int(undecided), int(total), wilson(wrong, total)[0], wilson(wrong + undecided, total)[1])


def _rows(x: Exact, chosen: np.ndarray) -> Exact:
    return x[chosen] if len(x.shape) > 1 else x


def _subset(network: Network, chosen: np.ndarray) -> Network:
    layers = network.layers
    return Network(
        [layer.weights[chosen] if len(layer.weights.shape) > 2 else layer.weights for layer in layers],
        [_rows(layer.biases, chosen) for layer in layers],
        [layer.quantiser for layer in layers],
        [layer.weight_quantiser for layer in layers],
    )


def wilson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a probability (Wilson, 1927): the p whose distance from p̂ is at most z √(p(1 − p)/n)."""
    successes, trials = _counts(successes, trials)
    z = float(special.ndtri((1 + _confidence(confidence)) / 2))
    p, spread = successes / trials, z * z / trials
    centre = (p + spread / 2) / (1 + spread)
    half = math.sqrt(spread * p * (1 - p) + spread * spread / 4) / (1 + spread)
    low = 0.0 if successes == 0 else centre - half
    return low, 1.0 if successes == trials else centre + half


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact (conservative) interval for a probability, by inverting binomial tails."""
    successes, trials = _counts(successes, trials)
    tail = (1 - _confidence(confidence)) / 2
    low = 0.0 if successes == 0 else float(special.betaincinv(successes, trials - successes + 1, tail))
    high = 1.0 if successes == trials else float(special.betaincinv(successes + 1, trials - successes, 1 - tail))
    return low, high


def _counts(successes: Any, trials: Any) -> tuple[int, int]:
    trials = integer(trials, "trials", minimum=1)
    return integer(successes, "successes", minimum=0, maximum=trials), trials


def _confidence(value: Any) -> float:
    value = real(value, "confidence")
    if not 0 < value < 1:
        raise ValueError(f"confidence must lie strictly between 0 and 1, not {value!r}.")
    return value


# Ternary networks and exact hits


def ternary_sum_counts(n: int) -> list[int]:
    """In how many of 9ⁿ cases a sum of n products of two ternary numbers is −n, …, n.

    These are the coefficients of (2z⁻¹ + 5 + 2z)ⁿ, by the recurrence that follows from P·(Pⁿ)′ = n·P′·Pⁿ.
    """
    n = integer(n, "n", minimum=1)
    counts = [2**n]
    for k in range(1, 2 * n + 1):
        total = 5 * (n - (k - 1)) * counts[k - 1]
        if k > 1:
            total += 2 * (2 * n - (k - 2)) * counts[k - 2]
        counts.append(total // (2 * k))
    return counts


def hit_probability(n: int, target: int = 0) -> Fraction:
    """P(Σ w_i x_i = target) for n independent pairs of uniform ternary numbers, exactly."""
    target = integer(target, "target", minimum=-(10**9), maximum=10**9)
    counts = ternary_sum_counts(n)
    return Fraction(counts[target + n] if abs(target) <= n else 0, 9**n)


def random_ternary(
    count: int,
    widths: Sequence[int],
    rng: np.random.Generator | int,
    quantiser: Quantiser = HEAVISIDE,
    planned: float = 0.0,
) -> tuple[Network, np.ndarray]:
    """Random networks with ternary weights, and a random ternary input for each.

    Args:
        count: how many networks, stacked in one batch.
        widths: inputs, then outputs of each layer.
        rng: a NumPy generator, or an integer seed.
        quantiser: of every layer.
        planned: the probability that a unit's bias is chosen to put its pre-activation exactly on a threshold;
            all other biases are zero, and hits there are up to chance.

    Returns:
        The batch of networks and their inputs, shape (count, widths[0]).
    """
    count = integer(count, "count", minimum=1)
    widths = [integer(w, "a width", minimum=1) for w in widths]
    if len(widths) < 2:
        raise ValueError(f"widths must hold the number of inputs and of each layer's outputs, not {widths!r}.")
    planned, rng = real(planned, "planned", minimum=0.0), generator(rng)
    x = inputs = rng.integers(-1, 2, size=(count, widths[0]))
    weights, biases = [], []
    for n_in, n_out in zip(widths, widths[1:]):
        w = rng.integers(-1, 2, size=(count, n_out, n_in))
        s = _product(w, x)
        target = rng.choice(quantiser.thresholds, size=s.shape)
        b = np.where(rng.random(s.shape) < planned, target - s, 0.0)
        x = quantiser(s + b)
        weights.append(w)
        biases.append(b)
    return Network(weights, biases, quantiser), inputs


# Counterexamples


@dataclass(frozen=True)
class Example:
    """A small network with the input at which it is instructive.

    Attributes:
        network, x: the network and its input.
        text: what it shows.
    """

    network: Network
    x: tuple[int, ...]
    text: str


def chain(
    n_layers: int,
    start: int = 0,
    stop: int | None = None,
    weight: Any = 1,
    offset: Any = 0,
    readout: Any = Fraction(1, 2),
) -> Network:
    """A chain of single Heaviside units that passes one unit's error on as harmfully as weights of one size can.

    The unit of layer `start` has the constant pre-activation `offset`. Each unit behind it, up to layer `stop`, sits
    exactly on its threshold and multiplies the error before it by −c, with c the `weight`. Units before `start` are
    idle; those after `stop` compare with `readout`. The quantised output is 1, or [offset ≥ 0] if start = stop.

    Args:
        n_layers: length of the chain; the network has one input, which it ignores.
        start, stop: layers, counted from 0; `stop` is the last one by default.
        weight: c > 0.
        offset: the first unit's pre-activation.
        readout: between the wrong value and the right one.
    """
    n_layers = integer(n_layers, "n_layers", minimum=1)
    stop = n_layers - 1 if stop is None else integer(stop, "stop", minimum=0, maximum=n_layers - 1)
    start = integer(start, "start", minimum=0, maximum=stop)
    weights, biases, high = [], [], True
    for layer in range(n_layers):
        if layer <= start:
            w, b = 0, 1 if layer < start else offset
            high = b >= 0
        elif layer <= stop:
            w, b = (weight, -weight) if high else (-weight, 0)
            high = True
        else:
            w, b = 1, -readout
        weights.append([[w]])
        biases.append([b])
    return Network(weights, biases)


NETWORK_A = Example(
    Network(weights=[[[1]], [[1]]], biases=[[0], [-1]]), (0,),
    "the smallest counterexample: both pre-activations are 0, and the second is the first one's error",
)
TERNARY_ANALOGUE = Example(
    Network(weights=[[[1]], [[1]]], quantisers=FLOOR_TERNARY), (1,),
    "network A with ternary units of thresholds 0 and 1: both pre-activations are 1, a threshold",
)
ZERO_MEAN = Example(
    Network(weights=[[[1]], [[1]]], biases=[[0], [-1]]), (1,),
    "pre-activations 1 and 0: with zero-mean noise the output tends to one half",
)
THREE_LAYERS = Example(
    chain(3), (0,),
    "network A with one more layer: three pre-activations that are 0, each the error of the one before",
)
GENERIC = Example(
    Network(
        weights=[[[1, -1], [1, 1]], [[1, -1]]],
        biases=[[Fraction(1, 2), Fraction(-5, 2)], [Fraction(-1, 2)]],
    ), (1, 1),
    "no pre-activation on a threshold: the nearest is one half away",
)
WEIGHT_ON_THRESHOLD = Example(
    Network(weights=[[[0]]], biases=[[-1]], weight_quantisers=[HEAVISIDE]), (1,),
    "a single unit whose latent weight is on its threshold: the weight is 1, the pre-activation 0",
)

_NAMED: Mapping[str, Example] = {
    "A": NETWORK_A,
    "ternary analogue": TERNARY_ANALOGUE,
    "zero mean": ZERO_MEAN,
    "three layers": THREE_LAYERS,
    "generic": GENERIC,
    "weight on threshold": WEIGHT_ON_THRESHOLD,
}
NAMES = tuple(_NAMED)


def named(name: str) -> Example:
    """One of the book's small networks by name; `NAMES` lists them."""
    return _NAMED[choice(name, NAMES, "name")]


def worst_case(
    families: Any, schedules: Sequence[Any], lam: Any, weight: Any = 1, gap: Any = Fraction(1, 8), digits: int = 50
) -> list[Any]:
    """The largest error of each layer that weights of size c and margins of size g allow, up to constants.

    E_0 = 0 and E_ℓ = max(T0((a_ℓ − c E_{ℓ−1})/β_ℓ), T0(g/β_ℓ)), with a = −mean. The regularised network converges for
    every choice of weights, biases and input if and only if E_ℓ → 0 for every layer, every c and every g > 0.

    Args:
        families, schedules, lam, digits: as for `noises_at`.
        weight: the size c of the weights.
        gap: g > 0.

    Returns:
        One mpmath number a layer.
    """
    with mpmath.workdps(digits):
        weight, gap, error, errors = PRECISE.number(weight), PRECISE.number(gap), mpmath.mpf(0), []
        for noise in noises_at(families, schedules, lam, digits):
            centred = _layer_noise(0, (noise.family, mpmath.mpf(0), noise.std))
            error = max(_error_at(noise, -weight * error), _error_at(centred, gap))
            errors.append(error)
        return errors


def _error_at(noise: LayerNoise, offset: Any) -> Any:
    """P(ν > offset): how far the expectation of a Heaviside unit is from 1."""
    if noise.std == 0:
        return mpmath.mpf(offset < noise.mean)
    above, t = offset > noise.mean, (offset - noise.mean) / noise.std
    tail = _tail(noise, np.array([offset]), np.array([above]), np.array([t]), PRECISE)[0]
    return tail if above else 1 - tail


@dataclass(frozen=True)
class Witness:
    """A constructed network on which the regularisation has a wrong limit.

    Attributes:
        network, x: the network, a `chain`, and its input.
        start, stop, weight, offset: the chain's parameters.
        limit: the `Limit` that says so.
    """

    network: Network
    x: tuple[int, ...]
    start: int
    stop: int
    weight: Any
    offset: Any
    limit: Limit

    def __str__(self) -> str:
        right = float(self.network(self.x)[0])
        got = round(float(right + self.limit.deviations[-1][0]), 12) + 0.0
        where = (f"layer {self.start}" if self.start == self.stop
                 else f"layers {self.start} to {self.stop}, passed on with weight {self.weight}")
        return (f"pre-activation {self.offset} in layer {self.start}; the error of {where}: "
                f"the output tends to {got:.4g}, the quantised network gives {right:g}")


_WEIGHTS = (1, 16, 128)  # larger ones delay a limit with an equality in it beyond the smallest λ here; see `_is_fading`
_OFFSETS = tuple(Fraction(v) for v in (0, "-1/8", "1/8", "-1/64", "1/64", "-1", "1"))


def witness(families: Any, schedules: Sequence[Any] | None = None) -> Witness | None:
    """Construct a network on which the regularisation does not tend to the quantised map, if a chain is one.

    Chains are enough in principle: if any network fails, one of them does. The search tries every pair of layers, a few
    weights and a few offsets, shortest chains first, and judges each by `limit`.

    Args:
        families: as for `noises_at`, or an object with attributes `families` and `schedules`, such as a verdict.
        schedules: as for `noises_at`, as formulas or numbers.

    Returns:
        The witness, or None if no chain that was tried has a wrong limit.
    """
    if schedules is None:
        families, schedules = families.families, families.schedules
    schedules = list(schedules)
    if _no_chain_fails(families, schedules):
        return None
    for length in range(len(schedules)):
        for start in range(len(schedules) - length):
            for offset in _OFFSETS:
                for weight in _WEIGHTS if length else _WEIGHTS[:1]:
                    found = _try_chain(families, schedules, start, start + length, weight, offset)
                    if found is not None:
                        return found
    return None


def _no_chain_fails(families: Any, schedules: list[Any]) -> bool:
    """Whether even the largest errors that the search's weights and offsets allow vanish, and the means with them."""
    errors = [np.array(worst_case(families, schedules, lam, max(_WEIGHTS), Fraction(1, 128))) for lam in _FAR_LAMBDAS]
    means = [abs(noise.mean) for noise in noises_at(families, schedules, _FAR_LAMBDAS[-1], 50)]
    return str(_judge(errors, 0.01)) == RIGHT and max(means) < 1 / 128


def _try_chain(families: Any, schedules: list[Any], start: int, stop: int, weight: Any, offset: Any) -> Witness | None:
    upto = stop + 1
    part_families = families if isinstance(families, str) else list(families)[:upto]
    part_network = chain(upto, start, stop, weight, offset)
    part_schedules = schedules[:upto]
    last = noises_at(part_families, part_schedules, _FAR_LAMBDAS[-1], 60)
    if abs(part_network.regularised([0], last, digits=60).deviation[0]) < 1e-9:
        return None
    part = limit(part_network, [0], part_families, part_schedules)
    if part.verdict != WRONG:
        return None
    if not part.exact and _is_fading(part_network, part_families, part_schedules, start):
        return None
    right = 1 if offset >= 0 or stop > start else 0
    halfway = Fraction(float(right + part.deviations[-1][0] / 2)).limit_denominator(1000)
    network = chain(len(schedules), start, stop, weight, offset, halfway)
    whole = limit(network, [0], families, schedules)
    if whole.verdict != WRONG:
        return None
    return Witness(network, (0,), start, stop, weight, offset, whole)


def _is_fading(network: Network, families: Any, schedules: list[Any], start: int) -> bool:
    """Whether the error that overwhelms a unit of the chain is yet losing ground against that unit's offset.

    A ratio that falls like 1/ln(1/λ) wins in the end, but with a large weight not before any λ that one can write down.
    """
    runs = []
    for lam in _FAR_LAMBDAS[-2:]:
        noises = noises_at(families, schedules, lam, 60)
        runs.append((noises, [abs(d[0]) for d in network.regularised([0], noises, digits=60).deviations]))
    (noises, before), (far_noises, last) = runs
    settled = (i for i in range(start, len(last)) if last[i] > 1e-6 and last[i] > before[i] / 2)
    broken = next(settled, start)
    if broken == start or far_noises[broken].mean >= 0:
        return False
    ratio, far_ratio = before[broken - 1] / -noises[broken].mean, last[broken - 1] / -far_noises[broken].mean
    return bool(far_ratio < ratio / 2)
