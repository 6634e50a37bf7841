"""Many runs on any executor: local processes, a cluster, graphics cards. What is recorded is not run again."""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import os
import platform
import signal
import statistics
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

from anabook._validate import integer, reason
from anabook._validate import path as path_at
from anabook.datasets import store
from anabook.experiments import cards, records
from anabook.experiments.clusters import ExecutorLost
from anabook.experiments.clusters import cluster as cluster
from anabook.experiments.config import Config
from anabook.experiments.progress import Plan as Plan
from anabook.experiments.progress import Progress
from anabook.experiments.progress import duration as duration
from anabook.experiments.progress import print_line as print_line

_PATIENCE = 30.0  # seconds without news before an executor is asked whether there will be any
_CRASHES = 2  # how often a run may take its process down with it before it counts as failed


def results_file(config: Config, folder: Path) -> Path:
    """Where a run's line goes: one file for each data set and size.

    Example:
        >>> from anabook.experiments import make
        >>> results_file(make("cifar10", "float"), Path("runs")).as_posix()
        'runs/cifar10-scaled.jsonl'
    """
    return folder / f"{config.data}-{config.size}.jsonl"


def plan(configs: Iterable[Config], folder: Path, also: Sequence[Path] = ()) -> Plan:
    """Compare a sweep with what is recorded, in a folder and in others, such as `results.others()`.

    Example:
        >>> from anabook.experiments import make
        >>> len(plan([make("cifar10", "float")], Path("empty")).todo)
        1
    """
    configs = list({config.key: config for config in configs}.values())
    found = records.Read({}, [])
    for place in (folder, *also):
        files = sorted({results_file(config, place) for config in configs})
        found = records.merged(found, records.read([file for file in files if file.is_file()]))
    finished = {key: record for key, record in found.records.items() if record["status"] == "done"}
    todo = [config for config in configs if config.key not in finished]
    like: dict[tuple, list[float]] = {}
    for record in finished.values():
        data, unit = record["config"]["data"], record["config"]["unit"]
        for kind in (_likeness(data, record["size"], unit), (data, record["size"])):
            like.setdefault(kind, []).append(record["seconds"])
    seconds = {}
    for config in todo:
        for kind in (_likeness(config.data, config.size, config.unit), (config.data, config.size)):
            if kind in like:
                seconds[config.key] = statistics.median(like[kind])
                break
    return Plan(todo, len(configs) - len(todo), seconds, found.set_aside)


def sweep(
    configs: Iterable[Config],
    folder: str | os.PathLike,
    *,
    executor: Executor | None = None,
    workers: int | None = None,
    threads: int | None = None,
    devices: Sequence[str] = ("cpu",),
    slots: int | None = None,
    checkpoints: str | os.PathLike | None = None,
    weights: str | os.PathLike | None = None,
    also: Sequence[Path] = (),
    report: Callable[[str], None] = print,
) -> tuple[int, int]:
    """Run what is not recorded yet, and record each run as it ends.

    A run that fails is recorded with its error, and the others go on; the next sweep tries it again. When the sweep is
    killed, or the executor is gone, at most the runs in progress are lost (with `checkpoints`, at most an epoch of each):
    nothing is recorded of them, and the next sweep makes them. Runs in one process take turns.

    Args:
        configs: of the runs; see `config.expand`.
        folder: of the results files.
        executor: any executor of `concurrent.futures`, for example `distributed.Client.get_executor()`; it is not
            shut down. None makes local processes.
        workers: local processes; None for as many as there are cores, or devices. With `executor`: how many runs it
            makes at a time, where it does not tell.
        threads: of each local process; None for its share of the cores.
        devices: torch's names; the local processes take turns, so that with two names and four workers
            two share a card. "cuda" is all cards of the machine, one for each process. With `executor` one name for all
            its workers: "cuda" gives each of its processes a card, by CUDA_VISIBLE_DEVICES.
        slots: runs handed to `executor` at a time; None for two for each of its workers, where it tells their number.
        checkpoints: a folder for checkpoints of unfinished runs, for long ones.
        weights: a folder for each run's final weights; see `anabook.experiments.weights`.
        also: further folders whose finished runs are not run again; nothing is written there.
        report: gets a line now and then.

    Returns:
        The numbers of runs that were finished and that failed in this sweep.

    Raises:
        NotPrepared: a data set is not in the store (local processes only; elsewhere the runs fail one by one).
        ValueError: impossible numbers, or a device that a worker of `executor` lacks.
        ExecutorLost: (a ValueError) the executor gave runs up.
        OSError: a run cannot be recorded; the message says which, and where.

    Example:
        >>> from anabook.experiments import make, shipped
        >>> sweep([make("cifar10", "uniform-mode-static")], shipped.path("results"))
        all 1 runs are recorded already.
        (0, 0)
    """
    folder = path_at(folder, "folder")
    if checkpoints is not None:  # workers elsewhere may have another working folder
        checkpoints = path_at(checkpoints, "checkpoints").absolute()
    if weights is not None:
        weights = path_at(weights, "weights").absolute()
    todo = plan(configs, folder, also)
    for sentence in todo.set_aside:
        report(sentence)
    if not todo.todo:
        report(f"all {todo.done} runs are recorded already.")
        return 0, 0
    if workers is None:
        workers = default_workers(devices) if executor is None else getattr(executor, "_max_workers", None) or 1
    workers = integer(workers, "workers", minimum=1)
    if threads is not None:
        integer(threads, "threads", minimum=1)
    if slots is not None:
        integer(slots, "slots", minimum=1)
    if executor is None:
        check_prepared(todo.todo)
        check_devices(devices)
    elif len(devices) != 1 or ":" in devices[0]:
        raise ValueError(
            f"with an executor, devices must be one name without a number, such as 'cuda', not {', '.join(map(repr, devices))}."
        )
    records.check_writable(folder)
    for place in (checkpoints, weights):
        if place is not None:
            records.check_writable(place)
    places = _Places(checkpoints, weights)
    if executor is None:
        run_on: _Local | _Remote = _Local(workers, devices, places, threads)
    else:
        run_on = _Remote(executor, slots or 2 * workers, places, devices[0], report)
    progress = Progress(todo, workers, report)
    with contextlib.closing(run_on):
        for config, record in run_on.results(todo.todo):
            _record(config, folder, record)
            if checkpoints is not None and record["status"] == "done":  # only now: what is recorded cannot be lost
                Path(places.of(config)[0]).unlink(missing_ok=True)
            progress.note(config, record)
    progress.close()
    return progress.finished, progress.failed


