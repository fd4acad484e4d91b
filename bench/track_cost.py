"""What a durable ``track_cost`` costs its caller, against a bare floor.

The floor encodes a ready-made event with the same encoder, takes its CRC and appends it
to a file: nothing is validated, keyed, dated, or made safe against a torn write.

Flat costs have one amount; of varied ones, no two in a row are the same.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from decimal import Decimal
from functools import partial
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING
from zlib import crc32

import msgspec

from bench._measure import Quantiles, in_threads, quantiles, show
from outlay import Client, CostEvent

if TYPE_CHECKING:
    from collections.abc import Callable

CALLS = 40_000
ROUNDS = 5

AMOUNTS = {
    "flat": ["0.0042"],
    "varied": [f"0.{number:06}" for number in range(1, 10_000)],
}


def main() -> None:
    """Measure and print."""
    rows = []
    for threads in (1, 8):
        calls = CALLS // threads
        measured = [_Measured("floor", partial(_floor, threads, calls))]
        measured += [
            _Measured(f"track_cost, {name}", partial(_track, threads, calls, amounts))
            for name, amounts in AMOUNTS.items()
        ]
        # In turns, so that what else the machine does meets all alike.
        for _, each in itertools.product(range(ROUNDS), measured):
            each.take()
        floor, *others = measured
        rows.append(floor.row(threads))
        for each in others:
            rows += [each.row(threads), each.ratio(threads, floor)]
    show(
        "One durable track_cost on the caller's thread (goal: p50 at most 1.5 x floor)",
        ("", "threads", "p50 µs", "p99 µs", "events/s"),
        rows,
    )


class _Measured:
    """What some rounds of one program took."""

    def __init__(
        self, name: str, run: Callable[[Path], tuple[list[int], float]]
    ) -> None:
        self.name = name
        self._run = run
        self._times: list[int] = []
        self._seconds = 0.0

    def take(self) -> None:
        """Run another round."""
        with tempfile.TemporaryDirectory() as folder:
            times, seconds = self._run(Path(folder))
        self._times += times
        self._seconds += seconds

    @property
    def quantiles(self) -> Quantiles:
        """Of single calls."""
        return quantiles(self._times)

    @property
    def rate(self) -> float:
        """Calls a second."""
        return len(self._times) / self._seconds

    def row(self, threads: int) -> tuple[object, ...]:
        """Return a line of the table."""
        p50, p99 = self.quantiles
        return (
            self.name,
            threads,
            f"{p50 / 1e3:.2f}",
            f"{p99 / 1e3:.2f}",
            f"{self.rate:,.0f}",
        )

    def ratio(self, threads: int, floor: _Measured) -> tuple[object, ...]:
        """Return the line that compares it with the floor."""
        ours, bare = self.quantiles, floor.quantiles
        return (
            "ratio",
            threads,
            f"{ours.p50 / bare.p50:.2f}",
            f"{ours.p99 / bare.p99:.2f}",
            f"{self.rate / floor.rate:.2f}",
        )


def _track(
    threads: int, calls: int, amounts: list[str], folder: Path
) -> tuple[list[int], float]:
    ids = [f"job-{number:08d}" for number in range(threads * calls)]
    client = Client(
        api_key="k", journal_dir=folder, shipping="none", source="https://api.myapp.com"
    )
    track_cost = client.track_cost

    def call(number: int) -> None:
        track_cost(
            "cost.ai.inference",
            amounts[number % len(amounts)],
            customer_id="cus_123",
            operation_id=ids[number],
            provider="anthropic",
            operation="document-extraction",
            region="us-east-1",
        )

    call(0)
    try:
        return in_threads(threads, calls, call)
    finally:
        client.close()


def _floor(threads: int, calls: int, folder: Path) -> tuple[list[int], float]:
    events = [_event(f"job-{number:08d}") for number in range(threads * calls)]
    encode = msgspec.json.Encoder(decimal_format="number").encode
    header = Struct("<II").pack
    descriptor = os.open(folder / "floor", os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def call(number: int) -> None:
        payload = encode(events[number])
        os.write(descriptor, header(len(payload), crc32(payload)) + payload)

    try:
        return in_threads(threads, calls, call)
    finally:
        os.close(descriptor)


def _event(operation_id: str) -> CostEvent:
    return CostEvent(
        type="cost.ai.inference",
        source="https://api.myapp.com",
        subject="cus_123",
        data={
            "amount": Decimal("0.0042"),
            "provider": "anthropic",
            "operation": "document-extraction",
            "region": "us-east-1",
            "provenance": "manual",
            "operationId": operation_id,
        },
        timestamp="2026-01-01T00:00:00.000Z",
        idempotency_key="ok1_0123456789012345678901234567890123456789",
    )


if __name__ == "__main__":
    main()
