"""Networks as people have them: torchvision's, with shared activations, attention, recurrences, other parametrisations."""

import copy
import operator
import warnings

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.utils import parametrizations

from anabook import Quantiser, Schedule, datasets, models, training
from anabook.training import PerCall, Quantise

TERNARY = Quantiser.ternary()
FINE = Quantiser.ternary(0.05)
UNSIGNED = Quantiser.linear(4, signed=False, quantum=0.25, rounding="nearest")


def with_small_head(name, *widths):
    """Of the nets whose fully connected layers are most of their hundred million weights, those layers narrowed."""
    with torch.device("meta"):
        net = getattr(torchvision.models, name)(init_weights=False) if name != "alexnet" else torchvision.models.alexnet()
    linear = [i for i, m in enumerate(net.classifier) if isinstance(m, nn.Linear)]
    for i, (n_in, n_out) in zip(linear, zip(widths, widths[1:])):
        net.classifier[i] = nn.Linear(n_in, n_out)
    net.to_empty(device="cpu")
    for module in net.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return net


NETS = {
    "alexnet": lambda: with_small_head("alexnet", 9216, 32, 32, 10),
    "vgg11_bn": lambda: with_small_head("vgg11_bn", 25088, 32, 32, 10),
    **{
        name: (lambda name=name, **options: getattr(torchvision.models, name)(**options))
        for name in (
            "resnet18",
            "resnext50_32x4d",
            "squeezenet1_1",
            "densenet121",
            "shufflenet_v2_x0_5",
            "mobilenet_v2",
            "mobilenet_v3_small",
            "mnasnet0_5",
            "efficientnet_b0",
            "regnet_y_400mf",
            "convnext_tiny",
            "swin_t",
        )
    },
    "vit": lambda: torchvision.models.VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64),
}
SIZES = {"vit": 32, "alexnet": 64}


def quietly(*args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return training.quantise(*args, **options)


def bits(x):
    return x.view(torch.int32)


def check_deployed(net, x, **options):
    """Converted, initialised, deployed: equal to evaluation to the bit, with gradients and without."""
    converted = quietly(net, FINE, UNSIGNED, **options)
    training.initialise_near_thresholds(converted, seed=0)
    converted.eval()
    deployed = training.deploy(converted)
    with torch.no_grad():
        expected = converted(x)
        assert torch.equal(bits(deployed(x)), bits(expected))
    assert torch.equal(bits(converted(x).detach()), bits(expected))
    return converted


@pytest.mark.parametrize("name", NETS)
def test_torchvisions_classifiers_are_converted_exactly(name):
    torch.manual_seed(0)
    net = NETS[name]()
    x = torch.randn(2, 3, SIZES.get(name, 48), SIZES.get(name, 48))
    converted = check_deployed(net, x, example=x if name == "vit" else None)
    assert len(training.layers(converted)) > 5
    # Every swapped activation is one that the forward pass calls.
    called = set()
    for module in converted.modules():
        if isinstance(module, Quantise):
            module.register_forward_hook(lambda m, *_: called.add(m))
    converted(x)
    assert called == {m for layer in training.layers(converted) for m in (layer.weight, *layer.activations) if m}


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_torchvisions_classifiers_with_functions_for_activations_are_converted(name):
    net = getattr(torchvision.models, name)(init_weights=False)
    with pytest.warns(UserWarning, match="the weights of .*[Aa]ux.* stay in float"):
        converted = training.quantise(net, TERNARY, UNSIGNED)
    used = [o for o in training.report(converted) if not o.unused]
    assert len(used) > 50 and all(o.inputs == (UNSIGNED,) for o in used[1:])
    assert "not used in evaluation" in str(training.report(converted))


def test_vision_transformer_without_an_example_is_converted_in_order_or_refused():
    net = NETS["vit"]()
    try:
        converted = quietly(net, FINE, UNSIGNED)
    except ValueError as error:
        assert "example" in str(error)  # noqa: PT017
        return
    with_example = quietly(net, FINE, UNSIGNED, example=torch.randn(1, 3, 32, 32))
    assert layer_numbers(converted) == layer_numbers(with_example)


def layer_numbers(net):
    return {name: m.layer for name, m in net.named_modules() if isinstance(m, Quantise)}


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "densenet121", "swin_t"])
def test_reading_the_program_and_watching_a_pass_number_the_layers_alike(name):
    net = NETS[name]()
    watched = quietly(net, FINE, UNSIGNED, example=torch.randn(1, 3, 64, 64))
    assert layer_numbers(quietly(net, FINE, UNSIGNED)) == layer_numbers(watched)


def test_activation_that_a_residual_block_shares_gets_a_quantiser_for_each_layer():
    net = training.quantise(torchvision.models.resnet18(), TERNARY, TERNARY)
    block = net.layer1[0]
    assert isinstance(block.relu, PerCall) and block.relu.which == (0, 1)
    first, second = block.relu.quantisers
    numbered = training.layers(net)
    assert (block.conv1.parametrizations.weight[0], (first,)) == tuple(numbered[1])
    assert (block.conv2.parametrizations.weight[0], (second,)) == tuple(numbered[2])
    assert isinstance(training.deploy(net).layer1[0].relu, Quantise)


