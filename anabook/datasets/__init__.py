"""Data sets, as arrays with their provenance. Nothing here reaches for the network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anabook._validate import integer, real


@dataclass(frozen=True)
class Dataset:
    """Inputs and labels, split into a training and a test part.

    Attributes:
        name: short name.
        x_train, x_test: inputs, float32; the first axis counts the examples.
        y_train, y_test: class labels, int64.
        classes: the classes' names, in the order of their labels.
        provenance: where the data come from, their size, licence, how to cite them, and how they were split.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...]
    provenance: str

    @property
    def train(self) -> tuple[np.ndarray, np.ndarray]:
        """The training inputs and labels."""
        return self.x_train, self.y_train

    @property
    def test(self) -> tuple[np.ndarray, np.ndarray]:
        """The test inputs and labels."""
        return self.x_test, self.y_test

    def __repr__(self) -> str:
        shape = "×".join(map(str, self.x_train.shape[1:]))
        return (f"Dataset({self.name!r}: {len(self.x_train)} training and {len(self.x_test)} test examples of shape "
                f"{shape}, {len(self.classes)} classes)")


_DIGITS = """\
Optical recognition of handwritten digits: {n} scanned digits of 8×8 pixels with 17 grey levels, the part that
scikit-learn ships (sklearn.datasets.load_digits). E. Alpaydin and C. Kaynak (1998), UCI Machine Learning Repository,
doi:10.24432/C50P49, licence CC BY 4.0. Each pixel counts the inked dots, 0 to 16, of a 4×4 block of the 32×32 scan;
here it is divided by 16. Split at random within each class (seed {seed}): {n_train} to train on, {n_test} to test. The
files do not say who wrote which digit, so a writer may be in both parts."""


def digits(test_fraction: float = 0.2, seed: int = 0) -> Dataset:
    """Scikit-learn's bundled handwritten digits: real, small, and there without a network.

    Args:
        test_fraction: the part of each class to hold out, strictly between 0 and 1 (rounded to whole examples).
        seed: of the split, which is the same on every machine.

    Returns:
        A `Dataset` of 1797 images, inputs of shape (n, 8, 8) between 0 (paper) and 1 (ink).

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
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
            "(or pip install scikit-learn).", name="sklearn"
        ) from None
    bunch = load_digits()
    x, y = (bunch.images / 16).astype(np.float32), bunch.target.astype(np.int64)
    train, test = _stratified(y, fraction, seed)
    provenance = _DIGITS.format(n=len(y), seed=seed, n_train=len(train), n_test=len(test))
    return Dataset("digits", x[train], y[train], x[test], y[test], tuple(map(str, bunch.target_names)), provenance)


def _stratified(y: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of a training and a test part with the same share of each class, both in ascending order."""
    rng = np.random.default_rng(seed)
    test = []
    for label in np.unique(y):
        members = rng.permutation(np.flatnonzero(y == label))
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        test.append(members[:count])
    held_out = np.sort(np.concatenate(test))
    return np.setdiff1d(np.arange(len(y)), held_out), held_out
