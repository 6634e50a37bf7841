"""Theorem 2: when a network of regularised layers converges to its quantised self.

`conditions` decides the theorem's hypothesis from formulas in λ and says why; `networks` computes the
networks themselves, exactly and in the tails; `finite_noise` bounds how often a network differs from its limit at the
noise that it has. Every public name of the three can be used from here, as in `ab.convergence.check(...)`; each module
loads when one of its names is first used.

What lies behind them, each file using those before it only::

    what ends         leash (decisions and calls that end in time)
    asymptotics       constant_functions (in intervals), constants (compared exactly) → orders → enclosures (between two
                      orders), waves (along sequences), formula_text, evaluation, samples (numbers) → limits; power_sums (sums
                      of powers of λ, exactly)
    arithmetic        exact_arithmetic (rational arrays, numbers of any precision)
    laws              tails (what is asked of a law: how its tail ends, in any numbers; the only file that asks)
    what is said      verdicts, answers
    what is decided   formulas, noisy_heavisides, rates, schedule_formulas, theorem_hypothesis, paper_settings → conditions
    networks          layer_noises, exact_stairs, quantised_networks, network_limits
    examples          counterexamples, witnesses, ternary_networks, wrong_shares → networks
    before the limit  finite_noise
"""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = ("conditions", "networks", "finite_noise")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if not name.startswith("_"):
        for module in map(importlib.import_module, (f"{__name__}.{part}" for part in _MODULES)):
            if name in module.__all__:
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    public = (importlib.import_module(f"{__name__}.{part}").__all__ for part in _MODULES)
    return sorted({*globals(), *_MODULES, *(name for names in public for name in names)})
