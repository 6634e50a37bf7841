"""The command line: `anabook data …`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import anabook


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. What the user got wrong ends with code 2 and one sentence."""
    parser = argparse.ArgumentParser(prog="anabook", description="Additive Noise Annealing: data and experiments.")
    parser.add_argument("--version", action="version", version=f"anabook {anabook.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_data(commands)
    arguments = parser.parse_args(argv)
    try:
        return arguments.run(arguments)
    except ModuleNotFoundError as error:
        print(f"anabook: {error}; this command needs pip install 'anabook[training,speech]'.", file=sys.stderr)
        return 2
    except (ValueError, TypeError) as error:
        print(f"anabook: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("anabook: interrupted; nothing half-written was left behind.", file=sys.stderr)
        return 130


def _add_data(commands: argparse._SubParsersAction) -> None:
    data = commands.add_parser(
        "data",
        help="list, prepare and verify data sets",
        description="Without NAME, list the data sets: what the store holds, and what can be prepared.",
    )
    data.add_argument("name", nargs="?", metavar="NAME", help="the data set to prepare")
    data.add_argument("--from", dest="source", metavar="PATH", help="an archive or a folder already on disk")
    data.add_argument("--note", default="", help="what to record about the files given with --from")
    data.add_argument("--verify", action="store_true", help="compare what is stored with its recorded hashes")
    data.set_defaults(run=_data)


def _data(arguments: argparse.Namespace) -> int:
    from anabook.datasets import prepare, store

    if arguments.verify:
        return _verify([arguments.name] if arguments.name else store.names())
    if arguments.name is None:
        if arguments.source:
            raise ValueError("--from needs the NAME of a data set: " + ", ".join(prepare.RECIPES) + ".")
        return _list()
    dataset = prepare.prepare(arguments.name, arguments.source, arguments.note, progress=True)
    print(f"{dataset}\n{dataset.provenance.source}\n{store.path_of(dataset.name)}")
    return 0


def _list() -> int:
    from anabook.datasets import prepare, store

    stored = store.names()
    print(f"Store: {store.directory()}")
    for name in stored:
        provenance = store.describe(name)["provenance"]
        size = store.path_of(name).stat().st_size / 1e6
        note = f"; {provenance['note']}" if provenance["note"] else ""
        print(f"  {name:18} {size:8.1f} MB  {provenance['kind']}, {provenance['date']}: {provenance['source']}{note}")
    if not stored:
        print("  nothing yet")
    print("To prepare, with `anabook data NAME`:")
    for name, recipe in prepare.RECIPES.items():
        if name not in stored:
            print(f"  {name:18} {recipe.summary}")
    return 0


def _verify(names: Sequence[str]) -> int:
    from anabook.datasets import store

    if not names:
        print(f"nothing to verify: the store {store.directory()} is empty.")
    for name in names:
        store.verify(name)
        print(f"{name}: every array is as it was prepared.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
