"""Random networks with ternary weights, and how often their pre-activations are exactly on a threshold."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from anabook._validate import generator, integer, real
from anabook.convergence.quantised_networks import HEAVISIDE, Network, product
from anabook.quantisers import Quantiser


def ternary_sum_counts(n: int) -> list[int]:
    """In how many of 9ⁿ cases a sum of n products of two ternary numbers is −n, …, n.

    These are the coefficients of (2z⁻¹ + 5 + 2z)ⁿ, by the recurrence that follows from P·(Pⁿ)′ = n·P′·Pⁿ.

    Example:
        >>> ternary_sum_counts(1)
        [2, 5, 2]
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
    """P(Σ w_i x_i = target) for n independent pairs of uniform ternary numbers, exactly.

    Example:
        >>> hit_probability(2)
        Fraction(11, 27)
    """
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

    Example:
        >>> networks, x = random_ternary(100, [4, 3, 2], rng=0)
        >>> x.shape
        (100, 4)
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
        s = product(w, x)
        target = rng.choice(quantiser.thresholds, size=s.shape)
        b = np.where(rng.random(s.shape) < planned, target - s, 0.0)
        x = quantiser(s + b)
        weights.append(w)
        biases.append(b)
    return Network(weights, biases, quantiser), inputs
