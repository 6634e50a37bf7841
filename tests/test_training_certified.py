"""Certificates of trained networks: never broken by any noise, and what is counted is what is there."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from anabook import Noise, Quantiser, models, training
from anabook.convergence import finite_noise
from anabook.training import certified
from anabook.training.enclosures import Enclosing, Ends
from anabook.variants import VARIANTS

TERNARY = Quantiser.ternary()
STRATEGIES = ("expectation", "mode", "random")


def fitted(net: nn.Module, x: torch.Tensor) -> nn.Module:
    """Normalisations with the statistics of these inputs, and scales of both signs."""
    generator = torch.Generator().manual_seed(1)
    for m in net.modules():
        if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)):
            with torch.no_grad():
                m.weight.copy_(torch.randn(m.weight.shape, generator=generator))
                m.bias.copy_(0.3 * torch.randn(m.bias.shape, generator=generator))
    training.initialise_near_thresholds(net, 0)
    training.recalibrate(net, x)
    return net


def dense(seed: int, x: torch.Tensor, noise="uniform", strategy="random", hidden=(6, 6)) -> nn.Module:
    torch.manual_seed(seed)
    net = training.quantise(models.mlp(x.shape[1], hidden, n_classes=4), TERNARY, TERNARY, noise=noise, strategy=strategy)
    return fitted(net, x)


class Residual(nn.Module):
    """Convolutions with a by-pass, a pool and functions in place of modules."""

    def __init__(self):
        super().__init__()
        self.conv1, self.norm1, self.act1 = nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU()
        self.conv2, self.norm2, self.act2 = nn.Conv2d(4, 4, 3, padding=1, groups=2), nn.BatchNorm2d(4), nn.ReLU()
        self.pool, self.last = nn.MaxPool2d(2), nn.Linear(16, 3)

    def forward(self, x):
        x = self.act1(self.norm1(self.conv1(x)))
        x = x + self.act2(self.norm2(self.conv2(x)))
        return self.last(torch.flatten(self.pool(x), 1))


def images(seed=0, n=24):
    return torch.tensor(np.random.default_rng(seed).normal(size=(n, 2, 4, 4)).astype(np.float32))


def residual(seed: int, x: torch.Tensor, strategy="random", **more) -> nn.Module:
    torch.manual_seed(seed)
    return fitted(training.quantise(Residual(), TERNARY, TERNARY, strategy=strategy, **more), x)


def vectors(seed=0, n=40, width=5):
    return torch.tensor(np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32))


def noisy_outputs(net: nn.Module, x: torch.Tensor, weights=False) -> torch.Tensor:
    net.eval()
    found = training.layers(net)
    for layer in found:
        for m in (*layer.activations, *([layer.weight] if weights else [])):
            m.training = True
    with torch.no_grad():
        out = net(x)
    net.eval()
    return out


def set_noise(net, stds, means=None):
    means = [0.0] * len(stds) if means is None else means
    training.set_noise(net, lambda layer, t: (means[layer], stds[layer]), 0)


cases = st.tuples(
    st.integers(0, 10**6),
    st.sampled_from(("uniform", "triangular")),
    st.lists(st.floats(1e-4, 0.05), min_size=2, max_size=2),
    st.lists(st.floats(-0.02, 0.02), min_size=2, max_size=2),
)


@given(cases, st.booleans())
@settings(max_examples=25, deadline=None)
def test_what_is_certified_is_kept_by_every_strategy_and_every_draw(case, by_images):
    seed, family, stds, means = case
    x = images(seed) if by_images else vectors(seed)
    build = residual if by_images else dense
    shares, kept = [], None
    for strategy in STRATEGIES:
        net = build(seed, x, noise=family, strategy=strategy)
        set_noise(net, stds, means)
        shares.append((found := certified(net, x, draws=2)).certified)
        assert 0 <= found.unreached <= found.certified <= 1 and found.certified <= 1 - found.disagreement + 1e-9
        net.eval()
        quantised = net(x).argmax(1)
        same = torch.stack([noisy_outputs(net, x).argmax(1) == quantised for _ in range(8)]).all(0)
        kept = same if kept is None else kept & same
    assert len(set(shares)) == 1  # the certificate does not ask for the strategy
    assert kept.double().mean() >= shares[0]


@given(cases)
@settings(max_examples=25, deadline=None)
def test_an_input_out_of_reach_gives_the_same_outputs_bit_for_bit(case):
    seed, family, stds, means = case
    x = vectors(seed)
    for strategy in STRATEGIES:
        net = dense(seed, x, noise=family, strategy=strategy)
        set_noise(net, stds, means)
        net.eval()
        alone = [certified(net, x[i : i + 1], intervals=False, draws=1).unreached for i in range(12)]
        assert certified(net, x[:12], intervals=False, draws=1).unreached == pytest.approx(np.mean(alone))
        free = torch.tensor(alone) == 1
        quantised = net(x[:12])
        for _ in range(5):
            assert torch.equal(noisy_outputs(net, x[:12])[free], quantised[free])


@given(cases, st.booleans(), st.booleans(), st.sampled_from(STRATEGIES))
@settings(max_examples=40, deadline=None)
def test_intervals_hold_every_noisy_output(case, by_images, weights, strategy):
    seed, family, stds, means = case
    x = images(seed, 8) if by_images else vectors(seed, 8)
    net = (residual if by_images else dense)(seed, x, noise=family, strategy=strategy)
    set_noise(net, stds, means)
    names = {m: name for name, m in net.named_modules()}
    ends = {}
    for layer in training.layers(net):
        for m in (*layer.activations, *([layer.weight] if weights else [])):
            ends[names[m]] = Ends(*Noise(family, m.mean, m.std).support)
    low, high = Enclosing(net, ends)(x)
    assert (low <= high).all()
    for _ in range(5):
        out = noisy_outputs(net, x, weights).double()
        slack = 1e-5 * (1 + out.abs())
        assert ((low - slack <= out) & (out <= high + slack)).all()


def test_intervals_without_noise_are_the_outputs_themselves():
    for net, x in ((dense(0, vectors()), vectors()), (residual(0, images()), images())):
        low, high = Enclosing(net, {})(x)
        net.eval()
        assert torch.equal(low, high) and torch.allclose(low.float(), net(x), atol=1e-5)


def test_intervals_tell_more_than_a_look_at_each_unit():
    x = vectors(3, 400)
    net = dense(3, x, hidden=(12, 12))
    set_noise(net, [0.0, 0.02])
    found = certified(net, x)
    assert found.certified > found.unreached + 0.05


def test_what_is_counted_is_what_is_within_reach():
    x = vectors(5, 300)
    net = dense(5, x)
    set_noise(net, [0.03, 0.01], [0.0, -0.02])
    seen = {}
    activations = [layer.activations[0] for layer in training.layers(net)]
    hooks = [m.register_forward_pre_hook(lambda m, args: seen.__setitem__(m, args[0].detach())) for m in activations]
    net.eval()(x)
    for hook in hooks:
        hook.remove()
    found = certified(net, x, intervals=False)
    free = np.ones(len(x), bool)
    for row, m in zip(found.layers, activations):
        noise = Noise("uniform", m.mean, m.std)
        near = finite_noise.within_reach(TERNARY, noise, seen[m].numpy())
        free &= ~near.any(1)
        assert row.near == pytest.approx(near.sum(1).mean(), abs=0.01)
        window = (np.abs(seen[m].numpy()[..., None] - TERNARY.thresholds) < 0.1).sum() / len(x) / 6 / 2 / 0.2
        assert row.density == pytest.approx(window, rel=0.01) and row.hits == 0
        assert row.by_density == pytest.approx(6 * row.density * finite_noise.exposure(TERNARY, noise, "random"))
        chances = finite_noise.change_probability(TERNARY, noise, seen[m].numpy()).sum(1).mean()
        assert row.expected == pytest.approx(chances, abs=1e-3)
        assert (row.low, row.high, row.units) == (*noise.support, 6)
    assert found.unreached == pytest.approx(free.mean(), abs=0.01)
    assert found.bound == pytest.approx(min(1, sum(row.expected for row in found.layers)))
    assert found.density_bound == pytest.approx(min(1, sum(row.by_density for row in found.layers)))


def test_each_strategy_has_the_bound_of_its_own():
    x = vectors(5, 200)
    bounds = {}
    for strategy in STRATEGIES:
        net = dense(5, x, strategy=strategy)
        set_noise(net, [0.005, 0.005])
        found = certified(net, x, intervals=False)
        bounds[strategy] = sum(row.by_density for row in found.layers)
        near = sum(row.near for row in found.layers)
        assert sum(row.expected for row in found.layers) == {"mode": 0, "expectation": pytest.approx(near)}.get(
            strategy, pytest.approx(near / 4, rel=0.3)
        )
    assert bounds["mode"] == 0
    assert bounds["expectation"] / bounds["random"] == pytest.approx(2 * math.sqrt(3) / (math.sqrt(3) / 2))


def integers(seed: int, strategy: str = "random") -> tuple[nn.Module, torch.Tensor]:
    """A network whose pre-activations are multiples of a quarter, with thresholds at multiples of a half."""
    rng = np.random.default_rng(seed)
    net = nn.Sequential(nn.Linear(8, 8, bias=False), nn.ReLU(), nn.Linear(8, 8, bias=False), nn.ReLU(), nn.Linear(8, 4))
    net = training.quantise(net, None, TERNARY, strategy=strategy)
    with torch.no_grad():
        for layer in (net[0], net[2]):
            layer.weight.copy_(torch.tensor(rng.integers(-1, 2, (8, 8)) / 4))
        net[4].weight.copy_(torch.tensor(rng.normal(size=(4, 8))))
    return net, torch.tensor(rng.integers(-1, 2, (300, 8)), dtype=torch.float32)


@given(st.integers(0, 10**6), st.floats(0.01, 0.1))
@settings(max_examples=10, deadline=None)
def test_units_exactly_on_a_threshold_are_in_the_bound_and_an_offset_saves_them(seed, std):
    net, x = integers(seed)
    h = math.sqrt(3) * std
    set_noise(net, [std, std])
    found = certified(net, x, draws=30)
    hits = sum(row.hits for row in found.layers)
    assert hits > 0 and sum(row.near for row in found.layers) >= hits and found.unreached < 1
    assert sum(row.expected for row in found.layers) == pytest.approx(hits / 2)  # the level falls in half of the draws
    assert found.disagreement <= found.bound + 5 * 0.5 / math.sqrt(30 * len(x))
    set_noise(net, [std, std], [-h * (1 + 1e-6)] * 2)
    aligned = certified(net, x)
    if 2 * h < 0.24:
        assert (aligned.unreached, aligned.certified, aligned.bound, aligned.disagreement) == (1, 1, 0, 0)


@given(cases)
@settings(max_examples=10, deadline=None)
def test_the_measured_share_is_within_the_bound_that_was_counted(case):
    seed, family, stds, means = case
    x = vectors(seed, 100)
    for strategy in STRATEGIES:
        net = dense(seed, x, noise=family, strategy=strategy)
        set_noise(net, stds, means)
        found = certified(net, x, intervals=False, draws=20)
        slack = 5 * 0.5 / math.sqrt(20 * len(x)) if strategy == "random" else 1e-9
        assert found.disagreement <= found.bound + slack


def test_the_measured_share_is_that_of_the_predictions():
    x = vectors(7, 200)
    net = dense(7, x, strategy="expectation")
    set_noise(net, [0.2, 0.2])
    net.eval()
    expected = (noisy_outputs(net, x).argmax(1) != net(x).argmax(1)).double().mean()
    found = certified(net, x, intervals=False, draws=9)
    assert (found.disagreement, found.draws, found.certified) == (pytest.approx(float(expected)), 1, None)
    noisy = dense(7, x)
    set_noise(noisy, [0.2, 0.2])
    once = certified(noisy, x, intervals=False, draws=20)
    assert once.draws == 20 and 0 < once.disagreement < 1
    assert once == certified(noisy, x, intervals=False, draws=20)
    assert once.disagreement != certified(noisy, x, intervals=False, draws=20, seed=1).disagreement


def test_without_noise_everything_is_certified():
    x = vectors(1)
    net = dense(1, x)
    set_noise(net, [0.0, 0.0])
    for weights in ("deployed", "noisy"):
        found = certified(net, x, weights=weights)
        assert (found.unreached, found.certified, found.bound, found.disagreement) == (
            1,
            1,
            0,
            0,
        ) and found.density_bound == 0


def test_noise_in_the_weights_counts_where_a_latent_weight_is_within_reach():
    x = vectors(2)
    net = dense(2, x)
    set_noise(net, [0.0, 1e-3])
    latent = training.layers(net)[1].weight
    with torch.no_grad():  # far from both thresholds
        net.fc2.parametrizations.weight.original.copy_(torch.randint(-1, 2, (6, 6)))
    assert latent.layer == 1
    far, deployed = certified(net, x, weights="noisy"), certified(net, x)
    assert far.layers[1].weights_near == 0 and far.unreached == deployed.unreached and far.certified == deployed.certified
    with torch.no_grad():
        net.fc2.parametrizations.weight.original[0, 0] = 0.5005
    near = certified(net, x, weights="noisy")
    assert near.layers[1].weights_near == 1 and near.unreached == 0 and near.bound == 1
    assert certified(net, x).layers[1].weights_near == 0


@pytest.mark.parametrize("family", ["normal", "logistic"])
def test_an_unbounded_law_is_cut_where_all_draws_of_an_input_miss_it_as_rarely_as_asked(family):
    x = vectors(4)
    net = dense(4, x, noise=family)
    set_noise(net, [1e-4, 1e-4])
    found = certified(net, x, miss=0.001)
    end = float(Noise(family, std=1e-4).isf(0.001 / 12 / 2))
    assert found.miss == 0.001 and found.layers[0].high == pytest.approx(end) and found.layers[0].low == pytest.approx(-end)
    assert found.certified > 0.8 and "the law being unbounded" in str(found)
    averaged = dense(4, x, noise=family, strategy="expectation")
    set_noise(averaged, [1e-4, 1e-4])
    net.eval()
    quantised, low_high = net(x), Enclosing(averaged, {"fc2_act": Ends(-end, end, 0.001 / 24, 0.001 / 24)})(x)
    assert (low_high.high - low_high.low).max() > 0  # what lies beyond the ends is added
    assert (noisy_outputs(averaged, x).argmax(1) == quantised.argmax(1)).double().mean() >= certified(averaged, x).certified


def test_a_variant_that_is_no_noise_reaches_as_far_as_its_mean():
    x = vectors(6)
    torch.manual_seed(0)
    variant = VARIANTS["fast_sigmoid"]
    assert not variant.is_probability
    net = fitted(training.quantise(models.mlp(5, (6,)), TERNARY, TERNARY, noise=variant, strategy="mode"), x)
    set_noise(net, [0.1], [0.0])
    assert certified(net, x, intervals=False).unreached == 1
    set_noise(net, [0.1], [0.3])
    row = certified(net, x, intervals=False).layers[0]
    assert (row.low, row.high) == (0.3, 0.3) and row.near > 0


def test_quanta_of_their_own_are_taken_into_account():
    x = vectors(8)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))
    scales = training.calibrate(net, x, TERNARY, TERNARY)
    net = training.quantise(net, TERNARY, TERNARY, strategy="random", scales=scales)
    set_noise(net, [0.01] * len(training.layers(net)))
    found = certified(net, x)
    assert 0 < found.unreached < 1 and found.unreached <= found.certified <= 1 - found.disagreement + 1e-9


def test_modes_random_states_and_weights_are_left_as_they_were():
    x = vectors(9)
    net = dense(9, x)
    net.train()
    net.fc1_norm.eval()
    set_noise(net, [0.1, 0.1])
    before = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [m.training for m in net.modules()]
    state = torch.random.get_rng_state()
    certified(net, x, weights="noisy")
    assert [m.training for m in net.modules()] == modes and torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not any(m._forward_pre_hooks for m in net.modules())


def test_a_generator_of_ones_own_is_put_back():
    x = vectors(9)
    generator = torch.Generator().manual_seed(5)
    net = nn.Sequential(nn.Linear(5, 4), training.Quantise(TERNARY, strategy="random", generator=generator), nn.Linear(4, 3))
    net[1].layer = 0
    state = generator.get_state()
    first, second = certified(net, x), certified(net, x)
    assert first == second and torch.equal(generator.get_state(), state)


def test_the_table_says_what_was_found():
    x = vectors(1)
    net = dense(1, x)
    set_noise(net, [0.01, 0.0])
    text = str(certified(net, x))
    assert text.splitlines()[0] == "40 inputs, 16 noisy passes, weights deployed"
    assert "prediction certified, by intervals:" in text and "[-0.0173, 0.0173]" in text and "[0, 0]" in text
    assert "by intervals" not in str(certified(net, x, intervals=False))


class Fancy(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.act, self.two = nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)

    def forward(self, x):
        return self.two(torch.softmax(self.act(self.one(x)), 1))


class Difference(nn.Module):
    """Of its features and twice themselves, by a function or by a method."""

    def __init__(self, by=torch.add):
        super().__init__()
        self.by = by
        self.one, self.act, self.two = nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)

    def forward(self, x):
        features = self.act(self.one(x))
        return self.two(self.by(features, features, alpha=-2))


def added(a, b, alpha):
    return a.add(b, alpha=alpha)


@pytest.mark.parametrize(
    "after", [nn.LeakyReLU(-0.5), nn.ELU(-1.0), Difference(), Difference(added)], ids=["leaky", "elu", "function", "method"]
)
def test_what_falls_where_its_input_rises_is_no_interval_from_end_to_end(after):
    x = vectors(0)
    different = isinstance(after, Difference)
    if different:
        net = training.quantise(after, TERNARY, TERNARY)
    else:
        net = nn.Sequential(nn.Linear(5, 4), training.Quantise(TERNARY), after, nn.Linear(4, 3))
    names = [name for name, module in net.named_modules() if isinstance(module, training.Quantise)]
    enclosing = Enclosing(net, dict.fromkeys(names, Ends(-0.2, 0.2)))
    with pytest.raises(ValueError, match="intervals are not known to pass through"):
        enclosing(x)
    if not different:
        kinder = nn.Sequential(*net[:2], type(after)(0.5), net[3])
        assert (Enclosing(kinder, {"1": Ends(-0.2, 0.2)})(x).low <= kinder(x).double() + 1e-6).all()


def test_what_does_not_fit_is_refused_in_one_sentence():
    x = vectors(0)
    net = dense(0, x)
    fancy = training.quantise(Fancy(), TERNARY, TERNARY)
    spread = training.quantise(
        nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 4), nn.Unflatten(1, (2, 2))), TERNARY, TERNARY
    )
    cases = [
        (lambda: certified(net, x, weights="all"), ValueError, "weights must be one of 'deployed', 'noisy', not 'all'"),
        (lambda: certified(net, x, draws=0), ValueError, "draws must be an integer at least 1, not 0"),
        (lambda: certified(net, x, miss=1.5), ValueError, "miss must be a probability smaller than 1, not 1.5"),
        (lambda: certified(net, x, miss=0), ValueError, "miss must be finite and greater than 0"),
        (lambda: certified(net, x, batchsize=3), TypeError, "Did you mean 'batch_size'?"),
        (lambda: certified(models.mlp(5), x), ValueError, "has no quantised layer"),
        (lambda: certified(fancy, x), ValueError, "intervals are not known to pass through the operation 'softmax'"),
        (lambda: certified(spread, x), ValueError, "one row of class scores for each of 40 inputs; its output is of shape"),
    ]
    for call, kind, words in cases:
        with pytest.raises(kind) as caught:
            call()
        assert words in str(caught.value) and "\n" not in str(caught.value)
    assert certified(fancy, x, intervals=False).certified is None


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (torch.zeros(4), r"^the network takes no inputs of shape \(\): .*\.$"),
        (torch.zeros(3, 7), r"^the network takes no inputs of shape \(7,\): .*\.$"),
        (torch.zeros(0, 5), "must hold at least one example"),
        (torch.full((2, 5), math.nan), "^inputs must be finite, and there are infinities or not-a-numbers among them"),
        (torch.full((2, 5), math.inf), "^inputs must be finite, and there are infinities or not-a-numbers among them"),
    ],
)
def test_inputs_that_certify_nothing_are_refused_in_a_sentence(inputs, words):
    with pytest.raises(ValueError, match=words):
        certified(dense(0, vectors()), inputs)


@pytest.mark.parametrize("seed", range(3))
def test_no_certificate_is_broken_where_thresholds_are_hit_and_layers_have_no_noise(seed):
    """Small networks on grids of tenths, with thresholds that no float32 is: exact hits, silent layers, means beyond the std."""
    rng = np.random.default_rng(seed)
    stairs = [TERNARY, Quantiser.linear(3, quantum=0.1), Quantiser([0, 0.3, 1.1], [0.1, 0.7])]
    for _ in range(1):
        stair, depth, width = stairs[rng.integers(3)], int(rng.integers(1, 4)), int(rng.integers(1, 4))
        stds = [float(10 ** rng.uniform(-9, -0.5) * (rng.random() < 0.7)) for _ in range(depth)]
        means = [float(rng.choice([0, 1, -1, -math.sqrt(3), 5]) * std + 0.01 * (rng.random() < 0.2)) for std in stds]
        sizes = [2, *[width] * depth, 3]
        weights = [rng.choice([-1, 0, 1, 0.5, 0.1, 0.3], (m, n)) for n, m in zip(sizes, sizes[1:])]
        biases = [rng.choice([*stair.thresholds, 0.0], m) for m in sizes[1:]]
        x = torch.tensor(rng.choice([-1, -0.5, 0, 0.5, 0.1, 0.3, 0.7], (5, 2)).astype(np.float32))
        for strategy in STRATEGIES:
            steps = [step for n, m in zip(sizes, sizes[1:]) for step in (nn.Linear(n, m), nn.ReLU())][:-1]
            net = training.quantise(nn.Sequential(*steps), None, stair, noise="triangular", strategy=strategy)
            with torch.no_grad():
                for layer, w, b in zip((m for m in net if isinstance(m, nn.Linear)), weights, biases):
                    layer.weight.copy_(torch.tensor(w))
                    layer.bias.copy_(torch.tensor(b))
            set_noise(net, stds, means)
            net.eval()
            with torch.no_grad():
                quantised = net(x)
            found = [certified(net, x[i : i + 1], draws=1) for i in range(len(x))]
            free, sure = (torch.tensor([getattr(f, name) == 1 for f in found]) for name in ("unreached", "certified"))
            for _ in range(20 if strategy == "random" else 1):
                out = noisy_outputs(net, x)
                assert torch.equal(out[free], quantised[free])
                assert torch.equal(out.argmax(1)[sure], quantised.argmax(1)[sure])
