"""Networks and data sets of one's own in experiments: by what names a config knows them, and what it keeps of them."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from anabook._blocks import numbers
from anabook._validate import did_you_mean, real, reason, unknown
from anabook.datasets import store
from anabook.experiments.tasks import DSCNN, NETWORKS, SIZES, TASKS, Network, Task
from anabook.quantisers import Quantiser

if TYPE_CHECKING:
    from torch import nn

QUANTISATION: dict[str, Any] = {
    "weights": "ternary",
    "activations": "ternary",
    "keep": ["last"],
    "quantum": 1.0,
    "blocks": [],
}
"""What a sweep's file may say of how a network of one's own is quantised, and what it need not say."""

SIZE: dict[str, Any] = {"width": 1.0, "shrink": 1, "n_train": 0, "period": 3, "batch_size": 256, "lr": 1e-2}
"""What both named sizes mean for a data set of one's own."""

_NEEDED = ("network", "weights", "activations", "keep", "quantum", "turns", "classes", "shape")
_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_BITS = re.compile(r"(\d+) bits?( unsigned)?")


class Loaded(NamedTuple):
    """A function that makes networks, and the file that it is written in.

    Attributes:
        make: the function.
        module: the module's name.
        file: the file's name.
        sha256: of the file's bytes.
    """

    make: Callable[..., Any]
    module: str
    file: str
    sha256: str


def load(name: str) -> Loaded:
    """The function that a dotted name stands for, from the installed packages or the working folder.

    Args:
        name: "package.module:function".

    Raises:
        ValueError: it cannot be imported, is no function, or has no source file; in one sentence.

    Example:
        >>> loaded = load("anabook.models:mlp")
        >>> loaded.module, loaded.file, len(loaded.sha256)
        ('anabook.models', 'models.py', 64)
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        near = did_you_mean(str(name), NETWORKS)
        raise ValueError(
            f'network must read "package.module:function", or be one of {", ".join(map(repr, NETWORKS))}, not {name!r}{near}.'
        )
    module_name, _, attributes = name.partition(":")
    if (here := os.getcwd()) not in sys.path:  # the command line's own folder is not on the path by itself
        sys.path.append(here)
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"the network {name!r} cannot be imported ({type(error).__name__}: {reason(error)}): its module must be installed, "
            f"or lie in the working folder {here!r}."
        ) from error
    found: Any = module
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            raise ValueError(
                f"the network {name!r} cannot be imported: {module_name!r} has no {attribute!r}"
                f"{did_you_mean(attribute, [each for each in dir(found) if not each.startswith('_')])}."
            )
        found = getattr(found, attribute)
    if not callable(found) or hasattr(found, "parameters") and not isinstance(found, type):
        raise ValueError(f"the network {name!r} must be a function or a class that makes one, not {type(found).__name__}.")
    file = _source_of(found) or getattr(module, "__file__", None)
    if file is None or not Path(file).is_file():
        raise ValueError(f"the network {name!r} has no source file that a record could name.")
    source = Path(file)
    return Loaded(
        found, getattr(found, "__module__", module_name), source.name, hashlib.sha256(source.read_bytes()).hexdigest()
    )


def _source_of(found: Any) -> str | None:
    try:
        return inspect.getsourcefile(inspect.unwrap(found))
    except TypeError:
        return None


def build(name: str, width: float, shape: tuple[int, ...], classes: int) -> nn.Module:
    """The network in float, with weights from torch's global generator; one that does not fit the data is refused.

    Args:
        name: one of `tasks.NETWORKS`, or a dotted name. The function gets those of `n_classes`, `shape` (of one input) and
            `width` that it has parameters for.
        width: as for `Config`.
        shape: of one input.
        classes: how many.

    Raises:
        ValueError: it cannot be made, is no network, or does not give one number for each class.

    Example:
        >>> type(build("vgg", 0.05, (3, 32, 32), 5)).__name__
        'Sequential'
    """
    return _made(name, None if name in NETWORKS else load(name).make, width, shape, classes)


def _made(name: str, make: Callable[..., Any] | None, width: float, shape: tuple[int, ...], classes: int) -> nn.Module:
    """`build` with the function that makes the network; None for one of `tasks.NETWORKS`."""
    import torch
    from torch import nn

    try:
        if make is None:
            net = NETWORKS[name].build(width, shape, classes)
        else:
            has = inspect.signature(make).parameters
            net = make(**{k: v for k, v in {"n_classes": classes, "shape": shape, "width": width}.items() if k in has})
    except Exception as error:
        raise ValueError(
            f"the network {name!r} cannot be made ({type(error).__name__}: {reason(error).rstrip('.')}): it gets those of "
            "n_classes, shape and width that it has parameters for."
        ) from error
    if not isinstance(net, nn.Module):
        raise ValueError(f"the network {name!r} must make a torch.nn.Module, not {type(net).__name__}.")
    was, example = net.training, torch.zeros(2, *shape)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            outputs = net.eval()(example)
    except Exception as error:
        raise ValueError(
            f"the network {name!r} cannot take inputs of shape {shape} ({type(error).__name__}: {reason(error).rstrip('.')})."
        ) from error
    if not isinstance(outputs, torch.Tensor) or outputs.shape != (2, classes):
        gives = f"a tensor of shape {tuple(outputs.shape)}" if isinstance(outputs, torch.Tensor) else type(outputs).__name__
        raise ValueError(
            f"the network {name!r} gives {gives} for two inputs, and should give one number for each of {classes} classes."
        )
    return net.train(was)


def described(
    data: str,
    network: str,
    quantisation: Mapping[str, Any],
    *,
    width: float | None = None,
    shrink: int | None = None,
    size: str,
) -> dict[str, Any]:
    """What a config keeps of a network or a data set of one's own: all that its runs depend on.

    Args:
        data: a data set that experiments know, or one in the store.
        network: see `build`.
        quantisation: what is said of `QUANTISATION`.
        width, shrink: as for `Config`; None for those of the size.
        size: a named size.

    Returns:
        The network's name, the quantisers as text, the turn of each layer, classes and shape of the data, and hashes: of the
        file that the network is written in, and of the data where they are one's own.

    Raises:
        ValueError: whatever of it does not fit, in one sentence.

    Example:
        >>> own = described("cifar10", "vgg", {"weights": "2 bits"}, size="scaled")
        >>> own["turns"], own["classes"], own["shape"]
        ([0, 1, 2, 3, 4, 5, 6], 10, [3, 32, 32])
    """
    unknown(quantisation, QUANTISATION, "quantisation")
    own: dict[str, Any] = {"network": network, **QUANTISATION, **_defaults_of(network), **quantisation}
    blocks = own.pop("blocks")
    for what in ("weights", "activations"):
        if isinstance(own[what], Mapping):
            own[what] = [[key, value] for key, value in own[what].items()]  # records sort the keys of tables
    if not isinstance(own["keep"], list) or not all(isinstance(each, str) for each in own["keep"]):
        raise ValueError(f"keep must be a list of names of modules, not {own['keep']!r}.")
    own["quantum"] = real(own["quantum"], "quantum", above=0.0)
    own |= _of_data(data)
    loaded = None if network in NETWORKS else load(network)
    if loaded is not None:
        own["source"] = loaded.sha256[:16]
    net = _quantised(data, own, loaded, width, shrink, size)
    own["turns"] = list(_turns(net, blocks))
    return own


def _defaults_of(network: str) -> dict[str, Any]:
    if network == DSCNN.name:
        return {"weights": "4 bits", "activations": "4 bits unsigned", "quantum": DSCNN.quantum}
    return {}


def _of_data(data: str) -> dict[str, Any]:
    """Classes and shape of a data set; for one's own also a hash, since its name may stand for other images one day."""
    if data in TASKS:
        return {"classes": TASKS[data].classes, "shape": list(TASKS[data].shape)}
    record, stored = store.describe(data), store.load(data, mmap=True)
    digest = hashlib.sha256("".join(record["sha256"][what] for what in sorted(record["sha256"])).encode()).hexdigest()
    return {"classes": len(record["classes"]), "shape": list(stored.inputs.shape[1:]), "data": digest[:16]}


