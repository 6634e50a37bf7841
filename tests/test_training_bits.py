"""Bits per layer: mappings from patterns of names to quantisers, from conversion to the integer network."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from anabook import Quantiser, Schedule, deploy, models, training
from anabook.training import Quantise
from tests.training_helpers import bright_features

TERNARY = Quantiser.ternary()
EIGHT, FOUR, TWO = (Quantiser.linear(bits, rounding="nearest") for bits in (8, 4, 2))
POSITIVE = Quantiser.linear(4, signed=False, rounding="nearest")


class Block(nn.Module):
    """A residual block whose one activation serves two layers."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.conv2(self.relu(self.conv1(x))) + x)


class Residual(nn.Module):
    """A stem, two stages and a head, named as in many networks."""

    def __init__(self):
        super().__init__()
        self.stem, self.act = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU()
        self.layer1, self.layer2 = nn.Sequential(Block()), nn.Sequential(Block())
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(self.layer2(self.layer1(self.act(self.stem(x)))).mean((2, 3)))


def weight_bits(net):
    """The bits of each quantised weight by the name of its module."""
    return {name: net.get_submodule(name).parametrizations.weight[-1].quantiser.bits for name in weight_names(net)}


def weight_names(net):
    return [name.removesuffix(".weight") for name in training.quantised_weights(net)]


def feature_bits(net):
    """The bits of each quantised activation by the name of its place."""
    return {
        name: m.quantiser.bits
        for name, m in net.named_modules()
        if isinstance(m, Quantise) and "parametrizations" not in name
    }


def test_each_weight_and_activation_gets_the_quantiser_of_the_first_key_that_matches():
    net = training.quantise(
        Residual(),
        weights={"first": EIGHT, "last": EIGHT, "layer2.*": TWO, "*": FOUR},
        activations={"act": EIGHT, "layer1": TWO, "*.relu": FOUR},
    )
    fours = dict.fromkeys(["layer1.0.conv1", "layer1.0.conv2"], 4)
    assert weight_bits(net) == {"stem": 8, **fours, "layer2.0.conv1": 2, "layer2.0.conv2": 2, "fc": 8}
    expected = {f"layer{i}.0.relu.quantisers.{j}": {1: 2, 2: 4}[i] for i in (1, 2) for j in (0, 1)}
    assert feature_bits(net) == {"act": 8, **expected}
    assert [layer.bits for layer in training.layers(net)] == [
        *[(8, (8,)), (4, (2,)), (4, (2,)), (2, (4,)), (2, (4,)), (8, ())],
    ]


def test_every_place_of_a_shared_activation_can_have_bits_of_its_own_or_stay():
    mapping = {"layer1.0.relu.quantisers.0": TWO, "layer2.0.relu.quantisers.1": "float", "*": FOUR}
    net = training.quantise(Residual(), TERNARY, mapping)
    found = feature_bits(net)
    assert found["layer1.0.relu.quantisers.0"] == 2 and found["layer1.0.relu.quantisers.1"] == 4
    assert "layer2.0.relu.quantisers.1" not in found and found["layer2.0.relu.quantisers.0"] == 4
    assert isinstance(net.layer2[0].relu.quantisers[1], nn.ReLU)


def test_a_mapping_of_one_key_is_the_quantiser_itself():
    torch.manual_seed(0)
    float_net, x = Residual(), torch.randn(5, 1, 6, 6)
    plain = training.quantise(float_net, FOUR, POSITIVE)
    mapped = training.quantise(float_net, {"*": FOUR}, {"*": POSITIVE})
    assert str(plain) == str(mapped) and torch.equal(plain.eval()(x), mapped.eval()(x))


@pytest.mark.parametrize("word", [None, "float"])
def test_what_a_mapping_leaves_in_float_stays_without_a_warning_and_what_it_forgets_with_one(word):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net = training.quantise(Residual(), {"layer1": word, "*": FOUR}, {"act": word, "*": POSITIVE})
    assert set(weight_bits(net)) == {"stem", "layer2.0.conv1", "layer2.0.conv2"}
    assert isinstance(net.act, nn.ReLU) and net.get_submodule("layer1.0.conv1").weight.is_leaf
    assert [o.name for o in training.report(net).floats] == ["stem", "layer1.0.conv1", "layer1.0.conv2", "fc"]
    with pytest.warns(UserWarning, match=r"the weights of 'layer1.0.conv1', 'layer1.0.conv2' stay in float"):
        training.quantise(Residual(), {"stem": FOUR, "layer2.*": FOUR}, {"*": POSITIVE})


