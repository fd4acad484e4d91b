"""``outlay erase``: while the server takes events, and down to the bytes on disk."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import httpx
import msgspec
import pytest

from outlay._cli.exit_codes import ExitCode
from outlay.server import BackgroundServer, ServerSettings
from tests.support import command_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY: Final = "sk_test_of_erasures"
PERSON: Final = "person-4711-of-tests"
PERIOD: Final = {"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"}

_exact: Final = msgspec.json.Decoder(float_hook=Decimal).decode


@pytest.fixture
def server(tmp_path: Path) -> Iterator[BackgroundServer]:
    """Return a running server with a metric and events of two customers."""
    settings = ServerSettings(port=0, database=tmp_path / "outlay.db", api_key=KEY)
    with BackgroundServer(settings) as server:
        with client(server) as http:
            create = {
                "name": "AI",
                "eventType": "cost.ai",
                "valueProperty": "$.amount",
                "groupBy": {"user": "$.user"},
            }
            http.post("/v0/costMetrics", json=create).raise_for_status()
            for number in range(40):
                customer = PERSON if number % 2 else "cus_2"
                http.post("/v0/events", json=event(number, customer)).raise_for_status()
        yield server


def client(server: BackgroundServer) -> httpx.Client:
    """Return a client with all permissions."""
    headers = {"authorization": f"Bearer {KEY}"}
    return httpx.Client(base_url=server.url, headers=headers, timeout=30)


def event(number: int, customer: str) -> dict[str, Any]:
    """Return an event's body."""
    return {
        "type": "cost.ai",
        "source": "tests",
        "subject": customer,
        "idempotencyKey": f"k{number}",
        "timestamp": f"2026-01-{1 + number % 20:02}T10:30:00Z",
        "data": {"amount": f"0.{number:04}7", "user": customer},
    }


def groups(server: BackgroundServer) -> tuple[Decimal, dict[tuple[str, str], Decimal]]:
    """Return the total, and the totals by customer and user."""
    with client(server) as http:
        [cost] = http.get("/v0/costs").json()["data"]
        response = http.get(
            f"/v0/costs/{cost['id']}/summary",
            params={**PERIOD, "groupBy": "subject,user"},
        )
    summary = _exact(response.content)
    return Decimal(summary["totalCostExact"]), {
        (group["dimensions"]["subject"], group["dimensions"]["user"]): Decimal(
            group["costExact"]
        )
        for group in summary["groups"]
    }


def erase(server: BackgroundServer, *words: str, key: str = KEY) -> command_line.Ran:
    """Run ``outlay erase``."""
    reach = ["--base-url", server.url, *command_line.with_key(key)]
    return command_line.call("erase", "--customer", PERSON, *words, *reach)


def test_the_person_is_gone_and_no_total_has_changed(
    server: BackgroundServer, tmp_path: Path
) -> None:
    """From the answers, and from the log beside the database."""
    total, before = groups(server)
    ran = erase(server, "--yes")
    after_total, after = groups(server)
    with client(server) as http:
        # A retry of an event from before is still the same event.
        again = http.post("/v0/events", json=event(1, PERSON))

    [pseudonym] = [word for word in ran.out.split() if word.startswith("erased_")]
    assert ran.code == ExitCode.DONE, ran.err
    assert after_total == total
    assert after == {
        tuple(pseudonym if name == PERSON else name for name in names): value
        for names, value in before.items()
    }
    assert again.headers["outlay-duplicate"] == "true"
    assert PERSON not in again.text
    log = tmp_path / "outlay.db-wal"
    assert not log.exists() or PERSON.encode() not in log.read_bytes()


def test_a_backup_afterwards_has_nothing_of_the_person(
    server: BackgroundServer, tmp_path: Path
) -> None:
    """It is what leaves the machine."""
    erase(server, "--yes")
    output = tmp_path / "backup.db"
    command_line.call(
        "backup", "--db", str(tmp_path / "outlay.db"), "--output", str(output)
    )

    assert PERSON.encode() not in output.read_bytes()


def test_without_consent_nothing_happens(server: BackgroundServer) -> None:
    """There is no way back."""
    before = groups(server)
    ran = erase(server)

    assert (ran.code, "--yes" in ran.err) == (ExitCode.USAGE, True)
    assert groups(server) == before


def test_the_permission_is_needed(server: BackgroundServer) -> None:
    """A key that writes costs must not be able to rewrite history."""
    key = server.create_key("writer", ["events:create", "costs:write"])
    ran = erase(server, "--yes", key=key)

    assert ran.code == ExitCode.REFUSED
    assert "customers:erase" in ran.err
