"""Random integer networks, small, with steps of all kinds: what every runtime of them is compared on."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from anabook.deploy.network import IntegerNetwork
from anabook.deploy.running import Extent, extent
from anabook.deploy.steps import INPUT, Add, Concat, Flatten, Head, Input, MaxPool, Step, SumPool, Threshold, Weighted

LEVELS = (
    [-1, 0, 1],
    [0, 1],
    [-1, 1],
    [0, 1, 2, 3],
    [-3, 0, 1, 7],
    [1, 2],
    [-8, -2, 5, 11, 90],
    list(range(-8, 8)),
    [0, 3, 200],
)


def random_network(seed: int) -> IntegerNetwork:
    """A network drawn from a seed: on images or on vectors, with or without a head."""
    return _Drawing(seed).network()


def random_inputs(network: IntegerNetwork, n: int, seed: int = 0, extreme: int = 1) -> np.ndarray:
    """Inputs within the network's bounds, in the narrowest type; the first ones have nothing but the bounds."""
    rng, given = np.random.default_rng(seed), network.extents[INPUT]
    x = rng.integers(network.input.low, network.input.high + 1, (n, *network.input.shape))
    first = x[:extreme]
    first[:] = rng.choice([network.input.low, network.input.high], first.shape)
    return x.astype(given.dtype)


