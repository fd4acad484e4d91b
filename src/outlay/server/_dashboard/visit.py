"""One request of a page: who asks, and which state its query describes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from outlay.server._dashboard.periods import Period, read_period
from outlay.server._metering.metric import compile_metric
from outlay.server._services.auth import require_permission
from outlay.server._services.report_scope import BY_COST, BY_CUSTOMER
from outlay.server._storage.page import ALL
from outlay.server._wire.problems import FieldError, HttpProblem, invalid_fields
from outlay.server._wire.request_models import CUSTOMER_DIMENSION, MAX_FILTER_KEYS
from outlay.server._wire.response_models import to_microseconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from outlay.server._core import ServerCore
    from outlay.server._records import ApiKey, ClosedPeriod, CostMetric

WHERE: Final = "where."
"""The prefix of a filter's parameter: ``where.provider=openai``."""

PERIOD_NAMES: Final = ("month", "week", "from", "to", "tz")
"""The parameters of the period, which a link to another page keeps."""

AS_OF: Final = "asOf"
"""The parameter of the instant whose state a page shows."""

_KEPT: Final = (*PERIOD_NAMES, "currency", AS_OF)
_PREFERRED: Final = ("provider", "model", "operation", "feature", "line")
MAX_PAGES: Final = 2**40


