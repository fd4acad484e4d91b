"""The page at ``/docs``: it works offline, under a policy of its own."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.contract.reference import serving
from tests.support.processes import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from outlay.server import BackgroundServer


@pytest.fixture(scope="module")
def server() -> Iterator[BackgroundServer]:
    """Return a server for all tests of this module."""
    with serving() as server:
        yield server


def test_the_page_and_all_of_its_files_come_from_this_server(
    server: BackgroundServer,
) -> None:
    """A machine without the internet shows the same page."""
    with httpx.Client(base_url=server.url, timeout=30) as http:
        page = http.get("/docs")
        files = re.findall(r'(?:src|href)="(/docs/[^"]+)"', page.text)
        answers = {name: http.get(name) for name in files}

    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert len(files) == 3
    for answer in [page, *answers.values()]:
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert "https:" not in page.text
    assert "validatorUrl: null" in answers["/docs/start.js"].text


def test_only_known_files_are_served(server: BackgroundServer) -> None:
    """Neither others of the package nor of the machine."""
    with httpx.Client(base_url=server.url, timeout=30) as http:
        other = http.get("/docs/oauth2-redirect.html")
        above = http.get("/docs/%2e%2e/__init__.py")
        plain = http.get("/docs/", headers={"accept-encoding": "identity"})
        head = http.head("/docs")
        posted = http.post("/docs")

    assert (other.status_code, above.status_code) == (404, 404)
    assert "content-encoding" not in plain.headers
    assert plain.text.startswith("<!doctype html>")
    assert (head.status_code, head.content) == (200, b"")
    assert posted.status_code == 404


@pytest.mark.slow
def test_without_the_package_the_page_names_the_extra() -> None:
    """The server runs without it."""
    program = """
import importlib.util, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if "swagger" in name else found(name)
import httpx
from outlay.server import BackgroundServer, ServerSettings
with BackgroundServer(ServerSettings(port=0, database=":memory:")) as server:
    answer = httpx.get(server.url + "/docs")
    print(answer.status_code, answer.text)
print("flask" in sys.modules)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=40,
        check=True,
        env=environment({}),
    )

    assert "404 This page needs the extra 'api-docs'. In a checkout" in ran.stdout
    assert ran.stdout.endswith("False\n")


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_browser_shows_the_operations_without_an_objection(
    server: BackgroundServer,
) -> None:
    """The policy forbids nothing that the page needs."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    objections: list[str] = []
    hosts: set[str | None] = set()
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page()
        page.on("console", lambda message: objections.append(message.text))
        page.on("pageerror", lambda error: objections.append(str(error)))
        page.on("request", lambda sent: hosts.add(httpx.URL(sent.url).host))
        page.goto(f"{server.url}/docs")
        page.wait_for_selector(".opblock", timeout=30_000)
        page.locator(".opblock-summary-control").first.click()
        page.wait_for_selector(".opblock-body", timeout=30_000)
        browser.close()

    assert objections == []
    assert hosts <= {"127.0.0.1", ""}
