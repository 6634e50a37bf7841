"""The forward pass of one module, read as a program of the modules and functions in it, changed, and put back.

The module stays what it is: its class becomes a subclass with another forward pass, its parts and their names are the same.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import random
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from anabook.training.in_place import OUT_OF_PLACE, settle
from anabook.training.tracing import CannotRewrite, Tracer

Edit = Callable[[nn.Module, fx.Graph], list[str]]
"""What changes a module's program; gives the names of what it has put in."""


def rewrite(module: nn.Module, edit: Edit) -> list[str]:
    """Change the forward pass of a module, in place.

    The program is read once in evaluation and once in training mode, since many ask which it is, and both are changed. What
    else it asks its module for (a number of repetitions, say) is what it is now.

    Args:
        module: whose own forward pass is read; modules in it are called as they are.
        edit: changes a graph, whose nodes call the modules inside by their names.

    Returns:
        What `edit` has put in; nothing is changed where that is nothing, or where an error is raised.

    Raises:
        CannotRewrite: the program cannot be read, or depends on more than the inputs, the modules inside and the mode.

    Example:
        >>> class Doubled(nn.Module):
        ...     def forward(self, x):
        ...         return torch.relu(x) * 2
        >>> def absolute(module, graph):
        ...     found = [node for node in graph.nodes if node.target is torch.relu]
        ...     for node in found:
        ...         node.target = torch.abs
        ...     return [node.name for node in found]
        >>> net = Doubled()
        >>> rewrite(net, absolute), net(torch.tensor([-1.0])), isinstance(net, Doubled)
        (['relu'], tensor([2.]), True)
    """
    evaluation, before = _graph(module, training=False), set(module._modules)
    try:
        done = edit(module, evaluation)
        if done:
            training = _graph(module, training=True)
            if edit(module, training) != done:
                raise CannotRewrite("it does something else in training mode")
            module.__class__ = _class_of(type(module), _Program.of(evaluation, training))
    except CannotRewrite:
        for name in module._modules.keys() - before:
            delattr(module, name)
        raise
    return done


class _Proxy(fx.Proxy):
    """Records `x += y` as what it is; torch.fx takes it for `x = x + y`, which leaves other names of x as they were."""


def _recording(target: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, other: self.tracer.create_proxy("call_function", target, (self, other), {})


for _operation in OUT_OF_PLACE:
    setattr(_Proxy, f"__{_operation.__name__}__", _recording(_operation))


class _Tracer(Tracer):
    """Stops at every module inside."""

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _graph(module: nn.Module, training: bool) -> fx.Graph:
    """The program of a module's own forward pass, optional arguments left out."""
    try:
        # A copy of the module alone, so that nothing that its program does to it while it is read is left behind.
        inner = (*module.children(), *module._parameters.values())
        probe = copy.deepcopy(module, {id(each): each for each in inner if each is not None})
        probe.training = training
        before, states = dict(vars(probe)), _random_states()
        parameters = inspect.signature(probe.forward).parameters
        defaults = {p.name: p.default for p in parameters.values() if p.default is not p.empty}
        with torch.random.fork_rng(devices=[]):
            graph = _Tracer().trace(probe, concrete_args=defaults or None)
            drawn = states != _random_states()
    except Exception as error:  # whatever a program raises when it meets a stand-in for its input
        raise CannotRewrite((str(error).strip() or type(error).__name__).splitlines()[0]) from error
    settle(probe, graph)
    made = {name for name in set(vars(probe)) - set(before) if name.startswith("_tensor_constant")}
    changed = {name for name, value in vars(probe).items() if name not in made and value is not before.get(name, probe)}
    if drawn:
        raise CannotRewrite("it draws random numbers of its own")
    if made:
        raise CannotRewrite("it makes tensors of its own")
    if changed:
        raise CannotRewrite(f"it sets {sorted(changed)[0]!r} of its own module")
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    for node, name in zip(placeholders, parameters):  # as they can be called
        if not str(node.target).startswith("*"):
            node.target = name
    return graph


def _random_states() -> tuple:
    others = np.random.get_state(legacy=False)["state"]
    return random.getstate(), torch.get_rng_state().numpy().tobytes(), others["key"].tobytes(), others["pos"]


class _ModuleName(str):
    """The name of a Python module, which is imported where it is needed, since modules cannot be pickled."""


class _Program:
    """A forward pass: its source, and what the names in it stand for."""

    def __init__(self, source: str, names: dict[str, Any]) -> None:
        self.source = source
        scope = {name: importlib.import_module(v) if isinstance(v, _ModuleName) else v for name, v in names.items()}
        exec(compile(source, "<a forward pass that was rewritten>", "exec"), scope)
        self.function = scope["forward"]
        used = {name for f in scope.values() if hasattr(f, "__code__") for name in f.__code__.co_names}
        self.names = {name: value for name, value in names.items() if name in used | {"torch", "device", "inf", "nan"}}

    @classmethod
    def of(cls, evaluation: fx.Graph, training: fx.Graph) -> _Program:
        codes = [graph.python_code("self") for graph in (evaluation, training)]
        names: dict[str, Any] = {}
        for code in codes:
            for name, value in code.globals.items():
                if names.setdefault(name, value) is not value and name not in ("inf", "nan"):
                    raise CannotRewrite(f"it has two functions called {name!r}")
        names = {name: _ModuleName(v.__name__) if isinstance(v, ModuleType) else v for name, v in names.items()}
        sources = [code.src.strip() for code in codes]
        if sources[0] == sources[1]:
            return cls(sources[0], names)
        inner = [source.replace("def forward(", f"def {kind}(", 1) for source, kind in zip(sources, _KINDS)]
        head = next(line for line in sources[0].splitlines() if line.startswith("def forward("))
        given = inspect.signature(cls(sources[0], names).function).parameters.values()
        stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
        handed = ", ".join(stars.get(p.kind, "") + p.name for p in given)
        return cls(
            "\n\n".join((*inner, f"{head}\n    return ({_KINDS[1]} if self.training else {_KINDS[0]})({handed})")), names
        )


_KINDS = ("in_evaluation", "in_training")


class Rewritten:
    """What a module with a changed forward pass is beside what it was: its class can be copied and pickled."""

    _program: _Program
    _plain: type[nn.Module]

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        made: Any = type(self).__new__(type(self))
        memo[id(self)] = made
        made.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _made_again, (self._plain, self._program.source, self._program.names), self.__dict__


def _class_of(plain: Any, program: _Program) -> Any:
    plain = plain._plain if issubclass(plain, Rewritten) else plain
    given = {
        "forward": program.function,
        "_program": program,
        "_plain": plain,
        "__module__": __name__,
        "__doc__": plain.__doc__,
    }
    return type(plain.__name__, (Rewritten, plain), given)


def _made_again(plain: type[nn.Module], source: str, names: dict[str, Any]) -> nn.Module:
    made = _class_of(plain, _Program(source, names))
    return made.__new__(made)
