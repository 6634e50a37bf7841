"""What stopping the backward pass saves: a whole partition run of the VGG with it and without.

A record has wall and CPU time of every epoch, a digest of the final weights, and for each stage of annealing the memory of
one training step (the largest total of live tensors beyond those that are there before the step, as the allocator reports
it) and the bytes that autograd keeps for the backward pass. The images are made up (`datasets.standins.objects`); times do
not depend on what they show.
"""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Mapping

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from anabook import Noise, Quantiser, Schedule, models, training
from anabook.datasets import standins
from studies.loop import Config, Option, Study, key_of, trained

LAYERS = 7
ADAM = functools.partial(torch.optim.Adam, fused=True)  # one pass over the parameters; it goes on while layers rest
RULES = {
    "full": None,
    "stop": training.Stopping(),
    "still": training.Stopping(still=True),
    "cache": training.Stopping(cache=True),
}


def cases(
    width: float = 0.25,
    n_train: int = 1024,
    batch_size: int = 128,
    period: int = 2,
    noise: str = "uniform",
    strategy: str = "mode",
    threads: int = 1,
    seeds: tuple[int, ...] = (0,),
    rules: tuple[str, ...] = ("full", "stop"),
) -> list[Config]:
    """The rules one after the other for each seed."""
    return [
        {
            "network": "vgg",
            "width": width,
            "n_train": n_train,
            "batch_size": batch_size,
            "period": period,
            "interval": "partition",
            "noise": noise,
            "strategy": strategy,
            "optimiser": "Adam, fused",
            "threads": threads,
            "seed": seed,
            "rule": rule,
        }
        for seed in seeds
        for rule in rules
    ]


def build(config: Config) -> tuple[torch.nn.Module, Schedule]:
    """The network and the schedule of a config."""
    torch.manual_seed(config["seed"])
    ternary = Quantiser.ternary()
    net = models.vgg(config["width"])
    net = training.quantise(net, ternary, ternary, noise=config["noise"], strategy=config["strategy"])
    std = Noise.covering(config["noise"], half_width=0.5).std
    return net, Schedule.periodic(LAYERS, config["period"], config["interval"], std0=std)


def data(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Normalised images and their labels."""
    x, y = standins.objects(config["n_train"], 10, seed=0).train
    x = x.astype(np.float32)
    return (x - x.mean()) / x.std(), y


class Clock:
    """A schedule that notes the process's CPU time at the beginning of each epoch."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule, self.n_layers, self.times = schedule, schedule.n_layers, []

    def __call__(self, layer: int, t: float) -> tuple[float, float]:
        if layer == 0:
            self.times.append(time.process_time())
        return self.schedule(layer, t)


def train(config: Config) -> dict:
    """One run, timed epoch by epoch."""
    net, schedule = build(config)
    clock, period = Clock(schedule), config["period"]
    history = trained(
        net,
        data(config),
        clock,
        epochs=(LAYERS + 3) * period,
        batch_size=config["batch_size"],
        seed=config["seed"],
        optimiser=ADAM,
        lr=lambda epoch: 1e-3 if epoch < (LAYERS + 1) * period else 1e-4,
        initialise="near_thresholds",
        stop=RULES[config["rule"]] or False,
    )
    cpu = np.diff([*clock.times[-len(history) :], time.process_time()])
    weights = b"".join(t.numpy().tobytes() for t in net.state_dict().values())
    return {
        "seconds": [round(epoch.seconds, 4) for epoch in history],
        "cpu_seconds": [round(float(s), 4) for s in cpu],
        "stopped": [epoch.stopped for epoch in history],
        "train_loss": [round(epoch.train.loss, 6) for epoch in history],
        "train_accuracy": [round(epoch.train.accuracy, 6) for epoch in history],
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }


def memory(config: Config) -> dict:
    """Of one training step with the first k layers annealed, k = 0, 1, …, in bytes."""
    x, y = (torch.as_tensor(t) for t in data({**config, "n_train": 4 * config["batch_size"]}))
    peaks, kept = [], []
    for annealed in range(LAYERS + 1):
        net, schedule = build(config)
        net.train()
        training.set_noise(net, schedule, annealed * config["period"])
        step = ADAM(net.parameters())
        rule = RULES[config["rule"]]
        stopper = training.Stopper(net, rule, x) if rule else None
        for _ in range(2):
            one_step(net, x, y, config["batch_size"], step, stopper)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            saved = one_step(net, x, y, config["batch_size"], step, stopper)
        events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
        changes = [e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]
        peaks.append(int(np.cumsum(changes).max()))
        kept.append(saved)
    return {"peak_bytes": peaks, "kept_bytes": kept}


def one_step(net, x, y, n, step, stopper) -> int:
    """The bytes that the graph keeps, each storage counted once and parameters left out."""
    storages: dict[int, int] = {}
    own = {p.untyped_storage().data_ptr() for p in net.parameters()}

    def note(t: torch.Tensor) -> torch.Tensor:
        storage = t.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return t

    if stopper is not None:
        stopper.renew()
    rows = torch.arange(n)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        outputs = net(x[rows]) if stopper is None else stopper.forward(rows)
        loss = cross_entropy(outputs, y[rows])
    step.zero_grad()
    if stopper is not None:
        stopper.watch(loss)
    loss.backward()
    if stopper is not None:
        stopper.settle()
    step.step()
    return sum(storages.values())


def measure(config: Config) -> dict:
    """Memory of a step, then a whole run."""
    torch.set_num_threads(config["threads"])
    return {"provenance": "stand-in", **memory(config), **train(config)}


def told(record: dict, found: Mapping[str, dict]) -> str:
    """The run's times, and their ratios to the full run's where that is measured."""
    config, seconds, cpu = record["config"], sum(record["seconds"]), sum(record["cpu_seconds"])
    line = f"seed {config['seed']} {config['rule']:5}: {seconds:8.1f} s, CPU {cpu:8.1f} s"
    full = found.get(key_of({**config, "rule": "full"}))
    if full is not None and config["rule"] != "full":
        ratios = [sum(record[what]) / sum(full[what]) for what in ("seconds", "cpu_seconds")]
        same = record["weights_sha256"] == full["weights_sha256"]
        line += f", {ratios[0]:.2f} of the full run's ({ratios[1]:.2f} of its CPU time), the same weights: {same}"
    return line


STUDY = Study(
    "stopping",
    cases,
    measure,
    told=told,
    older=lambda line: line["config"],
    options={
        "width": Option(0.25, "factor of all numbers of channels"),
        "n_train": Option(1024, "how many images"),
        "batch_size": Option(128, "how many at once"),
        "period": Option(2, "epochs in which one layer is annealed"),
        "noise": Option("uniform", "the noise's family"),
        "strategy": Option("mode", "the strategy"),
        "threads": Option(1, "of torch"),
        "seeds": Option((0,), "which seeds"),
        "rules": Option(("full", "stop"), "which ways to stop", str, tuple(RULES)),
    },
)
