"""One run: a config in, a record out. Everything else here is about where and how the record was made."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import time
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from anabook import training
from anabook._validate import path as path_at
from anabook.datasets import store
from anabook.datasets.batches import Batches, statistics
from anabook.experiments import records
from anabook.experiments.config import Config
from anabook.quantisers import Quantiser
from anabook.training import kernels
from anabook.training.devices import find_device
from anabook.training.modules import Quantise

_EVALUATION = 1000
_FUSED_FROM = 2**14
"""Elements from which on kernels are compiled: less than elsewhere, since a run repeats the same shapes for minutes."""


def run(
    config: Config,
    *,
    device: str = "cpu",
    threads: int | None = None,
    checkpoint: str | os.PathLike | None = None,
    keep: bool = False,
    progress: bool | None = False,
) -> dict[str, Any]:
    """Train one unit on one fold and measure it.

    Args:
        config: what to run.
        device: where.
        threads: of torch's, for the CPU; None leaves their number as it is.
        checkpoint: a file to go on from and to write after every epoch; it is deleted at the end.
        keep: leave the checkpoint there, for a caller who deletes it when the record is safe.
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
    train, held_out, provenance, shape = _parts(config, device)
    with kernels.compiling(_FUSED_FROM):
        history = _fit(config, net, train, held_out, device=device, checkpoint=checkpoint, progress=progress)
        if len(history) < config.epochs:
            raise KeyboardInterrupt
        final = training.evaluate(net, held_out) if config.fold is None else history[-1].test
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
        "examples": shape,
        "curves": curves(history),
        "seconds": round(time.perf_counter() - start, 2),
        "training_seconds": round(sum(epoch.seconds for epoch in history), 2),
        "seed": config.start,
        "parameters": sum(p.numel() for p in net.parameters()),
        "provenance": provenance,
        **circumstances(device),
    }


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
        initialise="near_thresholds" if _has_noise(net) else None,
        precision=None if config.precision == "float32" else config.precision,
        channels_last=config.channels_last,
        compile=torch.device(how["device"]).type == "cuda",
        config={"run": config.key},
        **how,
    )


