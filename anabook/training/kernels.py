"""Forward and backward of the stochastic quantiser, as pure functions of flat tensors.

Every function is element by element, keeps nothing, moves nothing between devices and waits for none. Tensors are flat
and of one float type, float32 or float64; `levels` (K of them) and `thresholds` (K − 1) are of that type too. A noise
is a `Law`. All formulas of the families come from `anabook.noise.FAMILIES`, where they stand once.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from anabook.noise import FAMILIES
from anabook.training._ops import TORCH_OPS

STRATEGIES = ("expectation", "mode", "random")


class Law(NamedTuple):
    """The noise of one call: a family's name, its mean α and its standard deviation β > 0, as plain floats."""

    family: str
    mean: float
    std: float


def shifted(x: Tensor, levels: Tensor, thresholds: Tensor, mean: float) -> Tensor:
    """σ(x − α): the quantiser under the Dirac noise at α. NaN stays NaN."""
    index = torch.searchsorted(thresholds, x - mean, right=True)
    return torch.where(torch.isnan(x), x, levels[index])


def expectation(x: Tensor, levels: Tensor, thresholds: Tensor, law: Law) -> Tensor:
    """E[σ(x − ν)] = q_0 + Σ_k Δ_k F0((x − θ_k − α)/β), as σ(x − α) plus tails (paper, eq. (3)).

    The tails vanish where the noise does not reach a threshold, so the levels come out exactly there.
    """
    cdf = FAMILIES[law.family].cdf
    steps = torch.diff(levels)
    total = torch.zeros_like(x)
    for step, threshold in zip(steps.unbind(), thresholds.unbind()):
        above = x - law.mean >= threshold
        t = (x - threshold - law.mean) / law.std
        tail = cdf(torch.where(above, -t, t), TORCH_OPS)
        total = total + step * torch.where(above, -tail, tail)
    return shifted(x, levels, thresholds, law.mean) + total


def mode(x: Tensor, levels: Tensor, thresholds: Tensor, law: Law) -> Tensor:
    """The most probable level of σ(x − ν); the higher one where several are (within a few roundings).

    NaN stays NaN: every comparison with it fails, so the initial value is kept.
    """
    cdf = FAMILIES[law.family].cdf
    tie = 8 * torch.finfo(x.dtype).eps
    up, down = torch.ones_like(x), torch.zeros_like(x)  # P(level ≥ k) and P(level < k)
    best, result = torch.full_like(x, -1.0), x
    for k, level in enumerate(levels.unbind()):
        if k < len(thresholds):
            t = (x - thresholds[k] - law.mean) / law.std
            next_up, next_down = cdf(t, TORCH_OPS), cdf(-t, TORCH_OPS)
        else:
            next_up, next_down = torch.zeros_like(x), torch.ones_like(x)
        # Both differences are the same number; the one between the smaller terms is the accurate one.
        p = torch.where(up <= 0.5, up - next_up, next_down - down)
        result = torch.where(p >= best - tie, level, result)
        best = torch.maximum(best, p)
        up, down = next_up, next_down
    return result


def mode_is_shifted(law: Law, narrowest: float) -> bool:
    """Whether the mode is σ(x − α) for every x.

    It is for two levels (`narrowest` = inf), and otherwise iff the noise's support has a half-width of at most the
    narrowest bounded bin.
    """
    return math.isinf(narrowest) or FAMILIES[law.family].half_width * law.std <= narrowest


def random(x: Tensor, levels: Tensor, thresholds: Tensor, law: Law, u: Tensor) -> Tensor:
    """σ(x − ν) for the draw ν = α + β·Q0(u), with one u in [0, 1) per element.

    u = 0 stands for half the smallest positive draw: the quantile is −∞ at 0 itself.
    """
    u = torch.clamp(u, min=torch.finfo(u.dtype).eps / 4)
    nu = law.mean + law.std * FAMILIES[law.family].icdf(u, TORCH_OPS)
    return torch.where(torch.isnan(x), x, shifted(x - nu, levels, thresholds, 0.0))


def derivative(x: Tensor, levels: Tensor, thresholds: Tensor, law: Law) -> Tensor:
    """d/dx E[σ(x − ν)] = Σ_k (Δ_k/β) f0((x − θ_k − α)/β): the backward pass of every strategy."""
    pdf = FAMILIES[law.family].pdf
    steps = torch.diff(levels)
    total = torch.zeros_like(x)
    for step, threshold in zip(steps.unbind(), thresholds.unbind()):
        total = total + step * (pdf((x - threshold - law.mean) / law.std, TORCH_OPS) / law.std)
    return torch.where(torch.isnan(x), x, total)


def forward(x: Tensor, levels: Tensor, thresholds: Tensor, law: Law, strategy: str, u: Tensor | None = None) -> Tensor:
    """One of the three forward strategies; `u` is used by "random" only."""
    if strategy == "expectation":
        return expectation(x, levels, thresholds, law)
    if strategy == "random":
        return random(x, levels, thresholds, law, u)
    return mode(x, levels, thresholds, law)


def backward(grad: Tensor, x: Tensor, levels: Tensor, thresholds: Tensor, law: Law) -> Tensor:
    """The gradient with respect to x, given the gradient with respect to the output."""
    return grad * derivative(x, levels, thresholds, law)
