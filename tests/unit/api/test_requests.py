"""Requests, retries and typed errors of `outlay.api`, without a network."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest
from pydantic import SecretStr

from outlay import ConfigError, Settings
from outlay.api import Api, AsyncApi
from outlay.errors import (
    AuthenticationError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    RejectedError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NOVEMBER: Final = datetime(2026, 11, 1, tzinfo=UTC)
DECEMBER: Final = datetime(2026, 12, 1, tzinfo=UTC)

METRIC: Final = {
    "id": "cst_1",
    "object": "cost",
    "name": "ai",
    "currency": "USD",
    "unitCost": "1",
    "eventType": "cost.ai",
    "aggregation": "SUM",
    "valueProperty": "$.amount",
    "addedLater": [1],
}

# The backoff is a hundredth of a millisecond, so that no test waits for it.
SETTINGS: Final = Settings(
    base_url="https://costs.example.com/prefix",
    api_key=SecretStr("sk_test_unit"),
    retry_initial=0.00001,
)


class Service:
    """Responds as scripted, and remembers the requests.

    Attributes:
        responses: The remaining responses or errors. The last one is repeated.
        requests: The requests in order of arrival.
    """

    def __init__(self, *responses: httpx.Response | Exception) -> None:
        self.responses = [*responses]
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Respond to a request."""
        self.requests.append(request)
        response = self.responses.pop(0) if self.responses[1:] else self.responses[0]
        if isinstance(response, Exception):
            raise response
        return response

    def api(self, settings: Settings = SETTINGS, **options: Any) -> Api:  # noqa: ANN401 - of the constructor
        """Return a client of this service."""
        client = httpx.Client(transport=httpx.MockTransport(self))
        return Api(settings, http_client=client, **options)

    @property
    def query(self) -> list[tuple[str, str]]:
        """The query of the last request."""
        return self.requests[-1].url.params.multi_items()


def ok(**body: object) -> httpx.Response:
    """Return a success."""
    return httpx.Response(200, json=body)


def refused(status: int, **body: object) -> httpx.Response:
    """Return a refusal in the contract's error body."""
    return httpx.Response(status, json={"message": "no", "error": "x", **body})


# -- requests


def test_a_metric_is_sent_in_the_contract_s_fields_with_exact_numbers() -> None:
    """A float would lose digits of the price."""
    service = Service(httpx.Response(201, json=METRIC))

    metric = service.api(namespace="org_1").create_metric(
        "ai", "cost.ai", unit_cost="0.00150000000000000000000000000001", group_by=["a"]
    )

    [request] = service.requests
    assert str(request.url) == "https://costs.example.com/prefix/v0/costs"
    assert request.headers["authorization"] == "Bearer sk_test_unit"
    assert request.content.count(b'"unitCost":0.00150000000000000000000000000001') == 1
    body = json.loads(request.content)
    assert body.pop("unitCost")
    assert body == {
        "type": "metered",
        "name": "ai",
        "eventType": "cost.ai",
        "aggregation": "SUM",
        "valueProperty": "$.amount",
        "currency": "USD",
        "groupBy": {"a": "$.a"},
        "productId": "prod_default",
        "merchantId": "org_1",
    }
    assert (metric.id, metric.unit_cost) == ("cst_1", Decimal(1))


def test_a_count_needs_no_path() -> None:
    """Each event counts, whatever its data."""
    service = Service(httpx.Response(201, json=METRIC))

    service.api().create_metric("calls", "cost.ai", aggregation="count")

    assert "valueProperty" not in json.loads(service.requests[0].content)


def test_a_change_sends_what_it_names_and_null_for_none() -> None:
    """What is left out must keep its value."""
    service = Service(ok(**METRIC))

    service.api().update_metric("cst/1", unit=None, group_by=None, name="x")

    [request] = service.requests
    assert (request.method, request.url.raw_path) == (
        "PATCH",
        b"/prefix/v0/costs/cst%2F1",
    )
    assert json.loads(request.content) == {"unit": None, "groupBy": None, "name": "x"}


