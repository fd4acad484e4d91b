"""Mistakes of the first hour: each is told once, with what to type instead."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import pytest

import outlay
from outlay import Client
from outlay._model.settings import Settings
from outlay.testing import recording
from tests.capture.test_openai_chat import client, create
from tests.support.answers import refused
from tests.support.events import track
from tests.support.processes import run
from tests.support.transports import ScriptedTransport

if TYPE_CHECKING:
    from pathlib import Path


def test_a_flush_is_not_complete_while_events_are_parked(tmp_path: Path) -> None:
    """The server has no metric for their type: a person must type something."""
    transport = ScriptedTransport([refused(422, "invalid_event_type")])
    client = Client(transport=lambda: transport, journal_dir=tmp_path, linger=0.0)
    track(client, 1)

    result = client.flush(20)

    assert result.stats.parked == 1
    assert not result.complete
    assert "1 events are parked" in result.message
    assert "outlay metrics create" in result.message
    assert not client.close(20).complete


def test_a_recording_ends_without_an_alarm(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is lost that anybody would miss."""
    with caplog.at_level(logging.WARNING), recording() as costs:
        track(outlay.default_client(), 1)
        assert len(costs.events) == 1

    assert caplog.text == ""


def test_a_customer_under_another_name_is_warned_about_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It would be a dimension, and the costs would have no customer."""
    for _ in range(2):
        with outlay.attribute(customer="cus_123"):
            pass

    assert caplog.text.count("pass customer_id=...") == 1


def test_a_dimension_beside_the_customer_is_not_warned_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Then it is meant."""
    with outlay.attribute(customer_id="cus_123", customer="Ada"):
        pass

    assert caplog.text == ""


def test_a_gateway_that_hides_the_provider_is_warned_about_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its costs have no price, though its models do."""
    unnamed, named = (client(base_url="https://gateway.acme.test/v1") for _ in "12")
    with recording() as costs:
        outlay.instrument(unnamed)
        create(unnamed)
        create(unnamed)
        outlay.instrument(named, provider="openai")
        create(named)

    assert len(costs.unpriced) == 2
    assert [event.data["provider"] for event in costs.events] == ["openai"]
    assert caplog.text.count("outlay.instrument(client, provider='openai')") == 1
    assert "OUTLAY_PRICE_BOOK" not in caplog.text


def test_a_misspelled_variable_is_warned_about_once_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It has no effect, and looks as if it had."""
    monkeypatch.setenv("OUTLAY_API_KYE", "sk_1")
    monkeypatch.setenv("OUTLAY_SERVER_PORT", "1")

    for _ in range(2):
        Settings.resolve()

    assert caplog.text.count("OUTLAY_API_KYE has no effect") == 1
    assert "use OUTLAY_API_KEY" in caplog.text
    assert "OUTLAY_SERVER_PORT" not in caplog.text
    assert "sk_1" not in caplog.text


def test_a_misspelled_variable_of_the_server_is_warned_about(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As that of a client is."""
    monkeypatch.setenv("OUTLAY_SERVER_JOURNAL_DIRR", "/x")

    Settings.resolve(prefix="OUTLAY_SERVER_")

    assert "use OUTLAY_SERVER_JOURNAL_DIR" in caplog.text


def test_an_exit_waits_a_second_at_most_for_a_server_that_is_down(
    tmp_path: Path,
) -> None:
    """The journal has it all."""
    program = """
import time
client = outlay.configure(timeout=0.5, retry_initial=60, exit_timeout=30)
track(client, 1)
client.flush(1)
import atexit
import outlay._lifecycle as lifecycle
atexit.unregister(lifecycle.close_all_at_exit)
started = time.monotonic()
lifecycle.close_all_at_exit()
say(time.monotonic() - started)
"""
    variables = {
        "OUTLAY_JOURNAL_DIR": tmp_path,
        "OUTLAY_BASE_URL": "http://127.0.0.1:9",
    }

    assert float(run(program, variables)) < 15, "it waited for the exit timeout"


@pytest.mark.parametrize("home", [None, "", "relative"])
def test_a_user_without_a_home_tracks_to_a_temporary_folder(
    home: str | None, tmp_path: Path
) -> None:
    """A container may run as a user that no password database knows."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    program = f"""
import pwd

def unknown(*_):
    raise KeyError

pwd.getpwuid = unknown
os.environ.pop("HOME", None)
os.environ.pop("XDG_STATE_HOME", None)
if {home!r} is not None:
    os.environ["HOME"] = {home!r}
os.chdir({str(tmp_path)!r})
say(track(outlay, 1))
say(outlay.stats().pending, *os.listdir(), *os.listdir("tmp"))
"""
    variables = {"OUTLAY_SHIPPING": "none", "TMPDIR": temporary}

    said = run(program, variables).splitlines()

    assert said[1] == f"1 tmp outlay-{os.getuid()}"


def test_a_relative_journal_folder_stays_where_it_was_when_it_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later chdir would make a second journal."""
    monkeypatch.chdir(tmp_path)

    settings = Settings.resolve(environ={"OUTLAY_JOURNAL_DIR": "journal"})

    assert settings.journal_dir == tmp_path / "journal"
