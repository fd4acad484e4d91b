"""Every store keeps reconciliations, and the matches of each."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec

from outlay.server._records import SavedReconciliation, Withdrawal
from outlay.server._storage.page import ALL, Page
from outlay.server._storage.reconciliation_store import ReconciledTotals
from tests.support.stores import HOUR, START

if TYPE_CHECKING:
    from outlay.server._storage.store import Store
    from tests.support.stores import StoreLane

DAY: Final = 24 * HOUR
TOTALS: Final = ReconciledTotals(
    Decimal("3.50"), Decimal("-0." + "0" * 35 + "1"), Decimal(2), 34, 33
)
WITHDRAWAL: Final = Withdrawal(START + 9, "finance", "the wrong month; 'ü\0\"")


def begin(store: Store, name: str = "rec_1", as_of: int = START) -> SavedReconciliation:
    """Begin a reconciliation of October, with odd characters in its invoice."""
    new = SavedReconciliation(
        name, "org_a", 'INV-1/"\0ü', "openai", "USD", "UTC", "day", "2026-10-01",
        "2026-10-31", as_of, "finance",
    )  # fmt: skip
    store.begin_reconciliation(new)
    return new


def digest(number: int) -> bytes:
    """Return a digest."""
    return number.to_bytes(16)


def saved(store: Store, namespace: str = "org_a") -> list[SavedReconciliation]:
    """Return the finished reconciliations."""
    with store.reading() as reader:
        found, number = reader.reconciliations(namespace, ALL)
    assert number == len(found)
    return found


def test_matches_count_when_all_are_stored(lane: StoreLane) -> None:
    """A command that is cut short leaves nothing that counts."""
    store = lane.open()
    new = begin(store)
    added = store.add_matches("org_a", "rec_1", [digest(1), digest(2)], START)
    assert added == new
    assert saved(store) == []
    # A part that is sent again, because its response was lost.
    store.add_matches("org_a", "rec_1", [digest(2), digest(3)], START)
    done = store.add_matches("org_a", "rec_1", [digest(0)], START + 5, TOTALS)
    late = store.add_matches("org_a", "rec_1", [digest(9)], START + 6, TOTALS)

    expected = msgspec.structs.replace(new, saved_at=START + 5, **TOTALS._asdict())
    assert done == late == expected
    store = lane.open()
    assert saved(store) == [expected]
    assert saved(store, "org_b") == []
    many = [digest(number) for number in range(1200)]
    with store.reading() as reader:
        assert reader.matches("org_a", "rec_1", many) == {*map(digest, range(4))}
        assert reader.matches("org_b", "rec_1", many) == set()
        assert reader.matches("org_a", "rec_2", many) == set()
        assert reader.matches("org_a", "rec_1", []) == set()


def test_the_last_one_is_the_first_of_the_list(store: Store) -> None:
    """And a page of the list is a part of it."""
    for number, at in ((1, 5), (2, 7), (3, 5)):
        begin(store, f"rec_{number}")
        store.add_matches("org_a", f"rec_{number}", [], START + at, TOTALS)

    assert [one.id for one in saved(store)] == ["rec_2", "rec_3", "rec_1"]
    with store.reading() as reader:
        [one], number = reader.reconciliations("org_a", Page(1, 2))
    assert (one.id, number) == ("rec_1", 3)


def test_of_another_organization_or_unknown_nothing_is_stored(store: Store) -> None:
    """An id is no permission."""
    begin(store)
    assert store.add_matches("org_b", "rec_1", [digest(1)], START, TOTALS) is None
    assert store.add_matches("org_a", "rec_9", [digest(1)], START, TOTALS) is None

    store.add_matches("org_a", "rec_1", [], START, TOTALS)
    with store.reading() as reader:
        assert reader.matches("org_a", "rec_1", [digest(1)]) == set()


def test_an_unfinished_one_is_there_for_a_day(store: Store) -> None:
    """Long enough for any bill. One that counts stays."""
    begin(store, "rec_1")
    store.add_matches("org_a", "rec_1", [digest(1)], START, TOTALS)
    begin(store, "rec_2")
    begin(store, "rec_3", START + DAY)
    assert store.add_matches("org_a", "rec_2", [digest(2)], START + DAY) is not None

    begin(store, "rec_4", START + DAY + 1)

    assert store.add_matches("org_a", "rec_2", [], START + DAY, TOTALS) is None
    assert store.add_matches("org_a", "rec_3", [], START + DAY, TOTALS) is not None
    assert [one.id for one in saved(store)] == ["rec_3", "rec_1"]


def test_a_withdrawn_one_stays_on_record(lane: StoreLane) -> None:
    """Its matches too: an export of a time before still needs them."""
    store = lane.open()
    begin(store)
    store.add_matches("org_a", "rec_1", [digest(1)], START, TOTALS)
    [before] = saved(store)

    gone = store.withdraw_reconciliation("org_a", "rec_1", WITHDRAWAL)
    again = store.withdraw_reconciliation(
        "org_a", "rec_1", Withdrawal(START + 10, "other", "again")
    )

    expected = msgspec.structs.replace(before, withdrawal=WITHDRAWAL)
    assert gone == again == expected
    store = lane.open()
    assert saved(store) == [expected]
    with store.reading() as reader:
        assert reader.reconciliation("org_a", "rec_1") == expected
        assert reader.matches("org_a", "rec_1", [digest(1)]) == {digest(1)}


def test_only_a_finished_one_of_the_organization_is_withdrawn(store: Store) -> None:
    """One that never counted has nothing to take back."""
    begin(store, "rec_1")
    begin(store, "rec_2")
    store.add_matches("org_a", "rec_2", [], START, TOTALS)

    for namespace, name in (("org_a", "rec_1"), ("org_b", "rec_2"), ("org_a", "rec_9")):
        assert store.withdraw_reconciliation(namespace, name, WITHDRAWAL) is None
        with store.reading() as reader:
            assert reader.reconciliation(namespace, name) is None
    [one] = saved(store)
    assert one.withdrawal is None
    # It may still be finished.
    assert store.add_matches("org_a", "rec_1", [], START, TOTALS) is not None
