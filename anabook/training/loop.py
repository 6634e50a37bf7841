"""Algorithm 1 of the paper: anneal the noise, train the latent weights in between; stop at any moment, and go on."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from anabook._validate import choice, flag, integer, real
from anabook.training import checkpoint as _checkpoint
from anabook.training.convert import check_schedule, initialise_near_thresholds, layers, set_noise, shift_by_mean
from anabook.training.modules import Quantise
from anabook.training.stopping import Stopper, Stopping

INITIALISATIONS: dict[str, Callable[[nn.Module, int], None]] = {
    "near_thresholds": initialise_near_thresholds,
    "shift": lambda net, seed: shift_by_mean(net),
}
"""What `fit` can do with the latent weights before the first step, at the noise of epoch 0."""

_PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Score(NamedTuple):
    """Mean cross-entropy (in nats) and accuracy (between 0 and 1)."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class Epoch:
    """What one epoch of training left behind.

    Attributes:
        epoch: its number, from 0.
        train: with noise, averaged over the epoch's batches as they were trained on.
        test: without noise, on the test data after the epoch; None if none was given.
        noisy_test: the same with the epoch's noise in the quantisers; None for a network trained without a schedule.
        noise: (mean, std) of each quantised layer during the epoch (at its beginning, if the noise changes with every
            step); empty for a network trained without a schedule.
        lr: the learning rate.
        seconds: wall time of the epoch's training steps, without evaluation. Two epochs that differ here only are equal.
        stopped: how many of the network's parameters were trained without a backward pass at the end of the epoch; not
            compared either.
    """

    epoch: int
    train: Score
    test: Score | None
    noisy_test: Score | None
    noise: tuple[tuple[float, float], ...]
    lr: float
    seconds: float = field(default=math.nan, compare=False)
    stopped: int = field(default=0, compare=False)


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
    scheduler: Callable[[torch.optim.Optimizer], Any] | None = None,
    noise_every: str = "epoch",
    scheduler_every: str = "epoch",
    initialise: str | None = None,
    stop: bool | Stopping = True,
    device: str | torch.device | None = None,
    precision: str | None = None,
    channels_last: bool = False,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_steps: int | None = None,
    config: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> list[Epoch]:
    """Train a network in place on the cross-entropy of its outputs (paper, Algorithm 1).

    At the start of epoch t every layer's noise is set to the schedule's (layer, t). Then the latent weights take one
    step of the optimiser per batch. After the last epoch the noise is left as it stands.

    On one machine the same seed, network, data and number of threads give the same weights bit for bit. torch's global
    generator is left as it was.

    Ctrl-C (SIGINT) ends the training after the present step: a checkpoint is written if one was asked for, and the
    history of the complete epochs is returned. A second one interrupts at once.

    Args:
        net: a network made by `quantise`; with `schedule=None`, any network.
        data: a tuple of inputs and integer class labels, as arrays or tensors of the same length; or anything that can
            be gone through again and again and gives such pairs, a batch each, like `datasets.batches.Batches` or a
            DataLoader.
        schedule: a `Schedule` or any (layer, t) ↦ (mean, std); None leaves the noise alone.
        epochs: how many.
        batch_size: the last batch of an epoch may be smaller; for data in batches only `test` uses it.
        optimiser: called with the parameters and `lr=…`; `functools.partial` sets the rest.
        lr: the learning rate, or a function of the epoch.
        seed: of the order of the batches, the noise, dropout, and the initialisation.
        test: like `data`; if given, the network is evaluated on it after each epoch, without noise and with it.
        scheduler: called with the optimiser, gives one of torch's learning-rate schedulers, which then starts from the
            number `lr`.
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
        checkpoint: a file. If it is there, training goes on from it, and ends with the same weights as a run that was
            never stopped; in any case it is written after every epoch. A file from another config is refused.
        checkpoint_steps: write it after so many steps of an epoch, too.
        config: anything of the caller's own, as JSON allows, that a checkpoint must agree with.
        progress: a progress bar on standard error; None for one on a terminal only.

    Returns:
        One `Epoch` per complete epoch, those from before a resumption included.

    Raises:
        FloatingPointError: the loss stopped being finite, or a parameter did (says where; the checkpoint, if one was
            asked for, is the last good one).
        ValueError, TypeError: data, schedule or settings that do not fit; CUDA where there is none; a checkpoint from
            another config.
    """
    epochs, batch_size = integer(epochs, "epochs", minimum=1), integer(batch_size, "batch_size", minimum=1)
    seed = integer(seed, "seed", minimum=0)
    choice(noise_every, ("epoch", "iteration"), "noise_every")
    choice(scheduler_every, ("epoch", "iteration"), "scheduler_every")
    if initialise is not None:
        choice(initialise, INITIALISATIONS, "initialise")
    if checkpoint_steps is not None:
        integer(checkpoint_steps, "checkpoint_steps", minimum=1)
    rule = _rule(stop, net)
    n_layers = 0 if schedule is None else len(layers(net))
    if schedule is not None:
        check_schedule(schedule, n_layers)
    if scheduler is not None and callable(lr):
        raise ValueError("lr must be a number where a scheduler is given, not a function of the epoch.")
    if noise_every == "iteration" and not isinstance(data, tuple) and not hasattr(data, "__len__"):
        raise TypeError(f"noise_every='iteration' needs data with a length, and {type(data).__name__} has none.")
    if device is not None:
        net.to(find_device(device))
    if channels_last:
        net.to(memory_format=torch.channels_last)
    batches = _Source(net, data, batch_size, channels_last)
    if rule is not None and rule.cache and batches.arrays is None:
        raise ValueError("features can be cached for data given as a tuple of arrays only: pass stop=True.")
    test = None if test is None else _Source(net, test, 1024, channels_last, "test")
    rate = lr if callable(lr) else lambda _: lr
    rates = [_rate(rate, epoch) for epoch in range(epochs)]
    step = optimiser([p for p in net.parameters() if p.requires_grad], lr=rates[0])
    run = _Run(
        net=net, data=batches, test=test, schedule=schedule, epochs=epochs, rates=None if scheduler else rates, step=step,
        scheduler=None if scheduler is None else scheduler(step), noise_every=noise_every,
        scheduler_every=scheduler_every, precision=_precision(precision), path=checkpoint,
        checkpoint_steps=checkpoint_steps,
    )
    if checkpoint is not None:
        run.config = {
            "network": _checkpoint.describe_network(net), "data": _checkpoint.describe_data(batches.arrays or data),
            "schedule": _checkpoint.describe_schedule(schedule, n_layers, epochs), "epochs": epochs,
            "batch_size": batch_size, "optimiser": _checkpoint.describe_optimiser(step), "lr": _checkpoint.digest(rates),
            "scheduler": None if scheduler is None else _checkpoint.describe_optimiser(run.scheduler), "seed": seed,
            "noise_every": noise_every, "scheduler_every": scheduler_every, "initialise": initialise,
            "still": bool(rule and rule.still), "cache": bool(rule and rule.cache), "precision": precision,
            "channels_last": bool(channels_last), "config": None if config is None else _checkpoint.digest(dict(config)),
        }
    cuda = [batches.device] if batches.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), _deterministic(bool(cuda)), _Interruption() as interruption:
        torch.manual_seed(seed)
        resumed = run.resume()
        if initialise is not None and not resumed:
            if schedule is not None:
                set_noise(net, schedule, 0)
            INITIALISATIONS[initialise](net, seed)
        run.stopper = None if rule is None else Stopper(net, rule, batches.arrays and batches.arrays[0])
        try:
            return run.train(interruption, progress)
        finally:
            if run.stopper is not None:
                run.stopper.close()


