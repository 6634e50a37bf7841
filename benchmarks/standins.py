"""How hard the stand-ins are: a float network on each, recorded in data/results/standins.jsonl.

    python benchmarks/standins.py

They should be neither trivial nor hopeless (70 to 95 per cent), so that training schedules can be told apart. Pictures:
the VGG an eighth as wide. Words: the DSCNN, validated on speakers that it has not heard. About two minutes on one core.
"""

from __future__ import annotations

import json
import os
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import nn

from anabook import models
from anabook.datasets import standins, store
from anabook.datasets.batches import statistics

OUTPUT = Path(__file__).resolve().parents[1] / "data" / "results" / "standins.jsonl"
SETTINGS = {"epochs": 8, "batch_size": 128, "optimiser": "Adam, one-cycle to 3e-3", "augmentation": "none", "seed": 0}


def parts(data: store.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and rows to measure on: the data set's own parts, or its first fold by speaker."""
    if (data.split == 2).any():
        return np.flatnonzero(data.split == 0), np.flatnonzero(data.split == 2)
    return store.folds(data)[0]


def accuracy(data: store.Dataset, net: nn.Module) -> float:
    """Train as SETTINGS say; the share of held-out examples that the network gets right afterwards."""
    train, held_out = parts(data)
    mean, std = statistics(data.inputs[train])
    x = (torch.tensor(data.inputs, dtype=torch.float32) - mean) / std
    y = torch.tensor(data.labels)
    size, epochs = SETTINGS["batch_size"], SETTINGS["epochs"]
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


def main() -> None:
    torch.set_num_threads(1)
    lines = []
    for data, make in (
        (standins.objects(), lambda: models.vgg(width=1 / 8)),
        (standins.house_numbers(), lambda: models.vgg(width=1 / 8)),
        (standins.spoken_words(), models.dscnn),
    ):
        torch.manual_seed(SETTINGS["seed"])
        start = time.perf_counter()
        net = make()
        result = accuracy(data, net)
        lines.append({
            "data": data.name, "provenance": data.provenance.kind, "accuracy": round(result, 4), "config": SETTINGS,
            "parameters": sum(p.numel() for p in net.parameters()), "seconds": round(time.perf_counter() - start, 1),
            "versions": {name: version(name) for name in ("torch", "numpy", "librosa")},
            "machine": f"{os.cpu_count()} cores, one thread",
        })
        print(f"{data.name}: {result:.1%}", flush=True)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    temporary = OUTPUT.with_suffix(".part")
    temporary.write_text("".join(json.dumps(line, sort_keys=True) + "\n" for line in lines), encoding="utf-8")
    temporary.replace(OUTPUT)


if __name__ == "__main__":
    main()
