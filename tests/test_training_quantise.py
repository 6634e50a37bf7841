"""The stochastic quantiser in torch: forward passes, gradients, types, the Dirac limit, bad input."""

import copy
import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from anabook import Noise, Quantiser, Regularisation
from anabook.noise import FAMILIES, NUMPY_OPS
from anabook.training import Quantise, kernels
from anabook.training._ops import TORCH_OPS

QUANTISERS = {
    "heaviside": Quantiser.heaviside(0.25),
    "ternary": Quantiser.ternary(),
    "uneven": Quantiser([-2.0, -0.5, 0.0, 0.7, 3.0], [-1.1, -0.2, 0.3, 1.9]),
    "linear": Quantiser.linear(4, quantum=0.3),
}
STRATEGIES = kernels.STRATEGIES
every_quantiser = pytest.mark.parametrize("name", QUANTISERS)
every_family = pytest.mark.parametrize("family", FAMILIES)
every_strategy = pytest.mark.parametrize("strategy", STRATEGIES)
NOISES = [(0.0, 0.2887), (-0.31, 0.05), (0.13, 1.7)]
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def points(seed=0, n=2000):
    return torch.from_numpy(np.random.default_rng(seed).normal(0.0, 2.5, n))


def gradient(module, x, weight=None):
    x = x.detach().clone().requires_grad_()
    out = module(x)
    (out if weight is None else out * weight).sum().backward()
    return out.detach(), x.grad


def test_torch_namespace_has_the_same_functions_as_the_numpy_one():
    assert vars(TORCH_OPS).keys() == vars(NUMPY_OPS).keys()


@every_quantiser
@every_family
@every_strategy
@pytest.mark.parametrize("mean, std", NOISES)
def test_gradient_of_every_strategy_is_the_derivative_of_the_expectation(name, family, strategy, mean, std):
    x, weight = points(), torch.from_numpy(np.random.default_rng(1).normal(size=2000))
    _, grad = gradient(Quantise(QUANTISERS[name], family, strategy, mean, std), x, weight)
    expected = Regularisation(QUANTISERS[name], Noise(family, mean, std)).derivative(x.numpy()) * weight.numpy()
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(grad.numpy(), expected, rtol=1e-12, atol=1e-12)


@every_quantiser
@every_family
@pytest.mark.parametrize("mean, std", NOISES)
def test_expectation_forward_is_the_regularisation(name, family, mean, std):
    x = points()
    expected = Regularisation(QUANTISERS[name], Noise(family, mean, std))(x.numpy())
    out = Quantise(QUANTISERS[name], family, "expectation", mean, std)(x)
    np.testing.assert_allclose(out.numpy(), expected, rtol=1e-12, atol=1e-12)


@every_quantiser
@every_family
@pytest.mark.parametrize("mean, std", NOISES)
def test_mode_forward_is_the_most_probable_level(name, family, mean, std):
    regularisation = Regularisation(QUANTISERS[name], Noise(family, mean, std))
    x = points().numpy()
    x = x[~regularisation.is_tie(x)]
    assert len(x) > 800  # wide uniform noise on even bins ties over half the line
    out = Quantise(QUANTISERS[name], family, "mode", mean, std)(torch.from_numpy(x))
    np.testing.assert_array_equal(out.numpy(), regularisation.mode(x))


@every_family
def test_mode_takes_the_higher_level_at_ties(family):
    # Binary fractions, so that the ties are exact; wide noise makes the middle level of the second case the loser.
    for std in (0.25, 4.0):
        q = Quantiser([-1, 0, 1], [-0.5, 0.5])
        at = torch.tensor([-0.5, 0.5, 0.0] if std < 1 else [0.0], dtype=torch.float64)
        regularisation = Regularisation(q, Noise(family, 0.0, std))
        out = Quantise(q, family, "mode", 0.0, std)(at)
        np.testing.assert_array_equal(out.numpy(), regularisation.mode(at.numpy(), ties="higher"))
    assert Quantise(Quantiser.heaviside(), family, "mode", std=0.3)(torch.zeros(1)).item() == 1.0


