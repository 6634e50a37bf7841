"""Other estimators against what is known of them, and coarse gradients against drawn inputs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from anabook import Noise, Quantiser, Regularisation, models, training
from anabook.noise import FAMILIES
from anabook.training import coarse_gradients, estimators
from anabook.training.coarse_gradients import coarse_gradient, sampled_gradient, true_gradient

TERNARY, HEAVISIDE = Quantiser.ternary(), Quantiser.heaviside()
LADDER = Quantiser([-2.0, 0.0, 0.5, 3.0], [-1.0, 0.25, 0.75])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("quantiser", [TERNARY, LADDER], ids=["ternary", "ladder"])
def test_level_probabilities_and_their_slopes_are_those_of_the_core(family, quantiser):
    r = Regularisation(quantiser, Noise(family, mean=0.1, std=0.4))
    x = torch.linspace(-3, 3, 301, dtype=torch.float64, requires_grad=True)
    p = estimators.level_probabilities(x, r)
    assert p.shape == (301, quantiser.n_levels)
    np.testing.assert_allclose(p.detach(), r.probabilities(x.detach().numpy()), atol=1e-14)
    (slope,) = torch.autograd.grad((p * torch.tensor(quantiser.levels.tolist())).sum(), x)
    np.testing.assert_allclose(slope, r.derivative(x.detach().numpy()), atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_drawn_levels_have_the_probabilities_and_bring_their_logarithms(family):
    r = Regularisation(LADDER, Noise(family, std=0.6))
    x = torch.tensor([-0.9, 0.3, 0.7], dtype=torch.float64)
    p = estimators.level_probabilities(x, r)
    levels, log_p = estimators.drawn_level(x.expand(60_000, 3), r, generator())
    for k, level in enumerate(LADDER.levels):
        hit = levels == level
        error = (p[:, k] * (1 - p[:, k]) / 60_000).sqrt()
        assert ((hit.double().mean(0) - p[:, k]).abs() <= 5 * error).all()
        expected = p[:, k].log().expand(60_000, 3)
        assert torch.equal(log_p[hit], expected[hit])


def test_reinforce_is_unbiased_with_any_baseline_and_the_right_one_has_no_variance():
    r = Regularisation(HEAVISIDE, Noise("logistic", std=0.7))
    x = torch.full((40_000,), 0.4, dtype=torch.float64, requires_grad=True)
    level, log_p = estimators.drawn_level(x, r, generator(1))
    losses = torch.where(level == 1, 1.0, 3.0).double()
    exact = -2 * float(r.noise.pdf(0.4))
    p = float(r(0.4))
    spreads = []
    for baseline in (0.0, 2.0, (1 - p) * 1.0 + p * 3.0):
        (g,) = torch.autograd.grad(estimators.score_function_loss(losses, log_p, baseline), x, retain_graph=True)
        assert abs(float(g.mean()) - exact) <= 5 * float(g.std()) / 200 + 1e-12
        spreads.append(float(g.std()))
    assert spreads[0] > spreads[1] > 0.1 and spreads[2] < 1e-12


def test_for_two_levels_gumbel_softmax_draws_one_logistic_noise_and_averages_another():
    scale, temperature, n = 0.4, 0.3, 1000
    noise = [Noise("logistic", std=s * math.pi / 3**0.5) for s in (scale, scale * temperature)]
    x = torch.linspace(-1, 1, n, dtype=torch.float64, requires_grad=True)
    y = estimators.gumbel_softmax(x, Regularisation(HEAVISIDE, noise[0]), temperature, generator=generator(2))
    gumbel = -torch.log(-torch.log(torch.rand((n, 2), dtype=torch.float64, generator=generator(2))))
    shifted = (x.detach() + scale * (gumbel[:, 1] - gumbel[:, 0])).numpy()
    inner = Regularisation(HEAVISIDE, noise[1])
    np.testing.assert_allclose(y.detach(), inner(shifted), atol=1e-12)
    np.testing.assert_allclose(torch.autograd.grad(y.sum(), x)[0], inner.derivative(shifted), atol=1e-10)


@pytest.mark.parametrize("family", FAMILIES)
def test_hard_gumbel_softmax_draws_levels_as_random_does_and_keeps_the_soft_gradient(family):
    r = Regularisation(LADDER, Noise(family, std=0.6))
    x = torch.full((60_000,), 0.3, dtype=torch.float64, requires_grad=True)
    soft = estimators.gumbel_softmax(x, r, 0.5, generator=generator(3))
    hard = estimators.gumbel_softmax(x, r, 0.5, hard=True, generator=generator(3))
    p = r.probabilities(0.3)
    for k, level in enumerate(LADDER.levels):
        share = float((hard.detach() - level).abs().lt(1e-9).double().mean())
        assert abs(share - p[k]) <= 5 * math.sqrt(p[k] * (1 - p[k]) / 60_000)
    gradients = [torch.autograd.grad(y.sum(), x)[0] for y in (soft, hard)]
    assert torch.allclose(*gradients) and torch.isfinite(gradients[0]).all()


def test_bounded_noise_that_rules_a_level_out_leaves_gumbel_softmax_finite():
    r = Regularisation(TERNARY, Noise("uniform", std=0.1))
    x = torch.tensor([-0.4, 0.0, 0.5, 2.0], requires_grad=True)
    y = estimators.gumbel_softmax(x, r, 0.5, generator=generator())
    assert torch.isfinite(torch.autograd.grad(y.sum(), x)[0]).all() and y[1] == 0 and y[3] == 1


def test_stochastic_rounding_is_exact_on_average_and_its_slope_is_1():
    q = Quantiser.linear(bits=3, quantum=0.5, rounding="nearest")
    x = torch.tensor([-1.4, -0.2, 0.1, 1.3], dtype=torch.float64).repeat(40_000, 1).requires_grad_()
    y = estimators.stochastic_rounding(q, generator())(x)
    assert ((y - x).abs() < 0.5).all()
    assert ((y.mean(0) - x[0]).abs() < 5 * y.std(0) / 200).all()
    np.testing.assert_allclose(torch.autograd.grad(y.sum(), x)[0], 1.0)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (
            lambda: estimators.level_probabilities([0.0], Regularisation(TERNARY, Noise("normal"))),
            TypeError,
            "tensor of floats",
        ),
        (
            lambda: estimators.drawn_level(torch.zeros(1), Regularisation(TERNARY, Noise("normal", std=0))),
            ValueError,
            "Dirac",
        ),
        (
            lambda: estimators.gumbel_softmax(torch.zeros(1), Regularisation(TERNARY, Noise("normal")), 0.0),
            ValueError,
            "temperature must be .* not 0.0",
        ),
        (lambda: estimators.stochastic_rounding(LADDER), ValueError, "needs even levels"),
        (lambda: estimators.score_function_loss(torch.zeros(2), torch.zeros(3)), ValueError, r"\(2,\) and \(3,\)"),
        (lambda: coarse_gradient([1.0], [1.0, 2.0], 1.0, 0.1), ValueError, "rows of one length"),
        (lambda: coarse_gradient([1.0], [1.0], 4.0, 0.1), ValueError, "between 0 and π, not 4.0"),
        (lambda: coarse_gradient([1.0], [1.0], 1.0, 0.0), ValueError, "std must be .* not 0.0"),
        (lambda: coarse_gradient([1.0], [1.0], 1.0, 0.1, forward="random"), ValueError, "not 'random'"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call, error, says):
    with pytest.raises(error, match=says):
        call()


# --- the model with normal inputs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("forward", coarse_gradients.FORWARD)
@pytest.mark.parametrize(
    ("angle", "std", "mean"), [(0.2, 0.3, 0.0), (1.2, 0.05, -0.1), (1.57, 1.0, 0.8), (2.8, 0.4, -0.6), (0.05, 0.2, -0.3)]
)
def test_the_coarse_gradient_is_the_mean_over_drawn_inputs(forward, angle, std, mean):
    rng = np.random.default_rng(round(1000 * angle))
    for units in (1, 4):
        v, teacher = rng.normal(size=(2, units))
        g = coarse_gradient(v, teacher, angle, std, mean, forward)
        drawn, errors = sampled_gradient(v, teacher, angle, std, mean, forward, n=100_000, rng=rng)
        for exact, found, error in zip(g, drawn, errors, strict=True):
            assert abs(exact - found) < 4.5 * error


def test_the_true_gradient_is_the_slope_of_the_population_loss():
    """By counting how often student and teacher agree, at two angles."""
    rng = np.random.default_rng(0)
    v, teacher = np.array([0.5, -1.0, 2.0]), np.array([1.0, 0.3, 0.7])
    s, t = rng.normal(size=(2, 400_000, 3))

    def loss(angle):
        return ((s >= 0) @ v - (s * math.cos(angle) + t * math.sin(angle) >= 0) @ teacher) ** 2 / 2

    difference = (loss(1.3) - loss(0.7)) / 0.6
    expected = -true_gradient(v, teacher, 1.0).across  # a step along u makes the angle smaller
    assert abs(difference.mean() - expected) < 4.5 * difference.std() / 400_000**0.5


@settings(max_examples=200, deadline=None)
@given(
    angle=st.floats(0.01, 3.13),
    std=st.floats(0.01, 3.0),
    mean=st.floats(-3, 3),
    v=st.lists(st.floats(-2, 2), min_size=3, max_size=3),
    forward=st.sampled_from(coarse_gradients.FORWARD),
)
def test_no_offset_turns_the_gradient_against_the_true_one(angle, std, mean, v, forward):
    teacher = [1.0, -0.5, 2.0]
    g, true = coarse_gradient(v, teacher, angle, std, mean, forward), true_gradient(v, teacher, angle)
    assert g.along * true.along + g.across * true.across >= 0
    wide = math.sin(angle) ** 2 + std**2
    share = math.sin(angle) / math.sqrt(wide) * math.exp(-(mean**2) / 2 / wide)
    assert math.isclose(g.across, share * true.across, rel_tol=1e-9, abs_tol=1e-15)


def test_the_gradient_tends_to_the_true_one_and_its_tilt_is_of_first_order():
    v, teacher = np.array([0.8, -0.3, 0.5]), np.array([0.2, 0.9, 0.4])
    total, root = v.sum(), math.sqrt(2 * math.pi)
    for c in (-3, 0, 2):
        errors = []
        for std in (1e-2, 1e-3):
            g = coarse_gradient(v, teacher, 1.0, std, c * std)
            first = (v @ v * std / root + c * std * total * (total - teacher.sum()) / 2) / root
            errors.append(abs(g.along - first))
            assert abs(g.across / true_gradient(v, teacher, 1.0).across - 1) < 10 * std**2
        assert errors[0] < 5e-3 and errors[1] < errors[0] / 50  # of second order


# --- what annealing optimises -------------------------------------------------------------------------------------------


def small(strategy):
    """A network with ternary weights and features in float64: its loss and gradient at any point."""
    torch.manual_seed(0)
    net = training.quantise(models.mlp(6, (5, 4), 3).double(), TERNARY, TERNARY, noise="normal", strategy=strategy)
    training.initialise_near_thresholds(net, seed=0)
    x, y = torch.randn(20, 6, dtype=torch.float64), torch.arange(20) % 3
    parameters = list(net.parameters())
    start = parameters_to_vector(parameters).detach().clone()

    def at(point):
        vector_to_parameters(point, parameters)
        loss = torch.nn.functional.cross_entropy(net(x), y)
        return loss.item(), parameters_to_vector(torch.autograd.grad(loss, parameters))

    directions = torch.randn(3, len(start), dtype=torch.float64)
    return at, start, directions / directions.norm(dim=1, keepdim=True)


def test_the_expectation_descends_its_smoothed_loss():
    at, start, directions = small("expectation")
    gradient = at(start)[1]
    for d in directions:
        difference = (at(start + 1e-5 * d)[0] - at(start - 1e-5 * d)[0]) / 2e-5
        assert math.isclose(float(gradient @ d), difference, rel_tol=1e-6, abs_tol=1e-9)


def test_the_mode_follows_the_gradient_of_no_function():
    """Work around a square: none is left for a gradient field."""
    for strategy, low, high in (("expectation", 0.0, 1e-4), ("mode", 0.02, 1.0)):
        at, start, directions = small(strategy)
        a, b = directions[0], directions[1]
        left = gross = 0.0
        for corner, way in ((start, a), (start + a, b), (start + a + b, -a), (start + b, -b)):
            for i in range(100):
                work = float(at(corner + (i + 0.5) / 100 * way)[1] @ way) / 100
                left, gross = left + work, gross + abs(work)
        assert low <= abs(left) / gross < high


@pytest.mark.parametrize("family", FAMILIES)
def test_a_threshold_drifts_in_first_order_for_the_composed_loss_and_in_second_for_the_expected_one(family):
    """Densities and labels of the chapter, and a pair with another ratio and a curved η."""
    share = (np.arange(200_000) + 0.5) / 200_000
    mu = np.mean(Noise(family).icdf(share) * share)
    for centre, steep, bend in ((1.0, 4.0, 0.0), (-0.5, 2.0, 1.0)):

        def density(x, centre=centre):
            return np.exp(-((x - centre) ** 2) / 2)

        def eta(x, steep=steep, bend=bend):
            return 1 / (1 + np.exp(-steep * (x + bend * x**2 / 2)))

        def drift(beta, forward, mean=0.0, density=density, eta=eta):
            nu = Noise(family, mean, beta).icdf(share)
            return optimize.brentq(lambda b: np.mean((forward - eta(b + nu)) * density(b + nu)), -0.4, 0.4, xtol=1e-13)

        first = mu * centre / (steep / 4)
        errors = [abs(drift(beta, share) / beta - first) for beta in (0.02, 0.01)]
        assert errors[1] < 0.12 * abs(first) and 1.6 < errors[0] / errors[1] < 2.4
        second = -(centre + bend / 2)
        assert abs(drift(0.01, 0.5) / 0.01**2 - second) < 0.01
        assert abs(drift(0.02, share, mean=0.05) - (drift(0.02, share) - 0.05)) < 1e-9


@pytest.mark.parametrize("family", FAMILIES)
def test_the_smoothed_loss_of_a_weight_is_least_where_the_chapter_says(family):
    for alpha, beta, c in ((0.0, 0.05, 0.3), (0.1, 0.02, 0.8)):
        noise = Noise(family, alpha, beta)
        place = 0.5 + alpha + beta * float(Noise(family).icdf(c))
        assert abs(float(Regularisation(TERNARY, noise)(place)) - c) < 1e-9
