"""A data set as a value: arrays with their split and their provenance."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from anabook._validate import choice

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

ARRAYS = ("inputs", "labels", "split", "group")
"""The arrays of a data set, with one entry for each example."""

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

    Example:
        >>> from anabook import datasets
        >>> print(datasets.digits().provenance.licence)
        CC BY 4.0
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

    Example:
        >>> from anabook import datasets
        >>> datasets.digits()
        Dataset('digits': 1438 train, 359 test examples of shape 8×8, 10 classes)
        >>> datasets.digits().x_train.shape
        (1438, 8, 8)
    """

    name: str
    inputs: np.ndarray
    labels: np.ndarray
    split: np.ndarray
    group: np.ndarray
    classes: tuple[str, ...]
    provenance: Provenance

    def __post_init__(self) -> None:
        for what in ARRAYS[1:]:
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
