"""Networks of torch read as integers: equal to their exact levels, on random networks, on networks made by hand, on real ones."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import torch
from deploy_torch import Drawing, standardised
from torch import nn

import anabook as ab
from anabook import Quantiser, models, training
from anabook.deploy.steps import Add, Concat, Head, Input, MaxPool, SumPool, Threshold, Weighted
from anabook.training import Quantise, Scaled, deploy, quantise

TERNARY = Quantiser.ternary()
SEEDS, GROUPS = range(500), 25


@pytest.mark.parametrize("group", range(GROUPS))
def test_random_networks_have_the_exact_levels(group):
    for seed in SEEDS[group::GROUPS]:
        drawn = Drawing(seed)
        ints = ab.deploy.to_integer(drawn.net, drawn.x, mean=drawn.mean, std=drawn.std, bounds=drawn.bounds)
        found = ab.deploy.compare(drawn.net, ints, drawn.x)
        assert found.equal, f"seed {seed}:\n{found}"
        assert found.off is None or found.off < 1e-9, f"seed {seed}"
        out = ints(drawn.x)
        assert np.isfinite(out).all() and out.shape == (len(drawn.x), 4)


def test_the_random_networks_are_of_all_kinds():
    kinds, parts = Counter(), Counter()
    for seed in SEEDS[:80]:
        drawn = Drawing(seed)
        ints = ab.deploy.to_integer(drawn.net, drawn.x, mean=drawn.mean, std=drawn.std, bounds=drawn.bounds)
        kinds.update({type(step) for step in ints.steps})
        for module in drawn.net.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d) and module.affine:
                parts["rising"] += bool((module.weight > 0).any())
                parts["falling"] += bool((module.weight < 0).any())
                parts["constant"] += bool((module.weight == 0).any())
            if isinstance(module, Scaled):
                parts["scaled"] += 1
        for step in ints.steps:
            if isinstance(step, Threshold):
                parts["signs"] += step.signs is not None
                parts["places"] += int(np.prod(step.thresholds.shape[2:])) > 1
                parts["levels"] = max(parts["levels"], len(step.levels))
            if isinstance(step, Weighted) and step.weights.ndim == 4:
                parts["groups"] += step.groups > 1
                parts["dilation"] += step.dilation != (1, 1)
            parts["means"] += isinstance(ints.input.mean, tuple)
            parts["stds"] += isinstance(ints.input.std, tuple)
            if isinstance(step, Head):
                parts[f"{step.weights.dtype} head"] += 1
        if drawn.ties:
            found = ab.deploy.compare(drawn.net, ints, drawn.x)
            parts["by fractions"] += sum(each.decided for each in found.quantisers)
    assert {Weighted, Threshold, MaxPool, SumPool, Add, Concat, Head} <= set(kinds), kinds
    assert kinds[Concat] >= 10, kinds
    wanted = (
        "rising",
        "falling",
        "constant",
        "scaled",
        "signs",
        "places",
        "groups",
        "dilation",
        "int8 head",
        "float32 head",
        "means",
        "stds",
    )
    assert all(parts[name] >= 3 for name in wanted), parts
    assert parts["by fractions"] > 300 and parts["levels"] == 256, parts


# One neuron ---------------------------------------------------------------------------------------------------------


def neuron(weights, gamma, mean, variance, shift, eps=0.0, quantiser=TERNARY, bias=None):
    """A linear layer of one output with its batch normalisation and quantiser, deployed."""
    net = nn.Sequential(
        nn.Linear(len(weights), 1, bias=bias is not None), nn.BatchNorm1d(1, eps=eps), Quantise(quantiser, std=0.0)
    )
    net[0].weight.data = torch.tensor([weights], dtype=torch.float32)
    if bias is not None:
        net[0].bias.data = torch.tensor([bias], dtype=torch.float32)
    for name, value in (("weight", gamma), ("running_mean", mean), ("running_var", variance), ("bias", shift)):
        getattr(net[1], name).data = torch.tensor([value], dtype=torch.float32)
    return net.eval()


def read(net, n_inputs, low=-128, high=127, **data):
    return ab.deploy.to_integer(net, np.zeros((1, n_inputs), np.int8), bounds=(low, high), **data)


@pytest.mark.parametrize(
    "gamma, expected",
    [
        # z − 3 over 2: half at z = 4, minus half at z = 2; ties belong to the higher level.
        (1.0, {1: -1, 2: 0, 3: 0, 4: 1, 5: 1}),
        # Turned round: half at z = 2, minus half at z = 4, which is a level 0 still.
        (-1.0, {1: 1, 2: 1, 3: 0, 4: 0, 5: -1}),
        (0.0, {-128: 0, 127: 0}),
    ],
)
def test_ties_belong_to_the_higher_level_whatever_the_sign(gamma, expected):
    ints = read(neuron([1.0], gamma, 3.0, 4.0, 0.0), 1)
    x = np.array([[z] for z in expected], np.int8)
    assert ints(x).ravel().tolist() == list(expected.values())
    assert ab.deploy.compare(neuron([1.0], gamma, 3.0, 4.0, 0.0), ints, x).equal
    (threshold,) = [step for step in ints.steps if isinstance(step, Threshold)]
    assert threshold.signs is None  # it is in the weight
    assert ints.steps[0].weights.tolist() == [[-1 if gamma < 0 else 1]]


def test_a_constant_channel_has_the_level_of_its_shift():
    for shift, level in ((-0.7, -1), (-0.5, 0), (0.49, 0), (0.5, 1), (7.0, 1)):
        ints = read(neuron([1.0], 0.0, 3.0, 4.0, shift), 1)
        assert set(ints(np.arange(-128, 128, dtype=np.int8)[:, None]).ravel().tolist()) == {level}


def test_a_square_root_is_compared_by_its_square():
    # Half is reached at z ≥ √v / 2: for v = 4·k² + 4·k·… between squares the decimals of √v do not matter.
    for variance, least in ((100.0, 5), (100.0 + 2**-17, 6), (100.0 - 2**-17, 5), (2.0, 1), (4.0, 1), (4.0 + 2**-21, 2)):
        ints = read(neuron([1.0], 1.0, 0.0, variance, 0.0), 1)
        (threshold,) = [step for step in ints.steps if isinstance(step, Threshold)]
        assert threshold.thresholds.ravel().tolist() == [-(least if variance in (100.0, 4.0) else least - 1), least], (
            variance
        )


def test_thresholds_are_those_that_the_float_type_holds():
    third = Quantiser([0, 1], [1 / 3])
    for dtype in (torch.float16, torch.float32, torch.float64):
        net = neuron([1.0], 1.0, 0.0, 1.0, 0.0, quantiser=third).to(dtype)
        held = Fraction(torch.tensor(1 / 3, dtype=torch.float64).to(dtype).item())
        # std = 3 · 2^40: z / std is held exactly or not at all; the exact quotient decides.
        for std, above in (
            (Fraction(100) / (100 * held), 1),
            (1 / held + Fraction(1, 2**60), 2),
            (1 / held - Fraction(1, 2**60), 1),
        ):
            ints = read(net, 1, mean=0, std=std)
            assert ints(np.array([[above - 1], [above]], np.int8)).ravel().tolist() == [0, 1], (dtype, std)


def test_the_threshold_is_the_least_integer_found_by_trying():
    rng = np.random.default_rng(0)
    for _ in range(60):
        gamma, mean, shift, bias = map(np.float32, rng.normal(size=4) * 3)
        variance = np.float32(rng.uniform(0.01, 9))
        net = neuron([0.25, -0.5], gamma, mean, variance, shift, eps=1e-5, bias=bias)
        ints = ab.deploy.to_integer(net, np.zeros((1, 2), np.int8), mean=1.5, std=7.0, bounds=(-20, 20))
        x = np.array([(a, b) for a in range(-20, 21, 4) for b in range(-20, 21, 3)], np.int8)
        expected = []
        for a, b in x.tolist():
            s = Fraction(1, 4) * (Fraction(a) - Fraction(3, 2)) / 7 - Fraction(1, 2) * (Fraction(b) - Fraction(3, 2)) / 7
            top = Fraction(float(gamma)) * (s + Fraction(float(bias)) - Fraction(float(mean)))
            under = Fraction(float(variance)) + Fraction(1e-5)
            level = -1
            for place in (Fraction(-1, 2), Fraction(1, 2)):
                need = place - Fraction(float(shift))
                # top / √under ≥ need
                reached = top >= 0 if need <= 0 else False
                if need > 0:
                    reached = top > 0 and top**2 >= need**2 * under
                elif top < 0:
                    reached = top**2 <= need**2 * under
                level += reached
            expected.append(level)
        assert ints(x).ravel().tolist() == expected


# What torch computes ------------------------------------------------------------------------------------------------


def compared(net, x, mean=0.0, std=1.0, bounds=None):
    """The integer network of a deployed one, held to the exact levels and to the torch network."""
    ints = ab.deploy.to_integer(net, x, mean=mean, std=std, bounds=bounds)
    found = ab.deploy.compare(net, ints, x)
    assert found.equal, found
    if found.off is not None:
        with torch.no_grad():
            out = net(standardised(torch.from_numpy(x.astype(np.float32)), mean, std)).double().numpy()
        if found.answers == 0 and sum(each.through for each in found.quantisers) == 0:
            np.testing.assert_allclose(ints(x), out, rtol=1e-4, atol=1e-4 * np.abs(out).max())
    return ints


def test_a_padded_first_layer_counts_what_lies_inside():
    net = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, bias=False), Quantise(TERNARY, std=0.0))
    net[0].weight.data = torch.ones(1, 1, 3, 3)
    x = np.zeros((2, 1, 4, 4), np.uint8)
    x[1] = 1
    ints = compared(net, x, mean=0.25, std=2.0, bounds=(0, 3))
    # In a corner four pixels count: −4·0.25/2 = −0.5 is level 0. At an edge six, −0.75, and inside nine: level −1.
    assert ints(x)[0, 0].tolist() == [[0, -1, -1, 0], [-1] * 4, [-1] * 4, [0, -1, -1, 0]]
    assert (ints(x)[1] == 1).all()
    whole = compared(net, x, mean=0.0, std=2.0, bounds=(0, 3))
    assert ints.steps[1].thresholds.shape == (2, 1, 4, 4) and whole.steps[1].thresholds.shape == (2, 1, 1, 1)


IMAGENET = [255 * each for each in (0.485, 0.456, 0.406)], [255 * each for each in (0.229, 0.224, 0.225)]


def test_zeros_are_padded_in_the_units_of_each_channel():
    net = nn.Sequential(nn.Conv2d(2, 1, 3, padding=1, bias=False), Quantise(TERNARY, std=0.0))
    net[0].weight.data = torch.tensor([1.0, -1.0]).reshape(1, 2, 1, 1).expand(1, 2, 3, 3).clone()
    x = np.zeros((1, 2, 4, 4), np.uint8)
    ints = compared(net, x, mean=[0.25, 0.0], std=2.0, bounds=(0, 3))
    # As with one channel: −4·0.25/2 = −0.5 in a corner is level 0, where as many places are inside.
    assert ints(x)[0, 0].tolist() == [[0, -1, -1, 0], [-1] * 4, [-1] * 4, [0, -1, -1, 0]]
    same = compared(net, x, mean=(0.25, 0.25), std=[2.0, 2.0], bounds=(0, 3))
    assert same.input.mean == Fraction(1, 4) and same.input.std == 2 and (same(x) == 0).all()


def test_a_photograph_is_standardised_channel_by_channel_in_every_runtime(tmp_path):
    from onnxruntime import InferenceSession

    torch.manual_seed(0)
    mean, stds = IMAGENET
    quantisers = Quantiser.linear(4, rounding="nearest"), Quantiser.linear(4, signed=False, rounding="nearest")
    body = nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), nn.AvgPool2d(6), nn.Flatten(), nn.Linear(5, 2)
    x = np.random.default_rng(0).integers(0, 256, (9, 3, 6, 6)).astype(np.uint8)
    rounds_first = deploy(quantise(nn.Sequential(nn.Hardtanh(), *body), *quantisers))
    one_std = deploy(quantise(nn.Sequential(*body), *quantisers))
    depthwise = nn.Conv2d(3, 3, 3, padding=1, groups=3), nn.BatchNorm2d(3), nn.ReLU(), *body
    by_groups = deploy(quantise(nn.Sequential(*depthwise), *quantisers))
    vectors = deploy(quantise(nn.Sequential(nn.Flatten(), nn.Linear(108, 4), nn.ReLU(), nn.Linear(4, 2)), *quantisers))
    for net, std in ((rounds_first, stds), (one_std, 58.0), (by_groups, stds), (vectors, 58.0)):
        ints = compared(net, x, mean=mean, std=std)
        assert ab.deploy.load(ints.save(tmp_path / "net.npz")) == ints and "(123.675, 116.28, 103.53)" in str(ints)
        session = InferenceSession(ints.to_onnx(tmp_path / "net.onnx"))
        assert np.array_equal(session.run(None, {"input": x})[0], ints(x))
        assert "[" in session.get_modelmeta().custom_metadata_map["input"]
        ints.to_c(tmp_path)
    for net, name in ((one_std, "0"), (vectors, "1")):
        with pytest.raises(
            ValueError, match=rf"'{name}' adds up channels of the input with standard deviations of their own"
        ):
            ab.deploy.to_integer(net, x, mean=mean, std=stds)
        (found,) = ab.deploy.check(net, x, mean=mean, std=stds).refusals
        assert found.remedy.startswith("standardise with one std for all channels (means may differ)")
    with pytest.raises(ValueError, match="the input's std must be one number, or one for each of the 3 channels, not 2"):
        ab.deploy.IntegerNetwork(Input((3, 6, 6), 0, 255, std=(Fraction(1), Fraction(2))), ints.steps)


def test_sums_with_biases_of_their_own_are_summed_again():
    torch.manual_seed(2)
    quantisers = Quantiser.linear(4, rounding="nearest"), Quantiser.linear(4, signed=False, rounding="nearest")
    for last in (nn.Conv2d(4, 3, 3, padding=1), nn.Conv2d(4, 8, 2, groups=2)):
        net = nn.Sequential(
            nn.Conv2d(1, 4, 3), last, nn.BatchNorm2d(last.out_channels), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)
        )
        net.eval()(torch.zeros(1, 1, 6, 6))
        with pytest.warns(UserWarning, match="the input of '1' stays in float"):
            small = deploy(quantise(net, *quantisers))
        compared(small, np.random.default_rng(2).integers(0, 256, (9, 1, 6, 6)).astype(np.uint8), mean=3.0, std=60.0)


def test_a_last_layer_in_float_takes_sums():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3, bias=False), nn.Flatten(), nn.Linear(12, 2))
    net = deploy(
        quantise(net, Quantiser.linear(4, rounding="nearest"), Quantiser.linear(4, signed=False, rounding="nearest"))
    )
    ints = compared(net, np.random.default_rng(0).integers(0, 256, (9, 1, 6, 6)).astype(np.uint8), std=60.0)
    assert ints.steps[-1].weights.dtype == np.float32


def test_levels_without_a_zero_are_padded_with_zeros():
    torch.manual_seed(0)
    first, second, last = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=2), nn.Linear(192, 2)
    for layer in (first, second):
        nn.init.normal_(layer.weight)
    net = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), last)
    net = quantise(net, TERNARY, Quantiser([-1, 1], [0.1]))
    x = np.random.default_rng(0).integers(0, 256, (9, 1, 6, 6)).astype(np.uint8)
    ints = compared(deploy(net), x, mean=127.5, std=60.0)
    corners = ints.features(x)["2"][:, :, 0, 0]
    weights = ints.steps[2].weights[:, :, 2, 2].astype(int)  # what meets the one pixel inside
    assert np.array_equal(corners, ints.features(x)["1"][:, :, 0, 0] @ weights.T) and len(np.unique(corners)) > 1


def test_quanta_for_each_channel_go_through_depthwise_layers():
    torch.manual_seed(1)
    four = Quantiser.linear(4, signed=False, quantum=0.1, rounding="nearest")
    steps = Scaled(Quantise(four, std=0.0), torch.tensor([0.5, 1.25, 3.0]).reshape(1, 3, 1, 1))
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), steps, nn.Conv2d(3, 6, 3, groups=3), Quantise(TERNARY, std=0.0)
    ).eval()
    for conv in (net[0], net[3]):
        conv.weight.data = conv.weight.data.mul(4).round()
    x = np.random.default_rng(1).integers(-9, 10, (8, 2, 7, 7)).astype(np.int8)
    ints = compared(net, x)
    assert ints.steps[1].quantum == (Fraction(1, 20), Fraction(1, 8), Fraction(3, 10))
    net[3] = nn.Conv2d(3, 6, 3)
    net[3].weight.data = net[3].weight.data.mul(4).round()
    with pytest.raises(
        ValueError,
        match=r"'3' adds up channels with quanta of their own \(0.05, 0.125, 0.3\); only a convolution with a group for each",
    ):
        ab.deploy.to_integer(net, x)
    flat = nn.Sequential(*net[:3], nn.Flatten(), nn.Linear(75, 2))
    flat[4].weight.data = flat[4].weight.data.mul(9).round()
    with pytest.raises(ValueError, match="'4' adds up channels with quanta of their own"):
        ab.deploy.to_integer(flat, x)


class Branches(nn.Module):
    """Two branches with quanta of their own, and what comes after their channels were put together."""

    def __init__(self, quanta, *after):
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 3, 1, bias=False), nn.Conv2d(2, 2, 3, padding=1, bias=False)
        self.acts = nn.ModuleList([Scaled(Quantise(FOUR, std=0.0), quantum) for quantum in quanta])
        self.after = nn.Sequential(*after)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.normal_(module.weight, std=2.0)
                module.weight.data.round_()

    def forward(self, x):
        parts = [act(conv(x)) for act, conv in zip(self.acts, (self.first, self.second))]
        return self.after(torch.cat((parts[0], parts[1], parts[0]), -3))


FOUR = Quantiser.linear(4, signed=False, rounding="nearest")


def test_channels_of_equal_quanta_are_put_one_after_the_other():
    torch.manual_seed(3)
    x = np.random.default_rng(3).integers(-9, 10, (8, 2, 6, 6)).astype(np.int8)
    net = Branches((0.5, 0.5), nn.Conv2d(8, 4, 3), Quantise(TERNARY, std=0.0)).eval()
    ints = compared(net, x)
    (joined,) = [step for step in ints.steps if isinstance(step, Concat)]
    assert joined.inputs == ("acts.0", "acts.1", "acts.0") and ints.extents[joined.name].shape == (8, 6, 6)
    found = ints.features(x)
    assert np.array_equal(found[joined.name], np.concatenate([found[name] for name in joined.inputs], 1))
    rows = Branches((0.5, 0.5), nn.Flatten(), nn.Linear(288, 2)).eval()
    compared(rows, x)


def test_quanta_that_differ_are_refused_by_who_adds_them_up_and_by_nobody_else():
    torch.manual_seed(4)
    x = np.random.default_rng(4).integers(-9, 10, (8, 2, 6, 6)).astype(np.int8)
    net = Branches((0.5, 0.25), nn.Conv2d(8, 4, 3), Quantise(TERNARY, std=0.0)).eval()
    with pytest.raises(
        ValueError, match=r"'after.0' adds up channels with quanta of their own \(0.5, 0.25\).* told summands="
    ):
        ab.deploy.to_integer(net, x)
    pools = (
        nn.MaxPool2d(2),
        nn.AvgPool2d(2, stride=1),
        Quantise(FOUR, std=0.0),
        nn.Conv2d(8, 4, 2),
        Quantise(TERNARY, std=0.0),
    )
    for after in (pools, (nn.BatchNorm2d(8), *pools[2:]), (nn.Conv2d(8, 8, 3, groups=8), *pools[2:]), pools[:1]):
        compared(Branches((0.5, 0.25), *after).eval(), x)


def test_concatenated_levels_that_one_weight_adds_up_share_a_quantum_where_sums_do():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.third = (nn.Conv2d(n, 4, 3, padding=1) for n in (1, 4, 8))
            self.last = nn.Linear(64, 3)

        def forward(self, x):
            a = torch.relu(self.first(x))
            b = torch.relu(self.second(a))
            return self.last(nn.functional.avg_pool2d(torch.relu(self.third(torch.cat([a, b], 1))), 2).flatten(1))

    torch.manual_seed(0)
    net, x = Net(), np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8)).astype(np.uint8)
    inputs = torch.tensor(x).float() / 256
    weights = Quantiser.linear(4, rounding="nearest")
    alone, tied = (training.calibrate(net, inputs, weights, FOUR, summands=each) for each in (None, weights))
    assert alone["relu"] != alone["relu_1"] and tied["relu"] is tied["relu_1"] and tied["relu_2"] == alone["relu_2"]
    with pytest.raises(ValueError, match="'third' adds up channels with quanta of their own"):
        ab.deploy.to_integer(deploy(quantise(net, weights, FOUR, scales=alone)), x, std=256)
    compared(deploy(quantise(net, weights, FOUR, scales=tied, summands=weights)), x, std=256)
    learned = quantise(net, weights, FOUR, scales=tied, summands=weights, quantum={"activations": "learned"})
    assert learned.relu.scale is learned.relu_1.scale and learned.relu.scale is not learned.relu_2.scale


def test_shared_activations_functions_and_residuals_are_read():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding="same")
            self.norm1, self.norm2 = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
            self.act, self.drop = nn.ReLU(), nn.Dropout(0.5)
            self.last = nn.Linear(4, 3)

        def forward(self, x, gain=None):
            x = self.act(self.norm1(self.conv1(x)))
            y = self.act(self.norm2(self.conv2(x)))
            x = torch.add(x, y)
            x = nn.functional.max_pool2d(x, 2, padding=1)
            x = self.drop(nn.functional.avg_pool2d(x, 2))
            x = x.mean((2, 3))
            return self.last(x.view(x.size(0), -1))

    torch.manual_seed(2)
    x = np.random.default_rng(2).integers(0, 256, (20, 1, 8, 8)).astype(np.uint8)
    net = quantise(Net(), TERNARY, TERNARY, keep=())
    ints = compared(deploy(net), x, mean=128.25, std=74.0)
    assert [step.name for step in ints.steps if isinstance(step, Threshold)] == ["act", "act:2"]
    assert [type(step).__name__ for step in ints.steps][-6:] == ["Add", "MaxPool", "SumPool", "SumPool", "Flatten", "Head"]


def test_maxima_of_falling_channels_are_taken_after_the_quantiser():
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.MaxPool2d(2), Quantise(TERNARY, std=0.0)
    ).eval()
    net[0].weight.data = net[0].weight.data.mul(4).round()
    net[1].weight.data = torch.tensor([1.0, -1.0, 0.0, -0.01])
    net[1].bias.data = torch.tensor([0.0, 0.1, 0.5, 0.0])
    net[1].running_var.data[:] = 40.0
    x = np.random.default_rng(3).integers(-9, 10, (30, 1, 8, 8)).astype(np.int8)
    ints = compared(net, x)
    assert [type(step).__name__ for step in ints.steps] == ["Weighted", "Threshold", "MaxPool"]
    with torch.no_grad():
        assert np.array_equal(ints(x), net(torch.from_numpy(x.astype(np.float32))).numpy())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_float_types_are_read_as_they_are_stored(dtype):
    torch.manual_seed(4)
    net = quantise(models.mlp(9, (8, 7), 3), Quantiser.linear(4, quantum=0.1), Quantiser.linear(3, quantum=0.3), keep=())
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.weight.data = torch.randn_like(module.weight)
    net = deploy(net.double() if dtype == torch.float64 else net).to(dtype)
    x = np.random.default_rng(4).integers(0, 17, (40, 9)).astype(np.uint8)
    ints = ab.deploy.to_integer(net, x, std=16, bounds=(0, 16))
    assert ab.deploy.compare(net, ints, x).equal


def test_one_example_does_as_well_as_a_batch():
    net = deploy(quantise(models.vgg(width=0.03, size=16), TERNARY, TERNARY))
    x = np.random.default_rng(5).integers(0, 256, (3, 3, 16, 16)).astype(np.uint8)
    one, many = (ab.deploy.to_integer(net, each, mean=120.7, std=64.0) for each in (x[0], x))
    tensor = ab.deploy.to_integer(net, torch.from_numpy(x), mean=np.float64(120.7), std=Fraction(64))
    assert one == many == tensor and one(x[0]).shape == (10,)
    assert (one.input.low, one.input.high, one.input.mean) == (0, 255, Fraction(120.7))


def test_a_net_is_left_as_it_was():
    net = deploy(quantise(models.mlp(9, (8,), 3), TERNARY, TERNARY)).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    ints = ab.deploy.to_integer(net, np.zeros((5, 9), np.uint8))
    ab.deploy.compare(net, ints, np.ones((5, 9), np.uint8))
    assert net.training and all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


# Bad input ----------------------------------------------------------------------------------------------------------


def _mlp(**settings):
    return deploy(quantise(models.mlp(9, (8,), 3), TERNARY, settings.pop("activations", TERNARY), **settings))


def _with(*modules):
    """A first layer with integer weights, the modules, and a last layer."""
    net = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), *modules).eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.weight.data = module.weight.data.mul(4).round()
    return net


QUANTISE = Quantise(TERNARY, std=0.0)


class Gives(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.conv, self.act, self.other = nn.Conv2d(1, 4, 3, bias=False), Quantise(TERNARY, std=0.0), nn.Linear(3, 4)
        self.fine, self.norm = Scaled(Quantise(TERNARY, std=0.0), 0.5), nn.BatchNorm2d(4)
        self.free = nn.Parameter(torch.ones(1))
        self.conv.weight.data = torch.ones_like(self.conv.weight)
        self.what = forward

    def forward(self, x):
        return self.what(self, x)


@pytest.mark.parametrize(
    "net, sentence",
    [
        (_with(nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)), "'1' is a ReLU, which has no place in an integer network"),
        (_with(nn.Sigmoid(), QUANTISE), "'1' is a Sigmoid, which has no place"),
        (_with(QUANTISE, nn.Softmax(1)), "'2' is a Softmax"),
        (_with(QUANTISE, nn.ConvTranspose2d(4, 2, 2)), "'2' is a ConvTranspose2d"),
        (_with(nn.BatchNorm2d(4, track_running_stats=False), QUANTISE), "'1' has no running mean and variance"),
        (_with(nn.BatchNorm2d(4), nn.BatchNorm2d(4), QUANTISE), "'2' normalises what '1' has normalised"),
        (_with(nn.BatchNorm2d(4), nn.Conv2d(4, 2, 3), QUANTISE), "'2' takes the floats that '1' gives"),
        (_with(nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.AvgPool2d(2), QUANTISE), "'3' takes the maxima '2' of floats"),
        (_with(nn.BatchNorm2d(4), nn.AvgPool2d(2, padding=1), QUANTISE), "'2' pads with zeros what is 0 for no integer"),
        (_with(QUANTISE, nn.AvgPool2d(2, padding=1, count_include_pad=False)), "count_include_pad=False"),
        (_with(QUANTISE, nn.AvgPool2d(3, stride=2, ceil_mode=True)), "'2' averages over windows that reach beyond the edge"),
        (_with(QUANTISE, nn.AdaptiveAvgPool2d(3)), r"'2' takes \(4, 4\) to \(3, 3\), which does not divide it"),
        (
            _with(QUANTISE, nn.Conv2d(4, 2, 3, padding=1, padding_mode="reflect")),
            "padding_mode='reflect'; steps pad with zeros",
        ),
        (_with(QUANTISE, nn.Conv2d(4, 2, 2, padding="same"), QUANTISE), "one row or column more on one side"),
        (_with(QUANTISE, nn.Linear(4, 2), QUANTISE), r"'2' is a linear layer on a tensor of shape \(4, 4, 4\)"),
        (_with(QUANTISE, nn.Conv2d(4, 2, 3)), "the network ends in '2'; it must end in a linear layer or in a quantiser"),
        (_with(QUANTISE, nn.Flatten(2)), r"'2' takes \(4, 4, 4\) to \(4, 16\); steps can only put all axes"),
        (Gives(lambda s, x: s.act(s.conv(x)) + 1), "adds a number, or a multiple"),
        (Gives(lambda s, x: s.act(s.conv(x) * s.free)), "'free' is a tensor of the network's own"),
        (Gives(lambda s, x: (s.act(s.conv(x)), x)), "the network"),
        (
            Gives(lambda s, x: s.act(s.act(s.conv(x)) + s.fine(s.conv(x)))),
            "adds multiples of 1 .* to multiples of 0.5 .*quanta must be equal",
        ),
        (
            Gives(lambda s, x: nn.functional.dropout(s.act(s.conv(x)))),
            "'dropout' drops features at random in evaluation, too",
        ),
        (
            Gives(lambda s, x: torch.cat([s.act(s.conv(x))] * 2, 2)),
            "'cat' concatenates along axis 2; steps put channels one",
        ),
        (
            Gives(lambda s, x: torch.cat(s.act(s.conv(x)).chunk(2, 1), 1)),
            "'cat' concatenates what 'chunk' gives in one piece",
        ),
        (
            Gives(lambda s, x: s.act(torch.cat([torch.max_pool2d(s.norm(s.conv(x)), 2)] * 2, 1))),
            "'cat' takes the maxima 'max_pool2d' of floats",
        ),
        (Gives(lambda s, x: s.act(s.conv(x)).abs()), "'abs_1' is a abs, which has no place"),
        (Gives(lambda s, x: s.act(s.conv(x)) if x.sum() > 0 else x), "the program of this Gives cannot be read"),
        (
            _with(Quantise(Quantiser.linear(9, quantum=0.5), std=0.0)),
            "the 512 levels of '1' are not integers from -128 to 127",
        ),
        (_with(Quantise(Quantiser([0, 0.5, np.pi], [0.1, 1.0]), std=0.0)), "the 3 levels of '1' are not integers"),
    ],
)
def test_what_cannot_be_converted_is_named_with_the_reason(net, sentence):
    with pytest.raises(ValueError, match=sentence):
        ab.deploy.to_integer(net, np.zeros((2, 1, 6, 6), np.uint8))


def test_networks_that_are_not_deployed_are_refused():
    noisy = quantise(models.mlp(9, (8,), 3), TERNARY, TERNARY)
    with pytest.raises(ValueError, match=r"the weights of 'fc1' are not fixed yet: hand over training.deploy\(net\)"):
        ab.deploy.to_integer(noisy, np.zeros((1, 9), np.uint8))
    net = deploy(noisy)
    net.fc1_act.set_noise(0.0, 0.25)
    with pytest.raises(ValueError, match="the quantiser 'fc1_act' has noise of mean 0 and std 0.25 left"):
        ab.deploy.to_integer(net, np.zeros((1, 9), np.uint8))
    with pytest.raises(
        ValueError, match="the weights of 'fc1' take 72 values, which are not integers .*; only a last linear layer"
    ):
        ab.deploy.to_integer(_mlp(keep=("first", "last")), np.zeros((1, 9), np.uint8))
    with pytest.raises(TypeError, match="net must be a torch.nn.Module, not str"):
        ab.deploy.to_integer("net", np.zeros((1, 9), np.uint8))


@pytest.mark.parametrize(
    "example, settings, error, sentence",
    [
        (np.zeros((1, 9)), {}, TypeError, "example must be an array of integers, .* not of float64"),
        (np.zeros((1, 9), bool), {}, TypeError, "not of bool"),
        (np.zeros((1, 8), np.uint8), {}, ValueError, r"does not take an example of shape \(1, 8\)"),
        (np.zeros((0, 9), np.uint8), {}, ValueError, r"one example or a batch of some, but its shape \(0, 9\) has none"),
        ([], {}, ValueError, r"one example or a batch of some, but its shape \(0,\) has none"),
        (
            [[1, 2], [3]],
            {},
            TypeError,
            "example must be an array of integers, .* not of rows that differ in length: hand over",
        ),
        (None, {}, TypeError, "example must be an array of integers, .* not of NoneType"),
        (np.zeros(()).astype(np.uint8), {}, ValueError, r"does not take an example of shape \(\) \(it is a single number\)"),
        (np.zeros((1, 9), np.int64), {}, ValueError, r"an example of int64 does not say how large .* bounds=\(low, high\)"),
        (np.zeros((1, 9), np.uint8), {"std": 0.0}, ValueError, "std must be finite and greater than 0, not 0.0"),
        (np.zeros((1, 9), np.uint8), {"mean": np.nan}, ValueError, "mean must be finite, not nan"),
        (np.zeros((1, 9), np.uint8), {"mean": [0.5, 0.4, 0.3]}, ValueError, "or one for each of the 9 channels, not 3"),
        (np.zeros((1, 9), np.uint8), {"std": ()}, ValueError, r"std must be a number, or one for each channel, not \(\)"),
        (np.zeros((1, 9), np.uint8), {"std": [1] * 8 + [0]}, ValueError, "std must be finite and greater than 0, not 0.0"),
        (
            np.zeros((1, 9), np.uint8),
            {"mean": "grey"},
            TypeError,
            "mean must be a number, or one for each channel, not 'grey'",
        ),
        (np.zeros((1, 9), np.uint8), {"bounds": (0.0, 1.0)}, TypeError, "bounds must be two integers"),
        (np.zeros((1, 9), np.uint8), {"bounds": (5, 5)}, ValueError, "bounds must increase"),
        (np.zeros((1, 9), np.uint8), {"bounds": (0, 10**5000)}, ValueError, r"not be \(0, an integer of 16610 bits\)\.$"),
        (np.zeros((1, 9), np.uint8), {"bounds": (10**5000,)}, TypeError, r"not \(an integer of 16610 bits,\)\.$"),
        (
            np.full((1, 9), 17, np.uint8),
            {"bounds": (0, 16)},
            ValueError,
            "the example reaches from 17 to 17, beyond the bounds 0 and 16",
        ),
        (np.zeros((1, 9), np.int64), {"bounds": (0, 2**30)}, ValueError, "sums of 'fc1' reach from .* and need 3[3-5] bits"),
    ],
)
def test_examples_that_do_not_fit_are_refused(example, settings, error, sentence):
    torch.manual_seed(0)
    net = _mlp()
    net.fc1.weight.data[:] = 1.0
    with pytest.raises(error, match=sentence):
        ab.deploy.to_integer(net, example, **settings)


def test_numbers_that_are_not_finite_are_refused():
    net = _mlp()
    net.fc1_norm.running_mean[2] = float("nan")
    with pytest.raises(ValueError, match="the running_mean of 'fc1_norm' must be finite, but there is nan"):
        ab.deploy.to_integer(net, np.zeros((1, 9), np.uint8))
    net = _mlp()
    net.fc1_norm.running_var[2] = -1.0
    with pytest.raises(ValueError, match="the variance of 'fc1_norm' must be greater than -eps"):
        ab.deploy.to_integer(net, np.zeros((1, 9), np.uint8))


@pytest.mark.parametrize("eps", [np.inf, np.nan, -1.0, "small"])
def test_an_eps_that_is_no_number_of_at_least_zero_is_refused(eps):
    net = _mlp()
    net.fc1_norm.eps = eps
    with pytest.raises((ValueError, TypeError), match=f"the eps of 'fc1_norm' must be .*, not '?{eps}'?\\.$"):
        ab.deploy.to_integer(net, np.zeros((1, 9), np.uint8))


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("keep", [(), ("last",)])
def test_parameters_that_are_not_finite_are_refused_wherever_they_are(value, keep):
    names = [name for name, each in _mlp(keep=keep).state_dict().items() if each.is_floating_point() and each.ndim]
    assert len(names) > 5
    for name in names:
        net = _mlp(keep=keep)
        net.state_dict()[name].view(-1)[-1] = value
        module, what = name.rsplit(".", 1)
        with pytest.raises(ValueError, match=f"the {what} of '{module}' must be finite, but there is {value}"):
            ab.deploy.to_integer(net, np.zeros((1, 9), np.uint8))


def test_a_last_layer_beyond_floats_of_32_bits_is_refused():
    x = np.zeros((1, 9), np.uint8)
    for factor, wrong in ((1e60, r"has a weight of -?\d\S*e\+(59|60);"), (1e-60, r"has a weight of -?\d\S*e-6\d;")):
        net = _mlp(keep=("last",)).double()
        net.last.weight.data.mul_(factor)
        with pytest.raises(ValueError, match=f"the last layer 'last' {wrong} it is kept in floats of 32 bits"):
            ab.deploy.to_integer(net, x)
    for weight, bias, wrong in (
        (3e38, 0.0, "the sums of 'last' can be as large as 2.4e\\+39; floats of 32 bits end at 3.4e\\+38"),
        (1.0, 3.5e38, "the outputs of 'last' can be as large as 3.5e\\+38; floats of 32 bits end at 3.4e\\+38"),
        (1e308, 1e308, "the last layer 'last' has a weight of"),
    ):
        with pytest.raises(ValueError, match=wrong):
            ab.deploy.to_integer(_with_head(weight, bias), x)
    assert np.isfinite(ab.deploy.to_integer(_with_head(1.0, 3.4e38), x)(x).astype(np.float32)).all()


def _with_head(weight, bias):
    """A last layer in float64 whose weights are no multiples of a quantum."""
    net = _mlp(keep=("last",)).double()
    net.last.weight.data.fill_(weight)
    net.last.weight.data[1, :2] *= torch.tensor([3 / 4, np.pi / 4])
    net.last.bias.data.fill_(bias)
    return net


@pytest.mark.parametrize(
    "gamma, shift, variance, eps, why",
    [
        (1e308, 1e308, 1.0, 0.0, "the outputs of '2' can be as large as inf; floats of 32 bits end at 3.4e"),
        (1e300, 0.0, 1e-300, 0.0, "the scale of '2' must be finite"),
        (1.0, 0.0, 1e308, 1e308, "the outputs of '2' are computed with numbers too large for floats of 64 bits"),
        (1e-60, 0.0, 1.0, 0.0, "the scale of '2' must be within what 32-bit floats hold, but there is 1e-60"),
    ],
)
def test_a_last_normalisation_beyond_floats_is_refused(gamma, shift, variance, eps, why):
    net = nn.Sequential(nn.Linear(9, 4, bias=False), QUANTISE, nn.Linear(4, 3, bias=False), nn.BatchNorm1d(3, eps=eps))
    net = net.double().eval()
    for layer in (net[0], net[2]):
        layer.weight.data.fill_(1.0)
    net[3].weight.data.fill_(gamma)
    net[3].bias.data.fill_(shift)
    net[3].running_var.fill_(variance)
    with pytest.raises(ValueError, match=why):
        ab.deploy.to_integer(net, np.zeros((1, 9), np.uint8))


class Then(nn.Module):
    """A network, and a function of what it gives."""

    def __init__(self, inner, function):
        super().__init__()
        self.inner, self.function = inner, function

    def forward(self, x):
        return self.function(self.inner(x))


@pytest.mark.parametrize("keep", [(), ("last",)])
def test_what_follows_the_last_layer_is_blamed_itself(keep):
    for net, what in (
        (nn.Sequential(_mlp(keep=keep), nn.Softmax(1)), "'1' is a Softmax"),
        (nn.Sequential(_mlp(keep=keep), nn.Dropout(), nn.LogSoftmax(1)), "'2' is a LogSoftmax"),
        (Then(_mlp(keep=keep), lambda y: torch.softmax(y, 1)), "'softmax' is a softmax"),
        (Then(_mlp(keep=keep), lambda y: 2 * y), "'mul' is a mul"),
    ):
        with pytest.raises(
            ValueError, match=f"^{what}, which has no place .*: leave it out, and apply it to what the integer"
        ):
            ab.deploy.to_integer(net.eval(), np.zeros((1, 9), np.uint8))
    between = nn.Sequential(_mlp(keep=("last",)), nn.ReLU(), nn.Linear(3, 2))
    with pytest.raises(ValueError, match="the weights of '0.last' take .*; only a last linear layer may stay in float"):
        ab.deploy.to_integer(between.eval(), np.zeros((1, 9), np.uint8))


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, -np.inf])
def test_a_quantum_that_is_not_greater_than_zero_is_refused(scale):
    changed = Scaled(Quantise(TERNARY, std=0.0), 1.0)
    changed.scale.fill_(scale)
    with pytest.raises(ValueError, match=f"the scale of '2' must be .*, but there is {scale:g}"):
        ab.deploy.to_integer(_with(QUANTISE, changed, nn.Flatten(), nn.Linear(64, 2)), np.zeros((1, 1, 6, 6), np.uint8))


def test_a_divisor_less_than_zero_is_refused_by_its_name():
    pool = nn.AvgPool2d(2, divisor_override=-2)
    for net, name in (
        (_with(QUANTISE, pool, QUANTISE), "'2'"),
        (Then(_with(QUANTISE), lambda y: nn.functional.avg_pool2d(y, 2, divisor_override=-2)), "'avg_pool2d'"),
    ):
        with pytest.raises(ValueError, match=f"{name} divides by divisor_override=-2, which must be greater than 0"):
            ab.deploy.to_integer(net, np.zeros((1, 1, 6, 6), np.uint8))


def test_a_comparison_that_finds_differences_says_so():
    """The comparison itself is held to a network that is wrong in one threshold."""
    import dataclasses

    torch.manual_seed(0)
    net = _mlp()
    x = np.random.default_rng(0).integers(0, 256, (60, 9)).astype(np.uint8)
    ints = ab.deploy.to_integer(net, x)
    wrong = []
    for step in ints.steps:
        if isinstance(step, Threshold):
            thresholds = step.thresholds.copy()
            thresholds[:, 0] += 300
            step = dataclasses.replace(step, thresholds=thresholds)
        wrong.append(step)
    found = ab.deploy.compare(net, ab.deploy.IntegerNetwork(ints.input, wrong), x)
    assert not found.equal and found.quantisers[0].wrong > 0 and "differs from the exact levels" in repr(found)
    other = deploy(quantise(models.mlp(9, (8, 8), 3), TERNARY, TERNARY))
    with pytest.raises(ValueError, match="has the quantisers fc1_act, and net fc1_act, fc2_act"):
        ab.deploy.compare(other, ints, x)


def test_running_and_loading_need_no_torch(tmp_path):
    ints = ab.deploy.to_integer(_mlp(), np.zeros((1, 9), np.uint8))
    path = ints.save(tmp_path / "net.npz")
    x = np.arange(18).reshape(2, 9)
    program = f"""
