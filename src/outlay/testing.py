"""Test code that tracks costs, without a server or a disk.

    with outlay.testing.recording() as costs:
        summarise(document, customer_id="cus_123")

    costs.assert_total("0.0123", customer="cus_123")

With pytest, the fixture ``costs`` does the same. See docs/testing.md. Nothing is sent,
and nothing is written to disk.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import msgspec

from outlay import _default_client as _default
from outlay._capture.recorder import forget_client
from outlay._client import Client
from outlay._client_hooks import Hooks
from outlay._client_options import SettingsInput
from outlay._journal.journal import Journal
from outlay._journal.unpriced_store import UnpricedStore
from outlay._model.events import CostEvent, decode_event
from outlay._model.money import Amount, exact_sum, to_exact_decimal
from outlay._model.settings import Settings
from outlay._model.unpriced_cost import UnpricedCost
from outlay._pipeline import Pipeline
from outlay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from decimal import Decimal
    from typing import Unpack

    from outlay._client_options import DropHook
    from outlay._model.stats import FlushResult, Stats

__all__ = ("Costs", "RecordingClient", "SettingsInput", "UnpricedCall", "recording")


class RecordingClient(Client):
    """A client that keeps the events that it tracks, for assertions.

    It checks, attributes, keys and encodes as every client does. To record an event is
    to deliver it: `stats` counts events as delivered, and as duplicates those whose key
    was recorded before. It uses no thread, no file and no network.

    Thread safety: any thread.
    """

    def __init__(
        self, *, on_drop: DropHook | None = None, **settings: Unpack[SettingsInput]
    ) -> None:
        """Create a client.

        Args:
            on_drop: A function that is called when an event is dropped.
            **settings: Single settings. See `Settings`. Environment variables are not
                read, so that a test does the same everywhere.
        """
        offline = {"shipping": "none", "durability": "memory", "metrics": False}
        resolved = Settings.resolve({**settings, **offline}, environ={})
        self._recording = _RecordingPipeline(resolved, hooks=Hooks(on_drop))
        self._open(self._recording)

    @property
    def costs(self) -> Costs:
        """The costs that were tracked so far."""
        return Costs(self)

    def recorded(self) -> list[CostEvent]:
        """Return the events that count, oldest first: one for each key."""
        return self._recording.counted_events()

    def recorded_unpriced(self) -> list[UnpricedCall]:
        """Return the captured calls without a price, oldest first."""
        return [
            UnpricedCall(decode_event(bytes(cost.event)), cost.reason, cost.message)
            for cost in self._recording.recorded_unpriced.costs()
        ]

    def clear(self) -> None:
        """Forget all recorded costs. The same events and calls count again."""
        self._recording.recorded.payloads.clear()
        self._recording.recorded_unpriced.reset_after_fork()
        forget_client(self)


class UnpricedCall(NamedTuple):
    """A captured call without a known price. In production it would wait for one.

    Attributes:
        event: The later cost event, without its amount.
        reason: The reason in one word, such as ``unknown_model``.
        message: The same reason for people.
    """

    event: CostEvent
    reason: str
    message: str


class Costs:
    """The tracked costs.

    The methods take the same filters: ``customer``, ``type``, ``provider``,
    ``operation``, ``operation_id``, ``region``, ``line``, ``unit``, ``provenance``,
    ``currency``, and any name in an event's ``data``, such as a dimension. The value
    None selects events without that field. Events with equal keys count once, as they
    do at a server.

    Thread safety: any thread.
    """

    def __init__(self, client: RecordingClient) -> None:
        self._client = client

    @property
    def client(self) -> RecordingClient:
        """The client that records, for code that takes one."""
        return self._client

    @property
    def events(self) -> Sequence[CostEvent]:
        """All events, oldest first."""
        return self._client.recorded()

    @property
    def unpriced(self) -> Sequence[UnpricedCall]:
        """The captured calls without a price, oldest first. No total includes them."""
        return self._client.recorded_unpriced()

    def events_where(self, **filters: Any) -> Sequence[CostEvent]:  # noqa: ANN401 - JSON
        """Return the events that match all ``filters``, oldest first."""
        fits = self._matcher(filters)
        return [event for event in self.events if fits(event)]

    def total(self, **filters: Any) -> Decimal:  # noqa: ANN401 - JSON
        """Return the exact sum of the events that match, or 0 if there are none.

        Raises:
            ConfigError: The events are in several currencies. Pass ``currency=``.
        """
        events = self.events_where(**filters)
        currencies = sorted(
            {str(self._searchable_fields(event)["currency"]) for event in events}
        )
        if len(currencies) > 1:
            raise ConfigError(
                f"costs in {' and '.join(currencies)} do not add up; ask for one, as "
                f"in total(currency={currencies[0]!r})"
            )
        return exact_sum(event.data["amount"] for event in events)

    def assert_total(self, expected: Amount, **filters: Any) -> None:  # noqa: ANN401
        """Check the sum of the events that match.

        Args:
            expected: The exact total. A str is read as Python reads a decimal literal.
            **filters: The filters. The class explains them.

        Raises:
            AssertionError: The sum differs. The message lists all tracked costs.
            ConfigError: The events are in several currencies. Pass ``currency=``.
        """
        __tracebackhide__ = True  # pytest shows the caller's line
        total = self.total(**filters)
        if total != to_exact_decimal(expected, allow_credits=True, field="expected"):
            asked = ", ".join(f"{name}={value!r}" for name, value in filters.items())
            message = f"the costs ({asked or 'all'}) sum to {total:f}, not {expected}"
            raise AssertionError(f"{message}\n{self._table(self._matcher(filters))}")

    def clear(self) -> None:
        """Forget all tracked costs. The same events and calls count again."""
        self._client.clear()

    def __repr__(self) -> str:
        """Return the counts, which pytest shows if a comparison fails."""
        return f"<Costs events={len(self.events)} unpriced={len(self.unpriced)}>"

    def __str__(self) -> str:
        """Return a table of the tracked costs."""
        return self._table(lambda _: False)

    def _searchable_fields(self, event: CostEvent) -> dict[str, Any]:
        currency = self._client.settings.currency
        named = {"customer": event.subject, "type": event.type}
        return {"currency": currency, **event.data, **named}

    def _matcher(self, filters: Mapping[str, Any]) -> Callable[[CostEvent], bool]:
        wanted = {_NAMED.get(name, name): value for name, value in filters.items()}
        for name, convert in (
            ("customer", self._client.subject_for),
            ("operationId", str),
        ):
            if wanted.get(name) is not None:
                wanted[name] = convert(wanted[name])

        def fits(event: CostEvent) -> bool:
            fields = self._searchable_fields(event)
            return all(fields.get(name) == value for name, value in wanted.items())

        return fits

    def _table(self, counted: Callable[[CostEvent], bool]) -> str:
        rows = [
            ("*" if counted(event) else "", *_cells(event), f"{event.data['amount']:f}")
            for event in self.events
        ]
        rows += [
            ("", *_cells(cost.event), f"unpriced: {cost.reason}")
            for cost in self.unpriced
        ]
        return _aligned([_COLUMNS, *rows]) if rows else "nothing was tracked"


@contextmanager
def recording(**settings: Unpack[SettingsInput]) -> Iterator[Costs]:
    """Make a `RecordingClient` the default client until the block ends.

    Meanwhile `configure` and `close` leave it in place, so code that calls them can be
    tested unchanged. A `Client` that the code creates for itself is not affected.

    Args:
        **settings: Single settings. See `RecordingClient`.
    """
    client = RecordingClient(**settings)
    with client, _default.replaced_for_tests(client):
        yield client.costs


class _RecordingPipeline(Pipeline):
    """Records events and unpriced costs. To record an event is to deliver it."""

    def __init__(self, settings: Settings, *, hooks: Hooks) -> None:
        super().__init__(
            settings,
            hooks=hooks,
            journal_class=_RecordingJournal,
            unpriced_class=_RecordedUnpriced,
        )
        # The types of what was passed in.
        self.recorded = cast("_RecordingJournal", self.journal)
        self.recorded_unpriced = cast("_RecordedUnpriced", self.unpriced)

    def counted_events(self) -> list[CostEvent]:
        """Return the events that count, oldest first: one for each key."""
        counted: dict[str, CostEvent] = {}
        for event in map(decode_event, self.recorded.payloads):
            counted.setdefault(event.idempotency_key, event)
        return list(counted.values())

    def stats(self) -> Stats:
        """Return where the events are: all are delivered."""
        stats = super().stats()
        return stats._replace(
            delivered=stats.pending,
            pending=0,
            duplicates=len(self.recorded.payloads) - len(self.counted_events()),
        )

    def flush(self, timeout: float) -> FlushResult:  # noqa: ARG002 - no wait
        """Return without waiting, because nothing is pending."""
        return self.flush_result()

    def shut_down(
        self,
        timeout: float,  # noqa: ARG002 - no wait
        *,
        outage_timeout: float | None = None,  # noqa: ARG002
    ) -> FlushResult:
        """Return without waiting, because nothing can be lost."""
        return self.flush_result()


class _RecordingJournal(Journal):
    """A journal that also keeps all payloads, to be looked at.

    Attributes:
        payloads: The events that were appended, oldest first.
    """

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - passed on
        super().__init__(*args, **options)
        self._record()

    def reset_after_fork(self) -> None:
        """Start with no payloads in a forked child."""
        super().reset_after_fork()
        self._record()

    def _record(self) -> None:
        self.payloads: list[bytes] = []
        append = self.append

        def append_and_record(payload: bytes) -> bool:
            durable = append(payload)
            self.payloads.append(payload)
            return durable

        self.append = append_and_record


class _RecordedUnpriced(UnpricedStore):
    """Unpriced costs that are kept for assertions only."""

    @property
    def in_memory(self) -> int:
        """The number of costs that an exit loses: none, because they are for tests."""
        return 0

    def costs(self) -> list[UnpricedCost]:
        """Return the costs that wait for a price, oldest first."""
        with self._lock:
            lines = [*self._memory.values()]
        return [msgspec.json.decode(line, type=UnpricedCost) for line in lines]


# Filters whose names differ from the event's fields.
_NAMED: Final = {
    "customer_id": "customer",
    "event_type": "type",
    "operation_id": "operationId",
}

# The first column marks the events that match.
_COLUMNS: Final = ("", "customer", "type", "provider", "line", "operation id", "amount")


def _cells(event: CostEvent) -> tuple[str, ...]:
    data = event.data
    optional = (data.get(name) for name in ("provider", "line", "operationId"))
    known = ("-" if value is None else str(value) for value in optional)
    return event.subject, event.type, *known


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
