"""The search for a network that a schedule leads astray, and the largest error that a schedule allows."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import sympy as sp

from anabook._validate import flag, integer, real
from anabook.convergence.counterexamples import chain
from anabook.convergence.exact_arithmetic import PRECISE
from anabook.convergence.exact_stairs import tail_at
from anabook.convergence.formulas import exact, given_families, listed, renamed
from anabook.convergence.layer_noises import LayerNoise, layer_noise, noises_at, pair_of
from anabook.convergence.leash import SECONDS, in_time, seconds_allowed, within
from anabook.convergence.network_limits import FAR_LAMBDAS, NEAR_LAMBDAS, RIGHT, WRONG, Limit, judge, limit
from anabook.convergence.quantised_networks import Network
from anabook.convergence.samples import solutions
from anabook.convergence.schedule_formulas import as_formulas
from anabook.convergence.tails import DIRAC, family_of, is_one, tail_of, too_slow, work_out
from anabook.convergence.theorem_hypothesis import check
from anabook.convergence.verdicts import Verdict
from anabook.convergence.waves import angles
from anabook.schedules import Schedule


def worst_case(
    families: Any, schedules: Sequence[Any], lam: Any, weight: Any = 1, gap: Any = Fraction(1, 8), digits: int = 50
) -> list[Any]:
    """The largest error of each layer that weights of size c and margins of size g allow, up to constants.

    E_ℓ = max(T0((a_ℓ − c E_{ℓ−1})/β_ℓ), T0(g/β_ℓ)), with a = −mean, layers counted from 0 and E_{−1} = 0.
    The regularised network converges for every choice of weights, biases and input if and only if E_ℓ → 0 for every layer,
    every c and every g > 0.

    Args:
        families, schedules, lam, digits: as for `noises_at`.
        weight: the size c of the weights.
        gap: g > 0.

    Returns:
        One mpmath number a layer.

    Example:
        >>> from anabook.convergence import power_law
        >>> errors = worst_case("uniform", [power_law(2, 2), power_law(1, 1)], 0.01)
        >>> [float(error) for error in errors]
        [0.2113248654051871, 1.0]
    """
    real(weight, "weight", minimum=0.0)
    real(gap, "gap", above=0.0)
    with mpmath.workdps(integer(digits, "digits", minimum=15)):
        weight, gap, error, errors = PRECISE.number(weight), PRECISE.number(gap), mpmath.mpf(0), []
        for noise in noises_at(families, schedules, lam, digits):
            centred = layer_noise(0, (noise.family, mpmath.mpf(0), noise.std))
            error = max(_error_at(noise, -weight * error), _error_at(centred, gap))
            errors.append(error)
        return errors


def _error_at(noise: LayerNoise, offset: Any) -> Any:
    """P(ν > offset): how far the expectation of a Heaviside unit is from 1."""
    if noise.std == 0:
        return mpmath.mpf(offset < noise.mean)
    above, t = offset > noise.mean, (offset - noise.mean) / noise.std
    tail = tail_at(noise, np.array([offset]), np.array([above]), np.array([t]), PRECISE)[0]
    return tail if above else 1 - tail


@dataclass(frozen=True)
class Witness:
    """A constructed network on which the regularisation has a wrong limit.

    Attributes:
        network, x: the network, a `chain`, and its input.
        start, stop, weight, offset: the chain's parameters.
        limit: the `Limit` that says so.
        proved: whether it is derived that some network has a wrong limit, or none; else numbers suggest it of this one.
    """

    network: Network
    x: tuple[int, ...]
    start: int
    stop: int
    weight: Any
    offset: Any
    limit: Limit
    proved: bool = True

    def __str__(self) -> str:
        right, error = float(self.network(self.x)[0]), self.limit.deviations[-1][0]
        got = round(float(right + error), 12) + 0.0
        goes = f"the output tends to {got:.4g}, the quantised network gives {right:g}"
        if f"{got:.4g}" == f"{right:.4g}":
            goes = (
                f"the output tends to {mpmath.nstr(abs(mpmath.mpf(error)), 3)} {'less' if error < 0 else 'more'} than the "
            )
            goes += f"{right:g} that the quantised network gives"
        where = (
            f"layer {self.start}"
            if self.start == self.stop
            else f"layers {self.start} to {self.stop}, passed on with weight {self.weight}"
        )
        doubt = (
            "" if self.proved else f"numbers down to λ = {mpmath.nstr(self.limit.lambdas[-1], 3)} suggest, without proof: "
        )
        return f"{doubt}pre-activation {_text(self.offset)} in layer {self.start}; the error of {where}: {goes}"


def _text(offset: Any) -> str:
    """An offset as it stands, or in decimals where its fraction is long."""
    return str(offset) if Fraction(offset).denominator < 10**6 else f"{float(offset):.3g}"


_WEIGHTS = (1, 16, 128)  # larger ones delay a limit with an equality in it beyond the smallest λ here; see `_is_fading`
_VISIBLE_LAMBDAS = tuple(mpmath.mpf(f"1e-{exponent}") for exponent in (2, 3, 4))
_FINE_WEIGHTS = (1, 16, 128, 2**20)
_FINE = 1e-40
"""Of an output; with 60 digits less than this is told from 0."""

_OFFSETS = tuple(Fraction(v) for v in (0, "-1/8", "1/8", "-1/64", "1/64", "-1", "1"))


def witness(
    families: Any, schedules: Sequence[Any] | None = None, *, ask: bool = True, seconds: float = SECONDS
) -> Witness | None:
    """Construct a network on which the regularisation does not tend to the quantised map, if a chain is one.

    First `check` is asked: where it derives that every network converges, there is no witness, and where its numbers suggest
    that, the search's own count for nothing against it. Else the search tries every pair of layers, a few weights and a few
    offsets, shortest chains first, and judges each by `limit`: far down, or nearer where the formulas have too many digits
    there; and where they oscillate, also along sequences of λ on which the oscillation stands still. Chains are enough in
    principle: if any network fails, one of them does. Where `check` derives that one does, and none that is tried is seen to,
    a warning says so, and why: the error may begin beyond all λ that can be computed with.

    Args:
        families: as for `noises_at`, or an object with attributes `families` and `schedules`, such as a verdict.
        schedules: as for `noises_at`, as formulas or numbers; or a `Schedule`, read as `check` reads it.
        ask: False to search without asking, as a test of the check; far down is not the limit, so that numbers may then
            show a wrong limit where there is none.
        seconds: what check and search may take.

    Returns:
        The witness, or None if no chain that was tried has a wrong limit. `Witness.proved` says whether it rests on a
        derivation.

    Raises:
        ValueError: schedules that `check` refuses, or that cannot be computed at any of the λ.
        TypeError: no pairs, no laws.
        TimeoutError: the time was up before the search was at its end.

    Warns:
        UserWarning: `check` derives that some network has a wrong limit, or none, and no chain that was tried shows it.

    Example:
        >>> from anabook.convergence import power_law
        >>> found = witness("uniform", [power_law(1, 1), power_law(2, 2)])
        >>> found.x, found.limit.verdicts
        ((0,), array('wrong', dtype='<U5'))
    """
    ask = flag(ask, "ask")
    if schedules is None:
        if not (hasattr(families, "families") and hasattr(families, "schedules")):
            raise TypeError(f"schedules must be one pair (mean, std) a layer, or families a verdict, not {families!r}.")
        families, schedules = families.families, families.schedules
    if isinstance(schedules, Schedule):
        schedules = as_formulas(schedules)
    schedules = listed(schedules, "schedules must be one pair (mean, std) a layer")
    schedules = [pair if pair is None else tuple(map(_read, pair_of(i, pair))) for i, pair in enumerate(schedules)]
    families = given_families(families)
    with within(seconds):
        if work_out(families):
            raise TimeoutError(f"{too_slow()}; whether there is a witness is undecided.")
        said = None
        try:
            said = in_time(_what_check_says, families, schedules) if ask else None
            found = in_time(_found, families, schedules, said)
        except TimeoutError:
            known = "though some network has a wrong limit, or none" if _fails(said) else "whether there is one is undecided"
            raise TimeoutError(f"the search for a witness was stopped after {seconds_allowed():g} s; {known}.") from None
    if found is None and _fails(said):
        warnings.warn(_unseen(said), UserWarning, stacklevel=2)
    return found


def _read(part: Any) -> Any:
    """A formula with its decimal numbers as fractions, as `check` reads it."""
    return exact(part) if isinstance(part, sp.Expr) else part


def _fails(said: Verdict | None) -> bool:
    return said is not None and said.holds is False


def _found(families: Any, schedules: list[Any], said: Verdict | None) -> Witness | None:
    """A witness, if one is found."""
    if said is not None and said.holds:
        return None
    found = _search(families, schedules, _fails(said))
    if found is None and _fails(said):
        return _suspected(families, schedules, said)
    if found is not None and not found.proved and said is not None and said.evidence:
        return None  # the search's few λ are no match for the places that the check has chosen
    return found


def _what_check_says(families: Any, schedules: list[Any]) -> Verdict | None:
    """What `check` says of all networks; None where it does not apply."""
    if any(callable(part) and not hasattr(part, "free_symbols") for pair in schedules if pair is not None for part in pair):
        return None
    names = [families] if is_one(families) else list(families)
    for i, family in enumerate(names):
        if not (isinstance(family, str) and family == DIRAC):
            family = family_of(family, f"the family of layer {i}")
            try:
                tail_of(family)
            except ValueError:  # a law for which the theorem is not proved: numbers are all there is
                return None
    return check(families, schedules, seconds=seconds_allowed() / 2)


def _search(families: Any, schedules: list[Any], fails: bool) -> Witness | None:
    """The first chain with a wrong limit, far down if that can be computed, and along the formulas' waves."""
    unknown: ValueError | None = None
    for lambdas in (FAR_LAMBDAS, NEAR_LAMBDAS, _VISIBLE_LAMBDAS):
        try:
            noises_at(families, schedules, lambdas[-1], 60)
            found = _search_at(families, schedules, lambdas, fails)
            break
        except ValueError as error:
            unknown = error
    else:
        raise unknown if unknown is not None else ValueError("there are no λ to search at.")
    if found is not None or not fails:
        return found
    for start, offset in _halves_of_means(families, schedules, lambdas):
        found = _try_chain(families, schedules, start, start, 1, offset, lambdas, fails)
        if found is not None:
            return found
    for lambdas in _standing_lambdas(schedules):
        found = _search_at(families, schedules, lambdas, fails, _OFFSETS[:1], _WEIGHTS[:1])
        if found is not None:
            return found
    return None


