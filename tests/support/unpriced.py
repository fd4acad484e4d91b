"""Captured costs without a price, and what becomes of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from outlay import Client
from outlay._capture.observation import Observation
from outlay._capture.recorder import Recorder
from outlay._journal.admin.inspect import DestinationView, UnpricedLine
from outlay._model.attribution import Attribution
from outlay._model.events import CostEvent, decode_event

if TYPE_CHECKING:
    from pathlib import Path

WHEN: Final = datetime(2026, 5, 1, 12, tzinfo=UTC)
OWNER: Final = Attribution(customer_id="cus_1", operation="onboarding")

BOOK: Final = """\
[[price]]
provider = "acme"
from = 2026-01-01
until = 2026-06-01
call = 0.05

[[price]]
provider = "acme"
from = 2026-06-01
call = 99
"""
"""Prices a call to acme: 0.05 in May, which is `WHEN`, and another price later."""


def observe(number: int = 0, **fields: Any) -> Observation:  # noqa: ANN401 - of any field's type
    """Return a call to a provider that no public list knows."""
    known: dict[str, Any] = {
        "provider": "acme",
        "event_type": "cost.enrichment",
        "operation_id": f"req_{number}",
    }
    return Observation(**{**known, **fields})


def record(client: Client, number: int = 0, **fields: Any) -> None:  # noqa: ANN401 - as above
    """Record one such call."""
    Recorder.for_client(client).record(observe(number, **fields), OWNER, WHEN)


def client_in(folder: Path, **settings: Any) -> Client:  # noqa: ANN401 - of any setting
    """Return a client that ships nothing."""
    known: dict[str, Any] = {
        "shipping": "none",
        "journal_dir": folder,
        "segment_bytes": 64 * 1024,
    }
    return Client(**{**known, **settings})


def view_of(journal_dir: Path) -> DestinationView:
    """Return the one destination in a journal folder."""
    (path,) = journal_dir.iterdir()
    return DestinationView(path)


def waiting(journal_dir: Path) -> list[UnpricedLine]:
    """Return the costs that wait for a price; none may be damaged."""
    problems: list[object] = []
    lines = [*view_of(journal_dir).unpriced(problems.append)]

    assert problems == []
    return lines


def pending(journal_dir: Path) -> list[CostEvent]:
    """Return the events in the journal."""
    events = view_of(journal_dir).events(lambda _: None)
    return [decode_event(event.payload) for event in events]
