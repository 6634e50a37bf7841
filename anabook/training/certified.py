"""How far a trained network is from its limit: which predictions its present noise cannot change, and which it does."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from anabook._table import aligned
from anabook._validate import choice, flag, integer, real, reason
from anabook.convergence import finite_noise
from anabook.laws import placed
from anabook.noise import Noise
from anabook.training._arguments import spelt
from anabook.training.enclosures import ROUNDING, Enclosing, Ends
from anabook.training.layers import Layer, layers
from anabook.training.modules import Quantise
from anabook.training.sources import as_inputs, evaluating

WEIGHTS = ("deployed", "noisy")

_WINDOW = 0.1
"""The density at a threshold is measured within a tenth of the narrowest bin to either side."""


@dataclass(frozen=True)
class LayerReach:
    """A layer's activations and how the present noise reaches them; averages over units and inputs.

    Attributes:
        layer: its number.
        units: numbers that are quantised for one input; 0 where the layer's activations stay in float.
        mean, std: of the noise, in units of the quantiser.
        low, high: the ends of the noise, those of a truncated one where the law is unbounded.
        density: of a unit's pre-activation at a threshold, measured within a tenth of the narrowest bin to either side, exact
            hits left out.
        hits: how many units are exactly on a threshold, for one input on average.
        near: how many units have a pre-activation within reach of a threshold, for one input on average.
        expected: how many units the noise changes at the pre-activations that they have without noise, for one input on
            average and on average over draws.
        by_density: the same from density and hits, as for a smooth distribution: a forecast.
        weights_near: how many latent weights are within reach of a threshold.

    Example:
        >>> LayerReach(0, 64, 0.0, 0.01, -0.02, 0.02, 0.3, 0.0, near=1.5, expected=1.4, by_density=1.3, weights_near=0).high
        0.02
    """

    layer: int
    units: int
    mean: float
    std: float
    low: float
    high: float
    density: float
    hits: float
    near: float
    expected: float
    by_density: float
    weights_near: int


@dataclass(frozen=True)
class Certified:
    """What can be said of a network's predictions at its present noise, against those without noise; printed, a table.

    Attributes:
        n: how many inputs.
        draws: how many times the network was run on each.
        weights: "deployed" or "noisy".
        unreached: the share of inputs with no pre-activation (and no weight) within reach of the noise. Every layer gives
            exactly what it gives without noise.
        certified: the share whose prediction no noise with these ends can change, by intervals; None if not asked for.
        bound: 1 or the expected number of units that the noise changes, counted on these inputs: of the chance, for one of
            them, that any layer differs.
        density_bound: the same by measured densities; it estimates the bound for other inputs of the same distribution.
        disagreement: the share of predictions that differ between the noisy and the quantised network, measured.
        miss: for unbounded laws, the chance per input of a noise out of reach.
        layers: a `LayerReach` each.

    Example:
        >>> from anabook import Quantiser, models
        >>> from anabook.training import quantise, set_noise
        >>> ternary = Quantiser.ternary()
        >>> net = quantise(models.mlp(8, (6,)), weights=ternary, activations=ternary)
        >>> set_noise(net, lambda layer, t: (0.0, 0.0), 0)
        >>> certified(net, torch.ones(4, 8)).unreached
        1.0
    """

    n: int
    draws: int
    weights: str
    unreached: float
    certified: float | None
    bound: float
    density_bound: float
    disagreement: float
    miss: float
    layers: tuple[LayerReach, ...]

    def __str__(self) -> str:
        rows = [("layer", "units", "reach of the noise", "density", "hits", "near", "expected", "by density", "weights")]
        rows += [
            (
                str(each.layer),
                f"{each.units}",
                f"[{each.low:.3g}, {each.high:.3g}]",
                f"{each.density:.3f}",
                f"{each.hits:.3g}",
                f"{each.near:.3g}",
                f"{each.expected:.3g}",
                f"{each.by_density:.3g}",
                f"{each.weights_near}",
            )
            for each in self.layers
        ]
        lines = [f"{self.n} inputs, {self.draws} noisy pass{'es' * (self.draws > 1)}, weights {self.weights}"]
        lines.append(f"no unit within reach of the noise:  {self.unreached:7.2%} of the inputs")
        if self.certified is not None:
            lines.append(f"prediction certified, by intervals: {self.certified:7.2%}")
        lines.append(f"predictions that differ, measured:  {self.disagreement:7.2%}")
        lines.append(f"bound of the chance to differ:      {self.bound:7.2%}; by densities {self.density_bound:.2%}")
        if self.miss:
            lines.append(f"with probability {1 - self.miss:g} for each input, the law being unbounded")
        return "\n".join(lines) + "\n" + aligned(rows)

    __repr__ = __str__


@spelt
def certified(
    net: nn.Module,
    inputs: Any,
    *,
    weights: str = "deployed",
    intervals: bool = True,
    draws: int = 16,
    miss: float = 0.01,
    seed: int = 0,
    batch_size: int = 256,
) -> Certified:
    """How many predictions the present noise provably leaves alone, how many it may change, and how many it does.

    The noisy network is compared with the quantised one, which has no noise in it, both in evaluation mode: normalisation
    uses its running statistics. A certificate holds for every value between the ends of each layer's noise, so for
    expectation, mode and random draws alike, and for every law with these ends. Under an unbounded law it holds for
    random draws, with probability 1 − `miss` for each input. (The certificate by intervals also holds then for
    expectations, as what lies beyond is added to the intervals; the other one does not, as an average that has a tail
    beyond a threshold is no level.)

    `bound` is the one for the network's own strategies: `convergence.change_probability`, added up over the units that are
    within reach. `density_bound` gives each layer units · density · `convergence.exposure` and the chance of its hits; it is
    an estimate, and where pre-activations have few values, a rough one.

    Args:
        net: a classifier made by `quantise`; its noise is what `set_noise` or `fit` left in it.
        inputs: an array or a tensor as for `fit`, without labels; the more, the surer.
        weights: "deployed" for weights without noise, as the theorem has them; "noisy" for noise in the weights too, as in
            training.
        intervals: also carry intervals through the network, which takes networks of linear and convolution layers, batch
            normalisations, pools and sums. False leaves `certified` None.
        draws: noisy passes, where a quantiser draws at random; else one suffices.
        miss: for unbounded laws only, in (0, 1).
        seed: of the draws. Random states are put back afterwards.
        batch_size: bounds the memory.

    Raises:
        ValueError: a network without quantised layers, outputs that are not one row of class scores for each input,
            activations that do not have the inputs along their first axis, modules that intervals do not pass through.

    Example:
        >>> from anabook import Quantiser, datasets, models
        >>> from anabook.training import fit, quantise, set_noise
        >>> ternary, digits = Quantiser.ternary(), datasets.digits()
        >>> net = quantise(models.mlp(64, (16,)), ternary, ternary, strategy="random")
        >>> history = fit(net, digits.train, lambda layer, t: (0.0, 0.2), epochs=2, initialise="near_thresholds")
        >>> set_noise(net, lambda layer, t: (0.0, 0.001), 0)
        >>> found = certified(net, digits.x_test)
        >>> found.unreached <= found.certified <= 1 - found.disagreement
        True
    """
    choice(weights, WEIGHTS, "weights")
    intervals, draws = flag(intervals, "intervals"), integer(draws, "draws", minimum=1)
    batch_size, seed = integer(batch_size, "batch_size", minimum=1), integer(seed, "seed", minimum=0)
    miss = real(miss, "miss", above=0.0)
    if miss >= 1:
        raise ValueError(f"miss must be a probability smaller than 1, not {miss!r}.")
    quantised = layers(net)
    x = as_inputs(net, inputs)
    if not torch.isfinite(x).all():
        raise ValueError("inputs must be finite, and there are infinities or not-a-numbers among them.")
    places = {m: number for number, layer in enumerate(quantised) for m in layer.activations}
    latent = {layer.weight: number for number, layer in enumerate(quantised) if layer.weight is not None}
    noisy = [*places, *(latent if weights == "noisy" else ())]
    with evaluating(net), torch.no_grad():
        sizes = _sizes(net, x[:1], [*places, *latent])
        reaches = _reaches(noisy, sizes, miss)
        tally = _Tally(net, places, latent, reaches)
        with tally.watching():
            winners = torch.cat([tally.predict(part) for part in x.split(batch_size)])
        unreached = torch.cat(tally.free)
        share = None
        if intervals:
            names = {module: name for name, module in net.named_modules() if isinstance(module, Quantise)}
            enclosing = Enclosing(net, {names[m]: ends for m, ends in reaches.items()})
            parts = zip(x.split(batch_size), winners.split(batch_size))
            share = (torch.cat([enclosing.settled(*part) for part in parts]) | unreached).double().mean().item()
        draws = draws if any(m.strategy == "random" and m.std > 0 for m in noisy) else 1
        disagreement = _disagreement(net, x, winners, noisy, draws, seed, batch_size)
    rows = tuple(_row(number, layer, tally, sizes, len(x)) for number, layer in enumerate(quantised))
    missed = miss if any(ends.below or ends.above for ends in reaches.values()) else 0.0
    shaken = any(row.weights_near for row in rows)
    return Certified(
        n=len(x),
        draws=draws,
        weights=weights,
        unreached=unreached.double().mean().item(),
        certified=share,
        bound=1.0 if shaken else min(1.0, sum(row.expected for row in rows) + missed),
        density_bound=1.0 if shaken else min(1.0, sum(row.by_density for row in rows) + missed),
        disagreement=disagreement,
        miss=missed,
        layers=rows,
    )


def _sizes(net: nn.Module, example: Tensor, modules: list[Quantise]) -> dict[Quantise, int]:
    """How many numbers each quantiser rounds for one input."""
    sizes = dict.fromkeys(modules, 0)

    def note(module: nn.Module, args: tuple) -> None:
        sizes[module] += args[0].numel()  # type: ignore[index]

    with _hooked(modules, note):
        try:
            net(example)
        except (RuntimeError, IndexError) as error:
            raise ValueError(f"the network takes no inputs of shape {tuple(example.shape[1:])}: {reason(error)}.") from None
    return sizes


def _reaches(noisy: list[Quantise], sizes: dict[Quantise, int], miss: float) -> dict[Quantise, Ends]:
    """The ends of each noise that there is; where it has none, those that it keeps to but for a chance `miss` in all."""
    drawn = sum(sizes[m] for m in noisy)
    found = {}
    for m in noisy:
        noise = _noise_of(m)
        each = miss / max(drawn, 1)
        low, high = finite_noise.reach(noise, each)
        if (low, high) != (0.0, 0.0):
            tails = (0.0 if math.isfinite(end) else each / 2 for end in noise.support)
            found[m] = Ends(low, high, *tails)
    return found


def _noise_of(module: Quantise) -> Noise:
    """The noise that a quantiser's law, mean and standard deviation make; a variant that is no noise moves its stair alone."""
    law = placed(module.noise)[0]
    return Noise(law, module.mean, module.std) if law.is_probability else Noise("uniform", module.mean, 0.0)


