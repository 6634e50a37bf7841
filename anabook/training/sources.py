"""Where training takes its batches from: arrays or anything that gives batches, as networks and losses want them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from numbers import Number
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, TensorDataset

from anabook.training._arguments import brief
from anabook.training.devices import untouched
from anabook.training.objectives import Objective

_ONE_INPUT = (
    "; several inputs, or inputs by name, are not supported: join them in one tensor, and let the network's "
    "forward take it apart"
)


class Source:
    """Batches of inputs and targets on the network's device, from arrays or from anything that gives batches.

    Args:
        net: the network that they are for.
        data: a pair of arrays, or batches.
        batch_size: of batches that are made from arrays.
        objective: what the targets are for.
        channels_last: the memory order of images.
        what: the data's name in messages.
        drop_last: leave out a last, smaller batch of arrays.

    Attributes:
        arrays: all inputs and targets, where they were given as such.
        extremes: the smallest and the largest label of what was seen so far, of all for arrays; None where labels are
            not to be checked.
    """

    def __init__(
        self,
        net: nn.Module,
        data: Any,
        batch_size: int,
        objective: Objective,
        channels_last: bool = False,
        what: str = "data",
        drop_last: bool = False,
    ) -> None:
        self.net, self.what, self.batch_size, self.channels_last = net, what, batch_size, channels_last
        self.data, self.arrays, self.objective, self.drop_last = data, None, objective, drop_last
        self.extremes: tuple[int, int] | None = None
        self._reading: Reading | None = None
        self._passes = 0
        if isinstance(data, tuple) or not _gives_batches(data, what):
            x, y = self._tensors(data, what)
            self.arrays = self._order(x), y
        if drop_last and self.arrays is None:
            raise ValueError(
                f"drop_last=True is for data given as arrays: let the {type(data).__name__} itself leave out its last batch."
            )
        if drop_last and len(self.arrays[0]) < batch_size:
            raise ValueError(
                f"drop_last=True leaves nothing of {len(self.arrays[0])} examples with batch_size={batch_size}."
            )
        parameter = next(net.parameters(), None)
        self.device = torch.device("cpu") if parameter is None else parameter.device

    def __len__(self) -> int:
        if self.arrays is None:
            return len(self.data)
        n = len(self.arrays[0])
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def shuffled(self) -> Iterator[tuple[Tensor | None, Tensor | None, Any]]:
        """(rows, inputs, targets) of each batch: rows in a fresh order for arrays, inputs for batches."""
        if self.arrays is None:
            for x, y in self._batches():
                yield None, x, y
            return
        for rows in torch.randperm(len(self.arrays[0])).to(self.device).split(self.batch_size):
            if not self.drop_last or len(rows) == self.batch_size:
                yield rows, None, each(self.arrays[1], lambda t: t[rows])

    def in_order(self) -> Iterator[tuple[Tensor, Any]]:
        if self.arrays is None:
            yield from self._batches()
            return
        x, y = self.arrays
        for i in range(0, len(x), self.batch_size):
            yield x[i : i + self.batch_size], each(y, lambda t: t[i : i + self.batch_size])

    def inputs(self, rows: Tensor) -> Tensor:
        return self._order(self.arrays[0][rows])

    def last_batch(self) -> int | None:
        """How many examples the last batch of an epoch has, where that can be known before."""
        if self.arrays is not None:
            n, size, drop = len(self.arrays[0]), self.batch_size, self.drop_last
        elif hasattr(self.data, "last_batch"):
            return self.data.last_batch
        elif isinstance(self.data, DataLoader) and type(self.data.batch_sampler) is BatchSampler:
            sampler = self.data.batch_sampler
            n, size, drop = length(sampler.sampler), sampler.batch_size, sampler.drop_last
        else:
            return None
        return None if n is None or drop else n % size or min(n, size)

    @property
    def random_state(self) -> Any:
        """What the next pass depends on: the states of the data's generators, or its own `state_dict`."""
        generators = self.generators
        if generators:
            states = [g.get_state() for g in generators]
            return states[0] if len(states) == 1 else states
        return self.data.state_dict() if hasattr(self.data, "state_dict") else None

    @random_state.setter
    def random_state(self, state: Any) -> None:
        generators = self.generators
        if generators:
            for generator, old in zip(generators, state if isinstance(state, list) else [state]):
                generator.set_state(old)
        elif hasattr(self.data, "load_state_dict"):
            self.data.load_state_dict(state)

    @property
    def generators(self) -> list[torch.Generator]:
        """The torch generators of the data, and of a loader's sampler and data set."""
        sampler = getattr(self.data, "sampler", None)
        owners = (
            self.data,
            sampler,
            getattr(getattr(self.data, "batch_sampler", None), "sampler", None),
            getattr(self.data, "dataset", None),
        )
        found = (getattr(owner, "generator", None) for owner in owners if owner is not None)
        return list({id(g): g for g in found if isinstance(g, torch.Generator)}.values())

    def _batches(self) -> Iterator[tuple[Tensor, Any]]:
        empty = True
        for batch in self.data:
            x, y = self._tensors(batch, f"each batch of {self.what}")
            empty = False
            yield self._order(x), y
        self._passes += 1
        if empty:
            raise ValueError(f"{self.what} gave no batch: it must be possible to go through it again for every epoch.")

    def _tensors(self, data: Any, what: str) -> tuple[Tensor, Any]:
        """Inputs and targets as the network and the loss take them, both on the network's device."""
        if isinstance(data, Mapping) or not isinstance(data, Iterable) or len(pair := tuple(data)) != 2:
            raise TypeError(
                f"{what} must be a pair (inputs, labels) of arrays or tensors, not {type(data).__name__}"
                f"{_ONE_INPUT if isinstance(data, (Mapping, tuple, list)) else ''}."
            )
        if _several(*pair):
            raise TypeError(
                f"{what} must be a pair (inputs, labels) with the inputs in one array or tensor, not in "
                f"{brief(pair[0])}{_ONE_INPUT}."
            )
        if what != self.what and isinstance(pair[1], (Number, Tensor, np.ndarray, np.generic)) and np.ndim(pair[1]) == 0:
            raise TypeError(_single_examples(self.data, self.what))
        given = tensor(pair[0], f"the inputs of {what}")
        if self._reading is None:
            self._reading = reading_of(self.net, given)
        x = as_inputs(self.net, given, f"the inputs of {what}", self._reading)
        y = self._targets(pair[1], f"the labels of {what}")
        for t in leaves(y):
            if len(x) != (labels := len(t) if t.dim() else 0):
                raise ValueError(f"{what} must hold as many inputs as labels, not {len(x)} and {labels}.")
        # Looked at where that costs no wait for the device, or once.
        if all(t.device.type == "cpu" for t in leaves(y)) or self._passes == 0:
            self.extremes = self.objective.extremes(y)
        return x, each(y, lambda t: t.to(x.device))

    def _targets(self, targets: Any, what: str) -> Any:
        """Class labels as int64; for a loss of one's own whatever it takes, floats in the network's type."""
        if not self.objective.own:
            y = tensor(targets, what)
            if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool or y.dim() != 1:
                raise TypeError(
                    f"{what} must be a flat list of integers, not {y.dtype} of shape {tuple(y.shape)}; other "
                    "targets need a loss of their own, loss=…."
                )
            return y.to(torch.int64)
        kind = _float_type(self.net)

        def cast(t: Any) -> Tensor:
            t = tensor(t, what)
            return t.to(kind) if t.is_floating_point() else t.to(torch.int64) if _whole(t) else t

        nested = (
            isinstance(targets, Mapping)
            or isinstance(targets, (tuple, list))
            and any(isinstance(t, (Tensor, np.ndarray, Mapping)) and np.ndim(t) for t in targets)
        )
        return each(targets, cast) if nested else cast(targets)

    def _order(self, x: Tensor) -> Tensor:
        return x.contiguous(memory_format=torch.channels_last) if self.channels_last and x.dim() == 4 else x


