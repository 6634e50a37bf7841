"""The command line: `anabook data`, `train`, `sweep`, `results`, `export` and `grade`."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anabook
from anabook._validate import reason, refused
from anabook.check import command as grading_command

_OF_DEVICES = ("OutOfMemoryError", "AcceleratorError")  # torch's, by name: torch is not loaded to list data sets


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. What the user got wrong ends with code 2 and one sentence."""
    parser = argparse.ArgumentParser(prog="anabook", description="Additive Noise Annealing: data, experiments and courses.")
    parser.add_argument("--version", action="version", version=f"anabook {anabook.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_data(commands)
    _add_train(commands)
    _add_sweep(commands)
    _add_results(commands)
    _add_export(commands)
    grading_command.add(commands)
    arguments, rest = parser.parse_known_args(argv)
    if hasattr(arguments, "overrides"):  # argparse knows those before the first option only
        arguments.overrides = arguments.overrides + [word for word in rest if "=" in word and not word.startswith("-")]
        rest = [word for word in rest if "=" not in word or word.startswith("-")]
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        return arguments.run(arguments)
    except ModuleNotFoundError as error:
        extras = {"distributed": "cluster", "pandas": "experiments", "onnx": "deploy"}.get(
            error.name or "", "training,speech"
        )
        needs = "" if "pip install" in str(error) else f"; this command needs pip install 'anabook[{extras}]'."
        print(f"anabook: {error}{needs}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"anabook: {refused(error)}", file=sys.stderr)
        return 2
    except (ValueError, TypeError, FloatingPointError) as error:
        print(f"anabook: {str(error) or reason(error)}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if type(error).__name__ not in _OF_DEVICES:
            raise
        print(f"anabook: the device gave up ({reason(error).rstrip('.')}).", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("anabook: interrupted; nothing half-written was left behind.", file=sys.stderr)
        return 130


def _add_data(commands: argparse._SubParsersAction) -> None:
    from anabook.datasets import command

    data = commands.add_parser(
        "data",
        help="list, prepare and verify data sets",
        description="Without NAME, list the data sets: what the store holds, and what can be prepared.",
    )
    data.add_argument(
        "name", nargs="?", metavar="NAME", help="the data set to prepare, or a new name for images of your own"
    )
    data.add_argument("--from", dest="source", metavar="PATH", help="an archive or a folder already on disk")
    data.add_argument("--note", default="", help="what to record about the files given with --from")
    data.add_argument("--verify", action="store_true", help="compare what is stored with its recorded hashes")
    command.add_options(data)
    data.set_defaults(run=_data)


def _data(arguments: argparse.Namespace) -> int:
    from anabook.datasets import command, prepare, store

    options = command.given(arguments)
    if options and arguments.source is None:
        raise ValueError(f"--{next(iter(options)).replace('_', '-')} is for images of your own: add NAME and --from FOLDER.")
    if arguments.verify and (arguments.source or arguments.note):
        option = "--from" if arguments.source else "--note"
        raise ValueError(f"--verify compares what is stored already: leave out {option}.")
    if arguments.verify:
        return _verify([arguments.name] if arguments.name else store.names())
    if arguments.name is None:
        if arguments.source is not None or arguments.note:
            option = "--note" if arguments.source is None else "--from"
            raise ValueError(f"{option} needs the NAME of a data set: " + ", ".join(prepare.RECIPES) + ".")
        return _list()
    dataset = prepare.prepare(arguments.name, arguments.source, arguments.note, progress=True, **options)
    print(f"{dataset}\n{dataset.provenance.source}\n{store.path_of(dataset.name)}")
    return 0


def _list() -> int:
    from anabook.datasets import prepare, store

    stored = store.names()
    print(f"Store: {store.directory()}")
    for name in stored:
        print(f"  {name:18} {_described(name)}")
    if not stored:
        print("  nothing yet")
    print("To prepare, with `anabook data NAME`:")
    for name, recipe in prepare.RECIPES.items():
        if name not in stored:
            print(f"  {name:18} {recipe.summary}")
    return 0


def _described(name: str) -> str:
    """A line about a stored data set, or what is wrong with its file: one bad file does not hide the others."""
    from anabook.datasets import store

    try:
        provenance = store.describe(name)["provenance"]
        size = store.path_of(name).stat().st_size / 1e6
    except store.DatasetError as error:
        return f"cannot be used: {error}"
    note = f"; {provenance['note']}" if provenance.get("note") else ""
    return f"{size:8.1f} MB  {provenance['kind']}, {provenance.get('date', '')}: {provenance['source']}{note}"


def _verify(names: Sequence[str]) -> int:
    from anabook.datasets import store

    if not names:
        print(f"nothing to verify: the store {store.directory()} is empty.")
    worst = 0
    for name in names:
        try:
            store.verify(name)
        except store.DatasetError as error:
            print(f"anabook: {error}", file=sys.stderr)
            worst = 2
        else:
            print(f"{name}: every array is as it was prepared.")
    return worst


def _add_train(commands: argparse._SubParsersAction) -> None:
    train = commands.add_parser(
        "train",
        help="train one unit on one fold",
        description="Train the first unit of CONFIG on its first fold, or those that are named, and record the run.",
    )
    train.add_argument("config", metavar="CONFIG", help="a TOML file; see the README")
    _add_changes(train, "changes to the config, for example period=10")
    _add_unit(train)
    train.add_argument("--device", default="cpu", help="where to train (cpu)")
    train.add_argument("--results", metavar="FOLDER", help="where to record the run (data/results)")
    train.add_argument("--checkpoint", metavar="FILE", help="go on from this file, and write it after every epoch")
    _add_weights(train)
    train.set_defaults(run=_train)


def _add_changes(parser: argparse.ArgumentParser, about: str) -> None:
    # Without a default argparse would list it among the arguments that are required.
    parser.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE", help=about)


def _add_unit(parser: argparse.ArgumentParser, of: str = "") -> None:
    parser.add_argument("--unit", help=f"{of}the unit's name")
    parser.add_argument("--fold", help=f"{of}the fold's number, or test")


def _add_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", metavar="FOLDER", help="where to put final weights, packed (weights, in the store)")
    parser.add_argument("--no-weights", action="store_true", help="keep no final weights")


def _weights(arguments: argparse.Namespace) -> Path | None:
    """The folder for final weights."""
    from anabook._validate import path
    from anabook.datasets import store

    if arguments.no_weights:
        if arguments.weights is not None:
            raise ValueError("--weights and --no-weights contradict each other: leave out one of them.")
        return None
    return store.directory() / "weights" if arguments.weights is None else path(arguments.weights, "--weights")


def _train(arguments: argparse.Namespace) -> int:
    from anabook._validate import path
    from anabook.experiments import records
    from anabook.experiments import sweep as sweeps

    one = _one(arguments)
    sweeps.check_prepared([one])
    folder, also = _places(arguments.results)
    for place in (folder, *also):
        if not sweeps.plan([one], place).todo:
            print(f"{one.label} is recorded already, as {one.key} in {sweeps.results_file(one, place)}.")
            return 0
    checkpoint = None if arguments.checkpoint is None else path(arguments.checkpoint, "--checkpoint")
    sweeps.check_devices([arguments.device])
    file = sweeps.results_file(one, folder)
    records.check_writable(folder)
    weights = _weights(arguments)
    for place in (weights, checkpoint and checkpoint.parent):
        if place is not None:
            records.check_writable(place)
    from anabook.experiments.run import run

    record = run(one, device=arguments.device, checkpoint=checkpoint, keep=True, weights=weights, progress=None)
    records.append(file, record)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    print(
        f"{record['provenance']['title']}, {one.unit}, {one.size}: {record['accuracy']:.1%} on {record['measured_on']} data"
    )
    print(f"{sweeps.duration(record['seconds'])}; recorded as {one.key} in {file}")
    return 0


def _one(arguments: argparse.Namespace) -> Any:
    """The config of the first run that a file describes, or of that which --unit and --fold name."""
    from anabook.experiments import config

    values = config.read(arguments.config, arguments.overrides)
    if arguments.unit is not None:
        values["units"] = [arguments.unit]
    if arguments.fold is not None:
        values["folds"] = [arguments.fold]
        with contextlib.suppress(ValueError):
            values["folds"] = [int(arguments.fold)]
    return config.expand(values)[0]


def _places(results_option: str | None) -> tuple[Path, list[Path]]:
    """Where runs go, and where else finished ones may be: nowhere else where --results names a folder."""
    from anabook._validate import path
    from anabook.experiments import results

    if results_option is not None:
        return path(results_option, "--results"), []
    return results.folder(), results.others()


def _add_sweep(commands: argparse._SubParsersAction) -> None:
    sweep = commands.add_parser(
        "sweep",
        help="train many units on many folds",
        description="Train all units of CONFIG on all its folds, but for those that are recorded already.",
    )
    sweep.add_argument("config", nargs="?", metavar="CONFIG", help="a TOML file; see the README")
    _add_changes(sweep, "changes to the config, for example folds=[0,1]")
    sweep.add_argument("--list", action="store_true", help="list all units, groups and baselines")
    sweep.add_argument("--dry-run", action="store_true", help="say what would be done and how long it would take")
    sweep.add_argument("--workers", type=int, metavar="N", help="processes on this machine (one for each core)")
    sweep.add_argument(
        "--devices",
        "--device",
        nargs="+",
        default=["cpu"],
        metavar="DEVICE",
        help="cpu; cuda for all graphics cards, one for each process; or cuda:0 cuda:1 … for some (cpu)",
    )
    sweep.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="run on a Dask cluster instead, for example tcp://host:8786; with --device cuda, on those of its workers that "
        "offer a card (dask worker … --resources GPU=1)",
    )
    sweep.add_argument("--results", metavar="FOLDER", help="where to record runs (data/results)")
    sweep.add_argument("--checkpoints", metavar="FOLDER", help="keep checkpoints of unfinished runs there")
    _add_weights(sweep)
    sweep.set_defaults(run=_sweep)


def _sweep(arguments: argparse.Namespace) -> int:
    from anabook.experiments import config, design
    from anabook.experiments import sweep as sweeps

    if arguments.list:
        return _list_units(design)
    if arguments.config is None:
        raise ValueError("sweep needs a CONFIG; --list lists what it can name.")
    if arguments.workers is not None and arguments.workers < 1:
        raise ValueError(f"--workers must be at least 1, not {arguments.workers}.")
    if arguments.cluster is not None and arguments.workers is not None:
        raise ValueError("--workers is of this machine: with --cluster, the cluster's own workers run.")
    if arguments.cluster is not None and (len(arguments.devices) != 1 or ":" in arguments.devices[0]):
        raise ValueError(
            f"--devices {' '.join(arguments.devices)} names cards of this machine: with --cluster say cuda, and each worker "
            "takes one of its own."
        )
    configs = config.expand(config.read(arguments.config, arguments.overrides))
    folder, also = _places(arguments.results)
    weights = _weights(arguments)
    if arguments.dry_run:
        workers = arguments.workers or sweeps.default_workers(arguments.devices)
        if arguments.cluster is not None:
            with sweeps.cluster(arguments.cluster, device=arguments.devices[0]) as (_, workers):
                pass
        return _dry_run(sweeps, sweeps.plan(configs, folder, also), workers)
    if arguments.cluster is None:
        _, failed = sweeps.sweep(
            configs,
            folder,
            workers=arguments.workers,
            devices=arguments.devices,
            checkpoints=arguments.checkpoints,
            weights=weights,
            also=also,
            report=sweeps.print_line,
        )
    else:
        with sweeps.cluster(arguments.cluster, device=arguments.devices[0]) as (executor, workers):
            _, failed = sweeps.sweep(
                configs,
                folder,
                executor=executor,
                workers=workers,
                devices=arguments.devices,
                checkpoints=arguments.checkpoints,
                weights=weights,
                also=also,
                report=sweeps.print_line,
            )
    return 1 if failed else 0


def _list_units(design: Any) -> int:
    for name in (unit.name for unit in design.units()):
        print(name)
    for name, what in design.BASELINES.items():
        print(f"{name}: {what}")
    print("groups: " + ", ".join(design.GROUPS))
    return 0


def _dry_run(sweeps: Any, found: Any, workers: int) -> int:
    for sentence in found.set_aside:
        print(sentence)
    for one in found.todo:
        seconds = found.seconds.get(one.key)
        print(f"{one.key}  {one.label}" + ("" if seconds is None else f"  about {sweeps.duration(seconds)}"))
    estimate = found.estimate(workers)
    how_long = (
        "no like run is recorded to judge from"
        if estimate is None
        else f"about {sweeps.duration(estimate)} with {workers} at a time"
    )
    print(f"{len(found.todo)} runs to do ({how_long}), {found.done} recorded already.")
    return 0


def _add_results(commands: argparse._SubParsersAction) -> None:
    results = commands.add_parser(
        "results",
        help="tables of recorded runs, and verdicts on the paper's claims",
        description="Without a data set's name, list what is recorded.",
    )
    results.add_argument("data", nargs="?", metavar="NAME", help="the data set")
    results.add_argument("--size", default="scaled", help="paper, scaled or custom-… (scaled)")
    results.add_argument(
        "--measure",
        default="final",
        help="final (after training: unused_accuracy where all runs have it, else accuracy), accuracy, unused_accuracy, "
        "early, before_drop, drop_gain, best, noisy_accuracy or train_accuracy",
    )
    results.add_argument("--bootstrap", action="store_true", help="intervals by the bootstrap in place of Student's")
    results.add_argument("--claims", action="store_true", help="the verdicts on the claims about the data set")
    results.add_argument("--test", action="store_true", help="runs measured on the official test set")
    results.add_argument(
        "--results", metavar="FOLDER", help="where the runs are recorded (data/results, and those that come with anabook)"
    )
    results.add_argument("--csv", action="store_true", help="for other programs")
    results.set_defaults(run=_results)


def _results(arguments: argparse.Namespace) -> int:
    import warnings

    from anabook._validate import choice
    from anabook.experiments import claims, results
    from anabook.experiments.measures import resolved

    ignored = [f"--{name}" for name in ("test", "bootstrap", "csv") if getattr(arguments, name)]
    ignored += ["--measure"] * (arguments.measure != "final")
    if arguments.claims and ignored:
        raise ValueError(
            f"--claims judges validation data by Student's intervals, each claim by its own measure: leave out {ignored[0]}."
        )
    if arguments.data is None and not arguments.claims and (ignored or arguments.size != "scaled"):
        raise ValueError(
            f"{(ignored or ['--size'])[0]} needs the NAME of a data set; without options, `anabook results` lists them."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame = results.load(arguments.results)
    for sentence in frame.attrs["set_aside"]:
        print(f"anabook: {sentence}", file=sys.stderr)
    if not len(frame):
        raise ValueError(
            f"no finished run is recorded in {str(arguments.results or results.folder())!r}: "
            "`anabook sweep CONFIG` makes some."
        )
    if arguments.data is None and arguments.claims:
        return _all_claims(frame, arguments.size)
    if arguments.data is None:
        for (data, size, part), group in frame.groupby(["data", "size", "measured_on"]):
            print(f"{data}, {size}, {part}: {group['unit'].nunique()} units, {len(group)} runs{_meaning(size, group)}")
        return 0
    choice(arguments.data, sorted(frame["task"].unique()), "the data set")
    if arguments.claims:
        for verdict in claims.judge_all(frame, arguments.data, arguments.size):
            print(verdict)
        return 0
    runs = results.select(frame, arguments.data, arguments.size, "test" if arguments.test else "validation")
    measure = resolved(arguments.measure, runs)
    table = results.summary(runs, measure=measure, method="bootstrap" if arguments.bootstrap else "t")
    if arguments.csv:
        print(table.to_csv(index=False), end="")
        return 0
    size = arguments.size + _meaning(arguments.size, runs)
    print(f"{runs['data'].iloc[0]}, {size}: {measure} in per cent, 95 % interval over folds")
    for row in table.itertuples():
        print(f"{row.unit:58} {results.Estimate(row.mean, row.low, row.high, row.std, row.n)}  n = {row.n}")
    return 0


def _meaning(size: str, runs: Any) -> str:
    """What a size without a name of its own is, as one would type it; nothing for the named ones."""
    return f" ({runs['overrides'].iloc[0]})" if size.startswith("custom-") else ""


def _all_claims(frame: Any, size: str) -> int:
    """The verdicts on every data set that has runs of this size on held-out folds."""
    from anabook.experiments import claims, results

    tasks = list(dict.fromkeys(frame.loc[(frame["size"] == size) & (frame["measured_on"] == "validation"), "task"]))
    if not tasks:
        there = ", ".join(map(repr, sorted(frame["size"].unique())))
        raise ValueError(f"no run of size {size!r} is recorded; the sizes are {there}.")
    for number, task in enumerate(tasks):
        print(f"{chr(10) * (number > 0)}{results.select(frame, task, size)['data'].iloc[0]}, {size}:")
        for verdict in claims.judge_all(frame, task, size):
            print(f"  {verdict}")
    return 0


def _add_export(commands: argparse._SubParsersAction) -> None:
    export = commands.add_parser(
        "export",
        help="write a run's network as integers: an ONNX model, a file of NumPy's, C",
        description="Write the integer network of a run: integer weights and comparisons, no float before the last layer.",
    )
    export.add_argument("source", metavar="RUN", help="the key of a run, the file of its final weights, or a checkpoint")
    _add_changes(export, "changes to the config that --config names")
    export.add_argument("--onnx", metavar="FILE", help="write an ONNX model of standard integer operators")
    export.add_argument("--packed", action="store_true", help="store its weights in 2 or 4 bits, which new runtimes know")
    export.add_argument("--npz", metavar="FILE", help="write what anabook.deploy.load reads")
    export.add_argument("--c", metavar="FOLDER", help="write a header and a C file for a microcontroller")
    export.add_argument("--weights", metavar="FOLDER", help="where final weights are (the store, and what comes along)")
    export.add_argument("--config", metavar="CONFIG", help="of a checkpoint: the TOML file that its run was started with")
    _add_unit(export, "of a checkpoint: ")
    export.add_argument("--mean", type=float, help="of the inputs in training (computed from the prepared data)")
    export.add_argument("--std", type=float, help="of the inputs in training (computed from the prepared data)")
    export.add_argument(
        "--report", action="store_true", help="say what each layer costs, and with --c how large the code is"
    )
    export.set_defaults(run=_export)


def _export(arguments: argparse.Namespace) -> int:
    from anabook._validate import path
    from anabook.experiments import exports

    of_config = [f"--{name}" for name in ("unit", "fold") if getattr(arguments, name) is not None] + arguments.overrides
    if arguments.config is None and of_config:
        raise ValueError(f"{of_config[0]} changes the config of a checkpoint: name it with --config.")
    places = {
        name: None if getattr(arguments, name) is None else path(getattr(arguments, name), f"--{name}")
        for name in ("onnx", "npz", "c", "weights")
    }
    config, ints, written = exports.export(
        arguments.source,
        **places,
        config=None if arguments.config is None else _one(arguments),
        mean=arguments.mean,
        std=arguments.std,
        packed=arguments.packed,
    )
    print(exports.report(ints, c=arguments.c is not None) if arguments.report else ints)
    for file in written:
        print(f"{config.label}: {file}, {file.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
