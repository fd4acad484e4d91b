"""What `EventComposer.compose` returns, as the server and the caller see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outlay._model.events import add_key
from outlay._model.keys import derive_key

if TYPE_CHECKING:
    from outlay._model.event_composer import ComposedEvent


def key_and_body(composed: ComposedEvent) -> tuple[str, bytes]:
    """Return the key that a receipt gives, and the request body."""
    hasher, name, payload = composed
    key = name if hasher is None else derive_key(hasher, name)
    return key, add_key(payload)
