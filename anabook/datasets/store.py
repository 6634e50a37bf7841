"""The store: each data set is prepared once into one `.npz` file, with its provenance, and read from there ever after."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import struct
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import MISSING, asdict, dataclass, field, fields
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from anabook._validate import choice, did_you_mean, integer, reason
from anabook._validate import path as path_at

SPLITS = ("train", "validation", "test")
"""The parts of a data set; `Dataset.split` holds positions in this list."""

KINDS = {
    "official": "",
    "differs": " (differs from the official archive)",
    "unverified": " (local files, not verified)",
    "stand-in": " (stand-in)",
}
"""Provenance in a word, and what follows a name in results and figures: the official archive by its checksums; local
files whose checksums differ from the official ones; local files without an archive to check; made-up data."""

_ARRAYS = ("inputs", "labels", "split", "group")
_VERSIONED = ("numpy", "scipy", "torchvision", "librosa", "anabook")


AUGMENTATIONS: dict[str, tuple[str, ...]] = {"none": (), "crop": ("crop",), "crop and flip": ("crop", "flip")}
"""What may be done to training images: shift by up to four pixels (see `batches.Batches`), and mirror left to right."""


class DatasetError(ValueError):
    """A data set that cannot be prepared or read; the message says why and what to do."""


class NotPrepared(DatasetError):
    """A data set that is not in the store yet; the message says which command prepares it."""


@dataclass(frozen=True)
class Provenance:
    """Where data come from. It travels with them, down to each result and figure.

    Attributes:
        kind: "official", "differs", "unverified" or "stand-in"; see `KINDS`.
        source: what was read or generated, in words.
        licence: under which terms.
        citation: whom to cite.
        checksums: file name → MD5 or SHA-256, as the official distributor gives them.
        parameters: what the preparation depended on (seeds, features).
        note: anything a reader of the results must know.
        date: the day of preparation, ISO 8601.
        versions: package → version, as they were on that day.
    """

    kind: str
    source: str
    licence: str
    citation: str
    checksums: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    date: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        choice(self.kind, KINDS, "kind")

    def __str__(self) -> str:
        rows = {
            "kind": self.kind,
            "source": self.source,
            "licence": self.licence,
            "citation": self.citation,
            "note": self.note,
            "parameters": ", ".join(f"{name}: {value}" for name, value in self.parameters.items()),
            "prepared": self.date,
        }
        return "\n".join(f"{name + ':':12}{value}" for name, value in rows.items() if value)


@dataclass(frozen=True)
class Dataset:
    """Inputs and labels with their split and provenance.

    Attributes:
        name: short name; a stand-in's contains "stand-in".
        inputs: shape (n, …); uint8 where the source is.
        labels: shape (n,), int64, positions in `classes`.
        split: shape (n,), uint8, positions in `SPLITS`.
        group: shape (n,), int64; examples of one speaker or writer share a number, −1 where unknown.
        classes: the classes' names.
        provenance: a `Provenance`.
    """

    name: str
    inputs: np.ndarray
    labels: np.ndarray
    split: np.ndarray
    group: np.ndarray
    classes: tuple[str, ...]
    provenance: Provenance

    def __post_init__(self) -> None:
        for what in _ARRAYS[1:]:
            if getattr(self, what).shape != self.labels.shape[:1] or len(self.inputs) != len(self.labels):
                raise ValueError(
                    f"inputs, labels, split and group must have one length, not {len(self.inputs)}, "
                    f"{len(self.labels)}, {len(self.split)} and {len(self.group)}."
                )

    def part(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and labels of one part, "train", "validation" or "test"."""
        rows = np.flatnonzero(self.split == SPLITS.index(choice(name, SPLITS, "part")))
        if len(rows) and rows[-1] - rows[0] + 1 == len(rows):  # contiguous: a view, not a copy
            rows = slice(rows[0], rows[-1] + 1)
        return self.inputs[rows], self.labels[rows]

    @cached_property
    def train(self) -> tuple[np.ndarray, np.ndarray]:
        """The training inputs and labels."""
        return self.part("train")

    @cached_property
    def test(self) -> tuple[np.ndarray, np.ndarray]:
        """The test inputs and labels."""
        return self.part("test")

    @property
    def x_train(self) -> np.ndarray:
        """The training inputs."""
        return self.train[0]

    @property
    def y_train(self) -> np.ndarray:
        """The training labels."""
        return self.train[1]

    @property
    def x_test(self) -> np.ndarray:
        """The test inputs."""
        return self.test[0]

    @property
    def y_test(self) -> np.ndarray:
        """The test labels."""
        return self.test[1]

    @property
    def title(self) -> str:
        """The name as results and figures must show it."""
        return self.name + ("" if "stand-in" in self.name else KINDS[self.provenance.kind])

    def counts(self, part: str | None = None) -> dict[str, int]:
        """Examples per class, in all or in one part."""
        labels = self.labels if part is None else self.part(part)[1]
        return dict(zip(self.classes, np.bincount(labels, minlength=len(self.classes)).tolist()))

    def __repr__(self) -> str:
        shape = "×".join(map(str, self.inputs.shape[1:]))
        parts = ", ".join(f"{n} {name}" for i, name in enumerate(SPLITS) if (n := int((self.split == i).sum())))
        return f"Dataset({self.title!r}: {parts} examples of shape {shape}, {len(self.classes)} classes)"


