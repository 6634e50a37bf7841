"""Algorithm 1 of the paper, plainly: anneal the noise once per epoch, train the latent weights in between."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from anabook._validate import flag, integer, real
from anabook.training.convert import check_schedule, layers, set_noise
from anabook.training.modules import Quantise


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
        noise: (mean, std) of each quantised layer during the epoch; empty for a network trained without a schedule.
        lr: the learning rate.
    """

    epoch: int
    train: Score
    test: Score | None
    noisy_test: Score | None
    noise: tuple[tuple[float, float], ...]
    lr: float


def fit(
    net: nn.Module,
    data: tuple[Any, Any],
    schedule: Callable[[int, float], tuple[float, float]] | None,
    *,
    epochs: int,
    batch_size: int = 256,
    optimiser: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
    lr: float | Callable[[int], float] = 1e-3,
    seed: int = 0,
    test: tuple[Any, Any] | None = None,
) -> list[Epoch]:
    """Train a network in place on the cross-entropy of its outputs (paper, Algorithm 1).

    At the start of epoch t every layer's noise is set to the schedule's (layer, t). Then the latent weights take one
    step of the optimiser per batch. After the last epoch the noise is left as it stands.

    On a CPU the same seed, network, data and number of threads give the same weights bit for bit. torch's global
    generator is left as it was.

    Args:
        net: a network made by `quantise`; with `schedule=None`, any network.
        data: inputs and integer class labels, as arrays or tensors of the same length.
        schedule: a `Schedule` or any (layer, t) ↦ (mean, std); None leaves the noise alone.
        epochs: how many.
        batch_size: the last batch of an epoch may be smaller.
        optimiser: called with the parameters and `lr=…`.
        lr: the learning rate, or a function of the epoch.
        seed: of the order of the batches, the noise, and dropout.
        test: like `data`; if given, the network is evaluated on it after each epoch, without noise and with it.

    Returns:
        One `Epoch` per epoch.

    Raises:
        FloatingPointError: the loss stopped being finite (says where; the weights are then of no use).
        ValueError, TypeError: data, schedule or settings that do not fit.
    """
    epochs, batch_size = integer(epochs, "epochs", minimum=1), integer(batch_size, "batch_size", minimum=1)
    seed = integer(seed, "seed", minimum=0)
    if schedule is not None:
        check_schedule(schedule, len(layers(net)))
    x, y = _tensors(net, data, "data")
    test = None if test is None else _tensors(net, test, "test")
    rate = lr if callable(lr) else lambda _: lr
    step = optimiser([p for p in net.parameters() if p.requires_grad], lr=_rate(rate, 0))
    history = []
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
        torch.manual_seed(seed)
        for epoch in range(epochs):
            noise = _set_noise(net, schedule, epoch)
            for group in step.param_groups:
                group["lr"] = _rate(rate, epoch)
            train = _train_epoch(net, x, y, batch_size, step, epoch)
            clean = None if test is None else evaluate(net, test)
            noisy = None if test is None or schedule is None else evaluate(net, test, noise=True)
            history.append(Epoch(epoch, train, clean, noisy, noise, _rate(rate, epoch)))
    return history


def evaluate(net: nn.Module, data: tuple[Any, Any], batch_size: int = 1024, *, noise: bool = False) -> Score:
    """Loss and accuracy in evaluation mode, without noise unless it is asked for. The modes are put back afterwards.

    Args:
        net: any classifier.
        data: inputs and integer class labels, as arrays or tensors of the same length.
        batch_size: bounds the memory; without noise the result does not depend on it but for rounding.
        noise: leave the quantisers with their noise and strategy, as in training; normalisation and dropout are in
            evaluation mode either way.
    """
    batch_size, noise = integer(batch_size, "batch_size", minimum=1), flag(noise, "noise")
    x, y = _tensors(net, data, "data")
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    for module, _ in modes:
        if isinstance(module, Quantise):
            module.training = noise
    try:
        with torch.no_grad():
            outputs = torch.cat([net(batch) for batch in x.split(batch_size)])
            return Score(cross_entropy(outputs, y).item(), (outputs.argmax(1) == y).double().mean().item())
    finally:
        for module, training in modes:
            module.training = training


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


def _train_epoch(net: nn.Module, x: Tensor, y: Tensor, batch_size: int, step: torch.optim.Optimizer,
                 epoch: int) -> Score:
    net.train()
    losses, sizes, hits = [], [], []
    for batch in torch.randperm(len(x)).to(x.device).split(batch_size):
        outputs = net(x[batch])
        loss = cross_entropy(outputs, y[batch])
        step.zero_grad()
        loss.backward()
        step.step()
        losses.append(loss.detach())
        sizes.append(len(batch))
        hits.append((outputs.detach().argmax(1) == y[batch]).sum())
    # One wait for the device per epoch, not one per step.
    values = torch.stack(losses).double().cpu().numpy()
    if not np.isfinite(values).all():
        first = int(np.argmax(~np.isfinite(values)))
        raise FloatingPointError(f"the loss became {values[first]} in epoch {epoch}, step {first}: lower the learning "
                                 "rate, or look for such values in the data.")
    return Score(float(np.average(values, weights=sizes)), float(torch.stack(hits).sum().item() / len(x)))


def _set_noise(net: nn.Module, schedule: Any, epoch: int) -> tuple[tuple[float, float], ...]:
    if schedule is None:
        return ()
    set_noise(net, schedule, epoch)
    return tuple(next((m.mean, m.std) for m in (layer.weight, *layer.activations) if m) for layer in layers(net))


def _rate(rate: Callable[[int], float], epoch: int) -> float:
    return real(rate(epoch), "lr", minimum=0.0)


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