class _Drawing:
    def __init__(self, seed: int) -> None:
        self.rng, self.joins = np.random.default_rng(seed), np.random.default_rng((seed, 1))
        self.steps: list[Step] = []
        self.extents: dict[str, Extent] = {}

    def network(self) -> IntegerNetwork:
        rng = self.rng
        low, high = [(0, 255), (-128, 127), (0, 1020), (0, 16), (-3, 3)][rng.integers(5)]
        images = rng.random() < 0.75
        shape = (int(rng.integers(1, 5)), *map(int, rng.integers(5, 10, 2))) if images else (int(rng.integers(1, 30)),)
        mean, std = (Fraction(0), Fraction(1)) if rng.random() < 0.5 else (Fraction(float(rng.normal())), Fraction(3, 7))
        given = Input(shape, low, high, mean, std)
        self.extents[INPUT] = Extent(shape, low, high)
        at = INPUT
        if images:
            for _ in range(rng.integers(1, 4)):
                at = self.joined(self.block(at))
            at = self.add(Flatten(name=self.name("flatten"), inputs=(at,)))
        for _ in range(rng.integers(0, 3)):
            n = int(rng.integers(1, 12))
            weights = self.weights((n, *self.extents[at].shape))
            at = self.threshold(self.add(Weighted(name=self.name("linear"), inputs=(at,), weights=weights)))
        kind = rng.random()
        if kind < 0.8:
            n = int(rng.integers(2, 11))
            weights = self.weights((n, *self.extents[at].shape))
            if kind < 0.4:
                weights = rng.normal(size=weights.shape).astype(np.float32)
            scale, bias = rng.uniform(0.01, 2, n), rng.normal(size=n)
            self.add(Head(name="last", inputs=(at,), weights=weights, scale=scale, bias=bias))
        elif not (self.steps and isinstance(self.steps[-1], Threshold)):
            self.threshold(at)
        return IntegerNetwork(given, self.steps)

    def block(self, at: str) -> str:
        """A convolution with its quantiser; perhaps pools before and after it, and what it was applied to added."""
        rng = self.rng
        before = at
        c, height, width = self.extents[at].shape
        groups = int(rng.choice([g for g in (1, 1, 2, c) if c % g == 0]))
        same = rng.random() < 0.3
        kernel = (3, 3) if same else tuple(int(min(rng.integers(1, 4), n)) for n in (height, width))
        dilation = tuple(int(d) if (k - 1) * d < n else 1 for k, d, n in zip(kernel, rng.integers(1, 3, 2), (height, width)))
        dilation = (1, 1) if same else dilation
        outputs = c if same else groups * int(rng.integers(1, 4))
        step = Weighted(
            name=self.name("conv"),
            inputs=(at,),
            weights=self.weights((outputs, c // groups, *kernel)),
            stride=(1, 1) if same else self.pair(1, 3),
            padding=(1, 1) if same else self.pair(0, 3),
            dilation=dilation,
            groups=groups,
        )
        at = self.add(step)
        if rng.random() < 0.3:
            at = self.pool(at)
        if same and rng.random() < 0.3 and self.extents[at].shape == self.extents[before].shape:
            at = self.add(Add(name=self.name("add"), inputs=(at, before)))
        at = self.threshold(at)
        if same and rng.random() < 0.6 and self.extents[at].shape == self.extents[before].shape:
            at = self.add(Add(name=self.name("add"), inputs=(before, at)))
            if self.extents[at].dtype.itemsize > 1:
                at = self.threshold(at)
        if rng.random() < 0.3:
            at = self.pool(at)
            if self.extents[at].dtype.itemsize > 1:
                at = self.threshold(at)
        return at

    def joined(self, at: str) -> str:
        """Now and then the channels with those of earlier tensors of the same size, wide or narrow, of one sign or of both."""
        rng, size = self.joins, self.extents[at].shape[1:]
        others = [name for name, each in self.extents.items() if len(each.shape) == 3 and each.shape[1:] == size]
        if rng.random() < 0.6 or (rng.random() < 0.5 and others == [at]):
            return at
        inputs = [*rng.choice(others, int(rng.integers(1, 3))).tolist(), at]
        rng.shuffle(inputs)
        at = self.add(Concat(name=self.name("cat"), inputs=tuple(inputs)))
        return self.threshold(at) if self.extents[at].dtype.itemsize > 1 or rng.random() < 0.3 else at

    def pool(self, at: str) -> str:
        rng, (_, height, width) = self.rng, self.extents[at].shape
        kernel = tuple(int(min(rng.integers(1, 4), n)) for n in (height, width))
        padding = tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel)
        stride = self.pair(1, 3)
        if rng.random() < 0.4:
            return self.add(SumPool(name=self.name("sums"), inputs=(at,), kernel=kernel, stride=stride, padding=padding))
        dilation = tuple(int(d) if (k - 1) * d < n else 1 for k, d, n in zip(kernel, rng.integers(1, 3, 2), (height, width)))
        step = MaxPool(
            name=self.name("most"),
            inputs=(at,),
            kernel=kernel,
            stride=stride,
            padding=padding,
            dilation=dilation,
            ceil_mode=bool(rng.random() < 0.5),
        )
        return self.add(step)

    def threshold(self, at: str) -> str:
        rng, given = self.rng, self.extents[at]
        levels = np.array(LEVELS[rng.integers(len(LEVELS))])
        low, high = (b.reshape(-1, *[1] * (len(given.shape) - 1)) for b in given.channels(at))
        places = given.shape[1:] if rng.random() < 0.2 else (1,) * (len(given.shape) - 1)
        where = rng.normal(0.5, 0.15, (len(levels) - 1, given.shape[0], *places))
        thresholds = np.sort(np.clip(np.rint(low + where * (high - low)), low, high + 1), axis=0).astype(np.int64)
        signs = None
        if rng.random() < 0.4:
            signs = rng.choice(np.array([-1, 1], np.int8), given.shape[0])
            turned = signs.reshape(-1, *[1] * (len(given.shape) - 1)) < 0
            thresholds = np.where(turned, -thresholds[::-1], thresholds)
        if rng.random() < 0.2:  # a channel that is constant
            thresholds[:, 0] = rng.choice([-(2**31), 2**31 - 1])
        step = Threshold(
            name=self.name("act"),
            inputs=(at,),
            thresholds=thresholds.astype(np.int32),
            levels=levels,
            quantum=Fraction(int(rng.integers(1, 9)), int(rng.integers(1, 9))),
            signs=signs,
        )
        return self.add(step)

    def weights(self, shape: tuple[int, ...]) -> np.ndarray:
        low, high = [(-1, 1), (-1, 1), (-7, 7), (-128, 127)][self.rng.integers(4)]
        return self.rng.integers(low, high + 1, shape).astype(np.int8)

    def pair(self, low: int, high: int) -> tuple[int, int]:
        return tuple(map(int, self.rng.integers(low, high, 2)))

    def name(self, kind: str) -> str:
        return f"{kind}{sum(step.name.startswith(kind) for step in self.steps) + 1}"

    def add(self, step: Step) -> str:
        self.extents[step.name] = extent(step, [self.extents[name] for name in step.inputs])
        self.steps.append(step)
        return step.name
