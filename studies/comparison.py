"""Which estimator? The same networks, starts, examples and budget for each of `methods.METHODS`, and what comes out.

The eight-layer VGG on CIFAR-10 and the DSCNN on Speech Commands, in the scaled sizes of the experiments, with three levels and
with four bits, from scratch and from a float checkpoint: eight tables. In each the learning rate of a method is the best on
fold 0 of a grid of three, with a fourth beyond the end where an end is best; then it is fixed for all folds. What is measured
at the end, without noise: the fold that was not trained on, by which rates are chosen, and for CIFAR-10 the 10,000 training
images that are in no fold, by which nothing is.

All methods of a fold have the same float network to begin with, the same examples in the same order with the same shifts and
flips, the same number of steps of Adam and the same drop of the learning rate to a tenth. From scratch that network has torch's
own initial weights, and a layer's quantum is the least for which its weights lie between the outermost levels: nothing is out of
an estimator's reach at the start. From a checkpoint a layer's quantum is the one that loses least by rounding
(`training.calibrate`). Features have the quantum that loses least of the start's, either way. Methods with learned quanta begin
with these; those that compute their own do so.

The float network of a fold is trained as the float method is, by its own best rate, and trained again by every process that
needs it: a record has the digest of the weights that it began with, and tests compare.

    accuracy, loss      on the fold
    unused              accuracy and loss on the images in no fold
    training_seconds    of all steps; seconds_per_step is the median over epochs; other processes ran beside it
    initial_sha256      of the float weights before the first step
    final_sha256        of the float networks after training
    quanta, learned     what the layers' quanta are at first, and what learned ones have become
    seen_sha256         of the labels, batch by batch, and of the first batch's inputs
    diverged            where training broke down: what happened; accuracies and losses are missing then
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import statistics
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from anabook import training
from anabook.experiments import config as configs
from anabook.experiments import make
from anabook.experiments.estimators import TABLES, choose_rate
from anabook.experiments.parts import Parts, parts
from anabook.experiments.run import FUSED_FROM
from anabook.training import kernels
from studies.loop import Config, Option, Record, Study, key_of, read, trained
from studies.methods import LEVELS, METHODS, Quanta, adam, schedule

TASKS = ("cifar10", "gsc12")
STARTS = ("scratch", "float")
FOLDS = (0, 1, 2, 3, 4)
PERIODS = {"scratch": 2, "float": 1}
"""Epochs for a layer; there are as many periods as layers, and three more, before the last two of which the rate drops."""


# --- cases --------------------------------------------------------------------------------------------------------------


def case(
    task: str, levels: str, start: str, method: str, lr: float, fold: int, checkpoint_lr: float | None = None
) -> Config:
    """One run; `checkpoint_lr` is the float network's rate where it starts from one."""
    n_layers, period = configs.TASKS[task].network.n_layers, PERIODS[start]
    sized = configs.of_size(task, "scaled")
    kept = {name: sized[name] for name in ("width", "shrink", "n_train", "batch_size", "augmentation")}
    before = {"checkpoint_lr": checkpoint_lr, "checkpoint_epochs": (n_layers + 3) * PERIODS["scratch"]}
    return {
        "task": task,
        "levels": "float" if method == "float" else levels,
        "start": start,
        "method": method,
        "edition": METHODS[method].edition,
        "lr": lr,
        "fold": fold,
        "seed": 0,
        "n_folds": 5,
        **kept,
        "epochs": (n_layers + 3) * period,
        "drop": (n_layers + 1) * period,
        "period": period,
        "optimiser": "Adam",
        "unused": sized.get("unused", 0),
        **(before if start == "float" else {}),
    }


def tuning(found: Mapping[str, Record], of: Any) -> tuple[list[Config], float | None]:
    """The runs of fold 0 that choose a rate, and the rate once they are all there.

    Args:
        found: the records by key.
        of: lr ↦ the case on fold 0.
    """
    tried, best = choose_rate(lambda lr: found.get(key_of(of(lr))))
    return [of(lr) for lr in tried], best


