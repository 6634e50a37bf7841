"""The four decay intervals on the digits: many short runs, paired by seed.

A fully connected network with four quantised layers of 32 units, weights and features ternary, is trained with each
interval, each strategy and each seed; the last layer stays in float. A seed fixes the split of the data, the initial
weights, the order of the batches and the draws of the noise, so that runs of one seed differ in the schedule only. The learning
rate falls to a tenth at (n + 1)P and training ends at (n + 3)P, where P is the period and n the number of quantised layers: the
proportions of the paper's experiments, with periods and layers as its authors' code has them. Some of the runs train the
partition with other times of that fall as well.

Chapter 9 shows 24 seeds with a period of 3 epochs, with the other times, and 9 seeds with a period of 12. A record has the
accuracy on the test part and on the training part, without noise.
"""

from __future__ import annotations

import functools

import torch

from anabook import Noise, Quantiser, Schedule, datasets, models, training
from anabook.schedules import INTERVALS
from studies.loop import Config, Option, Study, trained

LAYERS = 4
STRATEGIES = ("expectation", "mode", "random")
CHAPTER = {3: 24, 12: 9}  # period: seeds
split = functools.cache(datasets.digits)


def cases(period: int | None = None, seeds: int | None = None, first_seed: int = 100, drops: bool = False) -> list[Config]:
    """All runs of a seed before the next seed."""
    found = []
    for each in CHAPTER if period is None else [period]:
        base = {"layers": LAYERS, "width": 32, "batch_size": 128, "lr": 2e-2, "period": each, "noise": "uniform"}
        kinds = [(interval, LAYERS + 1) for interval in ("static", *INTERVALS)]
        if drops or (period is None and each == min(CHAPTER)):
            kinds += [("partition", drop) for drop in (1, LAYERS)]
        n_seeds = CHAPTER.get(each, max(CHAPTER.values())) if seeds is None else seeds
        found += [
            {**base, "strategy": strategy, "interval": interval, "drop": drop, "seed": seed}
            for seed in range(first_seed, first_seed + n_seeds)
            for strategy in STRATEGIES
            for interval, drop in kinds
        ]
    return found


def schedule_of(config: Config) -> Schedule:
    """The noise of each layer in each epoch."""
    std = Noise.covering(config["noise"], half_width=0.5).std
    if config["interval"] == "static":
        return Schedule.static(config["layers"], std=std)
    return Schedule.periodic(config["layers"], config["period"], config["interval"], std0=std)


def measure(config: Config) -> dict:
    """One run: accuracies, and what they were measured on."""
    digits, n, period = split(seed=config["seed"]), config["layers"], config["period"]
    torch.manual_seed(config["seed"])
    ternary = Quantiser.ternary()
    net = models.mlp(64, hidden=(config["width"],) * n)
    net = training.quantise(net, ternary, ternary, noise=config["noise"], strategy=config["strategy"])
    drop, lr = config["drop"] * period, config["lr"]
    trained(
        net,
        digits.train,
        schedule_of(config),
        epochs=(n + 3) * period,
        batch_size=config["batch_size"],
        lr=lambda epoch: lr if epoch < drop else lr / 10,
        seed=config["seed"],
        initialise="near_thresholds",
        optimiser=functools.partial(torch.optim.Adam, fused=True),
    )
    scores = {part: training.evaluate(net, getattr(digits, part)) for part in ("train", "test")}
    return {
        "accuracy": round(scores["test"].accuracy, 6),
        "train_accuracy": round(scores["train"].accuracy, 6),
        "data": digits.name,
        "provenance": digits.provenance.kind,
    }


def told(record: dict, _: object) -> str:
    """Which run it was, and its accuracy."""
    config = record["config"]
    return (
        f"seed {config['seed']}, {config['strategy']}, {config['interval']}, period {config['period']}, "
        f"fall at {config['drop']}P: {record['accuracy']:.1%}"
    )


STUDY = Study(
    "intervals",
    cases,
    measure,
    told=told,
    older=lambda line: line["config"],
    options={
        "period": Option(None, "epochs in which one layer of the partition is annealed (what the chapter shows)"),
        "seeds": Option(None, "how many seeds (as many as in the chapter)"),
        "first_seed": Option(100, "the first of them"),
        "drops": Option(False, "also drop the learning rate after P and after nP"),
    },
)
