"""Calls of a `Quantise` as steps of autograd's graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from anabook.training import kernels
from anabook.training._plans import Plan

STEP = "Quantise"
"""What the steps of all these classes are called where paths through a network are compared: they are one and the same."""


class Call(torch.autograd.Function):
    """A call that nothing watches or transforms. Saves its input and a few constants, and nothing where the gradient is 0."""

    step = STEP

    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: Plan, keys: Tensor | None) -> Tensor:
        ctx.plan = plan
        if plan.backward is not None:
            ctx.save_for_backward(x, plan.backward)
        return plan.forwards(x, keys)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        plan = ctx.plan
        if plan.backward is None:
            return torch.zeros_like(grad), None, None
        x, constants = ctx.saved_tensors
        if torch.is_grad_enabled():
            # The caller wants to differentiate again, which only the plain function allows.
            return kernels.slope(grad, x, constants, *plan.slope), None, None
        return plan.backwards(grad, x, constants), None, None


class Quantisation(torch.autograd.Function):
    """The same for `torch.func`, tracers and compilers, to which every tensor has to be shown."""

    step = STEP

    @staticmethod
    def forward(
        x: Tensor, constants: Tensor, backward: Tensor | None, keys: Tensor | None, kernel: str, static: tuple, slope: tuple
    ) -> Tensor:
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
    def vmap(info: Any, in_dims: tuple, *inputs: Any) -> tuple[Tensor, int | None]:
        return _batched(Quantisation, info, in_dims, *inputs)


class DualQuantisation(Quantisation):
    """The same with a forward-mode derivative. A class of its own: torch.compile refuses a function that has one."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        Quantisation.setup_context(ctx, inputs, output)
        if not ctx.dirac:
            ctx.save_for_forward(inputs[0], inputs[2])

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        if ctx.dirac:
            return torch.zeros_like(tangent)
        x, constants = ctx.saved_tensors
        return kernels.slope(tangent, x, constants, *ctx.slope)

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *inputs: Any) -> tuple[Tensor, int | None]:
        return _batched(DualQuantisation, info, in_dims, *inputs)


def _batched(
    function: type[Quantisation],
    info: Any,
    in_dims: tuple,
    x: Tensor,
    constants: Tensor,
    backward: Tensor | None,
    keys: Tensor | None,
    *static: Any,
) -> tuple[Tensor, int | None]:
    x_dim, _, _, keys_dim, *_ = in_dims
    if keys is not None and keys_dim is None and x_dim is not None:  # randomness="same": one draw for all
        each = [function.apply(part, constants, backward, keys, *static) for part in x.unbind(x_dim)]
        return torch.stack(each), 0
    if keys_dim is not None:  # randomness="different": draws for the batch as a whole
        keys = keys.select(keys_dim, 0)
        if x_dim is None:
            x, x_dim = x.expand(info.batch_size, *x.shape), 0
    return function.apply(x, constants, backward, keys, *static), x_dim
