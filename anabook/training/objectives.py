"""What training minimises, and how often the network is right."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, nll_loss

from anabook.training._arguments import brief
from anabook.training.devices import widest

Loss = Callable[[Any, Any], Tensor]
_OF_LABELS = (cross_entropy, nll_loss)


class Score(NamedTuple):
    """Mean loss and accuracy.

    Attributes:
        loss: the cross-entropy in nats, or the loss that was handed over, over all targets that count.
        accuracy: the share of targets, between 0 and 1, that are the index of the largest output; NaN where the
            targets are not class labels. Labels that the loss leaves out (−100) are left out here as well.

    Example:
        >>> Score(loss=0.5, accuracy=0.9).accuracy
        0.9
    """

    loss: float
    accuracy: float


class Objective:
    """A loss, by default the cross-entropy, and the accuracy where targets are class labels.

    Attributes:
        own: whether the loss was handed over.
        labelled: whether its targets are class labels for certain, so that they can be checked.
        ignored: the label that is left out.
    """

    def __init__(self, loss: Loss | None = None) -> None:
        if loss is not None and not callable(loss):
            raise TypeError(
                f"loss must be a function (outputs, targets) -> one number, such as torch.nn.MSELoss(), not {brief(loss)}."
            )
        if isinstance(loss, type):
            raise TypeError(f"loss must be called with (outputs, targets), so hand over {loss.__name__}(), not the class.")
        self.own, self.function = loss is not None, loss or cross_entropy
        inner = self.function.func if isinstance(self.function, functools.partial) else self.function
        settings = self.function.keywords if isinstance(self.function, functools.partial) else {}
        self.labelled = inner in _OF_LABELS or isinstance(inner, (nn.CrossEntropyLoss, nn.NLLLoss))
        self.ignored = int(settings.get("ignore_index", getattr(inner, "ignore_index", -100)))

    def to(self, device: torch.device) -> None:
        """Move the loss's own tensors, class weights for instance."""
        if isinstance(self.function, nn.Module):
            self.function.to(device)

    def __call__(self, outputs: Any, targets: Any, extremes: tuple[int, int] | None = None) -> Tensor:
        """The loss of a batch, after a look at its shape.

        Args:
            outputs: of the network.
            targets: of the batch.
            extremes: the smallest and the largest label that is known of, if they are to be checked.
        """
        self.check(outputs, targets, extremes)
        try:
            loss = self.function(outputs, targets)
        except RuntimeError as error:
            if not self._wants_floats(outputs, targets):
                raise
            raise TypeError(
                f"{self._name()} takes targets of floats, not {targets.dtype}: hand them over as such, by "
                "y.astype('float32') for an array or y.float() for a tensor."
            ) from error
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise TypeError(f"loss must give one number, a tensor without dimensions, not {brief(loss)}: take its mean.")
        if self.own and not loss.requires_grad and isinstance(outputs, Tensor) and outputs.requires_grad:
            raise TypeError(
                "loss must be computed from the outputs by torch's own functions: what it gives has no gradient."
            )
        return loss.reshape(())

    def _wants_floats(self, outputs: Any, targets: Any) -> bool:
        """Whether the loss, which has failed, would take the same targets as floats."""
        if not (isinstance(outputs, Tensor) and isinstance(targets, Tensor)) or targets.is_floating_point():
            return False
        try:
            self.function(outputs.detach(), targets.to(outputs.dtype))
        except Exception:
            return False
        return True

    def _name(self) -> str:
        function = self.function.func if isinstance(self.function, functools.partial) else self.function
        return str(getattr(function, "__name__", type(function).__name__)).replace("<lambda>", "the loss")

    def check(self, outputs: Any, targets: Any, extremes: tuple[int, int] | None) -> None:
        """Refuse outputs and labels that do not fit together, before torch does."""
        if not self.own and not (isinstance(outputs, Tensor) and outputs.dim() == 2 and len(outputs) == len(targets)):
            raise ValueError(
                f"the outputs must have shape ({len(targets)}, classes) for the cross-entropy of "
                f"{len(targets)} labels, but the network gave {brief(outputs)}: change its last module, or "
                "pass a loss of your own, loss=…."
            )
        if extremes is None or not isinstance(outputs, Tensor) or outputs.dim() < 2:
            return
        classes = outputs.shape[1]
        for label in extremes:
            if not 0 <= label < classes:
                raise ValueError(
                    f"labels must be from 0 to {classes - 1}, as the network has {classes} outputs (or "
                    f"{self.ignored}, which is left out), not {label}."
                )

    def extremes(self, targets: Any) -> tuple[int, int] | None:
        """The smallest and the largest label that counts; None where nothing can be wrong with them."""
        if not self.labelled or not isinstance(targets, Tensor) or targets.is_floating_point() or targets.numel() == 0:
            return None
        low, high = (int(t) for t in targets.aminmax())
        if not low <= self.ignored <= high:
            return low, high
        rest = targets[targets != self.ignored]
        return None if rest.numel() == 0 else (int(rest.min()), int(rest.max()))

    def counts(self, outputs: Any, targets: Any, examples: int) -> tuple[Tensor | float, Tensor | int]:
        """(right answers, targets that count); for targets that are no labels (NaN, examples)."""
        if not _are_labels(outputs, targets):
            return math.nan, examples
        counted = targets != self.ignored
        return ((outputs.detach().argmax(1) == targets) & counted).sum(), counted.sum()

    def row(self, loss: Tensor, outputs: Any, targets: Any, examples: int) -> Tensor:
        """What a step adds to the epoch's score: loss, right answers, targets that count. It stays on the device."""
        kind = widest(loss.device)
        values = (loss.detach(), *self.counts(outputs, targets, examples))
        return torch.stack([v.to(kind) if isinstance(v, Tensor) else loss.new_full((), v, dtype=kind) for v in values])


def mean_score(rows: np.ndarray) -> Score:
    """The score of rows (loss, right answers, targets that count)."""
    values, hits, sizes = rows.T
    if sizes.sum() == 0:
        return Score(math.nan, math.nan)
    accuracy = float(hits.sum() / sizes.sum())
    # A batch without a target that counts has a loss of NaN and the weight 0.
    values = np.where(sizes > 0, values, 0.0)
    return Score(float(np.average(values, weights=sizes)), math.nan if math.isnan(accuracy) else accuracy)


def _are_labels(outputs: Any, targets: Any) -> bool:
    return (
        isinstance(outputs, Tensor)
        and isinstance(targets, Tensor)
        and outputs.dim() >= 2
        and outputs.shape[1] > 1
        and not (targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool)
        and targets.shape == outputs.shape[:1] + outputs.shape[2:]
    )
