"""How far networks are from their limit while the noise fades: certificates, bounds and what is measured, epoch by epoch.

Two kinds of networks. On the digits, fully connected ones with four quantised layers of 32 units, weights and features
ternary, uniform noise, a period of 10 epochs, 70 epochs; on CIFAR-10, what `experiments.make` gives for the scaled
eight-layer VGG. Both are trained with the partition and with the same end. After each epoch `training.certified` compares
the network at that epoch's noise with the one without, on inputs that it is not trained on: with the noise of the
activations alone, as the theorem has it, and with that of the weights as well.

Then the noise of the trained network is put back at given sizes, drawn at random, in the activations: every law at the same
mean distance from 0, in all layers at once; and uniform noise of one size in one layer at a time.

Ten to twenty seconds a case on the digits, two minutes on CIFAR-10, on a core of its own. CIFAR-10 must be in the store.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from anabook import Noise, Quantiser, Schedule, datasets, models, training
from anabook.convergence import mean_magnitude
from anabook.experiments import make
from anabook.experiments import networks as built
from anabook.experiments import parts as parts_module
from anabook.experiments.run import FUSED_FROM, curves
from anabook.laws import FAMILIES
from anabook.training import kernels
from studies.loop import Config, Option, Study, trained

DATA = ("digits", "cifar10")
INTERVALS = ("partition", "same-end")
STRATEGIES = ("random", "expectation")
LAYERS, WIDTH = 4, 32
DIGITS = {"period": 10, "batch_size": 128, "lr": 2e-2, "draws": 16, "inputs": 359}
CIFAR10 = {"period": 3, "fold": 0, "draws": 4, "inputs": 200}
MAGNITUDES = {
    "digits": tuple(2.0**-k for k in range(10, 2, -1)),
    "cifar10": tuple(2.0**-k for k in range(17, 2, -2)),
}
"""E abs(ν), in units of the quantum: finer where there are more units."""

SINGLE = 1 / 16
"""The same for noise in one layer at a time."""


def cases(data: tuple[str, ...] = DATA, seeds: tuple[int, ...] = (0, 1, 2)) -> list[Config]:
    """On the digits both strategies and all seeds; on CIFAR-10 random draws and the first seed."""
    found = []
    if "digits" in data:
        found += [
            {"data": "digits", "unit": f"uniform-{strategy}-{interval}-homogeneous", **DIGITS, "seed": seed}
            for seed in seeds
            for strategy in STRATEGIES
            for interval in INTERVALS
        ]
    if "cifar10" in data:
        units = [f"uniform-random-{interval}-homogeneous" for interval in INTERVALS]
        found += [{"data": "cifar10", "unit": unit, **CIFAR10, "seed": seeds[0]} for unit in units]
    return found


class Task:
    """The network, the schedule and the data of a case."""

    def __init__(self, config: Config) -> None:
        self.config = config
        noise, self.strategy, words = config["unit"].split("-", 2)
        interval = words.rpartition("-")[0].replace("-", "_")
        if config["data"] == "digits":
            digits = datasets.digits(seed=config["seed"])
            self.period, self.n_layers, self.lr, self.batch_size = (
                config["period"],
                LAYERS,
                config["lr"],
                config["batch_size"],
            )
            std = Noise.covering(noise, half_width=0.5).std
            self.schedule = Schedule.periodic(LAYERS, self.period, interval, std0=std)
            self.train: Any = digits.train
            self.test: Any = digits.test
            self.inputs: Any = digits.x_test
            self.seed = config["seed"]
            self.provenance = {"kind": digits.provenance.kind, "source": digits.provenance.source}
        else:
            wanted = {name: config[name] for name in ("fold", "seed", "period")}
            size = {name: config[name] for name in ("n_train", "width", "shrink") if name in config}
            self.settings = make(config["data"], config["unit"], **wanted, **size)
            parts = parts_module.parts(self.settings)
            self.period, self.n_layers = self.settings.period, len(training.layers(built.build(self.settings)))
            self.schedule, self.lr, self.batch_size = self.settings.schedule(), self.settings.lr, self.settings.batch_size
            self.train, self.test = parts.train, parts.held_out
            self.inputs = torch.cat([x for x, _ in parts.held_out])
            self.seed, self.provenance = self.settings.start, parts.provenance
        self.inputs = self.inputs[: config["inputs"]]

    def network(self, noise: str = "uniform", strategy: str | None = None) -> nn.Module:
        """The network before training, with a noise and a strategy, the task's by default."""
        torch.manual_seed(self.seed)
        strategy = strategy or self.strategy
        if self.config["data"] == "digits":
            ternary = Quantiser.ternary()
            net = models.mlp(64, hidden=(WIDTH,) * LAYERS)
            return training.quantise(net, ternary, ternary, noise=noise, strategy=strategy)
        unit = f"{noise}-{strategy}-{self.config['unit'].split('-', 2)[2]}"
        return built.build(replace(self.settings, unit=unit))


