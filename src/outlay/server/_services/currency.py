"""Convert amounts between currencies, at the rates that the user gave.

An amount is converted at the rate that is valid at its own time. There is no rate
between two currencies but the given one: neither its inverse nor a chain of others.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from outlay.server._metering.decimals import multiply
from outlay.server._wire.problems import FieldError, HttpProblem, invalid_fields
from outlay.server._wire.response_models import format_instant

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from decimal import Decimal

    from outlay.server._records import Rate


class RatePeriod(NamedTuple):
    """A part of a period with one rate, ``start <= t < end``.

    Attributes:
        start: The start, in microseconds since 1970.
        end: The first instant after it, in the same unit.
        currency: The currency of the amounts.
        rate: The rate into the wanted currency. None if there is none, or if both
            currencies are the same.
    """

    start: int
    end: int
    currency: str
    rate: Rate | None


class Converter:
    """Converts amounts into one currency, and remembers the rates that it used.

    Args:
        rates: All rates of the organization, ordered by first valid instant.
        currency: The currency of the converted amounts.
    """

    def __init__(self, rates: Iterable[Rate], currency: str) -> None:
        self.currency = currency
        self._rates: defaultdict[str, list[Rate]] = defaultdict(list)
        for rate in rates:
            if rate.to_currency == currency:
                self._rates[rate.from_currency].append(rate)
        self._used: dict[Rate, None] = {}

    @property
    def used(self) -> list[Rate]:
        """The rates that converted an amount, by pair and first valid instant."""
        return sorted(
            self._used, key=lambda rate: (rate.from_currency, rate.valid_from)
        )

    def periods(self, currency: str, start: int, end: int) -> Iterator[RatePeriod]:
        """Yield the parts of ``start <= t < end`` that have one rate each."""
        if currency == self.currency:
            yield RatePeriod(start, end, currency, None)
            return
        rate: Rate | None = None
        for following in self._rates[currency]:
            if following.valid_from >= end:
                break
            if following.valid_from > start:
                yield RatePeriod(start, following.valid_from, currency, rate)
                start = following.valid_from
            rate = following
        yield RatePeriod(start, end, currency, rate)

    def period_at_end(self, currency: str, start: int, end: int) -> RatePeriod:
        """Return the whole period, with the rate that is valid at its end."""
        *_, last = self.periods(currency, start, end)
        return last._replace(start=start)

    def convert(self, amount: Decimal, period: RatePeriod) -> Decimal:
        """Return ``amount``, which lies in ``period``, in the wanted currency.

        Raises:
            HttpProblem: 400, because the needed rate does not exist.
        """
        if period.currency == self.currency or not amount:
            return amount
        if period.rate is None:
            raise _missing_rate(period, self.currency)
        self._used[period.rate] = None
        return multiply(amount, period.rate.rate)


def _missing_rate(period: RatePeriod, currency: str) -> HttpProblem:
    return invalid_fields(
        [
            FieldError(
                "currency",
                f"there is no rate from {period.currency} to {currency} that is valid "
                f"at {format_instant(period.start)}, and amounts of two currencies are "
                "never added; give one with 'outlay rates set' or PUT /v0/rates, or "
                "ask for another currency",
                "RATE_NEEDED",
            )
        ]
    )
