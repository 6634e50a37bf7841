"""Who imports whom in the package: the picture of ARCHITECTURE.md, and what the tests hold it to.

    python tools/architecture.py           write the column "imports" of the table, and the picture, into ARCHITECTURE.md
    python tools/architecture.py --check   write nothing; exit code 1 if the document is out of date

The rooms and their order are the rows of the document's table. A room is a module or a package directly in `anabook`;
`anabook` itself is the room of `anabook/__init__.py`, and the row of basics holds the modules whose names begin with an
underscore. Every import counts: of a whole module, within a function, and for the checker of types alone.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "ARCHITECTURE.md"
BASICS = "basics"
PICTURE = re.compile(r"(?<=```mermaid\n).*?(?=```)", re.DOTALL)
ROW = re.compile(r"^\| `(?P<room>\w+)` \| (?P<idea>[^|]*) \| (?P<torch>[^|]*) \| (?P<imports>[^|]*) \|$", re.MULTILINE)


class Import(NamedTuple):
    """One import statement's module, as written in `source` at `line`."""

    source: str
    target: str
    line: int
    loads: bool
    """Whether the import happens when `source` is loaded: not within a function, and not for types alone."""

    def __str__(self) -> str:
        return f"{self.source} imports {self.target} in line {self.line}"


class Row(NamedTuple):
    """A room, as the document's table has it."""

    room: str
    torch: str
    imports: tuple[str, ...]


def modules(root: Path = ROOT) -> dict[str, Path]:
    """The package's modules by their full names; a package is its `__init__.py`."""
    found = {}
    for path in sorted((root / "anabook").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(root: Path = ROOT) -> list[Import]:
    """Every import in the package, of the package's own modules and of others."""
    own = modules(root)
    found = []
    for name, path in own.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for node, loads in _statements(ast.parse(path.read_text(encoding="utf-8"))):
            for target in _targets(node, package, own):
                found.append(Import(name, target, node.lineno, loads))
    return found


def _statements(tree: ast.AST, loads: bool = True) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, loads
        else:
            later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            yield from _statements(node, loads and not later and not types)


def _targets(node: ast.Import | ast.ImportFrom, package: str, own: dict[str, Path]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        parents = package.split(".")[: len(package.split(".")) + 1 - node.level]
        base = ".".join([*parents, *filter(None, [node.module])])
    return list(dict.fromkeys(f"{base}.{alias.name}" if f"{base}.{alias.name}" in own else base for alias in node.names))


def room(module: str) -> str:
    """The room that a module of the package belongs to."""
    first = (module.split(".") + [""])[1]
    return BASICS if first.startswith("_") else first or "anabook"


def arrows(found: Iterable[Import]) -> dict[str, set[str]]:
    """For each room, the rooms that it imports from."""
    result: dict[str, set[str]] = {}
    for each in found:
        if each.target.split(".")[0] == "anabook":
            result.setdefault(room(each.source), set())
            if room(each.source) != room(each.target):
                result[room(each.source)].add(room(each.target))
    return result


def without_detours(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The arrows that do not follow from others: those that a picture needs. The graph has no circle."""
    around = {node: reached(graph, node) for node in graph}
    return {
        node: {target for target in targets if not any(target in around.get(other, ()) for other in targets - {target})}
        for node, targets in graph.items()
    }


def reached(graph: dict[str, set[str]], start: str) -> set[str]:
    """What can be reached from `start` by one arrow or more."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for target in graph.get(waiting.pop(), set()) - seen:
            seen.add(target)
            waiting.append(target)
    return seen


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The sets of nodes that all reach one another, each set sorted."""
    around = {node: reached(graph, node) for node in graph}
    found = {
        tuple(sorted({node, *(other for other in around[node] if node in around.get(other, ()))}))
        for node in graph
        if node in around[node]
    }
    return [list(nodes) for nodes in sorted(found)]


def table(text: str) -> list[Row]:
    """The rows of the document's table, from the bottom of the house to its top."""
    return [
        Row(match["room"], match["torch"].strip(), tuple(re.findall(r"`(\w+)`", match["imports"])))
        for match in ROW.finditer(text)
    ]


def picture(text: str) -> dict[str, set[str]]:
    """The arrows of the document's picture: for each room, the rooms below that it points to."""
    found: dict[str, set[str]] = {}
    for source, target in re.findall(r"^ *(\w+) --> (\w+)$", PICTURE.search(text)[0], flags=re.MULTILINE):
        found.setdefault(source, set()).add(target)
    return found


def written(text: str, graph: dict[str, set[str]]) -> str:
    """The document with the arrows of `graph` in its table and in its picture."""
    order = [row.room for row in table(text)]

    def row(match: re.Match[str]) -> str:
        below = ", ".join(f"`{name}`" for name in order if name in graph.get(match["room"], ()))
        return f"| `{match['room']}` | {match['idea']} | {match['torch']} | {below or '—'} |"

    def arrow(source: str, target: str) -> str:
        return f"    {source} --> {target}\n"

    fewer = without_detours({name: graph.get(name, set()) - {BASICS} for name in order})
    lines = [arrow(name, target) for name in reversed(order) for target in reversed(order) if target in fewer[name]]
    lines += [f"    {name}\n" for name in order if name != BASICS and not any(name in line.split() for line in lines)]
    drawn = "flowchart TD\n" + "".join(lines)
    return PICTURE.sub(lambda _: drawn, ROW.sub(row, text))


def main(words: list[str] | None = None) -> int:
    """Write the document, or check it."""
    parser = argparse.ArgumentParser(description="Writes the imports between the package's rooms into ARCHITECTURE.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if the document is out of date")
    check = parser.parse_args(words).check
    graph = arrows(imports())
    found = circles(graph)
    if found:
        print(f"architecture: {'; '.join(' and '.join(names) for names in found)} import each other", file=sys.stderr)
        return 1
    text = DOCUMENT.read_text(encoding="utf-8")
    new = written(text, graph)
    if new != text and not check:
        DOCUMENT.write_text(new, encoding="utf-8")
    print(f"architecture: {DOCUMENT.name} {'is up to date' if new == text else 'is out of date' if check else 'written'}")
    return int(check and new != text)


if __name__ == "__main__":
    sys.exit(main())
