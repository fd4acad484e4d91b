"""A response leaves with one write, in order, and none of it is lost at a close."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from outlay.server._http.joining_transport import JoiningTransport

if TYPE_CHECKING:
    from collections.abc import Callable


class Recorded(asyncio.Transport):
    """A transport that records what it is asked to do."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[bytes | str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Record the bytes."""
        self.calls.append(bytes(data))

    def close(self) -> None:
        """Record a close."""
        self.calls.append("close")

    def abort(self) -> None:
        """Record an abort."""
        self.calls.append("abort")

    def is_closing(self) -> bool:
        """Return whether it was closed or aborted."""
        return bool({"close", "abort"} & {*self.calls})


def after_a_turn(use: Callable[[JoiningTransport], None]) -> list[bytes | str]:
    """Return the calls of the real transport after one turn of the loop."""
    real = Recorded()

    async def turn() -> None:
        use(JoiningTransport(real, asyncio.get_running_loop()))
        await asyncio.sleep(0)

    asyncio.run(turn())
    return real.calls


def test_the_writes_of_a_turn_are_one() -> None:
    """A head and a body are sent together."""

    def respond(transport: JoiningTransport) -> None:
        transport.write(b"head ")
        transport.write(b"body")

    assert after_a_turn(respond) == [b"head body"]


def test_a_close_sends_what_waits_first() -> None:
    """A refusal is written, and then the connection closed."""

    def refuse(transport: JoiningTransport) -> None:
        transport.write(b"refused")
        transport.close()
        transport.write(b"too late")

    assert after_a_turn(refuse) == [b"refused", "close"]


def test_an_abort_sends_nothing() -> None:
    """The client does not read, so that bytes would wait without end."""

    def abort(transport: JoiningTransport) -> None:
        transport.write(b"lost")
        transport.abort()

    assert after_a_turn(abort) == ["abort"]


def test_many_bytes_do_not_wait() -> None:
    """A long response does not collect in memory, whatever its handler does."""
    part = bytes(40_000)

    def stream(transport: JoiningTransport) -> None:
        for _ in range(3):
            transport.write(part)

    assert after_a_turn(stream) == [part + part, part]
