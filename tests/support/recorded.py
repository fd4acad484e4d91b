"""A client that tells what it tracked; no network, no disk."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from outlay import Client
from outlay._model.attribution import Attribution, current_attribution
from outlay._model.events import CostEvent, decode_event
from tests.support.transports import ScriptedTransport

if TYPE_CHECKING:
    from typing import Self


class Recorded:
    """A real client whose requests end in a list. Use it as a context manager.

    Inside of it, costs belong to the customer ``cus_1``.

    Attributes:
        client: to be tracked with.
    """

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - of `Client`
        self._transport = ScriptedTransport()
        self.client = Client(
            durability="memory",
            batching="never",
            linger=0.0,
            base_url="http://127.0.0.1:9",
            transport=lambda: self._transport,
            **settings,
        )

    def __enter__(self) -> Self:
        self._token = current_attribution.set(Attribution(customer_id="cus_1"))
        return self

    def __exit__(self, *_: object) -> None:
        current_attribution.reset(self._token)
        self.client.close()

    def events(self) -> list[CostEvent]:
        """Return all events tracked so far, in their order of time."""
        report = self.client.flush(timeout=20)
        assert report.complete, report
        return [decode_event(body) for _, body in self._transport.posts]

    def only(self) -> CostEvent:
        """Return the one event that was tracked."""
        [event] = self.events()
        return event

    def total(self) -> Decimal:
        """Return what all events come to."""
        amounts = [Decimal(event.data["amount"]) for event in self.events()]
        return sum(amounts, Decimal(0))

    def text(self) -> str:
        """Return all events as JSON, to look for what must not be in them."""
        plain: list[Any] = [msgspec.to_builtins(event) for event in self.events()]
        return json.dumps(plain, default=str)
