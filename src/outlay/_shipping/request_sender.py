"""Make one request, and measure it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from outlay._model.clock import thread_cpu_seconds
from outlay._shipping.wire import PlannedRequest, ResponseResult, send

if TYPE_CHECKING:
    from outlay._model.clock import Clock
    from outlay._model.rate_limited_log import RateLimitedLog
    from outlay._shipping.transport import Transport, TransportResponse
    from outlay._telemetry import ClientTelemetry


class Exchange(NamedTuple):
    """A request that was made.

    Attributes:
        request: The request, as it was planned.
        response: The response, or None if there was none.
        result: The results of the events.
        wall: The seconds that the request took.
        cpu: The CPU seconds that its sender used.
    """

    request: PlannedRequest
    response: TransportResponse | None
    result: ResponseResult
    wall: float
    cpu: float


class RequestSender:
    """Makes requests, and reports each to the application's telemetry.

    Thread safety: several senders call `send` at the same time.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        clock: Clock,
        log: RateLimitedLog,
        telemetry: ClientTelemetry | None,
    ) -> None:
        """Send through ``transport``."""
        self._transport: Final = transport
        self._clock: Final = clock
        self._log: Final = log
        self._telemetry: Final = telemetry

    def send(self, request: PlannedRequest) -> Exchange:
        """Make ``request``. An error of the transport counts as no response."""
        started, cpu_started = self._clock.monotonic(), thread_cpu_seconds()
        response, result = send(request, self._transport)
        wall = self._clock.monotonic() - started
        cpu = thread_cpu_seconds() - cpu_started
        exchange = Exchange(request, response, result, wall, cpu)
        if self._telemetry is not None:
            self._record(exchange, self._telemetry)
        return exchange

    def _record(self, exchange: Exchange, telemetry: ClientTelemetry) -> None:
        response = exchange.response
        try:
            telemetry.record_request(
                len(exchange.request.events),
                exchange.wall,
                status=None if response is None else response.status,
                reason=exchange.result.results[0].decision.reason,
            )
        except BaseException as error:  # noqa: BLE001 - of the application's telemetry
            self._log.exception("metrics", error, "a request could not be measured")

    def close(self) -> None:
        """Close the transport."""
        try:
            self._transport.close()
        except Exception as error:  # noqa: BLE001 - of a user's transport; logged
            self._log.exception("transport", error, "the transport could not be closed")
