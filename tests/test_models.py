"""The paper's networks: shapes, names and the number of parameters."""

import pytest
import torch
from torch import nn

import anabook as ab
from anabook import models, training


def size(net):
    return sum(p.numel() for p in net.parameters())


def test_the_vgg_has_13881994_parameters_and_the_dscnn_23168():
    assert size(models.vgg()) == 13_881_994
    assert size(models.dscnn()) == 23_168


@pytest.mark.parametrize("width", [1 / 8, 0.25, 0.5])
def test_width_scales_every_layer_of_the_vgg(width):
    net = models.vgg(width)
    assert [net.get_submodule(f"conv{i}").out_channels / width for i in range(1, 6)] == [128, 256, 256, 512, 512]
    assert net.fc1.out_features == net.fc2.out_features == 1024 * width
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_networks_take_the_inputs_of_their_data_sets():
    assert models.vgg(1 / 16, n_classes=7, in_channels=1, size=16)(torch.zeros(2, 1, 16, 16)).shape == (2, 7)
    assert models.dscnn(channels=8)(torch.zeros(2, 1, 49, 10)).shape == (2, 12)
    assert models.mlp(64, (32,))(torch.zeros(2, 8, 8)).shape == (2, 10)


def test_pooling_acts_on_what_the_activation_gave():
    kinds = [type(m) for m in models.vgg(1 / 16)]
    for i, kind in enumerate(kinds):
        if kind is nn.MaxPool2d:
            assert kinds[i - 1] is nn.ReLU


@pytest.mark.parametrize(
    ("make", "n"),
    [(lambda: models.vgg(1 / 16), 7), (lambda: models.dscnn(channels=4), 9), (lambda: models.mlp(64, (16, 16)), 2)],
)
def test_conversion_finds_as_many_layers_as_the_paper_counts(make, n):
    q = ab.Quantiser.ternary()
    net = training.quantise(make(), weights=q, activations=q, keep=("last",))
    assert len(training.layers(net)) == n
    assert all(layer.weight is not None and len(layer.activations) == 1 for layer in training.layers(net))


def test_only_the_last_layer_of_the_vgg_has_a_bias():
    biased = [
        name
        for name, m in models.vgg(1 / 16).named_modules()
        if isinstance(m, (nn.Conv2d, nn.Linear)) and m.bias is not None
    ]
    assert biased == ["last"]
    assert not any(m.bias is not None for m in models.dscnn().modules() if isinstance(m, (nn.Conv2d, nn.Linear)))


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: models.vgg(0), ValueError, "width must be finite and greater than 0, not 0.0"),
        (lambda: models.vgg(size=20), ValueError, "size must be a multiple of 8 (three halvings), not 20"),
        (lambda: models.vgg(n_classes=1), ValueError, "n_classes must be an integer at least 2, not 1"),
        (lambda: models.mlp(64, (0,)), ValueError, "each width in hidden must be an integer at least 1, not 0"),
    ],
)
def test_bad_input_gets_one_sentence(make, error, says):
    with pytest.raises(error) as caught:
        make()
    assert says in str(caught.value)
