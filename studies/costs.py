"""What a training step costs with each estimator of the comparison: processor time, all of them in turn in every round.

The networks, the batch and the optimiser are the comparison's, the inputs are drawn from a normal law, since what they show
costs nothing. A step is a forward pass, the loss, a backward pass and a step of Adam, on one thread, with the noise of the first
epoch: what annealing saves later, when layers fall silent, is chapter 14's. Compiled kernels are compiled before the clock
starts. A record has the milliseconds of each step; a page takes ratios within a round, so that whatever else the machine does
hits all alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from anabook import training
from anabook.experiments import config as configs
from anabook.experiments.estimators import ratios
from anabook.experiments.run import FUSED_FROM
from anabook.training import kernels
from studies.comparison import TASKS
from studies.loop import Config, Option, Study
from studies.methods import LEVELS, METHODS, adam

ROUNDS = 15
WARM = 3
"""Steps before the clock starts."""


def cases(rounds: int = ROUNDS, tasks: tuple[str, ...] = TASKS) -> list[Config]:
    """A case for each network with three levels and with four bits; all methods in one."""
    return [
        {
            "task": task,
            "levels": levels,
            "methods": {name: method.edition for name, method in METHODS.items()},
            "rounds": rounds,
            "threads": 1,
            "seed": 0,
            **{name: configs.of_size(task, "scaled")[name] for name in ("width", "shrink", "batch_size")},
        }
        for task in tasks
        for levels in LEVELS
    ]


def stepping(net: nn.Module, x: Tensor, y: Tensor) -> Callable[[], None]:
    """A function that takes one training step."""
    optimiser = adam(net)(list(net.parameters()), lr=1e-4)
    training.keep_positive(optimiser, net)

    def step() -> None:
        loss = cross_entropy(net(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def measure(config: Config) -> dict:
    """The milliseconds of a step by method, a number for each round."""
    torch.set_num_threads(config["threads"])
    task = configs.TASKS[config["task"]]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config["seed"])
        net = task.build(config["width"], config["shrink"]).train()
        x = torch.randn(config["batch_size"], *task.shape_at(config["shrink"]))
        y = torch.randint(task.classes, (len(x),))
        quanta = {name: 0.5 for name, _ in net.named_children() if name != "last"}
        quanta = {name: q for name, q in quanta.items() if isinstance(getattr(net, name), (nn.Conv2d, nn.Linear, nn.ReLU))}
        levels = LEVELS[config["levels"]]
        steps = {name: stepping(METHODS[name].make(net, levels, quanta).train(), x, y) for name in config["methods"]}
        took: dict[str, list[float]] = {name: [] for name in steps}
        with kernels.compiling(FUSED_FROM):
            for step in steps.values():
                for _ in range(WARM):
                    step()
            for _ in range(config["rounds"]):
                for name, step in steps.items():
                    start = time.process_time()
                    step()
                    took[name].append(round(1000 * (time.process_time() - start), 3))
    return {"milliseconds": took, "parameters": sum(p.numel() for p in net.parameters())}


def told(record: dict, _: object) -> str:
    """The ratios to the float network's step."""
    shown = ", ".join(f"{name} {ratio:.1f}" for name, ratio in ratios(record).items())
    return f"{record['config']['task']}, {record['config']['levels']}: {shown}"


STUDY = Study(
    "costs",
    cases,
    measure,
    packages=("brevitas",),
    told=told,
    options={
        "rounds": Option(ROUNDS, "how many steps of each method"),
        "tasks": Option(TASKS, "which networks", str, TASKS),
    },
)
