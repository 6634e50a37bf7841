"""From float network to quantised and deployed: what is quantised, in which layer, and what stays in float."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrize

from anabook import Quantiser, Schedule, training
from anabook.training import Quantise
from anabook.training.calibrate import _lost

TERNARY = Quantiser.ternary()
FOUR_BITS = Quantiser.linear(4, quantum=0.1)


def mlp():
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 3))


class Convolutional(nn.Module):
    """Registered out of order, with a container, a dropout and a pooling."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 3)
        self.after_two = nn.Sigmoid()
        self.after_one = nn.ReLU()
        self.features = nn.ModuleDict({"one": nn.Conv2d(1, 4, 3, padding=1), "two": nn.Conv2d(4, 8, 3, padding=1)})
        self.drop = nn.Dropout(0.1)

    def forward(self, x):
        x = self.after_one(self.features["one"](x))
        x = self.after_two(self.features["two"](x))
        return self.head(self.drop(x.mean((2, 3))))


def test_every_weight_and_activation_but_the_last_is_quantised():
    net = training.quantise(mlp(), weights=TERNARY, activations=FOUR_BITS, noise="normal", strategy="random")
    assert [parametrize.is_parametrized(m, "weight") for m in net if isinstance(m, nn.Linear)] == [True, True, False]
    assert [type(net[i]) for i in (1, 2, 4)] == [nn.BatchNorm1d, Quantise, Quantise]
    numbered = training.layers(net)
    assert [layer.weight.quantiser for layer in numbered] == [TERNARY, TERNARY]
    assert [[a.quantiser for a in layer.activations] for layer in numbered] == [[FOUR_BITS], [FOUR_BITS]]
    assert numbered[0].activations[0] is net[2] and numbered[1].activations[0] is net[4]
    assert {(m.noise, m.strategy) for m in net.modules() if isinstance(m, Quantise)} == {("normal", "random")}
    assert [m.layer for m in (net[2], net[4])] == [0, 1]


def test_the_float_network_is_not_changed():
    net = mlp()
    before = copy.deepcopy(net.state_dict())
    converted = training.quantise(net, weights=TERNARY, activations=TERNARY)
    training.initialise_near_thresholds(converted, seed=0)
    assert not parametrize.is_parametrized(net) and isinstance(net[2], nn.ReLU)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_latent_weights_are_the_float_weights():
    net = mlp()
    converted = training.quantise(net, weights=TERNARY)
    assert torch.equal(converted[0].parametrizations.weight.original, net[0].weight)
    assert isinstance(converted[2], nn.ReLU)


def test_keep_takes_ends_names_and_containers():
    def quantised(keep, net=None):
        net = training.quantise(net or mlp(), weights=TERNARY, activations=TERNARY, keep=keep)
        return sorted(training.quantised_weights(net)), [
            n for n, m in net.named_modules() if type(m) is Quantise and "parametrizations" not in n
        ]

    assert quantised(()) == (["0.weight", "3.weight", "5.weight"], ["2", "4"])
    assert quantised("last") == (["0.weight", "3.weight"], ["2", "4"])
    assert quantised(("first", "last")) == (["3.weight"], ["2", "4"])
    assert quantised(["3", "4"]) == (["0.weight", "5.weight"], ["2"])
    nested = nn.Sequential(nn.Sequential(nn.Linear(6, 5), nn.ReLU()), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 2))
    assert quantised(("0", "last"), nested) == (["1.weight"], ["2"])


def test_output_activation_stays_with_a_kept_last_layer():
    net = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1), nn.Sigmoid())
    assert isinstance(training.quantise(net, weights=TERNARY, activations=TERNARY)[3], nn.Sigmoid)
    assert isinstance(training.quantise(net, weights=TERNARY, activations=TERNARY, keep=())[3], Quantise)


def test_layers_without_a_quantised_part_get_no_number():
    net = training.quantise(mlp(), weights=TERNARY, keep=("first",))
    assert [layer.weight.layer for layer in training.layers(net)] == [0, 1]
    assert net[3].parametrizations.weight[0].layer == 0


