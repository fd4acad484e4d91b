"""The default client behind the module-level functions."""

from __future__ import annotations

import inspect
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from outlay._client import Client, in_thread
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
_test_client: Client | None = None  # likewise. See `replaced_for_tests`.


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
    """Create the default client, and return it. Call it once, at start-up.

    It is optional: without it, the first use creates the client from ``OUTLAY_*``
    variables. An earlier default client is closed. Its undelivered events stay in its
    journal.

    Thread safety: any thread.

    Args:
        settings: All settings. `Client` explains this and the other arguments.
        transport: A function that makes the `Transport`.
        http_client: An ``httpx.Client`` or ``httpx2.Client`` to send with.
        on_drop: A function that is called when an event is dropped.
        on_dead_letter: A function that is called when an event will not be sent again.
        on_delivered: A function that is called when the server accepted events.
        meter_provider: The provider of the OpenTelemetry instruments.
        **overrides: Single settings. They replace those of ``settings``.

    Raises:
        ConfigError: A setting or ``http_client`` is malformed. The message says what is
            allowed.
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
    """Return the default client. The first call creates it from ``OUTLAY_*`` variables.

    Thread safety: any thread. All threads get the same client.

    Raises:
        ConfigError: A variable is malformed. The message names it.
    """
    if _client is not None:
        return _client
    with _lock:
        return configure() if _client is None else _client


@contextmanager
def replaced_for_tests(client: Client) -> Iterator[Client]:
    """Make ``client`` the default one until the block ends.

    Meanwhile `configure` and `close` leave it in place. The earlier client stays open,
    and is the default one again afterwards. Not for concurrent use.
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
    """Track a cost with the default client. See `Client.track_cost`."""
    return default_client().track_cost(event_type, amount, **fields)


def _describe_track_cost() -> None:
    """Show users and tools the signature and the text of `Client.track_cost`."""
    method = inspect.signature(Client.track_cost)
    parameters = [*method.parameters.values()][1:]  # without self
    function: Any = track_cost
    function.__signature__ = method.replace(parameters=parameters)
    function.__doc__ = Client.track_cost.__doc__


_describe_track_cost()


def flush(timeout: float = 5.0) -> FlushResult:
    """Wait until every event of the default client has an outcome. See `Client.flush`.

    Args:
        timeout: The longest wait in seconds. Defaults to 5.
    """
    return default_client().flush(timeout)


def close(timeout: float = 5.0) -> FlushResult:
    """Close the default client. See `Client.close`. The next use creates a new one.

    Args:
        timeout: The longest wait in seconds. Defaults to 5.
    """
    global _client
    if _test_client is not None:
        return _test_client.flush(timeout)
    with _lock:
        client, _client = _client, None
    return (client or Client()).close(timeout)


async def aflush(timeout: float = 5.0) -> FlushResult:
    """Do the same as `flush` without blocking the event loop."""
    return await default_client().aflush(timeout)


async def aclose(timeout: float = 5.0) -> FlushResult:
    """Do the same as `close` without blocking the event loop."""
    return await in_thread(close, timeout)


def stats() -> Stats:
    """Return where the events of the default client are. See `Stats`."""
    return default_client().stats()


def _reset_after_fork() -> None:
    # In a child, the lock may be held by a thread that the child does not have.
    global _lock
    _lock = threading.RLock()


after_fork_in_child(_reset_after_fork)
