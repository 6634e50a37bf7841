"""CIFAR-10 and SVHN, downloaded and checked by torchvision, or from official-looking files already on disk."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from anabook._validate import path as path_at
from anabook._validate import reason
from anabook.datasets import sources
from anabook.datasets.dataset import Dataset, DatasetError, Provenance

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SVHN_CLASSES = tuple("0123456789")


def cifar10(source: str | Path | None = None, note: str = "") -> Dataset:
    """CIFAR-10: 50,000 training and 10,000 test images, 32×32 RGB, ten classes (Krizhevsky, 2009).

    Args:
        source: the official archive `cifar-10-python.tar.gz`, or the folder `cifar-10-batches-py` or the one
            around it; None downloads the archive with torchvision, which checks it.
        note: goes into the provenance, to say what local files are.

    Returns:
        A `Dataset` with inputs of shape (n, 3, 32, 32), uint8.

    Raises:
        DatasetError: the download failed, or the files are not CIFAR-10's.
    """
    from torchvision.datasets import CIFAR10

    batches = [*CIFAR10.train_list, *CIFAR10.test_list]
    if source is None:
        with tempfile.TemporaryDirectory() as folder, sources.explain_failed_download("cifar10"):
            CIFAR10(folder, download=True)
            return cifar10(Path(folder), note)
    source = path_at(source, "source")
    wanted = [name for name, _ in batches]
    found = _named_files(source, wanted, "CIFAR-10")
    parts = [_cifar_batch(name, found[name]) for name in wanted]
    n_train = sum(len(labels) for _, labels in parts[: len(CIFAR10.train_list)])
    inputs, labels = (np.concatenate(arrays) for arrays in zip(*parts))
    provenance = _provenance(
        found,
        dict(batches),
        note,
        official="the official archive cifar-10-python.tar.gz",
        differs="local files in the layout of cifar-10-batches-py whose checksums differ from the official ones",
        licence="no licence stated; cite the report",
        citation="A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
    )
    return _images("cifar10", inputs, labels, n_train, CIFAR10_CLASSES, provenance)


def svhn(source: str | Path | None = None, note: str = "") -> Dataset:
    """SVHN, cropped digits: 73,257 training and 26,032 test images, 32×32 RGB (Netzer et al., 2011).

    The label of the digit 0 is 0 (the files say 10). The 531,131 extra images are left out: the paper does not mention
    them, and its numbers of images are those without.

    Args:
        source: a folder with `train_32x32.mat` and `test_32x32.mat`; None downloads them with torchvision.
        note: goes into the provenance.

    Returns:
        A `Dataset` with inputs of shape (n, 3, 32, 32), uint8.

    Raises:
        DatasetError: the download failed, or the files are not SVHN's.
    """
    from torchvision.datasets import SVHN

    wanted = {name: md5 for _, name, md5 in (SVHN.split_list[part] for part in ("train", "test"))}
    if source is None:
        with tempfile.TemporaryDirectory() as folder, sources.explain_failed_download("svhn"):
            for part in ("train", "test"):
                SVHN(folder, part, download=True)
            return svhn(Path(folder), note)
    source = path_at(source, "source")
    found = _named_files(source, list(wanted), "SVHN")
    parts = [_svhn_part(name, found[name]) for name in wanted]
    inputs, labels = (np.concatenate(arrays) for arrays in zip(*parts))
    provenance = _provenance(
        found,
        wanted,
        note,
        official="the official files train_32x32.mat and test_32x32.mat",
        differs="local files named as the official .mat files, whose checksums differ from theirs",
        licence="non-commercial research only",
        citation="Y. Netzer et al., Reading Digits in Natural Images with Unsupervised Feature Learning, 2011",
    )
    return _images("svhn", inputs, labels, len(parts[0][1]), SVHN_CLASSES, provenance)


def _named_files(source: Path, names: list[str], what: str) -> dict[str, bytes]:
    """The files of these names, at any depth; each must be there once."""
    found: dict[str, bytes] = {}
    for path, data in sources.files(source, lambda path: path.name in names):
        if path.name in found:
            raise DatasetError(f"{str(source)!r} holds {path.name} twice: point to the folder of one copy of {what}.")
        found[path.name] = data
    missing = [name for name in names if name not in found]
    if missing:
        raise DatasetError(f"{str(source)!r} is not {what}: it has no {', '.join(missing)}.")
    return found


def _provenance(
    found: dict[str, bytes], expected: dict[str, str], note: str, *, official: str, differs: str, licence: str, citation: str
) -> Provenance:
    checksums = {name: sources.md5(found[name]) for name in expected}
    same = checksums == expected
    return Provenance(
        kind="official" if same else "differs",
        source=official if same else differs,
        licence=licence,
        citation=citation,
        checksums={name: f"md5:{value}" for name, value in checksums.items()},
        note=note,
    )


def _cifar_batch(name: str, data: bytes) -> tuple[np.ndarray, np.ndarray]:
    batch = sources.unpickle_arrays(data, name)
    pixels, labels = (batch.get(key) if isinstance(batch, dict) else None for key in ("data", "labels"))
    if not (isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.ndim == 2 and pixels.shape[1] == 3072):
        raise DatasetError(f"{name} is no batch of CIFAR-10: its data should be bytes of shape (n, 3072).")
    return pixels.reshape(-1, 3, 32, 32), _labels(labels, len(pixels), name, low=0, high=9)


def _svhn_part(name: str, data: bytes) -> tuple[np.ndarray, np.ndarray]:
    from scipy.io import loadmat

    try:
        contents = loadmat(io.BytesIO(data), variable_names=("X", "y"))
    except Exception as error:  # loadmat raises whatever broken bytes lead it into
        raise DatasetError(f"{name} is no MATLAB file that can be read ({reason(error)}).") from error
    pixels, labels = contents.get("X"), contents.get("y")
    if not (
        isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.ndim == 4 and pixels.shape[:3] == (32, 32, 3)
    ):
        raise DatasetError(f"{name} is no part of SVHN: its X should be bytes of shape (32, 32, 3, n).")
    labels = _labels(labels, pixels.shape[3], name, low=1, high=10)
    return pixels.transpose(3, 2, 0, 1), labels % 10


def _labels(labels: Any, n: int, name: str, low: int, high: int) -> np.ndarray:
    try:
        array = np.asarray(labels, dtype=np.int64).reshape(-1)
    except (TypeError, ValueError, OverflowError):
        array = np.empty(0, np.int64)
    if len(array) != n or (n and (array.min() < low or array.max() > high)):
        raise DatasetError(f"{name} should hold {n} labels from {low} to {high}, one for each image.")
    return array


def _images(
    name: str, inputs: np.ndarray, labels: np.ndarray, n_train: int, classes: tuple[str, ...], provenance: Provenance
) -> Dataset:
    split = np.where(np.arange(len(labels)) < n_train, 0, 2).astype(np.uint8)
    group = np.full(len(labels), -1, np.int64)
    return Dataset(name, np.ascontiguousarray(inputs), labels, split, group, classes, provenance)
