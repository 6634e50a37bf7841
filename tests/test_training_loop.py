"""Algorithm 1 in its plain form: annealing, determinism, scores with and without noise, clear refusals."""

import dataclasses
import re
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from training_helpers import TERNARY, blobs

from anabook import Schedule, training


def network(strategy="mode", seed=0, dropout=0.0):
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Linear(2, 16),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(16, 16),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Linear(16, 3),
    )
    net = training.quantise(net, weights=TERNARY, activations=TERNARY, strategy=strategy)
    training.initialise_near_thresholds(net, seed)
    return net


SCHEDULE = Schedule(n_layers=2, start=0, end=8, std0=12**-0.5)


def train(strategy="mode", seed=0, epochs=10, dropout=0.0, **options):
    net = network(strategy, dropout=dropout)
    history = training.fit(net, blobs(120), SCHEDULE, epochs=epochs, batch_size=16, lr=1e-2, seed=seed, **options)
    return net, history


@pytest.mark.parametrize("strategy", ["expectation", "mode", "random"])
def test_annealed_network_learns_and_is_exactly_ternary(strategy):
    net, history = train(strategy, test=blobs(120, seed=1), epochs=25)
    assert history[-1].test.accuracy > 0.95
    assert history[-1].noisy_test == history[-1].test
    for weight in training.quantised_weights(net).values():
        assert set(weight.unique().tolist()) <= {-1.0, 0.0, 1.0}


@pytest.mark.parametrize("strategy", ["expectation", "mode", "random"])
def test_same_seed_gives_the_same_weights_bit_for_bit(strategy):
    (a, first), (b, second) = (train(strategy, dropout=0.1) for _ in range(2))
    assert first == second
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))
    c, _ = train(strategy, seed=1, dropout=0.1)
    assert not all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), c.state_dict().values()))


def test_global_generator_is_left_as_it_was():
    net = network("random")
    state = torch.random.get_rng_state()
    training.fit(net, blobs(120), SCHEDULE, epochs=1)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("noise_every, steps", [("epoch", 1), ("iteration", 3)])
@pytest.mark.parametrize("epochs", [1, 4, 5, 7, 8, 9])
def test_a_schedule_that_outlasts_the_training_is_said_before_it_with_the_epochs_that_it_takes(noise_every, steps, epochs):
    settings = {"batch_size": 40, "noise_every": noise_every}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        net = network()
        training.fit(net, blobs(120), SCHEDULE, epochs=epochs, **settings)
    left = sum(layer.weight.std > 0 for layer in training.layers(net))
    said = [str(each.message) for each in caught if "before the schedule does" in str(each.message)]
    assert bool(said) == (left > 0)
    if said:
        wanted = int(re.search(r"pass epochs=(\d+)", said[0])[1])
        assert f"at t = 8, with noise left in {left} of 2 layers" in said[0] and epochs < wanted == 9
        last = wanted - 1 / steps
        assert SCHEDULE(1, last) == (0.0, 0.0) and SCHEDULE(1, last - 1)[1] > 0
    assert all(layer.activations[0].std == 0 for layer in training.layers(training.deploy(net)))


def test_noise_that_is_meant_to_stay_is_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for schedule in (
            Schedule.static(2),
            lambda layer, t: (0.0, 0.2),
            Schedule.from_callable(2, lambda layer, t: (0.0, 0.2)),
        ):
            training.fit(network(), blobs(120), schedule, epochs=1)


def test_history_tells_the_noise_the_rate_and_the_scores_of_every_epoch():
    net = network()
    history = training.fit(net, blobs(120), SCHEDULE, epochs=3, batch_size=50, lr=lambda epoch: 0.01 / (1 + epoch))
    assert [h.epoch for h in history] == [0, 1, 2]
    assert [h.lr for h in history] == [0.01, 0.005, 0.01 / 3]
    assert [h.noise for h in history] == [tuple(SCHEDULE(layer, t) for layer in range(2)) for t in range(3)]
    assert all(h.test is None and h.noisy_test is None for h in history)
    assert all(0 <= h.train.accuracy <= 1 and h.train.loss > 0 for h in history)
    with pytest.raises(dataclasses.FrozenInstanceError):
        history[0].lr = 1.0


def test_learning_rate_of_zero_changes_no_parameter():
    net = network()
    before = [p.detach().clone() for p in net.parameters()]
    training.fit(net, blobs(120), SCHEDULE, epochs=2, lr=0.0)
    assert all(torch.equal(p, q) for p, q in zip(before, net.parameters()))


def test_training_score_is_the_mean_over_examples():
    net = nn.Sequential(nn.Linear(2, 3))
    x, y = blobs(50)
    (epoch,) = training.fit(net, (x, y), None, epochs=1, batch_size=16, lr=0.0)
    score = training.evaluate(net, (x, y))
    assert epoch.train.loss == pytest.approx(score.loss, rel=1e-6)
    assert epoch.train.accuracy == score.accuracy


