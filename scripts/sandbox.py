"""Ask a real account what the published contract leaves open.

It sends twenty requests, with a product, a cost and a few events of its own, and prints
what came back. It deletes the cost at the end; the contract has no way to delete the
product and the events. Run it by hand against a sandbox. It is no part of any other
check, and it refuses keys of live accounts.

    OUTLAY_SANDBOX_KEY=sk_test_… python -m scripts.sandbox --output answers.json
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
import ssl
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

SANDBOX: Final = "https://api.sandbox.paygentic.io"
KEY_VARIABLE: Final = "OUTLAY_SANDBOX_KEY"

_LIVE_KEY: Final = "sk_live_"
_SHOWN_CHARS: Final = 300  # of a response
_HEADERS: Final = ("retry-after", "x-ratelimit-limit", "x-request-id", "server")


class Answer(NamedTuple):
    """What came back for one request.

    Attributes:
        question: The open point of the contract.
        request: The request's method and path.
        status: The HTTP status code.
        finding: The answer to the question, in words.
        headers: The headers that say something about limits.
        body: The start of the response's body.
    """

    question: str
    request: str
    status: int
    finding: str
    headers: dict[str, str]
    body: str


class Account:
    """The account that is asked. Use it as a context manager.

    Args:
        base_url: The address of the service.
        key: The credential. It is in no answer.
        wait: The seconds until events must be in totals.
    """

    def __init__(self, base_url: str, key: str, *, wait: float) -> None:
        self._http = httpx.Client(
            base_url=base_url,
            headers={"authorization": f"Bearer {key}"},
            timeout=30,
            trust_env="127.0.0.1" not in base_url,
        )
        self._wait = wait
        self._pause = threading.Event()
        self.base_url = base_url
        self.answers: list[Answer] = []
        self.run = secrets.token_hex(6)
        self.type = f"cost.outlay.sandbox.{self.run}"
        self.now = datetime.now(UTC).replace(microsecond=0)

    def __enter__(self) -> Self:
        """Return this object."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connections."""
        self._http.close()

    def ask(
        self,
        question: str,
        method: str,
        path: str,
        finding: Callable[[int, dict[str, Any]], str] | None = None,
        **options: Any,  # noqa: ANN401 - of httpx
    ) -> dict[str, Any]:
        """Send one request, record the answer, and return the body.

        Args:
            question: The open point of the contract.
            method: The method.
            path: The path.
            finding: A function of status and body that answers the question. Defaults
                to the body's message.
            **options: The query or the body, as httpx has them.
        """
        response = self._http.request(method, path, **options)
        body = _json(response)
        self.answers.append(
            Answer(
                question,
                f"{method} {path}",
                response.status_code,
                (finding or _message)(response.status_code, body),
                {k: v for k, v in response.headers.items() if k in _HEADERS},
                response.text[:_SHOWN_CHARS],
            )
        )
        return body

    def post_event(
        self,
        question: str,
        finding: Callable[[int, dict[str, Any]], str] | None = None,
        **fields: Any,  # noqa: ANN401 - JSON
    ) -> dict[str, Any]:
        """Send an event of the run's type, with an amount of 1."""
        event = {
            "type": self.type,
            "source": "urn:outlay:sandbox",
            "subject": "outlay-sandbox",
            "timestamp": self.now.isoformat().replace("+00:00", "Z"),
            "idempotencyKey": f"{self.run}-{len(self.answers)}",
            "data": {"amount": 1, "provider": "outlay"},
            **fields,
        }
        body = {name: value for name, value in event.items() if value is not None}
        return self.ask(question, "POST", "/v0/events", finding, json=body)

    def wait_for_total(self, path: str, total: float) -> None:
        """Wait until a summary has a total, or the time is up. It records nothing."""
        end = datetime.now(UTC) + timedelta(seconds=self._wait)
        while datetime.now(UTC) < end:
            found = _json(self._http.get(path, params=self.period)).get("totalCost")
            if found is not None and float(found) >= total:
                return
            self._pause.wait(2)

    @property
    def period(self) -> dict[str, str]:
        """The days around now, as the parameters of a query."""
        start = self.now.replace(hour=0, minute=0, second=0) - timedelta(days=2)
        end = start + timedelta(days=5)
        return {
            "from": start.isoformat().replace("+00:00", "Z"),
            "to": end.isoformat().replace("+00:00", "Z"),
        }


def ask_all(account: Account) -> list[Answer]:
    """Send the twenty requests, and return the answers."""
    ask, post = account.ask, account.post_event
    metric = _set_up(account)
    key = f"{account.run}-first"
    first = post(
        "which fields a 202 has, and the form of an id", _fields, idempotencyKey=key
    )

    def same_id(_: int, body: dict[str, Any]) -> str:
        return "the same id" if body.get("id") == first.get("id") else "another id"

    post("whether a duplicate gets the first id", same_id, idempotencyKey=key)
    other = {"amount": 2, "provider": "outlay"}
    post(
        "what another payload under a key gets", same_id, idempotencyKey=key, data=other
    )
    post(
        "whether a key is scoped by source",
        same_id,
        idempotencyKey=key,
        source="urn:other",
    )
    post("whether a type without a metric is refused", type=f"{account.type}.none")
    post("whether a numeric string is accepted", data={"amount": "10"})
    post("whether a negative amount is accepted", data={"amount": -0.25})
    post(
        "whether a naive timestamp is accepted",
        timestamp=f"{account.now:%Y-%m-%dT%H:%M:%S}",
    )
    post(
        "whether an amount keeps 20 digits",
        data={"amount": 0.1},
        subject="outlay-other",
    )
    path = f"/v0/costs/{metric}/summary"
    account.wait_for_total(path, 10)
    _read(account, path)
    ask("whether an unknown parameter is refused", "GET", "/v0/costs?outlay=1")
    ask("what a deletion responds", "DELETE", f"/v0/costs/{metric}")
    return account.answers


