"""The torch twin of `anabook.noise.NUMPY_OPS`: the noise families' formulas run on tensors with it, unchanged."""

from __future__ import annotations

from types import SimpleNamespace

import torch

TORCH_OPS = SimpleNamespace(
    abs=torch.abs,
    clip=torch.clamp,
    eps=lambda t: torch.finfo(t.dtype).eps,
    exp=torch.exp,
    expit=torch.sigmoid,
    full_like=torch.full_like,
    log=torch.log,
    log1p=torch.log1p,
    ndtr=torch.special.ndtr,
    ndtri=torch.special.ndtri,
    sqrt=torch.sqrt,
    where=torch.where,
)
"""The elementary functions that the families' formulas are written in, for tensors of any device and float type."""


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type to compute in: float32 for the 16-bit types, whose rounding would swamp the noise, else `dtype`."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
