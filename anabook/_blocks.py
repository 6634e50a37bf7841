"""Blocks of layers that take their turns together, by numbers, by depth or by the names of modules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from anabook._patterns import hint, matches
from anabook._validate import integer


def numbers(blocks: Any, n_layers: int) -> tuple[int, ...]:
    """The turn of each layer.

    Args:
        blocks: None for a turn for each layer; k for blocks of k layers; or each layer's turn, from 0.
        n_layers: how many layers there are.

    Example:
        >>> numbers(None, 3), numbers(2, 5), numbers([0, 0, 1], 3)
        ((0, 1, 2), (0, 0, 1, 1, 2), (0, 0, 1))
    """
    if blocks is None:
        return tuple(range(n_layers))
    if isinstance(blocks, str) or not isinstance(blocks, Iterable):
        size = integer(blocks, "blocks", minimum=1)
        return tuple(layer // size for layer in range(n_layers))
    turns = [integer(turn, f"the block of layer {layer}", minimum=0) for layer, turn in enumerate(blocks)]
    if len(turns) != n_layers:
        raise ValueError(f"blocks must have a number for each of the {n_layers} layers, not {len(turns)} numbers.")
    missing = set(range(max(turns))) - set(turns)
    if missing:
        raise ValueError(f"blocks must be numbered without a gap from 0 on, and no layer is in block {min(missing)}.")
    return tuple(turns)


def by_names(patterns: str | Iterable[str], names: Sequence[Sequence[str]]) -> tuple[int, ...]:
    """The turn of each layer, where each pattern stands for a block, and what none matches takes a turn by itself.

    Args:
        patterns: names of modules, or patterns of them; the first that matches decides.
        names: those of each layer.

    Raises:
        TypeError, ValueError: no text; a pattern that matches no layer, or only layers of those before it.

    Example:
        >>> by_names(["layer1.*", "layer2.*"], [["stem"], ["layer1.0"], ["layer1.1"], ["layer2.0"], ["fc"]])
        (0, 1, 1, 2, 3)
    """
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    block_of: dict[int, Any] = {}
    for key in patterns:
        if not isinstance(key, str):
            raise TypeError(f"blocks must be a number of layers, or names of modules or patterns of names, not {key!r}.")
        found = [layer for layer, each in enumerate(names) if any(matches(key, name) for name in each)]
        if not found:
            known = [name for each in names for name in each]
            raise ValueError(f"blocks names {key!r}, which matches no quantised layer{hint(key, known)}.")
        new = [layer for layer in found if layer not in block_of]
        if not new:
            raise ValueError(f"blocks names {key!r}, but all that it matches is in {block_of[found[0]]!r} already.")
        block_of |= dict.fromkeys(new, key)
    kinds = [block_of.get(layer, layer) for layer in range(len(names))]
    order = {kind: turn for turn, kind in enumerate(dict.fromkeys(kinds))}
    return tuple(order[kind] for kind in kinds)


def label(layers: Sequence[int]) -> str:
    """Some layers in words.

    Example:
        >>> label([3]), label([0, 1, 2, 5])
        ('layer 3', 'layers 0–2, 5')
    """
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return f"layer{'s' if len(layers) > 1 else ''} " + ", ".join(
        f"{run[0]}–{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs
    )
