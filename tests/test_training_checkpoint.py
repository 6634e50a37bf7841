"""Checkpoints: whole or not at all, safe to read, and a run that was killed ends where it would have ended anyway."""

import functools
import itertools
import multiprocessing
import os
import re
import signal
import time

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, lr_scheduler

from anabook import Quantiser, Schedule, training
from anabook.datasets.batches import Batches
from anabook.training import checkpoint

TERNARY = Quantiser.ternary()
SCHEDULE = Schedule(n_layers=2, end=6, mean0=-0.25, static_mean=False)


def data(n=80, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 4
    x = rng.integers(0, 100, (n, 1, 6, 6)).astype(np.uint8)
    x[np.arange(n), 0, y] += 100
    return x, y


def network(seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(64, 8, bias=False),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Linear(8, 4),
    )
    return training.quantise(net, weights=TERNARY, activations=TERNARY, strategy="random")


def train(path=None, batches=False, epochs=8, slow=0.0, fail=None, seed=0, **options):
    """One fixed run; `slow` seconds are slept in each batch, `fail` is called with the number of each batch."""
    net, count = network(), [0]

    def each(module, inputs):
        if module.training:
            count[0] += 1
            time.sleep(slow)
            if fail is not None:
                fail(count[0])

    net[-1].register_forward_pre_hook(each)  # runs on cached features, too
    source = (
        Batches(*data(), batch_size=16, mean=90, std=60, augmentation="crop and flip", shuffle=True, seed=1)
        if batches
        else data()
    )
    history = training.fit(
        net,
        source,
        options.pop("schedule", SCHEDULE),
        epochs=epochs,
        batch_size=16,
        seed=seed,
        checkpoint=path,
        initialise="near_thresholds",
        test=data(seed=1),
        **{"lr": 1e-2, **options},
    )
    return net, history


def same(a, b):
    a, b = (s if isinstance(s, dict) else s.state_dict() for s in (a, b))
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class Stop(Exception):
    pass


def stop_at(number):
    def fail(n):
        if n == number:
            raise Stop

    return fail


@functools.lru_cache
def uninterrupted(batches):
    return train(batches=batches)


@pytest.mark.parametrize("batches", [False, True])
@pytest.mark.parametrize("at", [1, 6, 13, 40])
def test_run_that_failed_anywhere_ends_with_the_weights_of_one_that_did_not(tmp_path, batches, at):
    path = tmp_path / "run.pt"
    with pytest.raises(Stop):
        train(path, batches, fail=stop_at(at), checkpoint_steps=2)
    net, history = train(path, batches, checkpoint_steps=2)
    expected, whole = uninterrupted(batches)
    assert same(net, expected) and history == whole


@pytest.mark.parametrize(
    "options",
    [
        {"optimiser": functools.partial(torch.optim.SGD, momentum=0.9)},
        {"scheduler": functools.partial(torch.optim.lr_scheduler.MultiStepLR, milestones=[2, 5])},
        {
            "scheduler": functools.partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.02, total_steps=40),
            "scheduler_every": "iteration",
        },
        {"noise_every": "iteration"},
        {"stop": False},
        {"stop": training.Stopping(still=True)},
        {"stop": training.Stopping(cache=True), "checkpoint_steps": 3},
        {"precision": "float16"},
    ],
)
def test_resumption_holds_for_optimisers_schedulers_and_options(tmp_path, options):
    with pytest.raises(Stop):
        train(tmp_path / "run.pt", fail=stop_at(33), **{"checkpoint_steps": 4, **options})
    net, history = train(tmp_path / "run.pt", **{"checkpoint_steps": 4, **options})
    expected, whole = train(**options)
    assert same(net, expected) and history == whole


def in_a_process(path, out, slow):
    torch.set_num_threads(1)
    net, _ = train(path, batches=True, slow=slow, checkpoint_steps=2)
    torch.save(net.state_dict(), out)


@pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="needs a fork server")
def test_process_killed_at_several_moments_ends_with_the_same_weights(tmp_path):
    path, out = tmp_path / "run.pt", tmp_path / "weights.pt"
    expected = uninterrupted(True)[0]
    # Forked from a process that never trained: autograd refuses children of one that has used it in threads.
    fork = multiprocessing.get_context("forkserver")
    fork.set_forkserver_preload(["torch"])
    places = []
    for wait in (0.0, 0.03, 0.11, 0.17, 0.26):  # seconds after the first write of the process
        before = path.stat().st_mtime_ns if path.exists() else None
        process = fork.Process(target=in_a_process, args=(path, out, 0.05))
        process.start()
        deadline = time.monotonic() + 120
        while process.is_alive() and time.monotonic() < deadline:
            if path.exists() and path.stat().st_mtime_ns != before:
                break
            time.sleep(0.001)
        time.sleep(wait)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        state = checkpoint.load(path)
        places.append((state["epoch"], state["step"]))
    assert places == sorted(set(places)) and not out.exists(), "each attempt should get further, and none should finish"
    process = fork.Process(target=in_a_process, args=(path, out, 0.0))
    process.start()
    process.join(120)
    assert process.exitcode == 0 and same(torch.load(out, weights_only=True), expected)