def _search_at(
    families: Any,
    schedules: list[Any],
    lambdas: tuple[Any, ...],
    fails: bool,
    offsets: tuple[Fraction, ...] = _OFFSETS,
    weights: tuple[int, ...] = _WEIGHTS,
) -> Witness | None:
    if _no_chain_fails(families, schedules, lambdas):
        return None
    for length in range(len(schedules)):
        for start in range(len(schedules) - length):
            for offset in offsets:
                for weight in weights if length else weights[:1]:
                    found = _try_chain(families, schedules, start, start + length, weight, offset, lambdas, fails)
                    if found is not None:
                        return found
    return None


def _suspected(families: Any, schedules: list[Any], said: Verdict) -> Witness | None:
    """The first wrong limit, be it wrong by very little, of chains that begin in the layers that the check finds fault with."""
    faults = [finding for finding in said.findings if finding.holds is False and not finding.weights]
    starts = dict.fromkeys((f.layer - 1, True) if f.condition == "(18)" else (f.layer, False) for f in faults)
    for lambdas in (FAR_LAMBDAS, NEAR_LAMBDAS, _VISIBLE_LAMBDAS, *_standing_lambdas(schedules)):
        for start, passes in starts:
            for stop in range(start + passes, len(schedules) if passes else start + 1):
                for weight in _FINE_WEIGHTS if passes else _FINE_WEIGHTS[:1]:
                    try:
                        found = _try_chain(families, schedules, start, stop, weight, Fraction(0), lambdas, True, _FINE)
                    except ValueError:  # these λ are too small, or too many digits cancel
                        break
                    if found is not None:
                        return found
    return None


