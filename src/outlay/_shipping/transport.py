"""The values and the protocol between the shipper and the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

EVENTS_PATH: Final = "/v0/events"
"""The path that takes one event a request."""


class TransportResponse(NamedTuple):
    """A server's response.

    Attributes:
        status: The HTTP status code.
        headers: The headers. Lookups ignore the case of names.
        body: The body, decoded from its content encoding.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport(Protocol):
    """Sends requests to the server. Implement it to send them in your own way.

    Thread safety: several threads call `post` at the same time.
    """

    def post(self, path: str, body: bytes) -> TransportResponse:
        """Post a JSON body and return the response, whatever its status.

        An implementation must not retry, and must not follow redirects.

        Args:
            path: The request's path, which begins with a slash.
            body: The request's body.

        Raises:
            UnavailableError: There was no response. Its ``sent`` says whether the
                request may have arrived.
        """
        ...

    def close(self) -> None:
        """Close all connections."""
        ...