import sys
import numpy as np
import anabook
net = anabook.deploy.load({str(path)!r})
print(net(np.arange(18).reshape(2, 9)).tolist(), repr(net)[:14], "torch" in sys.modules, "scipy.stats" in sys.modules)
net.save({str(path)!r})
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split("]]")[1].split() == ["IntegerNetwork", "False", "False"]
    assert ran.stdout.startswith(str(ints(x).tolist()))


def test_one_activation_with_a_quantum_for_each_place_is_read():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2, self.last = nn.Linear(5, 6), nn.Linear(6, 7), nn.Linear(7, 3)
            self.norm1, self.norm2, self.act = nn.BatchNorm1d(6), nn.BatchNorm1d(7), nn.ReLU()

        def forward(self, x):
            return self.last(self.act(self.norm2(self.fc2(self.act(self.norm1(self.fc1(x)))))))

    torch.manual_seed(6)
    scales = {"act.quantisers.0": torch.tensor(0.37), "act.quantisers.1": torch.tensor(1.9), "fc1": torch.tensor(0.2)}
    net = deploy(quantise(Net(), TERNARY, TERNARY, scales=scales, keep=()))
    for norm in (net.norm1, net.norm2):
        norm.running_var.data[:] = 0.1
    x = np.random.default_rng(6).integers(0, 256, (50, 5)).astype(np.uint8)
    ints = compared(net, x, mean=128.0, std=70.0)
    names = [step.name for step in ints.steps if isinstance(step, Threshold)]
    assert names == ["act.quantisers.0", "act.quantisers.1"]
    assert ints.steps[1].quantum == Fraction(torch.tensor(0.37).item())


