"""Pictures painted in one ink and in two: what differs between them, and what is refused."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from anabook.datasets.inks import INKS, painted


@pytest.fixture(scope="module")
def cover():
    """Paper in the first column, ink in the last, half of it between them."""
    return np.broadcast_to(np.array([0, 128, 255], np.uint8), (400, 2, 3))


def test_one_ink_is_always_lighter_and_two_inks_in_every_second_picture(cover):
    for inks in INKS:
        pictures = painted(cover, inks, seed=3).astype(int)
        assert pictures.shape == (400, 3, 2, 3)
        contrast = pictures[..., 2] - pictures[..., 0]
        assert 64 <= np.abs(contrast).min() and np.abs(contrast).max() <= 127
        lighter = (contrast > 0).reshape(400, -1)
        assert (lighter.all(1) | ~lighter.any(1)).all(), "all channels alike"
        assert lighter.all() if inks == "one" else 170 < lighter[:, 0].sum() < 230


def test_in_two_inks_a_picture_is_the_one_in_one_ink_or_that_with_its_colours_exchanged(cover):
    one, two = (painted(cover, inks, seed=1) for inks in ("one", "two"))
    same = (one == two).all((1, 2, 3))
    assert 170 < same.sum() < 230
    assert (two[~same][..., [0, 2]] == one[~same][..., [2, 0]]).all()
    middle = one[..., 0] + (one[..., 2].astype(int) - one[..., 0]) * 128 / 255
    assert np.abs(one[..., 1] - middle).max() <= 0.5


def test_colours_depend_on_the_seed_alone_and_are_the_same_bytes_everywhere(cover):
    found = painted(cover, "two", seed=0)
    assert (found == painted(cover, "two", seed=0)).all() and (found != painted(cover, "two", seed=1)).any()
    assert (found[:50] == painted(cover[:, :1], "two", seed=0)[:50, :, :1].repeat(2, 2)).all()
    assert hashlib.sha256(found.tobytes()).hexdigest()[:16] == "fe5b4d07a77bfd28"


def test_what_is_no_stack_of_pictures_in_bytes_is_refused(cover):
    with pytest.raises(TypeError, match="must be made of bytes .uint8., not float64"):
        painted(cover / 255)
    with pytest.raises(ValueError, match=r"must have the shape \(n, height, width\), not \(2, 3\)"):
        painted(cover[0])
    with pytest.raises(ValueError, match="inks must be one of"):
        painted(cover, "three")
    with pytest.raises(ValueError, match="seed must be"):
        painted(cover, seed=-1)
