"""The unmodified Python SDK of Paygentic against the reference server, on loopback.

"Unmodified" is the claim: nothing in the SDK is patched, and it uses its own HTTP
client, retries and models. Whatever these tests do, an application that was written
for the real service can do as well.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest
from paygentic_sdk import Paygentic, errors
from paygentic_sdk.utils import BackoffStrategy, RetryConfig

from tests.contract.reference import (
    EVENT_TYPE,
    Tenant,
    Turnstile,
    calling,
    serving,
    summary,
    tenant_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from paygentic_sdk import models

    from outlay.server import BackgroundServer

FROM = datetime(2026, 1, 1, tzinfo=UTC)
TO = datetime(2026, 2, 1, tzinfo=UTC)
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


@dataclass
class Shop:
    """An organization with one cost, and the SDK that made it."""

    tenant: Tenant
    sdk: Paygentic
    cost: models.Cost

    @property
    def organization(self) -> str:
        """Whose cost it is."""
        return self.tenant.organization

    def ingest(self, **overrides: Any) -> models.EventResponse:  # noqa: ANN401 - JSON
        """Ingest one event through the SDK."""
        return self.sdk.events.ingest(request=event(**overrides))

    def spent(self, **query: Any) -> models.CostUsageResponse:  # noqa: ANN401
        """Return what the cost came to in January, as the SDK parses it."""
        return self.sdk.costs.get_cost_summary(
            id=self.cost.id, from_=FROM, to=TO, **query
        )

    def exactly_spent(self) -> dict[str, Any]:
        """Return the same for all time, from the bytes on the wire."""
        with calling(self.tenant) as http:
            return summary(http, self.cost.id)


def event(**overrides: Any) -> Any:  # noqa: ANN401 - the SDK's typed dict, or not
    """Return an event as SDK users write it; None leaves a field out."""
    fields = {
        "type": EVENT_TYPE,
        "source": "https://api.myapp.com",
        "subject": "cus_1",
        "timestamp": NOON,
        "data": {"amount": 1, "provider": "anthropic", "region": "us"},
        **overrides,
    }
    return {name: value for name, value in fields.items() if value is not None}


def sdk_of(server: BackgroundServer, api_key: str | None) -> Paygentic:
    """Return the SDK as its README sets it up."""
    return Paygentic(bearer_auth=api_key, server_url=server.url)


def create_cost(
    sdk: Paygentic,
    **overrides: Any,  # noqa: ANN401 - any argument
) -> models.Cost:
    """Create a cost through the SDK."""
    arguments = {
        "type_": "metered",
        "name": "AI",
        "unit_cost": 1,
        "currency": "USD",
        "product_id": "prod_p1",
        "aggregation": "SUM",
        "event_type": EVENT_TYPE,
        "unit": "usd",
        "value_property": "$.amount",
        "group_by": {"provider": "$.provider", "region": "$.region"},
        **overrides,
    }
    return sdk.costs.create_cost(**arguments)


@contextmanager
def opened(server: BackgroundServer) -> Iterator[Shop]:
    """Open a shop on ``server``."""
    tenant = tenant_of(server)
    with sdk_of(server, tenant.api_key) as sdk:
        yield Shop(tenant, sdk, create_cost(sdk))


@pytest.fixture(scope="module")
def server() -> Iterator[BackgroundServer]:
    """Return a server for all tests of this module."""
    with serving() as server:
        yield server


@pytest.fixture
def shop(server: BackgroundServer) -> Iterator[Shop]:
    """Return a shop of the test's own."""
    with opened(server) as shop:
        yield shop


def test_the_sdk_is_the_release_that_the_contract_was_read_from() -> None:
    """Another release may say something else; then the contract is read again."""
    assert version("paygentic-sdk") == "0.6.3"


# -- products and costs


