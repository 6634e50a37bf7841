"""The bundled data: what they hold, and how they are split."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from anabook import datasets


def test_digits_are_scikit_learns_scaled_to_the_unit_interval():
    d = datasets.digits()
    x, y = np.concatenate([d.x_train, d.x_test]), np.concatenate([d.y_train, d.y_test])
    raw = load_digits()
    rows = lambda images, labels: sorted(map(tuple, np.column_stack([images.reshape(len(images), -1), labels])))  # noqa: E731
    assert rows(x * 16, y) == rows(raw.images, raw.target)
    assert x.dtype == np.float32 and y.dtype == np.int64 and x.shape == (1797, 8, 8)
    assert x.min() == 0.0 and x.max() == 1.0
    assert d.classes == tuple("0123456789")


def test_split_is_stratified_and_disjoint():
    d = datasets.digits(test_fraction=0.25, seed=3)
    total, held_out = np.bincount(load_digits().target), np.bincount(d.y_test)
    assert (np.abs(held_out - 0.25 * total) <= 0.5).all()
    assert len(d.x_train) + len(d.x_test) == 1797


def test_split_follows_the_seed():
    a, b, c = (datasets.digits(seed=s) for s in (0, 0, 1))
    assert np.array_equal(a.x_test, b.x_test) and np.array_equal(a.y_train, b.y_train)
    assert not np.array_equal(a.x_test, c.x_test)


def test_default_split_is_the_one_of_the_book():
    d = datasets.digits()
    assert (len(d.x_train), len(d.x_test)) == (1438, 359)
    assert d.train[0] is d.x_train and d.test[1] is d.y_test
    assert repr(d) == "Dataset('digits': 1438 train, 359 test examples of shape 8×8, 10 classes)"


def test_provenance_names_source_size_licence_and_split():
    text = str(datasets.digits(seed=2).provenance)
    for part in ("1797", "8×8", "Alpaydin", "10.24432/C50P49", "CC BY 4.0", "seed of the split: 2", "1438", "359"):
        assert part in text


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_fractions_outside_the_unit_interval_are_refused(fraction):
    with pytest.raises(ValueError, match="test_fraction must"):
        datasets.digits(test_fraction=fraction)


def test_missing_scikit_learn_says_what_to_install():
    code = (
        "import sys; sys.modules['sklearn'] = None; sys.modules['sklearn.datasets'] = None\n"
        "from anabook import datasets\n"
        "try: datasets.digits()\n"
        "except ModuleNotFoundError as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'anabook[training]'" in result.stdout
