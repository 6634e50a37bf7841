"""Recorded runs as a table with one row a run: where the lines are, and what each becomes."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anabook._validate import path as path_at
from anabook.datasets import store
from anabook.experiments import design, records, shipped
from anabook.experiments.config import Config
from anabook.experiments.measures import COLUMNS, of_record
from anabook.experiments.own import OWN_DEFAULTS

if TYPE_CHECKING:
    import pandas as pd

DEGREES = ("noise", "strategy", "mean", "std", "interval", "power_law")
"""The columns that are the six degrees of freedom of the design."""
_COLUMNS = (
    "data",
    "task",
    "size",
    "overrides",
    "measured_on",
    "unit",
    *DEGREES,
    "schedule",
    "fold",
    "seed",
    *COLUMNS,
    "examples",
    "unused_examples",
    "seconds",
    "epochs",
    "period",
    "precision",
    "kind",
    "sha256",
    "status",
    "error",
    "key",
    "curves",
)


def folder() -> Path:
    """Where new runs go: the environment variable ANABOOK_RESULTS, or `data/results` of the working folder's project.

    Example:
        >>> folder().name
        'results'
    """
    named = os.environ.get("ANABOOK_RESULTS")
    if named:
        return path_at(named, "the environment variable ANABOOK_RESULTS")
    return store.project() / "data" / "results"


def others() -> list[Path]:
    """Where else finished runs are: the folder of those that come with the package, if it is not `folder()` itself.

    Example:
        >>> [path.name for path in others()]
        ['results']
    """
    try:
        place = shipped.path("results")
    except FileNotFoundError:
        return []
    return [] if place.resolve() == folder().resolve() else [place]


def load(path: str | os.PathLike | None = None, *, failed: bool = False) -> pd.DataFrame:
    """All recorded runs under a folder, or of one file, as a table with one row a run.

    Lines that are broken or there twice are set aside: each gives a warning with file and line, and all of them are in
    `frame.attrs["set_aside"]`. A run that comes with the package is set aside where there is one of your own in its place.

    Args:
        path: a folder or a file, and nothing else is read; None for the runs that come with the package together with
            those in `folder()`.
        failed: show runs that failed, too, with their error.

    Returns:
        Columns: data (with its provenance, as it must be shown), size, overrides (the size as a command line has it),
        measured_on, unit, the six degrees of freedom, schedule, fold, seed, the measures, seconds, epochs, precision,
        key, curves (a dictionary of lists), and a few more.

    Raises:
        ValueError: there is no such folder or file.

    Example:
        >>> frame = load()
        >>> len(frame) > 700, "accuracy" in frame
        (True, True)
    """
    import pandas as pd

    more = others() if path is None else []
    path = folder() if path is None else path_at(path, "path")
    if not path.exists() and not more:
        raise ValueError(f"there are no results at {str(path)!r}: `anabook sweep CONFIG` makes some.")
    found = records.read([path] if path.is_file() else records.files(path))
    for place in more:
        found = records.merged(found, records.read(records.files(place)))
    for sentence in found.set_aside:
        warnings.warn(sentence, stacklevel=2)
    kept = [record for record in found.records.values() if failed or record["status"] == "done"]
    rows = [_row(record) for record in kept]
    frame = pd.DataFrame(rows, columns=None if rows else _COLUMNS)
    if rows:
        order = {name: i for i, name in enumerate([*(unit.name for unit in design.units()), *design.BASELINES])}
        frame["_order"] = [order.get(name, len(order)) for name in frame["unit"]]
        frame = frame.sort_values(["data", "size", "_order", "unit", "seed", "fold"]).drop(columns="_order")
    frame = frame.reset_index(drop=True)
    frame.attrs["set_aside"] = found.set_aside
    return frame


def _row(record: dict[str, Any]) -> dict[str, Any]:
    config = record["config"]
    name = config["unit"]
    row: dict[str, Any] = {
        "data": record["provenance"].get("title", config["data"]),
        "task": config["data"],
        "size": record["size"],
        "overrides": Config.from_dict(config).overrides,
        "measured_on": record.get("measured_on", "validation"),
        "unit": name,
        **dict.fromkeys(DEGREES),
        "schedule": name,
        "fold": -1 if config["fold"] is None else config["fold"],
        "seed": config["seed"],
    }
    if config.get("own"):
        own = {**OWN_DEFAULTS, **config["own"]}
        row |= {"noise": own["noise"], "strategy": own["strategy"]}
    elif name not in design.BASELINES:
        unit = design.unit(name)
        row |= {**design.as_dict(unit), "schedule": unit.schedule}
    curves = record.get("curves", {})
    row |= {
        **of_record(record),
        "examples": _count(record, "held_out"),
        "unused_examples": _count(record, "unused"),
        "seconds": record["seconds"],
        "epochs": len(curves.get("train_loss", ())),
        "period": config["period"],
        "precision": config.get("precision", Config.precision),
        "kind": record["provenance"].get("kind", ""),
        "sha256": record["provenance"].get("sha256", ""),
        "status": record["status"],
        "error": record.get("error", ""),
        "key": record["key"],
        "curves": curves,
    }
    return row


def _count(record: dict[str, Any], part: str) -> int:
    return int(record.get("examples", {}).get(part, 0))