def test_interrupted_run_saves_in_the_middle_of_an_epoch_and_goes_on(tmp_path):
    path = tmp_path / "run.pt"

    _, history = train(path, fail=lambda n: os.kill(os.getpid(), signal.SIGINT) if n == 12 else None)
    state = checkpoint.load(path)
    assert len(history) == 2 and (state["epoch"], state["step"]) == (2, 2)  # five batches an epoch
    net, history = train(path)
    assert same(net, uninterrupted(False)[0]) and history == uninterrupted(False)[1]


def test_interruption_at_the_last_step_of_an_epoch_loses_nothing(tmp_path):
    path = tmp_path / "run.pt"
    train(path, fail=lambda n: os.kill(os.getpid(), signal.SIGINT) if n == 10 else None)
    assert (checkpoint.load(path)["epoch"], checkpoint.load(path)["step"]) == (1, 5)
    net, history = train(path)
    assert same(net, uninterrupted(False)[0]) and history == uninterrupted(False)[1]


def test_finished_run_is_not_trained_again(tmp_path):
    path = tmp_path / "run.pt"
    net, history = train(path)
    again, same_history = train(path, fail=stop_at(1))
    assert same(net, again) and history == same_history


def test_initialisation_is_not_repeated_on_resumption(tmp_path, monkeypatch):
    from anabook.training.fit import INITIALISATIONS

    calls = []
    real = INITIALISATIONS["near_thresholds"]
    monkeypatch.setitem(INITIALISATIONS, "near_thresholds", lambda net, seed: (calls.append(seed), real(net, seed)))
    with pytest.raises(Stop):
        train(tmp_path / "run.pt", fail=stop_at(8))
    train(tmp_path / "run.pt")
    assert calls == [0]


def test_draws_of_a_quantiser_with_a_generator_of_its_own_go_on(tmp_path):
    def run(path, fail=None):
        net = network()
        for layer in training.layers(net):
            layer.activations[0].generator = torch.Generator().manual_seed(9)
        if fail:
            steps = itertools.count(1)

            def count(*_):
                fail(next(steps))

            net.register_forward_pre_hook(count)
        training.fit(net, data(), SCHEDULE, epochs=3, batch_size=16, checkpoint=path)
        return net

    with pytest.raises(Stop):
        run(tmp_path / "run.pt", stop_at(8))
    assert same(run(tmp_path / "run.pt"), run(None))


def test_checkpoint_is_plain_tensors_and_numbers(tmp_path):
    train(tmp_path / "run.pt", epochs=1)
    state = torch.load(tmp_path / "run.pt", weights_only=True)
    assert {"config", "config_hash", "epoch", "step", "network", "optimiser", "scheduler", "random_states"} <= state.keys()
    assert state["config_hash"] == checkpoint.config_hash(state["config"])
    assert any(key.endswith("original") for key in state["network"])


def test_failure_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = checkpoint.save(tmp_path / "folder" / "run.pt", {"format": 1, "number": 1})

    def broken(state, file):
        file.write(b"half a file")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save(path, {"format": 1, "number": 2})
    assert checkpoint.load(path)["number"] == 1 and os.listdir(path.parent) == ["run.pt"]


def test_nan_loss_keeps_the_last_good_checkpoint(tmp_path):
    path = tmp_path / "run.pt"
    net = network()
    count = [0]

    def poison(module, inputs, output):
        count[0] += module.training
        return output * (np.nan if count[0] == 13 else 1.0)

    net.register_forward_hook(poison)
    message = r"^the loss became nan in epoch 2, step 2: lower .*; the last good state is in '.*run\.pt'\.$"
    with pytest.raises(FloatingPointError, match=message):
        training.fit(net, data(), SCHEDULE, epochs=4, batch_size=16, checkpoint=path, checkpoint_steps=2)
    state = checkpoint.load(path)
    assert (state["epoch"], state["step"]) == (2, 2)
    assert all(t.isfinite().all() for t in state["network"].values())


