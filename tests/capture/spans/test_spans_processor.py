"""Billable spans become cost events, once each; others cost nothing."""

from __future__ import annotations

import contextvars
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import outlay
from outlay._capture.spans import processor as module
from outlay._model.attribution import Attribution, current_attribution
from outlay.errors import ConfigError
from outlay.otel import (
    ATTR_AMOUNT,
    ATTR_CURRENCY,
    ATTR_IDEMPOTENCY_KEYS,
    ATTR_STATUS,
    CostSpanProcessor,
    stamp_cost,
)
from tests.capture.spans.test_spans_dialects import OPENINFERENCE, SEMCONV
from tests.support.recorded import Recorded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.trace import Tracer

PRICE = Decimal("0.00325")  # 800 x 2.5 + 200 x 1.25 + 100 x 10, USD a million


class Traced(NamedTuple):
    """A tracer whose spans' costs are recorded, and exported."""

    tracer: Tracer
    recorded: Recorded
    exporter: InMemorySpanExporter
    processor: CostSpanProcessor


@pytest.fixture
def traced() -> Iterator[Traced]:
    """Return a tracer whose costs go nowhere."""
    with Recorded() as recorded:
        provider = TracerProvider(shutdown_on_exit=False)
        exporter = InMemorySpanExporter()
        processor = CostSpanProcessor(recorded.client)
        provider.add_span_processor(processor)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        yield Traced(provider.get_tracer("test"), recorded, exporter, processor)
        provider.shutdown()


def as_customer(customer: str) -> contextvars.Context:
    """Return a context whose costs belong to ``customer``."""
    context = contextvars.copy_context()
    context.run(current_attribution.set, Attribution(customer_id=customer))
    return context


def span_of(tracer: Tracer, attributes: dict[str, Any]) -> None:
    """Start and end a span."""
    tracer.start_span("call", attributes=attributes).end()


@pytest.mark.parametrize(
    ("attributes", "customer"),
    [
        ({"user.id": "cus_user"}, "cus_user"),
        ({"team": "cus_team", "user.id": "cus_user"}, "cus_team"),
        ({"outlay.customer_id": "cus_own", "team": "cus_team"}, "cus_own"),
        ({"team": "", "user.id": 7}, "cus_code"),
        ({"enduser.id": "cus_stranger"}, "cus_code"),
        ({"team": "x" * 5000, "user.id": "cus_user"}, "cus_user"),
    ],
)
def test_only_named_attributes_are_the_customer(
    attributes: dict[str, Any], customer: str
) -> None:
    """Other attributes may come from a stranger."""
    with Recorded() as recorded:
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(
            CostSpanProcessor(recorded.client, customer_attributes=["team", "user.id"])
        )
        as_customer("cus_code").run(
            span_of, provider.get_tracer("test"), {**SEMCONV, **attributes}
        )
        provider.shutdown()

    assert recorded.only().subject == customer


@pytest.mark.parametrize("names", ["user.id", [""], [7]])
def test_names_of_attributes_are_checked(names: Any) -> None:
    """A text alone would be taken for its letters."""
    with pytest.raises(ConfigError, match=r"\['user\.id'\]"):
        CostSpanProcessor(customer_attributes=names)


def test_a_billable_span_becomes_a_cost_event(traced: Traced) -> None:
    """With the amount that the price list makes of its counts."""
    as_customer("cus_1").run(span_of, traced.tracer, SEMCONV)

    event = traced.recorded.only()
    assert (event.type, event.subject) == ("cost.ai.inference", "cus_1")
    assert event.data["amount"] == PRICE
    assert event.data["provenance"] == "priced"
    assert event.data["operationId"] == "chatcmpl-1"
    assert event.data["usageSource"] == "OpenTelemetry GenAI"


def test_the_cost_belongs_to_whom_the_span_was_begun_for(traced: Traced) -> None:
    """A stream ends where its consumer is."""
    span = as_customer("cus_1").run(
        traced.tracer.start_span, "call", attributes=SEMCONV
    )
    as_customer("cus_2").run(span.end)

    assert traced.recorded.only().subject == "cus_1"


def test_a_span_s_cost_is_inside_of_the_function_that_it_was_begun_in(
    traced: Traced,
) -> None:
    """Or else the function would count the same money."""

    @outlay.track_call(
        "cost.summaries", amount=9, provider="openai", client=traced.recorded.client
    )
    def summarise() -> None:
        span_of(traced.tracer, SEMCONV)

    summarise()

    assert traced.recorded.only().data["amount"] == PRICE


def test_a_span_may_name_the_customer_itself(traced: Traced) -> None:
    """Where the code that calls does not know, but the instrumentation does."""
    attributes = {**SEMCONV, "outlay.customer_id": "cus_3"}

    as_customer("cus_1").run(span_of, traced.tracer, attributes)

    assert traced.recorded.only().subject == "cus_3"


def test_the_cost_arose_when_the_span_ended(traced: Traced) -> None:
    """Spans may be ended late, with an explicit time."""
    span = traced.tracer.start_span("call", attributes=SEMCONV)
    span.end(end_time=1_700_000_000_123_456_789)

    assert traced.recorded.only().timestamp == "2023-11-14T22:13:20.123Z"


def test_a_frameworks_span_around_the_librarys_is_the_same_call(
    traced: Traced,
) -> None:
    """Even when one of them does not know the response's id."""
    anonymous = {k: v for k, v in OPENINFERENCE.items() if k != "output.value"}
    with (
        traced.tracer.start_as_current_span("request"),
        traced.tracer.start_as_current_span("framework", attributes=anonymous),
        traced.tracer.start_as_current_span("retry"),
        traced.tracer.start_as_current_span("library", attributes=SEMCONV),
    ):
        pass

    assert traced.recorded.only().data["operationId"] == "chatcmpl-1"