class Reading(NamedTuple):
    """How a network reads its inputs: whole ones as indices or not, and the `nn.Embedding` that gets them as they are."""

    indices: bool
    table: nn.Module | None = None


def as_inputs(net: nn.Module, inputs: Any, what: str = "inputs", reading: Reading | None = None) -> Tensor:
    """Inputs as the network takes them, on its device: in its float type, or as int64 for an `nn.Embedding`.

    Args:
        net: the network.
        inputs: an array or a tensor of real numbers, at least one example along its first axis.
        what: their name in messages.
        reading: what `reading_of` says, where it was asked before.

    Raises:
        TypeError: complex numbers, or nothing that a tensor can be made of; fractions for an `nn.Embedding`.
        ValueError: no example; an index that the `nn.Embedding` does not have.
    """
    x = tensor(inputs, what)
    if x.is_complex():
        raise TypeError(f"{what} must be real numbers, not {x.dtype}.")
    if x.dim() == 0 or len(x) == 0:
        raise ValueError(f"{what} must hold at least one example, not a tensor of shape {tuple(x.shape)}.")
    reading = reading or reading_of(net, x)
    parameter = _float_parameter(net)
    if reading.table is not None and not _whole(x):
        raise TypeError(
            f"{what} must be whole numbers, as they are read by {_described(reading.table)}, not {x.dtype}: "
            "hand them over as integers, such as int64."
        )
    if reading.indices and _whole(x):
        if reading.table is not None and x.device.type == "cpu":
            _check_indices(x, reading.table, what)
        kind = torch.int64
    else:
        kind = torch.get_default_dtype() if parameter is None else parameter.dtype
    if parameter is None or x.dtype == torch.float64:  # which not every device has
        x = x.to(kind)
    return x if parameter is None else x.to(device=parameter.device, dtype=kind)


