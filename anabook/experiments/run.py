"""One run: a config in, a record out. Everything else here is about where and how the record was made."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from anabook import training
from anabook._validate import path as path_at
from anabook.datasets.batches import Batches
from anabook.experiments import own_networks, records
from anabook.experiments import weights as _weights
from anabook.experiments.config import Config
from anabook.experiments.networks import build, has_noise
from anabook.experiments.parts import parts as parts_of
from anabook.training import kernels
from anabook.training.devices import find_device

FUSED_FROM = 2**14
"""Elements from which on kernels are compiled: less than elsewhere, since a run repeats the same shapes for minutes."""


def run(
    config: Config,
    *,
    device: str = "cpu",
    threads: int | None = None,
    checkpoint: str | os.PathLike | None = None,
    keep: bool = False,
    weights: str | os.PathLike | None = None,
    progress: bool | None = False,
) -> dict[str, Any]:
    """Train one unit on one fold and measure it.

    Args:
        config: what to run.
        device: where.
        threads: of torch's, for the CPU; None leaves their number as it is.
        checkpoint: a file to go on from and to write after every epoch; it is deleted at the end.
        keep: leave the checkpoint there, for a caller who deletes it when the record is safe.
        weights: a folder for the final weights, rounded and packed; see `anabook.experiments.weights`.
        progress: as for `training.fit`.

    Returns:
        The record, as JSON holds it: config, accuracies and losses of every epoch, times, versions, machine, data
        provenance.

    Raises:
        NotPrepared: the data set is not in the store.
        ValueError: anything else that does not fit; see `training.fit` for what may happen while training.

    Example:
        >>> from anabook.datasets import standins, store
        >>> from anabook.experiments import make
        >>> stored = store.save(standins.objects(n_train=100, n_test=20))
        >>> record = run(make("cifar10-stand-in", "uniform-mode-static", n_train=100, period=1, width=0.05))
        >>> record["status"], len(record["curves"]["accuracy"])
        ('done', 10)
    """
    if threads is not None:
        torch.set_num_threads(threads)
    find_device(device)
    if checkpoint is not None:
        checkpoint = path_at(checkpoint, "checkpoint")
    start = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.start)
        net = build(config)
    net.to(device)
    parts = parts_of(config, device)
    with kernels.compiling(FUSED_FROM):
        history = _fit(config, net, parts.train, parts.held_out, device=device, checkpoint=checkpoint, progress=progress)
        whole(history, config.epochs)
        final = training.evaluate(net, parts.held_out) if config.fold is None else history[-1].test
        unused = None if parts.unused is None else training.evaluate(net, parts.unused)
    if weights is not None:
        _weights.save(net, config, path_at(weights, "weights"))
    if checkpoint is not None and not keep:
        checkpoint.unlink(missing_ok=True)
    return {
        "record": records.KIND,
        "key": config.key,
        "status": "done",
        "config": config.as_dict(),
        "size": config.size,
        "measured_on": "test" if config.fold is None else "validation",
        "accuracy": round(final.accuracy, 6),
        "loss": round(final.loss, 6),
        **({} if unused is None else {"unused": {"accuracy": round(unused.accuracy, 6), "loss": round(unused.loss, 6)}}),
        "examples": parts.examples,
        "curves": curves(history),
        "seconds": round(time.perf_counter() - start, 2),
        "training_seconds": round(sum(epoch.seconds for epoch in history), 2),
        "seed": config.start,
        "parameters": sum(p.numel() for p in net.parameters()),
        "provenance": parts.provenance,
        **({} if config.own_network is None else {"network": own_networks.provenance(dict(config.own_network))}),
        **circumstances(device),
    }


def whole(history: list[training.Epoch], epochs: int) -> list[training.Epoch]:
    """The history of a training that came to its end: of one that Ctrl-C cut short nothing is to be recorded.

    Raises:
        KeyboardInterrupt: it has fewer epochs than were asked for, as `training.fit` returns it after Ctrl-C.

    Example:
        >>> from anabook import datasets, models
        >>> history = training.fit(models.mlp(64, (8,)), datasets.digits().train, None, epochs=2)
        >>> len(whole(history, 2))
        2
    """
    if len(history) < epochs:
        raise KeyboardInterrupt
    return history


def _fit(config: Config, net: nn.Module, train: Batches, held_out: Batches, **how: Any) -> list[training.Epoch]:
    """`training.fit` with all that a config says of it: the one place where a run's settings become its arguments."""
    return training.fit(
        net,
        train,
        config.schedule(),
        epochs=config.epochs,
        batch_size=config.batch_size,
        seed=config.start,
        lr=lambda epoch: config.lr if epoch < config.drop else config.lr / 10,
        test=None if config.fold is None else held_out,
        initialise="near_thresholds" if has_noise(net) else None,
        precision=None if config.precision == "float32" else config.precision,
        channels_last=config.channels_last,
        compile=torch.device(how["device"]).type == "cuda",
        config={"run": config.key},
        **how,
    )


