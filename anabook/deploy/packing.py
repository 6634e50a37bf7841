"""Small whole numbers packed into bytes: five ternary digits a byte, two of four bits."""

from __future__ import annotations

import numpy as np

MOST = 16
"""Up to so many different values are packed: that many fit twice into a byte."""


def per_byte(base: int) -> int:
    """How many digits to a base fit into a byte: 5 to the base 3.

    Example:
        >>> [per_byte(base) for base in (2, 3, 4, 16)]
        [8, 5, 4, 2]
    """
    if not 2 <= base <= 256:
        raise ValueError(f"a base must be from 2 to 256, not {base}")
    count = 1
    while base ** (count + 1) <= 256:
        count += 1
    return count


def pack(digits: np.ndarray, base: int) -> np.ndarray:
    """Digits to a base, as many in each byte as fit, the first one the least significant.

    Args:
        digits: whole numbers from 0 to base − 1, of any shape.
        base: from 2 to 256.

    Example:
        >>> pack(np.array([2, 1, 0, 0, 1, 2]), base=3).tolist()
        [86, 2]
    """
    count = per_byte(base)
    flat = np.zeros(-(-digits.size // count) * count, np.int64)
    flat[: digits.size] = digits.ravel()
    return (flat.reshape(-1, count) @ base ** np.arange(count)).astype(np.uint8)


def unpack(packed: np.ndarray, base: int, n: int) -> np.ndarray:
    """The first `n` digits of what `pack` made, as a flat array of integers.

    Raises:
        ValueError: there are not that many, or the bytes are no digits to this base.

    Example:
        >>> unpack(np.array([86, 2], np.uint8), base=3, n=6).tolist()
        [2, 1, 0, 0, 1, 2]
    """
    count = per_byte(base)
    if len(packed) != -(-n // count) or (packed.size and int(packed.max()) >= base**count):
        raise ValueError(f"{len(packed)} bytes do not hold {n} digits to the base {base}")
    return (packed[:, np.newaxis].astype(np.int64) // base ** np.arange(count) % base).ravel()[:n]
