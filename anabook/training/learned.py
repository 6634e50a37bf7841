"""Quanta that are trained: the derivative of a quantiser with respect to its quantum, and what keeps it positive.

A quantiser with quantum ε gives y = ε·m(u) at u = x/ε, where m is the forward pass of a `Quantise` for the quantum 1 and
m′ the slope that its backward pass uses. By the chain rule, with the noise in units of the quantum,

    ∂y/∂x = m′(u),    ∂y/∂ε = m(u) − u·m′(u) = y/ε − (x/ε)·m′(x/ε),

added up over the elements that share the quantum. For the strategy "expectation" this is the true derivative of ε·E[σ(x/ε − ν)].
For "mode" and "random" m′ is the expectation's slope, as it is for x. Two cases are known by other names, both for linear
levels, rounding to nearest and uniform noise that spans one quantum, where E[σ(u − ν)] = clip(u, −Q_N, Q_P) and so
m′ is 1 between −Q_N and Q_P and 0 outside:

* **LSQ**, learned step sizes (S. K. Esser et al., ICLR 2020), is the strategy "mode": round(u) − u inside of the range,
  and −Q_N or Q_P outside.
* **PACT**, a learned upper end α = n·ε of the levels 0, ε, …, n·ε (J. Choi et al., 2018), takes the mode for the forward
  pass and the derivative of the expectation's value for ε: clip(u) − u·clip′(u), which is 0 inside of the range and n above
  it, so that ∂y/∂α = 1 where x ≥ α and 0 elsewhere. That is `quantum_gradient="expectation"`. LSQ has the rounding error
  round(u) − u besides, which PACT leaves out.

Without noise (β = 0, or in evaluation mode) m′ = 0 and ∂y/∂ε = y/ε = σ(x/ε): the derivative of ε·σ(x/ε) wherever it has one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from anabook._validate import choice, flag, real
from anabook.training import kernels
from anabook.training._modes import forward_mode, rewriting, transforming
from anabook.training._ops import FLOATS, PLAIN, as_type, compute_dtype
from anabook.training._plans import Plan
from anabook.training.scaled import Scaled, checked_scale
from anabook.training.scaled_kernels import ScaledCall, in_quanta

if TYPE_CHECKING:
    from anabook.quantisers import Quantiser

GRADIENTS = ("value", "expectation")
"""What stands for y in ∂y/∂ε = y/ε − (x/ε)·m′(x/ε)."""


class Learned(Scaled):
    """ε·q(x/ε) with a quantum ε that is a parameter, for a layer or for each channel.

    The parameter `scale` is ε itself, so that learning rates mean what they mean in the literature, and a state dict
    has the names and values of one with fixed quanta (`Scaled`). The logarithm would stay positive by itself, but a step
    of SGD on it moves ε by ε² times as much, so that published rates would not carry over. Positivity is kept where steps are
    taken: `keep_positive`, which `fit` calls, lets no step take away more than half of a quantum. One that is not
    positive and finite all the same is refused.

    Args:
        quantise: a `Quantise` for the quantum 1.
        scale: ε > 0 to start with, a number or a tensor that broadcasts with the input.
        quantum_gradient: "value" is ∂y/∂ε = y/ε − (x/ε)·m′(x/ε) with the output y of the forward pass, as in LSQ;
            "expectation" puts the expectation's value in the place of y, whatever the strategy, as in PACT.
        gradient_scale: a number that the gradient of ε is multiplied by; None for 1; "lsq" for 1/√(n·q), where n is
            the number of elements of a layer's weight, or of the features of one example, that share ε, and q is the highest
            level in quanta (Esser et al. 2020). It is for SGD: Adam's steps do not depend on it.
        batched: whether the first axis of the input counts examples, as that of features does.
        name: what messages call it, such as "the weight of 'fc1'".

    Raises:
        ValueError: ε not positive or not finite; a name that is none of these; an expectation of what is no probability.
        TypeError: arguments of a wrong type.

    Example:
        >>> from anabook import Quantiser
        >>> from anabook.training import Quantise
        >>> fine = Quantiser.linear(4, rounding="nearest")
        >>> lsq = Quantise(fine, noise="uniform", strategy="mode", quantum="learned", scale=0.5)
        >>> y = lsq(torch.tensor([0.6, 9.0]))  # 1.2 and 18 quanta
        >>> y.sum().backward()
        >>> y.tolist(), round(lsq.scale.grad.item(), 4)  # (1 − 1.2) + 7
        ([0.5, 3.5], 6.8)
    """

    def __init__(
        self,
        quantise: Any,
        scale: Tensor | float = 1.0,
        *,
        quantum_gradient: str = "value",
        gradient_scale: str | float | None = None,
        batched: bool = True,
        name: str | None = None,
    ) -> None:
        nn.Module.__init__(self)
        if not hasattr(quantise, "need_average"):
            raise TypeError(f"a learned quantum needs a Quantise, not {type(quantise).__name__}.")
        dtype = scale.dtype if isinstance(scale, Tensor) and scale.dtype == torch.float64 else torch.float32
        self.quantise = quantise
        self.scale = nn.Parameter(checked_scale(scale, dtype))  # type: ignore[assignment]
        check_settings(quantum_gradient, gradient_scale)
        self.quantum_gradient, self.gradient_scale = quantum_gradient, gradient_scale
        self._highest = highest(quantise.quantiser)
        self.batched, self.name = flag(batched, "batched"), name
        if self.quantum_gradient == "expectation":
            quantise.need_average()

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, fx.Proxy) or not self.quantise.training:
            return super().forward(x)
        if not isinstance(x, Tensor) or x.dtype not in FLOATS:
            return self.quantise(x)  # which refuses it
        if not (torch.compiler.is_compiling() or transforming()) and self.scale.device.type == "cpu":
            self.check()
        plan = self._plan(x)
        if plan is None:
            return self._composed(x)
        keys = self.quantise.keys(x.device) if plan.kernel in kernels.DRAWING else None
        value = plan if self.quantum_gradient == "value" else plan.average
        return ScaledCall.apply(x, self.scale, plan, value, keys, self.factor(x))

    def _plan(self, x: Tensor) -> Plan | None:
        """What a call under noise comes to, where nothing transforms it or writes a program of it; None elsewhere."""
        if type(x) not in PLAIN or x.dtype not in FLOATS or torch.compiler.is_compiling() or rewriting() or forward_mode():
            return None
        hooks = self.quantise._forward_hooks.values()
        if self.quantise._forward_pre_hooks or not all(getattr(hook, "without_noise", False) for hook in hooks):
            return None
        if hooks and not torch.is_grad_enabled() or not _broadcasts(self.scale.shape, x.shape):
            return None
        plan = self.quantise.plan(compute_dtype(x.dtype), x.device)
        return None if plan is None or plan.backward is None else plan

    def _composed(self, x: Tensor) -> Tensor:
        """The same in operations of torch, whose derivatives make up that of ε, also under torch's transformations."""
        wide = as_type(x, compute_dtype(x.dtype))
        scale, factor = self.scale.to(wide.dtype), self.factor(x)
        if factor != 1.0:  # the value to the last bit, the gradient times the factor
            scale = scale.detach() + (scale - scale.detach()) * factor
        u = in_quanta(wide, scale)
        value = self.quantise(u)
        if self.quantum_gradient == "value":
            return as_type(value * scale, x.dtype)
        average = self.quantise.average(u.detach())
        return as_type(value * scale.detach() + (scale - scale.detach()) * average, x.dtype)

    def factor(self, x: Tensor) -> float:
        """What the gradient of ε is multiplied by."""
        if self.gradient_scale is None:
            return 1.0
        if not isinstance(self.gradient_scale, str):
            return float(self.gradient_scale)
        shared = (x.numel() // len(x) if self.batched and x.dim() else x.numel()) / self.scale.numel()
        return 1 / math.sqrt(max(shared, 1) * self._highest)

    def sound(self) -> Tensor:
        """Whether the quantum is positive and finite everywhere, as a tensor on its device, which nothing waits for."""
        scale = self.scale.detach()
        return ((scale > 0) & (scale < math.inf)).all()

    def check(self) -> None:
        """Refuse a quantum that is not positive and finite.

        Raises:
            FloatingPointError: there is one.
        """
        ends = (self.scale,) if self.scale.numel() == 1 else self.scale.aminmax()
        low, high = torch.stack([end.detach().reshape(()) for end in (ends[0], ends[-1])]).tolist()
        if not (low > 0 and high < math.inf):
            wrong = low if not low > 0 else high
            raise FloatingPointError(
                f"the learned quantum of {self.name or 'a quantiser'} became {wrong:g}, and it must stay positive and finite: "
                "lower the learning rate, or in a loop of your own call training.keep_positive(optimiser, net) once."
            )

    def fixed(self) -> Scaled:
        """A `Scaled` with the present quantum, if it is one, and the same `Quantise`."""
        self.check()
        made = Scaled(self.quantise, 1.0)
        made.scale = self.scale.detach().clone()
        return made.train(self.training)

    @property
    def settings(self) -> tuple:
        """What the gradient of the quantum depends on, beside the quantiser."""
        return self.quantum_gradient, self.gradient_scale, self.batched

    def extra_repr(self) -> str:
        values = self.scale.detach().flatten().tolist()
        quantum = f"{values[0]:.4g}" if len(values) == 1 else f"{len(values)} of {min(values):.4g} to {max(values):.4g}"
        factor = "" if self.gradient_scale is None else f", gradient_scale={self.gradient_scale!r}"
        return f"quantum={quantum}, quantum_gradient={self.quantum_gradient!r}{factor}"


def _broadcasts(shape: torch.Size, to: torch.Size) -> bool:
    """Whether a tensor of a shape can be expanded to another one; one number always can."""
    if shape.numel() == 1 or shape == to:
        return True
    return len(shape) <= len(to) and all(a in (1, b) for a, b in zip(reversed(shape), reversed(to)))


def check_settings(quantum_gradient: Any, gradient_scale: Any) -> None:
    """Refuse settings that `Learned` does not have."""
    choice(quantum_gradient, GRADIENTS, "quantum_gradient")
    if isinstance(gradient_scale, str):
        choice(gradient_scale, ("lsq",), "gradient_scale")
    elif gradient_scale is not None:
        real(gradient_scale, "gradient_scale", above=0.0)


def highest(quantiser: Quantiser) -> float:
    """LSQ's Q_P: the highest level in quanta; of levels that are not positive the modulus of the lowest."""
    top = float(quantiser.levels[-1])
    return (top if top > 0 else -float(quantiser.levels[0])) / float(quantiser.steps.min())


def settings_of(*given: Any) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The settings of the learned quanta of weights, and of activations; None where quanta are fixed."""
    names, parts = ("quantum", "quantum_gradient", "gradient_scale"), ("weights", "activations")
    each: list[dict[str, Any]] = [{}, {}]
    for name, value in zip(names, given):
        if isinstance(value, Mapping):
            for part in value:
                choice(part, parts, f"each name in {name}")
        for settings, part in zip(each, parts):
            settings[name] = value.get(part) if isinstance(value, Mapping) else value
    for settings in each:
        if settings["quantum"] is not None:
            choice(settings["quantum"], ("learned",), "quantum")
        if settings["quantum_gradient"] is None:
            settings["quantum_gradient"] = "value"
        check_settings(settings["quantum_gradient"], settings["gradient_scale"])
    weights, activations = (s if s.pop("quantum") is not None else None for s in each)
    if weights is activations is None and given[1:] != ("value", None):
        raise ValueError(
            "quantum_gradient and gradient_scale are for learned quanta: pass quantum='learned', or leave them out."
        )
    return weights, activations
