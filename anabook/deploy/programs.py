"""A deployed network's program, read by `torch.fx`: which module is applied to what, with the shapes of an example."""

from __future__ import annotations

import contextlib
import copy
import inspect
import io
import operator
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn.utils import parametrize

from anabook._validate import real, reason, shown
from anabook.deploy import arrays
from anabook.deploy.fields import check_channels, check_size, is_whole
from anabook.deploy.steps import INPUT, Input
from anabook.deploy.wires import CannotConvert
from anabook.training.modules import Quantise
from anabook.training.places import Beginning, Scaled
from anabook.training.scaled import quantiser_in


class Program(NamedTuple):
    """A network as it is read.

    Attributes:
        net: a copy in evaluation mode, on the CPU, as a module that runs its graph.
        nodes: its operations on tensors, in order, each with the shape of what it gives, without the batch.
        names: for each node what the step that it becomes is called.
        dtype: the float type that it computes in.
        shape: of one example.
    """

    net: fx.GraphModule
    nodes: list[fx.Node]
    names: dict[fx.Node, str]
    dtype: torch.dtype
    shape: tuple[int, ...]

    def module(self, node: fx.Node) -> nn.Module | None:
        """The module that a node calls, if it calls one."""
        return self.net.get_submodule(node.target) if node.op == "call_module" else None

    def quantisers(self) -> Iterator[fx.Node]:
        """The calls of quantisers, in order."""
        return (node for node in self.nodes if isinstance(self.module(node), (Quantise, Scaled)))


