"""Random deployed networks of torch, small, with all that `to_integer` reads, and sums that hit thresholds on purpose."""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from torch import nn

from anabook import Quantiser
from anabook.training import deploy, quantise

WEIGHTS = (
    Quantiser.ternary(),
    Quantiser.ternary(0.1),
    Quantiser.linear(4, quantum=0.1, rounding="nearest"),
    Quantiser.linear(3, quantum=0.25, balanced=True),
    Quantiser([-1, 1], [0.0]),
    Quantiser([-3, 0.5, 1], [-0.7, 0.2]),
    Quantiser.linear(8, quantum=0.01),
)
ACTIVATIONS = (
    Quantiser.ternary(),
    Quantiser.heaviside(),
    Quantiser.linear(4, signed=False, quantum=0.1, rounding="nearest"),
    Quantiser.linear(3, quantum=0.3),
    Quantiser([-1, 1], [0.0]),
    Quantiser([-0.5, 0.25, 3], [-2.0, 1.5]),
    Quantiser([1, 2], [0.125]),
    Quantiser.linear(8, signed=False, quantum=0.02),
    Quantiser([1 / 3, 2 / 3], [0.4]),
)
BINARY = (Quantiser.ternary(), Quantiser.heaviside(), Quantiser([-1, 1], [0.0]), Quantiser.ternary(0.5))
"""Quantisers whose numbers are short in binary, so that sums hit thresholds."""


def standardised(x: torch.Tensor, mean: float | tuple[float, ...], std: float | tuple[float, ...]) -> torch.Tensor:
    """(x − mean) / std, each one number or one for each channel."""
    mean, std = (torch.tensor(part).reshape(-1, *[1] * (x.ndim - 2)) for part in (mean, std))
    return (x - mean) / std


