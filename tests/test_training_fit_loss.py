"""Losses of one's own, any targets, and what is called after each epoch."""

import csv
import functools
import math
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from training_helpers import blob_network, blobs, same

from anabook import Schedule, training
from anabook.training import checkpoint

SCHEDULE = Schedule(n_layers=1, start=0, end=3, std0=12**-0.5)


network = functools.partial(blob_network, dropout=0.1, strategy="random")


def train(data=None, net=None, epochs=4, **options):
    net = net or network()
    history = training.fit(
        net,
        data or blobs(60),
        SCHEDULE,
        epochs=epochs,
        batch_size=16,
        **{"lr": 1e-2, "initialise": "near_thresholds", **options},
    )
    return net, history


@pytest.mark.parametrize(
    "loss", [F.cross_entropy, nn.CrossEntropyLoss(), lambda outputs, targets: F.cross_entropy(outputs, targets)]
)
def test_the_cross_entropy_as_a_loss_of_ones_own_is_the_default_bit_for_bit(loss):
    (a, first), (b, second) = train(test=blobs(60, seed=1)), train(test=blobs(60, seed=1), loss=loss)
    assert same(a, b) and [h.train for h in first] == [h.train for h in second]
    assert [h.test.accuracy for h in first] == [h.test.accuracy for h in second]
    assert [h.test.loss for h in first] == pytest.approx([h.test.loss for h in second], rel=1e-6)


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(weight=torch.tensor([10.0, 1.0, 1.0])),
        nn.CrossEntropyLoss(label_smoothing=0.2),
        functools.partial(F.cross_entropy, label_smoothing=0.2),
    ],
)
def test_class_weights_and_label_smoothing_change_the_weights_and_keep_the_accuracy(loss):
    (a, _), (b, history) = train(), train(loss=loss)
    assert not same(a, b) and 0 <= history[-1].train.accuracy <= 1
    score = training.evaluate(b, blobs(60), loss=loss)
    by_hand = loss(b.eval()(torch.as_tensor(blobs(60)[0])).detach(), torch.as_tensor(blobs(60)[1])).item()
    assert score.loss == pytest.approx(by_hand, rel=1e-5) and score.accuracy == training.evaluate(b, blobs(60)).accuracy


def test_regression_learns_and_its_accuracy_is_nan():
    x, _ = blobs(60)
    y = (x @ np.array([[1.0], [-2.0]])).astype(np.float64)  # cast to the network's type
    net = nn.Sequential(nn.Linear(2, 1))
    history = training.fit(net, (x, y), None, epochs=60, batch_size=16, lr=0.1, loss=nn.MSELoss(), test=(x, y))
    assert history[-1].train.loss < 0.01 < history[0].train.loss
    assert math.isnan(history[-1].train.accuracy) and math.isnan(history[-1].test.accuracy)
    mean = (net(torch.as_tensor(x)) - torch.as_tensor(y)).square().mean().item()
    assert training.evaluate(net, (x, y), batch_size=7, loss=nn.MSELoss()).loss == pytest.approx(mean, rel=1e-4)


def test_several_labels_an_example_train_with_the_binary_cross_entropy():
    x, y = blobs(60)
    several = np.stack([y == 0, y != 1], 1).astype(np.float32)
    _, history = train((x, several), network(2), epochs=20, loss=nn.BCEWithLogitsLoss())
    assert history[-1].train.loss < 0.7 * history[0].train.loss and math.isnan(history[-1].train.accuracy)


def test_a_label_for_each_pixel_is_counted_pixel_by_pixel():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 1, 4, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    y[:, 0] = 255  # left out
    net, loss = nn.Sequential(nn.Conv2d(1, 2, 1)), nn.CrossEntropyLoss(ignore_index=255)
    history = training.fit(net, (x, y), None, epochs=50, batch_size=5, lr=0.1, loss=loss)
    assert history[-1].train.accuracy > 0.95
    right = (net(torch.as_tensor(x)).argmax(1).numpy() == y)[:, 1:].mean()
    assert training.evaluate(net, (x, y), batch_size=5, loss=loss).accuracy == pytest.approx(right)


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(2, 3), nn.Linear(2, 1)

    def forward(self, x):
        return {"class": self.a(x), "size": self.b(x)[:, 0]}


