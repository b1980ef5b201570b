"""A headless Chromium for tests of the review page."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from typing import Any

SECONDS = 90
"""How long a page may need for anything."""
FLAGS = (
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--no-sandbox",
)
"""WebGL without a graphics card, and for root in a container."""


def missing() -> str:
    """Return what is missing for a browser, "" where nothing is."""
    try:
        import playwright.sync_api  # noqa: F401  only whether it is there
    except ImportError:
        return "a browser: pip install playwright"
    return "" if _program() else "no chromium is installed"


def _program() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextlib.contextmanager
def opened(
    link: str, *, width: int = 900, height: int = 560, expected: str = "(nothing)"
) -> Iterator[Any]:
    """Open a page; at the end the browser may have complained of nothing but what is expected."""
    from playwright.sync_api import sync_playwright

    complaints: list[str] = []
    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=_program(), args=list(FLAGS))
        page = browser.new_page(viewport={"width": width, "height": height}, locale="en-GB")
        page.set_default_timeout(SECONDS * 1000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda told: complaints.append(told.text) if told.type == "error" else None,
        )
        page.goto(link)
        yield page
        browser.close()
    assert [one for one in complaints if expected not in one] == []


def until(page: Any, code: str) -> None:
    """Wait until an expression holds; the page's policy forbids playwright's own way."""
    end = time.monotonic() + SECONDS
    while not page.evaluate(code):
        assert time.monotonic() < end, f"never came: {code}"
        page.wait_for_timeout(50)


READY = "!!document.body.dataset.ready && document.querySelector('#loading').hidden"
"""Holds when a scan is on the screen."""
