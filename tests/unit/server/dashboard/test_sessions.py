"""Cookies and one-time links: who accepts them, how often, and for how long."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from outlay.server import ServerSettings
from outlay.server._services.sessions import Sessions
from outlay.server._storage.commit_thread import CommitThread
from tests.support.memory_store import MemoryStore, Tables

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MINUTE = 60_000_000
SECRET = "s" * 32


class Clock:
    """A time that the test sets."""

    now = MINUTE

    def __call__(self) -> int:
        """Return the time, in microseconds since 1970."""
        return self.now


@asynccontextmanager
async def server(
    tables: Tables, clock: Clock, secret: str | None = None
) -> AsyncIterator[Sessions]:
    """Run what signs people in at one server of a store."""
    store = MemoryStore(tables, dedupe_window=1)
    commits = CommitThread(store, clock, max_waiting_events=1)
    commits.start()
    try:
        yield Sessions(store, commits, clock, secret)
    finally:
        await commits.stop()


def test_a_session_is_read_back_and_no_other() -> None:
    """Without a secret of the operator, only one server can have signed it."""

    async def story() -> None:
        tables, clock = Tables(), Clock()
        async with server(tables, clock) as one, server(tables, clock) as other:
            session = one.begin(b"\x01" * 32)
            cookie = one.cookie(session)
            assert one.read(cookie) == session
            assert other.read(cookie) is None
            assert not other.is_form_token(session, one.form_token(session))
            await one.end(session)
            assert one.read(cookie) is None

    asyncio.run(story())


def test_servers_with_one_secret_share_sessions_and_their_end() -> None:
    """A copy of a cookie must be worthless everywhere after the sign-out."""

    async def story() -> None:
        tables, clock = Tables(), Clock()
        async with (
            server(tables, clock, SECRET) as one,
            server(tables, clock, SECRET) as other,
        ):
            session, lasting = one.begin(b""), one.begin(b"")
            cookie = one.cookie(session)
            assert other.read(cookie) == session
            assert other.is_form_token(session, one.form_token(session))
            await one.end(session)
            assert other.read(cookie) is None
            assert other.read(one.cookie(lasting)) == lasting
        async with server(tables, clock, SECRET) as restarted:
            assert restarted.read(cookie) is None
            assert restarted.read(one.cookie(lasting)) == lasting

    asyncio.run(story())


def test_a_link_works_once_at_any_server_for_ten_minutes() -> None:
    """Of two that use it at the same time, one gets in."""

    async def story() -> None:
        tables, clock = Tables(), Clock()
        async with (
            server(tables, clock, SECRET) as one,
            server(tables, clock, SECRET) as other,
            server(tables, clock) as stranger,
        ):
            first, second = one.create_link_token(), one.create_link_token()
            clock.now += 9 * MINUTE
            assert not await stranger.use_link_token(first)
            assert not await one.use_link_token(first[:-1])
            uses = [each.use_link_token(first) for each in (one, other, one)]
            assert sorted(await asyncio.gather(*uses)) == [False, False, True]
            clock.now += MINUTE
            assert not await other.use_link_token(second)

    asyncio.run(story())


def test_a_cookie_is_no_link_and_a_link_is_no_cookie() -> None:
    """Else a session could be prolonged without end."""

    async def story() -> None:
        async with server(Tables(), Clock(), SECRET) as one:
            assert not await one.use_link_token(one.cookie(one.begin(b"")))
            assert one.read(one.create_link_token()) is None

    asyncio.run(story())


def test_a_short_secret_is_refused_and_not_shown() -> None:
    """Who has a cookie can try secrets without end."""
    with pytest.raises(ValidationError, match="32 bytes or more") as caught:
        ServerSettings(session_secret="short-and-secret")
    assert "short-and-secret" not in str(caught.value)
    assert SECRET not in repr(ServerSettings(session_secret=SECRET))
