"""CPU of one small request, through one library or layer of it after the other.

Against a server that says yes to everything, in a process of its own: what is measured
is the client. The time is that of the calling thread alone, so that other programs on
the machine disturb little; each variant's best of several rounds counts.

Run it with ``python -m bench.transport``.
"""

from __future__ import annotations

import gc
import http.client
import time
from contextlib import closing
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

import httpcore
import httpcore2
import httpx
import httpx2

from bench._measure import show
from bench._servers import KEY, sink
from outlay.transport import HttpTransport

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

ROUNDS: Final = 5
REQUESTS: Final = 400

_PATH: Final = "/v0/events"
_HEADERS: Final = {
    "accept": "application/json",
    "authorization": f"Bearer {KEY}",
    "content-type": "application/json",
}
_BODY: Final = (
    b'{"type":"cost.ai.inference","source":"urn:outlay:app","subject":"cus_1",'
    b'"timestamp":"2026-01-01T00:00:00.000Z",'
    b'"idempotencyKey":"ok1_9bfcaa23eaaed2c3ef65d73751388a7f6a7026d9",'
    b'"data":{"amount":0.0042,"provider":"anthropic",'
    b'"operation":"document-extraction","region":"us-east-1"}}'
)


class Variant(NamedTuple):
    """One way to post `_BODY`: posts it, returns the status, and is closed."""

    post: Callable[[], int]
    close: Callable[[], object]


def main() -> None:
    """Measure and print."""
    with sink() as url:
        variants = {name: make(url) for name, make in _VARIANTS.items()}
        best = _best_of(variants)
        for variant in variants.values():
            variant.close()
    floor = best["http.client"]
    show(
        "CPU of one small request on the calling thread",
        ("variant", "µs", "x http.client"),
        [
            (name, f"{micros:.0f}", f"{micros / floor:.1f}")
            for name, micros in sorted(best.items(), key=lambda item: item[1])
        ],
    )


def _best_of(variants: dict[str, Variant]) -> dict[str, float]:
    """Return microseconds of CPU a request; rounds alternate, to share the noise."""
    best: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name, variant in variants.items():
            assert variant.post() == 202  # warm, and connected
            gc.collect()
            started = time.thread_time()
            for _ in range(REQUESTS):
                variant.post()
            micros = (time.thread_time() - started) / REQUESTS * 1e6
            best[name] = min(micros, best.get(name, micros))
    return best


def _by_hand(url: str) -> Variant:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)

    def post() -> int:
        connection.request("POST", _PATH, body=_BODY, headers=_HEADERS)
        response = connection.getresponse()
        response.read()
        return response.status

    return Variant(post, connection.close)


def _by_engine(library: ModuleType) -> Callable[[str], Variant]:
    def make(url: str) -> Variant:
        pool = library.ConnectionPool()
        headers = [("host", urlsplit(url).netloc), *_HEADERS.items()]
        headers.append(("content-length", str(len(_BODY))))
        target = library.URL(url + _PATH)
        timeout = {"timeout": {"connect": 10, "read": 10, "write": 10, "pool": 10}}

        def post() -> int:
            request = library.Request(
                "POST", target, headers=headers, content=_BODY, extensions=timeout
            )
            response = pool.handle_request(request)
            with closing(response):
                response.read()
            return int(response.status)

        return Variant(post, pool.close)

    return make


def _by_transport(library: ModuleType) -> Callable[[str], Variant]:
    def make(url: str) -> Variant:
        transport = library.HTTPTransport()
        headers = library.Headers({"host": urlsplit(url).netloc, **_HEADERS})
        target = library.URL(url + _PATH)
        timeout = {"timeout": library.Timeout(10).as_dict()}

        def post() -> int:
            request = library.Request(
                "POST", target, headers=headers, content=_BODY, extensions=timeout
            )
            response = transport.handle_request(request)
            response.read()
            return int(response.status_code)

        return Variant(post, transport.close)

    return make


def _by_send(library: ModuleType) -> Callable[[str], Variant]:
    def make(url: str) -> Variant:
        client = library.Client(timeout=10, trust_env=False)
        headers = library.Headers(_HEADERS)
        target = library.URL(url + _PATH)
        timeout = {"timeout": library.Timeout(10).as_dict()}

        def post() -> int:
            request = library.Request(
                "POST", target, headers=headers, content=_BODY, extensions=timeout
            )
            return int(client.send(request).status_code)

        return Variant(post, client.close)

    return make


def _by_post(library: ModuleType) -> Callable[[str], Variant]:
    def make(url: str) -> Variant:
        client = library.Client(headers=_HEADERS, timeout=10, trust_env=False)
        target = url + _PATH
        return Variant(
            lambda: int(client.post(target, content=_BODY).status_code), client.close
        )

    return make


def _by_outlay(library: ModuleType | None) -> Callable[[str], Variant]:
    def make(url: str) -> Variant:
        transport = HttpTransport(
            url,
            api_key=KEY,
            timeout=10,
            max_connections=8,
            client=library.Client if library else None,
        )
        return Variant(lambda: transport.post(_PATH, _BODY).status, transport.close)

    return make


_VARIANTS: Final[dict[str, Callable[[str], Variant]]] = {
    "http.client": _by_hand,
    "httpcore": _by_engine(httpcore),
    "httpcore2": _by_engine(httpcore2),
    "httpx.HTTPTransport": _by_transport(httpx),
    "httpx2.HTTPTransport": _by_transport(httpx2),
    "httpx.Client.send": _by_send(httpx),
    "httpx2.Client.send": _by_send(httpx2),
    "httpx.Client.post": _by_post(httpx),
    "httpx2.Client.post": _by_post(httpx2),
    "outlay": _by_outlay(None),
    "outlay, lent httpx": _by_outlay(httpx),
    "outlay, lent httpx2": _by_outlay(httpx2),
}


if __name__ == "__main__":
    main()
