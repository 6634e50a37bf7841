"""Networks with learned quanta: converted, trained, stopped and resumed, saved, deployed, read as integers."""

import copy
import functools
import pickle
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from training_helpers import TERNARY, bright_features, same

from anabook import Quantiser, Schedule, deploy, models, training
from anabook.training import Learned, Scaled, learned_quanta
from anabook.training.places import with_fixed_quanta
from anabook.training.quanta import check_quanta, spare_from_decay

UNSIGNED = Quantiser.linear(2, signed=False, rounding="nearest")
X, Y = bright_features()


def network(weights=TERNARY, activations=UNSIGNED, per="channel", seed=0, **settings):
    torch.manual_seed(seed)
    net = models.mlp(8, (12, 6), n_classes=3)
    scales = training.calibrate(net, torch.from_numpy(X), weights, activations, per=per)
    return training.quantise(net, weights, activations, scales=scales, **{"quantum": "learned", **settings})


def quanta(net):
    return {name: value.detach().clone() for name, value in learned_quanta(net).items()}


def schedule(net, period=1):
    return Schedule.for_network(net, period=period)


# Conversion ---------------------------------------------------------------------------------------------------------


def test_every_quantum_is_a_parameter_of_its_layer_or_channel():
    net = network()
    shapes = {name: tuple(q.shape) for name, q in learned_quanta(net).items()}
    assert shapes == {
        "fc1.parametrizations.weight.0.scale": (12, 1),
        "fc1_act.scale": (),
        "fc2.parametrizations.weight.0.scale": (6, 1),
        "fc2_act.scale": (),
    }
    assert {id(p) for p in learned_quanta(net).values()} <= {id(p) for p in net.parameters()}
    assert [len(layer.activations) for layer in training.layers(net)] == [1, 1]
    net(torch.from_numpy(X)).square().sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape and p.grad.any() for p in learned_quanta(net).values())
    assert not net.fc1_act.batched is net.fc1.parametrizations.weight[0].batched is False
    one = network(per="layer")
    assert all(q.numel() == 1 for q in learned_quanta(one).values())


def test_without_scales_quanta_start_at_the_quantisers_own():
    net = training.quantise(models.mlp(8, (6,)).double(), TERNARY, TERNARY, quantum="learned")
    assert [(q.item(), q.dtype) for q in learned_quanta(net).values()] == [(1.0, torch.float64)] * 2
    assert torch.equal(
        net.eval()(torch.from_numpy(X).double()),
        training.deploy(net)(torch.from_numpy(X).double()),
    )


def test_weights_and_activations_can_be_learned_each_for_itself():
    net = network(quantum={"activations": "learned"}, quantum_gradient="expectation", gradient_scale={"activations": "lsq"})
    assert [type(m) for m in net.modules() if isinstance(m, Scaled)] == [Scaled, Learned, Scaled, Learned]
    assert net.fc1_act.settings == ("expectation", "lsq", True)
    net = network(quantum_gradient={"activations": "expectation"}, gradient_scale={"weights": 0.5})
    assert net.fc1_act.settings == ("expectation", None, True)
    assert net.fc1.parametrizations.weight[0].settings == ("value", 0.5, False)


def test_start_of_learned_step_sizes():
    torch.manual_seed(0)
    net, x = models.mlp(8, (12,), n_classes=3).eval(), torch.from_numpy(X)
    fine = Quantiser.linear(4, rounding="nearest")
    scales = training.calibrate(net, x, fine, UNSIGNED, rule="lsq")
    np.testing.assert_allclose(scales["fc1"], 2 * net.fc1.weight.detach().abs().mean() / 7**0.5, rtol=1e-6)
    features = net.fc1_act(net.fc1_norm(net.fc1(x)))
    np.testing.assert_allclose(scales["fc1_act"], 2 * features.detach().abs().mean() / 3**0.5, rtol=1e-6)
    channels = training.calibrate(net, weights=Quantiser.linear(4, quantum=0.5), per="channel", rule="lsq")["fc1"]
    np.testing.assert_allclose(channels, 4 * net.fc1.weight.detach().abs().mean(1, keepdim=True) / 7**0.5, rtol=1e-6)
    with pytest.raises(ValueError, match="rule must be one of 'error', 'lsq', not 'mse'"):
        training.calibrate(net, weights=fine, rule="mse")


