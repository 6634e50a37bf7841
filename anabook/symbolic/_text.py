"""A density written as text, as files and command lines have it. Nothing in such a text is ever run."""

from __future__ import annotations

import ast
import functools
import re
from typing import Any

import sympy as sp

from anabook._validate import did_you_mean
from anabook.symbolic._density import Density

_T = sp.Symbol("t", real=True)
_NAMES = {"t": _T, "pi": sp.pi, "e": sp.E, "oo": sp.oo, "inf": sp.oo}
_OF_SYMPY = (
    *("acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "erf", "erfc", "exp", "gamma", "log", "sin", "sinh"),
    *("sqrt", "tan", "tanh"),
)
_FUNCTIONS = {"abs": sp.Abs, "max": sp.Max, "min": sp.Min, **{name: getattr(sp, name) for name in _OF_SYMPY}}
_OPERATORS: dict[type, Any] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: a**b,
    ast.USub: lambda a: -a,
    ast.UAdd: lambda a: a,
}
_LONGEST, _GREATEST_POWER = 1000, 100


@functools.lru_cache(maxsize=64)
def density_of(text: str) -> Density:
    """The density that a text describes: a formula in t, and where it holds, unless that is the whole line.

    Numbers, t, pi, e, + − * / ** (or ^), brackets and the usual functions are known. Decimals are read as exact fractions.

    Args:
        text: for example "3/4*(1 - t**2) on [-1, 1]".

    Returns:
        The density; the same object for the same text.

    Raises:
        ValueError: the text is no formula of that kind, or no density.
        TypeError: it is no text.

    Example:
        >>> density_of("3/4*(1 - t^2) on [-1, 1]").std
        sqrt(5)/5
    """
    if not isinstance(text, str):
        raise TypeError(f"a density must be given as text here, not {text!r}.")
    formula, on, ends = text.partition(" on ")
    support = re.fullmatch(r"\s*\[(.+),(.+)\]\s*", ends)
    if on and not support:
        raise ValueError(
            f"after 'on' there must be the ends of the support, as in 'on [-1, 1]', not {ends.strip()!r} in {text!r}."
        )
    low, high = (_value(end, text) for end in support.groups()) if support else (-sp.oo, sp.oo)
    return Density(_value(formula, text), _T, (low, high))


def _value(formula: str, text: str) -> sp.Expr:
    if len(formula) > _LONGEST:
        raise ValueError(f"a density's text may have {_LONGEST} characters, not {len(formula)}.")
    try:
        tree = ast.parse(formula.strip().replace("^", "**"), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"{formula.strip()!r} is no formula, in {text!r}.") from None
    value = _read(tree.body, text)
    if value.has(sp.zoo, sp.nan):
        raise ValueError(f"{formula.strip()!r} divides by zero, in {text!r}.")
    return value


def _read(node: ast.expr, text: str) -> sp.Expr:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return sp.Rational(str(value))
        case ast.Name(id=name):
            return _known(name, _NAMES, text)
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_read(operand, text))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            base, other = _read(left, text), _read(right, text)
            if isinstance(op, ast.Pow) and other.is_number and not abs(other) <= _GREATEST_POWER:
                raise ValueError(f"powers up to {_GREATEST_POWER} are allowed, not {other}, in {text!r}.")
            return _OPERATORS[type(op)](base, other)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if arguments:
            function = _known(name, _FUNCTIONS, text)
            if len(arguments) > 1 and name not in ("max", "min"):
                raise ValueError(f"{name} takes one argument, not {len(arguments)}, in {text!r}.")
            return function(*(_read(argument, text) for argument in arguments))
    raise ValueError(f"{ast.unparse(node)!r} is not allowed in a density's text: {text!r}.")


def _known(name: str, names: dict[str, Any], text: str) -> Any:
    if name not in names:
        raise ValueError(
            f"{name!r} is not known in a density's text{did_you_mean(name, names)}; there are {', '.join(sorted(names))}, "
            f"in {text!r}."
        )
    return names[name]
