"""The published variants, as data."""

from __future__ import annotations

import copyreg
import math
from dataclasses import replace
from typing import Any

import numpy as np

from anabook._validate import nearest, real
from anabook.quantisers import Quantiser
from anabook.variants.variant import Library, Parameter, Placement, Variant

_HEAVISIDE = Quantiser.heaviside()
_SIGN = Quantiser([-1.0, 1.0], [0.0])
_SNN = "snntorch.surrogate."
_JELLY = "spikingjelly.activation_based.surrogate."
_LARQ = "larq.quantizers."


def _positive(default: float) -> Parameter:
    return Parameter(default, above=0.0)


def _non_negative(default: float) -> Parameter:
    return Parameter(default, minimum=0.0)


def _place(weight: Any = 1, centre: Any = 0, scale: Any = 1, **shape: Any) -> Placement:
    return Placement(weight, centre, scale, shape)


def _levels_of(bits: Any) -> Any:
    return 2**bits - 1


def _ternary_at(threshold: float, **_: float) -> Quantiser:
    return Quantiser([-1.0, 0.0, 1.0], [-threshold, threshold])


def _comb_condition(threshold: float, clip: float) -> str | None:
    teeth = clip / (2 * threshold)
    if round(teeth) >= 1 and math.isclose(teeth, round(teeth), rel_tol=1e-9):
        return None
    return (
        f"clip must be a whole multiple of 2·threshold, not {teeth:g} times it: "
        f"no finite measure gives the clipped identity otherwise."
    )


