"""Bodies that come compressed, unpacked within bounds."""

from __future__ import annotations

import zlib
from typing import Final

from outlay.server._wire.problems import malformed_body, too_large

SUPPORTED_ENCODINGS: Final = frozenset({b"gzip", b"x-gzip", b"identity"})
"""What a body may be coded in; the second name is the first one's old alias."""

_GZIP: Final = zlib.MAX_WBITS | 16


def gunzip(body: bytes, limit: int) -> bytes:
    """Return a gzip'd body as it was, at most ``limit`` bytes.

    No more than that is ever unpacked: a thousandth of it may be all that was sent.

    Raises:
        Problem: it is larger, or no whole gzip stream.
    """
    inflater = zlib.decompressobj(_GZIP)
    try:
        plain = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise malformed_body(f"the body is not gzip ({error})") from None
    if len(plain) > limit:
        raise too_large(limit)
    if not inflater.eof or inflater.unused_data:
        raise malformed_body("the body is not one whole gzip stream")
    return plain