def test_evaluation_matches_a_count_by_hand_and_restores_the_modes():
    net = network("random", dropout=0.5)
    net[3].eval()
    modes = [m.training for m in net.modules()]
    x, y = blobs(120)
    scores = [training.evaluate(net, (x, y), batch_size=size) for size in (7, 1000)]
    assert [m.training for m in net.modules()] == modes
    logits = net.eval()(torch.from_numpy(x)).detach()
    assert scores[0].accuracy == scores[1].accuracy == np.mean(logits.argmax(1).numpy() == y)
    by_hand = -torch.log_softmax(logits.double(), 1)[np.arange(len(y)), y].mean().item()
    assert scores[0].loss == pytest.approx(by_hand, rel=1e-5)


def test_evaluation_with_noise_differs_until_the_noise_is_gone():
    net, data = network("expectation"), blobs(120)
    noisy, clean = training.evaluate(net, data, noise=True), training.evaluate(net, data)
    assert noisy.loss != clean.loss
    training.set_noise(net, lambda layer, t: (0.0, 0.0), 0)
    assert training.evaluate(net, data, noise=True) == clean


def test_recalibration_measures_the_noise_free_statistics_and_nothing_else():
    net, (x, _) = network("random", dropout=0.5), blobs(120)
    net[3].eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    modes, noise = [m.training for m in net.modules()], training.layers(net)[0].weight.std
    training.recalibrate(net, x)
    assert [m.training for m in net.modules()] == modes and training.layers(net)[0].weight.std == noise
    changed = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {f"{i}.{name}" for i in (1, 5) for name in ("running_mean", "running_var", "num_batches_tracked")}
    assert net[1].momentum == 0.1
    sums = torch.from_numpy(x) @ TERNARY(net[0].parametrizations.weight.original).T + net[0].bias
    torch.testing.assert_close(net[1].running_mean, sums.mean(0))
    torch.testing.assert_close(net[1].running_var, sums.var(0))
    with pytest.raises(ValueError, match="has no batch normalisation with running statistics"):
        training.recalibrate(nn.Linear(2, 3), x)


def test_float_networks_train_without_a_schedule():
    net = nn.Sequential(nn.Linear(2, 3))
    history = training.fit(
        net, blobs(120), None, epochs=20, batch_size=16, lr=0.1, optimiser=torch.optim.SGD, test=blobs(120, seed=1)
    )
    assert history[-1].test.accuracy > 0.95 and history[-1].noise == () and history[-1].noisy_test is None


def test_tensors_and_other_types_of_data_are_cast_to_the_network():
    x, y = blobs(120)
    net = nn.Sequential(nn.Linear(2, 3)).double()
    scores = {
        training.evaluate(net, data)
        for data in [(x, y), (torch.from_numpy(x), torch.from_numpy(y)), (x.astype(np.float64), y.astype(np.int16))]
    }
    assert len(scores) == 1


def test_loss_that_stops_being_finite_says_where():
    x, y = blobs(120)
    x = x.copy()
    x[5] = np.nan
    with pytest.raises(FloatingPointError, match=r"^the loss became nan in epoch 0, step \d: lower the learning rate"):
        training.fit(nn.Sequential(nn.Linear(2, 3)), (x, y), None, epochs=2, batch_size=16)


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"epochs": 0}, ValueError, "epochs must be an integer at least 1, not 0"),
        ({"batch_size": 2.5}, TypeError, "batch_size must be an integer"),
        ({"lr": -1.0}, ValueError, "lr must be finite and at least 0, not -1.0"),
        ({"seed": -1}, ValueError, "seed must be an integer from 0 to"),
        ({"schedule": Schedule()}, ValueError, "the schedule is for 7 layers, but the network has 2 quantised layers"),
        ({"data": blobs(120)[0]}, TypeError, r"data must be a pair \(inputs, labels\)"),
        ({"data": (blobs(120)[0], blobs(120)[1][:5])}, ValueError, "as many inputs as labels, not 120 and 5"),
        (
            {"data": (blobs(120)[0], blobs(120)[1] * 1.0)},
            TypeError,
            "labels of data must be a flat list of integers, not torch.float64",
        ),
        (
            {"data": (blobs(120)[0] * 1j, blobs(120)[1])},
            TypeError,
            "inputs of data must be real numbers, not torch.complex64",
        ),
        ({"data": (np.zeros((0, 2)), np.zeros(0, int))}, ValueError, "must hold at least one example"),
        ({"test": 3}, TypeError, r"test must be a pair \(inputs, labels\)"),
    ],
)
def test_bad_settings_are_refused_with_one_sentence(change, error, message):
    options = {"data": blobs(120), "schedule": SCHEDULE, "epochs": 1, **change}
    with pytest.raises(error, match=message):
        training.fit(network(), options.pop("data"), options.pop("schedule"), **options)


def test_importing_anabook_does_not_import_torch():
    import subprocess
    import sys

    code = "import sys, anabook; assert 'torch' not in sys.modules; anabook.training; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
