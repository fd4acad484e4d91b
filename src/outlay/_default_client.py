"""The default client behind the module-level functions."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from outlay._client import Client
from outlay._fork import after_fork_in_child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Unpack

    from opentelemetry.metrics import MeterProvider

    from outlay._client_options import (
        DeadLetterHook,
        DeliveredHook,
        DropHook,
        SettingsInput,
        TrackFields,
    )
    from outlay._model.money import Amount
    from outlay._model.settings import Settings
    from outlay._model.stats import FlushResult, Stats
    from outlay._receipt import Receipt
    from outlay._shipping.transport import Transport
    from outlay._shipping.user_client import HttpClientSource

# Re-entrant: a signal handler may track a cost while the client is being made.
_lock = threading.RLock()
_client: Client | None = None  # guarded by _lock for writing
_test_client: Client | None = None  # the same; see `stand_in`


def configure(
    settings: Settings | None = None,
    *,
    transport: Callable[[], Transport] | None = None,
    http_client: HttpClientSource | None = None,
    on_drop: DropHook | None = None,
    on_dead_letter: DeadLetterHook | None = None,
    on_delivered: DeliveredHook | None = None,
    meter_provider: MeterProvider | None = None,
    **overrides: Unpack[SettingsInput],
) -> Client:
    """Make the default client, in place of an earlier one, and return it.

    Optional: without it, the first use makes one from the environment. An earlier
    default client is closed; what it had not delivered stays in its journal.

    The arguments, and what may be raised, are those of `Client`.
    """
    global _client
    if _test_client is not None:
        return _test_client
    client = Client(
        settings,
        transport=transport,
        http_client=http_client,
        on_drop=on_drop,
        on_dead_letter=on_dead_letter,
        on_delivered=on_delivered,
        meter_provider=meter_provider,
        **overrides,
    )
    with _lock:
        earlier, _client = _client, client
    if earlier is not None:
        earlier.close()
    return client


def default_client() -> Client:
    """Return the default client; made from the environment at the first call.

    Raises:
        ConfigError: a variable is malformed; the message names it.
    """
    if _client is not None:
        return _client
    with _lock:
        return configure() if _client is None else _client


@contextmanager
def replaced_for_tests(client: Client) -> Iterator[Client]:
    """Make ``client`` the default one until the block is left, whoever configures.

    Not for concurrent use: it is for tests. The earlier client stays open, and returns.
    """
    global _client, _test_client
    with _lock:
        earlier = _client, _test_client
        _client = _test_client = client
    try:
        yield client
    finally:
        with _lock:
            _client, _test_client = earlier


def track_cost(
    event_type: str, amount: Amount, **fields: Unpack[TrackFields]
) -> Receipt:
    """Track a cost with the default client. `Client.track_cost` explains the fields."""
    return default_client().track_cost(event_type, amount, **fields)


def flush(timeout: float = 5.0) -> FlushResult:
    """Flush the default client; see `Client.flush`."""
    return default_client().flush(timeout)


def close(timeout: float = 5.0) -> FlushResult:
    """Close the default client; see `Client.close`. The next use makes a new one."""
    global _client
    if _test_client is not None:
        return _test_client.flush(timeout)
    with _lock:
        client, _client = _client, None
    return (client or Client()).close(timeout)


async def aflush(timeout: float = 5.0) -> FlushResult:
    """Flush the default client without blocking the event loop."""
    return await default_client().aflush(timeout)


async def aclose(timeout: float = 5.0) -> FlushResult:
    """Close the default client without blocking the event loop."""
    return await asyncio.to_thread(close, timeout)


def stats() -> Stats:
    """Return where the default client's events are; see `Client.stats`."""
    return default_client().stats()


def _forked() -> None:
    """In a child, the lock may be held by a thread that the child does not have."""
    global _lock
    _lock = threading.RLock()


after_fork_in_child(_forked)
