"""Quantisers between the operations of a network: one quantum for what is added up, and places before weights alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import anabook as ab
from anabook import Quantiser, training
from anabook.training import Quantise
from anabook.training.learned import Learned

SIGNED = Quantiser.linear(4, rounding="nearest")
UNSIGNED = Quantiser.linear(4, signed=False, rounding="nearest")
X = torch.rand(32, 6, generator=torch.Generator().manual_seed(5)).mul(15).round() / 15


class Residual(nn.Module):
    """Two blocks, the second with a by-pass; the names of the activations are given."""

    def __init__(self, first="a", second="b"):
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.fc2, self.fc3, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.names = first, second
        for name in self.names:
            self.add_module(name, nn.ReLU())

    def forward(self, x):
        first, second = (getattr(self, name) for name in self.names)
        x = first(self.fc1(x))
        x = second(self.fc2(x) + x)
        return self.last(self.fc3(x) + x)


def learned(**options):
    scales = training.calibrate(Residual(), X, SIGNED, UNSIGNED, summands=SIGNED)
    options = {"scales": scales, "summands": SIGNED, "quantum": "learned", **options}
    return training.quantise(Residual(), SIGNED, UNSIGNED, **options)


# One quantum for what is added up ------------------------------------------------------------------------------------


@pytest.mark.parametrize("quantum", ["learned", {"activations": "learned"}])
def test_learned_quanta_of_what_is_added_are_one_and_stay_so_in_integers(quantum):
    net = learned(quantum=quantum)
    steps = {n: m for n, m in net.named_modules() if isinstance(m, Learned) and "parametrizations" not in n}
    assert steps.keys() == {"a", "b", "sum0_left", "sum1_left"}
    assert steps["a"].scale is steps["sum0_left"].scale and steps["b"].scale is steps["sum1_left"].scale
    assert steps["a"].scale is not steps["b"].scale
    found = training.learned_quanta(net)
    assert len(found) == len({id(p) for p in found.values()}) == (5 if quantum == "learned" else 2)
    before = steps["a"].scale.item()
    y = torch.randint(0, 3, (32,), generator=torch.Generator().manual_seed(1))
    training.fit(net, (X, y), None, epochs=2, batch_size=16, lr=1e-2)
    assert steps["a"].scale.item() == steps["sum0_left"].scale.item() != before
    deployed, z = training.deploy(net), (X * 15).round().to(torch.uint8)
    ints = ab.deploy.to_integer(deployed, z, std=15, bounds=(0, 15))
    assert ab.deploy.compare(deployed, ints, z).equal


def test_what_is_added_goes_on_sharing_one_learned_quantum_in_copies_and_state_dicts():
    net = learned()
    other = copy.deepcopy(net)
    assert other.a.scale is other.sum0_left.scale and other.a.scale is not net.a.scale
    other.double().float()
    assert other.a.scale is other.sum0_left.scale
    net.load_state_dict({k: v * 2 if k in ("a.scale", "sum0_left.scale") else v for k, v in other.state_dict().items()})
    assert net.a.scale is net.sum0_left.scale and float(net.a.scale.detach()) == 2 * float(other.a.scale.detach())


def test_learned_quanta_of_what_is_added_must_start_from_one_scale():
    with pytest.raises(ValueError, match="'a' and 'sum0_left' are added up, .* start from one scale, not from 0.5 and 0.25"):
        learned(scales={"a": torch.tensor(0.5), "sum0_left": torch.tensor(0.25), "sum1_left": torch.tensor(1.0)})


def test_quanta_of_what_is_added_are_compared_where_mappings_give_them():
    half = Quantiser.linear(4, signed=False, quantum=0.5, rounding="nearest")
    with pytest.raises(ValueError, match="'b' and 'sum1_left' are added up, .* same quantum, not 0.5 and 1"):
        training.quantise(Residual(), SIGNED, {"a": UNSIGNED, "b": half}, summands=SIGNED)
    net = training.quantise(Residual(), SIGNED, {"a": UNSIGNED, "b": Quantiser.linear(8, signed=False)}, summands=SIGNED)
    assert isinstance(net.b, Quantise) and isinstance(net.sum1_left, Quantise)


def test_the_start_of_learned_quanta_of_what_is_added_is_that_of_each_ones_own_quantiser_whatever_the_names():
    def calibrated(*names):
        return training.calibrate(
            Residual(*names), X, None, {names[0]: two, names[1]: UNSIGNED}, rule="lsq", summands=SIGNED
        )

    two = Quantiser.linear(2, signed=False, rounding="nearest")
    early, late = calibrated("a", "b"), calibrated("t", "b")  # in front of and behind "sum0_left"
    torch.testing.assert_close(early["a"], late["t"], rtol=1e-6, atol=0.0)
    assert early["a"] is early["sum0_left"] and late["t"] is late["sum0_left"]
    net = Residual()
    with torch.no_grad():
        features = torch.relu(net.fc1(X))
        own = 2 * features.abs().mean() / 3**0.5, 2 * net.fc2(features).abs().mean() / 7**0.5
    torch.testing.assert_close(early["a"], (own[0] + own[1]) / 2)


# Before weights ------------------------------------------------------------------------------------------------------


class Normalised(nn.Module):
    """A LayerNorm in front of an attention, a recurrent layer and a linear one."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Linear(4, 4), nn.LayerNorm(4)
        self.attention, self.lstm = nn.MultiheadAttention(4, 2, batch_first=True), nn.LSTM(4, 4, batch_first=True)
        self.fc, self.act, self.last = nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)

    def forward(self, x):
        x = self.norm(self.stem(x))
        x = self.norm(self.attention(x, x, x)[0])
        x = self.norm(self.lstm(x)[0])
        return self.last(self.act(self.fc(x)))


