"""From `track_cost` to the total: what was tracked is what is summed, to the digit.

The client ships to the reference server over loopback, and the totals are read three
ways: from the bytes of the summary, from its exact text, and through the unmodified
Paygentic SDK, which reads doubles.
"""

from __future__ import annotations

import random
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Context, Decimal, Inexact
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, Literal

import pytest
from paygentic_sdk import Paygentic

from outlay import Client
from tests.contract.reference import (
    EVENT_TYPE,
    Tenant,
    Turnstile,
    calling,
    create_cost,
    serving,
    summary,
    tenant_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import httpx
    from paygentic_sdk import models

    from outlay.server import BackgroundServer

FROM: Final = datetime(2000, 1, 1, tzinfo=UTC)
TO: Final = datetime(2100, 1, 1, tzinfo=UTC)

# Python's usual 28 digits are too few to check a sum of thirty; an inexact sum raises.
EXACT: Final = Context(prec=400, traps=[Inexact])

Mode = Literal["never", "auto", "always"]
every_mode = pytest.mark.parametrize("mode", ["never", "auto", "always"])


def exact_sum(amounts: Iterable[Decimal]) -> Decimal:
    """Return the sum of ``amounts``, with all of its digits."""
    total = Decimal(0)
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total


@dataclass
class Ledger:
    """An organization on the server, with a cost.

    Attributes:
        tenant: the organization.
        http: reads it.
        cost_id: sums ``data.amount``.
        turnstile: stands before the server.
        journal_dir: of its clients.
    """

    tenant: Tenant
    http: httpx.Client
    cost_id: str
    turnstile: Turnstile
    journal_dir: Path

    @contextmanager
    def tracking(
        self,
        mode: Mode = "auto",
        **settings: Any,  # noqa: ANN401 - any setting
    ) -> Iterator[Client]:
        """Run a client; when the block ends, everything is delivered."""
        client = Client(
            base_url=self.tenant.server.url,
            api_key=self.tenant.api_key,
            source="https://api.myapp.com",
            journal_dir=self.journal_dir,
            linger=0.0,
            retry_initial=0.01,
            batching=mode,
            **settings,
        )
        try:
            yield client
        finally:
            report = client.close(timeout=20)
        assert report.complete
        assert report.stats.delivered == report.stats.tracked

    def summary(self, **query: str) -> dict[str, Any]:
        """Return what the cost came to, its numbers exact."""
        return summary(self.http, self.cost_id, **query)

    def total(self, **query: str) -> Decimal:
        """Return the same in one number, having checked that both forms agree."""
        answer = self.summary(**query)
        total = Decimal(answer["totalCostExact"])
        assert answer["totalCost"] == total
        assert answer["excluded"] == 0
        return total

    def by(self, dimension: str) -> dict[str, Decimal]:
        """Return the cost of each value of ``dimension``."""
        groups = self.summary(groupBy=dimension)["groups"]
        return {
            group["dimensions"][dimension]: Decimal(group["costExact"])
            for group in groups
        }

    def as_the_sdk_reads(self, **query: Any) -> models.CostUsageResponse:  # noqa: ANN401
        """Return the summary that the Paygentic SDK gets."""
        with Paygentic(self.tenant.api_key, server_url=self.tenant.server.url) as sdk:
            read: models.CostUsageResponse = sdk.costs.get_cost_summary(
                id=self.cost_id, from_=FROM, to=TO, **query
            )
            return read


@pytest.fixture(scope="module")
def turnstile() -> Turnstile:
    """Return what stands before the server."""
    return Turnstile()


@pytest.fixture(scope="module")
def server(turnstile: Turnstile) -> Iterator[BackgroundServer]:
    """Return a server for all tests of this module."""
    with serving(turnstile) as server:
        yield server


@pytest.fixture
def ledger(
    server: BackgroundServer, turnstile: Turnstile, tmp_path: Path
) -> Iterator[Ledger]:
    """Return a ledger of the test's own."""
    tenant = tenant_of(server)
    with calling(tenant) as http:
        yield Ledger(tenant, http, create_cost(http), turnstile, tmp_path)


HARD: Final = {
    "dimes": [Decimal("0.10")] * 10,
    "thirty-digits": [Decimal("123456789012345678901234567.891"), Decimal("0.109")],
    "nothing-much": [Decimal("1e-9")] * 100,
    "smallest": [Decimal("1e-40"), Decimal("2e-40")],
    "largest": [Decimal("9.9e40"), Decimal("1e-9")],
    "all-magnitudes": [Decimal(1).scaleb(exponent) for exponent in range(-40, 41)],
    "beyond-64-bits": [Decimal(2**63), Decimal(2**63 - 1), Decimal(2**64)],
    "zero": [Decimal("0.00"), Decimal(0)],
    "trailing-zeros": [Decimal("1.50000"), Decimal("1E+3"), Decimal("2.50")],
}


@pytest.mark.parametrize("mode", ["never", "always"])
@pytest.mark.parametrize("amounts", HARD.values(), ids=HARD)
def test_hard_amounts_add_up(
    ledger: Ledger, mode: Mode, amounts: list[Decimal]
) -> None:
    """Neither a float nor a fixed scale lies anywhere on the way."""
    with ledger.tracking(mode) as client:
        for number, amount in enumerate(amounts):
            client.track_cost(
                EVENT_TYPE, amount, customer_id="cus_1", operation_id=number
            )

    expected = exact_sum(amounts)
    assert ledger.total() == expected
    assert ledger.as_the_sdk_reads().total_cost == float(expected)


def test_floats_count_as_they_were_typed(ledger: Ledger) -> None:
    """0.1 means 0.1, not the binary fraction next to it."""
    with ledger.tracking() as client:
        for number in range(10):
            client.track_cost(EVENT_TYPE, 0.1, customer_id="cus_1", operation_id=number)
        client.track_cost(EVENT_TYPE, 1e-9, customer_id="cus_1", operation_id="tiny")

    assert ledger.total() == Decimal("1.000000001")


def test_credits_are_taken_off(ledger: Ledger) -> None:
    """A correction is a new event: the contract has no other way."""
    with ledger.tracking(allow_credits=True) as client:
        for number, amount in enumerate(["10.00", "-2.50", "-7.499999999"]):
            client.track_cost(
                EVENT_TYPE, amount, customer_id="cus_1", operation_id=number
            )

    assert ledger.total() == Decimal("0.000000001")


@every_mode
def test_many_events_of_many_threads_add_up_for_each_customer(
    ledger: Ledger, mode: Mode
) -> None:
    """In total, by customer and by dimension; also as the SDK reads them."""
    rng = random.Random(20260105)  # noqa: S311 - amounts, not secrets
    providers = ["anthropic", "openai", "clearbit"]
    events = [
        (
            f"cus_{rng.randrange(40)}",
            rng.choice(providers),
            Decimal(rng.randrange(10**9)).scaleb(-rng.randrange(3, 12)),
        )
        for _ in range(400)
    ]

    with ledger.tracking(mode) as client:

        def work(share: int) -> None:
            for number in range(share, len(events), 4):
                customer, provider, amount = events[number]
                client.track_cost(
                    EVENT_TYPE,
                    amount,
                    customer_id=customer,
                    operation_id=number,
                    provider=provider,
                )

        threads = [Thread(target=work, args=(share,)) for share in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def expected(place: int) -> dict[str, Decimal]:
        return {
            name: exact_sum(one[2] for one in events if one[place] == name)
            for name in {str(one[place]) for one in events}
        }

    assert ledger.total() == exact_sum(one[2] for one in events)
    assert ledger.by("subject") == expected(0)
    assert ledger.by("provider") == expected(1)
    assert {
        one.dimensions["subject"]: one.cost
        for one in ledger.as_the_sdk_reads(group_by="subject").groups or ()
    } == {name: float(amount) for name, amount in expected(0).items()}


def test_as_many_dimensions_as_a_metric_may_have(ledger: Ledger) -> None:
    """One of them, or all at once, break the same total down."""
    names = [f"d{number}" for number in range(50)]
    wide = create_cost(
        ledger.http, groupBy={name: f"$.labels.{name}" for name in names}
    )
    ledger.cost_id = wide

    with ledger.tracking() as client:
        for number in range(3):
            client.track_cost(
                EVENT_TYPE,
                "0.000000001",
                customer_id="cus_1",
                operation_id=number,
                data={"labels": {name: f"{name}-{number}" for name in names}},
            )

    assert ledger.total() == Decimal("3e-9")
    for name in ("d0", "d49"):
        assert ledger.by(name) == {f"{name}-{n}": Decimal("1e-9") for n in range(3)}
    groups = ledger.summary(groupBy=",".join(names))["groups"]
    assert [len(group["dimensions"]) for group in groups] == [50] * 3
    filtered = ledger.as_the_sdk_reads(filter_group_by='{"d49":"d49-1"}')
    assert filtered.total_cost == 1e-9


def test_a_thousand_values_of_a_dimension(ledger: Ledger) -> None:
    """Each is its own group, and they come to the total."""
    with ledger.tracking() as client:
        for number in range(1000):
            client.track_cost(
                EVENT_TYPE,
                Decimal("0.001") * number,
                customer_id=f"cus_{number}",
                operation_id=number,
                provider=f"provider-{number}",
            )

    by_provider = ledger.by("provider")
    assert len(by_provider) == 1000
    assert by_provider["provider-999"] == Decimal("0.999")
    assert exact_sum(by_provider.values()) == ledger.total() == Decimal("499.5")


CUSTOMERS: Final = [
    "Ünïcödé GmbH & Co. KG",
    "株式会社 顧客",
    "🧾🚀",
    "e\u0301",  # two code points …
    "\u00e9",  # … and one that looks the same: another customer
    'quoted "name" \\ back',
    "a,b;c=d&e f+g%20h/i?j#k",
    "<script>alert(1)</script>",
    "عميل",
    " padded ",
    "0",
    "x" * 255,
]


@every_mode
def test_customers_of_every_script_have_their_own_totals(
    ledger: Ledger, mode: Mode
) -> None:
    """Names are compared as they were given: never folded, trimmed or normalised."""
    amounts = {
        customer: Decimal(2) ** place for place, customer in enumerate(CUSTOMERS)
    }
    with ledger.tracking(mode) as client:
        for customer, amount in amounts.items():
            client.track_cost(
                EVENT_TYPE,
                amount,
                customer_id=customer,
                operation_id="same-for-all",
                provider=customer,
            )

    assert ledger.by("subject") == amounts
    assert ledger.by("provider") == amounts
    assert {name: ledger.total(subject=name) for name in amounts} == amounts
    groups = ledger.as_the_sdk_reads(group_by="subject").groups or ()
    assert {one.dimensions["subject"]: one.cost for one in groups} == amounts


@every_mode
def test_an_outage_changes_no_total(ledger: Ledger, mode: Mode) -> None:
    """Refused before or lost after they were counted: each event counts once."""
    ledger.turnstile.refuse(503, 429, 500)
    ledger.turnstile.lose(502, 504, 500)

    with ledger.tracking(mode) as client:
        for number in range(30):
            client.track_cost(
                EVENT_TYPE, "0.01", customer_id="cus_1", operation_id=number
            )
        assert client.flush(timeout=20).complete
        stats = client.stats()

    assert ledger.total() == Decimal("0.30")
    assert ledger.summary()["events"] == 30
    assert stats.duplicates >= 1
    assert stats.retried >= 2


def test_an_operation_that_is_tracked_again_counts_once(ledger: Ledger) -> None:
    """By another client, in another run: the key says it is the same."""
    for _ in range(3):
        with ledger.tracking() as client:
            for line in ("input", "output"):
                client.track_cost(
                    EVENT_TYPE,
                    "0.25",
                    customer_id="cus_1",
                    operation_id="job-1",
                    line=line,
                )

    assert ledger.total() == Decimal("0.50")
    assert ledger.summary()["events"] == 2
