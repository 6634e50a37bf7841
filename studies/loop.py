"""The loop of every study, and the format of its records.

A record is one line of JSON in `data/results/NAME.jsonl`:

    study           the study's name
    key             a hash of config, by which a case is found again
    config          the case: everything that the results depend on but for versions and machine, the seed among it
    …               the results, by name
    wall_seconds    for the whole case
    versions, machine, revision, date    with what, where (kind, not name), at which commit ("+": files differed), when

Lines are written one by one, all or nothing. Cases that are in the file are skipped, so that a study that was stopped goes
on where it was. What was measured before this format still counts: a study knows the cases of its older lines.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from anabook import training
from anabook._validate import path as path_at
from anabook.experiments import records
from anabook.experiments.run import circumstances, whole

RESULTS = Path(__file__).resolve().parents[1] / "data" / "results"

Config = dict[str, Any]
Record = dict[str, Any]


class Option(NamedTuple):
    """What `cases` can be asked for on the command line.

    Attributes:
        default: its type says what is read: a flag for False, several values for a tuple.
        help: a few words.
        kind: of each of several values, or of a value whose default is None.
        choices: the values that are allowed.
    """

    default: Any
    help: str
    kind: Callable[[str], Any] = int
    choices: tuple[str, ...] | None = None


def _outcome(record: Record, found: Mapping[str, Record]) -> str:
    return f"{record['wall_seconds']:.1f} s"


def _unknown(line: Record) -> Config | None:
    return None


@dataclass(frozen=True)
class Study:
    """What is measured.

    Attributes:
        name: of the module and of the file of results.
        cases: makes the cases, each a dictionary that JSON holds, with a "seed"; its arguments are `options`, and their
            defaults make what the chapter shows.
        measure: the results of a case, by name. It is called with one thread, and may set another number.
        options: of `cases`, by name.
        packages: whose versions are noted besides those of Python, torch, NumPy and anabook.
        told: a line for a record, given all records by key.
        older: the case of a line that was written before this format, or None where it is none of this study's.
        grows: whether cases follow from what is measured. Then `cases` also takes `found`, the records by key (None for the
            book's own), and gives all cases that can be told from these; it is asked again after each measurement.
    """

    name: str
    cases: Callable[..., Iterable[Config]]
    measure: Callable[[Config], dict[str, Any]]
    options: Mapping[str, Option] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    told: Callable[[Record, Mapping[str, Record]], str] = _outcome
    older: Callable[[Record], Config | None] = _unknown
    grows: bool = False

    @property
    def output(self) -> Path:
        """Where the results of the book are."""
        return RESULTS / f"{self.name}.jsonl"


class Read(NamedTuple):
    """What was found in a file.

    Attributes:
        records: by key, the first of each.
        set_aside: a sentence for each line that is no record of the study, with its number.
    """

    records: dict[str, Record]
    set_aside: list[str]


def key_of(config: Config) -> str:
    """Sixteen hexadecimal digits, the same for the same case whatever the order of its entries."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def read(study: Study, path: Path) -> Read:
    """The records of a study's file, those of older formats as they are; none if there is no file."""
    found: dict[str, Record] = {}
    set_aside = []
    for number, text in enumerate(path.read_bytes().splitlines() if path.exists() else [], 1):
        try:
            line = json.loads(text)
            config = study.older(line) if "study" not in line else line["config"] if line["study"] == study.name else None
        except (ValueError, TypeError, KeyError, AttributeError):
            line = config = None
        if isinstance(config, dict):
            found.setdefault(key_of(config), line)
        elif text.strip():
            set_aside.append(f"{path.name}, line {number} is no record of the study {study.name!r}: set aside.")
    return Read(found, set_aside)


def trained(net: nn.Module, data: Any, schedule: Any, *, epochs: int, **how: Any) -> list[training.Epoch]:
    """`training.fit` for a study: all epochs, without a progress bar.

    Args:
        net, data, schedule, epochs: as `training.fit` takes them.
        how: the rest of them, by name.

    Raises:
        KeyboardInterrupt: Ctrl-C ended the training early; nothing is recorded of half a run.
    """
    return whole(training.fit(net, data, schedule, epochs=epochs, progress=False, **how), epochs)


def measured(study: Study, config: Config) -> Record:
    """The record of one case, measured now.

    Raises:
        ValueError: the study names a result as an entry of every record is named.
    """
    torch.set_num_threads(1)
    start = time.perf_counter()
    results = study.measure(config)
    seconds = round(time.perf_counter() - start, 2)
    around = circumstances()
    around["versions"] |= {name: version(name) for name in study.packages}
    record = {"study": study.name, "key": key_of(config), "config": config, "wall_seconds": seconds, **around}
    if taken := sorted(record.keys() & results.keys()):
        raise ValueError(
            f"the study {study.name!r} must not name a result as every record's entries are named: {', '.join(taken)}."
        )
    return record | results


def plan(
    study: Study,
    cases: Iterable[Config] | Callable[[Mapping[str, Record]], Iterable[Config]],
    output: Path | str | None = None,
    report: Callable[[str], None] = print,
) -> tuple[Path, list[Config]]:
    """The file, and the cases that are missing in it, each once.

    Args:
        study: what is to be measured.
        cases: of the study, or a function that makes them of the file's records.
        output: the file; None for the book's own. `~` is the home folder.
        report: is told what is set aside, and how much there is to do.

    Raises:
        ValueError: there are no cases, a case has no seed, or the file is a folder.
    """
    path = study.output if output is None else path_at(output, "--output")
    if path.is_dir():
        raise ValueError(f"--output must be a file, and {str(path)!r} is a folder.")
    found = read(study, path)
    wanted: dict[str, Config] = {}
    for config in cases(found.records) if callable(cases) else cases:
        if "seed" not in config:  # it could not be repeated
            raise ValueError(f"each case of the study {study.name!r} must have a seed, and {config!r} has none.")
        wanted.setdefault(key_of(config), config)
    if not wanted:
        raise ValueError(f"the study {study.name!r} must be asked for at least one case.")
    for sentence in found.set_aside:
        report(sentence)
    todo = [config for key, config in wanted.items() if key not in found.records]
    report(f"{study.name}: {len(todo)} of {len(wanted)} cases to measure, {len(wanted) - len(todo)} recorded in {path}")
    return path, todo


def carry_out(study: Study, path: Path, todo: Iterable[Config], report: Callable[[str], None] = print) -> int:
    """Measure cases and add the record of each to the file as soon as it is there; returns how many were measured.

    Each is reported. A case that another process has put into the file meanwhile is passed over.

    Raises:
        ValueError: the file's folder cannot be written to.
    """
    records.check_writable(path.parent)
    n = 0
    for config in todo:
        if key_of(config) not in read(study, path).records:
            record = measured(study, config)
            records.append(path, record)
            n += 1
            report(study.told(record, read(study, path).records))
    return n
