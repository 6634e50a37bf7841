"""The examples of a run: those that it trains on, those that it is measured on, and the training examples left over."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from anabook.datasets import splits, store
from anabook.datasets.batches import Batches, statistics
from anabook.experiments.config import Config

_EVALUATION = 1000


class Parts(NamedTuple):
    """What a run needs of its data set.

    Attributes:
        train: shuffled and augmented, as the config says.
        held_out: the fold, or the official test set.
        unused: training examples outside of all folds; None where the config asks for none, or none are left over.
        provenance: of the data set, for the record.

    Example:
        >>> from anabook.datasets import standins
        >>> from anabook.experiments import make
        >>> stored = store.save(standins.objects(n_train=150, n_test=20))
        >>> parts(make("cifar10-stand-in", "float", n_train=100, unused=30)).examples
        {'training': 80, 'held_out': 20, 'unused': 30}
    """

    train: Batches
    held_out: Batches
    unused: Batches | None
    provenance: dict[str, Any]

    @property
    def examples(self) -> dict[str, int]:
        """How many there are of each."""
        found = {"training": self.train, "held_out": self.held_out, "unused": self.unused}
        return {name: len(part.labels) for name, part in found.items() if part is not None}


def parts(config: Config, device: str = "cpu") -> Parts:
    """The examples of a run, on a device.

    Raises:
        NotPrepared: the data set is not in the store.
        ValueError: it has fewer training examples than the config takes, or no test set where that is asked for.

    Example:
        >>> from anabook.datasets import standins
        >>> from anabook.experiments import make
        >>> stored = store.save(standins.objects(n_train=100, n_test=20))
        >>> len(parts(make("cifar10-stand-in", "float", fold=None, n_train=100)).held_out.labels)
        20
    """
    path = store.path_of(config.data)
    stamp = path.stat().st_mtime_ns if path.is_file() else 0
    train, held_out, mean, std, provenance = _arrays(
        config.data, config.shrink, config.n_train, config.n_folds, config.fold, stamp
    )
    unused = _unused(config.data, config.shrink, config.n_train, config.unused, stamp)
    batches = Batches(
        *train,
        config.batch_size,
        mean,
        std,
        config.augmentation,
        shuffle=True,
        seed=config.start,
        device=device,
        reach=4 // config.shrink,
    )
    measured = [
        None if part is None else Batches(*part, _EVALUATION, mean, std, device=device) for part in (held_out, unused)
    ]
    return Parts(batches, measured[0], measured[1], provenance)


@lru_cache(maxsize=2)
def _arrays(data: str, shrink: int, n_train: int, n_folds: int, fold: int | None, stamp: int) -> tuple:
    """Inputs and labels to train on and to measure on; `stamp` makes a data set that was prepared anew a new one."""
    dataset = store.load(data)
    if n_train:
        if n_train > int((dataset.split == 0).sum()):
            raise ValueError(f"n_train is {n_train}, but {data!r} has {int((dataset.split == 0).sum())} training examples.")
        dataset = splits.subset(dataset, n_train)
    x, y = dataset.train
    if fold is None:
        train, held_out = (x, y), dataset.test
        if not len(held_out[1]):
            raise ValueError(f"{data!r} has no official test set: its folds are all there is.")
    else:
        rows, others = splits.folds(dataset, n_folds)[fold]
        train, held_out = (x[rows], y[rows]), (x[others], y[others])
    mean, std = statistics(train[0])
    small = [_shrunk(part[0], shrink) for part in (train, held_out)]
    if shrink > 1:
        mean, std = statistics(small[0])
    provenance = {
        "title": dataset.title,
        "kind": dataset.provenance.kind,
        "source": dataset.provenance.source,
        "note": dataset.provenance.note,
        "sha256": store.describe(data)["sha256"]["inputs"][:16],
    }
    return (small[0], train[1]), (small[1], held_out[1]), mean, std, provenance


@lru_cache(maxsize=1)
def _unused(data: str, shrink: int, n_train: int, n: int, stamp: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Inputs and labels of training examples that are in no fold; the same for all of them."""
    if not (n_train and n):
        return None
    dataset = store.load(data)
    rows = splits.left_out(dataset, n_train, n)
    return (_shrunk(dataset.inputs[rows], shrink), dataset.labels[rows]) if len(rows) else None


def _shrunk(x: np.ndarray, by: int) -> np.ndarray:
    """Images averaged over blocks of by × by pixels."""
    if by == 1:
        return x
    n, channels, height, width = x.shape
    return x.reshape(n, channels, height // by, by, width // by, by).mean((3, 5), dtype=np.float32)
