"""Remember how much of each customer's budget is spent, and ask the server for it.

A call reads memory. A thread reads the statuses that are missing or old, one after the
other. It lives only while there is something to ask.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

import httpcore  # noqa: F401 - httpx imports it with its first client, on our thread
import httpx
import msgspec

from outlay._model.clock import SystemClock, from_ms
from outlay._shipping.client_options import client_options, request_headers
from outlay.errors import OutlayError, RejectedError, UnavailableError

if TYPE_CHECKING:
    from outlay._model.settings import Settings

_PATH: Final = "/v0/budgets"
_MOST_CUSTOMERS: Final = 10_000  # remembered; the one asked for least recently goes
_MOST_WAITING: Final = 1000  # customers whose status is read next
_PAUSE_SECONDS: Final = 5.0  # after a failure, in which the server is not asked
_MOST_BUDGETS: Final = 100  # of one customer, the largest page


class BudgetStatus(NamedTuple):
    """The spent part of a budget.

    Attributes:
        budget_id: The budget's id.
        name: The budget's name for people.
        limit: The limit of the period.
        spent: The costs of the period, exact.
        currency: The currency of the limit and of the costs, ISO 4217.
        share: The costs in percent of the limit, rounded to hundredths.
        start: The start of the period.
        end: The end of the period, which does not count.
        passed: The thresholds that the costs reached, in percent.
        read_at: The time at which the server responded.
    """

    budget_id: str
    name: str
    limit: Decimal
    spent: Decimal
    currency: str
    share: Decimal
    start: datetime
    end: datetime
    passed: tuple[int, ...]
    read_at: datetime


class _Known(NamedTuple):
    """The last response about a customer, and its monotonic time."""

    status: BudgetStatus | None
    at: float


class BudgetCache:
    """The statuses of the customers that were asked for. Thread safety: any thread.

    Args:
        settings: The address, the credential and the time limits.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clock = SystemClock()
        self._changed = threading.Condition()
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._waiting: OrderedDict[str, None] = OrderedDict()
        self._error: OutlayError | None = None
        self._asks_after = 0.0
        self._is_asking = False

    def status(
        self, customer: str, timeout: float, max_age: float, *, strict: bool
    ) -> BudgetStatus | None:
        """Return the status of a customer's budget; see `outlay.Client.budget`."""
        started = self._clock.monotonic()
        with self._changed:
            if not self._is_fresh(customer, started - max_age):
                self._ask(customer)
                if timeout > 0:
                    self._changed.wait_for(
                        lambda: (
                            customer not in self._waiting
                            or self._is_fresh(customer, started - max_age)
                        ),
                        timeout,
                    )
            known = self._known.get(customer)
            if known is not None:
                self._known.move_to_end(customer)
                return self._of_this_period(known)
            if strict:
                raise self._error or UnavailableError(
                    f"{self._settings.base_url} has not responded yet; pass a timeout, "
                    "or ask again",
                    sent=False,
                )
            return None

    def _is_fresh(self, customer: str, since: float) -> bool:
        known = self._known.get(customer)
        return known is not None and known.at >= since

    def _of_this_period(self, known: _Known) -> BudgetStatus | None:
        """Return a status, unless its period is over."""
        status = known.status
        if status is None or from_ms(self._clock.now_ms()) >= status.end:
            return None
        return status

    def _ask(self, customer: str) -> None:
        """Let the thread read a status, unless it is paused. The lock is held."""
        if self._clock.monotonic() < self._asks_after:
            return
        if customer not in self._waiting and len(self._waiting) < _MOST_WAITING:
            self._waiting[customer] = None
        if self._is_asking:
            return
        thread = threading.Thread(
            target=self._read_all, name="outlay-budgets", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter ends
            self._waiting.clear()
        else:
            self._is_asking = True

    def _read_all(self) -> None:
        """Read the statuses that wait. On the thread."""
        try:
            with self._client() as client:
                while (customer := self._next()) is not None:
                    self._read(client, customer)
        except OutlayError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - the caller must not notice
            text = f"{self._settings.base_url} is no outlay server ({error})"
            self._fail(UnavailableError(text, sent=True))

    def _client(self) -> httpx.Client:
        return httpx.Client(
            base_url=self._settings.base_url,
            headers=request_headers(self._settings),
            **client_options(self._settings),
        )

    def _next(self) -> str | None:
        """Return the next customer. None ends the thread."""
        with self._changed:
            if self._waiting:
                return next(iter(self._waiting))
            self._is_asking = False
            return None

    def _read(self, client: httpx.Client, customer: str) -> None:
        query = {"customerId": customer, "limit": str(_MOST_BUDGETS)}
        try:
            response = client.get(_PATH, params=query)
        except httpx.HTTPError as error:
            raise UnavailableError(
                f"no response from {self._settings.base_url} ({error}); start the "
                "server, or set OUTLAY_BASE_URL",
                sent=not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout),
            ) from error
        if not response.is_success:
            raise _error_of(response)
        status = _status_of(response.content, from_ms(self._clock.now_ms()))
        with self._changed:
            self._error = None
            self._known[customer] = _Known(status, self._clock.monotonic())
            if len(self._known) > _MOST_CUSTOMERS:
                self._known.popitem(last=False)
            self._waiting.pop(customer, None)
            self._changed.notify_all()

    def _fail(self, error: OutlayError) -> None:
        """Remember an error, forget what waits, and ask no more for a while."""
        with self._changed:
            self._error = error
            self._asks_after = self._clock.monotonic() + _PAUSE_SECONDS
            self._waiting.clear()
            self._is_asking = False
            self._changed.notify_all()


# Only the fields that a status has.
class _Period(msgspec.Struct):
    start: datetime = msgspec.field(name="from")
    end: datetime = msgspec.field(name="to")


class _Passed(msgspec.Struct):
    percent: int


class _State(msgspec.Struct, rename="camel"):
    period: _Period
    spent: Decimal
    share_pct: Decimal
    passed: list[_Passed]


class _Budget(msgspec.Struct):
    id: str
    name: str
    limit: Decimal
    currency: str
    state: _State


class _Budgets(msgspec.Struct):
    data: list[_Budget]


_decode: Final = msgspec.json.Decoder(_Budgets).decode


def _status_of(content: bytes, now: datetime) -> BudgetStatus | None:
    """Return the status with the largest share of a response."""
    found = [
        BudgetStatus(
            one.id,
            one.name,
            one.limit,
            one.state.spent,
            one.currency,
            one.state.share_pct,
            one.state.period.start.astimezone(UTC),
            one.state.period.end.astimezone(UTC),
            tuple(each.percent for each in one.state.passed),
            now,
        )
        for one in _decode(content).data
    ]
    return max(found, key=lambda one: one.share, default=None)


def _error_of(response: httpx.Response) -> OutlayError:
    status = response.status_code
    message = f"HTTP {status}: the budgets cannot be read"
    if response.is_server_error or status == httpx.codes.TOO_MANY_REQUESTS:
        return UnavailableError(message, sent=True, status=status)
    if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        message += "; use a key with the permission budgets:read"
    return RejectedError(message, status=status)
