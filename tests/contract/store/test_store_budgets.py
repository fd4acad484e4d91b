"""Every store reports each threshold once, and keeps a message until its delivery."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from outlay.server._records import (
    Budget,
    BudgetPeriod,
    Delivery,
    OldSecret,
    PassedThreshold,
    Webhook,
)
from outlay.server._storage.budget_store import Attempt
from outlay.server._storage.page import ALL, Page
from tests.support.stores import HOUR, START

if TYPE_CHECKING:
    from outlay.server._storage.store import Store
    from tests.support.stores import StoreLane

SECOND = 1_000_000


def budget(budget_id: str = "b1", **overrides: Any) -> Budget:  # noqa: ANN401 - any field
    """Return a budget for a month of a customer."""
    fields: dict[str, Any] = {
        "id": budget_id,
        "namespace": "org_a",
        "name": "Acme, monthly",
        "amount": Decimal(100),
        "currency": "USD",
        "period": BudgetPeriod.MONTH,
        "zone": "Europe/Berlin",
        "customer": "cus_1",
        "dimensions": {},
        "thresholds": (80, 100),
        "revision": "r1",
        "revised_at": START,
        "created_at": START,
        "updated_at": START,
    }
    return Budget(**{**fields, **overrides})


def passed(percent: int = 80, **overrides: Any) -> PassedThreshold:  # noqa: ANN401 - any field
    """Return a passed threshold of that budget."""
    fields: dict[str, Any] = {
        "namespace": "org_a",
        "budget_id": "b1",
        "revision": "r1",
        "start": START,
        "percent": percent,
        "spent": Decimal("80.000000000000000000000001"),
        "passed_at": START + percent,
        "message_id": f"msg_{percent}",
        "message": f'{{"percent":{percent}}}',
    }
    return PassedThreshold(**{**fields, **overrides})


def webhook(webhook_id: str = "w1", namespace: str = "org_a") -> Webhook:
    """Return a webhook that never failed."""
    return Webhook(
        webhook_id, namespace, "https://example.com/hook", b"\0secret\xff", START
    )


def claim(store: Store, now: int = START + HOUR, limit: int = 10) -> list[Delivery]:
    """Claim deliveries for a minute."""
    return store.claim_deliveries(now, now + 60 * SECOND, limit)


def ids(deliveries: list[Delivery]) -> list[tuple[str, str]]:
    """Return the webhook and the message of each delivery."""
    return sorted((one.webhook.id, one.message_id) for one in deliveries)


def test_a_budget_is_read_as_it_was_stored(lane: StoreLane) -> None:
    """Each digit of its limit, after a restart."""
    stored = budget(
        name='a/"\0\n',
        amount=Decimal("0.000000000000000000000000000000000001"),
        dimensions={"provider": "a,b", "region": ""},
        thresholds=(1, 50, 1000),
    )
    assert lane.open().put_budget(stored) == (stored, True)

    store = lane.open()
    with store.reading() as reader:
        assert reader.budget("org_a", "b1") == stored
        assert reader.budget("org_b", "b1") is None
        assert reader.budget_namespaces() == {"org_a"}


def test_budgets_are_listed_by_id_and_customer(store: Store) -> None:
    """A page tells the number of all."""
    for one in (
        budget("b3", customer=None),
        budget("b1"),
        budget("b2", customer="cus_2"),
        budget("b0", namespace="org_b"),
    ):
        store.put_budget(one)
    with store.reading() as reader:
        page, total = reader.budgets("org_a", Page(2, 1))
        own, own_total = reader.budgets("org_a", ALL, customer="cus_2")
        of_one = reader.budgets_of("org_a", {"cus_1", "cus_9"})
        of_all = reader.budgets_of("org_a", None)

    assert ([one.id for one in page], total) == (["b2", "b3"], 3)
    assert ([one.id for one in own], own_total) == (["b2"], 1)
    assert [one.id for one in of_one] == ["b1", "b3"]
    assert [one.id for one in of_all] == ["b1", "b2", "b3"]


def test_budgets_of_very_many_customers_are_found(store: Store) -> None:
    """More customers than a statement of SQL has variables."""
    store.put_budget(budget())
    with store.reading() as reader:
        found = reader.budgets_of("org_a", {f"cus_{n}" for n in range(40_000)})

    assert [one.id for one in found] == ["b1"]


@pytest.mark.parametrize(
    ("change", "revision"),
    [
        ({"name": "new"}, "r1"),
        ({"thresholds": (50,)}, "r1"),
        ({"amount": Decimal("100.00")}, "r1"),
        ({"amount": Decimal(101)}, "r2"),
        ({"zone": "UTC"}, "r2"),
        ({"customer": None}, "r2"),
        ({"dimensions": {"provider": "x"}}, "r2"),
    ],
)
def test_only_another_limit_is_a_new_revision(
    store: Store, change: dict[str, Any], revision: str
) -> None:
    """Renaming a budget reports no threshold a second time."""
    store.put_budget(budget())
    later = START + HOUR
    stored, is_new = store.put_budget(
        budget(
            revision="r2",
            revised_at=later,
            created_at=later,
            updated_at=later,
            **change,
        )
    )

    assert not is_new
    assert (stored.revision, stored.created_at) == (revision, START)
    assert stored.revised_at == (START if revision == "r1" else later)
    with store.reading() as reader:
        assert reader.budget("org_a", "b1") == stored


def test_a_threshold_is_passed_once_for_each_period(lane: StoreLane) -> None:
    """The second time changes nothing, also after a restart."""
    store = lane.open()
    store.put_budget(budget())
    store.add_webhook(webhook())
    first = passed()
    assert store.pass_thresholds([first, first, passed(100)]) == 2

    store = lane.open()
    assert store.pass_thresholds([passed(message_id="msg_again")]) == 0
    next_period = passed(start=START + 1000 * HOUR, message_id="msg_next")
    assert store.pass_thresholds([next_period]) == 1
    with store.reading() as reader:
        found = reader.passed_thresholds("org_a", ["b1", "b2"], START)
        later = reader.passed_thresholds("org_a", ["b1"], START + 1)
        assert reader.waiting_messages("org_a") == {"w1": 3}

    assert found == [first, passed(100), next_period]
    assert later == [next_period]


@pytest.mark.parametrize("stale", [{"revision": "r0"}, {"budget_id": "b9"}])
def test_a_changed_or_deleted_budget_passes_nothing(
    store: Store, stale: dict[str, Any]
) -> None:
    """The costs were compared with a limit that is no more."""
    store.put_budget(budget())
    store.add_webhook(webhook())

    assert store.pass_thresholds([passed(**stale)]) == 0
    assert claim(store) == []


def test_a_deleted_budget_leaves_no_message(store: Store) -> None:
    """A budget with its id that comes later begins without thresholds."""
    store.put_budget(budget())
    store.add_webhook(webhook())
    store.pass_thresholds([passed()])

    assert store.delete_budget("org_a", "b1")
    assert not store.delete_budget("org_a", "b1")
    assert claim(store) == []
    store.put_budget(budget())
    with store.reading() as reader:
        assert reader.passed_thresholds("org_a", ["b1"], START) == []


def test_each_webhook_gets_each_message_one_at_a_time(lane: StoreLane) -> None:
    """A claimed webhook has no other delivery until its attempt is settled."""
    store = lane.open()
    store.put_budget(budget())
    for one in (webhook("w1"), webhook("w2"), webhook("w3", "org_b")):
        store.add_webhook(one)
    store.pass_thresholds([passed(), passed(100)])

    first = claim(store)
    assert ids(first) == [("w1", "msg_80"), ("w2", "msg_80")]
    assert claim(store) == []

    now = START + HOUR + 1
    for delivery in first:
        assert delivery.webhook.secret == b"\0secret\xff"
        store.settle_attempt(delivery, Attempt(retry_at=now), now)
    store = lane.open()
    assert ids(claim(store, now)) == [("w1", "msg_100"), ("w2", "msg_100")]
    with store.reading() as reader:
        found = reader.webhook("org_a", "w1")
    assert found is not None
    assert (found.delivered_at, found.failures) == (now, 0)


def test_a_claim_ends_by_itself(lane: StoreLane) -> None:
    """A server that was killed while it sent does not keep the message."""
    store = lane.open()
    store.put_budget(budget())
    store.add_webhook(webhook())
    store.pass_thresholds([passed()])
    claim(store)

    store = lane.open()
    assert claim(store, START + HOUR + 59 * SECOND) == []
    assert ids(claim(store, START + HOUR + 60 * SECOND)) == [("w1", "msg_80")]


def test_a_failed_message_lets_others_pass(store: Store) -> None:
    """The message with the fewest attempts comes first."""
    store.put_budget(budget())
    store.add_webhook(webhook())
    store.pass_thresholds([passed(), passed(100)])
    retry_at = START + 2 * HOUR
    now = START + HOUR

    [first] = claim(store)
    store.settle_attempt(first, Attempt("refused", retry_at), now)
    assert claim(store, retry_at - 1) == []
    [second] = claim(store, retry_at)
    store.settle_attempt(second, Attempt("refused", retry_at), retry_at)
    [third] = claim(store, retry_at)

    assert [one.message_id for one in (first, second, third)] == [
        "msg_80",
        "msg_100",
        "msg_80",
    ]
    assert third.attempts == 1
    assert third.webhook.failures == 2
    assert third.webhook.last_error == "refused"
    assert third.webhook.failing_since == now


def test_a_disabled_webhook_gets_nothing_until_it_is_enabled(store: Store) -> None:
    """The messages that wait for it are sent then, and later ones are not stored."""
    store.put_budget(budget())
    store.add_webhook(webhook())
    store.pass_thresholds([passed(), passed(100)])
    [first] = claim(store)
    store.settle_attempt(
        first, Attempt("410", START, gives_up=True, disables=True), START + HOUR
    )

    assert claim(store, START + 9 * HOUR) == []
    assert store.pass_thresholds([passed(200)]) == 1
    with store.reading() as reader:
        assert reader.waiting_messages("org_a") == {"w1": 1}
        [found] = reader.webhooks("org_a")
    assert found.disabled_at == START + HOUR

    store.enable_webhook("org_a", "w1", START + 2 * HOUR)
    [second] = claim(store, START + 2 * HOUR)
    assert second.message_id == "msg_100"
    assert second.webhook == msgspec.structs.replace(
        webhook(), delivered_at=START + 2 * HOUR, attempt_at=START + 2 * HOUR
    )


def test_a_rotated_secret_keeps_all_that_have_not_ended(lane: StoreLane) -> None:
    """A receiver may have any of them, because a rotated secret can get lost."""
    store = lane.open()
    store.add_webhook(webhook())
    assert not store.rotate_secret("org_b", "w1", b"x", START, START + HOUR)
    assert store.rotate_secret("org_a", "w1", b"second\0", START, START + HOUR)
    assert store.rotate_secret("org_a", "w1", b"third", START + 1, START + HOUR + 1)
    store = lane.open()
    with store.reading() as reader:
        [found] = reader.webhooks("org_a")
    first = OldSecret(b"\0secret\xff", START + HOUR)
    second = OldSecret(b"second\0", START + HOUR + 1)
    assert (found.secret, found.old_secrets) == (b"third", (second, first))

    assert store.rotate_secret("org_a", "w1", b"last", START + HOUR, START + 2 * HOUR)
    with store.reading() as reader:
        [found] = reader.webhooks("org_a")
    assert found.old_secrets == (OldSecret(b"third", START + 2 * HOUR), second)


def test_a_deleted_webhook_has_no_messages(store: Store) -> None:
    """An attempt that ends afterwards changes nothing."""
    store.put_budget(budget())
    store.add_webhook(webhook())
    store.pass_thresholds([passed()])
    [first] = claim(store)

    assert store.delete_webhook("org_a", "w1")
    assert not store.delete_webhook("org_a", "w1")
    store.settle_attempt(first, Attempt(), START + HOUR)
    with store.reading() as reader:
        assert reader.webhook("org_a", "w1") is None
        assert reader.waiting_messages("org_a") == {}


def test_an_erased_customer_has_no_budget(store: Store) -> None:
    """Neither as customer, nor as the value of a dimension, nor in a message."""
    store.add_webhook(webhook())
    for one in (
        budget("b1"),
        budget("b2", customer=None, dimensions={"user": "cus_1"}),
        budget("b3", customer="cus_2"),
    ):
        store.put_budget(one)
    store.pass_thresholds([passed()])
    store.begin_erasure("org_a", "cus_1", "erased_1", START)

    with store.reading() as reader:
        assert [one.id for one in reader.budgets_of("org_a", None)] == ["b3"]
        assert reader.passed_thresholds("org_a", ["b1"], START) == []
        assert reader.waiting_messages("org_a") == {}
