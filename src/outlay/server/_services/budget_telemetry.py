"""Report budgets and webhooks in the format of Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from outlay.server._services.budget_watch import BudgetWatch
    from outlay.server._services.webhooks import WebhookService


def budget_metrics(watch: BudgetWatch, webhooks: WebhookService) -> Iterator[Metric]:
    """Yield the counts since the start of the server."""
    yield CounterMetricFamily(
        "outlay_budget_thresholds_passed",
        "Thresholds of budgets that costs passed.",
        watch.passed,
    )
    attempts = CounterMetricFamily(
        "outlay_webhook_attempts",
        "Attempts to deliver a message to a webhook, by outcome.",
        labels=("outcome",),
    )
    attempts.add_metric(("delivered",), webhooks.delivered)
    attempts.add_metric(("failed",), webhooks.failed)
    yield attempts
    yield CounterMetricFamily(
        "outlay_webhook_messages_given_up",
        "Messages that no attempt could deliver.",
        webhooks.given_up,
    )
