"""The zoo: published straight-through estimators and surrogate gradients, as data.

A straight-through estimator (STE) quantises in the forward pass and multiplies by some function g in the backward
pass. It is a choice of noise: g(x) = Σ_k Δ_k f(x − θ_k), with the quantiser's steps Δ_k and thresholds θ_k and the
density f of a measure. That operation is written once, in `Variant.gradient` and `Variant.surrogate`. What differs from
paper to paper is data: a name, a density, a reference. Densities that differ by shift, scale and mass share one
`anabook.laws.Law`.

Not every density is a probability's: some have another total mass, some are negative in places, some have infinite
mass.
"""

from anabook.laws import Law
from anabook.namespaces import NUMPY as NUMPY_OPS
from anabook.noise import Noise as VariantNoise  # a variant's noise is one like all others
from anabook.variants.catalogue import VARIANTS, UnknownVariant, Zoo, clipped_identity
from anabook.variants.measures import LAWS
from anabook.variants.references import REFERENCES
from anabook.variants.tables import VariantTable, table
from anabook.variants.variant import KINDS, Library, Parameter, Placement, Reference, Variant

__all__ = [
    "KINDS",
    "LAWS",
    "Law",
    "Library",
    "NUMPY_OPS",
    "Parameter",
    "Placement",
    "REFERENCES",
    "Reference",
    "VariantTable",
    "UnknownVariant",
    "VARIANTS",
    "Variant",
    "VariantNoise",
    "Zoo",
    "clipped_identity",
    "table",
]
