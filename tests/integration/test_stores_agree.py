"""SQLite and PostgreSQL give the same responses to one random stream of requests.

The stream has events that come again, late events, amounts that are hard to add,
metrics that are created later, corrections, closed months, and kills of the server in
the middle of a request, after which the request is sent again.
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Self

import httpx
import msgspec
import pytest

from tests.support.filled import AMOUNTS
from tests.support.postgres_server import drop_database, new_database
from tests.support.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_KEY: Final = "sk_test_0123456789abcdef"
_START: Final = datetime(2026, 1, 20, tzinfo=UTC)
_DAYS: Final = 60
_PERIOD: Final = {"from": "2026-01-01T00:00:00Z", "to": "2026-06-01T00:00:00Z"}
_AGGREGATIONS: Final = ("SUM", "COUNT", "AVG", "MIN", "MAX", "LATEST", "UNIQUE_COUNT")
_DEADLINE: Final = 120.0
_ID: Final = re.compile(r"\b(cst|evt|cor)_\w+")

# Two servers give different ids, and receive at different times.
_OWN: Final = frozenset({"id", "costId", "eventId", "receivedAt", "createdAt",
                         "updatedAt", "closedAt", "nextCursor", "cursor"})  # fmt: skip


def same(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return a response without what two servers may choose."""
    if isinstance(value, tuple):
        return [same(one) for one in value]
    if isinstance(value, dict):
        return {k: same(one) for k, one in value.items() if k not in _OWN}
    if isinstance(value, str):
        return _ID.sub(r"\1_", value)  # in the words of a warning
    return [same(one) for one in value] if isinstance(value, list) else value


class Lane:
    """A server with its own store."""

    def __init__(self, server: ServerProcess) -> None:
        self.server: Final = server
        self._http = httpx.Client(
            base_url=server.url, headers=server.authorization, timeout=300
        )
        self._metrics: dict[str, str] = {}

    def __enter__(self) -> Self:
        self._wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def _wait(self) -> None:
        deadline = time.monotonic() + _DEADLINE
        while not self.server.is_ready():
            assert time.monotonic() < deadline, "the server does not start"
            threading.Event().wait(0.02)

    def request(self, method: str, path: str, **options: Any) -> tuple[int, Any]:  # noqa: ANN401 - as httpx has it
        """Send a request, and return status and body with exact numbers."""
        response = self._http.request(method, path, **options)
        return response.status_code, json.loads(response.text, parse_float=Decimal)

    def post(self, events: list[dict[str, Any]]) -> tuple[int, Any]:
        """Send a batch."""
        return self.request(
            "POST",
            "/v0/events/batch",
            content=msgspec.json.encode({"events": events}),
            headers={"content-type": "application/json"},
        )

    def killed_during(self, events: list[dict[str, Any]], seconds: float) -> int:
        """Kill the server while it takes a batch. Send it again, and return the sum."""
        killing = threading.Timer(seconds, self.server.restart_after_kill)
        killing.start()
        with suppress(httpx.TransportError):
            self.post(events)
        killing.join()
        self._wait()
        _, body = self.post(events)
        return int(body["summary"]["successful"])

    def create_metric(self, aggregation: str) -> object:
        """Create a metric."""
        body = {
            "name": aggregation,
            "eventType": "cost.test",
            "aggregation": aggregation,
            "groupBy": {"provider": "$.provider"},
        }
        if aggregation != "COUNT":
            body["valueProperty"] = "$.amount"
        status, made = self.request("POST", "/v0/costMetrics", json=body)
        self._metrics[aggregation] = made["id"]
        return status, same(made)

    def correct(self, key: str, kind: str, reason: str) -> object:
        """Void or adjust the event with a key."""
        _, found = self.request("GET", "/v0/events", params={"idempotencyKey": key})
        body = {"reason": reason, "idempotencyKey": f"{kind} {key}"}
        if kind == "adjust":
            body |= {"costId": self._metrics["SUM"], "delta": "-0.000000000000000001"}
        status, done = self.request(
            "POST", f"/v0/events/{found['data'][0]['id']}/{kind}", json=body
        )
        return status, same({**done, "message": None})

    def totals(self) -> Iterator[object]:
        """Yield what it reports."""
        for name, metric in self._metrics.items():
            path = f"/v0/costs/{metric}/summary"
            for query in (
                {},
                {"groupBy": "provider,customer"},
                {"window": "DAY"},
                {"window": "HOUR", "groupBy": "provider"},
            ):
                _, body = self.request("GET", path, params={**_PERIOD, **query})
                yield name, query, same(body)
        for by in ("customer", "cost"):
            query = {**_PERIOD, "groupBy": by, "costId": self._metrics["SUM"]}
            _, body = self.request("GET", "/v0/costs/report", params=query)
            yield by, same(body)
        for path in ("/v0/corrections", "/v0/closedPeriods", "/v0/events"):
            yield path, same(self.request("GET", path)[1])


