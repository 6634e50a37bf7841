"""Every variant of the zoo at work: the same network on the digits, trained with each slope.

A fully connected network with three quantised layers of 32 units, weights and features ternary, is trained with the
strategy "mode": forward the quantised network, backward the density of the variant in its published shape and width, on each
of the two thresholds, the same from the first epoch to the last. A seed fixes the split of the data, the initial weights and
the order of the batches, so that runs of one seed differ in the variant only.

Where the variant is the density of a noise, the network computes the level that is the most probable one under it. Under
narrow noise that is the quantiser's own; under wide noise, or under noise with a mean, its thresholds are elsewhere. So there are
two accuracies on the test part: of the network as it was trained, and of the deployed one, which has no noise any more. For
variants that are no noise the two are the same.

Chapter 4 shows ten seeds.
"""

from __future__ import annotations

import functools
import warnings

import torch

from anabook import Quantiser, datasets, models, training
from anabook.variants import VARIANTS
from studies.loop import Config, Option, Study, trained

LAYERS, SEEDS = 3, 10
split = functools.cache(datasets.digits)


def cases(seeds: int = SEEDS, first_seed: int = 0) -> list[Config]:
    """All variants of a seed before the next seed."""
    base = {"layers": LAYERS, "width": 32, "epochs": 15, "batch_size": 128, "lr": 1e-2, "strategy": "mode"}
    return [{**base, "variant": name, "seed": seed} for seed in range(first_seed, first_seed + seeds) for name in VARIANTS]


def measure(config: Config) -> dict:
    """One run: accuracies, and what they were measured on."""
    digits = split(seed=config["seed"])
    torch.manual_seed(config["seed"])
    ternary, variant = Quantiser.ternary(), VARIANTS[config["variant"]]
    net = models.mlp(64, hidden=(config["width"],) * config["layers"])
    net = training.quantise(net, ternary, ternary, noise=variant, strategy=config["strategy"])
    with warnings.catch_warnings():
        # Some slopes are wide on purpose: that is what is measured.
        warnings.filterwarnings("ignore", message=".*noise", category=UserWarning)
        trained(
            net,
            digits.train,
            None,
            epochs=config["epochs"],
            batch_size=config["batch_size"],
            lr=config["lr"],
            seed=config["seed"],
            initialise="near_thresholds",
        )
    scores = {part: training.evaluate(net, getattr(digits, part), noise=True) for part in ("train", "test")}
    deployed = training.evaluate(training.deploy(net), digits.test)
    return {
        "accuracy": round(scores["test"].accuracy, 6),
        "train_accuracy": round(scores["train"].accuracy, 6),
        "deployed_accuracy": round(deployed.accuracy, 6),
        "data": digits.name,
        "provenance": digits.provenance.kind,
    }


def told(record: dict, _: object) -> str:
    """Which run it was, and its accuracy."""
    config = record["config"]
    return (
        f"seed {config['seed']}, {config['variant']}: {record['accuracy']:.1%}, deployed {record['deployed_accuracy']:.1%}"
    )


STUDY = Study(
    "zoo",
    cases,
    measure,
    told=told,
    options={"seeds": Option(SEEDS, "how many seeds"), "first_seed": Option(0, "the first of them")},
)