def test_a_network_with_hooks_is_refused_by_name():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 2))
    net = deploy(quantise(net, weights=Quantiser.ternary(), activations=Quantiser.ternary(), keep=("2",)))
    x = np.zeros((1, 4), np.int8)
    ab.deploy.to_integer(net, x)
    for hook in ("register_forward_hook", "register_forward_pre_hook"):
        handle = getattr(net[0], hook)(lambda module, *given: None)
        with pytest.raises(ValueError, match=r"'0' has forward hooks"):
            ab.deploy.to_integer(net, x)
        handle.remove()
    ab.deploy.to_integer(net, x)


def test_what_is_too_large_is_refused_in_a_sentence_and_nothing_is_printed(capsys):
    net = deploy(quantise(models.mlp(4, (3,)), weights=Quantiser.ternary(), activations=Quantiser.ternary()))
    x = np.zeros((1, 4), np.int8)
    with pytest.raises(ValueError, match="bounds must lie within 32 bits"):
        ab.deploy.to_integer(net, x, bounds=(0, 10**30))
    with pytest.raises(ValueError, match="mean must be 0 or from 1e-300 to 1e300 in size, not about 1e400"):
        ab.deploy.to_integer(net, x, mean=10**400)
    with pytest.raises(ValueError, match="does not take an example of shape"):
        ab.deploy.to_integer(net, np.zeros((1, 5), np.int8))
    assert capsys.readouterr() == ("", "")


