"""Which cells of a chapter can run in the page, and what the others need that Python in the page has not.

A cell cannot run there if it imports what is absent (PyTorch, say) or a module of the package that imports it when it is loaded;
or if it uses a name that such a cell has bound. Both are read from the source: nothing is run.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import architecture


class Names(NamedTuple):
    """What a cell does with names and modules."""

    imports: frozenset[str]
    bound: frozenset[str]
    used: frozenset[str]


class _Reader(ast.NodeVisitor):
    """Reads names in the order in which Python comes to them: a value before the name that it is bound to."""

    def __init__(self) -> None:
        self.imports: set[str] = set()
        self.bound: set[str] = set()
        self.used: set[str] = set()

    def visit_Name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Load):
            self.bound.add(node.id)
        elif node.id not in self.bound:
            self.used.add(node.id)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.imports.add(alias.name)
            self.bound.add(alias.asname or alias.name.split(".")[0])

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.imports |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
        self.bound |= {alias.asname or alias.name for alias in node.names}

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.value, ast.Name) and node.value.id in ("ab", "anabook"):
            self.imports.add(f"anabook.{node.attr}")
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        for each in (node.value, *node.targets):
            self.visit(each)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        for each in (ast.parse(ast.unparse(node.target), mode="eval").body, node.value, node.target):
            self.visit(each)

    def visit_For(self, node: ast.For) -> None:
        for each in (node.iter, node.target, *node.body, *node.orelse):
            self.visit(each)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self.visit(node.target)

    def _comprehend(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        inner = _Reader()
        inner.bound = set(self.bound)
        for each in node.generators:
            for part in (each.iter, each.target, *each.ifs):
                inner.visit(part)
        for part in (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,):
            inner.visit(part)
        self.imports |= inner.imports
        self.used |= inner.used

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehend

    def _define(self, node: ast.FunctionDef | ast.Lambda) -> None:
        """A function's own names are its own; what else it uses is the cell's."""
        arguments = node.args
        for each in (*arguments.defaults, *filter(None, arguments.kw_defaults), *getattr(node, "decorator_list", [])):
            self.visit(each)
        inner = _Reader()
        own = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        inner.bound = {each.arg for each in own if each}
        for each in node.body if isinstance(node.body, list) else [node.body]:
            inner.visit(each)
        if isinstance(node, ast.FunctionDef):
            self.bound.add(node.name)
        self.imports |= inner.imports
        self.used |= inner.used - self.bound

    visit_FunctionDef = visit_Lambda = _define

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.generic_visit(node)
        self.bound.add(node.name)


def names_in(source: str) -> Names:
    """The modules that a cell imports or reaches through the package, the names it binds, and those it takes from others.

    >>> names_in("import anabook as ab" + chr(10) + "net = ab.training.quantise(net)") == Names(
    ...     frozenset({"anabook", "anabook.training"}), frozenset({"ab", "net"}), frozenset({"net"}))
    True
    """
    reader = _Reader()
    reader.visit(ast.parse(source))
    return Names(frozenset(reader.imports), frozenset(reader.bound), frozenset(reader.used))


@functools.cache
def _imports() -> tuple[architecture.Import, ...]:
    return tuple(architecture.imports())


@functools.cache
def _loads() -> dict[str, set[str]]:
    """For each module of the package, what it imports when it is loaded; a package's module loads the package, too."""
    found: dict[str, set[str]] = {name: {name.rpartition(".")[0]} - {""} for name in architecture.modules()}
    for each in _imports():
        if each.loads:
            found[each.source].add(each.target)
    return found


@functools.cache
def brought_by(module: str) -> frozenset[str]:
    """The modules at the top of other packages that come with a module of this package.

    They are what loading it loads, and what the module itself imports within its functions: who names it will call them.
    """
    loads, seen, waiting = _loads(), set(), [module]
    later = {each.target for each in _imports() if each.source == module and each.target.split(".")[0] != "anabook"}
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        waiting += loads.get(name, ())
    return frozenset(name.split(".")[0] for name in seen | later if name.split(".")[0] != "anabook")


def needs(sources: Iterable[str], absent: Mapping[str, str]) -> list[list[str]]:
    """For each cell of a chapter, in order, what it needs of what is absent, by the names for readers; empty if it can run.

    Args:
        sources: the cells.
        absent: modules at the top that Python in the page has not, with their names for readers.
    """
    result = []
    tainted: dict[str, set[str]] = {}
    for source in sources:
        names = names_in(source)
        wanted: set[str] = set()
        for module in names.imports:
            first = module.split(".")[0]
            brought = brought_by(module) if first == "anabook" else {first}
            wanted |= {absent[each] for each in brought if each in absent}
        for name in names.used:
            wanted |= tainted.get(name, set())
        for name in names.bound:
            if wanted:
                tainted[name] = wanted
            else:
                tainted.pop(name, None)
        result.append(sorted(wanted))
    return result
