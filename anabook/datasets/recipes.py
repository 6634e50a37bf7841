"""The recipes: one row for each data set that `anabook data` can put into the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from anabook.datasets import images, speech, standins
from anabook.datasets.dataset import Dataset


@dataclass(frozen=True)
class Recipe:
    """How a data set gets into the store.

    Attributes:
        summary: one line for listings.
        make: (source, note, progress) → Dataset.
        local: what ``--from`` takes; empty for generated data.

    Example:
        >>> RECIPES["svhn-stand-in"].summary
        'stand-in for SVHN: rendered house numbers'
    """

    summary: str
    make: Callable[[Path | None, str, bool], Dataset]
    local: str = ""


RECIPES: dict[str, Recipe] = {
    "cifar10": Recipe(
        "CIFAR-10, 60,000 photographs in ten classes (170 MB to download)",
        lambda source, note, progress: images.cifar10(source, note),
        "cifar-10-python.tar.gz, or the folder cifar-10-batches-py",
    ),
    "svhn": Recipe(
        "SVHN, 99,289 house-number digits (246 MB to download)",
        lambda source, note, progress: images.svhn(source, note),
        "the folder with train_32x32.mat and test_32x32.mat",
    ),
    "gsc12": Recipe(
        "Google Speech Commands, scaled task: 4,890 clips in twelve classes (113 MB to download)",
        lambda source, note, progress: speech.gsc12(source, note, progress),
        "speech_commands_test_set_v0.02.tar.gz, or its folder",
    ),
    "gsc": Recipe(
        "Google Speech Commands v0.02, full task, twelve classes (2.4 GB to download)",
        lambda source, note, progress: speech.gsc(source, note, progress),
        "speech_commands_v0.02.tar.gz, or its folder",
    ),
    "cifar10-stand-in": Recipe(
        "stand-in for CIFAR-10: generated coloured, textured shapes",
        lambda source, note, progress: standins.objects(),
    ),
    "svhn-stand-in": Recipe(
        "stand-in for SVHN: rendered house numbers",
        lambda source, note, progress: standins.house_numbers(),
    ),
    "gsc-stand-in": Recipe(
        "stand-in for Google Speech Commands: synthesised word-like clips",
        lambda source, note, progress: standins.spoken_words(progress=progress),
    ),
}
"""The data sets that can be prepared, by name."""
