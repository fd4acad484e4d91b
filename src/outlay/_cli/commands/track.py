"""``outlay track``: one cost event from the shell."""

from __future__ import annotations

import argparse
import json
import logging
import threading
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from outlay import Client
from outlay._cli.exit_codes import ExitCode
from outlay._cli.options import add_connection, settings_of
from outlay._model.events import decode_event
from outlay._shipping.outcomes import UNMATCHED, Outcome, ServerEffect
from outlay._shipping.wire import read_event_response
from outlay.errors import UnavailableError
from outlay.transport import HttpTransport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from outlay import Receipt, Settings, Stats
    from outlay.transport import TransportResponse

_DESCRIPTION: Final = """\
Track one cost event, and wait until the server has it. What is not delivered in time
stays in the journal; the next use of outlay with the same server delivers it.
"""

_EPILOG: Final = """\
example:
  outlay track cost.ai.inference 0.0042 --customer cus_123 --operation-id job-42 \\
      --provider anthropic --data '{"model": "small"}'

exit codes:
  0  delivered
  1  refused by the server or the journal, or parked for want of a cost metric
  3  not delivered yet; kept in the journal
"""


class TrackResult(NamedTuple):
    """What became of the event: for a script, in words, and as an exit code."""

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


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description, arguments and an example."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("event_type", metavar="EVENT_TYPE", help="such as cost.ai.inference")
    add("amount", metavar="AMOUNT", help="what it cost, to the last digit")
    add(
        "--customer",
        dest="customer_id",
        metavar="ID",
        required=True,
        help="who it is attributed to",
    )
    add(
        "--operation-id",
        metavar="ID",
        help="the operation's own id: tracked again, it counts once",
    )
    add("--provider", metavar="NAME", help="who charges for it")
    add("--operation", metavar="NAME", help="what was done")
    add("--region", metavar="NAME", help="where")
    add("--line", metavar="NAME", help="which of several costs of the operation")
    add("--quantity", metavar="NUMBER", help="how much was consumed")
    add("--unit", metavar="NAME", help="of the quantity")
    add(
        "--timestamp",
        type=datetime.fromisoformat,
        metavar="TIME",
        help="when the cost arose, such as 2026-11-05T12:00:00Z (default: now)",
    )
    add("--data", type=_json_object, metavar="JSON", help="an object of anything else")
    add(
        "--timeout",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="how long to wait for delivery (default: 5)",
    )
    add("--json", action="store_true", help="print the result as JSON")
    add_connection(parser)


def run(arguments: argparse.Namespace) -> int:
    """Track, wait, and say what became of the event."""
    # What the library would log, this command says itself.
    logging.getLogger("outlay").addHandler(logging.NullHandler())
    settings = settings_of(arguments)
    witness = RecordingTransport(settings)
    # Without batches each answer is about one event, and so tells this one's fate.
    client = Client(
        settings,
        transport=lambda: witness,
        shipping="thread",  # whatever applications are told: this waits for the answer
        batching="never",
        linger=0,
    )
    try:
        receipt = client.track_cost(**_event(arguments))
        if not client.stats().dropped:
            witness.wait(
                arguments.event_type, receipt.idempotency_key, arguments.timeout
            )
        # The server is there: what earlier processes left goes, too.
        delivered = witness.reply and witness.reply.outcome is Outcome.DELIVERED
        client.flush(arguments.timeout if delivered else 0.0)
    finally:
        stats = client.close(_SETTLE_SECONDS).stats
    fate = _fate(receipt, stats, witness.reply)
    why = witness.reply.message if witness.reply else witness.trouble
    result = _result(arguments, receipt, fate, stats, why)
    if arguments.json:
        print(json.dumps(result, ensure_ascii=False))
    else:
        _show(result, fate, again=arguments.operation_id is None)
    return fate.code


_SETTLE_SECONDS: Final = 0.5  # to note in the journal an answer that is here already

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


def _event(arguments: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(arguments, name) for name in _EVENT_ARGUMENTS}


_decode_object: Final = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode


def _json_object(text: str) -> dict[str, Any]:
    try:
        return _decode_object(text)
    except msgspec.DecodeError as error:
        raise argparse.ArgumentTypeError(f"not a JSON object ({error})") from None