_ZOO = (
    # --- boxes ---------------------------------------------------------------------------------------------------
    Variant(
        "hard_sigmoid",
        "uniform",
        lambda m, k: _place(scale=1 / (2 * k)),
        _HEAVISIDE,
        "courbariaux2016bnn",
        {"k": _positive(1.0)},
        note="The binarised networks' clip((x + 1)/2, 0, 1) has k = 1/2; the ANA paper's has k = 1.",
    ),
    Variant(
        "rectangular",
        "uniform",
        lambda m, alpha: _place(scale=1 / (2 * alpha)),
        _HEAVISIDE,
        "wu2018stbp",
        {"alpha": _positive(1.0)},
        aliases=("rect", "boxcar"),
        libraries=(Library(_JELLY + "Rect", {"alpha": "alpha"}),),
        note="The hard sigmoid again, under the name of its derivative.",
    ),
    Variant(
        "clipped_relu",
        "uniform",
        lambda m: _place(centre=m.one / 2, scale=m.one / 2),
        _HEAVISIDE,
        "yin2019understanding",
        note="A hard sigmoid whose noise has mean 1/2.",
    ),
    Variant(
        "hard_tanh",
        "uniform",
        lambda m, clip: _place(weight=clip, scale=clip),
        _SIGN,
        "courbariaux2016bnn",
        {"clip": _positive(1.0)},
        aliases=("ste_sign", "SteSign"),
        libraries=(
            Library(_LARQ + "SteSign", {"clip_value": "clip"}),
            Library("brevitas.core.quant.ClampedBinaryQuant", {"scale": "clip"}),
        ),
        note="The derivative is 1 for |x| ≤ clip whatever the clip, so the mass equals the clip.",
    ),
    Variant(
        "ternary_hard_tanh",
        "uniform",
        lambda m: _place(scale=m.one / 2),
        Quantiser.ternary(),
        "spallanzani2022ana",
        note="Thresholds ±1/2, as in the code: the identity on [−1, 1] is its regularisation. The paper does not print this.",
    ),
    Variant(
        "ste_heaviside",
        "uniform",
        lambda m, clip: _place(weight=2 * clip, scale=clip),
        _HEAVISIDE,
        "geiger2020larq",
        {"clip": _positive(1.0)},
        aliases=("SteHeaviside",),
        libraries=(Library(_LARQ + "SteHeaviside", {"clip_value": "clip"}),),
        note="Larq keeps its sign's derivative, 1 on [−clip, clip], though the step is 1, not 2: twice the mass.",
    ),
    Variant(
        "ste_tern",
        "comb",
        lambda m, threshold, clip: _place(weight=clip, scale=2 * threshold, spacing=2, pieces=clip / (2 * threshold)),
        _ternary_at,
        "li2016twn",
        {"threshold": _positive(0.05), "clip": _positive(1.0)},
        aliases=("SteTern",),
        libraries=(Library(_LARQ + "SteTern", {"threshold_value": "threshold", "clip_value": "clip"}),),
        condition=_comb_condition,
        note="With Larq's thresholds ±0.05 the noise behind the clipped identity is a comb of ten boxes.",
    ),
    Variant(
        "dorefa",
        "uniform",
        lambda m, bits: _place(scale=m.one / (2 * _levels_of(bits))),
        lambda bits: Quantiser.linear(bits, signed=False, quantum=1 / _levels_of(bits), rounding="nearest"),
        "zhou2016dorefa",
        {"bits": Parameter(2, minimum=1, is_integer=True)},
        aliases=("DoReFa",),
        libraries=(Library(_LARQ + "DoReFa", {"k_bit": "bits"}),),
        note="Activations. Inputs are clipped to [0, 1] before rounding; clipping after it would not be a noise.",
    ),
    Variant(
        "pact",
        "uniform",
        lambda m, bits, clip: _place(scale=clip / (2 * _levels_of(bits))),
        lambda bits, clip: Quantiser.linear(bits, False, clip / _levels_of(bits), "nearest"),
        "choi2018pact",
        {"bits": Parameter(4, minimum=1, is_integer=True), "clip": _positive(6.0)},
        note="DoReFa's with a learnt clip, which is a parameter here.",
    ),
    Variant(
        "spike_count",
        "uniform",
        lambda m, count: _place(scale=m.one / 2),
        lambda count: Quantiser(np.arange(count + 1.0), np.arange(count) + 0.5),
        "fang2023spikingjelly",
        {"count": Parameter(4, minimum=1, is_integer=True)},
        libraries=(Library(_JELLY + "MultiLevelSpikeCount", {"max_spike_count": "count"}),),
    ),
    Variant(
        "floor_identity",
        "uniform",
        lambda m, quantum, bits: _place(centre=-quantum / 2, scale=quantum / 2),
        lambda quantum, bits: Quantiser.linear(bits, quantum=quantum),
        "spallanzani2022ana",
        {"quantum": _positive(1.0), "bits": Parameter(4, minimum=1, is_integer=True)},
        note="The clipped identity for the quantiser of section 2.1, which rounds down: its noise is half a quantum off centre. "
        "The paper prints that quantiser, not this estimator.",
    ),
    # --- tents ---------------------------------------------------------------------------------------------------
    Variant(
        "bi_real",
        "triangular",
        lambda m: _place(),
        _SIGN,
        "liu2018bireal",
        aliases=("approx_sign", "ApproxSign"),
        libraries=(Library(_LARQ + "ApproxSign"),),
        note="The surrogate is the piecewise polynomial 2x + x² for x < 0, 2x − x² for x ≥ 0, within [−1, 1].",
    ),
    Variant(
        "triangular",
        "triangular",
        lambda m, alpha: _place(scale=1 / alpha),
        _HEAVISIDE,
        "esser2016convolutional",
        {"alpha": _positive(1.0)},
        aliases=("piecewise_quadratic", "quadratic"),
        libraries=(Library(_JELLY + "PiecewiseQuadratic", {"alpha": "alpha"}),),
        note="Named after its derivative here, after its surrogate (piecewise quadratic) in SpikingJelly.",
    ),
    Variant(
        "dampened_triangular",
        "triangular",
        lambda m, gamma: _place(weight=gamma),
        _HEAVISIDE,
        "bellec2018lsnn",
        {"gamma": _positive(0.3)},
        note="The factor γ dampens the gradient on its way back through time.",
    ),
    # --- bells ---------------------------------------------------------------------------------------------------
    Variant("sigmoid", "logistic", lambda m: _place(), _HEAVISIDE, "bengio2013ste", aliases=("logistic",)),
    Variant(
        "scaled_sigmoid",
        "logistic",
        lambda m, k: _place(scale=1 / k),
        _HEAVISIDE,
        "wu2018stbp",
        {"k": _positive(25.0)},
        libraries=(Library(_SNN + "sigmoid", {"slope": "k"}), Library(_JELLY + "Sigmoid", {"alpha": "k"})),
        note="SpikingJelly's default is k = 4. snnTorch computes exp(−kx)/(1 + exp(−kx))² as it stands, "
        "which is NaN once exp(−kx) overflows.",
    ),
    Variant(
        "error_decay",
        "logistic",
        lambda m, t: _place(weight=m.maximum(1 / t, m.one), scale=1 / (2 * t)),
        _SIGN,
        "qin2020irnet",
        {"t": _positive(1.0)},
        aliases=("ede", "irnet"),
        note="max(1/t, 1)·tanh(tx), with t rising from 0.1 to 10 during training: annealing by another name. "
        "The mass is 1 only once t ≥ 1.",
    ),
    Variant(
        "erf",
        "normal",
        lambda m, alpha: _place(scale=1 / (m.sqrt(2 * m.one) * alpha)),
        _HEAVISIDE,
        "fang2023spikingjelly",
        {"alpha": _positive(2.0)},
        libraries=(Library(_JELLY + "Erf", {"alpha": "alpha"}),),
    ),
    Variant(
        "gaussian",
        "normal",
        lambda m, sigma: _place(scale=sigma),
        _HEAVISIDE,
        "wu2018stbp",
        {"sigma": _positive(1.0)},
        aliases=("gauss", "normal"),
    ),
    Variant(
        "laplace",
        "laplace",
        lambda m, alpha: _place(scale=1 / alpha),
        _HEAVISIDE,
        "shrestha2018slayer",
        {"alpha": _positive(1.0)},
        aliases=("piecewise_exp", "exponential", "slayer"),
        libraries=(Library(_JELLY + "PiecewiseExp", {"alpha": "alpha"}),),
    ),
    Variant(
        "spike_rate_escape",
        "laplace",
        lambda m, beta, k: _place(weight=2 * k / beta, centre=m.one, scale=1 / beta),
        _HEAVISIDE,
        "gerstner2002spiking",
        {"beta": _positive(1.0), "k": _positive(25.0)},
        libraries=(Library(_SNN + "spike_rate_escape", {"beta": "beta", "slope": "k"}),),
        note="snnTorch centres it at 1 although its input already has the threshold subtracted, "
        "and the default slope gives mass 50.",
    ),
    # --- heavy tails ---------------------------------------------------------------------------------------------
    Variant(
        "fast_sigmoid",
        "two-sided Pareto",
        lambda m, k: _place(weight=2 / k, scale=1 / k, exponent=1),
        _HEAVISIDE,
        "zenke2018superspike",
        {"k": _positive(25.0)},
        libraries=(Library(_SNN + "fast_sigmoid", {"slope": "k"}),),
        note="Height 1 at the threshold whatever the slope, so the mass is 2/k: a probability at k = 2 only.",
    ),
    Variant(
        "soft_sign",
        "two-sided Pareto",
        lambda m, alpha: _place(scale=1 / alpha, exponent=1),
        _HEAVISIDE,
        "fang2023spikingjelly",
        {"alpha": _positive(2.0)},
        aliases=("softsign",),
        libraries=(Library(_JELLY + "SoftSign", {"alpha": "alpha"}),),
        note="The fast sigmoid, normalised.",
    ),
    Variant(
        "super_spike",
        "two-sided Pareto",
        lambda m, alpha: _place(weight=2 * alpha, exponent=1),
        _HEAVISIDE,
        "zenke2018superspike",
        {"alpha": _positive(1.0)},
        libraries=(Library(_JELLY + "SuperSpike", {"alpha": "alpha"}),),
        note="SpikingJelly's alpha multiplies the gradient; the paper's slope acts inside, as in fast_sigmoid.",
    ),
    Variant(
        "q_pseudo_spike",
        "two-sided Pareto",
        lambda m, q: _place(scale=(q - 1) / 2, exponent=q - 1),
        _HEAVISIDE,
        "herranz2022surrogate",
        {"q": Parameter(2.0, above=1.0)},
        libraries=(Library(_JELLY + "QPseudoSpike", {"alpha": "q"}),),
        note="A probability for every q > 1; mean from q > 2, variance from q > 3.",
    ),
    Variant(
        "sparse_fast_sigmoid",
        "cut Pareto",
        lambda m, k, bound: _place(scale=1 / k, weight=1 / k, cut=k * bound),
        _HEAVISIDE,
        "pereznieves2021sparse",
        {"k": _positive(25.0), "bound": _positive(1.0)},
        note="The fast sigmoid, cut to |x| < bound so that most neurons need no backward pass.",
    ),
    Variant(
        "one_sided_fast_sigmoid",
        "one-sided Pareto",
        lambda m, k, bound: _place(scale=1 / k, weight=1 / k, start=k * bound),
        _HEAVISIDE,
        "eshraghian2023snntorch",
        {"k": _positive(25.0), "bound": _non_negative(1.0)},
        aliases=("SFS",),
        libraries=(Library(_SNN + "SFS", {"slope": "k", "B": "bound"}),),
        note="snnTorch's form of the sparse fast sigmoid keeps x > bound instead of |x| < bound: the opposite set "
        "of neurons, and no gradient at the threshold at all.",
    ),
    Variant(
        "atan",
        "cauchy",
        lambda m, alpha: _place(scale=2 / (m.pi * alpha)),
        _HEAVISIDE,
        "fang2021plif",
        {"alpha": _positive(2.0)},
        aliases=("arctan",),
        libraries=(Library(_SNN + "atan", {"alpha": "alpha"}), Library(_JELLY + "ATan", {"alpha": "alpha"})),
        note="Both libraries compute this density. snnTorch documents another one, without the factor πα/2.",
    ),
    # --- signed --------------------------------------------------------------------------------------------------
    Variant(
        "swish_sign",
        "swish",
        lambda m, beta: _place(scale=1 / beta),
        _SIGN,
        "darabi2018bnnplus",
        {"beta": _positive(5.0)},
        aliases=("SwishSign", "bnn_plus"),
        libraries=(Library(_LARQ + "SwishSign", {"beta": "beta"}),),
        note="The surrogate overshoots ±1, so its derivative turns negative where |βx| > 2.3994.",
    ),
    Variant(
        "multi_gauss",
        "hat",
        lambda m, gamma, h, s, sigma: _place(weight=gamma, scale=sigma, dip=h, spread=s),
        _HEAVISIDE,
        "yin2021accurate",
        {"gamma": _positive(0.5), "h": _non_negative(0.15), "s": Parameter(6.0, above=1.0), "sigma": _positive(0.5)},
        aliases=("multi_gaussian",),
        note="Mass γ(1 − h): two wide bells are subtracted from a narrow one.",
    ),
    Variant(
        "squarewave_fourier",
        "square wave",
        lambda m, n, period: _place(scale=period, terms=n),
        _HEAVISIDE,
        "fang2023spikingjelly",
        {"n": Parameter(2, minimum=2, is_integer=True, is_symbolic=False), "period": _positive(8.0)},
        libraries=(Library(_JELLY + "SquarewaveFourierSeries", {"n": "n", "T_period": "period"}),),
        note="The sum has n − 1 terms, not n. Periodic: positive and negative parts are both infinite.",
    ),
    Variant(
        "snntorch_triangular",
        "two slopes",
        lambda m, threshold: _place(left=threshold, right=-threshold),
        _HEAVISIDE,
        "eshraghian2023snntorch",
        {"threshold": _positive(1.0)},
        libraries=(Library(_SNN + "triangular", {"threshold": "threshold"}),),
        note="The slope of a triangle, not a triangle: above the threshold the gradient's sign is reversed, "
        "and it never fades. Documented as it is computed.",
    ),
    # --- infinite ------------------------------------------------------------------------------------------------
    Variant(
        "identity",
        "constant",
        lambda m: _place(),
        _HEAVISIDE,
        "hinton2012lectures",
        aliases=("ste",),
        libraries=(Library(_SNN + "straight_through_estimator"), Library(_JELLY + "DeterministicPass")),
    ),
    Variant(
        "sign_identity",
        "constant",
        lambda m: _place(weight=m.one / 2),
        _SIGN,
        "brevitas",
        libraries=(Library("brevitas.core.quant.BinaryQuant"),),
        note="Larq's SteSign with clip_value=None as well.",
    ),
    Variant(
        "relu",
        "two slopes",
        lambda m: _place(left=0, right=1),
        _HEAVISIDE,
        "yin2019understanding",
        libraries=(Library(_SNN + "heaviside"), Library(_JELLY + "LeakyKReLU", {"leak": 0.0, "k": 1.0})),
    ),
    Variant(
        "leaky_relu",
        "two slopes",
        lambda m, leak, k: _place(left=leak, right=k),
        _HEAVISIDE,
        "eshraghian2023snntorch",
        {"leak": _non_negative(0.1), "k": _positive(1.0)},
        aliases=("LSO", "leaky_spike_operator", "leaky_k_relu"),
        libraries=(Library(_SNN + "LSO", {"slope": "leak"}), Library(_JELLY + "LeakyKReLU", {"leak": "leak", "k": "k"})),
        note="In snnTorch 1.0.0 the function LSO calls another class and raises a TypeError; "
        "the class LeakySpikeOperator holds the gradient. SpikingJelly's default leak is 0.",
    ),
    Variant(
        "piecewise_leaky_relu",
        "plateau",
        lambda m, w, c: _place(scale=w, leak=c * w),
        _HEAVISIDE,
        "fang2023spikingjelly",
        {"w": _positive(1.0), "c": _non_negative(0.01)},
        libraries=(Library(_JELLY + "PiecewiseLeakyReLU", {"w": "w", "c": "c"}),),
        note="A probability at c = 0, where the leak is gone.",
    ),
    Variant(
        "log_tailed_relu",
        "logarithmic tail",
        lambda m, alpha: _place(leak=alpha),
        _HEAVISIDE,
        "cai2017hwgq",
        {"alpha": _non_negative(0.0)},
        libraries=(Library(_JELLY + "LogTailedReLU", {"alpha": "alpha"}),),
    ),
    Variant(
        "nonzero_sign_log_abs",
        "reciprocal",
        lambda m, alpha: _place(scale=1 / alpha),
        _HEAVISIDE,
        "fang2023spikingjelly",
        {"alpha": _positive(1.0)},
        libraries=(Library(_JELLY + "NonzeroSignLogAbs", {"alpha": "alpha"}),),
    ),
    Variant(
        "fake_numerical_gradient",
        "capped reciprocal",
        lambda m, alpha: _place(scale=1 / alpha),
        _HEAVISIDE,
        "fang2023spikingjelly",
        {"alpha": _positive(0.3)},
        libraries=(Library(_JELLY + "FakeNumericalGradient", {"alpha": "alpha"}),),
        note="min(1/|x|, α): one docstring says (2 − sign x)/x, the code and the other say sign(x)/x.",
    ),
    Variant(
        "s2nn",
        "sigmoid and reciprocal",
        lambda m, alpha, beta: _place(alpha=alpha, beta=beta),
        _HEAVISIDE,
        "suetake2022s3nn",
        {"alpha": _positive(4.0), "beta": _positive(1.0)},
        libraries=(Library(_JELLY + "S2NN", {"alpha": "alpha", "beta": "beta"}),),
        note="SpikingJelly documents a surrogate that jumps by 1/2 at the threshold; its code has none.",
    ),
)


