"""The symbols of all results."""

from __future__ import annotations

import sympy as sp

x = sp.Symbol("x", real=True)
alpha = sp.Symbol("alpha", real=True)
beta = sp.Symbol("beta", positive=True)