def test_a_product_is_created_read_and_listed(shop: Shop) -> None:
    """A cost needs a product, so the SDK's way to a first cost starts here."""
    product = shop.sdk.products.create(
        name="Summaries",
        description="Of documents",
        merchant_id=shop.organization,
    )

    assert product.id.startswith("prod_")
    assert (product.name, product.merchant_id) == (
        "Summaries",
        shop.organization,
    )
    assert shop.sdk.products.get(id=product.id) == product
    listed = shop.sdk.products.list(request={"merchant_id": shop.organization})
    # The shop's cost has registered a product as well.
    assert [one.id for one in listed.data or ()] == ["prod_p1", product.id]
    assert listed.pagination
    assert listed.pagination.total == 2


def test_a_cost_is_created_read_and_listed(shop: Shop) -> None:
    """The price goes out as a number, 1e-06 on the wire, and comes back as text."""
    cost = create_cost(shop.sdk, name="Tokens", unit_cost=0.000001)

    assert cost.id.startswith("cst_")
    assert cost.unit_cost == "0.000001"
    assert (cost.type, cost.name, cost.currency) == ("metered", "Tokens", "USD")
    assert (cost.product_id, cost.merchant_id) == ("prod_p1", shop.organization)
    assert (cost.event_type, cost.value_property) == (EVENT_TYPE, "$.amount")
    assert (cost.aggregation, cost.unit) == ("SUM", "usd")
    assert cost.group_by == {"provider": "$.provider", "region": "$.region"}
    assert cost.created_at.tzinfo is not None
    assert shop.sdk.costs.get_cost(id=cost.id) == cost
    assert shop.sdk.costs.list_costs().data == [shop.cost, cost]


def test_costs_are_listed_by_page_and_product(shop: Shop) -> None:
    """The SDK always sends limit and offset."""
    others = [create_cost(shop.sdk, product_id=f"prod_{n % 2}") for n in range(4)]

    page = shop.sdk.costs.list_costs(request={"limit": 2, "offset": 2})
    of_one = shop.sdk.costs.list_costs(request={"product_id": "prod_1"})

    assert page.data == others[1:3]
    assert (page.pagination.limit, page.pagination.offset) == (2, 2)
    assert page.pagination.total == 5
    assert of_one.data == others[1::2]


def test_an_update_clears_what_is_none_and_keeps_what_is_left_out(shop: Shop) -> None:
    """The SDK sends an explicit None as null, and nothing for what is not given."""
    changed = shop.sdk.costs.update_cost(
        id=shop.cost.id, name="New", unit_cost=2, group_by=None
    )

    assert (changed.name, changed.unit_cost, changed.unit) == ("New", "2", "usd")
    assert not changed.group_by
    assert changed.updated_at >= shop.cost.updated_at
    assert shop.sdk.costs.get_cost(id=shop.cost.id) == changed


def test_a_deleted_cost_is_not_found_and_matches_no_event(shop: Shop) -> None:
    """A 204 without a body, or the SDK raises."""
    shop.sdk.costs.delete_cost(id=shop.cost.id)

    with pytest.raises(errors.Error) as gone:
        shop.sdk.costs.get_cost(id=shop.cost.id)
    with pytest.raises(errors.Error) as unmatched:
        shop.ingest()
    assert gone.value.status_code == 404
    assert unmatched.value.data.error == "invalid_event_type"
    assert shop.sdk.costs.list_costs().data == []


# -- events


def test_a_minimal_event_gets_an_id_a_key_and_a_time(shop: Shop) -> None:
    """Type, source, data and a customer are all that the contract asks for."""
    before = datetime.now(UTC).replace(microsecond=0)

    answer = shop.ingest(timestamp=None)

    assert answer.object == "event"
    assert answer.id
    assert answer.idempotency_key
    assert (answer.type, answer.source) == (EVENT_TYPE, "https://api.myapp.com")
    assert (answer.subject, answer.namespace) == ("cus_1", shop.organization)
    assert answer.external_subject is None
    assert answer.timestamp is not None
    assert before <= answer.timestamp <= datetime.now(UTC)
    assert shop.exactly_spent()["totalCostExact"] == "1"


