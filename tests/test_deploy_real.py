"""The book's three networks as integers: digits always; pictures and speech on drawn inputs, and on their data where it is."""

from __future__ import annotations

import json
from functools import lru_cache

import numpy as np
import pytest
import torch
from deploy_networks import random_inputs

import anabook as ab
from anabook import Quantiser, Schedule, datasets, models, training
from anabook.datasets import store
from anabook.deploy.steps import Head, Threshold, Weighted
from anabook.experiments import shipped
from anabook.experiments.parts import parts
from anabook.experiments.stored import CONFIGS, MEAN_AND_STD, stored


@lru_cache
def network(name):
    """The deployed network of a run whose weights come with the project, and its integer network."""
    known = stored(name)
    return known.net, known.integers


def test_the_digits_network_is_equal_on_every_test_image():
    digits, ternary = datasets.digits(), Quantiser.ternary()
    torch.manual_seed(0)
    net = training.quantise(
        models.mlp(64, (128, 128)), weights=ternary, activations=ternary, noise="uniform", keep=("last",)
    )
    training.initialise_near_thresholds(net, seed=0)
    schedule = Schedule.periodic(n_layers=2, period=5, interval="partition", std0=0.2887)
    training.fit(net, digits.train, schedule, epochs=12, batch_size=64, lr=0.01, test=digits.test)
    net = training.deploy(net)
    x = np.rint(digits.x_test * 16).astype(np.uint8)
    assert np.array_equal(x / 16, digits.x_test)
    ints = ab.deploy.to_integer(net, x, std=16, bounds=(0, 16))
    found = ab.deploy.compare(net, ints, x)
    assert found.equal and found.elements == 2 * 128 * len(x) and found.answers == 0 and found.off < 1e-12
    accuracy = float((ints(x).argmax(1) == digits.y_test).mean())
    assert accuracy > 0.93
    assert [type(step).__name__ for step in ints.steps] == ["Flatten", *["Weighted", "Threshold"] * 2, "Head"]
    assert all(set(np.unique(step.weights)) == {-1, 0, 1} for step in ints.steps if isinstance(step, Weighted))


@pytest.mark.parametrize("name", CONFIGS)
def test_pictures_and_speech_are_equal_on_drawn_inputs(name):
    net, ints = network(name)
    x = random_inputs(ints, 20, extreme=4)
    found = ab.deploy.compare(net, ints, x)
    assert found.equal and found.elements > 200_000
    n_layers = CONFIGS[name].n_layers
    assert len(found.quantisers) == sum(isinstance(step, Threshold) for step in ints.steps) == n_layers
    assert isinstance(ints.steps[-1], Head) and max(ints.extents[s.name].bits for s in ints.steps[:-1]) <= 16
    assert sum(step.weights.size for step in ints.steps if isinstance(step, Weighted | Head)) == sum(
        p.numel() for name_, p in net.named_parameters() if name_.endswith("weight") and p.ndim > 1
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_their_files_are_small_and_come_back(name, tmp_path):
    _, ints = network(name)
    path = ints.save(tmp_path / "net.npz")
    assert path.stat().st_size < 50_000 and ab.deploy.load(path) == ints


@pytest.mark.parametrize("name", CONFIGS)
def test_pictures_and_speech_are_equal_on_the_whole_of_their_data(name):
    config = CONFIGS[name]
    if not store.path_of(config.data).is_file():
        pytest.skip(f"{config.data} is not in the store: anabook data {config.data} prepares it")
    held_out, times = parts(config).held_out, config.shrink**2
    assert (held_out.mean, held_out.std) == pytest.approx(MEAN_AND_STD[name], rel=1e-12)
    x = held_out.inputs.numpy().astype(np.float64) * times
    assert np.array_equal(x, np.rint(x))
    net, ints = network(name)
    x, labels = x.astype(np.int64), held_out.labels.numpy()
    found = ab.deploy.compare(net, ints, x)
    assert found.equal, found
    accuracy = float((ints(x).argmax(1) == labels).mean())
    lines = (shipped.path("results") / f"{config.data}-scaled.jsonl").read_text(encoding="utf-8").splitlines()
    recorded = next(record for record in map(json.loads, lines) if record["key"] == config.key)
    # The speech run was trained once more for its weights, on another machine than the recorded one.
    assert accuracy == pytest.approx(recorded["accuracy"], abs=0.001 if name == "cifar10" else 0.01)


def test_the_weights_that_come_along_are_of_recorded_runs():
    files = {path.stem for path in shipped.path("weights").glob("*.npz")}
    assert files == {"digits", *(config.key for config in CONFIGS.values())}
    lines = [
        line for path in shipped.path("results").glob("*-scaled.jsonl") for line in path.read_text("utf-8").splitlines()
    ]
    assert files - {"digits"} <= {json.loads(line).get("key") for line in lines}
