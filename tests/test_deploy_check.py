"""What will be refused later, found before training: all of it, with the sentences of those who refuse, and nothing else."""

import numpy as np
import pytest
import torch
from deploy_torch import Drawing
from torch import nn
from torch.nn.utils import parametrizations

from anabook import Quantiser, deploy, models, training

FOUR, UNSIGNED = (Quantiser.linear(4, signed=signed, rounding="nearest") for signed in (True, False))
X = np.zeros((1, 3, 16, 16), np.uint8)


def quantised(net, **settings):
    net.eval()
    example = torch.zeros(1, 3, 16, 16)
    return training.quantise(net, FOUR, UNSIGNED, before=FOUR, summands=FOUR, example=example, **settings)


def refused_later(net, x=X, **data):
    """The sentence of `to_integer`, or None."""
    try:
        deploy.to_integer(training.deploy(net), x, **data)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("seed", range(40))
def test_nothing_is_found_in_networks_that_become_integers(seed):
    drawn = Drawing(seed)
    found = deploy.check(drawn.net, drawn.x, mean=drawn.mean, std=drawn.std, bounds=drawn.bounds)
    assert found.ok, found


class Messy(nn.Module):
    """One thing of many kinds that integers cannot do, and what they can do in between."""

    def __init__(self):
        super().__init__()
        self.c1, self.n1, self.act1 = nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect"), nn.GroupNorm(2, 8), nn.ReLU()
        self.c2, self.n2, self.act2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()
        self.up, self.pool, self.act3 = nn.Upsample(scale_factor=2), nn.AvgPool2d(3, stride=2, ceil_mode=True), nn.ReLU()
        self.c3, self.last = nn.Conv2d(16, 8, 1, padding=1), nn.Linear(8, 10)

    def forward(self, x):
        y = self.act2(self.n2(self.c2(self.act1(self.n1(self.c1(x))))))
        y = self.pool(self.up(y * torch.sigmoid(y.mean())))
        y = self.act3(self.c3(torch.cat([y, y], 1)))
        return torch.softmax(self.last(nn.functional.adaptive_avg_pool2d(y, 1).flatten(1)), 1)


def test_all_that_will_be_refused_is_found_at_once_in_order_and_nothing_that_only_follows_from_it():
    net = quantised(Messy())
    found = deploy.check(net, X, mean=120, std=60)
    assert [each.name for each in found.refusals] == ["c1", "n1", "mean", "mul", "up", "pool", "softmax"]
    assert [each.kind for each in found.refusals][:2] == ["Conv2d", "GroupNorm"] and not found.ok
    assert refused_later(net, mean=120, std=60) in [each.reason for each in found.refusals]
    assert found.refusals[1].remedy == "an nn.BatchNorm2d in its place becomes thresholds"
    text, page = str(found), found._repr_html_()
    assert text.splitlines()[1].split() == ["what", "kind", "reason", "what", "to", "change"] and len(text.splitlines()) == 9
    assert (
        text.count("there are linear and convolution layers") == 1
        and text.count("For integers there are linear and convolution layers") == 1
    )
    assert page.count("<tr>") == 8 and "what to change" in page


def test_mending_what_is_found_one_after_the_other_meets_the_same_sentences_in_the_same_order():
    class Mended(Messy):
        """Without the first so many."""

        def __init__(self, count):
            super().__init__()
            self.count = count
            self.c1.padding_mode = "zeros" if count > 0 else "reflect"
            self.n1 = nn.BatchNorm2d(8) if count > 1 else self.n1
            self.up = nn.Identity() if count > 4 else self.up
            self.pool = nn.AvgPool2d(2) if count > 5 else self.pool

        def forward(self, x):
            y = self.act2(self.n2(self.c2(self.act1(self.n1(self.c1(x))))))
            if self.count <= 3:
                y = y * torch.sigmoid(y.mean() if self.count <= 2 else y)
            y = self.act3(self.c3(torch.cat([self.pool(self.up(y))] * 2, 1)))
            y = self.last(nn.functional.adaptive_avg_pool2d(y, 1).flatten(1))
            return torch.softmax(y, 1) if self.count <= 6 else y

    for count, name in enumerate(["c1", "n1", "mean", "mul", "up", "pool", "softmax"]):
        found = deploy.check(quantised(Mended(count)), X)
        assert found.refusals[0].name == name, found
    net = quantised(Mended(7))
    assert deploy.check(net, X).ok and refused_later(net) is None
    assert str(deploy.check(net, X)).startswith("This Mended can become integers: all its ")


