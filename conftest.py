"""Examples in docstrings run in an empty folder, with an empty store of data, and leave no figure behind."""

from __future__ import annotations

import sys

import pytest

NEEDS = {"anabook.deploy.onnx_graph.": ("onnx", "onnxruntime")}
"""What examples of an optional part need; without it they are skipped."""


def pytest_collection_modifyitems(items):
    """Pictures are compared by the numbers printed beside them: roundings of other machines move lines by less than a pixel."""
    for notebook in {item.parent for item in items if hasattr(item.parent, "skip_compare")}:
        notebook.skip_compare += ("image/svg+xml",)


@pytest.fixture(autouse=True)
def _a_place_of_its_own(request, monkeypatch):
    if not isinstance(request.node, pytest.DoctestItem):
        yield
        return
    for module in next((modules for name, modules in NEEDS.items() if request.node.name.startswith(name)), ()):
        pytest.importorskip(module, reason=f"there is no {module}, which this example needs: pip install 'anabook[deploy]'")
    folder = request.getfixturevalue("tmp_path")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("ANABOOK_DATA", str(folder / "store"))
    monkeypatch.delenv("ANABOOK_RESULTS", raising=False)
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
