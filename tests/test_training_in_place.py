"""Programs that change tensors in place: once quantisers are put in, whoever uses the tensor later gets what came out."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from anabook import Quantiser, training
from anabook.training import Quantise
from anabook.training.grouping import ACTIVATIONS
from anabook.training.places import Place
from anabook.training.rewriting import CannotRewrite, rewrite
from anabook.training.sites import functions_as_modules, put_places

SIGNED = Quantiser.linear(4, rounding="nearest")
UNSIGNED = Quantiser.linear(4, signed=False, rounding="nearest")


class Program(nn.Module):
    """Two linear layers and what a function makes between them."""

    def __init__(self, between):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.last, self.act = nn.Linear(4, 6), nn.Linear(6, 2), nn.ReLU(inplace=True)
        self.other, self.same, self.drop = nn.Linear(4, 6), nn.Identity(), nn.Dropout(0.5)
        self.between = between

    def forward(self, x):
        return self.last(self.between(self, self.fc(x), self.other(x)))


def method(net, x, y):
    x.relu_()
    return x


def function(net, x, y):
    torch.relu_(x)
    return x + y


def keyword(net, x, y):
    F.relu(x, inplace=True)
    return x


def position(net, x, y):
    F.leaky_relu(x, 0.1, True)
    return x * 2


def module(net, x, y):
    net.act(x)
    return x


def another_name(net, x, y):
    z = net.same(x)
    z.relu_()
    return x - z


def own_name(net, x, y):
    z = torch.relu_(x)
    x.mul_(3)
    return z + y


def part(net, x, y):
    a, b = x.chunk(2, 1)
    return torch.cat((F.relu(a, inplace=True), b), 1)


def shape(net, x, y):
    n = x.shape[0]
    x.relu_()
    return x.view(n, -1)


def before_and_after(net, x, y):
    z = x * 2
    x.relu_()
    return x + z


STATEMENTS = [method, function, keyword, position, module, another_name, own_name, part, shape, before_and_after]


def activations_of(net, x):
    """What the network gives while its activations are new tensors, as quantisers are."""
    for each in net.modules():
        if isinstance(each, ACTIVATIONS):
            each.inplace = False
    return net(x)


@pytest.mark.parametrize("between", STATEMENTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("training_mode", [False, True])
def test_functions_that_work_in_place_have_their_effect_as_modules(between, training_mode):
    net, x = Program(between).train(training_mode), torch.randn(8, 4)
    with torch.no_grad():  # where torch refuses to change parts in place
        expected = net(x.clone())
    assert not torch.equal(expected, net.last(net.fc(x)))
    made = copy.deepcopy(net)
    assert functions_as_modules(made, ACTIVATIONS) == {}
    assert sum(isinstance(each, ACTIVATIONS) for each in made.modules()) == (1 if between is module else 2)
    assert torch.equal(activations_of(made, x), expected)


@pytest.mark.parametrize("between", [method, keyword, module], ids=lambda f: f.__name__)
def test_quantisers_of_statements_are_used(between):
    net = training.quantise(Program(between), None, UNSIGNED, keep=()).eval()
    x = torch.randn(8, 4) * 3
    step = next(m for m in net.modules() if isinstance(m, Quantise))
    assert torch.equal(net(x), net.last(step(net.fc(x))))


def view_of_it(net, x, y):
    z = x[:, :3]
    z.relu_()
    return x


def it_of_a_view(net, x, y):
    z = x.view(-1, 6)
    x.relu_()
    return z


def whole_of_a_part(net, x, y):
    a, _ = x.chunk(2, 1)
    F.relu(a, inplace=True)
    return x


def drop(net, x, y):
    z = net.drop(x)
    z.relu_()
    return x


@pytest.mark.parametrize("between", [view_of_it, it_of_a_view, whole_of_a_part, drop], ids=lambda f: f.__name__)
def test_other_views_of_what_is_changed_are_refused_and_leave_nothing_behind(between):
    net, x = Program(between).eval(), torch.randn(8, 4)
    names = [name for name, _ in net.named_modules()]
    with torch.no_grad():
        expected = net(x)
    why = functions_as_modules(net, ACTIVATIONS)
    assert why == {"": "it changes a tensor in place and goes on using another view of it"}
    assert [name for name, _ in net.named_modules()] == names and type(net) is Program
    with torch.no_grad():
        assert torch.equal(net(x), expected)


def step(net, x, y):
    z = x
    x *= 2
    return z


def step_with_a_view_before(net, x, y):
    z = x.view(-1, 6)
    z -= y
    return z.relu()


def sizes(net, x, y):
    n = x.size(1)
    m = n
    n += 1
    return x.relu().reshape(-1, m) / n


def made_of_sizes(net, x, y):
    z = torch.ones(x.shape)
    a = z
    z += x
    return a


@pytest.mark.parametrize("between", [step, step_with_a_view_before, sizes, made_of_sizes], ids=lambda f: f.__name__)
def test_assignments_with_an_operation_hold_for_every_name_of_a_tensor_and_for_no_size(between):
    net, x = Program(lambda *given: F.relu(between(*given))), torch.randn(8, 4)
    expected = net(x)
    assert functions_as_modules(net, ACTIVATIONS) == {} and type(net) is not Program
    assert torch.equal(activations_of(net, x), expected)


# Sums ----------------------------------------------------------------------------------------------------------------


def sum_method(net, x, y):
    x.add_(y)
    return x


def sum_sign(net, x, y):
    z = x
    x += y
    return z * 2 + x


@pytest.mark.parametrize("between", [sum_method, sum_sign], ids=lambda f: f.__name__)
def test_sums_in_place_have_their_effect_with_quantised_summands(between):
    net, x = Program(between).eval(), torch.randn(8, 4)
    expected = net(x)
    found, unread = put_places(net, before=False, summands=True)
    assert unread == {} and {"sum0_left", "sum0_right"} <= set(found)
    for name in ("sum0_left", "sum0_right"):  # what makes a new tensor, as a quantiser does
        net.set_submodule(name, nn.Hardtanh(-0.5, 0.5))
    total = F.hardtanh(net.fc(x), -0.5, 0.5) + F.hardtanh(net.other(x), -0.5, 0.5)
    assert torch.allclose(net(x), net.last(total if between is sum_method else 3 * total))
    assert not torch.allclose(net(x), expected)


def view_of_a_sum(net, x, y):
    z = x[:, :3]
    z += 1
    z.add_(y[:, :3])
    return x + y


def test_refused_sums_leave_no_places_behind():
    net, x = Program(view_of_a_sum).eval(), torch.randn(8, 4)
    expected = net(x)
    found, unread = put_places(net, before=True, summands=True)
    assert found == {} and unread == {"": "it changes a tensor in place and goes on using another view of it"}
    assert not any(isinstance(each, Place) for each in net.modules()) and type(net) is Program
    assert torch.equal(net(x), expected)


class Deciding(nn.Module):
    """Another program in training mode, whose last lines cannot be read."""

    def __init__(self):
        super().__init__()
        self.fc, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        x = self.fc(x)
        return self.last(x if self.training else torch.relu(x))


def test_a_program_that_is_refused_keeps_no_modules_of_the_attempt():
    net = Deciding()
    assert functions_as_modules(net, ACTIVATIONS) == {"": "it does something else in training mode"}
    assert [name for name, _ in net.named_children()] == ["fc", "last"]

    def edit(module, graph):
        module.add_module("new", nn.ReLU())
        raise CannotRewrite("no")

    with pytest.raises(CannotRewrite, match="no"):
        rewrite(net, edit)
    assert [name for name, _ in net.named_children()] == ["fc", "last"]


# Transformers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("kind", [nn.TransformerEncoderLayer, nn.TransformerDecoderLayer])
def test_activation_of_a_transformer_layer_has_the_mode_of_its_layer(kind, mode):
    net = nn.Sequential(kind(4, 2, 8, activation=F.relu, batch_first=True)).train(mode)
    assert functions_as_modules(net, (nn.ReLU,)) == {}
    assert isinstance(net[0].activation, nn.ReLU) and net[0].activation.training is mode


def test_quantised_transformer_layer_in_evaluation_mode_is_there_as_a_whole():
    net = nn.Sequential(nn.TransformerEncoderLayer(4, 2, 8, activation=F.relu, batch_first=True), nn.Linear(4, 2)).eval()
    with pytest.warns(UserWarning, match="stay"):
        net = training.quantise(net, SIGNED, UNSIGNED, example=torch.rand(2, 3, 4))
    assert not any(each.training for each in net.modules())
