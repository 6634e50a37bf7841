"""Operations that change no number: by the classes of their modules and the names of their functions."""

from __future__ import annotations

from torch import fx, nn

from anabook.training.tracing import called_name

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

CONCATENATING = ("cat", "concat", "concatenate")
"""What puts tensors one behind another."""

WITHOUT_PLACE: dict[type[nn.Module], str] = {
    nn.MultiheadAttention: "its softmax, and its products of features with features, are no sums with fixed weights",
    nn.RNNBase: "its state is a float that sigmoids and tanh make, and no quantiser stands there",
    nn.RNNCellBase: "its state is a float that sigmoids and tanh make, and no quantiser stands there",
    nn.LayerNorm: "it normalises each example by itself, so no thresholds can be computed beforehand",
    nn.GroupNorm: "it normalises each example by itself, so no thresholds can be computed beforehand",
}
"""Modules that networks have and integer networks cannot, with the reasons."""


REMEDIES: dict[type[nn.Module], str] = {
    nn.LayerNorm: "an nn.BatchNorm2d or nn.BatchNorm1d in its place becomes thresholds",
    nn.GroupNorm: "an nn.BatchNorm2d in its place becomes thresholds",
}
"""What may stand in place of some of them; for the others there is nothing to put there."""


def joined(node: fx.Node) -> list[fx.Node]:
    """The tensors that a concatenation puts one behind another, in order, the same one as often as it is named."""
    tensors = node.args[0] if node.args else node.kwargs.get("tensors", ())
    return [each for each in (tensors if isinstance(tensors, (tuple, list)) else ()) if isinstance(each, fx.Node)]


def operation(node: fx.Node) -> str:
    """The name of the function or the method that a node calls."""
    return called_name(node).strip("_")