class Residual(nn.Module):
    """What goes in, and what a block makes of it, added."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x):
        return x + self.block(x)


class Joined(nn.Module):
    """What several blocks make of one input, their channels one after the other; perhaps the input itself among them."""

    def __init__(self, blocks: list[nn.Module], itself: bool) -> None:
        super().__init__()
        self.blocks, self.itself = nn.ModuleList(blocks), itself

    def forward(self, x):
        return torch.cat([x] * self.itself + [block(x) for block in self.blocks], dim=1)


class Drawing:
    """A network drawn from a seed, with the integers that it takes.

    Attributes:
        net: deployed.
        x: integers, shape (n, …).
        mean, std, bounds: for `to_integer`.
        ties: whether all numbers are short in binary.
    """

    def __init__(self, seed: int, n: int = 6) -> None:
        self.rng = rng = np.random.default_rng(seed)
        self.joins = np.random.default_rng((seed, 1))
        self.ties = bool(rng.random() < 0.4)
        torch.manual_seed(seed)
        images = rng.random() < 0.7
        self.channels = int(rng.integers(1, 4))
        self.size = tuple(map(int, rng.integers(5, 8, 2)))
        low, high = [(0, 255), (-128, 127), (0, 16), (0, 1020)][rng.integers(4)]
        self.bounds = (low, high)
        self.mean, self.std = [(0.0, 1.0), (0.0, 16.0), (3.0, 4.0), (120.3, 61.7), (0.5, 1.0)][rng.integers(5)]
        shape = (self.channels, *self.size) if images else (int(rng.integers(2, 12)),)
        self.shape = shape
        modules: list[nn.Module] = []
        if rng.random() < 0.15:
            modules.append(nn.ReLU())  # a quantiser on the input itself
        if images and self.channels > 1 and self.joins.random() < 0.4:
            self.mean = tuple(map(float, self.joins.integers(-9, 130, self.channels) / 4))
            if modules:
                self.std = tuple(map(float, self.joins.integers(1, 60, self.channels) / 3))
        if images:
            for _ in range(rng.integers(1, 3)):
                modules += self.block(first=not modules)
            if rng.random() < 0.3:
                modules.append(nn.AdaptiveAvgPool2d(1))
            modules.append(nn.Flatten())
        with torch.no_grad():
            width = nn.Sequential(*modules).eval()(torch.zeros(2, *shape)).shape[1] if modules else shape[0]
        if rng.random() < 0.7:
            hidden = int(rng.integers(2, 8))
            modules += [nn.Linear(width, hidden, bias=rng.random() < 0.3), nn.BatchNorm1d(hidden), nn.ReLU()]
            width = hidden
        modules.append(nn.Linear(width, 4, bias=rng.random() < 0.5))
        net = nn.Sequential(*modules)
        if sum(isinstance(m, (nn.Linear, nn.Conv2d)) for m in net.modules()) < 2:
            net = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 4))
        self.randomise(net)
        pick = lambda table: table[rng.integers(len(table))]  # noqa: E731
        weights = pick(BINARY if self.ties else WEIGHTS)
        activations = pick(BINARY if self.ties else ACTIVATIONS)
        self.weights, self.activations = weights, activations
        keep = () if rng.random() < 0.5 else ("last",)
        scales = {}
        if rng.random() < 0.4:
            scales = self.scales(net)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            noisy = quantise(net, weights=weights, activations=activations, keep=keep, scales=scales or None)
        self.net = deploy(noisy)
        self.spread()
        self.x = rng.integers(low, high + 1, (n, *shape))

    def joined(self) -> list[nn.Module]:
        """Branches whose channels are put one after the other: levels of one quantum, or sums of several that are quantised then."""
        rng, c, (rows, columns) = self.joins, self.channels, self.size
        outputs = [int(n) for n in rng.integers(1, 4, 2)]
        if rng.random() < 0.5:
            blocks: list[nn.Module] = [
                nn.Sequential(nn.Conv2d(c, outputs[0], 1), nn.ReLU()),
                nn.Sequential(nn.Conv2d(c, outputs[1], 3, padding=1, bias=False), nn.BatchNorm2d(outputs[1]), nn.ReLU()),
            ]
            itself = bool(rng.random() < 0.5)
            self.channels = sum(outputs) + c * itself
            return [nn.Conv2d(c, c, 1), nn.ReLU(), Joined(blocks, itself)]
        pools = (nn.Identity(), nn.BatchNorm2d(outputs[1]), nn.AvgPool2d(1))
        second = nn.Sequential(nn.Conv2d(c, outputs[1], 1), pools[rng.integers(3)])
        self.channels = sum(outputs)
        between = [nn.BatchNorm2d(sum(outputs))] if not isinstance(second[1], nn.BatchNorm2d) and rng.random() < 0.7 else []
        pool = [nn.MaxPool2d((1, 2))] if columns > 3 and rng.random() < 0.3 else []
        self.size = (rows, columns // 2) if pool else self.size
        return [Joined([nn.Conv2d(c, outputs[0], 1, bias=False), second], False), *between, *pool, nn.ReLU()]

    def block(self, first: bool) -> list[nn.Module]:
        rng = self.rng
        if self.joins.random() < 0.2:
            return self.joined()
        c = self.channels
        if rng.random() < 0.3:
            inner = nn.Sequential(nn.Conv2d(c, c, 3, padding=1, bias=False), self.norm(c), nn.ReLU())
            return [nn.Conv2d(c, c, 1), nn.ReLU(), Residual(inner)]
        groups = int(rng.choice([g for g in (1, 1, c) if c % g == 0]))
        outputs = groups * int(rng.integers(1, 4))
        kernel = tuple(map(int, rng.integers(1, 4, 2)))
        same = rng.random() < 0.2 and all(k % 2 for k in kernel)
        conv = nn.Conv2d(
            c,
            outputs,
            kernel,
            stride=1 if same else tuple(map(int, rng.integers(1, 3, 2))),
            padding="same" if same else tuple(map(int, rng.integers(0, 3, 2))),
            dilation=1 if min(self.size) < 6 else int(rng.integers(1, 3)),
            groups=groups,
            bias=bool(rng.random() < 0.3),
        )
        self.channels = outputs
        place = rng.random()
        pool = [
            nn.MaxPool2d(2, stride=1, padding=1),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.AvgPool2d(2, stride=1),
            nn.AvgPool2d((1, 2)),
        ][rng.integers(4)]
        norm = [self.norm(outputs)] if rng.random() < 0.8 else []
        with torch.no_grad():
            try:
                found = pool(conv(torch.zeros(1, c, *self.size)))
                self.size = tuple(found.shape[2:])
            except RuntimeError:
                self.channels = c
                return []
        by_place = first and self.mean != 0 and bool(any(conv.padding) if isinstance(conv.padding, tuple) else same)
        if place < 0.2 and not by_place:
            return [conv, *norm, pool, nn.ReLU()]
        if place < 0.4 and not by_place:
            return [conv, pool, *norm, nn.ReLU()]
        return [conv, *norm, nn.ReLU(), pool]

    def norm(self, n: int) -> nn.Module:
        kind = self.rng.random()
        return nn.Identity() if kind < 0.1 else nn.BatchNorm2d(n, affine=kind > 0.2, eps=0.0 if self.ties else 1e-5)

    def randomise(self, net: nn.Module) -> None:
        """Signs, zeros, tiny and huge numbers; or halves and powers of two, for ties."""
        rng = self.rng

        def draw(like: torch.Tensor, table: tuple, spread: float = 1.0) -> torch.Tensor:
            if self.ties:
                return torch.tensor(rng.choice(table, like.shape), dtype=torch.float32)
            return torch.tensor(rng.normal(size=like.shape) * spread, dtype=torch.float32)

        for module in net.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                module.weight.data = torch.tensor(rng.normal(size=module.weight.shape), dtype=torch.float32)
                if module.bias is not None:
                    module.bias.data = draw(module.bias, (-1.0, -0.5, 0.0, 0.5, 2.0))
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
                scale = 1.0 if self.ties else float(10.0 ** rng.integers(-12, 13)) if rng.random() < 0.2 else 1.0
                module.running_mean = draw(module.running_mean, (-4.0, -1.0, 0.0, 0.5, 2.0), scale)
                variance = draw(module.running_var, (0.25, 1.0, 4.0, 2.0, 16.0), 1.0)
                module.running_var = variance if self.ties else variance**2 * np.float32(scale**2) + np.float32(1e-3)
                if self.ties:
                    module.eps = 0.0
                if module.affine:
                    module.weight.data = draw(module.weight, (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0))
                    module.weight.data[rng.random(module.weight.shape) < 0.1] = 0.0
                    module.bias.data = draw(module.bias, (-1.0, -0.5, 0.0, 0.25, 0.5))

    def scales(self, net: nn.Module) -> dict:
        """Quanta for weights, one for each channel or one for all, and for activations, one for all."""
        rng, found = self.rng, {}
        for name, module in net.named_modules():
            number = float(rng.choice((0.5, 2.0))) if self.ties else float(rng.uniform(0.01, 3))
            if isinstance(module, (nn.Linear, nn.Conv2d)) and rng.random() < 0.5:
                n = len(module.weight)
                each = rng.choice((0.5, 1.0, 2.0), n) if self.ties else rng.uniform(0.01, 3, n)
                shape = (n, *[1] * (module.weight.ndim - 1))
                found[name] = torch.tensor(each, dtype=torch.float32).reshape(shape) if rng.random() < 0.7 else number
            if isinstance(module, nn.ReLU) and "block" not in name and rng.random() < 0.3:
                found[name] = number
        together = any(isinstance(m, Residual) or isinstance(m, Joined) and m.itself for m in net.modules())
        return {} if together else found

    def spread(self) -> None:
        """Batch normalisations whose thresholds lie where the sums are, unless they are there for ties."""
        if self.ties:
            return
        hooks = []

        def fit(module: nn.Module, inputs: tuple) -> None:
            (x,) = inputs
            axes = (0, 2, 3) if x.ndim == 4 else (0,)
            scale = (x.std(axes) + 1e-3) * float(self.rng.uniform(0.3, 2))
            if self.rng.random() < 0.9:
                module.running_mean = (
                    x.mean(axes) + scale * torch.tensor(self.rng.normal(size=len(scale)), dtype=x.dtype) * 0.5
                )
                module.running_var = scale**2

        for module in self.net.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
                hooks.append(module.register_forward_pre_hook(fit))
        x = torch.tensor(self.rng.integers(self.bounds[0], self.bounds[1] + 1, (16, *self.shape)), dtype=torch.float32)
        with torch.no_grad():
            self.net(standardised(x, self.mean, self.std))
        for hook in hooks:
            hook.remove()
