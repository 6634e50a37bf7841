"""The final weights of runs, rounded and packed: one small file a run, so that a further question costs a forward pass."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from anabook import _files, training
from anabook._archives import WRONG, arrays_in, why
from anabook.deploy.packing import MOST, pack, per_byte, unpack
from anabook.experiments.config import Config
from anabook.experiments.networks import build, has_noise
from anabook.training.deploy import plain_weight

__all__ = ["load", "pack", "path_in", "per_byte", "read", "read_state", "save", "save_state", "unpack"]


def path_in(folder: Path, config: Config) -> Path:
    """The file of a run's weights in a folder.

    Example:
        >>> from anabook.experiments import make
        >>> path_in(Path("weights"), make("cifar10", "float")).suffix
        '.npz'
    """
    return folder / f"{config.key}.npz"


def save(net: nn.Module, config: Config, folder: Path) -> Path:
    """Write the weights that a trained network computes with once its noise is gone, all or nothing.

    Tensors with few values, as quantised weights are, are packed: five ternary weights a byte, two of four bits.

    Args:
        net: as `networks.build(config)` made it, trained.
        config: of the run.
        folder: of the file, which is named by the config's key.

    Returns:
        The file's path.

    Raises:
        OSError: it cannot be written.

    Example:
        >>> from anabook.experiments import make
        >>> config = make("cifar10", "uniform-mode-static")
        >>> path = save(build(config), config, Path("weights"))
        >>> path.stat().st_size < 1e5, load(config, Path("weights")).training
        (True, False)
    """
    head = {"config": np.frombuffer(json.dumps(config.as_dict(), sort_keys=True).encode(), np.uint8)}
    return _write(path_in(folder, config), head | _packed(_plain(net).state_dict()))


def load(config: Config, folder: Path) -> nn.Module:
    """The network of a run with its final weights, on the CPU and in evaluation mode.

    Raises:
        ValueError: there is no such file, it is damaged, or it belongs to another run.

    Example:
        >>> from anabook.experiments import make
        >>> config = make("cifar10", "float")
        >>> path = save(build(config), config, Path("weights"))
        >>> load(config, Path("weights"))(torch.zeros(1, 3, 16, 16)).shape
        torch.Size([1, 10])
    """
    path = path_in(folder, config)
    if not path.is_file():
        raise ValueError(f"there are no weights of the run {config.key} ({config.label}) in {str(folder)!r}.")
    found, net = read(path)
    if found.key != config.key:
        raise ValueError(f"the file {str(path)!r} holds the weights of another run: {found.label}.")
    return net


def read(path: Path) -> tuple[Config, nn.Module]:
    """The run whose final weights a file holds, and its network, on the CPU and in evaluation mode.

    Raises:
        ValueError: the file is damaged, or holds something else.

    Example:
        >>> from anabook.experiments import make
        >>> config = make("cifar10", "float")
        >>> found, net = read(save(build(config), config, Path("weights")))
        >>> found == config, net.training
        (True, False)
    """
    try:
        arrays = arrays_in(path)
        found = Config.from_dict(json.loads(arrays.pop("config").tobytes()))
        state = _unpacked(arrays)
    except WRONG as error:
        raise ValueError(_unreadable(path, error)) from None
    with torch.random.fork_rng(devices=[]):
        net = _plain(build(found))
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"the weights in {str(path)!r} do not fit the network of their config: {error}") from None
    return found, net.eval()


def _plain(net: nn.Module) -> nn.Module:
    """A copy whose weights are the tensors that it computes with."""
    if has_noise(net):
        return training.deploy(net)
    net = copy.deepcopy(net).eval()
    for module in list(net.modules()):
        if parametrize.is_parametrized(module, "weight"):
            plain_weight(module)
    return net


def save_state(net: nn.Module, path: Path) -> Path:
    """The same for a network that no config describes: its tensors alone.

    Example:
        >>> path = save_state(nn.Linear(2, 3), Path("linear.npz"))
        >>> read_state(path, nn.Linear(2, 3))
    """
    return _write(path, _packed(net.state_dict()))


def read_state(path: Path, net: nn.Module) -> None:
    """Give a network the tensors of a file that `save_state` has written, in place.

    Raises:
        ValueError: the file is damaged, or does not fit the network.

    Example:
        >>> read_state(save_state(nn.Linear(2, 3), Path("linear.npz")), nn.Linear(2, 3))
    """
    try:
        state = _unpacked(arrays_in(path))
    except WRONG as error:
        raise ValueError(_unreadable(path, error)) from None
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"the weights in {str(path)!r} do not fit the network: {error}") from None


def _unreadable(path: Path, error: Exception) -> str:
    return f"the file {str(path)!r} holds no weights that can be read ({why(error)})."


def _write(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    with _files.replacing(path, mode=0o644) as file:
        np.savez(file, **arrays)
    return path


def _packed(state: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    arrays = {}
    for name, tensor in state.items():
        value = tensor.cpu().numpy()
        values = np.unique(value)
        if len(values) <= MOST < value.size and value.dtype.kind == "f":
            arrays[f"{name}:values"] = values
            arrays[f"{name}:shape"] = np.array(value.shape, np.int64)
            arrays[f"{name}:digits"] = pack(np.searchsorted(values, value.ravel()), max(2, len(values)))
        else:
            arrays[name] = value
    return arrays


def _unpacked(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    state = {}
    for name, value in arrays.items():
        what, _, part = name.partition(":")
        if part == "digits":
            values, shape = arrays[f"{what}:values"], tuple(map(int, arrays[f"{what}:shape"]))
            value = values[unpack(value, max(2, len(values)), math.prod(shape))].reshape(shape)
        elif part:
            continue
        state[what] = torch.from_numpy(np.array(value))
    return state
