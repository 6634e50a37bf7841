"""Blocks of layers with one turn each: by numbers, by depth, by the names of a network's modules."""

import numpy as np
import pytest
from torch import nn

from anabook import Noise, Quantiser, Schedule, convergence, models, plots, training
from anabook.schedules import INTERVALS, POWER_LAWS

TERNARY = Quantiser.ternary()
FADING = {"mean0": -0.5, "static_mean": False}


def stages():
    """A stem, two stages of two layers, and a head; the second stage has a layer whose weight stays in float."""

    def stage():
        return nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU())

    parts = {"stem": nn.Linear(6, 6), "act": nn.ReLU(), "layer1": stage(), "layer2": stage(), "fc": nn.Linear(6, 2)}
    net = nn.Sequential()
    for name, part in parts.items():
        net.add_module(name, part)
    return net


def quantised(**options):
    return training.quantise(stages(), TERNARY, TERNARY, **options)


def test_blocks_may_come_from_an_iterator():
    expected = Schedule.periodic(4, 10, blocks=(0, 0, 1, 1))
    assert Schedule.periodic(4, 10, blocks=iter([0, 0, 1, 1])) == expected
    assert Schedule.periodic(4, 10, blocks=(layer // 2 for layer in range(4))) == expected


@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.parametrize("power_law", POWER_LAWS)
def test_a_block_decays_as_a_layer_of_a_network_of_blocks_does(interval, power_law):
    blocks = (0, 0, 1, 2, 2, 2)
    many = Schedule.periodic(6, 10, interval, power_law=power_law, blocks=blocks, **FADING)
    few = Schedule.periodic(3, 10, interval, power_law=power_law, **FADING)
    assert (many.end, many.n_turns, many.turns) == (30, 3, blocks)
    assert many.intervals == tuple(few.intervals[b] for b in blocks)
    assert many.exponents == tuple(few.exponents[b] for b in blocks)
    times = np.linspace(-2, 32, 69)
    assert all(np.array_equal(many(layer, times), few(b, times)) for layer, b in enumerate(blocks))


def test_settings_of_ones_own_are_given_for_each_block():
    s = Schedule(4, ((0, 5), (3, 9)), (1, 3), std_exponents=(2, 5), blocks=(0, 1, 1, 0))
    assert s.intervals == ((0, 5), (3, 9), (3, 9), (0, 5)) and s.exponents == ((1, 2), (3, 5), (3, 5), (1, 2))
    assert Schedule(4, std0=(1, 2, 3, 4), blocks=2).initial == ((0, 1), (0, 2), (0, 3), (0, 4))


def test_blocks_by_depth_count_layers_from_the_input():
    s = Schedule.periodic(52, 5, blocks=13)
    assert s.end == 20 and s.blocks == tuple(layer // 13 for layer in range(52))
    assert Schedule.periodic(5, 1, blocks=2).turns == (0, 0, 1, 1, 2)
    assert Schedule.periodic(5, 1, blocks=9).turns == (0,) * 5
    assert Schedule.periodic(5, 1, blocks=1).intervals == Schedule.periodic(5, 1).intervals


def test_without_blocks_the_text_of_a_schedule_is_what_checkpoints_hold_and_with_them_it_has_them():
    assert repr(Schedule(2)) == (
        "Schedule(n_layers=2, interval='partition', power_law='homogeneous', start=0.0, end=350.0, mean0=0.0, std0=0.2887, "
        "static_mean=True, static_std=False, std_exponents=None, growth=None, rule=None)"
    )
    s = Schedule(3, blocks=2)
    assert repr(s).endswith("rule=None, blocks=(0, 0, 1))") and eval(repr(s)) == s != Schedule(3)


def test_tables_and_figures_have_one_column_and_one_curve_for_a_block():
    s = Schedule.periodic(14, 10, blocks=12, std0=0.25, **FADING)
    lines = s.table([0, 5, 15]).splitlines()
    assert lines[0].split("  ")[-2:] == ["layers 0–11: mean, std", "layers 12–13: mean, std"]
    assert len({len(line) for line in lines}) == 1
    assert lines[2].split() == ["5", "-0.2500,", "0.0625", "-0.5000,", "0.2500"]
    axes = plots.schedule(s)
    assert [text.get_text() for text in axes[1].get_legend().get_texts()] == ["layers 0–11", "layers 12–13"]
    assert len(axes[0].lines) == 2 and np.array_equal(
        axes[1].lines[1].get_ydata(), s.values(axes[1].lines[1].get_xdata())[1][:, 13]
    )
    assert s.alike == {"layers 0–11": tuple(range(12)), "layers 12–13": (12, 13)}
    own_noise = Schedule(3, std0=(1, 1, 2), blocks=(0, 0, 0))
    assert own_noise.alike == {"layers 0–1": (0, 1), "layer 2": (2,)}
    assert "layer 0: mean, std" in Schedule(2).table([0]) and list(Schedule(2).alike) == ["layer 0", "layer 1"]


@pytest.mark.parametrize(
    "blocks, expected",
    [
        (None, (0, 1, 2, 3, 4)),
        (2, (0, 0, 1, 1, 2)),
        (["layer1.*", "layer2.*"], (0, 1, 1, 2, 2)),
        (["layer2", "layer1"], (0, 1, 1, 2, 2)),
        ("layer?.*", (0, 1, 1, 1, 1)),
        (("stem", "*"), (0, 1, 1, 1, 1)),
        (["layer*.2", "*"], (0, 0, 1, 0, 1)),
        ([0, 1, 1, 2, 2], (0, 1, 1, 2, 2)),
    ],
)
def test_blocks_of_a_network_by_depth_and_by_the_names_of_its_modules(blocks, expected):
    schedule = Schedule.for_network(quantised(), period=3, interval="same_end", power_law="progressive", blocks=blocks)
    assert schedule.turns == expected and schedule.end == 3 * (max(expected) + 1)
    assert schedule.std0 == training.layers(quantised())[0].weight.std


def test_names_of_scaled_weights_shared_activations_and_layers_without_a_quantised_weight_are_found():
    scales = training.calibrate(stages(), weights=TERNARY)
    net = training.quantise(stages(), {"layer2.2": None, "*": TERNARY}, TERNARY, scales=scales)
    assert Schedule.for_network(net, 1, blocks=["layer1.*", "layer2.0", "layer2.3"]).turns == (0, 1, 1, 2, 3)
    root = training.quantise(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), TERNARY, TERNARY, keep=())
    assert Schedule.for_network(root, 1, blocks=["0"]).turns == (0,)
    alone = training.quantise(nn.Linear(4, 4), TERNARY, keep=())
    assert Schedule.for_network(alone, 1, blocks="*").turns == (0,)


def test_the_layers_of_a_block_get_the_same_noise_and_the_network_is_quantised_after_the_last_turn():
    net = quantised()
    schedule = Schedule.for_network(net, period=4, blocks=["layer1", "layer2"])
    training.set_noise(net, schedule, 6)
    stds = [layer.weight.std for layer in training.layers(net)]
    full = Noise.covering("uniform", 0.5).std
    assert stds[0] == 0 < stds[1] == stds[2] < stds[3] == stds[4] == full
    training.set_noise(net, schedule, schedule.end)
    assert [layer.weight.std for layer in training.layers(net)] == [0] * 5


def test_a_checkpoint_is_not_gone_on_with_in_other_blocks(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32), np.arange(20) % 2
    net, file = quantised(), tmp_path / "run.pt"
    options = {"epochs": 2, "initialise": "near_thresholds", "checkpoint": file}
    training.fit(net, (x, y), Schedule.for_network(net, 2, blocks=2), **options)
    with pytest.raises(ValueError, match="is from another config: its schedule is"):
        training.fit(quantised(), (x, y), Schedule.for_network(net, 2, blocks=3), **options)


@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.parametrize("weights", [None, "same"])
def test_theorem_2_holds_within_blocks_as_between_them(interval, weights):
    for power_law in POWER_LAWS:
        s = Schedule.periodic(6, 10, interval, power_law=power_law, std0=0.25, blocks=3, **FADING)
        verdict = convergence.check("normal", s, weights=weights)
        assert verdict.holds is True
    still = convergence.check("normal", Schedule.periodic(6, 10, interval, std0=0.25, blocks=3), weights=weights)
    assert still.holds is False and {f.condition for f in still.findings if f.holds is False} >= {"(12)", "(17)"}


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: Schedule(3, blocks=0), ValueError, "blocks must be an integer at least 1, not 0"),
        (lambda: Schedule(3, blocks=1.5), TypeError, "blocks must be an integer at least 1, not 1.5"),
        (lambda: Schedule(3, blocks=True), TypeError, "blocks must be an integer"),
        (lambda: Schedule(3, blocks="layer1"), TypeError, "blocks must be an integer at least 1, not 'layer1'"),
        (
            lambda: Schedule(3, blocks=(0, 1)),
            ValueError,
            "blocks must have a number for each of the 3 layers, not 2 numbers",
        ),
        (lambda: Schedule(3, blocks=(0, 2, 2)), ValueError, "numbered without a gap from 0 on, and no layer is in block 1"),
        (lambda: Schedule(3, blocks=(0, -1, 1)), ValueError, "the block of layer 1 must be an integer at least 0, not -1"),
        (
            lambda: Schedule(3, ((0, 1),) * 3, blocks=2),
            ValueError,
            r"one pair \(start, end\) for each of the 2 blocks, not 3",
        ),
        (lambda: Schedule(3, power_law=(1,), blocks=2), ValueError, "one exponent for each of the 2 blocks, not 1"),
        (lambda: Schedule(3, blocks=2, rule=lambda layer, t: (0, 0)), ValueError, "made from a callable has no blocks"),
        (
            lambda: Schedule.for_network(quantised(), 1, blocks=["layr1.*"]),
            ValueError,
            r"'layr1\.\*', which matches no quant.*'lay",
        ),
        (lambda: Schedule.for_network(quantised(), 1, blocks=["fc"]), ValueError, "'fc', which matches no quantised layer"),
        (
            lambda: Schedule.for_network(quantised(), 1, blocks=["layer?"]),
            ValueError,
            r"and 'layer\?\.\*' matches what is in",
        ),
        (
            lambda: Schedule.for_network(quantised(), 1, blocks=["*", "stem"]),
            ValueError,
            r"all that it matches is in '\*' alre",
        ),
        (lambda: Schedule.for_network(quantised(), 1, blocks=["stem", 3]), TypeError, "names of modules or patterns.*not 3"),
        (lambda: Schedule.for_network(models.mlp(4), 1, blocks=2), ValueError, "has no quantised layer"),
    ],
)
def test_blocks_that_do_not_fit_are_refused_with_one_sentence(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_torchvisions_resnet_takes_bits_by_stage_and_turns_by_stage():
    torchvision = pytest.importorskip("torchvision")
    bits = {8: Quantiser.linear(8, rounding="nearest"), 4: Quantiser.linear(4, rounding="nearest")}
    weights = {"first": bits[8], "last": bits[8], "*.downsample.0": bits[8], "*": bits[4]}
    net = training.quantise(torchvision.models.resnet18(), weights=weights, activations={"*": bits[4]})
    found = [(o.name, o.weight_bits) for o in training.report(net)]
    assert len(found) == 21 and [name for name, b in found if b == 8] == [
        *("conv1", "layer2.0.downsample.0", "layer3.0.downsample.0", "layer4.0.downsample.0", "fc"),
    ]
    stages = [f"layer{i}.*" for i in (1, 2, 3, 4)]
    schedule = Schedule.for_network(net, period=5, interval="same_start", blocks=stages)
    assert schedule.turns == (0, *[1] * 4, *[2] * 5, *[3] * 5, *[4] * 5, 5) and schedule.end == 30
