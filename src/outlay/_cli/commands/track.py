"""``outlay track``: track one cost event from the shell."""

from __future__ import annotations

import argparse
import logging
import sys
import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from outlay import Client
from outlay._cli.exit_codes import ExitCode, OutputError
from outlay._cli.options import (
    add_connection_options,
    add_format_options,
    connection_settings,
    parse_time,
)
from outlay._cli.output import pluralize, print_data
from outlay._cli.recording_transport import SETTLE_SECONDS, RecordingTransport
from outlay._cli.streams import discard_output
from outlay._model.events import decode_event
from outlay._shipping.outcomes import UNMATCHED, Outcome, ServerEffect
from outlay._shipping.wire import read_event_response
from outlay.api._responses import UNAUTHORIZED_REMEDY

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from outlay import Receipt, Stats
    from outlay.transport import TransportResponse

_DESCRIPTION: Final = """\
Track one cost event, and wait until the server has it. An event that is not delivered
in time stays in the journal. The next use of outlay with the same server delivers it.
"""

_EPILOG: Final = """\
example:
  outlay track cost.ai.inference 0.0042 --customer cus_123 --operation-id job-42 \\
      --provider anthropic --data '{"model": "small"}'

exit codes:
  0  delivered
  1  refused by the server or the journal, or parked because no cost metric counts it
  3  not delivered yet; kept in the journal
"""


class TrackResult(NamedTuple):
    """The outcome of the event: for scripts, in words, and as an exit code."""

    name: str
    text: str
    code: ExitCode


_DELIVERED: Final = TrackResult("delivered", "delivered", ExitCode.DONE)
_DUPLICATE: Final = TrackResult(
    "duplicate",
    "delivered; the server knew it already and counts it once",
    ExitCode.DONE,
)
_DROPPED: Final = TrackResult(
    "dropped", "dropped: the journal is full", ExitCode.REFUSED
)
_PARKED: Final = TrackResult("parked", "parked in the journal", ExitCode.REFUSED)
_DEAD: Final = TrackResult("dead", "refused; kept as a dead letter", ExitCode.REFUSED)
_REFUSED: Final = TrackResult("kept", "refused; kept in the journal", ExitCode.REFUSED)
_KEPT: Final = TrackResult(
    "kept", "not delivered yet; kept in the journal", ExitCode.UNREACHABLE
)
_LOST: Final = TrackResult(
    "lost", "not delivered, and no folder to keep it in", ExitCode.UNREACHABLE
)

_RESULTS: Final = {
    Outcome.DELIVERED: _DELIVERED,
    Outcome.PARKED: _PARKED,
    Outcome.DEAD: _DEAD,
    Outcome.RETRY: _REFUSED,
}

