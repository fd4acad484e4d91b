"""The attribution of the running code: the customer, and defaults of other fields.

It is a context variable. So it follows asyncio tasks, ``asyncio.to_thread`` and every
copied context (PEP 567), and work on other threads never sees it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from outlay._model.propagated_context import register

if TYPE_CHECKING:
    from outlay._model.events import Json

_NO_DIMENSIONS: Final[Mapping[str, Json]] = MappingProxyType({})


class Attribution(NamedTuple):
    """The values of a cost that a call does not give itself.

    Attributes:
        customer_id: The customer, or None if no scope names one.
        operation: The kind of operation, such as ``document-extraction``.
        region: The region, such as ``us-east-1``.
        dimensions: More names and values to group costs by.
    """

    customer_id: str | None = None
    operation: str | None = None
    region: str | None = None
    dimensions: Mapping[str, Json] = _NO_DIMENSIONS

    def with_defaults(
        self,
        customer_id: str | None,
        operation: str | None,
        region: str | None,
        data: Mapping[str, Json] | None,
    ) -> tuple[str | None, str | None, str | None, Mapping[str, Json] | None]:
        """Return the arguments of a call. Missing ones come from this attribution."""
        if self.dimensions:
            if not data:
                data = self.dimensions
            elif isinstance(data, Mapping):  # else the composer refuses it
                data = {**self.dimensions, **data}
        return (
            self.customer_id if customer_id is None else customer_id,
            self.operation if operation is None else operation,
            self.region if region is None else region,
            data,
        )

    def merged_over(self, outer: Attribution) -> Attribution:
        """Return this attribution. Missing values come from ``outer``."""
        customer_id, operation, region, dimensions = outer.with_defaults(*self)
        # A new object each time, because scopes compare by identity.
        return Attribution(customer_id, operation, region, dimensions or _NO_DIMENSIONS)


UNATTRIBUTED: Final = Attribution()
"""The attribution outside every scope."""

current_attribution: Final = register(
    ContextVar[Attribution]("outlay_attribution", default=UNATTRIBUTED)
)
"""The attribution of the running code."""
