"""What several tests of training share: small classes to tell apart, a small network for them, and whether two are equal."""

import numpy as np
import torch
from torch import nn

from anabook import Quantiser, training

TERNARY = Quantiser.ternary()


def blobs(n=48, seed=0):
    """Three well separated classes in the plane."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    centres = np.array([[2.0, 0.0], [-1.0, 1.7], [-1.0, -1.7]])
    return (centres[y] + 0.3 * rng.normal(size=(n, 2))).astype(np.float32), y


def blob_network(outputs=3, dropout=0.0, strategy="mode"):
    """A quantised network for them, of one hidden layer."""
    torch.manual_seed(0)
    hidden = [nn.Linear(2, 16), nn.BatchNorm1d(16), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
    return training.quantise(nn.Sequential(*hidden, nn.Linear(16, outputs)), TERNARY, TERNARY, strategy=strategy)


def bright_features(n=60, seed=0):
    """Three classes of eight features: that of the class's number is larger."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    x = rng.normal(0, 0.4, (n, 8)).astype(np.float32)
    x[np.arange(n), y] += 1.5
    return x, y


def same(a, b):
    """Whether two networks have the same parameters and buffers, bit for bit."""
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