def evaluate(net: nn.Module, data: Any, batch_size: int = 1024, *, noise: bool = False) -> Score:
    """Loss and accuracy in evaluation mode, without noise unless it is asked for. The modes are put back afterwards.

    Args:
        net: any classifier.
        data: a tuple of inputs and integer class labels, or batches of them, as for `fit`.
        batch_size: bounds the memory; without noise the result does not depend on it but for rounding.
        noise: leave the quantisers with their noise and strategy, as in training; normalisation and dropout are in
            evaluation mode either way.
    """
    batch_size, noise = integer(batch_size, "batch_size", minimum=1), flag(noise, "noise")
    return _evaluate(net, _Source(net, data, batch_size), noise)


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
    x = _inputs(net, inputs, "inputs")
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    if not norms:
        raise ValueError(f"this {type(net).__name__} has no batch normalisation with running statistics.")
    modes = [(module, module.training) for module in net.modules()]
    momenta = [norm.momentum for norm in norms]
    net.eval()
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum, norm.training = None, True
        with torch.no_grad():
            for batch in x.split(batch_size):
                net(batch)
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
        for module, training in modes:
            module.training = training


class _Source:
    """Batches of inputs and labels on the network's device, from arrays or from anything that gives batches.

    Attributes:
        arrays: all inputs and labels, where they were given as such.
    """

    def __init__(self, net: nn.Module, data: Any, batch_size: int, channels_last: bool = False, what: str = "data") -> None:
        self.net, self.what, self.batch_size, self.channels_last = net, what, batch_size, channels_last
        self.data, self.arrays = data, None
        if isinstance(data, tuple) or not _gives_batches(data, what):
            x, y = _tensors(net, data, what)
            self.arrays = self._order(x), y
        parameter = next(net.parameters(), None)
        self.device = torch.device("cpu") if parameter is None else parameter.device

    def __len__(self) -> int:
        return len(self.data) if self.arrays is None else -(-len(self.arrays[1]) // self.batch_size)

    def shuffled(self) -> Iterator[tuple[Tensor | None, Tensor | None, Tensor]]:
        """(rows, inputs, labels) of each batch: rows in a fresh order for arrays, inputs for batches."""
        if self.arrays is None:
            for x, y in self._batches():
                yield None, x, y
            return
        for rows in torch.randperm(len(self.arrays[1])).to(self.device).split(self.batch_size):
            yield rows, None, self.arrays[1][rows]

    def in_order(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self.arrays is None:
            return self._batches()
        return zip(*(t.split(self.batch_size) for t in self.arrays))

    def inputs(self, rows: Tensor) -> Tensor:
        return self._order(self.arrays[0][rows])

    @property
    def random_state(self) -> Any:
        """What the next pass depends on: the state of the data's `generator`, or its own `state_dict`."""
        generator = getattr(self.data, "generator", None)
        if isinstance(generator, torch.Generator):
            return generator.get_state()
        return self.data.state_dict() if hasattr(self.data, "state_dict") else None

    @random_state.setter
    def random_state(self, state: Any) -> None:
        if isinstance(getattr(self.data, "generator", None), torch.Generator):
            self.data.generator.set_state(state)
        elif hasattr(self.data, "load_state_dict"):
            self.data.load_state_dict(state)

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        empty = True
        for batch in self.data:
            x, y = _tensors(self.net, batch, f"each batch of {self.what}")
            empty = False
            yield self._order(x), y
        if empty:
            raise ValueError(f"{self.what} gave no batch: it must be possible to go through it again for every epoch.")

    def _order(self, x: Tensor) -> Tensor:
        return x.contiguous(memory_format=torch.channels_last) if self.channels_last and x.dim() == 4 else x


@dataclass
class _Run:
    """A run of `fit` and all that it is in the middle of."""

    net: nn.Module
    data: _Source
    test: _Source | None
    schedule: Any
    epochs: int
    rates: list[float] | None
    step: torch.optim.Optimizer
    scheduler: Any
    noise_every: str
    scheduler_every: str
    precision: torch.dtype | None
    path: Any
    checkpoint_steps: int | None
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

    def train(self, interruption: _Interruption, progress: bool | None) -> list[Epoch]:
        with _bar(progress, self.epochs, self.epoch) as bar:
            while self.epoch < self.epochs:
                noise = self._set_noise(self.epoch)
                for group in self.step.param_groups if self.rates else ():
                    group["lr"] = self.rates[self.epoch]
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
                    plateau = isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
                    self.scheduler.step(*([train.loss] if plateau else []))
                self.epoch, self.at, self.sums, self.seconds, self.entry = self.epoch + 1, 0, [], 0.0, None
                self.save()
                bar(self.history[-1])
        return self.history

    def _train_epoch(self, interruption: _Interruption) -> bool:
        """All steps of the epoch, or those that are left; whether it came to its end."""
        self.net.train()
        start, before = time.perf_counter(), self.seconds
        if self.entry is None:
            self.entry = self._random_states()
        else:
            self._set_random_states(self.entry)
        for number, (rows, x, y) in enumerate(self.data.shuffled()):
            if number < self.at:
                continue
            self._go_on()
            if self.noise_every == "iteration" and self.schedule is not None and number:
                self._set_noise(self.epoch + number / len(self.data))
            self._step(rows, x, y)
            self.at = number + 1
            self.seconds = before + time.perf_counter() - start
            if interruption.came:
                self.save()
                return False
            if self.checkpoint_steps is not None and self.at % self.checkpoint_steps == 0:
                self.save()
        self._go_on()  # resumed after the epoch's last step
        return True

    def _go_on(self) -> None:
        """Behind the batches that were done before a resumption: the random states of that moment."""
        if self.within is not None:
            self._set_random_states(self.within, data=False)
            self.within = None

    def _step(self, rows: Tensor | None, x: Tensor | None, y: Tensor) -> None:
        stopper = self.stopper
        with torch.autocast(self.data.device.type, self.precision, enabled=self.precision is not None):
            if rows is not None and stopper is not None and stopper.rule.cache:
                outputs = stopper.forward(rows)
            else:
                outputs = self.net(self.data.inputs(rows) if x is None else x)
            loss = cross_entropy(outputs, y)
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
            self.scheduler.step()
        hits = (outputs.detach().argmax(1) == y).sum()
        self.sums.append(torch.stack([loss.detach().double(), hits.double(), hits.new_tensor(len(y)).double()]))

    def _train_score(self) -> Score:
        # One wait for the device per epoch, not one per step.
        values, hits, sizes = torch.stack(self.sums).cpu().numpy().T
        if not np.isfinite(values).all():
            first = int(np.argmax(~np.isfinite(values)))
            raise FloatingPointError(f"the loss became {values[first]} in epoch {self.epoch}, step {first}: lower the "
                                     f"learning rate, or look for such values in the data{self._last_good()}.")
        return Score(float(np.average(values, weights=sizes)), float(hits.sum() / sizes.sum()))

    def _last_good(self) -> str:
        good = self.path is not None and os.path.exists(self.path)
        return f"; the last good state is in {os.fspath(self.path)!r}" if good else ""

    def _set_noise(self, t: float) -> tuple[tuple[float, float], ...]:
        noise: tuple[tuple[float, float], ...] = ()
        if self.schedule is not None:
            set_noise(self.net, self.schedule, t)
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
            "history": [_plain(epoch) for epoch in self.history],
        })

    def resume(self) -> bool:
        """Take up the checkpoint's state, if there is one."""
        if self.path is None or not os.path.exists(self.path):
            return False
        state = _checkpoint.load(self.path)
        _checkpoint.check(self.path, state["config"], self.config)
        self.net.load_state_dict(state["network"])
        self.step.load_state_dict(state["optimiser"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.at, self.seconds = state["epoch"], state["step"], state["seconds"]
        self.history = [_epoch(**epoch) for epoch in state["history"]]
        self.sums = [] if state["sums"] is None else list(state["sums"].to(self.data.device))
        if self.at:
            self.entry, self.within = state["random_states_at_epoch_start"], state["random_states"]
        else:
            self._set_random_states(state["random_states"])
        return True

    def _random_states(self) -> dict[str, Any]:
        cuda = self.data.device.type == "cuda"
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self.data.device) if cuda else None,
            "quantisers": [g.get_state() for g in self.generators],
            "data": self.data.random_state,
        }

    def _set_random_states(self, states: dict[str, Any], data: bool = True) -> None:
        torch.set_rng_state(states["torch"])
        if states["cuda"] is not None and self.data.device.type == "cuda":
            torch.cuda.set_rng_state(states["cuda"], self.data.device)
        for generator, state in zip(self.generators, states["quantisers"]):
            generator.set_state(state)
        if data and states["data"] is not None:
            self.data.random_state = states["data"]


