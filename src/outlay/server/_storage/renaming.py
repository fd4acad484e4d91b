"""Replace a customer's id in events and dimensions by a pseudonym."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

import msgspec

from outlay.server._wire.response_models import decode_data

if TYPE_CHECKING:
    from outlay.server._records import Event

_LITERAL: Final = re.compile(r"-?[0-9.]+(?:[eE][-+]?[0-9]+)?|true|false|null")


class Renaming:
    """Replaces one customer's id wherever it is a whole value.

    In data, each JSON string that equals the id is replaced, at any depth. Numbers and
    all other text stay as they were sent, to the last digit. An id that looks like a
    number stays in data, because a dimension's number and its text look alike.

    Args:
        customer: The id.
        pseudonym: The text that replaces it.

    Attributes:
        spellings: The ways in which JSON can spell the id as a string.
        is_in_data: Whether the id is replaced in data and dimensions.
    """

    def __init__(self, customer: str, pseudonym: str) -> None:
        self.customer = customer
        self.pseudonym = pseudonym
        self.spellings = (
            json.dumps(customer, ensure_ascii=False),
            json.dumps(customer, ensure_ascii=True),
        )
        self.is_in_data = not _LITERAL.fullmatch(customer)
        self._quoted = json.dumps(pseudonym)

    def text(self, value: str) -> str:
        """Return the pseudonym for the id, and any other text as it is."""
        return self.pseudonym if value == self.customer else value

    def optional(self, value: str | None) -> str | None:
        """Return the same of a text that may be absent."""
        return None if value is None else self.text(value)

    def label(self, value: str) -> str:
        """Return the pseudonym for a dimension's value that is the id."""
        return self.text(value) if self.is_in_data else value

    def json(self, text: str) -> str:
        """Return a JSON text with the id replaced."""
        if not self.is_in_data:
            return text
        for spelling in self.spellings:
            text = text.replace(spelling, self._quoted)
        return text

    def event(self, event: Event) -> Event:
        """Return an event with the id replaced."""
        data = self.json(event.data)
        return msgspec.structs.replace(
            event,
            subject=self.optional(event.subject),
            external_subject=self.optional(event.external_subject),
            external_id=self.optional(event.external_id),
            data=data,
            fields=event.fields if data == event.data else decode_data(data),
        )
