"""Backward stopping where autograd's graph does not show everything: checkpointing, graphs inside nodes, hooks."""

import functools

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential
from training_helpers import TERNARY, bright_features, same

from anabook import Quantiser, Schedule, training
from anabook.training import Quantise, Stopper, Stopping

ADAM = functools.partial(torch.optim.Adam, weight_decay=1e-2)  # moves what has a gradient of 0, and not what has none


def unit():
    return nn.Sequential(nn.Linear(8, 8, bias=False), nn.LayerNorm(8), nn.ReLU())


class Blocks(nn.Module):
    """Three blocks, each called as `call` says: by its number, with the block and its input."""

    def __init__(self, call):
        super().__init__()
        self.blocks, self.last, self.call, self.passes = nn.ModuleList(unit() for _ in range(3)), nn.Linear(8, 3), call, 0

    def forward(self, x):
        self.passes += self.training
        for i, block in enumerate(self.blocks):
            x = self.call(self, i, block, x)
        return self.last(x)


class Inner(torch.autograd.Function):
    """A node with a graph of its own inside, which is built in its backward pass, as reversible networks do."""

    @staticmethod
    def forward(ctx, x, block):
        ctx.block = block
        ctx.save_for_backward(x)
        with torch.no_grad():
            return block(x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            ctx.block(x).backward(grad)
        return x.grad, None


def plain(net, i, block, x):
    return block(x)


def at(number, how):
    return lambda net, i, block, x: how(block, x) if i == number else block(x)


def reentrant(block, x):
    return checkpoint(block, x, use_reentrant=True)


def without_its_activation(block, x):
    return block[2](checkpoint(block[:2], x, use_reentrant=True))


def the_activation_only(block, x):
    return checkpoint(block[2], block[:2](x), use_reentrant=True)


CALLS = {
    "plain": plain,
    "reentrant, last block": at(2, reentrant),
    "reentrant, without its activation, first block": at(
        0, lambda b, x: without_its_activation(b, x * torch.ones((), requires_grad=True))
    ),
    "reentrant, without its activation, last block": at(2, without_its_activation),
    "reentrant, an activation only": at(1, the_activation_only),
    "not reentrant": at(1, lambda block, x: checkpoint(block, x, use_reentrant=False)),
    "a sequence of checkpoints": at(1, lambda block, x: checkpoint_sequential(block, 2, x, use_reentrant=True)),
    "a graph inside a node, last block": at(2, lambda block, x: Inner.apply(x, block)),
    "one block twice, hidden and then seen": at(2, lambda block, x: block(reentrant(block, x))),
    "one block twice, seen and then hidden": lambda net, i, block, x: (
        net.blocks[2](x) if i == 0 else block(x) if i == 1 else reentrant(block, x)
    ),
    "a branch without a graph": at(1, lambda block, x: block(x) + target(block, x)),
    "functional_call": at(1, lambda block, x: torch.func.functional_call(block, dict(block.named_parameters()), (x,))),
}


def target(block, x):
    with torch.no_grad():
        return block(x)


def network(call, seed=0, **options):
    torch.manual_seed(seed)
    return training.quantise(Blocks(call), **{"weights": TERNARY, "activations": TERNARY, "strategy": "mode", **options})


def train(net, stop, epochs=8, **options):
    # A block that evaluation does not use stays in float.
    schedule = Schedule(n_layers=len(training.layers(net)), interval="partition", end=6, std0=12**-0.5)
    history = training.fit(
        net,
        bright_features(),
        schedule,
        epochs=epochs,
        batch_size=17,
        optimiser=ADAM,
        **{"lr": 0.02, "initialise": None, "stop": stop, **options},
    )
    return net, history


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    "options, rule",
    [
        ({}, True),
        ({}, Stopping(same_path=True)),
        ({"weights": None}, True),
        ({"activations": None}, True),
    ],
    ids=["both", "both, same path", "activations", "weights"],
)
def test_weights_are_bit_identical_whatever_the_graph_hides(name, options, rule):
    (a, first), (b, second) = (train(network(CALLS[name], **options), stop) for stop in (rule, False))
    assert same(a, b) and first == second
    assert all(h.stopped == 0 for h in second)


def test_what_hides_nothing_is_still_stopped():
    for name in ("plain", "not reentrant", "a branch without a graph", "functional_call"):
        assert train(network(CALLS[name]), True)[1][-1].stopped > 0, name
    assert train(network(CALLS["reentrant, last block"]), True)[1][-1].stopped == 0


def late(number, how):
    """The block is called in its own way from the tenth step on."""
    return lambda net, i, block, x: how(block, x) if i == number and net.passes >= 10 else block(x)


