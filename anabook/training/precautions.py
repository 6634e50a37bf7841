"""What is allowed but seldom meant, said in a warning before a training is spent on it."""

from __future__ import annotations

import warnings

from torch import nn

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
