"""In which order a network uses its weights and its activations, and what its weights are applied to.

Layers are numbered in the order of the forward pass, so that order must be known, not guessed. It is read off the
network's program, as `torch.fx` records it, or off one forward pass on an example.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

from anabook.training import kernels
from anabook.training.flows import (
    APPLYING,
    INPUT,
    WEIGHTED,
    Flow,
    has_weights,
    inputs_of,
    plain_name,
    through,
    through_module,
    weight_name,
    weight_names,
)
from anabook.training.modules import Quantise
from anabook.training.places import Place, Scaled
from anabook.training.tracing import Tracer, called_name

_INSIDE: dict[type[nn.Module], tuple[str, ...]] = {
    nn.MultiheadAttention: ("out_proj",),
    nn.TransformerEncoderLayer: ("self_attn", "linear1", "activation", "linear2"),
    nn.TransformerDecoderLayer: ("self_attn", "multihead_attn", "linear1", "activation", "linear2"),
}
"""torch's modules that use those inside them in another order than that of registration."""


def calls(net: nn.Module, kinds: tuple[type[nn.Module], ...], example: Any = None) -> list[str]:
    """The names of the modules of these kinds in the order in which the forward pass uses them, as often as it does.

    Attentions and recurrent layers, which have several weights, come as the names of these.

    A weighted module counts as used where it is called, or, if that never happens (inside an attention, for example),
    where its weight is read. Modules that are not used do not occur.

    Args:
        net: any network; it is not changed.
        kinds: the classes to look for.
        example: an input, or a tuple of inputs, for one forward pass in evaluation mode; without it the program is read.

    Raises:
        ValueError: no example, and a program that cannot be read.
    """
    found = _observed_calls(net, kinds, example) if example is not None else _read_calls(net, kinds)
    several = (nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase)
    modules = dict(net.named_modules())
    return [
        label
        for name in found
        for label in (weight_names(name, modules[name]) if isinstance(modules[name], several) else [name])
    ]


def applications(net: nn.Module, example: Any = None, places: bool = False) -> list[tuple[str, Flow]]:
    """What each weight is applied to: (name of the module or parameter, what its input holds), in the order of use.

    With `places`, what comes to each `Place` is among them, by its name, and a place makes levels of numbers.

    Raises:
        ValueError: no example, and a program that cannot be read.
    """
    kinds = (Place,) if places else ()
    return _observed_applications(net, example, kinds) if example is not None else _read_applications(net, kinds)


def _probe(net: nn.Module) -> nn.Module:
    """A copy to look at, so that nothing that a pass leaves behind is left in the network; parameters are not copied."""
    return copy.deepcopy(net, {id(p): p for p in net.parameters()})


def run_once(copied: nn.Module, example: Any) -> Any:
    """One forward pass of a copy on an example, in evaluation mode, without gradients, draws or torch's shortcuts."""
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)  # it calls no module inside an attention
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            return copied.eval()(*(example if isinstance(example, tuple) else (example,)))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


# Reading the program ------------------------------------------------------------------------------------------------


class _Tracer(Tracer):
    """Stops at torch's own modules, at quantisers, and at the modules that are looked for."""

    def __init__(self, kinds: tuple[type[nn.Module], ...]) -> None:
        super().__init__()
        self.kinds = kinds

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, self.kinds) or super().is_leaf_module(m, module_qualified_name)


def program(net: nn.Module, kinds: tuple[type[nn.Module], ...]) -> torch.fx.Graph:
    """The forward pass in evaluation mode, with optional arguments left out."""
    net = _probe(net).eval()
    try:
        parameters = inspect.signature(net.forward).parameters.values()
        defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        with torch.random.fork_rng(devices=[]):
            return _Tracer(kinds).trace(net, concrete_args=defaults or None)
    except Exception as error:  # whatever the network's own program raises when it meets a stand-in for its input
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"the order in which this {type(net).__name__} uses its layers cannot be read off its program ({reason}): hand "
            "over an example input, example=x, so that one forward pass shows it."
        ) from error


def _read_calls(net: nn.Module, kinds: tuple[type[nn.Module], ...]) -> Iterator[str]:
    named = {name for name, module in net.named_modules() if isinstance(module, kinds)}
    nodes = list(program(net, kinds).nodes)
    called = {node.target for node in nodes if node.op == "call_module"}
    for node in nodes:
        if node.op == "call_module":
            yield from _inside(net.get_submodule(node.target), node.target, named)
        elif node.op == "get_attr":
            owner, _, attribute = node.target.rpartition(".")
            if attribute == "weight" and owner in named - called:
                yield owner


