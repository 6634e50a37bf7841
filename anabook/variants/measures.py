"""The laws that variants are made of, in natural units; not every one is a probability's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from anabook.laws import FAMILIES, Decay, Edge, Law, Power, bell, box, box_mass, sech2, symmetric, tent, tent_tail
from anabook.namespaces import teeth


def _comb(t: Any, m: Any, pieces: Any, spacing: Any) -> Any:
    return m.where(m.on_teeth(t, pieces, spacing), m.full_like(t, m.one / pieces), 0 * m.one)


def _comb_primitive(t: Any, m: Any, pieces: Any, spacing: Any) -> Any:
    length = teeth(pieces, spacing)
    u = m.minimum(m.maximum(t + length / 2, 0), length)
    whole = m.floor(u / spacing)
    return (whole + m.minimum(u - spacing * whole, 1)) / pieces


def _comb_kinks(pieces: float, spacing: float) -> tuple[float, ...]:
    centres = (np.arange(round(pieces)) - (pieces - 1) / 2) * spacing
    return tuple(np.sort(np.concatenate([centres - 0.5, centres + 0.5])).tolist())


def _cut_pareto_std(cut: float) -> float:
    return math.sqrt((cut - 2 * math.log1p(cut) + cut / (1 + cut)) / (cut / (1 + cut)))


def _cut_pareto_primitive(t: Any, m: Any, cut: Any) -> Any:
    gone = m.minimum(m.abs(t), cut)
    half, part = cut / (1 + cut), gone / (1 + gone)
    return m.where(t < 0, half - part, half + part)


def _pareto_std(exponent: float) -> float:
    return math.sqrt(2 / ((exponent - 1) * (exponent - 2))) if exponent > 2 else math.inf


def _mexican_hat(t: Any, m: Any, dip: Any, spread: Any, bell: Callable[[Any, Any], Any], power: int) -> Any:
    """(1 + dip)·bell − dip·(two wider bells at ±1); `power` 1 for densities, 0 for primitives."""
    factor = dip / spread**power
    return (1 + dip) * bell(t, m) - factor * bell((t - 1) / spread, m) - factor * bell((t + 1) / spread, m)


def _harmonics(t: Any, m: Any, terms: int, wave: Callable[[Any], Any], power: int) -> Any:
    return sum(wave((2 * i - 1) * 2 * m.pi * t) / (2 * i - 1) ** power for i in range(1, terms))


def _normal_mass(t: Any, m: Any) -> Any:
    return m.ndtr(t)


def _laplace_tail(t: Any, m: Any) -> Any:
    return m.exp(-m.abs(t)) / 2


def _pareto_tail(t: Any, m: Any, exponent: Any) -> Any:
    return (1 + m.abs(t)) ** (-exponent) / 2


def _beyond_cut(t: Any, m: Any, cut: Any) -> Any:
    return 1 / (1 + m.abs(t)) - 1 / (1 + cut)


def _steps(t: Any, m: Any, left: Any, right: Any) -> Any:
    return m.where(t < 0, m.full_like(t, left * m.one), right * m.one)


def _signed_log(t: Any, m: Any, size: Any) -> Any:
    return m.where(t < 0, -m.log1p(size), m.log1p(size))


LAWS: Mapping[str, Law] = MappingProxyType(
    {
        law.name: law
        for law in (
            Law(
                "uniform",
                lambda t, m: box(t, m, m.one),
                lambda t, m: box_mass(t, m, m.one),
                lower_quantile=lambda u, m: 2 * u - 1,
                std=1 / math.sqrt(3),
                support=(-1, 1),
                ends=Edge(1, 0.5),
                kinks=(-1, 1),
                reach=1.6,
                log_concave=True,
                peaked=False,
            ),
            Law(
                "triangular",
                lambda t, m: tent(t, m, 1, 1),
                lambda t, m: symmetric(t, m, tent_tail(t, m, 1, 1)),
                lower_quantile=lambda u, m: m.sqrt(2 * u) - 1,
                far=lambda t, m: tent_tail(t, m, 1, 1),
                std=1 / math.sqrt(6),
                support=(-1, 1),
                ends=Edge(2, 0.5),
                kinks=(-1, 0, 1),
                reach=1.6,
                log_concave=True,
            ),
            FAMILIES["normal"],
            Law(
                "logistic",
                sech2,
                lambda t, m: m.expit(t),
                lower_quantile=lambda u, m: m.log(u) - m.log1p(-u),
                ends=Decay(1, 1),
                std=math.pi / math.sqrt(3),
                reach=6,
                log_concave=True,
            ),
            Law(
                "laplace",
                lambda t, m: m.exp(-m.abs(t)) / 2,
                lambda t, m: symmetric(t, m, _laplace_tail(t, m)),
                lower_quantile=lambda u, m: m.log(2 * u),
                far=_laplace_tail,
                ends=lambda m: Decay(1, 1, 0, m.one / 2),
                std=math.sqrt(2),
                kinks=(0,),
                reach=5,
                log_concave=True,
            ),
            Law(
                "cauchy",
                lambda t, m: 1 / (m.pi * (1 + t * t)),
                lambda t, m: m.half_turn(t) / m.pi,
                lower_quantile=lambda u, m: -m.cos(m.pi * u) / m.sin(m.pi * u),
                ends=lambda m: Power(1, 1 / m.pi),
                mean=math.nan,
                std=math.nan,
                reach=6,
            ),
            Law(
                "two-sided Pareto",
                lambda t, m, exponent: exponent / (2 * (1 + m.abs(t)) ** (exponent + 1)),
                lambda t, m, exponent: symmetric(t, m, _pareto_tail(t, m, exponent)),
                lower_quantile=lambda u, m, exponent: 1 - (2 * u) ** (-1 / exponent),
                far=_pareto_tail,
                ends=lambda m, exponent: Power(exponent, m.one / 2),
                mean=lambda exponent: 0.0 if exponent > 1 else math.nan,
                std=lambda exponent: _pareto_std(exponent) if exponent > 1 else math.nan,
                kinks=(0,),
                reach=6,
            ),
            Law(
                "cut Pareto",
                lambda t, m, cut: m.inside(t, cut, (1 + m.abs(t)) ** -2, 0 * m.one),
                _cut_pareto_primitive,
                far=lambda t, m, cut: m.ramp(_beyond_cut(t, m, cut)),
                ends=lambda m, cut: Edge(1, (1 + cut) ** -2),
                mass=lambda cut: 2 * cut / (1 + cut),
                std=_cut_pareto_std,
                support=lambda m, cut: (-cut, cut),
                kinks=lambda cut: (-cut, 0, cut),
                reach=lambda cut: 1.3 * cut,
            ),
            Law(
                "one-sided Pareto",
                lambda t, m, start: m.where(t > start, (1 + m.abs(t)) ** -2, 0 * m.one),
                lambda t, m, start: m.where(t > start, 1 / (1 + start) - 1 / (1 + m.abs(t)), 0 * m.one),
                survival=lambda t, m, start: 1 / (1 + m.maximum(t, start)),
                ends=lambda m, start: (Edge(1, (1 + start) ** -2), Power(1)),
                mass=lambda start: 1 / (1 + start),
                mean=math.inf,
                std=math.nan,
                support=lambda m, start: (start, math.inf),
                kinks=lambda start: (start,),
                symmetric=False,
                reach=lambda start: 3 * start + 3,
            ),
            Law(
                "comb",
                _comb,
                _comb_primitive,
                ends=lambda m, pieces, spacing: Edge(1, m.one / pieces),
                std=lambda pieces, spacing: math.sqrt((1 + spacing**2 * (pieces**2 - 1)) / 12),
                support=lambda m, pieces, spacing: (-teeth(pieces, spacing) / 2, teeth(pieces, spacing) / 2),
                kinks=_comb_kinks,
                peaked=False,
                reach=lambda pieces, spacing: 0.6 * teeth(pieces, spacing),
            ),
            Law(
                "swish",
                lambda t, m: sech2(t, m) * (2 - t * m.tanh(t / 2)),
                lambda t, m: m.expit(t) * (1 + t * m.expit(-t)),
                mean=math.nan,
                std=math.nan,
                signed=True,
                reach=8,
            ),
            Law(
                "hat",
                lambda t, m, dip, spread: _mexican_hat(t, m, dip, spread, bell, 1),
                lambda t, m, dip, spread: _mexican_hat(t, m, dip, spread, _normal_mass, 0),
                mass=lambda dip, spread: 1 - dip,
                mean=math.nan,
                std=math.nan,
                signed=lambda dip, spread: dip > 0,
                reach=lambda dip, spread: 2.5 * spread,
            ),
            Law(
                "square wave",
                lambda t, m, terms: 4 * _harmonics(t, m, terms, m.cos, 0),
                lambda t, m, terms: m.one / 2 + 2 / m.pi * _harmonics(t, m, terms, m.sin, 1),
                mass=math.nan,
                mean=math.nan,
                std=math.nan,
                signed=True,
                unbounded=True,
                reach=1.0,
            ),
            Law(
                "constant",
                lambda t, m: m.full_like(t, m.one),
                lambda t, m: t,
                mass=math.inf,
                mean=math.nan,
                std=math.nan,
                unbounded=True,
                reach=1.5,
            ),
            Law(
                "two slopes",
                _steps,
                lambda t, m, left, right: m.where(t < 0, left * t, right * t),
                mass=lambda left, right: math.nan if left * right < 0 else math.copysign(math.inf, left + right),
                mean=math.nan,
                std=math.nan,
                kinks=(0,),
                symmetric=False,
                signed=lambda left, right: min(left, right) < 0,
                unbounded=lambda left, right: left != 0,
                reach=1.5,
            ),
            Law(
                "plateau",
                lambda t, m, leak: m.inside(t, 1, m.full_like(t, m.one / 2), leak * m.one),
                lambda t, m, leak: (
                    m.one / 2 + m.maximum(m.minimum(t, 1), -1) / 2 + leak * (m.maximum(t - 1, 0) + m.minimum(t + 1, 0))
                ),
                mass=lambda leak: math.inf if leak > 0 else 1.0,
                mean=lambda leak: math.nan if leak > 0 else 0.0,
                std=lambda leak: math.nan if leak > 0 else 1 / math.sqrt(3),
                kinks=(-1, 1),
                unbounded=lambda leak: leak > 0,
                reach=2.5,
            ),
            Law(
                "reciprocal",
                lambda t, m: 1 / (1 + m.abs(t)),
                lambda t, m: _signed_log(t, m, m.abs(t)),
                mass=math.inf,
                mean=math.nan,
                std=math.nan,
                kinks=(0,),
                unbounded=True,
                reach=6,
            ),
            Law(
                "capped reciprocal",
                lambda t, m: 1 / m.maximum(m.abs(t), 1),
                lambda t, m: (
                    m.maximum(m.minimum(t, 1), -1)
                    + m.where(t < 0, m.full_like(t, -m.one), m.one) * m.log1p(m.maximum(m.abs(t), 1) - 1)
                ),
                mass=math.inf,
                mean=math.nan,
                std=math.nan,
                kinks=(-1, 1),
                unbounded=True,
                reach=4,
            ),
            Law(
                "logarithmic tail",
                lambda t, m, leak: m.where(t < 0, leak * m.one, 1 / m.maximum(t, 1)),
                lambda t, m, leak: leak * m.minimum(t, 0) + m.maximum(m.minimum(t, 1), 0) + m.log1p(m.maximum(t, 1) - 1),
                mass=math.inf,
                mean=math.nan,
                std=math.nan,
                kinks=(0, 1),
                symmetric=False,
                unbounded=lambda leak: leak > 0,
                reach=4,
            ),
            Law(
                "sigmoid and reciprocal",
                lambda t, m, alpha, beta: m.where(t < 0, sech2(t, m, alpha), beta / (1 + m.abs(t))),
                lambda t, m, alpha, beta: m.where(t < 0, m.expit(alpha * t), m.one / 2 + beta * m.log1p(m.abs(t))),
                mass=math.inf,
                mean=math.nan,
                std=math.nan,
                kinks=(0,),
                symmetric=False,
                reach=3,
            ),
        )
    }
)
"""The laws of the zoo by name, in natural units: variants are made of them by shift, scale and weight."""
