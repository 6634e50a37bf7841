"""How good a network is, with its noise and without; and the statistics of its batch normalisations, measured anew."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from anabook._validate import flag, integer
from anabook.training._arguments import spelt
from anabook.training.modules import Quantise
from anabook.training.objectives import Loss, Objective, Score, mean_score
from anabook.training.sources import Source, as_inputs, evaluating, single_value_norm


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

    Example:
        >>> from anabook import models
        >>> score = evaluate(models.mlp(8, (6,)), (torch.zeros(4, 8), torch.tensor([0, 1, 2, 3])))
        >>> 0 <= score.accuracy <= 1
        True
    """
    batch_size, noise = integer(batch_size, "batch_size", minimum=1), flag(noise, "noise")
    return score_of(net, Source(net, data, batch_size, Objective(loss)), noise)


@spelt
def recalibrate(net: nn.Module, inputs: Any, batch_size: int = 1024) -> None:
    """Measure the running means and variances of the batch normalisations anew, in place and without noise.

    Needed where weights or features were changed after training, by rounding for instance. One pass over the inputs,
    plain averages over the batches; everything but the statistics is left as it was.

    Args:
        net: any network.
        inputs: an array or a tensor, as for `fit`, without labels.
        batch_size: large batches are more exact.

    Example:
        >>> from anabook import models
        >>> net = models.mlp(8, (6,))
        >>> recalibrate(net, torch.ones(4, 8))
        >>> net.fc1_norm.running_var
        tensor([0., 0., 0., 0., 0., 0.])
    """
    batch_size = integer(batch_size, "batch_size", minimum=2)
    x = as_inputs(net, inputs)
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    if not norms:
        raise ValueError(f"this {type(net).__name__} has no batch normalisation with running statistics.")
    parts = [*x.split(batch_size)]
    if len(parts[-1]) == 1 and (name := single_value_norm(net, x[:1])) is not None:
        if len(parts) == 1:
            raise ValueError(
                f"inputs must hold two examples at least, as the batch normalisation {name!r} cannot take a "
                "variance of one value."
            )
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


def score_of(net: nn.Module, data: Source, noise: bool) -> Score:
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
