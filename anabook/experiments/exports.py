"""Runs as integer networks: which network, what its inputs are as integers, and the files that it is written to."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from anabook import training
from anabook._validate import path as path_at
from anabook.datasets import store
from anabook.deploy.reading import to_integer
from anabook.experiments import records, shipped
from anabook.experiments import weights as _weights
from anabook.experiments.config import Config
from anabook.experiments.networks import build, has_noise
from anabook.experiments.parts import parts
from anabook.training import checkpoint as _checkpoint

_KEY = re.compile(r"[0-9a-f]{16}")


class Integers(NamedTuple):
    """What a run's inputs are as whole numbers z, so that its network takes (z − mean) / std.

    Attributes:
        shape: of one example.
        mean, std: of the whole numbers.
        high: the greatest one; the least is 0.
        times: how often the stored number goes into z: images that are made smaller are sums, not averages, of pixels.
    """

    shape: tuple[int, ...]
    mean: float
    std: float
    high: int
    times: int


def find(run: str | Path, folder: Path | None = None, config: Config | None = None) -> tuple[Config, nn.Module]:
    """The network of a run, deployed, and the run's config.

    Args:
        run: the key of a run whose final weights are there; the file of such weights; or a checkpoint.
        folder: of weights; None for the folder "weights" in the store, and for those that come with the package.
        config: of the run, which a checkpoint does not hold.

    Raises:
        ValueError: there is no such run or file; the file is damaged, of another kind or of another run; a network without
            quantisers.

    Example:
        >>> from anabook.experiments import make
        >>> config = make("cifar10", "uniform-mode-static", width=1 / 16)
        >>> path = _weights.save(build(config), config, Path("weights"))
        >>> found, net = find(config.key, Path("weights"))
        >>> found == config, type(net).__name__
        (True, 'Sequential')
    """
    path = path_at(run, "the run")
    if path.is_file() and path.suffix != ".npz":
        return _of_checkpoint(path, config)
    if config is not None:
        raise ValueError(f"--config is for checkpoints; final weights, as in {str(run)!r}, hold their config themselves.")
    named = not path.is_file()
    path = _file(run, folder)
    found, net = _weights.read(path)
    if named and found.key != run:
        raise ValueError(f"the file {str(path)!r} holds the weights of another run: {found.label}, {found.key}.")
    _check_quantised(net, found)
    return found, net


def _file(run: str | Path, folder: Path | None) -> Path:
    """The file that a run is read from."""
    path = path_at(run, "the run")
    return path if path.is_file() else _file_of(str(run), folder)


def _file_of(key: str, folder: Path | None) -> Path:
    """The file of a run's weights in a folder; without one, in the store or among those that come with the package."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} is no file, and no key of a run either, which has sixteen digits from 0 to 9 and a to f.")
    place = store.directory() / "weights" if folder is None else folder
    path = place / f"{key}.npz"
    if path.is_file():
        return path
    if folder is None:
        with contextlib.suppress(ValueError, FileNotFoundError):
            return shipped.path(f"weights/{key}.npz")
    there = sorted(each.stem for each in place.glob("*.npz"))
    such = f", such as {there[0]}" if there else ""
    raise ValueError(
        f"there are no weights of the run {key!r} in {str(place)!r}, which holds those of {len(there)} runs{such}."
    )


def _of_checkpoint(path: Path, config: Config | None) -> tuple[Config, nn.Module]:
    state = _checkpoint.load(path)
    if config is None:
        raise ValueError(f"the checkpoint {str(path)!r} does not say which network it is of: name its config with --config.")
    if state["config"].get("config") != _checkpoint.digest({"run": config.key}):
        raise ValueError(f"the checkpoint {str(path)!r} is of another run than {config.label}, {config.key}.")
    with torch.random.fork_rng(devices=[]):
        net = build(config)
    try:
        net.load_state_dict(state["network"])
    except RuntimeError as error:
        raise ValueError(f"the checkpoint {str(path)!r} does not fit the network of its config: {error}") from None
    _check_quantised(net, config)
    return config, training.deploy(net)


def _check_quantised(net: nn.Module, config: Config) -> None:
    if config.unit == "float":
        raise ValueError(f"{config.label} is a network in float; integer networks are made of quantised ones.")
    if not has_noise(net):
        raise ValueError(
            f"{config.label} is a baseline with quantisers of its own; integer networks are made of those "
            "with the package's."
        )