class _Residual(nn.Module):
    """Two convolutions whose features a rule puts together."""

    def __init__(self, rule):
        super().__init__()
        self.conv1, self.act1 = nn.Conv2d(1, 2, 1), Quantise(TERNARY, std=0.0)
        self.conv2, self.act2 = nn.Conv2d(2, 2, 1), Quantise(TERNARY, std=0.0)
        self.free = nn.Parameter(torch.ones(2, 1, 1))
        self.last, self.rule = nn.Linear(8, 2), rule
        for layer in (self.conv1, self.conv2, self.last):
            layer.weight.data = torch.ones_like(layer.weight)

    def forward(self, x):
        a = self.act1(self.conv1(x))
        return self.last(self.rule(self, a, self.act2(self.conv2(a))).flatten(1))


def _augmented(net, a, b):
    y = a
    y += b
    return y + a  # twice the sum: += changed a, too


def _stated(net, a, b):
    a.add_(b)
    return a


def _through_a_view(net, a, b):
    view = a.view(-1, 8)
    view += b.flatten(1)
    return a


def _weights(net, a, b):
    with torch.no_grad():
        net.free.mul_(2)
    return a + b


@pytest.mark.parametrize(
    "rule, sentence",
    [
        (_augmented, "'iadd' changes in place what 'act1' gives, and 'add' takes that afterwards"),
        (_stated, "'add_' changes in place what 'act1' gives, and 'flatten' takes that afterwards"),
        (_through_a_view, "'iadd' changes in place what 'act1' gives, and 'flatten_1' takes that afterwards"),
        (lambda net, a, b: (a + b, b.neg_())[0] + b, "'neg_' changes in place what 'act2' gives, and 'add_1' takes"),
        (_weights, "'mul_' changes 'free', a tensor of the network's own, while it runs"),
    ],
)
def test_what_is_changed_in_place_and_then_taken_is_refused_by_name(rule, sentence):
    """A graph says who takes what; that it has become another tensor since would be lost."""
    net = _Residual(rule).eval()
    with pytest.raises(ValueError, match=sentence):
        ab.deploy.to_integer(net, np.zeros((1, 1, 2, 2), np.int8))


