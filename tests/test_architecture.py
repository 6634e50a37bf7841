"""The house as ARCHITECTURE.md draws it: its rooms, its arrows, no circle, no arrow upwards, and a theory without torch."""

from __future__ import annotations

import functools
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

spec = importlib.util.spec_from_file_location("architecture", ROOT / "tools" / "architecture.py")
architecture = importlib.util.module_from_spec(spec)
spec.loader.exec_module(architecture)

TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
ROWS = architecture.table(TEXT)
ORDER = [row.room for row in ROWS]
NOT_SHOWN = (architecture.BASICS, "namespaces", "combs", "anabook", "cli")
"""Rooms that are not on the pages of the package: nobody calls them from outside."""


@functools.cache  # read when a test asks: collecting tests is done by every worker
def imports():
    return architecture.imports()


def own():
    return [each for each in imports() if each.target.split(".")[0] == "anabook"]


@functools.cache
def graph_of_rooms():
    return architecture.arrows(imports())


def test_the_table_has_a_row_for_every_room():
    rooms = {architecture.room(name) for name in architecture.modules()}
    assert len(ORDER) == len(set(ORDER)) and set(ORDER) == rooms


def test_no_arrow_goes_upwards():
    rooms = {architecture.room(name) for name in architecture.modules()}
    place = {name: number for number, name in enumerate([*ORDER, *(rooms - set(ORDER))])}
    upwards = [str(each) for each in own() if place[architecture.room(each.source)] < place[architecture.room(each.target)]]
    assert not upwards, "\n".join(upwards)


def test_no_modules_import_each_other_not_even_within_functions():
    graph = {}
    for each in own():
        graph.setdefault(each.source, set()).add(each.target)
    found = architecture.circles(graph)
    lines = [str(each) for names in found for each in own() if each.source in names and each.target in names]
    assert not found, "\n".join(lines)


def test_the_table_says_what_each_room_imports():
    wrong = [
        f"{row.room}: the table says {sorted(row.imports)}, the imports are {sorted(graph_of_rooms().get(row.room, ()))}"
        for row in ROWS
        if set(row.imports) != graph_of_rooms().get(row.room, set())
    ]
    assert not wrong, "\n".join([*wrong, "`python tools/architecture.py` writes them"])


def test_the_picture_has_the_arrows_of_the_imports():
    graph = {name: graph_of_rooms().get(name, set()) - {architecture.BASICS} for name in ORDER}
    drawn, expected = architecture.picture(TEXT), architecture.without_detours(graph)
    missing = [f"{a} --> {b} is missing" for a, targets in expected.items() for b in targets - drawn.get(a, set())]
    missing += [
        f"{a} --> {b} is no import, or follows from others"
        for a, targets in drawn.items()
        for b in targets - expected.get(a, set())
    ]
    assert not missing, "\n".join(sorted(missing))


def test_rooms_without_torch_never_import_it():
    without = {row.room for row in ROWS if row.torch == "never"}
    assert {"quantisers", "noise", "regularisation", "schedules", "symbolic", "variants", "convergence"} <= without
    assert {row.torch for row in ROWS} == {"never", "needed"}
    inside = [each for each in imports() if architecture.room(each.source) in without]
    found = [str(each) for each in inside if each.target.split(".")[0] in ("torch", "torchvision", "torchaudio")]
    assert not found, "\n".join(found)


def test_loading_a_room_without_torch_loads_none_that_needs_it():
    without = {row.room for row in ROWS if row.torch == "never"}
    graph = {}
    for each in imports():
        if each.loads:
            parts = each.target.split(".")
            parents = {".".join(parts[:n]) for n in range(1, len(parts) + 1)}  # packages are loaded before their modules
            graph.setdefault(each.source, set()).update(parents)
    inside = [name for name in architecture.modules() if architecture.room(name) in without]
    found = [name for name in inside if "torch" in architecture.reached(graph, name)]
    assert not found, found


# --- the measure itself ------------------------------------------------------------------------------------------------


def house(folder, **files):
    for name, text in files.items():
        path = folder / "anabook" / f"{name.replace('__in__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return architecture.imports(folder)


def test_imports_are_found_wherever_they_stand(tmp_path):
    found = house(
        tmp_path,
        __init__="from anabook.a import x",
        a="def f():\n    import anabook.b.c\n",
        b__in____init__="from . import c\nfrom .c import y\nfrom .. import a",
        b__in__c="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from anabook import _d\n",
        _d="class A:\n    import torch.nn",
    )
    assert [each[:2] + each[3:] for each in found] == [
        ("anabook", "anabook.a", True),
        ("anabook._d", "torch.nn", True),
        ("anabook.a", "anabook.b.c", False),
        ("anabook.b", "anabook.b.c", True),
        ("anabook.b", "anabook.b.c", True),
        ("anabook.b", "anabook.a", True),
        ("anabook.b.c", "typing", True),
        ("anabook.b.c", "anabook._d", False),
    ]
    assert architecture.arrows(found) == {"anabook": {"a"}, "a": {"b"}, "b": {"a", "basics"}}
    assert str(found[2]) == "anabook.a imports anabook.b.c in line 2"


def test_circles_are_found_and_detours_left_out():
    assert architecture.circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d"}, "e": {"a"}}) == [["b", "c"], ["d"]]
    assert architecture.without_detours({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {"a": {"b"}, "b": {"c"}, "c": set()}


def test_the_tool_writes_what_the_tests_ask_for():
    text = "| `a` | low | never | — |\n| `b` | middle | never | `x` |\n| `c` | high | needed | — |\n```mermaid\nold\n```\n"
    new = architecture.written(text, {"b": {"a"}, "c": {"a", "b"}})
    assert architecture.table(new) == [("a", "never", ()), ("b", "never", ("a",)), ("c", "needed", ("a", "b"))]
    assert architecture.picture(new) == {"b": {"a"}, "c": {"b"}}
    assert architecture.written(new, {"b": {"a"}, "c": {"a", "b"}}) == new


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#:]+)\)", TEXT))
def test_links_lead_to_files(link):
    assert (ROOT / link).exists()


def test_the_pages_of_the_package_have_the_rooms_in_their_order():
    files = re.findall(r"- file: (book/api\S*)", (ROOT / "_toc.yml").read_text(encoding="utf-8"))
    pages = "".join((ROOT / f"{file}.md").read_text(encoding="utf-8") for file in files)
    shown = dict.fromkeys(architecture.room(name) for name in re.findall(r"automodule:: ([\w.]+)", pages))
    expected = [name for name in ORDER if name not in NOT_SHOWN]
    assert list(shown) == expected


@pytest.mark.parametrize("document", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_files_that_are_named_exist(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    named = re.findall(r"(?<=[` ])(?:anabook|tests|book|data|studies|benchmarks|tools)/[\w./-]*", text)
    missing = sorted({name for name in named if not (ROOT / name).exists()} - {"book/NN-name.ipynb"})
    assert len(named) > 5 and not missing, missing
