"""An integer network as C for a microcontroller: one header with its numbers, one C99 file that runs it."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from anabook._files import replacing
from anabook._validate import path as path_at
from anabook.deploy.c_program import Code


def write(network: Any, folder: Any, name: str = "network") -> tuple[Path, Path]:
    """Write an `IntegerNetwork` as C; see `IntegerNetwork.to_c`."""
    if not isinstance(name, str):
        raise TypeError(f"name must be text, not {name!r}.")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,23}", name) or name == "stdint":
        raise ValueError(
            "name must be a C identifier: a letter, then at most 23 letters, digits and _ (and not stdint, whose header it "
            f"would hide), not {name!r}."
        )
    folder = path_at(folder, "folder")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"folder must be a folder or not be there yet; {str(folder)!r} is a file.")
    code = Code(network, name)
    paths = folder / f"{name}.h", folder / f"{name}.c"
    with replacing(paths[0], 0o644) as header, replacing(paths[1], 0o644) as source:
        header.write(code.header().encode())
        source.write(code.source().encode())
    return paths


COMPILERS = ("cc", "gcc", "clang")


def find_compiler(command: str | None = None) -> str:
    """Where a C compiler is: the one of this command, else the first of cc, gcc and clang that there is.

    Raises:
        FileNotFoundError: there is none.

    Example:
        >>> find_compiler("no-such-cc")
        Traceback (most recent call last):
            ...
        FileNotFoundError: there is no C compiler no-such-cc on this machine.
    """
    wanted = COMPILERS if command is None else (command,)
    found = next(filter(None, map(shutil.which, wanted)), None)
    if found is None:
        raise FileNotFoundError(f"there is no C compiler {', '.join(wanted)} on this machine.")
    return found


class Sizes(NamedTuple):
    """Bytes of a compiled network.

    Attributes:
        code: of its instructions.
        tables: of its weights, thresholds and other constants. These and the code are what lies in flash.
        memory: of its static buffers.
    """

    code: int
    tables: int
    memory: int


def sizes(folder: Any, name: str = "network", compiler: str | None = None, flags: Iterable[str] = ("-Os",)) -> Sizes:
    """Compile a network that `to_c` has written, and ask for the sizes of the object file.

    Args:
        folder: with the two files.
        name: of the network, as `to_c` was told.
        compiler: a C compiler's command; None takes cc, gcc or clang, whichever there is.
        flags: for it, beside -std=c99.

    Raises:
        FileNotFoundError: there are no such files, no compiler, or no program `size`.
        ValueError: the compiler refuses.

    Example:
        >>> sizes("nowhere")
        Traceback (most recent call last):
            ...
        FileNotFoundError: there is no network.c in 'nowhere'; to_c writes it.
    """
    source = path_at(folder, "folder") / f"{name}.c"
    if not source.is_file():
        raise FileNotFoundError(f"there is no {name}.c in {str(source.parent)!r}; to_c writes it.")
    command = find_compiler(compiler)
    if shutil.which("size") is None:
        raise FileNotFoundError("there is no program size on this machine, so the network was not measured.")
    with tempfile.TemporaryDirectory() as place:
        made = Path(place) / "network.o"
        done = subprocess.run(
            [command, "-std=c99", *flags, "-c", str(source), "-o", str(made)], capture_output=True, text=True
        )
        if done.returncode:
            raise ValueError(f"{command} does not compile {str(source)!r}: {done.stderr.strip().splitlines()[:1]}.")
        listed = subprocess.run(["size", "-A", str(made)], capture_output=True, text=True, check=True).stdout
    total = dict.fromkeys((".text", ".rodata", ".bss"), 0)
    for section, size in re.findall(r"^(\.[\w.]+)\s+(\d+)", listed, flags=re.M):
        for kind in total:
            if section == kind or section.startswith(f"{kind}."):
                total[kind] += int(size)
    return Sizes(*total.values())
