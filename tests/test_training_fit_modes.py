"""What `fit` must leave alone or put back: rates of groups, frozen modules, random states; and which devices there are."""

import functools
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, lr_scheduler
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, Dataset
from training_helpers import blob_network, blobs, same

from anabook import Schedule, training
from anabook.training import devices, objectives
from anabook.training.devices import find_device
from anabook.training.run import Run

SCHEDULE = Schedule(n_layers=1, start=0, end=3, std0=12**-0.5)


def fit(net=None, data=None, **options):
    net = net or blob_network(dropout=0.5)
    return net, training.fit(
        net, data or blobs(), options.pop("schedule", SCHEDULE), **{"epochs": 3, "batch_size": 16, "lr": 1e-2, **options}
    )


# Groups of parameters -----------------------------------------------------------------------------------------------


def grouped(second, seen):
    """SGD with two groups; `second` gives the rate of the second from that of the first."""

    def make(parameters, lr):
        step = SGD([{"params": parameters[:2], "lr": lr}, {"params": parameters[2:], "lr": second(lr)}], lr=lr)
        step.register_step_pre_hook(lambda *_: seen.append([g["lr"] for g in step.param_groups]))
        return step

    return make


@pytest.mark.parametrize(
    "lr, second, expected",
    [
        (0.1, lambda lr: 0.1 * lr, [[0.1, 0.01]] * 3),
        (0.1, lambda lr: 0.01, [[0.1, 0.01]] * 3),
        (lambda e: 0.1 / (1 + e), lambda lr: 0.1 * lr, [[0.1 / k, 0.01 / k] for k in (1, 2, 3)]),
        (lambda e: [0.0, 0.1, 0.2][e], lambda lr: 0.1 * lr, [[0.0, 0.0], [0.1, 0.01], [0.2, 0.02]]),  # a warm-up from 0
        (0.0, lambda lr: 0.1 * lr, [[0.0, 0.0]] * 3),
    ],
)
def test_groups_of_parameters_keep_the_ratios_of_their_rates(lr, second, expected):
    seen = []
    _, history = fit(lr=lr, optimiser=grouped(second, seen))
    assert len(seen) == 9
    np.testing.assert_allclose(seen[::3], expected, rtol=1e-12)
    assert [h.lr for h in history] == pytest.approx([first for first, _ in expected])


def test_two_groups_of_one_rate_are_one_group_bit_for_bit():
    rate = lambda epoch: 0.03 / (1 + epoch)  # noqa: E731
    (a, first), (b, second) = fit(lr=rate, optimiser=SGD), fit(lr=rate, optimiser=grouped(lambda lr: lr, []))
    assert same(a, b) and first == second


def test_groups_under_one_of_torchs_schedulers_keep_their_ratios_too():
    seen = []
    fit(
        lr=0.1,
        optimiser=grouped(lambda lr: 0.1 * lr, seen),
        scheduler=functools.partial(lr_scheduler.ExponentialLR, gamma=0.5),
    )
    np.testing.assert_allclose(seen[::3], [[0.1, 0.01], [0.05, 0.005], [0.025, 0.0025]])


def test_groups_go_on_from_a_checkpoint(tmp_path):
    rate = lambda epoch: 0.03 / (1 + epoch)  # noqa: E731
    options = {"lr": rate, "optimiser": grouped(lambda lr: 0.1 * lr, [])}
    fit(checkpoint=tmp_path / "run.pt", callback=lambda *_: True, **options)
    (a, first), (b, second) = fit(checkpoint=tmp_path / "run.pt", **options), fit(**options)
    assert same(a, b) and first == second


@pytest.mark.parametrize("every", ["epoch", "iteration"])
def test_plateau_scheduler_is_told_the_loss_of_the_epoch_or_the_step(every):
    make = functools.partial(lr_scheduler.ReduceLROnPlateau, patience=0, threshold=10.0)  # no loss is good enough
    _, history = fit(scheduler=make, scheduler_every=every)
    rates = [0.01, 0.001, 1e-4] if every == "epoch" else [0.01, 1e-5, 1e-8]  # three steps an epoch
    assert [h.lr for h in history] == pytest.approx(rates)


