"""Links from what the package's pages describe to the lines that define it, where a repository is named.

ANABOOK_REPOSITORY and ANABOOK_BRANCH name it (anabook_site.py); without it there is no link, and sphinx.ext.linkcode is
not loaded.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import inspect
from pathlib import Path
from typing import Any

from anabook_site import Repository, repository
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]


def defined(thing: Any) -> Any:
    """The function or class behind a property, a method of a class, or a wrapper."""
    if isinstance(thing, property):
        thing = thing.fget
    elif isinstance(thing, functools.cached_property):
        thing = thing.func
    elif isinstance(thing, (classmethod, staticmethod)):
        thing = thing.__func__
    return inspect.unwrap(thing) if callable(thing) else thing


@functools.cache
def assigned(file: str) -> dict[str, tuple[int, int]]:
    """The first and last line of every name that a module or one of its classes assigns or annotates, classes by "Class.name"."""
    found: dict[str, tuple[int, int]] = {}

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            targets = (
                node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
            )
            for target in targets:
                if isinstance(target, ast.Name):
                    found[prefix + target.id] = (node.lineno, node.end_lineno or node.lineno)
            if isinstance(node, ast.ClassDef):
                visit(node.body, f"{prefix}{node.name}.")

    visit(ast.parse(Path(file).read_text(encoding="utf-8")).body, "")
    return found


@functools.cache
def imported(file: str, module: str) -> dict[str, str]:
    """The module that each name of a module is imported from."""
    package = module if Path(file).stem == "__init__" else module.rpartition(".")[0]
    return {
        name.name: importlib.util.resolve_name("." * node.level + (node.module or ""), package)
        for node in ast.parse(Path(file).read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
        if name.asname is None
    }


def lines_of(module: str, name: str) -> tuple[Path, int, int] | None:
    """The file, relative to the repository, and the first and last line that define a name of a module; none if it has no line.

    Args:
        module: its dotted name.
        name: "function", "Class" or "Class.member"; "" for the module.
    """
    home = owner = importlib.import_module(module)
    for part in filter(None, name.split(".")):
        # A module may load a name when it is first asked for; a class is asked for what stands in it, not for what it gives.
        owner, home = home, (getattr if inspect.ismodule(home) else inspect.getattr_static)(home, part, None)
    thing, first, last = defined(home), 1, 1
    try:
        file = inspect.getsourcefile(thing)
        if name:
            source, first = inspect.getsourcelines(thing)
            last = first + len(source) - 1
    except (TypeError, OSError):  # a value, which has no source of its own: the line that assigns it
        holder = importlib.import_module(owner.__module__) if inspect.isclass(owner) else importlib.import_module(module)
        file = inspect.getsourcefile(holder)
        short = f"{owner.__qualname__}.{name.rpartition('.')[2]}" if inspect.isclass(owner) else name
        first, last = assigned(str(file)).get(short, (0, 0))
        if not first and (source := imported(str(file), holder.__name__).get(short)):
            return lines_of(source, short)
    if not file or not first or not Path(file).resolve().is_relative_to(ROOT):
        return None
    return Path(file).resolve().relative_to(ROOT), first, last


def address(place: Repository, file: Path, first: int, last: int) -> str:
    """The address of lines of a file, in the form of the repository's host."""
    path = file.as_posix()
    if place.provider == "gitlab":
        return f"{place.url}/-/blob/{place.branch}/{path}#L{first}-{last}"
    if place.provider == "bitbucket":
        return f"{place.url}/src/{place.branch}/{path}#lines-{first}:{last}"
    return f"{place.url}/blob/{place.branch}/{path}#L{first}-L{last}"


def resolve(domain: str, said: dict[str, str]) -> str | None:
    """What sphinx.ext.linkcode asks for: the address of an object's source."""
    place = repository()
    if place is None or domain != "py" or not said.get("module"):
        return None
    found = lines_of(said["module"], said["fullname"])
    return address(place, *found) if found else None


def setup(app: Sphinx) -> dict[str, Any]:
    """Load sphinx.ext.linkcode where there is a repository; pages are read again when it changes."""
    place = repository()
    app.add_config_value("anabook_repository", "", "env", (str,))
    if place is not None:
        app.config.anabook_repository = " ".join(place)
        app.setup_extension("sphinx.ext.linkcode")
        app.config.linkcode_resolve = resolve
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
