"""Gradient checkpointing: the forward pass that is run again draws what the first one drew, or refuses to draw."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from anabook import Quantiser
from anabook.training import Quantise

X = torch.linspace(-1.5, 1.5, 42).reshape(7, 6)
either_way = pytest.mark.parametrize("reentrant", [False, True], ids=["non-reentrant", "reentrant"])


def block(generator=None):
    torch.manual_seed(0)
    quantise = Quantise(Quantiser.ternary(), strategy="random", std=0.5, generator=generator)
    return nn.Sequential(nn.Linear(6, 50), quantise, nn.Dropout(0.3), nn.Linear(50, 6), copy.copy(quantise), nn.Linear(6, 6))


def gradients(forward, net):
    torch.manual_seed(1)
    x = X.clone().requires_grad_()
    forward(net, x).square().sum().backward()
    return [x.grad, *(p.grad for p in net.parameters()), torch.rand(2)]


@either_way
def test_checkpointed_draws_are_those_of_the_forward_pass(reentrant):
    plain = gradients(lambda net, x: net(x), block())
    checked = gradients(lambda net, x: checkpoint(net, x, use_reentrant=reentrant), block())
    assert all(g.any() for g in plain) and all(torch.equal(a, b) for a, b in zip(checked, plain))


@either_way
def test_quantiser_with_a_generator_of_its_own_refuses_to_draw_anew_within_a_backward_pass(reentrant):
    generator = torch.Generator().manual_seed(3)
    net = block(generator)
    out = checkpoint(net, X.clone().requires_grad_(), use_reentrant=reentrant)
    with pytest.raises(RuntimeError, match="would draw other numbers than before: leave its generator out"):
        out.sum().backward()
    # Without checkpointing, and where nothing is drawn, it does as ever.
    gradients(lambda net, x: net(x), net)
    checkpoint(net.eval(), X.clone().requires_grad_(), use_reentrant=reentrant).sum().backward()
