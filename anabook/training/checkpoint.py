"""Checkpoints: plain tensors and numbers in one file, written whole or not at all."""

from __future__ import annotations

import functools
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from anabook import _files
from anabook.schedules import Schedule
from anabook.training.learned import Learned
from anabook.training.modules import Quantise
from anabook.training.state_dicts import is_mark

FORMAT = 1

DEFAULTS = {"loss": "cross_entropy", "drop_last": False, "compile": False}
"""What a config is taken to say where it does not, as in files from before there was a choice."""


def save(path: str | os.PathLike, state: Mapping[str, Any]) -> Path:
    """Write a checkpoint so that a crash at any moment leaves the old file or the new one, never a part of one.

    Args:
        path: of the file; its folder is made. "~" is the user's home.
        state: dictionaries, lists, tensors, numbers and strings.

    Returns:
        The path.
    """
    path = resolve(path)
    with _files.replacing(path) as file:
        torch.save(dict(state), file)
    return path


def load(path: str | os.PathLike) -> dict[str, Any]:
    """Read a checkpoint, on the CPU. Nothing in the file is executed (`weights_only=True`).

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is not a checkpoint of `fit`.
    """
    path = resolve(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {str(path)!r}.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{str(path)!r} is not a checkpoint that can be read safely ({type(error).__name__}).") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f"{str(path)!r} is not a checkpoint of anabook.training.fit.")
    return state


def check(
    path: str | os.PathLike,
    saved: Mapping[str, Any],
    config: Mapping[str, Any],
    settings_before: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Refuse the checkpoint of another run, naming the first entry of the config that differs.

    Args:
        path: of the checkpoint.
        saved, config: the checkpoint's config and that of the run.
        settings_before, settings: what digests in them stand for, by the entry's name, where that is known.
    """
    # A scheduler changes its optimiser's settings: where both differ, it is the cause.
    for name in sorted({*saved, *config}, key=lambda name: (name == "optimiser", name)):
        theirs, ours = saved.get(name, "nothing"), config.get(name, "nothing")
        if theirs != ours:
            theirs, ours = _told_apart(theirs, ours, (settings_before or {}).get(name), (settings or {}).get(name))
            raise ValueError(
                f"the checkpoint {str(path)!r} is from another config: its {name} is {theirs}, not {ours}; "
                "choose another file, or delete it to start afresh."
            )


def _told_apart(theirs: Any, ours: Any, before: Any, now: Any) -> tuple[str, str]:
    """What two entries of configs differ in, by the first of their settings that does, as far as these are known."""
    if isinstance(before, list) and isinstance(now, list):  # of the epochs
        for epoch, (a, b) in enumerate(zip(before, now)):
            if a != b:
                return f"{a} in epoch {epoch}", f"{b}"
    if isinstance(before, dict) and isinstance(now, dict):
        (kind, *_), (other, *_) = theirs.split(), ours.split()
        if kind != other:
            return kind, other
        # What is private to torch is named where nothing else differs.
        for key in sorted({*before, *now}, key=lambda key: (key.startswith("_"), key)):
            a, b = before.get(key, "nothing"), now.get(key, "nothing")
            if a != b:
                return f"{kind} with {key} = {_short(a)}", _short(b)
    return _short(theirs), _short(ours)


def resolve(path: str | os.PathLike) -> Path:
    """The path, with the user's home in place of "~"."""
    path = Path(path)
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError(f"there is no home folder for the path {str(path)!r}.") from None


def config_hash(config: Mapping[str, Any]) -> str:
    """A hash of a config, as hexadecimal digits; the order of its entries does not matter."""
    return _files.digest(config)


def describe_network(net: nn.Module) -> str:
    """A digest of names, shapes and types of all tensors, and of the quantisers with family, strategy and learned quanta."""
    tensors = [(name, list(t.shape), str(t.dtype)) for name, t in net.state_dict().items() if not is_mark(name)]
    quantisers = [
        (name, repr(m.quantiser), m.noise, m.strategy, m.layer) for name, m in net.named_modules() if isinstance(m, Quantise)
    ]
    learned = [(name, m.settings) for name, m in net.named_modules() if isinstance(m, Learned)]
    return digest([tensors, quantisers, learned] if learned else [tensors, quantisers])


def describe_schedule(schedule: Any, n_layers: int, epochs: int) -> str | None:
    """The schedule as text; for a function of the reader's own, a digest of its values."""
    if schedule is None:
        return None
    if isinstance(schedule, Schedule) and schedule.rule is None:
        return repr(schedule)
    return digest([[list(map(float, schedule(layer, t))) for layer in range(n_layers)] for t in range(epochs)])


def describe_optimiser(step: Any) -> str:
    """The class of an optimiser or learning-rate scheduler and its settings."""
    return f"{type(step).__name__} {digest(_settings(step))}"


def settings_of(step: Any) -> dict[str, Any]:
    """The settings of an optimiser or learning-rate scheduler by their names, as lists, numbers and text."""
    settings = _settings(step)
    if isinstance(settings, list):
        several = len(settings) > 1
        settings = {f"{k} of group {i}" if several else k: v for i, group in enumerate(settings) for k, v in group.items()}
    return settings


def _settings(step: Any) -> Any:
    if isinstance(step, torch.optim.Optimizer):
        return _plain([{k: v for k, v in group.items() if k != "params"} for group in step.param_groups])
    return _plain(step.state_dict())


def describe_loss(loss: Any) -> str:
    """A loss's name and settings; for a function of the reader's own, also a digest of what it computes."""
    if loss is None:
        return DEFAULTS["loss"]
    if isinstance(loss, functools.partial):
        return f"{describe_loss(loss.func)} {digest([_plain(loss.args), _plain(loss.keywords)])}"
    if isinstance(loss, nn.Module):
        settings = {k: v for k, v in vars(loss).items() if not k.startswith("_") and k != "training"}
        tensors = {name: t.tolist() for name, t in loss.state_dict().items()}
        parts = [f"{name}: {type(module).__name__}" for name, module in loss.named_modules() if name]
        return f"{type(loss).__qualname__} {digest([_plain(settings), tensors, parts])}"
    code = getattr(loss, "__code__", None)
    name = getattr(loss, "__qualname__", type(loss).__qualname__)
    if code is None:
        return name
    free = [cell.cell_contents for cell in loss.__closure__ or ()]
    return f"{name} {digest([_computes(code), _plain(loss.__defaults__), _plain(loss.__kwdefaults__), _plain(free)])}"


def describe_data(data: Any) -> str:
    """A checksum of arrays; for batches, their type and number."""
    if isinstance(data, Tensor):
        return f"{tuple(data.shape)} {zlib.crc32(_bytes(data)):08x}"
    if isinstance(data, Mapping):
        return ", ".join(f"{name}: {describe_data(part)}" for name, part in data.items())
    if isinstance(data, tuple):
        return " and ".join(describe_data(part) for part in data)
    try:
        return f"{type(data).__name__} of {len(data)}"
    except (TypeError, NotImplementedError):  # a DataLoader over an IterableDataset has the method, and no length
        return type(data).__name__


def digest(value: Any) -> str:
    """Sixteen hexadecimal digits that stand for a value made of lists, dictionaries, numbers and text."""
    return _files.digest(value)[:16]


def _computes(code: Any) -> list[Any]:
    """What a function's code does, without its place in a file."""
    constants = [_computes(c) if hasattr(c, "co_code") else repr(c) for c in code.co_consts]
    return [code.co_code.hex(), list(code.co_names), constants]


def _bytes(t: Tensor) -> memoryview:
    return memoryview(t.detach().cpu().contiguous().view(torch.uint8).numpy().reshape(-1))


def _plain(value: Any) -> Any:
    """Numbers and text of a nested value; functions and other objects, whose text has addresses, by their type."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, float):  # NumPy's is one, too, and cannot be read back as safely
        return float(value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else type(value).__name__


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 300 else text[:297] + "..."