_EVENT_ARGUMENTS: Final = (
    "event_type",
    "amount",
    "customer_id",
    "operation_id",
    "provider",
    "operation",
    "region",
    "line",
    "quantity",
    "unit",
    "timestamp",
    "data",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the description, the arguments and an example."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("event_type", metavar="EVENT_TYPE", help="such as cost.ai.inference")
    add("amount", metavar="AMOUNT", help="the exact amount, such as 0.0042")
    add(
        "--customer",
        dest="customer_id",
        metavar="ID",
        required=True,
        help="the customer who caused the cost",
    )
    add(
        "--operation-id",
        metavar="ID",
        help="an id of the operation; tracked again with it, the event counts once",
    )
    add("--provider", metavar="NAME", help="the provider that charges")
    add("--operation", metavar="NAME", help="the kind of work")
    add("--region", metavar="NAME", help="the region where it ran")
    add("--line", metavar="NAME", help="one of several costs of the operation")
    add("--quantity", metavar="NUMBER", help="the quantity that was consumed")
    add("--unit", metavar="NAME", help="the unit of the quantity")
    add(
        "--timestamp",
        type=parse_time,
        metavar="TIME",
        help="the time of the cost, such as 2026-11-05 or 2026-11-05T12:00:00Z; UTC "
        "without an offset (default: now)",
    )
    add("--data", type=_json_object, metavar="JSON", help="an object with more fields")
    add(
        "--timeout",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="wait this long for delivery (default: 5)",
    )
    add_format_options(parser)
    add_connection_options(parser)


_decode_object: Final = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode


def _json_object(text: str) -> dict[str, Any]:
    try:
        return _decode_object(text)
    except msgspec.DecodeError as error:
        raise argparse.ArgumentTypeError(f"not a JSON object ({error})") from None


def run(arguments: argparse.Namespace) -> int:
    """Track, wait, and print the outcome."""
    # The command prints what the library would log.
    logging.getLogger("outlay").addHandler(logging.NullHandler())
    settings = connection_settings(arguments)
    responses = EventResponses()
    transport = RecordingTransport(settings, on_response=responses.add)
    client = Client(
        settings,
        transport=lambda: transport,
        shipping="thread",  # Whatever the settings say: this command waits.
        batching="never",  # So that each response is about one event.
        linger=0,
    )
    try:
        receipt = client.track_cost(
            **{name: getattr(arguments, name) for name in _EVENT_ARGUMENTS}
        )
        response = None
        if not client.stats().dropped:
            response = responses.wait(
                arguments.event_type, receipt.idempotency_key, arguments.timeout
            )
        delivered = response is not None and response.outcome is Outcome.DELIVERED
        # A server that responds also gets the events of earlier processes.
        client.flush(arguments.timeout if delivered else 0.0)
    finally:
        stats = client.close(SETTLE_SECONDS).stats
    outcome = _outcome(receipt, stats, response)
    message = response.message if response else transport.failure
    message = message or "no response in time"
    result = {
        "eventType": arguments.event_type,
        "amount": arguments.amount,
        "customerId": arguments.customer_id,
        "idempotencyKey": receipt.idempotency_key,
        "outcome": outcome.name,
        "durable": receipt.durable,
        "message": "" if outcome.code is ExitCode.DONE else message,
        "earlierDelivered": stats.delivered - (outcome.code is ExitCode.DONE),
    }
    _print(arguments, result, outcome)
    return outcome.code


def _print(
    arguments: argparse.Namespace, result: Mapping[str, Any], outcome: TrackResult
) -> None:
    """Print the result, or the reason that this fails.

    The exit code must say the outcome. On another one, a script tracks again.
    """
    try:
        if arguments.format:
            print_data(arguments.format, result, [result])
        else:
            _print_result(result, outcome, has_id=arguments.operation_id is not None)
        sys.stdout.flush()
    except (OutputError, BrokenPipeError) as error:
        discard_output()
        print(f"outlay: {error}", file=sys.stderr)


class EventResponse(NamedTuple):
    """The server's response to the request of one event.

    Attributes:
        outcome: The outcome that the response has for the event.
        may_change_soon: Whether the next try may have another outcome soon.
        duplicate: Whether the server knew the event.
        unmatched: Whether no cost metric counts the event's type.
        message: The server's message.
    """

    outcome: Outcome
    may_change_soon: bool
    duplicate: bool
    unmatched: bool
    message: str

    @classmethod
    def from_response(cls, response: TransportResponse, body: bytes) -> Self:
        """Read a response."""
        result = read_event_response(response, body)
        decision, message = result.results[0]
        if response.status == 401:
            message += f"; {UNAUTHORIZED_REMEDY}"
        # A pause waits for a person: another key, another address.
        may_change_soon = (
            decision.outcome is Outcome.RETRY
            and decision.effect is not ServerEffect.PAUSE
        )
        return cls(
            decision.outcome,
            may_change_soon,
            result.duplicates > 0,
            decision is UNMATCHED,
            message,
        )


class EventResponses:
    """The last response to each event.

    The journal may hold events of earlier processes, which are delivered at the same
    time. The client's counts alone do not tell them apart.

    Thread safety: The shipper's threads call `add`; another thread calls `wait`.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._by_key: dict[str, EventResponse] = {}
        self._unmatched_by_type: dict[str, EventResponse] = {}

    def add(self, body: bytes, transport_response: TransportResponse) -> None:
        """Remember the response to the event in ``body``."""
        event = decode_event(body)
        response = EventResponse.from_response(transport_response, body)
        with self._changed:
            self._by_key[event.idempotency_key] = response
            if response.unmatched:
                self._unmatched_by_type[event.type] = response
            self._changed.notify_all()

    def wait(self, event_type: str, key: str, timeout: float) -> EventResponse | None:
        """Wait for a final response to an event.

        Args:
            event_type: The event's type. If no cost metric counts a type, one event is
                sent and the others are parked: its response is theirs.
            key: The event's idempotency key.
            timeout: The limit in seconds.

        Returns:
            The last response, or None if there was none.
        """

        def latest() -> EventResponse | None:
            return self._by_key.get(key) or self._unmatched_by_type.get(event_type)

        def is_final() -> bool:
            response = latest()
            return response is not None and not response.may_change_soon

        with self._changed:
            self._changed.wait_for(is_final, timeout)
            return latest()


def _outcome(
    receipt: Receipt, stats: Stats, response: EventResponse | None
) -> TrackResult:
    if stats.dropped:
        return _DROPPED
    if response is not None and not response.may_change_soon:
        return _DUPLICATE if response.duplicate else _RESULTS[response.outcome]
    return _KEPT if receipt.durable else _LOST


def _print_result(
    result: Mapping[str, Any], outcome: TrackResult, *, has_id: bool
) -> None:
    print(f"{result['eventType']} {result['amount']} for {result['customerId']}")
    print(f"  {outcome.text}")
    if result["message"]:
        print(f"  {result['message']}")
    print(f"  idempotency key {result['idempotencyKey']}")
    if earlier := result["earlierDelivered"]:
        print(f"  and {pluralize(earlier, 'earlier event')} from the journal")
    if not has_id:
        print("  without --operation-id, the same command counts again")