def test_what_needs_a_quantiser_says_which_argument_puts_one():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.c1, self.n1, self.act1 = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()
            self.c2, self.n2, self.c3, self.last = (
                nn.Conv2d(8, 8, 1),
                nn.BatchNorm2d(8),
                nn.Conv2d(8, 4, 1),
                nn.Linear(784, 3),
            )

        def forward(self, x):
            y = self.act1(self.n1(self.c1(x)))
            return self.last(self.c3(y + self.n2(self.c2(y))).flatten(1))

    with pytest.warns(UserWarning, match="stay"):
        plain = training.quantise(Net().eval(), FOUR, UNSIGNED)
    found = deploy.check(plain, X).refusals
    assert [each.name for each in found] == ["add"]
    assert "before=… and summands=… of training.quantise" in found[0].remedy
    (kept,) = deploy.check(quantised(Net(), keep=("last", "c2")), X).refusals
    assert kept.name == "c2" and "quantise these weights, too: see keep=" in kept.remedy
    assert deploy.check(quantised(Net()), X).ok


def test_floats_are_found_layer_by_layer_whatever_stands_behind_them():
    found = deploy.check(models.mlp(64, (8, 8), 3), np.zeros((1, 64), np.uint8))
    assert [each.name for each in found.refusals] == ["fc1", "fc1_act", "fc2", "fc2_act"], found
    assert found.refusals[0].reason.startswith("the weights of 'fc1' take") and "activations=…" in found.refusals[1].remedy


def test_hooks_and_weights_that_are_computed_do_not_hide_the_rest():
    net = quantised(Messy())
    net.act1.register_forward_hook(lambda *_: None)
    net.last = parametrizations.weight_norm(net.last)
    found = deploy.check(net, X)
    assert [each.name for each in found.refusals][:4] == ["act1", "last", "c1", "n1"]
    assert "has forward hooks" in found.refusals[0].reason and "in each pass (_WeightNorm)" in found.refusals[1].reason
    assert "remove_parametrizations" in found.refusals[1].remedy and len(found.refusals) == 9
    assert net.act1._forward_hooks and "weight" in net.last.parametrizations  # the network is left as it was
    net.act1._forward_hooks.clear()
    assert refused_later(net).startswith("the weights of 'last' are computed anew in each pass")


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.act, self.last = nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)

    def forward(self, x):
        return self.last(self.act(self.fc(x)) if x.sum() > 0 else self.act(-self.fc(x)))


def test_a_network_that_cannot_be_read_or_deployed_is_one_row():
    ternary, x = Quantiser.ternary(), np.ones((1, 4), np.uint8)
    net = training.quantise(Branching(), ternary, ternary, example=torch.ones(1, 4))
    (found,) = deploy.check(net, x).refusals
    assert (
        found.name == "" and found.kind == "Branching" and found.reason.startswith("the program of this Branching cannot be")
    )
    assert "the network" in str(deploy.check(net, x))
    net = training.quantise(models.mlp(4, (8,), 2), ternary, ternary)
    net.fc1_act.layer = None
    (found,) = deploy.check(net, x).refusals
    assert "has no layer number" in found.reason
    (found,) = deploy.check(training.quantise(models.mlp(4, (8,), 2), ternary, ternary), np.ones((1, 5), np.uint8)).refusals
    assert "does not take an example of shape (1, 5)" in found.reason


def test_arguments_that_do_not_fit_are_refused_as_by_to_integer():
    net = training.quantise(models.mlp(4, (8,), 2), Quantiser.ternary(), Quantiser.ternary())
    for given, settings, sentence in (
        (np.ones((1, 4)), {}, "example must be an array of integers"),
        (np.ones((1, 4), np.int64), {}, "does not say how large the inputs may be"),
        (np.ones((1, 4), np.uint8), {"std": 0.0}, "std must be finite and greater than 0"),
    ):
        with pytest.raises((TypeError, ValueError), match=sentence):
            deploy.check(net, given, **settings)
    with pytest.raises(TypeError, match="net must be a torch.nn.Module, not str"):
        deploy.check("net", X)