class Stream:
    """One random stream, for both lanes."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a test's choice
        self._sent: list[str] = []
        self._corrected: set[str] = set()
        self._later = list(_AGGREGATIONS[3:])

    def events(self) -> list[dict[str, Any]]:
        """Return a batch: new events, and some that were sent before."""
        chosen = self._random
        batch = []
        for _ in range(chosen.randint(1, 20)):
            again = self._sent and chosen.random() < 0.2
            key = chosen.choice(self._sent) if again else f"k{len(self._sent)}"
            if not again:
                self._sent.append(key)
            at = _START + timedelta(days=_DAYS * (1 - chosen.random() ** 2))
            batch.append(
                {
                    "idempotencyKey": key,
                    "type": "cost.test",
                    "source": "tests",
                    "subject": chosen.choice(["ann", "bob", "\u00fc"]),
                    "timestamp": at.isoformat(),
                    "data": {
                        "amount": msgspec.Raw(chosen.choice(AMOUNTS).encode()),
                        "provider": chosen.choice(["x", "y", 'a"b', "z\0"]),
                        "currency": chosen.choice(["USD"] * 5 + ["EUR"]),
                    },
                }
            )
        return batch

    def step(self, lanes: list[Lane]) -> None:
        """Send the next request to both lanes, and compare their responses."""
        roll = self._random.random()
        if roll < 0.1 and self._later:
            name = self._later.pop()
            results = [lane.create_metric(name) for lane in lanes]
        elif roll < 0.3 and len(self._sent) > len(self._corrected):
            key = self._random.choice([*{*self._sent} - self._corrected])
            self._corrected.add(key)
            kind = self._random.choice(["void", "adjust"])
            results = [lane.correct(key, kind, "test") for lane in lanes]
        elif roll < 0.34:
            month = self._random.choice(["2026-01", "2026-02"])
            body = {"period": month}
            results = [
                same(lane.request("POST", "/v0/closedPeriods", json=body))
                for lane in lanes
            ]
        else:
            events = self.events()
            results = [same(lane.post(events)) for lane in lanes]
        assert results[0] == results[1]


@contextmanager
def two_lanes(folder: Path) -> Iterator[list[Lane]]:
    """Run a server on SQLite, and one on PostgreSQL."""
    with ExitStack() as stack:
        database = new_database()
        stack.callback(drop_database, database)
        lanes = []
        for name, value in (
            ("OUTLAY_SERVER_DATABASE", str(folder / "outlay.db")),
            ("OUTLAY_SERVER_STORE", database),
        ):
            variables = {
                name: value,
                "OUTLAY_SERVER_API_KEY": _KEY,
                "OUTLAY_SERVER_QUERY_TIMEOUT": "300",  # on a busy machine
            }
            server = ServerProcess(name, folder, variables)
            stack.callback(server.stop)
            lanes.append(stack.enter_context(Lane(server)))
        yield lanes


def play(lanes: list[Lane], seed: int, steps: int, kills: int) -> None:
    """Play a stream, and compare both lanes at its end."""
    stream = Stream(seed)
    chosen = random.Random(seed + 1)  # noqa: S311 - a test's choice
    for name in _AGGREGATIONS[:3]:
        assert len({repr(lane.create_metric(name)) for lane in lanes}) == 1
    for part in range(kills + 1):
        for _ in range(steps):
            stream.step(lanes)
        if part < kills:
            events = stream.events()
            pause = chosen.random() * 0.03
            counts = {lane.killed_during(events, pause) for lane in lanes}
            assert counts == {len(events)}
    for one, other in zip(*(lane.totals() for lane in lanes), strict=True):
        assert one == other


@pytest.mark.timeout(600)  # two servers start twice
def test_both_stores_give_the_same_responses(tmp_path: Path) -> None:
    """To the last digit, with one kill."""
    with two_lanes(tmp_path) as lanes:
        play(lanes, seed=1, steps=15, kills=1)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(3))
def test_both_stores_give_the_same_responses_after_many_kills(
    tmp_path: Path, seed: int
) -> None:
    """The same, for longer."""
    with two_lanes(tmp_path) as lanes:
        play(lanes, seed=seed, steps=25, kills=8)
