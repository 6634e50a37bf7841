"""A network of one's own, from a float checkpoint to exact integers: residual, bottlenecks, attention, recurrent."""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock

import anabook as ab
from anabook import Quantiser, Schedule, datasets, training
from anabook.training import PerCall, Quantise, Scaled, kernels

SIGNED = Quantiser.linear(4, rounding="nearest")
UNSIGNED = Quantiser.linear(4, signed=False, rounding="nearest")
N = 200


def images(x, side):
    """Digits as images of three channels, 8 · side pixels high."""
    x = torch.tensor(x).reshape(-1, 1, 8, 8).float()
    return x.repeat_interleave(side, 2).repeat_interleave(side, 3).repeat(1, 3, 1, 1)


def narrow_resnet18(width=8):
    """torchvision's ResNet-18 with fewer channels."""
    net = torchvision.models.resnet18(num_classes=10)
    net.inplanes = width
    net.conv1, net.bn1 = nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
    for number, stride in enumerate((1, 2, 2, 2)):
        layer = net._make_layer(BasicBlock, width * 2**number, 2, stride=stride)
        setattr(net, f"layer{number + 1}", layer)
    net.fc = nn.Linear(8 * width, 10)
    return net


class Recurrent(nn.Module):
    """An LSTM that reads a digit line by line."""

    def __init__(self):
        super().__init__()
        self.lstm, self.last = nn.LSTM(8, 24, num_layers=2, batch_first=True, dropout=0.1), nn.Linear(24, 10)

    def forward(self, x):
        return self.last(self.lstm(x)[0][:, -1])


def trained(make, x, y, *, epochs, lr=5e-3, period=1, **options):
    """Trained in float, calibrated, quantised and trained on; the float network, the quantised one and its accuracies."""
    torch.manual_seed(0)
    float_net = make()
    training.fit(float_net, (x, y), None, epochs=epochs, batch_size=20, lr=lr)
    places = {name: options[name] for name in ("before", "summands") if name in options}
    activations = options.pop("activations", UNSIGNED)
    scales = training.calibrate(float_net, x[:32], SIGNED, activations, per="channel", **places)
    net = training.quantise(float_net, SIGNED, activations, scales=scales, **options)
    schedule = Schedule.for_network(net, period=period / len(training.layers(net)))
    training.fit(net, (x, y), schedule, epochs=period + 2, batch_size=20, lr=lr / 5, initialise="shift")
    return float_net, net


def check_deployed(net, x):
    """The deployed network equals the quantised one to the last bit, for all inputs and for one alone."""
    deployed = training.deploy(net)
    net.eval()
    with torch.no_grad():
        for part in (x, x[:1]):
            assert torch.equal(deployed(part).view(torch.int32), net(part).view(torch.int32))
    assert not any(isinstance(m, nn.utils.parametrize.ParametrizationList) for m in deployed.modules())
    for name, weight in training.quantised_weights(net).items():
        assert torch.equal(deployed.get_parameter(name), weight)
        assert max(len(row.unique()) for row in weight) <= SIGNED.n_levels
    return deployed


def check_integers(net, x):
    """The integer network equals exact arithmetic in every level."""
    z = (x * 16).round().to(torch.uint8)
    ints = ab.deploy.to_integer(net, z, std=16, bounds=(0, 16))
    found = ab.deploy.compare(net, ints, z)
    assert found.equal and found.off < 1e-10
    return ints, found


def accuracy(net, x, y):
    return training.evaluate(net, (x, y)).accuracy


@pytest.fixture(autouse=True, scope="module")
def uncompiled():
    with kernels.compiling(None):  # so few steps are done before a kernel is compiled
        yield


@pytest.fixture(scope="module")
def digits():
    found = datasets.digits()
    return torch.tensor(found.x_train[:N]).float().reshape(-1, 8, 8), torch.tensor(found.y_train[:N])


# Residual: ResNet-18 -------------------------------------------------------------------------------------------------


