"""Which quantiser each weight and each activation gets: one for all, or a mapping from patterns of names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from anabook._patterns import hint, is_name, matches
from anabook._validate import did_you_mean
from anabook.quantisers import Quantiser

FLOAT = "float"
"""What a mapping says, like None, of modules that are to stay in float."""

Quantisers = Quantiser | Mapping[str, Quantiser | str | None] | None
"""What `quantise` and `calibrate` take for weights, and for activations."""

_ENDS = ("first", "last")
WEIGHTED_KINDS = "linear, convolution, attention or recurrent layer"
"""The modules whose weights can be quantised, in words."""

_KINDS = {
    "weights": f"{WEIGHTED_KINDS} that the forward pass uses",
    "activations": "activation that the forward pass uses",
}


@dataclass(frozen=True)
class Assignment:
    """What each place of a network gets.

    Attributes:
        quantisers: by the name of the place; None for what is to stay in float. A place that nothing was said of is not in it.
        named: the places that a key without wildcards says it of, so that it counts whatever `keep` says.
    """

    quantisers: dict[str, Quantiser | None]
    named: set[str] = field(default_factory=set)

    @property
    def floats(self) -> set[str]:
        """The places of which it is said that they stay in float."""
        return {place for place, quantiser in self.quantisers.items() if quantiser is None}


def check_quantisers(what: str, value: Any) -> None:
    """Refuse what is neither a quantiser, nor None, nor a mapping from text to these.

    Args:
        what: "weights" or "activations".
        value: what was handed over.

    Raises:
        TypeError, ValueError: in one sentence.
    """
    if value is None or isinstance(value, Quantiser):
        return
    if not isinstance(value, Mapping):
        raise TypeError(
            f"{what} must be a Quantiser, a mapping from names of modules to Quantisers, or None, not {value!r}."
        )
    if not value:
        raise ValueError(f"{what} is an empty mapping: map '*' to a Quantiser for all modules, or leave {what} out.")
    for key, quantiser in value.items():
        if not isinstance(key, str):
            raise TypeError(f"{what} must map names of modules, or patterns of names, to Quantisers; {key!r} is no text.")
        if not (quantiser is None or quantiser == FLOAT or isinstance(quantiser, Quantiser)):
            raise TypeError(
                f"{what} must map {key!r} to a Quantiser, or to None or 'float' to keep it, not to {quantiser!r}."
            )


def quantises_any(value: Quantisers) -> bool:
    """Whether there is a quantiser in it at all."""
    return isinstance(value, Quantiser) or any(isinstance(each, Quantiser) for each in (value or {}).values())


def assigned(
    net: nn.Module, what: str, value: Quantisers, places: Mapping[str, str], ends: Mapping[str, set[str]]
) -> Assignment:
    """What each place gets: the first key of a mapping that matches it decides.

    Args:
        net: the network whose modules the keys name.
        what: "weights" or "activations".
        value: as `check_quantisers` lets through.
        places: the name of each place, and that of its module (another one where several layers share an activation).
        ends: the places in the "first" and in the "last" layer.

    Raises:
        ValueError: a key that matches nothing, with the nearest name; or one behind others that match all it does. "first",
            "last" and "*" may be behind some that match the same, as in a network of one layer, or where all are named.
    """
    if value is None or isinstance(value, Quantiser):
        return Assignment(dict.fromkeys(places, value) if value is not None else {})
    by_key: dict[str, set[str]] = {}
    found = Assignment({})
    for key, quantiser in value.items():
        if key in _ENDS:
            by_key[key] = ends[key]
        else:
            by_key[key] = {place for place, name in places.items() if matches(key, place) or matches(key, name)}
            if not by_key[key]:
                raise ValueError(_unmatched(net, what, key, places))
        behind = [earlier for earlier, taken in by_key.items() if by_key[key] and by_key[key] < taken][:1]
        free = by_key[key] - found.quantisers.keys()
        if not free and key not in (*_ENDS, "*"):
            behind = behind or [earlier for earlier, taken in by_key.items() if earlier != key and by_key[key] & taken]
        if behind:
            names = " and ".join(map(repr, behind))
            raise ValueError(
                f"{what} names {key!r} behind {names}, which match{'es' if len(behind) == 1 else ''} all that it does: the first "
                f"key that matches decides, so put {key!r} before {names}."
            )
        for place in free:
            found.quantisers[place] = quantiser if isinstance(quantiser, Quantiser) else None
            if is_name(key):
                found.named.add(place)
    return found


def _unmatched(net: nn.Module, what: str, key: str, places: Mapping[str, str]) -> str:
    names = list(dict.fromkeys(places.values()))
    module = dict(net.named_modules()).get(key)
    if module is not None:
        return (
            f"{what} names {key!r}, a {type(module).__name__}, which is and has no {_KINDS[what]}{did_you_mean(key, names)}."
        )
    meant = hint(key, names) or f"; there are {_listing(sorted(names))}"
    return f"{what} names {key!r}, which matches no {_KINDS[what]}{meant}."


def _listing(names: list[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(map(repr, names[:8])) + more if names else "none"
