"""Quantisers: stair functions with finitely many levels (paper, eq. (1))."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import numpy as np

from anabook._arrays import as_floats, check_tensor, torch_of
from anabook._validate import choice, flag, integer, real

ROUNDINGS = ("floor", "nearest")


class Quantiser:
    """A stair function σ with levels q_0 < … < q_{K−1} and thresholds θ_1 < … < θ_{K−1}.

    σ(x) = q_k for θ_k ≤ x < θ_{k+1}, with θ_0 = −∞ and θ_K = +∞. Bins are closed on the left, so
    σ(θ_k) = q_k. Equivalently, and so in the paper's eq. (1), σ(x) = q_0 + Σ_k Δ_k H(x − θ_k), with the
    Heaviside function H(0) = 1 and the steps Δ_k = q_k − q_{k−1}.

    Quantisers are immutable values: equal levels and thresholds make equal, interchangeable objects.

    Args:
        levels: the K ≥ 2 output values, strictly increasing and finite.
        thresholds: the K − 1 jump positions, strictly increasing and finite.

    Raises:
        ValueError: too few, unsorted, repeated or non-finite values, or a wrong number of thresholds.
        TypeError: values that are not real numbers.

    Example:
        >>> q = Quantiser(levels=[-1, 0, 1], thresholds=[-0.5, 0.5])
        >>> q([-0.7, 0.2, 0.5])
        array([-1.,  0.,  1.])
    """

    __slots__ = ("_levels", "_steps", "_thresholds")

    _levels: np.ndarray
    _steps: np.ndarray
    _thresholds: np.ndarray

    def __init__(self, levels: Any, thresholds: Any) -> None:
        levels = _increasing(levels, "levels", minimum=2)
        thresholds = _increasing(thresholds, "thresholds", minimum=0)
        if len(thresholds) != len(levels) - 1:
            raise ValueError(
                f"{len(levels)} levels need {len(levels) - 1} thresholds, one between each pair, not {len(thresholds)}."
            )
        steps = np.diff(levels)
        steps.flags.writeable = False
        object.__setattr__(self, "_levels", levels)
        object.__setattr__(self, "_thresholds", thresholds)
        object.__setattr__(self, "_steps", steps)

    @classmethod
    def heaviside(cls, threshold: float = 0.0) -> Quantiser:
        """The Heaviside function: 0 below the threshold, 1 from it on."""
        return cls([0.0, 1.0], [real(threshold, "threshold")])

    @classmethod
    def ternary(cls, quantum: float = 1.0) -> Quantiser:
        """The ternary quantiser {−ε, 0, ε} with thresholds ±ε/2, as in the code of the paper's authors.

        Args:
            quantum: ε > 0, the distance between levels.
        """
        quantum = real(quantum, "quantum", above=0.0)
        return cls([-quantum, 0.0, quantum], [-quantum / 2, quantum / 2])

    @classmethod
    def linear(
        cls,
        bits: int,
        signed: bool = True,
        quantum: float = 1.0,
        rounding: str = "floor",
        balanced: bool = False,
    ) -> Quantiser:
        """A linear quantiser: equally spaced levels z·ε for the integers z of `bits` bits.

        Args:
            bits: number of bits, 1 to 16.
            signed: integers from −2^(bits−1) to 2^(bits−1) − 1 if true, else from 0 to 2^bits − 1.
            quantum: ε > 0, the distance between levels; 0.1 means the decimal, so that 0.3 is a level.
            rounding: "floor" puts each threshold on its level, θ_k = q_k (paper, section 2.1);
                "nearest" half a quantum below, θ_k = q_k − ε/2 (the code of its authors).
            balanced: drop the lowest level of a signed range, so that the levels are symmetric about 0.

        Raises:
            ValueError: bits out of range, quantum not positive, unknown rounding, an unsigned balanced
                range, or a balanced range of one bit (a single level).
        """
        bits = integer(bits, "bits", minimum=1, maximum=16)
        signed = flag(signed, "signed")
        balanced = flag(balanced, "balanced")
        quantum = real(quantum, "quantum", above=0.0)
        rounding = choice(rounding, ROUNDINGS, "rounding")
        if balanced and not signed:
            raise ValueError("balanced=True drops the lowest level of a signed range, so it needs signed=True.")
        if balanced and bits == 1:
            raise ValueError("a balanced range needs bits of at least 2, not 1: one level would be left.")
        low = -(2 ** (bits - 1)) if signed else 0
        integers = range(low + balanced, low + 2**bits)
        levels = _multiples(integers, quantum)
        thresholds = levels[1:] if rounding == "floor" else _multiples([z - Fraction(1, 2) for z in integers[1:]], quantum)
        return cls(levels, thresholds)

    @property
    def levels(self) -> np.ndarray:
        """The K levels, float64, read-only."""
        return self._levels

    @property
    def thresholds(self) -> np.ndarray:
        """The K − 1 thresholds, float64, read-only."""
        return self._thresholds

    @property
    def steps(self) -> np.ndarray:
        """The K − 1 steps Δ_k = q_k − q_{k−1}, all positive, read-only."""
        return self._steps

    @property
    def n_levels(self) -> int:
        """K, the number of levels."""
        return len(self._levels)

    @property
    def bits(self) -> int:
        """How many bits it takes to tell the levels apart: 2 for three levels."""
        return (self.n_levels - 1).bit_length()

    @property
    def bins(self) -> list[tuple[float, float]]:
        """The K bins [θ_k, θ_{k+1}) as pairs; the outer two are unbounded."""
        edges = [-math.inf, *self._thresholds.tolist(), math.inf]
        return list(zip(edges[:-1], edges[1:]))

    def index(self, x: Any) -> Any:
        """The number k of the bin that each element falls into.

        Args:
            x: a number, an array or a tensor of floats, of any shape.

        Returns:
            int64, of x's shape and kind. NaN has no bin and is refused.
        """
        torch = torch_of(x)
        if torch is not None:
            check_tensor(x)
            if bool(torch.isnan(x).any()):
                raise ValueError("NaN falls into no bin.")
            return self._tensor_index(torch, x)
        array = as_floats(x)
        if np.isnan(array).any():
            raise ValueError("NaN falls into no bin.")
        return self._array_index(array)[()]

    def __call__(self, x: Any) -> Any:
        """σ(x), element by element.

        Thresholds are rounded to x's float type first, so that a threshold stored in that
        type is hit exactly. NaN stays NaN.

        Args:
            x: a number, an array or a tensor of floats, of any shape.

        Returns:
            The same kind, shape and float type. A tensor comes back detached: σ has no useful gradient.

        Raises:
            TypeError: integer, boolean or complex arrays and tensors.
        """
        torch = torch_of(x)
        if torch is not None:
            check_tensor(x)
            x = x.detach()
            levels = torch.as_tensor(self._levels.copy(), dtype=x.dtype, device=x.device)
            return torch.where(torch.isnan(x), x, levels[self._tensor_index(torch, x)])
        array = as_floats(x)
        values = self._levels.astype(array.dtype)[self._array_index(array)]
        return np.where(np.isnan(array), array, values)[()]

    def _array_index(self, array: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._thresholds.astype(array.dtype), array, side="right")

    def _tensor_index(self, torch: Any, x: Any) -> Any:
        thresholds = torch.as_tensor(self._thresholds.copy(), dtype=x.dtype, device=x.device)
        return torch.searchsorted(thresholds, x.detach().contiguous(), right=True)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Quantiser):
            return NotImplemented
        return np.array_equal(self._levels, other._levels) and np.array_equal(self._thresholds, other._thresholds)

    def __hash__(self) -> int:
        return hash((tuple(self._levels.tolist()), tuple(self._thresholds.tolist())))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Quantiser is immutable; make a new one instead of setting {name!r}.")

    def __reduce__(self) -> tuple:
        return Quantiser, (self._levels.tolist(), self._thresholds.tolist())

    def __repr__(self) -> str:
        return f"Quantiser(levels={_short(self._levels)}, thresholds={_short(self._thresholds)})"


def _multiples(factors: Iterable[Fraction | int], quantum: float) -> list[float]:
    """Multiples of the quantum, rounded once.

    The quantum is read as the shortest decimal that stands for it, which is what somebody typed: three times 0.1 is
    then the double 0.3, as it should be, and not its neighbour, the product of the doubles.
    """
    decimal = Fraction(repr(quantum))
    return [float(factor * decimal) for factor in factors]


def _increasing(values: Any, what: str, minimum: int) -> np.ndarray:
    """A read-only float64 copy of `values`, checked to be one-dimensional, finite and strictly increasing."""
    try:
        array = np.array(values)
    except ValueError:
        raise TypeError(f"{what} must be a list of real numbers, not {values!r}.") from None
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iuf"):
        raise TypeError(f"{what} must be a list of real numbers, not {values!r}.")
    array = array.astype(np.float64)
    if len(array) < minimum:
        raise ValueError(f"a quantiser needs at least {minimum} {what}, not {len(array)}.")
    if not np.isfinite(array).all():
        raise ValueError(f"{what} must be finite, not {array[~np.isfinite(array)][0]}.")
    gaps = np.diff(array)
    if (gaps <= 0).any():
        i = int(np.argmax(gaps <= 0))
        raise ValueError(f"{what} must be strictly increasing, but {array[i]:g} is followed by {array[i + 1]:g}.")
    array.flags.writeable = False
    return array


def _short(values: np.ndarray) -> str:
    items = [f"{v:g}" for v in values]
    if len(items) > 8:
        items = [*items[:3], "…", *items[-2:]]
    return "[" + ", ".join(items) + "]"
