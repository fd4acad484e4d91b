"""Define the bodies and responses of saved reconciliations."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - pydantic reads it
from datetime import date
from typing import Annotated, Final, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from outlay.server._spelling import Spelling
from outlay.server._wire.correction_models import Reason  # noqa: TC001
from outlay.server._wire.request_models import (
    Currency,
    RequestModel,
    Text,
    known_zone,
)
from outlay.server._wire.response_models import Pagination, ResponseModel
from outlay.server._wire.revenue_models import Money  # noqa: TC001

MAX_MATCHES: Final = 10_000
"""The most matches of one request."""


_DAY: Final = "must be a day such as 2026-10-31"


def _real_day(text: str) -> str:
    try:
        date.fromisoformat(text)
    except ValueError:
        raise ValueError(_DAY) from None
    return text


Digest: TypeAlias = Annotated[
    str, Spelling("^[0-9a-f]{32}$", "must have 32 hexadecimal digits")
]
Day: TypeAlias = Annotated[
    str, Spelling(r"^\d{4}-\d{2}-\d{2}$", _DAY), AfterValidator(_real_day)
]
InvoiceId: TypeAlias = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255)
]


# Requests.


class ReconciliationBody(RequestModel):
    """A reconciliation to save: an invoice, and the days that it covers.

    ``first`` and ``last`` are days in ``timezone``, and both count.
    """

    invoice_id: InvoiceId
    provider: Text
    currency: Currency
    timezone: Annotated[Text, AfterValidator(known_zone)] = "UTC"
    period: Literal["day", "month"] = "day"
    first: Day
    last: Day

    @model_validator(mode="after")
    def _runs_forward(self) -> Self:
        if self.first > self.last:
            raise ValueError("'first' must not be after 'last'")
        return self


class TotalsBody(RequestModel):
    """The sums of a finished reconciliation."""

    bill: Money
    tracked: Money
    reconciled: Money
    charges: Annotated[int | None, Field(ge=0)] = None
    reconciled_charges: Annotated[int | None, Field(ge=0)] = None


class MatchesBody(RequestModel):
    """Matches of a reconciliation, as digests of 32 hexadecimal digits.

    The last request has the totals. From then on the reconciliation counts.
    """

    matches: Annotated[Sequence[Digest], Field(max_length=MAX_MATCHES)]
    totals: TotalsBody | None = None


class WithdrawBody(RequestModel):
    """The reason why a saved reconciliation does not count any more."""

    reason: Reason


# Responses.


class ReconciliationTotals(ResponseModel):
    """The sums of a reconciliation. ``reconciled`` is the tracked costs that match.

    ``charges`` is the number of charges on the bill, and ``reconciledCharges`` that of
    the ones that match. Both are absent if the request had none.
    """

    bill: str
    tracked: str
    reconciled: str
    charges: int | None = None
    reconciled_charges: int | None = None


class WithdrawalResponse(ResponseModel):
    """The time of a withdrawal, the name of the API key, and the reason."""

    withdrawn_at: str
    withdrawn_by: str
    reason: str


class ReconciliationResponse(ResponseModel, tag_field="object", tag="reconciliation"):
    """A reconciliation with an invoice.

    Attributes:
        as_of: The last instant of receipt whose events and corrections count.
        saved_at: The time from which it counts. Absent before.
        totals: The sums. Absent before.
        replaces: The ids of earlier ones with days that this one covers. If this one is
            withdrawn, they count again.
        replaced_by: The ids of later ones with days that this one covers.
        withdrawal: The end. Absent while it counts.
    """

    id: str
    invoice_id: str
    provider: str
    currency: str
    timezone: str
    period: str
    first: str
    last: str
    as_of: str
    saved_by: str
    saved_at: str | None = None
    totals: ReconciliationTotals | None = None
    replaces: Sequence[str] = ()
    replaced_by: Sequence[str] = ()
    withdrawal: WithdrawalResponse | None = None


class ReconciliationList(ResponseModel, tag_field="object", tag="list"):
    """A page of the saved reconciliations, withdrawn ones too, the last one first."""

    data: Sequence[ReconciliationResponse]
    pagination: Pagination
