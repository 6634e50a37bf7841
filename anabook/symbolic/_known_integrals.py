"""Integrals that have a rule here, since SymPy takes long for them or does not find them."""

from __future__ import annotations

import sympy as sp

from anabook.symbolic._bounded import attempt
from anabook.symbolic._symbols import x


def known_integral(integrand: sp.Expr, low: sp.Expr, high: sp.Expr) -> sp.Expr | None:
    """∫ of a sum of polynomials times Gaussian functions over the line or a half-line, or of c·x^s exp(−b x^p) over that.

    SymPy takes long for these, or does not find them, where the middle is not 0 or a power is broken.
    """
    if (low, high) == (-sp.oo, sp.oo):
        halves = [known_integral(integrand, *ends) for ends in ((-sp.oo, sp.Integer(0)), (sp.Integer(0), sp.oo))]
        if None not in halves:
            return sp.Add(*halves)
        rule = _gaussian_integral
    elif (low, high) == (0, sp.oo):
        rule = _half_integral
    elif (low, high) == (-sp.oo, 0):
        integrand, rule = integrand.subs(x, -x), _half_integral
    else:
        return None
    terms = attempt(lambda: [rule(term) for term in sp.Add.make_args(sp.expand(integrand, power_exp=False))])
    return None if terms is None or None in terms else sp.Add(*terms)


def _factors(term: sp.Expr) -> tuple[sp.Expr, sp.Expr, sp.Expr]:
    """A product as (what does not depend on x, the exponent of e, the rest)."""
    constant, rest = term.as_independent(x, as_Add=False)
    exponent, others = sp.Integer(0), sp.Integer(1)
    for factor in sp.Mul.make_args(rest):
        if isinstance(factor, sp.exp):
            exponent += factor.args[0]
        else:
            others *= factor
    return constant, sp.expand(exponent), others


def _gaussian(term: sp.Expr) -> tuple[sp.Expr, tuple[sp.Expr, sp.Expr], sp.Expr] | None:
    """c·p(x)·exp(−(x − m)²/(2v)) as c, (m, v) and the polynomial p; None for another term."""
    constant, exponent, others = _factors(term)
    if not (others.is_polynomial(x) and exponent.is_polynomial(x) and sp.degree(exponent, x) == 2):
        return None
    rest, linear, square = (exponent.coeff(x, k) for k in range(3))
    if not square.is_negative:
        return None
    peak = constant * sp.exp(sp.expand(rest - linear**2 / (4 * square)))
    return peak, (-linear / (2 * square), -1 / (2 * square)), others


def _gaussian_integral(term: sp.Expr) -> sp.Expr | None:
    gaussian = _gaussian(term)
    if gaussian is None:
        return None
    peak, (middle, variance), others = gaussian
    moments = [
        sp.factorial2(k - 1) * variance ** (k // 2) if k % 2 == 0 else sp.Integer(0)
        for k in range(int(sp.degree(others, x)) + 1)
    ]
    centred = sp.Poly(others.subs(x, x + middle), x)
    return peak * sp.sqrt(2 * sp.pi * variance) * sum(c * moments[k] for (k,), c in centred.terms())


def gaussian_antiderivative(f: sp.Expr) -> sp.Expr | None:
    """The antiderivative of a sum of Gaussian functions, for which SymPy needs long; None for other expressions."""
    terms = sp.Add.make_args(attempt(lambda: sp.expand(f, power_exp=False), default=f))
    parts = [_error_function(term) for term in terms]
    return None if len(terms) == 1 or None in parts else sp.Add(*parts)


def _error_function(term: sp.Expr) -> sp.Expr | None:
    gaussian = _gaussian(term)
    if gaussian is None or gaussian[2] != 1:
        return None
    peak, (middle, variance), _ = gaussian
    return peak * sp.sqrt(sp.pi * variance / 2) * sp.erf(sp.expand((x - middle) / sp.sqrt(2 * variance)))


def _half_integral(term: sp.Expr) -> sp.Expr | None:
    """Over x > 0."""
    found = _gamma_integral(term)
    return _half_gaussian_integral(term) if found is None else found


def _half_gaussian_integral(term: sp.Expr) -> sp.Expr | None:
    """c·p(x)·exp(−a x² − b x) over x > 0: I_0 by the error function, and 2a·I_{k+1} = k·I_{k−1} − b·I_k, by parts."""
    gaussian = _gaussian(term)
    if gaussian is None:
        return None
    peak, (middle, variance), others = gaussian
    a, b = 1 / (2 * variance), -middle / variance
    start = peak * sp.exp(-(b**2) / (4 * a))  # the term's Gaussian function at 0
    moments = [peak * sp.sqrt(sp.pi / a) / 2 * sp.erfc(b / (2 * sp.sqrt(a)))]
    for k in range(int(sp.degree(others, x))):
        before = k * moments[k - 1] if k else start
        moments.append((before - b * moments[k]) / (2 * a))
    return sp.Add(*(c * moments[k] for (k,), c in sp.Poly(others, x).terms()))


def _gamma_integral(term: sp.Expr) -> sp.Expr | None:
    constant, exponent, others = _factors(term)
    base, s = others.as_base_exp() if others != 1 else (x, sp.Integer(0))
    rate, power = (-exponent).as_independent(x, as_Add=False)
    root, p = power.as_base_exp()
    if base != x or root != x or not (rate.is_positive and p.is_positive and (s + 1).is_positive):
        return None
    return constant * sp.gamma((s + 1) / p) / (p * rate ** ((s + 1) / p))