def test_a_summary_names_the_customer_as_python_does() -> None:
    """The wire says ``subject``; the caller never sees it."""
    group = {"dimensions": {"subject": "c", "model": "m"}, "quantity": 1, "cost": 0.10}
    service = Service(
        httpx.Response(
            200,
            text=json.dumps({"totalCost": None, "groups": [group]}).replace(
                '"cost": 0.1', '"cost": 0.1000000000000000000000000000000000001'
            ),
        )
    )

    summary = service.api().summary(
        "cst_1",
        NOVEMBER,
        DECEMBER,
        customer_id="c",
        by=["customer", "model"],
        window="DAY",
        where={"customer": "c", "model": ["m"], "region": ["eu", "us"]},
    )

    assert service.query == [
        ("from", "2026-11-01T00:00:00Z"),
        ("to", "2026-12-01T00:00:00Z"),
        ("subject", "c"),
        ("groupBy", "subject,model"),
        ("window", "DAY"),
        ("filterGroupBy", '{"subject":"c","model":"m","region":["eu","us"]}'),
    ]
    [found] = summary.groups
    assert found.dimensions == {"customer": "c", "model": "m"}
    assert found.cost == Decimal("0.1000000000000000000000000000000000001")
    assert (summary.total, summary.events) == (None, None)


def test_a_report_sends_only_what_is_given() -> None:
    """The service's own defaults hold for the rest."""
    page = {"limit": 2, "offset": 0, "total": 0}
    service = Service(
        ok(
            currency="USD",
            groupBy="customer",
            groups=[],
            totalCost=0,
            totalQuantity=0,
            pagination=page,
        )
    )
    api = service.api()

    api.report(NOVEMBER, DECEMBER)
    assert [name for name, _ in service.query] == ["from", "to", "groupBy"]

    api.report(
        NOVEMBER,
        DECEMBER,
        by="customer",
        metrics=["cst_1", "cst_2"],
        descending=False,
        prior_period=True,
        empty_groups=False,
        limit=2,
    )
    assert service.query[2:] == [
        ("groupBy", "customer"),
        ("costId", "cst_1"),
        ("costId", "cst_2"),
        ("sortDir", "asc"),
        ("comparePriorPeriod", "true"),
        ("excludeEmpty", "true"),
        ("limit", "2"),
    ]


def test_unmatched_events_are_listed_by_type() -> None:
    """They are in no total, and nothing else tells."""
    service = Service(ok(object="list", data=[{"eventType": "cost.x", "events": 2}]))

    [found] = service.api().unmatched(NOVEMBER, DECEMBER)

    assert (found.event_type, found.events) == ("cost.x", 2)
    assert [name for name, _ in service.query] == ["from", "to"]


def test_profitability_prefers_the_exact_amounts() -> None:
    """The contract rounds to two decimals; the reference server adds the rest."""
    row = {
        "customerId": "cus_1",
        "customerName": "",
        "netRevenue": "49.00",
        "totalCost": "12.94",
        "profit": "36.06",
        "marginPct": 73.6,
        "trend": {"values": ["1.00", "-2.00"], "periodChange": None},
    }
    exact = {"totalCostExact": "12.937900167", "profitExact": "36.062099833"}
    service = Service(
        ok(currency="USD", rows=[{**row, **exact}, row], warnings=["a cost failed"])
    )

    result = service.api(namespace="org_1").profitability(NOVEMBER, DECEMBER, top=1)

    assert service.query[2:] == [
        ("merchantId", "org_1"),
        ("topN", "1"),
        ("bucketWidth", "day"),
    ]
    ours, theirs = result.rows
    assert (ours.revenue, ours.cost) == (Decimal(49), Decimal("12.937900167"))
    assert (theirs.cost, theirs.profit) == (Decimal("12.94"), Decimal("36.06"))
    assert ours.margin_percent == Decimal("73.6")
    assert ours.trend is not None
    assert ours.trend.values == (Decimal(1), Decimal(-2))
    assert result.warnings == ("a cost failed",)


def test_times_are_sent_in_utc_and_must_be_aware() -> None:
    """A naive time would mean another month on another machine."""
    service = Service(ok(totalCost=1))
    east = timezone(timedelta(hours=2))

    service.api().summary("cst_1", datetime(2026, 11, 1, 2, tzinfo=east), DECEMBER)
    assert service.query[0] == ("from", "2026-11-01T00:00:00Z")

    with pytest.raises(ConfigError, match=r"start=.* has no time zone"):
        service.api().summary("cst_1", datetime(2026, 11, 1), DECEMBER)  # noqa: DTZ001 - on purpose


