"""Says whether all that the notebooks of this folder need is there. Nothing is loaded from a network."""

import ast
import importlib.util
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def imported(source):
    """The packages that the code of a cell imports."""
    lines = ["" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines()]
    try:
        tree = ast.parse("\n".join(lines))
    except SyntaxError:  # a magic inside of a block leaves it empty
        return set()
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {each.name.partition(".")[0] for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


missing = {}
notebooks = sorted(HERE.glob("*.ipynb"))
for path in notebooks:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for cell in cells:
        if cell["cell_type"] == "code":
            for name in imported("".join(cell["source"])):
                if importlib.util.find_spec(name) is None:
                    missing.setdefault(name, set()).add(path.name)
for name, needed in sorted(missing.items()):
    print(f"missing: {name}, for {', '.join(sorted(needed))}")
if missing:
    sys.exit("Install as README.md says, with the Python of this folder's .venv.")

import anabook  # noqa: E402
from anabook.check import EXERCISES  # noqa: E402

print(f"anabook {anabook.__version__}, {len(EXERCISES)} answers on file, {len(notebooks)} notebooks: ready.")
for path in sorted((HERE / "data" / "cache").glob("*.npz")):
    from anabook.datasets import store

    print(f"data: {store.describe(path.stem)['name']}")
