"""How hard the stand-ins are: a float network on each.

They should be neither trivial nor hopeless (70 to 95 per cent), so that training schedules can be told apart. Pictures:
the VGG an eighth as wide. Words: the DSCNN, validated on speakers that it has not heard. About two minutes on one core.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from anabook import models
from anabook.datasets import standins, store
from anabook.datasets.batches import statistics
from studies.loop import Config, Study

SETTINGS = {"epochs": 8, "batch_size": 128, "optimiser": "Adam, one-cycle to 3e-3", "augmentation": "none", "seed": 0}
MAKERS: dict[str, Callable[[], store.Dataset]] = {
    "cifar10-stand-in": standins.objects,
    "svhn-stand-in": standins.house_numbers,
    "gsc-stand-in": standins.spoken_words,
}


def cases() -> list[Config]:
    """One for each stand-in."""
    return [{"data": name, **SETTINGS} for name in MAKERS]


def parts(data: store.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and rows to measure on: the data set's own parts, or its first fold by speaker."""
    if (data.split == 2).any():
        return np.flatnonzero(data.split == 0), np.flatnonzero(data.split == 2)
    return store.folds(data)[0]


def accuracy(data: store.Dataset, net: nn.Module, epochs: int, size: int) -> float:
    """Train; the share of held-out examples that the network gets right afterwards."""
    train, held_out = parts(data)
    mean, std = statistics(data.inputs[train])
    x = (torch.tensor(data.inputs, dtype=torch.float32) - mean) / std
    y = torch.tensor(data.labels)
    steps = len(train) // size
    optimiser = torch.optim.Adam(net.parameters(), 1e-3)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=epochs * steps)
    rows = torch.tensor(train)
    for _ in range(epochs):
        net.train()
        for batch in rows[torch.randperm(len(rows))][: steps * size].split(size):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
            optimiser.step()
            rate.step()
    net.eval()
    with torch.no_grad():
        found = torch.cat([net(batch).argmax(1) for batch in x[held_out].split(500)])
    return float((found == y[held_out]).double().mean())


def measure(config: Config) -> dict:
    """Accuracy and number of parameters of the float network on one stand-in."""
    data = MAKERS[config["data"]]()
    torch.manual_seed(config["seed"])
    net = models.dscnn() if config["data"] == "gsc-stand-in" else models.vgg(width=1 / 8)
    result = accuracy(data, net, config["epochs"], config["batch_size"])
    return {
        "data": data.name,
        "provenance": data.provenance.kind,
        "accuracy": round(result, 4),
        "parameters": sum(p.numel() for p in net.parameters()),
    }


def told(record: dict, _: object) -> str:
    """The stand-in and the accuracy on it."""
    return f"{record['data']}: {record['accuracy']:.1%}"


STUDY = Study(
    "standins", cases, measure, packages=("librosa",), told=told, older=lambda line: {"data": line["data"], **line["config"]}
)