class _Interruption:
    """While open, the first SIGINT is noted in `came`; the second one interrupts as ever."""

    def __enter__(self) -> _Interruption:
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


def _plain(epoch: Epoch) -> dict[str, Any]:
    """An epoch as a dictionary of numbers and tuples, which any reader of checkpoints knows."""
    scores = {name: None if (s := getattr(epoch, name)) is None else tuple(s) for name in ("train", "test", "noisy_test")}
    return {**asdict(epoch), **scores}


def _epoch(train: Any, test: Any, noisy_test: Any, noise: Any, **rest: Any) -> Epoch:
    scores = [None if s is None else Score(*s) for s in (train, test, noisy_test)]
    return Epoch(train=scores[0], test=scores[1], noisy_test=scores[2], noise=tuple(map(tuple, noise)), **rest)


def _evaluate(net: nn.Module, data: _Source, noise: bool) -> Score:
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    for module, _ in modes:
        if isinstance(module, Quantise):
            module.training = noise
    try:
        with torch.no_grad():
            pairs = [(net(x), y) for x, y in data.in_order()]
            outputs, y = (torch.cat(parts) for parts in zip(*pairs))
            return Score(cross_entropy(outputs, y).item(), (outputs.argmax(1) == y).double().mean().item())
    finally:
        for module, training in modes:
            module.training = training


