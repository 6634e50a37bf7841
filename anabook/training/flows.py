"""What a tensor in a network holds (levels of quantisers, sums of such, weights, any numbers), and what operations make of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from torch import nn

from anabook.training.modules import Quantise
from anabook.training.places import Place, Scaled

WEIGHTED: tuple[type[nn.Module], ...] = (nn.Linear, nn.modules.conv._ConvNd)
"""The modules that apply one weight, of this name."""

QUANTISABLE: tuple[type[nn.Module], ...] = (*WEIGHTED, nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase)
"""The modules whose weights can be quantised."""

INPUT = "the network's input"


class Flow(NamedTuple):
    """What a tensor holds: the levels of quantisers, sums or averages of such, weights, or any numbers.

    Attributes:
        kind: "levels", "combined", "weight" for a matrix of weights or what is computed from it alone, "float", "unknown",
            or "shape" for what is computed from sizes.
        sources: names of the quantisers' modules; for a weight its own name; for "float" and "unknown" one phrase that
            says where it comes from.
    """

    kind: str
    sources: tuple[str, ...] = ()


# Operations that change no number, or bring in zeros only, by their names in lower case without underscores.
_KEEPING = frozenset(
    (
        "identity",
        "flatten",
        "unflatten",
        "reshape",
        "view",
        "viewas",
        "reshapeas",
        "permute",
        "transpose",
        "t",
        "mt",
        "data",
        "movedim",
        "swapaxes",
        "contiguous",
        "squeeze",
        "unsqueeze",
        "expand",
        "expandas",
        "clone",
        "detach",
        "to",
        "typeas",
        "float",
        "cat",
        "concat",
        "concatenate",
        "stack",
        "chunk",
        "split",
        "unbind",
        "tensorsplit",
        "getitem",
        "select",
        "narrow",
        "roll",
        "flip",
        "gather",
        "indexselect",
        "pad",
        "zeropad1d",
        "zeropad2d",
        "zeropad3d",
        "circularpad2d",
        "reflectionpad2d",
        "replicationpad2d",
        "pixelshuffle",
        "pixelunshuffle",
        "channelshuffle",
        "upsamplingnearest2d",
        "unfold",
        "dropout",
        "dropout1d",
        "dropout2d",
        "dropout3d",
        "alphadropout",
        "featurealphadropout",
        "featuredropout",
        "stochasticdepth",
        "maxpool1d",
        "maxpool2d",
        "maxpool3d",
        "maxpool1dwithindices",
        "maxpool2dwithindices",
        "maxpool3dwithindices",
        "adaptivemaxpool1d",
        "adaptivemaxpool2d",
        "adaptivemaxpool3d",
        "adaptivemaxpool2dwithindices",
        "amax",
        "maximum",
        "minimum",
        "packpaddedsequence",
        "list",
        "tuple",
        "checkpoint",
        "setitem",
    )
)
_SHAPES = frozenset(("size", "dim", "numel", "shape", "ndim", "dtype", "device"))
_COMBINING = frozenset(
    (
        "add",
        "iadd",
        "sub",
        "isub",
        "neg",
        "sum",
        "mean",
        "avgpool1d",
        "avgpool2d",
        "avgpool3d",
        "adaptiveavgpool1d",
        "adaptiveavgpool2d",
        "adaptiveavgpool3d",
        "lppool2d",
    )
)
# Products of an input with a weight.
APPLYING = frozenset(
    (
        "linear",
        "bilinear",
        "conv1d",
        "conv2d",
        "conv3d",
        "convtranspose1d",
        "convtranspose2d",
        "convtranspose3d",
        "matmul",
        "rmatmul",
        "imatmul",
        "mm",
        "bmm",
        "mv",
        "addmm",
        "addmv",
        "addbmm",
        "baddbmm",
        "einsum",
        "tensordot",
        "inner",
        "embedding",
        "embeddingbag",
    )
)


def weight_name(name: str) -> str:
    """What a weight is called: by its module if it is that module's `weight`, parametrised or not, else by its own name."""
    owner, parametrised, attribute = name.partition("parametrizations.")
    name = owner + attribute.partition(".")[0] if parametrised else name
    return "" if name == "weight" else name.removesuffix(".weight")