def test_a_full_event_comes_back_field_by_field(shop: Shop) -> None:
    """Everything that the SDK can send, microseconds included."""
    at = NOON.replace(microsecond=123_456)
    fields = {
        "external_subject": "acme-1",
        "namespace": shop.organization,
        "timestamp": at,
        "idempotency_key": "job-1",
        "external_id": "ex_1",
    }

    answer = shop.ingest(**fields)

    assert {name: getattr(answer, name) for name in fields} == fields
    assert answer.subject == "cus_1"
    assert shop.spent(subject="cus_1").total_cost == 1


def test_an_event_for_a_customer_not_known_yet_counts(shop: Shop) -> None:
    """The answer has no subject then: absent, because null is an error in Node."""
    answer = shop.ingest(subject=None, external_subject="acme-1")

    assert answer.subject is None
    assert answer.external_subject == "acme-1"
    assert shop.spent().total_cost == 1
    assert shop.spent(subject="cus_1").total_cost == 0


def test_a_duplicate_is_answered_like_the_first_and_counts_once(shop: Shop) -> None:
    """The client that retries cannot know that the first attempt arrived."""
    first = shop.ingest(idempotency_key="job-1")

    again = shop.ingest(idempotency_key="job-1")
    other = shop.ingest(idempotency_key="job-2")

    assert again == first
    assert other.id != first.id
    assert shop.exactly_spent()["totalCostExact"] == "2"


def test_events_without_a_key_all_count(shop: Shop) -> None:
    """The SDK adds no key by itself."""
    ids = {shop.ingest().id for _ in range(3)}

    assert len(ids) == 3
    assert shop.spent().total_cost == 3


@pytest.mark.parametrize(
    ("amounts", "total"),
    [
        pytest.param([Decimal("0.10"), Decimal("0.20")], "0.3", id="decimals"),
        pytest.param([0.1, 0.2], "0.3", id="floats"),
        pytest.param(["0.1", 1e-09], "0.100000001", id="text-and-exponent"),
        pytest.param(
            [Decimal("123456789012345678901234567.891"), Decimal("1e-9")],
            "123456789012345678901234567.891000001",
            id="thirty-digits",
        ),
        pytest.param([2**70, 1], "1180591620717411303425", id="beyond-64-bits"),
    ],
)
def test_amounts_add_up_to_the_last_digit(
    shop: Shop, amounts: list[object], total: str
) -> None:
    """The SDK sends a Decimal as a JSON string, and everything else as a number."""
    for amount in amounts:
        shop.ingest(data={"amount": amount})

    exactly = shop.exactly_spent()

    assert exactly["totalCostExact"] == total
    assert exactly["totalCost"] == Decimal(total)
    assert shop.spent().total_cost == float(total)


def test_what_is_no_number_is_kept_and_does_not_count(shop: Shop) -> None:
    """The SDK sends NaN as null."""
    shop.ingest(data={"amount": float("nan")})
    shop.ingest(data={})
    shop.ingest()

    exactly = shop.exactly_spent()

    assert (exactly["events"], exactly["excluded"]) == (3, 2)
    assert shop.spent().total_cost == 1


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        pytest.param(datetime(2026, 1, 5, 12), NOON, id="naive"),  # noqa: DTZ001
        pytest.param(
            datetime(2026, 1, 5, 14, tzinfo=timezone(timedelta(hours=2))),
            NOON,
            id="another-zone",
        ),
        pytest.param(
            datetime(1969, 7, 20, 20, 17, tzinfo=UTC),
            datetime(1969, 7, 20, 20, 17, tzinfo=UTC),
            id="before-1970",
        ),
    ],
)
def test_times_are_kept_and_answered_in_utc(
    shop: Shop, given: datetime, meant: datetime
) -> None:
    """The SDK sends a naive time as it is; it is read as UTC."""
    answer = shop.ingest(timestamp=given)

    assert answer.timestamp == meant
    assert answer.timestamp.utcoffset() == timedelta(0)
    found = shop.sdk.costs.get_cost_summary(
        id=shop.cost.id, from_=meant, to=meant + timedelta(microseconds=1)
    )
    assert found.total_cost == 1