def test_what_is_changed_in_place_and_not_taken_any_more_is_read():
    x = np.random.default_rng(0).integers(-3, 4, (9, 1, 2, 2)).astype(np.int8)

    def kept(net, a, b):
        y = a.add_(b)
        b.zero_()
        return y

    def augmented(net, a, b):
        a += b
        return a

    for rule in (kept, augmented):
        net = _Residual(rule).eval()
        ints = compared(net, x)
        with torch.no_grad():
            assert np.abs(ints(x) - net(torch.from_numpy(x.astype(np.float32))).numpy()).max() < 1e-5


def test_a_forward_that_was_put_in_place_of_another_is_refused():
    net = _Residual(lambda net, a, b: a + b).eval()
    net.conv2.forward = lambda x: -x
    with pytest.raises(ValueError, match="the forward of 'conv2' was put in place of its class's"):
        ab.deploy.to_integer(net, np.zeros((1, 1, 2, 2), np.int8))


def test_a_mean_over_all_axes_is_refused_by_name():
    net = _Residual(lambda net, a, b: a + b.mean(dim=None, keepdim=True)).eval()
    with pytest.raises(ValueError, match="'mean' takes the mean over other axes than the last two"):
        ab.deploy.to_integer(net, np.zeros((1, 1, 2, 2), np.int8))