class RecordingTransport:
    """A transport that remembers what the server said about one event.

    The journal may hold events of earlier processes, which are delivered on the same
    occasion; the client's counts alone do not tell them apart.

    Thread safety: `post` is called on the shipper's threads, `wait` on another.
    """

    def __init__(self, settings: Settings) -> None:
        self._inner = HttpTransport.from_settings(settings)
        self._address = settings.base_url
        self._heard = threading.Condition()
        self._replies: dict[str, EventResponse] = {}  # by key; guarded by _heard
        self._unmatched: dict[str, EventResponse] = {}  # by event type; the same
        self.reply: EventResponse | None = None
        """What the server said about the event waited for, or None."""
        self.trouble = "no answer in time"
        """Why there was no answer, as far as is known."""

    def post(self, path: str, body: bytes) -> TransportResponse:
        """Post, and remember the answer; see `outlay.transport.Transport`."""
        try:
            answer = self._inner.post(path, body)
        except UnavailableError as error:
            self.trouble = f"no answer from {self._address} ({error})"
            raise
        event, reply = decode_event(body), EventResponse.of(answer)
        with self._heard:
            self._replies[event.idempotency_key] = reply
            if reply.unmatched:
                self._unmatched[event.type] = reply
            self._heard.notify_all()
        return answer

    def close(self) -> None:
        """Close all connections."""
        self._inner.close()

    def wait(self, event_type: str, key: str, timeout: float) -> None:
        """Wait until the server has decided about an event, or ``timeout`` seconds."""

        def decided() -> bool:
            # Of a type that nothing counts, one event is sent and the others are
            # parked beside it: its answer is theirs.
            self.reply = self._replies.get(key) or self._unmatched.get(event_type)
            return self.reply is not None and not self.reply.may_change_soon

        with self._heard:
            self._heard.wait_for(decided, timeout)


class EventResponse(NamedTuple):
    """The server's answer to the request of one event.

    Attributes:
        outcome: what it means for the event.
        worth_waiting: whether the next try may be answered otherwise, and soon.
        duplicate: whether the server knew the event.
        unmatched: whether no cost metric counts its type.
        message: the server's own words.
    """

    outcome: Outcome
    may_change_soon: bool
    duplicate: bool
    unmatched: bool
    message: str

    @classmethod
    def of(cls, answer: TransportResponse) -> EventResponse:
        """Return what ``answer`` says."""
        judgement = read_event_response(answer)
        verdict, message = judgement.results[0]
        retry = verdict.outcome is Outcome.RETRY
        # Paused shipping waits for a person: another key, another address.
        worth_waiting = retry and verdict.effect is not ServerEffect.PAUSE
        return cls(
            verdict.outcome,
            worth_waiting,
            judgement.duplicates > 0,
            verdict is UNMATCHED,
            message,
        )


_FATES: Final = {
    Outcome.DELIVERED: _DELIVERED,
    Outcome.PARKED: _PARKED,
    Outcome.DEAD: _DEAD,
    Outcome.RETRY: _REFUSED,
}


def _fate(receipt: Receipt, stats: Stats, reply: EventResponse | None) -> TrackResult:
    if stats.dropped:
        return _DROPPED
    if reply is not None and not reply.may_change_soon:
        return _DUPLICATE if reply.duplicate else _FATES[reply.outcome]
    return _KEPT if receipt.durable else _LOST


def _result(
    arguments: argparse.Namespace,
    receipt: Receipt,
    fate: TrackResult,
    stats: Stats,
    why: str,
) -> dict[str, Any]:
    delivered = fate.code is ExitCode.DONE
    return {
        "eventType": arguments.event_type,
        "amount": arguments.amount,
        "customerId": arguments.customer_id,
        "idempotencyKey": receipt.idempotency_key,
        "fate": fate.name,
        "durable": receipt.durable,
        "message": "" if delivered else why,
        "earlierDelivered": stats.delivered - delivered,
    }


def _show(result: Mapping[str, Any], fate: TrackResult, *, again: bool) -> None:
    print(f"{result['eventType']} {result['amount']} for {result['customerId']}")
    print(f"  {fate.text}")
    if result["message"]:
        print(f"  {result['message']}")
    print(f"  idempotency key {result['idempotencyKey']}")
    if result["earlierDelivered"]:
        print(f"  and {result['earlierDelivered']} earlier events, from the journal")
    if again:
        print("  without --operation-id: the same command again counts again")
