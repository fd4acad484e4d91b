"""Lateness: whether an operation that is looked at ended too long ago to be counted.

Servers know a key for a day. Who lists last month's operations, or opens an old one,
must not count them once more: so an answer that is read for its own sake counts only
while it is sure that the server still knows what was counted before.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from outlay._capture.extraction.registry import Call

_DEDUPE_WINDOW: Final = timedelta(hours=23)
"""The dedupe window of a server, less an hour for clocks and retries."""


def is_past_dedupe_window(ended: object, call: Call) -> bool:
    """Return whether an operation ended too long before it was looked at.

    Args:
        ended: when it did, by ISO 8601 or RFC 2822; anything else: not known.
        call: that looked; its answer tells when, by the provider's own clock.
    """
    then, now = _instant(ended), _instant(call.headers.get("date"))
    return then is not None and now is not None and now - then > _DEDUPE_WINDOW


def _instant(text: object) -> datetime | None:
    if not isinstance(text, str):
        return None
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            found = parse(text)
        except ValueError:
            continue
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    return None