def test_resnet18_becomes_integers_with_residual_additions_of_equal_quanta(digits):
    x, y = images(digits[0], 2), digits[1]
    float_net, net = trained(narrow_resnet18, x, y, epochs=6, summands=SIGNED)
    assert accuracy(float_net, x, y) > 0.9 and accuracy(net, x, y) > 0.7
    report = training.report(net)
    assert [o.name for o in report.floats] == ["conv1", "fc"]
    deployed = check_deployed(net, x)
    ints, found = check_integers(deployed, x[:20])
    # 17 activations, and one more quantiser for each summand that is no output of an activation: 8 blocks, 3 with a by-pass.
    assert len(found.quantisers) == 17 + 8 + 3
    assert sum(type(step).__name__ == "Add" for step in ints.steps) == 8
    with torch.no_grad():
        scores = deployed(x[:20])
    assert (ints((x[:20] * 16).byte().numpy()).argmax(1) == scores.argmax(1).numpy()).mean() > 0.9


def test_what_is_added_has_one_quantum_and_other_sums_have_their_own(digits):
    x = images(digits[0], 2)[:16]
    scales = training.calibrate(narrow_resnet18(), x, SIGNED, UNSIGNED, summands=SIGNED)
    block = "layer1.1"
    assert scales[f"{block}.sum0_left"] is scales["layer1.0.relu.quantisers.1"]
    assert scales["layer2.0.sum0_left"] is scales["layer2.0.sum0_right"]
    assert scales["layer1.0.sum0_left"] is scales["relu"]
    assert f"{block}.sum0_right" not in scales  # levels already
    assert len({float(scales[f"layer{i}.1.sum0_left"]) for i in (1, 2, 3, 4)}) > 1


def test_additions_of_other_quanta_are_refused_by_name_and_with_the_remedy():
    net = training.deploy(training.quantise(narrow_resnet18(), SIGNED, UNSIGNED))
    with pytest.raises(
        ValueError, match="'iadd' takes the floats that 'layer1.0.bn2' gives; a quantiser must come in between.*summands="
    ):
        ab.deploy.to_integer(net, np.zeros((1, 3, 16, 16), np.uint8))
    with pytest.raises(ValueError, match="summands must have the quantum of activations, 1, not 0.5"):
        training.quantise(narrow_resnet18(), SIGNED, UNSIGNED, summands=Quantiser.linear(4, quantum=0.5))
    with pytest.raises(TypeError, match="before must be a Quantiser or None, not 3"):
        training.quantise(narrow_resnet18(), SIGNED, UNSIGNED, before=3)


# Bottlenecks: MobileNetV2 --------------------------------------------------------------------------------------------


def narrow_mobilenet():
    setting = [[1, 16, 1, 1], [2, 16, 2, 1], [2, 24, 2, 2]]  # expansion, channels, blocks, stride
    net = torchvision.models.MobileNetV2(num_classes=10, inverted_residual_setting=setting, width_mult=0.5, dropout=0.1)
    net.features[-1] = torchvision.ops.Conv2dNormActivation(16, 32, 1, activation_layer=nn.ReLU6)
    net.classifier[-1] = nn.Linear(32, 10)
    return net


def test_mobilenet_v2_becomes_integers_with_bottlenecks_in_levels(digits):
    x, y = images(digits[0], 2), digits[1]
    float_net, net = trained(narrow_mobilenet, x, y, epochs=15, lr=1e-2, before=SIGNED, summands=SIGNED)
    assert accuracy(float_net, x, y) > 0.9 and accuracy(net, x, y) > 0.7
    report = training.report(net)
    assert [o.name for o in report.floats] == ["features.0.0", "classifier.1"]
    assert any(m.groups > 1 and hasattr(m, "parametrizations") for m in net.modules() if isinstance(m, nn.Conv2d))
    deployed = check_deployed(net, x)
    _, found = check_integers(deployed, x[:20])
    assert len(found.quantisers) > len(training.layers(net))


# Attention: a vision transformer --------------------------------------------------------------------------------------


def small_vit():
    return torchvision.models.VisionTransformer(
        image_size=16, patch_size=4, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=48, dropout=0.1, num_classes=10
    )


@pytest.fixture(scope="module")
def vit(digits):
    x, y = images(digits[0], 2), digits[1]
    with pytest.warns(UserWarning, match="the inputs of .*self_attention.out_proj.* stay in float"):
        return x, y, *trained(small_vit, x, y, epochs=15, lr=3e-3, before=SIGNED, example=x[:2])


