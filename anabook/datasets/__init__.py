"""Data sets as arrays with their provenance. Nothing here reaches for the network unless asked to prepare one."""

from __future__ import annotations

import numpy as np

from anabook._validate import integer, real
from anabook.datasets.dataset import Dataset, DatasetError, NotPrepared, Provenance
from anabook.datasets.splits import folds, subset
from anabook.datasets.store import load, names

__all__ = ["Dataset", "DatasetError", "NotPrepared", "Provenance", "digits", "folds", "load", "names", "subset"]


def digits(test_fraction: float = 0.2, seed: int = 0) -> Dataset:
    """Scikit-learn's bundled handwritten digits: real, small, and there without a network.

    Args:
        test_fraction: the part of each class to hold out, strictly between 0 and 1 (rounded to whole examples).
        seed: of the split, which is the same on every machine.

    Returns:
        A `Dataset` of 1797 images, inputs of shape (n, 8, 8) between 0 (paper) and 1 (ink), float32.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.

    Example:
        >>> digits()
        Dataset('digits': 1438 train, 359 test examples of shape 8×8, 10 classes)
    """
    fraction = real(test_fraction, "test_fraction")
    if not 0 < fraction < 1:
        raise ValueError(f"test_fraction must lie strictly between 0 and 1, not {fraction!r}.")
    seed = integer(seed, "seed", minimum=0)
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "sklearn":
            raise
        raise ModuleNotFoundError(
            "the digits come with scikit-learn, which is not installed: pip install 'anabook[training]' "
            "(or pip install scikit-learn).",
            name="sklearn",
        ) from None
    bunch = load_digits()
    rows, n_train = _stratified(bunch.target, fraction, seed)
    split = np.where(np.arange(len(rows)) < n_train, 0, 2).astype(np.uint8)
    provenance = Provenance(
        kind="official",
        source="optical recognition of handwritten digits, the 1797 scans of 8×8 pixels that scikit-learn ships",
        licence="CC BY 4.0",
        citation="E. Alpaydin and C. Kaynak (1998), UCI Machine Learning Repository, doi:10.24432/C50P49",
        parameters={"seed of the split": seed, "training": n_train, "test": len(rows) - n_train},
        note=(
            "each pixel counts the inked dots of a 4×4 block of the scan, divided by 16; split at random within each "
            "class; the files do not say who wrote which digit, so a writer may be in both parts"
        ),
    )
    return Dataset(
        "digits",
        (bunch.images[rows] / 16).astype(np.float32),
        bunch.target[rows].astype(np.int64),
        split,
        np.full(len(rows), -1),
        tuple(map(str, bunch.target_names)),
        provenance,
    )


def _stratified(y: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, int]:
    """Row numbers, those to train on first, each part in ascending order and with the same share of each class."""
    rng = np.random.default_rng(seed)
    test = []
    for label in np.unique(y):
        members = rng.permutation(np.flatnonzero(y == label))
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        test.append(members[:count])
    held_out = np.sort(np.concatenate(test))
    train = np.setdiff1d(np.arange(len(y)), held_out)
    return np.concatenate([train, held_out]), len(train)