def test_a_warning_of_the_server_is_passed_on() -> None:
    """Two metrics that count the same events double a total."""
    response = ok(**METRIC)
    response.headers["outlay-warning"] = "also counted by x"
    warnings: list[str] = []

    Service(response).api(on_warning=warnings.append).metric("cst_1")

    assert warnings == ["also counted by x"]


def test_events_are_read_until_the_caller_has_enough() -> None:
    """Millions of events must not be read for the first one."""
    event = {
        "id": "evt_1",
        "type": "t",
        "source": "s",
        "idempotencyKey": "k",
        "timestamp": NOVEMBER.isoformat(),
        "receivedAt": NOVEMBER.isoformat(),
        "data": {},
    }
    service = Service(
        ok(data=[event], nextCursor="c1"),
        ok(data=[], nextCursor="c2"),
        ok(data=[event]),
    )

    found = service.api().events(end=DECEMBER)
    assert next(found).id == "evt_1"
    assert len(service.requests) == 1

    assert len([*found]) == 1
    assert service.query == [
        ("to", "2026-12-01T00:00:00Z"),
        ("limit", "100"),
        ("cursor", "c2"),
    ]


# -- create if absent


def listing(*metrics: Mapping[str, object]) -> httpx.Response:
    """Return a list of metrics."""
    return ok(object="list", data=metrics, pagination={"total": len(metrics)})


def test_a_metric_that_exists_is_returned_and_not_created_again() -> None:
    """A program that calls it at each start must not double its totals."""
    service = Service(listing(METRIC))

    metric, created = service.api().ensure_metric("ai", "cost.ai")

    assert (metric.id, created) == ("cst_1", False)
    assert [request.method for request in service.requests] == ["GET"]


def test_a_metric_that_does_not_exist_is_created() -> None:
    """Whatever else there is."""
    service = Service(
        listing({**METRIC, "name": "other"}), httpx.Response(201, json=METRIC)
    )

    _, created = service.api().ensure_metric("ai", "cost.ai")

    assert created
    assert [request.method for request in service.requests] == ["GET", "POST"]


def test_a_metric_of_the_same_name_with_other_fields_is_a_conflict() -> None:
    """Neither a second metric nor a silent change is what the caller meant."""
    service = Service(listing(METRIC))

    with pytest.raises(ConflictError, match=r"another unit_cost, unit; change it"):
        service.api().ensure_metric("ai", "cost.ai", unit_cost=2, unit="page")


# -- errors


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequestError),
        (401, AuthenticationError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (409, ConflictError),
        (422, InvalidRequestError),
        (418, RejectedError),
        (302, RejectedError),
    ],
)
def test_a_refusal_is_an_error_of_its_kind(
    status: int, kind: type[RejectedError]
) -> None:
    """Programs decide by the class, people by the message."""
    service = Service(
        refused(
            status,
            code="BROKEN_RULE",
            errors=[{"field": "unitCost", "message": "must be 0 or more"}, "odd"],
            requiredPermissions=["costs:write"],
        )
    )

    with pytest.raises(RejectedError, match=f"HTTP {status}: no") as caught:
        service.api().metric("cst_1")

    error = caught.value
    assert type(error) is kind
    assert (error.status, error.code, error.rule) == (status, "x", "BROKEN_RULE")
    assert error.fields == {"unitCost": "must be 0 or more"}
    if isinstance(error, PermissionDeniedError):
        assert error.required_permissions == ("costs:write",)
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(200, text="<html>"),
        httpx.Response(200, content=b"\xff"),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={"id": 1}),
    ],
    ids=["HTML", "no UTF-8", "array", "another shape"],
)
def test_something_else_at_the_address_is_named(response: httpx.Response) -> None:
    """A typing error in the address must not look like an empty account."""
    with pytest.raises(RejectedError, match="is not a cost service; check OUTLAY_BASE"):
        Service(response).api().metric("cst_1")


# -- retries


def lost() -> httpx.ReadError:
    """Return the error of a connection that broke after the request left."""
    return httpx.ReadError("broken")


