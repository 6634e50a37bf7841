"""What pyproject.toml cannot say: a wheel carries recorded runs, sweeps, weights, the claims ledger and the exercises.

In the repository they lie in `data` and `book`, once. Building copies them to `anabook/_data`, where
`anabook.experiments.shipped` and `anabook.check` find them; an editable install reads them where they are.
"""

from __future__ import annotations

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = (
    "data/ledger.toml",
    "data/README.md",
    "data/results/*.jsonl",
    "data/sweeps/*.toml",
    "data/weights/*.npz",
    "book/exercises.toml",
)


class WithData(build_py):
    """Copies `SHIPPED` beside the modules; through `get_source_files` they are in a source distribution, too."""

    def run(self) -> None:
        """Build the modules, then copy."""
        super().run()
        if not self.editable_mode:
            for source, target in self._shipped().items():
                self.mkpath(str(Path(target).parent))
                self.copy_file(source, target, preserve_mode=False)

    def _shipped(self) -> dict[str, str]:
        """Where each file is, and where it goes."""
        found = [path for pattern in SHIPPED for path in sorted(Path().glob(pattern)) if not path.name.startswith(".")]
        return {path.as_posix(): str(Path(self.build_lib, "anabook", "_data", *path.parts[1:])) for path in found}

    def get_source_files(self) -> list[str]:
        """Names for source distributions."""
        return [*super().get_source_files(), *self._shipped()]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """What building makes."""
        return [*super().get_outputs(include_bytecode), *([] if self.editable_mode else self._shipped().values())]


setup(cmdclass={"build_py": WithData})