def test_two_spans_of_one_response_are_one_call(traced: Traced) -> None:
    """The response's id is part of the key."""
    span_of(traced.tracer, SEMCONV)
    span_of(traced.tracer, OPENINFERENCE)

    assert traced.recorded.total() == PRICE


def test_two_providers_spans_of_one_call_are_one_call(traced: Traced) -> None:
    """Also if the outer provider's processor finds another customer."""
    other = TracerProvider(shutdown_on_exit=False)
    other.add_span_processor(
        CostSpanProcessor(traced.recorded.client, customer_attributes=["user.id"])
    )
    attributes = {**SEMCONV, "user.id": "cus_outer"}

    def call() -> None:
        tracer = other.get_tracer("outer")
        with tracer.start_as_current_span("outer", attributes=attributes):
            span_of(traced.tracer, SEMCONV)

    as_customer("cus_1").run(call)
    other.shutdown()

    assert traced.recorded.only().subject == "cus_1"


def test_siblings_are_different_calls(traced: Traced) -> None:
    """Without an id of the provider's, the span's own tells them apart."""
    anonymous = {k: v for k, v in OPENINFERENCE.items() if k != "output.value"}
    with traced.tracer.start_as_current_span("request"):
        span_of(traced.tracer, anonymous)
        span_of(traced.tracer, anonymous)

    assert traced.recorded.total() == 2 * PRICE


def test_a_stamped_span_is_counted_already(traced: Traced) -> None:
    """By the code that stamped it; so is the call that a span around it is about."""
    anonymous = {k: v for k, v in OPENINFERENCE.items() if k != "output.value"}
    with traced.tracer.start_as_current_span("framework", attributes=anonymous):
        span_of(traced.tracer, {**SEMCONV, "outlay.cost.status": "tracked"})

    assert traced.recorded.events() == []


def test_a_cost_is_not_stamped_on_the_span_around(traced: Traced) -> None:
    """It did not cost that; and its other calls' costs would be missing there."""
    with traced.tracer.start_as_current_span("request"):
        span_of(traced.tracer, SEMCONV)

    [_, request] = traced.exporter.get_finished_spans()
    assert dict(request.attributes or {}) == {}


def by_hand(traced: Traced, operation_id: str, amount: str) -> outlay.Receipt:
    """Track a cost by hand, and stamp it."""
    receipt = traced.recorded.client.track_cost(
        "cost.enrichment", amount, operation_id=operation_id
    )
    return stamp_cost(receipt, amount)


def test_a_cost_tracked_by_hand_is_stamped_where_that_is_asked_for(
    traced: Traced,
) -> None:
    """The trace shows what the operation cost, and by which events."""
    with traced.tracer.start_as_current_span("request"):
        receipts = [by_hand(traced, "a", "0.05"), by_hand(traced, "b", "0.005")]

    (request,) = traced.exporter.get_finished_spans()
    assert dict(request.attributes or {}) == {
        ATTR_STATUS: "tracked",
        ATTR_AMOUNT: "0.055",
        ATTR_CURRENCY: "USD",
        ATTR_IDEMPOTENCY_KEYS: tuple(receipt.idempotency_key for receipt in receipts),
    }


def test_a_call_whose_cost_was_stamped_by_hand_is_not_counted_again(
    traced: Traced,
) -> None:
    """Code that knows its cost better than its span says so."""
    with traced.tracer.start_as_current_span("call", attributes=SEMCONV):
        by_hand(traced, "a", "0.05")

    assert traced.recorded.total() == Decimal("0.05")


def test_without_a_span_a_stamp_is_nothing(traced: Traced) -> None:
    """Code need not know whether it is traced; a wrong amount is still one."""
    receipt = by_hand(traced, "a", "0.05")

    assert stamp_cost(receipt, "0.05") is receipt
    with pytest.raises(outlay.InvalidEventError):
        stamp_cost(receipt, "much")


def test_other_spans_cost_nothing(traced: Traced) -> None:
    """Neither the plain ones, nor those that sum up others."""
    span_of(traced.tracer, {})
    span_of(traced.tracer, {"http.request.method": "GET"})
    span_of(traced.tracer, {**SEMCONV, "gen_ai.operation.name": "invoke_agent"})

    assert traced.recorded.events() == []


def test_a_flaw_in_here_does_not_reach_the_application(traced: Traced) -> None:
    """The client cannot track any more: the span ends all the same."""
    traced.recorded.client.close()

    span_of(traced.tracer, SEMCONV)

    assert len(traced.exporter.get_finished_spans()) == 1


def test_spans_that_nobody_ends_do_not_fill_the_memory(traced: Traced) -> None:
    """The older half is forgotten; newer ones are counted as ever."""
    for _ in range(module._MAX_OPEN + 1):
        traced.tracer.start_span("lost")
    with traced.tracer.start_as_current_span("call", attributes=SEMCONV):
        pass

    assert len(traced.processor._spans.started) <= module._MAX_OPEN
    assert traced.recorded.total() == PRICE


def test_nothing_is_tracked_after_the_end(traced: Traced) -> None:
    """Instrumentations that cannot be undone go on writing spans."""
    traced.processor.shutdown()

    span_of(traced.tracer, SEMCONV)

    assert traced.recorded.events() == []
