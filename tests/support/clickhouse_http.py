"""Serve chDB, the engine of ClickHouse as a library, over ClickHouse's HTTP interface.

Run it as ``python -m tests.support.clickhouse_http FOLDER PORT``. It speaks what
``clickhouse-connect`` needs: queries and inserts in the body or in the URL, parameters,
a database, and errors with their code.
"""

from __future__ import annotations

import io
import re
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import chdb
import lz4.frame

_CODE: Final = re.compile(r"Code: (\d+)")
_PARAMETER: Final = "param_"
_connect: Final[Any] = chdb.connect  # typed for text only, but takes bytes


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Without it, each response waits 40 ms for the acknowledgement of its headers.
    disable_nagle_algorithm = True
    folder: str

    def setup(self) -> None:
        super().setup()
        # One handle for each connection: the current database belongs to a handle.
        self._engine = _connect(self.folder)

    def finish(self) -> None:
        self._engine.close()
        super().finish()

    def do_GET(self) -> None:
        if urlsplit(self.path).path == "/ping":
            self._respond(200, b"Ok.\n")
        else:
            self.do_POST()

    def do_POST(self) -> None:
        url = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        body = self._read_body()
        if self.headers.get("Content-Encoding") == "lz4":
            # A large body has several frames.
            with lz4.frame.open(io.BytesIO(body)) as frames:
                body = frames.read()
        query = url.get("query", "").encode()
        parameters = {
            name.removeprefix(_PARAMETER): value
            for name, value in url.items()
            if name.startswith(_PARAMETER)
        }
        try:
            # The handle keeps it for the next query of this connection, which has one.
            database = url.get("database") or "default"
            self._engine.query(f"USE `{database}`")
            result = self._engine.query(
                query + b"\n" + body if query else body,
                url.get("default_format", "TabSeparated"),
                params=parameters or None,
            )
        except Exception as error:  # noqa: BLE001 - the engine's errors have no type
            self._refuse(str(error))
        else:
            self._respond(200, result.bytes())

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            if len(body) < length:
                message = "the client went away while it sent"
                raise ConnectionError(message)
            return body
        chunks: list[bytes] = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _refuse(self, message: str) -> None:
        code = _CODE.search(message)
        self._respond(
            500,
            message.encode(),
            **{"X-ClickHouse-Exception-Code": code[1] if code else "1"},
        )

    def _respond(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - inherited
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = socket.SOMAXCONN


def main(folder: str, port: str) -> None:
    """Serve a folder until the process is killed."""
    _Handler.folder = folder
    # It stays open, so that the engine does.
    engine = _connect(folder)
    engine.query("CREATE DATABASE IF NOT EXISTS default")
    with _Server(("127.0.0.1", int(port)), _Handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