def program(net: nn.Module, example: Any) -> Program:
    """Read a deployed network.

    Args:
        net: what `training.deploy` gives.
        example: integers, one batch as the network takes it, or one example.

    Raises:
        TypeError: no module, or an example that is no array of integers.
        CannotConvert: the network is not deployed or has noise left, or its program cannot be read.
        ValueError: the network does not take an example of this shape.
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module, not {type(net).__name__}.")
    _check_deployed(net)
    example = integers(example)
    net = copy.deepcopy(net).cpu().eval()
    dtypes = {p.dtype for p in (*net.parameters(), *net.buffers()) if p.dtype.is_floating_point}
    if len(dtypes) > 1:
        raise CannotConvert(
            f"the network computes in several float types, {', '.join(sorted(map(str, dtypes)))}; one is allowed."
        )
    dtype = next(iter(dtypes), torch.float32)
    try:
        parameters = inspect.signature(net.forward).parameters.values()
        defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        graph = _Tracer().trace(net, concrete_args=defaults or None)
    except Exception as error:  # whatever the network's own program raises when it meets a stand-in for its input
        raise CannotConvert(f"the program of this {type(net).__name__} cannot be read ({reason(error)}).") from error
    inputs = _inputs(graph)
    if len(inputs) != 1:
        raise CannotConvert(f"a network must take one tensor, but this {type(net).__name__} takes {len(inputs)}.")
    runs = fx.GraphModule(net, graph)
    shape = _shapes(runs, example, dtype)
    if runs.graph.eliminate_dead_code():  # what the output does not depend on
        runs.recompile()
    nodes = [node for node in runs.graph.nodes if node.op == "output" or _shape(node) is not None]
    used = {INPUT}
    names = {}
    for node in nodes:
        name = first = node.target if node.op == "call_module" else node.name
        number = 1
        while name in used:
            number += 1
            name = f"{first}:{number}"
        used.add(name)
        names[node] = INPUT if node.op == "placeholder" else name
    return Program(runs, nodes, names, dtype, shape)


def integers(example: Any) -> np.ndarray:
    """An array of integers, checked.

    Raises:
        TypeError: it is none.
        ValueError: there is nothing in it.
    """
    array = arrays.integers(
        example,
        "example must be an array of integers, as the integer network takes them",
        ": hand over what the data holds before its standardisation, with its mean and std",
    )
    if not array.size:
        raise ValueError(f"example must be one example or a batch of some, but its shape {array.shape} has none.")
    return array


def standardisation(mean: Any, std: Any) -> tuple[Fraction | tuple[Fraction, ...], Fraction | tuple[Fraction, ...]]:
    """The mean and the standard deviation of the data as exact numbers, each one for all channels, or one for each.

    Raises:
        TypeError, ValueError: no finite numbers, or a std that is not greater than 0; or beyond what floats of 64 bits hold
            with all their digits.

    Example:
        >>> standardisation([0.5, 2], (4, 4))
        ((Fraction(1, 2), Fraction(2, 1)), Fraction(4, 1))
    """
    return _exact("mean", mean), _exact("std", std)


def _exact(what: str, value: Any) -> Fraction | tuple[Fraction, ...]:
    if getattr(value, "ndim", 0) == 1:  # an array, or a tensor of torch
        value = value.tolist()
    if not isinstance(value, (list, tuple)):
        return _one_exact(what, value)
    if not value:
        raise ValueError(f"{what} must be a number, or one for each channel, not {value!r}.")
    found = tuple(_one_exact(what, each) for each in value)
    return found[0] if len(found) > 1 and len(set(found)) == 1 else found


def _one_exact(what: str, value: Any) -> Fraction:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating, Fraction)):
        raise TypeError(f"{what} must be a number, or one for each channel, not {value!r}.")
    allowed = f"{what} must be finite{' and greater than 0' if what == 'std' else ''}"
    if not abs(value) < float("inf"):
        raise ValueError(f"{allowed}, not {value!r}.")
    found = Fraction(int(value)) if isinstance(value, np.integer) else Fraction(*value.as_integer_ratio())
    check_size(what, found)
    if what == "std" and value <= 0:
        raise ValueError(f"{allowed}, not {float(value)!r}.")
    return found


def input_of(read: Program, example: np.ndarray, mean: Any, std: Any, bounds: Any) -> Input:
    """What comes into a network: see `to_integer`.

    Raises:
        TypeError, ValueError: a mean, a std or bounds that do not fit.
    """
    mean, std = standardisation(mean, std)
    for what, value in (("mean", mean), ("std", std)):
        check_channels(what, value, read.shape)
    return Input(read.shape, *bounds_of(example, bounds), mean, std)


def bounds_of(example: np.ndarray, bounds: Any) -> tuple[int, int]:
    """The least and the greatest integer that may come in: those of the example's type, or those given.

    Raises:
        TypeError, ValueError: no pair of integers that increase and hold the example, or a type too wide to go by.
    """
    if bounds is None:
        kind = np.iinfo(example.dtype)
        if kind.bits > 16:
            raise ValueError(
                f"an example of {example.dtype} does not say how large the inputs may be: hand over bounds=(low, high)."
            )
        return int(kind.min), int(kind.max)
    if not isinstance(bounds, (tuple, list)) or len(bounds) != 2 or not all(map(is_whole, bounds)):
        raise TypeError(f"bounds must be two integers, the least and the greatest input, not {shown(bounds)}.")
    low, high = map(int, bounds)
    if not low < high:
        raise ValueError(f"bounds must increase, not be {shown(bounds)}.")
    if max(-low, high) >= 2**31:
        raise ValueError(f"bounds must lie within 32 bits with a sign, not be {shown(bounds)}.")
    if example.size and (example.min() < low or example.max() > high):
        raise ValueError(f"the example reaches from {example.min()} to {example.max()}, beyond the bounds {low} and {high}.")
    return low, high


class _Proxy(fx.Proxy):
    """A stand-in for a tensor; those of torch know no operators in place, so that Python takes the ordinary ones instead."""


def _in_place(name: str) -> Callable[[fx.Proxy, Any], fx.Proxy]:
    function = getattr(operator, name)
    return lambda proxy, other: proxy.tracer.create_proxy("call_function", function, (proxy, other), {})


for _name in ("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "imatmul", "iand", "ior", "ixor"):
    setattr(_Proxy, f"__{_name}__", _in_place(_name))


class _Tracer(fx.Tracer):
    """Stops at torch's own modules and at quantisers, and notes += and its like as what they are: changes in place."""

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (Quantise, Scaled)) or super().is_leaf_module(m, module_qualified_name)


def _inputs(graph: fx.Graph) -> list[fx.Node]:
    """What a program takes; arguments that were left out, and the assertions that they are, are taken out of the graph."""
    found = [node for node in graph.nodes if node.op == "placeholder"]
    for node in found[1:]:
        users = list(node.users)
        while users and all(not user.users for user in users):
            for user in users:
                graph.erase_node(user)
            users = list(node.users)
        if not node.users:
            graph.erase_node(node)
    return [node for node in graph.nodes if node.op == "placeholder"]


def _check_deployed(net: nn.Module) -> None:
    for _, error in unfit(net):
        raise error