def test_customers_of_every_script_keep_their_names(shop: Shop) -> None:
    """The SDK escapes all but ASCII in bodies, and encodes forms in queries."""
    customers = [
        "Ünïcödé 顧客 🧾",
        'a "quoted" & <b>',
        "100 %+1",
        "cus 1&x=2",
        "e\u0301",
    ]
    for number, customer in enumerate(customers, 1):
        answer = shop.ingest(subject=customer, data={"amount": number})
        assert answer.subject == customer

    totals = [shop.spent(subject=customer).total_cost for customer in customers]

    assert totals == [1, 2, 3, 4, 5]
    groups = shop.spent(group_by="subject").groups
    assert groups
    assert {one.dimensions["subject"] for one in groups} == set(customers)


# -- summaries


@pytest.fixture(scope="module")
def spent(server: BackgroundServer) -> Iterator[Shop]:
    """Return a shop that spent something; its tests only read."""
    with opened(server) as shop:
        for day, amount, provider, region, customer in (
            (5, "0.10", "anthropic", "us", "cus_1"),
            (5, "0.20", "openai", "us", "cus_2"),
            (6, "0.40", "anthropic", "eu", "cus_1"),
            (31, "0.80", "anthropic", "us", "cus_2"),
        ):
            shop.ingest(
                subject=customer,
                timestamp=datetime(2026, 1, day, 12, 30, 15, tzinfo=UTC),
                data={"amount": amount, "provider": provider, "region": region},
            )
        shop.sdk.costs.update_cost(id=shop.cost.id, unit_cost=2.5)
        yield shop


def test_a_plain_summary_has_totals_and_no_breakdown(spent: Shop) -> None:
    """Quantity is what was measured; the cost is that times the price."""
    answer = spent.spent()

    assert (answer.object, answer.id, answer.name) == ("cost", spent.cost.id, "AI")
    assert (answer.type, answer.currency, answer.unit) == ("metered", "USD", "usd")
    assert answer.event_type == EVENT_TYPE
    assert (answer.total_quantity, answer.total_cost) == (1.5, 3.75)
    assert answer.groups is None
    assert answer.time_series is None


def test_a_grouped_summary_splits_the_total(spent: Shop) -> None:
    """By one dimension, by several, and by the customer."""

    def groups(names: str) -> dict[tuple[str, ...], tuple[float, float]]:
        answer = spent.spent(group_by=names)
        return {
            tuple(one.dimensions[name] for name in names.split(",")): (
                one.quantity,
                one.cost,
            )
            for one in answer.groups or ()
        }

    assert groups("provider") == {("anthropic",): (1.3, 3.25), ("openai",): (0.2, 0.5)}
    assert groups("provider,region") == {
        ("anthropic", "us"): (0.9, 2.25),
        ("anthropic", "eu"): (0.4, 1.0),
        ("openai", "us"): (0.2, 0.5),
    }
    assert groups("subject") == {("cus_1",): (0.5, 1.25), ("cus_2",): (1.0, 2.5)}


