"""Rollups of every grain fit together, and survive migrations."""

from __future__ import annotations

import itertools
import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlay.server._metering.parts import join, sort_key, split
from outlay.server._records import Aggregation
from outlay.server._storage.buckets import (
    Grain,
    buckets_of,
    ranges_between,
    signed_ranges_between,
    start_of,
)
from outlay.server._storage.page import ALL
from outlay.server._storage.sqlite.rollups import THIRDS
from outlay.server._storage.sqlite.store import SqliteStore
from outlay.server._storage.store import CUSTOMER_NAME
from outlay.server._wire.request_models import Window
from outlay.server._wire.response_models import to_microseconds
from tests.support.questions import (
    DAY,
    HOUR,
    START,
    Question,
    ask,
    make_event,
    make_metric,
)

DATABASES: Final = Path(__file__).with_name("databases")


@given(
    st.decimals(
        allow_nan=False,
        allow_infinity=False,
        min_value=-(10**18) + 1,
        max_value=10**18 - 1,
        places=18,
    )
)
def test_parts_hold_a_number_exactly(number: Decimal) -> None:
    """The parts are what the database adds up."""
    parts = split(number)

    assert parts is not None
    assert join(*parts) == number


@pytest.mark.parametrize("text", ["1e18", "-1.1e18", "1e-19", "0.1000000000000000001"])
def test_numbers_beyond_the_parts_have_none(text: str) -> None:
    """A number that is cut to fit would be a wrong sum."""
    assert split(Decimal(text)) is None


@given(*[st.decimals(-(10**30), 10**30, allow_nan=False)] * 2)
def test_sort_keys_compare_as_numbers(left: Decimal, right: Decimal) -> None:
    """The database compares bytes to find the least and the greatest value."""
    if min(left.adjusted(), right.adjusted()) < -100:
        return  # no countable number

    assert (sort_key(left) < sort_key(right)) == (left < right)
    assert (sort_key(left) == sort_key(right)) == (left == right)


@given(
    st.integers(-20_000_000, 50_000_000),
    st.integers(0, 100_000),
    st.sampled_from([None, Window.HOUR, Window.DAY, Window.MONTH]),
)
def test_ranges_cover_a_period_without_gap_or_overlap(
    first: int, length: int, window: Window | None
) -> None:
    """A bucket too many or too few is money too much or too little."""
    first = max(first, -17_259_888)  # the first hour of the year 1
    last = min(first + length, 70_389_527)
    if first >= last:
        return

    spans = sorted(
        (start_of(grain, start), start_of(grain, end))
        for grain, start, end, _ in ranges_between(first, last, window)
    )

    assert spans[0][0] == start_of(Grain.HOUR, first)
    assert spans[-1][1] == start_of(Grain.HOUR, last)
    assert all(end == start for (_, end), (start, _) in itertools.pairwise(spans))


@given(
    first=st.integers(-17_259_888, 70_000_000),
    length=st.integers(1, 100_000),
    has_thirds=st.booleans(),
)
def test_signed_ranges_add_up_to_a_period(
    first: int, length: int, *, has_thirds: bool
) -> None:
    """Taken off and added up, each hour of the period counts once, and no other."""
    last = first + length
    changes: Counter[int] = Counter()
    ranges = signed_ranges_between(first, last, has_thirds=has_thirds)
    for grain, start, end, sign in ranges:
        changes[start_of(grain, start)] += sign
        changes[start_of(grain, end)] -= sign

    assert {at: change for at, change in changes.items() if change} == {
        start_of(Grain.HOUR, first): 1,
        start_of(Grain.HOUR, last): -1,
    }
    edges = [one for one in ranges if one.grain != Grain.MONTH]
    most = 12 + (5 + 1 if has_thirds else 16)
    assert sum(one.last - one.first for one in edges) <= 2 * most


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_database_of_an_earlier_version_is_migrated(
    tmp_path: Path, version: int
) -> None:
    """Frozen examples of every version open, give the same totals, and go on."""
    path = tmp_path / "outlay.db"
    connection = sqlite3.connect(path)
    connection.executescript((DATABASES / f"v{version}.sql").read_text())
    connection.close()
    year = Question(
        to_microseconds(datetime(2025, 1, 1, tzinfo=UTC)),
        START + 900 * DAY,
        frozenset([CUSTOMER_NAME]),
        {},
        None,
    )
    expected = {
        (None, "cus_1"): Decimal("0.0042") + Decimal("1e-30"),
        (None, "cus_2"): Decimal("12.5"),
        (None, "cus_3"): Decimal(-3),
    }

    store = SqliteStore(path, dedupe_window=DAY)
    with store.reading() as reader:
        metrics, count = reader.costs("org_a", None, ALL)
    with localcontext(prec=60):
        assert count == 2
        before = ask(store, metrics[0], year)
        while store.do_background_work(490_000 * HOUR):
            pass
        duplicate = make_event(1, ("1", 0, "ann", "x", "eu", ""))
        duplicate.key = "key-1"
        [result] = store.append([duplicate], 490_000 * HOUR + 1)
        after = ask(store, metrics[0], year)
    store.close()

    assert result.duplicate
    assert before == after == expected


def test_thirds_of_months_hold_the_events_of_their_days(tmp_path: Path) -> None:
    """An update adds the same rows to an earlier database as new events do."""
    path = tmp_path / "outlay.db"
    store = SqliteStore(path, dedupe_window=DAY)
    store.add_cost(make_metric(Aggregation.SUM, "provider"))
    days = [*range(-40, 60), *range(-30_000, 20_000, 97)]
    store.append(
        [
            make_event(number, ("0.5", day * DAY, f"cus_{day % 3}", "x", "eu", ""))
            for number, day in enumerate(days)
        ],
        490_000 * HOUR,
    )
    while store.do_background_work(490_001 * HOUR):
        pass
    store.close()
    folded = rows_of(path, Grain.THIRD)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM rollups WHERE grain = ?", (Grain.THIRD,))
        connection.executescript(THIRDS)
    updated = rows_of(path, Grain.THIRD)

    assert len(folded) > 1000
    assert rows_of(path, Grain.DAY) == folded == updated


def rows_of(path: Path, grain: Grain) -> dict[tuple[object, ...], Counter[str]]:
    """Return the sums of each third of a month, from rows of a grain."""
    found: dict[tuple[object, ...], Counter[str]] = defaultdict(Counter)
    with closing(sqlite3.connect(path)) as connection:
        for metric, cube, bucket, customer, events, skipped, nano in connection.execute(
            "SELECT metric, cube, bucket, customer, events, skipped, nano"
            " FROM rollups WHERE grain = ? AND (cube IN (0, 1) OR grain = 3)",
            (grain,),
        ):
            third = bucket if grain is Grain.THIRD else buckets_of(bucket * 24).third
            sums = {"events": events, "skipped": skipped, "nano": nano}
            found[metric, cube, third, customer].update(sums)
    return found
