"""Files that are written whole or not at all, by one writer at a time; and digests of what stands in them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


@contextlib.contextmanager
def replacing(path: Path, mode: int | None = None) -> Iterator[IO[bytes]]:
    """A file to write into, which takes the place of `path` when the block ends; if the block fails, the old one stays.

    It lies in the same folder, which is made if need be, under a hidden name, and its bytes reach the disk before it
    takes the other name: a process that is killed leaves the old file or the new one, never a part of one.

    Args:
        path: of the file, there or not.
        mode: its permissions, such as 0o644; None for the owner's only.

    Raises:
        OSError: the folder cannot be made or written to, or the disk is full; or a folder is there in place of the file.
    """
    check_place(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    _sync_folder(path.parent)


def check_place(path: Path) -> None:
    """Refuse the path of a folder, where a file is to be written.

    Raises:
        IsADirectoryError: it is one.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))


def _sync_folder(folder: Path) -> None:
    """Take a new name in a folder to the disk, where the system can: it is the folder that keeps it."""
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_bytes(path: Path, data: bytes, mode: int | None = None) -> None:
    """Write a whole file as `replacing` does."""
    with replacing(path, mode) as file:
        file.write(data)


def write_text(path: Path, text: str, mode: int | None = None) -> None:
    """Write a whole file in UTF-8 as `replacing` does; ends of lines are left as they are."""
    write_bytes(path, text.encode(), mode)


def try_to_write(folder: Path) -> None:
    """Find out whether a folder can be written to; it is made if need be, and nothing is left in it.

    Raises:
        OSError: it cannot.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


_LONGEST = 600.0  # seconds to wait for others who write the same file


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Only one process at a time is in the block for this path; a lock ends with the process that holds it.

    The lock is on the hidden file `.NAME.lock` beside `path`, which stays there.

    Raises:
        OSError: another process has been in the block for longer than any writing takes; it is likely stopped.
    """
    from filelock import FileLock, Timeout  # an optional dependency: only what is written by several processes needs it

    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=_LONGEST)
    except Timeout:
        raise OSError(f"another process has been writing there for {_LONGEST:.0f} seconds, and is likely stopped") from None
    try:
        yield
    finally:
        lock.release()


def digest(value: Any) -> str:
    """64 hexadecimal digits that stand for a value made of lists, dictionaries (in any order), numbers and text."""
    return digest_bytes(json.dumps(value, sort_keys=True, default=str).encode())


def digest_bytes(*parts: bytes | memoryview) -> str:
    """64 hexadecimal digits that stand for bytes, SHA-256; parts count as one after the other."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()