@dataclass(frozen=True)
class Visit:
    """One request of a signed-in person.

    Attributes:
        core: The server.
        key: The API key of the session.
        path: The path of the page.
        query: The parameters of the query. The last value of a name counts.
        base_url: The address of the server, as the browser knows it.
        form_token: The token of the page's forms, or '' for a program.
        has_session: Whether the person can sign out.
    """

    core: ServerCore
    key: ApiKey
    path: str
    query: Mapping[str, str]
    base_url: str
    form_token: str
    has_session: bool

    @cached_property
    def period(self) -> Period:
        """The period of the page."""
        return read_period(self.query, self.core.now())

    @cached_property
    def as_of(self) -> int | None:
        """The instant whose state the page shows, in microseconds since 1970.

        None is the current state. A date is its first instant in the page's time zone.
        """
        text = self.query.get(AS_OF, "")
        if not text:
            return None
        try:
            moment = datetime.fromisoformat(text)
            return to_microseconds(
                moment
                if moment.tzinfo is not None
                else moment.replace(tzinfo=self.period.zone)
            )
        except (ValueError, OverflowError):
            example = "2026-11-03 or 2026-11-03T09:00:00Z"
            raise refused(AS_OF, f"must be a time such as {example}") from None

    @cached_property
    def metrics(self) -> Sequence[CostMetric]:
        """All cost metrics of the organization, oldest first."""
        with self.core.store.reading() as reader:
            return reader.costs(self.key.namespace, None, ALL)[0]

    @cached_property
    def customer_names(self) -> Mapping[str, str]:
        """The display names of customers, by id."""
        with self.core.store.reading() as reader:
            return reader.customer_names(self.key.namespace)

    @cached_property
    def closed_periods(self) -> Sequence[ClosedPeriod]:
        """The closed periods of the organization."""
        with self.core.store.reading() as reader:
            return reader.closed_periods(self.key.namespace)

    @cached_property
    def has_events(self) -> bool:
        """Whether any cost metric has ever read an event."""
        with self.core.store.reading() as reader:
            return any(
                compiled is not None and reader.time_range(compiled) is not None
                for compiled in map(compile_metric, self.metrics)
            )

    @cached_property
    def currencies(self) -> list[str]:
        """The currencies of the metrics."""
        return sorted({metric.currency for metric in self.metrics})

    @cached_property
    def currency(self) -> str:
        """The currency of the page: the chosen one, the default, or the only one."""
        default = self.core.settings.default_currency
        known = self.currencies or [default]
        chosen = self.query.get("currency")
        if chosen is None:
            return default if default in known else known[0]
        if chosen not in known:
            raise refused("currency", f"must be one of {', '.join(known)}")
        return chosen

    @cached_property
    def dimensions(self) -> list[str]:
        """The dimensions of the metrics in the page's currency, common ones first."""
        names = {
            name
            for metric in self.metrics
            if metric.currency == self.currency
            for name in metric.group_by
        } - {CUSTOMER_DIMENSION}
        first = [name for name in _PREFERRED if name in names]
        return first + sorted(names.difference(first))

    @cached_property
    def where(self) -> dict[str, str]:
        """The filters of the page, by dimension."""
        wanted = {
            name.removeprefix(WHERE): value
            for name, value in self.query.items()
            if name.startswith(WHERE)
        }
        if unknown := sorted(set(wanted).difference(self.dimensions)):
            known = ", ".join(self.dimensions) or "none"
            raise refused(WHERE + unknown[0], f"no such dimension; there are {known}")
        if len(wanted) > MAX_FILTER_KEYS:
            raise refused(WHERE + "…", f"a page has at most {MAX_FILTER_KEYS} filters")
        return wanted

    @cached_property
    def metric(self) -> CostMetric | None:
        """The one metric that the page is narrowed to, or None."""
        chosen = self.query.get("metric")
        if chosen is None:
            return None
        for metric in self.metrics:
            if metric.id == chosen:
                return metric
        raise refused("metric", f"no cost metric {chosen!r}")

    @cached_property
    def counted_metrics(self) -> list[CostMetric]:
        """The metrics that count on the page: in its currency, with its dimensions."""
        return [
            metric
            for metric in self.metrics
            if metric.currency == self.currency
            and (self.metric is None or self.metric.id == metric.id)
            and set(self.where) <= set(metric.group_by)
        ]

    def by(self, *built_in: str) -> str:
        """Return the grouping of the page.

        Args:
            built_in: The groupings beside the dimensions, the default one first. It
                is the default if there is no dimension without a filter.
        """
        free = [name for name in self.dimensions if name not in self.where]
        chosen = self.query.get("by")
        if chosen is None:
            return free[0] if free else built_in[0]
        if chosen not in {*built_in, *self.dimensions}:
            known = ", ".join([*built_in, *self.dimensions])
            raise refused("by", f"must be one of {known}")
        return chosen

    @cached_property
    def page(self) -> int:
        """The number of the page of a list, from 1 on."""
        text = self.query.get("page", "1")
        # Python itself refuses to read a number of thousands of digits.
        is_short = len(text) <= len(str(MAX_PAGES))
        if not is_short or not text.isdecimal() or not 1 <= int(text) <= MAX_PAGES:
            raise refused("page", "must be a number from 1 on")
        return int(text)

    def may(self, permission: str) -> bool:
        """Return whether the session's key has a permission."""
        try:
            require_permission(self.key, permission)
        except HttpProblem:
            return False
        return True

    def link(self, path: str | None = None, **changes: str | None) -> str:
        """Return the address of this page, or of ``path``, with changes of its query.

        A link to another page keeps the period and the currency. None removes a
        parameter. Any change leads to the first page of a list.
        """
        if path is None or path == self.path:
            path = self.path
            query = {
                name: value for name, value in self.query.items() if name != "page"
            }
        else:
            query = {name: self.query[name] for name in _KEPT if self.query.get(name)}
        for name, value in changes.items():
            query.pop(name, None)
            if value is not None:
                query[name] = value
        return f"{path}?{urlencode(query)}" if query else path

    def link_to_period(self, query: Mapping[str, str], path: str | None = None) -> str:
        """Return the address of this page in another period."""
        cleared: dict[str, str | None] = dict.fromkeys(PERIOD_NAMES)
        return self.link(path, **{**cleared, **query})

    def link_to_group(self, by: str, value: str) -> str:
        """Return the page that shows one group: a customer, or a filter on it."""
        if by == BY_CUSTOMER:
            return self.link("/customer", id=value, **self._filters)
        if by == BY_COST:
            return self.link(metric=value, by=None)
        return self.link(by=None, **{WHERE + by: value})

    def link_to_events(self, customer: str | None) -> str:
        """Return the page of the events behind this page."""
        narrowed = {} if customer is None else {"id": customer}
        return self.link("/events", **narrowed, **self._filters)

    @property
    def _filters(self) -> dict[str, str]:
        names = [name for name in self.query if name.startswith(WHERE)]
        if "metric" in self.query:
            names.append("metric")
        return {name: self.query[name] for name in names}


def refused(field: str, message: str) -> HttpProblem:
    """Return the 400 for a parameter of a page."""
    return invalid_fields([FieldError(field, message)])


def dimension_label(name: str) -> str:
    """Return the name of a grouping for a person."""
    if name == BY_COST:
        return "Metric"
    if name in {BY_CUSTOMER, CUSTOMER_DIMENSION}:
        return "Customer"
    return name[:1].upper() + name[1:].replace("_", " ")
