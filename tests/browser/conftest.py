"""A server with two months of costs, and a real Chromium that watches for errors."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

import httpx
import pytest
from playwright.sync_api import sync_playwright

from tests.support.showcase import (
    API_KEY,
    send_budgets,
    send_events,
    send_odd_events,
    send_revenue,
    showcase_server,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from playwright.sync_api import Browser, BrowserContext, Page, Request

    from outlay.server import BackgroundServer

CHROMIUM: Final = ("chromium", "chromium-browser", "google-chrome")
"""The names of the program. Debian's package is ``chromium``."""

_DEADLINE_MS: Final = 60_000
"""The limit of each step of a page. A machine with other work needs over 20 s."""


class Visit(Protocol):
    """Opens a browser window, signed in unless asked otherwise."""

    def __call__(
        self,
        *,
        signed_in: bool = True,
        **options: Any,  # noqa: ANN401
    ) -> AbstractContextManager[Page]:
        """Open a window with these options of a browser context."""


@pytest.fixture(scope="package")
def server() -> Iterator[BackgroundServer]:
    """A server with costs, revenue and names."""
    with showcase_server() as server:
        headers = {"authorization": f"Bearer {API_KEY}"}
        with httpx.Client(
            base_url=server.url, headers=headers, trust_env=False, timeout=60
        ) as client:
            send_events(client, a_day=20)
            send_revenue(client)
            send_odd_events(client)
            send_budgets(client)
        yield server


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """A headless Chromium. Its loop ends with this package."""
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        pytest.skip("Chromium is not on this machine: sh scripts/install_programs.sh")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            # Containers run tests as root, and Chromium has no sandbox for root.
            args=["--no-sandbox", "--disable-dev-shm-usage"],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def cookies(server: BackgroundServer, chromium: Browser) -> Any:  # noqa: ANN401
    """The cookies of a person who signed in through the form."""
    context = chromium.new_context()
    page = context.new_page()
    page.set_default_timeout(_DEADLINE_MS)
    page.goto(server.url)
    page.get_by_label("API key").fill(API_KEY)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="October 2026").wait_for()
    kept = context.cookies()
    context.close()
    return kept


@pytest.fixture
def visit(server: BackgroundServer, chromium: Browser, cookies: Any) -> Visit:  # noqa: ANN401
    """Open windows. Each must stay without a message in its console."""

    @contextmanager
    def opened(
        *,
        signed_in: bool = True,
        expected: str = "nothing",
        **options: Any,  # noqa: ANN401
    ) -> Iterator[Page]:
        context = chromium.new_context(base_url=server.url, **options)
        if signed_in:
            context.add_cookies(cookies)
        messages: list[str] = []
        page = _listening(context, messages.append)
        try:
            yield page
        finally:
            context.close()
        assert [one for one in messages if expected not in one] == []

    return opened


def _listening(context: BrowserContext, tell: Callable[[str], None]) -> Page:
    """Return a page that reports its errors, violations of the policy included."""
    page = context.new_page()
    page.set_default_timeout(_DEADLINE_MS)
    page.on("console", lambda message: tell(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: tell(f"error: {error}"))
    page.on("requestfailed", lambda request: _tell_of_failure(request, tell))
    return page


def _tell_of_failure(request: Request, tell: Callable[[str], None]) -> None:
    """Report a request that failed, unless the page did not wait for its response.

    A page that moves on, and a window that closes, abort what they still load.
    """
    if request.failure != "net::ERR_ABORTED":
        tell(f"failed: {request.url}: {request.failure}")
