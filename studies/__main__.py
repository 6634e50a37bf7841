"""The command line of the studies: see the package's first lines.

Exit codes: 0 measured, or nothing left to measure; 1 stopped before the end; 2 a name, a value or a file is wrong.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from anabook._validate import choice
from anabook.experiments.records import check_writable
from studies import STUDIES
from studies import __doc__ as usage
from studies.loop import Config, Record, Study, carry_out, plan


def parser_of(study: Study) -> argparse.ArgumentParser:
    """The options that all studies have, and this one's own."""
    description = sys.modules[f"studies.{study.name}"].__doc__
    parser = argparse.ArgumentParser(
        f"python -m studies {study.name}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", metavar="FILE", help=f"where the records are, and go (data/results/{study.name}.jsonl)")
    parser.add_argument("--dry-run", action="store_true", help="say what there is to do, and measure nothing")
    for name, option in study.options.items():
        flag, default = "--" + name.replace("_", "-"), option.default
        if isinstance(default, bool):
            parser.add_argument(flag, action="store_true", default=default, help=option.help)
        elif isinstance(default, tuple):
            shown = f"{option.help} ({' '.join(map(str, default))})"
            parser.add_argument(flag, nargs="+", type=option.kind, default=default, choices=option.choices, help=shown)
        else:
            kind, shown = (option.kind, option.help) if default is None else (type(default), f"{option.help} ({default})")
            parser.add_argument(flag, type=kind, default=default, choices=option.choices, help=shown)
    return parser


def _cases(study: Study, arguments: dict[str, Any], found: Mapping[str, Record]) -> Iterable[Config]:
    return study.cases(**arguments, **({"found": found} if study.grows else {}))


def main(words: list[str] | None = None) -> int:
    """Parse the command line and measure; returns the exit code."""
    words = sys.argv[1:] if words is None else words
    if not words or words[0] in ("-h", "--help"):
        print(usage)
        for name, what in STUDIES.items():
            print(f"  {name:12}{what}")
        return 0
    try:
        study = importlib.import_module(f"studies.{choice(words[0], STUDIES, 'the study')}").STUDY
        arguments = vars(parser_of(study).parse_args(words[1:]))
        output, dry = arguments.pop("output"), arguments.pop("dry_run")
        cases = partial(_cases, study, arguments)
        path, todo = plan(study, cases, output)
        if todo and not dry:
            check_writable(path.parent)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if not dry:
        try:
            while todo:
                carry_out(study, path, todo[:1] if study.grows else todo)
                todo = plan(study, cases, path, lambda sentence: None)[1] if study.grows else []
        except KeyboardInterrupt:
            print("stopped; what is measured is recorded, and the same command goes on with the rest.", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
