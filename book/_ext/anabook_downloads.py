"""What readers take away from the site: notebooks that say how they are run, and the package that they need, as a wheel.

* Each chapter's page, below its title, and the copy of its notebook that the site offers say in a sentence or two how it is run.
* `downloads/` has the package's wheel, with recorded results and exercises in it, so that a notebook needs nothing else of the
  book. Where ANABOOK_SITE (the address of the site) or ANABOOK_REPOSITORY is set, notebooks install from there.
* The copies are written without indentation, and their drawings without comments: a third less to load.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import tomllib
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from anabook_figures import smaller
from anabook_site import repository
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ConfigError
from sphinx.util.osutil import relative_uri

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

import course
import student

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "downloads"
CELL = "how-to-run"
PARTS = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "book/exercises.toml", "anabook/**/*", "data/**/*")


class Command(NamedTuple):
    """A command that installs what a notebook needs, and whether pip gets the package from a file in the notebook's folder."""

    text: str
    from_file: bool


@cache
def wheel_name() -> str:
    """The name of the package's wheel."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return f"{project['name']}-{project['version']}-py3-none-any.whl"


def site_address() -> str:
    """Where the site will be read, without a slash at the end; "" if nobody has said."""
    said = os.environ.get("ANABOOK_SITE", "").strip().rstrip("/")
    if said and not re.fullmatch(r"https?://[^\s\"'\\]+", said):
        raise ConfigError(f"ANABOOK_SITE is {said!r}; expected the address of the site's first folder, https://…")
    return said


def command(code: str) -> Command:
    """What installs the package for a notebook with this code, and Jupyter."""
    extras, also = student.needs(code)
    place, site = repository(), site_address()
    if site:
        source = f"anabook{extras} @ {site}/{FOLDER}/{wheel_name()}"
    elif place is not None:
        source = f"anabook{extras} @ git+{place.url}@{place.branch}"
    else:
        source = f"./{wheel_name()}{extras}"
    return Command(" ".join([f'pip install "{source}"', "jupyterlab", *also]), source.startswith("./"))


def code_of(notebook: nbformat.NotebookNode) -> str:
    """All code of a notebook."""
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")


def on_the_page(said: Command, notebook: str, wheel: str) -> str:
    """The line below a chapter's title.

    Args:
        said: what installs.
        notebook: the address of the notebook, from the page.
        wheel: the address of the package.
    """
    take = f'<a href="{escape(notebook)}" download>its notebook</a>'
    package = f'<a href="{escape(wheel)}" download>the package</a>'
    where = f"put {take} and {package} into one folder. There run" if said.from_file else f"take {take} and run"
    return (
        f'<p class="how-to-run">To run this chapter on your machine, with Python 3.11 or later, {where} '
        f'<code class="docutils literal notranslate">{escape(said.text)}</code>, then '
        '<code class="docutils literal notranslate">jupyter lab</code>.</p>'
    )


def in_the_notebook(said: Command) -> str:
    """The first cell of the copy that readers take."""
    where = (
        f"The site that you have it from has the package, too, as a file: `{FOLDER}/{wheel_name()}`, linked below the title of "
        "each chapter. Put it into this notebook's folder, and there run"
        if said.from_file
        else "Run"
    )
    return (
        "**How to run this notebook.** It needs Python 3.11 or later and the package `anabook` with its recorded results, and "
        f"nothing else of the book. {where}\n\n```sh\n{said.text}\njupyter lab\n```"
    )


def taken_away(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook as the site offers it: how to run it comes first, and drawings are as small as they can be."""
    cell = nbformat.v4.new_markdown_cell(in_the_notebook(command(code_of(notebook))))
    cell["id"] = CELL
    notebook.cells.insert(0, cell)
    for each in notebook.cells:
        for output in each.get("outputs", []):
            if "image/svg+xml" in output.get("data", {}):
                output["data"]["image/svg+xml"] = smaller(output["data"]["image/svg+xml"])
    return notebook


def say_how(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Put the line below the title of a page that is a notebook."""
    source = Path(app.srcdir) / f"{pagename}.ipynb"
    if doctree is None or app.builder.format != "html" or not source.is_file():
        return
    here = app.builder.get_target_uri(pagename)
    line = on_the_page(
        command(code_of(nbformat.read(source, as_version=4))),
        relative_uri(here, f"_sources/{pagename}.ipynb"),
        relative_uri(here, f"{FOLDER}/{wheel_name()}"),
    )
    context["body"] = context["body"].replace("</h1>", f"</h1>\n{line}", 1)


def fingerprint() -> str:
    """A hash of all that the wheel is made of."""
    found = hashlib.sha256()
    for path in sorted({path for part in PARTS for path in ROOT.glob(part) if path.is_file()}):
        name = path.relative_to(ROOT).as_posix()
        if not re.search(r"__pycache__|/_data/|/\.", name):
            found.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:16]


def offer(app: Sphinx, exception: Exception | None) -> None:
    """Put the wheel beside the pages, and the notebooks as readers take them in the place of their sources."""
    if exception is not None or app.builder.format != "html":
        return
    output = Path(app.outdir)
    kept = output.parent / "wheel" / fingerprint()
    if not (kept / wheel_name()).is_file():
        shutil.rmtree(kept.parent, ignore_errors=True)
        kept.mkdir(parents=True)
        course.build_wheel(kept)
    (output / FOLDER).mkdir(exist_ok=True)
    shutil.copyfile(kept / wheel_name(), output / FOLDER / wheel_name())
    for page in sorted(app.env.found_docs):
        source, copy = Path(app.srcdir) / f"{page}.ipynb", output / "_sources" / f"{page}.ipynb"
        if source.is_file() and copy.parent.is_dir():
            notebook = taken_away(nbformat.read(source, as_version=4))
            nbformat.validate(notebook)
            copy.write_text(json.dumps(notebook, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the handlers above."""
    app.add_config_value("anabook_install", "", "html", (str,))
    app.config.anabook_install = command("").text
    app.connect("html-page-context", say_how, priority=840)
    app.connect("build-finished", offer)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