def default_augmentation(name: str) -> str:
    """What suits a data set, by its name.

    CIFAR-10 is cropped and flipped, as in the experiments. SVHN is cropped only: a mirrored 2 is no 2. The
    features of speech and the digits are left alone.
    """
    if name.startswith("cifar10"):
        return "crop and flip"
    return "crop" if name.startswith("svhn") else "none"


def directory() -> Path:
    """The store's folder: the environment variable ANABOOK_DATA, or `data/cache` in the working folder's project."""
    named = os.environ.get("ANABOOK_DATA")
    if named:
        return path_at(named, "the environment variable ANABOOK_DATA")
    return project() / "data" / "cache"


def project() -> Path:
    """The folder of the working folder's project: the nearest one with a pyproject.toml and a folder `data`; else itself."""
    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        if (folder / "pyproject.toml").is_file() and (folder / "data").is_dir():
            return folder
    return here


def path_of(name: str) -> Path:
    """The file of a data set in the store, there or not."""
    return directory() / f"{name}.npz"


def names() -> list[str]:
    """The data sets in the store, by their files' names; damaged ones too. Folders and hidden files are none.

    Raises:
        DatasetError: the store is there, but is no folder that can be read.
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
    """
    path = path_of(dataset.name)
    record = {"name": dataset.name, "classes": dataset.classes, "provenance": asdict(dataset.provenance)}
    record["sha256"] = {what: _digest(getattr(dataset, what)) for what in _ARRAYS}
    if path.exists():
        with contextlib.suppress(DatasetError):
            if _timeless(describe(dataset.name)) == _timeless(record):
                return path
    record["provenance"] |= {"date": _today(), "versions": _versions()}
    text = json.dumps(record, sort_keys=True, ensure_ascii=False, default=list)
    arrays = {what: np.ascontiguousarray(getattr(dataset, what)) for what in _ARRAYS}
    _write(path, {"record": np.frombuffer(text.encode(), np.uint8)} | arrays)
    return path


def load(name: str, mmap: bool = False) -> Dataset:
    """Read a data set from the store.

    Args:
        name: as listed by `names`.
        mmap: map the arrays from disk instead of reading them into memory.

    Raises:
        NotPrepared: it is not there.
        DatasetError: its file is damaged, or is not one of the store's.
    """
    with _opened(name) as archive:
        record = _record(archive)
        arrays = {what: _member(archive, what, mmap) for what in _ARRAYS}
        provenance = Provenance(**record["provenance"])
        return Dataset(record["name"], **arrays, classes=tuple(record["classes"]), provenance=provenance)


def describe(name: str) -> dict[str, Any]:
    """A stored data set's record: name, classes, provenance and the arrays' hashes. Reads no data.

    Raises:
        NotPrepared: it is not there.
        DatasetError: its file is damaged, or is not one of the store's.
    """
    with _opened(name) as archive:
        return _record(archive)


