"""What stopping the backward pass saves: a whole partition run of the VGG with it and without.

    python benchmarks/stopping.py                      # appends what is missing to data/results/stopping.jsonl
    python benchmarks/stopping.py --period 50 --n-train 50000 --seeds 0 1 2

One JSON line per run: its config, wall and CPU time of every epoch, a digest of the final weights, and for each stage of
annealing the memory of one training step (the largest total of live tensors beyond those that are there before the step, as
the allocator reports it) and the bytes that autograd keeps for the backward pass. Runs that are in the file already are
skipped. The images are made up (`datasets.standins.objects`); times do not depend on what they show.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import platform
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from anabook import Noise, Quantiser, Schedule, models, training
from anabook.datasets import standins
from anabook.experiments.run import machine

LAYERS = 7
ADAM = functools.partial(torch.optim.Adam, fused=True)  # one pass over the parameters; it goes on while layers rest
RULES = {"full": None, "stop": training.Stopping(), "still": training.Stopping(still=True), "cache": training.Stopping(cache=True)}


def configs(args: argparse.Namespace) -> list[dict]:
    """One config a run, the rules one after the other for each seed."""
    return [{"network": "vgg", "width": args.width, "n_train": args.n_train, "batch_size": args.batch_size, "period": args.period,
             "interval": "partition", "noise": args.noise, "strategy": args.strategy, "optimiser": "Adam, fused",
             "threads": args.threads, "seed": seed, "rule": rule} for seed in args.seeds for rule in args.rules]


def build(config: dict) -> tuple[torch.nn.Module, Schedule]:
    """The network and the schedule of a config."""
    torch.manual_seed(config["seed"])
    ternary = Quantiser.ternary()
    net = training.quantise(models.vgg(config["width"]), ternary, ternary, noise=config["noise"], strategy=config["strategy"])
    std = Noise.covering(config["noise"], half_width=0.5).std
    return net, Schedule.periodic(LAYERS, config["period"], config["interval"], std0=std)


def data(config: dict) -> tuple[np.ndarray, np.ndarray]:
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


def train(config: dict) -> dict:
    """One run, timed epoch by epoch."""
    net, schedule = build(config)
    clock, period = Clock(schedule), config["period"]
    history = training.fit(
        net, data(config), clock, epochs=(LAYERS + 3) * period, batch_size=config["batch_size"], seed=config["seed"],
        optimiser=ADAM, lr=lambda epoch: 1e-3 if epoch < (LAYERS + 1) * period else 1e-4, initialise="near_thresholds",
        stop=RULES[config["rule"]] or False,
    )
    cpu = np.diff([*clock.times[-len(history):], time.process_time()])
    weights = b"".join(t.numpy().tobytes() for t in net.state_dict().values())
    return {
        "seconds": [round(epoch.seconds, 4) for epoch in history],
        "cpu_seconds": [round(float(s), 4) for s in cpu],
        "stopped": [epoch.stopped for epoch in history],
        "train_loss": [round(epoch.train.loss, 6) for epoch in history],
        "train_accuracy": [round(epoch.train.accuracy, 6) for epoch in history],
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }


def memory(config: dict) -> dict:
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


def key(config: dict) -> str:
    return json.dumps(config, sort_keys=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--n-train", type=int, default=1024)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--period", type=int, default=2, help="epochs in which one layer is annealed")
    parser.add_argument("--noise", default="uniform")
    parser.add_argument("--strategy", default="mode")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rules", nargs="+", choices=RULES, default=["full", "stop"])
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "data" / "results" / "stopping.jsonl")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    done = {}
    if args.output.is_file():
        done = {key(run["config"]): run for run in map(json.loads, args.output.read_text().splitlines())}
    for config in configs(args):
        if key(config) not in done:
            run = {"config": config, "provenance": "stand-in", "machine": machine(),
                   "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
                   **memory(config), **train(config)}
            args.output.parent.mkdir(parents=True, exist_ok=True)
            with args.output.open("a") as file:
                file.write(json.dumps(run) + "\n")
            done[key(config)] = run
        report(config, done)


def report(config: dict, done: dict) -> None:
    run = done[key(config)]
    line = f"seed {config['seed']} {config['rule']:5}: {sum(run['seconds']):8.1f} s, CPU {sum(run['cpu_seconds']):8.1f} s"
    full = done.get(key({**config, "rule": "full"}))
    if full is not None and config["rule"] != "full":
        ratios = [sum(run[what]) / sum(full[what]) for what in ("seconds", "cpu_seconds")]
        same = run["weights_sha256"] == full["weights_sha256"]
        line += f", {ratios[0]:.2f} of the full run's ({ratios[1]:.2f} of its CPU time), the same weights: {same}"
    print(line)


if __name__ == "__main__":
    main()
