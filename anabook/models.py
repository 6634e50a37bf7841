"""The paper's networks in float, ready for `training.quantise`: the VGG for images, the DSCNN for speech, a small MLP."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from anabook._validate import integer, real


def vgg(
    width: float = 1.0,
    n_classes: int = 10,
    in_channels: int = 3,
    size: int = 32,
    activation: Callable[[], nn.Module] = nn.ReLU,
) -> nn.Sequential:
    """The eight-layer VGG of the paper's image experiments, with the widths of its authors' code.

    At width 1 and with ten classes it has 13,881,994 parameters. (The paper prints five convolutions and three linear
    layers, no widths.)

    Five 3×3 convolutions of 128, 256, 256, 512 and 512 channels with three halvings between them, then fully connected
    layers of 1024, 1024 and `n_classes` units. All but the last are followed by batch normalisation and the activation;
    pooling comes after the activation, so that it acts on quantised values. The last layer alone has a bias.

    Args:
        width: factor of all widths (each at least 1 after rounding).
        n_classes: number of outputs.
        in_channels: channels of the input images.
        size: their height and width, a multiple of 8.
        activation: makes each activation module.

    Example:
        >>> import torch
        >>> vgg(width=0.125, size=16)(torch.zeros(2, 3, 16, 16)).shape
        torch.Size([2, 10])
    """
    width = real(width, "width", above=0.0)
    size = integer(size, "size", minimum=8)
    if size % 8:
        raise ValueError(f"size must be a multiple of 8 (three halvings), not {size}.")
    channels = [max(1, round(width * c)) for c in (128, 256, 256, 512, 512)]
    hidden = max(1, round(width * 1024))
    layers: list[tuple[str, nn.Module]] = []
    previous = integer(in_channels, "in_channels", minimum=1)
    for i, c in enumerate(channels):
        layers += _unit(f"conv{i + 1}", nn.Conv2d(previous, c, 3, padding=1, bias=False), nn.BatchNorm2d(c), activation)
        if i in (0, 2, 4):
            layers.append((f"pool{i // 2 + 1}", nn.MaxPool2d(2)))
        previous = c
    layers.append(("flatten", nn.Flatten()))
    previous *= (size // 8) ** 2
    for i in range(2):
        linear = nn.Linear(previous, hidden, bias=False)
        layers += _unit(f"fc{i + 1}", linear, nn.BatchNorm1d(hidden), activation)
        previous = hidden
    layers.append(("last", nn.Linear(previous, integer(n_classes, "n_classes", minimum=2))))
    return _sequential(layers)


def dscnn(n_classes: int = 12, channels: int = 64, activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    """The depthwise separable network of the paper's speech experiments, as its authors' code has it.

    With twelve classes it has 23,168 parameters. (The paper counts eight convolutions and one linear layer; the code has a
    convolution more, the first one.)

    For inputs of shape (n, 1, 49, 10). One 10×4 convolution with stride 2, four pairs of a depthwise 3×3 and a pointwise
    convolution, each followed by batch normalisation and the activation; an average over the 25×5 positions; a linear
    layer. No layer has a bias.

    Args:
        n_classes: number of outputs.
        channels: width of all layers.
        activation: makes each activation module.

    Example:
        >>> import torch
        >>> dscnn(n_classes=12)(torch.zeros(2, 1, 49, 10)).shape
        torch.Size([2, 12])
    """
    c = integer(channels, "channels", minimum=1)
    first = nn.Conv2d(1, c, (10, 4), stride=2, padding=(5, 1), bias=False)
    layers = _unit("conv", first, nn.BatchNorm2d(c), activation)
    for i in range(1, 5):
        depthwise = nn.Conv2d(c, c, 3, padding=1, groups=c, bias=False)
        layers += _unit(f"depthwise{i}", depthwise, nn.BatchNorm2d(c), activation)
        layers += _unit(f"pointwise{i}", nn.Conv2d(c, c, 1, bias=False), nn.BatchNorm2d(c), activation)
    layers += [("average", nn.AvgPool2d((25, 5))), ("flatten", nn.Flatten())]
    layers.append(("last", nn.Linear(c, integer(n_classes, "n_classes", minimum=2), bias=False)))
    return _sequential(layers)


def mlp(
    n_inputs: int, hidden: Sequence[int] = (128, 128), n_classes: int = 10, activation: Callable[[], nn.Module] = nn.ReLU
) -> nn.Sequential:
    """Fully connected layers, each hidden one with batch normalisation and the activation; the inputs are flattened.

    Args:
        n_inputs: numbers in one example.
        hidden: widths of the hidden layers.
        n_classes: number of outputs.
        activation: makes each activation module.

    Example:
        >>> import torch
        >>> mlp(64, hidden=(32,))(torch.zeros(2, 8, 8)).shape
        torch.Size([2, 10])
    """
    layers: list[tuple[str, nn.Module]] = [("flatten", nn.Flatten())]
    previous = integer(n_inputs, "n_inputs", minimum=1)
    for i, h in enumerate(hidden):
        h = integer(h, "each width in hidden", minimum=1)
        layers += _unit(f"fc{i + 1}", nn.Linear(previous, h, bias=False), nn.BatchNorm1d(h), activation)
        previous = h
    layers.append(("last", nn.Linear(previous, integer(n_classes, "n_classes", minimum=2))))
    return _sequential(layers)


def _unit(
    name: str, weighted: nn.Module, norm: nn.Module, activation: Callable[[], nn.Module]
) -> list[tuple[str, nn.Module]]:
    return [(name, weighted), (f"{name}_norm", norm), (f"{name}_act", activation())]


def _sequential(layers: list[tuple[str, nn.Module]]) -> nn.Sequential:
    net = nn.Sequential()
    for name, module in layers:
        net.add_module(name, module)
    return net