def verify(name: str) -> None:
    """Compare the stored arrays with their recorded hashes.

    Raises:
        NotPrepared: it is not there.
        DatasetError: an array has changed, or the file cannot be read.
    """
    record, dataset = describe(name), load(name)
    for what in _ARRAYS:
        if _digest(getattr(dataset, what)) != record["sha256"].get(what):
            raise DatasetError(f"{path_of(name)} is damaged (the {what} have changed since it was prepared): {_remedy(name)}.")


def subset(dataset: Dataset, n_train: int, seed: int = 0) -> Dataset:
    """The data set with `n_train` of its training examples; the other parts are kept whole.

    Stratified, and nested: with the same seed a larger subset contains every smaller one.

    Args:
        dataset: a data set.
        n_train: how many, from the number of classes to all.
        seed: of the choice.
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
    return _rows(dataset, rows)


def folds(dataset: Dataset, n_folds: int = 5, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cross-validation folds of the training part: stratified, and by group where groups are known.

    Args:
        dataset: a data set.
        n_folds: at least 2.
        seed: of the shuffle.

    Returns:
        `n_folds` pairs of row numbers into the training part, (to train on, to validate on), the same on every machine.
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


def _rows(dataset: Dataset, rows: np.ndarray) -> Dataset:
    arrays = {what: getattr(dataset, what)[rows] for what in _ARRAYS}
    return Dataset(dataset.name, **arrays, classes=dataset.classes, provenance=dataset.provenance)


def _digest(array: np.ndarray) -> str:
    array = np.ascontiguousarray(array)
    header = f"{array.dtype.str}{array.shape}".encode()
    return hashlib.sha256(header + memoryview(array).cast("B") if array.size else header).hexdigest()


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


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.stem}-", suffix=".part", delete=False) as f:
            temporary = f.name
            np.savez(f, **arrays)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise DatasetError(f"cannot write {path}: {error.strerror or error}.") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


@contextlib.contextmanager
def _opened(name: str) -> Iterator[zipfile.ZipFile]:
    """The file of a data set. Whatever its bytes lead the readers into becomes one sentence that says what to do."""
    if not isinstance(name, str):
        raise TypeError(f"the data set must be given by its name in the store, not {name!r}.")
    path = path_of(name)
    if path.is_dir():
        raise DatasetError(f"{path} is a folder, not the file of a data set: move it elsewhere and run `anabook data {name}`.")
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
_DAMAGE = (zipfile.BadZipFile, zlib.error, KeyError, EOFError, struct.error, ValueError, TypeError, AttributeError, RuntimeError)


def _prepared_by_name() -> tuple[str, ...]:
    from anabook.datasets.prepare import RECIPES  # it needs this module

    return tuple(RECIPES)


def _remedy(name: str) -> str:
    """What to do about a damaged file; a command only where it helps."""
    if name in _prepared_by_name():
        return f"delete it and run `anabook data {name}` again"
    return "move it out of the store; `anabook data` lists what can be prepared"


def _not_prepared(name: str) -> str:
    known = _prepared_by_name()
    stored = f" (in the store {directory()}: {', '.join(names()) or 'nothing yet'})"
    if name in known:
        return f"{name!r} is not prepared: run `anabook data {name}`{stored}."
    if name == "digits":
        return "'digits' needs no preparation: call anabook.datasets.digits()."
    return (f"there is no data set {name!r}{did_you_mean(name, [*known, *names()])}; `anabook data NAME` prepares "
            f"{', '.join(known)}{stored}.")


def _record(archive: zipfile.ZipFile) -> dict[str, Any]:
    """What `save` wrote beside the arrays."""
    if "record.npy" not in archive.namelist():
        raise DatasetError(f"{archive.filename} is no data set of this store (it has no record of where the data come from): "
                           "move it elsewhere.")
    record = json.loads(_member(archive, "record").tobytes())
    kinds = {"name": str, "classes": list, "provenance": dict, "sha256": dict}
    if not isinstance(record, dict) or (wrong := [what for what, kind in kinds.items() if not isinstance(record.get(what), kind)]):
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
