"""What `fit` takes beside the plain loop: schedulers, batches, noise per step, precision, interruption, bad input."""

import functools
import io
import os
import signal
import sys
import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, lr_scheduler
from training_helpers import TERNARY, same

from anabook import Schedule, training
from anabook.datasets.batches import Batches

SCHEDULE = Schedule(n_layers=2, start=0, end=4, std0=12**-0.5)


def images(n=96, seed=0):
    """Three classes of small pictures: a bright row at one of three heights."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    x = rng.normal(0, 0.3, (n, 1, 8, 8)).astype(np.float32)
    x[np.arange(n), 0, 2 * y + 1] += 1.0
    return x, y


def network(strategy="random", seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(216, 12, bias=False),
        nn.BatchNorm1d(12),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(12, 3),
    )
    net = training.quantise(net, weights=TERNARY, activations=TERNARY, strategy=strategy)
    training.initialise_near_thresholds(net, seed)
    return net


def train(data=None, net=None, epochs=6, **options):
    net = net or network()
    options = {"schedule": SCHEDULE, "batch_size": 20, "lr": 1e-2, **options}
    return net, training.fit(net, images() if data is None else data, options.pop("schedule"), epochs=epochs, **options)


@pytest.mark.parametrize(
    "optimiser", [functools.partial(SGD, momentum=0.9, nesterov=True), torch.optim.AdamW, torch.optim.RMSprop]
)
def test_any_optimiser_trains_and_repeats_bit_for_bit(optimiser):
    (a, first), (b, second) = (train(optimiser=optimiser) for _ in range(2))
    assert same(a, b) and first == second
    assert first[-1].train.loss < first[0].train.loss


@pytest.mark.parametrize(
    "make, rates",
    [
        (functools.partial(lr_scheduler.StepLR, step_size=2, gamma=0.5), [0.01, 0.01, 0.005, 0.005, 0.0025, 0.0025]),
        (functools.partial(lr_scheduler.LambdaLR, lr_lambda=lambda e: 1 / (1 + e)), [0.01 / k for k in range(1, 7)]),
    ],
)
def test_torch_schedulers_step_once_an_epoch(make, rates):
    assert [h.lr for h in train(scheduler=make)[1]] == pytest.approx(rates)


def test_schedulers_can_step_with_every_batch():
    make = functools.partial(lr_scheduler.LambdaLR, lr_lambda=lambda step: 1 / (1 + step))
    assert [h.lr for h in train(scheduler=make, scheduler_every="iteration")[1]] == pytest.approx(
        [0.01 / (1 + 5 * e) for e in range(6)]
    )


def test_plateau_scheduler_is_told_the_training_loss():
    make = functools.partial(lr_scheduler.ReduceLROnPlateau, patience=0, threshold=10.0)  # no loss is good enough
    assert [round(h.lr, 9) for h in train(scheduler=make, epochs=3)[1]] == [0.01, 0.001, 0.0001]


def test_a_function_of_the_epoch_and_the_same_scheduler_give_the_same_weights():
    a, _ = train(lr=lambda epoch: 0.01 * 0.5**epoch)
    b, _ = train(scheduler=functools.partial(lr_scheduler.ExponentialLR, gamma=0.5))
    assert same(a, b)


def test_noise_per_iteration_follows_the_schedule_between_epochs():
    seen = []

    def spy(layer, t):
        seen.append((layer, t))
        return SCHEDULE(layer, t)

    train(schedule=spy, noise_every="iteration", epochs=2)
    assert [t for layer, t in seen if layer == 0] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1, 1.2, 1.4, 1.6, 1.8])
    assert not same(train(noise_every="iteration")[0], train()[0])


def test_noise_that_does_not_change_may_be_set_at_any_rate():
    still = Schedule.static(2)
    assert same(train(schedule=still)[0], train(schedule=still, noise_every="iteration")[0])


def test_batches_and_arrays_in_the_same_order_give_the_same_weights():
    x, y = images()

    class InOrder:
        def __len__(self):
            return 5

        def __iter__(self):
            order = torch.randperm(len(x))  # from the generator that `fit` seeds, as it does itself
            for rows in order.split(20):
                yield x[rows.numpy()], y[rows.numpy()]

    (a, first), (b, second) = train(), train(InOrder())
    assert same(a, b) and first == second
    assert train(InOrder(), test=InOrder(), epochs=1)[1][0].test.accuracy > 0


def test_augmented_batches_train_and_repeat():
    def batches():
        return Batches(*images(), batch_size=20, augmentation="crop and flip", shuffle=True, seed=3)

    (a, first), (b, second) = (train(batches(), test=Batches(*images(seed=1), batch_size=50)) for _ in range(2))
    assert same(a, b) and first == second and 0 <= first[-1].test.accuracy <= 1


def test_evaluation_of_batches_is_that_of_their_arrays():
    net, (x, y) = network("mode"), images()
    by_arrays = training.evaluate(net, (x, y))
    by_batches = training.evaluate(net, Batches(x, y, batch_size=7))
    assert by_batches.accuracy == by_arrays.accuracy and by_batches.loss == pytest.approx(by_arrays.loss, rel=1e-6)


def test_a_data_loader_trains_too():
    x, y = (torch.as_tensor(t) for t in images())
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=20, shuffle=True)
    (a, _), (b, _) = train(loader), train(loader)
    assert same(a, b)


def test_channels_last_computes_the_same_function():
    torch.manual_seed(1)
    a, first = train(net=network("mode"), epochs=1, lr=0.0)
    b, second = train(net=network("mode"), epochs=1, lr=0.0, channels_last=True)
    assert b[0].parametrizations.weight.original.is_contiguous(memory_format=torch.channels_last)
    assert first[0].train.loss == pytest.approx(second[0].train.loss, rel=1e-4)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_trains_float32_weights(precision):
    net, history = train(net=network("mode"), precision=precision, epochs=12)
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert history[-1].train.loss < 0.7 * history[0].train.loss
    plain = train(net=network("mode"), epochs=12)[0]
    assert not same(net, plain)


def test_initialisation_happens_at_the_noise_of_epoch_zero():
    schedule = Schedule(n_layers=2, end=4, mean0=-0.25, static_mean=False)
    net, _ = train(net=network(), schedule=schedule, epochs=1, lr=0.0, initialise="near_thresholds", seed=5)
    by_hand = network()
    training.set_noise(by_hand, schedule, 0)
    training.initialise_near_thresholds(by_hand, 5)
    weight = "0.parametrizations.weight.original"
    assert torch.equal(net.state_dict()[weight], by_hand.state_dict()[weight])
    shifted, _ = train(net=network(), schedule=schedule, epochs=1, lr=0.0, initialise="shift")
    assert torch.equal(shifted.state_dict()[weight], network().state_dict()[weight] - 0.25)


def test_epochs_are_timed_but_compared_without_their_times():
    _, history = train(epochs=2)
    assert all(h.seconds > 0 for h in history)
    assert history == train(epochs=2)[1] and history[0].seconds != train(epochs=2)[1][0].seconds


def test_interruption_ends_after_the_step_and_returns_the_complete_epochs(capsys):
    steps = []

    class Interrupted:
        def __len__(self):
            return 2

        def __iter__(self):
            for _ in range(2):
                steps.append(0)
                if len(steps) == 6:  # second batch of the third epoch
                    os.kill(os.getpid(), signal.SIGINT)
                yield images(20)

    net = network()
    before = signal.getsignal(signal.SIGINT)
    history = training.fit(net, Interrupted(), SCHEDULE, epochs=50)
    assert [h.epoch for h in history] == [0, 1] and len(steps) == 6
    assert signal.getsignal(signal.SIGINT) is before
    assert capsys.readouterr().err == "interrupted in epoch 2 after 2 steps.\n"


def test_training_outside_the_main_thread_works():
    result = []
    thread = threading.Thread(target=lambda: result.append(train(epochs=1)))
    thread.start()
    thread.join()
    assert len(result) == 1


def test_progress_bar_is_drawn_on_demand_and_not_away_from_a_terminal(monkeypatch):
    pytest.importorskip("tqdm")
    for progress, drawn in ((None, False), (False, False), (True, True)):
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        train(epochs=2, progress=progress, test=images(seed=1))
        assert ("2/2" in stream.getvalue() and "test=" in stream.getvalue()) == drawn
        assert drawn or stream.getvalue() == ""


def test_weights_that_stop_being_finite_are_noticed_where_the_loss_is_late(tmp_path):
    net = nn.Sequential(nn.Linear(64, 3))
    flat = images()[0].reshape(-1, 64), images()[1]
    with pytest.raises(FloatingPointError, match=r"^0\.weight stopped being finite by the last step of epoch 0"):
        training.fit(
            net,
            flat,
            None,
            epochs=1,
            batch_size=96,
            lr=3e38,
            optimiser=functools.partial(SGD, weight_decay=1e30),
            checkpoint=tmp_path / "run.pt",
        )
    assert not (tmp_path / "run.pt").exists()


def one_pass():
    yield images(20)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_asked_for_and_absent_is_one_sentence():
    with pytest.raises(ValueError, match=r"^device cuda was asked for, but torch finds no CUDA device: use device='cpu'\.$"):
        train(device="cuda")


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"device": "gpu"}, ValueError, "device must name one of torch's devices"),
        ({"precision": "half"}, ValueError, "precision must be one of 'float32', 'bfloat16', 'float16', not 'half'"),
        ({"channels_last": "yes"}, TypeError, "channels_last must be True or False, not 'yes'"),
        ({"noise_every": "step"}, ValueError, "noise_every must be one of 'epoch', 'iteration'"),
        ({"scheduler_every": "batch"}, ValueError, "scheduler_every must be one of 'epoch', 'iteration'"),
        ({"initialise": "near"}, ValueError, "initialise must be one of 'near_thresholds', 'shift', not 'near'"),
        ({"stop": "yes"}, TypeError, "stop must be True or False, not 'yes'"),
        ({"checkpoint_steps": 0}, ValueError, "checkpoint_steps must be an integer at least 1"),
        (
            {"lr": lambda e: 0.1, "scheduler": lambda o: lr_scheduler.StepLR(o, 1)},
            ValueError,
            "lr must be a number where a scheduler",
        ),
        (
            {"data": one_pass()},
            TypeError,
            "data must be a pair of arrays or something that can be gone through again .* generator",
        ),
        ({"data": []}, ValueError, "data gave no batch"),
        ({"data": 3}, TypeError, "data must be a pair"),
        ({"data": [(images(4)[0], None, None)] * 3}, TypeError, r"each batch of data must be a pair \(inputs, labels\)"),
        (
            {"data": [images(4)] * 3, "stop": training.Stopping(cache=True)},
            ValueError,
            "cached for data given as a tuple of arrays",
        ),
        ({"schedule": Schedule()}, ValueError, "the schedule is for 7 layers, but the network has 2 quantised layers"),
    ],
)
def test_bad_settings_are_refused_with_one_sentence(options, error, message):
    with pytest.raises(error, match=message) as caught:
        train(**{"epochs": 1, **options})
    assert "\n" not in str(caught.value)
