"""The store: each data set is prepared once into one `.npz` file, with its provenance, and read from there ever after."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import struct
import time
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import MISSING, asdict, fields
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from anabook import _files
from anabook._validate import did_you_mean, reason
from anabook._validate import path as path_at
from anabook.datasets.dataset import (
    ARRAYS,
    AUGMENTATIONS,
    KINDS,
    SPLITS,
    Dataset,
    DatasetError,
    NotPrepared,
    Provenance,
)
from anabook.datasets.recipes import RECIPES
from anabook.datasets.splits import folds, subset

__all__ = [
    "AUGMENTATIONS",
    "KINDS",
    "SPLITS",
    "Dataset",
    "DatasetError",
    "NotPrepared",
    "Provenance",
    "describe",
    "directory",
    "folds",
    "load",
    "names",
    "path_of",
    "project",
    "save",
    "subset",
    "verify",
]

_VERSIONED = ("numpy", "scipy", "torchvision", "librosa", "anabook")


def directory() -> Path:
    """The store's folder: the environment variable ANABOOK_DATA, or `data/cache` in the working folder's project.

    Example:
        >>> import os
        >>> directory() == Path(os.environ["ANABOOK_DATA"])
        True
    """
    named = os.environ.get("ANABOOK_DATA")
    if named:
        return path_at(named, "the environment variable ANABOOK_DATA")
    return project() / "data" / "cache"


def project() -> Path:
    """The folder of the working folder's project: the nearest one with a pyproject.toml and a folder `data`; else itself.

    Example:
        >>> project() == Path.cwd().resolve()
        True
    """
    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        if (folder / "pyproject.toml").is_file() and (folder / "data").is_dir():
            return folder
    return here


def path_of(name: str) -> Path:
    """The file of a data set in the store, there or not.

    Example:
        >>> path_of("svhn").name
        'svhn.npz'
    """
    return directory() / f"{name}.npz"


def names() -> list[str]:
    """The data sets in the store, by their files' names; damaged ones too. Folders and hidden files are none.

    Raises:
        DatasetError: the store is there, but is no folder that can be read.

    Example:
        >>> from anabook import datasets
        >>> names()
        []
        >>> path = save(datasets.digits())
        >>> names()
        ['digits']
    """
    folder = directory()
    try:
        with os.scandir(folder) as entries:
            found = [Path(entry.name) for entry in entries if entry.is_file()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DatasetError(f"cannot read the store {folder}: {error.strerror or reason(error)}.") from error
    return sorted(file.stem for file in found if file.suffix == ".npz" and not file.name.startswith("."))


def save(dataset: Dataset) -> Path:
    """Write a data set into the store, all or nothing.

    A file that holds the same data from the same source already is left as it is, date and all.

    Returns:
        The file's path.

    Raises:
        DatasetError: the store cannot be written to.

    Example:
        >>> from anabook import datasets
        >>> save(datasets.digits()).name
        'digits.npz'
    """
    path = path_of(dataset.name)
    record = {"name": dataset.name, "classes": dataset.classes, "provenance": asdict(dataset.provenance)}
    record["sha256"] = {what: _digest(getattr(dataset, what)) for what in ARRAYS}
    if path.exists():
        with contextlib.suppress(DatasetError):
            if _timeless(describe(dataset.name)) == _timeless(record):
                return path
    record["provenance"] |= {"date": _today(), "versions": _versions()}
    text = json.dumps(record, sort_keys=True, ensure_ascii=False, default=list)
    arrays = {what: np.ascontiguousarray(getattr(dataset, what)) for what in ARRAYS}
    try:
        with _files.replacing(path) as file:
            np.savez(file, record=np.frombuffer(text.encode(), np.uint8), **arrays)
    except OSError as error:
        raise DatasetError(f"cannot write {path}: {error.strerror or error}.") from error
    return path


def load(name: str, mmap: bool = False) -> Dataset:
    """Read a data set from the store.

    Args:
        name: as listed by `names`.
        mmap: map the arrays from disk instead of reading them into memory.

    Raises:
        NotPrepared: it is not there.
        DatasetError: its file is damaged, or is not one of the store's.

    Example:
        >>> from anabook import datasets
        >>> path = save(datasets.digits())
        >>> load("digits").inputs.shape
        (1797, 8, 8)
    """
    with _opened(name) as archive:
        record = _record(archive)
        arrays = {what: _member(archive, what, mmap) for what in ARRAYS}
        provenance = Provenance(**record["provenance"])
        return Dataset(record["name"], **arrays, classes=tuple(record["classes"]), provenance=provenance)


def describe(name: str) -> dict[str, Any]:
    """A stored data set's record: name, classes, provenance and the arrays' hashes. Reads no data.

    Raises:
        NotPrepared: it is not there.
        DatasetError: its file is damaged, or is not one of the store's.

    Example:
        >>> from anabook import datasets
        >>> path = save(datasets.digits())
        >>> describe("digits")["provenance"]["kind"]
        'official'
    """
    with _opened(name) as archive:
        return _record(archive)


def verify(name: str) -> None:
    """Compare the stored arrays with their recorded hashes.

    Raises:
        NotPrepared: it is not there.
        DatasetError: an array has changed, or the file cannot be read.

    Example:
        >>> from anabook import datasets
        >>> path = save(datasets.digits())
        >>> verify("digits")
    """
    record, dataset = describe(name), load(name)
    for what in ARRAYS:
        if _digest(getattr(dataset, what)) != record["sha256"].get(what):
            raise DatasetError(
                f"{path_of(name)} is damaged (the {what} have changed since it was prepared): {_remedy(name)}."
            )


def _digest(array: np.ndarray) -> str:
    array = np.ascontiguousarray(array)
    header = f"{array.dtype.str}{array.shape}".encode()
    return _files.digest_bytes(header, *([memoryview(array).cast("B")] if array.size else []))


def _timeless(record: dict[str, Any]) -> str:
    """A record without the day and the versions of its making."""
    provenance = {k: v for k, v in record["provenance"].items() if k not in ("date", "versions")}
    return json.dumps(record | {"provenance": provenance}, sort_keys=True, default=list)


def _today() -> str:
    """Today, or the day of SOURCE_DATE_EPOCH where builds are to be reproducible."""
    return time.strftime("%Y-%m-%d", time.gmtime(float(os.environ.get("SOURCE_DATE_EPOCH") or time.time())))


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _VERSIONED:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


@contextlib.contextmanager
def _opened(name: str) -> Iterator[zipfile.ZipFile]:
    """The file of a data set. Whatever its bytes lead the readers into becomes one sentence that says what to do."""
    if not isinstance(name, str):
        raise TypeError(f"the data set must be given by its name in the store, not {name!r}.")
    path = path_of(name)
    if path.is_dir():
        raise DatasetError(
            f"{path} is a folder, not the file of a data set: move it elsewhere and run `anabook data {name}`."
        )
    if Path(name).name != name or not path.is_file():
        raise NotPrepared(_not_prepared(name))
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except DatasetError:
        raise
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror or reason(error)}.") from error
    except _DAMAGE as error:
        raise DatasetError(f"{path} is damaged ({reason(error).rstrip('.')}): {_remedy(name)}.") from error


# What zipfile, NumPy and json raise on bytes that somebody else wrote; RuntimeError stands for encrypted members.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    KeyError,
    EOFError,
    struct.error,
    ValueError,
    TypeError,
    AttributeError,
    RuntimeError,
)


def _remedy(name: str) -> str:
    """What to do about a damaged file; a command only where it helps."""
    if name in RECIPES:
        return f"delete it and run `anabook data {name}` again"
    return "move it out of the store; `anabook data` lists what can be prepared"


def _not_prepared(name: str) -> str:
    stored = f" (in the store {directory()}: {', '.join(names()) or 'nothing yet'})"
    if name in RECIPES:
        return f"{name!r} is not prepared: run `anabook data {name}`{stored}."
    if name == "digits":
        return "'digits' needs no preparation: call anabook.datasets.digits()."
    return (
        f"there is no data set {name!r}{did_you_mean(name, [*RECIPES, *names()])}; `anabook data NAME` prepares "
        f"{', '.join(RECIPES)}{stored}."
    )


def _record(archive: zipfile.ZipFile) -> dict[str, Any]:
    """What `save` wrote beside the arrays."""
    if "record.npy" not in archive.namelist():
        raise DatasetError(
            f"{archive.filename} is no data set of this store (it has no record of where the data come "
            "from): move it elsewhere."
        )
    record = json.loads(_member(archive, "record").tobytes())
    kinds = {"name": str, "classes": list, "provenance": dict, "sha256": dict}
    if not isinstance(record, dict) or (
        wrong := [what for what, kind in kinds.items() if not isinstance(record.get(what), kind)]
    ):
        raise ValueError(f"its record lacks {', '.join(kinds if not isinstance(record, dict) else wrong)}")
    entries = {entry.name: entry.default is MISSING and entry.default_factory is MISSING for entry in fields(Provenance)}
    odd = [name for name in record["provenance"] if name not in entries]
    odd += [name for name, needed in entries.items() if needed and name not in record["provenance"]]
    if odd:
        raise ValueError(f"its provenance lacks or should not have {', '.join(odd)}")
    return record


def _member(archive: zipfile.ZipFile, name: str, mmap: bool = False) -> np.ndarray:
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as stream:
        if not mmap or info.compress_type != zipfile.ZIP_STORED:
            return np.lib.format.read_array(stream, allow_pickle=False)
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(stream)
        start = stream.tell()
    if dtype.hasobject:
        raise ValueError(f"the {name} are Python objects, not numbers")
    if 0 in shape:
        return np.empty(shape, dtype)
    # np.savez stores without compression, so the array lies in the file as it is, after the member's local header.
    with open(archive.filename, "rb") as f:
        f.seek(info.header_offset + 26)
        name_length, extra_length = struct.unpack("<HH", f.read(4))
    offset = info.header_offset + 30 + name_length + extra_length + start
    return np.memmap(archive.filename, dtype, "r", offset, shape)
