"""Backward stopping: bit-identical to full backpropagation, whatever by-passes the quantisers, and never wrong in silence."""

import functools

import numpy as np
import pytest
import torch
from torch import nn
from training_helpers import TERNARY, bright_features, same

from anabook import Schedule, models, training
from anabook.datasets import standins
from anabook.noise import FAMILIES
from anabook.training import Quantise, Stopper, Stopping

PARTITION = dict(interval="partition", end=6, std0=12**-0.5)


def unit(n_in, n_out):
    return [nn.Linear(n_in, n_out, bias=False), nn.BatchNorm1d(n_out), nn.ReLU()]


class Skip(nn.Module):
    """x + f(x) around the second of three quantised layers; `around` leaves out the first quantiser as well."""

    def __init__(self, around):
        super().__init__()
        self.first, self.norm, self.act = unit(8, 8)
        self.inner, self.inner_norm, self.inner_act = unit(8, 8)
        self.third, self.third_norm, self.third_act = unit(8, 8)
        self.last, self.around = nn.Linear(8, 3), around

    def forward(self, x):
        z = self.norm(self.first(x))
        x = self.act(z)
        x = (z if self.around else x) + self.inner_act(self.inner_norm(self.inner(x)))
        return self.last(self.third_act(self.third_norm(self.third(x))))


class Stash(nn.Sequential):
    """A chain to look at, but its first layer puts its features aside and its last one uses them."""

    def forward(self, x):
        for i, module in enumerate(self):
            x = module(x)
            if i == 0:
                aside = x
            if i == len(self) - 2:
                x = x + aside
        return x


