"""`anabook.check.below`: a bound that is the same on every machine."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from anabook.check import below


@pytest.mark.parametrize("step", [1e-12, 1e-9, 1e-6, 1e-3])
def test_a_bound_holds_and_is_the_first_that_does(step):
    for size in (step / 2, -step / 2, np.array([0.0, -step / 900, step / 2])):
        assert below(size) == f"below {step:.0e}".replace("e-0", "e-")
    assert below(step * 1.01) != f"below {step:.0e}".replace("e-0", "e-")


def test_no_difference_is_below_the_smallest_bound():
    assert below(0) == below([[0.0, -0.0]]) == below(1e-300) == below(Fraction(0)) == "below 1e-12"


def test_a_difference_that_matters_is_told():
    assert below([0.1, -0.3721]) == "0.37"
    assert below(40) == "40"


@pytest.mark.parametrize("wrong", [[], np.zeros((0, 3)), np.nan, None, [1.0, np.inf]])
def test_what_bounds_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match="^difference must "):
        below(wrong)


@pytest.mark.parametrize("wrong", ["none", [1.0, "x"], [[1.0], [1.0, 2.0]]])
def test_what_is_no_number_is_refused(wrong):
    with pytest.raises(TypeError, match="^difference must be a number or an array of numbers, not "):
        below(wrong)
