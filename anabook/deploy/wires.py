"""What a tensor of the network is, while it is read: a step's integers, and the numbers that these stand for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np

from anabook.deploy.steps import MaxPool
from anabook.deploy.thresholds import Affine


class CannotConvert(ValueError):
    """A network, or a part of it, that has no integer network; the message names the module and the reason.

    Attributes:
        remedy: what to change, where that is known and not said in the message.
    """

    def __init__(self, said: str, remedy: str = "") -> None:
        super().__init__(said)
        self.remedy = remedy


@dataclass(frozen=True)
class Wire:
    """Integers z of a step, which stand for gamma · (scale · z + offset) / √radicand + shift.

    All but the first two are object arrays of `Fraction` that broadcast with the shape; all but `offset` vary along the
    channels alone.

    Attributes:
        step: whose output it is.
        shape: without the batch.
        scale, offset, gamma, radicand, shift: see `Affine`.
        normed: the name of the batch normalisation whose gamma, radicand and shift these are.
        later: windows of which the maximum is taken, once the quantiser that must follow has come: stairs and maxima commute.
        floats: of a last layer in float why it is one; nothing but the output can follow.
    """

    step: str
    shape: tuple[int, ...]
    scale: np.ndarray
    offset: np.ndarray
    gamma: np.ndarray
    radicand: np.ndarray
    shift: np.ndarray
    normed: str | None = None
    later: tuple[MaxPool, ...] = ()
    floats: CannotConvert | None = None

    @classmethod
    def plain(cls, step: str, shape: tuple[int, ...], scale: Any, offset: Any = Fraction(0)) -> Wire:
        """Integers that stand for scale · z + offset."""
        one, zero = _single(Fraction(1), shape), _single(Fraction(0), shape)
        return cls(step, shape, _single(scale, shape), _single(offset, shape), one, one, zero)

    def with_(self, **changes: Any) -> Wire:
        return replace(self, **changes)

    @property
    def sign(self) -> np.ndarray:
        """−1 in channels that fall, int8 of shape (channels,)."""
        signs = np.array([-1 if gamma < 0 else 1 for gamma in self.gamma.ravel()], np.int8)
        return np.broadcast_to(signs, self.shape[:1])

    @property
    def is_padded_differently(self) -> bool:
        """Whether the offset depends on the position."""
        return prod(self.offset.shape[1:]) > 1

    @property
    def one_offset(self) -> Fraction | None:
        """The offset where it is the same everywhere."""
        return _one(self.offset)

    @property
    def one_scale(self) -> Fraction | None:
        """The scale where it is the same in all channels."""
        return _one(self.scale)

    def affines(self) -> tuple[list[Affine], np.ndarray]:
        """What the integers stand for, each case once, and for each channel (and place) the number of its case."""
        parts = (self.scale, self.offset, self.gamma, self.radicand, self.shift)
        shape = np.broadcast_shapes((self.shape[0], *[1] * (len(self.shape) - 1)), *(part.shape for part in parts))
        number = np.zeros(shape, np.int64)
        for part in parts:
            found, which = kinds(part)
            number = np.unique(number * len(found) + which, return_inverse=True)[1].reshape(shape)
        first = np.unique(number, return_index=True)[1]
        values = [np.broadcast_to(part, shape).flat for part in parts]
        return [Affine(*(each[at] for each in values)) for at in first.tolist()], number

    def flat(self, step: str, size: int) -> Wire:
        """The same with all axes in one."""

        def spread(part: np.ndarray) -> np.ndarray:
            if part.size == 1:
                return part.reshape(1)
            return np.broadcast_to(part, self.shape).reshape(-1)

        names = ("scale", "offset", "gamma", "radicand", "shift")
        return self.with_(step=step, shape=(size,), **{name: spread(getattr(self, name)) for name in names})


def kinds(part: np.ndarray) -> tuple[list[Fraction], np.ndarray]:
    """The objects of an array, each once, and for each place the number of its object.

    Example:
        >>> half, one = Fraction(1, 2), Fraction(1)
        >>> found, which = kinds(np.array([[half, one], [half, half]], object))
        >>> [[found[number] for number in row] for row in which.tolist()] == [[half, one], [half, half]], len(found)
        (True, 2)
    """
    ids = np.frompyfunc(id, 1, 1)(part).astype(np.int64)
    _, first, which = np.unique(ids, return_index=True, return_inverse=True)
    return [part.flat[at] for at in first.tolist()], which.reshape(part.shape)


def fractions(values: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Fractions, one for each channel of a tensor of this shape, ready to broadcast with it."""
    found = np.empty(len(values), object)
    found[:] = [value if isinstance(value, Fraction) else Fraction(value) for value in values]
    return found.reshape(-1, *[1] * (len(shape) - 1))


def _single(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    found = np.empty((1,) * len(shape), object)
    found.flat[0] = value
    return found


def _one(part: np.ndarray) -> Fraction | None:
    values = {id(value): value for value in part.ravel()}.values()
    return next(iter(values)) if len(set(values)) == 1 else None
