"""Operations that change no number: by the classes of their modules and the names of their functions."""

from __future__ import annotations

from torch import fx, nn

NOTHING = (
    nn.Identity,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    "dropout",
    "contiguous",
    "clone",
)
"""What changes nothing in evaluation."""

FLATTENING = (nn.Flatten, "flatten", "view", "reshape", "squeeze")


def operation(node: fx.Node) -> str:
    """The name of the function or the method that a node calls."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    return name.strip("_")