@every_family
def test_mode_is_a_most_probable_level_and_the_shifted_quantiser_where_the_noise_fits_the_bins(family):
    q, x = QUANTISERS["ternary"], points().flatten()
    noise = Noise(family, 0.1, min(1.0, FAMILIES[family].half_width) * 0.25)
    out = Quantise(q, family, "mode", noise.mean, noise.std)(x)
    p = Regularisation(q, noise).probabilities(x.numpy())
    chosen = out.numpy()[:, np.newaxis] == q.levels
    assert (chosen.sum(axis=1) == 1).all()
    assert (p[chosen] >= p.max(axis=1) - 8 * np.finfo(float).eps).all()
    if noise.half_width <= 1.0:
        assert torch.equal(out, q(x - noise.mean))
    else:
        assert math.isinf(noise.half_width)


@every_quantiser
@every_family
def test_random_frequencies_are_the_level_probabilities(name, family):
    q, noise, draws = QUANTISERS[name], Noise(family, -0.2, 0.6), 20_000
    x = np.array([-1.3, -0.2, 0.05, 0.9])
    generator = torch.Generator().manual_seed(5)
    module = Quantise(q, family, "random", noise.mean, noise.std, generator=generator)
    out = module(torch.from_numpy(np.tile(x, (draws, 1)))).numpy()
    assert set(np.unique(out)) <= set(q.levels)
    counts = (out[..., np.newaxis] == q.levels).sum(axis=0)
    probabilities = np.clip(Regularisation(q, noise).probabilities(x), 0, 1)
    low, high = stats.binom.interval(1 - 1e-6, draws, probabilities)
    assert ((counts >= low) & (counts <= high)).all()


@every_quantiser
@every_family
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_random_stays_in_the_level_set_whatever_the_draw(name, family, dtype):
    q, eps = QUANTISERS[name], torch.finfo(dtype).eps
    u = torch.tensor([0.0, eps / 2, eps, 0.25, 0.5, 0.75, 1 - eps, 1 - eps / 2], dtype=dtype)
    x = torch.tensor([-math.inf, -1e30, -1.0, 0.0, 0.4, 1e30, math.inf], dtype=dtype)
    x, u = (part.reshape(-1) for part in torch.meshgrid(x, u, indexing="ij"))
    layout, values = kernels.layout_of(q.levels, q.thresholds, dtype, family, 0.7)
    out, levels = (
        kernels.drawn_with(x, torch.tensor(values, dtype=dtype), u, layout, family),
        torch.tensor(q.levels, dtype=dtype),
    )
    assert torch.isin(out, levels).all()
    assert (out[x == -math.inf] == levels[0]).all() and (out[x == math.inf] == levels[-1]).all()


def test_random_draws_follow_the_seed():
    x = points()
    own = [
        Quantise(QUANTISERS["ternary"], strategy="random", generator=torch.Generator().manual_seed(s))(x) for s in (3, 3, 4)
    ]
    assert torch.equal(own[0], own[1]) and not torch.equal(own[0], own[2])
    shared = Quantise(QUANTISERS["ternary"], strategy="random")
    torch.manual_seed(7)
    first = shared(x)
    second = shared(x)
    torch.manual_seed(7)
    assert torch.equal(shared(x), first) and not torch.equal(first, second)


@given(
    hnp.arrays(np.float64, st.integers(1, 20), elements=st.floats(-5, 5)),
    st.floats(-1, 1),
    st.floats(1e-3, 3),
    st.sampled_from(sorted(QUANTISERS)),
    st.sampled_from(sorted(FAMILIES)),
    st.sampled_from(STRATEGIES),
)
def test_outputs_lie_between_the_outer_levels(x, mean, std, name, family, strategy):
    q = QUANTISERS[name]
    out = Quantise(q, family, strategy, mean, std)(torch.from_numpy(x)).numpy()
    assert (out >= q.levels[0] - 1e-12).all() and (out <= q.levels[-1] + 1e-12).all()
    if strategy != "expectation":
        assert np.isin(out, q.levels).all()


@every_family
@every_strategy
@pytest.mark.parametrize("dtype", FLOATS)
def test_shape_and_float_type_are_kept(family, strategy, dtype):
    for shape in [(), (0,), (3,), (2, 3, 4, 5)]:
        x = torch.linspace(-1, 1, math.prod(shape)).reshape(shape).to(dtype)
        out, grad = gradient(Quantise(QUANTISERS["linear"], family, strategy), x)
        assert out.shape == grad.shape == x.shape
        assert out.dtype == grad.dtype == dtype