def table(
    found: Mapping[str, Record], task: str, levels: str, start: str, methods: tuple[str, ...], folds: tuple[int, ...]
) -> Iterator[Config]:
    """The cases of one table as far as they can be told from what is recorded: a method after the other."""
    checkpoint = None
    if start == "float":
        tried, checkpoint = tuning(found, lambda lr: case(task, levels, "scratch", "float", lr, 0))
        yield from tried
        if checkpoint is None:
            return
        yield from (case(task, levels, "scratch", "float", checkpoint, fold) for fold in folds)
    for method in methods:

        def of(lr: float, fold: int = 0, method: str = method) -> Config:
            return case(task, levels, start, method, lr, fold, checkpoint)

        tried, best = tuning(found, of)
        yield from tried
        if best is not None:
            yield from (of(best, fold) for fold in folds)


def cases(
    tasks: tuple[str, ...] = TASKS,
    levels: tuple[str, ...] = tuple(LEVELS),
    starts: tuple[str, ...] = STARTS,
    methods: tuple[str, ...] = tuple(METHODS),
    folds: tuple[int, ...] = FOLDS,
    found: Mapping[str, Record] | None = None,
) -> list[Config]:
    """A table after the other; the folds of a method once its learning rate is known.

    Args:
        tasks, levels, starts, methods, folds: those asked for.
        found: what is recorded, by key; None for the book's own records.
    """
    found = read(STUDY, STUDY.output).records if found is None else found
    asked = [(task, of, start) for task, of, start in TABLES if task in tasks and of in levels and start in starts]
    return [each for task, of, start in asked for each in table(found, task, of, start, methods, folds)]


# --- one run ------------------------------------------------------------------------------------------------------------


class Watched:
    """Batches that note what was seen of them: how many, their labels, and the first inputs."""

    def __init__(self, batches: Any) -> None:
        self.batches, self.steps, self._seen = batches, 0, hashlib.sha256()

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for x, y in self.batches:
            if not self.steps:
                self._seen.update(x.numpy().tobytes())
            self._seen.update(y.numpy().tobytes())
            self.steps += 1
            yield x, y

    @property
    def seen(self) -> str:
        return self._seen.hexdigest()[:16]


def data(config: Config) -> Parts:
    """The examples of a run; the order is another one after a checkpoint than before it."""
    names = ("width", "shrink", "n_train", "batch_size", "augmentation", "n_folds", "unused")
    sized = {name: config[name] for name in names}
    found = parts(make(config["task"], "float", config["fold"], seed=config["seed"], lr=config["lr"], **sized))
    if config["start"] == "float":
        found.train.generator.manual_seed(_start(config) + 500)
    return found


def _start(config: Config) -> int:
    return config["seed"] * 1000 + config["fold"]


def _n_layers(config: Config) -> int:
    return configs.TASKS[config["task"]].network.n_layers


def untrained(config: Config) -> nn.Module:
    """The float network with torch's initial weights, the same for all methods of a fold."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_start(config))
        return configs.TASKS[config["task"]].build(config["width"], config["shrink"])


def digest(net: nn.Module) -> str:
    """Sixteen hexadecimal digits of all weights and statistics."""
    weights = b"".join(t.detach().numpy().tobytes() for t in net.state_dict().values())
    return hashlib.sha256(weights).hexdigest()[:16]


def checkpoint_of(config: Config) -> Config:
    """The run of the float network that a run begins with."""
    period = config["checkpoint_epochs"] // (_n_layers(config) + 3)
    own = {"lr": config["checkpoint_lr"], "epochs": config["checkpoint_epochs"], "drop": (_n_layers(config) + 1) * period}
    kept = {name: value for name, value in config.items() if not name.startswith("checkpoint_")}
    is_float = {"levels": "float", "start": "scratch", "method": "float", "edition": METHODS["float"].edition}
    return {**kept, **is_float, **own, "period": period}


@functools.lru_cache(maxsize=16)
def _trained(text: str) -> nn.Module:
    config = json.loads(text)
    net = untrained(config)
    _train(config, net, data(config).train)
    return net


def starting(config: Config) -> nn.Module:
    """The float network that a run begins with; not to be changed."""
    if config["start"] == "scratch":
        return untrained(config)
    return _trained(json.dumps(checkpoint_of(config), sort_keys=True))


@functools.lru_cache(maxsize=64)
def _quanta(text: str) -> dict[str, float]:
    config = json.loads(text)
    net, train = starting(config), data(config).train
    rows = torch.arange(0, len(train.labels), max(1, len(train.labels) // 64))[:64]
    x = (train.inputs[rows].float() - train.mean) / train.std
    if config["start"] == "scratch":  # features normalised, as the first batches will have them
        net = copy.deepcopy(net)
        training.recalibrate(net, x)
    quantisers = LEVELS[config["levels"]]
    found = training.calibrate(net, x, quantisers.weights, quantisers.features)
    if config["start"] == "scratch":
        top = float(quantisers.weights.levels[-1])
        found |= {
            name: module.weight.detach().abs().max() / top
            for name, module in net.named_children()
            if isinstance(module, (nn.Conv2d, nn.Linear))
        }
    return {name: float(quantum) for name, quantum in found.items() if name != "last"}


def quanta(config: Config) -> Quanta:
    """What each layer's weights and features begin with, whatever the method and its rate."""
    return _quanta(json.dumps({**config, "method": "static", "edition": 1, "lr": 1.0}, sort_keys=True))