def reading_of(net: nn.Module, x: Tensor) -> Reading:
    """Whether whole numbers are to stay what they are, since they end in an `nn.Embedding`; and which one refuses floats.

    If the network has one at all, it is run on one example, in evaluation mode and without a graph.
    """
    tables = [m for m in net.modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag))]
    if not tables or x.dim() == 0 or len(x) == 0:
        return Reading(False)
    parameter, whole = _float_parameter(net), _whole(x)
    sample = x[:1].to(
        device=None if parameter is None else parameter.device, dtype=torch.int64 if whole else _float_type(net), copy=True
    )
    read, direct = [], []

    def look(module: nn.Module, args: tuple) -> None:
        given = args[0] if args else None
        if not isinstance(given, Tensor):
            return
        if _whole(given) and whole:
            read.append(module)
            if given.untyped_storage().data_ptr() == sample.untyped_storage().data_ptr():
                direct.append(module)
                raise _Found
        if given.is_floating_point() and not whole:
            direct.append(module)
            raise _Found

    hooks = [m.register_forward_pre_hook(look) for m in tables]
    try:
        with evaluating(net), untouched(sample.device), torch.no_grad():
            net(sample)
    except _Found:
        return Reading(whole, direct[0])
    except IndexError:  # this example has an index that a table lacks
        return Reading(bool(read))
    except Exception:  # what wants floats refuses whole numbers, each module in its own way
        return Reading(False)
    finally:
        for hook in hooks:
            hook.remove()
    return Reading(bool(read))


class _Found(Exception):
    pass


def _check_indices(x: Tensor, table: nn.Module, what: str) -> None:
    low, high = (int(t) for t in x.to(torch.int64).aminmax())  # torch has no aminmax of uint16
    wrong = low if low < 0 else high
    if not 0 <= wrong < table.num_embeddings:
        raise ValueError(
            f"{what} must be from 0 to {table.num_embeddings - 1}, as they are read by {_described(table)}, not {wrong}."
        )


def _described(table: nn.Module) -> str:
    return f"{type(table).__name__}({table.num_embeddings}, {table.embedding_dim})"