def test_every_layer_of_a_residual_network_learns_until_its_own_noise_is_gone():
    torch.manual_seed(0)
    net = training.quantise(torchvision.models.resnet18(num_classes=4), TERNARY, TERNARY)
    training.initialise_near_thresholds(net, seed=0)
    schedule = Schedule.for_network(net, period=1)
    numbered, x = training.layers(net), torch.randn(8, 3, 32, 32)
    for t in (0, 2, 9):
        training.set_noise(net, schedule, t)
        net.zero_grad()
        net(x).square().sum().backward()
        for number, layer in enumerate(numbered):
            assert all((m.std == 0) == (number < t) for m in (layer.weight, *layer.activations))
        gradients = {name: p.grad.abs().sum().item() for name, p in net.named_parameters() if name.endswith("original")}
        numbers = {
            f"{name}.parametrizations.weight.original": m.parametrizations.weight[0].layer
            for name, m in net.named_modules()
            if hasattr(m, "parametrizations")
        }
        # Of two neighbours the later one has noise for longer, so what it passes back reaches its own weight.
        assert all(gradients[name] > 0 for name, number in numbers.items() if number >= t)


class Shared(nn.Module):
    """One activation for everything: two layers and the output."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.last, self.act = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3), nn.ReLU()

    def forward(self, x):
        return self.act(self.last(self.act(self.two(self.act(self.one(x))))))


@pytest.mark.parametrize("example", [None, torch.zeros(1, 6)])
def test_shared_activation_stays_what_it_is_behind_a_kept_last_layer(example):
    net = training.quantise(Shared(), TERNARY, UNSIGNED, example=example)
    assert [type(m) for m in net.act.quantisers] == [Quantise, Quantise, nn.ReLU] and net.act.which == (0, 1, 2)
    training.initialise_near_thresholds(net, seed=0)
    outputs = net(torch.randn(100, 6, generator=torch.Generator().manual_seed(0)))
    assert outputs.min() == 0 and not torch.equal(outputs, UNSIGNED(outputs))
    check_deployed(Shared(), torch.randn(10, 6), example=example)


def test_shared_activation_is_harmless_where_weights_alone_are_quantised():
    net = training.quantise(Shared(), weights=TERNARY)
    assert isinstance(net.act, nn.ReLU) and len(training.layers(net)) == 2


def test_places_of_one_activation_module_get_modules_of_their_own():
    act = nn.ReLU()
    net = training.quantise(nn.Sequential(nn.Linear(6, 8), act, nn.Linear(8, 8), act, nn.Linear(8, 2)), TERNARY, UNSIGNED)
    assert [layer.activations for layer in training.layers(net)] == [(net[1],), (net[3],)] and net[1] is not net[3]
    scales = training.calibrate(
        nn.Sequential(nn.Linear(6, 8), act, nn.Linear(8, 8), act), torch.randn(50, 6), activations=UNSIGNED
    )
    assert set(scales) == {"1", "3"} and scales["1"] != scales["3"]


def test_layer_that_is_used_again_and_again_stays_one_layer():
    class Unrolled(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.act, self.last, self.times = nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2), 3

        def forward(self, x):
            for _ in range(self.times):
                x = self.act(self.cell(x))
            return self.last(x)

    net = training.quantise(Unrolled(), TERNARY, UNSIGNED)
    assert isinstance(net.act, Quantise) and len(training.layers(net)) == 1
    net.times = 5
    net(torch.randn(4, 6))


def test_calls_beyond_those_of_the_conversion_are_refused():
    net = training.quantise(Shared(), TERNARY, UNSIGNED, keep=())
    with pytest.raises(
        RuntimeError, match="called 3 times in a forward pass .* is called outside of its module's own pass: call modules"
    ):
        net.act(torch.zeros(3))
    net.one.register_forward_pre_hook(lambda *_: (net.act(torch.zeros(3)), None)[1])
    with pytest.raises(RuntimeError, match="is called once more: .*checkpoint whole blocks"):
        net(torch.zeros(1, 6))


def test_networks_that_keep_their_activation_elsewhere_are_refused():
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.act, self.last = nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2)
            self.remembered = [self.act]

        def forward(self, x):
            return self.last(self.remembered[0](self.one(x)))

    with pytest.raises(ValueError, match="'act' is not called any more once a quantiser has taken its place"):
        training.quantise(Hidden(), TERNARY, UNSIGNED, example=torch.zeros(1, 6))
    with pytest.raises(ValueError, match="example|not called any more"):
        training.quantise(Hidden(), TERNARY, UNSIGNED)


class Encoder(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(16, 2, 32, activation=activation, batch_first=True)
        self.last = nn.Linear(16, 4)

    def forward(self, x):
        return self.last(self.encoder(x).mean(1))


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.GELU()], ids=["relu", "gelu"])
@pytest.mark.parametrize("example", [None, torch.randn(2, 5, 16)], ids=["program", "example"])
def test_transformer_layers_evaluate_with_their_quantiser_and_not_with_the_activation_they_remember(activation, example):
    torch.manual_seed(0)
    net, x = Encoder(activation), torch.randn(30, 5, 16)
    converted = quietly(net, activations=TERNARY, example=example).eval()
    with_gradients = converted(x)
    with torch.no_grad():
        # Without gradients the attention takes a shortcut of its own, which rounds differently.
        torch.testing.assert_close(converted(x), with_gradients)
        deployed = training.deploy(converted)(x)
        assert torch.equal(bits(deployed), bits(converted(x)))
        features = converted.encoder.activation(converted.encoder.linear1(x))
        assert set(features.unique().tolist()) <= {-1.0, 0.0, 1.0}
        hidden = converted.encoder.norm1(x + converted.encoder.self_attn(x, x, x)[0])
        by_hand = converted.encoder.norm2(hidden + converted.encoder.linear2(TERNARY(converted.encoder.linear1(hidden))))
        torch.testing.assert_close(converted.last(by_hand.mean(1)), deployed)
    y = torch.arange(30) % 4
    assert training.evaluate(converted, (x, y)) == training.evaluate(training.deploy(converted), (x, y))


@pytest.mark.parametrize("example", [None, torch.randn(2, 5, 16)], ids=["program", "example"])
def test_transformer_layers_are_numbered_in_the_order_of_their_use(example):
    net = quietly(Encoder(nn.ReLU()), TERNARY, TERNARY, example=example)
    names = {f"encoder.{name}": i for i, name in enumerate(("self_attn.out_proj", "linear1", "linear2"), 1)}
    assert {name: net.get_submodule(name).parametrizations.weight[0].layer for name in names} == names
    assert net.encoder.self_attn.parametrizations.in_proj_weight[0].layer == 0 and net.encoder.activation.layer == 2


@pytest.mark.parametrize("example", [None, torch.zeros(2, 4)], ids=["program", "example"])
def test_finding_the_order_leaves_no_trace_in_the_network(example):
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.norm, self.act, self.last = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)
            self.passes = 0

        def forward(self, x):
            self.passes += 1
            return self.last(self.act(self.norm(self.one(x + torch.rand(1)))))

    net, state = Counting(), torch.random.get_rng_state()
    converted = training.quantise(net, TERNARY, TERNARY, example=example)
    assert (net.passes, converted.passes) == (0, 0) and converted.training and converted.norm.num_batches_tracked == 0
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not converted.one._forward_pre_hooks and not hasattr(example, "_flow")


def test_modules_made_in_the_forward_pass_are_looked_into():
    class Sliced(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))

        def forward(self, x):
            return self.body[2:](nn.Dropout()(self.body[:2](x)))

    net = training.quantise(Sliced(), TERNARY, TERNARY)
    assert [layer.activations for layer in training.layers(net)] == [(net.body[1],), (net.body[3],)]
    assert [o.name for o in training.report(net)] == ["body.0", "body.2", "body.4"]


def test_optional_arguments_of_a_forward_pass_are_left_out_when_the_order_is_read():
    class Optional(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.act = nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU()

        def forward(self, x, mask=None, flip=False):
            if mask is not None:
                x = self.two(x) * mask
            return self.two(self.act(self.one(x)))

    net = training.quantise(Optional(), TERNARY, TERNARY)
    assert training.layers(net)[0].weight is net.one.parametrizations.weight[0] and net.act.layer == 0


# What stays in float ------------------------------------------------------------------------------------------------


class Everything(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.encoder = (
            nn.Embedding(20, 16),
            nn.TransformerEncoderLayer(16, 2, 32, activation=nn.ReLU(), batch_first=True),
        )
        self.recurrent, self.mixed = nn.LSTM(16, 8, batch_first=True), nn.Parameter(torch.randn(8, 8))
        self.narrow, self.act, self.last = nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)

    def forward(self, x):
        x, _ = self.recurrent(self.encoder(self.embedding(x)))
        return self.last(self.act(self.narrow(x[:, -1] @ self.mixed)))


def test_report_lists_every_weighted_operation_and_marks_what_stays_in_float():
    tokens = torch.randint(0, 20, (4, 5))
    with pytest.warns(UserWarning, match="stay in float; training.report"):
        net = training.quantise(Everything(), TERNARY, UNSIGNED, example=tokens)
    report = training.report(net, tokens)
    rows = {o.name: (o.weight, o.inputs) for o in report}
    assert rows == {
        "embedding": (None, ()),
        "encoder.self_attn.in_proj_weight": (TERNARY, ()),
        "encoder.self_attn.out_proj": (TERNARY, ()),
        "encoder.linear1": (TERNARY, ()),
        "encoder.linear2": (TERNARY, (UNSIGNED,)),
        "recurrent.weight_ih_l0": (TERNARY, ()),
        "recurrent.weight_hh_l0": (TERNARY, ()),
        "mixed": (None, ()),
        "narrow": (TERNARY, ()),
        "last": (None, (UNSIGNED,)),
    }
    assert [o.name for o in report] == list(rows)
    assert {o.name for o in report.floats} == set(rows) - {"encoder.linear2"}
    assert [o.layer for o in report] == [None, 0, 1, 2, 3, 4, 5, None, 6, None]
    lines = str(report).splitlines()
    assert len(lines) == 11 and "float: the attention" in lines[3] and lines[5].endswith("{0, 0.25, …, 3.75}")


@pytest.mark.parametrize("example", [None, torch.zeros(1, 3, 32, 32)], ids=["program", "example"])
def test_bottlenecks_without_activation_are_marked_and_warned_of(example):
    with pytest.warns(UserWarning, match="the inputs of 'features.2.conv.0.0', .* and 14 more stay in float"):
        net = training.quantise(torchvision.models.mobilenet_v2(), TERNARY, UNSIGNED, example=example)
    report = training.report(net, example)
    floats = [o for o in report if o.input_is_float]
    assert len(report) == 53 and len(floats) == 18
    assert [o.source for o in floats[:2]] == ["the network's input", "features.1.conv.2"]
    (last,) = [o for o in report if o.weight_is_float]
    assert last.name == "classifier.1" and last.combined and last.inputs == (UNSIGNED,)


def test_no_warning_where_everything_but_the_input_and_the_kept_is_quantised():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for net in (models.vgg(width=0.05), models.dscnn(), models.mlp(8), torchvision.models.resnet18()):
            training.quantise(net, TERNARY, UNSIGNED)
            training.quantise(net, weights=TERNARY)
            training.quantise(net, activations=TERNARY, keep=())
        training.quantise(models.mlp(8, (4, 4, 4)), TERNARY, UNSIGNED, keep=("fc2", "fc2_act", "last"))


def test_report_of_a_float_network_marks_everything():
    report = training.report(models.mlp(8))
    assert len(report) == len(report.floats) == 3 and {o.layer for o in report} == {None}
    with pytest.raises(TypeError, match="net must be a torch.nn.Module, not 3"):
        training.report(3)


def test_weight_that_another_parametrisation_changes_after_rounding_is_marked():
    net = training.quantise(models.mlp(8, (4,)), weights=TERNARY)
    nn.utils.parametrize.register_parametrization(net.fc1, "weight", nn.Softplus())
    assert training.report(net)[0].weight is None


# Other parametrisations, shared weights -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other", [parametrizations.weight_norm, parametrizations.spectral_norm, parametrizations.orthogonal]
)
def test_quantised_weights_behind_another_parametrisation_are_those_of_the_deployed_network(other):
    torch.manual_seed(1)
    net = nn.Sequential(other(nn.Linear(6, 6)), nn.ReLU(), nn.Linear(6, 2))
    with torch.no_grad():
        net[0].bias.zero_()
    net = training.quantise(net, weights=FINE)
    weights, deployed = training.quantised_weights(net), training.deploy(net)
    assert torch.equal(weights["0.weight"], deployed[0].weight) and torch.equal(weights["0.weight"], net.eval()[0].weight)
    assert set(weights["0.weight"].unique().tolist()) <= set(torch.tensor(FINE.levels).float().tolist())
    x = torch.randn(9, 6)
    assert torch.equal(deployed(x), net(x))


def test_latent_weights_behind_weight_normalisation_are_placed_and_shifted():
    net = training.quantise(
        nn.Sequential(parametrizations.weight_norm(nn.Linear(100, 40)), nn.ReLU(), nn.Linear(40, 2)), TERNARY
    )
    training.set_noise(net, lambda layer, t: (-0.2, 0.1), 0)
    training.initialise_near_thresholds(net, seed=0)
    latent = net[0].parametrizations.weight
    value = latent[0](latent.original0, latent.original1).detach()
    nearest = torch.minimum((value - 0.3).abs(), (value + 0.7).abs())
    assert nearest.max() <= 0.1 + 1e-5
    training.shift_by_mean(net)
    torch.testing.assert_close(latent[0](latent.original0, latent.original1), value - 0.2)


def test_latent_weights_that_a_parametrisation_cannot_give_are_refused_and_left_alone():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(6, 6), nn.ReLU(), parametrizations.spectral_norm(nn.Linear(6, 6)), nn.ReLU(), nn.Linear(6, 2)
    )
    net = training.quantise(net, TERNARY)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    for change in (lambda: training.initialise_near_thresholds(net, 0), lambda: training.shift_by_mean(net)):
        training.set_noise(net, lambda layer, t: (0.3, 0.1), 0)
        with pytest.raises(ValueError, match="'2' cannot be set behind its parametrisation SpectralNorm"):
            change()
        assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    "wrap", [nn.utils.weight_norm, nn.utils.spectral_norm, lambda m: nn.utils.prune.l1_unstructured(m, "weight", 0.5)]
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_weights_that_a_hook_makes_are_refused_with_the_remedy(wrap):
    import torch.nn.utils.prune  # noqa: F401

    net = nn.Sequential(wrap(nn.Linear(6, 6)), nn.ReLU(), nn.Linear(6, 2))
    with pytest.raises(ValueError, match="the weight of '0' is no parameter but is made by a hook"):
        training.quantise(net, TERNARY)


MOVING = Quantiser([-1, 0, 1], [-0.1, 1.5])  # its own levels are not where it leaves them: 1 becomes 0


def test_layers_that_share_a_parameter_are_rounded_once():
    net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))
    with torch.no_grad():
        net[0].weight.normal_(0, 2, generator=torch.Generator().manual_seed(0))
    net[2].weight = net[0].weight
    net = training.quantise(net, MOVING, TERNARY)
    deployed, x = training.deploy(net), torch.randn(30, 6)
    assert (
        torch.equal(deployed[0].weight, MOVING(net[0].parametrizations.weight.original)) and (deployed[0].weight == 1).any()
    )
    assert deployed[0].weight is deployed[2].weight and torch.equal(deployed(x), net.eval()(x))


def test_parameter_that_a_float_module_shares_stays_in_float_in_the_deployed_network():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.act, self.head = nn.Embedding(12, 8), nn.ReLU(), nn.Linear(8, 12, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, x):
            return self.head(self.act(self.embedding(x)))

    tokens = torch.arange(12)
    net = quietly(Tied(), TERNARY, TERNARY, keep=())
    deployed = training.deploy(net)
    assert torch.equal(deployed.embedding.weight, net.embedding.weight) and deployed.embedding.weight.unique().numel() > 50
    assert torch.equal(deployed(tokens), net.eval()(tokens))


# State dicts of float networks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_float_state_dict_is_loaded_by_a_quantised_network_and_the_other_way_round(scaled, wrapped):
    floats = models.mlp(8, (6, 6))
    other = models.mlp(8, (6, 6))
    scales = training.calibrate(other, torch.randn(40, 8), TERNARY, UNSIGNED) if scaled else None
    net = training.quantise(other, TERNARY, UNSIGNED, scales=scales)
    holder, state = (
        (nn.ModuleDict({"net": net}), {f"net.{k}": v for k, v in floats.state_dict().items()})
        if wrapped
        else (net, floats.state_dict())
    )
    holder.load_state_dict(state)
    assert torch.equal(net.fc1.parametrizations.weight.original, floats.fc1.weight)
    assert torch.equal(net.fc1_norm.running_mean, floats.fc1_norm.running_mean)
    back = models.mlp(8, (6, 6))
    back.load_state_dict(training.float_state_dict(net))
    x = torch.randn(5, 8)
    assert torch.equal(back.eval()(x), floats.eval()(x))
    again = training.quantise(models.mlp(8, (6, 6)), TERNARY, UNSIGNED, scales=scales)
    again.load_state_dict(net.state_dict())  # its own names, as ever
    assert torch.equal(again.eval()(x), net.eval()(x))


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("part", [False, True])
@pytest.mark.parametrize("weights, activations", [(TERNARY, UNSIGNED), (TERNARY, None), (None, UNSIGNED)])
def test_float_network_loads_a_quantised_state_dict_or_its_error_names_the_way(weights, activations, scaled, part):
    floats = models.mlp(8, (6, 6))
    scales = training.calibrate(floats, torch.randn(40, 8), weights, activations) if scaled else None
    net = quietly(floats, weights, activations, scales=scales)
    holder, into, start = (nn.ModuleList([net]), nn.ModuleList([floats]), "0.") if part else (net, floats, "")
    state = holder.state_dict()
    if weights is None and not scaled:  # nothing has another name
        into.load_state_dict(state)
    else:
        with pytest.raises(RuntimeError, match=f'"{start}for_a_float_network_use_training_float_state_dict"'):
            into.load_state_dict(state)
    way = {start + name: tensor for name, tensor in training.float_state_dict(net).items()}
    assert way.keys() == into.state_dict().keys()
    into.load_state_dict(way)
    # The deployed network has no other names but the quanta of its activations; nor has it a mark that gives wrong advice.
    assert not any("float_state_dict" in name for name in training.deploy(net).state_dict())


def test_state_dict_saved_before_there_was_a_mark_is_loaded_and_continued(tmp_path):
    net = training.quantise(models.mlp(8, (6, 6)), TERNARY, TERNARY)
    state = {name: tensor for name, tensor in net.state_dict().items() if "float_state_dict" not in name}
    assert len(state) == len(net.state_dict()) - 1
    training.quantise(models.mlp(8, (6, 6)), TERNARY, TERNARY).load_state_dict(state)
    data, schedule = (torch.randn(20, 8), torch.randint(0, 10, (20,))), Schedule(n_layers=2, end=2)
    options = {"initialise": "near_thresholds", "progress": False, "batch_size": 10}
    whole = training.fit(copy.deepcopy(net), data, schedule, epochs=3, **options)
    training.fit(net, data, schedule, epochs=2, checkpoint=tmp_path / "run.pt", **options)
    saved = torch.load(tmp_path / "run.pt", weights_only=True)
    saved["network"] = {name: tensor for name, tensor in saved["network"].items() if "float_state_dict" not in name}
    torch.save(saved, tmp_path / "run.pt")
    fresh = training.quantise(models.mlp(8, (6, 6)), TERNARY, TERNARY)
    resumed = training.fit(fresh, data, schedule, epochs=3, checkpoint=tmp_path / "run.pt", **options)
    assert list(resumed) == list(whole)


def test_the_name_of_the_mark_is_not_taken_from_a_network_that_has_it():
    name = "for_a_float_network_use_training_float_state_dict"
    for give in (
        lambda net: net.register_buffer(name, torch.tensor(5.0)),
        lambda net: net.register_parameter(name, nn.Parameter(torch.zeros(1))),
    ):
        net = models.mlp(8, (6,))
        give(net)
        with pytest.raises(ValueError, match="a name that a quantised network needs"):
            training.quantise(net, TERNARY)


def test_a_float_state_dict_leaves_nothing_on_the_meta_device():
    floats = models.mlp(8, (6, 6))
    net = training.quantise(floats, TERNARY, UNSIGNED).to("meta")
    net.load_state_dict(floats.state_dict(), assign=True)
    assert {tensor.device.type for tensor in net.state_dict().values()} == {"cpu"}


def test_a_deployed_network_that_is_quantised_again_loads_latent_weights():
    again = training.quantise(training.deploy(training.quantise(models.mlp(8, (6, 6)), TERNARY)), TERNARY)
    again.load_state_dict(again.state_dict())
    again.load_state_dict(models.mlp(8, (6, 6)).state_dict())


def test_mark_of_a_quantised_network_is_an_ordinary_buffer():
    from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict

    net = training.quantise(models.mlp(8, (6, 6)), TERNARY, UNSIGNED).eval()
    x = torch.randn(5, 8)
    assert torch.equal(torch.func.functional_call(net, net.state_dict(), x), net(x))
    state = get_model_state_dict(net)
    assert state.keys() == net.state_dict().keys()
    set_model_state_dict(net, state)
    averaged = torch.optim.swa_utils.AveragedModel(net, use_buffers=True)
    averaged.update_parameters(net)
    assert torch.equal(averaged(x), net(x))


def test_float_state_dict_with_a_missing_weight_is_not_loaded_in_silence():
    net = training.quantise(models.mlp(8, (6, 6)), TERNARY, UNSIGNED)
    state = models.mlp(8, (6, 6)).state_dict()
    del state["fc2.weight"]
    with pytest.raises(RuntimeError, match="fc2.parametrizations.weight.original"):
        net.load_state_dict(state)
    assert net.load_state_dict(state, strict=False).missing_keys == ["fc2.parametrizations.weight.original"]


# Precautions of fit -------------------------------------------------------------------------------------------------

DIGITS = datasets.digits()


@pytest.mark.parametrize("weights", [TERNARY, Quantiser.linear(4, rounding="nearest")])
def test_weights_that_all_round_to_one_level_are_warned_of_with_the_remedy(weights):
    net = training.quantise(models.mlp(64, (32, 32)), weights, TERNARY)
    schedule = Schedule.for_network(net, period=1)
    with pytest.warns(
        UserWarning, match=r"all weights of 'fc1.weight' \(and those of 1 more\) round to the level 0, .*near_thresholds"
    ):
        training.fit(net, DIGITS.train, schedule, epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        training.fit(net, DIGITS.train, schedule, epochs=3, initialise="near_thresholds")
        scales = training.calibrate(models.mlp(64, (32, 32)), weights=weights)
        training.fit(
            training.quantise(models.mlp(64, (32, 32)), weights, TERNARY, scales=scales), DIGITS.train, schedule, epochs=3
        )


def test_noise_that_spans_many_quanta_is_warned_of_with_the_remedy():
    small = Quantiser.ternary(0.07)
    net = training.quantise(models.mlp(64, (32, 32)), small, small)
    with pytest.warns(
        UserWarning, match=r"the noise of layer 0 has the standard deviation 0\.2887, which spans 14\.3 quanta of 0\.07"
    ):
        training.fit(net, DIGITS.train, Schedule.periodic(2, 1), epochs=1, initialise="near_thresholds")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        training.fit(net, DIGITS.train, Schedule.for_network(net, period=1), epochs=3, initialise="near_thresholds")


@pytest.mark.parametrize("noise", ["uniform", "triangular", "normal", "logistic"])
@pytest.mark.parametrize("quantum", [1.0, 0.07])
def test_schedule_for_a_network_starts_with_the_noise_that_its_quantisers_start_with(noise, quantum):
    q = Quantiser.ternary(quantum)
    net = training.quantise(models.mlp(8, (6, 6, 6)), q, q, noise=noise)
    schedule = Schedule.for_network(net, period=5, interval="same_start", mean=-0.5, static_mean=False)
    first = training.layers(net)[0].weight
    assert schedule.std0 == first.std and schedule.mean0 == pytest.approx(-0.5 * quantum) and schedule.n_layers == 3
    assert schedule.intervals == ((0, 5), (0, 10), (0, 15))
    wide = Schedule.for_network(net, period=5, half_width=1.0)
    assert wide.std0 == pytest.approx(2 * schedule.std0)


def test_schedule_for_a_network_does_not_depend_on_the_noise_that_is_set():
    net = training.quantise(models.mlp(8), TERNARY, TERNARY)
    schedule = Schedule.for_network(net, period=5)
    training.set_noise(net, schedule, 100)
    assert Schedule.for_network(net, period=5) == schedule


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: models.mlp(8), "has no quantised layer: convert it with training.quantise first"),
        (lambda: training.quantise(models.mlp(8), TERNARY, Quantiser.ternary(0.1)), r"quanta of 1 and 0\.1, .*scales="),
    ],
)
def test_networks_without_one_schedule_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        Schedule.for_network(make(), period=5)
    with pytest.raises(TypeError, match="net must be a network made by training.quantise, not 7"):
        Schedule.for_network(7, period=5)


def test_network_that_begins_with_an_embedding_is_calibrated_on_token_ids():
    scales = training.calibrate(Everything(), torch.randint(0, 20, (40, 5)), TERNARY, UNSIGNED)
    assert {"encoder.activation", "act", "narrow"} <= set(scales) and all(s.isfinite().all() for s in scales.values())


# What a second look found --------------------------------------------------------------------------------------------


def test_shared_activation_is_calibrated_for_each_of_its_layers():
    net = Shared()
    with torch.no_grad():
        net.two.weight.mul_(100)
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    scales = training.calibrate(net, x, activations=UNSIGNED)
    assert set(scales) == {"act.quantisers.0", "act.quantisers.1", "act.quantisers.2"}
    assert scales["act.quantisers.1"] > 10 * scales["act.quantisers.0"]
    converted = training.quantise(net, activations=UNSIGNED, scales=scales)
    assert [q.scale.item() for q in converted.act.quantisers[:2]] == [scales[f"act.quantisers.{i}"].item() for i in (0, 1)]
    error = (converted.eval()(x) - net.eval()(x)).norm() / net(x).norm()
    assert error < 0.2
    one = training.quantise(net, activations=UNSIGNED, scales={"act": 2.0})
    assert [q.scale.item() for q in one.act.quantisers[:2]] == [2.0, 2.0]
    # Places of equal quanta become one again in the deployed network.
    assert isinstance(
        training.deploy(training.quantise(net, activations=UNSIGNED, keep=(), scales={"act": 2.0})).act, training.Scaled
    )


@pytest.mark.parametrize(
    "scales, error, message",
    [
        ([1.0], TypeError, "scales must map names of modules to numbers or tensors, not list"),
        ({"fc1": "a"}, TypeError, "scale must be a number or a tensor of numbers, not 'a'"),
        ({"fc1": torch.ones(3)}, ValueError, r"the scale of 'fc1' must be one number or fit to a weight of shape \(6, 8\)"),
        ({"fc11": 1.0}, ValueError, r"scales names 'fc11', .* \(did you mean 'fc1'\?\)"),
    ],
)
def test_scales_that_do_not_fit_are_refused_in_one_sentence(scales, error, message):
    with pytest.raises(error, match=message):
        training.quantise(models.mlp(8, (6, 6)), TERNARY, TERNARY, scales=scales)


def test_parameter_that_layers_share_is_shifted_once():
    net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))
    net[2].weight = net[0].weight
    net = training.quantise(net, TERNARY, TERNARY)
    before = net[0].parametrizations.weight.original.detach().clone()
    training.set_noise(net, lambda layer, t: (0.25, 0.3), 0)
    training.shift_by_mean(net)
    torch.testing.assert_close(net[2].parametrizations.weight.original.detach(), before + 0.25)
    training.set_noise(net, lambda layer, t: (0.25 * layer, 0.3), 0)
    with pytest.raises(ValueError, match="'2' shares its weight with another one whose noise has another mean"):
        training.shift_by_mean(net)
    torch.testing.assert_close(net[0].parametrizations.weight.original.detach(), before + 0.25)


def test_shared_activation_that_training_calls_less_often_is_refused_and_not_misassigned():
    class Dropping(Shared):
        def forward(self, x):
            x = self.act(self.one(x))
            return self.act(self.last(x if self.training else self.act(self.two(x))))

    net = training.quantise(Dropping(), TERNARY, UNSIGNED)
    net.eval()(torch.zeros(1, 6))
    with pytest.raises(
        RuntimeError, match="'act' was called 3 times in a forward pass when the network was quantised, and 2 times"
    ):
        net.train()(torch.zeros(2, 6))
    net.eval()(torch.zeros(1, 6))  # a pass that failed leaves nothing behind


def test_shared_activation_does_not_remember_earlier_passes():
    net = training.quantise(Shared(), TERNARY, UNSIGNED)
    first = str(training.report(net))
    for _ in range(2):
        net(torch.zeros(1, 6))
        assert str(training.report(net)) == first and "not known" not in first
        graph = torch.fx.symbolic_trace(net).graph
        assert [n.target for n in graph.nodes if n.op == "call_module" and "act" in n.target] == [
            "act.quantisers.0",
            "act.quantisers.1",
            "act.quantisers.2",
        ]


def test_callback_sees_the_network_as_it_is_without_stopping():
    kept = []

    def keep(epoch, net):
        kept.append((copy.deepcopy(net), [p.requires_grad for p in net.parameters()]))

    net = training.quantise(models.mlp(64, (16, 16)), TERNARY, TERNARY)
    schedule = Schedule.for_network(net, period=1)
    options = {"epochs": 4, "initialise": "near_thresholds", "batch_size": 256}
    history = training.fit(net, DIGITS.train, schedule, callback=keep, **options)
    assert history[-1].stopped > 0
    for copied, flags in kept:
        assert all(flags) and not any(m._forward_hooks for m in copied.modules())
    again = training.quantise(models.mlp(64, (16, 16)), TERNARY, TERNARY)
    again.load_state_dict(training.quantise(models.mlp(64, (16, 16)), TERNARY, TERNARY).state_dict())
    plain = training.fit(copy.deepcopy(again), DIGITS.train, schedule, **options)
    assert training.fit(again, DIGITS.train, schedule, callback=keep, **options) == plain


@pytest.mark.parametrize(
    "change, example",
    [
        (lambda self, h: h.mul_(1.5), None),
        (lambda self, h: h.mul_(1.5), torch.zeros(2, 6)),
        (lambda self, h: h.add_(self.last.bias[0]), None),
        (lambda self, h: h.add_(self.last.bias[0]), torch.zeros(2, 6)),
        (lambda self, h: operator.setitem(h, (slice(None), 0), 0.123 * h[:, 1]), torch.zeros(2, 6)),
    ],
)
def test_features_that_are_changed_in_place_are_no_levels_any_more(change, example):
    class Changing(Shared):
        def forward(self, x):
            h = self.act(self.one(x))
            change(self, h)
            return self.last(h)

    net = quietly(Changing(), TERNARY, TERNARY, example=example)
    (last,) = [o for o in training.report(net, example) if o.name == "last"]
    assert last.input_is_float


@pytest.mark.parametrize(
    "apply",
    [
        lambda h, w: h @ w,
        lambda h, w: w @ h.T,
        lambda h, w: h @ w.t(),
        lambda h, w: torch.einsum("bi,ij->bj", h, w),
        lambda h, w: torch.addmm(torch.zeros(8), h, w),
        lambda h, w: torch.tensordot(h, w, 1),
        lambda h, w: nn.functional.linear(h, weight=w),
        lambda h, w: nn.functional.linear(h, w - w.mean(0)),
        lambda h, w: nn.functional.conv1d(h[:, :, None], w[:, :, None]),
    ],
)
@pytest.mark.parametrize("example", [None, torch.zeros(2, 8)], ids=["program", "example"])
def test_products_with_a_parameter_are_reported_however_they_are_written(apply, example):
    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.act, self.mixed = nn.Linear(8, 8), nn.ReLU(), nn.Parameter(torch.randn(8, 8))

        def forward(self, x):
            return apply(self.act(self.one(x)), self.mixed)

    with pytest.warns(UserWarning, match="the weight of 'mixed' stays in float"):
        net = training.quantise(Product(), TERNARY, TERNARY, keep=(), example=example)
    mixed = [o for o in training.report(net, example) if o.name == "mixed"]
    assert [(o.weight, o.inputs) for o in mixed] == [(None, (TERNARY,))]


def test_attention_with_separate_projections_is_reported_with_them():
    class Separate(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.last = nn.MultiheadAttention(8, 2, kdim=4, vdim=4, batch_first=True), nn.Linear(8, 2)

        def forward(self, x):
            return self.last(self.attention(x, x[..., :4], x[..., :4])[0])

    for example in (None, torch.randn(2, 3, 8)):
        net = quietly(Separate(), TERNARY, example=example)
        names = [o.name for o in training.report(net, example)]
        assert sorted(names) == sorted([*(f"attention.{w}_proj_weight" for w in "qkv"), "attention.out_proj", "last"])


def test_inputs_that_the_program_hides_are_named():
    net = nn.Sequential(
        nn.Linear(16, 16), nn.ReLU(), nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), nn.Linear(16, 4)
    )
    with pytest.warns(
        UserWarning,
        match="what '2.self_attn.in_proj_weight', '2.self_attn.out_proj', '2.linear1' and 1 more are applied to is not known without example=x",
    ):
        training.quantise(net, TERNARY, TERNARY)
    with pytest.warns(UserWarning, match="the inputs of '2.self_attn.out_proj', '2.linear1' stay in float"):
        training.quantise(net, TERNARY, TERNARY, example=torch.randn(2, 5, 16))


def test_deployed_network_refuses_weights_that_are_not_rounded():
    floats, net = models.mlp(8, (6, 6)), training.quantise(models.mlp(8, (6, 6)), TERNARY, TERNARY)
    training.initialise_near_thresholds(net, seed=0)
    deployed, other = training.deploy(net), training.deploy(net)
    other.load_state_dict(deployed.state_dict())
    for state in (floats.state_dict(), net.state_dict()):
        with pytest.raises(
            ValueError, match="'fc1.weight' is not rounded to 3 levels .*load it into the quantised network, and deploy that"
        ):
            deployed.load_state_dict(state)


def test_module_with_two_names_takes_a_float_state_dict():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.act, self.last = nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)
            self.b = self.a

        def forward(self, x):
            return self.last(self.act(self.b(self.act(self.a(x)))))

    floats, net = Twice(), training.quantise(Twice(), TERNARY, TERNARY)
    net.load_state_dict(floats.state_dict())
    assert torch.equal(net.b.parametrizations.weight.original, floats.b.weight)
    Twice().load_state_dict(training.float_state_dict(net))


def test_compiled_network_is_refused_with_the_remedy():
    for call in (lambda net: training.quantise(net, TERNARY), lambda net: training.calibrate(net, weights=TERNARY)):
        with pytest.raises(ValueError, match="the network is compiled: hand over the one that torch.compile was given"):
            call(torch.compile(models.mlp(8)))


@pytest.mark.parametrize(
    "size, memory",
    [((4, 8), torch.contiguous_format), ((4, 8, 64, 128), torch.contiguous_format), ((4, 8, 64, 128), torch.channels_last)],
    ids=["small", "compiled", "channels last"],
)
@pytest.mark.parametrize("strategy", ["expectation", "mode", "random"])
def test_features_may_be_changed_in_place(size, strategy, memory):
    module = Quantise(TERNARY, strategy=strategy)
    for training_ in (True, False):
        x = torch.randn(size).contiguous(memory_format=memory).requires_grad_()
        module.train(training_)
        torch.manual_seed(0)
        out = module(x)
        assert strategy == "random" or out.stride() == x.stride()
        (2 * out).sum().backward()
        expected, x.grad = x.grad, None
        torch.manual_seed(0)
        out = module(x)
        out.mul_(2)
        out.sum().backward()
        assert torch.equal(x.grad, expected)


def test_mobilenet_v3_with_its_dropout_in_place_is_trained():
    net = quietly(torchvision.models.mobilenet_v3_small(num_classes=4), FINE, UNSIGNED)
    training.initialise_near_thresholds(net, seed=0)
    x, y = torch.randn(16, 3, 32, 32), torch.arange(16) % 4
    training.fit(net, (x, y), None, epochs=1, batch_size=8)
