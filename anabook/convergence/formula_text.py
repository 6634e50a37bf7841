"""Formulas as text, for messages."""

from __future__ import annotations

import math
from typing import Any

import sympy as sp
from sympy.printing.str import StrPrinter

from anabook.convergence.constants import approximate
from anabook.convergence.leash import bounded
from anabook.convergence.orders import LAMBDA

LOG = sp.log(1 / LAMBDA)
"""ln(1/λ), positive for λ < 1."""


_SYMBOLS = {"lambda": "λ", "LOG": "ln(1/λ)"}
_NAMES = {"log": "ln", "Max": "max", "Min": "min", "gamma": "Γ", "zeta": "ζ", "LambertW": "W", "loggamma": "ln Γ"}


_LONG = 1000  # bits, beyond which a number is not written out


class _Printer(StrPrinter):
    """SymPy's text, by the names that a reader knows."""

    def _print_Symbol(self, expr: Any) -> str:
        return _SYMBOLS.get(expr.name, expr.name)

    def _print_Infinity(self, expr: Any) -> str:
        return "∞"

    def _print_NegativeInfinity(self, expr: Any) -> str:
        return "-∞"

    def _print_ComplexInfinity(self, expr: Any) -> str:
        return "complex ∞"

    def _print_NaN(self, expr: Any) -> str:
        return "not a number"

    def _print_Integer(self, expr: Any) -> str:
        return _decimal(expr) if max(expr.p.bit_length(), expr.q.bit_length()) > _LONG else super()._print_Rational(expr)

    _print_Rational = _print_Integer

    def _print_Exp1(self, expr: Any) -> str:
        return "e"

    def _print_ImaginaryUnit(self, expr: Any) -> str:
        return "i"

    def _print_Function(self, expr: Any) -> str:
        name = expr.func.__name__
        return f"{_NAMES.get(name, name)}({', '.join(map(self._print, expr.args))})"

    def _print_Heaviside(self, expr: Any) -> str:
        return f"H({self._print(expr.args[0])})"

    def _print_Abs(self, expr: Any) -> str:
        return f"|{self._print(expr.args[0])}|"

    def _print_floor(self, expr: Any) -> str:
        return f"⌊{self._print(expr.args[0])}⌋"

    def _print_ceiling(self, expr: Any) -> str:
        return f"⌈{self._print(expr.args[0])}⌉"

    def _print_Piecewise(self, expr: Any) -> str:
        cases = [
            f"{self._print(value)} {'otherwise' if condition == sp.true else f'if {self._print(condition)}'}"
            for value, condition in expr.args
        ]
        return f"({', '.join(cases)})"

    def _print_LatticeOp(self, expr: Any) -> str:
        name = type(expr).__name__
        return f"{_NAMES.get(name, name)}({', '.join(map(self._print, sorted(expr.args, key=sp.default_sort_key)))})"

    _print_Max = _print_Min = _print_LatticeOp


def show(expression: Any) -> str:
    """A formula as text: λ for the symbol, ^ for powers, short decimals for unwieldy numbers.

    Example:
        >>> show(sp.floor(1 / LAMBDA) * sp.oo + sp.exp(-(LAMBDA**2)))
        '∞·⌊1/λ⌋ + exp(-λ^2)'
    """
    expression = sp.sympify(expression)
    if expression.is_number and expression.is_real:
        return _number(expression)
    expression = expression.xreplace({sp.log(LAMBDA): -sp.Symbol("LOG"), LOG: sp.Symbol("LOG")})
    return _written(expression)


def _number(value: sp.Expr) -> str:
    if value.is_Rational and value.q < 1000 and abs(value.p) < 10**15:
        return str(value)
    if value.is_Rational:
        return _decimal(value)
    found = bounded(_decimal, value)  # exp(exp(exp(exp(5)))) would take for ever
    return _written(value) if found is None else found


def _decimal(value: sp.Expr) -> str:
    known = value if value.is_Rational else approximate(value)  # SymPy's own decimals may be wrong where terms cancel
    if known is None:
        return _written(value)
    try:
        short = float(known)
    except OverflowError:
        short = math.inf
    return f"{short:.4g}" if (short or value == 0) and math.isfinite(short) else str(sp.N(known, 4))


def _written(expression: sp.Expr) -> str:
    try:
        text = _Printer().doprint(expression)
    except ArithmeticError:  # SymPy orders terms by their values, and those of ⌊2 − 10^−300⌋ it may not find
        text = _Printer({"order": "none"}).doprint(expression)
    return text.replace("**", "^").replace("*", "·")


def angle_text(phase: sp.Expr) -> str:
    """A multiple of π as text.

    Example:
        >>> angle_text(3 * sp.pi / 2)
        '3π/2'
    """
    return sp.sstr(phase).replace("*pi", "π").replace("pi", "π")
