"""Forward and backward of a quantiser with a quantum ε, each in one pass: y = ε·m(x/ε), and both of its derivatives.

The kernels are those of the quantum 1 at u = x/ε. The backward pass computes m(u) once more, for

    ∂y/∂x = m′(u),    ∂y/∂ε = m(u) − u·m′(u),

so that nothing but x is kept between the passes; and where all elements share one quantum it adds up the second in the
same pass.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from anabook.training import kernels
from anabook.training._calls import STEP, Call
from anabook.training._ops import as_type
from anabook.training._plans import Plan


class Fused(NamedTuple):
    """What the programs of a call are made for: its pass, and its slope.

    Attributes:
        kernel, static: of the value m(u).
        slope: of m′(u); empty in a forward pass.
        kinds: the names of the layouts' types, as some layouts compare equal.
    """

    kernel: str
    static: tuple
    slope: tuple
    kinds: tuple[str, ...]


def scaled(x: Tensor, c: kernels.Constants, quantum: Tensor, *rest: Any) -> Tensor:
    """ε·m(x/ε)."""
    *keys, call = rest
    u = as_type(x, quantum.dtype) / quantum
    return as_type(_value(u, c, keys, call) * quantum, x.dtype)


def scaled_each(quantum: Tensor, x: Tensor, c: kernels.Constants, *rest: Any) -> Tensor:
    """The same with a quantum for each element."""
    return scaled(x, c, quantum, *rest)


def scaled_slope(
    grad: Tensor, x: Tensor, c: kernels.Constants, back: kernels.Constants, quantum: Tensor, *rest: Any
) -> tuple[Tensor, Tensor]:
    """`grad` times ∂y/∂x, and the sum of `grad` times ∂y/∂ε."""
    of_x, of_quantum = scaled_slope_each(grad, quantum, x, c, back, *rest)
    return of_x, of_quantum.sum()


def scaled_slope_each(
    grad: Tensor, quantum: Tensor, x: Tensor, c: kernels.Constants, back: kernels.Constants, *rest: Any
) -> tuple[Tensor, Tensor]:
    """`grad` times ∂y/∂x and times ∂y/∂ε, with a quantum for each element."""
    *keys, call = rest
    u, wide = as_type(x, quantum.dtype) / quantum, as_type(grad, quantum.dtype)
    rate = kernels.slope(wide, u, back, *call.slope)
    return as_type(rate, x.dtype), slope_of_quantum(wide * _value(u, c, keys, call), u, rate)


def slope_of_quantum(own: Tensor, u: Tensor, rate: Tensor) -> Tensor:
    """∂y/∂ε = m(u) − u·m′(u), where the slope m′ is 0 without the second term, also for an infinite u.

    Example:
        >>> slope_of_quantum(torch.tensor([3.0, 7.0]), torch.tensor([2.5, torch.inf]), torch.tensor([1.0, 0.0]))
        tensor([0.5000, 7.0000])
    """
    flat = rate == 0
    # Once for the value, and once for its own derivatives, in which u would be a factor of 0.
    return own - torch.where(flat, rate, torch.where(flat, 0.0, u) * rate)


def in_quanta(x: Tensor, quantum: Tensor) -> Tensor:
    """x/ε for autograd: the derivative with respect to ε of an infinite x is 0, so that 0 is what it adds behind a slope of 0.

    Example:
        >>> quantum = torch.tensor(0.5, requires_grad=True)
        >>> u = in_quanta(torch.tensor([1.0, torch.inf]), quantum)
        >>> u.clamp(max=3.0).sum().backward()
        >>> u.tolist(), quantum.grad.item()
        ([2.0, inf], -4.0)
    """
    endless = x.isinf()
    return torch.where(endless, x / quantum.detach(), torch.where(endless, 0.0, x) / quantum)


def _value(u: Tensor, c: kernels.Constants, keys: list[Tensor], call: Fused) -> Tensor:
    return kernels.kernel_of(call.kernel)(u, c, *keys, *call.static)


for _name, _kernel, _like in (
    ("scaled", scaled, 1),
    ("scaled_each", scaled_each, 2),
    ("scaled_slope", scaled_slope, 2),
    ("scaled_slope_each", scaled_slope_each, 3),
):
    kernels.register(_name, _kernel, _like)


class ScaledCall(torch.autograd.Function):
    """A call under noise that nothing transforms. Saves its input and a few constants.

    Args of `apply`:
        x: the input.
        scale: ε as a parameter, one number or of a shape that broadcasts with x.
        plan: of the `Quantise` for the quantum 1, in the type to compute in.
        value: the plan whose forward pass stands for y/ε in ∂y/∂ε.
        keys: for draws.
        factor: of the gradient of ε.
    """

    step = STEP

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, plan: Plan, value: Plan, keys: Tensor | None, factor: float) -> Tensor:
        ctx.plans, ctx.keys, ctx.factor = (plan, value), keys, factor
        ctx.save_for_backward(x, scale, plan.backward)
        quantum = as_type(scale.detach(), plan.constants.dtype)
        static = (_fused(plan, ()),)
        others = () if keys is None else (keys,)
        drawing = keys is not None

        def parts() -> tuple:
            return (plan.apart(0),)

        if scale.numel() == 1:
            others = (plan.constants, quantum.reshape(()), *others)
            return kernels.run("scaled", x, *others, static=static, parts=parts, drawing=drawing)
        each = quantum.expand_as(x)
        others = (x, plan.constants, *others)
        return kernels.run("scaled_each", each, *others, static=static, parts=parts, drawing=drawing)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, back = ctx.saved_tensors
        plan, value = ctx.plans
        if torch.is_grad_enabled():
            of_x, of_scale = _plainly(grad, x, scale, plan, value, ctx.keys)
        else:
            quantum = as_type(scale.detach(), plan.constants.dtype)
            static = (_fused(value, plan.slope),)
            keys = (ctx.keys,) if value.kernel in kernels.DRAWING else ()
            drawing = bool(keys)

            def parts() -> tuple:
                return value.apart(0), plan.apart(1)

            if scale.numel() == 1:
                others = (x, value.constants, back, quantum.reshape(()), *keys)
                of_x, of_scale = kernels.run("scaled_slope", grad, *others, static=static, parts=parts, drawing=drawing)
            else:
                others = (quantum.expand_as(x), x, value.constants, back, *keys)
                of_x, of_scale = kernels.run("scaled_slope_each", grad, *others, static=static, parts=parts, drawing=drawing)
        of_scale = of_scale.reshape(scale.shape) if scale.numel() == 1 else of_scale.sum_to_size(scale.shape)
        return of_x, as_type(of_scale * ctx.factor, scale.dtype), None, None, None, None


def _fused(plan: Plan, slope: tuple) -> Fused:
    return Fused(plan.kernel, plan.static, slope, tuple(type(part).__name__ for part in (*plan.static, *slope)))


def _plainly(grad: Tensor, x: Tensor, scale: Tensor, plan: Plan, value: Plan, keys: Tensor | None) -> tuple[Tensor, Tensor]:
    """Both gradients where the caller wants to differentiate again, which only plain functions allow."""
    kind = plan.constants.dtype
    quantum, wide = as_type(scale, kind), as_type(grad, kind)
    u = in_quanta(as_type(x, kind), quantum)
    rate = kernels.slope(torch.ones_like(u), u, plan.backward, *plan.slope)
    own = Call.apply(u, value, keys if value.kernel in kernels.DRAWING else None)
    each = wide * slope_of_quantum(own, u, rate)
    return as_type(wide * rate, x.dtype), each.sum() if scale.numel() == 1 else each
