"""How far each strategy's gradient is from the gradient of the expected loss, by layer and noise, while a network anneals.

A fully connected network with three layers of 24 ternary features (weights in float, batch normalisation with its running
statistics) is trained on the digits along a schedule, with the strategy "mode". After each epoch all three strategies are
asked, at the same weights and the same noise, for the gradient of each layer's weights on 512 training examples. What they are
compared with is an unbiased estimate of the gradient of the expected loss, the noise of each feature drawn independently: each
feature is put to each of its levels, the rest of the network is run with what was drawn, and the losses are weighed with the
derivatives of the levels' probabilities. That is the exact gradient given what was drawn elsewhere, averaged over many draws.

A record has, for each epoch and layer, the noise's standard deviation (`std`); the cosine between the means of two halves of the
draws (`agreement`), which says how far the reference itself can be trusted; and for each strategy the cosine of its gradient on
all 512 examples with the reference (`cosine`, random: averaged over the draws), the ratio of the lengths (`length`), and the
mean cosine of the gradient of one draw on 64 of the examples (`step`), which is what a training step has. None stands
where no gradient arrives: no noise in a layer means none in it and below.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from anabook import Noise, Quantiser, Regularisation, Schedule, datasets, models, training
from anabook.training import Epoch, Quantise
from anabook.training.estimators import level_probabilities
from studies.loop import Config, Option, Study, trained

TERNARY = Quantiser.ternary()
LAYERS, WIDTH, STEPS = 3, 24, 8
STRATEGIES = ("expectation", "mode", "random")
SCHEDULES = ("partition", "same_end")


def cases(seeds: int = 3, draws: int = 32, period: int = 4) -> list[Config]:
    """Both schedules of a seed before the next seed."""
    base = {"layers": LAYERS, "width": WIDTH, "noise": "logistic", "strategy": "mode", "period": period}
    base |= {"batch_size": 128, "lr": 1e-2, "examples": 512, "batch": 64, "draws": draws}
    return [{**base, "interval": interval, "seed": seed} for seed in range(seeds) for interval in SCHEDULES]


class Frozen:
    """A network with its statistics and its noise as they are: layers of inputs, features and losses."""

    def __init__(self, net: nn.Sequential, config: Config) -> None:
        modules = dict(net.named_modules())
        self.weights, self.affine, self.noises = [], [], []
        for i in range(1, config["layers"] + 1):
            norm, unit = modules[f"fc{i}_norm"], modules[f"fc{i}_act"]
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            self.affine.append((scale.detach(), (norm.bias - scale * norm.running_mean).detach()))
            self.weights.append(modules[f"fc{i}"].weight.detach().clone().requires_grad_())
            self.noises.append(Noise(config["noise"], unit.mean, unit.std))
        self.last = modules["last"].weight.detach(), modules["last"].bias.detach()
        self.levels = torch.tensor(TERNARY.levels.tolist())
        self.thresholds = torch.tensor(TERNARY.thresholds.tolist())

    def inputs(self, layer: int, z: Tensor) -> Tensor:
        """The inputs of a layer's quantisers, given the features below."""
        scale, shift = self.affine[layer]
        return z @ self.weights[layer].T * scale + shift

    def losses(self, z: Tensor, y: Tensor) -> Tensor:
        """One for each example, given the last features of shape (…, examples, width)."""
        outputs = z @ self.last[0].T + self.last[1]
        lead = outputs.shape[:-1]
        return cross_entropy(outputs.flatten(0, -2), y.expand(lead).flatten(), reduction="none").view(lead)

    def gradient(self, strategy: str, x: Tensor, y: Tensor, generator: torch.Generator) -> list[Tensor | None]:
        """Of the mean loss in each layer's weights, as a strategy has it; None where the noise is gone."""
        z = x
        for layer, noise in enumerate(self.noises):
            z = Quantise(TERNARY, noise=noise, strategy=strategy, generator=generator)(self.inputs(layer, z))
        return self._alive(list(torch.autograd.grad(self.losses(z, y).mean(), self.weights)))

    def expected(self, x: Tensor, y: Tensor, generator: torch.Generator) -> list[Tensor | None]:
        """Of the expected loss: exact in each feature given the others, which are drawn."""
        shape = (len(x), self.weights[0].shape[0])
        with torch.no_grad():
            nus = []
            for noise in self.noises:
                u = torch.rand(shape, generator=generator).clamp(1e-7, 1 - 1e-7)
                nus.append(torch.from_numpy(noise.icdf(u.double().numpy())).float())
            below, given = [], x
            for layer in range(len(self.noises)):
                below.append(given)
                given = self.drawn(self.inputs(layer, given), nus[layer])
        return self._alive([self._of_layer(layer, below[layer], y, nus) for layer in range(len(self.noises))])

    def drawn(self, s: Tensor, nu: Tensor) -> Tensor:
        """σ(s − ν)."""
        return self.levels[torch.bucketize(s - nu, self.thresholds, right=True)]

    def _of_layer(self, layer: int, z: Tensor, y: Tensor, nus: list[Tensor]) -> Tensor:
        s = self.inputs(layer, z)
        if self.noises[layer].is_dirac:
            return torch.zeros_like(self.weights[layer])
        p = level_probabilities(s, Regularisation(TERNARY, self.noises[layer]))
        with torch.no_grad():
            width, n_levels = s.shape[1], len(self.levels)
            put = self.drawn(s, nus[layer]).expand(width, n_levels, *s.shape).clone()
            put.diagonal(dim1=0, dim2=3).copy_(self.levels[:, None, None].expand(n_levels, len(s), width))
            for above in range(layer + 1, len(self.noises)):
                put = self.drawn(self.inputs(above, put), nus[above])
            losses = self.losses(put, y).permute(2, 0, 1)  # examples, features, levels
        return torch.autograd.grad((p * losses).sum() / len(s), self.weights[layer])[0]

    def _alive(self, gradients: list[Tensor]) -> list[Tensor | None]:
        """None for a layer without noise and for all below it."""
        gone = max((layer for layer, noise in enumerate(self.noises) if noise.is_dirac), default=-1)
        return [None if layer <= gone else gradient for layer, gradient in enumerate(gradients)]


