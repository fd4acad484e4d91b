"""Every store finds single events: by id, by key, and page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from outlay.server._storage.event_store import CursorError, EventFilter
from tests.support.stores import START, make_event

if TYPE_CHECKING:
    from outlay.server._records import Event
    from outlay.server._storage.store import Store

EVERY = EventFilter()


def found(
    store: Store,
    where: EventFilter = EVERY,
    *,
    limit: int = 2,
    namespace: str = "org_a",
) -> list[str]:
    """Return the keys of the wanted events, from all pages."""
    keys: list[str] = []
    cursor = None
    with store.reading() as reader:
        while True:
            page = reader.events(namespace, where, limit, cursor)
            assert len(page.events) <= limit
            keys += [received.event.key for received in page.events]
            cursor = page.cursor
            if cursor is None:
                return keys


def test_an_event_is_found_by_its_id_within_its_organization(store: Store) -> None:
    """Another organization's event does not exist."""
    store.append([make_event("a"), make_event("b")], START)

    with store.reading() as reader:
        received = reader.event("org_a", "evt_b")
        assert received is not None
        assert (received.event.key, received.received_at) == ("b", START)
        assert received.event.data == '{"amount":1}'
        assert reader.event("org_b", "evt_b") is None
        assert reader.event("org_a", "evt_c") is None


def test_an_event_is_found_by_its_key_at_once_and_later(store: Store) -> None:
    """The newest event of the key, before and after background work."""
    store.append([make_event("k")], START)

    for _ in range(2):
        with store.reading() as reader:
            received = reader.event_of_key("org_a", "k")
            assert received is not None
            assert received.event.id == "evt_k"
            assert reader.event_of_key("org_b", "k") is None
            assert reader.event_of_key("org_a", "other") is None
        while store.do_background_work(START + 1_000_000):
            pass


def test_pages_have_each_event_once_the_newest_first(store: Store) -> None:
    """By the time of the cost, then by the order of receipt, across types."""
    events = [
        make_event("a", at=START + 1, type="cost.x"),
        make_event("b", at=START + 3),
        make_event("c", at=START + 2, type="cost.x"),
        make_event("d", at=START + 3, type="cost.y"),
        make_event("e", at=START - 10**15),
        make_event("z", namespace="org_b"),
    ]
    store.append(events, START)

    for limit in (1, 2, 3, 5, 6):
        assert found(store, limit=limit) == ["d", "b", "c", "a", "e"]
    assert found(store, namespace="org_b") == ["z"]
    assert found(store, namespace="org_c") == []


def test_later_events_are_left_out_of_an_earlier_state(store: Store) -> None:
    """By the time of receipt, whatever the time of the cost."""
    for seconds, key in enumerate("abc"):
        store.append([make_event(key, at=START - seconds)], START + seconds)

    for seconds, keys in ((-1, []), (0, ["a"]), (1, ["a", "b"]), (9, ["a", "b", "c"])):
        where = EventFilter(as_of=START + seconds)
        assert found(store, where) == keys
        with store.reading() as reader:
            assert reader.count_events("org_a", where) == len(keys)


def test_an_event_that_arrives_between_two_pages_shifts_nothing(store: Store) -> None:
    """A reader of many pages sees no event twice."""
    store.append([make_event(key, at=START + n) for n, key in enumerate("abc")], START)
    with store.reading() as reader:
        first = reader.events("org_a", EVERY, 2, None)

    store.append([make_event("new", at=START + 9)], START + 1)

    with store.reading() as reader:
        second = reader.events("org_a", EVERY, 2, first.cursor)
    assert [received.event.key for received in second.events] == ["a"]
    assert second.cursor is None


def described() -> list[Event]:
    """Return events that differ in everything that can be wanted."""
    return [
        make_event("a", data='{"amount":1,"model":"m1","n":{"x":[1,2]}}'),
        make_event("b", data='{"amount":1,"model":"m2"}', at=START + 10),
        make_event("c", type="cost.ocr", subject=None, external_subject="ext"),
        make_event("d", subject="cus_2", data='{"model":7}'),
    ]


@pytest.mark.parametrize(
    ("where", "keys"),
    [
        (EventFilter(types=frozenset(["cost.ocr", "cost.none"])), "c"),
        (EventFilter(types=frozenset()), ""),
        (EventFilter(customers=frozenset(["cus_1"])), "ba"),
        (EventFilter(customers=frozenset(["ext", "cus_2"])), "dc"),
        (EventFilter(start=START + 1), "b"),
        (EventFilter(end=START + 10), "dca"),
        (EventFilter(start=START, end=START + 1), "dca"),
        (EventFilter(key="b"), "b"),
        (EventFilter(values={"$.model": frozenset(["m1", "7"])}), "da"),
        (EventFilter(values={"$.model": frozenset([""])}), "c"),
        (EventFilter(values={"$.n.x": frozenset(["[1,2]"])}), "a"),
        (
            EventFilter(
                customers=frozenset(["cus_1"]),
                values={"$.model": frozenset(["m2"])},
                start=START,
            ),
            "b",
        ),
    ],
)
def test_a_filter_narrows_the_events(
    store: Store, where: EventFilter, keys: str
) -> None:
    """Each part of it, and all parts together."""
    store.append(described(), START)

    assert found(store, where, limit=1) == [*keys]
    assert found(store, where, limit=10) == [*keys]


@pytest.mark.parametrize("cursor", ["", "x", "1_", "evt_none", "1_2_3"])
def test_a_wrong_cursor_is_refused(store: Store, cursor: str) -> None:
    """A page from a wrong place would look like the end."""
    store.append(described(), START)

    with store.reading() as reader, pytest.raises(CursorError, match="nextCursor"):
        reader.events("org_a", EVERY, 2, cursor)


def test_wanted_events_are_counted_without_their_data(store: Store) -> None:
    """A page of the contract names the number of all."""
    store.append([*described(), make_event("z", namespace="org_b")], START)

    with store.reading() as reader:
        counts = [
            reader.count_events("org_a", where)
            for where in (
                EVERY,
                EventFilter(types=frozenset(["cost.ocr"])),
                EventFilter(customers=frozenset(["cus_1", "ext"])),
                EventFilter(start=START + 1, end=START + 11),
                EventFilter(key="a"),
                EventFilter(external_subject="ext"),
                EventFilter(external_id="none"),
            )
        ]

    assert counts == [4, 1, 3, 1, 1, 1, 0]
