"""The four decay intervals on the digits: many short runs, paired by seed.

    python benchmarks/intervals.py --drops             # appends what is missing to data/results/intervals.jsonl
    python benchmarks/intervals.py --period 12 --seeds 9

A fully connected network with four quantised layers of 32 units, weights and features ternary, is trained with each interval,
each strategy and each seed; the last layer stays in float. A seed fixes the split of the data, the initial weights, the order of
the batches and the draws of the noise, so that runs of one seed differ in the schedule only. As in the paper's experiments
the learning rate falls to a tenth at (n + 1)P and training ends at (n + 3)P, where P is the period and n the number of quantised layers.
With `--drops`, the partition is trained with other times of that fall as well.

One JSON line per run: its config, the accuracy on the test part and on the training part without noise. Runs that are in the file
already are skipped.
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
from pathlib import Path

import torch

from anabook import Noise, Quantiser, Schedule, datasets, models, training
from anabook.schedules import INTERVALS

LAYERS = 4
STRATEGIES = ("expectation", "mode", "random")
split = functools.cache(datasets.digits)


def configs(args: argparse.Namespace) -> list[dict]:
    """One config a run; all runs of a seed before the next seed."""
    base = {"layers": LAYERS, "width": 32, "batch_size": 128, "lr": 2e-2, "period": args.period, "noise": "uniform"}
    found = []
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        for strategy in STRATEGIES:
            kinds = [(interval, LAYERS + 1) for interval in ("static", *INTERVALS)]
            if args.drops:
                kinds += [("partition", drop) for drop in (1, LAYERS)]
            found += [{**base, "strategy": strategy, "interval": i, "drop": drop, "seed": seed} for i, drop in kinds]
    return found


def schedule_of(config: dict) -> Schedule:
    std = Noise.covering(config["noise"], half_width=0.5).std
    if config["interval"] == "static":
        return Schedule.static(config["layers"], std=std)
    return Schedule.periodic(config["layers"], config["period"], config["interval"], std0=std)


def train(config: dict) -> dict:
    digits, n, period = split(seed=config["seed"]), config["layers"], config["period"]
    torch.manual_seed(config["seed"])
    ternary = Quantiser.ternary()
    net = models.mlp(64, hidden=(config["width"],) * n)
    net = training.quantise(net, ternary, ternary, noise=config["noise"], strategy=config["strategy"])
    drop, lr = config["drop"] * period, config["lr"]
    training.fit(
        net, digits.train, schedule_of(config), epochs=(n + 3) * period, batch_size=config["batch_size"],
        lr=lambda epoch: lr if epoch < drop else lr / 10, seed=config["seed"], initialise="near_thresholds", progress=False,
        optimiser=functools.partial(torch.optim.Adam, fused=True),
    )
    scores = {part: training.evaluate(net, getattr(digits, part)) for part in ("train", "test")}
    return {"accuracy": round(scores["test"].accuracy, 6), "train_accuracy": round(scores["train"].accuracy, 6),
            "data": split(seed=config["seed"]).name, "provenance": split(seed=config["seed"]).provenance.kind}


def key(config: dict) -> str:
    return json.dumps(config, sort_keys=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--period", type=int, default=3, help="epochs in which one layer of the partition is annealed")
    parser.add_argument("--seeds", type=int, default=24, help="how many seeds")
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--drops", action="store_true", help="also drop the learning rate after P and after nP")
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "data" / "results" / "intervals.jsonl")
    args = parser.parse_args()
    torch.set_num_threads(1)
    done = set()
    if args.output.is_file():
        done = {key(json.loads(line)["config"]) for line in args.output.read_text().splitlines()}
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    for config in configs(args):
        if key(config) not in done:
            run = {"config": config, **train(config), "machine": platform.machine(), "versions": versions}
            args.output.parent.mkdir(parents=True, exist_ok=True)
            with args.output.open("a") as file:
                file.write(json.dumps(run, sort_keys=True) + "\n")
            print(config["seed"], config["strategy"], config["interval"], config["drop"], run["accuracy"], flush=True)


if __name__ == "__main__":
    main()