@pytest.mark.parametrize(
    ("window", "starts", "length"),
    [
        ("DAY", [datetime(2026, 1, day, tzinfo=UTC) for day in (5, 6, 31)], 24 * 60),
        ("HOUR", [datetime(2026, 1, day, 12, tzinfo=UTC) for day in (5, 6, 31)], 60),
        (
            "MINUTE",
            [datetime(2026, 1, day, 12, 30, tzinfo=UTC) for day in (5, 6, 31)],
            1,
        ),
    ],
)
def test_a_windowed_summary_has_a_point_for_each_window_that_has_events(
    spent: Shop, window: models.Window, starts: list[datetime], length: int
) -> None:
    """Windows are aligned to UTC; empty ones are left out."""
    points = spent.spent(window=window).time_series or []

    assert [one.window_start for one in points] == starts
    assert {one.window_end - one.window_start for one in points} == {
        timedelta(minutes=length)
    }
    assert [one.cost for one in points] == [0.75, 1.0, 2.0]
    assert [one.quantity for one in points] == [0.3, 0.4, 0.8]


def test_groups_and_windows_break_the_same_total_down_twice(spent: Shop) -> None:
    """Points carry no dimensions, so the two do not multiply."""
    answer = spent.spent(group_by="region", window="DAY")

    assert len(answer.groups or ()) == 2
    assert len(answer.time_series or ()) == 3
    assert sum(one.cost for one in answer.groups or ()) == 3.75
    assert sum(one.cost for one in answer.time_series or ()) == 3.75


@pytest.mark.parametrize(
    ("query", "total"),
    [
        pytest.param({"subject": "cus_2"}, 2.5, id="customer"),
        pytest.param(
            {"filter_group_by": '{"provider":"anthropic"}'}, 3.25, id="dimension"
        ),
        pytest.param(
            {"filter_group_by": '{"provider":"anthropic","region":"us"}'},
            2.25,
            id="two-dimensions",
        ),
        pytest.param(
            {"filter_group_by": '{"region":"us"}', "subject": "cus_1"},
            0.25,
            id="dimension-and-customer",
        ),
        pytest.param({"subject": "nobody"}, 0, id="nobody"),
    ],
)
def test_a_filtered_summary_counts_what_passes(
    spent: Shop, query: dict[str, str], total: float
) -> None:
    """Filters narrow totals and breakdowns alike."""
    answer = spent.spent(**query, group_by="region")

    assert answer.total_cost == total
    assert sum(one.cost for one in answer.groups or ()) == total


def test_a_period_holds_its_start_and_not_its_end(spent: Shop) -> None:
    """Half-open, so that adjoining periods count nothing twice."""
    at = datetime(2026, 1, 6, 12, 30, 15, tzinfo=UTC)

    def total(start: datetime, end: datetime) -> float | None:
        return spent.sdk.costs.get_cost_summary(
            id=spent.cost.id, from_=start, to=end
        ).total_cost

    assert [total(FROM, at), total(at, TO), total(FROM, TO)] == [0.75, 3.0, 3.75]


def test_queries_may_have_any_offset_or_none(spent: Shop) -> None:
    """A '+' that the SDK sends must not arrive as a space."""
    east = timezone(timedelta(hours=2))

    answer = spent.sdk.costs.get_cost_summary(
        id=spent.cost.id,
        from_=datetime(2026, 1, 5, 14, 30, 15, tzinfo=east),
        to=datetime(2026, 1, 6),  # noqa: DTZ001 - some users pass these
    )

    assert answer.total_cost == 0.75


@pytest.mark.parametrize(
    ("aggregation", "quantity"),
    [
        ("SUM", 7),
        ("COUNT", 4),
        ("AVG", 1.75),
        ("MIN", 1),
        ("MAX", 3),
        ("UNIQUE_COUNT", 3),
        ("LATEST", 2),
    ],
)
def test_every_aggregation_of_the_contract_computes(
    shop: Shop, aggregation: str, quantity: float
) -> None:
    """Also over events that came before the cost did."""
    for hour, amount in enumerate((1, 3, 1, 2)):
        shop.ingest(data={"amount": amount}, timestamp=NOON + timedelta(hours=hour))

    cost = create_cost(shop.sdk, aggregation=aggregation, unit_cost=10)
    answer = shop.sdk.costs.get_cost_summary(id=cost.id, from_=FROM, to=TO)

    assert (answer.total_quantity, answer.total_cost) == (quantity, 10 * quantity)