def measure(config: Config) -> dict:
    """One run with what is known of it after each epoch, and the noise put back afterwards."""
    task = Task(config)
    rows: list[dict[str, Any]] = []
    settings = {"draws": config["draws"], "seed": config["seed"]}

    def look(epoch: training.Epoch, net: nn.Module) -> None:
        found = training.certified(net, task.inputs, **settings)
        noisy = training.certified(net, task.inputs, weights="noisy", intervals=False, **settings)
        rows.append(
            {
                "std": [round(std, 6) for _, std in epoch.noise],
                "unreached": round(found.unreached, 6),
                "certified": round(found.certified or 0.0, 6),
                "bound": round(found.bound, 6),
                "density_bound": round(found.density_bound, 6),
                "disagreement": round(found.disagreement, 6),
                "near": [round(layer.near, 4) for layer in found.layers],
                "expected": [round(layer.expected, 4) for layer in found.layers],
                "by_density": [round(layer.by_density, 4) for layer in found.layers],
                "weights_near": sum(layer.weights_near for layer in noisy.layers),
                "disagreement_with_weights": round(noisy.disagreement, 6),
            }
        )

    net, n, period = task.network(), task.n_layers, task.period
    with kernels.compiling(FUSED_FROM):
        history = trained(
            net,
            task.train,
            task.schedule,
            epochs=(n + 3) * period,
            batch_size=task.batch_size,
            lr=lambda epoch: task.lr if epoch < (n + 1) * period else task.lr / 10,
            seed=task.seed,
            test=task.test,
            initialise="near_thresholds",
            callback=look,
        )
    return {
        "accuracy": round(history[-1].test.accuracy, 6),
        "curves": curves(history),
        "epochs": {name: [row[name] for row in rows] for name in rows[0]},
        "units": [layer.units for layer in training.certified(net, task.inputs[:1], intervals=False).layers],
        **put_back(task, net),
        "inputs": len(task.inputs),
        "provenance": task.provenance,
    }


def put_back(task: Task, trained: nn.Module) -> dict[str, Any]:
    """Noise of given sizes in the trained network: what differs, and how many units are expected to."""
    draws, seed, state = task.config["draws"], task.config["seed"], trained.state_dict()

    def found(net: nn.Module, stds: list[float]) -> training.Certified:
        training.set_noise(net, lambda layer, t: (0.0, stds[layer]), 0)
        return training.certified(net, task.inputs, intervals=False, draws=2 * draws, seed=seed)

    magnitudes = MAGNITUDES[task.config["data"]]
    shapes: dict[str, list[float]] = {}
    expected: list[float] = []
    by_density: list[float] = []
    single: list[dict[str, float]] = []
    for law in FAMILIES:
        net = task.network(law, "random")
        net.load_state_dict(state)
        unit = mean_magnitude(Noise(law, std=1.0))
        at = [found(net, [magnitude / unit] * task.n_layers) for magnitude in magnitudes]
        shapes[law] = [round(each.disagreement, 6) for each in at]
        if law == "uniform":
            expected = [round(sum(layer.expected for layer in each.layers), 4) for each in at]
            by_density = [round(sum(layer.by_density for layer in each.layers), 4) for each in at]
            for place in range(task.n_layers):
                one = found(net, [SINGLE / unit * (layer == place) for layer in range(task.n_layers)])
                single.append({"expected": round(one.layers[place].expected, 4), "disagreement": round(one.disagreement, 6)})
    return {
        "magnitudes": list(magnitudes),
        "shapes": shapes,
        "expected": expected,
        "by_density": by_density,
        "single": single,
    }


def told(record: dict, _: object) -> str:
    """Which run it was, and when the predictions of half the inputs were certified."""
    config, epochs = record["config"], record["epochs"]
    half = next((i for i, share in enumerate(epochs["certified"]) if share >= 0.5), None)
    return (
        f"{config['data']}, seed {config['seed']}, {config['unit']}: {record['accuracy']:.1%}; half of the predictions certified "
        f"from epoch {half} of {len(epochs['certified'])} on, {np.max(epochs['disagreement']):.1%} differ at most"
    )


STUDY = Study(
    "finite",
    cases,
    measure,
    told=told,
    options={
        "data": Option(DATA, "which data", str, DATA),
        "seeds": Option((0, 1, 2), "which seeds; the first of them on CIFAR-10"),
    },
)