def _record(config: Config, folder: Path, record: dict[str, Any]) -> None:
    file = results_file(config, folder)
    try:
        records.append(file, record)
    except OSError as error:
        raise OSError(
            f"the run {config.label} cannot be recorded in {str(file)!r} ({error.strerror or reason(error)}): when that is "
            "mended, the same sweep goes on"
        ) from error


def default_workers(devices: Sequence[str] = ("cpu",)) -> int:
    """As many as cores that this process may use, or as cards: all of the machine's for "cuda".

    Example:
        >>> default_workers(["cuda:0", "cuda:1"])
        2
    """
    if any(device != "cpu" for device in devices):
        return sum(len(cards.visible()) or 1 if device == "cuda" else 1 for device in devices)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_prepared(configs: Iterable[Config]) -> None:
    """Refuse data sets that are not in the store; the message says what to run.

    Example:
        >>> from anabook.experiments import make
        >>> try:
        ...     check_prepared([make("svhn", "float")])
        ... except ValueError as error:
        ...     print("anabook data svhn" in str(error))
        ...
        True
    """
    for name in sorted({config.data for config in configs}):
        store.describe(name)


def check_devices(devices: Sequence[str]) -> None:
    """Refuse devices that this machine does not have.

    Example:
        >>> check_devices(["cpu"])
    """
    if not devices:
        raise ValueError("devices must name at least one, such as 'cpu' or 'cuda:0'.")
    if importlib.util.find_spec("torch") is None:  # else each process would die of it, and each run with one
        raise ModuleNotFoundError("No module named 'torch'", name="torch")
    if any(device != "cpu" for device in devices):
        from anabook.training.devices import find_device  # torch, only where it is needed here

        for device in devices:
            find_device(device)


class _Places(NamedTuple):
    """Folders that runs write to by themselves; None for what is not to be written."""

    checkpoints: Path | None = None
    weights: Path | None = None

    def of(self, config: Config) -> tuple[str | None, str | None]:
        """A run's checkpoint, and the folder of its weights, as another process takes them."""
        checkpoint = None if self.checkpoints is None else str(self.checkpoints / f"{config.key}.pt")
        return checkpoint, None if self.weights is None else str(self.weights)


class _Remote:
    """On an executor of somebody's; one with a method `trouble` is asked now and then why nothing comes."""

    def __init__(self, executor: Executor, slots: int, places: _Places, device: str, report: Callable[[str], None]) -> None:
        self.executor, self.slots, self.places, self.device = executor, slots, places, device
        self.report, self.trouble = report, getattr(executor, "trouble", lambda: "")
        self.running: dict[Future, Config] = {}

    def results(self, configs: Sequence[Config]) -> Iterator[tuple[Config, dict[str, Any]]]:
        waiting = list(reversed(configs))
        while waiting or self.running:
            while waiting and len(self.running) < self.slots:
                config = waiting.pop()
                self.running[self._submit(config)] = config
            done, told = wait(self.running, _PATIENCE, FIRST_COMPLETED).done, ""
            while not done:
                if (trouble := self.trouble()) != told and trouble:
                    self.report(trouble)
                done, told = wait(self.running, _PATIENCE, FIRST_COMPLETED).done, trouble
            for future in sorted(done, key=_in_trouble):  # what is finished is recorded before anything ends the sweep
                if future.cancelled():  # the scheduler died, say
                    lost = len(self.running)
                    self.running.clear()
                    raise ExecutorLost(lost)
                config = self.running.pop(future)
                yield config, _outcome(future, config)

    def _submit(self, config: Config) -> Future:
        try:
            return self.executor.submit(_work, config.as_dict(), self.device, 1, *self.places.of(config))
        except Exception as error:  # shut down, or a cluster that is gone: the runs that are left are not to blame
            raise ValueError(
                f"the executor takes no more runs ({type(error).__name__}: {reason(error)}): start it again, "
                "and the same sweep goes on."
            ) from error

    def close(self) -> None:
        for future in self.running:
            future.cancel()


