"""Schedules: how the noise of each layer fades while a network trains (the paper's equations (20) and (21))."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from anabook import _blocks
from anabook._quantised_layers import names_of_layers, noise_of_layers
from anabook._validate import choice, flag, integer, real

INTERVALS = ("partition", "same_start", "same_end", "overlapped")
"""Where in time each layer's noise decays; ℓ counts from 0 at the input, P is a period, n the number of layers:
partition [ℓP, (ℓ+1)P], same start [0, (ℓ+1)P], same end [(n−1−ℓ)P, nP], overlapped [0, nP]. With blocks, ℓ counts blocks,
and n is their number."""

POWER_LAWS = ("homogeneous", "progressive")
"""The exponent of each layer's mean: 1 everywhere, or n − ℓ (largest at the input)."""

_SQRT3 = math.sqrt(3.0)


@dataclass(frozen=True)
class Schedule:
    """The mean and the standard deviation of every layer's noise at every time.

    Layer ℓ (0 at the input) has a decay interval [s, e] and an exponent d. With

        λ(t) = 1 for t ≤ s,   (e − t)/(e − s) in between,   0 for t ≥ e,

    its noise has mean α(t) = mean0·λ(t)^d and standard deviation β(t) = std0·λ(t)^(2d)
    (the paper's equations (20) and (21), which leave the two exponents free; the factor 2 is its authors' code's, and so is
    n − ℓ below). Time is in whatever steps the user counts: iterations in the paper, epochs in the code.
    A static mean or std stays at its initial value for ever.

    **Blocks.** Layers that take one turn together, as a deep network needs, are a block: they share interval and exponents,
    and what is said below of n and ℓ for these is then said of blocks. Theorem 2 does not ask that layers decay one after
    another. Its condition (18) compares a layer's error with the margin of the next one, and within a block both follow one
    schedule. If the mean is negative and has half the standard deviation's exponent, the error is in the end smaller than
    every power of the margin, so (18) holds within a block as it does between blocks. With mean 0 (12) and (17) fail, with
    blocks as without. `convergence.check` decides for any schedule.

    Args:
        n_layers: n ≥ 1 quantised layers.
        interval: "partition", "same_start", "same_end" or "overlapped", each on [start, end] with the period
            P = (end − start)/n; or n pairs (start, end) of your own, which `start` and `end` do not touch.
        power_law: "homogeneous" (d = 1), "progressive" (d = n − ℓ), or n positive exponents of your own.
        start: when the first interval begins.
        end: when the last interval ends.
        mean0: initial mean c_α, of either sign, or n of them, one for each layer. The noise is subtracted, so a negative
            mean moves thresholds left.
        std0: initial standard deviation c_β ≥ 0, or n of them.
        static_mean: whether the mean stays at mean0.
        static_std: whether the standard deviation stays at std0.
        std_exponents: n positive exponents of the standard deviation; twice the mean's by default.
        growth: None for the linear λ(t) above; a number g > 1 gives λ(t) = g^−(t − s) before e instead, and still
            0 from e on.
        blocks: None, where each layer takes a turn of its own; a number k for blocks of k layers, one behind another;
            or n numbers, the block of each layer, from 0 in the order of their turns. `for_network` takes names too.

    Raises:
        ValueError, TypeError: a wrong number of layers, an unknown name, an interval that does not go forward, a
            negative std, exponents that are not positive.

    Example:
        >>> s = Schedule(n_layers=2, start=0, end=100, mean0=-0.5, std0=0.3, static_mean=False)
        >>> s(0, 25), s(1, 25)
        ((-0.25, 0.075), (-0.5, 0.3))
        >>> Schedule.periodic(n_layers=5, period=10, blocks=2).intervals
        ((0.0, 10.0), (0.0, 10.0), (10.0, 20.0), (10.0, 20.0), (20.0, 30.0))
    """

    n_layers: int = 7
    interval: str | tuple[tuple[float, float], ...] = "partition"
    power_law: str | tuple[float, ...] = "homogeneous"
    start: float = 0
    end: float = 350
    mean0: float | tuple[float, ...] = 0.0
    std0: float | tuple[float, ...] = 0.2887
    static_mean: bool = True
    static_std: bool = False
    std_exponents: tuple[float, ...] | None = None
    growth: float | None = None
    rule: Callable[[int, float], tuple[float, float]] | None = None
    blocks: int | tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        fix = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731
        fix("n_layers", integer(self.n_layers, "n_layers", minimum=1))
        fix("start", real(self.start, "start"))
        fix("end", real(self.end, "end", above=self.start))
        fix("mean0", _initial(self.mean0, self.n_layers, "mean0"))
        fix("std0", _initial(self.std0, self.n_layers, "std0", minimum=0.0))
        fix("static_mean", flag(self.static_mean, "static_mean"))
        fix("static_std", flag(self.static_std, "static_std"))
        turns = _blocks.numbers(self.blocks, self.n_layers)
        n, what = max(turns) + 1, "layer" if self.blocks is None else "block"
        if self.blocks is not None:
            fix("blocks", turns)
        if isinstance(self.interval, str):
            choice(self.interval, INTERVALS, "interval")
        else:
            fix("interval", _windows(self.interval, n, what))
        if isinstance(self.power_law, str):
            choice(self.power_law, POWER_LAWS, "power_law")
        else:
            fix("power_law", _exponents(self.power_law, n, "power_law", what))
        if self.std_exponents is not None:
            fix("std_exponents", _exponents(self.std_exponents, n, "std_exponents", what))
        if self.growth is not None:
            fix("growth", real(self.growth, "growth", above=1.0))
        if self.rule is not None and not callable(self.rule):
            raise TypeError(f"rule must be a function of (layer, t), not {self.rule!r}.")
        if self.rule is not None and self.blocks is not None:
            raise ValueError("a schedule made from a callable has no blocks: the callable says what each layer gets.")

    def __repr__(self) -> str:
        """As dataclasses have it; without blocks, the text of schedules before there were any, which checkpoints hold."""
        shown = [f.name for f in fields(self) if f.name != "blocks" or self.blocks is not None]
        return f"Schedule({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    @classmethod
    def periodic(cls, n_layers: int, period: float, interval: Any = "partition", **options: Any) -> Schedule:
        """The schedule on [0, n·period], as in the code of the paper's authors (50 epochs for the VGG, 10 for the DSCNN).

        With `blocks` among the options, n is their number, not that of the layers.
        """
        n_layers = integer(n_layers, "n_layers", minimum=1)
        period = real(period, "period", above=0.0)
        turns = _blocks.numbers(options.get("blocks"), n_layers)
        if options.get("blocks") is not None:
            options["blocks"] = turns  # what they were given as may be an iterator, and is used up now
        n_turns = max(turns) + 1
        return cls(n_layers, interval, start=0.0, end=n_turns * period, **options)

    @classmethod
    def for_network(
        cls,
        net: Any,
        period: float,
        interval: Any = "partition",
        *,
        half_width: float = 0.5,
        mean: float = 0.0,
        blocks: Any = None,
        **options: Any,
    ) -> Schedule:
        """The periodic schedule for a network: its number of layers, and in each layer noise in units of its quanta.

        Args:
            net: a network made by `anabook.training.quantise`.
            period, interval: as for `periodic`.
            half_width: of the initial noise, in quanta: it spans so much to either side of its mean, with at least 95 %
                of its mass. 0.5, as in the code of the paper's authors, reaches from one threshold to the next.
            mean: initial mean of the noise, in quanta.
            blocks: what takes a turn together: None for each layer by itself; a number of layers, counted from the input;
                or names of modules and patterns of names as in `fnmatch`, each of which is a block of all layers whose
                weighted module it matches, or whose activations where the weight stays in float (a container's name
                stands for all inside; the first that matches decides).
                Layers that none matches have turns of their own. Blocks take turns in the order of their first layers.
            options: further settings of a `Schedule`, such as power_law, static_mean or growth.

        Raises:
            TypeError: not a network.
            ValueError: a network without quantised layers, a layer whose quantisers need noise of different strength, or a
                block that matches no layer.

        Example:
            >>> from anabook import Quantiser, models, training
            >>> tenths = Quantiser.ternary(0.1)
            >>> net = training.quantise(models.mlp(64), weights=tenths, activations=tenths)
            >>> schedule = Schedule.for_network(net, period=5)
            >>> schedule.n_layers, round(schedule.std0, 5)
            (2, 0.02887)
            >>> ternary = Quantiser.ternary()
            >>> net = training.quantise(models.vgg(0.125), weights=ternary, activations=ternary)
            >>> schedule = Schedule.for_network(net, period=5, blocks=["conv?", "fc?"])
            >>> schedule.blocks, schedule.end
            ((0, 0, 0, 0, 0, 1, 1), 10.0)
        """
        half_width, mean = real(half_width, "half_width", above=0.0), real(mean, "mean")
        quanta, stds = noise_of_layers(net, half_width)
        means = [mean * quantum for quantum in quanta]
        if isinstance(blocks, str) or (isinstance(blocks, Iterable) and not isinstance(blocks, np.ndarray)):
            blocks = list(blocks) if not isinstance(blocks, str) else blocks
            if not all(isinstance(each, (int, np.integer)) for each in blocks):
                blocks = _blocks.by_names(blocks, names_of_layers(net))
        noise = {"mean0": _one_if_alike(means), "std0": _one_if_alike(stds)}
        return cls.periodic(len(stds), period, interval, **noise, blocks=blocks, **options)

    @classmethod
    def static(cls, n_layers: int = 7, mean: float = 0.0, std: float = 0.2887) -> Schedule:
        """Noise that never changes: one regularisation throughout, as in a plain straight-through estimator."""
        return cls(n_layers, mean0=mean, std0=std, static_mean=True, static_std=True)

    @classmethod
    def from_callable(cls, n_layers: int, rule: Callable[[int, float], tuple[float, float]]) -> Schedule:
        """A schedule from any function of (layer, t) that returns (mean, std).

        Its values are checked when they are asked for. It has no intervals and no formula in λ.
        """
        if not callable(rule):
            raise TypeError(f"rule must be a function of (layer, t), not {rule!r}.")
        return cls(n_layers, rule=rule)

    @classmethod
    def whetstone(
        cls,
        n_layers: int,
        start: float = 0,
        duration: float = 50,
        intermission: float = 0,
        width: float = 1.0,
        family: str = "uniform",
        bottom_up: bool = True,
    ) -> Schedule:
        """Whetstone's sharpening as a noise schedule (Severa et al. 2019).

        Whetstone's bounded ReLU is a ramp from 0 to 1 whose width shrinks linearly from `width` to 0. A ramp of
        width w is the regularisation of a Heaviside step (at the ramp's middle, ½ there) by uniform noise of mean 0
        and half-width w/2. Its sigmoid 1/(1 + exp(−kx)) with k = 4·ln(2 + √3)/w is the one by logistic noise. So the
        standard deviation is proportional to w: exponent 1, mean 0. Layers take turns from the input on, each for
        `duration`, with a pause of `intermission`; or all together with bottom_up=False.
        (The released code adds 0.001 to the width, against division by zero, and can let the training loss decide
        when to go on; neither is part of a schedule in time.)

        Args:
            n_layers: number of sharpened layers.
            start: when the first layer begins.
            duration: how long a layer takes.
            intermission: pause between layers.
            width: initial width of the ramp.
            family: "uniform" (bounded ReLU) or "logistic" (sigmoid): which noise the std is meant for.
            bottom_up: one layer after another (True, Whetstone's default) or all at once.
        """
        n_layers = integer(n_layers, "n_layers", minimum=1)
        start, duration = real(start, "start"), real(duration, "duration", above=0.0)
        pause, width = real(intermission, "intermission", minimum=0.0), real(width, "width", above=0.0)
        turns = range(n_layers) if flag(bottom_up, "bottom_up") else [0] * n_layers
        windows = tuple((start + i * (duration + pause), start + i * (duration + pause) + duration) for i in turns)
        std0 = {
            "uniform": width / (2 * _SQRT3),
            "logistic": width * math.pi / (4 * _SQRT3 * math.log(2 + _SQRT3)),
        }[choice(family, ("uniform", "logistic"), "family")]
        return cls(n_layers, windows, start=start, end=windows[-1][1], std0=std0, std_exponents=(1.0,) * n_layers)

    @classmethod
    def soft_to_hard(
        cls,
        n_layers: int,
        inverse_temperature: float = 1.0,
        growth: float = 1.05,
        gap: float = 1.0,
        start: float = 0,
        end: float = 350,
    ) -> Schedule:
        """Soft-to-hard annealing as a noise schedule (Agustsson et al. 2017).

        A value z is assigned to the centres c_k softly, by a softmax of −σ·(z − c_k)², and σ grows. For two centres
        a distance `gap` apart this is exactly the regularisation of the step halfway between them by logistic noise
        of mean 0 and scale 1/(2·σ·gap), so the standard deviation is π/(2√3·σ·gap). (For more centres it is close to it
        when σ·gap² is large, not equal.) Here σ = inverse_temperature·growth^(t − start) in all layers, and the
        assignment is hard from `end` on.

        Args:
            n_layers: number of quantised layers.
            inverse_temperature: initial σ > 0, in units of 1/gap².
            growth: factor of σ per time step, above 1.
            gap: distance between neighbouring centres.
            start: when σ begins to grow.
            end: when the assignment becomes hard.
        """
        sigma = real(inverse_temperature, "inverse_temperature", above=0.0)
        std0 = math.pi / (2 * _SQRT3 * sigma * real(gap, "gap", above=0.0))
        exponents = (1.0,) * integer(n_layers, "n_layers", minimum=1)
        return cls(n_layers, "overlapped", start=start, end=end, std0=std0, std_exponents=exponents, growth=growth)

    @property
    def intervals(self) -> tuple[tuple[float, float], ...]:
        """The decay interval (start, end) of each layer.

        Raises:
            ValueError: a schedule made from a callable, which has none.
        """
        self._refuse_callable("has no decay intervals")
        n, length = self.n_turns, self.end - self.start
        if not isinstance(self.interval, str):
            return tuple(self.interval[turn] for turn in self.turns)
        at = lambda i: self.start + length * i / n  # noqa: E731
        windows = {
            "partition": lambda: tuple((at(i), at(i + 1)) for i in range(n)),
            "same_start": lambda: tuple((self.start, at(i + 1)) for i in range(n)),
            "same_end": lambda: tuple((at(n - 1 - i), self.end) for i in range(n)),
            "overlapped": lambda: ((self.start, self.end),) * n,
        }[self.interval]()
        return tuple(windows[turn] for turn in self.turns)

    @property
    def initial(self) -> tuple[tuple[float, float], ...]:
        """The initial (mean, standard deviation) of each layer."""
        mean, std = (v if isinstance(v, tuple) else (v,) * self.n_layers for v in (self.mean0, self.std0))
        return tuple(zip(mean, std))

    @property
    def exponents(self) -> tuple[tuple[float, float], ...]:
        """The exponents (of the mean, of the standard deviation) of each layer, static or not."""
        self._refuse_callable("has no exponents")
        n = self.n_turns
        named = {"homogeneous": (1.0,) * n, "progressive": tuple(float(n - i) for i in range(n))}
        means = named[self.power_law] if isinstance(self.power_law, str) else self.power_law
        stds = tuple(2 * d for d in means) if self.std_exponents is None else self.std_exponents
        return tuple((means[turn], stds[turn]) for turn in self.turns)

    @property
    def turns(self) -> tuple[int, ...]:
        """The number of each layer's turn: its block's, or its own where there are no blocks."""
        return self.blocks if isinstance(self.blocks, tuple) else tuple(range(self.n_layers))

    @property
    def n_turns(self) -> int:
        """How many turns there are: the number of blocks, or of layers where there are none."""
        return max(self.turns) + 1

    @property
    def alike(self) -> dict[str, tuple[int, ...]]:
        """The layers that have the same noise at all times because they share a block, by their name in tables and figures.

        Example:
            >>> Schedule(n_layers=3, blocks=(0, 0, 1)).alike
            {'layers 0–1': (0, 1), 'layer 2': (2,)}
        """
        found: dict[Any, list[int]] = {}
        for layer, (turn, initial) in enumerate(zip(self.turns, self.initial)):
            found.setdefault((turn, initial), []).append(layer)
        return {_blocks.label(layers): tuple(layers) for layers in found.values()}

    def decay(self, layer: int, t: Any) -> Any:
        """λ(t) of a layer: 1 before its interval, 0 after it.

        Args:
            layer: from 0, at the input, to n_layers − 1.
            t: a time, or an array of times.

        Returns:
            A float, or an array of the shape of t.
        """
        layer = integer(layer, "layer", minimum=0, maximum=self.n_layers - 1)
        start, end = self.intervals[layer]
        times = _times(t)
        if self.growth is None:
            value = (end - np.clip(times, start, end)) / (end - start)
        else:
            value = np.where(times < end, self.growth ** -(np.clip(times, start, end) - start), 0.0)
        return float(value) if value.ndim == 0 else value

    def __call__(self, layer: int, t: Any) -> tuple[Any, Any]:
        """(mean, std) of a layer's noise at time t; floats for a number t, arrays of its shape for an array."""
        layer = integer(layer, "layer", minimum=0, maximum=self.n_layers - 1)
        if self.rule is not None:
            return self._asked(layer, t)
        fading = np.asarray(self.decay(layer, t))
        d_mean, d_std = self.exponents[layer]
        mean0, std0 = self.initial[layer]
        mean = np.full(fading.shape, mean0) if self.static_mean else mean0 * fading**d_mean
        std = np.full(fading.shape, std0) if self.static_std else std0 * fading**d_std
        return (float(mean), float(std)) if fading.ndim == 0 else (mean, std)

    def values(self, times: Iterable[float]) -> tuple[np.ndarray, np.ndarray]:
        """Means and standard deviations, each of shape (number of times, n_layers)."""
        times = np.atleast_1d(_times(times))
        pairs = [self(layer, times) for layer in range(self.n_layers)]
        return np.stack([mean for mean, _ in pairs], axis=-1), np.stack([std for _, std in pairs], axis=-1)

    def table(self, times: Iterable[float]) -> str:
        """A plain table, one line a time: each layer's mean and std to four decimals; a block's layers are one column."""
        times = np.atleast_1d(_times(times))
        shown = [layers[0] for layers in self.alike.values()]
        means, stds = (values[:, shown] for values in self.values(times))
        head = [f"{'t':>8}"] + [f"{f'{name}: mean, std':>21}" for name in self.alike]
        wide = [len(each) - 9 for each in head[1:]]
        # Adding 0.0 turns −0.0 into 0.0.
        rows = [
            [f"{t:8g}"] + [f"{round(m, 4) + 0.0:{w}.4f},{round(s, 4) + 0.0:8.4f}" for m, s, w in zip(mean, std, wide)]
            for t, mean, std in zip(times, means, stds)
        ]
        return "\n".join("  ".join(row) for row in [head, *rows])

    def _asked(self, layer: int, t: Any) -> tuple[Any, Any]:
        times = _times(t)
        answers = [_pair(self.rule(layer, float(time)), layer, float(time)) for time in times.flat]
        if times.ndim == 0:
            return answers[0]
        mean, std = np.array(answers, dtype=np.float64).reshape(-1, 2).T
        return mean.reshape(times.shape), std.reshape(times.shape)

    def _refuse_callable(self, consequence: str) -> None:
        if self.rule is not None:
            raise ValueError(f"a schedule made from a callable {consequence}; ask it for its values instead.")