def test_a_comparison_with_another_network_says_so():
    """Levels are compared as numbers, not by their place among those of a quantiser that may be another one."""
    torch.manual_seed(0)
    x = np.random.default_rng(0).integers(0, 256, (20, 9)).astype(np.uint8)

    def net(activations, hidden=8):
        torch.manual_seed(1)
        made = models.mlp(9, (hidden,), 3)
        made.fc1.weight.data = torch.randint(-1, 2, made.fc1.weight.shape).float()
        return deploy(quantise(made, TERNARY, activations))

    ints = ab.deploy.to_integer(net(TERNARY), x)
    for levels in (Quantiser.heaviside(), Quantiser.linear(3), Quantiser([-2, 0, 2], [-0.5, 0.5])):
        found = ab.deploy.compare(net(levels), ints, x)
        assert not found.equal and found.quantisers[0].wrong > 0, levels
    with pytest.raises(ValueError, match=r"'fc1_act' has the shape \(8,\) in the integer network, and \(5,\) in net"):
        ab.deploy.compare(net(TERNARY, 5), ints, x)
    bare = nn.Sequential(nn.Linear(9, 3), Quantise(TERNARY, std=0.0))
    headed = nn.Sequential(*bare, nn.Linear(3, 3))
    for layer in (headed[0], headed[2]):
        layer.weight.data = layer.weight.data.sign()
    one, two = (ab.deploy.to_integer(each.eval(), x) for each in (bare, headed))
    with pytest.raises(ValueError, match="the integer network ends in a quantiser, and net in a linear layer"):
        ab.deploy.compare(headed, one, x)
    with pytest.raises(ValueError, match="the integer network ends in a linear layer, and net in a quantiser"):
        ab.deploy.compare(bare, two, x)
    for batch in (0, -1):
        with pytest.raises(ValueError, match="batch must be an integer at least 1, not"):
            ab.deploy.compare(bare, one, x, batch=batch)
    with pytest.raises(TypeError, match="ints must be an IntegerNetwork, not Sequential"):
        ab.deploy.compare(bare, bare, x)


