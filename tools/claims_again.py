"""Judge the empirical claims a second time, from the JSON lines alone, with pandas and without a line of the package.

    python tools/claims_again.py                      the claims of every data set with scaled runs, as CSV
    python tools/claims_again.py FOLDER cifar10       those of one data set, from another folder

`anabook.experiments.claims` says what the numbers mean, and `tests/test_claims.py` compares the two. Which runs are compared with
which stands here once more, in another notation; Student's law is computed by hand, and ratios by another formula.
"""

from __future__ import annotations

import json
import math
import sys
from functools import cache
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
OTHERS = ("triangular", "normal", "logistic")
MARGIN = 0.02


# --- Student's law, for whole degrees of freedom -------------------------------------------------------------------------


def upper_tail(t: float, freedom: int) -> float:
    """The probability of more than t, by the finite sums of Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    if math.isinf(t):
        return 0.0 if t > 0 else 1.0
    if t < 0:
        return 1.0 - upper_tail(-t, freedom)
    if t > 3:  # a small tail would lose its digits in 1 - A: Simpson's rule over the angle whose tangent is sqrt(f) / t
        steps, end = 1000, math.atan2(math.sqrt(freedom), t)
        h = end / steps
        values = [math.sin(i * h) ** (freedom - 1) for i in range(steps + 1)]
        total = values[0] + values[-1] + 4 * sum(values[1:-1:2]) + 2 * sum(values[2:-1:2])
        return total * h / 3 / (math.sqrt(math.pi) * math.gamma(freedom / 2) / math.gamma((freedom + 1) / 2))
    theta = math.atan2(t, math.sqrt(freedom))
    cosine, sine = math.cos(theta), math.sin(theta)
    if freedom % 2:
        term, total = cosine, cosine if freedom > 1 else 0.0
        for k in range(3, freedom - 1, 2):
            term *= cosine**2 * (k - 1) / k
            total += term
        inside = 2 / math.pi * (theta + sine * total)
    else:
        term, total = 1.0, 1.0
        for k in range(2, freedom - 1, 2):
            term *= cosine**2 * (k - 1) / k
            total += term
        inside = sine * total
    return (1 - inside) / 2


@cache
def quantile(freedom: int) -> float:
    """What t exceeds with a probability of 2.5 %."""
    low, high = 0.0, 1e4
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if upper_tail(middle, freedom) > 0.025 else (low, middle)
    return high


# --- the runs ------------------------------------------------------------------------------------------------------------


@cache
def runs(folder: Path, data: str) -> pd.DataFrame:
    """One row a run with its measures."""
    rows = []
    for path in sorted(folder.glob("*.jsonl")):
        for text in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(text)
            if record.get("record") != "run" or record.get("status") != "done" or record["size"] != "scaled":
                continue
            config = record["config"]
            if config["data"] != data or config["fold"] is None:
                continue
            curve, period = pd.Series(record["curves"]["accuracy"]), config["period"]
            before = curve.iloc[len(curve) - 3 * period : len(curve) - 2 * period].mean()
            rows.append(
                {
                    "unit": config["unit"],
                    "fold": config["fold"],
                    "accuracy": record["accuracy"],
                    "unused": record.get("unused", {}).get("accuracy", math.nan),
                    "early": curve.iloc[:period].mean(),
                    "before_drop": before,
                    "drop_gain": curve.iloc[-period:].mean() - before,
                }
            )
    return pd.DataFrame(rows)


# --- what is compared: for each claim (kind, data, rows); a row is (plus, minus) or with a measure ------------------------


def both(noise_and_strategy: str, interval: str) -> list[str]:
    return [f"{noise_and_strategy}-{interval}-{law}" for law in ("homogeneous", "progressive")]


def best(start: str) -> list:
    return [(both(start, a), both(start, b)) for a in ("partition", "same-start") for b in ("same-end", "overlapped")]


def worst(start: str) -> list:
    return [(both(start, a), both(start, "same-end")) for a in ("partition", "same-start", "overlapped")]


def laws(noise: str) -> tuple:
    return tuple(
        [f"{noise}-expectation-{interval}-{law}" for interval in ("partition", "same-start")]
        for law in ("homogeneous", "progressive")
    )


def shapes(strategy: str, *measure: str) -> list:
    return [([f"{noise}-{strategy}-static"], [f"uniform-{strategy}-static"], *measure) for noise in OTHERS]


def mode_against_random(*measure: str) -> list:
    return [([f"{noise}-mode-static"], [f"{noise}-random-static"], *measure) for noise in ("uniform", *OTHERS)]


def every_interval(noise: str) -> list[str]:
    return [n for i in ("partition", "same-start", "same-end", "overlapped") for n in both(f"{noise}-expectation", i)]


MODE, PARTITION = ["uniform-mode-static"], ["uniform-mode-partition-homogeneous"]
E, R, M = "uniform-expectation", "uniform-random", "uniform-mode"
C, S, G = "cifar10", "svhn-stand-in", "gsc12"

CLAIMS: dict[str, tuple] = {
    "mode-above-random": ("above", C, mode_against_random()),
    "noise-negligible-mode": ("level", (C, S, G), shapes("mode")),
    "uniform-behind-when-random": ("above", C, shapes("random")),
    "noise-negligible-expectation": ("level", C, [(every_interval(n), every_interval("uniform")) for n in OTHERS]),
    "expectation-partition-or-same-start": ("above", (C, S), best(E)),
    "homogeneous-above-progressive": ("above", C, [laws("uniform")]),
    "same-end-worst-expectation": ("above", (C, S, G), worst(E)),
    "same-end-worst-random": ("above", (C, S, G), worst(R)),
    "same-end-worst-mode": ("above", (S, G), worst(M)),
    "random-partition-above-expectation": ("by", C, [(both(R, "partition"), both(E, "partition"))]),
    "mode-partition-level-with-static": ("level", C, [(PARTITION, MODE, "before_drop")]),
    "static-ahead-after-drop": ("above", C, [(MODE, PARTITION), (MODE, PARTITION, "drop_gain")]),
    "static-mode-is-ste": ("level", (C, S, G), [(MODE, ["ste"])]),
    "mode-gains-more-at-drop": ("above", C, mode_against_random("drop_gain")),
    "expectation-below-static": ("by", C, [(MODE, both(E, "partition")), (MODE, both(E, "same-start"))]),
    "other-noises-partition-or-same-start": ("above", C, [r for n in OTHERS for r in best(f"{n}-expectation")]),
    "other-noises-homogeneous": ("above", C, [laws(n) for n in OTHERS]),
    "other-noises-same-end-worst": ("above", C, [r for n in OTHERS for r in worst(f"{n}-expectation")]),
    "random-mitigates-same-end": (
        "above",
        C,
        [
            (both(R, "same-end"), both(E, "same-end")),
            (both(E, "partition"), both(E, "same-end"), "final", both(R, "partition"), both(R, "same-end")),
        ],
    ),
    "late-early-layers-cost-much": ("by", C, [(both(s, "partition"), both(s, "same-end")) for s in (E, R, M)]),
    "noise-negligible-random": ("level", (S, G), shapes("random")),
    "uniform-random-slow-early": ("above", S, shapes("random", "early")),
    "random-partition-or-same-start": ("above", S, best(R)),
    "mode-partition-or-same-start": ("above", S, best(M)),
    "triangular-varies-least": (
        "scatter",
        G,
        [
            ([f"{n}-{s}-static"], [f"triangular-{s}-static"])
            for s in ("random", "mode")
            for n in ("uniform", "normal", "logistic")
        ],
    ),
    "uniform-varies-most": (
        "scatter",
        G,
        [([f"uniform-{s}-static"], [f"{n}-{s}-static"]) for s in ("random", "mode") for n in OTHERS],
    ),
    "partition-ends-level-with-static": ("level", G, [(PARTITION, MODE)]),
    "static-mode-ahead-of-all": (
        "above",
        (C, S, G),
        [(MODE, [f"{s}-{i}-homogeneous"]) for s in (E, R, M) for i in ("partition", "same-start")],
    ),
    "expectation-coherent-intervals": ("above", G, best(E)),
    "random-coherent-intervals": ("above", G, best(R)),
    "mode-coherent-intervals": ("above", G, best(M)),
    "others-level-when-random": (
        "level",
        C,
        [
            (["triangular-random-static"], ["normal-random-static"]),
            (["triangular-random-static"], ["logistic-random-static"]),
            (["normal-random-static"], ["logistic-random-static"]),
        ],
    ),
    "other-noises-below-static": (
        "by",
        C,
        [([f"{n}-mode-static"], both(f"{n}-expectation", i)) for n in OTHERS for i in ("partition", "same-start")],
    ),
}


# --- the numbers ---------------------------------------------------------------------------------------------------------


def averaged(table: pd.DataFrame, units: list[str], measure: str) -> pd.Series | None:
    """Fold → the mean over these units; None if one of them has not been run, and only folds that all have."""
    wide = table[table["unit"].isin(units)].pivot(index="fold", columns="unit", values=measure)
    return wide[units].dropna().mean(axis=1) if set(units) <= set(wide.columns) else None


def student(values: pd.Series) -> tuple[float, float, float, float, int]:
    """Mean, ends of the interval, standard error, number."""
    n, mean = len(values), values.mean()
    error = values.std() / math.sqrt(n) if n > 1 else math.nan
    half = quantile(n - 1) * error if n > 1 else math.nan
    return mean, mean - half, mean + half, error, n


def beyond(mean: float, bound: float, error: float, freedom: int) -> float:
    """The probability of a mean this high or higher where the truth is the bound."""
    return upper_tail((mean - bound) / error if error else math.copysign(math.inf, mean - bound), freedom)


def contrast(table: pd.DataFrame, kind: str, row: tuple) -> dict:
    """One difference or ratio: its interval, and the p values in favour and against."""
    plus, minus, measure, *more = (*row, "final") if len(row) == 2 else row
    if measure == "final":  # on examples in no fold, if all runs that are compared have that
        compared = table[table["unit"].isin([unit for units in (plus, minus, *more) for unit in units])]
        measure = "unused" if compared["unused"].notna().all() else "accuracy"
    sides = [averaged(table, units, measure) for units in (plus, minus, *more)]
    nothing = {"effect": math.nan, "low": math.nan, "high": math.nan, "n": 0, "against": 1.0, "for_it": 1.0}
    if any(side is None for side in sides):
        return nothing
    together = pd.concat(sides, axis=1, join="inner")
    if not len(together):
        return nothing
    if kind == "scatter":
        return scatter(together)
    difference = together.iloc[:, 0] - together.iloc[:, 1]
    if more:
        difference = difference - (together.iloc[:, 2] - together.iloc[:, 3])
    mean, low, high, error, n = student(difference)
    found = {**nothing, "effect": mean, "low": low, "high": high, "n": n}
    if n < 2:
        return found
    if kind == "level":
        found["against"] = max(beyond(mean, -MARGIN, error, n - 1), beyond(-mean, -MARGIN, error, n - 1))
        found["for_it"] = min(beyond(mean, MARGIN, error, n - 1), beyond(-mean, MARGIN, error, n - 1))
        return found
    bound = MARGIN if kind == "by" else 0.0
    found["against"], found["for_it"] = (beyond(sign * mean, sign * bound, error, n - 1) for sign in (1, -1))
    return found


def scatter(pairs: pd.DataFrame) -> dict:
    """The ratio of standard deviations, by the correlation of sums and differences (Pitman, Morgan)."""
    first, second = pairs.iloc[:, 0], pairs.iloc[:, 1]
    n, ratio = len(pairs), first.std() / second.std()
    found = {"effect": ratio, "low": math.nan, "high": math.nan, "n": n, "against": 1.0, "for_it": 1.0}
    if n < 3:
        return found
    r = (first + second).corr(first - second)
    t = r * math.sqrt((n - 2) / (1 - r * r))
    found["against"], found["for_it"] = upper_tail(t, n - 2), upper_tail(-t, n - 2)
    shared = first.corr(second) ** 2
    # The ends are the ratios c for which first and c * second would scatter alike to within the quantile.
    spread = (1 - shared) * quantile(n - 2) ** 2 / (n - 2)
    factor = math.sqrt(spread) + math.sqrt(1 + spread)
    return {**found, "low": ratio / factor, "high": ratio * factor}


def claims(folder: Path, data: str) -> pd.DataFrame:
    """Every contrast of every claim about a data set, a row each, with what follows for the claim."""
    table, rows = runs(folder, data), []
    for name, (kind, about, contrasts) in CLAIMS.items():
        if data not in ((about,) if isinstance(about, str) else about):
            continue
        found = [contrast(table, kind, row) for row in contrasts]
        against = max(each["against"] for each in found)
        for_it = min(1.0, len(found) * min(each["for_it"] for each in found))
        p = min(1.0, 2 * min(against, for_it)) if any(each["n"] for each in found) else math.nan
        if for_it < against and p <= 0.05:
            alone = "contradicted"
        elif not all(each["n"] for each in found):
            alone = "no data"
        else:
            alone = "supported" if p <= 0.05 else "undecided"
        rows += [{"claim": name, "contrast": i, **each, "p": p, "alone": alone} for i, each in enumerate(found)]
    found = pd.DataFrame(rows)
    first = found[(found["contrast"] == 0) & found["p"].notna()].sort_values("p", kind="stable")
    steps = [min(1.0, p * (len(first) - i)) for i, p in enumerate(first["p"])]
    adjusted = dict(zip(first["claim"], pd.Series(steps, dtype=float).cummax()))
    found["adjusted"] = found["claim"].map(adjusted)
    decided = found["alone"].isin(["supported", "contradicted"]) & ~(found["adjusted"] <= 0.05)
    found["verdict"] = found["alone"].mask(decided, "undecided")
    return found


def main() -> int:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "data" / "results"
    for data in sys.argv[2:] or (C, S, G):
        print(claims(folder, data).assign(data=data).to_csv(index=False), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
