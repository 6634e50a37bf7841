"""What a sweep has to do, and what it says while it runs: how many runs are done, and how long the rest will take."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from anabook.experiments.config import Config


@dataclass
class Plan:
    """What a sweep has to do.

    Attributes:
        todo: configs without a finished run, in order.
        done: how many of the sweep's runs are recorded.
        seconds: estimated seconds of one run by key, where a like one is recorded.
        set_aside: what was wrong with lines of the results files.

    Example:
        >>> from anabook.experiments import make
        >>> config = make("cifar10", "float")
        >>> Plan([config], done=3, seconds={config.key: 40.0}).estimate(workers=2)
        40.0
    """

    todo: list[Config]
    done: int
    seconds: dict[str, float]
    set_aside: list[str] = field(default_factory=list)

    def estimate(self, workers: int) -> float | None:
        """Seconds for all that is left, None without any like run to judge from."""
        if not self.todo:
            return 0.0
        if not self.seconds:
            return None
        mean = statistics.fmean(self.seconds.values())
        each = [self.seconds.get(config.key, mean) for config in self.todo]
        return max(sum(each) / workers, *each)  # a run is not shared among workers


class Progress:
    """A line after each run: how many are done, and how long the rest will take."""

    def __init__(self, todo: Plan, workers: int, report: Callable[[str], None]) -> None:
        self.total, self.workers, self.report = len(todo.todo), workers, report
        self.plan, self.left = todo, {config.key for config in todo.todo}
        self.finished = self.failed = 0
        self.start = time.monotonic()
        first = todo.estimate(workers)
        report(
            f"{self.total} runs to do, {todo.done} recorded already, {workers} at a time"
            + (f", about {duration(first)}." if first else ".")
        )

    def note(self, config: Config, record: dict[str, Any]) -> None:
        self.left.discard(config.key)
        if record["status"] == "done":
            self.finished += 1
            text = f"{record['accuracy']:.1%} in {duration(record['seconds'])}"
        else:
            self.failed += 1
            text = f"FAILED: {record['error']}"
        ended = self.finished + self.failed
        remaining = (time.monotonic() - self.start) / ended * len(self.left)
        self.report(f"[{ended}/{self.total}] {config.label}: {text}; {duration(remaining)} left")

    def close(self) -> None:
        self.report(f"{self.finished} runs finished, {self.failed} failed, in {duration(time.monotonic() - self.start)}.")


def duration(seconds: float) -> str:
    """For people: "48 s", "12 min", "3 h 20 min".

    Example:
        >>> duration(48), duration(12_000)
        ('48 s', '3 h 20 min')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def print_line(text: str) -> None:
    """Report on standard error, at once.

    Example:
        >>> print_line("3 of 4 runs done")
    """
    print(text, file=sys.stderr, flush=True)