def check_folds(data: str, n_folds: int) -> None:
    """Refuse more folds than the smallest class of a data set of one's own has images to train on.

    Raises:
        ValueError: in one sentence.

    Example:
        >>> from anabook import datasets
        >>> path = store.save(datasets.digits())
        >>> check_folds("digits", n_folds=5)
    """
    stored = store.load(data, mmap=True)
    found = {label: n for label, n in stored.counts("train").items() if n < n_folds}
    if found:
        label, n = min(found.items(), key=lambda each: each[1])
        raise ValueError(
            f"the class {label!r} of {data!r} has {n} examples to train on, fewer than the {n_folds} folds: say "
            f"n_folds={max(2, n)}, or add some."
        )


def _quantised(
    data: str, own: Mapping[str, Any], loaded: Loaded | None, width: float | None, shrink: int | None, size: str
) -> nn.Module:
    """The network as its runs quantise it, made once by the function that was loaded."""
    import torch

    from anabook import training

    task = _task(data, {**own, "turns": [0]}, loaded)
    settings = task.size(size)
    with torch.random.fork_rng(devices=[]):
        net = task.build(settings["width"] if width is None else width, settings["shrink"] if shrink is None else shrink)
    network = task.network
    example = torch.zeros(1, *task.shape_at(settings["shrink"] if shrink is None else shrink))
    return training.quantise(net, network.weights, network.activations, keep=network.keep, example=example)


def _turns(net: nn.Module, blocks: Any) -> tuple[int, ...]:
    from anabook.schedules import Schedule

    schedule = Schedule.for_network(net, 1, blocks=blocks if blocks != [] else None)
    return numbers(schedule.blocks, schedule.n_layers)