@contextlib.contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """The network in evaluation mode; each of its modules is put back into its own afterwards."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def single_value_norm(net: nn.Module, x: Tensor, frozen: Iterable[nn.Module] = ()) -> str | None:
    """The name of a batch normalisation that would have to take a variance of one value, or None.

    Args:
        net: the network; it is run once in evaluation mode, and so left as it is.
        x: one example.
        frozen: modules that stay in evaluation mode in training.
    """
    still, names, found = set(frozen), {m: name for name, m in net.named_modules()}, []
    norms = [
        m
        for m in names
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and not (m in still and m.running_mean is not None)
    ]

    def look(module: nn.Module, args: tuple) -> None:
        if args and isinstance(args[0], Tensor) and args[0].dim() > 1 and args[0].numel() == args[0].shape[1]:
            found.append(names[module])

    hooks = [m.register_forward_pre_hook(look) for m in norms]
    try:
        if norms:
            with evaluating(net), untouched(x.device), torch.no_grad():
                net(x)
    except Exception:  # whatever else is wrong shows in training
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


def length(data: Any) -> int | None:
    """How many; None where that is not known, as for a DataLoader over an IterableDataset."""
    try:
        return len(data)
    except (TypeError, NotImplementedError):
        return None


def tensor(values: Any, what: str) -> Tensor:
    """A tensor of these values.

    Raises:
        TypeError: none can be made.
    """
    try:
        return torch.as_tensor(values)
    except Exception:
        raise TypeError(f"{what} must be numbers in an array or a tensor, not {brief(values)}.") from None


def _whole(x: Tensor) -> bool:
    return not (x.is_floating_point() or x.is_complex() or x.dtype == torch.bool)


def _float_parameter(net: nn.Module) -> nn.Parameter | None:
    return next((p for p in net.parameters() if p.is_floating_point()), None)


def _float_type(net: nn.Module) -> torch.dtype:
    parameter = _float_parameter(net)
    return torch.get_default_dtype() if parameter is None else parameter.dtype


def each(tree: Any, function: Callable[[Any], Any]) -> Any:
    """The function of every tensor in dictionaries, tuples and lists of such."""
    if isinstance(tree, Mapping):
        return {key: each(value, function) for key, value in tree.items()}
    if isinstance(tree, (tuple, list)):
        return tuple(each(value, function) for value in tree)
    return function(tree)


def leaves(tree: Any) -> Iterator[Tensor]:
    """The tensors in dictionaries, tuples and lists of such."""
    if isinstance(tree, Mapping):
        tree = tree.values()
    if isinstance(tree, Tensor):
        yield tree
        return
    for value in tree:
        yield from leaves(value)


def _several(inputs: Any, labels: Any) -> bool:
    """Whether inputs are several arrays, with an example for each label in each, or have names."""
    if isinstance(inputs, Mapping):
        return True
    if not isinstance(inputs, (tuple, list)) or not isinstance(labels, (Tensor, np.ndarray, tuple, list)):
        return False
    n = len(labels) if getattr(labels, "ndim", 1) else 0
    return len(inputs) not in (0, n) and all(
        isinstance(part, (Tensor, np.ndarray)) and part.ndim and len(part) == n for part in inputs
    )


def _single_examples(data: Any, what: str) -> str:
    return (
        f"{what} must be a pair (inputs, labels) of arrays or give batches of such pairs, and this "
        f"{type(data).__name__} gives single examples: torch.utils.data.DataLoader(…, batch_size=256, shuffle=True) "
        "makes batches of them."
    )


def _gives_batches(data: Any, what: str) -> bool:
    """Whether data is to be gone through batch by batch; a list of two arrays is a pair, as a tuple is."""
    if isinstance(data, (Tensor, np.ndarray, str, Mapping)) or not (
        isinstance(data, Iterable) or hasattr(data, "__getitem__")
    ):
        return False
    if isinstance(data, TensorDataset):
        raise TypeError(_single_examples(data, what))
    if isinstance(data, Iterator):
        raise TypeError(
            f"{what} must be a pair of arrays or something that can be gone through again for every epoch, "
            f"not a {type(data).__name__}, which can be used once."
        )
    return not (isinstance(data, list) and not all(isinstance(item, (tuple, list, Mapping)) for item in data))
