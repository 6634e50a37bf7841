"""Execute the book's notebooks in place and store them in one canonical form.

    python tools/notebooks.py                          every book/*.ipynb
    python tools/notebooks.py book/02-noise.ipynb …    only these

A notebook runs from top to bottom in a fresh kernel of this Python, in the notebook's own folder. What is written back
depends on its sources and outputs alone: no timings, no interpreter version, cell ids derived from the cells, so that an
unchanged chapter gives an unchanged file. A chapter that fails is reported with its cell and its file stays as it was.

Exit codes: 0 all done, 1 a cell failed, 2 a path is not a notebook.
"""

from __future__ import annotations

import argparse
import atexit
import hashlib
import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from traitlets import default

BOOK = Path(__file__).resolve().parent.parent / "book"
CELL_TIMEOUT_S = 600
KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
LANGUAGE_INFO = {
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "pygments_lexer": "ipython3",
}
VOLATILE_NOTEBOOK_METADATA = ("jupytext", "widgets", "vscode", "toc", "varInspector", "signature", "orig_nbformat")
VOLATILE_CELL_METADATA = ("execution", "ExecuteTime", "collapsed", "scrolled", "vscode", "jupyter")


class BadPath(ValueError):
    """A path given on the command line that is not a notebook."""


class ThisPython(AsyncKernelManager):
    """Starts kernels of the running interpreter, whatever "python3" kernels the user has registered for others."""

    @default("transport")
    def _default_transport(self) -> str:
        return "ipc" if os.name == "posix" else "tcp"

    @default("ip")
    def _default_ip(self) -> str:
        if self.transport != "ipc":
            return super()._ip_default()
        # The sockets' path must be absolute: the kernel runs in another folder than we do.
        folder = tempfile.TemporaryDirectory(prefix="kernel-")
        atexit.register(folder.cleanup)
        return os.path.join(folder.name, "ipc")

    @default("kernel_spec_manager")
    def _default_kernel_specs(self) -> KernelSpecManager:
        return KernelSpecManager(parent=self, kernel_dirs=[])


class ChapterFailed(RuntimeError):
    """A notebook that did not run to its end."""


def resolve(paths: list[str]) -> list[Path]:
    """The notebooks to run: those given, or all of the book in the order of their names."""
    if not paths:
        found = sorted(path for path in BOOK.glob("*.ipynb") if not path.name.startswith("."))
        if not found:
            raise BadPath(f"there is no notebook in {BOOK}")
        return found
    resolved = [Path(p) for p in paths]
    for path in resolved:
        if path.suffix != ".ipynb":
            raise BadPath(f"{path} is not a notebook: expected a name that ends in .ipynb")
        if not path.is_file():
            raise BadPath(f"{path} does not exist")
    return resolved


def read(path: Path) -> nbformat.NotebookNode:
    """The notebook at ``path``, in the current format."""
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:
        raise BadPath(f"{path} is not a valid notebook: {error}") from error


def normalise(notebook: nbformat.NotebookNode, chapter: str) -> nbformat.NotebookNode:
    """Remove from ``notebook``, in place, whatever changes from run to run; return it.

    Cell ids are a hash of the chapter's name, the cell's source and its occurrence, so that inserting a cell leaves the
    ids of the others alone. Execution counts number the code cells that are not empty.
    """
    for key in VOLATILE_NOTEBOOK_METADATA:
        notebook.metadata.pop(key, None)
    notebook.metadata["kernelspec"] = dict(KERNELSPEC)
    notebook.metadata["language_info"] = dict(LANGUAGE_INFO)
    notebook["nbformat"], notebook["nbformat_minor"] = 4, 5
    seen: dict[tuple[str, str], int] = {}
    count = 0
    for cell in notebook.cells:
        for key in VOLATILE_CELL_METADATA:
            cell.metadata.pop(key, None)
        occurrence = seen.setdefault((cell.cell_type, cell.source), 0)
        seen[cell.cell_type, cell.source] += 1
        text = "\0".join((chapter, cell.cell_type, cell.source, str(occurrence)))
        cell["id"] = hashlib.sha256(text.encode()).hexdigest()[:12]
        if cell.cell_type != "code":
            continue
        ran = bool(cell.source.strip())
        count += ran
        cell["execution_count"] = count if ran else None
        for output in cell.get("outputs", []):
            if output.output_type == "execute_result":
                output["execution_count"] = cell["execution_count"]
    return notebook


def failing_cell(notebook: nbformat.NotebookNode) -> int | None:
    """The number (from 1, over all cells) of the last code cell that was started, or None."""
    started = None
    for number, cell in enumerate(notebook.cells, 1):
        if cell.cell_type == "code" and ("execution" in cell.metadata or cell.get("outputs")):
            started = number
    return started


def execute(notebook: nbformat.NotebookNode, folder: Path, timeout: int = CELL_TIMEOUT_S) -> None:
    """Run all cells of ``notebook``, in place, in a fresh kernel of this Python started in ``folder``."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell["outputs"], cell["execution_count"] = [], None
            cell.metadata.pop("execution", None)
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        kernel_manager_class=ThisPython,
        timeout=timeout,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env={**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"})


def write(notebook: nbformat.NotebookNode, path: Path) -> bool:
    """Write ``notebook`` to ``path`` in one step; return whether the file changed."""
    nbformat.validate(notebook)
    text = nbformat.writes(notebook).rstrip("\n") + "\n"
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        if path.exists():
            os.chmod(temporary, path.stat().st_mode & 0o777)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return True


def run(path: Path, timeout: int = CELL_TIMEOUT_S) -> bool:
    """Execute, normalise and store the notebook at ``path``; return whether the file changed."""
    notebook = read(path)
    try:
        execute(notebook, path.resolve().parent, timeout)
    except CellExecutionError as error:
        raise ChapterFailed(f"{path.name}, cell {failing_cell(notebook)}: {error}") from error
    except (CellTimeoutError, DeadKernelError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ChapterFailed(f"{path.name}, cell {failing_cell(notebook)}: {reason}") from error
    return write(normalise(notebook, path.stem), path)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Execute the book's notebooks in place.")
    parser.add_argument("paths", nargs="*", metavar="NOTEBOOK", help="default: every book/*.ipynb")
    parser.add_argument("--timeout", type=int, default=CELL_TIMEOUT_S, help="seconds a cell may take (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        paths = resolve(options.paths)
        for path in paths:
            read(path)
    except BadPath as error:
        print(f"notebooks: {error}", file=sys.stderr)
        return 2
    failed = []
    for path in paths:
        print(f"notebooks: {path.name} …", end=" ", flush=True)
        start = time.monotonic()
        try:
            changed = run(path, options.timeout)
        except ChapterFailed as error:
            failed.append(path.name)
            print("FAILED, left as it was")
            print(error, file=sys.stderr)
            continue
        print(f"{'updated' if changed else 'unchanged'}, {time.monotonic() - start:.0f} s")
    if failed:
        print(f"notebooks: {len(failed)} of {len(paths)} failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