def integers(config: Config, mean: float | None = None, std: float | None = None) -> Integers:
    """How the inputs of a run are read as integers.

    Args:
        config: of the run.
        mean, std: of the inputs that it trained on, where the data set is not prepared here; None to compute them as the run
            did.

    Raises:
        NotPrepared: the data set is not in the store, and mean and std are not given.
        ValueError: only one of them is given.

    Example:
        >>> from anabook.experiments import make
        >>> integers(make("cifar10", "uniform-mode-static", size="scaled"), mean=120.5, std=60.25)
        Integers(shape=(3, 16, 16), mean=482.0, std=241.0, high=1020, times=4)
    """
    if (mean is None) != (std is None):
        raise ValueError("mean and std belong together: give both, or none to compute them from the data.")
    if mean is None:
        held_out = parts(config).held_out
        mean, std = held_out.mean, held_out.std
    times = config.shrink**2
    return Integers(config.task.shape_at(config.shrink), float(mean) * times, float(std) * times, 255 * times, times)


def _check_places(source: Path, onnx: Path | None, npz: Path | None, c: Path | None) -> None:
    """Refuse, before anything is written, files in each other's place, in that of a folder or of what the run is read from."""
    named = [("--onnx", onnx), ("--npz", npz), *(("--c", c and c / f"network.{end}") for end in "hc")]
    taken = {source.resolve(): "what the run is read from"}
    for option, place in named:
        if place is None:
            continue
        if place.is_dir():
            raise ValueError(f"{option} cannot write {str(place)!r}, which is a folder.")
        other = taken.setdefault(place.resolve(), f"the file of {option}")
        if other != f"the file of {option}":
            raise ValueError(f"{option} would write over {other}, {str(place)!r}: name another file.")
    for place in (onnx and onnx.parent, npz and npz.parent, c):
        if place is not None:
            records.check_writable(place)


def export(
    run: str | Path,
    *,
    onnx: Path | None = None,
    npz: Path | None = None,
    c: Path | None = None,
    weights: Path | None = None,
    config: Config | None = None,
    mean: float | None = None,
    std: float | None = None,
    packed: bool = False,
) -> tuple[Config, Any, list[Path]]:
    """Write the integer network of a run.

    Args:
        run, weights, config: see `find`.
        onnx, npz: files to write.
        c: a folder to write C into.
        mean, std: see `integers`.
        packed: store the ONNX model's weights in 2 or 4 bits.

    Returns:
        The run's config, its `IntegerNetwork`, and the files.

    Raises:
        ValueError: there is nothing to write, or a file would be written over another one of them, over the run's own, or in
            place of a folder; or see `find`, `integers` and `deploy.to_integer`.
        OSError: a folder cannot be written to.
        ModuleNotFoundError: onnx is not installed.

    Example:
        >>> from anabook.experiments import make
        >>> config = make("cifar10", "uniform-mode-static", width=1 / 16)
        >>> file = _weights.save(build(config), config, Path("weights"))
        >>> _, ints, files = export(file, npz=Path("net.npz"), mean=120.0, std=64.0)
        >>> ints.input.high, [file.name for file in files]
        (1020, ['net.npz'])
    """
    if onnx is None and npz is None and c is None:
        raise ValueError("there is nothing to write: name --onnx FILE, --npz FILE, --c FOLDER or several of them.")
    if packed and onnx is None:
        raise ValueError("--packed is about ONNX models: name --onnx FILE, or leave out --packed.")
    config, net = find(run, weights, config)
    given = integers(config, mean, std)
    example = np.zeros((1, *given.shape), np.uint16)
    ints = to_integer(net, example, mean=given.mean, std=given.std, bounds=(0, given.high))
    _check_places(_file(run, weights), onnx, npz, c)
    written: list[Path] = []
    if onnx is not None:
        written.append(ints.to_onnx(onnx, packed=packed))
    if npz is not None:
        written.append(ints.save(npz))
    if c is not None:
        written.extend(ints.to_c(c))
    return config, ints, written


def report(ints: Any, c: bool) -> str:
    """What an integer network costs, as text; with `c` also how large its C is, where this machine can compile it.

    Example:
        >>> import numpy as np
        >>> from anabook.deploy.network import IntegerNetwork
        >>> from anabook.deploy.steps import Input, Weighted
        >>> step = Weighted(name="sum", inputs=("input",), weights=np.ones((1, 5), np.int8))
        >>> "Horowitz" in report(IntegerNetwork(Input((5,), 0, 15), [step]), c=False)
        True
    """
    try:
        return str(ints.report(c=c))
    except FileNotFoundError as error:
        return f"{ints.report()}\n\nThe size of the C code was not measured: {error}"
