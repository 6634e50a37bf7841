"""Replicas in threads as DataParallel makes them, and everything again on a GPU where there is one."""

import copy
import threading

import numpy as np
import pytest
import torch
from torch import nn

from anabook import Quantiser, Schedule, datasets, models, training
from anabook.noise import FAMILIES
from anabook.training import Quantise, kernels

TERNARY = Quantiser.ternary()
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
every_family = pytest.mark.parametrize("family", FAMILIES)
every_strategy = pytest.mark.parametrize("strategy", kernels.STRATEGIES)
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that CUDA can use")


def network(strategy="expectation"):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 5))
    return training.quantise(net, TERNARY, TERNARY, noise="normal", strategy=strategy, keep=())


def replica_of(net):
    """What torch.nn.parallel.replicate makes of a network for one device, with copies in place of a broadcast."""
    modules = list(net.modules())
    copies = [module._replicate_for_data_parallel() for module in modules]
    number = {module: i for i, module in enumerate(modules)}
    tensors = {t: t.clone() for t in (*net.parameters(), *net.buffers())}
    for module, twin in zip(modules, copies):
        for name, child in module._modules.items():
            if child is not None:
                setattr(twin, name, copies[number[child]])
        for name, parameter in module._parameters.items():
            if parameter is not None:
                setattr(twin, name, tensors[parameter])
        for name, buffer in module._buffers.items():
            if buffer is not None:
                setattr(twin, name, tensors[buffer])
    return copies[0]


def test_data_parallel_without_devices_passes_through():
    net, x = network().eval(), torch.randn(4, 2, 4, 4)
    assert torch.equal(nn.DataParallel(net)(x) if not torch.cuda.is_available() else net(x), net(x))


def test_replicas_in_threads_give_the_original_its_gradients():
    net, x = network(), torch.randn(6, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    net[1].eval()  # statistics of a batch differ from those of its halves
    net(x).square().sum().backward()
    expected = {name: p.grad.clone() for name, p in net.named_parameters()}
    net.zero_grad()
    replicas, outputs = [replica_of(net) for _ in range(2)], [None, None]

    def work(i):
        with torch.enable_grad():
            outputs[i] = replicas[i](x[3 * i : 3 * i + 3])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    torch.cat(outputs).square().sum().backward()
    for name, p in net.named_parameters():
        torch.testing.assert_close(p.grad, expected[name], msg=name)
    assert any(g.any() for g in expected.values())


@every_strategy
def test_replicas_keep_noise_strategy_layer_and_levels(strategy):
    net = network(strategy)
    training.set_noise(net, lambda layer, t: (0.1 * layer, 0.3), 0)
    originals = [m for m in net.modules() if isinstance(m, Quantise)]
    replicas = [m for m in replica_of(net).modules() if isinstance(m, Quantise)]
    assert len(originals) == len(replicas) == 3
    for module, twin in zip(originals, replicas):
        assert (module.mean, module.std, module.strategy, module.layer, module.noise, module.training) == (
            twin.mean,
            twin.std,
            twin.strategy,
            twin.layer,
            twin.noise,
            twin.training,
        )
        assert torch.equal(module.levels, twin.levels) and torch.equal(module.thresholds, twin.thresholds)
        assert repr(module) == repr(twin)


# On a GPU -----------------------------------------------------------------------------------------------------------


def both(module, x, seed=0):
    x = x.detach().clone().requires_grad_()
    torch.manual_seed(seed)
    module(x).sum().backward()
    torch.manual_seed(seed)
    return module(x).detach(), x.grad


@on_gpu
@every_family
@every_strategy
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", [1, None])
def test_a_gpu_computes_what_the_cpu_does(family, strategy, dtype, size, monkeypatch):
    x = torch.from_numpy(np.random.default_rng(0).uniform(-2, 2, 5000)).to(dtype)
    # The two devices' generators differ: the same keys for both.
    keys = torch.tensor([5, -17, 123456], dtype=torch.int32)
    monkeypatch.setattr(torch, "randint", lambda *_, device=None, **__: keys.to(device))
    module = Quantise(TERNARY, family, strategy, 0.0625, 0.3)
    with kernels.compiling(size):
        expected, expected_grad = both(copy.deepcopy(module), x)
        out, grad = (t.cpu() for t in both(module.cuda(), x.cuda()))
    narrow = {torch.float16: 2e-3, torch.bfloat16: 2e-2, torch.float32: 1e-5, torch.float64: 1e-12}[dtype]
    if strategy == "expectation":
        torch.testing.assert_close(out, expected, rtol=narrow, atol=narrow)
    else:
        assert (out != expected).float().mean() < 1e-3  # a rounding next to a threshold
    differ = ~torch.isclose(grad, expected_grad, rtol=10 * narrow, atol=10 * narrow)
    assert differ.float().mean() < 1e-3  # a rounding where a density jumps


@on_gpu
@every_family
@every_strategy
@pytest.mark.parametrize("size", [1, None])
def test_no_pass_waits_for_the_gpu(family, strategy, size):
    module, x = Quantise(TERNARY, family, strategy).cuda(), torch.randn(4096, device="cuda", requires_grad=True)
    grad = torch.ones_like(x)
    with kernels.compiling(size):
        module(x).backward(grad)  # compiling and loading may wait
        torch.cuda.set_sync_debug_mode("error")
        try:
            module(x).backward(grad)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@on_gpu
@every_strategy
def test_training_on_a_gpu_gives_the_same_weights_twice(strategy):
    def weights():
        torch.manual_seed(0)
        net = training.quantise(models.mlp(64, (64,)), TERNARY, TERNARY, noise="uniform", strategy=strategy)
        schedule = Schedule.periodic(n_layers=1, period=2, interval="partition", std0=0.2887)
        training.fit(
            net,
            datasets.digits().train,
            schedule,
            epochs=3,
            lr=0.01,
            initialise="near_thresholds",
            seed=1,
            device="cuda",
            progress=False,
        )
        return [p.detach().cpu() for p in net.parameters()]

    assert all(torch.equal(a, b) for a, b in zip(weights(), weights()))


@on_gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_data_parallel_on_two_gpus_gives_the_gradients_of_one():
    net, x = network().cuda(), torch.randn(6, 2, 4, 4, device="cuda")
    net[1].eval()
    net(x).square().sum().backward()
    expected = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    nn.DataParallel(net)(x).square().sum().backward()
    for p, grad in zip(net.parameters(), expected):
        torch.testing.assert_close(p.grad, grad)
