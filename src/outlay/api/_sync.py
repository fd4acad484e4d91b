"""Talk to the service, and wait for each response."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx
import tenacity

from outlay.api._calls import PAGE, metric_id
from outlay.api._connection import Connection, EnsuredMetric, existing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from decimal import Decimal
    from types import TracebackType
    from typing import Unpack

    from outlay._model.settings import Settings
    from outlay.api._calls import Call
    from outlay.api._models import (
        BucketWidth,
        Budget,
        BudgetFields,
        BudgetPage,
        CostMetric,
        EventDetail,
        EventFilters,
        MetricChanges,
        MetricFields,
        MetricPage,
        Product,
        ProductPage,
        Profitability,
        Report,
        ReportOptions,
        StoredEvent,
        Summary,
        SummaryOptions,
        UnmatchedType,
        Webhook,
        WebhookTest,
    )

T = TypeVar("T")


class Api:
    """Creates cost metrics and reads totals. Use it as a context manager.

    The address, the key and the limits come from the same ``OUTLAY_*`` variables as
    those of `outlay.Client`. Amounts are exact `Decimal`, and times are aware.

    Every method raises `RejectedError` or a subclass if the server refuses the request.
    It raises `UnavailableError` if the server does not respond, or asks for a later
    request. A failed request is sent again after a backoff if that cannot do any harm.

    Thread safety: any thread may call any method.

    Example:
        with Api() as api:
            api.ensure_metric("inference", "cost.ai.inference", group_by=["model"])

    Args:
        settings: All settings. If None, they come from ``OUTLAY_*`` variables.
        base_url: The address of the service.
        api_key: The credential.
        namespace: The organization, if the credential may use several.
        timeout: The seconds of each wait for the network.
        attempts: The largest number of requests for a call. Defaults to 3.
        http_client: The HTTP client to use. You close it. Defaults to one of its own.
        on_warning: A function that is called with each warning of the server, such as
            two metrics that count the same events. Defaults to none.

    Raises:
        ConfigError: A setting is malformed.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        namespace: str | None = None,
        timeout: float | None = None,
        attempts: int = 3,
        http_client: httpx.Client | None = None,
        on_warning: Callable[[str], object] | None = None,
    ) -> None:
        given = {
            "base_url": base_url,
            "api_key": api_key,
            "namespace": namespace,
            "timeout": timeout,
        }
        self._connection = Connection(
            settings, given, attempts=attempts, on_warning=on_warning
        )
        self._build = self._connection.build
        self._owns_client = http_client is None
        self._client = http_client or httpx.Client(**self._connection.options())

    def __enter__(self) -> Self:
        """Return this object."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections, unless they belong to your ``http_client``."""
        if self._owns_client:
            self._client.close()

    # -- cost metrics

    def metrics(self) -> list[CostMetric]:
        """Return all cost metrics, in the server's order."""
        metrics: list[CostMetric] = []
        while True:
            page: MetricPage = self._send(self._build.metrics(len(metrics)))
            metrics += page.data
            if not page.data or len(metrics) >= page.pagination.total:
                return metrics

    def metric(self, metric: str) -> CostMetric:
        """Return the cost metric with this id.

        Raises:
            NotFoundError: It does not exist.
        """
        return self._send(self._build.metric(metric))

    def create_metric(
        self, name: str, event_type: str, **fields: Unpack[MetricFields]
    ) -> CostMetric:
        """Create a cost metric. It also counts earlier events.

        Args:
            name: The metric's name.
            event_type: The type of the events that count.
            **fields: The optional fields; see `MetricFields`.
        """
        return self._send(self._build.create_metric(name, event_type, fields))

    def ensure_metric(
        self, name: str, event_type: str, **fields: Unpack[MetricFields]
    ) -> EnsuredMetric:
        """Create a cost metric, unless it exists. Programs can call it at each start.

        Two programs that call it at the same moment can both create the metric.

        Args:
            name: The metric's name.
            event_type: The type of the events that count.
            **fields: The optional fields; see `MetricFields`.

        Raises:
            ConflictError: A metric of this name has other fields.
        """
        definition = self._build.definition(name, event_type, fields)
        for metric in self.metrics():
            if metric.name == name:
                return existing(metric, definition)
        return EnsuredMetric(
            self.create_metric(name, event_type, **fields), created=True
        )

    def update_metric(
        self, metric: CostMetric | str, **changes: Unpack[MetricChanges]
    ) -> CostMetric:
        """Change a cost metric. A new unit cost applies to earlier events, too.

        Args:
            metric: The metric, or its id.
            **changes: The changed fields; see `MetricChanges`. None clears a field.
        """
        return self._send(self._build.update_metric(metric_id(metric), changes))

    def delete_metric(self, metric: CostMetric | str) -> None:
        """Delete a cost metric. Its events stay on the server."""
        self._send(self._build.delete_metric(metric_id(metric)))

    # -- products

    def products(self) -> list[Product]:
        """Return all products, in the server's order."""
        products: list[Product] = []
        while True:
            page: ProductPage = self._send(self._build.products(len(products)))
            products += page.data
            if not page.data or len(products) >= page.pagination.total:
                return products

    def create_product(self, name: str, *, description: str = "") -> Product:
        """Create a product, to which cost metrics can belong.

        Args:
            name: The name that reports show.
            description: A text for people. Defaults to none.

        Raises:
            ConfigError: The organization is not known.
        """
        return self._send(self._build.create_product(name, description))

    # -- events, an extension of the reference server

    def events(self, **filters: Unpack[EventFilters]) -> Iterator[StoredEvent]:
        """Yield events, the newest first, until the caller has enough.

        The live service has no such path.

        Args:
            **filters: The wanted events; see `EventFilters`. Defaults to all.

        Raises:
            ConfigError: A time is not aware.
        """
        cursor: str | None = None
        while True:
            page = self._send(self._build.events(filters, PAGE, cursor))
            yield from page.data
            cursor = page.next_cursor
            if cursor is None:
                return

    def event(self, event_id: str) -> EventDetail:
        """Return an event, its receipt, the origin of its price, and what it counts.

        The live service has no such path.

        Raises:
            NotFoundError: It does not exist.
        """
        return self._send(self._build.event(event_id))

    # -- totals

    def summary(
        self,
        metric: CostMetric | str,
        start: datetime,
        end: datetime,
        **options: Unpack[SummaryOptions],
    ) -> Summary:
        """Return the totals of a cost metric for ``start <= t < end``.

        Args:
            metric: The metric, or its id.
            start: The start of the period, aware.
            end: The end of the period, aware.
            **options: Breakdowns and filters; see `SummaryOptions`.

        Raises:
            ConfigError: A time is not aware.
        """
        return self._send(self._build.summary(metric, start, end, options))

    def report(
        self,
        start: datetime,
        end: datetime,
        *,
        by: str = "cost",
        metrics: Sequence[CostMetric | str] = (),
        **options: Unpack[ReportOptions],
    ) -> Report:
        """Return the totals of several cost metrics, ranked by group.

        Args:
            start: The start of the period, aware.
            end: The end of the period, aware.
            by: ``cost``, ``customer``, or a dimension of exactly one metric.
            metrics: The metrics, or their ids. Defaults to all.
            **options: Filters, order and page; see `ReportOptions`.

        Raises:
            ConfigError: A time is not aware.
        """
        return self._send(self._build.report(start, end, by, metrics, options))

    def profitability(
        self,
        start: datetime,
        end: datetime,
        *,
        top: int = 10,
        bucket_width: BucketWidth = "day",
        currency: str | None = None,
        as_of: datetime | None = None,
    ) -> Profitability:
        """Return the revenue, cost and profit of each customer.

        Args:
            start: The start of the period, aware.
            end: The end of the period, aware.
            top: The number of customers before ``other``, 1 to 100.
            bucket_width: The length of the windows of the trend.
            currency: The currency. Defaults to the organization's.
            as_of: The instant whose state is read, aware. Defaults to now.

        Raises:
            ConfigError: A time is not aware.
        """
        return self._send(
            self._build.profitability(
                start,
                end,
                top=top,
                bucket_width=bucket_width,
                currency=currency,
                as_of=as_of,
            )
        )

    def unmatched(
        self, start: datetime, end: datetime, *, as_of: datetime | None = None
    ) -> tuple[UnmatchedType, ...]:
        """Return the event types of a period that no metric counts.

        It is an extension of the contract, which outlay's own server has. Such events
        are accepted there only if a setting allows it.

        Args:
            start: The start of the period, aware.
            end: The end of the period, aware.
            as_of: The instant whose state is read, aware. Defaults to now.

        Raises:
            ConfigError: A time is not aware.
        """
        return (self._send(self._build.unmatched(start, end, as_of))).data

    # -- budgets, an extension of the reference server

    def budgets(self, *, customer_id: str | None = None) -> list[Budget]:
        """Return all budgets with their states, in order of their ids.

        Args:
            customer_id: The customer whose own budgets are wanted. Defaults to all.
        """
        budgets: list[Budget] = []
        while True:
            page: BudgetPage = self._send(
                self._build.budgets(customer_id, len(budgets))
            )
            budgets += page.data
            if not page.data or len(budgets) >= page.pagination.total:
                return budgets

    def budget(self, budget_id: str) -> Budget:
        """Return the budget with this id, and its state.

        Raises:
            NotFoundError: It does not exist.
        """
        return self._send(self._build.budget(budget_id))

    def set_budget(
        self,
        budget_id: str,
        name: str,
        limit: Decimal | int | str,
        **fields: Unpack[BudgetFields],
    ) -> Budget:
        """Create a budget, or replace the one with this id.

        Args:
            budget_id: An id of yours.
            name: A name for people.
            limit: The limit of the costs of a period, exact.
            **fields: The optional fields; see `BudgetFields`.
        """
        return self._send(self._build.set_budget(budget_id, name, limit, fields))

    def delete_budget(self, budget_id: str) -> None:
        """Delete a budget."""
        self._send(self._build.delete_budget(budget_id))

    def webhooks(self) -> tuple[Webhook, ...]:
        """Return all webhooks, with the states of their deliveries."""
        return (self._send(self._build.webhooks())).data

    def add_webhook(self, url: str) -> Webhook:
        """Add an address for messages. The result has its secret, once."""
        return self._send(self._build.add_webhook(url))

    def delete_webhook(self, webhook_id: str) -> None:
        """Delete a webhook, and the messages that wait for it."""
        self._send(self._build.delete_webhook(webhook_id))

    def rotate_webhook(self, webhook_id: str) -> Webhook:
        """Give a webhook a new secret, which the result has, once.

        The old secret signs for a day as well.
        """
        return self._send(self._build.rotate_webhook(webhook_id))

    def test_webhook(self, webhook_id: str) -> WebhookTest:
        """Let the server send a test message now. A success enables the webhook."""
        return self._send(self._build.test_webhook(webhook_id))

    def _send(self, call: Call[T]) -> T:
        for attempt in tenacity.Retrying(**self._connection.retrying(call)):
            with attempt:
                response = self._request(call)
                number = attempt.retry_state.attempt_number
                return self._connection.result(call, response, number)
        raise AssertionError  # pragma: no cover - the last attempt returns or raises

    def _request(self, call: Call[Any]) -> httpx.Response:
        try:
            return self._client.request(**self._connection.request(call))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._connection.failed(error) from error
