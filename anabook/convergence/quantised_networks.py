"""Networks of quantised layers, and their regularisations at one noise level.

The quantised network composes affine maps and stair functions (paper, eq. (7)); the regularised one replaces each stair
function by its expectation under that layer's noise (eq. (8), with noise for its regularisations). Layers are counted from 0 at
the input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np

from anabook._validate import integer
from anabook.convergence.exact_arithmetic import DOUBLE, PRECISE, Exact, Precision
from anabook.convergence.exact_stairs import expect, offsets, rationals, stairs
from anabook.convergence.layer_noises import LayerNoise, layer_noises
from anabook.quantisers import Quantiser

HEAVISIDE = Quantiser.heaviside()


@dataclass(frozen=True)
class Layer:
    """One layer x ↦ σ(W x + b).

    Attributes:
        weights: W, exact, shape (…, outputs, inputs); the latent weights if `weight_quantiser` is set.
        biases: b, exact, shape (…, outputs).
        quantiser: σ, or None for an affine last layer.
        weight_quantiser: what turns latent weights into weights, or None.

    Example:
        >>> from anabook.convergence import chain
        >>> chain(2).layers[0].quantiser
        Quantiser(levels=[0, 1], thresholds=[0])
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

    Example:
        >>> from anabook.convergence import chain
        >>> chain(2).trace([0]).outputs[0]
        Exact(numerators=array([2]), denominator=2)
    """

    preactivations: tuple[Exact, ...]
    outputs: tuple[Exact, ...]


@dataclass(frozen=True)
class Regularised:
    """What a regularised network computes at one noise level.

    Attributes:
        values: each layer's outputs.
        deviations: each layer's outputs minus the quantised network's, computed without that subtraction.

    Example:
        >>> from anabook.convergence import Network, noises_at, power_law
        >>> net = Network(weights=[[[1]], [[1]]], biases=[[0], [-1]])
        >>> net.regularised([0], noises_at("uniform", [power_law(1, 1), power_law(2, 2)], 0.01)).values[-1]
        array([0.])
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
        x = exact_input(self, x)
        preactivations, outputs = [], []
        for layer in self._layers:
            s = _quantised_weights(layer).apply(x) + layer.biases
            x = s if layer.quantiser is None else stairs(layer.quantiser, s)
            preactivations.append(s)
            outputs.append(x)
        return Trace(tuple(preactivations), tuple(outputs))

    def hits(self, x: Any) -> tuple[np.ndarray, ...]:
        """For each quantised layer, which units' pre-activations lie exactly on a threshold."""
        return tuple((distances.sign() == 0).any(axis=-1) for distances in self._offsets(x))

    def margin(self, x: Any) -> Fraction:
        """The smallest distance of any pre-activation from any threshold of its layer, exactly."""
        return min(distances.smallest() for distances in self._offsets(x))

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
            noises: one for each layer with a quantiser: a `Noise` or a triple (law, mean, std), the law as for `noises_at`.
            weight_noises: noises of the weight quantisers, one a layer with a quantiser; by default each layer's own.
            digits: None for doubles, or the number of decimal digits to compute with (then mpmath numbers come back).

        Returns:
            values and deviations of every layer, arrays of shape (…, outputs).

        Raises:
            ValueError: a layer without noise, a noise too many, a negative std; digits for a density whose
                distribution function SymPy does not find.
        """
        noises = layer_noises(noises, self.n_noisy)
        weight_noises = noises if weight_noises is None else layer_noises(weight_noises, self.n_noisy)
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
            levels, thresholds = rationals(layer.quantiser)
            weights.append(np.repeat(w, len(thresholds), axis=0))
            biases.append(np.concatenate([[v - t for t in thresholds] for v in b]))
            quantisers.append(HEAVISIDE)
            steps = [high - low for low, high in zip(levels, levels[1:])]
            spread = np.kron(np.eye(len(b), dtype=object) * Fraction(1), np.array([steps], dtype=object))
            base = np.full(len(b), levels[0])
        return Network([*weights, spread], [*biases, base], [*quantisers, None])

    def _offsets(self, x: Any) -> Iterator[Exact]:
        for layer, s in zip(self._layers, self.trace(x).preactivations):
            if layer.quantiser is not None:
                yield offsets(s, layer.quantiser)

    def _regularised(self, x: Any, noises: list[LayerNoise], weight_noises: list[LayerNoise], of: Precision) -> Regularised:
        x = exact_input(self, x)
        residual = x.numbers(of) * 0
        values, deviations = [], []
        for i, (layer, exact) in enumerate(zip(self._layers, self.trace(x).outputs)):
            w, w_residual = layer.weights, None
            if layer.weight_quantiser is not None:
                w, w_residual = expect(layer.weight_quantiser, w, w.numbers(of) * 0, weight_noises[i], of)
            s = w.apply(x) + layer.biases
            shift = product(w.numbers(of), residual)
            if w_residual is not None:
                shift = shift + product(w_residual, x.numbers(of) + residual)
            x, residual = (s, shift) if layer.quantiser is None else expect(layer.quantiser, s, shift, noises[i], of)
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
        raise ValueError(
            f"layer {i} has weights of shape {w.shape}, but layer {i - 1} gives {inputs} "
            f"output{'s' * (inputs > 1)}, so their last axis must be {inputs}."
        )
    b = Exact.of([0] * w.shape[-2] if biases is None else biases, f"the biases of layer {i}")
    if not b.shape or b.shape[-1] != w.shape[-2]:
        raise ValueError(
            f"layer {i} has biases of shape {b.shape}, but weights of shape {w.shape}, so there must be {w.shape[-2]}."
        )
    if not isinstance(quantiser, Quantiser) and not (quantiser is None and last):
        raise TypeError(
            f"the quantiser of layer {i} must be a Quantiser"
            f"{' or None' if last else ' (only the last layer may have None)'}, not {quantiser!r}."
        )
    if weight_quantiser is not None and not isinstance(weight_quantiser, Quantiser):
        raise TypeError(f"the weight quantiser of layer {i} must be a Quantiser or None, not {weight_quantiser!r}.")
    if weight_quantiser is not None and quantiser is None:
        raise ValueError(f"layer {i} quantises its weights but not its outputs, so it has no noise for them.")
    return Layer(w, b, quantiser, weight_quantiser)


def _quantised_weights(layer: Layer) -> Exact:
    return layer.weights if layer.weight_quantiser is None else stairs(layer.weight_quantiser, layer.weights)


def product(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Matrices (…, m, n) times vectors (…, n), broadcast over the leading axes."""
    return np.matmul(matrix, vector[..., np.newaxis])[..., 0]


def exact_input(network: Network, x: Any) -> Exact:
    """The input as exact numbers.

    Raises:
        ValueError: its last axis is not as long as the network has inputs.
    """
    exact = Exact.of(x, "the input")
    if not exact.shape or exact.shape[-1] != network.widths[0]:
        raise ValueError(
            f"the input has shape {exact.shape}, but the network takes {network.widths[0]} "
            f"input{'s' * (network.widths[0] > 1)}, so its last axis must be {network.widths[0]}."
        )
    return exact


def rows(x: Exact, chosen: np.ndarray) -> Exact:
    """The chosen vectors of a batch; a single vector serves all networks."""
    return x[chosen] if len(x.shape) > 1 else x


def subset(network: Network, chosen: np.ndarray) -> Network:
    """The chosen networks of a batch."""
    layers = network.layers
    return Network(
        [layer.weights[chosen] if len(layer.weights.shape) > 2 else layer.weights for layer in layers],
        [rows(layer.biases, chosen) for layer in layers],
        [layer.quantiser for layer in layers],
        [layer.weight_quantiser for layer in layers],
    )