def _train(config: Config, net: nn.Module, batches: Any) -> list[training.Epoch]:
    with warnings.catch_warnings(), kernels.compiling(FUSED_FROM):
        warnings.filterwarnings("ignore", message=".*noise", category=UserWarning)  # wide slopes are what is measured
        return trained(
            net,
            batches,
            schedule(METHODS[config["method"]], _n_layers(config), config["period"]),
            epochs=config["epochs"],
            batch_size=config["batch_size"],
            optimiser=adam(net),
            lr=lambda epoch: config["lr"] / (1 if epoch < config["drop"] else 10),
            seed=_start(config),
        )


def measure(config: Config) -> dict:
    """Train and measure one network."""
    found, start = data(config), starting(config)
    is_float = config["method"] == "float"
    begun = {} if is_float else quanta(config)
    net = METHODS[config["method"]].make(start, LEVELS.get(config["levels"]), begun)
    watched = Watched(found.train)
    results: dict[str, Any] = {
        "initial_sha256": digest(start),
        "quanta": {name: round(quantum, 6) for name, quantum in begun.items()},
        "parameters": sum(p.numel() for p in net.parameters()),
        "examples": found.examples,
        "provenance": found.provenance,
    }
    try:
        history = _train(config, net, watched)
    except FloatingPointError as error:
        return results | {"diverged": str(error), "steps": watched.steps}
    score = training.evaluate(net, found.held_out)
    unused = None if found.unused is None else training.evaluate(net, found.unused)
    if is_float:
        results["final_sha256"] = digest(net)
    if learned := training.learned_quanta(net):
        results["learned"] = {name: round(float(quantum.detach()), 6) for name, quantum in learned.items()}
    return results | {
        "accuracy": round(score.accuracy, 6),
        "loss": round(score.loss, 6),
        **({} if unused is None else {"unused": {"accuracy": round(unused.accuracy, 6), "loss": round(unused.loss, 6)}}),
        "train_accuracy": [round(epoch.train.accuracy, 4) for epoch in history],
        "train_loss": [round(epoch.train.loss, 4) for epoch in history],
        "training_seconds": round(sum(epoch.seconds for epoch in history), 2),
        "seconds_per_step": round(statistics.median(epoch.seconds for epoch in history) / len(watched), 5),
        "steps": watched.steps,
        "seen_sha256": watched.seen,
    }


def told(record: dict, _: object) -> str:
    """Which run it was, and its accuracy."""
    config = record["config"]
    shown = "diverged" if "diverged" in record else f"{record['accuracy']:.1%}"
    if "unused" in record:
        shown += f" ({record['unused']['accuracy']:.1%} of the unused)"
    return (
        f"{config['task']}, {config['levels']}, from {config['start']}: {config['method']}, fold {config['fold']}, "
        f"rate {config['lr']:g}: {shown}, {record['wall_seconds']:.0f} s"
    )


STUDY = Study(
    "comparison",
    cases,
    measure,
    packages=("brevitas",),
    told=told,
    grows=True,
    options={
        "tasks": Option(TASKS, "which data", str, TASKS),
        "levels": Option(tuple(LEVELS), "how many levels", str, tuple(LEVELS)),
        "starts": Option(STARTS, "what to begin with", str, STARTS),
        "methods": Option(tuple(METHODS), "which estimators", str, tuple(METHODS)),
        "folds": Option(FOLDS, "which folds"),
    },
)
