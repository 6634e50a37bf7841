"""Convergence asks the law: laws beyond the four families, given as a `Law`, a `Noise` or a `Density`."""

import functools
import math

import mpmath
import pytest
import sympy as sp
from scipy import integrate

import anabook as ab
from anabook.convergence import LAMBDA, check, log_margin, log_margin_converges, networks, power_law, two_layers
from anabook.convergence.tails import decay_in_words, tail_of
from anabook.laws import FAMILIES, Decay, Edge, Law, Power, symmetric
from anabook.namespaces import sympy_namespace
from anabook.symbolic import Density, x
from anabook.symbolic._tails import _tail

LAPLACE = Law(
    "laplace",
    density=lambda t, m: m.exp(-m.root(2) * m.abs(t)) / m.root(2),
    distribution=lambda t, m: symmetric(t, m, m.exp(-m.root(2) * m.abs(t)) / 2),
    ends=lambda m: Decay(exponent=1, rate=m.root(2), coefficient=m.one / 2),
    log_concave=True,
)
# The same noise in units of its own, and a law with an edge whose distribution function cancels there.
WIDE = Law(
    "laplace",
    density=lambda t, m: m.exp(-m.abs(t)) / 2,
    distribution=lambda t, m: symmetric(t, m, m.exp(-m.abs(t)) / 2),
    ends=lambda m: Decay(exponent=1, rate=m.one, coefficient=m.one / 2),
    std=math.sqrt(2),
)
BUMP = Law(
    "bump",
    density=lambda t, m: m.inside(t, 1, 3 * (1 - t * t) / 4),
    distribution=lambda t, m: m.one / 2 + 3 * m.clip(t, -1, 1) / 4 - m.clip(t, -1, 1) ** 3 / 4,
    support=(-1, 1),
    ends=lambda m: Edge(2, 3 * m.one / 4),
    std=math.sqrt(0.2),
    log_concave=True,
)
STUDENT = Law(
    "student",
    density=lambda t, m: 1 / (2 + t * t) / m.sqrt(2 + t * t),
    distribution=lambda t, m: m.one / 2 + t / (2 * m.sqrt(2 + t * t)),
    ends=lambda m: Power(2, m.one / 2),
    std=math.inf,
)
GAMMA = sp.gamma(sp.Rational(1, 4))
MARGINS = ([(2, 2), (1, 1)], [(1, 1), (2, 2)], [(3, 4), (2, 3), (1, 1)], [(1, 1), (1, 1), (1, 1)], [(1, 3), (1, 1), (2, 1)])


# Not made while tests are collected: SymPy takes seconds, and each worker collects them all.


@functools.cache
def normal():
    return Density(sp.exp(-((x - 1) ** 2) / 8) / sp.sqrt(8 * sp.pi), x)


@functools.cache
def quadratic():
    return Density(sp.Rational(3, 4) * (1 - x**2), x, (-1, 1))


@functools.cache
def exponential():
    return Density(sp.exp(-x), x, (0, sp.oo))


def test_the_law_says_how_its_tail_ends():
    assert tail_of(LAPLACE) == Decay(1, sp.sqrt(2), 0, sp.Rational(1, 2)) == tail_of(WIDE)
    assert [str(decay_in_words(tail_of(law))) for law in (LAPLACE, "normal", "logistic")] == [
        "exp(−√2·s/std)",
        "exp(−s²/(2·std²))",
        "exp(−π·s/(√3·std))",
    ]
    bump = ab.laws.placed(quadratic())[0]
    assert tail_of(bump) == Edge(2, sp.Rational(3, 20)) == tail_of(BUMP)
    assert tail_of(ab.laws.placed(normal())[0]) == tail_of("normal")


@pytest.mark.parametrize(
    ("expression", "support", "tail"),
    [
        (1 - sp.Abs(x), (-1, 1), Edge(2, sp.Rational(1, 2))),
        (sp.Rational(1, 2), (-1, 1), Edge(1, sp.Rational(1, 2))),
        (sp.exp(-sp.Abs(x)) / 2, (-sp.oo, sp.oo), Decay(1, 1, 0, sp.Rational(1, 2))),
        (2 * sp.exp(-(x**4)) / GAMMA, (-sp.oo, sp.oo), Decay(4, 1, -3, 1 / (2 * GAMMA))),
        (1 / (sp.pi * (1 + x**2)), (-sp.oo, sp.oo), Power(1, 1 / sp.pi)),
    ],
    ids=["triangle", "box", "laplace", "quartic", "cauchy"],
)
def test_sympy_finds_the_tails_of_densities(expression, support, tail):
    law = ab.laws.placed(Density(expression, x, support))[0]
    found = law.upper_tail(sympy_namespace())
    assert type(found) is type(tail) and all(sp.simplify(a - b) == 0 for a, b in zip(found, tail))
    assert type(law.lower_tail()) is type(tail) and law.lower_tail() == pytest.approx([float(v) for v in tail])