def attempt(
    values: dict[str, Any], device: str = "cpu", threads: int | None = None, checkpoint: str | None = None
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
        return run(config, device=device, threads=threads, checkpoint=checkpoint, keep=True)
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


def build(config: Config) -> nn.Module:
    """The network of a config, quantised unless it is the float baseline, with weights from torch's global generator.

    Example:
        >>> from anabook.experiments import make
        >>> net = build(make("cifar10", "uniform-mode-static"))
        >>> net(torch.zeros(2, 3, 16, 16)).shape
        torch.Size([2, 10])
    """
    net, network = config.task.build(config.width, config.shrink), config.task.network
    kind = config.quantisation()
    if kind is None:
        if config.unit == "float":
            return net
        return straight_through(net, network.weights, network.activations, clip=config.unit == "ste")
    return training.quantise(net, network.weights, network.activations, noise=kind[0], strategy=kind[1])


def _has_noise(net: nn.Module) -> bool:
    """Whether latent weights are to be drawn near thresholds."""
    return any(isinstance(module, Quantise) for module in net.modules())


class StraightThrough(nn.Module):
    """σ forwards; backwards the identity, from half a quantum below the first threshold to half a quantum above the last.

    Written without noise and without the package's kernels, so that the baseline owes them nothing. With `clip=False`
    the gradient passes everywhere.

    Example:
        >>> ste = StraightThrough(Quantiser.ternary(), clip=True)
        >>> x = torch.tensor([-2.0, 0.3, 0.7], requires_grad=True)
        >>> y = ste(x)
        >>> y.sum().backward()
        >>> y.detach(), x.grad
        (tensor([-1.,  0.,  1.]), tensor([0., 1., 1.]))
    """

    def __init__(self, quantiser: Quantiser, clip: bool) -> None:
        super().__init__()
        thresholds, levels = quantiser.thresholds, quantiser.levels
        half = (levels[1] - levels[0]) / 2
        self.low, self.high = (float(thresholds[0] - half), float(thresholds[-1] + half)) if clip else (-np.inf, np.inf)
        self.register_buffer("levels", torch.tensor(levels, dtype=torch.float32), persistent=False)
        self.register_buffer("thresholds", torch.tensor(thresholds, dtype=torch.float32), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.levels[torch.bucketize(x.detach(), self.thresholds, right=True)]
        passed = torch.clamp(x, self.low, self.high)
        return y + (passed - passed.detach()) if self.training or x.requires_grad else y

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight


def straight_through(net: nn.Module, weights: Quantiser, activations: Quantiser, clip: bool) -> nn.Module:
    """The same conversion as `training.quantise`'s, with `StraightThrough` in place of noise; the last layer stays.

    Example:
        >>> from anabook import models
        >>> seed = torch.manual_seed(0)
        >>> net = straight_through(models.mlp(4, (3,)), Quantiser.ternary(), Quantiser.ternary(), clip=True)
        >>> type(net.fc1_act).__name__
        'StraightThrough'
    """
    net = training.quantise(net, weights, activations)
    training.initialise_near_thresholds(net, torch.initial_seed() % 2**63)
    for name, module in list(net.named_modules()):
        if isinstance(module, Quantise) and ".parametrizations." not in f".{name}":
            parent, _, last = name.rpartition(".")
            setattr(net.get_submodule(parent), last, StraightThrough(activations, clip))
        if parametrize.is_parametrized(module, "weight"):
            module.parametrizations.weight[0] = StraightThrough(weights, clip)
    return net


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


@lru_cache(maxsize=2)
def _arrays(data: str, shrink: int, n_train: int, n_folds: int, fold: int | None, stamp: int) -> tuple:
    """Inputs and labels to train on and to measure on; `stamp` makes a data set that was prepared anew a new one."""
    dataset = store.load(data)
    if n_train:
        if n_train > int((dataset.split == 0).sum()):
            raise ValueError(f"n_train is {n_train}, but {data!r} has {int((dataset.split == 0).sum())} training examples.")
        dataset = store.subset(dataset, n_train)
    x, y = dataset.train
    if fold is None:
        train, held_out = (x, y), dataset.test
        if not len(held_out[1]):
            raise ValueError(f"{data!r} has no official test set: its folds are all there is.")
    else:
        rows, others = store.folds(dataset, n_folds)[fold]
        train, held_out = (x[rows], y[rows]), (x[others], y[others])
    mean, std = statistics(train[0])
    small = [_shrunk(part[0], shrink) for part in (train, held_out)]
    if shrink > 1:
        mean, std = statistics(small[0])
    provenance = {
        "title": dataset.title,
        "kind": dataset.provenance.kind,
        "source": dataset.provenance.source,
        "note": dataset.provenance.note,
        "sha256": store.describe(data)["sha256"]["inputs"][:16],
    }
    return (small[0], train[1]), (small[1], held_out[1]), mean, std, provenance


def _shrunk(x: np.ndarray, by: int) -> np.ndarray:
    """Images averaged over blocks of by × by pixels."""
    if by == 1:
        return x
    n, channels, height, width = x.shape
    return x.reshape(n, channels, height // by, by, width // by, by).mean((3, 5), dtype=np.float32)


def _parts(config: Config, device: str) -> tuple[Batches, Batches, dict[str, Any], dict[str, int]]:
    path = store.path_of(config.data)
    stamp = path.stat().st_mtime_ns if path.is_file() else 0
    train, held_out, mean, std, provenance = _arrays(
        config.data, config.shrink, config.n_train, config.n_folds, config.fold, stamp
    )
    batches = Batches(
        *train,
        config.batch_size,
        mean,
        std,
        config.augmentation,
        shuffle=True,
        seed=config.start,
        device=device,
        reach=4 // config.shrink,
    )
    examples = {"training": len(train[1]), "held_out": len(held_out[1])}
    return batches, Batches(*held_out, _EVALUATION, mean, std, device=device), provenance, examples
