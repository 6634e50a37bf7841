"""The steps of an integer network: frozen values, each with what it computes, in NumPy integers.

A tensor in the network is an array of integers z that stands for the numbers quantum · z. Zero stands for zero, so that
padding with zeros is what it is in the float network. Only the input may have an offset (see `Input`).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

INPUT = "input"
"""The name of the network's input among the names of steps."""


@dataclass(frozen=True)
class Input:
    """What comes in: integers z with low ≤ z ≤ high, which stand for (z − mean) / std.

    Attributes:
        shape: of one example, without the batch.
        low, high: the least and the greatest integer.
        mean, std: exact; the data's standardisation, 0 and 1 where there is none. Each is one number, or a tuple with one for
            each channel.

    Example:
        >>> Input((1, 8, 8), 0, 16, std=Fraction(16)).high
        16
    """

    shape: tuple[int, ...]
    low: int
    high: int
    mean: Fraction | tuple[Fraction, ...] = Fraction(0)
    std: Fraction | tuple[Fraction, ...] = Fraction(1)

    @property
    def means(self) -> tuple[Fraction, ...]:
        """The mean of each channel."""
        return self.mean if isinstance(self.mean, tuple) else (self.mean,) * self.shape[0]

    @property
    def stds(self) -> tuple[Fraction, ...]:
        """The standard deviation of each channel."""
        return self.std if isinstance(self.std, tuple) else (self.std,) * self.shape[0]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step: its name (that of the module it comes from), and the names of the steps whose outputs it takes.

    Example:
        >>> Add(name="sum", inputs=("conv1_act", "conv2_act")).inputs
        ('conv1_act', 'conv2_act')
    """

    name: str
    inputs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Weighted(Step):
    """Integer weights times integers, summed: a linear layer (`kernel` of rank 0) or a convolution in two dimensions.

    Gives accumulators. A bias, a batch normalisation and the quanta are in the thresholds (or the head) that follow.

    Attributes:
        weights: int8, shape (outputs, inputs) or (outputs, inputs / groups, height, width). Channels whose batch
            normalisation falls have their sign turned already.
        stride, padding, dilation: pairs, rows first; of a convolution. Padding is with zeros.
        groups: of a convolution.

    Example:
        >>> Weighted(name="fc1", inputs=("input",), weights=np.array([[1, 0, -1]], np.int8)).stride
        (1, 1)
    """

    weights: np.ndarray
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


@dataclass(frozen=True, kw_only=True)
class Threshold(Step):
    """z ↦ levels[number of thresholds T with z · sign ≥ T]: a quantiser with what comes before it.

    Attributes:
        thresholds: int32, shape (K − 1, channels, …), not decreasing along the first axis. After the channels either
            ones, or the positions of the feature map, where a padded first layer meets an input whose mean is no integer.
        levels: int, shape (K,), increasing: z of each level.
        quantum: what z is multiplied by to give the level; or a tuple with one for each channel.
        signs: int8 ±1 for each channel, or None where all are 1.

    Example:
        >>> at = np.array([[-2], [3]], np.int32)  # for one channel
        >>> step = Threshold(name="act", inputs=("fc1",), thresholds=at, levels=np.array([-1, 0, 1]), quantum=Fraction(1, 2))
        >>> (np.array([[-3], [-2], [2], [3]])[:, np.newaxis] >= step.thresholds).sum(1).ravel().tolist()
        [0, 1, 1, 2]
    """

    thresholds: np.ndarray
    levels: np.ndarray
    quantum: Fraction | tuple[Fraction, ...]
    signs: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class MaxPool(Step):
    """The greatest of each window; padding is less than anything. Pairs, rows first.

    Example:
        >>> MaxPool(name="pool", inputs=("act",), kernel=(2, 2), stride=(2, 2)).padding
        (0, 0)
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    ceil_mode: bool = False


@dataclass(frozen=True, kw_only=True)
class SumPool(Step):
    """The sum of each window: an average whose division waits for the next threshold. Padding is with zeros.

    Example:
        >>> SumPool(name="pool", inputs=("act",), kernel=(2, 2), stride=(2, 2)).padding
        (0, 0)
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)


@dataclass(frozen=True, kw_only=True)
class Add(Step):
    """The sum of two tensors of equal quanta.

    Example:
        >>> Add(name="sum", inputs=("act1", "act2")).name
        'sum'
    """


@dataclass(frozen=True, kw_only=True)
class Concat(Step):
    """The channels of several tensors, one after the other.

    Example:
        >>> Concat(name="cat", inputs=("branch1", "branch2", "branch3")).inputs
        ('branch1', 'branch2', 'branch3')
    """


@dataclass(frozen=True, kw_only=True)
class Flatten(Step):
    """All axes but the batch in one, in the order of rows.

    Example:
        >>> Flatten(name="flatten", inputs=("pool3",)).inputs
        ('pool3',)
    """


@dataclass(frozen=True, kw_only=True)
class Head(Step):
    """The last layer: scale · (W z) + bias, the one step that may give floats.

    Attributes:
        weights: int8 where the layer's weights are quantised, else float32; shape (outputs, inputs).
        scale: float64, shape (outputs,): the quanta of weights and inputs.
        bias: float64, shape (outputs,).

    Example:
        >>> head = Head(
        ...     name="last", inputs=("act",), weights=np.array([[2, -1]], np.int8), scale=np.array([0.5]), bias=np.array([1.0])
        ... )
        >>> (head.scale * (np.array([[3, 4]]) @ head.weights.T) + head.bias).tolist()
        [[2.0]]
    """

    weights: np.ndarray
    scale: np.ndarray
    bias: np.ndarray


def out_size(n: int, kernel: int, stride: int, padding: int, dilation: int = 1, ceil_mode: bool = False) -> int:
    """How many windows fit along an axis of length n, as PyTorch counts them.

    Example:
        >>> out_size(5, kernel=2, stride=2, padding=0), out_size(5, kernel=2, stride=2, padding=0, ceil_mode=True)
        (2, 3)
    """
    span = n + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return span // stride + 1
    count = -(-span // stride) + 1
    return count - 1 if (count - 1) * stride >= n + padding else count


def beyond(n: int, size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    """How far the last of `size` windows reaches over the end of an axis of length n: what must be padded there.

    Example:
        >>> beyond(5, size=3, kernel=2, stride=2, padding=0), beyond(5, size=2, kernel=2, stride=2, padding=0)
        (1, 0)
    """
    return max(0, (size - 1) * stride + (kernel - 1) * dilation + 1 - n - padding)


def positions(thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Thresholds of a feature map with each kind of position once, and which kind each position is.

    They differ near the borders alone: where a window reaches over the padding.

    Args:
        thresholds: as in `Threshold`, shape (K − 1, channels, height, width).

    Returns:
        Thresholds of shape (K − 1, channels, kinds), and indices of shape (height, width).

    Example:
        >>> kinds, index = positions(np.array([[[[3, 5, 5, 5, 4]]]]))
        >>> kinds.tolist(), index.tolist()
        ([[[3, 4, 5]]], [[0, 2, 2, 2, 1]])
    """
    flat = thresholds.reshape(*thresholds.shape[:2], -1)
    kinds, index = np.unique(flat, axis=2, return_inverse=True)
    return kinds, index.reshape(thresholds.shape[2:])