class UnknownVariant(KeyError):
    """A name that is not in the zoo."""

    def __str__(self) -> str:
        return str(self.args[0])


class Zoo(dict):
    """The variants by name. Looking up an alias gives the variant; an unknown name suggests the nearest.

    Example:
        >>> from anabook.variants import VARIANTS
        >>> len(VARIANTS), "fast_sigmoid" in VARIANTS
        (41, True)
    """

    def __missing__(self, name: object) -> Variant:
        aliases = {alias: variant for variant in self.values() for alias in variant.aliases}
        if name in aliases:
            return aliases[name]
        near = nearest(str(name), [*self, *aliases])
        hint = f"did you mean {near[0]!r}?" if near else f"the {len(self)} names are the keys of VARIANTS."
        raise UnknownVariant(f"there is no variant called {name!r}; {hint}")


VARIANTS = Zoo((variant.name, variant) for variant in _ZOO)
"""The published variants by name."""


def _rebuild(name: str, values: dict[str, float], scaling: float) -> Variant:
    return replace(VARIANTS[name], values=values, scaling=scaling)


def _reduced(variant: Variant) -> tuple:
    return _rebuild, (variant.name, dict(variant.values), variant.scaling)


copyreg.pickle(Variant, _reduced)  # variants are copied and pickled by name: their functions cannot be


