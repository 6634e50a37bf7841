"""Other gradients through a noisy quantiser, to compare the three strategies with: REINFORCE, Gumbel-softmax, rounding.

The noisy quantiser σ(x − ν) draws one of K levels with probabilities p_k(x). The strategies pass the gradient through the mean
of that draw. Two estimators from elsewhere use the probabilities instead: the score function weighs the loss with the
derivative of the drawn level's log-probability (Williams, 1992), and Gumbel-softmax replaces the draw by a smooth mixture
of the levels (Jang, Gu and Poole, 2017; Maddison, Mnih and Teh, 2017). Stochastic rounding is the strategy "random"
under one particular noise.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from anabook._validate import real
from anabook.noise import Noise
from anabook.quantisers import Quantiser
from anabook.regularisation import Regularisation, between_tails
from anabook.training._ops import TORCH_OPS
from anabook.training.modules import Quantise

__all__ = ["drawn_level", "gumbel_softmax", "level_probabilities", "score_function_loss", "stochastic_rounding"]


def level_probabilities(x: Tensor, regularisation: Regularisation) -> Tensor:
    """The probability of each level, p_k(x) = F(x − θ_k) − F(x − θ_{k+1}), differentiable in x.

    The torch twin of `Regularisation.probabilities`.

    Args:
        x: a tensor of floats, of any shape.
        regularisation: a quantiser with a `Noise` that is not Dirac.

    Returns:
        x's shape with a last axis of length K, in the order of the levels.

    Raises:
        TypeError: no tensor of floats, or no `Noise`.
        ValueError: a Dirac noise.

    Example:
        >>> r = Regularisation(Quantiser.ternary(), Noise("uniform", std=12 ** -0.5))
        >>> level_probabilities(torch.tensor([0.0, 0.25]), r)
        tensor([[0.0000, 1.0000, 0.0000],
                [0.0000, 0.7500, 0.2500]])
    """
    noise = _noise_of(x, regularisation)
    thresholds = _constant(regularisation.quantiser.thresholds, x)
    t = (x.unsqueeze(-1) - thresholds - noise._shift) / noise._scale
    return between_tails(noise.law.cdf(t, TORCH_OPS), noise.law.sf(t, TORCH_OPS), torch)


def drawn_level(
    x: Tensor, regularisation: Regularisation, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """A draw of σ(x − ν) for each element, without a gradient, and its log-probability, with one.

    Args:
        x: a tensor of floats, of any shape.
        regularisation: a quantiser with a `Noise` that is not Dirac.
        generator: of the draws; torch's global one by default.

    Returns:
        The levels and log p, both of x's shape. `score_function_loss` takes the sum of log p over a loss's elements.

    Example:
        >>> x = torch.tensor([0.0, 10.0], requires_grad=True)
        >>> level, log_p = drawn_level(x, Regularisation(Quantiser.heaviside(), Noise("logistic", std=1.0)))
        >>> level[1].item(), level.requires_grad, log_p.requires_grad
        (1.0, False, True)
    """
    p = level_probabilities(x, regularisation)
    u = torch.rand(x.shape, dtype=x.dtype, device=x.device, generator=generator)
    above = p.detach().flip(-1).cumsum(-1).flip(-1)[..., 1:]  # P(level ≥ k) for k ≥ 1
    index = (u.unsqueeze(-1) < above).sum(-1)
    levels = _constant(regularisation.quantiser.levels, x)
    return levels[index], torch.log(p.gather(-1, index.unsqueeze(-1)).squeeze(-1))


def score_function_loss(losses: Tensor, log_probability: Tensor, baseline: float | Tensor = 0.0) -> Tensor:
    """What to differentiate for REINFORCE: (loss − baseline)·log p, summed, the loss taken as a constant.

    Its gradient in the inputs of the drawn quantisers is an unbiased estimate of the gradient of the expected loss,
    whatever the loss and for every baseline that does not depend on the draw. Add the losses themselves for parameters
    that act after the last draw.

    Args:
        losses: one for each draw, of shape (n,).
        log_probability: of all that was drawn for each loss, of shape (n,).
        baseline: b, a number or one for each draw.

    Returns:
        A scalar.

    Example:
        >>> log_p = torch.tensor([-1.0, -2.0], requires_grad=True)
        >>> score_function_loss(torch.tensor([3.0, 5.0]), log_p, baseline=4.0).backward()
        >>> log_p.grad
        tensor([-1.,  1.])
    """
    if losses.shape != log_probability.shape:
        raise ValueError(
            f"losses and log_probability must have one shape, not {tuple(losses.shape)} and {tuple(log_probability.shape)}."
        )
    return ((losses.detach() - baseline) * log_probability).sum()


def gumbel_softmax(
    x: Tensor,
    regularisation: Regularisation,
    temperature: float = 0.5,
    hard: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """A smooth draw of the level: Σ_k q_k·w_k, where w is the softmax of (log p_k(x) + G_k)/τ and the G_k are Gumbel draws.

    The largest of the log p_k + G_k is level k with probability p_k(x): the draw of the strategy "random". The softmax at
    temperature τ replaces it by a mixture, and the gradient is that of the mixture. For two levels and logistic noise of
    scale s the mixture is the step smoothed by a logistic law of scale s·τ, at x minus the drawn noise: one noise
    is drawn, another one is averaged.

    Args:
        x: a tensor of floats, of any shape.
        regularisation: a quantiser with a `Noise` that is not Dirac.
        temperature: τ > 0.
        hard: give the drawn level forward, and keep the mixture's gradient ("straight-through Gumbel-softmax").
        generator: of the draws; torch's global one by default.

    Returns:
        A tensor of x's shape, differentiable in x.

    Example:
        >>> r = Regularisation(Quantiser.ternary(), Noise("logistic", std=0.5))
        >>> y = gumbel_softmax(torch.zeros(1000), r, temperature=0.1, hard=True)
        >>> sorted(set(y.tolist()))
        [-1.0, 0.0, 1.0]
    """
    temperature = real(temperature, "temperature", above=0.0)
    p = level_probabilities(x, regularisation)
    possible = p > 0
    log_p = torch.where(possible, torch.log(torch.where(possible, p, 1.0)), -torch.inf)
    u = torch.rand(p.shape, dtype=p.dtype, device=p.device, generator=generator)
    u = u.clamp(torch.finfo(p.dtype).tiny, 1 - torch.finfo(p.dtype).eps / 2)
    noisy = log_p - torch.log(-torch.log(u))
    levels = _constant(regularisation.quantiser.levels, x)
    soft = torch.softmax(noisy / temperature, -1) @ levels
    return soft + (levels[noisy.argmax(-1)] - soft).detach() if hard else soft


def stochastic_rounding(quantiser: Quantiser, generator: torch.Generator | None = None) -> Quantise:
    """Round up or down with chances that give x on average: "random" with uniform noise that is one quantum wide.

    The mean is exactly x between the outer levels, and the slope 1, if levels and thresholds are evenly spaced and the
    thresholds lie halfway between the levels.

    Args:
        quantiser: of even steps and bins.
        generator: of the draws; torch's global one by default.

    Raises:
        ValueError: a quantiser that is not even, or whose thresholds do not round to the nearest level.

    Example:
        >>> rounding = stochastic_rounding(Quantiser.linear(bits=3, quantum=0.5, rounding="nearest"))
        >>> round(rounding(torch.full((100_000,), 0.2)).mean().item(), 2)
        0.2
    """
    levels, thresholds, quantum = quantiser.levels, quantiser.thresholds, float(quantiser.steps[0])
    if not np.allclose(quantiser.steps, quantum) or not np.allclose(thresholds, (levels[:-1] + levels[1:]) / 2):
        raise ValueError(f"stochastic rounding needs even levels with thresholds halfway between them, not {quantiser!r}.")
    return Quantise(quantiser, noise="uniform", strategy="random", std=quantum / 12**0.5, generator=generator)


def _constant(values: np.ndarray, x: Tensor) -> Tensor:
    return torch.tensor(values.tolist(), dtype=x.dtype, device=x.device)


def _noise_of(x: Tensor, regularisation: Regularisation) -> Noise:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError(f"x must be a tensor of floats, not {x!r}.")
    noise = regularisation.noise
    if not isinstance(noise, Noise):
        raise TypeError(f"the regularisation's noise must be a Noise, not {noise!r}.")
    if noise.is_dirac:
        raise ValueError("a Dirac noise draws nothing: its standard deviation must be greater than 0.")
    return noise
