"""Batches: normalised, augmented and shuffled as a whole, the same for the same seed."""

import numpy as np
import pytest
import torch

from anabook.datasets import batches, standins
from anabook.experiments.tasks import TASKS

X = np.random.default_rng(0).integers(0, 256, (50, 3, 32, 32), dtype=np.uint8)
Y = np.arange(50)


def test_each_image_moves_by_its_own_shift_and_zeros_come_in():
    x = torch.from_numpy(X[:9])
    by = torch.tensor([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1], [4, 4], [-4, -4], [4, -4], [-3, 2]])
    moved = batches.shifted(x, by)
    for image, result, (down, right) in zip(x, moved, by.tolist()):
        expected = torch.zeros_like(image)
        expected[:, max(down, 0) : 32 + min(down, 0), max(right, 0) : 32 + min(right, 0)] = image[
            :, max(-down, 0) : 32 + min(-down, 0), max(-right, 0) : 32 + min(-right, 0)
        ]
        assert torch.equal(result, expected)


def test_a_shift_is_torchvisions_padding_and_crop():
    from torchvision.transforms import functional

    x = torch.from_numpy(X[:1])
    crop = functional.crop(functional.pad(x, [4, 4, 4, 4]), top=1, left=6, height=32, width=32)
    assert torch.equal(batches.shifted(x, torch.tensor([[3, -2]])), crop)


def test_shifts_reach_as_far_as_is_said_and_no_farther():
    spot = np.zeros((2000, 1, 9, 9), np.uint8)
    spot[:, 0, 4, 4] = 1
    ((x, _),) = batches.Batches(spot, np.zeros(2000), 2000, augmentation="crop", reach=2)
    rows, columns = np.nonzero(x[:, 0].sum(0).numpy())
    assert set(zip(rows.tolist(), columns.tolist())) == {(i, j) for i in range(2, 7) for j in range(2, 7)}
    assert torch.equal(x.sum((1, 2, 3)), torch.ones(2000))


def test_every_example_comes_once_a_pass():
    loader = batches.Batches(X, Y, 8, shuffle=True)
    for _ in range(2):
        assert sorted(torch.cat([y for _, y in loader]).tolist()) == Y.tolist()
    assert len(loader) == 7 and len(batches.Batches(X, Y, 8, drop_last=True)) == 6
    assert [len(y) for _, y in batches.Batches(X, Y, 8, drop_last=True)] == [8] * 6


def test_normalisation_uses_one_mean_and_one_deviation():
    mean, std = batches.statistics(X)
    assert mean == pytest.approx(X.mean(dtype=float), rel=1e-12) and std == pytest.approx(X.std(dtype=float), rel=1e-9)
    ((x, y),) = batches.Batches(X, Y, 50, mean, std)
    np.testing.assert_allclose(x.numpy(), (X - mean) / std, rtol=1e-5, atol=1e-5)
    assert x.dtype == torch.float32 and y.dtype == torch.int64 and torch.equal(y, torch.arange(50))


def test_the_same_seed_gives_the_same_passes_and_another_does_not():
    make = lambda seed: batches.Batches(X, Y, 16, augmentation="crop and flip", shuffle=True, seed=seed)  # noqa: E731
    one, two, other = make(1), make(1), make(2)
    for _ in range(2):
        for (a, i), (b, j) in zip(one, two):
            assert torch.equal(a, b) and torch.equal(i, j)
    assert not all(torch.equal(i, j) for (_, i), (_, j) in zip(make(1), other))


def test_flips_mirror_about_half_of_the_images_left_to_right():
    loader = batches.Batches(np.repeat(X[:1], 400, axis=0), np.zeros(400), 400, augmentation="crop and flip", seed=3)
    loader._steps = ("flip",)
    ((x, _),) = loader
    plain = torch.from_numpy(X[0]).float()
    mirrored = sum(torch.equal(image, plain.flip(-1)) for image in x)
    assert mirrored + sum(torch.equal(image, plain) for image in x) == 400 and 150 < mirrored < 250


def test_a_digit_is_never_mirrored():
    suits = {name: task.augmentation for name, task in TASKS.items()}
    assert suits == {
        "cifar10": "crop and flip",
        "cifar10-stand-in": "crop and flip",
        "svhn": "crop",
        "svhn-stand-in": "crop",
        "gsc": "none",
        "gsc12": "none",
        "gsc-stand-in": "none",
    }
    assert {standins.house_numbers(10, 1).name, standins.objects(10, 1).name} <= set(TASKS)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda: batches.Batches(X, Y, 8, augmentation="flip"),
            "augmentation must be one of 'none', 'crop', 'crop and flip'",
        ),
        (lambda: batches.Batches(X[:, 0], Y, 8, augmentation="crop"), "needs images of shape"),
        (lambda: batches.Batches(X, Y[:3], 8), "one length, not 50 and 3"),
        (lambda: batches.Batches(X, Y, 0), "batch_size must be an integer at least 1, not 0"),
    ],
)
def test_bad_input_gets_one_sentence(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_targets_that_are_no_whole_numbers_are_kept():
    x = np.zeros((5, 3), np.float32)
    for targets in (np.linspace(0, 1, 5), np.linspace(0, 1, 10).reshape(5, 2)):
        _, y = next(iter(batches.Batches(x, targets, 5)))
        assert y.dtype == torch.float32 and np.array_equal(y.numpy(), targets.astype(np.float32))
    assert next(iter(batches.Batches(x, [0, 1, 2, 3, 4], 5)))[1].dtype == torch.int64


@pytest.mark.parametrize(
    "n, size, drop, last", [(7, 3, False, 1), (6, 3, False, 3), (2, 3, False, 2), (7, 3, True, 3), (2, 3, True, None)]
)
def test_the_last_batch_has_the_size_that_it_is_said_to_have(n, size, drop, last):
    made = batches.Batches(np.zeros((n, 1)), np.zeros(n, int), size, drop_last=drop)
    assert made.last_batch == last == ([len(y) for _, y in made] or [None])[-1]