def _unseen(said: Verdict) -> str:
    why = str(next(finding for finding in said.findings if finding.holds is False))
    return (
        "no witness is found, though some network has a wrong limit, or none: no chain that was tried shows it at the λ at "
        f"which it was computed. {why[0].upper() + why[1:]}"
    )


def _halves_of_means(families: Any, schedules: list[Any], lambdas: tuple[Any, ...]) -> Iterator[tuple[int, Fraction]]:
    """Layers whose means settle at something else than 0, however small, and a pre-activation on the way there."""
    near, far = (noises_at(families, schedules, lam, 60) for lam in lambdas[-2:])
    for i, (before, last) in enumerate(zip(near, far)):
        if last.mean != 0 and abs(last.mean - before.mean) <= abs(last.mean) / 10:
            yield i, Fraction(mpmath.nstr(last.mean / 2, 2))


def _standing_lambdas(schedules: list[Any]) -> Iterator[tuple[Any, ...]]:
    """Sequences of λ along which a wave of the schedules stands still, for each wave at eight of its phases."""
    formulas = [sp.sympify(part) for pair in schedules for part in pair]
    for angle in dict.fromkeys(angle for formula in formulas for angle in angles(renamed(formula))):
        for eighth in range(8):
            places = []
            for exponent in (20, 40, 80):
                with mpmath.workdps(3 * exponent + 60):
                    places += solutions(angle, mpmath.mpf(10) ** -exponent, 2 * mpmath.pi, eighth * mpmath.pi / 4)
            if len(places) == 3:
                yield tuple(places)


