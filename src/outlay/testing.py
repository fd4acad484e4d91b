"""Tests of code that tracks costs: what was tracked, without a server or a disk.

    with outlay.testing.recording() as costs:
        summarise(document, customer_id="cus_123")

    costs.assert_total("0.0123", customer="cus_123")

Nothing is sent, and nothing is written to disk.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from outlay import _default
from outlay._client import Client
from outlay._model.events import CostEvent, decode_event
from outlay._model.money import Amount, exact, exact_sum
from outlay._model.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from decimal import Decimal
    from typing import Unpack

    from outlay._client import DropHook, SettingsInput
    from outlay._model.stats import FlushReport, Stats

__all__ = ("Costs", "RecordingClient", "recording")


class RecordingClient(Client):
    """A client that keeps what it tracks, to be looked at.

    It checks, attributes, keys and encodes as every client does. Recording stands for
    delivery: `stats` counts events as delivered, and as duplicates those whose key
    was recorded before. No thread, no file, no network.

    Thread safety: any thread.
    """

    def __init__(
        self, *, on_drop: DropHook | None = None, **settings: Unpack[SettingsInput]
    ) -> None:
        """Create a client.

        Args:
            on_drop: called when an event is given up, as `Client` does.
            **settings: see `Settings`. The environment is not asked, so that a test
                does the same everywhere.
        """
        offline = {"shipping": "none", "durability": "memory", "metrics": False}
        super().__init__(
            Settings.resolve({**settings, **offline}, environ={}), on_drop=on_drop
        )

    def _begin(self) -> None:
        super()._begin()
        keep = self._append
        self._payloads: list[bytes] = []

        def record(payload: bytes) -> bool:
            durable = keep(payload)
            self._payloads.append(payload)
            return durable

        self._append = record

    @property
    def costs(self) -> Costs:
        """What was tracked so far."""
        return Costs(self)

    def recorded(self) -> list[CostEvent]:
        """Return the events that count, oldest first: one for each key."""
        events = map(decode_event, self._payloads)
        counted: dict[str, CostEvent] = {}
        for event in events:
            counted.setdefault(event.idempotency_key, event)
        return list(counted.values())

    def clear(self) -> None:
        """Forget what was recorded."""
        self._payloads.clear()

    def stats(self) -> Stats:
        """Return where the events are: delivered, for they are recorded."""
        stats = super().stats()
        return stats._replace(
            delivered=stats.pending,
            pending=0,
            duplicates=len(self._payloads) - len(self.recorded()),
        )

    def flush(self, timeout: float = 5.0) -> FlushReport:  # noqa: ARG002 - no wait
        """Return at once: what was recorded counts as delivered."""
        return self._report()


class Costs:
    """What was tracked, asked for in the words of the code under test.

    Every question takes the same filters: ``customer``, ``type``, ``provider``,
    ``operation``, ``operation_id``, ``region``, ``line``, ``unit``, ``provenance``, and
    the name of anything in an event's ``data``, such as a dimension. Events with equal
    keys count once, as they do at a server.
    """

    def __init__(self, client: RecordingClient) -> None:
        self._client = client

    @property
    def client(self) -> RecordingClient:
        """The client that records."""
        return self._client

    @property
    def events(self) -> Sequence[CostEvent]:
        """All events, oldest first."""
        return self._client.recorded()

    def lines(self, **filters: Any) -> Sequence[CostEvent]:  # noqa: ANN401 - JSON
        """Return the events that fit all ``filters``, oldest first."""
        wanted = {_NAMED.get(name, name): value for name, value in filters.items()}
        return [event for event in self.events if _fits(event, wanted)]

    def total(self, **filters: Any) -> Decimal:  # noqa: ANN401 - JSON
        """Return what the events that fit come to, exactly; 0 if there are none."""
        return exact_sum(event.data["amount"] for event in self.lines(**filters))

    def assert_total(self, expected: Amount, **filters: Any) -> None:  # noqa: ANN401
        """Check what the events that fit come to.

        Raises:
            AssertionError: it is something else; the message lists what was tracked.
        """
        total = self.total(**filters)
        if total != exact(expected, allow_credits=True):
            asked = ", ".join(f"{name}={value!r}" for name, value in filters.items())
            message = f"the costs ({asked or 'all'}) come to {total}, not {expected}"
            raise AssertionError(f"{message}\n{self}")

    def clear(self) -> None:
        """Forget what was tracked so far."""
        self._client.clear()

    def __str__(self) -> str:
        """Return a table of what was tracked."""
        rows = [_COLUMNS, *map(_row, self.events)]
        if len(rows) == 1:
            return "nothing was tracked"
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(
                cell.ljust(width) for cell, width in zip(row, widths, strict=True)
            )
            for row in rows
        )


@contextmanager
def recording(**settings: Unpack[SettingsInput]) -> Iterator[Costs]:
    """Put a `RecordingClient` in the place of the default client, for a while.

    Until the block is left, `configure` and `close` leave it in its place: code that
    does so when it starts and stops is tested as it is. A `Client` that the code makes
    for itself is not touched.

    Args:
        **settings: of the client; see `RecordingClient`.
    """
    client = RecordingClient(**settings)
    with _default.stand_in(client):
        yield client.costs
    client.close()


# Filters whose name is not that of the fact in the event.
_NAMED: Final = {"operation_id": "operationId"}

_COLUMNS: Final = ("customer", "type", "provider", "line", "operation id", "amount")
_MISSING: Final = object()


def _facts(event: CostEvent) -> dict[str, Any]:
    return {**event.data, "customer": event.subject, "type": event.type}


def _fits(event: CostEvent, wanted: dict[str, Any]) -> bool:
    facts = _facts(event)
    return all(facts.get(name, _MISSING) == value for name, value in wanted.items())


def _row(event: CostEvent) -> tuple[str, ...]:
    data = event.data
    optional = (data.get(name) for name in ("provider", "line", "operationId"))
    return (
        event.subject,
        event.type,
        *("-" if value is None else str(value) for value in optional),
        f"{data['amount']:f}",
    )
