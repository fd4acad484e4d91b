"""Observations: what a provider's answer says about what the call cost.

An extractor makes them, a pricer puts an amount to them, the recorder tracks them. They
hold usage, names and ids: never a prompt, an answer or any other content.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final, Literal

import msgspec

from outlay._model.events import validate_text
from outlay.errors import InvalidEventError


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """One billable operation, as its provider reports it.

    Attributes:
        provider: who charges, by its canonical name, such as ``openai``; part of the
            idempotency key.
        event_type: one of `event_types`, or the user's own.
        operation_id: the id that the provider gave to its answer.
        request_id: the id of the HTTP request; differs between attempts, so it serves
            as operation id only where there is no other.
        line: which of several costs of the same operation; part of the key.
        model: what answered, by the provider's own name; prices go by it.
        service_tier: such as ``batch`` or ``priority``, where it changes the price.
        region: where it ran, where it changes the price.
        usage: what was consumed. With a ``flavor``, the provider's own report, numbers
            only, in the provider's own shape; without one, units and quantities, such
            as ``{"page": 3}``.
        flavor: how to read ``usage``: the ``api_flavor`` of genai-prices.
        amount: what was charged, where somebody said; None: a price list must tell.
        provenance: who said the amount: ``reported``, the provider; ``priced``, a tool
            with a price list of its own, which ours go before.
        currency: of the amount, ISO 4217.
        complete: whether the answer was read to its end. The usage of a stream that was
            closed early may be missing or too low: such a cost is never priced.
        pending: whether the provider has yet to say what it charges, or for how much.
            Until the operation is observed again, its cost is kept, neither as zero
            nor as a guess; only a price that is final holds before.
        retrieved: whether the answer was looked up, and can be again, by anybody: in
            this process it is whoever's code saw it first.
        data: more worth knowing, JSON; goes into the event as it is.
    """

    provider: str
    event_type: str
    operation_id: str | None = None
    request_id: str | None = None
    line: str | None = None
    model: str | None = None
    service_tier: str | None = None
    region: str | None = None
    usage: dict[str, Any] = {}
    flavor: str | None = None
    amount: Decimal | None = None
    provenance: Literal["reported", "priced"] = "reported"
    currency: str = "USD"
    is_complete: bool = True
    price_pending: bool = False
    is_lookup: bool = False
    data: dict[str, Any] = {}


def without_invalid_names(observation: Observation) -> Observation:
    """Return ``observation`` without names that are no text, or too long to be one.

    Extractors take them from answers, whose shape nobody checks: rather a cost without
    a model than no cost.
    """
    wrong = [
        name
        for name in _NAMES
        if (text := getattr(observation, name)) is not None and not _is_name(text)
    ]
    if not wrong:
        return observation
    return msgspec.structs.replace(observation, **dict.fromkeys(wrong))


_NAMES: Final = ("line", "model", "region", "service_tier")


def _is_name(value: object) -> bool:
    try:
        validate_text("name", value)
    except InvalidEventError:
        return False
    return True