@pytest.mark.parametrize("aggregation", ["AVG", "MIN", "MAX", "LATEST"])
def test_an_extreme_of_nothing_is_none(shop: Shop, aggregation: str) -> None:
    """The key is required and may be null, or the SDK raises."""
    cost = create_cost(shop.sdk, aggregation=aggregation)

    answer = shop.sdk.costs.get_cost_summary(
        id=cost.id, from_=FROM, to=TO, group_by="provider", window="DAY"
    )

    assert answer.total_cost is None
    assert answer.total_quantity is None
    assert (answer.groups, answer.time_series) == ([], [])


# -- errors

CALLS: Mapping[str, Callable[[Paygentic], object]] = {
    "ingest": lambda sdk: sdk.events.ingest(request=event()),
    "create": create_cost,
    "list": lambda sdk: sdk.costs.list_costs(),
    "get": lambda sdk: sdk.costs.get_cost(id="cst_1"),
    "update": lambda sdk: sdk.costs.update_cost(id="cst_1", name="x"),
    "delete": lambda sdk: sdk.costs.delete_cost(id="cst_1"),
    "summary": lambda sdk: sdk.costs.get_cost_summary(id="cst_1", from_=FROM, to=TO),
}

# The specification lists 401 for these only; elsewhere the SDK has no type for it.
LISTS_401 = {"ingest", "create", "list"}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("api_key", [None, "sk_test_wrong"], ids=["no-key", "wrong"])
def test_a_call_without_a_known_key_is_a_401(
    server: BackgroundServer, call: str, api_key: str | None
) -> None:
    """Typed where the specification lists it."""
    kind = errors.Error if call in LISTS_401 else errors.PaygenticDefaultError

    with sdk_of(server, api_key) as sdk, pytest.raises(kind) as refused:
        CALLS[call](sdk)

    assert refused.value.status_code == 401
    assert "unauthorized" in refused.value.body


@pytest.mark.parametrize(
    ("call", "permission"),
    [
        ("ingest", "events:create"),
        ("create", "costs:write"),
        ("list", "costs:read"),
        ("get", "costs:read"),
        ("update", "costs:write"),
        ("delete", "costs:write"),
        ("summary", "costs:read"),
    ],
)
def test_a_key_without_the_permission_is_told_which_it_needs(
    server: BackgroundServer, call: str, permission: str
) -> None:
    """The SDK has fields for the reason and the permissions."""
    api_key = server.create_key("reader of nothing", ["events:read"])

    with sdk_of(server, api_key) as sdk, pytest.raises(errors.Error) as refused:
        CALLS[call](sdk)

    assert refused.value.status_code == 403
    assert refused.value.data.error == "forbidden"
    assert refused.value.data.reason == "no_permission"
    assert refused.value.data.required_permissions == [permission]


@pytest.mark.parametrize("call", ["get", "update", "delete", "summary"])
def test_a_cost_that_does_not_exist_is_a_404(spent: Shop, call: str) -> None:
    """As the SDK's own error, with a message that names the cost."""
    with pytest.raises(errors.Error, match="cst_1") as missing:
        CALLS[call](spent.sdk)

    assert missing.value.status_code == 404
    assert missing.value.data.error == "not_found"


def test_another_organization_is_a_403_that_says_so(spent: Shop, shop: Shop) -> None:
    """No organization reads or writes what belongs to another."""
    with pytest.raises(errors.Error) as refused:
        spent.ingest(namespace=shop.organization)
    with pytest.raises(errors.Error) as hidden:
        spent.sdk.costs.get_cost(id=shop.cost.id)

    assert refused.value.status_code == 403
    assert refused.value.data.reason == "not_member"
    assert hidden.value.status_code == 404


