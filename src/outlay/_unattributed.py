"""Apply the setting ``unattributed`` to costs without a customer."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from outlay.errors import InvalidEventError

if TYPE_CHECKING:
    from outlay._client_hooks import DroppedEvents
    from outlay._model.rate_limited_log import RateLimitedLog
    from outlay._model.settings import Settings

tracking_captured: Final = ContextVar("outlay_tracking_captured", default=False)
"""Whether the running code tracks a captured cost. See `CaptureSink.track_captured`."""


class UnattributedPolicy:
    """Decides about costs that name no customer.

    Thread safety: any thread.

    Attributes:
        fallback: The customer that they are tracked for.
    """

    def __init__(
        self, settings: Settings, dropped: DroppedEvents, log: RateLimitedLog
    ) -> None:
        self._policy = settings.unattributed
        self._only_customer = settings.customer_id
        self.fallback: Final = settings.customer_id or settings.unattributed_customer_id
        self._dropped = dropped
        self._log = log

    def customer_id(self) -> str:
        """Return the customer of costs that name none.

        Raises:
            InvalidEventError: The setting is ``error``, and the cost is not captured.
        """
        if (
            self._policy == "error"
            and self._only_customer is None
            and not tracking_captured.get()
        ):
            raise InvalidEventError("customer_id", None, _NO_CUSTOMER)
        return self.fallback

    def accepts(self, event_type: str, payload: bytes) -> bool:
        """Log that a cost has no customer, and return whether to track it.

        If not, the event is counted as dropped.
        """
        if self._only_customer is not None:
            return True
        if self._policy == "default_customer":
            self._log.warn(
                "unattributed",
                "tracked a %s cost for %r, because no customer was given: %s",
                event_type,
                self.fallback,
                _NO_CUSTOMER,
            )
            return True
        self._dropped.add(payload, "unattributed", f"{event_type}: {_NO_CUSTOMER}")
        return False


_NO_CUSTOMER: Final = (
    "pass customer_id=, or run the code inside of outlay.attribute(customer_id=...). "
    "A program with one customer sets OUTLAY_CUSTOMER_ID"
)