@pytest.mark.parametrize(
    ("expression", "end"),
    [
        (sp.exp(-(sp.log(x) ** 2) / 2) / x, sp.oo),
        (sp.exp(-(x**2)) * (2 + sp.cos(x)), sp.oo),
        (sp.exp(-1 / (1 - x)), sp.Integer(1)),
        (sp.exp(-x) * sp.log(x), sp.oo),
    ],
    ids=["lognormal", "wave", "flat edge", "logarithm"],
)
def test_what_ends_unlike_all_of_these_is_not_found(expression, end):
    assert _tail(expression, end, 1, sp.Integer(0)) is None


@pytest.mark.parametrize("steps", MARGINS)
@pytest.mark.parametrize("law", [LAPLACE, WIDE, BUMP], ids=["laplace", "wide", "bump"])
def test_what_the_check_says_of_a_law_of_ones_own_is_what_networks_do(law, steps):
    schedules = [log_margin(law, p, kappa) for p, kappa in steps]
    verdict = check(law, schedules)
    # The closed criteria of the logistic and the triangular law rest on the tail's exponent and order alone.
    assert verdict.holds is log_margin_converges("triangular" if law is BUMP else "logistic", *zip(*steps))
    limits = networks.limit(networks.chain(len(steps), weight=3), [0], law, schedules)
    assert (limits.verdict != "wrong") if verdict.holds else (networks.witness(verdict) is not None)


def test_network_a_converges_with_one_order_of_the_schedules_only():
    for law in (LAPLACE, quadratic()):
        for pair, word in (([(2, 2), (1, 1)], "right"), ([(1, 1), (2, 2)], "wrong")):
            schedules = [log_margin(law, *step) for step in pair]
            assert check(law, schedules).holds is (word == "right")
            assert networks.limit(networks.NETWORK_A.network, [0], law, schedules).verdict == word


@pytest.mark.parametrize("steps", MARGINS)
def test_a_density_that_is_the_normal_law_gets_the_normal_laws_verdicts(steps):
    schedules = [log_margin("normal", p, kappa) for p, kappa in steps]
    mine, known = check(normal(), schedules), check("normal", schedules)
    assert [log_margin(normal(), p, kappa) for p, kappa in steps] == schedules
    assert (mine.holds, mine.conditions) == (known.holds, known.conditions)
    assert (mine.rates, mine.bounds) == (known.rates, known.bounds)
    assert mine.explain() == known.explain()
    assert mine.table().splitlines()[1].split() == ["family", *["density"] * len(steps)]


def test_a_noise_of_the_law_and_a_list_of_laws_are_read_too():
    for given in (ab.Noise(LAPLACE, 3, 7), [LAPLACE, "normal"], [ab.Noise("normal"), quadratic()]):
        assert check(given, [power_law(1, 2), power_law(1, 2)], weights="same").holds is True
        assert check(given, [power_law(1, 2), (0, LAMBDA)]).holds is False
    assert check(ab.Noise("normal"), [power_law(1, 2)]).families == ("normal",)
    assert two_layers(LAPLACE, [log_margin(LAPLACE, 2, 2), log_margin(LAPLACE, 1, 1)])[1].holds is True


def test_on_its_threshold_the_edge_of_a_law_is_exact():
    reach = sp.sqrt(5)
    for law in (BUMP, quadratic()):
        assert check(law, [(-reach * LAMBDA, LAMBDA)] * 2).holds is True
        assert check(law, [(-(reach - sp.Rational(1, 10**20)) * LAMBDA, LAMBDA)]).holds is False