@every_family
@every_strategy
def test_transposed_and_channels_last_inputs_give_the_same_numbers(family, strategy):
    x = points(n=120).reshape(2, 3, 4, 5)
    for other in (x.transpose(1, 3), x.to(memory_format=torch.channels_last), x[:, :, ::2]):
        results = []
        for given_ in (other, other.contiguous()):
            generator = torch.Generator().manual_seed(0)
            results.append(
                gradient(Quantise(QUANTISERS["uneven"], family, strategy, generator=generator), given_, other.contiguous())
            )
        assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])


@every_family
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bit_types_are_computed_in_float32(family, dtype):
    q, x = QUANTISERS["linear"], points().to(dtype)
    narrow, wide = (Quantise(q, family, "expectation", std=0.2) for _ in range(2))
    out, grad = gradient(narrow, x)
    expected, expected_grad = gradient(wide, x.float())
    assert torch.equal(out, expected.to(dtype)) and torch.equal(grad, expected_grad.to(dtype))


@every_strategy
@pytest.mark.parametrize("dtype", FLOATS)
def test_evaluation_mode_is_the_quantiser_with_zero_gradient(strategy, dtype):
    q = Quantiser.linear(4, quantum=0.1)
    x = torch.cat([points().to(dtype), torch.tensor(q.thresholds).to(dtype)])
    out, grad = gradient(Quantise(q, strategy=strategy, mean=-0.4, std=0.3).eval(), x)
    assert torch.equal(out, q(x))
    assert torch.equal(grad, torch.zeros_like(x))


@every_family
@every_strategy
@pytest.mark.parametrize("std", [0.0, 1e-50])
def test_dirac_noise_shifts_the_quantiser_and_stops_the_gradient(family, strategy, std):
    q, x = QUANTISERS["uneven"], points().float()
    out, grad = gradient(Quantise(q, family, strategy, mean=0.375, std=std), x)
    assert torch.equal(out, q(x - 0.375))
    assert torch.equal(grad, torch.zeros_like(x))


def test_dirac_noise_saves_no_input_for_the_backward_pass():
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        x = points().requires_grad_()
        Quantise(QUANTISERS["ternary"], std=0.0)(x)
        assert saved == []
        Quantise(QUANTISERS["ternary"], std=0.3)(x)
    assert [t.numel() for t in saved] == [x.numel(), 2 + 3 + 2]  # mean and std, levels, thresholds
    assert saved[0].data_ptr() == x.data_ptr()


@every_family
@every_strategy
@pytest.mark.parametrize("std", [1e-3, 1e-30])
def test_vanishing_noise_gives_finite_outputs_and_gradients_in_float32(family, strategy, std):
    x = torch.cat([points().float(), torch.tensor([-0.5, 0.5, 0.0])])
    out, grad = gradient(Quantise(QUANTISERS["ternary"], family, strategy, std=std), x)
    assert out.isfinite().all() and grad.isfinite().all()


@every_family
@every_strategy
@pytest.mark.parametrize("training", [True, False])
def test_nan_stays_nan_and_infinities_reach_the_outer_levels(family, strategy, training):
    module = Quantise(QUANTISERS["uneven"], family, strategy).train(training)
    out, grad = gradient(module, torch.tensor([math.nan, -math.inf, math.inf]))
    assert out[0].isnan() and out[1:].tolist() == [-2.0, 3.0]
    assert grad[1:].tolist() == [0.0, 0.0]
    assert bool(grad[0].isnan()) == training


@pytest.mark.parametrize("family", ["normal", "logistic"])
def test_expectation_passes_gradcheck_where_it_is_smooth(family):
    x = points(n=40).requires_grad_()
    assert torch.autograd.gradcheck(Quantise(QUANTISERS["uneven"], family, "expectation", -0.1, 0.5), (x,))


def test_static_uniform_mode_is_the_clipped_straight_through_estimator():
    # Ternary quantiser, uniform noise of half-width ½: round, and pass the gradient within [−1, 1).
    x = points()
    out, grad = gradient(Quantise(Quantiser.ternary(), "uniform", "mode", std=12**-0.5), x)
    by_hand = x.detach().clone().requires_grad_()
    clipped = by_hand.clamp(-1, 1)
    (clipped + (torch.floor(clipped + 0.5) - clipped).detach()).sum().backward()
    assert torch.equal(out, torch.floor(x.clamp(-1, 1) + 0.5))
    torch.testing.assert_close(grad, by_hand.grad, rtol=1e-12, atol=0)


