"""What the span processor adds to a span, against a processor that does nothing.

Most spans of an application have no cost, and should not become slower.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from bench._measure import quantiles, show, time_calls
from outlay import Client
from outlay._model.attribution import Attribution, current_attribution
from outlay.otel import CostSpanProcessor

if TYPE_CHECKING:
    from collections.abc import Callable

CALLS = 4_000
ROUNDS = 10

FOREIGN: dict[str, Any] = {
    "http.request.method": "GET",
    "http.route": "/documents/{id}",
    "http.response.status_code": 200,
    "server.address": "api.example.com",
}
BILLABLE: dict[str, Any] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.model": "gpt-4o-2024-08-06",
    "gen_ai.usage.input_tokens": 1000,
    "gen_ai.usage.output_tokens": 100,
    "gen_ai.usage.cache_read.input_tokens": 200,
}


def main() -> None:
    """Measure and print."""
    rows: list[tuple[object, ...]] = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        client = stack.enter_context(Client(journal_dir=Path(folder), shipping="none"))
        token = current_attribution.set(Attribution(customer_id="cus_1"))
        stack.callback(current_attribution.reset, token)
        bare = TracerProvider(shutdown_on_exit=False)
        bare.add_span_processor(SpanProcessor())  # the SDK's own way to any of them
        watched = TracerProvider(shutdown_on_exit=False)
        watched.add_span_processor(CostSpanProcessor(client))
        for name, attributes in (("foreign", FOREIGN), ("billable", BILLABLE)):
            times: dict[str, list[int]] = {"bare": [], "watched": []}
            for _ in range(ROUNDS):
                times["bare"] += time_calls(_span(bare, attributes), range(CALLS))
                times["watched"] += time_calls(_span(watched, attributes), range(CALLS))
            base, ours = quantiles(times["bare"]), quantiles(times["watched"])
            rows.append(
                (
                    name,
                    f"{base.p50 / 1000:.2f}",
                    f"{ours.p50 / 1000:.2f}",
                    f"{(ours.p50 - base.p50) / 1000:.2f}",
                    f"{ours.p50 / base.p50:.2f}",
                )
            )
    show(
        "One span, begun and ended (goal: at most 2 µs added to a foreign one)",
        ("span", "bare p50 µs", "watched p50 µs", "added µs", "ratio"),
        rows,
    )


def _span(
    provider: TracerProvider, attributes: dict[str, Any]
) -> Callable[[int], object]:
    tracer = provider.get_tracer("bench")

    def call(number: int) -> None:
        span = tracer.start_span("call", attributes=attributes)
        span.set_attribute("gen_ai.response.id", f"chatcmpl-{number}")
        span.end()

    return call


if __name__ == "__main__":
    main()
