"""Preparing data sets by name: what `anabook data` and readers of the book call."""

from __future__ import annotations

from pathlib import Path

from anabook import _files
from anabook._validate import choice
from anabook._validate import path as path_at
from anabook.datasets.dataset import Dataset, DatasetError
from anabook.datasets.recipes import RECIPES, Recipe
from anabook.datasets.store import path_of, save

__all__ = ["RECIPES", "Recipe", "prepare"]


def prepare(name: str, source: str | Path | None = None, note: str = "", progress: bool = False) -> Dataset:
    """Prepare a data set and put it into the store.

    Args:
        name: a key of `RECIPES`.
        source: an archive or folder already on disk; None downloads or generates the data.
        note: what to say about local files in the provenance.
        progress: draw progress bars on a terminal.

    Returns:
        The `Dataset`, also in the store.

    Raises:
        ValueError: an unknown name.
        DatasetError: whatever goes wrong with downloads, files or the store, in one sentence.

    Example:
        >>> from anabook.datasets import DatasetError
        >>> try:
        ...     prepare("svhn-stand-in", source="train_32x32.mat")
        ... except DatasetError as error:
        ...     print(error)
        ...
        'svhn-stand-in' is generated, so it takes no files: leave out --from.
    """
    recipe = RECIPES[choice(name, RECIPES, "the data set")]
    if source is not None and not recipe.local:
        raise DatasetError(f"{name!r} is generated, so it takes no files: leave out --from.")
    if source is not None:
        source = path_at(source, "source")
    _check_writable(name)
    dataset = recipe.make(source, note, progress)
    save(dataset)
    return dataset


def _check_writable(name: str) -> None:
    """Find out before the download, not after it."""
    folder = path_of(name).parent
    try:
        _files.try_to_write(folder)
    except OSError as error:
        raise DatasetError(f"cannot write to the store {folder}: {error.strerror or error}.") from error
