"""Every public class and function has an example; that the examples are true is found by running them (`make test-unit`)."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

WITHOUT = {
    "plots": "",
}
"""What has no example yet, by room; names are only ever taken out."""


def shown() -> dict[str, object]:
    """The classes and functions that the page of the package shows, as "room.name"; exceptions are left out."""
    found = {}
    text = (ROOT / "book" / "api.md").read_text(encoding="utf-8")
    for name, options in re.findall(r"^\.\. automodule:: ([\w.]+)\n((?:   .*\n)*)", text, flags=re.M):
        module = importlib.import_module(name)
        chosen = re.search(r":members: *(.*)$", options, flags=re.M)
        if chosen is None:
            continue
        for each in re.findall(r"\w+", chosen[1]) or getattr(module, "__all__", None) or vars(module):
            value = getattr(module, each)
            if each.startswith("_") or not (inspect.isclass(value) or inspect.isfunction(value)):
                continue
            here = value.__module__ == name or ("imported-members" in options and value.__module__.startswith("anabook."))
            if here and not (inspect.isclass(value) and issubclass(value, BaseException)):
                found[f"{name.split('.')[1]}.{each}"] = value
    return found


def parts(value: object) -> list[object]:
    """A function; or a class with its methods and properties."""
    inside = vars(value).values() if inspect.isclass(value) else ()
    members = [each.fget if isinstance(each, property) else getattr(each, "__func__", each) for each in inside]
    return [value, *(each for each in members if inspect.isfunction(each))]


def without_example(public: dict[str, object]) -> set[str]:
    """A class may have its example in a method; one that is made by functions has it where it is made."""
    with_example = [part for value in public.values() for part in parts(value) if ">>> " in (part.__doc__ or "")]
    made = " ".join(str(inspect.signature(part).return_annotation) for part in with_example if inspect.isfunction(part))
    return {
        name
        for name, value in public.items()
        if not any(part in with_example for part in parts(value))
        and not (inspect.isclass(value) and re.search(rf"\b{value.__name__}\b", made))
    }


def test_every_public_class_and_function_has_an_example():
    public = shown()
    assert len(public) > 150
    allowed = {f"{room}.{name}" for room, names in WITHOUT.items() for name in names.split()}
    without = without_example(public)
    assert without <= allowed, f"without an example: {sorted(without - allowed)}"
    assert allowed <= without, f"no longer without one, to be taken out of the list: {sorted(allowed - without)}"