def _no_chain_fails(families: Any, schedules: list[Any], lambdas: tuple[Any, ...]) -> bool:
    """Whether even the largest errors that the search's weights and offsets allow vanish, and the means with them."""
    errors = [np.array(worst_case(families, schedules, lam, max(_WEIGHTS), Fraction(1, 128))) for lam in lambdas]
    means = [abs(noise.mean) for noise in noises_at(families, schedules, lambdas[-1], 50)]
    return str(judge(errors, 0.01)) == RIGHT and max(means) < 1 / 128


def _try_chain(
    families: Any,
    schedules: list[Any],
    start: int,
    stop: int,
    weight: Any,
    offset: Any,
    lambdas: tuple[Any, ...],
    fails: bool,
    least: float = 1e-9,
) -> Witness | None:
    """The chain as a witness, if its output comes to err by something that is not less than `least`."""
    upto = stop + 1
    part_families = families if is_one(families) else list(families)[:upto]
    part_network = chain(upto, start, stop, weight, offset)
    part_schedules = schedules[:upto]
    last = noises_at(part_families, part_schedules, lambdas[-1], 60)
    if abs(part_network.regularised([0], last, digits=60).deviation[0]) < least:
        return None
    at = None if lambdas is FAR_LAMBDAS else lambdas
    tolerance = min(0.01, 1e6 * least)
    part = limit(part_network, [0], part_families, part_schedules, at, tolerance=tolerance)
    if part.verdict != WRONG:
        return None
    if not part.exact and _is_fading(part_network, part_families, part_schedules, start, lambdas):
        return None
    right = 1 if offset >= 0 or stop > start else 0
    error = part.deviations[-1][0]
    halfway = Fraction(float(right + error / 2)).limit_denominator(1000)
    if abs(error) < 1e-3:  # then a thousandth is not between the wrong value and the right one
        halfway = right + Fraction(mpmath.nstr(mpmath.mpf(error) / 2, 3))
    network = chain(len(schedules), start, stop, weight, offset, halfway)
    whole = limit(network, [0], families, schedules, at, tolerance=tolerance)
    if whole.verdict != WRONG:
        return None
    return Witness(network, (0,), start, stop, weight, offset, whole, fails or whole.exact)


def _is_fading(network: Network, families: Any, schedules: list[Any], start: int, lambdas: tuple[Any, ...]) -> bool:
    """Whether the error that overwhelms a unit of the chain is yet losing ground against that unit's offset.

    A ratio that falls like 1/ln(1/λ) wins in the end, but with a large weight not before any λ that one can write down.
    """
    runs = []
    for lam in lambdas[-2:]:
        noises = noises_at(families, schedules, lam, 60)
        runs.append((noises, [abs(d[0]) for d in network.regularised([0], noises, digits=60).deviations]))
    (noises, before), (far_noises, last) = runs
    settled = (i for i in range(start, len(last)) if last[i] > 1e-6 and last[i] > before[i] / 2)
    broken = next(settled, start)
    if broken == start or far_noises[broken].mean >= 0:
        return False
    ratio, far_ratio = before[broken - 1] / -noises[broken].mean, last[broken - 1] / -far_noises[broken].mean
    return bool(far_ratio < ratio / 2)
