"""A process that appends events to a ledger until all of them are stored.

It prints ``key id`` for each acknowledged event: the id of the first one with the key.
"""

from __future__ import annotations

import os
import random
import sys
import threading
from typing import TYPE_CHECKING, Final

from outlay.server._errors import DatabaseError, StoreUnavailableError
from outlay.server._storage.postgres.store import PostgresStore
from tests.support.stores import DEDUPE_WINDOW, START, make_event

if TYPE_CHECKING:
    from outlay.server._records import Event, IngestResult

URL_VARIABLE: Final = "LEDGER_URL"
_BATCH: Final = 20


def opened(url: str) -> PostgresStore:
    """Open the ledger, and wait until PostgreSQL runs."""
    while True:
        try:
            return PostgresStore(url, dedupe_window=DEDUPE_WINDOW)
        except DatabaseError:
            threading.Event().wait(0.05)


def write(url: str, writer: str, prefix: str, count: int) -> None:
    """Append ``count`` events in an order of the writer's own, and retry each batch."""
    numbers = [*range(count)]
    random.Random(writer).shuffle(numbers)  # noqa: S311 - an order, no secret
    store = opened(url)
    for start in range(0, count, _BATCH):
        events = [
            make_event(f"{prefix}{number}", id=f"evt_{writer}_{number}")
            for number in numbers[start : start + _BATCH]
        ]
        results = _stored(store, events, START + start * 1_000_000)
        text = "".join(f"{one.event.key} {one.event.id}\n" for one in results)
        os.write(1, text.encode())
    store.close()


def _stored(store: PostgresStore, events: list[Event], now: int) -> list[IngestResult]:
    """Append events until they are stored, and fold what is due."""
    while True:
        try:
            results = store.append(events, START)
            store.do_background_work(now)
        except StoreUnavailableError:
            threading.Event().wait(0.02)
        else:
            return results


if __name__ == "__main__":
    write(os.environ[URL_VARIABLE], sys.argv[1], sys.argv[2], int(sys.argv[3]))
