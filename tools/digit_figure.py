"""Write what the interactive figure of chapter 15 shows: the network's numbers, a dozen test digits, and a still for paper.

python tools/digit_figure.py           from data/weights/digits.npz: book/_static/digit-network.js and digit-still.svg
python tools/digit_figure.py --train   first trains chapter 0's network, in seconds, and writes data/weights/digits.npz

The same network gives the same files, byte for byte. Another machine may train another network: one rounding decides.
"""

from __future__ import annotations

import argparse
import base64
import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

import anabook as ab
from anabook import datasets, deploy, training
from anabook.deploy.c_program import pack
from anabook.deploy.steps import Flatten, Head, Threshold, Weighted
from anabook.experiments.stored import DIGITS, digits_in_training, stored
from anabook.experiments.weights import save_state

ROOT = Path(__file__).resolve().parent.parent
NETWORK = ROOT / "data" / "weights" / "digits.npz"
STATIC = ROOT / "book" / "_static"
FORM = (Flatten, Weighted, Threshold, Weighted, Threshold, Head)

PAPER = {"ink": "#222832", "line": "#555555", "plus": "#0065a4", "minus": "#b34700"}
MARKS = ("M5 .5L9.5 5L5 9.5L.5 5Z", "M4 4H6V6H4Z", "M1 1H9V9H1Z")  # of the features -1, 0 and 1
COLOURS = (PAPER["minus"], PAPER["line"], PAPER["plus"])


def train() -> nn.Module:
    """The network of chapter 0, trained as there, and deployed."""
    torch.set_num_threads(1)
    net, digits = digits_in_training(), datasets.digits()
    training.initialise_near_thresholds(net, 0)
    how, lr = {name: DIGITS[name] for name in ("epochs", "batch_size")}, DIGITS["lr"]
    schedule = ab.Schedule.for_network(net, period=DIGITS["period"], interval="partition")
    training.fit(net, digits.train, schedule, lr=lambda epoch: lr if epoch < DIGITS["drop"] else lr / 10, seed=0, **how)
    return training.deploy(net)


def counts(images: np.ndarray) -> np.ndarray:
    """The inked dots of each block, from 0 to 16, which the data set holds as parts of 16."""
    return np.rint(images * 16).astype(np.uint8)


def chosen(network: deploy.IntegerNetwork) -> list[int]:
    """The rows of a dozen test digits: the first of each class, and the first two others that are misread."""
    digits = datasets.digits()
    rows = [int(np.flatnonzero(digits.y_test == digit)[0]) for digit in range(10)]
    wrong = network(counts(digits.x_test)).argmax(1) != digits.y_test
    return rows + [row for row in map(int, np.flatnonzero(wrong)) if row not in rows][:2]


def script(network: deploy.IntegerNetwork) -> str:
    """The figure's numbers as a script: weights five to a byte, in base 64; two thresholds for each hidden unit."""
    kinds = tuple(type(step) for step in network.steps)
    if kinds != FORM:
        raise ValueError(f"the figure shows {[kind.__name__ for kind in FORM]}, not {[kind.__name__ for kind in kinds]}.")
    _, *hidden, head = network.steps
    layers = []
    for weighted, threshold in zip(hidden[::2], hidden[1::2]):
        if threshold.levels.tolist() != [-1, 0, 1] or threshold.signs is not None:
            raise ValueError(f"the figure shows ternary features; {threshold.name!r} has the levels {threshold.levels}.")
        low, high = threshold.thresholds.tolist()
        layers.append({**weights(weighted), "low": low, "high": high})
    digits = datasets.digits()
    letters = (counts(digits.x_test).reshape(-1, 64) + ord("a")).astype(np.uint8)
    examples = [
        {"row": row, "label": int(digits.y_test[row]), "counts": letters[row].tobytes().decode()} for row in chosen(network)
    ]
    last = {**weights(head), "scale": head.scale.tolist(), "bias": head.bias.tolist()}
    data = json.dumps({"layers": layers, "head": last, "digits": examples}, separators=(",", ":"))
    return (
        "/* Written by tools/digit_figure.py from data/weights/digits.npz: what digit.js runs and shows. */\n"
        '(function (root, data) {\n  if (typeof module === "object" && module.exports) module.exports = data;\n'
        f'  else root.anabookDigitNetwork = data;\n}})(typeof self === "undefined" ? this : self, {data});\n'
    )


