"""Every store keeps the first event of a key, for as long as it promises."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from outlay.server._storage.page import ALL
from tests.support.stores import (
    DEDUPE_WINDOW,
    START,
    finish_background_work,
    make_cost,
    make_event,
    quantity,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from outlay.server._records import Event
    from outlay.server._storage.store import Store
    from tests.support.stores import StoreLane


def test_the_first_event_of_a_key_wins(store: Store) -> None:
    """A retry gets the event that was stored the first time."""
    store.append([make_event("k", id="evt_first")], START)

    [result] = store.append([make_event("k", id="evt_second")], START + 1)

    assert result.duplicate
    assert not result.conflict
    assert result.event.id == "evt_first"


def test_a_key_twice_in_one_append_counts_once(store: Store) -> None:
    """A batch may hold a duplicate of its own."""
    cost = make_cost()
    store.add_cost(cost)

    first, second = store.append([make_event("k"), make_event("k")], START)

    assert (first.duplicate, second.duplicate) == (False, True)
    assert quantity(store, cost) == 1


def test_results_are_in_the_order_of_the_events(store: Store) -> None:
    """A batch's response names each event by its place."""
    store.append([make_event("b")], START)

    results = store.append([make_event(key) for key in "abc"], START)

    assert [result.event.key for result in results] == ["a", "b", "c"]
    assert [result.duplicate for result in results] == [False, True, False]


@pytest.mark.parametrize(
    "differs",
    [
        lambda: make_event("k", data='{"amount":2}'),
        lambda: make_event("k", type="cost.other"),
        lambda: make_event("k", source="elsewhere"),
        lambda: make_event("k", subject="cus_2"),
        lambda: make_event("k", external_subject="cus_2"),
    ],
    ids=["data", "type", "source", "subject", "external-subject"],
)
def test_another_payload_under_a_known_key_is_a_conflict(
    store: Store, differs: Callable[[], Event]
) -> None:
    """A sender that uses a key for two things needs to hear of it."""
    store.append([make_event("k")], START)

    [result] = store.append([differs()], START + 1)

    assert result.duplicate
    assert result.conflict
    assert result.event.data == '{"amount":1}'


def test_organizations_do_not_share_keys(store: Store) -> None:
    """The key of one organization must not swallow another's event."""
    store.append([make_event("k")], START)

    [result] = store.append([make_event("k", namespace="org_b")], START)

    assert not result.duplicate


def test_keys_are_known_after_a_restart(lane: StoreLane) -> None:
    """A client retries across the server's restarts as well."""
    lane.open().append([make_event("k")], START)

    [result] = lane.open().append([make_event("k")], START + DEDUPE_WINDOW - 1)

    assert result.duplicate


@pytest.mark.parametrize("expire", [True, False], ids=["expired", "still-there"])
def test_a_key_is_free_again_after_the_window(store: Store, *, expire: bool) -> None:
    """The window has its length, whether or not background work was quick."""
    store.append([make_event("k")], START)
    if expire:
        finish_background_work(store, START + DEDUPE_WINDOW)

    [later] = store.append([make_event("k", id="evt_later")], START + DEDUPE_WINDOW)
    [again] = store.append([make_event("k")], START + DEDUPE_WINDOW + 1)

    assert not later.duplicate
    assert again.event.id == "evt_later"


def test_expiry_of_an_old_key_keeps_the_newer_event_of_the_key(store: Store) -> None:
    """Background work is late at times. The key stands for another event then."""
    store.append([make_event("k")], START)
    store.append([make_event("k", id="evt_later")], START + DEDUPE_WINDOW)
    finish_background_work(store, START + DEDUPE_WINDOW)

    [result] = store.append([make_event("k")], START + DEDUPE_WINDOW + 1)

    assert result.event.id == "evt_later"


def test_a_view_does_not_change(store: Store) -> None:
    """The groups of a report and its total come from the same events."""
    cost = make_cost()
    store.add_cost(cost)
    store.append([make_event("a")], START)

    with store.reading() as reader:
        before, _ = reader.costs("org_a", None, ALL)
        store.append([make_event("b")], START)
        store.add_cost(make_cost("cst_2"))
        after, count = reader.costs("org_a", None, ALL)

    assert [one.id for one in before] == [one.id for one in after] == ["cst_1"]
    assert count == 1
    assert quantity(store, cost) == 2


def test_a_commit_of_events_changes_the_version(store: Store) -> None:
    """A server looks at the budgets again after the events of a killed one."""
    before = store.version()
    store.append([make_event("k")], START)

    deadline = time.monotonic() + 30
    while store.version() == before:
        assert time.monotonic() < deadline, "the commit changed nothing"
        threading.Event().wait(0.02)  # PostgreSQL is asked twice a second