@pytest.mark.parametrize("nest", [lambda a, b: {"class": a, "size": b}, lambda a, b: (a, b)])
@pytest.mark.parametrize("batches", [False, True])
def test_outputs_and_targets_may_be_dictionaries_or_tuples(nest, batches):
    x, y = blobs(60)
    targets = nest(y, x.sum(1))

    def loss(outputs, targets):
        a, b = targets.values() if isinstance(targets, dict) else targets
        return F.cross_entropy(outputs["class"], a) + F.mse_loss(outputs["size"], b)

    data = (x, targets)
    if batches:
        data = [(x[i : i + 16], nest(y[i : i + 16], x[i : i + 16].sum(1))) for i in range(0, 60, 16)]
    net = Two()
    history = training.fit(net, data, None, epochs=30, batch_size=16, lr=0.05, loss=loss, test=data)
    assert history[-1].train.loss < 0.5 * history[0].train.loss and math.isnan(history[-1].test.accuracy)


def test_a_loss_is_part_of_the_checkpoints_config_without_addresses(tmp_path):
    def one(outputs, targets):
        return F.cross_entropy(outputs, targets)

    def two(outputs, targets):
        return 2 * F.cross_entropy(outputs, targets)

    losses = [
        None,
        one,
        two,
        nn.CrossEntropyLoss(),
        nn.CrossEntropyLoss(label_smoothing=0.1),
        nn.CrossEntropyLoss(weight=torch.ones(3)),
        functools.partial(F.cross_entropy, label_smoothing=0.1),
    ]
    texts = [checkpoint.describe_loss(loss) for loss in losses]
    assert len(set(texts)) == len(losses) and not any("0x" in text for text in texts)
    assert checkpoint.describe_loss(nn.CrossEntropyLoss(weight=torch.ones(3))) == texts[5]
    train(checkpoint=tmp_path / "run.pt", epochs=2, loss=one)
    with pytest.raises(ValueError, match=r"is from another config: its loss is .*one .*, not .*two"):
        train(checkpoint=tmp_path / "run.pt", epochs=2, loss=two)


def test_regression_goes_on_from_a_checkpoint_with_an_equal_history(tmp_path):
    x, _ = blobs(60)
    options = {"data": (x, x[:, :1]), "epochs": 3, "loss": nn.MSELoss()}
    net, history = train(net=network(1), checkpoint=tmp_path / "run.pt", **options)
    again, read = train(net=network(1), checkpoint=tmp_path / "run.pt", **options)
    assert same(net, again) and history == read


def test_the_callback_gets_every_epoch_after_its_checkpoint(tmp_path):
    path, seen = tmp_path / "run.pt", []

    def callback(epoch, net):
        seen.append((epoch, checkpoint.load(path)["epoch"], net))

    net, history = train(checkpoint=path, callback=callback)
    assert [epoch for epoch, _, _ in seen] == history and [done for _, done, _ in seen] == [1, 2, 3, 4]
    assert all(given is net for _, _, given in seen)
    train(checkpoint=path, callback=lambda *_: pytest.fail("these epochs are done"))


def test_what_a_callback_draws_and_which_modes_it_leaves_changes_nothing():
    def callback(epoch, net):
        torch.rand(3), np.random.rand(3), random.random()
        net.eval()
        net(torch.zeros(2, 2))

    (a, first), (b, second) = train(), train(callback=callback)
    assert same(a, b) and first == second and b.training


def test_a_callback_that_returns_true_ends_the_training_which_can_go_on(tmp_path):
    _, history = train(checkpoint=tmp_path / "run.pt", callback=lambda epoch, net: epoch.epoch == 1)
    assert len(history) == 2
    net, history = train(checkpoint=tmp_path / "run.pt", callback=lambda epoch, net: 1)  # no other answer does
    whole, expected = train()
    assert same(net, whole) and history == expected


