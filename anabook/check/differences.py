"""How far apart numbers are that should be equal, said so that every machine says the same."""

from __future__ import annotations

from typing import Any

import numpy as np

BOUNDS = ("1e-12", "1e-9", "1e-6", "1e-3")


def below(difference: Any) -> str:
    """A bound for the largest of some differences.

    Rounding errors differ from machine to machine, and so do their last digits in print. A bound in steps of a thousand
    does not, unless a difference lies just at a step.

    Args:
        difference: any number or array of them; signs do not matter.

    Returns:
        "below 1e-12", 1e-9, 1e-6 or 1e-3, whichever is the first that holds; else the largest size to two digits.

    Raises:
        TypeError: for what is not made of numbers.
        ValueError: if there is no number, or one is not finite.

    Example:
        >>> below(0.1 + 0.2 - 0.3)
        'below 1e-12'
        >>> below([2e-7, -4e-5])
        'below 1e-3'
        >>> below(0.25)
        '0.25'
    """
    try:
        sizes = np.abs(np.asarray(difference, dtype=float))
    except (TypeError, ValueError):
        raise TypeError(f"difference must be a number or an array of numbers, not {difference!r}") from None
    if sizes.size == 0:
        raise ValueError("difference must hold at least one number, and holds none")
    largest = float(sizes.max())
    if not np.isfinite(largest):
        raise ValueError(f"difference must be finite, and its largest entry is {largest}")
    return next((f"below {bound}" for bound in BOUNDS if largest < float(bound)), f"{largest:.2g}")
