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
    n = int((dataset.split == 0).sum())
    n_train = integer(n_train, "n_train", minimum=len(dataset.classes), maximum=n)
    rows = np.sort(np.concatenate([_order(dataset, seed)[:n_train], np.flatnonzero(dataset.split != 0)]))
    return replace(dataset, **{what: getattr(dataset, what)[rows] for what in ARRAYS})


def left_out(dataset: Dataset, n_train: int, n: int, seed: int = 0) -> np.ndarray:
    """Row numbers of training examples that `subset` leaves out: at most `n`, stratified, and nested as its own are.

    Where groups are known, those of a speaker or writer who is in the subset do not count.

    Args:
        dataset: the whole data set.
        n_train, seed: as for `subset`.
        n: how many at most.

    Returns:
        Row numbers into all of the data set, ascending.

    Example:
        >>> from anabook import datasets
        >>> len(left_out(datasets.digits(), n_train=1400, n=100))
        38
    """
    n_train = integer(n_train, "n_train", minimum=len(dataset.classes), maximum=int((dataset.split == 0).sum()))
    order = _order(dataset, seed)
    taken, rest = order[:n_train], order[n_train:]
    group = dataset.group
    rest = rest[(group[rest] < 0) | ~np.isin(group[rest], group[taken])]
    return np.sort(rest[: integer(n, "n", minimum=0)])


def _order(dataset: Dataset, seed: int) -> np.ndarray:
    """The training rows in an order of which any first part has the classes' shares."""
    train = np.flatnonzero(dataset.split == 0)
    rng = np.random.default_rng(integer(seed, "seed", minimum=0))
    place = np.empty(len(train))
    labels = dataset.labels[train]
    for label in np.unique(labels):  # each class is spread evenly over [0, 1]
        rows = rng.permutation(np.flatnonzero(labels == label))
        place[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
    return train[np.argsort(place, kind="stable")]


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
