"""What the site needs beyond Jupyter Book's settings: no third-party script, a small local MathJax, optional addresses.

* Jupyter Book always loads sphinx-thebe, which points every page at a CDN and emits its script twice. The book has no live
  kernels, so its handlers are disconnected.
* MathJax is copied from the sphinx-mathjax-offline package, reduced to what the pages load (2.7 of 24 MB).
* The theme loads Font Awesome twice: as fonts with a style sheet, and as a script of 1.5 MB that draws the same dozen icons. The
  script is left out.
* ANABOOK_REPOSITORY and ANABOOK_BRANCH set the address of the repository; without it no page links to one.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ConfigError
from sphinx.ext.autodoc import DataDocumenter
from sphinx.ext.napoleon.docstring import GoogleDocstring

MATHJAX_PARTS = ("tex-chtml.js", "output/chtml/fonts", "input/tex/extensions", "a11y/assistive-mml.js", "ui")
PROVIDERS = ("github", "gitlab", "bitbucket")


def drop_extension(app: Sphinx, name: str, files: tuple[str, ...]) -> None:
    """Undo what the loaded Sphinx extension ``name`` has registered: its event handlers and its ``files``."""
    for listeners in app.events.listeners.values():
        listeners[:] = [each for each in listeners if each.handler.__module__.split(".")[0] != name]
    for registered in (app.registry.css_files, app.registry.js_files):
        registered[:] = [entry for entry in registered if entry[0] not in files]


def copy_mathjax(app: Sphinx, exception: Exception | None) -> None:
    """Put the parts of MathJax that the pages load under ``_static/mathjax``."""
    if exception is not None or app.builder.format != "html":
        return
    spec = importlib.util.find_spec("sphinx-mathjax-offline")
    if spec is None or spec.origin is None:
        raise ConfigError("the package sphinx-mathjax-offline is not installed: run `make setup`")
    source = Path(spec.origin).parent / "static" / "mathjax"
    target = Path(app.outdir) / "_static" / "mathjax"
    for part in MATHJAX_PARTS:
        if (source / part).is_dir():
            shutil.copytree(source / part, target / part, dirs_exist_ok=True)
        else:
            (target / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / part, target / part)


def drop_icons_script(app: Sphinx, exception: Exception | None) -> None:
    """Take the theme's script of icons out of the finished pages; its fonts have them, too."""
    if exception is not None or app.builder.format != "html":
        return
    output = Path(app.outdir)
    for path in output.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        kept = re.sub(r"\s*<script[^>]*/fontawesome\.js[^>]*></script>", "", text)
        if kept != text:
            path.write_text(kept, encoding="utf-8")
    for file in (output / "_static" / "scripts").glob("fontawesome.js*"):
        file.unlink()


class Repository(NamedTuple):
    """Where the sources of the book are: address, branch, and whose form of addresses it has."""

    url: str
    branch: str
    provider: str


def repository() -> Repository | None:
    """The repository that the environment names; none if it names none.

    Raises:
        ConfigError: not an address of a repository on a host that is known.
    """
    url = os.environ.get("ANABOOK_REPOSITORY", "").strip().rstrip("/").removesuffix(".git")
    if not url:
        return None
    match = re.fullmatch(r"https://([^/\s]+)/(?:[^/\s]+/)+[^/\s]+", url)
    provider = next((name for name in PROVIDERS if match and name in match[1].lower()), None)
    if match is None or provider is None:
        raise ConfigError(
            f"ANABOOK_REPOSITORY is {url!r}; expected https://HOST/OWNER/NAME on a {', '.join(PROVIDERS)} host"
        )
    return Repository(url, os.environ.get("ANABOOK_BRANCH", "").strip() or "main", provider)


def set_repository(app: Sphinx, config: Config) -> None:
    """Show repository, source and launch buttons when, and only when, an address is given in the environment."""
    place = repository()
    if place is None:
        return
    options = config.html_theme_options
    options["repository_url"] = place.url
    options["repository_branch"] = place.branch
    options["repository_provider"] = place.provider
    options["use_repository_button"] = options["use_issues_button"] = options["use_source_button"] = True
    buttons = {"notebook_interface": "jupyterlab"}
    if place.provider in ("github", "gitlab"):
        buttons["binderhub_url"] = "https://mybinder.org"
    if place.provider == "github":
        buttons["colab_url"] = "https://colab.research.google.com"
    options["launch_buttons"] = buttons


def clean_page(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Emit every script and style sheet of a page once, and no role that has been withdrawn from the standard."""
    if "body" in context:
        # docutils marks up citations with ARIA roles that are deprecated, and not allowed where it puts them.
        context["body"] = re.sub(r' role="(?:doc-biblioentry|doc-backlink)"', "", context["body"])
        context["body"] = context["body"].replace('<div role="list" class="citation-list">', '<div class="citation-list">')
    for kind in ("script_files", "css_files"):
        seen: set[str] = set()
        unique = []
        for entry in context.get(kind, []):
            name = getattr(entry, "filename", None) or ""
            if name and str(name) in seen:
                continue
            seen.add(str(name))
            unique.append(entry)
        context[kind] = unique


def plain_attribute(docstring: GoogleDocstring) -> list[str]:
    """The docstring of an attribute or property as it is: napoleon takes what stands before a colon for a type."""
    return docstring._dedent(docstring._consume_to_end())


def attributes_one_by_one(docstring: GoogleDocstring, section: str) -> list[str]:
    """The section "Attributes", in which one line may describe several names: napoleon allows that for arguments only."""
    lines = []
    for name, _, description in docstring._consume_fields(multiple=True):
        lines += docstring._format_block(f":ivar {name}: ", description)
    return [*lines, ""]


def hide_long_values(shown: Any) -> Any:
    """Leave out the value of a module's constant where it would fill a paragraph or show addresses of functions."""

    def hidden(documenter: DataDocumenter) -> bool:
        value = repr(documenter.object)
        return len(value) > 200 or "<" in value or shown(documenter)

    return hidden


def skip_field_aliases(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """A named tuple's fields are described with its class."""
    return True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field number") else None


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the handlers above."""
    drop_extension(app, "sphinx_thebe", ("sphinx-thebe.css",))
    GoogleDocstring._parse_attribute_docstring = plain_attribute
    GoogleDocstring._parse_attributes_section = attributes_one_by_one
    DataDocumenter.should_suppress_value_header = hide_long_values(DataDocumenter.should_suppress_value_header)
    app.connect("autodoc-skip-member", skip_field_aliases)
    app.config.mathjax_path = "mathjax/tex-chtml.js"
    app.connect("config-inited", set_repository, priority=400)
    app.connect("html-page-context", clean_page, priority=900)
    app.connect("build-finished", copy_mathjax)
    app.connect("build-finished", drop_icons_script)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