def test_what_a_mapping_names_counts_more_than_keep_and_a_pattern_does_not():
    assert "fc" not in weight_bits(training.quantise(Residual(), {"*": FOUR}))
    assert weight_bits(training.quantise(Residual(), {"last": EIGHT, "*": FOUR}))["fc"] == 8
    assert weight_bits(training.quantise(Residual(), {"fc": EIGHT, "*": FOUR}))["fc"] == 8
    assert "stem" not in weight_bits(training.quantise(Residual(), {"first": None, "*": FOUR}, keep=()))
    output = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2), nn.Sigmoid())
    assert feature_bits(training.quantise(output, {"last": EIGHT, "*": FOUR}, FOUR)) == {"1": 4, "3": 4}
    assert feature_bits(training.quantise(output, {"last": "float", "*": FOUR}, FOUR, keep=())) == {"1": 4}
    assert feature_bits(training.quantise(output, FOUR, {"last": EIGHT, "*": FOUR})) == {"1": 4, "3": 8}


def test_patterns_match_whole_names_with_any_case_kept_and_ends_may_have_no_activation():
    net = nn.ModuleDict({"a": nn.Linear(4, 4), "aa": nn.Linear(4, 4), "A": nn.Linear(4, 4), "end": nn.Linear(4, 2)})
    net = nn.Sequential(*net.values())
    assert weight_bits(training.quantise(net, {"?": FOUR}, keep=())) == {str(i): 4 for i in range(4)}
    assert weight_bits(training.quantise(net, {"[02]": TWO, "*": FOUR})) == {"0": 2, "1": 4, "2": 2}
    mixed = {"first": EIGHT, "last": EIGHT, "*": FOUR}  # nothing follows the last layer, which is no mistake
    assert [layer.bits for layer in training.layers(training.quantise(models.mlp(8, (6, 6)), mixed, mixed))] == [
        (8, (8,)),
        (4, (4,)),
        (8, ()),
    ]


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"weights": {"layr1.*": FOUR}}, ValueError, r"weights names 'layr1\.\*', which matches no .*did you mean 'layer1"),
        (
            {"weights": {"stam": FOUR}},
            ValueError,
            r"'stam', which matches no linear, convolution, attention or recurrent layer that.*did you mean 'stem'\?",
        ),
        ({"weights": {"layer?": FOUR}}, ValueError, r"it matches 'layer1', and 'layer\?\.\*' matches what is inside"),
        (
            {"weights": {"act": FOUR}},
            ValueError,
            r"weights names 'act', a ReLU, which is and has no linear, convolution, attention or recurrent",
        ),
        ({"activations": {"qqqq": FOUR}}, ValueError, r"no activation that the forward pass uses; there are 'act', 'layer1"),
        (
            {"weights": {"*": FOUR, "layer1.*": TWO}},
            ValueError,
            r"'layer1\.\*' behind '\*', which matches all that it does: .* so put 'layer1\.\*' before '\*'",
        ),
        ({"weights": {"*": FOUR, "first": EIGHT}}, ValueError, r"put 'first' before '\*'"),
        (
            {"weights": {"stem": FOUR, "ste?": TWO}},
            ValueError,
            r"'ste\?' behind 'stem', which matches all .* 'ste\?' before 'stem'",
        ),
        ({"weights": {"first": FOUR, "stem": TWO}}, ValueError, "'stem' behind 'first', which matches all that it does"),
        (
            {"weights": {"layer1.*": FOUR, "layer2.*": TWO, "layer?.*": EIGHT}},
            ValueError,
            r"'layer\?\.\*' behind 'layer1\.\*' and 'layer2\.\*', which match all that it does: .* before 'layer1",
        ),
        ({"weights": {}}, ValueError, "weights is an empty mapping"),
        ({"weights": {"*": None}}, ValueError, "nothing to quantise: give a Quantiser"),
        ({"weights": {"last": EIGHT, "*": None}, "keep": ("first",)}, None, ""),
        ({"weights": {"stem": None, "fc": FOUR}, "activations": {"act": "flaot"}}, TypeError, "None or 'float' to keep it"),
        (
            {"weights": {"*": 4}},
            TypeError,
            r"weights must map '\*' to a Quantiser, or to None or 'float' to keep it, not to 4",
        ),
        (
            {"activations": {3: FOUR}},
            TypeError,
            "activations must map names of modules, or patterns of names,.*3 is no text",
        ),
    ],
)
def test_keys_that_decide_nothing_and_values_of_a_wrong_type_are_refused(options, error, message):
    if error is None:
        assert weight_bits(training.quantise(Residual(), **options)) == {"fc": 8}
        return
    with pytest.raises(error, match=message):
        training.quantise(Residual(), **options)
    with pytest.raises(error, match=message):
        training.calibrate(Residual(), torch.randn(3, 1, 6, 6), **options)


