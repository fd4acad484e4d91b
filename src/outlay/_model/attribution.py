"""Attribution: who the costs of the running code belong to.

A context variable, so that it follows asyncio tasks, ``asyncio.to_thread`` and every
copied context (PEP 567), and is never seen by another thread's work.
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
    """What costs are tracked under where a call does not say otherwise.

    Attributes:
        customer_id: who the cost is attributed to; None: nobody said.
        operation: what is being done, such as ``document-extraction``.
        region: where.
        dimensions: more names and values to group costs by.
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
        """Return the arguments of a call, with what it does not say itself."""
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
        """Return this attribution, with what it leaves open taken from ``outer``."""
        customer_id, operation, region, dimensions = outer.with_defaults(*self)
        # A new object each time, even an equal one: scopes know theirs by identity.
        return Attribution(customer_id, operation, region, dimensions or _NO_DIMENSIONS)


UNATTRIBUTED: Final = Attribution()
"""The attribution outside of every scope."""

current_attribution: Final = register(
    ContextVar[Attribution]("outlay_attribution", default=UNATTRIBUTED)
)
"""The attribution of the running code."""
