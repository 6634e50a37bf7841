"""One table of estimators: how far from the gradient, how noisy and how dear they are, on two small testbeds.

Ternary units with quantum 1 and independent logistic noise of standard deviation `std`. The testbed "one layer" is chapter 5's:
64 units with fixed inputs and a quadratic loss on their weighted sum. In "two layers" 5 ternary units feed 4 others, the loss
is a logistic one, and there are 16 examples; the gradient is the one in the inputs of the first layer, through both. The
reference is exact in both: the gradient of the expected loss, the noise of each unit drawn independently, by moments or by
enumeration of all 3^9 outcomes. A record has the same figures against the gradient of the composed loss, in which each unit is
replaced by its mean.

An estimate is repeated `draws` times. All lengths are in units of the reference's.

    bias            the mean estimate's distance from the reference: its square is estimated without bias (pairs of different
                    draws), and is cut off at 0
    bias_below      the square root of that square plus two standard errors
    spread          the root of the summed variances of one estimate
    cosine          between mean estimate and reference
    microseconds    processor time of a pass and its gradient, the shortest of several
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from anabook import Noise, Quantiser, Regularisation
from anabook.training import Quantise, estimators
from anabook.variants import VARIANTS
from studies.loop import Config, Option, Study

TERNARY = Quantiser.ternary()
STDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
ROUNDING = "stochastic rounding"
ESTIMATORS = (
    "expectation",
    "mode",
    "random",
    ROUNDING,
    "gumbel-softmax",
    "reinforce",
    "reinforce with baseline",
    "plain ste",
)
TESTBEDS = {"one layer": 20_000, "two layers": 8_000}
"""The testbeds, and how often an estimate is repeated."""
EXACT = ("expectation", "mode", "plain ste")
"""Estimators that draw nothing."""
TEMPERATURE = 0.5


def cases(draws: int | None = None, seed: int = 5) -> list[Config]:
    """Each estimator at each noise on each testbed; stochastic rounding has one noise only."""
    base = {"temperature": TEMPERATURE, "seed": seed}
    return [
        {
            **base,
            "testbed": testbed,
            "estimator": name,
            "draws": TESTBEDS[testbed] if draws is None else draws,
            "noise": "uniform" if name == ROUNDING else "logistic",
            "std": 12**-0.5 if name == ROUNDING else std,
        }
        for testbed in TESTBEDS
        for name in ESTIMATORS
        for std in ((0.0,) if name == ROUNDING else STDS)
    ]


class Testbed:
    """Inputs of the first layer, and a loss of what its units give.

    Attributes:
        x: the inputs, of shape (examples, units).
        depth: how many layers of units there are.
    """

    def __init__(self, name: str, seed: int) -> None:
        rng = np.random.default_rng(seed)
        tensor = functools.partial(torch.tensor, dtype=torch.float64)
        self.depth = 1 + (name == "two layers")
        if self.depth == 1:
            self.x, self.weights = tensor(rng.normal(size=(1, 64))), tensor(rng.normal(size=64) / 8)
        else:
            self.x = tensor(rng.normal(size=(16, 5)))
            self.inner = tensor(rng.normal(size=(5, 4)) / 5**0.5)
            self.weights = tensor(rng.normal(size=4))

    def inputs(self, layer: int, z: Tensor) -> Tensor:
        """The inputs of a layer's units, given what those below it give; of the first one, z itself."""
        return z @ self.inner if layer else z

    def loss(self, z: Tensor) -> Tensor:
        """Of what the last units give, of shape (…, units)."""
        s = z @ self.weights
        return (s - 0.5) ** 2 / 2 if self.depth == 1 else torch.nn.functional.softplus(-s)

    def expected_loss(self, x: Tensor, r: Regularisation) -> Tensor:
        """E L of each example with independent noise in each unit, exactly."""
        p = estimators.level_probabilities(x, r)
        levels = torch.tensor(TERNARY.levels.tolist(), dtype=x.dtype)
        if self.depth == 1:  # a quadratic loss needs two moments
            mean = p @ levels
            variance = p @ levels**2 - mean**2
            return self.loss(mean) + variance @ self.weights**2 / 2
        first = torch.tensor(list(itertools.product(range(3), repeat=5)))
        second = torch.tensor(list(itertools.product(range(3), repeat=4)))
        of_first = torch.stack([p[:, i, first[:, i]] for i in range(5)]).prod(0)
        p2 = estimators.level_probabilities(self.inputs(1, levels[first]), r)
        of_second = torch.stack([p2[:, i, second[:, i]] for i in range(4)]).prod(0)
        return of_first @ of_second @ self.loss(levels[second])


