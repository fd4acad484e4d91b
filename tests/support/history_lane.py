"""A ledger whose days move to ClickHouse at each turn of deferred work."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from outlay.server._storage.clickhouse.connection import Connection
from outlay.server._storage.clickhouse.mover import HistoryMover
from outlay.server._storage.clickhouse.store import HistoryStore
from tests.support.clickhouse_server import new_database_url
from tests.support.postgres_server import empty_database
from tests.support.stores import (
    DEDUPE_WINDOW,
    HOUR,
    new_or_spare_database,
    spare_database,
)

if TYPE_CHECKING:
    from outlay.server._storage.store import Store

DAY = 24 * HOUR
_FEW_EVENTS = 7
_SMALL_STEPS = 40
"""So many steps move few events each. A day of thousands would take minutes so."""


class MovingStore(HistoryStore):
    """A store whose deferred work moves all days, also those of its dedupe window."""

    def __init__(self, url: str, clickhouse_url: str) -> None:
        super().__init__(url, clickhouse_url, dedupe_window=DEDUPE_WINDOW)
        self._movers = [
            HistoryMover(
                url, clickhouse_url, DEDUPE_WINDOW, slice_events=count, longest_read=0
            )
            for count in (_FEW_EVENTS, 100 * _FEW_EVENTS)
        ]
        self._steps = 0

    def do_background_work(self, now: int) -> bool:
        """Do the store's own work first, and then move days."""
        if super().do_background_work(now):
            return True
        self._steps += 1
        mover = self._movers[self._steps > _SMALL_STEPS]
        return mover.step(now + DEDUPE_WINDOW + 2 * DAY)

    def close(self) -> None:
        """Close all connections."""
        for mover in self._movers:
            mover.close()
        super().close()


class EmptiedMovingStore(MovingStore):
    """A store of a server, whose data is deleted when it is closed."""

    def __init__(self) -> None:
        super().__init__(new_or_spare_database(), new_database_url())

    def close(self) -> None:
        """Close the store, and delete the data of both."""
        super().close()
        empty_database(self._url)
        _drop(self._clickhouse_url)
        spare_database(self._url)


def _drop(clickhouse_url: str) -> None:
    with closing(Connection(clickhouse_url)) as history:
        history.command(f"DROP DATABASE IF EXISTS {history.database}")


class HistoryLane:
    """PostgreSQL and ClickHouse, with databases of their own."""

    def __init__(self) -> None:
        self._url = new_or_spare_database()
        self._clickhouse_url = new_database_url()
        self._store: MovingStore | None = None

    def open(self) -> Store:
        """Open both."""
        if self._store is not None:
            self._store.close()
        self._store = MovingStore(self._url, self._clickhouse_url)
        return self._store

    def close(self) -> None:
        """Close the store, and delete all data."""
        if self._store is not None:
            self._store.close()
            empty_database(self._url)
            _drop(self._clickhouse_url)
        spare_database(self._url)
