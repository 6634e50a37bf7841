"""Parts of a data set: nested subsets, and folds for cross-validation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from anabook._validate import integer
from anabook.datasets.dataset import ARRAYS, Dataset


def subset(dataset: Dataset, n_train: int, seed: int = 0) -> Dataset:
    """The data set with `n_train` of its training examples; the other parts are kept whole.

    Stratified, and nested: with the same seed a larger subset contains every smaller one.

    Args:
        dataset: a data set.
        n_train: how many, from the number of classes to all.
        seed: of the choice.

    Example:
        >>> from anabook import datasets
        >>> subset(datasets.digits(), 100).x_train.shape
        (100, 8, 8)
    """
    train = np.flatnonzero(dataset.split == 0)
    n_train = integer(n_train, "n_train", minimum=len(dataset.classes), maximum=len(train))
    rng = np.random.default_rng(integer(seed, "seed", minimum=0))
    place = np.empty(len(train))
    labels = dataset.labels[train]
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        place[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
    # Each class is spread evenly over [0, 1]: any first part of the order has the classes' shares.
    chosen = train[np.argsort(place, kind="stable")[:n_train]]
    rows = np.sort(np.concatenate([chosen, np.flatnonzero(dataset.split != 0)]))
    return replace(dataset, **{what: getattr(dataset, what)[rows] for what in ARRAYS})


def folds(dataset: Dataset, n_folds: int = 5, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cross-validation folds of the training part: stratified, and by group where groups are known.

    Args:
        dataset: a data set.
        n_folds: at least 2.
        seed: of the shuffle.

    Returns:
        `n_folds` pairs of row numbers into the training part, (to train on, to validate on), the same on every machine.

    Example:
        >>> from anabook import datasets
        >>> [(len(train), len(held_out)) for train, held_out in folds(datasets.digits(), n_folds=3)]
        [(958, 480), (959, 479), (959, 479)]
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    n_folds = integer(n_folds, "n_folds", minimum=2)
    rows = np.flatnonzero(dataset.split == 0)
    labels, group = dataset.labels[rows], dataset.group[rows]
    by_group = bool((group >= 0).all()) and len(rows) > 0
    splitter = (StratifiedGroupKFold if by_group else StratifiedKFold)(
        n_folds, shuffle=True, random_state=integer(seed, "seed", minimum=0)
    )
    return list(splitter.split(np.zeros(len(rows)), labels, group if by_group else None))
