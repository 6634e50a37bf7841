"""Exact regularisations: noise densities as SymPy expressions, and what follows from them by integration.

Only densities are written down here. Distribution functions, regularised quantisers, their derivatives
and the checks of Proposition 1 are derived: SymPy integrates, differentiates and takes limits.

`x`, `alpha` and `beta` are the symbols of all results: position, mean and standard deviation of the noise.
"""

from anabook.noise import Noise as DensityNoise  # a density's noise is one like all others
from anabook.symbolic._convolution import derivative, family, regularise
from anabook.symbolic._density import Density
from anabook.symbolic._expressions import as_numpy
from anabook.symbolic._proposition import Check, Verification, verify_proposition
from anabook.symbolic._symbols import alpha, beta, x
from anabook.symbolic._text import density_of

__all__ = [
    "Check",
    "Density",
    "DensityNoise",
    "Verification",
    "alpha",
    "as_numpy",
    "beta",
    "density_of",
    "derivative",
    "family",
    "regularise",
    "verify_proposition",
    "x",
]