def test_shared_activations_have_a_quantum_for_each_layer():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.last, self.act = nn.Linear(8, 6), nn.Linear(6, 6), nn.Linear(6, 3), nn.ReLU()

        def forward(self, x):
            return self.last(self.act(self.two(self.act(self.one(x)))))

    net = training.quantise(Shared(), TERNARY, UNSIGNED, scales={"act.quantisers.1": 0.3, "act": 0.2}, quantum="learned")
    assert [name for name in learned_quanta(net) if name.startswith("act")] == [f"act.quantisers.{i}.scale" for i in (0, 1)]
    x = torch.from_numpy(X)
    net(x).sum().backward()
    small = training.deploy(net)
    assert not learned_quanta(small) and torch.equal(small(x), net.eval()(x))
    assert [q.scale.item() for q in small.act.quantisers] == pytest.approx([0.2, 0.3])
    with torch.no_grad():
        net.act.quantisers[1].scale.copy_(net.act.quantisers[0].scale)
    assert type(training.deploy(net).act) is Scaled


def test_report_tells_learned_quanta():
    first = training.report(network())[0]
    assert first.weight_scaled and first.weight_learned
    assert "{-1, 0, 1} · learned quantum" in str(training.report(network()))
    fixed = training.report(network(quantum=None))[0]
    assert fixed.weight_scaled and not fixed.weight_learned


@pytest.mark.parametrize(
    "settings, error, message",
    [
        ({"quantum": "learnt"}, ValueError, "quantum must be one of 'learned', not 'learnt'. Did you mean 'learned'"),
        ({"quantum": True}, TypeError, "quantum must be one of 'learned', not True"),
        (
            {"quantum": {"weight": "learned"}},
            ValueError,
            "each name in quantum must be one of 'weights', 'activations', not 'weight'",
        ),
        (
            {"quantum": None, "gradient_scale": "lsq"},
            ValueError,
            "quantum_gradient and gradient_scale are for learned quanta",
        ),
        ({"quantum_gradient": "ends"}, ValueError, "quantum_gradient must be one of 'value', 'expectation', not 'ends'"),
        ({"gradient_scale": -1.0}, ValueError, "gradient_scale must be"),
        ({"scales": {"fc1": 0.0}}, ValueError, "scale must be finite and greater than 0 everywhere, not 0.0"),
        ({"scales": {"fc1_act": float("nan")}}, ValueError, "scale must be finite"),
    ],
)
def test_what_cannot_be_learned_is_refused_in_one_sentence(settings, error, message):
    with pytest.raises(error, match=message):
        training.quantise(models.mlp(8, (6,)), TERNARY, TERNARY, **{"quantum": "learned", **settings})


# Training -----------------------------------------------------------------------------------------------------------


def test_quanta_are_learned_under_a_schedule_and_without_one():
    for rule in (None, schedule):
        net = network(gradient_scale="lsq")
        before, plan = quanta(net), rule and rule(net)
        history = training.fit(net, (X, Y), plan, epochs=30, batch_size=20, lr=0.01, test=(X, Y))
        assert history[-1].test.loss < 0.6 * history[0].test.loss and history[-1].test.accuracy > 0.75
        assert all((value != before[name]).all() and (value > 0).all() for name, value in quanta(net).items())


def test_training_is_the_same_each_time_with_and_without_stopping_and_from_a_checkpoint(tmp_path):
    def train(epochs=4, stop=True, **settings):
        net = network(strategy="random")
        training.fit(net, (X, Y), schedule(net), epochs=epochs, batch_size=16, lr=0.01, stop=stop, **settings)
        return net

    once = train()
    assert (
        same(once, train()) and same(once, train(stop=False)) and same(once, train(stop=training.Stopping(same_path=True)))
    )
    net = network(strategy="random")
    settings = {"batch_size": 16, "lr": 0.01, "checkpoint": tmp_path / "run.pt"}
    training.fit(net, (X, Y), schedule(net), epochs=2, **settings)
    other = network(strategy="random", seed=1)
    training.fit(other, (X, Y), schedule(other), epochs=4, **settings)
    assert same(once, other)
    for changed in ({"gradient_scale": "lsq"}, {"quantum_gradient": "expectation"}, {"quantum": None}):
        net = network(strategy="random", **changed)
        with pytest.raises(ValueError, match="is from another config: its network is"):
            training.fit(net, (X, Y), schedule(net), epochs=5, **settings)


def test_a_silent_network_goes_on_learning_the_last_quantum_that_is_seen():
    """The gradient stops at the deepest silent activation, whose quantum has that of its levels; all above learn on."""
    nets = []
    for stop in (True, False):
        net = network()
        training.set_noise(net, lambda layer, t: (0.0, 0.0), 0)
        before = quanta(net)
        training.fit(net, (X, Y), None, epochs=3, batch_size=20, lr=0.01, stop=stop)
        moved = {name for name, value in quanta(net).items() if (value != before[name]).any()}
        assert moved == {"fc2_act.scale"}
        nets.append(net)
    assert same(*nets)


