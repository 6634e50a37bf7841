"""The stochastic quantiser as a torch module, differentiable through the derivative of its expectation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from anabook._validate import choice, real
from anabook.noise import FAMILIES, Noise
from anabook.quantisers import Quantiser
from anabook.training import kernels
from anabook.training._ops import compute_dtype

_SHIFTED = "shifted"  # σ(x − α): what every strategy comes to without noise, and the mode often with it


class _Quantisation(torch.autograd.Function):
    """One forward pass; saves its input alone, and not even that where the gradient is 0 everywhere.

    `law` is None for the Dirac limit, whose gradient is 0.
    """

    @staticmethod
    def forward(x: Tensor, levels: Tensor, thresholds: Tensor, law: kernels.Law | None, mean: float, strategy: str,
                u: Tensor | None) -> Tensor:
        wide = compute_dtype(x.dtype)
        flat = x.reshape(-1).to(wide)
        levels = levels.to(wide)
        if strategy == _SHIFTED:
            # Rounded to x's own type first, as Quantiser does: a threshold stored in that type is hit exactly.
            out = kernels.shifted(flat, levels, thresholds.to(x.dtype).to(wide), mean)
        else:
            out = kernels.forward(flat, levels, thresholds.to(wide), law, strategy, u)
        return out.to(x.dtype).view(x.shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        x, levels, thresholds, law = inputs[:4]
        ctx.law = law
        if law is not None:
            ctx.save_for_backward(x, levels, thresholds)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.law is None:
            return torch.zeros_like(grad), *[None] * 6
        x, levels, thresholds = ctx.saved_tensors
        wide = compute_dtype(x.dtype)
        result = kernels.backward(grad.reshape(-1).to(wide), x.reshape(-1).to(wide), levels.to(wide),
                                  thresholds.to(wide), ctx.law)
        return result.to(x.dtype).view(x.shape), *[None] * 6


class Quantise(nn.Module):
    """The stochastic quantiser σ(x − ν), element by element, with noise ν of mean α and standard deviation β.

    While training, the forward pass follows the strategy and the backward pass multiplies by the derivative of the
    expectation, Σ_k (Δ_k/β) f0((x − θ_k − α)/β), whatever the strategy. In evaluation mode (`eval()`) the noise is
    gone altogether: the output is σ(x) and the gradient 0. With std = 0, or smaller than the float type can hold, the
    noise is Dirac at its mean: σ(x − α), gradient 0.

    Input and output: a tensor of float16, bfloat16, float32 or float64, any shape and device; the output has the same
    shape, type and device. The 16-bit types are computed in float32. NaN stays NaN.

    The module has no parameters and adds nothing to a state dict: quantiser, family and strategy are set in code like
    the rest of an architecture, and the noise is a function of the epoch that a schedule sets. The buffers `levels`
    and `thresholds` follow the module's device, and stay in float64 when the network changes its float type.

    Args:
        quantiser: a `Quantiser`.
        noise: "uniform", "triangular", "normal" or "logistic".
        strategy: what the forward pass gives while training: "expectation" E[σ(x − ν)]; "mode", the most probable
            level (the higher one at a tie); "random", one draw, independent for each element.
        mean: α.
        std: β ≥ 0. By default the noise spans half the smallest step to either side of its mean, with at least 95 % of
            its mass, as at the start of the paper's experiments.
        generator: a `torch.Generator` for the draws of "random"; by default torch's global one (`torch.manual_seed`).

    Raises:
        TypeError: a quantiser that is not a `Quantiser`; in the call, a tensor that is not of floating-point type.
        ValueError: unknown family or strategy, non-finite mean, negative or non-finite std.

    Example:
        >>> m = Quantise(Quantiser.ternary(), noise="uniform", strategy="mode")
        >>> x = torch.tensor([-0.8, 0.3, 1.5], requires_grad=True)
        >>> m(x).sum().backward()
        >>> x.grad
        tensor([1., 1., 0.])
    """

    levels: Tensor
    thresholds: Tensor

    def __init__(
        self,
        quantiser: Quantiser,
        noise: str = "uniform",
        strategy: str = "mode",
        mean: float = 0.0,
        std: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(quantiser, Quantiser):
            raise TypeError(f"quantiser must be a Quantiser, not {quantiser!r}.")
        self.quantiser = quantiser
        self.noise = choice(noise, FAMILIES, "noise")
        self.strategy = choice(strategy, kernels.STRATEGIES, "strategy")
        self.generator = generator
        self.layer: int | None = None
        self.register_buffer("levels", None, persistent=False)
        self.register_buffer("thresholds", None, persistent=False)
        self._fill(torch.get_default_device())
        # The two outer bins are unbounded; two levels leave no bounded one.
        self._narrowest_bin = float(np.diff(quantiser.thresholds).min(initial=np.inf))
        if std is None:
            std = Noise.covering(noise, half_width=float(quantiser.steps.min()) / 2).std
        self.set_noise(mean, std)

    @property
    def mean(self) -> float:
        """α, the noise's mean."""
        return self._mean

    @property
    def std(self) -> float:
        """β, the noise's standard deviation."""
        return self._std

    def set_noise(self, mean: float, std: float) -> None:
        """Set the noise's mean α and standard deviation β ≥ 0, as plain finite numbers."""
        mean, std = real(mean, "mean"), real(std, "std", minimum=0.0)
        self._mean, self._std = mean, std

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor) or not x.dtype.is_floating_point:
            got = f"a tensor of {x.dtype}" if isinstance(x, Tensor) else f"{type(x).__name__}"
            raise TypeError(f"Quantise works on tensors of floating-point type, not on {got}.")
        wide = compute_dtype(x.dtype)
        if not self.training:
            return _Quantisation.apply(x, self.levels, self.thresholds, None, 0.0, _SHIFTED, None)
        if self._std < torch.finfo(wide).tiny:
            return _Quantisation.apply(x, self.levels, self.thresholds, None, self._mean, _SHIFTED, None)
        law = kernels.Law(self.noise, self._mean, self._std)
        strategy, u = self.strategy, None
        if strategy == "random":
            u = torch.rand(x.numel(), dtype=wide, device=x.device, generator=self.generator)
        elif strategy == "mode" and kernels.mode_is_shifted(law, self._narrowest_bin):
            strategy = _SHIFTED
        return _Quantisation.apply(x, self.levels, self.thresholds, law, self._mean, strategy, u)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The latent weight to store when a quantised one is assigned: the value itself."""
        return weight

    def extra_repr(self) -> str:
        layer = "" if self.layer is None else f", layer={self.layer}"
        return (f"{self.quantiser!r}, noise={self.noise!r}, strategy={self.strategy!r}, "
                f"mean={self._mean:.4g}, std={self._std:.4g}{layer}")

    def _fill(self, device: torch.device) -> None:
        self.levels = torch.tensor(self.quantiser.levels, dtype=torch.float64, device=device)
        self.thresholds = torch.tensor(self.quantiser.thresholds, dtype=torch.float64, device=device)

    def _apply(self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> Quantise:
        # net.half() would round a threshold such as 0.07 for good: take the device, keep the values.
        super()._apply(function, recurse)
        self._fill(self.levels.device)
        return self