class _Tally:
    """What passes through the quantisers of a network without noise, and how much of it the noise would reach."""

    def __init__(
        self, net: nn.Module, places: dict[Quantise, int], latent: dict[Quantise, int], reaches: dict[Quantise, Ends]
    ) -> None:
        self.net, self.places, self.latent, self.reaches = net, places, latent, reaches
        self.names = {module: name for name, module in net.named_modules()}
        self.near = dict.fromkeys(places, 0)
        self.density = dict.fromkeys(places, 0.0)
        self.hits = dict.fromkeys(places, 0)
        self.expected = dict.fromkeys(places, 0.0)
        self.weights_near: dict[Quantise, int] = {}
        self.free: list[Tensor] = []

    def watching(self) -> contextlib.AbstractContextManager[None]:
        return _hooked([*self.places, *self.latent], self.note)

    def predict(self, x: Tensor) -> Tensor:
        """The predictions without noise for a batch, whose pre-activations are counted on the way."""
        self.free.append(torch.ones(len(x), dtype=torch.bool, device=x.device))
        found = _winners(self.net(x), len(x))
        if any(self.weights_near.values()):
            self.free[-1][:] = False
        return found

    def note(self, module: nn.Module, args: tuple) -> None:
        x, free = args[0], self.free[-1]
        assert isinstance(module, Quantise)
        ends = self.reaches.get(module)
        if module in self.latent:
            self.weights_near[module] = 0 if ends is None else int(_within(x, module, ends.low, ends.high).sum())
            return
        if x.dim() == 0 or len(x) != len(free):
            raise ValueError(
                f"the activation {self.names[module]!r} gets a tensor of shape {tuple(x.shape)}, whose first axis must hold "
                f"the {len(free)} inputs."
            )
        window, hits = _window(module), int(_hits(x, module).sum())
        self.hits[module] += hits
        self.density[module] += (int(_crossed(x, module, -window, window).sum()) - hits) / (2 * window)
        if ends is not None:
            near = _within(x, module, ends.low, ends.high)
            self.near[module] += int(near.sum())
            self.expected[module] += float(_chances(module, x[near]).sum())
            free &= ~near.flatten(1).any(1)


