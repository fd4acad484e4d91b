"""What a durable ``track_cost`` costs its caller, against a bare floor.

The floor encodes a ready-made event with the same encoder, takes its CRC and appends it
to a file: nothing is validated, keyed, dated, or made safe against a torn write.
"""

from __future__ import annotations

import os
import tempfile
from decimal import Decimal
from pathlib import Path
from struct import Struct
from zlib import crc32

import msgspec

from bench._measure import in_threads, quantiles, show
from outlay import Client, CostEvent

CALLS = 40_000
ROUNDS = 5


def main() -> None:
    """Measure and print."""
    rows = []
    for threads in (1, 8):
        calls = CALLS // threads
        floor_times: list[int] = []
        track_times: list[int] = []
        floor_seconds = track_seconds = 0.0
        # In turns, so that what else the machine does meets both alike.
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory() as folder:
                times, seconds = _floor(Path(folder), threads, calls)
            floor_times += times
            floor_seconds += seconds
            with tempfile.TemporaryDirectory() as folder:
                times, seconds = _track(Path(folder), threads, calls)
            track_times += times
            track_seconds += seconds
        floor, track = quantiles(floor_times), quantiles(track_times)
        total = threads * calls * ROUNDS
        rows += [
            _row("floor", threads, floor.p50, floor.p99, total / floor_seconds),
            _row("track_cost", threads, track.p50, track.p99, total / track_seconds),
            (
                "ratio",
                threads,
                f"{track.p50 / floor.p50:.2f}",
                f"{track.p99 / floor.p99:.2f}",
                f"{floor_seconds / track_seconds:.2f}",
            ),
        ]
    show(
        "One durable track_cost on the caller's thread (goal: p50 at most 2 x floor)",
        ("", "threads", "p50 µs", "p99 µs", "events/s"),
        rows,
    )


def _row(
    name: str, threads: int, p50: float, p99: float, rate: float
) -> tuple[object, ...]:
    return name, threads, f"{p50 / 1e3:.2f}", f"{p99 / 1e3:.2f}", f"{rate:,.0f}"


def _track(folder: Path, threads: int, calls: int) -> tuple[list[int], float]:
    ids = [f"job-{number:08d}" for number in range(threads * calls)]
    client = Client(
        api_key="k", spill_dir=folder, shipping="none", source="https://api.myapp.com"
    )
    track_cost = client.track_cost

    def call(number: int) -> None:
        track_cost(
            "cost.ai.inference",
            "0.0042",
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


def _floor(folder: Path, threads: int, calls: int) -> tuple[list[int], float]:
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
