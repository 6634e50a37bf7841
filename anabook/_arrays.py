"""What comes in goes out: NumPy arrays, plain numbers and torch tensors, of any shape and float type.

torch is never imported here. A tensor can only reach us when somebody has imported torch already,
so it is looked up among the loaded modules.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np


def torch_of(x: object) -> Any:
    """The loaded torch module if `x` is one of its tensors, else None."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and isinstance(x, getattr(torch, "Tensor", ())) else None


def check_tensor(x: Any) -> None:
    """Refuse tensors of integer, boolean or complex type."""
    if not x.dtype.is_floating_point:
        raise TypeError(f"expected a tensor of floating-point type, not {x.dtype}; convert it with .float().")


def as_floats(x: object, what: str = "x") -> np.ndarray:
    """`x` as a NumPy array of floating-point type.

    Plain Python numbers and nested lists of them become float64. Arrays keep their float type;
    arrays of another type are refused, since rounding silently is what a quantiser must not do.

    Raises:
        TypeError: integer, boolean, complex or non-numeric input.
    """
    given_array = isinstance(x, (np.ndarray, np.generic))
    try:
        array = np.asarray(x)
    except (ValueError, TypeError):
        raise TypeError(f"{what} must be a number or an array of floats, not {x!r}.") from None
    if not given_array and array.dtype.kind in "iu":
        array = array.astype(np.float64)
    if array.dtype.kind != "f":
        if not given_array:
            raise TypeError(f"{what} must be a number or an array of floats, not {x!r}.")
        hint = "; convert it with .astype(float)." if array.dtype.kind in "iub" else "."
        raise TypeError(f"{what} must be an array of floating-point type, not {array.dtype}{hint}")
    return array


def to_float64(x: Any, what: str = "x") -> np.ndarray:
    """`x` as a float64 NumPy array, tensors included (detached and copied to the CPU)."""
    torch = torch_of(x)
    if torch is None:
        return as_floats(x, what).astype(np.float64, copy=False)
    check_tensor(x)
    return x.detach().to(device="cpu", dtype=torch.float64).numpy()


def elementwise(function: Callable[[np.ndarray], np.ndarray], x: Any, what: str = "x") -> Any:
    """Apply a float64 function of NumPy arrays to `x` and give back `x`'s kind and float type.

    The function may append axes to the shape. A tensor is detached: what is computed here
    is theory, and gradients belong to `anabook.training`.
    """
    torch = torch_of(x)
    values = np.asarray(function(to_float64(x, what)))
    if torch is not None:
        return torch.from_numpy(np.ascontiguousarray(values)).to(device=x.device, dtype=x.dtype).reshape(values.shape)
    return values.astype(as_floats(x, what).dtype, copy=False)[()]
