"""Algorithm 1 of the paper: anneal the noise, train the latent weights in between; stop at any moment, and go on."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from anabook._validate import choice, flag, integer, real
from anabook.training import checkpoint as _checkpoint
from anabook.training._arguments import brief, spelt
from anabook.training._session import Interruption, progress_bar
from anabook.training.convert import check_schedule, initialise_near_thresholds, layers, set_noise, shift_by_mean
from anabook.training.devices import deterministic, find_device, global_states, seeded, set_global_states, untouched
from anabook.training.history import Epoch, from_plain, history_table, plain
from anabook.training.modules import Quantise
from anabook.training.objectives import Loss, Objective, Score, mean_score
from anabook.training.precautions import warn_of_single_levels, warn_of_wide_noise
from anabook.training.sources import Source, as_inputs, evaluating, length, single_value_norm
from anabook.training.stopping import Stopper, Stopping

__all__ = ["INITIALISATIONS", "Epoch", "Score", "evaluate", "find_device", "fit", "history_table", "recalibrate"]

INITIALISATIONS: dict[str, Callable[[nn.Module, int], None]] = {
    "near_thresholds": initialise_near_thresholds,
    "shift": lambda net, seed: shift_by_mean(net),
}
"""What `fit` can do with the latent weights before the first step, at the noise of epoch 0."""

_PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@spelt
def fit(
    net: nn.Module,
    data: Any,
    schedule: Callable[[int, float], tuple[float, float]] | None,
    *,
    epochs: int,
    batch_size: int = 256,
    optimiser: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
    lr: float | Callable[[int], float] = 1e-3,
    seed: int = 0,
    test: Any = None,
    loss: Loss | None = None,
    callback: Callable[[Epoch, nn.Module], Any] | None = None,
    scheduler: Callable[[torch.optim.Optimizer], Any] | None = None,
    noise_every: str = "epoch",
    scheduler_every: str = "epoch",
    initialise: str | None = None,
    stop: bool | Stopping = True,
    device: str | torch.device | None = None,
    precision: str | None = None,
    channels_last: bool = False,
    drop_last: bool = False,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_steps: int | None = None,
    config: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> list[Epoch]:
    """Train a network in place on the cross-entropy of its outputs, or on another loss (paper, Algorithm 1).

    At the start of epoch t every layer's noise is set to the schedule's (layer, t). Then the latent weights take one
    step of the optimiser per batch. After the last epoch the noise is left as it stands.

    On one machine the same seed, network, data and number of threads give the same weights bit for bit. The global
    generators of torch, NumPy and Python are seeded, and left as they were. A DataLoader's workers are seeded from them
    too. What cannot be promised: workers that live on from epoch to epoch (`persistent_workers=True`) repeat themselves
    with a fresh loader only, and not in a run that is resumed; nor does data that draws from a NumPy generator of its own.

    A network in evaluation mode is put to training. In one that is in training mode, parts that were put to evaluation
    mode before stay so: `net.norm.eval()` freezes a batch normalisation's statistics, and `eval()` turns off a dropout.
    Quantisers are the exception: theirs is the schedule's noise wherever they are, since without it nothing below them
    would learn.

    Ctrl-C (SIGINT) ends the training after the present step: a checkpoint is written if one was asked for, and the
    history of the complete epochs is returned. A second one interrupts at once.

    Args:
        net: a network made by `quantise`; with `schedule=None`, any network.
        data: a tuple of inputs and integer class labels, as arrays or tensors of the same length; or anything that can
            be gone through again and again and gives such pairs, a batch each, like `datasets.batches.Batches` or a
            DataLoader. Inputs are cast to the network's float type, but whole numbers that an `nn.Embedding` reads.
            Labels of −100 are left out of loss and accuracy. With `loss`, the targets are whatever it takes.
        schedule: a `Schedule` or any (layer, t) ↦ (mean, std); None leaves the noise alone.
        epochs: how many.
        batch_size: the last batch of an epoch may be smaller; for data in batches only `test` uses it.
        optimiser: called with the parameters and `lr=…`; `functools.partial` sets the rest. It may make groups of the
            parameters, each with a rate of its own.
        lr: the learning rate, or a function of the epoch. Groups of parameters keep their ratios to it.
        seed: of the order of the batches, the noise, dropout, and the initialisation.
        test: like `data`; if given, the network is evaluated on it after each epoch, without noise and with it.
        loss: called with the network's outputs and the batch's targets, gives one number; None is the cross-entropy
            with class labels. Any targets will do (floats for regression, a label for each pixel, a dictionary of
            tensors). The accuracy is NaN where they are no class labels, and an average over batches weighs each by its
            number of labels, or of examples if there are none.
        callback: called with each `Epoch` and the network, after the checkpoint of that epoch is written. If it returns
            True the training ends, and can be taken up from the checkpoint. An exception ends it as well. It is to
            look and not to touch: modes and random states are put back, and what it changes in weights is lost to a
            run that is resumed. It is not called again for the epochs before a resumption.
        scheduler: called with the optimiser, gives one of torch's learning-rate schedulers, which then starts from the
            number `lr`. A ReduceLROnPlateau is told the training loss, of the epoch or of the step.
        noise_every: "epoch" sets the noise once per epoch, as in the paper's experiments; "iteration" before every
            step, at t = epoch + step/steps.
        scheduler_every: "epoch" or "iteration": when `scheduler` takes a step.
        initialise: "near_thresholds" draws the latent weights anew (see `initialise_near_thresholds`), "shift" adds the
            mean of their noise to them (see `shift_by_mean`), both at the noise of epoch 0; None leaves them. This
            is done once: never when a run is resumed.
        stop: leave out the parts of the backward pass that give exact zeros (see `Stopping`); the weights are the same
            bit for bit. False computes them, as is done for a network that is compiled or distributed as a whole.
        device: where to train; None leaves the network where it is.
        precision: "bfloat16" or "float16" for automatic mixed precision (with loss scaling for float16).
        channels_last: keep images and convolutions in the memory order that many convolutions prefer.
        drop_last: leave out a last, smaller batch of each epoch, for data given as arrays.
        checkpoint: a file. If it is there, training goes on from it, and ends with the same weights as a run that was
            never stopped; in any case it is written after every epoch. A file from another config is refused, but for
            the number of epochs: a run can be prolonged (or cut short) where noise and learning rates of the epochs
            that are done are what they were.
        checkpoint_steps: write it after so many steps of an epoch, too.
        config: anything of the caller's own, as JSON allows, that a checkpoint must agree with.
        progress: a progress bar on standard error; None for one on a terminal only.

    Returns:
        One `Epoch` per complete epoch, those from before a resumption included. See `history_table`.

    Raises:
        FloatingPointError: the loss stopped being finite, or a parameter did (says where; the checkpoint, if one was
            asked for, is the last good one).
        ValueError, TypeError: data, schedule or settings that do not fit; a device that is not there; a checkpoint from
            another config.
    """
    epochs, batch_size = integer(epochs, "epochs", minimum=1), integer(batch_size, "batch_size", minimum=1)
    seed, drop_last = integer(seed, "seed", minimum=0, maximum=2**63 - 1), flag(drop_last, "drop_last")
    choice(noise_every, ("epoch", "iteration"), "noise_every")
    choice(scheduler_every, ("epoch", "iteration"), "scheduler_every")
    if initialise is not None:
        choice(initialise, INITIALISATIONS, "initialise")
    if checkpoint_steps is not None:
        integer(checkpoint_steps, "checkpoint_steps", minimum=1)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be a function of an Epoch and the network, not {brief(callback)}.")
    rule = _rule(stop, net)
    n_layers = _check_schedule(schedule, net)
    _check_makers(optimiser, scheduler, lr)
    path = _file(checkpoint)
    objective = Objective(loss)
    if noise_every == "iteration" and not isinstance(data, tuple) and length(data) is None:
        raise TypeError(f"noise_every='iteration' needs data with a length, and this {type(data).__name__} has none.")
    if device is not None:
        net.to(find_device(device))
    if channels_last:
        net.to(memory_format=torch.channels_last)
    batches = Source(net, data, batch_size, objective, channels_last, drop_last=drop_last)
    if rule is not None and rule.cache and batches.arrays is None:
        raise ValueError("features can be cached for data given as a tuple of arrays only: pass stop=True.")
    test = None if test is None else Source(net, test, 1024, objective, channels_last, "test")
    objective.to(batches.device)
    rate = lr if callable(lr) else lambda _: lr
    rates = [_rate(rate, epoch) for epoch in range(epochs)]
    # The rate that groups of parameters refer to: 0 would hide their ratios.
    reference = next((r for r in rates if r > 0), 0.0)
    step = _optimiser(optimiser, net, reference)
    made = None if scheduler is None else scheduler(step)
    if scheduler is not None and not hasattr(made, "step"):
        raise TypeError(f"scheduler must give one of torch's learning-rate schedulers, not {brief(made)}.")
    run = _Run(
        net=net, data=batches, test=test, schedule=schedule, epochs=epochs, rates=None if scheduler else rates, step=step,
        scheduler=made, noise_every=noise_every,
        scheduler_every=scheduler_every, precision=_precision(precision), path=path,
        checkpoint_steps=checkpoint_steps, objective=objective, callback=callback, reference=reference, rate=rate,
        n_layers=n_layers,
    )
    if batches.arrays is not None and batches.last_batch() == 1:
        run.refuse_single(batches.inputs(torch.zeros(1, dtype=torch.int64, device=batches.device)))
    if path is not None:
        _warn_of_workers(data)
        run.config = {
            "network": _checkpoint.describe_network(net), "data": _checkpoint.describe_data(batches.arrays or data),
            "schedule": _checkpoint.describe_schedule(schedule, n_layers, epochs), "epochs": epochs,
            "batch_size": batch_size, "optimiser": _checkpoint.describe_optimiser(step), "lr": _checkpoint.digest(rates),
            "scheduler": None if scheduler is None else _checkpoint.describe_optimiser(run.scheduler), "seed": seed,
            "noise_every": noise_every, "scheduler_every": scheduler_every, "initialise": initialise,
            "still": bool(rule and rule.still), "cache": bool(rule and rule.cache), "precision": precision,
            "channels_last": bool(channels_last), "config": None if config is None else _checkpoint.digest(dict(config)),
            "loss": _checkpoint.describe_loss(loss), "drop_last": drop_last,
        }
    with seeded(seed, batches.device), deterministic(batches.device.type == "cuda"), Interruption() as interruption:
        resumed = run.resume()
        if initialise is not None and not resumed:
            if schedule is not None:
                set_noise(net, schedule, 0)
            INITIALISATIONS[initialise](net, seed)
        if not resumed:
            warn_of_single_levels(net)
        run.stopper = None if rule is None else Stopper(net, rule, batches.arrays and batches.arrays[0])
        try:
            return run.train(interruption, progress)
        finally:
            if run.stopper is not None:
                run.stopper.close()


@spelt
def evaluate(net: nn.Module, data: Any, batch_size: int = 1024, *, noise: bool = False, loss: Loss | None = None) -> Score:
    """Loss and accuracy in evaluation mode, without noise unless it is asked for. The modes are put back afterwards.

    Args:
        net: any classifier.
        data: a tuple of inputs and integer class labels, or batches of them, as for `fit`.
        batch_size: bounds the memory; without noise the result does not depend on it but for rounding.
        noise: leave the quantisers with their noise and strategy, as in training; normalisation and dropout are in
            evaluation mode either way.
        loss: as for `fit`; None is the cross-entropy. One of your own is averaged over the batches, each weighted by its
            number of labels or examples.
    """
    batch_size, noise = integer(batch_size, "batch_size", minimum=1), flag(noise, "noise")
    return _evaluate(net, Source(net, data, batch_size, Objective(loss)), noise)


@spelt
def recalibrate(net: nn.Module, inputs: Any, batch_size: int = 1024) -> None:
    """Measure the running means and variances of the batch normalisations anew, in place and without noise.

    Needed where weights or features were changed after training, by rounding for instance. One pass over the inputs,
    plain averages over the batches; everything but the statistics is left as it was.

    Args:
        net: any network.
        inputs: an array or a tensor, as for `fit`, without labels.
        batch_size: large batches are more exact.
    """
    batch_size = integer(batch_size, "batch_size", minimum=2)
    x = as_inputs(net, inputs)
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    if not norms:
        raise ValueError(f"this {type(net).__name__} has no batch normalisation with running statistics.")
    parts = [*x.split(batch_size)]
    if len(parts[-1]) == 1 and (name := single_value_norm(net, x[:1])) is not None:
        if len(parts) == 1:
            raise ValueError(f"inputs must hold two examples at least, as the batch normalisation {name!r} cannot take a "
                             "variance of one value.")
        parts[-2:] = [torch.cat(parts[-2:])]
    momenta = [norm.momentum for norm in norms]
    with evaluating(net):
        try:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum, norm.training = None, True
            with torch.no_grad():
                for batch in parts:
                    net(batch)
        finally:
            for norm, momentum in zip(norms, momenta):
                norm.momentum = momentum


@dataclass
class _Run:
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
    config: dict[str, Any] = field(default_factory=dict)
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
        self.frozen = [m for m in self.net.modules()
                       if self.net.training and not m.training and not isinstance(m, Quantise)]
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
        raise ValueError(f"a batch has one example only, and the batch normalisation {name!r} cannot take a variance of "
                         f"one value: {advice}.")

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
                clean = None if self.test is None else _evaluate(self.net, self.test, False)
                noisy = None if self.test is None or self.schedule is None else _evaluate(self.net, self.test, True)
                stopped = sum(p.numel() for p in self.stopper.resting) if self.stopper else 0
                self.history.append(Epoch(self.epoch, train, clean, noisy, noise, lr, self.seconds, stopped))
                if self.scheduler is not None and self.scheduler_every == "epoch":
                    self.scheduler.step(*([train.loss] if self._plateau() else []))
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
        with untouched(self.data.device), apart:
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
        stopper = self.stopper
        x = self.data.inputs(rows) if x is None and not self._cached(rows) else x
        with self._autocast():
            outputs = stopper.forward(rows) if x is None else self.net(x)
            loss = self.objective(outputs, y, self.data.extremes)
        self.step.zero_grad()
        if stopper is not None:
            stopper.watch(loss)
        if loss.requires_grad or stopper is None:
            self.scaler.scale(loss).backward()
        if stopper is not None:
            stopper.settle()
        if self.scaler.is_enabled():
            self.scaler.step(self.step)
            self.scaler.update()
        else:
            self.step.step()
        if self.scheduler is not None and self.scheduler_every == "iteration":
            self.scheduler.step(*([loss.item()] if self._plateau() else []))
        self.sums.append(self.objective.row(loss, outputs, y, len(rows) if x is None else len(x)))

    def _cached(self, rows: Tensor | None) -> bool:
        return rows is not None and self.stopper is not None and self.stopper.rule.cache

    def _autocast(self) -> Any:
        kind = self.data.device.type
        if self.precision is None and not torch.amp.is_autocast_available(kind):
            return contextlib.nullcontext()
        return torch.autocast(kind, self.precision, enabled=self.precision is not None)

    def _plateau(self) -> bool:
        return isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)

    def _train_score(self) -> Score:
        # One wait for the device per epoch, not one per step.
        rows = torch.stack(self.sums).cpu().double().numpy()
        wrong = ~np.isfinite(rows[:, 0]) & (rows[:, 2] > 0)
        if wrong.any():
            first = int(np.argmax(wrong))
            raise FloatingPointError(f"the loss became {rows[first, 0]} in epoch {self.epoch}, step {first}: lower the "
                                     f"learning rate, or look for such values in the data{self._last_good()}.")
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
            noise = tuple(next((m.mean, m.std) for m in (layer.weight, *layer.activations) if m)
                          for layer in layers(self.net))
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
                raise FloatingPointError(f"{name} stopped being finite by {where}: lower the learning rate"
                                         f"{self._last_good()}.")
        _checkpoint.save(self.path, {
            "format": _checkpoint.FORMAT,
            "config": self.config,
            "config_hash": _checkpoint.config_hash(self.config),
            "epoch": self.epoch,
            "step": self.at,
            "network": self.net.state_dict(),
            "optimiser": self.step.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random_states": self._random_states(),
            "random_states_at_epoch_start": self.entry,
            "sums": torch.stack(self.sums).cpu() if self.sums else None,
            "seconds": self.seconds,
            "noise": self.noise,
            "history": [plain(epoch) for epoch in self.history],
        })

    def resume(self) -> bool:
        """Take up the checkpoint's state, if there is one."""
        if self.path is None or not os.path.exists(self.path):
            return False
        state = _checkpoint.load(self.path)
        _checkpoint.check(self.path, self._continued(state), self.config)
        self.net.load_state_dict(state["network"])
        self.step.load_state_dict(state["optimiser"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.at, self.seconds = state["epoch"], state["step"], state["seconds"]
        self.history = [from_plain(**epoch) for epoch in state["history"]]
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
            raise ValueError(f"the checkpoint {str(self.path)!r} is of a run that has begun {begun} epochs, more than the "
                             f"epochs={self.epochs} asked for; choose another file, or delete it to start afresh.")
        same = {"epochs"}
        if self._same_rates(state, planned):
            same.add("lr")
        if self._same_noise(state, planned):
            same.add("schedule")
        return saved | {name: self.config[name] for name in same}

    def _same_rates(self, state: dict[str, Any], planned: int) -> bool:
        with contextlib.suppress(Exception):  # a function of the epoch may not know all that were planned
            if _checkpoint.digest([_rate(self.rate, epoch) for epoch in range(planned)]) == state["config"]["lr"]:
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


def _evaluate(net: nn.Module, data: Source, noise: bool) -> Score:
    objective, pairs, rows = data.objective, [], []
    with evaluating(net):
        for module in net.modules():
            if isinstance(module, Quantise):
                module.training = noise
        with torch.no_grad():
            for x, y in data.in_order():
                outputs = net(x)
                if objective.own:
                    rows.append(objective.row(objective(outputs, y, data.extremes), outputs, y, len(x)))
                else:  # all at once, so that the score does not depend on the batches
                    objective.check(outputs, y, data.extremes)
                    pairs.append((outputs, y))
            if objective.own:
                return mean_score(torch.stack(rows).cpu().double().numpy())
            outputs, y = (torch.cat(parts) for parts in zip(*pairs))
            hits, counted = (int(n) for n in objective.counts(outputs, y, len(y)))
            return Score(cross_entropy(outputs, y).item(), hits / counted) if counted else Score(math.nan, math.nan)


def _rule(stop: bool | Stopping, net: nn.Module) -> Stopping | None:
    if hasattr(net, "_orig_mod") or isinstance(net, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return None
    if isinstance(stop, Stopping):
        return stop
    return Stopping() if flag(stop, "stop") else None


def _check_schedule(schedule: Any, net: nn.Module) -> int:
    """The number of layers that the schedule is for; 0 without one."""
    if schedule is None:
        return 0
    if not callable(schedule):
        hint = ""
        if not isinstance(schedule, str) and isinstance(schedule, Iterable):
            hint = "; inputs and labels go together, as a pair: fit(net, (inputs, labels), schedule, …)"
        raise TypeError("schedule must be a Schedule, a function (layer, t) -> (mean, std), or None, not "
                        f"{brief(schedule)}{hint}.")
    n_layers = len(layers(net))
    check_schedule(schedule, n_layers)
    return n_layers


def _check_makers(optimiser: Any, scheduler: Any, lr: Any) -> None:
    """Refuse optimisers and schedulers that are made already, where something is wanted that makes them."""
    if isinstance(optimiser, torch.optim.Optimizer) or not callable(optimiser):
        raise TypeError("optimiser must be a class or a function of the parameters and lr=…, such as torch.optim.SGD or "
                        f"functools.partial(torch.optim.SGD, momentum=0.9), not {_made(optimiser)}.")
    if scheduler is not None and (hasattr(scheduler, "optimizer") or not callable(scheduler)):
        raise TypeError("scheduler must be a function of the optimiser, such as functools.partial(torch.optim."
                        f"lr_scheduler.StepLR, step_size=10), not {_made(scheduler)}.")
    if scheduler is not None and callable(lr):
        raise ValueError("lr must be a number where a scheduler is given, not a function of the epoch.")


def _made(value: Any) -> str:
    of_torch = isinstance(value, torch.optim.Optimizer) or hasattr(value, "optimizer")
    return f"a {type(value).__name__} that is made already" if of_torch else brief(value)


def _optimiser(optimiser: Callable[..., Any], net: nn.Module, lr: float) -> torch.optim.Optimizer:
    parameters = [p for p in net.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError(f"this {type(net).__name__} has no parameter that requires a gradient: there is nothing to train.")
    step = optimiser(parameters, lr=lr)
    if not isinstance(step, torch.optim.Optimizer):
        raise TypeError(f"optimiser must give one of torch's optimisers, not {brief(step)}.")
    closure = inspect.signature(step.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ValueError(f"{type(step).__name__} computes the loss several times in a step, which fit does not do: "
                         "choose another optimiser.")
    return step


def _file(checkpoint: Any) -> Path | None:
    if checkpoint is None:
        return None
    if not isinstance(checkpoint, (str, os.PathLike)):
        raise TypeError(f"checkpoint must be the path of a file, not {brief(checkpoint)}.")
    path = _checkpoint.resolve(checkpoint)
    if path.is_dir():
        raise ValueError(f"checkpoint must be the path of a file, and {str(path)!r} is a folder.")
    return path


def _warn_of_workers(data: Any) -> None:
    if getattr(data, "persistent_workers", False) and getattr(data, "num_workers", 0):
        warnings.warn("workers that live on from epoch to epoch (persistent_workers=True) keep their random states to "
                      "themselves: a run that is resumed may see other random numbers than one that was never stopped.",
                      stacklevel=4)


def _precision(precision: str | None) -> torch.dtype | None:
    return None if precision is None else _PRECISIONS[choice(precision, _PRECISIONS, "precision")]


def _rate(rate: Callable[[int], float], epoch: int) -> float:
    return real(rate(epoch), "lr", minimum=0.0)