@contextlib.contextmanager
def _bar(progress: bool | None, total: int, initial: int) -> Iterator[Callable[[Epoch], None]]:
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


@contextlib.contextmanager
def _deterministic(cuda: bool) -> Iterator[None]:
    """cuDNN's choice of algorithms by repeatability, not by a race, while a network trains on a GPU."""
    if not cuda:
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False):
        yield


def _rule(stop: bool | Stopping, net: nn.Module) -> Stopping | None:
    if hasattr(net, "_orig_mod") or isinstance(net, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return None
    if isinstance(stop, Stopping):
        return stop
    return Stopping() if flag(stop, "stop") else None


def find_device(device: str | torch.device) -> torch.device:
    """torch's device of this name, if the machine has it.

    Raises:
        ValueError: no device's name, or CUDA where there is none.
    """
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(f"device must name one of torch's devices, such as 'cpu' or 'cuda', not {device!r}.") from None
    if wanted.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {device!s} was asked for, but torch finds no CUDA device: use device='cpu'.")
    if wanted.type == "cuda" and wanted.index is not None and wanted.index >= torch.cuda.device_count():
        raise ValueError(f"device {device!s} was asked for, but there are {torch.cuda.device_count()} CUDA devices.")
    return wanted


def _precision(precision: str | None) -> torch.dtype | None:
    return None if precision is None else _PRECISIONS[choice(precision, _PRECISIONS, "precision")]


def _rate(rate: Callable[[int], float], epoch: int) -> float:
    return real(rate(epoch), "lr", minimum=0.0)


def _gives_batches(data: Any, what: str) -> bool:
    """Whether data is to be gone through batch by batch; a list of two arrays is a pair, as a tuple is."""
    if isinstance(data, (Tensor, np.ndarray, str, Mapping)) or not isinstance(data, Iterable) and not hasattr(data, "__getitem__"):
        return False
    if isinstance(data, Iterator):
        raise TypeError(f"{what} must be a pair of arrays or something that can be gone through again for every epoch, "
                        f"not a {type(data).__name__}, which can be used once.")
    return not (isinstance(data, list) and not all(isinstance(item, (tuple, list)) for item in data))


def _tensors(net: nn.Module, data: Any, what: str) -> tuple[Tensor, Tensor]:
    """Inputs in the network's float type and labels as int64, both on its device."""
    if not isinstance(data, Iterable) or len(pair := tuple(data)) != 2:
        raise TypeError(f"{what} must be a pair (inputs, labels) of arrays or tensors, not {type(data).__name__}.")
    x, y = _inputs(net, pair[0], f"the inputs of {what}"), torch.as_tensor(pair[1])
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool or y.dim() != 1:
        raise TypeError(f"the labels of {what} must be a flat list of integers, not {y.dtype} of shape {tuple(y.shape)}.")
    if len(x) != len(y):
        raise ValueError(f"{what} must hold as many inputs as labels, not {len(x)} and {len(y)}.")
    return x, y.to(device=x.device, dtype=torch.int64)


def _inputs(net: nn.Module, inputs: Any, what: str) -> Tensor:
    """Inputs in the network's float type and on its device."""
    x = torch.as_tensor(inputs)
    if x.is_complex():
        raise TypeError(f"{what} must be real numbers, not {x.dtype}.")
    if x.dim() == 0 or len(x) == 0:
        raise ValueError(f"{what} must hold at least one example, not a tensor of shape {tuple(x.shape)}.")
    parameter = next((p for p in net.parameters() if p.is_floating_point()), None)
    if parameter is None:
        return x.to(torch.get_default_dtype())
    return x.to(device=parameter.device, dtype=parameter.dtype)
