"""Noise that never changes, with the mode, is the ordinary straight-through estimator: the same outputs and gradients."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from anabook import Quantiser, Schedule, training
from anabook.training.state_dicts import is_mark

TERNARY, BINARY = Quantiser.ternary(), Quantiser([-1, 1], [0])


class TernarySTE(torch.autograd.Function):
    """Written by hand: round to −1, 0, 1; pass the gradient where the input was not clipped."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.floor(x + 0.5).clamp(-1, 1)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * (x.abs() < 1)


class By(nn.Module):
    """A function as a module, for a layer's features or its weight."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)

    def right_inverse(self, weight):
        return weight


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(36, 8, bias=False),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Linear(8, 3),
    ).double()


def straight_through(function):
    net = network()
    for i, layer in enumerate(net):
        if isinstance(layer, nn.ReLU):
            net[i] = By(function)
    for i in (0, 5):
        parametrize.register_parametrization(net[i], "weight", By(function))
    return net


def annealed(quantiser, half_width):
    net = training.quantise(network(), quantiser, quantiser, noise="uniform", strategy="mode")
    training.set_noise(net, Schedule.static(2, std=half_width / 3**0.5), 0)
    return net


def brevitas_binary(x):
    quant = pytest.importorskip("brevitas.core.quant")
    from brevitas.core.scaling import ConstScaling

    return quant.ClampedBinaryQuant(ConstScaling(1.0))(x)[0]


@pytest.mark.parametrize(
    "quantiser, half_width, function",
    [
        pytest.param(TERNARY, 0.5, TernarySTE.apply, id="ternary by hand"),
        pytest.param(BINARY, 1.0, brevitas_binary, id="Brevitas's clamped binary"),
    ],
)
def test_static_noise_with_the_mode_is_the_straight_through_estimator_with_clipping(quantiser, half_width, function):
    ours, theirs = annealed(quantiser, half_width), straight_through(function)
    theirs.load_state_dict({name: tensor for name, tensor in ours.state_dict().items() if not is_mark(name)})
    with torch.no_grad():
        for net in (ours, theirs):  # inputs on both sides of the clip
            for layer in (net[0], net[5]):
                layer.parametrizations.weight.original.mul_(6)
    optimisers = [torch.optim.SGD(net.parameters(), lr=0.05) for net in (ours, theirs)]
    x, y = torch.randn(5, 30, 1, 8, 8, dtype=torch.float64), torch.randint(3, (5, 30))
    for step in range(5):
        gradients = []
        for net, optimiser in zip((ours, theirs), optimisers):
            loss = nn.functional.cross_entropy(net(x[step]), y[step])
            optimiser.zero_grad()
            loss.backward()
            gradients.append([loss.detach(), *(p.grad.clone() for p in net.parameters())])
            optimiser.step()
        for a, b in zip(*gradients):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    latent = ours[0].parametrizations.weight.original
    assert (latent.grad == 0).any() and (latent.grad != 0).any()
    for a, b in zip(copy.deepcopy(ours).eval().parameters(), theirs.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
