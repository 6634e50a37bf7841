"""What is allowed but seldom meant, said in a warning before a training is spent on it."""

from __future__ import annotations

import math
import warnings
from typing import Any

from torch import nn

from anabook.schedules import Schedule
from anabook.training.layers import layers, quantised_weights

WIDE = 4.0
"""From how many times the width of one quantum on a schedule's noise is called wide."""


def warn_of_single_levels(net: nn.Module) -> None:
    """Name the weights of which every single number falls on one level: such a layer passes nothing on.

    It happens to weights that were drawn for a float network, which lie far inside one bin.
    """
    dead = {
        name: weight.flatten()[0].item()
        for name, weight in quantised_weights(net).items()
        if weight.numel() > 1 and bool(weight.amin() == weight.amax())
    }
    if not dead:
        return
    name, level = next(iter(dead.items()))
    more = f" (and those of {len(dead) - 1} more)" if len(dead) > 1 else ""
    warnings.warn(
        f"all weights of {name!r}{more} round to the level {level:g}, so without noise such a layer passes nothing on: start "
        "near the thresholds (initialise='near_thresholds'), or fit the quanta to the weights (training.calibrate).",
        UserWarning,
        stacklevel=4,
    )


def warn_of_wide_noise(net: nn.Module) -> None:
    """Name the layer whose noise is far wider than the quanta that it is to smooth."""
    widest, what = WIDE, ""
    for number, layer in enumerate(layers(net)):
        for module in (layer.weight, *layer.activations):
            if module is not None and module.std / module.covering_std() > widest * (1 + 1e-9):
                widest, quantum = module.std / module.covering_std(), float(module.quantiser.steps.min())
                what = (
                    f"the noise of layer {number} has the standard deviation {module.std:.4g}, which spans {widest:.3g} "
                    f"quanta of {quantum:g}"
                )
    if what:
        warnings.warn(
            f"{what}: Schedule.for_network(net, period=...) takes it from the network's own quantisers.",
            UserWarning,
            stacklevel=6,
        )


def warn_of_noise_left(schedule: Any, epochs: int, steps: int | None) -> None:
    """Say how many layers will still have noise when training ends, where the schedule would take it away later.

    Noise that never ends is meant to stay, as that of a plain straight-through estimator; of a function nobody knows the end.

    Args:
        schedule: as for `fit`.
        epochs: how many there are to be.
        steps: of an epoch, where the noise is set before every step; None where it is set once per epoch.
    """
    if not isinstance(schedule, Schedule) or schedule.rule is not None:
        return
    lag = 1 if steps is None else 1 / steps  # the noise of the last steps was set so long before the end
    ends = [
        end
        for layer, (_, end) in enumerate(schedule.intervals)
        if schedule(layer, epochs - lag)[1] > 0 and schedule(layer, end)[1] == 0
    ]
    if ends:
        n, end = schedule.n_layers, max(ends)
        warnings.warn(
            f"epochs={epochs} {'ends' if epochs == 1 else 'end'} before the schedule does, at t = {end:g}, with noise left in "
            f"{len(ends)} of {n} {'layer' if n == 1 else 'layers'}, which training.deploy takes away at one stroke: pass "
            f"epochs={math.ceil(end + lag)}, or a schedule that is shorter.",
            UserWarning,
            stacklevel=4,
        )