def _not_fixed(label: str, module: nn.Module) -> CannotConvert:
    steps = [step for each in module.parametrizations.values() for step in each]
    if any(isinstance(quantiser_in(step), Quantise) for step in steps):
        return CannotConvert(f"the weights of {label} are not fixed yet: hand over training.deploy(net).")
    return CannotConvert(
        f"the weights of {label} are computed anew in each pass ({', '.join(type(step).__name__ for step in steps)}), and "
        "training.deploy fixes only those that are quantised.",
        "quantise them, or make them plain: torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')",
    )


def unfit(net: nn.Module) -> Iterator[tuple[nn.Module, CannotConvert]]:
    """The modules that are not as `training.deploy` leaves them, or whose programs are not what their classes say."""
    for name, module in net.named_modules():
        label = repr(name or type(module).__name__)
        if parametrize.is_parametrized(module):
            yield module, _not_fixed(label, module)
        hooks = (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
        if not all(isinstance(hook, Beginning) for hook in hooks):  # those count the calls of a shared activation
            yield (
                module,
                CannotConvert(f"{label} has forward hooks, which may change what it gives and cannot be read: remove them."),
            )
        if "forward" in vars(module):
            said = f"the forward of {label} was put in place of its class's, and cannot be read: remove it."
            yield module, CannotConvert(said)
        if isinstance(module, Quantise) and (module.mean, module.std) != (0.0, 0.0):
            said = f"the quantiser {label} has noise of mean {module.mean:g} and std {module.std:g} left"
            yield module, CannotConvert(f"{said}: hand over training.deploy(net).")
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            real(module.eps, f"the eps of {label}", minimum=0)


def _shapes(module: fx.GraphModule, example: np.ndarray, dtype: torch.dtype) -> tuple[int, ...]:
    """Note at each node the shape of its tensor; a batch of two goes through, so that the batch's axis is known."""
    failed: Exception | None = None
    for batch in (example, example[np.newaxis]):
        if batch.ndim < 2:
            continue
        run = _Shapes(module)
        try:
            with torch.inference_mode(False), torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):  # it prints errors
                given = run.propagate(torch.from_numpy(np.repeat(batch[:1], 2, axis=0).astype(np.float64)).to(dtype))
        except Exception as error:  # whatever the network's own program raises
            failed = failed or error
            continue
        if isinstance(given, torch.Tensor) and given.ndim >= 2 and len(given) == 2:
            if run.changed:
                raise CannotConvert(run.changed)
            return batch.shape[1:]
        failed = failed or ValueError(f"it gives {type(given).__name__}, not a tensor with the batch first")
    cause = failed.__cause__ or failed if failed is not None else "it is a single number"
    why = reason(cause) if isinstance(cause, BaseException) else cause
    raise ValueError(f"the network does not take an example of shape {example.shape} ({why}).")


class _Shapes(ShapeProp):
    """Notes at each node the shape of its tensor, and finds what the program changes in place and then takes in that state.

    A graph says who takes what, not that a tensor has become another one since.

    Attributes:
        changed: the sentence about the first such tensor; empty where there is none.
    """

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.own = {name: t for name, t in (*module.named_parameters(), *module.named_buffers()) if not t.is_inference()}
        self.states = {t: t._version for t in self.own.values()}
        self.versions: dict[fx.Node, int] = {}
        self.by: dict[fx.Node, fx.Node] = {}
        self.changed = ""

    def run_node(self, n: fx.Node) -> Any:
        for before in n.all_input_nodes:
            if before in self.by and not self.changed:
                how = f"{_called(self.by[before])!r} changes in place what {_called(before)!r} gives"
                self.changed = f"{how}, and {_called(n)!r} takes that afterwards: write it so that a new tensor comes out."
        given = super().run_node(n)
        for before, value in self.env.items():
            if before in self.versions and value._version != self.versions[before]:
                self.by.setdefault(before, n)
        for name, t in self.own.items():
            if t._version != self.states[t] and not self.changed:
                self.changed = f"{_called(n)!r} changes {name!r}, a tensor of the network's own, while it runs."
        if isinstance(given, torch.Tensor) and not given.is_inference():
            self.versions[n] = given._version
        return given


def _called(node: fx.Node) -> str:
    return node.target if node.op == "call_module" else node.name


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """The shape of what a node gives, without the batch."""
    return tuple(_shape(node)[1:])


def _shape(node: fx.Node) -> torch.Size | None:
    meta = node.meta.get("tensor_meta")
    return getattr(meta, "shape", None)
