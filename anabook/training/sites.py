"""Places for quantisers where a float network has no module: functions for activations, sums, inputs of weighted layers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from torch import fx, nn

from anabook.training.flows import QUANTISABLE, plain_name
from anabook.training.grouping import ACTIVATIONS
from anabook.training.in_place import changes_in_place, hand_on
from anabook.training.places import Place
from anabook.training.rewriting import CannotRewrite, Edit, rewrite
from anabook.training.tracing import called_name

_FUNCTIONS: dict[str, type[nn.Module]] = {kind.__name__.lower(): kind for kind in ACTIVATIONS}
"""The modules that compute what torch's functions and methods of these names do; their arguments are the same."""

_ADDING = ("add", "iadd")


def functions_as_modules(net: nn.Module, swap: tuple[type[nn.Module], ...]) -> dict[str, str]:
    """Put modules in place of the functions that compute these activations, as `torch.relu`, `F.gelu` or `x.tanh()` do.

    What a function or a module of these types changes in place is, from there on in the program, what it gives. Whether
    the caller of a program goes on with an input that this program has changed is not looked at.

    Returns:
        The modules whose programs cannot be read, with the reasons.
    """
    for _, module in net.named_modules():
        if isinstance(module, (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)):
            kind = _FUNCTIONS.get(plain_name(getattr(module.activation, "__name__", "")))
            if kind is not None and kind in swap:  # a function that is given as such
                module.activation = kind().train(module.training)
    return _rewrite_all(_own_programs(net), lambda name, owner: _modules_for_functions(owner, swap))


def _modules_for_functions(owner: nn.Module, swap: tuple[type[nn.Module], ...]) -> Edit:
    taken = set(dir(owner))

    def edit(module: nn.Module, graph: fx.Graph) -> list[str]:
        put: list[str] = []
        for node in list(graph.nodes):
            made = _as_module(node, swap)
            if made is None:
                own = node.op == "call_module" and isinstance(module.get_submodule(node.target), swap)
                if own and changes_in_place(module, node) and hand_on(module, graph, node, node):
                    put.append(node.target)
            else:
                name = _free(type(made).__name__.lower(), {*taken, *put})
                _register(module, name, made)
                with graph.inserting_after(node):
                    called = graph.call_module(name, (node.args[0] if node.args else node.kwargs["input"],))
                if getattr(made, "inplace", False) or changes_in_place(module, node):
                    hand_on(module, graph, node, called)
                node.replace_all_uses_with(called)
                graph.erase_node(node)
                put.append(name)
        return put

    return edit


def _as_module(node: fx.Node, swap: tuple[type[nn.Module], ...]) -> nn.Module | None:
    if node.op not in ("call_function", "call_method"):
        return None
    kind = _FUNCTIONS.get(plain_name(called_name(node)))
    if kind is None or kind not in swap:
        return None
    others = {name: value for name, value in node.kwargs.items() if name != "input"}
    if any(isinstance(value, fx.Node) for value in (*node.args[1:], *others.values())):
        return None  # a slope that is computed
    return kind(*node.args[1:], **others)


def put_places(
    net: nn.Module, before: bool, summands: bool, only: Collection[str] | None = None
) -> tuple[dict[str, str], dict[str, str]]:
    """Put a `Place` on each summand of an addition of two tensors, and in front of each layer with weights.

    Args:
        net: a float network, changed in place.
        before, summands: which.
        only: names of places; there are no others then.

    Returns:
        The names of the places with what they are for, "summand" or the name of the layer that comes after; and as in
        `functions_as_modules`.
    """
    found: dict[str, str] = {}

    def making(name: str, owner: nn.Module) -> Edit:
        taken = set(dir(owner))

        def edit(module: nn.Module, graph: fx.Graph) -> list[str]:
            put: list[str] = []
            weighted = {id(m) for m in module.modules() if isinstance(m, QUANTISABLE)} if before else set()
            for wanted, use, label, after in list(_sites(module, graph, weighted, summands)):
                child = _free(wanted, {*taken, *put})
                full = f"{name}.{child}" if name else child
                if only is not None and full not in only:
                    put.append(child)
                    continue
                found[full] = after if after == "summand" or not name else f"{name}.{after}"
                _register(module, child, Place())
                if label is use.args[0] and wanted.endswith("_left") and changes_in_place(module, use):
                    hand_on(module, graph, use, use)
                    use.target = "add" if use.op == "call_method" else torch.add
                with graph.inserting_before(use):
                    placed = graph.call_module(child, (label,))
                _hand(use, label, placed, wanted)
                put.append(child)
            return put if any(hasattr(module, each) for each in put) else []

        return edit

    owners = list(net.named_modules()) if before else _own_programs(net)
    if only is not None:
        names = {name.rpartition(".")[0] for name in only}
        owners = [each for each in owners if each[0] in names]
    unread = _rewrite_all(owners, making)
    return {name: use for name, use in found.items() if name.rpartition(".")[0] not in unread}, unread


def _sites(
    module: nn.Module, graph: fx.Graph, weighted: set[int], summands: bool
) -> Iterator[tuple[str, fx.Node, fx.Node, str]]:
    """The name that a place is to have, the operation that it is for, what comes in there, and what it is for."""
    number = 0
    for node in graph.nodes:
        if node.op == "call_module" and id(module.get_submodule(node.target)) in weighted:
            inputs = [each for each in (*node.args, *node.kwargs.values()) if isinstance(each, fx.Node)]
            several = isinstance(module.get_submodule(node.target), nn.MultiheadAttention)
            for given in dict.fromkeys(inputs[:3] if several else inputs[:1]):
                yield f"before_{node.target.replace('.', '_')}", node, given, node.target
        elif summands and node.op in ("call_function", "call_method") and plain_name(called_name(node)) in _ADDING:
            if len(node.args) == 2 and not node.kwargs and all(_is_tensor(each) for each in node.args):
                for side, given in zip(("left", "right"), node.args):
                    yield f"sum{number}_{side}", node, given, "summand"
                number += 1


def _hand(use: fx.Node, given: fx.Node, placed: fx.Node, wanted: str) -> None:
    if wanted.endswith(("_left", "_right")) and wanted.startswith("sum"):  # x + x has a place for each
        args = list(use.args)
        args[wanted.endswith("_right")] = placed
        use.args = tuple(args)
    else:
        use.replace_input_with(given, placed)


def _is_tensor(value: Any) -> bool:
    """Whether a value of a program may be what layers give, rather than a parameter, a constant or a size."""
    return (
        isinstance(value, fx.Node) and value.op != "get_attr" and plain_name(called_name(value)) not in ("size", "getattr")
    )


def _free(name: str, taken: set[str]) -> str:
    number, found = 0, name
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    return found


def _register(owner: nn.Module, name: str, made: nn.Module) -> None:
    if name not in owner._modules:  # by the program of the other mode
        owner.add_module(name, made.train(owner.training))


def _own_programs(net: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules that do something else than calling others in a row."""
    return [(name, m) for name, m in net.named_modules() if type(m).forward is not nn.Sequential.forward]


def _rewrite_all(owners: list[tuple[str, nn.Module]], making: Callable[[str, nn.Module], Edit]) -> dict[str, str]:
    unread = {}
    for name, module in owners:
        torchs = type(module).__module__.startswith("torch.nn") and not isinstance(module, nn.Sequential)
        if not torchs and not isinstance(module, (Place, *QUANTISABLE)):
            try:
                rewrite(module, making(name, module))
            except CannotRewrite as error:
                unread[name] = str(error)
    return unread