class _Local:
    """On processes of this machine, which are replaced when one dies.

    A process takes one run at a time; when one dies the pool is broken and all runs in it have to be begun again. A
    run that was there each of the times is recorded as failed.
    """

    def __init__(self, workers: int, devices: Sequence[str], places: _Places, threads: int | None = None) -> None:
        self.workers, self.devices, self.places = workers, list(devices), places
        self.threads = threads or max(1, default_workers() // workers)
        self.pool = self._pool()

    def _pool(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        turns = context.SimpleQueue()
        for i in range(self.workers):
            turns.put(self.devices[i % len(self.devices)])
        return ProcessPoolExecutor(self.workers, context, _settle, (turns, self.threads))

    def results(self, configs: Sequence[Config]) -> Iterator[tuple[Config, dict[str, Any]]]:
        waiting, crashes, suspects = list(reversed(configs)), {}, []
        running: dict[Future, Config] = {}
        while waiting or running or suspects:
            # Runs that were there when a process died are tried one by one, so that the guilty one is found.
            while (suspects or waiting) and len(running) < (1 if suspects else self.workers):
                config = suspects.pop() if suspects else waiting.pop()
                running[self._submit(config)] = config
                if crashes.get(config.key):
                    break
            lost = []
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                config = running.pop(future)
                if isinstance(future.exception(), BrokenProcessPool):
                    lost.append(config)
                else:
                    yield config, _outcome(future, config)
            if lost:
                lost += running.values()
                running.clear()
                self.close()  # a run that lives on would be made twice at once
                self.pool = self._pool()
                alone = len(lost) == 1
                for config in lost:
                    crashes[config.key] = crashes.get(config.key, 0) + 1
                    if alone and crashes[config.key] >= _CRASHES:
                        yield config, records.failure(config, "the process that ran it died, each time it was tried")
                    else:
                        suspects.append(config)

    def _submit(self, config: Config) -> Future:
        arguments = (_work, config.as_dict(), None, None, *self.places.of(config))
        with _deaf():
            try:
                return self.pool.submit(*arguments)
            except BrokenProcessPool:
                self.pool = self._pool()
                return self.pool.submit(*arguments)

    def close(self) -> None:
        processes = list((self.pool._processes or {}).values())
        self.pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
        for process in processes:  # until it is gone it holds its card
            process.join(timeout=5)


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Processes that begin in the block hear no Ctrl-C, which a terminal sends to all: the sweep hears it, and ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_device = "cpu"
_alone = threading.Lock()  # a run seeds the generators of its whole process


def _settle(turns: Any, threads: int) -> None:
    """In a new process: its device, no more threads than its share of the cores, and an end when the sweep ends."""
    global _device
    _device = cards.take(turns.get())
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)


def _work(
    values: dict[str, Any],
    device: str | None,
    threads: int | None,
    checkpoint: str | None = None,
    weights: str | None = None,
) -> dict[str, Any]:
    device = _device if device is None else cards.take(device)
    from anabook.experiments.run import attempt, use  # torch: in the process that trains only, and after its card is chosen

    try:
        use(device)
    except ValueError as error:
        raise cards.NoDevice(f"the worker on {platform.node()!r} can take no runs: {error}") from None
    with _alone:
        return attempt(values, device, threads, checkpoint, weights)


def _in_trouble(future: Future) -> int:
    return 2 if future.cancelled() else int(future.exception() is not None)


def _outcome(future: Future, config: Config) -> dict[str, Any]:
    try:
        return future.result()
    except cards.NoDevice:
        raise
    except ImportError as error:  # anabook or torch: every other run would end like this one
        raise ValueError(f"a worker cannot load what runs need ({error}): install anabook[training] there.") from None
    except (Exception, CancelledError) as error:
        return records.failure(config, f"{type(error).__name__}: {str(error) or 'the executor gave the run up'}")


def _likeness(data: str, size: str, unit: str) -> tuple[str, str, str]:
    """Runs that take about the same time: strategy and interval decide."""
    return data, size, "-".join(unit.split("-")[1:4])
