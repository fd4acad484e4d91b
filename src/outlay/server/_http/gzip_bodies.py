"""Decompress request bodies within a limit."""

from __future__ import annotations

import zlib
from typing import Final

from outlay.server._wire.problems import malformed_body, too_large

SUPPORTED_ENCODINGS: Final = frozenset({b"gzip", b"x-gzip", b"identity"})
"""The encodings that a body may have. ``x-gzip`` is an old alias of ``gzip``."""

_GZIP: Final = zlib.MAX_WBITS | 16


def gunzip(body: bytes, limit: int) -> bytes:
    """Return a decompressed gzip body of at most ``limit`` bytes.

    It never decompresses more than that, because a small body can decompress to a
    thousand times its size.

    Raises:
        HttpProblem: The body is larger, or is not one whole gzip stream.
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
