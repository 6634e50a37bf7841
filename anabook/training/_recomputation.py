"""Draws under gradient checkpointing: a forward pass that is run again sees what it saw first.

`torch.utils.checkpoint` forgets what a part of a network computes and, in the backward pass, runs the part once more.
It sets the global generator of random numbers back for that, and knows of no other. So the keys that a generator of
one's own gave are written down with the part that was run, and read when it is run again: the generator stays as it is.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import checkpoint

from anabook.training._modes import transforming

_ENGINE = {(checkpoint.__file__, "unpack_hook"), (checkpoint.__file__, "unpack_hook_with_error_cb"),
           (torch.autograd.__file__, "backward")}
"""What the backward pass of a checkpointed part calls before and after it runs the part, by file and name."""


class _Record:
    """The keys drawn in the first run of a checkpointed part, and how far each later run has read them."""

    def __init__(self) -> None:
        self.keys: list[Tensor] = []
        self.read: dict[Any, int] = {}

    def next(self, run: Any) -> Tensor | None:
        number = self.read.get(run, 0)
        self.read[run] = number + 1
        return self.keys[number] if number < len(self.keys) else None


def as_at_first(draw: Callable[[], Tensor]) -> Tensor:
    """New keys; within a checkpointed part that is run again, those of its first run.

    Args:
        draw: draws keys from a generator that checkpointing does not set back.
    """
    if torch.compiler.is_compiling() or transforming():
        return draw()
    keys, writing = None, []
    for record, run in _records():
        if run is None:
            writing.append(record)
        else:  # every one moves on; the innermost has the keys
            again = record.next(run)
            keys = again if keys is None else keys
    keys = draw() if keys is None else keys
    for record in writing:
        record.keys.append(keys)
    return keys


def _records() -> list[tuple[_Record, Any]]:
    """Of the checkpointed parts around the call, from the inside out: what runs each again, None in the first run."""
    found: dict[_Record, Any] = {}
    frame, called, again = sys._getframe(2), None, False
    while frame is not None:
        if frame.f_code.co_filename == checkpoint.__file__:
            name = frame.f_code.co_name
            # Without reentrant autograd unpack_hook calls recompute_fn; before, it may ask another part for its inputs.
            # With it, backward calls the part itself; before and after, it calls only torch.
            again = again or name == "recompute_fn"
            asks = name == "unpack_hook" and not again or name == "backward" and called in _ENGINE
            part = None if asks or name == "recompute_fn" else _part(frame.f_locals.values())
            if part is not None:
                run = None
                if name in ("unpack_hook", "backward"):
                    run, again = frame.f_locals.get("gid", torch._C._current_graph_task_id()), False
                if not hasattr(part, "anabook_record"):
                    part.anabook_record = _Record()  # lives as long as the part's graph
                found.setdefault(part.anabook_record, run)
        called, frame = (frame.f_code.co_filename, frame.f_code.co_name), frame.f_back
    return list(found.items())


def _part(values: Any) -> Any:
    """What stands for a checkpointed part in both runs, if it is among these values."""
    for value in values:
        if isinstance(value, checkpoint._CheckpointFrame):
            return value
        if getattr(type(value), "_forward_cls", None) is checkpoint.CheckpointFunction:
            return value
        if isinstance(value, types.GeneratorType) and value.gi_frame is not None:
            found = _part(value.gi_frame.f_locals.values())
            if found is not None:
                return found
    return None