@pytest.mark.parametrize(
    "law",
    [LAPLACE, WIDE, BUMP, STUDENT, normal, quadratic, exponential],
    ids=["laplace", "wide", "bump", "student", "normal", "quadratic", "exponential"],
)
def test_networks_in_many_digits_agree_with_doubles_and_with_quadrature(law):
    law = law if isinstance(law, Law) else law()
    network = networks.Network([[[1], [1]], [[1, 2]]], [[0.5, -0.25], [-1]])
    noises = [(law, -0.5, 0.75), (law, 0.25, 1.5)]
    doubles, fine = (network.regularised([1], noises, digits=digits) for digits in (None, 50))
    for coarse, exact in zip((*doubles.values, *doubles.deviations), (*fine.values, *fine.deviations)):
        assert coarse == pytest.approx(exact.astype(float), rel=1e-12, abs=1e-15)
    as_noises = network.regularised([1], [ab.Noise(*noise) for noise in noises])
    assert as_noises.output == pytest.approx(doubles.output, rel=1e-12)
    noise = ab.Noise(law, -0.5, 0.75)
    for value, s in zip(doubles.values[0], (1.5, 0.75)):
        low = max(noise.support[0], -0.5 - 60)
        mass = integrate.quad(lambda v: float(noise.pdf(v)), low, s, points=[-0.5, 0], limit=500)[0]
        assert value == pytest.approx(mass, abs=3e-4 if law is STUDENT else 1e-9)


def test_tails_keep_their_digits_in_networks():
    unit = networks.chain(1)
    for law in (BUMP, quadratic()):  # the second is not a Law, but has one
        for depth in (mpmath.mpf("1e-3"), mpmath.mpf("1e-40"), mpmath.mpf("1e-9000")):
            with mpmath.workdps(9100):
                mean = -(mpmath.sqrt(5) * (1 - depth))
                expected = depth**2 * (3 - depth) / 4
                noise = networks.LayerNoise(law, mean, mpmath.mpf(1), mean - mpmath.sqrt(5), mpmath.sqrt(5) * depth)
            found = unit.regularised([0], [noise], digits=50).deviation[0]
            assert abs(-found / expected - 1) < mpmath.mpf("1e-45")
            if depth > 1e-50:
                floats = networks.LayerNoise(law, *map(float, noise[1:]))
                assert float(unit.regularised([0], [floats]).deviation[0]) == pytest.approx(-float(expected), rel=1e-12)
    for t in (8, 40):
        found = unit.regularised([0], [(normal(), mpmath.mpf(-t), mpmath.mpf(1))], digits=50).deviation[0]
        known = unit.regularised([0], [("normal", mpmath.mpf(-t), mpmath.mpf(1))], digits=50).deviation[0]
        assert abs(found / known - 1) < mpmath.mpf("1e-45")


def test_a_law_that_is_registered_is_called_by_its_name(monkeypatch):
    monkeypatch.setitem(FAMILIES, "laplace", LAPLACE)
    schedules = [log_margin("laplace", 2, 2), log_margin("laplace", 1, 1)]
    assert check("laplace", schedules).holds is True and check("laplace", schedules).families == ("laplace",) * 2
    assert networks.limit(networks.NETWORK_A.network, [0], "laplace", schedules).verdict == "right"
    unit, noises = networks.chain(1), networks.noises_at("laplace", [(-LAMBDA, LAMBDA / 4)], 0.1)
    for digits in (None, 50):
        assert float(unit.regularised([0], noises, digits=digits).values[0][0]) == pytest.approx(
            1 - math.exp(-4 * math.sqrt(2)) / 2, rel=1e-14
        )
    with pytest.raises(ValueError, match="triangular, normal and logistic noise only, not for <law laplace>"):
        log_margin_converges(LAPLACE, [1], [1])


SILENT = Law("silent", LAPLACE.density, LAPLACE.distribution)
REFUSED = {
    "a power": (STUDENT, r"^the tail of student noise decays like a power, t\^−2, and "),
    "a tail of which nothing is said": (SILENT, "^how the tail of silent noise ends is not known: "),
    "lopsided": (exponential, "^the conditions are proved for laws that are symmetric about .*, and density noise is not "),
    "no probability": (LAPLACE.changed(weight=2.0), r"must be a probability's law, and that of laplace is none: its .*\.$"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_laws_for_which_nothing_is_proved_are_refused_in_a_sentence(case):
    law, words = REFUSED[case]
    law = law if isinstance(law, Law) else law()
    for call in (lambda: check(law, [power_law(1, 2)]), lambda: log_margin(law, 1, 1)):
        with pytest.raises(ValueError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_other_wrong_laws():
    with pytest.raises(ValueError, match="must be one of 'uniform', .*, 'logistic', not 'laplace'"):
        check("laplace", [power_law(1, 2)])
    with pytest.raises(ValueError, match=r"uniform and triangular noise only, not for <law laplace>\."):
        networks.exact_limit(networks.chain(1), [0], LAPLACE, [(-LAMBDA, LAMBDA)])
    with pytest.raises(ValueError, match="has parameters without values"):  # noqa: PT012
        a = sp.Symbol("a", positive=True)
        check(Density(a * sp.exp(-a * sp.Abs(x)) / 2, x, parameters=(a,)), [power_law(1, 2)])
