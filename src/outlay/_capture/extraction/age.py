"""Decide whether a looked-up operation is older than the dedupe window.

Servers remember a key for a day. A program that lists or opens last month's operations
must not count them again. So a looked-up response counts only while the server surely
remembers the operation's earlier event.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from outlay._capture.extraction.registry import Call

_DEDUPE_WINDOW: Final = timedelta(hours=23)
"""The dedupe window of a server, minus an hour for clocks and retries."""


def is_past_dedupe_window(ended: object, call: Call) -> bool:
    """Return whether an operation ended too long before it was looked up.

    Args:
        ended: The end, by ISO 8601 or RFC 2822. Any other value means unknown.
        call: The look-up, whose response contains the time of the provider's clock.
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