def test_activation_before_the_first_weight_joins_layer_zero():
    net = training.quantise(nn.Sequential(nn.Hardtanh(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)), TERNARY, TERNARY)
    (layer,) = training.layers(net)
    assert layer.activations == (net[0], net[2])


def test_example_input_finds_the_order_of_the_forward_pass():
    net = training.quantise(Convolutional(), weights=TERNARY, activations=TERNARY, example=torch.zeros(1, 1, 8, 8))
    one, two = training.layers(net)
    assert one == (net.features["one"].parametrizations.weight[0], (net.after_one,))
    assert two == (net.features["two"].parametrizations.weight[0], (net.after_two,))
    assert not parametrize.is_parametrized(net.head)


class Undecided(nn.Module):
    """Its path depends on its input, which no reading of the program shows."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.last = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)
        self.act_two, self.act_one = nn.ReLU(), nn.ReLU()

    def forward(self, x):
        x = self.act_one(self.one(x if x.sum() > 1e9 else x))
        return self.last(self.act_two(self.two(x)))


def test_order_that_cannot_be_read_off_the_program_asks_for_an_example():
    with pytest.raises(ValueError, match="cannot be read off its program .*hand over an example input, example=x"):
        training.quantise(Undecided(), weights=TERNARY, activations=TERNARY)
    net = training.quantise(Undecided(), weights=TERNARY, activations=TERNARY, example=torch.zeros(1, 2))
    assert [layer.activations for layer in training.layers(net)] == [(net.act_one,), (net.act_two,)]


def test_schedule_sets_the_noise_of_weights_and_activations_layer_by_layer():
    net = training.quantise(mlp(), weights=TERNARY, activations=TERNARY)
    schedule = Schedule(n_layers=2, start=0, end=20, mean0=-0.5, std0=0.3, static_mean=False)
    training.set_noise(net, schedule, 5)
    for number, layer in enumerate(training.layers(net)):
        for module in (layer.weight, *layer.activations):
            assert (module.mean, module.std) == schedule(number, 5)
    training.set_noise(net, lambda layer, t: (0.0, layer + t), 1)
    assert [layer.weight.std for layer in training.layers(net)] == [1.0, 2.0]


def test_train_and_eval_reach_every_quantiser():
    net = training.quantise(mlp().eval(), weights=TERNARY, activations=TERNARY)
    assert not any(m.training for m in net.modules())
    assert all(m.training for m in net.train().modules())


def test_noise_free_network_uses_quantised_weights_and_features():
    net = training.quantise(mlp(), weights=TERNARY, activations=TERNARY).eval()
    training.initialise_near_thresholds(net, seed=1)
    seen = []
    for module in (net[2], net[4]):
        module.register_forward_hook(lambda _m, _i, out: seen.append(out))
    net(torch.randn(50, 6))
    for values in (*seen, *training.quantised_weights(net).values(), net[0].weight):
        assert set(values.unique().tolist()) <= {-1.0, 0.0, 1.0}
    assert torch.equal(training.quantised_weights(net)["0.weight"], net[0].weight)


def test_quantised_weights_ignore_the_noise_and_leave_it_alone():
    net = training.quantise(mlp(), weights=TERNARY, activations=TERNARY, strategy="random")
    training.set_noise(net, lambda layer, t: (0.4, 2.0), 0)
    weights = training.quantised_weights(net)
    latent = net[0].parametrizations.weight.original
    assert torch.equal(weights["0.weight"], TERNARY(latent)) and list(weights) == ["0.weight", "3.weight"]
    assert net.training and training.layers(net)[0].weight.std == 2.0


@pytest.mark.parametrize("strategy", ["expectation", "mode", "random"])
def test_deployed_network_is_plain_and_computes_what_evaluation_does(strategy):
    net = training.quantise(mlp(), weights=TERNARY, activations=TERNARY, strategy=strategy)
    training.initialise_near_thresholds(net, seed=2)
    training.set_noise(net, lambda layer, t: (0.3, 0.5), 0)
    deployed = training.deploy(net)
    assert not any(parametrize.is_parametrized(m) for m in deployed.modules())
    assert set(deployed.state_dict()) == set(mlp().state_dict())
    assert set(deployed[0].weight.unique().tolist()) <= {-1.0, 0.0, 1.0}
    x = torch.randn(40, 6)
    expected = net.eval()(x)
    assert torch.equal(deployed(x), expected)
    for module in deployed.modules():
        if isinstance(module, Quantise):
            module.train()
    assert torch.equal(deployed(x), expected)
    assert parametrize.is_parametrized(net[0], "weight")


def test_state_dict_round_trip_restores_the_network():
    net = training.quantise(mlp(), weights=TERNARY, activations=TERNARY)
    training.initialise_near_thresholds(net, seed=3)
    state = net.state_dict()
    assert "0.parametrizations.weight.original" in state and not any("levels" in key for key in state)
    other = training.quantise(mlp(), weights=TERNARY, activations=TERNARY)
    other.load_state_dict(state, strict=True)
    x = torch.randn(20, 6)
    assert torch.equal(net.eval()(x), other.eval()(x))


def test_deep_copies_keep_the_layer_numbers():
    net = copy.deepcopy(training.quantise(mlp(), weights=TERNARY, activations=TERNARY))
    training.set_noise(net, Schedule(n_layers=2, end=10), 3)
    assert len(training.layers(net)) == 2 and training.layers(net)[1].activations == (net[4],)


def test_assigned_weights_become_latent_weights():
    net = training.quantise(mlp(), weights=TERNARY)
    net[0].weight = torch.full((5, 6), 0.7)
    assert torch.equal(net[0].parametrizations.weight.original, torch.full((5, 6), 0.7))
    assert torch.equal(net.eval()[0].weight, torch.ones(5, 6))


def test_conversion_does_not_draw_from_the_global_generator():
    torch.manual_seed(0)
    net = mlp()
    state = torch.random.get_rng_state()
    training.quantise(net, weights=TERNARY, activations=TERNARY, strategy="random")
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)),
        lambda: nn.Sequential(nn.ConvTranspose2d(2, 3, 3), nn.GELU(), nn.Flatten(), nn.Linear(300, 2)),
        lambda: nn.Sequential(nn.Conv3d(2, 3, 3), nn.Hardtanh(), nn.Flatten(), nn.Linear(3, 2)),
    ],
)
def test_all_convolutions_are_quantised(make):
    net = training.quantise(make(), weights=TERNARY, activations=TERNARY)
    assert list(training.quantised_weights(net)) == ["0.weight"]


def test_gradients_reach_the_latent_weights():
    net = training.quantise(mlp(), weights=TERNARY, activations=TERNARY)
    training.initialise_near_thresholds(net, seed=0)
    net(torch.randn(30, 6)).sum().backward()
    for i in (0, 3):
        assert net[i].parametrizations.weight.original.grad.abs().sum() > 0


def test_initial_latent_weights_lie_near_thresholds():
    net = training.quantise(nn.Sequential(nn.Linear(100, 400), nn.ReLU(), nn.Linear(400, 2)), weights=FOUR_BITS)
    training.set_noise(net, lambda layer, t: (-0.05, 0.02), 0)
    training.initialise_near_thresholds(net, seed=4)
    latent = net[0].parametrizations.weight.original.detach().double().numpy() + 0.05
    distance = np.abs(latent[..., np.newaxis] - FOUR_BITS.thresholds).min(axis=-1)
    assert distance.max() <= 0.1 + 1e-6  # 1/√fan_in
    for threshold in FOUR_BITS.thresholds:
        assert (np.abs(latent - threshold) < 0.05).mean() > 0.03
    again = copy.deepcopy(net)
    training.initialise_near_thresholds(again, seed=4)
    assert torch.equal(again[0].parametrizations.weight.original, net[0].parametrizations.weight.original)
    training.initialise_near_thresholds(again, seed=5)
    assert not torch.equal(again[0].parametrizations.weight.original, net[0].parametrizations.weight.original)


def test_wrong_number_of_layers_names_both_numbers():
    net = training.quantise(mlp(), weights=TERNARY, activations=TERNARY)
    with pytest.raises(ValueError, match=r"^the schedule is for 7 layers, but the network has 2 quantised layers\.$"):
        training.set_noise(net, Schedule(), 0)
    with pytest.raises(TypeError, match="schedule must be a Schedule or a function"):
        training.set_noise(net, 0.3, 0)


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: training.quantise(nn.Sequential(nn.ReLU()), weights=TERNARY),
            "has no linear, convolution, attention or recurrent layer",
        ),
        (lambda: training.quantise(mlp()), "give a Quantiser as weights, activations or both"),
        (
            lambda: training.quantise(nn.Linear(2, 2), weights=TERNARY, activations=TERNARY),
            "has no activation to swap, neither a module nor a function in a program that can be read",
        ),
        (lambda: training.quantise(nn.Linear(2, 2), weights=TERNARY), r"keep=\('last',\) covers the whole network"),
        (lambda: training.quantise(mlp(), weights=TERNARY, keep=("lst",)), r"names 'lst', .* Did you mean 'last'\?"),
        (
            lambda: training.quantise(mlp(), weights=TERNARY, keep=("conv1",)),
            r"no such module\. There are 'first', 'last', '0'",
        ),
        (lambda: training.quantise(training.quantise(mlp(), weights=TERNARY), weights=TERNARY), "convert the float network"),
        (
            lambda: training.quantise(nn.Sequential(nn.LazyLinear(2), nn.ReLU(), nn.Linear(2, 2)), TERNARY, TERNARY),
            "run one batch through the network first",
        ),
        (lambda: training.layers(mlp()), "has no quantised layer: convert it with training.quantise first"),
        (lambda: training.layers(nn.Sequential(Quantise(TERNARY))), "the Quantise at '0' has no layer number"),
        (lambda: training.initialise_near_thresholds(mlp(), 0), "no weight of this network is quantised"),
        (lambda: training.quantise(mlp(), TERNARY, TERNARY, noise="gaussian"), "noise must be one of"),
        (lambda: training.quantise(mlp(), TERNARY, TERNARY, strategy="modes"), "Did you mean 'mode'"),
    ],
)
def test_bad_networks_and_names_are_refused_with_one_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: training.quantise(mlp(), weights=[-1, 0, 1]),
            r"weights must be a Quantiser, a mapping from names of modules to Quantisers, or None, not \[-1, 0, 1\]",
        ),
        (lambda: training.quantise("net", weights=TERNARY), "net must be a torch.nn.Module"),
        (lambda: training.quantise(mlp(), weights=TERNARY, keep=3), "keep must be a collection of module names, not 3"),
        (lambda: training.quantise(mlp(), weights=TERNARY, keep=(0,)), "keep must be a collection of module names"),
        (
            lambda: training.quantise(mlp(), TERNARY, TERNARY, swap=nn.ReLU),
            "swap must be a tuple of torch.nn.Module classes",
        ),
    ],
)
def test_arguments_of_a_wrong_type_are_refused(call, message):
    with pytest.raises(TypeError, match=message):
        call()


class SharedActivation(nn.Module):
    """One ReLU after both hidden layers, and after the last one if it is `thrice` used."""

    def __init__(self, thrice=False):
        super().__init__()
        self.one, self.two, self.three, self.act = nn.Linear(2, 4), nn.Linear(4, 4), nn.Linear(4, 3), nn.ReLU()
        self.thrice = thrice

    def forward(self, x):
        x = self.three(self.act(self.two(self.act(self.one(x)))))
        return self.act(x) if self.thrice else x


@pytest.mark.parametrize(
    "make, calls",
    [
        (lambda: nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3)), 1),
        (SharedActivation, 2),
        (lambda: SharedActivation(thrice=True), 3),
    ],
)
def test_hooks_of_a_swapped_activation_go_to_its_quantiser_and_stay_when_deployed(make, calls):
    seen = []
    net, x = make(), torch.randn(5, 2)
    act = next(m for m in net.modules() if isinstance(m, nn.ReLU))
    act.register_forward_pre_hook(lambda m, i: seen.append("before"))
    act.register_forward_hook(lambda m, i, k, o: seen.append("after"), with_kwargs=True)
    act.register_full_backward_hook(lambda m, i, o: seen.append("backward"))
    quantised = training.quantise(net, TERNARY, TERNARY)
    assert seen == []
    for each in (net, quantised, training.deploy(quantised)):
        seen.clear()
        each(x).sum().backward()
        assert seen == calls * ["before", "after"] + calls * ["backward"]


def test_swap_chooses_the_activation_types():
    net = nn.Sequential(nn.Linear(2, 2), nn.Identity(), nn.ReLU(), nn.Linear(2, 2))
    converted = training.quantise(net, TERNARY, TERNARY, swap=(nn.Identity,))
    assert isinstance(converted[1], Quantise) and isinstance(converted[2], nn.ReLU)


def test_sixteen_bit_and_double_networks_run():
    for dtype in (torch.bfloat16, torch.float64):
        net = training.quantise(mlp().to(dtype), weights=FOUR_BITS, activations=TERNARY)
        out = net(torch.randn(8, 6, dtype=dtype))
        out.sum().backward()
        assert out.dtype == dtype and net[0].parametrizations.weight.original.grad.dtype == dtype
        assert math.isfinite(out.sum().item())


def pretrained():
    """A float network that has learnt three blobs."""
    rng = np.random.default_rng(0)
    y = np.arange(300) % 3
    x = (np.array([[2.0, 0.0], [-1.0, 1.7], [-1.0, -1.7]])[y] + 0.3 * rng.normal(size=(300, 2))).astype(np.float32)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(2, 24),
        nn.BatchNorm1d(24),
        nn.ReLU(),
        nn.Linear(24, 16),
        nn.BatchNorm1d(16),
        nn.ReLU(inplace=True),
        nn.Linear(16, 3),
    )
    training.fit(net, (x, y), None, epochs=15, batch_size=30, lr=0.02)
    return net, x, y


UNSIGNED = Quantiser.linear(4, signed=False, rounding="nearest")


@pytest.mark.parametrize("per", ["layer", "channel"])
def test_calibrated_scale_is_the_best_of_a_fine_search(per):
    net = mlp()
    scales = training.calibrate(net, weights=TERNARY, per=per)
    for i in (0, 3, 5):
        w = net[i].weight.detach().double().numpy()
        rows = w.reshape(len(w), -1) if per == "channel" else w.reshape(1, -1)
        assert scales[str(i)].shape == ((len(w), 1) if per == "channel" else ())
        for row, found in zip(rows, scales[str(i)].double().numpy().reshape(-1)):

            def lost(s):
                return np.mean((row - s * TERNARY(row / s)) ** 2)

            finest = min(lost(s) for s in np.geomspace(0.05, 2, 1000) * np.abs(row).max())
            assert lost(found) <= 1.02 * finest + 1e-12


@settings(deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from((TERNARY, UNSIGNED, FOUR_BITS, Quantiser([1, 3], [2.5])))
)
def test_what_a_scale_loses_is_the_mean_squared_error_ties_included(seed, n, quantiser):
    rng = np.random.default_rng(seed)
    x = rng.integers(-12, 13, (3, n)) / 8  # many inputs fall on thresholds
    y = x if seed % 2 else np.maximum(x, 0)
    scales = 2.0 ** rng.integers(-3, 4, 3)
    direct = [np.mean((b - s * quantiser(a / s)) ** 2) for a, b, s in zip(x, y, scales)]
    assert _lost(*map(torch.tensor, (x, y)), quantiser)(torch.tensor(scales)).numpy() == pytest.approx(direct, abs=1e-12)


def test_scales_for_each_channel_lose_no_more_than_one_for_the_layer():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
    with torch.no_grad():
        net[0].weight.mul_(torch.logspace(-1, 1, 8)[:, None, None, None])
    w = net[0].weight.detach()
    lost = []
    for per in ("layer", "channel"):
        converted = training.quantise(net, weights=TERNARY, scales=training.calibrate(net, weights=TERNARY, per=per))
        lost.append((training.quantised_weights(converted)["0.weight"] - w).square().mean())
    assert lost[1] < 0.5 * lost[0]


@pytest.mark.parametrize("per", ["layer", "channel"])
def test_pretrained_network_survives_its_conversion_and_trains_on(per):
    net, x, y = pretrained()
    scales = training.calibrate(net, x, weights=FOUR_BITS, activations=UNSIGNED, per=per)
    assert set(scales) == {"0", "2", "3", "5", "6"}
    converted = training.quantise(net, FOUR_BITS, UNSIGNED, scales=scales)
    reference = training.evaluate(net, (x, y)).accuracy
    assert training.evaluate(converted, (x, y)).accuracy > reference - 0.02 > 0.95
    plain = training.quantise(net, FOUR_BITS, UNSIGNED)
    w = net[3].weight.detach()
    losses = [(training.quantised_weights(n)["3.weight"] - w).square().mean() for n in (converted, plain)]
    assert losses[0] < losses[1]
    schedule = Schedule(n_layers=2, end=4, mean0=-0.25, static_mean=False)
    training.fit(converted, (x, y), schedule, epochs=6, batch_size=30, initialise="shift")
    assert training.evaluate(converted, (x, y)).accuracy > reference - 0.02
    weight = training.quantised_weights(converted)["0.weight"] / scales["0"]
    assert (10 * weight - (10 * weight).round()).abs().max() < 1e-4  # multiples of the quantum 0.1


def test_noise_is_in_units_of_the_quantum_and_gradients_are_those_of_the_scaled_quantiser():
    scale = torch.tensor([[0.2], [3.0]])
    module = training.Scaled(Quantise(TERNARY, "normal", "expectation", mean=0.1, std=0.3), scale)
    x = torch.randn(2, 50, requires_grad=True)
    out = module(x)
    out.sum().backward()
    for row in range(2):
        s = scale[row].item()
        by_hand = Quantise(
            Quantiser(s * TERNARY.levels, s * TERNARY.thresholds), "normal", "expectation", mean=0.1 * s, std=0.3 * s
        )
        z = x[row].detach().clone().requires_grad_()
        expected = by_hand(z)
        expected.sum().backward()
        torch.testing.assert_close(out[row], expected)
        torch.testing.assert_close(x.grad[row], z.grad)


def test_scales_are_saved_deployed_and_used_for_the_start_near_thresholds():
    net = mlp()
    scales = training.calibrate(net, torch.randn(64, 6), weights=TERNARY, activations=TERNARY, per="channel")
    a, b = (
        training.quantise(net, TERNARY, TERNARY, scales=s)
        for s in (scales, {k: torch.ones_like(v) for k, v in scales.items()})
    )
    b.load_state_dict(a.state_dict())
    x = torch.randn(20, 6)
    assert torch.equal(a.eval()(x), b.eval()(x)) and torch.equal(a(x), training.deploy(a)(x))
    assert set(training.deploy(a).state_dict()) == {*mlp().state_dict(), "2.scale", "4.scale"}
    training.set_noise(a, lambda layer, t: (-0.2, 0.1), 0)
    training.initialise_near_thresholds(a, seed=0)
    latent = a[0].parametrizations.weight.original.detach()
    nearest = torch.minimum((latent - 0.3 * scales["0"]).abs(), (latent + 0.7 * scales["0"]).abs())
    assert nearest.max() <= 6**-0.5 + 1e-6


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: training.calibrate(mlp(), weights=TERNARY, per="row"), "per must be one of 'layer', 'channel', not 'row'"),
        (lambda: training.calibrate(mlp(), activations=TERNARY), "inputs are needed to calibrate activations"),
        (lambda: training.calibrate(nn.Flatten(), weights=TERNARY), "nothing to calibrate: this Flatten"),
        (lambda: training.quantise(mlp(), TERNARY, scales={"9": 1.0}), "scales names '9', but the network has no such"),
        (
            lambda: training.quantise(mlp(), TERNARY, scales={"0": 0.0}),
            "scale must be finite and greater than 0 everywhere, not 0.0",
        ),
        (lambda: training.shift_by_mean(mlp()), "no weight of this network is quantised"),
    ],
)
def test_bad_calibrations_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
