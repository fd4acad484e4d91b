"""Define the bodies and queries of budgets and webhooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003 - pydantic reads it
from decimal import Decimal
from typing import Annotated, Final, TypeAlias
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from outlay.server._records import BudgetPeriod
from outlay.server._wire.request_models import (
    CUSTOMER_DIMENSION,
    MAX_DIMENSIONS,
    Currency,
    ListQuery,
    RequestModel,
    Text,
    exact_number,
    known_zone,
    lower,
)
from outlay.server._wire.response_models import Pagination, ReportPeriod, ResponseModel

DEFAULT_THRESHOLDS: Final = (80, 100)
"""The percentages of a limit that are reported, unless the budget names others."""

MAX_THRESHOLDS: Final = 10
MAX_PERCENT: Final = 1000

BUDGET_ID: Final = r"^[a-zA-Z0-9_.-]{1,64}$"
"""The form of a budget's id, which is a part of paths."""

_MAX_URL_CHARS: Final = 2000


def _other_than_customer(name: str) -> str:
    if name == CUSTOMER_DIMENSION:
        raise ValueError("name the customer in customerId instead")
    return name


def _ascending(percents: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(set(percents)))


def _webhook_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError("must be a URL such as https://example.com/hook") from None
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        raise ValueError("must be a URL such as https://example.com/hook")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError("must have no user, password or fragment")
    if not text.isascii() or any(one.isspace() for one in text):
        raise ValueError("must be ASCII without spaces; percent-encode other text")
    return text


Limit: TypeAlias = Annotated[
    # Exact text or number.
    Decimal,
    BeforeValidator(exact_number),
    Field(gt=0),
    WithJsonSchema({"type": ["string", "number"], "description": "Exact decimal."}),
]


class BudgetBody(RequestModel):
    """A limit for the costs of a period.

    The costs of all customers count, or those of ``customerId``. With ``dimensions``,
    only costs with these values count.
    """

    name: Text
    limit: Limit
    currency: Currency
    period: Annotated[BudgetPeriod, BeforeValidator(lower)] = BudgetPeriod.MONTH
    time_zone: Annotated[str, AfterValidator(known_zone)] = "UTC"
    customer_id: Text | None = None
    dimensions: Annotated[
        Mapping[
            Annotated[Text, AfterValidator(_other_than_customer)],
            Annotated[str, StringConstraints(max_length=255)],
        ],
        Field(max_length=MAX_DIMENSIONS),
    ] = Field(default_factory=dict)
    thresholds: Annotated[
        tuple[Annotated[int, Field(ge=1, le=MAX_PERCENT)], ...],
        Field(min_length=1, max_length=MAX_THRESHOLDS),
        AfterValidator(_ascending),
    ] = DEFAULT_THRESHOLDS


class BudgetListQuery(ListQuery):
    """The wanted page of budgets."""

    customer_id: Text | None = None


class WebhookBody(RequestModel):
    """An address that receives messages about budgets."""

    url: Annotated[
        str, StringConstraints(max_length=_MAX_URL_CHARS), AfterValidator(_webhook_url)
    ]


class ThresholdPassed(ResponseModel):
    """A threshold that the costs reached, and the costs at that time."""

    percent: int
    passed_at: str
    spent: str


class BudgetState(ResponseModel):
    """The costs of the current period, and the passed thresholds.

    ``remaining`` is negative over the limit. ``sharePct`` is ``spent`` in percent of
    the limit, rounded to hundredths.
    """

    period: ReportPeriod
    spent: str
    remaining: str
    share_pct: str
    passed: Sequence[ThresholdPassed]
    warnings: Sequence[str]


class BudgetResponse(ResponseModel, tag_field="object", tag="budget"):
    """A budget with its state."""

    id: str
    name: str
    limit: str
    currency: str
    period: str
    time_zone: str
    dimensions: Mapping[str, str]
    thresholds: Sequence[int]
    created_at: str
    updated_at: str
    state: BudgetState
    customer_id: str | None = None


class BudgetList(ResponseModel, tag_field="object", tag="list"):
    """A page of budgets, ordered by id."""

    data: Sequence[BudgetResponse]
    pagination: Pagination


class WebhookResponse(ResponseModel, tag_field="object", tag="webhook"):
    """A webhook and the state of its deliveries.

    ``status`` is ``ok``, ``failing`` or ``disabled``. Only the responses to a creation
    and to a rotation have the secret. Each secret before signs for a day as well, the
    last one of them until ``oldSecretEndsAt``.
    """

    id: str
    url: str
    status: str
    waiting_messages: int
    failures: int
    created_at: str
    last_error: str | None = None
    failing_since: str | None = None
    delivered_at: str | None = None
    next_attempt_at: str | None = None
    disabled_at: str | None = None
    old_secret_ends_at: str | None = None
    secret: str | None = None


class WebhookList(ResponseModel, tag_field="object", tag="list"):
    """All webhooks, oldest first."""

    data: Sequence[WebhookResponse]


class WebhookTestResponse(ResponseModel, tag_field="object", tag="webhookTest"):
    """The outcome of a test message."""

    message_id: str
    delivered: bool
    error: str | None = None


# Messages, as webhooks get them.


class ThresholdData(ResponseModel):
    """A budget whose costs reached a threshold."""

    budget_id: str
    name: str
    threshold_pct: int
    spent: str
    limit: str
    share_pct: str
    currency: str
    period: ReportPeriod
    period_kind: str
    time_zone: str
    dimensions: Mapping[str, str]
    customer_id: str | None = None


class ThresholdMessage(ResponseModel):
    """The message about a passed threshold."""

    type: str
    timestamp: str
    data: ThresholdData


class ProbeMessage(ResponseModel):
    """A message that only tests a webhook."""

    type: str
    timestamp: str
    data: Mapping[str, str]
