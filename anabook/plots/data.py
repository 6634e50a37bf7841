"""Pictures of data sets: sheets of images, a clip of speech, how many examples each class has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from anabook._validate import integer
from anabook.plots.style import CYCLE


def sheet(inputs: Any, labels: Any, classes: Iterable[str], per_class: int = 8) -> Any:
    """A sheet of pictures, one class in a row, its name beside it.

    Args:
        inputs: shape (n, channels, height, width) with one or three channels, or (n, height, width); bytes, or floats
            in [0, 1].
        labels: shape (n,).
        classes: the classes' names, in the order of their labels.
        per_class: pictures in a row; the first ones of each class are shown.

    Returns:
        The figure.

    Example:
        >>> figure = sheet(np.zeros((4, 3, 8, 8)), [0, 0, 1, 1], ["dark", "darker"], per_class=2)
    """
    classes, labels = list(classes), np.asarray(labels)
    per_class = integer(per_class, "per_class", minimum=1)
    figure, axes = plt.subplots(len(classes), 1, figsize=(0.72 * per_class + 1.4, 0.72 * len(classes)), squeeze=False)
    for label, (ax, name) in enumerate(zip(axes[:, 0], classes)):
        rows = np.flatnonzero(labels == label)[:per_class]
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        ax.grid(False)
        ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        if len(rows):
            ax.imshow(_strip(np.asarray(inputs[rows]), per_class), cmap="gray_r", vmin=0, interpolation="nearest")
    return figure


def _strip(pictures: np.ndarray, n: int) -> np.ndarray:
    """Pictures side by side with a white line between them, padded to `n`."""
    if pictures.ndim == 3:
        pictures = pictures[:, np.newaxis]
    # Pictures with one channel count ink: their white is 0.
    white = 0 if pictures.shape[1] == 1 else 255 if pictures.dtype == np.uint8 else 1.0
    framed = np.pad(pictures, ((0, n - len(pictures)), (0, 0), (0, 0), (0, 2)), constant_values=white)
    strip = framed.transpose(2, 0, 3, 1).reshape(framed.shape[2], -1, framed.shape[1])
    return strip if strip.shape[2] == 3 else strip[..., 0]


def clip(samples: Any, features: Any, mel: Any, rate: int = 16_000) -> Any:
    """A clip three times over: its waveform, its mel spectrogram and the features that the network sees.

    Args:
        samples: shape (n,), amplitudes in [−1, 1].
        features: shape (49, 10), bytes.
        mel: log mel spectrogram, shape (filters, frames).
        rate: samples a second.

    Returns:
        The figure.

    Example:
        >>> figure = clip(np.zeros(16000), np.zeros((49, 10)), np.zeros((40, 51)))
    """
    figure, axes = plt.subplots(1, 3, figsize=(9.2, 2.8))
    seconds = np.arange(len(samples)) / rate
    axes[0].plot(seconds, samples, linewidth=0.5, color=CYCLE[0])
    axes[0].set(title="waveform", xlabel="time in s", ylabel="amplitude")
    end = len(samples) / rate
    axes[1].imshow(mel, origin="lower", aspect="auto", extent=(0, end, 0, len(mel)), cmap="viridis")
    axes[1].set(title="log mel spectrogram", xlabel="time in s", ylabel="filter")
    # The first coefficient is the loudness and would leave the others without contrast.
    image = axes[2].imshow(
        np.asarray(features).T[1:], origin="lower", aspect="auto", extent=(0, end, 0.5, 9.5), cmap="viridis"
    )
    axes[2].set(title="coefficients 1 to 9, as bytes", xlabel="time in s", ylabel="coefficient")
    figure.colorbar(image, ax=axes[2])
    for ax in axes[1:]:
        ax.grid(False)
    return figure