def clipped_identity(quantiser: Quantiser, low: float, high: float) -> Variant:
    """The measure behind a linear quantiser's most popular surrogate: a straight line on [low, high], flat outside.

    The line rises from the lowest level to the highest. Two levels leave the interval free. With more, equally spaced,
    a finite measure exists if and only if the interval's length is a whole multiple n of (K − 1)·ε, where ε is the
    distance between thresholds; it is a comb of n boxes of width ε (a single box, the uniform noise, for n = 1).

    Args:
        quantiser: a quantiser with equal steps and equally spaced thresholds.
        low, high: the ends of the interval.

    Returns:
        A variant without reference, of mass 1.

    Raises:
        ValueError: an uneven quantiser, an empty interval, or one for which there is no finite measure.

    Example:
        >>> from anabook import Quantiser
        >>> clipped_identity(Quantiser.ternary(), -1.0, 1.0).mass
        1.0
    """
    low, high = real(low, "low"), real(high, "high")
    if high <= low:
        raise ValueError(f"high must be greater than low={low:g}, not {high:g}.")
    jumps, length = quantiser.n_levels - 1, high - low
    centre = (low + high) / 2 - float(quantiser.thresholds.mean())
    if jumps == 1:
        return Variant("clipped_identity", "uniform", lambda m: _place(centre=centre, scale=length / 2), quantiser)
    gaps = np.diff(quantiser.thresholds)
    if np.ptp(gaps) > 1e-9 * gaps.mean() or np.ptp(quantiser.steps) > 1e-9 * quantiser.steps.mean():
        raise ValueError(f"the quantiser must have equal steps and equally spaced thresholds, unlike {quantiser!r}.")
    spacing = float(gaps.mean())
    pieces = length / (jumps * spacing)
    if round(pieces) < 1 or not math.isclose(pieces, round(pieces), rel_tol=1e-9):
        raise ValueError(
            f"no finite measure makes the identity clipped to [{low:g}, {high:g}] out of these {quantiser.n_levels} "
            f"levels: its length must be a whole multiple of {jumps * spacing:g}, not {pieces:g} times it."
        )
    placement = _place(centre=centre, scale=spacing, pieces=round(pieces), spacing=jumps)
    return Variant("clipped_identity", "comb", lambda m: placement, quantiser)
