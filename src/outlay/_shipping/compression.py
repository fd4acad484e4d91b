"""Whether a request's body is compressed: where that pays, and is welcome.

A server says that it takes compressed bodies by ``Accept-Encoding`` in its answers (RFC
7694), and nothing is compressed for one that did not. Nor is what fits into one packet
anyway, and nothing for a server on this machine: there a byte costs less to send than
to compress (docs/decisions.md).
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

Compression: TypeAlias = Literal["auto", "never", "always"]

MIN_BYTES: Final = 1400
"""Smaller bodies travel in one packet, head and all, compressed or not."""

LEVEL: Final = 1
"""Of zlib: the quickest; events are so alike that others save little more."""

AMBIGUOUS_STATUSES: Final = frozenset({400, 415})
"""Answers that may be to the coding, and not to what is coded."""

_GZIP: Final = zlib.MAX_WBITS | 16


class BodyCompressor:
    """Decides about compression, and learns from answers.

    Thread safety: any thread; each field is one store.
    """

    def __init__(self, compression: Compression, *, nearby: bool) -> None:
        """Begin without an offer.

        Args:
            compression: the setting.
            nearby: whether the server is on this machine.
        """
        self._offered = compression == "always"
        self._learns = compression == "auto" and not nearby

    def compress(self, body: bytes) -> bytes | None:
        """Return ``body`` in gzip, or None if it should go as it is."""
        if not self._offered or len(body) < MIN_BYTES:
            return None
        deflater = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP)
        return deflater.compress(body) + deflater.flush()

    def update_from(self, headers: Mapping[str, str]) -> None:
        """Take up an offer in an answer's headers, or the end of one."""
        if self._learns and "accept-encoding" in headers:
            self._offered = _takes_gzip(headers["accept-encoding"])

    def disable(self) -> None:
        """Compress nothing any more: what was refused compressed was taken plain."""
        self._offered = self._learns = False


def _takes_gzip(accepted: str) -> bool:
    for item in accepted.lower().split(","):
        name, _, weight = item.partition(";")
        if name.strip() == "gzip":
            return weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False
