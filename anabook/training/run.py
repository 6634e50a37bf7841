"""A run of `fit`: its steps and epochs, and all that a checkpoint must hold for it to go on."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from anabook.training import checkpoint as _checkpoint
from anabook.training._terminal import Interruption, progress_bar
from anabook.training.captured import Step
from anabook.training.devices import global_states, set_global_states, untouched
from anabook.training.evaluate import score_of
from anabook.training.history import Epoch, from_plain, plain
from anabook.training.layers import layers, set_noise
from anabook.training.modules import Quantise
from anabook.training.objectives import Objective, Score, mean_score
from anabook.training.optimisers import rate_in, step_scheduler
from anabook.training.precautions import warn_of_wide_noise
from anabook.training.quanta import check_quanta
from anabook.training.sources import Source, single_value_norm
from anabook.training.stopping import Stopper


@dataclass
class Run:
    """A run of `fit` and all that it is in the middle of."""

    net: nn.Module
    data: Source
    test: Source | None
    schedule: Any
    epochs: int
    rates: list[float] | None
    step: torch.optim.Optimizer
    scheduler: Any
    noise_every: str
    scheduler_every: str
    precision: torch.dtype | None
    path: Path | None
    checkpoint_steps: int | None
    objective: Objective
    callback: Callable[[Epoch, nn.Module], Any] | None
    reference: float
    rate: Callable[[int], float]
    n_layers: int
    stopper: Stopper | None = None
    captured: Step | None = None
    batch: list | None = None  # shapes and types of the run's first batch, for a step that is captured
    config: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    history: list[Epoch] = field(default_factory=list)
    epoch: int = 0
    at: int = 0
    sums: list[Tensor] = field(default_factory=list)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.scaler = torch.amp.GradScaler(self.data.device.type, enabled=self.precision == torch.float16)
        self.generators = [m.generator for m in self.net.modules() if isinstance(m, Quantise) and m.generator is not None]
        self.entry: dict[str, Any] | None = None  # random states at the beginning of the epoch
        self.within: dict[str, Any] | None = None  # those in the middle of it, when resumed there
        self.noise: tuple[tuple[float, float], ...] = ()
        self.base = [group["lr"] for group in self.step.param_groups]
        # What was put to evaluation mode inside a network in training mode is frozen; quantisers follow the schedule.
        self.frozen = [m for m in self.net.modules() if self.net.training and not m.training and not isinstance(m, Quantise)]
        self.single = self.data.arrays is None  # whether batches of one example are still to be looked at

    def lr_of(self, epoch: int, group: int = 0) -> float:
        """The learning rate of a group of parameters: its own at first, times what the rate has become."""
        rate, base = self.rates[epoch], self.base[group]
        if base == self.reference:
            return rate
        return base if rate == self.reference else base * (rate / self.reference)

    def refuse_single(self, x: Tensor) -> None:
        """Refuse a batch of one example, of which x is a sample, if a batch normalisation takes its variance from it."""
        name = single_value_norm(self.net, x, self.frozen)
        if name is None:
            return
        advice = "let the data leave out such a batch (drop_last=True), or choose another batch size"
        if self.data.arrays is not None:
            n, size = len(self.data.arrays[0]), self.data.batch_size
            advice = f"choose another batch_size than {size} for {n} examples"
            if n > size > 1:
                advice += ", or pass drop_last=True"
            elif n == 1:
                advice = "train on two examples at least"
        raise ValueError(
            f"a batch has one example only, and the batch normalisation {name!r} cannot take a variance of "
            f"one value: {advice}."
        )

    def train(self, interruption: Interruption, progress: bool | None) -> list[Epoch]:
        with progress_bar(progress, self.epochs, self.epoch) as bar:
            while self.epoch < self.epochs:
                noise = self.noise = self._set_noise(self.epoch)
                for number, group in enumerate(self.step.param_groups if self.rates else ()):
                    group["lr"] = self.lr_of(self.epoch, number)
                lr = self.step.param_groups[0]["lr"]
                if not self._train_epoch(interruption):
                    saved = f"; {self.path} is saved" if self.path is not None else ""
                    print(f"interrupted in epoch {self.epoch} after {self.at} steps{saved}.", file=sys.stderr)
                    return self.history
                train = self._train_score()
                clean = None if self.test is None else score_of(self.net, self.test, False)
                noisy = None if self.test is None or self.schedule is None else score_of(self.net, self.test, True)
                stopped = sum(p.numel() for p in self.stopper.resting) if self.stopper else 0
                self.history.append(Epoch(self.epoch, train, clean, noisy, noise, lr, self.seconds, stopped))
                if self.scheduler is not None and self.scheduler_every == "epoch":
                    step_scheduler(self.scheduler, train.loss)
                self.epoch, self.at, self.sums, self.seconds, self.entry = self.epoch + 1, 0, [], 0.0, None
                self.save()
                bar(self.history[-1])
                if self._called_back():
                    break
        return self.history

    def _called_back(self) -> bool:
        """Whether the callback wants the training to end."""
        if self.callback is None:
            return False
        modes = [(module, module.training) for module in self.net.modules()]
        generators = [(g, g.get_state()) for g in (*self.generators, *self.data.generators)]
        apart = contextlib.nullcontext() if self.stopper is None else self.stopper.suspended()
        whole = contextlib.nullcontext() if self.captured is None else self.captured.suspended()
        with untouched(self.data.device), apart, whole:
            answer = self.callback(self.history[-1], self.net)
        for module, training in modes:
            module.training = training
        for generator, state in generators:
            generator.set_state(state)
        return answer is True

    def _train_epoch(self, interruption: Interruption) -> bool:
        """All steps of the epoch, or those that are left; whether it came to its end."""
        self.net.train()
        for module in self.frozen:
            module.training = False
        start, before = time.perf_counter(), self.seconds
        if self.entry is None:
            self.entry = self._random_states()
        else:
            self._set_random_states(self.entry)
        batches = self.data.shuffled()
        for _ in itertools.islice(batches, self.at):  # done before a resumption
            pass
        if self.within is not None:
            # The random states of that moment, before the next batch is drawn from them.
            self._set_random_states(self.within, data=False)
            self.within = None
        for number, (rows, x, y) in enumerate(batches, self.at):
            if self.noise_every == "iteration" and self.schedule is not None and number:
                self._set_noise(self.epoch + number / len(self.data))
            if self.single and (number == 0 and self.data.last_batch() == 1 or len(x) == 1):
                self.refuse_single(x[:1])
                self.single = False
            self._step(rows, x, y)
            self.at = number + 1
            self.seconds = before + time.perf_counter() - start
            if interruption.came:
                self.save()
                return False
            if self.checkpoint_steps is not None and self.at % self.checkpoint_steps == 0:
                self.save()
        return True

    def _step(self, rows: Tensor | None, x: Tensor | None, y: Tensor) -> None:
        x = self.data.inputs(rows) if x is None and not self._cached(rows) else x
        if self.captured is None:
            loss, row, _ = self.gradients(rows, x, y)
            self.update()
        else:
            loss, row, _ = self.captured(x, y)
        if self.scheduler is not None and self.scheduler_every == "iteration":
            step_scheduler(self.scheduler, loss)
        self.sums.append(row)

    def gradients(self, rows: Tensor | None, x: Tensor | None, y: Any) -> tuple[Tensor, Tensor, Any]:
        """The forward and the backward pass of a batch: its loss, its row of the score, the outputs."""
        stopper = self.stopper
        with self.autocast():
            outputs = stopper.forward(rows) if x is None else self.net(x)
            loss = self.objective(outputs, y, self.data.extremes)
        self.step.zero_grad()
        if stopper is not None:
            stopper.watch(loss)
        if loss.requires_grad or stopper is None:
            self.scaler.scale(loss).backward()
        if stopper is not None:
            stopper.settle()
        return loss.detach(), self.objective.row(loss, outputs, y, len(rows) if x is None else len(x)), outputs

    def update(self) -> None:
        """The optimiser's step."""
        if self.scaler.is_enabled():
            self.scaler.step(self.step)
            self.scaler.update()
        else:
            self.step.step()

    def _cached(self, rows: Tensor | None) -> bool:
        return rows is not None and self.stopper is not None and self.stopper.rule.cache

    def autocast(self) -> Any:
        """The context of the forward pass."""
        kind = self.data.device.type
        if self.precision is None and not torch.amp.is_autocast_available(kind):
            return contextlib.nullcontext()
        return torch.autocast(kind, self.precision, enabled=self.precision is not None)

    def _train_score(self) -> Score:
        # The device is waited for at the end of an epoch, not at each step: for learned quanta once, then for all the losses.
        check_quanta(self.net)
        rows = torch.stack(self.sums).cpu().double().numpy()
        wrong = ~np.isfinite(rows[:, 0]) & (rows[:, 2] > 0)
        if wrong.any():
            first = int(np.argmax(wrong))
            raise FloatingPointError(
                f"the loss became {rows[first, 0]} in epoch {self.epoch}, step {first}: lower the "
                f"learning rate, or look for such values in the data{self._last_good()}."
            )
        return mean_score(rows)

    def _last_good(self) -> str:
        good = self.path is not None and os.path.exists(self.path)
        return f"; the last good state is in {os.fspath(self.path)!r}" if good else ""

    def _set_noise(self, t: float) -> tuple[tuple[float, float], ...]:
        noise: tuple[tuple[float, float], ...] = ()
        if self.schedule is not None:
            set_noise(self.net, self.schedule, t)
            if t == 0:
                warn_of_wide_noise(self.net)
            noise = tuple(
                next((m.mean, m.std) for m in (layer.weight, *layer.activations) if m) for layer in layers(self.net)
            )
        if self.stopper is not None:
            self.stopper.renew()
        return noise

    def save(self) -> None:
        """Write the checkpoint, if one was asked for and loss and parameters are finite."""
        if self.path is None:
            return
        if self.sums:
            self._train_score()
        for name, tensor in self.net.state_dict().items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                where = f"epoch {self.epoch}, step {self.at - 1}" if self.at else f"the last step of epoch {self.epoch - 1}"
                raise FloatingPointError(
                    f"{name} stopped being finite by {where}: lower the learning rate{self._last_good()}."
                )
        _checkpoint.save(
            self.path,
            {
                "format": _checkpoint.FORMAT,
                "config": self.config,
                "config_hash": _checkpoint.config_hash(self.config),
                "settings": self.settings,
                "epoch": self.epoch,
                "step": self.at,
                "network": self.net.state_dict(),
                "optimiser": self.step.state_dict(),
                "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
                "scaler": self.scaler.state_dict(),
                "random_states": self._random_states(),
                "random_states_at_epoch_start": self.entry,
                "batch": self.batch,
                "sums": torch.stack(self.sums).cpu() if self.sums else None,
                "seconds": self.seconds,
                "noise": self.noise,
                "history": [plain(epoch) for epoch in self.history],
            },
        )

    def resume(self) -> bool:
        """Take up the checkpoint's state, if there is one."""
        if self.path is None or not os.path.exists(self.path):
            return False
        state = _checkpoint.load(self.path)
        _checkpoint.check(self.path, self._continued(state), self.config, state.get("settings"), self.settings)
        self.net.load_state_dict(state["network"])
        self.step.load_state_dict(state["optimiser"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.at, self.seconds = state["epoch"], state["step"], state["seconds"]
        self.history = [from_plain(**epoch) for epoch in state["history"]]
        self.batch = state.get("batch")
        self.sums = [] if state["sums"] is None else list(state["sums"].to(self.data.device))
        if self.at:
            self.entry, self.within = state["random_states_at_epoch_start"], state["random_states"]
        else:
            self._set_random_states(state["random_states"])
        return True

    def _continued(self, state: dict[str, Any]) -> dict[str, Any]:
        """The checkpoint's config, with another number of epochs if what is done would have been done the same way.

        Raises:
            ValueError: more is done than there is to do.
        """
        saved = {**_checkpoint.DEFAULTS, **state["config"]}
        planned, begun = saved["epochs"], state["epoch"] + (state["step"] > 0)
        if planned == self.epochs:
            return saved
        if self.epochs < begun:
            raise ValueError(
                f"the checkpoint {str(self.path)!r} is of a run that has begun {begun} epochs, more than the "
                f"epochs={self.epochs} asked for; choose another file, or delete it to start afresh."
            )
        same = {"epochs"}
        if self._same_rates(state, planned):
            same.add("lr")
        if self._same_noise(state, planned):
            same.add("schedule")
        return saved | {name: self.config[name] for name in same}

    def _same_rates(self, state: dict[str, Any], planned: int) -> bool:
        with contextlib.suppress(Exception):  # a function of the epoch may not know all that were planned
            if _checkpoint.digest([rate_in(self.rate, epoch) for epoch in range(planned)]) == state["config"]["lr"]:
                return True
        if self.rates is None:
            return False
        done = [epoch["lr"] for epoch in state["history"]]
        if state["step"]:
            done.append(state["optimiser"]["param_groups"][0]["lr"])
        return done == [self.lr_of(epoch) for epoch in range(len(done))]

    def _same_noise(self, state: dict[str, Any], planned: int) -> bool:
        with contextlib.suppress(Exception):
            if _checkpoint.describe_schedule(self.schedule, self.n_layers, planned) == state["config"]["schedule"]:
                return True
        if self.schedule is None or self.noise_every == "iteration" or state["step"] and "noise" not in state:
            return False
        done = [epoch["noise"] for epoch in state["history"]] + ([state["noise"]] if state["step"] else [])
        now = [[tuple(map(float, self.schedule(layer, t))) for layer in range(self.n_layers)] for t in range(len(done))]
        return now == [[tuple(pair) for pair in noise] for noise in done]

    def _random_states(self) -> dict[str, Any]:
        return {
            **global_states(self.data.device),
            "quantisers": [g.get_state() for g in self.generators],
            "data": self.data.random_state,
        }

    def _set_random_states(self, states: dict[str, Any], data: bool = True) -> None:
        set_global_states(states, self.data.device)
        for generator, state in zip(self.generators, states["quantisers"]):
            generator.set_state(state)
        if data and states["data"] is not None:
            self.data.random_state = states["data"]
