"""Devices and random states: what torch names works or is refused in one sentence, and every generator is seeded."""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


def find_device(device: str | torch.device) -> torch.device:
    """torch's device of this name, if the machine has it.

    Raises:
        ValueError: no device's name, or one that is not there.
    """
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(f"device must name one of torch's devices, such as 'cpu' or 'cuda', not {device!r}.") from None
    if wanted.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {device!s} was asked for, but torch finds no CUDA device: use device='cpu'.")
    if wanted.type == "cuda" and wanted.index is not None and wanted.index >= torch.cuda.device_count():
        raise ValueError(f"device {device!s} was asked for, but there are {torch.cuda.device_count()} CUDA devices.")
    if wanted.type == "meta":
        raise ValueError(f"device {device!s} was asked for, but it holds shapes only, no numbers: use device='cpu'.")
    if wanted.type != "cpu" and not _computes(wanted):
        raise ValueError(
            f"device {device!s} was asked for, but this machine, or this build of torch, has none that "
            "computes: use device='cpu'."
        )
    return wanted


def widest(device: torch.device) -> torch.dtype:
    """float64 where the device has it, or else float32; sums on the device are kept in it."""
    if device.type in ("cpu", "cuda"):
        return torch.float64
    return torch.float64 if _computes(device, torch.float64) else torch.float32


@functools.lru_cache(maxsize=64)
def _computes(device: torch.device, dtype: torch.dtype = torch.float32) -> bool:
    # Tried, since what is_available() says differs from backend to backend, and some name what they cannot do.
    try:
        return (torch.ones(2, dtype=dtype, device=device) + 1).sum().cpu().item() == 4
    except Exception:
        return False


@contextlib.contextmanager
def deterministic(cuda: bool) -> Iterator[None]:
    """cuDNN's choice of algorithms by repeatability, not by a race, while a network trains on a GPU."""
    if not cuda:
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False):
        yield


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """The global generators of torch (and its device), NumPy and Python with this seed, and as they were afterwards."""
    before = global_states(device)
    try:
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        yield
    finally:
        set_global_states(before, device)


@contextlib.contextmanager
def untouched(device: torch.device) -> Iterator[None]:
    """Whatever is drawn inside, the global generators are as before."""
    before = global_states(device)
    try:
        yield
    finally:
        set_global_states(before, device)


def global_states(device: torch.device) -> dict[str, Any]:
    """The states of all global generators that training on the device may draw from, as tensors, tuples and numbers."""
    name, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "accelerator": None if device.type in ("cpu", "cuda", "meta") else _device_state(device),
        "python": random.getstate(),
        "numpy": (str(name), torch.from_numpy(keys.astype(np.int64)), *(type(v)(v) for v in rest)),
    }


def set_global_states(states: dict[str, Any], device: torch.device) -> None:
    """Put the generators back; states that are missing, as in older files, leave theirs alone."""
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
    if states.get("accelerator") is not None and device.type not in ("cpu", "cuda"):
        _set_device_state(states["accelerator"], device)
    if "python" in states:
        version, internal, gauss = states["python"]
        random.setstate((version, tuple(internal), gauss))
    if "numpy" in states:
        name, keys, *rest = states["numpy"]
        np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))


def _device_state(device: torch.device) -> torch.Tensor | None:
    module = torch.get_device_module(device.type)
    if not hasattr(module, "get_rng_state"):
        return None
    try:
        return module.get_rng_state(device)
    except TypeError:  # a backend of one device takes no argument
        return module.get_rng_state()


def _set_device_state(state: torch.Tensor, device: torch.device) -> None:
    module = torch.get_device_module(device.type)
    try:
        module.set_rng_state(state, device)
    except TypeError:
        module.set_rng_state(state)
