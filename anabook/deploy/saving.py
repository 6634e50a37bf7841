"""Integer networks in one `.npz` file each: no pickles, small numbers packed, a digest over everything."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from anabook import _files
from anabook._archives import WRONG, arrays_in, why
from anabook._validate import path as path_at
from anabook.deploy.arrays import narrowest
from anabook.deploy.packing import MOST, pack, unpack
from anabook.deploy.steps import Add, Concat, Flatten, Head, Input, MaxPool, Step, SumPool, Threshold, Weighted

_FORMAT = "anabook integer network 1"
_TABLE = "network"
_KINDS: dict[str, type[Step]] = {
    kind.__name__: kind for kind in (Weighted, Threshold, MaxPool, SumPool, Add, Concat, Flatten, Head)
}


def save(given: Input, steps: Sequence[Step], path: str | Path) -> Path:
    """Write what comes in and the steps of a network into one `.npz` file, all or nothing.

    Arrays whose values lie within sixteen whole numbers are packed: ternary weights five to a byte, eight of one bit, two of
    four.

    Returns:
        The file's path.

    Raises:
        OSError: it cannot be written.

    Example:
        >>> from anabook.deploy.steps import Flatten
        >>> path = save(Input((2, 2), 0, 9), [Flatten(name="flatten", inputs=("input",))], "flat.npz")
        >>> read(path)[1]
        [Flatten(name='flatten', inputs=('input',))]
    """
    path = path_at(path, "path")
    arrays: dict[str, np.ndarray] = {}
    table = {
        "format": _FORMAT,
        "input": _written(given, "input", arrays),
        "steps": [_written(step, str(i), arrays) for i, step in enumerate(steps)],
    }
    table["sha256"] = _digest(table, arrays)
    arrays[_TABLE] = np.frombuffer(json.dumps(table).encode(), np.uint8)
    with _files.replacing(path, mode=0o644) as file:
        np.savez_compressed(file, **arrays)
    return path


def read(path: str | Path) -> tuple[Input, list[Step]]:
    """What `save` has written; whether the steps fit together is not looked at.

    Raises:
        ValueError: there is no such file, it is damaged or changed, or holds something else.
    """
    path = path_at(path, "path")
    try:
        if not path.exists():
            raise ValueError(f"there is no file {str(path)!r}.")
    except OSError as error:
        raise ValueError(f"there is no file {str(path)!r} ({error.strerror}).") from None
    try:
        arrays = arrays_in(path)
        table = json.loads(arrays.pop(_TABLE).tobytes())
        if table["format"] != _FORMAT:
            raise ValueError(f"its format is {table['format']!r}, not {_FORMAT!r}")
        if table.pop("sha256") != _digest(table, arrays):
            raise ValueError("its digest is another one: it was changed or damaged")
        given = _read(Input, table["input"], "input", arrays)
        steps = [_read(_KINDS[row["kind"]], row, str(i), arrays) for i, row in enumerate(table["steps"])]
        if arrays:
            raise ValueError(f"it has {next(iter(arrays))!r}, which belongs to no step")
        return given, steps
    except WRONG as error:
        raise ValueError(unreadable(path, why(error))) from None


def unreadable(path: str | Path, said: str) -> str:
    """The sentence for a file that holds no integer network."""
    return f"the file {str(path)!r} holds no integer network that can be read ({said})."


def packed(array: np.ndarray) -> tuple[int, int, np.ndarray] | None:
    """Whole numbers as digits in bytes: the base, the least number, which counts as 0, and the bytes; None if they are many.

    Example:
        >>> base, least, data = packed(np.array([1, 0, -1, 0, 1, 1], np.int8))
        >>> base, least, data.tolist()
        (3, -1, [194, 2])
    """
    if array.dtype.kind not in "iu" or not array.size:
        return None
    least = int(array.min())
    base = max(2, int(array.max()) - least + 1)
    return (base, least, pack(array.astype(np.int64) - least, base)) if base <= MOST else None


def _written(value: Input | Step, key: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """The fields of a step for the table; its arrays go to `arrays`."""
    row: dict[str, Any] = {"kind": type(value).__name__}
    for field in dataclasses.fields(value):
        given = getattr(value, field.name)
        if isinstance(given, np.ndarray):
            row[field.name] = {"dtype": given.dtype.name, "shape": list(given.shape)}
            small = packed(given)
            if small is not None:
                row[field.name].update(base=small[0], least=small[1])
                given = small[2]
            elif given.dtype.kind == "i":
                given = _narrowed(given)
            arrays[f"{key}:{field.name}"] = given
        else:
            row[field.name] = _plain(given)
    return row


def _plain(value: Any) -> Any:
    if isinstance(value, Fraction):
        return {"fraction": str(value)}
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        if not re.fullmatch(r"-?[0-9]{1,4000}(/[0-9]{1,4000})?", value["fraction"]):  # an exponent would make any size of it
            raise ValueError(f"{value['fraction'][:40]!r} is no fraction of two integers")
        return Fraction(value["fraction"])
    return tuple(_value(each) for each in value) if isinstance(value, list) else value


def _narrowed(array: np.ndarray) -> np.ndarray:
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    return array.astype(narrowest(low, high, (np.int8, np.int16, np.int32, np.int64)))


def _read(kind: type, row: dict[str, Any], key: str, arrays: dict[str, np.ndarray]) -> Any:
    """A step from its row of the table; its arrays are taken out of `arrays`."""
    found: dict[str, Any] = {}
    names = {field.name for field in dataclasses.fields(kind)} | {"kind"}
    if not names >= set(row):
        raise ValueError(f"a {kind.__name__} has no {next(iter(set(row) - names))!r}")
    for field in dataclasses.fields(kind):
        given = row[field.name]
        if isinstance(given, dict) and "dtype" in given:
            shape, dtype, array = tuple(given["shape"]), np.dtype(given["dtype"]), arrays.pop(f"{key}:{field.name}")
            if "base" in given:
                array = unpack(array, given["base"], prod(shape)) + given["least"]
            held = array.astype(dtype)
            if not np.array_equal(held, array):
                raise ValueError(f"the {field.name} of step {key} are no numbers of {dtype.name}")
            found[field.name] = held.reshape(shape)
        else:
            found[field.name] = _value(given)
    return kind(**found)


def _digest(table: dict[str, Any], arrays: dict[str, np.ndarray]) -> str:
    found = hashlib.sha256(json.dumps(table, sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        found.update(f"{name} {array.dtype.str} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()
