"""What a schedule asks of a network: its quantised layers, their names, and the noise that they need.

A network is known by what its quantisers are asked for, so that nothing here needs torch.
"""

from __future__ import annotations

from typing import Any


def names_of_layers(net: Any) -> list[list[str]]:
    """For each quantised layer the name of its weighted module; of its activations where the weight is in float.

    Example:
        >>> from anabook import Quantiser, models, training
        >>> names_of_layers(training.quantise(models.mlp(8, (6, 6)), weights=Quantiser.ternary()))
        [['fc1'], ['fc2']]
    """
    weights: dict[int, list[str]] = {}
    activations: dict[int, list[str]] = {}
    for name, module in net.named_modules():
        if hasattr(module, "covering_std"):
            before, found, _ = f".{name}".partition(".parametrizations.")
            if found:
                weights.setdefault(module.layer, []).append(before.removeprefix("."))
            else:
                activations.setdefault(module.layer, []).append(name.removesuffix(".quantise"))
    return [weights.get(layer) or activations[layer] for layer in sorted({*weights, *activations})]


def noise_of_layers(net: Any, half_width: float) -> tuple[list[float], list[float]]:
    """The quantum of each quantised layer, and the std whose noise spans `half_width` quanta.

    Raises:
        TypeError: not a network.
        ValueError: no quantised layer, or one whose quantisers need noise of different strength.

    Example:
        >>> from anabook import Quantiser, models, training
        >>> quanta, stds = noise_of_layers(training.quantise(models.mlp(8), weights=Quantiser.ternary(0.1)), half_width=0.5)
        >>> quanta, [round(std, 5) for std in stds]
        ([0.1, 0.1], [0.02887, 0.02887])
    """
    if not callable(getattr(net, "modules", None)):
        raise TypeError(f"net must be a network made by training.quantise, not {net!r}.")
    layers: dict[int, list[Any]] = {}
    for m in net.modules():
        if hasattr(m, "covering_std"):
            layers.setdefault(m.layer, []).append(m)
    if not layers:
        raise ValueError(f"this {type(net).__name__} has no quantised layer: convert it with training.quantise first.")
    quanta, stds = [], []
    for layer, found in sorted(layers.items()):
        needs = {}
        for m in found:
            quantum = float(m.quantiser.steps.min())
            std = m.covering_std(half_width * quantum)
            needs.setdefault(f"{std:.9g}", (m, quantum, std))
        if len(needs) > 1:
            (one, a, _), (other, b, _) = list(needs.values())[:2]
            raise ValueError(
                f"two quantisers, both of layer {layer}, need noise of different strength (quanta of {a:g} and "
                f"{b:g}, noise {one.noise!r} and {other.noise!r}), and a schedule sets one for both: give all of a layer the "
                "same quantum and noise, and hand the quanta over as training.quantise(..., scales=...)."
            )
        _, quantum, std = next(iter(needs.values()))
        quanta.append(quantum)
        stds.append(std)
    return quanta, stds
