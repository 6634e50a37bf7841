"""Pictures of ink on paper, painted in colours: the ink always lighter than its ground, or lighter or darker as chance has it."""

from __future__ import annotations

import numpy as np

from anabook._validate import choice, integer

INKS: dict[str, str] = {
    "one": "the ink always lighter than the ground",
    "two": "the ink lighter or darker than the ground, in all channels alike",
}
"""What may be darker in a picture, with what is then said of it."""


def painted(cover: np.ndarray, inks: str = "two", seed: int = 0) -> np.ndarray:
    """Colour pictures, each with a dark and a light colour of its own, of which one is the ink's and the other the ground's.

    In each channel the light colour is brighter than the dark one by 64 to 127 steps of 255. The colours depend on `seed`
    alone, so that pictures in one ink and in two differ in what is darker and in nothing else. Drawn with integers: the same
    bytes on every machine.

    Args:
        cover: shape (n, height, width), uint8: how much of a pixel is ink, from 0 (paper) to 255.
        inks: a key of `INKS`.
        seed: of the colours, and of which of two is the ink.

    Returns:
        uint8, shape (n, 3, height, width).

    Raises:
        TypeError: `cover` is not made of bytes.
        ValueError: `cover` is not a stack of pictures, or `inks` has another name.

    Example:
        >>> cover = np.array([[[0, 255]]] * 4, dtype=np.uint8)  # paper, and ink to its right
        >>> ground, ink = painted(cover, "one").transpose(3, 0, 1, 2).astype(int)
        >>> bool((ink - ground).min() >= 64)
        True
        >>> ground, ink = painted(cover, "two").transpose(3, 0, 1, 2).astype(int)
        >>> (ink > ground).all((1, 2)).tolist()
        [True, False, False, True]
    """
    choice(inks, INKS, "inks")
    cover = np.asarray(cover)
    if cover.dtype != np.uint8:
        raise TypeError(f"cover must be made of bytes (uint8), not {cover.dtype}.")
    if cover.ndim != 3:
        raise ValueError(f"cover must have the shape (n, height, width), not {cover.shape}.")
    rng = np.random.default_rng(integer(seed, "seed", minimum=0))
    dark = rng.integers(0, 128, (len(cover), 3))
    light = dark + rng.integers(64, 128, dark.shape)
    swapped = (rng.integers(0, 2, (len(cover), 1)) == 1) & (inks == "two")
    ground, ink = np.where(swapped, light, dark), np.where(swapped, dark, light)
    share = cover[:, np.newaxis].astype(np.int64)
    mixed = ground[:, :, np.newaxis, np.newaxis] * (255 - share) + ink[:, :, np.newaxis, np.newaxis] * share
    return ((mixed + 127) // 255).astype(np.uint8)