def _one_if_alike(values: list[float]) -> float | tuple[float, ...]:
    """One number for all layers where it is the same to nine digits, else one for each."""
    return values[0] if len({f"{value:.9g}" for value in values}) == 1 else tuple(values)


def _initial(value: Any, n_layers: int, what: str, minimum: float | None = None) -> float | tuple[float, ...]:
    if not isinstance(value, (tuple, list, np.ndarray)):
        return real(value, what, minimum=minimum)
    if len(value) != n_layers:
        raise ValueError(f"{what} must be one number, or one for each of the {n_layers} layers, not {len(value)} numbers.")
    return tuple(real(each, f"{what} of layer {layer}", minimum=minimum) for layer, each in enumerate(value))


def _times(t: Any) -> np.ndarray:
    times = np.asarray(t)
    if times.dtype.kind not in "iuf":
        raise TypeError(f"t must be a real number or an array of them, not {t!r}.")
    if not np.isfinite(times).all():
        raise ValueError("t must be finite.")
    return times.astype(np.float64)


def _windows(windows: Any, n: int, what: str) -> tuple[tuple[float, float], ...]:
    try:
        pairs = [tuple(window) for window in windows]
    except TypeError:
        raise TypeError(f"interval must be one of {INTERVALS} or n_{what}s pairs (start, end), not {windows!r}.") from None
    if len(pairs) != n:
        raise ValueError(f"interval must have one pair (start, end) for each of the {n} {what}s, not {len(pairs)}.")
    for i, pair in enumerate(pairs):
        if len(pair) != 2:
            raise ValueError(f"the interval of {what} {i} must be a pair (start, end), not {pair!r}.")
        start = real(pair[0], f"the start of {what} {i}'s interval")
        pairs[i] = (start, real(pair[1], f"the end of {what} {i}'s interval", above=start))
    return tuple(pairs)


def _exponents(exponents: Any, n: int, name: str, what: str) -> tuple[float, ...]:
    try:
        values = list(exponents)
    except TypeError:
        raise TypeError(f"{name} must be a sequence of {n} positive exponents, not {exponents!r}.") from None
    if len(values) != n:
        raise ValueError(f"{name} must have one exponent for each of the {n} {what}s, not {len(values)}.")
    return tuple(real(value, f"the exponent of {what} {i} in {name}", above=0.0) for i, value in enumerate(values))


def _pair(answer: Any, layer: int, t: float) -> tuple[float, float]:
    try:
        mean, std = answer
    except (TypeError, ValueError):
        raise TypeError(f"the rule must return (mean, std); for layer {layer} at t = {t:g} it gave {answer!r}.") from None
    where = f"of layer {layer} at t = {t:g}"
    return real(mean, f"the mean {where}"), real(std, f"the std {where}", minimum=0.0)
