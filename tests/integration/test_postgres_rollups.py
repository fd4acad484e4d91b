"""Totals are exact, however far PostgreSQL's rollups of larger grains are."""

from __future__ import annotations

import itertools
from contextlib import closing
from random import Random
from typing import TYPE_CHECKING, Final

import msgspec
import pytest

from outlay.server._records import Aggregation
from outlay.server._storage.postgres.connecting import connect
from outlay.server._storage.postgres.larger_grains import add_hours, due_cubes
from outlay.server._storage.postgres.store import PostgresStore
from outlay.server._storage.store import CUSTOMER_NAME
from outlay.server._wire.request_models import Window
from tests.support.postgres_server import drop_database, new_database
from tests.support.questions import (
    DAY,
    HOUR,
    LATER,
    START,
    Question,
    ask,
    make_event,
    make_metric,
    model,
)
from tests.support.stores import finish_background_work

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from outlay.server._records import CostMetric, Event
    from outlay.server._storage.postgres.connecting import PostgresConnection

_STEP: Final = 2_000_000  # microseconds; a server looks for work each second
_BATCH: Final = 30
_AGGREGATIONS: Final = [
    one for one in Aggregation if one is not Aggregation.UNIQUE_COUNT
]
# Hours since the start, which is at 07:00 on 20 November: some of one day, and some of
# other days, months and years.
_HOURS: Final = (0, 1, 2, 16, 17, 18, 40, 264, 265, 1000, 1024, 2000)
_EDGES: Final = (*_HOURS, -7, -400, 3, 19, 41, 266, 281, 1001, 1500, 2500)
_MINUTES: Final = (0, 0, HOUR // 4, HOUR - 1)

_numbers = itertools.count()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Return the URL of a database."""
    url = new_database()
    yield url
    drop_database(url)


@pytest.fixture(scope="module")
def store(url: str) -> Iterator[PostgresStore]:
    """Return a store. Each example has an organization of its own in it."""
    with closing(PostgresStore(url, dedupe_window=DAY)) as store:
        yield store


@pytest.fixture(scope="module")
def upkeep(url: str) -> Iterator[PostgresConnection]:
    """Return the connection of another server."""
    with closing(connect(url)) as connection:
        yield connection


@pytest.mark.parametrize("names", [(), ("provider",), ("provider", "region")])
@pytest.mark.parametrize("aggregation", _AGGREGATIONS)
def test_any_question_equals_the_plain_model(
    store: PostgresStore,
    upkeep: PostgresConnection,
    aggregation: Aggregation,
    names: tuple[str, ...],
) -> None:
    """Some hours are in larger grains, one in part, and later events come to all."""
    organization = f"{aggregation}-{'-'.join(names)}"
    random = Random(organization)  # noqa: S311 - no secret
    metric = msgspec.structs.replace(
        make_metric(aggregation, *names), id=organization, namespace=organization
    )
    made = [
        msgspec.structs.replace(
            make_event(number, _row(random)),
            id=f"{organization}-{number}",
            namespace=organization,
        )
        for number in range(6 * _BATCH)
    ]
    store.add_cost(metric)
    for round_ in range(5):
        store.append(made[round_ * _BATCH : (round_ + 1) * _BATCH], LATER)
        _fold(store)
        _add_slices(upkeep, START // HOUR + random.choice(_HOURS), random.randint(1, 9))
        _ask_all(store, metric, random, made[: (round_ + 1) * _BATCH])
    store.begin_erasure(organization, "ann", "bob", LATER)
    _fold(store)
    renamed = [
        msgspec.structs.replace(event, subject="bob")
        if event.customer == "ann"
        else event
        for event in made[: 5 * _BATCH]
    ]
    _ask_all(store, metric, random, renamed)
    store.append(made[5 * _BATCH :], LATER)
    _fold(store)
    _ask_all(store, metric, random, renamed + made[5 * _BATCH :])


def _row(random: Random) -> tuple[str, int, str, str, str, str]:
    """Return a random row of an event. Many are of the same hour and group."""
    return (
        str(random.randint(-1000, 1000)),
        random.choice(_HOURS) * HOUR + random.randrange(HOUR),
        random.choice(["ann", "bob", "cid"]),
        random.choice("xyz"),
        random.choice(["eu", "us"]),
        random.choice(["USD", "USD", "EUR"]),
    )


def _ask_all(
    store: PostgresStore, metric: CostMetric, random: Random, events: Sequence[Event]
) -> None:
    """Compare random questions with the model."""
    assert metric.aggregation is not None
    known = [*metric.group_by, CUSTOMER_NAME]
    values = {CUSTOMER_NAME: ["ann", "bob"], "provider": "xy", "region": ["eu"]}
    for _ in range(12):
        bounds = [random.choice(_EDGES) * HOUR + random.choice(_MINUTES) for _ in "ab"]
        filtered = random.sample(known, random.choice([0, 0, 1, len(known)]))
        asked = Question(
            START + min(bounds),
            START + max(bounds),
            frozenset(random.sample(known, random.randint(0, len(known)))),
            {name: frozenset(values[name]) for name in filtered},
            random.choice([None, None, Window.HOUR, Window.DAY, Window.MONTH]),
        )
        assert ask(store, metric, asked) == model(
            metric.aggregation, [*metric.group_by], events, asked
        )


def _fold(store: PostgresStore) -> None:
    """Let a server fold all deltas. No hour is over at the time of its clock."""
    finish_background_work(store, START - DAY + next(_numbers) * _STEP)


def _add_slices(upkeep: PostgresConnection, before: int, rows: int) -> None:
    """Add a small slice of each cube that is due, as an upkeep that is killed then."""
    upkeep.execute("BEGIN")
    for definition, cube in due_cubes(upkeep, before):
        add_hours(upkeep, definition, cube, before, rows=rows)
    upkeep.execute("COMMIT")