def test_vision_transformer_is_quantised_with_its_projections_and_deployed_exactly(vit):
    x, y, float_net, net = vit
    assert accuracy(float_net, x, y) > 0.8 and accuracy(net, x, y) > 0.6
    report = {o.name: o for o in training.report(net, x[:2])}
    attention = "encoder.layers.encoder_layer_0.self_attention"
    assert report[f"{attention}.in_proj_weight"].weight == SIGNED and report[f"{attention}.out_proj"].weight == SIGNED
    assert report[f"{attention}.in_proj_weight"].inputs == (SIGNED,)
    # What stays: the image, the products within the attention, and the last layer.
    assert [n for n, o in report.items() if o.input_is_float or o.weight_is_float] == [
        "conv_proj",
        f"{attention}.out_proj",
        f"{attention.replace('_0', '_1')}.out_proj",
        "heads.head",
    ]
    assert report[f"{attention}.out_proj"].source == "the attention"
    check_deployed(net, x)


def test_attention_on_its_fast_path_computes_with_the_quantised_projections(vit):
    x, _, _, net = vit
    deployed, fast = training.deploy(net), torch.backends.mha.get_fastpath_enabled()
    attention = net.eval().encoder.layers.encoder_layer_0.self_attention
    inside = deployed.encoder.layers.encoder_layer_0.self_attention
    tokens, found = torch.randn(3, 17, 32), []
    try:
        for enabled in (True, False):
            torch.backends.mha.set_fastpath_enabled(enabled)
            with torch.no_grad():
                found.append(attention(tokens, tokens, tokens)[0])
                assert torch.equal(found[-1], inside(tokens, tokens, tokens)[0])
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    torch.testing.assert_close(*found)
    assert len(inside.in_proj_weight[0].unique()) <= SIGNED.n_levels


def test_vision_transformer_has_no_integers_and_its_first_module_says_why(vit):
    x, _, _, net = vit
    with pytest.raises(
        ValueError,
        match="'encoder.*ln_1' is a LayerNorm, which has no place in an integer network: it normalises each example by itself",
    ):
        ab.deploy.to_integer(training.deploy(net), (x[:2] * 16).byte().numpy(), std=16)


def test_a_multihead_attention_itself_has_no_place_in_an_integer_network():
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.last = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(64, 10)

        def forward(self, x):
            return self.last(self.attention(x, x, x, need_weights=False)[0].flatten(1))

    net = training.deploy(training.quantise(Attending(), SIGNED))
    with pytest.raises(
        ValueError, match="'attention' is a MultiheadAttention, which has no place in an integer network: its softmax"
    ):
        ab.deploy.to_integer(net, np.zeros((1, 8, 8), np.uint8))


@pytest.mark.parametrize("dims", [{}, {"kdim": 8, "vdim": 4}], ids=["together", "apart"])
def test_attention_projections_are_layers_before_that_of_its_end(dims):
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.last = nn.MultiheadAttention(16, 2, batch_first=True, **dims), nn.Linear(16, 3)

        def forward(self, x):
            parts = (x[..., :8].contiguous(), x[..., :4].contiguous()) if dims else (x, x)
            return self.last(self.attention(x, *parts)[0].mean(1))

    x = torch.randn(4, 5, 16)
    for example in (None, x):
        net = training.quantise(Attending(), SIGNED, example=example)
        numbers = {o.name: o.layer for o in training.report(net, example)}
        own = ["q_proj_weight", "k_proj_weight", "v_proj_weight"] if dims else ["in_proj_weight"]
        expected = [f"attention.{name}" for name in own] + ["attention.out_proj"]
        assert numbers == {**{name: i for i, name in enumerate(expected)}, "last": None}
        training.initialise_near_thresholds(net, seed=0)
        net(x).square().sum().backward()
        assert all(m.original.grad.abs().sum() > 0 for m in net.modules() if hasattr(m, "original"))
    kept = training.quantise(
        Attending(), SIGNED, keep=("attention.in_proj_weight" if not dims else "attention.q_proj_weight", "last")
    )
    assert len(training.layers(kept)) == (3 if dims else 1)


