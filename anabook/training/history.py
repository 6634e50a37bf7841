"""What a run leaves behind, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from anabook.training.objectives import Score


@dataclass(frozen=True)
class Epoch:
    """What one epoch of training left behind.

    Attributes:
        epoch: its number, from 0.
        train: with noise, averaged over the epoch's batches as they were trained on.
        test: without noise, on the test data after the epoch; None if none was given.
        noisy_test: the same with the epoch's noise in the quantisers; None for a network trained without a schedule.
        noise: (mean, std) of each quantised layer during the epoch (at its beginning, if the noise changes with every
            step); empty for a network trained without a schedule.
        lr: the learning rate, that of the optimiser's first group of parameters.
        seconds: wall time of the epoch's training steps, without evaluation. Two epochs that differ here only are equal.
        stopped: how many of the network's parameters were trained without a backward pass at the end of the epoch; not
            compared either.
    """

    epoch: int
    train: Score
    test: Score | None
    noisy_test: Score | None
    noise: tuple[tuple[float, float], ...]
    lr: float
    seconds: float = field(default=math.nan, compare=False)
    stopped: int = field(default=0, compare=False)


def history_table(history: Iterable[Epoch]) -> list[dict[str, float | int | None]]:
    """The history as flat rows of numbers, for `csv.DictWriter`, pandas, or a logger.

    Args:
        history: what `fit` returns; inside a callback, `[epoch]`.

    Returns:
        One dictionary an epoch with the keys epoch, train_loss, train_accuracy, test_loss, test_accuracy,
        noisy_test_loss, noisy_test_accuracy (None where nothing was measured), lr, seconds, stopped, and noise_mean_0,
        noise_std_0, noise_mean_1, … for the layers.

    Example:
        >>> from anabook import datasets, models, training
        >>> history = training.fit(models.mlp(64), datasets.digits().train, None, epochs=1)
        >>> history_table(history)[0]["epoch"]
        0
    """
    rows = []
    for epoch in history:
        row: dict[str, float | int | None] = {"epoch": epoch.epoch}
        for name in ("train", "test", "noisy_test"):
            score = getattr(epoch, name)
            row[f"{name}_loss"] = None if score is None else score.loss
            row[f"{name}_accuracy"] = None if score is None else score.accuracy
        row |= {"lr": epoch.lr, "seconds": epoch.seconds, "stopped": epoch.stopped}
        for layer, (mean, std) in enumerate(epoch.noise):
            row |= {f"noise_mean_{layer}": mean, f"noise_std_{layer}": std}
        rows.append(row)
    return rows


def plain(epoch: Epoch) -> dict[str, Any]:
    """An epoch as a dictionary of numbers and tuples, which any reader of checkpoints knows."""
    scores = {name: None if (s := getattr(epoch, name)) is None else tuple(s) for name in ("train", "test", "noisy_test")}
    return {**asdict(epoch), **scores}


def from_plain(train: Any, test: Any, noisy_test: Any, noise: Any, **rest: Any) -> Epoch:
    # The one NaN, so that an epoch that was read equals the one that was written.
    scores = [None if s is None else Score(*(math.nan if v != v else v for v in s)) for s in (train, test, noisy_test)]
    return Epoch(train=scores[0], test=scores[1], noisy_test=scores[2], noise=tuple(map(tuple, noise)), **rest)