def test_an_organization_that_does_not_exist_is_a_404(spent: Shop) -> None:
    """The status was added to the SDK in 0.6.2."""
    with pytest.raises(errors.Error) as missing:
        spent.ingest(namespace="org_nowhere")

    assert missing.value.status_code == 404


@pytest.mark.parametrize(
    ("overrides", "field"),
    [
        pytest.param({"value_property": "amount"}, "valueProperty", id="path"),
        pytest.param({"group_by": {"p": "$.["}}, "groupBy.p", id="dimension"),
        pytest.param({"unit_cost": -1}, "unitCost", id="price"),
        pytest.param({"product_id": "product"}, "productId", id="product"),
        pytest.param({"currency": "dollars"}, "currency", id="currency"),
    ],
)
def test_a_bad_cost_is_a_400_that_lists_the_fields(
    spent: Shop, overrides: dict[str, object], field: str
) -> None:
    """The SDK tries two shapes for a 400; this must parse as the one with a list."""
    with pytest.raises(errors.BadRequest) as refused:
        create_cost(spent.sdk, **overrides)

    data = refused.value.data
    assert isinstance(data, errors.ValidationErrorData)
    assert data.error == "validation_error"
    assert [one.field for one in data.errors] == [field]
    assert field in data.message


@pytest.mark.parametrize(
    ("overrides", "field"),
    [
        pytest.param({"type": "a\nb"}, "type", id="control-character"),
        pytest.param({"subject": ""}, "subject", id="nobody"),
        pytest.param({"idempotency_key": "k" * 256}, "idempotencyKey", id="long-key"),
        pytest.param({"external_id": "a b"}, "externalId", id="external-id"),
    ],
)
def test_a_bad_event_is_a_400_that_lists_the_fields(
    spent: Shop, overrides: dict[str, object], field: str
) -> None:
    """The SDK checks no pattern and no length itself."""
    with pytest.raises(errors.BadRequest) as refused:
        spent.ingest(**overrides)

    data = refused.value.data
    assert isinstance(data, errors.ValidationErrorData)
    assert [one.field for one in data.errors] == [field]


@pytest.mark.parametrize(
    "query",
    [
        pytest.param({"subject": ""}, id="nobody"),
        pytest.param({"group_by": "colour"}, id="unknown-dimension"),
        pytest.param({"filter_group_by": "{"}, id="filter-not-json"),
        pytest.param({"filter_group_by": '{"colour":"red"}'}, id="unknown-filter"),
    ],
)
def test_a_bad_query_is_a_400(spent: Shop, query: dict[str, str]) -> None:
    """Or a total of nothing, or of everybody, would pass for an answer."""
    with pytest.raises(errors.BadRequest) as refused:
        spent.spent(**query)

    assert isinstance(refused.value.data, errors.ValidationErrorData)


def test_a_period_that_runs_backwards_is_a_400(spent: Shop) -> None:
    """The usual cause is two arguments the wrong way round."""
    with pytest.raises(errors.BadRequest, match="must be after"):
        spent.sdk.costs.get_cost_summary(id=spent.cost.id, from_=TO, to=FROM)


def test_an_unmatched_type_is_a_422_in_the_exporters_spelling(spent: Shop) -> None:
    """A published exporter mutes a type on this error, and on no other."""
    with pytest.raises(errors.Error) as refused:
        spent.ingest(type="cost.unknown")

    assert refused.value.status_code == 422
    assert refused.value.data.error == "invalid_event_type"
    assert refused.value.data.code == "INVALID_EVENT_TYPE"
    assert refused.value.data.details == {"type": "cost.unknown"}


# -- connections, retries, async


def test_a_trailing_slash_on_the_base_url_does_no_harm(shop: Shop) -> None:
    """People copy addresses out of a browser."""
    url = f"{shop.tenant.server.url}/"

    with Paygentic(shop.tenant.api_key, server_url=url) as sdk:
        assert sdk.costs.get_cost(id=shop.cost.id) == shop.cost