@pytest.mark.parametrize(
    "std, sentence",
    [
        (1e-320, "about 1e-3"),
        (1e301, "about 1e30"),
        (Fraction(1, 10**400), "1e-400"),
        (Fraction(10**5000), "about 1e5000"),  # more digits than Python prints
        (10**5000, "about 1e5000"),
        (-Fraction(10**5000), "about 1e5000"),
        (Fraction(-1, 10**5000), "about 1e-5000"),
    ],
    ids=["subnormal", "1e301", "1e-400", "1e5000", "integer", "-1e5000", "-1e-5000"],
)
def test_a_standardisation_that_floats_do_not_hold_is_refused(std, sentence):
    with pytest.raises(ValueError, match=f"std must be 0 or from 1e-300 to 1e300 in size, not .*{sentence}"):
        ab.deploy.to_integer(_mlp(), np.zeros((1, 9), np.uint8), std=std)


def test_a_negative_std_of_many_digits_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="std must be finite and greater than 0, not -0.5"):
        ab.deploy.to_integer(_mlp(), np.zeros((1, 9), np.uint8), std=Fraction(-(10**5000), 2 * 10**5000))
    with pytest.raises(ValueError, match=r"not -0\.33333"):
        ab.deploy.to_integer(_mlp(), np.zeros((1, 9), np.uint8), std=Fraction(-(10**5000), 3 * 10**5000 + 1))


def test_long_floats_of_numpy_are_read_exactly():
    ints = ab.deploy.to_integer(_mlp(), np.zeros((1, 9), np.uint8), std=np.longdouble("3.1"), mean=np.float32(0.1))
    assert float(ints.input.std) == 3.1 and ints.input.mean == Fraction(float(np.float32(0.1)))


def test_tensors_of_torch_are_taken_where_they_hold_integers():
    x = torch.arange(18).reshape(2, 9)
    ints = ab.deploy.to_integer(_mlp(), x, bounds=(0, 20))
    assert np.array_equal(ints(x), ints(x.numpy()))
    for wrong in (torch.zeros(2, 9, requires_grad=True), torch.zeros(2, 9).bfloat16(), torch.zeros(2, 9, device="meta")):
        for call in (ints, lambda x: ab.deploy.to_integer(_mlp(), x), lambda x: ab.deploy.compare(_mlp(), ints, x)):
            with pytest.raises(TypeError, match="array of integers, .*not (a tensor )?of "):
                call(wrong)
