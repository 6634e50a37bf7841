"""Algorithm 1 of the paper: anneal the noise, train the latent weights in between; stop at any moment, and go on."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from anabook._validate import choice, flag, integer
from anabook.training import checkpoint as _checkpoint
from anabook.training._arguments import brief, spelt
from anabook.training._terminal import Interruption
from anabook.training.captured import captured
from anabook.training.devices import deterministic, find_device, seeded
from anabook.training.history import Epoch
from anabook.training.latent import initialise_near_thresholds, shift_by_mean
from anabook.training.layers import check_schedule, layers, set_noise
from anabook.training.objectives import Loss, Objective
from anabook.training.optimisers import check_makers, make_optimiser, make_scheduler, rate_in
from anabook.training.precautions import warn_of_noise_left, warn_of_single_levels
from anabook.training.quanta import keep_positive, spare_from_decay
from anabook.training.run import Run
from anabook.training.sources import Source, length
from anabook.training.stopping import Stopper, Stopping

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
    compile: bool = False,
    drop_last: bool = False,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_steps: int | None = None,
    config: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> list[Epoch]:
    """Train a network in place on the cross-entropy of its outputs, or on another loss (paper, Algorithm 1).

    At the start of epoch t every layer's noise is set to the schedule's (layer, t). Then the latent weights take one
    step of the optimiser per batch. After the last epoch the noise is left as it stands; a warning says before the first one
    where the schedule would have taken it away later, since `deploy` takes what is left away at one stroke.

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
            DataLoader. The inputs are one array: a network of several takes them apart itself. They are cast to the
            network's float type, but whole numbers that an `nn.Embedding` reads.
            Labels of −100 are left out of loss and accuracy. With `loss`, the targets are whatever it takes.
        schedule: a `Schedule` or any (layer, t) ↦ (mean, std); None leaves the noise alone.
        epochs: how many.
        batch_size: the last batch of an epoch may be smaller; for data in batches only `test` uses it.
        optimiser: called with the parameters and `lr=…`; `functools.partial` sets the rest. It may make groups of the
            parameters, each with a rate of its own. Learned quanta are among the parameters (`learned_quanta` names them);
            its weight decay leaves them alone, unless it makes groups, and no step takes away more than half of one.
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
        noise_every: "epoch" sets the noise once per epoch, as the code of the paper's authors does; "iteration" before every
            step, at t = epoch + step/steps, as Algorithm 1 is printed.
        scheduler_every: "epoch" or "iteration": when `scheduler` takes a step.
        initialise: "near_thresholds" draws the latent weights anew (see `initialise_near_thresholds`), "shift" adds the
            mean of their noise to them (see `shift_by_mean`), both at the noise of epoch 0; None leaves them. This
            is done once: never when a run is resumed.
        stop: leave out the parts of the backward pass that give exact zeros (see `Stopping`); the weights are the same
            bit for bit. False computes them, as is done for a network that is compiled or distributed as a whole.
        device: where to train; None leaves the network where it is.
        precision: "bfloat16" or "float16" for automatic mixed precision (with loss scaling for float16); None or
            "float32" for none.
        channels_last: keep images and convolutions in the memory order that many convolutions prefer.
        compile: run each step as one program. On an NVIDIA GPU it is captured as a CUDA graph after a few steps, and
            again when a layer falls silent, so that it need not wait for Python between hundreds of small programs.
            On a CPU torch compiles forward pass, loss and backward pass, which needs a C++ compiler and takes up to
            half a minute for each stage of the schedule in which other layers are silent than before (seconds, where
            a training before it left its programs on the disk): it is for networks of convolutions that train for
            many minutes. The roundings, not the algorithm, differ from those without it, so a run that is resumed
            keeps it, or does without it, as it began. Batches of another size than the first take the plain step.
            Where a step cannot become a program, a warning says so, and all steps are plain ones. Hooks, prints and
            whatever else Python does in a forward pass happen when the program is made, and not in every step.
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
            asked for, is the last good one), or a learned quantum stopped being positive.
        ValueError, TypeError: data, schedule or settings that do not fit; a device that is not there; a checkpoint from
            another config.

    Example:
        >>> from anabook import Quantiser, Schedule, datasets, models, training
        >>> net = training.quantise(models.mlp(64, (16,)), weights=Quantiser.ternary(), activations=Quantiser.ternary())
        >>> schedule = Schedule.for_network(net, period=1)
        >>> history = fit(net, datasets.digits().train, schedule, epochs=2, initialise="near_thresholds")
        >>> [epoch.epoch for epoch in history]
        [0, 1]
    """
    epochs, batch_size = integer(epochs, "epochs", minimum=1), integer(batch_size, "batch_size", minimum=1)
    seed, drop_last = integer(seed, "seed", minimum=0, maximum=2**63 - 1), flag(drop_last, "drop_last")
    compile, channels_last = flag(compile, "compile"), flag(channels_last, "channels_last")
    if precision is not None and choice(precision, ("float32", *_PRECISIONS), "precision") == "float32":
        precision = None
    choice(noise_every, ("epoch", "iteration"), "noise_every")
    choice(scheduler_every, ("epoch", "iteration"), "scheduler_every")
    if initialise is not None:
        choice(initialise, INITIALISATIONS, "initialise")
    if checkpoint_steps is not None:
        integer(checkpoint_steps, "checkpoint_steps", minimum=1)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be a function of an Epoch and the network, not {brief(callback)}.")
    rule = _rule(stop, net)
    if compile:
        _check_compile(net, rule)
    n_layers = _check_schedule(schedule, net)
    check_makers(optimiser, scheduler, lr)
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
    rates = [rate_in(rate, epoch) for epoch in range(epochs)]
    # The rate that groups of parameters refer to: 0 would hide their ratios.
    reference = next((r for r in rates if r > 0), 0.0)
    step = make_optimiser(optimiser, net, reference)
    spare_from_decay(step, net)
    keep_positive(step, net)
    each = 1 if scheduler_every == "epoch" else length(batches)
    made = None if scheduler is None else make_scheduler(scheduler, step, None if each is None else epochs * each)
    run = Run(
        net=net,
        data=batches,
        test=test,
        schedule=schedule,
        epochs=epochs,
        rates=None if scheduler else rates,
        step=step,
        scheduler=made,
        noise_every=noise_every,
        scheduler_every=scheduler_every,
        precision=_precision(precision),
        path=path,
        checkpoint_steps=checkpoint_steps,
        objective=objective,
        callback=callback,
        reference=reference,
        rate=rate,
        n_layers=n_layers,
    )
    if batches.arrays is not None and batches.last_batch() == 1:
        run.refuse_single(batches.inputs(torch.zeros(1, dtype=torch.int64, device=batches.device)))
    if path is not None:
        _warn_of_workers(data)
        run.config = {
            "network": _checkpoint.describe_network(net),
            "data": _checkpoint.describe_data(batches.arrays or data),
            "schedule": _checkpoint.describe_schedule(schedule, n_layers, epochs),
            "epochs": epochs,
            "batch_size": batch_size,
            "optimiser": _checkpoint.describe_optimiser(step),
            "lr": _checkpoint.digest(rates),
            "scheduler": None if scheduler is None else _checkpoint.describe_optimiser(run.scheduler),
            "seed": seed,
            "noise_every": noise_every,
            "scheduler_every": scheduler_every,
            "initialise": initialise,
            "still": bool(rule and rule.still),
            "cache": bool(rule and rule.cache),
            "precision": precision,
            "channels_last": channels_last,
            "config": None if config is None else _checkpoint.digest(dict(config)),
            "loss": _checkpoint.describe_loss(loss),
            "drop_last": drop_last,
            "compile": compile,
        }
        run.settings = {"lr": rates, "optimiser": _checkpoint.settings_of(step)}
        if run.scheduler is not None:
            run.settings["scheduler"] = _checkpoint.settings_of(run.scheduler)
    with seeded(seed, batches.device), deterministic(batches.device.type == "cuda"), Interruption() as interruption:
        resumed = run.resume()
        if initialise is not None and not resumed:
            if schedule is not None:
                set_noise(net, schedule, 0)
            INITIALISATIONS[initialise](net, seed)
        if not resumed:
            warn_of_single_levels(net)
        warn_of_noise_left(schedule, epochs, length(batches) if noise_every == "iteration" else None)
        run.stopper = None if rule is None else Stopper(net, rule, batches.arrays and batches.arrays[0])
        try:
            run.captured = captured(run) if compile else None
            return run.train(interruption, progress)
        finally:
            if run.captured is not None:
                run.captured.close()
            if run.stopper is not None:
                run.stopper.close()


def _check_compile(net: nn.Module, rule: Stopping | None) -> None:
    if _as_a_whole(net):
        raise ValueError("compile=True needs a network that is not compiled or distributed yet: hand over the one inside.")
    if rule is not None and rule.cache:
        raise ValueError("features cannot be cached where the steps are compiled: pass stop=True, or compile=False.")


def _as_a_whole(net: nn.Module) -> bool:
    """Whether a network is compiled or distributed as a whole."""
    return hasattr(net, "_orig_mod") or isinstance(net, (nn.DataParallel, nn.parallel.DistributedDataParallel))


def _rule(stop: bool | Stopping, net: nn.Module) -> Stopping | None:
    if _as_a_whole(net):
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
        raise TypeError(
            f"schedule must be a Schedule, a function (layer, t) -> (mean, std), or None, not {brief(schedule)}{hint}."
        )
    n_layers = len(layers(net))
    check_schedule(schedule, n_layers)
    return n_layers


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
        warnings.warn(
            "workers that live on from epoch to epoch (persistent_workers=True) keep their random states to "
            "themselves: a run that is resumed may see other random numbers than one that was never stopped.",
            stacklevel=4,
        )


def _precision(precision: str | None) -> torch.dtype | None:
    return None if precision is None else _PRECISIONS[precision]
