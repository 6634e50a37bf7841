"""Around a run at a terminal: Ctrl-C, and a progress bar."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from anabook.training.history import Epoch


class Interruption:
    """While open, the first SIGINT is noted in `came`; the second one interrupts as ever."""

    def __enter__(self) -> Interruption:
        self.came, self._old = False, None
        if threading.current_thread() is threading.main_thread():
            self._old = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: Any) -> None:
        if self._old is not None:
            signal.signal(signal.SIGINT, self._old)

    def _note(self, number: int, frame: Any) -> None:
        if self.came:
            raise KeyboardInterrupt
        self.came = True


@contextlib.contextmanager
def progress_bar(progress: bool | None, total: int, initial: int) -> Iterator[Callable[[Epoch], None]]:
    """A function to call after each epoch."""
    if progress is None:
        progress = sys.stderr.isatty()
    try:
        from tqdm import tqdm  # a nicety; the package does not ask for it
    except ModuleNotFoundError:
        progress = False
    if not progress:
        yield lambda _: None
        return
    with tqdm(total=total, initial=initial, unit="epoch", file=sys.stderr) as bar:

        def show(epoch: Epoch) -> None:
            scores = {"loss": f"{epoch.train.loss:.4f}"}
            if epoch.test is not None:
                scores["test"] = f"{epoch.test.accuracy:.2%}"
            bar.set_postfix(scores, refresh=False)
            bar.update()

        yield show