@every_family
def test_default_noise_spans_half_the_smallest_step(family):
    module = Quantise(QUANTISERS["uneven"], family)
    noise = Noise(family, module.mean, module.std)
    assert module.mean == 0.0
    inside = noise.cdf(0.25) - noise.cdf(-0.25)
    assert inside == pytest.approx(1.0 if math.isfinite(noise.half_width) else 0.95, abs=1e-12)


def test_set_noise_changes_the_law_of_the_next_call():
    module, x = Quantise(QUANTISERS["ternary"], "logistic", "expectation"), points()
    module.set_noise(0.2, 0.7)
    expected = Regularisation(QUANTISERS["ternary"], Noise("logistic", 0.2, 0.7))(x.numpy())
    np.testing.assert_allclose(module(x).numpy(), expected, rtol=1e-12, atol=1e-12)
    assert (module.mean, module.std) == (0.2, 0.7)


def test_state_dict_is_empty_and_levels_and_thresholds_keep_their_values_in_float64():
    module = Quantise(Quantiser.linear(4, quantum=0.07))
    assert dict(module.state_dict()) == {} and list(module.parameters()) == []
    for convert in (module.half, module.bfloat16, module.float):
        convert()
        assert np.array_equal(module.thresholds.numpy(), module.quantiser.thresholds)
        assert np.array_equal(module.levels.numpy(), module.quantiser.levels)
    module.to("meta")
    assert module.levels.device.type == module.thresholds.device.type == "meta"


def test_deep_copies_and_pickles_behave_alike():
    module = Quantise(QUANTISERS["uneven"], "normal", "expectation", 0.1, 0.2)
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    x = points()
    for other in (copy.deepcopy(module), loaded):
        assert torch.equal(other(x), module(x)) and other.quantiser == module.quantiser
        other.set_noise(0.0, 1.0)
        assert module.std == 0.2


def test_representation_names_quantiser_noise_and_strategy():
    text = repr(Quantise(Quantiser.ternary(), "normal", "random", 0.0, 0.25))
    for part in ("Quantiser(levels=[-1", "noise='normal'", "strategy='random'", "mean=0", "std=0.25"):
        assert part in text


@pytest.mark.parametrize("family", ["normal", "logistic"])
def test_second_derivatives_are_those_of_the_expectation(family):
    x = points(n=10).requires_grad_()
    assert torch.autograd.gradgradcheck(Quantise(QUANTISERS["uneven"], family, "expectation", -0.1, 0.5), (x,))


@pytest.mark.parametrize(
    "x",
    [
        torch.ones(2, dtype=torch.int64),
        torch.ones(2, dtype=torch.bool),
        torch.ones(2, dtype=torch.complex64),
        np.ones(2),
        0.5,
    ],
)
def test_inputs_that_are_not_float_tensors_are_refused(x):
    with pytest.raises(
        TypeError, match=r"^Quantise works on tensors of float16, bfloat16, float32 or float64, not on [^.]*\.?\w*\.$"
    ):
        Quantise(QUANTISERS["ternary"])(x)


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"noise": "unifrom"}, r"noise must be one of .*, not 'unifrom'\. Did you mean 'uniform'\?"),
        ({"strategy": "expected"}, r"strategy must be one of .*, not 'expected'\. Did you mean 'expectation'\?"),
        ({"std": -0.1}, r"std must be finite and at least 0, not -0\.1\."),
        ({"std": math.nan}, r"std must be finite and at least 0, not nan\."),
        ({"mean": math.inf}, r"mean must be finite, not inf\."),
    ],
)
def test_bad_settings_are_refused_with_one_sentence(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Quantise(QUANTISERS["ternary"], **kwargs)


def test_bad_noise_leaves_the_old_one_in_place():
    module = Quantise(QUANTISERS["ternary"], mean=0.1, std=0.2)
    for mean, std in [(0.0, -1.0), (math.nan, 1.0), (0.5, math.nan)]:
        with pytest.raises(ValueError, match="must be finite"):
            module.set_noise(mean, std)
    with pytest.raises(TypeError, match="std must be a real number, not tensor"):
        module.set_noise(0.0, torch.tensor(1.0))
    assert (module.mean, module.std) == (0.1, 0.2)


def test_quantiser_must_be_a_quantiser():
    with pytest.raises(TypeError, match=r"quantiser must be a Quantiser, not \[-1, 0, 1\]"):
        Quantise([-1, 0, 1])
