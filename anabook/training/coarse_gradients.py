"""Coarse and true gradient in a model where both have formulas: two layers, binary activations, normal inputs.

The model is that of Yin et al. (2019): y = vᵀ H(Z w) with m inputs, the independent standard normal rows of Z, learns from a
teacher y* = v*ᵀ H(Z w*) by the loss ½ (y − y*)², averaged over all Z. Here the derivative of the Heaviside function H is
replaced by the density of normal noise with a mean and a standard deviation, as additive noise has it. With ‖w‖ = ‖w*‖ = 1
all depends on the angle θ between w and w* and on v, v*, and both gradients in w lie in the plane of w and w*. They are given by
two numbers: along w, and along the unit vector w⊥ that is perpendicular to w and on the side of w*.

The formulas are derived in the chapter on what annealing optimises.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtr

from anabook._validate import choice, generator, integer, real

FORWARD = ("mode", "expectation")


class InPlane(NamedTuple):
    """A gradient in the plane of student and teacher.

    Attributes:
        along: its component along w; a descent step subtracts it, so a positive one makes w shorter.
        across: its component along w⊥, towards the teacher; negative where descent turns w towards w*.

    Example:
        >>> InPlane(3.0, -4.0).cosine(InPlane(0.0, -1.0))
        0.8
    """

    along: float
    across: float

    def cosine(self, other: InPlane) -> float:
        """Of the angle between two gradients; NaN where one has no length."""
        lengths = math.hypot(*self) * math.hypot(*other)
        return (self.along * other.along + self.across * other.across) / lengths if lengths else math.nan


def true_gradient(v: Any, teacher: Any, angle: float) -> InPlane:
    """Of the population loss without noise: (0, −v·v*/(2π)).

    Args:
        v: weights of the student's units, of shape (m,).
        teacher: v*, of the same shape.
        angle: θ between w and w*, in (0, π).

    Example:
        >>> true_gradient([1.0, 1.0], [1.0, 0.0], angle=0.5).across
        -0.15915494309189535
    """
    v, teacher = _pair(v, teacher)
    _angle(angle)
    return InPlane(0.0, -float(v @ teacher) / (2 * math.pi))


def coarse_gradient(v: Any, teacher: Any, angle: float, std: float, mean: float = 0.0, forward: str = "mode") -> InPlane:
    """The population mean of the gradient that the backward pass gives under normal noise, for ‖w‖ = 1.

    Args:
        v: weights of the student's units, of shape (m,).
        teacher: v*, of the same shape.
        angle: θ between w and w*, in (0, π).
        std: β > 0, of the noise that is subtracted from Z w.
        mean: its mean α; the thresholds of the mode are there.
        forward: "mode", H(Z w − α), or "expectation"; the mean of "random" is the expectation's, as the loss is quadratic.

    Example:
        >>> g = coarse_gradient([1.0, 1.0], [1.0, 0.0], angle=0.5, std=0.01)
        >>> round(g.cosine(true_gradient([1.0, 1.0], [1.0, 0.0], angle=0.5)), 3)
        1.0
    """
    v, teacher = _pair(v, teacher)
    _angle(angle)
    b, a = real(std, "std", above=0.0), real(mean, "mean")
    choice(forward, FORWARD, "forward")
    # The density of s = z·w times that of the noise at s: a constant times a normal density of mean m and variance t2.
    total = 1 + b * b
    weight, m, t2 = _density(a, total), a / total, b * b / total
    if forward == "mode":
        own, active = weight * _half_line(m, t2, a), float(ndtr(-a))
    else:
        own, active = weight * _with_step(m, t2, 1 / b, -a / b), float(ndtr(-a / math.sqrt(total)))
    slope = weight * m  # E[s f(s)]
    taught = weight * _with_step(m, t2, 1 / math.tan(angle), 0.0)
    wide = math.sin(angle) ** 2 + b * b
    across = math.sin(angle) * _density(a, wide) / math.sqrt(2 * math.pi)
    same, pair, sums = float(v @ v), float(v @ teacher), (float(v.sum()), float(teacher.sum()))
    along = same * own + (sums[0] ** 2 - same) * slope * active - pair * taught - (sums[0] * sums[1] - pair) * slope / 2
    return InPlane(along, -pair * across)


def sampled_gradient(
    v: Any,
    teacher: Any,
    angle: float,
    std: float,
    mean: float = 0.0,
    forward: str = "mode",
    n: int = 100_000,
    rng: np.random.Generator | int = 0,
) -> tuple[InPlane, InPlane]:
    """The same by n drawn inputs Z, with the standard errors of both components.

    Example:
        >>> g, error = sampled_gradient([1.0], [1.0], angle=1.0, std=0.5, n=20_000)
        >>> abs(g.across - coarse_gradient([1.0], [1.0], angle=1.0, std=0.5).across) < 4 * error.across
        True
    """
    v, teacher = _pair(v, teacher)
    _angle(angle)
    b, a = real(std, "std", above=0.0), real(mean, "mean")
    choice(forward, FORWARD, "forward")
    s, t = generator(rng).normal(size=(2, integer(n, "n", minimum=2), len(v)))  # Z w and Z w⊥
    output = (s >= a) if forward == "mode" else ndtr((s - a) / b)
    error = output @ v - (s * math.cos(angle) + t * math.sin(angle) >= 0) @ teacher
    slope = v * np.exp(-(((s - a) / b) ** 2) / 2) / (b * math.sqrt(2 * math.pi))
    each = np.stack([error * (slope * s).sum(1), error * (slope * t).sum(1)])
    means, errors = each.mean(1), each.std(1, ddof=1) / math.sqrt(n)
    return InPlane(*map(float, means)), InPlane(*map(float, errors))


def _density(x: float, variance: float) -> float:
    return math.exp(-x * x / (2 * variance)) / math.sqrt(2 * math.pi * variance)


def _half_line(m: float, t2: float, low: float) -> float:
    """E[S; S ≥ low] for S normal with mean m and variance t2."""
    t = math.sqrt(t2)
    return m * float(ndtr((m - low) / t)) + t2 * _density(m - low, t2)


def _with_step(m: float, t2: float, k: float, c: float) -> float:
    """E[S Φ(kS + c)] for S normal with mean m and variance t2, by Stein's lemma E[(S − m) g(S)] = t2·E[g′(S)]."""
    wide = 1 + k * k * t2
    return m * float(ndtr((k * m + c) / math.sqrt(wide))) + t2 * k * _density(k * m + c, wide)


def _pair(v: Any, teacher: Any) -> tuple[np.ndarray, np.ndarray]:
    v, teacher = np.asarray(v, dtype=float), np.asarray(teacher, dtype=float)
    if v.ndim != 1 or v.shape != teacher.shape or not len(v):
        raise ValueError(f"v and teacher must be rows of one length, not of shapes {v.shape} and {teacher.shape}.")
    return v, teacher


def _angle(angle: float) -> None:
    if not 0 < real(angle, "angle") < math.pi:
        raise ValueError(f"angle must lie strictly between 0 and π, not {angle!r}.")
