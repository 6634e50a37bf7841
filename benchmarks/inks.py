"""What the second ink costs: runs on house numbers whose ink is always lighter than the ground.

    python benchmarks/inks.py        # appends what is missing to data/results/inks.jsonl; about a minute a run

The runs are those of `data/sweeps/svhn.toml` on the SVHN stand-in, scaled, first fold, same seed; only the pictures differ, and
only in their colours. Chapter 12 sets them beside the recorded runs with both inks. A line is what `anabook train` records,
with "inks" for its kind, so that nothing averages it with runs on other pictures.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import torch

from anabook.datasets import standins, store
from anabook.experiments import make, records
from anabook.experiments.run import run

OUTPUT = Path(__file__).resolve().parents[1] / "data" / "results" / "inks.jsonl"
UNITS = ("float", "uniform-mode-static", "uniform-mode-partition-homogeneous", "uniform-mode-same-start-homogeneous",
         "uniform-mode-same-end-homogeneous", "uniform-random-static")


def main() -> None:
    known = {json.loads(line)["config"]["unit"] for line in OUTPUT.read_text().splitlines()} if OUTPUT.exists() else set()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ANABOOK_DATA"] = folder
        store.save(standins.house_numbers(one_ink=True))
        for unit in UNITS:
            if unit not in known:
                record = run(make("svhn-stand-in", unit), progress=None)
                records.append(OUTPUT, record | {"record": "inks"})
                print(unit, f"{record['accuracy']:.1%}", record["curves"]["accuracy"][:10])


if __name__ == "__main__":
    main()
