"""A server with two months of plausible costs, for the pages and their pictures."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outlay.server import BackgroundServer, ServerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

API_KEY: Final = "sk_test_showcase"
NOW: Final = datetime(2026, 10, 29, 13, 20, tzinfo=UTC)
FIRST_DAY: Final = datetime(2026, 8, 25, tzinfo=UTC)
QUIET_DAY: Final = 12
"""The day of each month without any event."""

_NAMES: Final = """
    northwind acme contoso globex initech umbrella hooli stark wayne wonka tyrell
    cyberdyne soylent aperture gringotts oceanic vandelay dunder sterling piedpiper
    bluth prestige zorg massive kramerica nakatomi virtucon rekall weyland lumon
"""
CUSTOMERS: Final = tuple(f"cus_{name}" for name in _NAMES.split())
_BATCH: Final = 1000


class Kind(NamedTuple):
    """One kind of event. The weight is its share of events."""

    type: str
    provider: str
    models: tuple[str, ...]
    operations: tuple[str, ...]
    amount: float
    weight: float


KINDS: Final = (
    Kind(
        "cost.ai.inference",
        "anthropic",
        ("claude-sonnet-4-5", "claude-haiku-4-5"),
        ("document-extraction", "chat", "summary"),
        0.9,
        40,
    ),
    Kind(
        "cost.ai.inference",
        "openai",
        ("gpt-5.1", "gpt-5-mini"),
        ("chat", "classification"),
        0.7,
        30,
    ),
    Kind("cost.documents.ocr", "aws", ("textract",), ("document-extraction",), 0.5, 14),
    Kind("cost.messaging", "twilio", ("sms",), ("notification",), 0.4, 12),
    Kind("cost.voice", "elevenlabs", ("eleven-turbo",), ("voice-agent",), 0.6, 6),
    Kind("cost.ai.audio", "deepgram", ("nova-3",), ("voice-agent",), 0.3, 4),
    Kind("cost.geocoding", "google-maps", ("geocode",), ("address-check",), 0.1, 3),
)


class ShowcaseClock:
    """Stands at `NOW`. Its monotonic clock stands as well."""

    def now_ns(self) -> int:
        """Return wall time in nanoseconds since 1970."""
        return self.now_ms() * 1_000_000

    def now_ms(self) -> int:
        """Return wall time in milliseconds since 1970."""
        return int(NOW.timestamp() * 1000)

    def monotonic(self) -> float:
        """Return seconds since some fixed instant."""
        return 1000.0


def showcase_server(port: int = 0) -> BackgroundServer:
    """Return a server, not started, whose clock stands at `NOW`."""
    settings = ServerSettings(
        port=port, database=":memory:", default_metrics=True, api_key=API_KEY
    )
    return BackgroundServer(settings, clock=ShowcaseClock())


def send_events(client: httpx.Client, *, a_day: int) -> int:
    """Send about ``a_day`` events for each working day, and return their number."""
    events = [*showcase_events(a_day)]
    for at in range(0, len(events), _BATCH):
        response = client.post(
            "/v0/events/batch",
            json={"events": events[at : at + _BATCH]},
            headers={"prefer": "return=minimal"},
        )
        assert response.status_code == 202, response.text
    return len(events)


def send_odd_events(client: httpx.Client) -> None:
    """Send events that are refused, excluded, late, or sent twice."""
    for event_type, amount, currency, at, key in (
        ("cost.weather", "0.01", "USD", "2026-10-29T13:00:00Z", "odd-1"),
        ("cost.weather", "0.01", "USD", "2026-10-29T13:01:00Z", "odd-2"),
        ("cost.messaging", "none", "USD", "2026-10-28T13:00:00Z", "odd-3"),
        ("cost.messaging", "0.2", "EUR", "2026-10-28T13:00:00Z", "odd-4"),
        ("cost.messaging", "0.2", "EUR", "2026-10-28T13:00:00Z", "odd-4"),
    ):
        body = {
            "type": event_type,
            "source": "https://api.example.com",
            "subject": "cus_acme",
            "timestamp": at,
            "idempotencyKey": key,
            "data": {"amount": amount, "currency": currency, "provider": "twilio"},
        }
        response = client.post("/v0/events", json=body)
        assert response.status_code in {202, 422}, response.text
    assert client.post("/v0/events", json={"type": "x"}).status_code == 400


NAMES: Final = {
    "cus_acme": "Acme GmbH",
    "cus_northwind": "Northwind Traders",
    "cus_contoso": "Contoso Ltd",
    "cus_globex": "Globex Corporation",
    "cus_initech": "Initech",
    "cus_hooli": "Hooli Inc",
}


def send_revenue(client: httpx.Client) -> None:
    """Send revenue of two months. One customer pays nothing, one costs nothing."""
    lines = [
        {
            "customerId": customer,
            "period": month,
            "amount": f"{(1900 - 60 * place) / (1 + place % 5):.2f}",
            "currency": "USD",
        }
        for month in ("2026-09", "2026-10")
        for place, customer in enumerate((*CUSTOMERS[:-1], "cus_idle"))
    ]
    response = client.put("/v0/revenue", json={"source": "billing", "lines": lines})
    assert response.status_code == 200, response.text
    names = [{"id": key, "name": name} for key, name in NAMES.items()]
    response = client.put("/v0/customers", json={"customers": names})
    assert response.status_code == 200, response.text


def send_budgets(
    client: httpx.Client, *, acme: str = "45.5", everything: str = "5000"
) -> None:
    """Store budgets that are below and over their limits, and a webhook.

    Args:
        client: A client of the server.
        acme: The limit of one customer.
        everything: The limit of all costs.
    """
    budgets: dict[str, dict[str, object]] = {
        "acme": {"name": "Acme GmbH", "limit": acme, "customerId": "cus_acme"},
        "all": {"name": "Everything", "limit": everything, "thresholds": [50, 90]},
        "openai": {
            "name": "OpenAI",
            "limit": "9000",
            "dimensions": {"provider": "openai"},
        },
    }
    for budget_id, fields in budgets.items():
        body = {"currency": "USD", **fields}
        response = client.put(f"/v0/budgets/{budget_id}", json=body)
        assert response.status_code == 200, response.text
    webhook = {"url": "http://127.0.0.1:9/hook"}  # fails at once: it is not public
    assert client.post("/v0/webhooks", json=webhook).status_code == 201


_BILLED_BESIDE: Final = {
    ("2026-10-07", "gpt-5.1"): Decimal("3.2041"),
    ("2026-10-09", "gpt-5.1"): Decimal(-1),
}
"""What the bill has more than the events, by day and model."""


def openai_bill(a_day: int) -> str:
    """Return OpenAI's export of costs for two weeks of October, beside the events.

    One model costs less than its list price, some calls were never tracked, and one
    event is on no bill.
    """
    sums: dict[tuple[str, str], Decimal] = {}
    for event in showcase_events(a_day):
        data, day = event["data"], event["timestamp"][:10]
        if data["provider"] == "openai" and "2026-10-01" <= day <= "2026-10-14":
            key = day, data["model"]
            sums[key] = sums.get(key, Decimal()) + Decimal(data["amount"])
    lines = ["start_time,end_time,amount_value,amount_currency,line_item"]
    for (day, model), tracked in sorted(sums.items()):
        amount = tracked * Decimal("0.8") if model == "gpt-5-mini" else tracked
        amount += _BILLED_BESIDE.get((day, model), Decimal())
        lines.append(_bill_line(day, amount, model))
    lines += [
        _bill_line(day, Decimal("0.0213"), "text-embedding-3-small, input")
        for day in ("2026-10-06", "2026-10-08")
    ]
    return "\n".join(lines)


def _bill_line(day: str, amount: Decimal, item: str) -> str:
    start = int(datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp())
    return f'{start},{start + 86_400},{amount:f},usd,"{item}"'


def showcase_events(a_day: int) -> Iterator[dict[str, Any]]:
    """Yield the same events in every run."""
    numbers = random.Random(20261029)  # noqa: S311 - no secret
    weights = [1 / (place + 1) ** 0.8 for place in range(len(CUSTOMERS))]
    shares = [kind.weight for kind in KINDS]
    day, serial = FIRST_DAY, 0
    while day < NOW:
        growth = 1 + (day - FIRST_DAY).days / 160
        busy = a_day if day.weekday() < 5 else a_day * 2 // 5
        for _ in range(0 if day.day == QUIET_DAY else round(busy * growth)):
            kind = numbers.choices(KINDS, shares)[0]
            at = day + timedelta(seconds=numbers.randrange(86_400))
            customer = numbers.choices(CUSTOMERS, weights)[0]
            amount = 5 * kind.amount * numbers.lognormvariate(0, 0.8)
            model = numbers.choice(kind.models)
            operation = numbers.choice(kind.operations)
            serial += 1
            if at < NOW:
                yield {
                    "type": kind.type,
                    "source": "https://api.example.com",
                    "subject": customer,
                    "timestamp": at.isoformat(),
                    "idempotencyKey": f"showcase-{serial}",
                    "data": {
                        "amount": str(Decimal(f"{amount:.7f}").normalize()),
                        "currency": "USD",
                        "provider": kind.provider,
                        "model": model,
                        "operation": operation,
                        "provenance": "priced",
                    },
                }
        day += timedelta(days=1)