@pytest.mark.filterwarnings("ignore:.*stay")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"keep": ()}, ["before_attention", "before_fc", "before_lstm"]),
        ({"keep": ("attention", "last")}, ["before_fc", "before_lstm"]),
        ({"keep": ("lstm", "last")}, ["before_attention", "before_fc"]),
        ({"weights": {"attention*": SIGNED}}, ["before_attention"]),
        ({"weights": {"fc": None, "*": SIGNED}}, ["before_attention", "before_lstm"]),
        ({"weights": None}, []),
    ],
)
def test_quantisers_come_before_the_weights_that_are_quantised_and_no_others(options, expected):
    x = torch.rand(2, 3, 4)
    options = {"weights": SIGNED, "activations": UNSIGNED, **options}
    net = training.quantise(Normalised(), before=SIGNED, example=x, **options)
    found = [name for name, m in net.named_modules() if isinstance(m, Quantise) and name.startswith("before_")]
    assert sorted(found) == expected


# The first and the last module ---------------------------------------------------------------------------------------


class Ends(nn.Module):
    """A recurrent layer of two stacks in front, an attention at the end."""

    def __init__(self):
        super().__init__()
        self.lstm, self.fc, self.act = nn.LSTM(4, 4, num_layers=2, batch_first=True), nn.Linear(4, 4), nn.ReLU()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        x = self.act(self.fc(self.lstm(x)[0]))
        return self.attention(x, x, x)[0]


OF_LSTM = {f"lstm.weight_{kind}_l{layer}" for kind in ("ih", "hh") for layer in (0, 1)}
OF_ATTENTION = {"attention.in_proj_weight", "attention.out_proj"}


@pytest.mark.filterwarnings("ignore:.*stay")
@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ("first", {"fc", *OF_ATTENTION}),
        ("last", {"fc", *OF_LSTM}),
        (("first", "last"), {"fc"}),
        ((), {"fc", *OF_LSTM, *OF_ATTENTION}),
    ],
)
def test_ends_that_are_kept_are_whole_modules(keep, expected):
    net = training.quantise(Ends(), SIGNED, None, keep=keep, example=torch.rand(2, 3, 4))
    assert {name.removesuffix(".weight") for name in training.quantised_weights(net)} == expected


def test_ends_that_a_mapping_names_are_whole_modules():
    eight, four, two = (Quantiser.linear(bits, rounding="nearest") for bits in (8, 4, 2))
    net = training.quantise(Ends(), {"first": eight, "last": two, "*": four}, None, keep=(), example=torch.rand(2, 3, 4))
    bits = {o.name: o.weight.bits for o in training.report(net, torch.rand(2, 3, 4))}
    assert bits == {**dict.fromkeys(OF_LSTM, 8), "fc": 4, **dict.fromkeys(OF_ATTENTION, 2)}
