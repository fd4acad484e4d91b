"""Turn responses into results and typed errors, and decide what may be sent again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import httpx
import msgspec
from pydantic import ValidationError

from outlay._model.clock import SystemClock
from outlay._shipping.backoff import Backoff, retry_after_seconds
from outlay.api._calls import decode
from outlay.errors import (
    AuthenticationError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    RejectedError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tenacity import RetryCallState

    from outlay._model.settings import Settings
    from outlay.api._calls import Call

T = TypeVar("T")

UNAUTHORIZED_REMEDY: Final = (
    "type: export OUTLAY_API_KEY=<key>, with the key that 'outlay serve' printed at "
    "its first start"
)

_LATER: Final = frozenset({408, 425, 429})  # and all of 5xx
_NOT_ACCEPTED: Final = frozenset({425, 429})  # the server did nothing (RFC 8470, 6585)
_REPEATABLE: Final = frozenset({"GET", "PUT", "PATCH", "DELETE"})

_KINDS: Final = {
    400: InvalidRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    413: InvalidRequestError,
    415: InvalidRequestError,
    422: InvalidRequestError,
}


def read_response(call: Call[T], response: httpx.Response, base_url: str) -> T:
    """Return the result of a call.

    Raises:
        RejectedError: The server refused the request, or is no cost service.
        UnavailableError: The server asks for a later request.
    """
    if not response.is_success:
        raise _error_for(response)
    try:
        return call.read(response.content)
    except (msgspec.DecodeError, UnicodeDecodeError, ValidationError) as error:
        raise RejectedError(
            f"{base_url} is not a cost service; check OUTLAY_BASE_URL",
            status=response.status_code,
        ) from error


def no_response(
    error: httpx.HTTPError | httpx.InvalidURL, base_url: str
) -> UnavailableError:
    """Return the error of a request without a response."""
    return UnavailableError(
        f"no response from {base_url} ({error}); start the server, or set "
        "OUTLAY_BASE_URL",
        sent=not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout),
    )


def _error_for(response: httpx.Response) -> RejectedError | UnavailableError:
    """Return the error of a response that is no success."""
    try:
        body = decode(response.content)
    except (msgspec.DecodeError, UnicodeDecodeError):  # HTML of a proxy, or nothing
        body = {}
    status = response.status_code
    message = f"HTTP {status}: {body.get('message') or response.reason_phrase}"
    if status in _LATER or response.is_server_error:
        after = retry_after_seconds(response.headers, SystemClock().now_ms())
        return UnavailableError(message, sent=True, status=status, retry_after=after)
    if status == httpx.codes.UNAUTHORIZED:
        message += f"; {UNAUTHORIZED_REMEDY}"
    error = _KINDS.get(status, RejectedError)(
        message,
        status=status,
        code=str(body.get("error") or ""),
        rule=str(body.get("code") or ""),
        fields=_fields(body),
    )
    if isinstance(error, PermissionDeniedError):
        named = body.get("requiredPermissions") or ()
        error.required_permissions = tuple(map(str, named))
    return error


def _fields(body: Mapping[str, Any]) -> dict[str, str]:
    """Return the message about each invalid field."""
    errors = body.get("errors")
    if not isinstance(errors, list):
        return {}
    return {
        str(error.get("field")): str(error.get("message"))
        for error in errors
        if isinstance(error, dict)
    }


class RetryRules:
    """Decides whether, and when, a failed call is sent again.

    A POST is sent again only if the server cannot have acted on it. Each other call may
    be repeated without harm. The server's ``Retry-After`` takes precedence over the
    backoff, unless it exceeds the setting ``retry_max``. Then the call fails.
    """

    def __init__(self, settings: Settings) -> None:
        self._longest = settings.retry_max
        self._backoff = Backoff(
            initial=settings.retry_initial, maximum=settings.retry_max
        )

    def may_repeat(self, method: str, error: BaseException) -> bool:
        """Return whether a failed call may be sent again."""
        if not isinstance(error, UnavailableError):
            return False
        if (error.retry_after or 0) > self._longest:
            return False
        not_accepted = not error.sent or error.status in _NOT_ACCEPTED
        return not_accepted or method in _REPEATABLE

    def seconds(self, state: RetryCallState) -> float:
        """Return the seconds to wait before the next attempt."""
        error = state.outcome and state.outcome.exception()
        after = error.retry_after if isinstance(error, UnavailableError) else None
        return self._backoff.delay(state.attempt_number, after)