def _set_up(account: Account) -> str:
    """Create a product and a cost, and return the cost's id."""
    product = account.ask(
        "whether a product needs merchantId",
        "POST",
        "/v0/products",
        json={
            "name": f"outlay sandbox {account.run}",
            "description": "Safe to delete.",
        },
    )
    cost = account.ask(
        "the form of a unit cost, and whether a cost alone makes a type acceptable",
        "POST",
        "/v0/costs",
        lambda _, body: f"unitCost {body.get('unitCost')!r}",
        json={
            "type": "metered",
            "name": f"outlay sandbox {account.run}",
            "unitCost": 1,
            "currency": "USD",
            "productId": product.get("id", "prod_unknown"),
            "eventType": account.type,
            "aggregation": "SUM",
            "valueProperty": "$.amount",
            "groupBy": {"provider": "$.provider", "absent": "$.absent"},
        },
    )
    return str(cost.get("id", "cst_unknown"))


def _read(account: Account, path: str) -> None:
    """Read totals: what counts, how windows are aligned, and what is missing."""
    period = account.period
    ask = account.ask
    ask(
        "which amounts count: first 1, string 10, credit -0.25, naive 1, other 0.1",
        "GET",
        path,
        lambda _, body: f"totalCost {body.get('totalCost')}",
        params=period,
    )
    ask(
        "how windows are aligned, and whether empty ones are listed",
        "GET",
        path,
        lambda _, body: (
            f"{[w.get('windowStart') for w in body.get('timeSeries') or ()]}"
        ),
        params={**period, "window": "DAY"},
    )
    ask(
        "the text of a missing dimension",
        "GET",
        path,
        lambda _, body: f"{[g.get('dimensions') for g in body.get('groups') or ()]}",
        params={**period, "groupBy": "absent"},
    )
    ask(
        "whether a summary has groups by subject",
        "GET",
        path,
        params={**period, "groupBy": "subject"},
    )
    ask(
        "whether a summary has months",
        "GET",
        path,
        params={**period, "window": "MONTH"},
    )
    ask(
        "what an empty period gets",
        "GET",
        path,
        params={**period, "to": period["from"]},
    )
    ask(
        "the shape of a report",
        "GET",
        "/v0/costs/report",
        _fields,
        params={**period, "groupBy": "cost"},
    )


def http_version(base_url: str) -> str:
    """Return the HTTP version that the service agrees to (RFC 7301)."""
    url = httpx.URL(base_url)
    if url.scheme != "https":
        return "HTTP/1.1, because the address has no TLS"
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection((url.host, url.port or 443), timeout=30) as raw,
        context.wrap_socket(raw, server_hostname=url.host) as secured,
    ):
        return secured.selected_alpn_protocol() or "none was agreed on"


def report(answers: list[Answer]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    yield "| # | Question | Request | Status | Finding |"
    yield "|---:|---|---|---:|---|"
    for number, answer in enumerate(answers, 1):
        cells = (answer.question, answer.request, answer.status, answer.finding)
        yield f"| {number} | {' | '.join(str(cell) for cell in cells)} |"


def _json(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _message(status: int, body: dict[str, Any]) -> str:
    if 200 <= status < 300:
        return "accepted"
    return f"refused: {body.get('error')}, {body.get('message')}"


def _fields(status: int, body: dict[str, Any]) -> str:
    return ", ".join(body) if 200 <= status < 300 else _message(status, body)


def main(argv: list[str] | None = None) -> int:
    """Ask, print the table, and write the answers."""
    parser = argparse.ArgumentParser(prog="python -m scripts.sandbox")
    parser.add_argument("--base-url", default=SANDBOX, help=f"default: {SANDBOX}")
    parser.add_argument("--wait", type=float, default=60.0, help="seconds for events")
    parser.add_argument("--output", type=Path, help="file for the answers, JSON")
    arguments = parser.parse_args(argv)
    key = os.environ.get(KEY_VARIABLE, "")
    if not key or key.startswith(_LIVE_KEY):
        print(f"set {KEY_VARIABLE} to a key of a sandbox, not of a live account")
        return 2
    with Account(arguments.base_url, key, wait=arguments.wait) as account:
        answers = ask_all(account)
    print("\n".join(report(answers)))
    version = http_version(arguments.base_url)
    print(f"\nHTTP version: {version}")
    if arguments.output is not None:
        document = {
            "asked": datetime.now(UTC).isoformat(),
            "service": arguments.base_url,
            "http": version,
            "answers": [answer._asdict() for answer in answers],
        }
        arguments.output.write_text(json.dumps(document, indent=2), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
