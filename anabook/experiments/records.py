"""Recorded runs: one JSON line each, in files that are never half-written."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from anabook import _files
from anabook.experiments.config import Config

KIND = "run"
"""What the entry "record" of a line says; other lines of a results folder are other measurements."""

_NEEDED: dict[str, Any] = {
    "key": str,
    "config": dict,
    "status": str,
    "size": str,
    "provenance": dict,
    "seconds": (int, float),
}
_NEEDED_WHEN_DONE: dict[str, Any] = {"accuracy": (int, float), "curves": dict}


class Read(NamedTuple):
    """What was found in results files.

    Attributes:
        records: by key; of a failed and a finished run of one key the finished one.
        set_aside: a sentence for each line that was left out, with its file and number.

    Example:
        >>> from anabook.experiments import shipped
        >>> found = read([shipped.path("results/gsc12-scaled.jsonl")])
        >>> len(found.records) > 100, found.set_aside
        (True, [])
    """

    records: dict[str, dict[str, Any]]
    set_aside: list[str]


def files(folder: Path) -> list[Path]:
    """The results files of a folder, without the hidden ones that systems leave.

    Example:
        >>> from anabook.experiments import shipped
        >>> "gsc12-scaled.jsonl" in [path.name for path in files(shipped.path("results"))]
        True
    """
    return sorted(path for path in folder.glob("*.jsonl") if path.is_file() and not path.name.startswith("."))


def merged(own: Read, others: Read) -> Read:
    """Runs of one's own together with others': of a run that both have one's own counts, unless only the other is finished.

    The same line in both is one run. Where the two differ, a sentence in `set_aside` says so.

    Example:
        >>> from anabook.experiments import shipped
        >>> found = read([shipped.path("results/gsc12-scaled.jsonl")])
        >>> merged(Read({}, []), found).records == found.records
        True
    """
    records, set_aside = dict(own.records), [*own.set_aside, *others.set_aside]
    for key, record in others.records.items():
        mine = records.get(key)
        if mine is None or (mine["status"] != "done" and record["status"] == "done"):
            records[key] = record
        elif mine != record and mine["status"] == "done":
            label = Config.from_dict(record["config"]).label
            set_aside.append(f"the run {key} ({label}) that comes with anabook: set aside for your own.")
    return Read(records, set_aside)


def read(paths: Iterable[Path]) -> Read:
    """Read results files; what is broken or there twice is set aside by name, the rest is read.

    Example:
        >>> from anabook.experiments import shipped
        >>> found = read([shipped.path("results/gsc12-scaled.jsonl")])
        >>> len(found.records) > 100, found.set_aside
        (True, [])
    """
    records: dict[str, dict[str, Any]] = {}
    where: dict[str, str] = {}
    set_aside = []
    for path in paths:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                name = f"{path.name}, line {number}"
                try:
                    record = json.loads(line)
                except (json.JSONDecodeError, UnicodeDecodeError):
                    if line.strip():
                        set_aside.append(f"{name} is not JSON: set aside.")
                    continue
                if not isinstance(record, dict) or record.get("record") != KIND:
                    continue
                if wrong := _wrong(record):
                    set_aside.append(f"{name} is {wrong}: set aside.")
                    continue
                key = record["key"]
                if key in records and records[key]["status"] == "done":
                    if record["status"] == "done":
                        set_aside.append(f"{name} repeats the run {key} of {where[key]}: set aside.")
                    continue
                records[key], where[key] = record, name
    return Read(records, set_aside)


def _wrong(record: dict[str, Any]) -> str:
    """What keeps a line from being a run, in words; empty if nothing does."""
    needed = _NEEDED | (_NEEDED_WHEN_DONE if record.get("status") == "done" else {})
    missing = [what for what, kind in needed.items() if not isinstance(record.get(what), kind)]
    if missing:
        return f"no complete run ({', '.join(missing)} missing)"
    if record["status"] not in ("done", "failed"):
        return f"no run (status {record['status']!r} is neither 'done' nor 'failed')"
    try:
        config = Config.from_dict(record["config"])
    except (ValueError, TypeError, AttributeError) as error:
        return f"no run that is known here ({str(error).rstrip('.')})"
    # A line edited by hand, or older than a change to a named size, would be averaged with runs that it is not like.
    if (config.key, config.size) != (record["key"], record["size"]):
        return f"no run of its config, which has the key {config.key!r} and the size {config.size!r}"
    if record["status"] == "done" and not all(_is_curve(curve, config.epochs) for curve in record["curves"].values()):
        return f"no complete run (a curve is no list of {config.epochs} numbers)"
    return ""


def _is_curve(curve: Any, epochs: int) -> bool:
    return isinstance(curve, list) and len(curve) == epochs and all(isinstance(value, (int, float)) for value in curve)


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be written to, before hours of work end there; it is made if need be.

    Example:
        >>> check_writable(Path("results"))
    """
    try:
        _files.try_to_write(folder)
    except OSError as error:
        raise ValueError(f"cannot write to the folder {str(folder)!r}: {error.strerror or error}.") from None


def failure(config: Config, error: str, seconds: float = 0.0) -> dict[str, Any]:
    """The record of a run that came to nothing.

    Example:
        >>> from anabook.experiments import make
        >>> failure(make("cifar10", "float"), "ValueError: no")["status"]
        'failed'
    """
    return {
        "record": KIND,
        "key": config.key,
        "status": "failed",
        "error": error,
        "config": config.as_dict(),
        "size": config.size,
        "seconds": round(seconds, 2),
        "provenance": {"title": config.data},
    }


def append(path: Path, record: dict[str, Any]) -> None:
    """Add a run to a results file, all or nothing, and safely while other processes do the same.

    The new file is written beside the old one and takes its place. A failed run of the same key is replaced; other lines,
    broken ones too, stay as they are.

    Example:
        >>> from anabook.experiments import make
        >>> config = make("cifar10", "float")
        >>> append(Path("runs.jsonl"), failure(config, "ValueError: no"))
        >>> list(read([Path("runs.jsonl")]).records) == [config.key]
        True
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _files.locked(path):
        lines = path.read_bytes().splitlines() if path.exists() else []
        lines = [line for line in lines if not _failed(line, record["key"])]
        lines.append(json.dumps(record, sort_keys=True, ensure_ascii=False).encode())
        _files.write_bytes(path, b"\n".join(lines) + b"\n", mode=0o644)


def _failed(line: bytes, key: str) -> bool:
    if key.encode() not in line or b'"failed"' not in line:
        return False
    with contextlib.suppress(json.JSONDecodeError, UnicodeDecodeError):
        record = json.loads(line)
        return isinstance(record, dict) and record.get("key") == key and record.get("status") == "failed"
    return False