@lru_cache(maxsize=64)
def task_of(data: str, own: tuple[tuple[str, Any], ...]) -> Task:
    """The row of a network or a data set of one's own, as `TASKS` has them for the book's.

    Args:
        data: the data set's name.
        own: what `described` gives, as pairs.

    Example:
        >>> own = described("cifar10", "vgg", {"activations": "4 bits unsigned"}, size="scaled")
        >>> task = task_of("cifar10", tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in own.items()))
        >>> task.network.n_layers, task.network.activations.bits
        (7, 4)
    """
    return _task(data, dict(own))


def _task(data: str, own: Mapping[str, Any], loaded: Loaded | None = None) -> Task:
    lacking = [name for name in _NEEDED if name not in own]
    if lacking:
        raise ValueError(f"own_network lacks {', '.join(lacking)}: own_networks.described gives all that it needs.")
    shape = tuple(own["shape"])
    sides = shape[1:] if len(shape) == 3 else (1,)
    network = Network(
        own["network"],
        n_layers=len(own["turns"]),
        quantum=own["quantum"],
        weights=_quantisers("weights", own["weights"], own["quantum"]),
        activations=_quantisers("activations", own["activations"], own["quantum"]),
        build=lambda width, shape, classes: _built(own, loaded, width, shape, classes),
        shrinks=tuple(by for by in (1, 2, 4) if all(side % by == 0 for side in sides)),
        keep=tuple(own["keep"]),
        turns=tuple(own["turns"]),
        traced=own["network"] in NETWORKS,
    )
    if data in TASKS:
        row = TASKS[data]
        return Task(data, network, row.classes, row.shape, row.augmentation, row.sizes, stands_for=row.stands_for)
    return Task(data, network, own["classes"], shape, "none", dict.fromkeys(SIZES, SIZE))


def _built(own: Mapping[str, Any], loaded: Loaded | None, width: float, shape: tuple[int, ...], classes: int) -> nn.Module:
    """The network of a task; its function is looked up unless it was loaded before, when the config was made."""
    name = own["network"]
    if name in NETWORKS:
        return build(name, width, shape, classes)
    loaded = load(name) if loaded is None else loaded
    if loaded.sha256[:16] != own["source"]:
        raise ValueError(
            f"the network {name!r} is written otherwise than when this run was planned: its file {loaded.file} has the hash "
            f"{loaded.sha256[:16]}, not {own['source']}; put the old file back, or plan new runs."
        )
    return _made(name, loaded.make, width, shape, classes)


def words(own: Mapping[str, Any]) -> dict[str, str]:
    """What a command line says of a network of one's own: its name, and how it is quantised where that is not the default.

    Example:
        >>> own = described("cifar10", "vgg", {"weights": {"conv1": "8 bits", "*": "ternary"}, "blocks": 4}, size="scaled")
        >>> print(*(f"{key}={value}" for key, value in words(own).items()))
        network=vgg quantisation.weights={"conv1" = "8 bits", "*" = "ternary"} quantisation.blocks=[0, 0, 0, 0, 1, 1, 1]
    """
    usual = {**QUANTISATION, **_defaults_of(own["network"])}
    said = {"network": own["network"]}
    for what in ("weights", "activations", "keep", "quantum"):
        value = list(own[what]) if isinstance(own[what], tuple) else own[what]
        if value == usual[what]:
            continue
        if what in ("weights", "activations") and isinstance(value, list):
            value = "{" + ", ".join(f'"{key}" = "{text}"' for key, text in value) + "}"
        said[f"quantisation.{what}"] = str(value)
    if max(own["turns"]) + 1 < len(own["turns"]):
        said["quantisation.blocks"] = str(list(own["turns"]))
    return said


def provenance(own: Mapping[str, Any]) -> dict[str, str]:
    """Where a network of one's own is written, for the record of a run.

    Example:
        >>> sorted(provenance({"network": "anabook.models:mlp"}))
        ['file', 'module', 'name', 'sha256']
    """
    if own["network"] in NETWORKS:
        return {"name": own["network"], "module": "anabook.models"}
    loaded = load(own["network"])
    return {"name": own["network"], "module": loaded.module, "file": loaded.file, "sha256": loaded.sha256}


def _quantisers(what: str, value: Any, quantum: float) -> Any:
    """A quantiser, or a mapping to quantisers, from text or pairs of texts."""
    if isinstance(value, str):
        return _quantiser(what, value, quantum)
    if not isinstance(value, (list, tuple)):
        raise ValueError(
            f"{what} must be text such as 'ternary' or '4 bits', or a table from names to such texts, not {value!r}."
        )
    return {key: _quantiser(f"{what}, {key!r}", text, quantum) for key, text in value}


def _quantiser(what: str, text: Any, quantum: float) -> Quantiser | None:
    if text == "float":
        return None
    if text == "ternary":
        return Quantiser.ternary(quantum)
    found = _BITS.fullmatch(text) if isinstance(text, str) else None
    if not found or not 1 <= int(found[1]) <= 16:
        raise ValueError(
            f"{what} must be 'ternary', 'float', or 1 to 16 bits as in '4 bits' or '4 bits unsigned', not {text!r}."
        )
    return Quantiser.linear(int(found[1]), signed=not found[2], quantum=quantum, rounding="nearest")