def test_a_mapping_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match="keep=.'last',. with what the mappings leave in float covers the whole network"):
        training.quantise(Residual(), {"fc*": FOUR, "*": None})


def test_calibration_fits_each_quantum_to_its_own_quantiser():
    torch.manual_seed(0)
    net, x = Residual(), torch.randn(8, 1, 6, 6)
    weights = {"first": EIGHT, "layer2.*": "float", "*": TERNARY}
    activations = {"layer1.0.relu.quantisers.1": TWO, "act": None, "*": POSITIVE}
    scales = training.calibrate(net, x, weights, activations, per="channel")
    alone = {q: training.calibrate(net, x, q, q, per="channel") for q in (EIGHT, TERNARY, TWO, POSITIVE)}
    expected = {"stem": EIGHT, "fc": TERNARY, "layer1.0.conv1": TERNARY, "layer1.0.conv2": TERNARY}
    expected |= {f"layer{i}.0.relu.quantisers.{j}": POSITIVE for i in (1, 2) for j in (0, 1)}
    expected["layer1.0.relu.quantisers.1"] = TWO
    assert set(scales) == set(expected)
    assert all(torch.equal(scales[name], alone[q][name]) for name, q in expected.items())
    quantised = training.quantise(net, weights, activations, scales=scales, keep=())
    assert torch.equal(quantised.stem.parametrizations.weight[0].scale, scales["stem"])
    assert training.calibrate(net, weights={"first": EIGHT}).keys() == {"stem"}  # no inputs: the program is read


def test_the_report_has_the_bits_of_each_layer():
    net = training.quantise(Residual(), {"first": EIGHT, "last": EIGHT, "*": TERNARY}, {"act": EIGHT, "*": POSITIVE})
    found = training.report(net)
    assert [(o.name, o.weight_bits, o.input_bits) for o in found] == [
        ("stem", 8, None),
        ("layer1.0.conv1", 2, 8),
        ("layer1.0.conv2", 2, 4),
        ("layer2.0.conv1", 2, 4),
        ("layer2.0.conv2", 2, 4),
        ("fc", 8, 4),
    ]
    lines = str(found).splitlines()
    assert lines[1].split("  ")[-2:] != [] and "8 bits {-128, -127, …, 127}" in lines[1]
    assert "{-1, 0, 1}" in lines[2] and "8 bits {-128, -127, …, 127}" in lines[2]
    assert "4 bits {0, 1, …, 15}" in lines[6]


def test_quantisers_know_their_bits():
    assert [q.bits for q in (Quantiser.heaviside(), TERNARY, TWO, FOUR, POSITIVE, EIGHT)] == [1, 2, 2, 4, 4, 8]
    assert Quantiser(range(5), np.arange(4) + 0.5).bits == 3


