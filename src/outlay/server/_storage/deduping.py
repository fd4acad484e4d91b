"""Decide the outcome of an event from the first event with its key."""

from __future__ import annotations

from outlay.server._records import Event, IngestResult


def ingest_result(first: dict[tuple[str, str], Event], event: Event) -> IngestResult:
    """Return the result of ``event``, and add it to ``first`` if its key is new.

    Args:
        first: The first event of each organization and key.
        event: An event that arrived.
    """
    earlier = first.setdefault((event.namespace, event.key), event)
    if earlier is event:
        return IngestResult(event)
    return IngestResult(
        earlier, duplicate=True, conflict=not _is_same_event(earlier, event)
    )


def _is_same_event(left: Event, right: Event) -> bool:
    """Compare what the caller sent. The id, and a default time, are the server's."""
    return (
        left.type == right.type
        and left.source == right.source
        and left.subject == right.subject
        and left.external_subject == right.external_subject
        and left.data == right.data
    )