def weights(step: Weighted | Head) -> dict[str, object]:
    """A layer's ternary weights and its sizes."""
    if np.abs(step.weights).max() > 1 or step.weights.dtype != np.int8:
        raise ValueError(f"the figure shows ternary weights; those of {step.name!r} are others.")
    outputs, inputs = step.weights.shape
    return {"inputs": inputs, "outputs": outputs, "weights": base64.b64encode(pack(step.weights).tobytes()).decode()}


def still(network: deploy.IntegerNetwork, row: int) -> tuple[str, str]:
    """The figure at one moment, for paper and where no script runs, as an SVG document; and what it shows, in words."""
    digits = datasets.digits()
    image = counts(digits.x_test[row])
    features = network.features(image)
    first, second = (features[step.name] for step in network.steps if isinstance(step, Threshold))
    scores = network(image)
    best = int(scores.argmax())
    text = (
        f"Test digit {row}, labelled {digits.y_test[row]}, in 8 × 8 counts; the features of both hidden layers; the ten scores, "
        f"of which that of {best} is the greatest, {scores[best]:.1f}."
    ).replace("-", "−")
    parts = [title(8, "what the network gets"), title(188, "first hidden layer"), title(368, "second hidden layer")]
    parts.append(title(548, "scores"))
    for i, count in enumerate(image.ravel().tolist()):
        x, y = 8 + 20 * (i % 8), 24 + 20 * (i // 8)
        parts.append(
            f'<rect x="{x}" y="{y}" width="20" height="20" fill="{PAPER["ink"]}" fill-opacity="{count / 16:g}" '
            f'stroke="{PAPER["line"]}" stroke-opacity=".35" stroke-width=".5"/>'
        )
    for left, values in ((188, first), (368, second)):
        for i, value in enumerate(values.tolist()):
            where = f"translate({left + 10 * (i % 16)} {24 + 10 * (i // 16)})"
            parts.append(f'<path transform="{where}" d="{MARKS[value + 1]}" fill="{COLOURS[value + 1]}"/>')
    most = max(1.0, float(np.abs(scores).max()))
    for digit, score in enumerate(scores.tolist()):
        y, length = 24 + 16 * digit, 50 * abs(score) / most
        colour = PAPER["plus"] if digit == best else PAPER["line"]
        parts.append(f'<text x="548" y="{y + 11}">{digit}</text>')
        parts.append(
            f'<rect x="{620 - length * (score < 0):.1f}" y="{y + 2}" width="{length:.1f}" height="11" fill="{colour}"/>'
        )
        parts.append(f'<text x="712" y="{y + 11}" text-anchor="end">{score:.1f}</text>'.replace(">-", ">−"))
    parts.append(f'<path d="M620 24V184" stroke="{PAPER["line"]}" stroke-width=".6"/>')
    document = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 192" role="img" font-family="sans-serif" font-size="12" '
        f'fill="{PAPER["ink"]}">\n<title>{text}</title>\n' + "\n".join(parts) + "\n</svg>\n"
    )
    return document, text


def title(x: int, text: str) -> str:
    """The heading of a part of the still."""
    return f'<text x="{x}" y="14">{text}</text>'


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", action="store_true", help="train chapter 0's network first")
    if parser.parse_args().train:
        save_state(train(), NETWORK)
    network = stored("digits").integers
    document, text = still(network, chosen(network)[3])
    (STATIC / "digit-network.js").write_text(script(network), encoding="utf-8")
    (STATIC / "digit-still.svg").write_text(document, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
