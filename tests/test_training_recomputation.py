"""Gradient checkpointing: the forward pass that is run again draws what the first one drew."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from anabook import Quantiser
from anabook.training import Quantise

X = torch.linspace(-1.5, 1.5, 42).reshape(7, 6)
either_way = pytest.mark.parametrize("reentrant", [False, True], ids=["non-reentrant", "reentrant"])


def block(generator=None, dropout=0.0):
    torch.manual_seed(0)
    quantise = Quantise(Quantiser.ternary(), strategy="random", std=0.5, generator=generator)
    return nn.Sequential(nn.Linear(6, 50), quantise, nn.Dropout(dropout), nn.Linear(50, 6), copy.copy(quantise),
                         nn.Linear(6, 6))


def own(seed=3):
    return torch.Generator().manual_seed(seed)


def gradients(forward, generator, steps=1, dropout=0.0):
    """The gradients of some steps, and what the generators give afterwards."""
    net, found = block(generator, dropout), []
    torch.manual_seed(1)
    for _ in range(steps):
        x = X.clone().requires_grad_()
        net.zero_grad()
        forward(net, x).square().sum().backward()
        found += [x.grad, *(p.grad.clone() for p in net.parameters())]
    after = torch.rand(2, generator=generator) if generator is not None else torch.zeros(2)
    return [*found, after, torch.rand(2)]


def same(mine, its):
    assert any(g.any() for g in mine)
    return len(mine) == len(its) and all(torch.equal(a, b) for a, b in zip(mine, its))


@either_way
@pytest.mark.parametrize("generator", [own, lambda: None], ids=["own generator", "global generator"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_checkpointed_draws_are_those_of_the_forward_pass(reentrant, generator, dropout):
    def run(net, x):
        return checkpoint(net, x, use_reentrant=reentrant)

    plain = gradients(lambda net, x: net(x), generator(), steps=3, dropout=dropout)
    checked = gradients(run, generator(), steps=3, dropout=dropout)
    assert same(checked, plain)
    assert not same(gradients(lambda net, x: net(x), own(4), steps=3), plain)


@either_way
def test_parts_in_a_row_and_one_part_called_twice_draw_each_their_own(reentrant):
    def twice(run):
        return lambda net, x: run(net, run(net, x)) + run(net, 0.5 * x)

    plain = gradients(twice(lambda net, x: net(x)), own())
    assert same(gradients(twice(lambda net, x: checkpoint(net, x, use_reentrant=reentrant)), own()), plain)
    row = gradients(lambda net, x: checkpoint_sequential(net, 3, x, use_reentrant=reentrant), own())
    assert same(row, gradients(lambda net, x: net(x), own()))


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("outer", [False, True])
def test_a_checkpoint_within_a_checkpoint_draws_the_same(outer, inner):
    def nested(net, x):
        def whole(x):
            x = net[1](net[0](x))  # a draw before and one after
            first = net[5](net[4](checkpoint(net[2:4], x, use_reentrant=inner)))
            return first + checkpoint(net, x[:, :6], use_reentrant=inner)

        return checkpoint(whole, x, use_reentrant=outer)

    def plain(net, x):
        x = net[1](net[0](x))
        return net[5](net[4](net[2:4](x))) + net(x[:, :6])

    assert same(gradients(nested, own()), gradients(plain, own()))


def test_a_second_backward_pass_through_the_same_graph_draws_the_same():
    results = []
    for checked in (False, True):
        net, x = block(own()), X.clone().requires_grad_()
        out = checkpoint(net, x, use_reentrant=False) if checked else net(x)
        loss = out.square().sum()
        loss.backward(retain_graph=True)
        first = net[0].weight.grad.clone()
        net.zero_grad()
        loss.backward()
        assert torch.equal(first, net[0].weight.grad)
        results.append([first, x.grad])
    assert same(*results)


def test_without_early_stopping_and_without_the_global_state_the_draws_are_the_same():
    plain = gradients(lambda net, x: net(x), own())
    for options in ({"early_stop": False}, {"preserve_rng_state": False}, {"determinism_check": "none"}):
        checked = gradients(lambda net, x: checkpoint(net, x, use_reentrant=False, **options), own())
        assert same(checked[:-1], plain[:-1])


def test_draws_of_two_passes_before_their_backward_passes_are_kept_apart():
    results = []
    for checked in (False, True):
        net, x = block(own()), X.clone().requires_grad_()
        run = (lambda v: checkpoint(net, v, use_reentrant=False)) if checked else net
        losses = [run(x).square().sum() for _ in range(3)]
        for loss in (losses[1], losses[2], losses[0]):
            loss.backward()
        results.append([x.grad, *(p.grad for p in net.parameters())])
    assert same(*results)
