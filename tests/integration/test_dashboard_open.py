"""``outlay serve --open``: the dashboard, signed in by a link that works once."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import httpx

from outlay.server import BackgroundServer, ServerSettings
from tests.support.processes import environment

if TYPE_CHECKING:
    from pathlib import Path

_LINK: Final = re.compile(r"http\S+/sign-in\?token=\S+")


def test_the_link_signs_in_once_and_is_in_no_command_line(tmp_path: Path) -> None:
    """The browser gets the name of a private file that leads to the link."""
    opened, page = tmp_path / "opened", tmp_path / "page"
    browser = tmp_path / "browser"
    browser.write_text(
        f'#!/bin/sh\nstat -c %a "${{1#file://}}" > {page}.mode\n'
        f'cp "${{1#file://}}" {page}\necho "$@" > {opened}\n'
    )
    os.mkfifo(opened)
    browser.chmod(0o700)
    command = [sys.executable, "-m", "outlay", "serve", "--open", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--db", ":memory:"],
        env=environment({"BROWSER": str(browser)}),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        printed = (_LINK.search(line) for line in process.stdout)
        link = next(found[0] for found in printed if found)
        with httpx.Client(trust_env=False, timeout=30) as client:
            response = client.get(link)
            assert response.status_code == 200
            assert 'content="0; url=/"' in response.text
            home = link.partition("/sign-in")[0]
            assert client.get(home).status_code == 200
            assert client.get(link).status_code == 403
            assert client.get(f"{home}/cost-metrics?new=").status_code == 200
        arguments = opened.read_text()  # waits for the browser
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    token = link.partition("token=")[2]
    assert token not in arguments
    assert token in page.read_text()
    assert (tmp_path / "page.mode").read_text().strip() == "600"


def test_a_server_for_development_needs_no_sign_in() -> None:
    """Its forms still have a token, because web pages could send forms."""
    settings = ServerSettings(port=0, database=":memory:", dev=True)
    with (
        BackgroundServer(settings) as server,
        httpx.Client(base_url=server.url, trust_env=False, timeout=30) as client,
    ):
        page = client.get("/cost-metrics?new=")
        assert page.status_code == 200
        found = re.search(r'name="csrf" value="(\w+)"', page.text)
        assert found is not None
        metric = {
            "action": "create",
            "name": "One",
            "event_type": "cost.one",
            "aggregation": "COUNT",
            "unit_cost": "1",
            "currency": "USD",
        }
        assert client.post("/cost-metrics", data=metric).status_code == 403
        metric["csrf"] = found[1]
        foreign = {"origin": "https://example.org"}
        response = client.post("/cost-metrics", data=metric, headers=foreign)
        assert response.status_code == 403
        assert client.post("/cost-metrics", data=metric).status_code == 303
        rebound = client.get("/", headers={"host": "evil.example"})
        assert rebound.status_code in {403, 421}
