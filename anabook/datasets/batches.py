"""Batches of tensors, normalised and augmented where they lie: no item-by-item loader."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from anabook._validate import choice, integer
from anabook.datasets.dataset import AUGMENTATIONS


class Batches:
    """A part of a data set on a device, handed out in batches of normalised floats.

    Inputs are kept in their stored type. Each batch is converted, normalised with one mean and one standard
    deviation for all channels (as in the code of the paper's authors), and augmented as a whole: every image of a batch gets
    its own shift and flip. Padding is with the value 0 before normalisation, as torchvision
    pads images.

    Args:
        inputs: shape (n, …), any real type.
        labels: shape (n,), or any targets of a loss of one's own, shape (n, …). Whole numbers become int64, other
            numbers float32.
        batch_size: examples in a batch.
        mean, std: of the training inputs, in the unit of `inputs`; see `statistics`.
        augmentation: a key of `AUGMENTATIONS`; only for inputs of shape (n, channels, height, width).
        reach: by how many pixels images are shifted at most.
        shuffle: a fresh order for each pass.
        drop_last: leave out a last, smaller batch.
        seed: of order and augmentation; the same seed gives the same passes, one after the other.
        device: where to keep everything.

    Example:
        >>> import numpy as np
        >>> batches = Batches(np.zeros((10, 1, 4, 4)), np.arange(10) % 2, batch_size=4, augmentation="crop", shuffle=True)
        >>> [tuple(x.shape) for x, y in batches]
        [(4, 1, 4, 4), (4, 1, 4, 4), (2, 1, 4, 4)]
    """

    def __init__(
        self,
        inputs: np.ndarray,
        labels: np.ndarray,
        batch_size: int,
        mean: float = 0.0,
        std: float = 1.0,
        augmentation: str = "none",
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
        device: str | torch.device = "cpu",
        reach: int = 4,
    ) -> None:
        self._steps = AUGMENTATIONS[choice(augmentation, AUGMENTATIONS, "augmentation")]
        if self._steps and inputs.ndim != 4:
            raise ValueError(f"augmentation needs images of shape (n, channels, height, width), not {inputs.shape}.")
        if len(inputs) != len(labels):
            raise ValueError(f"inputs and labels must have one length, not {len(inputs)} and {len(labels)}.")
        self.inputs = torch.from_numpy(np.array(inputs)).to(device)
        labels = np.asarray(labels)
        kind = np.float32 if labels.dtype.kind == "f" else np.int64
        self.labels = torch.from_numpy(np.array(labels, kind)).to(device)
        self.batch_size = integer(batch_size, "batch_size", minimum=1)
        self.mean, self.std = float(mean), float(std)
        self.shuffle, self.drop_last = shuffle, drop_last
        self.reach = integer(reach, "reach", minimum=0)
        # On the CPU whatever the device, so that a seed means the same everywhere.
        self.generator = torch.Generator().manual_seed(integer(seed, "seed", minimum=0))

    def __len__(self) -> int:
        n = len(self.labels)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    @property
    def last_batch(self) -> int | None:
        """How many examples the last batch of a pass has; None if there is no batch."""
        n = len(self.labels)
        if self.drop_last:
            return self.batch_size if n >= self.batch_size else None
        return n % self.batch_size or min(n, self.batch_size) or None

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        n = len(self.labels)
        order = torch.randperm(n, generator=self.generator) if self.shuffle else torch.arange(n)
        for i in range(len(self)):
            rows = order[i * self.batch_size : (i + 1) * self.batch_size].to(self.inputs.device)
            yield self._prepared(self.inputs[rows]), self.labels[rows]

    def _prepared(self, x: Tensor) -> Tensor:
        if "crop" in self._steps:
            by = torch.randint(-self.reach, self.reach + 1, (len(x), 2), generator=self.generator)
            x = shifted(x, by.to(x.device), self.reach)
        if "flip" in self._steps:
            mirror = (torch.rand(len(x), generator=self.generator) < 0.5).to(x.device)
            x = torch.where(mirror[:, None, None, None], x.flip(-1), x)
        return (x.float() - self.mean) / self.std


def shifted(x: Tensor, by: Tensor, reach: int = 4) -> Tensor:
    """Each image moved by its own whole number of rows and columns, zeros moving in.

    The same as padding by `reach` and cropping at random, when `by` is uniform on −reach … reach.

    Args:
        x: shape (n, channels, height, width).
        by: shape (n, 2), integers from −reach to reach: rows down, columns right.
        reach: the largest shift.

    Example:
        >>> shifted(torch.tensor([[[[1, 2], [3, 4]]]]), torch.tensor([[1, 0]])).tolist()
        [[[[0, 0], [1, 2]]]]
    """
    n, channels, height, width = x.shape
    padded = torch.nn.functional.pad(x, (reach,) * 4)
    rows = torch.arange(height, device=x.device) + (reach - by[:, :1])
    columns = torch.arange(width, device=x.device) + (reach - by[:, 1:])
    moved = padded[torch.arange(n, device=x.device)[:, None], :, rows]  # (n, height, channels, padded width)
    moved = moved.gather(3, columns[:, None, None, :].expand(n, height, channels, width))
    return moved.transpose(1, 2)


def statistics(inputs: np.ndarray) -> tuple[float, float]:
    """One mean and one standard deviation over all numbers of the training inputs, accumulated in float64.

    Example:
        >>> mean, std = statistics(np.array([[0, 1], [1, 0]]))
        >>> float(mean), std
        (0.5, 0.5)
    """
    total = square = 0.0
    for block in np.array_split(inputs, max(1, len(inputs) // 1000)):
        block = block.astype(np.float64)
        total, square = total + block.sum(), square + (block**2).sum()
    mean = total / inputs.size
    return mean, float(np.sqrt(max(square / inputs.size - mean**2, 0.0)))
