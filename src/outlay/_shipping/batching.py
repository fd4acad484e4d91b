"""Decide how many events go into one request.

Every compatible service takes one event a request. Batches are used only if the server
advertises them in a response header: a service that does not know the extension never
receives a request that it did not document.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from outlay._shipping.outcomes import MAYBE_ONE_EVENT, Received
from outlay._shipping.transport import EVENTS_PATH

if TYPE_CHECKING:
    from collections.abc import Mapping

    from outlay._model.rate_limited_log import RateLimitedLog
    from outlay._model.settings import Settings
    from outlay._shipping.transport import TransportResponse
    from outlay._shipping.wire import PlannedRequest, ResponseResult

PAUSE_SECONDS: Final = 300.0
"""The time without batches after a batch failed as a whole, if that may have been one
event's fault. It suffices to park that event singly. The same time passes before
batches that were halved may grow again."""

REFUSED_PAUSE: Final = (60.0, 3600.0)
"""The first and the longest time without batches after the server refused one. The time
doubles with each refusal. During a rolling deploy, one server in many does not know
the extension yet."""

MAX_IN_FLIGHT: Final = 2
"""The largest number of batches in flight: one is prepared while another is stored."""

_HEADER: Final = "outlay-batch"  # /v0/events/batch; max=1000
_NUMBER_DIGITS: Final = 9  # of a header's parameter; Python refuses very long ones


class BatchOffer(NamedTuple):
    """A server's offer of its batch extension.

    Attributes:
        path: The path of batch requests.
        max_events: The largest number of events in a batch.
    """

    path: str
    max_events: int


DEFAULT_OFFER: Final = BatchOffer("/v0/events/batch", 1000)
"""The batch extension as the reference server has it."""


def batch_offer(headers: Mapping[str, str]) -> BatchOffer | None:
    """Return the batch extension that a response's headers advertise, if any."""
    value = headers.get(_HEADER)
    if value is None:
        return None
    path, _, parameter = value.partition(";")
    name, _, number = parameter.strip().partition("=")
    max_events = DEFAULT_OFFER.max_events
    if name == "max" and number.isdecimal() and len(number) <= _NUMBER_DIGITS:
        max_events = int(number)
    path = path.strip()
    # Other characters are not allowed in a request's path (RFC 9112, section 3.2).
    sendable = path.isascii() and path.isprintable() and " " not in path
    if not path.startswith("/") or not sendable or max_events < 1:
        return None
    return BatchOffer(path, max_events)


class Batching:
    """Chooses between singles and batches, and the size of batches.

    Thread safety: caller holds the shipper's lock.
    """

    def __init__(self, settings: Settings, log: RateLimitedLog) -> None:
        """Begin with singles, unless the setting is ``always``."""
        self._always: Final = settings.batching == "always"
        self._max_batch_events: Final = settings.max_batch_events
        self._log: Final = log
        self._offer = DEFAULT_OFFER if self._always else None
        # Monotonic seconds. Before them, no offer is accepted, or no batch may grow.
        self._accept_from = math.inf if settings.batching == "never" else -math.inf
        self._grow_from = math.inf
        self._refusals = 0  # in a row

    @property
    def enabled(self) -> bool:
        """Whether the next request is a batch."""
        return self._offer is not None

    @property
    def capacity(self) -> int:
        """The largest number of events in one request."""
        if self._offer is None:
            return 1
        return min(self._offer.max_events, self._max_batch_events)

    @property
    def path(self) -> str:
        """The path of the next request."""
        return EVENTS_PATH if self._offer is None else self._offer.path

    def update(
        self,
        request: PlannedRequest,
        response: TransportResponse,
        result: ResponseResult,
        now: float,
    ) -> None:
        """Learn from a response.

        Args:
            request: The request, as it was planned.
            response: The server's response.
            result: The results of the events.
            now: The monotonic time, in seconds.
        """
        first = result.results[0]
        if result.batch_failed:
            # A fault may have been the fault of one event, which singly is soon parked.
            refused = first.decision.received is Received.NO
            self._stop(
                first.message,
                now + (self._next_refused_pause() if refused else PAUSE_SECONDS),
            )
        elif request.batched and _may_be_one_events(response, result):
            self._stop(first.message, now + PAUSE_SECONDS)
        elif result.too_large and self._offer is not None:
            self._halve(len(request.events), now)
        elif self._offer is None and now >= self._accept_from:
            self._offer = self._offered(response)
        elif self._offer is not None and request.batched and now >= self._grow_from:
            # Those events were large, or the server's limit was small. It may be over.
            self._offer = self._offered(response) or self._offer
            self._grow_from = math.inf
        if request.batched and response.status < 300 and not result.batch_failed:
            self._refusals = 0

    def _next_refused_pause(self) -> float:
        initial, longest = REFUSED_PAUSE
        self._refusals += 1
        return float(min(longest, initial * 2 ** min(self._refusals - 1, 10)))

    def _offered(self, response: TransportResponse) -> BatchOffer | None:
        return DEFAULT_OFFER if self._always else batch_offer(response.headers)

    def _halve(self, sent: int, now: float) -> None:
        if sent < 2 or self._offer is None:
            pause = self._next_refused_pause()
            self._stop("not even a batch of one is small enough", now + pause)
            return
        self._offer = self._offer._replace(max_events=sent // 2)
        self._grow_from = now + PAUSE_SECONDS

    def _stop(self, why: str, accept_from: float) -> None:
        self._offer = None
        self._accept_from = accept_from
        self._log.warn(
            "batch", "the server refuses batches (%s); events go one by one", why
        )


def _may_be_one_events(response: TransportResponse, result: ResponseResult) -> bool:
    """Return whether the whole batch was refused, perhaps for one event's text."""
    whole = response.status >= 300
    return whole and result.results[0].decision.reason in MAYBE_ONE_EVENT
