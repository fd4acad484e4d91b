"""Call the application's hooks, and count dropped events."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, NamedTuple

from outlay._model.events import decode_event

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from outlay._client_options import DeadLetterHook, DeliveredHook, DropHook
    from outlay._model.rate_limited_log import RateLimitedLog
    from outlay._shipping.settlement import Deliveries

# Whether this thread, greenlet or task is inside an on_drop hook. Without it, a hook
# that tracks while there is no room would call itself until the stack is full.
_in_drop_hook: Final = ContextVar("outlay_in_drop_hook", default=False)


class Hooks(NamedTuple):
    """The functions of the application that a client calls. `Client` explains them."""

    on_drop: DropHook | None = None
    on_dead_letter: DeadLetterHook | None = None
    on_delivered: DeliveredHook | None = None

    @property
    def need_shipper(self) -> bool:
        """Whether a hook needs to know what the shipper did."""
        return bool(self.on_dead_letter or self.on_delivered)


class HookCaller:
    """Calls the hooks, and logs their errors.

    On a thread of the application, SystemExit, KeyboardInterrupt and the like pass.
    They may be meant for its own code. A thread of outlay's goes on.

    Thread safety: any thread. No lock is held while a hook runs.
    """

    def __init__(self, hooks: Hooks, log: RateLimitedLog) -> None:
        self._hooks = hooks
        self._log = log

    def event_dropped(self, payload: bytes, reason: str) -> None:
        """Call ``on_drop``, unless it is this hook's own event that was dropped."""
        hook = self._hooks.on_drop
        if hook is None or _in_drop_hook.get():
            return
        token = _in_drop_hook.set(True)
        try:
            with self._logging_errors("on_drop", Exception):
                hook(decode_event(payload), reason)
        finally:
            _in_drop_hook.reset(token)

    def events_shipped(self, deliveries: Deliveries) -> None:
        """Call ``on_delivered`` and ``on_dead_letter``, on a thread of outlay's."""
        delivered, dead = self._hooks.on_delivered, self._hooks.on_dead_letter
        if delivered is not None and deliveries.delivered:
            with self._logging_errors("on_delivered", BaseException):
                delivered([*map(decode_event, deliveries.delivered)])
        if dead is not None:
            for payload, reason, message in deliveries.dead:
                with self._logging_errors("on_dead_letter", BaseException):
                    dead(decode_event(payload), reason, message)

    @contextmanager
    def _logging_errors(self, hook: str, errors: type[BaseException]) -> Iterator[None]:
        """Keep ``errors`` of a hook from the code that calls it."""
        try:
            yield
        except errors as error:  # logged: no caller can handle it
            self._log.exception(hook, error, "the hook %s failed", hook)


class DroppedEvents:
    """Counts, logs and reports the events that a client drops.

    Thread safety: any thread, re-entrant.
    """

    def __init__(self, hooks: HookCaller, log: RateLimitedLog) -> None:
        self._hooks = hooks
        self._log = log
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.RLock()  # re-entrant: hooks and handlers may track
        self._counts: Counter[str] = Counter()  # guarded by _lock

    def add(self, payload: bytes, reason: str, error: Exception | str) -> None:
        """Count a dropped event, log a warning, and call ``on_drop``.

        Args:
            payload: The event.
            reason: The reason in one word, such as ``journal_full``.
            error: The reason for people.
        """
        self.add_all([payload], reason, error)

    def add_all(
        self, payloads: Sequence[bytes], reason: str, error: Exception | str
    ) -> None:
        """Do the same for several events. All are counted before the first call."""
        if not payloads:
            return
        with self._lock:
            self._counts[reason] += len(payloads)
        self._log.warn(reason, "events are dropped (%s): %s", reason, error)
        for payload in payloads:
            self._hooks.event_dropped(payload, reason)

    def counts(self) -> dict[str, int]:
        """Return the number of dropped events by reason."""
        with self._lock:
            return dict(self._counts)

    def reset_after_fork(self) -> None:
        """Start with no drops in a forked child: the parent reports its own."""
        self._reset()
