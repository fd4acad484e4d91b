"""Show rates between currencies, for the commands that do it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from outlay._cli.output import plain
from outlay._cli.periods import short_time

if TYPE_CHECKING:
    from outlay._cli.wire_models import Rate


def rate_text(rate: Rate) -> str:
    """Return a rate as a sentence for people."""
    return (
        f"1 {rate.from_currency} = {plain(rate.rate)} {rate.to_currency} from "
        f"{short_time(rate.valid_from)} on, by {rate.source}"
    )


def rate_json(rate: Rate) -> dict[str, Any]:
    """Return a rate as a row of JSON or CSV."""
    return {
        "from": rate.from_currency,
        "to": rate.to_currency,
        "rate": plain(rate.rate),
        "validFrom": rate.valid_from.isoformat(),
        "source": rate.source,
    }