def _row(number: int, layer: Layer, tally: _Tally, sizes: dict[Quantise, int], n: int) -> LayerReach:
    units = sum(sizes[m] for m in layer.activations)
    densities = {m: tally.density[m] / n / len(m.thresholds) for m in layer.activations}
    by_density = 0.0
    for m in layer.activations:
        if m in tally.reaches:
            hit = float(_chances(m, m.thresholds).max())
            by_density += densities[m] * _exposure(m, tally.reaches[m]) + tally.hits[m] / n * hit
    first = (*layer.activations, layer.weight)[0]
    ends = next((tally.reaches[m] for m in layer.activations if m in tally.reaches), Ends(0.0, 0.0))
    return LayerReach(
        layer=number,
        units=units,
        mean=first.mean if first is not None else 0.0,
        std=first.std if first is not None else 0.0,
        low=ends.low,
        high=ends.high,
        density=sum(densities.values()) / units if units else 0.0,
        hits=sum(tally.hits[m] for m in layer.activations) / n,
        near=sum(tally.near[m] for m in layer.activations) / n,
        expected=sum(tally.expected[m] for m in layer.activations) / n,
        by_density=by_density,
        weights_near=tally.weights_near.get(layer.weight, 0) if layer.weight is not None else 0,
    )


def _chances(module: Quantise, s: Tensor) -> np.ndarray:
    """How probably a unit with pre-activation s gives another level, under the quantiser's own strategy."""
    return finite_noise.change_probability(module.quantiser, _noise_of(module), s.double().cpu().numpy(), module.strategy)


