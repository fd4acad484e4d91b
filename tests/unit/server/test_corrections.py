"""Corrections over SQLite: extremes whose events are gone, and many voided hours."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

import pytest

from outlay.server._records import Aggregation, CorrectionKind
from outlay.server._services.corrections import Order, decide
from outlay.server._storage.sqlite.store import SqliteStore
from outlay.server._wire.problems import HttpProblem
from tests.support.stores import (
    DEDUPE_WINDOW,
    HOUR,
    START,
    finish_background_work,
    make_cost,
    make_event,
    quantity,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX = make_cost(aggregation=Aggregation.MAX)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """Return a store with a maximum."""
    path = tmp_path / "outlay.db"
    store = SqliteStore(path, dedupe_window=DEDUPE_WINDOW, durable=False)
    store.add_cost(MAX)
    yield store
    store.close()


def void(store: SqliteStore, *keys: str) -> None:
    """Void events."""
    order = Order(CorrectionKind.VOID, "test", None, "finance", START)
    ids = [f"evt_{key}" for key in keys]
    assert None not in store.correct("org_a", ids, partial(decide, order), START)


def append(store: SqliteStore, key: str, amount: int, hour: int) -> None:
    """Store an event."""
    data = f'{{"amount":{amount}}}'
    store.append([make_event(key, data=data, at=START + hour * HOUR)], START)


def test_a_corrected_extreme_of_removed_events_is_refused(
    store: SqliteStore, tmp_path: Path
) -> None:
    """The rollup still has the voided maximum, so any figure would be wrong."""
    append(store, "a", 5, 0)
    append(store, "b", 9, 0)
    append(store, "c", 7, 2)
    void(store, "b")
    finish_background_work(store)
    before = quantity(store, MAX)
    with closing(sqlite3.connect(tmp_path / "outlay.db")) as other, other:
        other.execute("DELETE FROM events WHERE id = 'evt_a'")

    assert before == 7
    with pytest.raises(HttpProblem, match="retention has removed") as problem:
        quantity(store, MAX)
    assert (problem.value.status, problem.value.body.code) == (409, "EVENTS_REMOVED")
    assert quantity(store, MAX, START + HOUR) == 7


def test_a_corrected_sum_does_not_need_its_event(
    store: SqliteStore, tmp_path: Path
) -> None:
    """Corrections have a copy of what they correct."""
    total = make_cost("cst_2")
    store.add_cost(total)
    append(store, "a", 5, 0)
    append(store, "b", 9, 0)
    finish_background_work(store)
    void(store, "b")
    with closing(sqlite3.connect(tmp_path / "outlay.db")) as other, other:
        other.execute("DELETE FROM events")

    assert quantity(store, total) == 5


def test_the_voids_of_many_hours_read_the_whole_period(store: SqliteStore) -> None:
    """One query for each hour would be slower than all events."""
    hours = 510
    for hour in range(hours):
        append(store, f"v{hour}", 100 + hour, hour)
        append(store, f"k{hour}", hour, hour)
    finish_background_work(store)
    void(store, *(f"v{hour}" for hour in range(hours)))

    found = quantity(store, MAX, START, START + hours * HOUR)
    assert found == Decimal(hours - 1)
