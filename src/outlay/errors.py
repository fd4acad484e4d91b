"""The errors that outlay raises.

Each is a subclass of the one above it::

    OutlayError
    ├── ConfigError            a setting is malformed, missing or contradicts another
    ├── InvalidEventError      a cost breaks a rule, and was not recorded
    ├── ClosedError            the client was used after close()
    ├── NoCurrentOperationError  current_operation() was called outside an operation
    ├── MissingExtraError      an optional dependency is not installed
    ├── JournalError           the journal folder cannot be used
    │   └── JournalFullError       there is no room for another segment
    └── DeliveryError          a request to the server failed
        ├── RejectedError          the server refused it; sending again cannot help
        │   ├── InvalidRequestError    a field or the body is invalid
        │   ├── AuthenticationError    the API key is missing or unknown
        │   ├── PermissionDeniedError  the API key may not do this
        │   ├── NotFoundError          the object does not exist
        │   └── ConflictError          an object exists that contradicts it
        └── UnavailableError       no response, or "later"; sending again may help

`track_cost` raises only InvalidEventError and ClosedError. Delivery happens on another
thread. Its failures are counted and logged, and the events stay in the journal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = (
    "AuthenticationError",
    "ClosedError",
    "ConfigError",
    "ConflictError",
    "DeliveryError",
    "InvalidEventError",
    "InvalidRequestError",
    "JournalError",
    "JournalFullError",
    "MissingExtraError",
    "NoCurrentOperationError",
    "NotFoundError",
    "OutlayError",
    "PermissionDeniedError",
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
    """A setting is malformed. The message names it, and says what is allowed."""


class InvalidEventError(OutlayError, ValueError):
    """The cost event breaks a rule, and was not recorded.

    Attributes:
        field: The argument at fault, or the place in ``data``, shortened.
        value: The given value, shortened for display.
        remedy: The instruction how to correct it.
    """

    def __init__(self, field: str, value: object, remedy: str) -> None:
        # Names in ``data`` may be as long as documents.
        self.field: str = (
            field if len(field) <= _SHOWN_CHARS else f"{field[:_SHOWN_CHARS]}…"
        )
        self.value: str = shorten(value)
        self.remedy = remedy
        super().__init__(f"{self.field}={self.value}: {remedy}")


class ClosedError(OutlayError, RuntimeError):
    """The client is closed, and refuses events. Create another one."""


class NoCurrentOperationError(OutlayError, LookupError):
    """The running code is in no operation. The message says how to begin one."""


def install_extra(extra: str) -> str:
    """Return how to install an extra. No index has outlay, so that says from where."""
    return f"in a checkout of outlay: pip install '.[{extra}]'"


class MissingExtraError(OutlayError, ImportError):
    """A feature needs packages of an extra. The message names the command."""

    def __init__(self, feature: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f"{feature} needs the extra '{extra}'; {install_extra(extra)}")


class JournalError(OutlayError, OSError):
    """The journal folder cannot be used. The message says why, and what to do."""


class JournalFullError(JournalError):
    """Another segment would exceed ``max_journal_bytes``."""


class DeliveryError(OutlayError):
    """A request to the server failed."""


class RejectedError(DeliveryError):
    """The server refused a request. Sending it again cannot help.

    Attributes:
        status: The HTTP status code.
        code: The ``error`` category of the response's body, or ''.
        rule: The broken rule, such as ``COST_NOT_FOUND``, or ''.
        fields: The message about each invalid field, by the field's name on the wire.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str = "",
        rule: str = "",
        fields: Mapping[str, str] | None = None,
    ) -> None:
        self.status = status
        self.code = code
        self.rule = rule
        self.fields: dict[str, str] = dict(fields or {})
        super().__init__(message)


class InvalidRequestError(RejectedError):
    """The server refused the request's fields or its body."""


class AuthenticationError(RejectedError):
    """The server does not know the API key, or the request had none."""


class PermissionDeniedError(RejectedError):
    """The API key lacks a permission, or belongs to another organization.

    Attributes:
        required_permissions: The permissions that the key lacks, as far as the server
            names them.
    """

    required_permissions: tuple[str, ...] = ()


class NotFoundError(RejectedError):
    """The object does not exist, or no longer exists."""


class ConflictError(RejectedError):
    """An object exists that contradicts the request."""


class UnavailableError(DeliveryError):
    """The server gave no response, or asked for a later request.

    Attributes:
        sent: Whether a byte of the request may have reached the server. If False,
            sending again cannot double anything.
        status: The HTTP status code of a response that asks for a later request. If
            None, there was no response.
        retry_after: The seconds that the server asked to wait, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        sent: bool,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.sent = sent
        self.status = status
        self.retry_after = retry_after
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
