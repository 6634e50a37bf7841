"""What captures a piece of work on a GPU, so that it can be replayed in one launch: the few calls of CUDA's graphs."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

import torch

_Made = TypeVar("_Made")


class GraphBackend(Protocol):
    """What `captured.Replayed` asks of a device.

    Attributes:
        capturable: whether torch's optimisers are to be told, by their flag of this name, that they are captured.
    """

    capturable: bool

    def aside(self) -> contextlib.AbstractContextManager[None]:
        """A context for steps that prepare a capture."""

    def watching(self) -> contextlib.AbstractContextManager[list]:
        """A context whose list has, afterwards, an entry for each time that something waited for the device."""

    def capture(self, work: Callable[[], _Made]) -> tuple[Callable[[], None], _Made]:
        """What repeats the work, which is not done yet, and the tensors that each repetition writes its results to."""


class CudaGraphs:
    """The same for CUDA.

    Args:
        device: the GPU.
        generators: of random numbers that the work draws from, beside the device's own.
    """

    capturable = True

    def __init__(self, device: torch.device, generators: Iterable[torch.Generator]) -> None:
        self.device = device
        self.generators = [generator for generator in generators if generator.device.type == "cuda"]
        self.stream = torch.cuda.Stream(device)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        # On the stream of the capture, since autograd remembers where a parameter's gradient was first added up.
        outside = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(outside)
        with torch.cuda.stream(self.stream):
            yield
        outside.wait_stream(self.stream)

    @contextlib.contextmanager
    def watching(self) -> Iterator[list]:
        waits: list[str] = []
        before = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode(max(before, 1))
            try:
                yield waits
            finally:
                torch.cuda.set_sync_debug_mode(before)
        for warning in caught:
            if "called a synchronizing CUDA operation" in str(warning.message):
                waits.append(str(warning.message))
            elif "Synchronization debug mode" not in str(warning.message):
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)

    def capture(self, work: Callable[[], _Made]) -> tuple[Callable[[], None], _Made]:
        graph = torch.cuda.CUDAGraph()
        for generator in self.generators:
            graph.register_generator_state(generator)
        # Other threads, a loader's that pins memory for instance, may go on with what a capture forbids.
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            results = work()
        return graph.replay, results