# Frozen modules -----------------------------------------------------------------------------------------------------


def test_a_batch_normalisation_that_was_frozen_stays_frozen():
    net = blob_network(dropout=0.5)
    net[1].eval()
    before = {name: t.clone() for name, t in net[1].named_buffers()}
    weight = net[1].weight.detach().clone()
    fit(net, test=blobs(seed=1))
    assert not net[1].training and net.training and net[3].training
    assert all(torch.equal(t, before[name]) for name, t in net[1].named_buffers())
    assert not torch.equal(net[1].weight, weight)  # its parameters are trained: requires_grad_(False) freezes those


def test_a_dropout_that_was_turned_off_stays_off_and_normalises_with_running_statistics():
    net, plain = blob_network(dropout=0.5), blob_network(dropout=0.5)
    net[3].eval()
    plain[3].p = 0.0
    assert same(fit(net)[0], fit(plain)[0])


def test_a_network_in_evaluation_mode_is_put_to_training():
    assert same(fit(blob_network(dropout=0.5).eval())[0], fit()[0])


def test_quantisers_inside_a_frozen_part_keep_their_noise_and_learn():
    net = blob_network(dropout=0.5)
    net[0].eval()
    net[2].eval()
    assert same(fit(net)[0], fit()[0])


def test_a_callback_that_changes_modes_unfreezes_nothing():
    net = blob_network(dropout=0.5)
    net[1].eval()
    fit(net, callback=lambda epoch, net: net.train() and None)
    assert not net[1].training


# Random states ------------------------------------------------------------------------------------------------------


class Noisy(Dataset):
    """Draws from all global generators, as augmentations do."""

    def __len__(self):
        return 48

    def __getitem__(self, i):
        x, y = blobs()
        return torch.as_tensor(x[i]) + np.random.normal() + random.random() + torch.randn(()), int(y[i])


@pytest.mark.parametrize("workers", [0, 2])
def test_augmentations_by_numpy_and_python_repeat_with_the_seed(workers):
    data = DataLoader(Noisy(), batch_size=16, shuffle=True, num_workers=workers)

    def run(seed):
        random.seed(), np.random.seed()
        return fit(data=data, epochs=1 if workers else 2, seed=seed)

    (a, first), (b, second), (c, _) = run(0), run(0), run(1)
    assert same(a, b) and first == second and not same(a, c)


def test_augmentations_by_global_generators_go_on_from_the_middle_of_an_epoch(tmp_path):
    data = DataLoader(Noisy(), batch_size=16, shuffle=True)
    count = [0]

    def fail(module, args):
        count[0] += module.training
        if count[0] == 5:
            raise KeyError

    net = blob_network(dropout=0.5)
    hook = net.register_forward_pre_hook(fail)
    with pytest.raises(KeyError):
        fit(net, data, checkpoint=tmp_path / "run.pt", checkpoint_steps=1)
    hook.remove()
    random.seed(), np.random.seed()
    (a, first), (b, second) = fit(data=data, checkpoint=tmp_path / "run.pt"), fit(data=data)
    assert same(a, b) and first == second


def test_a_sampler_with_a_generator_of_its_own_goes_on_from_a_checkpoint(tmp_path):
    def data():
        sampler = torch.utils.data.RandomSampler(Noisy(), generator=torch.Generator().manual_seed(3))
        return DataLoader(Noisy(), batch_size=16, sampler=sampler)

    fit(data=data(), checkpoint=tmp_path / "run.pt", callback=lambda epoch, net: epoch.epoch == 1)
    (a, first), (b, second) = fit(data=data(), checkpoint=tmp_path / "run.pt"), fit(data=data())
    assert same(a, b) and first == second


def test_global_generators_are_left_as_they_were():
    net = blob_network(dropout=0.5)
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()
    fit(net, data=DataLoader(Noisy(), batch_size=16))
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[2]
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), before[1]))


def test_workers_that_live_on_are_warned_of_where_a_run_may_be_resumed(tmp_path):
    data = DataLoader(Noisy(), batch_size=16, num_workers=1, persistent_workers=True)
    with pytest.warns(
        UserWarning, match=r"^workers that live on from epoch to epoch \(persistent_workers=True\) .* never stopped\.$"
    ):
        fit(data=data, epochs=1, checkpoint=tmp_path / "run.pt")


