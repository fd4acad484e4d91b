"""Read the table of recorded responses, which its README describes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from outlay._capture.observation import Observation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

FOLDER: Final = (
    Path(__file__).parents[1].joinpath("unit", "capture", "providers", "responses")
)
WHEN: Final = datetime(2026, 11, 20, 12, tzinfo=UTC)


class Recorded(NamedTuple):
    """One response of a provider, and its cost.

    Attributes:
        name: The name of the file.
        request: The request's method and address.
        response: The body of the response.
        headers: The headers of the response that matter.
        observed: The observation that an extractor makes of it.
        expected: ``amount``, ``currency`` and ``provenance``, or ``unpriced``.
        reported: The amount in the response itself, or None.
        at: The time of the response.
        rule: The provider's rule that genai-prices does not know.
    """

    name: str
    request: str
    response: Mapping[str, Any]
    headers: Mapping[str, str]
    observed: Observation
    expected: Mapping[str, str]
    reported: Decimal | None
    at: datetime
    rule: str | None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file of the table."""
        row = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
        response = row["response"]
        return cls(
            path.stem,
            row["request"],
            response,
            row.get("headers", {}),
            msgspec.convert(row["observed"], Observation, strict=False),
            row["expected"],
            _at(response, row["reported_at"]) / row.get("reported_per", 1)
            if "reported_at" in row
            else None,
            datetime.fromisoformat(row["at"]) if "at" in row else WHEN,
            row.get("rule"),
        )


def recorded(prefix: str = "") -> list[Recorded]:
    """Return the rows whose file names begin with ``prefix``."""
    return [Recorded.read(path) for path in sorted(FOLDER.glob(f"{prefix}*.json"))]


def _at(response: Mapping[str, Any], path: str) -> Decimal:
    value: Any = response
    for name in path.split("."):
        value = value[name]
    return Decimal(value)