def _exposure(module: Quantise, ends: Ends) -> float:
    """How much of the line the noise of a quantiser makes uncertain, under its own strategy."""
    quantiser, noise = module.quantiser, _noise_of(module)
    if module.strategy == "random":
        return finite_noise.exposure(quantiser, noise, "random")
    if module.strategy == "mode" and (noise.is_dirac or noise.law.log_concave):
        return finite_noise.exposure(quantiser, noise, "mode")
    return len(quantiser.thresholds) * (max(ends.high, 0.0) - min(ends.low, 0.0))


def _window(module: Quantise) -> float:
    gaps = module.thresholds.diff()
    return _WINDOW * (float(gaps.min()) if len(gaps) else float(module.quantiser.steps.min()))


def _thresholds(x: Tensor, module: Quantise) -> Tensor:
    """As the quantiser compares with them: rounded to x's own type."""
    return module.thresholds.to(x.dtype).to(x.device).double()


def _hits(x: Tensor, module: Quantise) -> Tensor:
    """How many thresholds each number is equal to."""
    thresholds, x = _thresholds(x, module), x.double().contiguous()
    return torch.searchsorted(thresholds, x, right=True) - torch.searchsorted(thresholds, x)


def _crossed(x: Tensor, module: Quantise, low: float, high: float) -> Tensor:
    """How many thresholds lie so near to each number x that θ + low ≤ x < θ + high."""
    thresholds, x = _thresholds(x, module), x.double().contiguous()
    before = torch.searchsorted(thresholds + low, x, right=True)
    return before - torch.searchsorted(thresholds + high, x, right=True)


def _within(x: Tensor, module: Quantise, low: float, high: float) -> Tensor:
    """Which numbers noise with these ends can carry over a threshold, or might for all that roundings let one know."""
    slack = ROUNDING * float(module.thresholds.abs().max() + max(abs(low), abs(high)))
    low, high = (low - slack if low < 0 else 0.0), (high + slack if high > 0 else 0.0)
    return _crossed(x, module, low, high) > 0


def _winners(outputs: Any, n: int) -> Tensor:
    if not isinstance(outputs, Tensor) or outputs.dim() != 2 or len(outputs) != n:
        got = f"of shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else f"a {type(outputs).__name__}"
        raise ValueError(f"the network must give one row of class scores for each of {n} inputs; its output is {got}.")
    return outputs.argmax(1)


def _disagreement(
    net: nn.Module, x: Tensor, winners: Tensor, noisy: list[Quantise], draws: int, seed: int, batch_size: int
) -> float:
    """The share of predictions that differ from the winners, with noise in these quantisers."""
    states = [(m.generator, m.generator.get_state()) for m in noisy if m.generator is not None]
    devices = [x.device] if x.device.type == "cuda" else []
    differing = 0
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        for generator, _ in states:
            generator.manual_seed(seed)
        for m in noisy:
            m.training = True
        try:
            for _ in range(draws):
                found = torch.cat([_winners(net(part), len(part)) for part in x.split(batch_size)])
                differing += int((found != winners).sum())
        finally:
            for m in noisy:
                m.training = False
            for generator, state in states:
                generator.set_state(state)
    return differing / (draws * len(x))


@contextlib.contextmanager
def _hooked(modules: list[Quantise], note: Any) -> Iterator[None]:
    handles = [module.register_forward_pre_hook(note) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
