"""Check the way to the server, the credential, and the server itself."""

from __future__ import annotations

import email.utils
import os
import ssl
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from outlay._cli.commands.doctor.findings import Finding, Level
from outlay._cli.connection import open_api
from outlay._cli.output import pluralize
from outlay._model.clock import SystemClock, to_ms
from outlay._model.settings import Settings, is_loopback
from outlay._shipping.batching import batch_offer
from outlay._shipping.transport import EVENTS_PATH
from outlay._shipping.wire import read_event_response
from outlay.api._connection import Connection
from outlay.errors import (
    OutlayError,
    RejectedError,
    UnavailableError,
)
from outlay.transport import HttpTransport

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from outlay.transport import TransportResponse

SKEW_WARN: Final = 60.0
"""Seconds. The clock of this machine dates events, so skew moves costs from one day or
month into the next. A Date header has whole seconds (RFC 9110, section 5.6.7)."""


_MOST_WAITING_DAYS: Final = 2

_AUTHORISED: Final = frozenset({400, 422})

_CREDENTIAL_FINDINGS: Final = (
    ({401}, "is not accepted: set OUTLAY_API_KEY to a valid one"),
    ({403}, "may not create events: give the key that permission"),
    (
        range(200, 300),
        "every request is accepted, so this is no cost service: check OUTLAY_BASE_URL",
    ),
    (
        {*range(300, 400), 404, 405},
        "the server takes no events: check OUTLAY_BASE_URL",
    ),
)


def check_server(settings: Settings) -> Iterator[Finding]:
    """Yield findings about the server. Nothing is sent that it could store."""
    proxy = _proxy(settings)
    if proxy is not None:
        yield Finding(Level.OK, "proxy", f"requests go through {proxy}")
    if broken := _certificate_problem():
        yield Finding(Level.FAIL, "certificates", broken)
        return
    transport = HttpTransport.from_settings(settings)
    clock = SystemClock()
    try:
        with closing(transport):
            # The body is no event, so the server refuses it. The reason shows whether
            # the key may create events.
            response = transport.post(EVENTS_PATH, b"{}")
    except UnavailableError as error:
        text = f"no response from {settings.base_url} ({error}); start the server, or "
        text += "set OUTLAY_BASE_URL"
        if proxy is not None:
            text += f". The request went through {proxy}: check the proxy, or add the "
            text += "server to NO_PROXY"
        yield Finding(Level.FAIL, "server", text)
        return
    yield Finding(Level.OK, "server", f"{settings.base_url} responds")
    yield _clock(response, clock.now_ms(), settings)
    yield _credential(response)
    offer = batch_offer(response.headers)
    text = f"up to {offer.max_events} events a request" if offer else "not offered"
    yield Finding(Level.OK, "batches", text)
    if response.status in _AUTHORISED:
        yield _metrics(settings)
    yield from _store(settings)


def _store(settings: Settings) -> Iterator[Finding]:
    """Yield what the reference server says of its store. Other servers say nothing."""
    connection = Connection(settings, {}, attempts=1, on_warning=None)
    try:
        response = httpx.get(
            f"{settings.base_url.rstrip('/')}/readyz", **connection.options()
        )
        found = response.json()
    except (httpx.HTTPError, ValueError):
        return
    if not isinstance(found, dict):
        return
    if response.status_code == 503 and "message" in found:
        yield Finding(Level.FAIL, "store", str(found["message"]))
    elif response.status_code == 200 and "store" in found:
        waiting = pluralize(int(found.get("unfoldedRows") or 0), "row")
        text = f"{found['store']}; {waiting} to fold into totals, which are exact"
        yield Finding(Level.OK, "store", text)
    if response.status_code == 200 and isinstance(found.get("history"), dict):
        yield _history(found["history"])


def _proxy(settings: Settings) -> str | None:
    """Return the proxy of the server without its password, and its variable."""
    parts = urlsplit(settings.base_url)
    if is_loopback(settings.base_url) or proxy_bypass(parts.netloc):
        return None
    proxies = getproxies()
    for name in (parts.scheme, "all"):
        if proxy := proxies.get(name):
            address = proxy.rpartition("@")[2]
            if "://" in proxy and "://" not in address:
                address = f"{proxy.partition('://')[0]}://{address}"
            return f"the proxy {address} ({name.upper()}_PROXY)"
    return None


def _certificate_problem() -> str | None:
    """Return what is wrong with the certificates that the environment names."""
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if folder and not Path(folder).is_dir():
        return f"SSL_CERT_DIR={folder} is no folder; correct or unset it"
    if not file:
        return None
    try:
        ssl.create_default_context(cafile=file)
    except FileNotFoundError:
        return f"SSL_CERT_FILE={file} does not exist; correct or unset it"
    except OSError as error:  # and an SSLError is one
        return f"SSL_CERT_FILE={file} has no usable certificate ({error}); correct it"
    return None


def _clock(response: TransportResponse, now_ms: int, settings: Settings) -> Finding:
    date = response.headers.get("date", "")
    try:
        server_ms = to_ms(email.utils.parsedate_to_datetime(date))
    except (TypeError, ValueError):  # There is no date, or it has an unknown form.
        return Finding(Level.WARN, "clock", "the server does not report its time")
    skew = (now_ms - server_ms) / 1000
    if abs(skew) < SKEW_WARN:
        return Finding(Level.OK, "clock", "agrees with the server's, to a minute")
    relation = "ahead of" if skew > 0 else "behind"
    text = (
        f"is {abs(skew):.0f} s {relation} the server's; it dates events, so set it "
        "right (NTP)"
    )
    level = Level.FAIL if abs(skew) > settings.dedupe_margin else Level.WARN
    return Finding(level, "clock", text)


def _credential(response: TransportResponse) -> Finding:
    """Report what the response to an invalid event means for real events."""
    message = read_event_response(response, b"{}").results[0].message
    if response.status in _AUTHORISED:
        return Finding(Level.OK, "credential", "may create events")
    for statuses, remedy in _CREDENTIAL_FINDINGS:
        if response.status in statuses:
            return Finding(Level.FAIL, "credential", f"{remedy} ({message})")
    text = f"the server cannot check it now; try again later ({message})"
    return Finding(Level.WARN, "credential", text)


def _history(found: Mapping[str, Any]) -> Finding:
    """Report how far a server's old days are moved to ClickHouse."""
    until = str(found.get("movedUntil") or "").partition("T")[0]
    text = f"days are in ClickHouse until {until}" if until else "no day is in it yet"
    days = int(found.get("waitingDays", 0))
    waiting = pluralize(days, "day")
    if found.get("isFailing"):
        text += f", {waiting} wait, and moving fails; see the log of the server"
    elif days > _MOST_WAITING_DAYS:
        text += f", and {waiting} wait; check that ClickHouse keeps up"
    else:
        return Finding(Level.OK, "history", text)
    return Finding(Level.WARN, "history", text)


def _metrics(settings: Settings) -> Finding:
    try:
        with open_api(settings) as api:
            count = len(api.metrics())
    except RejectedError as error:
        text = f"cannot be listed, which tracking does not need ({error})"
        return Finding(Level.OK, "metrics", text)
    except OutlayError as error:
        return Finding(Level.WARN, "metrics", f"cannot be listed ({error})")
    if not count:
        text = (
            "there is none, so every event will be parked; type: outlay metrics create "
            "--defaults"
        )
        return Finding(Level.WARN, "metrics", text)
    return Finding(Level.OK, "metrics", pluralize(count, "cost metric"))
