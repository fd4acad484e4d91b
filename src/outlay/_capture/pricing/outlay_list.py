"""Outlay's own prices: fees and surcharges that the public list lacks.

It also names the fees that providers charge, and whose amount outlay cannot know.

They are data, in ``outlay_prices.toml``. Each line has a source and a date.
"""

from __future__ import annotations

import functools
import tomllib
from decimal import Context, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import msgspec
from pydantic import Field

from outlay._capture.pricing.book_entries import (
    FrozenModel,
    Instant,
    Pattern,
    fits_pattern,
)
from outlay._capture.pricing.price_book import PriceBook
from outlay._capture.pricing.price_lists import (
    Price,
    PriceList,
    PriceUnknown,
    strip_zeros,
)

if TYPE_CHECKING:
    from datetime import datetime

    from outlay._capture.observation import Observation

_EXACT: Final = Context(prec=200)  # whatever the application's context is
_FILE: Final = Path(__file__).with_name("outlay_prices.toml")


class Surcharge(FrozenModel):
    """A factor on the price of tokens at one kind of endpoint.

    Attributes:
        id: The name of the surcharge in events.
        provider: The provider that charges.
        models: The models that it applies to: names, or beginnings and ``*``.
        endpoint: The kind of endpoint, as in `Observation`.
        since: The start (``from`` in the file).
        factor: The factor on the list's price.
        source: The address of the provider's page.
    """

    id: str
    provider: str
    models: tuple[Pattern, ...]
    endpoint: str
    since: Annotated[Instant, Field(alias="from")]
    factor: Annotated[Decimal, Field(gt=1, allow_inf_nan=False)]
    source: str

    def applies_to(self, observation: Observation, at: datetime) -> bool:
        """Return whether the surcharge applies to ``observation`` at that time."""
        return (
            self.endpoint == observation.endpoint
            and self.provider == observation.provider
            and self.since <= at
            and any(fits_pattern(model, observation.model) for model in self.models)
        )


class UnknownFee(FrozenModel):
    """A fee that a provider charges, and whose amount outlay cannot know.

    Attributes:
        id: The name of the fee.
        provider: The provider that charges.
        line: The cost line: a name, or a beginning and ``*``.
        since: The start (``from`` in the file).
        note: The reason, for people.
        source: The address of the provider's page.
    """

    id: str
    provider: str
    line: Pattern
    since: Annotated[Instant, Field(alias="from")]
    note: str
    source: str

    def applies_to(self, observation: Observation, at: datetime) -> bool:
        """Return whether ``observation`` is of this fee, at that time."""
        return (
            self.provider == observation.provider
            and self.since <= at
            and fits_pattern(self.line, observation.line)
        )


class OutlayPrices(NamedTuple):
    """The content of ``outlay_prices.toml``.

    Attributes:
        fees: The prices.
        surcharges: The surcharges.
        unpriced: The fees without a known price.
    """

    fees: PriceBook
    surcharges: tuple[Surcharge, ...]
    unpriced: tuple[UnknownFee, ...]


@functools.cache
def outlay_prices() -> OutlayPrices:
    """Return outlay's own prices. The file is read once."""
    content = _FILE.read_bytes()
    document = tomllib.loads(content.decode(), parse_float=Decimal)
    surcharges, unpriced = document.pop("surcharge"), document.pop("unpriced")
    return OutlayPrices(
        PriceBook.from_document(document, name="outlay", content=content),
        tuple(Surcharge.model_validate(row) for row in surcharges),
        tuple(UnknownFee.model_validate(row) for row in unpriced),
    )


class CorrectedPrices:
    """Corrects the prices of another list by what outlay knows of them.

    Thread safety: any thread, if the other list allows it.

    Attributes:
        surcharges: The surcharges that it adds.
        unpriced: The fees that it leaves unpriced.
    """

    overrides = False

    def __init__(self, prices: PriceList, own: OutlayPrices) -> None:
        """Correct ``prices`` by outlay's own."""
        self._prices = prices
        self.surcharges = own.surcharges
        self.unpriced = own.unpriced

    def price(self, observation: Observation, at: datetime) -> Price | PriceUnknown:
        """Return the price with its surcharge, or why it is unknown."""
        if observation.line is not None:  # a fee beside tokens
            for fee in self.unpriced:
                if fee.applies_to(observation, at):
                    return PriceUnknown("no_unit_price", fee.note)
        price = self._prices.price(observation, at)
        if observation.endpoint is None or isinstance(price, PriceUnknown):
            return price
        for surcharge in self.surcharges:
            if surcharge.applies_to(observation, at):
                return _with_surcharge(price, surcharge)
        return price


def _with_surcharge(price: Price, surcharge: Surcharge) -> Price:
    factor = {"list": "outlay", "entry": surcharge.id, "factor": str(surcharge.factor)}
    return msgspec.structs.replace(
        price,
        amount=strip_zeros(_EXACT.multiply(price.amount, surcharge.factor)),
        data={**price.data, "surcharge": factor},
    )
