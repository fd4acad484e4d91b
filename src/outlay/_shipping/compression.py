"""Decide which request bodies are compressed.

A server offers to take compressed bodies by ``Accept-Encoding`` in its responses (RFC
7694). Nothing is compressed for a server that did not offer it. Small bodies are not
compressed, because they fit into one packet. Nothing is compressed for a server on this
machine, where sending a byte costs less than compressing it (docs/decisions/).
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

Compression: TypeAlias = Literal["auto", "never", "always"]

MIN_BYTES: Final = 1400
"""The smallest body that is compressed. A smaller one fits into one packet anyway."""

LEVEL: Final = 1
"""The level of zlib. Events are so alike that slower levels save little more."""

AMBIGUOUS_STATUSES: Final = frozenset({400, 415})
"""Statuses that may refuse the encoding, and not the content."""

HOP_STATUSES: Final = frozenset({403, 502})
"""Statuses with which a hop before the server may refuse the encoding."""

FAILURES_IN_A_ROW: Final = 3
"""Failures of compressed requests that make a hop suspect which took them before."""

_GZIP: Final = zlib.MAX_WBITS | 16


class BodyCompressor:
    """Compresses bodies, and learns from responses when to do it.

    Thread safety: any thread. Each field is one store.
    """

    def __init__(self, compression: Compression, *, loopback: bool) -> None:
        """Begin without an offer.

        Args:
            compression: The setting.
            loopback: Whether the server is on this machine.
        """
        self._enabled = compression == "always"
        self._learns = compression == "auto" and not loopback
        self._failures = FAILURES_IN_A_ROW  # in a row; suspect until one is taken

    def compress(self, body: bytes) -> bytes | None:
        """Return ``body`` in gzip, or None if it must be sent as it is."""
        if not self._enabled or len(body) < MIN_BYTES:
            return None
        deflater = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP)
        return deflater.compress(body) + deflater.flush()

    def update_from(self, headers: Mapping[str, str]) -> None:
        """Note the offer in a response's headers, or its end."""
        if self._learns and "accept-encoding" in headers:
            self._enabled = _accepts_gzip(headers["accept-encoding"])

    def record_taken(self) -> None:
        """Note that a compressed request was taken."""
        self._failures = 0

    def suspects_hop(self) -> bool:
        """Note a failure that a hop may have caused. Return whether to try plain."""
        self._failures += 1
        return self._failures >= FAILURES_IN_A_ROW

    def disable(self) -> None:
        """Stop compressing, because a server took plain what it refused in gzip."""
        self._enabled = self._learns = False


def _accepts_gzip(header: str) -> bool:
    for item in header.lower().split(","):
        name, _, weight = item.partition(";")
        if name.strip() == "gzip":
            return weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False
