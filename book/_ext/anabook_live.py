"""Python in the page: marks the cells of the chapters that book/live.toml names, and puts the engine beside the pages.

ANABOOK_LIVE=1 asks for it and 0 forbids it; without the variable the pages have it if the engine is installed.
ANABOOK_PYODIDE=FOLDER takes official Pyodide, unpacked in that folder, in place of the engine that is pinned.
What is loaded, and by what, is in book/_static/live; how it is packed, in tools/live_pack.py.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ConfigError
from sphinx.util.osutil import relative_uri

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

import live_cells
import live_pack

SCRIPTS = ("highlight.js", "editor.js", "outputs.js", "session.js", "cells.js")
FOLDER = "_static/live"


def asked_for() -> bool:
    """Whether the pages are to have Python."""
    said = os.environ.get("ANABOOK_LIVE", "").strip()
    if said not in ("", "0", "1"):
        raise ConfigError(f"ANABOOK_LIVE is {said!r}; expected 0 or 1, or nothing")
    if said:
        return said == "1"
    return bool(os.environ.get("ANABOOK_PYODIDE", "").strip()) or live_pack.engine_folder() is not None


def decide(app: Sphinx, config: Config) -> None:
    """Pack the engine; the size that the pages tell becomes a setting, so that they are written again when it changes."""
    if not asked_for():
        return
    folder = os.environ.get("ANABOOK_PYODIDE", "").strip()
    output = Path(app.outdir)
    try:
        manifest = live_pack.pack(output / FOLDER, output.parent / "live", Path(folder) if folder else None)
    except live_pack.NotPacked as error:
        raise ConfigError(str(error)) from error
    scripts = b"".join(path.read_bytes() for path in sorted((live_pack.ROOT / "book" / FOLDER).rglob("*.js")))
    config.anabook_live = {
        "engine": manifest["engine"]["name"],
        "mb": round(manifest["bytes"] / 1e6),
        "edition": live_pack.hash_of(scripts)[:12],
    }


def is_live(app: Sphinx, page: str) -> bool:
    """Whether a page has cells that run."""
    return bool(app.config.anabook_live) and page in live_pack.settings()["pages"]


def mark_cells(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Give each cell of code a class with its number in the notebook."""
    if not is_live(app, page):
        return
    for cell in doctree.findall(nodes.container):
        if cell.get("nb_element") == "cell_code":
            cell["classes"] += ["live-cell", f"live-{cell['cell_index']}"]


def facts_of(app: Sphinx, page: str) -> dict[str, Any]:
    """What the scripts know of a page: its cells in their order, those among them that are not shown, too."""
    notebook = nbformat.read(Path(app.srcdir) / f"{page}.ipynb", as_version=4)
    code = [(index, cell) for index, cell in enumerate(notebook.cells) if cell.cell_type == "code" and cell.source.strip()]
    needs = live_cells.needs([cell.source for _, cell in code], live_pack.settings()["absent"])
    cells = []
    for (index, cell), missing in zip(code, needs):
        kinds = {kind for output in cell.outputs for kind in output.get("data", {})}
        figures = "svg" if "image/svg+xml" in kinds else "png"
        cells.append({"index": index, "source": cell.source, "needs": missing, "figures": figures})
    base = relative_uri(app.builder.get_target_uri(page), f"{FOLDER}/")
    return {**app.config.anabook_live, "base": base, "cells": cells}


def add_scripts(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Put the facts and the scripts into a page that has cells to run."""
    if doctree is None or not is_live(app, pagename):
        return
    facts = json.dumps(facts_of(app, pagename), separators=(",", ":")).replace("</", "<\\/")
    context["body"] += f'<script type="application/json" id="live-page">{facts}</script>'
    for name in SCRIPTS:
        app.add_js_file(f"live/{name}", loading_method="defer")
    app.add_css_file("live/live.css")


def clear(app: Sphinx, exception: Exception | None) -> None:
    """Take the folder away where pages have no Python."""
    if exception is None and app.builder.format == "html" and not app.config.anabook_live:
        shutil.rmtree(Path(app.outdir) / FOLDER, ignore_errors=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the handlers above."""
    app.add_config_value("anabook_live", {}, "html", (dict,))
    app.connect("config-inited", decide)
    app.connect("doctree-resolved", mark_cells)
    app.connect("html-page-context", add_scripts, priority=800)
    app.connect("build-finished", clear, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