def weight_names(name: str, module: nn.Module) -> list[str]:
    """The names of a module's own weights that are applied to inputs: its own, or with that of the parameter behind it."""
    if not has_weights(module):
        return []
    return [name if each == "weight" else f"{name}.{each}" if name else each for each in parameters_of(module)]


def parameters_of(module: nn.Module) -> list[str]:
    """What a module with weights calls those of them that are applied to inputs, in the order of their use."""
    if isinstance(module, nn.MultiheadAttention):
        own = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
        return [each for each in own if getattr(module, each) is not None]
    if isinstance(module, nn.RNNBase):
        return [each for names in module._all_weights for each in names if each.startswith("weight_")]
    return ["weight_ih", "weight_hh"] if isinstance(module, nn.RNNCellBase) else ["weight"]


def owner_of(net: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module, and what it calls the parameter, that the name of a weight stands for."""
    try:
        return net.get_submodule(name), "weight"
    except AttributeError:
        owner, _, parameter = name.rpartition(".")
        return net.get_submodule(owner), parameter


def is_weight(net: nn.Module, name: str) -> bool:
    """Whether a name is that of a weight that can be quantised, as `weight_names` gives them."""
    return isinstance(owner_of(net, name)[0], QUANTISABLE)


def inputs_of(module: nn.Module, name: str, given: Flow) -> list[tuple[str, Flow]]:
    """The names of a module's weights with what each is applied to, where the module itself is given something."""
    found = []
    for label in weight_names(name, module):
        flow = given
        if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
            parameter = label.rpartition(".")[2]
            if not parameter.startswith("weight_ih"):
                flow = Flow("float", (f"the state of {name}" if name else "the state",))
            elif "_l" in parameter and not parameter.startswith("weight_ih_l0"):
                flow = Flow("float", (f"the layer below in {name}" if name else "the layer below",))
        found.append((label, flow))
    return found


def has_weights(module: nn.Module | None) -> bool:
    """Whether a module applies weights of its own to its input: products with a matrix, convolutions, recurrences."""
    kinds = (*WEIGHTED, nn.Bilinear, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention, nn.Embedding, nn.EmbeddingBag)
    return isinstance(module, kinds)


def through_module(module: nn.Module, name: str, inputs: Iterable[Flow]) -> Flow:
    """What comes out of a module."""
    if isinstance(module, (Quantise, Scaled)):
        return Flow("levels", (name,))
    if isinstance(module, Place):  # a quantiser is to come where there are no levels yet
        (given,) = inputs
        return Flow("levels", (name,)) if given.kind in ("float", "unknown") else given
    flow = through(type(module).__name__, inputs)
    return Flow("float", (name,)) if flow.kind == "float" and flow.sources == (type(module).__name__,) else flow


def through(name: str, inputs: Iterable[Flow]) -> Flow:
    """What comes out of an operation of this name."""
    plain, inputs = plain_name(name), list(inputs)
    if plain in _SHAPES or (inputs and all(flow.kind == "shape" for flow in inputs)):
        return Flow("shape")
    inputs = [flow for flow in inputs if flow.kind != "shape"]
    if not inputs:
        return Flow("unknown", (name,))
    if all(flow.kind == "weight" for flow in inputs) and plain not in APPLYING:
        return Flow("weight", tuple(dict.fromkeys(source for flow in inputs for source in flow.sources)))
    for flow in inputs:
        if flow.kind in ("float", "unknown", "weight") and plain in _KEEPING | _COMBINING:
            return flow if flow.kind != "weight" else Flow("float", flow.sources)
    sources = tuple(dict.fromkeys(source for flow in inputs for source in flow.sources))
    if plain in _KEEPING:
        return Flow("combined" if any(f.kind == "combined" for f in inputs) else "levels", sources)
    return Flow("combined", sources) if plain in _COMBINING else Flow("float", (name.strip("_"),))


def plain_name(name: str) -> str:
    """An operation's name in lower case, without underscores."""
    return name.lower().replace("_", "")