@pytest.mark.parametrize(
    ("call", "failure"),
    [
        (lambda api: api.metric("cst_1"), lost()),
        (lambda api: api.metric("cst_1"), refused(503)),
        (lambda api: api.metric("cst_1"), refused(500)),
        (lambda api: api.update_metric("cst_1", name="x"), lost()),
        (lambda api: api.create_metric("ai", "t"), httpx.ConnectError("no route")),
        (lambda api: api.create_metric("ai", "t"), refused(429)),
    ],
    ids=["GET lost", "GET 503", "GET 500", "PATCH lost", "POST unsent", "POST 429"],
)
def test_what_can_do_no_harm_is_sent_again(
    call: Callable[[Api], object], failure: httpx.Response | Exception
) -> None:
    """A read, or a write that the server cannot have seen."""
    service = Service(failure, failure, ok(**METRIC))

    call(service.api())

    assert len(service.requests) == 3


@pytest.mark.parametrize(
    "failure", [lost(), refused(503), refused(500)], ids=["lost", "503", "500"]
)
def test_a_creation_that_may_have_happened_is_not_repeated(
    failure: httpx.Response | Exception,
) -> None:
    """A second metric would count every event twice."""
    service = Service(failure, httpx.Response(201, json=METRIC))

    with pytest.raises(UnavailableError) as caught:
        service.api().create_metric("ai", "cost.ai")

    assert caught.value.sent
    assert len(service.requests) == 1


def test_a_deletion_whose_response_was_lost_succeeds() -> None:
    """The second attempt finds nothing, because the first one worked."""
    Service(lost(), refused(404)).api().delete_metric("cst_1")

    with pytest.raises(NotFoundError):
        Service(refused(404)).api().delete_metric("cst_1")


def test_attempts_are_limited() -> None:
    """The caller waits for a bounded time."""
    service = Service(refused(503))

    with pytest.raises(UnavailableError, match="HTTP 503"):
        service.api(attempts=2).metrics()

    assert len(service.requests) == 2
    with pytest.raises(ConfigError, match="attempts=0"):
        service.api(attempts=0)


def test_a_wait_longer_than_the_longest_backoff_is_left_to_the_caller() -> None:
    """A call must not sleep for an hour."""
    late = refused(429)
    late.headers["retry-after"] = "3600"
    service = Service(late)

    with pytest.raises(UnavailableError) as caught:
        service.api().metrics()

    assert (caught.value.status, caught.value.retry_after) == (429, 3600.0)
    assert len(service.requests) == 1


# -- settings


def test_settings_come_from_the_same_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One set of variables configures the whole program."""
    monkeypatch.setenv("OUTLAY_BASE_URL", "https://env.example.com")
    monkeypatch.setenv("OUTLAY_API_KEY", "sk_env")
    monkeypatch.setenv("OUTLAY_CURRENCY", "EUR")
    service = Service(httpx.Response(201, json=METRIC))
    client = httpx.Client(transport=httpx.MockTransport(service))

    Api(http_client=client).create_metric("ai", "cost.ai")
    Api(http_client=client, base_url="https://arg.example.com").create_metric("a", "t")

    first, second = service.requests
    assert first.url.host == "env.example.com"
    assert first.headers["authorization"] == "Bearer sk_env"
    assert json.loads(first.content)["currency"] == "EUR"
    assert second.url.host == "arg.example.com"


def test_a_client_of_the_caller_s_stays_open() -> None:
    """The caller opened it, and closes it."""
    client = httpx.Client(transport=httpx.MockTransport(Service(ok(**METRIC))))

    with Api(SETTINGS, http_client=client) as api:
        api.metric("cst_1")
    assert not client.is_closed

    with Api(SETTINGS) as own:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        own.metric("cst_1")


# -- asyncio


def test_the_asynchronous_twin_has_the_same_methods() -> None:
    """What one can do, the other can."""
    names = {name for name in dir(Api) if not name.startswith("_")} - {"close"}

    assert names == {n for n in dir(AsyncApi) if not n.startswith("_")} - {"aclose"}


def test_the_asynchronous_twin_retries_and_raises_alike() -> None:
    """Only the waiting differs."""
    service = Service(lost(), ok(**METRIC), refused(404))

    async def main() -> None:
        client = httpx.AsyncClient(transport=httpx.MockTransport(service))
        async with AsyncApi(SETTINGS, http_client=client) as api:
            assert (await api.metric("cst_1")).name == "ai"
            with pytest.raises(NotFoundError):
                await api.metric("cst_1")
        assert not client.is_closed
        await client.aclose()
        async with AsyncApi(SETTINGS):
            pass

    asyncio.run(main())

    assert len(service.requests) == 3