def cosine(a: Tensor, b: Tensor) -> float | None:
    """Between two gradients of one layer; None where one has no length."""
    lengths = float(a.norm() * b.norm())
    return round(float((a * b).sum()) / lengths, 4) if lengths > 0 else None


def looked_at(net: nn.Sequential, x: Tensor, y: Tensor, config: Config, generator: torch.Generator) -> list[dict]:
    """One entry a layer: noise, agreement, and figures of each strategy."""
    frozen, draws, batch = Frozen(net, config), config["draws"], config["batch"]
    halves = [_mean([frozen.expected(x, y, generator) for _ in range(draws // 2)]) for _ in range(2)]
    reference = _mean(halves)
    whole = {
        name: _mean([frozen.gradient(name, x, y, generator) for _ in range(draws if name == "random" else 1)])
        for name in STRATEGIES
    }
    steps = {
        name: [frozen.gradient(name, *(t[i * batch : (i + 1) * batch] for t in (x, y)), generator) for i in range(STEPS)]
        for name in STRATEGIES
    }
    found = []
    for layer, g in enumerate(reference):
        entry = {"std": round(frozen.noises[layer].std, 6), "agreement": None}
        if g is not None:
            entry["agreement"] = cosine(halves[0][layer], halves[1][layer])
            for name in STRATEGIES:
                each = [c for step in steps[name] if (c := cosine(step[layer], g)) is not None]
                entry[name] = {
                    "cosine": cosine(whole[name][layer], g),
                    "length": round(float(whole[name][layer].norm() / g.norm()), 4) if g.norm() > 0 else None,
                    "step": round(sum(each) / len(each), 4) if each else None,
                }
        found.append(entry)
    return found


def _mean(gradients: list[list[Tensor | None]]) -> list[Tensor | None]:
    return [None if layer[0] is None else torch.stack(layer).mean(0) for layer in zip(*gradients)]


def measure(config: Config) -> dict:
    """One run, looked at after each epoch while there is noise."""
    digits, n = datasets.digits(seed=config["seed"]), config["layers"]
    torch.manual_seed(config["seed"])
    net = models.mlp(64, hidden=(config["width"],) * n)
    net = training.quantise(net, None, TERNARY, noise=config["noise"], strategy=config["strategy"])
    x, y = (torch.as_tensor(part[: config["examples"]]) for part in digits.train)
    x = x.flatten(1)
    epochs: list[list[dict]] = []

    def look(epoch: Epoch, net: nn.Sequential) -> None:
        generator = torch.Generator().manual_seed(1000 * config["seed"] + len(epochs))
        epochs.append(looked_at(net, x, y, config, generator))

    std = Noise.covering(config["noise"], half_width=0.5).std
    trained(
        net,
        digits.train,
        Schedule.periodic(n, config["period"], config["interval"], std0=std),
        epochs=n * config["period"],
        batch_size=config["batch_size"],
        lr=config["lr"],
        seed=config["seed"],
        callback=look,
    )
    score = training.evaluate(net, digits.test)
    return {
        "epochs": epochs,
        "accuracy": round(score.accuracy, 6),
        "data": digits.name,
        "provenance": digits.provenance.kind,
    }


def told(record: dict, _: object) -> str:
    """Which run it was, and how long it took."""
    config = record["config"]
    return f"seed {config['seed']}, {config['interval']}: {record['accuracy']:.1%}, {record['wall_seconds']:.0f} s"


STUDY = Study(
    "gradients",
    cases,
    measure,
    told=told,
    options={
        "seeds": Option(3, "how many seeds"),
        "draws": Option(32, "of the reference, an even number"),
        "period": Option(4, "epochs in which one layer of the partition is annealed"),
    },
)