def test_features_of_a_finished_part_are_cached_with_its_quanta():
    torch.manual_seed(0)
    floats = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3))
    net = training.quantise(floats, TERNARY, UNSIGNED, scales={"0": 0.2, "1": 0.3, "2": 0.2, "3": 0.2}, quantum="learned")

    def plan(layer, t):
        return 0.0, 0.0 if layer == 0 else 0.3

    before = quanta(net)
    training.fit(net, (X, Y), plan, epochs=2, stop=training.Stopping(cache=True), lr=0.01)
    moved = {name for name, value in quanta(net).items() if (value != before[name]).any()}
    assert moved == {"2.parametrizations.weight.0.scale", "3.scale"}


def test_weight_decay_spares_the_quanta_unless_groups_say_otherwise():
    net = network()
    optimiser = torch.optim.AdamW(net.parameters(), lr=0.1, weight_decay=0.3)
    spare_from_decay(optimiser, net)
    assert [group["weight_decay"] for group in optimiser.param_groups] == [0.3, 0.0]
    assert {id(p) for p in optimiser.param_groups[1]["params"]} == {id(p) for p in learned_quanta(net).values()}
    assert sum(len(group["params"]) for group in optimiser.param_groups) == len(list(net.parameters()))
    own = torch.optim.AdamW([{"params": [p]} for p in net.parameters()], weight_decay=0.3)
    spare_from_decay(own, net)
    assert {group["weight_decay"] for group in own.param_groups} == {0.3}
    plain = torch.optim.Adam(net.parameters())
    spare_from_decay(plain, net)
    assert len(plain.param_groups) == 1
    training.set_noise(net, lambda layer, t: (0.0, 0.0), 0)
    before = quanta(net)
    training.fit(net, (X, Y), None, epochs=2, optimiser=functools.partial(torch.optim.SGD, weight_decay=0.1), lr=0.1)
    after = quanta(net)
    assert torch.equal(after["fc1_act.scale"], before["fc1_act.scale"])


@pytest.mark.parametrize("optimiser", [torch.optim.SGD, torch.optim.Adam])
def test_no_step_takes_away_more_than_half_of_a_quantum(optimiser):
    net = network()
    made = optimiser(net.parameters(), lr=1.0)
    training.keep_positive(made, net)
    for p in net.parameters():
        p.grad = torch.full_like(p, 10.0)
    before, weight = quanta(net), net.last.weight.detach().clone()
    made.step()
    assert all(torch.equal(value, before[name] / 2) for name, value in quanta(net).items())
    assert (net.last.weight < weight).all()  # others take the whole step
    for p in learned_quanta(net).values():
        p.grad = torch.full_like(p, torch.nan)
    made.step()
    assert all(value.isnan().all() for value in quanta(net).values())  # not hidden


def test_fit_keeps_quanta_positive_at_a_rate_that_would_not():
    net = network(gradient_scale=1e3)
    training.fit(net, (X, Y), None, epochs=2, batch_size=20, optimiser=torch.optim.SGD, lr=0.05)
    assert all((value > 0).all() for value in quanta(net).values())


def test_a_quantum_that_is_lost_is_refused_with_the_name_of_its_layer():
    net = network()

    def spoil(epoch, net):
        with torch.no_grad():
            net.fc2.parametrizations.weight[0].scale[3] = -0.1

    with pytest.raises(FloatingPointError, match="the learned quantum of the weight of 'fc2' became -0.1"):
        training.fit(net, (X, Y), None, epochs=2, callback=spoil)


def test_all_quanta_of_a_network_are_checked_with_one_read_of_the_device():
    reads = []

    class Reads(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            reads.append(func) if func is torch.ops.aten._local_scalar_dense.default else None
            return func(*args, **(kwargs or {}))

    net = network()
    assert len(training.learned_quanta(net)) > 2
    with Reads():
        check_quanta(net)
    assert len(reads) == 1
    with torch.no_grad():
        net.fc1_act.scale.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="the learned quantum of 'fc1_act' became nan"):
        check_quanta(net)
    check_quanta(models.mlp(8, (6,)))  # which has none


