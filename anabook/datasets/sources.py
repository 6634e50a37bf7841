"""Reading other people's files with care: folders and tar archives, file by file, nothing ever unpacked to disk."""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import io
import pickle
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from anabook._validate import reason
from anabook.datasets.dataset import DatasetError

_LITTER = frozenset(
    {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "@eadir"}
)


def is_litter(path: PurePath) -> bool:
    """Whether a system left this file there, not the makers of the data.

    Hidden files (macOS's `._name` and `.DS_Store` among them), thumbnails of Windows, folders that archivers and network
    drives add.

    Args:
        path: relative to what is being read; where that lies does not count.
    """
    return any(part.startswith(".") or part.lower() in _LITTER for part in path.parts)


def files(source: Path, wanted: Callable[[PurePosixPath], bool]) -> Iterator[tuple[PurePosixPath, bytes]]:
    """The wanted files of a folder or a tar archive (compressed or not), as relative path and contents.

    Archives are read as a stream, never extracted. One with a member that points outside (an absolute
    path, "..", a link) or is a device is refused whole, wanted or not: nobody packs data sets like that.
    What systems leave behind (see `is_litter`) is passed over in both.

    Args:
        source: an existing folder or archive.
        wanted: which relative paths to read.

    Raises:
        DatasetError: the source is missing, unreadable, truncated or unsafe.
    """
    if source.is_dir():
        yield from _folder_files(source, wanted)
    elif source.is_file():
        yield from _archive_files(source, wanted)
    else:
        raise DatasetError(f"there is no file or folder {str(source)!r}.")


def _folder_files(folder: Path, wanted: Callable[[PurePosixPath], bool]) -> Iterator[tuple[PurePosixPath, bytes]]:
    try:
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        for path in paths:
            relative = PurePosixPath(path.relative_to(folder).as_posix())
            if not is_litter(relative) and wanted(relative):
                yield relative, path.read_bytes()
    except OSError as error:
        raise DatasetError(f"cannot read {error.filename or folder}: {error.strerror or error}.") from error


def _archive_files(path: Path, wanted: Callable[[PurePosixPath], bool]) -> Iterator[tuple[PurePosixPath, bytes]]:
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                inside = PurePosixPath(member.name)
                if inside.is_absolute() or ".." in inside.parts or member.name.startswith(("\\", "/")):
                    raise DatasetError(f"{path.name} is refused: its member {member.name!r} points outside the archive.")
                if member.isdir():
                    continue
                if not member.isreg():
                    raise DatasetError(f"{path.name} is refused: its member {member.name!r} is a link or a device.")
                if not is_litter(inside) and wanted(inside):
                    data = archive.extractfile(member).read()
                    if len(data) != member.size:
                        raise DatasetError(f"{path.name} is truncated: {member.name!r} is not whole.")
                    yield inside, data
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise DatasetError(f"cannot read {path}: {error.strerror}.") from error
        raise DatasetError(f"{path.name} is truncated or no tar archive ({reason(error)}).") from error


def md5(data: bytes) -> str:
    """The MD5 sum that data sets are published with: against accidents, not against attackers."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _latin1(text: str, encoding: str = "latin1", errors: str = "strict") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"the text encoding {encoding!r}")
    return codecs.encode(text, "latin1", errors)


class _ArraysOnly(pickle.Unpickler):
    """An unpickler of plain values and NumPy arrays. Anything else a pickle may name, it refuses to look up."""

    _allowed = {
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy.core.numeric", "_frombuffer"),
        ("numpy._core.numeric", "_frombuffer"),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return _latin1
        if (module, name) not in self._allowed:
            raise pickle.UnpicklingError(f"the name {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def unpickle_arrays(data: bytes, name: str) -> Any:
    """Read a pickle that holds nothing but plain values and NumPy arrays, as CIFAR-10's batches do.

    Args:
        data: the pickle.
        name: the file's name, for the message.

    Raises:
        DatasetError: the pickle is broken, or asks for anything that could run code.
    """
    try:
        return _ArraysOnly(io.BytesIO(data), encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise DatasetError(f"{name} is refused: it should hold arrays only, and has {reason(error)}.") from error
    except Exception as error:  # whatever broken bytes raise inside the unpickler
        raise DatasetError(f"{name} is damaged ({reason(error)}).") from error


@contextlib.contextmanager
def explain_failed_download(what: str) -> Iterator[None]:
    """Turn a failed download into one sentence that says what to do instead."""
    try:
        yield
    except DatasetError:
        raise
    except Exception as error:  # urllib, ssl, socket and torchvision's RuntimeError for a wrong checksum
        raise DatasetError(
            f"{what} could not be downloaded ({type(error).__name__}: {reason(error)}); with a copy at hand, "
            f"run `anabook data {what} --from PATH`."
        ) from error
