"""Annealing and its rivals on the digits: the same network trained by annealing, by a plain straight-through estimator,
and in float and then rounded.

The network, the data and the training are those of chapter 0: three layers with 128 hidden units, all weights and hidden
signals ternary, 75 epochs of Adam with the learning rate divided by ten after 60. A seed fixes the initial weights and the
order of the batches of all methods. The split of the data is the same for all seeds, as in the chapter.

    float           the network without quantisers
    rounded         that network, its weights and signals rounded to −1, 0 and 1
    careful         the same, but each layer's weights brought to the scale of the quantiser first (thresholds at 0.7 times
                    the mean absolute weight: Li, Zhang and Liu 2016), and batch normalisation measured again
    plain           straight-through estimator: forward the quantised network, backward slope 1 between −1 and 1, from the
                    first epoch to the last (uniform noise and the mode, never annealed)
    annealed        noise taken away layer by layer, forward the average (the expectation strategy)
    annealed-mode   the same schedule, forward the most probable level

Chapter 0 shows five seeds.
"""

from __future__ import annotations

import copy
import functools

import torch
from torch import nn

from anabook import Quantiser, Schedule, datasets, training
from anabook.experiments.stored import DIGITS, digits_in_float
from studies.loop import Config, Option, Study, trained

METHODS = ("float", "rounded", "careful", "plain", "annealed", "annealed-mode")
SEEDS = 5
split = functools.cache(datasets.digits)


def cases(seeds: int = SEEDS, first_seed: int = 0) -> list[Config]:
    """All methods of a seed before the next seed."""
    base = {"width": 128, **DIGITS}
    return [{**base, "method": name, "seed": seed} for seed in range(first_seed, first_seed + seeds) for name in METHODS]


def rounded(net: nn.Module, careful: bool) -> nn.Module:
    """A float network with ternary weights and signals; `careful` scales the weights and measures its norms again."""
    ternary, net = Quantiser.ternary(), copy.deepcopy(net)
    if careful:
        with torch.no_grad():
            for layer in net.modules():
                if isinstance(layer, nn.Linear):
                    layer.weight *= 0.5 / (0.7 * layer.weight.abs().mean())
    net = training.quantise(net, weights=ternary, activations=ternary, keep=())
    if careful:
        training.recalibrate(net, split().x_train)
    return net


def measure(config: Config) -> dict:
    """One run: accuracies, and what they were measured on."""
    digits, ternary = split(), Quantiser.ternary()
    method, seed = config["method"], config["seed"]
    in_float = method in ("float", "rounded", "careful")
    torch.manual_seed(seed)
    net: nn.Module = digits_in_float(config["width"])
    if in_float:
        schedule = None
    else:
        strategy = "expectation" if method == "annealed" else "mode"
        net = training.quantise(net, ternary, ternary, noise="uniform", strategy=strategy, keep=())
        training.initialise_near_thresholds(net, seed)
        schedule = Schedule.for_network(net, period=config["period"], interval="partition")
    trained(
        net,
        digits.train,
        None if method == "plain" else schedule,
        epochs=config["epochs"],
        batch_size=config["batch_size"],
        lr=lambda epoch: config["lr"] if epoch < config["drop"] else config["lr"] / 10,
        seed=seed,
    )
    if method in ("rounded", "careful"):
        net = rounded(net, careful=method == "careful")
    elif method != "float":
        net = training.deploy(net)
    return {
        "accuracy": round(training.evaluate(net, digits.test).accuracy, 6),
        "train_accuracy": round(training.evaluate(net, digits.train).accuracy, 6),
        "data": digits.name,
        "provenance": digits.provenance.kind,
    }


def told(record: dict, _: object) -> str:
    """Which run it was, and its accuracy."""
    config = record["config"]
    return f"seed {config['seed']}, {config['method']}: {record['accuracy']:.1%}"


STUDY = Study(
    "rivals",
    cases,
    measure,
    told=told,
    options={"seeds": Option(SEEDS, "how many seeds"), "first_seed": Option(0, "the first of them")},
)
