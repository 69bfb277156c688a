"""A real Chromium, driven by playwright: Debian's, as playwright's own cannot be had everywhere."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import NoReturn
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

# No sandbox: tests run as root in containers. The others keep it from talking to its maker.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_MS = 20_000.0


def missing(reason: str) -> NoReturn:
    """Do without, and say so; in CI nothing may be missing."""
    if os.environ.get("CI"):
        pytest.fail(f"in CI: {reason}")
    pytest.skip(reason)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Run one. FileNotFoundError: there is none on this machine."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        raise FileNotFoundError("no chromium on the path")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


class Watched:
    """
    A page, and all that it must not do: errors, requests elsewhere, what its policy forbids.

    Where the connection is broken on purpose, the browser says so as an error of its own;
    `expected` are parts of what it may say.
    """

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.context = context
        self.url = url
        self.problems: list[str] = []
        self.expected: tuple[str, ...] = ()
        self.page: Page = context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        self.page.on("request", self._on_request)
        self.page.add_init_script(
            "addEventListener('securitypolicyviolation', (event) =>"
            " console.error('policy', event.violatedDirective))"
        )

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"console: {message.text}")

    def _on_request(self, request: Request) -> None:
        if urlsplit(request.url).netloc != urlsplit(self.url).netloc:
            self.problems.append(f"elsewhere: {request.url}")

    def open(self, path: str = "") -> Page:
        """Go there, and wait until the first figures are drawn."""
        self.page.goto(self.url + path)
        self.page.locator("#config tbody tr, #config-table p").first.wait_for()
        return self.page

    def check(self) -> None:
        """Fail if the page did what it must not do."""
        assert [p for p in self.problems if not any(part in p for part in self.expected)] == []