def _inside(module: nn.Module, name: str, named: set[str]) -> Iterator[str]:
    """The named modules in one at which the program stops: itself, or those inside in the order of their use."""
    if name in named:
        yield name
        if not isinstance(module, nn.MultiheadAttention):  # a linear layer ends it
            return
    order = next((names for kind, names in _INSIDE.items() if isinstance(module, kind)), None)
    for child in order or [child for child, _ in module.named_children()]:
        inner = getattr(module, child)
        if isinstance(inner, nn.Module):  # TransformerEncoderLayer's activation may be a function
            yield from _inside(inner, f"{name}.{child}" if name else child, named)


def _read_applications(net: nn.Module, places: tuple[type[nn.Module], ...]) -> list[tuple[str, Flow]]:
    modules, found, flows = dict(net.named_modules()), [], {}
    for node in program(net, (*WEIGHTED, Quantise, Scaled, *places)).nodes:
        inputs = [flows[each] for each in node.all_input_nodes]
        if node.op == "placeholder":
            flows[node] = Flow("float", (INPUT,))
        elif node.op == "get_attr":
            flows[node] = _of_attribute(net, node.target)
        elif node.op == "call_module" and "parametrizations" in node.target.split("."):
            flows[node] = Flow("weight", (weight_name(node.target),))
        elif node.op == "call_module":
            module, first = modules[node.target], inputs[0] if inputs else Flow("unknown")
            found.extend((name, flow) for name, flow in _applied_inside(module, node.target, first))
            if isinstance(module, Place):
                found.append((node.target, first))
            flows[node] = through_module(module, node.target, inputs)
        elif node.op == "output":
            continue
        else:
            name = called_name(node)
            name = str(node.args[1]) if name == "getattr" else name
            found.extend(_applied(name, inputs))
            if plain_name(name) not in APPLYING:
                found.extend(
                    (source, Flow("unknown", (f"inside {name}",)))
                    for flow in inputs
                    if flow.kind == "weight"
                    for source in flow.sources
                    if has_weights(modules.get(source)) and len(inputs) > 1
                )
            flows[node] = through(name, inputs)
            if name == "setitem" or name.endswith("_") and not name.endswith("__"):  # changed in place
                flows[node.args[0]] = flows[node]
    return found


def _applied_inside(module: nn.Module, name: str, flow: Flow) -> Iterator[tuple[str, Flow]]:
    """The weights in a module at which the program stops."""
    hidden = Flow("unknown", (f"inside {type(module).__name__}",))
    for inner, each in module.named_modules():
        yield from inputs_of(each, f"{name}.{inner}" if inner else name, hidden if inner else flow)


def _applied(name: str, inputs: list[Flow]) -> Iterator[tuple[str, Flow]]:
    """The weights among what comes into an operation, with the rest of it, if it is a product."""
    if plain_name(name) not in APPLYING:
        return
    factors = inputs[1:] if "add" in plain_name(name) else inputs  # what is added comes first, or last as a bias does
    rest = [flow for flow in factors if flow.kind not in ("weight", "shape")]
    for flow in factors:
        if flow.kind == "weight":
            for source in flow.sources:
                yield source, rest[0] if rest else Flow("unknown", (f"inside {name}",))


def _of_attribute(net: nn.Module, target: str) -> Flow:
    value: Any = net
    for part in target.split("."):
        value = getattr(value, part, None)  # constants of the program are no attributes of the network
    matrix = isinstance(value, nn.Parameter) and value.dim() > 1
    return Flow("weight" if matrix else "float", (weight_name(target),))


# Watching one pass --------------------------------------------------------------------------------------------------


def _observed_calls(net: nn.Module, kinds: tuple[type[nn.Module], ...], example: Any) -> list[str]:
    probe = _probe(net)
    seen: list[tuple[str, bool]] = []
    for name, module in list(probe.named_modules()):
        if isinstance(module, kinds):
            module.register_forward_pre_hook(_noting(seen, (name, True)))
            if isinstance(module, WEIGHTED) and "weight" in module._parameters:
                parametrize.register_parametrization(module, "weight", _Noted(seen, (name, False)), unsafe=True)
    _run_example(probe, example)
    called = {name for name, by_call in seen if by_call}
    return [name for name, by_call in seen if by_call or name not in called]


class _Noted(nn.Module):
    """A parametrisation that changes nothing, and notes when it is asked for."""

    def __init__(self, seen: list, what: Any) -> None:
        super().__init__()
        self._note = _noting(seen, what)

    def forward(self, weight: Tensor) -> Tensor:
        self._note()
        return weight


