"""What the tests of figures that readers operate share: JavaScript run in node or in a browser, and a page for a figure."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
from printing import ARGUMENTS, find_browser

STATIC = Path(__file__).resolve().parents[1] / "book" / "_static"
NODE = shutil.which("node")
THEMES = {
    "light": {"ground": "#ffffff", "ink": "#222832", "muted": "#48566b"},
    "dark": {"ground": "#14181e", "ink": "#ced6dd", "muted": "#9ca4af"},
}
_PAGE = (
    '<!doctype html><html lang="en" data-theme="{theme}"><head><title>{title}</title>'
    '<meta name="viewport" content="width=device-width"><style>{style}</style></head>'
    '<body style="background: {ground}; color: {ink}; --pst-color-text-base: {ink}; --pst-color-text-muted: {muted};'
    ' --pst-color-background: {ground}"><main><h1>{title}</h1>{figure}</main></body></html>'
)


@contextlib.contextmanager
def browser():
    """A browser; where there is none the test is skipped, in continuous integration failed."""
    path = find_browser()
    if path is None:
        reason = "no Chromium or Chrome was found, so the figure was not tried out"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        window = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield window
        window.close()


DEVICES = {
    "desktop": {"viewport": {"width": 1000, "height": 900}},
    "phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True},
}


@contextlib.contextmanager
def offline_page(window, device):
    """A page without a network, of a reader who prefers less motion; no script of it may fail."""
    context = window.new_context(**DEVICES[device], reduced_motion="reduce", offline=True)
    page = context.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(error))
    yield page
    assert not errors
    context.close()


@pytest.fixture(scope="module")
def window():
    """A browser for the tests of a file."""
    with browser() as window:
        yield window


@pytest.fixture(params=DEVICES)
def page(window, request):
    """An empty page without a network, on each device."""
    with offline_page(window, request.param) as page:
        yield page


def style_of(*names):
    """The style sheets of these names, as a figure's page loads them."""
    return "".join((STATIC / f"{name}.css").read_text(encoding="utf-8") for name in names)


def still_of(name):
    """A figure's still, as an address that needs no file."""
    return "data:image/svg+xml;base64," + base64.b64encode((STATIC / f"{name}-still.svg").read_bytes()).decode()


def page_with(theme, title, style, figure):
    """The text of a page with a figure, in the colours of a theme."""
    return _PAGE.format(theme=theme, title=title, style=style, figure=figure, **THEMES[theme])


def in_node(body, data, scripts):
    """The value of a JavaScript function body of `data` and of each script, in node; `scripts` are paths by name."""
    loaded = "".join(f"const {name} = require({json.dumps(str(path))}); " for name, path in scripts.items())
    names = ", ".join((*scripts, "data"))
    program = (
        f"{loaded}const data = JSON.parse(require('fs').readFileSync(0, 'utf8'));"
        f"console.log(JSON.stringify((function ({names}) {{ {body} }})({names})));"
    )
    done = subprocess.run([NODE, "-e", program], input=json.dumps(data), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def in_browser(body, data, scripts, globals_):
    """The same in a browser, where each script is known by a global name."""
    with browser() as window:
        page = window.new_page()
        for path in scripts.values():
            page.add_script_tag(path=path)
        return page.evaluate(
            f"data => (function ({', '.join((*scripts, 'data'))}) {{ {body} }})({', '.join((*globals_, 'data'))})", data
        )


def computed(body, data, scripts, globals_):
    """The same in node or, where there is none, in a browser; where there is neither, `browser` says so."""
    return in_node(body, data, scripts) if NODE is not None else in_browser(body, data, scripts, globals_)
