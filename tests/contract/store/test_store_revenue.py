"""Every store keeps revenue with its history, and rates and customers beside it."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from outlay.server._metering.decimals import format_plain
from outlay.server._records import Customer, Rate, RevenueLine
from outlay.server._storage.page import ALL, Page
from outlay.server._storage.revenue_store import ImportResult, RevenuePart
from tests.support.stores import HOUR, START

if TYPE_CHECKING:
    from outlay.server._storage.store import Store
    from tests.support.stores import StoreLane

ALWAYS = (START - 10**6 * HOUR, START + 10**6 * HOUR)


def line(key: str = "in_1", amount: str = "1.50", hours: int = 0) -> RevenueLine:
    """Return a line of one day, which starts hours after the start."""
    start = START + hours * HOUR
    return RevenueLine(
        key, "cus_1", start, start + 24 * HOUR, Decimal(amount), "USD", "stripe"
    )


def add(
    store: Store,
    *lines: RevenueLine,
    import_id: str = "imp_1",
    number: int = 0,
    is_last: bool = True,
    now: int = START,
    namespace: str = "org_a",
) -> ImportResult:
    """Store a part of an import, with a digest of its amounts."""
    digest = repr(lines).encode()
    part = RevenuePart(namespace, import_id, number, is_last, digest, lines)
    return store.add_revenue(part, now, "finance")


def revenue(store: Store, *, as_of: int | None = None) -> list[str]:
    """Return the amounts that count, in order."""
    with store.reading() as reader:
        lines = reader.revenue("org_a", *ALWAYS, as_of=as_of)
    return sorted(format_plain(one.amount) for one in lines)


def test_a_line_is_read_as_it_was_stored(lane: StoreLane) -> None:
    """Each digit and each microsecond of it, after a restart."""
    stored = msgspec.structs.replace(
        line(amount="-0.000000000000000000000000000000000001"),
        customer='a/"\0\n',
        start=START + 1,
        end=START + 3,
    )
    add(lane.open(), stored)

    with lane.open().reading() as reader:
        assert reader.revenue("org_a", *ALWAYS) == [stored]


def test_a_period_has_the_lines_that_reach_into_it(store: Store) -> None:
    """A line ends before its end, as a period does."""
    add(store, line("a"), line("b", hours=24), line("c", hours=-23))
    with store.reading() as reader:
        day = reader.revenue("org_a", START, START + 24 * HOUR)
        nothing = reader.revenue("org_b", *ALWAYS)

    assert sorted(one.key for one in day) == ["a", "c"]
    assert nothing == []


def test_the_lines_of_one_customer_are_read_alone(store: Store) -> None:
    """A customer may have any id. One of another case is another customer."""
    odd = "a' OR \0 --"
    other = msgspec.structs.replace(line("b"), customer=odd)
    add(store, line("a"), other, line("c", hours=24))
    with store.reading() as reader:
        day = (START, START + 24 * HOUR)
        found = reader.revenue("org_a", *day, customer="cus_1")
        odd_ones = reader.revenue("org_a", *day, customer=odd)
        nothing = reader.revenue("org_a", *day, customer="CUS_1")

    assert [one.key for one in found] == ["a"]
    assert odd_ones == [other]
    assert nothing == []


def test_the_last_line_with_a_key_counts(store: Store) -> None:
    """All of them stay on record."""
    add(store, line(amount="1"))
    result = add(store, line(amount="2"), line("in_2"), import_id="imp_2")

    assert (result.added, result.replaced, result.unchanged) == (1, 1, 0)
    [(old, new)] = result.replacements
    assert (old.amount, new.amount) == (Decimal(1), Decimal(2))
    assert revenue(store) == ["1.5", "2"]
    with store.reading() as reader:
        history, count = reader.revenue_history("org_a", *ALWAYS, Page(2, 0))
    assert count == 3
    assert [(one.line.key, one.is_current) for one in history] == [
        ("in_2", True),
        ("in_1", True),
    ]
    assert (history[0].import_id, history[0].received_by) == ("imp_2", "finance")


def test_a_line_that_is_stored_already_is_not_stored_again(store: Store) -> None:
    """Nightly imports of everything must not fill the disk."""
    add(store, line(amount="1.50"))
    result = add(store, line(amount="1.5"), import_id="imp_2")

    assert (result.added, result.replaced, result.unchanged) == (0, 0, 1)
    with store.reading() as reader:
        assert reader.revenue_history("org_a", *ALWAYS, ALL)[1] == 1


def test_an_import_counts_from_its_last_part_on(store: Store) -> None:
    """Until then no reader sees any of its lines."""
    add(store, line(amount="1"), import_id="old")
    add(store, line(amount="2"), is_last=False)
    before = revenue(store)
    result = add(store, line("in_2", "3"), number=1)

    assert before == ["1"]
    assert revenue(store) == ["2", "3"]
    assert (result.added, result.replaced) == (1, 1)


def test_a_part_that_comes_again_changes_nothing(store: Store) -> None:
    """Its response may have been lost."""
    parts = [
        [add(store, line("a"), is_last=False) for _ in range(2)],
        [add(store, line("b"), number=1) for _ in range(2)],
    ]

    assert all(first == again for first, again in parts)
    assert not any(one.is_conflict for both in parts for one in both)
    assert revenue(store) == ["1.5", "1.5"]


def test_an_unexpected_part_is_a_conflict_and_changes_nothing(store: Store) -> None:
    """A gap, another content, and a part after the last one."""
    add(store, line("a"), is_last=False)
    gap = add(store, line("b"), number=2, is_last=False)
    other = add(store, line("a", "9"), is_last=False)
    add(store, line("b"), number=1)
    late = add(store, line("c"), number=2)

    assert (gap.is_conflict, other.is_conflict, late.is_conflict) == (True, True, True)
    assert gap.next_part == 1
    assert revenue(store) == ["1.5", "1.5"]


def test_a_key_occurs_once_in_an_import(store: Store) -> None:
    """The part is refused whole, and may be sent again without the line."""
    add(store, line("a"), is_last=False)
    refused = add(store, line("b"), line("a", "9"), number=1)
    add(store, line("b"), number=1)

    assert refused.duplicate == "a"
    assert not refused.is_complete
    assert revenue(store) == ["1.5", "1.5"]


def test_an_import_that_was_never_completed_never_counts(store: Store) -> None:
    """Its lines are not compared with others either."""
    add(store, line(amount="7"), import_id="lost", is_last=False)
    day = 25 * HOUR
    result = add(store, line(amount="8"), now=START + day)

    assert (result.added, result.replaced) == (1, 0)
    assert revenue(store) == ["8"]


def test_the_past_is_read_as_it_was(store: Store) -> None:
    """Of lines and of rates."""
    add(store, line(amount="1"))
    add(store, line(amount="2"), import_id="imp_2", now=START + 5)
    store.put_rates("org_a", [rate("1.1")], START, "finance")
    store.put_rates("org_a", [rate("1.2")], START + 5, "finance")

    assert [revenue(store, as_of=START + at) for at in (-1, 0, 4, 5)] == [
        [],
        ["1"],
        ["1"],
        ["2"],
    ]
    with store.reading() as reader:
        history, total = reader.revenue_history("org_a", *ALWAYS, ALL, as_of=START + 4)
        assert [(str(one.line.amount), one.is_current) for one in history] == [
            ("1", True)
        ]
        assert total == 1
        assert reader.rates("org_a", as_of=START - 1) == []
        assert reader.rates("org_a", as_of=START + 4) == [rate("1.1")]


def rate(value: str, hours: int = 0, pair: tuple[str, str] = ("EUR", "USD")) -> Rate:
    """Return a rate that is valid from hours after the start."""
    return Rate(*pair, Decimal(value), START + hours * HOUR, "ECB")


def test_rates_are_read_by_pair_and_time(store: Store) -> None:
    """The last rate with a pair and a first instant counts."""
    given = [rate("2", 5), rate("1"), rate("3", pair=("CHF", "USD"))]
    counts = [
        store.put_rates("org_a", rates, START, "finance")
        for rates in (given, given, [rate("1.0"), rate("9", 5)])
    ]

    assert counts == [3, 0, 1]
    with store.reading() as reader:
        assert reader.rates("org_a") == [given[2], rate("1"), rate("9", 5)]
        assert reader.rates("org_b") == []


def test_customers_are_named_and_renamed(store: Store) -> None:
    """Another organization's customer with the same id is another customer."""
    store.put_customers("org_b", {"a": "Other"}, START)
    store.put_customers("org_a", {"b": "Bee", "a": "Old"}, START)
    named = store.put_customers("org_a", {"b": "Bee", "a": "New"}, START + 1)

    bee, new = (
        Customer("b", "Bee", START, START),
        Customer("a", "New", START, START + 1),
    )
    assert named == [bee, new]
    with store.reading() as reader:
        assert reader.customers("org_a", ALL) == ([new, bee], 2)
        assert reader.customers("org_a", Page(1, 1)) == ([bee], 2)
        assert reader.customer("org_a", "a") == new
        assert reader.customer("org_a", "c") is None
        assert reader.customer_names("org_a") == {"a": "New", "b": "Bee"}
