"""Arrays in one `.npz` file, without pickles: read, or a sentence that says what the file is instead."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from anabook._validate import reason

WRONG = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, MemoryError, RecursionError)
"""What making something of the arrays of a file may raise where it holds something else."""

_ZIP, _ARRAY = b"PK\x03\x04", b"\x93NUMPY"


def arrays_in(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a file that `numpy.savez` has written.

    Raises:
        ValueError: there is no such file, it is damaged, or it is none of this kind; the message is the reason alone.

    Example:
        >>> Path("note.npz").write_text("no arrays")
        9
        >>> try:
        ...     arrays_in(Path("note.npz"))
        ... except ValueError as error:
        ...     print(error)
        ...
        it is no archive of arrays, but something else
    """
    if path.is_dir():
        raise ValueError("it is a folder")
    try:
        with path.open("rb") as file:
            start = file.read(len(_ARRAY))
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from None
    if not start:
        raise ValueError("it is empty")
    if start == _ARRAY:
        raise ValueError("it is a single array, as numpy.save writes it, not an archive of several")
    if not _ZIP.startswith(start[: len(_ZIP)]):
        raise ValueError("it is no archive of arrays, but something else")
    if not zipfile.is_zipfile(path):
        raise ValueError("it is cut off: its end, with the list of what is in it, is missing")
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, MemoryError, ValueError, LookupError) as error:
        raise ValueError(f"it is damaged: {error}".rstrip(".")) from None
    strange = next((name for name, value in found.items() if not isinstance(value, np.ndarray)), None)
    if strange is not None:
        raise ValueError(f"{strange!r} in it is no array")
    return found


def why(error: Exception) -> str:
    """What one of `WRONG` says of a file, for the brackets of a sentence.

    Example:
        >>> why(KeyError("steps")), why(ValueError("the shape is wrong."))
        ("it has no 'steps'", 'the shape is wrong')
    """
    return f"it has no {error}" if isinstance(error, KeyError) else reason(error).rstrip(".")
