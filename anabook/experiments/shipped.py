"""What comes with the package: recorded runs, the sweeps that made them, two runs' weights, and the ledger of claims.

In a checkout of the repository these are the files in its folder `data`, the one place where they are kept. An installed
package carries a copy of them, so that pages and notebooks find them wherever they are read.
"""

from __future__ import annotations

from pathlib import Path

from anabook._carried import carried
from anabook._validate import did_you_mean


def folder() -> Path:
    """The folder with `results`, `sweeps`, `weights` and `ledger.toml`; to read, not to write new runs into.

    Raises:
        FileNotFoundError: this copy of the package came without them.

    Example:
        >>> (folder() / "ledger.toml").is_file()
        True
    """
    return carried("results", "data/results", "recorded results").parent


def path(name: str) -> Path:
    """The file or folder of this name, for example "results/intervals.jsonl" or "ledger.toml".

    Raises:
        ValueError: nothing of this name comes with the package (with the nearest name).
        FileNotFoundError: as for `folder`.

    Example:
        >>> path("results/intervals.jsonl").name
        'intervals.jsonl'
    """
    place = folder()
    known = [
        found.relative_to(place).as_posix()
        for pattern in ("results", "results/*.jsonl", "sweeps/*.toml", "weights", "weights/*.npz", "*.toml")
        for found in sorted(place.glob(pattern))
    ]
    if name not in known:
        raise ValueError(f"no {name!r} comes with anabook{did_you_mean(str(name), known)}; what does is {', '.join(known)}.")
    return place / name


def sweep(file: Path) -> Path:
    """The file itself; where there is none, and its name is the book's, "data/sweeps/NAME.toml", the one that came along.

    Example:
        >>> sweep(Path("data/sweeps/cifar10.toml")).name
        'cifar10.toml'
    """
    if not file.exists() and file.parts[:-1] == ("data", "sweeps"):
        try:
            return path(file.as_posix().removeprefix("data/"))
        except (ValueError, FileNotFoundError):
            return file
    return file