def _noting(seen: list, what: Any) -> Callable[..., None]:
    return lambda *_: seen.append(what)


def _run_example(net: nn.Module, example: Any) -> None:
    try:
        with kernels.compiling(None):  # what is watched must not be compiled
            run_once(net, example)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"the network does not run on the example ({type(error).__name__}: {reason}).") from error


class _Watching(TorchFunctionMode):
    """Passes on, from operation to operation, what each tensor holds, and notes what weights are applied to."""

    def __init__(self, parameters: dict[int, Flow], found: list[tuple[str, Flow]]) -> None:
        super().__init__()
        self.parameters, self.found = parameters, found

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", str(func))
        if name == "__get__" and isinstance(out, Tensor) and not isinstance(out, nn.Parameter):
            out._flow = self._flow_of(args[0])  # .T and the like
        if name in ("__get__", "__set__") or name.startswith("_is_"):
            return out
        flows = [self._flow_of(t) for t in _tensors_in((args, kwargs or {}))]
        self.found.extend(_attention(flows) if name == "multi_head_attention_forward" else _applied(name, flows))
        flow = through(name, flows)
        for t in _tensors_in(args[0] if name == "__setitem__" else out):
            if not isinstance(t, nn.Parameter):
                t._flow = flow
        return out

    def _flow_of(self, t: Any) -> Flow:
        return self.parameters.get(id(t)) or _flow_of(t)


def _attention(flows: list[Flow]) -> Iterator[tuple[str, Flow]]:
    """The weights of an attention: those of its end are applied to averages of values."""
    names = dict.fromkeys(source for flow in flows if flow.kind == "weight" for source in flow.sources)
    for name in sorted(names, key=lambda each: each.endswith("out_proj")):
        if name.rpartition(".")[2] not in ("bias_k", "bias_v"):
            yield name, Flow("float", ("the attention",)) if name.endswith("out_proj") else flows[0]


def _observed_applications(net: nn.Module, example: Any, places: tuple[type[nn.Module], ...]) -> list[tuple[str, Flow]]:
    probe, example = _probe(net), copy.deepcopy(example)
    found: list[tuple[str, Flow]] = []
    for name, module in list(probe.named_modules()):
        if isinstance(module, parametrize.ParametrizationList):
            module.register_forward_hook(_marking(Flow("weight", (weight_name(name),))))
        elif "parametrizations" in name.split("."):
            continue
        elif isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
            module.register_forward_pre_hook(
                lambda m, x, name=name: found.extend(inputs_of(m, name, _flow_of(next(_tensors_in(x), None))))
            )
            module.register_forward_hook(_marking(Flow("float", (name,))))
        elif isinstance(module, (Quantise, Scaled)):
            module.register_forward_hook(_marking(Flow("levels", (name,))))
        elif isinstance(module, places):
            module.register_forward_hook(_placing(found, name, module))
        elif name and (has_weights(module) or not any(module.children())):
            module.register_forward_hook(_naming(name))
    for t in _tensors_in(example):
        t._flow = Flow("float", (INPUT,))
    parameters = {
        id(p): Flow("weight" if p.dim() > 1 else "float", (weight_name(name),)) for name, p in probe.named_parameters()
    }
    with _Watching(parameters, found):
        _run_example(probe, example)
    return found


def _marking(flow: Flow) -> Callable[..., None]:
    def mark(_module: nn.Module, _inputs: Any, out: Any) -> None:
        for t in _tensors_in(out):
            t._flow = flow

    return mark


def _placing(found: list[tuple[str, Flow]], name: str, place: Place) -> Callable[..., Any]:
    def mark(_module: nn.Module, _inputs: Any, out: Any) -> Any:
        if not isinstance(out, Tensor):
            return out
        given = _flow_of(out)
        found.append((name, given))
        out = out.view_as(out)  # what came in goes elsewhere as it is
        out._flow = through_module(place, name, [given])
        return out

    return mark


def _naming(name: str) -> Callable[..., None]:
    """A module that makes floats is where they come from, rather than the function that it calls."""

    def mark(_module: nn.Module, inputs: Any, out: Any) -> None:
        before = [_flow_of(t) for t in _tensors_in(inputs)]
        for t in _tensors_in(out):
            if _flow_of(t).kind == "float" and _flow_of(t) not in before:
                t._flow = Flow("float", (name,))

    return mark


def _flow_of(t: Any) -> Flow:
    return getattr(t, "_flow", Flow("float", ("a constant",)))


def _tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors_in(tuple(value.values()))
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors_in(item)