def attempt(
    values: dict[str, Any],
    device: str = "cpu",
    threads: int | None = None,
    checkpoint: str | None = None,
    weights: str | None = None,
) -> dict[str, Any]:
    """`run`, for other processes and machines: takes a plain config, keeps the checkpoint, returns errors as records.

    Example:
        >>> from anabook.experiments import make
        >>> attempt(make("svhn", "uniform-mode-static").as_dict())["status"]
        'failed'
    """
    config = Config.from_dict(values)
    start = time.perf_counter()
    try:
        return run(config, device=device, threads=threads, checkpoint=checkpoint, keep=True, weights=weights)
    except Exception as error:
        said = f"{type(error).__name__}: {str(error) or 'no message'}"
        return records.failure(config, said, time.perf_counter() - start) | circumstances(device)


def use(device: str) -> None:
    """Refuse a device that is not there; of several cards, make this one the present one of the thread.

    Example:
        >>> use("cpu")
    """
    find_device(device)
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)


def curves(history: list[training.Epoch]) -> dict[str, list[float]]:
    """One list for each quantity, one number for each epoch.

    Example:
        >>> from anabook import datasets, models
        >>> digits = datasets.digits()
        >>> history = training.fit(models.mlp(64, (8,)), digits.train, None, epochs=2, test=digits.test)
        >>> {name: len(values) for name, values in curves(history).items()}
        {'train_accuracy': 2, 'train_loss': 2, 'accuracy': 2, 'loss': 2}
    """
    found = {
        "train_accuracy": [round(e.train.accuracy, 4) for e in history],
        "train_loss": [round(e.train.loss, 4) for e in history],
    }
    if history[0].test is not None:
        found["accuracy"] = [round(e.test.accuracy, 4) for e in history]
        found["loss"] = [round(e.test.loss, 4) for e in history]
    if history[0].noisy_test is not None:
        found["noisy_accuracy"] = [round(e.noisy_test.accuracy, 4) for e in history]
    return found


def circumstances(device: str = "cpu") -> dict[str, Any]:
    """Versions, machine and code revision. The machine's kind, not its name.

    Example:
        >>> sorted(circumstances())
        ['date', 'machine', 'revision', 'versions']
    """
    return {
        "versions": {"python": platform.python_version(), "torch": torch.__version__, **_versions()},
        "machine": {**machine(), "device": _device_name(device), "threads": torch.get_num_threads()},
        "revision": revision(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


@cache
def revision() -> str | None:
    """The commit that the package's code is at, with "+" where files differ from it; None outside a repository.

    Example:
        >>> revision() is None or len(revision()) >= 7
        True
    """
    folder = Path(__file__).parent

    def git(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout

    try:
        if not git("ls-files", "--", "__init__.py").strip():
            return None
        changed = git("status", "--porcelain", "--", "..").strip()
        return git("rev-parse", "--short=12", "HEAD").strip() + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


@cache
def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("numpy", "anabook")}


@cache
def machine() -> dict[str, Any]:
    """The kind of machine, without its name.

    Example:
        >>> sorted(machine())
        ['cores', 'cpu', 'system']
    """
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    return {"cpu": model, "cores": os.cpu_count(), "system": platform.system()}


def _device_name(device: str) -> str:
    kind = str(device).partition(":")[0]
    if kind != "cuda":
        return kind  # torch has no one way to ask for the names of other devices
    try:
        return torch.cuda.get_device_name(device)
    except (RuntimeError, AssertionError):  # a failed run's record still says why it failed, and on what
        return str(device)