@pytest.mark.parametrize("noise", ["uniform", "normal"])
def test_the_schedule_starts_each_layer_with_the_noise_of_its_own_quantisers(noise):
    tenths, halves = (Quantiser.linear(bits, quantum=q, rounding="nearest") for bits, q in ((8, 0.1), (4, 0.5)))
    mapping = {"first": tenths, "*": halves}
    net = training.quantise(models.mlp(8, (6, 6)), mapping, mapping, noise=noise, keep=())
    schedule = Schedule.for_network(net, period=4, mean=-0.5, static_mean=False)
    for number, layer in enumerate(training.layers(net)):
        for module in (layer.weight, *layer.activations):
            assert schedule(number, 0) == (pytest.approx(-0.5 * (0.1, 0.5, 0.5)[number]), module.std)
    training.set_noise(net, schedule, 2)
    assert [layer.weight.std for layer in training.layers(net)] == [schedule(i, 2)[1] for i in range(3)]
    with pytest.raises(
        ValueError, match=r"two quantisers, both of layer 0, need noise of different strength.*0\.1 and 0\.5"
    ):
        Schedule.for_network(training.quantise(models.mlp(8, (6,)), tenths, halves), period=4)


def test_a_network_of_mixed_bits_trains_goes_on_from_its_checkpoint_and_deploys_to_integers(tmp_path):
    x, y = bright_features()
    x = np.rint(8 * x).clip(-8, 7).astype(np.int8)
    torch.manual_seed(0)
    float_net = models.mlp(8, (12, 12), n_classes=3)
    data = torch.from_numpy(x / 8.0).float(), torch.from_numpy(y)
    training.fit(float_net, data, None, epochs=30, lr=0.02)
    weights, features = {"first": EIGHT, "last": EIGHT, "*": FOUR}, {"first": EIGHT, "*": POSITIVE}

    def converted(weights=weights):
        scales = training.calibrate(float_net, data[0], weights, features, per="channel")
        return training.quantise(float_net, weights, features, scales=scales)

    def trained(net, epochs, **options):
        schedule = Schedule.for_network(net, period=1)
        training.fit(net, data, schedule, epochs=epochs, seed=1, initialise="shift", lr=0.01, **options)
        return net

    whole = trained(converted(), 5)
    file = tmp_path / "half.pt"
    trained(converted(), 3, checkpoint=file)
    halves = trained(converted(), 5, checkpoint=file)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), halves.state_dict().values(), strict=True))
    with pytest.raises(ValueError, match="is from another config: its network is"):
        trained(converted(weights | {"*": TWO}), 5, checkpoint=file)

    small = training.deploy(whole)
    with torch.no_grad():
        assert torch.equal(small(data[0]), whole.eval()(data[0]))
    assert training.evaluate(small, data).accuracy > 0.9
    levels = {name: torch.unique((w / s.reshape(-1, 1)).round()).numel() for name, w, s in scaled_weights(whole)}
    assert levels["fc2"] <= 16 < levels["fc1"]


def scaled_weights(net):
    for name, weight in training.quantised_weights(net).items():
        module = net.get_submodule(name.removesuffix(".weight"))
        yield name.removesuffix(".weight"), weight, module.parametrizations.weight[-1].scale


def test_the_integer_network_of_mixed_bits_gives_the_same_levels():
    torch.manual_seed(0)
    x = np.random.default_rng(0).integers(-8, 8, (40, 8), dtype=np.int8)
    eight, four = (Quantiser.linear(b, quantum=0.25, rounding="nearest") for b in (8, 4))
    net = training.quantise(
        models.mlp(8, (12, 12), n_classes=3), {"first": eight, "*": four}, {"first": four, "*": Quantiser.ternary(0.5)}
    )
    training.initialise_near_thresholds(net, seed=0)
    net.eval()
    small = training.deploy(net)
    ints = deploy.to_integer(small, x, std=8, bounds=(-8, 7))
    found = {}
    for name in ("fc1_act", "fc2_act"):
        small.get_submodule(name).register_forward_hook(lambda _m, _x, y, name=name: found.update({name: y}))
    with torch.no_grad():
        outputs = small(torch.from_numpy(x / 8.0).float())
    levels = ints.features(x)
    quanta = {"fc1_act": 0.25, "fc2_act": 0.5}
    assert all(np.array_equal(quanta[name] * levels[name], found[name].numpy()) for name in quanta)
    assert len(np.unique(levels["fc1_act"])) > 3 == len(np.unique(levels["fc2_act"]))
    assert np.allclose(ints(x), outputs.numpy(), atol=1e-5)
    assert [ints.report().layers[i].name for i in range(2)] == ["fc1", "fc2"]
