"""Pages in a browser, printed: what tools/pdf.py and tools/slides.py have in common, and the tests of pages with them."""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# No host but this machine exists for the browser.
ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
NO_BROWSER = (
    "no Chromium or Chrome was found, which prints the pages: install one "
    "(on Debian and Ubuntu: apt-get install chromium) or set ANABOOK_BROWSER to its path"
)

# Formulas are set, letters and pictures are there, and the page has been drawn with them.
SETTLED = """async () => {
    if (document.querySelector('article .math')) {
        for (let wait = 0; wait < 100 && !window.MathJax?.startup?.promise; wait++) await new Promise(r => setTimeout(r, 50));
        await window.MathJax?.startup?.promise;
    }
    await document.fonts.ready;
    for (const image of document.images) { image.loading = 'eager'; }
    await Promise.all([...document.images].map(image => image.decode().catch(() => null)));
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
}"""


class NotPrinted(ValueError):
    """What keeps a page from being printed, in one sentence."""


def find_browser() -> str | None:
    """The path of an installed Chromium or Chrome; ANABOOK_BROWSER names another."""
    named = os.environ.get("ANABOOK_BROWSER")
    if named:
        return shutil.which(named)
    return next(filter(None, map(shutil.which, BROWSERS)), None)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        """Say nothing: what fails is seen by the browser."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve ``folder`` on this machine for the time of the block; yields its address, with no slash at the end."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


@contextmanager
def started() -> Iterator[Browser]:
    """A headless browser for the time of the block.

    Raises:
        NotPrinted: no browser was found, or playwright, which drives it, is not installed.
    """
    path = find_browser()
    if path is None:
        raise NotPrinted(NO_BROWSER)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise NotPrinted("the package playwright is not installed: run `make setup`") from error
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def profile(browser: Browser, address: str) -> Iterator[BrowserContext]:
    """A browser profile for which nothing but the site at ``address`` exists, for the time of the block."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light", service_workers="block")
    context.set_default_timeout(120_000)  # a busy machine is slow, and that is no fault of the page
    context.route(re.compile(rf"^(?!{re.escape(address)}/|data:|blob:)"), lambda route: route.abort())
    try:
        yield context
    finally:
        context.close()


@contextmanager
def opened(context: BrowserContext, address: str, path: str, ready: str = SETTLED) -> Iterator[Page]:
    """The page at ``path`` when the script ``ready`` has ended, for the time of the block.

    Raises:
        NotPrinted: the page is not there, or a script of it failed.
    """
    page = context.new_page()
    try:
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        answer = page.goto(f"{address}/{path}", wait_until="load")
        if answer is None or answer.status >= 400:
            raise NotPrinted(f"the page {path} cannot be opened (status {answer.status if answer else 'unknown'})")
        page.evaluate(ready)
        if wrong:
            raise NotPrinted(f"a script of the page {path} failed: {wrong[0][:200]}")
        yield page
    finally:
        page.close()


def printed(page: Page, **settings: Any) -> bytes:
    """The PDF of a page, with its structure for screen readers and its headings as bookmarks; A4 unless ``settings`` differ."""
    return page.pdf(**{"format": "A4", "print_background": True, "tagged": True, "outline": True, **settings})
