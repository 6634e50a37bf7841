"""Schedules of one's own: what a sweep's file may say of them, and what it leaves out."""

from __future__ import annotations

import math
import re
from typing import Any

from anabook._validate import choice, did_you_mean, real, unknown
from anabook.experiments import design
from anabook.schedules import INTERVALS, POWER_LAWS

OWN_DEFAULTS: dict[str, Any] = {
    "noise": "uniform",
    "strategy": "mode",
    "mean": "static",
    "std": "dynamic",
    "interval": "partition",
    "power_law": "homogeneous",
    "mean0": -0.5,
    "half_width": 0.5,
}
"""What a schedule of one's own need not say."""


def custom(name: str, own: dict[str, Any], n_layers: int) -> dict[str, Any]:
    """Check a schedule of one's own and fill in what it leaves out.

    Its entries: `noise` (see `noise_of`) and `strategy`; `mean` and `std` ("static" or "dynamic"); `interval`, a name or one
    pair (start, end) in epochs for each quantised layer; `power_law`, a name or one exponent for each; `mean0` and
    `half_width`, in quanta.

    Example:
        >>> own = custom("mine", {"noise": "logistic", "interval": [[0, 5], [5, 10]]}, n_layers=2)
        >>> own["noise"], own["strategy"]
        ('logistic', 'mode')
    """
    unknown(own, OWN_DEFAULTS, f"the schedule {name!r}")
    if name in design.BASELINES or name in design.GROUPS or any(name == u.name for u in design.units()):
        raise ValueError(f"a schedule of your own cannot be named {name!r}: that name is taken.")
    settings = {**OWN_DEFAULTS, **own}
    noise_of(settings["noise"])
    choice(settings["strategy"], list(map(str, design.Strategy)), "strategy")
    choice(settings["mean"], ("static", "dynamic"), "mean")
    choice(settings["std"], ("static", "dynamic"), "std")
    for what, names in (("interval", INTERVALS), ("power_law", POWER_LAWS)):
        if isinstance(settings[what], str):
            choice(settings[what], names, what)
        elif not isinstance(settings[what], (list, tuple)):
            raise TypeError(
                f"the {what} of {name!r} must be one of {', '.join(map(repr, names))}, or a list with an entry "
                f"for each quantised layer, not {settings[what]!r}."
            )
        elif len(settings[what]) != n_layers:
            raise ValueError(
                f"the {what} of {name!r} has {len(settings[what])} entries, but the network has {n_layers} quantised layers."
            )
    real(settings["mean0"], "mean0")
    real(settings["half_width"], "half_width", above=0.0)
    return settings


def noise_of(text: str) -> Any:
    """The noise that a schedule of one's own names, for `Noise`, `Quantise` and all that takes a law.

    Args:
        text: a family, a variant of the zoo that is a noise with a standard deviation, or a density of one's own as
            `symbolic.density_of` reads it.

    Raises:
        ValueError, TypeError: it is none of these.

    Example:
        >>> noise_of("normal"), noise_of("laplace").std
        ('normal', 1.4142135623730951)
        >>> noise_of("3/4*(1 - t**2) on [-1, 1]").support
        (-1, 1)
    """
    families = list(map(str, design.Family))
    if not isinstance(text, str):
        raise TypeError(f"noise must be text, not {text!r}.")
    if text in families:
        return text
    from anabook.variants import VARIANTS  # SymPy, only where it is needed

    variants = [name for name, v in VARIANTS.items() if v.is_probability and math.isfinite(v.std)]
    if text in variants:
        return VARIANTS[text]
    if text in VARIANTS:
        raise ValueError(f"noise {text!r} cannot be annealed: it is no noise that has a standard deviation.")
    if re.fullmatch(r"\s*[\w-]*\s*", text):
        raise ValueError(
            f"noise must be one of {', '.join(map(repr, families))}, a variant of the zoo or a density such as "
            f"'3/4*(1 - t**2) on [-1, 1]', not {text!r}{did_you_mean(text.strip(), [*families, *variants])}."
        )
    from anabook.symbolic import density_of

    return density_of(text)
