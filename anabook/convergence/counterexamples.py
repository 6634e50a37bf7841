"""Small networks whose regularisations have wrong limits, and the chains of units of which they are made.

And schedules that show what the sharp condition is not: necessary for rates that may not fall as λ grows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import sympy as sp

from anabook._validate import choice, integer, real
from anabook.convergence.orders import LAMBDA
from anabook.convergence.quantised_networks import HEAVISIDE, Network
from anabook.quantisers import Quantiser

FLOOR_TERNARY = Quantiser(levels=[-1, 0, 1], thresholds=[0, 1])


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

    Example:
        >>> net = chain(2)
        >>> net([0]), net([-1])
        (array([1.]), array([1.]))
    """
    n_layers = integer(n_layers, "n_layers", minimum=1)
    stop = n_layers - 1 if stop is None else integer(stop, "stop", minimum=0, maximum=n_layers - 1)
    start = integer(start, "start", minimum=0, maximum=stop)
    real(weight, "weight", above=0.0)
    real(offset, "offset")
    real(readout, "readout")
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
    Network(weights=[[[1]], [[1]]], biases=[[0], [-1]]),
    (0,),
    "the smallest counterexample: both pre-activations are 0, and the second is the first one's error",
)
TERNARY_ANALOGUE = Example(
    Network(weights=[[[1]], [[1]]], quantisers=FLOOR_TERNARY),
    (1,),
    "network A with ternary units of thresholds 0 and 1: both pre-activations are 1, a threshold",
)
ZERO_MEAN = Example(
    Network(weights=[[[1]], [[1]]], biases=[[0], [-1]]),
    (1,),
    "pre-activations 1 and 0: with zero-mean noise the output tends to one half",
)
THREE_LAYERS = Example(
    chain(3),
    (0,),
    "network A with one more layer: three pre-activations that are 0, each the error of the one before",
)
GENERIC = Example(
    Network(
        weights=[[[1, -1], [1, 1]], [[1, -1]]],
        biases=[[Fraction(1, 2), Fraction(-5, 2)], [Fraction(-1, 2)]],
    ),
    (1, 1),
    "no pre-activation on a threshold: the nearest is one half away",
)
WEIGHT_ON_THRESHOLD = Example(
    Network(weights=[[[0]]], biases=[[-1]], weight_quantisers=[HEAVISIDE]),
    (1,),
    "a single unit whose latent weight is on its threshold: the weight is 1, the pre-activation 0",
)


@dataclass(frozen=True)
class ScheduleExample:
    """Schedules of two layers that are instructive, with what the rate between the two has to do with.

    Attributes:
        family, schedules: as for `check`.
        error: of the first layer on its threshold, exactly. Its rate must be larger: error = o(rate).
        margin: of the second layer, up to constants. The rate must not be larger: rate = O(margin).
        text: what they show.

    Example:
        >>> OSCILLATING.error, OSCILLATING.margin
        (lambda**(sin(1/lambda) + 3), lambda**(sin(1/lambda) + 2))
    """

    family: str
    schedules: tuple[tuple[sp.Expr, sp.Expr], ...]
    error: sp.Expr
    margin: sp.Expr
    text: str


def _oscillating() -> ScheduleExample:
    error = LAMBDA ** (3 + sp.sin(1 / LAMBDA))
    offset = LAMBDA ** (2 + sp.sin(1 / LAMBDA))
    first = (-LAMBDA * (1 - 2 * error), LAMBDA / sp.sqrt(3))  # half-width λ, and a depth of 2·error half-widths in the noise
    return ScheduleExample(
        "uniform",
        (first, (-offset, LAMBDA * offset)),
        error,
        offset,
        "the error is λ times the margin, so every network converges; but it rises to λ² where sin(1/λ) = −1, and at the "
        "next larger λ with sin(1/λ) = 1 the margin is λ³: no rate that is non-decreasing lies between the two",
    )


OSCILLATING = _oscillating()

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
    """One of the book's small networks by name; `NAMES` lists them.

    Example:
        >>> named("A").text
        "the smallest counterexample: both pre-activations are 0, and the second is the first one's error"
    """
    return _NAMED[choice(name, NAMES, "name")]
