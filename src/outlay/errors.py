"""Everything outlay can raise.

    OutlayError
    ├── ConfigError            a setting is malformed, missing or contradicts another
    ├── InvalidEventError      the caller handed us a cost that must not be recorded
    ├── ClosedError            the client was used after close()
    ├── NoCurrentOperationError  current_operation() was called outside an operation
    ├── MissingExtraError      an optional dependency is not installed
    ├── JournalError           the journal folder cannot be used
    │   └── JournalFullError       there is no room for another segment
    └── DeliveryError          a request to the server did not do its job
        ├── RejectedError          the server said no; sending it again cannot help
        └── UnavailableError       no answer, or "later"; sending again may help

Only InvalidEventError and ClosedError leave ``track_cost()``. Delivery happens on
another thread: its failures are counted, logged and kept in the journal.
"""

from __future__ import annotations

from typing import Final

__all__ = (
    "ClosedError",
    "ConfigError",
    "DeliveryError",
    "InvalidEventError",
    "JournalError",
    "JournalFullError",
    "MissingExtraError",
    "NoCurrentOperationError",
    "OutlayError",
    "RejectedError",
    "UnavailableError",
)

_SHOWN_CHARS: Final = (
    60  # of a refused value or its place; enough to find it in the code
)


class OutlayError(Exception):
    """Base of every error that outlay raises on purpose."""

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the attributes when pickled, as task queues and pools do.

        Exception's own ``__reduce__`` replays positional arguments into the
        constructor, which fails for keyword-only fields.
        """
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(
    kind: type[OutlayError], args: tuple[object, ...], fields: dict[str, object]
) -> OutlayError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(fields)
    return error


class ConfigError(OutlayError, ValueError):
    """A setting is malformed; the message names it and what is allowed."""


class InvalidEventError(OutlayError, ValueError):
    """The cost event breaks a rule, and was not recorded.

    Attributes:
        field: the argument at fault, or the place in ``data``, shortened.
        value: what was given, shortened for display.
        remedy: what to pass instead.
    """

    def __init__(self, field: str, value: object, remedy: str) -> None:
        # The names in ``data`` are the caller's, and may be as long as documents.
        self.field = field if len(field) <= _SHOWN_CHARS else f"{field[:_SHOWN_CHARS]}…"
        self.value = shorten(value)
        self.remedy = remedy
        super().__init__(f"{self.field}={self.value}: {remedy}")


class ClosedError(OutlayError, RuntimeError):
    """The client was closed and takes no more events."""


class NoCurrentOperationError(OutlayError, LookupError):
    """The running code is in no operation; the message says how to begin one."""


class MissingExtraError(OutlayError, ImportError):
    """A feature needs packages that an extra of outlay installs."""

    def __init__(self, feature: str, extra: str) -> None:
        self.extra = extra
        super().__init__(
            f"{feature} needs the extra '{extra}': pip install 'outlay[{extra}]'"
        )


class JournalError(OutlayError, OSError):
    """The journal folder cannot be used; the message says why and what to do."""


class JournalFullError(JournalError):
    """Another segment would exceed ``max_journal_bytes``."""


class DeliveryError(OutlayError):
    """A request to the server did not do its job."""


class RejectedError(DeliveryError):
    """The server answered no.

    Attributes:
        status: HTTP status code.
        code: the ``error`` category of the answer's body, or ''.
    """

    def __init__(self, message: str, *, status: int, code: str = "") -> None:
        self.status = status
        self.code = code
        super().__init__(message)


class UnavailableError(DeliveryError):
    """The server gave no answer.

    Attributes:
        sent: False only when no byte of the request can have reached the server,
            so that sending again cannot double anything.
    """

    def __init__(self, message: str, *, sent: bool) -> None:
        self.sent = sent
        super().__init__(message)


def shorten(value: object) -> str:
    """Return ``repr(value)``, cut to a length that fits a log line."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a caller's broken __repr__ must not hide our error
        text = f"<{type(value).__name__}>"
    if len(text) <= _SHOWN_CHARS:
        return text
    return f"{text[:_SHOWN_CHARS]}… ({len(text)} characters)"
