"""Networks of quantised layers, their regularisations, and what becomes of these as the noise vanishes.

The quantised network composes affine maps and stair functions (paper, eq. (7)); the regularised one replaces each stair
function by its expectation under that layer's noise (eq. (8), with noise for its regularisations). Layers are counted from 0 at
the input.

Two habits make the answers trustworthy. Quantised values are exact rationals, so "on the threshold" is decided, not
estimated. A regularised value is an exact level plus a small signed residual, so 1 − 10⁻²⁰⁰ and 10⁻³⁹ keep their
digits.

This module is the one to import. Each idea has a file: `quantised_networks` and `layer_noises`, `network_limits`,
`wrong_shares`, `ternary_networks`, `counterexamples` and `witnesses`.
"""

from __future__ import annotations

from anabook.convergence.counterexamples import (
    FLOOR_TERNARY,
    GENERIC,
    NAMES,
    NETWORK_A,
    OSCILLATING,
    TERNARY_ANALOGUE,
    THREE_LAYERS,
    WEIGHT_ON_THRESHOLD,
    ZERO_MEAN,
    Example,
    ScheduleExample,
    chain,
    named,
)
from anabook.convergence.layer_noises import LayerNoise, noises_at
from anabook.convergence.network_limits import Limit, exact_limit, limit
from anabook.convergence.quantised_networks import HEAVISIDE, Layer, Network, Regularised, Trace
from anabook.convergence.ternary_networks import hit_probability, random_ternary, ternary_sum_counts
from anabook.convergence.witnesses import Witness, witness, worst_case
from anabook.convergence.wrong_shares import Share, clopper_pearson, wilson, wrong_share

__all__ = [
    "FLOOR_TERNARY",
    "HEAVISIDE",
    "NAMES",
    "NETWORK_A",
    "OSCILLATING",
    "TERNARY_ANALOGUE",
    "ZERO_MEAN",
    "THREE_LAYERS",
    "GENERIC",
    "WEIGHT_ON_THRESHOLD",
    "Example",
    "Layer",
    "LayerNoise",
    "Limit",
    "Network",
    "Regularised",
    "ScheduleExample",
    "Share",
    "Trace",
    "Witness",
    "chain",
    "clopper_pearson",
    "exact_limit",
    "hit_probability",
    "limit",
    "named",
    "noises_at",
    "random_ternary",
    "ternary_sum_counts",
    "wilson",
    "witness",
    "worst_case",
    "wrong_share",
]
