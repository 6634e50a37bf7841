"""Densities in rational numbers, for properties that are checked in exact arithmetic."""

from fractions import Fraction

from hypothesis import strategies as st


@st.composite
def histograms(draw, points):
    """A density of bounded variation, made of boxes between points: (edges, heights), in rational numbers, of mass 1."""
    edges = sorted(draw(st.sets(points, min_size=3, max_size=6)))
    weights = draw(st.lists(st.integers(0, 9), min_size=len(edges) - 1, max_size=len(edges) - 1).filter(any))
    mass = sum(w * (b - a) for w, a, b in zip(weights, edges, edges[1:]))
    return edges, [Fraction(w) / mass for w in weights]
