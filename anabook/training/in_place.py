"""Operations that change a tensor in place, once their results are new tensors: whoever uses the tensor later gets the result."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

from torch import fx, nn

from anabook.training.flows import plain_name
from anabook.training.tracing import CannotRewrite, called_name

OUT_OF_PLACE: dict[Callable[..., Any], Callable[..., Any]] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
    operator.ifloordiv: operator.floordiv,
    operator.imod: operator.mod,
    operator.ipow: operator.pow,
    operator.imatmul: operator.matmul,
    operator.iand: operator.and_,
    operator.ior: operator.or_,
    operator.ixor: operator.xor,
}
"""What `x += y` and the like are, and what makes a new tensor of the same numbers."""

_VIEWS = frozenset(
    (
        "view",
        "viewas",
        "reshape",
        "reshapeas",
        "flatten",
        "ravel",
        "unflatten",
        "permute",
        "transpose",
        "t",
        "swapaxes",
        "swapdims",
        "movedim",
        "moveaxis",
        "squeeze",
        "unsqueeze",
        "expand",
        "expandas",
        "broadcastto",
        "contiguous",
        "to",
        "typeas",
        "float",
        "double",
        "half",
        "bfloat16",
        "cuda",
        "cpu",
        "detach",
        "getitem",
        "select",
        "narrow",
        "chunk",
        "split",
        "tensorsplit",
        "unbind",
        "unfold",
        "diagonal",
        "dropout",
        "dropout1d",
        "dropout2d",
        "dropout3d",
        "alphadropout",
        "featuredropout",
        "featurealphadropout",
    )
)
"""Operations whose result may be the memory of what they are given, by their names as `plain_name` gives them."""

_PARTS = frozenset(("chunk", "split", "tensorsplit", "unbind"))
"""Those that give several views, no two of which overlap."""

_ATTRIBUTES = ("T", "mT", "H", "mH", "data", "real", "imag")
"""Attributes of a tensor that are views of it."""

_SAME_MEMORY = (nn.Flatten, nn.Unflatten, nn.modules.dropout._DropoutNd)


def changes_in_place(module: nn.Module, node: fx.Node) -> bool:
    """Whether an operation of a module's program changes its first argument.

    Example:
        >>> graph = fx.symbolic_trace(nn.Sequential(nn.ReLU(inplace=True), nn.ReLU())).graph
        >>> net = nn.Sequential(nn.ReLU(inplace=True), nn.ReLU())
        >>> [changes_in_place(net, node) for node in graph.nodes if node.op == "call_module"]
        [True, False]
    """
    if node.op == "call_module":
        return getattr(module.get_submodule(str(node.target)), "inplace", False) is True
    if node.op not in ("call_function", "call_method"):
        return False
    name = called_name(node)
    changing = name.endswith("_") and not name.endswith("__")
    return changing or node.target in OUT_OF_PLACE or node.kwargs.get("inplace") is True


def settle(module: nn.Module, graph: fx.Graph) -> None:
    """Make each `x += y` of a program `x = x + y`, and all that uses x behind it, by whatever name, use the new tensor.

    Raises:
        CannotRewrite: as `hand_on`.
    """
    for node in graph.nodes:
        if node.target in OUT_OF_PLACE:
            if not _is_size(node.args[0]):
                hand_on(module, graph, node, node)
            node.target = OUT_OF_PLACE[node.target]


def _is_size(value: Any) -> bool:
    """Whether a value of a program is a size or is computed from sizes, so that it is no tensor and is never changed."""
    if not isinstance(value, fx.Node):
        return True
    if value.op not in ("call_function", "call_method"):
        return False
    name = called_name(value)
    if name in ("size", "dim", "numel", "len", "ndimension") or name == "getattr" and value.args[1] in ("shape", "ndim"):
        return True
    return getattr(value.target, "__module__", "") == "_operator" and all(map(_is_size, value.all_input_nodes))


def hand_on(module: nn.Module, graph: fx.Graph, node: fx.Node, result: fx.Node) -> bool:
    """Give what a node makes of its first argument to all that use this argument behind the node, in place of it.

    Args:
        module: whose program it is.
        graph: the program.
        node: an operation in place.
        result: what has the changed numbers from now on; the node itself, or a call put in for it.

    Returns:
        Whether there was anything to change.

    Raises:
        CannotRewrite: the tensor is a view of another one, or has views, that are used behind the node.
    """
    place = {each: number for number, each in enumerate(graph.nodes)}

    def later(tensor: fx.Node) -> list[fx.Node]:
        return [user for user in tensor.users if place[user] > place[node] and user is not result]

    changed = _first(node)
    if changed is None:
        return False
    same, shared = _reached(module, changed, place, place[node])
    if any(later(each) for each in shared):
        raise CannotRewrite("it changes a tensor in place and goes on using another view of it")
    handed = [(user, each) for each in same for user in later(each)]
    for user, each in handed:
        user.replace_input_with(each, result)
    return bool(handed)


def _reached(module: nn.Module, start: fx.Node, place: dict[fx.Node, int], end: int) -> tuple[set[fx.Node], set[fx.Node]]:
    """The names in front of a place that a tensor has, and those of tensors that may have its memory."""
    same, shared = {start}, set[fx.Node]()
    for found, views in ((same, False), (shared, True)):
        waiting = [(each, False) for each in same]
        while waiting:
            for each, upwards in _linked(module, *waiting.pop(), views):
                if place[each] < end and each not in same | shared:
                    found.add(each)
                    waiting.append((each, upwards))
    return same, shared


def _linked(module: nn.Module, node: fx.Node, part: bool, views: bool) -> Iterator[tuple[fx.Node, bool]]:
    """What a tensor comes from and what is made of it, where that is the same tensor; with `views`, also views.

    Each with whether it was found from one of its own results; with `part`, this holds for the node.
    """
    above = _first(node)
    if above is not None and _shares(module, node, views):
        yield above, True
    if part and plain_name(called_name(node)) in _PARTS:
        return  # its other parts are other memory
    for user in node.users:
        if _first(user) is node and _shares(module, user, views):
            yield user, False


def _shares(module: nn.Module, node: fx.Node, views: bool) -> bool:
    if changes_in_place(module, node):
        return True
    if node.op == "call_module":
        inner = module.get_submodule(str(node.target))
        return isinstance(inner, nn.Identity) or views and _passes(inner)
    if not views or node.op not in ("call_function", "call_method"):
        return False
    name = called_name(node)
    return node.args[1] in _ATTRIBUTES if name == "getattr" else plain_name(name) in _VIEWS


def _passes(module: nn.Module) -> bool:
    if isinstance(module, nn.Sequential):
        return all(isinstance(each, nn.Identity) or _passes(each) for each in module)
    return isinstance(module, _SAME_MEMORY) or getattr(module, "inplace", False) is True


def _first(node: fx.Node) -> fx.Node | None:
    given = node.args[0] if node.args else node.kwargs.get("input")
    return given if isinstance(given, fx.Node) else None