@pytest.mark.parametrize("settings", [{"precision": "bfloat16"}, {"compile": True}], ids=str)
def test_precision_and_compiled_steps_learn_the_quanta(settings):
    torch.manual_seed(0)
    floats = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
    net = training.quantise(floats, TERNARY, UNSIGNED, scales={"0": 0.2, "1": 0.3}, quantum="learned", gradient_scale="lsq")
    plain, before = copy.deepcopy(net), quanta(net)
    training.fit(plain, (X, Y), None, epochs=1, batch_size=20, optimiser=torch.optim.SGD, lr=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # a fallback must not go unnoticed
        training.fit(net, (X, Y), None, epochs=1, batch_size=20, optimiser=torch.optim.SGD, lr=0.1, **settings)
    for name, value in quanta(net).items():
        assert value.dtype == torch.float32 and value != before[name]
        torch.testing.assert_close(value, quanta(plain)[name], rtol=0.01 if "precision" in settings else 1e-5, atol=0)


def test_a_loop_of_ones_own_needs_no_more_than_the_noise_to_be_set():
    net = network()
    optimiser, plan = torch.optim.Adam(net.parameters(), lr=0.01), schedule(net)
    x, y = torch.from_numpy(X), torch.from_numpy(Y)
    for t in range(6):
        training.set_noise(net, plan, t)
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimiser.step()
    assert all((value > 0).all() for value in quanta(net).values())


# Afterwards ---------------------------------------------------------------------------------------------------------


def test_deployed_quanta_are_constants_and_the_network_is_the_same_and_exact_as_integers():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 17, (40, 8)).astype(np.uint8)
    torch.manual_seed(0)
    floats = models.mlp(8, (12, 6), n_classes=3)
    features = torch.from_numpy(x).float() / 16
    scales = training.calibrate(floats, features, TERNARY, UNSIGNED, per="channel")
    net = training.quantise(floats, TERNARY, UNSIGNED, scales=scales, quantum="learned")
    training.fit(net, (features, np.arange(40) % 3), schedule(net), epochs=3, lr=0.01)
    small = training.deploy(net)
    assert not learned_quanta(small) and learned_quanta(net)
    assert [type(m) for m in small.modules() if isinstance(m, Scaled)] == [Scaled, Scaled]
    assert set(small.state_dict()) == {*floats.state_dict(), "fc1_act.scale", "fc2_act.scale"}
    assert torch.equal(small(features), net.eval()(features))
    assert not any(buffer.requires_grad for buffer in small.buffers())
    found = deploy.compare(small, deploy.to_integer(small, x, std=16, bounds=(0, 16)), x)
    assert found.equal and found.elements == 40 * 18
    assert same(pickle.loads(pickle.dumps(small)), small)
    loaded = training.deploy(network())
    loaded.load_state_dict(small.state_dict())
    assert torch.equal(loaded(features), small(features))


def test_noise_of_a_network_with_learned_quanta_can_be_certified():
    net = network(per="layer")
    training.set_noise(net, lambda layer, t: (0.0, 0.01), 0)
    found, fixed = (training.certified(n, torch.from_numpy(X)) for n in (net, with_fixed_quanta(copy.deepcopy(net))))
    assert str(found) == str(fixed)


def test_state_dicts_go_from_fixed_to_learned_quanta_and_to_float_networks():
    torch.manual_seed(3)
    net, fixed, floats = network(), network(quantum=None, seed=1), models.mlp(8, (12, 6), n_classes=3)
    assert net.state_dict().keys() == fixed.state_dict().keys()
    fixed.load_state_dict(net.state_dict())
    assert same(net, fixed) and torch.equal(net.eval()(torch.from_numpy(X)), fixed.eval()(torch.from_numpy(X)))
    back = network(seed=2)
    back.load_state_dict(fixed.state_dict())
    assert same(net, back)
    floats.load_state_dict(training.float_state_dict(net))
    before = quanta(net)
    net.load_state_dict(floats.state_dict())
    assert all(torch.equal(value, before[name]) for name, value in quanta(net).items())
    assert all(q.is_leaf and q.requires_grad for q in learned_quanta(net).values())


def test_copies_and_types():
    net = network(strategy="random", gradient_scale="lsq")
    x = torch.from_numpy(X)
    other = copy.deepcopy(net)
    assert same(net, other) and other.fc1_act.settings == net.fc1_act.settings
    with torch.no_grad():
        other.fc1_act.scale.mul_(2)
    assert not same(net, other)
    double = copy.deepcopy(net).double()
    assert all(q.dtype == torch.float64 for q in learned_quanta(double).values())
    double(x.double()).sum().backward()
    half = copy.deepcopy(net).bfloat16()
    half(x.bfloat16()).sum().backward()
    assert all(q.grad.dtype == torch.bfloat16 for q in learned_quanta(half).values())
    assert not learned_quanta(with_fixed_quanta(copy.deepcopy(net)))
