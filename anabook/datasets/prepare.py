"""Preparing data sets by name: what `anabook data` and readers of the book call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anabook import _files
from anabook._validate import choice, did_you_mean
from anabook._validate import path as path_at
from anabook.datasets import folders
from anabook.datasets.dataset import Dataset, DatasetError
from anabook.datasets.recipes import RECIPES, Recipe
from anabook.datasets.store import path_of, save

__all__ = ["RECIPES", "Recipe", "prepare"]


TAKEN = frozenset({*RECIPES, "digits"})
"""Names that a data set of one's own cannot have."""


def prepare(name: str, source: str | Path | None = None, note: str = "", progress: bool = False, **options: Any) -> Dataset:
    """Prepare a data set and put it into the store.

    Args:
        name: a key of `RECIPES`; or a new name, for images of one's own.
        source: an archive or folder already on disk; None downloads or generates the data. For a new name: a folder of
            images by class, see `folders.from_folder`.
        note: what to say about local files in the provenance.
        progress: draw progress bars on a terminal.
        options: of `folders.from_folder`.

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
    if isinstance(name, str) and name not in RECIPES and (source is not None or name in TAKEN):
        return _own(name, source, note, options)
    try:
        recipe = RECIPES[choice(name, RECIPES, "the data set")]
    except ValueError as error:
        raise ValueError(f"{error} For images of your own, in a folder for each class, add --from FOLDER.") from None
    if options:
        what = "--" + next(iter(options)).replace("_", "-")
        raise DatasetError(f"{what} is for images of your own, and {name!r} is a data set of the book: choose another name.")
    if source is not None and not recipe.local:
        raise DatasetError(f"{name!r} is generated, so it takes no files: leave out --from.")
    if source is not None:
        source = path_at(source, "source")
    _check_writable(name)
    try:
        dataset = recipe.make(source, note, progress)
    except DatasetError as error:
        if source is None or not folders.holds_classes(source):
            raise
        raise DatasetError(f"{error} For images of your own in folders by class, choose another name.") from error
    save(dataset)
    return dataset


def _own(name: str, source: str | Path | None, note: str, options: dict[str, Any]) -> Dataset:
    folders.check_name(name, TAKEN)
    source = path_at(source, "source")
    if not source.is_dir() and (near := did_you_mean(name, RECIPES)):
        raise DatasetError(f"{str(source)!r} is no folder of images by class, and there is no data set {name!r}{near}.")
    _check_writable(name)
    dataset = folders.from_folder(name, source, note=note, **options)
    save(dataset)
    return dataset


def _check_writable(name: str) -> None:
    """Find out before the download, not after it."""
    folder = path_of(name).parent
    try:
        _files.try_to_write(folder)
    except OSError as error:
        raise DatasetError(f"cannot write to the store {folder}: {error.strerror or error}.") from error
