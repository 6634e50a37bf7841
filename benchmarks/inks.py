"""What the inks cost: runs on house numbers whose ink is always lighter than the ground, or the same in all channels.

    python benchmarks/inks.py        # appends what is missing to data/results/inks.jsonl; about a minute a run, thirty runs

The runs are those of `data/sweeps/svhn.toml` on the SVHN stand-in, scaled, same folds and seeds; only the pictures differ, and
only in what is darker, ink or ground: see `standins.house_numbers`. Chapter 12 sets them beside the recorded runs with mixed
inks. A line is what `anabook train` records, with "inks" for its kind, so that nothing averages it with runs on other pictures;
its provenance says which inks they are.
"""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from pathlib import Path

import torch

from anabook.datasets import standins, store
from anabook.experiments import make, records
from anabook.experiments.run import run

OUTPUT = Path(__file__).resolve().parents[1] / "data" / "results" / "inks.jsonl"
FOLDS = (0, 1, 2)
UNITS = {
    "one": ("float", "uniform-mode-static", "uniform-mode-partition-homogeneous", "uniform-mode-same-start-homogeneous",
            "uniform-mode-same-end-homogeneous", "uniform-random-static"),
    "two": ("float", "uniform-mode-static", "uniform-mode-partition-homogeneous", "uniform-random-static"),
}


def main() -> None:
    lines = [json.loads(line) for line in OUTPUT.read_text(encoding="utf-8").splitlines()] if OUTPUT.exists() else []
    known = {(line["provenance"]["source"], line["config"]["unit"], line["config"]["fold"]) for line in lines}
    torch.set_num_threads(1)
    for inks, units in UNITS.items():
        with tempfile.TemporaryDirectory() as folder:
            os.environ["ANABOOK_DATA"] = folder
            pictures = standins.house_numbers(inks=inks)
            store.save(pictures)
            for fold, unit in itertools.product(FOLDS, units):
                if (pictures.provenance.source, unit, fold) not in known:
                    record = run(make("svhn-stand-in", unit, fold=fold), progress=None)
                    records.append(OUTPUT, record | {"record": "inks"})
                    print(inks, unit, fold, f"{record['accuracy']:.1%}", record["curves"]["accuracy"][:10])


if __name__ == "__main__":
    main()
