"""A density written as text, as files and command lines have it. Nothing in such a text is ever run.

What can be written is kept small: numbers of ordinary size, low powers, functions that are not nested deeply. So reading a text
always ends, and so does what SymPy then does with it.
"""

from __future__ import annotations

import ast
import functools
import re
import warnings
from typing import Any, NamedTuple

import sympy as sp

from anabook._validate import did_you_mean
from anabook.symbolic._bounded import allowance
from anabook.symbolic._density import Density

_T = sp.Symbol("t", real=True)
_NAMES = {"t": _T, "pi": sp.pi, "e": sp.E, "oo": sp.oo, "inf": sp.oo}
_OF_SYMPY = (
    *("acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "erf", "erfc", "exp", "log", "sin", "sinh"),
    *("sqrt", "tan", "tanh"),
)
_BENT = {"abs": sp.Abs, "max": sp.Max, "min": sp.Min}
_FUNCTIONS = {**_BENT, **{name: getattr(sp, name) for name in _OF_SYMPY}}
_OPERATORS: dict[type, Any] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: a**b,
    ast.USub: lambda a: -a,
    ast.UAdd: lambda a: a,
}
_LONGEST, _MOST_PARTS = 300, 120
_GREATEST_POWER, _DEEPEST, _MOST_BENT = 12, 2, 4
_LARGEST = 10**15
_STEPS = 150_000  # what SymPy may take for all that a density is asked when it is made


@functools.lru_cache(maxsize=64)
def density_of(text: str) -> Density:
    """The density that a text describes: a formula in t, and where it holds, unless that is the whole line.

    Numbers, t, pi, e, + − * / ** (or ^), brackets, abs, max, min, exp, log, sqrt, erf and the circular and hyperbolic functions
    are known. Decimals are read as exact fractions.

    Args:
        text: for example "3/4*(1 - t**2) on [-1, 1]"; at most 300 characters, powers up to 12, functions in functions once.

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
    if len(text) > _LONGEST:
        raise ValueError(f"a density's text may have {_LONGEST} characters, not {len(text)}.")
    formula, *ends = re.split(r"\s+on\s*(?=\[)", " ".join(text.split()))
    try:
        if len(ends) > 1:
            raise ValueError("'on' is there more than once")
        with allowance(_STEPS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an integral that a text makes hard: what comes out is checked
            return Density(_value(formula), _T, _support(ends[0]) if ends else (-sp.oo, sp.oo))
    except RecursionError:
        raise ValueError(f"{_short(text)} is nested too deeply.") from None
    except (ValueError, TypeError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{_short(text)} is not a density: {said[0].rstrip('.')}.") from None
    except (ArithmeticError, IndexError) as error:
        raise ValueError(f"{_short(text)} is not a density that can be computed with ({type(error).__name__}).") from None


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


class _Part(NamedTuple):
    """A piece of a formula: its value, the product of the powers in it, and how deeply functions are nested."""

    value: sp.Expr
    power: int = 1
    depth: int = 0


def _support(text: str) -> tuple[sp.Expr, sp.Expr]:
    ends = _tree(text)
    if not isinstance(ends, ast.List) or len(ends.elts) != 2:
        raise ValueError("after 'on' there must be the two ends of the support, as in 'on [-1, 1]'")
    low, high = (_read(end).value for end in ends.elts)
    return low, high


def _value(formula: str) -> sp.Expr:
    tree = _tree(formula)
    nodes = list(ast.walk(tree))
    if len(nodes) > _MOST_PARTS:
        raise ValueError(f"it may have {_MOST_PARTS} parts, not {len(nodes)}")
    if sum(isinstance(node, ast.Name) and node.id in _BENT for node in nodes) > _MOST_BENT:
        raise ValueError(f"abs, max and min may occur {_MOST_BENT} times in all")
    return _read(tree).value


def _tree(formula: str) -> ast.expr:
    try:
        return ast.parse(formula.strip().replace("^", "**"), mode="eval").body
    except (SyntaxError, ValueError, MemoryError):
        hint = ", and the support is written as in 'on [-1, 1]'" if re.search(r"\bon\b", formula, re.IGNORECASE) else ""
        raise ValueError(f"{_short(formula.strip())} is no formula{hint}") from None


def _read(node: ast.expr) -> _Part:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return _Part(_ordinary(sp.Rational(repr(value)) if abs(value) <= _LARGEST else sp.oo))
        case ast.Name(id=name):
            if name in _FUNCTIONS:
                raise ValueError(f"{name} needs an argument in brackets")
            return _Part(_known(name, _NAMES))
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            part = _read(operand)
            return part._replace(value=_OPERATORS[type(op)](part.value))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _combined(op, _read(left), _read(right))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if arguments and name not in _NAMES:
            function, parts = _known(name, _FUNCTIONS), [_read(argument) for argument in arguments]
            if len(parts) > 1 and name not in ("max", "min"):
                raise ValueError(f"{name} takes one argument, not {len(parts)}")
            depth = 1 + max(part.depth for part in parts)
            if depth > _DEEPEST:
                raise ValueError("functions may stand in functions, but these not in others again")
            value = function(*(part.value for part in parts))
            return _Part(_ordinary(value), max(part.power for part in parts), depth)
    raise ValueError(f"{_short(ast.unparse(node))} is not allowed in a density's text")


def _combined(op: ast.operator, left: _Part, right: _Part) -> _Part:
    power = max(left.power, right.power)
    if isinstance(op, ast.Pow):
        if not right.value.is_number or not right.value.is_real or not abs(right.value) * left.power <= _GREATEST_POWER:
            raise ValueError(f"powers must be numbers up to {_GREATEST_POWER}, those within others multiplied")
        power = left.power * max(1, int(sp.ceiling(abs(right.value))))
    if isinstance(op, ast.Div) and right.value.is_zero:
        raise ValueError("it divides by zero")
    return _Part(_ordinary(_OPERATORS[type(op)](left.value, right.value)), power, max(left.depth, right.depth))


def _ordinary(value: sp.Expr) -> sp.Expr:
    """A value; numbers must be real and of ordinary size, so that none that is made of them gets out of hand."""
    if value.has(sp.zoo, sp.nan, sp.I):
        raise ValueError("it divides by zero, or has numbers that are not real")
    if value.is_number:
        size = abs(sp.N(value, 15))
        if not size <= _LARGEST or 0 < size < sp.Rational(1, _LARGEST):
            raise ValueError(f"numbers must lie between {1 / _LARGEST:g} and {_LARGEST:g} in size")
    return value


def _known(name: str, names: dict[str, Any]) -> Any:
    if name not in names:
        raise ValueError(f"{_short(name)} is not known{did_you_mean(name, names)}; there are {', '.join(sorted(names))}")
    return names[name]
