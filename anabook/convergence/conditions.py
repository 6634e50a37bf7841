"""Theorem 2, decided: do regularised networks converge to the quantised one, for given families and schedules?

A layer's noise has mean α(λ) = −a(λ) and standard deviation β(λ), and λ → 0+. Write F0, T0, Q0 and h0 for the
standardised law's distribution function, upper tail, quantile and half-width of support. A Heaviside layer becomes
σ(s) = F0((s + a)/β), with the generalised inverse σ⁻¹(u) = inf{s : σ(s) ≥ u} = −a + β·Q0(u). The conditions, for
rates r_ℓ(λ) > 0 that tend to 0 and every ε > 0 (numbered as in the paper)::

    (11) a, β → 0: the layer converges off its threshold.    (12) σ(0) → 1: and on it.
    (13) σ is continuous and non-decreasing.                 (14) 0 ≤ σ ≤ 1.
    (15) σ⁻¹(ε r_ℓ) → 0.    (16) σ⁻¹(1 − ε r_ℓ) → 0.         (17) σ⁻¹(1 − ε r_ℓ) < 0 for small λ.
    (18) r_{ℓ−1} = O(−σ⁻¹(1 − ε r_ℓ)) from the second layer on.

The paper says the same of any regularisation of the Heaviside function, in these words: (11) λ_ℓ → 0; (12) σ(s) → H(s)
for every s; (13) strictly increasing, which bounded noise is not, and the generalised inverse does not need; (17)
(1 − σ(0))/r_ℓ → 0; (18) with o in place of O; rates that are continuous and do not fall as λ grows.

So there are two definitions of rates: positive ones, and the paper's, which are non-decreasing as well. Rates that are given
must be the paper's. Rates that are looked for are positive ones: that they exist is sufficient and necessary, while
non-decreasing ones are sufficient only (`networks.OSCILLATING`). The two are the same where all formulas are of the kind of
`orders`: then every error and margin is monotone for small λ, and the rates that are found are non-decreasing. A verdict says
which kind it found (`Verdict.rising`).

Whether *some* rates exist is decided backwards. A layer whose output may err by o(B) tolerates on its threshold an
input that errs by less than its margin::

    uniform (a − √3β)₊ + β·B,  triangular (a − √6β)₊ + β·√B,  normal (β²/a)·ln(B/τ),  logistic β·ln(B/τ),

up to constants, τ = T0(a/β) being its own error there. So B = 1 in the last layer, and the margin of each layer is the
bound B of the one before. Rates exist if and only if every layer errs by o(B), on its threshold and off it; and this is
so if and only if the regularised networks converge for all weights, biases and inputs.

Every decision ends in a stated time. Constants are compared exactly or not at all; formulas that oscillate are decided
between two that do not, or along sequences on which the oscillation stands still.

Quantisers with K levels need no conditions of their own: a unit with K levels is an affine combination of K − 1
Heaviside units with the same weights and other biases, so verdict and rates are the same for any levels.

This module is the one to import. Each idea has a file: `theorem_hypothesis` decides, on `noisy_heavisides` and their
`rates`; `verdicts` say it; `schedule_formulas` and `paper_settings` are what is mostly asked.
"""

from __future__ import annotations

from anabook.convergence.orders import LAMBDA
from anabook.convergence.paper_settings import PaperRow, paper_table
from anabook.convergence.schedule_formulas import as_formulas, log_margin, log_margin_converges, power_law
from anabook.convergence.theorem_hypothesis import check, two_layers
from anabook.convergence.verdicts import CONDITIONS, Finding, Verdict

__all__ = [
    "CONDITIONS",
    "LAMBDA",
    "Finding",
    "PaperRow",
    "Verdict",
    "as_formulas",
    "check",
    "log_margin",
    "log_margin_converges",
    "paper_table",
    "power_law",
    "two_layers",
]