def test_an_exception_in_a_callback_leaves_the_checkpoint_of_its_epoch(tmp_path):
    def callback(epoch, net):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(checkpoint=tmp_path / "run.pt", callback=callback)
    net, history = train(checkpoint=tmp_path / "run.pt")
    whole, expected = train()
    assert same(net, whole) and history == expected


def test_a_history_is_a_table_of_numbers(tmp_path):
    _, history = train(test=blobs(60, seed=1), epochs=2)
    rows = training.history_table(history)
    with open(tmp_path / "history.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    with open(tmp_path / "history.csv", newline="") as file:
        read = list(csv.DictReader(file))
    assert [float(row["test_loss"]) for row in read] == [h.test.loss for h in history]
    assert [(float(row["noise_mean_0"]), float(row["noise_std_0"])) for row in read] == [h.noise[0] for h in history]
    assert training.history_table(train(epochs=1)[1])[0]["test_loss"] is None


class Writer:
    """The part of torch.utils.tensorboard.SummaryWriter that a callback needs."""

    def __init__(self):
        self.scalars = {}

    def add_scalar(self, tag, value, step):
        self.scalars[tag, step] = float(value)


def test_a_callback_writes_the_history_to_a_board_as_it_grows():
    writer = Writer()

    def log(epoch, net):
        for name, value in training.history_table([epoch])[0].items():
            if value is not None:
                writer.add_scalar(name, value, epoch.epoch)

    _, history = train(epochs=2, callback=log, test=blobs(60, seed=1))
    assert [writer.scalars["noisy_test_accuracy", t] for t in (0, 1)] == [h.noisy_test.accuracy for h in history]
    assert writer.scalars["noise_std_0", 1] == history[1].noise[0][1]


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"loss": "mse"}, TypeError, r"loss must be a function \(outputs, targets\) -> one number, .*, not 'mse'\.$"),
        ({"loss": nn.MSELoss}, TypeError, r"so hand over MSELoss\(\), not the class\.$"),
        (
            {"loss": nn.CrossEntropyLoss(reduction="none")},
            TypeError,
            r"loss must give one number, .*, not a Tensor of shape \(16,\): take its mean",
        ),
        ({"loss": lambda o, t: 3.0}, TypeError, r"loss must give one number, .*, not 3\.0"),
        (
            {"loss": lambda o, t: F.cross_entropy(o.detach(), t)},
            TypeError,
            r"^loss must be computed from the outputs .* no gradient\.$",
        ),
        (
            {"data": (blobs(60)[0], blobs(60)[1][:, None] % 2), "net": network(1), "loss": nn.BCEWithLogitsLoss()},
            TypeError,
            r"^BCEWithLogitsLoss takes targets of floats, not torch\.int64: hand them over as such, by .* y\.float\(\)",
        ),
        (
            {
                "data": (blobs(60)[0], blobs(60)[1][:, None] > 1),
                "net": network(1),
                "loss": lambda o, t: F.binary_cross_entropy_with_logits(o, t),
            },
            TypeError,
            r"^the loss takes targets of floats, not torch\.bool",
        ),
        ({"callback": 3}, TypeError, "callback must be a function of an Epoch and the network, not 3"),
        (
            {"data": (blobs(60)[0], blobs(60)[0])},
            TypeError,
            r"flat list of integers, not torch\.float32 of shape \(60, 2\); other targets need a loss",
        ),
        (
            {"data": (blobs(60)[0], {"a": blobs(60)[1][:5]}), "loss": lambda o, t: o.sum()},
            ValueError,
            "as many inputs as labels, not 60 and 5",
        ),
        (
            {"net": Two(), "schedule": None},
            ValueError,
            r"the outputs must have shape \(16, classes\) .* the network gave a dict of 2 arrays",
        ),
    ],
)
def test_losses_and_callbacks_that_do_not_fit_are_refused_with_one_sentence(options, error, message):
    options = {"net": network(), "data": blobs(60), "schedule": SCHEDULE, **options}
    with pytest.raises(error, match=message) as caught:
        training.fit(options.pop("net"), options.pop("data"), options.pop("schedule"), epochs=1, batch_size=16, **options)
    assert "\n" not in str(caught.value)
