"""Which graphics card a process trains on: one of its own, chosen before torch is loaded there."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_SHARING = 64  # how many processes may share a card before one more is not counted
_lock = threading.Lock()
_taken: dict[str, str] = {}
_held: list[Any] = []  # a card is this process's as long as the lock lives


class NoDevice(ValueError):
    """A worker lacks the device that runs were to be made on: no run is to blame."""


def named() -> list[str] | None:
    """The cards that the environment variable CUDA_VISIBLE_DEVICES leaves to this process; None where it is not set.

    Example:
        >>> named() is None or isinstance(named(), list)
        True
    """
    text = os.environ.get(_VISIBLE)
    if text is None:
        return None
    words = [word.strip() for word in text.split(",")]
    end = next((i for i, word in enumerate(words) if word in ("", "-1")), len(words))  # as the driver reads it
    return words[:end]


def visible() -> list[str]:
    """The cards that this process may use, as CUDA_VISIBLE_DEVICES names them; torch is not loaded to find out.

    Empty where there are none, and where neither that variable nor the program nvidia-smi tells.

    Example:
        >>> isinstance(visible(), list)
        True
    """
    told = named()
    return list(_present()) if told is None else told


@functools.cache
def _present() -> tuple[str, ...]:
    """All cards of this machine: numbers, or identifiers where a card is divided (MIG)."""
    try:
        said = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    cards: list[str] = []
    whole = ""
    for line in said.splitlines():
        if card := re.match(r"GPU (\d+):", line):
            whole = card[1]
            cards.append(whole)
        elif part := re.search(r"UUID: (MIG-[^)]+)\)", line):
            cards = [*(name for name in cards if name != whole), part[1]]
    return tuple(cards)


def take(device: str) -> str:
    """A card of this process's own for "cuda", or the one that "cuda:1" names; the device to train on from now on.

    The card is the only one that torch sees, if torch is loaded after this. "cuda" is the first visible card that no other
    process has taken in this way, or one of those that the fewest have; it stays this process's until it ends. Where a
    cluster has given the process a card already, this is the one.

    Args:
        device: any name of torch's; what is no "cuda" comes back as it is.

    Example:
        >>> take("cpu")
        'cpu'
    """
    if device.partition(":")[0] != "cuda":
        return device
    with _lock:
        if device not in _taken:
            _taken[device] = _take(device)
        return _taken[device]


def _take(device: str) -> str:
    cards, number = visible(), device.partition(":")[2]
    if not cards or (number and (not number.isdecimal() or int(number) >= len(cards))):
        return device  # torch knows better, or says what is wrong
    if "dask_cuda" in sys.modules:  # its workers see all cards, and each its own first
        number = number or "0"
    choice = _claim(cards, range(len(cards)) if not number else [int(number)])
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return f"cuda:{choice}"  # too late to hide the others
    if choice > 0 or "dask_cuda" not in sys.modules:
        os.environ[_VISIBLE] = cards[choice]
    return "cuda"


def _claim(cards: list[str], choices: Any) -> int:
    """Take the least used of the cards, for as long as this process lives."""
    from filelock import FileLock, Timeout

    who = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "")
    folder = Path(tempfile.gettempdir()) / f"anabook-cards-{who}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for turn in range(_SHARING):
            for i in choices:
                lock = FileLock(folder / f"{re.sub(r'[^A-Za-z0-9-]', '_', cards[i])}.{turn}.lock")
                try:
                    lock.acquire(blocking=False)
                except Timeout:
                    continue
                _held.append(lock)
                return i
    except OSError:  # no place for locks: then nobody can know
        pass
    return next(iter(choices))