def test_checkpointing_that_begins_behind_a_cut_is_refused_in_one_sentence():
    with pytest.raises(RuntimeError, match=r"^a part of the network began to run without a graph .*: pass stop=False\.$"):
        train(network(late(2, reentrant)), True)
    train(network(late(2, reentrant)), False)


def test_checkpointing_that_begins_before_any_cut_is_trained_as_without_stopping():
    def run(stop):
        net = network(late(2, reentrant))
        schedule = Schedule(n_layers=3, interval="partition", start=3, end=6, std0=12**-0.5)
        training.fit(net, bright_features(), schedule, epochs=8, batch_size=17, optimiser=ADAM, lr=0.02, stop=stop)
        return net

    assert same(run(True), run(False))


def test_calls_between_the_steps_do_not_count_as_hidden_parts():
    net = network(plain)
    training.set_noise(net, lambda layer, t: (0.0, 0.3 * (layer > 0)), 0)
    x, y = (torch.as_tensor(t) for t in bright_features())
    stopper = Stopper(net)
    for _ in range(3):
        with torch.no_grad():
            net(x)
        stopper.renew()
        loss = nn.functional.cross_entropy(net(x), y)
        net.zero_grad()
        stopper.watch(loss)
        loss.backward()
        stopper.settle()
    assert len(stopper.resting) > 0
    stopper.close()


def shifted_gradient(block):
    block[1].weight.register_hook(lambda g: g + 0.1)


def shifted_gradient_of_a_module(block):
    block[0].register_full_backward_hook(lambda module, grads, outs: tuple(g if g is None else g + 0.1 for g in grads))


def step_in_the_backward_pass(block):
    def step(p):
        with torch.no_grad():
            p.mul_(0.999)

    block[1].weight.register_post_accumulate_grad_hook(step)


@pytest.mark.parametrize("hook", [shifted_gradient, shifted_gradient_of_a_module, step_in_the_backward_pass])
@pytest.mark.parametrize("chain", [False, True])
def test_hooks_on_gradients_are_called_as_without_stopping(hook, chain):
    def run(stop):
        net = network(plain)
        hook(net.blocks[0])
        net = nn.Sequential(*net.blocks, net.last) if chain else net
        return train(net, stop)[0]

    assert same(run(True), run(False))


def test_a_step_that_does_not_use_a_recomputed_part_leaves_its_gradients_alone():
    """Recomputed parts are walked in the backward pass; what they hold must not be filled with zeros a step later."""

    def run(stop):
        def call(net, i, block, x):
            if i == 1 and net.training and net.passes % 3 == 0:
                return x
            return checkpoint(block, x, use_reentrant=False) if i == 1 else block(x)

        return train(network(call, activations=None), stop)[0]

    assert same(run(True), run(False))


class Distributed(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.last = nn.DataParallel(nn.Sequential(*(unit() for _ in range(3)))), nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.inner(x))


def test_a_distributed_part_is_not_stopped():
    torch.manual_seed(0)
    net = training.quantise(Distributed(), TERNARY, TERNARY)
    assert train(net, True)[1][-1].stopped == 0


def test_cached_features_of_token_ids_are_levels_and_not_whole_numbers():
    half = Quantiser([-0.5, 0.0, 0.5], [-0.25, 0.25])
    torch.manual_seed(0)
    net = nn.Sequential(nn.Embedding(5, 8), nn.Flatten(), nn.Linear(16, 8), Quantise(half, std=0.0), nn.Linear(8, 3))
    net[3].layer = 0
    ids = torch.randint(5, (30, 2))
    stopper = Stopper(net, Stopping(cache=True), ids)
    stopper.renew()
    assert torch.equal(stopper.forward(torch.arange(30)), net(ids))
    stopper.close()


@pytest.mark.parametrize(
    "call, hook, error",
    [
        ("reentrant, last block", None, RuntimeError),
        ("plain", shifted_gradient, ValueError),
    ],
)
def test_parameters_that_cannot_be_kept_still_are_refused_in_one_sentence(call, hook, error):
    net = network(CALLS[call])
    if hook:
        hook(net.blocks[0])
    with pytest.raises(error, match=r"^still=True cannot be kept here: .*: pass stop=True\.$"):
        train(net, Stopping(still=True))


class Twice(nn.Module):
    """A module that torch does not know, in a chain."""

    def forward(self, x):
        return 2 * x


def test_features_behind_modules_of_ones_own_can_be_cached():
    torch.manual_seed(0)
    net = training.quantise(nn.Sequential(*unit(), Twice(), *unit(), nn.Linear(8, 3)), TERNARY, TERNARY)
    schedule = Schedule(n_layers=2, interval="partition", end=4, std0=12**-0.5)
    history = training.fit(
        net, bright_features(), schedule, epochs=6, batch_size=17, stop=Stopping(cache=True), test=bright_features(seed=1)
    )
    assert history[-1].stopped > 0
