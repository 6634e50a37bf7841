"""Dask clusters as executors: who of the workers takes runs, and what is said when the cluster is gone."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from concurrent.futures import Executor
from typing import Any

_RETRIES = 2  # of a run whose worker died, beside those that Dask allows by itself
_PLUGIN = "anabook-cards"
_CARD = "GPU"  # the resource, by the name that Dask's own pages use


class ExecutorLost(ValueError):
    """An executor gave up runs that it had taken; none of them is to blame.

    Attributes:
        runs: how many.

    Example:
        >>> print(ExecutorLost(2))
        the executor gave up 2 runs that it had taken: nothing is recorded of them; start it again, and the same sweep goes on.
    """

    def __init__(self, runs: int, who: str = "the executor gave up {}", again: str = "it") -> None:
        self.runs = runs
        left = who.format(f"{runs} run{'s' * (runs != 1)}")
        super().__init__(
            f"{left} that it had taken: nothing is recorded of {'them' if runs != 1 else 'it'}; start {again} again, and the "
            "same sweep goes on."
        )


@contextlib.contextmanager
def cluster(address: str, timeout: float = 10.0, device: str = "cpu") -> Iterator[tuple[Executor, int]]:
    """An executor of a Dask cluster, and how many runs it makes at a time: one for each worker.

    Args:
        address: of the scheduler, for example "tcp://127.0.0.1:8786".
        timeout: seconds to wait for it, and as many for its first worker.
        device: "cuda" for those workers only that offer a card: by `--resources GPU=1`, or because the variable
            CUDA_VISIBLE_DEVICES is set for them, as dask-cuda sets it. A worker makes one run at a time with it.

    Raises:
        ModuleNotFoundError: distributed is not installed.
        ValueError: no scheduler answers there, it has no workers, or none with a card. Of an `ExecutorLost` that comes
            from within: what became of the scheduler.

    Example:
        >>> try:
        ...     with cluster("tcp://127.0.0.1:1", timeout=0.1) as (executor, workers):
        ...         print(workers)
        ... except Exception as error:
        ...     print(type(error).__name__)
        ...
        ValueError
    """
    from distributed import Client

    try:
        client = Client(address, timeout=timeout)
    except (OSError, ValueError, TimeoutError) as error:
        raise ValueError(
            f"no Dask scheduler answers at {address!r} ({type(error).__name__}): start one with `dask "
            "scheduler`, and workers with `dask worker ADDRESS --nthreads 1`."
        ) from None
    wanted: dict[str, Any] = {}
    try:
        try:
            client.wait_for_workers(1, timeout=timeout)
        except TimeoutError:
            raise ValueError(
                f"the Dask cluster at {address!r} has no workers: start some with `dask worker {address} --nthreads 1`."
            ) from None
        workers = len(client.nthreads())
        if device.partition(":")[0] == "cuda":
            wanted = {"resources": {_CARD: 1}}
            workers = _with_cards(client, address)
        _check_loadable(client, address)
        executor = client.get_executor(pure=False, retries=_RETRIES, **wanted)
        executor.trouble = lambda: _trouble(client, address, bool(wanted))
        try:
            yield executor, workers
        except ExecutorLost as error:
            if client.status == "running":
                raise ExecutorLost(error.runs, f"the Dask scheduler at {address!r} gave up {{}}") from None
            who = f"the Dask scheduler at {address!r} is gone, and with it {{}}"
            raise ExecutorLost(error.runs, who, "it and its workers") from None  # they end with it
    finally:
        if wanted and client.status == "running":
            client.unregister_worker_plugin(_PLUGIN)
        with _quiet(client):
            client.close()


@contextlib.contextmanager
def _quiet(client: Any) -> Iterator[None]:
    """Without the traceback that a client logs when it is closed while it looks for a scheduler that is gone."""
    log = logging.getLogger("distributed.client")
    level = log.level
    if client.status != "running":
        log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def _check_loadable(client: Any, address: str) -> None:
    """Refuse workers that lack anabook: the first run would end them, and the sweep would wait for them for ever."""

    def load() -> str:  # sent as it stands
        try:
            import anabook.experiments.cards  # noqa: F401
        except ImportError as error:
            return str(error)
        return ""

    for worker, wrong in client.run(load, on_error="ignore").items():
        if wrong:
            raise ValueError(
                f"the worker {worker} of the Dask cluster at {address!r} cannot load anabook ({wrong}): install "
                "anabook[training,cluster] there, or end it."
            )


def _trouble(client: Any, address: str, with_cards: bool) -> str:
    """A sentence if no worker is left that could take a run, asked of the scheduler; else nothing."""

    def count(dask_scheduler: Any) -> int:  # sent as it stands
        return sum(not with_cards or each.resources.get("GPU", 0) >= 1 for each in dask_scheduler.workers.values())

    try:
        if client.status != "running" or client.run_on_scheduler(count):
            return ""
    except Exception:  # gone in this moment, which the runs will tell; or a scheduler that answers no such questions
        return ""
    which = " that offers a graphics card" if with_cards else ""
    return f"the Dask cluster at {address!r} has no worker left{which}: runs wait until there is one."


def _with_cards(client: Any, address: str) -> int:
    """How many workers offer a card; those that say so by CUDA_VISIBLE_DEVICES only are entered as if they had declared it."""
    from distributed.diagnostics.plugin import WorkerPlugin

    async def offer(dask_worker: Any) -> float:
        # Sent to all workers as it stands, so that those of other projects need not have anabook.
        import os

        first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
        if _CARD not in dask_worker.state.total_resources and first not in ("", "-1"):
            await dask_worker.set_resources(**{_CARD: 1})
        return float(dask_worker.state.total_resources.get(_CARD, 0))

    class Cards(WorkerPlugin):  # for workers that come later, or come again
        name = _PLUGIN

        async def setup(self, worker: Any) -> None:
            await offer(worker)

    client.register_plugin(Cards())
    workers = sum(1 for offered in client.run(offer, on_error="ignore").values() if offered >= 1)
    if not workers:
        raise ValueError(
            f"no worker of the Dask cluster at {address!r} offers a graphics card: start one for each card with "
            f"`dask worker {address} --nthreads 1 --resources GPU=1`, or all of a machine's with `dask cuda worker {address}`."
        )
    return workers
