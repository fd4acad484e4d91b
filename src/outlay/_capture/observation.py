"""Describe what one billable operation cost, as its provider reports it.

An extractor makes observations, a price list prices them, and the recorder tracks them.
They hold usage, names and ids. They never hold a prompt, a response or other content.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final, Literal

import msgspec

from outlay._model.event_rules import is_plain_text, validate_text
from outlay.errors import InvalidEventError

UNKNOWN_PROVIDER: Final = "unknown"
"""The provider of a client whose ``base_url`` has the address of no known provider."""


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """One billable operation, as its provider reports it.

    Attributes:
        provider: The canonical name of the provider that charges, such as ``openai``.
            It is part of the idempotency key.
        event_type: One of `event_types`, or a type of the user's own.
        operation_id: The id that the provider gave to its response.
        request_id: The id of the HTTP request. Each attempt has another one, so it
            names the operation only where there is no other id.
        line: The name of one of several costs of the operation. Part of the key.
        model: The model that responded, by the provider's own name. It selects the
            price.
        service_tier: The tier, such as ``batch`` or ``priority``, if it changes the
            price.
        region: The region where the operation ran, if it changes the price.
        endpoint: The kind of endpoint that was called, if it changes the price:
            ``regional``, ``us`` or ``gov``.
        usage: The quantities that were consumed. With a ``flavor``, the provider's own
            report, in its own shape, with numbers only. Without one, units and
            quantities, such as ``{"page": 3}``.
        flavor: The ``api_flavor`` of genai-prices, by which ``usage`` is read.
        amount: The amount that was charged. If None, a price list decides.
        provenance: The source of the amount. ``reported``: the provider. ``priced``: a
            tool with its own price list, which yields to the configured lists.
        currency: The currency of the amount, ISO 4217.
        is_complete: Whether the response was read to its end. The usage of a stream
            that was closed early may be missing or too low, so it is never priced.
        price_pending: Whether the provider reports the price later. Until then the
            cost is stored without a price. Only a final price of a list applies before.
        is_lookup: Whether the response was looked up, and can be looked up again. The
            cost belongs to the code of this process that looked first.
        contradiction: The reason why the counts contradict each other, as one sentence.
            A price list never prices such a cost.
        data: More fields for the event, as JSON.
    """

    provider: str
    event_type: str
    operation_id: str | None = None
    request_id: str | None = None
    line: str | None = None
    model: str | None = None
    service_tier: str | None = None
    region: str | None = None
    endpoint: str | None = None
    usage: dict[str, Any] = {}
    flavor: str | None = None
    amount: Decimal | None = None
    provenance: Literal["reported", "priced"] = "reported"
    currency: str = "USD"
    is_complete: bool = True
    price_pending: bool = False
    is_lookup: bool = False
    contradiction: str | None = None
    data: dict[str, Any] = {}

    @property
    def identity(self) -> tuple[object, ...]:
        """The fields that all observations of the same cost share."""
        return self.event_type, self.provider, self.operation_id, self.line


def without_invalid_names(observation: Observation) -> Observation:
    """Return ``observation`` without names that are not valid text.

    Extractors take names from responses whose shape no code has checked. A cost without
    a model is better than no cost.
    """
    invalid = [
        name
        for name in _NAMES
        if (text := getattr(observation, name)) is not None
        and not (is_plain_text(text) or _is_name(text))
    ]
    if not invalid:
        return observation
    return msgspec.structs.replace(observation, **dict.fromkeys(invalid))


_NAMES: Final = ("endpoint", "line", "model", "region", "service_tier")


def _is_name(value: object) -> bool:
    try:
        validate_text("name", value)
    except InvalidEventError:
        return False
    return True