class Tied(nn.Module):
    """One weight in the first layer and in the last."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.act = unit(8, 8)
        self.second, self.second_norm, self.second_act = unit(8, 8)
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        x = self.second_act(self.second_norm(self.second(self.act(self.norm(self.first(x))))))
        return self.last(nn.functional.linear(x, self.first.weight))


NETWORKS = {
    "chain": lambda: nn.Sequential(*unit(8, 8), *unit(8, 8), *unit(8, 8), nn.Linear(8, 3)),
    "nested": lambda: nn.Sequential(
        nn.Sequential(*unit(8, 8)), nn.Sequential(nn.Sequential(*unit(8, 8)), *unit(8, 8)), nn.Linear(8, 3)
    ),
    "skip": lambda: Skip(around=False),
    "skip around the quantiser": lambda: Skip(around=True),
    "aside": lambda: Stash(*unit(8, 8), *unit(8, 8), *unit(8, 8), nn.Linear(8, 3)),
    "tied": Tied,
}


def network(name="chain", seed=0, **options):
    torch.manual_seed(seed)
    options = {"strategy": "random", "example": torch.zeros(1, 8), **options}
    return training.quantise(NETWORKS[name](), TERNARY, options.pop("activations", TERNARY), **options)


def train(net, stop, epochs=8, schedule=None, optimiser=torch.optim.Adam, **options):
    n = len(training.layers(net))
    schedule = schedule or Schedule(n_layers=n, **PARTITION)
    history = training.fit(
        net,
        bright_features(),
        schedule,
        epochs=epochs,
        batch_size=17,
        optimiser=optimiser,
        **{"lr": 0.02, "initialise": "near_thresholds", "stop": stop, **options},
    )
    return net, history


def stopped_names(net, std, inputs=None):
    """Names of the parameters that rest, with the given std in each layer."""
    training.set_noise(net, lambda layer, t: (0.0, std[layer]), 0)
    x, y = (torch.as_tensor(t) for t in bright_features())
    found = []
    for rule in (Stopping(), Stopping(same_path=True)):
        stopper = Stopper(net, rule)
        for step in range(3):
            stopper.renew()
            loss = nn.functional.cross_entropy(net(x), y)
            net.zero_grad()
            stopper.watch(loss)
            loss.backward()
            stopper.settle()
            if step:  # the first is computed in full where the network has to prove itself
                found.append({id(p) for p in stopper.resting})
        stopper.close()
    assert found[0] == found[1] == found[2] == found[3]
    return {
        name.replace("parametrizations.weight.original", "weight") for name, p in net.named_parameters() if id(p) in found[0]
    }


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("interval", ["partition", "same_end", "overlapped"])
@pytest.mark.parametrize("rule", [True, Stopping(same_path=True)])
def test_weights_are_bit_identical_to_full_backpropagation(name, interval, rule):
    def run(stop):
        net = network(name)
        return train(
            net, stop, schedule=Schedule(n_layers=len(training.layers(net)), interval=interval, end=6, std0=12**-0.5)
        )

    (a, first), (b, second) = run(rule), run(False)
    assert same(a, b) and first == second
    assert first[-1].stopped > 0
    assert all(h.stopped == 0 for h in second)


@pytest.mark.parametrize(
    "optimiser",
    [
        functools.partial(torch.optim.SGD, momentum=0.9, nesterov=True, weight_decay=1e-3),
        torch.optim.SGD,
        functools.partial(torch.optim.Adam, weight_decay=1e-2),
        torch.optim.AdamW,
        torch.optim.RMSprop,
        torch.optim.NAdam,
        functools.partial(torch.optim.Adam, amsgrad=True, foreach=True),
        functools.partial(torch.optim.Adam, fused=True),
    ],
)
@pytest.mark.parametrize("strategy", ["expectation", "mode", "random"])
def test_identity_holds_for_every_optimiser_and_strategy(optimiser, strategy):
    a, _ = train(network(strategy=strategy), True, optimiser=optimiser)
    b, _ = train(network(strategy=strategy), False, optimiser=optimiser)
    assert same(a, b)


@pytest.mark.parametrize("family", FAMILIES)
def test_identity_holds_for_every_family_and_noise_per_step(family):
    (a, _), (b, _) = (train(network(noise=family), stop, noise_every="iteration", precision=None) for stop in (True, False))
    assert same(a, b)


def test_identity_holds_in_mixed_precision():
    (a, _), (b, _) = (train(network(), stop, precision="float16") for stop in (True, False))
    assert same(a, b)


def test_a_whole_convolutional_run_is_bit_identical():
    images = standins.objects(40, 10)
    x = (images.x_train.astype(np.float32) - 120) / 60

    def run(stop):
        torch.manual_seed(0)
        net = training.quantise(models.vgg(1 / 32), TERNARY, TERNARY)
        training.fit(
            net,
            (x, images.y_train),
            Schedule.periodic(7, 1),
            epochs=9,
            batch_size=20,
            initialise="near_thresholds",
            stop=stop,
        )
        return net

    assert same(run(True), run(False))


def test_what_rests_is_the_deepest_dirac_activation_and_all_below_it():
    below = {"0.weight", "1.weight", "1.bias"}
    two = below | {"3.weight", "4.weight", "4.bias"}
    assert stopped_names(network(), (0.3, 0.3, 0.3)) == set()
    assert stopped_names(network(), (0.0, 0.3, 0.3)) == below
    assert stopped_names(network(), (0.0, 0.0, 0.3)) == stopped_names(network(), (0.3, 0.0, 0.3)) == two
    assert stopped_names(network(), (0.3, 0.3, 0.0)) == two | {"6.weight", "7.weight", "7.bias"}
    assert stopped_names(network(), (1e-30, 0.3, 0.3)) == set()


def test_dirac_weight_quantiser_stops_its_own_latent_weight_only():
    net = network(activations=None)
    assert stopped_names(net, (0.3, 0.0, 0.3)) == {"3.weight"}
    net = network(keep=("last", "5"))  # the second activation stays in float, the second weight is quantised
    assert stopped_names(net, (0.3, 0.0, 0.3)) == {"3.weight"}


def test_skip_connections_keep_their_gradients():
    inner = {"inner.weight", "inner_norm.weight", "inner_norm.bias"}
    below = {"first.weight", "norm.weight", "norm.bias"}
    assert stopped_names(network("skip"), (0.3, 0.0, 0.3)) == inner
    assert stopped_names(network("skip"), (0.0, 0.0, 0.3)) == inner | below
    # Around the first quantiser: only the latent weight of the first layer is behind its own quantiser alone.
    assert stopped_names(network("skip around the quantiser"), (0.0, 0.0, 0.3)) == inner | {"first.weight"}
    assert stopped_names(network("aside"), (0.0, 0.3, 0.3)) == {"0.weight", "1.weight", "1.bias"}
    # The tied weight's own quantiser is Dirac wherever it is used.
    assert stopped_names(network("tied"), (0.0, 0.3, 0.3)) == {"first.weight", "norm.weight", "norm.bias"}


def test_value_put_aside_keeps_the_first_layer_in_training_where_its_weight_is_float():
    torch.manual_seed(0)
    net = training.quantise(NETWORKS["aside"](), None, TERNARY, example=torch.zeros(1, 8))
    assert stopped_names(net, (0.0, 0.3, 0.3)) == {"1.weight", "1.bias"}
    tied = training.quantise(Tied(), None, TERNARY, example=torch.zeros(1, 8))
    assert stopped_names(tied, (0.0, 0.3)) == {"norm.weight", "norm.bias"}


def test_below_a_stopped_layer_nothing_is_kept_for_a_backward_pass():
    net = network()
    training.set_noise(net, lambda layer, t: (0.0, [0.0, 0.0, 0.3][layer]), 0)
    x, y = (torch.as_tensor(t) for t in bright_features())
    stopper = Stopper(net)
    sizes = []
    for _ in range(2):
        stopper.renew()
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t), t)[1], lambda t: t):
            loss = nn.functional.cross_entropy(net(x), y)
        stopper.watch(loss)
        loss.backward()
        stopper.settle()
        sizes.append(len(kept))
    features = [m(x) for m in (net[0], net[:2], net[:3])]
    assert not any(f.requires_grad for f in features) and net[:7](x).requires_grad
    assert sizes[1] < sizes[0]
    stopper.close()
    assert all(p.requires_grad for p in net.parameters())


class Moody(nn.Module):
    """Every fourth batch takes a path of its own: before the last layer, or behind it."""

    def __init__(self, behind=False):
        super().__init__()
        self.first, self.norm, self.act = unit(8, 8)
        self.last, self.behind, self.calls = nn.Linear(8, 3), behind, 0

    def forward(self, x):
        self.calls += 1
        z = self.norm(self.first(x))
        if self.calls % 4:
            return self.last(self.act(z))
        return self.last(self.act(z)) + z[:, :3] if self.behind else self.last(self.act(z) + z)


def moody(stop, behind=False):
    torch.manual_seed(0)
    net = training.quantise(Moody(behind), None, TERNARY)
    return train(net, stop, schedule=Schedule.static(1, std=0.0), initialise=None)[0]


@pytest.mark.parametrize("behind", [False, True])
def test_network_that_changes_its_path_is_trained_as_without_stopping(behind):
    assert same(moody(True, behind), moody(False, behind))


def test_broken_promise_of_the_same_path_is_noticed_behind_the_cut():
    with pytest.raises(RuntimeError, match=r"^the network took another path .*: train it without same_path=True\.$"):
        moody(Stopping(same_path=True), behind=True)


def test_only_chains_of_known_modules_are_taken_to_keep_their_path():
    from anabook.training.stopping import _same_path

    assert _same_path(network()) and _same_path(network("nested"))
    assert all(
        _same_path(training.quantise(make(), TERNARY, TERNARY)) for make in (lambda: models.vgg(1 / 32), models.dscnn)
    )
    assert not any(_same_path(network(name)) for name in ("skip", "aside", "tied"))
    hooked = network()
    hooked[3].register_forward_hook(lambda *_: None)
    assert not _same_path(hooked)


def test_parameters_that_rested_have_exact_zeros_or_no_gradient():
    for rule, expected in ((Stopping(), "zeros"), (Stopping(still=True), "none")):
        net = network()
        training.set_noise(net, lambda layer, t: (0.0, 0.3 * (layer > 0)), 0)
        x, y = (torch.as_tensor(t) for t in bright_features())
        stopper = Stopper(net, rule)
        for _ in range(2):
            stopper.renew()
            loss = nn.functional.cross_entropy(net(x), y)
            stopper.watch(loss)
            loss.backward()
            stopper.settle()
        for p in (net[0].parametrizations.weight.original, net[1].weight, net[1].bias):
            assert (p.grad is None) if expected == "none" else (p.grad == 0).all()


def test_momentum_runs_out_in_the_plain_algorithm_and_not_where_all_is_still():
    def latent_before_and_after(stop):
        net, _ = train(network(), stop, epochs=2)
        before = net[0].parametrizations.weight.original.detach().clone()
        longer, _ = train(network(), stop, epochs=5)
        return before, longer[0].parametrizations.weight.original

    before, after = latent_before_and_after(Stopping())
    assert not torch.equal(before, after)
    before, after = latent_before_and_after(Stopping(still=True))
    assert torch.equal(before, after)


def test_batch_statistics_of_the_finished_part_go_on_unless_features_are_cached():
    def statistics(stop, epochs):
        net, _ = train(network(), stop, epochs=epochs)
        return net[1].running_mean.clone(), int(net[1].num_batches_tracked)

    for stop in (True, Stopping(still=True)):
        assert statistics(stop, 8)[1] == 8 * 4
        assert not torch.equal(statistics(stop, 3)[0], statistics(stop, 8)[0])
    cached, early = statistics(Stopping(cache=True), 8), statistics(Stopping(cache=True), 2)
    assert cached[1] == early[1] == 2 * 4 and torch.equal(cached[0], early[0])


def test_training_on_cached_features_is_training_with_a_frozen_part():
    def by_hand():
        """The same without a cache: the finished part in evaluation mode, its quantisers apart, and out of the optimiser."""
        net = network()
        schedule = Schedule(n_layers=3, **PARTITION)

        def freeze(module, args):
            done = [layer for layer in range(3) if training.layers(net)[layer].weight.std == 0.0]
            for m in net[: 3 * len(done)].modules():
                m.training = isinstance(m, Quantise) or "parametrizations" in type(m).__module__
            for p in net[: 3 * len(done)].parameters():
                p.requires_grad_(False)

        net.register_forward_pre_hook(freeze)
        return train(net, False, schedule=schedule)

    (a, first), (b, second) = train(network(), Stopping(cache=True)), by_hand()
    assert [h.stopped for h in first] == 2 * [0] + 2 * [80] + 2 * [160] + 2 * [240]  # 64 weights, 16 of the normalisation
    for x, y in zip(a.state_dict().values(), b.state_dict().values()):
        torch.testing.assert_close(x, y)
    assert [h.train.loss for h in first] == pytest.approx([h.train.loss for h in second], rel=1e-4)


def test_finished_part_is_computed_once_where_features_are_cached():
    net, calls = network(), []
    net[0].register_forward_hook(lambda module, i, o: calls.append(module.training))
    train(net, Stopping(cache=True), epochs=8)
    # Two epochs of four batches in training; then the 60 examples once for each of the three parts that finish.
    assert calls == [True] * 8 + [False] * 3


def test_layers_that_are_still_noisy_are_never_cached():
    def outputs(net):
        stopper = Stopper(net, Stopping(cache=True), torch.as_tensor(bright_features()[0]))
        training.set_noise(net, lambda layer, t: (0.0, [0.3, 0.3, 0.0][layer]), 0)
        stopper.renew()
        depth = stopper._depth
        stopper.close()
        return depth

    assert outputs(network()) == 0


@pytest.mark.parametrize(
    "call, error, message",
    [
        (
            lambda: Stopper(network("skip"), Stopping(cache=True)),
            ValueError,
            "cached in a torch.nn.Sequential only, not in a Skip",
        ),
        (lambda: Stopper(network("aside"), Stopping(cache=True)), ValueError, "not in a Stash"),
        (lambda: Stopping(still=1), TypeError, "still must be True or False, not 1"),
        (lambda: Stopping(cache="yes"), TypeError, "cache must be True or False, not 'yes'"),
    ],
)
def test_bad_rules_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