# Recurrent: an LSTM ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lstm(digits):
    x, y = digits
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return x, y, *trained(Recurrent, x, y, epochs=15, lr=1e-2, activations=None, before=SIGNED)


def test_lstm_is_quantised_with_its_recurrent_weights_and_deployed_exactly(lstm):
    x, y, float_net, net = lstm
    assert accuracy(float_net, x, y) > 0.8 and accuracy(net, x, y) > 0.6
    report = {o.name: o for o in training.report(net)}
    assert list(report) == [*(f"lstm.weight_{kind}_l{i}" for i in (0, 1) for kind in ("ih", "hh")), "last"]
    assert all(o.weight == SIGNED for name, o in report.items() if name != "last")
    assert report["lstm.weight_hh_l0"].source == "the state of lstm"
    assert report["lstm.weight_ih_l1"].source == "the layer below in lstm"
    deployed = check_deployed(net, x)
    assert type(deployed.lstm) is nn.LSTM and deployed.lstm._flat_weights[1] is deployed.lstm.weight_hh_l0
    with torch.no_grad():  # by hand, from the cell's formulas
        h = torch.zeros(2, len(x), 24), torch.zeros(2, len(x), 24)
        out = x
        for layer in (0, 1):
            w, r, b, c = (
                getattr(deployed.lstm, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            state, cell, seen = h[0][layer], h[1][layer], []
            for t in range(8):
                i, f, g, o = (out[:, t] @ w.T + b + state @ r.T + c).chunk(4, 1)
                cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
                state = o.sigmoid() * cell.tanh()
                seen.append(state)
            out = torch.stack(seen, 1)
        torch.testing.assert_close(deployed.last(out[:, -1]), deployed(x), rtol=1e-4, atol=1e-5)


def test_lstm_has_no_integers_and_says_why(lstm):
    x, _, _, net = lstm
    with pytest.raises(ValueError, match="'lstm' is a LSTM, which has no place in an integer network: its state"):
        ab.deploy.to_integer(training.deploy(net), (x[:2] * 16).byte().numpy(), std=16)


def test_lstm_draws_its_weights_once_a_pass_and_remembers_none():
    draws = []
    net = training.quantise(Recurrent(), SIGNED, strategy="random", keep=("last",))
    for weight in training.layers(net):
        weight.weight.register_forward_hook(lambda *_: draws.append(1))
    x = torch.randn(3, 8, 8)
    net(x).sum().backward()
    assert len(draws) == 4
    assert all(isinstance(w, nn.Parameter) for w in net.lstm._flat_weights)
    state = net.state_dict()
    copied = training.quantise(Recurrent(), SIGNED)
    copied.load_state_dict(state)
    with torch.no_grad():
        assert torch.equal(copied.eval()(x), net.eval()(x))
    assert torch.equal(net.double()(x.double()).float(), net.float()(x)) or net.lstm.weight_hh_l0.dtype == torch.float32


@pytest.mark.parametrize(
    "kind", [nn.RNN, nn.GRU, partial(nn.LSTM, bidirectional=True, proj_size=3), nn.LSTMCell, nn.GRUCell, nn.RNNCell]
)
def test_every_recurrent_layer_is_quantised_and_comes_back(kind):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.last = kind(4, 6), nn.LazyLinear(3)

        def forward(self, x):
            out = self.layer(x)
            return self.last(out if isinstance(out, torch.Tensor) else out[0])

    x = torch.randn(5, 4)
    float_net = Net()
    float_net(x)
    scales = training.calibrate(float_net, weights=SIGNED, per="channel")
    net = training.quantise(float_net, SIGNED, scales=scales)
    matrices = sum(p.ndim == 2 for p in float_net.layer.parameters())
    projections = sum("hr" in name for name, _ in float_net.layer.named_parameters())
    assert len(training.layers(net)) == matrices and projections in (0, 2)
    net(x).square().sum().backward()
    assert all(p.grad is not None for p in net.layer.parameters())
    deployed = training.deploy(net)
    with torch.no_grad():
        assert torch.equal(deployed(x), net.eval()(x))
        before = float_net(x)
    float_net.load_state_dict(training.float_state_dict(net))
    with torch.no_grad():
        assert torch.equal(float_net(x), before)


# Functions for activations, programs that are rewritten ---------------------------------------------------------------


class Functional(nn.Module):
    """Activations as functions and methods, a dropout as a function, an argument that may be left out."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three, self.last = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.rate = 0.5

    def forward(self, x, scale=None):
        x = nn.functional.relu(self.one(x))
        x = nn.functional.dropout(x, self.rate, self.training)
        x = torch.relu(self.two(x).relu_() if scale is None else x)
        return self.last(nn.functional.hardtanh(self.three(x), -0.5, max_val=0.5))

    def own_method(self):
        return "still here"


def test_functions_for_activations_are_swapped_and_the_module_stays_what_it_is(tmp_path):
    torch.manual_seed(0)
    float_net, x = Functional(), torch.randn(20, 8)
    scales = training.calibrate(float_net, x, SIGNED, UNSIGNED)
    net = training.quantise(float_net, SIGNED, UNSIGNED, scales=scales)
    assert isinstance(net, Functional) and net.own_method() == "still here" and type(net).__name__ == "Functional"
    assert [len(layer.activations) for layer in training.layers(net)] == [1, 2, 1]
    assert all(o.inputs == (UNSIGNED,) for o in list(training.report(net))[1:])
    assert type(float_net) is Functional and float_net.state_dict().keys() == training.float_state_dict(net).keys()
    with torch.no_grad():
        assert not torch.equal(net(x), net(x))  # the dropout draws in training,
        deployed = training.deploy(net)
        assert torch.equal(net.eval()(x), net(x)) and torch.equal(deployed(x), net(x))  # and not in evaluation
        torch.save(deployed, tmp_path / "net.pt")
        assert torch.equal(torch.load(tmp_path / "net.pt", weights_only=False)(x), net(x))
    ints = ab.deploy.to_integer(deployed, np.zeros((1, 8), np.uint8))
    assert [step.name for step in ints.steps if type(step).__name__ == "Threshold"][0] == "relu"
    with pytest.raises(AssertionError, match="scale has been specialized to have value None"):
        net(x, scale=2.0)


def test_functions_are_calibrated_like_the_modules_that_they_become():
    class Module(Functional):
        def __init__(self):
            super().__init__()
            self.relu, self.relu_1, self.relu_2, self.hardtanh = nn.ReLU(), nn.ReLU(), nn.ReLU(), nn.Hardtanh(-0.5, 0.5)

        def forward(self, x):
            x = self.relu_2(self.relu_1(self.two(self.relu(self.one(x)))))
            return self.last(self.hardtanh(self.three(x)))

    torch.manual_seed(0)
    functional, module, x = Functional(), Module(), torch.randn(50, 8)
    module.load_state_dict(functional.state_dict(), strict=False)
    found, expected = (training.calibrate(net, x, SIGNED, UNSIGNED) for net in (functional, module))
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


class Drawing(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.one, self.two, self.how = nn.Linear(4, 4), nn.Linear(4, 4), how

    def forward(self, x):
        x = self.one(x)
        if self.how == "draws" and torch.rand(1) < 2:
            x = torch.relu(x)
        if self.how == "asks" and x.sum() > -1e9:
            x = torch.relu(x)
        if self.how == "makes":
            x = torch.relu(x + torch.ones(4))
        if self.how == "counts":
            self.passes = getattr(self, "passes", 0) + 1
            x = torch.relu(x)
        if self.how == "differs":
            x = torch.relu(x) if self.training else torch.relu(torch.relu(x))
        return self.two(x)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("draws", "draws random numbers of its own"),
        ("asks", "control flow"),
        ("makes", "makes tensors of its own"),
        ("counts", "sets 'passes' of its own module"),
        ("differs", "does something else in training mode"),
    ],
)
def test_programs_that_cannot_be_rewritten_are_named_with_the_reason(how, reason):
    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.act, self.last = Drawing(how), nn.ReLU(), nn.Linear(4, 2)

        def forward(self, x):
            return self.last(self.act(self.inner(x)))

    x = torch.randn(6, 4)
    with pytest.warns(
        UserWarning, match=f"'inner.two' stays in float; the program of 'inner'.* cannot be rewritten .*{reason}"
    ):
        net = training.quantise(Around(), SIGNED, UNSIGNED, example=x)
    assert type(net.inner) is Drawing and not [name for name in vars(net.inner) if "constant" in name]
    assert {o.name: o.source for o in training.report(net, x).floats}["inner.two"] == "relu"
    net.eval()
    assert torch.equal(training.deploy(net)(x), net(x))


# torchvision, one step each -------------------------------------------------------------------------------------------


def shallow(name):
    """The network with few blocks of each kind, where that can be asked for."""
    models = torchvision.models
    if name == "shufflenet":
        return models.ShuffleNetV2([1, 1, 1], [8, 16, 16, 32, 32], num_classes=10)
    if name == "densenet":
        return models.DenseNet(8, (2, 2), 16, num_classes=10)
    if name == "efficientnet":
        setting = partial(models.efficientnet.MBConvConfig, width_mult=1, depth_mult=1)
        blocks = [setting(1, 3, 1, 32, 16, 1), setting(4, 5, 2, 16, 24, 2)]
        return models.EfficientNet(blocks, dropout=0.2, last_channel=32, num_classes=10)
    if name == "mobilenet_v3":
        setting = partial(models.mobilenetv3.InvertedResidualConfig, dilation=1, width_mult=1)
        blocks = [setting(16, 3, 16, 16, True, "RE", 2), setting(16, 5, 32, 16, True, "HS", 1)]
        return models.MobileNetV3(blocks, last_channel=32, num_classes=10)
    if name == "regnet":
        params = models.regnet.BlockParams.from_init_params(4, w_0=16, w_a=16.0, w_m=2.5, group_width=8, se_ratio=0.25)
        return models.RegNet(params, num_classes=10, stem_width=8)
    if name == "convnext":
        setting = models.convnext.CNBlockConfig
        return models.ConvNeXt([setting(16, 32, 1), setting(32, None, 1)], num_classes=10)
    if name == "resnext":
        return models.ResNet(models.resnet.Bottleneck, [1, 1, 1, 1], num_classes=10, groups=4, width_per_group=4)
    if name == "googlenet":
        return models.GoogLeNet(num_classes=10, aux_logits=False, init_weights=False)
    return getattr(models, name)(num_classes=10)


@pytest.mark.parametrize(
    "name",
    [
        "squeezenet1_1",
        "shufflenet",
        "densenet",
        "efficientnet",
        "googlenet",
        "regnet",
        "convnext",
        "mobilenet_v3",
        "resnext",
    ],
)
def test_networks_of_torchvision_take_a_step_and_are_deployed(name):
    torch.manual_seed(0)
    float_net = shallow(name)
    x, y = torch.rand(4, 3, 33, 33), torch.arange(4)
    net = training.quantise(float_net, SIGNED, UNSIGNED, before=SIGNED)
    report = training.report(net)
    assert [o.name for o in report if o.weight_is_float] == [report[-1].name]
    # Nothing else in float is applied to a weight but the image, and what the last layer takes.
    assert {o.name for o in report if o.input_is_float} <= {report[0].name, report[-1].name}
    training.initialise_near_thresholds(net, seed=0)
    latent = {name: p.detach().clone() for name, p in net.named_parameters() if name.endswith("original")}
    schedule = Schedule.static(len(training.layers(net)))
    (epoch,) = training.fit(net, (x, y), schedule, epochs=1, batch_size=4, lr=1e-2)
    moved = sum(not torch.equal(p, latent[name]) for name, p in net.named_parameters() if name in latent)
    assert np.isfinite(epoch.train.loss) and moved > len(latent) / 2
    deployed = training.deploy(net)
    net.eval()
    with torch.no_grad():
        assert torch.equal(deployed(x), net(x))


def test_names_of_places_are_where_they_stand():
    net = training.quantise(narrow_mobilenet(), SIGNED, UNSIGNED, before=SIGNED, summands=SIGNED)
    places = [name for name, m in net.named_modules() if isinstance(m, Quantise) and ("sum" in name or "before" in name)]
    assert places and all(not isinstance(net.get_submodule(name), (PerCall, Scaled)) for name in places)
    assert all(name.split(".")[-1].startswith(("sum0_", "before_")) for name in places)
