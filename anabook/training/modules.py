"""The stochastic quantiser as a torch module, differentiable through the derivative of its expectation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from anabook._validate import choice, real
from anabook.noise import FAMILIES, Noise
from anabook.quantisers import Quantiser
from anabook.regularisation import Regularisation
from anabook.training import kernels
from anabook.training._ops import compute_dtype

if TYPE_CHECKING:
    from anabook.symbolic import Density

class _Plan(NamedTuple):
    """What one call comes to: a kernel for the forward pass, and the constants of both passes.

    `backward` is None for the Dirac limit, whose gradient is 0.
    """

    kernel: str
    static: tuple
    constants: Tensor
    slope: tuple
    backward: Tensor | None


class _Quantisation(torch.autograd.Function):
    """One forward pass; saves its input and a few constants, and not even these where the gradient is 0 everywhere."""

    @staticmethod
    def forward(x: Tensor, constants: Tensor, backward: Tensor | None, keys: Tensor | None, kernel: str, static: tuple,
                slope: tuple) -> Tensor:
        others = (constants,) if keys is None else (constants, keys)
        return kernels.run(kernel, x, *others, static=static)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        x, _, backward, *_, slope = inputs
        ctx.slope = slope
        ctx.dirac = backward is None
        if backward is not None:
            ctx.save_for_backward(x, backward)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.dirac:
            return torch.zeros_like(grad), *[None] * 6
        x, constants = ctx.saved_tensors
        if torch.is_grad_enabled():
            # The caller wants to differentiate again, which only the plain function allows.
            return kernels.slope(grad, x, constants, *ctx.slope), *[None] * 6
        return kernels.run("slope", grad, x, constants, static=ctx.slope), *[None] * 6

    @staticmethod
    def vmap(info: Any, in_dims: tuple, x: Tensor, constants: Tensor, backward: Tensor | None, keys: Tensor | None,
             *static: Any) -> tuple[Tensor, int | None]:
        x_dim, _, _, keys_dim, *_ = in_dims
        if keys is not None and keys_dim is None and x_dim is not None:  # randomness="same": one draw for all
            each = [_Quantisation.apply(part, constants, backward, keys, *static) for part in x.unbind(x_dim)]
            return torch.stack(each), 0
        if keys_dim is not None:  # randomness="different": draws for the batch as a whole
            keys = keys.select(keys_dim, 0)
            if x_dim is None:
                x, x_dim = x.expand(info.batch_size, *x.shape), 0
        return _Quantisation.apply(x, constants, backward, keys, *static), x_dim


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
        noise: "uniform", "triangular", "normal", "logistic", or a density of your own: an `anabook.symbolic.Density`
            with a finite standard deviation. Its shape is what counts; mean and std are set here.
        strategy: what the forward pass gives while training: "expectation" E[σ(x − ν)]; "mode", the most probable
            level (the higher one at a tie); "random", one draw, independent for each element.
        mean: α.
        std: β ≥ 0. By default the noise spans half the smallest step to either side of its mean (the wider side of a
            lopsided density), with at least 95 % of its mass, as at the start of the paper's experiments.
        generator: a `torch.Generator` for the draws of "random"; by default torch's global one (`torch.manual_seed`).

    Raises:
        TypeError: a quantiser that is not a `Quantiser`; in the call, a tensor that is not of floating-point type.
        ValueError: unknown family or strategy, non-finite mean, negative or non-finite std; a density with parameters
            left, without a standard deviation, or with functions that torch lacks.

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
        noise: str | Density = "uniform",
        strategy: str = "mode",
        mean: float = 0.0,
        std: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(quantiser, Quantiser):
            raise TypeError(f"quantiser must be a Quantiser, not {quantiser!r}.")
        self.quantiser = quantiser
        self.strategy = choice(strategy, kernels.STRATEGIES, "strategy")
        self.noise = noise
        law = _law(noise)
        if law is not noise and self.strategy != "mode":
            law.prepare_tails()
        self.generator = generator
        self.layer: int | None = None
        self.register_buffer("levels", None, persistent=False)
        self.register_buffer("thresholds", None, persistent=False)
        self._fill(torch.get_default_device())
        self._plans: dict[tuple[bool, torch.dtype, torch.device], _Plan] = {}
        if std is None:
            half_width = float(quantiser.steps.min()) / 2
            std = Noise.covering(law, half_width).std if isinstance(law, str) else law.covering(half_width)
        self.set_noise(mean, std)

    @property
    def mean(self) -> float:
        """α, the noise's mean."""
        return self._mean

    @property
    def std(self) -> float:
        """β, the noise's standard deviation."""
        return self._std

    def covering_std(self, half_width: float | None = None) -> float:
        """The standard deviation with which the noise spans a half-width, or has at least 95 % of its mass within it.

        Args:
            half_width: greater than 0; by default half the smallest step of the quantiser.
        """
        half_width = float(self.quantiser.steps.min()) / 2 if half_width is None else real(half_width, "half_width", above=0.0)
        law = _law(self.noise)
        return Noise.covering(law, half_width).std if isinstance(law, str) else law.covering(half_width)

    def set_noise(self, mean: float, std: float) -> None:
        """Set the noise's mean α and standard deviation β ≥ 0, as plain finite numbers."""
        mean, std = real(mean, "mean"), real(std, "std", minimum=0.0)
        self._mean, self._std = mean, std
        used = {torch.get_default_dtype(), *(dtype for training, dtype, _ in self._plans if training)}
        self._plans = {key: plan for key, plan in self._plans.items() if not key[0]}
        # Ready before the next call, so that a program compiled around it finds constants, not the search for them.
        for dtype in used:
            self._plan(True, dtype, self.levels.device)

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor) or not x.dtype.is_floating_point:
            got = f"a tensor of {x.dtype}" if isinstance(x, Tensor) else f"{type(x).__name__}"
            raise TypeError(f"Quantise works on tensors of floating-point type, not on {got}.")
        plan = self._plan(self.training, x.dtype, x.device)
        keys = None
        if plan.kernel == "drawn":
            keys = torch.randint(-2**31, 2**31, (3,), dtype=torch.int32, device=x.device, generator=self.generator)
        return _Quantisation.apply(x, plan.constants, plan.backward, keys, plan.kernel, plan.static, plan.slope)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The latent weight to store when a quantised one is assigned: the value itself."""
        return weight

    def extra_repr(self) -> str:
        layer = "" if self.layer is None else f", layer={self.layer}"
        return (f"{self.quantiser!r}, noise={self.noise!r}, strategy={self.strategy!r}, "
                f"mean={self._mean:.4g}, std={self._std:.4g}{layer}")

    def _plan(self, training: bool, dtype: torch.dtype, device: torch.device) -> _Plan:
        key = (training, dtype, device)
        if key not in self._plans:
            self._plans[key] = self._make_plan(*key)
        return self._plans[key]

    def _make_plan(self, training: bool, dtype: torch.dtype, device: torch.device) -> _Plan:
        wide, levels, thresholds = compute_dtype(dtype), self.quantiser.levels, self.quantiser.thresholds

        def constants(values: np.ndarray) -> Tensor:
            return torch.tensor(values, dtype=wide, device=device)

        def quantised(starts: np.ndarray, mean: float, stair: np.ndarray = levels) -> tuple[str, tuple, Tensor]:
            # Rounded to x's own type first, as Quantiser does: a threshold stored in that type is hit exactly.
            if stair is levels:
                starts = np.where(starts == thresholds, torch.tensor(thresholds).to(dtype).double().numpy(), starts)
            layout, values = kernels.layout_of(stair, starts, wide, mean=mean)
            return "quantised", (layout,), constants(values)

        if not training:
            return _Plan(*quantised(thresholds, 0.0), (), None)
        if self._std < torch.finfo(wide).tiny:
            return _Plan(*quantised(thresholds, self._mean), (), None)
        law = _law(self.noise)
        layout, values = kernels.layout_of(levels, thresholds, wide, law, self._std, self._mean)
        static, full = (layout, law), constants(values)
        if self.strategy == "mode":
            stair, starts, offset = _mode(self.quantiser, law, self._std)
            return _Plan(*quantised(starts, self._mean + offset, stair), static, full)
        kernel = "expected" if self.strategy == "expectation" else "drawn"
        # Two tensors: a program that is being compiled must not meet one twice in a call.
        return _Plan(kernel, static, full, static, full.clone())

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_plans": {}}

    def _fill(self, device: torch.device) -> None:
        self.levels = torch.tensor(self.quantiser.levels, dtype=torch.float64, device=device)
        self.thresholds = torch.tensor(self.quantiser.thresholds, dtype=torch.float64, device=device)

    def _apply(self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> Quantise:
        # net.half() would round a threshold such as 0.07 for good: take the device, keep the values.
        super()._apply(function, recurse)
        self._fill(self.levels.device)
        self._plans = {}
        self.set_noise(self._mean, self._std)
        return self


def _law(noise: str | Density) -> kernels.Kind:
    """What the kernels take for a noise: a family's name, or the functions of a density."""
    if isinstance(noise, str):
        return choice(noise, FAMILIES, "noise")
    if type(noise).__module__.partition(".")[0] == "anabook":  # sympy is loaded for a density alone
        from anabook.symbolic import Density
        from anabook.training._densities import law_of

        if isinstance(noise, Density):
            return law_of(noise)
    listing = ", ".join(map(repr, FAMILIES))
    raise TypeError(f"noise must be one of {listing}, or an anabook.symbolic.Density, not {noise!r}.")


def _mode(quantiser: Quantiser, law: kernels.Kind, std: float) -> tuple[np.ndarray, np.ndarray, float]:
    """The stair that the mode is under noise of mean 0: its levels, where they start, and an offset of these."""
    if isinstance(law, str):
        return quantiser.levels, Regularisation(quantiser, Noise(law, 0.0, std)).mode_thresholds(), 0.0
    return law.mode_stair(quantiser, std)