def gradients(testbed: Testbed, config: Config, n: int, generator: torch.Generator, baseline: Tensor) -> Tensor:
    """n estimates of the gradient in x, of shape (n, examples·units)."""
    name = config["estimator"]
    r = Regularisation(TERNARY, Noise(config["noise"], std=config["std"]))
    x = testbed.x.expand(n, *testbed.x.shape).clone().requires_grad_()
    if name.startswith("reinforce"):
        z, log_p = x, torch.zeros(x.shape[:2], dtype=x.dtype)
        for layer in range(testbed.depth):
            # What was drawn is a constant here, so that a layer's probabilities depend on x in the first layer only.
            z, log_layer = estimators.drawn_level(testbed.inputs(layer, z), r, generator)
            log_p = log_p + log_layer.sum(-1)
        loss = estimators.score_function_loss(testbed.loss(z), log_p, baseline * ("baseline" in name))
    else:
        unit, z = _unit(name, r, config["temperature"], generator), x
        for layer in range(testbed.depth):
            z = unit(testbed.inputs(layer, z))
        loss = testbed.loss(z).sum()
    return torch.autograd.grad(loss, x)[0].flatten(1)


def _unit(name: str, r: Regularisation, temperature: float, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    if name == "gumbel-softmax":
        return lambda s: estimators.gumbel_softmax(s, r, temperature, generator=generator)
    if name == ROUNDING:
        return estimators.stochastic_rounding(TERNARY, generator)
    if name == "plain ste":
        return Quantise(TERNARY, noise=VARIANTS["identity"])
    return Quantise(TERNARY, noise=r.noise, strategy=name, generator=generator)


def compared(estimates: np.ndarray, reference: np.ndarray, groups: int = 20) -> dict[str, float]:
    """Bias, spread and cosine of estimates of shape (n, dimensions), in units of the reference's length."""
    size = float(np.linalg.norm(reference))
    errors = (estimates - reference) / size
    mean = estimates.mean(0)
    found = {"cosine": float(mean @ reference / (np.linalg.norm(mean) * size))}
    if len(errors) == 1:
        bias = float(np.linalg.norm(errors))
        return found | {"bias": bias, "bias_below": bias, "spread": 0.0}

    def square(total: np.ndarray, squares: float, n: int) -> float:
        return float((total @ total - squares) / (n * (n - 1)))

    totals = errors.reshape(groups, -1, errors.shape[1]).sum(1)
    squares = (errors**2).sum(1).reshape(groups, -1).sum(1)
    n, part = len(errors), len(errors) // groups
    all_of_it = square(totals.sum(0), squares.sum(), n)
    without = [
        square(totals.sum(0) - total, squares.sum() - each, n - part) for total, each in zip(totals, squares, strict=True)
    ]
    error = float(np.sqrt((groups - 1) / groups * np.sum((np.array(without) - np.mean(without)) ** 2)))
    positive = max(all_of_it, 0.0)
    return found | {
        "bias": positive**0.5,
        "bias_below": (positive + 2 * error) ** 0.5,
        "spread": float(np.sqrt(errors.var(0, ddof=1).sum())),
    }


def measure(config: Config) -> dict:
    """One estimator at one noise."""
    testbed = Testbed(config["testbed"], config["seed"])
    r = Regularisation(TERNARY, Noise(config["noise"], std=config["std"]))
    x = testbed.x.clone().requires_grad_()
    expected = testbed.expected_loss(x, r)
    (reference,) = torch.autograd.grad(expected.sum(), x)
    once = functools.partial(
        gradients, testbed, generator=torch.Generator().manual_seed(config["seed"]), baseline=expected.detach()
    )
    composed = once(config | {"estimator": "expectation"}, n=1)
    parts = [1] if config["estimator"] in EXACT else [1000] * (config["draws"] // 1000) + [config["draws"] % 1000]
    found = torch.cat([once(config, n=part) for part in parts if part]).numpy()
    times = []
    for _ in range(7):
        start = time.process_time()
        once(config, n=1000)
        times.append(time.process_time() - start)
    against = compared(found, reference.flatten().numpy())
    other = compared(found, composed[0].numpy())
    return {
        **{name: round(value, 6) for name, value in against.items()},
        **{f"{name}_composed": round(value, 6) for name, value in other.items()},
        "reference": round(float(reference.norm()), 6),
        "microseconds": round(min(times) * 1e3, 3),
    }


def told(record: dict, _: object) -> str:
    """Which case it was, and its bias and spread."""
    config = record["config"]
    return (
        f"{config['testbed']}, {config['estimator']}, std {config['std']:.2f}: "
        f"bias {record['bias']:.3f}, spread {record['spread']:.2f}"
    )


STUDY = Study(
    "estimators",
    cases,
    measure,
    told=told,
    options={
        "draws": Option(None, "estimates a case, a multiple of 20 (what the chapter shows)"),
        "seed": Option(5, "of testbed and draws"),
    },
)