# Devices ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["mps", "xpu", "hpu", "meta", "vulkan", "xla", "mtia", "cuda:99", "privateuseone", "ipu", "lazy", "opencl", "xpu:3"],
)
def test_a_device_that_is_not_there_is_refused_in_one_sentence(name):
    if (
        name.partition(":")[0] in ("mps", "xpu", "hpu", "mtia")
        and getattr(torch, name.partition(":")[0], None) is not None
        and getattr(torch, name.partition(":")[0]).is_available()
    ):
        pytest.skip("this machine has one")
    for call in (lambda: find_device(name), lambda: fit(device=name)):
        with pytest.raises(ValueError, match=rf"^device {name} was asked for, but ") as caught:
            call()
        assert "\n" not in str(caught.value)


def test_cpu_in_all_its_spellings_is_there():
    assert {find_device(d).type for d in ("cpu", torch.device("cpu"))} == {"cpu"}


class Single(TorchDispatchMode):
    """Refuses float64, as a device does that lacks it."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.dtype == torch.float64:
            raise TypeError("this device has no float64")
        return result


@pytest.mark.parametrize("loss", [None, nn.CrossEntropyLoss()])
def test_a_step_needs_no_float64_on_a_device_that_has_none(monkeypatch, loss):
    monkeypatch.setattr(devices, "_computes", lambda device, dtype=torch.float32: dtype != torch.float64)
    assert devices.widest(torch.device("mps")) == torch.float32 and devices.widest(torch.device("cpu")) == torch.float64
    expected = fit(loss=loss)[1]
    monkeypatch.setattr(objectives, "widest", lambda device: torch.float32)
    step = Run._step

    def in_single_precision(*args):
        with Single():
            step(*args)

    monkeypatch.setattr(Run, "_step", in_single_precision)
    history = fit(loss=loss)[1]
    assert [h.train.loss for h in history] == pytest.approx([h.train.loss for h in expected], rel=1e-6)
    assert [h.train.accuracy for h in history] == [h.train.accuracy for h in expected]
    monkeypatch.setattr(objectives, "widest", lambda device: torch.float64)
    with pytest.raises(TypeError, match="no float64"):
        fit(loss=loss)


class OneDevice:
    """A backend's module whose generator takes no device, like that of torch.mps."""

    def __init__(self):
        self.state = torch.tensor([1], dtype=torch.uint8)

    def get_rng_state(self):
        return self.state.clone()

    def set_rng_state(self, state):
        self.state = state.clone()


class ManyDevices(OneDevice):
    def get_rng_state(self, device):
        return self.state.clone()

    def set_rng_state(self, state, device):
        self.state = state.clone()


@pytest.mark.parametrize("backend", [OneDevice, ManyDevices])
def test_generators_of_other_accelerators_than_cuda_are_kept_and_put_back(monkeypatch, backend):
    module, device = backend(), torch.device("xpu")
    monkeypatch.setattr(torch, "get_device_module", lambda kind: module)
    states = devices.global_states(device)
    with devices.seeded(3, device):
        module.state += 5
    assert module.state.item() == 1
    module.state += 7
    devices.set_global_states(states, device)
    assert module.state.item() == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that CUDA can use")
def test_a_run_on_a_gpu_goes_on_from_the_middle_of_an_epoch_and_leaves_its_generator(tmp_path):
    count, state = [0], torch.cuda.get_rng_state()

    def fail(module, args):
        count[0] += module.training
        if count[0] == 5:
            raise KeyError

    net = blob_network(dropout=0.5)
    net.register_forward_pre_hook(fail)
    options = {"device": "cuda", "loss": nn.CrossEntropyLoss(weight=torch.ones(3)), "test": blobs(seed=1)}
    with pytest.raises(KeyError):
        fit(net, checkpoint=tmp_path / "run.pt", checkpoint_steps=1, **options)
    (a, first), (b, second) = fit(checkpoint=tmp_path / "run.pt", **options), fit(**options)
    assert same(a, b) and first == second and torch.equal(torch.cuda.get_rng_state(), state)
