"""What the inks cost: runs on house numbers whose ink is always lighter than the ground, or the same in all channels.

The runs are those of `data/sweeps/svhn.toml` on the SVHN stand-in, scaled, same folds and seeds; only the pictures differ,
and only in what is darker, ink or ground: see `standins.house_numbers`. Chapter 12 sets them beside the recorded runs with
mixed inks. A record has what `anabook train` records of a run, but is none of a sweep's: nothing averages it with runs on
other pictures. About a minute a run, thirty runs.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import tempfile
from collections.abc import Iterator

from anabook.datasets import standins, store
from anabook.experiments import make
from anabook.experiments.run import run
from studies.loop import Config, Option, Study

FOLDS = (0, 1, 2)
UNITS = {
    "one": (
        "float",
        "uniform-mode-static",
        "uniform-mode-partition-homogeneous",
        "uniform-mode-same-start-homogeneous",
        "uniform-mode-same-end-homogeneous",
        "uniform-random-static",
    ),
    "two": ("float", "uniform-mode-static", "uniform-mode-partition-homogeneous", "uniform-random-static"),
}
KEPT = ("accuracy", "loss", "curves", "examples", "measured_on", "parameters", "provenance", "size", "training_seconds")


def cases(inks: tuple[str, ...] = tuple(UNITS), folds: tuple[int, ...] = FOLDS) -> list[Config]:
    """All units of a fold before the next fold. Besides its inks, a case says what `experiments.make` is asked for."""
    return [
        {"inks": each, "data": "svhn-stand-in", "unit": unit, "fold": fold, "seed": 0, "size": "scaled"}
        for each in inks
        for fold, unit in itertools.product(folds, UNITS[each])
    ]


@functools.cache
def pictures(inks: str) -> tempfile.TemporaryDirectory:
    """A store of its own with the pictures of these inks, drawn once."""
    folder = tempfile.TemporaryDirectory()
    with stored_in(folder.name):
        store.save(standins.house_numbers(inks=inks))
    return folder


@contextlib.contextmanager
def stored_in(folder: str) -> Iterator[None]:
    """Data sets are looked for there, and afterwards where they were before."""
    before = os.environ.get("ANABOOK_DATA")
    os.environ["ANABOOK_DATA"] = folder
    try:
        yield
    finally:
        os.environ.pop("ANABOOK_DATA")
        if before is not None:
            os.environ["ANABOOK_DATA"] = before


def measure(config: Config) -> dict:
    """One run, with all its settings as they were at this size."""
    asked = {name: value for name, value in config.items() if name != "inks"}
    with stored_in(pictures(config["inks"]).name):
        record = run(make(**asked), progress=None)
    return {"settings": record["config"], **{name: record[name] for name in KEPT}}


def told(record: dict, _: object) -> str:
    """Which run it was, its accuracy, and how it began."""
    config, curve = record["config"], record["curves"]["accuracy"]
    return f"{config['inks']}, fold {config['fold']}, {config['unit']}: {record['accuracy']:.1%}; first epochs {curve[:5]}"


def older(line: dict) -> Config | None:
    """The case of a line that is a run's record with the inks in its provenance alone."""
    if line.get("record") != "inks":
        return None
    (inks,) = [name for name in UNITS if standins.INKS[name] in line["provenance"]["source"]]
    return {"inks": inks, **{name: line["config"][name] for name in ("data", "unit", "fold", "seed")}, "size": line["size"]}


STUDY = Study(
    "inks",
    cases,
    measure,
    told=told,
    older=older,
    options={
        "inks": Option(tuple(UNITS), "which inks", str, tuple(UNITS)),
        "folds": Option(FOLDS, "which folds"),
    },
)
