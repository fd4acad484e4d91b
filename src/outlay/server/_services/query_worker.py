"""Run queries in a process of their own.

A query that computes for seconds in Python would hold up every other thread of the
server. So the server gives it to this process, which has a lower priority. Both speak
in pickles over pipes. The server starts the process, and no other process writes to it.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import subprocess
import sys
from contextlib import suppress
from selectors import EVENT_READ, DefaultSelector
from typing import IO, TYPE_CHECKING, Any, Final, TypeVar

from outlay.server._errors import QueryStoppedError, StoreUnavailableError
from outlay.server._services.query_services import QueryServices
from outlay.server._storage.query_limit import QueryLimit, limited

if TYPE_CHECKING:
    from collections.abc import Callable

    from outlay.server._storage.store import Views

T = TypeVar("T")

_NICENESS: Final = 10
_GRACE_SECONDS: Final = 1.0  # for a process to notice the end of its query
_LENGTH: Final = struct.Struct("!Q")


class QueryProcess:
    """A process that runs queries, one after the other. Not thread-safe.

    Args:
        reopen: A function that opens the store for reading. It can be pickled.
        default_currency: As `QueryServices` has it.
    """

    def __init__(self, reopen: Callable[[], Views], default_currency: str) -> None:
        self._opening = (reopen, default_currency)
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, limit: QueryLimit, function: Callable[..., T], *args: object) -> T:
        """Return the result of ``function``, called with the services and ``args``.

        Args:
            limit: The limit of the query. Its time runs.
            function: A function of a module, which can be pickled.
            args: Its arguments after the services.

        Raises:
            QueryStoppedError: The limit ended the query.
            StoreUnavailableError: The process ended.
        """
        if limit.is_over():
            raise QueryStoppedError("the query was stopped")
        process = self._running()
        limit.on_stop = process.kill
        try:
            result: T | Exception = self._call(
                process, limit, (limit.seconds_left, function, args)
            )
        except (EOFError, OSError) as error:
            self.close()
            if limit.is_over():
                raise QueryStoppedError("the query was stopped") from None
            raise StoreUnavailableError(
                f"the process of the query ended ({error}); send it again"
            ) from error
        finally:
            limit.on_stop = None
        if isinstance(result, Exception):
            raise result
        return result

    def close(self) -> None:
        """End the process."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        process.wait()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-c", f"from {__name__} import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        _write(self._process.stdin, self._opening)
        return self._process

    @staticmethod
    def _call(process: subprocess.Popen[bytes], limit: QueryLimit, call: object) -> Any:  # noqa: ANN401 - the result of any function
        assert process.stdin is not None  # noqa: S101 - they are pipes
        assert process.stdout is not None  # noqa: S101
        _write(process.stdin, call)
        with DefaultSelector() as selector:
            selector.register(process.stdout, EVENT_READ)
            if not selector.select(limit.seconds_left + _GRACE_SECONDS):
                process.kill()
        return _read(process.stdout)


def _write(pipe: IO[bytes], value: object) -> None:
    message = pickle.dumps(value)
    pipe.write(_LENGTH.pack(len(message)) + message)
    pipe.flush()


def _read(pipe: IO[bytes]) -> Any:  # noqa: ANN401 - any message
    header = pipe.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        raise EOFError("no response")
    (length,) = _LENGTH.unpack(header)
    message = pipe.read(length)
    if len(message) < length:
        raise EOFError("half a response")
    return pickle.loads(message)  # noqa: S301 - from our own process


def _serve(calls: IO[bytes], results: IO[bytes]) -> None:
    """Run queries until the server closes the pipe, or ends."""
    reopen, default_currency = _read(calls)
    services = QueryServices(reopen(), default_currency)
    while True:
        seconds, function, args = _read(calls)
        try:
            with limited(QueryLimit(seconds)):
                result = function(services, *args)
        except Exception as error:  # noqa: BLE001 - the server raises it
            result = error
        _write(results, result)


def main() -> None:
    """Serve the process that started this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server ends this process
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    calls, results = os.dup(0), os.dup(1)
    # What a library prints must not get into the pipe.
    os.dup2(2, 1)
    with (
        suppress(EOFError, BrokenPipeError),
        os.fdopen(calls, "rb") as reading,
        os.fdopen(results, "wb") as writing,
    ):
        _serve(reading, writing)
