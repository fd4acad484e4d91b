"""The part of a client that brings its events to the server, however it does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections import Counter


class EventShipper(Protocol):
    """Brings a client's pending events to the server, itself or through an agent.

    Thread safety: any thread may call any method. `wake` is re-entrant, too.

    Attributes:
        needs_wake: Whether `wake` must be called after an event was appended.
    """

    needs_wake: bool

    def wake(self) -> None:
        """Note that an event was appended."""
        ...

    def flush(self, timeout: float, *, outage_timeout: float | None = None) -> bool:
        """Wait until all events that are pending now are settled or parked.

        Args:
            timeout: The longest wait, in seconds.
            outage_timeout: The longest wait while the server is known to be down, in
                seconds. If None, the wait is ``timeout``. Defaults to None.

        Returns:
            Whether that was done in time.
        """
        ...

    def stop(self, timeout: float) -> None:
        """Stop shipping, waiting at most ``timeout`` seconds for requests in flight."""
        ...

    def counts(self) -> Counter[str]:
        """Return how many events were delivered, dead, quarantined, and so on."""
        ...

    def oldest(self) -> list[bytes]:
        """Return payloads of pending events, the oldest among them."""
        ...

    def reset_after_fork(self) -> None:
        """Start over in a forked child."""
        ...
