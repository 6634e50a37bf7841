"""Every public class and function has an example; that the examples are true is found by running them (`make test-unit`)."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def shown() -> dict[tuple[str, str], object]:
    """The classes and functions on the pages of the package, by module and name; exceptions are left out."""
    found = {}
    text = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "book").glob("api*.md")))
    for name, options in re.findall(r"^\.\. automodule:: ([\w.]+)\n((?:   .*\n)*)", text, flags=re.M):
        module = importlib.import_module(name)
        members = re.search(r":members: *(.*)$", options, flags=re.M)
        if members is None:
            continue
        listed = re.findall(r"\w+", members[1]) or getattr(module, "__all__", [])
        for each in listed or vars(module):
            value = getattr(module, each)
            if each.startswith("_") or not (inspect.isclass(value) or inspect.isfunction(value)):
                continue
            own = (
                value.__module__.startswith("anabook.")
                if listed or "imported-members" in options
                else value.__module__ == name
            )
            if own and not (inspect.isclass(value) and issubclass(value, BaseException)):
                found[value.__module__, value.__name__] = value
    return found


def parts(value: object) -> list[object]:
    """A function; or a class with its methods and properties."""
    inside = vars(value).values() if inspect.isclass(value) else ()
    members = [each.fget if isinstance(each, property) else getattr(each, "__func__", each) for each in inside]
    return [value, *(each for each in members if inspect.isfunction(each))]


def without_example(public: dict[tuple[str, str], object]) -> list[str]:
    """A class may have its example in a method; one that functions make has it where it is made."""
    with_example = [part for value in public.values() for part in parts(value) if ">>> " in (part.__doc__ or "")]
    made = " ".join(str(inspect.signature(part).return_annotation) for part in with_example if inspect.isfunction(part))
    return sorted(
        f"{module}.{name}"
        for (module, name), value in public.items()
        if not any(part in with_example for part in parts(value))
        and not (inspect.isclass(value) and re.search(rf"\b{name}\b", made))
    )


def test_every_public_class_and_function_has_an_example():
    public = shown()
    assert len(public) > 150
    without = without_example(public)
    assert not without, "\n".join(without)