@pytest.mark.parametrize(
    "change, name",
    [
        ({"lr": 1e-3}, "lr"),
        ({"seed": 1}, "seed"),
        ({"batches": True}, "data"),
        ({"optimiser": torch.optim.SGD}, "optimiser"),
        ({"config": {"fold": 1}}, "config"),
        ({"schedule": Schedule.static(2)}, "schedule"),
        ({"schedule": lambda layer, t: (0.0, 0.1)}, "schedule"),
    ],
)
def test_checkpoint_from_another_config_is_refused_with_one_sentence(tmp_path, change, name):
    path = tmp_path / "run.pt"
    with pytest.raises(Stop):
        train(path, fail=stop_at(7))
    with pytest.raises(
        ValueError, match=rf"is from another config: its {name} is .*, not .*; choose another file"
    ) as caught:
        train(path, **change)
    assert "\n" not in str(caught.value)


def groups(decay):
    return lambda ps, lr: SGD([{"params": ps[:2]}, {"params": ps[2:], "weight_decay": decay}], lr=lr)


def steps(kind=lr_scheduler.StepLR, **settings):
    return functools.partial(kind, **settings)


@pytest.mark.parametrize(
    "before, now, said",
    [
        ({"lr": 0.1}, {"lr": 0.2}, "its lr is 0.1 in epoch 0, not 0.2"),
        ({"lr": lambda t: 0.1}, {"lr": lambda t: 0.1 * 0.5 ** (t // 2)}, "its lr is 0.1 in epoch 2, not 0.05"),
        (
            {"optimiser": functools.partial(SGD, momentum=0.9)},
            {"optimiser": functools.partial(SGD, momentum=0.8)},
            "its optimiser is SGD with momentum = 0.9, not 0.8",
        ),
        ({"optimiser": SGD}, {}, "its optimiser is SGD, not Adam"),
        (
            {"optimiser": groups(0.0)},
            {"optimiser": groups(0.1)},
            "its optimiser is SGD with weight_decay of group 1 = 0.0, not 0.1",
        ),
        (
            {"scheduler": steps(step_size=2)},
            {"scheduler": steps(step_size=2, gamma=0.5)},
            "its scheduler is StepLR with gamma = 0.1, not 0.5",
        ),
        (
            {"scheduler": steps(step_size=2)},
            {"scheduler": steps(lr_scheduler.ExponentialLR, gamma=0.5)},
            "its scheduler is StepLR, not ExponentialLR",
        ),
        (
            {"scheduler": steps(step_size=2)},
            {"scheduler": steps(step_size=2), "lr": 0.2},
            "its lr is 0.01 in epoch 0, not 0.2",
        ),
        (
            {"scheduler": steps(lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=4)},
            {"scheduler": steps(lr_scheduler.OneCycleLR, max_lr=0.2, total_steps=4)},
            "its scheduler is OneCycleLR with base_lrs = ",
        ),
    ],
)
@pytest.mark.parametrize("older", [False, True])
def test_what_differs_in_a_checkpoint_is_named(tmp_path, before, now, said, older):
    path = tmp_path / "run.pt"
    train(path, **{"epochs": 4, **before})
    if older:
        as_before(path)
        said = said.split(" is ")[0] + " is "
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        train(path, **{"epochs": 4, **now})
    assert "\n" not in str(caught.value)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        checkpoint.load(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("no checkpoint")
    with pytest.raises(ValueError, match="is not a checkpoint that can be read safely"):
        checkpoint.load(tmp_path / "text.pt")
    torch.save({"a": 1}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="is not a checkpoint of anabook.training.fit"):
        checkpoint.load(tmp_path / "other.pt")


def test_checksum_of_data_sees_one_changed_label():
    x, y = (torch.as_tensor(t) for t in data())
    other = y.clone()
    other[3] += 1
    assert (
        checkpoint.describe_data((x, y)) == checkpoint.describe_data((x.clone(), y)) != checkpoint.describe_data((x, other))
    )


# Another number of epochs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batches": True},
        {"schedule": lambda layer, t: (-0.1, max(0.0, 0.3 - 0.05 * t))},
        {"lr": lambda epoch: 0.01 * 0.9**epoch},
        {"optimiser": functools.partial(torch.optim.SGD, momentum=0.9)},
        {"noise_every": "iteration"},
        {"scheduler": functools.partial(torch.optim.lr_scheduler.StepLR, step_size=2)},
        {"stop": training.Stopping(cache=True)},
    ],
)
def test_a_finished_run_that_is_prolonged_is_the_longer_run_bit_for_bit(tmp_path, options):
    path = tmp_path / "run.pt"
    train(path, epochs=2, **options)
    net, history = train(path, epochs=5, **options)
    expected, whole = train(epochs=5, **options)
    assert same(net, expected) and history == whole
    assert train(path, epochs=5, fail=stop_at(1), **options)[1] == whole


def test_a_run_that_was_interrupted_can_be_prolonged_and_cut_short(tmp_path):
    for epochs in (3, 4, 6):
        path = tmp_path / f"{epochs}.pt"
        with pytest.raises(Stop):
            train(path, fail=stop_at(13), checkpoint_steps=2, epochs=5)  # in the third epoch
        net, history = train(path, epochs=epochs)
        expected, whole = train(epochs=epochs)
        assert same(net, expected) and history == whole


def test_noise_and_rates_may_change_in_epochs_to_come_and_not_in_those_that_are_done(tmp_path):
    def noise(end):
        return lambda layer, t: (0.0, 0.3 if t < end else 0.0)

    path = tmp_path / "run.pt"
    train(path, epochs=2, schedule=noise(2), lr=lambda e: [0.01, 0.005][e])
    net, history = train(path, epochs=4, schedule=noise(3), lr=lambda e: [0.01, 0.005, 0.002, 0.001][e])
    expected, whole = train(epochs=4, schedule=noise(3), lr=lambda e: [0.01, 0.005, 0.002, 0.001][e])
    assert same(net, expected) and history == whole
    with pytest.raises(ValueError, match="is from another config: its schedule is"):
        train(path, epochs=5, schedule=noise(1), lr=lambda e: [0.01, 0.005, 0.002, 0.001, 0.001][e])
    with pytest.raises(ValueError, match="is from another config: its lr is"):
        train(path, epochs=5, schedule=noise(3), lr=0.01)
    with pytest.raises(ValueError, match="is from another config: its seed is 0, not 1"):
        train(path, epochs=5, schedule=noise(3), lr=lambda e: [0.01, 0.005, 0.002, 0.001, 0.001][e], seed=1)


def test_schedules_of_the_package_may_end_later_if_nothing_done_is_different(tmp_path):
    early, late = (Schedule(n_layers=2, interval="partition", start=2, end=end) for end in (4, 6))
    train(tmp_path / "run.pt", epochs=2, schedule=early)
    net, history = train(tmp_path / "run.pt", epochs=5, schedule=late)
    expected, whole = train(epochs=5, schedule=late)
    assert same(net, expected) and history == whole


def test_fewer_epochs_than_are_done_are_refused_in_one_sentence(tmp_path):
    train(tmp_path / "run.pt", epochs=3)
    with pytest.raises(
        ValueError, match=r"is of a run that has begun 3 epochs, more than the epochs=2 asked for; .*afresh\.$"
    ):
        train(tmp_path / "run.pt", epochs=2)


def as_before(path):
    """The checkpoint as it was written before there were losses of one's own and states of NumPy and Python."""
    state = torch.load(path, weights_only=True)
    state["config"] = {k: v for k, v in state["config"].items() if k not in ("loss", "drop_last")}
    del state["noise"], state["settings"]
    for key in ("random_states", "random_states_at_epoch_start"):
        if state[key] is not None:
            state[key] = {k: v for k, v in state[key].items() if k in ("torch", "cuda", "quantisers", "data")}
    torch.save(state, path)


@pytest.mark.parametrize("epochs", [8, 10])
def test_older_checkpoints_are_read_and_prolonged(tmp_path, epochs):
    path = tmp_path / "run.pt"
    with pytest.raises(Stop):
        train(path, fail=stop_at(18), checkpoint_steps=2)
    as_before(path)
    net, history = train(path, epochs=epochs)
    expected, whole = train(epochs=epochs)
    assert same(net, expected) and history == whole


# Paths --------------------------------------------------------------------------------------------------------------


def test_a_tilde_is_the_users_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    history = train("~/runs/run.pt", epochs=1)[1]
    assert (tmp_path / "runs" / "run.pt").is_file() and not (tmp_path / "~").exists()
    assert train("~/runs/run.pt", epochs=1, fail=stop_at(1))[1] == history
    assert checkpoint.load("~/runs/run.pt")["epoch"] == 1
    assert checkpoint.save("~/other.pt", {"format": 1}) == tmp_path / "other.pt"


@pytest.mark.parametrize(
    "wrong, error, message",
    [
        (True, TypeError, "^checkpoint must be the path of a file, not True"),
        (3, TypeError, "^checkpoint must be the path of a file, not 3"),
        (".", ValueError, r"^checkpoint must be the path of a file, and '\.' is a folder"),
        ("~nobody-of-this-name/x.pt", ValueError, "^there is no home folder for the path"),
    ],
)
def test_paths_that_cannot_be_checkpoints_are_refused_in_one_sentence(wrong, error, message):
    with pytest.raises(error, match=message):
        train(wrong, epochs=1)