@pytest.fixture(scope="module")
def turnstile() -> Turnstile:
    """Return what stands before the `moody` server."""
    return Turnstile()


@pytest.fixture(scope="module")
def moody(turnstile: Turnstile) -> Iterator[BackgroundServer]:
    """Return a server that turns requests away when told to."""
    with serving(turnstile) as server:
        yield server


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_retry_sends_the_same_bytes_and_counts_once(
    moody: BackgroundServer, turnstile: Turnstile, status: int
) -> None:
    """The SDK retries when it is told to, and keeps to the body that it made."""
    backoff = BackoffStrategy(
        initial_interval=1, max_interval=10, exponent=1, max_elapsed_time=10_000
    )
    retries = RetryConfig("backoff", backoff, retry_connection_errors=False)
    with opened(moody) as shop:
        turnstile.seen.clear()
        turnstile.refuse(status, status)

        answer = shop.sdk.events.ingest(
            request=event(idempotency_key="job-1"), retries=retries
        )

        assert answer.idempotency_key == "job-1"
        assert len(turnstile.seen) == 3
        assert len({one.body for one in turnstile.seen}) == 1
        assert shop.exactly_spent()["events"] == 1


def test_a_hundred_concurrent_events_all_count_once(shop: Shop) -> None:
    """The SDK opens a connection for each call that is under way."""

    async def spend() -> models.CostUsageResponse:
        async with sdk_of(shop.tenant.server, shop.tenant.api_key) as sdk:
            posts = [
                sdk.events.ingest_async(
                    request=event(
                        idempotency_key=f"job-{number // 2}",
                        subject=f"cus_{number // 2 % 10}",
                        data={"amount": Decimal("0.1") * (number // 2)},
                    )
                )
                for number in range(100)
            ]
            answers = await asyncio.gather(*posts)
            assert len({answer.id for answer in answers}) == 50
            spent: models.CostUsageResponse = await sdk.costs.get_cost_summary_async(
                id=shop.cost.id, from_=FROM, to=TO, group_by="subject", window="HOUR"
            )
            return spent

    answer = asyncio.run(spend())

    assert answer.total_cost == 122.5
    assert [one.cost for one in answer.time_series or ()] == [122.5]
    assert [one.dimensions["subject"] for one in answer.groups or ()] == [
        f"cus_{number}" for number in range(10)
    ]
    assert [one.cost for one in answer.groups or ()] == [
        10.0, 10.5, 11.0, 11.5, 12.0, 12.5, 13.0, 13.5, 14.0, 14.5
    ]  # fmt: skip


def test_every_asynchronous_twin_does_what_its_sibling_does(shop: Shop) -> None:
    """They are generated apart from each other."""

    async def live() -> None:
        async with sdk_of(shop.tenant.server, shop.tenant.api_key) as sdk:
            product = await sdk.products.create_async(
                name="Async", description="Twin", merchant_id=shop.organization
            )
            cost = await sdk.costs.create_cost_async(
                type_="metered",
                name="Calls",
                unit_cost=0.5,
                currency="EUR",
                product_id=product.id,
                aggregation="COUNT",
                event_type="cost.calls",
            )
            await sdk.events.ingest_async(request=event(type="cost.calls"))
            changed = await sdk.costs.update_cost_async(id=cost.id, unit_cost=0.25)
            listed = await sdk.costs.list_costs_async(
                request={"product_id": product.id}
            )
            spent = await sdk.costs.get_cost_summary_async(
                id=cost.id, from_=FROM, to=TO
            )
            assert changed.unit_cost == "0.25"
            assert listed.data == [changed]
            assert spent.total_cost == 0.25
            await sdk.costs.delete_cost_async(id=cost.id)
            with pytest.raises(errors.Error) as gone:
                await sdk.costs.get_cost_async(id=cost.id)
            assert gone.value.status_code == 404

    asyncio.run(live())
