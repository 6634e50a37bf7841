"""One browser for all tests of the site."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright
from site_checks import WIDTHS, context_of

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from printing import ARGUMENTS, find_browser, served

SITE = Path(__file__).resolve().parents[2] / "_build" / "html"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium with no way to the network."""
    path = find_browser()
    if path is None:
        reason = (
            "no Chromium or Chrome was found, so no page of the site was looked at: install one "
            "(on Debian and Ubuntu: apt-get install chromium) or set ANABOOK_BROWSER to its path"
        )
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """The address at which the built site is served."""
    if not (SITE / "index.html").is_file():
        pytest.fail("the site is not built: run `make site` first", pytrace=False)
    with served(SITE) as address:
        yield address


@pytest.fixture(scope="session")
def profiles(browser: Browser, site: str) -> Iterator[dict[str, BrowserContext]]:
    """One browser profile for each device, for tests that only look: scripts and fonts are read once."""
    with ExitStack() as stack:
        yield {device: stack.enter_context(context_of(browser, device, site)) for device in WIDTHS}
