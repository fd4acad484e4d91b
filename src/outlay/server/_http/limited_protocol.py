"""Limit the bytes of a request's head, before anything of the request is kept."""

from __future__ import annotations

from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES: Final = 64 * 1024
"""The most bytes of a request line and its headers. Clients send less than 2 KiB."""

_BODY: Final = (
    b'{"message":"the headers are larger than %d bytes; send less",'
    b'"error":"request_header_fields_too_large","code":"HEADERS_TOO_LARGE"}'
    % MAX_HEAD_BYTES
)
_RESPONSE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: application/json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
)


class LimitedProtocol(HttpToolsProtocol):
    """An HTTP connection that refuses large heads with 431.

    The parser alone would collect headers without limit, from clients without a key.
    """

    _reads_head = True
    _head_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Parse ``data``, but of a head only as much as is allowed."""
        if self._reads_head:
            room = MAX_HEAD_BYTES - self._head_bytes
            self._head_bytes += len(data)
            super().data_received(data[:room])
            if self._reads_head and self._head_bytes > MAX_HEAD_BYTES:
                self.transport.write(_RESPONSE)
                self.transport.close()
                return
            data = data[room:]
        if data and not self.transport.is_closing():
            super().data_received(data)

    def on_headers_complete(self) -> None:
        """Note the end of the head."""
        self._reads_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that the next head may begin."""
        self._reads_head = True
        self._head_bytes = 0
        super().on_message_complete()
